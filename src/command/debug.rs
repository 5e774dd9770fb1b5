//! DEBUG, for those whom `enable-debug-command` lets: what test suites need to look behind the
//! curtain or to bring about what is rare. For COMMAND and the statistics it is one command; where
//! it runs depends on its first argument, so it is several declarations.

use super::generic::object::encoding_of;
use super::introspect::help;
use super::{Command, Effect, Family, Gather, Keys, Outcome, Run, flag};
use crate::base::error::Error;
use crate::base::key::Key;
use crate::base::{float, number};
use crate::config::{Config, rewrite::Extent};
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};
use crate::shard::db::{Db, Ttl, idle_seconds};
use crate::shard::entry::Entry;
use crate::shard::event::Event;
use crate::value::New;
use crate::value::string::Digits;
use std::time::Duration;

const OPERATOR: u32 = flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE;

/// DEBUG alone.
pub const FAMILY: Family = Family { group: "server", commands: &[Command { arity: -2, ..DEBUG }] };

const DEBUG: Command = Command::new("DEBUG", Run::Chosen(choose))
    .usage("")
    .with(OPERATOR)
    .complexity("That of the subcommand")
    .summary("What developers and test suites need.");

/// One of the forms that [`choose`] chooses from; they count as the one command they are.
const fn form(run: Run, keys: Keys) -> Command {
    let keys = [keys, Keys::None];
    let declared = Command::new("DEBUG", run).with(OPERATOR);
    Command { arity: -2, keys, group: "server", id: super::number_of("DEBUG"), ..declared }
}

static HERE: Command = form(Run::Session(here), Keys::None);
static OBJECT: Command = form(Run::Owner(object), Keys::Range(2, 2, 1));
static DIGEST_VALUE: Command =
    form(Run::Each(digest_value, Gather::InOrder), Keys::Range(2, -1, 1));
static DIGEST: Command = form(Run::All(digest, Gather::With(digests)), Keys::None);
static HTSTATS: Command = form(Run::All(htstats, Gather::Text), Keys::None);
static POPULATE: Command =
    form(Run::All(populate, Gather::Ok), Keys::None).with(flag::WRITES | flag::DENYOOM);
static RELOAD: Command = form(Run::Server(super::persistence::reload), Keys::None);

/// Where DEBUG runs, given its arguments.
fn choose(session: &Session, config: &Config, args: &Args) -> Result<&'static Command, Error> {
    if !config.enable_debug_command().allows(super::server::is_local(&session.about.addr)) {
        return Err(Error::text(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \
             \"local\", you can run it from a local connection, otherwise you need to set this \
             option in the configuration file, and then restart the server.",
        ));
    }
    let forms: [(&str, std::ops::RangeInclusive<usize>, &'static Command); 6] = [
        ("OBJECT", 2..=3, &OBJECT),
        ("DIGEST-VALUE", 2..=usize::MAX, &DIGEST_VALUE),
        ("DIGEST", 1..=1, &DIGEST),
        ("HTSTATS", 2..=3, &HTSTATS),
        ("POPULATE", 2..=4, &POPULATE),
        ("RELOAD", 1..=usize::MAX, &RELOAD),
    ];
    let found =
        forms.into_iter().find(|(name, words, _)| args.is(0, name) && words.contains(&args.len()));
    Ok(found.map_or(&HERE, |(.., form)| form))
}

/// The forms that concern the session or the process.
fn here(session: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let name = args.at(0).to_ascii_uppercase();
    match (name.as_slice(), args.len()) {
        (b"HELP", 1) => return debug_help(reply),
        (b"SLEEP", 2) => sleep(env, args.at(1))?,
        (b"SET-ACTIVE-EXPIRE", 2) => {
            let on = number::parse_i64(args.at(1)).is_some_and(|n| n != 0);
            env.instance.set_active_expire(on);
        }
        (b"FILE", 1) => {
            reply.verbatim("txt", &env.instance.drill().report());
            return Ok(Effect::Read);
        }
        (b"FILE", 2) => {
            let bytes = number::parse_i64(args.at(1)).and_then(|bytes| u64::try_from(bytes).ok());
            let bytes = bytes
                .filter(|bytes| *bytes > 0)
                .ok_or(Error::text("ERR value is out of range, must be positive"))?;
            if !env.instance.drill().ask(bytes) {
                return Err(Error::text("ERR A drill of the disk is already in progress"));
            }
        }
        (b"CONFIG-REWRITE-FORCE-ALL", 1) => {
            super::server::rewrite_config(env, Extent::Everything)?;
        }
        (b"ERROR", 2) => {
            let text = String::from_utf8_lossy(args.at(1)).into_owned();
            return Err(Error::owned(text));
        }
        (b"LOG", 2) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args.at(1)));
        }
        (b"PROTOCOL", 2) => return protocol(args, reply),
        (b"PANIC" | b"ASSERT", 1) => panic!("client {} asked for it (DEBUG PANIC)", session.id),
        (b"SEGFAULT" | b"OOM", 1) => {
            tracing::error!("client {} asked for an abort (DEBUG)", session.id);
            env.instance.host()?.abort();
        }
        (b"LOADAOF" | b"RESTART" | b"CRASH-AND-RECOVER", _) => {
            return Err(Error::text(
                "ERR There is no append-only file: what is reloaded would be lost",
            ));
        }
        _ => {
            let name = String::from_utf8_lossy(args.at(0));
            return Err(Error::owned(format!(
                "ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP."
            )));
        }
    }
    reply.ok();
    Ok(Effect::Read)
}

/// DEBUG SLEEP holds up the whole server.
fn sleep(env: &Env, seconds: &[u8]) -> Result<(), Error> {
    /// A day: nobody means more, and a `Duration` cannot take everything that is a number.
    const MOST: f64 = 86_400.0;
    let seconds = float::parse_f64(seconds).unwrap_or(0.0);
    if seconds > 0.0 {
        env.instance.hold_up(Duration::from_secs_f64(seconds.min(MOST)))?;
    }
    Ok(())
}

/// DEBUG PROTOCOL: a reply of every type there is.
fn protocol(args: &Args, reply: &mut Reply) -> Outcome {
    let kind = args.at(1).to_ascii_lowercase();
    match kind.as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double(3141.0 / 1000.0),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|n| reply.integer(n));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|n| reply.integer(n));
        }
        b"map" => {
            reply.map(3);
            for n in 0..3 {
                reply.integer(n);
                reply.bool(n == 1);
            }
        }
        b"attrib" => {
            if reply.is_resp3() {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            // Attributes are for those who know them; the reply is for all.
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if !reply.is_resp3() {
                return Err(Error::text("ERR RESP2 is not supported by this command"));
            }
            // A push is no reply, so one has to come with it.
            reply.bulk(b"Some real reply following the push reply");
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
        }
        b"verbatim" => reply.verbatim("txt", "This is a verbatim\nstring"),
        b"true" => reply.bool(true),
        b"false" => reply.bool(false),
        _ => {
            return Err(Error::text(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(Effect::Read)
}

/// DEBUG OBJECT.
fn object(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let now_ms = db.now_ms();
    let Some(entry) = db.uncover(args.key(1)) else {
        return Err(Error::NoSuchKey);
    };
    let idle_s = idle_seconds(entry.access(), now_ms);
    let line = format!(
        "Value at:{:#x} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle_s}",
        entry.address(),
        encoding_of(&entry),
        serialized_len(&entry),
        entry.access(),
    );
    reply.simple(&line);
    Ok(Effect::Read)
}

/// Bytes of a string in an RDB file, uncompressed: its length's and its own; integers have forms of
/// 1, 2 and 4 bytes after a byte that says which.
fn serialized_len(entry: &Entry) -> usize {
    use crate::value::string::Str;
    let value = entry.string();
    match value {
        Str::Int(n) if i8::try_from(n).is_ok() => 2,
        Str::Int(n) if i16::try_from(n).is_ok() => 3,
        Str::Int(n) if i32::try_from(n).is_ok() => 5,
        _ => match value.len() {
            len @ 0..64 => 1 + len,
            len @ 64..16_384 => 2 + len,
            len => 5 + len,
        },
    }
}

/// DEBUG DIGEST-VALUE, one key.
fn digest_value(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let digest =
        db.inspect(args.key(0)).map_or(Digest::default(), |entry| Digest::of_value(&entry));
    reply.simple(&digest.to_string());
    Ok(Effect::Read)
}

/// DEBUG DIGEST, one shard's share: all databases, whatever is selected.
fn digest(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    let mut all = Digest::default();
    for number in 0..db.databases() {
        db.other(number).visit_all(|entry| {
            let mut one = Digest::of_value(entry);
            one.add(&(number as u64).to_le_bytes());
            one.add(entry.key());
            all.mix(&one);
        });
    }
    reply.simple(&all.to_string());
    Ok(Effect::Read)
}

/// The digest of all shards' keys does not depend on who owns which.
fn digests(parts: &[&[u8]], reply: &mut Reply) {
    let mut all = Digest::default();
    for part in parts {
        let text = part.strip_prefix(b"+").unwrap_or(part).trim_ascii_end();
        all.mix(&Digest::parse(text).unwrap_or_default());
    }
    reply.simple(&all.to_string());
}

/// 160 bits that are the same for the same content, in any process: no secret, no proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Digest([u32; 5]);

impl Digest {
    fn of_value(entry: &Entry) -> Digest {
        let mut digest = Digest([1, 2, 3, 4, 5]);
        digest.add(b"string");
        digest.add(entry.string().bytes(&mut Digits::new()));
        if let Some(at_ms) = entry.expiry() {
            digest.add(&at_ms.to_le_bytes());
        }
        digest
    }

    /// FNV-1a, with another beginning for each word.
    fn add(&mut self, bytes: &[u8]) {
        for (at, word) in self.0.iter_mut().enumerate() {
            let mut hash = 0xcbf2_9ce4_8422_2325 ^ u64::from(*word) ^ (at as u64) << 40;
            for byte in bytes.iter().chain(&(bytes.len() as u64).to_le_bytes()) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            *word = (hash ^ hash >> 32) as u32;
        }
    }

    /// In any order.
    fn mix(&mut self, other: &Digest) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word ^= other;
        }
    }

    fn parse(text: &[u8]) -> Option<Digest> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 40)?;
        let mut digest = Digest::default();
        for (at, word) in digest.0.iter_mut().enumerate() {
            *word = u32::from_str_radix(text.get(8 * at..8 * at + 8)?, 16).ok()?;
        }
        Some(digest)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|word| write!(out, "{word:08x}"))
    }
}

/// DEBUG HTSTATS, one shard's share. The shards' tables follow each other in the order of the shards.
fn htstats(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let number = number::parse_usize(args.at(1)).filter(|number| *number < db.databases());
    let number = number.ok_or(Error::text("ERR Out of range database"))?;
    let db = db.other(number);
    let (keys, volatile, (places, bytes)) = (db.len(), db.volatile(), db.table_size());
    let text = format!(
        "[Table of a shard]\n places: {places}\n number of entries: {keys}\n with an expiry: \
         {volatile}\n bytes without the entries: {bytes}\n",
    );
    reply.verbatim("txt", &text);
    Ok(Effect::Read)
}

/// DEBUG POPULATE, one shard's share: the keys that it owns. Keys that are there stay as they are.
fn populate(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let positive = |at: usize| -> Result<usize, Error> {
        let number = number::parse_i64(args.at(at)).ok_or(Error::NotInteger)?;
        usize::try_from(number)
            .map_err(|_| Error::text("ERR value is out of range, must be positive"))
    };
    let count = positive(1)?;
    let prefix = args.get(2).unwrap_or(b"key");
    let size = if args.len() > 3 { positive(3)? } else { 0 };
    if size > db.bulk_max() {
        return Err(Error::StringTooLong);
    }
    let mut effect = Effect::Read;
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for n in 0..count {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(n).as_bytes();
        key.clear();
        key.extend_from_slice(prefix);
        key.push(b':');
        key.extend_from_slice(digits);
        if !db.owns(&key) {
            continue;
        }
        value.clear();
        value.extend_from_slice(b"value:");
        value.extend_from_slice(digits);
        if size > 0 {
            value.resize(size, 0);
        }
        let mut opened = db.edit(Key::new(&key));
        if !opened.exists() {
            opened.put(New::string(&value), Ttl::Clear, Event::Set);
            // Told key by key: whoever follows need not have DEBUG.
            db.effect(&[b"SET", &key, &value]);
            effect = Effect::Wrote;
        }
    }
    reply.ok();
    Ok(effect)
}

fn debug_help(reply: &mut Reply) -> Outcome {
    help(
        "DEBUG",
        &[
            "CONFIG-REWRITE-FORCE-ALL",
            "    Like CONFIG REWRITE, but write every option.",
            "DIGEST",
            "    A signature of all keys of all databases.",
            "DIGEST-VALUE <key> [<key> ...]",
            "    Signatures of the values of these keys.",
            "ERROR <string>",
            "    Reply with an error of this text.",
            "FILE [<bytes>]",
            "    Write <bytes> to a file beside all clients, and read them back; then, without",
            "    <bytes>, tell how fast that was.",
            "HTSTATS <dbid>",
            "    How large the tables of a database are.",
            "LOG <message>",
            "    Write <message> to the server's log.",
            "OBJECT <key>",
            "    How the value of <key> is kept.",
            "PANIC",
            "    End the server as a panic would.",
            "POPULATE <count> [<prefix>] [<size>]",
            "    Create <count> strings named <prefix>:<n>, where there are none yet.",
            "PROTOCOL <type>",
            "    Reply with a value of <type>: string, integer, double, bignum, null, array, set,",
            "    map, attrib, push, verbatim, true, false.",
            "SEGFAULT",
            "    Abort the server.",
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Whether expired keys are looked for; if not, they go when they are accessed.",
            "SLEEP <seconds>",
            "    Hold up the client's shard for <seconds>, which may have decimals.",
        ],
        reply,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_back_and_do_not_depend_on_order() {
        let (mut one, mut two) = (Digest::default(), Digest::default());
        one.add(b"one");
        two.add(b"two");
        assert_ne!(one, two);
        assert_eq!(Digest::parse(one.to_string().as_bytes()), Some(one.clone()));
        let (mut there, mut back) = (one.clone(), two.clone());
        there.mix(&two);
        back.mix(&one);
        assert_eq!(there, back);
        assert_eq!(Digest::parse(b"x"), None);
    }
}

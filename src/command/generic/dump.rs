//! Values as bytes that another server understands: DUMP and RESTORE.

use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::command::{Effect, Outcome};
use crate::rdb::{self, RestoreError, Usage};
use crate::resp::{Args, Reply};
use crate::shard::db::{Db, Ttl};
use crate::shard::event::Event;
use crate::value::New;
use crate::value::string::Digits;

/// DUMP.
pub fn dump(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    match db.dump(args.key(0)) {
        Some(payload) => reply.owned(payload),
        None => reply.null(),
    }
    Ok(Effect::Read)
}

/// RESTORE. What is looked at first is what the peers look at first.
pub fn restore(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let options = Options::parse(&args.from(3))?;
    let (key, now_ms) = (args.key(0), db.now_ms());
    if !options.replace && db.edit(key).exists() {
        return Err(Error::text("BUSYKEY Target key name already exists."));
    }
    let ttl_ms = parse_i64(args.at(1)).ok_or(Error::NotInteger)?;
    if ttl_ms < 0 {
        return Err(Error::text("ERR Invalid TTL value, must be >= 0"));
    }
    let value = rdb::read::restore(args.at(2)).map_err(|error| match error {
        RestoreError::Footer => Error::text("ERR DUMP payload version or checksum are wrong"),
        RestoreError::Value(_) => Error::text("ERR Bad data format"),
    })?;
    reply.ok();
    let ttl = match ttl_ms {
        0 => Ttl::Clear,
        _ if options.absolute => Ttl::At(ttl_ms),
        // A time that cannot be told is for ever. (The peers' sum overflows, and the key is gone.)
        _ => Ttl::At(now_ms.saturating_add(ttl_ms)),
    };
    if let Ttl::At(at_ms) = ttl
        && db.has_passed(at_ms)
    {
        if !db.remove(key, Event::Del) {
            return Ok(Effect::Read);
        }
        db.effect(&[b"DEL", key.bytes()]);
        return Ok(Effect::Wrote);
    }
    let mut opened = db.edit(key);
    opened.put(New::from(&value), ttl, Event::Restore);
    opened.set_usage(options.usage);
    if let Ttl::At(at_ms) = ttl
        && !options.absolute
    {
        let mut at = Digits::new();
        let mut words = vec![&b"RESTORE"[..], key.bytes(), at.format(at_ms).as_bytes()];
        words.extend(args.from(2).iter().chain([&b"ABSTTL"[..]]));
        db.effect(&words);
    }
    Ok(Effect::Wrote)
}

/// What may follow RESTORE's payload.
#[derive(Debug, Default)]
struct Options {
    /// REPLACE: the key may be there.
    replace: bool,
    /// ABSTTL: the time is one on the clock.
    absolute: bool,
    /// IDLETIME or FREQ.
    usage: Usage,
}

impl Options {
    fn parse(args: &Args) -> Result<Options, Error> {
        let mut options = Options::default();
        let mut at = 0;
        while at < args.len() {
            let number = || parse_i64(args.at(at + 1)).ok_or(Error::NotInteger);
            let has_number = at + 1 < args.len();
            if args.is(at, "REPLACE") {
                options.replace = true;
            } else if args.is(at, "ABSTTL") {
                options.absolute = true;
            } else if args.is(at, "IDLETIME")
                && has_number
                && !matches!(options.usage, Usage::Freq(_))
            {
                let seconds = u64::try_from(number()?)
                    .map_err(|_| Error::text("ERR Invalid IDLETIME value, must be >= 0"))?;
                options.usage = Usage::Idle(seconds);
                at += 1;
            } else if args.is(at, "FREQ") && has_number && !matches!(options.usage, Usage::Idle(_))
            {
                let count = u8::try_from(number()?)
                    .map_err(|_| Error::text("ERR Invalid FREQ value, must be >= 0 and <= 255"))?;
                options.usage = Usage::Freq(count);
                at += 1;
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::resp::{ReplyBuf, Span};
    use crate::shard::Shard;
    use crate::shard::journal::Scope;

    const NOW_MS: i64 = 1_000_000;

    /// What RESTORE's effect is, word for word; nothing where it is the command as it came.
    fn effect(shard: &mut Shard, words: &[&[u8]]) -> String {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for word in words {
            spans.push(Span { at: bytes.len() as u32, len: word.len() as u32 });
            bytes.extend_from_slice(word);
        }
        let (mut out, args) = (ReplyBuf::default(), Args::new(&bytes, &spans));
        shard.journal().begin(Scope::Unit);
        shard.journal().begin_command();
        restore(&mut shard.db(0), &args, &mut Reply::new(&mut out, false)).expect("restored");
        let chunk = shard.journal().take().unwrap_or_default();
        let text = String::from_utf8_lossy(&chunk.bytes);
        let is_word = |line: &&str| !line.is_empty() && !line.starts_with(['*', '$']);
        text.split("\r\n").filter(is_word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn its_effect_is_told_with_the_time_it_came_to() {
        let mut shard = Shard::new(0, 1, 1);
        shard.set_now(Now { unix_ms: NOW_MS, monotonic_ns: 1 });
        shard.set_journal_on(true);
        let payload = rdb::Writer::new(false).dump(&crate::value::string::Str::Bytes(b"v"));
        let shown = String::from_utf8_lossy(&payload);
        let mut told = |ttl: &[u8], options: &[&[u8]]| {
            let words = [&[&b"k"[..], ttl, &payload], options].concat();
            effect(&mut shard, &words)
        };
        assert_eq!(told(b"5000", &[]), format!("RESTORE k 1005000 {shown} ABSTTL"));
        assert_eq!(
            told(b"7", &[b"replace", b"IDLETIME", b"9"]),
            format!("RESTORE k 1000007 {shown} replace IDLETIME 9 ABSTTL")
        );
        // As it came.
        assert_eq!(told(b"0", &[b"REPLACE"]), "");
        assert_eq!(told(b"2000000", &[b"REPLACE", b"ABSTTL"]), "");
        // A time that has passed, with a key there and without.
        assert_eq!(told(b"5", &[b"REPLACE", b"ABSTTL"]), "DEL k");
        assert_eq!(told(b"5", &[b"ABSTTL"]), "");
    }
}

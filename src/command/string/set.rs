//! Storing whole strings: SET with its options and older relatives, GETEX, which shares the
//! options, and MSET, MSETNX and MSETEX over several keys.

use super::string_of;
use crate::base::error::Error;
use crate::base::key::Key;
use crate::base::number::parse_i64;
use crate::command::{Across, Effect, Outcome, Write};
use crate::resp::{Args, Reply};
use crate::shard::db::{Db, KeyMut, Ttl};
use crate::shard::event::Event;
use crate::value::New;
use crate::value::string::Digits;

/// SET.
pub fn set(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    if args.len() > 2 {
        return set_with_options(db, args, reply);
    }
    db.edit(args.key(0)).put(New::string(args.at(1)), Ttl::Clear, Event::Set);
    reply.ok();
    Ok(Effect::Wrote)
}

/// MSET, one key.
pub fn mset_one(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    if args.len() != 2 {
        return Err(Error::text("ERR wrong number of arguments for 'mset' command"));
    }
    db.edit(args.key(0)).put(New::string(args.at(1)), Ttl::Clear, Event::Set);
    reply.ok();
    Ok(Effect::Wrote)
}

fn set_with_options(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let options = Options::parse(&args.from(2), FOR_SET)?;
    let (key, value) = (args.key(0), args.at(1));
    let now_ms = db.now_ms();
    let expiry = options.expiry.resolve(now_ms, "set")?;
    let has_passed = has_passed(db, expiry);
    let mut opened = db.edit(key);
    if options.get {
        reply_old(&mut opened, reply)?;
    }
    if !options.condition.holds(&opened)? {
        if !options.get {
            reply.null();
        }
        return Ok(Effect::Read);
    }
    if !options.get {
        reply.ok();
    }
    let effect = put(&mut opened, value, expiry, has_passed);
    if effect == Effect::Wrote {
        journal(db, key, value, expiry);
    }
    Ok(effect)
}

/// SETNX.
pub fn setnx(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let mut opened = db.edit(args.key(0));
    if opened.exists() {
        reply.integer(0);
        return Ok(Effect::Read);
    }
    opened.put(New::string(args.at(1)), Ttl::Clear, Event::Set);
    reply.integer(1);
    Ok(Effect::Wrote)
}

/// SETEX.
pub fn setex(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    set_for(db, args, Time::seconds_from_now(args.at(1)), "setex", reply)
}

/// PSETEX.
pub fn psetex(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    set_for(db, args, Time::milliseconds_from_now(args.at(1)), "psetex", reply)
}

fn set_for(
    db: &mut Db,
    args: &Args,
    time: Time,
    command: &'static str,
    reply: &mut Reply,
) -> Outcome {
    let at_ms = time.resolve(db.now_ms(), command)?;
    reply.ok();
    Ok(store(db, args.key(0), args.at(2), Ttl::At(at_ms)))
}

/// GETSET.
pub fn getset(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let mut opened = db.edit(args.key(0));
    reply_old(&mut opened, reply)?;
    opened.put(New::string(args.at(1)), Ttl::Clear, Event::Set);
    db.effect(&[b"SET", args.at(0), args.at(1)]);
    Ok(Effect::Wrote)
}

/// Replies with what is there and is about to be replaced.
fn reply_old(opened: &mut KeyMut, reply: &mut Reply) -> Result<(), Error> {
    match opened.entry() {
        Some(entry) => reply.string(string_of(&entry)?),
        None => {
            reply.null();
            opened.miss();
        }
    }
    Ok(())
}

/// GETEX.
pub fn getex(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let options = Options::parse(&args.from(1), FOR_GETEX)?;
    let (key, now_ms) = (args.key(0), db.now_ms());
    let expiry = options.expiry.resolve(now_ms, "getex")?;
    // As a GET it is a use of the key, and found or not.
    let Some(entry) = db.read(key) else {
        reply.null();
        return Ok(Effect::Read);
    };
    reply.string(string_of(&entry)?);
    let before = entry.expiry();
    match (options.expiry, expiry) {
        (Expiry::Persist, _) if before.is_some() => {
            db.edit(key).set_expiry(None);
            db.effect(&[b"PERSIST", key.bytes()]);
        }
        (Expiry::At(_), Ttl::At(at_ms)) if db.has_passed(at_ms) => {
            db.remove(key, Event::Expired);
            db.effect_of_expiry(key);
        }
        (Expiry::At(_), Ttl::At(at_ms)) => {
            db.edit(key).set_expiry(Some(at_ms));
            db.effect(&[b"PEXPIREAT", key.bytes(), Digits::new().format(at_ms).as_bytes()]);
        }
        _ => return Ok(Effect::Read),
    }
    Ok(Effect::Wrote)
}

/// Stores a value and tells the journal.
fn store(db: &mut Db, key: Key, value: &[u8], expiry: Ttl) -> Effect {
    let has_passed = has_passed(db, expiry);
    let effect = put(&mut db.edit(key), value, expiry, has_passed);
    if effect == Effect::Wrote {
        journal(db, key, value, expiry);
    }
    effect
}

/// Whether what is stored with an expiry has expired already.
fn has_passed(db: &Db, expiry: Ttl) -> bool {
    matches!(expiry, Ttl::At(at_ms) if db.has_passed(at_ms))
}

/// Stores a value. What has expired already is not stored; what was there goes.
fn put(opened: &mut KeyMut, value: &[u8], expiry: Ttl, has_passed: bool) -> Effect {
    match has_passed {
        true => match opened.remove(Event::Expired) {
            true => Effect::Wrote,
            false => Effect::Read,
        },
        false => {
            opened.put(New::string(value), expiry, Event::Set);
            Effect::Wrote
        }
    }
}

/// What [`put`] did, without the conditions and with the time it settled on.
fn journal(db: &mut Db, key: Key, value: &[u8], expiry: Ttl) {
    match expiry {
        Ttl::At(at_ms) if db.has_passed(at_ms) => db.effect_of_expiry(key),
        Ttl::At(at_ms) => {
            db.effect(&[
                b"SET",
                key.bytes(),
                value,
                b"PXAT",
                Digits::new().format(at_ms).as_bytes(),
            ]);
        }
        Ttl::Keep => db.effect(&[b"SET", key.bytes(), value, b"KEEPTTL"]),
        Ttl::Clear => db.effect(&[b"SET", key.bytes(), value]),
    }
}

/// MSETNX: all or nothing.
pub static MSETNX: Across = Across {
    together: msetnx,
    read: |db, args, key, reply| {
        check_pairs(args)?;
        let there = db.edit(args.key(2 * key)).exists();
        reply.buf().extend(&[u8::from(there)]);
        Ok(Effect::Read)
    },
    db_of: |_, _, db| Ok(db),
    finish: |args, read, writes, reply| {
        let fine = read.iter().all(|there| **there == [0]);
        if fine {
            writes.extend((0..args.len() / 2).map(|key| Write {
                key,
                handler: put_one,
                args: vec![args.at(2 * key).to_vec(), args.at(2 * key + 1).to_vec()],
            }));
        }
        reply.integer(i64::from(fine));
        Ok(())
    },
};

fn msetnx(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    check_pairs(args)?;
    if (0..args.len()).step_by(2).any(|key| db.edit(args.key(key)).exists()) {
        reply.integer(0);
        return Ok(Effect::Read);
    }
    for key in (0..args.len()).step_by(2) {
        db.edit(args.key(key)).put(New::string(args.at(key + 1)), Ttl::Clear, Event::Set);
    }
    reply.integer(1);
    Ok(Effect::Wrote)
}

fn check_pairs(args: &Args) -> Result<(), Error> {
    if args.len().is_multiple_of(2) {
        Ok(())
    } else {
        Err(Error::text("ERR wrong number of arguments for 'msetnx' command"))
    }
}

/// MSETEX: SET's conditions and expiry, for several keys at once.
pub static MSETEX: Across = Across {
    together: msetex,
    read: |db, args, key, reply| {
        let all = Several::parse(args)?;
        all.options.expiry.resolve(db.now_ms(), "msetex")?;
        // The time goes along: what is relative to it is the same for all keys.
        let there = db.edit(args.key(1 + 2 * key)).exists();
        reply.buf().extend(&[u8::from(there)]);
        reply.buf().extend(&db.now_ms().to_le_bytes());
        Ok(Effect::Read)
    },
    db_of: |_, _, db| Ok(db),
    finish: |args, read, writes, reply| {
        let all = Several::parse(args)?;
        let fine = read.iter().all(|there| all.options.condition.allows(there[0] == 1));
        reply.integer(i64::from(fine));
        if !fine {
            return Ok(());
        }
        let now_ms = read[0][1..].try_into().map_or(0, i64::from_le_bytes);
        let expiry: Vec<u8> = match all.options.expiry.resolve(now_ms, "msetex")? {
            Ttl::Keep => b"KEEPTTL".to_vec(),
            Ttl::Clear => Vec::new(),
            Ttl::At(at_ms) => Digits::new().format(at_ms).as_bytes().to_vec(),
        };
        writes.extend((0..all.count).map(|key| {
            let (name, value) = (args.at(1 + 2 * key), args.at(2 + 2 * key));
            Write {
                key,
                handler: put_one,
                args: vec![name.to_vec(), value.to_vec(), expiry.clone()],
            }
        }));
        Ok(())
    },
};

fn msetex(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let all = Several::parse(args)?;
    let expiry = all.options.expiry.resolve(db.now_ms(), "msetex")?;
    let keys = (0..all.count).map(|key| args.key(1 + 2 * key));
    if !keys.clone().all(|key| all.options.condition.allows(db.edit(key).exists())) {
        reply.integer(0);
        return Ok(Effect::Read);
    }
    let mut effect = Effect::Read;
    for (i, key) in keys.enumerate() {
        if store(db, key, args.at(2 + 2 * i), expiry) == Effect::Wrote {
            effect = Effect::Wrote;
        }
    }
    reply.integer(1);
    Ok(effect)
}

/// One key of MSETNX and MSETEX: key, value, and (absent or empty for none) KEEPTTL or a time.
fn put_one(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let expiry = match args.get(2) {
        None | Some(b"") => Ttl::Clear,
        Some(b"KEEPTTL") => Ttl::Keep,
        Some(at_ms) => Ttl::At(parse_i64(at_ms).ok_or(Error::NotInteger)?),
    };
    reply.ok();
    Ok(store(db, args.key(0), args.at(1), expiry))
}

/// MSETEX's arguments.
struct Several<'a> {
    count: usize,
    options: Options<'a>,
}

impl<'a> Several<'a> {
    fn parse(args: &Args<'a>) -> Result<Several<'a>, Error> {
        let count = parse_i64(args.at(0))
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=i32::MAX as usize).contains(n))
            .ok_or(Error::text("ERR invalid numkeys value or out of range"))?;
        if count > (args.len() - 1) / 2 {
            return Err(Error::Syntax);
        }
        let options = Options::parse(&args.from(1 + 2 * count), FOR_MSETEX)?;
        Ok(Several { count, options })
    }
}

/// Which options a command takes beside the four that name a time.
type Taken = u8;
const CONDITIONS: Taken = 1;
const IFEQ: Taken = 2;
const GET: Taken = 4;
const KEEPTTL: Taken = 8;
const PERSIST: Taken = 16;
const FOR_SET: Taken = CONDITIONS | IFEQ | GET | KEEPTTL;
const FOR_MSETEX: Taken = CONDITIONS | KEEPTTL;
const FOR_GETEX: Taken = PERSIST;

#[derive(Clone, Copy)]
struct Options<'a> {
    condition: Condition<'a>,
    get: bool,
    expiry: Expiry<'a>,
}

/// When a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition<'a> {
    Always,
    Absent,
    Present,
    Equal(&'a [u8]),
}

impl Condition<'_> {
    /// Whether it holds where all that is known is whether the key is there.
    fn allows(self, there: bool) -> bool {
        match self {
            Condition::Always => true,
            Condition::Absent => !there,
            Condition::Present | Condition::Equal(_) => there,
        }
    }

    fn holds(self, opened: &KeyMut) -> Result<bool, Error> {
        match (self, opened.entry()) {
            (Condition::Equal(bytes), Some(entry)) => {
                Ok(string_of(&entry)?.bytes(&mut Digits::new()) == bytes)
            }
            (condition, entry) => Ok(condition.allows(entry.is_some())),
        }
    }
}

/// What becomes of the expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry<'a> {
    /// Nothing was said: SET removes it, GETEX leaves it.
    Unsaid,
    Keep,
    Persist,
    At(Time<'a>),
}

impl Expiry<'_> {
    fn resolve(self, now_ms: i64, command: &'static str) -> Result<Ttl, Error> {
        match self {
            Expiry::Unsaid | Expiry::Persist => Ok(Ttl::Clear),
            Expiry::Keep => Ok(Ttl::Keep),
            Expiry::At(time) => Ok(Ttl::At(time.resolve(now_ms, command)?)),
        }
    }
}

/// A time as the client wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time<'a> {
    text: &'a [u8],
    seconds: bool,
    from_now: bool,
}

impl<'a> Time<'a> {
    fn seconds_from_now(text: &'a [u8]) -> Time<'a> {
        Time { text, seconds: true, from_now: true }
    }

    fn milliseconds_from_now(text: &'a [u8]) -> Time<'a> {
        Time { text, seconds: false, from_now: true }
    }

    /// Milliseconds since the Unix epoch. `command` names who complains.
    fn resolve(self, now_ms: i64, command: &'static str) -> Result<i64, Error> {
        let number = parse_i64(self.text).ok_or(Error::NotInteger)?;
        let base = if self.from_now { now_ms } else { 0 };
        Some(number)
            .filter(|n| *n > 0)
            .and_then(|n| if self.seconds { n.checked_mul(1000) } else { Some(n) })
            .and_then(|ms| ms.checked_add(base))
            .ok_or(Error::InvalidExpire(command))
    }
}

impl<'a> Options<'a> {
    /// Reads all options. Each may be repeated; what contradicts another, or is not taken, is a
    /// syntax error.
    fn parse(args: &Args<'a>, taken: Taken) -> Result<Options<'a>, Error> {
        let mut options =
            Options { condition: Condition::Always, get: false, expiry: Expiry::Unsaid };
        let mut at = 0;
        while at < args.len() {
            let next = args.get(at + 1);
            at += options.one(args.at(at), next, taken).ok_or(Error::Syntax)?;
        }
        Ok(options)
    }

    /// Reads one option and says how many words it took.
    fn one(&mut self, word: &[u8], next: Option<&'a [u8]>, taken: Taken) -> Option<usize> {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let may = |option: Taken| taken & option != 0;
        if is("NX") && may(CONDITIONS) {
            return self.set_condition(Condition::Absent).then_some(1);
        }
        if is("XX") && may(CONDITIONS) {
            return self.set_condition(Condition::Present).then_some(1);
        }
        if is("IFEQ") && may(IFEQ) {
            return self.set_condition(Condition::Equal(next?)).then_some(2);
        }
        if is("GET") && may(GET) {
            self.get = true;
            return Some(1);
        }
        if is("KEEPTTL") && may(KEEPTTL) {
            return self.set_expiry(Expiry::Keep).then_some(1);
        }
        if is("PERSIST") && may(PERSIST) {
            return self.set_expiry(Expiry::Persist).then_some(1);
        }
        let (seconds, from_now) = match word.to_ascii_uppercase().as_slice() {
            b"EX" => (true, true),
            b"PX" => (false, true),
            b"EXAT" => (true, false),
            b"PXAT" => (false, false),
            _ => return None,
        };
        let time = Time { text: next?, seconds, from_now };
        self.set_expiry(Expiry::At(time)).then_some(2)
    }

    /// The same condition twice is fine, except for IFEQ.
    fn set_condition(&mut self, condition: Condition<'a>) -> bool {
        let fits = match self.condition {
            Condition::Always => true,
            Condition::Equal(_) => false,
            before => before == condition,
        };
        self.condition = condition;
        fits
    }

    /// The same kind of expiry twice is fine; the last one counts.
    fn set_expiry(&mut self, expiry: Expiry<'a>) -> bool {
        let fits = match (self.expiry, expiry) {
            (Expiry::Unsaid, _) => true,
            (Expiry::At(a), Expiry::At(b)) => (a.seconds, a.from_now) == (b.seconds, b.from_now),
            (before, after) => before == after,
        };
        self.expiry = expiry;
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Span;

    fn parse(line: &str, taken: Taken) -> Result<(bool, i64), Error> {
        let bytes = line.as_bytes();
        let mut spans = Vec::new();
        let mut at = 0;
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            spans.push(Span { at: at as u32, len: word.len() as u32 });
            at += word.len() + 1;
        }
        let options = Options::parse(&Args::new(bytes, &spans), taken)?;
        let expiry = match options.expiry.resolve(1_000_000, "set")? {
            Ttl::Keep => -2,
            Ttl::Clear => -1,
            Ttl::At(at_ms) => at_ms,
        };
        Ok((options.get, expiry))
    }

    #[test]
    fn options_that_fit_together() {
        assert_eq!(parse("", FOR_SET), Ok((false, -1)));
        assert_eq!(parse("nx NX get GET eX 10 ex 20", FOR_SET), Ok((true, 1_020_000)));
        assert_eq!(parse("XX keepttl KEEPTTL", FOR_SET), Ok((false, -2)));
        assert_eq!(parse("IFEQ NX PXAT 7", FOR_SET), Ok((false, 7)));
        assert_eq!(parse("PX 5 NX", FOR_MSETEX), Ok((false, 1_000_005)));
        assert_eq!(parse("EXAT 5", FOR_GETEX), Ok((false, 5000)));
        for wrong in ["NX XX", "XX IFEQ 1", "IFEQ 1 NX", "IFEQ", "EX", "EX 1 PX 1", "KEEPTTL EX 1"]
        {
            assert_eq!(parse(wrong, FOR_SET), Err(Error::Syntax), "{wrong}");
        }
        assert_eq!(parse("PERSIST", FOR_SET), Err(Error::Syntax));
        assert_eq!(parse("GET", FOR_MSETEX), Err(Error::Syntax));
        assert_eq!(parse("KEEPTTL", FOR_GETEX), Err(Error::Syntax));
    }

    #[test]
    fn times_that_are_none() {
        for wrong in ["EX 0", "PX -1", "EX 9223372036854776", "PX 9223372036854775807", "EXAT 0"] {
            assert_eq!(parse(wrong, FOR_SET), Err(Error::InvalidExpire("set")), "{wrong}");
        }
        assert_eq!(parse("EX 1.5", FOR_SET), Err(Error::NotInteger));
        assert_eq!(parse("PXAT 9223372036854775807", FOR_SET), Ok((false, i64::MAX)));
    }
}

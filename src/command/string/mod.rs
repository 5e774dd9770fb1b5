//! Strings: bytes, whole numbers and floating-point numbers under one key each.
//!
//! The handlers here read and remove; [`set`] has those that store a whole value, [`number`] the
//! counters, [`range`] what works on a part of a string, [`lcs`] the comparison of two.

mod lcs;
mod number;
mod range;
mod set;

use super::{Command, Effect, Family, Gather, Outcome, Run, flag};
use crate::base::error::Error;
use crate::resp::{Args, Reply};
use crate::shard::db::Db;
use crate::shard::entry::Entry;
use crate::shard::event::Event;
use crate::value::Kind;
use crate::value::string::{Digits, Str};

/// The commands on strings.
pub const FAMILY: Family = Family {
    group: "string",
    commands: &[
        Command::new("APPEND", Run::Owner(range::append))
            .usage("key value")
            .writes()
            .fast()
            .keyed("RW INSERT")
            .since("2.0.0")
            .complexity("O(M) in the length of what is appended, amortized")
            .summary("Puts bytes at the end of a string, which is empty if the key is not there."),
        Command::new("DECR", Run::Owner(number::decr))
            .usage("key")
            .writes()
            .fast()
            .keyed("RW ACCESS UPDATE")
            .summary("Takes one from a number, which is 0 if the key is not there."),
        Command::new("DECRBY", Run::Owner(number::decrby))
            .usage("key decrement:integer")
            .writes()
            .fast()
            .keyed("RW ACCESS UPDATE")
            .summary("Takes an amount from a number, which is 0 if the key is not there."),
        Command::new("DELIFEQ", Run::Owner(delifeq))
            .usage("key value")
            .removes()
            .fast()
            .since("9.0.0")
            .complexity("O(N) in the length of the string")
            .summary("Deletes a key if it holds exactly this string."),
        Command::new("GET", Run::Owner(get))
            .usage("key")
            .reads()
            .fast()
            .summary("The string at a key."),
        Command::new("GETDEL", Run::Owner(getdel))
            .usage("key")
            .removes()
            .fast()
            .keyed("RW ACCESS DELETE")
            .since("6.2.0")
            .summary("The string at a key, which is deleted."),
        Command::new("GETEX", Run::Owner(set::getex))
            .usage(
                "key [EX seconds:integer | PX milliseconds:integer | \
                 EXAT unix-time-seconds:unix-time | PXAT unix-time-milliseconds:unix-time | \
                 PERSIST]",
            )
            .removes()
            .fast()
            .keyed("RW ACCESS UPDATE")
            .since("6.2.0")
            .summary("The string at a key, whose expiry is set or removed."),
        Command::new("GETRANGE", Run::Owner(range::getrange))
            .usage("key start:integer end:integer")
            .reads()
            .since("2.4.0")
            .complexity("O(N) in the length of what is returned")
            .summary("A part of the string at a key."),
        Command::new("GETSET", Run::Owner(set::getset))
            .usage("key value")
            .writes()
            .fast()
            .keyed("RW ACCESS UPDATE")
            .summary("Stores a string and returns the one that was there."),
        Command::new("INCR", Run::Owner(number::incr))
            .usage("key")
            .writes()
            .fast()
            .keyed("RW ACCESS UPDATE")
            .summary("Adds one to a number, which is 0 if the key is not there."),
        Command::new("INCRBY", Run::Owner(number::incrby))
            .usage("key increment:integer")
            .writes()
            .fast()
            .keyed("RW ACCESS UPDATE")
            .summary("Adds an amount to a number, which is 0 if the key is not there."),
        Command::new("INCRBYFLOAT", Run::Owner(number::incrbyfloat))
            .usage("key increment:double")
            .writes()
            .fast()
            .keyed("RW ACCESS UPDATE")
            .since("2.6.0")
            .summary("Adds to a floating-point number, which is 0 if the key is not there."),
        Command::new("LCS", Run::Across(&lcs::LCS))
            .usage(
                "key1:key key2:key [LEN] [IDX] [MINMATCHLEN min-match-len:integer] \
                 [WITHMATCHLEN]",
            )
            .reads()
            .since("7.0.0")
            .complexity("O(N*M) in the lengths of the two strings")
            .summary("The longest common subsequence of two strings."),
        Command::new("MGET", Run::Each(get_one, Gather::InOrder))
            .usage("key...")
            .reads()
            .fast()
            .complexity("O(N) in the number of keys")
            .summary("The strings at several keys, all of one moment."),
        Command::new("MSET", Run::Each(set::mset_one, Gather::Ok))
            .usage("(key value)...")
            .writes()
            .keyed("OW UPDATE")
            .since("1.0.1")
            .complexity("O(N) in the number of keys")
            .summary("Stores strings at several keys, all at one moment."),
        Command::new("MSETEX", Run::Across(&set::MSETEX))
            .usage(
                "numkeys:integer (key value)... [NX | XX] [EX seconds:integer | \
                 PX milliseconds:integer | EXAT unix-time-seconds:unix-time | \
                 PXAT unix-time-milliseconds:unix-time | KEEPTTL]",
            )
            .writes()
            .with(flag::MOVABLE_KEYS)
            .keyed("OW UPDATE")
            .since("9.1.0")
            .complexity("O(N) in the number of keys")
            .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
            .summary("Stores strings at several keys at one moment, with one expiry for all."),
        Command::new("MSETNX", Run::Across(&set::MSETNX))
            .usage("(key value)...")
            .writes()
            .keyed("OW INSERT")
            .since("1.0.1")
            .complexity("O(N) in the number of keys")
            .summary("Stores strings at several keys if none of the keys is there."),
        Command::new("PSETEX", Run::Owner(set::psetex))
            .usage("key milliseconds:integer value")
            .writes()
            .keyed("OW UPDATE")
            .since("2.6.0")
            .summary("Stores a string that expires after so many milliseconds."),
        Command::new("SET", Run::Owner(set::set))
            .usage(
                "key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds:integer | \
                 PX milliseconds:integer | EXAT unix-time-seconds:unix-time | \
                 PXAT unix-time-milliseconds:unix-time | KEEPTTL]",
            )
            .writes()
            .keyed("RW ACCESS UPDATE VARIABLE_FLAGS")
            .summary("Stores a string, whatever the key held before."),
        Command::new("SETEX", Run::Owner(set::setex))
            .usage("key seconds:integer value")
            .writes()
            .keyed("OW UPDATE")
            .since("2.0.0")
            .summary("Stores a string that expires after so many seconds."),
        Command::new("SETNX", Run::Owner(set::setnx))
            .usage("key value")
            .writes()
            .fast()
            .keyed("OW INSERT")
            .summary("Stores a string if the key is not there."),
        Command::new("SETRANGE", Run::Owner(range::setrange))
            .usage("key offset:integer value")
            .writes()
            .since("2.2.0")
            .complexity("O(M) in the length of what is written, amortized")
            .summary("Overwrites a part of a string, which grows with zero bytes as needed."),
        Command::new("STRLEN", Run::Owner(strlen))
            .usage("key")
            .reads()
            .fast()
            .keyed("RO")
            .since("2.2.0")
            .summary("The length of the string at a key."),
        Command::new("SUBSTR", Run::Owner(range::getrange))
            .usage("key start:integer end:integer")
            .reads()
            .complexity("O(N) in the length of what is returned")
            .summary("A part of the string at a key: the older name of GETRANGE."),
    ],
};

/// The string in an entry.
///
/// # Errors
/// When it holds a value of another type.
#[inline]
pub(super) fn string_of(entry: &Entry) -> Result<Str<'_>, Error> {
    match entry.kind() {
        Kind::Int | Kind::Inline | Kind::Edited | Kind::Heap => Ok(entry.string()),
    }
}

/// GET.
fn get(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    match db.read(args.key(0)) {
        Some(entry) => reply.string(string_of(&entry)?),
        None => reply.null(),
    }
    Ok(Effect::Read)
}

/// MGET, one key: another type of value is no error here.
fn get_one(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    match db.read(args.key(0)).as_deref().map(string_of) {
        Some(Ok(value)) => reply.string(value),
        Some(Err(_)) | None => reply.null(),
    }
    Ok(Effect::Read)
}

/// STRLEN.
fn strlen(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let len = match db.read(args.key(0)) {
        Some(entry) => string_of(&entry)?.len(),
        None => 0,
    };
    reply.integer(len as i64);
    Ok(Effect::Read)
}

/// GETDEL.
fn getdel(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let key = args.key(0);
    let mut opened = db.edit(key);
    match opened.entry() {
        Some(entry) => reply.string(string_of(&entry)?),
        None => {
            reply.null();
            opened.miss();
            return Ok(Effect::Read);
        }
    }
    opened.remove(Event::Del);
    db.effect(&[b"DEL", key.bytes()]);
    Ok(Effect::Wrote)
}

/// DELIFEQ.
fn delifeq(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let key = args.key(0);
    let mut opened = db.edit(key);
    let equal = match opened.entry() {
        Some(entry) => string_of(&entry)?.bytes(&mut Digits::new()) == args.at(1),
        None => false,
    };
    reply.integer(i64::from(equal));
    if !equal {
        return Ok(Effect::Read);
    }
    opened.remove(Event::Del);
    db.effect(&[b"DEL", key.bytes()]);
    Ok(Effect::Wrote)
}

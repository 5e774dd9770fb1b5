//! OBJECT: how a value is kept, and how its key is used.

use crate::base::error::Error;
use crate::command::{Effect, Outcome};
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};
use crate::shard::db::{Db, idle_seconds, lfu_count};
use crate::shard::entry::Entry;
use crate::value::Kind;

/// The longest string that is called `embstr`. Nothing here changes at this length, but it is what
/// tools and test suites written for Redis expect.
const EMBSTR_MAX: usize = 44;

/// OBJECT ENCODING.
pub fn encoding(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    match db.inspect(args.key(0)) {
        Some(entry) => reply.bulk(encoding_of(&entry).as_bytes()),
        None => reply.null(),
    }
    Ok(Effect::Read)
}

pub fn encoding_of(entry: &Entry) -> &'static str {
    match entry.kind() {
        Kind::Int => "int",
        Kind::Inline if entry.string().len() <= EMBSTR_MAX => "embstr",
        Kind::Inline | Kind::Edited | Kind::Heap => "raw",
    }
}

/// OBJECT FREQ.
pub fn freq(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let (now_ms, lfu) = (db.now_ms(), db.settings().lfu);
    match (db.inspect(args.key(0)), lfu) {
        (None, _) => reply.null(),
        (Some(entry), Some((_, decay_minutes))) => {
            reply.integer(i64::from(lfu_count(entry.access(), now_ms, decay_minutes)));
        }
        (Some(_), None) => {
            return Err(Error::text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
                 Please note that when switching between policies at runtime LRU and LFU data \
                 will take some time to adjust.",
            ));
        }
    }
    Ok(Effect::Read)
}

/// OBJECT IDLETIME.
pub fn idletime(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let (now_ms, lfu) = (db.now_ms(), db.settings().lfu);
    match (db.inspect(args.key(0)), lfu) {
        (None, _) => reply.null(),
        (Some(entry), None) => reply.integer(i64::from(idle_seconds(entry.access(), now_ms))),
        (Some(_), Some(_)) => {
            return Err(Error::text(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. \
                 Please note that when switching between policies at runtime LRU and LFU data \
                 will take some time to adjust.",
            ));
        }
    }
    Ok(Effect::Read)
}

/// OBJECT REFCOUNT. Values are not shared between keys (a long string's allocation may be, by copies
/// and by replies under way, but that is nobody's business).
pub fn refcount(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    match db.inspect(args.key(0)) {
        Some(_) => reply.integer(1),
        None => reply.null(),
    }
    Ok(Effect::Read)
}

/// OBJECT HELP.
pub fn help(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    let lines = [
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    The name of the form in which the value of <key> is kept.",
        "FREQ <key>",
        "    How often <key> is used, as a logarithmic count (under an LFU policy).",
        "IDLETIME <key>",
        "    How many seconds ago <key> was last used (under other policies).",
        "REFCOUNT <key>",
        "    How many share the value of <key>.",
        "HELP",
        "    Print this help.",
    ];
    reply.array(lines.len());
    for line in lines {
        reply.simple(line);
    }
    Ok(Effect::Read)
}

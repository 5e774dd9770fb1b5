//! What can be done to a key whatever its value: delete it, ask for it, give it another name or a
//! time to go ([`expire`]), list it ([`scan`]), look at how it is kept ([`object`]), take it to another
//! server ([`dump`]).

mod dump;
mod expire;
pub(super) mod object;
mod rename;
mod scan;

use super::{Command, Effect, Family, Gather, Outcome, Run, flag, tip};
use crate::resp::{Args, Reply};
use crate::shard::db::Db;
use crate::shard::event::Event;
use crate::value::Kind;

const KEYSPACE: u32 = flag::KEYSPACE;

/// The commands on keys.
pub const FAMILY: Family = Family {
    group: "generic",
    commands: &[
        Command::new("COPY", Run::Across(&rename::COPY))
            .usage("source:key destination:key [DB destination-db:integer] [REPLACE]")
            .writes()
            .with(KEYSPACE)
            .keyed("RO ACCESS | OW UPDATE")
            .since("6.2.0")
            .complexity("O(1) for strings, O(N) in the number of elements for others")
            .summary("Puts a copy of a value under another key."),
        Command::new("DEL", Run::Each(del, Gather::Sum))
            .usage("key...")
            .removes()
            .with(KEYSPACE)
            .complexity("O(N) in the number of keys and of their elements")
            .summary("Deletes keys and returns how many there were."),
        Command::new("DUMP", Run::Owner(dump::dump))
            .usage("key")
            .reads()
            .with(KEYSPACE)
            .since("2.6.0")
            .complexity("O(N) in the size of the value")
            .tips(tip::VARIES)
            .summary("A value as bytes that RESTORE takes."),
        Command::new("EXISTS", Run::Each(exists, Gather::Sum))
            .usage("key...")
            .reads()
            .fast()
            .with(KEYSPACE)
            .keyed("RO")
            .complexity("O(N) in the number of keys")
            .summary("Counts how many of the keys are there."),
        Command::new("EXPIRE", Run::Owner(expire::expire))
            .usage("key seconds:integer [NX | XX | GT | LT]")
            .removes()
            .fast()
            .with(KEYSPACE)
            .keyed("RW UPDATE")
            .summary("Lets a key expire after so many seconds."),
        Command::new("EXPIREAT", Run::Owner(expire::expireat))
            .usage("key unix-time-seconds:unix-time [NX | XX | GT | LT]")
            .removes()
            .fast()
            .with(KEYSPACE)
            .keyed("RW UPDATE")
            .since("1.2.0")
            .summary("Lets a key expire at a Unix time in seconds."),
        Command::new("EXPIRETIME", Run::Owner(expire::expiretime))
            .usage("key")
            .reads()
            .fast()
            .with(KEYSPACE)
            .since("7.0.0")
            .summary("When a key expires, as a Unix time in seconds."),
        Command::new("KEYS", Run::All(scan::keys, Gather::Concat))
            .usage("pattern:pattern")
            .reads()
            .with(KEYSPACE | flag::DANGEROUS)
            .keyed("")
            .complexity("O(N) in the number of keys in the database")
            .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
            .summary("All keys whose names match a pattern."),
        Command::new("MOVE", Run::Owner(rename::move_to))
            .usage("key db:integer")
            .removes()
            .fast()
            .with(KEYSPACE)
            .keyed("RW ACCESS UPDATE")
            .summary("Moves a key to another database."),
        Command::new("OBJECT", Run::Container)
            .usage("subcommand [argument...]")
            .since("2.2.3")
            .complexity("That of the subcommand")
            .summary("How a value is kept."),
        Command::new("OBJECT ENCODING", Run::Owner(object::encoding))
            .usage("key")
            .reads()
            .with(KEYSPACE)
            .keyed("RO")
            .since("2.2.3")
            .tips(tip::VARIES)
            .summary("The name of the form a value is kept in."),
        Command::new("OBJECT FREQ", Run::Owner(object::freq))
            .usage("key")
            .reads()
            .with(KEYSPACE)
            .keyed("RO")
            .since("4.0.0")
            .tips(tip::VARIES)
            .summary("How often a key is used, on a logarithmic scale."),
        Command::new("OBJECT HELP", Run::Session(object::help))
            .usage("")
            .with(KEYSPACE | flag::LOADING | flag::STALE)
            .since("6.2.0")
            .summary("What the subcommands do."),
        Command::new("OBJECT IDLETIME", Run::Owner(object::idletime))
            .usage("key")
            .reads()
            .with(KEYSPACE)
            .keyed("RO")
            .since("2.2.3")
            .tips(tip::VARIES)
            .summary("Seconds since a key was last used."),
        Command::new("OBJECT REFCOUNT", Run::Owner(object::refcount))
            .usage("key")
            .reads()
            .with(KEYSPACE)
            .keyed("RO")
            .since("2.2.3")
            .tips(tip::VARIES)
            .summary("How many share a value."),
        Command::new("PERSIST", Run::Owner(expire::persist))
            .usage("key")
            .removes()
            .fast()
            .with(KEYSPACE)
            .keyed("RW UPDATE")
            .since("2.2.0")
            .summary("Lets a key live on that would have expired."),
        Command::new("PEXPIRE", Run::Owner(expire::pexpire))
            .usage("key milliseconds:integer [NX | XX | GT | LT]")
            .removes()
            .fast()
            .with(KEYSPACE)
            .keyed("RW UPDATE")
            .since("2.6.0")
            .summary("Lets a key expire after so many milliseconds."),
        Command::new("PEXPIREAT", Run::Owner(expire::pexpireat))
            .usage("key unix-time-milliseconds:unix-time [NX | XX | GT | LT]")
            .removes()
            .fast()
            .with(KEYSPACE)
            .keyed("RW UPDATE")
            .since("2.6.0")
            .summary("Lets a key expire at a Unix time in milliseconds."),
        Command::new("PEXPIRETIME", Run::Owner(expire::pexpiretime))
            .usage("key")
            .reads()
            .fast()
            .with(KEYSPACE)
            .since("7.0.0")
            .summary("When a key expires, as a Unix time in milliseconds."),
        Command::new("PTTL", Run::Owner(expire::pttl))
            .usage("key")
            .reads()
            .fast()
            .with(KEYSPACE)
            .since("2.6.0")
            .tips(tip::VARIES)
            .summary("Milliseconds until a key expires."),
        Command::new("RANDOMKEY", Run::All(scan::randomkey, Gather::With(scan::pick)))
            .usage("")
            .reads()
            .with(KEYSPACE)
            .keyed("")
            .tips(&[
                "request_policy:all_shards",
                "response_policy:special",
                "nondeterministic_output",
            ])
            .summary("Any key of the database."),
        Command::new("RENAME", Run::Across(&rename::RENAME))
            .usage("key newkey:key")
            .removes()
            .with(KEYSPACE)
            .keyed("RW ACCESS DELETE | OW UPDATE")
            .summary("Gives a key another name, replacing what is there."),
        Command::new("RENAMENX", Run::Across(&rename::RENAMENX))
            .usage("key newkey:key")
            .removes()
            .fast()
            .with(KEYSPACE)
            .keyed("RW ACCESS DELETE | OW INSERT")
            .summary("Gives a key another name unless that is taken."),
        Command::new("RESTORE", Run::Owner(dump::restore))
            .usage(
                "key ttl:integer serialized-value:string [REPLACE] [ABSTTL] \
                 [IDLETIME seconds:integer] [FREQ frequency:integer]",
            )
            .writes()
            .with(KEYSPACE | flag::DANGEROUS)
            .keyed("OW UPDATE")
            .since("2.6.0")
            .complexity("O(N) in the size of the value")
            .summary("Puts a value that DUMP has given under a key."),
        Command::new("SCAN", Run::Cursor(scan::scan))
            .usage("cursor:integer [MATCH pattern:pattern] [COUNT count:integer] [TYPE type]")
            .reads()
            .with(KEYSPACE)
            .keyed("")
            .since("2.8.0")
            .complexity("O(1) for a call, O(N) for all calls until the cursor is 0 again")
            .tips(&["nondeterministic_output", "request_policy:special", "response_policy:special"])
            .summary("Some keys of the database, and where to go on."),
        Command::new("TOUCH", Run::Each(touch, Gather::Sum))
            .usage("key...")
            .reads()
            .fast()
            .with(KEYSPACE)
            .keyed("RO")
            .since("3.2.1")
            .complexity("O(N) in the number of keys")
            .summary("Makes keys count as used now; returns how many are there."),
        Command::new("TTL", Run::Owner(expire::ttl))
            .usage("key")
            .reads()
            .fast()
            .with(KEYSPACE)
            .tips(tip::VARIES)
            .summary("Seconds until a key expires."),
        Command::new("TYPE", Run::Owner(type_))
            .usage("key")
            .reads()
            .fast()
            .with(KEYSPACE)
            .keyed("RO")
            .summary("The type of the value at a key."),
        Command::new("UNLINK", Run::Each(del, Gather::Sum))
            .usage("key...")
            .removes()
            .fast()
            .with(KEYSPACE)
            .since("4.0.0")
            .complexity("O(1) per key; what large values took is given back later")
            .summary("Deletes keys without waiting for their memory."),
    ],
};

/// The type of a value, as TYPE names it.
fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Int | Kind::Inline | Kind::Edited | Kind::Heap => "string",
    }
}

/// DEL and UNLINK, one key.
fn del(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let there = db.remove(args.key(0), Event::Del);
    reply.integer(i64::from(there));
    Ok(if there { Effect::Wrote } else { Effect::Read })
}

/// EXISTS, one key.
fn exists(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let there = db.peek(args.key(0)).is_some();
    reply.integer(i64::from(there));
    Ok(Effect::Read)
}

/// TOUCH, one key: using it is what is asked for, whatever CLIENT NO-TOUCH says.
fn touch(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    db.touch_keys();
    let there = db.read(args.key(0)).is_some();
    reply.integer(i64::from(there));
    Ok(Effect::Read)
}

/// TYPE.
fn type_(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    reply.simple(db.peek(args.key(0)).map_or("none", |entry| type_name(entry.kind())));
    Ok(Effect::Read)
}

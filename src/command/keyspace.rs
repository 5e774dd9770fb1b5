//! Whole databases: counting, emptying and exchanging them.

use super::{Command, Effect, Family, Gather, Outcome, Run, flag, tip};
use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::resp::{Args, Reply};
use crate::shard::db::Db;

/// The commands on databases.
pub const SERVER_DATA: Family = Family {
    group: "server",
    commands: &[
        Command::new("DBSIZE", Run::All(dbsize, Gather::Sum))
            .usage("")
            .reads()
            .fast()
            .with(flag::KEYSPACE)
            .keyed("")
            .summary("How many keys the database has."),
        Command::new("FLUSHALL", Run::All(flushall, Gather::Ok))
            .usage("[ASYNC | SYNC]")
            .removes()
            .with(flag::KEYSPACE | flag::DANGEROUS)
            .keyed("")
            .complexity("O(1); the keys' memory is given back later")
            .summary("Empties all databases."),
        Command::new("FLUSHDB", Run::All(flushdb, Gather::Ok))
            .usage("[ASYNC | SYNC]")
            .removes()
            .with(flag::KEYSPACE | flag::DANGEROUS)
            .keyed("")
            .complexity("O(1); the keys' memory is given back later")
            .summary("Empties the database."),
        Command::new("SWAPDB", Run::All(swapdb, Gather::Ok))
            .usage("index1:integer index2:integer")
            .removes()
            .fast()
            .with(flag::KEYSPACE | flag::DANGEROUS)
            .keyed("")
            .since("4.0.0")
            .complexity("O(N) in the number of keys that clients watch")
            .tips(tip::NONE)
            .summary("Exchanges two databases for all clients."),
    ],
};

/// DBSIZE, one shard's share.
fn dbsize(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    reply.integer(db.len() as i64);
    Ok(Effect::Read)
}

/// FLUSHDB, one shard's share.
fn flushdb(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    check_mode(args)?;
    db.flush();
    reply.ok();
    Ok(Effect::Wrote)
}

/// FLUSHALL, one shard's share.
fn flushall(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    check_mode(args)?;
    db.flush_all();
    reply.ok();
    Ok(Effect::Wrote)
}

/// ASYNC and SYNC make no difference: the keys are gone at once, their memory follows in slices.
fn check_mode(args: &Args) -> Result<(), Error> {
    match args.len() {
        0 => Ok(()),
        1 if args.is(0, "ASYNC") || args.is(0, "SYNC") => Ok(()),
        _ => Err(Error::Syntax),
    }
}

/// SWAPDB, one shard's share.
fn swapdb(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let first = index(args.at(0), "ERR invalid first DB index")?;
    let second = index(args.at(1), "ERR invalid second DB index")?;
    let databases = db.databases();
    let place = |n: i32| usize::try_from(n).ok().filter(|n| *n < databases);
    let first = place(first).ok_or(Error::DbOutOfRange)?;
    let second = place(second).ok_or(Error::DbOutOfRange)?;
    reply.ok();
    Ok(if db.swap(first, second) { Effect::Wrote } else { Effect::Read })
}

fn index(text: &[u8], complaint: &'static str) -> Result<i32, Error> {
    parse_i64(text).and_then(|n| i32::try_from(n).ok()).ok_or(Error::text(complaint))
}

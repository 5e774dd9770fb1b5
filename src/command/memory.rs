//! MEMORY: what takes how much, as the allocator and the entries say.

use super::introspect::help;
use super::{Command, Effect, Family, Outcome, Run, flag, tip};
use crate::base::error::Error;
use crate::base::{memory, number};
use crate::metrics::usage::Usage;
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};
use crate::shard::db::Db;
use std::sync::atomic::Ordering;

/// MEMORY and its subcommands.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[
        Command::new("MEMORY", Run::Container)
            .usage("subcommand [argument...]")
            .since("4.0.0")
            .complexity("That of the subcommand")
            .summary("What takes how much memory."),
        Command::new("MEMORY DOCTOR", Run::Session(doctor))
            .usage("")
            .since("4.0.0")
            .tips(tip::PER_SHARD)
            .summary("A report on what is unusual, for people."),
        Command::new("MEMORY HELP", Run::Session(memory_help))
            .usage("")
            .with(flag::LOADING | flag::STALE)
            .since("4.0.0")
            .summary("What the subcommands do."),
        Command::new("MEMORY MALLOC-STATS", Run::Session(malloc_stats))
            .usage("")
            .with(flag::LOADING)
            .since("4.0.0")
            .complexity("O(N) in the number of the allocator's arenas")
            .tips(tip::PER_SHARD)
            .summary("The allocator's own report."),
        Command::new("MEMORY PURGE", Run::Session(purge))
            .usage("")
            .with(flag::LOADING)
            .since("4.0.0")
            .complexity("O(N) in the number of pages given back")
            .tips(tip::ALL_SHARDS)
            .summary("Makes the allocator give back what it keeps."),
        Command::new("MEMORY STATS", Run::Session(stats))
            .usage("")
            .since("4.0.0")
            .complexity("O(N) in the number of shards and databases")
            .tips(tip::PER_SHARD)
            .summary("What takes how much, in bytes."),
        Command::new("MEMORY USAGE", Run::Owner(usage))
            .usage("key [SAMPLES count:integer]")
            .with(flag::READS)
            .keyed("RO")
            .since("4.0.0")
            .summary("Bytes that a key and its value take."),
    ],
};

/// The table's own memory for one key: an address of 8 bytes and a tag and a code of one byte each.
/// (How full the table is decides how much a key really takes of it; that is in MEMORY STATS.)
const PLACE: usize = 10;

/// MEMORY USAGE. A string has no parts, so there is nothing to sample.
fn usage(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let mut at = 1;
    while at < args.len() {
        if !args.is(at, "SAMPLES") || at + 1 == args.len() {
            return Err(Error::Syntax);
        }
        let samples = number::parse_i64(args.at(at + 1)).ok_or(Error::NotInteger)?;
        if samples < 0 {
            return Err(Error::Syntax);
        }
        at += 2;
    }
    match db.inspect(args.key(0)) {
        Some(entry) => reply.integer((entry.footprint() + PLACE) as i64),
        None => reply.null(),
    }
    Ok(Effect::Read)
}

/// MEMORY PURGE.
fn purge(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    if !memory::purge() {
        return Err(Error::text("ERR Error purging dirty pages"));
    }
    reply.ok();
    Ok(Effect::Read)
}

/// MEMORY MALLOC-STATS.
fn malloc_stats(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    reply.verbatim("txt", &String::from_utf8_lossy(&memory::report()));
    Ok(Effect::Read)
}

/// A value of MEMORY STATS.
enum Stat {
    Bytes(u64),
    Difference(i64),
    Ratio(f64),
    Databases(Vec<(usize, [u64; 2])>),
}

/// MEMORY STATS.
fn stats(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    use Stat::{Bytes, Databases, Difference, Ratio};
    let usage = Usage::read(&env.instance.metrics, env.config);
    let allocator = usage.allocator;
    let ratio = |of: u64, to: u64| Ratio(of as f64 / to.max(1) as f64);
    let percent = |of: u64, to: u64| Ratio(100.0 * of as f64 / to.max(1) as f64);
    let minus = |of: u64, less: u64| Difference(of as i64 - less as i64);
    let (keys, dataset) = (usage.keys, usage.dataset());
    let backlog = env.instance.replication().progress.backlog_memory.load(Ordering::Relaxed);
    let stats: Vec<(&str, Stat)> = vec![
        ("peak.allocated", Bytes(usage.peak)),
        ("total.allocated", Bytes(usage.used)),
        ("startup.allocated", Bytes(usage.startup)),
        ("replication.backlog", Bytes(backlog)),
        ("replicas.repl.buffer", Bytes(0)),
        ("clients.slaves", Bytes(0)),
        ("clients.normal", Bytes(usage.clients)),
        ("cluster.links", Bytes(0)),
        ("cluster.slot_import", Bytes(0)),
        ("cluster.slot_export", Bytes(0)),
        ("aof.buffer", Bytes(0)),
        ("lua.caches", Bytes(0)),
        ("functions.caches", Bytes(0)),
        ("db", Databases(usage.databases.clone())),
        ("overhead.db.hashtable.lut", Bytes(usage.tables)),
        ("overhead.db.hashtable.rehashing", Bytes(0)),
        ("overhead.total", Bytes(usage.overhead())),
        ("db.dict.rehashing.count", Bytes(0)),
        ("keys.count", Bytes(keys)),
        (
            "keys.bytes-per-key",
            Bytes(usage.used.saturating_sub(usage.startup).checked_div(keys).unwrap_or(0)),
        ),
        ("dataset.bytes", Bytes(dataset)),
        ("dataset.percentage", percent(dataset, usage.used.saturating_sub(usage.startup))),
        ("peak.percentage", percent(usage.used, usage.peak)),
        ("allocator.allocated", Bytes(allocator.allocated)),
        ("allocator.active", Bytes(allocator.active)),
        ("allocator.resident", Bytes(allocator.resident)),
        ("allocator.muzzy", Bytes(0)),
        ("allocator-fragmentation.ratio", ratio(allocator.active, allocator.allocated)),
        ("allocator-fragmentation.bytes", minus(allocator.active, allocator.allocated)),
        ("allocator-rss.ratio", ratio(allocator.resident, allocator.active)),
        ("allocator-rss.bytes", minus(allocator.resident, allocator.active)),
        ("rss-overhead.ratio", ratio(usage.resident, allocator.resident)),
        ("rss-overhead.bytes", minus(usage.resident, allocator.resident)),
        ("fragmentation", ratio(usage.resident, usage.used)),
        ("fragmentation.bytes", minus(usage.resident, usage.used)),
    ];
    let shown = |stat: &Stat| if let Databases(all) = stat { all.len() } else { 1 };
    reply.map(stats.iter().map(|(_, stat)| shown(stat)).sum());
    for (name, stat) in stats {
        if let Databases(all) = stat {
            for (number, [main, expires]) in all {
                reply.bulk(format!("db.{number}").as_bytes());
                reply.map(2);
                reply.bulk(b"overhead.hashtable.main");
                reply.integer(main as i64);
                reply.bulk(b"overhead.hashtable.expires");
                reply.integer(expires as i64);
            }
            continue;
        }
        reply.bulk(name.as_bytes());
        match stat {
            Bytes(bytes) => reply.integer(bytes as i64),
            Difference(bytes) => reply.integer(bytes),
            Ratio(ratio) => reply.double(ratio),
            Databases(_) => {}
        }
    }
    Ok(Effect::Read)
}

/// Below so many bytes nothing can be said.
const LITTLE: u64 = 5 * 1024 * 1024;

/// MEMORY DOCTOR.
fn doctor(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    reply.verbatim("txt", &diagnosis(&Usage::read(&env.instance.metrics, env.config)));
    Ok(Effect::Read)
}

fn diagnosis(usage: &Usage) -> String {
    if usage.used < LITTLE {
        return "There is too little data for a diagnosis: less than 5 MB are in use.\n".to_owned();
    }
    let mut found: Vec<&str> = Vec::new();
    // A tenth and at least 10 MB: less is noise.
    let exceeds =
        |of: u64, to: u64| of as f64 > 1.1 * to as f64 && of.saturating_sub(to) > 10 * 1024 * 1024;
    let allocator = usage.allocator;
    if usage.peak as f64 > 1.5 * usage.used as f64 {
        found.push(
            "Peak: much more was in use once than is now. The allocator gives pages back when it \
             can; MEMORY PURGE makes it do so now.",
        );
    }
    if allocator.active > 0 && exceeds(allocator.active, allocator.allocated) {
        found.push(
            "Fragmentation: pages are in use for little in each. Values that grow and shrink do \
             that; a restart packs them anew.",
        );
    }
    if allocator.active > 0 && exceeds(allocator.resident, allocator.active) {
        found.push(
            "Kept pages: the allocator has pages in memory without anything in them. MEMORY PURGE \
             gives them back.",
        );
    }
    if allocator.resident > 0 && exceeds(usage.resident, allocator.resident) {
        found.push("Other memory: the process has much that is not the allocator's.");
    }
    if usage.clients > usage.used / 4 {
        found.push(
            "Clients: their buffers take more than a quarter of all. CLIENT LIST says whose; \
             client-output-buffer-limit and client-query-buffer-limit bound them.",
        );
    }
    if found.is_empty() {
        return "Nothing is unusual about the memory in use.\n".to_owned();
    }
    let mut out = "This is unusual about the memory in use:\n".to_owned();
    for line in found {
        out.push_str("\n * ");
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// MEMORY HELP.
fn memory_help(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    help(
        "MEMORY",
        &[
            "DOCTOR",
            "    A report on what is unusual, for people.",
            "MALLOC-STATS",
            "    The allocator's own report.",
            "PURGE",
            "    Make the allocator give back what it keeps.",
            "STATS",
            "    What takes how much, in bytes.",
            "USAGE <key> [SAMPLES <count>]",
            "    Bytes that <key> and its value take.",
        ],
        reply,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory::Allocator;

    #[test]
    fn the_doctor_names_what_is_unusual() {
        const MB: u64 = 1024 * 1024;
        let healthy = Usage {
            used: 100 * MB,
            peak: 101 * MB,
            resident: 115 * MB,
            allocator: Allocator {
                allocated: 101 * MB,
                active: 105 * MB,
                resident: 112 * MB,
                metadata: MB,
            },
            ..Usage::default()
        };
        assert!(diagnosis(&healthy).starts_with("Nothing is unusual"));
        assert!(
            diagnosis(&Usage { used: MB, ..healthy.clone() }).starts_with("There is too little")
        );
        let shrunk = diagnosis(&Usage { peak: 300 * MB, resident: 310 * MB, ..healthy.clone() });
        assert!(shrunk.contains("Peak:") && shrunk.contains("Other memory:"), "{shrunk}");
        let busy = diagnosis(&Usage { clients: 50 * MB, ..healthy });
        assert!(busy.contains("Clients:") && !busy.contains("Peak:"), "{busy}");
    }
}

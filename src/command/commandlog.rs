//! SLOWLOG and COMMANDLOG: the commands that took long or were large. What is logged, and when, is
//! in [`crate::metrics::commandlog`].

use super::introspect::help;
use super::{Command, Effect, Family, Outcome, Run, flag, tip};
use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::metrics::commandlog::Kind;
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};

const OPERATOR: u32 = flag::ADMIN | flag::LOADING | flag::STALE;
const ALWAYS: u32 = flag::LOADING | flag::STALE;
const KIND: &str = "(SLOW | LARGE-REQUEST | LARGE-REPLY)";

/// Both containers.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[
        Command::new("COMMANDLOG", Run::Container)
            .usage("subcommand [argument...]")
            .since("8.1.0")
            .complexity("That of the subcommand")
            .summary("The commands that took long, were large, or had a large reply."),
        Command::new("COMMANDLOG GET", Run::Session(commandlog_get))
            .usage("count:integer (SLOW | LARGE-REQUEST | LARGE-REPLY)")
            .with(OPERATOR)
            .since("8.1.0")
            .complexity("O(N) in the number of entries returned")
            .tips(tip::LOGGED)
            .summary("Entries of one kind, the newest first."),
        Command::new("COMMANDLOG HELP", Run::Session(commandlog_help))
            .usage("")
            .with(ALWAYS)
            .since("8.1.0")
            .summary("What the subcommands do."),
        Command::new("COMMANDLOG LEN", Run::Session(commandlog_len))
            .usage(KIND)
            .with(OPERATOR)
            .since("8.1.0")
            .tips(tip::COUNTED)
            .summary("How many entries of one kind there are."),
        Command::new("COMMANDLOG RESET", Run::Session(commandlog_reset))
            .usage(KIND)
            .with(OPERATOR)
            .since("8.1.0")
            .complexity("O(N) in the number of entries")
            .tips(tip::EVERYWHERE)
            .summary("Forgets all entries of one kind."),
        Command::new("SLOWLOG", Run::Container)
            .usage("subcommand [argument...]")
            .since("2.2.12")
            .complexity("That of the subcommand")
            .summary("The commands that took long."),
        Command::new("SLOWLOG GET", Run::Session(slowlog_get))
            .usage("[count:integer]")
            .with(OPERATOR)
            .since("2.2.12")
            .complexity("O(N) in the number of entries returned")
            .tips(tip::LOGGED)
            .summary("The commands that took long, the newest first."),
        Command::new("SLOWLOG HELP", Run::Session(slowlog_help))
            .usage("")
            .with(ALWAYS)
            .since("6.2.0")
            .summary("What the subcommands do."),
        Command::new("SLOWLOG LEN", Run::Session(slowlog_len))
            .usage("")
            .with(OPERATOR)
            .since("2.2.12")
            .tips(tip::COUNTED)
            .summary("How many entries the log has."),
        Command::new("SLOWLOG RESET", Run::Session(slowlog_reset))
            .usage("")
            .with(OPERATOR)
            .since("2.2.12")
            .complexity("O(N) in the number of entries")
            .tips(tip::EVERYWHERE)
            .summary("Forgets all entries."),
    ],
};

/// Entries that SLOWLOG GET shows unless told.
const COUNT: i64 = 10;

/// SLOWLOG GET.
fn slowlog_get(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    if args.len() > 1 {
        return Err(Error::text(
            "ERR unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG HELP.",
        ));
    }
    get(env, args.get(0), Kind::Slow, reply)
}

/// COMMANDLOG GET.
fn commandlog_get(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let kind = kind(args, 1)?;
    get(env, args.get(0), kind, reply)
}

fn get(env: &Env, count: Option<&[u8]>, kind: Kind, reply: &mut Reply) -> Outcome {
    let count = count.map_or(Some(COUNT), parse_i64).filter(|count| *count >= -1);
    let count = count.ok_or(Error::text("ERR count should be greater than or equal to -1"))?;
    let entries =
        env.instance.metrics.commandlog.newest(kind, usize::try_from(count).unwrap_or(usize::MAX));
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.unix_s);
        reply.integer(i64::try_from(entry.value).unwrap_or(i64::MAX));
        reply.array(entry.words.len());
        entry.words.iter().for_each(|word| reply.bulk(word));
        reply.bulk(entry.addr.as_bytes());
        reply.bulk(&entry.name);
    }
    Ok(Effect::Read)
}

/// SLOWLOG LEN.
fn slowlog_len(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    len(env, Kind::Slow, reply)
}

/// COMMANDLOG LEN.
fn commandlog_len(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    len(env, kind(args, 0)?, reply)
}

fn len(env: &Env, kind: Kind, reply: &mut Reply) -> Outcome {
    reply.integer(env.instance.metrics.commandlog.len(kind) as i64);
    Ok(Effect::Read)
}

/// SLOWLOG RESET.
fn slowlog_reset(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    reset(env, Kind::Slow, reply)
}

/// COMMANDLOG RESET.
fn commandlog_reset(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    reset(env, kind(args, 0)?, reply)
}

fn reset(env: &Env, kind: Kind, reply: &mut Reply) -> Outcome {
    env.instance.metrics.commandlog.reset(kind);
    reply.ok();
    Ok(Effect::Read)
}

/// The kind of entries that an argument names.
fn kind(args: &Args, at: usize) -> Result<Kind, Error> {
    let names = [
        ("SLOW", Kind::Slow),
        ("LARGE-REQUEST", Kind::LargeRequest),
        ("LARGE-REPLY", Kind::LargeReply),
    ];
    let found = names.into_iter().find(|(name, _)| args.is(at, name));
    found.map(|(_, kind)| kind).ok_or(Error::text(
        "ERR type should be one of the following: slow, large-request, large-reply",
    ))
}

/// SLOWLOG HELP.
fn slowlog_help(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    help(
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    The newest entries (10 unless told, -1 for all), each with its number, the time,",
            "    the duration in microseconds, the command, the client's address and its name.",
            "LEN",
            "    How many entries there are.",
            "RESET",
            "    Forget all entries.",
        ],
        reply,
    )
}

/// COMMANDLOG HELP.
fn commandlog_help(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    help(
        "COMMANDLOG",
        &[
            "GET <count> <type>",
            "    The newest entries of a type (-1 for all), each with its number, the time, the",
            "    duration in microseconds (slow) or the size in bytes (large-request, large-reply),",
            "    the command, the client's address and its name.",
            "LEN <type>",
            "    How many entries of a type there are.",
            "RESET <type>",
            "    Forget all entries of a type.",
        ],
        reply,
    )
}

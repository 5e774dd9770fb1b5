//! COMMAND: what the commands are, from their declarations alone.

mod docs;

use super::{
    Command, Effect, Family, Gather, Keys, Outcome, Run, all, find, find_sub, flag, subcommands,
    tip,
};
use crate::base::error::Error;
use crate::base::glob;
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};

const ALWAYS: u32 = flag::LOADING | flag::STALE | flag::CONNECTION;

const INVALID: Error = Error::text("ERR Invalid command specified");
const WRONG_COUNT: Error = Error::text("ERR Invalid number of arguments specified for command");
const WRONG_ARGUMENTS: Error = Error::text("ERR Invalid arguments specified for command");
const NO_KEYS: Error = Error::text("ERR The command has no key arguments");

/// COMMAND and its subcommands.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[
        Command { arity: -1, ..COMMAND },
        Command::new("COMMAND COUNT", Run::Session(count))
            .usage("")
            .with(ALWAYS)
            .since("2.8.13")
            .summary("How many commands there are."),
        Command::new("COMMAND DOCS", Run::Session(docs::docs))
            .usage("[command-name...]")
            .with(ALWAYS)
            .since("7.0.0")
            .complexity("O(N) in the number of commands asked for")
            .tips(tip::ORDER_VARIES)
            .summary("What commands are for, and their syntax."),
        Command::new("COMMAND GETKEYS", Run::Session(getkeys))
            .usage("command [arg...]")
            .with(ALWAYS)
            .since("2.8.13")
            .complexity("O(N) in the number of arguments")
            .summary("The keys among a command's arguments."),
        Command::new("COMMAND GETKEYSANDFLAGS", Run::Session(getkeysandflags))
            .usage("command [arg...]")
            .with(ALWAYS)
            .since("7.0.0")
            .complexity("O(N) in the number of arguments")
            .summary("The keys among a command's arguments, and what is done to each."),
        Command::new("COMMAND HELP", Run::Session(command_help))
            .usage("")
            .with(ALWAYS)
            .since("5.0.0")
            .summary("What the subcommands do."),
        Command::new("COMMAND INFO", Run::Session(info))
            .usage("[command-name...]")
            .with(ALWAYS)
            .since("2.8.13")
            .complexity("O(N) in the number of commands asked for")
            .tips(tip::ORDER_VARIES)
            .summary("Properties of commands: arity, flags, places of keys."),
        Command::new("COMMAND LIST", Run::Session(list))
            .usage("[FILTERBY (MODULE module-name | ACLCAT category | PATTERN pattern:pattern)]")
            .with(ALWAYS)
            .since("7.0.0")
            .complexity("O(N) in the number of commands")
            .tips(tip::ORDER_VARIES)
            .summary("The names of all commands."),
    ],
};

/// A container that does something without a subcommand.
const COMMAND: Command = Command::new("COMMAND", Run::Session(command))
    .usage("")
    .with(ALWAYS)
    .since("2.8.13")
    .complexity("O(N) in the number of commands")
    .tips(tip::ORDER_VARIES)
    .summary("Properties of all commands.");

/// Hints to clients that spread a command over several servers: those of its declaration, or what
/// follows from its plan.
fn tips(command: &Command) -> Vec<&'static str> {
    if let Some(tips) = command.tips {
        return tips.to_vec();
    }
    let (request, gather) = match command.run {
        Run::Each(_, gather) => ("request_policy:multi_shard", gather),
        Run::All(_, gather) => ("request_policy:all_shards", gather),
        _ => return Vec::new(),
    };
    match gather {
        Gather::Sum => vec![request, "response_policy:agg_sum"],
        Gather::Ok => vec![request, "response_policy:all_succeeded"],
        _ => vec![request],
    }
}

/// Flags in the order COMMAND INFO shows them.
const FLAGS: &[(u32, &str)] = &[
    (flag::WRITES, "write"),
    (flag::READS, "readonly"),
    (flag::DENYOOM, "denyoom"),
    (flag::ADMIN, "admin"),
    (flag::PUBSUB, "pubsub"),
    (flag::NOSCRIPT, "noscript"),
    (flag::BLOCKING, "blocking"),
    (flag::LOADING, "loading"),
    (flag::STALE, "stale"),
    (flag::SKIP_MONITOR, "skip_monitor"),
    (flag::SKIP_SLOWLOG, "skip_commandlog"),
    (flag::FAST, "fast"),
    (flag::NO_AUTH, "no_auth"),
    (flag::NO_ASYNC_LOADING, "no_async_loading"),
    (flag::NO_MULTI, "no_multi"),
    (flag::MOVABLE_KEYS, "movablekeys"),
    (flag::ALLOW_BUSY, "allow_busy"),
];

/// COMMAND, and its subcommands where the router takes it for an ordinary command.
fn command(session: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let Some(name) = args.get(0) else {
        let commands = all().iter().filter(|command| command.name_words() == 1);
        reply.array(commands.clone().count());
        commands.for_each(|command| describe(command, reply));
        return Ok(Effect::Read);
    };
    let sub =
        find(b"COMMAND").and_then(|container| find_sub(container, name)).ok_or_else(|| {
            let name = String::from_utf8_lossy(&name[..name.len().min(128)]);
            Error::owned(format!("ERR unknown subcommand '{name}'. Try COMMAND HELP."))
        })?;
    if !sub.takes(args.len() + 1) {
        let name = sub.full_name();
        return Err(Error::owned(format!("ERR wrong number of arguments for '{name}' command")));
    }
    let Run::Session(handler) = sub.run else { unreachable!("all of them concern the server") };
    session.last_command = Some(sub.id);
    handler(session, env, &args.from(1), reply)
}

/// COMMAND COUNT.
fn count(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    reply.integer(all().iter().filter(|command| command.name_words() == 1).count() as i64);
    Ok(Effect::Read)
}

/// COMMAND INFO.
fn info(session: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    if args.is_empty() {
        return command(session, env, args, reply);
    }
    reply.array(args.len());
    for name in args.iter() {
        match named(name) {
            Some(command) => describe(command, reply),
            None => reply.null(),
        }
    }
    Ok(Effect::Read)
}

/// COMMAND LIST.
fn list(_: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let wanted: Box<dyn Fn(&Command) -> bool> = match args.len() {
        0 => Box::new(|_| true),
        3 if args.is(0, "FILTERBY") => {
            let value = args.at(2);
            if args.is(1, "MODULE") {
                Box::new(|_| false)
            } else if args.is(1, "ACLCAT") {
                Box::new(|command| {
                    let mut names = categories(command).into_iter();
                    names.any(|name| value.eq_ignore_ascii_case(&name.as_bytes()[1..]))
                })
            } else if args.is(1, "PATTERN") {
                Box::new(|command| glob::matches(value, command.full_name().as_bytes(), true))
            } else {
                return Err(Error::Syntax);
            }
        }
        _ => return Err(Error::Syntax),
    };
    let names: Vec<String> =
        all().iter().filter(|command| wanted(command)).map(Command::full_name).collect();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(Effect::Read)
}

/// COMMAND GETKEYS.
fn getkeys(_: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let (command, args) = call(args)?;
    let places = places(command, &args)?;
    reply.array(places.len());
    places.iter().for_each(|at| reply.bulk(args.at(*at)));
    Ok(Effect::Read)
}

/// COMMAND GETKEYSANDFLAGS.
fn getkeysandflags(_: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let (command, args) = call(args)?;
    let places = places(command, &args)?;
    let specs: Vec<&str> = command.key_flags.split(" | ").collect();
    reply.array(places.len());
    for (number, at) in places.iter().enumerate() {
        let mut flags = specs[number.min(specs.len() - 1)];
        // SET alone does to its key what its options say.
        if flags.contains("VARIABLE_FLAGS") {
            let gets = (2..args.len()).any(|at| args.is(at, "GET"));
            let reads = gets || (2..args.len()).any(|at| args.is(at, "IFEQ"));
            flags = if reads { "RW ACCESS UPDATE" } else { "OW UPDATE" };
        }
        reply.array(2);
        reply.bulk(args.at(*at));
        write_key_flags(flags, reply);
    }
    Ok(Effect::Read)
}

/// The command that the arguments are a call of, and the call's own arguments.
fn call<'a>(args: &Args<'a>) -> Result<(&'static Command, Args<'a>), Error> {
    let mut command = find(args.at(0)).ok_or(INVALID)?;
    if let Some(sub) = args.get(1)
        && subcommands(command).next().is_some()
    {
        command = find_sub(command, sub).ok_or(INVALID)?;
    }
    // Shard channels are found like keys, and are none.
    if command.keys == [Keys::None; 2] || command.key_flags == "NOT_KEY" {
        return Err(NO_KEYS);
    }
    if !command.takes(args.len()) {
        return Err(WRONG_COUNT);
    }
    Ok((command, args.from(command.name_words())))
}

fn places(command: &Command, args: &Args) -> Result<super::KeyPlaces, Error> {
    let places = command.key_places(args).map_err(|_| WRONG_ARGUMENTS)?;
    if places.is_empty() { Err(WRONG_ARGUMENTS) } else { Ok(places) }
}

/// A command or, as `container|sub`, a subcommand.
fn named(name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|byte| *byte == b'|') {
        None => find(name),
        Some(at) => find_sub(find(&name[..at])?, &name[at + 1..]),
    }
}

/// What COMMAND INFO says about one command.
fn describe(command: &Command, reply: &mut Reply) {
    let (first, last, step) = match command.keys[0] {
        Keys::Range(first, last, step) => (first, last, step),
        _ => (0, 0, 0),
    };
    reply.array(10);
    reply.bulk(command.full_name().as_bytes());
    reply.integer(command.arity.into());
    let flags: Vec<&str> =
        FLAGS.iter().filter(|(flag, _)| command.is(*flag)).map(|(_, name)| *name).collect();
    simple_set(&flags, reply);
    for place in [first, last, step] {
        reply.integer(place.into());
    }
    simple_set(&categories(command), reply);
    let tips = tips(command);
    reply.set(tips.len());
    tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    let specs = key_specs(command);
    reply.set(specs.len());
    specs.iter().for_each(|(keys, flags)| describe_keys(*keys, flags, reply));
    reply.array(subcommands(command).count());
    subcommands(command).for_each(|sub| describe(sub, reply));
}

/// Where keys are and what is done to them. Neighbours that are treated differently are two, though
/// the syntax line makes one range of them.
fn key_specs(command: &Command) -> Vec<(Keys, &'static str)> {
    let flags: Vec<&str> = command.key_flags.split(" | ").collect();
    let mut places = Vec::new();
    for keys in command.keys {
        match keys {
            Keys::Range(first, last, 1) if flags.len() > 1 && last > first => {
                places.extend((first..=last).map(|at| Keys::Range(at, at, 1)));
            }
            Keys::None => {}
            keys => places.push(keys),
        }
    }
    let flags_of = |at: usize| flags[at.min(flags.len() - 1)];
    places.into_iter().enumerate().map(|(at, keys)| (keys, flags_of(at))).collect()
}

fn describe_keys(keys: Keys, flags: &str, reply: &mut Reply) {
    let varies = flags.contains("VARIABLE_FLAGS");
    reply.map(3 + usize::from(varies));
    if varies {
        reply.bulk(b"notes");
        reply.bulk(b"RW and ACCESS due to the optional `GET` argument");
    }
    reply.bulk(b"flags");
    write_key_flags(flags, reply);
    let numbers = |kind: &str, numbers: &[(&str, i64)], reply: &mut Reply| {
        reply.map(2);
        reply.bulk(b"type");
        reply.bulk(kind.as_bytes());
        reply.bulk(b"spec");
        reply.map(numbers.len());
        for (name, number) in numbers {
            reply.bulk(name.as_bytes());
            reply.integer(*number);
        }
    };
    reply.bulk(b"begin_search");
    let begin = match keys {
        Keys::Range(first, ..) => first,
        Keys::Counted(at, _) => at,
        Keys::None | Keys::Irregular => 0,
    };
    numbers("index", &[("index", begin.into())], reply);
    reply.bulk(b"find_keys");
    match keys {
        Keys::Range(first, last, step) => {
            let last = if last < 0 { last } else { last - first };
            let range = [("lastkey", last.into()), ("keystep", step.into()), ("limit", 0)];
            numbers("range", &range, reply);
        }
        Keys::Counted(_, width) => {
            let counted = [("keynumidx", 0), ("firstkey", 1), ("keystep", width.into())];
            numbers("keynum", &counted, reply);
        }
        Keys::None | Keys::Irregular => numbers("unknown", &[], reply),
    }
}

/// What is done to a key: the kind of access in capitals, the rest not, as Redis spells them.
fn write_key_flags(flags: &str, reply: &mut Reply) {
    let names: Vec<String> = flags
        .split_whitespace()
        .map(|name| if name.len() == 2 { name.to_owned() } else { name.to_ascii_lowercase() })
        .collect();
    simple_set(&names, reply);
}

fn simple_set(names: &[impl AsRef<str>], reply: &mut Reply) {
    reply.set(names.len());
    names.iter().for_each(|name| reply.simple(name.as_ref()));
}

/// The ACL categories, with their `@`, in the order Redis shows them.
pub fn categories(command: &Command) -> Vec<&'static str> {
    let of_group = match (command.group, command.run) {
        (_, Run::Container) => "",
        ("string", _) => "@string",
        ("list", _) => "@list",
        ("set", _) => "@set",
        ("sorted-set", _) => "@sortedset",
        ("hash", _) => "@hash",
        ("bitmap", _) => "@bitmap",
        ("hyperloglog", _) => "@hyperloglog",
        ("geo", _) => "@geo",
        ("stream", _) => "@stream",
        ("pubsub", _) => "@pubsub",
        ("transactions", _) => "@transaction",
        ("scripting", _) => "@scripting",
        _ => "",
    };
    let of_data = of_group != "@transaction" && of_group != "@scripting";
    let all = [
        (command.is(flag::KEYSPACE), "@keyspace"),
        (command.is(flag::READS), "@read"),
        (command.is(flag::WRITES), "@write"),
        (of_data && !of_group.is_empty(), of_group),
        (command.is(flag::ADMIN), "@admin"),
        (command.is(flag::FAST), "@fast"),
        (!command.is(flag::FAST), "@slow"),
        (command.is(flag::BLOCKING), "@blocking"),
        (command.is(flag::DANGEROUS) || command.is(flag::ADMIN), "@dangerous"),
        (command.is(flag::CONNECTION), "@connection"),
        (!of_data, of_group),
    ];
    all.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect()
}

/// Writes the reply of a container's HELP: a heading, the lines, and what HELP itself does.
pub(super) fn help(container: &str, lines: &[&str], reply: &mut Reply) -> Outcome {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Print this help.");
    Ok(Effect::Read)
}

/// COMMAND HELP.
fn command_help(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    help(
        "COMMAND",
        &[
            "(no subcommand)",
            "    Properties of all commands.",
            "COUNT",
            "    How many commands there are.",
            "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
            "    The names of all commands, or of some.",
            "INFO [<command> ...]",
            "    Properties of these commands, or of all.",
            "DOCS [<command> ...]",
            "    What these commands are for and their syntax, or those of all.",
            "GETKEYS <command> [<arg> ...]",
            "    The keys among a command's arguments.",
            "GETKEYSANDFLAGS <command> [<arg> ...]",
            "    The keys among a command's arguments, and what is done to each.",
        ],
        reply,
    )
}

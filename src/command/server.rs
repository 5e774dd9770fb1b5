//! The server: its clock and its configuration. INFO is in [`super::info`], COMMAND in
//! [`super::introspect`], its end in [`super::persistence`].

use super::introspect::help;
use super::{Command, Effect, Family, Outcome, Run, flag, tip};
use crate::base::error::Error;
use crate::config::rewrite::{self, Extent};
use crate::config::value::io_reason;
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};
use std::path::Path;

const OPERATOR: u32 = flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE;

/// Commands on the server.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[
        Command::new("CONFIG", Run::Container)
            .usage("subcommand [argument...]")
            .since("2.0.0")
            .complexity("That of the subcommand")
            .summary("What the server is configured to do."),
        Command::new("CONFIG GET", Run::Session(config_get))
            .usage("parameter...")
            .with(OPERATOR)
            .since("2.0.0")
            .complexity("O(N) in the number of options there are")
            .summary("Options whose names match a pattern, with their values."),
        Command::new("CONFIG HELP", Run::Session(config_help))
            .usage("")
            .with(flag::LOADING | flag::STALE)
            .since("5.0.0")
            .summary("What the subcommands do."),
        Command::new("CONFIG RESETSTAT", Run::Session(config_resetstat))
            .usage("")
            .with(OPERATOR)
            .since("2.0.0")
            .tips(tip::EVERYWHERE)
            .summary("Lets the statistics of INFO begin anew."),
        Command::new("CONFIG REWRITE", Run::Session(config_rewrite))
            .usage("")
            .with(OPERATOR)
            .since("2.8.0")
            .tips(tip::EVERYWHERE)
            .summary("Writes the configuration in force into the file it came from."),
        Command::new("CONFIG SET", Run::Session(config_set))
            .usage("(parameter value)...")
            .secret(secret_values)
            .with(OPERATOR)
            .since("2.0.0")
            .complexity("O(N) in the number of options given")
            .tips(tip::EVERYWHERE)
            .summary("Changes options: all of them, or none."),
        Command::new("TIME", Run::Session(time))
            .usage("")
            .with(flag::LOADING | flag::STALE)
            .fast()
            .since("2.6.0")
            .tips(tip::VARIES)
            .summary("The server's clock: seconds since 1970, and microseconds."),
    ],
};

/// TIME. Clients that ask for microseconds want those of now, not those of the turn's beginning.
fn time(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    let now_us = env.unix_us();
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(now_us / 1_000_000).as_bytes());
    reply.bulk(itoa::Buffer::new().format(now_us % 1_000_000).as_bytes());
    Ok(Effect::Read)
}

/// CONFIG GET.
fn config_get(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    // Not `env.config`, which is that of the turn's beginning: a pipelined CONFIG SET before counts.
    let found = env.instance.config().get(&args.iter().collect::<Vec<_>>());
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(&name);
        reply.bulk(&value);
    }
    Ok(Effect::Read)
}

/// CONFIG SET.
fn config_set(session: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    let pairs: Vec<(&[u8], &[u8])> =
        (0..args.len()).step_by(2).map(|at| (args.at(at), args.at(at + 1))).collect();
    let is_loading = env.instance.persistence().is_loading();
    if is_loading && pairs.iter().any(|(name, _)| crate::config::is_fixed_while_loading(name)) {
        return Err(Error::Loading);
    }
    env.instance.reconfigure(|config| {
        let changed = config.set(&pairs, is_local(&session.about.addr));
        (*config, _) = changed.map_err(|error| Error::owned(error.to_string()))?;
        Ok(())
    })?;
    reply.ok();
    Ok(Effect::Read)
}

/// The values of secret options among CONFIG SET's arguments.
fn secret_values(args: &Args) -> Vec<usize> {
    let names = (0..args.len()).step_by(2);
    names.filter(|at| crate::config::is_secret(args.at(*at))).map(|at| at + 1).collect()
}

/// Whether a client of this address is on this machine.
pub(super) fn is_local(addr: &str) -> bool {
    match addr.parse::<std::net::SocketAddr>() {
        Ok(addr) => addr.ip().to_canonical().is_loopback(),
        // The path of a Unix socket.
        Err(_) => addr.starts_with('/'),
    }
}

/// CONFIG RESETSTAT.
fn config_resetstat(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    env.instance.metrics.reset();
    env.instance.tell_replication(|state| state.syncs = Default::default());
    reply.ok();
    Ok(Effect::Read)
}

/// CONFIG REWRITE.
fn config_rewrite(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    rewrite_config(env, Extent::Needed)?;
    reply.ok();
    Ok(Effect::Read)
}

/// Writes the configuration in force into the file it came from.
///
/// # Errors
/// When there is none, or it can't be written.
pub fn rewrite_config(env: &Env, extent: Extent) -> Result<(), Error> {
    let config = env.instance.config();
    let Some(path) = config.file() else {
        return Err(Error::text("ERR The server is running without a config file"));
    };
    let change = |old: &[u8], path: &Path| rewrite::rewritten(old, path, &config, extent);
    env.instance.host()?.rewrite(path, &change).map_err(|error| {
        let reason = io_reason(&error);
        Error::owned(format!("ERR Rewriting config file: {reason}"))
    })
}

/// CONFIG HELP.
fn config_help(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    help(
        "CONFIG",
        &[
            "GET <pattern>",
            "    Return parameters matching the glob-like <pattern> and their values.",
            "SET <directive> <value>",
            "    Set the configuration <directive> to <value>.",
            "RESETSTAT",
            "    Reset statistics reported by the INFO command.",
            "REWRITE",
            "    Rewrite the configuration file.",
        ],
        reply,
    )
}

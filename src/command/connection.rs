//! The connection itself: greeting, authentication, the chosen database. CLIENT is in
//! [`super::client`].

use super::{Command, Control, Effect, Family, Outcome, Run, flag, tip};
use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::resp::{Args, Reply};
use crate::session::{Close, Env, Session};

/// What clients take for the server's name and version when they decide what it can do: the last
/// Redis whose commands and replies are the measure here.
const COMPATIBLE: (&str, &str) = ("redis", super::info::COMPATIBLE_VERSION);

const WRONG_PASSWORD: Error =
    Error::text("WRONGPASS invalid username-password pair or user is disabled.");

/// Allowed whatever state the server is in.
const ALWAYS: u32 =
    flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::ALLOW_BUSY | flag::CONNECTION;

/// Commands on the connection, but for CLIENT.
pub const FAMILY: Family = Family {
    group: "connection",
    commands: &[
        Command::new("AUTH", Run::Session(auth))
            .usage("[username] password")
            .secret(|args| (0..args.len()).collect())
            .with(ALWAYS | flag::NO_AUTH)
            .fast()
            .complexity("O(N) in the number of passwords of the user")
            .summary("Proves who the client is."),
        Command::new("ECHO", Run::Session(echo))
            .usage("message")
            .with(flag::LOADING | flag::STALE | flag::CONNECTION)
            .fast()
            .summary("Returns the message."),
        Command::new("HELLO", Run::Session(hello))
            .usage("[protover:integer [AUTH (username password)] [SETNAME clientname]]")
            .secret(login)
            .with(ALWAYS | flag::NO_AUTH)
            .fast()
            .since("6.0.0")
            .summary("Chooses the protocol version, and introduces client and server."),
        Command::new("PING", Run::Session(ping))
            .usage("[message]")
            .with(flag::CONNECTION | flag::SUBSCRIBED)
            .fast()
            .tips(tip::ALL_SHARDS)
            .summary("Returns the message, or PONG: the server answers."),
        // It takes any number of arguments, and says of none what it would be for.
        Command { arity: -1, ..QUIT },
        Command::new("RESET", Run::Control(Control::Reset))
            .usage("")
            .with(ALWAYS | flag::NO_AUTH | flag::SUBSCRIBED)
            .fast()
            .since("6.2.0")
            .summary("Makes the connection as good as new."),
        Command::new("SELECT", Run::Session(select))
            .usage("index:integer")
            .with(flag::LOADING | flag::STALE | flag::ALLOW_BUSY | flag::CONNECTION)
            .fast()
            .summary("Chooses the database."),
    ],
};

const QUIT: Command = Command::new("QUIT", Run::Session(quit))
    .usage("")
    .with(ALWAYS | flag::NO_AUTH | flag::SUBSCRIBED)
    .fast()
    .summary("Closes the connection once everything has been answered.");

/// PING.
fn ping(session: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    match args.len() {
        // Among messages it is told apart by looking like one.
        0 | 1 if session.is_confined() => {
            reply.array(2);
            reply.bulk(b"pong");
            reply.bulk(args.get(0).unwrap_or_default());
        }
        0 => reply.simple("PONG"),
        1 => reply.bulk(args.at(0)),
        _ => {
            return Err(Error::text("ERR wrong number of arguments for 'ping' command"));
        }
    }
    Ok(Effect::Read)
}

/// ECHO.
fn echo(_: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    reply.bulk(args.at(0));
    Ok(Effect::Read)
}

/// QUIT.
fn quit(session: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    session.close = Close::AfterReplies;
    reply.ok();
    Ok(Effect::Read)
}

/// SELECT.
fn select(session: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let index = parse_i64(args.at(0)).ok_or(Error::NotInteger)?;
    if i32::try_from(index).is_err() {
        return Err(Error::text(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    let databases = usize::from(env.config.databases());
    session.db = usize::try_from(index)
        .ok()
        .filter(|index| *index < databases)
        .ok_or(Error::DbOutOfRange)?;
    reply.ok();
    Ok(Effect::Read)
}

/// AUTH.
fn auth(session: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    match args.len() {
        1 if env.config.requirepass().is_empty() => {
            return Err(Error::text(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            ));
        }
        1 => log_in(session, env, b"default", args.at(0))?,
        2 => log_in(session, env, args.at(0), args.at(1))?,
        _ => return Err(Error::Syntax),
    }
    reply.ok();
    Ok(Effect::Read)
}

/// There is one user; without a password, any will do.
fn log_in(session: &mut Session, env: &Env, user: &[u8], password: &[u8]) -> Result<(), Error> {
    let wanted = env.config.requirepass();
    if user != b"default" || !(wanted.is_empty() || same_secret(wanted, password)) {
        return Err(WRONG_PASSWORD);
    }
    session.authenticated = true;
    session.was_trusted = true;
    Ok(())
}

/// Compares without telling by its duration where the difference is.
fn same_secret(wanted: &[u8], given: &[u8]) -> bool {
    let mut differs = wanted.len() ^ given.len();
    for (i, byte) in given.iter().enumerate() {
        differs |= usize::from(byte ^ wanted[i % wanted.len()]);
    }
    std::hint::black_box(differs) == 0
}

/// The user and the password among HELLO's arguments.
fn login(args: &Args) -> Vec<usize> {
    let auth = (1..args.len()).find(|at| args.is(*at, "AUTH"));
    auth.map_or(Vec::new(), |at| vec![at + 1, at + 2])
}

/// HELLO: everything is read before anything is done.
fn hello(session: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let mut version = None;
    if let Some(arg) = args.get(0) {
        let number = parse_i64(arg)
            .ok_or(Error::text("ERR Protocol version is not an integer or out of range"))?;
        if !(2..=3).contains(&number) {
            return Err(Error::text("NOPROTO unsupported protocol version"));
        }
        version = Some(number);
    }
    let (mut login, mut name) = (None, None);
    let mut at = 1;
    while at < args.len() {
        let left = args.len() - 1 - at;
        if args.is(at, "AUTH") && left >= 2 {
            login = Some((args.at(at + 1), args.at(at + 2)));
            at += 3;
        } else if args.is(at, "SETNAME") && left >= 1 {
            name = Some(args.at(at + 1));
            super::client::check_name(args.at(at + 1))?;
            at += 2;
        } else {
            let option = String::from_utf8_lossy(args.at(at));
            return Err(Error::owned(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if let Some((user, password)) = login {
        log_in(session, env, user, password)?;
    }
    if !session.authenticated {
        return Err(Error::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        session.about.name = name.to_vec();
    }
    if let Some(version) = version {
        session.resp3 = version == 3;
    }
    // Already in the protocol that was just chosen.
    let reply = &mut Reply::new(reply.buf(), session.resp3);
    let (server, version) = COMPATIBLE;
    reply.map(7);
    for (name, value) in [("server", server), ("version", version)] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if session.resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(session.id as i64);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(Effect::Read)
}

//! Replication, as clients, replicas and operators ask for it: who follows whom, how far replicas are,
//! and the words with which a replica introduces itself.
//!
//! What concerns the server as a whole is asked of the shard that leads, as what lasts is
//! ([`super::persistence`]); PSYNC and SYNC make a replica of a client, which the router does.

use super::persistence::{Request, Wait};
use super::{Command, Control, Effect, Family, Outcome, Run, flag, tip};
use crate::base::error::Error;
use crate::base::number::{parse_i64, parse_u64};
use crate::base::{limits, words};
use crate::config::typed::ClientClass;
use crate::instance::replication::{Failover, LinkState, ReplicaState};
use crate::resp::{Args, Reply};
use crate::session::{Env, Introduction, LeavesOut, Session, Sync};
use std::sync::atomic::Ordering;

/// Commands on who follows whom.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[
        Command::new("FAILOVER", Run::Server(failover))
            .usage("[TO (host port:integer [FORCE])] [ABORT] [TIMEOUT milliseconds:integer]")
            .with(flag::ADMIN | flag::NOSCRIPT | flag::STALE)
            .since("6.2.0")
            .summary("Lets a replica lead in this server's place."),
        // A primary that hands its place over says so in one more.
        Command { arity: -3, ..PSYNC },
        // Any number of options, none included.
        Command { arity: -1, ..REPLCONF },
        Command::new("REPLICAOF", Run::Server(replicaof))
            .usage("(host port:integer | NO ONE)")
            .with(FOLLOWS)
            .since("5.0.0")
            .summary("Follows another server, or none."),
        Command::new("ROLE", Run::Session(role))
            .usage("")
            .with(flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::DANGEROUS)
            .fast()
            .since("2.8.12")
            .summary("Whether this server follows another, and who follows it."),
        Command::new("SLAVEOF", Run::Server(replicaof))
            .usage("(host port:integer | NO ONE)")
            .with(FOLLOWS)
            .summary("REPLICAOF, by its former name."),
        Command::new("SYNC", Run::Control(Control::Sync))
            .usage("")
            .with(TO_REPLICATE)
            .summary("Asks for all data and for the stream of changes after it."),
    ],
};

/// Commands that wait for replicas.
pub const WAITING: Family = Family {
    group: "generic",
    commands: &[
        Command::new("WAIT", Run::Server(wait))
            .usage("numreplicas:integer timeout:integer")
            .with(flag::BLOCKING | flag::CONNECTION)
            .tips(LEAST)
            .since("3.0.0")
            .summary("Waits until replicas have all that the client has written."),
        Command::new("WAITAOF", Run::Server(waitaof))
            .usage("numlocal:integer numreplicas:integer timeout:integer")
            .with(flag::BLOCKING | flag::CONNECTION)
            .tips(LEAST)
            .since("7.2.0")
            .summary("Waits until all that the client has written is in append-only files."),
    ],
};

const TO_REPLICATE: u32 = flag::ADMIN | flag::NOSCRIPT | flag::NO_ASYNC_LOADING | flag::NO_MULTI;
const FOLLOWS: u32 = flag::ADMIN | flag::NOSCRIPT | flag::STALE | flag::NO_ASYNC_LOADING;

/// Every shard has a number, of which the least counts.
const LEAST: &[&str] = &["request_policy:all_shards", "response_policy:agg_min"];

const PSYNC: Command = Command::new("PSYNC", Run::Control(Control::Sync))
    .usage("replicationid offset:integer")
    .with(TO_REPLICATE)
    .since("2.8.0")
    .summary("Asks for the stream of changes, from an offset on.");

const REPLCONF: Command = Command::new("REPLCONF", Run::Session(replconf))
    .usage("")
    .with(flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::ALLOW_BUSY)
    .tips(tip::NONE)
    .since("3.0.0")
    .summary("What a replica and its primary tell each other.");

/// What REPLICAOF answers where it changes nothing.
pub const FOLLOWED_ALREADY: &str = "OK Already connected to specified master";

// ---- who follows whom ----------------------------------------------------------------------------

/// REPLICAOF and SLAVEOF. The configuration says at once whom the server is to follow, so that CONFIG
/// REWRITE in the same transaction, as Sentinel sends it, writes that.
fn replicaof(session: &Session, env: &Env, args: &Args) -> Result<Request, Error> {
    if env.instance.replication().state().failover != Failover::None {
        return Err(Error::text("ERR REPLICAOF not allowed while failing over."));
    }
    if args.is(0, "NO") && args.is(1, "ONE") {
        env.instance.reconfigure(|config| {
            config.set_replicaof(None);
            Ok(())
        })?;
        return Ok(Request::Lead);
    }
    if session.class == ClientClass::Replica {
        return Err(Error::text("ERR Command is not valid when client is a replica."));
    }
    let port = parse_u64(args.at(1)).and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or(Error::text("ERR Invalid master port"))?;
    let host = String::from_utf8_lossy(args.at(0)).into_owned();
    env.instance.reconfigure(|config| {
        config.set_replicaof(Some((host.clone(), port)));
        Ok(())
    })?;
    Ok(Request::Follow { host, port })
}

/// FAILOVER.
fn failover(_: &Session, env: &Env, args: &Args) -> Result<Request, Error> {
    let (mut to, mut force, mut timeout_ms, mut aborts) = (None, false, None, false);
    let mut at = 0;
    while at < args.len() {
        let left = args.len() - 1 - at;
        if args.is(at, "TIMEOUT") && left >= 1 && timeout_ms.is_none() {
            let ms = parse_i64(args.at(at + 1)).ok_or(Error::NotInteger)?;
            let ms = u64::try_from(ms).ok().filter(|ms| *ms > 0);
            timeout_ms =
                Some(ms.ok_or(Error::text("ERR FAILOVER timeout must be greater than 0"))?);
            at += 2;
        } else if args.is(at, "TO") && left >= 2 && to.is_none() {
            let port = parse_i64(args.at(at + 2)).ok_or(Error::NotInteger)?;
            to = Some((String::from_utf8_lossy(args.at(at + 1)).into_owned(), port));
            at += 3;
        } else if args.is(at, "FORCE") && !force {
            force = true;
            at += 1;
        } else if args.is(at, "ABORT") && args.len() == 1 {
            aborts = true;
            at += 1;
        } else {
            return Err(Error::Syntax);
        }
    }
    let state = env.instance.replication().state();
    let is_under_way = state.failover != Failover::None;
    let refusal = if aborts {
        if is_under_way {
            return Ok(Request::AbortFailover);
        }
        "ERR No failover in progress."
    } else if is_under_way {
        "ERR FAILOVER already in progress."
    } else if state.primary.is_some() {
        "ERR FAILOVER is not valid when server is a replica."
    } else if state.replicas.is_empty() {
        "ERR FAILOVER requires connected replicas."
    } else if force && (timeout_ms.is_none() || to.is_none()) {
        "ERR FAILOVER with force option requires both a timeout and target HOST and IP."
    } else if let Some((host, port)) = &to {
        let mut replicas = state.replicas.iter();
        match replicas.find(|one| one.ip.eq_ignore_ascii_case(host) && one.port == *port) {
            None => "ERR FAILOVER target HOST and PORT is not a replica.",
            Some(one) if one.state != ReplicaState::Online => {
                "ERR FAILOVER target replica is not online."
            }
            Some(_) => return Ok(Request::Failover { to, force, timeout_ms }),
        }
    } else {
        return Ok(Request::Failover { to, force, timeout_ms });
    };
    Err(Error::text(refusal))
}

/// ROLE.
fn role(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    let replication = env.instance.replication();
    let (state, offset) =
        (replication.state(), replication.progress.offset.load(Ordering::Relaxed));
    let mut number = itoa::Buffer::new();
    if let Some(primary) = &state.primary {
        reply.array(5);
        reply.bulk(b"slave");
        reply.bulk(primary.host.as_bytes());
        reply.integer(primary.port.into());
        reply.bulk(primary.link.word().as_bytes());
        reply.integer(if primary.link == LinkState::Connected { offset as i64 } else { -1 });
        return Ok(Effect::Read);
    }
    let online = state.replicas.iter().filter(|one| one.state == ReplicaState::Online);
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(offset as i64);
    reply.array(online.clone().count());
    for replica in online {
        reply.array(3);
        reply.bulk(replica.ip.as_bytes());
        reply.bulk(number.format(replica.port).as_bytes());
        reply.bulk(number.format(replica.acknowledged).as_bytes());
    }
    Ok(Effect::Read)
}

// ---- waiting for replicas ------------------------------------------------------------------------

/// WAIT.
fn wait(session: &Session, env: &Env, args: &Args) -> Result<Request, Error> {
    if env.instance.replication().is_replica() {
        return Err(Error::text(
            "ERR WAIT cannot be used with replica instances. Please also note that if a replica is \
             configured to be writable (which is not the default) writes to replicas are just \
             local and are not propagated.",
        ));
    }
    let replicas = parse_i64(args.at(0)).ok_or(Error::NotInteger)?;
    let timeout_ms = timeout_ms(args.at(1), env)?;
    Ok(Request::Wait(wait_for(session, replicas, timeout_ms, false)))
}

/// WAITAOF, of a server without such a file.
fn waitaof(session: &Session, env: &Env, args: &Args) -> Result<Request, Error> {
    let local = parse_i64(args.at(0)).ok_or(Error::NotInteger)?;
    if !(0..=1).contains(&local) {
        return Err(Error::text("ERR value is out of range, value must between 0 and 1"));
    }
    let replicas = parse_i64(args.at(1)).ok_or(Error::NotInteger)?;
    if replicas < 0 {
        return Err(Error::text("ERR value is out of range, must be positive"));
    }
    let timeout_ms = timeout_ms(args.at(2), env)?;
    if env.instance.replication().is_replica() {
        return Err(Error::text(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to \
             replicas are just local and are not propagated.",
        ));
    }
    if local > 0 {
        return Err(Error::text(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ));
    }
    Ok(Request::Wait(wait_for(session, replicas, timeout_ms, true)))
}

/// For the end of what a client has written, which is known if that was asked for before and it has written
/// nothing since.
fn wait_for(session: &Session, replicas: i64, timeout_ms: u64, of_logs: bool) -> Wait {
    let offset = (!session.has_written).then_some(session.waited_offset);
    Wait { id: session.id, offset, replicas, timeout_ms, of_logs }
}

fn timeout_ms(text: &[u8], env: &Env) -> Result<u64, Error> {
    let ms = parse_i64(text).ok_or(Error::text("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Error::text("ERR timeout is negative"))?;
    // It is counted from now, in 63 bits.
    if ms > i64::MAX as u64 - env.now.unix_ms.unsigned_abs() {
        return Err(Error::text("ERR timeout is out of range"));
    }
    Ok(ms)
}

// ---- what a replica says -------------------------------------------------------------------------

/// REPLCONF. ACK and GETACK are not answered.
fn replconf(session: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    let is_replica = session.class == ClientClass::Replica;
    let about = &mut **session.replica.get_or_insert_default();
    for at in (0..args.len()).step_by(2) {
        let value = args.at(at + 1);
        if args.is(at, "listening-port") {
            about.port = parse_i64(value).ok_or(Error::NotInteger)?;
        } else if args.is(at, "ip-address") {
            if value.len() >= limits::HOST_BYTES {
                return Err(Error::owned(format!(
                    "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                    value.len()
                )));
            }
            about.ip = String::from_utf8_lossy(value).into_owned();
        } else if args.is(at, "capa") {
            about.takes_eof |= args.is(at + 1, "eof");
            about.takes_new_ids |= args.is(at + 1, "psync2");
        } else if args.is(at, "version") {
            about.version = Some(version(value)?);
        } else if args.is(at, "rdb-only") {
            let only = parse_i64(value).ok_or(Error::NotInteger)?;
            if !(0..=1).contains(&only) {
                return Err(Error::text("ERR value is out of range, value must between 0 and 1"));
            }
            about.rdb_only = only == 1;
        } else if args.is(at, "rdb-filter-only") {
            about.leaves_out = filter(value)?;
        } else if args.is(at, "ack") {
            if is_replica {
                about.acknowledged = parse_u64(value).or(about.acknowledged);
            }
            return Ok(Effect::Read);
        } else if args.is(at, "getack") {
            session.owes_ack |= session.is_primary;
            return Ok(Effect::Read);
        } else {
            let option = String::from_utf8_lossy(args.at(at));
            return Err(Error::owned(format!("ERR Unrecognized REPLCONF option: {option}")));
        }
    }
    reply.ok();
    Ok(Effect::Read)
}

/// `major.minor.patch` as 0xMMmmpp.
fn version(text: &[u8]) -> Result<u32, Error> {
    let mut parts = text.split(|byte| *byte == b'.').map(|part| {
        let number = parse_u64(part)?;
        u8::try_from(number).ok().map(u32::from)
    });
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => {
            Ok(major << 16 | minor << 8 | patch)
        }
        _ => {
            let text = String::from_utf8_lossy(text);
            Err(Error::owned(format!("ERR Unrecognized version format: {text}")))
        }
    }
}

/// What is left out if only what these words name is wanted.
fn filter(text: &[u8]) -> Result<LeavesOut, Error> {
    let mut leaves_out = LeavesOut { data: true, functions: true };
    let words = words::split_args(text).ok_or(Error::text("ERR Missing rdb-filter-only values"))?;
    for word in words {
        if !word.eq_ignore_ascii_case(b"functions") {
            let word = String::from_utf8_lossy(&word);
            let text = format!("ERR Unsupported rdb-filter-only option: {word}");
            return Err(Error::owned(text));
        }
        leaves_out.functions = false;
    }
    Ok(leaves_out)
}

/// What a client asks for with PSYNC or SYNC, if it may become a replica now.
///
/// # Errors
/// When it may not: what it is told.
pub fn sync_request(
    session: &Session,
    env: &Env,
    command: &Command,
    args: &Args,
    has_pending_replies: bool,
) -> Result<Sync, Error> {
    let state = env.instance.replication().state();
    if state.failover != Failover::None {
        return Err(Error::text("NOMASTERLINK Can't SYNC while failing over"));
    }
    let hands_over = command.name == "PSYNC" && args.is(2, "FAILOVER");
    if hands_over && state.primary.is_none() {
        return Err(Error::text("ERR PSYNC FAILOVER can't be sent to a master."));
    }
    if hands_over && !args.at(0).eq_ignore_ascii_case(state.id.as_bytes()) {
        return Err(Error::text("ERR PSYNC FAILOVER replid must match my replid."));
    }
    if !hands_over && state.link().is_some_and(|link| link != LinkState::Connected) {
        let text = "NOMASTERLINK Can't SYNC while not connected with my master";
        return Err(Error::text(text));
    }
    if has_pending_replies {
        return Err(Error::text("ERR SYNC and PSYNC are invalid with pending output"));
    }
    let about = session.replica.as_deref();
    let is_filtered =
        |about: &Introduction| about.leaves_out != LeavesOut::default() && !about.takes_eof;
    if about.is_some_and(is_filtered) {
        return Err(Error::text("ERR Filtered replica requires EOF capability"));
    }
    if command.name == "SYNC" {
        return Ok(Sync::Full);
    }
    let offset = parse_i64(args.at(1)).ok_or(Error::NotInteger)?;
    Ok(Sync::Partial { id: args.at(0).to_vec(), offset, hands_over })
}

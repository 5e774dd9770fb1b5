//! CLIENT: what a connection says about itself, what is known about all of them, and their end.

mod filter;
mod pause;
mod tracking;

use super::introspect::help;
use super::persistence::Request;
use super::{Command, Effect, Family, Gather, Outcome, Run, flag, tip};
use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::config::typed::ClientClass;
use crate::resp::{Args, Reply};
use crate::session::{Close, Env, ReplyMode, Session};
use filter::Filter;
use std::fmt::Write as _;

const ALWAYS: u32 = flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::CONNECTION;
const OWN: u32 = ALWAYS | flag::ALLOW_BUSY;

/// CLIENT and its subcommands.
pub const FAMILY: Family = Family {
    group: "connection",
    commands: &[
        Command::new("CLIENT", Run::Container)
            .usage("subcommand [argument...]")
            .since("2.4.0")
            .complexity("That of the subcommand")
            .summary("What is known about connections, and their end."),
        Command::new("CLIENT CACHING", Run::Session(tracking::caching))
            .usage("(YES | NO)")
            .with(OWN)
            .since("6.0.0")
            .summary("Whether the keys of the next command are tracked."),
        Command::new("CLIENT CAPA", Run::Session(capa))
            .usage("capability...")
            .with(OWN)
            .since("8.0.0")
            .summary("What the client can do beyond what every client can."),
        Command::new("CLIENT GETNAME", Run::Session(getname))
            .usage("")
            .with(OWN)
            .since("2.6.9")
            .summary("The connection's name."),
        Command::new("CLIENT GETREDIR", Run::Session(tracking::getredir))
            .usage("")
            .with(OWN)
            .since("6.0.0")
            .summary("The connection that invalidations of this one's keys go to."),
        Command::new("CLIENT HELP", Run::Session(client_help))
            .usage("")
            .with(flag::LOADING | flag::STALE | flag::CONNECTION)
            .since("5.0.0")
            .summary("What the subcommands do."),
        Command::new("CLIENT ID", Run::Session(id))
            .usage("")
            .with(OWN)
            .since("5.0.0")
            .summary("The connection's number, which no other has had."),
        Command::new("CLIENT IMPORT-SOURCE", Run::Session(import_source))
            .usage("(ON | OFF)")
            .with(ALWAYS)
            .since("8.1.0")
            .summary("Whether the connection brings the data of another server."),
        Command::new("CLIENT INFO", Run::Session(info))
            .usage("")
            .with(ALWAYS)
            .since("6.2.0")
            .tips(tip::VARIES)
            .summary("What is known about the connection."),
        Command::new("CLIENT KILL", Run::Sessions(kill, Gather::With(killed)))
            .usage(concat!("(old-format | (", filter::usage!(" | "), ")...)"))
            .with(ALWAYS | flag::ADMIN)
            .since("2.4.0")
            .complexity("O(N) in the number of connections")
            .tips(tip::NONE)
            .summary("Closes connections."),
        Command::new("CLIENT LIST", Run::Sessions(list, Gather::Text))
            .usage(concat!("[", filter::usage!("] ["), "]"))
            .with(ALWAYS | flag::ADMIN)
            .since("2.4.0")
            .complexity("O(N) in the number of connections")
            .tips(tip::VARIES)
            .summary("What is known about all connections."),
        Command::new("CLIENT NO-EVICT", Run::Session(no_evict))
            .usage("(ON | OFF)")
            .with(OWN | flag::ADMIN)
            .since("7.0.0")
            .summary("Whether the connection stays when its buffers take too much memory."),
        Command::new("CLIENT NO-TOUCH", Run::Session(no_touch))
            .usage("(ON | OFF)")
            .with(OWN)
            .since("7.2.0")
            .summary("Whether the connection's commands leave alone when keys were last used."),
        Command::new("CLIENT PAUSE", Run::Sessions(pause::pause, Gather::Ok))
            .usage("timeout:integer [WRITE | ALL]")
            .with(ALWAYS | flag::ADMIN)
            .since("3.0.0")
            .summary("Lets all clients wait, or those that write."),
        Command::new("CLIENT REPLY", Run::Session(reply_mode))
            .usage("(ON | OFF | SKIP)")
            .with(OWN | flag::NO_MULTI)
            .since("3.2.0")
            .summary("Whether the connection wants replies."),
        Command::new("CLIENT SETINFO", Run::Session(setinfo))
            .usage("(LIB-NAME libname | LIB-VER libver)")
            .with(OWN)
            .since("7.2.0")
            .tips(tip::EVERYWHERE)
            .summary("Names the library that the client uses, or its version."),
        Command::new("CLIENT SETNAME", Run::Session(setname))
            .usage("connection-name")
            .with(OWN)
            .since("2.6.9")
            .tips(tip::EVERYWHERE)
            .summary("Names the connection."),
        Command::new("CLIENT TRACKING", Run::Session(tracking::tracking))
            .usage(
                "(ON | OFF) [REDIRECT client-id:integer] [PREFIX prefix]... [BCAST] [OPTIN] \
                 [OPTOUT] [NOLOOP]",
            )
            .with(ALWAYS)
            .since("6.0.0")
            .summary("Whether the server tells the connection of changes to the keys it has read."),
        Command::new("CLIENT TRACKINGINFO", Run::Session(tracking::trackinginfo))
            .usage("")
            .with(ALWAYS)
            .since("6.2.0")
            .summary("What the server tells the connection of changes to the keys it has read."),
        Command::new("CLIENT UNBLOCK", Run::Server(unblock))
            .usage("client-id:integer [TIMEOUT | ERROR]")
            .with(ALWAYS | flag::ADMIN)
            .since("5.0.0")
            .complexity("O(log N) in the number of connections")
            .summary("Ends another connection's waiting."),
        Command::new("CLIENT UNPAUSE", Run::Sessions(pause::unpause, Gather::Ok))
            .usage("")
            .with(ALWAYS | flag::ADMIN)
            .since("6.2.0")
            .complexity("O(N) in the number of clients that wait")
            .summary("Lets clients go on that CLIENT PAUSE lets wait."),
    ],
};

/// Whether a name can be shown in a list of `name=value` pairs.
///
/// # Errors
/// When it cannot: the text that refuses it.
pub(super) fn check_name(name: &[u8]) -> Result<(), Error> {
    check_attribute("Client names", name)
}

fn check_attribute(what: &str, value: &[u8]) -> Result<(), Error> {
    if value.iter().all(u8::is_ascii_graphic) {
        return Ok(());
    }
    let text = format!("ERR {what} cannot contain spaces, newlines or special characters.");
    Err(Error::owned(text))
}

/// CLIENT GETNAME.
fn getname(session: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    if session.about.name.is_empty() {
        reply.null();
    } else {
        reply.bulk(&session.about.name);
    }
    Ok(Effect::Read)
}

/// CLIENT SETNAME.
fn setname(session: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    check_name(args.at(0))?;
    session.about.name = args.at(0).to_vec();
    reply.ok();
    Ok(Effect::Read)
}

/// CLIENT SETINFO.
fn setinfo(session: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let option = String::from_utf8_lossy(args.at(0));
    let about = &mut *session.about;
    let target = match option.to_ascii_lowercase().as_str() {
        "lib-name" => &mut about.lib_name,
        "lib-ver" => &mut about.lib_ver,
        _ => return Err(Error::owned(format!("ERR Unrecognized option '{option}'"))),
    };
    check_attribute(&option, args.at(1))?;
    *target = args.at(1).to_vec();
    reply.ok();
    Ok(Effect::Read)
}

/// CLIENT ID.
fn id(session: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    reply.integer(session.id as i64);
    Ok(Effect::Read)
}

/// CLIENT REPLY. The router looks at the mode after this has run, so ON is answered and the others
/// are not.
fn reply_mode(session: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    if args.is(0, "ON") {
        session.reply_mode = ReplyMode::On;
        reply.ok();
    } else if args.is(0, "OFF") {
        session.reply_mode = ReplyMode::Off;
    } else if !args.is(0, "SKIP") {
        return Err(Error::Syntax);
    } else if session.reply_mode != ReplyMode::Off {
        session.reply_mode = ReplyMode::SkipNext;
    }
    Ok(Effect::Read)
}

fn on_or_off(args: &Args) -> Result<bool, Error> {
    match (args.is(0, "ON"), args.is(0, "OFF")) {
        (false, false) => Err(Error::Syntax),
        (on, _) => Ok(on),
    }
}

/// CLIENT NO-EVICT.
fn no_evict(session: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    session.no_evict = on_or_off(args)?;
    reply.ok();
    Ok(Effect::Read)
}

/// CLIENT NO-TOUCH.
fn no_touch(session: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    session.no_touch = on_or_off(args)?;
    reply.ok();
    Ok(Effect::Read)
}

/// CLIENT CAPA: what is not known is ignored, as a later version may know it.
fn capa(session: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    session.redirects |= (0..args.len()).any(|at| args.is(at, "REDIRECT"));
    reply.ok();
    Ok(Effect::Read)
}

/// CLIENT IMPORT-SOURCE.
fn import_source(session: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    if !args.is(0, "OFF") && !env.config.import_mode() {
        return Err(Error::text("ERR Server is not in import mode"));
    }
    session.import_source = on_or_off(args)?;
    reply.ok();
    Ok(Effect::Read)
}

/// CLIENT UNBLOCK. Who is paused is not waiting in this sense.
fn unblock(_: &Session, _: &Env, args: &Args) -> Result<Request, Error> {
    if args.len() > 1 && !args.is(1, "TIMEOUT") && !args.is(1, "ERROR") {
        return Err(Error::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    let id = parse_i64(args.at(0)).ok_or(Error::NotInteger)?;
    // Nobody has an id below one.
    let id = u64::try_from(id).unwrap_or(0);
    Ok(Request::EndWait { id, is_error: args.len() > 1 && args.is(1, "ERROR") })
}

/// CLIENT INFO.
fn info(session: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    let mut out = String::new();
    let asker = session.id;
    describe(session, asker, env, &mut out);
    reply.verbatim("txt", &out);
    Ok(Effect::Read)
}

/// CLIENT LIST, one shard's sessions.
fn list(
    sessions: &mut dyn Iterator<Item = &mut Session>,
    asker: u64,
    env: &Env,
    args: &Args,
    reply: &mut Reply,
) -> Outcome {
    let filter = Filter::parse(args, env, false)?;
    let mut out = String::new();
    for session in sessions {
        if session.close != Close::Now && filter.takes(session, asker, env) {
            describe(session, asker, env, &mut out);
        }
    }
    reply.verbatim("txt", &out);
    Ok(Effect::Read)
}

/// CLIENT KILL, one shard's sessions: how many there were, or with the old form of one address
/// whether it was one of them.
fn kill(
    sessions: &mut dyn Iterator<Item = &mut Session>,
    asker: u64,
    env: &Env,
    args: &Args,
    reply: &mut Reply,
) -> Outcome {
    let by_address = args.len() == 1;
    let filter =
        if by_address { Filter::of_address(args.at(0)) } else { Filter::parse(args, env, true)? };
    let mut count = 0;
    for session in sessions {
        if session.close == Close::Now || !filter.takes(session, asker, env) {
            continue;
        }
        // Who ends itself is told so before.
        session.close = if session.id == asker { Close::AfterReplies } else { Close::Now };
        count += 1;
    }
    match (by_address, count) {
        (false, _) => reply.integer(count),
        (true, 0) => reply.null(),
        (true, _) => reply.ok(),
    }
    Ok(Effect::Read)
}

/// CLIENT KILL, from what all shards say.
fn killed(parts: &[&[u8]], reply: &mut Reply) {
    let counts =
        parts.iter().filter_map(|part| parse_i64(part.strip_prefix(b":")?.strip_suffix(b"\r\n")?));
    if parts.iter().any(|part| part.starts_with(b"+")) {
        reply.ok();
    } else if parts.iter().all(|part| part.starts_with(b":")) {
        reply.integer(counts.sum());
    } else {
        reply.error_text("ERR No such client");
    }
}

/// The letters CLIENT LIST shows for what a session is up to.
fn letters(session: &Session) -> String {
    let letters = [
        (!session.subscribed.is_empty(), 'P'),
        (session.class == ClientClass::Replica, 'S'),
        (session.is_primary, 'M'),
        (session.multi.is_some(), 'x'),
        (session.postponed || session.waits, 'b'),
        (session.close == Close::AfterReplies, 'c'),
        (session.close == Close::Now, 'A'),
        (session.about.addr.starts_with('/'), 'U'),
        (session.read_only, 'r'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
        (session.import_source, 'I'),
    ];
    let set: String = letters.iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
    if set.is_empty() { "N".to_owned() } else { set }
}

/// Of the replies that wait, what Redis would have in the one buffer that every client of its has.
const FIRST_BUFFER: usize = 16 * 1024;

/// One line of CLIENT LIST. What waits to be sent beyond the first 16 KiB is shown as the list that
/// Redis would keep it in (`oll`, `omem`); memory per argument (`argv-mem`) and a peak of the first
/// buffer (`rbp`) do not exist.
fn describe(session: &Session, asker: u64, env: &Env, out: &mut String) {
    let (about, traffic) = (&*session.about, &session.traffic);
    let text = String::from_utf8_lossy;
    let seconds_since = |ms: i64| (env.now.unix_ms - ms).max(0) / 1000;
    let command = session.last_command.map(|id| super::all()[usize::from(id)].full_name());
    // The command that asks is counted already, and has not ended.
    let commands = traffic.commands - u64::from(session.id == asker);
    let first = traffic.output.min(FIRST_BUFFER);
    let [sub, psub, ssub] = session.subscribed.counts;
    let _ = writeln!(
        out,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} capa={} db={} sub={} psub={} \
         ssub={} multi={} watch={} qbuf={} qbuf-free={} argv-mem=0 multi-mem={} rbs={} rbp=0 obl={} \
         oll={} omem={} tot-mem={} events={} cmd={} user=default redir=-1 resp={} lib-name={} \
         lib-ver={} tot-net-in={} tot-net-out={} tot-cmds={}",
        session.id,
        about.addr,
        about.laddr,
        about.fd,
        text(&about.name),
        seconds_since(session.created_ms),
        seconds_since(session.active_ms),
        letters(session),
        capabilities(session),
        session.db,
        sub,
        psub,
        ssub,
        session.multi.map_or(-1, i64::from),
        session.watched.len(),
        traffic.query,
        traffic.query_capacity.saturating_sub(traffic.query),
        traffic.queued,
        traffic.output_capacity,
        first,
        (traffic.output - first).div_ceil(FIRST_BUFFER),
        traffic.output - first,
        session.memory(),
        if traffic.output > 0 { "rw" } else { "r" },
        command.as_deref().unwrap_or("NULL"),
        if session.resp3 { 3 } else { 2 },
        text(&about.lib_name),
        text(&about.lib_ver),
        traffic.received,
        traffic.sent,
        commands,
    );
}

/// The letters CLIENT LIST shows for what a client has said it can do.
fn capabilities(session: &Session) -> &'static str {
    if session.redirects { "r" } else { "" }
}

/// CLIENT HELP.
fn client_help(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    help(
        "CLIENT",
        &[
            "CACHING (YES|NO)",
            "    Whether the keys of the next command are tracked. (Nothing is: see TRACKING.)",
            "CAPA <capability> [<capability> ...]",
            "    What this client can do. Known is REDIRECT: to go elsewhere when told to.",
            "GETNAME",
            "    The name of this connection.",
            "GETREDIR",
            "    The connection that invalidations go to: none.",
            "ID",
            "    The number of this connection.",
            "IMPORT-SOURCE (ON|OFF)",
            "    Whether this connection brings another server's data, with import-mode on.",
            "INFO",
            "    What is known about this connection.",
            "KILL <address:port>",
            "    Close the connection from that address.",
            "KILL <filter> <value> [<filter> <value> ...]",
            "    Close the connections that all filters take. This one is left out unless",
            "    SKIPME NO says otherwise. Filters:",
            "    * ADDR, LADDR <address:port>, IP <address>",
            "    * TYPE <normal|primary|replica|pubsub>, USER <name>, NAME <name>",
            "    * ID <number> [<number> ...], DB <index>, FLAGS <letters>, CAPA <letters>",
            "    * MAXAGE <seconds>, IDLE <seconds>: at least so old, at least so long idle",
            "    * LIB-NAME <name>, LIB-VER <version>",
            "    * SKIPME <yes|no>",
            "    * NOT-... before any but SKIPME, MAXAGE and IDLE: those it would not take",
            "LIST [<filter> <value> [<filter> <value> ...]]",
            "    What is known about all connections, or those that the filters of KILL take.",
            "NO-EVICT (ON|OFF)",
            "    Whether this connection stays when memory for clients is short.",
            "NO-TOUCH (ON|OFF)",
            "    Whether commands of this connection leave alone when keys were last used.",
            "PAUSE <timeout> [WRITE|ALL]",
            "    Let all clients wait for so many milliseconds, or those that write.",
            "REPLY (ON|OFF|SKIP)",
            "    Whether this connection gets replies, or all but the next.",
            "SETINFO (LIB-NAME|LIB-VER) <value>",
            "    Name the client's library, or its version.",
            "SETNAME <name>",
            "    Name this connection.",
            "TRACKING (ON|OFF) [<option> ...]",
            "    Be told of changes to keys that were read. Only OFF is possible here.",
            "TRACKINGINFO",
            "    What this connection is told of such changes.",
            "UNBLOCK <number> [TIMEOUT|ERROR]",
            "    End another connection's waiting.",
            "UNPAUSE",
            "    Let everybody go on whom PAUSE lets wait.",
        ],
        reply,
    )
}

//! What lasts: saving the data, loading it again, and the end of the server, before which it is saved.
//!
//! These concern the server as a whole, so they run on no shard's data by themselves: they are asked
//! of the shard that leads such things ([`Run::Server`]), which answers when it has come to that.

use super::{Command, Effect, Family, Gather, Outcome, Run, flag, tip};
use crate::base::error::Error;
use crate::instance::Shutdown;
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};
use crate::shard::db::Db;

/// The commands on what lasts.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[
        Command::new("BGSAVE", Run::Server(bgsave))
            .usage("[SCHEDULE | CANCEL]")
            .with(flag::ADMIN | flag::NOSCRIPT)
            .tips(tip::NONE)
            .summary("Saves the data while clients go on, and says when that has begun."),
        Command::new("LASTSAVE", Run::Session(lastsave))
            .usage("")
            .with(flag::LOADING | flag::STALE | flag::ADMIN | flag::DANGEROUS)
            .fast()
            .tips(tip::VARIES)
            .summary("When the data was last saved, in seconds since 1970."),
        Command::new("SAVE", Run::Server(save))
            .usage("")
            .with(flag::ADMIN | flag::NOSCRIPT | flag::NO_MULTI)
            .complexity("O(N) in the number of keys")
            .tips(tip::NONE)
            .summary("Saves the data, and says when that is done."),
        Command::new("SHUTDOWN", Run::Server(shutdown))
            .usage("[[NOSAVE | SAVE] [NOW] [FORCE] [SAFE] [FAILOVER] | ABORT]")
            .with(
                flag::ADMIN
                    | flag::NOSCRIPT
                    | flag::LOADING
                    | flag::STALE
                    | flag::NO_MULTI
                    | flag::ALLOW_BUSY,
            )
            .complexity("O(N) in the number of keys if they are saved, otherwise O(1)")
            .summary("Ends the server."),
    ],
};

/// Something asked of the server as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// SAVE.
    Save,
    /// BGSAVE; whether it may wait for what is under way.
    BackgroundSave {
        /// SCHEDULE.
        schedule: bool,
    },
    /// BGSAVE CANCEL.
    CancelSave,
    /// SHUTDOWN.
    Shutdown(Shutdown),
    /// SHUTDOWN ABORT.
    AbortShutdown,
    /// DEBUG RELOAD.
    Reload {
        /// Whether the data is saved first.
        save: bool,
        /// Whether what there is goes before the file is loaded.
        flush: bool,
        /// Whether a key of the file takes the place of one that is there.
        merge: bool,
    },
    /// REPLICAOF a server.
    Follow {
        /// Its host, as it was given.
        host: String,
        /// Its port.
        port: u16,
    },
    /// REPLICAOF NO ONE.
    Lead,
    /// WAIT and WAITAOF.
    Wait(Wait),
    /// CLIENT UNBLOCK.
    EndWait {
        /// The client that waits, by its id.
        id: u64,
        /// Whether it is answered with an error, not as if its time were over.
        is_error: bool,
    },
    /// FAILOVER.
    Failover {
        /// To whom; to the first that has caught up if nobody is named.
        to: Option<(String, i64)>,
        /// Whether the named one is to lead even if it has not caught up in time.
        force: bool,
        /// Milliseconds that it has to catch up; `None` for any time.
        timeout_ms: Option<u64>,
    },
    /// FAILOVER ABORT.
    AbortFailover,
}

/// What WAIT and WAITAOF ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The client's id.
    pub id: u64,
    /// The offset that replicas are to acknowledge, if it is known; otherwise the client has written,
    /// and means the end of what it wrote.
    pub offset: Option<u64>,
    /// How many of them.
    pub replicas: i64,
    /// How long it waits at most, in milliseconds; 0 for ever.
    pub timeout_ms: u64,
    /// Whether it is WAITAOF, which asks for what lies on disks, and is told of this server's own as
    /// well.
    pub of_logs: bool,
}

/// Reads a command's arguments, for a client.
pub type Ask = fn(&Session, &Env, &Args) -> Result<Request, Error>;

/// BGSAVE.
fn bgsave(_: &Session, _: &Env, args: &Args) -> Result<Request, Error> {
    match args.len() {
        0 => Ok(Request::BackgroundSave { schedule: false }),
        1 if args.is(0, "SCHEDULE") => Ok(Request::BackgroundSave { schedule: true }),
        1 if args.is(0, "CANCEL") => Ok(Request::CancelSave),
        _ => Err(Error::Syntax),
    }
}

/// SAVE.
fn save(_: &Session, _: &Env, _: &Args) -> Result<Request, Error> {
    Ok(Request::Save)
}

/// LASTSAVE.
fn lastsave(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    reply.integer(env.instance.persistence().state().last_save_s);
    Ok(Effect::Read)
}

/// SHUTDOWN.
fn shutdown(_: &Session, _: &Env, args: &Args) -> Result<Request, Error> {
    let mut shutdown = Shutdown::default();
    for at in 0..args.len() {
        if args.is(at, "NOSAVE") && shutdown.save != Some(true) {
            shutdown.save = Some(false);
        } else if args.is(at, "SAVE") && shutdown.save != Some(false) {
            shutdown.save = Some(true);
        } else if args.is(at, "NOW") {
            shutdown.now = true;
        } else if args.is(at, "FORCE") {
            shutdown.force = true;
        } else if args.is(at, "ABORT") && args.len() == 1 {
            return Ok(Request::AbortShutdown);
        } else if !args.is(at, "SAFE") && !args.is(at, "FAILOVER") {
            return Err(Error::Syntax);
        }
    }
    Ok(Request::Shutdown(shutdown))
}

/// DEBUG RELOAD.
pub(super) fn reload(_: &Session, _: &Env, args: &Args) -> Result<Request, Error> {
    let (mut save, mut flush, mut merge) = (true, true, false);
    for at in 1..args.len() {
        if args.is(at, "NOSAVE") {
            save = false;
        } else if args.is(at, "NOFLUSH") {
            flush = false;
        } else if args.is(at, "MERGE") {
            merge = true;
        } else {
            return Err(Error::text(
                "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
            ));
        }
    }
    Ok(Request::Reload { save, flush, merge })
}

// ---- what the shards do for it -------------------------------------------------------------------

/// A command that nobody can send: the server runs it by itself, on all shards at one moment. It is
/// declared for what it is part of, and refused for nothing that clients' commands are.
const fn inner(run: Run) -> Command {
    let declared = Command::new("BGSAVE", run).with(flag::EXCLUSIVE | flag::LOADING | flag::STALE);
    Command { group: "server", id: super::number_of("BGSAVE"), ..declared }
}

/// Every shard begins a snapshot.
pub static CUT: Command = inner(Run::All(cut, Gather::Ok));

fn cut(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    if !db.begin_snapshot() {
        return Err(Error::text("ERR A snapshot is under way"));
    }
    reply.ok();
    Ok(Effect::Read)
}

/// Every shard begins a snapshot, and leaves the mark of its cut in its journal, which begins there if
/// it was off. The mark is there even where a snapshot cannot begin, or some shards would have one and
/// others not.
pub static CUT_AND_JOURNAL: Command = inner(Run::All(cut_and_journal, Gather::Ok));

fn cut_and_journal(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    db.cut_stream();
    cut(db, args, reply)
}

/// Every shard begins its journal, with a mark.
pub static JOURNAL_ON: Command = inner(Run::All(journal_on, Gather::Ok));

fn journal_on(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    db.cut_stream();
    reply.ok();
    Ok(Effect::Read)
}

/// Every shard stops its journal.
pub static JOURNAL_OFF: Command = inner(Run::All(journal_off, Gather::Ok));

fn journal_off(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    db.end_stream();
    reply.ok();
    Ok(Effect::Read)
}

/// Every shard forgets all of its data, before other data is loaded.
pub static EMPTY: Command = inner(Run::All(empty, Gather::Ok));

fn empty(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    db.clear_all();
    reply.ok();
    Ok(Effect::Read)
}

/// Every shard loads beside what it has from now on.
pub static BEGIN_BESIDE: Command = inner(Run::All(begin_beside, Gather::Ok));

fn begin_beside(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    db.begin_beside();
    reply.ok();
    Ok(Effect::Read)
}

/// Every shard has what it has loaded beside in place of what it had.
pub static TAKE_BESIDE: Command = inner(Run::All(take_beside, Gather::Ok));

fn take_beside(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    db.take_beside();
    reply.ok();
    Ok(Effect::Read)
}

/// Every shard forgets what it has loaded beside.
pub static FORGET_BESIDE: Command = inner(Run::All(forget_beside, Gather::Ok));

fn forget_beside(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    db.forget_beside();
    reply.ok();
    Ok(Effect::Read)
}

/// From here on all shards lock in the order of the stream of another server, which is followed.
pub static FOLLOW_ORDER: Command = inner(Run::All(follow_order, Gather::Ok));

fn follow_order(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    db.follow_order(true);
    reply.ok();
    Ok(Effect::Read)
}

/// There is no such stream any more.
pub static LEAD_ORDER: Command = inner(Run::All(lead_order, Gather::Ok));

fn lead_order(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    db.follow_order(false);
    reply.ok();
    Ok(Effect::Read)
}

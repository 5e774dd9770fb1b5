//! Where each command of a transaction runs, and which locks that takes.

use super::execute;
use super::message::{PartReply, Results};
use crate::base::key::Key;
use crate::base::slot::Layout;
use crate::command::{Across, Call, Gather, Handler, Run, SessionsHandler};
use crate::resp::{Args, ReplyBuf};
use crate::session::Watch;
use crate::shard::locks::{self, Mode, Wants};
use smallvec::SmallVec;

/// A command of a transaction, with what its keys say about where it runs.
#[derive(Debug)]
pub(super) struct Planned {
    /// The command and its arguments.
    pub(super) call: Call,
    /// The database it runs in.
    pub(super) db: usize,
    /// Where it runs.
    pub(super) site: Site,
    /// Whether its client spoke RESP3 when it ran.
    pub(super) resp3: bool,
    /// Its parts' replies, each with the place of the [`Results`] it lies in.
    pub(super) parts: SmallVec<[(usize, PartReply); 2]>,
    /// The reply, where it is known before or without the parts' replies.
    pub(super) reply: Option<ReplyBuf>,
    /// What its parts took, in ticks.
    pub(super) ticks: u64,
}

impl Planned {
    /// Whether no part has failed.
    pub(super) fn is_fine(&self) -> bool {
        self.parts.iter().all(|(_, part)| !part.failed)
    }

    /// The reply of the first part that failed.
    pub(super) fn failure<'a>(&self, results: &'a [Results]) -> Option<(&'a ReplyBuf, PartReply)> {
        let (at, part) = self.parts.iter().find(|(_, part)| part.failed)?;
        Some((&results[*at].replies, *part))
    }
}

/// Where a command runs.
#[derive(Debug)]
pub(super) enum Site {
    /// Here, on the session.
    Session,
    /// On one shard, all of it.
    One(usize),
    /// Parts on the shards of their keys: of each part, the shard.
    Parts(Handler, Gather, Vec<u16>),
    /// An across command's keys: shard, database.
    Across(&'static Across, Vec<(usize, usize)>),
    /// Every shard.
    All(Handler, Gather),
    /// Every shard's sessions.
    Sessions(SessionsHandler, Gather),
    /// Watching begins, at the shards of the keys.
    Watch(Vec<u16>),
}

/// A shard that takes part in a transaction.
#[derive(Debug, Default)]
pub(super) struct Party {
    /// Which.
    pub(super) shard: usize,
    /// The locks it is asked for.
    pub(super) wants: Wants,
    /// The watched keys that are its to check, by their places among all.
    pub(super) checks: Vec<u32>,
    /// Whether it holds locks for the transaction.
    pub(super) holds: bool,
}

/// What is to be planned.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    layout: &'a Layout,
    /// The client's own shard: what runs anywhere runs here.
    home: usize,
    databases: usize,
    locks: Vec<Vec<(u64, Mode)>>,
    involved: Vec<bool>,
    /// Whether every shard is locked whole.
    whole: bool,
    /// The strongest mode that any lock is wanted in.
    strongest: Mode,
}

impl<'a> Planner<'a> {
    /// For a client of shard `home`.
    pub(super) fn new(layout: &'a Layout, home: usize, databases: usize) -> Planner<'a> {
        let shards = layout.shards();
        let (locks, involved) = (vec![Vec::new(); shards], vec![false; shards]);
        let strongest = Mode::Shared;
        Planner { layout, home, databases, locks, involved, whole: false, strongest }
    }

    fn lock(&mut self, key: &[u8], db: usize, mode: Mode) -> usize {
        let shard = self.layout.owner(key);
        self.strongest = self.strongest.max(mode);
        self.involved[shard] = true;
        self.locks[shard].push((locks::fingerprint(db, Key::new(key)), mode));
        shard
    }

    /// Plans calls of a client that begins in database `db`. `walks` says that a SCAN may go on from
    /// any shard to the next.
    pub(super) fn plan(&mut self, calls: Vec<Call>, mut db: usize, walks: bool) -> Vec<Planned> {
        let mut planned = Vec::with_capacity(calls.len());
        for call in calls {
            let site = self.site(&call, db, walks);
            let this_db = db;
            // SELECT inside a transaction: what follows is locked where it will run.
            if call.command.name == "SELECT"
                && let args = Args::new(&call.bytes, &call.spans)
                && let Some(n) = crate::base::number::parse_i64(args.at(0))
                && let Ok(n) = usize::try_from(n)
                && n < self.databases
            {
                db = n;
            }
            planned.push(Planned::new(call, this_db, site));
        }
        planned
    }

    /// Plans a WATCH. The locks are shared: it keeps its place among the commands on its keys.
    pub(super) fn plan_watch(&mut self, call: Call, db: usize) -> Planned {
        let args = Args::new(&call.bytes, &call.spans);
        let owners = args.iter().map(|key| self.lock(key, db, Mode::Shared) as u16).collect();
        Planned::new(call, db, Site::Watch(owners))
    }

    fn site(&mut self, call: &Call, db: usize, walks: bool) -> Site {
        let args = Args::new(&call.bytes, &call.spans);
        let (command, mode) = (call.command, execute::mode(call.command));
        match command.run {
            Run::Session(_)
            | Run::Pubsub(_)
            | Run::Server(_)
            | Run::Control(_)
            | Run::Chosen(_)
            | Run::Container => Site::Session,
            Run::Sessions(handler, gather) => {
                self.involved.fill(true);
                Site::Sessions(handler, gather)
            }
            Run::All(handler, gather) => {
                self.whole = true;
                self.strongest = self.strongest.max(mode);
                Site::All(handler, gather)
            }
            Run::Cursor(_) => {
                let shard = cursor_shard(&args, self.layout.shards());
                if walks {
                    self.involved.fill(true);
                } else {
                    self.involved[shard] = true;
                }
                Site::One(shard)
            }
            Run::Owner(_) | Run::Each(..) | Run::Across(_) => {
                let Ok(places) = command.key_places(&args) else {
                    // Its handler says what is wrong, anywhere, and touches nothing.
                    self.involved[self.home] = true;
                    return Site::One(self.home);
                };
                if let Run::Each(handler, gather) = command.run {
                    let owners: Vec<u16> = places
                        .iter()
                        .map(|place| self.lock(args.at(*place), db, mode) as u16)
                        .collect();
                    let first = owners[0];
                    if owners.iter().all(|shard| *shard == first) {
                        return Site::One(usize::from(first));
                    }
                    return Site::Parts(handler, gather, owners);
                }
                if let Some(to) = execute::moves_to(command, &args) {
                    self.lock(args.at(0), to, mode);
                }
                let places = places.iter().enumerate().map(|(i, place)| {
                    // A database that is none fails where the command runs.
                    let db = execute::db_of_key(command, &args, i, db).unwrap_or(db);
                    (self.lock(args.at(*place), db, mode), db)
                });
                let places: Vec<(usize, usize)> = places.collect();
                match command.run {
                    Run::Across(across) if places.iter().any(|at| at.0 != places[0].0) => {
                        Site::Across(across, places)
                    }
                    _ => Site::One(places[0].0),
                }
            }
        }
    }

    /// The shards that take part, in ascending order, given what the client watches.
    pub(super) fn parties(mut self, watched: &[Watch]) -> SmallVec<[Party; 4]> {
        let mut checks: Vec<Vec<u32>> = vec![Vec::new(); self.layout.shards()];
        for (at, watch) in watched.iter().enumerate() {
            let shard = self.lock(&watch.key, watch.db, Mode::Shared);
            checks[shard].push(at as u32);
        }
        let Planner { locks, involved, whole, strongest, .. } = self;
        locks
            .into_iter()
            .zip(checks)
            .enumerate()
            .filter(|(shard, _)| whole || involved[*shard])
            .map(|(shard, (keys, checks))| {
                let wants = match (whole, keys.is_empty()) {
                    (true, _) => locks::whole(strongest),
                    (false, true) => Wants::new(),
                    (false, false) => locks::of_keys(keys.into_iter()),
                };
                Party { shard, wants, checks, holds: false }
            })
            .collect()
    }
}

impl Planned {
    fn new(call: Call, db: usize, site: Site) -> Planned {
        let (parts, reply) = (SmallVec::new(), None);
        Planned { call, db, site, resp3: false, parts, reply, ticks: 0 }
    }
}

/// The shard a cursor points into; one that points nowhere goes to the first, which refuses it.
pub(super) fn cursor_shard(args: &Args, shards: usize) -> usize {
    let cursor = args.get(0).and_then(crate::base::number::parse_u64).unwrap_or(0);
    let shard = (cursor >> 48) as usize;
    if shard < shards { shard } else { 0 }
}

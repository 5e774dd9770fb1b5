//! The coordinator of a command over several shards, or of a transaction: strict two-phase locking.
//!
//! 1. *Attempt*: all owners are asked at once to lock. What only reads runs as soon as its shard
//!    has locked, and its result travels with the verdict.
//! 2. All granted: decided. The rest runs in rounds, the last of which releases. A writer whose
//!    reply is known already (MSET) answers without waiting for it: the channel keeps the order,
//!    and the lock shields everybody else.
//! 3. Any refused: what was granted is released, and the owners are asked again one after another
//!    in ascending order, now waiting in their queues. Attempts never wait and waiters only wait
//!    upwards, so nobody waits in a circle.
//!
//! A *round* is every next command up to one whose later half depends on what is read now (RENAME
//! over two shards). So MSET and MGET take one, RENAME two, and a transaction one more than it has
//! RENAMEs.
//!
//! Where one shard owns everything there is nothing to decide: it is asked once, waits if it must,
//! runs everything at one moment and releases.

use super::batch::ClientKey;
use super::exec::{self, Step};
use super::node::{Node, owner_of};
use super::order::{Act, Ask, Check, Do, Message, PartReply, Results, Unit, Verdict, Work};
use super::walk::Walk;
use crate::base::error::Error;
use crate::command::{Across, Gather, Handler, Run, SessionsHandler, Write};
use crate::resp::{Args, Reply, ReplyBuf};
use crate::session::{Call, Watch};
use crate::shard::locks::{self, Mode, TxnId, Wants};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// What the client is told in the end.
#[derive(Debug)]
pub enum Goal {
    /// The reply of the only command.
    Single,
    /// An array of all replies, or nothing if a watched key changed.
    Exec,
    /// That it watches these keys now.
    Watch(Vec<(usize, Box<[u8]>)>),
    /// What a SCAN found.
    Walk(Walk),
}

/// A command of a transaction, with what its keys say about where it runs.
#[derive(Debug)]
struct Planned {
    call: Call,
    db: usize,
    site: Site,
    results: Vec<(Results, PartReply)>,
    /// The reply, where it is known before or without the parts' replies.
    reply: Option<ReplyBuf>,
    /// What its parts took, in ticks.
    ticks: u64,
}

#[derive(Debug)]
enum Site {
    /// Here, on the session.
    Session,
    /// On one shard as a whole.
    Whole(usize),
    /// Parts on the shards of their keys.
    Parts(Handler, Gather),
    /// An across command's keys: shard, database.
    Across(&'static Across, Vec<(usize, usize)>),
    /// Every shard.
    All(Handler, Gather),
    /// Every shard's sessions.
    Sessions(SessionsHandler, Gather),
    /// Watching begins at the key's shard.
    Watch(usize),
}

#[derive(Debug, Default)]
struct Participant {
    shard: usize,
    wants: Wants,
    checks: Vec<(usize, Box<[u8]>, u64)>,
    holds: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// All were asked at once; so many verdicts are missing, and whether one was a refusal.
    Attempt { missing: usize, refused: bool },
    /// Asked one after another; this participant is next to answer.
    Ordered(usize),
    /// Locked; so many results of the round are missing.
    Running(usize),
}

/// See the module's head.
#[derive(Debug)]
pub struct Txn {
    id: TxnId,
    client: ClientKey,
    seq: u32,
    resp3: bool,
    no_touch: bool,
    goal: Goal,
    calls: Vec<Planned>,
    parties: SmallVec<[Participant; 4]>,
    phase: Phase,
    /// The first call of the next round.
    next: usize,
    /// The across command whose reading half is in the round under way.
    reading: Option<usize>,
    /// What an across command has decided to write, for the next round.
    writes: VecDeque<(usize, Write)>,
    unchanged: bool,
    /// The keys the client watched: its watch ends with the transaction, not before its checks.
    watched: Vec<Watch>,
    /// What planning took, in ticks.
    ticks: u64,
}

impl Node {
    /// Begins a transaction of `calls`. The client's later commands wait until it has ended.
    pub(super) fn begin(
        &mut self,
        client: ClientKey,
        goal: Goal,
        calls: Vec<Call>,
        watched: Vec<Watch>,
    ) {
        let Some(owner) = self.client_mut(client) else {
            return;
        };
        let seq = owner.replies.promise(owner.session.reply_mode);
        if !super::rules::broken(super::rules::Rule::HoldBack) {
            owner.held = true;
        }
        let (db, resp3) = (owner.session.db, owner.session.resp3);
        let no_touch = owner.session.no_touch;
        self.next_txn += 1;
        let mut txn = Txn {
            id: (self.number as u64) << 48 | self.next_txn,
            client,
            seq,
            resp3,
            no_touch,
            goal,
            calls: Vec::with_capacity(calls.len()),
            parties: SmallVec::new(),
            phase: Phase::Running(0),
            next: 0,
            reading: None,
            writes: VecDeque::new(),
            unchanged: true,
            watched,
            ticks: 0,
        };
        self.plan(&mut txn, calls, db);
        txn.ticks = self.lap();
        if let Goal::Walk(_) = txn.goal {
            // Nothing to lock, and one shard after another.
            return self.run_round(txn);
        }
        self.ask_all(txn);
    }

    /// Decides where each call runs and which locks that takes.
    fn plan(&self, txn: &mut Txn, calls: Vec<Call>, mut db: usize) {
        let shards = self.mail.shards();
        let mut locks: Vec<Vec<(u64, Mode)>> = vec![Vec::new(); shards];
        let mut involved = vec![false; shards];
        let (mut whole, mut checks) = (false, Vec::new());
        for watch in &txn.watched {
            let shard = owner_of(&watch.key, shards);
            involved[shard] = true;
            locks[shard].push((locks::print(watch.db, &watch.key), Mode::Shared));
            checks.push((shard, watch.db, watch.key.clone(), watch.version));
        }
        for call in calls {
            let args = Args::new(&call.bytes, &call.spans);
            let (command, mode) = (call.command, exec::mode(call.command));
            let mut lock = |key: &[u8], db: usize| {
                let shard = owner_of(key, shards);
                involved[shard] = true;
                locks[shard].push((locks::print(db, key), mode));
                shard
            };
            let site = match (command.run, &txn.goal) {
                // Shared locks: a watch keeps its place among the commands on its key.
                (_, Goal::Watch(_)) => Site::Watch(lock(args.at(0), db)),
                (Run::Session(_) | Run::Control(_) | Run::Chosen(_) | Run::Container, _) => {
                    Site::Session
                }
                (Run::Sessions(handler, gather), _) => {
                    involved.fill(true);
                    Site::Sessions(handler, gather)
                }
                (Run::All(handler, gather), _) => {
                    whole = true;
                    Site::All(handler, gather)
                }
                (Run::Cursor(_), goal) => {
                    let shard = cursor_shard(&args, shards);
                    match goal {
                        // It may go on from any shard to the next.
                        Goal::Walk(_) => involved.fill(true),
                        _ => involved[shard] = true,
                    }
                    Site::Whole(shard)
                }
                (Run::Owner(_) | Run::Each(..) | Run::Across(_), _) => {
                    match command.key_places(&args) {
                        // Its handler says what is wrong, anywhere, and touches nothing.
                        Err(_) => {
                            involved[self.number] = true;
                            Site::Whole(self.number)
                        }
                        Ok(places) => {
                            let at: Vec<(usize, usize)> = places
                                .iter()
                                .enumerate()
                                .map(|(i, place)| {
                                    // A database that is none fails where the command runs.
                                    let db = exec::db_of_key(command, &args, i, db).unwrap_or(db);
                                    (lock(args.at(*place), db), db)
                                })
                                .collect();
                            match (at.iter().all(|(shard, _)| *shard == at[0].0), command.run) {
                                (false, Run::Each(handler, gather)) => Site::Parts(handler, gather),
                                (false, Run::Across(across)) => Site::Across(across, at),
                                _ => Site::Whole(at[0].0),
                            }
                        }
                    }
                }
            };
            let this_db = db;
            // SELECT inside a transaction: what follows is locked where it will run.
            if command.name == "SELECT"
                && let Some(n) = crate::base::number::parse_i64(args.at(0))
                && let Ok(n) = usize::try_from(n)
                && n < self.shard.databases()
            {
                db = n;
            }
            let (results, reply, ticks) = (Vec::new(), None, 0);
            txn.calls.push(Planned { call, db: this_db, site, results, reply, ticks });
        }
        for shard in 0..shards {
            if whole || involved[shard] {
                let keys = std::mem::take(&mut locks[shard]);
                let wants = match (whole, keys.is_empty()) {
                    (true, _) => locks::whole(),
                    (false, true) => Wants::new(),
                    (false, false) => locks::of_keys(keys.into_iter()),
                };
                txn.parties.push(Participant { shard, wants, ..Participant::default() });
            }
        }
        for (shard, db, key, version) in checks {
            let party = txn.parties.iter_mut().find(|party| party.shard == shard);
            party.expect("its shard is involved").checks.push((db, key, version));
        }
    }

    /// Asks everybody at once.
    fn ask_all(&mut self, mut txn: Txn) {
        let count = txn.parties.len();
        if count == 0 {
            return self.finish(txn);
        }
        txn.phase = Phase::Attempt { missing: count, refused: false };
        // With one participant nothing can refuse and nobody else waits: it may as well wait.
        let asks = self.asks(&mut txn, 0..count, count == 1);
        self.txns.insert(txn.id, txn);
        for (shard, ask) in asks {
            self.say(shard, Message::Ask(ask));
        }
    }

    /// The requests for some participants, with the first round if it can run at once.
    fn asks(
        &mut self,
        txn: &mut Txn,
        parties: std::ops::Range<usize>,
        wait: bool,
    ) -> Vec<(usize, Ask)> {
        let alone = txn.parties.len() == 1;
        let lockless = txn.parties.iter().all(|party| party.wants.is_empty());
        (txn.next, txn.reading) = (0, None);
        let mut works = Works::new(self.mail.shards());
        let reads = self.fill_round(txn, &mut works);
        let (at_once, last) = (alone || lockless || reads, txn.next == txn.calls.len());
        if !at_once {
            (txn.next, txn.reading) = (0, None);
        }
        parties
            .map(|i| {
                let party = &txn.parties[i];
                let work = if at_once { works.take(party.shard) } else { Work::default() };
                let release = lockless || (alone && last && txn.reading.is_none());
                let checks = party.checks.iter().map(|(db, key, version)| Check {
                    db: *db,
                    key: key.clone(),
                    version: *version,
                });
                let (wants, checks) = (party.wants.clone(), checks.collect());
                (party.shard, Ask { txn: txn.id, wait, wants, checks, work, release })
            })
            .collect()
    }

    /// Fills the next round: pending writes, then calls up to one that has to read first. Returns
    /// whether the round only reads.
    fn fill_round(&self, txn: &mut Txn, works: &mut Works) -> bool {
        let (mut reads, resp3, no_touch) = (txn.writes.is_empty(), txn.resp3, txn.no_touch);
        for (at, write) in txn.writes.drain(..) {
            let Planned { call, site: Site::Across(_, keys), .. } = &txn.calls[at] else {
                unreachable!("only across commands write later")
            };
            let (shard, db) = keys[write.key];
            let act = Act::Data(Step::Part(write.handler));
            let unit = Unit { db, resp3, no_touch, ..Unit::new(at, DISCARDED, act, call.command) };
            works.to(shard).add(unit, write.args.iter().map(Vec::as_slice));
        }
        while txn.next < txn.calls.len() && txn.reading.is_none() {
            let (at, planned) = (txn.next, &txn.calls[txn.next]);
            let (command, db) = (planned.call.command, planned.db);
            let args = Args::new(&planned.call.bytes, &planned.call.spans);
            let unit =
                |part, act| Unit { db, resp3, no_touch, ..Unit::new(at, part, act, command) };
            txn.next += 1;
            reads &=
                exec::mode(command) == Mode::Shared || matches!(planned.site, Site::Across(..));
            match &planned.site {
                Site::Session => {}
                Site::Whole(shard) => {
                    works.to(*shard).add(unit(0, Act::Data(Step::Whole)), args.iter());
                }
                Site::Parts(handler, _) => {
                    let act = Act::Data(Step::Part(*handler));
                    for (part, args) in exec::parts(command, &args).enumerate() {
                        let shard = owner_of(args.at(0), works.0.len());
                        works.to(shard).add(unit(part, act), args.iter());
                    }
                }
                Site::All(handler, _) => {
                    for shard in 0..works.0.len() {
                        let act = Act::Data(Step::Part(*handler));
                        works.to(shard).add(unit(shard, act), args.iter());
                    }
                }
                Site::Sessions(handler, _) => {
                    let asker = self.session_id(txn.client);
                    for shard in 0..works.0.len() {
                        let act = Act::Sessions(*handler, asker);
                        works.to(shard).add(unit(shard, act), args.iter());
                    }
                }
                Site::Watch(shard) => {
                    // It leaves a mark: an attempt that is refused elsewhere must not.
                    reads = false;
                    works.to(*shard).add(unit(0, Act::Watch), args.iter());
                }
                Site::Across(across, keys) => {
                    txn.reading = Some(at);
                    for (i, (shard, db)) in keys.iter().enumerate() {
                        let act = Act::Data(Step::Read(across, i));
                        works.to(*shard).add(Unit { db: *db, ..unit(i, act) }, args.iter());
                    }
                }
            }
        }
        reads
    }

    /// A participant has answered.
    pub(super) fn judged(&mut self, verdict: Verdict) {
        let Some(mut txn) = self.txns.remove(&verdict.txn) else {
            return;
        };
        let at = txn.parties.iter().position(|party| party.shard == verdict.shard);
        let at = at.expect("only participants are asked");
        let lockless = txn.parties[at].wants.is_empty();
        let released = lockless || (txn.parties.len() == 1 && txn.is_at_end());
        txn.parties[at].holds = verdict.granted && !released;
        txn.unchanged &= verdict.unchanged;
        if verdict.granted {
            txn.take_results(verdict.results);
        }
        match txn.phase {
            Phase::Attempt { missing, refused } => {
                let (missing, refused) = (missing - 1, refused | !verdict.granted);
                if missing > 0 {
                    txn.phase = Phase::Attempt { missing, refused };
                    self.txns.insert(txn.id, txn);
                } else if !txn.unchanged {
                    self.abort(txn);
                } else if refused {
                    self.release_all(&mut txn);
                    self.ask_in_order(txn, 0);
                } else {
                    self.locked(txn);
                }
            }
            Phase::Ordered(_) if !txn.unchanged => self.abort(txn),
            Phase::Ordered(at) if at + 1 < txn.parties.len() => self.ask_in_order(txn, at + 1),
            Phase::Ordered(_) => self.locked(txn),
            Phase::Running(_) => unreachable!("all verdicts were in"),
        }
    }

    /// Asks one participant, waiting, and the next when it has answered.
    fn ask_in_order(&mut self, mut txn: Txn, at: usize) {
        if at == 0 {
            txn.calls.iter_mut().for_each(|planned| planned.results.clear());
        }
        txn.phase = Phase::Ordered(at);
        let (shard, ask) = self.asks(&mut txn, at..at + 1, true).pop().expect("one");
        self.txns.insert(txn.id, txn);
        self.say(shard, Message::Ask(ask));
    }

    /// All locks are held. If the first round went with the requests, it is over.
    fn locked(&mut self, txn: Txn) {
        if txn.next > 0 || txn.calls.is_empty() {
            self.round_over(txn);
        } else {
            self.run_round(txn);
        }
    }

    /// Sends the next round; the last one releases.
    fn run_round(&mut self, mut txn: Txn) {
        let mut works = Works::new(self.mail.shards());
        self.fill_round(&mut txn, &mut works);
        let release = txn.is_at_end();
        let known = release && self.answers_early() && works.units().all(|unit| txn.is_known(unit));
        let mut missing = 0;
        let mut orders = Vec::with_capacity(txn.parties.len());
        for party in &mut txn.parties {
            let work = works.take(party.shard);
            let answer = !known && !work.is_empty();
            if work.is_empty() && !(release && party.holds) {
                continue;
            }
            party.holds &= !release;
            missing += usize::from(answer);
            orders.push((party.shard, Do { txn: txn.id, work, release, answer }));
        }
        txn.phase = Phase::Running(missing);
        let id = txn.id;
        self.txns.insert(id, txn);
        for (shard, order) in orders {
            self.say(shard, Message::Do(order));
        }
        if missing == 0
            && let Some(txn) = self.txns.remove(&id)
        {
            self.round_over(txn);
        }
    }

    /// A participant has run its part of a round.
    pub(super) fn done(&mut self, txn: TxnId, results: Results) {
        let Some(mut txn) = self.txns.remove(&txn) else {
            return;
        };
        txn.take_results(results);
        let Phase::Running(missing) = &mut txn.phase else { unreachable!("results of a round") };
        *missing -= 1;
        if *missing > 0 {
            self.txns.insert(txn.id, txn);
        } else {
            self.round_over(txn);
        }
    }

    /// All results of a round are here: an across command decides, and on it goes.
    fn round_over(&mut self, mut txn: Txn) {
        if let Some(at) = txn.reading.take() {
            txn.decide(at);
        }
        if txn.is_at_end() && txn.walks_on(self.mail.shards()) {
            self.run_round(txn);
        } else if txn.is_at_end() {
            self.release_all(&mut txn);
            self.finish(txn);
        } else {
            self.run_round(txn);
        }
    }

    fn release_all(&mut self, txn: &mut Txn) {
        for party in &mut txn.parties {
            if std::mem::take(&mut party.holds) {
                let work = Work::default();
                let order = Do { txn: txn.id, work, release: true, answer: false };
                self.say(party.shard, Message::Do(order));
            }
        }
    }

    /// A watched key had changed.
    fn abort(&mut self, mut txn: Txn) {
        self.release_all(&mut txn);
        let mut out = ReplyBuf::default();
        Reply::new(&mut out, txn.resp3).null_array();
        self.conclude(txn, &out);
    }

    /// Tells the client, and lets its next commands run.
    fn finish(&mut self, mut txn: Txn) {
        let mut out = ReplyBuf::default();
        let calls = std::mem::take(&mut txn.calls);
        self.lap();
        match &mut txn.goal {
            Goal::Exec => {
                Reply::new(&mut out, txn.resp3).array(calls.len());
                for planned in calls {
                    txn.ticks += self.write_counted(txn.client, planned, 0, &mut out);
                }
            }
            Goal::Walk(walk) if calls.iter().all(Planned::is_fine) => {
                walk.write(&mut out, txn.resp3);
                for Planned { call, ticks, .. } in calls {
                    let took = ticks + txn.ticks + self.lap();
                    self.count_call(txn.client, &call, took, &out, 0);
                }
            }
            Goal::Single | Goal::Walk(_) => {
                for planned in calls {
                    self.write_counted(txn.client, planned, txn.ticks, &mut out);
                }
            }
            Goal::Watch(keys) => {
                let mut watches = Vec::with_capacity(keys.len());
                for (planned, (db, key)) in calls.into_iter().zip(keys.drain(..)) {
                    let (results, part) = &planned.results[0];
                    let told = &results.replies.bytes()[part.from..part.to];
                    let version = u64::from_le_bytes(told.try_into().expect("a version"));
                    watches.push(Watch { db, key, version });
                }
                match self.client_mut(txn.client) {
                    Some(client) => {
                        let begins = client.session.watched.is_empty() && !watches.is_empty();
                        client.session.watched.append(&mut watches);
                        self.watching += u64::from(begins);
                    }
                    // It has gone in the meantime.
                    None => {
                        self.watching += u64::from(!watches.is_empty());
                        self.unwatch(watches);
                    }
                }
                Reply::new(&mut out, txn.resp3).ok();
            }
        }
        self.conclude(txn, &out);
    }

    /// Writes the reply of one call and counts it, with what planning it took.
    fn write_counted(
        &mut self,
        client: ClientKey,
        planned: Planned,
        planning: u64,
        out: &mut ReplyBuf,
    ) -> u64 {
        let (from, here) = (out.mark(), matches!(planned.site, Site::Session));
        let took = planned.ticks + planning;
        // One on the session is counted where it runs: now.
        let call = (!here).then(|| planned.call.clone());
        self.write_reply(client, planned, out);
        let took = took + if here { 0 } else { self.lap() };
        if let Some(call) = call {
            self.count_call(client, &call, took, out, from);
        }
        took
    }

    fn conclude(&mut self, txn: Txn, reply: &ReplyBuf) {
        let client = txn.client;
        if let Goal::Exec = txn.goal {
            self.count_exec(txn.ticks);
        }
        self.unwatch(txn.watched);
        self.keep_promise(client, txn.seq, reply, (0, reply.mark()));
        if let Some(client_state) = self.client_mut(client)
            && std::mem::take(&mut client_state.held)
        {
            self.resume.push(client);
        }
    }

    /// Writes the reply of one call: known already, the session's, or gathered from its parts.
    fn write_reply(&mut self, client: ClientKey, mut planned: Planned, out: &mut ReplyBuf) {
        let Some(resp3) = self.client_mut(client).map(|client| client.session.resp3) else {
            return;
        };
        if let Some(reply) = planned.reply.take() {
            return out.append(&reply, 0, reply.mark());
        }
        planned.results.sort_by_key(|(_, part)| part.part);
        if let Some((results, part)) = planned.results.iter().find(|(_, part)| part.failed) {
            return out.append(&results.replies, part.from, part.to);
        }
        let gather = match planned.site {
            Site::Session => {
                let Call { command, bytes, spans } = &planned.call;
                return self.run_session(client, command, &Args::new(bytes, spans), out);
            }
            Site::Parts(_, gather) | Site::All(_, gather) | Site::Sessions(_, gather) => gather,
            Site::Whole(_) | Site::Across(..) | Site::Watch(_) => Gather::InOrder,
        };
        let is_list = matches!(planned.site, Site::Parts(..));
        super::gather::write(gather, is_list, &planned.results, &mut Reply::new(out, resp3));
    }
}

impl Planned {
    /// Whether no part has failed.
    fn is_fine(&self) -> bool {
        self.results.iter().all(|(_, part)| !part.failed)
    }
}

/// The part number of a write whose reply nobody looks at.
const DISCARDED: usize = u32::MAX as usize;

impl Txn {
    /// Whether a SCAN goes on with another shard; the next round is ready then.
    fn walks_on(&mut self, shards: usize) -> bool {
        let (Goal::Walk(walk), Some(planned)) = (&mut self.goal, self.calls.first_mut()) else {
            return false;
        };
        let Some((results, part)) = planned.results.first() else {
            return false;
        };
        let reply = &results.replies.bytes()[part.from..part.to];
        let Some(next) = walk.step(&mut planned.call, reply, shards) else {
            return false;
        };
        planned.results.clear();
        planned.site = Site::Whole(next);
        self.next = 0;
        true
    }

    fn is_at_end(&self) -> bool {
        self.next == self.calls.len() && self.reading.is_none() && self.writes.is_empty()
    }

    /// Whether a part's reply is known before it runs: MSET's parts cannot fail.
    fn is_known(&self, unit: &Unit) -> bool {
        let planned = &self.calls[unit.call as usize];
        unit.part == DISCARDED as u32 || matches!(planned.site, Site::Parts(_, Gather::Ok))
    }

    fn take_results(&mut self, results: Results) {
        for part in &results.of {
            self.calls[part.call as usize].ticks += part.ticks;
            if part.part == DISCARDED as u32 {
                continue;
            }
            let mut one = Results::default();
            one.replies.append(&results.replies, part.from, part.to);
            let (from, to) = (0, part.to - part.from);
            self.calls[part.call as usize].results.push((one, PartReply { from, to, ..*part }));
        }
    }

    /// An across command has read all its keys: its reply, and what it writes.
    fn decide(&mut self, at: usize) {
        let resp3 = self.resp3;
        let planned = &mut self.calls[at];
        let Site::Across(across, _) = planned.site else { unreachable!("only these read first") };
        planned.results.sort_by_key(|(_, part)| part.part);
        let mut out = ReplyBuf::default();
        if let Some((results, part)) = planned.results.iter().find(|(_, part)| part.failed) {
            out.append(&results.replies, part.from, part.to);
        } else {
            let read: Vec<&[u8]> =
                planned.results.iter().map(|(results, _)| results.replies.bytes()).collect();
            let args = Args::new(&planned.call.bytes, &planned.call.spans);
            let mut writes = Vec::new();
            let decided =
                (across.finish)(&args, &read, &mut writes, &mut Reply::new(&mut out, resp3));
            match decided {
                Ok(()) => self.writes.extend(writes.into_iter().map(|write| (at, write))),
                Err(error) => out = error_reply(&error),
            }
        }
        self.calls[at].reply = Some(out);
    }
}

/// Work by shard.
struct Works(Vec<Work>);

impl Works {
    fn new(shards: usize) -> Works {
        Works((0..shards).map(|_| Work::default()).collect())
    }

    fn to(&mut self, shard: usize) -> &mut Work {
        &mut self.0[shard]
    }

    fn take(&mut self, shard: usize) -> Work {
        std::mem::take(&mut self.0[shard])
    }

    fn units(&self) -> impl Iterator<Item = &Unit> {
        self.0.iter().flat_map(|work| &work.units)
    }
}

fn error_reply(error: &Error) -> ReplyBuf {
    let mut out = ReplyBuf::default();
    Reply::new(&mut out, false).error(error);
    out
}

/// The shard a cursor points into; one that points nowhere goes to the first, which refuses it.
pub(super) fn cursor_shard(args: &Args, shards: usize) -> usize {
    let cursor = args.get(0).and_then(crate::base::number::parse_u64).unwrap_or(0);
    let shard = (cursor >> 48) as usize;
    if shard < shards { shard } else { 0 }
}

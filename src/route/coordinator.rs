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
//! over two shards), or to one on the session, which runs here between two rounds, in its place. So
//! MSET and MGET take one, RENAME two, and a transaction one more than it has RENAMEs or HELLOs in
//! its middle.
//!
//! What a transaction that writes does on several shards, or in several steps, is one *group* of the
//! stream that replicas get ([`super::stream`]). When all locks are held, before any part is sent out
//! and before an early answer, the coordinator's own shard announces it: that is its place in the
//! stream. A transaction of one shard and one step is that shard's own to journal.
//!
//! Every participant judges the whole transaction as it grants ([`super::participant`]); one that
//! refuses ends it before anything has run.
//!
//! Where one shard owns everything there is nothing to decide: it is asked once, waits if it must,
//! runs everything at one moment and releases.
//!
//! # While another server is followed
//!
//! Its stream runs here in the order of a client of the shard that leads, and a reader over several
//! shards must not see a later write of it without an earlier one. So then all owners are asked *through
//! the leader* ([`Message::Relay`]), and wait in their queues at once, without attempts. What the leader
//! says to one shard is heard there in the order in which it was said: all that the stream does, and all
//! requests, stand in **one order**, each shard's queues keep it, and what a reader is granted
//! everywhere is everywhere the same place of the stream. Nobody waits in a circle, as everybody waits
//! only for who comes earlier in that order, or for somebody who waits nowhere while he holds something:
//! a command, or a transaction of one shard, which asks that shard alone. What a single command
//! reads is causal as ever ([`super`]): one that was said before the effect that somebody has seen, and
//! waits in a queue, is not passed by his next reads.
//!
//! **The change of order**, both ways, is a command of the leader's own on all shards
//! ([`crate::command::persistence::FOLLOW_ORDER`]), so there is a moment at which it holds every shard
//! whole, and nobody else holds anything. Whatever a shard grants afterwards to others, it grants after
//! it has heard of the change, so any coordinator that hears of such a grant has heard of the change
//! before ([`super::mailbox`]).
//! - *To the stream's order.* Attempts wait nowhere. Who is asked for one by one held nothing at that
//!   moment, so waits for the first of his locks only; as soon as he has it, he lets go and begins again
//!   through the leader ([`is_outdated`]), as does an attempt that was under way, which could have
//!   read at two places of the stream. So nobody ever holds in the one order and waits in the other.
//! - *From it.* What the leader relayed before it said the change has come to all queues before the
//!   change, so before anybody asks in the other way: it waits for nobody who does. What it hears
//!   afterwards it says on as attempts ([`relay`]), which wait nowhere; who is refused begins again.

use super::client::ClientKey;
use super::execute::{self, Step};
use super::message::{Act, Answer, Ask, Do, Message, Results, Unit, Verdict};
use super::participant::{Context, DOING_WITHOUT};
use super::plan::{Planned, Planner, Site};
use super::requests::LEADER;
use super::rules::{Rule, broken};
use super::session::run_session;
use super::transaction::{DISCARDED, Goal, Phase, Txn, Works};
use crate::base::error::Error;
use crate::base::slot::Layout;
use crate::command::{self, Call, Command, flag};
use crate::resp::{Args, Reply, ReplyBuf};
use crate::session::Watch;
use crate::shard::caller::Caller;
use crate::shard::locks::{self, TxnId};
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Coordinator {
    number: usize,
    layout: Arc<Layout>,
    databases: usize,
    txns: HashMap<TxnId, Txn, ahash::RandomState>,
    next: u64,
}

impl Coordinator {
    /// The coordinator of a shard, for its clients.
    pub(super) fn new(number: usize, layout: Arc<Layout>, databases: usize) -> Coordinator {
        let txns = HashMap::with_hasher(crate::base::hash::state().clone());
        Coordinator { number, layout, databases, txns, next: 0 }
    }

    /// How many transactions are under way.
    pub(super) fn len(&self) -> usize {
        self.txns.len()
    }

    /// Begins a transaction of `calls`. The client's later commands wait until it has ended.
    pub(super) fn begin(
        &mut self,
        client: ClientKey,
        goal: Goal,
        calls: Vec<Call>,
        watched: Vec<Watch>,
        cx: &mut Context,
    ) {
        let Some(owner) = cx.clients.get_mut(client) else {
            return;
        };
        let seq = owner.replies.promise(owner.session.reply_mode);
        owner.held = !broken(Rule::HoldBack);
        let caller = owner.session.caller();
        self.begin_as((client, seq, caller), goal, calls, watched, cx);
    }

    /// Begins a transaction of a command that the server runs by itself. The node hears of its end
    /// ([`Message::Concluded`]).
    pub(super) fn begin_inner(&mut self, command: &'static Command, cx: &mut Context) {
        let calls = vec![Call { command, bytes: Vec::new(), spans: Vec::new() }];
        let nobody = (ClientKey::NOBODY, 0, Caller::default());
        self.begin_as(nobody, Goal::Inner, calls, Vec::new(), cx);
    }

    fn begin_as(
        &mut self,
        (client, seq, caller): (ClientKey, u32, Caller),
        goal: Goal,
        calls: Vec<Call>,
        watched: Vec<Watch>,
        cx: &mut Context,
    ) {
        // What the primary says has been judged there.
        let flags = if caller.is_primary { DOING_WITHOUT } else { flags_of(&calls) };
        let mut planner = Planner::new(&self.layout, self.number, self.databases);
        let calls = match goal {
            Goal::Watch => {
                calls.into_iter().map(|call| planner.plan_watch(call, caller.db())).collect()
            }
            _ => planner.plan(calls, caller.db(), matches!(goal, Goal::Walk(_))),
        };
        let parties = planner.parties(&watched);
        let has_steps = calls.iter().any(|planned| matches!(planned.site, Site::Session));
        let is_group = flags & flag::WRITES != 0 && (parties.len() > 1 || has_steps);
        self.next += 1;
        let txn = Txn {
            id: (self.number as u64) << 48 | self.next,
            client,
            seq,
            caller,
            goal,
            calls,
            parties,
            flags,
            phase: Phase::Running(0),
            is_relayed: false,
            next: 0,
            reading: None,
            writes: VecDeque::new(),
            first: None,
            releases: false,
            results: Vec::new(),
            is_group,
            is_announced: false,
            changed: false,
            refusal: None,
            watched,
            out: ReplyBuf::default(),
            written: 0,
            ticks: cx.observer.lap(),
        };
        match txn.goal {
            // Nothing to lock, and one shard after another.
            Goal::Walk(_) => self.run_round(txn, cx),
            _ => self.ask_all(txn, cx),
        }
    }

    // ---- locking -----------------------------------------------------------------------------

    /// Asks everybody at once.
    fn ask_all(&mut self, mut txn: Txn, cx: &mut Context) {
        let count = txn.parties.len();
        if count == 0 {
            return self.round_over(txn, cx);
        }
        txn.phase = Phase::All { missing: count, busy: false };
        txn.is_relayed = cx.is_following && count > 1;
        self.prepare(&mut txn, cx);
        // With one participant nothing can refuse and nobody else waits: it may as well wait.
        let waits = txn.is_relayed || count == 1;
        let asks = (0..count).map(|at| txn.ask(at, waits));
        let asks: SmallVec<[(usize, Box<Ask>); 4]> = asks.collect();
        let goes_round = txn.is_relayed && self.number != LEADER;
        self.txns.insert(txn.id, txn);
        if goes_round {
            return cx.post.say(LEADER, Message::Relay(asks.into_vec()));
        }
        for (shard, ask) in asks {
            cx.post.say(shard, Message::Ask(ask));
        }
    }

    /// Asks one participant, waiting, and the next when it has answered.
    fn ask_in_order(&mut self, mut txn: Txn, at: usize, cx: &mut Context) {
        txn.phase = Phase::Ordered(at);
        let (shard, ask) = txn.ask(at, true);
        self.txns.insert(txn.id, txn);
        cx.post.say(shard, Message::Ask(ask));
    }

    /// Lets the first round go with the requests for locks, if it may run as soon as its shard has
    /// locked: nobody else has a say, or it only reads. What is a group has to be announced before it
    /// writes.
    fn prepare(&mut self, txn: &mut Txn, cx: &mut Context) {
        let alone = txn.parties.len() == 1;
        let lockless = txn.parties.iter().all(|party| party.wants.is_empty());
        (txn.next, txn.reading, txn.first) = (0, None, None);
        if (alone && !txn.is_group) || lockless || txn.first_round_reads() {
            txn.first = Some(self.fill_round(txn, cx));
        }
        txn.releases = lockless || (alone && txn.is_at_end());
    }

    /// A participant has answered.
    pub(super) fn judged(&mut self, verdict: Verdict, cx: &mut Context) {
        let Some(mut txn) = self.txns.remove(&verdict.txn) else {
            return;
        };
        let at = txn.parties.iter().position(|party| party.shard == verdict.shard);
        let at = at.expect("only participants are asked");
        let is_busy = matches!(verdict.answer, Answer::Busy);
        let party = &mut txn.parties[at];
        party.holds = !is_busy && !txn.releases && !party.wants.is_empty();
        match verdict.answer {
            Answer::Granted(results) => txn.take_results(results),
            Answer::Changed => txn.changed = true,
            Answer::Refused(error) => txn.refusal = Some(error),
            Answer::Busy => {}
        }
        match txn.phase {
            Phase::All { missing, busy } => {
                let (missing, busy) = (missing - 1, busy | is_busy);
                if missing > 0 {
                    txn.phase = Phase::All { missing, busy };
                    self.txns.insert(txn.id, txn);
                } else if txn.changed || txn.refusal.is_some() {
                    self.abort(txn, cx);
                } else if busy || is_outdated(&txn, cx) {
                    self.begin_again(txn, cx);
                } else {
                    self.locked(txn, cx);
                }
            }
            Phase::Ordered(_) if txn.changed || txn.refusal.is_some() => self.abort(txn, cx),
            Phase::Ordered(_) if is_outdated(&txn, cx) => self.begin_again(txn, cx),
            Phase::Ordered(at) if at + 1 < txn.parties.len() => {
                self.ask_in_order(txn, at + 1, cx);
            }
            Phase::Ordered(_) => self.locked(txn, cx),
            Phase::Running(_) => unreachable!("all verdicts were in"),
        }
    }

    /// Not all locks can be had like this: what is held is released, and it begins again, in the order
    /// that is in force now.
    fn begin_again(&mut self, mut txn: Txn, cx: &mut Context) {
        txn.release_all(cx);
        txn.forget_results();
        if cx.is_following {
            return self.ask_all(txn, cx);
        }
        txn.is_relayed = false;
        self.prepare(&mut txn, cx);
        self.ask_in_order(txn, 0, cx);
    }

    /// All locks are held. If the first round went with the requests, it is over.
    fn locked(&mut self, mut txn: Txn, cx: &mut Context) {
        let holders = txn.parties.iter().filter(|party| party.holds).count();
        if txn.is_group && holders > 0 && !broken(Rule::Announce) {
            txn.is_announced = true;
            cx.post.say_here(Message::Announce(txn.id, holders as u32));
        }
        match txn.first.take() {
            Some(_) => self.round_over(txn, cx),
            None => self.round_over_or_next(txn, cx),
        }
    }

    // ---- running -----------------------------------------------------------------------------

    /// Fills the next round: pending writes, then calls up to one that has to read first, or one on
    /// the session.
    fn fill_round(&self, txn: &mut Txn, cx: &Context) -> Works {
        let mut works = Works::new(self.layout.shards());
        if let Some(client) = cx.clients.get(txn.client) {
            txn.caller = client.session.caller();
        }
        for (at, write) in txn.writes.drain(..) {
            let Planned { call, site: Site::Across(_, keys), .. } = &txn.calls[at] else {
                unreachable!("only across commands write later")
            };
            let (shard, db) = keys[write.key];
            let (act, caller) = (Act::Data(Step::Part(write.handler)), txn.caller.in_db(db));
            let unit = Unit::new(at, DISCARDED, act, call.command, caller);
            works.to(shard).add(unit, write.args.iter().map(Vec::as_slice));
        }
        while txn.reading.is_none()
            && let Some(planned) = txn.calls.get_mut(txn.next)
            && !matches!(planned.site, Site::Session)
        {
            let at = txn.next;
            let (command, caller) = (planned.call.command, txn.caller.in_db(planned.db));
            planned.resp3 = caller.resp3;
            let args = Args::new(&planned.call.bytes, &planned.call.spans);
            let unit = |part, act| Unit::new(at, part, act, command, caller);
            txn.next += 1;
            match &planned.site {
                Site::Session => unreachable!("looked for above"),
                Site::One(shard) => {
                    works.to(*shard).add(unit(0, Act::Data(Step::Whole)), args.iter());
                }
                Site::Parts(handler, gather, owners) => {
                    let parts = execute::parts(command, &args).zip(owners);
                    works.share(parts, |shard| unit(shard, Act::Each(*handler, *gather)));
                }
                Site::Watch(owners) => {
                    let parts = (0..args.len()).map(|i| args.range(i, 1)).zip(owners);
                    works.share(parts, |shard| unit(shard, Act::Watch));
                }
                Site::All(handler, _) => {
                    for shard in 0..works.0.len() {
                        let act = Act::Data(Step::Part(*handler));
                        works.to(shard).add(unit(shard, act), args.iter());
                    }
                }
                Site::Sessions(handler, _) => {
                    let asker = cx.clients.session_id(txn.client);
                    for shard in 0..works.0.len() {
                        let act = Act::Sessions(*handler, asker);
                        works.to(shard).add(unit(shard, act), args.iter());
                    }
                }
                Site::Across(across, keys) => {
                    txn.reading = Some(at);
                    for (i, (shard, db)) in keys.iter().enumerate() {
                        let act = Act::Data(Step::Read(across, i));
                        let mut unit = unit(i, act);
                        unit.caller = caller.in_db(*db);
                        works.to(*shard).add(unit, args.iter());
                    }
                }
            }
        }
        works
    }

    /// Sends the next round; the last one releases.
    fn run_round(&mut self, mut txn: Txn, cx: &mut Context) {
        let mut works = self.fill_round(&mut txn, cx);
        let release = txn.is_at_end();
        let known = release && cx.answers_early && works.units().all(|unit| txn.is_known(unit));
        let mut missing = 0;
        for party in &mut txn.parties {
            let work = works.take(party.shard);
            let answer = !known && !work.is_empty();
            if work.is_empty() && !(release && party.holds) {
                continue;
            }
            // Who has nothing to release says no end of its part either.
            let is_announced = txn.is_announced && party.holds;
            party.holds &= !release;
            missing += usize::from(answer);
            let id = txn.id;
            let order = Do { txn: id, work, release, answer, is_announced };
            cx.post.say(party.shard, Message::Do(Box::new(order)));
        }
        if missing == 0 {
            return self.round_over(txn, cx);
        }
        txn.phase = Phase::Running(missing);
        self.txns.insert(txn.id, txn);
    }

    /// A participant has run its part of a round.
    pub(super) fn done(&mut self, txn: TxnId, results: Results, cx: &mut Context) {
        let Some(mut txn) = self.txns.remove(&txn) else {
            return;
        };
        txn.take_results(results);
        let Phase::Running(missing) = &mut txn.phase else { unreachable!("results of a round") };
        *missing -= 1;
        if *missing > 0 {
            self.txns.insert(txn.id, txn);
        } else {
            self.round_over(txn, cx);
        }
    }

    /// All results of a round are here: an across command decides, and on it goes.
    fn round_over(&mut self, mut txn: Txn, cx: &mut Context) {
        if let Some(at) = txn.reading.take() {
            txn.decide(at);
        }
        if txn.is_at_end() && txn.walks_on(self.layout.shards()) {
            return self.run_round(txn, cx);
        }
        self.round_over_or_next(txn, cx);
    }

    /// Runs the session commands whose place has come; then ends the transaction, or sends the next
    /// round.
    fn round_over_or_next(&mut self, mut txn: Txn, cx: &mut Context) {
        while txn.writes.is_empty()
            && let Some(planned) = txn.calls.get(txn.next)
            && let Site::Session = planned.site
        {
            // What came before it is counted and logged before it.
            txn.write_up_to(txn.next, cx);
            let call = &txn.calls[txn.next].call;
            let args = Args::new(&call.bytes, &call.spans);
            cx.group = txn.is_announced.then_some((txn.id, txn.next as u32));
            txn.ticks += run_session(txn.client, call.command, &args, &mut txn.out, cx);
            cx.group = None;
            txn.next += 1;
            txn.written = txn.next;
        }
        if txn.is_at_end() {
            txn.release_all(cx);
            finish(txn, &self.layout, cx);
        } else {
            self.run_round(txn, cx);
        }
    }

    /// A watched key had changed, or a shard may not run it: nothing has run.
    fn abort(&mut self, mut txn: Txn, cx: &mut Context) {
        txn.release_all(cx);
        let mut out = ReplyBuf::default();
        let is_exec = matches!(txn.goal, Goal::Exec);
        if let (Goal::Inner, Some(error)) = (&txn.goal, &txn.refusal) {
            return cx.post.say(self.number, Message::Concluded(Err(error.clone())));
        }
        match txn.refusal.take() {
            None => {
                Reply::new(&mut out, txn.caller.resp3).null_array();
                count_exec(&txn, cx);
            }
            Some(error) => {
                let first = txn.calls.first().map(|planned| planned.call.command);
                let (command, error) = if is_exec {
                    let text = format!("EXECABORT Transaction discarded because of: {error}");
                    (command::declared("EXEC"), Error::owned(text))
                } else {
                    (first, error)
                };
                cx.observer.count_rejected(command, &error);
                Reply::new(&mut out, txn.caller.resp3).error(&error);
            }
        }
        conclude(txn, &out, &self.layout, cx);
    }
}

/// Tells the client, and lets its next commands run.
fn finish(mut txn: Txn, layout: &Layout, cx: &mut Context) {
    cx.observer.lap();
    let end = txn.calls.len();
    match &txn.goal {
        Goal::Exec => {
            txn.write_up_to(end, cx);
            count_exec(&txn, cx);
        }
        Goal::Walk(walk) if txn.calls.iter().all(Planned::is_fine) => {
            walk.write(&mut txn.out, txn.caller.resp3);
            for Planned { call, ticks, .. } in &txn.calls {
                let took = ticks + txn.ticks + cx.observer.lap();
                cx.observer.count_call(cx.clients, txn.client, call, took, &txn.out, 0);
            }
        }
        Goal::Single | Goal::Walk(_) => txn.write_up_to(end, cx),
        Goal::Inner => {
            let failed = txn.calls.iter().any(|planned| !planned.is_fine());
            let result = if failed { Err(Error::text("ERR a shard refused")) } else { Ok(()) };
            cx.post.say(locks::home(txn.id), Message::Concluded(result));
            return;
        }
        Goal::Watch => {
            for planned in &txn.calls {
                watch(txn.client, planned, &txn.results, layout, cx);
            }
            Reply::new(&mut txn.out, txn.caller.resp3).ok();
        }
    }
    let out = std::mem::take(&mut txn.out);
    conclude(txn, &out, layout, cx);
}

/// The client watches the keys of a call from now on, as their owners have told.
fn watch(
    client: ClientKey,
    planned: &Planned,
    results: &[Results],
    layout: &Layout,
    cx: &mut Context,
) {
    let Site::Watch(owners) = &planned.site else { unreachable!("a WATCH was planned as one") };
    let mut told: SmallVec<[&[u8]; 16]> = SmallVec::from_elem(&[][..], layout.shards());
    for (at, part) in &planned.parts {
        told[part.part as usize] = &results[*at].replies.bytes()[part.from..part.to];
    }
    let args = Args::new(&planned.call.bytes, &planned.call.spans);
    let watches = args.iter().zip(owners).map(|(key, owner)| {
        let told = &mut told[usize::from(*owner)];
        let (version, rest) = told.split_first_chunk().expect("a version for each key");
        *told = rest;
        Watch { db: planned.db, key: key.into(), version: u64::from_le_bytes(*version) }
    });
    match cx.clients.get_mut(client) {
        Some(state) => {
            let watched = &mut state.session.watched;
            let begins = watched.is_empty();
            watched.extend(watches);
            if begins && !watched.is_empty() {
                cx.clients.begins_watching();
            }
        }
        // It has gone in the meantime.
        None => watches.for_each(|watch| {
            let owner = layout.owner(&watch.key);
            cx.post.say(owner, Message::Unwatch(watch));
        }),
    }
}

/// Whether a transaction of several shards has asked for its locks before another server was followed.
fn is_outdated(txn: &Txn, cx: &Context) -> bool {
    cx.is_following && !txn.is_relayed && txn.parties.len() > 1 && !broken(Rule::BeginAgain)
}

/// Says on what shards are to be asked, in the order in which it is heard. Nobody waits any more for what
/// has been on its way since before this server ceased to follow another.
pub(super) fn relay(asks: Vec<(usize, Box<Ask>)>, cx: &mut Context) {
    for (shard, mut ask) in asks {
        ask.wait &= cx.is_following;
        cx.post.say(shard, Message::Ask(ask));
    }
}

/// The flags of all calls together: what one may be refused for, all are; what one needs not to be, all
/// need.
fn flags_of(calls: &[Call]) -> u32 {
    let any = calls.iter().fold(0, |flags, call| flags | call.command.flags);
    let all = calls.iter().fold(DOING_WITHOUT, |flags, call| flags & call.command.flags);
    any & !DOING_WITHOUT | all
}

fn count_exec(txn: &Txn, cx: &mut Context) {
    if let Goal::Exec = txn.goal {
        cx.observer.count_exec(txn.ticks);
    }
}

fn conclude(txn: Txn, reply: &ReplyBuf, layout: &Layout, cx: &mut Context) {
    let client = txn.client;
    unwatch(txn.watched, layout, cx);
    cx.clients.keep_promise(client, txn.seq, reply, (0, reply.mark()));
    if let Some(state) = cx.clients.get_mut(client)
        && std::mem::take(&mut state.held)
    {
        state.session.db_after = None;
        cx.clients.resume(client);
    }
}

/// Tells the owners that a client of ours no longer watches these keys.
pub(super) fn unwatch(watched: Vec<Watch>, layout: &Layout, cx: &mut Context) {
    if !watched.is_empty() {
        cx.clients.ends_watching();
    }
    for watch in watched {
        cx.post.say(layout.owner(&watch.key), Message::Unwatch(watch));
    }
}

#[cfg(test)]
mod tests {
    use super::super::alone::{Alone, call};
    use super::*;

    fn coordinator(alone: &Alone) -> Coordinator {
        Coordinator::new(0, Arc::clone(&alone.instance().layout), 1)
    }

    fn granted(txn: TxnId, shard: usize) -> Verdict {
        Verdict { txn, shard, answer: Answer::Granted(Results::default()) }
    }

    /// The transaction that shards 0 and 1 have just been asked to lock for.
    fn asked(alone: &mut Alone) -> TxnId {
        let (here, there) = (alone.said_here(), alone.said_to(1));
        match (&here[..], &there[..]) {
            ([Message::Ask(here)], [Message::Ask(there)]) if here.txn == there.txn => here.txn,
            other => panic!("not asked once each: {other:?}"),
        }
    }

    // `foo` is shard 1's, `bar` shard 0's (`base/slot.rs` has their slots).
    const MSET: &str = "MSET foo 1 bar 2";

    #[test]
    fn a_write_is_known_when_all_have_granted() {
        let mut alone = Alone::new(2);
        let (mut coordinator, client) = (coordinator(&alone), alone.connect());
        let calls = vec![call(MSET)];
        coordinator.begin(client, Goal::Single, calls, Vec::new(), &mut alone.cx());
        let txn = asked(&mut alone);
        assert!(alone.clients.get(client).is_some_and(|client| client.held));
        coordinator.judged(granted(txn, 1), &mut alone.cx());
        assert_eq!((alone.replies(client), coordinator.len()), (String::new(), 1));
        coordinator.judged(granted(txn, 0), &mut alone.cx());
        assert_eq!((alone.replies(client).as_str(), coordinator.len()), ("+OK\r\n", 0));
        assert_eq!(alone.clients.take_resumed(), [client]);
        let releases = |said: Vec<Message>| matches!(&said[..], [Message::Do(order)] if order.release && !order.answer);
        let mut said = alone.said_here();
        assert!(matches!(said.remove(0), Message::Announce(announced, 2) if announced == txn));
        assert!(releases(said) && releases(alone.said_to(1)));
    }

    #[test]
    fn one_refusal_ends_it_before_anything_has_run() {
        let mut alone = Alone::new(2);
        let (mut coordinator, client) = (coordinator(&alone), alone.connect());
        for (goal, reply) in [
            (Goal::Single, "-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
            (
                Goal::Exec,
                "-EXECABORT Transaction discarded because of: OOM command not allowed \
                          when used memory > 'maxmemory'.\r\n",
            ),
        ] {
            let calls = vec![call(MSET)];
            coordinator.begin(client, goal, calls, Vec::new(), &mut alone.cx());
            let txn = asked(&mut alone);
            coordinator.judged(granted(txn, 0), &mut alone.cx());
            let answer = Answer::Refused(Error::OutOfMemory);
            coordinator.judged(Verdict { txn, shard: 1, answer }, &mut alone.cx());
            for said in [alone.said_here(), alone.said_to(1)] {
                let [Message::Do(order)] = &said[..] else { panic!("not released: {said:?}") };
                assert!(order.release && order.work.is_empty());
            }
            assert!(alone.replies(client).ends_with(reply), "{}", alone.replies(client));
        }
    }

    #[test]
    fn where_somebody_is_busy_all_are_asked_again_in_order() {
        let mut alone = Alone::new(2);
        let (mut coordinator, client) = (coordinator(&alone), alone.connect());
        let calls = vec![call(MSET)];
        coordinator.begin(client, Goal::Single, calls, Vec::new(), &mut alone.cx());
        let txn = asked(&mut alone);
        coordinator.judged(granted(txn, 1), &mut alone.cx());
        let busy = Verdict { txn, shard: 0, answer: Answer::Busy };
        coordinator.judged(busy, &mut alone.cx());
        // Shard 1 lets go; shard 0 is asked first, and may wait.
        assert!(matches!(&alone.said_to(1)[..], [Message::Do(order)] if order.release));
        assert!(matches!(&alone.said_here()[..], [Message::Ask(ask)] if ask.wait));
        coordinator.judged(granted(txn, 0), &mut alone.cx());
        assert!(matches!(&alone.said_to(1)[..], [Message::Ask(ask)] if ask.wait));
        coordinator.judged(granted(txn, 1), &mut alone.cx());
        assert_eq!(alone.replies(client), "+OK\r\n");
    }
}

//! A transaction under way, as its coordinator knows it.

use super::client::ClientKey;
use super::execute;
use super::gather;
use super::message::{Ask, Do, Message, Results, Unit, Work};
use super::participant::Context;
use super::plan::{Party, Planned, Site};
use super::walk::Walk;
use crate::base::error::Error;
use crate::command::{Gather, Write};
use crate::resp::{Args, Reply, ReplyBuf};
use crate::session::Watch;
use crate::shard::caller::Caller;
use crate::shard::locks::{Mode, TxnId};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// What the client is told in the end.
#[derive(Debug)]
pub(super) enum Goal {
    /// The reply of the only command.
    Single,
    /// An array of all replies, or nothing if a watched key changed.
    Exec,
    /// That it watches the keys of the only command now.
    Watch,
    /// What a SCAN found.
    Walk(Walk),
    /// Nobody is told but the node: the server runs it by itself.
    Inner,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// All were asked at once, to lock or to wait for it; so many verdicts are missing, and whether
    /// somebody was busy.
    All { missing: usize, busy: bool },
    /// Asked one after another; this participant is next to answer.
    Ordered(usize),
    /// Locked; so many results of the round are missing.
    Running(usize),
}

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Txn {
    pub(super) id: TxnId,
    pub(super) client: ClientKey,
    pub(super) seq: u32,
    /// The client's circumstances, as of the last round.
    pub(super) caller: Caller,
    pub(super) goal: Goal,
    pub(super) calls: Vec<Planned>,
    pub(super) parties: SmallVec<[Party; 4]>,
    /// The flags of all calls together.
    pub(super) flags: u32,
    pub(super) phase: Phase,
    /// Whether its requests go through the shard that leads.
    pub(super) is_relayed: bool,
    /// The first call of the next round.
    pub(super) next: usize,
    /// The across command whose reading half is in the round under way.
    pub(super) reading: Option<usize>,
    /// What an across command has decided to write, for the next round.
    pub(super) writes: VecDeque<(usize, Write)>,
    /// The first round, where it goes with the requests for locks.
    pub(super) first: Option<Works>,
    /// Whether the requests say to release at once after running.
    pub(super) releases: bool,
    /// What running has given so far; [`Planned::parts`] says what lies where.
    pub(super) results: Vec<Results>,
    /// Whether its effects are a group of the stream: it writes, and on several shards or in several
    /// steps.
    pub(super) is_group: bool,
    /// Whether that has been announced.
    pub(super) is_announced: bool,
    /// Whether a watched key had changed.
    pub(super) changed: bool,
    /// Why a participant may not run it.
    pub(super) refusal: Option<Error>,
    /// The keys the client watched: its watch ends with the transaction, not before its checks.
    pub(super) watched: Vec<Watch>,
    /// The replies of the first calls, as far as they have been written, and how many those are.
    pub(super) out: ReplyBuf,
    pub(super) written: usize,
    /// What planning took, in ticks; with what the written calls took.
    pub(super) ticks: u64,
}

/// The part number of a write whose reply nobody looks at.
pub(super) const DISCARDED: usize = u32::MAX as usize;

impl Txn {
    /// The request for one participant.
    pub(super) fn ask(&mut self, at: usize, wait: bool) -> (usize, Box<Ask>) {
        let party = &self.parties[at];
        let work = self.first.as_mut().map(|works| works.take(party.shard)).unwrap_or_default();
        let checks = party.checks.iter().map(|at| self.watched[*at as usize].clone()).collect();
        let (txn, flags, release) = (self.id, self.flags, self.releases);
        let ask = Ask { txn, wait, wants: party.wants.clone(), checks, flags, work, release };
        (party.shard, Box::new(ask))
    }

    /// Whether the first round changes nothing, so that it can be repeated or given up.
    pub(super) fn first_round_reads(&self) -> bool {
        for planned in &self.calls {
            match planned.site {
                Site::Session | Site::Across(..) => return true,
                // It leaves a mark: an attempt that is refused elsewhere must not.
                Site::Watch(_) => return false,
                _ if execute::mode(planned.call.command) == Mode::Exclusive => return false,
                _ => {}
            }
        }
        true
    }

    pub(super) fn release_all(&mut self, cx: &mut Context) {
        for party in &mut self.parties {
            if std::mem::take(&mut party.holds) {
                let work = Work::default();
                let (txn, is_announced) = (self.id, self.is_announced);
                let order = Do { txn, work, release: true, answer: false, is_announced };
                cx.post.say(party.shard, Message::Do(Box::new(order)));
            }
        }
    }

    /// Whether a SCAN goes on with another shard; the next round is ready then.
    pub(super) fn walks_on(&mut self, shards: usize) -> bool {
        let (Goal::Walk(walk), Some(planned)) = (&mut self.goal, self.calls.first_mut()) else {
            return false;
        };
        let Some((at, part)) = planned.parts.first() else {
            return false;
        };
        let reply = &self.results[*at].replies.bytes()[part.from..part.to];
        let Some(next) = walk.step(&mut planned.call, reply, shards) else {
            return false;
        };
        planned.site = Site::One(next);
        self.next = 0;
        self.forget_results();
        true
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.next == self.calls.len() && self.reading.is_none() && self.writes.is_empty()
    }

    /// Whether a part's reply is known before it runs: MSET's parts cannot fail.
    pub(super) fn is_known(&self, unit: &Unit) -> bool {
        let planned = &self.calls[unit.call as usize];
        unit.part == DISCARDED as u32 || matches!(planned.site, Site::Parts(_, Gather::Ok, _))
    }

    /// Writes and counts the replies of calls that have run, up to one of them. What planning took
    /// counts for the only call there is, or for the EXEC.
    pub(super) fn write_up_to(&mut self, end: usize, cx: &mut Context) {
        let Txn { out, results, calls, .. } = self;
        if let (Goal::Exec, 0) = (&self.goal, self.written) {
            Reply::new(out, self.caller.resp3).array(calls.len());
        }
        for planned in &mut calls[self.written..end] {
            let from = out.mark();
            gather::write(planned, results, out);
            let took = planned.ticks + cx.observer.lap();
            let all = match self.goal {
                Goal::Exec => took,
                _ => took + std::mem::take(&mut self.ticks),
            };
            cx.observer.count_call(cx.clients, self.client, &planned.call, all, out, from);
            self.ticks += took;
        }
        self.written = end;
    }

    pub(super) fn take_results(&mut self, results: Results) {
        let at = self.results.len();
        for part in &results.of {
            let planned = &mut self.calls[part.call as usize];
            planned.ticks += part.ticks;
            if part.part != DISCARDED as u32 {
                planned.parts.push((at, *part));
            }
        }
        self.results.push(results);
    }

    pub(super) fn forget_results(&mut self) {
        self.results.clear();
        for planned in &mut self.calls {
            planned.parts.clear();
        }
    }

    /// An across command has read all its keys: its reply, and what it writes.
    pub(super) fn decide(&mut self, at: usize) {
        let planned = &mut self.calls[at];
        let Site::Across(across, _) = planned.site else { unreachable!("only these read first") };
        planned.parts.sort_by_key(|(_, part)| part.part);
        let mut out = ReplyBuf::default();
        if let Some((replies, part)) = planned.failure(&self.results) {
            out.append(replies, part.from, part.to);
        } else {
            let results = &self.results;
            let parts = planned.parts.iter();
            let read = parts.map(|(at, part)| &results[*at].replies.bytes()[part.from..part.to]);
            let read: Vec<&[u8]> = read.collect();
            let args = Args::new(&planned.call.bytes, &planned.call.spans);
            let (mut writes, resp3) = (Vec::new(), planned.resp3);
            let decided =
                (across.finish)(&args, &read, &mut writes, &mut Reply::new(&mut out, resp3));
            match decided {
                Ok(()) => self.writes.extend(writes.into_iter().map(|write| (at, write))),
                Err(error) => {
                    out.clear();
                    Reply::new(&mut out, resp3).error(&error);
                }
            }
        }
        planned.reply = Some(out);
    }
}

/// Work by shard.
#[derive(Debug)]
pub(super) struct Works(pub(super) Vec<Work>);

impl Works {
    pub(super) fn new(shards: usize) -> Works {
        Works((0..shards).map(|_| Work::default()).collect())
    }

    pub(super) fn to(&mut self, shard: usize) -> &mut Work {
        &mut self.0[shard]
    }

    /// Adds one part for each shard that owns a key: `unit` makes it of the shard's number.
    pub(super) fn share<'a>(
        &mut self,
        keys: impl Iterator<Item = (Args<'a>, &'a u16)>,
        unit: impl Fn(usize) -> Unit,
    ) {
        let mut begun: SmallVec<[bool; 16]> = SmallVec::from_elem(false, self.0.len());
        for (args, owner) in keys {
            let shard = usize::from(*owner);
            let work = &mut self.0[shard];
            if !std::mem::replace(&mut begun[shard], true) {
                work.add(unit(shard), std::iter::empty());
            }
            work.extend(args.iter());
        }
    }

    pub(super) fn take(&mut self, shard: usize) -> Work {
        std::mem::take(&mut self.0[shard])
    }

    pub(super) fn units(&self) -> impl Iterator<Item = &Unit> {
        self.0.iter().flat_map(|work| &work.units)
    }
}

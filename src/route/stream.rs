//! One stream of all shards' journals, for replicas: made on the shard that leads.
//!
//! Sans-IO: fed with chunks and with how far each shard has said what it journaled, it gives bytes.
//!
//! # What it promises
//!
//! 1. No effect stands before its cause. A write whose reply somebody has received stands before
//!    whatever is sent afterwards, by whomever; a PUBLISH behind its client's earlier commands.
//! 2. What is done to one key stands in the order in which it was done.
//! 3. A command or a transaction that has several effects stands as one MULTI/EXEC, over however many
//!    shards.
//! 4. What all shards do at one moment (SWAPDB) stands there once.
//! 5. What a snapshot has seen stands before its [`Merged::Barrier`], and nothing else.
//!
//! Commands of one pipeline that run on different shards are not ordered among each other, except in
//! MULTI; nor are they for clients ([`super`]).
//!
//! # How
//!
//! **Order.** A shard that has journaled something in a turn says it to the leading shard in that turn's
//! batch, and the leader hears batches in the order in which it runs them, its own turn last. That order
//! is causal already ([`super::mailbox`]): if one effect is the cause of another, its batch was published
//! before the other's was stamped, so who takes the other takes it too, and runs it first. The leader's
//! own effects come behind all that it had taken, and nothing that it had taken is an effect of them.
//! So chunks go out in the order in which they are heard: no stamps are compared, nobody has to say
//! that he has nothing to say, and what one shard journals need not wait for what others do.
//!
//! What it costs (`benches/micro.rs`, a busy machine of two cores): a SET of 64 B that is journaled takes
//! 140 ns more, 110 ns a chunk to merge whatever its size, 155 ns a group of two such SETs, which are
//! copied: 1.3 GB/s.
//!
//! **Groups.** What a transaction does on several shards stands where it was announced: by its
//! coordinator's shard, in the turn in which it had all locks and before anything was sent out
//! ([`super::coordinator`]). Whatever was done before to what it locks was done before the grants, which
//! are a cause of that turn; whatever is done afterwards, and whatever its client sends when it has
//! been answered, is an effect of it. In between nothing else is done to
//! what is locked: no key expires there by itself ([`crate::shard::Shard::housekeep`]), and what expires
//! on its way belongs to the group. (The place of its first part would not do: MSET is answered before
//! any part runs, and what its client sends then may run on a third shard before that.) The stream waits
//! there until every party has said that it has done its part, with or without effect; that is as long
//! as the transaction takes. Parts stand in the order of the transaction's calls.
//!
//! **Barriers.** The cut of a snapshot holds every shard whole, so no group is on both sides of it, but
//! shards cut one after another: what one journals after its cut may be heard before another's. All
//! that shards have before their barriers goes first, then the barrier, then all else, in the order in
//! which it was heard. (What comes after a barrier is no cause of what is before one: whoever could act
//! upon it has heard of the cut first.)

use super::message::Message;
use super::node::Node;
use super::requests::LEADER;
use super::rules::{Rule, broken};
use crate::base::limits;
use crate::shard::journal::{self, Chunk, Mark, Part, Piece};
use crate::shard::locks::TxnId;
use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

/// What the stream consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// Whole commands.
    Bytes(Bytes),
    /// The moment of a snapshot. What follows begins with a SELECT.
    Barrier,
}

/// See the module's head.
#[derive(Debug)]
pub struct Merger {
    lanes: Vec<Lane>,
    groups: HashMap<TxnId, Group, ahash::RandomState>,
    /// The database that the stream is in; none where a SELECT has to follow.
    db: Option<usize>,
    /// Bytes of commands that are here and not out.
    held: usize,
    /// How many chunks have been heard.
    heard: u64,
    /// The time at which something was here that could not go out, and nothing has gone since.
    stalled_since: Option<u64>,
}

/// One shard's journal.
#[derive(Debug, Default)]
struct Lane {
    /// What is not out, each with its number among all.
    chunks: VecDeque<(u64, Chunk)>,
    /// How many cuts of the first chunk are done with, and whether what comes before the next is out.
    cuts: usize,
    is_given: bool,
    /// Whether it stands at a barrier.
    is_at_barrier: bool,
}

/// A transaction whose parts are gathered.
#[derive(Debug, Default)]
struct Group {
    /// Parties that have done their part.
    ended: u32,
    /// Their effects: the command's place in the transaction, the database, the command.
    effects: Vec<(u32, usize, Bytes)>,
}

impl Merger {
    /// Of so many shards.
    pub fn new(shards: usize) -> Merger {
        Merger {
            lanes: (0..shards).map(|_| Lane::default()).collect(),
            groups: HashMap::with_hasher(crate::base::hash::state().clone()),
            db: None,
            held: 0,
            heard: 0,
            stalled_since: None,
        }
    }

    /// Takes in what a shard has journaled in a turn, in the order of its turns.
    pub fn feed(&mut self, shard: usize, chunk: Chunk) {
        self.held += chunk.len();
        for Part { txn, call, db, command } in &chunk.parts {
            let effect = (*call, *db, chunk.part_bytes.slice(command.clone()));
            self.groups.entry(*txn).or_default().effects.push(effect);
        }
        for txn in &chunk.ends {
            self.groups.entry(*txn).or_default().ended += 1;
        }
        // What it did for others is with them.
        if !chunk.bytes.is_empty() || !chunk.cuts.is_empty() {
            self.heard += 1;
            self.lanes[shard].chunks.push_back((self.heard, chunk));
        }
    }

    /// How many chunks have been heard.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// How many of those are out, up to the first that is not.
    pub fn out_to(&self) -> u64 {
        let first = self.lanes.iter().filter_map(Lane::head).min();
        first.map_or(self.heard, |number| number - 1)
    }

    /// Whether something is here that is not out.
    pub fn is_waiting(&self) -> bool {
        self.held > 0 || self.lanes.iter().any(|lane| !lane.chunks.is_empty())
    }

    /// Bytes of commands that are here and not out.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Since when, in monotonic nanoseconds, nothing has gone out though something is here.
    pub fn stalled_since(&self) -> Option<u64> {
        self.stalled_since
    }

    /// Gives all that can go out, in order.
    pub fn take(&mut self, now_ns: u64, mut out: impl FnMut(Merged)) {
        let mut has_moved = false;
        while let Some(shard) = self.next_lane() {
            let lane = &mut self.lanes[shard];
            let (_, chunk) = lane.chunks.front().expect("chosen by it");
            let (piece, mark) = match chunk.cuts.get(lane.cuts) {
                Some(cut) => (cut.piece, Some(cut.mark)),
                None => (chunk.tail, None),
            };
            if !std::mem::replace(&mut lane.is_given, true) {
                has_moved = true;
                let start = lane.cuts.checked_sub(1).map_or(0, |at| chunk.cuts[at].piece.end);
                let bytes = chunk.bytes.slice(start..piece.end);
                self.give(bytes, piece, &mut out);
            }
            if let Some(Mark::Announce { txn, parties }) = mark
                && self.groups.get(&txn).map_or(0, |group| group.ended) < parties
                && !broken(Rule::EndParts)
            {
                break;
            }
            has_moved = true;
            self.step(shard, mark.is_none());
            match mark {
                Some(Mark::Announce { txn, .. }) => self.give_group(txn, &mut out),
                Some(Mark::Barrier) => self.come_to_barrier(shard, &mut out),
                None => {}
            }
        }
        self.stalled_since = match self.is_waiting() {
            true if has_moved => Some(now_ns),
            true => self.stalled_since.or(Some(now_ns)),
            false => None,
        };
    }

    /// The shard whose first chunk is next.
    fn next_lane(&self) -> Option<usize> {
        let ahead = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.is_at_barrier);
        let heads = ahead.filter_map(|(shard, lane)| Some((lane.head()?, shard)));
        heads.min().map(|(_, shard)| shard)
    }

    /// A piece of a shard's first chunk is done with, which is the last of it or not.
    fn step(&mut self, shard: usize, is_last: bool) {
        let lane = &mut self.lanes[shard];
        lane.is_given = false;
        lane.cuts += 1;
        if is_last {
            lane.cuts = 0;
            lane.chunks.pop_front();
        }
    }

    fn give(&mut self, bytes: Bytes, piece: Piece, out: &mut impl FnMut(Merged)) {
        if bytes.is_empty() {
            return;
        }
        self.held -= bytes.len();
        if self.db != Some(piece.first_db) {
            let mut select = BytesMut::new();
            journal::select(&mut select, piece.first_db);
            out(Merged::Bytes(select.freeze()));
        }
        self.db = Some(piece.last_db);
        out(Merged::Bytes(bytes));
    }

    /// A group as one transaction; alone if it is one command, nothing if it is none.
    fn give_group(&mut self, txn: TxnId, out: &mut impl FnMut(Merged)) {
        let Some(mut group) = self.groups.remove(&txn) else { return };
        // Stable: what one shard did for one call stays in its order.
        group.effects.sort_by_key(|(call, ..)| *call);
        let len: usize = group.effects.iter().map(|(.., command)| command.len()).sum();
        self.held -= len;
        let Some((_, first, _)) = group.effects.first() else { return };
        let mut bytes = BytesMut::with_capacity(len + GROUP_EXTRA);
        let mut db = self.db;
        if db != Some(*first) {
            journal::select(&mut bytes, *first);
            db = Some(*first);
        }
        let is_several = group.effects.len() > 1;
        if is_several {
            journal::multi(&mut bytes);
        }
        for (_, of, command) in &group.effects {
            if db != Some(*of) {
                journal::select(&mut bytes, *of);
                db = Some(*of);
            }
            bytes.extend_from_slice(command);
        }
        if is_several {
            journal::exec(&mut bytes);
        }
        self.db = db;
        out(Merged::Bytes(bytes.freeze()));
    }

    /// A shard has come to its barrier; when all have, it is passed.
    fn come_to_barrier(&mut self, shard: usize, out: &mut impl FnMut(Merged)) {
        self.lanes[shard].is_at_barrier = true;
        if self.lanes.iter().all(|lane| lane.is_at_barrier) || broken(Rule::Barrier) {
            self.lanes.iter_mut().for_each(|lane| lane.is_at_barrier = false);
            self.db = None;
            out(Merged::Barrier);
        }
    }
}

impl Lane {
    /// The number of its first chunk.
    fn head(&self) -> Option<u64> {
        self.chunks.front().map(|(number, _)| *number)
    }
}

/// What a group takes in the stream beside its effects: MULTI, EXEC, and SELECTs.
const GROUP_EXTRA: usize = 64;

impl Node {
    /// Whether effects are journaled here.
    #[inline]
    pub fn is_journaled(&mut self) -> bool {
        self.participant.shard.journal().is_on()
    }

    /// Journals a command of a client here that changes no data and is to be heard all the same
    /// (PUBLISH), in the place where it is said.
    pub fn journal_command(&mut self, db: usize, words: &[&[u8]]) {
        self.coordinate(|_, cx| cx.journal_command(db, words));
        self.hear_local();
    }

    /// The first step of [`Node::end_turn`]: what was journaled is said to the shard that leads.
    #[inline]
    pub fn close_journal(&mut self) {
        let journal = self.participant.shard.journal();
        if journal.is_on() {
            self.say_journal();
        } else if let Some(merger) = &mut self.merger
            && merger.heard > 0
        {
            // It is over. What others may still say was journaled before.
            **merger = Merger::new(merger.lanes.len());
            let progress = &self.instance.replication().progress;
            progress.held.store(0, Ordering::Relaxed);
            progress.stalled_since_ns.store(0, Ordering::Relaxed);
        }
    }

    fn say_journal(&mut self) {
        let Some(chunk) = self.participant.shard.journal().take() else { return };
        match &mut self.merger {
            Some(merger) => merger.feed(LEADER, chunk),
            None => self.post.say(LEADER, Message::Journal(Box::new(chunk))),
        }
    }

    /// Another shard has said what it has journaled.
    pub(super) fn hear_journal(&mut self, from: usize, chunk: Chunk) {
        if self.is_journaled()
            && let Some(merger) = &mut self.merger
        {
            merger.feed(from, chunk);
        }
    }

    /// Gives what is to be sent to replicas: on the shard that leads, after [`Node::end_turn`].
    pub fn take_merged(&mut self, out: impl FnMut(Merged)) {
        let now_ns = self.now.monotonic_ns;
        if let Some(merger) = self.merger.as_mut().filter(|merger| merger.is_waiting()) {
            merger.take(now_ns, out);
            let progress = &self.instance.replication().progress;
            progress.held.store(merger.held() as u64, Ordering::Relaxed);
            let since_ns = merger.stalled_since().unwrap_or(0);
            progress.stalled_since_ns.store(since_ns, Ordering::Relaxed);
        }
    }

    /// Whether no client's input goes on this turn, since the stream cannot take what it would journal:
    /// too much waits to be put in order, or what was said before has found no room yet. Whatever that
    /// waits for has begun and needs no input.
    pub(super) fn outruns_stream(&mut self) -> bool {
        if !self.is_journaled() {
            return false;
        }
        let held = self.instance.replication().progress.held.load(Ordering::Relaxed);
        held > limits::STREAM_HELD_BYTES || self.post.mail.has_spilled()
    }

    /// How much has been heard of journals, on the shard that leads, between two turns. All that a
    /// client has been told of by then, on whatever shard, is in it: a message that is sent for the
    /// client afterwards is heard behind it. So WAIT asks this at the end of the leader's turn in which
    /// it is heard, and waits until [`Node::merged_to`] says as much.
    pub fn journaled_to(&self) -> u64 {
        self.merger.as_ref().map_or(0, |merger| merger.heard())
    }

    /// How much of [`Node::journaled_to`] has been given by [`Node::take_merged`].
    pub fn merged_to(&self) -> u64 {
        self.merger.as_ref().map_or(0, |merger| merger.out_to())
    }

    /// Whether something has been journaled that is not out, because a transaction or a cut over
    /// several shards is not done yet. Its end is a message to this shard.
    pub fn is_merging(&self) -> bool {
        self.merger.as_ref().is_some_and(|merger| merger.is_waiting())
    }

    /// What the merge has to show, on the shard that leads.
    pub fn merger(&self) -> Option<&Merger> {
        self.merger.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Shard;
    use crate::shard::journal::{Journal, Scope};

    /// Two shards' journals and their merge.
    struct Both {
        shards: [Shard; 2],
        merger: Merger,
    }

    impl Both {
        fn new() -> Both {
            let mut shards = [Shard::new(0, 2, 4), Shard::new(1, 2, 4)];
            shards.iter_mut().for_each(|shard| shard.set_journal_on(true));
            Both { shards, merger: Merger::new(2) }
        }

        /// A turn of a shard.
        fn turn(&mut self, shard: usize, work: impl FnOnce(&mut Journal)) {
            let journal = self.shards[shard].journal();
            work(journal);
            if let Some(chunk) = journal.take() {
                self.merger.feed(shard, chunk);
            }
        }

        /// What can go out, a word for each command's name and first argument.
        fn out(&mut self) -> String {
            let mut out = Vec::new();
            self.merger.take(7, |merged| match merged {
                Merged::Barrier => out.push("|".to_owned()),
                Merged::Bytes(bytes) => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let words = text.split("\r\n").filter(|word| !word.starts_with(['*', '$']));
                    out.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
                }
            });
            out.join(" ")
        }
    }

    fn say(journal: &mut Journal, scope: Scope, db: usize, word: &str) {
        journal.begin(scope);
        journal.effect(db, &[word.as_bytes()]);
    }

    #[test]
    fn what_is_heard_goes_on_as_it_is() {
        let mut both = Both::new();
        both.turn(0, |journal| say(journal, Scope::Unit, 0, "a"));
        both.turn(1, |journal| say(journal, Scope::Unit, 1, "b"));
        both.turn(1, |journal| say(journal, Scope::Unit, 1, "c"));
        assert_eq!((both.merger.heard(), both.merger.out_to()), (3, 0));
        assert_eq!(both.out(), "SELECT 0 a SELECT 1 b c");
        assert!(!both.merger.is_waiting() && both.merger.stalled_since().is_none());
        assert_eq!((both.merger.held(), both.merger.out_to()), (0, 3));
    }

    #[test]
    fn a_group_stands_where_it_was_announced() {
        let mut both = Both::new();
        let part = |call| Scope::Part { txn: 9, call };
        both.turn(0, |journal| {
            say(journal, Scope::Unit, 0, "before");
            journal.announce(9, 2);
            say(journal, part(1), 2, "second");
            journal.end_part(9);
            say(journal, Scope::Unit, 0, "after");
        });
        assert_eq!((both.out().as_str(), both.merger.out_to()), ("SELECT 0 before", 0));
        assert!(both.merger.is_waiting() && both.merger.stalled_since() == Some(7));
        both.turn(1, |journal| {
            say(journal, Scope::Unit, 3, "later");
            say(journal, part(0), 0, "first");
            say(journal, part(2), 2, "third");
            journal.end_part(9);
        });
        let group = "MULTI first SELECT 2 second third EXEC";
        assert_eq!(both.out(), format!("{group} SELECT 0 after SELECT 3 later"));
        // One command needs no MULTI, and none is nothing.
        both.turn(0, |journal| {
            journal.announce(10, 1);
            journal.announce(11, 1);
            say(journal, Scope::Part { txn: 11, call: 0 }, 3, "alone");
            journal.end_part(10);
            journal.end_part(11);
        });
        assert_eq!((both.out().as_str(), both.merger.held()), ("alone", 0));
    }

    #[test]
    fn a_barrier_parts_what_was_before_from_what_came_after() {
        let mut both = Both::new();
        both.turn(0, |journal| {
            say(journal, Scope::Unit, 0, "a");
            journal.barrier();
            say(journal, Scope::Unit, 0, "c");
        });
        both.turn(1, |journal| say(journal, Scope::Unit, 0, "b"));
        assert_eq!(both.out(), "SELECT 0 a b");
        both.turn(1, |journal| journal.barrier());
        assert_eq!(both.out(), "| SELECT 0 c");
    }
}

//! What shards say to each other: one queue per ordered pair of shards, and a publication per
//! sender that makes all batches of a turn visible at once.
//!
//! **Publication** (rule 1 of [`super`]). A sender pushes the batches of turn *t* into its queues
//! and then stores *t* in [`Exchange::published`]. A receiver takes a batch only if its turn is
//! published. A queue that is full spills to a list of the sender's, and the turn of a spilled
//! batch stays unpublished until it is in its queue, and all later turns with it.
//!
//! That cannot lock up: a receiver takes at most [`PART`] of a queue per turn, so what a sender posts
//! to one receiver in one turn (answers to what it took, and a batch of its own) is less than a
//! queue holds, and a queue whose published batches have been taken has room for a whole turn.
//!
//! **The cut** (rule 2). A batch carries a stamp that its sender read after everything that the
//! batch could be an effect of had been collected. A receiver reads its own clock, *then* looks
//! into all queues, and takes exactly the batches stamped no later than that reading. If batch `b`
//! was caused by batch `a`, then `a` was published before `b` was stamped; so a receiver that takes
//! `b` began to look after `a` was published, and takes `a` too, whichever queue it looked into
//! first. Running what was taken in the order of stamps runs `a` before `b`. Where so much waits in
//! one queue that some of it has to stay for the next turn, nothing stamped later than that may run
//! either, from whichever queue: it is kept, and so is the input of the shard's own clients.

use super::batch::Batch;
use super::rules::{Rule, broken};
#[cfg(doc)]
use crate::base::limits;
use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

/// A receiver takes at most a queue's length divided by this from one sender in one turn.
pub const PART: usize = 2;

/// What all shards share.
#[derive(Debug)]
pub struct Exchange {
    shards: Vec<Board>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Board {
    /// The last turn all of whose batches are in their queues.
    published: AtomicU64,
    /// Whether the shard is waiting for something to happen, or about to: a [`Waiting`].
    waiting: AtomicU8,
}

/// How a shard waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Waiting {
    /// Not at all.
    No,
    /// For whatever it has to act upon; what is quiet ([`Batch::is_quiet`]) is not worth waking it.
    Lazily,
    /// For anything.
    Eagerly,
}

impl Exchange {
    /// Says that a shard is about to wait. It must look into its mailbox once more afterwards.
    pub fn set_waiting(&self, shard: usize, waiting: Waiting) {
        self.shards[shard].waiting.store(waiting as u8, Ordering::SeqCst);
        // Orders the store before the look that follows; the other half is in `claim_wake`.
        fence(Ordering::SeqCst);
    }

    /// Whether a shard has to be woken for what was just published; true for one caller only.
    /// `is_quiet`: nothing but what it can do without until it wakes by itself.
    pub fn claim_wake(&self, shard: usize, is_quiet: bool) -> bool {
        fence(Ordering::SeqCst);
        let waiting = &self.shards[shard].waiting;
        let least = if is_quiet { Waiting::Eagerly } else { Waiting::Lazily };
        waiting.load(Ordering::Relaxed) >= least as u8
            && waiting.swap(Waiting::No as u8, Ordering::SeqCst) != Waiting::No as u8
    }
}

/// A shard's two sides of the exchange.
#[derive(Debug)]
pub struct Mailbox {
    me: usize,
    exchange: Arc<Exchange>,
    outgoing: Vec<Option<Outgoing>>,
    incoming: Vec<Option<Consumer<Box<Batch>>>>,
    /// The turn whose batches are being collected.
    turn: u64,
    /// Batches taken from one sender in one turn, at most.
    per_turn: usize,
    /// Allocations to reuse.
    spare: Vec<Box<Batch>>,
    /// Batches posted and taken, in all.
    moved: u64,
    /// Whom this turn's batches go to, to be woken, and whether all of them are quiet.
    posted: Vec<(usize, bool)>,
}

#[derive(Debug)]
struct Outgoing {
    queue: Producer<Box<Batch>>,
    spill: VecDeque<Box<Batch>>,
    /// Answers of this turn, then the batch being filled.
    answers: Vec<Box<Batch>>,
    batch: Option<Box<Batch>>,
}

/// Mailboxes for so many shards, with queues of so many batches: [`limits::MAILBOX_BATCHES`] unless
/// a test wants them to overflow.
///
/// # Panics
/// When the queues are shorter than two turns' worth, which could lock up.
pub fn exchange(shards: usize, batches: usize) -> Vec<Mailbox> {
    assert!(batches >= PART);
    let exchange = Arc::new(Exchange { shards: (0..shards).map(|_| Board::default()).collect() });
    let mut boxes: Vec<Mailbox> = (0..shards)
        .map(|me| Mailbox {
            me,
            exchange: Arc::clone(&exchange),
            outgoing: (0..shards).map(|_| None).collect(),
            incoming: (0..shards).map(|_| None).collect(),
            turn: 1,
            per_turn: batches / PART,
            spare: Vec::new(),
            moved: 0,
            posted: Vec::new(),
        })
        .collect();
    for from in 0..shards {
        for to in (0..shards).filter(|to| *to != from) {
            let (queue, consumer) = RingBuffer::new(batches);
            let (spill, answers) = (VecDeque::new(), Vec::new());
            boxes[from].outgoing[to] = Some(Outgoing { queue, spill, answers, batch: None });
            boxes[to].incoming[from] = Some(consumer);
        }
    }
    boxes
}

impl Mailbox {
    /// What all shards share.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// The batch that is being filled for a shard.
    #[inline]
    pub fn batch(&mut self, to: usize) -> &mut Batch {
        let out = self.outgoing[to].as_mut().expect("a shard does not write to itself");
        out.batch.get_or_insert_with(|| {
            let mut batch = self.spare.pop().unwrap_or_default();
            batch.from = self.me;
            batch
        })
    }

    /// Returns a batch to its sender, with its replies.
    pub fn answer(&mut self, mut batch: Box<Batch>) {
        batch.is_answer = true;
        let to = std::mem::replace(&mut batch.from, self.me);
        let out = self.outgoing[to].as_mut().expect("a shard does not write to itself");
        out.answers.push(batch);
    }

    /// Keeps a batch's allocation for reuse.
    pub fn recycle(&mut self, mut batch: Box<Batch>) {
        // A few per peer are in use at any time; one that grew large is not worth keeping.
        if self.spare.len() < 2 * self.outgoing.len() && batch.reset() {
            self.spare.push(batch);
        }
    }

    /// Whether anything is waiting to be posted or published.
    pub fn has_outgoing(&self) -> bool {
        self.outgoing
            .iter()
            .flatten()
            .any(|out| out.batch.is_some() || !out.answers.is_empty() || !out.spill.is_empty())
    }

    /// Posts this turn's batches to one shard, unpublished. `stamp`: see the module's head.
    pub fn post(&mut self, to: usize, stamp: u64) {
        let Some(out) = &mut self.outgoing[to] else {
            return;
        };
        let (mut posted, mut is_quiet) = (false, true);
        for mut batch in out.answers.drain(..).chain(out.batch.take()) {
            (batch.stamp, batch.turn) = (stamp, self.turn);
            posted = true;
            self.moved += 1;
            is_quiet &= batch.is_quiet;
            out.spill.push_back(batch);
        }
        while let Some(batch) = out.spill.pop_front() {
            if let Err(PushError::Full(batch)) = out.queue.push(batch) {
                out.spill.push_front(batch);
                break;
            }
        }
        if posted {
            self.posted.push((to, is_quiet));
        }
    }

    /// Publishes what has been posted and ends the turn. Returns whether all of it is visible now:
    /// if not, no reply of this turn may go to a client yet.
    pub fn publish(&mut self) -> bool {
        let spilled = self.outgoing.iter().flatten().filter_map(|out| out.spill.front());
        let oldest = spilled.map(|batch| batch.turn).min();
        let oldest = if broken(Rule::Spill) { None } else { oldest };
        let published = oldest.map_or(self.turn, |turn| turn - 1);
        self.exchange.shards[self.me].published.store(published, Ordering::Release);
        self.turn += 1;
        oldest.is_none()
    }

    /// The shards that were posted to and have to be woken.
    pub fn wakes(&mut self) -> impl Iterator<Item = usize> {
        let exchange = &self.exchange;
        let posted = self.posted.drain(..);
        posted.filter(|(to, is_quiet)| exchange.claim_wake(*to, *is_quiet)).map(|(to, _)| to)
    }

    /// Takes what one shard has published with a stamp of at most `cut`, of which `kept` batches
    /// have been taken in an earlier turn and not run. Returns the stamp of the first that has to
    /// stay all the same, because there are so many.
    pub fn collect_from(
        &mut self,
        from: usize,
        cut: u64,
        kept: usize,
        taken: &mut Vec<Box<Batch>>,
    ) -> Option<u64> {
        let queue = self.incoming[from].as_mut()?;
        let published = self.exchange.shards[from].published.load(Ordering::Acquire);
        let mut room = self.per_turn - kept;
        loop {
            match queue.peek() {
                Ok(batch) if batch.turn <= published && batch.stamp <= cut => {
                    if room == 0 {
                        return Some(batch.stamp);
                    }
                }
                _ => return None,
            }
            taken.push(queue.pop().expect("just seen"));
            self.moved += 1;
            room -= 1;
        }
    }

    /// Whether anything published is waiting here.
    pub fn has_mail(&self) -> bool {
        self.incoming.iter().zip(&self.exchange.shards).any(|(queue, board)| {
            queue.as_ref().is_some_and(|queue| {
                let published = board.published.load(Ordering::Acquire);
                queue.peek().is_ok_and(|batch| batch.turn <= published)
            })
        })
    }

    /// Whether something posted has found no room yet.
    pub fn has_spilled(&self) -> bool {
        self.outgoing.iter().flatten().any(|out| !out.spill.is_empty())
    }

    /// How many batches wait to be taken here, and how many found no room elsewhere.
    pub fn depths(&self) -> (usize, usize) {
        let waiting = self.incoming.iter().flatten().map(Consumer::slots).sum();
        (waiting, self.outgoing.iter().flatten().map(|out| out.spill.len()).sum())
    }

    /// How many batches have been posted and taken here, in all: where that stands still, nothing
    /// has been said and nothing heard.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.outgoing.len()
    }
}

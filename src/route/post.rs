//! A shard's post: what it says to others and to itself, and what of theirs it has taken and not
//! yet acted upon.

use super::batch::Batch;
use super::mailbox::Mailbox;
use super::message::Message;
use super::rules::{Rule, broken};
use std::collections::VecDeque;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Post {
    number: usize,
    pub(super) mail: Mailbox,
    /// Messages from this shard to itself.
    local: VecDeque<Message>,
    /// Mail taken and not yet run, in the order of stamps as far as it was kept.
    taken: Vec<Box<Batch>>,
    /// How much of `taken` is left from an earlier turn, because something earlier is untaken.
    kept: usize,
    /// The oldest mail of this turn that could not be taken: nothing later runs.
    untaken: u64,
    /// Parts of transactions that have been sent out, to be run ([`Message::Do`]).
    pub(super) parts_sent: u64,
    /// Whether nobody's input goes on this turn: some shard is asked for so much already, or not all
    /// mail that may be a cause of it has run.
    pub(super) input_waits: bool,
}

impl Post {
    /// The post of shard `number`.
    pub(super) fn new(number: usize, mail: Mailbox) -> Post {
        Post {
            number,
            mail,
            local: VecDeque::new(),
            taken: Vec::new(),
            kept: 0,
            untaken: u64::MAX,
            parts_sent: 0,
            input_waits: false,
        }
    }

    /// How many shards there are.
    #[inline]
    pub(super) fn shards(&self) -> usize {
        self.mail.shards()
    }

    /// Says something to a shard, this one included.
    pub(super) fn say(&mut self, to: usize, message: Message) {
        self.parts_sent += u64::from(matches!(message, Message::Do(_)));
        if to == self.number {
            self.local.push_back(message);
        } else {
            self.mail.batch(to).items.push(message);
        }
    }

    /// Says something to this shard.
    pub(super) fn say_here(&mut self, message: Message) {
        self.local.push_back(message);
    }

    /// Lets nobody's input go on this turn if a shard is asked for as much as it can take in one.
    pub(super) fn hold_input_if_full(&mut self, to: usize) {
        self.input_waits |= to != self.number && self.mail.batch(to).is_full();
    }

    /// This shard.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The next of what this shard has said to itself.
    pub(super) fn next_local(&mut self) -> Option<Message> {
        self.local.pop_front()
    }

    /// Takes the mail of one shard up to a cut.
    pub(super) fn collect_from(&mut self, from: usize, cut: u64) {
        let cut = if broken(Rule::Cut) { u64::MAX } else { cut };
        let kept = self.taken[..self.kept].iter().filter(|batch| batch.from == from).count();
        if let Some(stamp) = self.mail.collect_from(from, cut, kept, &mut self.taken)
            && !broken(Rule::Backlog)
        {
            self.untaken = self.untaken.min(stamp);
            self.input_waits = true;
        }
    }

    /// Whether mail has been taken that has not run.
    pub(super) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Whether no mail has been taken that has not run, nor anything said to itself.
    pub(super) fn is_idle(&self) -> bool {
        self.taken.is_empty() && self.local.is_empty()
    }

    /// What has been taken, in the order it runs in, and how much of it runs now; what is left is to
    /// be given to [`Post::keep`].
    pub(super) fn take(&mut self) -> (Vec<Box<Batch>>, usize) {
        let mut taken = std::mem::take(&mut self.taken);
        if !broken(Rule::StampOrder) {
            // Stable: batches of one sender keep their order.
            taken.sort_by_key(|batch| batch.stamp);
        }
        let runs = match std::mem::replace(&mut self.untaken, u64::MAX) {
            u64::MAX => taken.len(),
            // Of its own time too: those are its neighbours from the same turn of the same sender.
            untaken => taken.partition_point(|batch| batch.stamp <= untaken),
        };
        (taken, runs)
    }

    /// Keeps what could not run this turn. Returns whether there is any.
    pub(super) fn keep(&mut self, taken: Vec<Box<Batch>>) -> bool {
        self.kept = taken.len();
        self.taken = taken;
        self.kept > 0
    }
}

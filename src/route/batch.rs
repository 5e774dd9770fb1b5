//! What travels between shards: one batch per destination and turn. Argument bytes lie in one
//! buffer with compact descriptors; replies are appended to another; the same allocation goes back
//! to its sender with the replies in it and is used again.

use super::order::Message;
use crate::base::limits;
use crate::command::Command;
use crate::resp::{Args, ReplyBuf, Span};
use std::sync::Arc;

/// Names a client of a shard: its place, and a count that tells it from those who had it before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// Its place.
    pub index: u32,
    /// Its generation.
    pub generation: u32,
}

/// A command for the receiver to run.
#[derive(Debug)]
pub struct RunItem {
    /// Whose it is.
    pub client: ClientKey,
    /// Which of the client's promised replies this makes.
    pub seq: u32,
    /// The client's database.
    pub db: u16,
    /// Whether the client speaks RESP3.
    pub resp3: bool,
    /// Whether its commands leave alone when keys were last used.
    pub no_touch: bool,
    /// Whether the reply will come later, in an [`Item::Late`]: the command waits for a lock.
    pub late: bool,
    /// The command.
    pub command: &'static Command,
    /// The hash of its first key.
    pub hash: u64,
    /// Its arguments: the first span and how many.
    pub args: (u32, u32),
    /// Once it has run: where its reply lies.
    pub reply: (usize, usize),
    /// Once it has left where it was made: bytes of it that need not be sent any more.
    pub sent: usize,
    /// Once it has run: how long that took, in [`crate::base::ticks`].
    pub ticks: u64,
}

/// One thing in a batch. Their order is the order in which the sender's clients said them.
#[derive(Debug)]
pub enum Item {
    /// A command; answered in the same batch.
    Run(RunItem),
    /// A message about a multi-shard command; answered, if at all, by a message of its own.
    Order(Box<Message>),
    /// The reply to a command of an earlier batch that had to wait: its place in this batch's own
    /// replies.
    Late(ClientKey, u32, (usize, usize)),
    /// Bytes for a client beside its replies. Shared, not copied: several clients get the same, and
    /// it may be longer than a batch should be.
    Push(ClientKey, Claim, Arc<[u8]>),
    /// A command that had waited took long, in ticks: the client's shard logs it.
    Slow(ClientKey, u64, Box<crate::command::Call>),
    /// A client of the sender no longer watches a key.
    Unwatch(u16, u32),
}

/// As what a client gets an [`Item::Push`]: who has ceased to be that gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It monitors.
    Monitor,
}

/// Where a client's replies leave, opaque on this floor: see [`super::departure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlet(pub u64);

/// See the module's head.
#[derive(Debug, Default)]
pub struct Batch {
    /// The shard it comes from: while it is filled, and as an answer, the one that posted it.
    pub from: usize,
    /// Whether it is an answer: its commands have run.
    pub is_answer: bool,
    /// When its sender had collected everything that could be its cause (monotonic nanoseconds).
    pub stamp: u64,
    /// The sender's turn.
    pub turn: u64,
    /// What is in it.
    pub items: Vec<Item>,
    /// Arguments' bytes.
    pub bytes: Vec<u8>,
    /// Arguments.
    pub spans: Vec<Span>,
    /// Replies.
    pub replies: ReplyBuf,
    /// Outlets for the replies to the first items: all of them leave there, or none.
    pub outlets: Vec<Outlet>,
    /// Whether its sender can wait for this answer until it looks by itself.
    pub is_quiet: bool,
}

/// A batch with more memory than this is freed after use instead of kept.
const KEEP_BYTES: usize = 256 * 1024;

impl Batch {
    /// Adds arguments; returns where.
    #[inline]
    pub fn add_args(&mut self, args: &Args) -> (u32, u32) {
        let first = self.spans.len() as u32;
        args.copy_to(&mut self.bytes, &mut self.spans);
        (first, args.len() as u32)
    }

    /// The arguments at a place.
    #[inline]
    pub fn args(&self, (first, count): (u32, u32)) -> Args<'_> {
        Args::new(&self.bytes, &self.spans[first as usize..(first + count) as usize])
    }

    /// Whether so much is in it that no more should be added this turn.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.bytes.len() > limits::BATCH_BYTES || self.items.len() >= limits::BATCH_ITEMS
    }

    /// Forgets its content and keeps its memory; says whether that is worth keeping.
    pub fn reset(&mut self) -> bool {
        self.items.clear();
        self.bytes.clear();
        self.spans.clear();
        self.replies.clear();
        self.outlets.clear();
        self.is_answer = false;
        self.is_quiet = false;
        self.bytes.capacity() + self.replies.capacity() + self.spans.capacity() * 8 <= KEEP_BYTES
    }
}

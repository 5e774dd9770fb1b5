//! What travels between shards: one batch per destination and turn. Argument bytes lie in one
//! buffer with compact descriptors; replies are appended to another; the same allocation goes back
//! to its sender with the replies in it and is used again.

use super::client::Outlet;
use super::message::Message;
use crate::base::limits;
use crate::resp::{Args, ReplyBuf, Span};

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
    pub items: Vec<Message>,
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

//! The journal: effects in the order they happened here, for whoever replicates or logs them.
//!
//! What is journaled is the effect, not the wish: `SET k v EX 10` leaves as `SET k v PXAT …`,
//! INCRBYFLOAT as the SET of its result, an expired key as its DEL. Frames of one multi-shard
//! command carry its transaction's id, so that a reader can put the parts together again; others
//! carry 0. Nobody reads yet: while the journal is off, each effect costs one branch.
//!
//! A turn's effects are taken as one [`Chunk`], which whoever reads them shares without a copy.

use super::locks::TxnId;
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Monotonic nanoseconds, read after the input that caused the effect was collected.
    pub stamp: u64,
    /// The multi-shard transaction it belongs to, or 0.
    pub txn: TxnId,
    /// The database.
    pub db: usize,
    /// Where the command lies in [`Chunk::bytes`], as a RESP array of bulks.
    pub command: Range<usize>,
}

/// Effects that were taken together.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// Which, in order.
    pub frames: Vec<Frame>,
    /// Their commands.
    pub bytes: Bytes,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Journal {
    on: bool,
    bytes: BytesMut,
    frames: Vec<Frame>,
    /// What frames written now carry.
    stamp: u64,
    txn: TxnId,
    /// Whether the command under way has said itself what its effect is.
    said: bool,
}

impl Journal {
    /// Starts or stops recording.
    pub(super) fn set_on(&mut self, on: bool) {
        self.on = on;
    }

    /// Whether effects are recorded.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Sets the stamp of the turn that begins.
    pub fn set_stamp(&mut self, stamp: u64) {
        self.stamp = stamp;
    }

    /// Begins a command, as part of a transaction (or of none: 0).
    #[inline]
    pub fn begin(&mut self, txn: TxnId) {
        self.txn = txn;
        self.said = false;
    }

    /// Records an effect in place of the command as it came.
    pub fn effect(&mut self, db: usize, words: &[&[u8]]) {
        self.said = true;
        if self.on {
            self.record(db, words.iter().copied());
        }
    }

    /// Records the command as it came, unless it has said what its effect is.
    pub fn command<'a>(&mut self, db: usize, words: impl ExactSizeIterator<Item = &'a [u8]>) {
        if self.on && !self.said {
            self.record(db, words);
        }
    }

    /// Records something that happened beside the command under way (a key that expired).
    pub fn aside(&mut self, db: usize, words: &[&[u8]]) {
        if self.on {
            self.record(db, words.iter().copied());
        }
    }

    fn record<'a>(&mut self, db: usize, words: impl ExactSizeIterator<Item = &'a [u8]>) {
        let start = self.bytes.len();
        let mut number = itoa::Buffer::new();
        let out = &mut self.bytes;
        let mut header = |out: &mut BytesMut, sigil: u8, n: usize| {
            out.extend_from_slice(&[sigil]);
            out.extend_from_slice(number.format(n).as_bytes());
            out.extend_from_slice(b"\r\n");
        };
        header(out, b'*', words.len());
        for word in words {
            header(out, b'$', word.len());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
        let command = start..self.bytes.len();
        self.frames.push(Frame { stamp: self.stamp, txn: self.txn, db, command });
    }

    /// Takes what has been recorded since this was called last.
    pub fn take(&mut self) -> Chunk {
        Chunk { frames: std::mem::take(&mut self.frames), bytes: self.bytes.split().freeze() }
    }
}

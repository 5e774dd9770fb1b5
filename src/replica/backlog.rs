//! The end of the stream, kept for replicas that come back, and for those that have yet to be sent it:
//! blocks of shared bytes, found by their offset.
//!
//! A long piece is kept as it is and shared with whoever sends it; short ones are copied together, so
//! that a stream of short commands is not a list of millions of pieces.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Bytes of a piece from which on it is kept as it is.
const WHOLE_BYTES: usize = 4 * 1024;
/// Bytes of a block, at most: so much more than was asked for may be kept.
const BLOCK_BYTES: usize = 8 * 1024;

/// See the module's head.
#[derive(Debug)]
pub struct Backlog {
    /// Blocks, the first first, each with the offset of its first byte.
    blocks: VecDeque<(u64, Bytes)>,
    /// The block that is being filled, which is the last, and how much of it has been given away.
    filling: BytesMut,
    start: u64,
    end: u64,
}

impl Backlog {
    /// One that begins at an offset, which is that of the first byte that comes.
    pub fn new(offset: u64) -> Backlog {
        let (blocks, filling) = (VecDeque::new(), BytesMut::new());
        Backlog { blocks, filling, start: offset, end: offset }
    }

    /// The offset of the first byte that is kept.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The offset of the byte that comes next.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that are kept.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Bytes of memory that they take: it is reserved a block at a time.
    pub fn memory(&self) -> u64 {
        self.len().next_multiple_of(BLOCK_BYTES as u64)
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Whether the stream is here from an offset on, if only what is yet to come of it.
    pub fn has(&self, offset: u64) -> bool {
        (self.start..=self.end).contains(&offset)
    }

    /// More of the stream.
    pub fn push(&mut self, mut piece: Bytes) {
        // So that a part of what is very long can be let go.
        while piece.len() > BLOCK_BYTES {
            self.push(piece.split_to(BLOCK_BYTES));
        }
        if piece.len() >= WHOLE_BYTES {
            self.close_block();
            self.blocks.push_back((self.end, piece.clone()));
        } else {
            if self.filling.len() + piece.len() > BLOCK_BYTES {
                self.close_block();
            }
            self.filling.extend_from_slice(&piece);
        }
        self.end += piece.len() as u64;
    }

    fn close_block(&mut self) {
        if !self.filling.is_empty() {
            let block = self.filling.split().freeze();
            self.blocks.push_back((self.end - block.len() as u64, block));
        }
    }

    /// The stream from an offset on, in pieces of no more than `most` bytes in all; empty if there is
    /// nothing, or if it is not kept.
    pub fn read(&mut self, offset: u64, most: usize, mut take: impl FnMut(Bytes)) -> usize {
        if !self.has(offset) {
            return 0;
        }
        // What is shared cannot be filled any more.
        self.close_block();
        let first = self.blocks.partition_point(|(at, block)| at + block.len() as u64 <= offset);
        let mut taken = 0;
        for (at, block) in self.blocks.range(first..) {
            if taken >= most {
                break;
            }
            let skip = offset.saturating_sub(*at) as usize;
            let some = (block.len() - skip).min(most - taken);
            take(block.slice(skip..skip + some));
            taken += some;
        }
        taken
    }

    /// Lets go of what is older than the last `keep` bytes, but not of what somebody needs from `needed`
    /// on.
    pub fn trim(&mut self, keep: u64, needed: Option<u64>) {
        let wanted = self.end.saturating_sub(keep).min(needed.unwrap_or(u64::MAX));
        while let Some((at, block)) = self.blocks.front()
            && at + block.len() as u64 <= wanted
        {
            self.start = at + block.len() as u64;
            self.blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Random;

    fn read(backlog: &mut Backlog, offset: u64, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let taken = backlog.read(offset, most, |piece| all.extend_from_slice(&piece));
        assert_eq!(taken, all.len());
        all
    }

    #[test]
    fn the_stream_is_found_by_its_offset() {
        let (mut backlog, mut random, mut all) = (Backlog::new(1_000), Random::new(3), Vec::new());
        for _ in 0..if cfg!(miri) { 50 } else { 2_000 } {
            let len = [1, 40, 5_000, 20_000][random.below(4) as usize];
            let piece = vec![random.next_u64() as u8; 1 + random.below(len) as usize];
            all.extend_from_slice(&piece);
            backlog.push(Bytes::from(piece));
            let from = random.below(all.len() as u64 + 1);
            let most = 1 + random.below(60_000) as usize;
            let wanted = &all[from as usize..(from as usize + most).min(all.len())];
            assert!(read(&mut backlog, 1_000 + from, most) == wanted);
        }
        assert_eq!(backlog.end(), 1_000 + all.len() as u64);
        assert!(read(&mut backlog, 999, 10).is_empty());
        let beyond = backlog.end() + 1;
        assert!(read(&mut backlog, beyond, 10).is_empty());
    }

    #[test]
    fn what_is_needed_is_kept() {
        let mut backlog = Backlog::new(0);
        for _ in 0..10 {
            backlog.push(Bytes::from(vec![0; 8_000]));
        }
        backlog.trim(1_000_000, None);
        assert_eq!(backlog.len(), 80_000);
        backlog.trim(15_000, Some(42_000));
        assert_eq!((backlog.start(), backlog.has(42_000)), (40_000, true));
        backlog.trim(15_000, None);
        assert_eq!((backlog.start(), backlog.end()), (64_000, 80_000));
        backlog.trim(0, None);
        assert!(backlog.is_empty() && backlog.has(80_000) && !backlog.has(79_999));
        // Short pieces take no more memory than what they hold.
        for _ in 0..100_000 {
            backlog.push(Bytes::from_static(b"0123456789"));
        }
        assert!(backlog.blocks.len() < 200);
    }
}

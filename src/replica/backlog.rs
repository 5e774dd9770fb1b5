//! The last part of the stream: what it says is kept once, and shared by all replicas that read it, each
//! from where it is.
//!
//! A cursor is an offset. Nothing is copied for who reads; what is pushed in small pieces is copied
//! once, into larger ones, so that neither their number nor what they keep alive grows with them.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// A piece of at least so many bytes stays as it is.
const LARGE: usize = 4 * 1024;

/// Smaller ones are put together as soon as they have so many bytes.
const BLOCK: usize = 16 * 1024;

/// See the module's head.
#[derive(Debug)]
pub struct Backlog {
    /// Each with the offset of its first byte, without gaps.
    blocks: VecDeque<(u64, Bytes)>,
    /// How many at the end are small and may be put together, and their bytes.
    small: usize,
    small_bytes: usize,
    start: u64,
    end: u64,
}

impl Backlog {
    /// An empty one of a stream that has come to an offset.
    pub fn new(offset: u64) -> Backlog {
        Backlog { blocks: VecDeque::new(), small: 0, small_bytes: 0, start: offset, end: offset }
    }

    /// The offset of the first byte that is kept.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The offset of the next byte that will be.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that are kept.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How far a cursor is behind the end.
    pub fn behind(&self, cursor: u64) -> u64 {
        self.end.saturating_sub(cursor)
    }

    /// The stream goes on.
    pub fn push(&mut self, bytes: Bytes) {
        let len = bytes.len();
        if len == 0 {
            return;
        }
        if len >= LARGE {
            self.gather();
        } else {
            self.small += 1;
            self.small_bytes += len;
        }
        self.blocks.push_back((self.end, bytes));
        self.end += len as u64;
        if self.small_bytes >= BLOCK {
            self.gather();
        }
    }

    /// Puts the small pieces at the end together.
    fn gather(&mut self) {
        let (small, bytes) =
            (std::mem::take(&mut self.small), std::mem::take(&mut self.small_bytes));
        if small < 2 {
            return;
        }
        let first = self.blocks.len() - small;
        let mut block = BytesMut::with_capacity(bytes);
        for (_, piece) in self.blocks.range(first..) {
            block.extend_from_slice(piece);
        }
        let start = self.blocks[first].0;
        self.blocks.truncate(first);
        self.blocks.push_back((start, block.freeze()));
    }

    /// What there is from an offset on, piece by piece; nothing where it is not kept.
    pub fn from(&self, offset: u64) -> impl Iterator<Item = Bytes> + '_ {
        let at = self.blocks.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let is_kept = (self.start..self.end).contains(&offset);
        let range = if is_kept { at..self.blocks.len() } else { 0..0 };
        self.blocks.range(range).map(move |(start, bytes)| {
            let skip = usize::try_from(offset.saturating_sub(*start)).unwrap_or(bytes.len());
            bytes.slice(skip.min(bytes.len())..)
        })
    }

    /// Lets go of what lies more than `limit` bytes before the end, but of nothing that one of the
    /// cursors has yet to read.
    pub fn trim(&mut self, limit: u64, cursors: impl Iterator<Item = u64>) {
        let wanted = self.end.saturating_sub(limit);
        let start = cursors.fold(wanted, u64::min);
        if start <= self.start {
            return;
        }
        loop {
            let is_small = self.blocks.len() <= self.small;
            let Some((first, bytes)) = self.blocks.front_mut() else { break };
            let gone = usize::try_from(start - *first).unwrap_or(usize::MAX).min(bytes.len());
            let is_over = gone == bytes.len();
            *first += gone as u64;
            let _ = bytes.split_to(gone);
            if is_small {
                self.small_bytes -= gone;
                self.small -= usize::from(is_over);
            }
            if !is_over {
                break;
            }
            self.blocks.pop_front();
        }
        self.start = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Random;

    fn text(backlog: &Backlog, offset: u64) -> Vec<u8> {
        backlog.from(offset).flatten().collect()
    }

    #[test]
    fn what_is_pushed_is_read_from_any_offset() {
        let mut backlog = Backlog::new(100);
        assert!(backlog.is_empty() && text(&backlog, 100).is_empty());
        for piece in ["one", "", "two", "three"] {
            backlog.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!((backlog.start(), backlog.end(), backlog.len()), (100, 111, 11));
        assert_eq!(text(&backlog, 100), b"onetwothree");
        assert_eq!(text(&backlog, 104), b"wothree");
        assert_eq!(text(&backlog, 111), b"");
        assert_eq!(text(&backlog, 99), b"");
        assert_eq!(text(&backlog, u64::MAX), b"");
        assert_eq!((backlog.behind(104), backlog.behind(200)), (7, 0));
    }

    #[test]
    fn a_read_shares_the_bytes() {
        let mut backlog = Backlog::new(0);
        let large = Bytes::from(vec![7; LARGE]);
        backlog.push(large.clone());
        let read = backlog.from(1).next().expect("there is some");
        assert_eq!(read.as_ptr(), large[1..].as_ptr());
    }

    #[test]
    fn small_pieces_are_put_together() {
        let mut backlog = Backlog::new(0);
        for _ in 0..100_000 {
            backlog.push(Bytes::from_static(&[b'x'; 40]));
        }
        assert!(backlog.blocks.len() < 100_000 * 40 / BLOCK + BLOCK / 40 + 2);
        backlog.push(Bytes::from(vec![b'y'; LARGE]));
        assert_eq!(backlog.small, 0);
        assert_eq!(text(&backlog, 0).len(), 4_000_000 + LARGE);
    }

    #[test]
    fn what_a_cursor_needs_is_not_let_go() {
        let mut backlog = Backlog::new(0);
        (0..100).for_each(|_| backlog.push(Bytes::from_static(b"0123456789")));
        backlog.trim(300, [250, 800].into_iter());
        assert_eq!((backlog.start(), backlog.len()), (250, 750));
        backlog.trim(300, std::iter::once(255));
        assert_eq!(text(&backlog, 255)[..7], *b"5678901");
        backlog.trim(300, std::iter::empty());
        assert_eq!((backlog.start(), text(&backlog, 700).len()), (700, 300));
        backlog.trim(1000, std::iter::empty());
        assert_eq!(backlog.start(), 700, "what has gone does not come back");
        backlog.trim(0, std::iter::empty());
        assert!(backlog.is_empty() && backlog.start() == 1000);
        backlog.push(Bytes::from_static(b"more"));
        assert_eq!(text(&backlog, 1000), b"more");
    }

    /// Against a plain vector, with pieces of all sizes and cuts at all places.
    #[test]
    fn it_is_a_window_of_the_stream() {
        let mut random = Random::new(7);
        let (mut backlog, mut stream) = (Backlog::new(0), Vec::new());
        for round in 0..2_000 {
            let most = if round % 9 == 0 { 3 * LARGE } else { 200 };
            let piece: Vec<u8> =
                (0..random.below(most as u64)).map(|_| random.next_u64() as u8).collect();
            stream.extend_from_slice(&piece);
            backlog.push(piece.into());
            if random.below(4) == 0 {
                let cursor = random.below(stream.len() as u64 + 1).max(backlog.start());
                backlog.trim(random.below(100_000), std::iter::once(cursor));
            }
            let at = backlog.start() + random.below(backlog.len() + 1);
            assert_eq!(backlog.end(), stream.len() as u64);
            assert!(text(&backlog, at) == stream[at as usize..], "round {round}");
            let small: usize =
                backlog.blocks.iter().rev().take(backlog.small).map(|(_, b)| b.len()).sum();
            assert_eq!(backlog.small_bytes, small, "round {round}");
        }
    }
}

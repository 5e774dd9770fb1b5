//! The buckets of one segment: a few chunks of 16 buckets (1 KiB) each.
//!
//! Chunks, and not one allocation per segment, because segments of a table grow at about the same
//! time and by a quarter each: as arrays of 4, 5, 6, 7 and 8 KiB they left 22 bytes per key of
//! over-aligned and half-freed memory behind (5 M keys, RSS). Chunks are all alike, so what one
//! segment gives back fits the next.

use super::bucket::Bucket;
use smallvec::SmallVec;
use std::ops::{Index, IndexMut};

/// Buckets in a chunk.
pub const CHUNK: usize = 16;

#[derive(Debug, Default)]
struct Chunk([Bucket; CHUNK]);

/// See the module's head.
#[derive(Debug, Default)]
pub struct Buckets(SmallVec<[Box<Chunk>; 8]>);

impl Buckets {
    /// So many empty buckets, rounded up to whole chunks.
    pub fn new(count: usize) -> Buckets {
        Buckets((0..count.div_ceil(CHUNK)).map(|_| Box::default()).collect())
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len() * CHUNK
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Bucket> {
        self.0.iter_mut().flat_map(|chunk| &mut chunk.0)
    }

    /// The bucket at an index, if there is one.
    pub fn get(&self, index: usize) -> Option<&Bucket> {
        self.0.get(index / CHUNK).map(|chunk| &chunk.0[index % CHUNK])
    }
}

impl Index<usize> for Buckets {
    type Output = Bucket;
    #[inline]
    fn index(&self, index: usize) -> &Bucket {
        &self.0[index / CHUNK].0[index % CHUNK]
    }
}

impl IndexMut<usize> for Buckets {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut Bucket {
        &mut self.0[index / CHUNK].0[index % CHUNK]
    }
}

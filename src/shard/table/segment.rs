//! A segment: a small open-addressing table of its own, for the keys of one stretch of hash order.
//!
//! A key's home bucket is monotone in its hash, so the buckets of all segments, one after another,
//! are the whole table in hash order; that is what SCAN walks. A key that finds its home full goes
//! to the next bucket with room (the first follows the last), and every bucket it went past counts
//! it. So a search stops at the first bucket that nobody went past, and a removal leaves no
//! tombstone.
//!
//! Beside the buckets, once any key here has an expiry, lies one byte per place that says roughly
//! when ([`crate::shard::expiry`]).

use super::bucket::{Bucket, Lent, LentMut, Mark, PLACES, prefetch, tag};
use super::buckets::{Buckets, CHUNK};
use crate::base::hash;
use crate::shard::entry::Entry;
use crate::shard::expiry::Codes;

/// Bits of a hash below the directory's that place a key in its segment.
const FRACTION_BITS: u32 = 24;

/// Sizes in buckets that a growing segment takes; an empty one has none. The last five are close
/// together: with doubling alone a table that has just grown is half empty, and since hashes spread
/// evenly all segments grow at about the same time. This way 70 to 87 % of the places are in use
/// between the worst and the best moment, for about two more moves per key in its life.
const SIZES: [usize; 7] = [CHUNK, 2 * CHUNK, 4 * CHUNK, 5 * CHUNK, 6 * CHUNK, 7 * CHUNK, 8 * CHUNK];

/// Places in use, in percent, at which a segment grows or splits. At nine to a bucket, 87 % costs
/// a found key 1.15 lines on average.
const FULL_PERCENT: usize = 87;

/// Where a key lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The bucket.
    pub bucket: u32,
    /// The place in it.
    pub place: u32,
}

impl Spot {
    fn index(self) -> usize {
        self.bucket as usize * PLACES + self.place as usize
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Segment {
    buckets: Buckets,
    /// How many of the hash's top bits all keys here share.
    depth: u8,
    len: u32,
    /// One expiry code per place, if any key here has ever had an expiry.
    codes: Option<Box<Codes>>,
}

impl Segment {
    /// An empty segment for keys that share `depth` top bits.
    pub fn new(depth: u8) -> Segment {
        Segment { buckets: Buckets::default(), depth, len: 0, codes: None }
    }

    /// How many top bits of the hash all keys here share.
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// Keys.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Places.
    pub fn places(&self) -> usize {
        self.buckets.len() * PLACES
    }

    /// Buckets.
    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// Bytes of the segment's own memory.
    pub fn memory(&self) -> usize {
        size_of::<Segment>()
            + self.buckets.len() * size_of::<Bucket>()
            + self.codes.as_ref().map_or(0, |codes| codes.memory())
    }

    /// The expiry codes, if any key here has had an expiry.
    pub fn codes_mut(&mut self) -> Option<&mut Codes> {
        self.codes.as_deref_mut()
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        let fraction = (hash << self.depth) >> (64 - FRACTION_BITS);
        ((fraction * self.buckets.len() as u64) >> FRACTION_BITS) as usize
    }

    #[inline]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// Fetches the line a search for `hash` begins with.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if self.len == 0 {
            return;
        }
        prefetch(std::ptr::from_ref(&self.buckets[self.home(hash)]));
    }

    /// Fetches the block that a search for `hash` will most likely compare first.
    #[inline]
    pub fn prefetch_block(&self, hash: u64) {
        if self.len == 0 {
            return;
        }
        let bucket = &self.buckets[self.home(hash)];
        let mask = bucket.matches(tag(hash));
        if mask != 0 {
            bucket.prefetch_block(mask.trailing_zeros() as usize);
        }
    }

    /// Finds a key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Spot> {
        let tag = tag(hash);
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut mask = bucket.matches(tag);
            while mask != 0 {
                let place = mask.trailing_zeros();
                if bucket.get(place as usize).key() == key {
                    return Some(Spot { bucket: at as u32, place });
                }
                mask &= mask - 1;
            }
            if !bucket.overflows() {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// The entry at a spot.
    #[inline]
    pub fn get(&self, spot: Spot) -> Lent<'_> {
        self.buckets[spot.bucket as usize].get(spot.place as usize)
    }

    /// The entry at a spot, to be changed.
    #[inline]
    pub fn get_mut(&mut self, spot: Spot) -> LentMut<'_> {
        self.buckets[spot.bucket as usize].get_mut(spot.place as usize)
    }

    /// Whether another key means growing or splitting first.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() * 100 >= self.places() * FULL_PERCENT
    }

    /// Whether the segment is as large as one gets.
    pub fn is_largest(&self) -> bool {
        self.buckets.len() >= SIZES[SIZES.len() - 1]
    }

    /// Puts a key that is not here yet. There must be room.
    pub fn insert(&mut self, hash: u64, entry: Entry, code: u8, mark: Mark) -> Spot {
        let mut at = self.home(hash);
        let place = loop {
            if let Some(place) = self.buckets[at].free() {
                break place;
            }
            self.buckets[at].pass();
            at = self.after(at);
        };
        self.buckets[at].put(place, tag(hash), entry, mark);
        self.len += 1;
        let spot = Spot { bucket: at as u32, place: place as u32 };
        if code != 0 {
            self.set_code(spot, code);
        }
        spot
    }

    /// Takes a key out.
    pub fn remove(&mut self, hash: u64, spot: Spot) -> Entry {
        let mut at = self.home(hash);
        while at != spot.bucket as usize {
            self.buckets[at].unpass();
            at = self.after(at);
        }
        self.set_code(spot, 0);
        self.len -= 1;
        self.buckets[at].take(spot.place as usize)
    }

    /// Notes roughly when the key at a spot expires; 0 says that it does not.
    pub fn set_code(&mut self, spot: Spot, code: u8) {
        if code != 0 && self.codes.is_none() {
            self.codes = Some(Box::new(Codes::new(self.places())));
        }
        if let Some(codes) = &mut self.codes {
            codes.set(spot.index(), code);
        }
    }

    /// The spot of a code's index.
    pub fn spot(index: usize) -> Spot {
        Spot { bucket: (index / PLACES) as u32, place: (index % PLACES) as u32 }
    }

    /// Moves all keys to the next larger size, and to this one at least.
    pub fn grow(&mut self, least: usize) {
        let now = self.buckets.len();
        let next = SIZES.into_iter().find(|size| *size > now && *size >= least);
        self.resize(next.unwrap_or(now * 2));
    }

    /// How many top bits of the hash keys share, and how large segments are, in a table that has grown
    /// to so many keys.
    pub fn shape_for(keys: usize) -> (u8, usize) {
        let room = |buckets: usize| buckets * PLACES * FULL_PERCENT / 100;
        let largest = SIZES[SIZES.len() - 1];
        let segments = keys.div_ceil(room(largest)).next_power_of_two();
        let each = keys.div_ceil(segments);
        let size = SIZES.into_iter().find(|size| room(*size) >= each);
        (segments.trailing_zeros() as u8, size.unwrap_or(largest))
    }

    /// Moves all keys to the smallest size that leaves a third of room, if that is much smaller.
    pub fn shrink(&mut self) -> bool {
        let wanted = self.len() * 3 / 2 / PLACES + 1;
        let size = SIZES.into_iter().find(|size| *size >= wanted);
        let Some(size) = size.filter(|size| size * 4 <= self.buckets.len() * 3) else {
            return false;
        };
        self.resize(size);
        true
    }

    fn resize(&mut self, count: usize) {
        let old = std::mem::replace(&mut self.buckets, Buckets::new(count));
        let codes = self.codes.take();
        self.len = 0;
        pour(old, codes.as_deref(), |hash, entry, code, mark| {
            self.insert(hash, entry, code, mark);
        });
        if let (Some(old), Some(new)) = (codes, &mut self.codes) {
            new.seen_from(&old);
        }
    }

    /// Splits into the halves whose next bit is 0 and 1. This one becomes the first.
    pub fn split(&mut self) -> Segment {
        let half = self.buckets.len().div_ceil(2);
        let old = std::mem::replace(&mut self.buckets, Buckets::new(half));
        let codes = self.codes.take();
        let bit = 1u64 << (63 - self.depth);
        self.depth += 1;
        self.len = 0;
        let mut other = Segment::new(self.depth);
        other.buckets = Buckets::new(half);
        pour(old, codes.as_deref(), |hash, entry, code, mark| {
            let target = if hash & bit == 0 { &mut *self } else { &mut other };
            // Hashes spread evenly, but nothing promises it.
            if target.len() == target.places() {
                target.grow(0);
            }
            target.insert(hash, entry, code, mark);
        });
        if let Some(old) = codes {
            for new in [&mut self.codes, &mut other.codes].into_iter().flatten() {
                new.seen_from(&old);
            }
        }
        other
    }

    /// Takes in all keys of the other half; the opposite of [`Segment::split`].
    pub fn merge(&mut self, mut other: Segment) {
        let total = self.len() + other.len();
        let wanted = total * 3 / 2 / PLACES + 1;
        let size = SIZES.into_iter().find(|size| *size >= wanted);
        self.depth -= 1;
        self.resize(size.unwrap_or(wanted));
        let (old, codes) = (std::mem::take(&mut other.buckets), other.codes.take());
        pour(old, codes.as_deref(), |hash, entry, code, mark| {
            self.insert(hash, entry, code, mark);
        });
        // The older of the two passes decides: looking twice is harmless, not looking is not.
        if let (Some(old), Some(new)) = (codes, &mut self.codes) {
            new.seen_from(&old);
        }
    }

    /// Calls `visit` for every key whose home is `bucket`.
    pub fn visit_home(&self, bucket: usize, mut visit: impl FnMut(&Entry)) {
        if self.len == 0 {
            return;
        }
        let mut at = bucket;
        for _ in 0..self.buckets.len() {
            let line = &self.buckets[at];
            let mut mask = line.used();
            while mask != 0 {
                let place = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                let entry = line.get(place);
                if self.home(hash::of(entry.key())) == bucket {
                    visit(&entry);
                }
            }
            if !line.overflows() {
                return;
            }
            at = self.after(at);
        }
    }

    /// The mark of the key at a spot.
    #[inline]
    pub fn mark(&self, spot: Spot) -> Mark {
        self.buckets[spot.bucket as usize].mark(spot.place as usize)
    }

    /// Marks the key at a spot.
    #[inline]
    pub fn set_mark(&mut self, spot: Spot, mark: Mark) {
        self.buckets[spot.bucket as usize].set_mark(spot.place as usize, mark);
    }

    /// Marks all keys whose home is `bucket`, and calls `visit` for those that were not marked. Those
    /// of other homes that it meets on the way are marked too: whose home a key has is in its block,
    /// and to visit it now is as good as later.
    pub fn mark_home(&mut self, bucket: usize, mark: Mark, visit: &mut impl FnMut(&Entry)) {
        if self.len == 0 {
            return;
        }
        if let Some(next) = self.buckets.get(bucket + 1) {
            fetch(next, next.without(mark));
        }
        let mut at = bucket;
        for _ in 0..self.buckets.len() {
            let line = &mut self.buckets[at];
            let mut mask = line.without(mark);
            while mask != 0 {
                let place = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                visit(&line.get(place));
                line.set_mark(place, mark);
            }
            if !line.overflows() {
                return;
            }
            at = self.after(at);
        }
    }

    /// Position in hash order, in units of 1/2^24 of this segment, where a bucket's keys begin.
    pub fn bucket_start(&self, bucket: usize) -> u64 {
        debug_assert!(bucket < self.buckets.len());
        ((bucket as u64) << FRACTION_BITS).div_ceil(self.buckets.len() as u64)
    }

    /// The bucket that holds the keys at a position (see [`Segment::bucket_start`]).
    pub fn bucket_at(&self, fraction: u64) -> usize {
        ((fraction * self.buckets.len() as u64) >> FRACTION_BITS) as usize
    }

    /// The spot of an index, if it is in use, for sampling.
    pub fn spot_at(&self, index: usize) -> Option<Spot> {
        let bucket = self.buckets.get(index / PLACES)?;
        let is_used = bucket.used() >> (index % PLACES) & 1 == 1;
        is_used.then(|| Segment::spot(index))
    }

    /// A spot in use, at or after a given index, for sampling.
    pub fn spot_from(&self, index: usize) -> Option<Spot> {
        let count = self.buckets.len();
        if self.len == 0 {
            return None;
        }
        (0..=count).find_map(|step| {
            let at = (index / PLACES + step) % count;
            let from = if step == 0 { index % PLACES } else { 0 };
            let mask = self.buckets[at].used() >> from << from;
            (mask != 0).then(|| Spot { bucket: at as u32, place: mask.trailing_zeros() })
        })
    }

    /// Takes up to `most` keys out in no order; for emptying a table slice by slice.
    pub fn drain(&mut self, most: usize, mut taken: impl FnMut(Entry)) -> usize {
        let mut count = 0;
        for bucket in self.buckets.iter_mut() {
            let mut mask = bucket.used();
            while mask != 0 && count < most {
                taken(bucket.take(mask.trailing_zeros() as usize));
                mask &= mask - 1;
                count += 1;
            }
        }
        self.len -= count as u32;
        count
    }
}

/// Bits of a position within a segment.
pub const POSITION_BITS: u32 = FRACTION_BITS;

/// Asks for the blocks at some places of a bucket.
fn fetch(bucket: &Bucket, mut mask: u32) {
    while mask != 0 {
        bucket.prefetch_block(mask.trailing_zeros() as usize);
        mask &= mask - 1;
    }
}

/// Takes every key out of `buckets`, with its hash, code and mark. Keys are fetched a bucket ahead:
/// their blocks lie all over memory and every one is a cache miss.
fn pour(mut buckets: Buckets, codes: Option<&Codes>, mut take: impl FnMut(u64, Entry, u8, Mark)) {
    if let Some(first) = buckets.get(0) {
        fetch(first, first.used());
    }
    for at in 0..buckets.len() {
        if let Some(next) = buckets.get(at + 1) {
            fetch(next, next.used());
        }
        let mut mask = buckets[at].used();
        while mask != 0 {
            let place = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let mark = buckets[at].mark(place);
            let entry = buckets[at].take(place);
            let code = codes.map_or(0, |codes| codes.get(at * PLACES + place));
            take(hash::of(entry.key()), entry, code, mark);
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        for bucket in self.buckets.iter_mut() {
            let mut mask = bucket.used();
            while mask != 0 {
                drop(bucket.take(mask.trailing_zeros() as usize));
                mask &= mask - 1;
            }
        }
    }
}

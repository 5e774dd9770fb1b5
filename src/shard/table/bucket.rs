//! Nine keys in one cache line.
//!
//! ```text
//! byte 0..9    tags, one per place; 0 = free
//!      9       overflow: how many keys whose search began here or earlier were placed further on
//!     10..64   nine 48-bit block addresses, with a mark in the lowest bit of each
//! ```
//! A lookup reads this line and, if a tag matches, the block: two cache misses. An address in
//! 48 bits instead of 64 is what lets nine fit where seven would: 7.1 bytes per place against 9.1.
//! User-space addresses have 47 bits on x86-64 and 48 on aarch64 unless a program asks `mmap` for
//! more, which nobody here does; `put` checks all the same. Blocks lie at multiples of 8 at least
//! (`shard/entry.rs`), so three bits of an address are always 0: one of them is the key's [`Mark`].
//!
//! A room with `unsafe`: it turns addresses back to entries. The proof is one sentence: an address
//! enters a place only through `put`, which takes the entry, and leaves it only through `take`,
//! which gives it back; `get` and `get_mut` lend it for as long as the bucket is borrowed.

use crate::shard::entry::Entry;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// Places in a bucket.
pub const PLACES: usize = 9;

const OVERFLOW: usize = 9;
const ADDRESSES: usize = 10;
/// The bits of an address that are not the block's.
const MARKS: u64 = 7;
/// A count that has reached this stays: it cannot say any more how many there are.
const OVERFLOW_STUCK: u8 = u8::MAX;

/// Whether a walk over all keys has seen a key: it has if the key's mark is the walk's. Of two walks
/// one after the other, one has one mark, the next the other, and all keys have that of the last when
/// it has come to its end; who is put in between is born with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(bool);

impl Mark {
    /// The mark of the next walk.
    pub fn next(self) -> Mark {
        Mark(!self.0)
    }
}

/// One cache line of the table.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Bucket([u8; 64]);

/// An entry lent by its bucket. Addresses lie unaligned, so what is lent is an owner rebuilt from
/// one, which is never dropped.
pub struct Lent<'a>(ManuallyDrop<Entry>, PhantomData<&'a Bucket>);

impl Deref for Lent<'_> {
    type Target = Entry;
    #[inline]
    fn deref(&self) -> &Entry {
        &self.0
    }
}

/// An entry lent to be changed: if its block moves, the bucket learns the new address when the loan
/// ends, by unwinding too.
pub struct LentMut<'a> {
    entry: ManuallyDrop<Entry>,
    bucket: &'a mut Bucket,
    place: usize,
}

impl Deref for LentMut<'_> {
    type Target = Entry;
    #[inline]
    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl DerefMut for LentMut<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Entry {
        &mut self.entry
    }
}

impl Drop for LentMut<'_> {
    #[inline]
    fn drop(&mut self) {
        let mark = self.bucket.mark(self.place);
        self.bucket.set_address(self.place, self.entry.address(), mark);
    }
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket([0; 64])
    }
}

/// The tag of a hash: its low byte, never 0. The low bits are the ones that place a key nowhere.
#[inline]
pub fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

impl Bucket {
    /// The places whose tag is `tag`, as a bit mask.
    #[inline]
    pub fn matches(&self, tag: u8) -> u32 {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{
                _mm_cmpeq_epi8, _mm_load_si128, _mm_movemask_epi8, _mm_set1_epi8,
            };
            // SAFETY: SSE2 is part of x86-64; the bucket is 64-byte aligned and 64 bytes long.
            let mask = unsafe {
                let line = _mm_load_si128(self.0.as_ptr().cast());
                _mm_movemask_epi8(_mm_cmpeq_epi8(line, _mm_set1_epi8(tag as i8)))
            };
            mask as u32 & ((1 << PLACES) - 1)
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            (0..PLACES).fold(0, |mask, i| mask | u32::from(self.0[i] == tag) << i)
        }
    }

    /// A free place, if there is one.
    #[inline]
    pub fn free(&self) -> Option<usize> {
        let mask = self.matches(0);
        (mask != 0).then(|| mask.trailing_zeros() as usize)
    }

    /// The places in use, as a bit mask.
    #[inline]
    pub fn used(&self) -> u32 {
        !self.matches(0) & ((1 << PLACES) - 1)
    }

    /// Whether a search that found nothing here has to go on.
    #[inline]
    pub fn overflows(&self) -> bool {
        self.0[OVERFLOW] != 0
    }

    /// Notes that a key went past this bucket.
    pub fn pass(&mut self) {
        self.0[OVERFLOW] = self.0[OVERFLOW].saturating_add(1);
    }

    /// Notes that a key that had gone past is gone.
    pub fn unpass(&mut self) {
        if self.0[OVERFLOW] != OVERFLOW_STUCK {
            self.0[OVERFLOW] -= 1;
        }
    }

    #[inline]
    fn address(&self, place: usize) -> u64 {
        let at = ADDRESSES + 6 * place;
        let low = u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"));
        let high = u16::from_le_bytes(self.0[at + 4..at + 6].try_into().expect("two bytes"));
        (u64::from(high) << 32 | u64::from(low)) & !MARKS
    }

    #[inline]
    fn set_address(&mut self, place: usize, address: u64, mark: Mark) {
        assert!(address >> 48 == 0, "a block beyond 48 bits of address space");
        debug_assert!(address & MARKS == 0, "a block that is not aligned");
        let at = ADDRESSES + 6 * place;
        let bits = address | u64::from(mark.0);
        self.0[at..at + 6].copy_from_slice(&bits.to_le_bytes()[..6]);
    }

    /// The mark of the key at a place.
    #[inline]
    pub fn mark(&self, place: usize) -> Mark {
        Mark(self.0[ADDRESSES + 6 * place] & 1 != 0)
    }

    /// Marks the key at a place.
    #[inline]
    pub fn set_mark(&mut self, place: usize, mark: Mark) {
        let low = &mut self.0[ADDRESSES + 6 * place];
        *low = *low & !1 | u8::from(mark.0);
    }

    /// The places in use whose keys do not have a mark, as a bit mask.
    #[inline]
    pub fn without(&self, mark: Mark) -> u32 {
        let marked = (0..PLACES).fold(0, |mask, at| mask | u32::from(self.mark(at) == mark) << at);
        self.used() & !marked
    }

    /// Puts an entry into a free place.
    #[inline]
    pub fn put(&mut self, place: usize, tag: u8, entry: Entry, mark: Mark) {
        debug_assert!(self.0[place] == 0 && tag != 0);
        self.0[place] = tag;
        self.set_address(place, entry.into_address(), mark);
    }

    /// Takes the entry out of a place in use.
    pub fn take(&mut self, place: usize) -> Entry {
        assert!(self.0[place] != 0, "the place is in use");
        self.0[place] = 0;
        // SAFETY: the module's sentence; the place is free from here on, so this happens once.
        unsafe { Entry::from_address(self.address(place)) }
    }

    /// Lends the entry at a place in use.
    #[inline]
    pub fn get(&self, place: usize) -> Lent<'_> {
        assert!(self.0[place] != 0, "the place is in use");
        // SAFETY: the module's sentence; the owner is never dropped and ends with the borrow.
        let entry = unsafe { Entry::from_address(self.address(place)) };
        Lent(ManuallyDrop::new(entry), PhantomData)
    }

    /// Lends the entry at a place in use, to be changed.
    #[inline]
    pub fn get_mut(&mut self, place: usize) -> LentMut<'_> {
        assert!(self.0[place] != 0, "the place is in use");
        // SAFETY: as in `get`, and the borrow is exclusive.
        let entry = unsafe { Entry::from_address(self.address(place)) };
        LentMut { entry: ManuallyDrop::new(entry), bucket: self, place }
    }

    /// Asks the processor to fetch the block at a place, without waiting for it: two lines, since a
    /// common block is 80 bytes and begins anywhere. (Of 64-byte values among 600,000, that made GET
    /// 6 %, MGET and MSET a tenth cheaper. Where a block is shorter the second line is for nothing;
    /// where it is longer the processor sees by itself that it is read on and on.)
    #[inline]
    pub fn prefetch_block(&self, place: usize) {
        let block = std::ptr::with_exposed_provenance::<u8>(self.address(place) as usize);
        prefetch(block);
        prefetch(block.wrapping_add(64));
    }
}

/// Asks the processor to fetch a cache line, without waiting for it. Any address will do.
#[inline]
pub fn prefetch<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE is part of x86-64; a prefetch of any address has no effect but on the caches.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = at;
}

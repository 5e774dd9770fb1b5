//! One key and its value in one block of memory.
//!
//! ```text
//! short   0        5        (13)             key           value
//!         | header | expiry  | key bytes      | value bytes |
//! long    0        13       (21)
//!         | header, key length u32, value length u32 | expiry | key | value |
//! ```
//! The header is 40 bits, little-endian:
//!
//! ```text
//! bit 0..4  kind   4 has an expiry   5 long form   6..13 value length   13..18 key length
//!     18..40  access: seconds (LRU) or counter and minutes (LFU)
//! ```
//! Why so tight: allocators round to 16 bytes at these sizes, and 11 B of key with 64 B of value
//! leave 5 B to the 80 B class; one byte more costs 16. A key over 31 B or an inline value over
//! 127 B takes the long form. The expiry is 8 bytes, present only when there is one.
//!
//! This file is one of the few rooms with `unsafe`. All of it rests on four facts:
//! 1. a block is at least 16 bytes, was allocated with `layout(total)` and its header, lengths
//!    included, always describes that `total` to within the same size class;
//! 2. key and value lie inside `total`, because `write` is the only place that lays out a block;
//! 3. an `Entry` owns its block: nobody else frees or writes it;
//! 4. the value of kind `Heap` is a `Blob`, moved into the block bit by bit, owned by the entry.
//!
//! Miri checks what the tests of this file and of the table do with it; the README says how.

use crate::value::string::{self, Blob, BlobRef, Digits, Str};
use crate::value::{Kind, New};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

const VOLATILE: u64 = 1 << 4;
const LONG: u64 = 1 << 5;
const VALUE_AT: u32 = 6;
const VALUE_MAX: usize = 127;
const KEY_AT: u32 = 13;
const KEY_MAX: usize = 31;
const ACCESS_AT: u32 = 18;
/// The access field's 22 bits.
pub const ACCESS_MASK: u32 = (1 << 22) - 1;
const HEADER_MASK: u64 = (1 << 40) - 1;

/// An owned block. See the module's head for its layout.
#[derive(Debug)]
#[repr(transparent)]
pub struct Entry(NonNull<u8>);

/// Where things are in a block.
#[derive(Clone, Copy)]
struct Shape {
    key_at: usize,
    key_len: usize,
    value_len: usize,
}

impl Shape {
    fn of(key_len: usize, value_len: usize, volatile: bool) -> (Shape, bool) {
        let long = key_len > KEY_MAX || value_len > VALUE_MAX;
        let key_at = if long { 13 } else { 5 } + if volatile { 8 } else { 0 };
        (Shape { key_at, key_len, value_len }, long)
    }

    fn total(&self) -> usize {
        self.key_at + self.key_len + self.value_len
    }
}

/// The size a block of `total` bytes is allocated with: multiples of 16 up to 128, then four
/// classes per doubling, which is how the common allocators round. Rounding here lets a value
/// change in place within its class, and makes [`Entry::footprint`] what is really taken.
#[inline]
fn class(total: usize) -> usize {
    if total <= 128 {
        return (total + 15) & !15;
    }
    let step = 1usize << ((total - 1).ilog2() - 2);
    (total + step - 1) & !(step - 1)
}

fn layout(total: usize) -> Layout {
    Layout::from_size_align(class(total), 8).expect("a key and a value are far below isize::MAX")
}

impl Entry {
    /// A block for `key` and `value`. `expiry` is in milliseconds since the Unix epoch, `access`
    /// the 22 bits that eviction keeps.
    ///
    /// # Panics
    /// When the key is longer than `u32::MAX`: the parser admits none.
    pub fn new(key: &[u8], value: New, expiry: Option<i64>, access: u32) -> Entry {
        let (shape, _) = Shape::of(key.len(), value.block_len(), expiry.is_some());
        let layout = layout(shape.total());
        // SAFETY: the layout's size is not zero (a block is at least 16 bytes).
        let at = unsafe { alloc(layout) };
        let Some(at) = NonNull::new(at) else { handle_alloc_error(layout) };
        // SAFETY: a block is at least 16 bytes. `header` reads 8, of which a very short key and value
        // leave some to nobody: those would be read without ever having been written.
        unsafe { at.cast::<u64>().write_unaligned(0) };
        let mut entry = Entry(at);
        entry.write(Some(key), value, expiry, access);
        entry
    }

    /// Lays out the block, which is large enough. `key` is `None` when the key's bytes are already
    /// in their place.
    fn write(&mut self, key: Option<&[u8]>, value: New, expiry: Option<i64>, access: u32) {
        let key_len = key.map_or_else(|| self.shape().key_len, <[u8]>::len);
        let (shape, long) = Shape::of(key_len, value.block_len(), expiry.is_some());
        let mut header = u64::from(value.kind() as u8)
            | u64::from(access & ACCESS_MASK) << ACCESS_AT
            | if expiry.is_some() { VOLATILE } else { 0 };
        // SAFETY: facts 1 to 3; every offset written is below `shape.total()`, for which the
        // caller has allocated, and the sources are not inside this block (`key` and `value` are
        // borrowed from elsewhere: callers copy first what they take from the block itself).
        unsafe {
            let at = self.0.as_ptr();
            if let Some(key) = key {
                std::ptr::copy_nonoverlapping(key.as_ptr(), at.add(shape.key_at), key.len());
            }
            let value_at = at.add(shape.key_at + shape.key_len);
            match value {
                New::Int(n) => value_at.cast::<i64>().write_unaligned(n),
                New::Inline(bytes) | New::Edited(bytes) => {
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), value_at, bytes.len());
                }
                New::Heap(blob) => {
                    value_at.cast::<Blob>().write_unaligned(blob);
                }
            }
            if long {
                header |= LONG;
                at.add(5).cast::<u32>().write_unaligned(
                    u32::try_from(shape.key_len).expect("a key fits a query buffer"),
                );
                at.add(9).cast::<u32>().write_unaligned(
                    u32::try_from(shape.value_len).expect("inline values are short"),
                );
            } else {
                header |= (shape.value_len as u64) << VALUE_AT | (shape.key_len as u64) << KEY_AT;
            }
            if let Some(expiry) = expiry {
                at.add(shape.key_at - 8).cast::<i64>().write_unaligned(expiry);
            }
            let bytes = header.to_le_bytes();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, 5);
        }
    }

    #[inline]
    fn header(&self) -> u64 {
        // SAFETY: fact 1: the first 8 bytes are there and `new` has written them all; the upper three
        // are masked off.
        u64::from_le(unsafe { self.0.as_ptr().cast::<u64>().read_unaligned() }) & HEADER_MASK
    }

    #[inline]
    fn shape(&self) -> Shape {
        let header = self.header();
        let expiry = if header & VOLATILE != 0 { 8 } else { 0 };
        if header & LONG == 0 {
            return Shape {
                key_at: 5 + expiry,
                key_len: (header >> KEY_AT) as usize & KEY_MAX,
                value_len: (header >> VALUE_AT) as usize & VALUE_MAX,
            };
        }
        // SAFETY: fact 1: a long block has both lengths behind its header.
        let (key_len, value_len) = unsafe {
            let at = self.0.as_ptr();
            (at.add(5).cast::<u32>().read_unaligned(), at.add(9).cast::<u32>().read_unaligned())
        };
        Shape { key_at: 13 + expiry, key_len: key_len as usize, value_len: value_len as usize }
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        let shape = self.shape();
        // SAFETY: facts 1 and 2.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(shape.key_at), shape.key_len) }
    }

    /// How the value is kept.
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind::stored_as((self.header() & 15) as u8)
    }

    /// The expiry in milliseconds since the Unix epoch, if the key has one.
    #[inline]
    pub fn expiry(&self) -> Option<i64> {
        if self.header() & VOLATILE == 0 {
            return None;
        }
        let at = self.shape().key_at - 8;
        // SAFETY: fact 1: a block with an expiry has its 8 bytes before the key.
        Some(unsafe { self.0.as_ptr().add(at).cast::<i64>().read_unaligned() })
    }

    /// The value, if it is a string (every value is, so far).
    #[inline]
    pub fn string(&self) -> Str<'_> {
        let shape = self.shape();
        // SAFETY: facts 1, 2 and 4; the borrow of `self` keeps the `Blob` alive and unchanged.
        unsafe {
            let at = self.0.as_ptr().add(shape.key_at + shape.key_len);
            match self.kind() {
                Kind::Int => Str::Int(at.cast::<i64>().read_unaligned()),
                Kind::Inline | Kind::Edited => {
                    Str::Bytes(std::slice::from_raw_parts(at, shape.value_len))
                }
                Kind::Heap => {
                    Str::Blob(BlobRef::new(at.cast::<ManuallyDrop<Blob>>().read_unaligned()))
                }
            }
        }
    }

    /// The bytes of a string in the block, to be changed without changing their number.
    #[inline]
    pub fn inline_mut(&mut self) -> Option<&mut [u8]> {
        if !matches!(self.kind(), Kind::Inline | Kind::Edited) {
            return None;
        }
        let shape = self.shape();
        // SAFETY: facts 1 to 3, and the exclusive borrow.
        Some(unsafe {
            let at = self.0.as_ptr().add(shape.key_at + shape.key_len);
            std::slice::from_raw_parts_mut(at, shape.value_len)
        })
    }

    /// Puts `n` in place of a number that is there already. Returns whether one was.
    #[inline]
    pub fn set_int(&mut self, n: i64) -> bool {
        if self.kind() != Kind::Int {
            return false;
        }
        let shape = self.shape();
        // SAFETY: facts 1 to 3: an `Int` has 8 bytes of value.
        unsafe {
            self.0.as_ptr().add(shape.key_at + shape.key_len).cast::<i64>().write_unaligned(n);
        }
        true
    }

    /// Takes a long string out, leaving a number in its place; the caller puts something back.
    pub fn take_blob(&mut self) -> Option<Blob> {
        if self.kind() != Kind::Heap {
            return None;
        }
        let shape = self.shape();
        // SAFETY: fact 4; writing kind `Int` right after means that nobody reads the `Blob` again.
        let blob = unsafe {
            self.0.as_ptr().add(shape.key_at + shape.key_len).cast::<Blob>().read_unaligned()
        };
        self.set_header((self.header() & !15) | Kind::Int as u64);
        Some(blob)
    }

    /// Replaces value and expiry. The block may move.
    #[inline]
    pub fn replace(&mut self, value: New, expiry: Option<i64>) {
        drop(self.take_blob());
        let (old, access) = (self.shape(), self.access());
        let (new, _) = Shape::of(old.key_len, value.block_len(), expiry.is_some());
        if class(new.total()) == class(old.total()) && new.key_at == old.key_at {
            return self.write(None, value, expiry, access);
        }
        let fresh = Entry::new(self.key(), value, expiry, access);
        *self = fresh;
    }

    /// Writes `bytes` at `offset` of the string, which grows with zero bytes as needed; returns its
    /// length. A string in the block is laid out anew; a long one grows in its own allocation, so
    /// appending to it costs what is appended. The block may move.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let expiry = self.expiry();
        if let Some(mut blob) = self.take_blob() {
            let len = string::overwrite(Arc::make_mut(&mut blob), offset, bytes);
            self.replace(New::Heap(blob), expiry);
            return len;
        }
        let mut whole = self.string().bytes(&mut Digits::new()).to_vec();
        let len = string::overwrite(&mut whole, offset, bytes);
        self.replace(New::edited(&mut whole), expiry);
        len
    }

    /// Sets or clears the expiry. The block may move.
    pub fn set_expiry(&mut self, expiry: Option<i64>) {
        match (self.expiry().is_some(), expiry) {
            (false, None) => {}
            (true, Some(at_ms)) => {
                let at = self.shape().key_at - 8;
                // SAFETY: facts 1 to 3: a block with an expiry has its 8 bytes before the key.
                unsafe { self.0.as_ptr().add(at).cast::<i64>().write_unaligned(at_ms) }
            }
            _ => {
                let fresh = self.rebuilt(None, expiry);
                *self = fresh;
            }
        }
    }

    /// The same value under another key, its expiry kept.
    pub fn renamed(mut self, key: &[u8]) -> Entry {
        let expiry = self.expiry();
        self.rebuilt(Some(key), expiry)
    }

    /// A copy under the same key.
    pub fn duplicate(&self) -> Entry {
        let value = self.string();
        Entry::new(self.key(), New::copy(self.kind(), &value), self.expiry(), self.access())
    }

    /// A new block with this one's value, which a long string leaves behind.
    fn rebuilt(&mut self, key: Option<&[u8]>, expiry: Option<i64>) -> Entry {
        let (access, kind) = (self.access(), self.kind());
        let blob = self.take_blob();
        let (key, value) = (key.unwrap_or_else(|| self.key()), self.string());
        Entry::new(key, blob.map_or_else(|| New::copy(kind, &value), New::Heap), expiry, access)
    }

    /// The 22 bits that eviction keeps.
    #[inline]
    pub fn access(&self) -> u32 {
        (self.header() >> ACCESS_AT) as u32 & ACCESS_MASK
    }

    /// Sets the 22 bits that eviction keeps.
    #[inline]
    pub fn set_access(&mut self, access: u32) {
        let rest = self.header() & !(u64::from(ACCESS_MASK) << ACCESS_AT);
        self.set_header(rest | u64::from(access & ACCESS_MASK) << ACCESS_AT);
    }

    #[inline]
    fn set_header(&mut self, header: u64) {
        let bytes = header.to_le_bytes();
        // SAFETY: facts 1 and 3.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr(), 5) }
    }

    /// Bytes this key takes: its block and, for a long string, the allocation behind it.
    pub fn footprint(&self) -> usize {
        class(self.shape().total()) + self.string().outside()
    }

    /// The block's address; the caller owns the block from here on.
    #[inline]
    pub fn into_address(self) -> u64 {
        ManuallyDrop::new(self).address()
    }

    /// The block's address, for who keeps the entry.
    #[inline]
    pub fn address(&self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    /// The entry at an address.
    ///
    /// # Safety
    /// `address` comes from [`Entry::into_address`], and each address is turned back once, or the
    /// result is never dropped and never outlives or overlaps a use of the owned one.
    #[inline]
    pub unsafe fn from_address(address: u64) -> Entry {
        let at = std::ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: the caller's promise; an allocated block is not at address zero.
        Entry(unsafe { NonNull::new_unchecked(at) })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        drop(self.take_blob());
        // SAFETY: facts 1 and 3: this layout has the class it was allocated with.
        unsafe { dealloc(self.0.as_ptr(), layout(self.shape().total())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entry: &Entry) -> Vec<u8> {
        entry.string().bytes(&mut itoa::Buffer::new()).to_vec()
    }

    #[test]
    fn the_common_key_fits_eighty_bytes() {
        let entry = Entry::new(b"key:1234567", New::Inline(&[7; 64]), None, 5);
        assert_eq!(entry.footprint(), 80);
        assert_eq!((entry.key(), text(&entry)), (&b"key:1234567"[..], vec![7; 64]));
        assert_eq!((entry.kind(), entry.expiry(), entry.access()), (Kind::Inline, None, 5));
    }

    #[test]
    fn every_shape_survives_every_change() {
        let blob: Blob = Arc::new(vec![b'z'; 40_000]);
        for key_len in [0usize, 1, 11, 31, 32, 300, 70_000] {
            let key: Vec<u8> = (0..key_len).map(|i| i as u8).collect();
            for value_len in [0usize, 1, 64, 127, 128, 1000, 16_000] {
                let value = vec![b'v'; value_len];
                let mut entry = Entry::new(&key, New::Inline(&value), None, ACCESS_MASK);
                for expiry in [Some(1), None, Some(i64::MAX), Some(0), None] {
                    entry.set_expiry(expiry);
                    assert_eq!((entry.key(), text(&entry)), (&key[..], value.clone()));
                    assert_eq!((entry.expiry(), entry.access()), (expiry, ACCESS_MASK));
                    assert_eq!(entry.kind(), Kind::Inline);
                }
                entry.replace(New::Int(-5), Some(9));
                assert_eq!((text(&entry), entry.expiry()), (b"-5".to_vec(), Some(9)));
                assert!(entry.set_int(i64::MIN));
                entry.replace(New::Heap(blob.clone()), None);
                assert_eq!(text(&entry), **blob);
                assert!(!entry.set_int(1));
                entry.set_expiry(Some(4));
                assert!(entry.footprint() > 40_000);
                entry = entry.renamed(b"another");
                assert_eq!((entry.key(), text(&entry)), (&b"another"[..], blob.to_vec()));
                entry.replace(New::Edited(&value), None);
                assert_eq!((entry.kind(), text(&entry)), (Kind::Edited, value.clone()));
                assert_eq!(entry.inline_mut().map(|b| b.len()), Some(value_len));
                assert_eq!(entry.access(), ACCESS_MASK);
            }
        }
        assert_eq!(Arc::strong_count(&blob), 1);
    }

    #[test]
    fn classes_are_what_allocators_round_to() {
        for (total, size) in [(1, 16), (80, 80), (81, 96), (128, 128), (129, 160), (160, 160)] {
            assert_eq!(class(total), size, "{total}");
        }
        assert_eq!((class(257), class(1000), class(1025)), (320, 1024, 1280));
    }
}

//! A key as a command names it: its bytes with their hash, which is made once and kept beside them.

use super::hash;

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    bytes: &'a [u8],
    hash: u64,
}

impl<'a> Key<'a> {
    /// A key that nobody has hashed yet.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: hash::of(bytes) }
    }

    /// A key whose hash is known.
    #[inline]
    pub fn with_hash(bytes: &'a [u8], hash: u64) -> Key<'a> {
        debug_assert_eq!(hash, hash::of(bytes), "the hash of another key");
        Key { bytes, hash }
    }

    /// The key itself.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its hash ([`hash::of`]).
    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

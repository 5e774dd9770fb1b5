//! Floor 1: what a key can hold: how a value is kept, sized, copied and changed. Where it lies beside its
//! key is the block's matter (`shard/entry.rs`).

pub mod intset;
pub mod listpack;
pub mod packed;
pub mod string;

use crate::base::{limits, number};
use std::sync::Arc;
use string::{Blob, Str};

/// How a value is kept. The discriminants are what a block's header stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A canonical integer, as 8 bytes.
    Int = 0,
    /// A string in the block, as it was set.
    Inline = 1,
    /// A string in the block that was changed in place since (OBJECT ENCODING calls it raw).
    Edited = 2,
    /// A long string with its own allocation.
    Heap = 3,
}

impl Kind {
    /// The kind that a block's header stores like this.
    #[inline]
    pub fn stored_as(bits: u8) -> Kind {
        match bits {
            0 => Kind::Int,
            1 => Kind::Inline,
            2 => Kind::Edited,
            _ => Kind::Heap,
        }
    }
}

/// A value to be stored.
#[derive(Debug)]
pub enum New<'a> {
    /// A number.
    Int(i64),
    /// A short string as it was set.
    Inline(&'a [u8]),
    /// A short string that was changed.
    Edited(&'a [u8]),
    /// A long string.
    Heap(Blob),
}

impl<'a> New<'a> {
    /// The string that a client sent: an integer if it is the text of one.
    #[inline]
    pub fn string(bytes: &'a [u8]) -> New<'a> {
        if bytes.len() <= 20
            && let Some(n) = number::parse_i64(bytes)
        {
            return New::Int(n);
        }
        if bytes.len() <= limits::INLINE_VALUE_MAX {
            New::Inline(bytes)
        } else {
            New::Heap(Arc::new(bytes.to_vec()))
        }
    }

    /// A string that was changed, which is taken if it is long.
    pub fn edited(bytes: &'a mut Vec<u8>) -> New<'a> {
        if bytes.len() <= limits::INLINE_VALUE_MAX {
            New::Edited(bytes)
        } else {
            New::Heap(Arc::new(std::mem::take(bytes)))
        }
    }

    /// The same value as one that is stored in this way. A long string is shared.
    pub fn copy(kind: Kind, value: &'a Str) -> New<'a> {
        match value {
            Str::Int(n) => New::Int(*n),
            Str::Bytes(bytes) if kind == Kind::Edited => New::Edited(bytes),
            Str::Bytes(bytes) => New::Inline(bytes),
            Str::Blob(blob) => New::Heap(Blob::clone(blob)),
        }
    }

    /// How it will be kept.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self {
            New::Int(_) => Kind::Int,
            New::Inline(_) => Kind::Inline,
            New::Edited(_) => Kind::Edited,
            New::Heap(_) => Kind::Heap,
        }
    }

    /// Bytes it takes in its key's block: of a long string, those of its address.
    #[inline]
    pub fn block_len(&self) -> usize {
        match self {
            New::Int(_) | New::Heap(_) => 8,
            New::Inline(bytes) | New::Edited(bytes) => bytes.len(),
        }
    }
}

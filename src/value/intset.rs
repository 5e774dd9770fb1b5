//! The intset of Redis, byte for byte: a set of integers in ascending order, each as wide as the widest
//! needs it to be.
//!
//! ```text
//! bytes of an integer: 2, 4 or 8, in 4 | integers, in 4 | integer ...        all little-endian
//! ```
//!
//! What is removed makes none narrower again.

use super::packed::{Flaw, Full, Malformed};
use crate::base::limits;

/// The intset without members.
pub const EMPTY: [u8; HEADER_LEN] = [2, 0, 0, 0, 0, 0, 0, 0];

/// Bytes before the first integer.
const HEADER_LEN: usize = 4 + 4;

/// Bytes of an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    Two = 2,
    Four = 4,
    Eight = 8,
}

impl Width {
    /// What an integer needs.
    #[inline]
    fn of(n: i64) -> Width {
        if i16::try_from(n).is_ok() {
            Width::Two
        } else if i32::try_from(n).is_ok() {
            Width::Four
        } else {
            Width::Eight
        }
    }

    /// What a header says.
    #[inline]
    fn stored_as(n: u32) -> Option<Width> {
        [Width::Two, Width::Four, Width::Eight].into_iter().find(|width| *width as u32 == n)
    }

    #[inline]
    fn len(self) -> usize {
        self as usize
    }
}

/// An intset, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Intset<'a> {
    width: Width,
    integers: &'a [u8],
}

impl<'a> Intset<'a> {
    /// Checks bytes that come from elsewhere.
    pub fn check(bytes: &'a [u8]) -> Result<Intset<'a>, Malformed> {
        let (width, count) = header(bytes).ok_or(Flaw::Length.at(0))?;
        let set = Intset::new(bytes);
        if Width::stored_as(width) != Some(set.width) {
            return Err(Flaw::Element.at(0));
        }
        let len = u64::from(count) * u64::from(width);
        if len != set.integers.len() as u64 {
            return Err(Flaw::Length.at(4));
        }
        match set.iter().zip(set.iter().skip(1)).position(|(one, next)| one >= next) {
            Some(index) => Err(Flaw::Order.at(HEADER_LEN + (index + 1) * set.width.len())),
            None => Ok(set),
        }
    }

    /// Bytes that have been checked, or that an [`Editor`] made.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Intset<'a> {
        let width = header(bytes).and_then(|(width, _)| Width::stored_as(width));
        Intset {
            width: width.unwrap_or(Width::Two),
            integers: bytes.get(HEADER_LEN..).unwrap_or_default(),
        }
    }

    /// How many integers there are.
    #[inline]
    pub fn len(self) -> usize {
        self.integers.len() / self.width.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The integer at an index, in ascending order.
    #[inline]
    pub fn get(self, index: usize) -> Option<i64> {
        let integers = self.integers;
        Some(match self.width {
            Width::Two => i64::from(i16::from_le_bytes(*integers.as_chunks().0.get(index)?)),
            Width::Four => i64::from(i32::from_le_bytes(*integers.as_chunks().0.get(index)?)),
            Width::Eight => i64::from_le_bytes(*integers.as_chunks().0.get(index)?),
        })
    }

    /// The integers, in ascending order.
    #[inline]
    pub fn iter(self) -> impl DoubleEndedIterator<Item = i64> + Clone {
        (0..self.len()).filter_map(move |index| self.get(index))
    }

    /// Whether an integer is in it.
    #[inline]
    pub fn contains(self, n: i64) -> bool {
        Width::of(n) <= self.width && self.search(n).is_ok()
    }

    /// The index of an integer, or the one at which it would be.
    #[inline]
    pub fn search(self, n: i64) -> Result<usize, usize> {
        match self.width {
            Width::Two => self
                .integers
                .as_chunks()
                .0
                .binary_search_by(|bytes| i64::from(i16::from_le_bytes(*bytes)).cmp(&n)),
            Width::Four => self
                .integers
                .as_chunks()
                .0
                .binary_search_by(|bytes| i64::from(i32::from_le_bytes(*bytes)).cmp(&n)),
            Width::Eight => self
                .integers
                .as_chunks()
                .0
                .binary_search_by(|bytes| i64::from_le_bytes(*bytes).cmp(&n)),
        }
    }
}

/// An intset to be changed.
#[derive(Debug)]
pub struct Editor<'v> {
    bytes: &'v mut Vec<u8>,
}

impl<'v> Editor<'v> {
    /// Changes an intset that has been checked or was made here. No bytes are one without members.
    #[inline]
    pub fn new(bytes: &'v mut Vec<u8>) -> Editor<'v> {
        if bytes.is_empty() {
            bytes.extend_from_slice(&EMPTY);
        }
        Editor { bytes }
    }

    /// As it is now.
    #[inline]
    pub fn view(&self) -> Intset<'_> {
        Intset::new(self.bytes)
    }

    /// Adds an integer; says whether it was not there.
    #[inline]
    pub fn insert(&mut self, n: i64) -> Result<bool, Full> {
        let Err(index) = self.view().search(n) else { return Ok(false) };
        if self.view().len() >= limits::INTSET_ENTRIES_MAX {
            return Err(Full);
        }
        self.widen(Width::of(n));
        let width = self.view().width.len();
        let (at, old) = (HEADER_LEN + index * width, self.bytes.len());
        self.bytes.resize(old + width, 0);
        self.bytes.copy_within(at..old, at + width);
        self.bytes[at..at + width].copy_from_slice(&n.to_le_bytes()[..width]);
        self.set_count();
        Ok(true)
    }

    /// Removes an integer; says whether it was there.
    #[inline]
    pub fn remove(&mut self, n: i64) -> bool {
        let found = self.view().search(n);
        if let Ok(index) = found {
            let width = self.view().width.len();
            let at = HEADER_LEN + index * width;
            self.bytes.drain(at..at + width);
            self.set_count();
        }
        found.is_ok()
    }

    /// Makes all integers as wide as that, unless they are.
    fn widen(&mut self, width: Width) {
        let view = self.view();
        if width <= view.width {
            return;
        }
        let mut wider = Vec::with_capacity(HEADER_LEN + (view.len() + 1) * width.len());
        wider.extend_from_slice(&(width as u32).to_le_bytes());
        wider.extend_from_slice(&self.bytes[4..HEADER_LEN]);
        for n in view.iter() {
            wider.extend_from_slice(&n.to_le_bytes()[..width.len()]);
        }
        *self.bytes = wider;
    }

    #[inline]
    fn set_count(&mut self) {
        let count = self.view().len() as u32;
        self.bytes[4..HEADER_LEN].copy_from_slice(&count.to_le_bytes());
    }
}

/// Bytes of an integer, and integers, as the header says.
#[inline]
fn header(bytes: &[u8]) -> Option<(u32, u32)> {
    let [a, b, c, d, e, f, g, h] = *bytes.first_chunk::<HEADER_LEN>()?;
    Some((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
}

#[cfg(test)]
mod tests;

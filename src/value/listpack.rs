//! The listpack of Redis 7, byte for byte: a sequence of small elements in one run of bytes, which can be
//! walked both ways.
//!
//! ```text
//! bytes in all, 4 | elements, 2 | element ... | 0xff        numbers are little-endian
//!
//! element:  head | bytes of a string | size of both, for the way back
//!
//! head      0xxxxxxx                      an integer, 0 to 127
//!           110xxxxx xxxxxxxx             of 13 bits, the higher ones first
//!           11110001 and 2 bytes          of 16 bits; 0xf2: 24, 0xf3: 32, 0xf4: 64
//!           10xxxxxx                      a string of up to 63 bytes
//!           1110xxxx xxxxxxxx             of up to 4,095, the higher bits first
//!           11110000 and 4 bytes          a longer one
//! ```
//!
//! The size is written for whoever comes from behind: its lowest seven bits stand last, and each byte but
//! the first has its highest bit set. The number of elements is 65,535 where there are as many or more, and
//! says nothing then.
//!
//! Bytes from elsewhere are checked once ([`Listpack::check`]). Nothing here relies on it for its own sake:
//! of bytes that are no listpack, reading gives what it may and ends, within bounds.

mod edit;

pub use edit::Editor;

use super::packed::{Element, Flaw, Malformed, Needle, check_tuples};

/// The listpack without elements.
pub const EMPTY: [u8; HEADER_LEN + 1] = [HEADER_LEN as u8 + 1, 0, 0, 0, 0, 0, TERMINATOR];

/// Bytes before the first element.
const HEADER_LEN: usize = 4 + 2;
const TERMINATOR: u8 = 0xff;
/// The number of elements is not known without counting.
const UNCOUNTED: u16 = u16::MAX;
/// Bytes that the longest size takes.
const BACK_LEN_MAX: usize = 5;

// Heads that are told by the whole byte.
const STRING_32: u8 = 0xf0;
const INT_16: u8 = 0xf1;
const INT_24: u8 = 0xf2;
const INT_32: u8 = 0xf3;
const INT_64: u8 = 0xf4;

/// A listpack, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Listpack<'a> {
    bytes: &'a [u8],
}

/// Where an element begins. It holds until something is changed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(usize);

impl<'a> Listpack<'a> {
    /// Checks bytes that come from elsewhere.
    pub fn check(bytes: &'a [u8]) -> Result<Listpack<'a>, Malformed> {
        let (total, count) = header(bytes).ok_or(Flaw::Length.at(0))?;
        let end = bytes.len() - 1;
        if total as usize != bytes.len() || end < HEADER_LEN {
            return Err(Flaw::Length.at(0));
        }
        if bytes[end] != TERMINATOR {
            return Err(Flaw::Terminator.at(end));
        }
        let (mut at, mut found) = (HEADER_LEN, 0);
        while at < end {
            let size = size(bytes, at).ok_or(Flaw::Element.at(at))?;
            let next = at + size + back_len(size);
            if next > end {
                return Err(Flaw::Element.at(at));
            }
            if size_before(bytes, next) != Some((size, back_len(size))) {
                return Err(Flaw::Back.at(at));
            }
            at = next;
            found += 1;
        }
        if count != UNCOUNTED && usize::from(count) != found {
            return Err(Flaw::Count.at(4));
        }
        Ok(Listpack { bytes })
    }

    /// Bytes that have been checked, or that an [`Editor`] made.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Listpack<'a> {
        Listpack { bytes }
    }

    /// Checks that the elements come in tuples of `width`, and that no two tuples begin with the same one.
    pub fn check_tuples(self, width: usize) -> Result<(), Flaw> {
        check_tuples(self.iter(), width)
    }

    /// All of it, as it is kept and saved.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// How many elements there are: to be counted where they are 65,535 or more.
    #[inline]
    pub fn len(self) -> usize {
        match header(self.bytes) {
            Some((_, count)) if count != UNCOUNTED => usize::from(count),
            _ => self.iter().count(),
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.bytes.len() <= EMPTY.len()
    }

    /// The elements, from either end.
    #[inline]
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Element<'a>> + Clone {
        self.entries().map(|(_, element)| element)
    }

    /// The elements with their places, from either end.
    #[inline]
    pub fn entries(self) -> Entries<'a> {
        Entries { bytes: self.bytes, front: HEADER_LEN, back: self.end() }
    }

    /// Those before a place, from either end.
    #[inline]
    pub fn entries_before(self, place: Place) -> Entries<'a> {
        Entries { back: place.0, ..self.entries() }
    }

    /// Those from a place on, from either end.
    #[inline]
    pub fn entries_from(self, place: Place) -> Entries<'a> {
        Entries { front: place.0, ..self.entries() }
    }

    /// Where an element is, by its index, or counted from the end where that is negative: −1 is the last.
    #[inline]
    pub fn place(self, index: i64) -> Option<Place> {
        let (from_end, skipped) = match usize::try_from(index) {
            Ok(index) => match header(self.bytes)? {
                // It is nearer from behind.
                (_, count) if count != UNCOUNTED && index >= usize::from(count) / 2 => {
                    (true, usize::from(count).checked_sub(index + 1)?)
                }
                _ => (false, index),
            },
            Err(_) => (true, usize::try_from(index.unsigned_abs() - 1).ok()?),
        };
        let (mut at, end) = (HEADER_LEN, self.end());
        if !from_end {
            for _ in 0..skipped {
                at = after(self.bytes, at).filter(|at| *at < end)?;
            }
            return (at < end).then_some(Place(at));
        }
        at = end;
        for _ in 0..=skipped {
            at = before(self.bytes, at)?;
        }
        Some(Place(at))
    }

    /// An element by its index, or counted from the end where that is negative.
    #[inline]
    pub fn get(self, index: i64) -> Option<Element<'a>> {
        self.element(self.place(index)?)
    }

    /// The element at a place.
    #[inline]
    pub fn element(self, place: Place) -> Option<Element<'a>> {
        decode(self.bytes, place.0).map(|(element, _)| element)
    }

    /// The place behind a place.
    #[inline]
    pub fn next(self, place: Place) -> Option<Place> {
        after(self.bytes, place.0).filter(|at| *at < self.end()).map(Place)
    }

    /// The place before a place.
    #[inline]
    pub fn previous(self, place: Place) -> Option<Place> {
        before(self.bytes, place.0).map(Place)
    }

    /// The first place at which a string stands, where only the first of each `stride` elements is looked
    /// at: with 2, a field of a hash.
    #[inline]
    pub fn find(self, needle: &[u8], stride: usize) -> Option<Place> {
        let (needle, end) = (Needle::new(needle), self.end());
        let mut at = HEADER_LEN;
        while at < end {
            let (element, size) = decode(self.bytes, at)?;
            if needle.is(element) {
                return Some(Place(at));
            }
            at += size + back_len(size);
            for _ in 1..stride {
                at = after(self.bytes, at)?;
            }
        }
        None
    }

    /// Where the terminator is.
    #[inline]
    fn end(self) -> usize {
        self.bytes.len().saturating_sub(1)
    }
}

/// Elements of a listpack with their places.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    /// Where the next one begins.
    front: usize,
    /// Where the last one ends.
    back: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Place, Element<'a>);

    #[inline]
    fn next(&mut self) -> Option<(Place, Element<'a>)> {
        if self.front >= self.back {
            return None;
        }
        let place = Place(self.front);
        let (element, size) = decode(self.bytes, self.front)?;
        self.front += size + back_len(size);
        Some((place, element))
    }
}

impl<'a> DoubleEndedIterator for Entries<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<(Place, Element<'a>)> {
        if self.front >= self.back {
            return None;
        }
        self.back = before(self.bytes, self.back)?;
        let (element, _) = decode(self.bytes, self.back)?;
        Some((Place(self.back), element))
    }
}

/// Bytes in all, and elements, as the header says.
#[inline]
fn header(bytes: &[u8]) -> Option<(u32, u16)> {
    let [a, b, c, d, low, high] = *bytes.first_chunk::<HEADER_LEN>()?;
    Some((u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([low, high])))
}

/// Reads the element that begins at `at`: what it is, and its bytes without the size behind them.
#[inline]
fn decode(bytes: &[u8], at: usize) -> Option<(Element<'_>, usize)> {
    let rest = bytes.get(at..)?;
    let string = |head: usize, len: usize| {
        let end = head.checked_add(len)?;
        rest.get(head..end).map(|bytes| (Element::Bytes(bytes), end))
    };
    let int = |n: i64, size: usize| Some((Element::Int(n), size));
    match *rest {
        [first @ ..=0x7f, ..] => int(i64::from(first), 1),
        [first @ ..=0xbf, ..] => string(1, usize::from(first & 0x3f)),
        [first @ ..=0xdf, low, ..] => {
            // Shifted up and down again, the highest of the 13 bits becomes the sign.
            let bits = u16::from_be_bytes([first, low]) << 3;
            int(i64::from(bits as i16 >> 3), 2)
        }
        [first @ ..=0xef, low, ..] => string(2, usize::from(first & 0x0f) << 8 | usize::from(low)),
        [STRING_32, a, b, c, d, ..] => string(5, u32::from_le_bytes([a, b, c, d]) as usize),
        [INT_16, a, b, ..] => int(i64::from(i16::from_le_bytes([a, b])), 3),
        [INT_24, a, b, c, ..] => int(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8), 4),
        [INT_32, a, b, c, d, ..] => int(i64::from(i32::from_le_bytes([a, b, c, d])), 5),
        [INT_64, ..] => int(i64::from_le_bytes(*rest[1..].first_chunk()?), 9),
        _ => None,
    }
}

/// Bytes of the element that begins at `at`, without the size behind them. They need not be there.
#[inline]
fn size(bytes: &[u8], at: usize) -> Option<usize> {
    Some(match *bytes.get(at..)? {
        [..=0x7f, ..] => 1,
        [first @ ..=0xbf, ..] => 1 + usize::from(first & 0x3f),
        [..=0xdf, ..] => 2,
        [first @ ..=0xef, low, ..] => 2 + (usize::from(first & 0x0f) << 8 | usize::from(low)),
        [STRING_32, a, b, c, d, ..] => 5 + u32::from_le_bytes([a, b, c, d]) as usize,
        [INT_16, ..] => 3,
        [INT_24, ..] => 4,
        [INT_32, ..] => 5,
        [INT_64, ..] => 9,
        _ => return None,
    })
}

/// Where the element behind the one at `at` begins, or the terminator stands.
#[inline]
fn after(bytes: &[u8], at: usize) -> Option<usize> {
    let size = size(bytes, at)?;
    Some(at + size + back_len(size))
}

/// Where the element begins that ends at `end`.
#[inline]
fn before(bytes: &[u8], end: usize) -> Option<usize> {
    if end <= HEADER_LEN {
        return None;
    }
    let (size, back) = size_before(bytes, end)?;
    end.checked_sub(size + back).filter(|at| *at >= HEADER_LEN)
}

/// The size that is written before `end`, and how many bytes it takes.
#[inline]
fn size_before(bytes: &[u8], end: usize) -> Option<(usize, usize)> {
    let mut size = 0;
    for (place, byte) in bytes.get(..end)?.iter().rev().take(BACK_LEN_MAX).enumerate() {
        size |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((size, place + 1));
        }
    }
    None
}

/// Bytes that a size takes behind its element. From two bytes on, the largest that would fit takes one
/// more: Redis compares so, and then the bytes have to be.
#[inline]
const fn back_len(size: usize) -> usize {
    match size {
        ..0x80 => 1,
        0x80..0x3fff => 2,
        0x3fff..0x1f_ffff => 3,
        0x1f_ffff..0xfff_ffff => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests;

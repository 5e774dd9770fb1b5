//! The ziplist, in which small lists, hashes and sorted sets were kept before Redis 7. It is only read.
//!
//! ```text
//! bytes in all, 4 | offset of the last element, 4 | elements, 2 | element ... | 0xff
//!
//! element:  length of the one before, 1, or 0xfe and 4 | head | bytes of a string
//!
//! head      00xxxxxx                      a string of up to 63 bytes
//!           01xxxxxx xxxxxxxx             of up to 16,383, the higher bits first
//!           10______ and 4 bytes          a longer one, the higher bytes first
//!           0xc0 and 2 bytes              an integer of 16 bits; 0xd0: 32, 0xe0: 64, 0xf0: 24, 0xfe: 8
//!           1111xxxx                      from 0xf1 to 0xfd: 0 to 12
//! ```
//!
//! All other numbers are little-endian. The number of elements is 65,535 where there are as many or more.

use crate::value::packed::{Element, Flaw, Malformed};

/// Bytes before the first element.
const HEADER_LEN: usize = 4 + 4 + 2;
const TERMINATOR: u8 = 0xff;
/// The number of elements is not known without counting.
const UNCOUNTED: u16 = u16::MAX;
/// The length of the element before takes the next four bytes.
const LONG: u8 = 0xfe;

// Heads of integers.
const INT_16: u8 = 0xc0;
const INT_32: u8 = 0xd0;
const INT_64: u8 = 0xe0;
const INT_24: u8 = 0xf0;
const INT_8: u8 = 0xfe;

/// A ziplist, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Ziplist<'a> {
    elements: &'a [u8],
    len: usize,
}

impl<'a> Ziplist<'a> {
    /// Checks bytes that come from elsewhere.
    pub fn check(bytes: &'a [u8]) -> Result<Ziplist<'a>, Malformed> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Flaw::Length.at(0))?;
        let [a, b, c, d, e, f, g, h, low, high] = *header;
        let total = u32::from_le_bytes([a, b, c, d]) as usize;
        let last = u32::from_le_bytes([e, f, g, h]) as usize;
        let count = u16::from_le_bytes([low, high]);
        if total != bytes.len() {
            return Err(Flaw::Length.at(0));
        }
        let end = bytes.len() - 1;
        if end < HEADER_LEN || bytes[end] != TERMINATOR {
            return Err(Flaw::Terminator.at(end));
        }
        let elements = &bytes[HEADER_LEN..end];
        let (mut at, mut previous, mut found) = (0, 0, 0);
        while at < elements.len() {
            let here = HEADER_LEN + at;
            let entry = entry(&elements[at..]).ok_or(Flaw::Element.at(here))?;
            if entry.previous != previous {
                return Err(Flaw::Back.at(here));
            }
            at += entry.len;
            previous = entry.len;
            found += 1;
        }
        if last != HEADER_LEN + at - previous {
            return Err(Flaw::Back.at(4));
        }
        if count != UNCOUNTED && usize::from(count) != found {
            return Err(Flaw::Count.at(8));
        }
        Ok(Ziplist { elements, len: found })
    }

    /// How many elements there are.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The elements.
    pub fn iter(self) -> impl Iterator<Item = Element<'a>> + Clone {
        let mut rest = self.elements;
        std::iter::from_fn(move || {
            let entry = entry(rest)?;
            rest = &rest[entry.len..];
            Some(entry.element)
        })
    }
}

/// An element with what stands before it.
struct Entry<'a> {
    /// Bytes that the one before is said to take.
    previous: usize,
    element: Element<'a>,
    /// Bytes that it takes itself.
    len: usize,
}

/// Reads the element that `bytes` begin with.
fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let (previous, skipped) = match *bytes {
        [LONG, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 5),
        [first, ..] if first < LONG => (usize::from(first), 1),
        _ => return None,
    };
    let rest = &bytes[skipped..];
    let string = |head: usize, len: usize| {
        let end = head.checked_add(len)?;
        rest.get(head..end).map(|bytes| (Element::Bytes(bytes), end))
    };
    let int = |n: i64, size: usize| Some((Element::Int(n), size));
    let (element, size) = match *rest {
        [first @ ..=0x3f, ..] => string(1, usize::from(first)),
        [first @ ..=0x7f, low, ..] => string(2, usize::from(first & 0x3f) << 8 | usize::from(low)),
        [0x80..=0xbf, a, b, c, d, ..] => string(5, u32::from_be_bytes([a, b, c, d]) as usize),
        [INT_16, a, b, ..] => int(i64::from(i16::from_le_bytes([a, b])), 3),
        [INT_32, a, b, c, d, ..] => int(i64::from(i32::from_le_bytes([a, b, c, d])), 5),
        [INT_64, ..] => int(i64::from_le_bytes(*rest[1..].first_chunk()?), 9),
        [INT_24, a, b, c, ..] => int(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8), 4),
        [INT_8, a, ..] => int(i64::from(a as i8), 2),
        [first @ 0xf1..=0xfd, ..] => int(i64::from(first) - 0xf1, 1),
        _ => None,
    }?;
    Some(Entry { previous, element, len: skipped + size })
}

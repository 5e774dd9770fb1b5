//! What the packed forms share: their elements, and what can be wrong with bytes that claim to be one.

use super::string::Digits;
use crate::base::{hash, number};
use std::collections::HashSet;

/// An element of a packed value, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element<'a> {
    /// An integer, kept as a number.
    Int(i64),
    /// A string.
    Bytes(&'a [u8]),
}

impl<'a> From<i64> for Element<'a> {
    #[inline]
    fn from(n: i64) -> Element<'a> {
        Element::Int(n)
    }
}

impl<'a> From<&'a [u8]> for Element<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Element<'a> {
        Element::Bytes(bytes)
    }
}

impl<'a> Element<'a> {
    /// The one form in which equal elements are equal: a number where it is the text of one. What the
    /// editors write is in this form; what others wrote need not be.
    #[inline]
    pub fn canonical(self) -> Element<'a> {
        match self {
            Element::Bytes(bytes) => number::parse_i64(bytes).map_or(self, Element::Int),
            Element::Int(_) => self,
        }
    }

    /// The bytes a client sees. `digits` holds them when the element is a number.
    #[inline]
    pub fn bytes<'b>(self, digits: &'b mut Digits) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Element::Int(n) => digits.format(n).as_bytes(),
            Element::Bytes(bytes) => bytes,
        }
    }

    /// How many bytes a client sees.
    #[inline]
    pub fn text_len(self) -> usize {
        match self {
            Element::Int(n) => number::i64_text_len(n),
            Element::Bytes(bytes) => bytes.len(),
        }
    }
}

/// A string to look for among elements, which may keep it as a number.
#[derive(Clone, Copy, Debug)]
pub struct Needle<'a> {
    bytes: &'a [u8],
    int: Option<i64>,
}

impl<'a> Needle<'a> {
    /// Looks for this string.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Needle<'a> {
        Needle { bytes, int: number::parse_i64(bytes) }
    }

    /// Whether an element is this string.
    #[inline]
    pub fn is(&self, element: Element) -> bool {
        match element {
            Element::Int(n) => self.int == Some(n),
            Element::Bytes(bytes) => self.bytes == bytes,
        }
    }
}

/// It would become larger than its form can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The packed value would become too large")]
pub struct Full;

/// Bytes that claim to be in a packed form and are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flaw} at byte {at}")]
pub struct Malformed {
    /// Offset of the byte, or of the element that it belongs to.
    pub at: usize,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What is wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// They are fewer or more than they say.
    #[error("Wrong length")]
    Length,
    /// They do not end as they must.
    #[error("No terminator")]
    Terminator,
    /// No element is written so, or it ends beyond the end.
    #[error("Wrong element")]
    Element,
    /// An element or a header leads back to where no element is.
    #[error("Wrong way back")]
    Back,
    /// The elements are not as many as they say.
    #[error("Wrong count of elements")]
    Count,
    /// They are not in ascending order.
    #[error("Wrong order")]
    Order,
    /// An element lacks what belongs to it.
    #[error("Elements left over")]
    Uneven,
    /// Something is there twice that must be there once.
    #[error("Duplicate element")]
    Duplicate,
}

impl Flaw {
    /// It is here.
    #[inline]
    pub(crate) fn at(self, at: usize) -> Malformed {
        Malformed { at, flaw: self }
    }
}

/// How many elements are compared each with each, which needs no memory.
const COMPARED: usize = 16;

/// Checks that elements come in tuples of `width`, and that no two tuples begin with the same element, as
/// fields of a hash and members of a set must not.
pub fn check_tuples<'a>(
    elements: impl Iterator<Item = Element<'a>>,
    width: usize,
) -> Result<(), Flaw> {
    let mut first = [Element::Int(0); COMPARED];
    let mut seen = HashSet::with_hasher(hash::state().clone());
    let mut count = 0;
    for element in elements {
        let (tuple, place) = (count / width, count % width);
        count += 1;
        if place > 0 {
            continue;
        }
        let element = element.canonical();
        let is_new = if tuple < COMPARED {
            first[tuple] = element;
            !first[..tuple].contains(&element)
        } else {
            if tuple == COMPARED {
                seen.extend(first);
            }
            seen.insert(element)
        };
        if !is_new {
            return Err(Flaw::Duplicate);
        }
    }
    if count.is_multiple_of(width) { Ok(()) } else { Err(Flaw::Uneven) }
}

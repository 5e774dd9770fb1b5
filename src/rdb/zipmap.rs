//! The zipmap, in which small hashes were kept before Redis 2.6. It is only read.
//!
//! ```text
//! pairs, 1 | pair ... | 0xff
//!
//! pair:     length | field | length | unused bytes, 1 | value | the unused bytes
//!
//! length:   a byte up to 253, or 254 and 4 bytes, little-endian
//! ```
//!
//! The number of pairs is 254 where there are as many or more.

use crate::value::packed::{Element, Flaw, Malformed};

const TERMINATOR: u8 = 0xff;
/// The number of pairs is not known without counting; a length takes the next four bytes.
const LONG: u8 = 0xfe;

/// A zipmap, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Zipmap<'a> {
    pairs: &'a [u8],
    len: usize,
}

impl<'a> Zipmap<'a> {
    /// Checks bytes that come from elsewhere.
    pub fn check(bytes: &'a [u8]) -> Result<Zipmap<'a>, Malformed> {
        let [count, pairs @ .., TERMINATOR] = bytes else {
            return Err(Flaw::Terminator.at(bytes.len().saturating_sub(1)));
        };
        let (mut rest, mut found) = (pairs, 0);
        while !rest.is_empty() {
            let at = 1 + pairs.len() - rest.len();
            (_, _, rest) = pair(rest).ok_or(Flaw::Element.at(at))?;
            found += 1;
        }
        if *count != LONG && usize::from(*count) != found {
            return Err(Flaw::Count.at(0));
        }
        Ok(Zipmap { pairs, len: found })
    }

    /// How many pairs there are.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The pairs: field and value.
    pub fn pairs(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        let mut rest = self.pairs;
        std::iter::from_fn(move || {
            let (field, value, next) = pair(rest)?;
            rest = next;
            Some((field, value))
        })
    }

    /// Fields and values, one after the other.
    pub fn iter(self) -> impl Iterator<Item = Element<'a>> + Clone {
        self.pairs().flat_map(|(field, value)| [field, value].map(Element::Bytes))
    }
}

/// Reads the pair that `bytes` begin with: field, value, and what follows.
fn pair(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (len, rest) = length(bytes)?;
    let (field, rest) = rest.split_at_checked(len)?;
    let (len, rest) = length(rest)?;
    let (&unused, rest) = rest.split_first()?;
    let (value, rest) = rest.split_at_checked(len)?;
    Some((field, value, rest.get(usize::from(unused)..)?))
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [LONG, a, b, c, d, rest @ ..] => {
            Some((u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest))
        }
        [first, rest @ ..] if *first < LONG => Some((usize::from(*first), rest)),
        _ => None,
    }
}

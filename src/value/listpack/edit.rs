//! A listpack that is changed: each change moves what is behind it once, and reads nothing before it.

use super::{
    EMPTY, HEADER_LEN, INT_16, INT_24, INT_32, INT_64, Listpack, Place, STRING_32, UNCOUNTED,
    after, back_len, header,
};
use crate::base::limits;
use crate::value::packed::{Element, Full};

/// A listpack to be changed. Integers and the texts of integers become integers, each in the shortest way,
/// as with Redis.
#[derive(Debug)]
pub struct Editor<'v> {
    bytes: &'v mut Vec<u8>,
}

impl<'v> Editor<'v> {
    /// Changes a listpack that has been checked or was made here. No bytes are one without elements.
    #[inline]
    pub fn new(bytes: &'v mut Vec<u8>) -> Editor<'v> {
        if bytes.is_empty() {
            bytes.extend_from_slice(&EMPTY);
        }
        Editor { bytes }
    }

    /// As it is now.
    #[inline]
    pub fn view(&self) -> Listpack<'_> {
        Listpack::new(self.bytes)
    }

    /// Appends an element.
    #[inline]
    pub fn push_back<'e>(&mut self, element: impl Into<Element<'e>>) -> Result<Place, Full> {
        self.insert(self.end(), element)
    }

    /// Puts an element before all others.
    #[inline]
    pub fn push_front<'e>(&mut self, element: impl Into<Element<'e>>) -> Result<Place, Full> {
        self.insert(Place(HEADER_LEN), element)
    }

    /// Where an element behind the last one would be.
    #[inline]
    pub fn end(&self) -> Place {
        Place(self.view().end())
    }

    /// Puts an element before the one at a place, which is its place then.
    #[inline]
    pub fn insert<'e>(
        &mut self,
        place: Place,
        element: impl Into<Element<'e>>,
    ) -> Result<Place, Full> {
        self.insert_all(place, [element.into()])
    }

    /// Puts an element behind the one at a place.
    #[inline]
    pub fn insert_after<'e>(
        &mut self,
        place: Place,
        element: impl Into<Element<'e>>,
    ) -> Result<Place, Full> {
        let place = after(self.bytes, place.0).map_or(self.end(), Place);
        self.insert(place, element)
    }

    /// Puts several elements before the one at a place, which is the first one's place then.
    #[inline]
    pub fn insert_all<const N: usize>(
        &mut self,
        place: Place,
        elements: [Element; N],
    ) -> Result<Place, Full> {
        let encoded = elements.map(Encoded::new);
        self.splice(place.0, 0, &encoded)?;
        self.set_header(N, 0);
        Ok(place)
    }

    /// Puts an element where another one was.
    #[inline]
    pub fn replace<'e>(
        &mut self,
        place: Place,
        element: impl Into<Element<'e>>,
    ) -> Result<(), Full> {
        let removed = after(self.bytes, place.0).map_or(0, |next| next - place.0);
        self.splice(place.0, removed, &[Encoded::new(element.into())])?;
        self.set_header(0, 0);
        Ok(())
    }

    /// Removes the element at a place, at which the one behind it is then.
    #[inline]
    pub fn remove(&mut self, place: Place) {
        self.remove_from(place, 1);
    }

    /// Removes up to `count` elements from a place on; says how many.
    #[inline]
    pub fn remove_from(&mut self, place: Place, count: usize) -> usize {
        let (end, mut to, mut removed) = (self.end().0, place.0, 0);
        while removed < count
            && to < end
            && let Some(next) = after(self.bytes, to)
        {
            to = next;
            removed += 1;
        }
        self.bytes.drain(place.0..to);
        self.set_header(0, removed);
        removed
    }

    /// Removes up to `count` elements from an index on, which is counted from the end where it is negative;
    /// says how many.
    pub fn remove_range(&mut self, index: i64, count: usize) -> usize {
        self.view().place(index).map_or(0, |place| self.remove_from(place, count))
    }

    /// Puts `elements` where `removed` bytes are from `at` on.
    #[inline]
    fn splice(&mut self, at: usize, removed: usize, elements: &[Encoded]) -> Result<(), Full> {
        let added =
            elements.iter().fold(0, |len: usize, element| len.saturating_add(element.len()));
        let old = self.bytes.len();
        let new = (old - removed).saturating_add(added);
        if new > limits::LISTPACK_BYTES_MAX {
            return Err(Full);
        }
        if new > old {
            self.bytes.resize(new, 0);
        }
        self.bytes.copy_within(at + removed..old, at + added);
        self.bytes.truncate(new);
        let mut to = &mut self.bytes[at..at + added];
        for element in elements {
            let (room, rest) = to.split_at_mut(element.len());
            element.write(room);
            to = rest;
        }
        Ok(())
    }

    /// Brings the header up to date. A number of elements that is not known stays so: nobody counts
    /// tens of thousands for a header that is as right without.
    #[inline]
    fn set_header(&mut self, added: usize, removed: usize) {
        let total = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        if let Some((_, count)) = header(self.bytes)
            && count != UNCOUNTED
        {
            let count = (usize::from(count) + added).saturating_sub(removed);
            let count = u16::try_from(count).unwrap_or(UNCOUNTED);
            self.bytes[4..HEADER_LEN].copy_from_slice(&count.to_le_bytes());
        }
    }
}

/// An element as it is written, but for the size behind it.
struct Encoded<'e> {
    head: [u8; 9],
    head_len: usize,
    string: &'e [u8],
}

impl<'e> Encoded<'e> {
    #[inline]
    fn new(element: Element<'e>) -> Encoded<'e> {
        match element.canonical() {
            Element::Int(n) => Encoded::int(n),
            Element::Bytes(string) => Encoded::string(string),
        }
    }

    #[inline]
    fn int(n: i64) -> Encoded<'e> {
        let [a, b, c, d, ..] = n.to_le_bytes();
        match n {
            0..=0x7f => Encoded::headed([a], &[]),
            -0x1000..=0xfff => Encoded::headed([0xc0 | b & 0x1f, a], &[]),
            -0x8000..=0x7fff => Encoded::headed([INT_16, a, b], &[]),
            -0x80_0000..=0x7f_ffff => Encoded::headed([INT_24, a, b, c], &[]),
            -0x8000_0000..=0x7fff_ffff => Encoded::headed([INT_32, a, b, c, d], &[]),
            _ => {
                let mut head = [INT_64; 9];
                head[1..].copy_from_slice(&n.to_le_bytes());
                Encoded::headed(head, &[])
            }
        }
    }

    #[inline]
    fn string(string: &'e [u8]) -> Encoded<'e> {
        // What is longer than four bytes can say is refused before it is written.
        let [a, b, c, d] = (string.len() as u32).to_le_bytes();
        match string.len() {
            ..0x40 => Encoded::headed([0x80 | a], string),
            0x40..0x1000 => Encoded::headed([0xe0 | b, a], string),
            _ => Encoded::headed([STRING_32, a, b, c, d], string),
        }
    }

    #[inline]
    fn headed<const N: usize>(bytes: [u8; N], string: &'e [u8]) -> Encoded<'e> {
        let mut head = [0; 9];
        head[..N].copy_from_slice(&bytes);
        Encoded { head, head_len: N, string }
    }

    /// Bytes without the size behind them.
    #[inline]
    fn size(&self) -> usize {
        self.head_len + self.string.len()
    }

    /// Bytes in all.
    #[inline]
    fn len(&self) -> usize {
        self.size() + back_len(self.size())
    }

    /// Writes it to where it just fits.
    #[inline]
    fn write(&self, to: &mut [u8]) {
        let size = self.size();
        let (element, back) = to.split_at_mut(size);
        let (head, string) = element.split_at_mut(self.head_len);
        head.copy_from_slice(&self.head[..self.head_len]);
        string.copy_from_slice(self.string);
        for (place, byte) in back.iter_mut().rev().enumerate() {
            *byte = (size >> (7 * place)) as u8 | 0x80;
        }
        // Whoever comes from behind stops here.
        back[0] &= 0x7f;
    }
}

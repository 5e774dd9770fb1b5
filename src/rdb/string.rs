//! Lengths and strings, the format's two building blocks.
//!
//! A length's first two bits say how it is written: in the six bits beside them, in those and the next
//! byte, or (the whole byte then says which) in the next 4 or 8 bytes, big-endian. Both bits set mean
//! that no length stands here but a string in a short form.

use super::{Reason, Value, lzf};
use bytes::BufMut;
use std::borrow::Cow;

const SIX_BITS: u8 = 0;
const FOURTEEN_BITS: u8 = 1;
const FOUR_BYTES: u8 = 0x80;
const EIGHT_BYTES: u8 = 0x81;
const SHORT_FORM: u8 = 3;

// Short forms.
const INT8: u8 = 0;
const INT16: u8 = 1;
const INT32: u8 = 2;
const LZF: u8 = 3;

/// Where to read, and what is known of the input beyond what is there.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    /// What is there.
    bytes: &'a [u8],
    at: usize,
    /// Bytes that will have come when all are there, if that is known.
    whole: Option<u64>,
}

/// Why reading stops.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// More bytes are needed.
    More,
    /// They would not help.
    Wrong(Reason),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Stop {
        Stop::Wrong(reason)
    }
}

/// A string as it lies in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw<'a> {
    /// An integer.
    Int(i64),
    /// The bytes themselves.
    Plain(&'a [u8]),
    /// Compressed bytes, and how many they claim to become.
    Lzf(&'a [u8], usize),
}

impl<'a> Raw<'a> {
    /// Its value.
    #[inline]
    pub fn decode(self) -> Result<Value<'a>, Reason> {
        Ok(match self {
            Raw::Int(n) => Value::Int(n),
            Raw::Plain(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
            Raw::Lzf(bytes, len) => Value::Bytes(Cow::Owned(lzf::decompress(bytes, len)?)),
        })
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(self) -> Result<Cow<'a, [u8]>, Reason> {
        Ok(match self.decode()? {
            Value::Int(n) => Cow::Owned(itoa::Buffer::new().format(n).as_bytes().to_vec()),
            Value::Bytes(bytes) => bytes,
        })
    }
}

impl<'a> Cursor<'a> {
    /// At the beginning of `bytes`, which are of an input of `whole` bytes from there on.
    #[inline]
    pub fn new(bytes: &'a [u8], whole: Option<u64>) -> Cursor<'a> {
        Cursor { bytes, at: 0, whole }
    }

    /// How many bytes have been read.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are there and have not been read.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Refuses a claim beyond what is left of the input.
    #[inline]
    pub fn claim(&self, claimed: u64) -> Result<(), Reason> {
        match self.whole {
            Some(whole) => {
                let left = whole.saturating_sub(self.at as u64);
                if claimed > left { Err(Reason::TooLong { claimed, left }) } else { Ok(()) }
            }
            // No input is that long: sums of a claim and an offset must not overflow.
            None if claimed > i64::MAX as u64 => {
                Err(Reason::TooLong { claimed, left: i64::MAX as u64 })
            }
            None => Ok(()),
        }
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: u64) -> Result<&'a [u8], Stop> {
        self.claim(len)?;
        let rest = self.rest();
        // What does not fit into a `usize` is not there.
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or(Stop::More)?;
        self.at += taken.len();
        Ok(taken)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        match self.rest().first_chunk() {
            Some(array) => {
                self.at += N;
                Ok(*array)
            }
            None if self.claim(N as u64).is_err() => Err(Reason::Truncated.into()),
            None => Err(Stop::More),
        }
    }

    /// The next byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Stop> {
        self.array().map(|[byte]| byte)
    }

    /// A length.
    #[inline]
    pub fn length(&mut self) -> Result<u64, Stop> {
        self.whole_or_not(|cursor| match cursor.length_or_form()? {
            Ok(length) => Ok(length),
            Err(form) => Err(Reason::LengthEncoding(SHORT_FORM << 6 | form).into()),
        })
    }

    /// A string. What it claims to be once decompressed is no more than it can be.
    #[inline]
    pub fn string(&mut self) -> Result<Raw<'a>, Stop> {
        // Nearly all strings are short and there.
        let (head, len) = match *self.rest() {
            [first, ..] if first >> 6 == SIX_BITS => (1, usize::from(first)),
            [first, second, ..] if first >> 6 == FOURTEEN_BITS => {
                (2, usize::from(first & 0x3f) << 8 | usize::from(second))
            }
            _ => return self.any_string(),
        };
        let Some(bytes) = self.rest().get(head..head + len) else { return self.any_string() };
        self.at += head + len;
        Ok(Raw::Plain(bytes))
    }

    fn any_string(&mut self) -> Result<Raw<'a>, Stop> {
        self.whole_or_not(|cursor| {
            Ok(match cursor.length_or_form()? {
                Ok(length) => Raw::Plain(cursor.take(length)?),
                Err(INT8) => Raw::Int(i64::from(i8::from_le_bytes(cursor.array()?))),
                Err(INT16) => Raw::Int(i64::from(i16::from_le_bytes(cursor.array()?))),
                Err(INT32) => Raw::Int(i64::from(i32::from_le_bytes(cursor.array()?))),
                Err(LZF) => cursor.compressed()?,
                Err(form) => return Err(Reason::StringEncoding(form).into()),
            })
        })
    }

    fn compressed(&mut self) -> Result<Raw<'a>, Stop> {
        let (compressed, len) = (self.length()?, self.length()?);
        self.claim(compressed)?;
        let len = usize::try_from(len).map_err(|_| Reason::Lzf)?;
        if len as u64 > lzf::most(compressed) {
            return Err(Reason::Lzf.into());
        }
        Ok(Raw::Lzf(self.take(compressed)?, len))
    }

    /// A length, or which short form of a string stands here.
    #[inline]
    fn length_or_form(&mut self) -> Result<Result<u64, u8>, Stop> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match first >> 6 {
            SIX_BITS => Ok(u64::from(low)),
            FOURTEEN_BITS => Ok(u64::from(low) << 8 | u64::from(self.byte()?)),
            SHORT_FORM => Err(low),
            _ => match first {
                FOUR_BYTES => Ok(u64::from(u32::from_be_bytes(self.array()?))),
                EIGHT_BYTES => Ok(u64::from_be_bytes(self.array()?)),
                _ => return Err(Reason::LengthEncoding(first).into()),
            },
        })
    }

    /// Reads something of several parts. Where it stops in the middle, nothing has been read.
    #[inline]
    pub fn whole_or_not<T>(
        &mut self,
        read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let begin = self.at;
        let read = read(self);
        if read.is_err() {
            self.at = begin;
        }
        read
    }

    /// Goes on at an offset that was reached before.
    #[inline]
    pub fn resume(&mut self, at: usize) {
        self.at = at;
    }
}

/// Appends a length.
#[inline]
pub fn put_length(out: &mut impl BufMut, length: u64) {
    if length < 1 << 6 {
        out.put_u8(length as u8);
    } else if length < 1 << 14 {
        out.put_u16(u16::from(FOURTEEN_BITS) << 14 | length as u16);
    } else if let Ok(length) = u32::try_from(length) {
        out.put_u8(FOUR_BYTES);
        out.put_u32(length);
    } else {
        out.put_u8(EIGHT_BYTES);
        out.put_u64(length);
    }
}

/// Appends an integer as a string: in a short form if it has one, else as its text.
#[inline]
pub fn put_int(out: &mut impl BufMut, n: i64) {
    if let Ok(n) = i8::try_from(n) {
        out.put_slice(&[SHORT_FORM << 6 | INT8, n as u8]);
    } else if let Ok(n) = i16::try_from(n) {
        out.put_u8(SHORT_FORM << 6 | INT16);
        out.put_i16_le(n);
    } else if let Ok(n) = i32::try_from(n) {
        out.put_u8(SHORT_FORM << 6 | INT32);
        out.put_i32_le(n);
    } else {
        put_plain(out, itoa::Buffer::new().format(n).as_bytes());
    }
}

/// Appends a string as it is.
#[inline]
pub fn put_plain(out: &mut impl BufMut, bytes: &[u8]) {
    put_length(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Appends a compressed string.
#[inline]
pub fn put_lzf(out: &mut impl BufMut, compressed: &[u8], len: usize) {
    put_lzf_lengths(out, compressed.len(), len);
    out.put_slice(compressed);
}

/// Appends what stands before a compressed string.
#[inline]
pub fn put_lzf_lengths(out: &mut impl BufMut, compressed_len: usize, len: usize) {
    out.put_u8(SHORT_FORM << 6 | LZF);
    put_length(out, compressed_len as u64);
    put_length(out, len as u64);
}

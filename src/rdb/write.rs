//! Keys to bytes.

use super::string::{put_int, put_length, put_lzf, put_plain};
use super::{Checksum, Version, lzf, opcode};
use crate::base::number::parse_i64;
use crate::value::string::Str;
use bytes::{BufMut, BytesMut};

/// How a key was used, as eviction wants to know it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// It is not said.
    #[default]
    None,
    /// Seconds since it was used last.
    Idle(u64),
    /// How often it is used, as LFU counts it.
    Freq(u8),
}

/// Longest text that may be an integer in a short form: `-2147483648`.
const INT_TEXT_MAX: usize = 11;

/// Longest string that is not worth compressing.
const PLAIN_MAX: usize = 20;

/// Bytes that compressing a string has to save.
pub(super) const SAVED_MIN: usize = 4;

/// Bytes of a record besides its key and value, at most: expiry 9, usage 10, type 1, two lengths of 9.
const RECORD_OVERHEAD: usize = 9 + 10 + 1 + 2 * 9;

/// Writes what an input consists of. Whoever appends the whole of one, `header` first and `end` last,
/// appends the checksum behind it as well, eight bytes little-endian, or zeros.
#[derive(Debug)]
pub struct Writer {
    /// What compresses strings, if anything does.
    pub(super) lzf: Option<lzf::Compressor>,
}

impl Writer {
    /// A writer that compresses strings where it helps, or one that never does.
    pub fn new(compress: bool) -> Writer {
        Writer { lzf: compress.then(lzf::Compressor::default) }
    }

    /// The first bytes of an input.
    pub fn header(out: &mut BytesMut, version: Version) {
        out.put_slice(&version.magic());
    }

    /// A fact about the input.
    pub fn aux(out: &mut BytesMut, name: &[u8], value: &[u8]) {
        out.put_u8(opcode::AUX);
        put_short(out, name);
        put_short(out, value);
    }

    /// The records from here on belong to this database.
    pub fn select_db(out: &mut BytesMut, db: u64) {
        out.put_u8(opcode::SELECT_DB);
        put_length(out, db);
    }

    /// How many keys the database has, and how many of them with an expiry.
    pub fn resize_db(out: &mut BytesMut, keys: u64, volatile: u64) {
        out.put_u8(opcode::RESIZE_DB);
        put_length(out, keys);
        put_length(out, volatile);
    }

    /// A library of functions.
    pub fn function(out: &mut BytesMut, code: &[u8]) {
        out.put_u8(opcode::FUNCTION);
        put_plain(out, code);
    }

    /// The end, but for the checksum.
    pub fn end(out: &mut BytesMut) {
        out.put_u8(opcode::END);
    }

    /// A key with all that belongs to it.
    pub fn record(
        &mut self,
        out: &mut BytesMut,
        key: &[u8],
        value: &Str,
        expiry_ms: Option<i64>,
        usage: Usage,
    ) {
        out.reserve(value.len());
        self.begin_record(out, key, expiry_ms, usage);
        self.value(out, value);
    }

    /// A string's record without its value, for who writes that in pieces ([`super::Long`]).
    pub fn begin_record(
        &mut self,
        out: &mut BytesMut,
        key: &[u8],
        expiry_ms: Option<i64>,
        usage: Usage,
    ) {
        out.reserve(RECORD_OVERHEAD + key.len());
        if let Some(at_ms) = expiry_ms {
            out.put_u8(opcode::EXPIRE_MS);
            out.put_i64_le(at_ms);
        }
        match usage {
            Usage::None => {}
            Usage::Idle(seconds) => {
                out.put_u8(opcode::IDLE);
                put_length(out, seconds);
            }
            Usage::Freq(count) => out.put_slice(&[opcode::FREQ, count]),
        }
        out.put_u8(opcode::STRING);
        self.text(out, key);
    }

    /// What DUMP says of a value: its type, its bytes, the version and a checksum. The version is that
    /// of Redis 7.0, whichever is written elsewhere, so that as many servers as possible take it.
    pub fn dump(&mut self, value: &Str) -> Vec<u8> {
        let mut out = vec![opcode::STRING];
        self.value(&mut out, value);
        out.put_u16_le(Version::V10.number());
        let checksum = Checksum::of(&out);
        out.put_u64_le(checksum);
        out
    }

    fn value(&mut self, out: &mut impl BufMut, value: &Str) {
        match value {
            Str::Int(n) => put_int(out, *n),
            Str::Bytes(bytes) => self.text(out, bytes),
            Str::Blob(blob) => self.text(out, blob),
        }
    }

    /// A string in its shortest form.
    fn text(&mut self, out: &mut impl BufMut, bytes: &[u8]) {
        if bytes.len() > PLAIN_MAX
            && let Some(lzf) = &mut self.lzf
            && let Some(compressed) = lzf.compress(bytes, bytes.len() - SAVED_MIN)
        {
            return put_lzf(out, compressed, bytes.len());
        }
        put_short(out, bytes);
    }
}

/// Appends a string, as an integer if it is the text of a small one.
#[inline]
fn put_short(out: &mut impl BufMut, bytes: &[u8]) {
    if bytes.len() <= INT_TEXT_MAX
        && let Some(n) = parse_i64(bytes)
        && i32::try_from(n).is_ok()
    {
        return put_int(out, n);
    }
    put_plain(out, bytes);
}

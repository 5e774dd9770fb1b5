//! Bytes to values.

use super::string::{Cursor, Stop};
use super::{Checksum, Reason, RestoreError, Version, opcode, shape};
use crate::value::New;
use std::borrow::Cow;

/// A value, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string that is written as an integer.
    Int(i64),
    /// A string.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> From<&'a Value<'a>> for New<'a> {
    /// As it is stored.
    fn from(value: &'a Value<'a>) -> New<'a> {
        match value {
            Value::Int(n) => New::Int(*n),
            Value::Bytes(bytes) => New::string(bytes),
        }
    }
}

/// Bytes of the footer of a DUMP payload: the version and the checksum.
const FOOTER_LEN: usize = 2 + 8;

/// Reads a value, which takes all of `bytes`.
#[inline]
pub fn value<'a>(version: Version, type_byte: u8, bytes: &'a [u8]) -> Result<Value<'a>, Reason> {
    if type_byte != opcode::STRING {
        let name = shape::type_name(version, type_byte).ok_or(Reason::UnknownType(type_byte))?;
        return Err(Reason::Unsupported(name, type_byte));
    }
    let mut cursor = Cursor::new(bytes, Some(bytes.len() as u64));
    let raw = cursor.string().map_err(|stop| match stop {
        Stop::More => Reason::Truncated,
        Stop::Wrong(reason) => reason,
    })?;
    match cursor.rest().len() as u64 {
        0 => raw.decode(),
        surplus => Err(Reason::Surplus(surplus)),
    }
}

/// Reads a DUMP payload.
pub fn restore(payload: &[u8]) -> Result<Value<'_>, RestoreError> {
    let (body, footer) = payload.split_last_chunk::<FOOTER_LEN>().ok_or(RestoreError::Footer)?;
    let [low, high, checksum @ ..] = *footer;
    let version = Version::new(u16::from_le_bytes([low, high])).ok_or(RestoreError::Footer)?;
    let signed = &payload[..payload.len() - checksum.len()];
    if Checksum::of(signed) != u64::from_le_bytes(checksum) {
        return Err(RestoreError::Footer);
    }
    let (type_byte, bytes) = body.split_first().ok_or(RestoreError::Value(Reason::Truncated))?;
    value(version, *type_byte, bytes).map_err(RestoreError::Value)
}

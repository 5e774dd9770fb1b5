//! Why an input is refused.

use crate::value::packed::{Flaw, Malformed};
use std::fmt;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It does not begin as the format does.
    #[error("Wrong signature: not an RDB file")]
    Signature,
    /// A version that is not known.
    #[error("Can't handle RDB format version {0}")]
    Version(u16),
    /// It ends before it is complete.
    #[error("The input ends in the middle")]
    Truncated,
    /// Something claims to be longer than what is left of the input.
    #[error("A length of {claimed} where {left} bytes are left")]
    TooLong {
        /// What is claimed: bytes, or elements of at least one byte each.
        claimed: u64,
        /// What is left of the input.
        left: u64,
    },
    /// The value ends before its bytes do.
    #[error("{0} bytes follow the value")]
    Surplus(u64),
    /// No length is written so.
    #[error("Unknown length encoding {0:#04x}")]
    LengthEncoding(u8),
    /// No string is written so.
    #[error("Unknown string encoding {0}")]
    StringEncoding(u8),
    /// Compressed data that give something else than what they claim.
    #[error("Corrupt LZF compressed string")]
    Lzf,
    /// It is as long as it says, and there is no memory for it.
    #[error("No memory for a string of {0} bytes")]
    Memory(usize),
    /// A type of values that is not known, or that never left a release candidate.
    #[error("Unknown type {0}")]
    UnknownType(u8),
    /// A type of values that this server does not have yet.
    #[error("type {0} ({1}) is not supported yet")]
    Unsupported(&'static str, u8),
    /// An opcode that is not known.
    #[error("Unknown opcode {0}")]
    UnknownOpcode(u8),
    /// Functions as a release candidate of Redis 7.0 wrote them.
    #[error("Pre-release function format not supported")]
    PreReleaseFunction,
    /// Data of a module that are not written as the format says.
    #[error("Corrupt module data")]
    Module,
    /// A key that stands in the input twice, or that is there already.
    #[error("Duplicate key")]
    Duplicate,
    /// A database that this server does not have.
    #[error("Database {number} where this server is configured to handle {count} databases")]
    Database {
        /// Its number.
        number: u64,
        /// How many there are.
        count: u64,
    },
    /// A key or a string that is longer than one can be here.
    #[error("A string of {0} bytes, which is longer than one can be")]
    StringTooLong(u64),
    /// A small collection whose bytes are not in the form that they should be in.
    #[error("Corrupt {0}: {1}")]
    Packed(&'static str, Malformed),
    /// One whose elements are not those of such a collection.
    #[error("Corrupt {0}: {1}")]
    Elements(&'static str, Flaw),
    /// The bytes are not those that were written.
    #[error("Wrong RDB checksum expected: ({expected:x}) but got ({found:x}): RDB CRC error")]
    Checksum {
        /// As it stands in the input.
        expected: u64,
        /// Of the bytes that were read.
        found: u64,
    },
}

/// What is wrong with an input, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset of the byte.
    pub at: u64,
    /// What is wrong with it.
    pub reason: Reason,
    /// The key whose record it is in, as far as that is known.
    pub key: Option<Vec<u8>>,
}

/// Bytes of a key that a message shows.
const KEY_SHOWN: usize = 128;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.at)?;
        let Some(key) = &self.key else { return Ok(()) };
        let shown = &key[..key.len().min(KEY_SHOWN)];
        let more = if shown.len() < key.len() { "..." } else { "" };
        write!(f, ", in key '{}{more}'", shown.escape_ascii())
    }
}

impl std::error::Error for Fault {}

/// Why RESTORE refuses a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// Its footer names a version that is not known, or another checksum.
    Footer,
    /// It is as it was written, and what was written is refused.
    Value(Reason),
}

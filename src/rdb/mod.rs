//! Floor 1: the RDB format, in which Redis and Valkey keep their data in files, send it to replicas
//! and hand single values to DUMP: how keys become bytes, and bytes keys.
//!
//! It knows no file, no socket and no clock. Bytes are appended to a buffer that the caller owns
//! ([`Writer`]); what is read comes in pieces ([`Splitter`]), which are cut into records first and
//! decoded second ([`read`]), so that one reader can cut and many shards can decode.
//!
//! An input begins with nine bytes that say its version ([`Version`]). What follows is a sequence of
//! opcodes ([`opcode`]) and of records, each a type byte, a key and a value; the type byte says how the
//! value is laid out ([`shape`]). Numbers that are not lengths are little-endian. A string is a length
//! and bytes, or one of four short forms ([`string`]): an integer of 1, 2 or 4 bytes, or LZF.
//!
//! Small collections are packed into one string. Before Redis 7 that was a [`ziplist`] or a [`zipmap`],
//! which are read and never written; what is written, and how values are kept, is
//! [`crate::value::listpack`] and [`crate::value::intset`]. [`packed`] gives the elements of all four.
//!
//! A type of values comes into the server with a codec here: its part of [`Writer::record`], its variant
//! of [`Value`] and its part of [`read::value`]. Where its values end is known already.

mod checksum;
mod fault;
mod long;
mod lzf;
mod opcode;
pub mod packed;
pub mod read;
mod shape;
mod split;
mod string;
mod version;
mod write;
pub mod ziplist;
pub mod zipmap;

pub use checksum::Checksum;
pub use fault::{Fault, Reason, RestoreError};
pub use long::{Long, Step as LongStep};
pub use read::Value;
pub use shape::type_name;
pub use split::{Item, Record, Splitter};
pub use version::Version;
pub use write::{Usage, Writer};

#[cfg(test)]
mod tests;

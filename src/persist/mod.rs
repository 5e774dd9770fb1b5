//! Floor 6: what lasts: snapshots of all shards as RDB, and loading them again. State machines between
//! the data and an input or output of bytes; who reads and writes files is [`crate::server`].

pub mod loader;
mod producer;
pub mod snapshot;

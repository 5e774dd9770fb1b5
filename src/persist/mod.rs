//! Floor 6: what lasts: snapshots of all shards as RDB, and loading them again. Sans-IO: files and
//! clocks are the next floor's.

mod producer;
pub mod snapshot;

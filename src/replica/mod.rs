//! Floor 6: replication, as state machines. They know no socket, no file and no clock: whoever has those
//! hands in bytes and times, and does what they say.
//!
//! - [`history`]: which stream this is, and what a replica may continue;
//! - [`backlog`]: the last part of the stream, shared by all who need it;
//! - [`primary`]: one replica of this server;
//! - [`waits`]: clients that wait for replicas;
//! - [`link`]: this server as a replica, towards its primary.
//!
//! **Offsets** count bytes of a stream since its beginning: a cursor at offset `n` stands before the
//! byte that PSYNC calls `n + 1`.

pub mod backlog;
pub mod history;
pub mod link;
pub mod primary;
pub mod waits;

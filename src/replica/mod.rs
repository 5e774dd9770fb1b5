//! Floor 6: what servers that follow each other say, and what they have to remember for it. Sans-IO: who
//! has sockets and files drives it.

pub mod backlog;
pub mod backoff;
pub mod failover;
pub mod history;
pub mod link;
pub mod primary;
pub mod waits;

//! A command with arguments of its own, for when it does not run at once: queued by MULTI, waiting for
//! a lock, or going over several shards. Here and not in [`crate::session`], since a call points to its
//! declaration, and what a client remembers stays below what commands there are.

use super::Command;
use crate::resp::Span;

/// One command that runs later.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which.
    pub command: &'static Command,
    /// Its arguments' bytes.
    pub bytes: Vec<u8>,
    /// Where each argument lies in them.
    pub spans: Vec<Span>,
}

/// The commands queued since MULTI.
#[derive(Debug, Default)]
pub struct Queue {
    /// The commands, in order.
    pub calls: Vec<Call>,
    /// Whether queueing one failed: EXEC will abort.
    pub failed: bool,
    /// Bytes of all arguments.
    pub bytes: usize,
}

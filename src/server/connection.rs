//! One socket, as its shard sees it: what has been received and not executed, and what is being
//! sent.

use super::ring::Outgoing;
use crate::resp::ReplyBuf;
use crate::route::client::ClientKey;
use crate::route::gate::{self, Exit};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// See the module's head. About 150 bytes, and no buffer while idle.
#[derive(Debug)]
pub struct Connection {
    fd: OwnedFd,
    /// The client behind it.
    pub client: ClientKey,
    /// Bytes received and not executed yet.
    input: Vec<u8>,
    /// How many of them have been executed all the same: they go when it pays.
    executed: usize,
    /// Bytes wanted before executing goes on: looking earlier would be for nothing.
    wanted: usize,
    /// What is ready for the next send, while none is in flight.
    pub idle_send: Option<Box<Outgoing>>,
    /// How far its replies may leave, once they wait for more than publication.
    pub exit: Option<Box<Exit>>,
    /// Whether the other end is the primary that this server follows.
    pub is_link: bool,
    /// Whether it goes on with the first shard as soon as nothing of it is under way here.
    pub is_moving: bool,
    /// Whether a send is in flight.
    pub is_sending: bool,
    /// Whether a receive is armed.
    pub is_receiving: bool,
    /// Whether its end has been decided: it goes when the kernel has let go of it.
    pub is_closing: bool,
    /// Whether it is in the list of connections to be fed again.
    pub is_ready: bool,
    /// The other side has sent everything it will.
    pub ended: bool,
    /// Whether another shard may be sending on it, for a client that has gone: see
    /// [`crate::route::departure`].
    pub is_lent: bool,
    /// Bytes handed in to be sent that have not gone yet.
    pub in_flight: usize,
    /// Since when more waits to be sent than the soft limit allows, milliseconds since the Unix
    /// epoch; 0 while it does not.
    pub soft_since_ms: i64,
    /// Bytes that its client makes the server use, as they have been counted.
    pub bytes: usize,
}

impl Connection {
    /// A connection that has just been made.
    pub fn new(fd: OwnedFd, client: ClientKey) -> Connection {
        Connection {
            fd,
            client,
            input: Vec::new(),
            executed: 0,
            wanted: 0,
            idle_send: None,
            exit: None,
            is_link: false,
            is_moving: false,
            is_sending: false,
            is_receiving: false,
            is_closing: false,
            is_ready: false,
            ended: false,
            is_lent: false,
            in_flight: 0,
            soft_since_ms: 0,
            bytes: 0,
        }
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether nobody uses its descriptor any more, the kernel or another shard.
    pub fn is_released(&self) -> bool {
        !self.is_sending && !self.is_receiving && !self.is_lent
    }

    /// What is left of it when its client goes on with another shard: the socket, and what has been
    /// received and not executed.
    pub fn into_parts(mut self) -> (OwnedFd, Vec<u8>) {
        self.drop_executed();
        (self.fd, self.input)
    }

    /// Ends both directions, so that what is in flight completes.
    pub fn shut(&self) {
        // An error means that it is over already.
        let _ = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Both);
    }

    /// Lets the kernel wait a moment for more before it sends little.
    pub fn delay_small_sends(&self) {
        // What cannot be set is set for speed already.
        let _ = rustix::net::sockopt::set_tcp_nodelay(&self.fd, false);
    }

    /// Bytes waiting to be executed.
    pub fn waiting(&self) -> usize {
        self.input.len() - self.executed
    }

    /// Bytes allocated for input.
    pub fn input_capacity(&self) -> usize {
        self.input.capacity()
    }

    /// Gives back memory that nothing is in.
    pub fn shrink_input(&mut self) {
        self.drop_executed();
        self.input.shrink_to_fit();
    }

    /// Whether there is enough input for executing to get anywhere.
    pub fn is_worth_feeding(&self) -> bool {
        self.waiting() > 0 && self.waiting() >= self.wanted
    }

    /// Whether its socket is to be read: little waits, or what waits is no whole command yet.
    pub fn wants_input(&self, backlog: usize) -> bool {
        self.waiting() < backlog || !self.is_worth_feeding()
    }

    /// Says how many bytes the command under way needs at least.
    pub fn set_wanted(&mut self, wanted: usize) {
        self.wanted = wanted;
        // A body of known length gets its room at once, as far as that is no more than what has
        // come already or a modest advance: nothing is reserved on a client's word alone.
        let (have, room) = (self.waiting(), self.input.capacity());
        if wanted > room && have > 0 {
            let advance = wanted.min((2 * have).max(ADVANCE));
            self.drop_executed();
            self.input.reserve_exact(advance.saturating_sub(self.input.len()));
        }
    }

    /// Keeps bytes for later.
    pub fn keep(&mut self, bytes: &[u8]) {
        if self.executed == self.input.len() {
            self.input.clear();
            self.executed = 0;
        }
        let end = self.input.len() + bytes.len();
        if end > self.input.capacity() && self.executed + self.wanted >= end {
            // As long as more of one command is to come, there is no need for more room than that.
            let room = (self.executed + self.wanted).min(2 * end);
            self.input.reserve_exact(room - self.input.len());
        }
        self.input.extend_from_slice(bytes);
    }

    /// Takes the input out, to be executed while the connection is borrowed elsewhere.
    pub fn take_input(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.input), self.executed)
    }

    /// Puts the input back, so many bytes of it executed in all.
    pub fn put_input(&mut self, input: Vec<u8>, executed: usize) {
        (self.input, self.executed) = (input, executed);
        if self.executed == self.input.len() {
            // An idle connection owns no memory; a busy one would not be here with a tail.
            self.input = Vec::new();
            self.executed = 0;
        } else if self.executed > self.input.len() / 2 {
            self.drop_executed();
        }
    }

    fn drop_executed(&mut self) {
        if self.executed > 0 {
            self.input.drain(..self.executed);
            self.executed = 0;
        }
    }

    /// Takes replies to be sent, up to a mark, if no send is in flight.
    pub fn load(&mut self, replies: &mut ReplyBuf, upto: usize) -> Option<Box<Outgoing>> {
        if self.is_sending || upto == 0 {
            return None;
        }
        let mut outgoing =
            self.idle_send.take().unwrap_or_else(|| Box::new(Outgoing::new(ReplyBuf::default())));
        if upto == replies.mark() {
            *replies = outgoing.restart(std::mem::take(replies));
        } else {
            outgoing.restart(gate::cut(replies, upto));
        }
        if let Some(exit) = &mut self.exit {
            exit.left(upto);
        }
        Some(outgoing)
    }
}

/// Room made for a long argument before any of it has come, in bytes.
const ADVANCE: usize = 256 * 1024;

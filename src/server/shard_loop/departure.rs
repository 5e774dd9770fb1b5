//! Replies to other shards' clients that leave from here: see [`crate::route::departure`].

use super::ShardLoop;
use crate::route::client::Outlet;
use crate::route::node::Node;
use crate::server::connection::Connection;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::os::fd::{BorrowedFd, RawFd};

/// Before a client is fed: says where a lone reply to it may leave, unless some are on their way
/// already. An outlet is the connection's place and its descriptor.
pub(super) fn offer_outlet(node: &mut Node, at: u32, connection: &Connection) {
    if let Some(client) = node.client_mut(connection.client) {
        let descriptor = connection.descriptor() as u32;
        let outlet = Outlet(u64::from(at) << 32 | u64::from(descriptor));
        client.outlet = (!connection.is_sending).then_some(outlet);
    }
}

impl ShardLoop {
    /// Sends what departs from here, and publishes the answers that say so.
    pub(super) fn depart(&mut self, stamp: u64) {
        let departures = self.node.take_departures();
        if departures.is_empty() {
            return;
        }
        let metrics = self.instance.metrics.shard(self.number);
        for mut batch in departures {
            batch.depart(|_, Outlet(outlet), reply| {
                // SAFETY: the descriptor is open: its connection is released only after the outlet
                // is back, and it goes back with this batch.
                let socket = unsafe { BorrowedFd::borrow_raw(outlet as u32 as RawFd) };
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                match rustix::net::send(socket, reply, flags) {
                    Ok(sent) => {
                        metrics.writes.add(1);
                        metrics.sent.add(sent as u64);
                        sent
                    }
                    Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => 0,
                    // The connection is over, as its own shard is about to find out.
                    Err(error) => {
                        debug_assert!(error != Errno::BADF, "a reply to a socket that was closed");
                        reply.len()
                    }
                }
            });
            self.node.departed(batch);
        }
        self.end_turn(stamp);
    }

    /// Lets go of connections whose outlets are back after their clients have gone.
    pub(super) fn take_back(&mut self) {
        for Outlet(outlet) in self.node.take_returned() {
            let at = (outlet >> 32) as u32;
            if let Some(connection) = self.connections.get_mut(at as usize) {
                connection.is_lent = false;
                self.release(at);
            }
        }
    }
}

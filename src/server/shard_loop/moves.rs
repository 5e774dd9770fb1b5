//! Clients that go on with another shard: a replica becomes one on the first, which has the stream.
//!
//! The client's input is held meanwhile. It leaves when the kernel has let go of its socket and nothing is
//! owed to it, with what it has sent and nobody has executed.

use super::ShardLoop;
use crate::route::client::ClientKey;
use crate::route::requests::LEADER;
use crate::server::transfer::{Moved, Parcel};

impl ShardLoop {
    /// A client, whose input is held, is to go on with the first shard.
    pub(super) fn begin_move(&mut self, client: ClientKey) {
        let Some(&at) = self.of_client.get(client.index as usize) else { return };
        let Some(connection) = self.connections.get_mut(at as usize) else { return };
        if connection.client != client || connection.is_closing || connection.is_moving {
            return;
        }
        connection.is_moving = true;
        if connection.is_receiving {
            self.ring.cancel_receive(at);
        }
        self.moving.push(at);
    }

    /// Hands over those that nothing holds here any more.
    pub(super) fn hand_over_moving(&mut self) {
        for at in std::mem::take(&mut self.moving) {
            let Some(connection) = self.connections.get(at as usize) else { continue };
            if !connection.is_moving || connection.is_closing {
                continue;
            }
            let client = connection.client;
            let owes = self.node.client(client).is_none_or(|client| {
                !client.replies.is_empty() || client.replies.outstanding() > 0 || client.is_lent
            });
            if owes || !connection.is_released() || self.is_arriving(at) {
                self.moving.push(at);
                continue;
            }
            let bytes = connection.bytes;
            let Some(session) = self.node.part_with(client) else { continue };
            self.of_client[client.index as usize] = u32::MAX;
            self.client_bytes = self.client_bytes.saturating_sub(bytes);
            let (fd, input) = self.forget(at).into_parts();
            self.neighbours.add_connection(LEADER);
            let moved = Box::new(Moved { fd, session, input });
            self.neighbours.hand_over(LEADER, Parcel::Client(moved));
            self.neighbours.wake(LEADER, &mut self.ring);
        }
    }

    /// Takes what this shard has been handed.
    pub(super) fn take_parcels(&mut self) {
        for parcel in self.neighbours.take_parcels(self.number) {
            match parcel {
                Parcel::Client(moved) => self.take_in(*moved),
                Parcel::Connected(connected) => self.connected(connected),
            }
        }
    }

    fn take_in(&mut self, moved: Moved) {
        let Moved { fd, session, input } = moved;
        if self.turns_newcomers_away() {
            return self.neighbours.remove_connection(self.number);
        }
        let client = self.node.take_in(session);
        let at = self.connect(fd, client);
        self.connections[at as usize].keep(&input);
        self.receive(at);
        self.begin_sync(client);
    }
}

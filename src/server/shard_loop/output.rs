//! From replies to sends: one in flight per connection, and what follows when it is over.

use super::{POOL, POOLED_BYTES, PROMPT_BYTES, ShardLoop};
use crate::route::client::ClientKey;
use crate::server::ring::Outgoing;
use crate::session::Close;

impl ShardLoop {
    /// One send for each client with something to say.
    pub(super) fn send_replies(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.node.take_dirty(&mut dirty);
        for client in dirty.drain(..) {
            self.send(client);
        }
        self.dirty = dirty;
    }

    pub(super) fn send(&mut self, client: ClientKey) {
        let Some(&at) = self.of_client.get(client.index as usize) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(at as usize) else {
            return;
        };
        if connection.client != client || connection.is_closing {
            return;
        }
        let Some(state) = self.node.client_mut(client) else {
            return;
        };
        if state.session.close == Close::Now {
            return self.close(at);
        }
        if self.owes_too_much(at) {
            self.instance.metrics.shard(self.number).output_closed.add(1);
            return self.close(at);
        }
        let Some(state) = self.node.client_mut(client) else {
            return;
        };
        let is_last = state.session.close != Close::No;
        let connection = &mut self.connections[at as usize];
        let upto = self.node.may_leave(client, &mut connection.exit);
        let Some(state) = self.node.client_mut(client) else {
            return;
        };
        if let Some(outgoing) = connection.load(&mut state.replies.out, upto) {
            connection.is_sending = true;
            connection.in_flight = outgoing.replies.len();
            let is_news = is_last || connection.ended || connection.in_flight > PROMPT_BYTES;
            self.ring.send(at, connection.descriptor(), outgoing, is_news);
        } else if !self.connections[at as usize].is_sending {
            self.maybe_finish(at);
        }
    }

    pub(super) fn sent(
        &mut self,
        at: u32,
        sent: std::io::Result<usize>,
        mut outgoing: Box<Outgoing>,
    ) {
        let Some(connection) = self.connections.get_mut(at as usize) else {
            return;
        };
        connection.is_sending = false;
        self.instance.metrics.shard(self.number).writes.add(1);
        if connection.is_closing {
            return self.release(at);
        }
        let client = connection.client;
        match sent {
            Ok(bytes) => {
                outgoing.sent += bytes;
                connection.in_flight = connection.in_flight.saturating_sub(bytes);
                self.instance.metrics.shard(self.number).sent.add(bytes as u64);
                let now_ms = self.node.now().unix_ms;
                if let Some(state) = self.node.client_mut(client) {
                    state.session.traffic.sent += bytes as u64;
                    if !outgoing.is_done() {
                        // It has made room by reading. What goes out at once says nothing of it.
                        state.session.active_ms = now_ms;
                    }
                    state.session.traffic.output = state.replies.len() + connection.in_flight;
                }
            }
            Err(_) => return self.close(at),
        }
        if !outgoing.is_done() {
            connection.is_sending = true;
            return self.ring.send(at, connection.descriptor(), outgoing, true);
        }
        let Some(state) = self.node.client_mut(client) else {
            return;
        };
        let waits = !state.replies.out.is_empty();
        outgoing.replies.clear();
        if waits {
            connection.idle_send = Some(outgoing);
            return self.send(client);
        }
        // Nothing more to say: the buffers go back to the pool, an idle connection has none.
        for buffer in [outgoing.replies, std::mem::take(&mut state.replies.out)] {
            if buffer.capacity() > 0 && buffer.capacity() <= POOLED_BYTES && self.pool.len() < POOL
            {
                self.pool.push(buffer);
            }
        }
        self.account(at);
        if self.connections[at as usize].waiting() > 0 {
            // It may have been waiting for room.
            self.feed_later(at);
        }
        // What waits may also be the beginning of a command whose end will not come.
        self.maybe_finish(at);
    }

    /// Closes a connection that has nothing left to say and was to be closed then.
    pub(super) fn maybe_finish(&mut self, at: u32) {
        let Some(connection) = self.connections.get(at as usize) else {
            return;
        };
        let Some(state) = self.node.client(connection.client) else {
            return;
        };
        let silent = !connection.is_sending
            && state.replies.is_empty()
            && state.replies.outstanding() == 0
            && !state.held;
        let over = state.session.close != Close::No
            || (connection.ended && !connection.is_worth_feeding());
        if silent && over {
            self.close(at);
        }
    }
}

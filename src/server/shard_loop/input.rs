//! From received bytes to executed commands: one queue of what is to be fed, of which a turn takes
//! as much as its time allows. What is left goes first in the next turn, and whoever has had his
//! share goes to the end: a client with a deep pipeline keeps nobody from his turn.

use super::{BACKLOG, ShardLoop, departure};
use crate::base::limits;
use crate::base::ticks;
use crate::route::client::ClientKey;
use crate::route::feed::Fed;
use crate::server::ring::Received;

/// Something for a connection's client to run.
#[derive(Debug)]
pub(super) enum Input {
    /// Bytes, in the buffer they came in.
    Received(u32, Received),
    /// More of what it had sent earlier.
    More(u32),
}

/// The time of a turn, in [`crate::base::ticks`].
#[derive(Debug)]
pub(super) struct Budget {
    whole: u64,
    least: u64,
}

impl Budget {
    pub(super) fn new() -> Budget {
        let rate = ticks::rate();
        Budget {
            whole: rate.ticks(limits::TURN_BUDGET_US * 1000),
            least: rate.ticks(limits::TURN_BUDGET_LEAST_US * 1000),
        }
    }

    /// Until when clients are fed in a turn that began and came to them at these readings.
    pub(super) fn deadline(&self, began: u64, came_to: u64) -> u64 {
        (began + self.whole).max(came_to + self.least)
    }
}

impl ShardLoop {
    /// Feeds clients, each once at most, until all have been or the turn's time is over.
    pub(super) fn feed_clients(&mut self) {
        if self.is_stopping() {
            // As long as the stop may be taken back, what comes stays where it is.
            if self.is_final() {
                self.drop_input();
            }
            return;
        }
        // What is put off meanwhile is the next turn's.
        for _ in 0..self.input.len() {
            if self.node.is_late() {
                return;
            }
            match self.input.pop_front() {
                Some(Input::Received(at, received)) => self.feed(at, received),
                Some(Input::More(at)) => self.feed_more(at),
                None => return,
            }
        }
    }

    /// Lets go of what will not be run any more.
    fn drop_input(&mut self) {
        for input in std::mem::take(&mut self.input) {
            match input {
                Input::Received(at, received) => {
                    self.ring.give_back(received);
                    if self.connections.contains(at as usize) {
                        self.release(at);
                    }
                }
                Input::More(at) => {
                    if let Some(connection) = self.connections.get_mut(at as usize) {
                        connection.is_ready = false;
                    }
                }
            }
        }
    }

    fn feed_more(&mut self, at: u32) {
        if let Some(connection) = self.connections.get_mut(at as usize) {
            connection.is_ready = false;
            let client = connection.client;
            self.feed_kept(client);
        }
    }

    /// Whether bytes of a connection wait to be fed.
    pub(super) fn is_arriving(&self, at: u32) -> bool {
        self.input.iter().any(|input| matches!(input, Input::Received(other, _) if *other == at))
    }

    /// Executes what has just been received: in the buffer it came in, unless something waits
    /// before it.
    fn feed(&mut self, at: u32, received: Received) {
        let Some(connection) = self.connections.get_mut(at as usize) else {
            return self.ring.give_back(received);
        };
        let metrics = self.instance.metrics.shard(self.number);
        metrics.reads.add(1);
        metrics.received.add(self.ring.bytes(&received).len() as u64);
        if connection.is_closing {
            self.ring.give_back(received);
            return self.release(at);
        }
        let client = connection.client;
        if connection.is_link && !self.is_streaming() {
            let bytes = self.ring.bytes(&received);
            self.connections[at as usize].keep(bytes);
            self.ring.give_back(received);
            return self.hear_primary(at);
        }
        let connection = &mut self.connections[at as usize];
        let bytes = self.ring.bytes(&received);
        let now_ms = self.node.now().unix_ms;
        if let Some(state) = self.node.client_mut(client) {
            state.session.traffic.received += bytes.len() as u64;
            state.session.active_ms = now_ms;
        }
        if connection.waiting() > 0 {
            connection.keep(bytes);
            self.ring.give_back(received);
            if self.connections[at as usize].is_worth_feeding() {
                self.feed_kept(client);
            }
            return self.after_feed(at, client);
        }
        if let Some(state) = self.node.client_mut(client)
            && state.replies.out.capacity() == 0
            && let Some(buffer) = self.pool.pop()
        {
            state.replies.out = buffer;
        }
        departure::offer_outlet(&mut self.node, at, connection);
        let (used, fed) = self.node.feed(client, bytes);
        if used < bytes.len() && fed != Fed::Closed {
            connection.keep(&bytes[used..]);
        }
        if connection.is_link {
            let has_run = bytes[..used].to_vec();
            self.has_run(&has_run);
        }
        self.ring.give_back(received);
        self.follow(at, fed);
        self.after_feed(at, client);
    }

    /// Executes what a client had sent earlier.
    pub(super) fn feed_kept(&mut self, client: ClientKey) {
        let Some(&at) = self.of_client.get(client.index as usize) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(at as usize) else {
            return;
        };
        if connection.client != client
            || connection.is_closing
            || connection.waiting() == 0
            || self.stop.is_some()
        {
            return self.maybe_finish(at);
        }
        if connection.is_link && !self.is_streaming() {
            return self.hear_primary(at);
        }
        let connection = &mut self.connections[at as usize];
        let (input, executed) = connection.take_input();
        departure::offer_outlet(&mut self.node, at, connection);
        let (used, fed) = self.node.feed(client, &input[executed..]);
        if connection.is_link {
            self.has_run(&input[executed..executed + used]);
        }
        self.connections[at as usize].put_input(input, executed + used);
        self.follow(at, fed);
        let Some(connection) = self.connections.get(at as usize) else {
            return;
        };
        if connection.wants_input(BACKLOG) {
            self.receive(at);
        }
        self.after_feed(at, client);
    }

    fn follow(&mut self, at: u32, fed: Fed) {
        let connection = &mut self.connections[at as usize];
        match fed {
            Fed::Wants(wanted) => connection.set_wanted(wanted),
            Fed::More => {
                connection.set_wanted(0);
                if !std::mem::replace(&mut connection.is_ready, true) {
                    self.input.push_back(Input::More(at));
                }
            }
            Fed::Held | Fed::Closed => connection.set_wanted(0),
        }
    }

    /// Bounds what a client may keep here, and stops reading one whose input is not executed.
    fn after_feed(&mut self, at: u32, client: ClientKey) {
        let Some(connection) = self.connections.get_mut(at as usize) else {
            return;
        };
        let waiting = connection.waiting();
        let capacity = connection.input_capacity();
        let most = self.node.query_limit(connection.is_link);
        let Some(state) = self.node.client_mut(client) else {
            return;
        };
        state.session.traffic.query = waiting;
        state.session.traffic.query_capacity = capacity;
        let spans = state.parser.memory();
        if (waiting + spans) as u64 > most {
            self.instance.metrics.shard(self.number).query_closed.add(1);
            return self.close(at);
        }
        self.account(at);
        let connection = &mut self.connections[at as usize];
        if !connection.wants_input(BACKLOG) && connection.is_receiving {
            self.ring.cancel_receive(at);
        }
        if self.connections[at as usize].ended {
            // Its end came with these bytes: what they lack will not come.
            self.maybe_finish(at);
        }
    }

    /// Feeds a connection in a later turn, if that gets anywhere, or lets more come for it.
    pub(super) fn feed_later(&mut self, at: u32) {
        let connection = &mut self.connections[at as usize];
        if connection.is_worth_feeding() && !std::mem::replace(&mut connection.is_ready, true) {
            self.input.push_back(Input::More(at));
        }
        if connection.wants_input(BACKLOG) {
            self.receive(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_leaves_clients_their_least() {
        let budget = Budget { whole: 500, least: 100 };
        assert_eq!(budget.deadline(1_000, 1_000), 1_500);
        assert_eq!(budget.deadline(1_000, 1_400), 1_500);
        assert_eq!(budget.deadline(1_000, 9_000), 9_100);
    }
}

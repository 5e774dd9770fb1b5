//! What a shard does about clients that take too much or should not be here. (Who says nothing for
//! too long is the node's business, which has timers for that.)
//!
//! What a client owes and is owed is counted when it changes. What only time brings about is looked
//! at in slices: at each tick a hundredth of the clients, so that every client is looked at about
//! once a second, however many there are.

use super::{ShardLoop, listen};
use crate::base::limits;
use crate::config::typed::{ClientClass, OutputLimit};
use std::os::fd::OwnedFd;

/// Ticks in which every client has been looked at.
const TICKS_PER_ROUND: usize = 100;
/// Clients looked at in one tick, where that is less.
const LEAST_PER_TICK: usize = 5;

/// What protected mode says to whom it does not let in.
pub(super) const DENIED: &str = "-DENIED Running in protected mode because protected mode is enabled \
    and no password is set for the default user. In this mode connections are only accepted from the \
    loopback interface. To let others in, do one of these: 1) Set a password, with 'CONFIG SET \
    requirepass' from this machine or in the configuration file. 2) Send 'CONFIG SET protected-mode \
    no' from this machine, and CONFIG REWRITE to make it last; MAKE SURE that nobody can reach the \
    server who should not. 3) Say 'protected-mode no' in the configuration file, or start the server \
    with '--protected-mode no'.\r\n";

/// Tells a client that it cannot stay. A socket this new has room for a line; if not, the client is
/// told by the close.
pub(super) fn say(fd: &OwnedFd, line: &[u8]) {
    let flags = rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT;
    let _ = rustix::net::send(fd, line, flags);
}

impl ShardLoop {
    /// Whether protected mode turns this connection away.
    pub(super) fn is_protected_from(&self, fd: &OwnedFd) -> bool {
        let config = self.instance.config();
        config.protected_mode() && config.requirepass().is_empty() && !listen::is_local(fd)
    }

    /// Counts anew what a client makes the server use.
    pub(super) fn account(&mut self, at: u32) {
        let connection = &mut self.connections[at as usize];
        let Some(state) = self.node.client_mut(connection.client) else {
            return;
        };
        let traffic = &mut state.session.traffic;
        traffic.output = state.replies.len() + connection.in_flight;
        traffic.output_capacity = state.replies.out.capacity();
        let bytes = state.session.memory();
        self.client_bytes = (self.client_bytes + bytes).saturating_sub(connection.bytes);
        connection.bytes = bytes;
    }

    /// Whether so much waits to be sent to a client that it has to go.
    pub(super) fn owes_too_much(&mut self, at: u32) -> bool {
        self.account(at);
        let (config, now_ms) = (self.node.config(), self.node.now().unix_ms);
        let has_password = !config.requirepass().is_empty();
        let connection = &mut self.connections[at as usize];
        let Some(state) = self.node.client(connection.client) else {
            return false;
        };
        let session = &state.session;
        // What a replica lacks of the stream is looked at where the stream is.
        if session.class == ClientClass::Replica || session.is_primary {
            return false;
        }
        let mut limit = config.output_limit(session.class);
        let waits = session.traffic.output;
        // A monitor gets what it did not ask for, as a subscriber does: where a normal client may
        // leave as much unread as it likes, a monitor may not.
        if session.monitor && limit.hard_bytes == 0 && limit.soft_bytes == 0 {
            limit = config.output_limit(ClientClass::Pubsub);
        }
        let is_stranger = has_password && !session.was_trusted;
        let too_much = (is_stranger && waits > limits::UNAUTHENTICATED_OUTPUT_MAX)
            || exceeds(limit, waits as u64, &mut connection.soft_since_ms, now_ms);
        if too_much {
            let (id, addr) = (session.id, &session.about.addr);
            tracing::warn!(
                "Client id={id} addr={addr} closed for overcoming of output buffer limits: {waits} \
                 bytes wait to be sent."
            );
        }
        too_much
    }

    /// Looks after the next few clients.
    pub(super) fn look_after_clients(&mut self) {
        let places = self.of_client.len();
        for _ in 0..(places / TICKS_PER_ROUND).max(LEAST_PER_TICK).min(places) {
            self.upkeep_at = (self.upkeep_at + 1) % places;
            if self.upkeep_at == 0 {
                let metrics = self.instance.metrics.shard(self.number);
                metrics.input_max.set(0);
                metrics.output_max.set(0);
            }
            let at = self.of_client[self.upkeep_at];
            if at != u32::MAX {
                self.look_after(at);
            }
        }
    }

    fn look_after(&mut self, at: u32) {
        let Some(connection) = self.connections.get_mut(at as usize) else {
            return;
        };
        let now_ms = self.node.now().unix_ms;
        let Some(state) = self.node.client_mut(connection.client) else {
            return;
        };
        let session = &mut state.session;
        let metrics = self.instance.metrics.shard(self.number);
        let (input, output) = (session.traffic.query_capacity, session.traffic.output);
        metrics.input_max.set(metrics.input_max.get().max(input as u64));
        metrics.output_max.set(metrics.output_max.get().max(output as u64));
        let idle_ms = now_ms - session.active_ms;
        if idle_ms >= limits::IDLE_INPUT_MS {
            connection.shrink_input();
            session.traffic.query_capacity = connection.input_capacity();
        }
        let owes = !state.replies.is_empty() || connection.in_flight > 0;
        self.account(at);
        if owes && self.owes_too_much(at) {
            self.instance.metrics.shard(self.number).output_closed.add(1);
            self.close(at);
        }
    }

    /// Closes clients while all together use more than they may: the largest first, wherever it is.
    pub(super) fn evict_clients(&mut self) {
        let metrics = self.instance.metrics.shard(self.number);
        metrics.client_bytes.set(self.client_bytes as u64);
        let limit = self.node.config().client_memory_limit();
        let Some(limit) = limit.filter(|limit| self.instance.metrics.client_bytes() > *limit)
        else {
            return metrics.client_bytes_max.set(0);
        };
        while self.instance.metrics.client_bytes() > limit && self.evict_largest() {}
    }

    /// Closes the largest client if it is known to be one of this shard's: every shard has said how
    /// large its largest is. (They all look at least once per tick.)
    #[cold]
    fn evict_largest(&mut self) -> bool {
        let may_go = |at: usize| {
            let client = self.node.client(self.connections[at].client);
            client.is_some_and(|client| {
                !client.session.no_evict && client.session.class != ClientClass::Replica
            })
        };
        let sizes = self.connections.iter().map(|(at, connection)| (connection.bytes, at));
        let largest = sizes.filter(|(_, at)| may_go(*at)).max();
        let metrics = &self.instance.metrics;
        let mine = metrics.shard(self.number);
        mine.client_bytes_max.set(largest.map_or(1, |(bytes, _)| bytes as u64 + 1));
        let Some((bytes, at)) = largest else { return false };
        let size = |shard: usize| metrics.shard(shard).client_bytes_max.get();
        let place = |shard: usize| (size(shard), std::cmp::Reverse(shard));
        let is_elsewhere = |shard| size(shard) == 0 || place(shard) > place(self.number);
        if (0..metrics.shards()).any(is_elsewhere) {
            return false;
        }
        if let Some(client) = self.node.client(self.connections[at].client) {
            let (id, addr) = (client.session.id, &client.session.about.addr);
            tracing::info!("Evicting client id={id} addr={addr}, which takes {bytes} bytes");
        }
        mine.evicted_clients.add(1);
        self.close(at as u32);
        let metrics = self.instance.metrics.shard(self.number);
        metrics.client_bytes.set(self.client_bytes as u64);
        true
    }
}

/// Whether so many unsent bytes are more than a limit allows, given since when they have been more
/// than its soft part allows.
pub(super) fn exceeds(
    limit: OutputLimit,
    waits: u64,
    soft_since_ms: &mut i64,
    now_ms: i64,
) -> bool {
    if limit.hard_bytes != 0 && waits >= limit.hard_bytes {
        return true;
    }
    if limit.soft_bytes == 0 || waits < limit.soft_bytes {
        *soft_since_ms = 0;
        return false;
    }
    if *soft_since_ms == 0 {
        *soft_since_ms = now_ms;
        return false;
    }
    // Whole seconds of the clock, as Redis counts them: never sooner than the limit says.
    let soft_seconds = i64::try_from(limit.soft_seconds).unwrap_or(i64::MAX);
    now_ms / 1000 - *soft_since_ms / 1000 > soft_seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soft_limit_is_one_of_time() {
        let limit = OutputLimit { hard_bytes: 1000, soft_bytes: 100, soft_seconds: 2 };
        let mut since = 0;
        let mut at = |waits, now_ms| exceeds(limit, waits, &mut since, now_ms);
        assert!(!at(99, 1_000) && !at(100, 2_000) && !at(500, 4_999));
        assert!(at(100, 5_000));
        // Below it once, and the time begins anew.
        assert!(!at(99, 5_002) && !at(100, 5_003) && !at(100, 7_999) && at(100, 8_000));
        assert!(at(1000, 8_001));
        assert!(!exceeds(OutputLimit::default(), u64::MAX, &mut 0, 1));
    }
}

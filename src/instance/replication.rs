//! Replication as all of the process sees it: whom this server follows or who follows it, and what that
//! means for commands. The shard that leads drives it and tells here how it goes; everybody may look.
//!
//! What moves with every turn (offsets, bytes of a transfer) is told without the lock.

use super::Instance;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// See the module's head.
#[derive(Debug)]
pub struct Replication {
    state: Mutex<State>,
    is_replica: AtomicBool,
    is_linked: AtomicBool,
    good_replicas: AtomicUsize,
    /// What moves with every turn.
    pub progress: Progress,
}

/// What moves with every turn: each is told by one, and read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// The end of the stream: bytes of this history up to now. On a replica, of what has run here.
    pub offset: AtomicU64,
    /// The first offset of the part of the stream that is kept for those who come back; 0 if none is.
    pub backlog_first: AtomicU64,
    /// Bytes of memory that that part takes.
    pub backlog_memory: AtomicU64,
    /// Bytes of the stream that wait to be put in order.
    pub held: AtomicU64,
    /// Since when such have waited and nothing has gone out, in monotonic nanoseconds; 0 if that is not
    /// so.
    pub stalled_since_ns: AtomicU64,
    /// On a replica: how far it has received its primary's stream.
    pub received: AtomicU64,
    /// On a replica: when its primary was last heard of, milliseconds since the Unix epoch.
    pub heard_ms: AtomicI64,
    /// Bytes of the file received, of the transfer under way.
    pub transferred: AtomicU64,
    /// Bytes that have come from primaries.
    pub bytes_in: AtomicU64,
    /// Bytes that have gone to replicas.
    pub bytes_out: AtomicU64,
}

/// All of it, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The history's id: 40 hexadecimal digits.
    pub id: String,
    /// The history before it, and the offset up to which both are one.
    pub second: Option<(String, u64)>,
    /// Whom this server follows.
    pub primary: Option<Primary>,
    /// Who follows it, in the order they came.
    pub replicas: Vec<Replica>,
    /// How many of them count for `min-replicas-to-write`.
    pub good_replicas: usize,
    /// FAILOVER.
    pub failover: Failover,
    /// Synchronizations asked for.
    pub syncs: Syncs,
    /// Commands of a primary's stream that have failed here since the start.
    pub failed_commands: u64,
}

/// The server that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its host, as it was given.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How far the link to it is.
    pub link: LinkState,
    /// Since when the link has been down, milliseconds since the Unix epoch; `None` if it never was up.
    pub down_since_ms: Option<i64>,
    /// Bytes of the file that is being received, if its maker has said how many they are.
    pub transfer_total: Option<u64>,
}

impl Primary {
    /// One to whom there is no link yet.
    pub fn new(host: String, port: u16) -> Primary {
        let link = LinkState::Connect;
        Primary { host, port, link, down_since_ms: None, transfer_total: None }
    }
}

/// How far a link to a primary is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// It is to be made.
    #[default]
    Connect,
    /// It is being made.
    Connecting,
    /// The two are introduced to each other.
    Handshake,
    /// The data is being received, or loaded.
    Sync,
    /// What is received is the stream.
    Connected,
}

impl LinkState {
    /// As ROLE says it.
    pub const fn word(self) -> &'static str {
        match self {
            LinkState::Connect => "connect",
            LinkState::Connecting => "connecting",
            LinkState::Handshake => "handshake",
            LinkState::Sync => "sync",
            LinkState::Connected => "connected",
        }
    }
}

/// A server that follows this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// Where it is reached: what it says, or where its connection comes from.
    pub ip: String,
    /// The port that it says it serves at.
    pub port: i64,
    /// How far it is, as INFO says it.
    pub state: ReplicaState,
    /// The offset that it has acknowledged.
    pub acknowledged: u64,
    /// Seconds since it last did.
    pub lag_s: i64,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicaState {
    /// It waits for a snapshot to begin, or for the one under way to get to it.
    #[default]
    WaitBgsave,
    /// The file is being sent.
    SendBulk,
    /// It follows the stream.
    Online,
}

impl ReplicaState {
    /// As INFO says it.
    pub const fn word(self) -> &'static str {
        match self {
            ReplicaState::WaitBgsave => "wait_bgsave",
            ReplicaState::SendBulk => "send_bulk",
            ReplicaState::Online => "online",
        }
    }
}

/// How far a failover is that FAILOVER has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// There is none.
    #[default]
    None,
    /// Nobody writes, and the replica gets the rest.
    WaitForSync,
    /// The replica is being told to lead.
    InProgress,
}

impl Failover {
    /// As INFO says it.
    pub const fn word(self) -> &'static str {
        match self {
            Failover::None => "no-failover",
            Failover::WaitForSync => "waiting-for-sync",
            Failover::InProgress => "failover-in-progress",
        }
    }
}

/// Synchronizations that replicas have asked for since the statistics began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syncs {
    /// Of all data.
    pub full: u64,
    /// Of what was missed.
    pub partial: u64,
    /// Of what was missed, and could not be given.
    pub refused: u64,
}

impl State {
    /// Whether this server follows that one already.
    pub fn follows(&self, host: &str, port: u16) -> bool {
        self.primary
            .as_ref()
            .is_some_and(|primary| primary.host.eq_ignore_ascii_case(host) && primary.port == port)
    }

    /// How far the link to the primary is, if one is followed.
    pub fn link(&self) -> Option<LinkState> {
        self.primary.as_ref().map(|primary| primary.link)
    }

    /// How many replicas have acknowledged all up to an offset.
    pub fn acknowledged(&self, offset: u64) -> usize {
        let online = self.replicas.iter().filter(|one| one.state == ReplicaState::Online);
        online.filter(|one| one.acknowledged >= offset).count()
    }
}

impl Replication {
    /// Of a process whose history begins, under an id.
    pub(super) fn new(id: String) -> Replication {
        let state = State {
            id,
            second: None,
            primary: None,
            replicas: Vec::new(),
            good_replicas: 0,
            failover: Failover::None,
            syncs: Syncs::default(),
            failed_commands: 0,
        };
        Replication {
            state: Mutex::new(state),
            is_replica: AtomicBool::new(false),
            is_linked: AtomicBool::new(false),
            good_replicas: AtomicUsize::new(0),
            progress: Progress::default(),
        }
    }

    /// All of it, as of now.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The part of the stream that is kept for those who come back: its first offset and its length in
    /// bytes.
    pub fn backlog(&self) -> Option<(u64, u64)> {
        let first = self.progress.backlog_first.load(Ordering::Relaxed);
        let end = self.progress.offset.load(Ordering::Relaxed) + 1;
        (first > 0).then(|| (first, end.saturating_sub(first)))
    }

    /// Whether this server follows another.
    #[inline]
    pub fn is_replica(&self) -> bool {
        self.is_replica.load(Ordering::Acquire)
    }

    /// Whether it follows another whose stream it receives.
    #[inline]
    pub fn is_linked(&self) -> bool {
        self.is_linked.load(Ordering::Acquire)
    }

    /// How many replicas count for `min-replicas-to-write`.
    #[inline]
    pub fn good_replicas(&self) -> usize {
        self.good_replicas.load(Ordering::Acquire)
    }
}

impl Instance {
    /// Replication.
    pub fn replication(&self) -> &Replication {
        &self.replication
    }

    /// Tells how replication goes. All shards will notice if it means something for commands: the role,
    /// whether the primary's stream is received, and how many replicas are good.
    pub fn tell_replication<R>(&self, tell: impl FnOnce(&mut State) -> R) -> R {
        let Replication { state, is_replica, is_linked, good_replicas, .. } = &self.replication;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = tell(&mut state);
        let replica = state.primary.is_some();
        let linked = state.link() == Some(LinkState::Connected);
        let good = state.good_replicas;
        let mut changed = is_replica.swap(replica, Ordering::AcqRel) != replica;
        changed |= is_linked.swap(linked, Ordering::AcqRel) != linked;
        changed |= good_replicas.swap(good, Ordering::AcqRel) != good;
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::instance::Identity;

    fn primary(link: LinkState) -> Option<Primary> {
        let host = "Example.org".to_owned();
        Some(Primary { host, port: 7, link, down_since_ms: None, transfer_total: None })
    }

    #[test]
    fn shards_notice_what_means_something_for_commands() {
        let identity = Identity { run_id: String::new(), started_us: 0, executable: String::new() };
        let instance = Instance::new(Config::default(), 1, 1, identity);
        let mut generation = instance.generation();
        let mut notice = |tell: fn(&mut State)| {
            instance.tell_replication(tell);
            std::mem::replace(&mut generation, instance.generation()) != instance.generation()
        };
        assert!(!notice(|state| state.syncs.full += 1));
        assert!(notice(|state| state.primary = primary(LinkState::Connect)));
        assert!(!notice(|state| state.primary = primary(LinkState::Sync)));
        assert!(notice(|state| state.primary = primary(LinkState::Connected)));
        assert!(notice(|state| state.primary = None));
        assert!(notice(|state| state.good_replicas = 1));
        let replication = instance.replication();
        assert!(!replication.is_replica() && !replication.is_linked());
        assert_eq!((replication.good_replicas(), replication.state().syncs.full), (1, 1));
    }

    #[test]
    fn the_same_primary_is_known_by_its_name_in_any_case() {
        let instance = Replication::new("0".repeat(40));
        let mut state = instance.state();
        assert!(!state.follows("example.org", 7));
        state.primary = primary(LinkState::Connect);
        assert!(state.follows("example.org", 7) && !state.follows("example.org", 8));
    }

    #[test]
    fn only_who_follows_the_stream_has_acknowledged_it() {
        let mut state = Replication::new("0".repeat(40)).state();
        let replica = |state, acknowledged| Replica { state, acknowledged, ..Replica::default() };
        state.replicas = vec![
            replica(ReplicaState::Online, 10),
            replica(ReplicaState::Online, 20),
            replica(ReplicaState::SendBulk, 30),
        ];
        assert_eq!([0, 10, 11, 20, 21].map(|offset| state.acknowledged(offset)), [2, 2, 1, 1, 0]);
    }
}

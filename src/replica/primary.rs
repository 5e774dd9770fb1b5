//! One replica of this server, from its SYNC or PSYNC on: what it has said, how far it is, what it is
//! to be sent beside data, and whether it is still there.
//!
//! ```text
//!   PSYNC that continues ───────────────────────────────────────────┐
//!   SYNC, PSYNC ─► WaitsForSnapshot ─► GetsSnapshot ─► WaitsForAck ─┴► Online
//!                                           └── of known length ──────┘
//! ```
//!
//! A snapshot of a length that nobody knows at its beginning ends with forty bytes that were announced.
//! After it nothing is sent before the replica acknowledges: it would take the stream's first bytes for
//! the snapshot's.

use super::history::ID_DIGITS;
use crate::instance::replication as view;
use crate::session::{Introduction, Sync};

/// How often a replica that waits for a snapshot is sent a sign of life, in milliseconds.
const NEWLINE_MS: i64 = 1000;

/// The version of files that every peer since Redis 7.0 reads.
const RDB_OF_ALL: u32 = 10;

/// The version of files that Valkey writes from its version 9 on, and that version.
const RDB_OF_VALKEY: u32 = 80;
const VALKEY_9: u32 = 9 << 16;

/// See the module's head.
#[derive(Debug)]
pub struct Replica {
    /// What it has said of itself.
    pub about: Introduction,
    /// The address that its connection comes from.
    address: String,
    stage: Stage,
    /// Up to where it has been sent the stream.
    cursor: u64,
    acknowledged: u64,
    /// When it was last heard of, or the transfer to it last moved.
    heard_ms: i64,
    /// When it was last sent a sign of life.
    signed_ms: i64,
    /// What ends the snapshot that it gets.
    mark: Option<[u8; ID_DIGITS]>,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a snapshot that it can have.
    WaitsForSnapshot,
    /// It is being sent one.
    GetsSnapshot,
    /// It has been sent one, and has not said that it has it.
    WaitsForAck,
    /// It follows the stream.
    Online,
}

/// How a snapshot's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// It has so many bytes.
    Length(u64),
    /// These follow it.
    Mark([u8; ID_DIGITS]),
}

/// What comes of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// It is about more than those before.
    News,
    /// It is not.
    Known,
    /// It is about what has not been sent yet: whatever that replica follows, it is not this.
    FromTheFuture,
}

/// What is due of time that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A newline, which means nothing.
    Newline,
    /// Its end: it has not been heard of for too long.
    TimedOut,
}

impl Replica {
    /// One that has asked for data, from an address.
    pub fn new(about: Introduction, address: String, now_ms: i64) -> Replica {
        Replica {
            about,
            address,
            stage: Stage::WaitsForSnapshot,
            cursor: 0,
            acknowledged: 0,
            heard_ms: now_ms,
            signed_ms: now_ms,
            mark: None,
        }
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Up to where it has been sent the stream. The backlog keeps what comes after.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// So many more bytes of the stream have been sent to it.
    pub fn sent(&mut self, bytes: u64) {
        self.cursor += bytes;
    }

    /// The offset that it has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether the stream may be sent to it.
    pub fn streams(&self) -> bool {
        self.stage == Stage::Online && !self.about.rdb_only
    }

    /// Whether it still needs what comes after its cursor.
    pub fn pins(&self) -> bool {
        self.stage != Stage::WaitsForSnapshot && !self.about.rdb_only
    }

    /// The version of the file that it gets: Redis's say none, and write and read what they like.
    pub fn rdb_version(&self) -> u32 {
        match self.about.version {
            Some(VALKEY_9..) => RDB_OF_VALKEY,
            _ => RDB_OF_ALL,
        }
    }

    // ---- what it is sent ---------------------------------------------------------------------

    /// It continues a history from an offset on: returns the line that says so.
    pub fn begin_stream(&mut self, id: &str, from: u64, now_ms: i64) -> Vec<u8> {
        (self.stage, self.cursor, self.acknowledged) = (Stage::Online, from, from);
        self.heard_ms = now_ms;
        match self.about.takes_new_ids {
            true => format!("+CONTINUE {id}\r\n").into_bytes(),
            false => b"+CONTINUE\r\n".to_vec(),
        }
    }

    /// A snapshot for it begins, which is the data of a history at an offset: returns what it is told
    /// then. Who has asked with SYNC is told nothing.
    pub fn begin_snapshot(&mut self, id: &str, offset: u64, now_ms: i64) -> Vec<u8> {
        (self.stage, self.cursor) = (Stage::GetsSnapshot, offset);
        (self.heard_ms, self.signed_ms) = (now_ms, now_ms);
        match self.about.sync {
            Some(Sync::Partial { .. }) => format!("+FULLRESYNC {id} {offset}\r\n").into_bytes(),
            Some(Sync::Full) | None => Vec::new(),
        }
    }

    /// What precedes the snapshot's bytes.
    pub fn head(&mut self, framing: Framing) -> Vec<u8> {
        match framing {
            Framing::Length(bytes) => format!("${bytes}\r\n").into_bytes(),
            Framing::Mark(mark) => {
                self.mark = Some(mark);
                [b"$EOF:", &mark[..], b"\r\n"].concat()
            }
        }
    }

    /// What follows them.
    pub fn tail(&self) -> &[u8] {
        self.mark.as_ref().map_or(&[], |mark| mark)
    }

    /// Some of the snapshot has gone out.
    pub fn progressed(&mut self, now_ms: i64) {
        self.heard_ms = now_ms;
    }

    /// All of it has, its tail included.
    pub fn end_snapshot(&mut self, now_ms: i64) {
        self.heard_ms = now_ms;
        self.stage = if self.mark.is_some() { Stage::WaitsForAck } else { Stage::Online };
    }

    /// The snapshot could not be made: it waits for another.
    pub fn lose_snapshot(&mut self, now_ms: i64) {
        self.stage = Stage::WaitsForSnapshot;
        self.mark = None;
        (self.heard_ms, self.signed_ms) = (now_ms, now_ms);
    }

    // ---- what it says, and whether it does ---------------------------------------------------

    /// It says that it has all up to an offset, where the stream has come to `end`.
    pub fn acknowledge(&mut self, offset: u64, end: u64, now_ms: i64) -> Acknowledged {
        if offset > end {
            return Acknowledged::FromTheFuture;
        }
        self.heard_ms = now_ms;
        let is_first = self.stage == Stage::WaitsForAck;
        if is_first {
            self.stage = Stage::Online;
        }
        let is_news = offset > self.acknowledged;
        self.acknowledged = self.acknowledged.max(offset);
        if is_news || is_first { Acknowledged::News } else { Acknowledged::Known }
    }

    /// What is due now, where a replica may be silent for `timeout_ms`.
    pub fn tick(&mut self, timeout_ms: i64, now_ms: i64) -> Due {
        match self.stage {
            Stage::WaitsForSnapshot if now_ms - self.signed_ms >= NEWLINE_MS => {
                self.signed_ms = now_ms;
                Due::Newline
            }
            Stage::WaitsForSnapshot => Due::Nothing,
            // Who has asked with SYNC never says how far it is.
            Stage::Online if self.about.sync == Some(Sync::Full) => Due::Nothing,
            _ if now_ms - self.heard_ms > timeout_ms => Due::TimedOut,
            _ => Due::Nothing,
        }
    }

    /// Whole seconds since it was last heard of.
    pub fn lag_s(&self, now_ms: i64) -> i64 {
        (now_ms - self.heard_ms).max(0) / 1000
    }

    /// Whether it counts for `min-replicas-to-write`.
    pub fn is_good(&self, max_lag_s: u32, now_ms: i64) -> bool {
        self.stage == Stage::Online && self.lag_s(now_ms) <= i64::from(max_lag_s)
    }

    /// Whether it has all up to an offset, and follows from there.
    pub fn has(&self, offset: u64) -> bool {
        self.stage == Stage::Online && self.acknowledged >= offset
    }

    /// As everybody may see it.
    pub fn view(&self, now_ms: i64) -> view::Replica {
        let (state, lag_s) = match self.stage {
            Stage::WaitsForSnapshot => (view::ReplicaState::WaitBgsave, 0),
            Stage::GetsSnapshot | Stage::WaitsForAck => (view::ReplicaState::SendBulk, 0),
            Stage::Online => (view::ReplicaState::Online, self.lag_s(now_ms)),
        };
        let ip = if self.about.ip.is_empty() { &self.address } else { &self.about.ip };
        let (ip, port) = (ip.clone(), self.about.port);
        view::Replica { ip, port, state, acknowledged: self.acknowledged, lag_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn replica(sync: Sync) -> Replica {
        let about = Introduction { port: 7000, sync: Some(sync), ..Introduction::default() };
        Replica::new(about, "10.0.0.1".to_owned(), 0)
    }

    fn psync() -> Sync {
        Sync::Partial { id: b"?".to_vec(), offset: -1, hands_over: false }
    }

    #[test]
    fn a_snapshot_of_unknown_length_is_followed_by_an_acknowledgement() {
        let mut replica = replica(psync());
        assert_eq!(
            replica.begin_snapshot(ID, 50, 0),
            format!("+FULLRESYNC {ID} 50\r\n").as_bytes()
        );
        let mark = [b'x'; ID_DIGITS];
        let head = replica.head(Framing::Mark(mark));
        assert_eq!(
            (&head[..5], &head[5..45], &head[45..]),
            (&b"$EOF:"[..], &mark[..], &b"\r\n"[..])
        );
        assert_eq!(replica.tail(), mark);
        replica.end_snapshot(10);
        assert!(replica.stage() == Stage::WaitsForAck && !replica.streams() && replica.pins());
        assert_eq!(replica.view(10).state, view::ReplicaState::SendBulk);
        assert_eq!(replica.acknowledge(0, 60, 20), Acknowledged::News);
        assert!(replica.streams() && replica.cursor() == 50);
        assert_eq!(replica.acknowledge(60, 60, 20), Acknowledged::News);
        assert_eq!(replica.acknowledge(60, 60, 20), Acknowledged::Known);
        assert_eq!(replica.acknowledge(61, 60, 20), Acknowledged::FromTheFuture);
        assert!(replica.has(60) && !replica.has(61));
    }

    #[test]
    fn one_of_known_length_by_nothing() {
        let mut replica = replica(Sync::Full);
        assert_eq!(replica.begin_snapshot(ID, 50, 0), b"");
        assert_eq!(replica.head(Framing::Length(7)), b"$7\r\n");
        assert_eq!(replica.tail(), b"");
        replica.end_snapshot(0);
        assert!(replica.streams());
    }

    #[test]
    fn who_continues_is_told_the_id_if_it_takes_one() {
        let mut old = replica(psync());
        assert_eq!(old.begin_stream(ID, 70, 0), b"+CONTINUE\r\n");
        let mut new = replica(psync());
        new.about.takes_new_ids = true;
        assert_eq!(new.begin_stream(ID, 70, 0), format!("+CONTINUE {ID}\r\n").as_bytes());
        assert!(new.streams() && new.cursor() == 70 && new.has(70));
        new.sent(5);
        assert_eq!(new.cursor(), 75);
    }

    #[test]
    fn who_waits_hears_a_newline_every_second_and_who_is_silent_is_given_up() {
        let mut replica = replica(psync());
        let due: Vec<Due> = (1..=4).map(|half_s| replica.tick(60_000, half_s * 500)).collect();
        assert_eq!(due, [Due::Nothing, Due::Newline, Due::Nothing, Due::Newline]);
        assert!(!replica.pins());
        replica.begin_snapshot(ID, 0, 5_000);
        assert_eq!(replica.tick(60_000, 65_000), Due::Nothing);
        assert_eq!(replica.tick(60_000, 65_001), Due::TimedOut);
        replica.progressed(65_000);
        assert_eq!(replica.tick(60_000, 70_000), Due::Nothing);
        replica.lose_snapshot(70_000);
        assert_eq!(replica.tick(60_000, 71_000), Due::Newline);
        replica.begin_stream(ID, 0, 80_000);
        assert_eq!(replica.tick(60_000, 140_001), Due::TimedOut);
        let mut old = self::replica(Sync::Full);
        old.begin_snapshot(ID, 0, 0);
        old.end_snapshot(0);
        assert_eq!(old.tick(60_000, 1_000_000), Due::Nothing);
    }

    #[test]
    fn who_follows_and_has_been_heard_of_is_good() {
        let mut replica = replica(psync());
        assert!(!replica.is_good(10, 0));
        replica.begin_stream(ID, 0, 0);
        assert!(replica.is_good(10, 10_999) && !replica.is_good(10, 11_000));
        replica.acknowledge(0, 0, 11_000);
        assert!(replica.is_good(10, 11_000));
        assert_eq!(replica.view(13_500).lag_s, 2);
    }

    #[test]
    fn its_address_is_what_it_says() {
        let mut replica = replica(psync());
        let seen = replica.view(0);
        assert_eq!((seen.ip.as_str(), seen.port), ("10.0.0.1", 7000));
        replica.about.ip = "example.org".to_owned();
        assert_eq!(replica.view(0).ip, "example.org");
    }

    #[test]
    fn valkeys_from_9_on_get_their_own_files() {
        let mut replica = replica(psync());
        let mut of = |version| {
            replica.about.version = version;
            replica.rdb_version()
        };
        assert_eq!(
            [None, Some(0x08_01_05), Some(0x09_00_00), Some(0x09_01_02)].map(&mut of),
            [10, 10, 80, 80]
        );
    }

    #[test]
    fn who_wants_the_file_alone_needs_no_stream() {
        let mut replica = replica(Sync::Full);
        replica.about.rdb_only = true;
        replica.begin_snapshot(ID, 0, 0);
        assert!(!replica.pins());
        replica.end_snapshot(0);
        assert!(!replica.streams());
    }
}

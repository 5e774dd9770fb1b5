//! One replica of this server, from its SYNC or PSYNC on: what it has said, how far it is, what it is
//! to be sent, and whether it is still there.
//!
//! ```text
//! PSYNC ──┬── what it missed is kept ─────────────────────────────────────────> online
//!         └── waits for a snapshot ─┬─ gets it as it is made, and says when it has it ─┘
//!                                   └─ waits for the file, and gets that ──────────────┘
//! ```
//! A snapshot that is sent as it is made has no length that anybody knows at its beginning: it ends with
//! forty bytes that were announced. After it nothing is sent before the replica acknowledges: it would
//! take the stream's first bytes for the snapshot's.
//!
//! What it gets before the stream stands in its outbox. The stream stays where it is, in the
//! [`Backlog`], until a send takes it: so a slow replica costs no memory but what it lacks of the stream,
//! and shares that with all others.

use super::backlog::Backlog;
use super::link::MARK_BYTES;
use crate::instance::replication as shown;
use crate::rdb::Version;
use crate::session::{Introduction, Sync};
use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes of a snapshot that wait for one replica while others have had theirs.
const AHEAD_BYTES: usize = 1024 * 1024;
/// How often a replica that waits for a snapshot is sent a sign of life, in milliseconds.
const NEWLINE_MS: i64 = 1000;
/// The version from which on Valkey writes files of its own line, as 0xMMmmpp.
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
    /// When it was last heard of.
    heard_ms: i64,
    /// When it last took something.
    moved_ms: i64,
    /// When it was last sent a sign of life.
    signed_ms: i64,
    /// What ends the snapshot that it gets.
    mark: Option<[u8; MARK_BYTES]>,
    outbox: VecDeque<Bytes>,
    outbox_bytes: usize,
    /// Since when it has been too far behind for the soft limit, milliseconds since the Unix epoch; 0 while
    /// it is not.
    pub soft_since_ms: i64,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a snapshot to be cut.
    Waits,
    /// One has been cut that it will have from a file, which is being written.
    WaitsForFile,
    /// It is being sent one.
    Gets,
    /// It has been given all of it, and is yet to say that it has it.
    Has,
    /// It has been given all that it wanted: it goes when that has left.
    IsDone,
    /// It follows the stream.
    Online,
}

/// How a snapshot's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// It has so many bytes.
    Length(u64),
    /// These follow it.
    Mark([u8; MARK_BYTES]),
}

/// What comes of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// It is one more.
    Fine,
    /// It is the first: the replica follows the stream from here on.
    First,
    /// It is about what has not been sent yet: whatever that replica follows, it is not this.
    FromTheFuture,
}

/// What is due of time that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Its end: it has taken nothing of its snapshot for too long.
    TimedOutInSync,
    /// Its end: it has not been heard of for too long.
    TimedOut,
}

impl Replica {
    /// One that has asked for data, from an address.
    pub fn new(about: Introduction, address: String, now_ms: i64) -> Replica {
        Replica {
            about,
            address,
            stage: Stage::Waits,
            cursor: 0,
            acknowledged: 0,
            heard_ms: now_ms,
            moved_ms: now_ms,
            signed_ms: now_ms,
            mark: None,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            soft_since_ms: 0,
        }
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Where it is reached: what it says, or where its connection comes from.
    pub fn ip(&self) -> &str {
        if self.about.ip.is_empty() { &self.address } else { &self.about.ip }
    }

    /// As the log names it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.ip(), self.about.port)
    }

    /// The first byte of the stream that it still needs, if it does.
    pub fn needs(&self) -> Option<u64> {
        let follows = !matches!(self.stage, Stage::Waits | Stage::IsDone);
        (follows && !self.about.rdb_only).then_some(self.cursor)
    }

    /// Whether it is to follow the stream, now or when it has its snapshot.
    pub fn wants_stream(&self) -> bool {
        self.stage != Stage::IsDone && !self.about.rdb_only
    }

    /// How many bytes of a stream that has come to `end` it has yet to be sent.
    pub fn lacks(&self, end: u64) -> u64 {
        self.needs().map_or(0, |cursor| end.saturating_sub(cursor))
    }

    /// The offset that it has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether it has all up to an offset, and follows from there.
    pub fn has(&self, offset: u64) -> bool {
        self.stage == Stage::Online && self.acknowledged >= offset
    }

    /// The version of the file that it gets. Who says none is a Redis, or an old tool, and gets what all
    /// read.
    pub fn rdb_version(&self) -> Version {
        match self.about.version {
            Some(VALKEY_9..) => Version::VALKEY80,
            _ => Version::V10,
        }
    }

    // ---- what it is sent ---------------------------------------------------------------------

    /// Something that it gets before the stream.
    pub fn put(&mut self, bytes: Bytes) {
        self.outbox_bytes += bytes.len();
        self.outbox.push_back(bytes);
    }

    fn put_text(&mut self, text: String) {
        self.put(Bytes::from(text));
    }

    /// Whether more of a snapshot may be put before it has taken what it has.
    pub fn has_room(&self) -> bool {
        self.outbox_bytes < AHEAD_BYTES
    }

    /// Whether it has taken all that has been put.
    pub fn is_empty(&self) -> bool {
        self.outbox.is_empty()
    }

    /// It goes on with a history from an offset on.
    pub fn begin_stream(&mut self, id: &str, from: u64) {
        (self.stage, self.cursor, self.acknowledged) = (Stage::Online, from, from);
        match self.about.takes_new_ids {
            true => self.put_text(format!("+CONTINUE {id}\r\n")),
            false => self.put(Bytes::from_static(b"+CONTINUE\r\n")),
        }
    }

    /// A snapshot has been cut that it will have, at an offset of a history. Who has asked with SYNC is not
    /// told.
    pub fn begin_snapshot(&mut self, id: &str, offset: u64) {
        (self.stage, self.cursor) = (Stage::WaitsForFile, offset);
        if self.about.sync != Some(Sync::Full) {
            self.put_text(format!("+FULLRESYNC {id} {offset}\r\n"));
        }
    }

    /// The snapshot's bytes follow.
    pub fn begin_bytes(&mut self, framing: Framing, now_ms: i64) {
        (self.stage, self.moved_ms) = (Stage::Gets, now_ms);
        match framing {
            Framing::Length(bytes) => self.put_text(format!("${bytes}\r\n")),
            Framing::Mark(mark) => {
                self.mark = Some(mark);
                self.put(Bytes::from([b"$EOF:".as_slice(), &mark, b"\r\n"].concat()));
            }
        }
    }

    /// They have been put.
    pub fn end_bytes(&mut self) {
        let mark = self.mark.take();
        if let Some(mark) = &mark {
            self.put(Bytes::copy_from_slice(mark));
        }
        self.stage = match mark {
            _ if self.about.rdb_only => Stage::IsDone,
            Some(_) => Stage::Has,
            None => Stage::Online,
        };
    }

    /// Takes what it is to be sent next, no more than about `most` bytes. Returns how many those are.
    pub fn take(
        &mut self,
        backlog: Option<&mut Backlog>,
        most: usize,
        now_ms: i64,
        mut give: impl FnMut(Bytes),
    ) -> usize {
        let mut taken = 0;
        while taken < most
            && let Some(bytes) = self.outbox.pop_front()
        {
            self.outbox_bytes -= bytes.len();
            taken += bytes.len();
            give(bytes);
        }
        if self.stage == Stage::Online
            && self.outbox.is_empty()
            && let Some(backlog) = backlog
        {
            let some = backlog.read(self.cursor, most.saturating_sub(taken), give);
            self.cursor += some as u64;
            taken += some;
        }
        if taken > 0 {
            self.moved_ms = now_ms;
        }
        taken
    }

    // ---- what it says, and whether it does ---------------------------------------------------

    /// Something has been heard of it, at a time.
    pub fn heard(&mut self, at_ms: i64) {
        self.heard_ms = self.heard_ms.max(at_ms);
    }

    /// It says that it has all up to an offset, where the stream has come to `end`.
    pub fn acknowledge(&mut self, offset: u64, end: u64, now_ms: i64) -> Acknowledged {
        self.heard(now_ms);
        if offset > end {
            return Acknowledged::FromTheFuture;
        }
        // Before it has been given all of the snapshot it speaks of what it had before.
        let is_first = self.stage == Stage::Has && self.outbox.is_empty();
        if is_first {
            self.stage = Stage::Online;
        }
        if self.stage == Stage::Online {
            self.acknowledged = self.acknowledged.max(offset);
        }
        if is_first { Acknowledged::First } else { Acknowledged::Fine }
    }

    /// What is due now, where a replica may be silent for `patience_ms`. Who waits for a snapshot gets a
    /// newline now and then, which means nothing. Who gets one is given up if it does not take what it is
    /// sent (`is_sending`: some of that is on its way), not if others hold it up.
    pub fn tick(&mut self, patience_ms: i64, now_ms: i64, is_sending: bool) -> Due {
        let is_out = |since_ms: i64| now_ms - since_ms > patience_ms;
        let is_stuck = is_sending || !self.outbox.is_empty();
        match self.stage {
            Stage::Waits | Stage::WaitsForFile => {
                if now_ms - self.signed_ms >= NEWLINE_MS && self.outbox.is_empty() {
                    self.signed_ms = now_ms;
                    self.put(Bytes::from_static(b"\n"));
                }
                Due::Nothing
            }
            Stage::Gets | Stage::IsDone if is_stuck && is_out(self.moved_ms) => Due::TimedOutInSync,
            // Who has asked with SYNC never says how far it is.
            Stage::Online if self.about.sync == Some(Sync::Full) => Due::Nothing,
            Stage::Has | Stage::Online if is_out(self.heard_ms.max(self.moved_ms_in_sync())) => {
                Due::TimedOut
            }
            _ => Due::Nothing,
        }
    }

    /// Who takes a snapshot says nothing meanwhile. What takes the stream may be a kernel's buffer.
    fn moved_ms_in_sync(&self) -> i64 {
        if self.stage == Stage::Has { self.moved_ms } else { 0 }
    }

    /// As everybody may see it.
    pub fn shown(&self, now_ms: i64) -> shown::Replica {
        let state = match self.stage {
            Stage::Waits | Stage::WaitsForFile => shown::ReplicaState::WaitBgsave,
            // What is sent while it is made is called so by the peers, too.
            Stage::Gets if self.mark.is_some() => shown::ReplicaState::WaitBgsave,
            Stage::Gets | Stage::Has | Stage::IsDone => shown::ReplicaState::SendBulk,
            Stage::Online => shown::ReplicaState::Online,
        };
        let lag_s = match self.stage {
            Stage::Online => (now_ms - self.heard_ms).max(0) / 1000,
            _ => 0,
        };
        let (ip, port) = (self.ip().to_owned(), self.about.port);
        shown::Replica { ip, port, state, acknowledged: self.acknowledged, lag_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";
    const MARK: [u8; MARK_BYTES] = [b'x'; MARK_BYTES];

    fn replica(sync: Sync) -> Replica {
        let about = Introduction { port: 7000, sync: Some(sync), ..Introduction::default() };
        Replica::new(about, "10.0.0.1".to_owned(), 0)
    }

    fn psync() -> Sync {
        Sync::Partial { id: b"?".to_vec(), offset: -1, hands_over: false }
    }

    fn sent(replica: &mut Replica, backlog: Option<&mut Backlog>) -> String {
        let mut sent = Vec::new();
        let taken = replica.take(backlog, 1_000, 0, |piece| sent.extend_from_slice(&piece));
        assert_eq!(taken, sent.len());
        String::from_utf8(sent).unwrap()
    }

    #[test]
    fn a_snapshot_of_unknown_length_is_followed_by_an_acknowledgement() {
        let mut replica = replica(psync());
        let mut backlog = Backlog::new(50);
        assert_eq!(replica.needs(), None);
        replica.begin_snapshot(ID, 50);
        replica.begin_bytes(Framing::Mark(MARK), 0);
        replica.put(Bytes::from_static(b"DATA"));
        backlog.push(Bytes::from_static(b"0123456789"));
        let mark = "x".repeat(MARK_BYTES);
        let begin = format!("+FULLRESYNC {ID} 50\r\n$EOF:{mark}\r\nDATA");
        assert_eq!(sent(&mut replica, Some(&mut backlog)), begin);
        // It does not have all of it.
        assert_eq!(replica.acknowledge(0, 60, 1), Acknowledged::Fine);
        replica.end_bytes();
        assert_eq!(replica.acknowledge(0, 60, 1), Acknowledged::Fine);
        assert_eq!(sent(&mut replica, Some(&mut backlog)), mark);
        assert_eq!(
            (replica.stage(), replica.needs(), replica.lacks(60)),
            (Stage::Has, Some(50), 10)
        );
        assert_eq!(replica.shown(10).state, shown::ReplicaState::SendBulk);
        assert_eq!(sent(&mut replica, Some(&mut backlog)), "");
        assert_eq!(replica.acknowledge(50, 60, 20), Acknowledged::First);
        assert_eq!(sent(&mut replica, Some(&mut backlog)), "0123456789");
        assert_eq!((replica.lacks(60), replica.has(60)), (0, false));
        assert_eq!(replica.acknowledge(60, 60, 20), Acknowledged::Fine);
        assert_eq!(replica.acknowledge(61, 60, 20), Acknowledged::FromTheFuture);
        assert!(replica.has(60) && !replica.has(61));
    }

    #[test]
    fn one_of_known_length_by_the_stream() {
        let mut replica = replica(Sync::Full);
        replica.begin_snapshot(ID, 50);
        assert_eq!((replica.stage(), replica.needs()), (Stage::WaitsForFile, Some(50)));
        replica.begin_bytes(Framing::Length(4), 0);
        replica.put(Bytes::from_static(b"DATA"));
        replica.end_bytes();
        let mut backlog = Backlog::new(50);
        backlog.push(Bytes::from_static(b"0123"));
        assert_eq!(sent(&mut replica, Some(&mut backlog)), "$4\r\nDATA0123");
    }

    #[test]
    fn who_continues_is_told_the_id_if_it_takes_one() {
        let mut old = replica(psync());
        old.begin_stream(ID, 70);
        assert_eq!(sent(&mut old, None), "+CONTINUE\r\n");
        let mut new = replica(psync());
        new.about.takes_new_ids = true;
        new.begin_stream(ID, 70);
        assert_eq!(sent(&mut new, None), format!("+CONTINUE {ID}\r\n"));
        assert!(new.has(70) && !new.has(71));
    }

    #[test]
    fn a_slow_one_takes_a_piece_at_a_time() {
        let mut replica = replica(psync());
        while replica.has_room() {
            replica.put(Bytes::from(vec![0; 100_000]));
        }
        let mut pieces = 0;
        assert_eq!(replica.take(None, 150_000, 5, |_| pieces += 1), 200_000);
        assert!(pieces == 2 && replica.has_room() && !replica.is_empty());
    }

    #[test]
    fn who_waits_gets_a_newline_every_second_and_who_is_silent_is_given_up() {
        let mut replica = replica(psync());
        let signs: Vec<String> = (1..=4)
            .map(|half_s| {
                assert_eq!(replica.tick(60_000, half_s * 500, false), Due::Nothing);
                sent(&mut replica, None)
            })
            .collect();
        assert_eq!(signs, ["", "\n", "", "\n"]);
        replica.begin_snapshot(ID, 0);
        sent(&mut replica, None);
        replica.tick(60_000, 90_000, false);
        assert_eq!(sent(&mut replica, None), "\n");
        replica.begin_bytes(Framing::Mark(MARK), 100_000);
        assert_eq!(replica.tick(60_000, 160_000, false), Due::Nothing);
        assert_eq!(replica.tick(60_000, 160_001, false), Due::TimedOutInSync);
        // Another that shares its snapshot holds it up: it has taken all there is.
        assert_eq!(replica.take(None, 1_000, 100_000, |_| {}), 47);
        assert_eq!(replica.tick(60_000, 160_001, false), Due::Nothing);
        assert_eq!(replica.tick(60_000, 160_001, true), Due::TimedOutInSync);
        replica.take(None, 1, 160_001, drop);
        assert_eq!(replica.tick(60_000, 200_000, false), Due::Nothing);
        replica.end_bytes();
        replica.take(None, 1_000, 200_000, drop);
        assert_eq!(replica.tick(60_000, 260_001, false), Due::TimedOut);
        replica.heard(260_000);
        assert_eq!(replica.tick(60_000, 260_001, false), Due::Nothing);
        // What has gone into a kernel's buffer says nothing of a replica.
        replica.acknowledge(0, 0, 270_000);
        replica.put(Bytes::from_static(b"PING"));
        replica.take(None, 1_000, 320_000, drop);
        assert_eq!(replica.tick(60_000, 330_001, false), Due::TimedOut);
        let mut old = self::replica(Sync::Full);
        old.begin_snapshot(ID, 0);
        old.begin_bytes(Framing::Length(0), 0);
        old.end_bytes();
        assert_eq!(old.tick(60_000, 1_000_000, false), Due::Nothing);
    }

    #[test]
    fn its_address_is_what_it_says() {
        let mut replica = replica(psync());
        let seen = replica.shown(0);
        assert_eq!((seen.ip.as_str(), seen.port), ("10.0.0.1", 7000));
        replica.about.ip = "example.org".to_owned();
        assert_eq!(replica.name(), "example.org:7000");
        replica.begin_stream(ID, 0);
        replica.heard(1_000);
        assert_eq!(replica.shown(3_500).lag_s, 2);
    }

    #[test]
    fn valkeys_from_9_on_get_their_own_files() {
        let mut replica = replica(psync());
        let mut of = |version| {
            replica.about.version = version;
            replica.rdb_version()
        };
        let versions = [None, Some(0x08_01_05), Some(0x09_00_00), Some(0x09_01_02)].map(&mut of);
        let valkeys = Version::VALKEY80;
        assert_eq!(versions, [Version::V10, Version::V10, valkeys, valkeys]);
    }

    #[test]
    fn who_wants_the_file_alone_needs_no_stream() {
        let mut replica = replica(Sync::Full);
        replica.about.rdb_only = true;
        replica.begin_snapshot(ID, 0);
        assert_eq!((replica.needs(), replica.lacks(1_000)), (None, 0));
        replica.begin_bytes(Framing::Mark(MARK), 0);
        replica.end_bytes();
        assert_eq!(replica.acknowledge(0, 0, 1), Acknowledged::Fine);
        assert_eq!(replica.stage(), Stage::IsDone);
    }
}

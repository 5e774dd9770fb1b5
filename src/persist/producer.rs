//! One shard's half of a snapshot: it reads the shard's [snapshot](crate::shard::snapshot) a step at a
//! time and makes records of what it sees.

use super::snapshot::{CHUNK_BYTES, Piece, Shared, Style, UsageStyle};
use crate::rdb::{Long, LongStep, Usage, Writer};
use crate::shard::Shard;
use crate::shard::db::{idle_seconds, lfu_count};
use crate::shard::entry::Entry;
use crate::value::string::{Blob, Str};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// See the module's head.
#[derive(Debug)]
pub struct Producer {
    number: usize,
    queue: rtrb::Producer<Piece>,
    shared: Arc<Shared>,
    running: Option<Running>,
}

/// A snapshot under way.
#[derive(Debug)]
struct Running {
    record: Recorder,
    /// Long strings whose records have yet to be written.
    long: VecDeque<Owed>,
    /// The one that is being written.
    sending: Option<(Owed, Long)>,
    /// What is ready to go.
    ready: VecDeque<Piece>,
    /// Whether all has been read.
    is_read: bool,
}

/// Makes records.
#[derive(Debug)]
struct Recorder {
    writer: Writer,
    style: Style,
    now_ms: i64,
    out: BytesMut,
    /// The database that the chunk under way is in.
    database: Option<usize>,
}

/// A record of a long string that has yet to be written.
#[derive(Debug)]
struct Owed {
    database: usize,
    key: Box<[u8]>,
    value: Blob,
    expiry_ms: Option<i64>,
    usage: Usage,
}

/// How a turn went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is no snapshot under way.
    Idle,
    /// What has been said has to be collected before more can be.
    Full,
    /// There is more to do.
    More,
}

impl Producer {
    pub(super) fn new(
        number: usize,
        queue: rtrb::Producer<Piece>,
        shared: Arc<Shared>,
    ) -> Producer {
        Producer { number, queue, shared, running: None }
    }

    /// Whether there is something to do, for a shard that is or is not in a snapshot.
    #[inline]
    pub fn is_busy(&self, is_in_snapshot: bool) -> bool {
        is_in_snapshot || self.running.is_some()
    }

    /// Makes records until the time is over, as `is_over` says, which is asked after every few keys
    /// and told how many there have been since the cut.
    pub fn turn(&mut self, shard: &mut Shard, mut is_over: impl FnMut(u64) -> bool) -> Turn {
        if let Some(cut) = shard.take_cut() {
            // There is room: whoever let the snapshot begin has collected all of the one before.
            _ = self.queue.push(Piece::Cut(cut));
            self.running = Some(Running::new(self.shared.style()));
        }
        let Some(running) = &mut self.running else { return Turn::Idle };
        if self.shared.is_given_up() {
            shard.give_up_snapshot();
            // Until its marks are made, no other snapshot can begin.
            while shard.sweep() {
                if is_over(0) {
                    return Turn::More;
                }
            }
            // If there is no room yet, there will be.
            if self.queue.push(Piece::GivenUp).is_ok() {
                self.running = None;
            }
            return Turn::Full;
        }
        running.record.now_ms = shard.now().unix_ms;
        let turn = loop {
            if !running.send_ready(&mut self.queue) {
                break Turn::Full;
            }
            if running.is_read {
                if self.queue.push(Piece::End).is_err() {
                    break Turn::Full;
                }
                self.running = None;
                break Turn::Idle;
            }
            if is_over(shard.snapshot_progress().keys) {
                break Turn::More;
            }
            running.step(shard);
        };
        let (progress, shared) = (shard.snapshot_progress(), &self.shared.shards[self.number]);
        shared.keys.store(progress.keys, Ordering::Relaxed);
        shared.kept_bytes.store(progress.kept_bytes, Ordering::Relaxed);
        shared.kept_bytes_max.store(progress.kept_bytes_max, Ordering::Relaxed);
        turn
    }
}

impl Running {
    fn new(style: Style) -> Running {
        let record = Recorder {
            writer: Writer::new(style.compress),
            style,
            now_ms: 0,
            out: BytesMut::new(),
            database: None,
        };
        let (long, ready) = (VecDeque::new(), VecDeque::new());
        Running { record, long, sending: None, ready, is_read: false }
    }

    /// Sends what is ready; returns whether that was all.
    fn send_ready(&mut self, queue: &mut rtrb::Producer<Piece>) -> bool {
        // One place is the end's.
        while queue.slots() >= 2 {
            let Some(piece) = self.ready.pop_front() else { return true };
            _ = queue.push(piece);
        }
        self.ready.is_empty()
    }

    /// Goes on with a few keys, or a piece of a long string.
    fn step(&mut self, shard: &mut Shard) {
        let Running { record, long, sending, ready, is_read } = self;
        if let Some((owed, value)) = sending {
            match value.step(&mut record.writer) {
                LongStep::Working => {}
                LongStep::Head(head) => {
                    record.begin(owed, &head);
                    ready.push_back(Piece::Part(record.chunk()));
                }
                LongStep::Piece(piece, false) => ready.push_back(Piece::Part(piece)),
                LongStep::Piece(piece, true) => {
                    ready.push_back(Piece::Chunk(piece));
                    *sending = None;
                }
            }
            return;
        }
        if let Some(owed) = long.pop_front() {
            let value = Long::new(&record.writer, Arc::clone(&owed.value));
            *sending = Some((owed, value));
            return;
        }
        let more = shard.snapshot_step(|database, entry| {
            if let Str::Blob(value) = entry.string()
                && value.len() >= Long::LEN_MIN
            {
                long.push_back(Owed {
                    database,
                    key: entry.key().into(),
                    value: Arc::clone(&value),
                    expiry_ms: entry.expiry(),
                    usage: record.usage(entry),
                });
            } else {
                record.add(database, entry);
            }
        });
        *is_read = !more && long.is_empty();
        if record.out.len() >= CHUNK_BYTES || (*is_read && !record.out.is_empty()) {
            ready.push_back(Piece::Chunk(record.chunk()));
        }
    }
}

impl Recorder {
    fn select(&mut self, database: usize) {
        if self.database != Some(database) {
            self.database = Some(database);
            Writer::select_db(&mut self.out, database as u64);
        }
    }

    fn add(&mut self, database: usize, entry: &Entry) {
        self.select(database);
        let usage = self.usage(entry);
        let Recorder { writer, out, .. } = self;
        writer.record(out, entry.key(), &entry.string(), entry.expiry(), usage);
    }

    /// Begins the record of a long string; `head` is what its value begins with.
    fn begin(&mut self, owed: &Owed, head: &[u8]) {
        self.select(owed.database);
        let Recorder { writer, out, .. } = self;
        writer.begin_record(out, &owed.key, owed.expiry_ms, owed.usage);
        out.extend_from_slice(head);
    }

    /// What is said of how a key was used.
    fn usage(&self, entry: &Entry) -> Usage {
        match self.style.usage {
            UsageStyle::None => Usage::None,
            UsageStyle::Idle => Usage::Idle(idle_seconds(entry.access(), self.now_ms).into()),
            UsageStyle::Freq(decay_minutes) => {
                Usage::Freq(lfu_count(entry.access(), self.now_ms, decay_minutes) as u8)
            }
        }
    }

    /// What has been made so far. What follows begins anew, with its SELECTDB.
    fn chunk(&mut self) -> Bytes {
        self.database = None;
        let next = BytesMut::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
        std::mem::replace(&mut self.out, next).freeze()
    }
}

//! A snapshot of all shards as one stream of RDB bytes: what each shard produces of its own, and the
//! one that collects it.
//!
//! ```text
//! shard 0: Producer ─ bounded queue ─┐
//! shard 1: Producer ─ bounded queue ─┼─ Collector ─ Sink (a file; the sockets of replicas)
//! shard n: Producer ─ bounded queue ─┘
//! ```
//! The cut is a transaction over all shards ([`crate::command::persistence::CUT`]), or happens by itself
//! where nothing is under way any more. Each shard's producer finds that its shard has cut, and says what
//! there was; when the collector has heard that of all, it knows what the head of the stream has to say,
//! and lets the chunks through as they come, in any order: each begins with its SELECTDB. The checksum
//! is made here, over all of it, at memory speed.
//!
//! The queues do not go through the mailbox: one that is full stops its producer and nothing else. Of
//! each shard [`CHUNKS`] chunks are under way at most.
//!
//! Nothing here knows a clock or a file. Who drives a producer says when it has had its time.

use crate::rdb::{Checksum, Version, Writer};
use crate::shard::snapshot::Cut;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use super::producer::{Producer, Turn};

/// Bytes of a chunk from which on it is sent.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks of one shard that wait to be collected, at most.
pub const CHUNKS: usize = 4;

/// What a producer says.
#[derive(Debug)]
pub(super) enum Piece {
    /// What there was at the cut.
    Cut(Cut),
    /// Records, behind their SELECTDB; or the last part of one.
    Chunk(Bytes),
    /// Some of a record that is longer than a chunk: what this shard says next belongs behind it.
    Part(Bytes),
    /// All has been said.
    End,
    /// No more will be said.
    GivenUp,
}

/// How the records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether strings are compressed.
    pub compress: bool,
    /// What is said of how keys were used.
    pub usage: UsageStyle,
}

/// What is said of how keys were used: what eviction goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsageStyle {
    /// Nothing.
    #[default]
    None,
    /// When they were used last.
    Idle,
    /// How often; with the minutes per decay.
    Freq(u32),
}

/// What producers and collector share beside the queues.
#[derive(Debug)]
pub(super) struct Shared {
    style: Mutex<Style>,
    /// Whether producers are to stop.
    is_given_up: AtomicBool,
    pub(super) shards: Vec<ShardProgress>,
}

/// How far a shard has come: written by its producer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ShardProgress {
    pub(super) keys: AtomicU64,
    pub(super) kept_bytes: AtomicU64,
    pub(super) kept_bytes_max: AtomicU64,
}

/// How far all of them have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Keys that have been made records.
    pub keys: u64,
    /// Bytes that are kept now of keys that have changed since the cut.
    pub kept_bytes: u64,
    /// The most that these have been, each shard's most added up.
    pub kept_bytes_max: u64,
}

impl Shared {
    pub(super) fn style(&self) -> Style {
        *self.style.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }

    fn sum(&self, of: impl Fn(&ShardProgress) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
    }
}

/// The producers of so many shards, by number, and who collects what they say.
pub fn connect(shards: usize) -> (Vec<Producer>, Collector) {
    let shared = Arc::new(Shared {
        style: Mutex::default(),
        is_given_up: AtomicBool::new(false),
        shards: (0..shards).map(|_| ShardProgress::default()).collect(),
    });
    let (producers, queues) = (0..shards)
        .map(|number| {
            // What is beside the chunks: the cut and the end.
            let (to, from) = rtrb::RingBuffer::new(CHUNKS + 2);
            (Producer::new(number, to, Arc::clone(&shared)), from)
        })
        .unzip();
    let (state, next) = (State::Idle, 0);
    (producers, Collector { queues, shared, state, next, has_begun_record: false })
}

/// What takes the stream: a file, or the sockets of replicas.
pub trait Sink {
    /// Whether there is room for a chunk.
    fn has_room(&self) -> bool;

    /// Takes a chunk.
    fn push(&mut self, chunk: Bytes);
}

/// What the head of a stream says.
#[derive(Clone, Debug)]
pub struct Head {
    /// The format's version.
    pub version: Version,
    /// Facts, by name.
    pub aux: Vec<(&'static str, String)>,
    /// Libraries of functions.
    pub functions: Vec<Bytes>,
    /// Whether a checksum is made.
    pub has_checksum: bool,
}

/// What a stream has been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys at the cut.
    pub keys: u64,
    /// Changes to the data up to the cut, as [`Cut::changes`] counts them.
    pub changes: u64,
    /// Bytes of the stream.
    pub bytes: u64,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collected {
    /// There is more to come.
    More,
    /// The sink has all of it.
    All(Summary),
    /// It was given up, and all producers have stopped.
    GivenUp,
}

/// See the module's head.
#[derive(Debug)]
pub struct Collector {
    queues: Vec<rtrb::Consumer<Piece>>,
    shared: Arc<Shared>,
    state: State,
    /// The shard that is asked first.
    next: usize,
    /// Whether it is asked alone, since half a record of its is in the stream.
    has_begun_record: bool,
}

#[derive(Debug)]
enum State {
    Idle,
    /// Shards have yet to say what there was at the cut; of each, what it has said.
    Cutting {
        head: Box<Head>,
        cuts: Vec<Option<Cut>>,
    },
    Streaming(Box<Stream>),
    /// What producers still say is let go; so many have yet to stop.
    GivingUp {
        missing: usize,
    },
}

#[derive(Debug)]
struct Stream {
    checksum: Option<Checksum>,
    summary: Summary,
    /// Producers that have not come to their end.
    missing: usize,
}

impl Stream {
    fn send(&mut self, sink: &mut impl Sink, chunk: Bytes) {
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&chunk);
        }
        self.summary.bytes += chunk.len() as u64;
        sink.push(chunk);
    }
}

impl Collector {
    /// Begins a stream. The cut comes after this, and its pieces after the cut.
    pub fn begin(&mut self, head: Head, style: Style) {
        *self.shared.style.lock().unwrap_or_else(PoisonError::into_inner) = style;
        self.shared.is_given_up.store(false, Ordering::Release);
        for shard in &self.shared.shards {
            shard.keys.store(0, Ordering::Relaxed);
            shard.kept_bytes.store(0, Ordering::Relaxed);
            shard.kept_bytes_max.store(0, Ordering::Relaxed);
        }
        let cuts = vec![None; self.queues.len()];
        self.state = State::Cutting { head: Box::new(head), cuts };
    }

    /// Adds a fact to the head of a stream that has not begun: one that is known after the cut only.
    pub fn add_aux(&mut self, name: &'static str, value: String) {
        if let State::Cutting { head, .. } = &mut self.state {
            head.aux.push((name, value));
        }
    }

    /// Forgets a stream whose cut has not come about.
    pub fn forget(&mut self) {
        self.state = State::Idle;
    }

    /// Gives the stream up: to be called after the cut. Until [`Collector::turn`] says that all have
    /// stopped, no other can begin.
    pub fn give_up(&mut self) {
        let missing = match &self.state {
            State::Idle | State::GivingUp { .. } => return,
            State::Cutting { .. } => self.queues.len(),
            State::Streaming(stream) => stream.missing,
        };
        self.shared.is_given_up.store(true, Ordering::Release);
        self.has_begun_record = false;
        self.state = State::GivingUp { missing };
    }

    /// How far the shards have come.
    pub fn progress(&self) -> Progress {
        let shared = &self.shared;
        Progress {
            keys: shared.sum(|shard| &shard.keys),
            kept_bytes: shared.sum(|shard| &shard.kept_bytes),
            kept_bytes_max: shared.sum(|shard| &shard.kept_bytes_max),
        }
    }

    /// What the stream is, as far as it has come.
    pub fn so_far(&self) -> Summary {
        match &self.state {
            State::Streaming(stream) => stream.summary,
            _ => Summary::default(),
        }
    }

    /// Takes what producers have said, as far as the sink has room.
    pub fn turn(&mut self, sink: &mut impl Sink) -> Collected {
        if let State::Cutting { cuts, .. } = &mut self.state {
            for (cut, queue) in cuts.iter_mut().zip(&mut self.queues) {
                if cut.is_none()
                    && let Ok(Piece::Cut(said)) = queue.pop()
                {
                    *cut = Some(said);
                }
            }
            if cuts.iter().any(Option::is_none) {
                return Collected::More;
            }
            self.begin_stream(sink);
        }
        loop {
            let piece = match &self.state {
                State::Idle | State::Cutting { .. } => None,
                State::Streaming(_) => sink.has_room().then(|| self.take()).flatten(),
                State::GivingUp { missing: 0 } => {
                    self.state = State::Idle;
                    return Collected::GivenUp;
                }
                State::GivingUp { .. } => self.take(),
            };
            let Some(piece) = piece else { return Collected::More };
            match (&mut self.state, piece) {
                (State::Streaming(stream), Piece::Chunk(chunk) | Piece::Part(chunk)) => {
                    stream.send(sink, chunk);
                }
                (State::Streaming(stream), Piece::End) => {
                    stream.missing -= 1;
                    if stream.missing == 0 {
                        return self.end_stream(sink);
                    }
                }
                (State::GivingUp { missing }, Piece::End | Piece::GivenUp) => *missing -= 1,
                // What has been given up is let go.
                _ => {}
            }
        }
    }

    /// The next piece of any shard, each after the other.
    fn take(&mut self) -> Option<Piece> {
        let shards = self.queues.len();
        for _ in 0..shards {
            let at = self.next;
            if let Ok(piece) = self.queues[at].pop() {
                self.has_begun_record = matches!(piece, Piece::Part(_));
                if !self.has_begun_record {
                    self.next = (at + 1) % shards;
                }
                return Some(piece);
            }
            if self.has_begun_record {
                return None;
            }
            self.next = (at + 1) % shards;
        }
        None
    }

    fn begin_stream(&mut self, sink: &mut impl Sink) {
        let State::Cutting { head, cuts } = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        let mut summary = Summary::default();
        // By database: keys, and those with an expiry.
        let mut databases: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for cut in cuts.iter().flatten() {
            summary.changes += cut.changes;
            for database in &cut.databases {
                let (keys, volatile) = databases.entry(database.number).or_default();
                *keys += database.keys;
                *volatile += database.volatile;
                summary.keys += database.keys;
            }
        }
        let checksum = head.has_checksum.then(Checksum::new);
        let mut stream = Stream { checksum, summary, missing: cuts.len() };
        let mut out = BytesMut::new();
        Writer::header(&mut out, head.version);
        for (name, value) in &head.aux {
            Writer::aux(&mut out, name.as_bytes(), value.as_bytes());
        }
        for code in &head.functions {
            Writer::function(&mut out, code);
        }
        // All of them at the head: whoever loads it makes room for each at once.
        for (number, (keys, volatile)) in databases {
            Writer::select_db(&mut out, number as u64);
            Writer::resize_db(&mut out, keys, volatile);
        }
        stream.send(sink, out.freeze());
        self.state = State::Streaming(Box::new(stream));
    }

    fn end_stream(&mut self, sink: &mut impl Sink) -> Collected {
        let State::Streaming(mut stream) = std::mem::replace(&mut self.state, State::Idle) else {
            return Collected::More;
        };
        let mut out = BytesMut::new();
        Writer::end(&mut out);
        stream.send(sink, out.freeze());
        let sum = stream.checksum.take().map_or(0, |checksum| checksum.value());
        let mut out = BytesMut::new();
        out.put_u64_le(sum);
        stream.send(sink, out.freeze());
        Collected::All(stream.summary)
    }
}

#[cfg(test)]
mod tests;

//! Loading: an input of RDB becomes keys, on all shards at once.
//!
//! ```text
//!            pieces           batches, bounded            keys
//!   input ───────────> Hub ═════════════════════> Seat ─────────> Shard     (every other shard)
//!                   (one shard)  <════════════════
//!                       │         what became of them
//!                       └─────────────────────────────────> Shard           (its own)
//! ```
//!
//! The shard that has the input cuts it into records ([`Splitter`]), looks up who owns each key and
//! copies the record, still encoded, into the batch that its owner gets next. Whoever gets a batch
//! decodes its values and puts them, a few keys a step. A shard that has as much before it as it may
//! have stops the cutting, and nothing else stops it: so memory is bounded by [`AHEAD_BYTES`] a shard,
//! and one record where that is larger.
//!
//! Every batch comes back with what became of it, so the hub knows how far the load is, that it is
//! over, and what was wrong. After a fault nothing more is cut, and the load is over when all batches
//! are back. The input may be a file or come from a socket; this knows neither, nor a clock: a caller
//! says when it has had enough of a turn ([`Hub::turn`]).

use crate::base::clock::Now;
use crate::base::key::Key;
use crate::base::limits;
use crate::base::slot::Layout;
use crate::instance::persistence::Loaded;
use crate::rdb::{Fault, Item, Reason, Record, Splitter, Usage, Value, Version, read};
use crate::shard::Shard;
use crate::value::New;
use bytes::Bytes;
use rtrb::{Consumer, Producer, RingBuffer};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of keys and values in a batch from which on it is handed out. Small enough to lie in a core's
/// cache when it arrives, large enough for the way to cost nothing: a wake for some thousand keys.
const BATCH_BYTES: usize = 128 * 1024;
/// Bytes that a shard has before it at most, in all its batches, when it gets one more.
const AHEAD_BYTES: usize = 1024 * 1024;
/// Batches that a shard has before it at most. (They are small where the input comes slowly.)
const AHEAD: usize = 16;
/// Records that are cut, or put, before somebody looks at the clock: some 30 us.
const STEP: usize = 128;
/// Keys whose place in the table is asked for before the first of them is looked at: a miss of the
/// caches each, which so overlap.
const FETCHED: usize = 16;

/// What is done with what the input says.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether its checksum has to be right.
    pub verifies: bool,
    /// Whether a key that is there already is replaced. If not, it is a fault.
    pub replaces: bool,
    /// Whether keys whose time has passed are left out. (A replica keeps them until it is told.)
    pub drops_expired: bool,
}

/// What an input has said of itself, besides keys.
#[derive(Debug, Default)]
pub struct Said {
    /// Libraries of functions.
    pub functions: Vec<Bytes>,
    /// Memory that its maker used, in bytes.
    pub maker_used_bytes: u64,
    /// Pieces of data of modules, which were skipped.
    pub skipped: u64,
}

/// How a load has come out.
pub type Outcome = Result<(Loaded, Said), Fault>;

/// A record in a batch.
#[derive(Debug)]
struct Placed {
    db: usize,
    /// Where in the input it begins.
    at: u64,
    type_byte: u8,
    /// Where in the batch key and value are; the value follows the key.
    key: Range<usize>,
    value_end: usize,
    expiry_ms: Option<i64>,
    usage: Usage,
}

/// Records that belong to one shard.
#[derive(Debug)]
struct Batch {
    version: Version,
    options: Options,
    bytes: Vec<u8>,
    records: Vec<Placed>,
    /// How many of them are done with.
    done: usize,
    /// What has become of those.
    loaded: Loaded,
    fault: Option<Fault>,
}

impl Batch {
    fn new(options: Options) -> Batch {
        Batch {
            version: Version::V10,
            options,
            bytes: Vec::new(),
            records: Vec::new(),
            done: 0,
            loaded: Loaded::default(),
            fault: None,
        }
    }

    /// Makes it new, but for its memory.
    fn clear(&mut self) {
        self.bytes.clear();
        // A value that was long is no reason to keep as much for ever.
        self.bytes.shrink_to(2 * BATCH_BYTES);
        self.records.clear();
        (self.done, self.loaded, self.fault) = (0, Loaded::default(), None);
    }

    fn add(&mut self, db: usize, record: &Record) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&record.key);
        let key = start..self.bytes.len();
        self.bytes.extend_from_slice(record.value);
        self.records.push(Placed {
            db,
            at: record.at,
            type_byte: record.type_byte,
            key,
            value_end: self.bytes.len(),
            expiry_ms: record.expiry_ms,
            usage: record.usage,
        });
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    fn is_done(&self) -> bool {
        self.done == self.records.len() || self.fault.is_some()
    }

    /// Puts the next few records. What is wrong with one is kept, and ends it.
    fn step(&mut self, shard: &mut Shard) {
        let until = (self.done + STEP).min(self.records.len());
        while self.done < until && self.fault.is_none() {
            let window = self.done..(self.done + FETCHED).min(until);
            let mut hashes = [0; FETCHED];
            for (hash, placed) in hashes.iter_mut().zip(&self.records[window.clone()]) {
                *hash = Key::new(&self.bytes[placed.key.clone()]).hash();
                shard.prefetch(placed.db, *hash);
            }
            for (hash, at) in hashes.iter().zip(window) {
                if let Err(fault) = self.put(at, *hash, shard) {
                    self.fault = Some(fault);
                    break;
                }
                self.done = at + 1;
            }
        }
    }

    #[inline]
    fn put(&mut self, at: usize, hash: u64, shard: &mut Shard) -> Result<(), Fault> {
        let placed = &self.records[at];
        let bytes = &self.bytes[placed.key.clone()];
        let wrong = |reason| Fault { at: placed.at, reason, key: Some(bytes.to_vec()) };
        let value = &self.bytes[placed.key.end..placed.value_end];
        // What is not kept has to be right all the same.
        let value = read::value(self.version, placed.type_byte, value).map_err(wrong)?;
        let value = match &value {
            Value::Int(n) => New::Int(*n),
            Value::Bytes(bytes) if bytes.len() as u64 > limits::BULK_CEILING => {
                return Err(wrong(Reason::StringTooLong(bytes.len() as u64)));
            }
            Value::Bytes(bytes) => New::string(bytes),
        };
        let is_over = placed.expiry_ms.is_some_and(|at_ms| at_ms < shard.now().unix_ms);
        if is_over && self.options.drops_expired {
            self.loaded.expired += 1;
            return Ok(());
        }
        let key = Key::with_hash(bytes, hash);
        let access = shard.access_of(placed.usage);
        let replaces = self.options.replaces;
        if !shard.load(placed.db, key, value, placed.expiry_ms, access, replaces) {
            return Err(wrong(Reason::Duplicate));
        }
        self.loaded.keys += 1;
        Ok(())
    }
}

/// The place of a shard that is handed batches.
#[derive(Debug)]
pub struct Seat {
    batches: Consumer<Batch>,
    back: Producer<Batch>,
    current: Option<Batch>,
}

impl Seat {
    /// Puts what there is to put until `is_late` says so. Returns whether there is more, and whether
    /// the hub has got something back.
    pub fn turn(&mut self, shard: &mut Shard, mut is_late: impl FnMut() -> bool) -> (bool, bool) {
        let mut has_returned = false;
        loop {
            if self.current.is_none() {
                self.current = self.batches.pop().ok();
            }
            let Some(batch) = &mut self.current else { return (false, has_returned) };
            batch.step(shard);
            if batch.is_done()
                && let Some(batch) = self.current.take()
            {
                // There is as much room back as there is here: nothing is lost.
                let _ = self.back.push(batch);
                has_returned = true;
            }
            if is_late() {
                return (true, has_returned);
            }
        }
    }
}

/// The hub's way to another shard.
#[derive(Debug)]
struct Way {
    batches: Producer<Batch>,
    back: Consumer<Batch>,
}

/// The hub's ways to all other shards, kept between one load and the next.
#[derive(Debug)]
pub struct Ways(Vec<Way>);

/// A shard's place in all loads there may be.
#[derive(Debug)]
pub enum Place {
    /// Of the first shard.
    Hub(Ways),
    /// Of any other.
    Seat(Seat),
}

/// The places of so many shards.
pub fn exchange(shards: usize) -> Vec<Place> {
    let both = (1..shards).map(|_| {
        let ((batches, taken), (returned, back)) = (RingBuffer::new(AHEAD), RingBuffer::new(AHEAD));
        (Way { batches, back }, Seat { batches: taken, back: returned, current: None })
    });
    let (ways, seats): (_, Vec<Seat>) = both.unzip();
    std::iter::once(Place::Hub(Ways(ways))).chain(seats.into_iter().map(Place::Seat)).collect()
}

/// What a shard has before it.
#[derive(Debug, Default)]
struct Ahead {
    batches: usize,
    bytes: usize,
}

impl Ahead {
    fn is_full(&self) -> bool {
        self.batches >= AHEAD || self.bytes >= AHEAD_BYTES
    }

    fn add(&mut self, batch: &Batch) {
        self.batches += 1;
        self.bytes += batch.bytes.len();
    }

    fn remove(&mut self, batch: &Batch) {
        self.batches -= 1;
        self.bytes -= batch.bytes.len();
    }
}

/// Why the cutting has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// A shard's batch is full.
    Full(usize),
    /// So many records were cut as one step may.
    Step,
    /// The rest of a record has not come.
    Hungry,
    /// The input is over, or wrong.
    Over,
}

/// A load, on the shard that has the input. See the module's head.
#[derive(Debug)]
pub struct Hub {
    options: Options,
    layout: Arc<Layout>,
    databases: u64,
    splitter: Splitter,
    version: Version,
    is_over: bool,
    /// By shard: what it gets next, and what it has before it.
    next: Vec<Batch>,
    ahead: Vec<Ahead>,
    /// This shard's own batches, the first first.
    own: std::collections::VecDeque<Batch>,
    spare: Vec<Batch>,
    loaded: Loaded,
    said: Said,
    /// The first fault in the input of those that have been found.
    fault: Option<Fault>,
}

/// What a turn of the hub has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Whether there is more to do at once.
    pub is_busy: bool,
    /// Whether more of the input is needed to go on.
    pub is_hungry: bool,
    /// The shards that have been handed something.
    pub handed: Vec<usize>,
}

impl Hub {
    /// Begins to load an input, of `total` bytes if that is known.
    pub fn new(total: Option<u64>, options: Options, layout: Arc<Layout>, databases: usize) -> Hub {
        let mut splitter = Splitter::new(total);
        splitter.set_verify(options.verifies);
        let shards = layout.shards();
        Hub {
            options,
            layout,
            databases: databases as u64,
            splitter,
            version: Version::V10,
            is_over: false,
            next: (0..shards).map(|_| Batch::new(options)).collect(),
            ahead: (0..shards).map(|_| Ahead::default()).collect(),
            own: std::collections::VecDeque::new(),
            spare: Vec::new(),
            loaded: Loaded::default(),
            said: Said::default(),
            fault: None,
        }
    }

    /// More of the input has come.
    pub fn push(&mut self, piece: &[u8]) {
        self.splitter.push(piece);
    }

    /// No more of it will come.
    pub fn end(&mut self) {
        if !self.is_over
            && let Err(fault) = self.splitter.finish()
        {
            self.fail(fault);
        }
        self.is_over = true;
    }

    /// Bytes that have been cut, and keys that are where they belong.
    pub fn progress(&self) -> (u64, Loaded) {
        (self.splitter.offset(), self.loaded)
    }

    /// Memory that the input's maker used, in bytes, as far as it has said so.
    pub fn maker_used_bytes(&self) -> u64 {
        self.said.maker_used_bytes
    }

    /// Cuts the input and puts this shard's part until `is_late` says so, or until there is nothing
    /// to do before others have done something. `allowance` is how many records may be cut still.
    pub fn turn(
        &mut self,
        ways: &mut Ways,
        shard: &mut Shard,
        allowance: &mut usize,
        mut is_late: impl FnMut() -> bool,
    ) -> Turn {
        let mut turn = Turn::default();
        loop {
            self.take_back(ways);
            let may_cut = !self.is_over && *allowance > 0 && !self.ahead.iter().any(Ahead::is_full);
            if may_cut && !turn.is_hungry {
                match self.cut(allowance, shard.now()) {
                    Stop::Full(owner) => self.hand_out(owner, ways, &mut turn),
                    Stop::Step => {}
                    Stop::Hungry => turn.is_hungry = true,
                    Stop::Over => self.is_over = true,
                }
            } else if !self.put_own(shard) {
                // What others could do while this one waits does not wait with it.
                if !self.flush(ways, &mut turn) {
                    return turn;
                }
            }
            if is_late() {
                turn.is_busy = true;
                return turn;
            }
        }
    }

    /// What has come of the load, when it is over.
    pub fn outcome(&mut self) -> Option<Outcome> {
        let is_idle = self.ahead.iter().all(|ahead| ahead.batches == 0);
        let is_flushed = self.fault.is_some() || self.next.iter().all(|batch| batch.is_done());
        if !(self.is_over && is_idle && is_flushed) {
            return None;
        }
        Some(match self.fault.take() {
            Some(fault) => Err(fault),
            None => Ok((self.loaded, std::mem::take(&mut self.said))),
        })
    }

    fn fail(&mut self, fault: Fault) {
        self.is_over = true;
        if self.fault.as_ref().is_none_or(|first| fault.at < first.at) {
            self.fault = Some(fault);
        }
    }

    /// Cuts a few records.
    fn cut(&mut self, allowance: &mut usize, now: Now) -> Stop {
        for _ in 0..STEP.min(*allowance) {
            let offset = self.splitter.offset();
            match self.splitter.next() {
                Ok(Some(Item::Record(record))) => {
                    *allowance -= 1;
                    let db = usize::try_from(record.db).ok().filter(|_| record.db < self.databases);
                    let is_long = record.key.len() as u64 > limits::BULK_CEILING;
                    let (Some(db), false) = (db, is_long) else {
                        let reason = match is_long {
                            true => Reason::StringTooLong(record.key.len() as u64),
                            false => Reason::Database { number: record.db, count: self.databases },
                        };
                        let key = record.key.iter().copied().take(limits::INLINE_MAX).collect();
                        let fault = Fault { at: record.at, reason, key: Some(key) };
                        self.fail(fault);
                        return Stop::Over;
                    };
                    let owner = self.layout.owner(&record.key);
                    let batch = &mut self.next[owner];
                    batch.version = self.version;
                    batch.add(db, &record);
                    if batch.is_full() {
                        return Stop::Full(owner);
                    }
                }
                Ok(Some(Item::Header(version))) => self.version = version,
                Ok(Some(Item::End)) => return Stop::Over,
                Ok(Some(Item::Aux { name, value })) => self.said.aux(&name, &value, now),
                Ok(Some(Item::Function(code))) => {
                    self.said.functions.push(Bytes::copy_from_slice(&code));
                }
                Ok(Some(Item::ModuleAux { name })) => {
                    tracing::warn!("Skipping data of the module '{name}', at byte {offset}");
                    self.said.skipped += 1;
                }
                Ok(Some(Item::KeyMeta)) => self.said.skipped += 1,
                Ok(Some(Item::Resize { .. } | Item::SlotInfo | Item::SlotImport)) => {}
                Ok(None) => return Stop::Hungry,
                Err(fault) => {
                    self.fail(fault);
                    return Stop::Over;
                }
            }
        }
        Stop::Step
    }

    /// Hands a shard what has been gathered for it.
    fn hand_out(&mut self, owner: usize, ways: &mut Ways, turn: &mut Turn) {
        let fresh = self.spare.pop().unwrap_or_else(|| Batch::new(self.options));
        let batch = std::mem::replace(&mut self.next[owner], fresh);
        self.ahead[owner].add(&batch);
        match owner.checked_sub(1).and_then(|way| ways.0.get_mut(way)) {
            None => self.own.push_back(batch),
            Some(way) => {
                // It had room: `Ahead` counts what is in it.
                let _ = way.batches.push(batch);
                if !turn.handed.contains(&owner) {
                    turn.handed.push(owner);
                }
            }
        }
    }

    /// Hands out what has been gathered so far. Returns whether there was any of this shard's.
    fn flush(&mut self, ways: &mut Ways, turn: &mut Turn) -> bool {
        if self.fault.is_some() {
            return false;
        }
        for owner in 0..self.next.len() {
            if !self.next[owner].records.is_empty() && !self.ahead[owner].is_full() {
                self.hand_out(owner, ways, turn);
            }
        }
        !self.own.is_empty()
    }

    /// Puts a few of this shard's own keys. Returns whether there were any.
    fn put_own(&mut self, shard: &mut Shard) -> bool {
        let Some(batch) = self.own.front_mut() else { return false };
        batch.step(shard);
        if batch.is_done()
            && let Some(batch) = self.own.pop_front()
        {
            self.came_back(0, batch);
        }
        true
    }

    fn take_back(&mut self, ways: &mut Ways) {
        for (way, owner) in ways.0.iter_mut().zip(1..) {
            while let Ok(batch) = way.back.pop() {
                self.came_back(owner, batch);
            }
        }
    }

    fn came_back(&mut self, owner: usize, mut batch: Batch) {
        self.ahead[owner].remove(&batch);
        self.loaded.keys += batch.loaded.keys;
        self.loaded.expired += batch.loaded.expired;
        if let Some(fault) = batch.fault.take() {
            self.fail(fault);
        }
        batch.clear();
        self.spare.push(batch);
    }
}

impl Said {
    /// Takes a fact that the input says about itself, and tells the log what an operator may want to
    /// know of it.
    fn aux(&mut self, name: &[u8], value: &[u8], now: Now) {
        let text = String::from_utf8_lossy(value);
        match name {
            b"redis-ver" => tracing::info!("Loading RDB produced by version {text}"),
            b"valkey-ver" => tracing::info!("Loading RDB produced by Valkey version {text}"),
            b"redshard-ver" => tracing::info!("Loading RDB produced by Redshard version {text}"),
            b"ctime" => {
                let made_s: i64 = text.parse().unwrap_or(0);
                let age_s = (now.unix_ms / 1000).saturating_sub(made_s).max(0);
                tracing::info!("RDB age {age_s} seconds");
            }
            b"used-mem" => {
                self.maker_used_bytes = text.parse().unwrap_or(0);
                let mib = self.maker_used_bytes as f64 / (1024.0 * 1024.0);
                tracing::info!("RDB memory usage when created {mib:.2} Mb");
            }
            b"aof-base" if text != "0" => tracing::info!("RDB is base AOF"),
            [b'%', ..] => tracing::info!("RDB '{}': {text}", String::from_utf8_lossy(name)),
            // Of no use to anybody who looks at a log.
            b"aof-base" | b"redis-bits" | b"repl-stream-db" | b"repl-id" | b"repl-offset"
            | b"aof-preamble" => {}
            _ => tracing::debug!("Unrecognized RDB AUX field: '{}'", name.escape_ascii()),
        }
    }
}

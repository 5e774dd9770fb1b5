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

mod batch;

use crate::base::clock::Now;
use crate::base::limits;
use crate::base::slot::Layout;
use crate::instance::persistence::Loaded;
use crate::rdb::{Fault, Item, Reason, Splitter, Version};
use crate::shard::Shard;
use batch::Batch;
use bytes::Bytes;
use rtrb::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that a shard has before it at most, in all its batches, when it gets one more.
const AHEAD_BYTES: usize = 1024 * 1024;
/// Batches that a shard has before it at most. (They are small where the input comes slowly.)
const AHEAD: usize = 16;
/// Records that are cut, or put, before somebody looks at the clock: some 30 us.
const STEP: usize = 128;
/// Bytes of an input for each key that it may claim to have: of tables, a key takes fewer, so that they
/// are never larger than the input whatever it claims. Shorter records come without having been
/// expected.
const RECORD_BYTES: u64 = 16;

/// What is done with what the input says.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether its checksum has to be right.
    pub verifies: bool,
    /// Whether a key that is there already is replaced. If not, it is a fault.
    pub replaces: bool,
    /// Whether keys whose time has passed are left out, unless the data is of a history that replicas
    /// follow. (A replica keeps them until it is told.)
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
    /// The history that the data is of, how far it had come, and the database that it was in.
    pub history: Option<String>,
    /// See `history`.
    pub offset: Option<u64>,
    /// See `history`.
    pub stream_db: Option<usize>,
}

/// How a load has come out.
pub type Outcome = Result<(Loaded, Said), Fault>;

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
    /// How many keys the input may still claim to have.
    expectable: u64,
    is_over: bool,
    /// By shard: what it gets next, and what it has before it.
    next: Vec<Batch>,
    ahead: Vec<Ahead>,
    /// This shard's own batches, the first first.
    own: VecDeque<Batch>,
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
            // Nothing is believed of what has no known end.
            expectable: total.unwrap_or(0) / RECORD_BYTES,
            is_over: false,
            next: (0..shards).map(|_| Batch::new(options)).collect(),
            ahead: (0..shards).map(|_| Ahead::default()).collect(),
            own: VecDeque::new(),
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
                Ok(Some(Item::Aux { name, value })) => {
                    self.said.aux(&name, &value, now);
                    self.keep_for_replicas();
                }
                Ok(Some(Item::Function(code))) => {
                    self.said.functions.push(Bytes::copy_from_slice(&code));
                }
                Ok(Some(Item::ModuleAux { name })) => {
                    tracing::warn!("Skipping data of the module '{name}', at byte {offset}");
                    self.said.skipped += 1;
                }
                Ok(Some(Item::KeyMeta)) => self.said.skipped += 1,
                Ok(Some(Item::Resize { db, keys, .. })) => self.expect(db, keys),
                Ok(Some(Item::SlotInfo | Item::SlotImport)) => {}
                Ok(None) => return Stop::Hungry,
                Err(fault) => {
                    self.fail(fault);
                    return Stop::Over;
                }
            }
        }
        Stop::Step
    }

    /// The input claims that a database has so many keys. It is believed as far as the rest of the
    /// input could have them, and as all of its claims together could be true.
    fn expect(&mut self, db: u64, keys: u64) {
        let Some(db) = usize::try_from(db).ok().filter(|_| db < self.databases) else { return };
        let keys = keys.min(self.expectable);
        self.expectable -= keys;
        let each = (keys as usize).div_ceil(self.next.len());
        for batch in &mut self.next {
            batch.expected.push((db, each));
        }
    }

    /// Keeps expired keys where the data is of a history: who has followed it goes on from here, and has
    /// to be told of each key that goes.
    fn keep_for_replicas(&mut self) {
        if self.said.history.is_some() && self.options.drops_expired {
            self.options.drops_expired = false;
            for batch in self.next.iter_mut().chain(&mut self.spare) {
                batch.options.drops_expired = false;
            }
        }
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
            if !self.next[owner].is_empty() && !self.ahead[owner].is_full() {
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
            b"repl-id" => self.history = Some(text.into_owned()),
            b"repl-offset" => self.offset = text.parse().ok(),
            b"repl-stream-db" => self.stream_db = text.parse().ok(),
            b"aof-base" | b"redis-bits" | b"aof-preamble" => {}
            _ => tracing::debug!("Unrecognized RDB AUX field: '{}'", name.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Random;
    use crate::rdb::{Checksum, Usage, Writer};
    use crate::value::string::Str;
    use bytes::BytesMut;
    use std::collections::BTreeMap;

    const NOW_MS: i64 = 1_700_000_000_000;
    const DATABASES: usize = 3;

    /// What is in a database under a key: the text of its value, and its expiry.
    type Content = BTreeMap<(usize, Vec<u8>), (Vec<u8>, Option<i64>)>;

    /// Many shards and their places, in one thread.
    struct World {
        shards: Vec<Shard>,
        ways: Ways,
        seats: Vec<Seat>,
        random: Random,
    }

    impl World {
        fn new(count: usize) -> World {
            let now = Now { unix_ms: NOW_MS, monotonic_ns: 1 };
            let shards = (0..count).map(|number| {
                let mut shard = Shard::new(number, count, DATABASES);
                shard.set_now(now);
                shard
            });
            let mut places = exchange(count).into_iter();
            let Some(Place::Hub(ways)) = places.next() else { panic!("the first is the hub's") };
            let seats = places.map(|place| match place {
                Place::Seat(seat) => seat,
                Place::Hub(_) => panic!("there is one hub"),
            });
            World { shards: shards.collect(), ways, seats: seats.collect(), random: Random::new(9) }
        }

        /// Loads an input in pieces of a size, the shards taking turns at random.
        fn load(&mut self, input: &[u8], piece: usize, options: Options) -> Outcome {
            let layout = Arc::new(Layout::even(self.shards.len()));
            let mut hub = Hub::new(Some(input.len() as u64), options, layout, DATABASES);
            let mut pieces = input.chunks(piece);
            for _ in 0..10_000_000 {
                let steps = self.random.below(4);
                let turn = self.random.below(self.shards.len() as u64) as usize;
                let mut left = steps;
                let is_late = || {
                    left = left.saturating_sub(1);
                    left == 0
                };
                if let Some(seat) = turn.checked_sub(1) {
                    self.seats[seat].turn(&mut self.shards[turn], is_late);
                    continue;
                }
                let mut allowance = usize::MAX;
                let shard = &mut self.shards[0];
                if hub.turn(&mut self.ways, shard, &mut allowance, is_late).is_hungry {
                    match pieces.next() {
                        Some(piece) => hub.push(piece),
                        None => hub.end(),
                    }
                }
                if let Some(outcome) = hub.outcome() {
                    return outcome;
                }
            }
            panic!("it never ends");
        }

        fn content(&self) -> Content {
            let mut content = Content::new();
            for shard in &self.shards {
                for db in 0..DATABASES {
                    shard.visit_all(db, |entry| {
                        let value = entry.string().bytes(&mut itoa::Buffer::new()).to_vec();
                        content.insert((db, entry.key().to_vec()), (value, entry.expiry()));
                    });
                }
            }
            content
        }
    }

    const STRICT: Options = Options { verifies: true, replaces: false, drops_expired: true };

    fn finished(mut out: BytesMut) -> Vec<u8> {
        Writer::end(&mut out);
        let checksum = Checksum::of(&out).to_le_bytes();
        out.extend_from_slice(&checksum);
        out.to_vec()
    }

    fn record(out: &mut BytesMut, key: &[u8], value: &[u8], expiry: Option<i64>) {
        Writer::new(true).record(out, key, &Str::Bytes(value), expiry, Usage::None);
    }

    /// An input with many keys, and what it holds; some keys' time has passed.
    fn sample(keys: usize) -> (Vec<u8>, Content, u64) {
        let (mut out, mut content, mut expired) = (BytesMut::new(), Content::new(), 0);
        let mut random = Random::new(3);
        Writer::header(&mut out, Version::V10);
        Writer::aux(&mut out, b"redis-ver", b"7.0.0");
        Writer::aux(&mut out, b"used-mem", b"1048576");
        Writer::function(&mut out, b"#!lua name=one");
        for db in 0..DATABASES {
            Writer::select_db(&mut out, db as u64);
            Writer::resize_db(&mut out, keys as u64, 0);
            for i in 0..keys {
                let key = format!("key:{i}").into_bytes();
                let len = [0, 3, 60, 900, 20_000][random.below(5) as usize];
                let value = match random.below(3) {
                    0 => i.to_string().into_bytes(),
                    1 => vec![b'x'; len],
                    _ => (0..len).map(|_| random.next_u64() as u8).collect(),
                };
                let expiry = match random.below(4) {
                    0 => Some(NOW_MS + 1 + i as i64),
                    1 => Some(NOW_MS - 1 - i as i64),
                    _ => None,
                };
                record(&mut out, &key, &value, expiry);
                if expiry.is_some_and(|at_ms| at_ms < NOW_MS) {
                    expired += 1;
                } else {
                    content.insert((db, key), (value, expiry));
                }
            }
        }
        (finished(out), content, expired)
    }

    #[test]
    fn every_key_comes_to_its_owner() {
        let (input, content, expired) = sample(if cfg!(miri) { 20 } else { 1_500 });
        for count in [1, 2, 4] {
            for piece in [7, 4_096, 1 << 20] {
                let mut world = World::new(count);
                let (loaded, said) = world.load(&input, piece, STRICT).expect("nothing is wrong");
                assert_eq!((loaded.keys, loaded.expired), (content.len() as u64, expired));
                assert!(world.content() == content, "{count} shards, pieces of {piece}");
                assert_eq!(said.functions, [Bytes::from_static(b"#!lua name=one")]);
                assert_eq!(said.maker_used_bytes, 1 << 20);
                let layout = Layout::even(count);
                for shard in &world.shards {
                    shard.visit_all(0, |entry| {
                        assert_eq!(layout.owner(entry.key()), shard.number());
                    });
                }
                // Nobody has changed anything.
                assert!(world.shards.iter().all(|shard| shard.stats().dirty == 0));
            }
        }
    }

    #[test]
    fn a_replica_keeps_what_has_expired() {
        let (input, content, expired) = sample(200);
        let mut world = World::new(2);
        let options = Options { drops_expired: false, ..STRICT };
        let (loaded, _) = world.load(&input, 1000, options).expect("nothing is wrong");
        assert_eq!((loaded.keys, loaded.expired), (content.len() as u64 + expired, 0));
    }

    #[test]
    fn what_has_expired_is_kept_for_those_who_follow() {
        let mut out = BytesMut::new();
        Writer::header(&mut out, Version::V10);
        Writer::aux(&mut out, b"repl-id", b"0123456789abcdef0123456789abcdef01234567");
        Writer::select_db(&mut out, 0);
        for i in 0..50 {
            record(&mut out, format!("key:{i}").as_bytes(), b"x", Some(NOW_MS - 1));
        }
        let (loaded, _) = World::new(2).load(&finished(out), 64, STRICT).expect("nothing is wrong");
        assert_eq!((loaded.keys, loaded.expired), (50, 0));
    }

    #[test]
    fn a_key_that_is_there_is_a_fault_or_replaced() {
        let (input, content, _) = sample(300);
        for count in [1, 2, 4] {
            let mut world = World::new(count);
            world.load(&input, 5_000, STRICT).expect("nothing is wrong");
            let fault = world.load(&input, 5_000, STRICT).expect_err("they are there");
            assert_eq!(fault.reason, Reason::Duplicate);
            assert!(fault.key.is_some_and(|key| key.starts_with(b"key:")));
            let options = Options { replaces: true, ..STRICT };
            world.load(&input, 5_000, options).expect("they are replaced");
            assert!(world.content() == content);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let mut out = BytesMut::new();
        Writer::header(&mut out, Version::V10);
        record(&mut out, b"first", b"1", None);
        let second = out.len() as u64;
        record(&mut out, b"second", b"some value", None);
        let (whole, body) = (finished(out.clone()), out.clone());
        let fault = |input: &[u8], options| {
            let faults = [1, 2, 4].map(|count| {
                World::new(count).load(input, 11, options).expect_err("something is wrong")
            });
            assert!(faults.iter().all(|fault| *fault == faults[0]), "{faults:?}");
            faults[0].clone()
        };

        let cut = fault(&whole[..second as usize + 4], STRICT);
        assert!(matches!(cut.reason, Reason::Truncated | Reason::TooLong { .. }), "{cut}");
        assert_eq!(fault(b"", STRICT).at, 0);
        assert_eq!(fault(b"not what it is", STRICT).reason, Reason::Signature);

        let mut flipped = whole.clone();
        *flipped.last_mut().expect("a checksum") ^= 1;
        assert!(matches!(fault(&flipped, STRICT).reason, Reason::Checksum { .. }));
        let unchecked = Options { verifies: false, ..STRICT };
        World::new(2).load(&flipped, 11, unchecked).expect("nobody has looked");

        let mut twice = body.clone();
        record(&mut twice, b"first", b"2", None);
        let twice = fault(&finished(twice), STRICT);
        let at = body.len() as u64;
        let key = Some(b"first".to_vec());
        assert_eq!(twice, Fault { at, reason: Reason::Duplicate, key });

        let mut beyond = body.clone();
        Writer::select_db(&mut beyond, DATABASES as u64);
        record(&mut beyond, b"third", b"3", None);
        let beyond = fault(&finished(beyond), STRICT);
        let reason = Reason::Database { number: 3, count: 3 };
        assert_eq!((beyond.reason, beyond.key), (reason, Some(b"third".to_vec())));

        // A set of one member, which this server does not have; a type that nobody has.
        for (bytes, wanted) in
            [(&b"\x02\x04list\x01\x01m"[..], "type set"), (b"\x08\x03key", "type 8")]
        {
            let mut other = body.clone();
            other.extend_from_slice(bytes);
            let fault = fault(&finished(other), STRICT).to_string();
            assert!(fault.contains(wanted) && fault.contains(", in key '"), "{fault}");
        }
    }

    /// However many keys an input claims to have, tables are no larger than it.
    #[test]
    fn a_claim_takes_no_memory() {
        let mut out = BytesMut::new();
        Writer::header(&mut out, Version::V10);
        for db in 0..DATABASES as u64 {
            Writer::select_db(&mut out, db);
            Writer::resize_db(&mut out, u64::MAX, u64::MAX);
        }
        Writer::select_db(&mut out, 0);
        for i in 0..2_000u32 {
            record(&mut out, &i.to_le_bytes(), &[], None);
        }
        let input = finished(out);
        let mut world = World::new(1);
        world.load(&input, 1000, STRICT).expect("claims are no fault");
        let memory = world.shards[0].table_memory();
        assert!(memory <= 40 * 1024, "{memory} bytes for {} of input", input.len());
    }

    #[test]
    fn how_a_key_was_used_comes_along() {
        let mut out = BytesMut::new();
        Writer::header(&mut out, Version::V10);
        let usages = [Usage::Idle(7_000), Usage::Idle(u64::MAX), Usage::Freq(77), Usage::None];
        for (i, usage) in usages.into_iter().enumerate() {
            Writer::new(false).record(&mut out, &[i as u8], &Str::Int(1), None, usage);
        }
        let input = finished(out);
        for (lfu, wanted) in [(None, [7_000, (1 << 22) - 1, 0, 0]), (Some((10, 1)), [5, 5, 77, 5])]
        {
            let mut world = World::new(1);
            let mut settings = *world.shards[0].settings();
            settings.lfu = lfu;
            world.shards[0].set_settings(settings);
            world.load(&input, 100, STRICT).expect("nothing is wrong");
            world.shards[0].visit_all(0, |entry| {
                let found = match lfu {
                    None => crate::shard::db::idle_seconds(entry.access(), NOW_MS),
                    Some((_, decay)) => crate::shard::db::lfu_count(entry.access(), NOW_MS, decay),
                };
                assert_eq!(found, wanted[usize::from(entry.key()[0])]);
            });
        }
    }
}

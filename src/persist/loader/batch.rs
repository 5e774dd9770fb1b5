//! What a shard is handed of a load: records of its keys, which it decodes and puts.

use super::{Options, STEP};
use crate::base::key::Key;
use crate::base::limits;
use crate::instance::persistence::Loaded;
use crate::rdb::{Fault, Reason, Record, Usage, Value, Version, read};
use crate::shard::Shard;
use crate::value::New;
use std::ops::Range;

/// Bytes of keys and values in a batch from which on it is handed out. Small enough to lie in a core's
/// cache when it arrives, large enough for the way to cost nothing: a wake for some thousand keys.
const BATCH_BYTES: usize = 128 * 1024;
/// Keys whose place in the table is asked for before the first of them is looked at: a miss of the
/// caches each, which so overlap.
const FETCHED: usize = 16;

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
pub(super) struct Batch {
    pub(super) version: Version,
    pub(super) options: Options,
    pub(super) bytes: Vec<u8>,
    records: Vec<Placed>,
    /// Databases of which records will follow, here or later, and how many.
    pub(super) expected: Vec<(usize, usize)>,
    /// How many of them are done with.
    done: usize,
    /// What has become of those.
    pub(super) loaded: Loaded,
    pub(super) fault: Option<Fault>,
}

impl Batch {
    pub(super) fn new(options: Options) -> Batch {
        Batch {
            version: Version::V10,
            options,
            bytes: Vec::new(),
            records: Vec::new(),
            expected: Vec::new(),
            done: 0,
            loaded: Loaded::default(),
            fault: None,
        }
    }

    /// Makes it new, but for its memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        // A value that was long is no reason to keep as much for ever.
        self.bytes.shrink_to(2 * BATCH_BYTES);
        self.records.clear();
        (self.done, self.loaded, self.fault) = (0, Loaded::default(), None);
    }

    pub(super) fn add(&mut self, db: usize, record: &Record) {
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

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    pub(super) fn is_done(&self) -> bool {
        self.done == self.records.len() || self.fault.is_some()
    }

    /// Puts the next few records. What is wrong with one is kept, and ends it.
    pub(super) fn step(&mut self, shard: &mut Shard) {
        for (db, keys) in self.expected.drain(..) {
            shard.expect(db, keys);
        }
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
        if let Value::Bytes(bytes) = &value
            && bytes.len() as u64 > limits::BULK_CEILING
        {
            return Err(wrong(Reason::StringTooLong(bytes.len() as u64)));
        }
        let is_over = placed.expiry_ms.is_some_and(|at_ms| at_ms < shard.now().unix_ms);
        if is_over && self.options.drops_expired {
            self.loaded.expired += 1;
            return Ok(());
        }
        let key = Key::with_hash(bytes, hash);
        let access = shard.access_of(placed.usage);
        let replaces = self.options.replaces;
        if !shard.load(placed.db, key, New::from(&value), placed.expiry_ms, access, replaces) {
            return Err(wrong(Reason::Duplicate));
        }
        self.loaded.keys += 1;
        Ok(())
    }
}

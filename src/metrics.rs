//! One shard's counters. Each has one writer, its shard, which publishes them once per turn before
//! the turn's replies go out; anybody may read. So INFO and scrapes stop nobody.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One shard's counters, a cache line apart from the next shard's.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardMetrics { $($(#[$doc])* pub $name: Counter,)* }
    };
}

counters! {
    /// Commands executed for this shard's clients.
    commands,
    /// Connections accepted since the start.
    connections_total,
    /// Connections open now.
    connections,
    /// Connections refused because of `maxclients`.
    rejected,
    /// Bytes received.
    received,
    /// Bytes sent.
    sent,
    /// Lookups that found their key.
    hits,
    /// Lookups that did not.
    misses,
    /// Keys that expired.
    expired,
    /// Changes to the data.
    dirty,
    /// Commands that came from or went to other shards.
    hops,
    /// Batches they travelled in.
    batches,
    /// Turns of the loop.
    turns,
    /// Nanoseconds spent waiting for something to do.
    waited_ns,
    /// Error replies written.
    errors,
    /// Bytes of the tables, without the keys' blocks.
    table_bytes,
    /// Keys of flushed tables that have not been freed yet.
    pending_frees,
    /// Times a turn took longer than a millisecond.
    stalls,
    /// Clients closed because they did not read their replies.
    output_closed,
    /// Clients closed because their query buffer grew past its limit.
    query_closed,
}

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the value; for its one writer.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds; for its one writer.
    #[inline]
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }
}

/// Keys of one database on one shard.
#[derive(Debug, Default)]
pub struct DatabaseMetrics {
    /// Keys.
    pub keys: Counter,
    /// Keys with an expiry.
    pub volatile: Counter,
}

/// Calls of one command on one shard.
#[derive(Debug, Default)]
pub struct CommandMetrics {
    /// Calls executed.
    pub calls: Counter,
    /// Calls that returned an error while executing.
    pub failed: Counter,
    /// Calls refused before executing (arity, authentication, memory).
    pub rejected: Counter,
}

/// All shards' counters.
#[derive(Debug)]
pub struct Metrics {
    shards: Vec<Shard>,
}

#[derive(Debug)]
struct Shard {
    counters: ShardMetrics,
    databases: Vec<DatabaseMetrics>,
    commands: Vec<CommandMetrics>,
}

impl Metrics {
    /// Counters for so many shards.
    pub fn new(shards: usize) -> Metrics {
        Metrics::sized(shards, crate::base::limits::DATABASES)
    }

    /// Counters for so many shards of so many databases.
    pub fn sized(shards: usize, databases: usize) -> Metrics {
        let shard = || Shard {
            counters: ShardMetrics::default(),
            databases: (0..databases).map(|_| DatabaseMetrics::default()).collect(),
            commands: crate::command::all()
                .iter()
                .map(|_| CommandMetrics::default())
                .collect(),
        };
        Metrics {
            shards: (0..shards).map(|_| shard()).collect(),
        }
    }

    /// One shard's counters.
    #[inline]
    pub fn shard(&self, shard: usize) -> &ShardMetrics {
        &self.shards[shard].counters
    }

    /// One shard's counters of one database.
    pub fn database(&self, shard: usize, db: usize) -> &DatabaseMetrics {
        &self.shards[shard].databases[db]
    }

    /// One shard's counters of one command.
    #[inline]
    pub fn command(&self, shard: usize, id: u16) -> &CommandMetrics {
        &self.shards[shard].commands[id as usize]
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The sum of one counter over all shards.
    pub fn sum(&self, counter: impl Fn(&ShardMetrics) -> &Counter) -> u64 {
        self.shards
            .iter()
            .map(|shard| counter(&shard.counters).get())
            .sum()
    }

    /// Keys and keys with an expiry of a database, over all shards.
    pub fn keys(&self, db: usize) -> (u64, u64) {
        let of = |shard: &Shard| {
            let database = &shard.databases[db];
            (database.keys.get(), database.volatile.get())
        };
        self.shards
            .iter()
            .map(of)
            .fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }
}

//! One shard's counters. Each has one writer, its shard, which publishes them once per turn before
//! the turn's replies go out; anybody may read. So INFO and scrapes stop nobody.

pub mod commandlog;
pub mod histogram;
pub mod latency;
pub mod usage;

use histogram::{Counts, Histogram};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Samples for [`Metrics::rates`] are at least so far apart, and no more of them are kept than make
/// up the time that rates are averaged over, as in Redis: 1.6 seconds.
const SAMPLE_NS: u64 = 100_000_000;
const SAMPLES_MAX: usize = 16;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One shard's counters, a cache line apart from the next shard's.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardMetrics { $($(#[$doc])* pub $name: Counter,)* }

        impl ShardMetrics {
            fn copy_from(&self, other: &ShardMetrics) {
                $(self.$name.set(other.$name.get());)*
            }
        }
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
    /// Commands sent to other shards.
    hops_out,
    /// Commands that came from other shards.
    hops_in,
    /// Batches in which they came.
    batches,
    /// Batches that are waiting to be taken.
    queued,
    /// Batches that found no room in another shard's queue and wait here.
    spilled,
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
    /// Time that turns took, in ticks: everything but waiting and the kernel's part.
    turn_ticks,
    /// The longest turn, in ticks.
    turn_ticks_max,
    /// The most commands of clients in one turn.
    turn_commands_max,
    /// The largest batch that came, in commands.
    batch_max,
    /// Time spent in the search for expired keys and in freeing flushed ones, in ticks.
    expire_ticks,
    /// Times that search had to stop for the day's work and go on later.
    expire_cut,
    /// Keys of flushed tables that have been freed.
    freed,
    /// Completions of receiving, and of sending.
    reads,
    /// See `reads`.
    writes,
    /// The largest input and the largest output of one client, of those looked at lately, in bytes.
    input_max,
    /// See `input_max`.
    output_max,
    /// Keys that clients watch.
    watched_keys,
    /// Clients that watch keys.
    watching,
    /// Clients that have subscribed to something.
    subscribers,
    /// Clients closed because they did not read their replies.
    output_closed,
    /// Clients closed because their query buffer grew past its limit.
    query_closed,
    /// Clients whose next command waits for something.
    blocked,
    /// Bytes that clients make the server use.
    client_bytes,
    /// While they are too many: one more than those of the client that takes most and may be closed
    /// for it. 0 if the shard has not said so yet.
    client_bytes_max,
    /// Clients closed because all together took too much memory.
    evicted_clients,
}

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

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
    /// When those expire on average, in milliseconds since the Unix epoch.
    pub mean_expiry_ms: Counter,
}

/// Calls of one command on one shard: what is counted per call lies in one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct CommandMetrics {
    /// Calls executed.
    pub calls: Counter,
    /// Calls that returned an error while executing.
    pub failed: Counter,
    /// Calls refused before executing (arity, authentication, memory).
    pub rejected: Counter,
    /// Time that calls took, in [`crate::base::ticks`].
    pub ticks: Counter,
    /// How long each took; there from the first call that is tracked.
    histogram: OnceLock<Box<Histogram>>,
}

impl CommandMetrics {
    /// Notes how long a call took (`latency-tracking`); for the one writer.
    #[inline]
    pub fn track(&self, ticks: u64) {
        self.histogram.get_or_init(Box::default).add(ticks);
    }
}

/// What is known about the calls of a command, on all shards, since the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls executed.
    pub calls: u64,
    /// Calls that returned an error while executing.
    pub failed: u64,
    /// Calls refused before executing.
    pub rejected: u64,
    /// Time that calls took, in [`crate::base::ticks`].
    pub ticks: u64,
}

/// The codes that error replies begin with, for Errorstats: a code that is not here counts with the
/// last.
pub const ERROR_CODES: [&str; 30] = [
    "ERR",
    "WRONGTYPE",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "OOM",
    "EXECABORT",
    "NOPROTO",
    "NOSCRIPT",
    "BUSY",
    "NOTBUSY",
    "UNKILLABLE",
    "MISCONF",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "NOREPLICAS",
    "BUSYKEY",
    "BUSYGROUP",
    "NOGROUP",
    "UNBLOCKED",
    "CROSSSLOT",
    "MOVED",
    "ASK",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "INPROG",
    "NOGOODSLAVE",
    "IOERR",
    "OTHER",
];

/// The place of an error text's code among those that are counted; its text is as a reply has it,
/// with or without the `-` of the protocol.
#[cold]
pub fn error_code(text: &[u8]) -> u8 {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let code = text.split(|byte| *byte == b' ').next().unwrap_or(text);
    let known = ERROR_CODES.iter().position(|known| known.as_bytes() == code);
    known.unwrap_or(ERROR_CODES.len() - 1) as u8
}

/// All shards' counters.
#[derive(Debug)]
pub struct Metrics {
    shards: Vec<Shard>,
    /// Totals of the past seconds, oldest first.
    samples: Mutex<VecDeque<Sample>>,
    /// The histograms of all shards at the last CONFIG RESETSTAT, by command, where there were any.
    forgotten: Mutex<HashMap<u16, Counts>>,
    /// Allocated when the server was ready.
    startup_bytes: Counter,
    /// SLOWLOG and COMMANDLOG.
    pub commandlog: commandlog::CommandLog,
    /// LATENCY's events.
    pub latency: latency::LatencyMonitor,
}

/// What has been counted up to a time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ns: u64,
    /// Commands, bytes received, bytes sent, turns, ticks in turns.
    totals: [u64; 5],
}

/// How much happens per second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Commands.
    pub commands: f64,
    /// Bytes received.
    pub received: f64,
    /// Bytes sent.
    pub sent: f64,
    /// Turns.
    pub turns: f64,
    /// Ticks that turns took.
    pub turn_ticks: f64,
}

#[derive(Debug)]
struct Shard {
    counters: ShardMetrics,
    databases: Vec<DatabaseMetrics>,
    commands: Vec<CommandMetrics>,
    errors: Vec<Counter>,
    /// What the counters were at the last CONFIG RESETSTAT. A counter has one writer, its shard, so
    /// it is never set back; what statistics show is the difference.
    forgotten: Forgotten,
}

#[derive(Debug)]
struct Forgotten {
    counters: ShardMetrics,
    commands: Vec<CommandMetrics>,
    errors: Vec<Counter>,
}

impl Metrics {
    /// Counters for so many shards, databases and commands.
    pub fn new(shards: usize, databases: usize, commands: usize) -> Metrics {
        let commands = || (0..commands).map(|_| CommandMetrics::default()).collect();
        let errors = || ERROR_CODES.iter().map(|_| Counter::default()).collect();
        let shard = || Shard {
            counters: ShardMetrics::default(),
            databases: (0..databases).map(|_| DatabaseMetrics::default()).collect(),
            commands: commands(),
            errors: errors(),
            forgotten: Forgotten {
                counters: ShardMetrics::default(),
                commands: commands(),
                errors: errors(),
            },
        };
        Metrics {
            shards: (0..shards).map(|_| shard()).collect(),
            samples: Mutex::default(),
            forgotten: Mutex::default(),
            startup_bytes: Counter::new(),
            commandlog: commandlog::CommandLog::default(),
            latency: latency::LatencyMonitor::default(),
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
        self.shards.iter().map(|shard| counter(&shard.counters).get()).sum()
    }

    /// The largest of one counter over all shards.
    pub fn most(&self, counter: impl Fn(&ShardMetrics) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| counter(&shard.counters).get()).max().unwrap_or(0)
    }

    /// Bytes that all clients make the server use.
    pub fn client_bytes(&self) -> u64 {
        self.sum(|shard| &shard.client_bytes)
    }

    /// How many databases are counted.
    pub fn databases(&self) -> usize {
        self.shards[0].databases.len()
    }

    /// Takes a sample for [`Metrics::rates`]; one shard does so every now and then.
    pub fn sample(&self, now_ns: u64) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.back().is_some_and(|last| now_ns < last.at_ns + SAMPLE_NS) {
            return;
        }
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(Sample { at_ns: now_ns, totals: self.totals() });
    }

    /// What has happened per second lately: since the oldest sample, which without samples taken in
    /// between is the previous time somebody asked.
    pub fn rates(&self, now_ns: u64) -> Rates {
        let oldest = {
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            let late = now_ns.saturating_sub(SAMPLE_NS * SAMPLES_MAX as u64);
            while samples.len() > 1 && samples[0].at_ns < late {
                samples.pop_front();
            }
            samples.front().copied().unwrap_or(Sample { at_ns: 0, totals: [0; 5] })
        };
        let seconds = now_ns.saturating_sub(oldest.at_ns).max(1) as f64 / 1e9;
        let totals = self.totals();
        let rate = |i: usize| totals[i].saturating_sub(oldest.totals[i]) as f64 / seconds;
        self.sample(now_ns);
        Rates {
            commands: rate(0),
            received: rate(1),
            sent: rate(2),
            turns: rate(3),
            turn_ticks: rate(4),
        }
    }

    fn totals(&self) -> [u64; 5] {
        [
            self.sum(|shard| &shard.commands),
            self.sum(|shard| &shard.received),
            self.sum(|shard| &shard.sent),
            self.sum(|shard| &shard.turns),
            self.sum(|shard| &shard.turn_ticks),
        ]
    }

    /// Notes what is allocated now that the server is ready; once.
    pub fn note_startup(&self) {
        self.startup_bytes.set(crate::base::memory::used());
    }

    /// Bytes that were allocated when the server was ready.
    pub fn startup_bytes(&self) -> u64 {
        self.startup_bytes.get()
    }

    /// Counts an error reply of a shard, by the code that [`error_code`] gave.
    pub fn count_error(&self, shard: usize, code: u8) {
        self.shards[shard].errors[code as usize].add(1);
    }

    /// Lets statistics begin anew (CONFIG RESETSTAT). What a shard has counted in the turn it is in
    /// is not published yet, and so not forgotten.
    pub fn reset(&self) {
        let counted = (0..self.shards[0].commands.len() as u16)
            .filter_map(|id| Some((id, self.counts(id)?)))
            .collect();
        *self.forgotten.lock().unwrap_or_else(PoisonError::into_inner) = counted;
        for Shard { counters, commands, errors, forgotten, .. } in &self.shards {
            forgotten.counters.copy_from(counters);
            for (from, to) in commands.iter().zip(&forgotten.commands) {
                to.calls.set(from.calls.get());
                to.failed.set(from.failed.get());
                to.rejected.set(from.rejected.get());
                to.ticks.set(from.ticks.get());
            }
            for (from, to) in errors.iter().zip(&forgotten.errors) {
                to.set(from.get());
            }
        }
    }

    /// The sum of one counter over all shards since the last [`Metrics::reset`].
    pub fn since_reset(&self, counter: impl Fn(&ShardMetrics) -> &Counter) -> u64 {
        let of = |shard: &Shard| {
            counter(&shard.counters).get().saturating_sub(counter(&shard.forgotten.counters).get())
        };
        self.shards.iter().map(of).sum()
    }

    /// The calls of a command since the last [`Metrics::reset`].
    pub fn calls_since_reset(&self, id: u16) -> Calls {
        let mut sums = Calls::default();
        for shard in &self.shards {
            let (now, then) =
                (&shard.commands[id as usize], &shard.forgotten.commands[id as usize]);
            let since = |now: &Counter, then: &Counter| now.get().saturating_sub(then.get());
            sums.calls += since(&now.calls, &then.calls);
            sums.failed += since(&now.failed, &then.failed);
            sums.rejected += since(&now.rejected, &then.rejected);
            sums.ticks += since(&now.ticks, &then.ticks);
        }
        sums
    }

    /// All calls of all commands since the start, and the time they took, in ticks.
    pub fn calls(&self) -> (u64, u64) {
        let all = self.shards.iter().flat_map(|shard| &shard.commands);
        all.fold((0, 0), |(calls, ticks), one| (calls + one.calls.get(), ticks + one.ticks.get()))
    }

    /// Time that all calls took since the last [`Metrics::reset`], in ticks.
    pub fn command_ticks_since_reset(&self) -> u64 {
        (0..self.shards[0].commands.len() as u16).map(|id| self.calls_since_reset(id).ticks).sum()
    }

    /// How long the calls of a command took, those since the last [`Metrics::reset`]; `None` if
    /// there were none, or none was tracked.
    pub fn histogram_since_reset(&self, id: u16) -> Option<Counts> {
        let mut counts = self.counts(id)?;
        let forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = forgotten.get(&id) {
            counts.subtract(before);
        }
        drop(forgotten);
        (counts.total() > 0).then_some(counts)
    }

    /// The histogram of a command since the start, over all shards.
    fn counts(&self, id: u16) -> Option<Counts> {
        let mut sums = None;
        for shard in &self.shards {
            if let Some(histogram) = shard.commands[id as usize].histogram.get() {
                histogram.add_to(sums.get_or_insert_with(Counts::default));
            }
        }
        sums
    }

    /// Error codes with how often each was replied since the last [`Metrics::reset`].
    pub fn errors_since_reset(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ERROR_CODES.iter().enumerate().map(|(at, code)| {
            let of = |shard: &Shard| {
                shard.errors[at].get().saturating_sub(shard.forgotten.errors[at].get())
            };
            (*code, self.shards.iter().map(of).sum())
        })
    }

    /// How long the keys of a database that expire have left on average, in milliseconds.
    pub fn mean_ttl_ms(&self, db: usize, now_ms: i64) -> i64 {
        let (mut keys, mut left_ms) = (0i128, 0i128);
        for shard in &self.shards {
            let (volatile, mean_ms) =
                (shard.databases[db].volatile.get(), shard.databases[db].mean_expiry_ms.get());
            if mean_ms > 0 {
                keys += i128::from(volatile);
                left_ms += i128::from(volatile) * (i128::from(mean_ms) - i128::from(now_ms));
            }
        }
        (left_ms / keys.max(1)).max(0) as i64
    }

    /// Keys and keys with an expiry of a database, over all shards.
    pub fn keys(&self, db: usize) -> (u64, u64) {
        let of = |shard: &Shard| {
            let database = &shard.databases[db];
            (database.keys.get(), database.volatile.get())
        };
        self.shards.iter().map(of).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_past_seconds() {
        let metrics = Metrics::new(2, 1, 1);
        const SECOND: u64 = 1_000_000_000;
        metrics.shard(0).commands.set(500);
        // Nobody has asked before: since the start.
        assert_eq!(metrics.rates(5 * SECOND).commands, 100.0);
        metrics.shard(1).commands.set(1000);
        assert_eq!(metrics.rates(6 * SECOND).commands, 1000.0);
        for step in 1..=40 {
            metrics.shard(0).commands.add(10);
            metrics.sample(6 * SECOND + step * SAMPLE_NS);
        }
        assert_eq!(metrics.rates(10 * SECOND).commands.round(), 100.0);
    }

    #[test]
    fn unknown_error_codes_count_together() {
        let metrics = Metrics::new(1, 1, 1);
        for text in ["-ERR a b", "WRONGTYPE x", "NEVERSEEN y", "ALSO", ""] {
            metrics.count_error(0, error_code(text.as_bytes()));
        }
        let counted: Vec<_> = metrics.errors_since_reset().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [("ERR", 1), ("WRONGTYPE", 1), ("OTHER", 3)]);
    }
}

//! Time. A shard reads the clock once per turn and works with that reading, so that one turn sees
//! one time; the readings come from here so that a simulator can supply its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, milliseconds since the Unix epoch: expiry times are compared with it.
    pub unix_ms: i64,
    /// Monotonic clock, nanoseconds since an arbitrary start, comparable between threads: stamps
    /// and durations are made of it.
    pub monotonic_ns: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Now {
        Now { unix_ms: unix_us() / 1000, monotonic_ns: monotonic_ns() }
    }
}

/// Wall clock in microseconds since the Unix epoch; a clock set before 1970 reads as 0.
pub fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The monotonic clock in nanoseconds since the first reading in this process.
pub fn monotonic_ns() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

//! The cheapest clock there is: the processor's own counter, for durations within one thread.
//!
//! Every command is timed, so a reading must cost next to nothing. `clock_gettime` takes 28 ns where
//! a whole GET at pipeline 64 takes 300; the counter takes 11, of which the processor hides a part.
//! `quanta` reads it as fast as the bare instruction does, knows where it runs evenly, and finds out
//! what it counts in: at the first reading it compares it with the monotonic clock, for 0.6 ms, for
//! 20 at the worst that was seen on a busy machine, and never for more than 200. The rate was then
//! known to 0.002 %. (`minstant` reads as fast, but every start of the process waits 20 ms for it or
//! more, even one that only prints its version.) Durations are kept in ticks and turned into time by
//! who reads them, not by who counts.
//!
//! Where the counter does not run evenly (a processor whose counter follows its frequency, or an
//! architecture that has none), a tick is a nanosecond of the monotonic clock.

use std::sync::OnceLock;

use quanta::Clock;

static CLOCK: OnceLock<Clock> = OnceLock::new();

#[inline]
fn clock() -> &'static Clock {
    CLOCK.get_or_init(Clock::new)
}

/// The counter's reading. It may stand still or go back between threads, so a difference is taken
/// with `saturating_sub` and never between two threads.
#[inline]
pub fn now() -> u64 {
    clock().raw()
}

/// What a tick is in time.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    ns_per_tick: f64,
}

/// The counter's rate.
pub fn rate() -> Rate {
    // So many that the nanoseconds, which are whole, say the rate to eleven digits.
    const MANY: u64 = 1 << 40;
    Rate { ns_per_tick: clock().delta_as_nanos(0, MANY) as f64 / MANY as f64 }
}

impl Rate {
    /// Nanoseconds.
    pub fn ns(self, ticks: u64) -> u64 {
        (ticks as f64 * self.ns_per_tick) as u64
    }

    /// Microseconds.
    pub fn us(self, ticks: u64) -> u64 {
        (ticks as f64 * self.ns_per_tick / 1000.0) as u64
    }

    /// Ticks that take so many nanoseconds.
    pub fn ticks(self, ns: u64) -> u64 {
        (ns as f64 / self.ns_per_tick) as u64
    }

    /// Ticks per microsecond.
    pub fn per_us(self) -> f64 {
        1000.0 / self.ns_per_tick
    }
}

/// What INFO calls the clock.
pub fn name() -> String {
    let rate = rate();
    // Only the monotonic clock counts in nanoseconds, to the last digit.
    if rate.ns_per_tick == 1.0 {
        return "POSIX clock_gettime".to_owned();
    }
    let kind = if cfg!(target_arch = "x86_64") { "X86 TSC" } else { "ARM CNTVCT" };
    format!("{kind} @ {:.2} ticks/us", rate.per_us())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn ticks_are_time() {
        // Finding the rate takes a time of its own, at the first reading.
        let _ = rate();
        // The ticks are counted inside one interval and outside another: however long an interruption
        // takes, and wherever it comes, they lie between the two.
        let (outer, from, inner) = (Instant::now(), now(), Instant::now());
        while inner.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let (inner, ticks, outer) = (inner.elapsed(), now().saturating_sub(from), outer.elapsed());
        let told = Duration::from_nanos(rate().ns(ticks));
        assert!(told >= inner.mul_f64(0.99) && told <= outer.mul_f64(1.01), "{told:?}");
        let back = rate().ticks(rate().ns(1_000_000));
        assert!(back.abs_diff(1_000_000) < 10_000, "{back}");
    }
}

//! The cheapest clock there is: the processor's own counter, for durations within one thread.
//!
//! Every command is timed, so a reading must cost next to nothing. `clock_gettime` takes 25 to 50 ns
//! where a whole GET at pipeline 64 takes 300; the counter takes some 10, of which the processor
//! hides a part. What it counts in is found out by comparing it with the monotonic clock over the
//! life of the process: the longer it lives, the better the rate is known, and after a millisecond
//! it is known to within a few hundredths of a percent. Durations are kept in ticks and turned into
//! time by who reads them, not by who counts.
//!
//! Where the counter does not run evenly (a processor whose counter follows its frequency, or an
//! architecture we do not know), a tick is a nanosecond of the monotonic clock.

use super::clock::monotonic_ns;
use std::sync::OnceLock;

/// Where counting began.
#[derive(Clone, Copy, Debug)]
struct Origin {
    /// Whether the counter runs evenly.
    even: bool,
    ticks: u64,
    ns: u64,
}

static ORIGIN: OnceLock<Origin> = OnceLock::new();

/// The rate is not told before the counter has been watched for so long.
const WATCHED_NS: u64 = 1_000_000;

/// The counter's reading. It may stand still or go back between threads, so a difference is taken
/// with `saturating_sub` and never between two threads.
#[inline]
pub fn now() -> u64 {
    if ORIGIN.get_or_init(origin).even { counter() } else { monotonic_ns() }
}

fn origin() -> Origin {
    let even = runs_evenly();
    let (ticks, ns) = pair(even);
    Origin { even, ticks, ns }
}

/// Both clocks at one moment: the closest of a few attempts, in case one was interrupted.
fn pair(even: bool) -> (u64, u64) {
    let read = || if even { counter() } else { monotonic_ns() };
    let attempt = |_| {
        let (before, ns, after) = (read(), monotonic_ns(), read());
        (after.saturating_sub(before), before + after.saturating_sub(before) / 2, ns)
    };
    let (_, ticks, ns) = (0..4).map(attempt).min().unwrap_or_default();
    (ticks, ns)
}

/// What a tick is in time, as of when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    ns_per_tick: f64,
}

/// The rate as it is known now. The first millisecond of the process waits for it.
pub fn rate() -> Rate {
    let Origin { even, ticks, ns } = *ORIGIN.get_or_init(origin);
    if !even {
        return Rate { ns_per_tick: 1.0 };
    }
    loop {
        let (ticks_now, ns_now) = pair(even);
        let (ticks, ns) = (ticks_now.saturating_sub(ticks), ns_now.saturating_sub(ns));
        if ns >= WATCHED_NS && ticks > 0 {
            return Rate { ns_per_tick: ns as f64 / ticks as f64 };
        }
        std::hint::spin_loop();
    }
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
    let kind = if cfg!(target_arch = "x86_64") { "X86 TSC" } else { "ARM CNTVCT" };
    match ORIGIN.get_or_init(origin).even {
        true => format!("{kind} @ {:.2} ticks/us", rate().per_us()),
        false => "POSIX clock_gettime".to_owned(),
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: (1) every x86-64 processor has the instruction; (2) it reads and writes no memory;
    // (3) an operating system that forbids it to user space says so with a signal that ends the
    // process, which is no undefined behaviour; Linux allows it unless `prctl` was asked otherwise.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn counter() -> u64 {
    let ticks: u64;
    // SAFETY: (1) the virtual counter is readable at EL0 on Linux; (2) the instruction touches
    // neither memory nor stack nor flags, as the options say.
    unsafe {
        core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags));
    }
    ticks
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
fn counter() -> u64 {
    monotonic_ns()
}

/// Whether the counter's rate is constant, as the kernel has found it.
fn runs_evenly() -> bool {
    if cfg!(target_arch = "x86_64") {
        let flags = super::proc::processor_flags();
        return ["constant_tsc", "nonstop_tsc"].iter().all(|flag| flags.contains(flag));
    }
    // The architecture promises it.
    cfg!(target_arch = "aarch64")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn ticks_are_time() {
        let (began, from) = (Instant::now(), now());
        while began.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let (took, ticks) = (began.elapsed(), now().saturating_sub(from));
        let told = Duration::from_nanos(rate().ns(ticks));
        // An interruption between the two readings may lengthen either.
        let apart = told.abs_diff(took);
        assert!(apart < Duration::from_millis(10), "{told:?} for {took:?}");
        let back = rate().ticks(rate().ns(1_000_000));
        assert!(back.abs_diff(1_000_000) < 10_000, "{back}");
    }
}

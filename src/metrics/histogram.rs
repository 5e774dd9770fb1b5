//! How long the calls of one command took: a log-linear histogram of bounded size with one writer.
//!
//! Between two powers of two lie [`STEPS`] buckets of equal width, so a value is known to within
//! 6.25 % of itself, whatever its size. In all [`BUCKETS`] counters of 8 bytes: 5 KiB per command
//! and shard, allocated with the command's first call on the shard. Sixty commands in use on eight
//! shards take 2.4 MiB.

use super::Counter;

/// Buckets between two powers of two.
const STEPS: usize = 1 << STEP_BITS;
const STEP_BITS: u32 = 4;
/// Powers of two: 2^40 ticks are minutes at any counter's rate. What takes longer counts with the
/// last.
const POWERS: usize = 40;
/// Counters of one histogram.
pub const BUCKETS: usize = POWERS * STEPS;

/// See the module's head. Values are in ticks.
#[derive(Debug)]
pub struct Histogram(Box<[Counter; BUCKETS]>);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram(Box::new([const { Counter::new() }; BUCKETS]))
    }
}

impl Histogram {
    /// Counts a value; for the one writer.
    #[inline]
    pub fn add(&self, ticks: u64) {
        self.0[bucket(ticks)].add(1);
    }

    /// Adds what has been counted to `sums`.
    pub fn add_to(&self, sums: &mut Counts) {
        for (sum, counter) in sums.0.iter_mut().zip(self.0.iter()) {
            *sum += counter.get();
        }
    }
}

/// The bucket of a value: its highest bit, then the next [`STEP_BITS`] bits.
#[inline]
fn bucket(ticks: u64) -> usize {
    let ticks = ticks.clamp(1, (1 << POWERS) - 1);
    let power = ticks.ilog2();
    let step = (ticks << (63 - power)) >> (63 - STEP_BITS) & (STEPS as u64 - 1);
    // The compiler sees no bound in the arithmetic above; the clamp is one.
    (power as usize * STEPS + step as usize).min(BUCKETS - 1)
}

/// The smallest value above a bucket.
fn bound(bucket: usize) -> u64 {
    let (power, step) = ((bucket / STEPS) as u32, (bucket % STEPS) as u64);
    // Rounded up: small powers have fewer values than buckets.
    ((STEPS as u64 + step + 1) << power).div_ceil(STEPS as u64)
}

/// Histograms added up, as plain numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(Vec<u64>);

impl Default for Counts {
    fn default() -> Counts {
        Counts(vec![0; BUCKETS])
    }
}

impl Counts {
    /// How many values have been counted.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Takes away what had been counted before.
    pub fn subtract(&mut self, before: &Counts) {
        for (count, before) in self.0.iter_mut().zip(&before.0) {
            *count = count.saturating_sub(*before);
        }
    }

    /// The value that so many percent of all do not exceed, in ticks.
    pub fn percentile(&self, percent: f64) -> u64 {
        let total = self.total();
        let wanted = ((percent / 100.0 * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        for (at, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return bound(at) - 1;
            }
        }
        0
    }

    /// How many values are below a bound in ticks; a bucket across it counts by its middle.
    pub fn below(&self, ticks: u64) -> u64 {
        let low = |at: usize| if at == 0 { 0 } else { bound(at - 1) };
        let counted = self.0.iter().enumerate();
        counted.take_while(|(at, _)| (low(*at) + bound(*at)) / 2 <= ticks).map(|(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        let mut last = 0;
        for ticks in (0..5000).chain((13..40).flat_map(|p| [(1 << p) - 1, 1 << p, 3 << (p - 1)])) {
            let at = bucket(ticks);
            assert!(at >= last, "{ticks} is in bucket {at}, before it {last}");
            last = at;
            assert!(ticks < bound(at), "{ticks} < {}", bound(at));
            assert!(bound(at) as f64 <= ticks.max(1) as f64 * 1.07 + 1.0, "{ticks} {}", bound(at));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(0), bucket(1));
    }

    #[test]
    fn percentiles_of_what_was_counted() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|n| histogram.add(n * 100));
        let mut counts = Counts::default();
        assert_eq!(counts.percentile(99.0), 0);
        histogram.add_to(&mut counts);
        assert_eq!(counts.total(), 1000);
        for (percent, wanted) in [(0.0, 100.0), (50.0, 50_000.0), (99.0, 99_000.0), (100.0, 1e5)] {
            let got = counts.percentile(percent) as f64;
            assert!((wanted..=wanted * 1.07).contains(&got), "p{percent}: {got}");
        }
        let below = counts.below(50_000);
        assert!((470..=530).contains(&below), "{below}");
        assert_eq!(counts.below(1 << 30), 1000);
        let mut later = counts.clone();
        later.subtract(&counts);
        assert_eq!(later.total(), 0);
    }
}

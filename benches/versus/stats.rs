//! Medians, ratios and a latency histogram: what turns samples into figures.

use std::time::Duration;

/// The middle value; the mean of the two middle ones when the count is even.
/// `NaN` for no values at all, so that a missing figure prints as missing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// A ratio with its spread over the rounds.
#[derive(Clone, Copy)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    /// What the ratio lies between, with 95 % confidence.
    pub interval: (f64, f64),
}

impl Ratio {
    /// Divides round by round before taking the median: the two figures of a
    /// round were taken seconds apart, so whatever disturbed the machine in
    /// that round disturbed both and cancels. A ratio of medians would mix
    /// a quiet round of one server with a noisy round of the other.
    pub fn of_rounds(ours: &[f64], theirs: &[f64]) -> Ratio {
        let ratios: Vec<f64> =
            ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Ratio {
            median: median(&ratios),
            low: ratios.iter().copied().fold(f64::NAN, f64::min),
            high: ratios.iter().copied().fold(f64::NAN, f64::max),
            interval: interval(&ratios),
        }
    }
}

/// The 95 % interval of a ratio's geometric mean: the mean of its logarithms, give or take so many
/// standard errors as Student's distribution says for so few samples.
fn interval(ratios: &[f64]) -> (f64, f64) {
    /// Two-sided 95 % quantiles for 1, 2, 3 … degrees of freedom; 1.96 for infinitely many.
    const STUDENT: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    let logs: Vec<f64> = ratios.iter().filter(|r| r.is_finite()).map(|r| r.ln()).collect();
    let count = logs.len();
    if count < 2 {
        return (f64::NAN, f64::NAN);
    }
    let mean = logs.iter().sum::<f64>() / count as f64;
    let squares = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>();
    let error = (squares / (count - 1) as f64 / count as f64).sqrt();
    let reach = STUDENT.get(count - 2).copied().unwrap_or(1.96) * error;
    ((mean - reach).exp(), (mean + reach).exp())
}

/// Each power of two is cut in 2^6 buckets, so a figure is at most 1.6 % off.
const FINE_BITS: u32 = 6;
const FINE: usize = 1 << FINE_BITS;
/// 2^6 ns exactly, then one group of buckets per power of two up to 2^64.
const BUCKETS: usize = FINE * (64 - FINE_BITS as usize + 1);

/// Nanosecond samples in logarithmic buckets: recording is one increment,
/// cheap enough to do per batch without slowing the load down.
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max_ns: u64,
}

impl Histogram {
    pub fn new() -> Histogram {
        Histogram { buckets: vec![0; BUCKETS], count: 0, max_ns: 0 }
    }

    pub fn record(&mut self, sample: Duration) {
        let ns = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns)] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds the samples of another.
    pub fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sample below which `share` (0 to 1) of all samples lie, in µs.
    pub fn quantile_us(&self, share: f64) -> f64 {
        if self.count == 0 {
            return f64::NAN;
        }
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return (top_of(index).min(self.max_ns)) as f64 / 1e3;
            }
        }
        self.max_us()
    }

    pub fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1e3
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < FINE as u64 {
        return ns as usize;
    }
    let shift = ns.ilog2() - FINE_BITS;
    shift as usize * FINE + (ns >> shift) as usize
}

/// The largest value that falls in a bucket.
fn top_of(index: usize) -> u64 {
    if index < FINE {
        return index as u64;
    }
    let shift = (index / FINE - 1) as u32;
    let mantissa = (index % FINE + FINE) as u64;
    (mantissa << shift) | ((1u64 << shift) - 1)
}

//! What the page's charts draw, of the last minutes: so whoever opens it after an incident sees it.
//!
//! A point a second, made of counters as they are published, by who observes the shards anyway. Like
//! every observer it asks no shard anything, so that it goes on while one stalls.

use crate::base::clock::Now;
use crate::base::limits::{HISTORY_POINTS, HISTORY_STEP_MS};
use crate::base::{memory, proc, ticks};
use crate::metrics::Metrics;
use std::collections::VecDeque;
use std::fmt::Write as _;

/// The points of the last minutes, oldest first.
#[derive(Debug)]
pub struct History {
    points: VecDeque<Point>,
    /// What had been counted at the last point.
    before: Totals,
}

/// What happened in one step.
#[derive(Debug)]
struct Point {
    /// When it ended: milliseconds since the Unix epoch.
    at_ms: i64,
    /// Commands per second.
    commands: f64,
    /// Seconds that a command took on average, if there were any.
    command: Option<f64>,
    /// Seconds that a turn of a shard's loop took on average, if there were any.
    turn: Option<f64>,
    /// Bytes allocated.
    used: u64,
    /// Bytes resident.
    resident: u64,
    /// By shard, thousandths of the time that it was busy.
    busy: Box<[u16]>,
}

/// What has been counted since the start.
#[derive(Debug)]
struct Totals {
    at_ns: u64,
    commands: u64,
    calls: u64,
    call_ticks: u64,
    turns: u64,
    /// By shard.
    waited_ns: Vec<u64>,
}

impl Totals {
    fn read(metrics: &Metrics, at_ns: u64) -> Totals {
        let (calls, call_ticks) = metrics.calls();
        let waited = |shard| metrics.shard(shard).waited_ns.get();
        Totals {
            at_ns,
            commands: metrics.sum(|shard| &shard.commands),
            calls,
            call_ticks,
            turns: metrics.sum(|shard| &shard.turns),
            waited_ns: (0..metrics.shards()).map(waited).collect(),
        }
    }
}

impl History {
    /// Begins to observe.
    pub fn new(metrics: &Metrics, now: Now) -> History {
        History { points: VecDeque::new(), before: Totals::read(metrics, now.monotonic_ns) }
    }

    /// Adds a point, if the last one is a step ago.
    pub fn look(&mut self, metrics: &Metrics, now: Now) {
        let step_ns = HISTORY_STEP_MS * 1_000_000;
        if now.monotonic_ns < self.before.at_ns + step_ns {
            return;
        }
        let (before, after) = (&self.before, Totals::read(metrics, now.monotonic_ns));
        let elapsed_ns = (after.at_ns - before.at_ns) as f64;
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        // A wait is counted when it ends, so it may seem to last longer than the step.
        let busy_ns = |(after, before): (&u64, &u64)| {
            (elapsed_ns - after.saturating_sub(*before) as f64).max(0.0)
        };
        let busy: Vec<f64> = after.waited_ns.iter().zip(&before.waited_ns).map(busy_ns).collect();
        let call_ns = ticks::rate().ns(after.call_ticks.saturating_sub(before.call_ticks)) as f64;
        if self.points.len() == HISTORY_POINTS {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            at_ms: now.unix_ms,
            commands: after.commands.saturating_sub(before.commands) as f64 * 1e9 / elapsed_ns,
            command: mean(call_ns / 1e9, after.calls.saturating_sub(before.calls)),
            turn: mean(busy.iter().sum::<f64>() / 1e9, after.turns.saturating_sub(before.turns)),
            used: memory::used(),
            resident: proc::resident_bytes(),
            busy: busy.iter().map(|ns| (1000.0 * ns / elapsed_ns).min(1000.0) as u16).collect(),
        });
        self.before = after;
    }

    /// All points as JSON, in columns: an array for each number, and for `busy` one for each shard.
    pub fn json(&self) -> String {
        let mut out = String::from("{");
        let seconds = |n: f64| format!("{n:.9}");
        self.column(&mut out, "at", |point| format!("{}", point.at_ms as f64 / 1000.0));
        self.column(&mut out, "commands", |point| format!("{:.1}", point.commands));
        self.column(&mut out, "command", |point| point.command.map_or("null".into(), seconds));
        self.column(&mut out, "turn", |point| point.turn.map_or("null".into(), seconds));
        self.column(&mut out, "used", |point| point.used.to_string());
        self.column(&mut out, "resident", |point| point.resident.to_string());
        out.push_str("\"busy\":[");
        for shard in 0..self.before.waited_ns.len() {
            out.push_str(if shard > 0 { ",[" } else { "[" });
            self.numbers(&mut out, |point| point.busy[shard].to_string());
        }
        out.push_str("]}\n");
        out
    }

    fn column(&self, out: &mut String, name: &str, number: impl Fn(&Point) -> String) {
        // Writing to a `String` does not fail.
        let _ = write!(out, "\"{name}\":[");
        self.numbers(out, number);
        out.push(',');
    }

    fn numbers(&self, out: &mut String, number: impl Fn(&Point) -> String) {
        for (at, point) in self.points.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(&number(point));
        }
        out.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP_NS: u64 = HISTORY_STEP_MS * 1_000_000;

    fn at(step: u64) -> Now {
        Now {
            unix_ms: 1_000_000 + (step * HISTORY_STEP_MS) as i64,
            monotonic_ns: 5 + step * STEP_NS,
        }
    }

    #[test]
    fn a_point_tells_what_happened_since_the_last() {
        let metrics = Metrics::new(2, 1, 1);
        metrics.shard(0).commands.set(1_000_000);
        let mut history = History::new(&metrics, at(0));
        metrics.shard(0).commands.add(100);
        metrics.shard(1).commands.add(50);
        metrics.shard(0).waited_ns.add(STEP_NS / 4);
        // A wait that began long ago.
        metrics.shard(1).waited_ns.add(2 * STEP_NS);
        metrics.shard(0).turns.add(3);
        history.look(&metrics, Now { monotonic_ns: at(1).monotonic_ns - 1, ..at(1) });
        assert!(history.points.is_empty(), "before its time");
        history.look(&metrics, at(1));
        history.look(&metrics, at(2));
        let json = history.json();
        assert!(json.starts_with("{\"at\":[1001,1002],\"commands\":[150.0,0.0],"), "{json}");
        assert!(json.contains("\"command\":[null,null],\"turn\":[0.250000000,null],"), "{json}");
        assert!(json.ends_with("\"busy\":[[750,1000],[0,1000]]}\n"), "{json}");
    }

    #[test]
    fn the_oldest_points_go() {
        let metrics = Metrics::new(1, 1, 1);
        let mut history = History::new(&metrics, at(0));
        (1..=HISTORY_POINTS as u64 + 7).for_each(|step| history.look(&metrics, at(step)));
        assert_eq!(history.points.len(), HISTORY_POINTS);
        assert_eq!(history.points[0].at_ms, at(8).unix_ms);
    }
}

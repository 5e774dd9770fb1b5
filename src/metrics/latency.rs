//! The latency monitor: events that took longer than a threshold, by their names.
//!
//! As in Redis, an event's history has one sample per second, the longest of that second, and
//! [`SAMPLES`] of them; so it stays small whatever happens. Only what is over the threshold, which
//! is milliseconds, gets here: one lock for all shards is no burden.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Samples kept of one event: Redis's figure.
pub const SAMPLES: usize = 160;

/// What can be slow here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A command whose cost depends on the data.
    Command,
    /// A command that should always be fast.
    FastCommand,
    /// A slice of the search for expired keys and of freeing flushed ones.
    ExpireCycle,
    /// A whole turn of a shard's loop: all its clients had to wait for it.
    ShardStall,
}

impl Event {
    /// All of them.
    pub const ALL: [Event; 4] =
        [Event::Command, Event::FastCommand, Event::ExpireCycle, Event::ShardStall];

    /// Its name in LATENCY.
    pub fn name(self) -> &'static str {
        match self {
            Event::Command => "command",
            Event::FastCommand => "fast-command",
            Event::ExpireCycle => "expire-cycle",
            Event::ShardStall => "shard-stall",
        }
    }

    /// The event of a name.
    pub fn named(name: &[u8]) -> Option<Event> {
        Event::ALL.into_iter().find(|event| event.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// The longest of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since the Unix epoch.
    pub unix_s: i64,
    /// How long it took.
    pub ms: u64,
}

/// What is known about one event.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The oldest first.
    pub samples: VecDeque<Sample>,
    /// The longest ever.
    pub max_ms: u64,
    /// All of them together, those that are not among the samples any more as well.
    pub sum_ms: u64,
    /// How many there were.
    pub count: u64,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct LatencyMonitor {
    events: Mutex<BTreeMap<Event, History>>,
}

impl LatencyMonitor {
    fn events(&self) -> MutexGuard<'_, BTreeMap<Event, History>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that an event took so long; whether that is long is the caller's to decide.
    pub fn add(&self, event: Event, unix_s: i64, ms: u64) {
        let mut events = self.events();
        let history = events.entry(event).or_default();
        history.max_ms = history.max_ms.max(ms);
        history.sum_ms += ms;
        history.count += 1;
        match history.samples.back_mut() {
            Some(last) if last.unix_s == unix_s => last.ms = last.ms.max(ms),
            _ => {
                if history.samples.len() == SAMPLES {
                    history.samples.pop_front();
                }
                history.samples.push_back(Sample { unix_s, ms });
            }
        }
    }

    /// What is known about an event, if it ever happened.
    pub fn history(&self, event: Event) -> Option<History> {
        self.events().get(&event).cloned()
    }

    /// What is known about all events that ever happened.
    pub fn all(&self) -> Vec<(Event, History)> {
        self.events().iter().map(|(event, history)| (*event, history.clone())).collect()
    }

    /// Forgets an event; returns whether there was anything to forget.
    pub fn reset(&self, event: Event) -> bool {
        self.events().remove(&event).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_one_sample_and_a_history_its_bounds() {
        let monitor = LatencyMonitor::default();
        monitor.add(Event::Command, 10, 5);
        monitor.add(Event::Command, 10, 9);
        monitor.add(Event::Command, 10, 7);
        let history = monitor.history(Event::Command).unwrap();
        assert_eq!(history.samples, [Sample { unix_s: 10, ms: 9 }]);
        assert_eq!((history.max_ms, history.sum_ms, history.count), (9, 21, 3));
        for second in 11..400 {
            monitor.add(Event::Command, second, 1);
        }
        let history = monitor.history(Event::Command).unwrap();
        assert_eq!((history.samples.len(), history.samples[0].unix_s), (SAMPLES, 240));
        assert_eq!(history.max_ms, 9);
        assert!(monitor.history(Event::ExpireCycle).is_none());
        assert!(monitor.reset(Event::Command) && !monitor.reset(Event::Command));
        assert!(monitor.all().is_empty());
        assert_eq!(Event::named(b"Fast-Command"), Some(Event::FastCommand));
    }
}

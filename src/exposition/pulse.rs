//! Whether every shard's loop turns. Idle or busy, a loop turns at least at every tick, so a count of
//! turns that stands still is a shard that serves nobody.

use crate::base::doing;
use crate::command;
use crate::metrics::Metrics;
use std::fmt;
use std::time::Duration;

/// What one observer has seen of all shards.
#[derive(Debug)]
pub struct Pulse {
    /// By shard: its turns, and when they were last seen to have changed.
    seen: Vec<(u64, u64)>,
}

/// A shard that does not turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Which.
    pub shard: usize,
    /// For how long, as far as it was observed.
    pub lasting: Duration,
    /// Whether it has turned at all.
    pub began: bool,
    /// The command it runs, by its number, if it runs one.
    pub command: Option<u16>,
}

impl Pulse {
    /// Begins to observe.
    pub fn new(metrics: &Metrics, now_ns: u64) -> Pulse {
        let turns = |shard| metrics.shard(shard).turns.get();
        Pulse { seen: (0..metrics.shards()).map(|shard| (turns(shard), now_ns)).collect() }
    }

    /// Looks at every shard. Names the one that has not turned for longest, if that is longer than
    /// `patience`; one that has never turned has none.
    pub fn look(&mut self, metrics: &Metrics, now_ns: u64, patience: Duration) -> Option<Stall> {
        for (shard, seen) in self.seen.iter_mut().enumerate() {
            let turns = metrics.shard(shard).turns.get();
            if turns != seen.0 {
                *seen = (turns, now_ns);
            }
        }
        let stalls = self.seen.iter().enumerate().map(|(shard, (turns, since_ns))| Stall {
            shard,
            lasting: Duration::from_nanos(now_ns.saturating_sub(*since_ns)),
            began: *turns > 0,
            command: Some(doing::what_of(shard).command).filter(|command| *command != doing::NONE),
        });
        stalls
            .filter(|stall| !stall.began || stall.lasting > patience)
            .max_by_key(|stall| stall.lasting)
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let seconds = self.lasting.as_secs_f64();
        if !self.began {
            return write!(f, "shard {} has not begun to turn", self.shard);
        }
        write!(f, "shard {} has not turned for {seconds:.1} s", self.shard)?;
        match self.command.and_then(|number| command::all().get(usize::from(number))) {
            Some(command) => write!(f, ", running {}", command.name),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_longest_stall_is_named() {
        let metrics = Metrics::new(3, 1, 1);
        let mut pulse = Pulse::new(&metrics, 0);
        let mut look = |now_s: u64, patience_s: u64| {
            pulse.look(&metrics, now_s * SECOND, Duration::from_secs(patience_s))
        };
        let turn =
            |shards: &[usize]| shards.iter().for_each(|shard| metrics.shard(*shard).turns.add(1));

        turn(&[0, 2]);
        let stall = look(1, 5).expect("shard 1 has not begun");
        assert_eq!(stall.to_string(), "shard 1 has not begun to turn");
        turn(&[0, 1, 2]);
        assert_eq!(look(2, 1), None);
        turn(&[0]);
        assert_eq!(look(3, 1), None, "a second is not more than a second");
        turn(&[0, 2]);
        let stall = look(4, 1).expect("shard 1 stands still since 2");
        assert_eq!(stall.to_string(), "shard 1 has not turned for 2.0 s");
        turn(&[1, 2]);
        assert_eq!(look(5, 1), None);
        assert_eq!(
            look(5, 0).map(|stall| stall.shard),
            Some(0),
            "at 4 s it had, at 5 s it had not"
        );
    }
}

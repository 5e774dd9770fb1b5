//! Waits that grow while something fails on end.

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    least_ms: i64,
    most_ms: i64,
    next_ms: i64,
}

impl Backoff {
    /// Waits of so many milliseconds at first, then twice as long each, and at most so long.
    pub const fn new(least_ms: i64, most_ms: i64) -> Backoff {
        Backoff { least_ms, most_ms, next_ms: least_ms }
    }

    /// It has failed (again). Returns how long to wait, in milliseconds.
    pub fn fail(&mut self) -> i64 {
        let wait_ms = self.next_ms;
        self.next_ms = (wait_ms * 2).min(self.most_ms);
        wait_ms
    }

    /// It has gone well.
    pub fn succeed(&mut self) {
        self.next_ms = self.least_ms;
    }
}

/// Replicas that fall too far behind soon after all data has been sent to them would have it sent again
/// and again: where writes outpace them for good, no snapshot helps. So the next one waits when it is asked
/// for, longer each time.
#[derive(Debug)]
pub struct Overruns {
    backoff: Backoff,
    last_ms: i64,
    wait_ms: i64,
}

/// Overruns that are further apart have nothing to do with each other, in milliseconds.
const APART_MS: i64 = 300_000;

impl Default for Overruns {
    fn default() -> Overruns {
        Overruns { backoff: Backoff::new(1_000, 60_000), last_ms: 0, wait_ms: 0 }
    }
}

impl Overruns {
    /// One more, at a time in milliseconds since the Unix epoch.
    pub fn count(&mut self, now_ms: i64) {
        if now_ms - self.last_ms > APART_MS {
            self.backoff.succeed();
        }
        self.last_ms = now_ms;
        self.wait_ms = self.backoff.fail();
    }

    /// How long a snapshot waits that is asked for now, in milliseconds.
    pub fn wait_ms(&self, now_ms: i64) -> i64 {
        if now_ms - self.last_ms > APART_MS { 0 } else { self.wait_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_until_it_goes_well() {
        let mut backoff = Backoff::new(100, 1_000);
        let waits: Vec<i64> = (0..6).map(|_| backoff.fail()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        backoff.succeed();
        assert_eq!((backoff.fail(), backoff.fail()), (100, 200));
    }

    #[test]
    fn overruns_on_end_put_the_next_snapshot_off_more_and_more() {
        let mut overruns = Overruns::default();
        let mut now_ms = 1_000_000_000;
        assert_eq!(overruns.wait_ms(now_ms), 0);
        let waits: Vec<i64> = (0..8)
            .map(|_| {
                overruns.count(now_ms);
                now_ms += 20_000;
                overruns.wait_ms(now_ms)
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60].map(|s| s * 1_000));
        now_ms += APART_MS;
        assert_eq!(overruns.wait_ms(now_ms), 0);
        overruns.count(now_ms);
        assert_eq!(overruns.wait_ms(now_ms), 1_000);
    }
}

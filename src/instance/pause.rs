//! CLIENT PAUSE: who has to wait, and until when. And writes are held while replicas are to get the last
//! of the stream, before another leads or the server ends: no client ends that. It concerns the whole
//! server; every shard keeps a copy and follows when the configuration's generation says that something
//! has changed.

use super::Instance;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// See the module's head. The default is that nobody waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// When it ends, milliseconds since the Unix epoch; 0 for a pause that is none.
    until_ms: i64,
    /// Whether everybody waits, and not only who writes.
    all: bool,
}

impl Pause {
    /// Whether somebody has to wait.
    pub fn is_on(self, now_ms: i64) -> bool {
        self.until_ms > now_ms
    }

    /// Whether everybody waits, and not only who writes.
    pub fn is_for_all(self) -> bool {
        self.all
    }

    /// Milliseconds that are left of it.
    pub fn left_ms(self, now_ms: i64) -> i64 {
        (self.until_ms - now_ms).max(0)
    }

    /// This pause and another one: of both, the later end and the stricter rule.
    pub fn with(self, until_ms: i64, all: bool, now_ms: i64) -> Pause {
        let so_far = if self.is_on(now_ms) { self } else { Pause::default() };
        Pause { until_ms: so_far.until_ms.max(until_ms), all: so_far.all || all }
    }
}

/// The pauses that there may be.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    of_clients: Mutex<Pause>,
    holds_writes: AtomicBool,
}

impl Instance {
    /// Who has to wait, at a time.
    pub fn pause(&self, now_ms: i64) -> Pause {
        let pause = *self.pauses.of_clients.lock().unwrap_or_else(PoisonError::into_inner);
        // When everybody waits no longer, this is looked at again.
        let is_stricter = pause.all && pause.is_on(now_ms);
        match self.holds_writes() && !is_stricter {
            true => Pause { until_ms: i64::MAX, all: false },
            false => pause,
        }
    }

    /// Whether writes are held, whatever clients say.
    pub fn holds_writes(&self) -> bool {
        self.pauses.holds_writes.load(Ordering::Acquire)
    }

    /// Holds writes from now on, or no more; all shards will notice.
    pub fn hold_writes(&self, holds: bool) {
        self.pauses.holds_writes.store(holds, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Changes who has to wait; all shards will notice.
    pub fn change_pause(&self, change: impl FnOnce(Pause) -> Pause) {
        let mut pause = self.pauses.of_clients.lock().unwrap_or_else(PoisonError::into_inner);
        *pause = change(*pause);
        self.generation.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::instance::Identity;

    #[test]
    fn the_stricter_rule_and_the_later_end_stay() {
        let pause = Pause::default().with(1_200, true, 1_000).with(1_020, false, 1_000);
        assert!(pause.is_for_all());
        assert_eq!(pause.left_ms(1_050), 150);
        assert!(pause.is_on(1_199) && !pause.is_on(1_200));
        // What is over has no say any more.
        assert!(!pause.with(2_000, false, 1_300).is_for_all());
        assert!(!Pause::default().is_on(0));
    }

    #[test]
    fn no_client_ends_what_the_server_holds() {
        let identity = Identity { run_id: String::new(), started_us: 0, executable: String::new() };
        let instance = Instance::new(Config::default(), 1, 1, identity);
        instance.hold_writes(true);
        instance.change_pause(|_| Pause::default());
        let held = instance.pause(1_000);
        assert!(held.is_on(i64::MAX - 1) && !held.is_for_all());
        instance.change_pause(|pause| pause.with(2_000, true, 1_000));
        assert!(instance.pause(1_999).is_for_all() && !instance.pause(1_999).is_on(2_000));
        // What was for everybody, and is over, is over.
        assert_eq!(instance.pause(2_000), held);
        instance.hold_writes(false);
        assert!(!instance.pause(2_000).is_on(2_000));
    }
}

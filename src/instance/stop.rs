//! Requests to end the process, of which one may be taken back: where the data was to be saved before
//! the end and cannot be, the server goes on.

use super::Instance;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How the server is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// Whether the data is saved; if it is not said, it is if there are save points.
    pub save: Option<bool>,
    /// Whether nobody is waited for.
    pub now: bool,
    /// Whether it ends though the data cannot be saved.
    pub force: bool,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Stop {
    /// The number of the request in force; 0 if there is none.
    current: AtomicU64,
    state: Mutex<State>,
    /// Whether it has been wished, and who leads is yet to look whether somebody is to be waited for.
    is_wished: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// How many requests there have been.
    count: u64,
    how: Shutdown,
    wish: Option<Shutdown>,
}

impl Stop {
    fn begin(&self, how: Shutdown) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.current.load(Ordering::Acquire) != 0 {
            return false;
        }
        state.count += 1;
        state.how = how;
        self.current.store(state.count, Ordering::Release);
        true
    }
}

impl Instance {
    /// Asks the whole process to stop, as a user wishes. Returns whether it has not been asked before.
    pub fn request_stop(&self, how: Shutdown) -> bool {
        let is_first = self.stop.begin(how);
        if is_first {
            tracing::info!("User requested shutdown...");
        }
        is_first
    }

    /// Asks the process to stop when replicas have got what they lack, unless nobody is to be waited for:
    /// who leads will [see to it](Instance::take_stop_wish).
    pub fn wish_stop(&self, how: Shutdown) {
        if how.now || self.replication.state().replicas.is_empty() {
            self.request_stop(how);
            return;
        }
        let mut state = self.stop.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.wish = Some(how);
        self.stop.is_wished.store(true, Ordering::Release);
    }

    /// Whether the process has been asked to stop, be it that it waits for replicas before.
    pub fn is_stop_wished(&self) -> bool {
        self.stopping() || self.stop.is_wished.load(Ordering::Acquire)
    }

    /// What has been wished and not been seen to.
    pub fn take_stop_wish(&self) -> Option<Shutdown> {
        if !self.stop.is_wished.load(Ordering::Acquire) {
            return None;
        }
        self.stop.state.lock().unwrap_or_else(PoisonError::into_inner).wish.take()
    }

    /// The process is not to stop any more, or does.
    pub fn end_stop_wish(&self) {
        self.stop.is_wished.store(false, Ordering::Release);
    }

    /// Begins the stop that has been waited for, and announced.
    pub fn begin_stop(&self, how: Shutdown) {
        self.stop.begin(how);
        self.end_stop_wish();
    }

    /// Ends the whole process, since a part of it cannot go on. Nothing is saved.
    pub fn give_up(&self) {
        let how = Shutdown { save: Some(false), now: true, force: true };
        if !self.stop.begin(how) {
            self.stop.state.lock().unwrap_or_else(PoisonError::into_inner).how = how;
        }
    }

    /// Whether the process has been asked to stop.
    #[inline]
    pub fn stopping(&self) -> bool {
        self.stop_number() != 0
    }

    /// The number of the request to stop that is in force; 0 if there is none.
    #[inline]
    pub fn stop_number(&self) -> u64 {
        self.stop.current.load(Ordering::Acquire)
    }

    /// How the process is to stop.
    pub fn shutdown(&self) -> Shutdown {
        self.stop.state.lock().unwrap_or_else(PoisonError::into_inner).how
    }

    /// Takes the request to stop back: the server goes on.
    pub fn take_back_stop(&self) {
        self.stop.current.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_in_force_until_it_is_taken_back() {
        let stop = Stop::default();
        assert!(stop.begin(Shutdown { now: true, ..Shutdown::default() }));
        assert!(!stop.begin(Shutdown::default()));
        assert!(stop.state.lock().unwrap().how.now);
        stop.current.store(0, Ordering::Release);
        assert!(stop.begin(Shutdown::default()));
        assert_eq!(stop.current.load(Ordering::Acquire), 2);
    }
}

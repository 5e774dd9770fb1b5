//! A drill of the disk that an operator has asked for (DEBUG FILE), and how it went. Whichever shard
//! looks first does it; there is one at a time.

use super::Instance;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's head.
#[derive(Debug, Default)]
pub struct Drill {
    /// Whether one is asked for and not begun.
    is_asked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Never,
    /// So many bytes.
    Asked(u64),
    Running(u64),
    Over(String),
}

impl Drill {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a drill of so many bytes. Returns whether there is none under way.
    pub fn ask(&self, bytes: u64) -> bool {
        let mut state = self.lock();
        if matches!(*state, State::Asked(_) | State::Running(_)) {
            return false;
        }
        *state = State::Asked(bytes);
        self.is_asked.store(true, Ordering::Release);
        true
    }

    /// What is asked for, for one caller: it begins now.
    #[inline]
    pub fn take(&self) -> Option<u64> {
        if !self.is_asked.load(Ordering::Relaxed) || !self.is_asked.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut state = self.lock();
        let State::Asked(bytes) = *state else { return None };
        *state = State::Running(bytes);
        Some(bytes)
    }

    /// It is over.
    pub fn end(&self, report: String) {
        *self.lock() = State::Over(report);
    }

    /// How it is going, or went, in the form of INFO.
    pub fn report(&self) -> String {
        match &*self.lock() {
            State::Never => "state:none\r\n".to_owned(),
            State::Asked(bytes) | State::Running(bytes) => {
                format!("state:running\r\nbytes:{bytes}\r\n")
            }
            State::Over(report) => report.clone(),
        }
    }
}

impl Instance {
    /// The drill of the disk.
    pub fn drill(&self) -> &Drill {
        &self.drill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_at_a_time() {
        let drill = Drill::default();
        assert_eq!(drill.take(), None);
        assert!(drill.ask(7) && !drill.ask(8));
        assert_eq!((drill.take(), drill.take()), (Some(7), None));
        assert!(!drill.ask(8));
        assert_eq!(drill.report(), "state:running\r\nbytes:7\r\n");
        drill.end("state:done\r\n".to_owned());
        assert_eq!(drill.report(), "state:done\r\n");
        assert!(drill.ask(8));
    }
}

//! Where a snapshot goes: to a file, or to replicas.
//!
//! For replicas, what is collected waits in a [`Spread`] until each of them has room for it. So all get
//! the same bytes, and the slowest sets the pace; one that is too slow is somebody else's to end.

use super::background::{Writing, cut_short};
use crate::persist::snapshot::Sink;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Bytes that wait here at most, when a chunk more is taken.
const AHEAD_BYTES: usize = 1024 * 1024;

/// See the module's head.
#[derive(Clone)]
pub enum Target {
    /// A file, which is complete or absent.
    File(Rc<Writing>),
    /// Replicas.
    Replicas(Rc<Spread>),
}

impl Target {
    /// It gets no more; if it is cut short, it is not to be.
    pub fn end(&self, is_cut_short: bool) {
        match self {
            Target::File(file) => file.end(is_cut_short),
            Target::Replicas(spread) => spread.end(is_cut_short),
        }
    }

    /// Why it cannot be had as a whole, if that is known before its end, once.
    pub fn failure(&self) -> Option<io::Error> {
        match self {
            Target::File(file) => file.failure(),
            Target::Replicas(_) => None,
        }
    }

    /// How it has come out, once.
    pub fn result(&self) -> Option<io::Result<()>> {
        match self {
            Target::File(file) => file.result(),
            Target::Replicas(spread) => spread.result(),
        }
    }
}

impl Sink for Target {
    fn has_room(&self) -> bool {
        match self {
            Target::File(file) => file.has_room(),
            Target::Replicas(spread) => spread.has_room(),
        }
    }

    fn push(&mut self, chunk: Bytes) {
        match self {
            Target::File(file) => file.push(chunk),
            Target::Replicas(spread) => spread.push(chunk),
        }
    }
}

/// A snapshot on its way to replicas.
#[derive(Debug, Default)]
pub struct Spread {
    queue: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    state: Cell<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There is more to come.
    #[default]
    Begun,
    /// All of it is here.
    Whole,
    /// There will be no more, though it is not whole.
    CutShort,
}

impl Spread {
    /// It gets no more; if it is cut short, it is not whole, or nobody wants the rest of it.
    pub fn end(&self, is_cut_short: bool) {
        if is_cut_short {
            self.state.set(State::CutShort);
        } else if self.state.get() == State::Begun {
            self.state.set(State::Whole);
        }
    }

    /// How it has come out, when the last of it has been taken.
    pub fn result(&self) -> Option<io::Result<()>> {
        match self.state.get() {
            State::Whole if self.bytes.get() == 0 => Some(Ok(())),
            State::Begun | State::Whole => None,
            State::CutShort => Some(Err(cut_short())),
        }
    }

    /// The next chunk, for all replicas.
    pub fn take(&self) -> Option<Bytes> {
        let chunk = self.queue.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - chunk.len());
        Some(chunk)
    }
}

impl Sink for Rc<Spread> {
    fn has_room(&self) -> bool {
        self.bytes.get() < AHEAD_BYTES
    }

    fn push(&mut self, chunk: Bytes) {
        self.bytes.set(self.bytes.get() + chunk.len());
        self.queue.borrow_mut().push_back(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_all_of_it_has_been_taken() {
        let mut spread: Rc<Spread> = Rc::default();
        spread.push(Bytes::from_static(b"ab"));
        spread.end(false);
        assert!(spread.result().is_none());
        assert_eq!(spread.take(), Some(Bytes::from_static(b"ab")));
        assert!(spread.result().is_some_and(|result| result.is_ok()));
    }

    #[test]
    fn what_nobody_wants_is_over_though_the_rest_is_never_taken() {
        let mut spread: Rc<Spread> = Rc::default();
        while spread.has_room() {
            spread.push(Bytes::from(vec![0; 1000]));
        }
        spread.end(false);
        assert!(spread.result().is_none());
        spread.end(true);
        assert!(spread.result().is_some_and(|result| result.is_err()));
    }
}

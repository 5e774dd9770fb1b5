//! The first shard's part: it accepts for all.

use super::apply::Listeners;
use super::listen::Listener;
use crate::instance::Instance;
use rtrb::Producer;
use slab::Slab;
use std::os::fd::RawFd;
use std::sync::Arc;

/// A connection on its way from the shard that accepted it.
pub type Handover = (RawFd, usize);

/// See the module's head.
pub struct Acceptor {
    listeners: Arc<Listeners>,
    /// The change of `listeners` that `open` follows.
    seen: u64,
    /// The listening sockets that are accepted on, each at its place. One that has closed stays until
    /// the kernel has let go of it.
    open: Slab<Arc<Listener>>,
    /// The way to each shard (not to itself).
    pub ways: Vec<Option<Producer<Handover>>>,
    /// Called when the data is there.
    opening: fn(&Instance, &[Arc<Listener>]),
}

impl Acceptor {
    /// An acceptor that has not begun.
    pub fn new(
        listeners: Arc<Listeners>,
        ways: Vec<Option<Producer<Handover>>>,
        opening: fn(&Instance, &[Arc<Listener>]),
    ) -> Acceptor {
        Acceptor { listeners, seen: 0, open: Slab::new(), ways, opening }
    }

    /// Says that the data is there and clients are served.
    pub fn open(&self, instance: &Instance) {
        (self.opening)(instance, &self.listeners.list());
    }

    /// Turns newcomers away from now on.
    pub fn close(&self) {
        self.listeners.list().iter().for_each(|listener| listener.close());
    }

    /// Whether [`Acceptor::follow`] has something to do.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.seen != self.listeners.changes()
    }

    /// Takes over listening sockets that are new. Returns their places: they are to be accepted on.
    pub fn follow(&mut self) -> Vec<usize> {
        self.seen = self.listeners.changes();
        let mut fresh = Vec::new();
        for listener in self.listeners.list() {
            if !self.open.iter().any(|(_, known)| Arc::ptr_eq(known, &listener)) {
                fresh.push(self.open.insert(listener));
            }
        }
        fresh
    }

    /// Accepting at a place has ended. The descriptor to begin again with, unless the socket there is
    /// not wanted any more.
    pub fn again(&mut self, place: usize) -> Option<RawFd> {
        let listener = self.open.get(place)?;
        let is_wanted = self.listeners.list().iter().any(|wanted| Arc::ptr_eq(wanted, listener));
        if !is_wanted {
            drop(self.open.remove(place));
            return None;
        }
        Some(listener.descriptor())
    }
}

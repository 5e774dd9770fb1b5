//! Who wants to see every command (MONITOR). Every shard keeps a copy of the list, and looks once
//! per turn whether it is still the one; so without monitors nothing is paid per command.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A client that monitors: its shard, its place there, and what tells it from others in that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Its shard.
    pub shard: usize,
    /// Its place there.
    pub index: u32,
    /// Its generation.
    pub generation: u32,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Monitors {
    generation: AtomicU64,
    list: Mutex<Arc<Vec<Monitor>>>,
}

impl Monitors {
    fn lock(&self) -> MutexGuard<'_, Arc<Vec<Monitor>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with the list.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The list and its generation.
    pub fn list(&self) -> (u64, Arc<Vec<Monitor>>) {
        let list = self.lock();
        (self.generation(), Arc::clone(&list))
    }

    /// Adds a client.
    pub fn add(&self, monitor: Monitor) {
        let mut list = self.lock();
        Arc::make_mut(&mut list).push(monitor);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Removes a client, if it is there.
    pub fn remove(&self, monitor: Monitor) {
        let mut list = self.lock();
        if list.contains(&monitor) {
            Arc::make_mut(&mut list).retain(|other| *other != monitor);
            self.generation.fetch_add(1, Ordering::Release);
        }
    }
}

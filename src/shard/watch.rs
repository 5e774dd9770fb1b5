//! WATCH, on the shard that owns the key: a version per watched key, and nothing at all for keys
//! that nobody watches.

use crate::base::hash;
use std::collections::HashMap;

#[derive(Debug)]
struct Watched {
    version: u64,
    watchers: u32,
}

/// All watched keys of one shard.
#[derive(Debug)]
pub struct Watches {
    keys: HashMap<(usize, Box<[u8]>), Watched, ahash::RandomState>,
    next: u64,
}

impl Default for Watches {
    fn default() -> Watches {
        Watches { keys: HashMap::with_hasher(hash::state().clone()), next: 1 }
    }
}

impl Watches {
    /// Whether nobody watches anything.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys are watched.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// One more client watches a key; returns the key's version.
    pub fn add(&mut self, db: usize, key: &[u8]) -> u64 {
        let next = self.next;
        let watched = self
            .keys
            .entry((db, key.into()))
            .or_insert_with(|| Watched { version: next, watchers: 0 });
        watched.watchers += 1;
        watched.version
    }

    /// One client fewer.
    pub fn remove(&mut self, db: usize, key: &[u8]) {
        let name = (db, key.into());
        if let Some(watched) = self.keys.get_mut(&name) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                self.keys.remove(&name);
            }
        }
    }

    /// The version of a watched key.
    pub fn version(&self, db: usize, key: &[u8]) -> Option<u64> {
        self.keys.get(&(db, key.into())).map(|watched| watched.version)
    }

    /// The key changed.
    pub fn touch(&mut self, db: usize, key: &[u8]) {
        self.next += 1;
        if let Some(watched) = self.keys.get_mut(&(db, key.into())) {
            watched.version = self.next;
        }
    }

    /// The keys watched in either of two databases.
    pub fn of(&self, a: usize, b: usize) -> Vec<Box<[u8]>> {
        let of_either = self.keys.keys().filter(|(db, _)| *db == a || *db == b);
        of_either.map(|(_, key)| key.clone()).collect()
    }

    /// Every watched key for which `changed` says so changed (FLUSHDB, SWAPDB).
    pub fn touch_where(&mut self, mut changed: impl FnMut(usize, &[u8]) -> bool) {
        self.next += 1;
        for ((db, key), watched) in &mut self.keys {
            if changed(*db, key) {
                watched.version = self.next;
            }
        }
    }
}

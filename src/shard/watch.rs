//! WATCH, on the shard that owns the key: a version per watched key, and nothing at all for keys
//! that nobody watches.

use crate::base::hash;
use std::collections::HashMap;

#[derive(Debug)]
struct Watched {
    version: u64,
    watchers: u32,
}

/// The watched keys of one database.
type Names = HashMap<Box<[u8]>, Watched, ahash::RandomState>;

/// All watched keys of one shard.
#[derive(Debug)]
pub struct Watches {
    /// By database, as far as any has been watched: names are looked up as they are borrowed, and
    /// a database in which nothing is watched costs a test.
    databases: Vec<Names>,
    len: usize,
    next: u64,
}

impl Default for Watches {
    fn default() -> Watches {
        Watches { databases: Vec::new(), len: 0, next: 1 }
    }
}

impl Watches {
    /// How many keys are watched.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody watches anything.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more client watches a key; returns the key's version.
    pub fn add(&mut self, db: usize, key: &[u8]) -> u64 {
        if self.databases.len() <= db {
            let names = || HashMap::with_hasher(hash::state().clone());
            self.databases.resize_with(db + 1, names);
        }
        let names = &mut self.databases[db];
        if let Some(watched) = names.get_mut(key) {
            watched.watchers += 1;
            return watched.version;
        }
        self.len += 1;
        names.insert(key.into(), Watched { version: self.next, watchers: 1 });
        self.next
    }

    /// One client fewer.
    pub fn remove(&mut self, db: usize, key: &[u8]) {
        let Some(names) = self.databases.get_mut(db) else {
            return;
        };
        if let Some(watched) = names.get_mut(key) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                names.remove(key);
                self.len -= 1;
            }
        }
    }

    /// The version of a watched key.
    pub fn version(&self, db: usize, key: &[u8]) -> Option<u64> {
        self.databases.get(db)?.get(key).map(|watched| watched.version)
    }

    /// The key changed.
    pub fn touch(&mut self, db: usize, key: &[u8]) {
        self.next += 1;
        if let Some(watched) = self.databases.get_mut(db).and_then(|names| names.get_mut(key)) {
            watched.version = self.next;
        }
    }

    /// The keys watched in a database.
    pub fn of(&self, db: usize) -> impl Iterator<Item = &[u8]> {
        self.databases.get(db).into_iter().flat_map(|names| names.keys().map(|key| &**key))
    }

    /// Every key watched in a database for which `changed` says so changed (FLUSHDB, SWAPDB).
    pub fn touch_where(&mut self, db: usize, mut changed: impl FnMut(&[u8]) -> bool) {
        self.next += 1;
        for (key, watched) in self.databases.get_mut(db).into_iter().flatten() {
            if changed(key) {
                watched.version = self.next;
            }
        }
    }
}

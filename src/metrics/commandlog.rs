//! The commands worth a second look: those that took long, were large, or had a large reply.
//!
//! There is one log for all shards, behind a lock: an entry's number says which came first, and how
//! many are kept is a limit on all. Only who logs takes the lock, and holds it for a push; an entry
//! is made before. A command is logged on its client's shard, which knows who the client is; how
//! long it took is told by the shard where it ran.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why a command is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It took long: microseconds.
    Slow,
    /// It was large: bytes.
    LargeRequest,
    /// Its reply was: bytes.
    LargeReply,
}

/// One command.
#[derive(Debug)]
pub struct Entry {
    /// Its number among those of its kind.
    pub id: u64,
    /// When, in seconds since the Unix epoch.
    pub unix_s: i64,
    /// How slow or how large.
    pub value: u64,
    /// Its words, cut short, and without secrets.
    pub words: Arc<[Vec<u8>]>,
    /// The client's address.
    pub addr: Arc<str>,
    /// The client's name.
    pub name: Arc<[u8]>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct CommandLog {
    kinds: [Mutex<Log>; 3],
}

#[derive(Debug, Default)]
struct Log {
    next: u64,
    /// The newest first.
    entries: VecDeque<Arc<Entry>>,
}

/// What is logged about a command, whatever the reason.
#[derive(Clone, Debug)]
pub struct Described {
    /// See [`Entry::words`].
    pub words: Arc<[Vec<u8>]>,
    /// See [`Entry::addr`].
    pub addr: Arc<str>,
    /// See [`Entry::name`].
    pub name: Arc<[u8]>,
}

impl CommandLog {
    fn log(&self, kind: Kind) -> MutexGuard<'_, Log> {
        // A panic while it was held ends the process anyway.
        self.kinds[kind as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry, of which as many are kept as `most` says.
    pub fn add(&self, kind: Kind, most: usize, unix_s: i64, value: u64, described: Described) {
        let Described { words, addr, name } = described;
        let mut dropped = Vec::new();
        let mut log = self.log(kind);
        let entry = Entry { id: log.next, unix_s, value, words, addr, name };
        log.next += 1;
        log.entries.push_front(Arc::new(entry));
        while log.entries.len() > most {
            dropped.extend(log.entries.pop_back());
        }
        // Freed after the lock has been let go.
        drop(log);
    }

    /// Up to `most` entries, the newest first.
    pub fn newest(&self, kind: Kind, most: usize) -> Vec<Arc<Entry>> {
        self.log(kind).entries.iter().take(most).cloned().collect()
    }

    /// How many entries there are.
    pub fn len(&self, kind: Kind) -> usize {
        self.log(kind).entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self, kind: Kind) -> bool {
        self.len(kind) == 0
    }

    /// Forgets all entries. Numbers go on.
    pub fn reset(&self, kind: Kind) {
        let entries = std::mem::take(&mut self.log(kind).entries);
        drop(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let log = CommandLog::default();
        let described = Described {
            words: Vec::new().into(),
            addr: "127.0.0.1:1".into(),
            name: Vec::new().into(),
        };
        for value in 0..5 {
            log.add(Kind::Slow, 3, 7, value, described.clone());
        }
        let ids = |most| log.newest(Kind::Slow, most).iter().map(|e| e.id).collect::<Vec<_>>();
        assert_eq!(ids(9), [4, 3, 2]);
        assert_eq!(ids(1), [4]);
        assert_eq!((log.len(Kind::Slow), log.len(Kind::LargeReply)), (3, 0));
        log.reset(Kind::Slow);
        assert!(log.is_empty(Kind::Slow));
        log.add(Kind::Slow, 3, 7, 0, described);
        assert_eq!(ids(9), [5]);
    }
}

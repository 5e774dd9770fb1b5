//! Keys that a replica has to expire itself: clients have given them a lifetime there
//! (`replica-read-only no`), so no primary will ever say that they go.

use super::Shard;
use crate::base::key::Key;
use std::collections::{HashSet, VecDeque};

/// Keys looked at per step.
const STEP: usize = 20;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct OwnKeys {
    /// By database and name.
    keys: HashSet<(usize, Vec<u8>)>,
    /// The same, in the order in which they are looked at; those that are not its own any more too.
    queue: VecDeque<(usize, Vec<u8>)>,
}

impl OwnKeys {
    /// A client has given a key a lifetime.
    #[cold]
    pub(super) fn note(&mut self, db: usize, key: &[u8]) {
        let one = (db, key.to_vec());
        if self.keys.insert(one.clone()) {
            self.queue.push_back(one);
        }
    }

    /// The primary has written a key: it is the one to say when that goes.
    #[cold]
    pub(super) fn forget(&mut self, db: usize, key: &[u8]) {
        if !self.keys.is_empty() {
            self.keys.remove(&(db, key.to_vec()));
        }
    }

    /// There are none: all data is another, or the server's own.
    pub(super) fn clear(&mut self) {
        *self = OwnKeys::default();
    }
}

impl Shard {
    /// Looks at the next few keys that are this replica's own, and removes those whose time has come.
    pub(super) fn expire_own(&mut self) {
        for _ in 0..STEP.min(self.own.queue.len()) {
            let Some(one) = self.own.queue.pop_front() else { return };
            if !self.own.keys.contains(&one) {
                continue;
            }
            let (db, key) = (one.0, Key::new(&one.1));
            let table = self.databases[db].table();
            let place = table.find(key.hash(), key.bytes());
            let expiry = place.and_then(|place| table.get(place).expiry());
            match (place, expiry) {
                (_, Some(at_ms)) if at_ms >= self.now.unix_ms => {
                    self.own.queue.push_back(one);
                    continue;
                }
                (Some(place), Some(_)) => self.expire(db, key, place),
                // It has gone, or is to stay.
                _ => {}
            }
            self.own.keys.remove(&one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::shard::caller::Caller;
    use crate::shard::db::Ttl;
    use crate::shard::event::Event;
    use crate::value::New;

    const NOW_MS: i64 = 1_000_000;

    fn set(shard: &mut Shard, key: &[u8], ttl: Ttl, is_primary: bool) {
        let mut db = shard.db(0);
        db.serve(Caller { is_primary, ..Caller::default() });
        db.edit(Key::new(key)).put(New::string(b"x"), ttl, Event::Set);
    }

    #[test]
    fn a_replica_expires_what_its_clients_have_written_and_nothing_else() {
        let mut shard = Shard::new(0, 1, 1);
        let at = |ms| Now { unix_ms: NOW_MS + ms, ..Now::default() };
        shard.set_now(at(0));
        let follows =
            super::super::Settings { expiry_paused: true, expires_own: true, ..*shard.settings() };
        shard.set_settings(follows);
        let soon = Ttl::At(NOW_MS + 10);
        for key in 0..50 {
            set(&mut shard, format!("own:{key}").as_bytes(), soon, false);
        }
        set(&mut shard, b"primary's", soon, true);
        set(&mut shard, b"taken over", soon, false);
        set(&mut shard, b"taken over", soon, true);
        set(&mut shard, b"stays", soon, false);
        set(&mut shard, b"stays", Ttl::Clear, false);
        set(&mut shard, b"later", Ttl::At(NOW_MS + 1_000), false);
        let housekeep = |shard: &mut Shard| {
            for _ in 0..10 {
                shard.housekeep(&mut false, &|_| false);
            }
            shard.db(0).len()
        };
        assert_eq!(housekeep(&mut shard), 54);
        shard.set_now(at(11));
        assert_eq!(housekeep(&mut shard), 4);
        shard.set_now(at(1_001));
        assert_eq!(housekeep(&mut shard), 3);
        assert!(shard.own.keys.is_empty() && shard.own.queue.is_empty());
        // Data that is loaded is the primary's.
        set(&mut shard, b"again", Ttl::At(NOW_MS + 2_000), false);
        shard.set_settings(super::super::Settings { expires_own: false, ..follows });
        shard.set_settings(follows);
        shard.set_now(at(3_000));
        assert_eq!(housekeep(&mut shard), 4);
    }
}

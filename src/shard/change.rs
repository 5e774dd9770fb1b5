//! The door: every change of a key passes here, and nothing else can change one.
//!
//! A [`Database`] lets its table be read by all of the shard, and changed by this file alone. Whatever
//! happens to a key is one of four things: it is put where none is, changed in its place, taken out
//! by a command, taken out because its time has come; and whole databases are flushed and swapped.
//! Each goes the same way:
//!
//! 1. *before*: the old entry is in hand, whole and unchanged ([`Sums::before`]), and a
//!    [snapshot](super::snapshot) that has not seen it keeps it;
//! 2. the change;
//! 3. *after*: the new entry is in hand ([`Sums::after`]), and [`Changes`] counts the change and, if
//!    anybody is interested, says what happened: to clients that watch the key, to the journal (of
//!    keys whose time has come, which no command says), to who listens for events.
//!
//! Who is interested is one word, tested once per change.

use super::Shard;
use super::entry::Entry;
use super::event::{Classes, Event, Heard};
use super::expiry;
use super::journal::{Journal, Scope};
use super::locks;
use super::table::{Due, Mark, POSITION_END, Place, Table};
use super::watch::Watches;
use crate::base::key::Key;
use crate::value::New;

/// Sums over all entries of a database, kept by taking off the old entry of each change and adding
/// the new one.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Keys with an expiry.
    volatile: usize,
    /// The sum of when they expire: nine quintillion keys fit.
    expiry_ms: i128,
}

impl Sums {
    /// An entry is about to be changed or to go.
    #[inline]
    fn before(&mut self, old: &Entry) {
        if let Some(at_ms) = old.expiry() {
            self.volatile -= 1;
            self.expiry_ms -= i128::from(at_ms);
        }
    }

    /// An entry has come or has been changed.
    #[inline]
    fn after(&mut self, new: &Entry) {
        if let Some(at_ms) = new.expiry() {
            self.volatile += 1;
            self.expiry_ms += i128::from(at_ms);
        }
    }
}

/// One database's keys on this shard.
#[derive(Debug, Default)]
pub(super) struct Database {
    table: Table,
    sums: Sums,
    /// What a snapshot has yet to see of it.
    walk: Option<Walk>,
    /// Whether it is in the shard's list of those that may have changed.
    pub(super) is_noted: bool,
}

/// How far a snapshot's walk has come in a database.
#[derive(Clone, Copy, Debug)]
struct Walk {
    /// The database's number at the cut.
    number: usize,
    /// Where the walk goes on, in hash order.
    at: u64,
}

impl Database {
    /// Its keys, to be looked at.
    #[inline]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// How many keys have an expiry.
    pub(super) fn volatile(&self) -> usize {
        self.sums.volatile
    }

    /// When those expire on average, in milliseconds since the Unix epoch; 0 if there are none.
    pub(super) fn mean_expiry_ms(&self) -> i64 {
        let Sums { volatile, expiry_ms } = self.sums;
        if volatile == 0 { 0 } else { (expiry_ms / volatile as i128) as i64 }
    }

    /// A snapshot begins to see it, under the number that it has now.
    pub(super) fn begin_walk(&mut self, number: usize) {
        self.walk = Some(Walk { number, at: 0 });
    }

    /// Whether a snapshot has yet to see some of it.
    pub(super) fn is_walked(&self) -> bool {
        self.walk.is_some()
    }

    /// Lets a snapshot see a bucket of it, and marks its keys; returns whether it was the last.
    pub(super) fn walk_step(&mut self, mark: Mark, see: &mut impl FnMut(usize, &Entry)) -> bool {
        let Some(Walk { number, at }) = &mut self.walk else { return true };
        *at = self.table.scan_unmarked(*at, mark, |entry| see(*number, entry));
        let is_over = *at >= POSITION_END;
        if is_over {
            self.walk = None;
        }
        is_over
    }

    /// Its table, of a database that is no more.
    pub(super) fn into_table(self) -> Table {
        self.table
    }

    /// The number that it had at the cut, if a snapshot has not seen the key at a place, which it has
    /// from now on.
    #[cold]
    fn see(&mut self, place: Place, mark: Mark) -> Option<usize> {
        let Walk { number, .. } = self.walk?;
        if self.table.mark(place) == mark {
            return None;
        }
        self.table.set_mark(place, mark);
        Some(number)
    }

    /// Takes a key out.
    #[inline]
    fn remove(&mut self, key: Key, place: Place) -> Entry {
        self.sums.before(&self.table.get(place));
        self.table.remove(key.hash(), place)
    }

    /// Notes when a key was used last, which is no change of it.
    #[inline]
    pub(super) fn set_access(&mut self, place: Place, access: u32) {
        self.table.get_mut(place).set_access(access);
    }

    /// Whether a key is there and has not expired.
    fn contains(&self, key: &[u8], now_ms: i64) -> bool {
        let key = Key::new(key);
        let place = self.table.find(key.hash(), key.bytes());
        place.is_some_and(|place| self.table.get(place).expiry().is_none_or(|at| at >= now_ms))
    }
}

/// A client watches a key.
const WATCHED: u32 = 1 << 0;
/// The journal is on.
const JOURNALED: u32 = 1 << 1;
/// Somebody listens for events.
const LISTENED: u32 = 1 << 2;
/// A snapshot is being read: it comes before the change, all others after.
const SNAPSHOT: u32 = 1 << 3;

/// What is counted of changes, and who hears of them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Who is interested.
    interest: u32,
    /// Changes that commands made, a flush of nothing among them.
    count: u64,
    /// Keys that they changed.
    dirty: u64,
    /// Keys whose time has come.
    expired: u64,
    watches: Watches,
    journal: Journal,
    heard: Heard,
}

impl Changes {
    /// A command has changed a key.
    #[inline]
    fn after(&mut self, db: usize, key: &[u8], event: Event, is_new: bool) {
        self.count += 1;
        self.dirty += 1;
        self.expired += u64::from(event == Event::Expired);
        if self.interest != 0 {
            self.tell(db, key, event, is_new);
        }
    }

    /// A key's time has come, and nobody asked for it.
    fn after_expiry(&mut self, db: usize, key: &[u8]) {
        self.expired += 1;
        if self.interest != 0 {
            self.journal.expired(db, key);
            self.tell(db, key, Event::Expired, false);
        }
    }

    #[cold]
    fn tell(&mut self, db: usize, key: &[u8], event: Event, is_new: bool) {
        if self.interest & WATCHED != 0 {
            self.watches.touch(db, key);
        }
        if self.interest & LISTENED != 0 {
            if is_new {
                self.heard.hear(Event::New, db, key);
            }
            self.heard.hear(event, db, key);
        }
    }

    /// Keys that commands have changed, and keys whose time has come.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.dirty, self.expired)
    }

    /// Starts the count of expirations anew.
    pub(super) fn reset_expired(&mut self) {
        self.expired = 0;
    }

    /// A snapshot begins or ends.
    pub(super) fn set_snapshot(&mut self, is_on: bool) {
        self.interest(SNAPSHOT, is_on);
    }

    /// Whether a snapshot is being read.
    #[inline]
    fn has_snapshot(&self) -> bool {
        self.interest & SNAPSHOT != 0
    }

    fn interest(&mut self, who: u32, is_interested: bool) {
        self.interest = if is_interested { self.interest | who } else { self.interest & !who };
    }
}

/// The code of an expiry, as of now; 0 for none.
#[inline]
fn code_of(expiry: Option<i64>, now_ms: i64) -> u8 {
    expiry.map_or(0, |at_ms| expiry::code(at_ms, now_ms))
}

impl Shard {
    /// Puts a key that is not there.
    #[inline]
    pub(super) fn insert(&mut self, db: usize, key: Key, entry: Entry, event: Event) -> Place {
        debug_assert_eq!(entry.key(), key.bytes());
        let code = code_of(entry.expiry(), self.now.unix_ms);
        let Database { table, sums, .. } = &mut self.databases[db];
        sums.after(&entry);
        let place = table.insert(key.hash(), entry, code, self.snapshot.mark);
        self.changes.after(db, key.bytes(), event, true);
        place
    }

    /// Visits all keys of a database, expired ones among them.
    #[cfg(test)]
    pub(crate) fn visit_all(&self, db: usize, mut visit: impl FnMut(&Entry)) {
        let mut at = 0;
        while at < POSITION_END {
            at = self.databases[db].table.scan(at, &mut visit);
        }
    }

    /// An input says that it brings so many keys along. Whoever calls this knows that it may.
    pub fn expect(&mut self, db: usize, keys: usize) {
        match self.beside.get_mut(db) {
            Some(beside) => beside.table.expect(keys),
            None => self.databases[db].table.expect(keys),
        }
    }

    /// Puts a key that an input brings along. That is no change of a command: it is not counted, and
    /// nobody hears of it. One that is there already is replaced, or stays; returns whether the new
    /// one is there.
    pub fn load(
        &mut self,
        db: usize,
        key: Key,
        value: New,
        expiry: Option<i64>,
        access: u32,
        replaces: bool,
    ) -> bool {
        self.note(db);
        let code = code_of(expiry, self.now.unix_ms);
        let database = match self.beside.get_mut(db) {
            Some(beside) => beside,
            None => &mut self.databases[db],
        };
        if let Some(place) = database.table.find(key.hash(), key.bytes()) {
            if !replaces {
                return false;
            }
            drop(database.remove(key, place));
        }
        let entry = Entry::new(key.bytes(), value, expiry, access);
        let Database { table, sums, .. } = database;
        sums.after(&entry);
        table.insert(key.hash(), entry, code, self.snapshot.mark);
        true
    }

    /// Changes a key where it is. Its name stays.
    #[inline]
    pub(super) fn change<R>(
        &mut self,
        db: usize,
        key: Key,
        place: Place,
        event: Event,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> R {
        if self.changes.has_snapshot() {
            self.keep_copy(db, place);
        }
        let Database { table, sums, .. } = &mut self.databases[db];
        let mut entry = table.get_mut(place);
        let before = entry.expiry();
        sums.before(&entry);
        let result = change(&mut entry);
        debug_assert_eq!(entry.key(), key.bytes());
        sums.after(&entry);
        let after = entry.expiry();
        drop(entry);
        if before != after {
            table.set_code(place, code_of(after, self.now.unix_ms));
        }
        self.changes.after(db, key.bytes(), event, false);
        result
    }

    /// A change that has just been made was another event besides.
    #[inline]
    pub(super) fn also(&mut self, db: usize, key: Key, event: Event) {
        if self.changes.interest & LISTENED != 0 {
            self.changes.heard.hear(event, db, key.bytes());
        }
    }

    /// Shows a snapshot a key that is about to be changed: a copy, since the value stays or moves on.
    #[cold]
    fn keep_copy(&mut self, db: usize, place: Place) {
        let database = &mut self.databases[db];
        if let Some(number) = database.see(place, self.snapshot.mark) {
            self.snapshot.keep(number, database.table.get(place).duplicate());
        }
    }

    /// Takes a key out, for a command that goes on with its value.
    pub(super) fn take(&mut self, db: usize, key: Key, place: Place, event: Event) -> Entry {
        if self.changes.has_snapshot() {
            self.keep_copy(db, place);
        }
        let entry = self.databases[db].remove(key, place);
        self.changes.after(db, key.bytes(), event, false);
        entry
    }

    /// Takes a key out for good, for a command.
    pub(super) fn remove(&mut self, db: usize, key: Key, place: Place, event: Event) {
        let unseen = self.unseen_by_snapshot(db, place);
        let entry = self.databases[db].remove(key, place);
        self.changes.after(db, key.bytes(), event, false);
        if let Some(number) = unseen {
            self.snapshot.keep(number, entry);
        }
    }

    /// Takes a key out whose time has come.
    pub(super) fn expire(&mut self, db: usize, key: Key, place: Place) {
        let unseen = self.unseen_by_snapshot(db, place);
        let entry = self.databases[db].remove(key, place);
        self.changes.after_expiry(db, key.bytes());
        if let Some(number) = unseen {
            self.snapshot.keep_expired(number, entry);
        }
    }

    /// The number that a database had at the cut, if there is a snapshot that has not seen a key of it.
    #[inline]
    fn unseen_by_snapshot(&mut self, db: usize, place: Place) -> Option<usize> {
        if !self.changes.has_snapshot() {
            return None;
        }
        self.databases[db].see(place, self.snapshot.mark)
    }

    /// Looks at one segment for keys whose time has come; returns whether it was the last. A key that
    /// `is_locked` stays until the next pass that comes by: see [`Shard::housekeep`].
    pub(super) fn expire_step(&mut self, db: usize, is_locked: &dyn Fn(u64) -> bool) -> bool {
        self.note(db);
        let now_ms = self.now.unix_ms;
        let Shard { databases, found, changes, snapshot, .. } = self;
        let Database { table, sums, walk, .. } = &mut databases[db];
        // No command is under way.
        changes.journal.begin(Scope::Loose);
        let due = |entry: &Entry| match entry.expiry() {
            None => Due::Keep(0),
            Some(at_ms) if at_ms >= now_ms => Due::Keep(expiry::code(at_ms, now_ms)),
            Some(at_ms) => {
                let key = Key::new(entry.key());
                if is_locked(locks::fingerprint(db, key)) {
                    return Due::Keep(expiry::code(at_ms, now_ms));
                }
                sums.before(entry);
                changes.after_expiry(db, key.bytes());
                Due::Gone(key.hash())
            }
        };
        table.pass_step(now_ms, found, due, |entry, mark| {
            if let (Some(walk), true) = (walk.as_ref(), snapshot.is_reading())
                && mark != snapshot.mark
            {
                snapshot.keep_expired(walk.number, entry);
            }
        })
    }

    /// Exchanges two databases (SWAPDB).
    pub(super) fn swap(&mut self, a: usize, b: usize) {
        // A key that has expired goes now: in its new place, it would look like one that expires
        // while it is watched.
        let watches = &self.changes.watches;
        let both = watches.of(a).chain(watches.of(b));
        for key in both.map(<[u8]>::to_vec).collect::<Vec<_>>() {
            for side in [a, b] {
                self.drop_expired(side, Key::new(&key));
            }
        }
        // A watched key changed if it exists on either side.
        let (now_ms, databases) = (self.now.unix_ms, &self.databases);
        for side in [a, b] {
            self.changes.watches.touch_where(side, |key| {
                [a, b].iter().any(|side| databases[*side].contains(key, now_ms))
            });
        }
        // Both, since each takes along whether it is noted.
        self.note(a);
        self.note(b);
        self.databases.swap(a, b);
        self.changes.count += 1;
        self.changes.dirty += 1;
    }

    /// Empties a database. Its keys are freed a slice at a time by [`Shard::housekeep`].
    ///
    /// It counts as a change where there is no key, too: other shards may have some, and whoever
    /// follows this server is told either way.
    pub(super) fn flush(&mut self, db: usize) {
        let keys = self.clear(db);
        self.changes.count += 1;
        self.changes.dirty += keys as u64;
    }

    /// What is loaded from now on is loaded beside what there is.
    pub(super) fn begin_beside(&mut self) {
        self.forget_beside();
        self.beside = (0..self.databases.len()).map(|_| Database::default()).collect();
    }

    /// What has been loaded beside what there was takes its place.
    pub(super) fn take_beside(&mut self) {
        for (db, beside) in std::mem::take(&mut self.beside).into_iter().enumerate() {
            self.clear(db);
            let is_noted = self.databases[db].is_noted;
            self.databases[db] = Database { is_noted, ..beside };
            // A watched key that is there now was not, or was another one.
            let now_ms = self.now.unix_ms;
            let Shard { databases, changes, .. } = self;
            if changes.interest & WATCHED != 0 {
                let database = &databases[db];
                changes.watches.touch_where(db, |key| database.contains(key, now_ms));
            }
        }
    }

    /// What has been loaded beside what there is is of no use.
    pub(super) fn forget_beside(&mut self) {
        let tables = std::mem::take(&mut self.beside).into_iter().map(Database::into_table);
        self.graveyard.extend(tables.filter(|table| !table.is_empty()));
    }

    /// Empties a database to make room for what is about to be loaded, which is no change of the data.
    /// Returns how many keys it had.
    pub(super) fn clear(&mut self, db: usize) -> usize {
        let now_ms = self.now.unix_ms;
        let Shard { databases, changes, .. } = self;
        if changes.interest & WATCHED != 0 {
            let database = &databases[db];
            changes.watches.touch_where(db, |key| database.contains(key, now_ms));
        }
        let database = std::mem::take(&mut self.databases[db]);
        self.note(db);
        let keys = database.table.len();
        let rest = match database.is_walked() {
            true => self.snapshot.take_flushed(database),
            false => Some(database),
        };
        let tables = rest.into_iter().map(Database::into_table);
        self.graveyard.extend(tables.filter(|table| !table.is_empty()));
        keys
    }

    /// Takes a key out if its time has come.
    fn drop_expired(&mut self, db: usize, key: Key) {
        if self.is_expired(db, key) {
            self.db(db).edit(key);
        }
    }

    /// How many changes commands have made: a command that has moved this has written.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.count
    }

    /// A client begins to watch a key; returns the key's version.
    pub fn watch(&mut self, db: usize, key: Key) -> u64 {
        // Its removal later would look like a change.
        self.drop_expired(db, key);
        self.changes.interest(WATCHED, true);
        self.changes.watches.add(db, key.bytes())
    }

    /// A client watches a key no longer.
    pub fn unwatch(&mut self, db: usize, key: &[u8]) {
        let watches = &mut self.changes.watches;
        watches.remove(db, key);
        let any = !watches.is_empty();
        self.changes.interest(WATCHED, any);
    }

    /// What clients watch.
    pub fn watches(&self) -> &Watches {
        &self.changes.watches
    }

    /// The journal.
    #[inline]
    pub fn journal(&mut self) -> &mut Journal {
        &mut self.changes.journal
    }

    /// Starts the journal if it is off, and leaves the mark of a snapshot's cut in it.
    pub(super) fn cut_stream(&mut self) {
        self.set_journal_on(true);
        self.journal().barrier();
    }

    /// Starts or stops the journal.
    pub fn set_journal_on(&mut self, on: bool) {
        self.changes.interest(JOURNALED, on);
        self.changes.journal.set_on(on);
    }

    /// Somebody has looked for a key that is not there.
    #[inline]
    pub(super) fn miss(&mut self, db: usize, key: &[u8]) {
        self.stats.misses += 1;
        if self.changes.interest & LISTENED != 0 {
            self.changes.heard.hear(Event::Miss, db, key);
        }
    }

    /// Which events are kept from here on, for [`Shard::take_events`].
    pub fn listen(&mut self, classes: Classes) {
        self.changes.interest(LISTENED, classes != Classes::NONE);
        self.changes.heard.want(classes);
    }

    /// Tells the events since this was called last, in their order: which, in which database, to
    /// which key. Who listens asks after every command.
    pub fn take_events(&mut self, tell: impl FnMut(Event, usize, &[u8])) {
        self.changes.heard.tell(tell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::base::hash::Random;
    use crate::shard::db::Ttl;

    const START_MS: i64 = 1_000_000;

    fn shard() -> Shard {
        let mut shard = Shard::new(0, 1, 2);
        shard.set_now(Now { unix_ms: START_MS, monotonic_ns: 1 });
        shard
    }

    /// Whatever changes a key takes off what was there and adds what is there now.
    #[test]
    fn sums_are_those_of_the_entries() {
        const CHANGES: u64 = if cfg!(miri) { 200 } else { 20_000 };
        let (mut shard, mut random) = (shard(), Random::new(5));
        for step in 0..CHANGES {
            let (name, number) = (format!("k{}", random.below(40)), random.below(2) as usize);
            let key = Key::new(name.as_bytes());
            let at_ms = shard.now().unix_ms + random.below(300) as i64;
            let ttl = [Ttl::Keep, Ttl::Clear, Ttl::At(at_ms)][random.below(3) as usize];
            let mut db = shard.db(number);
            match random.below(9) {
                0 | 1 => db.edit(key).put(New::string(b"12"), ttl, Event::Set),
                2 => _ = db.edit(key).take(Event::Del),
                3 => db.edit(key).set_expiry(Some(at_ms)),
                4 => db.edit(key).set_expiry(None),
                5 => _ = db.edit(key).write_at(3, b"text", Event::SetRange),
                6 => _ = db.edit(key).set_int(7, Event::IncrBy),
                7 => {
                    if let Some(entry) = db.edit(key).take(Event::MoveFrom) {
                        db.other(1 - number).edit(key).store(entry, Event::MoveTo);
                    }
                }
                _ if step % 50 == 0 => db.flush(),
                _ if step % 50 == 1 => _ = db.swap(0, 1),
                _ => {
                    let now = shard.now();
                    shard.set_now(Now { unix_ms: now.unix_ms + 9, ..now });
                    shard.housekeep(&mut false, &|_| false);
                }
            }
            for number in 0..2 {
                let (mut volatile, mut sum_ms) = (0, 0);
                let table = shard.databases[number].table();
                let mut at = 0;
                while at < crate::shard::table::POSITION_END {
                    at = table.scan(at, |entry| {
                        volatile += usize::from(entry.expiry().is_some());
                        sum_ms += i128::from(entry.expiry().unwrap_or(0));
                    });
                }
                let sums = shard.databases[number].sums;
                assert_eq!((sums.volatile, sums.expiry_ms), (volatile, sum_ms), "step {step}");
            }
        }
    }

    #[test]
    fn every_change_is_counted_and_reaches_who_watches() {
        let mut shard = shard();
        let key = Key::new(b"k");
        let first = shard.watch(0, key);
        type Change = (&'static str, fn(&mut Shard));
        let changes: [Change; 9] = [
            ("put", |s| s.db(0).edit(Key::new(b"k")).put(New::Int(1), Ttl::Clear, Event::Set)),
            ("put over", |s| s.db(0).edit(Key::new(b"k")).put(New::Int(2), Ttl::Keep, Event::Set)),
            ("number", |s| _ = s.db(0).edit(Key::new(b"k")).set_int(3, Event::IncrBy)),
            ("bytes", |s| _ = s.db(0).edit(Key::new(b"k")).write_at(0, b"x", Event::SetRange)),
            ("expiry", |s| s.db(0).edit(Key::new(b"k")).set_expiry(Some(START_MS + 1))),
            ("take", |s| _ = s.db(0).edit(Key::new(b"k")).take(Event::Del)),
            ("store", |s| {
                let entry = Entry::new(b"k", New::Int(1), None, 0);
                s.db(0).edit(Key::new(b"k")).store(entry, Event::RenameTo);
            }),
            ("swap", |s| _ = s.db(0).swap(0, 1)),
            ("flush", |s| {
                s.db(0).swap(0, 1);
                s.db(0).flush();
            }),
        ];
        let mut version = first;
        for (name, change) in changes {
            let before = shard.changes();
            change(&mut shard);
            assert!(shard.changes() > before, "{name} is counted");
            let after = shard.watches().version(0, b"k").expect("watched");
            assert!(after > version, "{name} is seen");
            version = after;
        }
        // Its time coming is no command's change, and is seen all the same.
        shard.db(0).edit(key).put(New::Int(1), Ttl::At(START_MS + 1), Event::Set);
        let (version, before) = (shard.watches().version(0, b"k"), shard.changes());
        shard.set_now(Now { unix_ms: START_MS + 2, monotonic_ns: 2 });
        assert!(shard.db(0).peek(key).is_none());
        assert!(shard.watches().version(0, b"k") > version);
        assert_eq!((shard.changes(), shard.stats().expired), (before, 1));

        shard.unwatch(0, b"k");
        assert_eq!(shard.changes.interest, 0);
    }

    #[test]
    fn who_listens_hears_the_classes_it_wants() {
        let mut shard = shard();
        let set = |shard: &mut Shard, name| {
            shard.db(1).edit(Key::new(name)).put(New::Int(1), Ttl::At(START_MS + 1), Event::Set);
        };
        let heard = |shard: &mut Shard| {
            let mut heard = Vec::new();
            shard.take_events(|event, db, key| heard.push((event.name(), db, key.to_vec())));
            heard
        };
        set(&mut shard, b"a");
        assert_eq!(heard(&mut shard), []);
        shard.listen(Classes::STRING | Classes::NEW | Classes::EXPIRED);
        set(&mut shard, b"a");
        set(&mut shard, b"b");
        shard.set_now(Now { unix_ms: START_MS + 2, monotonic_ns: 2 });
        assert!(shard.db(1).peek(Key::new(b"b")).is_none());
        let event = |name, key: &[u8]| (name, 1, key.to_vec());
        assert_eq!(
            heard(&mut shard),
            [event("set", b"a"), event("new", b"b"), event("set", b"b"), event("expired", b"b")]
        );
        assert_eq!(heard(&mut shard), []);
        shard.listen(Classes::NONE);
        assert_eq!(shard.changes.interest, 0);
    }
}

//! The door to one database: what handlers see of a shard.
//!
//! Reading goes through [`Db::read`] and [`Db::peek`]. Changing goes through [`Db::edit`] and the
//! [`KeyMut`] it returns, and nowhere else: there expired keys vanish, whoever is interested learns of
//! every change ([`super::change`]), and no handler has to remember any of it. What it has to say is
//! what the change is called ([`Event`]).

use super::caller::Caller;
use super::entry::{ACCESS_MASK, Entry};
use super::event::Event;
use super::table::{Lent, Place, Table};
use super::{Settings, Shard};
use crate::base::hash::Random;
use crate::base::key::Key;
use crate::base::limits;
use crate::rdb::Usage;
use crate::value::{Kind, New, string};

/// What becomes of a key's expiry when its value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// It stays as it is.
    Keep,
    /// The key has none.
    Clear,
    /// Milliseconds since the Unix epoch.
    At(i64),
}

/// One database of one shard, for the length of one command.
#[derive(Debug)]
pub struct Db<'a> {
    shard: &'a mut Shard,
    number: usize,
    /// Whether using a key leaves alone when it was last used.
    no_touch: bool,
    /// Whether a primary's stream is run. A key whose time has come is there until the primary says that
    /// it is not, and nothing is refused for its size.
    serves_primary: bool,
}

impl<'a> Db<'a> {
    pub(super) fn new(shard: &'a mut Shard, number: usize) -> Db<'a> {
        shard.note(number);
        Db { shard, number, no_touch: false, serves_primary: false }
    }

    /// Says for whom it is used.
    #[inline]
    pub fn serve(&mut self, caller: Caller) {
        self.no_touch = caller.no_touch;
        self.serves_primary = caller.is_primary;
    }

    /// Says that using a key is what the command is for, whatever its client has chosen (TOUCH).
    pub fn touch_keys(&mut self) {
        self.no_touch = false;
    }

    /// The time this command runs at, milliseconds since the Unix epoch.
    #[inline]
    pub fn now_ms(&self) -> i64 {
        self.shard.now.unix_ms
    }

    /// Whether a time that a key is given has come already, so that the key goes at once. To a primary's
    /// stream no time has: it says itself when keys go.
    #[inline]
    pub fn has_passed(&self, at_ms: i64) -> bool {
        !self.serves_primary && at_ms <= self.now_ms()
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.shard.settings
    }

    /// This database's number.
    pub fn number(&self) -> usize {
        self.number
    }

    /// How many databases there are.
    pub fn databases(&self) -> usize {
        self.shard.databases.len()
    }

    /// Empties this database.
    pub fn flush(&mut self) {
        self.shard.flush(self.number);
    }

    /// Empties all databases, as a client wants it: whoever saves the data hears of it
    /// ([`Shard::take_flushed_all`]).
    pub fn flush_all(&mut self) {
        for number in 0..self.databases() {
            self.shard.flush(number);
        }
        self.shard.flushed_all = true;
    }

    /// Empties all databases to make room for what is about to be loaded.
    pub fn clear_all(&mut self) {
        for db in 0..self.databases() {
            self.shard.clear(db);
        }
    }

    /// What is loaded from now on is loaded beside what there is.
    pub fn begin_beside(&mut self) {
        self.shard.begin_beside();
    }

    /// What has been loaded beside what there was takes its place, in all databases.
    pub fn take_beside(&mut self) {
        self.shard.take_beside();
    }

    /// What has been loaded beside what there is is of no use.
    pub fn forget_beside(&mut self) {
        self.shard.forget_beside();
    }

    /// Exchanges two databases; returns whether they are two.
    pub fn swap(&mut self, a: usize, b: usize) -> bool {
        if a != b {
            self.shard.swap(a, b);
        }
        a != b
    }

    /// Cuts, for a snapshot of the whole shard; returns whether it can.
    pub fn begin_snapshot(&mut self) -> bool {
        self.shard.begin_snapshot()
    }

    /// Starts the journal if it is off, and leaves the mark of a snapshot's cut in it.
    pub fn cut_stream(&mut self) {
        self.shard.cut_stream();
    }

    /// Says whether all shards lock in the order of the stream of another server from here on.
    pub fn follow_order(&mut self, is_following: bool) {
        self.shard.is_following = is_following;
    }

    /// Stops the journal.
    pub fn end_stream(&mut self) {
        self.shard.set_journal_on(false);
    }

    /// Whether a key is one of those that are kept here, should it be there: a command that runs
    /// everywhere may make keys up.
    pub fn owns(&self, key: &[u8]) -> bool {
        self.shard.layout.owner(key) == self.shard.number
    }

    /// Keys with an expiry here.
    pub fn volatile(&self) -> usize {
        self.shard.databases[self.number].volatile()
    }

    /// Places of this database's table, and the bytes it takes without the keys' blocks.
    pub fn table_size(&self) -> (usize, usize) {
        (self.table().places(), self.table().memory())
    }

    /// The same shard's door to another database.
    pub fn other(&mut self, number: usize) -> Db<'_> {
        let (no_touch, serves_primary) = (self.no_touch, self.serves_primary);
        let mut other = Db::new(self.shard, number);
        (other.no_touch, other.serves_primary) = (no_touch, serves_primary);
        other
    }

    /// Keys here.
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether there are no keys here.
    pub fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    #[inline]
    /// Longest string that the command may make. What a primary has made is not refused for its size.
    pub fn bulk_max(&self) -> usize {
        match self.serves_primary {
            true => limits::BULK_CEILING as usize,
            false => self.shard.settings.bulk_max,
        }
    }

    fn table(&self) -> &Table {
        self.shard.databases[self.number].table()
    }

    /// Finds a key that has not expired; one that has goes now, unless that is paused.
    #[inline]
    fn find(&mut self, key: Key) -> Option<Place> {
        let place = self.table().find(key.hash(), key.bytes())?;
        let expired = self.table().get(place).expiry().is_some_and(|at| at < self.now_ms());
        if !expired || self.serves_primary {
            return Some(place);
        }
        self.expire(key, place);
        None
    }

    #[cold]
    fn expire(&mut self, key: Key, place: Place) {
        if !self.shard.settings.expiry_paused {
            self.shard.expire(self.number, key, place);
        }
    }

    /// Makes room for a key that is written while an expired one of its name is still there.
    #[cold]
    fn clear_place(&mut self, key: Key) {
        if let Some(place) = self.table().find(key.hash(), key.bytes()) {
            self.shard.expire(self.number, key, place);
        }
    }

    /// Looks a key up for a client: counts as a hit or a miss, and as a use of the key.
    #[inline]
    pub fn read(&mut self, key: Key) -> Option<Lent<'_>> {
        let Some(place) = self.find(key) else {
            self.shard.miss(self.number, key.bytes());
            return None;
        };
        self.shard.stats.hits += 1;
        self.touch(place);
        Some(self.table().get(place))
    }

    /// What DUMP says of a key, which is a use of it.
    pub fn dump(&mut self, key: Key) -> Option<Vec<u8>> {
        self.read(key)?;
        let place = self.find(key)?;
        let Shard { databases, dumps, .. } = &mut *self.shard;
        Some(dumps.dump(&databases[self.number].table().get(place).string()))
    }

    /// Looks a key up without that being a use of it (TTL, TYPE, EXISTS).
    pub fn peek(&mut self, key: Key) -> Option<Lent<'_>> {
        let Some(place) = self.find(key) else {
            self.shard.miss(self.number, key.bytes());
            return None;
        };
        self.shard.stats.hits += 1;
        Some(self.table().get(place))
    }

    /// What lies under a key, whether its time has come or not (DEBUG OBJECT).
    pub fn uncover(&self, key: Key) -> Option<Lent<'_>> {
        let place = self.table().find(key.hash(), key.bytes())?;
        Some(self.table().get(place))
    }

    /// Looks a key up from outside (OBJECT, MEMORY, DEBUG): no use of it, and where there is none, no
    /// event.
    pub fn inspect(&mut self, key: Key) -> Option<Lent<'_>> {
        let Some(place) = self.find(key) else {
            self.shard.stats.misses += 1;
            return None;
        };
        self.shard.stats.hits += 1;
        Some(self.table().get(place))
    }

    /// Notes a use of the key, for eviction.
    #[inline]
    fn touch(&mut self, place: Place) {
        if self.no_touch {
            return;
        }
        let (now_ms, lfu) = (self.now_ms(), self.shard.settings.lfu);
        let Shard { databases, random, .. } = &mut *self.shard;
        let database = &mut databases[self.number];
        let before = database.table().get(place).access();
        let after = match lfu {
            None => access_now(now_ms),
            Some(params) => lfu_use(before, now_ms, params, random),
        };
        // Most uses fall into the same second: then the line stays clean.
        if after != before {
            database.set_access(place, after);
        }
    }

    /// Opens a key for change.
    #[inline]
    pub fn edit<'b>(&'b mut self, key: Key<'b>) -> KeyMut<'b, 'a> {
        let place = self.find(key);
        if place.is_none() && self.shard.settings.expiry_paused {
            self.clear_place(key);
        }
        KeyMut { db: self, key, place }
    }

    /// Removes a key; returns whether it was there.
    pub fn remove(&mut self, key: Key, event: Event) -> bool {
        self.edit(key).remove(event)
    }

    /// A number that the shard's generator draws, for a choice that is made elsewhere.
    pub fn draw(&mut self) -> u64 {
        self.shard.random.next_u64()
    }

    /// A key chosen at random among those that have not expired.
    pub fn random_key(&mut self) -> Option<Vec<u8>> {
        // Where nearly every key has expired and none is removed yet, luck may take long: then any
        // key that is left does, as in Redis.
        for attempt in 0..100 {
            let Shard { databases, random, now, .. } = &mut *self.shard;
            let table = databases[self.number].table();
            let entry = table.get(table.random(random)?);
            let key = entry.key().to_vec();
            if attempt == 99 || entry.expiry().is_none_or(|at| at >= now.unix_ms) {
                return Some(key);
            }
            if !self.shard.settings.expiry_paused {
                self.edit(Key::new(&key));
            }
        }
        None
    }

    /// Visits keys from a cursor on, at least `count` places' worth unless the end comes first, and
    /// returns the cursor to go on with: 0 at the end of the last shard. Expired keys are passed
    /// over, not visited.
    pub fn scan(&mut self, cursor: u64, count: usize, mut visit: impl FnMut(&Entry)) -> u64 {
        use super::table::POSITION_END;
        let now_ms = self.now_ms();
        let mut at = cursor & (POSITION_END - 1);
        let (mut seen, mut steps) = (0, 0);
        // As in Redis, empty stretches are walked for a while, not for ever.
        while at < POSITION_END && seen < count && steps < count.saturating_mul(10) {
            at = self.table().scan(at, |entry| {
                seen += 1;
                if entry.expiry().is_none_or(|expiry| expiry >= now_ms) {
                    visit(entry);
                }
            });
            steps += 1;
        }
        let (number, shards) = (self.shard.number as u64, self.shard.shards() as u64);
        if at < POSITION_END {
            number << 48 | at
        } else if number + 1 < shards {
            (number + 1) << 48
        } else {
            0
        }
    }

    /// Visits every key that has not expired, at one go.
    pub fn visit_all(&mut self, mut visit: impl FnMut(&Entry)) {
        let number = self.shard.number as u64;
        let mut cursor = number << 48;
        loop {
            cursor = self.scan(cursor, 1024, &mut visit);
            if cursor == 0 || cursor >> 48 != number {
                return;
            }
        }
    }

    /// Says what the command's effect is, where that is not the command as it came. The words are a
    /// command.
    #[inline]
    pub fn effect(&mut self, words: &[&[u8]]) {
        self.shard.journal().effect(self.number, words);
    }

    /// Says that what the command did is to take a key out, since the time it was to be given has
    /// passed.
    pub fn effect_of_expiry(&mut self, key: Key) {
        self.shard.journal().effect_of_expiry(self.number, key.bytes());
    }
}

/// One key of a [`Db`], there or not, open for change.
#[derive(Debug)]
pub struct KeyMut<'b, 'a> {
    db: &'b mut Db<'a>,
    key: Key<'b>,
    place: Option<Place>,
}

impl KeyMut<'_, '_> {
    /// Whether the key is there.
    pub fn exists(&self) -> bool {
        self.place.is_some()
    }

    /// What is there.
    #[inline]
    pub fn entry(&self) -> Option<Lent<'_>> {
        self.place.map(|place| self.db.table().get(place))
    }

    /// Tells that a command has looked for a key that is not there, as reading it would have.
    pub fn miss(&mut self) {
        self.db.shard.miss(self.db.number, self.key.bytes());
    }

    /// Sets the value, creating the key if need be. A string that is set with a time is two events.
    #[inline]
    pub fn put(&mut self, value: New, ttl: Ttl, event: Event) {
        let (db, access) = (self.db.number, self.db.fresh_access());
        match self.place {
            Some(place) => {
                let keep_access = self.db.no_touch;
                self.db.shard.change(db, self.key, place, event, |entry| {
                    let expiry = match ttl {
                        Ttl::Keep => entry.expiry(),
                        Ttl::Clear => None,
                        Ttl::At(at_ms) => Some(at_ms),
                    };
                    entry.replace(value, expiry);
                    if entry.access() != access && !keep_access {
                        entry.set_access(access);
                    }
                });
            }
            None => {
                let expiry = if let Ttl::At(at_ms) = ttl { Some(at_ms) } else { None };
                let entry = Entry::new(self.key.bytes(), value, expiry, access);
                self.place = Some(self.db.shard.insert(db, self.key, entry, event));
            }
        }
        self.note_own(matches!(ttl, Ttl::At(_)));
        if event == Event::Set && matches!(ttl, Ttl::At(_)) {
            self.db.shard.also(db, self.key, Event::Expire);
        }
    }

    /// Says how the key that is there was used elsewhere, if that is what eviction goes by here.
    pub fn set_usage(&mut self, usage: Usage) {
        let (now_ms, lfu) = (self.db.now_ms(), self.db.shard.settings.lfu);
        if let Some(place) = self.place
            && let Some(access) = access_of(usage, now_ms, lfu.is_some())
        {
            self.db.shard.databases[self.db.number].set_access(place, access);
        }
    }

    /// Puts a whole entry in place of what is there; its key must be this one.
    pub fn store(&mut self, entry: Entry, event: Event) {
        let (db, is_volatile) = (self.db.number, entry.expiry().is_some());
        match self.place {
            Some(place) => {
                self.db.shard.change(db, self.key, place, event, |old| *old = entry);
            }
            None => self.place = Some(self.db.shard.insert(db, self.key, entry, event)),
        }
        self.note_own(is_volatile);
    }

    /// On a replica: whose key it is now.
    #[inline]
    fn note_own(&mut self, is_volatile: bool) {
        let Db { shard, number, serves_primary, .. } = &mut *self.db;
        if shard.settings.expires_own {
            match *serves_primary {
                true => shard.own.forget(*number, self.key.bytes()),
                false if is_volatile => shard.own.note(*number, self.key.bytes()),
                false => {}
            }
        }
    }

    /// Takes the key out for good; returns whether it was there.
    pub fn remove(&mut self, event: Event) -> bool {
        let Some(place) = self.place.take() else { return false };
        self.db.shard.remove(self.db.number, self.key, place, event);
        true
    }

    /// Takes the key out, for who goes on with its value.
    pub fn take(&mut self, event: Event) -> Option<Entry> {
        let place = self.place.take()?;
        Some(self.db.shard.take(self.db.number, self.key, place, event))
    }

    /// Sets or clears the expiry of a key that is there.
    pub fn set_expiry(&mut self, expiry: Option<i64>) {
        let Some(place) = self.place else { return };
        let event = if expiry.is_some() { Event::Expire } else { Event::Persist };
        let db = self.db.number;
        self.db.shard.change(db, self.key, place, event, |entry| entry.set_expiry(expiry));
        self.note_own(expiry.is_some());
    }

    /// Puts `n` where a number is already, without touching anything else. Returns whether one was.
    #[inline]
    pub fn set_int(&mut self, n: i64, event: Event) -> bool {
        let Some(place) =
            self.place.filter(|place| self.db.table().get(*place).kind() == Kind::Int)
        else {
            return false;
        };
        let db = self.db.number;
        self.db.shard.change(db, self.key, place, event, |entry| entry.set_int(n))
    }

    /// Writes `bytes` at `offset` of the string that is there (or of an empty one), growing it with
    /// zero bytes as needed; returns the new length. The expiry stays.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8], event: Event) -> usize {
        let Some(place) = self.place else {
            let mut whole = Vec::new();
            let len = string::overwrite(&mut whole, offset, bytes);
            self.put(New::edited(&mut whole), Ttl::Clear, event);
            return len;
        };
        let (db, access) = (self.db.number, self.db.fresh_access());
        let keep_access = self.db.no_touch;
        self.db.shard.change(db, self.key, place, event, |entry| {
            if !keep_access {
                entry.set_access(access);
            }
            entry.write_at(offset, bytes)
        })
    }
}

impl Db<'_> {
    /// What the access field of a key that is written now says.
    #[inline]
    fn fresh_access(&self) -> u32 {
        match self.shard.settings.lfu {
            None => access_now(self.now_ms()),
            Some(_) => lfu_minutes(self.now_ms()) << 8 | LFU_START,
        }
    }
}

impl Shard {
    /// What the access field says of a key that comes from elsewhere, where it was used so. What is
    /// said for the other kind of eviction says nothing here: it counts as used now.
    pub fn access_of(&self, usage: Usage) -> u32 {
        let now_ms = self.now.unix_ms;
        match (self.settings.lfu, usage) {
            (Some(_), Usage::Freq(count)) => lfu_minutes(now_ms) << 8 | u32::from(count),
            (Some(_), _) => lfu_minutes(now_ms) << 8 | LFU_START,
            (None, Usage::Idle(seconds)) => {
                // Longer ago than can be said is as long ago as can be said.
                let seconds = u32::try_from(seconds).unwrap_or(ACCESS_MASK).min(ACCESS_MASK);
                access_now(now_ms).wrapping_sub(seconds) & ACCESS_MASK
            }
            (None, _) => access_now(now_ms),
        }
    }
}

/// LRU: seconds, modulo 2^22 (48 days).
#[inline]
fn access_now(now_ms: i64) -> u32 {
    (now_ms / 1000) as u32 & ACCESS_MASK
}

/// Seconds since a key was last used, given its access field.
pub fn idle_seconds(access: u32, now_ms: i64) -> u32 {
    access_now(now_ms).wrapping_sub(access) & ACCESS_MASK
}

/// The access field of a key that was used like this elsewhere, unless eviction here goes by something
/// else.
pub fn access_of(usage: Usage, now_ms: i64, lfu: bool) -> Option<u32> {
    match usage {
        // What is longer ago than can be kept is as long ago as can be.
        Usage::Idle(seconds) if !lfu => {
            let seconds = seconds.min(u64::from(ACCESS_MASK)) as u32;
            Some(access_now(now_ms).wrapping_sub(seconds) & ACCESS_MASK)
        }
        Usage::Freq(count) if lfu => Some(lfu_minutes(now_ms) << 8 | u32::from(count)),
        _ => None,
    }
}

/// A new key's LFU counter: not 0, or it would be evicted before it had a chance (Redis: 5).
const LFU_START: u32 = 5;

/// LFU keeps minutes, modulo 2^14 (11 days), above an 8-bit logarithmic counter.
fn lfu_minutes(now_ms: i64) -> u32 {
    (now_ms / 60_000) as u32 & 0x3fff
}

/// The LFU counter as it stands now, given the minutes per decrement.
pub fn lfu_count(access: u32, now_ms: i64, decay_minutes: u32) -> u32 {
    let idle = lfu_minutes(now_ms).wrapping_sub(access >> 8) & 0x3fff;
    let decay = idle.checked_div(decay_minutes).unwrap_or(0);
    (access & 0xff).saturating_sub(decay)
}

fn lfu_use(access: u32, now_ms: i64, (factor, decay): (u32, u32), random: &mut Random) -> u32 {
    let count = lfu_count(access, now_ms, decay);
    let odds = u64::from(count.saturating_sub(LFU_START)) * u64::from(factor) + 1;
    let grown = if count < 255 && random.below(odds) == 0 { count + 1 } else { count };
    lfu_minutes(now_ms) << 8 | grown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;

    fn shard() -> Shard {
        let mut shard = Shard::new(0, 1, 2);
        shard.set_now(Now { unix_ms: 1_000_000, monotonic_ns: 1 });
        shard
    }

    fn text(db: &mut Db, key: &[u8]) -> Option<Vec<u8>> {
        Some(db.read(Key::new(key))?.string().bytes(&mut itoa::Buffer::new()).to_vec())
    }

    #[test]
    fn put_expire_and_vanish() {
        let mut shard = shard();
        let mut db = shard.db(0);
        db.edit(Key::new(b"k")).put(New::string(b"v"), Ttl::At(1_000_500), Event::Set);
        assert_eq!(text(&mut db, b"k"), Some(b"v".to_vec()));
        db.edit(Key::new(b"k")).put(New::string(b"12"), Ttl::Keep, Event::Set);
        assert_eq!(db.peek(Key::new(b"k")).and_then(|e| e.expiry()), Some(1_000_500));
        assert_eq!(shard.keys(0), (1, 1));
        shard.set_now(Now { unix_ms: 1_000_501, monotonic_ns: 2 });
        assert_eq!(text(&mut shard.db(0), b"k"), None);
        assert_eq!(shard.keys(0), (0, 0));
        assert_eq!(shard.stats().expired, 1);
    }

    #[test]
    fn strings_grow_from_number_to_block_to_their_own_allocation() {
        let mut shard = shard();
        let mut db = shard.db(0);
        let mut opened = db.edit(Key::new(b"k"));
        opened.put(New::string(b"12"), Ttl::Clear, Event::Set);
        assert_eq!(opened.write_at(2, b"ab", Event::SetRange), 4);
        assert_eq!(opened.write_at(6, b"!", Event::SetRange), 7);
        assert_eq!(opened.write_at(7, &[b'x'; 20_000], Event::SetRange), 20_007);
        assert_eq!(opened.write_at(0, b"9", Event::SetRange), 20_007);
        let whole = text(&mut db, b"k").unwrap();
        assert_eq!((&whole[..8], whole.len()), (&b"92ab\0\0!x"[..], 20_007));
    }

    #[test]
    fn a_pass_removes_what_expired_and_nothing_else() {
        let mut shard = shard();
        for i in 0..5000u32 {
            let key = i.to_be_bytes();
            let ttl = if i % 5 == 0 { Ttl::Clear } else { Ttl::At(1_000_000 + i64::from(i)) };
            shard.db(1).edit(Key::new(&key)).put(New::string(b"v"), ttl, Event::Set);
        }
        assert_eq!(shard.keys(1), (5000, 4000));
        shard.set_now(Now { unix_ms: 1_003_000, monotonic_ns: 2 });
        for _ in 0..3 {
            let mut done = false;
            while !done {
                shard.housekeep(&mut done, &|_| false);
            }
        }
        let (keys, volatile) = shard.keys(1);
        // Within two ticks of 128 ms.
        assert!((2600..2600 + 210).contains(&keys), "{keys}");
        assert_eq!(keys - 1000, volatile);
        shard.flush(1);
        assert_eq!(shard.keys(1), (0, 0));
        let mut done = false;
        while shard.housekeep(&mut done, &|_| false) {}
        assert_eq!(shard.pending_frees(), 0);
    }

    #[test]
    fn lfu_counts_and_decays() {
        let mut random = Random::new(1);
        let mut access = lfu_minutes(0) << 8 | LFU_START;
        for _ in 0..1000 {
            access = lfu_use(access, 0, (10, 1), &mut random);
        }
        let count = access & 0xff;
        assert!((8..40).contains(&count), "{count}");
        assert_eq!(lfu_count(access, 3 * 60_000, 1), count - 3);
        assert_eq!(idle_seconds(access_now(5_000), 65_000), 60);
    }
}

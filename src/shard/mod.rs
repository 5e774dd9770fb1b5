//! Floor 2: one core's share of the data. Everything here is synchronous and belongs to one thread:
//! atomicity within a shard is `&mut Shard`.

pub mod caller;
mod change;
pub mod db;
pub mod entry;
pub mod event;
pub mod expiry;
pub mod journal;
pub mod locks;
mod own;
pub mod snapshot;
pub mod table;
pub mod watch;

use crate::base::clock::Now;
use crate::base::hash::Random;
use crate::base::key::Key;
use crate::base::limits;
use crate::base::slot::Layout;
use crate::rdb;
use change::{Changes, Database};
use db::Db;
use snapshot::Snapshot;
use std::sync::Arc;
use table::Table;

/// What a shard counts as it works; published for INFO once per turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Lookups by reading commands that found their key.
    pub hits: u64,
    /// Those that did not.
    pub misses: u64,
    /// Keys removed because their time had come.
    pub expired: u64,
    /// Changes to the data.
    pub dirty: u64,
    /// Keys of flushed tables that have been freed.
    pub freed: u64,
}

/// Settings that the data follows; copied from the configuration when it changes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Longest string (`proto-max-bulk-len`).
    pub bulk_max: usize,
    /// `Some` when the eviction policy is an LFU one: counter's log factor and minutes per decay.
    pub lfu: Option<(u32, u32)>,
    /// Whether strings are compressed where they leave the server (`rdbcompression`).
    pub compress: bool,
    /// Whether an expired key is journaled as UNLINK instead of DEL (`lazyfree-lazy-expire`).
    pub lazy_expiry: bool,
    /// Whether active expiry runs (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expire: bool,
    /// Whether expired keys stay where they are, unseen, because clients are paused.
    pub expiry_paused: bool,
    /// Whether those go all the same that this replica's own clients have written.
    pub expires_own: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            bulk_max: limits::BULK_MAX as usize,
            lfu: None,
            compress: true,
            lazy_expiry: true,
            active_expire: true,
            expiry_paused: false,
            expires_own: false,
        }
    }
}

/// One shard's share of all databases.
#[derive(Debug)]
pub struct Shard {
    number: usize,
    layout: Arc<Layout>,
    databases: Vec<Database>,
    /// Databases that are being loaded beside those, to take their place; empty if there are none.
    beside: Vec<Database>,
    /// Databases whose number of keys may have changed since somebody asked.
    noted: Vec<usize>,
    now: Now,
    settings: Settings,
    stats: Stats,
    changes: Changes,
    snapshot: Snapshot,
    /// Whether all shards lock in the order of the stream of another server.
    is_following: bool,
    /// Whether all of the data has been thrown away and nobody has asked since.
    flushed_all: bool,
    random: Random,
    /// Tables that were flushed and are freed a slice at a time.
    graveyard: Vec<Table>,
    /// The database an expiry pass is in.
    pass_at: usize,
    /// Scratch of expiry passes.
    found: Vec<usize>,
    /// What a replica expires itself.
    own: own::OwnKeys,
    /// What DUMP writes with.
    dumps: rdb::Writer,
}

impl Shard {
    /// Shard `number` of `shards` that share all slots evenly, with empty databases.
    pub fn new(number: usize, shards: usize, databases: usize) -> Shard {
        Shard::of_layout(number, Arc::new(Layout::even(shards)), databases)
    }

    /// Shard `number` of a layout, with empty databases.
    pub fn of_layout(number: usize, layout: Arc<Layout>, databases: usize) -> Shard {
        Shard {
            number,
            layout,
            databases: (0..databases).map(|_| Database::default()).collect(),
            beside: Vec::new(),
            noted: Vec::new(),
            now: Now::default(),
            settings: Settings::default(),
            stats: Stats::default(),
            changes: Changes::default(),
            snapshot: Snapshot::default(),
            is_following: false,
            flushed_all: false,
            random: Random::new(
                0x9E37_79B9 ^ (number as u64) << 32 ^ crate::base::hash::of(b"seed"),
            ),
            graveyard: Vec::new(),
            pass_at: 0,
            found: Vec::new(),
            own: own::OwnKeys::default(),
            dumps: rdb::Writer::new(Settings::default().compress),
        }
    }

    /// Sets the time this turn works with.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
        self.journal().set_stamp(now.monotonic_ns);
    }

    /// The time this turn works with.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Follows a change of configuration.
    pub fn set_settings(&mut self, settings: Settings) {
        if settings.compress != self.settings.compress {
            self.dumps = rdb::Writer::new(settings.compress);
        }
        if !settings.expires_own {
            self.own.clear();
        }
        self.journal().set_lazy_expiry(settings.lazy_expiry);
        self.settings = settings;
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The door to one database.
    #[inline]
    pub fn db(&mut self, number: usize) -> Db<'_> {
        Db::new(self, number)
    }

    /// How many databases there are.
    pub fn databases(&self) -> usize {
        self.databases.len()
    }

    /// Keys and keys with an expiry in a database.
    pub fn keys(&self, db: usize) -> (usize, usize) {
        (self.databases[db].table().len(), self.databases[db].volatile())
    }

    /// Tells the databases whose number of keys may have changed since this was called last, with
    /// their keys and keys with an expiry. There may be thousands of databases, and this is asked
    /// in every turn.
    pub fn take_changed(&mut self, mut tell: impl FnMut(usize, usize, usize)) {
        let mut noted = std::mem::take(&mut self.noted);
        for db in noted.drain(..) {
            self.databases[db].is_noted = false;
            let (keys, volatile) = self.keys(db);
            tell(db, keys, volatile);
        }
        self.noted = noted;
    }

    /// A database may change. One that is not there does not: whoever was asked for it says so.
    #[inline]
    fn note(&mut self, db: usize) {
        if let Some(database) = self.databases.get_mut(db)
            && !std::mem::replace(&mut database.is_noted, true)
        {
            self.noted.push(db);
        }
    }

    /// When the keys of a database that expire do so on average, in milliseconds since the Unix
    /// epoch; 0 if there are none.
    pub fn mean_expiry_ms(&self, db: usize) -> i64 {
        self.databases[db].mean_expiry_ms()
    }

    /// Whether all shards lock in the order of the stream of another server, which is followed.
    #[inline]
    pub fn is_following(&self) -> bool {
        self.is_following
    }

    /// This shard's number.
    pub fn number(&self) -> usize {
        self.number
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.layout.shards()
    }

    /// Bytes the tables take without the keys' blocks.
    pub fn table_memory(&self) -> usize {
        self.databases.iter().map(|db| db.table().memory()).sum()
    }

    /// What has been counted.
    pub fn stats(&self) -> Stats {
        let (dirty, expired) = self.changes.counts();
        Stats { dirty, expired, ..self.stats }
    }

    /// Whether a client has had all of the data thrown away since this was last asked.
    #[inline]
    pub fn take_flushed_all(&mut self) -> bool {
        std::mem::take(&mut self.flushed_all)
    }

    /// Starts hits, misses and expirations anew (CONFIG RESETSTAT).
    pub fn reset_stats(&mut self) {
        self.stats = Stats::default();
        self.changes.reset_expired();
    }

    /// Fetches what a search for a hash looks at first.
    #[inline]
    pub fn prefetch(&self, db: usize, hash: u64) {
        self.databases[db].table().prefetch(hash);
    }

    /// The second half of [`Shard::prefetch`], once the first has had time to work.
    #[inline]
    pub fn prefetch_block(&self, db: usize, hash: u64) {
        self.databases[db].table().prefetch_block(hash);
    }

    /// Whether a key is there and its time has passed.
    pub fn is_expired(&self, db: usize, key: Key) -> bool {
        let table = self.databases[db].table();
        let place = table.find(key.hash(), key.bytes());
        place.is_some_and(|place| table.get(place).expiry().is_some_and(|at| at < self.now.unix_ms))
    }

    /// One bounded step of work that nobody waits for: freeing flushed tables, removing expired
    /// keys. Returns whether there is more to do right now; `pass_done` is set at the end of a pass
    /// over all expiry codes.
    ///
    /// A key whose lock somebody holds (`is_locked` says so of its [`locks::fingerprint`]) does not
    /// expire here: what is done under a lock over several shards is journaled as one group that stands
    /// where it was announced, and a key that goes meanwhile would seem to go after what was done to it.
    pub fn housekeep(&mut self, pass_done: &mut bool, is_locked: &dyn Fn(u64) -> bool) -> bool {
        if let Some(table) = self.graveyard.last_mut() {
            let before = table.len();
            if table.drain(limits::HOUSEKEEPING_STEP) == 0 {
                self.graveyard.pop();
                self.stats.freed += before as u64;
            } else {
                self.stats.freed += (before - table.len()) as u64;
            }
            return true;
        }
        if !self.settings.active_expire || self.settings.expiry_paused {
            if self.settings.expires_own {
                self.expire_own();
            }
            *pass_done = true;
            return false;
        }
        let number = self.pass_at;
        let at_end = self.databases[number].volatile() == 0 || self.expire_step(number, is_locked);
        if at_end {
            self.pass_at = (number + 1) % self.databases.len();
            *pass_done = self.pass_at == 0;
        }
        !*pass_done
    }

    /// Keys of flushed tables that have not been freed yet (INFO's `lazyfree_pending_objects`).
    pub fn pending_frees(&self) -> usize {
        self.graveyard.iter().map(Table::len).sum()
    }
}

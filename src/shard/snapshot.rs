//! A snapshot of this shard's data as it was at one moment, the *cut*, read while clients go on.
//!
//! Nothing is copied at the cut. From then on a walk over all keys, a few per step, sees each of them
//! and [marks](super::table::Mark) it. A key that is about to change before the walk has come to it is
//! seen at that moment: its old entry is kept ([`Shard::snapshot_step`] gives it out before all else),
//! and it is marked. A key that is put is born marked. So each key that was there at the cut is given
//! out once, as it was then:
//!
//! - a change in its place keeps a copy of the entry; a long string is shared, and the copy that the
//!   writer makes is of the string;
//! - a removal hands the entry over; where its value moves on (RENAME, MOVE) a copy is kept;
//! - a flush hands the whole table over; SWAPDB moves numbers, and each table knows the one it had at
//!   the cut.
//!
//! **Memory**: what is kept is one old entry per key that changes before the walk comes to it. It is
//! given out first, so it grows only while writers change unseen keys faster than the snapshot is
//! read. That is bounded by the data there was at the cut, and [`Progress`] says how much it is.
//!
//! **A snapshot that is given up** leaves some keys marked and others not, so the walk goes on without
//! giving anything out until all are ([`Shard::sweep`]); the next can only begin then. That looks at
//! the table's buckets alone: 2 ns a key.

use super::Shard;
use super::change::Database;
use super::entry::Entry;
use super::table::Mark;
use std::collections::VecDeque;

/// Kept entries that one step gives out.
const KEPT_PER_STEP: usize = 16;

/// What the shard had at the cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The databases that have keys.
    pub databases: Vec<CutDatabase>,
    /// Changes to the data up to the cut ([`super::Stats::dirty`]).
    pub changes: u64,
}

/// One database at the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutDatabase {
    /// Its number.
    pub number: usize,
    /// Its keys.
    pub keys: u64,
    /// Those with an expiry.
    pub volatile: u64,
}

/// How far a snapshot has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Keys that have been given out.
    pub keys: u64,
    /// Bytes of old entries that are kept now, long strings counted whole though they may be shared.
    pub kept_bytes: u64,
    /// The most that these have been.
    pub kept_bytes_max: u64,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    phase: Phase,
    /// The mark of the walk under way, or of the last one.
    pub(super) mark: Mark,
    /// Entries as they were at the cut, each with its database's number then.
    kept: VecDeque<(usize, Entry)>,
    /// Databases that were flushed before the walk came to them.
    flushed: Vec<Database>,
    /// The database that the walk is in, by its place now.
    at: usize,
    /// Databases that have keys to be seen, without the flushed ones.
    left: usize,
    progress: Progress,
    /// What there was at the cut, until somebody asks.
    cut: Option<Cut>,
    /// When the cut was, in milliseconds since the Unix epoch.
    cut_ms: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// There is none.
    #[default]
    Off,
    /// It is being read.
    Reading,
    /// It has been given up, and there are marks to be made.
    Sweeping,
}

impl Snapshot {
    /// Whether changes have to be shown to it first.
    pub(super) fn is_reading(&self) -> bool {
        self.phase == Phase::Reading
    }

    /// Keeps an entry that it has not seen.
    pub(super) fn keep(&mut self, number: usize, entry: Entry) {
        let progress = &mut self.progress;
        progress.kept_bytes += entry.footprint() as u64;
        progress.kept_bytes_max = progress.kept_bytes_max.max(progress.kept_bytes);
        self.kept.push_back((number, entry));
    }

    /// The same of one that goes because its time has come. If it had at the cut, nobody would have
    /// seen it then.
    pub(super) fn keep_expired(&mut self, number: usize, entry: Entry) {
        if entry.expiry().is_none_or(|at_ms| at_ms >= self.cut_ms) {
            self.keep(number, entry);
        }
    }

    /// A database has been flushed that it had not seen all of. Returns it if that does not matter.
    pub(super) fn take_flushed(&mut self, database: Database) -> Option<Database> {
        self.left -= 1;
        if self.phase == Phase::Reading {
            self.flushed.push(database);
            return None;
        }
        Some(database)
    }
}

impl Shard {
    /// Cuts: what is read from now on is the data as it is now ([`Shard::take_cut`] says what that
    /// is). Returns whether it can: not while a snapshot is under way, or marks are left of one that
    /// was given up.
    pub fn begin_snapshot(&mut self) -> bool {
        if !self.may_begin_snapshot() {
            return false;
        }
        let mut cut = Cut { databases: Vec::new(), changes: self.stats().dirty };
        for (number, database) in self.databases.iter_mut().enumerate() {
            let (keys, volatile) = (database.table().len() as u64, database.volatile() as u64);
            if keys > 0 {
                database.begin_walk(number);
                cut.databases.push(CutDatabase { number, keys, volatile });
            }
        }
        self.snapshot = Snapshot {
            phase: Phase::Reading,
            mark: self.snapshot.mark.next(),
            left: cut.databases.len(),
            cut_ms: self.now.unix_ms,
            cut: Some(cut),
            ..Snapshot::default()
        };
        self.changes.set_snapshot(true);
        true
    }

    /// What there was at the cut, once per snapshot.
    pub fn take_cut(&mut self) -> Option<Cut> {
        self.snapshot.cut.take()
    }

    /// Whether a snapshot can begin.
    pub fn may_begin_snapshot(&self) -> bool {
        self.snapshot.phase == Phase::Off
    }

    /// Whether a snapshot is being read.
    pub fn is_in_snapshot(&self) -> bool {
        self.snapshot.is_reading()
    }

    /// How far the snapshot under way, or the last one, has come.
    pub fn snapshot_progress(&self) -> Progress {
        self.snapshot.progress
    }

    /// Gives out some more keys of the snapshot as they were at the cut, each with the number of its
    /// database: a bucket of them, or a few that are kept. Returns whether there are more; if not, the
    /// snapshot has ended.
    pub fn snapshot_step(&mut self, mut visit: impl FnMut(usize, &Entry)) -> bool {
        let Shard { snapshot, databases, graveyard, .. } = self;
        if snapshot.phase != Phase::Reading {
            return false;
        }
        let Snapshot { kept, flushed, progress, mark, .. } = snapshot;
        if !kept.is_empty() {
            for (number, entry) in kept.drain(..kept.len().min(KEPT_PER_STEP)) {
                progress.kept_bytes -= entry.footprint() as u64;
                progress.keys += 1;
                visit(number, &entry);
            }
            return true;
        }
        let mut counted = |number: usize, entry: &Entry| {
            progress.keys += 1;
            visit(number, entry);
        };
        if let Some(database) = flushed.last_mut() {
            if database.walk_step(*mark, &mut counted) {
                graveyard.extend(flushed.pop().map(Database::into_table));
            }
            return true;
        }
        if snapshot.left > 0 {
            if next_walked(&mut snapshot.at, databases).walk_step(*mark, &mut counted) {
                snapshot.left -= 1;
            }
            return true;
        }
        self.end_snapshot();
        false
    }

    fn end_snapshot(&mut self) {
        self.snapshot.phase = Phase::Off;
        self.snapshot.cut = None;
        self.snapshot.kept = VecDeque::new();
        self.changes.set_snapshot(false);
    }

    /// Gives the snapshot up.
    pub fn give_up_snapshot(&mut self) {
        if self.snapshot.phase != Phase::Reading {
            return;
        }
        self.end_snapshot();
        self.snapshot.progress.kept_bytes = 0;
        let flushed = self.snapshot.flushed.drain(..);
        self.graveyard.extend(flushed.map(Database::into_table));
        self.snapshot.phase = Phase::Sweeping;
    }

    /// Makes some of the marks that are left of a snapshot that was given up. Returns whether there
    /// are more.
    pub fn sweep(&mut self) -> bool {
        let Shard { snapshot, databases, .. } = self;
        if snapshot.phase != Phase::Sweeping {
            return false;
        }
        if snapshot.left == 0 {
            snapshot.phase = Phase::Off;
            return false;
        }
        let database = next_walked(&mut snapshot.at, databases);
        for _ in 0..KEPT_PER_STEP {
            if database.walk_step(snapshot.mark, &mut |_, _| ()) {
                snapshot.left -= 1;
                break;
            }
        }
        true
    }
}

/// The next database, from `at` on, that a walk has not seen all of. There is one.
fn next_walked<'a>(at: &mut usize, databases: &'a mut [Database]) -> &'a mut Database {
    while !databases[*at].is_walked() {
        *at = (*at + 1) % databases.len();
    }
    &mut databases[*at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::base::hash::Random;
    use crate::base::key::Key;
    use crate::shard::db::Ttl;
    use crate::shard::event::Event;
    use crate::value::New;
    use std::collections::BTreeMap;

    const DATABASES: usize = 3;
    const START_MS: i64 = 1_000_000;

    /// What a shard holds: database and key, to value and expiry.
    type Content = BTreeMap<(usize, Vec<u8>), (Vec<u8>, Option<i64>)>;

    fn add(content: &mut Content, number: usize, entry: &Entry) {
        let value = entry.string().bytes(&mut itoa::Buffer::new()).to_vec();
        let before = content.insert((number, entry.key().to_vec()), (value, entry.expiry()));
        let key = String::from_utf8_lossy(entry.key()).into_owned();
        assert!(before.is_none(), "{key} of database {number} twice");
    }

    fn content(shard: &mut Shard) -> Content {
        let mut content = Content::new();
        for number in 0..DATABASES {
            shard.db(number).visit_all(|entry| add(&mut content, number, entry));
        }
        content
    }

    fn change(shard: &mut Shard, random: &mut Random) {
        let name = format!("k{}", random.below(3_000));
        let (number, key) = (random.below(DATABASES as u64) as usize, Key::new(name.as_bytes()));
        let at_ms = shard.now().unix_ms + random.below(3_000) as i64;
        let ttl = [Ttl::Keep, Ttl::Clear, Ttl::At(at_ms)][random.below(3) as usize];
        let text = random.next_u64().to_string();
        let long = vec![b'l'; 20_000];
        let mut db = shard.db(number);
        match random.below(100) {
            0..50 => db.edit(key).put(New::string(text.as_bytes()), ttl, Event::Set),
            50 => db.edit(key).put(New::string(&long), ttl, Event::Set),
            51..65 => _ = db.remove(key, Event::Del),
            65..70 => db.edit(key).set_expiry(Some(at_ms)),
            70..75 => _ = db.edit(key).write_at(3, b"text", Event::SetRange),
            75..80 => _ = db.edit(key).set_int(7, Event::IncrBy),
            80..90 => {
                let to = random.below(DATABASES as u64) as usize;
                if let Some(entry) = db.edit(key).take(Event::MoveFrom) {
                    let entry = entry.renamed(b"moved");
                    db.other(to).edit(Key::new(b"moved")).store(entry, Event::MoveTo);
                }
            }
            90 => _ = db.swap(number, random.below(DATABASES as u64) as usize),
            91 if random.below(10) == 0 => db.flush(),
            _ => {
                let now = shard.now();
                shard.set_now(Now { unix_ms: now.unix_ms + random.below(20) as i64, ..now });
                shard.housekeep(&mut false, &|_| false);
            }
        }
    }

    /// Whatever happens meanwhile, and however many were given up before.
    #[test]
    fn a_snapshot_is_what_there_was_at_the_cut() {
        const SEEDS: u64 = if cfg!(miri) { 1 } else { 30 };
        let mut given_up = 0;
        for seed in 0..SEEDS {
            let (mut shard, mut random) = (Shard::new(0, 1, DATABASES), Random::new(seed + 1));
            shard.set_now(Now { unix_ms: START_MS, monotonic_ns: 1 });
            let mut read = 0;
            while read < 4 {
                for _ in 0..random.below(3_000) {
                    change(&mut shard, &mut random);
                }
                let is_swept = shard.may_begin_snapshot();
                assert_eq!(shard.begin_snapshot(), is_swept, "seed {seed}");
                if !is_swept {
                    // Whoever comes too early has to wait for the end of the last one.
                    shard.sweep();
                    continue;
                }
                let expected = content(&mut shard);
                let gives_up = random.below(3) == 0;
                let (mut seen, pace) = (Content::new(), random.below(30));
                while shard.snapshot_step(|number, entry| add(&mut seen, number, entry)) {
                    for _ in 0..random.below(pace + 1) {
                        change(&mut shard, &mut random);
                    }
                    if gives_up && random.below(40) == 0 {
                        shard.give_up_snapshot();
                    }
                }
                if !shard.may_begin_snapshot() {
                    given_up += 1;
                    continue;
                }
                // What had expired at the cut may be there or not.
                let kept = |content: Content| -> Content {
                    let alive = |at: Option<i64>| at.is_none_or(|at| at >= shard.snapshot.cut_ms);
                    content.into_iter().filter(|(_, (_, at_ms))| alive(*at_ms)).collect()
                };
                assert!(kept(seen) == kept(expected), "seed {seed}, snapshot {read}");
                assert_eq!(shard.snapshot_progress().kept_bytes, 0);
                read += 1;
            }
        }
        assert!(given_up > 0 || cfg!(miri));
    }

    #[test]
    fn a_long_string_is_shared_until_it_is_changed() {
        let mut shard = Shard::new(0, 1, 1);
        let text = vec![b'a'; 100_000];
        let key = Key::new(b"k");
        shard.db(0).edit(key).put(New::string(&text), Ttl::Clear, Event::Set);
        assert!(shard.begin_snapshot());
        let cut = shard.take_cut().expect("what there is");
        assert_eq!(cut.databases, [CutDatabase { number: 0, keys: 1, volatile: 0 }]);
        shard.db(0).edit(key).write_at(100_000, b"b", Event::Append);
        shard.db(0).edit(key).write_at(100_001, b"c", Event::Append);
        assert!(shard.snapshot_progress().kept_bytes > 100_000);
        let mut seen = Vec::new();
        while shard.snapshot_step(|_, entry| seen.push(entry.string().len())) {}
        assert_eq!(seen, [100_000]);
        assert_eq!(shard.db(0).read(key).map(|entry| entry.string().len()), Some(100_002));
        assert_eq!((shard.snapshot_progress().keys, shard.is_in_snapshot()), (1, false));
    }
}

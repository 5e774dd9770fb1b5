//! The table: extendible hashing. A directory, indexed by the top bits of a key's hash, names
//! segments; a full segment splits alone. So the most that one insertion ever moves is a segment
//! (about 1,000 keys, some 20 µs), at any size of the table, and there is no rehash to wait for.
//!
//! Everything is in hash order: directory, segments, buckets. A position in that order (48 bits of
//! hash) is all that SCAN has to remember, and no split, growth or merge moves a key across it.

mod bucket;
mod buckets;
mod segment;

use crate::base::hash::Random;
use crate::shard::entry::Entry;
pub use bucket::{Lent, LentMut, Mark};
use segment::{POSITION_BITS, Segment, Spot};

/// Most bits the directory is indexed with. Positions have 48 bits, 24 of them within a segment.
const DEPTH_MAX: u8 = 24;

/// One past the last position in hash order.
pub const POSITION_END: u64 = 1 << 48;

/// The position of a hash in hash order.
pub fn position(hash: u64) -> u64 {
    hash >> 16
}

/// Where a key lies; good until the table is next changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    segment: u32,
    spot: Spot,
}

/// See the module's head.
#[derive(Debug)]
pub struct Table {
    /// Which segment holds the hashes that begin with an index's bits.
    directory: Vec<u32>,
    /// How many bits index the directory.
    depth: u8,
    /// Segments by number; freed numbers are reused.
    segments: Vec<Segment>,
    free: Vec<u32>,
    /// How many segments there are of each depth: the directory halves when the deepest are gone.
    depths: [u32; DEPTH_MAX as usize + 1],
    len: usize,
    /// Buckets that a segment takes with its first key, at least ([`Table::expect`]).
    least: usize,
    /// The segment an expiry pass looks at next, by number.
    pass_at: usize,
}

impl Default for Table {
    fn default() -> Table {
        let mut depths = [0; DEPTH_MAX as usize + 1];
        depths[0] = 1;
        Table {
            directory: vec![0],
            depth: 0,
            segments: vec![Segment::new(0)],
            free: Vec::new(),
            depths,
            len: 0,
            least: 0,
            pass_at: 0,
        }
    }
}

impl Table {
    /// Keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of directory and segments, without the keys' blocks.
    pub fn memory(&self) -> usize {
        self.directory.capacity() * size_of::<u32>()
            + self.segments.iter().map(Segment::memory).sum::<usize>()
    }

    /// Places for keys, in use or free.
    pub fn places(&self) -> usize {
        self.segments.iter().map(Segment::places).sum()
    }

    #[inline]
    fn number(&self, hash: u64) -> usize {
        // A shift by 64 is not one: the directory of one entry is indexed by no bits.
        let index = if self.depth == 0 { 0 } else { hash >> (64 - self.depth) };
        self.directory[index as usize] as usize
    }

    /// Fetches the cache line that a search for `hash` begins with.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.segments[self.number(hash)].prefetch(hash);
    }

    /// Fetches the block that a search for `hash` will most likely end at; after
    /// [`Table::prefetch`] has had time to work.
    #[inline]
    pub fn prefetch_block(&self, hash: u64) {
        self.segments[self.number(hash)].prefetch_block(hash);
    }

    /// Finds a key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let segment = self.number(hash);
        let spot = self.segments[segment].find(hash, key)?;
        Some(Place { segment: segment as u32, spot })
    }

    /// The entry at a place.
    #[inline]
    pub fn get(&self, place: Place) -> Lent<'_> {
        self.segments[place.segment as usize].get(place.spot)
    }

    /// The entry at a place, to be changed.
    #[inline]
    pub fn get_mut(&mut self, place: Place) -> LentMut<'_> {
        self.segments[place.segment as usize].get_mut(place.spot)
    }

    /// Puts a key that is not here yet; `code` says roughly when it expires (0: it does not).
    pub fn insert(&mut self, hash: u64, entry: Entry, code: u8, mark: Mark) -> Place {
        let mut segment = self.number(hash);
        while self.segments[segment].is_full() {
            if !self.segments[segment].is_largest() || self.segments[segment].depth() == DEPTH_MAX {
                self.segments[segment].grow(self.least);
            } else {
                self.split(segment, hash);
                segment = self.number(hash);
            }
        }
        self.len += 1;
        let spot = self.segments[segment].insert(hash, entry, code, mark);
        Place { segment: segment as u32, spot }
    }

    /// So many keys are about to come: a table that has none takes the shape at once to which it would
    /// have grown with them. Growing moves every key some four times, which was half of the time of
    /// loading 5 M keys. Memory for keys is taken when they come.
    pub fn expect(&mut self, keys: usize) {
        let (depth, least) = Segment::shape_for(keys);
        if self.len > 0 || depth > DEPTH_MAX {
            return;
        }
        let count = 1u32 << depth;
        let segments = (0..count).map(|_| Segment::new(depth)).collect();
        let mut depths = [0; DEPTH_MAX as usize + 1];
        depths[usize::from(depth)] = count;
        let directory = (0..count).collect();
        *self = Table { directory, depth, segments, depths, least, ..Table::default() };
    }

    /// Takes a key out.
    pub fn remove(&mut self, hash: u64, place: Place) -> Entry {
        let number = place.segment as usize;
        let entry = self.segments[number].remove(hash, place.spot);
        self.len -= 1;
        if self.segments[number].len() * 4 < self.segments[number].places() {
            self.slim(number, hash);
        }
        entry
    }

    /// Notes roughly when the key at a place expires; 0 says that it does not.
    #[inline]
    pub fn set_code(&mut self, place: Place, code: u8) {
        self.segments[place.segment as usize].set_code(place.spot, code);
    }

    /// The mark of the key at a place.
    #[inline]
    pub fn mark(&self, place: Place) -> Mark {
        self.segments[place.segment as usize].mark(place.spot)
    }

    /// Marks the key at a place.
    #[inline]
    pub fn set_mark(&mut self, place: Place, mark: Mark) {
        self.segments[place.segment as usize].set_mark(place.spot, mark);
    }

    /// The stretch of directory that names the segment of depth `depth` for `hash`.
    fn stretch(&self, hash: u64, depth: u8) -> std::ops::Range<usize> {
        let prefix = if depth == 0 { 0 } else { hash >> (64 - depth) } as usize;
        let width = 1usize << (self.depth - depth);
        prefix * width..(prefix + 1) * width
    }

    fn split(&mut self, number: usize, hash: u64) {
        if self.segments[number].depth() == self.depth {
            self.directory = self.directory.iter().flat_map(|number| [*number; 2]).collect();
            self.depth += 1;
        }
        let other = self.segments[number].split();
        let depth = other.depth();
        self.depths[depth as usize - 1] -= 1;
        self.depths[depth as usize] += 2;
        let new = match self.free.pop() {
            Some(new) => {
                self.segments[new as usize] = other;
                new
            }
            None => {
                self.segments.push(other);
                self.segments.len() as u32 - 1
            }
        };
        let whole = self.stretch(hash, depth - 1);
        let middle = whole.start.midpoint(whole.end);
        self.directory[middle..whole.end].fill(new);
    }

    /// Gives memory back after a removal left a segment nearly empty: it shrinks, and when it and
    /// its other half fit well into one, they merge.
    fn slim(&mut self, number: usize, hash: u64) {
        let depth = self.segments[number].depth();
        if depth > 0 {
            let buddy_hash = hash ^ 1 << (64 - depth);
            let buddy = self.number(buddy_hash);
            // A third of the largest segment: far from splitting again.
            let total = self.segments[number].len() + self.segments[buddy].len();
            if self.segments[buddy].depth() == depth && total < 384 {
                let (low, high) = if buddy_hash < hash { (buddy, number) } else { (number, buddy) };
                let gone = std::mem::replace(&mut self.segments[high], Segment::new(0));
                self.free.push(high as u32);
                self.segments[low].merge(gone);
                let whole = self.stretch(hash, depth - 1);
                self.directory[whole].fill(low as u32);
                self.depths[depth as usize] -= 2;
                self.depths[depth as usize - 1] += 1;
                while self.depth > 0 && self.depths[self.depth as usize] == 0 {
                    self.directory = self.directory.iter().copied().step_by(2).collect();
                    self.depth -= 1;
                }
                return;
            }
        }
        self.segments[number].shrink();
    }

    /// Calls `visit` for the keys of one bucket, from `position` on in hash order, and returns the
    /// position after them: [`POSITION_END`] when they were the last.
    ///
    /// Whoever walks from 0 to the end this way meets every key that is there all the time exactly
    /// once, whatever splits, grows, shrinks or merges in between.
    pub fn scan(&self, from: u64, mut visit: impl FnMut(&Entry)) -> u64 {
        let (number, bucket, next) = self.bucket_at(from);
        self.segments[number].visit_home(bucket, |entry| {
            // A walk that began when buckets were smaller may stand inside this one.
            if position(crate::base::hash::of(entry.key())) >= from {
                visit(entry);
            }
        });
        next
    }

    /// Like [`Table::scan`], but goes by marks: marks the keys it comes by, and calls `visit` for those
    /// that did not have the mark. Whoever walks from 0 to the end leaves no key without it; which keys
    /// it visits, if others mark some meanwhile, they know.
    pub fn scan_unmarked(&mut self, from: u64, mark: Mark, mut visit: impl FnMut(&Entry)) -> u64 {
        let (number, bucket, next) = self.bucket_at(from);
        self.segments[number].mark_home(bucket, mark, &mut visit);
        next
    }

    /// The segment and the bucket at a position in hash order, and the position after them.
    fn bucket_at(&self, from: u64) -> (usize, usize, u64) {
        let number = self.number(from << 16);
        let segment = &self.segments[number];
        let depth = u32::from(segment.depth());
        let width = POSITION_END >> depth;
        let base = from & !(width - 1);
        let scale = 48 - POSITION_BITS - depth;
        let bucket = segment.bucket_at((from - base) >> scale);
        let next = if bucket + 1 < segment.bucket_count() {
            base + (segment.bucket_start(bucket + 1) << scale)
        } else {
            base + width
        };
        (number, bucket, next)
    }

    /// A key chosen at random, evenly enough: a random stretch of hash order, a random place in it, until
    /// there is a key. Where that takes long, because few places are in use, the next key from there on:
    /// of two keys in a large table one may have a much larger stretch before it.
    pub fn random(&self, random: &mut Random) -> Option<Place> {
        /// Enough for two keys in an otherwise empty table to have the same chance.
        const TRIES: usize = 500;
        if self.is_empty() {
            return None;
        }
        let mut draw = || {
            let number = self.number(random.next_u64());
            (number, random.below(self.segments[number].places().max(1) as u64) as usize)
        };
        for _ in 0..TRIES {
            let (number, index) = draw();
            if let Some(spot) = self.segments[number].spot_at(index) {
                return Some(Place { segment: number as u32, spot });
            }
        }
        loop {
            let (number, index) = draw();
            // An empty segment among full ones is rare (it would have merged), so this ends soon.
            if let Some(spot) = self.segments[number].spot_from(index) {
                return Some(Place { segment: number as u32, spot });
            }
        }
    }

    /// One step of a pass over all expiry codes: looks at one segment and calls `due` for each place
    /// whose code says that its key may have expired by `now_ms`. `due` says what becomes of it.
    /// `gone` gets the keys that go, with their marks. Returns whether this step ended the pass.
    pub fn pass_step(
        &mut self,
        now_ms: i64,
        found: &mut Vec<usize>,
        mut due: impl FnMut(&Entry) -> Due,
        mut gone: impl FnMut(Entry, Mark),
    ) -> bool {
        let number = self.pass_at.min(self.segments.len() - 1);
        let segment = &mut self.segments[number];
        if let Some(codes) = segment.codes_mut() {
            found.clear();
            codes.pass(now_ms, found);
        }
        let mut removed = 0;
        for &index in found.iter() {
            let spot = Segment::spot(index);
            let verdict = due(&segment.get(spot));
            match verdict {
                Due::Keep(code) => segment.set_code(spot, code),
                Due::Gone(hash) => {
                    let mark = segment.mark(spot);
                    gone(segment.remove(hash, spot), mark);
                    removed += 1;
                }
            }
        }
        found.clear();
        self.len -= removed;
        let thin = removed > 0 && segment.len() * 4 < segment.places();
        if thin && let Some(spot) = segment.spot_from(0) {
            let hash = crate::base::hash::of(segment.get(spot).key());
            self.slim(number, hash);
        } else if thin {
            segment.shrink();
        }
        self.pass_at = number + 1;
        if self.pass_at >= self.segments.len() {
            self.pass_at = 0;
        }
        self.pass_at == 0
    }

    /// Takes up to `most` keys out, in no order, and frees what empties: for tables that were
    /// flushed and are freed a slice at a time. Returns how many were taken; 0 means all are gone.
    pub fn drain(&mut self, most: usize) -> usize {
        let mut count = 0;
        while count < most {
            let Some(segment) = self.segments.last_mut() else {
                break;
            };
            count += segment.drain(most - count, drop);
            if segment.len() == 0 {
                self.segments.pop();
            }
        }
        self.len -= count;
        count
    }
}

/// What becomes of a key whose expiry code came due.
#[derive(Clone, Copy, Debug)]
pub enum Due {
    /// It expires later: this is its code now.
    Keep(u8),
    /// It has expired and goes; this is its hash.
    Gone(u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash;
    use crate::value::New;
    use std::collections::{HashMap, HashSet};

    /// So many steps, or as many fewer as Miri is slower.
    const fn steps(count: u64) -> u64 {
        if cfg!(miri) { count / 100 } else { count }
    }

    fn put(table: &mut Table, key: &[u8], value: i64) {
        let hash = hash::of(key);
        match table.find(hash, key) {
            Some(place) => assert!(table.get_mut(place).set_int(value)),
            None => {
                table.insert(hash, Entry::new(key, New::Int(value), None, 0), 0, Mark::default());
            }
        }
    }

    fn cut(table: &mut Table, key: &[u8]) -> bool {
        let hash = hash::of(key);
        let place = table.find(hash, key);
        place.map(|place| table.remove(hash, place)).is_some()
    }

    fn walk(table: &Table) -> Vec<Vec<u8>> {
        let (mut at, mut keys) = (0, Vec::new());
        while at < POSITION_END {
            at = table.scan(at, |entry| keys.push(entry.key().to_vec()));
        }
        keys
    }

    #[test]
    fn agrees_with_a_plain_map() {
        let (mut table, mut map) = (Table::default(), HashMap::new());
        let mut random = Random::new(42);
        for phase in 0..6 {
            for _ in 0..steps(30_000) {
                let key = format!("key:{}", random.below(steps(20_000))).into_bytes();
                // Phases that mostly grow alternate with phases that mostly shrink.
                if random.below(10) < if phase % 2 == 0 { 8 } else { 1 } {
                    let value = random.next_u64() as i64;
                    put(&mut table, &key, value);
                    map.insert(key, value);
                } else {
                    assert_eq!(cut(&mut table, &key), map.remove(&key).is_some());
                }
            }
            assert_eq!(table.len(), map.len());
            let keys = walk(&table);
            assert_eq!(keys.len(), map.len());
            assert_eq!(keys.into_iter().collect::<HashSet<_>>(), map.keys().cloned().collect());
            for (key, value) in &map {
                let place = table.find(hash::of(key), key).expect("present");
                let entry = table.get(place);
                assert!(matches!(entry.string(), crate::value::string::Str::Int(n) if n == *value));
            }
        }
        for key in map.keys() {
            assert!(cut(&mut table, key));
        }
        assert_eq!((table.len(), table.directory.len()), (0, 1));
        assert!(table.memory() < 4096, "{}", table.memory());
    }

    #[test]
    fn a_walk_meets_what_stays_exactly_once_while_everything_else_comes_and_goes() {
        for seed in 1..if cfg!(miri) { 2 } else { 8 } {
            let (mut table, mut random) = (Table::default(), Random::new(seed));
            for i in 0..steps(3000) {
                put(&mut table, format!("stay:{i}").as_bytes(), i as i64);
            }
            let (mut at, mut met, mut step) = (0, Vec::new(), 0);
            while at < POSITION_END {
                at = table.scan(at, |entry| met.push(entry.key().to_vec()));
                step += 1;
                for _ in 0..random.below(400) {
                    let key = format!("go:{}", random.below(steps(30_000)));
                    if step / 40 % 2 == 0 {
                        put(&mut table, key.as_bytes(), 1);
                    } else {
                        cut(&mut table, key.as_bytes());
                    }
                }
            }
            met.retain(|key| key.starts_with(b"stay:"));
            let stayed = steps(3000) as usize;
            assert_eq!(met.len(), stayed, "seed {seed}");
            assert_eq!(met.into_iter().collect::<HashSet<_>>().len(), stayed, "seed {seed}");
        }
    }

    /// As a snapshot walks: what changes first is marked by who changes it, what is put is born with
    /// the mark.
    #[test]
    fn a_walk_by_marks_visits_what_was_there_and_nobody_has_marked_exactly_once() {
        for seed in 1..if cfg!(miri) { 2 } else { 8 } {
            let (mut table, mut random) = (Table::default(), Random::new(seed));
            let mut mark = Mark::default();
            for round in 0..3 {
                mark = mark.next();
                let insert = |table: &mut Table, key: &str| {
                    let hash = hash::of(key.as_bytes());
                    if table.find(hash, key.as_bytes()).is_none() {
                        let entry = Entry::new(key.as_bytes(), New::Int(1), None, 0);
                        table.insert(hash, entry, 0, mark);
                    }
                };
                // Those of the round before are still there, with the other mark, as it left them.
                let before: HashSet<Vec<u8>> = walk(&table).into_iter().collect();
                let (mut at, mut met, mut step) = (0, Vec::new(), 0);
                while at < POSITION_END {
                    at = table.scan_unmarked(at, mark, |entry| met.push(entry.key().to_vec()));
                    step += 1;
                    for _ in 0..random.below(400) {
                        let key = format!("k:{}", random.below(steps(30_000)));
                        if step / 40 % 2 == 0 {
                            insert(&mut table, &key);
                            continue;
                        }
                        let hash = hash::of(key.as_bytes());
                        let Some(place) = table.find(hash, key.as_bytes()) else { continue };
                        if table.mark(place) != mark {
                            met.push(key.into_bytes());
                        }
                        table.remove(hash, place);
                    }
                }
                if round == 0 {
                    // An empty table is walked in one step, before anything is there.
                    (0..steps(9_000)).for_each(|i| insert(&mut table, &format!("k:{i}")));
                }
                assert_eq!(met.len(), before.len(), "seed {seed}, round {round}");
                assert_eq!(met.into_iter().collect::<HashSet<_>>(), before, "seed {seed}");
                let mut unmarked = 0;
                let mut at = 0;
                while at < POSITION_END {
                    at = table.scan_unmarked(at, mark, |_| unmarked += 1);
                }
                assert_eq!(unmarked, 0, "seed {seed}, round {round}");
            }
        }
    }

    #[test]
    fn a_table_that_expects_its_keys_is_as_one_that_has_grown() {
        let name = |i: u64| format!("key:{i}");
        for keys in [0u64, 1, 100, 1_001, 1_003, 20_000, 61_000] {
            let keys = if cfg!(miri) { keys / 100 } else { keys };
            let (mut grown, mut made) = (Table::default(), Table::default());
            made.expect(keys as usize);
            for i in 0..keys {
                put(&mut grown, name(i).as_bytes(), i as i64);
                put(&mut made, name(i).as_bytes(), i as i64);
            }
            assert_eq!(sorted(walk(&made)), sorted(walk(&grown)), "{keys} keys");
            // Where both stand between two sizes, one may be at the next.
            assert!(made.memory() <= grown.memory() * 5 / 4 + 2048, "{keys} keys");
            // What there is not is not given back either, and the table shrinks as any does.
            made.expect(7);
            for i in 0..keys {
                assert!(cut(&mut made, name(i).as_bytes()), "{i} of {keys}");
            }
            assert!(made.is_empty() && walk(&made).is_empty());
        }
    }

    fn sorted(mut keys: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        keys.sort();
        keys
    }

    #[test]
    fn random_reaches_everything_and_drain_empties() {
        let (mut table, mut random) = (Table::default(), Random::new(3));
        assert!(table.random(&mut random).is_none());
        for i in 0..100 {
            put(&mut table, format!("k{i}").as_bytes(), i);
        }
        let mut seen = HashSet::new();
        for _ in 0..20_000 {
            let place = table.random(&mut random).expect("not empty");
            seen.insert(table.get(place).key().to_vec());
        }
        assert_eq!(seen.len(), 100);
        assert_eq!((table.drain(30), table.len()), (30, 70));
        assert_eq!((table.drain(1000), table.drain(1000), table.len()), (70, 0, 0));
    }

    /// Wherever they lie: side by side, too.
    #[test]
    fn two_keys_have_the_same_chance() {
        for pair in 0..if cfg!(miri) { 2 } else { 100 } {
            let (mut table, mut random) = (Table::default(), Random::new(pair + 1));
            put(&mut table, format!("foo{pair}").as_bytes(), 1);
            put(&mut table, format!("bar{pair}").as_bytes(), 2);
            let is_foo = |place: Place| table.get(place).key().starts_with(b"foo");
            let draws = (0..100).filter_map(|_| table.random(&mut random));
            let foos = draws.filter(|place| is_foo(*place)).count();
            assert!((10..=90).contains(&foos), "{foos} of 100");
        }
    }

    /// Nothing that Miri could say anything about.
    #[cfg_attr(miri, ignore)]
    #[test]
    fn memory_per_key_stays_low_between_splits() {
        let mut table = Table::default();
        let mut worst = 0.0f64;
        for i in 0..200_000i64 {
            put(&mut table, &i.to_le_bytes(), i);
            if i > 20_000 && i % 1000 == 0 {
                worst = worst.max(table.memory() as f64 / table.len() as f64);
            }
        }
        assert!(worst < 11.5, "{worst} bytes of table per key");
    }
}

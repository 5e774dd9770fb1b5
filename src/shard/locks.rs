//! Key locks of one shard, for commands that span shards.
//!
//! A request names locks and modes. A transaction's request holds them until it is released; a
//! single-shard command holds nothing: it only has to be let through, in its turn. What cannot be
//! granted at once either is refused (an *attempt*, which never waits) or waits in the queue of
//! every lock it names, first come, first served. So two commands that share a key keep their order
//! whatever happens to their other keys.
//!
//! Every request for keys also takes the lock [`WHOLE`], with the intention to read or to write
//! below it, and a request for the whole shard takes that one alone: FLUSHALL needs no rule of its
//! own, and DBSIZE stops nobody who only reads.
//!
//! | | key reader | key writer | whole reader | whole writer |
//! |---|---|---|---|---|
//! | key reader ([`Mode::IntentShared`]) | | | | waits |
//! | key writer ([`Mode::IntentExclusive`]) | | | waits | waits |
//! | whole reader ([`Mode::Shared`]) | | waits | | waits |
//! | whole writer ([`Mode::Exclusive`]) | waits | waits | waits | waits |
//!
//! # What it costs
//!
//! Thousands may wait, all of them for [`WHOLE`] too, so nothing here may look through a queue. A
//! waiter is *clear* at a lock when neither a holder nor a waiter before it stands in its way.
//! Once clear it stays so: who comes later and conflicts with it does not pass it. So each lock has
//! a queue per mode, of which the clear ones are a prefix; each waiter counts the locks at which it
//! is not clear yet, and when there is none left its turn has come. A waiter is looked at once per
//! lock when it becomes clear there and once when it is granted. It is not searched for in its
//! queues then: it leaves a *ghost* behind, told by its ticket, which goes when it comes to the
//! front, or when there are more ghosts than waiters.
//!
//! While nobody holds or waits, [`Locks::is_idle`] is the only thing anybody asks.

use crate::base::hash;
use crate::base::key::Key;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};

/// Names a transaction: coordinator's shard in the upper 16 bits, its count below.
pub type TxnId = u64;

/// The shard that coordinates a transaction.
pub fn home(txn: TxnId) -> usize {
    (txn >> 48) as usize
}

/// The lock that stands for the whole shard.
pub const WHOLE: u64 = u64::MAX;

/// How a lock is wanted. Keys know the last two, [`WHOLE`] all four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// To read some of what is below it.
    IntentShared,
    /// To write some of what is below it.
    IntentExclusive,
    /// To read: several may.
    Shared,
    /// To write: alone.
    Exclusive,
}

const MODES: [Mode; 4] = [Mode::IntentShared, Mode::IntentExclusive, Mode::Shared, Mode::Exclusive];

impl Mode {
    /// Whether two requests in these modes cannot have a lock at the same time.
    fn conflicts(self, other: Mode) -> bool {
        use Mode::{Exclusive, IntentExclusive, Shared};
        matches!(
            (self, other),
            (Exclusive, _) | (_, Exclusive) | (Shared, IntentExclusive) | (IntentExclusive, Shared)
        )
    }

    /// The modes that conflict with this one.
    fn rivals(self) -> impl Iterator<Item = Mode> {
        MODES.into_iter().filter(move |other| self.conflicts(*other))
    }

    /// How [`WHOLE`] is wanted by who wants a key like this.
    fn intention(self) -> Mode {
        match self {
            Mode::IntentShared | Mode::Shared => Mode::IntentShared,
            Mode::IntentExclusive | Mode::Exclusive => Mode::IntentExclusive,
        }
    }
}

/// One lock and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Fingerprint of database and key, or [`WHOLE`].
    pub fingerprint: u64,
    /// How.
    pub mode: Mode,
}

/// The locks of one request.
pub type Wants = SmallVec<[Want; 4]>;

/// The fingerprint of a key. Two keys with the same one share a lock, which costs waiting and
/// nothing else.
pub fn fingerprint(db: usize, key: Key) -> u64 {
    let fingerprint = key.hash() ^ (db as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    if fingerprint == WHOLE { 0 } else { fingerprint }
}

/// A request for the whole shard, to read or to write.
pub fn whole(mode: Mode) -> Wants {
    SmallVec::from_slice(&[Want { fingerprint: WHOLE, mode }])
}

/// A request for keys: duplicates fold into the stronger mode.
pub fn of_keys(keys: impl Iterator<Item = (u64, Mode)>) -> Wants {
    let mut wants: Wants = keys.map(|(fingerprint, mode)| Want { fingerprint, mode }).collect();
    let intention = wants.iter().map(|want| want.mode.intention()).max();
    let mode = intention.unwrap_or(Mode::IntentShared);
    wants.push(Want { fingerprint: WHOLE, mode });
    wants.sort_unstable_by_key(|want| (want.fingerprint, std::cmp::Reverse(want.mode)));
    wants.dedup_by_key(|want| want.fingerprint);
    wants
}

/// A waiter's place in a queue.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// When it came. Numbers in the slab are used again, tickets are not.
    ticket: u64,
    waiter: usize,
}

/// Those who want a lock in one mode, in the order they came.
#[derive(Debug, Default)]
struct Queue {
    places: VecDeque<Place>,
    /// How many of them wait; the others are ghosts.
    waiting: usize,
    /// How many at the front are clear, or ghosts.
    clear: usize,
}

/// A queue with so few ghosts is left as it is.
const GHOSTS_MIN: usize = 32;

impl Queue {
    /// The ticket of the first who waits; ghosts before it go.
    fn first<W>(&mut self, waiters: &Slab<Waiter<W>>, steps: &mut Steps) -> Option<u64> {
        while let Some(place) = self.places.front() {
            if is_waiting(waiters, *place) {
                return Some(place.ticket);
            }
            steps.count();
            self.places.pop_front();
            self.clear -= 1;
        }
        None
    }

    /// One of those who wait has been granted: its place is a ghost's. (Only who is clear is
    /// granted, so ghosts are among the clear.)
    fn leave<W>(&mut self, waiters: &Slab<Waiter<W>>, steps: &mut Steps) {
        self.waiting -= 1;
        let ghosts = self.places.len() - self.waiting;
        if ghosts > GHOSTS_MIN && ghosts > self.waiting {
            self.places.retain(|place| {
                steps.count();
                is_waiting(waiters, *place)
            });
            self.clear -= ghosts;
        }
    }
}

fn is_waiting<W>(waiters: &Slab<Waiter<W>>, place: Place) -> bool {
    waiters.get(place.waiter).is_some_and(|waiter| waiter.ticket == place.ticket)
}

/// Counts what is looked at, where a test wants to know.
#[derive(Debug, Default)]
struct Steps {
    #[cfg(test)]
    count: usize,
}

impl Steps {
    #[inline]
    fn count(&mut self) {
        #[cfg(test)]
        {
            self.count += 1;
        }
    }
}

#[derive(Debug, Default)]
struct Lock {
    /// How many hold it, by mode.
    holders: [u32; MODES.len()],
    /// Who waits for it, by mode; most locks are held for a moment and waited for by nobody.
    queues: Option<Box<[Queue; MODES.len()]>>,
}

impl Lock {
    fn is_idle(&self) -> bool {
        self.holders == [0; MODES.len()] && MODES.iter().all(|mode| self.waiting(*mode) == 0)
    }

    fn waiting(&self, mode: Mode) -> usize {
        self.queues.as_ref().map_or(0, |queues| queues[mode as usize].waiting)
    }

    /// Whether nobody holds it who is in the way.
    fn admits(&self, mode: Mode) -> bool {
        mode.rivals().all(|rival| self.holders[rival as usize] == 0)
    }

    /// Whether a newcomer may have it without passing anyone it conflicts with.
    fn admits_newcomer(&self, mode: Mode) -> bool {
        self.admits(mode) && mode.rivals().all(|rival| self.waiting(rival) == 0)
    }
}

#[derive(Debug)]
struct Waiter<W> {
    ticket: u64,
    wants: Wants,
    /// At how many of them it is not clear yet.
    missing: usize,
    holder: Option<TxnId>,
    work: W,
}

/// See the module's head. `W` is what a waiter does when its turn has come.
#[derive(Debug)]
pub struct Locks<W> {
    locks: HashMap<u64, Lock, ahash::RandomState>,
    held: HashMap<TxnId, Wants, ahash::RandomState>,
    waiters: Slab<Waiter<W>>,
    next_ticket: u64,
    /// Waiters that are clear everywhere: it is their turn.
    ready: VecDeque<usize>,
    steps: Steps,
}

impl<W> Default for Locks<W> {
    fn default() -> Locks<W> {
        Locks {
            locks: HashMap::with_hasher(hash::state().clone()),
            held: HashMap::with_hasher(hash::state().clone()),
            waiters: Slab::new(),
            next_ticket: 0,
            ready: VecDeque::new(),
            steps: Steps::default(),
        }
    }
}

impl<W> Locks<W> {
    /// Whether nobody holds and nobody waits.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.locks.is_empty()
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Whether a command that holds nothing may run now.
    pub fn lets_through(&self, wants: &Wants) -> bool {
        wants.iter().all(|want| {
            self.locks.get(&want.fingerprint).is_none_or(|lock| lock.admits_newcomer(want.mode))
        })
    }

    /// Whether somebody holds a lock.
    pub fn is_held(&self, fingerprint: u64) -> bool {
        let lock = self.locks.get(&fingerprint);
        lock.is_some_and(|lock| lock.holders != [0; MODES.len()])
    }

    /// Whether somebody holds the whole shard.
    pub fn is_held_whole(&self) -> bool {
        let whole = self.locks.get(&WHOLE);
        whole.is_some_and(|lock| {
            lock.holders[Mode::Shared as usize] + lock.holders[Mode::Exclusive as usize] > 0
        })
    }

    /// Takes all locks for `txn`, or none.
    pub fn attempt(&mut self, txn: TxnId, wants: &Wants) -> bool {
        let granted = self.lets_through(wants);
        if granted {
            self.hold(txn, wants);
        }
        granted
    }

    /// Puts a request that could not be granted into the queues. `holder` is the transaction that
    /// holds the locks once granted, or `None` for a command that is only let through.
    pub fn wait(&mut self, wants: Wants, holder: Option<TxnId>, work: W) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let missing = wants.len();
        let waiter =
            self.waiters.insert(Waiter { ticket, wants: wants.clone(), missing, holder, work });
        for want in &wants {
            let lock = self.locks.entry(want.fingerprint).or_default();
            let queue = &mut lock.queues.get_or_insert_default()[want.mode as usize];
            queue.places.push_back(Place { ticket, waiter });
            queue.waiting += 1;
            self.clear(want.fingerprint);
        }
    }

    /// Gives back what `txn` holds. Afterwards [`Locks::next_ready`] says who is next.
    pub fn release(&mut self, txn: TxnId) {
        for want in self.held.remove(&txn).unwrap_or_default() {
            if let Some(lock) = self.locks.get_mut(&want.fingerprint) {
                lock.holders[want.mode as usize] -= 1;
                self.clear(want.fingerprint);
            }
        }
    }

    /// The next waiter whose turn has come: it holds its locks from here on (if it is a
    /// transaction), and its work is the caller's to do, at once. Call until there is none.
    pub fn next_ready(&mut self) -> Option<W> {
        let Waiter { wants, holder, work, .. } = self.waiters.remove(self.ready.pop_front()?);
        if let Some(txn) = holder {
            self.hold(txn, &wants);
        }
        for want in &wants {
            let lock = self.locks.get_mut(&want.fingerprint).expect("queued there");
            let queues = lock.queues.as_mut().expect("queued there");
            queues[want.mode as usize].leave(&self.waiters, &mut self.steps);
            self.clear(want.fingerprint);
        }
        Some(work)
    }

    fn hold(&mut self, txn: TxnId, wants: &Wants) {
        for want in wants {
            let lock = self.locks.entry(want.fingerprint).or_default();
            lock.holders[want.mode as usize] += 1;
        }
        let before = self.held.insert(txn, wants.clone());
        debug_assert!(before.is_none(), "a transaction asks a shard once");
    }

    /// After a lock changed: notes for whom it has become clear, and forgets it if nobody cares.
    fn clear(&mut self, fingerprint: u64) {
        let Locks { locks, waiters, ready, steps, .. } = self;
        let Some(lock) = locks.get_mut(&fingerprint) else {
            return;
        };
        if lock.is_idle() {
            locks.remove(&fingerprint);
            return;
        }
        let holders = lock.holders;
        let Some(queues) = &mut lock.queues else {
            return;
        };
        let first =
            MODES.map(|mode| queues[mode as usize].first(waiters, steps).unwrap_or(u64::MAX));
        for mode in MODES {
            if mode.rivals().any(|rival| holders[rival as usize] > 0) {
                continue;
            }
            // Clear are those who came before the first rival. Who conflicts with its own like is
            // its own rival: then that is the first alone.
            let others = mode.rivals().filter(|rival| *rival != mode);
            let mut end = others.map(|rival| first[rival as usize]).min().unwrap_or(u64::MAX);
            if mode.conflicts(mode) {
                end = end.min(first[mode as usize].saturating_add(1));
            }
            let queue = &mut queues[mode as usize];
            while let Some(place) = queue.places.get(queue.clear).filter(|at| at.ticket < end) {
                steps.count();
                queue.clear += 1;
                let waiter = &mut waiters[place.waiter];
                waiter.missing -= 1;
                if waiter.missing == 0 {
                    ready.push_back(place.waiter);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(list: &[(u64, Mode)]) -> Wants {
        of_keys(list.iter().copied())
    }
    use Mode::{Exclusive as X, Shared as S};

    #[test]
    fn shared_share_and_exclusive_excludes() {
        let mut locks = Locks::<&str>::default();
        assert!(locks.is_idle());
        assert!(locks.attempt(1, &keys(&[(7, S)])));
        assert!(locks.attempt(2, &keys(&[(7, S), (8, X)])));
        assert!(!locks.attempt(3, &keys(&[(7, X)])));
        assert!(!locks.lets_through(&keys(&[(8, S)])));
        assert!(locks.lets_through(&keys(&[(9, X)])));
        assert!(!locks.attempt(3, &whole(X)));
        locks.release(1);
        locks.release(2);
        assert!(locks.is_idle());
        assert!(locks.attempt(3, &whole(X)));
        assert!(!locks.lets_through(&keys(&[(9, S)])));
        locks.release(3);
        assert!(locks.is_idle());
    }

    #[test]
    fn waiting_keeps_the_order_of_arrival() {
        let mut locks = Locks::default();
        assert!(locks.attempt(1, &keys(&[(7, X)])));
        locks.wait(keys(&[(7, X), (8, X)]), None, "first");
        // Key 8 is free, but somebody who came earlier wants it.
        assert!(!locks.lets_through(&keys(&[(8, S)])));
        locks.wait(keys(&[(8, S)]), None, "second");
        locks.wait(keys(&[(8, S)]), Some(2), "third");
        assert!(locks.next_ready().is_none());
        locks.release(1);
        assert_eq!(locks.next_ready(), Some("first"));
        assert_eq!(locks.next_ready(), Some("second"));
        assert_eq!(locks.next_ready(), Some("third"));
        assert_eq!(locks.next_ready(), None);
        assert!(!locks.lets_through(&keys(&[(8, X)])));
        locks.release(2);
        assert!(locks.is_idle());
    }

    #[test]
    fn a_whole_waiter_is_not_passed() {
        let mut locks = Locks::default();
        assert!(locks.attempt(1, &keys(&[(7, X)])));
        locks.wait(whole(X), Some(2), "whole");
        assert!(!locks.attempt(3, &keys(&[(9, S)])), "an attempt would starve it");
        locks.wait(keys(&[(9, S)]), None, "late");
        locks.release(1);
        assert_eq!(locks.next_ready(), Some("whole"));
        assert_eq!(locks.next_ready(), None);
        locks.release(2);
        assert_eq!(locks.next_ready(), Some("late"));
        assert!(locks.is_idle());
    }

    #[test]
    fn readers_of_everything_stop_writers_alone() {
        let mut locks = Locks::default();
        assert!(locks.attempt(1, &whole(S)));
        assert!(locks.attempt(2, &whole(S)));
        assert!(locks.attempt(3, &keys(&[(7, S)])));
        assert!(!locks.lets_through(&keys(&[(7, S), (8, X)])));
        locks.wait(keys(&[(8, X)]), Some(4), "writer");
        // It came first: another reader of everything would pass it, a reader of a key does not.
        assert!(!locks.lets_through(&whole(S)));
        assert!(locks.lets_through(&keys(&[(7, S)])));
        locks.wait(whole(S), Some(5), "reader");
        locks.release(1);
        assert_eq!(locks.next_ready(), None);
        locks.release(2);
        assert_eq!(locks.next_ready(), Some("writer"));
        assert_eq!(locks.next_ready(), None);
        locks.release(4);
        assert_eq!(locks.next_ready(), Some("reader"));
        locks.release(3);
        locks.release(5);
        assert!(locks.is_idle());
    }

    /// A hundred thousand commands that wait for the end of a KEYS, or of a FLUSHALL, each of which
    /// is let through or holds its key for a moment.
    #[test]
    fn a_waiter_costs_the_same_however_many_there_are() {
        const WAITERS: usize = if cfg!(miri) { 100 } else { 100_000 };
        for mode in [S, X] {
            let mut locks = Locks::default();
            assert!(locks.attempt(0, &whole(mode)));
            for i in 1..=WAITERS {
                let holder = i.is_multiple_of(2).then_some(i as TxnId);
                locks.wait(keys(&[(i as u64 % 1000, X)]), holder, holder);
            }
            locks.release(0);
            let mut granted = 0;
            while let Some(holder) = locks.next_ready() {
                granted += 1;
                if let Some(txn) = holder {
                    locks.release(txn);
                }
            }
            assert_eq!((granted, locks.is_idle()), (WAITERS, true));
            // Two locks each: clear once, and a ghost once, or twice where a queue is tidied up.
            assert!(locks.steps.count <= WAITERS * 6, "{}", locks.steps.count);
        }
    }

    /// One who waits for long at the front of the queue that everybody stands in.
    #[test]
    fn ghosts_behind_one_who_waits_do_not_pile_up() {
        const OTHERS: u64 = if cfg!(miri) { 100 } else { 100_000 };
        let mut locks = Locks::default();
        assert!(locks.attempt(0, &keys(&[(7, X)])));
        locks.wait(keys(&[(7, X)]), None, 0);
        for i in 1..=OTHERS {
            assert!(locks.attempt(i, &keys(&[(8, X)])));
            locks.wait(keys(&[(8, X)]), None, i);
            locks.release(i);
            assert_eq!(locks.next_ready(), Some(i));
        }
        let queues = locks.locks[&WHOLE].queues.as_ref().expect("one waits");
        assert!(queues[Mode::IntentExclusive as usize].places.len() <= GHOSTS_MIN + 2);
        assert!(locks.steps.count as u64 <= OTHERS * 6, "{}", locks.steps.count);
        locks.release(0);
        assert_eq!((locks.next_ready(), locks.is_idle()), (Some(0), true));
    }

    #[test]
    fn transactions_that_share_many_keys_cost_what_they_name() {
        const KEYS: u64 = if cfg!(miri) { 100 } else { 100_000 };
        let mut locks = Locks::default();
        let all: Wants = of_keys((0..KEYS).map(|key| (key, X)));
        assert!(locks.attempt(1, &all));
        locks.wait(all.clone(), Some(2), 2);
        locks.wait(all, Some(3), 3);
        locks.release(1);
        assert_eq!((locks.next_ready(), locks.next_ready()), (Some(2), None));
        locks.release(2);
        assert_eq!(locks.next_ready(), Some(3));
        locks.release(3);
        assert!(locks.is_idle());
        assert!(locks.steps.count as u64 <= 2 * 2 * (KEYS + 1), "{}", locks.steps.count);
    }

    /// Random requests: nobody is forgotten, and two that conflict never overlap.
    #[test]
    fn nobody_is_forgotten() {
        let mut random = hash::Random::new(11);
        for _ in 0..200 {
            let mut locks = Locks::default();
            let (mut holders, mut waiting): (Vec<(TxnId, Wants)>, usize) = (Vec::new(), 0);
            for txn in 0..300u64 {
                let wants = if random.below(15) == 0 {
                    whole(if random.below(2) == 0 { S } else { X })
                } else {
                    of_keys(
                        (0..=random.below(3))
                            .map(|_| (random.below(6), if random.below(2) == 0 { S } else { X })),
                    )
                };
                if locks.attempt(txn, &wants) {
                    holders.push((txn, wants));
                } else if random.below(2) == 0 {
                    locks.wait(wants.clone(), Some(txn), (txn, wants));
                    waiting += 1;
                }
                for (i, (_, a)) in holders.iter().enumerate() {
                    for (_, b) in &holders[..i] {
                        let clash = a.iter().any(|x| {
                            b.iter()
                                .any(|y| x.fingerprint == y.fingerprint && x.mode.conflicts(y.mode))
                        });
                        assert!(!clash);
                    }
                }
                while !holders.is_empty() && random.below(3) == 0 {
                    let (done, _) =
                        holders.swap_remove(random.below(holders.len() as u64) as usize);
                    locks.release(done);
                    while let Some(next) = locks.next_ready() {
                        holders.push(next);
                        waiting -= 1;
                    }
                }
            }
            while let Some((done, _)) = holders.pop() {
                locks.release(done);
                while let Some(next) = locks.next_ready() {
                    holders.push(next);
                    waiting -= 1;
                }
            }
            assert_eq!((waiting, locks.is_idle()), (0, true));
        }
    }
}

//! Key locks of one shard, for commands that span shards.
//!
//! A request names locks and modes. A transaction's request holds them until it is released; a
//! single-shard command holds nothing: it only has to be let through, in its turn. What cannot be
//! granted at once either is refused (an *attempt*, which never waits) or waits in the queue of
//! every lock it names, first come, first served. So two commands that share a key keep their order
//! whatever happens to their other keys.
//!
//! Every request for keys also shares the lock [`WHOLE`], and a request for the whole shard takes
//! that one alone: FLUSHALL needs no rule of its own.
//!
//! While nobody holds or waits, [`Locks::is_idle`] is the only thing anybody asks.

use crate::base::hash;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};

/// Names a transaction: coordinator's shard in the upper 16 bits, its count below.
pub type TxnId = u64;

/// The lock that stands for the whole shard.
pub const WHOLE: u64 = u64::MAX;

/// How a lock is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// To read: several may.
    Shared,
    /// To write: alone.
    Exclusive,
}

/// One lock and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Fingerprint of database and key, or [`WHOLE`].
    pub print: u64,
    /// How.
    pub mode: Mode,
}

/// The locks of one request.
pub type Wants = SmallVec<[Want; 4]>;

/// The fingerprint of a key. Two keys with the same one share a lock, which costs waiting and
/// nothing else.
pub fn print(db: usize, key: &[u8]) -> u64 {
    let print = hash::of(key) ^ (db as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    if print == WHOLE { 0 } else { print }
}

/// A request for the whole shard.
pub fn whole() -> Wants {
    SmallVec::from_slice(&[Want { print: WHOLE, mode: Mode::Exclusive }])
}

/// A request for keys: duplicates fold into the stronger mode.
pub fn of_keys(keys: impl Iterator<Item = (u64, Mode)>) -> Wants {
    let mut wants: Wants = keys.map(|(print, mode)| Want { print, mode }).collect();
    wants.push(Want { print: WHOLE, mode: Mode::Shared });
    wants.sort_unstable_by_key(|want| (want.print, std::cmp::Reverse(want.mode)));
    wants.dedup_by_key(|want| want.print);
    wants
}

#[derive(Debug, Default)]
struct Lock {
    shared: u32,
    exclusive: bool,
    queue: VecDeque<usize>,
    /// Waiters in `queue` that want it for themselves.
    exclusive_waiters: u32,
}

impl Lock {
    fn is_idle(&self) -> bool {
        self.shared == 0 && !self.exclusive && self.queue.is_empty()
    }

    fn admits(&self, mode: Mode) -> bool {
        match mode {
            Mode::Shared => !self.exclusive,
            Mode::Exclusive => !self.exclusive && self.shared == 0,
        }
    }

    /// Whether a newcomer may have it without passing anyone it conflicts with.
    fn admits_newcomer(&self, mode: Mode) -> bool {
        self.admits(mode)
            && match mode {
                Mode::Shared => self.exclusive_waiters == 0,
                Mode::Exclusive => self.queue.is_empty(),
            }
    }
}

#[derive(Debug)]
struct Waiter<W> {
    wants: Wants,
    holder: Option<TxnId>,
    work: W,
}

/// See the module's head. `W` is what a waiter does when its turn has come.
#[derive(Debug)]
pub struct Locks<W> {
    locks: HashMap<u64, Lock, ahash::RandomState>,
    held: HashMap<TxnId, Wants, ahash::RandomState>,
    waiters: Slab<Waiter<W>>,
    /// Locks whose queue may have someone whose turn has come.
    stirred: Vec<u64>,
}

impl<W> Default for Locks<W> {
    fn default() -> Locks<W> {
        Locks {
            locks: HashMap::with_hasher(hash::state().clone()),
            held: HashMap::with_hasher(hash::state().clone()),
            waiters: Slab::new(),
            stirred: Vec::new(),
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
            self.locks.get(&want.print).is_none_or(|lock| lock.admits_newcomer(want.mode))
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
        let id = self.waiters.insert(Waiter { wants: wants.clone(), holder, work });
        for want in &wants {
            let lock = self.locks.entry(want.print).or_default();
            lock.queue.push_back(id);
            lock.exclusive_waiters += u32::from(want.mode == Mode::Exclusive);
        }
    }

    /// Gives back what `txn` holds. Afterwards [`Locks::next_ready`] says who is next.
    pub fn release(&mut self, txn: TxnId) {
        for want in self.held.remove(&txn).unwrap_or_default() {
            let Some(lock) = self.locks.get_mut(&want.print) else {
                continue;
            };
            match want.mode {
                Mode::Shared => lock.shared -= 1,
                Mode::Exclusive => lock.exclusive = false,
            }
            self.settle(want.print);
        }
    }

    /// The next waiter whose turn has come: it holds its locks from here on (if it is a
    /// transaction), and its work is the caller's to do, at once. Call until there is none.
    pub fn next_ready(&mut self) -> Option<W> {
        while let Some(&print) = self.stirred.last() {
            let Some(id) = self.first_grantable(print) else {
                self.stirred.pop();
                continue;
            };
            let waiter = self.waiters.remove(id);
            for want in &waiter.wants {
                let lock = self.locks.get_mut(&want.print).expect("queued there");
                lock.queue.retain(|other| *other != id);
                lock.exclusive_waiters -= u32::from(want.mode == Mode::Exclusive);
            }
            if let Some(txn) = waiter.holder {
                self.hold(txn, &waiter.wants);
            }
            for want in &waiter.wants {
                self.settle(want.print);
            }
            return Some(waiter.work);
        }
        None
    }

    fn hold(&mut self, txn: TxnId, wants: &Wants) {
        for want in wants {
            let lock = self.locks.entry(want.print).or_default();
            match want.mode {
                Mode::Shared => lock.shared += 1,
                Mode::Exclusive => lock.exclusive = true,
            }
        }
        let before = self.held.insert(txn, wants.clone());
        debug_assert!(before.is_none(), "a transaction asks a shard once");
    }

    /// After a lock became freer: forgets it if nobody cares, notes it if somebody waits.
    fn settle(&mut self, print: u64) {
        let Some(lock) = self.locks.get(&print) else {
            return;
        };
        if lock.is_idle() {
            self.locks.remove(&print);
        } else if !lock.queue.is_empty() && !self.stirred.contains(&print) {
            self.stirred.push(print);
        }
    }

    /// The first waiter in a lock's queue that can have everything it wants.
    fn first_grantable(&self, print: u64) -> Option<usize> {
        let lock = self.locks.get(&print)?;
        for &id in &lock.queue {
            let waiter = &self.waiters[id];
            if waiter.wants.iter().all(|want| self.is_next(id, *want)) {
                return Some(id);
            }
            let here = waiter.wants.iter().find(|want| want.print == print).expect("queued here");
            if here.mode == Mode::Exclusive {
                return None;
            }
        }
        None
    }

    /// Whether nobody who holds or came earlier stands between this waiter and the lock.
    fn is_next(&self, id: usize, want: Want) -> bool {
        let lock = &self.locks[&want.print];
        if !lock.admits(want.mode) {
            return false;
        }
        if want.mode == Mode::Exclusive {
            return lock.queue.front() == Some(&id);
        }
        lock.exclusive_waiters == 0
            || lock.queue.iter().take_while(|other| **other != id).all(|other| {
                self.waiters[*other]
                    .wants
                    .iter()
                    .any(|theirs| theirs.print == want.print && theirs.mode == Mode::Shared)
            })
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
        assert!(!locks.attempt(3, &whole()));
        locks.release(1);
        locks.release(2);
        assert!(locks.is_idle());
        assert!(locks.attempt(3, &whole()));
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
        locks.wait(whole(), Some(2), "whole");
        assert!(!locks.attempt(3, &keys(&[(9, S)])), "an attempt would starve it");
        locks.wait(keys(&[(9, S)]), None, "late");
        locks.release(1);
        assert_eq!(locks.next_ready(), Some("whole"));
        assert_eq!(locks.next_ready(), None);
        locks.release(2);
        assert_eq!(locks.next_ready(), Some("late"));
        assert!(locks.is_idle());
    }

    /// Random requests: nobody is forgotten, and two that conflict never overlap.
    #[test]
    fn nobody_is_forgotten() {
        let mut random = hash::Random::new(11);
        for _ in 0..200 {
            let mut locks = Locks::default();
            let (mut holders, mut waiting): (Vec<(TxnId, Wants)>, usize) = (Vec::new(), 0);
            for txn in 0..300u64 {
                let wants = if random.below(20) == 0 {
                    whole()
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
                            b.iter().any(|y| x.print == y.print && (x.mode == X || y.mode == X))
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

//! Who has subscribed to what, as all shards see it: of every channel and pattern, which shards have
//! subscribers and how many. Each shard knows its own subscribers by name ([`crate::route::pubsub`]),
//! and says here when their numbers change. So PUBLISH knows without asking anybody where a message has
//! to go, and to how many clients.
//!
//! **What is confirmed counts.** A subscription is here before its client is told of it, so whoever
//! publishes after that finds it.
//!
//! **A publisher does not run away from its subscribers.** Every shard has a [`Backlog`]: what has been
//! published to its clients and not been handed over to be sent. Where that is too much, who publishes
//! waits ([`Subscriptions::is_behind`]).

use crate::base::hash;
use crate::base::limits;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// What a client can subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A channel (SUBSCRIBE).
    Channel,
    /// All channels whose names match a pattern (PSUBSCRIBE).
    Pattern,
    /// A channel of the shard of a cluster that its name belongs to (SSUBSCRIBE): a space of names of
    /// its own.
    Shard,
}

impl Kind {
    /// All kinds, by their numbers.
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];
}

/// The shards that have subscribers to a name, and how many.
type Holders = SmallVec<[(u32, u32); 2]>;

/// Names with their holders, under one lock.
type Stripe = RwLock<HashMap<Arc<[u8]>, Holders, ahash::RandomState>>;

/// Names are spread over so many locks, so that publishers on different shards seldom meet. Patterns,
/// all of which every publisher looks at, are under one.
const STRIPES: usize = 16;

/// See the module's head.
#[derive(Debug)]
pub struct Subscriptions {
    names: [Names; 3],
    backlogs: Vec<Backlog>,
}

/// The names of one kind.
#[derive(Debug)]
struct Names {
    /// How many there are: whoever publishes what nobody wants takes no lock.
    len: AtomicUsize,
    stripes: Vec<Stripe>,
}

/// Bytes of messages to a shard's clients that have not been handed over to be sent.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Backlog(AtomicU64);

impl Names {
    fn new(stripes: usize) -> Names {
        let stripe = || RwLock::new(HashMap::with_hasher(hash::state().clone()));
        Names { len: AtomicUsize::new(0), stripes: (0..stripes).map(|_| stripe()).collect() }
    }

    fn stripe(&self, name: &[u8]) -> &Stripe {
        // The low bits choose the place within a stripe.
        &self.stripes[(hash::of(name) >> 32) as usize % self.stripes.len()]
    }

    fn look<R>(&self, name: &[u8], look: impl FnOnce(&Holders) -> R) -> Option<R> {
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let stripe = self.stripe(name).read().unwrap_or_else(PoisonError::into_inner);
        stripe.get(name).map(look)
    }

    fn each(&self, mut tell: impl FnMut(&[u8], &Holders)) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        for stripe in &self.stripes {
            let stripe = stripe.read().unwrap_or_else(PoisonError::into_inner);
            stripe.iter().for_each(|(name, holders)| tell(name, holders));
        }
    }
}

impl Subscriptions {
    /// Nobody's, for so many shards.
    pub fn new(shards: usize) -> Subscriptions {
        let names = [Names::new(STRIPES), Names::new(1), Names::new(STRIPES)];
        Subscriptions { names, backlogs: (0..shards).map(|_| Backlog::default()).collect() }
    }

    /// One more client of a shard subscribes to a name. Returns the name as it is kept: all who keep it
    /// share it.
    pub fn add(&self, kind: Kind, name: &[u8], shard: usize) -> Arc<[u8]> {
        let names = &self.names[kind as usize];
        let mut stripe = names.stripe(name).write().unwrap_or_else(PoisonError::into_inner);
        let kept = match stripe.get_key_value(name) {
            Some((kept, _)) => Arc::clone(kept),
            None => {
                names.len.fetch_add(1, Ordering::Release);
                Arc::from(name)
            }
        };
        let holders = stripe.entry(Arc::clone(&kept)).or_default();
        match holders.iter_mut().find(|(holder, _)| *holder == shard as u32) {
            Some((_, count)) => *count += 1,
            None => holders.push((shard as u32, 1)),
        }
        kept
    }

    /// A client of a shard has unsubscribed from a name.
    pub fn remove(&self, kind: Kind, name: &[u8], shard: usize) {
        let names = &self.names[kind as usize];
        let mut stripe = names.stripe(name).write().unwrap_or_else(PoisonError::into_inner);
        let Some(holders) = stripe.get_mut(name) else {
            return;
        };
        if let Some(at) = holders.iter().position(|(holder, _)| *holder == shard as u32) {
            holders[at].1 -= 1;
            if holders[at].1 == 0 {
                holders.swap_remove(at);
            }
        }
        if holders.is_empty() {
            stripe.remove(name);
            names.len.fetch_sub(1, Ordering::Release);
        }
    }

    /// How many names of a kind have subscribers.
    pub fn len(&self, kind: Kind) -> usize {
        self.names[kind as usize].len.load(Ordering::Acquire)
    }

    /// Whether nobody has subscribed to anything.
    pub fn is_empty(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| self.len(kind) == 0)
    }

    /// Tells the names of a kind.
    pub fn names(&self, kind: Kind, mut tell: impl FnMut(&[u8])) {
        self.names[kind as usize].each(|name, _| tell(name));
    }

    /// How many clients have subscribed to this very name.
    pub fn count(&self, kind: Kind, name: &[u8]) -> u64 {
        let sum = |holders: &Holders| holders.iter().map(|(_, count)| u64::from(*count)).sum();
        self.names[kind as usize].look(name, sum).unwrap_or_default()
    }

    /// The shards that a message goes to, and to how many clients of each: patterns count as clients of
    /// their own, as they get a message of their own.
    pub fn reach(&self, kind: Kind, channel: &[u8]) -> SmallVec<[(usize, u64); 8]> {
        let mut reached: SmallVec<[(usize, u64); 8]> = SmallVec::new();
        let mut add = |holders: &Holders| {
            for (shard, count) in holders {
                let (shard, count) = (*shard as usize, u64::from(*count));
                match reached.iter_mut().find(|(other, _)| *other == shard) {
                    Some((_, sum)) => *sum += count,
                    None => reached.push((shard, count)),
                }
            }
        };
        self.names[kind as usize].look(channel, &mut add);
        if kind == Kind::Channel {
            self.names[Kind::Pattern as usize].each(|pattern, holders| {
                if crate::base::glob::matches(pattern, channel, false) {
                    add(holders);
                }
            });
        }
        reached
    }

    /// So many bytes are on their way to a shard's clients. Returns whether those are too many now.
    pub fn add_to_backlog(&self, shard: usize, bytes: u64) -> bool {
        let before = self.backlogs[shard].0.fetch_add(bytes, Ordering::Relaxed);
        before + bytes > limits::PUSH_BACKLOG
    }

    /// So many of them have been handed over to be sent.
    pub fn take_from_backlog(&self, shard: usize, bytes: u64) {
        self.backlogs[shard].0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether some shard has too much to hand over to its clients.
    pub fn is_behind(&self) -> bool {
        self.backlogs.iter().any(|backlog| backlog.0.load(Ordering::Relaxed) > limits::PUSH_BACKLOG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_by_shard_and_forgets() {
        let all = Subscriptions::new(3);
        assert!(all.is_empty() && all.reach(Kind::Channel, b"news").is_empty());
        let kept = all.add(Kind::Channel, b"news", 0);
        assert!(Arc::ptr_eq(&kept, &all.add(Kind::Channel, b"news", 2)));
        all.add(Kind::Channel, b"news", 2);
        all.add(Kind::Pattern, b"n*", 1);
        all.add(Kind::Pattern, b"ne*", 2);
        all.add(Kind::Shard, b"news", 0);
        let mut reached = all.reach(Kind::Channel, b"news");
        reached.sort_unstable();
        assert_eq!(reached[..], [(0, 1), (1, 1), (2, 3)]);
        assert_eq!(all.reach(Kind::Channel, b"none")[..], [(1, 1)]);
        assert_eq!(all.reach(Kind::Shard, b"news")[..], [(0, 1)]);
        assert_eq!(all.reach(Kind::Shard, b"none")[..], []);
        assert_eq!((all.count(Kind::Channel, b"news"), all.len(Kind::Pattern)), (3, 2));
        for (kind, name, shard) in [
            (Kind::Channel, &b"news"[..], 2),
            (Kind::Channel, b"news", 0),
            (Kind::Pattern, b"n*", 1),
            (Kind::Pattern, b"ne*", 2),
            (Kind::Shard, b"news", 0),
            // It never was.
            (Kind::Shard, b"news", 0),
        ] {
            all.remove(kind, name, shard);
        }
        assert_eq!(all.reach(Kind::Channel, b"news")[..], [(2, 1)]);
        all.remove(Kind::Channel, b"news", 2);
        assert!(all.is_empty());
    }

    #[test]
    fn a_backlog_is_bounded() {
        let all = Subscriptions::new(2);
        assert!(!all.add_to_backlog(1, limits::PUSH_BACKLOG) && !all.is_behind());
        assert!(all.add_to_backlog(1, 1) && all.is_behind());
        all.take_from_backlog(1, limits::PUSH_BACKLOG + 1);
        assert!(!all.is_behind());
    }
}

//! The gate: how far what is ready of a client's replies may leave.
//!
//! There are two conditions, and every reply passes both in the order of its client's commands:
//! 1. **Published**: what its turn says to other shards is visible to them (rule 1 of [`super`]).
//! 2. **Safe**, where more is promised than that: all that it could tell of, on whatever shard that
//!    happened, will outlive what it is to outlive (a crash, once there is a log). How far that is so
//!    is said in stamps ([`Gate::is_safe_to`]): everything stamped up to one is safe. A reply that was
//!    made in a turn can tell of nothing that is stamped later than the turn's end.
//!
//! Publication comes turn by turn and for all clients alike, so it needs one flag. Safety comes
//! later, while new replies are made behind those that wait: each client then has an [`Exit`] with
//! marks, "up to here when that stamp is safe". Without the second condition there are none.
//!
//! Where there is the second condition, nobody may tell of what has not happened yet or is about to
//! leave elsewhere: lone replies come home ([`super::departure`]), and no reply is given before its
//! command has run everywhere.

use super::client::ClientKey;
use super::node::Node;
use super::rules::{Rule, broken};
use crate::resp::ReplyBuf;
use std::collections::VecDeque;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Gate {
    /// Whether some turn is not visible as a whole.
    is_unpublished: bool,
    /// The stamp of the last turn that has ended.
    stamp: u64,
    /// The stamp up to which everything is safe, where that is asked for.
    safe: Option<u64>,
    /// Clients that wait for safety, with the stamp that lets them go on, in the order of those.
    waiting: VecDeque<(u64, ClientKey)>,
}

/// How far one client's replies may leave, and when the rest. Empty while nothing waits for safety.
#[derive(Debug, Default)]
pub struct Exit {
    /// Bytes that have gone, counted over all of its time.
    gone: u64,
    /// Up to where, counted in the same way, replies may leave.
    open: u64,
    /// Up to where they may when a stamp is safe.
    marks: VecDeque<(u64, u64)>,
}

impl Gate {
    /// Asks for safety from now on.
    pub fn ask_for_safety(&mut self) {
        self.safe.get_or_insert(0);
    }

    /// Whether a reply has to wait for more than its turn's publication.
    #[inline]
    pub fn waits_for_safety(&self) -> bool {
        self.safe.is_some()
    }

    /// A turn has ended with a stamp, and all of it is visible, or not yet.
    pub fn turn_ended(&mut self, stamp: u64, is_visible: bool) {
        self.stamp = stamp;
        self.is_unpublished = !is_visible;
    }

    /// Whether all turns so far are visible.
    #[inline]
    pub fn is_published(&self) -> bool {
        !self.is_unpublished
    }

    /// Everything that is stamped up to here is safe. Returns the clients whose replies may have to
    /// go on.
    pub fn is_safe_to(&mut self, stamp: u64) -> impl Iterator<Item = ClientKey> {
        let safe = self.safe.insert(stamp.max(self.safe.unwrap_or_default()));
        let passed = self.waiting.partition_point(|(needed, _)| needed <= safe);
        self.waiting.drain(..passed).map(|(_, key)| key)
    }

    /// How much of what is ready of a client's replies may leave, between two turns. `ready` and what
    /// is returned are marks of the buffer they are in.
    #[inline]
    pub fn lets(&mut self, key: ClientKey, exit: &mut Option<Box<Exit>>, ready: usize) -> usize {
        if self.is_unpublished {
            return 0;
        }
        match self.safe {
            None => ready,
            Some(safe) => self.lets_what_is_safe(key, exit.get_or_insert_default(), ready, safe),
        }
    }

    #[cold]
    fn lets_what_is_safe(
        &mut self,
        key: ClientKey,
        exit: &mut Exit,
        ready: usize,
        safe: u64,
    ) -> usize {
        let end = exit.gone + ready as u64;
        if exit.marks.back().map_or(exit.open, |(upto, _)| *upto) < end {
            exit.marks.push_back((end, self.stamp));
            // Stamps of one shard's turns never fall.
            self.waiting.push_back((self.stamp, key));
        }
        while let Some((upto, _)) = exit.marks.front().filter(|(_, needed)| *needed <= safe) {
            exit.open = *upto;
            exit.marks.pop_front();
        }
        (exit.open - exit.gone) as usize
    }
}

impl Exit {
    /// So much of what was ready has left, or been handed to whoever sends it.
    pub fn left(&mut self, some: usize) {
        self.gone += some as u64;
    }
}

/// Cuts replies at a mark: the part before it is returned, the rest stays.
pub fn cut(replies: &mut ReplyBuf, upto: usize) -> ReplyBuf {
    let mut rest = ReplyBuf::default();
    if upto < replies.mark() {
        rest.append(replies, upto, replies.mark());
        replies.rewind(upto);
    }
    std::mem::replace(replies, rest)
}

impl Node {
    /// The gate that replies pass here.
    pub fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// How much of what is ready of a client's replies may leave: see [`Gate::lets`].
    #[inline]
    pub fn may_leave(&mut self, key: ClientKey, exit: &mut Option<Box<Exit>>) -> usize {
        let ready = self.client(key).map_or(0, |client| client.replies.out.mark());
        self.gate.lets(key, exit, ready)
    }

    /// Whether a reply may be given before its command has run everywhere.
    pub(super) fn answers_early(&self) -> bool {
        !self.gate.waits_for_safety() || broken(Rule::SafeAnswers)
    }

    /// Whether lone replies may leave elsewhere.
    pub(super) fn lends_outlets(&self) -> bool {
        !self.gate.waits_for_safety() || broken(Rule::SafeDepartures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const ONE: ClientKey = ClientKey { index: 1, generation: 1 };
    const TWO: ClientKey = ClientKey { index: 2, generation: 2 };

    #[test]
    fn what_is_not_published_stays() {
        let (mut gate, mut exit) = (Gate::default(), None);
        gate.turn_ended(1, false);
        assert_eq!((gate.is_published(), gate.lets(ONE, &mut exit, 10)), (false, 0));
        gate.turn_ended(2, true);
        assert_eq!((gate.is_published(), gate.lets(ONE, &mut exit, 10)), (true, 10));
        assert!(exit.is_none(), "nobody pays for what is not asked for");
    }

    #[test]
    fn what_is_not_safe_stays_and_goes_when_it_is() {
        let (mut gate, mut one, mut two) = (Gate::default(), None, None);
        gate.ask_for_safety();
        gate.turn_ended(10, true);
        assert_eq!((gate.lets(ONE, &mut one, 5), gate.lets(TWO, &mut two, 3)), (0, 0));
        gate.turn_ended(20, true);
        assert_eq!(gate.lets(ONE, &mut one, 8), 0);
        assert_eq!(gate.is_safe_to(15).collect::<Vec<_>>(), [ONE, TWO]);
        assert_eq!(gate.lets(ONE, &mut one, 8), 5);
        // It is still let until it leaves, if not all at once.
        one.as_mut().expect("it has waited").left(2);
        assert_eq!(gate.lets(ONE, &mut one, 6), 3);
        one.as_mut().expect("it has waited").left(3);
        assert_eq!(gate.lets(ONE, &mut one, 3), 0);
        // What is safe remains so.
        assert_eq!(gate.is_safe_to(12).count(), 0);
        assert_eq!(gate.lets(TWO, &mut two, 3), 3);
        assert_eq!(gate.is_safe_to(20).collect::<Vec<_>>(), [ONE]);
        assert_eq!(gate.lets(ONE, &mut one, 3), 3);
    }

    #[test]
    fn replies_are_cut_with_what_is_attached() {
        let mut replies = ReplyBuf::default();
        let long = Bytes::from_static(b"xxxx");
        for _ in 0..2 {
            replies.extend(b"$4\r\n");
            replies.attach(long.clone());
            replies.extend(b"\r\n");
        }
        let first = cut(&mut replies, 6);
        assert_eq!((first.len(), first.attached().len()), (10, 1));
        assert_eq!((replies.len(), replies.attached()[0].0), (10, 4));
        assert_eq!(cut(&mut replies, 6).len(), 10);
        assert!(replies.is_empty());
    }
}

//! A timer wheel: to set a timer, to cancel one and to find out that none is due cost the same
//! however many there are.
//!
//! Six levels of 64 slots. A slot of the lowest level is a millisecond; one of the next is as long
//! as the whole level below it. A timer lies in the level of the highest digit (to base 64) in which
//! its time differs from the wheel's; when the wheel comes to a slot of a higher level, the timers
//! in it move down. So a timer moves five times at most in its life, and most that are set for long
//! are cancelled before they move at all.
//!
//! It knows no clock: time is what [`Wheel::advance`] says, in milliseconds since whenever.

use slab::Slab;

const LEVELS: usize = 6;
/// Slots of a level, as a power of two: as many as a word has bits.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// What the whole wheel spans, in milliseconds: two years. What is due later moves round until its
/// time has come.
const SPAN: u64 = 1 << (SLOT_BITS * LEVELS as u32);
/// No timer.
const NONE: u32 = u32::MAX;

/// Names a timer that has been set, for [`Wheel::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    at: u32,
    /// Tells it from those that had its place before.
    count: u32,
}

#[derive(Debug)]
struct Timer<T> {
    due_ms: u64,
    what: T,
    count: u32,
    /// Where it lies: level and slot.
    place: (u8, u8),
    /// Its neighbours in the slot's list.
    before: u32,
    after: u32,
}

/// See the module's head.
#[derive(Debug)]
pub struct Wheel<T> {
    now_ms: u64,
    timers: Slab<Timer<T>>,
    /// The first timer of each slot.
    slots: Box<[[u32; SLOTS]; LEVELS]>,
    /// Which slots have timers, a bit each.
    occupied: [u64; LEVELS],
    count: u32,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Wheel {
            now_ms: 0,
            timers: Slab::new(),
            slots: Box::new([[NONE; SLOTS]; LEVELS]),
            occupied: [0; LEVELS],
            count: 0,
        }
    }
}

impl<T> Wheel<T> {
    /// Sets a timer. One whose time has passed already is due a millisecond from now.
    pub fn set(&mut self, due_ms: u64, what: T) -> TimerKey {
        self.count = self.count.wrapping_add(1);
        let count = self.count;
        let timer = Timer { due_ms, what, count, place: (0, 0), before: NONE, after: NONE };
        let at = self.timers.insert(timer) as u32;
        self.link(at);
        TimerKey { at, count }
    }

    /// Cancels a timer; what it was for, if it has not been due yet.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        self.timers.get(key.at as usize).filter(|timer| timer.count == key.count)?;
        self.unlink(key.at);
        Some(self.timers.remove(key.at as usize).what)
    }

    /// Moves on to a time, and adds what is due by then to `due`, the earlier first. Time that goes
    /// back stands still.
    pub fn advance(&mut self, now_ms: u64, due: &mut Vec<T>) {
        while let Some((at_ms, level, slot)) = self.next_slot()
            && at_ms <= now_ms
        {
            self.now_ms = at_ms;
            let mut at = std::mem::replace(&mut self.slots[level][slot], NONE);
            self.occupied[level] &= !(1 << slot);
            while at != NONE {
                let (after, is_due) = {
                    let timer = &self.timers[at as usize];
                    (timer.after, timer.due_ms <= at_ms)
                };
                if is_due {
                    due.push(self.timers.remove(at as usize).what);
                } else {
                    self.link(at);
                }
                at = after;
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Nothing is due before this time. (It may be earlier than the first timer's own: then some
    /// have to be moved down.)
    pub fn next_due_ms(&self) -> Option<u64> {
        self.next_slot().map(|(at_ms, ..)| at_ms)
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// The next slot that has timers, and when the wheel comes to it. It is of the lowest level that
    /// has any: all of a level's times come before those of the level above.
    fn next_slot(&self) -> Option<(u64, usize, usize)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let shift = SLOT_BITS * level as u32;
        let current = (self.now_ms >> shift) as usize % SLOTS;
        // The highest level is the only one that goes round: there the current slot is the last.
        let later = self.occupied[level].rotate_right((current as u32 + 1) % u64::BITS);
        let ahead = later.trailing_zeros() as usize + 1;
        let at_ms = ((self.now_ms >> shift) + ahead as u64) << shift;
        Some((at_ms, level, (current + ahead) % SLOTS))
    }

    /// Puts a timer into the slot where it belongs now.
    fn link(&mut self, at: u32) {
        let timer = &mut self.timers[at as usize];
        let due_ms = timer.due_ms.max(self.now_ms + 1).min(self.now_ms + SPAN - 1);
        let digit = (63 - ((due_ms ^ self.now_ms) | 1).leading_zeros()) / SLOT_BITS;
        let level = (digit as usize).min(LEVELS - 1);
        let slot = (due_ms >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let first = std::mem::replace(&mut self.slots[level][slot], at);
        timer.place = (level as u8, slot as u8);
        (timer.before, timer.after) = (NONE, first);
        if let Some(first) = self.timers.get_mut(first as usize) {
            first.before = at;
        }
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, at: u32) {
        let Timer { place: (level, slot), before, after, .. } = self.timers[at as usize];
        let (level, slot) = (usize::from(level), usize::from(slot));
        if let Some(after) = self.timers.get_mut(after as usize) {
            after.before = before;
        }
        match self.timers.get_mut(before as usize) {
            Some(before) => before.after = after,
            None => {
                self.slots[level][slot] = after;
                if after == NONE {
                    self.occupied[level] &= !(1 << slot);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Random;
    use std::collections::BTreeMap;

    #[test]
    fn timers_are_due_in_time() {
        let (mut wheel, mut due) = (Wheel::default(), Vec::new());
        wheel.advance(1_700_000_000_000, &mut due);
        let now = 1_700_000_000_000;
        assert_eq!(wheel.next_due_ms(), None);
        let cancelled = wheel.set(now + 5, "cancelled");
        for (after, what) in [(70, "b"), (69, "a"), (5_000, "c"), (0, "at once"), (300_000, "d")] {
            wheel.set(now + after, what);
        }
        assert_eq!(wheel.cancel(cancelled), Some("cancelled"));
        assert_eq!(wheel.cancel(cancelled), None);
        assert_eq!(wheel.next_due_ms(), Some(now + 1));
        wheel.advance(now + 68, &mut due);
        assert_eq!(std::mem::take(&mut due), ["at once"]);
        wheel.advance(now + 4_999, &mut due);
        assert_eq!(std::mem::take(&mut due), ["a", "b"]);
        // Time that goes back stands still.
        wheel.advance(now, &mut due);
        assert!(due.is_empty() && wheel.len() == 2);
        wheel.advance(now + 1_000_000, &mut due);
        assert_eq!(due, ["c", "d"]);
        assert!(wheel.is_empty());
    }

    /// Against a sorted map: random timers near and far, cancelled or not, time in random steps.
    #[test]
    fn it_is_a_sorted_map() {
        for seed in 1..60 {
            let mut random = Random::new(seed);
            let mut wheel = Wheel::default();
            let mut model: BTreeMap<(u64, usize), TimerKey> = BTreeMap::new();
            let mut now = random.below(1 << 40);
            wheel.advance(now, &mut Vec::new());
            for number in 0..2_000 {
                let range = 1 << random.below(40);
                match random.below(4) {
                    0 | 1 => {
                        let due_ms = now + random.below(range);
                        model.insert((due_ms.max(now + 1), number), wheel.set(due_ms, number));
                    }
                    2 if !model.is_empty() => {
                        let nth = random.below(model.len() as u64) as usize;
                        let (timer, key) = model.iter().nth(nth).map(|(t, k)| (*t, *k)).unwrap();
                        model.remove(&timer);
                        assert_eq!(wheel.cancel(key), Some(timer.1), "seed {seed}");
                        assert_eq!(wheel.cancel(key), None, "seed {seed}");
                    }
                    _ => {
                        now += random.below(range.min(1 << 30));
                        let mut due = Vec::new();
                        wheel.advance(now, &mut due);
                        let later = model.split_off(&(now + 1, 0));
                        let expected = std::mem::replace(&mut model, later);
                        let times: BTreeMap<usize, u64> =
                            expected.keys().map(|(due_ms, number)| (*number, *due_ms)).collect();
                        assert_eq!(due.len(), times.len(), "seed {seed}");
                        let order: Vec<u64> = due.iter().map(|number| times[number]).collect();
                        assert!(order.is_sorted(), "seed {seed}: {order:?}");
                    }
                }
                assert_eq!(wheel.len(), model.len(), "seed {seed}");
                let first = model.keys().next().map(|(due_ms, _)| *due_ms);
                assert_eq!(wheel.next_due_ms().is_some(), first.is_some(), "seed {seed}");
                assert!(wheel.next_due_ms() <= first, "seed {seed}: later than it is due");
                assert!(wheel.next_due_ms().is_none_or(|next_ms| next_ms > now), "seed {seed}");
            }
        }
    }
}

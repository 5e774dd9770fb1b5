//! When keys expire, at one byte per place.
//!
//! A segment that holds a key with an expiry keeps one code per place beside its buckets: a timing
//! wheel of four levels, written down per key instead of per slot of the wheel. A code names a tick
//! of its level:
//!
//! | level | tick | reaches |
//! |---|---|---|
//! | 0 | 128 ms | 8 s |
//! | 1 | 8.2 s | 8.6 min |
//! | 2 | 8.7 min | 9.2 h |
//! | 3 | 9.3 h | 24 days, and beyond: looked at again then |
//!
//! A pass over the table asks each segment whether a code is due; only then are its bytes looked
//! through, and only the keys with a due code are touched: those expire, or (from the levels above
//! 0) get a finer code. So a key with an expiry is touched at most four times in its life, and the
//! index costs 1 byte per place instead of 8 to 16 per key in a heap or a second table. Nothing has
//! to be found and removed when an expiry changes: the byte is overwritten.

/// Shift from milliseconds to ticks, per level.
const SHIFTS: [u32; 4] = [7, 13, 19, 25];
/// Codes per level. 4 × 63 = 252, and 0 says "does not expire".
const CODES: i64 = 63;

/// One code per place of a segment, and what a pass needs to skip the segment.
#[derive(Debug)]
pub struct Codes {
    codes: Box<[u8]>,
    /// Which codes may be present (a bit may outlive its last code until the next pass).
    present: [u64; 4],
    /// The time of the last pass in milliseconds; 0 before the first.
    passed_ms: i64,
}

/// The code for a key that expires at `at_ms`, as of `now_ms`.
#[inline]
pub fn code(at_ms: i64, now_ms: i64) -> u8 {
    // What is due already goes to the tick under way: the next pass but one finds it.
    let at_ms = at_ms.max(now_ms);
    for (level, shift) in SHIFTS.iter().enumerate() {
        let tick = at_ms >> shift;
        if tick - (now_ms >> shift) < CODES {
            return name(level, tick);
        }
    }
    name(SHIFTS.len() - 1, (now_ms >> SHIFTS[3]) + CODES - 1)
}

fn name(level: usize, tick: i64) -> u8 {
    (1 + level as i64 * CODES + tick.rem_euclid(CODES)) as u8
}

/// The codes that are due at `now_ms` and were not at `passed_ms`, as a bit per code.
fn due(passed_ms: i64, now_ms: i64) -> [u64; 4] {
    let mut bits = [0u64; 4];
    for (level, shift) in SHIFTS.iter().enumerate() {
        // Level 0 waits for its tick to end, when all its keys have expired. The others are looked
        // at when their tick begins, to be written down finer.
        let lag = i64::from(level == 0);
        let (from, to) = ((passed_ms >> shift) - lag, (now_ms >> shift) - lag);
        // Both ends: a key written down since the last pass may bear the tick under way.
        let from = from.max(to - CODES + 1);
        for tick in from..=to {
            let code = name(level, tick);
            bits[code as usize / 64] |= 1 << (code % 64);
        }
    }
    bits
}

impl Codes {
    /// Codes for so many places.
    pub fn new(places: usize) -> Codes {
        Codes { codes: vec![0; places].into(), present: [0; 4], passed_ms: 0 }
    }

    /// Bytes taken.
    pub fn memory(&self) -> usize {
        size_of::<Codes>() + self.codes.len()
    }

    /// The code at a place.
    pub fn get(&self, index: usize) -> u8 {
        self.codes[index]
    }

    /// Writes the code at a place.
    #[inline]
    pub fn set(&mut self, index: usize, code: u8) {
        self.codes[index] = code;
        self.present[code as usize / 64] |= 1 << (code % 64);
    }

    /// Takes over when the last pass was, from the codes these were copied from.
    pub fn seen_from(&mut self, old: &Codes) {
        self.passed_ms =
            if self.passed_ms == 0 { old.passed_ms } else { self.passed_ms.min(old.passed_ms) };
    }

    /// Appends the indices of the places that are due at `now_ms` to `found`.
    pub fn pass(&mut self, now_ms: i64, found: &mut Vec<usize>) {
        let due = due(self.passed_ms, now_ms);
        self.passed_ms = now_ms;
        if self.present.iter().zip(&due).all(|(present, due)| present & due == 0) {
            return;
        }
        for (present, due) in self.present.iter_mut().zip(&due) {
            *present &= !due;
        }
        let is_due = |code: u8| code != 0 && due[code as usize / 64] >> (code % 64) & 1 != 0;
        found.extend((0..self.codes.len()).filter(|i| is_due(self.codes[*i])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks a key through its life: it must never be found before its time ends unless to be
    /// written down finer, and be found within two ticks of level 0 after it.
    #[test]
    fn a_key_is_touched_a_few_times_and_found_in_time() {
        let start = 1_800_000_000_123;
        for ttl in [0, 1, 100, 128, 5_000, 8_063, 8_064, 60_000, 600_000, 7_200_000, 90_000_000] {
            let at = start + ttl;
            let (mut codes, mut found, mut touched) = (Codes::new(9), Vec::new(), 0);
            codes.pass(start, &mut found);
            codes.set(4, code(at, start));
            let mut now = start;
            loop {
                now += 97;
                codes.pass(now, &mut found);
                if found.is_empty() {
                    assert!(now < at + 300, "ttl {ttl}: not found {} ms late", now - at);
                    continue;
                }
                assert_eq!(found, [4]);
                found.clear();
                touched += 1;
                if now >= at {
                    break;
                }
                codes.set(4, code(at, now));
            }
            assert!(touched <= 4, "ttl {ttl}: touched {touched} times");
        }
    }

    #[test]
    fn a_long_gap_between_passes_loses_nothing() {
        let start = 1_800_000_000_000;
        for ttl in [1i64, 500, 8_000, 9_000, 500_000, 40_000_000, 4_000_000_000] {
            for gap in [10i64, 9_000, 600_000, 50_000_000, 5_000_000_000] {
                let (mut codes, mut found) = (Codes::new(1), Vec::new());
                codes.pass(start - gap, &mut found);
                codes.set(0, code(start + ttl, start));
                let mut now = start;
                let mut passes = 0;
                loop {
                    codes.pass(now, &mut found);
                    if !found.is_empty() {
                        found.clear();
                        if now >= start + ttl {
                            break;
                        }
                        codes.set(0, code(start + ttl, now));
                    }
                    assert!(now < start + ttl + gap + 300, "ttl {ttl} gap {gap}");
                    now += gap;
                    passes += 1;
                    if passes > 200_000 {
                        now = now.max(start + ttl - 2 * gap);
                    }
                }
            }
        }
    }
}

//! The table's hash: keyed per process, so that nobody outside can choose colliding keys.

use ahash::RandomState;
use std::sync::OnceLock;

/// Hashes a key with this process's random seed. Not stable between processes; the slot
/// ([`crate::base::slot`]) is what is stable.
#[inline]
pub fn of(key: &[u8]) -> u64 {
    state().hash_one(key)
}

/// The seeded state, for maps keyed by client bytes.
pub fn state() -> &'static RandomState {
    static STATE: OnceLock<RandomState> = OnceLock::new();
    STATE.get_or_init(|| {
        let mut seed = [0u8; 32];
        // A kernel without getrandom cannot run io_uring either; if it refuses all the same, the
        // seeds below still differ between processes through address-space randomisation.
        if getrandom::fill(&mut seed).is_err() {
            let here = std::ptr::from_ref(&STATE).addr() as u64;
            seed[..8].copy_from_slice(&here.to_le_bytes());
        }
        let word = |i: usize| {
            u64::from_le_bytes(seed[8 * i..8 * i + 8].try_into().expect("eight bytes of 32"))
        };
        RandomState::with_seeds(word(0), word(1), word(2), word(3))
    })
}

/// A small, fast generator for sampling (RANDOMKEY, eviction): xorshift64*, never for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that repeats its sequence for the same seed.
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound` (0 when `bound` is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

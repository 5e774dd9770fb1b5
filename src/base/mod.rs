//! Floor 0: what every other floor may use and nothing here knows about: numbers, hashes, slots,
//! glob patterns, quoted words, time, limits, and every error text.

pub mod clock;
pub mod doing;
pub mod error;
pub mod float;
pub mod glob;
pub mod hash;
pub mod key;
pub mod limits;
pub mod memory;
pub mod number;
pub mod proc;
pub mod slot;
pub mod ticks;
pub mod version;
pub mod wheel;
pub mod words;

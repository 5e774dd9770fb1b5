//! Floor 1: what a key can hold.

pub mod string;

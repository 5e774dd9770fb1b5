//! Replication with real servers on either side: Redshard with 1, 2 and 4 shards, and the Redis and Valkey
//! servers of this machine.
//!
//! Debian's Redis 7.0 is always among them. `REDSHARD_PEERS` names a directory with others, as for
//! `benches/versus`: with it, `cargo test --test replication` is the whole matrix.

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod failover;
mod faults;
mod hostile;
mod matrix;
mod mirror;
mod order;
mod primary;
mod proxy;
mod sentinel;

/// What a test's choices follow from; `REDSHARD_SEED` says otherwise.
fn seed() -> u64 {
    let seed = std::env::var("REDSHARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    eprintln!("REDSHARD_SEED={seed}");
    seed
}

/// Says that something is over when it goes, be it because a check has failed: those who wait for that end.
struct Over<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

//! What a shard is doing, for the report should it crash, and for who asks why it stalls: a few plain
//! stores per command, which hardly anybody ever reads.

use super::limits::SHARDS_MAX;
use std::cell::Cell;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// No command, and no shard.
pub const NONE: u16 = u16::MAX;

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    /// The shard it runs, or [`NONE`].
    pub shard: u16,
    /// The command, by its number, or [`NONE`].
    pub command: u16,
    /// The client it is run for, or 0: what comes from another shard does not carry it.
    pub client: u64,
}

/// One shard's, with its thread for only writer, a cache line apart from the next one's.
#[repr(align(128))]
struct Place {
    command: AtomicU16,
    client: AtomicU64,
}

impl Place {
    const fn empty() -> Place {
        Place { command: AtomicU16::new(NONE), client: AtomicU64::new(0) }
    }
}

static PLACES: [Place; SHARDS_MAX] = [const { Place::empty() }; SHARDS_MAX];
/// Where threads write that run no shard, such as those of a simulation; nobody reads it.
static NOWHERE: Place = Place::empty();

thread_local! {
    static PLACE: Cell<&'static Place> = const { Cell::new(&NOWHERE) };
    static SHARD: Cell<u16> = const { Cell::new(NONE) };
}

/// This thread runs a shard.
pub fn shard(number: usize) {
    if let Some(place) = PLACES.get(number) {
        PLACE.set(place);
        SHARD.set(number as u16);
    }
}

/// What follows is a command of a client.
#[inline]
pub fn command_of(command: u16, client: u64) {
    let place = PLACE.get();
    place.command.store(command, Ordering::Relaxed);
    place.client.store(client, Ordering::Relaxed);
}

/// What follows is a command that came from another shard, or a part of one.
#[inline]
pub fn command(command: u16) {
    PLACE.get().command.store(command, Ordering::Relaxed);
}

/// What follows is no command.
#[inline]
pub fn nothing() {
    command_of(NONE, 0);
}

/// What this thread is doing. Takes no lock and no memory, so that a signal handler may ask.
pub fn what() -> Doing {
    match SHARD.get() {
        NONE => Doing { shard: NONE, command: NONE, client: 0 },
        shard => what_of(usize::from(shard)),
    }
}

/// What a shard is doing, whoever asks.
pub fn what_of(shard: usize) -> Doing {
    let place = PLACES.get(shard).unwrap_or(&NOWHERE);
    let command = place.command.load(Ordering::Relaxed);
    Doing { shard: shard as u16, command, client: place.client.load(Ordering::Relaxed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_its_own() {
        let run = |number: usize| {
            move || {
                shard(number);
                command_of(7, 42);
                command(8);
                what()
            }
        };
        // Numbers that no other test of this process takes.
        let last = SHARDS_MAX - 1;
        let seen = std::thread::spawn(run(last)).join().expect("no panic");
        assert_eq!(seen, Doing { shard: last as u16, command: 8, client: 42 });
        assert_eq!(what_of(last), seen);
        assert_eq!(what_of(last - 1).command, NONE);
        // A thread without a shard is never doing anything.
        let nobody = Doing { shard: NONE, command: NONE, client: 0 };
        assert_eq!(std::thread::spawn(run(SHARDS_MAX)).join().expect("no panic"), nobody);
    }
}

//! What this thread is doing, for the report should it crash: a few plain stores per command, read
//! by nobody until then.

use std::cell::Cell;

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

// One cell each, so that a command's number is one store.
thread_local! {
    static SHARD: Cell<u16> = const { Cell::new(NONE) };
    static COMMAND: Cell<u16> = const { Cell::new(NONE) };
    static CLIENT: Cell<u64> = const { Cell::new(0) };
}

/// This thread runs a shard.
pub fn shard(number: usize) {
    SHARD.set(u16::try_from(number).unwrap_or(NONE));
}

/// What follows is a command of a client.
#[inline]
pub fn command_of(command: u16, client: u64) {
    COMMAND.set(command);
    CLIENT.set(client);
}

/// What follows is a command that came from another shard, or a part of one.
#[inline]
pub fn command(command: u16) {
    COMMAND.set(command);
}

/// What follows is no command.
#[inline]
pub fn nothing() {
    command_of(NONE, 0);
}

/// What this thread is doing. Takes no lock and no memory, so that a signal handler may ask.
pub fn what() -> Doing {
    Doing { shard: SHARD.get(), command: COMMAND.get(), client: CLIENT.get() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_its_own() {
        shard(3);
        command_of(7, 42);
        let other = std::thread::spawn(what).join().expect("no panic");
        assert_eq!(other, Doing { shard: NONE, command: NONE, client: 0 });
        command(8);
        assert_eq!(what(), Doing { shard: 3, command: 8, client: 42 });
        nothing();
        assert_eq!(what(), Doing { shard: 3, command: NONE, client: 0 });
    }
}

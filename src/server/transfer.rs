//! What is handed from one shard to another, or to the first from a thread that has made a connection:
//! rarely, so a lock will do. Who is handed something looks at its next turn, of which there is one a tick
//! at least; whoever can wake it does.

use crate::session::Session;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something that is handed over.
#[derive(Debug)]
pub enum Parcel {
    /// A client with its connection.
    Client(Box<Moved>),
    /// A connection to another server has been made, or has not.
    Connected(Connected),
}

/// A client that goes on with another shard.
#[derive(Debug)]
pub struct Moved {
    /// Its socket.
    pub fd: OwnedFd,
    /// What is remembered of it.
    pub session: Session,
    /// What it has sent and nobody has executed.
    pub input: Vec<u8>,
}

/// How an attempt to connect has come out.
#[derive(Debug)]
pub struct Connected {
    /// Which attempt.
    pub attempt: u64,
    /// The socket.
    pub result: io::Result<OwnedFd>,
}

/// The parcels that one shard has yet to take.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Shelf {
    is_empty: AtomicBool,
    parcels: Mutex<Vec<Parcel>>,
}

impl Shelf {
    /// An empty one.
    pub fn new() -> Shelf {
        Shelf { is_empty: AtomicBool::new(true), parcels: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Parcel>> {
        self.parcels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a parcel.
    pub fn put(&self, parcel: Parcel) {
        let mut parcels = self.lock();
        parcels.push(parcel);
        self.is_empty.store(false, Ordering::Release);
    }

    /// Takes all there are, in their order.
    #[inline]
    pub fn take(&self) -> Vec<Parcel> {
        if self.is_empty.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut parcels = self.lock();
        self.is_empty.store(true, Ordering::Release);
        std::mem::take(&mut *parcels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parcels_come_once_and_in_order() {
        let shelf = Shelf::new();
        assert!(shelf.take().is_empty());
        for attempt in 0..3 {
            let result = Err(io::ErrorKind::TimedOut.into());
            shelf.put(Parcel::Connected(Connected { attempt, result }));
        }
        let attempts: Vec<u64> = shelf
            .take()
            .iter()
            .map(|parcel| match parcel {
                Parcel::Connected(connected) => connected.attempt,
                Parcel::Client(_) => panic!("nobody moves"),
            })
            .collect();
        assert_eq!(attempts, [0, 1, 2]);
        assert!(shelf.take().is_empty());
    }
}

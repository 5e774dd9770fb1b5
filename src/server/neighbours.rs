//! What the shards of one process share on this floor: whom to wake, who has how many connections,
//! and how far they have come in ending together.

use super::quiescence::Votes;
use super::ring::Ring;
use super::transfer::{Parcel, Shelf};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};

/// No ring: not there yet, or closed.
const NONE: RawFd = -1;

/// What becomes of the last save before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastSave {
    /// That is not known yet.
    Undecided = 0,
    /// Every shard cuts, and gives its part.
    Begun = 1,
    /// It is over, or there is none: the server ends.
    Over = 2,
}

/// See the module's head.
#[derive(Debug)]
pub struct Neighbours {
    /// Each shard's ring, to be woken.
    rings: Vec<AtomicI32>,
    /// Connections each shard has or is about to get.
    loads: Vec<AtomicUsize>,
    /// What each shard has been handed and has not taken.
    shelves: Vec<Shelf>,
    /// The end: whether anything is under way,
    pub votes: Votes,
    /// what becomes of the last save: the number of the stop, and one of [`LastSave`],
    last_save: AtomicU64,
    /// whether some shard has ended without the others,
    has_failed: AtomicBool,
    /// how many have said all they will say and let go of what is others',
    gone: AtomicUsize,
    /// and the parts of multi-shard commands that they have sent out and that they have run.
    parts: [AtomicU64; 2],
}

impl Neighbours {
    /// For so many shards.
    pub fn new(shards: usize) -> Neighbours {
        Neighbours {
            rings: (0..shards).map(|_| AtomicI32::new(NONE)).collect(),
            loads: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            shelves: (0..shards).map(|_| Shelf::new()).collect(),
            votes: Votes::new(shards),
            last_save: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            gone: AtomicUsize::new(0),
            parts: Default::default(),
        }
    }

    /// How many shards there are.
    #[inline]
    pub fn count(&self) -> usize {
        self.rings.len()
    }

    // ---- whom to wake ------------------------------------------------------------------------

    /// A shard has its ring.
    pub fn arrive(&self, shard: usize, ring: &Ring) {
        self.rings[shard].store(ring.descriptor(), Ordering::Release);
    }

    /// Whether some shard has not made its ring yet.
    pub fn is_assembling(&self) -> bool {
        self.rings.iter().any(|ring| ring.load(Ordering::Acquire) == NONE)
    }

    /// Wakes a shard, through the ring of the one that calls.
    pub fn wake(&self, shard: usize, ring: &mut Ring) {
        let other = self.rings[shard].load(Ordering::Acquire);
        debug_assert!(other != NONE, "a wake of a shard whose ring is closed");
        if other != NONE {
            ring.wake(other);
        }
    }

    // ---- what is handed over -----------------------------------------------------------------

    /// Hands a shard something, which it finds at its next turn.
    pub fn hand_over(&self, shard: usize, parcel: Parcel) {
        self.shelves[shard].put(parcel);
    }

    /// What a shard has been handed since this was called last.
    #[inline]
    pub fn take_parcels(&self, shard: usize) -> Vec<Parcel> {
        self.shelves[shard].take()
    }

    // ---- who has how many connections --------------------------------------------------------

    /// A shard has a connection, or is about to get one.
    pub fn add_connection(&self, shard: usize) {
        self.loads[shard].fetch_add(1, Ordering::Relaxed);
    }

    /// It has it no more, or does not get it.
    pub fn remove_connection(&self, shard: usize) {
        self.loads[shard].fetch_sub(1, Ordering::Relaxed);
    }

    /// All connections.
    pub fn connections(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }

    /// The shard with the fewest.
    pub fn least_loaded(&self) -> usize {
        let loads = self.loads.iter().map(|load| load.load(Ordering::Relaxed));
        loads.enumerate().min_by_key(|(_, load)| *load).map_or(0, |(shard, _)| shard)
    }

    // ---- the end -----------------------------------------------------------------------------

    /// The first shard tells what becomes of the last save of a stop.
    pub fn tell_last_save(&self, stop: u64, last: LastSave) {
        self.last_save.store(stop << 2 | last as u64, Ordering::Release);
    }

    /// What becomes of the last save of a stop.
    pub fn last_save(&self, stop: u64) -> LastSave {
        let told = self.last_save.load(Ordering::Acquire);
        match told & 3 {
            _ if told >> 2 != stop => LastSave::Undecided,
            1 => LastSave::Begun,
            2 => LastSave::Over,
            _ => LastSave::Undecided,
        }
    }

    /// A shard has ended, or was never there: nobody waits for it any more.
    pub fn fail(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    /// Whether one has.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// A shard will not be woken any more and uses nothing that is another's. `parts`: those of
    /// multi-shard commands that it has sent out, and those that it has run.
    pub fn leave(&self, shard: usize, parts: (u64, u64)) {
        self.rings[shard].store(NONE, Ordering::Release);
        self.parts[0].fetch_add(parts.0, Ordering::AcqRel);
        self.parts[1].fetch_add(parts.1, Ordering::AcqRel);
        self.gone.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether all have left.
    pub fn have_left(&self) -> bool {
        self.gone.load(Ordering::Acquire) == self.count()
    }

    /// Once all have left: whether each multi-shard command has run on all of its shards.
    pub fn all_parts_have_run(&self) -> bool {
        self.parts[0].load(Ordering::Acquire) == self.parts[1].load(Ordering::Acquire)
    }
}

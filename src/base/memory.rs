//! Counts what the process has allocated, so that `used_memory` is what the data and the buffers
//! really take and `maxmemory` compares with the truth.
//!
//! Each thread counts for itself and settles with the shared total when it has drifted by
//! [`SETTLE`] bytes: an addition per allocation, an atomic per 64 KiB. So the total is exact to
//! within 64 KiB per thread.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// How far a thread may drift before it settles, in bytes.
const SETTLE: i64 = 64 * 1024;

static TOTAL: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static DRIFT: Cell<i64> = const { Cell::new(0) };
}

/// An allocator that counts what passes through it.
pub struct Counting<A>(pub A);

#[inline]
fn count(bytes: i64) {
    // A thread that is being torn down has no cell any more: its last bytes go to the total.
    let settled = DRIFT.try_with(|drift| {
        let now = drift.get() + bytes;
        if now.abs() < SETTLE {
            drift.set(now);
            return 0;
        }
        drift.set(0);
        now
    });
    let settled = settled.unwrap_or(bytes);
    if settled != 0 {
        let total = TOTAL.fetch_add(settled, Ordering::Relaxed) + settled;
        PEAK.fetch_max(total, Ordering::Relaxed);
    }
}

// SAFETY: (1) every call is forwarded unchanged to `A`, which upholds the contract; (2) counting
// neither allocates nor unwinds: the cell is const-initialised and has no destructor.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { self.0.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as in `alloc`.
        unsafe { self.0.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise that `at` came from here with `layout` is passed on.
        unsafe { self.0.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: as in `dealloc`, with the caller's promise about `size`.
        unsafe { self.0.realloc(at, layout, size) }
    }
}

/// Bytes allocated now, to within 64 KiB per thread.
pub fn used() -> u64 {
    TOTAL.load(Ordering::Relaxed).max(0) as u64
}

/// The most [`used`] has been since the start or the last [`reset_peak`].
pub fn peak() -> u64 {
    PEAK.load(Ordering::Relaxed).max(0) as u64
}

/// What the allocator has from the system and gives to us, in bytes; jemalloc's words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator {
    /// In allocations, rounded up to their classes.
    pub allocated: u64,
    /// In pages that hold at least one allocation.
    pub active: u64,
    /// In memory, kept pages without allocations and the allocator's own included.
    pub resident: u64,
    /// The allocator's own.
    pub metadata: u64,
}

/// The allocator's statistics, brought up to date: some ten microseconds. All zero where jemalloc is
/// not in use.
pub fn allocator() -> Allocator {
    use tikv_jemalloc_ctl::{epoch, stats};
    if epoch::advance().is_err() {
        return Allocator::default();
    }
    let bytes = |read: Result<usize, tikv_jemalloc_ctl::Error>| read.unwrap_or(0) as u64;
    Allocator {
        allocated: bytes(stats::allocated::read()),
        active: bytes(stats::active::read()),
        resident: bytes(stats::resident::read()),
        metadata: bytes(stats::metadata::read()),
    }
}

/// The allocator's own report.
pub fn report() -> Vec<u8> {
    use tikv_jemalloc_ctl::stats_print::{Options, stats_print};
    let mut text = Vec::new();
    // Writing into memory does not fail.
    let _ = stats_print(&mut text, Options::default());
    text
}

/// Gives kept pages without allocations back to the system. Returns whether the allocator would.
pub fn purge() -> bool {
    // All arenas: jemalloc's MALLCTL_ARENAS_ALL.
    let name = c"arena.4096.purge";
    // SAFETY: (1) the name ends with a zero byte; (2) this control takes and gives nothing, which is
    // what null pointers and lengths of zero say; (3) jemalloc locks what it works on.
    let refused = unsafe {
        tikv_jemalloc_sys::mallctl(
            name.as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        )
    };
    refused == 0
}

/// Starts the peak anew (CONFIG RESETSTAT does not; MEMORY PURGE and tests may).
pub fn reset_peak() {
    PEAK.store(TOTAL.load(Ordering::Relaxed), Ordering::Relaxed);
}

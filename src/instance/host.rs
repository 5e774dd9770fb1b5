//! What commands may ask of the world, which none of them knows: the time to the microsecond, to be
//! held up, an end, and a file. The floor that knows the world provides it; a simulation does without.

use super::Instance;
use crate::base::clock::Now;
use crate::base::error::Error;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::time::Duration;

/// See the module's head.
pub trait Host: Debug + Send + Sync {
    /// The wall clock now, not at the turn's beginning: microseconds since the Unix epoch.
    fn unix_us(&self) -> i64;

    /// Holds up the thread that asks.
    fn sleep(&self, time: Duration);

    /// Ends the process at once, as a crash does.
    fn abort(&self) -> !;

    /// Puts into a file what `change` makes of its text and of its path, links followed. At any time
    /// the file is the old one or the new one as a whole.
    ///
    /// # Errors
    /// When it cannot be read or written; then it is the old one.
    fn rewrite(&self, path: &Path, change: &dyn Fn(&[u8], &Path) -> Vec<u8>) -> io::Result<()>;
}

impl Instance {
    /// Says what the world is. The first to be told stays.
    pub fn set_host(&self, host: Box<dyn Host>) {
        let _ = self.host.set(host);
    }

    /// The world.
    ///
    /// # Errors
    /// Where there is none: in a simulation.
    pub fn host(&self) -> Result<&dyn Host, Error> {
        self.host.get().map(AsRef::as_ref).ok_or(Error::text("ERR not in a simulation"))
    }

    /// The wall clock now, in microseconds since the Unix epoch; in a simulation that of the turn.
    pub fn unix_us(&self, turn: Now) -> i64 {
        self.host.get().map_or(turn.unix_ms * 1000, |host| host.unix_us())
    }
}

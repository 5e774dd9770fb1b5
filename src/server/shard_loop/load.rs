//! The loop's half of a load: the first shard has the input, and every shard puts its part of it
//! ([`loader`] is how).
//!
//! A background task reads the file, piece by piece, as far ahead as its queue has room. While data is
//! being loaded nobody is served any, so a turn may give a load more time than clients otherwise leave
//! it: who asks for INFO waits that long.

use super::ShardLoop;
use crate::base::{clock, ticks};
use crate::instance::Instance;
use crate::instance::persistence::{Loaded, Loading};
use crate::persist::loader::{Hub, Options, Place, Said};
use crate::rdb::Fault;
use crate::server::background::Reading;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Time of a turn that a load may take, in nanoseconds.
const SLICE_NS: u64 = 2_000_000;
/// Bytes of the file that are read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Time between two lines about it in the log, in nanoseconds.
const REPORT_NS: u64 = 5_000_000_000;
/// What `key-load-delay` has not used of the time before is not made up for beyond this.
const LAG_NS: u64 = 10_000_000;

/// Why a load has failed.
#[derive(Debug, thiserror::Error)]
#[error("Can't load {path}: {reason}")]
pub struct LoadError {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("{0}")]
    Fault(Fault),
    #[error("{}", crate::config::value::io_reason(.0))]
    Read(io::Error),
}

/// A shard's part in loads.
pub struct Loads {
    place: Place,
    /// What is being loaded, on the first shard.
    current: Option<Load>,
    slice_ticks: u64,
}

impl Loads {
    /// None yet.
    pub(super) fn new(place: Place) -> Loads {
        Loads { place, current: None, slice_ticks: ticks::rate().ticks(SLICE_NS) }
    }

    /// Whether this shard has an input that is being loaded.
    #[inline]
    pub(super) fn is_reading(&self) -> bool {
        self.current.is_some()
    }

    /// Ends a load before its time: what has been loaded of it is of no use.
    pub(super) fn cut_short(&mut self) {
        if let Some(load) = self.current.take() {
            load.input.pieces.end();
        }
    }
}

/// What a load is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The server has just been started.
    Start,
    /// A client waits for it (DEBUG RELOAD).
    Reload,
    /// It is the data of the primary that this server follows.
    Follow,
}

/// A load that is over: what it was for, and how it has come out.
type Ended = (Purpose, Result<Loaded, LoadError>);

/// An input that is being loaded.
struct Load {
    purpose: Purpose,
    /// What it is called: a file's path, or the primary.
    path: PathBuf,
    hub: Hub,
    input: Rc<Reading>,
    began_ns: u64,
    reported_ns: u64,
    /// Why the rest of the file cannot be had.
    unreadable: Option<Reason>,
    /// Until when the keys that were cut have been delayed (`key-load-delay`).
    delayed_ns: u64,
}

impl Load {
    fn new(purpose: Purpose, path: &Path, hub: Hub, input: Rc<Reading>, now_ns: u64) -> Load {
        Load {
            purpose,
            path: path.to_owned(),
            hub,
            input,
            began_ns: now_ns,
            reported_ns: now_ns,
            unreadable: None,
            delayed_ns: now_ns,
        }
    }

    /// Gives the hub more of the input, if there is. Returns whether it is to look again.
    fn feed(&mut self) -> Result<bool, Reason> {
        if let Some(piece) = self.input.pieces.take() {
            self.hub.push(&piece);
            return Ok(true);
        }
        if let Some(result) = self.input.result() {
            result.map_err(Reason::Read)?;
            self.hub.end();
            return Ok(true);
        }
        Ok(false)
    }

    /// How many keys may be cut by now, where each is delayed: microseconds a key or, if negative,
    /// keys a microsecond.
    fn allowance(&mut self, delay: i64, now_ns: u64) -> usize {
        let per_key_ns = per_key_ns(delay);
        if per_key_ns == 0 {
            return usize::MAX;
        }
        self.delayed_ns = self.delayed_ns.max(now_ns.saturating_sub(LAG_NS));
        usize::try_from(now_ns.saturating_sub(self.delayed_ns) / per_key_ns).unwrap_or(usize::MAX)
    }

    /// Tells everybody how far it is, and the log now and then.
    fn report(&mut self, instance: &Instance, now_ns: u64) {
        let (bytes, so_far) = self.hub.progress();
        let maker_used_bytes = self.hub.maker_used_bytes();
        let total = instance.tell_persistence(|state| {
            let loading = state.loading.as_mut()?;
            (loading.bytes, loading.so_far) = (bytes, so_far);
            loading.maker_used_bytes = maker_used_bytes;
            loading.total_bytes
        });
        if now_ns - self.reported_ns >= REPORT_NS {
            self.reported_ns = now_ns;
            let percent = total.map_or(0, |total| bytes.saturating_mul(100) / total.max(1));
            let keys = so_far.keys;
            tracing::info!("Loading {}: {percent} %, {keys} keys so far", self.path.display());
        }
    }
}

/// Nanoseconds that `key-load-delay` makes of each key.
fn per_key_ns(delay: i64) -> u64 {
    match delay {
        0 => 0,
        us @ 1.. => us.unsigned_abs() * 1000,
        per_us => 1000 / per_us.unsigned_abs(),
    }
}

impl ShardLoop {
    /// Begins to load a file, on the first shard: from now on everybody is told so who wants data.
    pub(super) fn begin_load(&mut self, purpose: Purpose, path: &Path, options: Options) {
        let total_bytes = std::fs::metadata(path).ok().filter(|file| file.is_file());
        let total_bytes = total_bytes.map(|file| file.len());
        let input = self.background.read(path, PIECE_BYTES);
        self.begin_load_of(purpose, path, input, total_bytes, options);
    }

    /// Begins to load an input, of so many bytes if that is known. `name` is what it is called.
    pub(super) fn begin_load_of(
        &mut self,
        purpose: Purpose,
        name: &Path,
        input: Rc<Reading>,
        total_bytes: Option<u64>,
        options: Options,
    ) {
        self.announce_loading(false);
        self.instance.tell_persistence(|state| {
            if let Some(loading) = &mut state.loading {
                loading.total_bytes = total_bytes;
            }
        });
        let databases = usize::from(self.instance.config().databases());
        let layout = std::sync::Arc::clone(&self.instance.layout);
        let hub = Hub::new(total_bytes, options, layout, databases);
        let load = Load::new(purpose, name, hub, input, clock::monotonic_ns());
        self.load.current = Some(load);
    }

    /// From the next turn on, every shard refuses what needs data, unless it is loaded beside what there is.
    pub(super) fn announce_loading(&self, is_beside: bool) {
        self.instance.tell_persistence(|state| {
            let began_us = clock::unix_us();
            let loading = Loading { began_us, is_beside, ..Loading::default() };
            state.loading.get_or_insert(loading);
        });
    }

    /// This shard's part of a load. Returns whether there is more to do at once, and, on the first
    /// shard, how the load has come out when it is over.
    fn load_turn(&mut self) -> (bool, Option<Ended>) {
        let until = ticks::now() + self.load.slice_ticks;
        let is_late = || ticks::now() >= until;
        let ways = match &mut self.load.place {
            Place::Hub(ways) => ways,
            Place::Seat(seat) => {
                let (is_busy, has_returned) = seat.turn(self.node.shard(), is_late);
                if has_returned {
                    self.neighbours.wake(0, &mut self.ring);
                }
                return (is_busy, None);
            }
        };
        let Some(mut load) = self.load.current.take() else { return (false, None) };
        let now_ns = clock::monotonic_ns();
        let delay = self.instance.config().key_load_delay();
        let allowed = load.allowance(delay, now_ns);
        let (mut allowance, mut is_busy) = (allowed, true);
        let mut handed = Vec::new();
        while is_busy && !is_late() {
            let shard = self.node.shard();
            let turn = load.hub.turn(ways, shard, &mut allowance, is_late);
            handed.extend(turn.handed);
            is_busy = turn.is_busy;
            if turn.is_hungry && load.unreadable.is_none() {
                match load.feed() {
                    Ok(has_more) => is_busy |= has_more,
                    Err(reason) => {
                        // What other shards have is theirs until they have put it.
                        load.unreadable = Some(reason);
                        load.hub.end();
                    }
                }
            }
        }
        load.delayed_ns += (allowed - allowance) as u64 * per_key_ns(delay);
        handed.sort_unstable();
        handed.dedup();
        for shard in handed {
            self.neighbours.wake(shard, &mut self.ring);
        }
        load.report(&self.instance, now_ns);
        if let Some(outcome) = load.hub.outcome() {
            let outcome = match load.unreadable.take() {
                Some(reason) => Err(reason),
                None => outcome.map_err(Reason::Fault),
            };
            return (false, Some((load.purpose, self.end_load(load, outcome))));
        }
        self.load.current = Some(load);
        (is_busy, None)
    }

    /// A load is over. After one that has failed the server is loading for ever: what is there is not
    /// what was to be.
    fn end_load(
        &mut self,
        load: Load,
        outcome: Result<(Loaded, Said), Reason>,
    ) -> Result<Loaded, LoadError> {
        load.input.pieces.end();
        let (loaded, said) = match outcome {
            Ok(outcome) => outcome,
            Err(reason) => return Err(LoadError { path: load.path, reason }),
        };
        let Loaded { keys, expired } = loaded;
        tracing::info!("Done loading RDB, keys loaded: {keys}, keys expired: {expired}.");
        if said.skipped > 0 {
            tracing::warn!("Skipped {} pieces of data that belong to modules", said.skipped);
        }
        let seconds = (clock::monotonic_ns() - load.began_ns) as f64 / 1e9;
        tracing::info!("DB loaded from disk: {seconds:.3} seconds");
        self.follow_loaded_history(load.purpose == Purpose::Start, &said);
        self.instance.tell_persistence(|state| {
            (state.loading, state.last_load) = (None, loaded);
            for code in said.functions {
                if !state.functions.contains(&code) {
                    state.functions.push(code);
                }
            }
        });
        Ok(loaded)
    }

    /// Loads what was saved before this process began, if anything was; then lets clients have it.
    pub(super) fn load_at_start(&mut self) {
        let config = self.instance.config();
        let path = config.dir().join(config.dbfilename());
        let options =
            Options { verifies: config.rdbchecksum(), replaces: false, drops_expired: true };
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.begin_to_serve(),
            _ => self.begin_load(Purpose::Start, &path, options),
        }
    }

    /// The data is there, or there is none.
    fn begin_to_serve(&mut self) {
        if !self.follow_as_configured() {
            self.open();
        }
    }

    /// The data is there.
    pub(super) fn open(&self) {
        if let Some(acceptor) = &self.acceptor {
            acceptor.open(&self.instance);
        }
    }

    /// What a turn does about a load. Returns whether there is more to do at once.
    pub(super) fn load(&mut self) -> bool {
        let (is_busy, outcome) = self.load_turn();
        match outcome {
            None => {}
            Some((Purpose::Follow, outcome)) => self.primary_loaded(outcome),
            Some((Purpose::Reload, Ok(_))) => self.end_reload(Ok(())),
            Some((Purpose::Start, Ok(_))) => self.begin_to_serve(),
            Some((_, Err(error))) => {
                // Nothing of it is ever served: all shards end.
                self.load_error = Some(error);
                self.neighbours.fail();
                self.instance.give_up();
            }
        }
        is_busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_so_long_a_key_or_so_many_keys_a_microsecond() {
        assert_eq!([0, 1, 50, -1, -10, -5000].map(per_key_ns), [0, 1000, 50_000, 1000, 100, 0]);
        assert_eq!(per_key_ns(i64::from(i32::MIN)), 0);
    }
}

//! Saving and loading as all of the process sees it: what is under way, how the last ones went, and
//! what that means for commands. One shard drives a save or a load and tells here how it goes;
//! everybody may look.

use super::Instance;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// See the module's head.
#[derive(Debug, Default)]
pub struct Persistence {
    state: Mutex<State>,
    is_loading: AtomicBool,
    is_filling: AtomicBool,
    has_failed: AtomicBool,
}

/// All of it, as of one moment.
#[derive(Clone, Debug)]
pub struct State {
    /// What is being loaded.
    pub loading: Option<Loading>,
    /// Keys that the last load put, and those that it left out because their time had passed.
    pub last_load: Loaded,
    /// What is being saved.
    pub saving: Option<Saving>,
    /// Whether a save begins as soon as the one under way is over (BGSAVE SCHEDULE).
    pub is_scheduled: bool,
    /// When the last save that succeeded did, in seconds since the Unix epoch; the start of the
    /// process if there was none.
    pub last_save_s: i64,
    /// When the last one was begun, successful or not, in seconds since the Unix epoch.
    pub last_try_s: i64,
    /// How long the last one in the background took, in seconds.
    pub last_took_s: Option<i64>,
    /// Whether the last one in the background succeeded (true if there was none).
    pub is_last_fine: bool,
    /// Saves that succeeded since the start.
    pub saves: u64,
    /// Bytes that the last one had at most to keep of keys that changed meanwhile.
    pub last_cow_bytes: u64,
    /// Changes to the data up to the last save that succeeded, of all there have been
    /// ([`crate::metrics::ShardMetrics::dirty`]).
    pub saved_changes: u64,
    /// Libraries of functions, which are kept as they came and saved again.
    pub functions: Vec<Bytes>,
}

impl Default for State {
    fn default() -> State {
        State {
            loading: None,
            last_load: Loaded::default(),
            saving: None,
            is_scheduled: false,
            last_save_s: 0,
            last_try_s: 0,
            last_took_s: None,
            is_last_fine: true,
            saves: 0,
            last_cow_bytes: 0,
            saved_changes: 0,
            functions: Vec::new(),
        }
    }
}

/// A load under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loading {
    /// When it began, microseconds since the Unix epoch.
    pub began_us: i64,
    /// Whether it is loaded beside the data that there is, which is served meanwhile.
    pub is_beside: bool,
    /// Bytes of the whole, if that is known.
    pub total_bytes: Option<u64>,
    /// Bytes so far.
    pub bytes: u64,
    /// Memory that its maker used, in bytes, as the file says; 0 if it does not.
    pub maker_used_bytes: u64,
    /// What has been done so far.
    pub so_far: Loaded,
}

/// What a load has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Keys that were put.
    pub keys: u64,
    /// Keys that were left out because their time had passed.
    pub expired: u64,
}

/// A save under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saving {
    /// When it began, microseconds since the Unix epoch.
    pub began_us: i64,
    /// Whether somebody waits for it: SAVE, or the end of the server.
    pub is_waited_for: bool,
    /// Keys there were at its beginning.
    pub keys_total: u64,
    /// Keys of those that have been saved.
    pub keys: u64,
    /// Bytes written so far.
    pub bytes: u64,
    /// Bytes that are kept now of keys that have changed since its beginning.
    pub cow_bytes: u64,
    /// The most that these have been.
    pub cow_bytes_max: u64,
}

impl Persistence {
    /// Of a process that has started at a time, in seconds since the Unix epoch.
    pub(super) fn new(started_s: i64) -> Persistence {
        let state = State { last_save_s: started_s, ..State::default() };
        Persistence { state: Mutex::new(state), ..Persistence::default() }
    }

    /// All of it, as of now.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether data is being loaded: then only commands run that may.
    #[inline]
    pub fn is_loading(&self) -> bool {
        self.is_loading.load(Ordering::Acquire)
    }

    /// Whether data is being loaded, be it beside what there is.
    #[inline]
    pub fn is_filling(&self) -> bool {
        self.is_filling.load(Ordering::Acquire)
    }

    /// Whether the last save in the background failed.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }
}

impl Instance {
    /// Saving and loading.
    pub fn persistence(&self) -> &Persistence {
        &self.persistence
    }

    /// Tells how a save or a load goes. All shards will notice if it means something for commands.
    pub fn tell_persistence<R>(&self, tell: impl FnOnce(&mut State) -> R) -> R {
        let Persistence { state, is_loading, is_filling, has_failed } = &self.persistence;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = tell(&mut state);
        let (filling, failed) = (state.loading.is_some(), !state.is_last_fine);
        let loading = state.loading.is_some_and(|loading| !loading.is_beside);
        is_filling.store(filling, Ordering::Release);
        let changed = is_loading.swap(loading, Ordering::AcqRel) != loading;
        if has_failed.swap(failed, Ordering::AcqRel) != failed || changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::instance::Identity;

    #[test]
    fn shards_notice_what_means_something_for_commands() {
        let identity = Identity { run_id: String::new(), started_us: 0, executable: String::new() };
        let instance = Instance::new(Config::default(), 1, 1, identity);
        let generation = instance.generation();
        instance.tell_persistence(|state| state.saves += 1);
        assert_eq!(instance.generation(), generation);
        instance.tell_persistence(|state| state.loading = Some(Loading::default()));
        assert!(instance.persistence().is_loading() && instance.generation() > generation);
        instance.tell_persistence(|state| (state.loading, state.is_last_fine) = (None, false));
        assert!(!instance.persistence().is_loading() && instance.persistence().has_failed());
        assert_eq!(instance.persistence().state().saves, 1);
    }
}

//! Floor 3: the process as its shards share it: configuration, counters, who monitors and who has
//! subscribed, who pauses, and requests to stop. Nothing on the path of a data command touches its locks.

mod drill;
mod host;
pub mod monitors;
mod pause;
pub mod persistence;
pub mod replication;
mod stop;
pub mod subscriptions;

pub use drill::Drill;
pub use host::Host;
pub use pause::Pause;
pub use persistence::Persistence;
pub use replication::Replication;
pub use stop::Shutdown;

use crate::base::error::Error;
use crate::base::slot::Layout;
use crate::config::{Config, ConfigError};
use crate::metrics::Metrics;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// What a change of the configuration means for sockets, descriptors and the log. The floor that
/// knows them provides it.
pub trait ApplyConfig: std::fmt::Debug + Send + Sync {
    /// Brings them in line with `to`, or leaves them as they are.
    ///
    /// # Errors
    /// When the system refuses; the change is refused then.
    fn apply(&self, from: &Config, to: &Config) -> Result<(), ConfigError>;
}

/// What all shards share: the configuration, the counters, and requests to the process. Nothing on
/// the path of a data command touches its lock.
#[derive(Debug)]
pub struct Instance {
    config: Mutex<Arc<Config>>,
    /// Counts changes of the configuration, so that shards notice them.
    generation: AtomicU64,
    /// Which shard owns which slot.
    pub layout: Arc<Layout>,
    /// Per-shard counters.
    pub metrics: Metrics,
    /// Who monitors.
    pub monitors: monitors::Monitors,
    /// Who has subscribed to what.
    pub subscriptions: subscriptions::Subscriptions,
    /// Whether expired keys are looked for (DEBUG SET-ACTIVE-EXPIRE).
    active_expire: AtomicBool,
    stop: stop::Stop,
    next_client: AtomicU64,
    drill: Drill,
    /// Until when all shards do nothing, microseconds since the Unix epoch.
    held_until_us: AtomicI64,
    persistence: Persistence,
    replication: Replication,
    pauses: pause::Pauses,
    /// Who brings sockets and files in line with the configuration.
    applier: OnceLock<Box<dyn ApplyConfig>>,
    /// What commands may ask of the world.
    host: OnceLock<Box<dyn Host>>,
    /// The process's identity, for INFO.
    pub identity: Identity,
}

/// What does not change while the process lives.
#[derive(Debug)]
pub struct Identity {
    /// 40 hexadecimal digits, new with every start.
    pub run_id: String,
    /// When the process started, microseconds since the Unix epoch.
    pub started_us: i64,
    /// The executable's path.
    pub executable: String,
}

impl Instance {
    /// An instance of `shards` shards, where there are so many commands to be counted.
    pub fn new(config: Config, shards: usize, commands: usize, identity: Identity) -> Instance {
        let metrics = Metrics::new(shards, usize::from(config.databases()), commands);
        Instance {
            config: Mutex::new(Arc::new(config)),
            generation: AtomicU64::new(1),
            layout: Arc::new(Layout::even(shards)),
            metrics,
            monitors: monitors::Monitors::default(),
            subscriptions: subscriptions::Subscriptions::new(shards),
            active_expire: AtomicBool::new(true),
            stop: stop::Stop::default(),
            next_client: AtomicU64::new(1),
            drill: Drill::default(),
            held_until_us: AtomicI64::new(0),
            persistence: Persistence::new(identity.started_us / 1_000_000),
            replication: Replication::new(identity.run_id.clone()),
            pauses: pause::Pauses::default(),
            applier: OnceLock::new(),
            host: OnceLock::new(),
            identity,
        }
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<Config> {
        match self.config.lock() {
            Ok(config) => Arc::clone(&config),
            // Who panicked while holding it had not yet replaced the old one.
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }

    /// Counts changes of the configuration.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Says who brings sockets and files in line with the configuration. The first to be told stays.
    pub fn set_applier(&self, applier: Box<dyn ApplyConfig>) {
        let _ = self.applier.set(applier);
    }

    /// Changes the configuration as a whole, or, when `change` fails or the [`ApplyConfig`] cannot follow,
    /// not at all.
    ///
    /// # Errors
    /// What `change` or the [`ApplyConfig`] returns.
    pub fn reconfigure(
        &self,
        change: impl FnOnce(&mut Config) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut current = match self.config.lock() {
            Ok(config) => config,
            Err(poisoned) => poisoned.into_inner(),
        };
        let mut next = Config::clone(&current);
        change(&mut next)?;
        if let Some(applier) = self.applier.get() {
            applier.apply(&current, &next).map_err(|error| Error::owned(error.to_string()))?;
        }
        *current = Arc::new(next);
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Whether expired keys are looked for.
    pub fn active_expire(&self) -> bool {
        self.active_expire.load(Ordering::Relaxed)
    }

    /// Says whether expired keys are looked for.
    pub fn set_active_expire(&self, on: bool) {
        self.active_expire.store(on, Ordering::Relaxed);
        // Shards follow it like a change of configuration.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Holds up the server (DEBUG SLEEP): the thread that asks at once, the other shards' as soon as they
    /// look.
    ///
    /// # Errors
    /// When there is no world to sleep in.
    pub fn hold_up(&self, time: Duration) -> Result<(), Error> {
        let host = self.host()?;
        let time_us = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let until_us = host.unix_us().saturating_add(time_us);
        self.held_until_us.fetch_max(until_us, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Release);
        host.sleep(time);
        Ok(())
    }

    /// Sleeps as long as the server is held up.
    pub fn sleep_while_held(&self) {
        let until_us = self.held_until_us.load(Ordering::Relaxed);
        if until_us > 0
            && let Ok(host) = self.host()
            && let Ok(left_us) = u64::try_from(until_us - host.unix_us())
        {
            host.sleep(Duration::from_micros(left_us));
        }
    }

    /// A client id that no other client has had.
    pub fn next_client(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }
}

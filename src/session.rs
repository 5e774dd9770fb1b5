//! Floor 3: what one client remembers between commands, and what a command that concerns the
//! connection or the server may see and ask for.

pub mod monitors;
mod pause;

pub use pause::Pause;

use crate::base::clock::Now;
use crate::base::error::Error;
use crate::config::typed::ClientClass;
use crate::config::{Config, ConfigError};
use crate::metrics::Metrics;
use crate::resp::Span;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// One client's state.
#[derive(Debug)]
pub struct Session {
    /// Unique for the life of the process.
    pub id: u64,
    /// The selected database.
    pub db: usize,
    /// Whether it speaks RESP3.
    pub resp3: bool,
    /// Whether it may use commands (always, without `requirepass`).
    pub authenticated: bool,
    /// Whether it ever might: then its replies are not bounded as a stranger's are.
    pub was_trusted: bool,
    /// Whose limits count for it. (Nobody is a replica or a subscriber yet.)
    pub class: ClientClass,
    /// What CLIENT REPLY has set.
    pub reply_mode: ReplyMode,
    /// The transaction being queued.
    pub multi: Option<Box<Queue>>,
    /// The keys it watches.
    pub watched: Vec<Watch>,
    /// Whether it monitors: it is shown every command.
    pub monitor: bool,
    /// Whether it is to be closed, and when.
    pub close: Close,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// CLIENT CAPA REDIRECT.
    pub redirects: bool,
    /// CLIENT IMPORT-SOURCE.
    pub import_source: bool,
    /// READONLY.
    pub read_only: bool,
    /// Whether its next command waits for the end of a CLIENT PAUSE.
    pub postponed: bool,
    /// When it connected, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When its last command came, milliseconds since the Unix epoch.
    pub active_ms: i64,
    /// Its last command, by number in [`crate::command::all`].
    pub last_command: Option<u16>,
    /// Names and addresses, which few look at.
    pub about: Box<About>,
    /// Sizes of its buffers, kept up to date by the floor that has them.
    pub traffic: Traffic,
}

/// What a client says about itself, and where it is.
#[derive(Debug, Default)]
pub struct About {
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: Vec<u8>,
    /// `address:port` of the client, or the socket's path and `:0`.
    pub addr: String,
    /// `address:port` that it reached.
    pub laddr: String,
    /// The number CLIENT LIST shows as `fd`.
    pub fd: i64,
}

/// Sizes and counts that CLIENT LIST shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Bytes of input not executed yet.
    pub query: usize,
    /// Bytes allocated for input.
    pub query_capacity: usize,
    /// Bytes of replies not sent yet.
    pub output: usize,
    /// Bytes allocated for the replies that are written next.
    pub output_capacity: usize,
    /// Bytes received in all.
    pub received: u64,
    /// Bytes sent in all.
    pub sent: u64,
    /// Commands executed.
    pub commands: u64,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// Replies are sent.
    #[default]
    On,
    /// None is.
    Off,
    /// The next command's is not (and SKIP's own is not either).
    SkipNext,
    /// This command's is not.
    Skip,
}

/// Whether and when a connection ends by the server's wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Close {
    /// It does not.
    #[default]
    No,
    /// Once all replies have been sent; nothing more is executed.
    AfterReplies,
    /// At once.
    Now,
}

/// A watched key and what it was like when the watch began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its database.
    pub db: usize,
    /// Its name.
    pub key: Box<[u8]>,
    /// The version that its owner told.
    pub version: u64,
}

/// The commands queued since MULTI.
#[derive(Debug, Default)]
pub struct Queue {
    /// The commands, in order.
    pub calls: Vec<Call>,
    /// Whether queueing one failed: EXEC will abort.
    pub failed: bool,
    /// Bytes of all arguments.
    pub bytes: usize,
}

/// One queued command with arguments of its own.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which.
    pub command: &'static crate::command::Command,
    /// Its arguments' bytes.
    pub bytes: Vec<u8>,
    /// Where each argument lies in them.
    pub spans: Vec<Span>,
}

impl Session {
    /// A client that has just connected.
    pub fn new(id: u64, now: Now, config: &Config, about: About) -> Session {
        Session {
            id,
            db: 0,
            resp3: false,
            authenticated: config.requirepass().is_empty(),
            was_trusted: config.requirepass().is_empty(),
            class: ClientClass::Normal,
            reply_mode: ReplyMode::On,
            multi: None,
            watched: Vec::new(),
            monitor: false,
            close: Close::No,
            no_evict: false,
            no_touch: false,
            redirects: false,
            import_source: false,
            read_only: false,
            postponed: false,
            created_ms: now.unix_ms,
            active_ms: now.unix_ms,
            last_command: None,
            about: Box::new(about),
            traffic: Traffic::default(),
        }
    }

    /// Bytes that the client makes the server use: what it has sent and what it is owed, queued
    /// commands, watched keys, and what the server knows about it.
    pub fn memory(&self) -> usize {
        let about = &*self.about;
        let texts = about.name.capacity() + about.lib_name.capacity() + about.lib_ver.capacity();
        let (addresses, queued) = (about.addr.capacity() + about.laddr.capacity(), self.queued());
        size_of::<Session>()
            + size_of_val(about)
            + texts
            + addresses
            + self.traffic.query_capacity
            + self.traffic.output.max(self.traffic.output_capacity)
            + queued
            + self.watched.capacity() * (size_of::<Watch>() + NAME_BYTES)
    }

    /// Bytes of queued commands.
    pub fn queued(&self) -> usize {
        self.multi.as_deref().map_or(0, |queue| queue.bytes)
    }
}

/// What a watched key's name is taken for, so that nobody has to add them up.
const NAME_BYTES: usize = 32;

/// What a session command sees of the server.
#[derive(Debug)]
pub struct Env<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// The configuration to change, and the process-wide requests.
    pub server: &'a Server,
    /// This turn's time.
    pub now: Now,
}

/// What a change of the configuration means outside: sockets, descriptors. The floor that knows them
/// provides it.
pub trait World: std::fmt::Debug + Send + Sync {
    /// Brings the outside in line with `to`, or leaves it as it is.
    ///
    /// # Errors
    /// When the system refuses; the change is refused then.
    fn follow(&self, from: &Config, to: &Config) -> Result<(), ConfigError>;
}

/// What all shards share: the configuration, the counters, and requests to the process. Nothing on
/// the path of a data command touches its lock.
#[derive(Debug)]
pub struct Server {
    config: Mutex<Arc<Config>>,
    /// Counts changes of the configuration, so that shards notice them.
    generation: AtomicU64,
    /// Per-shard counters.
    pub metrics: Metrics,
    /// Who monitors.
    pub monitors: monitors::Monitors,
    /// Whether expired keys are looked for (DEBUG SET-ACTIVE-EXPIRE).
    active_expire: AtomicBool,
    /// Asked to stop: 0 no, 1 yes.
    stop: AtomicU64,
    next_client: AtomicU64,
    /// CLIENT PAUSE.
    pause: Mutex<Pause>,
    /// Who brings the outside in line with the configuration.
    world: OnceLock<Box<dyn World>>,
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

impl Server {
    /// A server of `shards` shards.
    pub fn new(config: Config, shards: usize, identity: Identity) -> Server {
        let metrics = Metrics::sized(shards, usize::from(config.databases()));
        Server {
            config: Mutex::new(Arc::new(config)),
            generation: AtomicU64::new(1),
            metrics,
            monitors: monitors::Monitors::default(),
            active_expire: AtomicBool::new(true),
            stop: AtomicU64::new(0),
            next_client: AtomicU64::new(1),
            pause: Mutex::default(),
            world: OnceLock::new(),
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

    /// Says who brings the outside in line with the configuration. The first to be told stays.
    pub fn set_world(&self, world: Box<dyn World>) {
        let _ = self.world.set(world);
    }

    /// Changes the configuration as a whole, or, when `change` fails or the [`World`] cannot follow,
    /// not at all.
    ///
    /// # Errors
    /// What `change` or the [`World`] returns.
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
        if let Some(world) = self.world.get() {
            world.follow(&current, &next).map_err(|error| Error::owned(error.to_string()))?;
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

    /// Asks the whole process to stop, as a user wishes.
    pub fn request_stop(&self) {
        if self.stop.swap(1, Ordering::AcqRel) == 0 {
            tracing::info!("User requested shutdown...");
        }
    }

    /// Ends the whole process, since a part of it cannot go on.
    pub fn give_up(&self) {
        self.stop.store(1, Ordering::Release);
    }

    /// Whether the process has been asked to stop.
    #[inline]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire) != 0
    }

    /// A client id that no other client has had.
    pub fn next_client(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }
}

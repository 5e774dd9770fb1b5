//! From a configuration to a running server, and back.

use super::acceptor::Acceptor;
use super::apply::{Listeners, SocketsAndFiles};
use super::listen::{self, ListenError, Listener};
use super::neighbours::Neighbours;
use super::process::{self, PidFile};
use super::ring::{self, Ring};
use super::shard_loop::load::LoadError;
use super::shard_loop::{Ends, ShardLoop};
use super::supervise::{self, Supervisor};
use super::{admin, background, crash, files, host, logs, title};
use crate::base::limits;
use crate::base::version::VERSION;
use crate::command;
use crate::config::typed::OnSignal;
use crate::config::value::io_reason;
use crate::config::{Config, ConfigError};
use crate::instance::{Identity, Instance, Shutdown};
use crate::persist::{loader, snapshot};
use crate::route::mailbox;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use std::io::IsTerminal;
use std::sync::Arc;

/// Locked memory glommio needs per process, in bytes.
const LOCKED_BYTES: u64 = 512 * 1024;
/// A shard's executor must not be asked to make way before its loop runs: glommio 0.9 parks one that
/// is asked before its first task ran, and with the default of 100 ms a machine under load starts a
/// shard that never wakes. What runs beside the loop later is [`background`]'s business.
const NEVER: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);
/// Connections on their way to a shard that has not taken them yet.
const ARRIVALS: usize = 1024;

/// Why the server does not start. The texts name what to change.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// io_uring is refused.
    #[error("Failed to set up io_uring: {0}")]
    Ring(String),
    /// Not enough memory may be locked.
    #[error(
        "Only {0} bytes of memory may be locked, {LOCKED_BYTES} are needed. Raise the limit: \
         ulimit -l 8192, or LimitMEMLOCK=8M in the systemd unit"
    )]
    Locked(u64),
    /// A socket cannot be had.
    #[error("{0}")]
    Listen(ListenError),
    /// The log file cannot be written.
    #[error("Can't open the log file: {}", io_reason(.0))]
    Log(std::io::Error),
    /// The system does not let the process go into the background.
    #[error("Can't go into the background: {0}")]
    Background(std::io::Error),
    /// The configuration asks for what the system refuses.
    #[error("{0}")]
    Refused(ConfigError),
    /// The working directory cannot be entered.
    #[error("Can't chdir to '{0}': {1}")]
    Dir(String, std::io::Error),
    /// More shards than there can be.
    #[error("At most {max} shards are possible, not {0}", max = limits::SHARDS_MAX)]
    Shards(usize),
    /// A shard's thread could not be started or has failed.
    #[error("A shard has failed: {0}")]
    Shard(String),
    /// The data that was saved cannot be loaded.
    #[error("Fatal error loading the DB: {0}. Exiting.")]
    Load(std::io::Error),
    /// A thread beside the shards could not be started.
    #[error("Can't start a thread: {0}")]
    Thread(std::io::Error),
    /// A command cannot be renamed.
    #[error("{0}")]
    Rename(&'static str),
    /// Signals cannot be received.
    #[error("Can't receive signals: {0}")]
    Signals(std::io::Error),
}

/// Serves until asked to stop by SIGTERM, SIGINT or SHUTDOWN.
///
/// # Errors
/// When something the server needs cannot be had.
pub fn serve(mut config: Config) -> Result<(), BootError> {
    std::env::set_current_dir(config.dir())
        .map_err(|error| BootError::Dir(config.dir().display().to_string(), error))?;
    logs::open(&config).map_err(BootError::Log)?;
    let supervisor = supervise::begin(&config);
    let in_background = config.daemonize() && supervisor == Supervisor::Nobody;
    if in_background {
        // Before there is a second thread: only this one would arrive.
        process::into_background().map_err(BootError::Background)?;
    }
    // This moves the environment, for which nobody else may be there either.
    title::begin(&config);
    if let Err(error) = crash::install(&config) {
        tracing::warn!("Crashes by signals will not be reported: {error}");
    }
    process::begin_oom_score(&config).map_err(BootError::Refused)?;
    process::follow_huge_pages(&config);
    crate::command::rename::apply(config.renamed_commands()).map_err(BootError::Rename)?;
    check_locked_memory()?;
    lower_maxclients(&mut config);
    // A throwaway ring first: where it is refused, glommio would panic with a misleading text.
    drop(Ring::new().map_err(|error| BootError::Ring(ring::explain(&error)))?);
    let cpus = usable_cpus();
    let shards = match usize::from(config.shards()) {
        0 => cpu_quota().map_or(cpus.len(), |quota| quota.min(cpus.len())).max(1),
        shards => shards,
    };
    if shards > limits::SHARDS_MAX {
        return Err(BootError::Shards(shards));
    }
    log_start(&config, shards);
    let pid_file = PidFile::write(&config, in_background);
    files::remove_left_over(&config.dir().join(config.dbfilename()));
    let listeners = listen::open(&config).map_err(BootError::Listen)?;
    let admin = admin::listen(&config).map_err(BootError::Listen)?;
    let instance = Arc::new(Instance::new(config, shards, command::all().len(), identity()));
    let listeners = Arc::new(Listeners::new(listeners));
    instance.set_host(Box::new(host::Machine));
    instance.set_applier(Box::new(SocketsAndFiles(Arc::clone(&listeners))));
    stop_on_signals(&instance)?;
    supervise::watch(&instance).map_err(BootError::Thread)?;
    admin::serve(&instance, admin).map_err(BootError::Thread)?;
    let outcome = run_shards(&instance, Arc::clone(&listeners), shards, &cpus);
    // The thread that waits for signals keeps the server, and with it the sockets.
    listeners.close();
    drop(pid_file);
    outcome?;
    tracing::warn!("Redshard is now ready to exit, bye bye...");
    Ok(())
}

/// The data is there, and clients are served.
fn open(instance: &Instance, listeners: &[Arc<Listener>]) {
    let mut kinds: Vec<&str> = listeners.iter().map(|listener| listener.kind()).collect();
    kinds.dedup();
    for kind in kinds {
        tracing::info!("Ready to accept connections {kind}");
    }
    supervise::ready(instance.metrics.shards());
}

fn run_shards(
    instance: &Arc<Instance>,
    listeners: Arc<Listeners>,
    shards: usize,
    cpus: &[usize],
) -> Result<(), BootError> {
    let neighbours = Arc::new(Neighbours::new(shards));
    let (mut ways, mut arrivals): (Vec<_>, Vec<_>) = (0..shards)
        .map(|_| rtrb::RingBuffer::new(ARRIVALS))
        .map(|(way, arrivals)| (Some(way), arrivals))
        .unzip();
    // The first shard keeps what it accepts for itself.
    ways[0] = None;
    let mut acceptor = Some(Acceptor::new(listeners, ways, open));
    let mut threads = Vec::with_capacity(shards);
    let places = loader::exchange(shards).into_iter();
    let (producers, collector) = snapshot::connect(shards);
    let mut collector = Some(collector);
    let mail = mailbox::exchange(shards, limits::MAILBOX_BATCHES).into_iter();
    for (number, ((mail, load), producer)) in mail.zip(places).zip(producers).enumerate() {
        let (instance, neighbours) = (Arc::clone(instance), Arc::clone(&neighbours));
        let ends = Ends {
            mail,
            acceptor: acceptor.take(),
            arrivals: arrivals.remove(0),
            load,
            producer,
            collector: collector.take(),
        };
        // More shards than cores run wherever there is room.
        let placement =
            if shards <= cpus.len() { Placement::Fixed(cpus[number]) } else { Placement::Unbound };
        let (stop, others) = (Arc::clone(&instance), Arc::clone(&neighbours));
        let thread = LocalExecutorBuilder::new(placement)
            .name(&format!("shard-{number}"))
            .io_memory(64 << 10)
            .preempt_timer(NEVER)
            .blocking_thread_pool_placement(glommio::PoolPlacement::Unbound(1))
            .spawn(move || async move {
                let result = match ShardLoop::new(number, instance, neighbours, ends) {
                    Ok(shard) => background::in_the_foreground(shard.run()).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = &result
                    && !is_load_error(error)
                {
                    // One shard that cannot go on ends all: half a keyspace is none.
                    tracing::error!("Shard {number} cannot go on: {error}");
                    others.fail();
                    stop.give_up();
                }
                result
            });
        threads.push(thread.map_err(|error| BootError::Shard(error.to_string()))?);
    }
    let mut outcome = Ok(());
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) if is_load_error(&error) => outcome = Err(BootError::Load(error)),
            Ok(Err(error)) => outcome = Err(BootError::Shard(error.to_string())),
            Err(error) => outcome = Err(BootError::Shard(error.to_string())),
        }
    }
    outcome
}

/// Whether a shard has ended because there is no data to be served. It has seen to the others' end.
fn is_load_error(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<LoadError>())
}

/// The cores this process may run on.
fn usable_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return vec![0];
    };
    let cpus: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// The cores' worth of time that the control group grants, if it limits that: more shards than
/// that would only be throttled.
fn cpu_quota() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let text = std::fs::read_to_string(format!("/sys/fs/cgroup{path}/cpu.max")).ok()?;
    parse_quota(&text)
}

fn parse_quota(text: &str) -> Option<usize> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok().filter(|period| *period > 0)?;
    Some(usize::try_from(quota.div_ceil(period)).ok()?.max(1))
}

fn check_locked_memory() -> Result<(), BootError> {
    let limit = getrlimit(Resource::Memlock);
    let Some(soft) = limit.current.filter(|soft| *soft < LOCKED_BYTES) else {
        return Ok(());
    };
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match limit.maximum {
        Some(hard) if hard < LOCKED_BYTES => Err(BootError::Locked(hard)),
        _ => setrlimit(Resource::Memlock, raised).map_err(|_| BootError::Locked(soft)),
    }
}

/// Makes room for `maxclients` descriptors; where there is none, lowers `maxclients` and says so.
fn lower_maxclients(config: &mut Config) {
    let Err(possible) = process::raise_files(config.maxclients()) else { return };
    let clients = possible.max(1).to_string();
    tracing::warn!(
        "You requested maxclients of {} requiring at least {} max file descriptors. maxclients has \
         been reduced to {clients} to compensate for low ulimit. If you need higher maxclients \
         increase 'ulimit -n'.",
        config.maxclients(),
        u64::from(config.maxclients()) + process::RESERVED_FILES,
    );
    if let Ok((changed, _)) = config.set(&[(b"maxclients", clients.as_bytes())], true) {
        *config = changed;
    }
}

fn stop_on_signals(instance: &Arc<Instance>) -> Result<(), BootError> {
    // Two are taken and ignored: a terminal that closes ends nobody, nor does a file that has become
    // larger than files may be. Whoever writes it is told so by an error.
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGXFSZ])
        .map_err(BootError::Signals)?;
    let instance = Arc::clone(instance);
    let wait = move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP | SIGXFSZ => continue,
                SIGINT if instance.is_stop_wished() => {
                    tracing::warn!("You insist... exiting now.");
                    let config = instance.config();
                    files::remove_unfinished(&config.dir().join(config.dbfilename()));
                    std::process::exit(1);
                }
                SIGINT => tracing::warn!("Received SIGINT scheduling shutdown..."),
                _ => tracing::warn!("Received SIGTERM scheduling shutdown..."),
            }
            let config = instance.config();
            let OnSignal { save, now, force } = match signal {
                SIGINT => config.shutdown_on_sigint(),
                _ => config.shutdown_on_sigterm(),
            };
            instance.wish_stop(Shutdown { save, now, force });
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
        .map_err(BootError::Thread)
}

fn identity() -> Identity {
    Identity {
        run_id: super::id::random(),
        started_us: crate::base::clock::unix_us(),
        executable: std::env::current_exe()
            .map_or_else(|_| String::new(), |p| p.display().to_string()),
    }
}

fn log_start(config: &Config, shards: usize) {
    let (pid, bits) = (std::process::id(), usize::BITS);
    tracing::info!("oO0OoO0OoO0Oo Redshard is starting oO0OoO0OoO0Oo");
    tracing::info!(
        "Redshard version={VERSION}, bits={bits}, shards={shards}, pid={pid}, just started"
    );
    match config.file() {
        Some(_) => tracing::info!("Configuration loaded"),
        None if config.is_default() => tracing::warn!(
            "Warning: no config file specified, using the default config. In order to specify a \
             config file use redshard /path/to/redshard.conf"
        ),
        None => tracing::info!("Configuration loaded"),
    }
    let port = config.port();
    if config.always_show_logo() || (logs::file().is_none() && std::io::stdout().is_terminal()) {
        logs::raw(&logo(port, pid, shards));
    } else {
        tracing::info!("Running mode=standalone, port={port}.");
    }
    let inert = config.inert();
    if !inert.is_empty() {
        tracing::warn!("These directives are known and have no effect here: {}", inert.join(", "));
    }
}

/// What greets on a terminal. Test suites look for the process id in it.
fn logo(port: u16, pid: u32, shards: usize) -> String {
    format!(
        "\n   ____/\\____     Redshard {VERSION}, {} bit\n\
         \x20  \\  /  \\  /     Running in standalone mode\n\
         \x20   \\/ () \\/      Port: {port}\n\
         \x20    \\    /       PID: {pid}\n\
         \x20     \\  /        Shards: {shards}\n\
         \x20      \\/\n\n",
        usize::BITS
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_round_up_to_whole_cores() {
        assert_eq!(parse_quota("max 100000\n"), None);
        assert_eq!(parse_quota("150000 100000\n"), Some(2));
        assert_eq!(parse_quota("50000 100000\n"), Some(1));
        assert_eq!(parse_quota("x"), None);
    }
}

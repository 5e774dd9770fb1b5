//! The process among others: in the background, with a file that holds its id, with a score that says
//! how expendable it is, and with so many descriptors as it needs.

use crate::config::typed::OomScoreAdj;
use crate::config::value::io_reason;
use crate::config::{Config, ConfigError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

/// Where the process id goes in the background if nothing else is configured.
const PIDFILE: &str = "/var/run/redshard.pid";
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Leaves the foreground: whoever started this gets its prompt back, and standard input and output
/// lead nowhere from here on. To be called while there is one thread.
///
/// # Errors
/// When the system refuses.
pub fn into_background() -> io::Result<()> {
    // The directory stays: it is the one that is configured.
    Ok(nix::unistd::daemon(true, false)?)
}

/// The file that holds the process id, while the process lives.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file, if there is to be one. That it cannot be written is said and no reason not to
    /// serve, as in Redis.
    pub fn write(config: &Config, in_background: bool) -> Option<PidFile> {
        let path = match config.pidfile() {
            Some(path) => path,
            None if in_background => Path::new(PIDFILE),
            None => return None,
        };
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Some(PidFile(path)),
            Err(error) => {
                tracing::info!("Failed to write PID file: {}", io_reason(&error));
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        tracing::info!("Removing the pid file.");
        // Somebody may have removed it; then there is nothing to do.
        let _ = fs::remove_file(&self.0);
    }
}

/// Does without huge pages, unless the configuration says `disable-thp no`.
///
/// A lookup touches pages at random, and walking the page tables for them is a part of what it waits
/// for: with a million keys of 64 B a GET at pipeline 64 took 454 ns of processor time without huge
/// pages and 387 ns with them, for the same resident memory per key (90 B at 5 M keys) and some
/// 20 MiB more at the start. But a huge page is cleared at its first touch, and where a hypervisor has
/// to find its memory then, that takes 8 ms: while 10 M keys were inserted, the 99.9th percentile of a
/// client's wait rose from 1.3 to 8.3 ms. Hence the directive, with the default that Redis has for
/// another reason (its forks).
pub fn follow_huge_pages(config: &Config) {
    let disabled = config.disable_thp();
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(disabled) {
        tracing::warn!("Can't say whether huge pages are wanted: {error}");
    }
}

/// The score that the process came with, and gets back when it is not to be touched any more.
static OOM_BASE: AtomicI32 = AtomicI32::new(0);

/// Sets the score for the first time.
///
/// # Errors
/// When the configuration wants one that the system refuses.
pub fn begin_oom_score(config: &Config) -> Result<(), ConfigError> {
    let nothing = Config::default();
    follow_oom_score(&nothing, config)
}

/// Follows a change of the configuration.
///
/// # Errors
/// When the system refuses the score; then it is what it was.
pub fn follow_oom_score(old: &Config, new: &Config) -> Result<(), ConfigError> {
    let wish = |config: &Config| (config.oom_score_adj(), config.oom_score_adj_values());
    let ((was, _), (is, values)) = (wish(old), wish(new));
    if wish(old) == wish(new) || (was == OomScoreAdj::No && is == OomScoreAdj::No) {
        return Ok(());
    }
    let applied = (|| {
        if was == OomScoreAdj::No {
            let text = fs::read_to_string(OOM_SCORE)?;
            OOM_BASE.store(text.trim().parse().map_err(io::Error::other)?, Ordering::Relaxed);
        }
        let base = OOM_BASE.load(Ordering::Relaxed);
        // There are no replicas and no background processes: the first value is ours.
        let score = match is {
            OomScoreAdj::No => base,
            OomScoreAdj::Yes | OomScoreAdj::Relative => base + values[0],
            OomScoreAdj::Absolute => values[0],
        };
        fs::write(OOM_SCORE, score.clamp(-1000, 1000).to_string())
    })();
    applied.map_err(|error| {
        tracing::warn!("Unable to write oom_score_adj: {}", io_reason(&error));
        let reason = "Failed to set current oom_score_adj. Check server logs.";
        ConfigError::refused("oom-score-adj", reason)
    })
}

/// Descriptors beyond those of clients: listeners, rings, logs, files (Redis reserves 32; every
/// shard has its own handful).
pub(super) const RESERVED_FILES: u64 = 64;

/// Makes room for so many clients' descriptors.
///
/// # Errors
/// When there is none; with how many clients there is room for.
pub(super) fn raise_files(clients: u32) -> Result<(), u64> {
    let needed = u64::from(clients) + RESERVED_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    let reachable = limit.maximum.map_or(needed, |hard| hard.min(needed));
    let raise = |to| setrlimit(Resource::Nofile, Rlimit { current: Some(to), ..limit });
    let granted = match raise(reachable) {
        Ok(()) => reachable,
        Err(_) => limit.current.unwrap_or(reachable),
    };
    if granted >= needed { Ok(()) } else { Err(granted.saturating_sub(RESERVED_FILES)) }
}

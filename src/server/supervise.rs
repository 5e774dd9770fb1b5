//! Who watches over the process, and what they are told: systemd by its notify protocol, upstart by
//! a stop.
//!
//! systemd's watchdog is pinged by a thread of its own, and only while every shard's loop turns: a
//! shard that stalls has systemd end the process and start another.

use crate::base::clock;
use crate::config::Config;
use crate::config::typed;
use crate::exposition::pulse::Pulse;
use crate::instance::Instance;
use sd_notify::NotifyState;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Who watches, as found out at the start.
static SUPERVISOR: OnceLock<Supervisor> = OnceLock::new();

/// Who watches over the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// Nobody.
    Nobody,
    /// systemd, or whoever speaks its protocol.
    Systemd,
    /// upstart.
    Upstart,
}

/// Finds out who watches.
pub fn begin(config: &Config) -> Supervisor {
    *SUPERVISOR.get_or_init(|| {
        let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let (systemd, upstart) = (has("NOTIFY_SOCKET"), has("UPSTART_JOB"));
        match config.supervised() {
            typed::Supervised::Systemd | typed::Supervised::Auto if systemd => Supervisor::Systemd,
            typed::Supervised::Upstart | typed::Supervised::Auto if upstart => Supervisor::Upstart,
            typed::Supervised::Systemd => {
                tracing::warn!("systemd supervision requested but NOTIFY_SOCKET not found!");
                Supervisor::Nobody
            }
            typed::Supervised::Upstart => {
                tracing::warn!("upstart supervision requested, but UPSTART_JOB not found!");
                Supervisor::Nobody
            }
            typed::Supervised::Auto | typed::Supervised::No => Supervisor::Nobody,
        }
    })
}

/// Tells that clients are let in.
pub fn ready(shards: usize) {
    match SUPERVISOR.get() {
        Some(Supervisor::Systemd) => {
            let status = format!("Ready to accept connections, {shards} shard(s)");
            tell(&[NotifyState::Status(&status), NotifyState::Ready]);
        }
        Some(Supervisor::Upstart) => {
            tracing::info!("supervised by upstart, will stop to signal readiness.");
            let own = rustix::process::getpid();
            // It waits for this stop; without it, it goes on waiting.
            let _ = rustix::process::kill_process(own, rustix::process::Signal::STOP);
        }
        Some(Supervisor::Nobody) | None => {}
    }
}

/// Tells that what was to be the end is none.
pub fn goes_on() {
    if SUPERVISOR.get() == Some(&Supervisor::Systemd) {
        tell(&[NotifyState::Status("Could not save the data: the server goes on")]);
    }
}

/// Tells that the end has begun.
pub fn stopping() {
    if SUPERVISOR.get() == Some(&Supervisor::Systemd) {
        tell(&[NotifyState::Status("Shutting down"), NotifyState::Stopping]);
    }
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("Can't notify systemd: {error}");
    }
}

/// Begins to ping systemd's watchdog, if it has one for this process.
///
/// # Errors
/// When there is no thread to be had.
pub fn watch(instance: &Arc<Instance>) -> std::io::Result<()> {
    let within = sd_notify::watchdog_enabled().filter(|within| !within.is_zero());
    let Some(within) = within.filter(|_| SUPERVISOR.get() == Some(&Supervisor::Systemd)) else {
        return Ok(());
    };
    let period = within / 2;
    let instance = Arc::clone(instance);
    let mut pulse = Pulse::new(&instance.metrics, clock::monotonic_ns());
    let watch = move || {
        let mut stalled = None;
        loop {
            std::thread::sleep(period);
            // What has not turned since the last look has stalled, or has not begun to.
            let stall = pulse.look(&instance.metrics, clock::monotonic_ns(), Duration::ZERO);
            match (stall, stalled) {
                (None, _) => tell(&[NotifyState::Watchdog]),
                (Some(stall), None) => {
                    tracing::warn!("{stall}: the watchdog is not pinged.");
                    tell(&[NotifyState::Status(&stall.to_string())]);
                }
                (Some(_), Some(_)) => {}
            }
            if let (None, Some(_)) = (stall, stalled) {
                tell(&[NotifyState::Status("All shards turn again")]);
            }
            stalled = stall;
        }
    };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
}

//! Who watches over the process, and what they are told: systemd by its notify protocol, upstart by
//! a stop.
//!
//! systemd is told by a thread of its own. It pings the watchdog only while every shard's loop turns: a
//! shard that stalls has systemd end the process and start another. And while data is loaded, or saved
//! at the end, it asks for more time than the unit grants, as long as that moves.

use crate::base::clock;
use crate::config::Config;
use crate::config::typed;
use crate::exposition::pulse::{Pulse, Stall};
use crate::instance::Instance;
use crate::instance::persistence::{Loading, Saving, State};
use sd_notify::NotifyState;
use std::fmt;
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

/// Begins to tell systemd, on a thread of its own, how the process is: that it turns, to the watchdog
/// if there is one, and how far a load has come, or a save that is waited for, while there is one.
///
/// # Errors
/// When there is no thread to be had.
pub fn watch(instance: &Arc<Instance>) -> std::io::Result<()> {
    if SUPERVISOR.get() != Some(&Supervisor::Systemd) {
        return Ok(());
    }
    let watchdog = sd_notify::watchdog_enabled().filter(|within| !within.is_zero());
    let ping_every = watchdog.map(|within| within / 2);
    // Pings are due at a look: as many looks to a ping as it takes for none to be rarer than that.
    let period = ping_every.map_or(LOOK_EVERY, |every| {
        let looks = every.as_nanos().div_ceil(LOOK_EVERY.as_nanos());
        every / u32::try_from(looks).unwrap_or(u32::MAX)
    });
    let instance = Arc::clone(instance);
    let watch = move || {
        let mut watch = Watch::new(&instance, ping_every);
        loop {
            std::thread::sleep(period);
            watch.look(&instance);
        }
    };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
}

/// How often is looked how far a load or a save has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// For how long more systemd is asked to wait where something has moved. A disk that stands still for
/// longer is one that somebody has to look at.
const EXTENSION: Duration = Duration::from_secs(20);
/// Looks between two lines that say how far it is.
const LOOKS_PER_STATUS: u32 = 4;

/// What has been seen so far.
struct Watch {
    pulse: Pulse,
    ping_every: Option<Duration>,
    pinged_ns: u64,
    stalled: Option<Stall>,
    /// What is waited for, as of the last look that saw it move.
    work: Option<Work>,
    looks: u32,
}

impl Watch {
    fn new(instance: &Instance, ping_every: Option<Duration>) -> Watch {
        let pinged_ns = clock::monotonic_ns();
        let pulse = Pulse::new(&instance.metrics, pinged_ns);
        Watch { pulse, ping_every, pinged_ns, stalled: None, work: None, looks: 0 }
    }

    fn look(&mut self, instance: &Instance) {
        let moves = self.look_at_work(instance);
        let now_ns = clock::monotonic_ns();
        let since = Duration::from_nanos(now_ns - self.pinged_ns);
        if self.ping_every.is_some_and(|every| since >= every) {
            self.pinged_ns = now_ns;
            self.look_at_shards(instance, now_ns, moves);
        }
    }

    /// Asks for time while what is waited for moves, and says how far it is. Returns whether it does.
    fn look_at_work(&mut self, instance: &Instance) -> bool {
        let work = Work::of(&instance.persistence().state());
        let moves = work.is_some() && work != self.work;
        match &work {
            Some(work) if moves => {
                let micros = EXTENSION.as_micros() as u32;
                tell(&[NotifyState::ExtendTimeoutUsec(micros)]);
                if self.looks.is_multiple_of(LOOKS_PER_STATUS) {
                    tell(&[NotifyState::Status(&work.to_string())]);
                }
                self.looks += 1;
            }
            _ => self.looks = 0,
        }
        self.work = work;
        moves
    }

    /// Pings the watchdog if all shards turn, or what is waited for moves.
    fn look_at_shards(&mut self, instance: &Instance, now_ns: u64, moves: bool) {
        // What has not turned since the last look has stalled, or has not begun to.
        let stall = self.pulse.look(&instance.metrics, now_ns, Duration::ZERO);
        let stall = stall.filter(|_| !moves);
        match (stall, self.stalled) {
            (None, _) => tell(&[NotifyState::Watchdog]),
            (Some(stall), None) => {
                tracing::warn!("{stall}: the watchdog is not pinged.");
                tell(&[NotifyState::Status(&stall.to_string())]);
            }
            (Some(_), Some(_)) => {}
        }
        if let (None, Some(_)) = (stall, self.stalled) {
            tell(&[NotifyState::Status("All shards turn again")]);
        }
        self.stalled = stall;
    }
}

/// What the start or the end of the process waits for, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Loading(Loading),
    Saving(Saving),
}

impl Work {
    fn of(state: &State) -> Option<Work> {
        let saving = state.saving.filter(|saving| saving.is_waited_for);
        state.loading.map(Work::Loading).or(saving.map(Work::Saving))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GB: f64 = 1e9;
        let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
        match *self {
            Work::Loading(Loading { bytes, total_bytes: Some(total), .. }) => {
                let percent = percent(bytes, total);
                write!(f, "Loading: {percent:.0} % of {:.1} GB", total as f64 / GB)
            }
            Work::Loading(Loading { bytes, .. }) => {
                write!(f, "Loading: {:.1} GB so far", bytes as f64 / GB)
            }
            Work::Saving(Saving { keys, keys_total, bytes, .. }) => {
                let percent = percent(keys, keys_total);
                write!(
                    f,
                    "Saving: {percent:.0} % of {keys_total} keys, {:.1} GB",
                    bytes as f64 / GB
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_what_is_waited_for() {
        let mut state = State::default();
        assert_eq!(Work::of(&state), None);
        let saving = Saving { keys: 1, keys_total: 4, bytes: 1 << 30, ..Saving::default() };
        state.saving = Some(saving);
        assert_eq!(Work::of(&state), None, "nobody waits for a save in the background");
        state.saving = Some(Saving { is_waited_for: true, ..saving });
        let said = |state: &State| Work::of(state).expect("something is waited for").to_string();
        assert_eq!(said(&state), "Saving: 25 % of 4 keys, 1.1 GB");
        let loading = Loading { bytes: 1_312_000_000, ..Loading::default() };
        state.loading = Some(loading);
        assert_eq!(said(&state), "Loading: 1.3 GB so far");
        state.loading = Some(Loading { total_bytes: Some(3_200_000_000), ..loading });
        assert_eq!(said(&state), "Loading: 41 % of 3.2 GB");
    }
}

//! FAILOVER: a replica leads in this server's place.
//!
//! ```text
//! writes are held ── the stream has its end ── a replica has all of it ── it is followed, and told to lead
//! ```
//! Writes are held until the other one has said that it leads, or until the failover is given up. When a
//! failover begins, other shards may be in the middle of a turn, and something over several shards under
//! way: see [`ShardLoop::hush`].

use super::super::ShardLoop;
use super::{Replication, now_ms};
use crate::instance::replication as shown;
use crate::replica::failover::{Candidate, Failover, Next};
use crate::replica::primary::Stage as ReplicaStage;
use crate::route::message::Asker;

/// A failover under way.
pub(super) struct Handover {
    failover: Failover,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What is under way comes into the stream.
    Hushing(Hush),
    /// A replica is to get all of it.
    Catching,
    /// That one is followed, and told to lead.
    Following,
}

/// How often something has yet to be run on all shards until none writes any more.
///
/// Writes are held from a shard's next turn on. What is run on all shards may be run in the turn that a
/// shard is in the middle of; what is run after that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hush(u8);

impl Hush {
    /// From here on.
    pub(super) const BEGUN: Hush = Hush(2);
}

impl Replication {
    /// Whether the server that is followed is to be told to lead.
    pub(super) fn is_handing_over(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| handover.stage == Stage::Following)
    }
}

impl ShardLoop {
    /// Goes on until the stream has the last that has been written before writes were held; asked again
    /// every turn, says when it does.
    pub(super) fn hush(&mut self, hush: &mut Hush) -> bool {
        let Some(state) = &self.replication else { return true };
        if state.change.is_some() || !state.is_journaling {
            return state.change.is_none();
        }
        if state.primary.begins_stream {
            return false;
        }
        if hush.0 > 0 {
            if self.begin_journal() {
                hush.0 -= 1;
            }
            return false;
        }
        state.barriers == 0
    }

    pub(super) fn begin_failover(
        &mut self,
        to: Option<(String, i64)>,
        force: bool,
        timeout_ms: Option<u64>,
        asker: Option<Asker>,
    ) {
        let now_ms = now_ms(&self.node);
        let Some(state) = &mut self.replication else { return };
        match &to {
            Some((host, port)) => tracing::info!("FAILOVER requested to {host}:{port}."),
            None => tracing::info!("FAILOVER requested."),
        }
        let failover = Failover::new(to, force, timeout_ms, now_ms);
        state.handover = Some(Handover { failover, stage: Stage::Hushing(Hush::BEGUN) });
        self.instance.hold_writes(true);
        self.instance.tell_replication(|state| state.failover = shown::Failover::WaitForSync);
        self.answer(asker, Ok("OK"));
    }

    /// What a turn does about a failover. Returns whether there is more to do at once.
    pub(super) fn lead_failover(&mut self) -> bool {
        let now_ms = now_ms(&self.node);
        let Some(handover) = self.replication.as_mut().and_then(|state| state.handover.as_mut())
        else {
            return false;
        };
        if let Stage::Hushing(mut hush) = handover.stage {
            let is_quiet = self.hush(&mut hush);
            if let Some(state) = &mut self.replication
                && let Some(handover) = &mut state.handover
            {
                handover.stage = if is_quiet { Stage::Catching } else { Stage::Hushing(hush) };
            }
        }
        let Some(state) = &mut self.replication else { return false };
        let Some(handover) = &state.handover else { return false };
        if handover.stage == Stage::Following {
            return false;
        }
        let end = (handover.stage == Stage::Catching).then_some(state.history.offset);
        let candidates = state.primary.followers.iter().map(|follower| {
            let replica = &follower.replica;
            let is_online = replica.stage() == ReplicaStage::Online;
            let acknowledged = is_online.then_some(replica.acknowledged());
            Candidate { ip: replica.ip(), port: replica.about.port, acknowledged }
        });
        match handover.failover.look(end, candidates, now_ms) {
            Next::Wait => false,
            Next::GiveUp => {
                self.abort_failover("Replica never caught up before timeout", None);
                false
            }
            Next::Follow { host, port, is_synced } => {
                self.hand_over_to(host, port, is_synced);
                true
            }
        }
    }

    fn hand_over_to(&mut self, host: String, port: i64, is_synced: bool) {
        match is_synced {
            true => tracing::info!("Failover target {host}:{port} is synced, failing over."),
            false => tracing::info!("Failover to {host}:{port} time out exceeded, failing over."),
        }
        let Ok(port) = u16::try_from(port) else {
            return self.abort_failover("The replica's port is none", None);
        };
        let leader = Some((host.clone(), port));
        let configured = self.instance.reconfigure(|config| {
            config.set_replicaof(leader);
            Ok(())
        });
        if let Err(error) = configured {
            return self.abort_failover(&error.to_string(), None);
        }
        if let Some(handover) = self.replication.as_mut().and_then(|state| state.handover.as_mut())
        {
            handover.stage = Stage::Following;
        }
        self.instance.tell_replication(|state| state.failover = shown::Failover::InProgress);
        self.follow_server(host, port, None);
    }

    /// Gives a failover up: this server leads as before.
    pub(super) fn abort_failover(&mut self, why: &str, asker: Option<Asker>) {
        let Some(state) = &mut self.replication else { return };
        let Some(handover) = state.handover.take() else {
            return self.answer(asker, Ok("OK"));
        };
        tracing::info!("Aborting failover: {why}");
        if handover.stage == Stage::Following {
            self.lead_for_good(asker);
        } else {
            self.answer(asker, Ok("OK"));
        }
        self.end_failover();
    }

    /// The server that is followed leads now.
    pub(super) fn handover_is_accepted(&mut self) {
        if self.replication.as_ref().is_some_and(Replication::is_handing_over) {
            self.end_failover();
        }
    }

    /// The server that is followed does not want to lead.
    pub(super) fn handover_is_refused(&mut self) {
        if self.replication.as_ref().is_some_and(Replication::is_handing_over) {
            self.abort_failover("Failover target rejected psync request", None);
        }
    }

    fn end_failover(&mut self) {
        let Some(state) = &mut self.replication else { return };
        state.handover = None;
        let is_ending = state.farewell.is_some();
        self.instance.tell_replication(|state| state.failover = shown::Failover::None);
        self.instance.hold_writes(is_ending);
    }

    /// Follows nobody any more, and says so in the configuration.
    pub(super) fn lead_for_good(&mut self, asker: Option<Asker>) {
        let configured = self.instance.reconfigure(|config| {
            config.set_replicaof(None);
            Ok(())
        });
        if let Err(error) = configured {
            tracing::warn!("The configuration still names a primary: {error}");
        }
        self.lead(asker);
    }
}

//! The end of a server that has replicas: they get the last of what was written, if they take it within
//! `shutdown-timeout`. Writes are held meanwhile; everything else goes on as before.

use super::super::ShardLoop;
use super::failover::Hush;
use super::now_ms;
use crate::base::error::Error;
use crate::instance::Shutdown;
use crate::replica::primary::{Replica, Stage};
use crate::route::message::Asker;

/// A stop that waits for replicas.
pub(super) struct Farewell {
    how: Shutdown,
    until_ms: i64,
    hush: Hush,
    /// What replicas are to have, once it is known.
    end: Option<u64>,
}

/// Whether the end waits for a replica: one that has yet to get all data would have the rest of it waited for.
fn is_awaited(replica: &Replica) -> bool {
    replica.wants_stream() && replica.stage() == Stage::Online
}

impl ShardLoop {
    /// The server is to end, when replicas have what they lack.
    pub(in super::super) fn shut_down(&mut self, how: Shutdown) {
        let now_ms = now_ms(&self.node);
        let timeout_ms = i64::from(self.instance.config().shutdown_timeout()) * 1000;
        let Some(state) = &mut self.replication else { return };
        if state.farewell.is_some() {
            return;
        }
        let is_awaited = state.primary.followers.iter().any(|one| is_awaited(&one.replica));
        if how.now || timeout_ms == 0 || !is_awaited {
            self.instance.request_stop(how);
            return self.instance.end_stop_wish();
        }
        tracing::info!("User requested shutdown...");
        tracing::info!("Waiting for replicas before shutting down.");
        let until_ms = now_ms + timeout_ms;
        state.farewell = Some(Farewell { how, until_ms, hush: Hush::BEGUN, end: None });
        self.instance.hold_writes(true);
    }

    /// Sees to what a signal has asked for.
    pub(in super::super) fn see_to_stop_wish(&mut self) {
        if self.replication.is_some()
            && let Some(how) = self.instance.take_stop_wish()
        {
            self.shut_down(how);
        }
    }

    /// SHUTDOWN ABORT.
    pub(in super::super) fn abort_shutdown(&mut self, asker: Option<Asker>) {
        let Some(state) = &mut self.replication else { return };
        if state.farewell.take().is_none() {
            return self.answer(asker, Err(Error::text("ERR No shutdown in progress.")));
        }
        let is_handing_over = state.handover.is_some();
        tracing::info!("Shutdown manually aborted.");
        self.instance.end_stop_wish();
        self.instance.hold_writes(is_handing_over);
        self.answer(asker, Ok("OK"));
        self.answer_stoppers();
    }

    /// What a turn does about replicas that are waited for.
    pub(super) fn await_replicas(&mut self) {
        let now_ms = now_ms(&self.node);
        let Some(state) = &mut self.replication else { return };
        let Some(farewell) = &state.farewell else { return };
        let (how, until_ms, mut hush, mut end) =
            (farewell.how, farewell.until_ms, farewell.hush, farewell.end);
        let follows = state.following.is_some();
        if end.is_none() && (follows || self.hush(&mut hush)) {
            end = self.replication.as_ref().map(|state| state.history.offset);
            if !follows {
                self.ask_how_far();
            }
        }
        let Some(state) = &mut self.replication else { return };
        let replicas = state.primary.followers.iter().map(|follower| &follower.replica);
        let awaited: Vec<&Replica> = replicas.filter(|one| is_awaited(one)).collect();
        let lags = |one: &&&Replica| end.is_none_or(|end| !one.has(end));
        let lagging: Vec<&&Replica> = awaited.iter().filter(lags).collect();
        if !lagging.is_empty() && now_ms < until_ms {
            state.farewell = Some(Farewell { how, until_ms, hush, end });
            return;
        }
        for replica in &lagging {
            let shown = replica.shown(now_ms);
            tracing::info!(
                "Lagging replica {} reported offset {} behind master, lag={}, state={}.",
                replica.name(),
                state.history.offset.saturating_sub(shown.acknowledged),
                shown.lag_s,
                shown.state.word()
            );
        }
        let in_sync = awaited.len() - lagging.len();
        tracing::info!("{in_sync} of {} replicas are in sync when shutting down.", awaited.len());
        state.farewell = None;
        self.instance.begin_stop(how);
    }
}

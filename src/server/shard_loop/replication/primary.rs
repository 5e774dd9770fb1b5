//! Who follows this server: replicas, on the first shard. What one replica is and gets is
//! [`Replica`]'s business, and who waits for them that of [`Waits`]; here they have connections, and a
//! time.
//!
//! A replica is a client like others whose replies are the snapshot and then the stream, a piece at a time:
//! as much as a send takes is handed to its connection when the last has gone, and the rest stays where
//! it is, shared with all others. So a slow one costs no memory but the part of the stream that it
//! lacks, which is kept as far as `client-output-buffer-limit replica` allows; then it goes.
//!
//! Where their snapshots come from: [`super::snapshots`].

use super::super::{ShardLoop, upkeep};
use super::now_ms;
use super::snapshots::{FromFile, Snapshot};
use crate::command::persistence::Wait;
use crate::config::Config;
use crate::config::typed::{ClientClass, OutputLimit};
use crate::instance::replication::{self as shown, ReplicaState};
use crate::replica::backoff::Overruns;
use crate::replica::history::Answer;
use crate::replica::primary::{Acknowledged, Due, Replica, Stage};
use crate::replica::waits::{Answered, Progress, Waits};
use crate::resp::ReplyBuf;
use crate::route::client::ClientKey;
use crate::route::message::{Asker, Said};
use crate::route::requests::LEADER;
use crate::server::ring::Outgoing;
use crate::session::Sync;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Bytes that a replica's connection is handed at a time.
const SEND_BYTES: usize = 512 * 1024;
/// Bytes of a piece from which on it is shared with the send instead of copied.
const SHARE_BYTES: usize = 1024;

/// The replicas of this server, and who waits for them.
#[derive(Default)]
pub(super) struct Primary {
    pub(super) followers: Vec<Follower>,
    /// The snapshot for them that is under way.
    pub(super) snapshot: Option<Snapshot>,
    /// When the next one begins, if one is wanted.
    pub(super) snapshot_due_ms: Option<i64>,
    /// Replicas that were too far behind.
    pub(super) overruns: Overruns,
    /// The file that was made for replicas alone.
    pub(super) made_file: Option<PathBuf>,
    /// Primaries that hand their place over, until this server leads.
    predecessors: Vec<ClientKey>,
    /// Whether the stream is being begun for who wants it without a snapshot.
    pub(super) begins_stream: bool,
    /// Clients that wait, and whether for what lies on disks.
    waits: Waits<(Asker, bool)>,
    pinged_ms: i64,
    /// Since when there is none.
    alone_since_ms: Option<i64>,
    /// Whether what is shown of them has changed.
    pub(super) is_shown: bool,
    /// The configuration that this goes by.
    generation: u64,
}

/// A replica with its connection.
pub(super) struct Follower {
    pub(super) client: ClientKey,
    pub(super) replica: Replica,
    /// Where its snapshot comes from, if it is a file.
    pub(super) file: Option<FromFile>,
}

impl Primary {
    /// Whether a snapshot is on its way to replicas, or somebody waits for what only the next look tells.
    pub(super) fn is_syncing(&self) -> bool {
        self.snapshot.is_some()
            || self.begins_stream
            || self.waits.is_locating()
            || self.followers.iter().any(|follower| follower.file.is_some())
    }

    /// The first byte of the stream that some replica still needs.
    fn needed(&self) -> Option<u64> {
        self.followers.iter().filter_map(|follower| follower.replica.needs()).min()
    }

    /// How many have acknowledged all up to an offset.
    fn acknowledged(&self, offset: u64) -> i64 {
        self.followers.iter().filter(|follower| follower.replica.has(offset)).count() as i64
    }

    /// A client waits.
    pub(super) fn wait(&mut self, asker: Asker, wait: Wait, now_ms: i64) {
        let asker = (asker, wait.of_logs);
        self.waits.ask(wait.id, asker, wait.offset, wait.replicas, wait.timeout_ms, now_ms);
    }

    /// A client waits no longer, if it has: what it would be answered now, where the stream has come to
    /// `end`.
    pub(super) fn end_wait(&mut self, id: u64, end: u64) -> Option<Answered<(Asker, bool)>> {
        let (asker, offset) = self.waits.take(id)?;
        let offset = offset.unwrap_or(end);
        Some(Answered { asker, offset, replicas: self.acknowledged(offset) })
    }
}

/// How far a replica may be behind. What is kept for those who come back costs nothing more.
fn limit(config: &Config) -> OutputLimit {
    let kept = config.repl_backlog_size();
    let limit = config.output_limit(ClientClass::Replica);
    let least = |bytes: u64| if bytes == 0 { 0 } else { bytes.max(kept) };
    OutputLimit {
        hard_bytes: least(limit.hard_bytes),
        soft_bytes: least(limit.soft_bytes),
        ..limit
    }
}

impl ShardLoop {
    pub(super) fn primary(&mut self) -> Option<&mut Primary> {
        self.replication.as_mut().map(|state| &mut state.primary)
    }

    // ---- becoming one ------------------------------------------------------------------------

    /// A client asks to become a replica; it is held.
    pub(in super::super) fn begin_sync(&mut self, client: ClientKey) {
        if self.number != LEADER {
            return self.begin_move(client);
        }
        let now_ms = now_ms(&self.node);
        let Some(state) = self.node.client_mut(client) else { return };
        let about = state.session.replica.as_deref().cloned().unwrap_or_default();
        let Some(sync) = about.sync.clone() else { return };
        if matches!(sync, Sync::Partial { hands_over: true, .. }) && self.take_place_of(client) {
            return;
        }
        let Some(state) = self.node.client_mut(client) else { return };
        let ip = state.session.about.ip().to_owned();
        let mut replica = Replica::new(about, ip, now_ms);
        tracing::info!("Replica {} asks for synchronization", replica.name());
        if self.instance.config().repl_disable_tcp_nodelay() {
            let at = self.of_client[client.index as usize];
            self.connections[at as usize].delay_small_sends();
        }
        if replica.about.leaves_out.data {
            self.put_without_data(&mut replica);
        } else {
            self.answer_sync(&mut replica, &sync);
        }
        let Some(primary) = self.primary() else { return };
        primary.alone_since_ms = None;
        if primary.followers.is_empty() {
            primary.pinged_ms = now_ms;
        }
        primary.is_shown = false;
        primary.followers.push(Follower { client, replica, file: None });
        self.want_snapshot();
        self.node.release(client);
        self.show_replicas();
    }

    /// A primary hands its place over: this server leads before it is answered. Returns whether it has
    /// to wait for that.
    fn take_place_of(&mut self, client: ClientKey) -> bool {
        let Some(state) = &mut self.replication else { return false };
        if state.following.is_none() && state.change.is_none() {
            return false;
        }
        state.primary.predecessors.push(client);
        tracing::info!("Failover request received for replid {}.", state.history.id);
        self.lead_for_good(None);
        true
    }

    fn answer_sync(&mut self, replica: &mut Replica, sync: &Sync) {
        let Some(state) = &mut self.replication else { return };
        let named = replica.name();
        let answer = match sync {
            Sync::Full => Answer::UnknownHistory,
            Sync::Partial { id, offset, .. } => {
                // A stream that nobody writes on has no end to go on from.
                state.history.answer(id, *offset, state.backlog.as_ref())
            }
        };
        let has_known = matches!(sync, Sync::Partial { id, .. } if id != b"?");
        if let Answer::Partial(from) = answer {
            replica.begin_stream(&state.history.id, from);
            tracing::info!(
                "Partial resynchronization request from {named} accepted. Sending {} bytes of \
                 backlog starting from offset {}.",
                state.history.offset - from,
                from + 1
            );
        } else if has_known {
            tracing::info!("Partial resynchronization not accepted for {named}: {answer:?}");
        }
        let is_partial = replica.stage() == Stage::Online;
        self.instance.tell_replication(|state| {
            state.syncs.full += u64::from(!is_partial);
            state.syncs.partial += u64::from(is_partial);
            state.syncs.refused += u64::from(!is_partial && has_known);
        });
        if !is_partial {
            tracing::info!("Full resync requested by replica {named}");
            self.join_snapshot(replica);
        }
    }

    // ---- a turn ------------------------------------------------------------------------------

    /// What a turn does about replicas. Returns whether there is more to do at once.
    pub(super) fn lead_replicas(&mut self) -> bool {
        self.welcome_predecessors();
        self.begin_stream_without_snapshot();
        let backlog_bytes = self.node.config().repl_backlog_size();
        let Some(state) = &mut self.replication else { return false };
        if let Some(backlog) = &mut state.backlog {
            backlog.trim(backlog_bytes, state.primary.needed());
        }
        state.show_backlog(&self.instance);
        if state.primary.followers.is_empty() && state.primary.waits.is_empty() {
            return self.begin_snapshot_if_due();
        }
        self.hear_acknowledgements();
        self.spread_snapshot();
        self.read_files();
        self.send_to_replicas();
        self.serve_waits();
        let generation = self.instance.generation();
        let is_shown = self.primary().is_some_and(|primary| {
            primary.is_shown && std::mem::replace(&mut primary.generation, generation) == generation
        });
        if !is_shown {
            self.show_replicas();
        }
        self.begin_snapshot_if_due()
    }

    /// Answers primaries that have handed their place over, when it has been taken.
    fn welcome_predecessors(&mut self) {
        let Some(state) = &mut self.replication else { return };
        if state.following.is_some() || state.change.is_some() {
            return;
        }
        for client in std::mem::take(&mut state.primary.predecessors) {
            if self.node.client(client).is_some() {
                tracing::info!("MASTER MODE enabled (failover request)");
                self.begin_sync(client);
            }
        }
    }

    /// The stream begins with the first snapshot's cut. Who wants no data has none, and the stream all
    /// the same.
    fn begin_stream_without_snapshot(&mut self) {
        let Some(state) = &mut self.replication else { return };
        let wants =
            |one: &Follower| one.replica.about.leaves_out.data && one.replica.wants_stream();
        let is_wanted = !state.is_journaling
            && state.following.is_none()
            && state.change.is_none()
            && state.primary.followers.iter().any(wants);
        if is_wanted {
            state.keep_stream();
            state.primary.begins_stream = true;
        }
        if state.primary.begins_stream
            && self.begin_journal()
            && let Some(primary) = self.primary()
        {
            primary.begins_stream = false;
        }
    }

    fn hear_acknowledgements(&mut self) {
        let now_ms = now_ms(&self.node);
        let Some(state) = &mut self.replication else { return };
        let (end, primary) = (state.history.offset, &mut state.primary);
        let mut liars = Vec::new();
        for Follower { client, replica, .. } in &mut primary.followers {
            let Some(state) = self.node.client_mut(*client) else { continue };
            let about = state.session.replica.as_mut();
            let Some(said) = about.and_then(|about| about.acknowledged.take()) else { continue };
            match replica.acknowledge(said, end, now_ms) {
                Acknowledged::Fine => {}
                Acknowledged::First => {
                    tracing::info!("Synchronization with replica {} succeeded", replica.name());
                }
                Acknowledged::FromTheFuture => {
                    tracing::warn!(
                        "Replica {} acknowledges what it cannot have, {said} bytes of {end}: it is \
                         let go",
                        replica.name()
                    );
                    liars.push(*client);
                }
            }
            primary.is_shown = false;
        }
        for client in liars {
            self.close_client(client);
        }
    }

    /// Hands each replica's connection what a send takes, if the last one has gone; who is too far behind
    /// goes itself.
    pub(super) fn send_to_replicas(&mut self) {
        let now_ms = now_ms(&self.node);
        let limit = limit(self.node.config());
        let Some(state) = &mut self.replication else { return };
        let bytes_out = &self.instance.replication().progress.bytes_out;
        let mut done = Vec::new();
        for Follower { client, replica, .. } in &mut state.primary.followers {
            let behind = replica.lacks(state.history.offset);
            if upkeep::exceeds(limit, behind, &mut replica.soft_since_ms, now_ms) {
                let overruns = &mut state.primary.overruns;
                overruns.count(now_ms);
                tracing::warn!(
                    "Replica {} closed for overcoming of output buffer limits: it is {behind} bytes \
                     behind. The next full sync waits for {} ms",
                    replica.name(),
                    overruns.wait_ms(now_ms)
                );
                self.instance.metrics.shard(self.number).output_closed.add(1);
                done.push(*client);
                continue;
            }
            let at = self.of_client[client.index as usize];
            let connection = &mut self.connections[at as usize];
            if connection.is_sending || connection.is_closing {
                continue;
            }
            let mut out = ReplyBuf::default();
            let taken =
                replica.take(state.backlog.as_mut(), SEND_BYTES, now_ms, |piece| {
                    match piece.len() < SHARE_BYTES {
                        true => out.extend(&piece),
                        false => out.attach(piece),
                    }
                });
            if taken == 0 {
                if replica.stage() == Stage::IsDone {
                    tracing::info!("RDB transfer completed, replica {} is let go", replica.name());
                    done.push(*client);
                }
                continue;
            }
            bytes_out.fetch_add(taken as u64, Ordering::Relaxed);
            connection.is_sending = true;
            connection.in_flight = out.len();
            let descriptor = connection.descriptor();
            self.ring.send(at, descriptor, Box::new(Outgoing::new(out)), true);
        }
        for client in done {
            self.close_client(client);
        }
    }

    // ---- parting -----------------------------------------------------------------------------

    pub(super) fn close_client(&mut self, client: ClientKey) {
        if let Some(&at) = self.of_client.get(client.index as usize)
            && let Some(connection) = self.connections.get(at as usize)
            && connection.client == client
        {
            self.close(at);
        }
    }

    /// A client has gone: if it was a replica, it is none any more.
    pub(in super::super) fn replica_closed(&mut self, client: ClientKey) {
        let now_ms = now_ms(&self.node);
        let Some(primary) = self.primary() else { return };
        let Some(place) = primary.followers.iter().position(|one| one.client == client) else {
            return;
        };
        let Follower { replica, file, .. } = primary.followers.remove(place);
        if let Some(file) = file {
            file.let_go();
        }
        if primary.followers.is_empty() {
            primary.alone_since_ms = Some(now_ms);
        }
        tracing::info!("Connection with replica {} lost.", replica.name());
        if let Some(state) = &mut self.replication {
            // What was kept for it goes at once.
            state.looked_ms = 0;
        }
        self.end_snapshot_if_unwanted();
    }

    /// Lets go of all replicas: they will come again, and ask anew.
    pub(super) fn part_with_replicas(&mut self, why: &str) {
        self.part_with(|_| true, why);
    }

    /// Lets go of those that have yet to follow the stream. The others may stay: it may go on where it is.
    pub(super) fn part_with_those_that_sync(&mut self, why: &str) {
        self.part_with(|replica| replica.stage() != Stage::Online, why);
    }

    fn part_with(&mut self, which: impl Fn(&Replica) -> bool, why: &str) {
        let Some(primary) = self.primary() else { return };
        let goes = primary.followers.iter().filter(|one| which(&one.replica));
        let clients: Vec<ClientKey> = goes.map(|one| one.client).collect();
        if !clients.is_empty() {
            tracing::info!("{} replicas are let go: {why}", clients.len());
        }
        clients.into_iter().for_each(|client| self.close_client(client));
    }

    // ---- in their time -----------------------------------------------------------------------

    /// What is due once a second.
    pub(super) fn attend_to_replicas(&mut self) {
        let (now_ms, config) = (now_ms(&self.node), self.instance.config());
        let patience_ms = i64::from(config.repl_timeout()) * 1000;
        let period_ms = i64::from(config.repl_ping_replica_period()) * 1000;
        let Some(state) = &mut self.replication else { return };
        let mut lost = Vec::new();
        for Follower { client, replica, .. } in &mut state.primary.followers {
            if let Some(client) = self.node.client(*client) {
                replica.heard(client.session.active_ms);
            }
            let at = self.of_client[client.index as usize];
            let is_sending = self.connections[at as usize].is_sending;
            let what = match replica.tick(patience_ms, now_ms, is_sending) {
                Due::Nothing => continue,
                Due::TimedOutInSync => "full sync",
                Due::TimedOut => "streaming sync",
            };
            tracing::warn!("Disconnecting timedout replica ({what}): {}", replica.name());
            lost.push(*client);
        }
        // Who is to have everything is not given more.
        let pings = state.following.is_none()
            && state.is_journaling
            && !self.instance.holds_writes()
            && !state.primary.followers.is_empty()
            && now_ms - state.primary.pinged_ms >= period_ms;
        if pings {
            state.primary.pinged_ms = now_ms;
        }
        // A replica keeps what it has: it may have to lead.
        let ttl_ms = config.repl_backlog_ttl() as i64 * 1000;
        let is_over = ttl_ms > 0
            && state.following.is_none()
            && state.change.is_none()
            && state.is_journaling
            && state.primary.alone_since_ms.is_some_and(|since_ms| now_ms - since_ms > ttl_ms);
        for client in lost {
            self.close_client(client);
        }
        if pings {
            self.say_in_stream(&[b"PING"]);
        }
        if is_over {
            self.end_stream();
        }
        self.remove_sync_file();
        self.show_replicas();
    }

    /// Tells everybody how replicas are.
    pub(super) fn show_replicas(&mut self) {
        let (now_ms, config) = (now_ms(&self.node), self.instance.config());
        let most_lag_s = i64::from(config.min_replicas_max_lag());
        let Some(primary) = self.primary() else { return };
        primary.is_shown = true;
        let replicas: Vec<shown::Replica> =
            primary.followers.iter().map(|one| one.replica.shown(now_ms)).collect();
        let is_good =
            |one: &&shown::Replica| one.state == ReplicaState::Online && one.lag_s <= most_lag_s;
        let good = replicas.iter().filter(is_good).count();
        self.instance.tell_replication(|state| {
            (state.replicas, state.good_replicas) = (replicas, good);
        });
    }

    // ---- waiting for them --------------------------------------------------------------------

    /// Answers those whose replicas have acknowledged enough, or whose time is over.
    fn serve_waits(&mut self) {
        let now_ms = now_ms(&self.node);
        let (journaled_to, merged_to) = (self.node.journaled_to(), self.node.merged_to());
        let Some(state) = &mut self.replication else { return };
        if state.primary.waits.is_empty() {
            return;
        }
        let (end, is_journaling) = (state.history.offset, state.is_journaling);
        let merged_to = if is_journaling { merged_to } else { journaled_to };
        let mut waits = std::mem::take(&mut state.primary.waits);
        waits.locate(Progress { journaled_to, merged_to, end });
        let answered =
            waits.take_answered(now_ms, end, |offset| state.primary.acknowledged(offset));
        let asks = waits.take_asking() && is_journaling && !self.instance.holds_writes();
        state.primary.waits = waits;
        for Answered { asker: (asker, of_logs), offset, replicas } in answered {
            self.answer_wait(asker, of_logs, offset, replicas);
        }
        if asks {
            self.ask_how_far();
        }
    }

    /// Asks all replicas how far they are.
    pub(super) fn ask_how_far(&mut self) {
        self.say_in_stream(&[b"REPLCONF", b"GETACK", b"*"]);
        self.send_to_replicas();
    }

    /// Nobody's replicas are waited for any more: this server has another role.
    pub(super) fn end_waits(&mut self) {
        let Some(primary) = self.primary() else { return };
        for (asker, _) in primary.waits.take_all() {
            let text = "UNBLOCKED force unblock from blocking operation, instance state changed \
                        (master -> replica?)";
            self.node.answer(asker, Ok(Said::Parting(text)));
        }
    }
}

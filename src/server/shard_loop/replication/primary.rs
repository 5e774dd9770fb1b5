//! Who follows this server: replicas, on the first shard.
//!
//! ```text
//! PSYNC ──┬── what it missed is kept ─────────────────────────────────────────> online
//!         └── waits for a snapshot ── gets it ── has it, and is yet to say so ── online
//! ```
//! A replica is a client like others whose replies are the snapshot and then the stream, a piece at a time:
//! as much as a send takes is handed to its connection when the last has gone, and the rest stays where
//! it is, shared with all others. So a slow one costs no memory but the part of the stream that it
//! lacks, which is kept as far as `client-output-buffer-limit replica` allows; then it goes.
//!
//! Several replicas share a snapshot: those that wait when it is cut. It goes to their sockets as it is made
//! ([`Spread`]), at the pace of the slowest.

use super::super::{ShardLoop, upkeep};
use super::{Position, now_ms};
use crate::base::error::Error;
use crate::command::persistence::Wait;
use crate::config::typed::{ClientClass, OutputLimit};
use crate::instance::replication::{self as shown, ReplicaState};
use crate::rdb::{Checksum, Version, Writer};
use crate::replica::history::Answer;
use crate::resp::ReplyBuf;
use crate::replica::link::MARK_BYTES;
use crate::route::client::ClientKey;
use crate::route::message::Asker;
use crate::route::requests::LEADER;
use crate::server::ring::Outgoing;
use crate::server::target::Spread;
use crate::session::{LeavesOut, Sync};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Bytes that a replica's connection is handed at a time.
const SEND_BYTES: usize = 512 * 1024;
/// Bytes of a piece from which on it is shared with the send instead of copied.
const SHARE_BYTES: usize = 1024;
/// Bytes of a snapshot that wait for one replica while others have had theirs.
const AHEAD_BYTES: usize = 1024 * 1024;

/// The replicas of this server, and who waits for them.
#[derive(Default)]
pub(super) struct Primary {
    replicas: Vec<Replica>,
    snapshot: Option<Rc<Spread>>,
    /// When the next snapshot begins, if one is wanted.
    snapshot_due_ms: Option<i64>,
    waits: Vec<Waiting>,
    pinged_ms: i64,
    /// Since when there is none.
    alone_since_ms: Option<i64>,
    /// Whether what is shown of them has changed.
    is_shown: bool,
}

/// A server that follows this one.
struct Replica {
    client: ClientKey,
    ip: String,
    port: i64,
    stage: Stage,
    /// Whether it knows of histories and offsets, or has said SYNC.
    knows_offsets: bool,
    /// The offset of the next byte of the stream that it is to get.
    cursor: u64,
    acknowledged: u64,
    /// When it was last heard of, or took something.
    moved_ms: i64,
    heard_ms: i64,
    /// What it gets before the stream.
    outbox: VecDeque<Bytes>,
    outbox_bytes: usize,
    /// Since when it has been too far behind for the soft limit.
    soft_since_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for a snapshot to be cut.
    Waits,
    /// It gets the one under way, which ends with a mark.
    Gets([u8; MARK_BYTES]),
    /// It has been given all of it, and is yet to say that it has it.
    Has,
    /// It follows the stream.
    Online,
}

/// A client that waits for replicas.
struct Waiting {
    asker: Asker,
    wait: Wait,
    /// How much of the shards' journals has to be in the stream for all that it has written to be.
    bound: Option<u64>,
    offset: Option<u64>,
    until_ms: i64,
}

impl Replica {
    fn put(&mut self, bytes: Bytes) {
        self.outbox_bytes += bytes.len();
        self.outbox.push_back(bytes);
    }

    fn state(&self) -> ReplicaState {
        match self.stage {
            // What is made and sent at once is called waiting by the peers.
            Stage::Waits | Stage::Gets(_) => ReplicaState::WaitBgsave,
            Stage::Has => ReplicaState::SendBulk,
            Stage::Online => ReplicaState::Online,
        }
    }

    fn shown(&self, now_ms: i64) -> shown::Replica {
        let lag_s = match self.stage {
            Stage::Online => (now_ms - self.heard_ms).max(0) / 1000,
            _ => 0,
        };
        let (ip, port, state) = (self.ip.clone(), self.port, self.state());
        shown::Replica { ip, port, state, acknowledged: self.acknowledged, lag_s }
    }
}

impl Primary {
    /// Whether a snapshot is on its way to replicas, or somebody waits for what only the next look tells.
    pub(super) fn is_syncing(&self) -> bool {
        self.snapshot.is_some() || self.waits.iter().any(|wait| wait.offset.is_none())
    }

    /// The first byte of the stream that some replica still needs.
    fn needed(&self) -> Option<u64> {
        let follow = self.replicas.iter().filter(|replica| replica.stage != Stage::Waits);
        follow.map(|replica| replica.cursor).min()
    }

    /// How many have acknowledged all up to an offset.
    fn acknowledged(&self, offset: u64) -> i64 {
        let online = self.replicas.iter().filter(|replica| replica.stage == Stage::Online);
        online.filter(|replica| replica.acknowledged >= offset).count() as i64
    }

    /// A client waits.
    pub(super) fn wait(&mut self, asker: Asker, wait: Wait, now_ms: i64) {
        let until_ms = match wait.timeout_ms {
            0 => i64::MAX,
            ms => now_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)),
        };
        self.waits.push(Waiting { asker, wait, bound: None, offset: wait.offset, until_ms });
    }
}

impl ShardLoop {
    fn primary(&mut self) -> Option<&mut Primary> {
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
        let about = state.session.replica.clone().unwrap_or_default();
        let Some(sync) = about.sync else { return };
        let addr = state.session.about.addr.clone();
        let ip = match about.ip.is_empty() {
            true => addr.rsplit_once(':').map_or(addr.as_str(), |(ip, _)| ip).to_owned(),
            false => about.ip.clone(),
        };
        let named = format!("{ip}:{}", about.port);
        tracing::info!("Replica {named} asks for synchronization");
        let mut replica = Replica {
            client,
            ip,
            port: about.port,
            stage: Stage::Waits,
            knows_offsets: sync != Sync::Full,
            cursor: 0,
            acknowledged: 0,
            moved_ms: now_ms,
            heard_ms: now_ms,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            soft_since_ms: 0,
        };
        if about.leaves_out.data {
            replica.stage = Stage::Has;
            self.put_without_data(&mut replica, about.leaves_out);
        } else {
            self.answer_sync(&mut replica, &sync, about.takes_new_ids, &named);
        }
        let delay_ms = i64::from(self.instance.config().repl_diskless_sync_delay()) * 1000;
        let Some(primary) = self.primary() else { return };
        if replica.stage == Stage::Waits {
            primary.snapshot_due_ms.get_or_insert(now_ms + delay_ms);
        }
        primary.alone_since_ms = None;
        if primary.replicas.is_empty() {
            primary.pinged_ms = now_ms;
        }
        primary.is_shown = false;
        primary.replicas.push(replica);
        self.node.release(client);
        self.show_replicas();
    }

    fn answer_sync(&mut self, replica: &mut Replica, sync: &Sync, takes_id: bool, named: &str) {
        let Some(state) = &mut self.replication else { return };
        let answer = match sync {
            Sync::Full => Answer::UnknownHistory,
            Sync::Partial { id, offset, .. } => {
                // A stream that nobody writes on has no end to go on from.
                let backlog = state.backlog.as_ref();
                state.history.answer(id, *offset, backlog)
            }
        };
        let has_known = matches!(sync, Sync::Partial { id, .. } if id != b"?");
        if let Answer::Partial(from) = answer {
            let line = match takes_id {
                true => format!("+CONTINUE {}\r\n", state.history.id),
                false => "+CONTINUE\r\n".to_owned(),
            };
            replica.put(Bytes::from(line));
            (replica.stage, replica.cursor) = (Stage::Online, from);
            let kept = state.history.offset - from;
            tracing::info!(
                "Partial resynchronization request from {named} accepted. Sending {kept} bytes of \
                 backlog starting from offset {}.",
                from + 1
            );
        } else if has_known {
            tracing::info!("Partial resynchronization not accepted for {named}: {answer:?}");
        }
        let is_partial = replica.stage == Stage::Online;
        self.instance.tell_replication(|state| {
            state.syncs.full += u64::from(!is_partial);
            state.syncs.partial += u64::from(is_partial);
            state.syncs.refused += u64::from(!is_partial && has_known);
        });
        if !is_partial {
            tracing::info!("Full resync requested by replica {named}");
        }
    }

    /// A replica that wants no data gets what there is besides, at once.
    fn put_without_data(&mut self, replica: &mut Replica, leaves_out: LeavesOut) {
        let Some(state) = &self.replication else { return };
        let mut file = BytesMut::new();
        Writer::header(&mut file, Version::V10);
        if !leaves_out.functions {
            for code in self.instance.persistence().state().functions {
                Writer::function(&mut file, &code);
            }
        }
        Writer::end(&mut file);
        let sum = Checksum::of(&file);
        file.extend_from_slice(&sum.to_le_bytes());
        let (id, offset, mark) = (&state.history.id, state.history.offset, mark());
        if replica.knows_offsets {
            replica.put(Bytes::from(format!("+FULLRESYNC {id} {offset}\r\n")));
        }
        replica.put(Bytes::from([b"$EOF:".as_slice(), &mark, b"\r\n"].concat()));
        replica.put(file.freeze());
        replica.put(Bytes::copy_from_slice(&mark));
        replica.cursor = offset;
    }

    // ---- a turn ------------------------------------------------------------------------------

    /// What a turn does about replicas. Returns whether there is more to do at once.
    pub(super) fn lead_replicas(&mut self) -> bool {
        let Some(primary) = self.primary() else { return false };
        if primary.replicas.is_empty() && primary.waits.is_empty() {
            return self.begin_snapshot_if_due();
        }
        self.hear_acknowledgements();
        self.spread_snapshot();
        self.send_to_replicas();
        self.serve_waits();
        if self.primary().is_some_and(|primary| !primary.is_shown) {
            self.show_replicas();
        }
        self.begin_snapshot_if_due()
    }

    fn hear_acknowledgements(&mut self) {
        let now_ms = now_ms(&self.node);
        let Some(state) = &mut self.replication else { return };
        let (end, primary) = (state.history.offset, &mut state.primary);
        let mut liars = Vec::new();
        for replica in &mut primary.replicas {
            let Some(client) = self.node.client_mut(replica.client) else { continue };
            let about = client.session.replica.as_mut();
            let Some(said) = about.and_then(|about| about.acknowledged.take()) else { continue };
            replica.heard_ms = now_ms;
            if said > end {
                liars.push(replica.client);
                continue;
            }
            if replica.stage == Stage::Has && replica.outbox.is_empty() {
                replica.stage = Stage::Online;
                tracing::info!("Synchronization with replica {}:{} succeeded", replica.ip, replica.port);
            }
            if replica.stage == Stage::Online {
                replica.acknowledged = replica.acknowledged.max(said);
            }
            primary.is_shown = false;
        }
        for client in liars {
            tracing::warn!("A replica acknowledges what it cannot have: it is let go");
            self.close_client(client);
        }
    }

    /// Hands replicas what has been made of the snapshot, as far as all have room.
    fn spread_snapshot(&mut self) {
        let Some(primary) = self.primary() else { return };
        let Some(spread) = primary.snapshot.clone() else { return };
        let gets = |replica: &&mut Replica| matches!(replica.stage, Stage::Gets(_));
        let mut members: Vec<&mut Replica> = primary.replicas.iter_mut().filter(gets).collect();
        if members.is_empty() {
            return;
        }
        while members.iter().all(|member| member.outbox_bytes < AHEAD_BYTES)
            && let Some(chunk) = spread.take()
        {
            for member in &mut members {
                member.put(chunk.clone());
            }
        }
    }

    /// Hands each replica's connection what a send takes, if the last one has gone.
    fn send_to_replicas(&mut self) {
        let now_ms = now_ms(&self.node);
        let Some(state) = &mut self.replication else { return };
        let bytes_out = &self.instance.replication().progress.bytes_out;
        for replica in &mut state.primary.replicas {
            let at = self.of_client[replica.client.index as usize];
            let connection = &mut self.connections[at as usize];
            if connection.is_sending || connection.is_closing {
                continue;
            }
            let mut out = ReplyBuf::default();
            while out.len() < SEND_BYTES
                && let Some(bytes) = replica.outbox.pop_front()
            {
                replica.outbox_bytes -= bytes.len();
                out.attach(bytes);
            }
            if replica.stage == Stage::Online
                && replica.outbox.is_empty()
                && let Some(backlog) = &mut state.backlog
                && replica.cursor < backlog.end()
            {
                let room = SEND_BYTES.saturating_sub(out.len());
                let taken = backlog.read(replica.cursor, room, |piece| {
                    match piece.len() < SHARE_BYTES {
                        true => out.extend(&piece),
                        false => out.attach(piece),
                    }
                });
                replica.cursor += taken as u64;
            }
            if out.is_empty() {
                continue;
            }
            replica.moved_ms = now_ms;
            bytes_out.fetch_add(out.len() as u64, Ordering::Relaxed);
            connection.is_sending = true;
            connection.in_flight = out.len();
            let descriptor = connection.descriptor();
            self.ring.send(at, descriptor, Box::new(Outgoing::new(out)), true);
        }
    }

    // ---- snapshots ---------------------------------------------------------------------------

    fn begin_snapshot_if_due(&mut self) -> bool {
        let now_ms = now_ms(&self.node);
        let is_due = self.primary().is_some_and(|primary| {
            primary.snapshot.is_none()
                && primary.snapshot_due_ms.is_some_and(|due_ms| due_ms <= now_ms)
        });
        if !is_due || self.is_stopping() || self.node.is_loading() || !self.may_begin_save() {
            return false;
        }
        let Some(primary) = self.primary() else { return false };
        primary.snapshot_due_ms = None;
        if !primary.replicas.iter().any(|replica| replica.stage == Stage::Waits) {
            return false;
        }
        tracing::info!("Starting a snapshot for replicas, with target: replicas sockets");
        let spread = self.begin_save_for_replicas();
        if let Some(primary) = self.primary() {
            primary.snapshot = Some(spread);
        }
        true
    }

    /// The snapshot for replicas has been cut: those who wait get it.
    pub(in super::super) fn snapshot_is_cut(&mut self, position: &Position) {
        let Some(primary) = self.primary() else { return };
        let waits = |replica: &&mut Replica| replica.stage == Stage::Waits;
        for replica in primary.replicas.iter_mut().filter(waits) {
            let mark = mark();
            if replica.knows_offsets {
                let Position { id, offset, .. } = position;
                replica.put(Bytes::from(format!("+FULLRESYNC {id} {offset}\r\n")));
            }
            replica.put(Bytes::from([b"$EOF:".as_slice(), &mark, b"\r\n"].concat()));
            (replica.stage, replica.cursor) = (Stage::Gets(mark), position.offset);
        }
        primary.is_shown = false;
    }

    /// The snapshot for replicas has been handed to all of them, or there will be no more of it.
    pub(in super::super) fn snapshot_is_over(&mut self, result: Result<(), Error>) {
        let Some(primary) = self.primary() else { return };
        primary.snapshot = None;
        primary.is_shown = false;
        let (mut lost, mut served) = (Vec::new(), 0);
        for replica in &mut primary.replicas {
            match replica.stage {
                Stage::Gets(mark) if result.is_ok() => {
                    replica.put(Bytes::copy_from_slice(&mark));
                    replica.stage = Stage::Has;
                    served += 1;
                }
                Stage::Gets(_) => lost.push(replica.client),
                // Those who came meanwhile are next; after a failure, who still waits is.
                Stage::Waits => _ = primary.snapshot_due_ms.get_or_insert(0),
                Stage::Has | Stage::Online => {}
            }
        }
        if result.is_ok() {
            tracing::info!("The snapshot has been made, {served} replicas still up");
        }
        for client in lost {
            self.close_client(client);
        }
    }

    // ---- parting -----------------------------------------------------------------------------

    fn close_client(&mut self, client: ClientKey) {
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
        let before = primary.replicas.len();
        primary.replicas.retain(|replica| replica.client != client);
        if primary.replicas.len() == before {
            return;
        }
        if primary.replicas.is_empty() {
            primary.alone_since_ms = Some(now_ms);
        }
        let gets = |replica: &Replica| matches!(replica.stage, Stage::Gets(_));
        if let Some(spread) = &primary.snapshot
            && !primary.replicas.iter().any(|one| gets(one) || one.stage == Stage::Waits)
        {
            tracing::info!("The last replica has gone, its snapshot is given up");
            spread.abandon();
        }
        tracing::info!("Connection with a replica lost");
        if let Some(state) = &mut self.replication {
            // What was kept for it goes at once.
            state.looked_ms = 0;
        }
    }

    /// Lets go of all replicas: they will come again, and ask anew.
    pub(super) fn part_with_replicas(&mut self, why: &str) {
        let Some(primary) = self.primary() else { return };
        let clients: Vec<ClientKey> = primary.replicas.iter().map(|one| one.client).collect();
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
        let backlog_bytes = config.repl_backlog_size();
        let limit = config.output_limit(ClientClass::Replica);
        let least = |bytes: u64| if bytes == 0 { 0 } else { bytes.max(backlog_bytes) };
        let limit = OutputLimit {
            hard_bytes: least(limit.hard_bytes),
            soft_bytes: least(limit.soft_bytes),
            ..limit
        };
        let period_ms = i64::from(config.repl_ping_replica_period()) * 1000;
        let Some(state) = &mut self.replication else { return };
        let end = state.history.offset;
        let (mut lost, mut waiting) = (Vec::new(), Vec::new());
        for replica in &mut state.primary.replicas {
            let named = format!("{}:{}", replica.ip, replica.port);
            let silent_ms = now_ms - replica.heard_ms.max(replica.moved_ms);
            match replica.stage {
                Stage::Waits => {
                    waiting.push(replica.client);
                    continue;
                }
                Stage::Gets(_) if now_ms - replica.moved_ms > patience_ms => {
                    tracing::warn!("Disconnecting timedout replica (full sync): {named}");
                    lost.push(replica.client);
                }
                Stage::Has | Stage::Online if silent_ms > patience_ms => {
                    tracing::warn!("Disconnecting timedout replica (streaming sync): {named}");
                    lost.push(replica.client);
                }
                _ => {}
            }
            let behind = end.saturating_sub(replica.cursor);
            if upkeep::exceeds(limit, behind, &mut replica.soft_since_ms, now_ms) {
                tracing::warn!(
                    "Replica {named} closed for overcoming of output buffer limits: it is {behind} \
                     bytes behind"
                );
                lost.push(replica.client);
            }
        }
        let pings = state.following.is_none()
            && state.is_journaling
            && !state.primary.replicas.is_empty()
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
        let needed = state.primary.needed();
        if let Some(backlog) = &mut state.backlog {
            backlog.trim(backlog_bytes, needed);
        }
        for client in lost {
            self.close_client(client);
        }
        // A sign of life, which counts for nothing.
        let mut state = self.primary();
        for replica in state.iter_mut().flat_map(|primary| &mut primary.replicas) {
            if waiting.contains(&replica.client) && replica.outbox.is_empty() {
                replica.put(Bytes::from_static(b"\n"));
            }
        }
        if pings {
            self.say_in_stream(&[b"PING"]);
        }
        if is_over {
            self.end_stream();
        }
        self.show_replicas();
    }

    /// Tells everybody how replicas are.
    fn show_replicas(&mut self) {
        let (now_ms, config) = (now_ms(&self.node), self.instance.config());
        let most_lag_s = i64::from(config.min_replicas_max_lag());
        let Some(primary) = self.primary() else { return };
        primary.is_shown = true;
        let replicas: Vec<shown::Replica> =
            primary.replicas.iter().map(|replica| replica.shown(now_ms)).collect();
        let is_good =
            |one: &&shown::Replica| one.state == ReplicaState::Online && one.lag_s <= most_lag_s;
        let good = replicas.iter().filter(is_good).count();
        self.instance.tell_replication(|state| {
            (state.replicas, state.good_replicas) = (replicas, good);
        });
    }

    // ---- waiting for them --------------------------------------------------------------------

    /// Answers those whose replicas have acknowledged enough, or whose time is over.
    pub(super) fn serve_waits(&mut self) {
        let now_ms = now_ms(&self.node);
        let (journaled_to, merged_to) = (self.node.journaled_to(), self.node.merged_to());
        let Some(state) = &mut self.replication else { return };
        if state.primary.waits.is_empty() {
            return;
        }
        let mut asks = false;
        for wait in &mut state.primary.waits {
            let bound = *wait.bound.get_or_insert(journaled_to);
            if wait.offset.is_none() && (!state.is_journaling || merged_to >= bound) {
                wait.offset = Some(state.history.offset);
                asks = true;
            }
        }
        let (mut answers, waits) = (Vec::new(), std::mem::take(&mut state.primary.waits));
        for wait in waits {
            let offset = wait.offset.unwrap_or(state.history.offset);
            let count = state.primary.acknowledged(offset);
            let is_over = now_ms >= wait.until_ms;
            let is_enough = wait.offset.is_some() && count >= wait.wait.replicas;
            if is_over || is_enough {
                answers.push((wait, offset, count));
            } else {
                state.primary.waits.push(wait);
            }
        }
        let asks = asks && !state.primary.waits.is_empty() && state.is_journaling;
        for (Waiting { asker, wait, .. }, offset, count) in answers {
            self.answer_wait(asker, &wait, offset, count);
        }
        if asks {
            self.say_in_stream(&[b"REPLCONF", b"GETACK", b"*"]);
            self.send_to_replicas();
        }
    }

    /// Nobody's replicas are waited for any more: this server has another role.
    pub(super) fn end_waits(&mut self) {
        let Some(primary) = self.primary() else { return };
        for Waiting { asker, .. } in std::mem::take(&mut primary.waits) {
            let text = "UNBLOCKED force unblock from blocking operation, instance state changed \
                        (master -> replica?)";
            self.answer(Some(asker), Err(Error::text(text)));
        }
    }
}

/// 40 digits that no data has.
fn mark() -> [u8; MARK_BYTES] {
    let mut mark = [b'0'; MARK_BYTES];
    mark.copy_from_slice(super::random_id().as_bytes());
    mark
}

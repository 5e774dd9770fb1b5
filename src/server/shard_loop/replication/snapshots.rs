//! Snapshots for replicas.
//!
//! Several replicas share one: those that wait when it is cut, and want the same version of the format.
//! It goes to their sockets as it is made ([`Spread`]), at the pace of the slowest; or, where
//! `repl-diskless-sync` is off or one of them knows no end but a length, to the file that SAVE writes,
//! of which each is then sent the bytes at its own pace. Who comes while that file is being made has it as
//! well: the stream from its cut on is kept for the others.

use super::super::ShardLoop;
use super::primary::Follower;
use super::{Position, now_ms};
use crate::base::error::Error;
use crate::rdb::{Checksum, Version, Writer};
use crate::replica::link::MARK_BYTES;
use crate::replica::primary::{Framing, Replica, Stage};
use crate::server::background::Reading;
use crate::server::id;
use crate::server::target::Spread;
use bytes::BytesMut;
use std::path::PathBuf;
use std::rc::Rc;

/// Bytes of a file that are read at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// A snapshot for replicas that is under way.
pub(super) struct Snapshot {
    way: Way,
    version: Version,
    /// Where it was cut, once it has been.
    position: Option<Position>,
}

/// How it gets to replicas.
enum Way {
    /// As it is made.
    Sockets(Rc<Spread>),
    /// As a file, when that is whole.
    File(PathBuf),
}

/// A snapshot's file on its way to one replica.
pub(super) struct FromFile {
    reading: Rc<Reading>,
    /// Bytes of it that are to come.
    left: u64,
}

impl FromFile {
    /// The rest of it is of no use.
    pub(super) fn let_go(self) {
        self.reading.pieces.end();
    }
}

impl Snapshot {
    /// Whether a replica can have it.
    fn is_for(&self, replica: &Replica) -> bool {
        let is_fine = matches!(self.way, Way::File(_)) || replica.about.takes_eof;
        is_fine && replica.rdb_version() == self.version
    }
}

fn waits(follower: &&Follower) -> bool {
    follower.replica.stage() == Stage::Waits
}

impl ShardLoop {
    /// A replica that wants no data gets what there is besides, at once.
    pub(super) fn put_without_data(&mut self, replica: &mut Replica) {
        let Some(state) = &self.replication else { return };
        let mut file = BytesMut::new();
        Writer::header(&mut file, Version::V10);
        if !replica.about.leaves_out.functions {
            for code in self.instance.persistence().state().functions {
                Writer::function(&mut file, &code);
            }
        }
        Writer::end(&mut file);
        let sum = Checksum::of(&file);
        file.extend_from_slice(&sum.to_le_bytes());
        replica.begin_snapshot(&state.history.id, state.history.offset);
        replica.begin_bytes(Framing::Mark(mark()), now_ms(&self.node));
        replica.put(file.freeze());
        replica.end_bytes();
    }

    // ---- when --------------------------------------------------------------------------------

    /// A replica has the snapshot that is being written to a file, if it can; otherwise it waits.
    pub(super) fn join_snapshot(&mut self, replica: &mut Replica) {
        let Some(state) = &self.replication else { return };
        let Some(snapshot) = &state.primary.snapshot else { return };
        if let Snapshot { way: Way::File(_), position: Some(position), .. } = snapshot
            && snapshot.is_for(replica)
            && state.backlog.as_ref().is_some_and(|backlog| backlog.has(position.offset))
        {
            replica.begin_snapshot(&position.id, position.offset);
            tracing::info!("Replica {} shares the snapshot under way", replica.name());
        }
    }

    /// A replica has come: if it waits, a snapshot is wanted. What goes to sockets waits a moment for
    /// others to share it.
    pub(super) fn want_snapshot(&mut self) {
        let now_ms = now_ms(&self.node);
        let config = self.instance.config();
        let Some(primary) = self.primary() else { return };
        let waiting: Vec<&Replica> =
            primary.followers.iter().filter(waits).map(|one| &one.replica).collect();
        let Some(last) = waiting.last() else { return };
        let enough = config.repl_diskless_sync_max_replicas() as usize;
        let is_now = !config.repl_diskless_sync()
            || !last.about.takes_eof
            || (enough > 0 && waiting.len() >= enough);
        let delay_ms = i64::from(config.repl_diskless_sync_delay()) * 1000;
        let due_ms = if is_now { now_ms } else { now_ms + delay_ms };
        let due_ms = due_ms.max(now_ms + primary.overruns.wait_ms(now_ms));
        let due_ms = primary.snapshot_due_ms.map_or(due_ms, |before_ms| before_ms.min(due_ms));
        primary.snapshot_due_ms = Some(due_ms);
    }

    pub(super) fn begin_snapshot_if_due(&mut self) -> bool {
        let now_ms = now_ms(&self.node);
        let is_due = self.primary().is_some_and(|primary| {
            primary.snapshot.is_none()
                && primary.snapshot_due_ms.is_some_and(|due_ms| due_ms <= now_ms)
        });
        if !is_due || self.is_stopping() || self.node.is_loading() || !self.may_begin_save() {
            return false;
        }
        let config = self.instance.config();
        let Some(primary) = self.primary() else { return false };
        primary.snapshot_due_ms = None;
        let Some(first) = primary.followers.iter().find(waits) else { return false };
        let version = first.replica.rdb_version();
        let mut others = primary.followers.iter().filter(waits);
        let to_sockets = config.repl_diskless_sync()
            && others
                .all(|one| one.replica.about.takes_eof || one.replica.rdb_version() != version);
        let to = if to_sockets { "replicas sockets" } else { "disk" };
        tracing::info!("Starting BGSAVE for SYNC with target: {to}");
        let way = match to_sockets {
            true => Way::Sockets(self.begin_save_to_replicas(version)),
            false => Way::File(self.begin_save_to_file_for_replicas(version)),
        };
        if let Some(primary) = self.primary() {
            primary.snapshot = Some(Snapshot { way, version, position: None });
        }
        true
    }

    /// The snapshot for replicas has been cut: those who wait get it, if they can.
    pub(in super::super) fn snapshot_is_cut(&mut self, position: Position) {
        let now_ms = now_ms(&self.node);
        let Some(primary) = self.primary() else { return };
        let Some(snapshot) = &mut primary.snapshot else { return };
        for Follower { replica, .. } in &mut primary.followers {
            if replica.stage() != Stage::Waits || !snapshot.is_for(replica) {
                continue;
            }
            replica.begin_snapshot(&position.id, position.offset);
            if let Way::Sockets(_) = snapshot.way {
                replica.begin_bytes(Framing::Mark(mark()), now_ms);
            }
        }
        snapshot.position = Some(position);
        primary.is_shown = false;
        self.end_snapshot_if_unwanted();
    }

    /// The snapshot for replicas has been made, of so many bytes, or there will be no more of it.
    pub(in super::super) fn snapshot_is_over(&mut self, result: Result<u64, Error>) {
        let now_ms = now_ms(&self.node);
        let Some(state) = &mut self.replication else { return };
        let primary = &mut state.primary;
        let Some(Snapshot { way, .. }) = primary.snapshot.take() else { return };
        primary.is_shown = false;
        let (mut lost, mut served) = (Vec::new(), 0);
        for Follower { client, replica, file } in &mut primary.followers {
            match (replica.stage(), &way, &result) {
                (Stage::Gets, Way::Sockets(_), Ok(_)) => {
                    replica.end_bytes();
                    served += 1;
                }
                (Stage::WaitsForFile, Way::File(path), Ok(bytes)) => {
                    replica.begin_bytes(Framing::Length(*bytes), now_ms);
                    let reading = self.background.read(path, PIECE_BYTES);
                    *file = Some(FromFile { reading, left: *bytes });
                }
                (Stage::Gets, Way::Sockets(_), Err(_))
                | (Stage::WaitsForFile, Way::File(_), Err(_)) => {
                    tracing::warn!("SYNC failed. There is no snapshot for {}", replica.name());
                    lost.push(*client);
                }
                // Those who came meanwhile are next; after a failure, who still waits is.
                (Stage::Waits, ..) => _ = primary.snapshot_due_ms.get_or_insert(now_ms),
                _ => {}
            }
        }
        match (way, result) {
            (Way::File(path), Ok(_)) => primary.made_file = Some(path),
            (Way::Sockets(_), Ok(_)) => {
                tracing::info!("The snapshot has been made, {served} replicas still up");
            }
            (_, Err(_)) => {}
        }
        for client in lost {
            self.close_client(client);
        }
    }

    /// Nobody may want the snapshot any more that is being made. Who waits while it has been cut waits for
    /// the next one. A file is kept all the same where there are to be some anyway.
    pub(super) fn end_snapshot_if_unwanted(&mut self) {
        let keeps_files = !self.instance.config().save().is_empty();
        let Some(primary) = self.primary() else { return };
        let Some(Snapshot { way, position, .. }) = &primary.snapshot else { return };
        let wants = |one: &Follower| match one.replica.stage() {
            Stage::Gets => matches!(way, Way::Sockets(_)),
            Stage::WaitsForFile => matches!(way, Way::File(_)),
            Stage::Waits => position.is_none(),
            _ => false,
        };
        let is_wanted =
            (matches!(way, Way::File(_)) && keeps_files) || primary.followers.iter().any(wants);
        if !is_wanted {
            tracing::info!("The last replica has gone, its snapshot is given up");
            self.cancel_save_for_replicas();
        }
    }

    // ---- on their way ------------------------------------------------------------------------

    /// Hands replicas what has been made of the snapshot, as far as all have room.
    pub(super) fn spread_snapshot(&mut self) {
        let Some(primary) = self.primary() else { return };
        let Some(Snapshot { way: Way::Sockets(spread), .. }) = &primary.snapshot else { return };
        let gets = |one: &&mut Follower| one.replica.stage() == Stage::Gets && one.file.is_none();
        let mut members: Vec<&mut Follower> = primary.followers.iter_mut().filter(gets).collect();
        if members.is_empty() {
            return;
        }
        while members.iter().all(|member| member.replica.has_room())
            && let Some(chunk) = spread.take()
        {
            for member in &mut members {
                member.replica.put(chunk.clone());
            }
        }
    }

    /// Hands replicas what has been read of their file, as far as each has room.
    pub(super) fn read_files(&mut self) {
        let Some(primary) = self.primary() else { return };
        let mut lost = Vec::new();
        for Follower { client, replica, file: place } in &mut primary.followers {
            let Some(file) = place else { continue };
            let mut is_right = true;
            while replica.has_room()
                && let Some(piece) = file.reading.pieces.take()
            {
                let bytes = piece.len() as u64;
                is_right &= bytes <= file.left;
                file.left = file.left.saturating_sub(bytes);
                replica.put(piece);
            }
            if is_right && file.left == 0 {
                replica.end_bytes();
                primary.is_shown = false;
                if let Some(file) = place.take() {
                    file.let_go();
                }
                tracing::info!("The snapshot's file has been handed to replica {}", replica.name());
            } else if !is_right || file.reading.result().is_some() {
                tracing::warn!(
                    "The snapshot's file is not what it was: replica {} is let go",
                    replica.name()
                );
                lost.push(*client);
            }
        }
        for client in lost {
            self.close_client(client);
        }
    }

    // ---- the file ----------------------------------------------------------------------------

    /// Somebody has had the file saved for its own sake.
    pub(in super::super) fn keep_sync_file(&mut self) {
        if let Some(primary) = self.primary() {
            primary.made_file = None;
        }
    }

    /// Removes the file that was made for replicas, if nobody wants one otherwise and that is configured.
    pub(super) fn remove_sync_file(&mut self) {
        let config = self.instance.config();
        let Some(primary) = self.primary() else { return };
        let is_needed = primary.snapshot.is_some()
            || primary.followers.iter().any(|follower| follower.file.is_some());
        if is_needed {
            return;
        }
        let Some(path) = primary.made_file.take() else { return };
        if config.rdb_del_sync_files() && config.save().is_empty() {
            tracing::info!(
                "Removing the RDB file used to feed replicas in a persistence-less instance"
            );
            self.background.remove(path);
        }
    }
}

/// 40 digits that no data has.
fn mark() -> [u8; MARK_BYTES] {
    let mut mark = [b'0'; MARK_BYTES];
    mark.copy_from_slice(id::random().as_bytes());
    mark
}

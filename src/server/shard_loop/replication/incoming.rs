//! A primary's whole data on its way into the shards.
//!
//! It is received into a file and checked while it comes, and only then does what is here go
//! (`repl-diskless-load disabled`, the default): a transfer that fails costs nothing. Otherwise it is loaded
//! as it comes: in place of what is here, which goes first, or beside it (`swapdb`), which takes the memory
//! of both, until the new data is whole and takes the place of the old at one moment. Data of which the
//! rest does not come is never served.

use super::super::ShardLoop;
use super::super::load::{LoadError, Purpose};
use super::Inner;
use super::following::{Following, Input, Stage, ToFile};
use crate::command::persistence::{BEGIN_BESIDE, EMPTY, FORGET_BESIDE, TAKE_BESIDE};
use crate::config::typed::DisklessLoad;
use crate::instance::persistence::Loaded;
use crate::persist::loader::Options;
use crate::rdb::{Fault, Item, Splitter, Version, read};
use crate::server::id;
use bytes::Bytes;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering;

impl ShardLoop {
    pub(super) fn begin_to_receive(&mut self, total: Option<u64>) {
        let config = self.instance.config();
        let progress = &self.instance.replication().progress;
        progress.transferred.store(0, Ordering::Relaxed);
        self.instance.tell_replication(|state| {
            if let Some(primary) = &mut state.primary {
                primary.transfer_total = total;
            }
        });
        let databases = usize::from(config.databases());
        let is_empty = (0..databases).all(|db| self.instance.metrics.keys(db).0 == 0);
        let (is_to_file, is_beside) = match config.repl_diskless_load() {
            DisklessLoad::Disabled => (true, false),
            DisklessLoad::OnEmptyDb => (!is_empty, false),
            DisklessLoad::FlushBeforeLoad => (false, false),
            DisklessLoad::Swapdb => (false, true),
        };
        let to = if is_to_file { "to disk" } else { "to parser" };
        match total {
            Some(total) => {
                tracing::info!("MASTER <-> REPLICA sync: receiving {total} bytes from master {to}");
            }
            None => tracing::info!(
                "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF {to}"
            ),
        }
        if is_to_file {
            let path = config.dir().join(config.dbfilename());
            let mut check = Splitter::new(total);
            check.set_verify(config.rdbchecksum());
            let writing = self.background.write(&path);
            self.set_stage(Stage::ToFile(Box::new(ToFile {
                writing,
                path,
                check,
                is_whole: false,
                version: Version::V10,
            })));
        } else {
            self.set_stage(Stage::Emptying(Input::Link(Rc::default())));
            self.begin_emptying(is_beside);
        }
    }

    pub(super) fn take_data(&mut self, data: &[u8]) {
        let progress = &self.instance.replication().progress;
        progress.transferred.fetch_add(data.len() as u64, Ordering::Relaxed);
        let Some(following) = self.following() else { return };
        match &mut following.stage {
            Stage::ToFile(file) => {
                file.writing.add(Bytes::copy_from_slice(data));
                file.check.push(data);
                let fault = loop {
                    match file.check.next() {
                        Ok(Some(Item::Header(version))) => file.version = version,
                        // What cannot be kept here is refused before what is here goes for it.
                        Ok(Some(Item::Record(record))) => {
                            let value = read::value(file.version, record.type_byte, record.value);
                            if let Err(reason) = value {
                                let key = Some(record.key.to_vec());
                                break Some(Fault { at: record.at, reason, key });
                            }
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => break None,
                        Err(fault) => break Some(fault),
                    }
                };
                if let Some(fault) = fault {
                    self.refuse_data(&format!("the primary's data is of no use: {fault}"));
                }
            }
            Stage::Emptying(Input::Link(reading)) | Stage::Loading(Some(reading)) => {
                reading.pieces.offer(|| Bytes::copy_from_slice(data));
            }
            _ => {}
        }
    }

    pub(super) fn data_is_whole(&mut self) {
        let Some(following) = self.following() else { return };
        match &mut following.stage {
            Stage::ToFile(file) => {
                let checked = file.check.finish();
                file.is_whole = checked.is_ok();
                file.writing.end(checked.is_err());
                if let Err(fault) = checked {
                    self.refuse_data(&format!("the primary's data is of no use: {fault}"));
                }
            }
            Stage::Emptying(Input::Link(reading)) | Stage::Loading(Some(reading)) => {
                reading.finish(Ok(()));
            }
            _ => {}
        }
    }

    /// Goes on taking the data that comes, once there is room again.
    pub(super) fn take_more(&mut self) -> bool {
        let Some(at) = self.following().map(|following| following.at) else { return false };
        let waits = self.connections.get(at as usize).is_some_and(|link| link.waiting() > 0);
        if waits && self.has_room() {
            self.hear_primary(at);
            return true;
        }
        false
    }

    /// Looks whether the file is there, or cannot be.
    pub(super) fn follow_file(&mut self) -> bool {
        let Some(Following { stage: Stage::ToFile(file), .. }) = self.following() else {
            return false;
        };
        if let Some(error) = file.writing.failure() {
            file.is_whole = false;
            self.lose_link(&format!("the primary's data cannot be written: {error}"));
            return true;
        }
        if !file.is_whole {
            return self.take_more();
        }
        let Some(result) = file.writing.result() else { return false };
        let path = file.path.clone();
        match result {
            Ok(()) => {
                self.set_stage(Stage::Emptying(Input::File(path)));
                self.begin_emptying(false);
            }
            Err(error) => {
                file.is_whole = false;
                self.lose_link(&format!("the primary's data cannot be written: {error}"));
            }
        }
        true
    }

    /// The server is about to end: neither what comes of whole data is waited for, nor that replicas take
    /// what they get.
    pub(in super::super) fn cut_syncs_short(&mut self) {
        self.part_with_those_that_sync("The server is about to end");
        if let Some(Following { stage: Stage::ToFile(file), .. }) = self.following()
            && !file.is_whole
        {
            self.lose_link("the server is about to end");
        }
    }

    // ---- loading it --------------------------------------------------------------------------

    /// What is here goes as soon as nothing else is under way on all shards; nobody is served any of it
    /// from now on.
    pub(super) fn begin_emptying(&mut self, is_beside: bool) {
        if !is_beside {
            tracing::info!("MASTER <-> REPLICA sync: Flushing old data");
        }
        if let Some(following) = self.following() {
            following.is_beside = is_beside;
        }
        self.part_with_replicas("The data is about to be replaced");
        self.announce_loading(is_beside);
    }

    pub(super) fn follow_emptying(&mut self) -> bool {
        let Some(following) = self.following() else { return false };
        let is_beside = following.is_beside;
        // Every shard knows before it is asked for its locks.
        if !is_beside && !self.node.is_loading() {
            return true;
        }
        let is_ready = match is_beside {
            true => self.run_on_all(Inner::BeginBeside, &BEGIN_BESIDE),
            false => self.run_on_all(Inner::Empty, &EMPTY),
        };
        if !is_ready {
            return false;
        }
        let Some(following) = self.following() else { return false };
        let (at, primary) = (following.at, format!("{}:{}", following.host, following.port));
        let Stage::Emptying(input) = std::mem::replace(&mut following.stage, Stage::Loading(None))
        else {
            return false;
        };
        if let Some(state) = &mut self.replication {
            state.fills_beside = is_beside;
        }
        tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
        if !is_beside {
            self.instance.tell_persistence(|state| state.functions.clear());
        }
        let verifies = self.instance.config().rdbchecksum();
        // The primary says when keys expire.
        let options = Options { verifies, replaces: false, drops_expired: false };
        match input {
            Input::File(path) => self.begin_load(Purpose::Follow, &path, options),
            Input::Link(reading) => {
                let name = PathBuf::from(primary);
                self.begin_load_of(Purpose::Follow, &name, Rc::clone(&reading), None, options);
                if let Some(following) = self.following() {
                    following.stage = Stage::Loading(Some(reading));
                }
                self.hear_primary(at);
            }
        }
        self.show_link();
        true
    }

    /// The primary's data has been loaded, or cannot be.
    pub(in super::super) fn primary_loaded(&mut self, outcome: Result<Loaded, LoadError>) {
        if let Err(error) = outcome {
            tracing::warn!("Failed trying to load the MASTER synchronization DB: {error}");
            // Nothing half loaded is ever served.
            if let Some(state) = &mut self.replication {
                let loading = self.instance.persistence().state().loading;
                state.discards = Some(loading.is_some_and(|loading| loading.is_beside));
                state.incoming = None;
            }
            if let Some(following) = self.following() {
                following.stage = Stage::Talking;
            }
            return self.refuse_data("its data cannot be loaded");
        }
        let Some(state) = &mut self.replication else { return };
        match (std::mem::take(&mut state.fills_beside), state.following.is_some()) {
            (false, _) => self.has_data(),
            (true, true) => self.set_stage(Stage::Taking),
            // Whose data it is is not followed any more.
            (true, false) => state.discards = Some(true),
        }
    }

    /// What has been loaded beside what there is takes its place.
    pub(super) fn take_loaded(&mut self) -> bool {
        if !self.run_on_all(Inner::TakeBeside, &TAKE_BESIDE) {
            return false;
        }
        self.has_data();
        true
    }

    /// What has been loaded so far of data whose rest does not come goes. Returns whether there is more to
    /// do at once.
    pub(super) fn discard_half(&mut self) -> bool {
        let Some(is_beside) = self.replication.as_ref().and_then(|state| state.discards) else {
            return false;
        };
        let has_gone = match is_beside {
            true => self.run_on_all(Inner::ForgetBeside, &FORGET_BESIDE),
            false => self.run_on_all(Inner::Empty, &EMPTY),
        };
        if !has_gone {
            return false;
        }
        if let Some(state) = &mut self.replication {
            state.discards = None;
            if !is_beside {
                // Of no data there is a history that nobody knows.
                state.replace_history(id::random(), 0);
                state.show_offset(&self.instance);
            }
        }
        self.instance.tell_persistence(|state| state.loading = None);
        true
    }

    /// The primary's data is here, as of an offset.
    fn has_data(&mut self) {
        let Some(state) = &mut self.replication else { return };
        let Some((id, offset)) = state.incoming.take() else { return };
        // Who has lost its link meanwhile has the data all the same.
        state.replace_history(id, offset);
        state.stream_db = state.loaded_db;
        let Some(following) = &mut state.following else { return };
        (following.applied, following.dispatched) = (offset, offset);
        if !matches!(following.stage, Stage::Loading(_) | Stage::Taking) {
            return;
        }
        tracing::info!("MASTER <-> REPLICA sync: Finished with success");
        if following.at == u32::MAX {
            // The link was lost meanwhile: what is missing is asked for.
            following.stage = Stage::Waiting(0);
            return self.show_link();
        }
        self.begin_stream();
    }
}

//! Following a primary: the first shard connects to it, gets its data, and runs its stream.
//!
//! ```text
//! connect ── handshake ── whole data ── empty ── load ──┐
//!    ▲           │                                      ▼
//!    │           └────────── what was missed ──────── stream
//!    └──────────────── the link is lost ──────────────────┘
//! ```
//! What is said on the link is [`Link`]'s business; here its words become sockets, files and loads.
//!
//! **The stream** is a client like others, to which nothing is replied and nothing is refused: its commands
//! go through the same pipeline to all shards, its transactions are atomic over shards. Its offset counts
//! what has run, on whatever shard, and does not move within a transaction ([`Following::has_run`]).
//!
//! **Whole data** is received into a file and checked while it comes, and only then does what is here go
//! (`repl-diskless-load disabled`, the default): a transfer that fails costs nothing. Otherwise what is here
//! goes first, and the data is loaded as it comes.

use super::super::ShardLoop;
use super::super::load::{LoadError, Purpose};
use super::{Inner, now_ms};
use crate::command::persistence::EMPTY;
use crate::config::typed::DisklessLoad;
use crate::instance::persistence::Loaded;
use crate::instance::replication as shown;
use crate::persist::loader::Options;
use crate::rdb::Splitter;
use crate::replica::link::{self, Heard, Link};
use crate::route::client::ClientKey;
use crate::server::background::{Reading, Writing};
use crate::server::connect::{self, Attempt};
use crate::server::transfer::Connected;
use crate::session::{About, Close, ReplyMode};
use bytes::Bytes;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Time between two attempts to connect, at first and at most, in milliseconds.
const RETRY_MS: [i64; 2] = [100, 1_000];

/// A primary that is followed.
pub(in super::super) struct Following {
    host: String,
    port: u16,
    stage: Stage,
    /// The number of the attempt to connect, and how many have failed on end.
    attempt: u64,
    failures: u32,
    link: Option<Link>,
    /// The connection, and the client that runs the stream.
    at: u32,
    client: ClientKey,
    /// Where in the stream promises of the client are kept: the first that is not among them, and the
    /// offset then.
    marks: VecDeque<(u32, u64)>,
    /// What has been run since the last mark: the beginning of a transaction.
    unmarked: Vec<u8>,
    /// The offset up to which all has run.
    applied: u64,
    /// The offset up to which all is on its way to where it runs.
    dispatched: u64,
    /// The offset that an acknowledgement is owed for.
    owes_ack: Option<u64>,
    /// Since when the link has been down.
    down_since_ms: Option<i64>,
}

/// How far it is.
enum Stage {
    /// Nothing is under way before this time, in milliseconds since the Unix epoch.
    Waiting(i64),
    /// A thread connects.
    Connecting,
    /// The two talk, or what was missed comes.
    Talking,
    /// The data comes, into a file.
    ToFile(ToFile),
    /// All that is here goes.
    Emptying(Input),
    /// The data is loaded.
    Loading(Option<Rc<Reading>>),
    /// The stream comes.
    Streaming,
}

/// The data on its way into a file.
struct ToFile {
    writing: Rc<Writing>,
    path: PathBuf,
    check: Splitter,
    is_whole: bool,
}

/// Where the data is loaded from.
enum Input {
    File(PathBuf),
    Link(Rc<Reading>),
}

impl Following {
    /// A primary that is to be followed, from a time on.
    pub(super) fn new(host: String, port: u16, offset: u64, from_ms: i64) -> Following {
        Following {
            host,
            port,
            stage: Stage::Waiting(from_ms),
            attempt: 0,
            failures: 0,
            link: None,
            at: u32::MAX,
            client: ClientKey::NOBODY,
            marks: VecDeque::new(),
            unmarked: Vec::new(),
            applied: offset,
            dispatched: offset,
            owes_ack: None,
            down_since_ms: None,
        }
    }

    /// Whether it is this one.
    pub(super) fn is(&self, host: &str, port: u16) -> bool {
        self.host.eq_ignore_ascii_case(host) && self.port == port
    }

    /// The client that runs the stream.
    pub(super) fn client(&self) -> ClientKey {
        self.client
    }

    /// Whether what comes is the stream.
    pub(super) fn is_streaming(&self) -> bool {
        matches!(self.stage, Stage::Streaming)
    }

    /// The offset up to which everything has run.
    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether all that has been taken from the stream has run.
    pub(super) fn is_quiet(&self) -> bool {
        self.applied == self.dispatched && self.unmarked.is_empty()
    }

    fn shown_link(&self) -> shown::LinkState {
        match &self.stage {
            Stage::Waiting(_) => shown::LinkState::Connect,
            Stage::Connecting => shown::LinkState::Connecting,
            Stage::Talking => shown::LinkState::Handshake,
            Stage::ToFile(_) | Stage::Emptying(_) | Stage::Loading(_) => shown::LinkState::Sync,
            Stage::Streaming => shown::LinkState::Connected,
        }
    }
}

impl ShardLoop {
    fn following(&mut self) -> Option<&mut Following> {
        self.replication.as_mut()?.following.as_mut()
    }

    /// Whether what the primary sends is the stream, to be run.
    pub(in super::super) fn is_streaming(&self) -> bool {
        let following = self.replication.as_ref().and_then(|state| state.following.as_ref());
        following.is_some_and(Following::is_streaming)
    }

    /// What a turn does about the primary. Returns whether there is more to do at once.
    pub(super) fn follow_primary(&mut self) -> bool {
        let now_ms = now_ms(&self.node);
        self.follow_stream();
        let Some(following) = self.following() else { return false };
        match &mut following.stage {
            Stage::Waiting(until_ms) if now_ms >= *until_ms => self.begin_to_connect(),
            Stage::Waiting(_) | Stage::Connecting | Stage::Talking | Stage::Streaming => {}
            Stage::ToFile(_) => return self.follow_file(),
            Stage::Emptying(_) => return self.follow_emptying(),
            Stage::Loading(_) => {}
        }
        false
    }

    fn show_link(&mut self) {
        let Some(following) = self.following() else { return };
        let (link, down_since_ms) = (following.shown_link(), following.down_since_ms);
        self.instance.tell_replication(|state| {
            if let Some(primary) = &mut state.primary {
                (primary.link, primary.down_since_ms) = (link, down_since_ms);
            }
        });
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(following) = self.following() {
            following.stage = stage;
            self.show_link();
        }
    }

    // ---- connecting --------------------------------------------------------------------------

    fn begin_to_connect(&mut self) {
        let config = self.instance.config();
        let Some(following) = self.following() else { return };
        following.attempt += 1;
        let attempt = Attempt::new(following.attempt, &following.host, following.port, &config);
        tracing::info!("Connecting to MASTER {}:{}", attempt.host, attempt.port);
        self.set_stage(Stage::Connecting);
        if let Err(error) = connect::begin(attempt, &self.neighbours) {
            self.lose_link(&format!("no thread to connect: {error}"));
        }
    }

    /// An attempt to connect has come out.
    pub(in super::super) fn connected(&mut self, connected: Connected) {
        let Some(following) = self.following() else { return };
        let is_awaited = matches!(following.stage, Stage::Connecting);
        if !is_awaited || connected.attempt != following.attempt {
            return;
        }
        let fd = match connected.result {
            Ok(fd) => fd,
            Err(error) => return self.lose_link(&format!("unable to connect: {error}")),
        };
        let (config, known) = (self.instance.config(), self.known());
        let about = link::Introduction {
            user: config.primaryuser().to_vec(),
            password: config.primaryauth().to_vec(),
            port: match config.replica_announce_port() {
                0 => config.port(),
                port => port,
            },
            ip: config.replica_announce_ip().to_vec(),
            version: crate::command::info::COMPATIBLE_VERSION.to_owned(),
        };
        let (addr, laddr) = crate::server::listen::names(&fd, None);
        let about_client = About { addr, laddr, ..About::default() };
        let client = self.node.connect(about_client);
        if let Some(state) = self.node.client_mut(client) {
            state.session.is_primary = true;
            state.session.authenticated = true;
            state.session.was_trusted = true;
            state.session.reply_mode = ReplyMode::Errors;
        }
        self.neighbours.add_connection(self.number);
        let at = self.connect(fd, client);
        self.connections[at as usize].is_link = true;
        let heard_ms = now_ms(&self.node);
        self.instance.replication().progress.heard_ms.store(heard_ms, Ordering::Relaxed);
        if let Some(following) = self.following() {
            (following.at, following.client) = (at, client);
            following.link = Some(Link::new(about, known));
        }
        tracing::info!("MASTER <-> REPLICA sync started");
        self.set_stage(Stage::Talking);
        self.receive(at);
        self.say_to_primary();
    }

    /// The connection is gone, or of no use: there will be another.
    pub(in super::super) fn lose_link(&mut self, why: &str) {
        let now_ms = now_ms(&self.node);
        let Some(following) = self.following() else { return };
        let was_up = following.is_streaming();
        let (lost, retry_ms) = (following.at, RETRY_MS[usize::from(following.failures > 0)]);
        following.failures = if was_up { 0 } else { following.failures + 1 };
        following.at = u32::MAX;
        following.link = None;
        // What had been begun of a transaction has not happened: it comes again.
        following.unmarked.clear();
        following.marks.clear();
        let said = following.dispatched;
        following.applied = said;
        following.owes_ack = None;
        if was_up {
            following.down_since_ms = Some(now_ms);
        }
        if let Stage::Emptying(Input::File(_)) | Stage::Loading(None) = following.stage {
            // All of the data is here: it is loaded, whoever else has gone.
            tracing::warn!("Connection with primary lost while its data is loaded: {why}");
            return self.close_lost(lost);
        }
        let stage = std::mem::replace(&mut following.stage, Stage::Waiting(now_ms + retry_ms));
        match stage {
            Stage::ToFile(file) => file.writing.end(true),
            Stage::Emptying(Input::Link(reading)) | Stage::Loading(Some(reading)) => {
                reading.finish(Err(std::io::Error::other("the primary's data has no end")));
            }
            _ => {}
        }
        match was_up {
            true => tracing::warn!("Connection with master lost: {why}"),
            false => tracing::warn!("Failed to synchronize with the primary: {why}"),
        }
        self.show_link();
        self.close_lost(lost);
    }

    fn close_lost(&mut self, at: u32) {
        if self.connections.contains(at as usize) {
            self.close(at);
        }
    }

    /// What of the stream is known, for a primary to go on from.
    fn known(&self) -> Option<link::Known> {
        let state = self.replication.as_ref().filter(|state| !state.discards)?;
        let (id, next) = (state.history.id.clone(), state.history.offset + 1);
        Some(link::Known { id, next, hands_over: state.is_handing_over() })
    }

    /// Follows nobody any more, for now.
    pub(super) fn part_with_primary(&mut self) {
        let Some(following) = self.replication.as_mut().and_then(|state| state.following.take())
        else {
            return;
        };
        match following.stage {
            Stage::ToFile(file) => file.writing.end(true),
            Stage::Emptying(Input::Link(reading)) | Stage::Loading(Some(reading)) => {
                reading.finish(Err(std::io::Error::other("the primary is not followed any more")));
            }
            _ => {}
        }
        if self.connections.contains(following.at as usize) {
            self.close(following.at);
        }
    }

    /// Whether some of what has come of the stream has yet to run.
    pub(super) fn has_more_of_stream(&mut self) -> bool {
        let Some(following) = self.following() else { return false };
        let (at, client, is_quiet) = (following.at, following.client, following.is_quiet());
        self.node.go_on(client);
        let connection = &mut self.connections[at as usize];
        connection.ended = true;
        if connection.is_receiving {
            self.ring.cancel_receive(at);
            return true;
        }
        let is_begun = self.node.client(client).is_some_and(|client| client.held);
        is_begun
            || self.is_arriving(at)
            || self.connections[at as usize].is_worth_feeding()
            || !(is_quiet || self.following().is_some_and(|one| one.applied == one.dispatched))
    }

    // ---- talking -----------------------------------------------------------------------------

    /// Sends what there is to say, as soon as nothing else is being sent.
    fn say_to_primary(&mut self) {
        let Some(following) = self.following() else { return };
        let (at, client) = (following.at, following.client);
        let Some(link) = &mut following.link else { return };
        let said = link.take_output();
        if said.is_empty() {
            return;
        }
        if let Some(state) = self.node.client_mut(client) {
            state.replies.out.extend(&said);
        }
        if !self.connections[at as usize].is_sending {
            self.send(client);
        }
    }

    /// The primary has said something that is not the stream.
    pub(in super::super) fn hear_primary(&mut self, at: u32) {
        let heard_ms = now_ms(&self.node);
        self.instance.replication().progress.heard_ms.store(heard_ms, Ordering::Relaxed);
        if self.following().is_none_or(|following| following.at != at) {
            return;
        }
        let (input, mut used) = self.connections[at as usize].take_input();
        let outcome = loop {
            // Data waits where there is no room for it.
            if !self.has_room() {
                break Ok(());
            }
            let Some(link) = self.following().and_then(|following| following.link.as_mut()) else {
                break Ok(());
            };
            let heard = match link.hear(&input[used..]) {
                Ok((some, heard)) => {
                    let data = &input[used..used + some];
                    used += some;
                    if some == 0 && heard == Heard::Nothing {
                        break Ok(());
                    }
                    if let Heard::Data(_) = heard {
                        self.take_data(data);
                        continue;
                    }
                    heard
                }
                Err(refusal) => break Err(refusal.to_string()),
            };
            self.act_on_heard(heard);
        };
        if let Some(connection) = self.connections.get_mut(at as usize) {
            connection.put_input(input, used);
        }
        match outcome {
            Err(why) => {
                self.lose_link(&why);
                self.handover_is_refused();
            }
            Ok(()) => self.say_to_primary(),
        }
        if self.following().is_some_and(|following| following.at == at) {
            if self.is_streaming() {
                self.feed_later(at);
            } else if self.connections[at as usize].waiting() < super::super::BACKLOG {
                self.receive(at);
            } else if self.connections[at as usize].is_receiving {
                self.ring.cancel_receive(at);
            }
        }
    }

    /// Whether more of the data can be taken.
    fn has_room(&mut self) -> bool {
        match self.following().map(|following| &following.stage) {
            Some(Stage::ToFile(file)) => !file.writing.is_full(),
            Some(Stage::Emptying(Input::Link(reading)) | Stage::Loading(Some(reading))) => {
                !reading.pieces.is_full()
            }
            Some(Stage::Emptying(Input::File(_)) | Stage::Loading(None)) | None => false,
            _ => true,
        }
    }

    fn act_on_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Nothing | Heard::Data(_) => {}
            Heard::Full { id, offset } => {
                self.handover_is_accepted();
                tracing::info!("Full resync from master: {id}:{offset}");
                if let Some(state) = &mut self.replication {
                    state.incoming = Some((id, offset));
                }
            }
            Heard::Begins(total) => self.begin_to_receive(total),
            Heard::Whole => self.data_is_whole(),
            Heard::Continues(id) => {
                self.handover_is_accepted();
                tracing::info!("Successful partial resynchronization with master.");
                if let (Some(state), Some(id)) = (&mut self.replication, id) {
                    if id != state.history.id {
                        tracing::info!("Master replication ID changed to {id}");
                        state.history.rename(id);
                        self.part_with_replicas("The history of the primary has another name");
                    }
                }
                self.begin_stream();
            }
        }
    }

    // ---- the data ----------------------------------------------------------------------------

    fn begin_to_receive(&mut self, total: Option<u64>) {
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
        let to = match config.repl_diskless_load() {
            DisklessLoad::Disabled => "to disk",
            DisklessLoad::OnEmptyDb if !is_empty => "to disk",
            _ => "to parser",
        };
        match total {
            Some(total) => {
                tracing::info!("MASTER <-> REPLICA sync: receiving {total} bytes from master {to}");
            }
            None => tracing::info!(
                "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF {to}"
            ),
        }
        if to == "to disk" {
            let path = config.dir().join(config.dbfilename());
            let mut check = Splitter::new(total);
            check.set_verify(config.rdbchecksum());
            let writing = self.background.write(&path);
            self.set_stage(Stage::ToFile(ToFile { writing, path, check, is_whole: false }));
        } else {
            self.set_stage(Stage::Emptying(Input::Link(Rc::default())));
            self.begin_emptying();
        }
    }

    fn take_data(&mut self, data: &[u8]) {
        let progress = &self.instance.replication().progress;
        progress.transferred.fetch_add(data.len() as u64, Ordering::Relaxed);
        let Some(following) = self.following() else { return };
        match &mut following.stage {
            Stage::ToFile(file) => {
                file.writing.add(Bytes::copy_from_slice(data));
                file.check.push(data);
                let fault = loop {
                    match file.check.next() {
                        Ok(Some(_)) => {}
                        Ok(None) => break None,
                        Err(fault) => break Some(fault),
                    }
                };
                if let Some(fault) = fault {
                    self.lose_link(&format!("the primary's data is of no use: {fault}"));
                }
            }
            Stage::Emptying(Input::Link(reading)) | Stage::Loading(Some(reading)) => {
                reading.pieces.offer(|| Bytes::copy_from_slice(data));
            }
            _ => {}
        }
    }

    fn data_is_whole(&mut self) {
        let Some(following) = self.following() else { return };
        match &mut following.stage {
            Stage::ToFile(file) => {
                file.is_whole = true;
                let checked = file.check.finish();
                file.writing.end(checked.is_err());
                if let Err(fault) = checked {
                    self.lose_link(&format!("the primary's data is of no use: {fault}"));
                }
            }
            Stage::Emptying(Input::Link(reading)) | Stage::Loading(Some(reading)) => {
                reading.finish(Ok(()));
            }
            _ => {}
        }
    }

    /// Looks whether the file is there, or cannot be.
    fn follow_file(&mut self) -> bool {
        let Some(Following { stage: Stage::ToFile(file), at, .. }) = self.following() else {
            return false;
        };
        let at = *at;
        if let Some(error) = file.writing.failure() {
            self.lose_link(&format!("the primary's data cannot be written: {error}"));
            return true;
        }
        if !file.is_whole {
            // There may be room again.
            if self.connections[at as usize].waiting() > 0 && self.has_room() {
                self.hear_primary(at);
                return true;
            }
            return false;
        }
        let Some(result) = file.writing.result() else { return false };
        let path = file.path.clone();
        match result {
            Ok(()) => {
                self.set_stage(Stage::Emptying(Input::File(path)));
                self.begin_emptying();
            }
            Err(error) => {
                self.lose_link(&format!("the primary's data cannot be written: {error}"));
            }
        }
        true
    }

    // ---- loading it --------------------------------------------------------------------------

    /// What is here goes as soon as nothing else is under way on all shards; nobody is served any of it
    /// from now on.
    fn begin_emptying(&mut self) {
        tracing::info!("MASTER <-> REPLICA sync: Flushing old data");
        self.part_with_replicas("The data is about to be replaced");
        self.announce_loading();
    }

    fn follow_emptying(&mut self) -> bool {
        // Every shard knows before it is asked for its locks.
        if !self.node.is_loading() {
            return true;
        }
        if !self.run_on_all(Inner::Empty, &EMPTY) {
            return false;
        }
        let Some(following) = self.following() else { return false };
        let (at, primary) = (following.at, format!("{}:{}", following.host, following.port));
        let Stage::Emptying(input) = std::mem::replace(&mut following.stage, Stage::Loading(None))
        else {
            return false;
        };
        tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
        self.instance.tell_persistence(|state| state.functions.clear());
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
                (state.incoming, state.discards) = (None, true);
            }
            return self.lose_link("its data cannot be loaded");
        }
        let Some(state) = &mut self.replication else { return };
        let Some((id, offset)) = state.incoming.take() else { return };
        // Who has lost its link meanwhile has the data all the same.
        state.replace_history(id, offset);
        (state.stream_db, state.discards) = (state.loaded_db, false);
        let Some(following) = &mut state.following else { return };
        (following.applied, following.dispatched) = (offset, offset);
        if !matches!(following.stage, Stage::Loading(_)) {
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

    // ---- the stream --------------------------------------------------------------------------

    fn begin_stream(&mut self) {
        let Some(state) = &mut self.replication else { return };
        let offset = state.history.offset;
        let Some(following) = &mut state.following else { return };
        (following.applied, following.dispatched) = (offset, offset);
        following.marks.clear();
        following.unmarked.clear();
        following.down_since_ms = None;
        following.failures = 0;
        following.owes_ack = Some(offset);
        let (at, client) = (following.at, following.client);
        if let Some(client) = self.node.client_mut(client) {
            // Where a stream that was cut goes on, its database is the one that was selected last.
            client.session.db = state.stream_db;
        }
        state.show_offset(&self.instance);
        self.set_stage(Stage::Streaming);
        self.feed_later(at);
    }

    /// So much of the stream is on its way to where it runs.
    pub(in super::super) fn has_run(&mut self, bytes: &[u8]) {
        let heard_ms = now_ms(&self.node);
        let progress = &self.instance.replication().progress;
        progress.heard_ms.store(heard_ms, Ordering::Relaxed);
        progress.bytes_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let Some(state) = &mut self.replication else { return };
        let Some(following) = &mut state.following else { return };
        // What a transaction without an end begins with has not happened yet.
        let (whole, begun) = bytes.split_at(self.node.fed_whole().min(bytes.len()));
        let Some(client) = self.node.client_mut(following.client) else { return };
        if std::mem::take(&mut client.session.owes_ack) {
            let end = following.dispatched + (following.unmarked.len() + bytes.len()) as u64;
            following.owes_ack = Some(end);
        }
        if whole.is_empty() {
            return following.unmarked.extend_from_slice(begun);
        }
        let mut forwarded = std::mem::replace(&mut following.unmarked, begun.to_vec());
        forwarded.extend_from_slice(whole);
        state.stream_db = client.session.db;
        following.dispatched += forwarded.len() as u64;
        following.marks.push_back((client.replies.progress().0, following.dispatched));
        state.forward(Bytes::from(forwarded));
    }

    /// Looks how far the stream has run, what failed of it, and whether the primary is to be told.
    fn follow_stream(&mut self) {
        let Some(state) = &mut self.replication else { return };
        let Some(following) = state.following.as_mut().filter(|one| one.is_streaming()) else {
            return;
        };
        let Some(client) = self.node.client_mut(following.client) else { return };
        let at = following.at as usize;
        if client.session.close != Close::No {
            return self.lose_link("its stream cannot be understood");
        }
        let (_, kept) = client.replies.progress();
        while let Some((promise, offset)) = following.marks.front()
            && promise.wrapping_sub(kept) as i32 <= 0
        {
            following.applied = *offset;
            following.marks.pop_front();
        }
        let progress = &self.instance.replication().progress;
        progress.offset.store(following.applied, Ordering::Relaxed);
        progress.received.store(
            following.dispatched + self.connections[at].waiting() as u64,
            Ordering::Relaxed,
        );
        // What is not being sent is what has failed.
        if !client.replies.out.is_empty() && !self.connections[at].is_sending {
            let failed = String::from_utf8_lossy(client.replies.out.bytes()).into_owned();
            client.replies.out.clear();
            let count = failed.matches("\r\n-").count() as u64 + 1;
            let first = failed.lines().next().unwrap_or_default().to_owned();
            tracing::warn!("{count} commands of the primary's stream have failed here: {first}");
            self.instance.tell_replication(|state| state.failed_commands += count);
        }
        let Some(following) = self.following() else { return };
        if following.owes_ack.is_some_and(|offset| following.applied >= offset) {
            following.owes_ack = None;
            self.acknowledge();
        }
    }

    /// Tells the primary how far this server is.
    fn acknowledge(&mut self) {
        let Some(following) = self.following().filter(|one| one.is_streaming()) else { return };
        let (applied, at, client) = (following.applied, following.at, following.client);
        if self.connections[at as usize].is_sending {
            if let Some(following) = self.following() {
                following.owes_ack = Some(0);
            }
            return;
        }
        let mut said = Vec::new();
        link::acknowledge(&mut said, applied);
        if let Some(client) = self.node.client_mut(client) {
            client.replies.out.extend(&said);
        }
        self.send(client);
    }

    /// What is due once a second: an acknowledgement, or a sign of life, or an end of patience.
    pub(super) fn attend_to_primary(&mut self) {
        let (now_ms, config) = (now_ms(&self.node), self.instance.config());
        let silent_ms = now_ms - self.instance.replication().progress.heard_ms.load(Ordering::Relaxed);
        let patience_ms = i64::from(config.repl_timeout()) * 1000;
        let Some(following) = self.following() else { return };
        let is_silent = silent_ms > patience_ms;
        match &following.stage {
            Stage::Waiting(_) | Stage::Connecting => {}
            Stage::Emptying(_) | Stage::Loading(_) => self.newline_to_primary(),
            Stage::Talking if is_silent => self.lose_link("Timeout connecting to the MASTER..."),
            Stage::ToFile(_) if is_silent => {
                self.lose_link("Timeout receiving bulk data from MASTER...");
            }
            Stage::Streaming if is_silent => {
                self.lose_link("MASTER timeout: no data nor ping received...");
            }
            Stage::Streaming => self.acknowledge(),
            Stage::Talking | Stage::ToFile(_) => {}
        }
    }

    fn newline_to_primary(&mut self) {
        let Some(following) = self.following() else { return };
        let (at, client) = (following.at, following.client);
        if at == u32::MAX || self.connections[at as usize].is_sending {
            return;
        }
        if let Some(client) = self.node.client_mut(client) {
            client.replies.out.extend(b"\n");
        }
        self.send(client);
    }

    /// A connection has been closed: if it was the link's, there will be another.
    pub(in super::super) fn link_closed(&mut self, at: u32) {
        let Some(following) = self.following().filter(|following| following.at == at) else { return };
        following.at = u32::MAX;
        self.lose_link("the connection was closed");
    }
}

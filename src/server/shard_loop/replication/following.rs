//! Following a primary: the first shard connects to it, gets its data, and runs its stream.
//!
//! ```text
//! connect ── handshake ── whole data ── empty ── load ──┐
//!    ▲           │                                      ▼
//!    │           └────────── what was missed ──────── stream
//!    └──────────────── the link is lost ──────────────────┘
//! ```
//! What is said on the link is [`Link`]'s business; here its words become sockets. The whole data is
//! [`super::incoming`]'s, the stream [`super::streaming`]'s.

use super::super::ShardLoop;
use super::now_ms;
use crate::instance::replication as shown;
use crate::rdb::{Splitter, Version};
use crate::replica::backoff::Backoff;
use crate::replica::link::{self, Heard, Link};
use crate::route::client::ClientKey;
use crate::server::background::{Reading, Writing};
use crate::server::connect::{self, Attempt};
use crate::server::transfer::Connected;
use crate::session::{About, ReplyMode};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Time between two attempts to connect.
const RETRY: Backoff = Backoff::new(100, 1_000);
/// The same after data that is of no use here: all of it would come again, and be of no more use.
const REFUSED_RETRY: Backoff = Backoff::new(250, 60_000);

/// A primary that is followed.
pub(super) struct Following {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) stage: Stage,
    /// The number of the attempt to connect.
    pub(super) attempt: u64,
    pub(super) retry: Backoff,
    pub(super) refused_retry: Backoff,
    pub(super) link: Option<Link>,
    /// The connection, and the client that runs the stream.
    pub(super) at: u32,
    pub(super) client: ClientKey,
    /// Where in the stream promises of the client are kept: the first that is not among them, and the
    /// offset then.
    pub(super) marks: VecDeque<(u32, u64)>,
    /// What has been run since the last mark: the beginning of a transaction.
    pub(super) unmarked: Vec<u8>,
    /// The offset up to which all has run.
    pub(super) applied: u64,
    /// The offset up to which all is on its way to where it runs.
    pub(super) dispatched: u64,
    /// The first and the last offset that an acknowledgement is owed for.
    pub(super) owed: Option<(u64, u64)>,
    /// When the primary has last asked for one, in milliseconds since the Unix epoch.
    pub(super) asked_ms: i64,
    /// Since when the link has been down.
    pub(super) down_since_ms: Option<i64>,
    /// Whether the data is loaded beside what there is.
    pub(super) is_beside: bool,
}

/// How far it is.
pub(super) enum Stage {
    /// Nothing is under way before this time, in milliseconds since the Unix epoch.
    Waiting(i64),
    /// A thread connects.
    Connecting,
    /// The two talk, or what was missed comes.
    Talking,
    /// The data comes, into a file.
    ToFile(Box<ToFile>),
    /// All that is here goes.
    Emptying(Input),
    /// The data is loaded.
    Loading(Option<Rc<Reading>>),
    /// The data, which has been loaded beside the old, takes its place.
    Taking,
    /// The stream comes.
    Streaming,
}

/// The data on its way into a file.
pub(super) struct ToFile {
    pub(super) writing: Rc<Writing>,
    pub(super) path: PathBuf,
    pub(super) check: Splitter,
    pub(super) version: Version,
    pub(super) is_whole: bool,
}

/// Where the data is loaded from.
pub(super) enum Input {
    File(PathBuf),
    Link(Rc<Reading>),
}

impl Stage {
    /// No more of the data comes, and what has come is not whole.
    fn cut_short(self, why: &str) {
        match self {
            Stage::ToFile(file) => file.writing.end(true),
            Stage::Emptying(Input::Link(reading)) | Stage::Loading(Some(reading)) => {
                reading.finish(Err(std::io::Error::other(why)));
            }
            _ => {}
        }
    }
}

impl Following {
    /// A primary that is to be followed, from a time on.
    pub(super) fn new(host: String, port: u16, offset: u64, from_ms: i64) -> Following {
        Following {
            host,
            port,
            stage: Stage::Waiting(from_ms),
            attempt: 0,
            retry: RETRY,
            refused_retry: REFUSED_RETRY,
            link: None,
            at: u32::MAX,
            client: ClientKey::NOBODY,
            marks: VecDeque::new(),
            unmarked: Vec::new(),
            applied: offset,
            dispatched: offset,
            owed: None,
            asked_ms: 0,
            down_since_ms: None,
            is_beside: false,
        }
    }

    /// Whether it is this one.
    pub(super) fn is(&self, host: &str, port: u16) -> bool {
        self.host.eq_ignore_ascii_case(host) && self.port == port
    }

    /// Whether what comes is the stream.
    pub(super) fn is_streaming(&self) -> bool {
        matches!(self.stage, Stage::Streaming)
    }

    /// An acknowledgement is owed as soon as so much has run. Who has asked earlier need not wait for that.
    pub(super) fn owe(&mut self, offset: u64) {
        let (first, last) = self.owed.unwrap_or((offset, offset));
        self.owed = Some((first.min(offset), last.max(offset)));
    }

    /// Whether one is owed for what has run.
    pub(super) fn take_owed(&mut self) -> bool {
        let Some((_, last)) = self.owed.filter(|(first, _)| self.applied >= *first) else {
            return false;
        };
        self.owed = (self.applied < last).then_some((last, last));
        true
    }

    /// Whether all that has been taken from the stream has run.
    pub(super) fn is_quiet(&self) -> bool {
        self.applied == self.dispatched && self.unmarked.is_empty()
    }

    pub(super) fn shown_link(&self) -> shown::LinkState {
        match &self.stage {
            Stage::Waiting(_) => shown::LinkState::Connect,
            Stage::Connecting => shown::LinkState::Connecting,
            Stage::Talking => shown::LinkState::Handshake,
            Stage::ToFile(_) | Stage::Emptying(_) | Stage::Loading(_) | Stage::Taking => {
                shown::LinkState::Sync
            }
            Stage::Streaming => shown::LinkState::Connected,
        }
    }
}

impl ShardLoop {
    pub(super) fn following(&mut self) -> Option<&mut Following> {
        self.replication.as_mut()?.following.as_mut()
    }

    /// Whether what the primary sends is the stream, to be run.
    pub(in super::super) fn is_streaming(&self) -> bool {
        let following = self.replication.as_ref().and_then(|state| state.following.as_ref());
        following.is_some_and(Following::is_streaming)
    }

    /// What a turn does about the primary. Returns whether there is more to do at once.
    pub(super) fn follow_primary(&mut self) -> bool {
        let (now_ms, is_stopping) = (now_ms(&self.node), self.is_stopping());
        self.follow_stream();
        let Some(following) = self.following() else { return false };
        match &mut following.stage {
            Stage::Waiting(until_ms) if now_ms >= *until_ms && !is_stopping => {
                self.begin_to_connect();
            }
            Stage::Waiting(_) | Stage::Connecting | Stage::Talking | Stage::Streaming => {}
            Stage::ToFile(_) => return self.follow_file(),
            Stage::Emptying(_) => return self.follow_emptying(),
            Stage::Loading(_) => return self.take_more(),
            Stage::Taking => return self.take_loaded(),
        }
        false
    }

    pub(super) fn show_link(&mut self) {
        let Some(following) = self.following() else { return };
        let (link, down_since_ms) = (following.shown_link(), following.down_since_ms);
        self.instance.tell_replication(|state| {
            if let Some(primary) = &mut state.primary {
                (primary.link, primary.down_since_ms) = (link, down_since_ms);
            }
        });
    }

    pub(super) fn set_stage(&mut self, stage: Stage) {
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
        let (lost, retry_ms) = (following.at, following.retry.fail());
        following.at = u32::MAX;
        following.link = None;
        // What had been begun of a transaction has not happened: it comes again.
        following.unmarked.clear();
        following.marks.clear();
        following.applied = following.dispatched;
        following.owed = None;
        if was_up {
            following.down_since_ms = Some(now_ms);
        }
        let is_here = match &following.stage {
            Stage::ToFile(file) => file.is_whole,
            Stage::Emptying(Input::File(_)) | Stage::Loading(None) | Stage::Taking => true,
            _ => false,
        };
        if is_here {
            // All of the data is here: it is loaded, whoever else has gone.
            tracing::warn!("Connection with master lost while its data is loaded: {why}");
            return self.close_lost(lost);
        }
        let stage = std::mem::replace(&mut following.stage, Stage::Waiting(now_ms + retry_ms));
        stage.cut_short("the primary's data has no end");
        match was_up {
            true => tracing::warn!("Connection with master lost: {why}"),
            false => tracing::warn!("Failed to synchronize with the primary: {why}"),
        }
        self.show_link();
        self.close_lost(lost);
    }

    /// The primary's data is of no use here.
    pub(super) fn refuse_data(&mut self, why: &str) {
        self.lose_link(why);
        let now_ms = now_ms(&self.node);
        if let Some(Following { stage: Stage::Waiting(until_ms), refused_retry, .. }) =
            self.following()
        {
            *until_ms = now_ms + refused_retry.fail();
        }
    }

    pub(super) fn close_lost(&mut self, at: u32) {
        if self.connections.contains(at as usize) {
            self.close(at);
        }
    }

    /// What of the stream is known, for a primary to go on from.
    pub(super) fn known(&self) -> Option<link::Known> {
        let state = self.replication.as_ref()?;
        let (id, next) = (state.history.id.clone(), state.history.offset + 1);
        Some(link::Known { id, next, hands_over: state.is_handing_over() })
    }

    /// Follows nobody any more, for now.
    pub(super) fn part_with_primary(&mut self) {
        let Some(following) = self.replication.as_mut().and_then(|state| state.following.take())
        else {
            return;
        };
        following.stage.cut_short("the primary is not followed any more");
        self.close_lost(following.at);
    }

    /// Whether some of what has come of the stream has yet to run.
    pub(super) fn has_more_of_stream(&mut self) -> bool {
        let Some(following) = self.following() else { return false };
        let (at, client) = (following.at, following.client);
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
            || self.following().is_none_or(|one| one.applied != one.dispatched)
    }

    // ---- talking -----------------------------------------------------------------------------

    /// Sends what there is to say, as soon as nothing else is being sent.
    pub(super) fn say_to_primary(&mut self) {
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
            } else if self.connections[at as usize].ended && self.has_room() {
                // What it lacks will not come.
                self.close(at);
            } else if self.connections[at as usize].waiting() < super::super::BACKLOG {
                self.receive(at);
            } else if self.connections[at as usize].is_receiving {
                self.ring.cancel_receive(at);
            }
        }
    }

    /// Whether more of the data can be taken.
    pub(super) fn has_room(&mut self) -> bool {
        match self.following().map(|following| &following.stage) {
            Some(Stage::ToFile(file)) => !file.writing.is_full(),
            Some(Stage::Emptying(Input::Link(reading)) | Stage::Loading(Some(reading))) => {
                !reading.pieces.is_full()
            }
            Some(Stage::Emptying(Input::File(_)) | Stage::Loading(None) | Stage::Taking) | None => {
                false
            }
            _ => true,
        }
    }

    pub(super) fn act_on_heard(&mut self, heard: Heard) {
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
                if let (Some(state), Some(id)) = (&mut self.replication, id)
                    && id != state.history.id
                {
                    tracing::info!("Master replication ID changed to {id}");
                    state.history.rename(id);
                    self.part_with_replicas("The history of the primary has another name");
                }
                self.begin_stream();
            }
        }
    }
}

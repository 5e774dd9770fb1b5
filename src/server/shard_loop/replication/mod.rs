//! Replication, on the first shard: whom this server follows ([`following`]), and who follows it
//! ([`primary`]).
//!
//! **The stream.** While there are replicas, or may be again, every shard keeps a journal, and the first
//! makes one stream of them ([`crate::route::stream`]); its end is kept in the [`Backlog`], of which
//! every replica gets what it lacks. A replica has no journal: what its primary sends it goes on to its
//! own replicas as it came.
//!
//! **What concerns all shards** (a cut, emptying, the journal's end) is run on all of them at one moment,
//! one thing at a time: see [`ShardLoop::run_on_all`].
//!
//! **A change of role** is made here, and the others hear of it as of a change of the configuration.
//! A server that begins to follow another ends its stream first: what was written is in it, and nothing
//! more will be.

mod failover;
mod following;
mod incoming;
mod primary;
mod shutdown;
mod snapshots;
mod streaming;

use super::ShardLoop;
use crate::base::error::Error;
use crate::command::Command;
use crate::command::persistence::{
    FOLLOW_ORDER, JOURNAL_OFF, JOURNAL_ON, LEAD_ORDER, Request, Wait,
};
use crate::command::replication::FOLLOWED_ALREADY;
use crate::instance::Instance;
use crate::instance::replication as shown;
use crate::persist::loader::Said;
use crate::replica::backlog::Backlog;
use crate::replica::history::History;
use crate::replica::waits::Answered;
use crate::route::message::{self, Asker};
use crate::route::node::Node;
use crate::route::stream::Merged;
use crate::server::id;
use bytes::Bytes;
use following::Following;
use primary::Primary;
use std::sync::atomic::Ordering;

/// Milliseconds between two looks at what is due in its time.
const LOOK_MS: i64 = 1_000;

/// What the first shard knows of replication.
pub(super) struct Replication {
    history: History,
    /// The end of the stream, as far as it is kept: while there are replicas, or may be again.
    backlog: Option<Backlog>,
    /// The database that the stream of the primary is in.
    stream_db: usize,
    primary: Primary,
    following: Option<Following>,
    /// The database that the stream is in whose data has been loaded last.
    loaded_db: usize,
    /// The history of the data that is being received, and its offset.
    incoming: Option<(String, u64)>,
    /// Whether what is being loaded is loaded beside what there is.
    fills_beside: bool,
    /// Whether what has been loaded so far is to go, since the rest of it will not come; and whether it was
    /// loaded beside what there is.
    discards: Option<bool>,
    /// Whether shards keep journals.
    is_journaling: bool,
    /// Whether the mark is on its way after which they keep none.
    is_ending: bool,
    /// Whether all shards lock in the order of the stream that is followed.
    is_following_order: bool,
    /// Barriers that are on their way in the stream.
    barriers: usize,
    /// What is being run on all shards.
    inner: Option<Inner>,
    /// Where in the stream the snapshot under way was cut, once that is known.
    position: Option<Position>,
    /// Whether clients are let in when that is done.
    is_opening: bool,
    /// Another role that is being taken.
    change: Option<Change>,
    /// A failover under way.
    handover: Option<failover::Handover>,
    /// The end of the server, for which replicas are waited.
    farewell: Option<shutdown::Farewell>,
    looked_ms: i64,
}

/// Something that is run on all shards at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inner {
    /// All data goes.
    Empty,
    /// What is loaded is loaded beside what there is.
    BeginBeside,
    /// It takes the place of what there is.
    TakeBeside,
    /// It is of no use.
    ForgetBeside,
    /// Journals begin, or have a mark.
    JournalOn,
    /// Journals end.
    JournalOff,
    /// Locks are asked for in the order of the stream that is followed.
    FollowOrder,
    /// There is no such stream any more.
    LeadOrder,
}

/// Where in a stream a snapshot was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The history's id.
    pub(super) id: String,
    /// The offset.
    pub(super) offset: u64,
    /// The database that the stream goes on in.
    pub(super) db: usize,
}

/// Another role.
enum Change {
    /// To follow a server, when the stream has ended.
    Follow(String, u16),
    /// To follow nobody, when what has been received has run. Who waits for that.
    Lead(Vec<Option<Asker>>),
    /// To lead nobody for good: nobody has followed for long.
    EndStream,
}

/// This turn's time, milliseconds since the Unix epoch.
fn now_ms(node: &Node) -> i64 {
    node.now().unix_ms
}

impl Replication {
    /// Of a server that has just been started.
    pub(super) fn new(instance: &Instance) -> Replication {
        Replication {
            history: History::new(instance.replication().state().id),
            backlog: None,
            stream_db: 0,
            primary: Primary::default(),
            following: None,
            loaded_db: 0,
            incoming: None,
            fills_beside: false,
            discards: None,
            is_journaling: false,
            is_ending: false,
            is_following_order: false,
            barriers: 0,
            inner: None,
            position: None,
            is_opening: false,
            change: None,
            handover: None,
            farewell: None,
            looked_ms: 0,
        }
    }

    /// More of the stream is here.
    fn forward(&mut self, bytes: Bytes) {
        self.history.offset += bytes.len() as u64;
        if let Some(backlog) = &mut self.backlog {
            backlog.push(bytes);
        }
    }

    /// The stream is kept from here on, if it is not yet.
    fn keep_stream(&mut self) {
        let offset = self.history.offset;
        self.backlog.get_or_insert_with(|| Backlog::new(offset));
    }

    /// The end of the stream that this server makes.
    fn end(&self) -> Position {
        Position { id: self.history.id.clone(), offset: self.history.offset, db: 0 }
    }

    /// The data is that of another history, at an offset.
    fn replace_history(&mut self, id: String, offset: u64) {
        self.history.replace(id, offset);
        self.backlog = Some(Backlog::new(offset));
        self.stream_db = 0;
    }

    /// Tells everybody what of the stream is kept.
    fn show_backlog(&self, instance: &Instance) {
        let backlog = self.backlog.as_ref();
        let (first, memory) = backlog.map_or((0, 0), |one| (one.start() + 1, one.memory()));
        let progress = &instance.replication().progress;
        progress.backlog_first.store(first, Ordering::Relaxed);
        progress.backlog_memory.store(memory, Ordering::Relaxed);
    }

    /// Something has been run on all shards.
    fn has_run_on_all(&mut self, inner: Inner) {
        match inner {
            Inner::Empty
            | Inner::BeginBeside
            | Inner::TakeBeside
            | Inner::ForgetBeside
            | Inner::JournalOn => {}
            Inner::JournalOff => (self.is_journaling, self.is_ending) = (false, false),
            Inner::FollowOrder => self.is_following_order = true,
            Inner::LeadOrder => self.is_following_order = false,
        }
    }

    /// Tells everybody what the history is called.
    fn show_history(&self, instance: &Instance) {
        let (id, second) = (self.history.id.clone(), self.history.second.clone());
        instance.tell_replication(|state| (state.id, state.second) = (id, second));
    }

    /// The same, and how far it is.
    fn show_offset(&self, instance: &Instance) {
        let offset = &instance.replication().progress.offset;
        offset.store(self.history.offset, Ordering::Relaxed);
        self.show_backlog(instance);
        self.show_history(instance);
    }
}

impl ShardLoop {
    /// What a turn does about replication, after its end has been published. Returns whether there is
    /// more to do at once.
    pub(super) fn replicate(&mut self) -> bool {
        if self.replication.is_none() {
            return false;
        }
        self.take_stream();
        let mut is_busy = self.discard_half() | self.follow_primary();
        is_busy |= self.lead_replicas();
        is_busy |= self.lead_failover();
        is_busy |= self.change_role();
        self.await_replicas();
        let now_ms = now_ms(&self.node);
        if let Some(state) = &mut self.replication
            && now_ms - state.looked_ms >= LOOK_MS
        {
            state.looked_ms = now_ms;
            self.attend_to_primary();
            if self.stop.is_none() {
                self.attend_to_replicas();
            }
            if let Some(state) = &self.replication {
                state.show_history(&self.instance);
            }
        }
        // Answers to clients of other shards go out with the next turn, which is not to wait for news.
        is_busy || self.node.mail().has_outgoing()
    }

    /// Whether something is under way of which no completion tells.
    pub(super) fn is_replicating(&self) -> bool {
        self.replication.as_ref().is_some_and(|state| {
            state.discards.is_some()
                || state.inner.is_some()
                || state.change.is_some()
                || state.handover.is_some()
                || state.farewell.is_some()
                || state.primary.is_syncing()
        })
    }

    /// Runs a command of the server's own on all shards, unless something else is run there: asked
    /// again every turn, it says once that it has run.
    fn run_on_all(&mut self, what: Inner, command: &'static Command) -> bool {
        let is_free = !self.saves.runs_on_all();
        let Some(state) = &mut self.replication else { return false };
        match state.inner {
            // One that nobody waits for any more has run all the same.
            Some(running) => {
                let has_run = self.node.take_concluded().is_some();
                if has_run {
                    state.inner = None;
                    state.has_run_on_all(running);
                }
                has_run && running == what
            }
            None if is_free => {
                state.inner = Some(what);
                self.node.begin_inner(command);
                false
            }
            None => false,
        }
    }

    /// Whether nothing but what one is about to begin would be run on all shards.
    pub(super) fn may_run_on_all(&self) -> bool {
        self.replication.as_ref().is_none_or(|state| state.inner.is_none() && state.barriers == 0)
    }

    // ---- the stream --------------------------------------------------------------------------

    /// Takes what the shards' journals have come to.
    fn take_stream(&mut self) {
        let Some(state) = &mut self.replication else { return };
        if !state.is_journaling {
            return;
        }
        self.node.take_merged(|merged| match merged {
            Merged::Bytes(bytes) => state.forward(bytes),
            Merged::Barrier => {
                state.barriers = state.barriers.saturating_sub(1);
                state.position = Some(state.end());
            }
        });
        let offset = &self.instance.replication().progress.offset;
        offset.store(state.history.offset, Ordering::Relaxed);
    }

    /// Says something in the stream that is no effect: it is there for those who listen.
    fn say_in_stream(&mut self, words: &[&[u8]]) {
        let mut said = Vec::new();
        crate::replica::link::say(&mut said, words);
        if let Some(state) = &mut self.replication {
            state.forward(Bytes::from(said));
        }
    }

    // ---- where snapshots are cut -------------------------------------------------------------

    /// Whether the shards may cut now. On a replica the stream is held between two commands, and all
    /// before it has run.
    pub(super) fn may_cut(&mut self) -> bool {
        if !self.may_run_on_all() {
            return false;
        }
        let Some(state) = &mut self.replication else { return true };
        state.position = None;
        let Some(following) = &state.following else { return true };
        if !following.is_streaming() {
            return true;
        }
        let (client, is_quiet) = (following.client, following.is_quiet());
        self.node.halt(client);
        is_quiet
    }

    /// The shards are about to cut: with a mark in the stream, where there is one.
    pub(super) fn cuts_with_mark(&mut self, is_for_replicas: bool) -> bool {
        let Some(state) = &mut self.replication else { return false };
        if state.following.is_some() || !(state.is_journaling || is_for_replicas) {
            return false;
        }
        state.barriers += 1;
        if !state.is_journaling {
            state.is_journaling = true;
            state.keep_stream();
        }
        true
    }

    /// Where the cut that has been made is in the stream: `None` as long as that is not known,
    /// `Some(None)` where there is no stream.
    pub(super) fn take_position(&mut self) -> Option<Option<Position>> {
        let Some(state) = &mut self.replication else { return Some(None) };
        if let Some(following) = &state.following {
            let client = following.client;
            let (id, db) = (state.history.id.clone(), state.stream_db);
            // Whether the link is up or not, that is what there is.
            let position = Position { id, offset: following.applied, db };
            self.node.go_on(client);
            return Some(Some(position));
        }
        if state.barriers > 0 {
            return None;
        }
        if self.stop.is_some() && state.is_journaling {
            // Nothing is under way any more: all there will be of the stream is here.
            return Some(Some(state.end()));
        }
        Some(state.position.take())
    }

    /// There will be no cut.
    pub(super) fn give_up_cut(&mut self) {
        let client = self.replication.as_ref().and_then(|state| state.following.as_ref());
        if let Some(client) = client.map(|following| following.client) {
            self.node.go_on(client);
        }
    }

    // ---- roles -------------------------------------------------------------------------------

    /// What has been asked about replication.
    pub(super) fn hear_replication(&mut self, request: Request, asker: Option<Asker>) {
        match request {
            Request::Follow { host, port } => self.follow_server(host, port, asker),
            Request::Lead => self.lead(asker),
            Request::Wait(wait) => self.wait_for_replicas(wait, asker),
            Request::EndWait { id, is_error } => self.end_wait(id, is_error, asker),
            Request::Failover { to, force, timeout_ms } => {
                self.begin_failover(to, force, timeout_ms, asker);
            }
            Request::AbortFailover => self.abort_failover("Failover manually aborted", asker),
            _ => {}
        }
    }

    /// What was loaded at the start is of a history that replicas may know; or what a primary has sent says
    /// which database its stream is in.
    pub(super) fn follow_loaded_history(&mut self, is_start: bool, said: &Said) {
        let Some(state) = &mut self.replication else { return };
        let db = said.stream_db.filter(|db| *db < usize::from(self.instance.config().databases()));
        if !is_start {
            return state.loaded_db = db.unwrap_or(0);
        }
        let (Some(id), Some(offset)) = (&said.history, said.offset) else { return };
        if !crate::replica::link::is_id(id) {
            return;
        }
        // Who has followed up to here can go on here, if nothing has been lost.
        state.history.replace(id.clone(), offset);
        state.stream_db = db.unwrap_or(0);
        state.backlog = Some(Backlog::new(offset));
    }

    /// Follows whom the configuration says to follow, when there is data or none to be had.
    /// Returns whether clients have to wait for that.
    pub(super) fn follow_as_configured(&mut self) -> bool {
        let config = self.instance.config();
        if let Some((host, port)) = config.replicaof() {
            self.follow_server(host.to_owned(), port, None);
            return false;
        }
        let Some(state) = &mut self.replication else { return false };
        let has_history = state.backlog.is_some();
        if has_history {
            // Its own history begins where the old one ends.
            state.change = Some(Change::Lead(Vec::new()));
            state.is_opening = true;
        }
        has_history
    }

    /// Follows a server from now on.
    pub(super) fn follow_server(&mut self, host: String, port: u16, asker: Option<Asker>) {
        // Not as it is shown: that may be ahead.
        let is_followed = self.replication.as_ref().is_some_and(|state| match &state.change {
            Some(Change::Follow(next, at)) => next.eq_ignore_ascii_case(&host) && *at == port,
            Some(_) => false,
            None => state.following.as_ref().is_some_and(|one| one.is(&host, port)),
        });
        if is_followed {
            return self.answer(asker, Ok(FOLLOWED_ALREADY));
        }
        tracing::info!("REPLICAOF {host}:{port} enabled");
        let primary = shown::Primary::new(host.clone(), port);
        self.instance.tell_replication(|state| state.primary = Some(primary));
        self.part_with_those_that_sync("Another server is followed from now on");
        self.end_waits();
        self.part_with_primary();
        self.give_up_cut();
        if let Some(state) = &mut self.replication {
            state.change = Some(Change::Follow(host, port));
        }
        self.answer(asker, Ok("OK"));
        self.change_role();
    }

    /// Follows nobody any more.
    fn lead(&mut self, asker: Option<Asker>) {
        let Some(state) = &mut self.replication else { return };
        if let Some(Change::Lead(askers)) = &mut state.change {
            return askers.push(asker);
        }
        if state.following.is_none() && state.change.is_none() {
            return self.answer(asker, Ok("OK"));
        }
        state.change = Some(Change::Lead(vec![asker]));
        self.change_role();
    }

    /// Goes on with another role that is being taken. Returns whether there is more to do at once.
    fn change_role(&mut self) -> bool {
        let is_loading = self.load.is_reading();
        let Some(state) = &mut self.replication else { return false };
        if is_loading || state.discards.is_some() {
            // What is being loaded has to be whole, or gone.
            return false;
        }
        match &mut state.change {
            None => false,
            // One thing at a time.
            Some(_) if state.primary.begins_stream => true,
            Some(Change::Follow(..)) => self.begin_to_follow(),
            Some(Change::Lead(_)) => self.begin_to_lead(),
            Some(Change::EndStream) => self.begin_to_be_alone(),
        }
    }

    fn begin_to_follow(&mut self) -> bool {
        let now_ms = now_ms(&self.node);
        let Some(state) = &mut self.replication else { return false };
        if state.is_journaling {
            // Nothing is written any more. The stream is over when the mark is in it.
            if !state.is_ending {
                if !self.begin_journal() {
                    return false;
                }
                if let Some(state) = &mut self.replication {
                    state.is_ending = true;
                }
                return true;
            }
            if state.barriers > 0 || !self.run_on_all(Inner::JournalOff, &JOURNAL_OFF) {
                return false;
            }
        }
        // Whoever reads here reads in the order of the stream, before any of it runs.
        if !self.locks_in(true) && !self.run_on_all(Inner::FollowOrder, &FOLLOW_ORDER) {
            return false;
        }
        let Some(state) = &mut self.replication else { return false };
        let Some(Change::Follow(host, port)) = state.change.take() else { return false };
        let offset = state.history.offset;
        state.following = Some(Following::new(host, port, offset, now_ms));
        true
    }

    /// Whether all shards lock in the order of a stream that is followed, or not, as it is asked, and what
    /// an earlier change of role has begun is over.
    fn locks_in(&self, is_following_order: bool) -> bool {
        self.replication.as_ref().is_none_or(|state| {
            let is_changing = matches!(
                state.inner,
                Some(Inner::FollowOrder | Inner::LeadOrder | Inner::JournalOff)
            );
            state.is_following_order == is_following_order && !is_changing
        })
    }

    fn begin_to_lead(&mut self) -> bool {
        // What has come runs; what has not come whole never will.
        if self.is_streaming() && self.has_more_of_stream() {
            return false;
        }
        self.part_with_primary();
        let was_about_to_follow =
            self.replication.as_ref().is_some_and(|state| state.inner == Some(Inner::JournalOff));
        if was_about_to_follow && !self.run_on_all(Inner::JournalOff, &JOURNAL_OFF) {
            return false;
        }
        if !self.locks_in(false) && !self.run_on_all(Inner::LeadOrder, &LEAD_ORDER) {
            return false;
        }
        // From its first write on, what this server does is in the stream that it has had so far.
        let Some(state) = &mut self.replication else { return false };
        let is_begun = state.inner == Some(Inner::JournalOn);
        let journals = state.backlog.is_some() && (is_begun || !state.is_journaling);
        if journals && !self.begin_journal() {
            return false;
        }
        let Some(state) = &mut self.replication else { return false };
        let Some(Change::Lead(askers)) = state.change.take() else { return false };
        state.is_ending = false;
        state.history.branch(id::random());
        let is_opening = std::mem::take(&mut state.is_opening);
        state.show_offset(&self.instance);
        if self.instance.replication().is_replica() {
            tracing::info!("MASTER MODE enabled");
        }
        self.instance.tell_replication(|state| state.primary = None);
        self.part_with_replicas("The history has another name");
        if is_opening {
            self.open();
        }
        for asker in askers {
            self.answer(asker, Ok("OK"));
        }
        true
    }

    /// Lets all shards begin their journals, or set a mark; asked again every turn, says when they have.
    fn begin_journal(&mut self) -> bool {
        let is_free = !self.saves.runs_on_all();
        let Some(state) = &mut self.replication else { return false };
        if is_free && state.inner.is_none() {
            // It is on its way before anybody can wait for it.
            state.barriers += 1;
            state.is_journaling = true;
        }
        self.run_on_all(Inner::JournalOn, &JOURNAL_ON)
    }

    /// The stream ends, since nobody has followed for long: who comes back gets all data.
    fn end_stream(&mut self) {
        if let Some(state) = &mut self.replication {
            state.change.get_or_insert(Change::EndStream);
        }
    }

    fn begin_to_be_alone(&mut self) -> bool {
        if !self.run_on_all(Inner::JournalOff, &JOURNAL_OFF) {
            return false;
        }
        let Some(state) = &mut self.replication else { return false };
        (state.backlog, state.change) = (None, None);
        // A write that nobody has heard of is none of the history's that others know.
        state.history = History { offset: state.history.offset, ..History::new(id::random()) };
        state.show_offset(&self.instance);
        tracing::info!("Replication backlog freed: there have been no replicas for long");
        true
    }

    // ---- waiting for replicas ----------------------------------------------------------------

    fn wait_for_replicas(&mut self, wait: Wait, asker: Option<Asker>) {
        let Some(asker) = asker else { return };
        let now_ms = now_ms(&self.node);
        if let Some(state) = &mut self.replication {
            state.primary.wait(asker, wait, now_ms);
        }
    }

    /// CLIENT UNBLOCK: who waits is answered as if its time were over, or with an error.
    fn end_wait(&mut self, id: u64, is_error: bool, asker: Option<Asker>) {
        let ended = self.replication.as_mut().and_then(|state| {
            let (end, primary) = (state.history.offset, &mut state.primary);
            primary.end_wait(id, end)
        });
        let count = i64::from(ended.is_some());
        match ended {
            Some(Answered { asker: (waiter, _), .. }) if is_error => {
                let text = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
                self.answer(Some(waiter), Err(Error::text(text)));
            }
            Some(Answered { asker: (waiter, of_logs), offset, replicas }) => {
                self.answer_wait(waiter, of_logs, offset, replicas);
            }
            None => {}
        }
        if let Some(asker) = asker {
            self.node.answer(asker, Ok(message::Said::Count(count)));
        }
    }

    fn answer_wait(&mut self, asker: Asker, of_logs: bool, offset: u64, replicas: i64) {
        // Nobody's replicas say what lies on their disks.
        let (replicas, logs) = match of_logs {
            true => (0, Some(0)),
            false => (replicas, None),
        };
        self.node.answer(asker, Ok(message::Said::Waited { offset, replicas, logs }));
    }
}

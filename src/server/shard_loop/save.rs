//! The loop's half of saving: every shard gives its snapshot a part of its time, and the first leads:
//! it decides which save runs when, has the file written, and tells how it went.
//!
//! Requests are acted upon as Redis does. One save runs at a time. While one runs in the background,
//! SAVE and BGSAVE are refused; while one runs that a client waits for, they wait (Redis would not even
//! have read them). BGSAVE is answered when the cut has been made: what was acknowledged before is in
//! the file, and what comes after is not.
//!
//! **FLUSHALL**, where there are save points: Redis kills a running save and has an empty file written
//! before it answers. Here a running save goes on, since its file is the state at its cut; one follows at
//! once, of which FLUSHALL does not await the end, but SAVE and BGSAVE do before they begin theirs.
//!
//! **Pace.** A snapshot has a quarter of the time that a busy shard computes (the kernel's part of a turn
//! does not count), and all that an idle one has to spare, in slices of at most [`SLICE_NS`]: so long a
//! client waits for it at most. If so much is kept of keys that have changed that it matters
//! ([`KEPT_MANY`]), it is a half.
//!
//! Of 5 M keys of 64 B, 50 connections overwrote random ones at full speed, one shard on one core: the save
//! took 20 s instead of 2, writers had 90,000 instead of 107,000 operations a second, p99.9 went from 2.2
//! to 3.5 ms and p99.99 from 3.8 to 5.6, memory grew by 1 %. (Valkey in the same run: 10 s, 90,000 to
//! 30,000, p99.9 2.4 to 9.4, p99.99 3.3 to 12, and 497 MiB of copied pages.)

use super::ShardLoop;
use super::reload::{Reload, Reloading};
use crate::base::error::Error;
use crate::base::{clock, memory, ticks, version};
use crate::command::info::COMPATIBLE_VERSION;
use crate::command::persistence::{CUT, CUT_AND_JOURNAL, Request};
use crate::config::Config;
use crate::config::value::io_reason;
use crate::instance::persistence::Saving;
use crate::persist::snapshot::{
    Collected, Collector, Head, Producer, Style, Summary, Turn, UsageStyle,
};
use crate::rdb::Version;
use crate::route::message::{Asker, Said};
use crate::server::target::{Spread, Target};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// The longest time that a snapshot takes of a turn, in nanoseconds.
const SLICE_NS: u64 = 200_000;
/// The shortest, where there is anything to do: less is not worth the reading of the clock.
const SLICE_LEAST_NS: u64 = 20_000;
/// What a turn takes that had nothing to do, at most, in nanoseconds.
const IDLE_NS: u64 = 4_000;
/// Bytes kept of keys that have changed, on one shard, from which on a snapshot hurries.
const KEPT_MANY: u64 = 16 << 20;
/// Ticks between two looks at the save points.
const TICKS_PER_LOOK: u32 = 10;
/// Seconds before a save that failed is tried again by itself.
const RETRY_S: i64 = 5;

/// A shard's part in saves.
pub struct Saves {
    producer: Producer,
    /// When the snapshot under way began here, in ticks; for `rdb-key-save-delay`.
    began: Option<u64>,
    slice_ticks: u64,
    slice_least_ticks: u64,
    idle_ticks: u64,
    /// On the first shard.
    pub(super) lead: Option<Lead>,
}

/// What the first shard knows besides.
pub(super) struct Lead {
    collector: Collector,
    current: Option<Save>,
    /// Who waits for the end of what runs.
    waiting: VecDeque<(Request, Option<Asker>)>,
    /// A reload that has been begun.
    pub(super) reload: Option<Reload>,
    /// Who has asked for the end of the server.
    stoppers: Vec<Asker>,
    /// How the last save before the end has come out.
    last: Option<Result<(), ()>>,
    ticks: u32,
}

/// A save under way.
struct Save {
    purpose: Purpose,
    stage: Stage,
    target: Target,
    path: PathBuf,
    began_us: i64,
    /// Why it will not come to its end.
    given_up: Option<GivenUp>,
    summary: Summary,
}

/// What a save is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// Nobody waits for its end. Whoever has asked for it waits for its cut.
    Background(Option<Asker>),
    /// A client waits for it, or nobody (FLUSHALL); who wants another one waits in any case.
    Foreground(Option<Asker>),
    /// A client waits for what comes after it.
    Reload,
    /// It is the last one before the end of the server.
    Last,
    /// Replicas wait for it.
    Replicas,
}

/// How far a save has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The shards cannot cut yet.
    Waiting,
    /// The shards are about to cut.
    Cutting,
    /// They have, and where that is in the stream is about to be known.
    Positioning,
    /// Their pieces are collected.
    Collecting,
    /// The file has all that it gets.
    Writing,
}

#[derive(Debug)]
enum GivenUp {
    /// Somebody wanted that.
    Cancelled,
    /// There was an error.
    Failed(io::Error),
}

impl Saves {
    /// None yet. The first shard has the collector.
    pub(super) fn new(producer: Producer, collector: Option<Collector>) -> Saves {
        let lead = collector.map(|collector| Lead {
            collector,
            current: None,
            waiting: VecDeque::new(),
            reload: None,
            stoppers: Vec::new(),
            last: None,
            ticks: 0,
        });
        let rate = ticks::rate();
        Saves {
            producer,
            began: None,
            slice_ticks: rate.ticks(SLICE_NS),
            slice_least_ticks: rate.ticks(SLICE_LEAST_NS),
            idle_ticks: rate.ticks(IDLE_NS),
            lead,
        }
    }

    /// Whether there is something to look at, though there may be nothing to do at once.
    pub(super) fn is_outstanding(&self) -> bool {
        self.began.is_some()
            || self.lead.as_ref().is_some_and(|lead| lead.current.is_some() || lead.is_reloading())
    }
}

impl Saves {
    /// Whether it has something run on all shards.
    pub(super) fn runs_on_all(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| {
            let cuts = lead.current.as_ref().is_some_and(|save| save.stage == Stage::Cutting);
            cuts || lead.reload.is_some_and(|reload| reload.stage == Reloading::Emptying)
        })
    }
}

impl Lead {
    fn is_reloading(&self) -> bool {
        self.reload.is_some_and(|reload| reload.stage != Reloading::Loading)
    }

    fn is_busy(&self) -> bool {
        self.current.is_some() || self.reload.is_some()
    }

    /// Lets a request wait for the end of what runs. Of those that nobody waits for, one is one for all.
    fn wait(&mut self, request: Request, asker: Option<Asker>) {
        let is_same = |(other, who): &(Request, Option<Asker>)| *other == request && who.is_none();
        if asker.is_some() || !self.waiting.iter().any(is_same) {
            self.waiting.push_back((request, asker));
        }
    }

    /// Whether the save under way is one that nobody waits for.
    fn is_in_background(&self) -> bool {
        let purpose = self.current.as_ref().map(|save| save.purpose);
        matches!(purpose, Some(Purpose::Background(_) | Purpose::Replicas))
    }
}

fn in_progress() -> Error {
    Error::text("ERR Background save already in progress")
}

/// What is told to who asks for something that the end of the server leaves no time for.
pub(super) fn about_to_end() -> Error {
    Error::text("ERR The server is about to end")
}

impl ShardLoop {
    /// What a turn that began at `began`, in ticks, does about saves. Returns whether there is more to do
    /// at once.
    pub(super) fn save(&mut self, began: u64) -> bool {
        let is_busy = self.produce(Some(began));
        if self.saves.lead.is_none() {
            return is_busy;
        }
        // Whoever is answered goes on at once.
        let has_heard = self.node.has_requests();
        if has_heard {
            self.hear_requests();
        }
        if self.node.shard().take_flushed_all() {
            self.save_after_flush();
        }
        self.lead_save() | self.lead_reload() | has_heard | is_busy
    }

    /// This shard's part of a snapshot: some of the turn that began at `began`, in ticks, or all the time
    /// that a shard has whose clients are not served any more.
    pub(super) fn produce(&mut self, began: Option<u64>) -> bool {
        let shard = self.node.shard();
        if !self.saves.producer.is_busy(shard.is_in_snapshot()) {
            self.saves.began = None;
            return false;
        }
        let now = ticks::now();
        let since = *self.saves.began.get_or_insert(now);
        let spent = began.map_or(0, |began| now.saturating_sub(began));
        let part = if shard.snapshot_progress().kept_bytes > KEPT_MANY { spent } else { spent / 3 };
        let slice = match spent > self.saves.idle_ticks {
            true => part.clamp(self.saves.slice_least_ticks, self.saves.slice_ticks),
            false => self.saves.slice_ticks,
        };
        let delay = self.node.config().rdb_key_save_delay();
        let allowed = allowance(delay, now.saturating_sub(since), self.neighbours.count());
        let (until, mut is_delayed) = (now + slice, false);
        let turn = self.saves.producer.turn(self.node.shard(), |keys| {
            is_delayed = keys >= allowed;
            is_delayed || ticks::now() >= until
        });
        if turn == Turn::Idle {
            self.saves.began = None;
        }
        turn == Turn::More && !is_delayed
    }

    // ---- what is asked -----------------------------------------------------------------------

    fn hear_requests(&mut self) {
        for (request, asker) in self.node.take_requests() {
            if self.is_stopping() {
                self.answer(asker, Err(about_to_end()));
            } else {
                self.act_on(request, asker);
            }
        }
    }

    pub(super) fn answer(&mut self, asker: Option<Asker>, answer: Result<&'static str, Error>) {
        if let Some(asker) = asker {
            self.node.answer(asker, answer.map(Said::Line));
        }
    }

    fn act_on(&mut self, request: Request, asker: Option<Asker>) {
        let Some(lead) = &mut self.saves.lead else { return };
        match request {
            Request::Save | Request::BackgroundSave { .. } if lead.is_in_background() => {
                match asker {
                    Some(_) => self.answer(asker, Err(in_progress())),
                    // Of a transaction, which was told that its save is scheduled, or of a flush.
                    None => lead.wait(request, None),
                }
            }
            Request::Save | Request::BackgroundSave { .. } | Request::Reload { .. }
                if lead.is_busy() =>
            {
                lead.wait(request, asker);
            }
            Request::Save => self.begin_save(Purpose::Foreground(asker)),
            Request::BackgroundSave { .. } => self.begin_save(Purpose::Background(asker)),
            Request::CancelSave => self.cancel_save(asker),
            Request::Shutdown(how) => {
                lead.stoppers.extend(asker);
                self.shut_down(how);
            }
            Request::AbortShutdown => self.abort_shutdown(asker),
            Request::Reload { save, flush, merge } => {
                if self.instance.persistence().is_loading() {
                    return self.answer(asker, Err(Error::Loading));
                }
                let Some(asker) = asker else { return };
                let stage = Reloading::Announced;
                lead.reload = Some(Reload { asker, save, flush, merge, stage });
                self.announce_loading(false);
            }
            _ => self.hear_replication(request, asker),
        }
        self.tell_scheduled();
    }

    /// BGSAVE CANCEL.
    fn cancel_save(&mut self, asker: Option<Asker>) {
        let Some(lead) = &mut self.saves.lead else { return };
        if lead.is_in_background() {
            tracing::info!("Background saving will be aborted due to user request");
            self.give_up_save(GivenUp::Cancelled);
            return self.answer(asker, Ok("Background saving cancelled"));
        }
        let before = lead.waiting.len();
        lead.waiting.retain(|(request, asker)| {
            !(matches!(request, Request::BackgroundSave { .. }) && asker.is_none())
        });
        let answer = if lead.waiting.len() < before {
            Ok("Scheduled background saving cancelled")
        } else {
            let text = "ERR Background saving is currently not in progress or scheduled";
            Err(Error::text(text))
        };
        self.answer(asker, answer);
    }

    fn tell_scheduled(&self) {
        let mut waiting = self.saves.lead.iter().flat_map(|lead| &lead.waiting);
        let is_scheduled =
            waiting.any(|(request, _)| matches!(request, Request::BackgroundSave { .. }));
        self.instance.tell_persistence(|state| state.is_scheduled = is_scheduled);
    }

    /// Goes on with those who have waited, as far as nothing is in their way.
    pub(super) fn go_on(&mut self) {
        while !self.is_stopping()
            && let Some(lead) = &mut self.saves.lead
            && !lead.is_busy()
            && let Some((request, asker)) = lead.waiting.pop_front()
        {
            self.act_on(request, asker);
        }
    }

    // ---- a save ------------------------------------------------------------------------------

    /// The save that DEBUG RELOAD begins with.
    pub(super) fn save_for_reload(&mut self) {
        self.begin_save(Purpose::Reload);
    }

    fn begin_save(&mut self, purpose: Purpose) {
        let version = configured_version(&self.instance.config());
        self.begin_save_to_file(purpose, version);
    }

    /// Begins a snapshot for replicas; returns where it can be taken from, piece by piece.
    pub(super) fn begin_save_to_replicas(&mut self, version: Version) -> Rc<Spread> {
        let spread: Rc<Spread> = Rc::default();
        let (target, name) = (Target::Replicas(Rc::clone(&spread)), "replicas' sockets");
        self.begin_save_to(Purpose::Replicas, target, PathBuf::from(name), version);
        spread
    }

    /// Begins a snapshot for replicas that get it as a file; returns that one's path.
    pub(super) fn begin_save_to_file_for_replicas(&mut self, version: Version) -> PathBuf {
        self.begin_save_to_file(Purpose::Replicas, version)
    }

    /// Nobody waits for the snapshot for replicas that is being made.
    pub(super) fn cancel_save_for_replicas(&mut self) {
        self.give_up_save(GivenUp::Cancelled);
    }

    /// Begins a save to the file that is configured; returns its path.
    fn begin_save_to_file(&mut self, purpose: Purpose, version: Version) -> PathBuf {
        let config = self.instance.config();
        let path = config.dir().join(config.dbfilename());
        let target = Target::File(self.background.write(&path));
        self.begin_save_to(purpose, target, path.clone(), version);
        path
    }

    /// Whether another snapshot can begin now.
    pub(super) fn may_begin_save(&self) -> bool {
        self.saves.lead.as_ref().is_some_and(|lead| !lead.is_busy() && lead.waiting.is_empty())
    }

    fn begin_save_to(&mut self, purpose: Purpose, target: Target, path: PathBuf, version: Version) {
        let config = self.instance.config();
        let head = self.head(&config, version);
        let began_us = clock::unix_us();
        let Some(lead) = &mut self.saves.lead else { return };
        lead.collector.begin(head, style(&config));
        lead.current = Some(Save {
            purpose,
            stage: Stage::Waiting,
            target,
            path,
            began_us,
            given_up: None,
            summary: Summary::default(),
        });
        let is_waited_for = !matches!(purpose, Purpose::Background(_) | Purpose::Replicas);
        self.instance.tell_persistence(|state| {
            state.last_try_s = began_us / 1_000_000;
            state.saving = Some(Saving { began_us, is_waited_for, ..Saving::default() });
        });
        if matches!(purpose, Purpose::Last) {
            // Nothing is under way: every shard cuts by itself ([`super::stop`]).
            self.saves.cut_made();
        } else {
            self.begin_cut();
        }
    }

    /// Has all shards cut, unless something else runs on all of them or the stream of a primary is in the
    /// middle of something: then as soon as that is over.
    fn begin_cut(&mut self) {
        if !self.may_cut() {
            return;
        }
        let Some(save) = self.saves.lead.as_mut().and_then(|lead| lead.current.as_mut()) else {
            return;
        };
        save.stage = Stage::Cutting;
        let is_for_replicas = matches!(save.purpose, Purpose::Replicas);
        let cut = if self.cuts_with_mark(is_for_replicas) { &CUT_AND_JOURNAL } else { &CUT };
        self.node.begin_inner(cut);
    }

    /// What the file says of itself.
    fn head(&self, config: &Config, version: Version) -> Head {
        let aux = vec![
            ("redis-ver", COMPATIBLE_VERSION.to_owned()),
            ("redshard-ver", version::VERSION.to_owned()),
            ("redis-bits", usize::BITS.to_string()),
            ("ctime", (clock::unix_us() / 1_000_000).to_string()),
            ("used-mem", memory::used().to_string()),
            ("aof-base", "0".to_owned()),
        ];
        let functions = self.instance.persistence().state().functions;
        Head { version, aux, functions, has_checksum: config.rdbchecksum() }
    }

    /// What the first shard does about the save under way.
    fn lead_save(&mut self) -> bool {
        let Some(lead) = &mut self.saves.lead else { return false };
        let Some(save) = &mut lead.current else { return false };
        match save.stage {
            Stage::Waiting if save.given_up.is_some() => self.cut_concluded(Err(cancelled())),
            Stage::Waiting => self.begin_cut(),
            Stage::Cutting => {
                if let Some(result) = self.node.take_concluded() {
                    self.cut_concluded(result);
                }
                return false;
            }
            // The stream's position at the cut belongs to the head.
            Stage::Positioning => return self.position_save(),
            Stage::Collecting => match lead.collector.turn(&mut save.target) {
                Collected::More => {
                    if let Some(error) = save.target.failure() {
                        save.given_up.get_or_insert(GivenUp::Failed(error));
                        lead.collector.give_up();
                        return true;
                    }
                }
                Collected::All(summary) => {
                    (save.summary, save.stage) = (summary, Stage::Writing);
                    save.target.end(false);
                }
                Collected::GivenUp => {
                    save.stage = Stage::Writing;
                    save.target.end(true);
                }
            },
            Stage::Writing => {
                if let Some(outcome) = save.target.result() {
                    self.end_save(outcome);
                    return true;
                }
            }
        }
        false
    }

    /// Looks whether it is known where in the stream the cut is.
    fn position_save(&mut self) -> bool {
        let Some(position) = self.take_position() else { return false };
        let Some(lead) = &mut self.saves.lead else { return false };
        let Some(save) = &mut lead.current else { return false };
        save.stage = Stage::Collecting;
        if let Some(position) = position {
            lead.collector.add_aux("repl-stream-db", position.db.to_string());
            lead.collector.add_aux("repl-id", position.id.clone());
            lead.collector.add_aux("repl-offset", position.offset.to_string());
            if matches!(save.purpose, Purpose::Replicas) {
                self.snapshot_is_cut(position);
            }
        } else if matches!(save.purpose, Purpose::Replicas) {
            // Nobody could follow from a place that is not known.
            self.cancel_save_for_replicas();
        }
        true
    }

    fn cut_concluded(&mut self, result: Result<(), Error>) {
        let Some(lead) = &mut self.saves.lead else { return };
        let Some(save) = &mut lead.current else { return };
        if let Err(error) = result {
            // None has cut: they refuse only what the last one's end has made sure of.
            save.given_up.get_or_insert(GivenUp::Failed(io::Error::other(error.to_string())));
            lead.collector.forget();
            self.give_up_cut();
            let Some(lead) = &mut self.saves.lead else { return };
            let Some(save) = &mut lead.current else { return };
            save.stage = Stage::Writing;
            return save.target.end(true);
        }
        save.stage = Stage::Positioning;
        if save.given_up.is_some() {
            lead.collector.give_up();
            save.stage = Stage::Collecting;
            self.give_up_cut();
        }
        let Some(save) = self.saves.lead.as_mut().and_then(|lead| lead.current.as_mut()) else {
            return;
        };
        if let Purpose::Background(asker @ Some(_)) = &mut save.purpose {
            let asker = asker.take();
            tracing::info!("Background saving started");
            self.answer(asker, Ok("Background saving started"));
        }
    }

    /// The save under way will not come to its end.
    fn give_up_save(&mut self, why: GivenUp) {
        let Some(lead) = &mut self.saves.lead else { return };
        let Some(save) = &mut lead.current else { return };
        if save.given_up.is_some() {
            return;
        }
        save.given_up = Some(why);
        match save.stage {
            Stage::Waiting | Stage::Cutting => {}
            Stage::Positioning | Stage::Collecting => {
                lead.collector.give_up();
                save.stage = Stage::Collecting;
            }
            // Unless it is about to get its place.
            Stage::Writing => save.target.end(true),
        }
    }

    /// Tells everybody how far a save is: at each tick, since it looks at what every shard writes.
    pub(super) fn tell_save_progress(&self) {
        let Some(lead) = self.saves.lead.as_ref().filter(|lead| lead.current.is_some()) else {
            return;
        };
        let (progress, so_far) = (lead.collector.progress(), lead.collector.so_far());
        self.instance.tell_persistence(|state| {
            if let Some(saving) = &mut state.saving {
                (saving.keys, saving.cow_bytes) = (progress.keys, progress.kept_bytes);
                saving.cow_bytes_max = progress.kept_bytes_max;
                if so_far.bytes > 0 {
                    (saving.keys_total, saving.bytes) = (so_far.keys, so_far.bytes);
                }
            }
        });
    }

    /// The save under way is over, as its file says.
    fn end_save(&mut self, outcome: io::Result<()>) {
        let Some(lead) = &mut self.saves.lead else { return };
        let Some(save) = lead.current.take() else { return };
        let kept_bytes_max = lead.collector.progress().kept_bytes_max;
        let now_us = clock::unix_us();
        let (now_s, took_s) = (now_us / 1_000_000, (now_us - save.began_us) / 1_000_000);
        let is_background = matches!(save.purpose, Purpose::Background(_));
        let result = match (outcome, save.given_up) {
            // The file has its place, whoever wanted to cancel it.
            (Ok(()), _) => Ok(()),
            (Err(_), Some(why)) => Err(why),
            (Err(error), None) => Err(GivenUp::Failed(error)),
        };
        let is_file = matches!(save.target, Target::File(_));
        self.instance.tell_persistence(|state| {
            state.saving = None;
            state.last_cow_bytes = kept_bytes_max;
            if is_background {
                state.last_took_s = Some(took_s);
            }
            match &result {
                Ok(()) if is_file => {
                    state.last_save_s = now_s;
                    state.saved_changes = save.summary.changes;
                    state.saves += 1;
                    state.is_last_fine = true;
                }
                Err(GivenUp::Failed(_)) if is_background => state.is_last_fine = false,
                _ => {}
            }
        });
        match &result {
            Ok(()) if is_background => {
                tracing::info!("Background saving terminated with success");
            }
            Ok(()) if is_file => tracing::info!("DB saved on disk"),
            Ok(()) => tracing::info!("The snapshot has been sent to replicas"),
            Err(GivenUp::Cancelled) => tracing::info!("The snapshot has been cancelled"),
            Err(GivenUp::Failed(error)) => {
                let (path, reason) = (save.path.display(), io_reason(error));
                tracing::warn!("Failed to save the data to {path}: {reason}");
                if is_background {
                    tracing::warn!("Background saving error");
                }
            }
        }
        if is_file && !matches!(save.purpose, Purpose::Replicas) {
            self.keep_sync_file();
        }
        let answer = result.map_err(|why| match why {
            GivenUp::Cancelled => cancelled(),
            GivenUp::Failed(error) => {
                Error::owned(format!("ERR The data can't be saved: {}", io_reason(&error)))
            }
        });
        match save.purpose {
            Purpose::Background(asker) | Purpose::Foreground(asker) => {
                self.answer(asker, answer.map(|()| "OK"));
            }
            Purpose::Last => self.saves.last_is_over(answer.is_ok()),
            Purpose::Reload => self.saved_for_reload(answer),
            Purpose::Replicas => self.snapshot_is_over(answer.map(|()| save.summary.bytes)),
        }
        self.go_on();
    }

    // ---- by itself ---------------------------------------------------------------------------

    /// Looks now and then whether so much has changed that it is time to save.
    pub(super) fn look_at_save_points(&mut self) {
        let Some(lead) = &mut self.saves.lead else { return };
        lead.ticks += 1;
        if lead.ticks < TICKS_PER_LOOK {
            return;
        }
        lead.ticks = 0;
        if lead.is_busy() || self.node.is_loading() {
            return;
        }
        let state = self.instance.persistence().state();
        let now_s = clock::unix_us() / 1_000_000;
        if !state.is_last_fine && now_s - state.last_try_s <= RETRY_S {
            return;
        }
        let changes = self.instance.metrics.sum(|shard| &shard.dirty);
        let changes = changes.saturating_sub(state.saved_changes);
        let since_s = u64::try_from(now_s - state.last_save_s).unwrap_or(0);
        let config = self.instance.config();
        let is_due =
            config.save().iter().find(|rule| changes >= rule.changes && since_s > rule.seconds);
        if let Some(rule) = is_due {
            tracing::info!("{} changes in {} seconds. Saving...", rule.changes, rule.seconds);
            self.begin_save(Purpose::Background(None));
        }
    }

    /// A client has had all of the data thrown away: if the server dies now, it must not come back with
    /// what the file still has.
    fn save_after_flush(&mut self) {
        if !self.instance.config().save().is_empty() {
            self.act_on(Request::Save, None);
        }
    }

    // ---- the last save -----------------------------------------------------------------------

    /// Ends what runs, on the first shard of a server that is to end. Returns whether that is so.
    pub(super) fn is_saving_over(&mut self) -> bool {
        if self.node.has_requests() {
            self.hear_requests();
        }
        self.lead_save();
        let Some(lead) = &mut self.saves.lead else { return true };
        let waiting = std::mem::take(&mut lead.waiting);
        let is_over = lead.current.is_none();
        if !matches!(&lead.current, Some(Save { purpose: Purpose::Last, .. })) {
            self.give_up_save(GivenUp::Cancelled);
        }
        for (_, asker) in waiting {
            self.answer(asker, Err(about_to_end()));
        }
        is_over
    }

    /// Begins the last save.
    pub(super) fn begin_last_save(&mut self) {
        if let Some(lead) = &mut self.saves.lead {
            lead.last = None;
        }
        self.begin_save(Purpose::Last);
    }

    /// How the last save has come out, when it is over.
    pub(super) fn last_save(&self) -> Option<Result<(), ()>> {
        self.saves.lead.as_ref()?.last
    }

    /// The server goes on: whoever has asked for its end is told so.
    pub(super) fn answer_stoppers(&mut self) {
        let Some(lead) = &mut self.saves.lead else { return };
        for stopper in std::mem::take(&mut lead.stoppers) {
            let error = Error::text("ERR Errors trying to SHUTDOWN. Check logs.");
            self.answer(Some(stopper), Err(error));
        }
    }
}

impl Saves {
    fn last_is_over(&mut self, is_fine: bool) {
        if let Some(lead) = &mut self.lead {
            lead.last = Some(if is_fine { Ok(()) } else { Err(()) });
        }
    }

    fn cut_made(&mut self) {
        if let Some(save) = self.lead.as_mut().and_then(|lead| lead.current.as_mut()) {
            save.stage = Stage::Positioning;
        }
    }
}

fn cancelled() -> Error {
    Error::text("ERR The save has been cancelled")
}

/// Which version of the format files are written in, if nobody wants another.
fn configured_version(config: &Config) -> Version {
    let number = |word: &str| word.parse().ok().and_then(Version::new);
    number(config.rdb_version().word()).unwrap_or(Version::V10)
}

/// How keys are written.
fn style(config: &Config) -> Style {
    let policy = config.maxmemory_policy().word();
    let usage = if policy.ends_with("lfu") {
        UsageStyle::Freq(config.lfu_decay_time())
    } else if policy.ends_with("lru") {
        UsageStyle::Idle
    } else {
        UsageStyle::None
    };
    Style { compress: config.rdbcompression(), usage }
}

/// How many keys a shard may have saved so many ticks after it has begun, where each is delayed for all
/// shards together: microseconds a key or, if negative, keys a microsecond.
fn allowance(delay: i64, since: u64, shards: usize) -> u64 {
    let us = ticks::rate().us(since);
    match delay {
        0 => u64::MAX,
        us_per_key @ 1.. => us / us_per_key.unsigned_abs() / shards as u64,
        per_us => us.saturating_mul(per_us.unsigned_abs()) / shards as u64,
    }
}

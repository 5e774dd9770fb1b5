//! One shard with its clients.
//!
//! A turn: [`Node::begin_turn`] with the time, [`Node::collect`] the mail and [`Node::run_mail`],
//! [`Node::feed`] what clients have sent, [`Node::end_turn`]; then, if the [`Gate`] is open, send
//! what [`Node::take_dirty`] names, as far as [`Node::may_leave`] says.

use super::batch::{Batch, ClientKey, Item, RunItem};
use super::client::{Client, Replies};
use super::departure::Departures;
use super::dispatch::{blocked, own_call};
use super::exec::{self, Job};
use super::feed::Ahead;
use super::gate::Gate;
use super::mailbox::Mailbox;
use super::observe::{Lookout, Seen};
use super::order::{Deferred, Message};
use super::rules::{Rule, broken};
use super::timers::Timers;
use super::txn::Txn;
use crate::base::clock::Now;
use crate::base::{doing, limits};
use crate::command::Run;
use crate::config::Config;
use crate::instance::monitors::Monitor;
use crate::instance::{Instance, Pause};
use crate::resp::{Args, Parser, ReplyBuf, Span};
use crate::session::{About, Close, Session};
use crate::shard::Shard;
use crate::shard::locks::{Locks, TxnId};
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// See the module's head.
#[derive(Debug)]
pub struct Node {
    pub(super) number: usize,
    pub(super) shard: Shard,
    pub(super) clients: Slab<Client>,
    pub(super) mail: Mailbox,
    pub(super) locks: Locks<Deferred>,
    pub(super) txns: HashMap<TxnId, Txn, ahash::RandomState>,
    pub(super) next_txn: u64,
    /// Messages from this shard to itself.
    local: VecDeque<Message>,
    /// Clients whose multi-shard command has ended: their input goes on.
    pub(super) resume: Vec<ClientKey>,
    /// Clients with something to send, or to be closed.
    dirty: Vec<ClientKey>,
    pub(super) departures: Departures,
    pub(super) gate: Gate,
    /// The shard that the last command of this feed crossed to.
    pub(super) crossed: Option<usize>,
    pub(super) instance: Arc<Instance>,
    pub(super) config: Arc<Config>,
    pub(super) generation: u64,
    pub(super) now: Now,
    pub(super) over_memory: bool,
    /// Whether nobody's input goes on this turn: some shard is asked for so much already, or not all
    /// mail that may be a cause of it has run.
    pub(super) input_waits: bool,
    /// The oldest mail of this turn that could not be taken: nothing later runs.
    untaken: u64,
    /// How much of `taken` is left from an earlier turn for that reason.
    kept: usize,
    /// Who has to wait, as of the last look.
    pub(super) pause: Pause,
    pub(super) timers: Timers,
    /// Clients that do, in the order they came.
    pub(super) postponed: Vec<ClientKey>,
    /// Whether a command has to pass [`Node::attend`]: all that is rare, in one flag.
    pub(super) attention: bool,
    /// Mail taken and not yet run, in the order of stamps as far as it was kept.
    taken: Vec<Box<Batch>>,
    /// Scratch of `feed`.
    pub(super) window: Vec<Ahead>,
    pub(super) spans: Vec<Span>,
    client_generation: u32,
    pub(super) commands: u64,
    /// The last reading of the counter that times commands.
    pub(super) lap: u64,
    /// The reading at which no client's input goes on this turn.
    deadline: u64,
    pub(super) lookout: Lookout,
    /// Clients that watch keys.
    pub(super) watching: u64,
    /// Bytes of the request at hand.
    pub(super) request: u64,
    pub(super) monitors: Arc<Vec<Monitor>>,
    pub(super) monitors_generation: u64,
    /// Whether somebody monitors: then every command is shown.
    pub(super) is_monitored: bool,
    pub(super) hops_out: u64,
    parts_sent: u64,
    pub(super) parts_run: u64,
    hops_in: u64,
    batch_max: u64,
    batches: u64,
    pub(super) errors: u64,
}

/// Commands of a batch whose memory is asked for at once. A whole batch would have the first in need
/// pushed out by the last: a deep pipeline's has hundreds of commands, and the nearest cache 512
/// lines; one at a time, a few commands ahead, they do not overlap (40 ns more per command).
const FETCHED: usize = 16;

pub use crate::base::slot::owner as owner_of;

impl Node {
    /// Shard `number` with its mailbox.
    pub fn new(number: usize, mail: Mailbox, instance: Arc<Instance>) -> Node {
        let config = instance.config();
        let databases = usize::from(config.databases());
        let lookout = Lookout::new(&config);
        let mut node = Node {
            number,
            shard: Shard::new(number, mail.shards(), databases),
            clients: Slab::new(),
            mail,
            locks: Locks::default(),
            txns: HashMap::with_hasher(crate::base::hash::state().clone()),
            next_txn: 0,
            local: VecDeque::new(),
            resume: Vec::new(),
            dirty: Vec::new(),
            departures: Departures::default(),
            gate: Gate::default(),
            crossed: None,
            generation: 0,
            config,
            instance,
            now: Now::default(),
            over_memory: false,
            input_waits: false,
            untaken: u64::MAX,
            kept: 0,
            pause: Pause::default(),
            timers: Timers::default(),
            postponed: Vec::new(),
            attention: false,
            taken: Vec::new(),
            window: Vec::new(),
            spans: Vec::new(),
            client_generation: 0,
            commands: 0,
            lap: 0,
            deadline: u64::MAX,
            lookout,
            watching: 0,
            request: 0,
            monitors: Arc::default(),
            monitors_generation: 0,
            is_monitored: false,
            hops_out: 0,
            parts_sent: 0,
            parts_run: 0,
            hops_in: 0,
            batch_max: 0,
            batches: 0,
            errors: 0,
        };
        node.follow_config();
        node
    }

    // ---- a turn ------------------------------------------------------------------------------

    /// Begins a turn, after its input has been collected and at `now`.
    pub fn begin_turn(&mut self, now: Now) {
        self.now = now;
        self.input_waits = false;
        doing::nothing();
        self.shard.set_now(now);
        if self.generation != self.instance.generation() {
            self.follow_config();
        }
        if self.monitors_generation != self.instance.monitors.generation() {
            self.follow_monitors();
        }
        let limit = self.config.maxmemory();
        self.over_memory = limit != 0 && crate::base::memory::used() > limit;
        self.run_timers();
        self.judge_attention();
    }

    fn follow_config(&mut self) {
        self.generation = self.instance.generation();
        self.config = self.instance.config();
        let mut settings = *self.shard.settings();
        settings.bulk_max = usize::try_from(self.config.proto_max_bulk_len()).unwrap_or(usize::MAX);
        let lfu = self.config.maxmemory_policy().word().ends_with("lfu");
        settings.lfu = lfu.then(|| (self.config.lfu_log_factor(), self.config.lfu_decay_time()));
        settings.active_expire = self.instance.active_expire();
        self.shard.set_settings(settings);
        self.follow_lookout();
        self.follow_pause();
        self.follow_timeout();
    }

    /// Takes the mail of one shard, for [`Node::run_mail`].
    pub fn collect_from(&mut self, from: usize) {
        let cut = if broken(Rule::Cut) { u64::MAX } else { self.now.monotonic_ns };
        let kept = self.taken[..self.kept].iter().filter(|batch| batch.from == from).count();
        if let Some(stamp) = self.mail.collect_from(from, cut, kept, &mut self.taken)
            && !broken(Rule::Backlog)
        {
            self.untaken = self.untaken.min(stamp);
            self.input_waits = true;
        }
    }

    /// Whether nothing is under way here: no command over several shards, nobody who waits for a
    /// lock, no outlet that is lent, no mail that has been taken and not run.
    pub fn is_at_rest(&self) -> bool {
        self.txns.is_empty()
            && self.locks.is_idle()
            && self.locks.waiting() == 0
            && self.departures.is_idle()
            && self.taken.is_empty()
            && self.local.is_empty()
    }

    /// Parts of multi-shard commands that this shard has sent out, and that it has run.
    pub fn parts(&self) -> (u64, u64) {
        (self.parts_sent, self.parts_run)
    }

    /// Takes everybody's mail.
    pub fn collect(&mut self) {
        for from in 0..self.mail.shards() {
            self.collect_from(from);
        }
    }

    /// Runs the mail that has been taken. Returns whether some of it has to wait for the next turn.
    pub fn run_mail(&mut self) -> bool {
        if self.taken.is_empty() {
            return false;
        }
        let mut taken = std::mem::take(&mut self.taken);
        if !broken(Rule::StampOrder) {
            // Stable: batches of one sender keep their order.
            taken.sort_by_key(|batch| batch.stamp);
        }
        let untaken = std::mem::replace(&mut self.untaken, u64::MAX);
        let runs = match untaken {
            u64::MAX => taken.len(),
            // Of its own time too: those are its neighbours from the same turn of the same sender.
            _ => taken.partition_point(|batch| batch.stamp <= untaken),
        };
        for batch in taken.drain(..runs) {
            if batch.is_answer { self.take_answer(batch) } else { self.run_batch(batch) }
        }
        self.kept = taken.len();
        self.taken = taken;
        self.kept > 0
    }

    /// The clients whose input may go on.
    pub fn take_resumed(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.resume)
    }

    /// Says until when clients are fed this turn, as a reading of [`crate::base::ticks`]. It is
    /// compared with the readings that time commands, and so costs none of its own; without one,
    /// as in tests, a turn lasts as long as it has input.
    pub fn set_deadline(&mut self, ticks: u64) {
        self.deadline = ticks;
    }

    /// Whether that is over.
    #[inline]
    pub fn is_late(&self) -> bool {
        self.lap >= self.deadline
    }

    /// Ends a turn: posts what has been said to other shards and publishes it. Returns whether
    /// replies may go out; if not, some of it is not visible yet and this has to be called again.
    pub fn end_turn(&mut self, stamp: u64) -> bool {
        let mut is_visible = true;
        if self.mail.shards() > 1 && self.mail.has_outgoing() {
            for to in 0..self.mail.shards() {
                self.post(to, stamp);
            }
            is_visible = self.mail.publish();
        }
        self.gate.turn_ended(stamp, is_visible);
        is_visible
    }

    /// One step of [`Node::end_turn`]: posts, without publishing, what one shard will get.
    pub fn post(&mut self, to: usize, stamp: u64) {
        self.mail.post(to, stamp);
    }

    /// The mailbox, for waiting and waking.
    pub fn mail(&mut self) -> &mut Mailbox {
        &mut self.mail
    }

    /// This turn's time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The configuration in force this turn.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Most input of one client that may wait to be executed, in bytes.
    pub fn query_limit(&self) -> u64 {
        self.config.client_query_buffer_limit().min(limits::QUERY_BUFFER_CEILING)
    }

    /// The shard's data.
    pub fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// The clients that have something to send now or are to be closed, each once.
    pub fn take_dirty(&mut self, into: &mut Vec<ClientKey>) {
        into.clear();
        std::mem::swap(&mut self.dirty, into);
        into.retain(|key| {
            self.client_mut(*key).is_some_and(|client| {
                client.is_dirty = false;
                !client.gathers()
            })
        });
    }

    /// Publishes this shard's counters.
    pub fn publish_metrics(&mut self) {
        let metrics = self.instance.metrics.shard(self.number);
        let stats = *self.shard.stats();
        metrics.commands.set(self.commands);
        metrics.hops_out.set(self.hops_out);
        metrics.hops_in.set(self.hops_in);
        metrics.batch_max.set(self.batch_max);
        metrics.batches.set(self.batches);
        metrics.errors.set(self.errors);
        metrics.hits.set(stats.hits);
        metrics.misses.set(stats.misses);
        metrics.expired.set(stats.expired);
        metrics.dirty.set(stats.dirty);
        metrics.watched_keys.set(self.shard.watches().len() as u64);
        metrics.watching.set(self.watching);
        metrics.freed.set(stats.freed);
        metrics.pending_frees.set(self.shard.pending_frees() as u64);
        metrics.blocked.set(self.postponed.len() as u64);
        let (instance, number) = (&self.instance, self.number);
        self.shard.take_changed(|db, keys, volatile| {
            let database = instance.metrics.database(number, db);
            database.keys.set(keys as u64);
            database.volatile.set(volatile as u64);
        });
    }

    // ---- clients -----------------------------------------------------------------------------

    /// A client has connected.
    pub fn connect(&mut self, about: About) -> ClientKey {
        // A password that has been set since the turn began is asked of who comes after that.
        if self.generation != self.instance.generation() {
            self.follow_config();
        }
        let id = self.instance.next_client();
        self.client_generation = self.client_generation.wrapping_add(1);
        let generation = self.client_generation;
        let index = self.clients.insert(Client {
            session: Session::new(id, self.now, &self.config, about),
            parser: Parser::default(),
            replies: Replies::default(),
            outlet: None,
            is_lent: false,
            is_overdrawn: false,
            held: false,
            generation,
            is_dirty: false,
        });
        let key = ClientKey { index: index as u32, generation };
        self.time_client(key);
        key
    }

    /// A client has gone. What it had begun on other shards ends there; its replies are dropped.
    pub fn disconnect(&mut self, key: ClientKey) {
        if self.client(key).is_none() {
            return;
        }
        let client = self.clients.remove(key.index as usize);
        self.forget_client(key);
        if client.session.monitor {
            self.end_monitor(key);
        }
        if client.session.postponed {
            self.postponed.retain(|other| *other != key);
        }
        self.unwatch(client.session.watched);
    }

    /// A client that is still there.
    #[inline]
    pub fn client(&self, key: ClientKey) -> Option<&Client> {
        self.clients.get(key.index as usize).filter(|client| client.generation == key.generation)
    }

    /// A client that is still there.
    #[inline]
    pub fn client_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        let client = self.clients.get_mut(key.index as usize)?;
        (client.generation == key.generation).then_some(client)
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    #[inline]
    pub(super) fn soil(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key.index as usize)
            && !client.is_dirty
        {
            client.is_dirty = true;
            self.dirty.push(key);
        }
    }

    /// Notes every client that somebody has decided to close.
    pub(super) fn soil_closing(&mut self) {
        let closing = self.clients.iter().filter(|(_, c)| c.session.close != Close::No);
        let keys: Vec<ClientKey> = closing
            .map(|(index, c)| ClientKey { index: index as u32, generation: c.generation })
            .collect();
        keys.into_iter().for_each(|key| self.soil(key));
    }

    // ---- mail --------------------------------------------------------------------------------

    /// Says something to a shard, this one included.
    pub(super) fn say(&mut self, to: usize, message: Message) {
        self.parts_sent += u64::from(matches!(message, Message::Do(_)));
        if to == self.number {
            self.local.push_back(message);
        } else {
            self.mail.batch(to).items.push(Item::Order(Box::new(message)));
        }
    }

    pub(super) fn hear_local(&mut self) {
        while let Some(message) = self.local.pop_front() {
            self.hear(self.number, message);
        }
    }

    /// Runs what another shard asks for, and sends its batch back with the replies.
    fn run_batch(&mut self, mut batch: Box<Batch>) {
        self.batches += 1;
        // Nor is it anything that a client of this shard has asked for.
        doing::nothing();
        let from = batch.from;
        let mut items = std::mem::take(&mut batch.items);
        self.batch_max = self.batch_max.max(items.len() as u64);
        let mut answers = false;
        for i in 0..items.len() {
            if i % FETCHED == 0 {
                self.fetch_ahead(&items[i..]);
            }
            match &mut items[i] {
                Item::Run(run) => {
                    answers = true;
                    self.run_item(from, run, &mut batch);
                }
                Item::Order(message) => {
                    let message = std::mem::replace(
                        &mut **message,
                        Message::Done(0, super::order::Results::default()),
                    );
                    self.hear(from, message);
                    self.hear_local();
                }
                Item::Late(client, seq, (start, end)) => {
                    self.keep_promise(*client, *seq, &batch.replies, (*start, *end));
                }
                Item::Push(client, claim, bytes) => self.pushed(*client, *claim, bytes),
                Item::Slow(client, ticks, call) => {
                    let seen = Seen { ticks: *ticks, ..Seen::default() };
                    let args = Args::new(&call.bytes, &call.spans);
                    self.look_at(*client, call.command, &args, seen);
                }
                Item::Unwatch(db, span) => {
                    let key = batch.spans[*span as usize].of(&batch.bytes);
                    self.shard.watches().remove(usize::from(*db), key);
                }
            }
        }
        batch.items = items;
        if batch.may_depart() {
            self.departures.add(batch);
        } else if answers {
            self.mail.answer(batch);
        } else {
            self.mail.recycle(batch);
        }
    }

    /// Asks for the memory that the next commands of a batch will touch: the buckets of all, then,
    /// when those have come, the blocks.
    #[inline]
    fn fetch_ahead(&mut self, items: &[Item]) {
        let runs = || {
            items.iter().take(FETCHED).filter_map(|item| match item {
                Item::Run(run) => Some(run),
                _ => None,
            })
        };
        for run in runs() {
            self.shard.prefetch(run.db as usize, run.hash);
        }
        for run in runs() {
            self.shard.prefetch_block(run.db as usize, run.hash);
        }
        self.lap();
    }

    fn run_item(&mut self, from: usize, run: &mut RunItem, batch: &mut Batch) {
        self.hops_in += 1;
        let (start, command) = (batch.replies.mark(), run.command);
        let mut replies = std::mem::take(&mut batch.replies);
        let args = batch.args(run.args);
        let hash = command.first_key().filter(|_| matches!(command.run, Run::Owner(_)));
        let (db, resp3, no_touch) = (run.db as usize, run.resp3, run.no_touch);
        let hash = hash.map(|_| run.hash);
        let job = Job { command, args, db, resp3, no_touch, hash, txn: 0 };
        let wants = if self.locks.is_idle() { None } else { blocked(&self.locks, &job) };
        if let Some(wants) = wants {
            run.late = true;
            let (client, seq, call) = (run.client, run.seq, Box::new(own_call(command, &args)));
            let deferred = Deferred::Run { from, client, seq, call, db, resp3, no_touch };
            self.locks.wait(wants, None, deferred);
        } else {
            let ran = exec::run_whole(&mut self.shard, &job, &mut replies);
            run.ticks = self.count(command, ran);
        }
        run.reply = (start, replies.mark());
        batch.replies = replies;
    }

    /// A batch has come back with its replies.
    fn take_answer(&mut self, batch: Box<Batch>) {
        self.take_outlets_back(&batch);
        for item in &batch.items {
            let Item::Run(run) = item else { continue };
            if let Some(client) = self.client_mut(run.client) {
                client.replies.crossed();
            }
            if run.late {
                // Who knows how long it has to wait: what is before it goes out.
                self.soil(run.client);
            } else {
                let (start, end) = run.reply;
                self.keep_promise(run.client, run.seq, &batch.replies, (start + run.sent, end));
                let reply = batch.replies.len_between(start, end) as u64;
                let seen = Seen { ticks: run.ticks, request: 0, reply };
                // Arguments are looked up only if need be: this is the way of every crossing command.
                if self.lookout.is_notable(seen) {
                    self.note(run.client, run.command, &batch.args(run.args), seen);
                }
            }
        }
        self.mail.recycle(batch);
    }

    /// Hands a client a reply it was promised, and lets its input go on if that waited for it.
    pub(super) fn keep_promise(
        &mut self,
        key: ClientKey,
        seq: u32,
        from: &ReplyBuf,
        range: (usize, usize),
    ) {
        if let Some(client) = self.client_mut(key) {
            client.replies.keep(seq, from, range);
            if client.is_overdrawn && !client.replies.owes_too_many() {
                client.is_overdrawn = false;
                self.resume.push(key);
            }
            self.soil(key);
        }
    }
}

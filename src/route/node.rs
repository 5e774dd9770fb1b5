//! One shard with its clients.
//!
//! A turn: [`Node::begin_turn`] with the time, [`Node::collect`] the mail and [`Node::run_mail`],
//! [`Node::feed`] what clients have sent, [`Node::end_turn`]; then, if the [`Gate`] is open, send
//! what [`Node::take_dirty`] names, as far as [`Node::may_leave`] says.

use super::batch::Batch;
use super::client::{Client, ClientKey};
use super::clients::Clients;
use super::coordinator::{self, Coordinator};
use super::departure::Departures;
use super::dispatch::own_call;
use super::execute::{self, Job};
use super::feed::Ahead;
use super::gate::Gate;
use super::mailbox::Mailbox;
use super::message::{Message, Pending, RunItem};
use super::observer::{Measured, Observer};
use super::participant::{Context, Participant, Reasons};
use super::post::Post;
use super::requests::{self, LEADER, Requests};
use super::rules::{Rule, broken};
use super::stream::Merger;
use super::timers::Timers;
use super::transaction::Goal;
use crate::base::clock::Now;
use crate::base::slot::Layout;
use crate::base::{doing, limits};
use crate::command::Call;
use crate::command::persistence::Request;
use crate::config::Config;
use crate::config::typed::{KeyspaceEvents, PipelineOrder};
use crate::instance::monitors::Monitor;
use crate::instance::{Instance, Pause};
use crate::resp::{Args, Reply, Span};
use crate::session::{About, Env, Session, Watch};
use crate::shard::Shard;
use std::sync::Arc;

/// See the module's head. Each part owns what is its own and is handed what else it works with; what
/// is left here is a turn's way through them.
#[derive(Debug)]
pub struct Node {
    pub(super) number: usize,
    /// The data, and who may touch it.
    pub(super) participant: Participant,
    /// Commands of clients here that take more than one shard, or more than one step.
    pub(super) coordinator: Coordinator,
    pub(super) clients: Clients,
    pub(super) post: Post,
    pub(super) observer: Observer,
    pub(super) departures: Departures,
    pub(super) gate: Gate,
    pub(super) timers: Timers,
    pub(super) requests: Requests,
    /// On the shard that leads: what makes one stream of all shards' journals.
    pub(super) merger: Option<Box<Merger>>,
    /// Clients that ask to become replicas.
    pub(super) syncing: Vec<ClientKey>,
    pub(super) instance: Arc<Instance>,
    pub(super) layout: Arc<Layout>,
    pub(super) config: Arc<Config>,
    generation: u64,
    pub(super) now: Now,
    /// Who has to wait, as of the last look.
    pub(super) pause: Pause,
    pub(super) monitors: Arc<Vec<Monitor>>,
    pub(super) monitors_generation: u64,
    /// Whether somebody monitors: then every command is shown.
    pub(super) is_monitored: bool,
    /// Whether commands have to pass [`Node::screen`]: all that is rare, in one flag.
    pub(super) screens: bool,
    /// Whether commands of one pipeline run in their order over all shards (`pipeline-order`).
    pub(super) is_strict: bool,
    /// Which events of keys are published, and whether any are.
    pub(super) events: KeyspaceEvents,
    pub(super) is_listening: bool,
    /// The shard that the last command of this feed crossed to.
    pub(super) crossed: Option<usize>,
    /// Bytes of the last feed up to the last point outside a transaction.
    pub(super) fed_whole: usize,
    /// Scratch of `feed`.
    pub(super) window: Vec<Ahead>,
    pub(super) spans: Vec<Span>,
}

/// Commands of a batch whose memory is asked for at once. A whole batch would have the first in need
/// pushed out by the last: a deep pipeline's has hundreds of commands, and the nearest cache 512
/// lines; one at a time, a few commands ahead, they do not overlap (40 ns more per command).
const FETCHED: usize = 16;

impl Node {
    /// Shard `number` with its mailbox.
    pub fn new(number: usize, mail: Mailbox, instance: Arc<Instance>) -> Node {
        let (config, layout) = (instance.config(), Arc::clone(&instance.layout));
        let databases = usize::from(config.databases());
        let shard = Shard::of_layout(number, Arc::clone(&layout), databases);
        let merger = (number == LEADER).then(|| Box::new(Merger::new(layout.shards())));
        let mut node = Node {
            number,
            participant: Participant::new(number, shard),
            coordinator: Coordinator::new(number, Arc::clone(&layout), databases),
            clients: Clients::default(),
            post: Post::new(number, mail),
            observer: Observer::new(number, Arc::clone(&instance), &config),
            departures: Departures::default(),
            gate: Gate::default(),
            timers: Timers::default(),
            requests: Requests::default(),
            merger,
            syncing: Vec::new(),
            instance,
            layout,
            config,
            generation: 0,
            now: Now::default(),
            pause: Pause::default(),
            monitors: Arc::default(),
            monitors_generation: 0,
            is_monitored: false,
            screens: false,
            is_strict: false,
            events: KeyspaceEvents::default(),
            is_listening: false,
            crossed: None,
            fed_whole: 0,
            window: Vec::new(),
            spans: Vec::new(),
        };
        node.follow_config();
        node
    }

    // ---- a turn ------------------------------------------------------------------------------

    /// Begins a turn, after its input has been collected and at `now`.
    pub fn begin_turn(&mut self, now: Now) {
        self.now = now;
        self.post.input_waits = self.outruns_stream();
        doing::nothing();
        self.participant.shard.set_now(now);
        self.observer.begin_turn(now);
        if self.generation != self.instance.generation() {
            self.follow_config();
        }
        if self.monitors_generation != self.instance.monitors.generation() {
            self.follow_monitors();
        }
        self.clients.resume_publishers(&self.instance);
        self.run_timers();
    }

    fn follow_config(&mut self) {
        self.instance.sleep_while_held();
        self.generation = self.instance.generation();
        self.config = self.instance.config();
        let mut settings = *self.participant.shard.settings();
        settings.bulk_max = usize::try_from(self.config.proto_max_bulk_len()).unwrap_or(usize::MAX);
        let lfu = self.config.maxmemory_policy().word().ends_with("lfu");
        settings.lfu = lfu.then(|| (self.config.lfu_log_factor(), self.config.lfu_decay_time()));
        settings.compress = self.config.rdbcompression();
        settings.lazy_expiry = self.config.lazyfree_lazy_expire();
        settings.active_expire = self.instance.active_expire();
        self.participant.shard.set_settings(settings);
        self.is_strict = self.config.pipeline_order() == PipelineOrder::Strict;
        self.follow_reasons();
        self.observer.follow(&self.config, self.generation);
        self.follow_events();
        self.follow_pause();
        self.follow_timeout();
    }

    /// Follows what commands may be refused for.
    fn follow_reasons(&mut self) {
        let (config, persistence) = (&self.config, self.instance.persistence());
        let replication = self.instance.replication();
        let (follows, good) = (replication.is_replica(), replication.good_replicas());
        // A replica that has less memory than its primary would otherwise lack some of its keys.
        let is_primarys = follows && config.replica_ignore_maxmemory();
        self.participant.set_memory_max(if is_primarys { 0 } else { config.maxmemory() });
        self.participant.set_reasons(Reasons {
            loading: persistence.is_loading(),
            failing: config.stop_writes_on_bgsave_error()
                && persistence.has_failed()
                && !config.save().is_empty(),
            lonely: !follows && good < config.good_replicas_needed(),
            read_only: follows && config.replica_read_only(),
            stale: follows && !replication.is_linked() && !config.replica_serve_stale_data(),
        });
    }

    /// Takes the mail of one shard, for [`Node::run_mail`].
    pub fn collect_from(&mut self, from: usize) {
        self.post.collect_from(from, self.now.monotonic_ns);
    }

    /// Takes everybody's mail.
    pub fn collect(&mut self) {
        for from in 0..self.post.shards() {
            self.collect_from(from);
        }
    }

    /// Runs the mail that has been taken. Returns whether some of it has to wait for the next turn.
    pub fn run_mail(&mut self) -> bool {
        if !self.post.has_taken() {
            return false;
        }
        let (mut taken, runs) = self.post.take();
        for batch in taken.drain(..runs) {
            if batch.is_answer { self.take_answer(batch) } else { self.run_batch(batch) }
        }
        self.post.keep(taken)
    }

    /// One step of housekeeping: see [`Shard::housekeep`].
    pub fn housekeep(&mut self, pass_done: &mut bool) -> bool {
        self.participant.housekeep(pass_done)
    }

    /// The clients whose input may go on.
    pub fn take_resumed(&mut self) -> Vec<ClientKey> {
        self.clients.take_resumed()
    }

    /// Whether nothing is under way here: no command over several shards, nobody who waits for a
    /// lock, no outlet that is lent, no mail that has been taken and not run.
    pub fn is_at_rest(&self) -> bool {
        let locks = &self.participant.locks;
        self.coordinator.len() == 0
            && locks.is_idle()
            && locks.waiting() == 0
            && self.departures.is_idle()
            && self.post.is_idle()
    }

    /// Parts of multi-shard commands that this shard has sent out, and that it has run.
    pub fn parts(&self) -> (u64, u64) {
        (self.post.parts_sent, self.participant.parts_run)
    }

    /// Says until when clients are fed this turn, as a reading of [`crate::base::ticks`]. It is
    /// compared with the readings that time commands, and so costs none of its own; without one,
    /// as in tests, a turn lasts as long as it has input.
    pub fn set_deadline(&mut self, ticks: u64) {
        self.observer.set_deadline(ticks);
    }

    /// Whether that is over.
    #[inline]
    pub fn is_late(&self) -> bool {
        self.observer.is_late()
    }

    /// Ends a turn: posts what has been said to other shards and publishes it. Returns whether
    /// replies may go out; if not, some of it is not visible yet and this has to be called again.
    pub fn end_turn(&mut self, stamp: u64) -> bool {
        // Keys whose time has come, and nobody asked for them.
        if self.is_listening {
            self.hear_local();
        }
        self.close_journal();
        let mut is_visible = true;
        if self.post.shards() > 1 && self.post.mail.has_outgoing() {
            for to in 0..self.post.shards() {
                self.post(to, stamp);
            }
            is_visible = self.post.mail.publish();
        }
        self.gate.turn_ended(stamp, is_visible);
        is_visible
    }

    /// One step of [`Node::end_turn`]: posts, without publishing, what one shard will get.
    pub fn post(&mut self, to: usize, stamp: u64) {
        self.post.mail.post(to, stamp);
    }

    /// The mailbox, for waiting and waking.
    pub fn mail(&mut self) -> &mut Mailbox {
        &mut self.post.mail
    }

    /// This turn's time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Whether data is being loaded.
    #[inline]
    pub fn is_loading(&self) -> bool {
        self.participant.is_loading()
    }

    /// The configuration in force this turn.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Most input of one client that may wait to be executed, in bytes. What a primary has done is not
    /// refused for its size: its limits count.
    pub fn query_limit(&self, is_primary: bool) -> u64 {
        match is_primary {
            true => limits::QUERY_BUFFER_CEILING,
            false => self.config.client_query_buffer_limit().min(limits::QUERY_BUFFER_CEILING),
        }
    }

    /// The shard's data.
    pub fn shard(&mut self) -> &mut Shard {
        &mut self.participant.shard
    }

    /// The clients that have something to send now or are to be closed, each once.
    pub fn take_dirty(&mut self, into: &mut Vec<ClientKey>) {
        self.clients.take_dirty(into);
        self.settle_backlog();
    }

    /// From how many ticks on something that is no command is an event for LATENCY.
    pub fn event_ticks(&self) -> u64 {
        self.observer.event_ticks()
    }

    /// Publishes this shard's counters.
    pub fn publish_metrics(&mut self) {
        self.observer.publish();
        let metrics = self.instance.metrics.shard(self.number);
        let shard = &mut self.participant.shard;
        let stats = shard.stats();
        metrics.hits.set(stats.hits);
        metrics.misses.set(stats.misses);
        metrics.expired.set(stats.expired);
        metrics.dirty.set(stats.dirty);
        metrics.watched_keys.set(shard.watches().len() as u64);
        metrics.watching.set(self.clients.watching());
        metrics.subscribers.set(self.clients.subscribers());
        metrics.freed.set(stats.freed);
        metrics.pending_frees.set(shard.pending_frees() as u64);
        metrics.blocked.set(self.clients.blocked() as u64);
        let (instance, number) = (&self.instance, self.number);
        shard.take_changed(|db, keys, volatile| {
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
        let key = self.clients.insert(Session::new(id, self.now, &self.config, about));
        self.time_client(key);
        key
    }

    /// A client has gone. What it had begun on other shards ends there; its replies are dropped.
    pub fn disconnect(&mut self, key: ClientKey) {
        self.part_with(key);
    }

    /// Lets go of a client that goes on with another shard, and of which nothing is under way here.
    pub fn part_with(&mut self, key: ClientKey) -> Option<Session> {
        self.clients.unsubscribe_all(key, &self.instance, self.number);
        let Client { mut session, .. } = self.clients.remove(key)?;
        self.forget_client(key);
        if std::mem::take(&mut session.monitor) {
            self.end_monitor(key);
        }
        self.unwatch(std::mem::take(&mut session.watched));
        if session.waits {
            let request = Request::EndWait { id: session.id, is_error: false };
            self.post.say(LEADER, Message::Request(request, None));
        }
        self.hear_local();
        Some(session)
    }

    /// Takes in a client that another shard has parted with.
    pub fn take_in(&mut self, session: Session) -> ClientKey {
        let key = self.clients.insert(session);
        self.time_client(key);
        key
    }

    /// A client that is still there.
    #[inline]
    pub fn client(&self, key: ClientKey) -> Option<&Client> {
        self.clients.get(key)
    }

    /// A client that is still there.
    #[inline]
    pub fn client_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.clients.get_mut(key)
    }

    /// Lets nothing more of a client run, once a transaction that it has begun has been said to its end.
    pub fn halt(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key) {
            client.is_halted = true;
        }
    }

    /// Lets a client go on that has been held for whoever leads.
    pub fn release(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key)
            && std::mem::take(&mut client.held)
        {
            self.clients.resume(key);
        }
    }

    /// Lets a client go on that was halted.
    pub fn go_on(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key)
            && std::mem::take(&mut client.is_halted)
        {
            self.clients.resume(key);
        }
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    // ---- messages ----------------------------------------------------------------------------

    /// Lends the coordinator, and with it all else that it works with.
    pub(super) fn coordinate<R>(
        &mut self,
        work: impl FnOnce(&mut Coordinator, &mut Context) -> R,
    ) -> R {
        let (_, coordinator, _, mut cx) = self.lend();
        let result = work(coordinator, &mut cx);
        let touched_sessions = cx.touched_sessions;
        if touched_sessions {
            self.follow_pause();
        }
        result
    }

    fn lend(&mut self) -> (&mut Participant, &mut Coordinator, &mut Requests, Context<'_>) {
        let answers_early = self.answers_early();
        let Node { participant, coordinator, requests, clients, post, observer, config, .. } = self;
        let env = Env { config, instance: &self.instance, now: self.now };
        let (group, touched_sessions) = (None, false);
        let is_journaled = participant.shard.journal().is_on();
        let is_following = participant.shard.is_following() && !broken(Rule::StreamOrder);
        let cx = Context {
            clients,
            post,
            observer,
            env,
            answers_early,
            group,
            is_journaled,
            is_following,
            touched_sessions,
        };
        (participant, coordinator, requests, cx)
    }

    /// Begins a transaction of `calls`. The client's later commands wait until it has ended.
    pub(super) fn begin(
        &mut self,
        client: ClientKey,
        goal: Goal,
        calls: Vec<Call>,
        watched: Vec<Watch>,
    ) {
        self.coordinate(|coordinator, cx| coordinator.begin(client, goal, calls, watched, cx));
    }

    /// Acts on a message of a shard, which may be this one.
    fn hear(&mut self, message: Message) {
        let (participant, coordinator, requests, mut cx) = self.lend();
        match message {
            Message::Ask(ask) => participant.asked(ask, &mut cx),
            Message::Relay(asks) => coordinator::relay(asks, &mut cx),
            Message::Do(order) => participant.told(&order, &mut cx),
            Message::Verdict(verdict) => coordinator.judged(*verdict, &mut cx),
            Message::Done(txn, results) => coordinator.done(txn, *results, &mut cx),
            Message::Request(request, asker) => requests.asked(request, asker),
            Message::Answer(asker, answer) => requests::answered(asker, answer, &mut cx),
            Message::Concluded(result) => requests.concluded(result),
            Message::Unwatch(watch) => participant.unwatch(&watch),
            Message::Announce(txn, parties) => participant.shard.journal().announce(txn, parties),
            Message::Also(scope, db, words) => participant.journal_command(scope, db, &words),
            Message::Push(client, claim, bytes) => cx.clients.push(client, claim, &bytes),
            Message::Publish(publication) => cx.clients.deliver(&publication),
            Message::Slow(client, ticks, call) => {
                let measured = Measured { ticks, ..Measured::default() };
                let args = Args::new(&call.bytes, &call.spans);
                cx.observer.look_at(cx.clients, client, call.command, &args, measured);
            }
            Message::Run(_) | Message::Late(..) | Message::Journal(_) => {
                unreachable!("what they say lies in their batch")
            }
        }
        if cx.touched_sessions {
            self.follow_pause();
        }
    }

    pub(super) fn hear_local(&mut self) {
        loop {
            if self.is_listening {
                self.tell_events();
            }
            let Some(message) = self.post.next_local() else { break };
            self.hear(message);
        }
    }

    /// Runs what another shard asks for, and sends its batch back with the replies.
    fn run_batch(&mut self, mut batch: Box<Batch>) {
        self.observer.batches += 1;
        // Nor is it anything that a client of this shard has asked for.
        doing::nothing();
        let from = batch.from;
        let mut items = std::mem::take(&mut batch.items);
        // It goes, so that what is left may depart.
        if let Some(chunk) = items.pop_if(|item| matches!(item, Message::Journal(_)))
            && let Message::Journal(chunk) = chunk
        {
            self.hear_journal(from, *chunk);
        }
        self.observer.batch_max = self.observer.batch_max.max(items.len() as u64);
        // Commands stay in the batch, which goes back with them; all else has been said.
        let mut answers = false;
        for i in 0..items.len() {
            if i % FETCHED == 0 {
                self.fetch_ahead(&items[i..]);
            }
            match &mut items[i] {
                Message::Run(run) => {
                    answers = true;
                    self.run_item(from, run, &mut batch);
                    if self.is_listening {
                        self.hear_local();
                    }
                }
                Message::Late(client, seq, range) => {
                    self.clients.keep_promise(*client, *seq, &batch.replies, *range);
                }
                other => {
                    let message = std::mem::replace(other, SAID);
                    self.hear(message);
                    self.hear_local();
                }
            }
        }
        batch.items = items;
        if batch.may_depart() {
            self.departures.add(batch);
        } else if answers {
            self.post.mail.answer(batch);
        } else {
            self.post.mail.recycle(batch);
        }
    }

    /// Asks for the memory that the next commands of a batch will touch: the buckets of all, then,
    /// when those have come, the blocks.
    #[inline]
    fn fetch_ahead(&mut self, items: &[Message]) {
        let runs = || {
            items.iter().take(FETCHED).filter_map(|item| match item {
                Message::Run(run) => Some(run),
                _ => None,
            })
        };
        let shard = &self.participant.shard;
        for run in runs() {
            shard.prefetch(run.caller.db(), run.hash);
        }
        for run in runs() {
            shard.prefetch_block(run.caller.db(), run.hash);
        }
        self.observer.lap();
    }

    fn run_item(&mut self, from: usize, run: &mut RunItem, batch: &mut Batch) {
        let Node { participant, observer, .. } = self;
        observer.hops_in += 1;
        let (start, command, caller) = (batch.replies.mark(), run.command, run.caller);
        let mut replies = std::mem::take(&mut batch.replies);
        let mut args = batch.args(run.args);
        if let Some(at) = command.first_key() {
            args = args.with_hash(at, run.hash);
        }
        let job = Job { command, args, caller };
        if let Err(error) = participant.judge(command.flags, caller) {
            observer.count_rejected(Some(command), &error);
            Reply::new(&mut replies, caller.resp3).error(&error);
        } else if let Some(wants) = participant.blocks(&job) {
            run.late = true;
            let (client, seq, call) = (run.client, run.seq, Box::new(own_call(command, &args)));
            participant.wait(wants, Pending { from, client, seq, caller, call });
        } else {
            let ran = execute::run_by_itself(&mut participant.shard, &job, &mut replies);
            run.ticks = observer.count(command, ran);
            let reply = replies.len_between(start, replies.mark()) as u64;
            let measured = Measured { ticks: run.ticks, request: 0, reply };
            run.is_notable = observer.is_notable(measured);
        }
        run.reply = (start, replies.mark());
        batch.replies = replies;
    }

    /// A batch has come back with its replies.
    fn take_answer(&mut self, batch: Box<Batch>) {
        self.take_outlets_back(&batch);
        for item in &batch.items {
            let Message::Run(run) = item else { continue };
            let Node { clients, observer, .. } = self;
            if let Some(client) = clients.get_mut(run.client) {
                client.replies.crossed();
            }
            if run.late {
                // Who knows how long it has to wait: what is before it goes out.
                clients.mark_dirty(run.client);
            } else {
                let (start, end) = run.reply;
                clients.keep_promise(run.client, run.seq, &batch.replies, (start + run.sent, end));
                // Arguments are looked up only if need be: this is the way of every crossing command.
                if run.is_notable {
                    let reply = batch.replies.len_between(start, end) as u64;
                    let measured = Measured { ticks: run.ticks, request: 0, reply };
                    let args = batch.args(run.args);
                    observer.note(clients, run.client, run.command, &args, measured);
                }
            }
        }
        self.post.mail.recycle(batch);
    }
}

/// What stands in a batch in place of a message that has been heard.
const SAID: Message = Message::Late(ClientKey::NOBODY, 0, (0, 0));

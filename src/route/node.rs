//! One shard with its clients.
//!
//! A turn: [`Node::begin_turn`] with the time, [`Node::collect`] the mail and [`Node::run_mail`],
//! [`Node::feed`] what clients have sent, [`Node::end_turn`]; then, if that says so, send what
//! [`Node::take_dirty`] names.

use super::batch::{Batch, ClientKey, Item, RunItem};
use super::client::{Client, Replies};
use super::exec::{self, Job, Ran};
use super::mailbox::Mailbox;
use super::order::{Deferred, Message};
use super::rules::{Rule, broken};
use super::txn::{Goal, Txn};
use super::walk::Walk;
use crate::base::clock::Now;
use crate::base::error::Error;
use crate::base::{limits, slot};
use crate::command::{self, Command, Control, Run, flag};
use crate::config::Config;
use crate::metrics::error_code;
use crate::resp::{Args, Limits, Parsed, Parser, ProtocolError, Reply, ReplyBuf, Span};
use crate::session::{About, Call, Close, ReplyMode, Server, Session};
use crate::shard::Shard;
use crate::shard::locks::{Locks, TxnId};
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Commands parsed ahead of the one that runs, so that the memory they will touch is on its way:
/// with 1 M keys of 64 B, GETs at pipeline 64 cost 30 % less than one at a time.
const WINDOW: usize = 16;

/// Promised replies of one client beyond which it is not executed further.
const PROMISES_MAX: usize = 65_536;

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
    pub(super) server: Arc<Server>,
    pub(super) config: Arc<Config>,
    generation: u64,
    pub(super) now: Now,
    pub(super) over_memory: bool,
    /// Mail taken and not yet run.
    taken: Vec<Box<Batch>>,
    /// Scratch of `feed`.
    window: Vec<Ahead>,
    spans: Vec<Span>,
    client_generation: u32,
    commands: u64,
    hops: u64,
    batches: u64,
    errors: u64,
}

/// A parsed command that has not run yet.
#[derive(Debug)]
struct Ahead {
    /// Where it ends in the input, and where it begins.
    end: usize,
    start: usize,
    /// Its words.
    words: (u32, u32),
    /// What the words point into, if not the input.
    unquoted: Option<Vec<u8>>,
    command: Option<&'static Command>,
    /// The hash of its first key, where it has been computed.
    hash: Option<u64>,
}

/// What became of a client's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// Everything complete has run; a command is underway that takes at least so many bytes.
    Wants(usize),
    /// There may be more, but it is others' turn: feed the rest again next turn.
    More,
    /// The rest has to wait until [`Node::take_resumed`] names the client or its replies have been
    /// sent.
    Held,
    /// Nothing more will be executed.
    Closed,
}

/// The shard that owns a key.
#[inline]
pub fn owner_of(key: &[u8], shards: usize) -> usize {
    if shards == 1 {
        return 0;
    }
    usize::from(slot::shard_of(slot::slot_of(key), shards as u16))
}

impl Node {
    /// Shard `number` with its mailbox.
    pub fn new(number: usize, mail: Mailbox, server: Arc<Server>) -> Node {
        let config = server.config();
        let databases = usize::from(config.databases());
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
            generation: 0,
            config,
            server,
            now: Now::default(),
            over_memory: false,
            taken: Vec::new(),
            window: Vec::with_capacity(WINDOW),
            spans: Vec::new(),
            client_generation: 0,
            commands: 0,
            hops: 0,
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
        self.shard.set_now(now);
        if self.generation != self.server.generation() {
            self.follow_config();
        }
        let limit = self.config.maxmemory();
        self.over_memory = limit != 0 && crate::base::memory::used() > limit;
    }

    fn follow_config(&mut self) {
        self.generation = self.server.generation();
        self.config = self.server.config();
        let mut settings = *self.shard.settings();
        settings.bulk_max = usize::try_from(self.config.proto_max_bulk_len()).unwrap_or(usize::MAX);
        let lfu = self.config.maxmemory_policy().word().ends_with("lfu");
        settings.lfu = lfu.then(|| (self.config.lfu_log_factor(), self.config.lfu_decay_time()));
        self.shard.set_settings(settings);
    }

    /// Takes the mail of one shard, for [`Node::run_mail`].
    pub fn collect_from(&mut self, from: usize) {
        let cut = if broken(Rule::Cut) {
            u64::MAX
        } else {
            self.now.monotonic_ns
        };
        self.mail.collect_from(from, cut, &mut self.taken);
    }

    /// Takes everybody's mail.
    pub fn collect(&mut self) {
        for from in 0..self.mail.shards() {
            self.collect_from(from);
        }
    }

    /// Runs the mail that has been taken. Returns whether there was any.
    pub fn run_mail(&mut self) -> bool {
        if self.taken.is_empty() {
            return false;
        }
        let mut taken = std::mem::take(&mut self.taken);
        if !broken(Rule::StampOrder) {
            // Stable: batches of one sender keep their order.
            taken.sort_by_key(|batch| batch.stamp);
        }
        for batch in taken.drain(..) {
            if batch.is_answer {
                self.take_answer(batch)
            } else {
                self.run_batch(batch)
            }
        }
        self.taken = taken;
        true
    }

    /// The clients whose input may go on.
    pub fn take_resumed(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.resume)
    }

    /// Ends a turn: posts what has been said to other shards and publishes it. Returns whether
    /// replies may go out; if not, some of it is not visible yet and this has to be called again.
    pub fn end_turn(&mut self, stamp: u64) -> bool {
        if self.mail.shards() == 1 || !self.mail.has_outgoing() {
            return true;
        }
        for to in 0..self.mail.shards() {
            self.post(to, stamp);
        }
        self.mail.publish()
    }

    /// One step of [`Node::end_turn`]: posts, without publishing, what one shard will get.
    pub fn post(&mut self, to: usize, stamp: u64) {
        self.mail.post(to, stamp);
    }

    /// The mailbox, for waiting and waking.
    pub fn mail(&mut self) -> &mut Mailbox {
        &mut self.mail
    }

    /// The configuration in force this turn.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The shard's data.
    pub fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// The clients that have something to send or are to be closed, each once.
    pub fn take_dirty(&mut self) -> Vec<ClientKey> {
        let dirty = std::mem::take(&mut self.dirty);
        for key in &dirty {
            if let Some(client) = self.client_mut(*key) {
                client.is_dirty = false;
            }
        }
        dirty
    }

    /// Publishes this shard's counters.
    pub fn publish_metrics(&mut self) {
        let metrics = self.server.metrics.shard(self.number);
        let stats = self.shard.stats();
        metrics.commands.set(self.commands);
        metrics.hops.set(self.hops);
        metrics.batches.set(self.batches);
        metrics.errors.set(self.errors);
        metrics.hits.set(stats.hits);
        metrics.misses.set(stats.misses);
        metrics.expired.set(stats.expired);
        metrics.dirty.set(stats.dirty);
        metrics.pending_frees.set(self.shard.pending_frees() as u64);
        for db in 0..self.shard.databases() {
            let (keys, volatile) = self.shard.keys(db);
            let database = self.server.metrics.database(self.number, db);
            database.keys.set(keys as u64);
            database.volatile.set(volatile as u64);
        }
    }

    // ---- clients -----------------------------------------------------------------------------

    /// A client has connected.
    pub fn connect(&mut self, about: About) -> ClientKey {
        let id = self.server.next_client();
        self.client_generation = self.client_generation.wrapping_add(1);
        let generation = self.client_generation;
        let index = self.clients.insert(Client {
            session: Session::new(id, self.now, &self.config, about),
            parser: Parser::default(),
            replies: Replies::default(),
            held: false,
            generation,
            is_dirty: false,
        });
        ClientKey {
            index: index as u32,
            generation,
        }
    }

    /// A client has gone. What it had begun on other shards ends there; its replies are dropped.
    pub fn disconnect(&mut self, key: ClientKey) {
        if self.client(key).is_none() {
            return;
        }
        let client = self.clients.remove(key.index as usize);
        self.unwatch(client.session.watched);
    }

    /// A client that is still there.
    #[inline]
    pub fn client(&self, key: ClientKey) -> Option<&Client> {
        self.clients
            .get(key.index as usize)
            .filter(|client| client.generation == key.generation)
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
        let closing = self
            .clients
            .iter()
            .filter(|(_, c)| c.session.close != Close::No);
        let keys: Vec<ClientKey> = closing
            .map(|(index, c)| ClientKey {
                index: index as u32,
                generation: c.generation,
            })
            .collect();
        keys.into_iter().for_each(|key| self.soil(key));
    }

    // ---- input -------------------------------------------------------------------------------

    /// Runs what a client has sent. Returns how many bytes have been dealt with, and what comes
    /// next; the rest must be at the front of the next call's input.
    pub fn feed(&mut self, key: ClientKey, input: &[u8]) -> (usize, Fed) {
        let mut window = std::mem::take(&mut self.window);
        let mut spans = std::mem::take(&mut self.spans);
        let before = self.commands;
        let mut used = 0;
        let fed = loop {
            let Some(client) = self.client_mut(key) else {
                break Fed::Closed;
            };
            if let Some(fed) = client.stops() {
                break fed;
            }
            let known = client.session.authenticated;
            if self.commands - before >= limits::COMMANDS_PER_FEED as u64 {
                break Fed::More;
            }
            window.clear();
            spans.clear();
            let mut end = self.look_ahead(key, input, &mut used, &mut window, &mut spans);
            let looked = window.len();
            let mut stopped = None;
            for (i, ahead) in window.drain(..).enumerate() {
                used = ahead.end;
                self.dispatch(key, input, &spans, ahead);
                let Some(client) = self.client_mut(key) else {
                    stopped = Some(Fed::Closed);
                    break;
                };
                stopped = client.stops();
                if stopped.is_some() {
                    if i + 1 < looked || end.is_some() {
                        client.parser.restart();
                    }
                    break;
                }
                if known && !client.session.authenticated {
                    // RESET: what was parsed ahead was parsed with more trust than there is now.
                    client.parser.restart();
                    end = None;
                    break;
                }
            }
            if let Some(fed) = stopped {
                break fed;
            }
            match end {
                None => {}
                Some(Ok(wanted)) => break Fed::Wants(wanted),
                Some(Err(error)) => {
                    self.refuse_input(key, error);
                    break Fed::Closed;
                }
            }
        };
        (self.window, self.spans) = (window, spans);
        self.soil(key);
        (used, fed)
    }

    /// Parses a window of commands, and asks for the memory they will touch. Returns why it ended
    /// before the window was full: bytes wanted, or an error. `used` moves over blank lines.
    fn look_ahead(
        &mut self,
        key: ClientKey,
        input: &[u8],
        used: &mut usize,
        window: &mut Vec<Ahead>,
        spans: &mut Vec<Span>,
    ) -> Option<Result<usize, ProtocolError>> {
        let Node {
            clients,
            shard,
            config,
            mail,
            number,
            ..
        } = self;
        let client = &mut clients[key.index as usize];
        let authenticated = client.session.authenticated || config.requirepass().is_empty();
        let limits = Limits {
            bulk_max: config.proto_max_bulk_len().min(limits::BULK_CEILING) as i64,
            unauthenticated: !authenticated,
        };
        // What a stranger may send depends on the command before.
        let depth = if authenticated { WINDOW } else { 1 };
        let mut at = *used;
        let mut end = None;
        while window.len() < depth {
            let first = spans.len();
            let (len, unquoted) = match client.parser.next(&input[at..], &limits, spans) {
                Ok(Parsed::Command(len)) => (len, None),
                Ok(Parsed::Unquoted(len, bytes)) => (len, Some(bytes)),
                Ok(Parsed::Incomplete(wanted)) => {
                    end = Some(Ok(wanted));
                    break;
                }
                Err(error) => {
                    end = Some(Err(error));
                    break;
                }
            };
            let start = at;
            at += len;
            if spans.len() == first {
                // A blank line goes with what is before it.
                match window.last_mut() {
                    Some(before) => before.end = at,
                    None => *used = at,
                }
                continue;
            }
            let words = (first as u32, (spans.len() - first) as u32);
            window.push(Ahead {
                end: at,
                start,
                words,
                unquoted,
                command: None,
                hash: None,
            });
        }
        let shards = mail.shards();
        for ahead in window.iter_mut() {
            let words = ahead.words(input, spans);
            let found = command::find(words.at(0));
            let mut hash = None;
            if let Some(found) = found
                && let Run::Owner(_) = found.run
                && let Some(at) = found.first_key()
                && let Some(first) = words.get(at + 1)
            {
                let of_first = crate::base::hash::of(first);
                hash = Some(of_first);
                if shards == 1 || owner_of(first, shards) == *number {
                    shard.prefetch(client.session.db, of_first);
                }
            }
            (ahead.command, ahead.hash) = (found, hash);
        }
        if window.len() > 2 {
            for ahead in window.iter() {
                if let Some(hash) = ahead.hash {
                    shard.prefetch_block(client.session.db, hash);
                }
            }
        }
        end
    }

    fn refuse_input(&mut self, key: ClientKey, error: ProtocolError) {
        self.errors += 1;
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let text = format!("ERR Protocol error: {error}");
        let resp3 = client.session.resp3;
        client.replies.now(ReplyMode::On, |out| {
            Reply::new(out, resp3).error_text(&text)
        });
        client.session.close = Close::AfterReplies;
    }

    // ---- dispatch ----------------------------------------------------------------------------

    /// Runs one command, or sends it where it runs.
    fn dispatch(&mut self, key: ClientKey, input: &[u8], spans: &[Span], ahead: Ahead) {
        let session = &mut self.clients[key.index as usize].session;
        if session.reply_mode == ReplyMode::On {
            return self.run_command(key, input, spans, ahead);
        }
        if session.reply_mode == ReplyMode::SkipNext {
            session.reply_mode = ReplyMode::Skip;
        }
        self.run_command(key, input, spans, ahead);
        if let Some(client) = self.client_mut(key)
            && client.session.reply_mode == ReplyMode::Skip
        {
            client.session.reply_mode = ReplyMode::On;
        }
    }

    #[inline]
    fn run_command(&mut self, key: ClientKey, input: &[u8], spans: &[Span], ahead: Ahead) {
        let words = ahead.words(input, spans);
        self.commands += 1;
        let now_ms = self.now.unix_ms;
        let client = &mut self.clients[key.index as usize];
        let session = &mut client.session;
        session.active_ms = now_ms;
        session.traffic.commands += 1;
        let mode = session.reply_mode;
        let stranger = !session.authenticated && !self.config.requirepass().is_empty();
        let command = match resolve(ahead.command, &words) {
            Ok(command) if stranger && !command.is(flag::NO_AUTH) => {
                return self.reject(key, mode, Some(command), &Error::NoAuth);
            }
            Ok(command) => command,
            Err(Unresolved::Http) => {
                // A browser that was tricked into talking to us: nothing of it runs.
                session.close = Close::Now;
                return self.soil(key);
            }
            Err(Unresolved::Arity(command)) if !stranger || command.is(flag::NO_AUTH) => {
                return self.refuse_arity(key, mode, command);
            }
            Err(Unresolved::Unknown(error)) if !stranger => {
                return self.reject(key, mode, None, &error);
            }
            Err(_) => return self.reject(key, mode, None, &Error::NoAuth),
        };
        session.last_command = Some(command.id);
        let args = words.from(command.name_words());
        if self.over_memory && command.is(flag::DENYOOM) {
            return self.reject(key, mode, Some(command), &Error::OutOfMemory);
        }
        // QUIT does not wait for EXEC.
        let at_once = matches!(command.run, Run::Control(_)) || command.name == "QUIT";
        if session.multi.is_some() && !at_once {
            return self.queue(key, mode, command, &args);
        }
        match command.run {
            Run::Owner(_) => {
                let Some(at) = command.first_key() else {
                    return self.route(key, mode, command, &args);
                };
                let owner = owner_of(args.at(at), self.mail.shards());
                self.run_at(key, mode, owner, command, &args, ahead.hash);
            }
            Run::Session(_) => {
                let mut out = ReplyBuf::default();
                self.run_session(key, command, &args, &mut out);
                let Some(client) = self.client_mut(key) else {
                    return;
                };
                // CLIENT REPLY decides about its own reply.
                let mode = client.session.reply_mode;
                client
                    .replies
                    .now(mode, |to| to.append(&out, 0, out.mark()));
            }
            Run::Control(control) => self.control(key, mode, control, command, &args),
            Run::Cursor(_) if self.mail.shards() == 1 => {
                self.run_at(key, mode, self.number, command, &args, None);
            }
            Run::Cursor(_) => {
                let call = own_call(command, &args);
                let goal = Goal::Walk(Walk::new(&call));
                self.begin(key, goal, vec![call], Vec::new());
            }
            Run::Each(..) | Run::Across(_) | Run::All(..) | Run::Sessions(..) => {
                self.route(key, mode, command, &args);
            }
            Run::Container => unreachable!("resolved to a subcommand"),
        }
        self.hear_local();
    }

    /// A command that may concern several shards: one that does not is an ordinary one after all.
    fn route(&mut self, key: ClientKey, mode: ReplyMode, command: &'static Command, args: &Args) {
        let shards = self.mail.shards();
        let alone = match command.run {
            Run::Sessions(..) => None,
            _ if shards == 1 => Some(self.number),
            Run::All(..) => None,
            _ => match command.key_places(args) {
                // Its handler says what is wrong, anywhere.
                Err(_) => Some(self.number),
                Ok(places) => {
                    let first = owner_of(args.at(places[0]), shards);
                    let same = |at: &usize| owner_of(args.at(*at), shards) == first;
                    places[1..].iter().all(same).then_some(first)
                }
            },
        };
        match alone {
            Some(shard) => self.run_at(key, mode, shard, command, args, None),
            None => {
                let call = own_call(command, args);
                self.begin(key, Goal::Single, vec![call], Vec::new());
            }
        }
    }

    /// Runs a command whose data is all on one shard: here, or by sending it there.
    #[inline]
    fn run_at(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        owner: usize,
        command: &'static Command,
        args: &Args,
        hash: Option<u64>,
    ) {
        let Node {
            clients,
            shard,
            number,
            locks,
            mail,
            ..
        } = self;
        let client = &mut clients[key.index as usize];
        let (db, resp3) = (client.session.db, client.session.resp3);
        if owner != *number {
            let seq = client.replies.promise(mode);
            let first = command.first_key().and_then(|at| args.get(at));
            let hash = hash.or_else(|| first.map(crate::base::hash::of));
            let batch = mail.batch(owner);
            let args = batch.add_args(args);
            batch.items.push(Item::Run(RunItem {
                client: key,
                seq,
                db: db as u16,
                resp3,
                late: false,
                command,
                hash: hash.unwrap_or(0),
                args,
                reply: (0, 0),
            }));
            self.hops += 1;
            return;
        }
        let job = Job {
            command,
            args: *args,
            db,
            resp3,
            hash,
            txn: 0,
        };
        if !locks.is_idle()
            && let Some(wants) = blocked(locks, &job)
        {
            let seq = client.replies.promise(mode);
            let call = Box::new(own_call(command, args));
            let from = self.number;
            let deferred = Deferred::Run {
                from,
                client: key,
                seq,
                call,
                db,
                resp3,
            };
            return self.locks.wait(wants, None, deferred);
        }
        let ran = client
            .replies
            .now(mode, |out| exec::run_whole(shard, &job, out));
        self.count(command, ran);
    }

    #[inline]
    pub(super) fn count(&mut self, command: &Command, ran: Ran) {
        let metrics = self.server.metrics.command(self.number, command.id);
        metrics.calls.add(1);
        if let Ran::Failed(code) = ran {
            metrics.failed.add(1);
            self.errors += 1;
            self.server.metrics.count_error(self.number, code);
        }
    }

    /// Refuses a command with too few or too many words. EXEC ends the transaction all the same.
    #[cold]
    fn refuse_arity(&mut self, key: ClientKey, mode: ReplyMode, command: &'static Command) {
        let mut error = command.wrong_arity();
        if let Run::Control(Control::Exec) = command.run {
            let text = error.to_string();
            let reason = text.strip_prefix("ERR ").unwrap_or(&text);
            error = Error::owned(format!(
                "EXECABORT Transaction discarded because of: {reason}"
            ));
            if let Some(client) = self.client_mut(key) {
                client.session.multi = None;
                let watched = std::mem::take(&mut client.session.watched);
                self.unwatch(watched);
            }
        }
        self.reject(key, mode, Some(command), &error);
    }

    /// Refuses a command before it runs; a transaction that is being queued will not run either.
    #[cold]
    pub(super) fn reject(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        command: Option<&Command>,
        error: &Error,
    ) {
        self.errors += 1;
        let code = error_code(error.to_string().as_bytes());
        self.server.metrics.count_error(self.number, code);
        if let Some(command) = command {
            self.server
                .metrics
                .command(self.number, command.id)
                .rejected
                .add(1);
        }
        let Some(client) = self.client_mut(key) else {
            return;
        };
        if let Some(queue) = &mut client.session.multi {
            queue.failed = true;
        }
        let resp3 = client.session.resp3;
        client
            .replies
            .now(mode, |out| Reply::new(out, resp3).error(error));
    }

    // ---- mail --------------------------------------------------------------------------------

    /// Says something to a shard, this one included.
    pub(super) fn say(&mut self, to: usize, message: Message) {
        if to == self.number {
            self.local.push_back(message);
        } else {
            self.mail
                .batch(to)
                .items
                .push(Item::Order(Box::new(message)));
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
        let from = batch.from;
        let mut items = std::mem::take(&mut batch.items);
        let mut answers = false;
        for item in &items {
            if let Item::Run(run) = item {
                self.shard.prefetch(run.db as usize, run.hash);
            }
        }
        for item in &mut items {
            match item {
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
                    let range = (*start as usize, *end as usize);
                    self.keep_promise(*client, *seq, &batch.replies, range);
                }
                Item::Unwatch(db, span) => {
                    let key = batch.spans[*span as usize].of(&batch.bytes);
                    self.shard.watches().remove(usize::from(*db), key);
                }
            }
        }
        batch.items = items;
        if answers {
            self.mail.answer(batch);
        } else {
            self.mail.recycle(batch);
        }
    }

    fn run_item(&mut self, from: usize, run: &mut RunItem, batch: &mut Batch) {
        self.hops += 1;
        let (start, command) = (batch.replies.mark(), run.command);
        let mut replies = std::mem::take(&mut batch.replies);
        let args = batch.args(run.args);
        let hash = command
            .first_key()
            .filter(|_| matches!(command.run, Run::Owner(_)));
        let (db, resp3) = (run.db as usize, run.resp3);
        let job = Job {
            command,
            args,
            db,
            resp3,
            hash: hash.map(|_| run.hash),
            txn: 0,
        };
        let wants = if self.locks.is_idle() {
            None
        } else {
            blocked(&self.locks, &job)
        };
        if let Some(wants) = wants {
            run.late = true;
            let (client, seq, call) = (run.client, run.seq, Box::new(own_call(command, &args)));
            self.locks.wait(
                wants,
                None,
                Deferred::Run {
                    from,
                    client,
                    seq,
                    call,
                    db,
                    resp3,
                },
            );
        } else {
            let ran = exec::run_whole(&mut self.shard, &job, &mut replies);
            self.count(command, ran);
        }
        run.reply = (start as u32, replies.mark() as u32);
        batch.replies = replies;
    }

    /// A batch has come back with its replies.
    fn take_answer(&mut self, batch: Box<Batch>) {
        for item in &batch.items {
            if let Item::Run(run) = item
                && !run.late
            {
                let range = (run.reply.0 as usize, run.reply.1 as usize);
                self.keep_promise(run.client, run.seq, &batch.replies, range);
            }
        }
        self.mail.recycle(batch);
    }

    /// Hands a client a reply it was promised.
    pub(super) fn keep_promise(
        &mut self,
        key: ClientKey,
        seq: u32,
        from: &ReplyBuf,
        range: (usize, usize),
    ) {
        if let Some(client) = self.client_mut(key) {
            client.replies.keep(seq, from, range);
            self.soil(key);
        }
    }
}

impl Ahead {
    fn words<'a>(&'a self, input: &'a [u8], spans: &'a [Span]) -> Args<'a> {
        let bytes = self
            .unquoted
            .as_deref()
            .unwrap_or(&input[self.start..self.end]);
        let (first, count) = self.words;
        Args::new(bytes, &spans[first as usize..(first + count) as usize])
    }
}

impl Client {
    /// Why its next command does not run now, if it does not.
    fn stops(&self) -> Option<Fed> {
        if self.session.close != Close::No {
            return Some(Fed::Closed);
        }
        let waits = self.held
            || self.replies.len() > limits::OUTPUT_PAUSE
            || self.replies.outstanding() > PROMISES_MAX;
        waits.then_some(Fed::Held)
    }
}

/// Why words are no command.
enum Unresolved {
    /// Nobody knows it, or not that part of it.
    Unknown(Error),
    /// It is known, and takes another number of words.
    Arity(&'static Command),
    /// It is HTTP.
    Http,
}

/// The command that the words are, if they can be one.
fn resolve(found: Option<&'static Command>, words: &Args) -> Result<&'static Command, Unresolved> {
    let Some(mut command) = found else {
        let name = words.at(0);
        if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:") {
            return Err(Unresolved::Http);
        }
        return Err(Unresolved::Unknown(unknown(words)));
    };
    if let Run::Container = command.run
        && words.len() > 1
    {
        command = command::find_sub(command, words.at(1)).ok_or_else(|| {
            let sub = String::from_utf8_lossy(&words.at(1)[..words.at(1).len().min(128)]);
            let name = command.name;
            let text = format!("ERR unknown subcommand '{sub}'. Try {name} HELP.");
            Unresolved::Unknown(Error::owned(text))
        })?;
    }
    if matches!(command.run, Run::Container) || !command.takes(words.len()) {
        return Err(Unresolved::Arity(command));
    }
    Ok(command)
}

/// Names the command and begins to list its arguments, as Redis does: up to about 128 bytes.
fn unknown(words: &Args) -> Error {
    let show = |word: &[u8], most: usize| {
        String::from_utf8_lossy(&word[..word.len().min(most)]).into_owned()
    };
    let mut args = String::new();
    for word in words.from(1).iter() {
        if args.len() >= 128 {
            break;
        }
        let most = 128 - args.len();
        args.push_str(&format!("'{}' ", show(word, most)));
    }
    let name = show(words.at(0), 128);
    Error::owned(format!(
        "ERR unknown command '{name}', with args beginning with: {args}"
    ))
}

/// The locks a command has to wait for, if it has to.
#[cold]
fn blocked(locks: &Locks<Deferred>, job: &Job) -> Option<crate::shard::locks::Wants> {
    if broken(Rule::Queues) {
        return None;
    }
    // Arguments that do not say where the keys are fail in the handler, which needs no lock.
    let wants = exec::wants(job.command, &job.args, job.db).ok()?;
    (!locks.lets_through(&wants)).then_some(wants)
}

/// A command with arguments of its own.
pub(super) fn own_call(command: &'static Command, args: &Args) -> Call {
    let total = args.iter().map(<[u8]>::len).sum();
    let (mut bytes, mut spans) = (Vec::with_capacity(total), Vec::with_capacity(args.len()));
    args.copy_to(&mut bytes, &mut spans);
    Call {
        command,
        bytes,
        spans,
    }
}

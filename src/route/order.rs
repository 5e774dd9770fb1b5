//! What shards say to each other about a command over several of them, and the participant's side:
//! granting locks, running parts, releasing. The coordinator's side is [`super::txn`].

use super::batch::ClientKey;
use super::exec::{self, Job, Ran, Step};
use super::node::Node;
use crate::command::{Command, SessionsHandler};
use crate::metrics::error_code;
use crate::resp::{Args, Reply, ReplyBuf, Span};
use crate::session::Env;
use crate::shard::locks::{TxnId, Wants};

/// A message about a multi-shard command.
#[derive(Debug)]
pub enum Message {
    /// Coordinator to owner: lock, perhaps run.
    Ask(Ask),
    /// Owner to coordinator: locked (and run), or refused.
    Verdict(Verdict),
    /// Coordinator to owner, which holds locks for it: run, perhaps release.
    Do(Do),
    /// Owner to coordinator: what running gave.
    Done(TxnId, Results),
}

/// See [`Message::Ask`].
#[derive(Debug)]
pub struct Ask {
    /// For whom.
    pub txn: TxnId,
    /// Whether to wait in the queues for what cannot be had at once.
    pub wait: bool,
    /// Which locks; none means that nothing has to be locked.
    pub wants: Wants,
    /// Watched keys that must not have changed.
    pub checks: Vec<Check>,
    /// What to run as soon as the locks are held and the checks pass.
    pub work: Work,
    /// Whether to release at once after running.
    pub release: bool,
}

/// See [`Message::Verdict`].
#[derive(Debug)]
pub struct Verdict {
    /// To whom.
    pub txn: TxnId,
    /// Whose.
    pub shard: usize,
    /// Whether the locks are held (or were, if they were to be released at once).
    pub granted: bool,
    /// Whether all checks passed.
    pub unchanged: bool,
    /// What running gave.
    pub results: Results,
}

/// See [`Message::Do`].
#[derive(Debug)]
pub struct Do {
    /// For whom.
    pub txn: TxnId,
    /// What to run.
    pub work: Work,
    /// Whether to release afterwards.
    pub release: bool,
    /// Whether the coordinator waits for the results.
    pub answer: bool,
}

/// A watched key, as the client saw it.
#[derive(Debug)]
pub struct Check {
    /// Its database.
    pub db: usize,
    /// Its name.
    pub key: Box<[u8]>,
    /// The version the client was told.
    pub version: u64,
}

/// Parts of commands to be run on one shard, in order.
#[derive(Debug, Default)]
pub struct Work {
    /// The parts.
    pub units: Vec<Unit>,
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// What a part does.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Something on the data.
    Data(Step),
    /// Something on this shard's sessions, for a session elsewhere.
    Sessions(SessionsHandler, u64),
    /// Begins to watch a key.
    Watch,
}

/// One part of one command.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// The command's place among those of the transaction.
    pub call: u32,
    /// The part's place in the command.
    pub part: u32,
    /// What to do.
    pub act: Act,
    /// Which command.
    pub command: &'static Command,
    /// The database.
    pub db: usize,
    /// Whether the client speaks RESP3.
    pub resp3: bool,
    /// Whether its commands leave alone when keys were last used.
    pub no_touch: bool,
    pub(super) args: (u32, u32),
}

impl Unit {
    /// A part; [`Work::add`] gives it its arguments.
    pub fn new(call: usize, part: usize, act: Act, command: &'static Command) -> Unit {
        let (call, part) = (call as u32, part as u32);
        Unit { call, part, act, command, db: 0, resp3: false, no_touch: false, args: (0, 0) }
    }
}

impl Work {
    /// Adds a part with its arguments.
    pub fn add<'a>(&mut self, mut unit: Unit, args: impl Iterator<Item = &'a [u8]>) {
        let first = self.spans.len() as u32;
        for arg in args {
            self.spans.push(Span { at: self.bytes.len() as u32, len: arg.len() as u32 });
            self.bytes.extend_from_slice(arg);
        }
        unit.args = (first, self.spans.len() as u32 - first);
        self.units.push(unit);
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    fn args(&self, unit: &Unit) -> Args<'_> {
        let (first, count) = unit.args;
        Args::new(&self.bytes, &self.spans[first as usize..(first + count) as usize])
    }
}

/// The replies of parts.
#[derive(Debug, Default)]
pub struct Results {
    /// Their bytes, one after another.
    pub replies: ReplyBuf,
    /// Which is where.
    pub of: Vec<PartReply>,
}

/// Where one part's reply lies.
#[derive(Clone, Copy, Debug)]
pub struct PartReply {
    /// The command's place among those of the transaction.
    pub call: u32,
    /// The part's place in the command.
    pub part: u32,
    /// From where.
    pub from: usize,
    /// To where.
    pub to: usize,
    /// Whether it is an error.
    pub failed: bool,
    /// How long it took, in [`crate::base::ticks`].
    pub ticks: u64,
}

/// Something that waits for its locks on this shard.
#[derive(Debug)]
pub enum Deferred {
    /// A command of a client of shard `from`.
    Run {
        /// Whose client.
        from: usize,
        /// Which.
        client: ClientKey,
        /// Which of its promised replies.
        seq: u32,
        /// The command and its arguments.
        call: Box<crate::session::Call>,
        /// The database.
        db: usize,
        /// Whether the client speaks RESP3.
        resp3: bool,
        /// Whether its commands leave alone when keys were last used.
        no_touch: bool,
    },
    /// A transaction of shard `from`.
    Ask(usize, Box<Ask>),
}

impl Node {
    /// Acts on a message from shard `from`, which may be this one.
    pub(super) fn hear(&mut self, from: usize, message: Message) {
        match message {
            Message::Ask(ask) => self.asked(from, ask),
            Message::Do(work) => self.told(from, work),
            Message::Verdict(verdict) => self.judged(verdict),
            Message::Done(txn, results) => self.done(txn, results),
        }
    }

    fn asked(&mut self, from: usize, ask: Ask) {
        let granted = ask.wants.is_empty()
            || super::rules::broken(super::rules::Rule::Locks)
            || if ask.release {
                self.locks.lets_through(&ask.wants)
            } else {
                self.locks.attempt(ask.txn, &ask.wants)
            };
        if granted {
            return self.grant(from, ask);
        }
        if ask.wait {
            let holder = (!ask.release).then_some(ask.txn);
            self.locks.wait(ask.wants.clone(), holder, Deferred::Ask(from, Box::new(ask)));
        } else {
            let verdict = Verdict {
                txn: ask.txn,
                shard: self.number,
                granted: false,
                unchanged: true,
                results: Results::default(),
            };
            self.say(from, Message::Verdict(verdict));
        }
    }

    fn grant(&mut self, from: usize, ask: Ask) {
        let unchanged = ask.checks.iter().all(|check| self.is_unchanged(check));
        let results =
            if unchanged { self.run_work(ask.txn, &ask.work) } else { Results::default() };
        let verdict =
            Verdict { txn: ask.txn, shard: self.number, granted: true, unchanged, results };
        self.say(from, Message::Verdict(verdict));
    }

    fn told(&mut self, from: usize, order: Do) {
        self.parts_run += 1;
        let results = self.run_work(order.txn, &order.work);
        if order.release {
            self.locks.release(order.txn);
            self.run_ready();
        }
        if order.answer {
            self.say(from, Message::Done(order.txn, results));
        }
    }

    /// Runs everything whose turn has come after locks were released.
    pub(super) fn run_ready(&mut self) {
        while let Some(deferred) = self.locks.next_ready() {
            match deferred {
                Deferred::Ask(from, ask) => self.grant(from, *ask),
                Deferred::Run { from, client, seq, call, db, resp3, no_touch } => {
                    let mut out = ReplyBuf::default();
                    let args = Args::new(&call.bytes, &call.spans);
                    let (command, hash) = (call.command, None);
                    let job = Job { command, args, db, resp3, no_touch, hash, txn: 0 };
                    self.lap();
                    let ran = exec::run_whole(&mut self.shard, &job, &mut out);
                    let ticks = self.count(call.command, ran);
                    self.reply_late(from, client, seq, &out);
                    self.tell_slow(from, client, call, ticks);
                }
            }
        }
    }

    /// Sends the reply to a command that had to wait.
    fn reply_late(&mut self, from: usize, client: ClientKey, seq: u32, reply: &ReplyBuf) {
        if from == self.number {
            return self.keep_promise(client, seq, reply, (0, reply.mark()));
        }
        let batch = self.mail.batch(from);
        let mark = batch.replies.mark();
        batch.replies.append(reply, 0, reply.mark());
        let end = batch.replies.mark();
        batch.items.push(super::batch::Item::Late(client, seq, (mark, end)));
    }

    fn run_work(&mut self, txn: TxnId, work: &Work) -> Results {
        let mut results = Results::default();
        self.lap();
        for unit in &work.units {
            let (from, args) = (results.replies.mark(), work.args(unit));
            let ran = match unit.act {
                Act::Data(step) => {
                    let Unit { command, db, resp3, no_touch, .. } = *unit;
                    let job = Job { command, args, db, resp3, no_touch, hash: None, txn };
                    exec::run_step(&mut self.shard, &job, step, &mut results.replies)
                }
                Act::Sessions(handler, asker) => {
                    let Node { clients, config, instance, now, .. } = self;
                    let mut sessions = clients.iter_mut().map(|(_, client)| &mut client.session);
                    let env = Env { config, instance, now: *now };
                    let mut reply = Reply::new(&mut results.replies, unit.resp3);
                    let ran = match handler(&mut sessions, asker, &env, &args, &mut reply) {
                        Ok(_) => Ran::Fine,
                        Err(error) => {
                            results.replies.rewind(from);
                            Reply::new(&mut results.replies, unit.resp3).error(&error);
                            Ran::Failed(error_code(&results.replies.bytes()[from..]))
                        }
                    };
                    self.soil_closing();
                    self.follow_pause();
                    ran
                }
                Act::Watch => {
                    let version = self.watch(unit.db, args.at(0));
                    results.replies.extend(&version.to_le_bytes());
                    Ran::Fine
                }
            };
            let to = results.replies.mark();
            let failed = ran != Ran::Fine;
            // The coordinator counts the call, when it has all parts.
            let (call, part, ticks) = (unit.call, unit.part, self.lap());
            results.of.push(PartReply { call, part, from, to, failed, ticks });
        }
        results
    }

    /// A client (of any shard) begins to watch a key; returns its version.
    fn watch(&mut self, db: usize, key: &[u8]) -> u64 {
        // A key that has expired goes now: its removal later would look like a change.
        if self.shard.is_expired(db, key) {
            self.shard.db(db).edit(key);
        }
        self.shard.watches().add(db, key)
    }

    fn is_unchanged(&mut self, check: &Check) -> bool {
        // A key that has expired since has changed, even if nobody has removed it yet.
        self.shard.watches().version(check.db, &check.key) == Some(check.version)
            && !self.shard.is_expired(check.db, &check.key)
    }
}

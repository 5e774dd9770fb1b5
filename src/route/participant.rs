//! The participant's side of commands over several shards, and the data they run on: judging,
//! granting locks, running parts, releasing. The coordinator's side is [`super::coordinator`].
//!
//! **A command is judged once**, by every participant as it grants (single-shard commands as they
//! run): whether there is memory for it, and what may come to stand in the way of a command besides.
//! After all have granted, nothing can refuse any more, so a coordinator may answer before the parts
//! have run.

use super::client::ClientKey;
use super::clients::Clients;
use super::execute::{self, Job, Ran};
use super::message::{Act, Answer, Ask, Do, Message, PartReply, Pending, Results, Unit};
use super::message::{Verdict, Waiter, Work};
use super::observer::Observer;
use super::post::Post;
use super::rules::{Rule, broken};
use crate::base::error::Error;
use crate::base::key::Key;
use crate::base::memory;
use crate::command::{SessionsHandler, flag};
use crate::metrics::error_code;
use crate::resp::{Args, Reply, ReplyBuf};
use crate::session::{Env, Watch};
use crate::shard::Shard;
use crate::shard::caller::Caller;
use crate::shard::journal::Scope;
use crate::shard::locks::{self, Locks, TxnId, Wants};

/// What participant and coordinator work with beside their own state, for the length of one call.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// This shard's clients.
    pub(super) clients: &'a mut Clients,
    /// What is said to other shards.
    pub(super) post: &'a mut Post,
    /// What is counted.
    pub(super) observer: &'a mut Observer,
    /// The configuration, the instance, the time.
    pub(super) env: Env<'a>,
    /// Whether a reply that is known may be given before its command has run everywhere.
    pub(super) answers_early: bool,
    /// The announced transaction under way whose session command runs, and the command's place in
    /// it.
    pub(super) group: Option<(TxnId, u32)>,
    /// Whether effects are journaled here.
    pub(super) is_journaled: bool,
    /// Whether locks are asked for in one order ([`super::coordinator`]): another server is followed.
    pub(super) is_following: bool,
    /// Set where the work was on sessions: the node follows what they may have changed.
    pub(super) touched_sessions: bool,
}

impl Context<'_> {
    /// Journals a command that changes no data and is to be heard all the same (PUBLISH), in the place
    /// where its client has said it.
    pub(super) fn journal_command(&mut self, db: usize, words: &[&[u8]]) {
        if !self.is_journaled {
            return;
        }
        let scope = self.group.map_or(Scope::Unit, |(txn, call)| Scope::Part { txn, call });
        let words = words.iter().map(|word| Box::from(*word)).collect();
        self.post.say_here(Message::Also(scope, db, words));
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Participant {
    number: usize,
    pub(super) shard: Shard,
    pub(super) locks: Locks<Waiter>,
    /// Parts of transactions that have run after their locks were granted ([`Message::Do`]).
    pub(super) parts_run: u64,
    /// Allocated bytes from which on commands that may take memory are refused (`maxmemory`).
    memory_max: u64,
    /// What there is to refuse.
    reasons: Reasons,
    /// Of a command's flags, with [`DOING_WITHOUT`] the other way round, those that make it one to be
    /// looked at closely: so whatever there is to refuse is one test of one word for all others.
    suspicious: u32,
}

/// Flags that excuse a command: it is who lacks them that is refused something.
pub(super) const DOING_WITHOUT: u32 = flag::LOADING | flag::STALE;

/// Why commands may be refused, besides for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reasons {
    /// Data is being loaded: what needs it whole is refused, and no key expires.
    pub(super) loading: bool,
    /// The data cannot be saved: writes are refused.
    pub(super) failing: bool,
    /// Too few replicas follow: writes are refused.
    pub(super) lonely: bool,
    /// Another server is followed: writes are refused.
    pub(super) read_only: bool,
    /// Another server is followed and not heard of: nothing is served.
    pub(super) stale: bool,
}

impl Participant {
    /// The participant of a shard.
    pub(super) fn new(number: usize, shard: Shard) -> Participant {
        let locks = Locks::default();
        let (reasons, suspicious) = (Reasons::default(), flag::DENYOOM);
        let memory_max = u64::MAX;
        Participant { number, shard, locks, parts_run: 0, memory_max, reasons, suspicious }
    }

    /// Follows `maxmemory`, in bytes; 0 is no limit.
    pub(super) fn set_memory_max(&mut self, bytes: u64) {
        self.memory_max = if bytes == 0 { u64::MAX } else { bytes };
    }

    /// Follows what there is to refuse.
    pub(super) fn set_reasons(&mut self, reasons: Reasons) {
        self.reasons = reasons;
        let Reasons { loading, failing, lonely, read_only, stale } = reasons;
        let bit = |is: bool, flag: u32| if is { flag } else { 0 };
        self.suspicious = flag::DENYOOM
            | bit(loading, flag::LOADING)
            | bit(failing || lonely || read_only, flag::WRITES)
            | bit(stale, flag::STALE);
    }

    /// Whether writes are refused because the data cannot be saved.
    #[inline]
    pub(super) fn is_failing(&self) -> bool {
        self.reasons.failing
    }

    /// Whether data is being loaded, as far as this shard knows.
    #[inline]
    pub(super) fn is_loading(&self) -> bool {
        self.reasons.loading
    }

    /// Whether this server follows another, does not hear from it, and is to serve nothing meanwhile.
    #[inline]
    pub(super) fn is_stale(&self) -> bool {
        self.reasons.stale
    }

    /// Whether commands with these flags may run here now. What comes from the primary always may:
    /// it has been judged there.
    ///
    /// # Errors
    /// What their client is told instead.
    #[inline]
    pub(super) fn judge(&self, flags: u32, caller: Caller) -> Result<(), Error> {
        if (flags ^ DOING_WITHOUT) & self.suspicious == 0 || caller.is_primary {
            return Ok(());
        }
        self.judge_closely(flags)
    }

    /// In Redis's order.
    fn judge_closely(&self, flags: u32) -> Result<(), Error> {
        let Reasons { loading, failing, lonely, read_only, stale } = self.reasons;
        let (writes, needs_data) = (flags & flag::WRITES != 0, flags & flag::LOADING == 0);
        if flags & flag::DENYOOM != 0 && memory::used() > self.memory_max {
            Err(Error::OutOfMemory)
        } else if failing && writes {
            Err(Error::MisConf)
        } else if lonely && writes {
            Err(Error::NoReplicas)
        } else if read_only && writes {
            Err(Error::ReadOnly)
        } else if stale && flags & flag::STALE == 0 {
            Err(Error::MasterDown)
        } else if loading && needs_data {
            Err(Error::Loading)
        } else {
            Ok(())
        }
    }

    /// The locks a command has to wait for, if it has to.
    #[inline]
    pub(super) fn blocks(&self, job: &Job) -> Option<Wants> {
        if self.locks.is_idle() { None } else { self.met_locks(job) }
    }

    #[cold]
    fn met_locks(&self, job: &Job) -> Option<Wants> {
        if broken(Rule::Queues) {
            return None;
        }
        // Arguments that do not say where the keys are fail in the handler, which needs no lock.
        let wants = execute::wants(job.command, &job.args, job.caller.db()).ok()?;
        (!self.locks.lets_through(&wants)).then_some(wants)
    }

    /// Lets a command wait for the locks that [`Participant::blocks`] named.
    pub(super) fn wait(&mut self, wants: Wants, pending: Pending) {
        self.locks.wait(wants, None, Waiter::Command(pending));
    }

    /// A transaction asks for locks.
    pub(super) fn asked(&mut self, ask: Box<Ask>, cx: &mut Context) {
        let granted = ask.wants.is_empty()
            || broken(Rule::Locks)
            || if ask.release {
                self.locks.lets_through(&ask.wants)
            } else {
                self.locks.attempt(ask.txn, &ask.wants)
            };
        if granted {
            self.grant(*ask, cx);
        } else if ask.wait {
            let holder = (!ask.release).then_some(ask.txn);
            self.locks.wait(ask.wants.clone(), holder, Waiter::Ask(ask));
        } else {
            self.answer(ask.txn, Answer::Busy, cx);
        }
    }

    fn grant(&mut self, ask: Ask, cx: &mut Context) {
        let answer = if !ask.checks.iter().all(|watch| self.is_unchanged(watch)) {
            Answer::Changed
        } else if let Err(error) = self.judge(ask.flags, Caller::default()) {
            Answer::Refused(error)
        } else {
            Answer::Granted(self.run(None, &ask.work, cx))
        };
        self.answer(ask.txn, answer, cx);
    }

    /// Tells the coordinator, who may not be who has said the request.
    fn answer(&mut self, txn: TxnId, answer: Answer, cx: &mut Context) {
        let verdict = Verdict { txn, shard: self.number, answer };
        cx.post.say(locks::home(txn), Message::Verdict(Box::new(verdict)));
    }

    /// A transaction that holds locks here goes on.
    pub(super) fn told(&mut self, order: &Do, cx: &mut Context) {
        self.parts_run += 1;
        let group = order.is_announced.then_some(order.txn);
        let results = self.run(group, &order.work, cx);
        if order.release {
            if let Some(txn) = group {
                self.shard.journal().end_part(txn);
            }
            self.locks.release(order.txn);
            self.run_ready(cx);
        }
        if order.answer {
            cx.post.say(locks::home(order.txn), Message::Done(order.txn, Box::new(results)));
        }
    }

    /// Runs everything whose turn has come after locks were released.
    fn run_ready(&mut self, cx: &mut Context) {
        while let Some(waiter) = self.locks.next_ready() {
            match waiter {
                Waiter::Ask(ask) => self.grant(*ask, cx),
                Waiter::Command(pending) => self.run_pending(pending, cx),
            }
        }
    }

    /// A command whose time has come, for a client of any shard.
    fn run_pending(&mut self, pending: Pending, cx: &mut Context) {
        let Pending { from, client, seq, caller, call } = pending;
        let (command, args) = (call.command, Args::new(&call.bytes, &call.spans));
        let mut out = ReplyBuf::default();
        cx.observer.lap();
        let ticks = match self.judge(command.flags, caller) {
            Ok(()) => {
                let job = Job { command, args, caller };
                let ran = execute::run_by_itself(&mut self.shard, &job, &mut out);
                cx.observer.count(command, ran)
            }
            Err(error) => {
                cx.observer.count_rejected(Some(command), &error);
                Reply::new(&mut out, caller.resp3).error(&error);
                0
            }
        };
        self.reply_late(from, client, seq, &out, cx);
        cx.observer.tell_slow(cx.post, from, client, call, ticks);
    }

    /// Sends the reply to a command that had to wait.
    fn reply_late(
        &self,
        from: usize,
        client: ClientKey,
        seq: u32,
        reply: &ReplyBuf,
        cx: &mut Context,
    ) {
        if from == self.number {
            return cx.clients.keep_promise(client, seq, reply, (0, reply.mark()));
        }
        let batch = cx.post.mail.batch(from);
        let start = batch.replies.mark();
        batch.replies.append(reply, 0, reply.mark());
        let end = batch.replies.mark();
        batch.items.push(Message::Late(client, seq, (start, end)));
    }

    /// Runs the parts of a transaction that are this shard's, in order. What they do is journaled as a
    /// part of its `group`, if it has been announced, or else as one of this shard alone.
    fn run(&mut self, group: Option<TxnId>, work: &Work, cx: &mut Context) -> Results {
        let mut results = Results::default();
        cx.observer.lap();
        let scope = match &work.units[..] {
            [unit] => execute::scope_of(unit.command),
            _ => Scope::Unit,
        };
        self.shard.journal().begin(scope);
        for unit in &work.units {
            if let Some(txn) = group {
                self.shard.journal().begin(Scope::Part { txn, call: unit.call });
            }
            let (from, ends) = (results.replies.mark(), results.ends.len());
            let ran = self.run_unit(unit, &work.args(unit), &mut results, cx);
            let (to, failed) = (results.replies.mark(), ran != Ran::Fine);
            // The coordinator counts the call, when it has all parts.
            let (call, part, ticks) = (unit.call, unit.part, cx.observer.lap());
            results.of.push(PartReply { call, part, from, to, ends, failed, ticks });
        }
        results
    }

    fn run_unit(
        &mut self,
        unit: &Unit,
        args: &Args,
        results: &mut Results,
        cx: &mut Context,
    ) -> Ran {
        let Unit { command, caller, .. } = *unit;
        let job = Job { command, args: *args, caller };
        match unit.act {
            Act::Data(step) => execute::run_step(&mut self.shard, &job, step, &mut results.replies),
            Act::Each(handler, gather) => {
                let Results { replies, ends, .. } = results;
                execute::run_parts(&mut self.shard, &job, handler, gather, replies, ends)
            }
            Act::Sessions(handler, asker) => {
                run_on_sessions(handler, asker, caller, args, &mut results.replies, cx)
            }
            Act::Watch => {
                for at in 0..args.len() {
                    let version = self.shard.watch(caller.db(), args.key(at));
                    results.replies.extend(&version.to_le_bytes());
                }
                Ran::Fine
            }
        }
    }

    /// One step of the shard's housekeeping: see [`Shard::housekeep`].
    pub(super) fn housekeep(&mut self, pass_done: &mut bool) -> bool {
        let Participant { shard, locks, .. } = self;
        let is_checked = !locks.is_idle() && !broken(Rule::LockedExpiry);
        if is_checked && locks.is_held_whole() {
            *pass_done = true;
            return false;
        }
        shard.housekeep(pass_done, &|key| is_checked && locks.is_held(key))
    }

    /// Journals a command that changes no data.
    pub(super) fn journal_command(&mut self, scope: Scope, db: usize, words: &[Box<[u8]>]) {
        let words: Vec<&[u8]> = words.iter().map(|word| &**word).collect();
        self.shard.journal().also(scope, db, &words);
    }

    /// A client (of any shard) watches a key no longer.
    pub(super) fn unwatch(&mut self, watch: &Watch) {
        self.shard.unwatch(watch.db, &watch.key);
    }

    fn is_unchanged(&mut self, watch: &Watch) -> bool {
        // A key that has expired since has changed, even if nobody has removed it yet.
        self.shard.watches().version(watch.db, &watch.key) == Some(watch.version)
            && !self.shard.is_expired(watch.db, Key::new(&watch.key))
    }
}

fn run_on_sessions(
    handler: SessionsHandler,
    asker: u64,
    caller: Caller,
    args: &Args,
    out: &mut ReplyBuf,
    cx: &mut Context,
) -> Ran {
    let mark = out.mark();
    let mut reply = Reply::new(out, caller.resp3);
    let outcome = handler(&mut cx.clients.sessions(), asker, &cx.env, args, &mut reply);
    cx.clients.mark_closing();
    cx.touched_sessions = true;
    match outcome {
        Ok(_) => Ran::Fine,
        Err(error) => {
            out.rewind(mark);
            Reply::new(out, caller.resp3).error(&error);
            Ran::Failed(error_code(&out.bytes()[mark..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::alone::{Alone, call};
    use super::super::execute::Step;
    use super::*;
    use crate::command::Call;
    use crate::session::ReplyMode;

    fn participant() -> Participant {
        Participant::new(0, Shard::new(0, 1, 1))
    }

    fn wants(call: &Call) -> Wants {
        let args = Args::new(&call.bytes, &call.spans);
        execute::wants(call.command, &args, 0).expect("its keys are where it says")
    }

    /// A request for the locks of a call, which runs as soon as they are held.
    fn ask(txn: TxnId, line: &str, wait: bool) -> Box<Ask> {
        let call = call(line);
        let (mut work, step) = (Work::default(), Act::Data(Step::Whole));
        let args = Args::new(&call.bytes, &call.spans);
        work.add(Unit::new(0, 0, step, call.command, Caller::default()), args.iter());
        let (wants, flags, checks) = (wants(&call), call.command.flags, Vec::new());
        Box::new(Ask { txn, wait, wants, checks, flags, work, release: false })
    }

    fn verdict(alone: &mut Alone) -> Answer {
        match alone.said_here().pop() {
            Some(Message::Verdict(verdict)) => verdict.answer,
            other => panic!("no verdict: {other:?}"),
        }
    }

    #[test]
    fn who_meets_a_lock_waits_for_its_release() {
        let (mut alone, mut participant) = (Alone::new(1), participant());
        participant.asked(ask(1, "SET k 1", false), &mut alone.cx());
        let Answer::Granted(results) = verdict(&mut alone) else { panic!("nobody else is there") };
        assert_eq!(results.replies.bytes(), b"+OK\r\n");
        participant.asked(ask(2, "SET k 2", false), &mut alone.cx());
        assert!(matches!(verdict(&mut alone), Answer::Busy));
        participant.asked(ask(3, "SET k 3", true), &mut alone.cx());
        assert!(alone.said_here().is_empty());

        let client = alone.connect();
        let get = call("GET k");
        let args = Args::new(&get.bytes, &get.spans);
        let job = Job { command: get.command, args, caller: Caller::default() };
        let wants = participant.blocks(&job).expect("the key is locked");
        let replies = &mut alone.clients.at(client).replies;
        let seq = replies.promise(ReplyMode::On);
        let caller = Caller::default();
        participant.wait(wants, Pending { from: 0, client, seq, caller, call: Box::new(get) });
        assert_eq!(alone.replies(client), "");

        let done = |txn| {
            let (work, release) = (Work::default(), true);
            Do { txn, work, release, answer: false, is_announced: false }
        };
        participant.told(&done(1), &mut alone.cx());
        assert!(matches!(verdict(&mut alone), Answer::Granted(_)));
        participant.told(&done(3), &mut alone.cx());
        assert_eq!(alone.replies(client), "$1\r\n3\r\n");
        assert!(participant.locks.is_idle());
    }

    /// What commands with these flags are told, for each reason there may be.
    #[track_caller]
    fn judged(reasons: Reasons, flags: u32, expected: Result<(), Error>) {
        let mut participant = participant();
        participant.set_reasons(reasons);
        assert_eq!(participant.judge(flags, Caller::default()), expected);
        let primary = Caller { is_primary: true, ..Caller::default() };
        assert_eq!(participant.judge(flags, primary), Ok(()));
        participant.set_reasons(Reasons::default());
        assert_eq!(participant.judge(flags, Caller::default()), Ok(()));
    }

    #[test]
    fn who_moves_a_key_waits_for_it_in_both_databases() {
        let (mut alone, mut participant) = (Alone::new(1), participant());
        participant.asked(ask(1, "SET k 1", false), &mut alone.cx());
        let there = call("MOVE k 0");
        let args = Args::new(&there.bytes, &there.spans);
        let caller = Caller::default().in_db(1);
        assert!(participant.blocks(&Job { command: there.command, args, caller }).is_some());
        let elsewhere = call("MOVE k 2");
        let args = Args::new(&elsewhere.bytes, &elsewhere.spans);
        assert!(participant.blocks(&Job { command: elsewhere.command, args, caller }).is_none());
    }

    #[test]
    fn while_data_is_loaded_only_what_does_without_it_may_run() {
        let reasons = Reasons { loading: true, ..Reasons::default() };
        judged(reasons, flag::DENYOOM, Err(Error::Loading));
        judged(reasons, flag::STALE, Err(Error::Loading));
        judged(reasons, flag::LOADING, Ok(()));
    }

    #[test]
    fn while_the_data_cannot_be_saved_nothing_is_written() {
        let reasons = Reasons { failing: true, ..Reasons::default() };
        judged(reasons, flag::WRITES | flag::DENYOOM, Err(Error::MisConf));
        judged(reasons, flag::READS, Ok(()));
    }

    #[test]
    fn a_replica_refuses_writes_and_a_stale_one_everything() {
        let replica = Reasons { read_only: true, ..Reasons::default() };
        judged(replica, flag::WRITES, Err(Error::ReadOnly));
        judged(replica, flag::READS, Ok(()));
        let stale = Reasons { stale: true, ..replica };
        judged(stale, flag::WRITES, Err(Error::ReadOnly));
        judged(stale, flag::READS, Err(Error::MasterDown));
        judged(stale, flag::STALE, Ok(()));
        judged(Reasons { loading: true, ..stale }, flag::READS, Err(Error::MasterDown));
        judged(Reasons { read_only: false, ..stale }, flag::WRITES, Err(Error::MasterDown));
    }

    #[test]
    fn without_enough_replicas_nothing_is_written() {
        let reasons = Reasons { lonely: true, ..Reasons::default() };
        judged(reasons, flag::WRITES, Err(Error::NoReplicas));
        judged(reasons, flag::READS, Ok(()));
        judged(Reasons { failing: true, ..reasons }, flag::WRITES, Err(Error::MisConf));
    }

    #[test]
    fn what_may_not_run_is_refused_with_its_locks_held() {
        let (mut alone, mut participant) = (Alone::new(1), participant());
        // No allocator counts in unit tests: nothing is used, and nothing is less than that.
        assert!(participant.judge(flag::DENYOOM, Caller::default()).is_ok());
        participant.asked(ask(1, "SET k 1", false), &mut alone.cx());
        assert!(matches!(verdict(&mut alone), Answer::Granted(_)));
        let version = participant.shard.watch(0, Key::new(b"w"));
        let watch = |version| Watch { db: 0, key: (*b"w").into(), version };
        for (version, unchanged) in [(version, true), (version + 1, false)] {
            let mut ask = ask(2 + version, "SET other 1", false);
            ask.checks = vec![watch(version)];
            participant.asked(ask, &mut alone.cx());
            let answer = verdict(&mut alone);
            assert_eq!(matches!(answer, Answer::Granted(_)), unchanged, "{answer:?}");
            let release = true;
            let (txn, work) = (2 + version, Work::default());
            let done = Do { txn, work, release, answer: false, is_announced: false };
            participant.told(&done, &mut alone.cx());
        }
    }
}

//! One command: what it is, whether it may run, and where.

use super::client::ClientKey;
use super::execute::{self, Job};
use super::feed::Ahead;
use super::message::{Message, Pending, RunItem};
use super::node::Node;
use super::observer::Measured;
use super::replicas;
use super::session::run_session;
use super::transaction::Goal;
use super::walk::Walk;
use crate::base::doing;
use crate::base::error::Error;
use crate::command::pubsub::Deed;
use crate::command::{self, Call, Command, Control, Run, flag};
use crate::config::Config;
use crate::config::typed::ClientClass;
use crate::resp::{Args, Reply, ReplyBuf, Span};
use crate::session::{Close, ReplyMode, Session};

impl Node {
    /// Runs one command, or sends it where it runs.
    pub(super) fn dispatch(&mut self, key: ClientKey, input: &[u8], spans: &[Span], ahead: Ahead) {
        let session = &mut self.clients.at(key).session;
        if session.reply_mode == ReplyMode::On {
            return self.run_command(key, input, spans, ahead);
        }
        if session.class == ClientClass::Replica && !replicas::may_say(ahead.command) {
            return self.part_with_replica(key, &ahead.words(input, spans), ahead.command);
        }
        let before = session.reply_mode;
        if before == ReplyMode::SkipNext {
            session.reply_mode = ReplyMode::Skip;
        }
        self.run_command(key, input, spans, ahead);
        if let Some(client) = self.clients.get_mut(key) {
            if client.session.postponed || client.catches_up {
                client.session.reply_mode = before;
            } else if client.session.reply_mode == ReplyMode::Skip {
                client.session.reply_mode = ReplyMode::On;
            }
        }
    }

    #[inline]
    fn run_command(&mut self, key: ClientKey, input: &[u8], spans: &[Span], ahead: Ahead) {
        let words = ahead.words(input, spans);
        self.observer.commands += 1;
        let now_ms = self.now.unix_ms;
        let session = &mut self.clients.at(key).session;
        session.active_ms = now_ms;
        session.traffic.commands += 1;
        let mode = session.reply_mode;
        let unauthenticated = !session.authenticated && !self.config.requirepass().is_empty();
        let command = match resolve(ahead.command, &words, session, &self.config) {
            Ok(command) if unauthenticated && !command.is(flag::NO_AUTH) => {
                return self.reject(key, mode, Some(command), &Error::NoAuth);
            }
            Ok(command) => command,
            Err(Unresolved::Http) => {
                // A browser that was tricked into talking to us: nothing of it runs.
                session.close = Close::Now;
                return self.clients.mark_dirty(key);
            }
            Err(Unresolved::Arity(command)) if !unauthenticated || command.is(flag::NO_AUTH) => {
                return self.refuse_arity(key, mode, command);
            }
            Err(Unresolved::Unknown(error)) if !unauthenticated => {
                return self.reject(key, mode, None, &error);
            }
            Err(_) => return self.reject(key, mode, None, &Error::NoAuth),
        };
        session.last_command = Some(command.id);
        session.has_written |= command.is(flag::WRITES);
        doing::command_of(command.id, session.id);
        let is_queueing = session.multi.is_some();
        if session.is_confined() && !command.is(flag::SUBSCRIBED) {
            return self.reject(key, mode, Some(command), &confined(command));
        }
        let args = words.from(command.name_words());
        // QUIT does not wait for EXEC.
        let at_once = matches!(command.run, Run::Control(_)) || command.name == "QUIT";
        let queues = is_queueing && !at_once;
        if self.screens && !self.screen(key, mode, command, &words, queues) {
            return;
        }
        if queues {
            return self.queue(key, mode, command, &args);
        }
        if self.is_strict && self.must_keep_order(key, command, &args) {
            return;
        }
        self.observer.request = ahead.len() as u64;
        match command.run {
            Run::Owner(_) => {
                let Some(at) = command.first_key() else {
                    return self.route(key, mode, command, &args);
                };
                let owner = ahead.owner;
                let owner = owner.unwrap_or_else(|| self.layout.owner(args.at(at)));
                let args = match ahead.hash {
                    Some(hash) => args.with_hash(at, hash),
                    None => args,
                };
                self.run_at(key, mode, owner, command, &args);
            }
            Run::Session(_) => {
                let mut out = ReplyBuf::default();
                self.coordinate(|_, cx| run_session(key, command, &args, &mut out, cx));
                let Some(client) = self.clients.get_mut(key) else {
                    return;
                };
                // CLIENT REPLY decides about its own reply.
                let mode = client.session.reply_mode;
                client.replies.now(mode, |to| to.append(&out, 0, out.mark()));
                if self.is_monitored {
                    self.show_words(key, command, &words);
                }
            }
            // It stands in the stream behind what its client has done before.
            Run::Pubsub(Deed::Publish(_)) if self.is_journaled() && self.must_catch_up(key) => {
                return;
            }
            Run::Pubsub(deed) => {
                self.pubsub(key, mode, command, deed, &args);
                if self.is_monitored {
                    self.show_words(key, command, &words);
                }
            }
            Run::Server(_) if command.is(flag::BLOCKING) && self.must_catch_up(key) => return,
            Run::Server(ask) => {
                self.ask(key, mode, command, ask, &args);
                if self.is_monitored {
                    self.show_words(key, command, &words);
                }
            }
            Run::Control(control) => {
                self.control(key, mode, control, command, &args);
                // EXEC shows itself, after what it runs.
                if self.is_monitored && !(control == Control::Exec && is_queueing) {
                    self.show_words(key, command, &words);
                }
            }
            Run::Cursor(_) if self.layout.shards() == 1 => {
                self.run_at(key, mode, self.number, command, &args);
            }
            Run::Cursor(_) => {
                let call = own_call(command, &args);
                let goal = Goal::Walk(Walk::new(&call));
                self.begin(key, goal, vec![call], Vec::new());
            }
            Run::Each(..) | Run::Across(_) | Run::All(..) | Run::Sessions(..) => {
                self.route(key, mode, command, &args);
            }
            Run::Chosen(_) | Run::Container => unreachable!("resolved to what runs"),
        }
        self.hear_local();
    }

    /// Whether a command that is about what its client has done before has to wait until that is answered.
    /// It comes again then.
    pub(super) fn must_catch_up(&mut self, key: ClientKey) -> bool {
        let client = self.clients.at(key);
        if client.replies.outstanding() == 0 {
            return false;
        }
        client.catches_up = true;
        client.session.traffic.commands -= 1;
        self.observer.commands -= 1;
        true
    }

    /// A command that may concern several shards: one that does not is an ordinary one after all.
    fn route(&mut self, key: ClientKey, mode: ReplyMode, command: &'static Command, args: &Args) {
        match self.only_shard(command, args) {
            Some(shard) => self.run_at(key, mode, shard, command, args),
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
    ) {
        let Node { clients, participant, number, post, crossed, observer, .. } = self;
        let client = clients.at(key);
        let caller = client.session.caller();
        if owner != *number {
            let seq = client.replies.promise_crossing(mode);
            let first = command.first_key().filter(|at| *at < args.len());
            let hash = first.map_or(0, |at| args.key(at).hash());
            let batch = post.mail.batch(owner);
            let call = *args;
            let args = batch.add_args(args);
            batch.items.push(Message::Run(RunItem {
                client: key,
                seq,
                caller,
                late: false,
                command,
                hash,
                args,
                reply: (0, 0),
                sent: 0,
                ticks: 0,
                is_notable: false,
            }));
            *crossed = Some(owner);
            post.input_waits |= batch.is_full();
            observer.hops_out += 1;
            if observer.is_long_request() {
                let measured = Measured { request: observer.request, ..Measured::default() };
                observer.look_at(clients, key, command, &call, measured);
            }
            return;
        }
        if let Err(error) = participant.judge(command.flags, caller) {
            return self.reject(key, mode, Some(command), &error);
        }
        let job = Job { command, args: *args, caller };
        if let Some(wants) = participant.blocks(&job) {
            let seq = client.replies.promise(mode);
            let (from, call) = (*number, Box::new(own_call(command, args)));
            let pending = Pending { from, client: key, seq, caller, call };
            return participant.wait(wants, pending);
        }
        let shard = &mut participant.shard;
        let (ran, reply) = client.replies.now(mode, |out| {
            let before = out.len();
            let ran = execute::run_by_itself(shard, &job, out);
            (ran, (out.len() - before) as u64)
        });
        post.input_waits |= shard.journal().is_full();
        let ticks = observer.count(command, ran);
        let measured = Measured { ticks, request: observer.request, reply };
        observer.look_at(clients, key, command, args, measured);
    }

    /// Refuses a command with too few or too many words. EXEC ends the transaction all the same.
    #[cold]
    fn refuse_arity(&mut self, key: ClientKey, mode: ReplyMode, command: &'static Command) {
        let error = command.wrong_arity();
        match command.run {
            Run::Control(Control::Exec) => self.abort_exec(key, mode, command, &error),
            _ => self.reject(key, mode, Some(command), &error),
        }
    }

    /// Refuses EXEC, and ends its transaction.
    #[cold]
    pub(super) fn abort_exec(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        exec: &'static Command,
        error: &Error,
    ) {
        let text = error.to_string();
        let reason = text.strip_prefix("ERR ").unwrap_or(&text);
        let error = Error::owned(format!("EXECABORT Transaction discarded because of: {reason}"));
        if let Some(client) = self.clients.get_mut(key) {
            client.take_queue();
            let watched = std::mem::take(&mut client.session.watched);
            self.unwatch(watched);
        }
        self.reject(key, mode, Some(exec), &error);
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
        self.observer.count_rejected(command, error);
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if let Some(queue) = &mut client.queue {
            queue.failed = true;
        }
        // It was counted as one that runs.
        let commands = &mut client.session.traffic.commands;
        *commands = commands.saturating_sub(1);
        let resp3 = client.session.resp3;
        client.replies.now(mode, |out| Reply::new(out, resp3).error(error));
    }
}

/// What a client that has subscribed and speaks RESP2 is told if it says something else.
#[cold]
fn confined(command: &Command) -> Error {
    let name = command.full_name();
    Error::owned(format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
         are allowed in this context"
    ))
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
fn resolve(
    found: Option<&'static Command>,
    words: &Args,
    session: &Session,
    config: &Config,
) -> Result<&'static Command, Unresolved> {
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
    if let Run::Chosen(choose) = command.run
        && command.takes(words.len())
    {
        command = choose(session, config, &words.from(1)).map_err(Unresolved::Unknown)?;
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
    Error::owned(format!("ERR unknown command '{name}', with args beginning with: {args}"))
}

/// A command with arguments of its own.
pub(super) fn own_call(command: &'static Command, args: &Args) -> Call {
    let total = args.iter().map(<[u8]>::len).sum();
    let (mut bytes, mut spans) = (Vec::with_capacity(total), Vec::with_capacity(args.len()));
    args.copy_to(&mut bytes, &mut spans);
    Call { command, bytes, spans }
}

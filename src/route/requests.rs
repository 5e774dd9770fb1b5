//! What is asked of the server as a whole: to save, to load, to end. One shard leads: the first. A
//! client's shard sends the request there, as any message, and its client's next commands wait for the
//! answer. What the leading shard has begun for it on all shards, as a transaction of no client, tells
//! its end in the same way.
//!
//! What is done about a request is the business of who has files and may end the process: the floors
//! above take requests from here and give answers.

use super::client::ClientKey;
use super::execute::Ran;
use super::message::{Asker, Message, Said};
use super::node::Node;
use super::observer::Measured;
use super::participant::Context;
use super::post::Post;
use crate::base::error::Error;
use crate::base::ticks;
use crate::command::persistence::{Ask, Request};
use crate::command::replication::FOLLOWED_ALREADY;
use crate::command::{Command, Effect, Outcome};
use crate::instance::replication::Primary;
use crate::metrics::error_code;
use crate::resp::{Args, Reply, ReplyBuf};
use crate::session::{Close, Env, ReplyMode, Session};

/// The shard that leads.
pub const LEADER: usize = 0;

/// What the leading shard has heard and nobody has acted upon yet.
#[derive(Debug, Default)]
pub(super) struct Requests {
    asked: Vec<(Request, Option<Asker>)>,
    concluded: Option<Result<(), Error>>,
}

impl Requests {
    /// Something is asked.
    pub(super) fn asked(&mut self, request: Request, asker: Option<Asker>) {
        self.asked.push((request, asker));
    }

    /// The server's own command has ended.
    pub(super) fn concluded(&mut self, result: Result<(), Error>) {
        self.concluded = Some(result);
    }
}

impl Node {
    /// A client asks something of the server.
    pub(super) fn ask(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        command: &'static Command,
        ask: Ask,
        args: &Args,
    ) {
        let env = Env { config: &self.config, instance: &self.instance, now: self.now };
        let request = match ask(&self.clients.at(key).session, &env, args) {
            Ok(request) => request,
            Err(error) => return self.fail(key, mode, command, &error),
        };
        let measured = Measured { request: self.observer.request, ..Measured::default() };
        self.observer.look_at(&self.clients, key, command, args, measured);
        let client = self.clients.at(key);
        let seq = client.replies.promise(mode);
        client.held = true;
        if let Request::Wait(_) = request {
            client.session.has_written = false;
            client.session.waits = true;
            self.clients.waiting += 1;
        }
        let (shard, began) = (self.number, ticks::now());
        let asker = Asker { shard, client: key, seq, command, began };
        self.post.say(LEADER, Message::Request(request, Some(asker)));
    }

    /// A command has run, and failed.
    fn fail(&mut self, key: ClientKey, mode: ReplyMode, command: &'static Command, error: &Error) {
        let client = self.clients.at(key);
        let resp3 = client.session.resp3;
        client.replies.now(mode, |out| Reply::new(out, resp3).error(error));
        let text = format!("-{error}");
        let code = error_code(text.as_bytes());
        self.observer.count(command, Ran::Failed(code));
    }

    /// What has been asked since this was called last, in its order.
    pub fn take_requests(&mut self) -> Vec<(Request, Option<Asker>)> {
        std::mem::take(&mut self.requests.asked)
    }

    /// Whether something has been asked, or has come to its end.
    #[inline]
    pub fn has_requests(&self) -> bool {
        !self.requests.asked.is_empty() || self.requests.concluded.is_some()
    }

    /// Answers who has asked.
    pub fn answer(&mut self, asker: Asker, answer: Result<Said, Error>) {
        self.post.say(asker.shard, Message::Answer(asker, answer));
        self.hear_local();
    }

    /// Runs a command of the server's own on all shards at one moment; [`Node::take_concluded`] tells
    /// its end. There is one at a time.
    pub fn begin_inner(&mut self, command: &'static Command) {
        self.requests.concluded = None;
        self.coordinate(|coordinator, cx| coordinator.begin_inner(command, cx));
        self.hear_local();
    }

    /// How the server's own command has ended, once.
    pub fn take_concluded(&mut self) -> Option<Result<(), Error>> {
        self.requests.concluded.take()
    }
}

/// A client of this shard is answered, and goes on.
pub(super) fn answered(asker: Asker, answer: Result<Said, Error>, cx: &mut Context) {
    let Some(client) = cx.clients.get_mut(asker.client) else { return };
    client.held = false;
    let waited = std::mem::take(&mut client.session.waits);
    let (mut out, resp3) = (ReplyBuf::default(), client.session.resp3);
    let ran = match answer {
        Ok(said) => {
            if let Said::Waited { offset, .. } = said {
                client.session.waited_offset = offset;
            }
            if let Said::Parting(_) = said {
                client.session.close = Close::AfterReplies;
            }
            write(&said, &mut Reply::new(&mut out, resp3));
            Ran::Fine
        }
        Err(error) => {
            Reply::new(&mut out, resp3).error(&error);
            Ran::Failed(error_code(out.bytes()))
        }
    };
    let took = ticks::now().saturating_sub(asker.began);
    cx.clients.waiting -= usize::from(waited);
    cx.observer.count_as(asker.command, ran, took);
    cx.clients.keep_promise(asker.client, asker.seq, &out, (0, out.mark()));
    cx.clients.resume(asker.client);
}

fn write(said: &Said, reply: &mut Reply) {
    match *said {
        Said::Line(line) => reply.simple(line),
        Said::Parting(text) => reply.error_text(text),
        Said::Count(count) => reply.integer(count),
        Said::Waited { replicas, logs: None, .. } => reply.integer(replicas),
        Said::Waited { replicas, logs: Some(logs), .. } => {
            reply.array(2);
            reply.integer(logs);
            reply.integer(replicas);
        }
    }
}

/// A request within a transaction, whose locks are held: nobody can wait for its answer, so it comes
/// after the transaction, and what is answered is that.
pub(super) fn ask_inside(
    ask: Ask,
    args: &Args,
    reply: &mut Reply,
    session: &Session,
    env: &Env,
    post: &mut Post,
) -> Outcome {
    let persistence = env.instance.persistence().state();
    let replication = env.instance.replication().state();
    let (request, line) = match ask(session, env, args)? {
        Request::BackgroundSave { .. } if persistence.saving.is_some() => {
            return Err(Error::text("ERR Background save already in progress"));
        }
        Request::BackgroundSave { .. } => {
            (Request::BackgroundSave { schedule: true }, "Background saving scheduled")
        }
        Request::CancelSave if persistence.saving.is_some() => {
            (Request::CancelSave, "Background saving cancelled")
        }
        Request::CancelSave => {
            return Err(Error::text(
                "ERR Background saving is currently not in progress or scheduled",
            ));
        }
        Request::Follow { host, port } if replication.follows(&host, port) => {
            reply.simple(FOLLOWED_ALREADY);
            return Ok(Effect::Read);
        }
        Request::Follow { host, port } => {
            // The rest of the transaction sees it already.
            let primary = Primary::new(host.clone(), port);
            env.instance.tell_replication(|state| state.primary = Some(primary));
            (Request::Follow { host, port }, "OK")
        }
        // It happens after the transaction: whom it will find is not known yet.
        request @ Request::EndWait { .. } => {
            post.say(LEADER, Message::Request(request, None));
            reply.integer(0);
            return Ok(Effect::Read);
        }
        request @ (Request::Lead | Request::Failover { .. } | Request::AbortFailover) => {
            (request, "OK")
        }
        // What the client has written, this transaction included, is in nobody's stream yet.
        Request::Wait(wait) => {
            let count = wait.offset.map_or(0, |offset| replication.acknowledged(offset));
            let replicas = if wait.of_logs { 0 } else { count as i64 };
            let logs = wait.of_logs.then_some(0);
            write(&Said::Waited { offset: session.waited_offset, replicas, logs }, reply);
            return Ok(Effect::Read);
        }
        Request::Save | Request::Shutdown(_) | Request::AbortShutdown | Request::Reload { .. } => {
            return Err(Error::text("ERR Command not allowed inside a transaction"));
        }
    };
    post.say(LEADER, Message::Request(request, None));
    reply.simple(line);
    Ok(Effect::Read)
}

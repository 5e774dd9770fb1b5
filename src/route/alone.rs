//! For tests of one part of a node without the others: what it is handed, and what it says.

use super::client::ClientKey;
use super::clients::Clients;
use super::mailbox::{self, Mailbox};
use super::message::Message;
use super::observer::Observer;
use super::participant::Context;
use super::post::Post;
use crate::base::clock::Now;
use crate::command::{self, Call};
use crate::config::Config;
use crate::instance::{Identity, Instance};
use crate::resp::Span;
use crate::session::{About, Env, Session};
use std::sync::Arc;

/// What a part of shard 0 is handed, of so many shards. The others' mailboxes are kept, unread.
pub(super) struct Alone {
    pub(super) clients: Clients,
    post: Post,
    observer: Observer,
    config: Arc<Config>,
    instance: Arc<Instance>,
    now: Now,
    _others: Vec<Mailbox>,
}

impl Alone {
    pub(super) fn new(shards: usize) -> Alone {
        let identity =
            Identity { run_id: "0".repeat(40), started_us: 0, executable: String::new() };
        let commands = command::all().len();
        let instance = Arc::new(Instance::new(Config::default(), shards, commands, identity));
        let mut others = mailbox::exchange(shards, mailbox::PART);
        let config = instance.config();
        Alone {
            clients: Clients::default(),
            post: Post::new(0, others.remove(0)),
            observer: Observer::new(0, Arc::clone(&instance), &config),
            config,
            instance,
            now: Now { unix_ms: 1_000_000, monotonic_ns: 1 },
            _others: others,
        }
    }

    pub(super) fn cx(&mut self) -> Context<'_> {
        Context {
            clients: &mut self.clients,
            post: &mut self.post,
            observer: &mut self.observer,
            env: Env { config: &self.config, instance: &self.instance, now: self.now },
            answers_early: true,
            group: None,
            is_journaled: false,
            is_following: false,
            touched_sessions: false,
        }
    }

    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    pub(super) fn connect(&mut self) -> ClientKey {
        let about = About::default();
        self.clients.insert(Session::new(1, self.now, &self.config, about))
    }

    /// What has been said to shard 0 itself since this was asked last.
    pub(super) fn said_here(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.post.next_local()).collect()
    }

    /// What has been said to another shard.
    pub(super) fn said_to(&mut self, shard: usize) -> Vec<Message> {
        std::mem::take(&mut self.post.mail.batch(shard).items)
    }

    /// What is ready to be sent to a client.
    pub(super) fn replies(&self, client: ClientKey) -> String {
        let client = self.clients.get(client).expect("it is still there");
        String::from_utf8_lossy(client.replies.out.bytes()).into_owned()
    }
}

/// A command as a line: words between blanks.
pub(super) fn call(line: &str) -> Call {
    let mut words = line.split(' ');
    let command = words.next().and_then(|name| command::find(name.as_bytes()));
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    for word in words {
        spans.push(Span { at: bytes.len() as u32, len: word.len() as u32 });
        bytes.extend_from_slice(word.as_bytes());
    }
    Call { command: command.expect("a command"), bytes, spans }
}

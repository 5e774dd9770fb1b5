//! Pub/sub: who of a shard's clients has subscribed to what, and messages on their way to them.
//!
//! A shard keeps the subscriptions of its own clients. How many there are, and where, all shards know
//! ([`crate::instance::subscriptions`]); so PUBLISH runs on its client's shard, says one
//! [`Publication`] to every shard that has subscribers at all, its own included, and replies with their
//! number. Nobody is asked, and where there are no subscribers nobody hears of it.
//!
//! 1. **Order.** A publication goes through this turn's batch like any other message: what its client
//!    has done before has happened for whoever gets it and asks, and one publisher's messages arrive in
//!    the order they were published. To this shard's own clients it goes after the reply to the command
//!    that made it.
//! 2. **Nothing is lost after the confirmation.** A subscription is known to all shards before its
//!    client is told of it.
//! 3. **Messages do not wait** behind a command of their client that does, but none overtakes the
//!    confirmation of its subscription ([`Replies::fence_pushes`](super::client::Replies)).
//! 4. **Sends are bounded.** A message to thousands of clients makes as many sends; the clients are
//!    served [`PUSHES_PER_TURN`](limits::PUSHES_PER_TURN) a turn, and what is published meanwhile goes
//!    out with the same send. Replies do not wait for that. Who publishes faster than that waits, until
//!    all has been handed over ([`limits::PUSH_BACKLOG`]); a client that does not read is closed at its
//!    limit like any other.
//!
//! Keyspace notifications are publications of the shard where something happened to a key, after the
//! command that made it happen.

use super::client::{Client, ClientKey};
use super::clients::Clients;
use super::message::Message;
use super::node::Node;
use super::participant::Context;
use super::post::Post;
use super::session::run_session;
use crate::base::{glob, hash, limits};
use crate::command::pubsub::Deed;
use crate::command::{Command, Effect, Outcome};
use crate::config::typed::{ClientClass, KeyspaceEvents};
use crate::instance::Instance;
use crate::instance::subscriptions::Kind;
use crate::resp::{Args, Reply, ReplyBuf};
use crate::session::{Close, ReplyMode};
use crate::shard::event::{Classes, Event};
use bytes::Bytes;
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

/// A map by the names of channels or patterns.
type ByName<T> = HashMap<Arc<[u8]>, T, ahash::RandomState>;

/// A message on its way to the subscribers of one shard.
#[derive(Debug)]
pub struct Publication {
    /// [`Kind::Channel`] or [`Kind::Shard`].
    kind: Kind,
    /// The channel's name and the payload, and where the one ends and the other begins.
    text: Bytes,
    split: usize,
    /// What it counts for in the shard's backlog.
    weight: u64,
}

/// What a shard's clients have subscribed to: names of each [`Kind`], and by whom.
#[derive(Debug)]
pub(super) struct Subscriptions {
    names: [ByName<Vec<ClientKey>>; 3],
    /// How many clients have subscribed to anything.
    clients: u64,
    /// What has been heard and not been handed over to be sent, as it counts in the backlog.
    heard: u64,
    texts: Texts,
}

impl Default for Subscriptions {
    fn default() -> Subscriptions {
        let names = of_each_kind();
        Subscriptions { names, clients: 0, heard: 0, texts: Texts::default() }
    }
}

/// An empty map for each [`Kind`].
fn of_each_kind<T>() -> [ByName<T>; 3] {
    std::array::from_fn(|_| HashMap::with_hasher(hash::state().clone()))
}

/// What one client has subscribed to: each name with the client's place among its subscribers, so that
/// it is found there at once.
#[derive(Debug)]
pub(super) struct Own([ByName<u32>; 3]);

/// Bytes that one subscription takes beside its name: an entry of the client's map, and a place among
/// the subscribers.
const SUBSCRIPTION_BYTES: usize = 48;

/// Bytes of a client's buffer when its first message comes.
const FIRST_ROOM: usize = 512;

/// A message as clients get it, in RESP2 and RESP3, as far as it has been asked for. Where the payload
/// is attached, what stands before it.
#[derive(Debug, Default)]
struct Texts {
    of: [Vec<u8>; 2],
}

impl Publication {
    fn channel(&self) -> &[u8] {
        &self.text[..self.split]
    }

    fn payload(&self) -> &[u8] {
        &self.text[self.split..]
    }
}

impl Texts {
    fn begin(&mut self) {
        self.of.iter_mut().for_each(Vec::clear);
    }

    /// The text for a client, written when the first asks for it.
    #[inline]
    fn get(&mut self, resp3: bool, words: &[&[u8]], payload: &[u8]) -> &[u8] {
        let text = &mut self.of[usize::from(resp3)];
        if text.is_empty() {
            write_text(text, resp3, words, payload);
        }
        text
    }
}

fn write_text(text: &mut Vec<u8>, resp3: bool, words: &[&[u8]], payload: &[u8]) {
    let mut out = ReplyBuf::with(std::mem::take(text));
    head(&mut Reply::new(&mut out, resp3), 1 + words.len());
    words.iter().for_each(|word| Reply::new(&mut out, resp3).bulk(word));
    *text = if payload.len() < limits::ATTACH_MIN {
        Reply::new(&mut out, resp3).bulk(payload);
        out.into_bytes()
    } else {
        let mut bytes = out.into_bytes();
        let written = write!(bytes, "${}\r\n", payload.len());
        written.expect("memory takes all that is written");
        bytes
    };
}

/// What a message of so many parts begins with.
fn head(reply: &mut Reply, parts: usize) {
    if reply.is_resp3() { reply.push(parts) } else { reply.array(parts) }
}

impl Client {
    /// Gives it a message, whether it wants replies or not.
    #[inline]
    fn deliver(&mut self, text: &[u8], publication: &Publication) {
        let queues = self.is_lent;
        self.replies.push(queues, |out| {
            // Where one comes, more often do: room for several is one allocation.
            if out.capacity() == 0 {
                out.reserve(FIRST_ROOM);
            }
            out.extend(text);
            if publication.payload().len() >= limits::ATTACH_MIN {
                out.attach(publication.text.slice(publication.split..));
                out.extend(b"\r\n");
            }
        });
    }
}

impl Clients {
    /// How many clients have subscribed to anything.
    pub(super) fn subscribers(&self) -> u64 {
        self.subscriptions.clients
    }

    /// A client of this shard, whose number is `shard`, subscribes.
    fn subscribe(&mut self, key: ClientKey, kind: Kind, name: &[u8], place: (&Instance, usize)) {
        let (instance, shard) = place;
        let Clients { slab, subscriptions, .. } = self;
        let Some(client) = slab.get_mut(key.index as usize) else {
            return;
        };
        let own = client.subscriptions.get_or_insert_with(|| Box::new(Own(of_each_kind())));
        let own = &mut own.0[kind as usize];
        if own.contains_key(name) {
            return;
        }
        let name = instance.subscriptions.add(kind, name, shard);
        let members = subscriptions.names[kind as usize].entry(Arc::clone(&name)).or_default();
        let session = &mut client.session;
        subscriptions.clients += u64::from(session.subscribed.is_empty());
        session.subscribed.counts[kind as usize] += 1;
        session.subscribed.bytes += name.len() + SUBSCRIPTION_BYTES;
        if session.class == ClientClass::Normal {
            session.class = ClientClass::Pubsub;
        }
        own.insert(name, members.len() as u32);
        members.push(key);
    }

    /// A client of this shard does not want to be subscribed to a name any more.
    fn unsubscribe(&mut self, key: ClientKey, kind: Kind, name: &[u8], place: (&Instance, usize)) {
        let (instance, shard) = place;
        let Clients { slab, subscriptions, .. } = self;
        let Some(client) = slab.get_mut(key.index as usize) else {
            return;
        };
        let Some(own) = &mut client.subscriptions else {
            return;
        };
        let Some(at) = own.0[kind as usize].remove(name) else {
            return;
        };
        let session = &mut client.session;
        session.subscribed.counts[kind as usize] -= 1;
        session.subscribed.bytes -= name.len() + SUBSCRIPTION_BYTES;
        if session.subscribed.is_empty() {
            subscriptions.clients -= 1;
            client.subscriptions = None;
            if session.class == ClientClass::Pubsub {
                session.class = ClientClass::Normal;
            }
        }
        instance.subscriptions.remove(kind, name, shard);
        let names = &mut subscriptions.names[kind as usize];
        let Some(members) = names.get_mut(name) else {
            return;
        };
        members.swap_remove(at as usize);
        let moved = members.get(at as usize).copied();
        if members.is_empty() {
            names.remove(name);
        } else if members.len() < members.capacity() / 4 {
            members.shrink_to(2 * members.len());
        }
        if let Some(moved) = moved
            && let Some(other) = slab.get_mut(moved.index as usize)
            && let Some(own) = &mut other.subscriptions
            && let Some(place) = own.0[kind as usize].get_mut(name)
        {
            *place = at;
        }
    }

    /// What a client has subscribed to, of one kind.
    fn names_of(&self, key: ClientKey, kind: Kind) -> Vec<Arc<[u8]>> {
        let own = self.get(key).and_then(|client| client.subscriptions.as_ref());
        own.map_or(Vec::new(), |own| own.0[kind as usize].keys().cloned().collect())
    }

    /// Ends all subscriptions of a client, without a word.
    pub(super) fn unsubscribe_all(&mut self, key: ClientKey, instance: &Instance, shard: usize) {
        if self.get(key).is_none_or(|client| client.subscriptions.is_none()) {
            return;
        }
        for kind in Kind::ALL {
            for name in self.names_of(key, kind) {
                self.unsubscribe(key, kind, &name, (instance, shard));
            }
        }
    }

    /// Gives a message to all of this shard's clients that have subscribed to it.
    pub(super) fn deliver(&mut self, publication: &Publication) {
        let (kind, channel) = (publication.kind, publication.channel());
        let Clients { slab, pushed, subscriptions, .. } = self;
        let Subscriptions { names, texts, heard, .. } = subscriptions;
        *heard += publication.weight;
        let mut give = |members: &[ClientKey], words: &[&[u8]]| {
            texts.begin();
            for key in members {
                let Some(client) = slab.get_mut(key.index as usize) else { continue };
                // To who is to be closed nothing more is said.
                if client.session.close != Close::No {
                    continue;
                }
                let text = texts.get(client.session.resp3, words, publication.payload());
                client.deliver(text, publication);
                if !client.is_pushed {
                    client.is_pushed = true;
                    pushed.push_back(*key);
                }
            }
        };
        if let Some(members) = names[kind as usize].get(channel) {
            let word: &[u8] = if kind == Kind::Shard { b"smessage" } else { b"message" };
            give(members, &[word, channel]);
        }
        if kind == Kind::Channel {
            for (pattern, members) in &names[Kind::Pattern as usize] {
                if glob::matches(pattern, channel, false) {
                    give(members, &[b"pmessage", pattern, channel]);
                }
            }
        }
    }

    /// How many of the clients that have got messages are to be sent them this turn.
    pub(super) fn pushes_due(&self) -> usize {
        let waiting = self.pushed.len();
        if self.subscriptions.heard > 2 * limits::PUSH_BACKLOG {
            waiting
        } else {
            waiting.min(limits::PUSHES_PER_TURN)
        }
    }

    /// What has been heard since this was asked last, as it counts in the backlog.
    fn take_heard(&mut self) -> u64 {
        std::mem::take(&mut self.subscriptions.heard)
    }

    /// Lets those publish again who had to wait, unless that is still too much.
    pub(super) fn resume_publishers(&mut self, instance: &Instance) {
        if self.ahead.is_empty() || instance.subscriptions.is_behind() {
            return;
        }
        for key in std::mem::take(&mut self.ahead) {
            if let Some(client) = self.get_mut(key) {
                client.is_ahead = false;
                self.resume(key);
            }
        }
    }
}

/// Runs a command of pub/sub for a client of this shard, by itself or in its place within a transaction.
pub(super) fn run(
    key: ClientKey,
    deed: Deed,
    args: &Args,
    reply: &mut Reply,
    cx: &mut Context,
) -> Outcome {
    let place = (cx.env.instance, cx.post.number());
    match deed {
        Deed::Subscribe(kind) => {
            for name in args.iter() {
                cx.clients.subscribe(key, kind, name, place);
                confirm(key, (true, kind), Some(name), reply, cx.clients);
            }
        }
        Deed::Unsubscribe(kind) => {
            let own = if args.is_empty() { cx.clients.names_of(key, kind) } else { Vec::new() };
            if args.is_empty() && own.is_empty() {
                confirm(key, (false, kind), None, reply, cx.clients);
            }
            for name in args.iter().chain(own.iter().map(|name| &name[..])) {
                cx.clients.unsubscribe(key, kind, name, place);
                confirm(key, (false, kind), Some(name), reply, cx.clients);
            }
        }
        Deed::Publish(kind) => {
            propagate_publish(key, kind, args, cx);
            let (sum, is_ahead) = publish(kind, args.at(0), args.at(1), cx.env.instance, cx.post);
            reply.integer(sum as i64);
            if is_ahead && let Some(client) = cx.clients.get_mut(key) {
                client.is_ahead = true;
                cx.clients.ahead.push(key);
            }
        }
    }
    if let Some(client) = cx.clients.get_mut(key) {
        // What it is told in a transaction comes with the transaction's reply, and before any message.
        client.replies.fence_pushes();
    }
    Ok(Effect::Read)
}

/// Tells a client that it has subscribed, or that it has not any more: to what, and how much is left.
fn confirm(
    key: ClientKey,
    (begins, kind): (bool, Kind),
    name: Option<&[u8]>,
    reply: &mut Reply,
    clients: &Clients,
) {
    let word: &[u8] = match (begins, kind) {
        (true, Kind::Channel) => b"subscribe",
        (true, Kind::Pattern) => b"psubscribe",
        (true, Kind::Shard) => b"ssubscribe",
        (false, Kind::Channel) => b"unsubscribe",
        (false, Kind::Pattern) => b"punsubscribe",
        (false, Kind::Shard) => b"sunsubscribe",
    };
    let told = clients.get(key).map_or(0, |client| client.session.subscribed.told(kind));
    head(reply, 3);
    reply.bulk(word);
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.integer(told.into());
}

/// Sends a message to all shards with subscribers. Returns how many clients get it, and whether one of
/// the shards has so much to send to its clients that no more should be published for now.
fn publish(
    kind: Kind,
    channel: &[u8],
    payload: &[u8],
    instance: &Instance,
    post: &mut Post,
) -> (u64, bool) {
    let reached = instance.subscriptions.reach(kind, channel);
    if reached.is_empty() {
        return (0, false);
    }
    let mut text = Vec::with_capacity(channel.len() + payload.len());
    text.extend_from_slice(channel);
    text.extend_from_slice(payload);
    let (text, split) = (Bytes::from(text), channel.len());
    let (mut sum, mut is_ahead) = (0, false);
    for (shard, count) in reached {
        sum += count;
        let weight = count * (text.len() + MESSAGE_BYTES) as u64;
        is_ahead |= instance.subscriptions.add_to_backlog(shard, weight);
        let publication = Publication { kind, text: text.clone(), split, weight };
        post.say(shard, Message::Publish(publication));
        post.hold_input_if_full(shard);
    }
    (sum, is_ahead)
}

/// What a message has beside its channel and its payload, about.
const MESSAGE_BYTES: usize = 32;

/// The place where a message that is published goes into the stream that replicas follow.
fn propagate_publish(key: ClientKey, kind: Kind, args: &Args, cx: &mut Context) {
    let db = cx.clients.get(key).map_or(0, |client| client.session.db);
    let name: &[u8] = if kind == Kind::Shard { b"SPUBLISH" } else { b"PUBLISH" };
    cx.journal_command(db, &[name, args.at(0), args.at(1)]);
}

impl Node {
    /// Runs a command of pub/sub.
    pub(super) fn pubsub(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        command: &'static Command,
        deed: Deed,
        args: &Args,
    ) {
        let mut out = ReplyBuf::default();
        self.coordinate(|_, cx| run_session(key, command, args, &mut out, cx));
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        // What tells of subscriptions comes like the messages, wanted or not.
        let mode = if let Deed::Publish(_) = deed { mode } else { ReplyMode::On };
        client.replies.now(mode, |to| to.append(&out, 0, out.mark()));
        client.replies.fence_pushes();
    }

    /// Follows `notify-keyspace-events`.
    pub(super) fn follow_events(&mut self) {
        self.events = self.config.notify_keyspace_events();
        let classes = Classes::of(self.events);
        self.is_listening = classes != Classes::NONE;
        self.participant.shard.listen(classes);
    }

    /// Publishes what has happened to keys here.
    #[cold]
    pub(super) fn tell_events(&mut self) {
        let Node { participant, post, instance, events, .. } = self;
        let is_heard = instance.subscriptions.len(Kind::Channel) > 0
            || instance.subscriptions.len(Kind::Pattern) > 0;
        participant.shard.take_events(|event, db, key| {
            if is_heard {
                notify(*events, event, db, key, instance, post);
            }
        });
    }

    /// Whether clients have got messages that they are not sent this turn.
    pub fn owes_pushes(&self) -> bool {
        !self.clients.pushed.is_empty()
    }

    /// Clients have been named to be sent to: if those were all that have got messages, nothing that has
    /// been published waits here any more.
    pub(super) fn settle_backlog(&mut self) {
        if self.clients.pushed.is_empty() {
            let heard = self.clients.take_heard();
            if heard > 0 {
                self.instance.subscriptions.take_from_backlog(self.number, heard);
            }
        }
    }
}

/// Publishes one event: in the channel of the key, and in that of the event.
fn notify(
    events: KeyspaceEvents,
    event: Event,
    db: usize,
    key: &[u8],
    instance: &Instance,
    post: &mut Post,
) {
    let name = event.name().as_bytes();
    for (channel, of, payload) in
        [(KeyspaceEvents::KEYSPACE, key, name), (KeyspaceEvents::KEYEVENT, name, key)]
    {
        if events.0 & channel != 0 {
            let space = if channel == KeyspaceEvents::KEYSPACE { "keyspace" } else { "keyevent" };
            let mut text = format!("__{space}@{db}__:").into_bytes();
            text.extend_from_slice(of);
            publish(Kind::Channel, &text, payload, instance, post);
        }
    }
}

//! A shard's clients, and what is due to them: replies to be sent, input that may go on.

use super::client::ClientKey;
use super::client::{Client, Replies};
use super::message::Claim;
use super::pubsub::Subscriptions;
use crate::resp::{Parser, ReplyBuf};
use crate::session::{Close, Session};
use slab::Slab;
use std::collections::VecDeque;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Clients {
    pub(super) slab: Slab<Client>,
    generation: u32,
    /// Clients with something to send, or to be closed.
    dirty: Vec<ClientKey>,
    /// Clients whose input goes on: what it waited for is over.
    resumed: Vec<ClientKey>,
    /// Clients whose next command waits for the end of a CLIENT PAUSE, in the order they came.
    postponed: Vec<ClientKey>,
    /// How many wait in a command.
    pub(super) waiting: usize,
    /// How many of them watch keys.
    watching: u64,
    /// What they have subscribed to.
    pub(super) subscriptions: Subscriptions,
    /// Clients with messages to be sent, the longest waiting first.
    pub(super) pushed: VecDeque<ClientKey>,
    /// Clients that have published more than can be sent for now.
    pub(super) ahead: Vec<ClientKey>,
}

impl Clients {
    /// Takes in a client.
    pub(super) fn insert(&mut self, session: Session) -> ClientKey {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let index = self.slab.insert(Client {
            session,
            parser: Parser::default(),
            replies: Replies::default(),
            queue: None,
            outlet: None,
            is_lent: false,
            is_overdrawn: false,
            held: false,
            catches_up: false,
            runs_at: 0,
            is_halted: false,
            is_ahead: false,
            generation,
            is_dirty: false,
            is_pushed: false,
            subscriptions: None,
        });
        ClientKey { index: index as u32, generation }
    }

    /// Lets go of a client that is still there.
    pub(super) fn remove(&mut self, key: ClientKey) -> Option<Client> {
        self.get(key)?;
        let client = self.slab.remove(key.index as usize);
        if client.session.postponed {
            self.postponed.retain(|other| *other != key);
        }
        self.waiting -= usize::from(client.session.waits);
        Some(client)
    }

    /// A client that is still there.
    #[inline]
    pub(super) fn get(&self, key: ClientKey) -> Option<&Client> {
        self.slab.get(key.index as usize).filter(|client| client.generation == key.generation)
    }

    /// A client that is still there.
    #[inline]
    pub(super) fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        let client = self.slab.get_mut(key.index as usize)?;
        (client.generation == key.generation).then_some(client)
    }

    /// A client that is known to be there.
    ///
    /// # Panics
    /// When it is not.
    #[inline]
    pub(super) fn at(&mut self, key: ClientKey) -> &mut Client {
        &mut self.slab[key.index as usize]
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The names of all of them.
    pub(super) fn keys(&self) -> impl Iterator<Item = ClientKey> {
        self.slab
            .iter()
            .map(|(index, client)| ClientKey { index: index as u32, generation: client.generation })
    }

    /// All of them.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slab.iter().map(|(_, client)| client)
    }

    /// All sessions.
    pub(super) fn sessions(&mut self) -> impl Iterator<Item = &mut Session> {
        self.slab.iter_mut().map(|(_, client)| &mut client.session)
    }

    /// The number that a client is known by; 0 when it has gone.
    pub(super) fn session_id(&self, key: ClientKey) -> u64 {
        self.get(key).map_or(0, |client| client.session.id)
    }

    // ---- what is to be sent ------------------------------------------------------------------

    /// Notes that a client has something to send, or is to be closed.
    #[inline]
    pub(super) fn mark_dirty(&mut self, key: ClientKey) {
        if let Some(client) = self.slab.get_mut(key.index as usize)
            && !client.is_dirty
        {
            client.is_dirty = true;
            self.dirty.push(key);
        }
    }

    /// Notes every client that somebody has decided to close.
    pub(super) fn mark_closing(&mut self) {
        for (index, client) in &mut self.slab {
            if client.session.close != Close::No && !client.is_dirty {
                client.is_dirty = true;
                self.dirty.push(ClientKey { index: index as u32, generation: client.generation });
            }
        }
    }

    /// The clients that have something to send now or are to be closed, each once.
    pub(super) fn take_dirty(&mut self, into: &mut Vec<ClientKey>) {
        into.clear();
        std::mem::swap(&mut self.dirty, into);
        for _ in 0..self.pushes_due() {
            let Some(key) = self.pushed.pop_front() else { break };
            if let Some(client) = self.get_mut(key) {
                client.is_pushed = false;
                if !client.is_dirty {
                    into.push(key);
                }
            }
        }
        into.retain(|key| {
            self.get_mut(*key).is_some_and(|client| {
                client.is_dirty = false;
                !client.gathers()
            })
        });
    }

    /// Hands a client a reply it was promised, and lets its input go on if that waited for it.
    pub(super) fn keep_promise(
        &mut self,
        key: ClientKey,
        seq: u32,
        from: &ReplyBuf,
        range: (usize, usize),
    ) {
        if let Some(client) = self.get_mut(key) {
            let mut goes_on = false;
            client.replies.keep(seq, from, range);
            if client.is_overdrawn && !client.replies.owes_too_many() {
                client.is_overdrawn = false;
                goes_on = true;
            }
            if client.catches_up && client.replies.outstanding() == 0 {
                client.catches_up = false;
                goes_on = true;
            }
            if goes_on {
                self.resumed.push(key);
            }
            self.mark_dirty(key);
        }
    }

    /// Hands a client bytes beside its replies, if it is still what it gets them as.
    pub(super) fn push(&mut self, key: ClientKey, claim: Claim, bytes: &bytes::Bytes) {
        let Some(client) = self.get_mut(key) else {
            return;
        };
        let entitled = match claim {
            Claim::Monitor => client.session.monitor,
        };
        if entitled && client.push_line(bytes) {
            self.mark_dirty(key);
        }
    }

    // ---- whose input goes on -----------------------------------------------------------------

    /// Lets a client's input go on.
    pub(super) fn resume(&mut self, key: ClientKey) {
        self.resumed.push(key);
    }

    /// The clients whose input may go on.
    pub(super) fn take_resumed(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.resumed)
    }

    /// Notes a client whose next command waits for the end of a pause.
    pub(super) fn postpone(&mut self, key: ClientKey) {
        self.postponed.push(key);
    }

    /// How many clients wait in a command, or for the end of a pause.
    pub(super) fn blocked(&self) -> usize {
        self.waiting + self.postponed.len()
    }

    /// Lets everybody go on who waited for the end of a pause, in the order they came.
    pub(super) fn resume_postponed(&mut self, now_ms: i64) {
        for key in std::mem::take(&mut self.postponed) {
            if let Some(client) = self.get_mut(key) {
                client.session.postponed = false;
                // It was not idle, though it said nothing.
                client.session.active_ms = now_ms;
                self.resumed.push(key);
            }
        }
    }

    // ---- who watches -------------------------------------------------------------------------

    /// How many clients watch keys.
    pub(super) fn watching(&self) -> u64 {
        self.watching
    }

    /// A client begins to watch keys, having watched none.
    pub(super) fn begins_watching(&mut self) {
        self.watching += 1;
    }

    /// A client watches no key any more.
    pub(super) fn ends_watching(&mut self) {
        self.watching = self.watching.saturating_sub(1);
    }
}

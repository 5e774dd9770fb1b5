//! A lone reply leaves from the shard that made it.
//!
//! A client that waits for each reply before it sends its next command has one command under way.
//! If that crosses to another shard, the reply need not come back first: the shard that made it
//! hands it to the client's socket, and the answer, which settles the promise, follows without
//! waking anybody. That spares the client the way back, and its shard being woken, which costs more
//! than all the rest of the command (two shards on two virtual cores that the load shares, pipeline
//! 1, 50 clients, half of all keys crossing: 21 % less processor time per command, 15 % more
//! commands). A wake across cores of a virtual machine took 9 to 19 us of the waker's time there,
//! and the woken shard another 4 to 15; on one core 3.7 us in all.
//!
//! What makes it safe:
//! 1. **Order.** An outlet is lent only by a client of whom nothing is being sent and nothing is
//!    ready to be ([`Replies::lone`](super::client::Replies), [`Client::outlet`]); whatever becomes
//!    ready later stands behind the promise until the answer is back.
//! 2. **Publication** (rule 1 of [`super`]). A departure is taken when its turn is visible, like any
//!    reply of that turn.
//! 3. **Lifetime.** What the outlet names stays open until the outlet is back, even if the client
//!    is gone before ([`Node::take_returned`]).
//! 4. **Liveness.** A shard that has something standing behind a lent outlet waits
//!    [eagerly](Waiting::Eagerly). What did not leave as a whole goes back loudly.
//!
//! A batch departs as a whole or not at all: one that carries anything else goes back at once.

use super::batch::Batch;
use super::client::{Client, ClientKey, Outlet};
use super::mailbox::Waiting;
use super::message::Message;
use super::node::Node;
use super::rules::{Rule, broken};
use crate::session::Close;

/// What a node knows of lent outlets, its own and others'.
#[derive(Debug, Default)]
pub(super) struct Departures {
    /// Batches of others that have run, and whose replies leave from here once the turn is visible.
    ready: Vec<Box<Batch>>,
    /// Outlets of clients here that other shards may be using.
    lent: usize,
    /// Whether something may stand behind one of them.
    is_eager: bool,
    /// Outlets that are back and whose clients have gone.
    returned: Vec<Outlet>,
}

impl Departures {
    pub(super) fn add(&mut self, batch: Box<Batch>) {
        self.ready.push(batch);
    }

    /// Whether nothing is lent or about to leave.
    pub(super) fn is_idle(&self) -> bool {
        self.lent == 0 && self.ready.is_empty() && self.returned.is_empty()
    }

    #[cfg(test)]
    pub(super) fn lent(&self) -> usize {
        self.lent
    }
}

impl Batch {
    /// Whether all that is in it is lone replies, made and short enough to be copied, and nothing that
    /// is to be logged at home before the client goes on.
    pub(super) fn may_depart(&self) -> bool {
        let is_made =
            |item: &Message| matches!(item, Message::Run(run) if !run.late && !run.is_notable);
        !self.outlets.is_empty()
            && self.outlets.len() == self.items.len()
            && self.replies.attached().is_empty()
            && self.items.iter().all(is_made)
    }

    /// Lets its replies leave: `send` says how many bytes of each need not be sent any more.
    pub fn depart(&mut self, mut send: impl FnMut(ClientKey, Outlet, &[u8]) -> usize) {
        self.is_quiet = true;
        for (item, outlet) in self.items.iter_mut().zip(&self.outlets) {
            let Message::Run(run) = item else { continue };
            let reply = &self.replies.bytes()[run.reply.0..run.reply.1];
            run.sent = send(run.client, *outlet, reply).min(reply.len());
            self.is_quiet &= run.sent == reply.len();
        }
    }
}

impl Client {
    /// Whether it may lend its outlet, for the reply that it has been promised.
    fn may_lend(&self, seq: u32) -> bool {
        (broken(Rule::Lone) || self.replies.lone() == Some(seq))
            && self.session.close == Close::No
            && !self.session.monitor
            && self.session.subscribed.is_empty()
    }
}

impl Node {
    /// After a client has been fed: lends its outlet, if all it waits for is one reply from one
    /// other shard.
    #[inline]
    pub(super) fn lend_outlet(&mut self, key: ClientKey) {
        if self.crossed.is_none() && self.departures.lent == 0 {
            return;
        }
        let (crossed, lends) = (self.crossed, self.lends_outlets());
        let Node { clients, post, departures, .. } = self;
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        if client.is_lent {
            departures.is_eager |= client.replies.outstanding() > 1;
            return;
        }
        let Some(to) = crossed.filter(|_| lends) else { return };
        let batch = post.mail.batch(to);
        if let Some(outlet) = client.outlet
            && let Some(Message::Run(run)) = batch.items.last()
            && run.client == key
            && batch.outlets.len() + 1 == batch.items.len()
            && client.may_lend(run.seq)
        {
            batch.outlets.push(outlet);
            client.is_lent = true;
            departures.lent += 1;
        }
    }

    /// Batches whose replies leave from here, each by [`Batch::depart`]. To be taken when the turn
    /// is visible, and each given to [`Node::departed`] afterwards.
    pub fn take_departures(&mut self) -> Vec<Box<Batch>> {
        std::mem::take(&mut self.departures.ready)
    }

    /// Sends a batch back whose replies have left. It is posted by the next [`Node::end_turn`].
    pub fn departed(&mut self, batch: Box<Batch>) {
        self.post.mail.answer(batch);
    }

    /// An answer has brought outlets back.
    #[inline]
    pub(super) fn take_outlets_back(&mut self, batch: &Batch) {
        for (item, outlet) in batch.items.iter().zip(&batch.outlets) {
            let Message::Run(run) = item else { continue };
            self.departures.lent -= 1;
            match self.clients.get_mut(run.client) {
                Some(client) => {
                    client.is_lent = false;
                    client.session.traffic.sent += run.sent as u64;
                }
                None => self.departures.returned.push(*outlet),
            }
        }
        if self.departures.lent == 0 {
            self.departures.is_eager = false;
        }
    }

    /// Outlets of clients that had gone before: nobody else uses them any more.
    pub fn take_returned(&mut self) -> Vec<Outlet> {
        std::mem::take(&mut self.departures.returned)
    }

    /// How this shard waits, if it does.
    pub fn waiting(&self) -> Waiting {
        if self.departures.is_eager { Waiting::Eagerly } else { Waiting::Lazily }
    }
}

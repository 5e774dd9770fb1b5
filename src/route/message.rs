//! What shards say to each other, a shard to itself included: one language, carried by batches.

use super::client::ClientKey;
use super::execute::Step;
use super::pubsub::Publication;
use crate::base::error::Error;
use crate::command::persistence::Request;
use crate::command::{Call, Command, Gather, Handler, SessionsHandler};
use crate::resp::{Args, ReplyBuf, Span};
use crate::session::Watch;
use crate::shard::caller::Caller;
use crate::shard::journal::{Chunk, Scope};
use crate::shard::locks::{TxnId, Wants};
use bytes::Bytes;

/// One thing said. Their order in a batch is the order in which the sender's clients said them.
#[derive(Debug)]
pub enum Message {
    /// A command for the receiver to run; answered in the same batch.
    Run(RunItem),
    /// The reply to a command of an earlier batch that had to wait: its place in this batch's own
    /// replies.
    Late(ClientKey, u32, (usize, usize)),
    /// Coordinator to participant: lock, perhaps run.
    Ask(Box<Ask>),
    /// Coordinator to the shard that leads: what is to be asked of whom, in the one order that all
    /// shards lock in while another server is followed.
    Relay(Vec<(usize, Box<Ask>)>),
    /// Participant to coordinator: locked (and run), or refused.
    Verdict(Box<Verdict>),
    /// Coordinator to participant, which holds locks for it: run, perhaps release.
    Do(Box<Do>),
    /// Participant to coordinator: what running gave.
    Done(TxnId, Box<Results>),
    /// A client of the sender no longer watches a key.
    Unwatch(Watch),
    /// Bytes for a client beside its replies. Shared, not copied: several clients get the same, and
    /// it may be longer than a batch should be.
    Push(ClientKey, Claim, Bytes),
    /// Something has been published, for those of the receiver's clients that have subscribed to it.
    Publish(Publication),
    /// Something is asked of the server as a whole, by a client that waits for the answer, or by one
    /// that does not. To the shard that leads.
    Request(Request, Option<Asker>),
    /// The answer, to the client's shard.
    Answer(Asker, Result<Said, Error>),
    /// What the server has begun by itself is over. To the shard that has begun it.
    Concluded(Result<(), Error>),
    /// What a turn of the sender has journaled. To the shard that leads, the last in its batch.
    Journal(Box<Chunk>),
    /// Coordinator to its own shard: all locks of a transaction are held, by so many parties. Its
    /// place in the stream is here.
    Announce(TxnId, u32),
    /// To the sender's own shard: a command that changes no data is journaled, in a database.
    Also(Scope, usize, Vec<Box<[u8]>>),
    /// A command that had waited took long, in ticks: the client's shard logs it.
    Slow(ClientKey, u64, Box<Call>),
}

/// What the server answers who has asked it something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A line.
    Line(&'static str),
    /// An error, after which the connection is closed.
    Parting(&'static str),
    /// How many clients it was about.
    Count(i64),
    /// What WAIT has come to: the offset it was about, how many replicas have acknowledged that, and
    /// with WAITAOF how many logs of this server's own hold it.
    Waited {
        /// The offset.
        offset: u64,
        /// The replicas.
        replicas: i64,
        /// The logs.
        logs: Option<i64>,
    },
}

/// Who waits for an answer of the server.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The shard of the client.
    pub shard: usize,
    /// The client.
    pub client: ClientKey,
    /// Which of its promised replies the answer makes.
    pub seq: u32,
    /// What it has asked with.
    pub command: &'static Command,
    /// When, as a reading of [`crate::base::ticks`].
    pub began: u64,
}

/// A command for the receiver to run; see [`Message::Run`].
#[derive(Debug)]
pub struct RunItem {
    /// Whose it is.
    pub client: ClientKey,
    /// Which of the client's promised replies this makes.
    pub seq: u32,
    /// Its circumstances.
    pub caller: Caller,
    /// Whether the reply will come later, in a [`Message::Late`]: the command waits for a lock.
    pub late: bool,
    /// The command.
    pub command: &'static Command,
    /// The hash of its first key.
    pub hash: u64,
    /// Its arguments: the first span and how many.
    pub args: (u32, u32),
    /// Once it has run: where its reply lies.
    pub reply: (usize, usize),
    /// Once it has left where it was made: bytes of it that need not be sent any more.
    pub sent: usize,
    /// Once it has run: how long that took, in [`crate::base::ticks`].
    pub ticks: u64,
    /// Once it has run: whether its shard will look at it twice. Then the reply leaves from there, or
    /// the client's next command could be logged before it.
    pub is_notable: bool,
}

/// As what a client gets a [`Message::Push`]: who has ceased to be that gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It monitors.
    Monitor,
}

/// A command that is to run later on this shard: it waits, with all that it takes to run it and to
/// answer it then.
#[derive(Debug)]
pub struct Pending {
    /// The shard of its client.
    pub from: usize,
    /// The client.
    pub client: ClientKey,
    /// Which of its promised replies this makes.
    pub seq: u32,
    /// Its circumstances.
    pub caller: Caller,
    /// The command and its arguments.
    pub call: Box<Call>,
}

/// What waits for locks on a shard.
#[derive(Debug)]
pub enum Waiter {
    /// A command.
    Command(Pending),
    /// The request of a transaction.
    Ask(Box<Ask>),
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
    pub checks: Vec<Watch>,
    /// The flags of all its commands together: what the participant judges it by, once and for all.
    pub flags: u32,
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
    /// What became of the request.
    pub answer: Answer,
}

/// What became of an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// The locks are held (or were, if they were to be released at once); this is what running gave.
    Granted(Results),
    /// The locks are held, and nothing has run: a watched key had changed.
    Changed,
    /// The locks are held, and nothing has run: this shard may not run such commands now.
    Refused(Error),
    /// Somebody else holds a lock, and the request was not to wait.
    Busy,
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
    /// Whether the transaction has been announced ([`Message::Announce`]).
    pub is_announced: bool,
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
    /// Once for each of the keys that are here, each with the arguments that belong to it.
    Each(Handler, Gather),
    /// Something on this shard's sessions, for a session elsewhere.
    Sessions(SessionsHandler, u64),
    /// Begins to watch keys; replies with their versions, 8 bytes each.
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
    /// Its circumstances.
    pub caller: Caller,
    args: (u32, u32),
}

impl Unit {
    /// A part; [`Work::add`] gives it its arguments.
    pub fn new(
        call: usize,
        part: usize,
        act: Act,
        command: &'static Command,
        caller: Caller,
    ) -> Unit {
        Unit { call: call as u32, part: part as u32, act, command, caller, args: (0, 0) }
    }
}

impl Work {
    /// Adds a part with its arguments.
    pub fn add<'a>(&mut self, mut unit: Unit, args: impl Iterator<Item = &'a [u8]>) {
        unit.args = (self.spans.len() as u32, 0);
        self.units.push(unit);
        self.extend(args);
    }

    /// Adds arguments to the part that was added last.
    pub fn extend<'a>(&mut self, args: impl Iterator<Item = &'a [u8]>) {
        let before = self.spans.len();
        for arg in args {
            self.spans.push(Span { at: self.bytes.len() as u32, len: arg.len() as u32 });
            self.bytes.extend_from_slice(arg);
        }
        if let Some(unit) = self.units.last_mut() {
            unit.args.1 += (self.spans.len() - before) as u32;
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// A part's arguments.
    pub fn args(&self, unit: &Unit) -> Args<'_> {
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
    /// Where each key's reply ends, for parts of several keys whose replies are kept apart.
    pub ends: Vec<usize>,
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
    /// The first of its keys' ends in [`Results::ends`].
    pub ends: usize,
    /// Whether it is an error.
    pub failed: bool,
    /// How long it took, in [`crate::base::ticks`].
    pub ticks: u64,
}

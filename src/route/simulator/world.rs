//! The world: shards whose turns are cut into steps, connections whose bytes are under way, one
//! logical clock, and dice that say who moves next. Everything that happens follows from the seed.

use super::super::client::{ClientKey, Outlet};
use super::super::feed::Fed;
use super::super::gate::{self, Exit};
use super::super::mailbox;
use super::super::node::Node;
use super::super::rules::{self, Rule};
use super::super::stream::Merged;
use crate::base::clock::Now;
use crate::base::hash::Random;
use crate::command::Command;
use crate::command::persistence::CUT_AND_JOURNAL;
use crate::config::Config;
use crate::instance::{Identity, Instance};
use crate::session::About;
use crate::shard::entry::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What is done wrong on purpose: a rule of the router, or one that whoever runs the turns keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// See [`Rule`].
    Router(Rule),
    /// Each batch of a turn becomes visible as soon as it is posted.
    PublishTogether,
    /// Replies of a turn go out before its batches are visible.
    PublishBeforeReplies,
    /// Lone replies leave before their turn is visible.
    PublishBeforeDepartures,
    /// A connection does not wait for its outlet to be back.
    ReleaseLent,
    /// Own-shard commands of a pipeline wait until what comes back has been taken.
    OwnAtOnce,
    /// Replies go out before what they tell of is safe, though that has been promised.
    Gate,
    /// What expires on the way of a transaction over several shards stands outside its group.
    AsidesApart,
}

/// What has happened, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Steps of turns.
    pub steps: u64,
    /// Turns.
    pub turns: u64,
    /// Pauses in the middle of a turn.
    pub stalls: u64,
    /// Turns after which something was not visible yet, because a queue was full.
    pub spilled: u64,
    /// Commands sent.
    pub commands: u64,
    /// Lone replies that left from the shard that made them.
    pub departed: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Times that something journaled had to wait in the merge.
    pub merges_held: u64,
}

impl Counts {
    /// Adds another world's numbers.
    pub fn add(&mut self, other: &Counts) {
        self.steps += other.steps;
        self.turns += other.turns;
        self.stalls += other.stalls;
        self.spilled += other.spilled;
        self.commands += other.commands;
        self.departed += other.departed;
        self.snapshots += other.snapshots;
        self.merges_held += other.merges_held;
    }
}

/// The next step of a shard's turn, in the order of `server::shard_loop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Input,
    Begin,
    Collect,
    Mail,
    Feed,
    Resumed,
    Stamp,
    Post,
    Publish,
    Depart,
    Send,
}

#[derive(Debug)]
struct Actor {
    node: Node,
    at: At,
    stalled_until: u64,
    /// Shards still to be collected from, or posted to, this turn.
    peers: Vec<usize>,
    /// Connections still to be fed this turn.
    feeds: VecDeque<usize>,
    /// Connections that have more to run next turn.
    ready: Vec<usize>,
    /// Clients still to be sent their replies this turn.
    dirty: Vec<ClientKey>,
    /// When the turn began, and its stamp.
    began: u64,
    stamp: u64,
    /// What it has journaled, turn by turn, where it matters what is safe of that.
    log: Vec<(u64, Vec<u8>)>,
}

/// A client's connection, with the bytes under way in both directions.
#[derive(Debug)]
struct Connection {
    shard: usize,
    /// Gone once its shard has noticed that it hung up.
    key: Option<ClientKey>,
    hung_up: bool,
    /// Sent by the client and not received.
    inbound: Vec<u8>,
    /// What [`Break::OwnAtOnce`] holds back.
    withheld: Vec<u8>,
    /// Received and not executed.
    kept: Vec<u8>,
    /// Sent by the shard and not received.
    outbound: Vec<u8>,
    exit: Option<Box<Exit>>,
    /// Its shard has noticed that it hung up while its outlet was lent: the number may not be used
    /// again before that is back.
    is_lent: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct World {
    /// The dice.
    pub random: Random,
    /// What has happened.
    pub counts: Counts,
    /// Counts events: the time that nobody in the world can read.
    pub time: u64,
    actors: Vec<Actor>,
    connections: Vec<Connection>,
    clock: u64,
    /// How many milliseconds pass between two readings of the clock.
    ms_per_reading: i64,
    /// What is to be sent to replicas.
    stream: Vec<Merged>,
    /// The stamp up to which everything is safe, if clients are promised to be told of nothing else.
    safe: Option<u64>,
    broken: Option<Break>,
    /// One step in so many is followed by a pause.
    stall_one_in: u64,
    /// The longest pause.
    stall_most: u64,
}

impl World {
    /// So many shards, with empty databases.
    pub fn new(shards: usize, seed: u64, broken: Option<Break>) -> World {
        let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5EED);
        for _ in 0..4 {
            random.next_u64();
        }
        rules::break_rule(match broken {
            Some(Break::Router(rule)) => Some(rule),
            _ => None,
        });
        let identity =
            Identity { run_id: "0".repeat(40), started_us: 0, executable: String::new() };
        let instance = Arc::new(Instance::new(
            Config::default(),
            shards,
            crate::command::all().len(),
            identity,
        ));
        // From queues that nothing fits into to ones that are never full.
        let batches = mailbox::PART << random.below(5);
        let actors = mailbox::exchange(shards, batches).into_iter().enumerate();
        let actors = actors
            .map(|(number, mail)| {
                let mut node = Node::new(number, mail, Arc::clone(&instance));
                node.shard().set_journal_on(true);
                node.shard().journal().asides_apart = broken == Some(Break::AsidesApart);
                Actor {
                    node,
                    at: At::Input,
                    stalled_until: 0,
                    peers: Vec::new(),
                    feeds: VecDeque::new(),
                    ready: Vec::new(),
                    dirty: Vec::new(),
                    began: 0,
                    stamp: 0,
                    log: Vec::new(),
                }
            })
            .collect();
        // From many short pauses to a few that outlast several turns of everybody else.
        let (stall_one_in, stall_most) = (3 + random.below(120), 10 + random.below(1_000));
        World {
            random,
            counts: Counts::default(),
            time: 0,
            actors,
            connections: Vec::new(),
            clock: 1,
            ms_per_reading: 0,
            stream: Vec::new(),
            safe: None,
            broken,
            stall_one_in,
            stall_most,
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.actors.len()
    }

    /// One of them.
    pub fn node(&mut self, shard: usize) -> &mut Node {
        &mut self.actors[shard].node
    }

    /// Lets time pass, and keys expire, by commands and by housekeeping.
    pub fn let_time_pass(&mut self) {
        self.ms_per_reading = 1 + self.random.below(8) as i64;
    }

    /// A reading of the clock: larger than every earlier one.
    fn read_clock(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    // ---- what is safe -------------------------------------------------------------------------

    /// Promises clients that what they are told of is safe, from now on.
    pub fn promise_safety(&mut self) {
        self.safe = Some(0);
        self.actors.iter_mut().for_each(|actor| actor.node.gate().ask_for_safety());
    }

    /// Everything that can be is safe now: what no shard can still add to.
    fn make_safe(&mut self) {
        let Some(safe) = &mut self.safe else { return };
        let clock = self.clock;
        let bounds = self.actors.iter().map(|actor| match actor.at {
            At::Input | At::Begin => clock,
            _ => actor.began - 1,
        });
        *safe = bounds.min().unwrap_or(clock);
    }

    /// How many keys have a value that is safe, as the journals tell.
    pub fn safe_copies(&self, value: &str) -> usize {
        let (safe, word) = (self.safe.unwrap_or(u64::MAX), format!("\r\n{value}\r\n"));
        let logs = self.actors.iter().flat_map(|actor| &actor.log);
        let safe = logs.filter(|(stamp, _)| *stamp <= safe);
        safe.map(|(_, text)| memchr::memmem::find_iter(text, &word).count()).sum()
    }

    /// What has left for the replicas.
    pub fn stream(&self) -> &[Merged] {
        &self.stream
    }

    // ---- clients' side -----------------------------------------------------------------------

    /// A client connects to a shard.
    pub fn connect(&mut self, shard: usize) -> usize {
        let key = self.actors[shard].node.connect(About::default());
        self.connections.push(Connection {
            shard,
            key: Some(key),
            hung_up: false,
            inbound: Vec::new(),
            withheld: Vec::new(),
            kept: Vec::new(),
            outbound: Vec::new(),
            exit: None,
            is_lent: false,
        });
        self.connections.len() - 1
    }

    /// A client hangs up. What it has sent may still be received, or not.
    pub fn hang_up(&mut self, connection: usize) {
        let connection = &mut self.connections[connection];
        connection.hung_up = true;
        let left = self.random.below(connection.inbound.len() as u64 + 1);
        connection.inbound.truncate(left as usize);
        connection.outbound.clear();
    }

    /// Whether commands are to be reordered before they are sent ([`World::withholds`]).
    pub fn reorders(&self) -> bool {
        self.broken == Some(Break::OwnAtOnce)
    }

    /// Whether [`Break::OwnAtOnce`] holds this command back.
    pub fn withholds(&self, connection: usize, owner: Option<usize>) -> bool {
        self.reorders() && owner == Some(self.connections[connection].shard)
    }

    /// A client sends a command.
    pub fn send(&mut self, connection: usize, command: &[u8], withheld: bool) {
        self.counts.commands += 1;
        let connection = &mut self.connections[connection];
        if withheld {
            connection.withheld.extend_from_slice(command);
        } else {
            connection.inbound.extend_from_slice(command);
        }
    }

    /// A client receives some of what is under way to it.
    pub fn receive(&mut self, connection: usize, into: &mut Vec<u8>) {
        let outbound = &mut self.connections[connection].outbound;
        let most = outbound.len();
        let some = if self.random.below(3) > 0 {
            most
        } else {
            self.random.below(most as u64 + 1) as usize
        };
        into.extend(outbound.drain(..some));
    }

    // ---- snapshots ---------------------------------------------------------------------------

    /// Lets the first shard begin a snapshot of all, if it is where it might. Returns whether it does.
    pub fn begin_cut(&mut self) -> bool {
        self.begin_inner(&CUT_AND_JOURNAL)
    }

    /// Lets the first shard begin a command of its own on all, likewise.
    pub fn begin_inner(&mut self, command: &'static Command) -> bool {
        if self.actors[0].at != At::Stamp {
            return false;
        }
        self.actors[0].node.begin_inner(command);
        true
    }

    /// Whether that is over.
    pub fn has_concluded(&mut self) -> bool {
        let concluded = self.actors[0].node.take_concluded();
        concluded.is_some_and(|result| result.is_ok())
    }

    /// Whether a shard's snapshot has not been read to its end.
    pub fn is_in_snapshot(&mut self, shard: usize) -> bool {
        self.actors[shard].node.shard().is_in_snapshot()
    }

    /// Reads some more of a shard's snapshot.
    pub fn read_snapshot(&mut self, shard: usize, into: &mut Data) -> bool {
        self.actors[shard].node.shard().snapshot_step(|db, entry| add_entry(into, db, entry))
    }

    /// All keys of all shards.
    pub fn data(&mut self) -> Data {
        let mut data = Data::new();
        for actor in &mut self.actors {
            let shard = actor.node.shard();
            for db in 0..shard.databases() {
                shard.visit_all(db, |entry| add_entry(&mut data, db, entry));
            }
        }
        data
    }

    /// The time on the wall, in milliseconds.
    pub fn now_ms(&self) -> i64 {
        START_MS + self.clock as i64 * self.ms_per_reading
    }

    // ---- who moves next ----------------------------------------------------------------------

    /// A shard that is not paused, if the dice find one.
    pub fn pick_shard(&mut self) -> Option<usize> {
        let shard = self.random.below(self.actors.len() as u64) as usize;
        (self.actors[shard].stalled_until <= self.time).then_some(shard)
    }

    /// One step of a shard, and perhaps a pause after it.
    pub fn step(&mut self, shard: usize) {
        if self.safe.is_some() && self.random.below(60) == 0 {
            self.make_safe();
        }
        self.advance(shard);
        if self.random.below(self.stall_one_in) == 0 {
            self.counts.stalls += 1;
            let pause = 1 + self.random.below(self.stall_most);
            self.actors[shard].stalled_until = self.time + pause * self.actors.len() as u64;
        }
    }

    /// A whole turn of a shard, or the rest of the one it is in.
    pub fn turn(&mut self, shard: usize) {
        self.make_safe();
        loop {
            self.advance(shard);
            if self.actors[shard].at == At::Input {
                return;
            }
        }
    }

    /// Whether a shard would not go to sleep now, as `server::shard_loop` sees it.
    pub fn is_busy(&mut self, shard: usize) -> bool {
        let received = self.connections.iter().any(|connection| {
            connection.shard == shard
                && connection.key.is_some()
                && (connection.hung_up
                    || !connection.inbound.is_empty()
                    || !connection.withheld.is_empty())
        });
        let actor = &mut self.actors[shard];
        received
            || actor.at != At::Input
            || !actor.node.gate().is_published()
            || !actor.ready.is_empty()
            || actor.node.mail().has_mail()
    }

    fn advance(&mut self, shard: usize) {
        self.counts.steps += 1;
        self.time += 1;
        let next = match self.actors[shard].at {
            At::Input => {
                self.take_input(shard);
                At::Begin
            }
            At::Begin => {
                self.counts.turns += 1;
                let monotonic_ns = self.read_clock();
                let now = Now { unix_ms: self.now_ms(), monotonic_ns };
                self.actors[shard].node.begin_turn(now);
                self.actors[shard].began = monotonic_ns;
                self.shuffle_peers(shard);
                At::Collect
            }
            At::Collect => match self.actors[shard].peers.pop() {
                Some(from) => {
                    self.actors[shard].node.collect_from(from);
                    At::Collect
                }
                None => At::Mail,
            },
            At::Mail => {
                self.actors[shard].node.run_mail();
                for Outlet(number) in self.actors[shard].node.take_returned() {
                    let connection = &mut self.connections[number as usize];
                    assert!(std::mem::take(&mut connection.is_lent), "nobody has lent that");
                }
                // What was held goes on before what has just come.
                let resumed = self.resumed(shard);
                let feeds = &mut self.actors[shard].feeds;
                for connection in resumed.into_iter().rev() {
                    feeds.push_front(connection);
                }
                At::Feed
            }
            At::Feed => match self.actors[shard].feeds.pop_front() {
                Some(connection) => {
                    self.feed(shard, connection);
                    At::Feed
                }
                None => At::Resumed,
            },
            At::Resumed => {
                for connection in self.resumed(shard) {
                    self.feed(shard, connection);
                }
                if self.ms_per_reading > 0 && self.random.below(4) == 0 {
                    self.actors[shard].node.housekeep(&mut false);
                }
                if self.broken == Some(Break::PublishBeforeReplies) {
                    self.gather_dirty(shard);
                    At::Send
                } else {
                    At::Stamp
                }
            }
            At::Stamp => {
                let clock = self.read_clock();
                let actor = &mut self.actors[shard];
                if self.safe.is_some() {
                    actor.log.push(actor.node.shard().journal().recorded());
                }
                actor.stamp = clock;
                actor.node.close_journal();
                self.shuffle_peers(shard);
                if self.actors[shard].node.mail().has_outgoing() {
                    At::Post
                } else {
                    self.published(shard, true)
                }
            }
            At::Post => {
                let together = self.broken != Some(Break::PublishTogether);
                let actor = &mut self.actors[shard];
                match actor.peers.pop() {
                    Some(to) => {
                        actor.node.post(to, actor.stamp);
                        if !together {
                            actor.node.mail().publish();
                        }
                        At::Post
                    }
                    None => At::Publish,
                }
            }
            At::Publish => {
                let visible = self.actors[shard].node.mail().publish();
                self.published(shard, visible)
            }
            At::Depart => self.depart(shard),
            At::Send => match self.actors[shard].dirty.pop() {
                Some(client) => {
                    self.send_replies(shard, client);
                    At::Send
                }
                None if self.broken == Some(Break::PublishBeforeReplies) => At::Stamp,
                None => At::Input,
            },
        };
        self.actors[shard].at = next;
    }

    fn published(&mut self, shard: usize, visible: bool) -> At {
        // Whom to wake is the ring's business; here everybody looks for himself.
        self.actors[shard].node.mail().wakes().for_each(drop);
        let actor = &mut self.actors[shard];
        actor.node.gate().turn_ended(actor.stamp, visible);
        if shard == 0 {
            actor.node.take_merged(|merged| self.stream.push(merged));
            self.counts.merges_held += u64::from(actor.node.is_merging());
        }
        self.counts.spilled += u64::from(!visible);
        if !visible && self.broken == Some(Break::PublishBeforeDepartures) {
            return At::Depart;
        }
        if !visible || self.broken == Some(Break::PublishBeforeReplies) {
            return At::Input;
        }
        At::Depart
    }

    /// Lone replies leave from the shard that made them, some of them not as a whole.
    fn depart(&mut self, shard: usize) -> At {
        let departures = self.actors[shard].node.take_departures();
        if departures.is_empty() {
            if !self.actors[shard].node.gate().is_published() {
                return At::Input;
            }
            self.gather_dirty(shard);
            return At::Send;
        }
        let World { actors, connections, random, counts, .. } = self;
        for mut batch in departures {
            batch.depart(|key, Outlet(number), reply| {
                counts.departed += 1;
                let connection = &mut connections[number as usize];
                if connection.hung_up {
                    assert!(connection.key.is_some() || connection.is_lent, "a stranger's socket");
                    return reply.len();
                }
                assert_eq!(connection.key, Some(key), "a stranger's socket");
                let some = if random.below(4) > 0 {
                    reply.len()
                } else {
                    random.below(reply.len() as u64 + 1) as usize
                };
                connection.outbound.extend_from_slice(&reply[..some]);
                some
            });
            actors[shard].node.departed(batch);
        }
        self.shuffle_peers(shard);
        At::Post
    }

    fn shuffle_peers(&mut self, shard: usize) {
        let mut peers: Vec<usize> = (0..self.actors.len()).collect();
        for i in (1..peers.len()).rev() {
            peers.swap(i, self.random.below(i as u64 + 1) as usize);
        }
        self.actors[shard].peers = peers;
    }

    fn gather_dirty(&mut self, shard: usize) {
        let mut dirty = Vec::new();
        let actor = &mut self.actors[shard];
        actor.node.take_dirty(&mut dirty);
        if let Some(safe) = self.safe {
            for key in actor.node.gate().is_safe_to(safe) {
                if !dirty.contains(&key) {
                    dirty.push(key);
                }
            }
        }
        for i in (1..dirty.len()).rev() {
            dirty.swap(i, self.random.below(i as u64 + 1) as usize);
        }
        self.actors[shard].dirty = dirty;
    }

    fn take_input(&mut self, shard: usize) {
        let World { actors, connections, random, broken, .. } = self;
        let actor = &mut actors[shard];
        actor.feeds.extend(actor.ready.drain(..));
        for (number, connection) in connections.iter_mut().enumerate() {
            let Some(key) = connection.key.filter(|_| connection.shard == shard) else {
                continue;
            };
            if connection.hung_up && connection.inbound.is_empty() {
                connection.is_lent = actor.node.client(key).is_some_and(|client| client.is_lent)
                    && *broken != Some(Break::ReleaseLent);
                actor.node.disconnect(key);
                connection.key = None;
                continue;
            }
            let some = if random.below(4) > 0 || *broken == Some(Break::OwnAtOnce) {
                connection.inbound.len()
            } else {
                random.below(connection.inbound.len() as u64 + 1) as usize
            };
            if some > 0 {
                connection.kept.extend(connection.inbound.drain(..some));
            } else if !connection.withheld.is_empty() && connection.inbound.is_empty() {
                connection.kept.append(&mut connection.withheld);
            } else {
                continue;
            }
            if !actor.feeds.contains(&number) {
                actor.feeds.push_back(number);
            }
        }
    }

    /// The connections whose clients may go on.
    fn resumed(&mut self, shard: usize) -> Vec<usize> {
        let resumed = self.actors[shard].node.take_resumed();
        resumed.into_iter().filter_map(|key| self.connection_of(shard, key)).collect()
    }

    fn connection_of(&self, shard: usize, key: ClientKey) -> Option<usize> {
        self.connections
            .iter()
            .position(|connection| connection.shard == shard && connection.key == Some(key))
    }

    fn feed(&mut self, shard: usize, number: usize) {
        let connection = &mut self.connections[number];
        let Some(key) = connection.key.filter(|_| !connection.kept.is_empty()) else {
            return;
        };
        let actor = &mut self.actors[shard];
        if let Some(client) = actor.node.client_mut(key) {
            client.outlet = Some(Outlet(number as u64));
        }
        let (used, fed) = actor.node.feed(key, &connection.kept);
        connection.kept.drain(..used);
        if fed == Fed::More && !actor.ready.contains(&number) {
            actor.ready.push(number);
        }
    }

    fn send_replies(&mut self, shard: usize, key: ClientKey) {
        let Some(number) = self.connection_of(shard, key) else {
            return;
        };
        let (node, connection) = (&mut self.actors[shard].node, &mut self.connections[number]);
        let has_no_gate = matches!(self.broken, Some(Break::PublishBeforeReplies | Break::Gate));
        let upto = match has_no_gate {
            true => usize::MAX,
            false => node.may_leave(key, &mut connection.exit),
        };
        let Some(client) = node.client_mut(key) else {
            return;
        };
        let leaving = gate::cut(&mut client.replies.out, upto);
        if !connection.hung_up {
            connection.outbound.extend_from_slice(leaving.bytes());
        }
        if let Some(exit) = &mut connection.exit {
            exit.left(leaving.mark());
        }
    }

    // ---- the end -----------------------------------------------------------------------------

    /// What is left behind although nobody has anything to do: there must be nothing.
    pub fn leftovers(&mut self, with_clients: bool) -> Result<(), String> {
        for (number, actor) in self.actors.iter_mut().enumerate() {
            let node = &mut actor.node;
            let left = [
                ("locks", usize::from(!node.participant.locks.is_idle())),
                ("waiting requests", node.participant.locks.waiting()),
                ("transactions", node.coordinator.len()),
                ("held clients", node.clients.iter().filter(|client| client.held).count()),
                (
                    "promised replies",
                    node.clients.iter().map(|client| client.replies.outstanding()).sum(),
                ),
                ("lent outlets", node.departures.lent()),
                ("unposted batches", usize::from(node.mail().has_outgoing())),
                ("watches", usize::from(!with_clients && !node.shard().watches().is_empty())),
                ("clients", if with_clients { 0 } else { node.clients() }),
            ];
            if let Some((what, count)) = left.iter().find(|(_, count)| *count > 0) {
                return Err(format!("shard {number} is left with {count} {what}"));
            }
        }
        let waits = self
            .connections
            .iter()
            .position(|connection| connection.key.is_some() && !connection.kept.is_empty());
        match waits {
            Some(number) => Err(format!("connection {number} has input nobody executes")),
            None => Ok(()),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        rules::break_rule(None);
    }
}

/// When time begins, in milliseconds.
const START_MS: i64 = 1_000_000;

/// All keys, with their values and expiries.
pub type Data = BTreeMap<(usize, String), (String, Option<i64>)>;

fn add_entry(data: &mut Data, db: usize, entry: &Entry) {
    let key = String::from_utf8_lossy(entry.key()).into_owned();
    let value = entry.string().bytes(&mut itoa::Buffer::new()).to_vec();
    let value = (String::from_utf8_lossy(&value).into_owned(), entry.expiry());
    assert_eq!(data.insert((db, key), value), None, "a key twice");
}

/// A command as it is sent.
pub fn command(words: &[String]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

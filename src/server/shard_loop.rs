//! One shard, one loop, one place to wait.
//!
//! ```text
//! loop {
//!     make way           while background work is outstanding: the one `.await`
//!     ring.turn()        sends go out, completions come in: one call; here, and only here, it waits
//!     read the clock
//!     load               this shard's part of it, while data is being loaded
//!     mail               what other shards ask and answer, up to the cut
//!     feed               what clients have sent, as far as the turn's time allows: run what is
//!                        ours, batch what is not
//!     housekeeping       a bounded slice: freeing, expiry
//!     save               this shard's part of a snapshot, and what the first shard does about saves
//!     end_turn           publish what other shards are to do; wake who sleeps
//!     queue sends        one per connection with something to say
//! }
//! ```

mod departure;
mod input;
pub mod load;
mod moves;
mod output;
mod reload;
mod replication;
mod save;
mod stop;
mod upkeep;

use super::acceptor::{Acceptor, Handover};
use super::background::{self, Background};
use super::connection::Connection;
use super::drill::Drill;
use super::listen;
use super::neighbours::Neighbours;
use super::pulse::Pulse;
use super::ring::{Event, Ring, Wait};
use crate::base::clock::{self, Now};
use crate::base::doing;
use crate::base::limits;
use crate::base::ticks;
use crate::config::typed::ClientClass;
use crate::instance::Instance;
use crate::persist::loader::Place;
use crate::persist::snapshot::{Collector, Producer};
use crate::resp::ReplyBuf;
use crate::route::client::ClientKey;
use crate::route::mailbox::{Mailbox, Waiting};
use crate::route::node::Node;
use crate::session::About;
use input::{Budget, Input};
use load::{LoadError, Loads};
use rtrb::Consumer;
use save::Saves;
use slab::Slab;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use stop::{Stop, Stopped};

/// Input that waits behind a held client before its socket is no longer read.
const BACKLOG: usize = 64 * 1024;
/// Send buffers kept for reuse, and the largest worth keeping.
const POOL: usize = 512;
const POOLED_BYTES: usize = 64 * 1024;
/// Bytes that a socket which is read takes at once.
const PROMPT_BYTES: usize = 64 * 1024;
/// Time between two passes over the expiry codes, in milliseconds: a tick of their finest level.
const PASS_MS: i64 = 128;
/// Ticks between two measurements of the tables' own memory, which walk all segments.
const TICKS_PER_MEASURE: u32 = 100;

/// See the module's head.
pub struct ShardLoop {
    number: usize,
    ring: Ring,
    node: Node,
    instance: Arc<Instance>,
    neighbours: Arc<Neighbours>,
    connections: Slab<Connection>,
    /// The connection of a client, by the client's place.
    of_client: Vec<u32>,
    acceptor: Option<Acceptor>,
    /// Listeners that could not accept and try again at the next tick.
    stuck: Vec<usize>,
    arrivals: Consumer<Handover>,
    events: Vec<Event>,
    /// What is to be fed, the first first.
    input: VecDeque<Input>,
    budget: Budget,
    background: Background,
    drill: Option<Drill>,
    load: Loads,
    saves: Saves,
    /// On the first shard: who is followed, and who follows.
    replication: Option<replication::Replication>,
    /// Why there is no data to be served.
    load_error: Option<LoadError>,
    stop: Option<Stop>,
    /// Whether a shard that stops has more of a snapshot to make at once.
    is_saving: bool,
    /// Connections whose clients go on with the first shard.
    moving: Vec<u32>,
    /// Clients to be sent their replies this turn.
    dirty: Vec<ClientKey>,
    pool: Vec<ReplyBuf>,
    unix_path: Option<PathBuf>,
    next_pass_ms: i64,
    in_pass: bool,
    ticks: u32,
    pulse: Pulse,
    /// The client that is looked after next.
    upkeep_at: usize,
    /// Bytes that the clients here make the server use.
    client_bytes: usize,
}

/// One shard's ends of what connects it with the others.
pub struct Ends {
    /// What shards say to each other.
    pub mail: Mailbox,
    /// On the first shard: who accepts for all.
    pub acceptor: Option<Acceptor>,
    /// Connections that were accepted for this one.
    pub arrivals: Consumer<Handover>,
    /// Its place in loads.
    pub load: Place,
    /// Its half of snapshots.
    pub producer: Producer,
    /// On the first shard: the other half.
    pub collector: Option<Collector>,
}

impl ShardLoop {
    /// Shard `number`, on the thread that will run it.
    ///
    /// # Errors
    /// When io_uring is refused.
    pub fn new(
        number: usize,
        instance: Arc<Instance>,
        neighbours: Arc<Neighbours>,
        ends: Ends,
    ) -> std::io::Result<ShardLoop> {
        let Ends { mail, acceptor, arrivals, load, producer, collector } = ends;
        let ring = Ring::new()?;
        neighbours.arrive(number, &ring);
        let unix_path = instance.config().unixsocket().map(std::path::Path::to_owned);
        let mut node = Node::new(number, mail, Arc::clone(&instance));
        node.begin_turn(Now::read());
        let leads = number == crate::route::requests::LEADER;
        let replication = leads.then(|| replication::Replication::new(&instance));
        Ok(ShardLoop {
            number,
            ring,
            node,
            instance,
            neighbours,
            connections: Slab::new(),
            of_client: Vec::new(),
            acceptor,
            stuck: Vec::new(),
            arrivals,
            events: Vec::new(),
            input: VecDeque::new(),
            budget: Budget::new(),
            background: Background::new(),
            drill: None,
            load: Loads::new(load),
            saves: Saves::new(producer, collector),
            replication,
            load_error: None,
            stop: None,
            is_saving: false,
            moving: Vec::new(),
            dirty: Vec::new(),
            pool: Vec::new(),
            unix_path,
            next_pass_ms: 0,
            in_pass: false,
            ticks: 0,
            pulse: Pulse::new(number),
            upkeep_at: 0,
            client_bytes: 0,
        })
    }

    /// Runs until the server is asked to stop.
    ///
    /// While background work is outstanding it makes way for that between two turns, and nowhere
    /// else: there nothing of the shard is borrowed. Without such work nothing here yields to
    /// glommio, on purpose: there is nothing else to run, and an executor that is asked to make way
    /// at the wrong moment sleeps, with this task runnable and all its clients waiting (glommio 0.9;
    /// see [`super::background`]).
    ///
    /// # Errors
    /// When the kernel refuses the ring's one call: the shard cannot go on. On the first shard, when
    /// the data cannot be loaded: a [`LoadError`].
    pub async fn run(mut self) -> std::io::Result<()> {
        doing::shard(self.number);
        if self.acceptor.is_some() {
            // Nobody is let in before every shard is there.
            while self.neighbours.is_assembling() && !self.instance.stopping() {
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            self.instance.metrics.note_startup();
            tracing::info!("Server initialized");
            self.load_at_start();
            self.follow_listeners();
        }
        let mut busy = true;
        let result = loop {
            let stopped = if self.instance.stopping() {
                self.stop()
            } else {
                self.go_on_after_stop();
                self.wait_and_turn(busy).map(|more| {
                    busy = more;
                    Stopped::No
                })
            };
            match stopped {
                Ok(Stopped::No) => {}
                Ok(Stopped::Orderly) => return Ok(()),
                Ok(Stopped::GivenUp) => break Ok(()),
                Err(error) => break Err(error),
            }
            if self.background.is_outstanding() {
                let now_ns = self.node.now().monotonic_ns;
                self.background.make_way(now_ns).await;
            }
        };
        let error = self.load_error.take();
        // Others may still be using what is this shard's: it goes with the process.
        std::mem::forget(self);
        error.map_or(result, |error| Err(std::io::Error::other(error)))
    }

    /// Waits for news, unless there is more to do at once, and does what there is to do. Returns
    /// whether there is more.
    fn wait_and_turn(&mut self, busy: bool) -> std::io::Result<bool> {
        let waits = !busy && self.may_wait();
        let began = if waits { clock::monotonic_ns() } else { 0 };
        let wait = match waits {
            false => Wait::No,
            true if self.looks_soon() => Wait::AtMostUs(background::WAIT_US),
            true => Wait::ForNews,
        };
        self.ring.turn(wait, &mut self.events)?;
        let now = Now::read();
        if waits {
            let exchange = self.node.mail().exchange();
            if self.neighbours.count() > 1 {
                exchange.set_waiting(self.number, Waiting::No);
            }
            let metrics = self.instance.metrics.shard(self.number);
            metrics.waited_ns.add(now.monotonic_ns.saturating_sub(began));
        }
        Ok(self.turn(now))
    }

    /// Whether something is under way of which no completion tells.
    fn looks_soon(&self) -> bool {
        self.background.is_outstanding()
            || self.load.is_reading()
            || self.saves.is_outstanding()
            || !self.moving.is_empty()
            || self.is_replicating()
    }

    /// Whether nothing of ours is left to do. Tells the other shards that we are about to wait.
    ///
    /// Looking into the mailbox for another 1, 3 or 8 microseconds first saved nothing (two shards
    /// that shared two cores with the load, pipelines 1, 16 and 64). Nor did putting off the wakes of
    /// others while the ring has news for this shard; and to wait for several completions at once
    /// (the kernel's `min_wait_usec`), of 50 clients without a pipeline, paid from 100 microseconds
    /// on only, which a client would notice.
    fn may_wait(&mut self) -> bool {
        if self.neighbours.count() == 1 {
            return true;
        }
        let (number, waiting) = (self.number, self.node.waiting());
        let mail = self.node.mail();
        mail.exchange().set_waiting(number, waiting);
        // Whoever published before we said so did not see it.
        if mail.has_mail() {
            mail.exchange().set_waiting(number, Waiting::No);
            return false;
        }
        true
    }

    /// One turn. Returns whether there is more to do at once.
    fn turn(&mut self, now: Now) -> bool {
        let began = ticks::now();
        self.node.begin_turn(now);
        self.sort_events();
        let (mut busy, mut came_to_clients) = (false, began);
        self.take_parcels();
        if self.neighbours.count() > 1 {
            self.adopt_arrivals();
            self.node.collect();
            busy |= self.node.run_mail();
            self.take_back();
            came_to_clients = ticks::now();
        }
        self.node.set_deadline(self.budget.deadline(began, came_to_clients));
        for client in self.node.take_resumed() {
            self.feed_kept(client);
        }
        self.feed_clients();
        for client in self.node.take_resumed() {
            self.feed_kept(client);
        }
        if !self.is_stopping() {
            busy |= self.housekeep(now);
        }
        if self.acceptor.as_ref().is_some_and(Acceptor::is_behind) {
            self.follow_listeners();
        }
        self.evict_clients();
        if self.instance.persistence().is_filling() && !self.is_stopping() {
            busy |= self.load();
        }
        self.drill();
        busy |= !self.is_stopping() && self.save(began);
        self.node.publish_metrics();
        let is_stamped = self.neighbours.count() > 1 || self.node.gate().waits_for_safety();
        let stamp = if is_stamped { clock::monotonic_ns() } else { 0 };
        self.end_turn(stamp);
        if self.node.gate().is_published() {
            self.depart(stamp);
            for client in self.node.take_syncing() {
                self.begin_sync(client);
            }
            self.hand_over_moving();
            busy |= self.replicate();
            self.send_replies();
        }
        self.pulse.turned(&self.instance, &self.node, began);
        busy || !self.node.gate().is_published()
            || !self.input.is_empty()
            || self.node.owes_pushes()
    }

    /// Publishes what is said to other shards, and wakes those that wait for it.
    fn end_turn(&mut self, stamp: u64) {
        self.node.end_turn(stamp);
        for shard in self.node.mail().wakes().collect::<smallvec::SmallVec<[usize; 16]>>() {
            self.neighbours.wake(shard, &mut self.ring);
        }
    }

    fn sort_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::Received(connection, received, more) => {
                    if !more {
                        self.receive_stopped(connection);
                    }
                    self.input.push_back(Input::Received(connection, received));
                }
                Event::ReceiveEnded(connection, how) => self.receive_ended(connection, how),
                Event::Sent(connection, sent, outgoing) => self.sent(connection, sent, outgoing),
                Event::Accepted(listener, accepted) => self.accepted(listener, accepted),
                Event::Tick => self.tick(),
                Event::Woken => {}
            }
        }
        self.events = events;
    }

    fn tick(&mut self) {
        self.ticks += 1;
        if self.number == 0 {
            self.instance.metrics.sample(clock::monotonic_ns());
        }
        if self.ticks >= TICKS_PER_MEASURE {
            self.ticks = 0;
            let table = self.node.shard().table_memory() as u64;
            self.instance.metrics.shard(self.number).table_bytes.set(table);
        }
        self.pulse.ticked(&self.instance, &mut self.node);
        if !self.is_stopping() {
            for listener in std::mem::take(&mut self.stuck) {
                self.arm(listener);
            }
        }
        self.look_after_clients();
        self.tell_save_progress();
        if !self.is_stopping() {
            self.look_at_save_points();
            self.see_to_stop_wish();
        }
        if !self.is_stopping()
            && let Some(bytes) = self.instance.drill().take()
        {
            self.drill = Some(Drill::begin(bytes, &self.background));
        }
    }

    /// This shard's part of a drill of the disk, while there is one.
    fn drill(&mut self) {
        if let Some(report) = self.drill.as_mut().and_then(Drill::turn) {
            tracing::info!("Drill of the disk: {}", report.trim_end().replace("\r\n", ", "));
            self.instance.drill().end(report);
            self.drill = None;
        }
    }

    // ---- connections -------------------------------------------------------------------------

    fn arm(&mut self, listener: usize) {
        if !self.is_stopping()
            && let Some(descriptor) =
                self.acceptor.as_mut().and_then(|acceptor| acceptor.again(listener))
        {
            self.ring.accept(listener, descriptor);
        }
    }

    /// Accepts on listening sockets that are new.
    fn follow_listeners(&mut self) {
        for listener in self.acceptor.as_mut().map(Acceptor::follow).unwrap_or_default() {
            self.arm(listener);
        }
    }

    fn accepted(&mut self, listener: usize, accepted: std::io::Result<OwnedFd>) {
        // No descriptor is free, and clients wait in the backlog until one is; or the socket has
        // closed.
        let Ok(owned) = accepted else { return self.stuck.push(listener) };
        if self.turns_newcomers_away() {
            return;
        }
        let most = self.instance.config().maxclients() as usize;
        if self.neighbours.connections() >= most {
            self.instance.metrics.shard(self.number).rejected.add(1);
            return upkeep::say(&owned, b"-ERR max number of clients reached\r\n");
        }
        let shard = self.neighbours.least_loaded();
        self.neighbours.add_connection(shard);
        let Some(acceptor) = &mut self.acceptor else { return };
        if let Some(way) = &mut acceptor.ways[shard] {
            if way.push((owned.as_raw_fd(), listener)).is_ok() {
                // It is the other shard's from here on.
                let _ = std::os::fd::IntoRawFd::into_raw_fd(owned);
                self.neighbours.wake(shard, &mut self.ring);
                return;
            }
            // That shard does not keep up with its arrivals: this one takes it.
            self.neighbours.remove_connection(shard);
            self.neighbours.add_connection(self.number);
        }
        self.adopt(owned);
    }

    fn adopt_arrivals(&mut self) {
        while let Ok((fd, _)) = self.arrivals.pop() {
            // SAFETY: `accepted` on the first shard gave up its ownership when it sent this here.
            let owned = unsafe { OwnedFd::from_raw_fd(fd) };
            if self.turns_newcomers_away() {
                self.neighbours.remove_connection(self.number);
                drop(owned);
            } else {
                self.adopt(owned);
            }
        }
    }

    fn adopt(&mut self, fd: OwnedFd) {
        if self.is_protected_from(&fd) {
            self.neighbours.remove_connection(self.number);
            self.instance.metrics.shard(self.number).rejected.add(1);
            return upkeep::say(&fd, upkeep::DENIED.as_bytes());
        }
        listen::prepare(&fd, self.instance.config().tcp_keepalive());
        let (addr, laddr) = listen::names(&fd, self.unix_path.as_deref());
        let about = About { addr, laddr, fd: i64::from(fd.as_raw_fd()), ..About::default() };
        let client = self.node.connect(about);
        self.instance.metrics.shard(self.number).connections_total.add(1);
        let at = self.connect(fd, client);
        self.receive(at);
    }

    /// A client has its connection.
    fn connect(&mut self, fd: OwnedFd, client: ClientKey) -> u32 {
        let at = self.connections.insert(Connection::new(fd, client));
        let place = client.index as usize;
        if self.of_client.len() <= place {
            self.of_client.resize(place + 1, u32::MAX);
        }
        self.of_client[place] = at as u32;
        self.instance.metrics.shard(self.number).connections.add(1);
        at as u32
    }

    fn receive(&mut self, at: u32) {
        let is_stopping = self.is_stopping();
        let connection = &mut self.connections[at as usize];
        let is_wanted = !is_stopping && !connection.is_moving && !connection.ended;
        if is_wanted && !connection.is_receiving && !connection.is_closing {
            connection.is_receiving = true;
            self.ring.receive(at, connection.descriptor());
        }
    }

    /// The multishot receive is over though nothing is wrong: it is armed again unless too much
    /// waits already.
    fn receive_stopped(&mut self, at: u32) {
        let Some(connection) = self.connections.get_mut(at as usize) else {
            return;
        };
        connection.is_receiving = false;
        if connection.is_closing {
            self.release(at);
        } else if connection.wants_input(BACKLOG) {
            self.receive(at);
        }
    }

    fn receive_ended(&mut self, at: u32, how: std::io::Result<()>) {
        let Some(connection) = self.connections.get_mut(at as usize) else {
            return;
        };
        connection.is_receiving = false;
        match how {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                self.receive_stopped(at);
            }
            // What has been received is still executed and answered, in case only one half of the
            // connection was shut; then it is closed.
            Ok(()) => {
                connection.ended = true;
                if connection.is_closing {
                    return self.release(at);
                }
                let client = connection.client;
                // Who waits in a command may do so for ever, and has gone.
                let pending = self.node.client(client).is_some_and(|client| {
                    let is_owed = !client.replies.is_empty() || client.replies.outstanding() > 0;
                    !client.session.waits && (client.held || is_owed)
                });
                if !pending && !self.is_arriving(at) && !self.connections[at as usize].is_sending {
                    self.close(at);
                }
            }
            Err(_) => self.close(at),
        }
    }

    /// Decides that a connection ends: its client is gone at once, the socket when the kernel has
    /// let go of it.
    fn close(&mut self, at: u32) {
        let connection = &mut self.connections[at as usize];
        if !connection.is_closing {
            connection.is_closing = true;
            connection.shut();
            let bytes = std::mem::take(&mut connection.bytes);
            self.client_bytes = self.client_bytes.saturating_sub(bytes);
            let client = connection.client;
            if let Some(state) = self.node.client(client) {
                connection.is_lent = state.is_lent;
                let (is_link, class) = (connection.is_link, state.session.class);
                self.of_client[client.index as usize] = u32::MAX;
                self.node.disconnect(client);
                if is_link {
                    self.link_closed(at);
                } else if class == ClientClass::Replica {
                    self.replica_closed(client);
                }
            }
        }
        self.release(at);
    }

    fn release(&mut self, at: u32) {
        if self.connections[at as usize].is_closing && self.connections[at as usize].is_released() {
            if self.is_arriving(at) {
                return;
            }
            self.forget(at);
        }
    }

    /// A connection is this shard's no more.
    fn forget(&mut self, at: u32) -> Connection {
        self.neighbours.remove_connection(self.number);
        let connections = &self.instance.metrics.shard(self.number).connections;
        connections.set(connections.get().saturating_sub(1));
        self.connections.remove(at as usize)
    }

    // ---- the rest ----------------------------------------------------------------------------

    /// A bounded slice of work that nobody waits for. Returns whether there is more to do at once.
    fn housekeep(&mut self, now: Now) -> bool {
        doing::nothing();
        if !self.in_pass
            && now.unix_ms < self.next_pass_ms
            && self.node.shard().pending_frees() == 0
        {
            return false;
        }
        self.in_pass = true;
        let began = ticks::now();
        let interrupted = self.housekeeping_slice(now);
        self.pulse.kept_house(&self.instance, &self.node, began, interrupted);
        interrupted
    }

    fn housekeeping_slice(&mut self, now: Now) -> bool {
        let began = clock::monotonic_ns();
        let mut steps = 0;
        loop {
            let mut pass_done = false;
            let more = self.node.housekeep(&mut pass_done);
            if pass_done {
                self.in_pass = false;
                self.next_pass_ms = now.unix_ms + PASS_MS;
            }
            if !more {
                return false;
            }
            steps += 1;
            if steps % 8 == 0
                && clock::monotonic_ns() - began > limits::HOUSEKEEPING_SLICE_US * 1000
            {
                return true;
            }
        }
    }
}

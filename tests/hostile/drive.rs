//! Shards without sockets: a few nodes in one thread, driven turn by turn as the shard loop drives
//! them, with clients whose bytes and replies are plain vectors.

use redshard::base::clock::Now;
use redshard::base::error::Error;
use redshard::base::{limits, memory};
use redshard::command;
use redshard::config::Config;
use redshard::config::parse::start_line;
use redshard::instance::{Identity, Instance};
use redshard::resp::ReplyBuf;
use redshard::route::client::ClientKey;
use redshard::route::mailbox;
use redshard::route::{feed::Fed, node::Node};
use redshard::session::{About, Close};
use std::sync::Arc;

/// The password of servers that ask for one.
pub const PASSWORD: &str = "secret";

/// Longest bulk of the servers here: large enough to cross every threshold inside, small enough
/// that a command which is allowed to make a string that long makes nobody wait.
pub const BULK_MAX: usize = 1024 * 1024;

/// The wall clock of every run: replies that tell the time are the same every time.
const UNIX_MS: i64 = 1_700_000_000_000;

/// Rounds after which a command that is still unanswered is stuck.
const ROUNDS_MAX: usize = 20_000;

/// A configuration as the start line would make it.
pub fn config(password: bool) -> Config {
    let bulk_max = BULK_MAX.to_string();
    let mut flags = vec!["--databases", "3", "--proto-max-bulk-len", &bulk_max];
    if password {
        flags.extend(["--requirepass", PASSWORD]);
    }
    let flags: Vec<Vec<u8>> = flags.iter().map(|flag| flag.as_bytes().to_vec()).collect();
    match start_line(&flags) {
        Ok(Some(config)) => config,
        other => panic!("the flags are good: {other:?}"),
    }
}

/// A server's shards.
pub struct Host {
    nodes: Vec<Node>,
    /// Monotonic nanoseconds: every look at the clock sees a later time.
    clock_ns: u64,
    /// Whether expiry and freeing go on between turns.
    pub housekeeping: bool,
    /// The most that one call of `feed` has allocated beyond what was there before it.
    pub feed_bytes_max: u64,
}

/// A client and what has come back.
pub struct Peer {
    node: usize,
    key: ClientKey,
    /// Sent and not executed.
    pending: Vec<u8>,
    wanted: usize,
    /// Whether it waits for as many bytes as the parser asked for, as the shard loop does, or shows
    /// every byte at once.
    pub patient: bool,
    /// Everything it has been answered.
    pub out: Vec<u8>,
    /// Whether nothing more will be executed.
    pub closed: bool,
}

impl Host {
    pub fn new(config: Config, shards: usize) -> Host {
        let identity = Identity {
            run_id: "0".repeat(40),
            started_us: UNIX_MS * 1000,
            executable: String::new(),
        };
        let server = Arc::new(Instance::new(config, shards, command::all().len(), identity));
        let mut nodes: Vec<Node> = mailbox::exchange(shards, limits::MAILBOX_BATCHES)
            .into_iter()
            .enumerate()
            .map(|(number, mail)| Node::new(number, mail, Arc::clone(&server)))
            .collect();
        let now = Now { unix_ms: UNIX_MS, monotonic_ns: 1 };
        nodes.iter_mut().for_each(|node| node.begin_turn(now));
        Host { nodes, clock_ns: 1, housekeeping: false, feed_bytes_max: 0 }
    }

    pub fn shards(&self) -> usize {
        self.nodes.len()
    }

    pub fn connect(&mut self, node: usize) -> Peer {
        Peer {
            node,
            key: self.nodes[node].connect(About::default()),
            pending: Vec::new(),
            wanted: 0,
            patient: true,
            out: Vec::new(),
            closed: false,
        }
    }

    /// The client goes away without a word.
    pub fn hang_up(&mut self, peer: &mut Peer) {
        self.nodes[peer.node].disconnect(peer.key);
        peer.closed = true;
        peer.pending.clear();
    }

    /// One turn of one shard. Returns whether anything happened.
    pub fn turn(&mut self, number: usize, peers: &mut [Peer]) -> bool {
        self.clock_ns += 1_000;
        let now = Now { unix_ms: UNIX_MS, monotonic_ns: self.clock_ns };
        let node = &mut self.nodes[number];
        node.begin_turn(now);
        node.collect();
        let mut busy = node.run_mail();
        // The loop feeds whom this names; here everybody with input is fed anyway.
        busy |= !node.take_resumed().is_empty();
        for peer in peers.iter_mut().filter(|peer| peer.node == number) {
            busy |= peer.feed(node, &mut self.feed_bytes_max);
        }
        busy |= !node.take_resumed().is_empty();
        // Here is nobody who has files, or who could end the process.
        for (_, asker) in node.take_requests() {
            busy = true;
            if let Some(asker) = asker {
                node.answer(asker, Err(Error::text("ERR not in a simulation")));
            }
        }
        busy |= !node.take_resumed().is_empty();
        if self.housekeeping {
            node.housekeep(&mut false);
        }
        node.publish_metrics();
        self.clock_ns += 1;
        busy |= node.mail().has_outgoing();
        if !node.end_turn(self.clock_ns) {
            return true;
        }
        node.mail().wakes().for_each(drop);
        let mut dirty = Vec::new();
        node.take_dirty(&mut dirty);
        for key in dirty {
            for peer in peers.iter_mut() {
                if (peer.node, peer.key) == (number, key) {
                    busy |= peer.collect(node);
                }
            }
        }
        busy
    }

    /// Turns every shard until nothing happens any more.
    ///
    /// # Panics
    /// When that does not come to pass, or a command is left unanswered.
    pub fn settle(&mut self, peers: &mut [Peer]) {
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            let mut busy = false;
            for number in 0..self.nodes.len() {
                busy |= self.turn(number, peers);
            }
            // A batch that nobody has looked at yet makes the next round busy.
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet == 3 {
                return self.check_answered(peers);
            }
        }
        panic!("still busy after {ROUNDS_MAX} rounds");
    }

    fn check_answered(&self, peers: &[Peer]) {
        for peer in peers {
            let Some(client) = self.nodes[peer.node].client(peer.key) else {
                continue;
            };
            assert!(!client.held, "a client is held though nothing is under way");
            assert_eq!(client.replies.outstanding(), 0, "replies that never came");
        }
    }
}

impl Peer {
    pub fn send(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.pending.extend_from_slice(bytes);
        }
    }

    fn feed(&mut self, node: &mut Node, most: &mut u64) -> bool {
        if self.pending.is_empty() || self.closed {
            return false;
        }
        if self.patient && self.pending.len() < self.wanted {
            return false;
        }
        let before = memory::used();
        memory::reset_peak();
        let (used, fed) = node.feed(self.key, &self.pending);
        *most = (*most).max(memory::peak().saturating_sub(before));
        assert!(used <= self.pending.len(), "more used than there was");
        self.pending.drain(..used);
        self.wanted = match fed {
            Fed::Wants(wanted) => {
                assert!(
                    wanted > self.pending.len(),
                    "wants {wanted} bytes and has {}",
                    self.pending.len()
                );
                wanted
            }
            _ => 0,
        };
        if fed == Fed::Closed {
            let close = node.client(self.key).map(|client| client.session.close);
            assert!(close.is_none_or(|close| close != Close::No), "closed, and not to be closed");
            self.closed = true;
            self.pending.clear();
        }
        used > 0 || fed == Fed::More
    }

    fn collect(&mut self, node: &mut Node) -> bool {
        let Some(client) = node.client_mut(self.key) else {
            return false;
        };
        self.closed |= client.session.close != Close::No;
        let before = self.out.len();
        drain(&mut client.replies.out, &mut self.out);
        self.out.len() > before
    }
}

/// Moves replies out, attached strings in their places.
fn drain(replies: &mut ReplyBuf, out: &mut Vec<u8>) {
    let mut from = 0;
    for (at, blob) in replies.attached() {
        out.extend_from_slice(&replies.bytes()[from..*at]);
        out.extend_from_slice(blob);
        from = *at;
    }
    out.extend_from_slice(&replies.bytes()[from..]);
    replies.clear();
}

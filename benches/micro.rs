//! The parts of a request's journey, each alone: parser, table, the way to another shard and back,
//! writing replies. `cargo bench --bench micro [-- part of a name…]`.
//!
//! Every line is the median of [`ROUNDS`] rounds with the best beside it, in nanoseconds per
//! operation. On a machine that does other things too, compare the best ones. What whole commands
//! cost, sockets included and beside other servers, is `benches/versus`'s to say.

use bytes::BytesMut;
use redshard::base::clock::Now;
use redshard::base::hash::{self, Random};
use redshard::base::limits;
use redshard::base::memory::Counting;
use redshard::base::slot::even_owner;
use redshard::base::ticks;
use redshard::command;
use redshard::config::Config;
use redshard::instance::{Identity, Instance};
use redshard::metrics::CommandMetrics;
use redshard::rdb::{self, Item, Splitter, Usage, Version, Writer};
use redshard::resp::{Limits, Parsed, Parser, Reply, ReplyBuf};
use redshard::route::client::ClientKey;
use redshard::route::mailbox;
use redshard::route::node::Node;
use redshard::route::stream::Merger;
use redshard::session::About;
use redshard::shard::Shard;
use redshard::shard::entry::Entry;
use redshard::shard::journal::Scope;
use redshard::shard::table::{Mark, Table};
use redshard::value::New;
use redshard::value::string::Str;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tikv_jemallocator::Jemalloc;

// As in the server: allocating is part of what an insertion costs.
#[global_allocator]
static ALLOCATOR: Counting<Jemalloc> = Counting(Jemalloc);

const ROUNDS: usize = 9;

/// How long a round lasts at least: far above the clock's resolution and a scheduler's whim.
const ROUND: Duration = Duration::from_millis(40);

/// Commands of one pipeline.
const PIPELINE: usize = 64;

/// Length of values.
const VALUE: [u8; 64] = [b'v'; 64];

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let bench = Bench { wanted };
    println!("{:<44}{:>12}{:>12}", "ns per operation", "median", "best");
    parser(&bench);
    for keys in [1_000, 1_000_000] {
        table(&bench, keys);
    }
    own_shard(&bench);
    crossing(&bench);
    replies(&bench);
    journaling(&bench);
    observing(&bench);
    snapshots(&bench);
}

struct Bench {
    wanted: Vec<String>,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| name.contains(part.as_str()))
    }

    /// Times `run`, which does `operations` operations at a time.
    fn time(&self, name: &str, operations: usize, mut run: impl FnMut()) {
        self.time_with(name, operations, || (), |()| run());
    }

    /// Times `run` on what `prepare` makes; neither making nor dropping that counts.
    fn time_with<T, U>(
        &self,
        name: &str,
        operations: usize,
        mut prepare: impl FnMut() -> T,
        mut run: impl FnMut(T) -> U,
    ) {
        if !self.wants(name) {
            return;
        }
        // The first round warms caches and is forgotten.
        let mut rounds: Vec<f64> = (0..=ROUNDS)
            .map(|_| {
                let (mut spent, mut times) = (Duration::ZERO, 0);
                while spent < ROUND {
                    let input = prepare();
                    let began = Instant::now();
                    let output = run(input);
                    spent += began.elapsed();
                    times += 1;
                    drop(black_box(output));
                }
                spent.as_secs_f64() * 1e9 / (times * operations) as f64
            })
            .skip(1)
            .collect();
        rounds.sort_by(f64::total_cmp);
        println!("{name:<44}{:>12.1}{:>12.1}", rounds[ROUNDS / 2], rounds[0]);
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:07}").into()
}

// ---- parser ----------------------------------------------------------------------------------

fn parser(bench: &Bench) {
    let gets: Vec<u8> = (0..PIPELINE as u64).flat_map(|i| command(&[b"GET", &key(i)])).collect();
    let sets: Vec<u8> =
        (0..PIPELINE as u64).flat_map(|i| command(&[b"SET", &key(i), &VALUE])).collect();
    let inline = b"GET key:0000001\r\n".repeat(PIPELINE);
    let limits = Limits { bulk_max: redshard::base::limits::BULK_MAX, unauthenticated: false };
    let (mut parser, mut spans) = (Parser::default(), Vec::new());
    for (name, input) in [
        ("parse/get, pipeline of 64", &gets),
        ("parse/set 64 B, pipeline of 64", &sets),
        ("parse/inline get, pipeline of 64", &inline),
    ] {
        bench.time(name, PIPELINE, || {
            let mut at = 0;
            while at < input.len() {
                spans.clear();
                match parser.next(&input[at..], &limits, &mut spans) {
                    Ok(Parsed::Command(used)) => at += used,
                    other => panic!("a whole command is there: {other:?}"),
                }
                black_box(&spans);
            }
        });
    }
}

// ---- table -----------------------------------------------------------------------------------

fn fill(keys: &[Vec<u8>]) -> Table {
    let mut table = Table::default();
    for key in keys {
        let entry = Entry::new(key, New::Inline(&VALUE), None, 0);
        table.insert(hash::of(key), entry, 0, Mark::default());
    }
    table
}

fn table(bench: &Bench, count: u64) {
    let size = if count < 1_000_000 { "1 k" } else { "1 M" };
    let names = ["hit", "miss", "insert"].map(|part| format!("table/{part}, {size} keys"));
    if !names.iter().any(|name| bench.wants(name)) {
        return;
    }
    let keys: Vec<Vec<u8>> = (0..count).map(key).collect();
    let full = fill(&keys);
    // In no order, or the caches would know what comes next.
    let mut random = Random::new(7);
    let looked: Vec<Vec<u8>> = (0..4096).map(|_| key(random.below(count))).collect();
    let missed: Vec<Vec<u8>> = (0..4096).map(|_| key(count + random.below(count))).collect();
    for (name, keys, there) in [(&names[0], &looked, true), (&names[1], &missed, false)] {
        bench.time(name, keys.len(), || {
            for key in keys {
                let place = full.find(hash::of(key), black_box(key));
                assert_eq!(place.is_some(), there);
            }
        });
    }
    bench.time_with(&names[2], keys.len(), || (), |()| fill(&keys));
}

// ---- commands --------------------------------------------------------------------------------

/// Shards in one thread, the first with a client.
struct Host {
    nodes: Vec<Node>,
    client: ClientKey,
    now: Now,
    dirty: Vec<ClientKey>,
}

impl Host {
    fn new(shards: usize) -> Host {
        let identity = Identity { run_id: String::new(), started_us: 0, executable: String::new() };
        let server =
            Arc::new(Instance::new(Config::default(), shards, command::all().len(), identity));
        let mut nodes: Vec<Node> = mailbox::exchange(shards, limits::MAILBOX_BATCHES)
            .into_iter()
            .enumerate()
            .map(|(number, mail)| Node::new(number, mail, Arc::clone(&server)))
            .collect();
        let client = nodes[0].connect(About::default());
        let now = Now { unix_ms: 1_700_000_000_000, monotonic_ns: 1 };
        Host { nodes, client, now, dirty: Vec::new() }
    }

    fn turn(&mut self, number: usize, input: &[u8]) {
        self.now.monotonic_ns += 2;
        let node = &mut self.nodes[number];
        node.begin_turn(self.now);
        node.collect();
        node.run_mail();
        if !input.is_empty() {
            let (used, _) = node.feed(self.client, input);
            assert_eq!(used, input.len(), "one feed takes the whole pipeline");
        }
        node.end_turn(self.now.monotonic_ns + 1);
        node.mail().wakes().for_each(drop);
        node.take_dirty(&mut self.dirty);
        black_box(&self.dirty);
    }

    /// Feeds a pipeline and waits for its replies; returns how many bytes they are.
    fn run(&mut self, input: &[u8]) -> usize {
        self.turn(0, input);
        for number in 1..self.nodes.len() {
            self.turn(number, &[]);
        }
        if self.nodes.len() > 1 {
            self.turn(0, &[]);
        }
        let client = self.nodes[0].client_mut(self.client).expect("connected");
        assert_eq!(client.replies.outstanding(), 0);
        let len = client.replies.out.len();
        client.replies.out.clear();
        len
    }

    /// A pipeline over random keys of the given shard, all of which are there.
    fn pipeline(&mut self, owner: usize, keys: u64, set: bool) -> Vec<u8> {
        let shards = self.nodes.len();
        let mut random = Random::new(11);
        let names: Vec<Vec<u8>> = std::iter::repeat_with(|| key(random.below(keys)))
            .filter(|key| even_owner(key, shards) == owner)
            .take(PIPELINE)
            .collect();
        for name in &names {
            self.run(&command(&[b"SET", name, &VALUE]));
        }
        names
            .iter()
            .flat_map(|name| match set {
                true => command(&[b"SET", name, &VALUE]),
                false => command(&[b"GET", name]),
            })
            .collect()
    }
}

fn own_shard(bench: &Bench) {
    for (name, set) in [("feed/64 gets, own shard", false), ("feed/64 sets, own shard", true)] {
        let mut host = Host::new(1);
        let input = host.pipeline(0, 100_000, set);
        bench.time(name, PIPELINE, || _ = host.run(black_box(&input)));
    }
}

/// The batch's whole way: parsed and packed here, published, run there, published back, unpacked.
fn crossing(bench: &Bench) {
    for (name, set) in
        [("batch/64 gets, each crossing", false), ("batch/64 sets, each crossing", true)]
    {
        let mut host = Host::new(2);
        let input = host.pipeline(1, 100_000, set);
        bench.time(name, PIPELINE, || _ = host.run(black_box(&input)));
    }
    let mut host = Host::new(2);
    let input = command(&[b"MGET", b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]);
    bench.time("batch/mget of 8 over both shards", 1, || {
        // A lock round is a few turns: until it has been answered.
        host.turn(0, black_box(&input));
        loop {
            host.turn(1, &[]);
            host.turn(0, &[]);
            let client = host.nodes[0].client_mut(host.client).expect("connected");
            if client.replies.outstanding() == 0 && !client.held {
                client.replies.out.clear();
                break;
            }
        }
    });
}

// ---- the stream ------------------------------------------------------------------------------

/// What journaling costs the command, and what merging costs the shard that leads.
fn journaling(bench: &Bench) {
    let mut host = Host::new(1);
    host.nodes[0].shard().set_journal_on(true);
    let input = host.pipeline(0, 100_000, true);
    bench.time("feed/64 sets, own shard, journaled", PIPELINE, || {
        host.run(black_box(&input));
        host.nodes[0].take_merged(|merged| _ = black_box(merged));
    });

    let mut shard = Shard::new(0, 1, 1);
    shard.set_journal_on(true);
    let journal = shard.journal();
    for _ in 0..PIPELINE {
        journal.begin(Scope::Unit);
        journal.effect(0, &[b"SET", &key(1), &VALUE]);
    }
    let plain = journal.take().expect("recorded");
    for txn in 0..PIPELINE as u64 {
        journal.announce(txn, 1);
        for call in 0..2 {
            journal.begin(Scope::Part { txn, call });
            journal.effect(0, &[b"SET", &key(1), &VALUE]);
        }
        journal.end_part(txn);
    }
    let groups = journal.take().expect("recorded");
    for (name, chunk) in [
        (format!("stream/64 sets, {} B", plain.len()), plain),
        (format!("stream/64 groups of two sets, {} B", groups.len()), groups),
    ] {
        let mut merger = Merger::new(1);
        bench.time(&name, PIPELINE, || {
            merger.feed(0, black_box(chunk.clone()));
            merger.take(0, |merged| _ = black_box(merged));
        });
    }
}

// ---- replies ---------------------------------------------------------------------------------

fn replies(bench: &Bench) {
    let mut out = ReplyBuf::default();
    bench.time("reply/bulk of 64 B", PIPELINE, || {
        out.clear();
        for _ in 0..PIPELINE {
            Reply::new(&mut out, false).string(Str::Bytes(black_box(&VALUE)));
        }
    });
    bench.time("reply/ok", PIPELINE, || {
        out.clear();
        for _ in 0..PIPELINE {
            Reply::new(black_box(&mut out), false).ok();
        }
    });
    bench.time("reply/integer", PIPELINE, || {
        out.clear();
        for n in 0..PIPELINE as i64 {
            Reply::new(&mut out, false).integer(black_box(n * 1_234_567));
        }
    });
}

// ---- observing -------------------------------------------------------------------------------

/// What every command pays for being timed.
fn observing(bench: &Bench) {
    bench.time("observe/reading the counter", PIPELINE, || {
        for _ in 0..PIPELINE {
            black_box(ticks::now());
        }
    });
    let metrics = CommandMetrics::default();
    let mut last = ticks::now();
    bench.time("observe/timing and counting a command", PIPELINE, || {
        for _ in 0..PIPELINE {
            let now = ticks::now();
            let took = now.saturating_sub(std::mem::replace(&mut last, now));
            metrics.calls.add(1);
            metrics.ticks.add(took);
            metrics.track(took);
        }
    });
    black_box(&metrics);
}

// ---- snapshots -------------------------------------------------------------------------------

/// Records of a file, and of a tenth of the keys when they expire. The values are random letters, which
/// LZF tries in vain, or words, which it does not.
fn snapshots(bench: &Bench) {
    const RECORDS: u64 = 100_000;
    /// As a loader reads a file.
    const PIECE: usize = 256 * 1024;
    let keys: Vec<Vec<u8>> = (0..RECORDS).map(key).collect();
    let mut random = Random::new(7);
    let letters: Vec<Vec<u8>> =
        keys.iter().map(|_| VALUE.map(|_| b'!' + random.below(90) as u8).to_vec()).collect();
    let words: Vec<Vec<u8>> = (0..RECORDS)
        .map(|i| {
            format!("{{\"user\":{i},\"name\":\"user {i}\",\"mail\":\"user{i}@example.com\"}}")
                .into()
        })
        .collect();
    for (name, values, compress) in [
        ("64 B", &letters, false),
        ("64 B, LZF in vain", &letters, true),
        ("JSON of 64 B, LZF", &words, true),
    ] {
        let (mut writer, mut out) = (Writer::new(compress), BytesMut::new());
        let mut write = |out: &mut BytesMut| {
            for (i, (key, value)) in keys.iter().zip(values).enumerate() {
                let expiry = (i % 10 == 0).then_some(1_800_000_000_000);
                writer.record(out, key, &Str::Bytes(value), expiry, Usage::None);
            }
        };
        bench.time(&format!("rdb/write, {name}"), RECORDS as usize, || {
            out.clear();
            write(&mut out);
        });
        let mut file = BytesMut::new();
        Writer::header(&mut file, Version::V10);
        write(&mut file);
        Writer::end(&mut file);
        file.extend_from_slice(&[0; 8]);
        bench.time(&format!("rdb/split, checksum, decode, {name}"), RECORDS as usize, || {
            let mut splitter = Splitter::new(Some(file.len() as u64));
            for piece in file.chunks(PIECE) {
                splitter.push(piece);
                while let Some(item) = splitter.next().expect("a good file") {
                    if let Item::Record(record) = item {
                        let value = rdb::read::value(Version::V10, record.type_byte, record.value);
                        black_box(value.expect("a string"));
                    }
                }
            }
            splitter.finish().expect("a whole file");
        });
    }
}

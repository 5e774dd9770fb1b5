//! The longest wait of a client while keys come and go.
//!
//! One probe connection asks a small thing every 100 µs and waits for the
//! answer; beside it a load inserts, deletes and so on. The probe shares its
//! core with the load, so it runs at real-time priority where that is
//! permitted, and the first line of every server shows what the probe sees of
//! a server that has nothing to do while the load keeps the probe's core busy:
//! that much is the machine. For the rest, the kernel's books say how long
//! server and probe were kept off their cores by others during a slow round
//! trip, and the table gives the longest wait with and without that.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::load::{Load, Shape, Until};
use crate::options::Options;
use crate::proc::{self, CpuWatch};
use crate::request::{Command, EXPIRY_SPREAD_MS, Keys, Template};
use crate::server::{Launch, Product, Server};
use crate::stats::Histogram;
use crate::table::{Table, figure};
use crate::{Bench, Outcome};

const PROBE_EVERY: Duration = Duration::from_micros(100);

/// Shorter round trips are not worth asking the kernel about.
const SLOW: Duration = Duration::from_micros(500);

/// Longer ones are counted: none is what we promise.
const PAUSE_LIMIT: Duration = Duration::from_millis(5);

/// How long the machine itself is watched.
const BASELINE: Duration = Duration::from_secs(3);

/// The probe goes on this long after a command that may free in background.
const AFTERMATH: Duration = Duration::from_secs(1);

/// The probe begins this long before keys expire.
const LEAD: Duration = Duration::from_millis(100);

/// Keys that are not gone this long after their time are reported as such.
const EXPIRY_LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Insert,
    Delete,
    Unlink,
    Expire,
    Flush,
}

impl Phase {
    const ALL: [Phase; 5] =
        [Phase::Insert, Phase::Delete, Phase::Unlink, Phase::Expire, Phase::Flush];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Insert => "insert",
            Phase::Delete => "delete",
            Phase::Unlink => "unlink",
            Phase::Expire => "expire",
            Phase::Flush => "flush",
        }
    }

    pub fn named(name: &str) -> Outcome<Phase> {
        let found = Phase::ALL.into_iter().find(|phase| phase.name() == name);
        Ok(found.ok_or_else(|| format!("no phase {name:?}"))?)
    }
}

pub fn report(bench: &Bench) -> Outcome<()> {
    let load = Sizes {
        shape: Shape {
            connections: Options::only("connections", &bench.options.connections)?,
            pipeline: Options::only("pipelines", &bench.options.pipelines)?,
        },
        value_len: Options::only("values", &bench.options.values)?,
        keys: bench.options.keys,
    };
    proc::pin(&[bench.cores.load])?;
    bench.print_head("The longest wait of a client");
    let mut table = Table::new(
        2,
        &[
            "server",
            "while",
            "seconds",
            "probes",
            "p50 µs",
            "p99.9 µs",
            "over 5 ms",
            "max ms",
            "at second",
            "less time others had the core, ms",
        ],
    );
    let mut priority = "";
    let mut remarks = Vec::new();
    let mut products: Vec<(&Product, usize)> = vec![(&bench.field.ours, bench.options.shards)];
    products.extend(bench.field.peers.iter().map(|peer| (peer, 1)));
    for (product, threads) in products {
        let launch = Launch {
            // With several shards the load shares their cores, and the probe
            // still comes first on its own.
            cores: match threads {
                1 => vec![bench.cores.server],
                _ => bench.cores.all.clone(),
            },
            threads,
            max_clients: None,
        };
        let failed = |error| format!("{}: {error}", product.label);
        let mut watched = vec![baseline(bench, product, &launch, &load).map_err(failed)?];
        for &phase in &bench.options.phases {
            // A server of its own per phase: none inherits another's heap.
            let server = product.start(&launch)?;
            watched.push(watch(&server, phase, &load).map_err(failed)?);
        }
        for watched in watched {
            let seen = &watched.seen;
            eprintln!(
                "{}, {}: max {:.2} ms",
                product.label,
                watched.title,
                seen.round_trips.max_us() / 1e3
            );
            table.row(vec![
                product.label.clone(),
                watched.title,
                figure(watched.elapsed.as_secs_f64()),
                seen.round_trips.count().to_string(),
                figure(seen.round_trips.quantile_us(0.5)),
                figure(seen.round_trips.quantile_us(0.999)),
                seen.over_limit.to_string(),
                format!("{:.2}", seen.round_trips.max_us() / 1e3),
                format!("{:.2}", seen.longest_at.as_secs_f64()),
                format!("{:.2}", seen.longest_own.as_secs_f64() * 1e3),
            ]);
            priority = seen.priority;
            remarks.extend(watched.remark.map(|text| format!("{}: {text}", product.label)));
        }
    }
    println!(
        "Server on core {}, load ({} connections, pipeline {}) and probe on core {}; the probe \
         has {priority} and alternates PING and GET every {} µs. {} keys, {} B values. The other \
         requests in flight, at most {}, are part of what a round trip waits for.\n",
        bench.cores.server,
        load.shape.connections,
        load.shape.pipeline,
        bench.cores.load,
        PROBE_EVERY.as_micros(),
        load.keys,
        load.value_len,
        load.shape.connections * load.shape.pipeline,
    );
    table.print();
    for remark in remarks {
        println!("{remark}\n");
    }
    Ok(())
}

/// What is loaded, and how.
struct Sizes {
    shape: Shape,
    value_len: usize,
    keys: u64,
}

impl Sizes {
    fn run(&self, server: &Server, template: &Template, keys: u64) -> Outcome<Duration> {
        let mut load = Load::connect(server.port, self.shape, template, Keys::ascending())?;
        Ok(load.run(Until::Requests(keys))?.elapsed)
    }

    fn insert(&self, server: &Server) -> Outcome<Duration> {
        let elapsed = self.run(server, &Command::Set.template(self.value_len), self.keys)?;
        expect_keys(server, self.keys)?;
        Ok(elapsed)
    }

    fn remove(&self, server: &Server, command: &str) -> Outcome<Duration> {
        let mut template = Template::new();
        template.word(command).key("key:");
        let elapsed = self.run(server, &template, self.keys)?;
        expect_keys(server, 0)?;
        Ok(elapsed)
    }
}

fn expect_keys(server: &Server, expected: u64) -> Outcome<()> {
    match server.client()?.count_keys()? {
        count if count == expected => Ok(()),
        count => Err(format!("{count} keys instead of {expected}").into()),
    }
}

/// One line of the table.
struct Watched {
    title: String,
    elapsed: Duration,
    seen: Seen,
    remark: Option<String>,
}

/// What the probe sees of an idle server while the load drives another one on
/// the probe's core.
fn baseline(bench: &Bench, product: &Product, launch: &Launch, load: &Sizes) -> Outcome<Watched> {
    let idle = product.start(launch)?;
    let driven =
        product.start(&Launch { cores: vec![bench.cores.load], threads: 1, max_clients: None })?;
    let template = Command::Set.template(load.value_len);
    let keys = Keys::random_below_span(load.keys, 1);
    let mut load = Load::connect(driven.port, load.shape, &template, keys)?;
    let probe = Probe::start(&idle)?;
    let tally = load.run(Until::Time(BASELINE))?;
    Ok(Watched {
        title: "idle (the machine)".to_string(),
        elapsed: tally.elapsed,
        seen: probe.finish()?,
        remark: None,
    })
}

/// Brings the server to where the phase begins, and watches the phase.
fn watch(server: &Server, phase: Phase, load: &Sizes) -> Outcome<Watched> {
    match phase {
        Phase::Insert => {
            let probe = Probe::start(server)?;
            let elapsed = load.insert(server)?;
            finish("insert", elapsed, probe)
        }
        Phase::Delete => {
            load.insert(server)?;
            let probe = Probe::start(server)?;
            let elapsed = load.remove(server, "DEL")?;
            finish("DEL", elapsed, probe)
        }
        Phase::Unlink => {
            load.insert(server)?;
            let probe = Probe::start(server)?;
            let elapsed = load.remove(server, "UNLINK")?;
            thread::sleep(AFTERMATH);
            finish("UNLINK", elapsed, probe)
        }
        Phase::Expire => expire(server, load),
        Phase::Flush => {
            load.insert(server)?;
            let probe = Probe::start(server)?;
            let started = Instant::now();
            server.client()?.ask(&["FLUSHALL"])?;
            let elapsed = started.elapsed();
            expect_keys(server, 0)?;
            thread::sleep(AFTERMATH);
            finish("FLUSHALL", elapsed, probe)
        }
    }
}

fn finish(title: &str, elapsed: Duration, probe: Probe) -> Outcome<Watched> {
    Ok(Watched { title: title.to_string(), elapsed, seen: probe.finish()?, remark: None })
}

/// All keys expire within EXPIRY_SPREAD_MS, at a time when all are loaded:
/// how fast this server loads is tried with a part of them first.
fn expire(server: &Server, load: &Sizes) -> Outcome<Watched> {
    let part = load.keys.div_ceil(20);
    let trial = load.run(server, &Command::Set.template(load.value_len), part)?;
    let loading = trial * 20;
    // Setting an expiry costs more than setting a value, and a large table
    // more than a small one; 1.6 times was too little for one peer.
    let due = SystemTime::now() + loading * 3 + Duration::from_secs(2);
    let due_ms = due.duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let mut template = Template::new();
    template
        .word("SET")
        .key("key:")
        .word(&"x".repeat(load.value_len))
        .word("PXAT")
        .moment_after(due_ms);
    load.run(server, &template, load.keys)?;
    let mut remark = None;
    match due.duration_since(SystemTime::now()) {
        Ok(left) => {
            expect_keys(server, load.keys)?;
            thread::sleep(left.saturating_sub(LEAD));
        }
        Err(_) => remark = Some("keys began to expire before all were loaded".to_string()),
    }
    let probe = Probe::start(server)?;
    if let Ok(left) = due.duration_since(SystemTime::now()) {
        thread::sleep(left);
    }
    let started = Instant::now();
    let mut client = server.client()?;
    loop {
        let left = client.count_keys()?;
        if left == 0 {
            break;
        }
        if started.elapsed() > EXPIRY_LIMIT {
            let seconds = EXPIRY_LIMIT.as_secs();
            remark = Some(format!("{left} keys are still there {seconds} s after their time"));
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(Watched {
        title: format!("all expire within {EXPIRY_SPREAD_MS} ms"),
        elapsed: started.elapsed(),
        seen: probe.finish()?,
        remark,
    })
}

/// A thread that measures round trips until told to stop.
struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<Seen>>,
}

struct Seen {
    round_trips: Histogram,
    over_limit: u64,
    /// When the longest round trip began, counted from the first.
    longest_at: Duration,
    /// The longest round trip after deducting the time during which others
    /// had the core of the server or of the probe.
    longest_own: Duration,
    priority: &'static str,
}

impl Probe {
    /// Returns after the first round trip, so that the phase begins watched.
    fn start(server: &Server) -> Outcome<Probe> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let pid = server.pid();
        let (begun, beginning) = mpsc::channel();
        let thread = thread::spawn(move || probe(&mut stream, pid, &stopped, &begun));
        // An error here means that the probe failed; `finish` says how.
        let _ = beginning.recv();
        Ok(Probe { stop, thread })
    }

    fn finish(self) -> Outcome<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(seen) => Ok(seen.map_err(|error| format!("probe: {error}"))?),
            Err(_) => Err("the probe panicked".into()),
        }
    }
}

fn probe(
    stream: &mut TcpStream,
    pid: u32,
    stop: &AtomicBool,
    begun: &mpsc::Sender<()>,
) -> Outcome<Seen> {
    // The key is never there: the load's own keys come and go, and the key
    // count stays the load's.
    let questions: [(&[u8], &[u8]); 2] = [
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        (b"*2\r\n$3\r\nGET\r\n$5\r\nprobe\r\n", b"$-1\r\n"),
    ];
    let mut server = CpuWatch::open(pid)?;
    let mut own = CpuWatch::open_this_thread()?;
    let mut seen = Seen {
        round_trips: Histogram::new(),
        over_limit: 0,
        longest_at: Duration::ZERO,
        longest_own: Duration::ZERO,
        priority: proc::run_first(),
    };
    let mut reply = [0; 7];
    let mut longest = Duration::ZERO;
    let began_at = Instant::now();
    for (question, answer) in questions.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        server.mark();
        own.mark();
        let sent_at = Instant::now();
        stream.write_all(question)?;
        let reply = &mut reply[..answer.len()];
        stream.read_exact(reply)?;
        let round_trip = sent_at.elapsed();
        if reply != *answer {
            let reply = String::from_utf8_lossy(reply).into_owned();
            return Err(format!("unexpected reply {reply:?}").into());
        }
        seen.round_trips.record(round_trip);
        if seen.round_trips.count() == 1 {
            // Nobody listens when starting the probe was given up.
            let _ = begun.send(());
        }
        if round_trip > longest {
            longest = round_trip;
            seen.longest_at = sent_at - began_at;
        }
        if round_trip > PAUSE_LIMIT {
            seen.over_limit += 1;
        }
        let mut by_server = round_trip;
        if round_trip > SLOW {
            let others = server.kept_waiting_by_others() + own.kept_waiting_by_others();
            by_server = round_trip.saturating_sub(others);
        }
        seen.longest_own = seen.longest_own.max(by_server);
        thread::sleep(PROBE_EVERY);
    }
    Ok(seen)
}

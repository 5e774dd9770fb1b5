//! What replication takes: a full synchronization, a replica's stream beside
//! clients, and WAIT.
//!
//! *Full*: a replica of the same make follows a primary that has keys; the time
//! from REPLICAOF until its link is up.
//!
//! *Stream*: clients overwrite random keys, with one replica and without, in
//! turns. The replica is a thread of this program that reads and discards, so
//! that what is measured is the primary: processor time per write, and writes
//! a second.
//!
//! *WAIT*: one client sets a key and waits for one replica of the same make,
//! again and again; the time of the WAIT alone.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::{Load, Shape, Until};
use crate::options::Options;
use crate::proc::{self, CpuSample};
use crate::request::{Keys, Template};
use crate::server::{Launch, Product, Server};
use crate::stats::{Histogram, median};
use crate::table::{Table, figure};
use crate::{Bench, Outcome};

/// A link that is not up after this long is reported as one that never will be.
const LINK_LIMIT: Duration = Duration::from_secs(300);

/// Rounds of SET and WAIT in one measurement.
const WAITS: usize = 5_000;

pub fn report(bench: &Bench) -> Outcome<()> {
    proc::pin(&[bench.cores.load])?;
    bench.print_head("Replication");
    full(bench)?;
    stream(bench)?;
    wait(bench)
}

/// Ours with one shard and with several, and the peers.
fn contenders(bench: &Bench) -> Vec<(String, &Product, usize)> {
    let ours = &bench.field.ours;
    let mut found = vec![(format!("{}, 1 shard", ours.label), ours, 1)];
    if bench.options.shards > 1 {
        let shards = bench.options.shards;
        found.push((format!("{}, {shards} shards", ours.label), ours, shards));
    }
    found.extend(bench.field.peers.iter().map(|peer| (peer.label.clone(), peer, 1)));
    found
}

/// Where a primary and where its replica runs: on a core each, or both on all.
fn launches(bench: &Bench, shards: usize) -> [Launch; 2] {
    let on = |cores: Vec<usize>| Launch { cores, threads: shards, max_clients: None };
    match shards {
        1 => [on(vec![bench.cores.server]), on(vec![bench.cores.load])],
        _ => [on(bench.cores.all.clone()), on(bench.cores.all.clone())],
    }
}

fn quick() -> Vec<String> {
    ["--repl-diskless-sync-delay", "0", "--repl-diskless-sync", "yes"].map(String::from).to_vec()
}

fn template(value_len: usize) -> Template {
    let mut template = Template::new();
    template.word("SET").key("key:").word(&"v".repeat(value_len));
    template
}

fn follow(replica: &Server, primary: &Server) -> Outcome<Duration> {
    let mut client = replica.client()?;
    let began = Instant::now();
    client.ask(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()])?;
    while client.info("master_link_status")? != "up" {
        if began.elapsed() > LINK_LIMIT {
            return Err("the link never comes up".into());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(began.elapsed())
}

/// What all contenders have taken, in rounds in which each has its turn.
struct Taken<'a> {
    contenders: Vec<(String, &'a Product, usize)>,
    rounds: Vec<Vec<[f64; 2]>>,
    /// The first peer, to be compared with.
    peer: Option<usize>,
}

impl<'a> Taken<'a> {
    fn measure(
        bench: &'a Bench,
        measure: impl Fn(&str, &Product, [Launch; 2]) -> Outcome<[f64; 2]>,
    ) -> Outcome<Taken<'a>> {
        let contenders = contenders(bench);
        let mut rounds = vec![Vec::new(); contenders.len()];
        for _ in 0..bench.options.rounds {
            for ((label, product, shards), rounds) in contenders.iter().zip(&mut rounds) {
                rounds.push(measure(label, product, launches(bench, *shards))?);
            }
        }
        let first = bench.field.peers.first();
        let is_first = |product: &Product| first.is_some_and(|first| first.label == product.label);
        let peer = contenders.iter().position(|(_, product, _)| is_first(product));
        Ok(Taken { contenders, rounds, peer })
    }

    /// The median of one of the two figures.
    fn median(&self, at: usize, what: usize) -> f64 {
        median(&self.rounds[at].iter().map(|round| round[what]).collect::<Vec<_>>())
    }

    /// The same as a ratio to the peer's.
    fn ratio(&self, at: usize, what: usize) -> String {
        let peer = self.peer.map_or(f64::NAN, |peer| self.median(peer, what));
        format!("{:.2}", self.median(at, what) / peer)
    }
}

fn full(bench: &Bench) -> Outcome<()> {
    let value_len = *bench.options.values.first().ok_or("no --values")?;
    let keys = bench.options.keys;
    println!("Full synchronization of {keys} keys of {value_len} B, until the link is up.\n");
    let mut table = Table::new(1, &["server", "seconds", "CPU s of the primary", "time / peer"]);
    let taken = Taken::measure(bench, |label, product, [here, there]| {
        let primary = product.start_with(&here, &quick())?;
        let shape = Shape { connections: 8, pipeline: 64 };
        let mut load = Load::connect(primary.port, shape, &template(value_len), Keys::ascending())?;
        load.run(Until::Requests(keys))?;
        let replica = product.start_with(&there, &quick())?;
        let before = CpuSample::take(primary.pid())?;
        let took = follow(&replica, &primary).map_err(|error| format!("{label}: {error}"))?;
        let cpu = CpuSample::take(primary.pid())?.since(&before).ran;
        let count = replica.client()?.count_keys()?;
        if count != keys {
            return Err(format!("{label}: {count} keys instead of {keys}").into());
        }
        eprintln!("{label}: {took:.2?}, {cpu:.2?} of the primary's time");
        Ok([took.as_secs_f64(), cpu.as_secs_f64()])
    })?;
    for (at, (label, ..)) in taken.contenders.iter().enumerate() {
        let [seconds, cpu] = [0, 1].map(|what| figure(taken.median(at, what)));
        table.row(vec![label.clone(), seconds, cpu, taken.ratio(at, 0)]);
    }
    table.print();
    Ok(())
}

/// A replica that reads and discards, and says now and then how much that was.
struct Drain {
    stream: TcpStream,
    read: Arc<AtomicU64>,
}

impl Drain {
    fn attach(port: u16) -> Outcome<Drain> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        // In two steps: PSYNC is refused behind a reply that is still to be sent.
        stream.write_all(b"REPLCONF capa eof capa psync2\r\n")?;
        stream.read_exact(&mut [0; b"+OK\r\n".len()])?;
        stream.write_all(b"PSYNC ? -1\r\n")?;
        let read = Arc::new(AtomicU64::new(0));
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut reader = stream.try_clone()?;
        let counted = Arc::clone(&read);
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(got) => _ = counted.fetch_add(got as u64, Ordering::Relaxed),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
                // What it acknowledges is of no interest; that it does is what keeps it,
                // and what starts the stream behind the data of a full sync.
                if reader.write_all(b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n").is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Ok(Drain { stream, read })
    }

    fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn stream(bench: &Bench) -> Outcome<()> {
    let value_len = *bench.options.values.first().ok_or("no --values")?;
    println!(
        "Clients overwrite random keys of {value_len} B, with one replica that reads and discards \
         and without.\n"
    );
    let mut table = Table::new(
        2,
        &[
            "server",
            "pipeline",
            "ns/write",
            "with",
            "ratio",
            "writes/s",
            "with",
            "ratio",
            "stream MB/s",
        ],
    );
    for (label, product, shards) in contenders(bench) {
        for &pipeline in &bench.options.pipelines {
            let [here, _] = launches(bench, shards);
            let server = product.start_with(&here, &quick())?;
            let connections = Options::only("connections", &bench.options.connections)?;
            let (shape, keys) =
                (Shape { connections, pipeline }, Keys::random_below_span(100_000, 1));
            let mut load = Load::connect(server.port, shape, &template(value_len), keys)?;
            let time = Duration::from_secs_f64(bench.options.seconds);
            load.run(Until::Time(time))?;
            let mut rounds: [Vec<[f64; 3]>; 2] = Default::default();
            for _ in 0..bench.options.rounds {
                for (with, rounds) in rounds.iter_mut().enumerate() {
                    let drain = (with == 1).then(|| Drain::attach(server.port)).transpose()?;
                    if let Some(drain) = &drain {
                        wait_for_drain(&server, drain)?;
                    }
                    let sent = drain.as_ref().map_or(0, Drain::bytes);
                    let before = CpuSample::take(server.pid())?;
                    let tally = load.run(Until::Time(time))?;
                    let cpu = CpuSample::take(server.pid())?.since(&before).ran;
                    let sent = drain.as_ref().map_or(0, Drain::bytes) - sent;
                    let (requests, seconds) = (tally.requests as f64, tally.elapsed.as_secs_f64());
                    rounds.push([
                        cpu.as_nanos() as f64 / requests,
                        requests / seconds,
                        sent as f64 / seconds / 1e6,
                    ]);
                }
            }
            let of = |with: usize, what: usize| {
                median(&rounds[with].iter().map(|round| round[what]).collect::<Vec<_>>())
            };
            table.row(vec![
                label.clone(),
                pipeline.to_string(),
                figure(of(0, 0)),
                figure(of(1, 0)),
                format!("{:.2}", of(1, 0) / of(0, 0)),
                figure(of(0, 1)),
                figure(of(1, 1)),
                format!("{:.2}", of(1, 1) / of(0, 1)),
                figure(of(1, 2)),
            ]);
        }
    }
    table.print();
    Ok(())
}

/// Waits until writes reach a replica that discards: it is online, and gets
/// what is written.
fn wait_for_drain(server: &Server, drain: &Drain) -> Outcome<()> {
    let (began, mut client) = (Instant::now(), server.client()?);
    loop {
        let state = client.info("slave0").unwrap_or_default();
        let before = drain.bytes();
        client.ask(&["SET", "drain", "v"])?;
        thread::sleep(Duration::from_millis(20));
        if state.contains("state=online") && drain.bytes() > before {
            return Ok(());
        }
        if began.elapsed() > LINK_LIMIT {
            return Err(format!("the replica is never online: {state}").into());
        }
    }
}

fn wait(bench: &Bench) -> Outcome<()> {
    println!("SET and WAIT 1 0, one client; µs of the WAIT.\n");
    let mut table = Table::new(1, &["server", "p50", "p99", "p50 / peer", "p99 / peer"]);
    let taken = Taken::measure(bench, |label, product, [here, there]| {
        let primary = product.start_with(&here, &quick())?;
        let replica = product.start_with(&there, &quick())?;
        follow(&replica, &primary)?;
        let (mut client, mut latency) = (primary.client()?, Histogram::new());
        for n in 0..WAITS {
            client.ask(&["SET", &format!("key:{}", n % 1000), "v"])?;
            let began = Instant::now();
            let count = client.ask(&["WAIT", "1", "0"])?;
            latency.record(began.elapsed());
            if count != ":1" {
                return Err(format!("{label}: WAIT says {count}").into());
            }
        }
        let quantiles = [latency.quantile_us(0.5), latency.quantile_us(0.99)];
        eprintln!("{label}: WAIT {quantiles:.0?} us");
        Ok(quantiles)
    })?;
    for (at, (label, ..)) in taken.contenders.iter().enumerate() {
        let [p50, p99] = [0, 1].map(|what| figure(taken.median(at, what)));
        table.row(vec![label.clone(), p50, p99, taken.ratio(at, 0), taken.ratio(at, 1)]);
    }
    table.print();
    Ok(())
}

//! What saving and loading take, alone and beside clients.
//!
//! *Alone*: SAVE of the same keys with and without compression, then a start
//! on the file it made, as the log says how long the load took. The values are
//! noise, so compression is tried in vain: the worst case of both.
//!
//! *Beside clients*: BGSAVE while connections overwrite random keys with values
//! of the same size at full speed. The latency of those writes during the save
//! stands beside that without one, in the same run of the same server; memory
//! is what the server's resident size grows by, and what it says itself that
//! it kept of changed keys (a forking server's is the child's).

use std::time::{Duration, Instant};

use crate::load::{Load, Shape, Until};
use crate::options::Options;
use crate::proc::{self, CpuSample};
use crate::request::{Keys, Template};
use crate::server::{Launch, Product, Server};
use crate::stats::{Histogram, median};
use crate::table::{Table, figure};
use crate::{Bench, Outcome};

/// A piece of load between two looks at the save.
const PIECE: Duration = Duration::from_millis(50);

/// Time for a heap to settle before its size is taken.
const SETTLE: Duration = Duration::from_secs(1);

/// A save that takes longer is reported as one that hangs.
const SAVE_LIMIT: Duration = Duration::from_secs(600);

pub fn report(bench: &Bench) -> Outcome<()> {
    let (values, shape) = (&bench.options.values, Shape { connections: 8, pipeline: 64 });
    proc::pin(&[bench.cores.load])?;
    bench.print_head("Saving and loading, alone");
    println!(
        "Median of {} rounds; one shard on core {}, several on all {}.\n",
        bench.options.rounds,
        bench.cores.server,
        bench.cores.all.len()
    );
    let mut table = Table::new(
        3,
        &[
            "server",
            "keys",
            "compression",
            "SAVE s",
            "CPU s",
            "load s",
            "file MiB",
            "SAVE / peer",
            "load / peer",
        ],
    );
    for &value_len in values {
        // As many bytes, if they are not few.
        let keys =
            (bench.options.keys * 64 / value_len as u64).max(200_000).min(bench.options.keys);
        for compression in ["no", "yes"] {
            let mut sums: Vec<Vec<Alone>> = contenders(bench).iter().map(|_| Vec::new()).collect();
            for _ in 0..bench.options.rounds {
                for (at, (label, product, launch)) in contenders(bench).iter().enumerate() {
                    let taken = alone(product, launch, shape, keys, value_len, compression);
                    let taken = taken.map_err(|error| format!("{label}: {error}"))?;
                    eprintln!("{label}, {value_len} B, {compression}: {taken:?}");
                    sums[at].push(taken);
                }
            }
            let of = |at: usize, what: fn(&Alone) -> f64| {
                median(&sums[at].iter().map(what).collect::<Vec<_>>())
            };
            let peer = contenders(bench).iter().position(|(_, product, _)| {
                bench.field.peers.first().is_some_and(|peer| peer.label == product.label)
            });
            let ratio = |at: usize, what: fn(&Alone) -> f64| {
                peer.map_or(f64::NAN, |peer| of(at, what) / of(peer, what))
            };
            for (at, (label, ..)) in contenders(bench).iter().enumerate() {
                table.row(vec![
                    label.clone(),
                    format!("{keys} of {value_len} B"),
                    compression.to_string(),
                    figure(of(at, |alone| alone.save_s)),
                    figure(of(at, |alone| alone.cpu_s)),
                    figure(of(at, |alone| alone.load_s)),
                    figure(of(at, |alone| alone.file_mib)),
                    format!("{:.2}", ratio(at, |alone| alone.save_s)),
                    format!("{:.2}", ratio(at, |alone| alone.load_s)),
                ]);
            }
        }
    }
    table.print();
    beside(bench)
}

/// Ours with one shard and with several, and the peers.
fn contenders(bench: &Bench) -> Vec<(String, &Product, Launch)> {
    let one = Launch { cores: vec![bench.cores.server], threads: 1, max_clients: None };
    let all =
        Launch { cores: bench.cores.all.clone(), threads: bench.options.shards, max_clients: None };
    let ours = &bench.field.ours;
    let mut found = vec![(format!("{}, 1 shard", ours.label), ours, one.clone())];
    if bench.options.shards > 1 {
        found.push((format!("{}, {} shards", ours.label, bench.options.shards), ours, all));
    }
    let peers = bench.field.peers.iter();
    found.extend(peers.map(|peer| (peer.label.clone(), peer, one.clone())));
    found
}

#[derive(Debug)]
struct Alone {
    save_s: f64,
    cpu_s: f64,
    load_s: f64,
    file_mib: f64,
}

/// SET of a key with noise of so many bytes.
fn template(value_len: usize) -> Template {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let noise: String = (0..value_len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'0' + (state >> 58) as u8)
        })
        .collect();
    let mut template = Template::new();
    template.word("SET").key("key:").word(&noise);
    template
}

fn fill(server: &Server, shape: Shape, keys: u64, value_len: usize) -> Outcome<()> {
    let mut load = Load::connect(server.port, shape, &template(value_len), Keys::ascending())?;
    load.run(Until::Requests(keys))?;
    Ok(())
}

fn alone(
    product: &Product,
    launch: &Launch,
    shape: Shape,
    keys: u64,
    value_len: usize,
    compression: &str,
) -> Outcome<Alone> {
    let more: Vec<String> = ["--rdbcompression", compression].map(String::from).to_vec();
    let server = product.start_with(launch, &more)?;
    fill(&server, shape, keys, value_len)?;
    let before = CpuSample::take(server.pid())?;
    let began = Instant::now();
    server.client()?.ask(&["SAVE"])?;
    let save_s = began.elapsed().as_secs_f64();
    let cpu_s = CpuSample::take(server.pid())?.since(&before).ran.as_secs_f64();
    let scratch = server.stop()?;
    let file_mib = std::fs::metadata(scratch.path().join("dump.rdb"))?.len() as f64 / 1_048_576.0;
    let server = product.start_in(launch, &more, scratch)?;
    let count = server.client()?.count_keys()?;
    if count != keys {
        return Err(format!("{count} keys instead of {keys}").into());
    }
    let load_s = server.seconds_loaded()?;
    Ok(Alone { save_s, cpu_s, load_s, file_mib })
}

// ---- beside clients ----------------------------------------------------------------------------

fn beside(bench: &Bench) -> Outcome<()> {
    let shape = Shape {
        connections: Options::only("connections", &bench.options.connections)?,
        pipeline: Options::only("pipelines", &bench.options.pipelines)?,
    };
    let value_len = *bench.options.values.first().ok_or("no --values")?;
    bench.print_head("BGSAVE beside writers");
    println!(
        "{} keys of {value_len} B; {} connections, pipeline {}, overwrite random ones; server on \
         core {}, load on core {}; medians of {} rounds. Latencies in µs.\n",
        bench.options.keys,
        shape.connections,
        shape.pipeline,
        bench.cores.server,
        bench.cores.load,
        bench.options.rounds
    );
    let mut table = Table::new(
        1,
        &[
            "server", "save s", "writes/s", "during", "p50", "during", "p99.9", "during", "p99.99",
            "during", "max", "during", "RSS MiB", "grows %", "kept MiB",
        ],
    );
    let products = std::iter::once(&bench.field.ours).chain(&bench.field.peers);
    let products: Vec<&Product> = products.collect();
    let mut rounds: Vec<Vec<Vec<f64>>> = products.iter().map(|_| Vec::new()).collect();
    for _ in 0..bench.options.rounds {
        for (at, product) in products.iter().enumerate() {
            let launch = Launch { cores: vec![bench.cores.server], threads: 1, max_clients: None };
            let server = product.start(&launch)?;
            let figures = beside_one(bench, &server, shape, value_len)
                .map_err(|error| format!("{}: {error}", product.label))?;
            eprintln!("{}: {figures:.1?}", product.label);
            rounds[at].push(figures);
        }
    }
    for (product, rounds) in products.iter().zip(&rounds) {
        let mut cells = vec![product.label.clone()];
        for at in 0..rounds[0].len() {
            let values: Vec<f64> = rounds.iter().map(|round| round[at]).collect();
            cells.push(figure(median(&values)));
        }
        table.row(cells);
    }
    table.print();
    Ok(())
}

fn beside_one(bench: &Bench, server: &Server, shape: Shape, value_len: usize) -> Outcome<Vec<f64>> {
    let keys = bench.options.keys;
    fill(server, Shape { connections: 8, pipeline: 64 }, keys, value_len)?;
    let random = Keys::random_below_span(keys, 1);
    let mut load = Load::connect(server.port, shape, &template(value_len), random)?;
    load.run(Until::Time(Duration::from_secs_f64(bench.options.seconds / 4.0)))?;
    std::thread::sleep(SETTLE);
    let calm = load.run(Until::Time(Duration::from_secs_f64(bench.options.seconds)))?;
    let resident = proc::resident_bytes(server.pid())? as f64;
    let mut client = server.client()?;
    let (began, mut latency) = (Instant::now(), Histogram::new());
    let (mut requests, mut most) = (0, resident);
    client.ask(&["BGSAVE"])?;
    while client.info("rdb_bgsave_in_progress")? != "0" {
        let tally = load.run(Until::Time(PIECE))?;
        latency.add(&tally.latency);
        requests += tally.requests;
        most = most.max(proc::resident_bytes(server.pid())? as f64);
        if began.elapsed() > SAVE_LIMIT {
            return Err("the save does not end".into());
        }
    }
    let save_s = began.elapsed().as_secs_f64();
    if client.info("rdb_last_bgsave_status")? != "ok" {
        return Err("the save failed".into());
    }
    let kept: f64 = client.info("rdb_last_cow_size")?.parse()?;
    let mut figures =
        vec![save_s, calm.requests as f64 / calm.elapsed.as_secs_f64(), requests as f64 / save_s];
    for share in [0.5, 0.999, 0.9999] {
        figures.push(calm.latency.quantile_us(share));
        figures.push(latency.quantile_us(share));
    }
    figures.extend([calm.latency.max_us(), latency.max_us()]);
    figures.extend([resident / 1_048_576.0, (most / resident - 1.0) * 100.0, kept / 1_048_576.0]);
    Ok(figures)
}

//! What it costs to be watched: throughput and latency of a loaded server
//! while somebody asks for INFO or scrapes /metrics ten times a second, many
//! times as often as anybody does, against the same server left alone seconds
//! before. And for how long one such question can hold a shard: its round trip
//! on an idle server, which is more than that.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::{Load, Shape, Tally, Until};
use crate::options::Options;
use crate::proc::{self, CpuSample};
use crate::request::{Command, Keys};
use crate::server::{Launch, Server, free_port};
use crate::stats::{Histogram, Ratio, median};
use crate::table::{Table, figure};
use crate::{Bench, Outcome};

const EVERY: Duration = Duration::from_millis(100);

/// Questions on the idle server, of which the median and the longest count.
const TRIALS: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Watcher {
    Nobody,
    Info,
    Metrics,
}

impl Watcher {
    const ALL: [Watcher; 3] = [Watcher::Nobody, Watcher::Info, Watcher::Metrics];

    fn name(self) -> &'static str {
        match self {
            Watcher::Nobody => "nobody",
            Watcher::Info => "INFO everything",
            Watcher::Metrics => "GET /metrics",
        }
    }
}

/// The server under watch.
struct Watched {
    server: Server,
    admin: u16,
}

impl Watched {
    /// One question, answered. Returns how long it took, connecting included.
    fn ask(&self, watcher: Watcher) -> Outcome<Duration> {
        let began = Instant::now();
        let (port, question): (u16, &[u8]) = match watcher {
            Watcher::Nobody => return Ok(Duration::ZERO),
            Watcher::Info => (self.server.port, b"INFO everything\r\n"),
            Watcher::Metrics => (self.admin, b"GET /metrics HTTP/1.1\r\n\r\n"),
        };
        let mut stream = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?);
        stream.get_mut().write_all(question)?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        // The length of what follows is the first thing INFO is answered with, and stands in one of
        // the lines above the metrics.
        while !line.starts_with('$') && !line.starts_with("Content-Length: ") {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(format!("{}: the answer ended early", watcher.name()).into());
            }
        }
        let length = line.trim_start_matches("Content-Length: ").trim_start_matches('$').trim();
        let mut answer = vec![0; length.parse()?];
        stream.read_exact(&mut answer)?;
        Ok(began.elapsed())
    }

    /// Round trips on the idle server.
    fn round_trips(&self, watcher: Watcher) -> Outcome<Histogram> {
        let mut histogram = Histogram::new();
        for _ in 0..TRIALS {
            histogram.record(self.ask(watcher)?);
            thread::sleep(Duration::from_millis(2));
        }
        Ok(histogram)
    }
}

struct Figures {
    per_second: f64,
    cpu_ns: f64,
    p99_us: f64,
    p999_us: f64,
}

pub fn report(bench: &Bench) -> Outcome<()> {
    let options = &bench.options;
    let shape = Shape {
        connections: Options::only("connections", &options.connections)?,
        pipeline: Options::only("pipelines", &options.pipelines)?,
    };
    let value_len = Options::only("values", &options.values)?;
    bench.print_head("What it costs to be watched");
    println!(
        "{} connections, pipeline {}, {value_len} B values, {} s per measurement, median of {} \
         rounds in which all take turns; {} shard(s). Asked every {} ms.\n",
        shape.connections,
        shape.pipeline,
        options.seconds,
        options.rounds,
        options.shards,
        EVERY.as_millis()
    );
    proc::pin(&[bench.cores.load])?;
    let admin = free_port()?;
    let launch = Launch {
        cores: match options.shards {
            1 => vec![bench.cores.server],
            _ => bench.cores.all.clone(),
        },
        threads: options.shards,
        max_clients: None,
    };
    let more = ["--admin-port".to_owned(), admin.to_string()];
    let server = bench.field.ours.start_with(&launch, &more)?;
    let watched = Watched { server, admin };
    let fill = Command::Set.template(value_len);
    let mut load = Load::connect(watched.server.port, shape, &fill, Keys::ascending())?;
    load.run(Until::Requests(options.keyspace))?;
    drop(load);

    let mut table = Table::new(
        2,
        &[
            "command",
            "watched by",
            "operations/s",
            "ratio",
            "from",
            "to",
            "CPU ns/op",
            "ratio of CPU",
            "p99 µs",
            "p99.9 µs",
        ],
    );
    for &command in &options.commands {
        let mut figures: Vec<Vec<Figures>> = Watcher::ALL.iter().map(|_| Vec::new()).collect();
        for round in 0..options.rounds {
            for turn in 0..Watcher::ALL.len() {
                let index = (round + turn) % Watcher::ALL.len();
                let template = command.template(value_len);
                let keys = Keys::random_below_span(options.keyspace, round as u64);
                let mut load = Load::connect(watched.server.port, shape, &template, keys)?;
                load.run(Until::Time(Duration::from_secs_f64(options.seconds / 5.0)))?;
                let watcher = Watcher::ALL[index];
                figures[index].push(measure(&watched, watcher, &mut load, options.seconds)?);
            }
        }
        let column = |index: usize, of: fn(&Figures) -> f64| -> Vec<f64> {
            figures[index].iter().map(of).collect()
        };
        for (index, watcher) in Watcher::ALL.iter().enumerate() {
            let speed = column(index, |figures| figures.per_second);
            let cpu = column(index, |figures| figures.cpu_ns);
            let ratio = Ratio::of_rounds(&speed, &column(0, |figures| figures.per_second));
            table.row(vec![
                command.title(),
                watcher.name().to_owned(),
                figure(median(&speed)),
                format!("{:.3}", ratio.median),
                format!("{:.3}", ratio.low),
                format!("{:.3}", ratio.high),
                figure(median(&cpu)),
                format!("{:.3}", Ratio::of_rounds(&cpu, &column(0, |f| f.cpu_ns)).median),
                figure(median(&column(index, |figures| figures.p99_us))),
                figure(median(&column(index, |figures| figures.p999_us))),
            ]);
        }
    }
    table.print();

    println!("One question on the idle server, connecting included:\n");
    let mut table = Table::new(1, &["asked for", "p50 µs", "p99 µs", "max µs"]);
    for watcher in [Watcher::Info, Watcher::Metrics] {
        let trips = watched.round_trips(watcher)?;
        table.row(vec![
            watcher.name().to_owned(),
            figure(trips.quantile_us(0.5)),
            figure(trips.quantile_us(0.99)),
            figure(trips.max_us()),
        ]);
    }
    table.print();
    Ok(())
}

/// Loads the server while somebody watches it.
fn measure(watched: &Watched, watcher: Watcher, load: &mut Load, seconds: f64) -> Outcome<Figures> {
    let stop = AtomicBool::new(false);
    let before = CpuSample::take(watched.server.pid())?;
    let (tally, asked): (Outcome<Tally>, Outcome<usize>) = thread::scope(|scope| {
        let watching = scope.spawn(|| -> Outcome<usize> {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                watched.ask(watcher)?;
                asked += 1;
                thread::sleep(EVERY);
            }
            Ok(asked)
        });
        let tally = load.run(Until::Time(Duration::from_secs_f64(seconds)));
        stop.store(true, Ordering::Relaxed);
        let asked = watching.join().unwrap_or_else(|_| Err("the watcher panicked".into()));
        (tally, asked)
    });
    let (tally, asked) = (tally?, asked?);
    if asked == 0 {
        return Err("nobody got round to watching".into());
    }
    let used = CpuSample::take(watched.server.pid())?.since(&before);
    let requests = tally.requests as f64;
    Ok(Figures {
        per_second: requests / tally.elapsed.as_secs_f64(),
        cpu_ns: used.ran.as_nanos() as f64 / requests,
        p99_us: tally.latency.quantile_us(0.99),
        p999_us: tally.latency.quantile_us(0.999),
    })
}

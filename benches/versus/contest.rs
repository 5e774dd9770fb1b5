//! Rounds of turns. In each round every contender is started afresh (the
//! placement of a process in memory alone moves its speed by some per cent, so
//! one process per contender would measure luck), loaded, and then, case by
//! case, all take their turn directly one after another.

use std::thread;
use std::time::Duration;

use crate::load::{Load, Shape, Tally, Until};
use crate::proc::{self, CpuSample, CpuUsed};
use crate::request::{Command, Keys};
use crate::server::{Launch, Product, Server};
use crate::stats::{Ratio, median};
use crate::table::{Table, figure, percent};
use crate::{Bench, Outcome};

/// Large values get fewer keys, so that all contenders fit in memory.
const KEYSPACE_BYTES: u64 = 256 << 20;

/// Long enough that an idle server is asleep and its processor time booked:
/// the kernel books a running thread only at its next tick.
const SETTLE: Duration = Duration::from_millis(3);

/// One server in one configuration.
#[derive(Clone)]
pub struct Contender {
    pub label: String,
    pub product: Product,
    pub launch: Launch,
    /// Where the load runs while this one is measured.
    pub load_cores: Vec<usize>,
}

/// One thing that is measured.
#[derive(Clone, Copy)]
struct Case {
    command: Command,
    value_len: usize,
    shape: Shape,
}

/// What one turn of one contender gave.
struct Figures {
    cpu_ns: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    server_busy: f64,
    load_busy: f64,
    waited: f64,
}

/// The figures of one case: by contender, then by round.
struct Results {
    case: Case,
    figures: Vec<Vec<Figures>>,
}

/// Measures all contenders in all cases of the options and prints the tables.
/// Ratios are those of the first contender to each other one.
pub fn hold(bench: &Bench, contenders: &[Contender]) -> Outcome<()> {
    let (cases, left_out) = cases(bench);
    let mut results: Vec<Results> = cases
        .iter()
        .map(|&case| Results { case, figures: contenders.iter().map(|_| Vec::new()).collect() })
        .collect();
    for round in 0..bench.options.rounds {
        for &value_len in &bench.options.values {
            let servers = start(bench, contenders, value_len)?;
            for (number, results) in results.iter_mut().enumerate() {
                if results.case.value_len != value_len {
                    continue;
                }
                // The order rotates, so that no contender always follows the
                // same other one.
                for turn in 0..contenders.len() {
                    let index = (round + number + turn) % contenders.len();
                    let contender = &contenders[index];
                    proc::pin(&contender.load_cores)?;
                    let seed = (round * 1000 + number) as u64;
                    let figures = measure(bench, &servers[index], results.case, seed)
                        .map_err(|error| format!("{}: {error}", contender.label))?;
                    eprintln!(
                        "round {} {} {}: {:.0} ns per operation, {:.0} operations/s",
                        round + 1,
                        results.case.title(),
                        contender.label,
                        figures.cpu_ns,
                        figures.per_second,
                    );
                    results.figures[index].push(figures);
                }
            }
        }
    }
    print_ratios(bench, contenders, &results);
    print_figures(contenders, &results);
    for case in left_out {
        println!("Left out, for its payload in flight: {case}\n");
    }
    Ok(())
}

/// The cases to measure, and the ones too large to be.
fn cases(bench: &Bench) -> (Vec<Case>, Vec<String>) {
    let options = &bench.options;
    let mut cases = Vec::new();
    let mut left_out = Vec::new();
    for &value_len in &options.values {
        for &command in &options.commands {
            for &connections in &options.connections {
                for &pipeline in &options.pipelines {
                    let shape = Shape { connections, pipeline };
                    let case = Case { command, value_len, shape };
                    let in_flight = command.payload(value_len) * connections * pipeline;
                    if in_flight > options.payload_limit_mib << 20 {
                        left_out.push(format!("{} with {value_len} B values", case.title()));
                    } else {
                        cases.push(case);
                    }
                }
            }
        }
    }
    (cases, left_out)
}

impl Case {
    fn title(&self) -> String {
        format!(
            "{}, {} connections, pipeline {}",
            self.command.title(),
            self.shape.connections,
            self.shape.pipeline
        )
    }
}

/// Fewer keys than asked for where values are large.
fn keyspace(bench: &Bench, value_len: usize) -> u64 {
    let fitting = KEYSPACE_BYTES / value_len as u64;
    bench.options.keyspace.min(fitting).max(1)
}

/// Starts all contenders with every key present that the cases will touch:
/// otherwise the first case would measure a growing table and the last a full
/// one.
fn start(bench: &Bench, contenders: &[Contender], value_len: usize) -> Outcome<Vec<Server>> {
    let shape = Shape { connections: 4, pipeline: 64 };
    let counters = bench.options.commands.contains(&Command::Incr);
    let values = bench.options.commands.iter().any(|c| *c != Command::Incr);
    let mut servers = Vec::new();
    for contender in contenders {
        proc::pin(&contender.load_cores)?;
        let server = contender.product.start(&contender.launch)?;
        for (wanted, command) in [(values, Command::Set), (counters, Command::Incr)] {
            if wanted {
                let template = command.template(value_len);
                let mut load = Load::connect(server.port, shape, &template, Keys::ascending())?;
                load.run(Until::Requests(keyspace(bench, value_len)))
                    .map_err(|error| format!("{}: loading: {error}", contender.label))?;
            }
        }
        servers.push(server);
    }
    Ok(servers)
}

fn measure(bench: &Bench, server: &Server, case: Case, seed: u64) -> Outcome<Figures> {
    let template = case.command.template(case.value_len);
    let keys = Keys::random_below_span(keyspace(bench, case.value_len), seed);
    let mut load = Load::connect(server.port, case.shape, &template, keys)?;
    let (warm_up, measured) = match bench.options.requests {
        0 => {
            let seconds = bench.options.seconds;
            let warm_up = Duration::from_secs_f64((seconds / 5.0).min(0.5));
            let measured = Duration::from_secs_f64(seconds);
            (Until::Time(warm_up), Until::Time(measured))
        }
        requests => {
            let warm_up = requests.div_ceil(10);
            (Until::Requests(warm_up), Until::Requests(requests))
        }
    };
    load.run(warm_up)?;
    thread::sleep(SETTLE);
    let before = CpuSample::take(server.pid())?;
    let tally = load.run(measured)?;
    thread::sleep(SETTLE);
    let used = CpuSample::take(server.pid())?.since(&before);
    Ok(Figures::of(&tally, used))
}

impl Figures {
    fn of(tally: &Tally, used: CpuUsed) -> Figures {
        let requests = tally.requests as f64;
        let elapsed = tally.elapsed.as_secs_f64();
        Figures {
            cpu_ns: used.ran.as_nanos() as f64 / requests,
            per_second: requests / elapsed,
            p50_us: tally.latency.quantile_us(0.5),
            p99_us: tally.latency.quantile_us(0.99),
            p999_us: tally.latency.quantile_us(0.999),
            server_busy: used.ran.as_secs_f64() / elapsed,
            load_busy: tally.load_cpu.as_secs_f64() / elapsed,
            waited: used.waited.as_secs_f64() / elapsed,
        }
    }
}

/// One column of a contender's rounds.
fn column(rounds: &[Figures], of: impl Fn(&Figures) -> f64) -> Vec<f64> {
    rounds.iter().map(of).collect()
}

/// The short answer: one table per rival, pipelines side by side.
fn print_ratios(bench: &Bench, contenders: &[Contender], results: &[Results]) {
    let Some((first, rivals)) = contenders.split_first() else {
        return;
    };
    for (rival_index, rival) in rivals.iter().enumerate() {
        println!(
            "CPU per operation, **{} / {}**: median of {} rounds (lowest to highest), and the 95 % \
             interval of the mean. Below 1, {} needs less.\n",
            first.label, rival.label, bench.options.rounds, first.label
        );
        let mut headings = vec!["command", "value", "connections"];
        let pipelines: Vec<String> =
            bench.options.pipelines.iter().map(|pipeline| format!("pipeline {pipeline}")).collect();
        headings.extend(pipelines.iter().map(String::as_str));
        let mut table = Table::new(2, &headings);
        for &value_len in &bench.options.values {
            for &command in &bench.options.commands {
                for &connections in &bench.options.connections {
                    let mut row =
                        vec![command.title(), format!("{value_len} B"), connections.to_string()];
                    for &pipeline in &bench.options.pipelines {
                        let found = results.iter().find(|results| {
                            let case = &results.case;
                            case.value_len == value_len
                                && case.command == command
                                && case.shape.connections == connections
                                && case.shape.pipeline == pipeline
                        });
                        row.push(found.map_or("–".to_string(), |results| {
                            let ours = column(&results.figures[0], |f| f.cpu_ns);
                            let theirs = column(&results.figures[rival_index + 1], |f| f.cpu_ns);
                            let ratio = Ratio::of_rounds(&ours, &theirs);
                            let Ratio { median, low, high, interval } = ratio;
                            format!(
                                "{median:.2} ({low:.2}–{high:.2}) [{:.3}, {:.3}]",
                                interval.0, interval.1
                            )
                        }));
                    }
                    table.row(row);
                }
            }
        }
        table.print();
    }
}

/// Everything measured: medians over the rounds.
fn print_figures(contenders: &[Contender], results: &[Results]) {
    let Some(first) = contenders.first() else {
        return;
    };
    println!(
        "Medians of all rounds. Ratios are {} / that row's server, round by round. Latency is \
         that of a whole pipeline. *server* and *load* are processor time per elapsed time; \
         *kept waiting* is the time the server was ready to run but others had its core.\n",
        first.label
    );
    let mut table = Table::new(
        4,
        &[
            "command",
            "value",
            "conns × pipeline",
            "server",
            "CPU ns/op",
            "ratio",
            "kops/s",
            "ratio",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "server",
            "load",
            "kept waiting",
        ],
    );
    for results in results {
        let case = &results.case;
        let ours = &results.figures[0];
        for (index, contender) in contenders.iter().enumerate() {
            let rounds = &results.figures[index];
            let middle = |of: fn(&Figures) -> f64| median(&column(rounds, of));
            let ratio = |of: fn(&Figures) -> f64| {
                if index == 0 {
                    return String::new();
                }
                let ratio = Ratio::of_rounds(&column(ours, of), &column(rounds, of));
                format!("{:.2}", ratio.median)
            };
            table.row(vec![
                case.command.title(),
                format!("{} B", case.value_len),
                format!("{} × {}", case.shape.connections, case.shape.pipeline),
                contender.label.clone(),
                figure(middle(|f| f.cpu_ns)),
                ratio(|f| f.cpu_ns),
                figure(middle(|f| f.per_second) / 1e3),
                ratio(|f| f.per_second),
                figure(middle(|f| f.p50_us)),
                figure(middle(|f| f.p99_us)),
                figure(middle(|f| f.p999_us)),
                percent(middle(|f| f.server_busy)),
                percent(middle(|f| f.load_busy)),
                percent(middle(|f| f.waited)),
            ]);
        }
    }
    table.print();
}

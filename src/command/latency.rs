//! LATENCY: what took long, and how long commands take. What is recorded is in
//! [`crate::metrics::latency`] and [`crate::metrics::histogram`].

mod doctor;

use super::introspect::help;
use super::{Command, Effect, Family, Outcome, Run, all, find, find_sub, flag, subcommands, tip};
use crate::base::error::Error;
use crate::base::ticks::{self, Rate};
use crate::metrics::histogram::Counts;
use crate::metrics::latency::{Event, History};
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};

const OPERATOR: u32 = flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE;

/// LATENCY and its subcommands.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[
        Command::new("LATENCY", Run::Container)
            .usage("subcommand [argument...]")
            .since("2.8.13")
            .complexity("That of the subcommand")
            .summary("What took long, and how long commands take."),
        Command::new("LATENCY DOCTOR", Run::Session(doctor::doctor))
            .usage("")
            .with(OPERATOR)
            .since("2.8.13")
            .tips(tip::PER_NODE)
            .summary("A report on what took long, for people."),
        Command::new("LATENCY GRAPH", Run::Session(graph))
            .usage("event")
            .with(OPERATOR)
            .since("2.8.13")
            .tips(tip::PER_NODE)
            .summary("The samples of an event as a graph made of characters."),
        Command::new("LATENCY HELP", Run::Session(latency_help))
            .usage("")
            .with(flag::LOADING | flag::STALE)
            .since("2.8.13")
            .summary("What the subcommands do."),
        Command::new("LATENCY HISTOGRAM", Run::Session(histogram))
            .usage("[command...]")
            .with(OPERATOR)
            .since("7.0.0")
            .complexity("O(N) in the number of commands shown")
            .tips(tip::PER_NODE)
            .summary("How the durations of commands are distributed."),
        Command::new("LATENCY HISTORY", Run::Session(history))
            .usage("event")
            .with(OPERATOR)
            .since("2.8.13")
            .tips(tip::PER_NODE)
            .summary("The samples of an event."),
        Command::new("LATENCY LATEST", Run::Session(latest))
            .usage("")
            .with(OPERATOR)
            .since("2.8.13")
            .tips(tip::PER_NODE)
            .summary("The last sample of every event, and its longest."),
        Command::new("LATENCY RESET", Run::Session(reset))
            .usage("[event...]")
            .with(OPERATOR)
            .since("2.8.13")
            .tips(tip::SUMMED)
            .summary("Forgets the samples of some events, or of all."),
    ],
};

/// LATENCY HISTORY.
fn history(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let history =
        Event::named(args.at(0)).and_then(|event| env.instance.metrics.latency.history(event));
    let samples = history.unwrap_or_default().samples;
    reply.array(samples.len());
    for sample in samples {
        reply.array(2);
        reply.integer(sample.unix_s);
        reply.integer(sample.ms as i64);
    }
    Ok(Effect::Read)
}

/// LATENCY LATEST.
fn latest(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    let all = env.instance.metrics.latency.all();
    reply.array(all.len());
    for (event, History { samples, max_ms, sum_ms, count }) in all {
        let (unix_s, ms) = samples.back().map_or((0, 0), |last| (last.unix_s, last.ms));
        reply.array(6);
        reply.bulk(event.name().as_bytes());
        reply.integer(unix_s);
        for number in [ms, max_ms, sum_ms, count] {
            reply.integer(number as i64);
        }
    }
    Ok(Effect::Read)
}

/// LATENCY RESET.
fn reset(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let latency = &env.instance.metrics.latency;
    let events: Vec<Event> = match args.len() {
        0 => Event::ALL.to_vec(),
        _ => args.iter().filter_map(Event::named).collect(),
    };
    reply.integer(events.into_iter().filter(|event| latency.reset(*event)).count() as i64);
    Ok(Effect::Read)
}

/// LATENCY GRAPH.
fn graph(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let known = Event::named(args.at(0));
    let found = known.and_then(|event| Some((event, env.instance.metrics.latency.history(event)?)));
    let Some((event, history)) = found else {
        let name = String::from_utf8_lossy(args.at(0));
        return Err(Error::owned(format!("ERR No samples available for event '{name}'")));
    };
    reply.verbatim("txt", &draw(event, &history, env.now.unix_ms / 1000));
    Ok(Effect::Read)
}

/// Rows of a graph, and columns at most.
const ROWS: usize = 4;
const COLUMNS: usize = 80;

/// The samples as bars between the lowest and the highest of them, with their ages below.
fn draw(event: Event, history: &History, now_s: i64) -> String {
    let shown: Vec<_> =
        history.samples.iter().skip(history.samples.len().saturating_sub(COLUMNS)).collect();
    let high = shown.iter().map(|sample| sample.ms).max().unwrap_or(0);
    let low = shown.iter().map(|sample| sample.ms).min().unwrap_or(0);
    let mut out = format!(
        "{} - high {high} ms, low {low} ms (all time high {} ms)\n",
        event.name(),
        history.max_ms
    );
    out.push_str(&"-".repeat(COLUMNS));
    out.push('\n');
    // Two marks per row: `_` for its lower half, `#` for the top of a bar.
    let levels = ROWS * 2 - 1;
    let level = |ms: u64| (ms - low) as usize * levels / (high - low).max(1) as usize;
    for row in (0..ROWS).rev() {
        for sample in &shown {
            let level = level(sample.ms);
            out.push(match level / 2 {
                at if at > row => '|',
                at if at == row && level % 2 == 1 => '#',
                at if at == row => '_',
                _ => ' ',
            });
        }
        out.push('\n');
    }
    // How long ago each was, written downwards.
    let ages: Vec<String> = shown.iter().map(|sample| age(now_s - sample.unix_s)).collect();
    let longest = ages.iter().map(String::len).max().unwrap_or(0);
    for at in 0..longest {
        out.push('\n');
        out.extend(ages.iter().map(|age| age.as_bytes().get(at).map_or(' ', |b| char::from(*b))));
    }
    out.push('\n');
    out
}

fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// LATENCY HISTOGRAM.
fn histogram(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let commands: Vec<&Command> = match args.len() {
        0 => all().iter().collect(),
        _ => args.iter().flat_map(named).collect(),
    };
    let metrics = &env.instance.metrics;
    let counted =
        |command: &&'static Command| Some((*command, metrics.histogram_since_reset(command.id)?));
    let found: Vec<_> = commands.iter().filter_map(counted).collect();
    let rate = ticks::rate();
    reply.map(found.len());
    for (command, counts) in found {
        let steps = steps(&counts, rate);
        reply.bulk(command.full_name().as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(counts.total() as i64);
        reply.bulk(b"histogram_usec");
        reply.map(steps.len());
        for (us, count) in steps {
            reply.integer(us as i64);
            reply.integer(count as i64);
        }
    }
    Ok(Effect::Read)
}

/// A command, or a container's subcommands, by a name that may be `container|sub`.
fn named(name: &[u8]) -> Vec<&'static Command> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let (first, sub) = (parts.next().and_then(find), parts.next());
    match (first, sub) {
        (Some(container), Some(sub)) => find_sub(container, sub).into_iter().collect(),
        (Some(container), None) if subcommands(container).next().is_some() => {
            subcommands(container).collect()
        }
        (first, _) => first.into_iter().collect(),
    }
}

/// Upper bounds, in microseconds, with how many calls took at most that: those where that changes.
/// The bounds are the ones that Redis has, powers of two of nanoseconds.
fn steps(counts: &Counts, rate: Rate) -> Vec<(u64, u64)> {
    let (mut steps, mut last) = (Vec::new(), 0);
    let total = counts.total();
    let mut bound_ns: u64 = 1024;
    while last < total && bound_ns < 1 << 62 {
        // Redis keeps two digits: its bucket of a power of two ends a little above it.
        let upper_ns = bound_ns + bound_ns / 128 - 1;
        let below = counts.below(rate.ticks(upper_ns));
        if below > last {
            steps.push((upper_ns / 1000, below));
            last = below;
        }
        bound_ns *= 2;
    }
    steps
}

/// LATENCY HELP.
fn latency_help(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    help(
        "LATENCY",
        &[
            "DOCTOR",
            "    A report on what took long, for people.",
            "GRAPH <event>",
            "    The samples of <event> as a graph made of characters.",
            "HISTORY <event>",
            "    The samples of <event>: time and milliseconds.",
            "LATEST",
            "    The last sample of every event, and its longest.",
            "RESET [<event> ...]",
            "    Forget the samples of these events, or of all.",
            "HISTOGRAM [<command> ...]",
            "    How the durations of these commands are distributed, or of all.",
        ],
        reply,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::histogram::Histogram;
    use crate::metrics::latency::LatencyMonitor;

    #[test]
    fn a_graph_stands_between_its_lowest_and_its_highest() {
        let monitor = LatencyMonitor::default();
        for (at, ms) in [(100, 10), (150, 80), (160, 45)] {
            monitor.add(Event::Command, at, ms);
        }
        let text = draw(Event::Command, &monitor.history(Event::Command).unwrap(), 160);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "command - high 80 ms, low 10 ms (all time high 80 ms)");
        assert_eq!(lines[1].len(), 80);
        assert_eq!(lines[2..6], [" # ", " | ", " |#", "_||"]);
        assert_eq!(lines[7..], ["110", "m0s", " s "]);
    }

    #[test]
    fn steps_add_up_to_all_calls() {
        let histogram = Histogram::default();
        let rate = ticks::rate();
        for us in [1, 1, 3, 20, 500_000] {
            histogram.add(rate.ticks(us * 1000));
        }
        let mut counts = Counts::default();
        histogram.add_to(&mut counts);
        let steps = steps(&counts, rate);
        assert_eq!(steps, [(1, 2), (4, 3), (33, 4), (541_065, 5)]);
    }
}

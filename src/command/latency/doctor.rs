//! LATENCY DOCTOR: what took long, in words.

use crate::command::{Effect, Outcome};
use crate::config::Config;
use crate::metrics::latency::{Event, History};
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};
use std::fmt::Write as _;

/// LATENCY DOCTOR.
pub fn doctor(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    let all = env.instance.metrics.latency.all();
    reply.verbatim("txt", &report(&all, &env.instance.config(), env.now.unix_ms / 1000));
    Ok(Effect::Read)
}

fn report(all: &[(Event, History)], config: &Config, now_s: i64) -> String {
    let threshold_ms = config.latency_monitor_threshold();
    if all.is_empty() && threshold_ms == 0 {
        return "Latency monitoring is off: nothing is recorded. CONFIG SET \
                latency-monitor-threshold <milliseconds> turns it on.\n"
            .to_owned();
    }
    if all.is_empty() {
        return format!(
            "Nothing has taken {threshold_ms} milliseconds or more since latencies are \
             monitored.\n"
        );
    }
    let mut out =
        "Some events have taken longer than latency-monitor-threshold allows.\n\n".to_owned();
    for (number, (event, history)) in (1..).zip(all) {
        let (average, deviation) = spread(history);
        let _ = write!(
            out,
            "{number}. {}: {} in all, {average} ms on average (mean deviation {deviation} ms), \
             one every {} s. The longest took {} ms.\n   {}\n\n",
            event.name(),
            history.count,
            period_s(history, now_s),
            history.max_ms,
            advice(*event),
        );
    }
    let slow_us = config.slowlog_log_slower_than();
    let threshold_us = i64::try_from(threshold_ms.saturating_mul(1000)).unwrap_or(i64::MAX);
    if slow_us < 0 || config.slowlog_max_len() == 0 {
        out.push_str(
            "The slow log is off, so nobody knows which commands they were. CONFIG SET \
             slowlog-log-slower-than turns it on.\n",
        );
    } else if slow_us > threshold_us && threshold_us > 0 {
        let _ = writeln!(
            out,
            "The slow log begins at {slow_us} microseconds, above what is monitored here. CONFIG \
             SET slowlog-log-slower-than {threshold_us} makes it name these commands too."
        );
    } else {
        out.push_str("SLOWLOG GET names the commands.\n");
    }
    out
}

/// What can be done about an event.
fn advice(event: Event) -> &'static str {
    match event {
        Event::Command => {
            "Commands whose cost grows with the data: ask for less at a time (SCAN instead of KEYS, \
             ranges instead of everything), or split large values."
        }
        Event::FastCommand => {
            "Commands that are always cheap were slow: the core was taken away. Look for other \
             processes on the shards' cores, a CPU quota, swapping, or a virtual machine's steal \
             time."
        }
        Event::ExpireCycle => {
            "Removing expired or flushed keys took long: large values are freed at one go. Expire \
             them at different times, or split them."
        }
        Event::ShardStall => {
            "A shard's loop was held up, and all its clients with it: by a slow command, if one is \
             listed above, or by the machine, if none is. INFO shards says which shard."
        }
    }
}

/// Average and mean deviation of the samples.
fn spread(history: &History) -> (u64, u64) {
    let count = history.samples.len().max(1) as u64;
    let average = history.samples.iter().map(|sample| sample.ms).sum::<u64>() / count;
    let away = history.samples.iter().map(|sample| sample.ms.abs_diff(average)).sum::<u64>();
    (average, away / count)
}

/// Seconds between two samples, from the first to now.
fn period_s(history: &History, now_s: i64) -> String {
    let first_s = history.samples.front().map_or(now_s, |sample| sample.unix_s);
    let seconds = (now_s - first_s).max(1) as f64;
    format!("{:.2}", seconds / history.samples.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::latency::LatencyMonitor;

    #[test]
    fn it_names_what_happened_and_what_to_do() {
        let off = Config::default();
        assert!(report(&[], &off, 100).starts_with("Latency monitoring is off"));
        let set = [(&b"latency-monitor-threshold"[..], &b"5"[..])];
        let (on, _) = off.set(&set, true).unwrap();
        assert!(report(&[], &on, 100).starts_with("Nothing has taken 5 milliseconds"));
        let monitor = LatencyMonitor::default();
        for (at, ms) in [(80, 10), (90, 20)] {
            monitor.add(Event::ExpireCycle, at, ms);
        }
        let text = report(&monitor.all(), &on, 100);
        let line = "1. expire-cycle: 2 in all, 15 ms on average (mean deviation 5 ms), one every \
                    10.00 s. The longest took 20 ms.";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("slowlog-log-slower-than 5000"), "{text}");
    }
}

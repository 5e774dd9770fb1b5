//! Section replication: who is followed, who follows, and where the stream is.

use super::field::{Field, Value, fields, list};
use crate::instance::replication::{LinkState, Primary, ReplicaState};
use crate::session::Env;
use std::sync::atomic::Ordering;

/// The id of no history.
const NO_ID: &str = "0000000000000000000000000000000000000000";

pub fn replication(env: &Env, out: &mut Vec<Field>) {
    let replication = env.instance.replication();
    let (state, progress) = (replication.state(), &replication.progress);
    let offset = progress.offset.load(Ordering::Relaxed);
    let role = if state.primary.is_some() { "slave" } else { "master" };
    out.push(Field::new("role", role));
    if let Some(primary) = &state.primary {
        of_primary(env, primary, out);
    }
    out.push(Field::new("connected_slaves", state.replicas.len()));
    if env.config.good_replicas_needed() > 0 {
        out.push(Field::new("min_slaves_good_slaves", state.good_replicas));
    }
    let waits = |state: &ReplicaState| *state == ReplicaState::WaitBgsave;
    let waiting = state.replicas.iter().filter(|replica| waits(&replica.state)).count();
    out.push(Field::new("replicas_waiting_psync", waiting));
    for (number, replica) in state.replicas.iter().enumerate() {
        let line = list! {
            "ip" = replica.ip.clone(),
            "port" = replica.port,
            "state" = replica.state.word(),
            "offset" = replica.acknowledged,
            "lag" = replica.lag_s,
            "type" = "replica",
        };
        out.push(Field::about("slave", number, line));
    }
    let (second, upto) = match state.second {
        Some((id, upto)) => (id, upto as i64),
        None => (NO_ID.to_owned(), -1),
    };
    let backlog = env.instance.replication().backlog();
    let (first, kept) = backlog.unwrap_or_default();
    let stalled_ms = match progress.stalled_since_ns.load(Ordering::Relaxed) {
        0 => 0,
        since_ns => env.now.monotonic_ns.saturating_sub(since_ns) / 1_000_000,
    };
    fields! { out:
        "master_failover_state" = state.failover.word();
        "master_replid" = state.id;
        "master_replid2" = second;
        "master_repl_offset" = offset;
        "second_repl_offset" = upto;
        "repl_backlog_active" = u64::from(backlog.is_some());
        "repl_backlog_size" = env.config.repl_backlog_size();
        "repl_backlog_first_byte_offset" = first;
        "repl_backlog_histlen" = kept;
        "replication_failed_commands" = state.failed_commands;
        "replication_held_bytes" = progress.held.load(Ordering::Relaxed);
        "replication_stalled_ms" = stalled_ms;
    }
}

fn of_primary(env: &Env, primary: &Primary, out: &mut Vec<Field>) {
    let progress = &env.instance.replication().progress;
    let read = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    let seconds_since = |ms: i64| (env.now.unix_ms - ms).max(0) / 1000;
    let heard_s = seconds_since(progress.heard_ms.load(Ordering::Relaxed));
    let is_up = primary.link == LinkState::Connected;
    let syncs = primary.link == LinkState::Sync;
    fields! { out:
        "master_host" = primary.host.clone();
        "master_port" = primary.port;
        "master_link_status" = if is_up { "up" } else { "down" };
        "master_last_io_seconds_ago" = if is_up { heard_s } else { -1 };
        "master_sync_in_progress" = u64::from(syncs);
        "slave_read_repl_offset" = read(&progress.received);
        "slave_repl_offset" = read(&progress.offset);
        "replicas_repl_buffer_size" = 0;
        "replicas_repl_buffer_peak" = 0;
    }
    if syncs {
        let (so_far, total) = (read(&progress.transferred), primary.transfer_total);
        let total_bytes = total.unwrap_or(0);
        let share = if total_bytes == 0 { 0.0 } else { so_far as f64 / total_bytes as f64 };
        fields! { out:
            "master_sync_total_bytes" = total_bytes;
            "master_sync_read_bytes" = so_far;
            "master_sync_left_bytes" = total_bytes as i64 - so_far as i64;
            "master_sync_perc" = Value::Decimal(100.0 * share, 2);
            "master_sync_last_io_seconds_ago" = heard_s;
        }
    }
    if !is_up {
        let down_s = primary.down_since_ms.map_or(-1, seconds_since);
        out.push(Field::new("master_link_down_since_seconds", down_s));
    }
    fields! { out:
        "slave_priority" = env.config.replica_priority();
        "slave_read_only" = u64::from(env.config.replica_read_only());
        "replica_announced" = u64::from(env.config.replica_announced());
    }
}

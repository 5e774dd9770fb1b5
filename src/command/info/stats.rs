//! What happened: sections stats, shards, commandstats, errorstats, latencystats and keyspace.

use super::field::{Field, Value, fields, list};
use crate::base::ticks;
use crate::instance::subscriptions::Kind;
use crate::metrics::{Calls, Counter};
use crate::session::Env;
use std::sync::atomic::Ordering;

pub fn stats(env: &Env, out: &mut Vec<Field>) {
    let metrics = &env.instance.metrics;
    let subscriptions = &env.instance.subscriptions;
    let since =
        |counter: fn(&crate::metrics::ShardMetrics) -> &Counter| metrics.since_reset(counter);
    let rate = ticks::rate();
    let rates = metrics.rates(env.now.monotonic_ns);
    let replication = env.instance.replication();
    let (syncs, progress) = (replication.state().syncs, &replication.progress);
    fields! { out:
        "total_connections_received" = since(|shard| &shard.connections_total);
        "total_commands_processed" = since(|shard| &shard.commands);
        "instantaneous_ops_per_sec" = rates.commands as u64;
        "total_net_input_bytes" = since(|shard| &shard.received);
        "total_net_output_bytes" = since(|shard| &shard.sent);
        "total_net_repl_input_bytes" = progress.bytes_in.load(Ordering::Relaxed);
        "total_net_repl_output_bytes" = progress.bytes_out.load(Ordering::Relaxed);
        "instantaneous_input_kbps" = Value::Decimal(rates.received / 1024.0, 2);
        "instantaneous_output_kbps" = Value::Decimal(rates.sent / 1024.0, 2);
        "instantaneous_input_repl_kbps" = "0.00";
        "instantaneous_output_repl_kbps" = "0.00";
        "rejected_connections" = since(|shard| &shard.rejected);
        "sync_full" = syncs.full;
        "sync_partial_ok" = syncs.partial;
        "sync_partial_err" = syncs.refused;
        "expired_keys" = since(|shard| &shard.expired);
        "expired_fields" = 0;
        "expired_stale_perc" = "0.00";
        "expired_time_cap_reached_count" = since(|shard| &shard.expire_cut);
        "expire_cycle_cpu_milliseconds" = rate.us(since(|shard| &shard.expire_ticks)) / 1000;
        "evicted_keys" = 0;
        "evicted_clients" = since(|shard| &shard.evicted_clients);
        "evicted_scripts" = 0;
        "total_eviction_exceeded_time" = 0;
        "current_eviction_exceeded_time" = 0;
        "keyspace_hits" = since(|shard| &shard.hits);
        "keyspace_misses" = since(|shard| &shard.misses);
        "pubsub_channels" = subscriptions.len(Kind::Channel);
        "pubsub_patterns" = subscriptions.len(Kind::Pattern);
        "pubsubshard_channels" = subscriptions.len(Kind::Shard);
        "latest_fork_usec" = 0;
        "total_forks" = 0;
        "migrate_cached_sockets" = 0;
        "slave_expires_tracked_keys" = 0;
        "active_defrag_hits" = 0;
        "active_defrag_misses" = 0;
        "active_defrag_key_hits" = 0;
        "active_defrag_key_misses" = 0;
        "total_active_defrag_time" = 0;
        "current_active_defrag_time" = 0;
        "tracking_total_keys" = 0;
        "tracking_total_items" = 0;
        "tracking_total_prefixes" = 0;
        "unexpected_error_replies" = 0;
        "total_error_replies" = since(|shard| &shard.errors);
        "dump_payload_sanitizations" = 0;
        "total_reads_processed" = since(|shard| &shard.reads);
        "total_writes_processed" = since(|shard| &shard.writes);
        "io_threaded_reads_processed" = 0;
        "io_threaded_writes_processed" = 0;
        "client_query_buffer_limit_disconnections" = since(|shard| &shard.query_closed);
        "client_output_buffer_limit_disconnections" = since(|shard| &shard.output_closed);
        "reply_buffer_shrinks" = 0;
        "reply_buffer_expands" = 0;
        "eventloop_cycles" = since(|shard| &shard.turns);
        "eventloop_duration_sum" = rate.us(since(|shard| &shard.turn_ticks));
        "eventloop_duration_cmd_sum" = rate.us(metrics.command_ticks_since_reset());
        "instantaneous_eventloop_cycles_per_sec" = rates.turns as u64;
        "instantaneous_eventloop_duration_usec" =
            rate.us((rates.turn_ticks / rates.turns.max(1.0)) as u64);
        "acl_access_denied_auth" = 0;
        "acl_access_denied_cmd" = 0;
        "acl_access_denied_key" = 0;
        "acl_access_denied_channel" = 0;
    }
}

/// One line per shard: how busy it is, what it does, and what it has.
///
/// `busy_ns` and `waited_ns` are all its time; a turn is a part of the busy time, the rest is the
/// kernel's. `hops_out` are commands that it sent to other shards, `hops_in` those that it ran for
/// them, in `batches` of at most `batch_max`. `queued` and `spilled` are batches on their way now.
pub fn shards(env: &Env, out: &mut Vec<Field>) {
    let metrics = &env.instance.metrics;
    let rate = ticks::rate();
    let uptime_ns = (env.unix_us() - env.instance.identity.started_us).max(0) as u64 * 1000;
    for number in 0..metrics.shards() {
        let shard = metrics.shard(number);
        let databases = 0..usize::from(env.config.databases()).min(metrics.databases());
        let keys: u64 = databases.map(|db| metrics.database(number, db).keys.get()).sum();
        let waited_ns = shard.waited_ns.get();
        let (turns, batches) = (shard.turns.get(), shard.batches.get());
        let per = |sum: u64, count: u64| sum as f64 / count.max(1) as f64;
        let decimal = |n: f64| Value::Decimal(n, 2);
        let line = list! {
            "busy_ns" = uptime_ns.saturating_sub(waited_ns),
            "waited_ns" = waited_ns,
            "turns" = turns,
            "turn_usec" = decimal(per(rate.ns(shard.turn_ticks.get()), turns) / 1000.0),
            "turn_usec_max" = rate.us(shard.turn_ticks_max.get()),
            "commands" = shard.commands.get(),
            "commands_per_turn" = decimal(per(shard.commands.get(), turns)),
            "commands_per_turn_max" = shard.turn_commands_max.get(),
            "hops_out" = shard.hops_out.get(),
            "hops_in" = shard.hops_in.get(),
            "batches" = batches,
            "batch_size" = decimal(per(shard.hops_in.get(), batches)),
            "batch_max" = shard.batch_max.get(),
            "queued" = shard.queued.get(),
            "spilled" = shard.spilled.get(),
            "connections" = shard.connections.get(),
            "blocked" = shard.blocked.get(),
            "keys" = keys,
            "table_bytes" = shard.table_bytes.get(),
            "stalls" = shard.stalls.get(),
        };
        out.push(Field::about("shard", number, line));
    }
}

/// What only those see who ask for it by name.
pub fn debug(env: &Env, out: &mut Vec<Field>) {
    let metrics = &env.instance.metrics;
    let rate = ticks::rate();
    fields! { out:
        "eventloop_duration_aof_sum" = 0;
        "eventloop_duration_cron_sum" = rate.us(metrics.sum(|shard| &shard.expire_ticks));
        "eventloop_duration_max" = rate.us(metrics.most(|shard| &shard.turn_ticks_max));
        "eventloop_cmd_per_cycle_max" = metrics.most(|shard| &shard.turn_commands_max);
    }
}

/// Calls by command.
pub fn commandstats(env: &Env, out: &mut Vec<Field>) {
    let rate = ticks::rate();
    for command in crate::command::all() {
        let Calls { calls, failed, rejected, ticks } =
            env.instance.metrics.calls_since_reset(command.id);
        if calls + failed + rejected > 0 {
            let per_call = rate.ns(ticks) as f64 / 1000.0 / calls.max(1) as f64;
            let line = list! {
                "calls" = calls,
                "usec" = rate.us(ticks),
                "usec_per_call" = Value::Decimal(per_call, 2),
                "rejected_calls" = rejected,
                "failed_calls" = failed,
            };
            out.push(Field::about("cmdstat_", command.full_name(), line));
        }
    }
}

pub fn errorstats(env: &Env, out: &mut Vec<Field>) {
    for (code, count) in env.instance.metrics.errors_since_reset().filter(|(_, count)| *count > 0) {
        out.push(Field::about("errorstat_", code, list! { "count" = count, }));
    }
}

/// How long most calls of each command took, in microseconds.
pub fn latencystats(env: &Env, out: &mut Vec<Field>) {
    let rate = ticks::rate();
    for command in crate::command::all() {
        let Some(counts) = env.instance.metrics.histogram_since_reset(command.id) else {
            continue;
        };
        let percentiles = env.config.latency_tracking_info_percentiles().iter().map(|percent| {
            let ticks = counts.percentile(percent.parse().unwrap_or(0.0));
            let us = Value::Decimal(rate.ns(ticks) as f64 / 1000.0, 3);
            (format!("p{percent}").into(), us)
        });
        let line = Value::List(percentiles.collect());
        out.push(Field::about("latency_percentiles_usec_", command.full_name(), line));
    }
}

/// Databases with keys.
pub fn keyspace(env: &Env, out: &mut Vec<Field>) {
    let metrics = &env.instance.metrics;
    for db in 0..usize::from(env.config.databases()).min(metrics.databases()) {
        let (keys, volatile) = metrics.keys(db);
        let ttl_ms = metrics.mean_ttl_ms(db, env.now.unix_ms);
        if keys > 0 {
            let line = list! { "keys" = keys, "expires" = volatile, "avg_ttl" = ttl_ms, };
            out.push(Field::about("db", db, line));
        }
    }
}

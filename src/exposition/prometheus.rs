//! INFO's fields in Prometheus's text format, version 0.0.4. Names are those of `redis_exporter` where
//! it has one, so that the dashboards people have go on working; what only this server has is
//! `redshard_`.
//!
//! Numbers come as they are counted, not as INFO's text shows them, and leave with all their digits: a
//! counter beyond 2^53 is exact, also where it becomes seconds.

use crate::command::info::field::{Field, Value};
use std::borrow::Cow;
use std::fmt::Write as _;

/// What a field of INFO becomes.
struct Metric {
    field: &'static str,
    name: &'static str,
    kind: Kind,
    /// The decimal places between the field's unit and the metric's: 6 from microseconds to seconds.
    places: u32,
    help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}
use Kind::{Counter, Gauge};

/// What a field counts in, where the metric's unit is another: as decimal places.
const MILLI: u32 = 3;
const MICRO: u32 = 6;
const NANO: u32 = 9;

/// `field => kind name (in unit): help;`
macro_rules! metrics {
    ($($field:literal => $kind:ident $name:literal $(in $unit:ident)?: $help:literal;)*) => {
        &[$(Metric {
            field: $field,
            name: $name,
            kind: $kind,
            places: metrics!(@ $($unit)?),
            help: $help,
        },)*]
    };
    (@ $unit:ident) => { $unit };
    (@) => { 0 };
}

/// Fields with one number. A field that INFO does not have is left out.
const FIELDS: &[Metric] = metrics! {
    "server_time_usec" => Gauge "redshard_time_seconds" in MICRO: "The server's clock.";
    "uptime_in_seconds" => Gauge "redis_uptime_in_seconds": "Seconds since the start.";
    "io_threads_active" => Gauge "redis_io_threads_active": "Whether I/O threads are active.";
    "shards" => Gauge "redshard_shards": "Shards, each on a thread of its own.";
    "connected_clients" => Gauge "redis_connected_clients": "Client connections.";
    "maxclients" => Gauge "redis_config_maxclients": "Most client connections.";
    "blocked_clients" => Gauge "redis_blocked_clients": "Clients that wait in a blocking command.";
    "tracking_clients" => Gauge "redis_tracking_clients": "Clients that are told of changed keys.";
    "pubsub_clients" => Gauge "redis_pubsub_clients": "Clients that are subscribed.";
    "watching_clients" => Gauge "redis_watching_clients": "Clients that watch keys.";
    "clients_in_timeout_table" => Gauge "redis_clients_in_timeout_table": "Clients that wait no longer than a time.";
    "client_recent_max_input_buffer" => Gauge "redis_client_recent_max_input_buffer_bytes": "Largest input buffer of the clients.";
    "client_recent_max_output_buffer" => Gauge "redis_client_recent_max_output_buffer_bytes": "Largest output buffer of the clients.";
    "used_memory" => Gauge "redis_memory_used_bytes": "Bytes allocated.";
    "used_memory_rss" => Gauge "redis_memory_used_rss_bytes": "Bytes resident.";
    "used_memory_peak" => Gauge "redis_memory_used_peak_bytes": "Most bytes allocated since the start.";
    "used_memory_overhead" => Gauge "redis_memory_used_overhead_bytes": "Bytes of tables and buffers.";
    "used_memory_dataset" => Gauge "redis_memory_used_dataset_bytes": "Bytes of data.";
    "used_memory_startup" => Gauge "redis_memory_used_startup_bytes": "Bytes allocated at the start.";
    "maxmemory" => Gauge "redis_memory_max_bytes": "Most bytes of data; 0 for no limit.";
    "total_system_memory" => Gauge "redis_total_system_memory_bytes": "Bytes the machine has.";
    "mem_fragmentation_ratio" => Gauge "redis_mem_fragmentation_ratio": "Resident bytes per allocated byte.";
    "mem_fragmentation_bytes" => Gauge "redis_mem_fragmentation_bytes": "Resident bytes less allocated bytes.";
    "mem_clients_normal" => Gauge "redis_mem_clients_normal": "Bytes of clients' buffers.";
    "allocator_allocated" => Gauge "redis_allocator_allocated_bytes": "Bytes the allocator has handed out.";
    "allocator_active" => Gauge "redis_allocator_active_bytes": "Bytes of pages the allocator hands out from.";
    "allocator_resident" => Gauge "redis_allocator_resident_bytes": "Bytes the allocator keeps resident.";
    "lazyfree_pending_objects" => Gauge "redis_lazyfree_pending_objects": "Keys that are gone and not freed yet.";
    "loading" => Gauge "redis_loading_dump_file": "Whether a snapshot is being loaded.";
    "rdb_changes_since_last_save" => Gauge "redis_rdb_changes_since_last_save": "Changes since the last snapshot.";
    "rdb_bgsave_in_progress" => Gauge "redis_rdb_bgsave_in_progress": "Whether a snapshot is being written.";
    "rdb_last_save_time" => Gauge "redis_rdb_last_save_timestamp_seconds": "When the last snapshot was written.";
    "rdb_last_bgsave_time_sec" => Gauge "redis_rdb_last_bgsave_duration_sec": "Seconds the last snapshot took; -1 for none.";
    "rdb_current_bgsave_time_sec" => Gauge "redis_rdb_current_bgsave_duration_sec": "Seconds the snapshot that is being written has taken; -1 for none.";
    "rdb_current_bgsave_bytes" => Gauge "redshard_rdb_current_bgsave_bytes": "Bytes written of the snapshot that is being written.";
    "rdb_saves" => Counter "redis_rdb_saves_total": "Snapshots written since the start.";
    "rdb_last_cow_size" => Gauge "redis_rdb_last_cow_size_bytes": "Most bytes the last snapshot had to keep of keys that changed meanwhile.";
    "rdb_last_load_keys_loaded" => Gauge "redis_rdb_last_load_loaded_keys": "Keys of the last snapshot that was loaded.";
    "rdb_last_load_keys_expired" => Gauge "redis_rdb_last_load_expired_keys": "Keys of it that were left out since their time had passed.";
    "current_save_keys_processed" => Gauge "redshard_current_save_keys": "Keys written of the snapshot that is being written.";
    "current_save_keys_total" => Gauge "redshard_current_save_keys_total": "Keys it will have.";
    "current_cow_size" => Gauge "redshard_current_cow_bytes": "Bytes kept of keys that have changed since its beginning.";
    "loading_total_bytes" => Gauge "redshard_loading_total_bytes": "Bytes of the snapshot that is being loaded.";
    "loading_loaded_bytes" => Gauge "redshard_loading_loaded_bytes": "Bytes of it that have been loaded.";
    "loading_eta_seconds" => Gauge "redshard_loading_eta_seconds": "Seconds until the rest of it is loaded.";
    "aof_enabled" => Gauge "redis_aof_enabled": "Whether effects are logged to a file.";
    "total_connections_received" => Counter "redis_connections_received_total": "Connections accepted.";
    "rejected_connections" => Counter "redis_rejected_connections_total": "Connections refused since there were too many.";
    "total_commands_processed" => Counter "redis_commands_processed_total": "Commands executed.";
    "total_net_input_bytes" => Counter "redis_net_input_bytes_total": "Bytes received.";
    "total_net_output_bytes" => Counter "redis_net_output_bytes_total": "Bytes sent.";
    "total_net_repl_input_bytes" => Counter "redis_replication_input_bytes_total": "Bytes received by replication.";
    "total_net_repl_output_bytes" => Counter "redis_replication_output_bytes_total": "Bytes sent by replication.";
    "total_reads_processed" => Counter "redis_total_reads_processed": "Reads from clients.";
    "total_writes_processed" => Counter "redis_total_writes_processed": "Writes to clients.";
    "expired_keys" => Counter "redis_expired_keys_total": "Keys that expired.";
    "evicted_keys" => Counter "redis_evicted_keys_total": "Keys that went since memory was short.";
    "evicted_clients" => Counter "redis_evicted_clients_total": "Clients closed since memory was short.";
    "keyspace_hits" => Counter "redis_keyspace_hits_total": "Lookups that found their key.";
    "keyspace_misses" => Counter "redis_keyspace_misses_total": "Lookups that did not.";
    "pubsub_channels" => Gauge "redis_pubsub_channels": "Channels with subscribers.";
    "pubsub_patterns" => Gauge "redis_pubsub_patterns": "Patterns with subscribers.";
    "sync_full" => Counter "redis_replica_resyncs_full": "Full synchronisations of replicas.";
    "sync_partial_ok" => Counter "redis_replica_partial_resync_accepted": "Partial synchronisations granted.";
    "sync_partial_err" => Counter "redis_replica_partial_resync_denied": "Partial synchronisations refused.";
    "total_error_replies" => Counter "redis_total_error_replies": "Error replies.";
    "client_query_buffer_limit_disconnections" => Counter "redis_client_query_buffer_limit_disconnections_total": "Clients closed since their input grew past its limit.";
    "client_output_buffer_limit_disconnections" => Counter "redis_client_output_buffer_limit_disconnections_total": "Clients closed since their output grew past its limit.";
    "eventloop_cycles" => Counter "redis_eventloop_cycles_total": "Turns of the shards' loops.";
    "eventloop_duration_sum" => Counter "redis_eventloop_duration_seconds_total" in MICRO: "Seconds spent in turns.";
    "eventloop_duration_cmd_sum" => Counter "redis_eventloop_duration_cmd_seconds_total" in MICRO: "Seconds spent in commands.";
    "slowlog_length" => Gauge "redis_slowlog_length": "Entries of the slow log.";
    "connected_slaves" => Gauge "redis_connected_slaves": "Replicas connected.";
    "master_repl_offset" => Gauge "redis_master_repl_offset": "Offset of the replication stream.";
    "min_slaves_good_slaves" => Gauge "redis_min_slaves_good_slaves": "Replicas that count for min-replicas-to-write.";
    "replication_failed_commands" => Counter "redshard_replication_failed_commands_total": "Commands of a primary that have failed here.";
    "replication_held_bytes" => Gauge "redshard_replication_held_bytes": "Bytes of the stream that wait to be put in order.";
    "replication_stalled_ms" => Gauge "redshard_replication_stalled_seconds" in MILLI: "Seconds for which such have waited and nothing has gone out.";
    "master_last_io_seconds_ago" => Gauge "redis_master_last_io_seconds_ago": "Seconds since the primary was last heard of.";
    "master_sync_in_progress" => Gauge "redis_master_sync_in_progress": "Whether all data is being received.";
    "master_sync_total_bytes" => Gauge "redis_master_sync_total_bytes": "Bytes of it; 0 if that is not known.";
    "master_sync_read_bytes" => Gauge "redis_master_sync_read_bytes": "Bytes of it that have come.";
    "master_link_down_since_seconds" => Gauge "redis_master_link_down_since_seconds": "Seconds for which the primary's stream has not been received.";
    "slave_read_repl_offset" => Gauge "redis_slave_read_repl_offset": "Offset up to which the primary's stream has been received.";
    "slave_repl_offset" => Gauge "redis_slave_repl_offset": "Offset up to which it has run.";
    "slave_priority" => Gauge "redis_slave_priority": "Which replica Sentinel lets lead.";
    "slave_read_only" => Gauge "redis_slave_read_only": "Whether clients may not write.";
    "second_repl_offset" => Gauge "redis_second_repl_offset": "Offset up to which the former stream is accepted.";
    "repl_backlog_active" => Gauge "redis_repl_backlog_is_active": "Whether there is a replication backlog.";
    "repl_backlog_size" => Gauge "redis_replication_backlog_bytes": "Bytes the backlog can hold.";
    "repl_backlog_histlen" => Gauge "redis_repl_backlog_history_bytes": "Bytes the backlog holds.";
    "used_cpu_sys" => Counter "redis_cpu_sys_seconds_total": "Processor seconds in the kernel.";
    "used_cpu_user" => Counter "redis_cpu_user_seconds_total": "Processor seconds outside of it.";
    "cluster_enabled" => Gauge "redis_cluster_enabled": "Whether this is part of a cluster.";
};

/// Fields that are `ok` or `up`, or not: 1 or 0.
const STATUSES: &[(&str, &str, &str)] = &[
    (
        "rdb_last_bgsave_status",
        "redis_rdb_last_bgsave_status",
        "Whether the last snapshot in the background was written.",
    ),
    ("master_link_status", "redis_master_link_up", "Whether the primary's stream is received."),
];

/// What a shard's line holds: `shard0:busy_ns=…,waited_ns=…`. A field that is not here becomes
/// `redshard_shard_<field>`, of no type.
const SHARD_FIELDS: &[Metric] = metrics! {
    "busy_ns" => Gauge "redshard_shard_busy_seconds" in NANO: "Seconds the shard did something, with a wait that has not ended yet: for a share of the time, take 1 - rate(redshard_shard_waited_seconds_total)";
    "waited_ns" => Counter "redshard_shard_waited_seconds_total" in NANO: "Seconds the shard waited for something to do.";
    "turns" => Counter "redshard_shard_turns_total": "Turns of the shard's loop.";
    "turn_usec" => Gauge "redshard_shard_turn_seconds_mean" in MICRO: "Seconds a turn took, on average since the start.";
    "turn_usec_max" => Gauge "redshard_shard_turn_seconds_max" in MICRO: "Seconds the longest turn took.";
    "commands" => Counter "redshard_shard_commands_total": "Commands of the shard's clients.";
    "commands_per_turn" => Gauge "redshard_shard_commands_per_turn_mean": "Commands of a turn, on average since the start.";
    "commands_per_turn_max" => Gauge "redshard_shard_commands_per_turn_max": "Most commands of a turn.";
    "hops_out" => Counter "redshard_shard_hops_out_total": "Commands that the shard sent to other shards.";
    "hops_in" => Counter "redshard_shard_hops_in_total": "Commands that the shard ran for other shards.";
    "batches" => Counter "redshard_shard_batches_total": "Batches they came in.";
    "batch_size" => Gauge "redshard_shard_batch_commands_mean": "Commands of a batch, on average since the start.";
    "batch_max" => Gauge "redshard_shard_batch_commands_max": "Most commands of a batch.";
    "queued" => Gauge "redshard_shard_queued_batches": "Batches that wait to be taken by the shard.";
    "spilled" => Gauge "redshard_shard_spilled_batches": "Batches of the shard that found no room elsewhere yet.";
    "connections" => Gauge "redshard_shard_connections": "Client connections of the shard.";
    "blocked" => Gauge "redshard_shard_blocked_clients": "Clients of the shard that wait in a blocking command.";
    "keys" => Gauge "redshard_shard_keys": "Keys of the shard.";
    "table_bytes" => Gauge "redshard_shard_table_bytes": "Bytes of the shard's tables, without the keys.";
    "stalls" => Counter "redshard_shard_stalls_total": "Turns that took longer than a millisecond.";
};

/// What `cmdstat_get:calls=…` holds.
const COMMAND_FIELDS: &[Metric] = metrics! {
    "calls" => Counter "redis_commands_total": "Calls, by command.";
    "usec" => Counter "redis_commands_duration_seconds_total" in MICRO: "Seconds spent, by command.";
    "rejected_calls" => Counter "redis_commands_rejected_calls_total": "Calls refused before they ran, by command.";
    "failed_calls" => Counter "redis_commands_failed_calls_total": "Calls that failed, by command.";
};

const ERROR_FIELDS: &[Metric] = metrics! {
    "count" => Counter "redis_errors_total": "Error replies, by the word they begin with.";
};

const DATABASE_FIELDS: &[Metric] = metrics! {
    "keys" => Gauge "redis_db_keys": "Keys, by database.";
    "expires" => Gauge "redis_db_keys_expiring": "Keys that will expire, by database.";
    "avg_ttl" => Gauge "redis_db_avg_ttl_seconds" in MILLI: "Seconds that keys which will expire have left, on average.";
};

/// What a replica's line holds: `slave0:ip=…,offset=…`.
const REPLICA_FIELDS: &[Metric] = metrics! {
    "offset" => Gauge "redis_connected_slave_offset_bytes": "Offset that a replica has acknowledged.";
    "lag" => Gauge "redis_connected_slave_lag_seconds": "Seconds since a replica was last heard of.";
};

/// Fields that are text, and stand as labels of one metric that is always 1.
const LABELS: &[(&str, &str)] = &[
    ("role", "role"),
    ("redis_version", "redis_version"),
    ("redshard_version", "redshard_version"),
    ("server_name", "server_name"),
    ("redis_mode", "redis_mode"),
    ("os", "os"),
    ("process_id", "process_id"),
    ("run_id", "run_id"),
    ("tcp_port", "tcp_port"),
    ("maxmemory_policy", "maxmemory_policy"),
    ("master_replid", "master_replid"),
    ("master_host", "master_host"),
    ("master_port", "master_port"),
    ("process_supervised", "process_supervised"),
];

/// Fields of a kind: what they are about is a label.
struct Group {
    /// [`Field::name`].
    kind: &'static str,
    label: &'static str,
    fields: &'static [Metric],
    /// What a value that is not declared is called, if it is to be shown.
    others: Option<&'static str>,
    /// Whether the label begins with the kind, as in `db0`.
    whole: bool,
}

const GROUPS: &[Group] = &[
    Group {
        kind: "shard",
        label: "shard",
        fields: SHARD_FIELDS,
        others: Some("redshard_shard_"),
        whole: false,
    },
    Group { kind: "cmdstat_", label: "cmd", fields: COMMAND_FIELDS, others: None, whole: false },
    Group { kind: "errorstat_", label: "err", fields: ERROR_FIELDS, others: None, whole: false },
    Group { kind: "slave", label: "slave", fields: REPLICA_FIELDS, others: None, whole: false },
    Group { kind: "db", label: "db", fields: DATABASE_FIELDS, others: None, whole: true },
];

/// Renders INFO's fields. Whatever they say, the result is well-formed.
pub fn render(fields: &[Field]) -> String {
    let single = |name: &str| {
        let found = fields.iter().find(|field| field.of.is_none() && field.name == name);
        found.map(|field| &field.value)
    };
    let mut out = Out(String::with_capacity(128 * fields.len()));
    out.head("redis_up", "gauge", "Whether the server answers.");
    out.sample("redis_up", &[], &ONE, 0);
    let labels: Vec<(&str, String)> = LABELS
        .iter()
        .filter_map(|(field, label)| Some((*label, single(field)?.to_string())))
        .collect();
    let labels: Vec<(&str, &str)> =
        labels.iter().map(|(label, text)| (*label, text.as_str())).collect();
    out.head("redis_instance_info", "gauge", "What the server is.");
    out.sample("redis_instance_info", &labels, &ONE, 0);
    if let (Some(Value::Signed(now_us)), Some(Value::Signed(up_s))) =
        (single("server_time_usec"), single("uptime_in_seconds"))
    {
        out.head("redis_start_time_seconds", "gauge", "When the server started.");
        out.sample("redis_start_time_seconds", &[], &(now_us / 1_000_000 - up_s).into(), 0);
    }
    for metric in FIELDS {
        if let Some(value) = single(metric.field).filter(|value| is_number(value)) {
            out.begin(metric);
            out.sample(metric.name, &[], value, metric.places);
        }
    }
    for (field, name, help) in STATUSES {
        if let Some(Value::Text(text)) = single(field) {
            out.head(name, "gauge", help);
            out.sample(name, &[], &u64::from(text == "ok" || text == "up").into(), 0);
        }
    }
    for group in GROUPS {
        group.render(fields, &mut out);
    }
    latencies(fields, &mut out);
    out.0
}

const ONE: Value = Value::Unsigned(1);

/// What a field's list says, if it has one.
type List = [(Cow<'static, str>, Value)];

/// The fields of a kind: what each is about, and its list.
fn of_kind<'a>(fields: &'a [Field], kind: &'a str) -> impl Iterator<Item = (&'a str, &'a List)> {
    fields.iter().filter(move |field| field.name == kind).filter_map(|field| {
        match (&field.of, &field.value) {
            (Some(of), Value::List(list)) => Some((of.as_str(), list.as_slice())),
            _ => None,
        }
    })
}

fn find<'a>(list: &'a List, name: &str) -> Option<&'a Value> {
    let found = list.iter().find(|(known, value)| known == name && is_number(value));
    found.map(|(_, value)| value)
}

fn is_number(value: &Value) -> bool {
    match value {
        Value::Unsigned(_) | Value::Signed(_) => true,
        Value::Decimal(n, _) => n.is_finite(),
        Value::Text(_) | Value::List(_) => false,
    }
}

impl Group {
    fn render(&self, fields: &[Field], out: &mut Out) {
        let mine: Vec<(String, &List)> = of_kind(fields, self.kind)
            .map(|(of, list)| {
                (if self.whole { format!("{}{of}", self.kind) } else { of.to_owned() }, list)
            })
            .collect();
        // All samples of a metric have to stand together, below its head.
        for metric in self.fields {
            if mine.iter().any(|(_, list)| find(list, metric.field).is_some()) {
                out.begin(metric);
            }
            for (of, list) in &mine {
                if let Some(value) = find(list, metric.field) {
                    out.sample(metric.name, &[(self.label, of)], value, metric.places);
                }
            }
        }
        let (Some(prefix), Some((_, first))) = (self.others, mine.first()) else { return };
        for (name, _) in *first {
            if self.fields.iter().any(|metric| metric.field == name) {
                continue;
            }
            let full = format!("{prefix}{name}");
            out.head(&full, "untyped", "As INFO shows it.");
            for (of, list) in &mine {
                if let Some(value) = find(list, name) {
                    out.sample(&full, &[(self.label, of)], value, 0);
                }
            }
        }
    }
}

/// `latency_percentiles_usec_get:p50=1.003,p99=…` becomes a summary. The percentiles' names are those
/// that the configuration gives them.
fn latencies(fields: &[Field], out: &mut Out) {
    const NAME: &str = "redis_latency_percentiles_usec";
    let mut any = false;
    for (command, list) in of_kind(fields, "latency_percentiles_usec_") {
        for (percentile, usec) in list {
            let Some(percent) = percentile.strip_prefix('p').and_then(|p| p.parse::<f64>().ok())
            else {
                continue;
            };
            if !any {
                out.head(NAME, "summary", "Microseconds a command took, by command and quantile.");
                any = true;
            }
            // Hundredths of a percent are exact enough, and print as one would write them.
            let quantile = ((percent * 10_000.0).round() / 1_000_000.0).to_string();
            out.sample(NAME, &[("cmd", command), ("quantile", &quantile)], usec, 0);
        }
    }
}

/// The text that grows. Writing to a `String` does not fail.
struct Out(String);

impl Out {
    fn begin(&mut self, metric: &Metric) {
        let kind = if metric.kind == Counter { "counter" } else { "gauge" };
        self.head(metric.name, kind, metric.help);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: &Value, places: u32) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '"' => self.0.push_str("\\\""),
                    '\\' => self.0.push_str("\\\\"),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        self.0.push_str(if labels.is_empty() { " " } else { "} " });
        match *value {
            Value::Unsigned(n) => self.number("", n, places),
            Value::Signed(n) => self.number(if n < 0 { "-" } else { "" }, n.unsigned_abs(), places),
            Value::Decimal(n, _) => _ = write!(self.0, "{}", n / 10f64.powi(places as i32)),
            // No sample is made of one.
            Value::Text(_) | Value::List(_) => self.0.push_str("NaN"),
        }
        self.0.push('\n');
    }

    /// A whole number, with the last `places` digits behind the point.
    fn number(&mut self, sign: &str, n: u64, places: u32) {
        let one = 10u64.pow(places);
        let _ = write!(self.0, "{sign}{}", n / one);
        if !n.is_multiple_of(one) {
            let decimals = format!("{:0width$}", n % one, width = places as usize);
            let _ = write!(self.0, ".{}", decimals.trim_end_matches('0'));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::command::info::field::list;
    use crate::config::Config;
    use crate::instance::persistence::Loading;
    use crate::instance::replication::{LinkState, Primary, Replica};
    use crate::instance::{Identity, Instance};
    use crate::session::Env;

    #[track_caller]
    fn has(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{line}\nis missing in:\n{text}");
        }
    }

    #[test]
    fn fields_become_metrics() {
        let text = render(&[
            Field::new("redis_version", "7.2.4"),
            Field::new("os", "a \"b\\c"),
            Field::new("server_time_usec", 90_000_000i64),
            Field::new("uptime_in_seconds", 30i64),
            Field::new("used_memory", 1024u64),
            Field::new("role", "master"),
            Field::new("eventloop_duration_sum", 1_500_000u64),
            Field::new("used_cpu_sys", Value::Decimal(0.25, 6)),
            Field::new("expired_keys", 7u64),
            Field::new("rdb_last_bgsave_status", "err"),
            Field::new("second_repl_offset", -1),
        ]);
        has(
            &text,
            &[
                "redis_up 1",
                "redis_instance_info{role=\"master\",redis_version=\"7.2.4\",os=\"a \\\"b\\\\c\"} 1",
                "redis_start_time_seconds 60",
                "redis_memory_used_bytes 1024",
                "redis_eventloop_duration_seconds_total 1.5",
                "redis_cpu_sys_seconds_total 0.25",
                "# TYPE redis_expired_keys_total counter",
                "redis_expired_keys_total 7",
                "redis_rdb_last_bgsave_status 0",
                "redis_second_repl_offset -1",
            ],
        );
    }

    #[test]
    fn lists_become_labelled_metrics() {
        let first = list! { "busy_ns" = 500_000_000u64, "stalls" = 1u64, "depth" = 4u64, };
        let second = list! { "busy_ns" = 1u64, "depth" = 5u64, };
        let calls = list! { "calls" = 3u64, "usec" = 1_500_000u64, };
        let keys = list! { "keys" = 7u64, "expires" = 2u64, "avg_ttl" = 1500i64, };
        let latency =
            list! { "p50" = Value::Decimal(1.003, 3), "p99.9" = Value::Decimal(13.055, 3), };
        let text = render(&[
            Field::new("shards", 2u64),
            Field::about("shard", 0, first),
            Field::about("shard", 1, second),
            Field::about("cmdstat_", "config|get", calls),
            Field::about("errorstat_", "ERR", list! { "count" = 2u64, }),
            Field::about("db", 0, keys),
            Field::about("latency_percentiles_usec_", "get", latency),
        ]);
        has(
            &text,
            &[
                "redshard_shards 2",
                "redshard_shard_busy_seconds{shard=\"0\"} 0.5",
                "redshard_shard_busy_seconds{shard=\"1\"} 0.000000001",
                "redshard_shard_stalls_total{shard=\"0\"} 1",
                "# TYPE redshard_shard_depth untyped",
                "redshard_shard_depth{shard=\"1\"} 5",
                "redis_commands_total{cmd=\"config|get\"} 3",
                "redis_commands_duration_seconds_total{cmd=\"config|get\"} 1.5",
                "redis_errors_total{err=\"ERR\"} 2",
                "redis_db_keys{db=\"db0\"} 7",
                "redis_db_avg_ttl_seconds{db=\"db0\"} 1.5",
                "redis_latency_percentiles_usec{cmd=\"get\",quantile=\"0.5\"} 1.003",
                "redis_latency_percentiles_usec{cmd=\"get\",quantile=\"0.999\"} 13.055",
            ],
        );
    }

    /// Everything that a server says about itself.
    fn of_server(prepare: impl FnOnce(&Instance)) -> Vec<Field> {
        let identity = Identity { run_id: String::new(), started_us: 0, executable: String::new() };
        let commands = crate::command::all().len();
        let instance = Instance::new(Config::default(), 2, commands, identity);
        prepare(&instance);
        let (config, now) = (instance.config(), Now { unix_ms: 90_000, monotonic_ns: 1 });
        crate::exposition::fields(&Env { config: &config, instance: &instance, now })
    }

    /// 2^53 + 1 is the first whole number that an `f64` does not know.
    #[test]
    fn counters_keep_all_their_digits() {
        const ODD: u64 = (1 << 53) + 1;
        let text = render(&of_server(|instance| {
            instance.metrics.shard(0).received.set(ODD);
            instance.metrics.shard(1).sent.set(u64::MAX);
            instance.metrics.shard(1).waited_ns.set(ODD);
        }));
        has(
            &text,
            &[
                "redis_net_input_bytes_total 9007199254740993",
                "redis_net_output_bytes_total 18446744073709551615",
                "redshard_shard_waited_seconds_total{shard=\"1\"} 9007199.254740993",
            ],
        );
    }

    #[test]
    fn every_metric_has_one_head_before_its_samples_and_a_field_of_info() {
        let fields = of_server(|instance| {
            let metrics = &instance.metrics;
            metrics.database(0, 1).keys.set(3);
            metrics.command(0, 0).calls.set(3);
            metrics.command(0, 0).track(1000);
            metrics.count_error(0, crate::metrics::error_code(b"ERR x"));
            instance.tell_persistence(|state| state.loading = Some(Loading::default()));
            instance.tell_replication(|state| {
                state.replicas = vec![Replica::default()];
                state.primary = Some(Primary {
                    host: "example.org".to_owned(),
                    port: 7,
                    link: LinkState::Sync,
                    down_since_ms: None,
                    transfer_total: None,
                });
            });
            let change = |config: &mut Config| {
                *config = config.set(&[(b"min-slaves-to-write", b"1")], true).expect("fine").0;
                Ok(())
            };
            instance.reconfigure(change).expect("nobody applies it");
        });
        let text = render(&fields);
        let mut heads = std::collections::HashSet::new();
        let mut current = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                current = rest.split(' ').next().unwrap_or("");
                assert!(heads.insert(current), "{current} has two heads");
            } else if !line.starts_with('#') {
                assert_eq!(line.split(['{', ' ']).next(), Some(current), "{line}");
                let (_, number) = line.rsplit_once(' ').expect("a name and a number");
                assert!(number.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            }
        }
        let mut names = std::collections::HashSet::new();
        let lists =
            [FIELDS, SHARD_FIELDS, COMMAND_FIELDS, ERROR_FIELDS, REPLICA_FIELDS, DATABASE_FIELDS];
        for metric in lists.into_iter().flatten() {
            assert!(names.insert(metric.name), "{} is declared twice", metric.name);
            assert!(heads.contains(metric.name), "no field {}", metric.field);
        }
    }

    #[test]
    fn what_is_no_number_is_no_sample() {
        let odd = list! { "x" = "text", "y" = Value::Decimal(f64::NAN, 2), "keys" = "7", };
        let fields = [
            Field::about("shard", 0, odd),
            Field::about("shard", 1, "text"),
            Field::new("shard", 7u64),
            Field::new("used_memory", "much"),
            Field::new("mem_fragmentation_ratio", Value::Decimal(f64::INFINITY, 2)),
            Field::about("latency_percentiles_usec_", "get", list! { "pmost" = 1u64, }),
        ];
        for line in render(&fields).lines().filter(|line| !line.starts_with('#')) {
            assert!(line.ends_with(" 1") && !line.contains("shard"), "{line}");
        }
    }
}

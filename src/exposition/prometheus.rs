//! INFO in Prometheus's text format, version 0.0.4. Names are those of `redis_exporter` where it has
//! one, so that the dashboards people have go on working; what only this server has is `redshard_`.

use std::fmt::Write as _;

/// What a field of INFO becomes.
struct Metric {
    field: &'static str,
    name: &'static str,
    kind: Kind,
    /// What the field's number is multiplied with.
    scale: f64,
    help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}
use Kind::{Counter, Gauge};

/// `field => kind name (times scale): help;`
macro_rules! metrics {
    ($($field:literal => $kind:ident $name:literal $(times $scale:literal)?: $help:literal;)*) => {
        &[$(Metric {
            field: $field,
            name: $name,
            kind: $kind,
            scale: metrics!(@ $($scale)?),
            help: $help,
        },)*]
    };
    (@ $scale:literal) => { $scale };
    (@) => { 1.0 };
}

/// Fields with one number. A field that INFO does not have is left out.
const FIELDS: &[Metric] = metrics! {
    "server_time_usec" => Gauge "redshard_time_seconds" times 1e-6: "The server's clock.";
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
    "eventloop_duration_sum" => Counter "redis_eventloop_duration_seconds_total" times 1e-6: "Seconds spent in turns.";
    "eventloop_duration_cmd_sum" => Counter "redis_eventloop_duration_cmd_seconds_total" times 1e-6: "Seconds spent in commands.";
    "slowlog_length" => Gauge "redis_slowlog_length": "Entries of the slow log.";
    "connected_slaves" => Gauge "redis_connected_slaves": "Replicas connected.";
    "master_repl_offset" => Gauge "redis_master_repl_offset": "Offset of the replication stream.";
    "second_repl_offset" => Gauge "redis_second_repl_offset": "Offset up to which the former stream is accepted.";
    "repl_backlog_active" => Gauge "redis_repl_backlog_is_active": "Whether there is a replication backlog.";
    "repl_backlog_size" => Gauge "redis_replication_backlog_bytes": "Bytes the backlog can hold.";
    "repl_backlog_histlen" => Gauge "redis_repl_backlog_history_bytes": "Bytes the backlog holds.";
    "used_cpu_sys" => Counter "redis_cpu_sys_seconds_total": "Processor seconds in the kernel.";
    "used_cpu_user" => Counter "redis_cpu_user_seconds_total": "Processor seconds outside of it.";
    "cluster_enabled" => Gauge "redis_cluster_enabled": "Whether this is part of a cluster.";
};

/// What a shard's line holds: `shard0:busy_ns=…,waited_ns=…`. A field that is not here becomes
/// `redshard_shard_<field>`, of no type.
const SHARD_FIELDS: &[Metric] = metrics! {
    "busy_ns" => Gauge "redshard_shard_busy_seconds" times 1e-9: "Seconds the shard did something, with a wait that has not ended yet: for a share of the time, take 1 - rate(redshard_shard_waited_seconds_total)";
    "waited_ns" => Counter "redshard_shard_waited_seconds_total" times 1e-9: "Seconds the shard waited for something to do.";
    "turns" => Counter "redshard_shard_turns_total": "Turns of the shard's loop.";
    "turn_usec" => Gauge "redshard_shard_turn_seconds_mean" times 1e-6: "Seconds a turn took, on average since the start.";
    "turn_usec_max" => Gauge "redshard_shard_turn_seconds_max" times 1e-6: "Seconds the longest turn took.";
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
    "usec" => Counter "redis_commands_duration_seconds_total" times 1e-6: "Seconds spent, by command.";
    "rejected_calls" => Counter "redis_commands_rejected_calls_total": "Calls refused before they ran, by command.";
    "failed_calls" => Counter "redis_commands_failed_calls_total": "Calls that failed, by command.";
};

const ERROR_FIELDS: &[Metric] = metrics! {
    "count" => Counter "redis_errors_total": "Error replies, by the word they begin with.";
};

const DATABASE_FIELDS: &[Metric] = metrics! {
    "keys" => Gauge "redis_db_keys": "Keys, by database.";
    "expires" => Gauge "redis_db_keys_expiring": "Keys that will expire, by database.";
    "avg_ttl" => Gauge "redis_db_avg_ttl_seconds" times 1e-3: "Seconds that keys which will expire have left, on average.";
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
    ("process_supervised", "process_supervised"),
];

/// Lines of a kind: a prefix and a name, then fields; the label that carries the name.
struct Group {
    prefix: &'static str,
    label: &'static str,
    fields: &'static [Metric],
    /// What a field that is not declared is called, if it is to be shown.
    others: Option<&'static str>,
    /// Whether the label keeps the prefix.
    whole: bool,
}

const GROUPS: &[Group] = &[
    Group {
        prefix: "shard",
        label: "shard",
        fields: SHARD_FIELDS,
        others: Some("redshard_shard_"),
        whole: false,
    },
    Group { prefix: "cmdstat_", label: "cmd", fields: COMMAND_FIELDS, others: None, whole: false },
    Group { prefix: "errorstat_", label: "err", fields: ERROR_FIELDS, others: None, whole: false },
    Group { prefix: "db", label: "db", fields: DATABASE_FIELDS, others: None, whole: true },
];

/// Renders INFO's text. Whatever it says, the result is well-formed.
pub fn from_info(info: &str) -> String {
    let lines: Vec<(&str, &str)> = info.lines().filter_map(|line| line.split_once(':')).collect();
    let value =
        |field: &str| lines.iter().find(|(name, _)| *name == field).map(|(_, value)| *value);
    let mut out = Out(String::with_capacity(2 * info.len()));
    out.head("redis_up", "gauge", "Whether the server answers.");
    out.sample("redis_up", &[], 1.0);
    let labels: Vec<(&str, &str)> =
        LABELS.iter().filter_map(|(field, label)| Some((*label, value(field)?))).collect();
    out.head("redis_instance_info", "gauge", "What the server is.");
    out.sample("redis_instance_info", &labels, 1.0);
    let seconds = |field: &str, scale: f64| Some(value(field)?.parse::<f64>().ok()? * scale);
    if let (Some(now), Some(up)) =
        (seconds("server_time_usec", 1e-6), seconds("uptime_in_seconds", 1.0))
    {
        out.head("redis_start_time_seconds", "gauge", "When the server started.");
        out.sample("redis_start_time_seconds", &[], (now - up).floor());
    }
    for metric in FIELDS {
        if let Some(number) = value(metric.field).and_then(|text| text.parse::<f64>().ok()) {
            out.begin(metric);
            out.sample(metric.name, &[], number * metric.scale);
        }
    }
    for group in GROUPS {
        group.render(&lines, &mut out);
    }
    latencies(&lines, &mut out);
    out.0
}

impl Group {
    /// The name that a line of this kind is about.
    fn name_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_prefix(self.prefix)?;
        let numbered = !self.prefix.ends_with('_');
        (!rest.is_empty() && (!numbered || rest.bytes().all(|byte| byte.is_ascii_digit())))
            .then_some(if self.whole { name } else { rest })
    }

    fn render(&self, lines: &[(&str, &str)], out: &mut Out) {
        // All samples of a metric have to stand together, below its head.
        let mine: Vec<(&str, Vec<(&str, f64)>)> = lines
            .iter()
            .filter_map(|(name, value)| Some((self.name_of(name)?, numbers(value))))
            .collect();
        for metric in self.fields {
            let of = |fields: &[(&str, f64)]| find(fields, metric.field);
            if mine.iter().any(|(_, fields)| of(fields).is_some()) {
                out.begin(metric);
            }
            for (name, fields) in &mine {
                if let Some(number) = of(fields) {
                    out.sample(metric.name, &[(self.label, name)], number * metric.scale);
                }
            }
        }
        let (Some(prefix), Some((_, first))) = (self.others, mine.first()) else { return };
        for (field, _) in first {
            let known = self.fields.iter().any(|metric| metric.field == *field);
            let fits = field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if known || !fits || field.is_empty() {
                continue;
            }
            let full = format!("{prefix}{field}");
            out.head(&full, "untyped", "As INFO shows it.");
            for (name, fields) in &mine {
                if let Some(number) = find(fields, field) {
                    out.sample(&full, &[(self.label, name)], number);
                }
            }
        }
    }
}

/// `latency_percentiles_usec_get:p50=1.003,p99=…` becomes a summary.
fn latencies(lines: &[(&str, &str)], out: &mut Out) {
    const NAME: &str = "redis_latency_percentiles_usec";
    let mut any = false;
    for (name, value) in lines {
        let Some(command) = name.strip_prefix("latency_percentiles_usec_") else { continue };
        for (percentile, usec) in numbers(value) {
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
            out.sample(NAME, &[("cmd", command), ("quantile", &quantile)], usec);
        }
    }
}

/// `a=1,b=2.5,c=text`: those that are numbers.
fn numbers(value: &str) -> Vec<(&str, f64)> {
    value
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
        .collect()
}

fn find(fields: &[(&str, f64)], field: &str) -> Option<f64> {
    fields.iter().find(|(name, _)| *name == field).map(|(_, number)| *number)
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

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], number: f64) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            for c in value.chars() {
                match c {
                    '"' => self.0.push_str("\\\""),
                    '\\' => self.0.push_str("\\\\"),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {number}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_metrics() {
        let text = from_info(
            "# Server\r\nredis_version:7.2.4\r\nos:a \"b\\c\r\nserver_time_usec:90000000\r\n\
             uptime_in_seconds:30\r\n\r\n# Stats\r\nused_memory:1024\r\nrole:master\r\n\
             eventloop_duration_sum:1500000\r\nused_cpu_sys:0.250000\r\nexpired_keys:7\r\n",
        );
        for line in [
            "redis_up 1",
            "redis_instance_info{role=\"master\",redis_version=\"7.2.4\",os=\"a \\\"b\\\\c\"} 1",
            "redis_start_time_seconds 60",
            "redis_memory_used_bytes 1024",
            "redis_eventloop_duration_seconds_total 1.5",
            "redis_cpu_sys_seconds_total 0.25",
            "# TYPE redis_expired_keys_total counter",
            "redis_expired_keys_total 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis missing in:\n{text}");
        }
    }

    #[test]
    fn lines_with_fields_become_labelled_metrics() {
        let text = from_info(
            "shards:2\r\nshard0:busy_ns=500000000,stalls=1,depth=4\r\nshard1:busy_ns=1,depth=5\r\n\
             cmdstat_config|get:calls=3,usec=1500000,usec_per_call=1.5\r\n\
             errorstat_ERR:count=2\r\ndb0:keys=7,expires=2,avg_ttl=1500\r\n\
             latency_percentiles_usec_get:p50=1.003,p99.9=13.055\r\n",
        );
        for line in [
            "redshard_shards 2",
            "redshard_shard_busy_seconds{shard=\"0\"} 0.5",
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
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis missing in:\n{text}");
        }
    }

    #[test]
    fn every_metric_has_one_head_before_its_samples() {
        let text = from_info(
            "shard0:keys=1\r\nshard1:keys=2\r\nkeyspace_hits:4\r\ndb0:keys=1\r\ndb1:keys=2\r\n",
        );
        let mut heads = std::collections::HashSet::new();
        let mut current = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                current = rest.split(' ').next().unwrap_or("");
                assert!(heads.insert(current), "{current} has two heads");
            } else if !line.starts_with('#') {
                assert_eq!(line.split(['{', ' ']).next(), Some(current), "{line}");
            }
        }
        let mut names = std::collections::HashSet::new();
        let lists = [FIELDS, SHARD_FIELDS, COMMAND_FIELDS, ERROR_FIELDS, DATABASE_FIELDS];
        for metric in lists.into_iter().flatten() {
            assert!(names.insert(metric.name), "{} is declared twice", metric.name);
        }
    }

    #[test]
    fn anything_may_be_in_it() {
        let text = from_info(
            "shard:x=1\nshardx:keys=1\nshard0:=1,a b=2,keys=nan\ndb:\ncmdstat_:calls=1\n::\n\u{0}:1",
        );
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (_, number) = line.rsplit_once(' ').expect("a name and a number");
            assert!(number.parse::<f64>().is_ok(), "{line}");
        }
        assert!(!text.contains("a b"));
    }
}

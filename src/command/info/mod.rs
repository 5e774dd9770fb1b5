//! INFO: what the server says about itself. Every number is read from counters that the shards
//! publish, so asking stops nobody.

use super::{Command, Effect, Family, Outcome, Run, flag};
use crate::base::{clock, memory, ticks};
use crate::config::parse::VERSION;
use crate::metrics::{Calls, Counter};
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};
use std::fmt::Write as _;
use std::path::Path;

/// The version of Redis whose clients and tools find here what they expect there. What this server
/// is itself stands in `server_name` and `redshard_version`.
pub const COMPATIBLE_VERSION: &str = "7.2.4";

/// INFO alone.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[Command::new("INFO", Run::Session(info))
        .usage("[section...]")
        .with(flag::LOADING | flag::STALE | flag::DANGEROUS)
        .summary("What the server says about itself.")],
};

/// A section: its name, its heading, whether INFO shows it unasked, and what writes its lines.
struct Section(&'static str, &'static str, bool, fn(&Env, &mut String));

/// All sections, in the order they are shown.
const SECTIONS: &[Section] = &[
    Section("server", "Server", true, server),
    Section("clients", "Clients", true, clients),
    Section("memory", "Memory", true, memory_section),
    Section("persistence", "Persistence", true, persistence),
    Section("stats", "Stats", true, stats),
    Section("shards", "Shards", true, shards),
    Section("replication", "Replication", true, replication),
    Section("cpu", "CPU", true, cpu),
    Section("modules", "Modules", true, |_, _| {}),
    Section("commandstats", "Commandstats", false, commandstats),
    Section("errorstats", "Errorstats", true, errorstats),
    Section("latencystats", "Latencystats", false, latencystats),
    Section("cluster", "Cluster", true, |_, out| out.push_str("cluster_enabled:0\r\n")),
    Section("keyspace", "Keyspace", true, keyspace),
];

/// INFO.
fn info(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let asked = |section: &Section| {
        let mut words = args.iter().map(<[u8]>::to_ascii_lowercase);
        (args.is_empty() && section.2)
            || words.any(|word| match word.as_slice() {
                b"default" => section.2,
                b"all" | b"everything" => true,
                name => name == section.0.as_bytes(),
            })
    };
    reply.verbatim("txt", &text(env, asked));
    Ok(Effect::Read)
}

/// INFO everything, for those who read it without being a client.
pub fn everything(env: &Env) -> String {
    text(env, |_| true)
}

fn text(env: &Env, asked: impl Fn(&Section) -> bool) -> String {
    let mut out = String::new();
    for section in SECTIONS.iter().filter(|section| asked(section)) {
        if !out.is_empty() {
            out.push_str("\r\n");
        }
        let _ = write!(out, "# {}\r\n", section.1);
        section.3(env, &mut out);
    }
    out
}

/// Appends `name:value` lines. Writing to a `String` does not fail.
macro_rules! lines {
    ($out:ident: $($name:literal = $value:expr;)*) => {
        $(let _ = write!($out, concat!($name, ":{}\r\n"), $value);)*
    };
}

fn server(env: &Env, out: &mut String) {
    let identity = &env.server.identity;
    let now_us = clock::unix_us();
    let uptime_s = (now_us - identity.started_us).max(0) / 1_000_000;
    let system = |name: &str| read(&format!("/proc/sys/kernel/{name}"));
    lines! { out:
        "redis_version" = COMPATIBLE_VERSION;
        "server_name" = "redshard";
        "redshard_version" = VERSION;
        "redis_git_sha1" = "00000000";
        "redis_git_dirty" = 0;
        "redis_mode" = "standalone";
        "server_mode" = "standalone";
        "os" = format_args!("{} {} {}", system("ostype"), system("osrelease"), std::env::consts::ARCH);
        "arch_bits" = usize::BITS;
        "monotonic_clock" = ticks::name();
        "multiplexing_api" = "io_uring";
        "process_id" = std::process::id();
        "process_supervised" = env.config.supervised().word();
        "run_id" = identity.run_id;
        "tcp_port" = env.config.port();
        "server_time_usec" = now_us;
        "uptime_in_seconds" = uptime_s;
        "uptime_in_days" = uptime_s / 86_400;
        "hz" = env.config.hz();
        "configured_hz" = env.config.hz();
        "lru_clock" = (now_us / 1_000_000) & 0xFF_FFFF;
        "executable" = identity.executable;
        "config_file" = env.config.file().unwrap_or(Path::new("")).display();
        "io_threads_active" = 0;
        "shards" = env.server.metrics.shards();
    }
    let mut listeners = 0;
    if env.config.port() != 0 {
        let _ = write!(out, "listener0:name=tcp");
        for bind in env.config.bind() {
            let _ = write!(out, ",bind={bind}");
        }
        let _ = write!(out, ",port={}\r\n", env.config.port());
        listeners += 1;
    }
    if let Some(path) = env.config.unixsocket() {
        let _ = write!(out, "listener{listeners}:name=unix,bind={}\r\n", path.display());
    }
}

fn clients(env: &Env, out: &mut String) {
    let metrics = &env.server.metrics;
    lines! { out:
        "connected_clients" = metrics.sum(|shard| &shard.connections);
        "cluster_connections" = 0;
        "maxclients" = env.config.maxclients();
        "blocked_clients" = 0;
        "tracking_clients" = 0;
        "pubsub_clients" = 0;
        "clients_in_timeout_table" = 0;
        "total_blocking_keys" = 0;
        "total_blocking_keys_on_nokey" = 0;
        "paused_reason" = "none";
        "paused_actions" = "none";
        "paused_timeout_milliseconds" = 0;
    }
}

fn memory_section(env: &Env, out: &mut String) {
    let metrics = &env.server.metrics;
    let (used, rss) = (memory::used(), resident_bytes());
    let peak = memory::peak().max(used);
    let total = total_memory_bytes();
    let limit = env.config.maxmemory();
    let ratio = |of: u64, to: u64| of as f64 / to.max(1) as f64;
    lines! { out:
        "used_memory" = used;
        "used_memory_human" = human(used);
        "used_memory_rss" = rss;
        "used_memory_rss_human" = human(rss);
        "used_memory_peak" = peak;
        "used_memory_peak_human" = human(peak);
        "used_memory_peak_perc" = format_args!("{:.2}%", 100.0 * ratio(used, peak));
        "used_memory_overhead" = metrics.sum(|shard| &shard.table_bytes);
        "total_system_memory" = total;
        "total_system_memory_human" = human(total);
        "used_memory_lua" = 0;
        "used_memory_scripts" = 0;
        "used_memory_scripts_human" = human(0);
        "number_of_cached_scripts" = 0;
        "number_of_functions" = 0;
        "number_of_libraries" = 0;
        "maxmemory" = limit;
        "maxmemory_human" = human(limit);
        "maxmemory_policy" = env.config.maxmemory_policy().word();
        "mem_fragmentation_ratio" = format_args!("{:.2}", ratio(rss, used));
        "mem_fragmentation_bytes" = rss as i64 - used as i64;
        "mem_not_counted_for_evict" = 0;
        "mem_replication_backlog" = 0;
        "mem_clients_slaves" = 0;
        "mem_aof_buffer" = 0;
        "mem_allocator" = "jemalloc-5.3.0";
        "active_defrag_running" = 0;
        "lazyfree_pending_objects" = metrics.sum(|shard| &shard.pending_frees);
    }
}

fn persistence(env: &Env, out: &mut String) {
    lines! { out:
        "loading" = 0;
        "async_loading" = 0;
        "rdb_changes_since_last_save" = env.server.metrics.sum(|shard| &shard.dirty);
        "rdb_bgsave_in_progress" = 0;
        "rdb_last_save_time" = env.server.identity.started_us / 1_000_000;
        "rdb_last_bgsave_status" = "ok";
        "rdb_last_bgsave_time_sec" = -1;
        "rdb_current_bgsave_time_sec" = -1;
        "rdb_saves" = 0;
        "rdb_last_cow_size" = 0;
        "rdb_last_load_keys_expired" = 0;
        "rdb_last_load_keys_loaded" = 0;
        "aof_enabled" = 0;
        "aof_rewrite_in_progress" = 0;
        "aof_rewrite_scheduled" = 0;
        "aof_last_rewrite_time_sec" = -1;
        "aof_current_rewrite_time_sec" = -1;
        "aof_last_bgrewrite_status" = "ok";
        "aof_last_write_status" = "ok";
    }
}

fn stats(env: &Env, out: &mut String) {
    let metrics = &env.server.metrics;
    let since =
        |counter: fn(&crate::metrics::ShardMetrics) -> &Counter| metrics.since_reset(counter);
    let rates = metrics.rates(env.now.monotonic_ns);
    lines! { out:
        "total_connections_received" = since(|shard| &shard.connections_total);
        "total_commands_processed" = since(|shard| &shard.commands);
        "instantaneous_ops_per_sec" = rates.commands as u64;
        "total_net_input_bytes" = since(|shard| &shard.received);
        "total_net_output_bytes" = since(|shard| &shard.sent);
        "total_net_repl_input_bytes" = 0;
        "total_net_repl_output_bytes" = 0;
        "instantaneous_input_kbps" = format_args!("{:.2}", rates.received / 1024.0);
        "instantaneous_output_kbps" = format_args!("{:.2}", rates.sent / 1024.0);
        "instantaneous_input_repl_kbps" = "0.00";
        "instantaneous_output_repl_kbps" = "0.00";
        "rejected_connections" = since(|shard| &shard.rejected);
        "sync_full" = 0;
        "sync_partial_ok" = 0;
        "sync_partial_err" = 0;
        "expired_keys" = since(|shard| &shard.expired);
        "evicted_keys" = 0;
        "evicted_clients" = 0;
        "evicted_scripts" = 0;
        "total_eviction_exceeded_time" = 0;
        "current_eviction_exceeded_time" = 0;
        "keyspace_hits" = since(|shard| &shard.hits);
        "keyspace_misses" = since(|shard| &shard.misses);
        "pubsub_channels" = 0;
        "pubsub_patterns" = 0;
        "pubsubshard_channels" = 0;
        "latest_fork_usec" = 0;
        "total_forks" = 0;
        "migrate_cached_sockets" = 0;
        "slave_expires_tracked_keys" = 0;
        "tracking_total_keys" = 0;
        "tracking_total_items" = 0;
        "tracking_total_prefixes" = 0;
        "total_error_replies" = since(|shard| &shard.errors);
        "client_query_buffer_limit_disconnections" = since(|shard| &shard.query_closed);
        "client_output_buffer_limit_disconnections" = since(|shard| &shard.output_closed);
        "eventloop_cycles" = since(|shard| &shard.turns);
    }
}

/// One line per shard: how busy it is, what it does, and what it has.
fn shards(env: &Env, out: &mut String) {
    let metrics = &env.server.metrics;
    let uptime_ns = (clock::unix_us() - env.server.identity.started_us).max(0) as u64 * 1000;
    for number in 0..metrics.shards() {
        let shard = metrics.shard(number);
        let databases = 0..usize::from(env.config.databases()).min(metrics.databases());
        let keys: u64 = databases.map(|db| metrics.database(number, db).keys.get()).sum();
        let waited_ns = shard.waited_ns.get();
        let _ = write!(
            out,
            "shard{number}:busy_ns={},waited_ns={waited_ns},turns={},commands={},hops={},\
             batches={},connections={},keys={keys},stalls={}\r\n",
            uptime_ns.saturating_sub(waited_ns),
            shard.turns.get(),
            shard.commands.get(),
            shard.hops_out.get() + shard.hops_in.get(),
            shard.batches.get(),
            shard.connections.get(),
            shard.stalls.get(),
        );
    }
}

fn replication(env: &Env, out: &mut String) {
    lines! { out:
        "role" = "master";
        "connected_slaves" = 0;
        "master_failover_state" = "no-failover";
        "master_replid" = env.server.identity.run_id;
        "master_replid2" = "0000000000000000000000000000000000000000";
        "master_repl_offset" = 0;
        "second_repl_offset" = -1;
        "repl_backlog_active" = 0;
        "repl_backlog_size" = env.config.repl_backlog_size();
        "repl_backlog_first_byte_offset" = 0;
        "repl_backlog_histlen" = 0;
    }
}

fn cpu(_: &Env, out: &mut String) {
    let all = cpu_seconds("/proc/self/stat");
    let main = cpu_seconds(&format!("/proc/self/task/{}/stat", std::process::id()));
    let names =
        ["used_cpu_sys", "used_cpu_user", "used_cpu_sys_children", "used_cpu_user_children"];
    for (name, seconds) in names.iter().zip(all) {
        let _ = write!(out, "{name}:{seconds:.6}\r\n");
    }
    for (name, seconds) in
        ["used_cpu_sys_main_thread", "used_cpu_user_main_thread"].iter().zip(main)
    {
        let _ = write!(out, "{name}:{seconds:.6}\r\n");
    }
}

/// Calls by command.
fn commandstats(env: &Env, out: &mut String) {
    let rate = ticks::rate();
    for command in super::all() {
        let Calls { calls, failed, rejected, ticks } =
            env.server.metrics.calls_since_reset(command.id);
        if calls + failed + rejected > 0 {
            let (us, name) = (rate.us(ticks), command.full_name());
            let per_call = rate.ns(ticks) as f64 / 1000.0 / calls.max(1) as f64;
            let _ = write!(
                out,
                "cmdstat_{name}:calls={calls},usec={us},usec_per_call={per_call:.2},\
                 rejected_calls={rejected},failed_calls={failed}\r\n",
            );
        }
    }
}

fn errorstats(env: &Env, out: &mut String) {
    for (code, count) in env.server.metrics.errors_since_reset().filter(|(_, count)| *count > 0) {
        let _ = write!(out, "errorstat_{code}:count={count}\r\n");
    }
}

fn keyspace(env: &Env, out: &mut String) {
    let metrics = &env.server.metrics;
    for db in 0..usize::from(env.config.databases()).min(metrics.databases()) {
        let (keys, volatile) = metrics.keys(db);
        if keys > 0 {
            let _ = write!(out, "db{db}:keys={keys},expires={volatile},avg_ttl=0\r\n");
        }
    }
}

/// How long most calls of each command took, in microseconds.
fn latencystats(env: &Env, out: &mut String) {
    let rate = ticks::rate();
    for command in super::all() {
        let Some(counts) = env.server.metrics.histogram_since_reset(command.id) else {
            continue;
        };
        let _ = write!(out, "latency_percentiles_usec_{}:", command.full_name());
        for (at, percent) in env.config.latency_tracking_info_percentiles().iter().enumerate() {
            let ticks = counts.percentile(percent.parse().unwrap_or(0.0));
            let (comma, us) = (if at > 0 { "," } else { "" }, rate.ns(ticks) as f64 / 1000.0);
            let _ = write!(out, "{comma}p{percent}={us:.3}");
        }
        out.push_str("\r\n");
    }
}

/// Bytes with a unit, as Redis shows them.
fn human(bytes: u64) -> String {
    const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog2() as usize / 10).min(UNITS.len());
    let value = bytes as f64 / (1u64 << (10 * power)) as f64;
    format!("{value:.2}{}", UNITS[power - 1])
}

/// A small file of `/proc`, or nothing.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

fn resident_bytes() -> u64 {
    kib_of("/proc/self/status", "VmRSS:") * 1024
}

fn total_memory_bytes() -> u64 {
    kib_of("/proc/meminfo", "MemTotal:") * 1024
}

/// The number of a line `name   number kB`.
fn kib_of(path: &str, name: &str) -> u64 {
    let text = read(path);
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// System and user seconds of a process or thread, then those of its children.
fn cpu_seconds(stat: &str) -> [f64; 4] {
    /// What the kernel counts these in for user space, on every architecture we run on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = read(stat);
    // The name before the parenthesis may hold anything; state is the first field after it.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    [12, 11, 14, 13].map(|at| {
        let ticks = fields.get(at).and_then(|field| field.parse::<f64>().ok());
        ticks.unwrap_or(0.0) / TICKS_PER_SECOND
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::config::Config;
    use crate::resp::{ReplyBuf, Span};
    use crate::session::{About, Identity, Server};

    fn identity() -> Identity {
        Identity {
            run_id: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            started_us: clock::unix_us() - 90_000_000_000,
            config_file: String::new(),
            executable: "/usr/bin/redshard".to_owned(),
        }
    }

    fn ask(server: &Server, sections: &[&str]) -> String {
        let config = server.config();
        let now = Now { unix_ms: 0, monotonic_ns: 2_000_000_000 };
        let env = Env { config: &config, server, now };
        let mut session = Session::new(1, now, &config, About::default());
        let bytes: Vec<u8> = sections.concat().into_bytes();
        let mut spans = Vec::new();
        for section in sections {
            let at = spans.last().map_or(0, |span: &Span| span.at + span.len);
            spans.push(Span { at, len: section.len() as u32 });
        }
        let mut out = ReplyBuf::default();
        let mut reply = Reply::new(&mut out, false);
        info(&mut session, &env, &Args::new(&bytes, &spans), &mut reply).expect("never fails");
        let text = String::from_utf8(out.bytes().to_vec()).expect("text");
        let (_, body) = text.split_once("\r\n").expect("a header");
        body.strip_suffix("\r\n").expect("an end").to_owned()
    }

    #[test]
    fn sections_are_chosen() {
        let server = Server::new(Config::default(), 2, identity());
        let headings = |sections: &[&str]| -> Vec<String> {
            let text = ask(&server, sections);
            text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(headings(&["CPU", "server"]), ["# Server", "# CPU"]);
        assert_eq!(ask(&server, &["nosuch"]), "");
        assert_eq!(headings(&[]), headings(&["default"]));
        assert!(!headings(&[]).contains(&"# Commandstats".to_owned()));
        assert_eq!(headings(&["all"]).len(), SECTIONS.len());
        assert_eq!(headings(&["everything"]).len(), SECTIONS.len());
    }

    #[test]
    fn every_line_is_a_heading_a_pair_or_empty() {
        let server = Server::new(Config::default(), 2, identity());
        server.metrics.count_error(1, crate::metrics::error_code(b"-WRONGTYPE x"));
        server.metrics.command(0, 0).calls.add(3);
        let text = ask(&server, &["everything"]);
        for line in text.split("\r\n") {
            let fine = line.is_empty()
                || line.starts_with("# ")
                || line.split_once(':').is_some_and(|(name, value)| {
                    !name.is_empty() && !name.contains(' ') && !value.contains('\n')
                });
            assert!(fine, "{line:?}");
        }
        assert!(!text.contains("\r\n\r\n\r\n"), "{text}");
    }

    #[test]
    fn numbers_come_from_all_shards() {
        let server = Server::new(Config::default(), 2, identity());
        let value = |section: &str, name: &str| {
            let text = ask(&server, &[section]);
            let prefix = format!("{name}:");
            let mut lines = text.split("\r\n");
            lines.find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
        };
        for (shard, n) in [(0, 3), (1, 4)] {
            let metrics = &server.metrics;
            metrics.shard(shard).connections.set(n);
            metrics.shard(shard).hits.set(10 * n);
            metrics.shard(shard).commands.set(100 * n);
            metrics.database(shard, 5).keys.set(n);
            metrics.database(shard, 5).volatile.set(1);
            metrics.command(shard, 0).calls.add(n);
            metrics.count_error(shard, crate::metrics::error_code(b"-ERR something"));
        }
        let of_command = format!("cmdstat_{}", crate::command::all()[0].full_name());
        assert_eq!(value("clients", "connected_clients").unwrap(), "7");
        assert_eq!(value("keyspace", "db5").unwrap(), "keys=7,expires=2,avg_ttl=0");
        assert_eq!(value("keyspace", "db0"), None);
        assert_eq!(value("stats", "keyspace_hits").unwrap(), "70");
        assert_eq!(value("errorstats", "errorstat_ERR").unwrap(), "count=2");
        assert!(value("commandstats", &of_command).unwrap().starts_with("calls=7,usec="));
        let second = value("shards", "shard1").unwrap();
        assert!(second.contains(",commands=400,") && second.contains(",keys=4,"), "{second}");
        assert_eq!(value("server", "uptime_in_days").unwrap(), "1");

        server.metrics.reset();
        server.metrics.shard(0).hits.add(5);
        assert_eq!(value("stats", "keyspace_hits").unwrap(), "5");
        assert_eq!(value("stats", "total_commands_processed").unwrap(), "0");
        assert_eq!(value("errorstats", "errorstat_ERR"), None);
        assert_eq!(value("commandstats", &of_command), None);
        // What is, not what was.
        assert_eq!(value("clients", "connected_clients").unwrap(), "7");
    }

    #[test]
    fn sizes_have_units() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_017_448, "993.60K"),
            (25_276_502_016, "23.54G"),
            (u64::MAX, "16384.00P"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}

//! The process: sections server, clients and cpu.

use super::field::{Field, Value, fields, list};
use crate::base::{proc, ticks, version};
use crate::session::Env;
use std::path::Path;

pub fn server(env: &Env, out: &mut Vec<Field>) {
    let identity = &env.instance.identity;
    let now_us = env.unix_us();
    let uptime_s = (now_us - identity.started_us).max(0) / 1_000_000;
    let mut zone = env.config.get(&[b"availability-zone"]);
    let zone = zone.pop().map_or(Vec::new(), |(_, zone)| zone);
    fields! { out:
        "redis_version" = super::COMPATIBLE_VERSION;
        "server_name" = "redshard";
        "redshard_version" = version::VERSION;
        "redis_git_sha1" = version::GIT_SHA1;
        "redis_git_dirty" = u64::from(version::GIT_DIRTY);
        "redis_build_id" = version::BUILD_ID;
        "redis_mode" = "standalone";
        "server_mode" = "standalone";
        "os" = proc::system();
        "arch_bits" = usize::BITS;
        "monotonic_clock" = ticks::name();
        "multiplexing_api" = "io_uring";
        "process_id" = proc::id();
        "process_supervised" = env.config.supervised().word();
        "run_id" = identity.run_id.clone();
        "tcp_port" = env.config.port();
        "server_time_usec" = now_us;
        "uptime_in_seconds" = uptime_s;
        "uptime_in_days" = uptime_s / 86_400;
        "hz" = env.config.hz();
        "configured_hz" = env.config.hz();
        "clients_hz" = 1000 / crate::base::limits::TICK_MS;
        "lru_clock" = (now_us / 1_000_000) & 0xFF_FFFF;
        "executable" = identity.executable.clone();
        "config_file" = env.config.file().unwrap_or(Path::new("")).display().to_string();
        "io_threads_active" = 0;
        "availability_zone" = String::from_utf8_lossy(&zone).into_owned();
        "shards" = env.instance.metrics.shards();
    }
    let mut listeners = 0;
    if env.config.port() != 0 {
        let binds = env.config.bind().iter().map(|bind| ("bind".into(), bind.clone().into()));
        let mut list = vec![("name".into(), "tcp".into())];
        list.extend(binds);
        list.push(("port".into(), env.config.port().into()));
        out.push(Field::about("listener", listeners, Value::List(list)));
        listeners += 1;
    }
    if let Some(path) = env.config.unixsocket() {
        let list = list! { "name" = "unix", "bind" = path.display().to_string(), };
        out.push(Field::about("listener", listeners, list));
    }
}

pub fn clients(env: &Env, out: &mut Vec<Field>) {
    let metrics = &env.instance.metrics;
    let now_ms = env.now.unix_ms;
    let pause = env.instance.pause(now_ms);
    let (reason, actions) = match (pause.is_on(now_ms), pause.is_for_all()) {
        (false, _) => ("none", "none"),
        (true, true) => ("client_pause", "all"),
        (true, false) => ("client_pause", "write"),
    };
    fields! { out:
        "connected_clients" = metrics.sum(|shard| &shard.connections);
        "cluster_connections" = 0;
        "maxclients" = env.config.maxclients();
        "client_recent_max_input_buffer" = metrics.most(|shard| &shard.input_max);
        "client_recent_max_output_buffer" = metrics.most(|shard| &shard.output_max);
        "blocked_clients" = metrics.sum(|shard| &shard.blocked);
        "tracking_clients" = 0;
        "pubsub_clients" = metrics.sum(|shard| &shard.subscribers);
        "watching_clients" = metrics.sum(|shard| &shard.watching);
        "clients_in_timeout_table" = 0;
        "total_watched_keys" = metrics.sum(|shard| &shard.watched_keys);
        "total_blocking_keys" = 0;
        "total_blocking_keys_on_nokey" = 0;
        "paused_reason" = reason;
        "paused_actions" = actions;
        "paused_timeout_milliseconds" = pause.left_ms(now_ms);
    }
}

pub fn cpu(env: &Env, out: &mut Vec<Field>) {
    let (all, main) = (proc::cpu(), proc::cpu_of_main_thread());
    // The main thread is none of the shards; what the others call so here is the first of them.
    let busy_ticks = env.instance.metrics.shard(0).turn_ticks.get();
    let seconds = |seconds: f64| Value::Decimal(seconds, 6);
    fields! { out:
        "used_cpu_sys" = seconds(all.system);
        "used_cpu_user" = seconds(all.user);
        "used_cpu_sys_children" = seconds(all.children_system);
        "used_cpu_user_children" = seconds(all.children_user);
        "used_cpu_sys_main_thread" = seconds(main.system);
        "used_cpu_user_main_thread" = seconds(main.user);
        "used_active_time_main_thread" = seconds(ticks::rate().ns(busy_ticks) as f64 / 1e9);
    }
}

pub fn cluster(_: &Env, out: &mut Vec<Field>) {
    fields! { out:
        "cluster_enabled" = 0;
    }
}

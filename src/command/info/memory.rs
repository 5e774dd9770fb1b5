//! Where the memory is.

use super::field::{Field, Value, fields};
use super::human;
use crate::base::{proc, version};
use crate::metrics::usage::Usage;
use crate::session::Env;
use std::sync::atomic::Ordering;

/// Section memory.
pub fn memory(env: &Env, out: &mut Vec<Field>) {
    let metrics = &env.instance.metrics;
    let usage = Usage::read(metrics, env.config);
    let (used, peak, rss, allocator) = (usage.used, usage.peak, usage.resident, usage.allocator);
    let total = proc::memory_total();
    let limit = env.config.maxmemory();
    let ratio = |of: u64, to: u64| Value::Decimal(of as f64 / to.max(1) as f64, 2);
    let percent = |of: u64, to: u64| format!("{:.2}%", 100.0 * of as f64 / to.max(1) as f64);
    let minus = |of: u64, less: u64| of as i64 - less as i64;
    // What is kept of the stream, and how much of it only because replicas are yet to get it.
    let stream = env.instance.replication().progress.backlog_memory.load(Ordering::Relaxed);
    let for_replicas = stream.saturating_sub(env.config.repl_backlog_size());
    let (overhead, dataset) = (usage.overhead(), usage.dataset());
    fields! { out:
        "used_memory" = used;
        "used_memory_human" = human(used);
        "used_memory_rss" = rss;
        "used_memory_rss_human" = human(rss);
        "used_memory_peak" = peak;
        "used_memory_peak_human" = human(peak);
        "used_memory_peak_perc" = percent(used, peak);
        "used_memory_overhead" = overhead;
        "used_memory_startup" = usage.startup;
        "used_memory_dataset" = dataset;
        "used_memory_dataset_perc" = percent(dataset, used.saturating_sub(usage.startup));
        "allocator_allocated" = allocator.allocated;
        "allocator_active" = allocator.active;
        "allocator_resident" = allocator.resident;
        "allocator_muzzy" = 0;
        "total_system_memory" = total;
        "total_system_memory_human" = human(total);
        "used_memory_lua" = 0;
        "used_memory_vm_eval" = 0;
        "used_memory_lua_human" = human(0);
        "used_memory_scripts_eval" = 0;
        "number_of_cached_scripts" = 0;
        "number_of_functions" = 0;
        "number_of_libraries" = 0;
        "used_memory_vm_functions" = 0;
        "used_memory_vm_total" = 0;
        "used_memory_vm_total_human" = human(0);
        "used_memory_functions" = 0;
        "used_memory_scripts" = 0;
        "used_memory_scripts_human" = human(0);
        "maxmemory" = limit;
        "maxmemory_human" = human(limit);
        "maxmemory_policy" = env.config.maxmemory_policy().word();
        "allocator_frag_ratio" = ratio(allocator.active, allocator.allocated);
        "allocator_frag_bytes" = minus(allocator.active, allocator.allocated);
        "allocator_rss_ratio" = ratio(allocator.resident, allocator.active);
        "allocator_rss_bytes" = minus(allocator.resident, allocator.active);
        "rss_overhead_ratio" = ratio(rss, allocator.resident);
        "rss_overhead_bytes" = minus(rss, allocator.resident);
        "mem_fragmentation_ratio" = ratio(rss, used);
        "mem_fragmentation_bytes" = minus(rss, used);
        "mem_not_counted_for_evict" = 0;
        "mem_replication_backlog" = stream - for_replicas;
        "mem_total_replication_buffers" = stream;
        "mem_replicas_repl_buffer" = for_replicas;
        "mem_clients_slaves" = for_replicas;
        "mem_clients_normal" = usage.clients;
        "mem_cluster_links" = 0;
        "mem_cluster_slot_import" = 0;
        "mem_cluster_slot_export" = 0;
        "mem_aof_buffer" = 0;
        "mem_allocator" = version::ALLOCATOR;
        "mem_overhead_db_hashtable_rehashing" = 0;
        "active_defrag_running" = 0;
        "lazyfree_pending_objects" = metrics.sum(|shard| &shard.pending_frees);
        "lazyfreed_objects" = metrics.since_reset(|shard| &shard.freed);
    }
}

//! Saving and loading: section persistence.

use super::field::{Field, Value, fields};
use crate::instance::persistence::{Loading, Saving, State};
use crate::session::Env;

pub fn persistence(env: &Env, out: &mut Vec<Field>) {
    let state = env.instance.persistence().state();
    let now_s = env.unix_us() / 1_000_000;
    let changes = env.instance.metrics.sum(|shard| &shard.dirty);
    let saving = state.saving.unwrap_or_default();
    let State { loading, is_scheduled, .. } = state;
    let last_load = loading.map_or(state.last_load, |loading| loading.so_far);
    let running_s = state.saving.map_or(-1, |saving| (now_s - saving.began_us / 1_000_000).max(0));
    fields! { out:
        "loading" = u64::from(loading.is_some_and(|loading| !loading.is_beside));
        "async_loading" = u64::from(loading.is_some_and(|loading| loading.is_beside));
        "current_cow_peak" = saving.cow_bytes_max;
        "current_cow_size" = saving.cow_bytes;
        "current_cow_size_age" = 0;
        "current_fork_perc" = saved_percent(&saving);
        "current_save_keys_processed" = saving.keys;
        "current_save_keys_total" = saving.keys_total;
        "rdb_changes_since_last_save" = changes.saturating_sub(state.saved_changes);
        "rdb_bgsave_in_progress" = u64::from(state.saving.is_some());
        "rdb_bgsave_scheduled" = u64::from(is_scheduled);
        "rdb_last_save_time" = state.last_save_s;
        "rdb_last_bgsave_status" = if state.is_last_fine { "ok" } else { "err" };
        "rdb_last_bgsave_time_sec" = state.last_took_s.unwrap_or(-1);
        "rdb_current_bgsave_time_sec" = running_s;
        "rdb_current_bgsave_bytes" = saving.bytes;
        "rdb_saves" = state.saves;
        "rdb_last_cow_size" = state.last_cow_bytes;
        "rdb_last_load_keys_expired" = last_load.expired;
        "rdb_last_load_keys_loaded" = last_load.keys;
        "aof_enabled" = 0;
        "aof_rewrite_in_progress" = 0;
        "aof_rewrite_scheduled" = 0;
        "aof_last_rewrite_time_sec" = -1;
        "aof_current_rewrite_time_sec" = -1;
        "aof_last_bgrewrite_status" = "ok";
        "aof_rewrites" = 0;
        "aof_rewrites_consecutive_failures" = 0;
        "aof_last_write_status" = "ok";
        "aof_last_cow_size" = 0;
        "module_fork_in_progress" = 0;
        "module_fork_last_cow_size" = 0;
        "slot_migration_fork_in_progress" = 0;
    }
    if let Some(loading) = loading {
        fields! { out:
            "loading_start_time" = loading.began_us / 1_000_000;
            "loading_total_bytes" = loading.total_bytes.unwrap_or(0);
            "loading_rdb_used_mem" = loading.maker_used_bytes;
            "loading_loaded_bytes" = loading.bytes;
            "loading_loaded_perc" = loaded_percent(&loading);
            "loading_eta_seconds" = eta_s(&loading, now_s);
        }
    }
}

/// How much of what there was at a save's beginning has been saved.
fn saved_percent(saving: &Saving) -> Value {
    Value::Decimal(100.0 * saving.keys as f64 / saving.keys_total.max(1) as f64, 2)
}

/// How much of it has been loaded; of what has no known end, nothing.
fn loaded_percent(loading: &Loading) -> Value {
    let total = loading.total_bytes.filter(|total| *total > 0);
    Value::Decimal(total.map_or(0.0, |total| 100.0 * loading.bytes as f64 / total as f64), 2)
}

/// How long the rest takes, in seconds, if it goes on as it has so far; a guess at first, as in Redis.
fn eta_s(loading: &Loading, now_s: i64) -> u64 {
    let took_s = u64::try_from(now_s - loading.began_us / 1_000_000).unwrap_or(0);
    let left = loading.total_bytes.unwrap_or(0).saturating_sub(loading.bytes);
    if took_s == 0 { 1 } else { took_s.saturating_mul(left) / (loading.bytes + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_it_has_so_far() {
        let of = |bytes, total| Loading {
            began_us: 10_000_000,
            total_bytes: Some(total),
            bytes,
            ..Loading::default()
        };
        assert_eq!(eta_s(&of(0, 1000), 10), 1);
        assert_eq!(eta_s(&of(249, 1000), 20), 30);
        assert_eq!(eta_s(&of(1000, 1000), 20), 0);
        assert_eq!(loaded_percent(&of(250, 1000)).to_string(), "25.00");
        assert_eq!(loaded_percent(&Loading::default()).to_string(), "0.00");
        let saving = Saving { keys: 1, keys_total: 8, ..Saving::default() };
        assert_eq!(saved_percent(&saving).to_string(), "12.50");
        assert_eq!(saved_percent(&Saving::default()).to_string(), "0.00");
    }
}

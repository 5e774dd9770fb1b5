//! Where the memory is: what INFO and MEMORY show, from what shards and the allocator count.

use super::Metrics;
use crate::base::memory::{self, Allocator};
use crate::base::proc;
use crate::config::Config;

/// Bytes, by what takes them.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Allocated.
    pub used: u64,
    /// The most that ever was.
    pub peak: u64,
    /// Allocated when the server was ready, before any client came.
    pub startup: u64,
    /// What the kernel counts for the process.
    pub resident: u64,
    /// What the allocator counts.
    pub allocator: Allocator,
    /// The tables, without keys and values.
    pub tables: u64,
    /// What clients make the server keep for them.
    pub clients: u64,
    /// Keys.
    pub keys: u64,
    /// By number, databases with keys: the table's bytes for keys, and those for expiries.
    pub databases: Vec<(usize, [u64; 2])>,
}

impl Usage {
    /// As of now.
    pub fn read(metrics: &Metrics, config: &Config) -> Usage {
        let used = memory::used();
        let tables = metrics.sum(|shard| &shard.table_bytes);
        let all = 0..usize::from(config.databases()).min(metrics.databases());
        let keyed: Vec<(usize, u64)> =
            all.map(|db| (db, metrics.keys(db).0)).filter(|(_, keys)| *keys > 0).collect();
        let keys = keyed.iter().map(|(_, keys)| keys).sum();
        // Tables grow with their keys, whichever database they are in. An expiry is in the key's
        // block, and a byte beside its address that every key has.
        let share = |n: u64| (u128::from(tables) * u128::from(n) / u128::from(keys)) as u64;
        let databases = keyed.iter().map(|(db, n)| (*db, [share(*n), 0])).collect();
        Usage {
            used,
            peak: memory::peak().max(used),
            startup: metrics.startup_bytes(),
            resident: proc::resident_bytes(),
            allocator: memory::allocator(),
            tables,
            clients: metrics.sum(|shard| &shard.client_bytes),
            keys,
            databases,
        }
    }

    /// What is no data.
    pub fn overhead(&self) -> u64 {
        self.startup + self.tables + self.clients
    }

    /// What is.
    pub fn dataset(&self) -> u64 {
        self.used.saturating_sub(self.overhead())
    }
}

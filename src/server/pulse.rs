//! How a shard's loop is doing: how long its turns take, and what holds it up.

use crate::base::{clock, ticks};
use crate::instance::Instance;
use crate::metrics::latency::Event;
use crate::route::node::Node;

/// A turn that takes longer is a stall, in nanoseconds: a client may notice it.
const STALL_NS: u64 = 1_000_000;

/// One shard's.
#[derive(Debug)]
pub struct Pulse {
    number: usize,
    stall_ticks: u64,
    turn_ticks_max: u64,
    /// Commands up to the turn before.
    commands: u64,
}

impl Pulse {
    /// For shard `number`.
    pub fn new(number: usize) -> Pulse {
        Pulse { number, stall_ticks: ticks::rate().ticks(STALL_NS), turn_ticks_max: 0, commands: 0 }
    }

    /// A turn that began at a reading of the counter is over.
    pub fn turned(&mut self, instance: &Instance, node: &Node, began: u64) {
        let metrics = instance.metrics.shard(self.number);
        let took = ticks::now().saturating_sub(began);
        metrics.turns.add(1);
        metrics.turn_ticks.add(took);
        if took > self.turn_ticks_max {
            self.turn_ticks_max = took;
            metrics.turn_ticks_max.set(took);
        }
        let commands = metrics.commands.get();
        let most = &metrics.turn_commands_max;
        most.set(most.get().max(commands - std::mem::replace(&mut self.commands, commands)));
        if took > self.stall_ticks {
            metrics.stalls.add(1);
        }
        record(instance, node, Event::ShardStall, took);
    }

    /// A slice of housekeeping that began at a reading of the counter is over, or interrupted.
    pub fn kept_house(&self, instance: &Instance, node: &Node, began: u64, interrupted: bool) {
        let took = ticks::now().saturating_sub(began);
        let metrics = instance.metrics.shard(self.number);
        metrics.expire_ticks.add(took);
        metrics.expire_cut.add(u64::from(interrupted));
        record(instance, node, Event::ExpireCycle, took);
    }

    /// What is looked at now and then only, because looking touches what other shards write.
    pub fn ticked(&self, instance: &Instance, node: &mut Node) {
        let metrics = instance.metrics.shard(self.number);
        let (queued, spilled) = node.mail().depths();
        metrics.queued.set(queued as u64);
        metrics.spilled.set(spilled as u64);
        for db in 0..node.shard().databases() {
            let mean_ms = node.shard().mean_expiry_ms(db);
            instance.metrics.database(self.number, db).mean_expiry_ms.set(mean_ms.max(0) as u64);
        }
    }
}

/// Records an event, if it took as long as `latency-monitor-threshold` says.
fn record(instance: &Instance, node: &Node, event: Event, took: u64) {
    if took >= node.event_ticks() {
        let unix_s = clock::unix_us() / 1_000_000;
        instance.metrics.latency.add(event, unix_s, ticks::rate().us(took) / 1000);
    }
}

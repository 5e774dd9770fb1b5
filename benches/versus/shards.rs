//! What routing costs: ours with several shards against ours with one, and
//! against peers with as many I/O threads.

use crate::contest::{self, Contender};
use crate::server::Launch;
use crate::{Bench, Outcome};

pub fn report(bench: &Bench) -> Outcome<()> {
    let count = bench.options.shards;
    bench.print_head(&format!("{count} shards"));
    println!(
        "With several threads a server has cores {:?} and the load shares them, so throughput and \
         latency are those of an oversubscribed machine; processor time is not blurred by that, but it includes waiting by spinning. \
         With one shard: server on core {}, load on core {}.\n",
        bench.cores.all, bench.cores.server, bench.cores.load
    );
    let everywhere = Launch { cores: bench.cores.all.clone(), threads: count, max_clients: None };
    let ours = &bench.field.ours;
    let mut contenders = vec![
        Contender {
            label: format!("{}, {count} shards", ours.label),
            product: ours.clone(),
            launch: everywhere.clone(),
            load_cores: bench.cores.all.clone(),
        },
        Contender {
            label: format!("{}, 1 shard", ours.label),
            product: ours.clone(),
            launch: Launch { cores: vec![bench.cores.server], threads: 1, max_clients: None },
            load_cores: vec![bench.cores.load],
        },
    ];
    for peer in &bench.field.peers {
        contenders.push(Contender {
            label: format!("{}, {count} I/O threads", peer.label),
            product: peer.clone(),
            launch: everywhere.clone(),
            load_cores: bench.cores.all.clone(),
        });
    }
    contest::hold(bench, &contenders)
}

//! What routing costs: ours with several shards against ours with one, and
//! against peers with as many I/O threads.
//!
//! Twice, because two things go by that name. *Packed*, all servers have the
//! same single core and the load has another, so that nothing differs but the
//! routing. *Spread*, a server with several threads has all cores, as it would
//! in earnest; where there are no cores to spare the load shares them, and the
//! price includes waking a core that others use.

use crate::contest::{self, Contender};
use crate::server::{Launch, Product};
use crate::{Bench, Outcome};

pub fn report(bench: &Bench) -> Outcome<()> {
    let count = bench.options.shards;
    let ours = &bench.field.ours;
    let (server, load) = (vec![bench.cores.server], vec![bench.cores.load]);
    let one = contender(ours, &server, 1, &load, "1 shard");
    let several = format!("{count} shards");

    bench.print_head(&format!("{count} shards, packed"));
    println!("Servers on core {}, load on core {}.\n", bench.cores.server, bench.cores.load);
    contest::hold(bench, &[contender(ours, &server, count, &load, &several), one.clone()])?;

    bench.print_head(&format!("{count} shards, spread"));
    println!(
        "With several threads a server has cores {:?} and the load shares them, so throughput and \
         latency are those of an oversubscribed machine; processor time is not blurred by that, but it includes waiting by spinning. \
         With one shard: server on core {}, load on core {}.\n",
        bench.cores.all, bench.cores.server, bench.cores.load
    );
    let all = &bench.cores.all;
    let mut contenders = vec![contender(ours, all, count, all, &several), one];
    for peer in &bench.field.peers {
        contenders.push(contender(peer, all, count, all, &format!("{count} I/O threads")));
    }
    contest::hold(bench, &contenders)
}

fn contender(
    product: &Product,
    cores: &[usize],
    threads: usize,
    load_cores: &[usize],
    what: &str,
) -> Contender {
    Contender {
        label: format!("{}, {what}", product.label),
        product: product.clone(),
        launch: Launch { cores: cores.to_vec(), threads, max_clients: None },
        load_cores: load_cores.to_vec(),
    }
}

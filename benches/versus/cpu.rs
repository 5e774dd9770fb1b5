//! Processor time per operation, one core each: ours against every peer.

use crate::contest::{self, Contender};
use crate::server::{Launch, Product};
use crate::{Bench, Outcome};

pub fn report(bench: &Bench) -> Outcome<()> {
    bench.print_head("CPU per operation, one core each");
    println!(
        "Server on core {}, load on core {}; {} s per measurement after a warm-up; random keys \
         among up to {} that exist.\n",
        bench.cores.server, bench.cores.load, bench.options.seconds, bench.options.keyspace
    );
    let contender = |product: &Product| Contender {
        label: product.label.clone(),
        product: product.clone(),
        launch: Launch { cores: vec![bench.cores.server], threads: 1, max_clients: None },
        load_cores: vec![bench.cores.load],
    };
    let mut contenders = vec![contender(&bench.field.ours)];
    contenders.extend(bench.field.peers.iter().map(contender));
    contest::hold(bench, &contenders)
}

//! Whether a change made anything slower: this build against an earlier one,
//! turn by turn, with the interval that the ratio lies in.
//!
//! With one shard and with several, all on the same core with the load on the
//! other, so that nothing differs but the code.

use crate::contest::{self, Contender};
use crate::server::{Launch, Product, earlier_product};
use crate::{Bench, Outcome};

pub fn report(bench: &Bench) -> Outcome<()> {
    let earlier = earlier_product()?;
    for shards in [1, bench.options.shards] {
        bench.print_head(&format!("This build against an earlier one, {shards} shard(s)"));
        println!("Servers on core {}, load on core {}.\n", bench.cores.server, bench.cores.load);
        let contender = |product: &Product, label: &str| Contender {
            label: label.into(),
            product: product.clone(),
            launch: Launch { cores: vec![bench.cores.server], threads: shards, max_clients: None },
            load_cores: vec![bench.cores.load],
        };
        let pair = [contender(&bench.field.ours, "this"), contender(&earlier, "earlier")];
        contest::hold(bench, &pair)?;
        if shards == bench.options.shards {
            break;
        }
    }
    Ok(())
}

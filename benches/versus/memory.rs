//! Resident memory per key: what a user pays, allocator and table included.

use std::thread;
use std::time::Duration;

use crate::load::{Load, Shape, Until};
use crate::options::Options;
use crate::proc;
use crate::request::{Command, Keys};
use crate::server::{Launch, Product, Server};
use crate::stats::median;
use crate::table::{Table, figure};
use crate::{Bench, Outcome};

/// Time for a server to finish what it does in the background: moving to a
/// larger table, giving pages back.
const SETTLE: Duration = Duration::from_secs(2);

/// "key:" and seven digits.
const KEY_LEN: usize = 11;

pub fn report(bench: &Bench) -> Outcome<()> {
    let value_len = Options::only("values", &bench.options.values)?;
    bench.print_head("Memory per key");
    println!(
        "VmRSS after loading {} keys of {KEY_LEN} B with {value_len} B values, minus VmRSS before, \
         per key; median of {} rounds. Nothing is warmed up before: buffers count too.\n",
        bench.options.keys, bench.options.rounds
    );
    let mut servers: Vec<(String, &Product, usize)> = Vec::new();
    let ours = &bench.field.ours;
    for shards in [1, bench.options.shards] {
        let plural = if shards == 1 { "shard" } else { "shards" };
        let label = format!("{}, {shards} {plural}", ours.label);
        if servers.iter().all(|(known, _, _)| *known != label) {
            servers.push((label, ours, shards));
        }
    }
    for peer in &bench.field.peers {
        servers.push((peer.label.clone(), peer, 1));
    }
    let mut table =
        Table::new(1, &["server", "before MiB", "after MiB", "B/key", "beyond key and value"]);
    for (label, product, threads) in servers {
        let mut before = Vec::new();
        let mut after = Vec::new();
        let mut per_key = Vec::new();
        for _ in 0..bench.options.rounds {
            let server = product.start(&Launch {
                cores: bench.cores.all.clone(),
                threads,
                max_clients: None,
            })?;
            let (empty, full) =
                fill(bench, &server, value_len).map_err(|error| format!("{label}: {error}"))?;
            before.push(empty / 1048576.0);
            after.push(full / 1048576.0);
            per_key.push((full - empty) / bench.options.keys as f64);
        }
        let per_key = median(&per_key);
        eprintln!("{label}: {per_key:.1} B/key");
        table.row(vec![
            label,
            figure(median(&before)),
            figure(median(&after)),
            format!("{per_key:.1}"),
            format!("{:.1}", per_key - (KEY_LEN + value_len) as f64),
        ]);
    }
    table.print();
    Ok(())
}

/// Bytes resident before and after loading the keys.
fn fill(bench: &Bench, server: &Server, value_len: usize) -> Outcome<(f64, f64)> {
    let shape = Shape { connections: 8, pipeline: 64 };
    thread::sleep(SETTLE);
    let empty = proc::resident_bytes(server.pid())?;
    let template = Command::Set.template(value_len);
    let mut load = Load::connect(server.port, shape, &template, Keys::ascending())?;
    load.run(Until::Requests(bench.options.keys))?;
    drop(load);
    thread::sleep(SETTLE);
    let full = proc::resident_bytes(server.pid())?;
    let count = server.client()?.count_keys()?;
    if count != bench.options.keys {
        return Err(format!("{count} keys instead of {}", bench.options.keys).into());
    }
    Ok((empty as f64, full as f64))
}

//! Resident memory per idle connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::options::Options;
use crate::proc;
use crate::server::{Launch, Product, Server};
use crate::stats::median;
use crate::table::{Table, figure};
use crate::{Bench, Outcome};

/// Time for a server to accept the last ones and to give back what it can.
const SETTLE: Duration = Duration::from_secs(2);

/// Files a process needs besides its connections.
const SPARE_FILES: usize = 200;

pub fn report(bench: &Bench) -> Outcome<()> {
    let count = Options::only("connections", &bench.options.connections)?;
    let files = proc::raise_open_files()?;
    if files < (count + SPARE_FILES) as u64 {
        return Err(format!("{files} open files are allowed: too few for {count}").into());
    }
    bench.print_head("Memory per idle connection");
    println!(
        "VmRSS with {count} connections minus VmRSS before, per connection: once only connected, \
         once after each has sent one PING. Median of {} rounds. The kernel's socket memory is not \
         part of VmRSS and is the same for all.\n",
        bench.options.rounds
    );
    let mut table = Table::new(1, &["server", "before MiB", "B, connected", "B, after a PING"]);
    let mut products: Vec<(&Product, usize)> = vec![(&bench.field.ours, bench.options.shards)];
    products.extend(bench.field.peers.iter().map(|peer| (peer, 1)));
    for (product, threads) in products {
        let mut before = Vec::new();
        let mut connected = Vec::new();
        let mut pinged = Vec::new();
        for _ in 0..bench.options.rounds {
            let server = product.start(&Launch {
                cores: bench.cores.all.clone(),
                threads,
                max_clients: Some(count + SPARE_FILES / 2),
            })?;
            let resident = connect_all(&server, count)
                .map_err(|error| format!("{}: {error}", product.label))?;
            let per_connection = |after: f64| (after - resident[0]) / count as f64;
            before.push(resident[0] / 1048576.0);
            connected.push(per_connection(resident[1]));
            pinged.push(per_connection(resident[2]));
        }
        eprintln!("{}: {:.0} B", product.label, median(&pinged));
        table.row(vec![
            product.label.clone(),
            figure(median(&before)),
            format!("{:.0}", median(&connected)),
            format!("{:.0}", median(&pinged)),
        ]);
    }
    table.print();
    Ok(())
}

/// Bytes resident before, with all connected, and with all having sent a PING.
fn connect_all(server: &Server, count: usize) -> Outcome<[f64; 3]> {
    let resident = || -> Outcome<f64> {
        thread::sleep(SETTLE);
        Ok(proc::resident_bytes(server.pid())? as f64)
    };
    let before = resident()?;
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        streams.push(TcpStream::connect((Ipv4Addr::LOCALHOST, server.port))?);
    }
    let connected = resident()?;
    for stream in &mut streams {
        let mut reply = [0; 7];
        stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
        stream.read_exact(&mut reply)?;
        if reply != *b"+PONG\r\n" {
            let reply = String::from_utf8_lossy(&reply).into_owned();
            return Err(format!("answered PING with {reply:?}").into());
        }
    }
    let pinged = resident()?;
    Ok([before, connected, pinged])
}

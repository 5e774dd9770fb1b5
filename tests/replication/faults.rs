//! Links that are cut wherever it hurts, and servers that die: what follows is equal in the end, and nothing
//! is lost that a replica has acknowledged.

use crate::cluster::{Kind, Node, assert_equal, field, peers};
use crate::proxy::Proxy;
use crate::support::{Client, PATIENCE, Value, wait_until};
use crate::{Over, seed};
use redshard::base::hash::Random;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Rounds of a series; `REDSHARD_ROUNDS` says otherwise.
fn rounds(usual: usize) -> usize {
    std::env::var("REDSHARD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// Writes numbers, some of them in pairs that belong together, until it is told to stop. Returns how many.
fn write_until(port: u16, name: &str, is_over: &AtomicBool) -> u64 {
    let mut client = Client::connect(port);
    let mut n = 0;
    while !is_over.load(Ordering::Relaxed) {
        n += 1;
        let (one, two, number) =
            (format!("{name}:{}", n % 200), format!("{name}:pair"), n.to_string());
        let words: &[&str] = match n % 5 {
            0 => &["MSET", &one, &number, &two, &number],
            1 => &["SET", &one, &number, "PX", "600000"],
            2 => &["INCR", "counter"],
            _ => &["SET", &one, &number],
        };
        client.cmd(words);
    }
    n
}

/// The wire is cut in the middle of whatever it is, again and again, while clients write.
fn survives_cuts(primary: &Kind, replica: &Kind, seed: u64, rounds: usize) {
    eprintln!("--- cuts between {primary} and {replica}, its replica");
    let primary = Node::start(primary, &["--repl-backlog-size", "20mb"]);
    let replica = Node::start(replica, &["--repl-timeout", "5"]);
    let proxy = Proxy::to(primary.port());
    let mut random = Random::new(seed);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = Over(&is_over);
        for writer in 0..2 {
            let (is_over, port) = (&is_over, primary.port());
            scope.spawn(move || write_until(port, &format!("w{writer}"), is_over));
        }
        let follow = format!("REPLICAOF 127.0.0.1 {}", proxy.port());
        replica.client().check(&follow, Value::Simple("OK".into()));
        replica.wait_for_link();
        for _ in 0..rounds {
            match random.below(4) {
                0 => proxy.cut(),
                1 => proxy.cut_after(random.below(2_000)),
                2 => proxy.cut_after(random.below(200_000)),
                _ => {
                    proxy.trickle(1 + random.below(200), Duration::from_micros(300));
                    std::thread::sleep(Duration::from_millis(random.below(60)));
                    proxy.trickle(0, Duration::ZERO);
                    proxy.cut();
                }
            }
            std::thread::sleep(Duration::from_millis(random.below(80)));
        }
        proxy.cut();
        drop(over);
    });
    replica.wait_for_link();
    assert_equal(&primary, &replica);
    // The backlog covers all of it: nothing but the first sync was a full one.
    let full = primary.info("stats", "sync_full");
    let partial: u64 = primary.info("stats", "sync_partial_ok").parse().expect("a number");
    assert_eq!(full, "1", "partial ones: {partial}\n{}", primary.log());
    assert!(partial > 0);
}

#[test]
fn a_cut_wire_costs_a_partial_sync() {
    let seed = seed();
    let rounds = rounds(12);
    for (primary, replica) in [(1, 2), (4, 1), (2, 4)] {
        survives_cuts(&Kind::Redshard(primary), &Kind::Redshard(replica), seed, rounds);
    }
    for peer in peers() {
        survives_cuts(&peer, &Kind::Redshard(2), seed, rounds);
        survives_cuts(&Kind::Redshard(2), &peer, seed, rounds);
    }
}

/// A full sync that is cut begins anew, and nothing half loaded is ever served.
#[test]
fn a_full_sync_that_is_cut_begins_anew() {
    let seed = seed();
    let ways =
        [("disabled", 1, 1), ("disabled", 4, 2), ("swapdb", 2, 2), ("flush-before-load", 1, 4)];
    for (way, shards, follower) in ways {
        eprintln!("--- repl-diskless-load {way}");
        let mut random = Random::new(seed);
        let primary = Node::start(&Kind::Redshard(shards), &[]);
        let replica = Node::start(&Kind::Redshard(follower), &["--repl-diskless-load", way]);
        let old = Value::Int(1);
        primary.client().cmd(&["DEBUG", "POPULATE", "50000", "key", "100"]);
        replica.client().cmd(&["SET", "old", "data"]);
        let proxy = Proxy::to(primary.port());
        let follow = format!("REPLICAOF 127.0.0.1 {}", proxy.port());
        replica.client().check(&follow, Value::Simple("OK".into()));
        let mut served = Vec::new();
        for _ in 0..5 {
            proxy.cut_after(100 + random.below(5_000_000));
            let until = Instant::now() + Duration::from_millis(100 + random.below(300));
            while Instant::now() < until {
                served.push(replica.client().run("DBSIZE"));
            }
        }
        for size in &served {
            let is_loading = size.is_error() && way != "swapdb";
            let is_empty = *size == Value::Int(0) && way == "flush-before-load";
            let is_whole = *size == old || *size == Value::Int(50_000);
            assert!(is_whole || is_empty || is_loading, "half loaded: {size:?}");
        }
        proxy.cut_after(u64::MAX);
        proxy.cut();
        // The link may seem up for a moment though it has been cut.
        wait_until("it has everything", || {
            replica.client().run("DBSIZE") == Value::Int(50_000)
                && replica.info("replication", "master_link_status") == "up"
        });
        assert_equal(&primary, &replica);
    }
}

/// What WAIT has said to be on a replica is there when that takes over from a primary that died.
#[test]
fn what_was_acknowledged_survives_the_primary() {
    let seed = seed();
    for round in 0..rounds(6) {
        let mut random = Random::new(seed + round as u64);
        let shards = [1, 2, 4][round % 3];
        let primary = Node::start(&Kind::Redshard(shards), &[]);
        let replica = Node::start(&Kind::Redshard([2, 4, 1][round % 3]), &[]);
        replica.follow(&primary);
        let acknowledged: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for (writer, acknowledged) in acknowledged.iter().enumerate() {
                let port = primary.port();
                scope.spawn(move || {
                    let Ok(mut client) = Client::try_connect(port) else { return };
                    for n in 1.. {
                        let (a, b, number) =
                            (format!("{writer}:a"), format!("{writer}:b"), u64::to_string(&n));
                        let written = client.try_cmd(&["MSET", &a, &number, &b, &number]);
                        let waited = written.and_then(|_| client.try_cmd(&["WAIT", "1", "5000"]));
                        match waited {
                            Ok(Value::Int(1)) => acknowledged.store(n, Ordering::SeqCst),
                            Ok(_) => {}
                            Err(_) => return,
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(200 + random.below(300)));
            primary.kill();
        });
        let mut client = replica.client();
        client.check("REPLICAOF NO ONE", Value::Simple("OK".into()));
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let acknowledged = acknowledged.load(Ordering::SeqCst);
            assert!(acknowledged > 0, "WAIT never said so");
            let values: Vec<u64> = ["a", "b"]
                .iter()
                .map(|half| client.cmd(&["GET", &format!("{writer}:{half}")]).text())
                .map(|value| value.parse().expect("a number"))
                .collect();
            assert_eq!(values[0], values[1], "half of an MSET");
            assert!(values[0] >= acknowledged, "{} of {acknowledged} are there", values[0]);
        }
    }
}

/// A primary that is started again with its file lets its replicas go on where they are.
#[test]
fn a_primary_that_is_started_again_syncs_partially() {
    for (shards, follower) in [(1, 2), (2, 1), (4, 4)] {
        let mut primary = Node::start(&Kind::Redshard(shards), &["--save", "3600 1"]);
        let replica = Node::start(&Kind::Redshard(follower), &[]);
        replica.follow(&primary);
        let mut client = primary.client();
        for n in 0..500 {
            client.cmd(&["SET", &format!("k{}", n % 50), &n.to_string()]);
        }
        primary.restart();
        replica.wait_for_link();
        primary.client().cmd(&["SET", "after", "1"]);
        assert_equal(&primary, &replica);
        assert_eq!(primary.info("stats", "sync_full"), "0", "{}", replica.log());
        assert_eq!(primary.info("stats", "sync_partial_ok"), "1");
    }
}

/// A replica that takes over keeps its history: the others go on with it where they are.
#[test]
fn whoever_takes_over_keeps_the_history() {
    for (first, second, third) in [(1, 2, 1), (2, 1, 4)] {
        let primary = Node::start(&Kind::Redshard(first), &[]);
        let heir = Node::start(&Kind::Redshard(second), &[]);
        let other = Node::start(&Kind::Redshard(third), &[]);
        heir.follow(&primary);
        other.follow(&primary);
        let mut client = primary.client();
        for n in 0..300 {
            client.cmd(&["SET", &format!("k{n}"), "1"]);
        }
        assert_equal(&primary, &heir);
        assert_equal(&primary, &other);
        heir.client().check("REPLICAOF NO ONE", Value::Simple("OK".into()));
        heir.client().cmd(&["SET", "new", "1"]);
        other.follow(&heir);
        primary.follow(&heir);
        assert_equal(&heir, &other);
        assert_equal(&heir, &primary);
        assert_eq!(heir.info("stats", "sync_full"), "0", "{}\n{}", heir.log(), other.log());
        let mut ids =
            [&primary, &heir, &other].map(|node| node.info("replication", "master_replid"));
        ids.sort();
        assert_eq!(ids[0], ids[2]);
    }
}

/// A replica that does not read makes nobody wait, and goes when it is too far behind.
#[test]
fn a_replica_that_does_not_read_is_let_go() {
    let limits =
        ["--client-output-buffer-limit", "replica 4mb 2mb 1", "--repl-backlog-size", "1mb"];
    for shards in [1, 2] {
        let primary = Node::start(&Kind::Redshard(shards), &limits);
        let mut deaf = primary.client();
        deaf.send("PSYNC ? -1");
        let mut client = primary.client();
        wait_until("it is seen", || field(&mut client, "replication", "connected_slaves") == "1");
        let value = "v".repeat(10_000);
        let began = Instant::now();
        while field(&mut client, "replication", "connected_slaves") == "1" {
            for n in 0..100 {
                client.cmd(&["SET", &format!("k{n}"), &value]);
            }
            assert!(began.elapsed() < PATIENCE, "it stays");
        }
    }
}

//! What a reader sees on a replica: no effect before its cause, and nothing half done.

use crate::Over;
use crate::cluster::{Kind, Node, wait_for_offset};
use crate::support::{Client, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Keys that one shard after the other owns, as a layout of four has them.
const CHAIN: [&str; 6] = ["chain:0", "chain:1", "chain:2", "chain:3", "chain:4", "chain:5"];
const TOGETHER: [&str; 5] = ["all:0", "all:1", "all:2", "all:3", "all:4"];

fn numbers(reply: &Value) -> Vec<u64> {
    let Value::Array(values) = reply else { panic!("no array: {reply:?}") };
    values
        .iter()
        .map(|value| match value {
            Value::Bulk(bytes) => String::from_utf8_lossy(bytes).parse().expect("a number"),
            _ => 0,
        })
        .collect()
}

/// One key after the other gets the next number, each when the one before is known to have it; and some get
/// theirs all at once.
fn write(port: u16, is_over: &AtomicBool) {
    let mut client = Client::connect(port);
    for n in 1.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let number = u64::to_string(&n);
        for key in CHAIN {
            client.cmd(&["SET", key, &number]);
        }
        let pairs = TOGETHER.iter().flat_map(|key| [*key, &number]);
        let words: Vec<&str> = std::iter::once("MSET").chain(pairs).collect();
        client.cmd(&words);
        client.cmd(&["MULTI"]);
        for key in ["tx:0", "tx:1", "tx:2"] {
            client.cmd(&["INCR", key]);
        }
        client.cmd(&["EXEC"]);
    }
}

/// Along the chain numbers never grow, and fall by one at most.
fn check_chain(chain: &[u64]) {
    assert!(chain.is_sorted_by(|a, b| a >= b), "a later write without an earlier one: {chain:?}");
    assert!(chain[0] - chain[chain.len() - 1] <= 1, "{chain:?}");
}

fn read(port: u16, until: Instant) -> u64 {
    let (mut client, mut rounds) = (Client::connect(port), 0);
    let mget = |keys: &[&'static str]| -> Vec<&'static str> {
        std::iter::once("MGET").chain(keys.iter().copied()).collect()
    };
    while Instant::now() < until {
        rounds += 1;
        check_chain(&numbers(&client.cmd(&mget(&CHAIN))));
        let all = numbers(&client.cmd(&mget(&TOGETHER)));
        assert!(all.iter().all(|n| *n == all[0]), "half of an MSET: {all:?}");
        let all = numbers(&client.cmd(&mget(&["tx:0", "tx:1", "tx:2"])));
        assert!(all.iter().all(|n| *n == all[0]), "half of a transaction: {all:?}");
        // Who waits for each reply: the last of the chain first.
        let mut last = 0;
        for key in CHAIN.iter().rev() {
            let number = match client.cmd(&["GET", key]) {
                Value::Bulk(bytes) => String::from_utf8_lossy(&bytes).parse().expect("a number"),
                _ => 0,
            };
            assert!(number >= last, "{key} has {number} after a later one had {last}");
            last = number;
        }
        client.cmd(&["MULTI"]);
        for key in CHAIN {
            client.cmd(&["GET", key]);
        }
        check_chain(&numbers(&client.cmd(&["EXEC"])));
    }
    rounds
}

#[test]
fn a_reader_of_a_replica_sees_no_effect_before_its_cause() {
    for (shards, follower) in [(1, 4), (4, 4), (4, 2)] {
        let primary = Node::start(&Kind::Redshard(shards), &[]);
        let replica = Node::start(&Kind::Redshard(follower), &[]);
        replica.follow(&primary);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let over = Over(&is_over);
            scope.spawn(|| write(primary.port(), &is_over));
            let port = replica.port();
            let until = Instant::now() + Duration::from_secs(3);
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(move || read(port, until))).collect();
            let rounds: u64 =
                readers.into_iter().map(|reader| reader.join().expect("a reader")).sum();
            drop(over);
            assert!(rounds > 10, "{rounds} rounds");
        });
        wait_for_offset(&primary, &replica);
    }
}

//! Everybody follows everybody, through all that a stream can say.

use crate::cluster::{Kind, Node, assert_equal, peers};
use crate::support::client::encode;
use crate::support::{Client, Value};
use crate::{Over, seed};
use redshard::base::hash::Random;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keys that a command may fall on: few, so that they meet.
const KEYS: u64 = 300;

fn key(random: &mut Random) -> String {
    format!("key:{}", random.below(KEYS))
}

/// Some write, now and then one of several commands.
fn write(client: &mut Client, random: &mut Random) {
    let (a, b, c) = (key(random), key(random), key(random));
    let number = random.below(1_000_000).to_string();
    let long = "x".repeat(random.below(3_000) as usize);
    let transaction = |client: &mut Client, lines: &[&[&str]]| {
        client.cmd(&["MULTI"]);
        lines.iter().for_each(|line| _ = client.cmd(line));
        _ = client.cmd(&["EXEC"]);
    };
    let words: &[&str] = match random.below(34) {
        0..8 => &["SET", &a, &number],
        8 => &["SET", &a, &long],
        9 => &["SET", &a, &number, "EX", "1000"],
        10 => &["SET", &a, &number, "PX", "30"],
        11 => &["SET", &a, &number, "KEEPTTL"],
        12 => &["INCR", &a],
        13 => &["INCRBYFLOAT", &a, "1.25"],
        14 => &["APPEND", &a, "tail"],
        15 => &["SETRANGE", &a, "5", "middle"],
        16 => &["MSET", &a, "1", &b, &number, &c, "3"],
        17 => &["MSETNX", &a, "1", &b, "2"],
        18 => &["DEL", &a, &b],
        19 => &["UNLINK", &a, &c],
        20 => &["EXPIRE", &a, "500"],
        21 => &["PEXPIRE", &a, "20"],
        22 => &["PERSIST", &a],
        23 => &["GETEX", &a, "EX", "700"],
        24 => &["GETDEL", &a],
        25 => &["RENAME", &a, &b],
        26 => &["COPY", &a, &b, "REPLACE"],
        27 => &["MOVE", &a, "1"],
        28 => &["SELECT", if random.below(2) == 0 { "0" } else { "1" }],
        29 => &["SWAPDB", "0", "1"],
        30 => {
            let lines: [&[&str]; 4] =
                [&["SET", &a, &number], &["INCR", &b], &["RENAME", &a, &c], &["DEL", &b]];
            return transaction(client, &lines);
        }
        31 => {
            let lines: [&[&str]; 3] =
                [&["MSET", &a, "x", &b, "y"], &["SELECT", "2"], &["SET", &c, "z"]];
            return transaction(client, &lines);
        }
        32 if random.below(30) == 0 => &["FLUSHALL"],
        33 if random.below(10) == 0 => &["FLUSHDB"],
        _ => &["GET", &a],
    };
    client.cmd(words);
}

/// One follows the other from the middle of a load on, with many writes during the sync.
fn follows(replica: &Kind, primary: &Kind, seed: u64) {
    eprintln!("--- {replica} follows {primary}");
    let (primary, replica) = (Node::start(primary, &[]), Node::start(replica, &[]));
    let (mut random, mut client) = (Random::new(seed), primary.client());
    for _ in 0..500 {
        write(&mut client, &mut random);
    }
    // Something to be sent, while clients go on.
    for i in 0..200 {
        let mut pipeline = Vec::new();
        for j in 0..100 {
            let key = format!("bulk:{i}:{j}");
            pipeline.extend_from_slice(&encode(&[b"SET", key.as_bytes(), &[b'v'; 200]]));
        }
        client.send_raw(&pipeline);
        (0..100).for_each(|_| client.expect(Value::Simple("OK".into())));
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = Over(&is_over);
        for writer in 0..3 {
            let (is_over, primary) = (&is_over, &primary);
            scope.spawn(move || {
                let (mut random, mut client) = (Random::new(seed + 1 + writer), primary.client());
                for n in 0.. {
                    write(&mut client, &mut random);
                    if n > 700 && is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        replica.follow(&primary);
        drop(over);
    });
    assert_equal(&primary, &replica);
    // A stream alone, without a snapshot before it.
    for _ in 0..700 {
        write(&mut client, &mut random);
    }
    assert_equal(&primary, &replica);
    let sub = Node::start(&Kind::Redshard(2), &[]);
    sub.follow(&replica);
    for _ in 0..300 {
        write(&mut client, &mut random);
    }
    assert_equal(&primary, &replica);
    assert_equal(&primary, &sub);
}

#[test]
fn ours_follow_peers() {
    let seed = seed();
    for peer in peers() {
        for shards in [1, 2, 4] {
            follows(&Kind::Redshard(shards), &peer, seed);
        }
    }
}

#[test]
fn peers_follow_ours() {
    let seed = seed();
    for peer in peers() {
        for shards in [1, 2, 4] {
            follows(&peer, &Kind::Redshard(shards), seed);
        }
    }
}

#[test]
fn ours_follow_ours() {
    let seed = seed();
    for (primary, replica) in [(1, 1), (1, 4), (4, 1), (2, 2), (4, 2)] {
        follows(&Kind::Redshard(replica), &Kind::Redshard(primary), seed);
    }
}

//! How a server stops that has everything under way: writes over several shards, lone replies that leave from other
//! shards, replies larger than a socket's buffer.
//!
//! What must not happen is looked for where it would: the server is a debug build, which asserts at its end that no
//! command over several shards has run in part, that nothing is under way any more, and that nobody has used a
//! descriptor that was closed. It would not end with status 0. `REDSHARD_STOP_ROUNDS=500` asks for more rounds.

mod support;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use redshard::base::hash::Random;
use support::client::encode;
use support::*;

const SIGTERM: i32 = 15;
const ROUNDS: u64 = 8;

fn rounds() -> u64 {
    std::env::var("REDSHARD_STOP_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS)
}

/// Asks again and again until the server has gone. An answer is the right one or none, and never half of one.
fn ask_on(port: u16, words: &[&str], right: &Value, answered: &AtomicUsize, stop: &AtomicBool) {
    let Ok(mut c) = Client::try_connect(port) else { return };
    while !stop.load(Ordering::Relaxed) {
        match c.try_cmd(words) {
            Ok(reply) => assert!(reply == *right, "{words:?}: {reply:?}"),
            Err(error) if error.kind() == ErrorKind::InvalidData => panic!("half a reply: {error}"),
            Err(_) => return,
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends pipelines of writes over shards and reads what comes.
fn pour(port: u16, pipeline: &[u8], answered: &AtomicUsize) {
    let Ok(mut c) = Client::try_connect(port) else { return };
    loop {
        c.send_raw_lossy(pipeline);
        for _ in 0..32 {
            match c.try_read_reply() {
                Ok(reply) => assert_eq!(reply, ok()),
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    panic!("half a reply: {error}")
                }
                Err(_) => return,
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn everything_under_way_comes_to_its_end() {
    if reference().is_some() {
        return; // It has no shards to stop together.
    }
    let long = vec![b'x'; 3 << 20];
    for round in 0..rounds() {
        let mut random = Random::new(round + 1);
        let shards = 1 + random.below(4) as usize;
        let mut server = Server::start(shards);
        let port = server.port();
        let mut c = server.client();
        assert_eq!(c.cmd_bytes(&[b"SET", b"long", &long]), ok());
        assert_eq!(c.cmd_bytes(&[b"SET", b"longer", &long]), ok());
        for key in 0..8 {
            c.check(&format!("SET lone:{key} v"), ok());
        }
        let keys = 2 + random.below(30);
        let pairs = (0..keys).flat_map(|key| [format!("key:{key}"), format!("{round}")]);
        let mset: Vec<String> = std::iter::once("MSET".to_owned()).chain(pairs).collect();
        let bytes: Vec<&[u8]> = mset.iter().map(|word| word.as_bytes()).collect();
        let pipeline = encode(&bytes).repeat(32);
        // One that never reads, in some rounds: nobody waits for it longer than a while.
        let deaf = (random.below(4) == 0).then(|| {
            let mut deaf = server.client();
            (0..4).for_each(|_| deaf.send("MGET long longer"));
            deaf
        });
        let (answered, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let pause = Duration::from_micros(random.below(20_000));
        let text = String::from_utf8(long.clone()).expect("letters");
        let right = bulks(&[&text, &text]);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| pour(port, &pipeline, &answered));
            }
            for key in 0..8 {
                let (answered, stop) = (&answered, &stop);
                let words = ["GET".to_owned(), format!("lone:{key}")];
                scope.spawn(move || {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    ask_on(port, &words, &bulk("v"), answered, stop);
                });
            }
            let (answered, stop, right) = (&answered, &stop, &right);
            scope.spawn(move || ask_on(port, &["MGET", "long", "longer"], right, answered, stop));
            wait_until("everybody is under way", || answered.load(Ordering::Relaxed) > 300);
            std::thread::sleep(pause);
            server.signal(SIGTERM);
            let status = server.wait_exit();
            stop.store(true, Ordering::Relaxed);
            let log = server.log();
            assert_eq!(status.code(), Some(0), "round {round}, {shards} shards: {status}\n{log}");
            for word in ["panicked", "gives up"] {
                assert!(!log.contains(word), "round {round}, {shards} shards: {log}");
            }
        });
        drop(deaf);
    }
}

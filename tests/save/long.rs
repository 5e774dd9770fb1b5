//! Much of something: a value that is long, databases that are many.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redshard::base::hash::Random;

use crate::support::rdb::*;
use crate::support::*;
use crate::{each_place, number, start_in};

/// Asks again and again; returns how long the longest answer took, and how many there were.
fn ping(server: &Server, is_over: &AtomicBool) -> (Duration, usize) {
    let (mut c, mut worst, mut asked) = (server.client(), Duration::ZERO, 0);
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        c.check("PING", simple("PONG"));
        (worst, asked) = (worst.max(began.elapsed()), asked + 1);
    }
    (worst, asked)
}

/// A long string is saved as it was, whatever is written to it meanwhile, in many slices.
#[test]
fn a_long_value_that_grows_while_it_is_saved() {
    if reference().is_some() {
        return;
    }
    let len = number("REDSHARD_LONG_MIB").unwrap_or(16) as usize * (1 << 20);
    let mut random = Random::new(1);
    // A half of it can be compressed.
    let mut value = String::with_capacity(len);
    while value.len() < len {
        match value.len() < len / 2 {
            true => value.push_str("0123456789abcdef"),
            false => value.push_str(&format!("{:016x}", random.next_u64())),
        }
    }
    for compression in ["no", "yes"] {
        for shards in [1, 2] {
            let place = TempDir::new();
            let args = ["--save", "", "--rdbcompression", compression];
            let server = start_in(place.path(), shards, &args);
            let mut c = server.client();
            assert_eq!(c.cmd_bytes(&[b"SET", b"long", value.as_bytes()]), ok());
            let is_over = AtomicBool::new(false);
            let (worst, asked) = std::thread::scope(|scope| {
                let pings = scope.spawn(|| ping(&server, &is_over));
                c.check("BGSAVE", simple("Background saving started"));
                let mut appended = 0;
                while is_saving(&mut c) {
                    appended += 1;
                    c.check("APPEND long x", int((value.len() + appended) as i64));
                }
                is_over.store(true, Ordering::Relaxed);
                pings.join().expect("every PING was answered")
            });
            assert_eq!(persistence(&mut c, "rdb_last_bgsave_status"), "ok");
            let took = persistence(&mut c, "rdb_last_bgsave_time_sec");
            println!(
                "{} MiB, {shards} shard(s), compression {compression}: saved in {took} s, the worst \
                 of {asked} PINGs took {worst:?}",
                len >> 20
            );
            let databases = content(&place.path().join(DUMP));
            assert!(databases[&0]["long"].0 == value, "not what there was");
            drop(c);
            drop(server);
            let server = start_in(place.path(), 3 - shards, &["--save", ""]);
            let mut c = server.client();
            c.wait_for("STRLEN long", int(value.len() as i64));
        }
    }
}

#[test]
fn as_many_databases_as_there_can_be() {
    if reference().is_some() {
        return;
    }
    const DATABASES: usize = 16_384;
    const PIECE: usize = 256;
    each_place(|dir, shards| {
        let args = ["--save", "", "--databases", "16384"];
        let mut server = start_in(dir, shards, &args);
        let mut c = server.client();
        for first in (0..DATABASES).step_by(PIECE) {
            let piece = (first..first + PIECE)
                .map(|db| format!("SELECT {db}\r\nSET key:{db} {db} EX 10000\r\nSET k v\r\n"));
            c.send_raw(piece.collect::<String>().as_bytes());
            (0..PIECE * 3).for_each(|_| c.expect(ok()));
        }
        c.check("SAVE", ok());
        let databases = content(&dir.join(DUMP));
        assert_eq!(databases.len(), DATABASES);
        assert_eq!(databases[&9_999]["key:9999"].0, "9999");
        c.send("SHUTDOWN");
        server.wait_exit();
        let server = start_in(dir, 5 - shards, &args);
        let mut c = server.client();
        wait_until("it has loaded", || persistence(&mut c, "loading") == "0");
        for db in (0..DATABASES).step_by(1_111) {
            c.check(&format!("SELECT {db}"), ok());
            c.check("DBSIZE", int(2));
            c.check(&format!("GET key:{db}"), bulk(db.to_string()));
            c.check_ttl(&format!("key:{db}"), 10_000);
        }
    });
}

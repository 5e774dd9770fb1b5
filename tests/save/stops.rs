//! The end of the server: what is saved before it, what it does to saves and loads that are under way, and what
//! happens if the last save fails.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use redshard::base::hash::Random;

use crate::history::{unix_ms, writers};
use crate::support::client::encode;
use crate::support::rdb::*;
use crate::support::*;
use crate::{HELD, each_place, rounds, seed, start_in};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

fn fill(c: &mut Client, keys: usize) {
    let pairs = (0..keys).flat_map(|key| [format!("key:{key}"), format!("value:{key}")]);
    let mset: Vec<String> = std::iter::once("MSET".to_owned()).chain(pairs).collect();
    let words: Vec<&str> = mset.iter().map(String::as_str).collect();
    assert_eq!(c.cmd(&words), ok());
}

/// The server has come to an end that is in order.
#[track_caller]
fn expect_end(server: &mut Server) {
    let status = server.wait_exit();
    let log = server.log();
    assert_eq!(status.code(), Some(0), "{status}\n{log}");
    for word in ["panicked", "gives up"] {
        assert!(!log.contains(word), "{log}");
    }
}

#[test]
fn what_is_saved_before_the_end() {
    let (points, none) = (["--save", "3600 1"], ["--save", ""]);
    let on_signal = |how| ["--shutdown-on-sigterm", how];
    each_place(|place, shards| {
        for (at, (args, how, is_saved)) in [
            (points.to_vec(), "TERM", true),
            (points.to_vec(), "INT", true),
            (none.to_vec(), "TERM", false),
            (points.to_vec(), "SHUTDOWN", true),
            (none.to_vec(), "SHUTDOWN", false),
            (none.to_vec(), "SHUTDOWN SAVE", true),
            (none.to_vec(), "SHUTDOWN NOW SAVE", true),
            (points.to_vec(), "SHUTDOWN NOSAVE", false),
            ([&points[..], &on_signal("nosave")].concat(), "TERM", false),
            ([&none[..], &on_signal("save")].concat(), "TERM", true),
            ([&none[..], &on_signal("save now force")].concat(), "TERM", true),
        ]
        .into_iter()
        .enumerate()
        {
            let dir = place.join(at.to_string());
            fs::create_dir(&dir).expect("a directory");
            let mut server = start_in(&dir, shards, &args);
            let mut c = server.client();
            fill(&mut c, 20);
            c.check("SHUTDOWN ABORT", error("ERR No shutdown in progress."));
            c.check("SHUTDOWN SAVE NOSAVE", syntax_error());
            match how {
                "TERM" => server.signal(SIGTERM),
                "INT" => server.signal(SIGINT),
                line => c.send(line),
            }
            assert_eq!(server.wait_exit().code(), Some(0), "{args:?} {how}");
            let expected: &[&str] = if is_saved { &[DUMP] } else { &[] };
            assert_eq!(files(&dir), expected, "{args:?} {how}");
            if is_saved {
                assert_eq!(content(&dir.join(DUMP))[&0].len(), 20);
            }
        }
    });
}

#[test]
fn the_last_save_has_every_acknowledged_write() {
    if reference().is_some() {
        return;
    }
    let mut random = Random::new(seed());
    for round in 0..rounds(4) {
        let place = TempDir::new();
        let shards = shard_counts()[round as usize % 3];
        let mut server = start_in(place.path(), shards, &["--save", "3600 1"]);
        let (writers, is_over) = (writers(4, &Databases::new()), AtomicBool::new(false));
        let port = server.port();
        std::thread::scope(|scope| {
            for writer in &writers {
                let is_over = &is_over;
                scope.spawn(move || writer.write(port, seed() + round, is_over));
            }
            wait_until("they write", || writers.iter().all(|writer| writer.reached().sent > 40));
            std::thread::sleep(Duration::from_micros(random.below(200_000)));
            server.signal(SIGTERM);
            expect_end(&mut server);
        });
        let file = content(&place.path().join(DUMP));
        for reached in writers.iter().map(|writer| (writer, writer.reached())) {
            let (writer, reached) = reached;
            let cut = writer.cut_of(&file, (reached, reached), unix_ms());
            cut.map(drop).unwrap_or_else(|why| panic!("round {round}: {why}"));
        }
    }
}

/// A file with so many keys, of which the next server of this directory knows.
fn prepare(dir: &Path, keys: usize) -> Vec<u8> {
    let mut server = start_in(dir, 2, &["--save", ""]);
    let mut c = server.client();
    fill(&mut c, keys);
    c.check("SAVE", ok());
    c.send("SHUTDOWN");
    expect_end(&mut server);
    fs::read(dir.join(DUMP)).expect("the file")
}

#[test]
fn while_a_save_is_under_way() {
    if reference().is_some() {
        return;
    }
    each_place(|dir, shards| {
        let old = prepare(dir, 3);
        for line in ["BGSAVE", "SAVE"] {
            // Nothing is to be saved: what is under way is given up.
            let args = ["--save", "", "--rdb-key-save-delay", HELD];
            let mut server = start_in(dir, shards, &args);
            let mut c = server.client();
            c.wait_for("DBSIZE", int(3));
            fill(&mut c, 500);
            let mut other = server.client();
            other.send(line);
            wait_until("it is saved", || is_saving(&mut c));
            server.signal(SIGTERM);
            expect_end(&mut server);
            assert_eq!(files(dir), [DUMP]);
            assert_eq!(fs::read(dir.join(DUMP)).expect("the file"), old);
            match line {
                "SAVE" => other.expect(error("ERR The save has been cancelled")),
                _ => other.expect(simple("Background saving started")),
            }
            other.expect_closed();
        }
        for line in ["BGSAVE", "SAVE"] {
            // What is there at the end is saved instead, from its beginning.
            let args = ["--save", "3600 1", "--rdb-key-save-delay", "2000"];
            let mut server = start_in(dir, shards, &args);
            let mut c = server.client();
            wait_until("it has loaded", || persistence(&mut c, "loading") == "0");
            fill(&mut c, 200);
            server.client().send(line);
            wait_until("it is saved", || is_saving(&mut c));
            c.check(&format!("SET {line} later"), ok());
            server.signal(SIGTERM);
            expect_end(&mut server);
            assert_eq!(files(dir), [DUMP]);
            assert_eq!(content(&dir.join(DUMP))[&0][line].0, "later");
        }
    });
}

#[test]
fn while_data_is_being_loaded() {
    if reference().is_some() {
        return;
    }
    each_place(|dir, shards| {
        let old = prepare(dir, 500);
        // At the start. Half of the data is not saved over all of it.
        let args = ["--save", "3600 1", "--key-load-delay", "10000"];
        let args = [&args[..], &["--enable-debug-command", "yes"]].concat();
        let mut server = start_in(dir, shards, &args);
        let mut c = server.client();
        assert_eq!(persistence(&mut c, "loading"), "1");
        c.check_error_prefix("DEBUG RELOAD", "LOADING");
        c.check_error_prefix("SAVE", "LOADING");
        c.check_error_prefix("BGSAVE", "LOADING");
        server.signal(SIGTERM);
        expect_end(&mut server);
        assert_eq!(files(dir), [DUMP]);
        assert_eq!(fs::read(dir.join(DUMP)).expect("the file"), old);
        // Again, because a client wants that; it has been saved before.
        let args = ["--save", "3600 1", "--enable-debug-command", "yes"];
        let mut server = start_in(dir, shards, &args);
        let mut c = server.client();
        c.wait_for("DBSIZE", int(500));
        c.check("SET later value", ok());
        c.check("CONFIG SET key-load-delay 10000", ok());
        let mut other = server.client();
        other.send("DEBUG RELOAD");
        wait_until("it is loaded", || persistence(&mut c, "loading") == "1");
        server.signal(SIGTERM);
        expect_end(&mut server);
        assert_eq!(files(dir), [DUMP]);
        assert_eq!(content(&dir.join(DUMP))[&0].len(), 501);
        // While it is being saved for that.
        let mut server = start_in(dir, shards, &args);
        let mut c = server.client();
        c.wait_for("DBSIZE", int(501));
        c.check("SET latest value", ok());
        c.check("CONFIG SET rdb-key-save-delay 1000", ok());
        let mut other = server.client();
        other.send("DEBUG RELOAD");
        wait_until("it is saved", || is_saving(&mut c));
        // What is acknowledged now would not be in the file.
        c.check_error_prefix("SET refused value", "LOADING");
        server.signal(SIGTERM);
        expect_end(&mut server);
        assert_eq!(files(dir), [DUMP]);
        assert_eq!(content(&dir.join(DUMP))[&0].len(), 502);
    });
}

/// Sends pipelines of increments of a counter of its own; each reply says one more than the one before.
fn count(port: u16, name: &str, replies: &AtomicUsize, is_over: &AtomicBool) -> i64 {
    const DEPTH: usize = 40;
    let mut c = Client::connect(port);
    let (pipeline, mut last) = (encode(&[b"INCR", name.as_bytes()]).repeat(DEPTH), 0);
    while !is_over.load(Ordering::Relaxed) {
        c.send_raw(&pipeline);
        for _ in 0..DEPTH {
            last += 1;
            c.expect(int(last));
            replies.fetch_add(1, Ordering::Relaxed);
        }
    }
    last
}

/// Who comes while the last save is under way that fails is served when the server goes on.
#[test]
fn newcomers_while_the_end_is_not_certain() {
    if reference().is_some() {
        return;
    }
    each_place(|dir, shards| {
        let args = ["--save", "", "--rdb-key-save-delay", "5000"];
        let mut server = start_in(dir, shards, &args);
        let mut c = server.client();
        fill(&mut c, 100);
        fs::create_dir_all(dir.join(DUMP).join("inside")).expect("a directory");
        c.send("SHUTDOWN SAVE");
        wait_until("it is saved", || server.log().contains("Saving the final"));
        let mut newcomers: Vec<Client> = (0..8).map(|_| Client::connect(server.port())).collect();
        newcomers.iter_mut().for_each(|newcomer| newcomer.send("PING"));
        c.expect(error("ERR Errors trying to SHUTDOWN. Check logs."));
        newcomers.iter_mut().for_each(|newcomer| newcomer.expect(simple("PONG")));
        c.send("SHUTDOWN NOSAVE");
        expect_end(&mut server);
    });
}

#[test]
fn a_last_save_that_fails() {
    if reference().is_some() {
        return;
    }
    each_place(|place, shards| {
        let dir = place.join("data");
        fs::create_dir(&dir).expect("a directory");
        let args = ["--save", "", "--rdb-key-save-delay", "200"];
        let mut server = start_in(&dir, shards, &args);
        let mut c = server.client();
        fill(&mut c, 300);
        let (replies, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let port = server.port();
        let names: Vec<String> = (0..5).map(|number| format!("counter:{number}")).collect();
        std::thread::scope(|scope| {
            let (replies, is_over) = (&replies, &is_over);
            let clients: Vec<_> = (names.iter())
                .map(|name| scope.spawn(move || count(port, name, replies, is_over)))
                .collect();
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for round in 0..rounds(4) {
                    let before = replies.load(Ordering::Relaxed);
                    wait_until("they count", || replies.load(Ordering::Relaxed) > before + 400);
                    // It fails at its beginning, or at its end.
                    match round % 2 {
                        0 => fs::remove_dir_all(&dir).expect("remove it"),
                        _ => {
                            fs::create_dir_all(dir.join(DUMP).join("inside")).expect("a directory")
                        }
                    }
                    // Input that comes with it and after it.
                    let line = ["SHUTDOWN SAVE", "SHUTDOWN SAVE NOW"][round as usize / 2 % 2];
                    c.send_raw(format!("SET a {round}\r\n{line}\r\nGET a\r\n").as_bytes());
                    c.send_raw(b"PING\r\n");
                    c.expect(ok());
                    c.expect(error("ERR Errors trying to SHUTDOWN. Check logs."));
                    c.expect(bulk(round.to_string()));
                    c.expect(simple("PONG"));
                    // Others come, and are served.
                    server.client().check("GET a", bulk(round.to_string()));
                }
            }));
            is_over.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (client, name) in clients.into_iter().zip(&names) {
                let last = client.join().expect("every reply in its place");
                c.check(&format!("GET {name}"), bulk(last.to_string()));
            }
        });
        // A signal that asks for the same.
        fs::remove_dir_all(&dir).expect("remove it");
        c.check("CONFIG SET shutdown-on-sigterm save", ok());
        server.signal(SIGTERM);
        let fails = || server.log().matches("can't exit").count() as u64 > rounds(4);
        wait_until("it has failed", fails);
        c.check("PING", simple("PONG"));
        // And the end, whatever is lost.
        c.send("SHUTDOWN SAVE FORCE");
        expect_end(&mut server);
        assert!(server.log().contains("ends all the same"), "{}", server.log());
        c.expect_closed();
    });
}

//! What saving, loading and the end of the server mean for clients and operators, where the peers' own suite does not
//! check it against this server, or CI would not see it.

mod support;

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;

use support::*;

const SIGKILL: i32 = 9;
const SIGINT: i32 = 2;
/// Microseconds that a key is delayed by in order to hold a save or a load: longer than any test.
const HELD: &str = "100000000";

/// A server that keeps its data in a directory that outlives it.
fn start_in(dir: &Path, shards: usize, args: &[&str]) -> Server {
    let dir = dir.to_str().expect("a UTF-8 path");
    Launch::new(shards).args(&["--dir", dir]).args(args).start()
}

fn info(c: &mut Client, name: &str) -> String {
    let text = c.run("INFO persistence").text();
    let prefix = format!("{name}:");
    let found = text.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn fill(c: &mut Client, keys: usize) {
    for key in 0..keys {
        c.check(&format!("SET key:{key} value:{key}"), ok());
    }
}

// ---- FLUSHALL ------------------------------------------------------------------------------------

#[test]
fn what_was_flushed_does_not_come_back() {
    for &shards in shard_counts() {
        let place = TempDir::new();
        let args = ["--save", "3600 1000000"];
        let mut server = start_in(place.path(), shards, &args);
        let mut c = server.client();
        fill(&mut c, 20);
        c.check("SAVE", ok());
        c.check("FLUSHALL", ok());
        wait_until("it is saved", || info(&mut c, "rdb_changes_since_last_save") == "0");
        // It is no reason to refuse one that somebody asks for.
        c.check("SET after 1", ok());
        c.check("FLUSHALL", ok());
        c.check("SET after 2", ok());
        c.check("SAVE", ok());
        c.check("FLUSHALL", ok());
        c.check("BGSAVE", simple("Background saving started"));
        wait_until("it is over", || info(&mut c, "rdb_bgsave_in_progress") == "0");
        server.signal(SIGKILL);
        server.wait_exit();
        let server = start_in(place.path(), shards, &args);
        server.client().wait_for("DBSIZE", int(0));
    }
}

#[test]
fn a_flush_in_a_transaction_is_saved_too() {
    for &shards in shard_counts() {
        let server = Launch::new(shards).args(&["--save", "3600 1000000"]).start();
        let mut c = server.client();
        fill(&mut c, 20);
        c.check("SAVE", ok());
        c.check("MULTI", ok());
        c.check("FLUSHALL", queued());
        c.check("EXEC", array([ok()]));
        wait_until("it is saved", || info(&mut c, "rdb_changes_since_last_save") == "0");
    }
}

#[test]
fn without_save_points_a_flush_is_not_saved() {
    for &shards in shard_counts() {
        let server = Launch::new(shards).args(&["--save", ""]).start();
        let mut c = server.client();
        fill(&mut c, 20);
        c.check("FLUSHALL", ok());
        assert_eq!(info(&mut c, "rdb_changes_since_last_save"), "40");
        // One that was to follow would have come first.
        c.check("SAVE", ok());
        assert_eq!(info(&mut c, "rdb_saves"), "1");
    }
}

#[test]
fn a_save_that_runs_survives_a_flush_and_another_follows() {
    if reference().is_some() {
        return; // It kills the one that runs.
    }
    for &shards in shard_counts() {
        let server = Launch::new(shards).args(&["--save", "3600 1000000"]).start();
        let mut c = server.client();
        fill(&mut c, 20);
        c.check(&format!("CONFIG SET rdb-key-save-delay {HELD}"), ok());
        c.check("BGSAVE", simple("Background saving started"));
        c.check("FLUSHALL", ok());
        c.check("FLUSHALL", ok());
        c.check("SAVE", error("ERR Background save already in progress"));
        assert_eq!(info(&mut c, "rdb_bgsave_in_progress"), "1");
        c.check("CONFIG SET rdb-key-save-delay 0", ok());
        wait_until("both are over", || info(&mut c, "rdb_changes_since_last_save") == "0");
        // For two flushes there is one.
        assert_eq!(info(&mut c, "rdb_saves"), "2");
    }
}

// ---- the end -------------------------------------------------------------------------------------

#[test]
fn who_has_seen_the_server_leave_is_refused() {
    for &shards in shard_counts() {
        for _ in 0..5 {
            let mut server = Server::start(shards);
            let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
            clients[0].send("SHUTDOWN NOSAVE");
            for c in &mut clients {
                c.expect_closed();
                let again = TcpStream::connect(("127.0.0.1", server.port()));
                assert_eq!(
                    again.map_err(|error| error.kind()).err(),
                    Some(ErrorKind::ConnectionRefused)
                );
            }
            assert!(server.wait_exit().success());
        }
    }
}

#[test]
fn who_insists_leaves_no_half_a_file() {
    if reference().is_some() {
        return; // What it writes has another name until it is whole.
    }
    for &shards in shard_counts() {
        let mut server = Launch::new(shards).args(&["--save", "900 1"]).start();
        let mut c = server.client();
        fill(&mut c, 20);
        c.check(&format!("CONFIG SET rdb-key-save-delay {HELD}"), ok());
        let half = server.dir().join(format!("dump.rdb.{}.tmp", server.pid()));
        server.signal(SIGINT);
        wait_until("the last save has begun", || half.exists());
        server.signal(SIGINT);
        assert_eq!(server.wait_exit().code(), Some(1));
        assert!(!half.exists() && !server.dir().join("dump.rdb").exists());
    }
}

// ---- loading -------------------------------------------------------------------------------------

#[test]
fn a_reload_brings_everything_back() {
    for &shards in shard_counts() {
        let server = Launch::new(shards).args(&["--enable-debug-command", "yes"]).start();
        let mut c = server.client();
        for db in [0, 9, 15] {
            c.check(&format!("SELECT {db}"), ok());
            fill(&mut c, 20);
            c.check("SET number -12345", ok());
            c.check("SET passes 1 EX 1000", ok());
            c.check("SETEX later 100000000 1", ok());
            assert_eq!(c.cmd_bytes(&[b"SET", b"bin\0\r\n\xFF", &[0xFE; 70_000]]), ok());
        }
        let digest = c.run("DEBUG DIGEST");
        c.check("DEBUG RELOAD", ok());
        assert_eq!(c.run("DEBUG DIGEST"), digest);
        c.check_ttl("passes", 1000);
        c.check_ttl("later", 100_000_000);
        c.check("TTL number", int(-1));
        c.check("OBJECT ENCODING number", bulk("int"));
        c.check("SELECT 0", ok());
        c.check("DBSIZE", int(24));
    }
}

#[test]
fn where_files_are_does_not_change_while_one_is_loaded() {
    if reference().is_some() {
        return; // It hears nobody while the load of a key is delayed.
    }
    for &shards in shard_counts() {
        let place = TempDir::new();
        let mut server = start_in(place.path(), shards, &[]);
        let mut c = server.client();
        fill(&mut c, 20);
        c.send("SHUTDOWN SAVE");
        server.wait_exit();
        let args = ["--key-load-delay", HELD, "--enable-protected-configs", "yes"];
        let server = start_in(place.path(), shards, &args);
        let mut c = server.client();
        assert_eq!(info(&mut c, "loading"), "1");
        c.check_error_prefix("CONFIG SET dir /", "LOADING ");
        c.check_error_prefix("CONFIG SET loglevel debug DIR /", "LOADING ");
        c.check("CONFIG GET loglevel", bulks(&["loglevel", "notice"]));
        c.check("CONFIG SET loglevel debug", ok());
        c.check("CONFIG SET key-load-delay 0", ok());
        c.wait_for("DBSIZE", int(20));
        c.check("CONFIG SET dir /", ok());
    }
}

#[test]
fn a_file_that_is_wrong_is_told_in_the_words_that_are_looked_for() {
    let place = TempDir::new();
    let mut server = start_in(place.path(), 2, &[]);
    let mut c = server.client();
    fill(&mut c, 20);
    c.send("SHUTDOWN SAVE");
    server.wait_exit();
    let (path, log) = (place.path().join("dump.rdb"), place.path().join("log"));
    let mut bytes = fs::read(&path).expect("the file that was saved");
    *bytes.last_mut().expect("a checksum") ^= 1;
    fs::write(&path, bytes).expect("write the file");
    let mut child = Launch::new(2).spawn(free_port(), place.path(), &log);
    assert_eq!(wait_exit(&mut child).code(), Some(1));
    let log = fs::read_to_string(log).expect("a log");
    for words in ["Wrong RDB checksum expected: (", "RDB CRC error", "Fatal error loading the DB"] {
        assert!(log.contains(words) || reference().is_some(), "{words}: {log}");
    }
}

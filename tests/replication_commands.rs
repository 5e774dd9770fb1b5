//! Replication's commands, as far as they need no second server: what they answer, refuse and change.

mod support;

use std::fs;
use support::*;

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1 1";

fn info(c: &mut Client, name: &str) -> String {
    let text = c.run("INFO replication").text();
    let prefix = format!("{name}:");
    let found = text.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn a_server_leads_unless_told_otherwise() {
    for &shards in shard_counts() {
        let server = Server::start(shards);
        let mut c = server.client();
        let role = c.run("ROLE");
        assert_eq!((role.items()[0].text(), role.items().len()), ("master".to_owned(), 3));
        assert!(role.items()[2].items().is_empty());
        assert_eq!(info(&mut c, "role"), "master");
        assert_eq!(info(&mut c, "connected_slaves"), "0");
        assert_eq!(info(&mut c, "master_failover_state"), "no-failover");
        assert_eq!(info(&mut c, "master_replid").len(), 40);
        assert_eq!(info(&mut c, "repl_backlog_size"), "10485760");
    }
}

#[test]
fn what_replicaof_refuses() {
    let server = Server::start(2);
    let mut c = server.client();
    for command in ["REPLICAOF", "SLAVEOF"] {
        let lower = command.to_ascii_lowercase();
        c.check(&format!("{command} localhost"), wrong_arity(&lower));
        c.check(&format!("{command} NO ONE more"), wrong_arity(&lower));
        for port in ["abc", "65536", "-1", "1.5"] {
            c.check(&format!("{command} localhost {port}"), error("ERR Invalid master port"));
        }
        c.check(&format!("{command} no one"), ok());
    }
    c.check("SLAVEOF NO ONE", ok());
    assert_eq!(info(&mut c, "role"), "master");
}

#[test]
fn what_replconf_takes() {
    let server = Server::start(2);
    let mut c = server.client();
    c.check("REPLCONF", ok());
    c.check("REPLCONF a", syntax_error());
    c.check("REPLCONF foo bar", error("ERR Unrecognized REPLCONF option: foo"));
    c.check("REPLCONF listening-port abc", not_an_integer());
    c.check("REPLCONF listening-port 7000 ip-address 10.0.0.1 capa eof capa psync2", ok());
    c.check("REPLCONF capa whatever", ok());
    c.check("REPLCONF version 9.1.2", ok());
    for version in ["x", "9", "9.x", "9.1", "9.1.2.3", "9.1.256"] {
        let text = format!("ERR Unrecognized version format: {version}");
        c.check(&format!("REPLCONF version {version}"), error(&text));
    }
    let out_of_range = error("ERR value is out of range, value must between 0 and 1");
    c.check("REPLCONF rdb-only 2", out_of_range);
    c.check("REPLCONF rdb-only x", not_an_integer());
    c.check("REPLCONF rdb-only 1", ok());
    c.check("REPLCONF rdb-filter-only functions", ok());
    let unsupported = error("ERR Unsupported rdb-filter-only option: x");
    c.check("REPLCONF rdb-filter-only x", unsupported);
    let long = "a".repeat(256);
    let text = "ERR REPLCONF ip-address provided by replica instance is too long: 256 bytes";
    c.check(&format!("REPLCONF ip-address {long}"), error(text));
    c.check(&format!("REPLCONF ip-address {}", &long[1..]), ok());
    // These are never answered.
    c.send("REPLCONF ACK 1");
    c.send("REPLCONF GETACK *");
    c.check("PING", simple("PONG"));
}

#[test]
fn what_wait_and_waitaof_refuse() {
    for &shards in shard_counts() {
        let server = Server::start(shards);
        let mut c = server.client();
        c.check("SET k v", ok());
        c.check("WAIT 0 0", int(0));
        c.check("WAIT -1 0", int(0));
        c.check("WAIT a 1", not_an_integer());
        c.check("WAIT 0 a", error("ERR timeout is not an integer or out of range"));
        c.check("WAIT 0 -1", error("ERR timeout is negative"));
        c.check("WAIT 0 9223372036854775807", error("ERR timeout is out of range"));
        c.check("WAITAOF 0 0 0", array([int(0), int(0)]));
        let no_log = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
        c.check("WAITAOF 1 0 0", error(no_log));
        let out_of_range = "ERR value is out of range, value must between 0 and 1";
        c.check("WAITAOF 2 0 0", error(out_of_range));
        c.check("WAITAOF 0 -1 0", error("ERR value is out of range, must be positive"));
        c.check("WAITAOF 0 0 -1", error("ERR timeout is negative"));
        c.check("WAITAOF a 0 0", not_an_integer());
    }
}

#[test]
fn who_waits_is_seen_and_can_be_unblocked() {
    for &shards in shard_counts() {
        let server = Server::start(shards);
        let (mut c, mut seer) = (server.client(), server.client());
        let id = c.run("CLIENT ID").int();
        let blocked = |seer: &mut Client| {
            let text = seer.run("INFO clients").text();
            text.lines().any(|line| line == "blocked_clients:1")
        };
        for (word, answer) in [
            ("", int(0)),
            ("TIMEOUT", int(0)),
            ("ERROR", error("UNBLOCKED client unblocked via CLIENT UNBLOCK")),
        ] {
            c.check("SET k v", ok());
            c.send("WAIT 1 0");
            wait_until("it is counted", || blocked(&mut seer));
            let line = seer.run(&format!("CLIENT LIST ID {id}")).text();
            assert!(line.contains(" flags=b "), "{line}");
            wait_until("it is there", || {
                seer.run(&format!("CLIENT UNBLOCK {id} {word}")).int() == 1
            });
            c.expect(answer);
            wait_until("it is counted no more", || !blocked(&mut seer));
        }
        seer.check(&format!("CLIENT UNBLOCK {id}"), int(0));
        // One that goes while it waits is counted no more either.
        c.send("WAIT 1 0");
        wait_until("it is counted", || blocked(&mut seer));
        drop(c);
        wait_until("it is gone", || !blocked(&mut seer));
        // Who waits for the replicas of a server that becomes one is told, and let go.
        let mut last = server.client();
        last.check("SET k v", ok());
        last.send("WAIT 1 0");
        wait_until("it is counted", || blocked(&mut seer));
        seer.check(&format!("REPLICAOF {NOBODY}"), ok());
        last.expect(error(
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> \
             replica?)",
        ));
        last.expect_closed();
    }
}

#[test]
fn in_a_transaction_nobody_waits() {
    for &shards in shard_counts() {
        let server = Server::start(shards);
        let mut c = server.client();
        c.check("MULTI", ok());
        for line in ["SET a 1", "WAIT 1 0", "WAITAOF 0 1 0", "REPLCONF capa eof"] {
            c.check(line, queued());
        }
        c.check("EXEC", array([ok(), int(0), array([int(0), int(0)]), ok()]));
        for line in ["SYNC", "PSYNC ? -1"] {
            c.check("MULTI", ok());
            let name = line.split(' ').next().unwrap_or(line).to_ascii_lowercase();
            let text = format!("ERR Command '{name}' not allowed inside a transaction");
            c.check(line, error(&text));
            c.check_error_prefix("EXEC", "EXECABORT");
        }
    }
}

#[test]
fn what_failover_refuses() {
    let server = Server::start(2);
    let mut c = server.client();
    c.check("FAILOVER ABORT", error("ERR No failover in progress."));
    for line in ["FAILOVER x", "FAILOVER TO a", "FAILOVER TIMEOUT", "FAILOVER ABORT x"] {
        c.check(line, syntax_error());
    }
    for line in ["FAILOVER TO a 1 TO b 2", "FAILOVER TIMEOUT 5 TIMEOUT 6"] {
        c.check(line, syntax_error());
    }
    c.check("FAILOVER TIMEOUT 0", error("ERR FAILOVER timeout must be greater than 0"));
    c.check("FAILOVER TIMEOUT x", not_an_integer());
    c.check("FAILOVER TO a x", not_an_integer());
    for line in ["FAILOVER", "FAILOVER TO a 1 FORCE", "FAILOVER FORCE", "FAILOVER TO a 1"] {
        c.check(line, error("ERR FAILOVER requires connected replicas."));
    }
}

#[test]
fn psync_refuses_what_it_cannot_do() {
    let server = Server::start(2);
    let mut c = server.client();
    c.check("PSYNC ?", wrong_arity("psync"));
    c.check("PSYNC ? x", not_an_integer());
    c.check("PSYNC ? -1 FAILOVER", error("ERR PSYNC FAILOVER can't be sent to a master."));
    c.check("REPLCONF rdb-filter-only functions", ok());
    c.check("SYNC", error("ERR Filtered replica requires EOF capability"));
    c.check("PING", simple("PONG"));
}

#[test]
fn without_enough_replicas_nothing_is_written() {
    for &shards in shard_counts() {
        let server = Server::start(shards);
        let mut c = server.client();
        let refused = || error("NOREPLICAS Not enough good replicas to write.");
        c.check("MSET a 1 b 2 c 3", ok());
        c.check("CONFIG SET min-slaves-to-write 1", ok());
        assert_eq!(info(&mut c, "min_slaves_good_slaves"), "0");
        for key in ["a", "b", "c"] {
            // Every shard has heard of it by the time one has refused, or hears of it now.
            c.wait_for(&format!("SET {key} 2"), refused());
        }
        c.check("MSET a 2 b 3 c 4", refused());
        c.check("MGET a b c", bulks(&["1", "2", "3"]));
        c.check("MULTI", ok());
        c.check("SET a 2", refused());
        c.check_error_prefix("EXEC", "EXECABORT");
        c.check("CONFIG SET min-replicas-max-lag 0", ok());
        for key in ["a", "b", "c"] {
            c.wait_for(&format!("SET {key} 2"), ok());
        }
    }
}

#[test]
fn whom_it_follows_is_in_the_configuration() {
    let place = TempDir::new();
    let path = place.path().join("redshard.conf");
    fs::write(&path, "# ours\n").expect("a file");
    let server = Launch::new(1).file(&path).start();
    let mut c = server.client();
    c.check("CONFIG GET replicaof", bulks(&["replicaof", ""]));
    c.check("MULTI", ok());
    for line in [&format!("REPLICAOF {NOBODY}"), "CONFIG REWRITE"] {
        c.check(line, queued());
    }
    c.check("EXEC", array([ok(), ok()]));
    c.check("CONFIG GET slaveof", bulks(&["slaveof", NOBODY]));
    let text = fs::read_to_string(&path).expect("a file");
    assert!(text.lines().any(|line| line == format!("replicaof {NOBODY}")), "{text}");
    c.check("REPLICAOF NO ONE", ok());
    c.check("CONFIG REWRITE", ok());
    let text = fs::read_to_string(&path).expect("a file");
    assert!(!text.contains("replicaof"), "{text}");
}

#[test]
fn what_command_info_says() {
    let server = Server::start(1);
    let mut c = server.client();
    for (name, arity, flags) in [
        ("replicaof", 3, "admin noscript stale no_async_loading"),
        ("slaveof", 3, "admin noscript stale no_async_loading"),
        ("replconf", -1, "admin noscript loading stale allow_busy"),
        ("psync", -3, "admin noscript no_async_loading no_multi"),
        ("sync", 1, "admin noscript no_async_loading no_multi"),
        ("wait", 3, "blocking"),
        ("waitaof", 4, "blocking"),
        ("failover", -1, "admin noscript stale"),
    ] {
        let reply = c.run(&format!("COMMAND INFO {name}"));
        let command = reply.items()[0].items();
        assert_eq!(command[1].int(), arity, "{name}");
        let words: Vec<String> = command[2].items().iter().map(Value::text).collect();
        assert_eq!(words.join(" "), flags, "{name}");
    }
}

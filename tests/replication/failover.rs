//! A primary that hands its place over: FAILOVER, and the end of the server.

use crate::cluster::{Kind, Node, assert_equal, wait_for_offset};
use crate::support::{Client, Launch, Value, wait_until};
use std::sync::atomic::{AtomicBool, Ordering};

fn ours(shards: usize) -> Node {
    Node::start(&Kind::Redshard(shards), &[])
}

#[track_caller]
fn wait_for_state(node: &Node, wanted: &str) {
    wait_until(wanted, || node.info("replication", "master_failover_state") == wanted);
}

fn stop(node: &Node, signal: i32) {
    match node {
        Node::Ours(server) => server.signal(signal),
        Node::Theirs { .. } => panic!("only ours are stopped"),
    }
}

/// Increments a counter until the server is none that takes writes; returns how often that was acknowledged.
fn count_until_read_only(port: u16, name: &str) -> i64 {
    let mut client = Client::connect(port);
    let mut counted = 0;
    loop {
        match client.cmd(&["INCR", name]) {
            Value::Int(count) => counted = count,
            refusal => {
                assert!(refusal.error_text().starts_with("READONLY"), "{refusal:?}");
                return counted;
            }
        }
    }
}

#[test]
fn a_failover_loses_nothing_and_costs_partial_syncs() {
    for (first, second) in [(1, 1), (2, 4), (4, 2)] {
        let (primary, target, other) = (ours(first), ours(second), ours(1));
        target.follow(&primary);
        other.follow(&primary);
        let to = format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 20000", target.port());
        let counted = std::thread::scope(|scope| {
            let port = primary.port();
            let writers: Vec<_> = (0..3)
                .map(|n| scope.spawn(move || count_until_read_only(port, &format!("counter:{n}"))))
                .collect();
            std::thread::sleep(std::time::Duration::from_millis(100));
            primary.client().check(&to, Value::Simple("OK".into()));
            wait_for_state(&primary, "no-failover");
            writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<i64>>()
        });
        assert_eq!(target.client().run("ROLE").items()[0].text(), "master");
        assert_eq!(primary.client().run("ROLE").items()[0].text(), "slave");
        for (n, counted) in counted.iter().enumerate() {
            let found = target.client().run(&format!("GET counter:{n}")).text();
            assert_eq!(found, counted.to_string());
        }
        other.follow(&target);
        primary.wait_for_link();
        target.client().cmd(&["SET", "after", "it"]);
        assert_equal(&target, &primary);
        assert_equal(&target, &other);
        assert_eq!(target.info("stats", "sync_full"), "0", "{}", target.log());
        assert_eq!(target.info("stats", "sync_partial_ok"), "2");
    }
}

#[test]
fn a_failover_to_whoever_has_everything_first() {
    let (primary, sleeper, target) = (ours(2), ours(1), ours(2));
    sleeper.follow(&primary);
    target.follow(&primary);
    stop(&sleeper, 19);
    primary.client().cmd(&["SET", "key", "value"]);
    primary.client().check("FAILOVER", Value::Simple("OK".into()));
    wait_for_state(&primary, "no-failover");
    assert_eq!(target.client().run("ROLE").items()[0].text(), "master");
    stop(&sleeper, 18);
    assert_equal(&target, &primary);
}

#[test]
fn a_failover_that_is_given_up_changes_nothing() {
    let (primary, replica) = (ours(2), ours(1));
    replica.follow(&primary);
    stop(&replica, 19);
    let mut client = primary.client();
    client.cmd(&["SET", "key", "1"]);
    let to = format!("FAILOVER TO 127.0.0.1 {} TIMEOUT", replica.port());
    client.check(&format!("{to} 300"), Value::Simple("OK".into()));
    client.check_error_prefix(&format!("{to} 300"), "ERR FAILOVER already in progress.");
    client.check_error_prefix("REPLICAOF NO ONE", "ERR REPLICAOF not allowed while failing over.");
    let mut writer = primary.client();
    writer.send("SET key 2");
    wait_for_state(&primary, "no-failover");
    writer.expect(Value::Simple("OK".into()));
    client.check(&format!("{to} 60000"), Value::Simple("OK".into()));
    writer.send("SET key 3");
    client.check("GET key", Value::Bulk(b"2".into()));
    client.check("FAILOVER ABORT", Value::Simple("OK".into()));
    client.check_error_prefix("FAILOVER ABORT", "ERR No failover in progress.");
    writer.expect(Value::Simple("OK".into()));
    assert_eq!(client.run("ROLE").items()[0].text(), "master");
    stop(&replica, 18);
    assert_equal(&primary, &replica);
    assert_eq!(primary.info("stats", "sync_full"), "1");
}

#[test]
fn a_forced_failover_waits_for_nobody() {
    let (primary, target) = (ours(2), ours(2));
    target.follow(&primary);
    stop(&target, 19);
    let mut client = primary.client();
    client.cmd(&["SET", "key", "late"]);
    let to = format!("FAILOVER TO 127.0.0.1 {} FORCE TIMEOUT 100", target.port());
    client.check(&to, Value::Simple("OK".into()));
    wait_for_state(&primary, "failover-in-progress");
    assert_eq!(client.run("ROLE").items()[0].text(), "slave");
    stop(&target, 18);
    wait_for_state(&primary, "no-failover");
    primary.wait_for_link();
    assert_eq!(target.client().run("ROLE").items()[0].text(), "master");
    assert_equal(&target, &primary);
    assert!(primary.log().contains("time out exceeded, failing over."));
}

#[test]
fn a_target_that_refuses_leaves_the_primary_what_it_was() {
    let (primary, target) = (ours(2), ours(1));
    target.follow(&primary);
    let id = primary.info("replication", "master_replid");
    target.client().cmd(&["CONFIG", "SET", "requirepass", "secret"]);
    let to = format!("FAILOVER TO 127.0.0.1 {}", target.port());
    primary.client().check(&to, Value::Simple("OK".into()));
    wait_for_state(&primary, "no-failover");
    wait_until("it leads again", || primary.client().run("ROLE").items()[0].text() == "master");
    primary.client().check("SET key value", Value::Simple("OK".into()));
    assert_ne!(primary.info("replication", "master_replid"), id);
    assert_eq!(primary.info("replication", "master_replid2"), id);
    assert!(primary.log().contains("Failover target rejected psync request"));
}

/// The end of a primary under load: its replica has all that was acknowledged.
#[test]
fn the_end_waits_for_replicas() {
    for (signal, is_slow) in [(15, false), (0, false), (15, true)] {
        let mut primary = Launch::new(2).args(&["--shutdown-timeout", "20"]).start();
        let replica = ours(2);
        let follow = format!("REPLICAOF 127.0.0.1 {}", primary.port());
        replica.client().check(&follow, Value::Simple("OK".into()));
        replica.wait_for_link();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (port, is_over) = (primary.port(), &is_over);
            let writer = scope.spawn(move || {
                let Ok(mut client) = Client::try_connect(port) else { return 0 };
                let mut counted = 0;
                while let Ok(Value::Int(count)) = client.try_cmd(&["INCR", "counter"]) {
                    counted = count;
                }
                assert!(is_over.load(Ordering::Relaxed), "it ended too early");
                counted
            });
            std::thread::sleep(std::time::Duration::from_millis(100));
            if is_slow {
                stop(&replica, 19);
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            is_over.store(true, Ordering::Relaxed);
            match signal {
                0 => primary.client().send("SHUTDOWN NOSAVE"),
                signal => primary.signal(signal),
            }
            if is_slow {
                wait_until("it waits", || primary.log().contains("Waiting for replicas before"));
                stop(&replica, 18);
            }
            assert!(primary.wait_exit().success());
            let counted = writer.join().unwrap();
            let found = replica.client().run("GET counter").text();
            assert_eq!(found, counted.to_string(), "{}", primary.log());
        });
        assert!(primary.log().contains("1 of 1 replicas are in sync when shutting down."));
    }
}

#[test]
fn an_end_that_waits_can_be_aborted_and_is_not_put_off_for_ever() {
    let mut primary = Launch::new(2).args(&["--shutdown-timeout", "60"]).start();
    let replica = ours(1);
    replica.client().cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    replica.wait_for_link();
    stop(&replica, 19);
    primary.client().cmd(&["SET", "key", "1"]);
    let mut stopper = primary.client();
    stopper.send("SHUTDOWN NOSAVE");
    wait_until("it waits", || primary.log().contains("Waiting for replicas before"));
    let mut writer = primary.client();
    writer.send("SET key 2");
    let mut client = primary.client();
    client.check("GET key", Value::Bulk(b"1".into()));
    client.check("SHUTDOWN ABORT", Value::Simple("OK".into()));
    assert_eq!(stopper.read_reply().error_text(), "ERR Errors trying to SHUTDOWN. Check logs.");
    writer.expect(Value::Simple("OK".into()));
    client.check_error_prefix("SHUTDOWN ABORT", "ERR No shutdown in progress.");
    client.cmd(&["CONFIG", "SET", "shutdown-timeout", "1"]);
    primary.signal(15);
    assert!(primary.wait_exit().success());
    let log = primary.log();
    assert!(
        log.contains("Lagging replica") && log.contains("0 of 1 replicas are in sync"),
        "{log}"
    );
    stop(&replica, 18);
}

/// NOW waits for nobody.
#[test]
fn an_end_that_is_now() {
    let mut primary = Launch::new(1).args(&["--shutdown-timeout", "600"]).start();
    let replica = ours(1);
    replica.client().cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    replica.wait_for_link();
    stop(&replica, 19);
    primary.client().cmd(&["SET", "key", "1"]);
    primary.client().send("SHUTDOWN NOSAVE NOW");
    assert!(primary.wait_exit().success());
    stop(&replica, 18);
}

/// Replicas of a replica go on where they are when that one leads.
#[test]
fn those_who_follow_a_replica_resume() {
    let (primary, middle, leaf) = (ours(2), ours(2), ours(1));
    middle.follow(&primary);
    leaf.follow(&middle);
    primary.client().cmd(&["SET", "key", "1"]);
    wait_for_offset(&primary, &leaf);
    let to = format!("FAILOVER TO 127.0.0.1 {}", middle.port());
    primary.client().check(&to, Value::Simple("OK".into()));
    wait_for_state(&primary, "no-failover");
    middle.client().cmd(&["SET", "key", "2"]);
    leaf.wait_for_link();
    assert_equal(&middle, &leaf);
    assert_equal(&middle, &primary);
    assert_eq!(middle.info("stats", "sync_full"), "1", "{}", middle.log());
}

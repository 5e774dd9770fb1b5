//! What a replica takes although its own clients might not, and what it keeps or lets go by itself.

use crate::cluster::{Kind, Node, wait_for_offset};
use crate::support::{Value, wait_until};

fn pair(shards: (usize, usize), of_replica: &[&str]) -> (Node, Node) {
    let primary = Node::start(&Kind::Redshard(shards.0), &["--save", "3600 1"]);
    let replica = Node::start(&Kind::Redshard(shards.1), of_replica);
    replica.follow(&primary);
    (primary, replica)
}

/// What the primary has done is not refused for its size.
#[test]
fn a_replica_takes_what_is_longer_than_its_limits() {
    let limits = ["--client-query-buffer-limit", "1mb", "--proto-max-bulk-len", "1mb"];
    for shards in [(1, 2), (2, 1)] {
        let (primary, replica) = pair(shards, &limits);
        let long = "x".repeat(1_500_000);
        let mut client = primary.client();
        client.cmd(&["SET", "long", &long]);
        client.cmd(&["MULTI"]);
        client.cmd(&["SET", "one", &long]);
        client.cmd(&["APPEND", "one", &long]);
        client.cmd(&["EXEC"]);
        wait_for_offset(&primary, &replica);
        let mut client = replica.client();
        assert_eq!(client.run("STRLEN long"), Value::Int(1_500_000));
        assert_eq!(client.run("STRLEN one"), Value::Int(3_000_000));
        assert_eq!(primary.info("stats", "sync_full"), "1");
    }
}

/// A writable replica expires what its own clients have written; what is its primary's stays until that says
/// so, unseen, and DEBUG OBJECT sees it.
#[test]
fn a_writable_replica_expires_its_own_keys() {
    let (primary, replica) = pair((2, 2), &["--replica-read-only", "no"]);
    let mut client = primary.client();
    client.cmd(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    client.cmd(&["SET", "theirs", "x", "PX", "1"]);
    wait_for_offset(&primary, &replica);
    let mut client = replica.client();
    for key in ["a", "b", "c", "d"] {
        client.cmd(&["SET", key, "x", "PX", "1"]);
    }
    wait_until("its own keys have gone", || client.run("DBSIZE") == Value::Int(1));
    assert_eq!(client.run("EXISTS theirs"), Value::Int(0));
    assert!(!client.run("DEBUG OBJECT theirs").is_error());
}

/// Where replicas may go on after a restart, no key goes without their hearing of it.
#[test]
fn what_expires_while_the_primary_is_down_goes_on_its_replicas_too() {
    for shards in [(1, 2), (2, 1)] {
        let (mut primary, replica) = pair(shards, &[]);
        let mut client = primary.client();
        client.cmd(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
        for key in 0..100 {
            client.cmd(&["SET", &format!("key:{key}"), "x", "PX", "1"]);
        }
        client.cmd(&["SET", "stays", "x"]);
        wait_for_offset(&primary, &replica);
        primary.restart();
        replica.wait_for_link();
        let mut client = replica.client();
        wait_until("expired keys have gone", || client.run("DBSIZE") == Value::Int(1));
        assert_eq!(primary.info("stats", "sync_full"), "0");
    }
}

/// The rest of a transaction sees that another server is followed.
#[test]
fn a_transaction_sees_whom_it_follows() {
    let primary = Node::start(&Kind::Redshard(1), &[]);
    let replica = Node::start(&Kind::Redshard(2), &[]);
    let mut client = replica.client();
    client.cmd(&["MULTI"]);
    client.cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    client.cmd(&["INFO", "replication"]);
    let replies = client.cmd(&["EXEC"]);
    assert!(replies.items()[1].text().contains("role:slave"), "{replies:?}");
    replica.wait_for_link();
}

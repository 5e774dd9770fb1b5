//! What a primary does for replicas of all kinds, and with those that are none.

use crate::cluster::{Kind, Node, assert_equal, peers};
use crate::support::{Client, Launch, TempDir, Value, tool, wait_until};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn ours(shards: usize, args: &[&str]) -> Node {
    Node::start(&Kind::Redshard(shards), args)
}

fn fill(node: &Node, keys: usize) {
    let filled = node.client().cmd(&["DEBUG", "POPULATE", &keys.to_string(), "key", "100"]);
    assert_eq!(filled, Value::Simple("OK".into()));
}

#[test]
fn a_full_sync_through_a_file() {
    for kind in peers().into_iter().chain([Kind::Redshard(2)]) {
        let args = ["--repl-diskless-sync", "no", "--save", ""];
        let primary = ours(2, &args);
        fill(&primary, 50_000);
        let replicas: Vec<Node> = (0..3).map(|_| Node::start(&kind, &[])).collect();
        for replica in &replicas {
            replica.client().cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
        }
        for n in 0..2_000 {
            primary.client().cmd(&["SET", &format!("key:{n}"), "new"]);
        }
        for replica in &replicas {
            replica.wait_for_link();
            assert_equal(&primary, replica);
        }
        assert_eq!(primary.info("stats", "sync_full"), "3");
        assert!(primary.log().contains("Starting BGSAVE for SYNC with target: disk"));
    }
}

#[test]
fn the_file_of_a_sync_goes_if_that_is_wanted() {
    let args = ["--repl-diskless-sync", "no", "--save", "", "--rdb-del-sync-files", "yes"];
    let primary = Launch::new(2).args(&args).start();
    primary.client().cmd(&["SET", "key", "value"]);
    let replica = ours(1, &[]);
    replica.client().cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    replica.wait_for_link();
    let file = primary.dir().join("dump.rdb");
    wait_until("the file is gone", || !file.exists());
    // A file that somebody wants stays.
    primary.client().check("SAVE", Value::Simple("OK".into()));
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(file.exists());
}

#[test]
fn replicas_wait_for_a_save_that_runs() {
    let primary = ours(2, &["--rdb-key-save-delay", "100"]);
    fill(&primary, 10_000);
    primary.client().cmd(&["BGSAVE"]);
    let replica = ours(1, &[]);
    replica.client().cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    wait_until("it is asked", || primary.info("replication", "connected_slaves") == "1");
    primary.client().cmd(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    replica.wait_for_link();
    assert_equal(&primary, &replica);
}

#[test]
fn many_replicas_share_one_snapshot() {
    let primary =
        ours(2, &["--repl-diskless-sync-delay", "60", "--repl-diskless-sync-max-replicas", "20"]);
    fill(&primary, 20_000);
    let replicas: Vec<Node> = (0..20).map(|_| ours(1, &[])).collect();
    for replica in &replicas {
        replica.client().cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    }
    for replica in &replicas {
        replica.wait_for_link();
    }
    primary.client().cmd(&["SET", "after", "all"]);
    for replica in &replicas {
        assert_equal(&primary, replica);
    }
    primary.client().cmd(&["SET", "last", "one"]);
    primary.client().check("WAIT 20 20000", Value::Int(20));
    assert_eq!(primary.log().matches("Starting BGSAVE for SYNC").count(), 1);
}

/// The redis-cli of every line that is here.
fn tools() -> Vec<PathBuf> {
    let more = peers().into_iter().filter_map(|peer| match peer {
        Kind::Peer(path) => {
            let name = if path.ends_with("valkey-server") { "valkey-cli" } else { "redis-cli" };
            Some(path.with_file_name(name)).filter(|path| path.is_file())
        }
        Kind::Redshard(_) => None,
    });
    std::iter::once(tool("redis-cli", "redis-tools")).chain(more).collect()
}

/// A file can be loaded, and has so many keys.
#[track_caller]
fn assert_keys(path: &Path, keys: i64) {
    let dir = path.parent().expect("a directory");
    let name = path.file_name().expect("a name").to_str().expect("a name");
    let server = Launch::new(1)
        .args(&["--dir", dir.to_str().expect("a path"), "--dbfilename", name, "--save", ""])
        .start();
    wait_until("it is loaded", || server.log().contains("DB loaded from disk"));
    server.client().wait_for("DBSIZE", Value::Int(keys));
}

#[test]
fn tools_get_the_data_alone() {
    for diskless in ["yes", "no"] {
        let primary = ours(2, &["--repl-diskless-sync", diskless]);
        fill(&primary, 5_000);
        for cli in tools() {
            let dir = TempDir::new();
            for (option, keys) in [("--rdb", 5_000), ("--functions-rdb", 0)] {
                let file = dir.path().join("got.rdb");
                let port = primary.port().to_string();
                let mut command = Command::new(&cli);
                command.args(["-p", &port, option]).arg(&file);
                let got = command.output().expect("run redis-cli");
                assert!(got.status.success(), "{}: {got:?}\n{}", cli.display(), primary.log());
                assert_keys(&file, keys);
            }
        }
        wait_until("they are gone", || primary.info("replication", "connected_slaves") == "0");
    }
}

#[test]
fn a_tool_that_follows_is_sent_the_stream() {
    for diskless in ["yes", "no"] {
        let primary = ours(2, &["--repl-diskless-sync", diskless]);
        fill(&primary, 1_000);
        for cli in tools() {
            let dir = TempDir::new();
            let out = dir.path().join("out");
            let file = std::fs::File::create(&out).expect("create a file");
            let mut command = Command::new(&cli);
            command.args(["-p", &primary.port().to_string(), "--replica"]);
            let mut child =
                command.stdin(Stdio::null()).stdout(file).spawn().expect("run redis-cli");
            wait_until("it is shown a write", || {
                primary.client().cmd(&["SET", "key", "value"]);
                let said = std::fs::read_to_string(&out).unwrap_or_default();
                std::thread::sleep(Duration::from_millis(50));
                said.contains("value")
            });
            child.kill().expect("end redis-cli");
            child.wait().expect("its end");
        }
    }
}

// ---- those that are none -------------------------------------------------------------------------

/// A connection that has asked for data, and read the line that answers.
fn ask(primary: &Node) -> (Client, Vec<u8>) {
    let mut client = primary.client();
    client.cmd(&["REPLCONF", "capa", "eof", "capa", "psync2"]);
    client.send("PSYNC ? -1");
    let line = client.read_sync_reply().text();
    (client, line.into_bytes())
}

/// The primary is well, and knows no replica.
#[track_caller]
fn assert_well(primary: &Node) {
    wait_until("it is alone", || primary.info("replication", "connected_slaves") == "0");
    let replica = ours(1, &[]);
    replica.follow(primary);
    primary.client().cmd(&["SET", "well", "yes"]);
    assert_equal(primary, &replica);
    assert!(!primary.log().contains("panicked"), "{}", primary.log());
}

#[test]
fn psync_in_a_pipeline_is_asked_when_all_before_is_answered() {
    let primary = ours(2, &[]);
    fill(&primary, 100);
    let mut client = primary.client();
    client.send_raw_lossy(b"SET a 1\r\nGET a\r\nPSYNC ? -1\r\nSET b 2\r\n");
    client.expect(Value::Simple("OK".into()));
    client.expect(Value::Bulk(b"1".into()));
    // Either it is refused since something is owed, or it is a replica by now.
    let said = format!("{:?}", client.read_sync_reply());
    assert!(said.contains("FULLRESYNC") || said.contains("pending output"), "{said}");
    drop(client);
    assert_well(&primary);
}

#[test]
fn what_a_replica_says_that_it_should_not_ends_it_or_nothing() {
    let garbage: [&[u8]; 6] = [
        b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$16\r\n9999999999999999\r\n",
        b"*1\r\n$1000000000000\r\n",
        b"\xff\xfe\x00\x01garbage\r\n\r\n",
        b"SET key value\r\nGET key\r\nPING\r\n",
        b"PSYNC ? -1\r\nSYNC\r\nSYNC\r\n",
        b"SUBSCRIBE channel\r\nMULTI\r\nEXEC\r\nQUIT\r\n",
    ];
    for bytes in garbage {
        let primary = ours(2, &[]);
        fill(&primary, 1_000);
        let (mut client, line) = ask(&primary);
        assert!(line.starts_with(b"FULLRESYNC"), "{line:?}");
        client.send_raw_lossy(bytes);
        std::thread::sleep(Duration::from_millis(100));
        drop(client);
        assert_well(&primary);
    }
}

#[test]
fn who_goes_in_the_middle_of_its_snapshot_is_no_trouble() {
    for diskless in ["yes", "no"] {
        let primary = ours(2, &["--repl-diskless-sync", diskless]);
        fill(&primary, 200_000);
        // The second comes while the first is served, waits for the next snapshot, and gets it though
        // the first has never read what was made for it.
        let (first, _) = ask(&primary);
        let mut second = primary.client();
        second.cmd(&["REPLCONF", "capa", "eof", "capa", "psync2"]);
        second.send("PSYNC ? -1");
        wait_until("it waits", || primary.info("replication", "connected_slaves") == "2");
        drop(first);
        let reply = second.read_sync_reply();
        assert!(
            matches!(&reply, Value::Simple(line) if line.starts_with("FULLRESYNC")),
            "{reply:?}"
        );
        drop(second);
        let replica = ours(1, &[]);
        replica.client().cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
        let (half, _) = ask(&primary);
        drop(half);
        replica.wait_for_link();
        assert_equal(&primary, &replica);
    }
}

/// A replica whose own link is lost just as it begins to serve a sync serves it all the same.
#[test]
fn a_link_that_is_lost_as_a_sync_begins_is_no_trouble() {
    let primary = ours(1, &[]);
    fill(&primary, 20_000);
    let middle = ours(4, &[]);
    middle.follow(&primary);
    let last = ours(1, &[]);
    let (mut of_middle, mut of_last) = (middle.client(), last.client());
    for round in 0..60 {
        of_last.check("REPLICAOF NO ONE", Value::Simple("OK".into()));
        of_last.check("FLUSHALL", Value::Simple("OK".into()));
        of_last
            .check(&format!("REPLICAOF 127.0.0.1 {}", middle.port()), Value::Simple("OK".into()));
        std::thread::sleep(Duration::from_micros(round * 500));
        of_middle.cmd(&["CLIENT", "KILL", "TYPE", "primary"]);
        primary.client().cmd(&["SET", &format!("round:{round}"), "v"]);
        last.wait_for_link();
    }
    middle.wait_for_link();
    assert_equal(&primary, &last);
}

/// The server's own end waits for no replica that does not take what it is sent.
#[test]
fn a_sync_that_stands_still_does_not_hold_up_the_servers_end() {
    for diskless in ["yes", "no"] {
        let mut primary = ours(2, &["--repl-diskless-sync", diskless]);
        fill(&primary, 200_000);
        let (stuck, line) = ask(&primary);
        assert!(line.starts_with(b"FULLRESYNC"), "{line:?}");
        let Node::Ours(process) = &mut primary else { unreachable!("it is ours") };
        process.signal(15);
        process.wait_exit();
        let log = process.log();
        assert!(log.contains("bye bye") && !log.contains("gives up"), "{log}");
        drop(stuck);
    }
}

/// A replica that does not take its stream is let go of as soon as it is too far behind.
#[test]
fn the_backlog_grows_no_further_than_the_limit() {
    let limit = "replica 2mb 0 0";
    let primary = ours(
        2,
        &[
            "--client-output-buffer-limit",
            limit,
            "--repl-backlog-size",
            "1mb",
            "--repl-timeout",
            "600",
        ],
    );
    let replica = ours(1, &[]);
    replica.follow(&primary);
    let Node::Ours(server) = &replica else { panic!("it is ours") };
    server.signal(19);
    let value = "x".repeat(100_000);
    let mut client = primary.client();
    wait_until("it is let go", || {
        client.cmd(&["SET", "key", &value]);
        primary.log().contains("closed for overcoming of output buffer limits")
    });
    wait_until("what is kept is shown", || {
        let kept = primary.info("memory", "mem_replication_backlog");
        (1..4_000_000).contains(&kept.parse::<u64>().expect("a number"))
    });
    // What is kept follows the configuration.
    client.cmd(&["CONFIG", "SET", "repl-backlog-size", "20kb"]);
    wait_until("less is kept", || {
        client.cmd(&["SET", "key", "short"]);
        let kept = primary.info("replication", "repl_backlog_histlen");
        kept.parse::<u64>().expect("a number") < 200_000
    });
    server.signal(18);
    replica.wait_for_link();
    assert_equal(&primary, &replica);
}

//! Unmodified sentinels watch over Redshard, elect, and switch; clients find the new primary through them.

use crate::cluster::{Kind, Node, field, wait_for_offset};
use crate::support::{Client, TempDir, Value, free_port, python_with, tool, wait_until};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// After so long without an answer a sentinel takes a server for dead.
const DOWN_AFTER_MS: u64 = 3_000;

/// As [`crate::support::wait_until`], for what sentinels do: on a busy machine they doubt their clocks, and
/// do nothing for half a minute.
#[track_caller]
fn wait_long(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sentinels that watch one primary, ended when dropped.
struct Sentinels {
    children: Vec<Child>,
    ports: Vec<u16>,
    dir: TempDir,
}

impl Sentinels {
    fn watch(primary: u16) -> Sentinels {
        let server = tool("redis-server", "redis-server");
        let (dir, mut children, mut ports) = (TempDir::new(), Vec::new(), Vec::new());
        for n in 0..3 {
            let port = free_port();
            let file = dir.path().join(format!("{n}.conf"));
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor house 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds house {DOWN_AFTER_MS}\n\
                 sentinel failover-timeout house 10000\nsentinel parallel-syncs house 1\n",
                dir.path().display()
            );
            fs::write(&file, text).expect("write a configuration");
            let log = fs::File::create(dir.path().join(format!("{n}.log"))).expect("a log");
            let mut command = Command::new(&server);
            command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(log);
            children.push(command.spawn().expect("start a sentinel"));
            ports.push(port);
        }
        for port in &ports {
            wait_until("a sentinel answers", || Client::try_connect(*port).is_ok());
        }
        Sentinels { children, ports, dir }
    }

    /// Waits until all of them know of each other and of so many replicas.
    #[track_caller]
    fn wait_for(&self, replicas: usize) {
        wait_long("the sentinels know everybody", || {
            self.ports.iter().all(|port| {
                let known = Client::connect(*port).run("SENTINEL MASTERS");
                let Value::Array(masters) = known else { return false };
                let Some(Value::Array(fields)) = masters.first() else { return false };
                let words: Vec<String> = fields.iter().map(Value::text).collect();
                let is = |name: &str, wanted: usize| {
                    words.chunks(2).any(|pair| pair[0] == name && pair[1] == wanted.to_string())
                };
                is("num-slaves", replicas) && is("num-other-sentinels", 2)
            })
        });
    }

    /// The port of the primary, as the first of them sees it.
    fn primary(&self) -> u16 {
        let address = Client::connect(self.ports[0]).run("SENTINEL GET-MASTER-ADDR-BY-NAME house");
        let Value::Array(address) = address else { panic!("no address: {address:?}") };
        address[1].text().parse().expect("a port")
    }

    fn logs(&self) -> String {
        let log =
            |n| fs::read_to_string(self.dir.path().join(format!("{n}.log"))).unwrap_or_default();
        (0..3).map(log).collect()
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Writes through a client that asks the sentinels, until that succeeds. Returns how long it took.
fn write_through(sentinels: &Sentinels, key: &str) -> Duration {
    let list: Vec<String> =
        sentinels.ports.iter().map(|port| format!("('127.0.0.1', {port})")).collect();
    let script = format!(
        "import time\n\
         from redis.sentinel import Sentinel\n\
         primary = Sentinel([{}], socket_timeout=0.5).master_for('house', socket_timeout=0.5)\n\
         for _ in range(1800):\n\
         \x20   try:\n\
         \x20       primary.set('{key}', 'v'); break\n\
         \x20   except Exception: time.sleep(0.1)\n\
         else: raise SystemExit('never')\n",
        list.join(", ")
    );
    let began = Instant::now();
    let python = python_with("redis", "python3-redis");
    let status = Command::new(python).args(["-c", &script]).status().expect("run Python");
    assert!(status.success(), "nobody can write\n{}", sentinels.logs());
    began.elapsed()
}

#[test]
fn sentinels_fail_over() {
    for shards in [1, 2] {
        let mut primary = Node::start(&Kind::Redshard(shards), &[]);
        let replicas = [2, 1].map(|shards| Node::start(&Kind::Redshard(shards), &[]));
        replicas.iter().for_each(|replica| replica.follow(&primary));
        let sentinels = Sentinels::watch(primary.port());
        sentinels.wait_for(2);
        write_through(&sentinels, "before");
        replicas.iter().for_each(|replica| wait_for_offset(&primary, replica));
        primary.kill();
        let took = write_through(&sentinels, "after");
        eprintln!("clients write again after {took:?}");
        let port = sentinels.primary();
        let heir = replicas.iter().find(|replica| replica.port() == port).expect("one of the two");
        let other = replicas.iter().find(|replica| replica.port() != port).expect("the other");
        assert_eq!(heir.client().cmd(&["GET", "before"]).text(), "v");
        // The others follow it, the old primary too when it is back.
        primary.revive();
        for node in [other, &primary] {
            wait_long("it follows the new primary", || {
                let mut client = node.client();
                field(&mut client, "replication", "master_port") == port.to_string()
                    && field(&mut client, "replication", "master_link_status") == "up"
            });
            wait_for_offset(heir, node);
            assert_eq!(node.client().cmd(&["GET", "after"]).text(), "v");
        }
    }
}

/// Redshard takes over from a real Redis, and gives back.
#[test]
fn sentinels_fail_over_between_kinds() {
    let redis = Kind::Peer(tool("redis-server", "redis-server"));
    let mut first = Node::start(&redis, &[]);
    let ours = Node::start(&Kind::Redshard(2), &[]);
    ours.follow(&first);
    let sentinels = Sentinels::watch(first.port());
    sentinels.wait_for(1);
    write_through(&sentinels, "one");
    wait_for_offset(&first, &ours);
    first.kill();
    write_through(&sentinels, "two");
    assert_eq!(sentinels.primary(), ours.port());
    first.revive();
    wait_long("Redis follows us", || first.info("replication", "master_link_status") == "up");
    wait_for_offset(&ours, &first);
    assert_eq!(first.client().cmd(&["GET", "two"]).text(), "v");
    // A busy machine makes sentinels give up an attempt: then they are asked again.
    wait_long("Redis is the primary again", || {
        Client::connect(sentinels.ports[0]).run("SENTINEL FAILOVER house");
        std::thread::sleep(Duration::from_millis(500));
        sentinels.primary() == first.port()
    });
    wait_long("we follow it", || {
        ours.info("replication", "role") == "slave"
            && ours.info("replication", "master_link_status") == "up"
    });
    write_through(&sentinels, "three");
    wait_for_offset(&first, &ours);
    assert_eq!(ours.client().cmd(&["GET", "three"]).text(), "v");
}

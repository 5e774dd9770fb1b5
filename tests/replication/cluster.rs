//! Servers of any kind that follow each other, and what is asked of all of them.

use crate::support::{
    Client, Launch, PATIENCE, Server, TempDir, Value, free_port, tool, wait_until,
};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A kind of server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours, with so many shards.
    Redshard(usize),
    /// Another one, by its executable.
    Peer(PathBuf),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Redshard(shards) => write!(f, "Redshard with {shards} shards"),
            Kind::Peer(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The peers of this machine.
pub fn peers() -> Vec<Kind> {
    let directory = std::env::var_os("REDSHARD_PEERS").map(PathBuf::from);
    let more = directory.into_iter().flat_map(|directory| {
        ["redis", "valkey"].map(|name| directory.join(name).join(format!("bin/{name}-server")))
    });
    let more = more.inspect(|path| assert!(path.is_file(), "no server at {}", path.display()));
    std::iter::once(tool("redis-server", "redis-server")).chain(more).map(Kind::Peer).collect()
}

/// A running server of any kind.
pub enum Node {
    Ours(Server),
    Theirs { child: Child, port: u16, dir: TempDir, path: PathBuf },
}

impl Node {
    /// Starts one that syncs without delay, with further arguments.
    #[track_caller]
    pub fn start(kind: &Kind, args: &[&str]) -> Node {
        match kind {
            Kind::Redshard(shards) => {
                Node::Ours(Launch::new(*shards).args(&QUICK).args(&DEBUG).args(args).start())
            }
            Kind::Peer(path) => {
                let (dir, port) = (TempDir::new(), free_port());
                let child = spawn_peer(path, port, &dir, args);
                wait_for_peer(port);
                Node::Theirs { child, port, dir, path: path.clone() }
            }
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Node::Ours(server) => server.port(),
            Node::Theirs { port, .. } => *port,
        }
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.port())
    }

    pub fn log(&self) -> String {
        match self {
            Node::Ours(server) => server.log(),
            Node::Theirs { dir, .. } => {
                let log = std::fs::read(dir.path().join("server.log")).unwrap_or_default();
                String::from_utf8_lossy(&log).into_owned()
            }
        }
    }

    /// Lets it follow another one, and waits until it does.
    #[track_caller]
    pub fn follow(&self, primary: &Node) {
        self.client()
            .check(&format!("REPLICAOF 127.0.0.1 {}", primary.port()), Value::Simple("OK".into()));
        self.wait_for_link();
    }

    #[track_caller]
    pub fn wait_for_link(&self) {
        let mut client = self.client();
        let deadline = Instant::now() + PATIENCE;
        while field(&mut client, "replication", "master_link_status") != "up" {
            let (asked, log) = (client.run("INFO replication").text(), self.log());
            assert!(Instant::now() < deadline, "the link never comes up:\n{asked}\n{log}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Ends it as a crash does.
    pub fn kill(&self) {
        match self {
            Node::Ours(server) => server.signal(9),
            Node::Theirs { child, .. } => {
                let kill = format!("kill -9 {}", child.id());
                Command::new("sh").args(["-c", &kill]).status().expect("run a shell");
            }
        }
    }

    /// Starts it again where it was, after it was killed.
    #[track_caller]
    pub fn revive(&mut self) {
        match self {
            Node::Ours(server) => server.revive(),
            Node::Theirs { child, port, dir, path } => {
                let _ = child.wait();
                *child = spawn_peer(path, *port, dir, &[]);
                wait_for_peer(*port);
            }
        }
    }

    /// Ends it in good order, and starts it again where it was.
    #[track_caller]
    pub fn restart(&mut self) {
        match self {
            Node::Ours(server) => server.restart(),
            Node::Theirs { .. } => panic!("only ours are started again"),
        }
    }

    /// A field of INFO.
    #[track_caller]
    pub fn info(&self, section: &str, name: &str) -> String {
        field(&mut self.client(), section, name)
    }
}

/// Data can be made up.
const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];
/// Syncs do not wait for more replicas.
const QUICK: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

fn spawn_peer(path: &Path, port: u16, dir: &TempDir, args: &[&str]) -> Child {
    let log = std::fs::File::create(dir.path().join("server.log")).expect("create a log");
    let mut command = Command::new(path);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.arg("--dir").arg(dir.path()).args(QUICK).args(args);
    command.stdin(Stdio::null()).stdout(log).spawn().expect("start a peer")
}

#[track_caller]
fn wait_for_peer(port: u16) {
    wait_until("the peer answers", || {
        let client = Client::try_connect(port);
        client.and_then(|mut client| client.try_cmd(&["PING"])).is_ok()
    });
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Node::Theirs { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A field of INFO; empty if there is none.
#[track_caller]
pub fn field(client: &mut Client, section: &str, name: &str) -> String {
    let text = client.run(&format!("INFO {section}")).text();
    let prefix = format!("{name}:");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
}

/// All keys of a server with their databases, values and when they expire.
#[track_caller]
pub fn content(
    client: &mut Client,
    databases: usize,
) -> BTreeMap<(usize, Vec<u8>), (Vec<u8>, i64)> {
    let mut content = BTreeMap::new();
    let is_old = client.run("PEXPIRETIME no-such-key").is_error();
    for db in 0..databases {
        client.cmd(&["SELECT", &db.to_string()]);
        let mut cursor = "0".to_owned();
        loop {
            let Value::Array(page) = client.cmd(&["SCAN", &cursor, "COUNT", "1000"]) else {
                panic!("no page")
            };
            let [next, Value::Array(keys)] = &page[..] else { panic!("not a page: {page:?}") };
            for key in keys {
                let Value::Bulk(key) = key else { panic!("not a key: {key:?}") };
                let value = match client.cmd_bytes(&[b"GET", key]) {
                    Value::Bulk(value) => value,
                    // It has expired, and whoever says so has not yet.
                    _ => continue,
                };
                let expiry = match is_old {
                    true => 0,
                    false => client.cmd_bytes(&[b"PEXPIRETIME", key]).int(),
                };
                content.insert((db, key.clone()), (value, expiry));
            }
            cursor = next.text();
            if cursor == "0" {
                break;
            }
        }
    }
    client.cmd(&["SELECT", "0"]);
    content
}

/// Waits until a replica has all of its primary's stream, and compares what they hold, key by key.
#[track_caller]
pub fn assert_equal(primary: &Node, replica: &Node) {
    // What is about to expire does, and who is told is told.
    std::thread::sleep(Duration::from_millis(60));
    wait_for_offset(primary, replica);
    let (theirs, ours) = (content(&mut primary.client(), 16), content(&mut replica.client(), 16));
    assert_eq!(theirs.len(), ours.len(), "the number of keys; {}", differences(&theirs, &ours));
    assert!(theirs == ours, "{}", differences(&theirs, &ours));
}

type Content = BTreeMap<(usize, Vec<u8>), (Vec<u8>, i64)>;

fn differences(theirs: &Content, ours: &Content) -> String {
    let only = |one: &Content, other: &Content| {
        let differ = one.iter().filter(|(key, value)| other.get(key) != Some(*value));
        let lines = differ.take(5).map(|((db, key), (value, expiry))| {
            let value = &value[..value.len().min(40)];
            format!("{db}:{} = {} ({expiry})", key.escape_ascii(), value.escape_ascii())
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let (missing, extra) = (only(theirs, ours), only(ours, theirs));
    format!("the primary has\n{missing}\nthe replica has\n{extra}")
}

/// Waits until a replica's offset is its primary's.
#[track_caller]
pub fn wait_for_offset(primary: &Node, replica: &Node) {
    let (mut primary, mut follower) = (primary.client(), replica.client());
    let mut offsets = (String::new(), String::new());
    let deadline = Instant::now() + PATIENCE;
    loop {
        offsets.0 = field(&mut primary, "replication", "master_repl_offset");
        offsets.1 = field(&mut follower, "replication", "slave_repl_offset");
        if !offsets.0.is_empty() && offsets.0 == offsets.1 {
            return;
        }
        let log = || replica.log();
        assert!(Instant::now() < deadline, "the offsets stay apart: {offsets:?}\n{}", log());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

//! Primaries and replicas that are none, or want no good: each ends in a line of the log, and in a server that
//! serves.

use crate::cluster::{Kind, Node, field};
use crate::support::client::encode;
use crate::support::{Client, Value, wait_until};
use redshard::rdb::{Checksum, Version, Writer};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";
const MARK: &str = "abcdefghijklmnopqrstabcdefghijklmnopqrst";

/// A primary that answers the handshake, and then does as it likes with each connection. It ends with the test's
/// process.
struct Impostor {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Impostor {
    fn new(play: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Impostor {
        Impostor::of(move |stream, _| play(stream))
    }

    /// The same, told from which byte on each connection wants the stream.
    fn of(play: impl Fn(&mut TcpStream, i64) + Send + Sync + 'static) -> Impostor {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let (connections, play) = (Arc::new(AtomicUsize::new(0)), Arc::new(play));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let play = Arc::clone(&play);
                thread::spawn(move || {
                    let mut stream = stream;
                    if let Some(from) = introduce(&stream) {
                        play(&mut stream, from);
                    }
                });
            }
        });
        Impostor { port, connections }
    }

    fn came(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Answers everything up to PSYNC, and returns from which byte on that wants the stream.
fn introduce(stream: &TcpStream) -> Option<i64> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream.try_clone().ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
        let mut words = Vec::new();
        for _ in 0..count {
            let (mut header, mut word) = (String::new(), String::new());
            reader.read_line(&mut header).ok()?;
            reader.read_line(&mut word).ok()?;
            words.push(word.trim().to_owned());
        }
        match words[0].as_str() {
            "PING" => writer.write_all(b"+PONG\r\n").ok()?,
            "PSYNC" => return words[2].parse().ok(),
            _ => writer.write_all(b"+OK\r\n").ok()?,
        }
    }
}

/// A file with one key.
fn file() -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    Writer::header(&mut out, Version::V10);
    Writer::select_db(&mut out, 0);
    Writer::new(false).record(
        &mut out,
        b"theirs",
        &redshard::value::string::Str::Bytes(b"data"),
        None,
        redshard::rdb::Usage::None,
    );
    Writer::end(&mut out);
    let sum = Checksum::of(&out).to_le_bytes();
    [&out[..], &sum].concat()
}

fn say(stream: &mut TcpStream, parts: &[&[u8]]) {
    let _ = stream.write_all(&parts.concat());
}

/// Follows an impostor, and waits until it has come back for more: what it was told was of no use.
#[track_caller]
fn rejects(
    shards: usize,
    args: &[&str],
    wanted: &str,
    play: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) {
    let (server, impostor) = (Node::start(&Kind::Redshard(shards), args), Impostor::new(play));
    let mut client = server.client();
    client.cmd(&["SET", "ours", "1"]);
    client.check(&format!("REPLICAOF 127.0.0.1 {}", impostor.port), Value::Simple("OK".into()));
    wait_until("it tries again", || impostor.came() >= 3);
    assert!(server.log().contains(wanted), "no '{wanted}' in\n{}", server.log());
    // What it had is what it has, and it goes on.
    client.check("GET ours", Value::Bulk(b"1".to_vec()));
    client.check("GET theirs", Value::NilBulk);
    client.check("REPLICAOF NO ONE", Value::Simple("OK".into()));
    client.check("SET ours 2", Value::Simple("OK".into()));
    client.check("GET ours", Value::Bulk(b"2".to_vec()));
}

fn full(stream: &mut TcpStream, rest: &[&[u8]]) {
    say(stream, &[b"+FULLRESYNC ", ID.as_bytes(), b" 100\r\n", &rest.concat()]);
}

#[test]
fn what_no_primary_says_is_refused() {
    rejects(1, &[], "Unexpected reply to PSYNC", |s| say(s, &[b"\x00\xffgarbage\r\n"]));
    rejects(2, &[], "wrong +FULLRESYNC", |s| say(s, &[b"+FULLRESYNC x y\r\n"]));
    rejects(1, &[], "line without an end", |s| {
        for _ in 0..10_000 {
            say(s, &[&[b'x'; 4_096]]);
        }
    });
    rejects(2, &[], "not '$'", |s| full(s, &[b"*1\r\n$4\r\nPING\r\n"]));
    rejects(1, &[], "no length", |s| full(s, &[b"$-7\r\n"]));
}

#[test]
fn data_that_is_none_costs_nothing() {
    for shards in [1, 2] {
        rejects(shards, &[], "of no use", |s| full(s, &[b"$100\r\n", &[b'x'; 100]]));
        rejects(shards, &[], "of no use", |s| {
            let mut broken = file();
            let at = broken.len() - 12;
            broken[at] ^= 1;
            full(s, &[b"$", broken.len().to_string().as_bytes(), b"\r\n", &broken]);
        });
        // A set of one member, which cannot be kept here: it costs nothing either.
        rejects(shards, &[], "in key 'list'", |s| {
            let mut out = bytes::BytesMut::new();
            Writer::header(&mut out, Version::V10);
            out.extend_from_slice(b"\x02\x04list\x01\x01m");
            Writer::end(&mut out);
            let sum = Checksum::of(&out).to_le_bytes();
            full(s, &[b"$", (out.len() + 8).to_string().as_bytes(), b"\r\n", &out, &sum]);
        });
        // Its end is not where it says.
        rejects(shards, &[], "of no use", |s| {
            full(s, &[b"$EOF:", MARK.as_bytes(), b"\r\n", &file()[..20], MARK.as_bytes()]);
        });
        // Half of it, and then nothing.
        rejects(shards, &["--repl-timeout", "1"], "Timeout receiving bulk data", |s| {
            full(s, &[b"$EOF:", MARK.as_bytes(), b"\r\n", &file()[..20]]);
            thread::sleep(Duration::from_secs(30));
        });
    }
}

/// Data without an end is bounded by the disk, and ends with the link.
#[test]
fn data_without_an_end_takes_no_memory() {
    let impostor = Impostor::new(|stream| {
        full(stream, &[b"$EOF:", MARK.as_bytes(), b"\r\n", b"REDIS0010"]);
        let mut record = bytes::BytesMut::new();
        for n in 0..u64::MAX {
            record.clear();
            Writer::new(false).record(
                &mut record,
                &n.to_le_bytes(),
                &redshard::value::string::Str::Bytes(&[b'v'; 60_000]),
                None,
                redshard::rdb::Usage::None,
            );
            if stream.write_all(&record).is_err() {
                return;
            }
        }
    });
    let server = Node::start(&Kind::Redshard(2), &[]);
    let Node::Ours(process) = &server else { unreachable!("it is ours") };
    let before = process.rss();
    let mut client = server.client();
    client.check(&format!("REPLICAOF 127.0.0.1 {}", impostor.port), Value::Simple("OK".into()));
    wait_until("much of it has come", || {
        let read = field(&mut client, "replication", "master_sync_read_bytes");
        read.parse::<u64>().is_ok_and(|bytes| bytes > 300_000_000)
    });
    let grown = process.rss().saturating_sub(before);
    assert!(grown < 100_000_000, "{grown} bytes for what goes to the disk");
    client.check("REPLICAOF NO ONE", Value::Simple("OK".into()));
    client.check("SET ours 1", Value::Simple("OK".into()));
    wait_until("nothing is left of it", || {
        crate::support::rdb::files(process.dir()).iter().all(|name| !name.ends_with(".tmp"))
    });
}

/// A server that is to end waits for no data that may never come.
#[test]
fn a_transfer_without_an_end_does_not_hold_up_the_servers_own() {
    let impostor = Impostor::new(|stream| {
        full(stream, &[b"$1000000\r\n", &file()[..20]]);
        thread::sleep(Duration::from_secs(60));
    });
    for shards in [1, 2] {
        let mut server = Node::start(&Kind::Redshard(shards), &[]);
        let mut client = server.client();
        client.check(&format!("REPLICAOF 127.0.0.1 {}", impostor.port), Value::Simple("OK".into()));
        wait_until("data comes", || {
            field(&mut client, "replication", "master_sync_in_progress") == "1"
        });
        let Node::Ours(process) = &mut server else { unreachable!("it is ours") };
        process.signal(15);
        process.wait_exit();
        let log = process.log();
        assert!(log.contains("bye bye") && !log.contains("gives up"), "{log}");
        let left = crate::support::rdb::files(process.dir());
        assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
    }
}

/// Commands of the stream that fail are counted, and the rest of it runs.
#[test]
fn commands_that_fail_do_not_end_the_stream() {
    for shards in [1, 4] {
        let impostor = Impostor::new(|stream| {
            let file = file();
            full(stream, &[b"$", file.len().to_string().as_bytes(), b"\r\n", &file]);
            let lines: [&[&[u8]]; 7] = [
                &[b"SELECT", b"0"],
                &[b"NOSUCHCOMMAND", b"a", b"b"],
                &[b"SET", b"text", b"x"],
                &[b"INCR", b"text"],
                &[b"LPUSH", b"list", b"1"],
                &[b"MULTI"],
                &[b"EXEC"],
            ];
            lines.iter().for_each(|line| say(stream, &[&encode(line)]));
            say(stream, &[&encode(&[b"SET", b"last", b"1"])]);
            let _ = stream.read(&mut [0; 1]);
            thread::sleep(Duration::from_secs(60));
        });
        let server = Node::start(&Kind::Redshard(shards), &[]);
        let mut client = server.client();
        client.check(&format!("REPLICAOF 127.0.0.1 {}", impostor.port), Value::Simple("OK".into()));
        client.wait_for("GET last", Value::Bulk(b"1".to_vec()));
        client.check("GET theirs", Value::Bulk(b"data".to_vec()));
        wait_until("they are counted", || {
            field(&mut client, "replication", "replication_failed_commands") == "3"
        });
        assert_eq!(field(&mut client, "replication", "master_link_status"), "up");
    }
}

/// A link that is lost right behind a transaction that selects another database goes on in that one.
#[test]
fn a_stream_goes_on_in_the_database_that_a_transaction_has_selected() {
    const FIRST: i64 = 101;
    const ROUNDS: usize = 60;
    for shards in [1, 4] {
        let said: Mutex<(Vec<u8>, usize)> = Mutex::default();
        let impostor = Impostor::of(move |stream, from| {
            let mut said = said.lock().expect("nobody has panicked");
            let (said, round) = &mut *said;
            let known = match usize::try_from(from - FIRST) {
                Ok(known) => {
                    say(stream, &[b"+CONTINUE\r\n"]);
                    known
                }
                // It has yet to follow this one.
                Err(_) => {
                    let file = file();
                    full(stream, &[b"$", file.len().to_string().as_bytes(), b"\r\n", &file]);
                    0
                }
            };
            if *round < ROUNDS {
                *round += 1;
                let (key, other) = (format!("k{round}"), format!("{round}k"));
                let db = (*round % 3).to_string();
                for words in [
                    &[b"SET", key.as_bytes(), b"1"][..],
                    &[b"MULTI"],
                    &[b"SELECT", db.as_bytes()],
                    &[b"SET", key.as_bytes(), b"2"],
                    &[b"SET", other.as_bytes(), b"2"],
                    &[b"EXEC"],
                ] {
                    said.extend_from_slice(&encode(words));
                }
                say(stream, &[&said[known..]]);
                // What it has said meanwhile is read, so that what was sent arrives.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            } else {
                say(stream, &[&said[known..], &encode(&[b"SET", b"last", b"1"])]);
                thread::sleep(Duration::from_secs(60));
            }
        });
        let server = Node::start(&Kind::Redshard(shards), &[]);
        let mut client = server.client();
        client.check(&format!("REPLICAOF 127.0.0.1 {}", impostor.port), Value::Simple("OK".into()));
        client.wait_for("GET last", Value::Bulk(b"1".to_vec()));
        for round in 1..=ROUNDS {
            let (before, db) = ((round - 1) % 3, round % 3);
            client.check(&format!("SELECT {before}"), Value::Simple("OK".into()));
            client.check(&format!("GET k{round}"), Value::Bulk(b"1".to_vec()));
            client.check(&format!("SELECT {db}"), Value::Simple("OK".into()));
            client.check(&format!("GET k{round}"), Value::Bulk(b"2".to_vec()));
        }
    }
}

/// A stream that is no RESP ends the link.
#[test]
fn a_stream_that_is_none_ends_the_link() {
    let impostor = Impostor::new(|stream| {
        let file = file();
        full(stream, &[b"$", file.len().to_string().as_bytes(), b"\r\n", &file]);
        say(stream, &[b"*1\r\n!garbage\r\n"]);
        thread::sleep(Duration::from_secs(60));
    });
    let server = Node::start(&Kind::Redshard(2), &[]);
    let mut client = server.client();
    client.check(&format!("REPLICAOF 127.0.0.1 {}", impostor.port), Value::Simple("OK".into()));
    wait_until("it tries again", || impostor.came() >= 2);
    client.check("REPLICAOF NO ONE", Value::Simple("OK".into()));
    client.check("SET ours 1", Value::Simple("OK".into()));
}

#[test]
fn a_replica_that_lies_is_let_go() {
    for shards in [1, 2] {
        let server = Node::start(&Kind::Redshard(shards), &[]);
        let mut liar = Client::connect(server.port());
        liar.send("REPLCONF capa eof capa psync2");
        liar.read_reply();
        liar.send("PSYNC ? -1");
        let mut client = server.client();
        wait_until("it is seen", || field(&mut client, "replication", "connected_slaves") == "1");
        client.cmd(&["SET", "k", "v"]);
        liar.send("REPLCONF ACK 99999999999");
        wait_until("it is gone", || field(&mut client, "replication", "connected_slaves") == "0");
        client.check("WAIT 1 50", Value::Int(0));
        client.check("SET k v", Value::Simple("OK".into()));
    }
}

/// What stands in a replica's stream is the stream: who says what would be replied to goes, and it is not run.
#[test]
fn a_replica_that_sends_commands_is_let_go() {
    for (shards, said, wanted) in [
        (1, "PING", "Replica generated a reply to command 'ping', disconnecting it"),
        (2, "SLOWLOG GET", "Replica generated a reply to command 'slowlog|get', disconnecting it"),
        (2, "SET k theirs", "'Replica can't interact with the keyspace'"),
        (1, "NOSUCH", "Replica generated a reply to command 'nosuch', disconnecting it"),
    ] {
        let server = Node::start(&Kind::Redshard(shards), &[]);
        let mut confused = Client::connect(server.port());
        confused.send("PSYNC ? -1");
        let mut client = server.client();
        wait_until("it is seen", || field(&mut client, "replication", "connected_slaves") == "1");
        client.cmd(&["SET", "k", "ours"]);
        confused.send(said);
        wait_until("it is gone", || field(&mut client, "replication", "connected_slaves") == "0");
        assert!(server.log().contains(wanted), "no '{wanted}' in\n{}", server.log());
        client.check("GET k", Value::Bulk(b"ours".to_vec()));
    }
}

/// What was owed before PSYNC is owed no more after it: it is refused while anything is.
#[test]
fn psync_in_a_pipeline_does_not_mix_streams() {
    for shards in [1, 4] {
        let server = Node::start(&Kind::Redshard(shards), &[]);
        let mut mixed = Client::connect(server.port());
        let mut pipeline = Vec::new();
        for n in 0..50 {
            pipeline.extend_from_slice(&encode(&[b"SET", format!("k{n}").as_bytes(), b"v"]));
        }
        pipeline.extend_from_slice(&encode(&[b"PSYNC", b"?", b"-1"]));
        pipeline.extend_from_slice(&encode(&[b"GET", b"k1"]));
        mixed.send_raw(&pipeline);
        for _ in 0..50 {
            mixed.expect(Value::Simple("OK".into()));
        }
        // Either it is refused, and the client goes on; or it is a replica from here on.
        let reply = mixed.read_sync_reply();
        let is_replica = matches!(&reply, Value::Simple(line) if line.starts_with("FULLRESYNC"));
        assert!(is_replica || reply.is_error(), "{reply:?}");
        let mut client = server.client();
        client.check("PING", Value::Simple("PONG".into()));
        client.check("GET k49", Value::Bulk(b"v".to_vec()));
    }
}

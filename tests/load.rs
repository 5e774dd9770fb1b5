//! Loading at the start: files of real servers and files made by hand, files that are wrong, and what
//! clients are told meanwhile.

mod support;

use bytes::BytesMut;
use redshard::rdb::{Checksum, Usage, Version, Writer};
use redshard::value::string::Str;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::*;

/// A process that ends with its owner.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server in a directory that stays, with what it prints.
struct Here {
    process: Kept,
    port: u16,
    log: std::path::PathBuf,
}

impl Here {
    fn start(shards: usize, dir: &Path, args: &[&str]) -> Here {
        let (port, log) = (free_port(), dir.join("log"));
        Here { process: Kept(Launch::new(shards).args(args).spawn(port, dir, &log)), port, log }
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// A client, as soon as there can be one.
    fn client(&self) -> Client {
        wait_until("it listens", || Client::try_connect(self.port).is_ok());
        Client::connect(self.port)
    }

    /// A client, as soon as everything is loaded.
    fn loaded(&self) -> Client {
        let mut c = self.client();
        wait_until("it has loaded", || info(&mut c, "loading") == "0");
        c
    }
}

/// A field of INFO persistence.
fn info(c: &mut Client, name: &str) -> String {
    let text = c.run("INFO persistence").text();
    let prefix = format!("{name}:");
    let found = text.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn is_ours() -> bool {
    reference().is_none()
}

/// The bytes of a file, from its records.
fn file(version: Version, records: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    Writer::header(&mut out, version);
    records(&mut out);
    Writer::end(&mut out);
    let checksum = Checksum::of(&out).to_le_bytes();
    out.extend_from_slice(&checksum);
    out.to_vec()
}

fn record(out: &mut BytesMut, key: &str, value: &str, expiry_ms: Option<i64>, usage: Usage) {
    let value = Str::Bytes(value.as_bytes());
    Writer::new(true).record(out, key.as_bytes(), &value, expiry_ms, usage);
}

fn numbered(keys: usize) -> Vec<u8> {
    file(Version::V10, |out| {
        for i in 0..keys {
            record(out, &format!("key:{i}"), &format!("value:{i}"), None, Usage::None);
        }
    })
}

/// All that a server holds: database, key, value, when it expires.
fn content(c: &mut Client, databases: usize) -> Vec<(usize, Vec<u8>, Vec<u8>, i64)> {
    let mut all = Vec::new();
    for db in 0..databases {
        c.check(&format!("SELECT {db}"), ok());
        let mut keys: Vec<Vec<u8>> =
            c.run("KEYS *").items().iter().map(|key| key.bytes().to_vec()).collect();
        keys.sort();
        for key in keys {
            let value = c.cmd_bytes(&[b"GET", &key]).bytes().to_vec();
            let expires = c.cmd_bytes(&[b"PEXPIRETIME", &key]).int();
            all.push((db, key, value, expires));
        }
    }
    all
}

#[test]
fn what_a_real_server_saved_is_loaded() {
    if !is_ours() {
        return;
    }
    let real = tool("redis-server", "redis-server");
    let (dir, port) = (TempDir::new(), free_port());
    let mut command = Command::new(real);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--maxmemory-policy", "allkeys-lru", "--dir"]).arg(dir.path());
    command.stdout(Stdio::null());
    let theirs = Kept(command.spawn().expect("start it"));
    wait_until("it answers", || {
        Client::try_connect(port).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
    });
    let mut c = Client::connect(port);
    let noise: Vec<u8> =
        (0..70_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for db in 0..16 {
        c.check(&format!("SELECT {db}"), ok());
        for (i, number) in
            ["0", "-1", "127", "-129", "70000", "-2147483649", "007"].iter().enumerate()
        {
            c.check(&format!("SET number:{i} {number}"), ok());
        }
        assert_eq!(c.cmd_bytes(&[b"SET", b"\x00\xff\r\n binary", &noise[..300]]), ok());
        assert_eq!(c.cmd_bytes(&[b"SET", &[b'k'; 5_000], &noise]), ok());
        assert_eq!(c.cmd_bytes(&[b"SET", b"packed", &[b'a'; 40_000]]), ok());
        assert_eq!(c.cmd_bytes(&[b"SET", b"", b""]), ok());
        c.check(&format!("SET later x PX {}", 10_000_000 + db), ok());
        c.check("SET soon x PX 1", ok());
    }
    let expected = content(&mut c, 16);
    c.check("SAVE", ok());
    drop(theirs);
    for &shards in shard_counts() {
        let server = Here::start(shards, dir.path(), &[]);
        let mut c = server.loaded();
        assert!(content(&mut c, 16) == expected, "{shards} shards");
        let loaded = info(&mut c, "rdb_last_load_keys_loaded").parse::<usize>();
        assert_eq!(loaded, Ok(expected.len()));
        assert_eq!(info(&mut c, "rdb_changes_since_last_save"), "0");
        let log = server.log();
        let place = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log}"));
        assert!(place("Server initialized") < place("Loading RDB produced by version"));
        assert!(place("Done loading RDB, keys loaded: ") < place("DB loaded from disk: "));
        assert!(place("DB loaded from disk: ") < place("Ready to accept connections"));
    }
}

#[test]
fn how_keys_were_used_and_when_they_expire_comes_along() {
    if !is_ours() {
        return;
    }
    const LATER_MS: i64 = 4_000_000_000_123;
    for version in [Version::V10, Version::V11, Version::V12, Version::VALKEY80] {
        let dir = TempDir::new();
        let bytes = file(version, |out| {
            Writer::aux(out, b"used-mem", b"1000");
            Writer::function(out, b"#!lua name=kept");
            Writer::resize_db(out, 4, 2);
            record(out, "idle", "x", None, Usage::Idle(5_000));
            record(out, "often", "x", None, Usage::Freq(200));
            record(out, "later", "x", Some(LATER_MS), Usage::None);
            record(out, "over", "x", Some(1), Usage::None);
        });
        fs::write(dir.path().join("dump.rdb"), bytes).expect("write the file");
        for &shards in shard_counts() {
            let server = Here::start(shards, dir.path(), &[]);
            let mut c = server.loaded();
            c.check("DBSIZE", int(3));
            c.check("PEXPIRETIME later", int(LATER_MS));
            let idle = c.run("OBJECT IDLETIME idle").int();
            assert!((5_000..5_100).contains(&idle), "{idle}");
            assert_eq!(info(&mut c, "rdb_last_load_keys_expired"), "1");
        }
        let server = Here::start(2, dir.path(), &["--maxmemory-policy", "allkeys-lfu"]);
        let mut c = server.loaded();
        c.check("OBJECT FREQ often", int(200));
    }
}

#[test]
fn a_file_that_is_wrong_ends_the_start() {
    if !is_ours() {
        return;
    }
    let good = numbered(1_000);
    let mut flipped = good.clone();
    *flipped.last_mut().expect("a checksum") ^= 1;
    let hash = file(Version::V10, |out| {
        record(out, "first", "1", None, Usage::None);
        out.extend_from_slice(b"\x04\x06a-hash\x01\x01f\x01v");
    });
    let twice = file(Version::V10, |out| {
        record(out, "first", "1", None, Usage::None);
        record(out, "first", "2", None, Usage::None);
    });
    let beyond = file(Version::V10, |out| {
        Writer::select_db(out, 16);
        record(out, "first", "1", None, Usage::None);
    });
    let cases: [(&[u8], &str); 7] = [
        (&good[..good.len() / 2], "at byte"),
        (&flipped, "Wrong RDB checksum"),
        (&hash, "type hash (4) is not supported yet at byte 18, in key 'a-hash'"),
        (&twice, "Duplicate key at byte 18, in key 'first'"),
        (&beyond, "Database 16 where this server is configured to handle 16 databases"),
        (b"something else altogether", "Wrong signature"),
        (b"", "at byte 0"),
    ];
    for (bytes, reason) in cases {
        for &shards in shard_counts() {
            let dir = TempDir::new();
            let path = dir.path().join("dump.rdb");
            fs::write(&path, bytes).expect("write the file");
            let mut server = Here::start(shards, dir.path(), &[]);
            assert_eq!(wait_exit(&mut server.process.0).code(), Some(1));
            let log = server.log();
            assert!(log.contains("Can't load ") && log.contains(reason), "{reason}:\n{log}");
            assert!(log.contains("dump.rdb: "), "{log}");
            assert!(!log.contains("Ready to accept connections"), "{log}");
            assert_eq!(fs::read(&path).expect("it is still there"), bytes);
        }
    }
    // Nobody has looked at the checksum.
    let dir = TempDir::new();
    fs::write(dir.path().join("other.rdb"), flipped).expect("write the file");
    let args = ["--rdbchecksum", "no", "--dbfilename", "other.rdb"];
    let server = Here::start(2, dir.path(), &args);
    server.loaded().check("DBSIZE", int(1_000));
    // What cannot be read is no less wrong.
    fs::create_dir(dir.path().join("dump.rdb")).expect("a directory");
    let mut server = Here::start(2, dir.path(), &[]);
    assert_eq!(wait_exit(&mut server.process.0).code(), Some(1));
    assert!(server.log().contains("dump.rdb: Is a directory"), "{}", server.log());
    // Nobody waits for who would write to a pipe.
    let dir = TempDir::new();
    let made = Command::new("mkfifo").arg(dir.path().join("dump.rdb")).status();
    assert!(made.expect("mkfifo runs").success());
    let mut server = Here::start(2, dir.path(), &[]);
    assert_eq!(wait_exit(&mut server.process.0).code(), Some(1));
    assert!(server.log().contains("not a regular file"), "{}", server.log());
}

#[test]
fn clients_are_told_that_it_is_loading() {
    if !is_ours() {
        return;
    }
    let dir = TempDir::new();
    fs::write(dir.path().join("dump.rdb"), numbered(100_000)).expect("write the file");
    for &shards in shard_counts() {
        let admin = free_port().to_string();
        let args =
            ["--key-load-delay", "1000", "--admin-port", &admin, "--admin-bind", "127.0.0.1"];
        let server = Here::start(shards, dir.path(), &args);
        let mut c = server.client();
        let loading = || error("LOADING Redis is loading the dataset in memory");
        assert_eq!(info(&mut c, "loading"), "1");
        for line in
            ["PING", "GET key:1", "SET a b", "MSET a 1 b 2 c 3", "DBSIZE", "FLUSHALL", "SCAN 0"]
        {
            c.check(line, loading());
        }
        c.check("SELECT 0", ok());
        c.check("CLIENT SETNAME me", ok());
        assert!(c.run("LASTSAVE").int() > 0);
        c.check("MULTI", ok());
        c.check("GET key:1", loading());
        c.check_error_prefix("EXEC", "EXECABORT");
        c.check("MULTI", ok());
        c.check("EXEC", array([]));
        for (name, least) in [("loading_total_bytes", 1), ("loading_start_time", 1)] {
            assert!(info(&mut c, name).parse::<u64>().expect("a number") >= least, "{name}");
        }
        wait_until("it moves", || info(&mut c, "rdb_last_load_keys_loaded") != "0");
        let health = health(&admin);
        assert!(health.starts_with("HTTP/1.1 503") && health.contains("loading: "), "{health}");
        assert!(!server.log().contains("Ready to accept connections"));
        c.check("CONFIG SET key-load-delay 0", ok());
        wait_until("it has loaded", || info(&mut c, "loading") == "0");
        c.wait_for("GET key:99999", bulk("value:99999"));
        c.check("DBSIZE", int(100_000));
        assert!(self::health(&admin).starts_with("HTTP/1.1 200"));
        assert!(!c.run("INFO persistence").text().contains("loading_total_bytes"));
    }
}

fn health(port: &str) -> String {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connect");
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").expect("ask");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// A server that is told to stop, or killed, while it loads has changed nothing.
#[test]
fn a_load_may_be_ended_at_any_time() {
    if !is_ours() {
        return;
    }
    let (dir, bytes) = (TempDir::new(), numbered(300_000));
    fs::write(dir.path().join("dump.rdb"), &bytes).expect("write the file");
    fs::write(dir.path().join("dump.rdb.4194999.tmp"), "half of one").expect("write a file");
    for &shards in shard_counts() {
        for (line, code) in [("SHUTDOWN NOSAVE", Some(0)), ("kill", None)] {
            let mut server = Here::start(shards, dir.path(), &["--key-load-delay", "100"]);
            let mut c = server.client();
            wait_until("it moves", || info(&mut c, "rdb_last_load_keys_loaded") != "0");
            match line {
                "kill" => server.process.0.kill().expect("kill it"),
                line => c.send(line),
            }
            assert_eq!(wait_exit(&mut server.process.0).code(), code);
            let names = fs::read_dir(dir.path()).expect("list it");
            let mut names: Vec<_> = names.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            assert_eq!(names, ["dump.rdb", "log"]);
            assert!(fs::read(dir.path().join("dump.rdb")).expect("read it") == bytes);
        }
    }
}

//! `redshard check-rdb`: what it says of files, good and bad, and by which names it is called.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bytes::BytesMut;
use redshard::rdb::{Checksum, Usage, Version, Writer};
use redshard::value::string::Str;
use support::*;

const BINARY: &str = env!("CARGO_BIN_EXE_redshard");

fn check(file: &Path) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("check-rdb").arg(file).stdin(Stdio::null()).output().expect("run the checker")
}

/// What it says of a file that is good.
#[track_caller]
fn good(file: &Path) -> String {
    let output = check(file);
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success() && output.stderr.is_empty(), "{said}");
    said
}

/// What it says of one that is not.
#[track_caller]
fn bad(file: &Path) -> String {
    let output = check(file);
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// Two databases, expiries long ago and far away, a function.
fn sample() -> Vec<u8> {
    let (mut out, mut writer) = (BytesMut::new(), Writer::new(true));
    Writer::header(&mut out, Version::V10);
    Writer::aux(&mut out, b"redis-ver", b"7.0.0");
    Writer::function(&mut out, b"#!lua name=lib\n");
    Writer::select_db(&mut out, 0);
    Writer::resize_db(&mut out, 3, 2);
    writer.record(&mut out, b"one", &Str::Int(1), None, Usage::None);
    writer.record(&mut out, b"old", &Str::Bytes(b"x"), Some(1_000), Usage::Idle(7));
    writer.record(&mut out, b"new", &Str::Bytes(b"x"), Some(i64::MAX), Usage::Freq(7));
    Writer::select_db(&mut out, 9);
    writer.record(&mut out, b"long", &Str::Bytes(&[b'l'; 500]), None, Usage::None);
    Writer::end(&mut out);
    let checksum = Checksum::of(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.to_vec()
}

#[test]
fn a_good_file() {
    let dir = TempDir::new();
    let file = dir.path().join("dump.rdb");
    fs::write(&file, sample()).expect("write a file");
    let end = sample().len();
    let expected = [
        format!("[offset 0] Checking RDB file {}", file.display()),
        "[offset 9] RDB version 10".into(),
        "[offset 26] AUX FIELD redis-ver = '7.0.0'".into(),
        "[offset 48] DB 0 announces 3 keys, 2 with an expiry".into(),
        "[offset 55] Selecting DB ID 0".into(),
    ];
    let said = good(&file);
    assert_eq!(said.lines().take(5).collect::<Vec<_>>(), expected, "{said}");
    for line in [
        &format!("[offset {end}] Checksum OK"),
        &format!("[offset {end}] \\o/ RDB looks OK! \\o/"),
        "[info] RDB version 10",
        "[info] 4 keys read",
        "[info] 2 expires",
        "[info] 1 already expired",
        "[info] 1 functions",
        "[info] db 0: 3 of type string, 2 expires, 1 already expired",
        "[info] db 9: 1 of type string, 0 expires, 0 already expired",
    ] {
        assert!(said.lines().any(|said| said == line), "no {line:?} in:\n{said}");
    }
    let mut more = sample();
    more.extend_from_slice(b"tail");
    fs::write(&file, &more).expect("write a file");
    assert!(good(&file).contains("\n[info] 4 bytes follow the end\n"));
    // Nobody has computed a checksum.
    fs::write(&file, [&sample()[..end - 8], &[0; 8]].concat()).expect("write a file");
    assert!(good(&file).contains("Checksum not there\n"));
}

#[test]
fn a_bad_file_is_told_by_its_first_fault() {
    let dir = TempDir::new();
    let file = dir.path().join("dump.rdb");
    let whole = sample();
    let told = |bytes: &[u8]| {
        fs::write(&file, bytes).expect("write a file");
        let said = bad(&file);
        let (_, fault) = said.split_once("--- RDB ERROR DETECTED ---\n").expect("a fault");
        assert!(!said.contains("looks OK") && said.contains("[info] "), "{said}");
        fault.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(told(b""), "[offset 0] The input ends in the middle at byte 0");
    assert_eq!(told(b"REDIS0099"), "[offset 0] Can't handle RDB format version 99 at byte 0");
    assert_eq!(told(b"not a file"), "[offset 0] Wrong signature: not an RDB file at byte 0");
    let cut = told(&whole[..whole.len() - 20]);
    assert!(cut.contains("A length of ") && cut.ends_with(", in key 'long'"), "{cut}");
    let cut = told(&whole[..whole.len() - 8]);
    assert!(cut.contains("The input ends in the middle"), "{cut}");
    let mut flipped = whole.clone();
    flipped[11] ^= 1;
    let sum = told(&flipped);
    assert!(sum.starts_with(&format!("[offset {}] Wrong RDB checksum", whole.len() - 8)), "{sum}");
}

#[test]
fn what_is_no_file() {
    let dir = TempDir::new();
    for path in [dir.path().join("none"), dir.path().to_owned()] {
        let output = check(&path);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(said.starts_with(&format!("{}: ", path.display())), "{said}");
    }
}

#[test]
fn it_goes_by_the_names_of_the_peers_too() {
    let dir = TempDir::new();
    let file = dir.path().join("dump.rdb");
    fs::write(&file, sample()).expect("write a file");
    for name in ["redis-check-rdb", "valkey-check-rdb"] {
        let link = dir.path().join(name);
        std::os::unix::fs::symlink(BINARY, &link).expect("make a link");
        let output = Command::new(&link).arg(&file).output().expect("run the link");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).expect("text"), good(&file));
        let output = Command::new(&link).output().expect("run the link");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("<FILE>"), "{output:?}");
    }
}

/// Servers that this machine has.
fn peers() -> Vec<PathBuf> {
    let mut peers = vec![tool("redis-server", "redis-server")];
    peers.extend(std::env::var_os("REDSHARD_TEST_PEERS").iter().flat_map(std::env::split_paths));
    peers
}

/// Values of every type, small ones and some that are too large to be packed.
fn fill(c: &mut Client) {
    let many: Vec<String> = (0..300).map(|i| format!("element {i}")).collect();
    for (add, key, pairs) in [
        ("RPUSH", "list", false),
        ("SADD", "set", false),
        ("HSET", "hash", true),
        ("ZADD", "zset", true),
    ] {
        for (size, elements) in [("small", &many[..3]), ("large", &many[..])] {
            let key = format!("{key}:{size}");
            let mut command = vec![add.to_owned(), key];
            for (i, element) in elements.iter().enumerate() {
                match (add, pairs) {
                    ("ZADD", _) => command.extend([format!("{i}.5"), element.clone()]),
                    (_, true) => command.extend([element.clone(), format!("value {i}")]),
                    _ => command.push(element.clone()),
                }
            }
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            assert!(c.cmd(&words).int() > 0);
        }
    }
    c.check("SADD set:ints 1 2 70000", int(3));
    for i in 0..200 {
        c.cmd(&["XADD", "stream", "*", "field", &format!("value {i}")]);
    }
    c.check("XGROUP CREATE stream group 0", ok());
    c.cmd(&["XREADGROUP", "GROUP", "group", "consumer", "COUNT", "7", "STREAMS", "stream", ">"]);
    c.check("SELECT 5", ok());
    c.check("SET text value EX 100000", ok());
    c.check("SET number 12345", ok());
    c.cmd(&["SET", "long", &"a long text ".repeat(100)]);
    c.check("SELECT 0", ok());
    let code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    assert_eq!(c.cmd(&["FUNCTION", "LOAD", code]).text(), "lib");
}

#[test]
fn every_type_of_a_real_server() {
    for peer in peers() {
        let (dir, port) = (TempDir::new(), free_port());
        let mut command = Command::new(peer);
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"]);
        command.arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().expect("start the peer");
        wait_until("the peer answers", || {
            Client::try_connect(port).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
        });
        let mut c = Client::connect(port);
        fill(&mut c);
        c.check("SAVE", ok());
        child.kill().and_then(|()| child.wait()).expect("end the peer");
        let said = good(&dir.path().join("dump.rdb"));
        for line in [
            "[info] 13 keys read",
            "[info] 1 expires",
            "[info] 1 functions",
            "[info] db 0: 2 of type list, 0 expires, 0 already expired",
            "[info] db 0: 3 of type set, 0 expires, 0 already expired",
            "[info] db 0: 2 of type hash, 0 expires, 0 already expired",
            "[info] db 0: 2 of type zset, 0 expires, 0 already expired",
            "[info] db 0: 1 of type stream, 0 expires, 0 already expired",
            "[info] db 5: 3 of type string, 1 expires, 0 already expired",
            "[info] type stream is not supported yet: this server refuses the file",
        ] {
            assert!(said.lines().any(|said| said == line), "no {line:?} in:\n{said}");
        }
    }
}

//! Configuration: files of the peers, flags, standard input, CONFIG GET, SET and REWRITE, and what is refused.
//!
//! `config-files/` holds what the peers' own files say, as facts: names and values. Where the real file is there
//! (tests/conformance/fetch), the server starts from it, too.

mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use redshard::base::hash::Random;
use redshard::config::parse;
use redshard::config::rewrite::{self, Extent};
use redshard::config::{Config, ConfigError};
use support::*;

/// Mutated files that are read in this process, and of them those that the real server is given too.
const MUTATIONS: u64 = 1_000;
const STARTS: u64 = 40;

const PEERS: [&str; 2] = ["redis-7.0.txt", "valkey-9.1.txt"];

/// What a peer's file sets, and what it offers in comments: a directive a line.
fn peers_lines(name: &str) -> (Vec<String>, Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config-files").join(name);
    let text = fs::read_to_string(path).expect("read the facts");
    let offered = text.lines().filter_map(|line| line.strip_prefix("#? ")).map(String::from);
    (active(&text), offered.collect())
}

fn active(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(String::from).collect()
}

/// Debian's redis.conf, out of its source package.
fn real_file() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/conformance/redis/redis.conf");
    let text = fs::read_to_string(&path);
    assert!(
        text.is_ok() || std::env::var_os("CI").is_none(),
        "no {}: tests/conformance/fetch gets it (tests/run does it)",
        path.display()
    );
    text.ok()
}

fn serve(arguments: &[&str]) -> Result<Config, ConfigError> {
    let arguments: Vec<Vec<u8>> = arguments.iter().map(|argument| (*argument).into()).collect();
    Ok(parse::start_line(&arguments)?.expect("a configuration, not the help"))
}

fn get(client: &mut Client, name: &str) -> String {
    client.cmd(&["CONFIG", "GET", name]).items()[1].text()
}

fn written(dir: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).expect("write a file");
    path
}

/// The text of a peer's file for a machine on which the peer isn't installed: its directory is another one.
fn with_dir(text: &str, dir: &Path) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix("dir ") {
        Some(path) if !Path::new(path).is_dir() => format!("dir {}\n", dir.display()),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// What a test has to have its own way about: flags, so the file stays as it is.
const OURS: [&str; 6] = ["--daemonize", "no", "--logfile", "", "--pidfile", ""];

#[test]
fn the_peers_files_start_it() {
    let mut texts: Vec<String> = PEERS.map(|name| peers_lines(name).0.join("\n")).to_vec();
    if reference().is_some() {
        texts.remove(0); // Each peer knows its own file.
    } else if let Some(real) = real_file() {
        assert_eq!(active(&real), active(&texts[0]), "redis-7.0.txt says what redis.conf says");
        texts.push(real);
    }
    // Several lines for one option, or flags of ours in their place.
    let apart =
        ["bind", "port", "dir", "daemonize", "logfile", "pidfile", "client-output-buffer-limit"];
    for text in texts {
        let dir = TempDir::new();
        let file = written(&dir, "peer.conf", with_dir(&text, dir.path()));
        let server = Launch::new(2).file(&file).args(&OURS).start();
        let mut c = server.client();
        c.check("SET k v", ok());
        for line in active(&text) {
            let (name, value) = line.split_once(' ').expect("a name and a value");
            if apart.contains(&name) {
                continue;
            }
            let value = value.trim_matches('"');
            let value = match value.strip_suffix("mb") {
                Some(megabytes) => (megabytes.parse::<u64>().expect("a number") << 20).to_string(),
                None => value.to_owned(),
            };
            assert_eq!(get(&mut c, name), value, "{line}");
        }
        let limits = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(get(&mut c, "client-output-buffer-limit"), limits);
        // Who takes the file over is told what does nothing here, once.
        if reference().is_none() {
            let log = server.log();
            let notice = log.lines().filter(|line| line.contains("have no effect here")).count();
            assert!(notice <= 1, "{log}");
        }
    }
}

#[test]
fn every_directive_the_peers_offer_is_known() {
    let dir = TempDir::new();
    for name in PEERS {
        for line in peers_lines(name).1 {
            let file = written(&dir, "one.conf", &line);
            match serve(&[file.to_str().expect("a UTF-8 path")]) {
                Ok(_) => assert!(!line.starts_with("include") || line.contains('*'), "{line}"),
                Err(error) => {
                    assert!(line.starts_with("include"), "{line}: {error}");
                    assert!(error.to_string().contains("No such file"), "{error}");
                }
            }
        }
    }
}

#[test]
fn directives_without_meaning_are_named_and_kept() {
    if reference().is_some() {
        return;
    }
    let dir = TempDir::new();
    let text =
        "io-threads 4\nactivedefrag yes\nuser alice on >pw\nuser bob on\nloadmodule /x.so\nx.y 1\n";
    let server = Launch::new(1).file(&written(&dir, "c.conf", text)).start();
    let log = server.log();
    let notices: Vec<&str> =
        log.lines().filter(|line| line.contains("have no effect here")).collect();
    assert_eq!(notices.len(), 1, "{log}");
    for name in ["io-threads", "activedefrag", "user", "loadmodule", "x.y"] {
        assert_eq!(notices[0].matches(name).count(), 1, "{name}: {}", notices[0]);
    }
    assert_eq!(get(&mut server.client(), "io-threads"), "4");
}

// ---- hostile files -------------------------------------------------------------------------------------------------

/// A peer's file with a few accidents.
fn mutated(random: &mut Random, base: &[String]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = base.iter().map(|line| line.clone().into_bytes()).collect();
    for _ in 0..1 + random.below(4) {
        accident(random, &mut lines);
    }
    lines.join(&b'\n')
}

fn accident(random: &mut Random, lines: &mut Vec<Vec<u8>>) {
    const ODD: [&str; 20] = [
        "",
        "\"",
        "'",
        "\"\"",
        "-1",
        "0",
        "99999999999999999999",
        "yes",
        "no",
        "1kb",
        "1e9",
        "0x10",
        "%",
        "100%",
        "\"\\x00\\xff\"",
        "a b c d e f g",
        "/",
        "../..",
        "-",
        "--port",
    ];
    let pick = |random: &mut Random, len: usize| random.below(len as u64) as usize;
    let at = pick(random, lines.len());
    match random.below(12) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[pick(random, lines.len())].clone()),
        2 => {
            let other = pick(random, lines.len());
            lines.swap(at, other);
        }
        3 => lines[at].truncate(random.below(40) as usize),
        4 if !lines[at].is_empty() => {
            let byte = pick(random, lines[at].len());
            lines[at][byte] = random.below(256) as u8;
        }
        5 => {
            let place = pick(random, lines[at].len() + 1);
            lines[at].insert(place, b"\"'\\ \t\0\r#*"[pick(random, 9)]);
        }
        // The name stays, the value is an odd one.
        6..=8 => {
            let name = lines[at].split(|byte| *byte == b' ').next().unwrap_or_default();
            let odd = ODD[pick(random, ODD.len())].as_bytes();
            lines[at] = [name, b" ", odd].concat();
        }
        9 => {
            let other = lines[pick(random, lines.len())].clone();
            lines[at].extend_from_slice(&other);
        }
        10 => lines[at] = vec![b'x'; 1 + random.below(100_000) as usize],
        _ => lines[at] = (0..random.below(60)).map(|_| random.below(256) as u8).collect(),
    }
    if lines.is_empty() {
        lines.push(Vec::new());
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Every file starts a server, or is refused with the file and the line.
#[test]
fn a_thousand_mutated_files_are_read_or_refused() {
    let dir = TempDir::new();
    let bases = PEERS.map(|name| {
        let (mut lines, offered) = peers_lines(name);
        lines.extend(offered.into_iter().filter(|line| !line.starts_with("include")));
        lines.retain(|line| !line.starts_with("dir "));
        lines
    });
    let first = setting("REDSHARD_SEED", 1);
    let (mut read, mut refused) = (0, 0);
    for seed in first..first + setting("REDSHARD_INPUTS", MUTATIONS) {
        let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let text = mutated(&mut random, &bases[(seed % 2) as usize]);
        let file = written(&dir, "mutated.conf", &text);
        let replay = || format!("REDSHARD_SEED={seed} REDSHARD_INPUTS=1\n{}", text.escape_ascii());
        let outcome = std::panic::catch_unwind(|| serve(&[file.to_str().expect("a UTF-8 path")]));
        match outcome {
            Ok(Ok(config)) => {
                read += 1;
                // Written back, it says the same.
                let new = rewrite::rewritten(&text, &file, &config, Extent::Needed);
                let again = parse::from_text(&new, &file);
                let again =
                    again.unwrap_or_else(|error| panic!("rewritten: {error}\n{}", replay()));
                assert_eq!(again.get(&[b"*"]), config.get(&[b"*"]), "{}", replay());
            }
            Ok(Err(error)) => {
                refused += 1;
                let said = error.to_string();
                let place = format!("configuration file '{}', at line ", file.display());
                let is_clear = said.contains(&place) || said.contains("can't open config file");
                assert!(is_clear, "{said}\n{}", replay());
            }
            Err(_) => panic!("it panicked: {}", replay()),
        }
    }
    eprintln!("{read} read, {refused} refused");
    // A mutation that always or never matters tests nothing.
    assert!(setting("REDSHARD_INPUTS", MUTATIONS) < 100 || (read > 50 && refused > 50));
}

#[test]
fn mutated_files_start_the_server_or_end_it() {
    if reference().is_some() {
        return; // A reference server is known to fall over a file that includes itself, for one.
    }
    let first = setting("REDSHARD_SEED", 1);
    let bases = PEERS.map(|name| peers_lines(name).0);
    let mut started = 0;
    for seed in first..first + setting("REDSHARD_INPUTS", STARTS).min(STARTS) {
        let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let dir = TempDir::new();
        let text = mutated(&mut random, &bases[(seed % 2) as usize]);
        // Lines are bytes, but for the directory.
        let text: Vec<u8> = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.starts_with(b"dir "))
            .flat_map(|line| [line, b"\n"].concat())
            .collect();
        let file = written(&dir, "mutated.conf", &text);
        let log = dir.path().join("log");
        let port = free_port();
        let flags = [OURS.as_slice(), &["--unixsocket", "", "--databases", "4"]].concat();
        let launch = Launch::new(1).file(&file).args(&flags);
        let mut child = launch.spawn(port, dir.path(), &log);
        let replay = || format!("REDSHARD_SEED={seed} REDSHARD_INPUTS=1\n{}", text.escape_ascii());
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let mut ended = None;
        wait_until("the server answers or ends", || {
            ended = child.try_wait().expect("ask for the process's state");
            ended.is_some()
                || Client::try_connect(port).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
        });
        let _ = child.kill();
        let _ = child.wait();
        assert!(!said().contains("panicked"), "{}\n{}", said(), replay());
        match ended {
            None => started += 1,
            Some(status) => {
                assert_eq!(status.code(), Some(1), "{status}\n{}\n{}", said(), replay());
                assert!(said().contains("mutated.conf', at line "), "{}\n{}", said(), replay());
            }
        }
    }
    assert!(setting("REDSHARD_INPUTS", STARTS) < 10 || started > 0, "nothing ever started");
}

// ---- refusals ------------------------------------------------------------------------------------------------------

/// What a server says that is started with this file and these flags, and ends.
#[track_caller]
fn refusal(text: &str, flags: &[&str]) -> String {
    let dir = TempDir::new();
    let file = written(&dir, "bad.conf", text);
    let log = dir.path().join("log");
    let mut child = Launch::new(1).file(&file).args(flags).spawn(free_port(), dir.path(), &log);
    let status = wait_exit(&mut child);
    let said = fs::read_to_string(&log).expect("read the server's words");
    assert_eq!(status.code(), Some(1), "{text:?} {flags:?}: {status}\n{said}");
    said.replace(dir.path().to_str().expect("a UTF-8 path"), "DIR")
}

#[test]
fn a_bad_line_is_named() {
    let not_integer = "argument couldn't be parsed into an integer";
    let bad = "Bad directive or wrong number of arguments";
    for (text, number, line, reason) in [
        ("bogus 1", 1, "bogus 1", bad),
        ("# fine\n\ntimeout x\nbogus", 3, "timeout x", not_integer),
        ("timeout 5 # not a comment", 1, "timeout 5 # not a comment", "wrong number of arguments"),
        (
            "proc-title-template \"a\"b\ntimeout \"1",
            2,
            "timeout \"1",
            "Unbalanced quotes in configuration line",
        ),
        ("maxmemory 1x", 1, "maxmemory 1x", "argument must be a memory value"),
        ("appendonly maybe", 1, "appendonly maybe", "argument must be 'yes' or 'no'"),
        ("save 60 1 5", 1, "save 60 1 5", "Invalid save parameters"),
        ("dbfilename a/b", 1, "dbfilename a/b", "dbfilename can't be a path, just a filename"),
        ("dir /nonexistent", 1, "dir /nonexistent", "No such file or directory"),
        (
            "unixsocketperm 9",
            1,
            "unixsocketperm 9",
            "argument couldn't be parsed as an octal number",
        ),
        (
            "unixsocketperm 1000",
            1,
            "unixsocketperm 1000",
            "argument must be between 0 and 777 inclusive",
        ),
        ("include", 1, "include", bad),
        ("include a b", 1, "include a b", bad),
        ("loadmodule", 1, "loadmodule", bad),
        ("rename-command a b c", 1, "rename-command a b c", bad),
        ("foo.bar", 1, "foo.bar", "Module config specified without value"),
        (
            "sentinel monitor",
            1,
            "sentinel monitor",
            "sentinel directive while not in sentinel mode",
        ),
        (
            "maxmemory-clients 101%",
            1,
            "maxmemory-clients 101%",
            "percentage argument must be less or equal to 100",
        ),
        (
            "enable-debug-command maybe",
            1,
            "enable-debug-command maybe",
            "argument(s) must be one of the following: no, yes, local",
        ),
        (
            "client-output-buffer-limit x 1 1 1",
            1,
            "client-output-buffer-limit x 1 1 1",
            "Invalid client class specified in buffer limit configuration.",
        ),
        (
            "latency-tracking-info-percentiles 101",
            1,
            "latency-tracking-info-percentiles 101",
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
        ),
        ("replicaof 127.0.0.1 abc", 1, "replicaof 127.0.0.1 abc", "Invalid primary port"),
    ] {
        let said = refusal(text, &[]);
        // Ours names the file, too.
        let place = match reference() {
            Some(_) => format!("Reading the configuration file, at line {number}\n"),
            None => format!("Reading the configuration file 'DIR/bad.conf', at line {number}\n"),
        };
        assert!(said.contains(&format!("{place}>>> '{line}'\n{reason}\n")), "{text:?}: {said}");
    }
    let missing = refusal("include /nonexistent/x.conf", &[]);
    let expected =
        "Fatal error, can't open config file '/nonexistent/x.conf': No such file or directory";
    assert!(missing.contains(expected), "{missing}");
    let flags = refusal("timeout 1", &["--loglevel", "--bla"]);
    assert!(flags.contains(">>> 'loglevel \"--bla\"'\nargument(s) must be one of"), "{flags}");
    if reference().is_none() {
        assert!(refusal("maxmemroy 1gb", &[]).contains("\nDid you mean 'maxmemory'?"));
    }
}

#[test]
fn files_that_include_too_much_end() {
    if reference().is_some() {
        return; // Valkey 9.1 overflows its stack.
    }
    let dir = TempDir::new();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let told = |name: &str| serve(&[&at(name)]).expect_err("too much").to_string();
    written(&dir, "itself.conf", format!("include {}", at("itself.conf")));
    assert!(told("itself.conf").contains("files include each other too deeply"));
    // Not deep, but 6 to the power of 10.
    for level in 0..10 {
        let next = at(&format!("wide-{}.conf", level + 1));
        written(&dir, &format!("wide-{level}.conf"), format!("include {next}\n").repeat(6));
    }
    written(&dir, "wide-10.conf", "timeout 1\n");
    assert!(told("wide-0.conf").contains("too many files are included"));
    assert!(told("/dev/zero").contains("too large"));
}

// ---- where it comes from -------------------------------------------------------------------------------------------

#[test]
fn included_files() {
    let dir = TempDir::new();
    let here = dir.path().display();
    written(&dir, "2.part", "timeout 2\nmaxclients 22\n");
    written(&dir, "1.part", format!("timeout 1\ninclude {here}/deeper.conf\n"));
    written(&dir, "deeper.conf", "tcp-keepalive 77");
    let text = format!(
        "timeout 9\ninclude \"{here}/*.part\"\ninclude {here}/none*\ndir {here}\ninclude last.conf\n"
    );
    written(&dir, "last.conf", "slowlog-max-len 5\n");
    let file = written(&dir, "top.conf", text);
    let server = Launch::new(2).file(&file).args(&["--maxclients", "33"]).start();
    let mut c = server.client();
    let expected =
        [("timeout", "2"), ("tcp-keepalive", "77"), ("maxclients", "33"), ("slowlog-max-len", "5")];
    for (name, value) in expected {
        assert_eq!(get(&mut c, name), value, "{name}");
    }
    let info = c.run("INFO server").text();
    assert!(info.contains(&format!("config_file:{}\r\n", file.display())), "{info}");
}

#[test]
fn flags_follow_a_file() {
    let dir = TempDir::new();
    written(&dir, "redshard.conf", "maxmemory 1gb\ntimeout 7\nsave 900 1");
    let port = free_port().to_string();
    let binary = reference().unwrap_or_else(|| env!("CARGO_BIN_EXE_redshard").into());
    let child = Command::new(binary)
        .args(["redshard.conf", "--port", &port, "--maxmemory", "4gb", "--save", "100", "2"])
        .args(["--proc-title-template", "--my--title", "--bind 127.0.0.1", "--slowlog-max-len '9'"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let mut child = Ended(child.expect("start the server"));
    let mut c = child.client(port.parse().expect("a port"));
    for (name, value) in [
        ("maxmemory", "4294967296"),
        ("timeout", "7"),
        ("save", "900 1 100 2"),
        ("proc-title-template", "--my--title"),
        ("slowlog-max-len", "9"),
        ("bind", "127.0.0.1"),
    ] {
        assert_eq!(get(&mut c, name), value, "{name}");
    }
    // Named as `redshard.conf`, it is told apart from others of that name.
    let info = c.run("INFO server").text();
    let path = dir.path().join("redshard.conf");
    assert!(info.contains(&format!("config_file:{}\r\n", path.display())), "{info}");
}

#[test]
fn standard_input_is_a_file_too() {
    for dash_first in [true, false] {
        let port = free_port();
        let binary = reference().unwrap_or_else(|| env!("CARGO_BIN_EXE_redshard").into());
        let text = format!("port {port}\nbind 127.0.0.1\ntimeout 5\nmaxclients 50");
        let flags = ["--timeout", "6"];
        let mut command = Command::new(binary);
        if dash_first {
            command.arg("-").args(flags);
        } else {
            command.args(flags).arg("-");
        }
        let dir = TempDir::new();
        command.current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = Ended(command.spawn().expect("start the server"));
        let mut input = child.0.stdin.take().expect("its input");
        input.write_all(text.as_bytes()).expect("write the configuration");
        drop(input);
        let mut c = child.client(port);
        assert_eq!((get(&mut c, "timeout"), get(&mut c, "maxclients")), ("6".into(), "50".into()));
        c.check("CONFIG REWRITE", error("ERR The server is running without a config file"));
        assert!(c.run("INFO server").text().contains("config_file:\r\n"));
    }
}

/// A server without the harness's flags, killed when dropped.
struct Ended(Child);

impl Ended {
    #[track_caller]
    fn client(&mut self, port: u16) -> Client {
        wait_until("the server answers", || {
            let ended = self.0.try_wait().expect("ask for the server's state");
            assert!(ended.is_none(), "it ended: {ended:?}");
            Client::try_connect(port).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
        });
        Client::connect(port)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// ---- CONFIG --------------------------------------------------------------------------------------------------------

#[test]
fn several_patterns() {
    each_client(|c| {
        c.check(
            "CONFIG GET PORTX timeout maxmemory-s* TIMEOUT slowlog-max-len nope",
            bulks(&["maxmemory-samples", "5", "slowlog-max-len", "128", "timeout", "0"]),
        );
        let all = c.run("CONFIG GET *");
        let names: Vec<String> = all.items().iter().step_by(2).map(Value::text).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert!(names.len() > 200);
        let aliases = c.run("CONFIG GET *-priority");
        assert_eq!(aliases, bulks(&["replica-priority", "100", "slave-priority", "100"]));
        c.check("CONFIG GET", wrong_arity("config|get"));
    });
}

#[test]
fn all_or_nothing() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        c.check("CONFIG SET timeout 100 slowlog-max-len 7 maxmemory-samples 3", ok());
        for name in [("timeout", "100"), ("slowlog-max-len", "7"), ("maxmemory-samples", "3")] {
            assert_eq!(get(&mut other, name.0), name.1);
        }
        let failed = |name: &str, reason: &str| {
            error(&format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
            ))
        };
        let not_integer = "argument couldn't be parsed into an integer";
        c.check("CONFIG SET timeout 5 slowlog-max-len x", failed("slowlog-max-len", not_integer));
        c.check(
            "CONFIG SET timeout 5 daemonize yes",
            failed("daemonize", "can't set immutable config"),
        );
        c.check("CONFIG SET timeout 5 TIMEOUT 6", failed("TIMEOUT", "duplicate parameter"));
        c.check(
            "CONFIG SET timeout 5 bogus 6",
            error("ERR Unknown option or number of arguments for CONFIG SET - 'bogus'"),
        );
        c.check("CONFIG SET timeout 5 maxmemory", syntax_error());
        assert_eq!(get(&mut other, "timeout"), "100");
        c.check("CONFIG SET timeout 0 maxmemory-samples 5", ok());
    });
}

#[test]
fn resetstat() {
    each_shard_count(|server| {
        let mut c = server.client();
        (0..50).for_each(|n| drop(c.cmd(&["SET", &format!("key:{n}"), "v"])));
        c.check("GET none", nil());
        c.check_error_prefix("NOSUCH", "ERR unknown command");
        let before = c.run("INFO all").text();
        assert!(
            !before.contains("keyspace_misses:0\r\n") && before.contains("cmdstat_set:calls=50,")
        );
        c.check("CONFIG RESETSTAT", ok());
        let after = c.run("INFO all").text();
        assert!(after.contains("keyspace_misses:0\r\n"), "{after}");
        assert!(
            after.contains("keyspace_hits:0\r\n") && !after.contains("cmdstat_set:"),
            "{after}"
        );
        assert!(!after.contains("errorstat_ERR"), "{after}");
        c.check("DBSIZE", int(50));
    });
}

#[test]
fn rewriting() {
    for &shards in shard_counts() {
        let dir = TempDir::new();
        let text = "# The service.\n\n# Clients wait no longer than this.\ntimeout 5\n  # indented\nMAXMEMORY 1gb\n\
                    save 900 1\nsave 300 10\nslave-priority 7\n# the end, without a line's end";
        let file = written(&dir, "real.conf", text);
        let link = dir.path().join("redshard.conf");
        std::os::unix::fs::symlink(&file, &link).expect("make a link");
        let launch =
            || Launch::new(shards).file(&link).args(&["--save", "60", "5", "--dir", "/tmp"]);
        let server = launch().start();
        let mut c = server.client();
        // Said on the start line: from now on in the file.
        c.check("CONFIG REWRITE", ok());
        let said = fs::read_to_string(&link).expect("read the file");
        let lines: Vec<&str> = said.lines().collect();
        for line in [
            "# The service.",
            "# Clients wait no longer than this.",
            "timeout 5",
            "slave-priority 7",
        ] {
            assert!(lines.contains(&line) || reference().is_some(), "{line}: {said}");
        }
        c.check(
            "CONFIG SET timeout 6 maxmemory 2gb requirepass \"a \\\"b\\\" #c\" slowlog-max-len 3",
            ok(),
        );
        c.check("CONFIG SET save \"\"", ok());
        c.check("CONFIG REWRITE", ok());
        c.check("CONFIG REWRITE", ok());
        let said = fs::read_to_string(&link).expect("read the file");
        let count = |line: &str| said.lines().filter(|l| *l == line).count();
        assert_eq!(
            (count("timeout 6"), count("timeout 5"), count("save \"\"")),
            (1, 0, 1),
            "{said}"
        );
        assert_eq!(count("# Generated by CONFIG REWRITE"), 1, "{said}");
        assert!(
            said.starts_with("# The service.\n\n# Clients wait no longer than this.\ntimeout 6\n"),
            "{said}"
        );
        assert!(said.contains("# the end, without a line's end\n"), "{said}");
        if reference().is_none() {
            assert!(fs::symlink_metadata(&link).expect("look at the link").is_symlink());
        }
        drop(server);
        let server = Launch::new(shards).file(&link).start();
        let mut c = server.client();
        c.check("AUTH \"a \\\"b\\\" #c\"", ok());
        for (name, value) in [
            ("timeout", "6"),
            ("maxmemory", "2147483648"),
            ("save", ""),
            ("replica-priority", "7"),
            ("slowlog-max-len", "3"),
        ] {
            assert_eq!(get(&mut c, name), value, "{name} in {said}");
        }
    }
}

#[test]
fn rewriting_what_cannot_be_written() {
    let dir = TempDir::new();
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).expect("make a directory");
    let file = inner.join("redshard.conf");
    fs::write(&file, "timeout 5").expect("write a file");
    let server = Launch::new(1).file(&file).start();
    fs::remove_dir_all(&inner).expect("remove the directory");
    let mut c = server.client();
    c.check_error_prefix("CONFIG REWRITE", "ERR Rewriting config file: No such file or directory");
    c.check("PING", simple("PONG"));
}

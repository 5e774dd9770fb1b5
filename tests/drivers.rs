//! The tools and drivers people use, each doing what it does in practice.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use redis::Commands;
use support::*;

#[track_caller]
fn finished(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{said}\n{complained}", output.status);
    said
}

#[test]
fn redis_cli() {
    let cli = tool("redis-cli", "redis-tools");
    each_shard_count(|server| {
        let port = server.port().to_string();
        let run = |args: &[&str]| {
            finished(
                Command::new(&cli)
                    .args(["-p", &port])
                    .args(args)
                    .stdin(Stdio::null())
                    .output()
                    .expect("run redis-cli"),
            )
        };
        assert_eq!(run(&["SET", "greeting", "hello world"]), "OK\n");
        assert_eq!(run(&["GET", "greeting"]), "hello world\n");
        assert_eq!(run(&["-3", "GET", "none"]), "\n");
        assert_eq!(run(&["-n", "3", "INCR", "n"]), "1\n");
        assert_eq!(run(&["-r", "3", "INCR", "n"]), "1\n2\n3\n");
        assert_eq!(
            run(&["--no-raw", "MGET", "greeting", "none"]),
            "1) \"hello world\"\n2) (nil)\n"
        );
        assert!(run(&["INFO"]).contains("# Server"));
        let mut found: Vec<String> = run(&["--scan"]).lines().map(String::from).collect();
        found.sort();
        assert_eq!(found, ["greeting", "n"]);

        // Mass insertion is a pipeline of raw requests that ends with an ECHO of random bytes.
        let mut pipe = Command::new(&cli)
            .args(["-p", &port, "--pipe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run redis-cli --pipe");
        let lines: String = (0..5_000).map(|i| format!("SET pipe:{i} {i}\r\n")).collect();
        pipe.stdin.take().expect("its input").write_all(lines.as_bytes()).expect("feed redis-cli");
        let said = finished(pipe.wait_with_output().expect("wait for redis-cli"));
        assert!(said.contains("errors: 0, replies: 5000"), "{said}");
        assert_eq!(run(&["DBSIZE"]), "5002\n");
    });
}

/// What operators look with.
#[test]
fn the_views_of_redis_cli() {
    let cli = tool("redis-cli", "redis-tools");
    let stdbuf = tool("stdbuf", "coreutils");
    each_shard_count(|server| {
        let port = server.port().to_string();
        let view = |args: &[&str]| {
            let mut command = Command::new(&cli);
            command.args(["-p", &port]).args(args).stdin(Stdio::null());
            command.output().expect("run redis-cli")
        };
        let mut c = server.client();
        for n in 0..200 {
            let len = if n == 199 { 5_000 } else { n };
            c.cmd(&["SET", &format!("key:{n}"), &"x".repeat(len)]);
        }
        let said = finished(view(&["--bigkeys"]));
        assert!(said.contains("Sampled 200 keys in the keyspace!"), "{said}");
        assert!(said.contains("Biggest string found '\"key:199\"' has 5000 bytes"), "{said}");
        assert!(said.contains("200 strings with 24701 bytes (100.00% of keys"), "{said}");
        let said = finished(view(&["--memkeys"]));
        assert!(said.contains("Biggest string found '\"key:199\"' has "), "{said}");
        assert!(said.contains("200 strings with "), "{said}");
        let scanned = finished(view(&["--scan", "--pattern", "key:*9"]));
        assert_eq!(scanned.lines().count(), 20, "{scanned}");
        // Least, most and mean milliseconds, and how many samples.
        let said = finished(view(&["--latency", "-i", "0.3"]));
        let numbers: Vec<f64> =
            said.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        assert!(numbers.len() == 4 && numbers[3] > 5.0, "{said}");
        let hot = view(&["--hotkeys"]);
        let complaint = String::from_utf8_lossy(&hot.stderr).into_owned();
        assert_eq!(hot.status.code(), Some(1), "{complaint}");
        assert!(complaint.contains("An LFU maxmemory policy is not selected"), "{complaint}");

        // A line every tenth of a second, until it is stopped; without a terminal it would keep them to itself.
        let mut stat = Command::new(&stdbuf)
            .arg("-oL")
            .arg(&cli)
            .args(["-p", &port, "-i", "0.1", "--stat"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run redis-cli --stat");
        let lines = BufReader::new(stat.stdout.take().expect("its output")).lines();
        let lines: Vec<String> = lines.take(6).map(|line| line.expect("a line")).collect();
        stat.kill().expect("stop redis-cli --stat");
        stat.wait().expect("wait for redis-cli --stat");
        assert!(lines[0].contains("data") && lines[1].starts_with("keys"), "{lines:?}");
        for line in &lines[2..] {
            let keys = line.split_whitespace().next();
            assert_eq!(keys, Some("200"), "{lines:?}");
        }
    });
}

/// What drivers send when they connect, as they document and send it, byte for byte, in one piece.
#[test]
fn opening_sequences() {
    fn frame(words: &[&str]) -> String {
        let words: String = words.iter().map(|w| format!("${}\r\n{w}\r\n", w.len())).collect();
        let count = words.matches('$').count();
        format!("*{count}\r\n{words}")
    }
    each_shard_count(|server| {
        // go-redis 9: HELLO alone, then the rest as one pipeline.
        let mut c = server.client();
        c.send_raw(b"*2\r\n$5\r\nhello\r\n$1\r\n3\r\n");
        let hello = c.read_reply();
        assert_eq!(hello.field("proto").int(), 3);
        assert_eq!(hello.field("mode").text(), "standalone");
        let pipeline = [
            frame(&["client", "setinfo", "LIB-NAME", "go-redis(,go1.24.2)"]),
            frame(&["client", "setinfo", "LIB-VER", "9.14.0"]),
            frame(&["client", "setname", "worker-1"]),
            frame(&["select", "2"]),
            frame(&["client", "maint_notifications", "on", "moving-endpoint-type", "external-ip"]),
            frame(&["ping"]),
        ];
        c.send_raw(pipeline.concat().as_bytes());
        (0..4).for_each(|_| c.expect(ok()));
        // It goes on without them if told in plain words.
        c.expect(error("ERR unknown subcommand 'maint_notifications'. Try CLIENT HELP."));
        c.expect(simple("PONG"));
        let about = c.run("CLIENT INFO").text();
        for part in [
            "name=worker-1 ",
            "db=2 ",
            "resp=3 ",
            "lib-name=go-redis(,go1.24.2) ",
            "lib-ver=9.14.0 ",
        ] {
            assert!(about.contains(part), "{part} in {about}");
        }

        // Jedis: with a protocol chosen, HELLO; what it tells of itself as one pipeline; without, nothing first.
        let mut c = server.client();
        c.send_raw(frame(&["HELLO", "3"]).as_bytes());
        assert_eq!(c.read_reply().field("role").text(), "master");
        let pipeline = [
            frame(&["CLIENT", "SETINFO", "LIB-NAME", "jedis"]),
            frame(&["CLIENT", "SETINFO", "LIB-VER", "6.2.0"]),
            frame(&["SELECT", "1"]),
        ];
        c.send_raw(pipeline.concat().as_bytes());
        (0..3).for_each(|_| c.expect(ok()));
        assert!(c.run("CLIENT INFO").text().contains("lib-name=jedis lib-ver=6.2.0 "));

        // Both, with a password that this server does not want.
        let mut c = server.client();
        c.send_raw(frame(&["hello", "3", "auth", "default", "secret"]).as_bytes());
        assert!(!c.read_reply().is_error());
        c.send_raw(frame(&["AUTH", "secret"]).as_bytes());
        let refusal = c.read_reply();
        assert!(
            refusal.error_text().starts_with("ERR AUTH <password> called without"),
            "{refusal:?}"
        );
    });
}

#[test]
fn ioredis() {
    node("ioredis.js");
}

#[test]
fn node_redis() {
    node("node_redis.js");
}

/// Runs a script of tests/clients/node with the drivers that tests/run puts into target/node.
#[track_caller]
fn node(script: &str) {
    let node = tool("node", "nodejs");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = root.join("target/node/node_modules");
    assert!(
        modules.join("ioredis").is_dir() && modules.join("redis").is_dir(),
        "the npm packages ioredis and redis are not in {}: apt-get install npm, and tests/run installs them",
        modules.display()
    );
    each_shard_count(|server| {
        let output = Command::new(&node)
            .arg(root.join("tests/clients/node").join(script))
            .arg(server.port().to_string())
            .env("NODE_PATH", &modules)
            .stdin(Stdio::null())
            .output()
            .expect("run the script");
        assert!(finished(output).contains("all good"));
    });
}

#[test]
fn redis_benchmark() {
    let benchmark = tool("redis-benchmark", "redis-tools");
    each_shard_count(|server| {
        let port = server.port().to_string();
        for options in
            [vec!["-n", "3000"], vec!["-n", "20000", "-P", "64", "--threads", "2", "-r", "1000"]]
        {
            let tests = "ping_inline,ping_mbulk,set,get,incr,mset";
            let said = finished(
                Command::new(&benchmark)
                    .args(["-p", &port, "-q", "-t", tests])
                    .args(&options)
                    .stdin(Stdio::null())
                    .output()
                    .expect("run redis-benchmark"),
            );
            assert_eq!(said.matches("requests per second").count(), 6, "{said}");
            assert!(!said.contains("rror"), "{said}");
        }
    });
}

#[test]
fn the_redis_crate() {
    each_shard_count(|server| {
        for protocol in ["", "?protocol=resp3"] {
            let url = format!("redis://127.0.0.1:{}/2{protocol}", server.port());
            let client = redis::Client::open(url).expect("a valid address");
            let mut c = client.get_connection().expect("connect");
            let _: () = redis::cmd("FLUSHALL").query(&mut c).expect("FLUSHALL");
            let _: () = c.set("k", "v").expect("SET");
            assert_eq!(c.get::<_, String>("k").expect("GET"), "v");
            assert_eq!(c.get::<_, Option<String>>("none").expect("GET"), None);
            assert_eq!(c.incr::<_, _, i64>("n", 5).expect("INCRBY"), 5);
            let _: () = c.mset(&[("a", 1), ("b", 2), ("c", 3)]).expect("MSET");
            assert_eq!(c.mget::<_, Vec<i64>>(&["a", "b", "c"]).expect("MGET"), [1, 2, 3]);
            let (first, second): (i64, String) =
                redis::pipe().atomic().incr("n", 1).get("k").query(&mut c).expect("a transaction");
            assert_eq!((first, second.as_str()), (6, "v"));
            let mut pipe = redis::pipe();
            for i in 0..1_000 {
                pipe.set(format!("key:{i}"), i).ignore();
            }
            let _: () = pipe.query(&mut c).expect("a pipeline");
            let found: BTreeSet<String> = c.scan_match("key:99*").expect("SCAN").collect();
            assert_eq!(found.len(), 11, "{found:?}");
            assert!(c.expire::<_, bool>("k", 100).expect("EXPIRE"));
            assert_eq!(c.ttl::<_, i64>("k").expect("TTL"), 100);
            let refused =
                redis::cmd("INCR").arg("k").query::<i64>(&mut c).expect_err("k is no number");
            assert!(refused.to_string().contains("not an integer"), "{refused}");
            let next: Option<i64> = redis::transaction(&mut c, &["n"], |c, pipe| {
                let n: i64 = c.get("n")?;
                pipe.set("n", n * 2)
                    .ignore()
                    .get("n")
                    .query(c)
                    .map(|reply: Option<(i64,)>| reply.map(|(n,)| Some(n)))
            })
            .expect("a watched transaction");
            assert_eq!(next, Some(12));
        }
    });
}

#[test]
fn redis_py() {
    let python = tool("python3", "python3");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/redis_py.py");
    // Debian's package is seen by Debian's interpreter only, whatever other one comes first in the path.
    let candidates = [python, "/usr/bin/python3".into()];
    let has_driver = |python: &&std::path::PathBuf| {
        let import =
            Command::new(python).args(["-c", "import redis"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    let python = candidates
        .iter()
        .find(has_driver)
        .expect("redis-py is not installed: apt-get install python3-redis (tests/run does it), or pip install redis");
    each_shard_count(|server| {
        let output = Command::new(python)
            .arg(script)
            .arg(server.port().to_string())
            .stdin(Stdio::null())
            .output()
            .expect("run the script");
        assert!(finished(output).contains("all good"));
    });
}

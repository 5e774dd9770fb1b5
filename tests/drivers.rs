//! The tools and drivers people use, each doing what it does in practice.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
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

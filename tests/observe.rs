//! What is noticed about commands: SLOWLOG, COMMANDLOG, LATENCY, MONITOR, and how long they took.

mod support;

use support::*;

/// The words of a log entry, as one line.
fn words_of(entry: &Value) -> String {
    let words: Vec<String> = entry.items()[3].items().iter().map(Value::text).collect();
    words.join(" ")
}

/// An INFO section's value of a name.
fn info(c: &mut Client, section: &str, name: &str) -> Option<String> {
    let text = c.cmd(&["INFO", section]).text();
    let prefix = format!("{name}:");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
}

#[test]
fn the_slow_log_has_every_shards_commands() {
    each_shard_count(|server| {
        let mut c = server.client();
        c.check("SLOWLOG LEN", int(0));
        c.check("CONFIG SET slowlog-log-slower-than 0", ok());
        c.check("SLOWLOG RESET", ok());
        c.check("CLIENT SETNAME me", ok());
        for n in 0..8 {
            c.check(&format!("SET key:{n} v"), ok());
        }
        c.check("MSET a 1 b 2 c 3 d 4", ok());
        c.check("MGET a b c d", bulks(&["1", "2", "3", "4"]));
        c.check("CONFIG SET slowlog-log-slower-than -1", ok());
        let entries = c.run("SLOWLOG GET -1");
        let lines: Vec<String> = entries.items().iter().map(words_of).collect();
        let expected: Vec<String> = ["mget a b c d", "mset a 1 b 2 c 3 d 4"]
            .into_iter()
            .map(str::to_owned)
            .chain((0..8).rev().map(|n| format!("set key:{n} v")))
            .chain(["client setname me".to_owned(), "slowlog reset".to_owned()])
            .collect();
        let shown: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
        // A lone reply may leave from the shard that made it before the client's own has logged the
        // command, so that of two SETs the second may be logged first.
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        assert_eq!(shown[..2], expected[..2]);
        assert_eq!(sorted(shown), sorted(expected));
        let ids: Vec<i64> = entries.items().iter().map(|entry| entry.items()[0].int()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] > pair[1]), "{ids:?}");
        for entry in &entries.items()[..8] {
            let [_, when, took, _, addr, name] = entry.items() else { panic!("{entry:?}") };
            assert!(when.int() > 1_700_000_000 && (0..10_000_000).contains(&took.int()));
            assert!(addr.text().starts_with("127.0.0.1:"), "{addr:?}");
            assert_eq!(name.text(), "me");
        }
        c.check("SLOWLOG LEN", int(entries.items().len() as i64));
        assert_eq!(c.run("SLOWLOG GET").items().len(), 10);
        assert_eq!(c.run("SLOWLOG GET 3").items().len(), 3);
        assert_eq!(c.run("SLOWLOG GET 0").items().len(), 0);
        c.check("CONFIG SET slowlog-max-len 2 slowlog-log-slower-than 0", ok());
        c.check("PING", simple("PONG"));
        c.check("SLOWLOG LEN", int(2));
        c.check("CONFIG SET slowlog-max-len 0", ok());
        c.check("SLOWLOG RESET", ok());
        c.check("PING", simple("PONG"));
        c.check("SLOWLOG LEN", int(0));
    });
}

#[test]
fn logged_commands_are_cut_short_and_keep_secrets() {
    each_client(|c| {
        c.check("CONFIG SET slowlog-log-slower-than 0", ok());
        c.check("SLOWLOG RESET", ok());
        let many: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
        let mut del = vec!["del"];
        del.extend(many.iter().map(String::as_str));
        assert_eq!(c.cmd(&del), int(0));
        let long = "A".repeat(200);
        assert_eq!(c.cmd(&["set", "k", &long]), ok());
        // Every shard answers this one, after what it has run before: so that is logged by now.
        c.cmd(&["dbsize"]);
        c.cmd(&["config", "set", "requirepass", ""]);
        c.cmd(&["auth", "secret"]);
        c.cmd(&["hello", "2", "auth", "default", "secret"]);
        c.check("CONFIG SET slowlog-log-slower-than -1", ok());
        let entries = c.run("SLOWLOG GET 7");
        let lines: Vec<String> = entries.items().iter().map(words_of).collect();
        let first = (0..30).map(|n| format!("k{n}")).collect::<Vec<_>>().join(" ");
        let expected = [
            "hello 2 auth (redacted) (redacted)".to_owned(),
            "config set requirepass (redacted)".to_owned(),
            format!("set k {}... (72 more bytes)", "A".repeat(128)),
            format!("del {first} ... (10 more arguments)"),
        ];
        // AUTH is logged with its secret hidden, if at all.
        let lines: Vec<String> = lines
            .into_iter()
            .filter(|line| !line.starts_with("auth") && !line.ends_with("slower-than -1"))
            .filter(|line| line != "dbsize")
            .take(4)
            .collect();
        assert_eq!(lines, expected);
    });
}

#[test]
fn large_requests_and_replies_are_logged_by_their_bytes() {
    each_client(|c| {
        c.check("CONFIG SET commandlog-request-larger-than 1024", ok());
        c.check("CONFIG SET commandlog-reply-larger-than 1024", ok());
        for kind in ["large-request", "large-reply", "slow"] {
            c.check(&format!("COMMANDLOG RESET {kind}"), ok());
        }
        // One key per shard, whichever owns which; and one value that is sent by reference.
        for (n, len) in [(0, 2048), (1, 2048), (2, 2048), (3, 100_000)] {
            let (key, value) = (format!("k{n}"), "v".repeat(len));
            assert_eq!(c.cmd(&["set", &key, &value]), ok());
            assert_eq!(c.cmd(&["get", &key]).text().len(), len);
            let request = c.run("COMMANDLOG GET 1 large-request");
            let sent = "*3\r\n$3\r\nset\r\n$2\r\nk0\r\n".len() + value.len();
            let framing = format!("${len}\r\n\r\n").len();
            assert_eq!(request.items()[0].items()[2], int((sent + framing) as i64));
            let reply = c.run("COMMANDLOG GET 1 LARGE-REPLY");
            assert_eq!(reply.items()[0].items()[2], int((len + framing) as i64));
            assert_eq!(words_of(&reply.items()[0]), format!("get {key}"));
            c.check("COMMANDLOG LEN large-reply", int(n + 1));
        }
        assert_eq!(c.cmd(&["mget", "k0", "k1", "k2"]).items().len(), 3);
        let reply = c.run("COMMANDLOG GET 1 large-reply");
        assert_eq!(words_of(&reply.items()[0]), "mget k0 k1 k2");
        assert!(reply.items()[0].items()[2].int() > 3 * 2048);
        c.check("COMMANDLOG LEN slow", int(0));
        let kinds = "ERR type should be one of the following: slow, large-request, large-reply";
        for line in ["COMMANDLOG LEN fast", "COMMANDLOG GET 1 fast", "COMMANDLOG RESET fast"] {
            c.check(line, error(kinds));
        }
        let count = "ERR count should be greater than or equal to -1";
        for line in ["SLOWLOG GET -2", "SLOWLOG GET x", "COMMANDLOG GET -2 slow"] {
            c.check(line, error(count));
        }
        c.check("SLOWLOG LEN 1", wrong_arity("slowlog|len"));
        c.check("COMMANDLOG GET 1", wrong_arity("commandlog|get"));
        assert!(c.run("SLOWLOG HELP").items().len() > 5);
        assert!(c.run("COMMANDLOG HELP").items().len() > 5);
        assert!(c.run("LATENCY HELP").items().len() > 5);
    });
}

#[test]
fn transactions_are_logged_by_what_they_ran() {
    each_client(|c| {
        c.check("CONFIG SET slowlog-log-slower-than 0", ok());
        c.check("SLOWLOG RESET", ok());
        c.check("MULTI", ok());
        for line in ["SET a 1", "SET b 2", "PING"] {
            c.check(line, queued());
        }
        c.check("EXEC", array([ok(), ok(), simple("PONG")]));
        c.check("CONFIG SET slowlog-log-slower-than -1", ok());
        let entries = c.run("SLOWLOG GET -1");
        let lines: Vec<String> =
            entries.items().iter().map(|entry| words_of(entry).to_lowercase()).collect();
        let expected = ["ping", "set b 2", "set a 1", "multi", "slowlog reset"];
        assert_eq!(lines[lines.len() - 5..], expected);
        assert!(!lines.iter().any(|line| line == "exec"), "{lines:?}");
    });
}

#[test]
fn durations_are_counted_by_command() {
    each_client(|c| {
        c.check("CONFIG RESETSTAT", ok());
        for n in 0..500 {
            c.check(&format!("SET key:{n} v"), ok());
        }
        c.check("MGET key:1 key:2 key:3", bulks(&["v", "v", "v"]));
        let stat = info(c, "commandstats", "cmdstat_set").expect("SET was called");
        let field = |name: &str| -> f64 {
            let found = stat.split(',').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
            found.expect("the field is there").parse().expect("a number")
        };
        assert_eq!(field("calls"), 500.0);
        let (us, per_call) = (field("usec"), field("usec_per_call"));
        assert!(us > 0.0 && us < 5e6, "{stat}");
        assert!((per_call * 500.0 - us).abs() <= 6.0 + us / 50.0, "{stat}");
        let mget = info(c, "commandstats", "cmdstat_mget").expect("MGET was called");
        assert!(mget.starts_with("calls=1,"), "{mget}");
        let shown = info(c, "latencystats", "latency_percentiles_usec_set").expect("tracked");
        let values: Vec<f64> = shown
            .split(',')
            .zip(["p50=", "p99=", "p99.9="])
            .map(|(pair, name)| pair.strip_prefix(name).expect(name).parse().expect("a number"))
            .collect();
        assert!(values.is_sorted() && values[0] > 0.0, "{shown}");
        c.check("CONFIG SET latency-tracking-info-percentiles \"0 50 100\"", ok());
        let shown = info(c, "latencystats", "latency_percentiles_usec_set").expect("tracked");
        assert!(shown.starts_with("p0=") && shown.contains(",p100="), "{shown}");

        let histogram = c.run("LATENCY HISTOGRAM set mget nosuch");
        assert_eq!(histogram.items().len(), 4);
        let of_set = histogram.field("set");
        assert_eq!(*of_set.field("calls"), int(500));
        let steps: Vec<i64> =
            of_set.field("histogram_usec").items().iter().map(Value::int).collect();
        assert_eq!(steps.last(), Some(&500), "{steps:?}");
        assert!(steps.chunks(2).is_sorted_by_key(|step| (step[0], step[1])), "{steps:?}");
        assert_eq!(*histogram.field("mget").field("calls"), int(1));

        c.check("CONFIG RESETSTAT", ok());
        assert_eq!(info(c, "commandstats", "cmdstat_set"), None);
        assert_eq!(info(c, "latencystats", "latency_percentiles_usec_set"), None);
        c.check("LATENCY HISTOGRAM set", array([]));
        c.check("CONFIG SET latency-tracking no", ok());
        c.check("SET key:1 v", ok());
        c.check("LATENCY HISTOGRAM set", array([]));
        assert!(info(c, "commandstats", "cmdstat_set").is_some());
    });
}

#[test]
fn slow_events_have_a_history() {
    for &shards in shard_counts() {
        let server = Launch::new(shards).args(&["--enable-debug-command", "yes"]).start();
        let mut c = server.client();
        let off = c.run("LATENCY DOCTOR").text();
        assert!(off.contains("latency-monitor-threshold"), "{off}");
        c.check("CONFIG SET latency-monitor-threshold 20", ok());
        c.check("LATENCY RESET", int(0));
        c.check("DEBUG SLEEP 0.03", ok());
        wait_until("the next second", || {
            c.check("DEBUG SLEEP 0.05", ok());
            c.run("LATENCY HISTORY command").items().len() > 1
        });
        let history = c.run("LATENCY HISTORY command");
        for sample in history.items() {
            let [when, ms] = sample.items() else { panic!("{sample:?}") };
            assert!(when.int() > 1_700_000_000 && (20..5000).contains(&ms.int()), "{sample:?}");
        }
        let latest = c.run("LATENCY LATEST");
        let command = latest.items().iter().find(|event| event.items()[0] == bulk("command"));
        let [_, when, last, max, sum, count] = command.expect("it happened").items() else {
            panic!("{latest:?}")
        };
        assert_eq!(*when, history.items()[history.items().len() - 1].items()[0]);
        assert!(max.int() >= last.int() && sum.int() >= max.int() + 20 && count.int() >= 2);
        let graph = c.run("LATENCY GRAPH command").text();
        assert!(graph.starts_with("command - high "), "{graph}");
        let report = c.run("LATENCY DOCTOR").text();
        assert!(report.contains("command"), "{report}");
        assert!(c.run("LATENCY RESET command").int() == 1);
        c.check("LATENCY HISTORY command", array([]));
        c.check("LATENCY HISTORY nosuch", array([]));
        c.check("LATENCY RESET nosuch", int(0));
        c.check("LATENCY GRAPH nosuch", error("ERR No samples available for event 'nosuch'"));
        c.check("LATENCY HISTORY", wrong_arity("latency|history"));
    }
}

// ---- MONITOR ---------------------------------------------------------------------------------

/// The rest of a monitor's next line after its time, which must be one.
fn shown(monitor: &mut Client) -> String {
    let line = monitor.read_reply().text();
    let (time, rest) = line.split_once(' ').expect("a time comes first");
    let (seconds, micros) = time.split_once('.').expect("microseconds");
    assert!(seconds.parse::<u64>().is_ok() && micros.len() == 6, "{line}");
    rest.to_owned()
}

/// The same without the client's address.
fn command(monitor: &mut Client) -> String {
    let rest = shown(monitor);
    let (head, words) = rest.split_once("] ").expect("an address");
    let (db, addr) = head.split_once(' ').expect("a database");
    assert!(addr.starts_with("127.0.0.1:"), "{rest}");
    format!("{db}] {words}")
}

#[test]
fn monitors_see_every_shards_commands() {
    each_shard_count(|server| {
        let mut monitors: Vec<Client> = (0..3).map(|_| server.client()).collect();
        monitors.iter_mut().for_each(|monitor| monitor.check("MONITOR", ok()));
        let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
        for (n, c) in clients.iter_mut().enumerate() {
            c.check(&format!("set key:{n} v"), ok());
            let quoted = "a \"q\\\n\r\t\u{7}\u{8}\u{1}é";
            c.cmd(&["GET", quoted]);
            c.check("SELECT 3", ok());
            c.check("MGET a b c d", array([nil(), nil(), nil(), nil()]));
            for monitor in &mut monitors {
                assert_eq!(command(monitor), format!(r#"[0] "set" "key:{n}" "v""#));
                let line = command(monitor);
                assert_eq!(line, r#"[0] "GET" "a \"q\\\n\r\t\a\b\x01\xc3\xa9""#);
                assert_eq!(command(monitor), r#"[3] "SELECT" "3""#);
                assert_eq!(command(monitor), r#"[3] "MGET" "a" "b" "c" "d""#);
            }
        }
    });
}

#[test]
fn monitors_see_what_runs_and_no_secrets() {
    each_shard_count(|server| {
        let (mut monitor, mut c) = (server.client(), server.client());
        monitor.check("MONITOR", ok());
        // For operators, refused, unknown: not shown.
        for line in ["CONFIG GET port", "SLOWLOG LEN", "GET", "NOSUCH x", "MONITOR x"] {
            c.run(line);
        }
        c.run("AUTH secret");
        c.run("HELLO 2 AUTH default secret");
        c.check("multi", ok());
        c.check("set x 1", queued());
        c.check("incr x", queued());
        c.check("exec", array([ok(), int(2)]));
        c.check("multi", ok());
        c.run("set x");
        c.run("exec");
        c.run("EXEC");
        c.check("PING", simple("PONG"));
        let auth = command(&mut monitor);
        assert_eq!(auth, r#"[0] "AUTH" "(redacted)""#);
        let hello = command(&mut monitor);
        assert_eq!(hello, r#"[0] "HELLO" "2" "AUTH" "(redacted)" "(redacted)""#);
        for expected in ["multi", "set x 1", "incr x", "exec", "multi", "exec", "EXEC", "PING"] {
            let words: Vec<String> =
                expected.split(' ').map(|word| format!("\"{word}\"")).collect();
            assert_eq!(command(&mut monitor), format!("[0] {}", words.join(" ")));
        }
    });
}

#[test]
fn a_monitor_is_a_client_still_until_reset() {
    each_shard_count(|server| {
        let (mut monitor, mut c) = (server.client(), server.client());
        monitor.check("MONITOR", ok());
        let refused = error("ERR Replica can't interact with the keyspace");
        monitor.check("GET x", refused);
        monitor.check("MULTI", ok());
        assert_eq!(command(&mut monitor), r#"[0] "MULTI""#);
        monitor.check("RESET", simple("RESET"));
        c.check("SET a 1", ok());
        monitor.check("GET a", bulk("1"));
        monitor.check("MULTI", ok());
        monitor.check("MONITOR", queued());
        let denied = "ERR MONITOR isn't allowed for DENY BLOCKING client";
        monitor.check("EXEC", array([error(denied)]));
        // One that goes without a word leaves nothing behind.
        let mut gone = server.client();
        gone.check("MONITOR", ok());
        drop(gone);
        std::iter::repeat_with(|| c.run("PING")).take(100).for_each(drop);
        c.check("GET a", bulk("1"));
    });
}

#[test]
fn one_monitor_gets_every_line_of_many_clients_in_their_order() {
    each_shard_count(|server| {
        let mut monitor = server.client();
        monitor.check("MONITOR", ok());
        const CLIENTS: usize = 4;
        const COMMANDS: usize = 500;
        let threads: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let mut c = server.client();
                std::thread::spawn(move || {
                    for i in 0..COMMANDS {
                        c.send(&format!("SET client:{n}:{i} {i}"));
                    }
                    (0..COMMANDS).for_each(|_| c.expect(ok()));
                })
            })
            .collect();
        let mut next = [0; CLIENTS];
        for _ in 0..CLIENTS * COMMANDS {
            let line = command(&mut monitor);
            let key = line.split('"').nth(3).expect("a key").to_owned();
            let parts: Vec<usize> = key.split(':').skip(1).map(|n| n.parse().unwrap()).collect();
            assert_eq!(parts[1], next[parts[0]], "client {}", parts[0]);
            next[parts[0]] += 1;
        }
        threads.into_iter().for_each(|thread| thread.join().expect("no client failed"));
    });
}

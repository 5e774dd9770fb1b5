//! MEMORY, DEBUG, and what INFO says about memory and shards.

mod support;

use support::*;

/// INFO's value of a name.
fn info(c: &mut Client, section: &str, name: &str) -> String {
    let text = c.cmd(&["INFO", section]).text();
    let prefix = format!("{name}:");
    let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
    found.unwrap_or_else(|| panic!("no {name} in:\n{text}")).to_owned()
}

fn number(c: &mut Client, section: &str, name: &str) -> f64 {
    info(c, section, name).trim_end_matches('%').parse().expect("a number")
}

#[test]
fn usage_follows_the_value() {
    each_client(|c| {
        c.check("MEMORY USAGE none", nil());
        c.check("SET k v", ok());
        let small = c.run("MEMORY USAGE k").int();
        assert!((16..120).contains(&small), "{small}");
        let mut last = small;
        for len in [100, 1000, 20_000, 1_000_000] {
            assert_eq!(c.cmd(&["SET", "k", &"v".repeat(len)]), ok());
            let usage = c.run("MEMORY USAGE k SAMPLES 0").int();
            // What the allocator rounds up to is at most a quarter more.
            assert!(usage > last && usage >= len as i64, "{usage} for {len}");
            assert!(usage < (len + len / 4 + 150) as i64, "{usage} for {len}");
            last = usage;
        }
        c.check("MEMORY USAGE k SAMPLES", syntax_error());
        c.check("MEMORY USAGE k SAMPLES -1", syntax_error());
        c.check("MEMORY USAGE k SAMPLES x", not_an_integer());
        c.check("MEMORY USAGE k SOMETHING 1", syntax_error());
        c.check("MEMORY USAGE", wrong_arity("memory|usage"));
        c.check("COMMAND GETKEYS MEMORY USAGE k", bulks(&["k"]));
    });
}

#[test]
fn statistics_follow_the_data() {
    each_client(|c| {
        let before = c.run("MEMORY STATS");
        for n in 0..64 {
            assert_eq!(c.cmd(&["SET", &format!("k{n}"), &"v".repeat(100_000)]), ok());
        }
        let stats = c.run("MEMORY STATS");
        let int = |stats: &Value, name: &str| stats.field(name).int();
        assert_eq!(int(&stats, "keys.count"), 64);
        assert!(int(&stats, "keys.bytes-per-key") > 100_000);
        assert!(int(&stats, "total.allocated") > int(&before, "total.allocated") + 6_000_000);
        // Valkey looks at its peak now and then only.
        assert!(int(&stats, "peak.allocated") + 1_000_000 > int(&stats, "total.allocated"));
        assert!(int(&stats, "dataset.bytes") > 6_000_000);
        let allocated = int(&stats, "allocator.allocated");
        assert!(allocated > 6_400_000 && int(&stats, "allocator.active") >= allocated);
        assert!(int(&stats, "allocator.resident") >= int(&stats, "allocator.active"));
        wait_until("the tables have been measured", || {
            let stats = c.run("MEMORY STATS");
            stats.field("db.0").field("overhead.hashtable.main").int() > 0
        });
        c.check("MEMORY PURGE", ok());
        assert!(!c.run("MEMORY DOCTOR").text().is_empty());
        assert!(c.run("MEMORY MALLOC-STATS").text().contains("jemalloc"));
        assert!(c.run("MEMORY HELP").items().len() > 5);

        let used = number(c, "memory", "used_memory");
        assert!(used > 6_400_000.0, "{used}");
        for name in ["used_memory_rss", "used_memory_peak", "allocator_resident"] {
            assert!(number(c, "memory", name) >= 6_400_000.0, "{name}");
        }
        assert!(number(c, "memory", "used_memory_dataset") > 6_000_000.0);
        assert!(number(c, "memory", "mem_clients_normal") > 0.0);
    });
}

#[test]
fn shards_tell_what_they_do() {
    each_shard_count(|server| {
        if reference().is_some() {
            return;
        }
        let mut c = server.client();
        for n in 0..200 {
            c.check(&format!("SET k{n} v PX 100000"), ok());
        }
        let shards = number(&mut c, "server", "shards") as usize;
        let mut sums = [0; 4];
        for shard in 0..shards {
            let line = info(&mut c, "shards", &format!("shard{shard}"));
            let names = ["commands", "hops_out", "hops_in", "keys"];
            for (sum, name) in sums.iter_mut().zip(names) {
                let prefix = format!("{name}=");
                let value = line.split(',').find_map(|pair| pair.strip_prefix(&prefix));
                *sum +=
                    value.unwrap_or_else(|| panic!("no {name} in {line}")).parse::<u64>().unwrap();
            }
        }
        let [commands, hops_out, hops_in, keys] = sums;
        assert!(commands >= 200 && keys == 200, "{sums:?}");
        assert_eq!(hops_out, hops_in);
        assert_eq!(hops_out > 50, shards > 1, "{sums:?}");
        wait_until("the average is measured", || {
            let line = info(&mut c, "keyspace", "db0");
            let ttl: i64 = line.rsplit("avg_ttl=").next().unwrap().parse().unwrap();
            assert!(line.starts_with("keys=200,expires=200,"), "{line}");
            (90_000..=100_000).contains(&ttl)
        });
        for name in ["eventloop_cycles", "eventloop_duration_sum", "total_reads_processed"] {
            assert!(number(&mut c, "stats", name) > 0.0, "{name}");
        }
        let mut watcher = server.client();
        watcher.check("WATCH k1 k2", ok());
        assert_eq!(info(&mut c, "clients", "watching_clients"), "1");
        assert_eq!(info(&mut c, "clients", "total_watched_keys"), "2");
        watcher.check("UNWATCH", ok());
        assert_eq!(info(&mut c, "clients", "watching_clients"), "0");
        wait_until("the other shards have heard of it", || {
            info(&mut c, "clients", "total_watched_keys") == "0"
        });
    });
}

// ---- DEBUG -----------------------------------------------------------------------------------

/// A server of each shard count with DEBUG.
fn each_debug(body: impl Fn(&mut Client)) {
    for &shards in shard_counts() {
        let server = Launch::new(shards).args(&["--enable-debug-command", "local"]).start();
        body(&mut server.client());
    }
}

#[test]
fn debug_is_for_those_who_are_let() {
    each_client(|c| {
        let denied = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \
                      \"local\", you can run it from a local connection, otherwise you need to set \
                      this option in the configuration file, and then restart the server.";
        c.check("DEBUG SLEEP 0", error(denied));
        c.check("DEBUG", wrong_arity("debug"));
    });
    each_debug(|c| {
        c.check("DEBUG SLEEP 0", ok());
        for line in ["DEBUG nosuch", "DEBUG sleep", "DEBUG set-active-expire", "DEBUG object"] {
            let name = line.split(' ').nth(1).unwrap();
            c.check(line, error(&format!(
                "ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP."
            )));
        }
        c.check("DEBUG ERROR \"ABC some text\"", error("ABC some text"));
        c.check("DEBUG LOG hello", ok());
        assert!(c.run("DEBUG HELP").items().len() > 10);
        // All its forms are one command.
        c.check("CONFIG RESETSTAT", ok());
        c.check("SET k 1", ok());
        c.run("DEBUG OBJECT k");
        c.run("DEBUG SLEEP 0");
        assert!(info(c, "commandstats", "cmdstat_debug").starts_with("calls=2,"));
    });
}

#[test]
fn debug_shows_keys_and_makes_them() {
    each_debug(|c| {
        c.check("DEBUG OBJECT none", error("ERR no such key"));
        c.check("SET n 5", ok());
        c.check("SET s hello", ok());
        let shown = c.run("DEBUG OBJECT n").text();
        assert!(shown.starts_with("Value at:0x"), "{shown}");
        assert!(shown.contains(" encoding:int serializedlength:2 lru:"), "{shown}");
        let shown = c.run("DEBUG OBJECT s").text();
        assert!(shown.contains(" encoding:embstr serializedlength:6 "), "{shown}");
        // Where it is does not change when it is counted up in place.
        let place = |shown: &Value| shown.text().split(' ').nth(1).unwrap().to_owned();
        let before = place(&c.run("DEBUG OBJECT n"));
        c.check("INCR n", int(6));
        assert_eq!(place(&c.run("DEBUG OBJECT n")), before);

        let empty = "0".repeat(40);
        let all = c.run("DEBUG DIGEST").text();
        assert_ne!(all, empty);
        let values = c.run("DEBUG DIGEST-VALUE n s none");
        assert_eq!(values.items().len(), 3);
        assert_eq!(values.items()[2].text(), empty);
        c.check("RENAME s other", ok());
        assert_eq!(c.run("DEBUG DIGEST-VALUE other").items()[0], values.items()[1]);
        assert_ne!(c.run("DEBUG DIGEST").text(), all);
        c.check("RENAME other s", ok());
        assert_eq!(c.run("DEBUG DIGEST").text(), all);
        c.check("FLUSHALL", ok());
        assert_eq!(c.run("DEBUG DIGEST").text(), empty);

        c.check("DEBUG POPULATE 1000", ok());
        c.check("DBSIZE", int(1000));
        c.check("GET key:999", bulk("value:999"));
        c.check("SET x:1 mine", ok());
        c.check("DEBUG POPULATE 3 x 10", ok());
        c.check("GET x:1", bulk("mine"));
        c.check("GET x:2", bulk(b"value:2\0\0\0"));
        c.check("DEBUG POPULATE -1", error("ERR value is out of range, must be positive"));
        assert!(!c.run("DEBUG HTSTATS 0").text().is_empty());
    });
}

#[test]
fn debug_stops_the_search_for_expired_keys() {
    each_debug(|c| {
        c.check("DEBUG SET-ACTIVE-EXPIRE 0", ok());
        for n in 0..20 {
            c.check(&format!("SET k{n} v PX 1"), ok());
        }
        c.check("SET kept v PX 2000", ok());
        // Longer than a pass over all keys takes to come round, several times.
        c.wait_for("GET kept", nil());
        assert_eq!(c.run("DBSIZE").int(), 20);
        c.check("DEBUG SET-ACTIVE-EXPIRE 1", ok());
        c.wait_for("DBSIZE", int(0));
    });
}

#[test]
fn debug_replies_with_every_type() {
    each_debug(|c| {
        c.check("DEBUG PROTOCOL string", bulk("Hello World"));
        c.check("DEBUG PROTOCOL integer", int(12345));
        c.check("DEBUG PROTOCOL double", bulk("3.141"));
        c.check("DEBUG PROTOCOL bignum", bulk("1234567999999999999999999999999999999"));
        c.check("DEBUG PROTOCOL null", nil());
        c.check("DEBUG PROTOCOL set", array([int(0), int(1), int(2)]));
        c.check("DEBUG PROTOCOL true", int(1));
        c.check("DEBUG PROTOCOL push", error("ERR RESP2 is not supported by this command"));
        c.check("DEBUG PROTOCOL nosuch", error(
            "ERR Wrong protocol type name. Please use one of the following: string|integer|double|\
             bignum|null|array|set|map|attrib|push|verbatim|true|false",
        ));
        c.run("HELLO 3");
        let mut raw = |line: &str, expected: &str| {
            c.send(line);
            c.expect_bytes(expected.as_bytes());
        };
        raw("DEBUG PROTOCOL double", ",3.141\r\n");
        raw("DEBUG PROTOCOL bignum", "(1234567999999999999999999999999999999\r\n");
        raw("DEBUG PROTOCOL null", "_\r\n");
        raw("DEBUG PROTOCOL set", "~3\r\n:0\r\n:1\r\n:2\r\n");
        raw("DEBUG PROTOCOL map", "%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n");
        raw("DEBUG PROTOCOL verbatim", "=29\r\ntxt:This is a verbatim\nstring\r\n");
        raw(
            "DEBUG PROTOCOL attrib",
            "|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply \
             following the attribute\r\n",
        );
        raw(
            "DEBUG PROTOCOL push",
            "$40\r\nSome real reply following the push reply\r\n>2\r\n$16\r\nserver-cpu-usage\r\n\
             :42\r\n",
        );
    });
}

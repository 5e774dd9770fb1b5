//! Commands about keys rather than values: existence, names, databases, times to live, walks over everything.

mod support;

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use support::*;

/// Sets `count` keys in one command each batch, so that filling a database is not what a test waits for.
fn fill(c: &mut Client, prefix: &str, count: usize) {
    let names: Vec<String> = (0..count).map(|i| format!("{prefix}{i}")).collect();
    for chunk in names.chunks(1_000) {
        let mut command = vec!["MSET"];
        chunk.iter().for_each(|name| command.extend([name.as_str(), "v"]));
        assert_eq!(c.cmd(&command), ok());
    }
}

/// One whole SCAN, with every element as often as the server returned it.
fn scan(c: &mut Client, options: &str) -> Vec<String> {
    let (mut cursor, mut found) = ("0".to_string(), Vec::new());
    loop {
        let reply = c.run(&format!("SCAN {cursor} {options}"));
        let [next, keys] = reply.items() else { panic!("SCAN answered {reply:?}") };
        found.extend(keys.items().iter().map(Value::text));
        cursor = next.text();
        if cursor == "0" {
            return found;
        }
    }
}

#[test]
fn del_unlink_exists_touch_type() {
    each_client(|c| {
        c.check("MSET a 1 b 2 c 3 d 4", ok());
        c.check("EXISTS a b none a", int(3));
        c.check("TOUCH a none b", int(2));
        c.check("DEL a none a", int(1));
        c.check("UNLINK b c none", int(2));
        c.check("EXISTS a b c d", int(1));
        c.check("DBSIZE", int(1));
        c.check("TYPE d", simple("string"));
        c.check("TYPE a", simple("none"));
        for (line, name) in [
            ("DEL", "del"),
            ("UNLINK", "unlink"),
            ("EXISTS", "exists"),
            ("TOUCH", "touch"),
            ("TYPE", "type"),
            ("TYPE a b", "type"),
            ("RENAME a", "rename"),
            ("RENAMENX a b c", "renamenx"),
            ("COPY a", "copy"),
            ("MOVE a", "move"),
            ("SWAPDB 0", "swapdb"),
            ("RANDOMKEY x", "randomkey"),
            ("KEYS", "keys"),
            ("SCAN", "scan"),
            ("DBSIZE x", "dbsize"),
            ("EXPIRE a", "expire"),
            ("PEXPIREAT a", "pexpireat"),
            ("TTL", "ttl"),
            ("PTTL a b", "pttl"),
            ("EXPIRETIME", "expiretime"),
            ("PERSIST", "persist"),
            ("OBJECT", "object"),
            ("OBJECT ENCODING", "object|encoding"),
            ("OBJECT IDLETIME a b", "object|idletime"),
        ] {
            c.check(line, wrong_arity(name));
        }
    });
}

#[test]
fn rename_and_renamenx() {
    each_client(|c| {
        // Several names, so that whatever the shard count some pairs share an owner and some do not.
        for (from, to) in
            [("a", "b"), ("{t}a", "{t}b"), ("one", "two"), ("x1", "x2"), ("x3", "x4"), ("x5", "x6")]
        {
            c.run("FLUSHALL");
            c.check(&format!("SET {from} v EX 100"), ok());
            c.check(&format!("SET {to} old EX 5"), ok());
            c.check(&format!("RENAMENX {from} {to}"), int(0));
            c.check(&format!("GET {to}"), bulk("old"));
            c.check(&format!("RENAME {from} {to}"), ok());
            c.check(&format!("GET {to}"), bulk("v"));
            c.check_ttl(to, 100);
            c.check(&format!("EXISTS {from}"), int(0));
            c.check(&format!("RENAMENX {to} {from}"), int(1));
            c.check_ttl(from, 100);
            c.check(&format!("RENAME {to} {from}"), error("ERR no such key"));
            c.check(&format!("RENAMENX {to} {from}"), error("ERR no such key"));
            c.check(&format!("SET {to} \"with a time\" EX 100"), ok());
            c.check(&format!("PERSIST {from}"), int(1));
            c.check(&format!("RENAME {from} {to}"), ok());
            c.check(&format!("TTL {to}"), int(-1));
            c.check("DBSIZE", int(1));
        }
        c.check("SET k v", ok());
        c.check("RENAME k k", ok());
        c.check("RENAMENX k k", int(0));
        c.check("GET k", bulk("v"));
        c.check("RENAME none none", error("ERR no such key"));
    });
}

#[test]
fn copy() {
    each_client(|c| {
        for (from, to) in [("a", "b"), ("{t}a", "{t}b"), ("one", "two"), ("x1", "x2")] {
            c.run("FLUSHALL");
            c.check(&format!("COPY {from} {to}"), int(0));
            c.check(&format!("SET {from} v EX 100"), ok());
            c.check(&format!("COPY {from} {to}"), int(1));
            c.check(&format!("GET {to}"), bulk("v"));
            c.check_ttl(to, 100);
            c.check(&format!("SET {from} w"), ok());
            c.check(&format!("COPY {from} {to}"), int(0));
            c.check(&format!("GET {to}"), bulk("v"));
            c.check(&format!("COPY {from} {to} replace"), int(1));
            c.check(&format!("GET {to}"), bulk("w"));
            c.check(&format!("TTL {to}"), int(-1));
            c.check(&format!("COPY {from} {to} DB 3"), int(1));
            c.check(&format!("COPY {from} {from} DB 3 REPLACE"), int(1));
            c.check(&format!("COPY {from} {to} DB 3"), int(0));
            c.check("SELECT 3", ok());
            c.check(&format!("MGET {from} {to}"), bulks(&["w", "w"]));
            c.check("SELECT 0", ok());
        }
        c.check("SET a v", ok());
        c.check("COPY a a", error("ERR source and destination objects are the same"));
        c.check("COPY a a DB 0", error("ERR source and destination objects are the same"));
        c.check("COPY a b DB 16", error("ERR DB index is out of range"));
        c.check("COPY a b DB -1", error("ERR DB index is out of range"));
        c.check("COPY a b DB abc", not_an_integer());
        c.check("COPY a b FOO", syntax_error());
        c.check("COPY a b DB", syntax_error());
    });
}

#[test]
fn select_and_move() {
    each_client(|c| {
        c.check("SET k v EX 100", ok());
        c.check("SELECT 1", ok());
        c.check("GET k", nil());
        c.check("SET other 1", ok());
        c.check("DBSIZE", int(1));
        c.check("SELECT 0", ok());
        c.check("MOVE k 1", int(1));
        c.check("MOVE k 1", int(0));
        c.check("EXISTS k", int(0));
        c.check("SELECT 1", ok());
        c.check("GET k", bulk("v"));
        c.check_ttl("k", 100);
        c.check("SELECT 0", ok());
        c.check("SET k w", ok());
        c.check("MOVE k 1", int(0));
        c.check("GET k", bulk("w"));
        c.check("MOVE k 0", error("ERR source and destination objects are the same"));
        c.check("MOVE k 16", error("ERR DB index is out of range"));
        c.check("MOVE k -1", error("ERR DB index is out of range"));
        c.check("MOVE k abc", not_an_integer());
        c.check("SELECT 15", ok());
        c.check("SELECT 16", error("ERR DB index is out of range"));
        c.check("SELECT -1", error("ERR DB index is out of range"));
        c.check("SELECT abc", not_an_integer());
        c.check("DBSIZE", int(0));
    });
}

#[test]
fn swapdb_is_seen_by_everybody() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        fill(&mut c, "zero", 100);
        c.check("SELECT 1", ok());
        fill(&mut c, "one", 50);
        c.check("SWAPDB 0 1", ok());
        c.check("DBSIZE", int(100));
        other.check("DBSIZE", int(50));
        other.check("EXISTS one7 zero7", int(1));
        c.check("SWAPDB 1 0", ok());
        other.check("EXISTS one7 zero7", int(1));
        other.check("DBSIZE", int(100));
        c.check("SWAPDB 0 0", ok());
        c.check("SWAPDB 0 16", error("ERR DB index is out of range"));
        c.check("SWAPDB -1 1", error("ERR DB index is out of range"));
        c.check("SWAPDB abc 1", error("ERR invalid first DB index"));
        c.check("SWAPDB 1 abc", error("ERR invalid second DB index"));
    });
}

#[test]
fn flushing() {
    each_client(|c| {
        for flush in [
            "FLUSHALL",
            "FLUSHALL ASYNC",
            "FLUSHALL SYNC",
            "FLUSHDB",
            "FLUSHDB async",
            "FLUSHDB sync",
        ] {
            fill(c, "key", 300);
            c.check("SELECT 2", ok());
            c.check("SET k v EX 100", ok());
            c.check("SELECT 0", ok());
            c.check(flush, ok());
            c.check("DBSIZE", int(0));
            c.check("GET key7", nil());
            c.check("SELECT 2", ok());
            c.check("DBSIZE", int(if flush.starts_with("FLUSHDB") { 1 } else { 0 }));
            c.check("FLUSHDB", ok());
            c.check("SELECT 0", ok());
        }
        c.check("FLUSHALL FOO", syntax_error());
        c.check("FLUSHDB ASYNC SYNC", syntax_error());
        c.check("SET k v", ok());
        c.check("GET k", bulk("v"));
    });
}

#[test]
fn randomkey() {
    each_client(|c| {
        c.check("RANDOMKEY", nil());
        let names: BTreeSet<String> = (0..8).map(|i| format!("key{i}")).collect();
        fill(c, "key", names.len());
        let mut seen = BTreeSet::new();
        wait_until("RANDOMKEY has returned every key", || {
            seen.insert(c.run("RANDOMKEY").text());
            seen == names
        });
        c.check("FLUSHALL", ok());
        c.check("SET k v PX 5", ok());
        c.wait_for("RANDOMKEY", nil());
    });
}

#[test]
fn keys_matches_globs() {
    each_client(|c| {
        c.check(
            "MSET hello 1 hallo 2 hxllo 3 heello 4 hllo 5 h*llo 6 H]llo 7 \"\" 8 other 9",
            ok(),
        );
        for (pattern, expected) in [
            ("hello", vec!["hello"]),
            ("h?llo", vec!["h*llo", "hallo", "hello", "hxllo"]),
            ("h*llo", vec!["h*llo", "hallo", "heello", "hello", "hllo", "hxllo"]),
            ("h[ae]llo", vec!["hallo", "hello"]),
            ("h[^e]llo", vec!["h*llo", "hallo", "hxllo"]),
            ("h[a-f]llo", vec!["hallo", "hello"]),
            ("h[f-a]llo", vec!["hallo", "hello"]),
            ("h\\*llo", vec!["h*llo"]),
            ("H[\\]]llo", vec!["H]llo"]),
            ("*x*", vec!["hxllo"]),
            ("none*", vec![]),
            ("", vec![""]),
            ("o**r", vec!["other"]),
            ("othe[", vec![]),
            ("othe[r", vec!["other"]),
        ] {
            assert_eq!(c.cmd(&["KEYS", pattern]).sorted_texts(), expected, "KEYS {pattern}");
        }
        assert_eq!(c.run("KEYS *").items().len(), 9);
        // A pattern made to explode a backtracking matcher must answer at once.
        c.check(&format!("SET {} v", "a".repeat(64)), ok());
        c.check(&format!("KEYS {}b", "a*".repeat(32)), array([]));
        c.check("SELECT 1", ok());
        c.check("KEYS *", array([]));
    });
}

#[test]
fn keys_leaves_out_what_has_expired() {
    each_client(|c| {
        c.check("SET stays v", ok());
        c.check("SET goes v PX 5", ok());
        c.wait_for("KEYS *", bulks(&["stays"]));
        assert_eq!(scan(c, ""), ["stays"]);
    });
}

#[test]
fn scan_finds_everything() {
    each_client(|c| {
        assert_eq!(c.run("SCAN 0"), array([bulk("0"), array([])]));
        fill(c, "key:", 3_000);
        for options in
            ["", "COUNT 1", "COUNT 100", "count 100000", "TYPE string", "type STRING COUNT 50"]
        {
            let found: BTreeSet<String> = scan(c, options).into_iter().collect();
            assert_eq!(found.len(), 3_000, "SCAN {options}");
        }
        let mut found = scan(c, "MATCH key:12?4 COUNT 100");
        found.sort();
        found.dedup();
        let expected: Vec<String> = (0..10).map(|i| format!("key:12{i}4")).collect();
        assert_eq!(found, expected);
        assert_eq!(scan(c, "TYPE list COUNT 1000"), Vec::<String>::new());
        assert_eq!(scan(c, "MATCH none:* COUNT 1000"), Vec::<String>::new());
        // A literal pattern with one tag names one slot; it must be found all the same.
        c.check("SET {tag}:1 v", ok());
        let mut found = scan(c, "MATCH {tag}:* COUNT 100");
        found.dedup();
        assert_eq!(found, ["{tag}:1"]);
    });
}

#[test]
fn scan_refuses_nonsense() {
    each_client(|c| {
        for cursor in ["abc", "-1", "18446744073709551616", "1.0", "\"1 \""] {
            c.check(&format!("SCAN {cursor}"), error("ERR invalid cursor"));
        }
        for options in ["COUNT 0", "COUNT -1", "COUNT", "TYPE", "MATCH", "FOO", "MATCH a COUNT"] {
            c.check(&format!("SCAN 0 {options}"), syntax_error());
        }
        c.check("SCAN 0 COUNT abc", not_an_integer());
        c.check("SCAN 0 TYPE foo", error("ERR unknown type name 'foo'"));
        // A cursor nobody handed out is still answered, with whatever follows it.
        let reply = c.run("SCAN 18446744073709551615");
        assert_eq!(reply.items().len(), 2, "{reply:?}");
    });
}

/// The promise SCAN makes: what is there from its start to its end is returned, however much comes and goes beside it.
#[test]
fn scan_keeps_its_promise_while_the_table_grows_and_shrinks() {
    each_client(|c| {
        fill(c, "stays:", 500);
        fill(c, "goes:", 4_000);
        let (mut cursor, mut found, mut turn) = ("0".to_string(), BTreeSet::new(), 0);
        loop {
            let reply = c.run(&format!("SCAN {cursor} COUNT 20"));
            found.extend(
                reply.items()[1]
                    .items()
                    .iter()
                    .map(Value::text)
                    .filter(|key| key.starts_with("stays:")),
            );
            cursor = reply.items()[0].text();
            if cursor == "0" {
                break;
            }
            // The first half of the walk grows the table, the second empties it.
            if turn < 60 {
                fill(c, &format!("new:{turn}:"), 150);
            } else if turn < 100 {
                let first = (turn - 60) * 100;
                let names: Vec<String> =
                    (first..first + 100).map(|i| format!("goes:{i}")).collect();
                let mut command = vec!["DEL"];
                command.extend(names.iter().map(String::as_str));
                c.cmd(&command);
            }
            turn += 1;
        }
        assert_eq!(found.len(), 500);
    });
}

#[test]
fn expire_family_sets_and_reads_times() {
    each_client(|c| {
        c.check("TTL none", int(-2));
        c.check("PTTL none", int(-2));
        c.check("EXPIRETIME none", int(-2));
        c.check("PEXPIRETIME none", int(-2));
        c.check("EXPIRE none 10", int(0));
        c.check("PERSIST none", int(0));
        c.check("SET k v", ok());
        c.check("TTL k", int(-1));
        c.check("PTTL k", int(-1));
        c.check("EXPIRETIME k", int(-1));
        c.check("PEXPIRETIME k", int(-1));
        c.check("PERSIST k", int(0));
        c.check("EXPIRE k 100", int(1));
        c.check_ttl("k", 100);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let at = c.run("EXPIRETIME k").int();
        assert!((now + 98..=now + 101).contains(&at), "{at} is not 100 s after {now}");
        c.check("PEXPIRE k 200000", int(1));
        assert!((190_000..=200_000).contains(&c.run("PTTL k").int()));
        c.check("EXPIREAT k 33177117420", int(1));
        c.check("EXPIRETIME k", int(33_177_117_420));
        c.check("PEXPIREAT k 33177117420123", int(1));
        c.check("PEXPIRETIME k", int(33_177_117_420_123));
        c.check("EXPIRETIME k", int(33_177_117_420));
        c.check("PERSIST k", int(1));
        c.check("TTL k", int(-1));
        c.check("GET k", bulk("v"));
    });
}

#[test]
fn expire_conditions() {
    each_client(|c| {
        c.check("SET k v", ok());
        c.check("EXPIRE k 100 XX", int(0));
        c.check("EXPIRE k 100 GT", int(0));
        c.check("TTL k", int(-1));
        c.check("EXPIRE k 100 LT", int(1));
        c.check("EXPIRE k 200 NX", int(0));
        c.check("EXPIRE k 50 GT", int(0));
        c.check("EXPIRE k 200 gt", int(1));
        c.check("EXPIRE k 300 LT", int(0));
        c.check_ttl("k", 200);
        c.check("EXPIRE k 150 XX LT", int(1));
        c.check("EXPIRE k 160 xx GT", int(1));
        c.check_ttl("k", 160);
        c.check("PEXPIREAT k 33177117420123 GT", int(1));
        c.check("EXPIREAT k 33177117420 GT", int(0));
        c.check("EXPIREAT k 33177117420 LT", int(1));
        c.check("PERSIST k", int(1));
        c.check("PEXPIRE k 100000 NX", int(1));
        let nx = error("ERR NX and XX, GT or LT options at the same time are not compatible");
        c.check("EXPIRE k 10 NX XX", nx.clone());
        c.check("EXPIRE k 10 NX GT", nx.clone());
        c.check("EXPIREAT none 10 LT NX", nx);
        c.check(
            "EXPIRE k 10 GT LT",
            error("ERR GT and LT options at the same time are not compatible"),
        );
        c.check("EXPIRE k 10 FOO", error("ERR Unsupported option FOO"));
        c.check("EXPIRE none 10 NX foo", error("ERR Unsupported option foo"));
    });
}

#[test]
fn expire_in_the_past_deletes() {
    each_client(|c| {
        for line in [
            "EXPIRE k 0",
            "EXPIRE k -1",
            "PEXPIRE k -1000",
            "EXPIREAT k 1",
            "PEXPIREAT k 0",
            "EXPIREAT k -9",
        ] {
            c.check("SET k v", ok());
            c.check(line, int(1));
            c.check("EXISTS k", int(0));
            c.check("DBSIZE", int(0));
        }
        c.check("SET k v EX 100", ok());
        c.check("EXPIRE k -1 GT", int(0));
        c.check_ttl("k", 100);
        c.check("EXPIRE k -1 LT", int(1));
        c.check("EXISTS k", int(0));
    });
}

#[test]
fn expire_refuses_what_does_not_fit() {
    each_client(|c| {
        c.check("SET k v", ok());
        for (line, name) in [
            ("EXPIRE k 9223372036854775807", "expire"),
            ("EXPIRE k -9223372036854775808", "expire"),
            ("EXPIRE k 9223372036854775", "expire"),
            ("PEXPIRE k 9223372036854775807", "pexpire"),
            ("EXPIREAT k 9223372036854775807", "expireat"),
        ] {
            c.check(line, error(&format!("ERR invalid expire time in '{name}' command")));
        }
        c.check("PEXPIREAT k 9223372036854775807", int(1));
        c.check("PEXPIRETIME k", int(i64::MAX));
        c.check("PERSIST k", int(1));
        for value in ["abc", "1.5", "9223372036854775808", "\"\""] {
            c.check(&format!("EXPIRE k {value}"), not_an_integer());
        }
        c.check("TTL k", int(-1));
    });
}

/// Keys nobody asks for again must go too: their memory is the point.
#[test]
fn a_key_given_an_expiry_in_the_past_has_expired() {
    each_client(|c| {
        c.check("CONFIG RESETSTAT", ok());
        let lines = [
            "EXPIRE k -1",
            "EXPIREAT k 1",
            "PEXPIRE k -1",
            "PEXPIREAT k 1",
            "GETEX k EXAT 1",
            "SET k v EXAT 1",
        ];
        for (before, line) in lines.iter().enumerate() {
            c.check("SET k v", ok());
            assert!(!c.run(line).is_error());
            c.check("EXISTS k", int(0));
            let stats = c.run("INFO stats").text();
            assert!(stats.contains(&format!("expired_keys:{}\r\n", before + 1)), "{line}: {stats}");
            // Where there is no key, none expires.
            c.run(line);
            assert!(
                c.run("INFO stats").text().contains(&format!("expired_keys:{}\r\n", before + 1))
            );
        }
    });
}

#[test]
fn expired_keys_leave_without_being_touched() {
    each_client(|c| {
        fill(c, "stays", 200);
        for i in 0..400 {
            c.send(&format!("SET goes{i} v PX {}", 1 + i % 20));
        }
        (0..400).for_each(|_| c.expect(ok()));
        c.wait_for("DBSIZE", int(200));
        let gone = |c: &mut Client| {
            let info = c.run("INFO stats").text();
            let line = info
                .lines()
                .find_map(|line| line.strip_prefix("expired_keys:"))
                .expect("expired_keys in INFO");
            line.trim().parse::<u64>().expect("expired_keys is a number")
        };
        assert_eq!(gone(c), 400);
    });
}

#[test]
fn object() {
    each_client(|c| {
        c.check("MSET n 12345 short abcdef", ok());
        assert_eq!(c.cmd(&["SET", "long", &"x".repeat(1_000)]), ok());
        c.check("OBJECT ENCODING n", bulk("int"));
        c.check("object encoding short", bulk("embstr"));
        c.check("OBJECT ENCODING long", bulk("raw"));
        c.check("SET n 9223372036854775808", ok());
        c.check("OBJECT ENCODING n", bulk("embstr"));
        c.check("APPEND short g", int(7));
        c.check("OBJECT ENCODING short", bulk("raw"));
        c.check("OBJECT REFCOUNT short", int(1));
        assert!((0..=2).contains(&c.run("OBJECT IDLETIME short").int()));
        c.check("OBJECT ENCODING none", nil());
        c.check("OBJECT REFCOUNT none", nil());
        c.check("OBJECT IDLETIME none", nil());
        c.check("OBJECT FREQ none", nil());
        c.check_error_prefix("OBJECT FREQ n", "ERR An LFU maxmemory policy is not selected");
        c.check("OBJECT FOO k", error("ERR unknown subcommand 'FOO'. Try OBJECT HELP."));
        assert!(c.run("OBJECT HELP").items().len() > 5);
    });
}

#[test]
fn counts_survive_a_large_database() {
    each_client(|c| {
        fill(c, "key:", 20_000);
        c.check("DBSIZE", int(20_000));
        assert_eq!(c.run("KEYS key:*").items().len(), 20_000);
        assert_eq!(c.run("KEYS key:1234?").items().len(), 10);
        let names: Vec<String> = (0..20_000).map(|i| format!("key:{i}")).collect();
        let mut command = vec!["UNLINK"];
        command.extend(names.iter().step_by(2).map(String::as_str));
        assert_eq!(c.cmd(&command), int(10_000));
        c.check("DBSIZE", int(10_000));
        let info = c.run("INFO keyspace").text();
        assert!(info.contains("db0:keys=10000,expires=0,"), "{info}");
    });
}

//! MULTI, EXEC, DISCARD, WATCH and UNWATCH, with keys that share a shard and keys that do not.

mod support;

use support::*;

#[test]
fn multi_queues_and_exec_runs() {
    each_client(|c| {
        c.check("MULTI", ok());
        for line in
            ["SET a 1", "SET b 2", "MGET a b none", "INCR a", "DEL b none", "DBSIZE", "PING"]
        {
            c.check(line, queued());
        }
        let values = array([bulk("1"), bulk("2"), nil()]);
        c.check("EXEC", array([ok(), ok(), values, int(2), int(1), int(1), simple("PONG")]));
        c.check("GET a", bulk("2"));
        c.check("MULTI", ok());
        c.check("EXEC", array([]));
        c.check("EXEC", error("ERR EXEC without MULTI"));
        c.check("DISCARD", error("ERR DISCARD without MULTI"));
        for (line, name) in [("MULTI x", "multi"), ("WATCH", "watch"), ("UNWATCH x", "unwatch")] {
            c.check(line, wrong_arity(name));
        }
    });
}

#[test]
fn nothing_is_visible_before_exec() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        c.check("MULTI", ok());
        c.check("MSET a 1 b 1", queued());
        other.check("MGET a b", array([nil(), nil()]));
        c.check("EXEC", array([ok()]));
        other.check("MGET a b", bulks(&["1", "1"]));
    });
}

#[test]
fn discard_forgets_the_queue_and_the_watches() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        c.check("WATCH w", ok());
        c.check("MULTI", ok());
        c.check("SET a 1", queued());
        c.check("DISCARD", ok());
        c.check("EXISTS a", int(0));
        other.check("SET w 1", ok());
        c.check("MULTI", ok());
        c.check("SET a 2", queued());
        c.check("EXEC", array([ok()]));
    });
}

#[test]
fn an_error_while_queueing_aborts() {
    each_client(|c| {
        let aborted = error("EXECABORT Transaction discarded because of previous errors.");
        for (line, refusal) in [
            ("GET", wrong_arity("get")),
            (
                "NOSUCH a \"b c\"",
                error("ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b c' "),
            ),
            ("OBJECT FOO", error("ERR unknown subcommand 'FOO'. Try OBJECT HELP.")),
        ] {
            c.check("MULTI", ok());
            c.check("SET a 1", queued());
            c.check(line, refusal);
            c.check("SET b 1", queued());
            c.check("EXEC", aborted.clone());
            c.check("EXISTS a b", int(0));
        }
        c.check("MULTI", ok());
        c.check("SET a 1", queued());
        c.check("EXEC", array([ok()]));
    });
}

#[test]
fn an_error_while_running_stops_nothing() {
    each_client(|c| {
        c.check("SET text abc", ok());
        c.check("MULTI", ok());
        for line in
            ["INCR text", "SET a 1", "SET a 2 EX 0", "EXPIRE a abc", "RENAME none x", "SET b 2"]
        {
            c.check(line, queued());
        }
        c.check(
            "EXEC",
            array([
                not_an_integer(),
                ok(),
                error("ERR invalid expire time in 'set' command"),
                not_an_integer(),
                error("ERR no such key"),
                ok(),
            ]),
        );
        c.check("MGET a b", bulks(&["1", "2"]));
    });
}

#[test]
fn what_may_not_be_queued() {
    each_client(|c| {
        let aborted = error("EXECABORT Transaction discarded because of previous errors.");
        for (line, name) in [("MULTI", "multi"), ("WATCH a", "watch")] {
            c.check("MULTI", ok());
            c.check(line, error(&format!("ERR Command '{name}' not allowed inside a transaction")));
            c.check("SET a 1", queued());
            c.check("EXEC", aborted.clone());
        }
        // An EXEC that cannot be understood ends the transaction all the same.
        let misspelt = error(
            "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
        );
        c.check("MULTI", ok());
        c.check("SET a 1", queued());
        c.check("EXEC x", misspelt.clone());
        c.check("EXEC", error("ERR EXEC without MULTI"));
        c.check("EXEC x", misspelt);
        c.check("EXISTS a", int(0));
    });
}

#[test]
fn commands_of_every_plan_run_inside() {
    each_client(|c| {
        c.check("MSET a 1 b 2 c 3", ok());
        c.check("MULTI", ok());
        let lines = [
            "RENAME a x",
            "COPY b y",
            "MSETNX a 1 b 1",
            "KEYS x",
            "SELECT 1",
            "SET in1 v",
            "DBSIZE",
            "SWAPDB 0 1",
            "DBSIZE",
            "EXISTS b c x y",
            "FLUSHDB",
            "SELECT 0",
            "KEYS *",
            "RANDOMKEY",
            "UNWATCH",
            "ECHO hi",
        ];
        for line in lines {
            c.check(line, queued());
        }
        c.check(
            "EXEC",
            array([
                ok(),
                int(1),
                int(0),
                bulks(&["x"]),
                ok(),
                ok(),
                int(1),
                ok(),
                int(4),
                int(4),
                ok(),
                ok(),
                bulks(&["in1"]),
                bulk("in1"),
                ok(),
                bulk("hi"),
            ]),
        );
        c.check("DBSIZE", int(1));
    });
}

#[test]
fn watch_aborts_when_a_key_changes() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        let changes = [
            "SET w 2",
            "SET w 1",
            "APPEND w x",
            "INCR w",
            "DEL w",
            "GETDEL w",
            "EXPIRE w 100",
            "MSET a 1 w 2",
            "RENAME w z",
            "RENAME a w",
            "COPY a w REPLACE",
            "SETRANGE w 0 x",
            "FLUSHALL",
            "FLUSHDB",
            "MOVE w 3",
            "EXPIRE w -1",
            "UNLINK w",
            "GETEX w EX 50",
            "SWAPDB 0 1",
            "SWAPDB 1 0",
        ];
        for change in changes {
            c.run("FLUSHALL");
            c.check("MSET w 1 v 1 a 1", ok());
            c.check("WATCH v w", ok());
            let reply = other.run(change);
            assert!(!reply.is_error(), "{change}: {reply:?}");
            c.check("MULTI", ok());
            c.check("SET v 2", queued());
            let reply = c.run("EXEC");
            assert_eq!(reply, nil_array(), "after {change}");
            // An EXEC ends every watch, the one that failed too.
            c.check("MULTI", ok());
            c.check("SET v 2", queued());
            c.check("EXEC", array([ok()]));
        }
    });
}

#[test]
fn watch_ignores_what_does_not_change_the_key() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        let harmless = [
            "GET w",
            "SET other 1",
            "SET w 2 NX",
            "SET none 1 XX",
            "DEL none",
            "MSETNX w 5 new 1",
            "EXPIRE none 10",
            "PERSIST w",
            "TOUCH w",
            "OBJECT ENCODING w",
            "SET w 9 IFEQ 5",
            "DELIFEQ w 5",
            "APPEND none2 \"\"",
            "EXPIRE w 100 XX",
            "RENAMENX other w",
            "COPY other w",
            "SWAPDB 2 3",
        ];
        for line in harmless {
            c.run("FLUSHALL");
            c.check("MSET w 1 other 1", ok());
            c.check("WATCH w gone", ok());
            other.run(line);
            c.check("MULTI", ok());
            c.check("GET w", queued());
            let reply = c.run("EXEC");
            assert_eq!(reply, array([bulk("1")]), "after {line}");
        }
    });
}

#[test]
fn watch_sees_no_change_when_an_expired_key_is_swapped_in() {
    for &shards in shard_counts() {
        let server = Launch::new(shards).args(&["--enable-debug-command", "yes"]).start();
        let (mut c, mut clock) = (server.client(), server.client());
        // It is still there when the databases change places.
        c.check("DEBUG SET-ACTIVE-EXPIRE 0", ok());
        for both in [false, true] {
            c.check("FLUSHALL", ok());
            c.check("SELECT 0", ok());
            c.check("SET w old PX 1", ok());
            c.check("SELECT 1", ok());
            if both {
                c.check("SET w older PX 1", ok());
            }
            // By the server's clock, without a look at the key: that would remove it.
            let millis = |c: &mut Client| {
                let time = c.run("TIME");
                let part = |at: usize| time.items()[at].text().parse::<u64>().expect("a number");
                part(0) * 1000 + part(1) / 1000
            };
            let set_at = millis(&mut clock);
            wait_until("its time has passed", || millis(&mut clock) > set_at + 2);
            c.check("WATCH w", ok());
            c.check("SWAPDB 0 1", ok());
            c.check("MULTI", ok());
            c.check("GET w", queued());
            assert_eq!(c.run("EXEC"), array([nil()]), "both sides: {both}");
        }
    }
}

#[test]
fn watch_sees_ones_own_changes_and_unwatch_forgets() {
    each_client(|c| {
        c.check("SET w 1", ok());
        c.check("WATCH w", ok());
        c.check("SET w 2", ok());
        c.check("MULTI", ok());
        c.check("PING", queued());
        c.check("EXEC", nil_array());
        c.check("WATCH w w", ok());
        c.check("SET w 3", ok());
        c.check("UNWATCH", ok());
        c.check("MULTI", ok());
        c.check("PING", queued());
        c.check("EXEC", array([simple("PONG")]));
        c.check("UNWATCH", ok());
        c.run("HELLO 3");
        c.check("WATCH w", ok());
        c.check("SET w 4", ok());
        c.check("MULTI", ok());
        c.check("EXEC", Value::Null);
    });
}

#[test]
fn watch_on_a_missing_key_sees_it_appear() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        c.check("WATCH new", ok());
        other.check("SET new 1", ok());
        c.check("MULTI", ok());
        c.check("PING", queued());
        c.check("EXEC", nil_array());
        // Created and removed again: a change all the same.
        c.check("WATCH brief", ok());
        other.check("SET brief 1", ok());
        other.check("DEL brief", int(1));
        c.check("MULTI", ok());
        c.check("PING", queued());
        c.check("EXEC", nil_array());
        // Emptying a database does not change a key it never had.
        c.check("WATCH never", ok());
        other.check("FLUSHALL", ok());
        c.check("MULTI", ok());
        c.check("PING", queued());
        c.check("EXEC", array([simple("PONG")]));
    });
}

#[test]
fn watch_is_bound_to_its_database() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        c.check("WATCH k", ok());
        other.check("SELECT 1", ok());
        other.check("SET k 1", ok());
        c.check("SELECT 1", ok());
        c.check("MULTI", ok());
        c.check("GET k", queued());
        c.check("EXEC", array([bulk("1")]));
        c.check("WATCH k", ok());
        c.check("SELECT 0", ok());
        other.check("SET k 2", ok());
        c.check("MULTI", ok());
        c.check("PING", queued());
        c.check("EXEC", nil_array());
    });
}

#[test]
fn a_watched_key_that_expires_aborts() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        wait_until("the watch comes before the expiry", || {
            c.check("UNWATCH", ok());
            c.check("SET w 1 PX 30", ok());
            c.check("WATCH w", ok());
            c.run("EXISTS w") == int(1)
        });
        other.wait_for("EXISTS w", int(0));
        c.check("MULTI", ok());
        c.check("PING", queued());
        c.check("EXEC", nil_array());
        // Expired before it was watched: it was not there, and it still is not.
        c.check("SET w 1 PX 1", ok());
        other.wait_for("EXISTS w", int(0));
        c.check("WATCH w", ok());
        c.check("MULTI", ok());
        c.check("PING", queued());
        c.check("EXEC", array([simple("PONG")]));
    });
}

#[test]
fn expiry_inside_exec_uses_one_moment() {
    each_client(|c| {
        // The clock stands still within a transaction: a key with a time to live cannot vanish half way through it.
        c.check("MULTI", ok());
        c.check("SET k v PX 1", queued());
        (0..200).for_each(|_| c.check("EXISTS k", queued()));
        let reply = c.run("EXEC");
        assert!(reply.items()[1..].iter().all(|exists| *exists == int(1)), "{reply:?}");
    });
}

#[test]
fn a_closed_connection_runs_nothing() {
    each_shard_count(|server| {
        let mut other = server.client();
        let mut c = server.client();
        c.check("WATCH a", ok());
        c.check("MULTI", ok());
        c.check("SET a 1", queued());
        drop(c);
        let mut c = server.client();
        c.check("EXEC", error("ERR EXEC without MULTI"));
        other.check("EXISTS a", int(0));
        other.check("SET a 2", ok());
    });
}

#[test]
fn reset_ends_a_transaction() {
    each_client(|c| {
        c.check("WATCH a", ok());
        c.check("MULTI", ok());
        c.check("SET a 1", queued());
        c.check("RESET", simple("RESET"));
        c.check("EXEC", error("ERR EXEC without MULTI"));
        c.check("EXISTS a", int(0));
    });
}

/// Optimistic locking as applications use it: nobody's increment may be lost.
#[test]
fn watched_increments_add_up() {
    each_shard_count(|server| {
        const CLIENTS: usize = 4;
        const EACH: usize = 50;
        server.client().check("MSET sum 0 log 0", ok());
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut c = server.client();
                    let mut done = 0;
                    while done < EACH {
                        c.check("WATCH sum log", ok());
                        let values = c.run("MGET sum log");
                        let [sum, log] = values.items() else { panic!("{values:?}") };
                        assert_eq!(sum, log, "two keys that only change together");
                        let next = sum.text().parse::<u64>().expect("a number") + 1;
                        c.check("MULTI", ok());
                        c.check(&format!("SET sum {next}"), queued());
                        c.check(&format!("SET log {next}"), queued());
                        if c.run("EXEC") != nil_array() {
                            done += 1;
                        }
                    }
                });
            }
        });
        let total = (CLIENTS * EACH).to_string();
        server.client().check("MGET sum log", bulks(&[&total, &total]));
    });
}

/// Pipelined transactions of several clients: no reader sees half of one.
#[test]
fn exec_is_isolated_across_shards() {
    each_shard_count(|server| {
        const ROUNDS: usize = 300;
        let keys = ["a", "b", "c", "d"];
        server.client().check("MSET a 0 b 0 c 0 d 0", ok());
        std::thread::scope(|scope| {
            for writer in 0..2 {
                scope.spawn(move || {
                    let mut c = server.client();
                    for round in 0..ROUNDS {
                        c.send("MULTI");
                        keys.iter().for_each(|key| c.send(&format!("SET {key} {writer}:{round}")));
                        c.send("EXEC");
                        (0..=keys.len()).for_each(|_| drop(c.read_reply()));
                        assert_eq!(c.read_reply().items().len(), keys.len());
                    }
                });
            }
            scope.spawn(|| {
                let mut c = server.client();
                for _ in 0..ROUNDS {
                    c.send("MGET a b c d");
                    c.send("MULTI");
                    keys.iter().for_each(|key| c.send(&format!("GET {key}")));
                    c.send("EXEC");
                    let together = c.read_reply();
                    assert!(together.items().windows(2).all(|w| w[0] == w[1]), "{together:?}");
                    (0..=keys.len()).for_each(|_| drop(c.read_reply()));
                    let one_by_one = c.read_reply();
                    assert!(one_by_one.items().windows(2).all(|w| w[0] == w[1]), "{one_by_one:?}");
                }
            });
        });
    });
}

/// HELLO changes how the replies after it are written, not those before: it runs in its place.
#[test]
fn session_commands_run_in_their_place() {
    each_shard_count(|server| {
        let mut c = server.client();
        c.check("MULTI", ok());
        for line in ["GET a", "HELLO 3", "GET a", "MGET a b c d", "CLIENT SETNAME x", "HELLO 2"] {
            c.check(line, queued());
        }
        c.check("MSET a 1 b 2 c 3 d 4", queued());
        c.check("CLIENT GETNAME", queued());
        c.check("GET none", queued());
        let replies = c.run("EXEC");
        let replies = replies.items();
        assert_eq!(replies[0], nil());
        assert!(matches!(replies[1], Value::Map(_)), "{:?}", replies[1]);
        assert_eq!(replies[2], Value::Null);
        assert_eq!(replies[3], array([Value::Null, Value::Null, Value::Null, Value::Null]));
        assert_eq!(replies[6..], [ok(), bulk("x"), nil()]);
        c.check("MGET a b c d", bulks(&["1", "2", "3", "4"]));
        // Nothing but the session, and the database that what follows runs in.
        c.check("MULTI", ok());
        for line in ["SELECT 1", "SET a one", "SELECT 0", "GET a", "ECHO x"] {
            c.check(line, queued());
        }
        c.check("EXEC", array([ok(), ok(), ok(), bulk("1"), bulk("x")]));
        c.check("SELECT 1", ok());
        c.check("GET a", bulk("one"));
        c.check("MULTI", ok());
        c.check("PING", queued());
        c.check("EXEC", array([simple("PONG")]));
    });
}

/// As many names as a client likes, each once, and again in a second WATCH.
#[test]
fn many_keys_are_watched() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        let names: Vec<String> = (0..20_000).map(|i| format!("w{}", i % 15_000)).collect();
        let mut watch: Vec<&str> = vec!["WATCH"];
        watch.extend(names.iter().map(String::as_str));
        assert_eq!(c.cmd(&watch), ok());
        assert_eq!(c.cmd(&watch), ok());
        c.check("MULTI", ok());
        c.check("SET a 1", queued());
        c.check("EXEC", array([ok()]));
        assert_eq!(c.cmd(&watch), ok());
        other.check("SET w14999 1", ok());
        c.check("MULTI", ok());
        c.check("SET a 2", queued());
        c.check("EXEC", nil_array());
        c.check("GET a", bulk("1"));
        wait_until("nothing is watched any more", || {
            c.run("INFO clients").text().contains("total_watched_keys:0\r\n")
        });
    });
}

//! Pub/sub and keyspace notifications, with subscribers and publishers on the same shard and on different ones.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use support::*;

/// Something that has been published, or that tells of a subscription, as a client of that protocol gets it.
fn message(resp3: bool, parts: &[Value]) -> Value {
    if resp3 { Value::Push(parts.to_vec()) } else { Value::Array(parts.to_vec()) }
}

fn told(resp3: bool, word: &str, name: &str, count: i64) -> Value {
    message(resp3, &[bulk(word), bulk(name), int(count)])
}

fn got(resp3: bool, channel: &str, payload: &str) -> Value {
    message(resp3, &[bulk("message"), bulk(channel), bulk(payload)])
}

fn got_by(resp3: bool, pattern: &str, channel: &str, payload: &str) -> Value {
    message(resp3, &[bulk("pmessage"), bulk(pattern), bulk(channel), bulk(payload)])
}

fn confined(command: &str) -> Value {
    error(&format!(
        "ERR Can't execute '{command}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
         this context"
    ))
}

/// Begins to speak RESP3.
fn speak_resp3(c: &mut Client) {
    c.run("HELLO 3");
}

/// A field of INFO.
fn info(c: &mut Client, name: &str) -> String {
    let text = c.run("INFO everything").text();
    let prefix = format!("{name}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
}

/// So many have subscribed to a channel. (Of more than one, Valkey 9.1.2 shows an address instead.)
fn wait_for_subscribers(c: &mut Client, channel: &str, count: i64) {
    if reference().is_none() {
        c.wait_for(&format!("PUBSUB NUMSUB {channel}"), array([bulk(channel), int(count)]));
    }
}

/// Several clients: enough that each of four shards has some.
fn clients(server: &Server) -> Vec<Client> {
    (0..8).map(|_| server.client()).collect()
}

#[test]
fn who_subscribes_in_resp2_can_say_little_else() {
    each_client(|c| {
        c.check("SUBSCRIBE x y x", told(false, "subscribe", "x", 1));
        c.expect(told(false, "subscribe", "y", 2));
        c.expect(told(false, "subscribe", "x", 2));
        for (line, command) in [
            ("GET k", "get"),
            ("MULTI", "multi"),
            ("CLIENT INFO", "client|info"),
            ("HELLO 3", "hello"),
        ] {
            c.check(line, confined(command));
        }
        c.check("PING", array([bulk("pong"), bulk("")]));
        c.check("PING hi", array([bulk("pong"), bulk("hi")]));
        c.check("SSUBSCRIBE s", told(false, "ssubscribe", "s", 1));
        c.check("PSUBSCRIBE p", told(false, "psubscribe", "p", 3));
        c.check("UNSUBSCRIBE y", told(false, "unsubscribe", "y", 2));
        c.check("UNSUBSCRIBE", told(false, "unsubscribe", "x", 1));
        c.check("UNSUBSCRIBE", array([bulk("unsubscribe"), nil(), int(1)]));
        c.check("UNSUBSCRIBE z z", told(false, "unsubscribe", "z", 1));
        c.expect(told(false, "unsubscribe", "z", 1));
        c.check("PUNSUBSCRIBE p", told(false, "punsubscribe", "p", 0));
        c.check("GET k", confined("get"));
        c.check("SUNSUBSCRIBE", told(false, "sunsubscribe", "s", 0));
        c.check("SUNSUBSCRIBE", array([bulk("sunsubscribe"), nil(), int(0)]));
        c.check("GET k", nil());
        c.check("SUBSCRIBE x", told(false, "subscribe", "x", 1));
        c.check("NOSUCH", error("ERR unknown command 'NOSUCH', with args beginning with: "));
        c.check("GET", wrong_arity("get"));
        c.check("RESET", simple("RESET"));
        c.check("PING", simple("PONG"));
        c.check("PUBLISH x 1", int(0));
        c.check("SUBSCRIBE x", told(false, "subscribe", "x", 1));
        c.check("QUIT", ok());
        c.expect_closed();
    });
}

#[test]
fn messages_reach_every_shard_and_are_counted() {
    each_shard_count(|server| {
        let (mut publisher, mut listeners) = (server.client(), clients(server));
        publisher.check("PUBLISH news nobody", int(0));
        publisher.check("SPUBLISH news nobody", int(0));
        for (at, c) in listeners.iter_mut().enumerate() {
            if at % 2 == 1 {
                speak_resp3(c);
            }
            let resp3 = at % 2 == 1;
            c.check("SUBSCRIBE news", told(resp3, "subscribe", "news", 1));
            c.check("PSUBSCRIBE n*", told(resp3, "psubscribe", "n*", 2));
            c.check("SSUBSCRIBE news", told(resp3, "ssubscribe", "news", 1));
        }
        let long = "x".repeat(100_000);
        for text in ["hello", "", &long] {
            assert_eq!(publisher.cmd(&["PUBLISH", "news", text]), int(16));
            assert_eq!(publisher.cmd(&["PUBLISH", "nothing", text]), int(8));
            assert_eq!(publisher.cmd(&["SPUBLISH", "news", text]), int(8));
        }
        for (at, c) in listeners.iter_mut().enumerate() {
            let resp3 = at % 2 == 1;
            for text in ["hello", "", &long] {
                c.expect(got(resp3, "news", text));
                c.expect(got_by(resp3, "n*", "news", text));
                c.expect(got_by(resp3, "n*", "nothing", text));
                c.expect(message(resp3, &[bulk("smessage"), bulk("news"), bulk(text)]));
            }
        }
        publisher.check("PUBSUB CHANNELS", bulks(&["news"]));
        publisher.check("PUBSUB CHANNELS x*", array([]));
        publisher.check("PUBSUB SHARDCHANNELS", bulks(&["news"]));
        wait_for_subscribers(&mut publisher, "news", 8);
        wait_for_subscribers(&mut publisher, "other", 0);
        publisher.check("PUBSUB NUMSUB", array([]));
        if reference().is_none() {
            publisher.check("PUBSUB SHARDNUMSUB news", array([bulk("news"), int(8)]));
        }
        publisher.check("PUBSUB NUMPAT", int(1));
        let text =
            "ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.";
        publisher.check("PUBSUB CHANNELS a b", error(text));
        publisher.check("PUBSUB NUMPAT x", wrong_arity("pubsub|numpat"));
        assert!(publisher.run("PUBSUB HELP").items()[0].text().starts_with("PUBSUB <subcommand>"));
        // Who goes is not counted any more.
        drop(listeners);
        publisher.wait_for("PUBSUB NUMPAT", int(0));
        publisher.wait_for("PUBLISH news nobody", int(0));
        publisher.check("PUBSUB CHANNELS", array([]));
    });
}

#[test]
fn in_resp3_messages_come_between_replies() {
    each_client(|c| {
        speak_resp3(c);
        c.check("SUBSCRIBE x", told(true, "subscribe", "x", 1));
        c.check("GET k", Value::Null);
        c.check("PING", simple("PONG"));
        // One's own come after the reply.
        c.check("PUBLISH x m", int(1));
        c.expect(got(true, "x", "m"));
        for line in ["SUBSCRIBE y", "PUBLISH y 1", "SET k 1", "PING", "UNSUBSCRIBE x"] {
            c.send("MULTI");
            c.expect(ok());
            c.check(line, queued());
            c.check("DISCARD", ok());
        }
        c.check("MULTI", ok());
        for line in
            ["SUBSCRIBE y", "PUBLISH y 1", "SET k 1", "MGET a b c d", "PING", "UNSUBSCRIBE x"]
        {
            c.check(line, queued());
        }
        let none = || Value::Array(vec![Value::Null; 4]);
        c.check(
            "EXEC",
            Value::Array(vec![
                told(true, "subscribe", "y", 2),
                int(1),
                ok(),
                none(),
                simple("PONG"),
                told(true, "unsubscribe", "x", 1),
            ]),
        );
        c.expect(got(true, "y", "1"));
        // Back to RESP2, where little may be said.
        c.run("HELLO 2");
        c.check("GET k", confined("get"));
        c.check("UNSUBSCRIBE", told(false, "unsubscribe", "y", 0));
        c.check("GET k", bulk("1"));
    });
}

#[test]
fn messages_come_though_replies_are_off() {
    each_shard_count(|server| {
        let (mut c, mut publisher) = (server.client(), server.client());
        c.send("CLIENT REPLY OFF");
        c.check("SUBSCRIBE c", told(false, "subscribe", "c", 1));
        publisher.check("PUBLISH c hi", int(1));
        c.expect(got(false, "c", "hi"));
        c.send("PING");
        c.check("UNSUBSCRIBE c", told(false, "unsubscribe", "c", 0));
        c.check("CLIENT REPLY ON", ok());
        c.send("CLIENT REPLY SKIP");
        c.check("SUBSCRIBE c", told(false, "subscribe", "c", 1));
    });
}

#[test]
fn subscribers_are_shown_and_ended_as_such() {
    each_shard_count(|server| {
        let (mut c, mut listeners) = (server.client(), clients(server));
        for listener in &mut listeners {
            listener.check("SUBSCRIBE a", told(false, "subscribe", "a", 1));
            listener.check("PSUBSCRIBE p*", told(false, "psubscribe", "p*", 2));
            listener.check("SSUBSCRIBE s", told(false, "ssubscribe", "s", 1));
        }
        let list = c.run("CLIENT LIST TYPE pubsub").text();
        assert_eq!(list.lines().count(), 8, "{list}");
        assert!(list.lines().all(|line| line.contains(" flags=P ")), "{list}");
        assert!(list.lines().all(|line| line.contains(" sub=1 psub=1 ssub=1 ")), "{list}");
        for (field, value) in [
            ("pubsub_clients", "8"),
            ("pubsub_channels", "1"),
            ("pubsub_patterns", "1"),
            ("pubsubshard_channels", "1"),
        ] {
            wait_until(field, || info(&mut c, field) == value);
        }
        c.check("CLIENT KILL TYPE pubsub", int(8));
        for listener in &mut listeners {
            listener.expect_closed();
        }
        c.wait_for("PUBSUB NUMPAT", int(0));
        wait_until("pubsub_clients", || info(&mut c, "pubsub_clients") == "0");
        c.check("PUBLISH a 1", int(0));
    });
}

/// Whoever gets a message sees what its publisher has done before, and messages of one publisher keep their order.
#[test]
fn a_message_comes_after_what_its_publisher_did() {
    const ROUNDS: usize = 300;
    each_shard_count(|server| {
        let mut publishers = clients(server);
        let mut listeners = clients(server);
        for c in &mut listeners {
            speak_resp3(c);
            c.check("PSUBSCRIBE p*", told(true, "psubscribe", "p*", 1));
        }
        for (at, publisher) in publishers.iter_mut().enumerate() {
            for round in 0..ROUNDS {
                publisher.send(&format!("SET key:{at}:{round} {round}"));
                publisher.send(&format!("PUBLISH p{at} key:{at}:{round}"));
            }
        }
        for c in &mut listeners {
            let mut next = [0; 8];
            for _ in 0..8 * ROUNDS {
                let message = c.read_reply();
                let parts = message.items();
                let (channel, key) = (parts[2].text(), parts[3].text());
                let from: usize = channel[1..].parse().expect("a publisher's number");
                assert_eq!(key, format!("key:{from}:{}", next[from]), "in its publisher's order");
                next[from] += 1;
            }
        }
        for publisher in &mut publishers {
            for _ in 0..ROUNDS {
                publisher.expect(ok());
                publisher.expect(int(8));
            }
        }
        // One at a time, and asked for at once.
        let (publisher, listener) = (&mut publishers[0], &mut listeners[7]);
        for round in 0..ROUNDS {
            publisher.send(&format!("SET sight:{round} {round}"));
            publisher.send(&format!("PUBLISH p sight:{round}"));
            assert_eq!(listener.read_reply().items()[3].text(), format!("sight:{round}"));
            listener.check(&format!("GET sight:{round}"), bulk(round.to_string()));
        }
    });
}

/// A random walk of subscribing, unsubscribing and publishing, against a plain map.
#[test]
fn agrees_with_a_plain_map() {
    const NAMES: [&str; 6] = ["a", "ab", "abc", "b", "bc", "*"];
    const PATTERNS: [&str; 5] = ["a*", "*", "?b", "[ab]", "abc"];
    each_shard_count(|server| {
        let mut all = clients(server);
        let resp3 = |at: usize| at.is_multiple_of(3);
        (0..all.len()).filter(|at| resp3(*at)).for_each(|at| speak_resp3(&mut all[at]));
        let mut publisher = server.client();
        let mut channels: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        let mut patterns: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        let mut seed: u64 = 0x5DEE_CE66;
        let mut draw = |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        for step in 0..1500 {
            let at = draw(all.len());
            let (name, pattern) = (NAMES[draw(NAMES.len())], PATTERNS[draw(PATTERNS.len())]);
            let (own, own_patterns) =
                (channels.entry(at).or_default(), patterns.entry(at).or_default());
            let word = match draw(6) {
                0 => {
                    own.insert(name);
                    "subscribe"
                }
                1 => {
                    own.remove(name);
                    "unsubscribe"
                }
                2 => {
                    own_patterns.insert(pattern);
                    "psubscribe"
                }
                3 => {
                    own_patterns.remove(pattern);
                    "punsubscribe"
                }
                _ => {
                    let text = step.to_string();
                    let mut expected = 0;
                    let told = publisher.run(&format!("PUBLISH {name} {text}"));
                    for (at, c) in all.iter_mut().enumerate() {
                        if channels.get(&at).is_some_and(|own| own.contains(name)) {
                            c.expect(got(resp3(at), name, &text));
                            expected += 1;
                        }
                        let own = patterns.get(&at).into_iter().flatten();
                        let matching: BTreeSet<&str> =
                            own.copied().filter(|pattern| matches(pattern, name)).collect();
                        let mut came = BTreeSet::new();
                        for _ in 0..matching.len() {
                            let message = c.read_reply();
                            let pattern = message.items()[1].text();
                            assert_eq!(message, got_by(resp3(at), &pattern, name, &text));
                            came.insert(pattern);
                        }
                        assert!(came.iter().map(String::as_str).eq(matching), "{came:?}");
                        expected += came.len() as i64;
                    }
                    assert_eq!(told, int(expected), "PUBLISH {name}");
                    continue;
                }
            };
            let count = (own.len() + own_patterns.len()) as i64;
            let name = if word.starts_with('p') { pattern } else { name };
            all[at].check(&format!("{word} {name}"), told(resp3(at), word, name, count));
        }
        let names: BTreeSet<&str> = channels.values().flatten().copied().collect();
        assert!(
            publisher.run("PUBSUB CHANNELS").sorted_texts().iter().map(String::as_str).eq(names)
        );
        let count: BTreeSet<&str> = patterns.values().flatten().copied().collect();
        publisher.check("PUBSUB NUMPAT", int(count.len() as i64));
    });
}

/// Whether one of the test's patterns matches one of its names.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern {
        "a*" => name.starts_with('a'),
        "*" => true,
        "?b" => name.len() == 2 && name.ends_with('b'),
        "[ab]" => name == "a" || name == "b",
        plain => name == plain,
    }
}

/// More than is sent at a time: everybody gets everything, while the publisher is held back and others are not.
#[test]
fn a_crowd_gets_everything_in_order() {
    const CROWD: usize = 600;
    const MESSAGES: usize = 60;
    each_shard_count(|server| {
        let (mut publisher, mut other) = (server.client(), server.client());
        let mut crowd: Vec<Client> = (0..CROWD).map(|_| server.client()).collect();
        for c in &mut crowd {
            c.send("SUBSCRIBE all");
        }
        for c in &mut crowd {
            c.expect(told(false, "subscribe", "all", 1));
        }
        let body = "x".repeat(2_000);
        for at in 0..MESSAGES {
            publisher.send(&format!("PUBLISH all {at}:{body}"));
        }
        other.check("PING", simple("PONG"));
        for c in &mut crowd {
            for at in 0..MESSAGES {
                c.expect(got(false, "all", &format!("{at}:{body}")));
            }
        }
        for _ in 0..MESSAGES {
            publisher.expect(int(CROWD as i64));
        }
        // They leave in the order they came, which is the worst for a list.
        crowd.truncate(10);
        wait_for_subscribers(&mut other, "all", 10);
        publisher.check("PUBLISH all last", int(10));
        for c in &mut crowd {
            c.expect(got(false, "all", "last"));
        }
    });
}

#[test]
fn who_does_not_read_is_closed_and_delays_nobody() {
    each_shard_count(|server| {
        let mut c = server.client();
        c.check("CONFIG SET client-output-buffer-limit \"pubsub 4mb 0 0\"", ok());
        let mut others = clients(server);
        let mut slow = clients(server);
        for c in others.iter_mut().chain(&mut slow) {
            c.check("SUBSCRIBE s", told(false, "subscribe", "s", 1));
        }
        // The sockets' own buffers take some megabytes first.
        let body = "y".repeat(1 << 20);
        for _ in 0..40 {
            let receivers = c.cmd(&["PUBLISH", "s", &body]).int();
            assert!((8..=16).contains(&receivers), "{receivers}");
            for other in &mut others {
                other.expect(got(false, "s", &body));
            }
        }
        wait_for_subscribers(&mut c, "s", 8);
        wait_until("all are counted", || {
            info(&mut c, "client_output_buffer_limit_disconnections") == "8"
        });
        c.check("PUBLISH s bye", int(8));
        for other in &mut others {
            other.expect(got(false, "s", "bye"));
        }
    });
}

#[test]
fn keys_events_are_published() {
    each_shard_count(|server| {
        let (mut c, mut listener) = (server.client(), server.client());
        speak_resp3(&mut listener);
        listener.check("PSUBSCRIBE __key*", told(true, "psubscribe", "__key*", 1));
        let by = |channel: &str, payload: &str| got_by(true, "__key*", channel, payload);
        c.check("SET quiet 1", ok());
        c.check("CONFIG SET notify-keyspace-events KEA", ok());
        c.check("CONFIG GET notify-keyspace-events", bulks(&["notify-keyspace-events", "AKE"]));
        for key in (0..8).map(|n| format!("key:{n}")) {
            // A configuration is followed by all shards soon.
            c.check(&format!("SET {key} 1 PX 1000000"), ok());
            if key == "key:0" {
                wait_until("events come", || {
                    c.check("SET first 1", ok());
                    listener.send("PING");
                    let is_there = matches!(listener.read_reply(), Value::Push(_));
                    while is_there && listener.read_reply() != simple("PONG") {}
                    is_there
                });
                continue;
            }
            for (event, payload) in [("set", "set"), ("expire", "expire")] {
                listener.expect(by(&format!("__keyspace@0__:{key}"), payload));
                listener.expect(by(&format!("__keyevent@0__:{event}"), &key));
            }
        }
        // Those of commands over several shards and of transactions.
        c.check("CONFIG SET notify-keyspace-events Eg$xm", ok());
        c.check("SELECT 3", ok());
        c.check("MULTI", ok());
        for line in ["SET t 1", "DEL t", "GET t"] {
            c.check(line, queued());
        }
        c.check("EXEC", array([ok(), int(1), nil()]));
        for (event, key) in [("set", "t"), ("del", "t"), ("keymiss", "t")] {
            listener.expect(by(&format!("__keyevent@3__:{event}"), key));
        }
        c.check("MSET a 1 b 1 c 1 d 1", ok());
        let mut keys: Vec<Value> = (0..4).map(|_| listener.read_reply()).collect();
        keys.sort_by_key(|message| message.items()[3].text());
        let set = |key| by("__keyevent@3__:set", key);
        assert_eq!(keys, [set("a"), set("b"), set("c"), set("d")]);
        // A key that nobody asks for.
        c.check("SET gone 1 PX 20", ok());
        listener.expect(set("gone"));
        listener.expect(by("__keyevent@3__:expire", "gone"));
        listener.expect(by("__keyevent@3__:expired", "gone"));
        c.check("CONFIG SET notify-keyspace-events \"\"", ok());
        wait_until("events cease", || {
            c.check("SET last 1", ok());
            listener.send("PING");
            let is_over = listener.read_reply() == simple("PONG");
            if !is_over {
                listener.expect(simple("PONG"));
            }
            is_over
        });
    });
}

#[test]
fn publishing_waits_for_the_end_of_a_pause_of_writes() {
    each_shard_count(|server| {
        let (mut c, mut listener, mut publisher) =
            (server.client(), server.client(), server.client());
        listener.check("SUBSCRIBE x", told(false, "subscribe", "x", 1));
        c.check("CLIENT PAUSE 60000 WRITE", ok());
        publisher.send("PUBLISH x 1");
        wait_until("it waits", || info(&mut c, "blocked_clients") == "1");
        c.check("CLIENT UNPAUSE", ok());
        publisher.expect(int(1));
        listener.expect(got(false, "x", "1"));
    });
}

#[test]
fn shard_channels_are_no_keys() {
    each_client(|c| {
        for line in ["COMMAND GETKEYS SPUBLISH a b", "COMMAND GETKEYS SSUBSCRIBE a b"] {
            c.check(line, error("ERR The command has no key arguments"));
        }
        let info = c.run("COMMAND INFO SSUBSCRIBE");
        let about = info.items()[0].items();
        assert_eq!(about[1..2], [int(-2)]);
        assert_eq!(about[3..6], [int(1), int(-1), int(1)]);
        assert_eq!(about[2].sorted_texts(), ["loading", "noscript", "pubsub", "stale"]);
        assert_eq!(about[6].sorted_texts(), ["@pubsub", "@slow"]);
    });
}

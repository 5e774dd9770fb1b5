//! CLIENT beyond names and numbers: what pauses clients, what lists and kills them, and what a connection says about
//! itself.

mod support;

use std::time::{Duration, Instant};

use support::*;

/// A field of INFO.
fn info(c: &mut Client, section: &str, name: &str) -> String {
    let text = c.run(&format!("INFO {section}")).text();
    let prefix = format!("{name}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
}

/// A field of the client's own line in CLIENT LIST.
fn field(line: &str, name: &str) -> String {
    let prefix = format!("{name}=");
    let value = line.split_whitespace().find_map(|pair| pair.strip_prefix(&prefix));
    value.unwrap_or_else(|| panic!("{name} in {line}")).to_owned()
}

fn wait_for_blocked(c: &mut Client, count: usize) {
    wait_until("so many clients are blocked", || {
        info(c, "clients", "blocked_clients") == count.to_string()
    });
}

/// The same key for every shard: as many clients as there could be shards, each with a key of its own.
fn keys() -> impl Iterator<Item = String> {
    (0..8).map(|n| format!("key:{n}"))
}

#[test]
fn pausing_writes_lets_reads_go_on() {
    each_shard_count(|server| {
        let mut c = server.client();
        assert_eq!(info(&mut c, "clients", "paused_actions"), "none");
        for key in keys() {
            c.check(&format!("SET {key} old"), ok());
        }
        c.check("CLIENT PAUSE 60000 WRITE", ok());
        assert_eq!(info(&mut c, "clients", "paused_reason"), "client_pause");
        assert_eq!(info(&mut c, "clients", "paused_actions"), "write");
        let left: i64 = info(&mut c, "clients", "paused_timeout_milliseconds").parse().unwrap();
        assert!((1..=60_000).contains(&left), "{left}");

        let mut writers: Vec<Client> = keys().map(|_| server.client()).collect();
        for (writer, key) in writers.iter_mut().zip(keys()) {
            writer.send(&format!("SET {key} new"));
            writer.send(&format!("GET {key}"));
        }
        wait_for_blocked(&mut c, 8);
        for key in keys() {
            c.check(&format!("GET {key}"), bulk("old"));
        }
        assert_eq!(c.run("CLIENT LIST FLAGS b").text().lines().count(), 8);
        // What is wrong is said at once.
        c.check("SET key:0", wrong_arity("set"));
        // A writer is not waiting in the sense of UNBLOCK.
        let line = c.run("CLIENT LIST FLAGS b").text();
        c.check(&format!("CLIENT UNBLOCK {}", field(line.lines().next().unwrap(), "id")), int(0));

        c.check("CLIENT UNPAUSE", ok());
        for writer in &mut writers {
            writer.expect(ok());
            writer.expect(bulk("new"));
        }
        assert_eq!(info(&mut c, "clients", "blocked_clients"), "0");
        assert_eq!(info(&mut c, "clients", "paused_reason"), "none");
        assert_eq!(info(&mut c, "clients", "paused_timeout_milliseconds"), "0");
    });
}

#[test]
fn a_pause_holds_for_the_very_next_command() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        for round in 0..20 {
            let key = format!("k:{round}");
            c.send("CLIENT PAUSE 30000 WRITE");
            c.send(&format!("EXISTS {key}"));
            c.send(&format!("SET {key} v"));
            c.expect(ok());
            c.expect(int(0));
            other.send(&format!("SETNX {key} other"));
            let mut third = server.client();
            wait_for_blocked(&mut third, 2);
            third.check(&format!("EXISTS {key}"), int(0));
            third.check("CLIENT UNPAUSE", ok());
            c.expect(ok());
            other.read_reply();
        }
    });
}

#[test]
fn pausing_everybody_ends_by_itself() {
    each_shard_count(|server| {
        let mut c = server.client();
        let began = Instant::now();
        c.check("CLIENT PAUSE 300 ALL", ok());
        // Even this waits.
        c.check("CLIENT UNPAUSE", ok());
        assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
        // The longer time and the stricter rule stay.
        let began = Instant::now();
        c.send("CLIENT PAUSE 300 ALL");
        c.send("CLIENT PAUSE 10 WRITE");
        c.send("PING");
        c.expect(ok());
        c.expect(ok());
        c.expect(simple("PONG"));
        assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
    });
}

#[test]
fn transactions_are_paused_if_they_write() {
    each_shard_count(|server| {
        let (mut c, mut writer, mut reader) = (server.client(), server.client(), server.client());
        c.check("SET a 1", ok());
        for (client, command) in [(&mut writer, "INCR a"), (&mut reader, "GET a")] {
            client.check("MULTI", ok());
            client.check(command, simple("QUEUED"));
        }
        // A pause begins after the transaction it is in.
        c.check("MULTI", ok());
        for line in ["SET b 1", "CLIENT PAUSE 60000 WRITE", "SET b 2", "INFO clients"] {
            c.check(line, simple("QUEUED"));
        }
        let replies = c.run("EXEC");
        assert_eq!(replies.items()[..3], [ok(), ok(), ok()]);
        assert!(replies.items()[3].text().contains("paused_actions:write"), "{replies:?}");
        c.check("GET b", bulk("2"));
        writer.send("EXEC");
        reader.check("EXEC", array([bulk("1")]));
        wait_for_blocked(&mut c, 1);
        c.check("GET a", bulk("1"));
        c.check("CLIENT UNPAUSE", ok());
        writer.expect(array([int(2)]));
    });
}

#[test]
fn nothing_expires_during_a_pause() {
    each_shard_count(|server| {
        let mut c = server.client();
        let expired = |c: &mut Client| -> u64 { info(c, "stats", "expired_keys").parse().unwrap() };
        let before = expired(&mut c);
        c.check("MULTI", ok());
        for key in keys() {
            c.check(&format!("SET {key} v PX 20"), simple("QUEUED"));
        }
        c.check("CLIENT PAUSE 60000 WRITE", simple("QUEUED"));
        c.run("EXEC");
        for key in keys() {
            c.wait_for(&format!("GET {key}"), nil());
        }
        assert_eq!((expired(&mut c), c.run("DBSIZE").int()), (before, 8));
        // There is none that is still to be seen; as in Valkey, one of the others is named.
        assert!(c.run("RANDOMKEY").text().starts_with("key:"));
        c.check("CLIENT UNPAUSE", ok());
        for key in keys() {
            c.check(&format!("GET {key}"), nil());
        }
        c.wait_for("DBSIZE", int(0));
        wait_until("all have expired", || expired(&mut c) == before + 8);
    });
}

#[test]
fn a_key_that_expired_during_a_pause_is_written_once() {
    each_client(|c| {
        c.check("MULTI", ok());
        c.check("SET k v PX 5", simple("QUEUED"));
        c.check("CLIENT PAUSE 60000 WRITE", simple("QUEUED"));
        c.run("EXEC");
        c.wait_for("GET k", nil());
        c.check("CLIENT UNPAUSE", ok());
        c.check("SET k w", ok());
        c.check("DBSIZE", int(1));
        c.check("DEL k", int(1));
        c.check("DBSIZE", int(0));
    });
}

#[test]
fn who_waits_can_be_killed_and_can_leave() {
    each_shard_count(|server| {
        let (mut c, mut killed, mut gone) = (server.client(), server.client(), server.client());
        let id = killed.run("CLIENT ID").int();
        c.check("CLIENT PAUSE 60000 WRITE", ok());
        killed.send("SET k killed");
        gone.send("SET k gone");
        wait_for_blocked(&mut c, 2);
        c.check(&format!("CLIENT KILL ID {id}"), int(1));
        killed.expect_closed();
        drop(gone);
        wait_for_blocked(&mut c, 0);
        c.check("CLIENT UNPAUSE", ok());
        c.check("GET k", nil());
    });
}

#[test]
fn a_paused_reply_mode_is_kept() {
    each_shard_count(|server| {
        let (mut c, mut quiet) = (server.client(), server.client());
        c.check("CLIENT PAUSE 60000 WRITE", ok());
        quiet.send("CLIENT REPLY SKIP");
        quiet.send("SET k v");
        quiet.send("GET k");
        wait_for_blocked(&mut c, 1);
        c.check("CLIENT UNPAUSE", ok());
        quiet.expect(bulk("v"));
    });
}

#[test]
fn pause_errors() {
    each_client(|c| {
        c.check("CLIENT PAUSE", wrong_arity("client|pause"));
        c.check("CLIENT PAUSE 1.5", error("ERR timeout is not an integer or out of range"));
        c.check("CLIENT PAUSE -1", error("ERR timeout is negative"));
        c.check("CLIENT PAUSE 9223372036854775807", error("ERR timeout is out of range"));
        c.check("CLIENT PAUSE 10 FOO", error("ERR CLIENT PAUSE mode must be WRITE or ALL"));
        c.check("CLIENT UNPAUSE x", wrong_arity("client|unpause"));
        c.check("SET k v", ok());
    });
}

#[test]
fn no_touch_leaves_the_time_of_the_last_use_alone() {
    each_shard_count(|server| {
        let (mut c, mut shy) = (server.client(), server.client());
        let idle = |c: &mut Client, key: &str| c.run(&format!("OBJECT IDLETIME {key}")).int();
        for key in keys() {
            c.check(&format!("SET {key} v"), ok());
        }
        shy.check("CLIENT NO-TOUCH ON", ok());
        wait_until("all keys are idle", || keys().all(|key| idle(&mut c, &key) >= 2));
        for key in keys() {
            shy.check(&format!("GET {key}"), bulk("v"));
            shy.check(&format!("MGET {key} {key}"), bulks(&["v", "v"]));
        }
        assert_eq!(shy.run("MGET key:0 key:1 key:2 key:3").items().len(), 4);
        assert!(keys().all(|key| idle(&mut c, &key) >= 2));
        // TOUCH is for touching.
        shy.check("TOUCH key:0", int(1));
        assert!(idle(&mut c, "key:0") < 2);
        shy.check("CLIENT NO-TOUCH OFF", ok());
        shy.check("GET key:1", bulk("v"));
        assert!(idle(&mut c, "key:1") < 2);
    });
}

#[test]
fn what_a_client_says_about_itself_is_listed() {
    each_client(|c| {
        let line = c.run("CLIENT INFO").text();
        assert_eq!((field(&line, "flags"), field(&line, "capa")), ("N".into(), "".into()));
        c.check("CLIENT CAPA unknown", ok());
        assert_eq!(field(&c.run("CLIENT INFO").text(), "capa"), "");
        c.check("CLIENT CAPA unknown redirect", ok());
        c.check("CLIENT NO-EVICT ON", ok());
        c.check("CLIENT NO-TOUCH ON", ok());
        c.check("READONLY", ok());
        let line = c.run("CLIENT INFO").text();
        assert_eq!((field(&line, "flags"), field(&line, "capa")), ("reT".into(), "r".into()));
        c.check("READWRITE", ok());
        assert_eq!(field(&c.run("CLIENT LIST CAPA r").text(), "flags"), "eT");
        let id = c.run("CLIENT ID").int();
        assert_eq!(c.run(&format!("CLIENT LIST ID {id} NOT-CAPA r")).text(), "");
        assert_eq!(c.run(&format!("CLIENT LIST ID {id} NOT-FLAGS e")).text(), "");
        let mine = c.run(&format!("CLIENT LIST ID {id} 999 DB 0 USER default TYPE normal")).text();
        assert_eq!(field(&mine, "cmd"), "client|list");

        // What is read of it and what it is told, to the byte and the command.
        let number = |line: &str, name: &str| field(line, name).parse::<u64>().unwrap();
        let before = c.run("CLIENT INFO").text();
        let after = c.run("CLIENT INFO").text();
        assert_eq!(number(&before, "tot-net-in") + 26, number(&after, "tot-net-in"));
        assert!(number(&before, "tot-net-out") + 300 < number(&after, "tot-net-out"));
        assert_eq!(number(&before, "tot-cmds") + 1, number(&after, "tot-cmds"));
        c.check("MULTI", ok());
        c.check("GET a", simple("QUEUED"));
        c.check("EXEC", array([nil()]));
        c.check_error_prefix("GET", "ERR wrong number");
        assert_eq!(
            number(&after, "tot-cmds") + 4,
            number(&c.run("CLIENT INFO").text(), "tot-cmds")
        );
    });
}

#[test]
fn caching_is_not_offered() {
    each_client(|c| {
        c.check("CLIENT GETREDIR", int(-1));
        let none = array([]);
        let told =
            [bulk("flags"), bulks(&["off"]), bulk("redirect"), int(-1), bulk("prefixes"), none];
        c.check("CLIENT TRACKINGINFO", array(told));
        c.check_error_prefix("CLIENT CACHING YES", "ERR CLIENT CACHING can be called only when");
        c.check("CLIENT TRACKING OFF", ok());
        c.check("CLIENT TRACKING OFF OPTIN", ok());
        c.check("CLIENT TRACKING MAYBE", syntax_error());
        c.check("CLIENT TRACKING ON FOO", syntax_error());
        if reference().is_none() {
            let refusal = "ERR client-side caching is not supported by this server";
            c.check("CLIENT TRACKING ON BCAST PREFIX a PREFIX b", error(refusal));
        }
        c.check("CLIENT IMPORT-SOURCE ON", error("ERR Server is not in import mode"));
        c.check("CLIENT IMPORT-SOURCE OFF", ok());
    });
}

#[test]
fn killing_by_filters_reaches_every_shard() {
    each_shard_count(|server| {
        let mut c = server.client();
        let mut others: Vec<Client> = (0..8).map(|_| server.client()).collect();
        for (n, other) in others.iter_mut().enumerate() {
            other.check(&format!("CLIENT SETNAME name:{}", n % 2), ok());
            other.check(&format!("SELECT {}", n % 4), ok());
        }
        c.check("CLIENT KILL NAME name:0 DB 2", int(2));
        c.check("CLIENT KILL NAME name:0 NOT-DB 0", int(0));
        c.check("CLIENT KILL NOT-NAME name:1", int(2));
        for (n, other) in others.iter_mut().enumerate() {
            match n % 2 {
                0 => other.expect_closed(),
                _ => other.check("PING", simple("PONG")),
            }
        }
        wait_until("the killed ones are gone", || {
            info(&mut c, "clients", "connected_clients") == "5"
        });
        c.check("CLIENT KILL SKIPME NO TYPE normal", int(5));
        c.expect_closed();
    });
}

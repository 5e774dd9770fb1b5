//! What a client asks about itself and the server: greeting, authentication, CLIENT, CONFIG, COMMAND, INFO.

mod support;

use support::*;

#[test]
fn ping_echo_time_quit() {
    each_client(|c| {
        c.check("PING", simple("PONG"));
        c.check("PING \"hi there\"", bulk("hi there"));
        c.check("PING a b", wrong_arity("ping"));
        c.check("ECHO hi", bulk("hi"));
        c.check("ECHO", wrong_arity("echo"));
        let time = c.run("TIME");
        let [seconds, micros] = time.items() else { panic!("{time:?}") };
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(seconds.text().parse::<u64>().unwrap().abs_diff(now) <= 2, "{time:?}");
        assert!(micros.text().parse::<u64>().unwrap() < 1_000_000, "{time:?}");
        c.check("TIME x", wrong_arity("time"));
        c.check("QUIT", ok());
        c.expect_closed();
    });
}

#[test]
fn unknown_commands_are_quoted_back() {
    each_client(|c| {
        for (line, text) in [
            ("FOO", "ERR unknown command 'FOO', with args beginning with: "),
            (
                "foo bar \"a b\" \"\"",
                "ERR unknown command 'foo', with args beginning with: 'bar' 'a b' '' ",
            ),
            ("\"foo bar\" 1", "ERR unknown command 'foo bar', with args beginning with: '1' "),
            ("GETT", "ERR unknown command 'GETT', with args beginning with: "),
            ("\"\"", "ERR unknown command '', with args beginning with: "),
        ] {
            c.check(line, error(text));
        }
        // Line ends would break the reply apart, so they come back as blanks.
        assert_eq!(
            c.cmd_bytes(&[b"a\r\nb", b"c\nd"]),
            error("ERR unknown command 'a  b', with args beginning with: 'c d' ")
        );
        // Long names and long argument lists are cut.
        let long = "x".repeat(300);
        let cut = &long[..128];
        assert_eq!(
            c.cmd(&[&long]),
            error(&format!("ERR unknown command '{cut}', with args beginning with: "))
        );
        let reply = c.cmd(&["NOPE", &long, "more"]);
        let expected = format!("ERR unknown command 'NOPE', with args beginning with: '{cut}' ");
        assert_eq!(reply, error(&expected));
        c.check("PING", simple("PONG"));
    });
}

#[test]
fn hello_switches_the_protocol() {
    each_client(|c| {
        let hello = c.run("HELLO");
        assert!(matches!(hello, Value::Array(_)), "{hello:?}");
        assert_eq!(hello.field("proto"), &int(2));
        for field in ["server", "version", "id", "mode", "role", "modules"] {
            hello.field(field);
        }
        let hello = c.run("HELLO 3");
        assert!(matches!(hello, Value::Map(_)), "{hello:?}");
        assert_eq!(hello.field("proto"), &int(3));
        assert_eq!(hello.field("mode"), &bulk("standalone"));
        assert_eq!(hello.field("role"), &bulk("master"));
        c.check("GET none", Value::Null);
        let config = c.run("CONFIG GET databases");
        assert_eq!(config, Value::Map(vec![(bulk("databases"), bulk("16"))]));
        assert!(matches!(c.run("INFO server"), Value::Verbatim(kind, _) if kind == "txt"));
        c.check("HELLO 4", error("NOPROTO unsupported protocol version"));
        c.check("HELLO 1", error("NOPROTO unsupported protocol version"));
        c.check("HELLO abc", error("ERR Protocol version is not an integer or out of range"));
        c.check("HELLO 2 FOO", error("ERR Syntax error in HELLO option 'FOO'"));
        c.check("HELLO 2 SETNAME", error("ERR Syntax error in HELLO option 'SETNAME'"));
        c.check("GET none", Value::Null);
        c.run("HELLO 2 SETNAME tester");
        c.check("GET none", nil());
        c.check("CLIENT GETNAME", bulk("tester"));
        c.check_error_prefix("HELLO 3 SETNAME \"a b\"", "ERR Client names cannot contain spaces");
    });
}

#[test]
fn reset_returns_to_the_beginning() {
    each_client(|c| {
        c.run("HELLO 3");
        c.check("SELECT 3", ok());
        c.check("CLIENT SETNAME x", ok());
        c.check("SET k v", ok());
        c.check("RESET", simple("RESET"));
        c.check("GET k", nil());
        c.check("CLIENT GETNAME", nil());
        c.check("RESET x", wrong_arity("reset"));
    });
}

#[test]
fn auth_without_a_password() {
    each_client(|c| {
        let unset = "ERR AUTH <password> called without any password configured for the default user. \
                     Are you sure your configuration is correct?";
        c.check("AUTH x", error(unset));
        c.check("AUTH default x", ok());
        c.check(
            "AUTH nobody x",
            error("WRONGPASS invalid username-password pair or user is disabled."),
        );
        c.check("AUTH", wrong_arity("auth"));
        c.check("AUTH a b c", syntax_error());
        c.check("PING", simple("PONG"));
    });
}

#[test]
fn requirepass_closes_the_door() {
    for &shards in shard_counts() {
        let server = Launch::new(shards).args(&["--requirepass", "s3cret"]).start();
        let mut c = server.client();
        let refused = error("NOAUTH Authentication required.");
        let wrong = error("WRONGPASS invalid username-password pair or user is disabled.");
        for line in [
            "GET a",
            "SET a 1",
            "PING",
            "MGET a b c",
            "MULTI",
            "SELECT 1",
            "COMMAND COUNT",
            "FLUSHALL",
            "INFO",
        ] {
            c.check(line, refused.clone());
        }
        c.check_error_prefix(
            "HELLO",
            "NOAUTH HELLO must be called with the client already authenticated",
        );
        c.check_error_prefix(
            "HELLO 3",
            "NOAUTH HELLO must be called with the client already authenticated",
        );
        c.check("AUTH nope", wrong.clone());
        c.check("AUTH default nope", wrong.clone());
        c.check("AUTH nobody s3cret", wrong.clone());
        c.check("HELLO 3 AUTH default nope", wrong.clone());
        c.check("GET a", refused.clone());
        c.check("AUTH s3cret", ok());
        c.check("SET a 1", ok());
        c.check("RESET", simple("RESET"));
        c.check("GET a", refused.clone());
        c.check("AUTH default s3cret", ok());
        c.check("GET a", bulk("1"));
        // A failed attempt leaves an authenticated connection as it was.
        c.check("AUTH nope", wrong);
        c.check("GET a", bulk("1"));
        let mut c = server.client();
        assert_eq!(c.run("HELLO 3 AUTH default s3cret SETNAME me").field("proto"), &int(3));
        c.check("CLIENT GETNAME", bulk("me"));
        c.check("CONFIG GET requirepass", Value::Map(vec![(bulk("requirepass"), bulk("s3cret"))]));
        let mut c = server.client();
        c.check("QUIT", ok());
        c.expect_closed();
    }
}

#[test]
fn requirepass_can_be_changed() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        // An answer shows that it was let in while no password was needed.
        other.check("PING", simple("PONG"));
        c.check("CONFIG SET requirepass first", ok());
        c.check("PING", simple("PONG"));
        let mut fresh = server.client();
        fresh.check("PING", error("NOAUTH Authentication required."));
        fresh.check("AUTH first", ok());
        fresh.check("PING", simple("PONG"));
        other.check("PING", simple("PONG"));
        c.check("CONFIG SET requirepass \"\"", ok());
        server.client().check("PING", simple("PONG"));
    });
}

#[test]
fn client_names_and_ids() {
    each_shard_count(|server| {
        let (mut c, mut other) = (server.client(), server.client());
        c.check("CLIENT GETNAME", nil());
        c.check("CLIENT SETNAME tester", ok());
        c.check("CLIENT GETNAME", bulk("tester"));
        c.check("client setname \"\"", ok());
        c.check("CLIENT GETNAME", nil());
        let special =
            error("ERR Client names cannot contain spaces, newlines or special characters.");
        c.check("CLIENT SETNAME \"a b\"", special.clone());
        assert_eq!(c.cmd(&["CLIENT", "SETNAME", "a\nb"]), special);
        let (mine, theirs) = (c.run("CLIENT ID").int(), other.run("CLIENT ID").int());
        assert!(mine > 0 && theirs > 0 && mine != theirs, "{mine} {theirs}");
        c.check("CLIENT ID", int(mine));
        assert!(server.client().run("CLIENT ID").int() > theirs.max(mine), "identifiers only grow");
        c.check("CLIENT SETINFO lib-name driver", ok());
        c.check("CLIENT SETINFO LIB-VER 1.2.3", ok());
        c.check("CLIENT SETINFO foo bar", error("ERR Unrecognized option 'foo'"));
        let invalid = "ERR lib-name cannot contain spaces, newlines or special characters.";
        c.check("CLIENT SETINFO lib-name \"f o\"", error(invalid));
        c.check("CLIENT SETNAME tester", ok());
        c.check("SELECT 7", ok());
        let info = c.run("CLIENT INFO").text();
        for field in
            [format!("id={mine} "), "name=tester ".into(), "db=7 ".into(), "resp=2 ".into()]
        {
            assert!(info.contains(&field), "{field} in {info}");
        }
        for field in [
            "lib-name=driver ",
            "lib-ver=1.2.3",
            "addr=127.0.0.1:",
            "cmd=client|info",
            "user=default",
            "multi=-1 ",
        ] {
            assert!(info.contains(field), "{field} in {info}");
        }
        let list = other.run("CLIENT LIST").text();
        for id in [mine, theirs] {
            assert!(
                list.lines().any(|line| line.starts_with(&format!("id={id} "))),
                "{id} in {list}"
            );
        }
        assert!(list.contains("name=tester"), "{list}");
        let one = other.run(&format!("CLIENT LIST ID {mine}")).text();
        assert_eq!(one.lines().count(), 1, "{one}");
    });
}

/// A container's HELP says what it is for, names its subcommands, and ends with itself.
#[track_caller]
fn check_help(help: &Value, container: &str, subcommands: &[&str]) {
    let lines: Vec<String> = help.items().iter().map(Value::text).collect();
    let head = format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    assert_eq!(lines[0], head);
    for sub in subcommands {
        let is_named = lines.iter().any(|line| line.split(' ').next() == Some(sub));
        assert!(is_named, "{sub} is not in {lines:?}");
    }
    assert_eq!(lines[lines.len() - 2..], ["HELP", "    Print this help."]);
}

#[test]
fn client_errors() {
    each_client(|c| {
        c.check("CLIENT", wrong_arity("client"));
        c.check("CLIENT FOO", error("ERR unknown subcommand 'FOO'. Try CLIENT HELP."));
        check_help(&c.run("CLIENT HELP"), "CLIENT", &["LIST", "KILL", "PAUSE"]);
        c.check("CLIENT HELP x", wrong_arity("client|help"));
        c.check("CLIENT SETNAME", wrong_arity("client|setname"));
        c.check("CLIENT ID x", wrong_arity("client|id"));
        c.check("CLIENT LIST FOO", syntax_error());
        c.check("CLIENT LIST TYPE foo", error("ERR Unknown client type 'foo'"));
        c.check("CLIENT NO-EVICT", wrong_arity("client|no-evict"));
        c.check("CLIENT NO-EVICT foo", syntax_error());
        c.check("CLIENT NO-EVICT on", ok());
        c.check("CLIENT NO-EVICT off", ok());
        c.check("CLIENT NO-TOUCH on", ok());
        c.check("CLIENT REPLY foo", syntax_error());
    });
}

#[test]
fn client_reply_modes() {
    each_client(|c| {
        c.send("CLIENT REPLY OFF");
        c.send("SET a 1");
        c.send("GET a");
        c.check("CLIENT REPLY ON", ok());
        c.send("CLIENT REPLY SKIP");
        c.send("SET a 2");
        c.check("GET a", bulk("2"));
        // Skipped replies keep the order of those around them, own shard or not.
        for i in 0..20 {
            c.send(&format!("SET key{i} {i}"));
            c.send("CLIENT REPLY SKIP");
            c.send(&format!("GET key{i}"));
            c.send(&format!("GET key{i}"));
        }
        for i in 0..20 {
            c.expect(ok());
            c.expect(bulk(i.to_string()));
        }
        // More than may be outstanding at once, and no reply to wait for.
        c.send("CLIENT REPLY OFF");
        let many: String = (0..40_000).map(|i| format!("SET many{i} {i}\r\n")).collect();
        c.send_raw(many.as_bytes());
        c.check("CLIENT REPLY ON", ok());
        c.check("GET many39999", bulk("39999"));
    });
}

#[test]
fn client_kill() {
    each_shard_count(|server| {
        let (mut c, mut victim) = (server.client(), server.client());
        let id = victim.run("CLIENT ID").int();
        c.check("CLIENT KILL ID 999999", int(0));
        c.check("CLIENT KILL 127.0.0.1:1", error("ERR No such client"));
        c.check(&format!("CLIENT KILL ID {id}"), int(1));
        victim.expect_closed();
        wait_until("the killed client is off the list", || {
            !c.run("CLIENT LIST").text().contains(&format!("id={id} "))
        });
    });
}

#[test]
fn config_get_and_set() {
    each_shard_count(|server| {
        let mut c = server.client();
        c.check("CONFIG GET port", bulks(&["port", &server.port().to_string()]));
        c.check("CONFIG GET databases", bulks(&["databases", "16"]));
        c.check("CONFIG GET nosuch", array([]));
        let two = c.run("CONFIG GET maxclients MAXMEMORY");
        assert_eq!(two.items().len(), 4, "{two:?}");
        let names: Vec<String> =
            c.run("CONFIG GET max*").items().iter().step_by(2).map(Value::text).collect();
        assert!(
            names.contains(&"maxclients".into()) && names.contains(&"maxmemory".into()),
            "{names:?}"
        );
        c.check("CONFIG SET maxclients 5000", ok());
        server.client().check("CONFIG GET maxclients", bulks(&["maxclients", "5000"]));
        let failed = "ERR CONFIG SET failed (possibly related to argument 'maxclients') - ";
        c.check(
            "CONFIG SET maxclients abc",
            error(&format!("{failed}argument couldn't be parsed into an integer")),
        );
        c.check(
            "CONFIG SET maxclients 0",
            error(&format!("{failed}argument must be between 1 and 4294967295 inclusive")),
        );
        c.check(
            "CONFIG SET foo bar",
            error("ERR Unknown option or number of arguments for CONFIG SET - 'foo'"),
        );
        c.check(
            "CONFIG SET databases 3",
            error("ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config"),
        );
        c.check(
            "CONFIG SET maxclients 100 maxclients 200",
            error("ERR CONFIG SET failed (possibly related to argument 'maxclients') - duplicate parameter"),
        );
        c.check("CONFIG GET maxclients", bulks(&["maxclients", "5000"]));
        c.check("CONFIG", wrong_arity("config"));
        c.check("CONFIG GET", wrong_arity("config|get"));
        c.check("CONFIG SET maxclients", wrong_arity("config|set"));
        c.check("CONFIG FOO", error("ERR unknown subcommand 'FOO'. Try CONFIG HELP."));
        check_help(&c.run("CONFIG HELP"), "CONFIG", &["GET", "SET", "RESETSTAT", "REWRITE"]);
        c.check("CONFIG RESETSTAT", ok());
        // What redis-benchmark asks for at its start.
        for name in ["save", "appendonly"] {
            assert_eq!(c.run(&format!("CONFIG GET {name}")).items().len(), 2, "{name}");
        }
    });
}

#[test]
fn command_describes_itself() {
    each_client(|c| {
        let count = c.run("COMMAND COUNT").int();
        assert!(count > 50, "{count}");
        assert_eq!(c.run("COMMAND").items().len() as i64, count);
        assert_eq!(c.run("COMMAND INFO").items().len() as i64, count);
        let reply = c.run("COMMAND INFO get nosuch MSET");
        let [get, none, mset] = reply.items() else { panic!("{reply:?}") };
        assert_eq!(none, &nil());
        assert_eq!(get.items()[..2], [bulk("get"), int(2)]);
        assert_eq!(get.items()[2], Value::Array(vec![simple("readonly"), simple("fast")]));
        assert_eq!(get.items()[3..6], [int(1), int(1), int(1)]);
        let categories = get.items()[6].sorted_texts();
        assert_eq!(categories, ["@fast", "@read", "@string"]);
        assert_eq!(mset.items()[..2], [bulk("mset"), int(-3)]);
        assert_eq!(mset.items()[3..6], [int(1), int(-1), int(2)]);
        for (name, arity) in [
            ("set", -3),
            ("getrange", 4),
            ("exec", 1),
            ("ping", -1),
            ("msetex", -4),
            ("delifeq", 3),
        ] {
            let reply = c.run(&format!("COMMAND INFO {name}"));
            assert_eq!(reply.items()[0].items()[1], int(arity), "{name}");
        }
        let reply = c.run("COMMAND INFO config|get");
        assert_eq!(reply.items()[0].items()[0], bulk("config|get"));
        let list = c.run("COMMAND LIST");
        // Subcommands are listed beside their containers.
        assert!(list.items().len() as i64 > count);
        let names = list.sorted_texts();
        assert!(
            ["setrange", "config", "config|get"]
                .iter()
                .all(|name| names.contains(&name.to_string())),
            "{names:?}"
        );
        assert_eq!(c.run("COMMAND LIST FILTERBY PATTERN getr*"), bulks(&["getrange"]));
        let strings = c.run("COMMAND LIST FILTERBY ACLCAT string").sorted_texts();
        assert!(
            strings.contains(&"incr".to_string()) && !strings.contains(&"ping".to_string()),
            "{strings:?}"
        );
        c.check("COMMAND LIST FILTERBY ACLCAT nosuch", array([]));
        c.check("COMMAND LIST FOO", syntax_error());
        c.check("COMMAND LIST FILTERBY FOO x", syntax_error());
        c.check("COMMAND FOO", error("ERR unknown subcommand 'FOO'. Try COMMAND HELP."));
        check_help(&c.run("COMMAND HELP"), "COMMAND", &["COUNT", "DOCS", "GETKEYS", "LIST"]);
        c.check("COMMAND COUNT x", wrong_arity("command|count"));
    });
}

#[test]
fn command_docs() {
    each_client(|c| {
        c.check("COMMAND DOCS nosuch", array([]));
        let docs = c.run("COMMAND DOCS getdel");
        let getdel = docs.field("getdel");
        assert!(!getdel.field("summary").text().is_empty());
        assert_eq!(getdel.field("since"), &bulk("6.2.0"));
        assert_eq!(getdel.field("group"), &bulk("string"));
        c.run("HELLO 3");
        let docs = c.run("COMMAND DOCS get set");
        assert!(matches!(docs, Value::Map(ref pairs) if pairs.len() == 2), "{docs:?}");
        // redis-cli asks for all of it when it starts.
        let Value::Map(all) = c.run("COMMAND DOCS") else { panic!("COMMAND DOCS is a map") };
        assert!(all.len() > 50, "{}", all.len());
    });
}

#[test]
fn command_getkeys() {
    each_client(|c| {
        c.check("COMMAND GETKEYS GET a", bulks(&["a"]));
        c.check("COMMAND GETKEYS MSET a 1 b 2", bulks(&["a", "b"]));
        c.check("COMMAND GETKEYS MSETEX 2 a 1 b 2 EX 10", bulks(&["a", "b"]));
        c.check("COMMAND GETKEYS RENAME a b", bulks(&["a", "b"]));
        c.check("COMMAND GETKEYS OBJECT ENCODING a", bulks(&["a"]));
        c.check("COMMAND GETKEYS PING", error("ERR The command has no key arguments"));
        c.check("COMMAND GETKEYS NOSUCH a", error("ERR Invalid command specified"));
        c.check(
            "COMMAND GETKEYS GET",
            error("ERR Invalid number of arguments specified for command"),
        );
        c.check("COMMAND GETKEYS", wrong_arity("command|getkeys"));
        // Flags have no order of their own.
        for (line, expected) in [
            ("GET a", vec![("a", vec!["RO", "access"])]),
            ("SET a 1", vec![("a", vec!["OW", "update"])]),
            ("SET a 1 GET", vec![("a", vec!["RW", "access", "update"])]),
            ("DEL a b", vec![("a", vec!["RM", "delete"]), ("b", vec!["RM", "delete"])]),
            ("COPY a b", vec![("a", vec!["RO", "access"]), ("b", vec!["OW", "update"])]),
            ("INCR a", vec![("a", vec!["RW", "access", "update"])]),
        ] {
            let reply = c.run(&format!("COMMAND GETKEYSANDFLAGS {line}"));
            let got: Vec<(String, Vec<String>)> = reply
                .items()
                .iter()
                .map(|key| (key.items()[0].text(), key.items()[1].sorted_texts()))
                .collect();
            let expected: Vec<(String, Vec<String>)> = expected
                .into_iter()
                .map(|(key, flags)| (key.into(), flags.into_iter().map(String::from).collect()))
                .collect();
            assert_eq!(got, expected, "{line}");
        }
    });
}

#[test]
fn info() {
    each_shard_count(|server| {
        let mut c = server.client();
        c.check("SET k v EX 100", ok());
        c.check("SELECT 4", ok());
        c.check("SET k v", ok());
        let field = |c: &mut Client, section: &str, name: &str| {
            let text = c.run(&format!("INFO {section}")).text();
            let prefix = format!("{name}:");
            let found =
                text.split("\r\n").find_map(|line| line.strip_prefix(&prefix)).map(String::from);
            found.unwrap_or_else(|| panic!("no {name} in INFO {section}:\n{text}"))
        };
        assert_eq!(field(&mut c, "server", "tcp_port"), server.port().to_string());
        assert_eq!(field(&mut c, "server", "process_id"), server.pid().to_string());
        assert!(!field(&mut c, "server", "redis_version").is_empty());
        field(&mut c, "server", "uptime_in_seconds");
        field(&mut c, "memory", "used_memory");
        assert_eq!(field(&mut c, "replication", "role"), "master");
        wait_until("INFO counts one client", || {
            field(&mut c, "clients", "connected_clients") == "1"
        });
        let mut second = server.client();
        second.check("PING", simple("PONG"));
        wait_until("INFO counts two clients", || {
            field(&mut c, "clients", "connected_clients") == "2"
        });
        assert!(field(&mut c, "keyspace", "db0").starts_with("keys=1,expires=1,avg_ttl="));
        assert!(field(&mut c, "keyspace", "db4").starts_with("keys=1,expires=0,avg_ttl=0"));
        let everything = c.run("INFO").text();
        for section in
            ["# Server", "# Clients", "# Memory", "# Stats", "# Replication", "# CPU", "# Keyspace"]
        {
            assert!(everything.contains(section), "{section} in INFO");
        }
        let two = c.run("INFO server CLIENTS").text();
        assert!(
            two.contains("# Server") && two.contains("# Clients") && !two.contains("# Memory"),
            "{two}"
        );
        c.check("INFO nosuch", bulk(""));
        c.check("CONFIG RESETSTAT", ok());
        c.check("GET k", bulk("v"));
        c.check("GET none", nil());
        assert_eq!(field(&mut c, "stats", "keyspace_hits"), "1");
        assert_eq!(field(&mut c, "stats", "keyspace_misses"), "1");
        assert!(field(&mut c, "stats", "total_commands_processed").parse::<u64>().unwrap() >= 3);
    });
}

#[test]
fn used_memory_follows_the_data() {
    each_client(|c| {
        let used = |c: &mut Client| -> u64 {
            let text = c.run("INFO memory").text();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("used_memory:"))
                .expect("used_memory");
            line.trim().parse().expect("used_memory is a number")
        };
        let before = used(c);
        let value = "x".repeat(1_000_000);
        for i in 0..10 {
            assert_eq!(c.cmd(&["SET", &format!("key{i}"), &value]), ok());
        }
        let full = used(c);
        assert!((9_000_000..20_000_000).contains(&(full - before)), "{before} -> {full}");
        c.check("FLUSHALL", ok());
        wait_until("the memory is given back", || used(c) < before + 2_000_000);
    });
}

#[test]
fn nobody_is_blocked_and_no_file_is_rewritten() {
    each_client(|c| {
        c.check("CLIENT UNBLOCK 123456", int(0));
        c.check("CONFIG REWRITE", error("ERR The server is running without a config file"));
    });
}

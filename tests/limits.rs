//! What clients may use, and who may be one: timeouts, buffers, memory, names of commands, addresses.

mod support;

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use support::*;

fn start(shards: usize, args: &[&str]) -> Server {
    Launch::new(shards).args(args).start()
}

fn each(args: &[&str], body: impl Fn(&Server)) {
    for &shards in shard_counts() {
        eprintln!("--- with {shards} shard(s)");
        body(&start(shards, args));
    }
}

fn is_listed(c: &mut Client, name: &str) -> bool {
    c.run("CLIENT LIST").text().contains(&format!(" name={name} "))
}

fn stat(c: &mut Client, name: &str) -> u64 {
    let text = c.run("INFO everything").text();
    let prefix = format!("{name}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("{name} in {text}")).trim().parse().unwrap()
}

/// An address of this machine that is not the loopback's, if it has one.
fn outer_address() -> Option<IpAddr> {
    // No packet is sent: the kernel only chooses the address it would send from.
    let towards = |from: &str, to: &str| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_loopback() && !address.is_unspecified()).then_some(address)
    };
    towards("0.0.0.0", "192.0.2.1").or_else(|| towards("::", "2001:db8::1"))
}

#[test]
fn idle_clients_are_closed() {
    each(&["--timeout", "1"], |server| {
        let mut idle: Vec<Client> = (0..6).map(|_| server.client()).collect();
        let mut half = server.client();
        half.send_raw(b"*2\r\n$3\r\nGET\r\n");
        let mut busy = server.client();
        let began = Instant::now();
        wait_until("only the busy one is left", || {
            busy.run("CLIENT LIST").text().lines().count() == 1
        });
        assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
        idle.iter_mut().for_each(Client::expect_closed);
        half.expect_closed();
        busy.check("CONFIG SET timeout 0", ok());
        let mut other = server.client();
        // Twice the time it would have had.
        busy.check("CLIENT PAUSE 2000 WRITE", ok());
        busy.check("SET k v", ok());
        other.check("PING", simple("PONG"));
    });
}

#[test]
fn who_waits_for_a_pause_is_not_idle() {
    each(&["--timeout", "1"], |server| {
        let (mut c, mut writer) = (server.client(), server.client());
        c.check("CLIENT PAUSE 2500 WRITE", ok());
        writer.send("SET k v");
        writer.expect(ok());
    });
}

#[test]
fn protected_mode_turns_strangers_away() {
    let Some(address) = outer_address() else {
        return lacking("this machine has no address but the loopback's");
    };
    each(&["--bind", "127.0.0.1", &address.to_string()], |server| {
        let outside = SocketAddr::new(address, server.port());
        let denied = |what: &str| {
            let mut c = Client::try_connect_to(outside).expect("connect");
            let told = String::from_utf8(c.read_to_close()).unwrap();
            let begin = "-DENIED Running in protected mode because protected mode is enabled and no password \
                is set for the default user.";
            assert!(told.starts_with(begin), "{what}: {told}");
            assert!(told.ends_with("\r\n"));
        };
        let mut inside = server.client();
        denied("at the start");
        inside.check("CONFIG SET requirepass secret", ok());
        let mut c = Client::try_connect_to(outside).unwrap();
        c.check("PING", error("NOAUTH Authentication required."));
        c.check("AUTH secret", ok());
        c.check("PING", simple("PONG"));
        inside.check("CONFIG SET requirepass \"\"", ok());
        denied("without the password again");
        inside.check("CONFIG SET protected-mode no", ok());
        Client::try_connect_to(outside).unwrap().check("PING", simple("PONG"));
        assert!(stat(&mut inside, "rejected_connections") >= 2);
    });
}

#[test]
fn a_hard_limit_closes_before_anything_is_sent() {
    each(&["--client-output-buffer-limit", "normal 100000 0 0"], |server| {
        let (mut c, mut greedy) = (server.client(), server.client());
        c.check(&format!("SET k {}", "v".repeat(15_000)), ok());
        greedy.check("CLIENT SETNAME greedy", ok());
        c.check("GET k", bulk("v".repeat(15_000)));
        greedy.send_raw(&b"GET k\r\nGET k\r\nSET done yes\r\nGET k\r\n".repeat(4));
        assert!(greedy.read_to_close().is_empty());
        assert!(!is_listed(&mut c, "greedy"));
        c.check("GET done", bulk("yes"));
        assert_eq!(stat(&mut c, "client_output_buffer_limit_disconnections"), 1);
        // A transaction runs as a whole, though nobody will read what it says.
        let mut last = server.client();
        last.run("MULTI");
        last.run("SET a 1");
        (0..10).for_each(|_| drop(last.run("GET k")));
        last.run("SET b 2");
        last.send("EXEC");
        assert!(last.read_to_close().is_empty());
        c.check("MGET a b", bulks(&["1", "2"]));
    });
}

#[test]
fn a_soft_limit_closes_after_its_time_without_traffic() {
    each(&["--client-output-buffer-limit", "normal 0 1000 1"], |server| {
        let (mut c, mut slow) = (server.client(), server.client());
        let value = "v".repeat(1 << 20);
        c.check(&format!("SET k {value}"), ok());
        c.check("GET k", bulk(&value));
        slow.check("CLIENT SETNAME slow", ok());
        // More than the kernel's buffers take: some part of one of them waits.
        slow.send_raw(&b"GET k\r\n".repeat(32));
        let began = Instant::now();
        wait_until("the slow reader is gone", || !is_listed(&mut c, "slow"));
        assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
        assert_eq!(stat(&mut c, "client_output_buffer_limit_disconnections"), 1);
    });
}

#[test]
fn a_stranger_is_owed_little() {
    each(&["--requirepass", "secret"], |server| {
        let mut stranger = server.client();
        stranger.send_raw_lossy(&b"GET k\r\n".repeat(100_000));
        let told = stranger.read_to_close();
        assert!(told.len() < 100_000 * 33, "{}", told.len());
    });
}

#[test]
fn too_much_unfinished_input_closes() {
    each(&["--client-query-buffer-limit", "1mb"], |server| {
        let (mut c, mut pushy) = (server.client(), server.client());
        pushy.send_raw(b"*2\r\n$3\r\nGET\r\n$4000000\r\n");
        pushy.send_raw_lossy(&vec![b'x'; 3_000_000]);
        pushy.expect_closed();
        assert_eq!(stat(&mut c, "client_query_buffer_limit_disconnections"), 1);
        let mut queue = server.client();
        queue.check("CONFIG SET client-query-buffer-limit 1gb", ok());
    });
}

#[test]
fn an_argument_has_a_longest_length() {
    each(&["--proto-max-bulk-len", "1mb"], |server| {
        let mut c = server.client();
        let line = "x".repeat(1 << 20);
        c.check(&format!("SET k {line}"), ok());
        c.check(
            "APPEND k x",
            error("ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        );
        c.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n");
        c.expect(error("ERR Protocol error: invalid bulk length"));
        c.expect_closed();
    });
}

#[test]
fn the_largest_client_goes_first() {
    each(&[], |server| {
        let mut c = server.client();
        c.check("CLIENT NO-EVICT ON", ok());
        let mut kept: Vec<Client> = Vec::new();
        for (n, size) in [300_000, 800_000, 2_200_000, 300_000, 1_300_000].into_iter().enumerate() {
            let mut client = server.client();
            client.check(&format!("CLIENT SETNAME c{n}"), ok());
            client.send_raw(format!("*2\r\n$3\r\nGET\r\n${size}\r\n").as_bytes());
            client.send_raw(&vec![b'x'; size - 1]);
            kept.push(client);
        }
        // What each takes once it has said nothing for a while: room that is not needed is given back.
        let number = |c: &mut Client, client: usize, field: &str| -> u64 {
            let list = c.run(&format!("CLIENT LIST NAME c{client}")).text();
            let value = list.split(field).nth(1).unwrap_or_else(|| panic!("{field} in {list}"));
            value.split(' ').next().unwrap().parse().unwrap()
        };
        wait_until("nobody has more room than needed", || {
            (0..5).all(|n| number(&mut c, n, " idle=") >= 3)
        });
        let sizes: Vec<u64> = (0..5).map(|n| number(&mut c, n, " tot-mem=")).collect();
        let total: u64 = sizes.iter().sum();
        assert!(total > 4_900_000, "{sizes:?}");
        let names =
            |c: &mut Client| (0..5).map(|n| is_listed(c, &format!("c{n}"))).collect::<Vec<_>>();
        assert_eq!(names(&mut c), [true; 5]);
        let limit = total - sizes[2] - sizes[4] / 2;
        c.check(&format!("CONFIG SET maxmemory-clients {limit}"), ok());
        wait_until("the largest two are gone", || {
            names(&mut c) == [true, true, false, true, false]
        });
        assert_eq!(stat(&mut c, "evicted_clients"), 2);
        kept[2].expect_closed();
        let limit = total - sizes[2] - sizes[4] - sizes[1] / 2;
        c.check(&format!("CONFIG SET maxmemory {}", 10 * limit), ok());
        c.check("CONFIG SET maxmemory-clients 10%", ok());
        wait_until("the next is gone", || names(&mut c) == [true, false, false, true, false]);
        // Who must not go stays, whatever it takes.
        c.check("CONFIG SET maxmemory-clients 1", ok());
        wait_until("all others are gone", || names(&mut c) == [false; 5]);
        c.check("PING", simple("PONG"));
    });
}

#[test]
fn without_memory_nothing_is_added() {
    each_shard_count(|server| {
        let mut c = server.client();
        c.check("SET k v", ok());
        c.check("CONFIG SET maxmemory 1", ok());
        let oom = error("OOM command not allowed when used memory > 'maxmemory'.");
        c.check("SET k w", oom.clone());
        c.check("MSET a 1 b 2", oom.clone());
        c.check("GET k", bulk("v"));
        c.check("MULTI", ok());
        c.check("SET k w", oom);
        c.check("EXEC", error("EXECABORT Transaction discarded because of previous errors."));
        c.check("DEL k", int(1));
        c.check("CONFIG SET maxmemory 0", ok());
        c.check("SET k w", ok());
    });
}

/// Each command is asked by the shard that runs it, not each turn: what is sent in one piece does not
/// pass the limit by more than one value per shard.
#[test]
fn memory_is_asked_for_by_every_command() {
    const MB: u64 = 1 << 20;
    for &shards in shard_counts() {
        eprintln!("--- with {shards} shard(s)");
        let server = start(shards, &["--maxmemory", "100mb"]);
        let mut c = server.client();
        let oom = error("OOM command not allowed when used memory > 'maxmemory'.");
        let before = stat(&mut c, "used_memory");
        let pipeline: String =
            (0..40).map(|i| format!("SETRANGE k{i} {} x\r\n", 40 * MB - 1)).collect();
        c.send_raw(pipeline.as_bytes());
        let replies: Vec<Value> = (0..40).map(|_| c.read_reply()).collect();
        let stored = replies.iter().filter(|reply| **reply == int(40 * MB as i64)).count();
        assert_eq!(stored + replies.iter().filter(|reply| **reply == oom).count(), 40);
        assert!((3..=3 + shards).contains(&stored), "{stored} of 40");
        let most = before + 100 * MB + (40 * MB + MB) * shards as u64;
        let peak = stat(&mut c, "used_memory_peak");
        assert!(peak <= most, "{peak} bytes at the most, not {most}");
        // Over several shards as well, and nothing of it is done.
        c.check("MSET a 1 b 2 c 3 d 4 e 5", oom.clone());
        c.check("EXISTS a b c d e", int(0));
        c.check("COPY k0 another", oom.clone());
        c.check("CONFIG SET maxmemory 0", ok());
        c.check("MULTI", ok());
        c.check("MSET a 1 b 2 c 3 d 4 e 5", queued());
        let mut other = server.client();
        other.check("CONFIG SET maxmemory 1", ok());
        // The limit reaches every shard with the reply.
        let refused = error(
            "EXECABORT Transaction discarded because of: OOM command not allowed when used memory \
             > 'maxmemory'.",
        );
        c.check("EXEC", refused);
        c.check("EXISTS a b c d e", int(0));
        let all: Vec<String> = (0..40).map(|i| format!("k{i}")).collect();
        c.check(&format!("DEL {}", all.join(" ")), int(stored as i64));
    }
}

#[test]
fn commands_have_other_names() {
    let long = "b840fc02d524045429941cc15f59e41cb7be6c52";
    let args =
        [("CONFIG", long), ("flushall", ""), ("watch", ""), ("get", "fetch"), ("set", "get")];
    for &shards in shard_counts() {
        let dir = TempDir::new();
        let file = dir.path().join("renamed.conf");
        let lines = args.map(|(from, to)| format!("rename-command {from} \"{to}\"\n"));
        std::fs::write(&file, lines.concat()).unwrap();
        let server = with_file(shards, &file);
        let mut c = server.client();
        c.check("GET k v", ok());
        c.check("FETCH k", bulk("v"));
        c.check("fetch k", bulk("v"));
        c.check_error_prefix("SET k w", "ERR unknown command 'SET'");
        c.check_error_prefix("FLUSHALL", "ERR unknown command 'FLUSHALL'");
        c.check_error_prefix("WATCH k", "ERR unknown command 'WATCH'");
        c.check_error_prefix("CONFIG GET port", "ERR unknown command 'CONFIG'");
        c.check(&format!("{long} GET databases"), bulks(&["databases", "16"]));
        c.check("FETCH", wrong_arity("get"));
        c.check("MULTI", ok());
        c.check("GET k w", simple("QUEUED"));
        c.check("EXEC", array([ok()]));
        c.check("FETCH k", bulk("w"));
    }
}

/// A server with a configuration file, which comes before all flags.
fn with_file(shards: usize, file: &Path) -> Server {
    start(shards, &["--include", file.to_str().unwrap()])
}

#[test]
fn a_command_that_is_none_cannot_be_renamed() {
    let dir = TempDir::new();
    for (line, complaint) in [
        ("rename-command nope x", "No such command in rename-command"),
        ("rename-command get set", "Target command name already exists"),
    ] {
        let (file, log) = (dir.path().join("bad.conf"), dir.path().join("log"));
        std::fs::write(&file, line).unwrap();
        let args = ["--include", file.to_str().unwrap()];
        let mut child = Launch::new(1).args(&args).spawn(free_port(), dir.path(), &log);
        assert!(!wait_exit(&mut child).success());
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn the_port_can_be_changed() {
    each_shard_count(|server| {
        let mut c = server.client();
        let (old, new) = (server.port(), free_port());
        c.check(&format!("CONFIG SET port {new}"), ok());
        Client::connect(new).check("PING", simple("PONG"));
        assert!(TcpStream::connect(("127.0.0.1", old)).is_err());
        c.check("CONFIG GET port", bulks(&["port", &new.to_string()]));

        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let refusal = "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen \
            on this port. Check server logs.";
        c.check(&format!("CONFIG SET timeout 77 port {port}"), error(refusal));
        // All is as it was.
        c.check("CONFIG GET port", bulks(&["port", &new.to_string()]));
        c.check("CONFIG GET timeout", bulks(&["timeout", "0"]));
        for _ in 0..4 {
            Client::connect(new).check("PING", simple("PONG"));
        }
        c.check("CONFIG SET port 0", ok());
        assert!(TcpStream::connect(("127.0.0.1", new)).is_err());
        c.check(&format!("CONFIG SET port {old}"), ok());
        Client::connect(old).check("PING", simple("PONG"));
    });
}

#[test]
fn the_addresses_can_be_changed() {
    each_shard_count(|server| {
        let mut c = server.client();
        let port = server.port();
        let reaches = |host: &str| TcpStream::connect((host, port)).is_ok();
        assert!(reaches("127.0.0.1") && !reaches("127.0.0.2"));
        c.check("CONFIG SET bind \"127.0.0.1 127.0.0.2\"", ok());
        assert!(reaches("127.0.0.1") && reaches("127.0.0.2"));
        let refusal = "ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind \
            to specified addresses.";
        for nonsense in ["999.999.999.999", "127.0.0.2 203.0.113.7", "127.0.0.3 127.0.0.3"] {
            c.check(&format!("CONFIG SET bind \"{nonsense}\""), error(refusal));
            assert!(reaches("127.0.0.1") && reaches("127.0.0.2") && !reaches("127.0.0.3"));
        }
        // All of them, which is not possible beside one of them.
        c.check("CONFIG SET bind 0.0.0.0", ok());
        assert!(reaches("127.0.0.1") && reaches("127.0.0.3"));
        c.check("CONFIG SET bind \"\"", ok());
        assert!(!reaches("127.0.0.1"));
        c.check("CONFIG SET bind \"127.0.0.1 -203.0.113.7\"", ok());
        assert!(reaches("127.0.0.1") && !reaches("127.0.0.2"));
        Client::connect(port).check("PING", simple("PONG"));
        c.check("CONFIG GET bind", bulks(&["bind", "127.0.0.1 -203.0.113.7"]));
    });
}

#[test]
fn more_clients_than_descriptors_are_refused() {
    each_shard_count(|server| {
        let mut c = server.client();
        let refusal = "ERR CONFIG SET failed (possibly related to argument 'maxclients') - The \
            operating system is not able to handle the specified number of clients, try with ";
        c.check_error_prefix("CONFIG SET maxclients 2000000", refusal);
        c.check("CONFIG GET maxclients", bulks(&["maxclients", "10000"]));
        c.check("CONFIG SET maxclients 2", ok());
        let mut second = server.client();
        second.check("PING", simple("PONG"));
        let mut third = server.client();
        assert_eq!(third.read_to_close(), b"-ERR max number of clients reached\r\n");
        c.check("CONFIG SET maxclients 3", ok());
        server.client().check("PING", simple("PONG"));
    });
}

//! The process: how it starts, where it listens, how it ends, and what it does when things are scarce.

mod support;

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::client::encode;
use support::*;

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

#[test]
fn signals_stop_it_cleanly() {
    for signal in [SIGTERM, SIGINT] {
        let mut server = Server::start(2);
        let mut idle = server.client();
        idle.check("SET k v", ok());
        server.signal(signal);
        let status = server.wait_exit();
        assert_eq!(status.code(), Some(0), "signal {signal}: {status}");
        idle.expect_closed();
    }
}

#[test]
fn sigterm_under_load() {
    for &shards in shard_counts() {
        let mut server = Server::start(shards);
        let (port, answered, stop) = (server.port(), AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (answered, stop) = (&answered, &stop);
                scope.spawn(move || {
                    let mut c = Client::connect(port);
                    while !stop.load(Ordering::Relaxed) {
                        let key = format!("key:{worker}");
                        // Ends by the server's close; whatever was answered before it was answered in full.
                        match c.try_cmd(&["MSET", &key, "1", "shared", "2"]) {
                            Ok(reply) => assert_eq!(reply, ok()),
                            Err(e) if e.kind() == ErrorKind::InvalidData => {
                                panic!("half a reply: {e}")
                            }
                            Err(_) => return,
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            wait_until("load is running", || answered.load(Ordering::Relaxed) > 500);
            let asked = Instant::now();
            server.signal(SIGTERM);
            let status = server.wait_exit();
            stop.store(true, Ordering::Relaxed);
            assert_eq!(status.code(), Some(0), "{status}");
            assert!(asked.elapsed() < Duration::from_secs(10), "took {:?}", asked.elapsed());
        });
        assert!(Client::try_connect(port).is_err(), "the port is free again");
    }
}

#[test]
fn shutdown_command() {
    for line in ["SHUTDOWN", "SHUTDOWN NOSAVE"] {
        let mut server = Server::start(2);
        let mut c = server.client();
        c.check("SHUTDOWN FOO", syntax_error());
        c.send(line);
        assert_eq!(server.wait_exit().code(), Some(0), "{line}");
        c.expect_closed();
    }
}

#[test]
fn a_killed_servers_port_can_be_taken_at_once() {
    let mut server = Server::start(2);
    let mut c = server.client();
    c.check("PING", simple("PONG"));
    server.signal(SIGKILL);
    server.wait_exit();
    let (dir, log) = (TempDir::new(), server.dir().join("second.log"));
    let mut second = Launch::new(2).spawn(server.port(), dir.path(), &log);
    wait_until("the second server answers", || {
        Client::try_connect(server.port()).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
    });
    second.kill().expect("end the second server");
    second.wait().expect("wait for the second server");
}

#[test]
fn a_taken_port_is_said_clearly() {
    each_shard_count(|server| {
        let (dir, log) = (TempDir::new(), server.dir().join("second.log"));
        let mut second = Launch::new(2).spawn(server.port(), dir.path(), &log);
        let status = wait_exit(&mut second);
        assert!(!status.success(), "{status}");
        let said = fs::read_to_string(&log).expect("read the second server's words");
        let wanted = ["in use", &server.port().to_string()];
        assert!(wanted.iter().all(|word| said.to_lowercase().contains(word)), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        server.client().check("PING", simple("PONG"));
    });
}

#[test]
fn bad_flags_are_named() {
    for (flags, word) in [
        (vec!["--nosuchflag", "1"], "nosuchflag"),
        (vec!["--port", "abc"], "port"),
        (vec!["--port", "70000"], "port"),
        (vec!["--databases", "0"], "databases"),
        (vec!["--maxclients", "abc"], "maxclients"),
        (vec!["--bind", "not-an-address.invalid"], "not-an-address"),
        (vec!["--dir", "/nonexistent/place"], "/nonexistent/place"),
    ] {
        let dir = TempDir::new();
        let log = dir.path().join("log");
        let mut server = Launch::new(1).args(&flags).spawn(free_port(), dir.path(), &log);
        let status = wait_exit(&mut server);
        let said = fs::read_to_string(&log).expect("read the server's words");
        assert!(!status.success(), "{flags:?}: {status}");
        assert!(said.contains(word), "{flags:?} is not explained by: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn the_short_start_line_works() {
    if reference().is_some() {
        return; // `--filename` is ours.
    }
    let (dir, port) = (TempDir::new(), free_port());
    fs::create_dir(dir.path().join("testdata")).expect("create the data directory");
    let mut server = Command::new(env!("CARGO_BIN_EXE_redshard"))
        .args(["--dir=./testdata", "--filename=dump.rdb", &format!("--port={port}")])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the server");
    wait_until("the server answers", || {
        Client::try_connect(port).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
    });
    let mut c = Client::connect(port);
    c.check("CONFIG GET dbfilename", bulks(&["dbfilename", "dump.rdb"]));
    assert!(c.run("CONFIG GET dir").field("dir").text().ends_with("testdata"));
    server.kill().expect("end the server");
    server.wait().expect("wait for the server");
}

#[test]
fn unix_socket() {
    for &shards in shard_counts() {
        let place = TempDir::new();
        let path = place.path().join("redshard.sock");
        let launch =
            || Launch::new(shards).args(&["--unixsocket", path.to_str().expect("a UTF-8 path")]);
        let mut server = launch().start();
        let mut c = Client::connect_unix(&path).expect("connect to the unix socket");
        c.check("MSET a 1 b 2", ok());
        server.client().check("MGET a b", bulks(&["1", "2"]));
        let value = vec![b'x'; 5_000_000];
        assert_eq!(c.cmd_bytes(&[b"SET", b"big", &value]), ok());
        assert!(c.cmd_bytes(&[b"GET", b"big"]).bytes() == value);
        // A killed server leaves its socket file behind; the next one replaces it.
        server.signal(SIGKILL);
        server.wait_exit();
        assert!(path.exists());
        let mut server = launch().start();
        Client::connect_unix(&path).expect("connect again").check("PING", simple("PONG"));
        server.signal(SIGTERM);
        server.wait_exit();
        assert!(!path.exists(), "a clean stop removes the socket file");
    }
}

#[test]
fn ipv6() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return lacking("this machine has no IPv6");
    }
    let server = Launch::new(2).args(&["--bind", "127.0.0.1", "::1"]).start();
    let mut c =
        Client::try_connect_to((Ipv6Addr::LOCALHOST, server.port())).expect("connect over IPv6");
    c.check("SET k v", ok());
    assert!(c.run("CLIENT INFO").text().contains("addr=[::1]:"));
    server.client().check("GET k", bulk("v"));
}

#[test]
fn several_addresses() {
    let server = Launch::new(2).args(&["--bind", "127.0.0.1", "127.0.0.2"]).start();
    let mut c = Client::try_connect_to(("127.0.0.2", server.port()))
        .expect("connect to the second address");
    c.check("SET k v", ok());
    server.client().check("GET k", bulk("v"));
    assert!(
        Client::try_connect_to(("127.0.0.3", server.port())).is_err(),
        "nothing else is listened on"
    );
}

#[test]
fn maxclients_turns_the_next_one_away() {
    for &shards in shard_counts() {
        let server = Launch::new(shards).args(&["--maxclients", "6"]).start();
        let mut clients: Vec<Client> = Vec::new();
        // The connection of the start-up check may take a moment to be counted out.
        wait_until("six clients are in", || {
            let mut c = server.client();
            if c.try_cmd(&["PING"]).is_ok_and(|reply| reply == simple("PONG")) {
                clients.push(c);
            }
            clients.len() == 6
        });
        for _ in 0..20 {
            let mut refused = server.client();
            assert_eq!(refused.read_to_close(), b"-ERR max number of clients reached\r\n");
        }
        clients.iter_mut().for_each(|c| c.check("PING", simple("PONG")));
        clients.pop();
        wait_until("a place is free again", || {
            server.client().try_cmd(&["PING"]).is_ok_and(|reply| reply == simple("PONG"))
        });
        let info = clients[0].run("INFO stats").text();
        let rejected = info
            .lines()
            .find_map(|line| line.strip_prefix("rejected_connections:"))
            .expect("a counter");
        assert!(rejected.trim().parse::<u64>().expect("a number") >= 20, "{info}");
    }
}

/// A pipeline that asks for gigabytes and reads none of them: the server stops reading it, or closes it, but does not
/// keep the replies.
#[test]
fn a_client_that_never_reads_is_bounded() {
    each_shard_count(|server| {
        let mut c = server.client();
        let value = vec![b'x'; 1_000_000];
        assert_eq!(c.cmd_bytes(&[b"SET", b"big", &value]), ok());
        assert_eq!(c.cmd_bytes(&[b"SET", b"another", &value]), ok());
        if reference().is_some() {
            // Without a limit of its own, a reference server would keep them all.
            c.check("CONFIG SET client-output-buffer-limit \"normal 64mb 0 0\"", ok());
        }
        let deaf = server.client();
        let mut socket = deaf.tcp();
        socket.set_write_timeout(Some(Duration::from_millis(300))).expect("set a timeout");
        let burst: Vec<u8> = (0..50).flat_map(|_| encode(&[b"MGET", b"big", b"another"])).collect();
        let mut most = 0;
        for _ in 0..100 {
            // Blocked or closed: either way the server has had enough.
            if socket.write_all(&burst).is_err() {
                break;
            }
            most = most.max(server.rss());
            c.check("PING", simple("PONG"));
        }
        for _ in 0..500 {
            c.check("PING", simple("PONG"));
            most = most.max(server.rss());
        }
        assert!(most < 600 << 20, "{most} bytes resident for one deaf client");
        drop((deaf, socket));
        wait_until("the deaf client is gone", || {
            c.run("INFO clients").text().contains("connected_clients:1\r\n")
        });
    });
}

#[test]
fn many_connections_come_and_go() {
    each_shard_count(|server| {
        for _ in 0..5 {
            let mut clients: Vec<Client> = (0..200).map(|_| server.client()).collect();
            clients.iter_mut().for_each(|c| c.send("INCR visits"));
            clients.iter_mut().for_each(|c| assert!(c.read_reply().int() > 0));
        }
        let mut c = server.client();
        c.check("GET visits", bulk("1000"));
        wait_until("everybody else is gone", || {
            c.run("INFO clients").text().contains("connected_clients:1\r\n")
        });
    });
}

/// Descriptors run out before `maxclients` does: those who are in are served, and the door opens again.
#[test]
fn a_full_descriptor_table() {
    let prlimit = tool("prlimit", "util-linux");
    each_shard_count(|server| {
        let mut c = server.client();
        c.check("SET k v", ok());
        let open = fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .expect("list the descriptors")
            .count();
        let pid = server.pid().to_string();
        let limited = Command::new(&prlimit)
            .args(["--pid", &pid, &format!("--nofile={}", open + 5)])
            .status();
        assert!(limited.expect("run prlimit").success());
        let crowd: Vec<Client> = (0..40).map(|_| server.client()).collect();
        (0..200).for_each(|_| c.check("GET k", bulk("v")));
        drop(crowd);
        wait_until("somebody new is served", || {
            let mut new = server.client();
            new.tcp().set_read_timeout(Some(Duration::from_millis(500))).expect("set a timeout");
            new.try_cmd(&["GET", "k"]).is_ok_and(|reply| reply == bulk("v"))
        });
    });
}

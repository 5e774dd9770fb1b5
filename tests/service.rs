//! Life as a service: what a supervisor is told, what the log says, which files come and go, how a crash ends.

mod support;

use bytes::BytesMut;
use redshard::rdb::{Usage, Version, Writer};
use redshard::value::string::Str;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::stall::Stall;
use support::*;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;

fn is_ours() -> bool {
    reference().is_none()
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

/// systemd's end of the notify protocol.
struct Supervisor {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Supervisor {
    fn new() -> Supervisor {
        let dir = TempDir::new();
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("bind the notify socket");
        Supervisor { socket, dir }
    }

    fn launch(&self, shards: usize) -> Launch {
        let path = self.dir.path().join("notify");
        let path = path.to_str().expect("a UTF-8 path");
        Launch::new(shards).args(&["--supervised", "systemd"]).env("NOTIFY_SOCKET", path)
    }

    /// The next message, if one comes within so long.
    fn hear(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).expect("set a timeout");
        let mut bytes = [0; 4096];
        let len = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..len].to_vec()).expect("text"))
    }

    /// Hears messages until one has this line; returns all of them.
    #[track_caller]
    fn hear_until(&self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(message) = self.hear(Duration::from_millis(200)) {
                let found = message.lines().any(|heard| heard == line);
                heard.push(message);
                if found {
                    return heard;
                }
            }
        }
        panic!("no {line} among {heard:?}");
    }
}

#[test]
fn systemd_is_told() {
    if !is_ours() {
        return;
    }
    for &shards in shard_counts() {
        let supervisor = Supervisor::new();
        // Not `start`: this test does what systemd does, and trusts nothing but the message.
        let (dir, port) = (TempDir::new(), free_port());
        let log = dir.path().join("log");
        let mut server = Kept(supervisor.launch(shards).spawn(port, dir.path(), &log));
        let heard = supervisor.hear_until("READY=1").concat();
        assert!(heard.contains("STATUS=Ready to accept connections"), "{heard}");
        Client::connect(port).check("MSET a 1 b 2 c 3", ok());
        server.signal(SIGTERM);
        let heard = supervisor.hear_until("STOPPING=1").concat();
        assert!(!heard.contains("WATCHDOG"), "nobody asked for a watchdog: {heard}");
        assert_eq!(wait_exit(&mut server.0).code(), Some(0));
    }
}

/// However little time the unit grants, a load has as much as it takes while it moves.
#[test]
fn systemd_is_asked_for_time_while_a_load_moves() {
    if !is_ours() {
        return;
    }
    for &shards in shard_counts() {
        let supervisor = Supervisor::new();
        let (dir, port) = (TempDir::new(), free_port());
        let mut file = BytesMut::new();
        Writer::header(&mut file, Version::V10);
        for i in 0..100_000i64 {
            let key = i.to_string();
            Writer::new(false).record(&mut file, key.as_bytes(), &Str::Int(i), None, Usage::None);
        }
        fs::write(dir.path().join("dump.rdb"), &file).expect("write the file");
        let launch = supervisor.launch(shards).args(&["--key-load-delay", "1000"]);
        let launch = launch.env("WATCHDOG_USEC", "1000000");
        let _server = Kept(launch.spawn(port, dir.path(), &dir.path().join("log")));
        let heard = supervisor.hear_until("EXTEND_TIMEOUT_USEC=20000000").concat();
        assert!(!heard.contains("READY"), "{heard}");
        let heard = supervisor.hear_until("WATCHDOG=1").concat();
        assert!(!heard.contains("READY"), "{heard}");
    }
}

#[test]
fn without_supervision_nobody_is_told() {
    if !is_ours() {
        return;
    }
    let supervisor = Supervisor::new();
    let mut server = supervisor.launch(1).args(&["--supervised", "no"]).start();
    server.signal(SIGTERM);
    server.wait_exit();
    assert_eq!(supervisor.hear(Duration::from_millis(50)), None);
    let lonely = Launch::new(1).args(&["--supervised", "systemd"]).start();
    let said = "systemd supervision requested but NOTIFY_SOCKET not found!";
    assert!(lonely.log().contains(said), "{}", lonely.log());
}

/// Pings come twice in the time the watchdog allows, and stop while a shard serves nobody.
#[test]
fn the_watchdog_is_pinged_while_every_shard_turns() {
    if !is_ours() {
        return;
    }
    for &shards in shard_counts() {
        let supervisor = Supervisor::new();
        let within = Duration::from_millis(400);
        let usec = within.as_micros().to_string();
        let server = supervisor.launch(shards).env("WATCHDOG_USEC", &usec).start();
        supervisor.hear_until("READY=1");
        let began = Instant::now();
        for _ in 0..6 {
            supervisor.hear_until("WATCHDOG=1");
        }
        assert!(began.elapsed() < within * 6, "{:?} for six pings", began.elapsed());

        let stall = Stall::begin(&server, shards, Duration::from_secs(4));
        let status = format!("STATUS=shard {} has not turned", stall.shard);
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "the stall was not noticed");
            let heard = supervisor.hear(Duration::from_millis(200)).unwrap_or_default();
            if heard.starts_with(&status) {
                break;
            }
        }
        // From here on: silence, for longer than systemd would have waited.
        assert_eq!(supervisor.hear(within * 2), None, "a ping while shard {} stalls", stall.shard);
        assert!(!stall.is_over(), "the stall was too short to tell");
        stall.end();
        supervisor.hear_until("WATCHDOG=1");
        assert!(server.log().contains("the watchdog is not pinged"), "{}", server.log());
    }
}

#[test]
fn upstart_waits_for_a_stop() {
    if !is_ours() {
        return;
    }
    let (dir, port) = (TempDir::new(), free_port());
    let log = dir.path().join("log");
    let launch = Launch::new(2).args(&["--supervised", "auto"]).env("UPSTART_JOB", "redshard");
    let server = Kept(launch.spawn(port, dir.path(), &log));
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.0.id())).expect("its state");
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).expect("a state")
    };
    wait_until("it stops to say that it is ready", || state() == 'T');
    server.signal(SIGCONT);
    Client::connect(port).check("PING", simple("PONG"));
}

// ---- the log ---------------------------------------------------------------------------------

/// The lines that tools and test suites wait for, word for word those of Valkey.
#[test]
fn the_log_says_what_tooling_waits_for() {
    for &shards in shard_counts() {
        let place = TempDir::new();
        let socket = place.path().join("s");
        let socket = socket.to_str().expect("a UTF-8 path");
        let launch =
            Launch::new(shards).args(&["--unixsocket", socket, "--always-show-logo", "yes"]);
        let mut server = launch.start();
        let pid = server.pid();
        server.signal(SIGTERM);
        server.wait_exit();
        let log = server.log();
        let mut rest = log.as_str();
        // The suites' own pattern: " PID: $pid.*Server initialized".
        for wanted in [
            format!(" PID: {pid}"),
            " * Server initialized\n".to_owned(),
            " * Ready to accept connections tcp\n".to_owned(),
            " * Ready to accept connections unix\n".to_owned(),
            "Received SIGTERM scheduling shutdown...\n".to_owned(),
            " * User requested shutdown...\n".to_owned(),
            " * Removing the unix socket file.\n".to_owned(),
            " is now ready to exit, bye bye...\n".to_owned(),
        ] {
            let at = rest
                .find(&wanted)
                .unwrap_or_else(|| panic!("no {wanted:?} in its place in:\n{log}"));
            rest = &rest[at..];
        }
        // `PID:M 24 Nov 2026 10:00:00.123 * text`
        let line = log.lines().find(|line| line.ends_with("Server initialized")).expect("a line");
        let parts: Vec<&str> = line.split(' ').collect();
        assert_eq!(parts[0], format!("{pid}:M"), "{line}");
        assert_eq!(parts[3].len(), 4, "{line}");
        let digits: String = parts[4].chars().filter(char::is_ascii_digit).collect();
        assert_eq!((parts[4].len(), digits.len()), (12, 9), "{line}");
        assert_eq!(parts[5], "*", "{line}");
    }
}

#[test]
fn a_taken_port_is_said_in_the_words_that_suites_look_for() {
    each_shard_count(|server| {
        let (dir, log) = (TempDir::new(), server.dir().join("second.log"));
        let mut second = Launch::new(2).spawn(server.port(), dir.path(), &log);
        assert_eq!(wait_exit(&mut second).code(), Some(1));
        let said = fs::read_to_string(&log).expect("read its words");
        let wanted = format!(" # Failed listening on port {} (tcp), aborting.\n", server.port());
        assert!(said.contains(&wanted), "{said}");
        assert!(said.contains("bind: Address already in use"), "{said}");
    });
}

#[test]
fn the_log_file_may_be_rotated_at_any_time() {
    for &shards in shard_counts() {
        let place = TempDir::new();
        let path = place.path().join("redshard.log");
        let name = path.to_str().expect("a UTF-8 path");
        let mut server = Launch::new(shards).args(&["--logfile", name]).start();
        assert!(
            fs::read_to_string(&path).expect("the log").contains("Ready to accept connections")
        );
        assert_eq!(server.log(), "", "nothing goes to standard output");
        let old = place.path().join("redshard.log.1");
        fs::rename(&path, &old).expect("rotate");
        server.signal(SIGTERM);
        server.wait_exit();
        let new = fs::read_to_string(&path).expect("a new log");
        assert!(new.contains("bye bye") && !new.contains("Server initialized"), "{new}");
        assert!(!fs::read_to_string(&old).expect("the old log").contains("bye bye"));
    }
}

/// A relative `logfile` is meant from `dir`, and one that cannot be written ends the start.
#[test]
fn where_the_log_file_lies() {
    if !is_ours() {
        return;
    }
    let server = Launch::new(1).args(&["--logfile", "here.log"]).start();
    assert!(server.dir().join("here.log").exists());
    let (dir, log) = (TempDir::new(), server.dir().join("second.log"));
    let mut second = Launch::new(1).args(&["--logfile", "/nonexistent/x.log"]).spawn(
        free_port(),
        dir.path(),
        &log,
    );
    assert_eq!(wait_exit(&mut second).code(), Some(1));
    let said = fs::read_to_string(&log).expect("its words");
    assert!(said.contains("Can't open the log file: No such file or directory"), "{said}");
}

#[test]
fn what_is_logged_can_be_changed_while_it_runs() {
    for &shards in shard_counts() {
        let mut server = Launch::new(shards).args(&["--loglevel", "warning"]).start();
        assert!(!server.log().contains("Server initialized"), "{}", server.log());
        let mut c = server.client();
        c.check(
            "CONFIG SET loglevel notice log-format json log-timestamp-format milliseconds",
            ok(),
        );
        c.check("CONFIG GET log-format", bulks(&["log-format", "json"]));
        server.signal(SIGTERM);
        server.wait_exit();
        let log = server.log();
        let last = log.lines().last().expect("a line");
        let head = format!("{{\"pid\":{},\"role\":\"primary\",\"timestamp\":\"", server.pid());
        assert!(last.starts_with(&head), "{log}");
        assert!(last.ends_with(" is now ready to exit, bye bye...\"}"), "{log}");
        assert!(last.contains("\"level\":\"warning\""), "{log}");
        let stamp = &last[head.len()..head.len() + 13];
        assert!(stamp.parse::<u64>().is_ok_and(|ms| ms > 1_700_000_000_000), "{stamp}");
        assert!(log.contains("User requested shutdown..."), "notices are logged by now: {log}");
    }
}

#[test]
fn times_are_local() {
    let log_in = |zone: &str| {
        let server =
            Launch::new(1).args(&["--log-timestamp-format", "iso8601"]).env("TZ", zone).start();
        server.log()
    };
    assert!(log_in("Asia/Kolkata").contains("+05:30 * Server initialized"));
    assert!(log_in("UTC").contains("+00:00 * Server initialized"));
}

// ---- files and signals -----------------------------------------------------------------------

#[test]
fn the_pid_file_comes_and_goes() {
    for &shards in shard_counts() {
        let place = TempDir::new();
        let path = place.path().join("redshard.pid");
        let name = path.to_str().expect("a UTF-8 path");
        let mut server = Launch::new(shards).args(&["--pidfile", name]).start();
        let text = fs::read_to_string(&path).expect("the pid file");
        assert_eq!(text, format!("{}\n", server.pid()));
        server.signal(SIGTERM);
        server.wait_exit();
        assert!(!path.exists(), "it is still there");
        assert!(server.log().contains(" * Removing the pid file.\n"), "{}", server.log());
        // One that cannot be written is no reason not to serve.
        let server = Launch::new(shards).args(&["--pidfile", "/nonexistent/x.pid"]).start();
        assert!(
            server.log().contains("Failed to write PID file: No such file"),
            "{}",
            server.log()
        );
    }
}

#[test]
fn into_the_background() {
    for &shards in shard_counts() {
        let (dir, port) = (TempDir::new(), free_port());
        let log = dir.path().join("out");
        let flags = ["--daemonize", "yes", "--pidfile", "pid", "--logfile", "log"];
        let mut first = Launch::new(shards).args(&flags).spawn(port, dir.path(), &log);
        assert_eq!(wait_exit(&mut first).code(), Some(0));
        wait_until("it answers", || {
            Client::try_connect(port).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
        });
        let pid = fs::read_to_string(dir.path().join("pid")).expect("the pid file");
        let pid: u32 = pid.trim().parse().expect("a number");
        assert_ne!(pid, first.id(), "it is another process");
        let stdout = fs::read_link(format!("/proc/{pid}/fd/1")).expect("its standard output");
        assert_eq!(stdout, Path::new("/dev/null"));
        let mut c = Client::connect(port);
        c.check("SET k v", ok());
        c.send("SHUTDOWN NOSAVE");
        wait_until("it is gone", || !Path::new(&format!("/proc/{pid}")).exists());
        assert!(!dir.path().join("pid").exists());
        let log = fs::read_to_string(dir.path().join("log")).expect("the log");
        assert!(log.contains(&format!("{pid}:M ")) && log.contains("bye bye"), "{log}");
    }
}

#[test]
fn a_terminal_that_closes_ends_nobody() {
    each_shard_count(|server| {
        let mut c = server.client();
        for _ in 0..10 {
            server.signal(SIGHUP);
            c.check("PING", simple("PONG"));
        }
    });
}

#[test]
fn the_second_interrupt_is_no_worse_than_the_first() {
    for &shards in shard_counts() {
        let mut server = Server::start(shards);
        server.signal(SIGINT);
        // It may be gone already.
        let _ = Command::new("sh").args(["-c", &format!("kill -2 {}", server.pid())]).status();
        let status = server.wait_exit();
        assert!(matches!(status.code(), Some(0 | 1)), "{status}");
        let said = server.log();
        assert!(status.code() == Some(0) || said.contains("You insist... exiting now."), "{said}");
    }
}

#[test]
fn the_process_title() {
    for &shards in shard_counts() {
        let launch = Launch::new(shards).env("REDSHARD_TEST_KEPT", "kept");
        let server = launch.start();
        // The whole of it: words are parted by spaces, and what is left of the room is nothing.
        let title = || {
            let bytes = fs::read(format!("/proc/{}/cmdline", server.pid())).expect("its title");
            String::from_utf8(bytes).expect("text").replace('\0', " ").trim().to_owned()
        };
        let port = server.port();
        let program = match reference() {
            Some(path) => path.display().to_string(),
            None => env!("CARGO_BIN_EXE_redshard").to_owned(),
        };
        assert_eq!(title(), format!("{program} 127.0.0.1:{port}"));
        let mut c = server.client();
        c.check("CONFIG SET proc-title-template \"TEST {port} {tls-port} {title}\"", ok());
        assert_eq!(title(), format!("TEST {port} 0 {program}"));
        // Longer than there is room: cut off, and no harm done.
        let long = format!("{{title}} {}", "x".repeat(100_000));
        assert_eq!(c.cmd(&["CONFIG", "SET", "proc-title-template", &long]), ok());
        assert!(title().starts_with(&format!("{program} xxx")));
        c.check("PING", simple("PONG"));
        c.check_error_prefix(
            "CONFIG SET proc-title-template {nonsense}",
            "ERR CONFIG SET failed (possibly related to argument 'proc-title-template')",
        );
    }
}

#[test]
fn how_expendable_it_is() {
    each_shard_count(|server| {
        let score = || -> i32 {
            let path = format!("/proc/{}/oom_score_adj", server.pid());
            fs::read_to_string(path).expect("its score").trim().parse().expect("a number")
        };
        let base = score();
        let mut c = server.client();
        c.check("CONFIG SET oom-score-adj-values \"10 20 30\"", ok());
        assert_eq!(score(), base, "not before it is asked for");
        c.check("CONFIG SET oom-score-adj yes", ok());
        assert_eq!(score(), base + 10);
        c.check("CONFIG SET oom-score-adj-values \"15 20 30\"", ok());
        assert_eq!(score(), base + 15);
        c.check("CONFIG SET oom-score-adj absolute oom-score-adj-values \"99 99 99\"", ok());
        assert_eq!(score(), 99);
        c.check("CONFIG SET oom-score-adj no", ok());
        assert_eq!(score(), base);
    });
}

// ---- crashes ---------------------------------------------------------------------------------

/// The report of a panic is tested in src/server/crash.rs, in a process that panics.
#[test]
fn a_crash_by_a_signal_is_reported() {
    if !is_ours() {
        return;
    }
    for &shards in shard_counts() {
        for to_file in [false, true] {
            let flags: &[&str] = if to_file { &["--logfile", "log"] } else { &[] };
            let mut server = Launch::new(shards).args(flags).start();
            server.client().check("SET k v", ok());
            server.signal(SIGSEGV);
            let status = server.wait_exit();
            assert_eq!(status.signal(), Some(SIGSEGV), "{status}");
            let file = fs::read_to_string(server.dir().join("log")).unwrap_or_default();
            let logs = if to_file { vec![file, server.log()] } else { vec![server.log()] };
            for log in logs {
                for wanted in [
                    "=== REDSHARD BUG REPORT START",
                    "crashed by signal: 11",
                    "Killed by PID: ",
                    "------ STACK TRACE ------",
                    "src/main.rs:",
                    "------ STACK TRACE DONE ------",
                    "=== REDSHARD BUG REPORT END",
                ] {
                    assert_eq!(log.matches(wanted).count(), 1, "{wanted:?} in:\n{log}");
                }
            }
        }
    }
    let mut server = Launch::new(1).args(&["--crash-log-enabled", "no"]).start();
    server.signal(SIGSEGV);
    assert_eq!(server.wait_exit().signal(), Some(SIGSEGV));
    assert!(!server.log().contains("BUG REPORT"), "{}", server.log());
}

/// The same through the front door, where there is a command that panics.
#[test]
fn a_panic_ends_all_of_it() {
    if !is_ours() {
        return;
    }
    for &shards in shard_counts() {
        let mut server = Launch::new(shards).args(&["--enable-debug-command", "yes"]).start();
        let mut c = server.client();
        if c.run("DEBUG HELP").is_error() {
            eprintln!("there is no DEBUG yet: src/server/crash.rs tests it alone");
            return;
        }
        let mut other = server.client();
        let id = c.run("CLIENT ID").int();
        c.send("DEBUG PANIC");
        let status = server.wait_exit();
        assert_eq!(status.signal(), Some(SIGABRT), "{status}");
        c.expect_closed();
        other.expect_closed();
        let log = server.log();
        for wanted in
            [" panicked at src/", &format!("Running command DEBUG of client {id}, on shard ")]
        {
            assert_eq!(log.matches(wanted).count(), 1, "{wanted:?} in:\n{log}");
        }
        // One report: the abort that follows is part of it.
        assert_eq!(log.matches("BUG REPORT START").count(), 1, "{log}");
    }
}

// ---- deploy/ ---------------------------------------------------------------------------------

#[test]
fn the_shipped_configuration_starts() {
    if !is_ours() {
        return;
    }
    let (dir, port, admin) = (TempDir::new(), free_port(), free_port());
    let out = fs::File::create(dir.path().join("out")).expect("create a log");
    // Its directory is made by the unit; here it is another.
    let shipped = fs::read_to_string(deploy("redshard.conf")).expect("read the configuration");
    let here = shipped.replace("dir /var/lib/redshard", &format!("dir {}", dir.path().display()));
    assert_ne!(shipped, here);
    let copy = dir.path().join("redshard.conf");
    fs::write(&copy, here).expect("write a copy");
    let server = Command::new(env!("CARGO_BIN_EXE_redshard"))
        .arg(copy)
        .args(["--port", &port.to_string(), "--admin-port", &admin.to_string()])
        .stdin(Stdio::null())
        .stderr(out.try_clone().expect("share the log"))
        .stdout(out)
        .spawn()
        .expect("start the server");
    let _server = Kept(server);
    wait_until("it answers", || {
        Client::try_connect(port).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
    });
    let log = fs::read_to_string(dir.path().join("out")).expect("the log");
    assert!(log.contains("Configuration loaded"), "{log}");
    assert!(!log.contains("no effect"), "it sets what nothing acts on: {log}");
    let mut c = Client::connect(port);
    c.check("CONFIG GET protected-mode", bulks(&["protected-mode", "yes"]));
    assert!(std::net::TcpStream::connect(("127.0.0.1", admin)).is_ok());
}

#[test]
fn systemd_verifies_the_unit() {
    if !is_ours() {
        return;
    }
    let analyze = tool("systemd-analyze", "systemd");
    let unit = fs::read_to_string(deploy("redshard.service")).expect("read the unit");
    // It names the place the binary is installed at, which has to be there.
    let dir = TempDir::new();
    let copy = dir.path().join("redshard.service");
    let here = unit.replace("/usr/local/bin/redshard", env!("CARGO_BIN_EXE_redshard"));
    assert_ne!(unit, here);
    fs::write(&copy, &here).expect("write a copy");
    let output =
        Command::new(&analyze).arg("verify").arg(&copy).output().expect("run systemd-analyze");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("redshard")).collect();
    assert!(output.status.success() && ours.is_empty(), "{}: {said}", output.status);
    // A verification that finds nothing wrong with anything is none.
    fs::write(&copy, here.replace("Type=notify", "Type=nonsense")).expect("write a wrong copy");
    let output =
        Command::new(&analyze).arg("verify").arg(&copy).output().expect("run systemd-analyze");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nonsense"), "{output:?}");
    for line in
        ["Type=notify", "WatchdogSec=", "LimitNOFILE=", "LimitMEMLOCK=", "NoNewPrivileges=yes"]
    {
        assert!(unit.lines().any(|found| found.starts_with(line)), "{line}");
    }
}

/// Starts the server under a seccomp filter, as an engine or systemd would.
fn confined(how: &str, what: &str, port: u16, dir: &Path) -> Kept {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/confined.py");
    let out = fs::File::create(dir.join("out")).expect("create a log");
    let server = Command::new(python_with("seccomp", "python3-seccomp"))
        .arg(script)
        .args([how, what, env!("CARGO_BIN_EXE_redshard")])
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--shards", "2", "--dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stderr(out.try_clone().expect("share the log"))
        .stdout(out)
        .spawn()
        .expect("start the server");
    Kept(server)
}

#[track_caller]
fn serves_and_stops(mut server: Kept, port: u16, dir: &Path) {
    let said = || fs::read_to_string(dir.join("out")).unwrap_or_default();
    wait_until("it answers", || {
        assert!(!said().contains("Traceback"), "{}", said());
        Client::try_connect(port).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
    });
    let mut c = Client::connect(port);
    c.check("MSET a 1 b 2 c 3 d 4", ok());
    c.check("MGET a b c d", bulks(&["1", "2", "3", "4"]));
    assert!(c.run("INFO everything").text().contains("# Server"));
    server.signal(SIGTERM);
    let status = wait_exit(&mut server.0);
    assert_eq!(status.code(), Some(0), "{status}\n{}", said());
}

#[test]
fn it_runs_under_the_containers_profile_and_not_without_what_that_adds() {
    if !is_ours() {
        return;
    }
    let profile = deploy("seccomp.json");
    let (dir, port) = (TempDir::new(), free_port());
    let server = confined("profile", profile.to_str().expect("UTF-8"), port, dir.path());
    serves_and_stops(server, port, dir.path());

    let text = fs::read_to_string(&profile).expect("read the profile");
    let without =
        text.replace("\"io_uring_enter\", \"io_uring_register\", \"io_uring_setup\"", "\"read\"");
    assert_ne!(text, without);
    assert!(!without.contains("io_uring"), "it is allowed in a second place");
    let (dir, port) = (TempDir::new(), free_port());
    let plain = dir.path().join("plain.json");
    fs::write(&plain, without).expect("write the engine's default");
    let mut server = confined("profile", plain.to_str().expect("UTF-8"), port, dir.path());
    assert_eq!(wait_exit(&mut server.0).code(), Some(1));
    let said = fs::read_to_string(dir.path().join("out")).expect("its words");
    assert!(said.contains("Failed to set up io_uring"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// The calls that the unit's SystemCallFilter leaves.
#[test]
fn it_runs_under_the_units_filter() {
    if !is_ours() {
        return;
    }
    let analyze = tool("systemd-analyze", "systemd");
    let expand = |set: &str| -> Vec<String> {
        let (mut names, mut sets) = (Vec::new(), vec![set.to_owned()]);
        while let Some(set) = sets.pop() {
            let output = Command::new(&analyze).args(["syscall-filter", &set]).output();
            let text =
                String::from_utf8(output.expect("run systemd-analyze").stdout).expect("text");
            for word in text.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#')) {
                let list = if word.starts_with('@') { &mut sets } else { &mut names };
                list.push(word.to_owned());
            }
        }
        names
    };
    let unit = fs::read_to_string(deploy("redshard.service")).expect("read the unit");
    let mut allowed: Vec<String> = Vec::new();
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (remove, words) = match line.strip_prefix('~') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        for word in words.split(' ') {
            let names = if word.starts_with('@') { expand(word) } else { vec![word.to_owned()] };
            assert!(!names.is_empty(), "{word} is nothing");
            if remove {
                allowed.retain(|name| !names.contains(name));
            } else {
                allowed.extend(names);
            }
        }
    }
    assert!(allowed.len() > 100, "{allowed:?}");
    let (dir, port) = (TempDir::new(), free_port());
    let server = confined("allow", &allowed.join(","), port, dir.path());
    serves_and_stops(server, port, dir.path());
}

/// A process that does not outlive its test.
struct Kept(Child);

impl Kept {
    fn signal(&self, signal: i32) {
        let sent =
            Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.0.id())]).status();
        assert!(sent.expect("run a shell").success(), "it was gone before signal {signal}");
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

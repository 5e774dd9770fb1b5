//! What every integration file shares: a server process that cannot outlive its test, and a client that shows the
//! raw replies.
//!
//! The client is written here rather than taken from a crate because a driver hides what these tests are about: the
//! difference between a null bulk and a null array, an error's exact words, the type byte of a RESP3 reply.
//!
//! With `REDSHARD_TEST_SERVER=/path/to/valkey-server` the same tests run against that server. Every expectation in
//! these files holds for Valkey 9; run them so before changing one.

// Each integration file is its own crate and uses its own part of this module.
#![allow(dead_code, unused_imports)]

pub mod client;
pub mod rdb;
pub mod stall;
pub mod value;

pub use client::Client;
pub use value::*;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long any single condition may take before the test gives up. Generous, because CI machines stall.
pub const PATIENCE: Duration = Duration::from_secs(30);

static SEQUENCE: AtomicUsize = AtomicUsize::new(0);

/// The shard counts every behaviour is checked with: no crossing at all, one boundary, several. A reference server has
/// no shards, so it runs once.
pub fn shard_counts() -> &'static [usize] {
    if reference().is_some() { &[1] } else { &[1, 2, 4] }
}

/// Runs `body` against a fresh server of each shard count.
pub fn each_shard_count(body: impl Fn(&Server)) {
    for &shards in shard_counts() {
        eprintln!("--- with {shards} shard(s)");
        body(&Server::start(shards));
    }
}

/// Like [`each_shard_count`], for the many tests that need nothing but one connection.
pub fn each_client(body: impl Fn(&mut Client)) {
    each_shard_count(|server| body(&mut server.client()));
}

/// The server that stands in for ours, if one is asked for.
pub fn reference() -> Option<PathBuf> {
    std::env::var_os("REDSHARD_TEST_SERVER").map(PathBuf::from)
}

/// Polls until `condition` holds; the test fails, naming `what`, when it does not in time.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Says that this machine lacks what a test is about. In CI that is a failure: there, a test that checks
/// nothing must not count as one that passes.
#[track_caller]
pub fn lacking(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what}: nothing was checked");
    eprintln!("{what}: nothing to check");
}

/// A path that exists (or an explicit failure that says what to install).
#[track_caller]
pub fn tool(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!("{name} is not installed: apt-get install {package} (tests/run does it)")
        })
}

/// A Python that has a module (or an explicit failure that says what to install). Debian's packages are seen by
/// Debian's interpreter only, whatever other one comes first in the path.
#[track_caller]
pub fn python_with(module: &str, package: &str) -> PathBuf {
    let candidates = [tool("python3", "python3"), "/usr/bin/python3".into()];
    let has_module = |python: &PathBuf| {
        let mut import = Command::new(python);
        import.args(["-c", &format!("import {module}")]).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    };
    candidates.into_iter().find(has_module).unwrap_or_else(|| {
        panic!("{module} is not installed: apt-get install {package} (tests/run does it)")
    })
}

/// A directory that disappears with its owner.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        let name = format!(
            "redshard-test-{}-{}",
            std::process::id(),
            SEQUENCE.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("create a temporary directory");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How a server is to be started. `Server::start` covers the usual case.
#[derive(Clone)]
pub struct Launch {
    shards: usize,
    file: Option<PathBuf>,
    args: Vec<String>,
    envs: Vec<(String, String)>,
}

impl Launch {
    pub fn new(shards: usize) -> Launch {
        Launch { shards, file: None, args: Vec::new(), envs: Vec::new() }
    }

    /// Starts it with a configuration file, before all flags.
    pub fn file(mut self, path: &Path) -> Launch {
        self.file = Some(path.to_owned());
        self
    }

    /// Sets a variable of the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Launch {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds arguments, which replace the harness's own of the same name.
    pub fn args(mut self, args: &[&str]) -> Launch {
        self.args.extend(args.iter().map(|arg| arg.to_string()));
        self
    }

    fn says(&self, flag: &str) -> bool {
        self.args.iter().any(|arg| arg == flag)
    }

    /// The process for a given port, not yet answering anything.
    pub fn spawn(&self, port: u16, dir: &Path, log: &Path) -> Child {
        let mut command = match reference() {
            Some(path) => {
                let mut command = Command::new(path);
                command.args(&self.file);
                // A reference server would write its data file on SIGTERM; nothing here reads one.
                command.args(["--save", ""]);
                command
            }
            None => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_redshard"));
                command.args(&self.file);
                command.args(["--shards", &self.shards.to_string()]);
                command
            }
        };
        // An argument of the test's replaces ours: given twice, it would be refused before its value is looked at.
        if !self.says("--port") {
            command.args(["--port", &port.to_string()]);
        }
        if !self.says("--dir") {
            command.arg("--dir").arg(dir);
        }
        if !self.says("--bind") {
            command.args(["--bind", "127.0.0.1"]);
        }
        let out = File::create(log).expect("create the server's log");
        let err = out.try_clone().expect("share the log between stdout and stderr");
        command
            .args(&self.args)
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("start the server")
    }

    /// Starts it and waits until it answers.
    #[track_caller]
    pub fn start(self) -> Server {
        for _ in 0..8 {
            let (dir, port) = (TempDir::new(), free_port());
            let log = dir.path().join("server.log");
            let child = self.spawn(port, dir.path(), &log);
            let mut server = Server { launch: self.clone(), child, port, log, dir };
            if server.came_up() {
                return server;
            }
            let said = server.log();
            // Somebody else may have taken the port between our look and the server's bind.
            assert!(said.to_lowercase().contains("in use"), "the server did not start:\n{said}");
        }
        panic!("no free port in eight attempts");
    }
}

/// A running server, killed when dropped.
pub struct Server {
    launch: Launch,
    child: Child,
    port: u16,
    log: PathBuf,
    dir: TempDir,
}

impl Server {
    #[track_caller]
    pub fn start(shards: usize) -> Server {
        Launch::new(shards).start()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// Everything the process has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal by its number.
    pub fn signal(&self, signal: i32) {
        // The shell's own kill: a minimal container has no other.
        let sent =
            Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.pid())]).status();
        assert!(sent.expect("run a shell").success(), "the server was gone before signal {signal}");
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        wait_exit(&mut self.child)
    }

    /// Ends it with SIGTERM, and starts it again with the same port, directory and arguments.
    #[track_caller]
    pub fn restart(&mut self) {
        self.signal(15);
        self.revive();
    }

    /// Starts it again where it was, once it has ended.
    #[track_caller]
    pub fn revive(&mut self) {
        self.wait_exit();
        self.child = self.launch.spawn(self.port, self.dir.path(), &self.log);
        assert!(self.came_up(), "it does not start again:\n{}", self.log());
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("read the server's status");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("VmRSS is in the status file");
        let kib: u64 =
            line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("VmRSS is a number");
        kib * 1024
    }

    /// True once it answers, false when it ended first.
    #[track_caller]
    fn came_up(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().expect("ask for the server's state").is_some() {
                return false;
            }
            // With a password set the answer is an error, which is an answer all the same.
            if let Ok(mut client) = Client::try_connect(self.port)
                && client.try_cmd(&["PING"]).is_ok()
            {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the server neither answered nor ended:\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- the server's last words:");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Waits for a process to end; one that does not is killed and fails the test.
#[track_caller]
pub fn wait_exit(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("ask for the process's state") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the process did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A port nobody listens on. Taken below the kernel's ephemeral range, so that no outgoing connection of a test that
/// runs beside this one can sit on it.
pub fn free_port() -> u16 {
    const FIRST: usize = 20_000;
    const COUNT: usize = 12_000;
    loop {
        let step = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let port = (FIRST + (std::process::id() as usize * 131 + step) % COUNT) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

//! Finding the servers to compare, starting them alike, and making sure that
//! none outlives the run.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::proc;

/// Where peers are looked for unless REDSHARD_PEERS says otherwise.
const PEERS_DIR: &str = "/opt/peers";

/// Names by which `--peers` selects, the place of each below the peers'
/// directory (an absolute path stands for itself), and who it is.
const PEERS: [(&str, &str); 4] = [
    ("valkey", "valkey/bin/valkey-server"),
    ("redis", "redis/bin/redis-server"),
    ("apt", "/usr/bin/redis-server"),
    ("apt-valkey", "/usr/bin/valkey-server"),
];

/// A server starts within this time or is reported as failed.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A program that can be started as a server.
#[derive(Clone)]
pub struct Product {
    /// Name and version, as the tables print it.
    pub label: String,
    program: PathBuf,
    arguments: Arguments,
}

#[derive(Clone)]
enum Arguments {
    Ours,
    /// REDSHARD_ARGS: lets any other program stand in for ours.
    Template(String),
    Peer,
}

/// How one server of a comparison is started.
#[derive(Clone)]
pub struct Launch {
    /// The cores it is confined to.
    pub cores: Vec<usize>,
    /// Shards of ours; I/O threads of a peer.
    pub threads: usize,
    /// Raised where a report opens more connections than the default allows.
    pub max_clients: Option<usize>,
}

/// What is compared: ours first, then the peers found.
pub struct Field {
    pub ours: Product,
    pub peers: Vec<Product>,
    /// What was asked for and is not there, in words.
    pub missing: Vec<String>,
}

impl Field {
    pub fn find(wanted: &[String]) -> Outcome<Field> {
        let ours = our_product()?;
        let directory = env::var_os("REDSHARD_PEERS").unwrap_or_else(|| PEERS_DIR.into());
        let mut peers = Vec::new();
        let mut missing = Vec::new();
        for name in wanted {
            let Some((_, place)) = PEERS.iter().find(|(known, _)| known == name) else {
                let known: Vec<&str> = PEERS.iter().map(|(known, _)| *known).collect();
                return Err(format!("no peer {name:?}; there are {}", known.join(", ")).into());
            };
            let program = Path::new(&directory).join(place);
            if !program.exists() {
                missing.push(format!("{name}: no {}", program.display()));
                continue;
            }
            let distribution = if name.starts_with("apt") { "apt " } else { "" };
            peers.push(Product {
                label: format!("{distribution}{}", version_of(&program)?),
                program,
                arguments: Arguments::Peer,
            });
        }
        Ok(Field { ours, peers, missing })
    }
}

/// REDSHARD_BIN, or the binary that cargo built along with this benchmark.
fn our_product() -> Outcome<Product> {
    let built = option_env!("CARGO_BIN_EXE_redshard").unwrap_or("target/release/redshard");
    let program = env::var_os("REDSHARD_BIN").map_or_else(|| PathBuf::from(built), PathBuf::from);
    if !program.exists() {
        let program = program.display();
        return Err(format!(
            "no server at {program}: run `cargo build --release`, or set REDSHARD_BIN"
        )
        .into());
    }
    let program = fs::canonicalize(program)?;
    if let Ok(template) = env::var("REDSHARD_ARGS") {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        return Ok(Product {
            label: format!("stand-in {name}"),
            arguments: Arguments::Template(template),
            program,
        });
    }
    Ok(Product { label: version_of(&program)?, program, arguments: Arguments::Ours })
}

/// REDSHARD_BEFORE: an earlier build of ours.
pub fn earlier_product() -> Outcome<Product> {
    let program = env::var_os("REDSHARD_BEFORE").map(PathBuf::from);
    let program = program.ok_or("set REDSHARD_BEFORE to an earlier build of the server")?;
    let program = fs::canonicalize(&program)
        .map_err(|error| format!("REDSHARD_BEFORE={}: {error}", program.display()))?;
    Ok(Product { label: version_of(&program)?, program, arguments: Arguments::Ours })
}

/// "valkey 9.1.2" out of whatever `--version` says: the first word, in lower
/// case, and the first word that starts with a number, with or without "v=".
fn version_of(program: &Path) -> Outcome<String> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
    let mut words = text.split_ascii_whitespace();
    let name = words.next().unwrap_or("unknown");
    let version = words
        .map(|word| word.trim_start_matches("v=").trim_start_matches('v'))
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or("?");
    Ok(format!("{name} {version}"))
}

impl Product {
    /// Starts the server and waits until it answers.
    pub fn start(&self, launch: &Launch) -> Outcome<Server> {
        self.start_with(launch, &[])
    }

    /// The same, with arguments of a report's own.
    pub fn start_with(&self, launch: &Launch, more: &[String]) -> Outcome<Server> {
        self.start_in(launch, more, Scratch::new()?)
    }

    /// The same, in a directory that another has left.
    pub fn start_in(&self, launch: &Launch, more: &[String], scratch: Scratch) -> Outcome<Server> {
        let log = scratch.0.join("log");
        let port = free_port()?;
        let mut command = Command::new(&self.program);
        command
            .args(self.arguments(launch, port, &scratch.0))
            .args(more)
            .current_dir(&scratch.0)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let cores = launch.cores.clone();
        let confine = move || {
            proc::die_with_parent()?;
            proc::pin(&cores)
        };
        // SAFETY: between fork and exec, `confine` makes two system calls; it
        // allocates nothing, takes no lock and does not panic.
        unsafe { command.pre_exec(confine) };
        let child = command.spawn()?;
        let mut server = Server { child, port, scratch: Some(scratch) };
        server.wait_until_ready().map_err(|reason| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            let tail = lines[lines.len().saturating_sub(8)..].join("\n  ");
            format!("{}: {reason}; it said:\n  {tail}", self.label)
        })?;
        Ok(server)
    }

    fn arguments(&self, launch: &Launch, port: u16, dir: &Path) -> Vec<String> {
        let port = port.to_string();
        let dir = dir.to_string_lossy().into_owned();
        let threads = launch.threads.to_string();
        let mut arguments: Vec<String> = match &self.arguments {
            Arguments::Template(template) => {
                return template
                    .replace("{port}", &port)
                    .replace("{shards}", &threads)
                    .replace("{dir}", &dir)
                    .split_ascii_whitespace()
                    .map(String::from)
                    .collect();
            }
            Arguments::Ours => {
                // No snapshots by themselves: what is compared is serving.
                let mut arguments = vec!["--port", &port, "--shards", &threads];
                arguments.extend(["--dir", &dir, "--save", ""]);
                arguments.into_iter().map(String::from).collect()
            }
            Arguments::Peer => {
                // No snapshots and no log: what is compared is serving.
                let mut arguments = vec!["--port", &port, "--dir", &dir, "--save", ""];
                arguments.extend(["--appendonly", "no", "--daemonize", "no"]);
                arguments.extend(["--protected-mode", "no"]);
                if launch.threads > 1 {
                    arguments.extend(["--io-threads", &threads]);
                }
                arguments.into_iter().map(String::from).collect()
            }
        };
        if let Some(limit) = launch.max_clients {
            arguments.extend(["--maxclients".into(), limit.to_string()]);
        }
        arguments
    }
}

/// A running server. Dropping it, also by a panic, kills it; should this
/// process be killed, the kernel kills the server.
pub struct Server {
    child: Child,
    pub port: u16,
    /// Goes after the server.
    scratch: Option<Scratch>,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> Outcome<Client> {
        Client::connect(self.port)
    }

    /// Ends the server, and leaves its directory.
    pub fn stop(mut self) -> Outcome<Scratch> {
        // It closes the connection instead of an answer.
        let _ = self.client()?.ask(&["SHUTDOWN", "NOSAVE"]);
        self.child.wait()?;
        Ok(self.scratch.take().ok_or("a server without a directory")?)
    }

    /// How long it took to load what was in its directory, as its log says.
    pub fn seconds_loaded(&self) -> Outcome<f64> {
        let scratch = self.scratch.as_ref().ok_or("a server without a directory")?;
        let log = fs::read_to_string(scratch.0.join("log"))?;
        let said = log.split("DB loaded from disk: ").nth(1);
        let seconds = said.and_then(|rest| rest.split_ascii_whitespace().next());
        Ok(seconds.ok_or("the log does not say that it has loaded")?.parse()?)
    }

    fn wait_until_ready(&mut self) -> Outcome<()> {
        let started = Instant::now();
        loop {
            let answer = self.client().and_then(|mut client| client.ask(&["PING"]));
            let reason = match answer {
                Ok(reply) if reply == "+PONG" => return Ok(()),
                Ok(reply) => format!("answered PING with {reply:?}"),
                Err(error) => error.to_string(),
            };
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("ended at once with {status}").into());
            }
            if started.elapsed() > START_LIMIT {
                return Err(format!("not ready after {START_LIMIT:?} ({reason})").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the server has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of the server's own, removed with it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn new() -> Outcome<Scratch> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("redshard-versus-{}-{number}", process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that was free a moment ago; nothing else hands out ports here.
pub fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// One blocking connection, for the few questions a report asks by hand.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> Outcome<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Sends one command and returns the first line of its reply, which is all
    /// of the reply for the commands asked here.
    pub fn ask(&mut self, words: &[&str]) -> Outcome<String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let reply = line.trim_end();
        match reply.strip_prefix('-') {
            Some(error) => Err(format!("{}: {error}", words[0]).into()),
            None if reply.is_empty() => Err(format!("{}: connection closed", words[0]).into()),
            None => Ok(reply.to_string()),
        }
    }

    /// One field of INFO.
    pub fn info(&mut self, field: &str) -> Outcome<String> {
        let length = self.ask(&["INFO"])?;
        let length: usize = length.trim_start_matches(['$', '=']).parse()?;
        let mut text = vec![0; length + 2];
        self.stream.read_exact(&mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.ok_or_else(|| format!("INFO has no {field}"))?.to_string())
    }

    /// The number of keys in database 0.
    pub fn count_keys(&mut self) -> Outcome<u64> {
        let reply = self.ask(&["DBSIZE"])?;
        Ok(reply.trim_start_matches(':').parse()?)
    }
}

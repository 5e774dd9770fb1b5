//! What can be asked for. An option is declared here once: its meaning, how
//! it is set, how it is printed back; each report names the ones it reads.

use std::env;
use std::fmt::Display;
use std::str::FromStr;

use crate::Outcome;
use crate::pause::Phase;
use crate::request::{Command, MAX_KEYS};

const MEANINGS: [(&str, &str); 13] = [
    ("commands", "among SET,GET,INCR,MSET,MGET"),
    ("pipelines", "requests in flight per connection"),
    ("connections", "client connections"),
    ("values", "value sizes in bytes"),
    ("rounds", "alternating rounds, of which the median counts"),
    ("seconds", "length of one measurement"),
    ("requests", "its length in requests instead; 0: by time"),
    ("keyspace", "keys drawn from (fewer where values are large)"),
    ("keys", "keys loaded"),
    ("shards", "shards of ours where it has several"),
    ("phases", "among insert,delete,unlink,expire,flush"),
    ("peers", "among valkey,redis,apt,apt-valkey; or none"),
    ("payload-limit-mib", "leave out cases with more in flight"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Cpu,
    Shards,
    Before,
    Memory,
    Pause,
    Idle,
    Observe,
    Save,
    Pubsub,
    Replication,
}

impl Report {
    const ALL: [Report; 10] = [
        Report::Cpu,
        Report::Shards,
        Report::Before,
        Report::Memory,
        Report::Pause,
        Report::Idle,
        Report::Observe,
        Report::Save,
        Report::Pubsub,
        Report::Replication,
    ];

    fn name(self) -> &'static str {
        match self {
            Report::Cpu => "cpu",
            Report::Shards => "shards",
            Report::Before => "before",
            Report::Memory => "memory",
            Report::Pause => "pause",
            Report::Idle => "idle",
            Report::Observe => "observe",
            Report::Save => "save",
            Report::Pubsub => "pubsub",
            Report::Replication => "replication",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Report::Cpu => "processor time per operation, throughput, latency (the default)",
            Report::Shards => "ours with several shards, against one and against I/O threads",
            Report::Before => "this build against REDSHARD_BEFORE, an earlier one",
            Report::Memory => "resident bytes per key",
            Report::Pause => "the longest wait of a client while keys come and go",
            Report::Idle => "resident bytes per idle connection",
            Report::Observe => "what INFO and /metrics cost ours under load",
            Report::Save => "SAVE and load, alone and beside writers",
            Report::Pubsub => "processor time per message that a subscriber gets",
            Report::Replication => "a full synchronization, writes beside a replica, WAIT",
        }
    }

    /// The options this report reads; any other is refused, not ignored.
    fn reads(self) -> &'static [&'static str] {
        match self {
            Report::Cpu => &[
                "commands",
                "pipelines",
                "connections",
                "values",
                "rounds",
                "seconds",
                "requests",
                "keyspace",
                "payload-limit-mib",
                "peers",
            ],
            Report::Shards => &[
                "shards",
                "commands",
                "pipelines",
                "connections",
                "values",
                "rounds",
                "seconds",
                "requests",
                "keyspace",
                "payload-limit-mib",
                "peers",
            ],
            Report::Before => &[
                "shards",
                "commands",
                "pipelines",
                "connections",
                "values",
                "rounds",
                "seconds",
                "requests",
                "keyspace",
                "payload-limit-mib",
            ],
            Report::Memory => &["shards", "keys", "values", "rounds", "peers"],
            Report::Pause => {
                &["shards", "phases", "keys", "values", "connections", "pipelines", "peers"]
            }
            Report::Idle => &["shards", "connections", "rounds", "peers"],
            Report::Save | Report::Replication => &[
                "shards",
                "keys",
                "values",
                "connections",
                "pipelines",
                "rounds",
                "seconds",
                "peers",
            ],
            Report::Pubsub => {
                &["shards", "connections", "pipelines", "values", "rounds", "seconds", "peers"]
            }
            Report::Observe => &[
                "shards",
                "commands",
                "pipelines",
                "connections",
                "values",
                "rounds",
                "seconds",
                "keyspace",
            ],
        }
    }
}

pub struct Options {
    pub report: Report,
    pub commands: Vec<Command>,
    pub pipelines: Vec<usize>,
    pub connections: Vec<usize>,
    pub values: Vec<usize>,
    pub rounds: usize,
    pub seconds: f64,
    pub requests: u64,
    pub keyspace: u64,
    pub keys: u64,
    pub shards: usize,
    pub phases: Vec<Phase>,
    pub peers: Vec<String>,
    pub payload_limit_mib: usize,
}

impl Options {
    fn defaults(report: Report) -> Options {
        let peers: &[&str] = match report {
            Report::Shards => &["valkey"],
            Report::Observe | Report::Before => &[],
            Report::Save | Report::Pubsub | Report::Replication => &["valkey"],
            _ => &["valkey", "redis", "apt"],
        };
        Options {
            report,
            commands: match report {
                Report::Shards | Report::Observe => vec![Command::Set, Command::Get],
                Report::Before => vec![Command::Set, Command::Get, Command::Mget],
                _ => Command::ALL.to_vec(),
            },
            pipelines: match report {
                Report::Pause => vec![32],
                Report::Observe => vec![16],
                Report::Save => vec![1],
                Report::Pubsub => vec![1, 16],
                _ => vec![1, 16, 64],
            },
            connections: match report {
                Report::Cpu => vec![1, 50],
                Report::Pause => vec![8],
                Report::Idle => vec![10_000],
                Report::Pubsub => vec![1, 100, 10_000],
                _ => vec![50],
            },
            values: match report {
                Report::Save => vec![64, 8192],
                _ => vec![64],
            },
            rounds: match report {
                Report::Cpu | Report::Shards => 5,
                Report::Observe => 9,
                Report::Before => 15,
                Report::Save | Report::Pubsub | Report::Replication => 3,
                _ => 1,
            },
            seconds: match report {
                Report::Save => 4.0,
                _ => 1.0,
            },
            requests: 0,
            keyspace: 1_000_000,
            keys: match report {
                Report::Pause => 10_000_000,
                _ => 5_000_000,
            },
            shards: match report {
                Report::Pause | Report::Idle | Report::Observe => 1,
                _ => 2,
            },
            phases: vec![Phase::Insert, Phase::Delete, Phase::Expire, Phase::Flush],
            peers: peers.iter().map(|peer| (*peer).to_string()).collect(),
            payload_limit_mib: 512,
        }
    }

    pub fn parse(arguments: &[String]) -> Outcome<Options> {
        // Cargo adds --bench to what the user typed.
        let mut words = arguments.iter().filter(|word| *word != "--bench").peekable();
        let report = match words.next_if(|word| !word.starts_with("--")) {
            None => Report::Cpu,
            Some(name) => Report::ALL
                .into_iter()
                .find(|report| report.name() == name)
                .ok_or_else(|| format!("no report {name:?}\n{}", usage()))?,
        };
        let mut options = Options::defaults(report);
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or_else(|| format!("{word:?}: an option starts with --"))?;
            if !report.reads().contains(&name) {
                let reads = report.reads().join(" --");
                let report = report.name();
                return Err(format!("{report} has no --{name}; it reads --{reads}").into());
            }
            let value = words.next().ok_or_else(|| format!("--{name} what?"))?;
            options.set(name, value).map_err(|error| format!("--{name} {value}: {error}"))?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Outcome<()> {
        match name {
            "commands" => {
                self.commands = split(value, |item| {
                    let found = Command::ALL
                        .into_iter()
                        .find(|command| command.name().eq_ignore_ascii_case(item));
                    Ok(found.ok_or_else(|| format!("no command {item:?}"))?)
                })?;
            }
            "pipelines" => self.pipelines = split(value, positive)?,
            "connections" => self.connections = split(value, positive)?,
            "values" => self.values = split(value, positive)?,
            "rounds" => self.rounds = positive(value)?,
            "seconds" => {
                self.seconds = value.parse()?;
                if !(0.01..=3600.0).contains(&self.seconds) {
                    return Err("between 0.01 and 3600".into());
                }
            }
            "requests" => self.requests = value.parse()?,
            "keyspace" => self.keyspace = key_count(value)?,
            "keys" => self.keys = key_count(value)?,
            "shards" => self.shards = positive(value)?,
            "phases" => self.phases = split(value, Phase::named)?,
            "peers" => {
                let all = split(value, |item| Ok(item.to_string()))?;
                self.peers = all.into_iter().filter(|peer| peer != "none").collect();
            }
            "payload-limit-mib" => self.payload_limit_mib = positive(value)?,
            other => return Err(format!("--{other} is declared but not set anywhere").into()),
        }
        Ok(())
    }

    fn get(&self, name: &str) -> String {
        match name {
            "commands" => join(self.commands.iter().map(|command| command.name())),
            "pipelines" => join(&self.pipelines),
            "connections" => join(&self.connections),
            "values" => join(&self.values),
            "rounds" => self.rounds.to_string(),
            "seconds" => self.seconds.to_string(),
            "requests" => self.requests.to_string(),
            "keyspace" => self.keyspace.to_string(),
            "keys" => self.keys.to_string(),
            "shards" => self.shards.to_string(),
            "phases" => join(self.phases.iter().map(|phase| phase.name())),
            "peers" if self.peers.is_empty() => "none".to_string(),
            "peers" => join(&self.peers),
            "payload-limit-mib" => self.payload_limit_mib.to_string(),
            _ => String::new(),
        }
    }

    /// The command that repeats this run, with every option spelled out, so
    /// that it still does when a default changes.
    pub fn command_line(&self) -> String {
        let mut line = String::new();
        for variable in ["REDSHARD_BIN", "REDSHARD_ARGS", "REDSHARD_PEERS", "REDSHARD_BEFORE"] {
            if let Ok(value) = env::var(variable) {
                line.push_str(&format!("{variable}='{value}' "));
            }
        }
        line.push_str("cargo bench --bench versus -- ");
        line.push_str(self.report.name());
        for name in self.report.reads() {
            line.push_str(&format!(" --{name} {}", self.get(name)));
        }
        line
    }

    /// The one value of an option that the report takes one value of.
    pub fn only(name: &str, values: &[usize]) -> Outcome<usize> {
        match values {
            [value] => Ok(*value),
            _ => Err(format!("--{name} takes one value in this report").into()),
        }
    }
}

pub fn usage() -> String {
    let mut text = String::from("cargo bench --bench versus -- [REPORT] [--OPTION VALUE]…\n");
    for report in Report::ALL {
        text.push_str(&format!("\n{}: {}\n", report.name(), report.meaning()));
        let defaults = Options::defaults(report);
        for name in report.reads() {
            let meaning = MEANINGS.iter().find(|(known, _)| known == name);
            let meaning = meaning.map_or("", |(_, meaning)| *meaning);
            let default = defaults.get(name);
            text.push_str(&format!("  --{name:<18} {meaning} [{default}]\n"));
        }
    }
    text.push_str(
        "\nLists are separated by commas. From the environment:\n  \
         REDSHARD_BIN    the server to measure, if not the one just built\n  \
         REDSHARD_ARGS   its arguments, for a stand-in: \"--port {port} --threads {shards}\"\n  \
         REDSHARD_PEERS  where valkey/bin and redis/bin are found\n  \
         REDSHARD_BEFORE an earlier build, for `before`\n",
    );
    text
}

fn split<T>(list: &str, one: impl Fn(&str) -> Outcome<T>) -> Outcome<Vec<T>> {
    list.split(',').map(|item| one(item.trim())).collect()
}

fn join(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(",")
}

fn positive<T: FromStr + PartialOrd + Default>(text: &str) -> Outcome<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let number: T = text.parse()?;
    if number <= T::default() {
        return Err("more than 0".into());
    }
    Ok(number)
}

fn key_count(text: &str) -> Outcome<u64> {
    let count = positive(text)?;
    if count > MAX_KEYS {
        return Err(format!("keys have digits for at most {MAX_KEYS}").into());
    }
    Ok(count)
}

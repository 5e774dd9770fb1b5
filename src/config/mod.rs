//! What the server is configured to do.
//!
//! [`table`] declares every option once; [`value`] reads and writes what an option can hold, and
//! [`typed`] is the form the server uses it in; [`cli`] is what a shell sees of it, and [`parse`]
//! reads the start line and configuration files. A [`Config`] is a plain value without globals:
//! CONFIG SET makes a changed copy, the server puts into effect what changed, and only then takes
//! the copy for its own. So a change happens whole or not at all.

pub mod cli;
pub mod parse;
pub mod rewrite;
pub mod table;
pub mod typed;
pub mod value;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::base::version::VERSION;
use crate::base::{glob, limits, words};
use table::{Change, TABLE};
use typed::{
    Appendfsync, ClientClass, DisklessLoad, KeyspaceEvents, LogFormat, LogLevel, LogTimestamp,
    MaxmemoryPolicy, OnSignal, OomScoreAdj, OutputLimit, Permission, PipelineOrder, RdbVersion,
    SaveRule, Supervised,
};
use value::{Kind, Reason, Value};

/// Everything that was configured, or its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// By place in [`TABLE`].
    values: Vec<Value>,
    /// By place in [`TABLE`]: set in a file, on the start line or by CONFIG SET.
    by_user: Vec<bool>,
    renamed_commands: Vec<(Vec<u8>, Vec<u8>)>,
    users: Vec<Vec<Vec<u8>>>,
    ignored: Vec<String>,
    file: Option<std::path::PathBuf>,
}

/// What is wrong with a configuration, or with a change of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// CONFIG SET names an option that doesn't exist.
    #[error("ERR Unknown option or number of arguments for CONFIG SET - '{0}'")]
    Unknown(String),
    /// CONFIG SET names an option that can't be changed, or a value it can't take.
    #[error("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")]
    Refused {
        /// The option as it was named.
        name: String,
        /// What is wrong.
        reason: Reason,
    },
    /// A line of a configuration file, or a flag, can't be followed.
    #[error("*** FATAL CONFIG FILE ERROR (Redshard {version}) ***\n{place}\n>>> '{line}'\n{reason}", version = VERSION)]
    Fatal {
        /// Which line of which file.
        place: String,
        /// The line.
        line: String,
        /// What is wrong with it.
        reason: Reason,
    },
    /// A configuration file can't be read.
    #[error("Fatal error, can't open config file '{path}': {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        reason: Reason,
    },
}

impl ConfigError {
    /// The refusal of a change that was valid but could not be put into effect.
    pub fn refused(name: &str, reason: impl Into<Reason>) -> ConfigError {
        ConfigError::Refused { name: name.into(), reason: reason.into() }
    }
}

impl Default for Config {
    fn default() -> Config {
        // Never seen: every kind reads its default into a value of its own.
        let nothing = Value::Bool(false);
        let values = TABLE.iter().map(|option| {
            let words = if option.kind.takes_many() {
                words::split_args(option.default.as_bytes()).unwrap_or_default()
            } else {
                vec![option.default.into()]
            };
            let words = if words.is_empty() { vec![Vec::new()] } else { words };
            let read = option.kind.read(&words, &nothing, false);
            // Only the working directory can fail to be read: it may have been removed.
            read.unwrap_or_else(|_| Value::Text(option.default.into()))
        });
        Config {
            values: values.collect(),
            by_user: vec![false; TABLE.len()],
            renamed_commands: Vec::new(),
            users: Vec::new(),
            ignored: Vec::new(),
            file: None,
        }
    }
}

impl Config {
    /// What CONFIG GET answers: names and values of the options that any of the patterns matches,
    /// each once, sorted by name. A name without pattern comes back as it was spelled, and finds
    /// hidden options.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |name: &[u8], at: usize| {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                found.push((name.to_vec(), TABLE[at].kind.write(&self.values[at])));
            }
        };
        for &pattern in patterns {
            if !pattern.iter().any(|byte| b"[*?".contains(byte)) {
                if let Some((at, _)) = table::find(pattern) {
                    add(pattern, at);
                }
                continue;
            }
            for (at, option) in TABLE.iter().enumerate().filter(|(_, option)| !option.hidden) {
                for name in option.names() {
                    if glob::matches(pattern, name.as_bytes(), true) {
                        add(name.as_bytes(), at);
                    }
                }
            }
        }
        found.sort();
        found
    }

    /// What CONFIG SET makes of this configuration, and which options differ: the caller puts those
    /// into effect, then takes the result for its own, or drops it if that fails.
    ///
    /// `local` says whether the client is on this machine, which `enable-protected-configs` asks.
    pub fn set(
        &self,
        pairs: &[(&[u8], &[u8])],
        local: bool,
    ) -> Result<(Config, Vec<&'static str>), ConfigError> {
        let lossy = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let refused = |name: &[u8], reason: &'static str| ConfigError::Refused {
            name: lossy(name),
            reason: reason.into(),
        };
        let allowed = self.enable_protected_configs().allows(local);

        // Every name is judged before any value is read; the first one that won't do is named.
        let mut found: Vec<(usize, &str, &[u8])> = Vec::with_capacity(pairs.len());
        for &(name, text) in pairs {
            let (at, known) = table::find(name).ok_or_else(|| ConfigError::Unknown(lossy(name)))?;
            match TABLE[at].change {
                Change::Start => return Err(refused(name, "can't set immutable config")),
                Change::Protected if !allowed => {
                    return Err(refused(name, "can't set protected config"));
                }
                Change::Live | Change::Protected => {}
            }
            if found.iter().any(|&(_, earlier, _)| earlier == known) {
                return Err(refused(name, "duplicate parameter"));
            }
            found.push((at, known, text));
        }

        let mut changed = self.clone();
        for (at, known, text) in found {
            let kind = &TABLE[at].kind;
            // Lists are split at every single space, so two spaces in a row hold an empty word.
            let words: Vec<Vec<u8>> = match (kind.takes_many(), text) {
                (true, []) => Vec::new(),
                (true, _) => text.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect(),
                (false, _) => vec![text.to_vec()],
            };
            let value = kind
                .read(&words, &changed.values[at], false)
                .map_err(|reason| ConfigError::refused(known, reason))?;
            changed.put(at, value);
        }
        let differs = |at: &usize| self.values[*at] != changed.values[*at];
        let names = (0..TABLE.len()).filter(differs).map(|at| TABLE[at].name).collect();
        Ok((changed, names))
    }

    fn put(&mut self, at: usize, value: Value) {
        self.values[at] = value;
        self.by_user[at] = true;
    }

    /// Says whom the server follows from now on, as REPLICAOF does while it runs.
    pub fn set_replicaof(&mut self, leader: Option<(String, u16)>) {
        const AT: usize = table::index_of("replicaof");
        self.put(AT, Value::Leader(leader));
    }

    /// Options that someone set to something other than the default, and nothing acts on, followed
    /// by directives that were read and ignored. For one notice at the start.
    pub fn inert(&self) -> Vec<&str> {
        let defaults = Config::default();
        let set = TABLE.iter().enumerate().filter(|(at, option)| {
            option.inert && self.by_user[*at] && self.values[*at] != defaults.values[*at]
        });
        set.map(|(_, option)| option.name).chain(self.ignored.iter().map(String::as_str)).collect()
    }

    /// Whether nobody has configured anything.
    pub fn is_default(&self) -> bool {
        !self.by_user.contains(&true)
    }

    /// Commands to rename, in order: from, to. An empty target removes the command.
    pub fn renamed_commands(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.renamed_commands
    }

    /// The arguments of every `user` line, in order: the user's name, then its rules.
    pub fn users(&self) -> &[Vec<Vec<u8>>] {
        &self.users
    }

    /// The absolute path of the configuration file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Bytes that all clients together may make the server use; `None` for no limit. A limit below
    /// what a handful of idle clients take would only close everybody, so it counts as that much.
    pub fn client_memory_limit(&self) -> Option<u64> {
        let limit = match self.maxmemory_clients() {
            percent @ ..0 => {
                let share = u128::from(self.maxmemory()) * u128::from(percent.unsigned_abs()) / 100;
                u64::try_from(share).unwrap_or(u64::MAX)
            }
            bytes => bytes as u64,
        };
        (limit != 0).then_some(limit.max(limits::CLIENT_MEMORY_MIN))
    }

    /// How many replicas have to be good for writes to be taken; 0 for any number.
    pub fn good_replicas_needed(&self) -> usize {
        if self.min_replicas_max_lag() == 0 { 0 } else { self.min_replicas_to_write() as usize }
    }

    /// How much unsent output clients of a class may have.
    pub fn output_limit(&self, class: ClientClass) -> OutputLimit {
        self.client_output_buffer_limit()[class as usize]
    }
}

/// Whether a value given to an option of this name must be kept out of logs.
pub fn is_secret(name: &[u8]) -> bool {
    table::find(name).is_some_and(|(at, _)| TABLE[at].secret)
}

/// Whether CONFIG SET leaves the option of this name as it is while data is being loaded.
pub fn is_fixed_while_loading(name: &[u8]) -> bool {
    table::find(name).is_some_and(|(at, _)| TABLE[at].fixed_while_loading)
}

/// Declares typed accessors: `shape name -> type = "option";`. That the option exists and has that
/// shape is checked when this compiles; the bounds in the table keep the casts exact.
macro_rules! accessors {
    ($($(#[$doc:meta])* $shape:ident $name:ident -> $type:ty = $option:literal;)*) => {
        impl Config {
            $($(#[$doc])* pub fn $name(&self) -> $type {
                const AT: usize = table::index_of($option);
                const KIND: &Kind = &TABLE[AT].kind;
                let value = &self.values[AT];
                accessors!(@$shape KIND, value, $type)
            })*
        }
    };
    (@bool $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::Bool, Value::Bool(on) => *on)
    };
    (@int $kind:ident, $value:ident, $type:ty) => {{
        const { assert!(fits($kind, <$type>::MIN as i128, <$type>::MAX as i128)) }
        accessors!(@take $kind, $value, Kind::Int(..) | Kind::Clamped(..) | Kind::Octal(_),
            Value::Int(number) => *number as $type)
    }};
    (@memory_or_percent $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::MemoryOrPercent, Value::Int(number) => *number)
    };
    (@memory $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::Memory(..), Value::Memory(bytes) => *bytes)
    };
    (@text $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::Text | Kind::Checked(_), Value::Text(text) => text)
    };
    (@path $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::FileName(_) | Kind::Directory,
            Value::Text(text) => Path::new(OsStr::from_bytes(text)))
    };
    (@maybe_path $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::Text,
            Value::Text(text) => (!text.is_empty()).then(|| Path::new(OsStr::from_bytes(text))))
    };
    (@choice $kind:ident, $value:ident, $type:ty) => {{
        const { assert!(chooses($kind, <$type>::WORDS)) }
        accessors!(@take $kind, $value, Kind::Choice(_),
            Value::Choice(index) => <$type>::from_index(*index))
    }};
    (@words $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::Addresses, Value::Words(words) => words)
    };
    (@scores $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::OomScores, Value::Words(words) => {
            std::array::from_fn(|at| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(0))
        })
    };
    (@percentiles $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::Percentiles, Value::Words(words) => words)
    };
    (@save $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::SaveRules, Value::Save(rules) => rules)
    };
    (@flags $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::Flags(_), Value::Flags(bits) => <$type>::from_bits(*bits))
    };
    (@limits $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::OutputLimits, Value::Limits(limits) => limits)
    };
    (@events $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::Events, Value::Events(events) => *events)
    };
    (@leader $kind:ident, $value:ident, $type:ty) => {
        accessors!(@take $kind, $value, Kind::Leader,
            Value::Leader(leader) => leader.as_ref().map(|(host, port)| (host.as_str(), *port)))
    };
    (@take $kind:ident, $value:ident, $kinds:pat, $pattern:pat => $result:expr) => {{
        const { assert!(matches!($kind, $kinds)) }
        match $value {
            $pattern => $result,
            other => unreachable!("a kind reads only its own values, not {other:?}"),
        }
    }};
}

/// Whether every value of an integer kind is between the bounds.
const fn fits(kind: &Kind, min: i128, max: i128) -> bool {
    match kind {
        Kind::Int(from, to) | Kind::Clamped(from, to) => *from as i128 >= min && *to as i128 <= max,
        Kind::Octal(to) => min <= 0 && *to as i128 <= max,
        _ => false,
    }
}

/// Whether a kind chooses from just these words, in this order.
const fn chooses(kind: &Kind, words: &[&str]) -> bool {
    let Kind::Choice(names) = kind else {
        return false;
    };
    let mut at = 0;
    while at < names.len() && at < words.len() {
        if !table::same(names[at], words[at]) {
            return false;
        }
        at += 1;
    }
    names.len() == words.len()
}

accessors! {
    /// TCP port; 0 listens on none.
    int port -> u16 = "port";
    /// Addresses to listen on, as configured: `*` is any, a leading `-` tolerates a failure.
    words bind -> &[String] = "bind";
    /// Address that connections to other servers come from; empty for any.
    text bind_source_addr -> &[u8] = "bind-source-addr";
    /// Path of the Unix socket.
    maybe_path unixsocket -> Option<&Path> = "unixsocket";
    /// Permissions of the Unix socket; 0 leaves them to the umask.
    int unixsocketperm -> u32 = "unixsocketperm";
    /// Connections the kernel queues.
    int tcp_backlog -> i32 = "tcp-backlog";
    /// Seconds between keepalive probes; 0 for none.
    int tcp_keepalive -> u32 = "tcp-keepalive";
    /// Seconds after which an idle client is closed; 0 for never.
    int timeout -> u32 = "timeout";
    /// Most clients at a time.
    int maxclients -> u32 = "maxclients";
    /// Bytes that all clients together may make the server use; negative for percent of `maxmemory`.
    memory_or_percent maxmemory_clients -> i64 = "maxmemory-clients";
    /// Whether remote clients are turned away while nothing protects the server.
    bool protected_mode -> bool = "protected-mode";

    /// Shards; 0 for one per core.
    int shards -> u16 = "shards";
    /// In which order commands of one pipeline run that concern different shards.
    choice pipeline_order -> PipelineOrder = "pipeline-order";
    /// Databases.
    int databases -> u16 = "databases";
    /// Whether to do without huge pages.
    bool disable_thp -> bool = "disable-thp";
    /// Whether to go into the background.
    bool daemonize -> bool = "daemonize";
    /// Who is told when the server is ready.
    choice supervised -> Supervised = "supervised";
    /// File that holds the process id.
    maybe_path pidfile -> Option<&Path> = "pidfile";
    /// Least important messages that are logged.
    choice loglevel -> LogLevel = "loglevel";
    /// File to log to; none for standard output.
    maybe_path logfile -> Option<&Path> = "logfile";
    /// How the log's lines are written.
    choice log_format -> LogFormat = "log-format";
    /// How the log's times are written.
    choice log_timestamp_format -> LogTimestamp = "log-timestamp-format";
    /// Whether a crash by a signal is reported.
    bool crash_log_enabled -> bool = "crash-log-enabled";
    /// Whether the kernel is told how expendable the process is.
    choice oom_score_adj -> OomScoreAdj = "oom-score-adj";
    /// How expendable: as a primary, as a replica, in the background.
    scores oom_score_adj_values -> [i32; 3] = "oom-score-adj-values";
    /// HTTP port of the metrics and the status page; 0 for none.
    int admin_port -> u16 = "admin-port";
    /// Addresses that the HTTP port listens on.
    words admin_bind -> &[String] = "admin-bind";
    /// Whether to greet with a logo even when not on a terminal.
    bool always_show_logo -> bool = "always-show-logo";
    /// Whether to show the address in the process title.
    bool set_proc_title -> bool = "set-proc-title";
    /// What the process title shows.
    text proc_title_template -> &[u8] = "proc-title-template";
    /// Background rounds per second.
    int hz -> u32 = "hz";
    /// How the server ends at SIGINT.
    flags shutdown_on_sigint -> OnSignal = "shutdown-on-sigint";
    /// How the server ends at SIGTERM.
    flags shutdown_on_sigterm -> OnSignal = "shutdown-on-sigterm";
    /// Seconds to wait at shutdown for replicas that lag.
    int shutdown_timeout -> u32 = "shutdown-timeout";

    /// Password of the default user; empty for none.
    text requirepass -> &[u8] = "requirepass";
    /// Who may use DEBUG.
    choice enable_debug_command -> Permission = "enable-debug-command";
    /// Who may set protected options.
    choice enable_protected_configs -> Permission = "enable-protected-configs";

    /// Bytes of data beyond which keys are evicted; 0 for no limit.
    memory maxmemory -> u64 = "maxmemory";
    /// Which keys are evicted.
    choice maxmemory_policy -> MaxmemoryPolicy = "maxmemory-policy";
    /// Keys compared to choose the one to evict.
    int maxmemory_samples -> u32 = "maxmemory-samples";
    /// How slowly the counter of uses grows.
    int lfu_log_factor -> u32 = "lfu-log-factor";
    /// Minutes after which the counter of uses falls by one; 0 for never.
    int lfu_decay_time -> u32 = "lfu-decay-time";
    /// Effort put into finding expired keys, 1 to 10.
    int active_expire_effort -> u32 = "active-expire-effort";
    /// Whether evicted values are freed in the background.
    bool lazyfree_lazy_eviction -> bool = "lazyfree-lazy-eviction";
    /// Whether expired values are freed in the background.
    bool lazyfree_lazy_expire -> bool = "lazyfree-lazy-expire";
    /// Whether overwritten values are freed in the background.
    bool lazyfree_lazy_server_del -> bool = "lazyfree-lazy-server-del";
    /// Whether DEL frees in the background.
    bool lazyfree_lazy_user_del -> bool = "lazyfree-lazy-user-del";
    /// Whether FLUSHALL and FLUSHDB free in the background.
    bool lazyfree_lazy_user_flush -> bool = "lazyfree-lazy-user-flush";

    /// Bytes of the longest single argument.
    memory proto_max_bulk_len -> u64 = "proto-max-bulk-len";
    /// Bytes of unprocessed input one client may have.
    memory client_query_buffer_limit -> u64 = "client-query-buffer-limit";
    /// Unsent output clients may have, by [`ClientClass`].
    limits client_output_buffer_limit -> &[OutputLimit; 3] = "client-output-buffer-limit";
    /// Keys remembered for client-side caches; 0 for no limit.
    int tracking_table_max_keys -> u64 = "tracking-table-max-keys";
    /// Milliseconds after which a running script lets others be told that it runs.
    int busy_reply_threshold -> u64 = "busy-reply-threshold";

    /// Microseconds from which a command is logged as slow; 0 for every one, -1 for none.
    int slowlog_log_slower_than -> i64 = "slowlog-log-slower-than";
    /// Slow commands kept.
    int slowlog_max_len -> u64 = "slowlog-max-len";
    /// Bytes from which a command is logged as large; -1 for none.
    int commandlog_request_larger_than -> i64 = "commandlog-request-larger-than";
    /// Large commands kept.
    int commandlog_large_request_max_len -> u64 = "commandlog-large-request-max-len";
    /// Bytes from which a reply is logged as large; -1 for none.
    int commandlog_reply_larger_than -> i64 = "commandlog-reply-larger-than";
    /// Commands with large replies kept.
    int commandlog_large_reply_max_len -> u64 = "commandlog-large-reply-max-len";
    /// Whether the durations of calls are counted.
    bool latency_tracking -> bool = "latency-tracking";
    /// Percentiles that INFO shows of them, as texts.
    percentiles latency_tracking_info_percentiles -> &[String] =
        "latency-tracking-info-percentiles";
    /// Milliseconds from which a latency event is recorded; 0 for none.
    int latency_monitor_threshold -> u64 = "latency-monitor-threshold";
    /// Keyspace notifications that are published.
    events notify_keyspace_events -> KeyspaceEvents = "notify-keyspace-events";

    /// Fields up to which a hash is packed.
    int hash_max_listpack_entries -> u64 = "hash-max-listpack-entries";
    /// Bytes of a field or value up to which a hash is packed.
    memory hash_max_listpack_value -> u64 = "hash-max-listpack-value";
    /// Size of a list's nodes: elements, or -1 to -5 for 4 to 64 KiB.
    int list_max_listpack_size -> i32 = "list-max-listpack-size";
    /// Members up to which a set of integers is packed.
    int set_max_intset_entries -> u64 = "set-max-intset-entries";
    /// Members up to which a set is packed.
    int set_max_listpack_entries -> u64 = "set-max-listpack-entries";
    /// Bytes of a member up to which a set is packed.
    int set_max_listpack_value -> u64 = "set-max-listpack-value";
    /// Members up to which a sorted set is packed.
    int zset_max_listpack_entries -> u64 = "zset-max-listpack-entries";
    /// Bytes of a member up to which a sorted set is packed.
    memory zset_max_listpack_value -> u64 = "zset-max-listpack-value";
    /// Bytes up to which a HyperLogLog is sparse.
    memory hll_sparse_max_bytes -> u64 = "hll-sparse-max-bytes";
    /// Bytes of a stream's nodes; 0 for no limit.
    memory stream_node_max_bytes -> u64 = "stream-node-max-bytes";
    /// Entries of a stream's nodes; 0 for no limit.
    int stream_node_max_entries -> u64 = "stream-node-max-entries";

    /// Directory of everything that is written; absolute.
    path dir -> &Path = "dir";
    /// Snapshot file, in [`dir`](Self::dir).
    path dbfilename -> &Path = "dbfilename";
    /// When to save.
    save save -> &[SaveRule] = "save";
    /// Whether snapshots are compressed.
    bool rdbcompression -> bool = "rdbcompression";
    /// Whether snapshots carry a checksum.
    bool rdbchecksum -> bool = "rdbchecksum";
    /// Whether a file that was written for replicas is removed again.
    bool rdb_del_sync_files -> bool = "rdb-del-sync-files";
    /// Version of the snapshots that are written.
    choice rdb_version -> RdbVersion = "rdb-version";
    /// Microseconds that loading a key takes at least; negative for so many keys a microsecond.
    int key_load_delay -> i64 = "key-load-delay";
    /// The same of saving.
    int rdb_key_save_delay -> i64 = "rdb-key-save-delay";
    /// Whether writes are refused while snapshots fail.
    bool stop_writes_on_bgsave_error -> bool = "stop-writes-on-bgsave-error";
    /// Whether effects are logged to a file.
    bool appendonly -> bool = "appendonly";
    /// When that file is synced.
    choice appendfsync -> Appendfsync = "appendfsync";

    /// Host and port of the server to follow.
    leader replicaof -> Option<(&str, u16)> = "replicaof";
    /// Password to give to the server that is followed; empty for none.
    text primaryauth -> &[u8] = "primaryauth";
    /// User to give to the server that is followed; empty for the default one.
    text primaryuser -> &[u8] = "primaryuser";
    /// Whether a replica refuses writes of clients.
    bool replica_read_only -> bool = "replica-read-only";
    /// Whether the data of another server is being brought in.
    bool import_mode -> bool = "import-mode";
    /// Bytes of the replication backlog.
    memory repl_backlog_size -> u64 = "repl-backlog-size";
    /// Seconds the backlog is kept without replicas; 0 for ever.
    int repl_backlog_ttl -> u64 = "repl-backlog-ttl";
    /// Seconds of silence after which a replication link is given up.
    int repl_timeout -> u32 = "repl-timeout";
    /// Seconds between pings to replicas.
    int repl_ping_replica_period -> u32 = "repl-ping-replica-period";
    /// Whether a snapshot is sent to replicas without a file between.
    bool repl_diskless_sync -> bool = "repl-diskless-sync";
    /// Seconds that it waits for more replicas to share it.
    int repl_diskless_sync_delay -> u32 = "repl-diskless-sync-delay";
    /// Replicas with which it waits no longer; 0 for any number.
    int repl_diskless_sync_max_replicas -> u32 = "repl-diskless-sync-max-replicas";
    /// Whether replicas are sent fewer and larger packets.
    bool repl_disable_tcp_nodelay -> bool = "repl-disable-tcp-nodelay";
    /// When a replica loads what it receives without a file between.
    choice repl_diskless_load -> DisklessLoad = "repl-diskless-load";
    /// Whether data is served while the link to the primary is down.
    bool replica_serve_stale_data -> bool = "replica-serve-stale-data";
    /// Whether a replica leaves it to its primary to keep to `maxmemory`.
    bool replica_ignore_maxmemory -> bool = "replica-ignore-maxmemory";
    /// Whether Sentinel is shown this replica.
    bool replica_announced -> bool = "replica-announced";
    /// Address to give to the server that is followed; empty for none.
    text replica_announce_ip -> &[u8] = "replica-announce-ip";
    /// Port to give to the server that is followed; 0 for the one that is listened on.
    int replica_announce_port -> u16 = "replica-announce-port";
    /// Which replica Sentinel lets lead.
    int replica_priority -> u32 = "replica-priority";
    /// Replicas without which writes are refused.
    int min_replicas_to_write -> u32 = "min-replicas-to-write";
    /// Seconds after whose last word a replica is none of these; 0 for no minimum.
    int min_replicas_max_lag -> u32 = "min-replicas-max-lag";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(config: &Config, patterns: &[&str]) -> Vec<(String, String)> {
        let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let found = config.get(&patterns).into_iter();
        found.map(|(name, value)| (text(name), text(value))).collect()
    }

    fn set(config: &Config, pairs: &[(&str, &str)]) -> Result<(Config, Vec<&'static str>), String> {
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        config.set(&pairs, false).map_err(|error| error.to_string())
    }

    #[test]
    fn every_default_reads_and_comes_back_as_it_was_written() {
        let config = Config::default();
        for (at, option) in TABLE.iter().enumerate() {
            let text = option.kind.write(&config.values[at]);
            let words: Vec<Vec<u8>> = if option.kind.takes_many() {
                text.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect()
            } else {
                vec![text.clone()]
            };
            let value = option.kind.read(&words, &config.values[at], false);
            assert_eq!(value.as_ref(), Ok(&config.values[at]), "{}", option.name);
        }
        assert_eq!(config.inert(), Vec::<&str>::new());
    }

    #[test]
    fn defaults_through_the_accessors() {
        let config = Config::default();
        assert_eq!(config.port(), 6379);
        assert_eq!(config.bind(), ["*", "-::*"]);
        assert_eq!(config.unixsocket(), None);
        assert_eq!(config.maxmemory_policy(), MaxmemoryPolicy::Noeviction);
        assert_eq!(config.maxmemory_policy().word(), "noeviction");
        assert_eq!(config.save().len(), 3);
        assert_eq!(config.dbfilename(), Path::new("dump.rdb"));
        assert!(config.dir().is_absolute());
        assert_eq!(config.replicaof(), None);
        let pubsub = config.output_limit(ClientClass::Pubsub);
        assert_eq!(
            (pubsub.hard_bytes, pubsub.soft_bytes, pubsub.soft_seconds),
            (32 << 20, 8 << 20, 60)
        );
        assert_eq!(config.loglevel(), LogLevel::Notice);
        assert_eq!(config.supervised(), Supervised::No);
        assert_eq!(config.appendfsync(), Appendfsync::Everysec);
    }

    #[test]
    fn getting() {
        let config = Config::default();
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        assert_eq!(get(&config, &["PORT", "port", "p?rt", "nope"]), [pair("PORT", "6379")]);
        assert_eq!(
            get(&config, &["client-output-buffer-limi[t]"]),
            [pair(
                "client-output-buffer-limit",
                "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
            )]
        );
        assert_eq!(
            get(&config, &["*-priority"]),
            [pair("replica-priority", "100"), pair("slave-priority", "100")]
        );
        assert_eq!(get(&config, &["watchdog*"]), []);
        assert_eq!(get(&config, &["watchdog-period"]), [pair("watchdog-period", "0")]);
    }

    #[test]
    fn setting_changes_a_copy_and_says_what_differs() {
        let config = Config::default();
        let pairs = [("maxmemory", "4gb"), ("Timeout", "0"), ("acllog-max-len", "7")];
        let (changed, names) = set(&config, &pairs).unwrap();
        assert_eq!(names, ["acllog-max-len", "maxmemory"]);
        assert_eq!((config.maxmemory(), changed.maxmemory()), (0, 4 << 30));
        assert_eq!(changed.inert(), ["acllog-max-len"]);

        let (changed, _) = set(&changed, &[("save", ""), ("hz", "9999")]).unwrap();
        assert_eq!((changed.save(), changed.hz()), (&[][..], 500));
        let (changed, _) = set(&changed, &[("save", "20 3 1 1")]).unwrap();
        assert_eq!(changed.save()[1], SaveRule { seconds: 1, changes: 1 });
        let (changed, _) =
            set(&changed, &[("client-output-buffer-limit", "replica 1mb 0 0")]).unwrap();
        assert_eq!(changed.output_limit(ClientClass::Replica).hard_bytes, 1 << 20);
        assert_eq!(changed.output_limit(ClientClass::Pubsub).hard_bytes, 32 << 20);
    }

    // As a real server words them.
    #[test]
    fn refusals() {
        let related = |name: &str, reason: &str| {
            format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
        };
        let unknown = "ERR Unknown option or number of arguments for CONFIG SET - 'nope'";
        let cases: [(&[(&str, &str)], String); 9] = [
            (&[("nope", "1")], unknown.into()),
            (&[("timeout", "1"), ("nope", "1"), ("port", "1")], unknown.into()),
            (&[("DAEMONIZE", "x")], related("DAEMONIZE", "can't set immutable config")),
            (&[("dbfilename", "x")], related("dbfilename", "can't set protected config")),
            (&[("timeout", "1"), ("TIMEOUT", "2")], related("TIMEOUT", "duplicate parameter")),
            (
                &[("hz", "20"), ("Slave-Priority", "x")],
                related("slave-priority", "argument couldn't be parsed into an integer"),
            ),
            (
                &[("maxclients", "0")],
                related("maxclients", "argument must be between 1 and 4294967295 inclusive"),
            ),
            (
                &[("client-query-buffer-limit", "0")],
                related(
                    "client-query-buffer-limit",
                    "argument must be between 1048576 and 9223372036854775807 inclusive",
                ),
            ),
            (&[("maxmemory", "x")], related("maxmemory", "argument must be a memory value")),
        ];
        for (pairs, expected) in cases {
            assert_eq!(set(&Config::default(), pairs).unwrap_err(), expected);
        }
        assert!(
            set(&Config::default(), &[("slave-priority", "1"), ("replica-priority", "2")]).is_ok()
        );
    }

    #[test]
    fn secrets() {
        assert!(is_secret(b"RequirePass") && is_secret(b"masterauth"));
        assert!(!is_secret(b"port") && !is_secret(b"nope"));
    }

    #[test]
    fn fixed_while_loading() {
        let fixed: [&[u8]; 3] = [b"Dir", b"appendonly", b"repl-diskless-load"];
        assert!(fixed.into_iter().all(is_fixed_while_loading));
        assert!(!is_fixed_while_loading(b"dbfilename") && !is_fixed_while_loading(b"nope"));
    }
}

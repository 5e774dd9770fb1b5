//! Every option, declared once. Flags of the start line, directives of configuration files, CONFIG
//! GET, CONFIG SET, `--help`, shell completions and the typed accessors all read this table.
//!
//! It knows every directive of redis.conf as of Redis 7.0 and of Valkey 9.1, with their kinds,
//! bounds and defaults (Valkey's, where the two differ), so that the file of an existing server can
//! be taken over as it is. Those that have nothing to act on here are `inert`: checked, stored,
//! reported, and named in a notice at start-up if someone set them. Whoever makes an option act
//! takes the marker away.

use super::typed::{
    Appendfsync, DisklessLoad, LogFormat, LogLevel, LogTimestamp, MaxmemoryPolicy, OnSignal,
    OomScoreAdj, Permission, PipelineOrder, RdbVersion, Supervised,
};
use super::value::Kind::{self, *};
use super::value::check;
use crate::base::limits;

/// Bytes of a name that is compared with the ones there are.
const NAME_BYTES_MAX: usize = 64;

/// One option.
pub struct Opt {
    /// Its name, in lowercase.
    pub name: &'static str,
    /// Older names it answers to as well.
    pub aliases: &'static [&'static str],
    /// What it takes.
    pub kind: Kind,
    /// Its default, as it would be written in a file.
    pub default: &'static str,
    /// Whether and for whom CONFIG SET changes it.
    pub change: Change,
    /// It is stored and reported, but nothing acts on it.
    pub inert: bool,
    /// CONFIG GET shows it by its name only, not by a pattern.
    pub hidden: bool,
    /// Its value must not show up in logs.
    pub secret: bool,
    /// CONFIG SET does not change it while data is being loaded.
    pub fixed_while_loading: bool,
    /// One line for `--help`; empty leaves it out.
    pub help: &'static str,
    /// What it is about: its heading in `--help`.
    pub section: &'static str,
}

/// Whether CONFIG SET may change an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At any time.
    Live,
    /// Never: it is read once at the start.
    Start,
    /// If `enable-protected-configs` lets the client.
    Protected,
}

impl Opt {
    const fn new(
        name: &'static str,
        aliases: &'static [&'static str],
        kind: Kind,
        default: &'static str,
        help: &'static str,
        section: &'static str,
    ) -> Opt {
        let change = Change::Live;
        Opt {
            name,
            aliases,
            kind,
            default,
            change,
            inert: false,
            hidden: false,
            secret: false,
            fixed_while_loading: false,
            help,
            section,
        }
    }

    // One method for each marker of the table.
    const fn live(mut self) -> Opt {
        self.change = Change::Live;
        self
    }
    const fn start(mut self) -> Opt {
        self.change = Change::Start;
        self
    }
    const fn protected(mut self) -> Opt {
        self.change = Change::Protected;
        self
    }
    const fn inert(mut self) -> Opt {
        self.inert = true;
        self
    }
    const fn hidden(mut self) -> Opt {
        self.hidden = true;
        self
    }
    const fn secret(mut self) -> Opt {
        self.secret = true;
        self
    }
    const fn fixed_while_loading(mut self) -> Opt {
        self.fixed_while_loading = true;
        self
    }

    /// The name or alias that `name` spells, in any case.
    pub fn answers_to(&self, name: &[u8]) -> Option<&'static str> {
        self.names().find(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    }

    /// The name, then the aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// The option that `name` names, in any case, by its place in [`TABLE`], and the name it matched.
pub fn find(name: &[u8]) -> Option<(usize, &'static str)> {
    let mut options = TABLE.iter().enumerate();
    options.find_map(|(at, option)| option.answers_to(name).map(|known| (at, known)))
}

/// The directive that a misspelled name was probably meant to be, or which of the other names that
/// are known.
pub fn similar(name: &str, others: &[&'static str]) -> Option<&'static str> {
    // Whatever is longer was not meant to be any of them.
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    // As many slips as a name of this length is likely to have; more would be guessing.
    let most = (name.len() / 4).clamp(1, 3);
    let names = TABLE.iter().filter(|option| !option.hidden).flat_map(Opt::names);
    let near =
        names.chain(others.iter().copied()).map(|known| (strsim::osa_distance(name, known), known));
    near.filter(|(slips, _)| *slips <= most).min().map(|(_, known)| known)
}

/// The place of an option in [`TABLE`], for accessors: a name that isn't there does not compile.
pub(super) const fn index_of(name: &str) -> usize {
    let mut at = 0;
    while at < TABLE.len() {
        if same(TABLE[at].name, name) {
            return at;
        }
        at += 1;
    }
    panic!("no such option")
}

/// Equality of strings where `==` isn't const yet.
pub(super) const fn same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// `section heading;` and below it `name [aliases], kind, default, markers: help;`
macro_rules! options {
    ($(section $section:literal; $($name:literal $([$($alias:literal),*])?, $kind:expr, $default:expr, $($marker:ident)+ $(: $help:literal)?;)*)*) => {
        &[$($(Opt::new(
            $name,
            &[$($($alias),*)?],
            $kind,
            $default,
            concat!($($help)?),
            $section,
        )$(.$marker())+,)*)*]
    };
}

const INT: i64 = i32::MAX as i64;
const UINT: i64 = u32::MAX as i64;
const LONG: i64 = i64::MAX;
const BYTES: u64 = i64::MAX as u64;
const PORT: Kind = Int(0, 65535);
const MIB: u64 = 1 << 20;
const ON_SIGNAL: Kind = Flags(OnSignal::WORDS);

/// Every option, by subject. Places in it stand for options within a process, never outside it.
pub const TABLE: &[Opt] = options! {
    section "Network";
    "port", PORT, "6379", live: "TCP port; 0 listens on none";
    "bind", Addresses, "* -::*", live: "addresses to listen on; one that starts with - may be missing";
    "unixsocket", Text, "", start: "path of a Unix socket to listen on as well";
    "unixsocketperm", Octal(0o777), "0", start: "permissions of the Unix socket; 0 leaves them to the umask";
    "unixsocketgroup", Text, "", start inert;
    "tcp-backlog", Int(0, INT), "511", start: "connections the kernel queues until they are accepted";
    "tcp-keepalive", Int(0, INT), "300", live: "seconds between keepalive probes; 0 for none";
    "timeout", Int(0, INT), "0", live: "seconds after which an idle client is closed; 0 for never";
    "maxclients", Int(1, UINT), "10000", live: "most clients at a time";
    "protected-mode", Bool, "yes", live: "turn remote clients away while there is no password and no bind";
    "bind-source-addr", Text, "", live: "address that connections to other servers come from";
    "socket-mark-id", Int(0, UINT), "0", start inert;
    "mptcp", Bool, "no", start inert;
    "max-new-connections-per-cycle", Int(1, 1000), "10", live inert;
    "max-new-tls-connections-per-cycle", Int(1, 1000), "1", live inert;

    section "Process";
    "shards", Int(0, limits::SHARDS_MAX as i64), "0", start: "shards, each on a core of its own; 0 for one per core";
    "pipeline-order", Choice(PipelineOrder::WORDS), "causal", live: "order of one pipeline's commands on different shards: causal, or strict, one after the other";
    "databases", Int(1, limits::DATABASES_MAX as i64), "16", start: "databases that SELECT can choose from";
    "daemonize", Bool, "no", start: "go into the background";
    "supervised", Choice(Supervised::WORDS), "no", start: "who is told when the server is ready";
    "pidfile", Text, "", start: "file that holds the process id while the server runs";
    "loglevel", Choice(LogLevel::WORDS), "notice", live: "least important messages that are logged";
    "logfile", Text, "", start: "file to log to; empty for standard output";
    "admin-port", PORT, "0", start: "HTTP port for /metrics, /health and a status page; 0 for none";
    "admin-bind", Addresses, "127.0.0.1", start: "addresses that the HTTP port listens on";
    "always-show-logo", Bool, "no", start: "greet with a logo even when not on a terminal";
    "set-proc-title", Bool, "yes", start: "show the address in the process title";
    "proc-title-template", Checked(check::title), "{title} {listen-addr} {server-mode}", live: "what the process title shows";
    "hz", Clamped(1, 500), "10", live: "background rounds per second";
    "dynamic-hz", Bool, "yes", live inert;
    "syslog-enabled", Bool, "no", start inert;
    "syslog-ident", Text, "redshard", start inert;
    "syslog-facility", Choice(&["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]), "local0", start inert;
    "log-format", Choice(LogFormat::WORDS), "legacy", live: "how the log's lines are written";
    "log-timestamp-format", Choice(LogTimestamp::WORDS), "legacy", live: "how the log's times are written";
    "hide-user-data-from-log", Bool, "yes", live inert;
    "crash-log-enabled", Bool, "yes", live: "report a crash by a signal before the process ends";
    "crash-memcheck-enabled", Bool, "yes", live inert;
    "ignore-warnings", Text, "", live inert;
    "disable-thp", Bool, "yes", start: "do without huge pages: slower lookups, steadier growth";
    "oom-score-adj", Choice(OomScoreAdj::WORDS), "no", live: "tell the kernel how expendable the process is";
    "oom-score-adj-values", OomScores, "0 200 800", live: "how expendable: as a primary, as a replica, and in the background";
    "shutdown-timeout", Int(0, INT), "10", live: "seconds that the end of the server gives replicas to catch up";
    "shutdown-on-sigint", ON_SIGNAL, "default", live: "how SIGINT ends the server";
    "shutdown-on-sigterm", ON_SIGNAL, "default", live: "how SIGTERM ends the server";
    "availability-zone", Text, "", live inert;
    "locale-collate", Text, "", live inert;
    "io-threads", Int(1, 256), "1", live inert;
    "io-threads-do-reads", Bool, "no", start inert;
    "prefetch-batch-max-size", Int(0, 128), "16", live inert;
    "server-cpulist" ["server_cpulist"], Text, "", start inert;
    "bio-cpulist" ["bio_cpulist"], Text, "", start inert;
    "aof-rewrite-cpulist" ["aof_rewrite_cpulist"], Text, "", start inert;
    "bgsave-cpulist" ["bgsave_cpulist"], Text, "", start inert;
    "jemalloc-bg-thread", Bool, "yes", live inert;

    // Who may do what.
    section "Access";
    "requirepass", Text, "", live secret: "password of the default user";
    "enable-debug-command", Choice(Permission::WORDS), "no", start: "who may use DEBUG";
    "enable-module-command", Choice(Permission::WORDS), "no", start inert;
    "enable-protected-configs", Choice(Permission::WORDS), "no", start: "who may CONFIG SET protected options";
    "aclfile", Text, "", start inert;
    "acl-pubsub-default", Choice(&["allchannels", "resetchannels"]), "resetchannels", live inert;
    "acllog-max-len", Int(0, LONG), "128", live inert;

    section "Memory";
    "maxmemory", Memory(0, u64::MAX), "0", live: "bytes of data beyond which keys are evicted; 0 for no limit";
    "maxmemory-policy", Choice(MaxmemoryPolicy::WORDS), "noeviction", live: "which keys are evicted";
    "maxmemory-samples", Int(1, INT), "5", live: "keys compared to choose the one to evict";
    "maxmemory-eviction-tenacity", Int(0, 100), "10", live inert;
    "maxmemory-clients", MemoryOrPercent, "0", live: "bytes that all clients may use, or a share of maxmemory; 0 for no limit";
    "lfu-log-factor", Int(0, INT), "10", live: "how slowly the counter of uses grows";
    "lfu-decay-time", Int(0, INT), "1", live: "minutes after which the counter of uses falls by one";
    "active-expire-effort", Int(1, 10), "1", live: "effort put into finding expired keys";
    "lazyfree-lazy-eviction", Bool, "yes", live: "free evicted values in the background";
    "lazyfree-lazy-expire", Bool, "yes", live: "free expired values in the background";
    "lazyfree-lazy-server-del", Bool, "yes", live: "free overwritten values in the background";
    "lazyfree-lazy-user-del", Bool, "yes", live: "make DEL free in the background, like UNLINK";
    "lazyfree-lazy-user-flush", Bool, "yes", live: "make FLUSHALL free in the background unless told SYNC";
    "activerehashing", Bool, "yes", live inert;
    "activedefrag", Bool, "no", live inert;
    "active-defrag-cycle-max", Int(1, 99), "25", live inert;
    "active-defrag-cycle-min", Int(1, 99), "1", live inert;
    "active-defrag-cycle-us", Int(0, 100_000), "500", live inert;
    "active-defrag-ignore-bytes", Memory(1, BYTES), "100mb", live inert;
    "active-defrag-max-scan-fields", Int(1, LONG), "1000", live inert;
    "active-defrag-threshold-lower", Int(0, 1000), "10", live inert;
    "active-defrag-threshold-upper", Int(0, 1000), "100", live inert;
    "hash-seed", Text, "", start inert secret;

    section "Limits of clients";
    "proto-max-bulk-len", Memory(MIB, BYTES), "512mb", live: "longest single argument";
    "client-query-buffer-limit", Memory(MIB, BYTES), "1gb", live: "most unprocessed input of one client";
    "client-output-buffer-limit", OutputLimits, "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60", live: "most unsent output, by class of client";
    "tracking-table-max-keys", Int(0, LONG), "1000000", live inert;
    "busy-reply-threshold" ["lua-time-limit"], Int(0, LONG), "5000", live inert;

    section "Observation";
    "slowlog-log-slower-than" ["commandlog-execution-slower-than"], Int(-1, LONG), "10000", live: "microseconds from which a command is logged as slow; -1 for never";
    "slowlog-max-len" ["commandlog-slow-execution-max-len"], Int(0, LONG), "128", live: "slow commands kept";
    "commandlog-large-reply-max-len", Int(0, LONG), "128", live: "commands with large replies kept";
    "commandlog-large-request-max-len", Int(0, LONG), "128", live: "large commands kept";
    "commandlog-reply-larger-than", Int(-1, LONG), "1048576", live: "bytes from which a reply is logged as large; -1 for never";
    "commandlog-request-larger-than", Int(-1, LONG), "1048576", live: "bytes from which a command is logged as large; -1 for never";
    "latency-monitor-threshold", Int(0, LONG), "0", live: "milliseconds from which an event is recorded; 0 for none";
    "latency-tracking", Bool, "yes", live: "count how long the calls of each command take";
    "latency-tracking-info-percentiles", Percentiles, "50 99 99.9", live: "percentiles that INFO latencystats shows";
    "notify-keyspace-events", Events, "", live: "classes of keyspace notifications that are published";

    // When a small value is packed, and when not any more.
    section "Encodings";
    "hash-max-listpack-entries" ["hash-max-ziplist-entries"], Int(0, LONG), "512", live;
    "hash-max-listpack-value" ["hash-max-ziplist-value"], Memory(0, BYTES), "64", live;
    "list-max-listpack-size" ["list-max-ziplist-size"], Int(-INT - 1, INT), "-2", live;
    "list-compress-depth", Int(0, INT), "0", live inert;
    "set-max-intset-entries", Int(0, LONG), "512", live;
    "set-max-listpack-entries", Int(0, LONG), "128", live;
    "set-max-listpack-value", Int(0, LONG), "64", live;
    "zset-max-listpack-entries" ["zset-max-ziplist-entries"], Int(0, LONG), "128", live;
    "zset-max-listpack-value" ["zset-max-ziplist-value"], Memory(0, BYTES), "64", live;
    "hll-sparse-max-bytes", Memory(0, BYTES), "3000", live;
    "stream-node-max-bytes", Memory(0, BYTES), "4kb", live;
    "stream-node-max-entries", Int(0, LONG), "100", live;

    section "Snapshots";
    "dir", Directory, ".", protected fixed_while_loading: "directory of everything that is written";
    "dbfilename" ["filename"], FileName("dbfilename can't be a path, just a filename"), "dump.rdb", protected: "snapshot file";
    "save", SaveRules, "3600 1 300 100 60 10000", live: "save after so many seconds if so many changes were made";
    "rdbcompression", Bool, "yes", live: "compress strings in snapshots";
    "rdbchecksum", Bool, "yes", start: "write a checksum into snapshots, and check it when they are loaded";
    "rdb-version", Choice(RdbVersion::WORDS), "10", live: "version of the snapshots that are written; all known ones are read";
    "stop-writes-on-bgsave-error", Bool, "yes", live: "refuse writes after a snapshot has failed, until one succeeds";
    "rdb-del-sync-files", Bool, "no", live: "remove the snapshots that were written for replicas, where nothing else is saved";
    "rdb-save-incremental-fsync", Bool, "yes", live inert;
    "rdb-version-check", Choice(&["strict", "relaxed"]), "strict", live inert;
    "sanitize-dump-payload", Choice(&["no", "yes", "clients"]), "no", live: "check what is restored and loaded in depth; here it always is";

    section "Append-only file";
    "appendonly", Bool, "no", live inert fixed_while_loading;
    "appendfilename", FileName("appendfilename can't be a path, just a filename"), "appendonly.aof", start inert;
    "appenddirname", FileName("appenddirname can't be a path, just a dirname"), "appendonlydir", start inert;
    "appendfsync", Choice(Appendfsync::WORDS), "everysec", live inert;
    "no-appendfsync-on-rewrite", Bool, "no", live inert;
    "auto-aof-rewrite-min-size", Memory(0, BYTES), "64mb", live inert;
    "auto-aof-rewrite-percentage", Int(0, INT), "100", live inert;
    "aof-load-truncated", Bool, "yes", live inert;
    "aof-rewrite-incremental-fsync", Bool, "yes", live inert;
    "aof-timestamp-enabled", Bool, "no", live inert;
    "aof-use-rdb-preamble", Bool, "yes", live inert;

    section "Replication";
    "replicaof" ["slaveof"], Leader, "", start: "host and port of the server to follow";
    "primaryauth" ["masterauth"], Text, "", live secret: "password to give to the server that is followed";
    "primaryuser" ["masteruser"], Text, "", live secret: "user to give to the server that is followed";
    "replica-announce-ip" ["slave-announce-ip"], Text, "", live: "address to give to the server that is followed";
    "replica-announce-port" ["slave-announce-port"], PORT, "0", live: "port to give to the server that is followed; 0 for the one that is listened on";
    "replica-announced", Bool, "yes", live: "show Sentinel this replica";
    "replica-ignore-disk-write-errors", Bool, "no", live inert;
    "replica-ignore-maxmemory" ["slave-ignore-maxmemory"], Bool, "yes", live: "leave it to the primary to keep to maxmemory";
    "replica-lazy-flush" ["slave-lazy-flush"], Bool, "yes", live inert;
    "replica-priority" ["slave-priority"], Int(0, INT), "100", live: "which replica Sentinel lets lead: the one with the least; 0 for never";
    "replica-read-only" ["slave-read-only"], Bool, "yes", live: "refuse clients' writes while another server is followed";
    "replica-serve-stale-data" ["slave-serve-stale-data"], Bool, "yes", live: "serve data while the link to the primary is down";
    "min-replicas-max-lag" ["min-slaves-max-lag"], Int(0, INT), "10", live: "seconds after whose last word a replica counts no more for min-replicas-to-write; 0 for no minimum";
    "min-replicas-to-write" ["min-slaves-to-write"], Int(0, INT), "0", live: "refuse writes while fewer replicas follow";
    "repl-backlog-size", Memory(1, BYTES), "10mb", live: "bytes of the stream that are kept for replicas that come back";
    "repl-backlog-ttl", Int(0, LONG), "3600", live: "seconds that they are kept without any replica; 0 for ever";
    "repl-disable-tcp-nodelay", Bool, "no", live: "send replicas fewer and larger packets, later";
    "repl-diskless-load", Choice(DisklessLoad::WORDS), "disabled", live fixed_while_loading: "when a replica loads what it receives without a file between";
    "repl-diskless-sync", Bool, "yes", live: "send a snapshot to replicas without a file between";
    "repl-diskless-sync-delay", Int(0, INT), "5", live: "seconds that it waits for more replicas to share it";
    "repl-diskless-sync-max-replicas", Int(0, INT), "0", live: "replicas with which it waits no longer; 0 for any number";
    "repl-mptcp", Bool, "no", start inert;
    "repl-ping-replica-period" ["repl-ping-slave-period"], Int(1, INT), "10", live: "seconds between pings to replicas";
    "repl-timeout", Int(1, INT), "60", live: "seconds of silence after which a replication link is given up";
    "dual-channel-replication-enabled", Bool, "no", live inert;
    "propagation-error-behavior", Choice(&["ignore", "panic", "panic-on-replicas"]), "ignore", live inert;
    "import-mode", Bool, "no", live inert;
    "extended-redis-compatibility", Bool, "no", live inert;

    section "Cluster";
    "cluster-enabled", Bool, "no", start inert;
    "cluster-config-file", Text, "nodes.conf", start inert;
    "cluster-config-save-behavior", Choice(&["sync", "best-effort"]), "sync", live inert;
    "cluster-databases", Int(1, INT), "1", start inert;
    "cluster-port", PORT, "0", start inert;
    "cluster-node-timeout", Int(0, LONG), "15000", live inert;
    "cluster-allow-pubsubshard-when-down", Bool, "yes", live inert;
    "cluster-allow-reads-when-down", Bool, "no", live inert;
    "cluster-allow-replica-migration", Bool, "yes", live inert;
    "cluster-announce-bus-port", PORT, "0", live inert;
    "cluster-announce-client-ipv4", Checked(check::ipv4), "", live inert;
    "cluster-announce-client-ipv6", Checked(check::ipv6), "", live inert;
    "cluster-announce-client-port", PORT, "0", live inert;
    "cluster-announce-client-tls-port", PORT, "0", live inert;
    "cluster-announce-hostname", Checked(check::hostname), "", live inert;
    "cluster-announce-human-nodename", Checked(check::node_name), "", live inert;
    "cluster-announce-ip", Checked(check::announced_ip), "", live inert;
    "cluster-announce-port", PORT, "0", live inert;
    "cluster-announce-tls-port", PORT, "0", live inert;
    "cluster-blacklist-ttl", Int(0, LONG), "60", live inert;
    "cluster-link-sendbuf-limit", Memory(0, u64::MAX), "0", live inert;
    "cluster-manual-failover-timeout", Int(1, INT), "5000", live inert;
    "cluster-migration-barrier", Int(0, INT), "1", live inert;
    "cluster-preferred-endpoint-type", Choice(&["ip", "hostname", "unknown-endpoint"]), "ip", live inert;
    "cluster-replica-no-failover" ["cluster-slave-no-failover"], Bool, "no", live inert;
    "cluster-replica-validity-factor" ["cluster-slave-validity-factor"], Int(0, INT), "10", live inert;
    "cluster-require-full-coverage", Bool, "yes", live inert;
    "cluster-slot-migration-log-max-len", Int(0, LONG), "1000", live inert;
    "cluster-slot-stats-enabled", Bool, "no", live inert;
    "slot-migration-max-failover-repl-bytes", MemoryOrNone, "0", live inert;

    section "TLS and RDMA";
    "tls-port", PORT, "0", start inert;
    "tls-auth-clients", Choice(&["no", "yes", "optional"]), "yes", live inert;
    "tls-auth-clients-user", Choice(&["CN", "URI", "off"]), "off", live inert;
    "tls-auto-reload-interval", Int(0, INT), "0", live inert;
    "tls-ca-cert-dir", Text, "", live inert;
    "tls-ca-cert-file", Text, "", live inert;
    "tls-cert-file", Text, "", live inert;
    "tls-ciphers", Text, "", live inert;
    "tls-ciphersuites", Text, "", live inert;
    "tls-client-cert-file", Text, "", live inert;
    "tls-client-key-file", Text, "", live inert;
    "tls-client-key-file-pass", Text, "", live inert secret;
    "tls-cluster", Bool, "no", live inert;
    "tls-dh-params-file", Text, "", live inert;
    "tls-key-file", Text, "", live inert;
    "tls-key-file-pass", Text, "", live inert secret;
    "tls-prefer-server-ciphers", Bool, "no", live inert;
    "tls-protocols", Text, "", live inert;
    "tls-replication", Bool, "no", live inert;
    "tls-session-cache-size", Int(0, INT), "20480", live inert;
    "tls-session-cache-timeout", Int(0, INT), "300", live inert;
    "tls-session-caching", Bool, "yes", live inert;
    "rdma-bind", Text, "", start inert;
    "rdma-port", PORT, "0", start inert;
    "rdma-completion-vector", Int(-1, 1024), "-1", start inert;
    "rdma-rx-size", Int(65536, 16_777_216), "1048576", start inert;

    // What only test suites set.
    section "Tests";
    "aof-disable-auto-gc", Bool, "no", live inert hidden;
    "client-default-resp", Int(2, 3), "2", start inert hidden;
    "cluster-ping-interval", Int(0, LONG), "0", live inert hidden;
    "debug-context", Text, "", live inert hidden;
    "enable-debug-assert", Bool, "no", start inert hidden;
    "io-threads-always-active", Bool, "no", live inert hidden;
    "key-load-delay", Int(-INT - 1, INT), "0", live hidden;
    "loading-process-events-interval-bytes", Int(1024, INT), "2097152", live inert hidden;
    "lua-enable-insecure-api", Bool, "no", protected inert hidden;
    "min-io-threads-avoid-copy-reply", Int(0, INT), "7", live inert hidden;
    "min-string-size-avoid-copy-reply", Int(0, INT), "16384", live inert hidden;
    "min-string-size-avoid-copy-reply-threaded", Int(0, INT), "65536", live inert hidden;
    "rdb-key-save-delay", Int(-INT - 1, INT), "0", live hidden;
    "use-exit-on-panic", Bool, "no", live inert hidden;
    "watchdog-period", Int(0, INT), "0", live inert hidden;
};

/// Directives of older versions that still stand in files, and never did anything since: taken with
/// one argument, and ignored as Redis and Valkey ignore them.
pub const OBSOLETE: &[&str] =
    &["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_lowercase_and_unique() {
        let mut seen = HashSet::new();
        for name in TABLE.iter().flat_map(|option| option.names()) {
            assert_eq!(name, name.to_ascii_lowercase());
            assert!(seen.insert(name), "{name} stands twice");
        }
    }

    #[test]
    fn help_says_what_acts_and_nothing_else() {
        for option in TABLE {
            assert!(!option.inert || option.help.is_empty(), "{}", option.name);
        }
    }

    #[test]
    fn options_are_found_by_every_name_in_any_case() {
        let (at, name) = find(b"Slave-Priority").unwrap();
        assert_eq!((TABLE[at].name, name), ("replica-priority", "slave-priority"));
        assert_eq!(find(b"no-such-option"), None);
        assert_eq!(TABLE[index_of("hz")].name, "hz");
    }

    #[test]
    fn slips_are_seen_through() {
        assert_eq!(similar("maxmemroy", &[]), Some("maxmemory"));
        assert_eq!(similar("prot", &[]), Some("port"));
        assert_eq!(similar("replica-read-olny", &[]), Some("replica-read-only"));
        assert_eq!(similar("bogus", &[]), None);
        assert_eq!(similar("something-else", &[]), None);
        assert_eq!(
            (similar("verison", &[]), similar("verison", &["version"])),
            (None, Some("version"))
        );
    }
}

//! INFO: what the server says about itself. Every number is read from counters that the shards
//! publish, so asking stops nobody.

pub mod field;
mod memory;
mod persistence;
mod replication;
mod server;
mod stats;

use super::{Command, Effect, Family, Outcome, Run, flag, tip};
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};
use field::Field;
use std::fmt::Write as _;

/// The version of Redis whose clients and tools find here what they expect there. What this server
/// is itself stands in `server_name` and `redshard_version`.
pub const COMPATIBLE_VERSION: &str = "7.2.4";

/// INFO alone.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[Command::new("INFO", Run::Session(info))
        .usage("[section...]")
        .with(flag::LOADING | flag::STALE | flag::DANGEROUS)
        .tips(tip::PER_SHARD)
        .summary("What the server says about itself.")],
};

/// A section: its name, its heading, when INFO shows it, and what gathers its fields.
struct Section(&'static str, &'static str, Shown, fn(&Env, &mut Vec<Field>));

/// When a section is shown besides by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Unasked.
    Unasked,
    /// With all.
    WithAll,
    /// Never.
    ByName,
}

use Shown::{ByName, Unasked, WithAll};

/// All sections, in the order they are shown.
const SECTIONS: &[Section] = &[
    Section("server", "Server", Unasked, server::server),
    Section("clients", "Clients", Unasked, server::clients),
    Section("memory", "Memory", Unasked, memory::memory),
    Section("persistence", "Persistence", Unasked, persistence::persistence),
    Section("stats", "Stats", Unasked, stats::stats),
    Section("shards", "Shards", Unasked, stats::shards),
    Section("replication", "Replication", Unasked, replication::replication),
    Section("cpu", "CPU", Unasked, server::cpu),
    Section("modules", "Modules", Unasked, |_, _| {}),
    Section("commandstats", "Commandstats", WithAll, stats::commandstats),
    Section("errorstats", "Errorstats", Unasked, stats::errorstats),
    Section("latencystats", "Latencystats", WithAll, stats::latencystats),
    Section("cluster", "Cluster", Unasked, server::cluster),
    Section("keyspace", "Keyspace", Unasked, stats::keyspace),
    Section("debug", "Debug", ByName, stats::debug),
];

/// INFO.
fn info(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let asked = |section: &Section| {
        let mut words = args.iter().map(<[u8]>::to_ascii_lowercase);
        (args.is_empty() && section.2 == Unasked)
            || words.any(|word| match word.as_slice() {
                b"default" => section.2 == Unasked,
                b"all" | b"everything" => section.2 != ByName,
                name => name == section.0.as_bytes(),
            })
    };
    reply.verbatim("txt", &text(env, asked));
    Ok(Effect::Read)
}

/// All fields of all sections, for those who read them without being a client.
pub fn fields(env: &Env) -> Vec<Field> {
    let mut fields = Vec::new();
    SECTIONS.iter().for_each(|section| section.3(env, &mut fields));
    fields
}

fn text(env: &Env, asked: impl Fn(&Section) -> bool) -> String {
    let (mut out, mut fields) = (String::new(), Vec::new());
    for section in SECTIONS.iter().filter(|section| asked(section)) {
        if !out.is_empty() {
            out.push_str("\r\n");
        }
        // Writing to a `String` does not fail.
        let _ = write!(out, "# {}\r\n", section.1);
        section.3(env, &mut fields);
        for field in fields.drain(..) {
            let _ = write!(out, "{field}\r\n");
        }
    }
    out
}

/// Bytes with a unit, as Redis shows them.
fn human(bytes: u64) -> String {
    const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog2() as usize / 10).min(UNITS.len());
    let value = bytes as f64 / (1u64 << (10 * power)) as f64;
    format!("{value:.2}{}", UNITS[power - 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::config::Config;
    use crate::instance::{Identity, Instance};
    use crate::resp::{ReplyBuf, Span};
    use crate::session::About;

    fn identity() -> Identity {
        Identity {
            run_id: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            started_us: 0,
            executable: "/usr/bin/redshard".to_owned(),
        }
    }

    fn instance() -> Instance {
        Instance::new(Config::default(), 2, crate::command::all().len(), identity())
    }

    fn ask(instance: &Instance, sections: &[&str]) -> String {
        let config = instance.config();
        let now = Now { unix_ms: 90_000_000, monotonic_ns: 2_000_000_000 };
        let env = Env { config: &config, instance, now };
        let mut session = Session::new(1, now, &config, About::default());
        let bytes: Vec<u8> = sections.concat().into_bytes();
        let mut spans = Vec::new();
        for section in sections {
            let at = spans.last().map_or(0, |span: &Span| span.at + span.len);
            spans.push(Span { at, len: section.len() as u32 });
        }
        let mut out = ReplyBuf::default();
        let mut reply = Reply::new(&mut out, false);
        info(&mut session, &env, &Args::new(&bytes, &spans), &mut reply).expect("never fails");
        let text = String::from_utf8(out.bytes().to_vec()).expect("text");
        let (_, body) = text.split_once("\r\n").expect("a header");
        body.strip_suffix("\r\n").expect("an end").to_owned()
    }

    #[test]
    fn sections_are_chosen() {
        let instance = instance();
        let headings = |sections: &[&str]| -> Vec<String> {
            let text = ask(&instance, sections);
            text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(headings(&["CPU", "server"]), ["# Server", "# CPU"]);
        assert_eq!(ask(&instance, &["nosuch"]), "");
        assert_eq!(headings(&[]), headings(&["default"]));
        assert!(!headings(&[]).contains(&"# Commandstats".to_owned()));
        assert_eq!(headings(&["all"]).len(), SECTIONS.len() - 1);
        assert_eq!(headings(&["debug"]), ["# Debug"]);
        assert_eq!(headings(&["everything"]).len(), SECTIONS.len() - 1);
    }

    #[test]
    fn every_line_is_a_heading_a_pair_or_empty() {
        let instance = instance();
        instance.metrics.count_error(1, crate::metrics::error_code(b"-WRONGTYPE x"));
        instance.metrics.command(0, 0).calls.add(3);
        let text = ask(&instance, &["everything"]);
        for line in text.split("\r\n") {
            let fine = line.is_empty()
                || line.starts_with("# ")
                || line.split_once(':').is_some_and(|(name, value)| {
                    !name.is_empty() && !name.contains(' ') && !value.contains('\n')
                });
            assert!(fine, "{line:?}");
        }
        assert!(!text.contains("\r\n\r\n\r\n"), "{text}");
    }

    #[test]
    fn numbers_come_from_all_shards() {
        let instance = instance();
        let value = |section: &str, name: &str| {
            let text = ask(&instance, &[section]);
            let prefix = format!("{name}:");
            let mut lines = text.split("\r\n");
            lines.find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
        };
        for (shard, n) in [(0, 3), (1, 4)] {
            let metrics = &instance.metrics;
            metrics.shard(shard).connections.set(n);
            metrics.shard(shard).hits.set(10 * n);
            metrics.shard(shard).commands.set(100 * n);
            metrics.database(shard, 5).keys.set(n);
            metrics.database(shard, 5).volatile.set(1);
            metrics.command(shard, 0).calls.add(n);
            metrics.count_error(shard, crate::metrics::error_code(b"-ERR something"));
        }
        let of_command = format!("cmdstat_{}", crate::command::all()[0].full_name());
        assert_eq!(value("clients", "connected_clients").unwrap(), "7");
        assert_eq!(value("keyspace", "db5").unwrap(), "keys=7,expires=2,avg_ttl=0");
        assert_eq!(value("keyspace", "db0"), None);
        assert_eq!(value("stats", "keyspace_hits").unwrap(), "70");
        assert_eq!(value("errorstats", "errorstat_ERR").unwrap(), "count=2");
        assert!(value("commandstats", &of_command).unwrap().starts_with("calls=7,usec="));
        let second = value("shards", "shard1").unwrap();
        assert!(second.contains(",commands=400,") && second.contains(",keys=4,"), "{second}");
        assert_eq!(value("server", "uptime_in_days").unwrap(), "1");

        instance.metrics.reset();
        instance.metrics.shard(0).hits.add(5);
        assert_eq!(value("stats", "keyspace_hits").unwrap(), "5");
        assert_eq!(value("stats", "total_commands_processed").unwrap(), "0");
        assert_eq!(value("errorstats", "errorstat_ERR"), None);
        assert_eq!(value("commandstats", &of_command), None);
        // What is, not what was.
        assert_eq!(value("clients", "connected_clients").unwrap(), "7");
    }

    #[test]
    fn sizes_have_units() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_017_448, "993.60K"),
            (25_276_502_016, "23.54G"),
            (u64::MAX, "16384.00P"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}

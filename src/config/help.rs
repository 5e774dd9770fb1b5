//! What `--help` and `--version` print.

use std::fmt::Write as _;

use super::table::{Opt, TABLE};
use crate::base::version::VERSION;

/// Columns up to which a flag shares its line with its explanation.
const FLAG_COLUMNS: usize = 40;

/// Bytes of a name that is compared with the ones there are.
const NAME_BYTES_MAX: usize = 64;

/// What `--version` prints.
pub fn version() -> String {
    format!("Redshard server v={VERSION} bits={}\n", usize::BITS)
}

/// What `--help` prints: what acts, from the table.
pub fn help() -> String {
    let mut text = String::from(
        "A Redis-compatible server: sharded, thread-per-core, on io_uring\n\
         \n\
         Usage: redshard [FILE | -] [--DIRECTIVE VALUE...]...\n\
         \n\
         Arguments:\n\
         \x20 [FILE]  Configuration file, in the syntax of redis.conf; - reads standard input\n\
         \n\
         Options:\n\
         \x20 -h, --help     Print this help\n\
         \x20 -v, --version  Print the version\n\
         \n\
         Directives, in a file or as flags, where --directive=value works as well. A flag has the last\n\
         word. Sizes take the units k, kb, m, mb, g and gb. Every directive of Redis 7.0 and Valkey 9.1\n\
         is known; these act here:\n",
    );
    for option in TABLE.iter().filter(|option| !option.help.is_empty()) {
        text.push_str(&entry(option));
    }
    text.push_str(
        "\nExamples:\n  redshard --port 7777 --bind 127.0.0.1 ::1 --maxmemory 4gb\n  \
         redshard /etc/redis/redis.conf --loglevel verbose\n  \
         echo 'maxmemory 128mb' | redshard -\n",
    );
    text
}

fn entry(option: &Opt) -> String {
    let flag = format!("  --{} {}", option.name, option.kind.shape());
    let mut text = match flag.len() {
        ..FLAG_COLUMNS => format!("{flag:FLAG_COLUMNS$}"),
        _ => format!("{flag}\n{:FLAG_COLUMNS$}", ""),
    };
    text.push_str(option.help);
    if !option.default.is_empty() {
        // Writing to a String can't fail.
        let _ = write!(text, " [default: {}]", option.default);
    }
    text.push('\n');
    text
}

/// The directive that a misspelled name was probably meant to be.
pub fn similar(name: &str) -> Option<&'static str> {
    // Whatever is longer was not meant to be any of them.
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    // As many slips as a name of this length is likely to have; more would be guessing.
    let most = (name.len() / 4).clamp(1, 3);
    let names = TABLE.iter().filter(|option| !option.hidden).flat_map(Opt::names);
    let near = names.map(|known| (strsim::osa_distance(name, known), known));
    near.filter(|(slips, _)| *slips <= most).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_shows_what_acts() {
        let help = help();
        let line = format!("{:FLAG_COLUMNS$}TCP port; 0 listens on none", "  --port <0..65535>");
        assert!(help.contains(&line), "{help}");
        assert!(help.lines().all(|line| line.len() <= 150), "{help}");
        assert!(!help.contains("--appendfilename"));
    }

    #[test]
    fn slips_are_seen_through() {
        assert_eq!(similar("maxmemroy"), Some("maxmemory"));
        assert_eq!(similar("prot"), Some("port"));
        assert_eq!(similar("replica-read-olny"), Some("replica-read-only"));
        assert_eq!(similar("bogus"), None);
        assert_eq!(similar("something-else"), None);
    }
}

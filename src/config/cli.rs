//! What a shell sees: the command line, help, version and completions.
//!
//! The grammar of directives is Redis's and stays in [`parse`]: a value may begin with two dashes,
//! `--save 60 1 300 10` has as many as it likes. So to clap, who reads the line, everything from the
//! file or the first directive on is one list of words. It knows the directives, made from the
//! table, where they are described: in the help and in completions.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;

use super::table::{Opt, TABLE};
use super::value::Kind;
use super::{Config, ConfigError, parse};
use crate::base::version::{ALLOCATOR, BUILD_ID, GIT_DIRTY, GIT_SHA1, VERSION};

/// The program's name, where completions are bound to it.
const PROGRAM: &str = "redshard";

/// The subcommand that checks an RDB file.
const CHECK_RDB: &str = "check-rdb";

/// Columns of a help that has no terminal to ask, and the most it takes of one that is wider.
const HELP_COLUMNS: usize = 100;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// To serve.
    Serve(Box<Config>),
    /// To print this text and leave.
    Print(String),
    /// To check an RDB file and leave.
    CheckRdb(PathBuf),
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CliError {
    /// A subcommand was not used as it has to be; clap says how.
    #[error("{0}")]
    Usage(String),
    /// The configuration can't be followed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A program of the peers that this one does not have.
    #[error("{name}: Redshard has no {what}")]
    Missing {
        /// As it was asked for.
        name: String,
        /// What it would be.
        what: &'static str,
    },
}

/// Reads the command line, the program's name first, and the files it names.
pub fn read(arguments: Vec<OsString>) -> Result<Start, CliError> {
    if let Some(error) = missing_program(&arguments) {
        return Err(error);
    }
    let checker = linked_checker(&arguments);
    let is_checker = checker.is_some();
    let matches = match checker.unwrap_or_else(parser).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        // The help of a subcommand.
        Err(text) if !text.use_stderr() => return Ok(Start::Print(text.to_string())),
        Err(error) => return Err(CliError::Usage(error.to_string().trim_end().into())),
    };
    if is_checker {
        return Ok(check_rdb(&matches));
    }
    if let Some((CHECK_RDB, matches)) = matches.subcommand() {
        return Ok(check_rdb(matches));
    }
    if matches.get_flag("help") {
        return Ok(Start::Print(help()));
    }
    if matches.get_flag("version") {
        return Ok(Start::Print(parser().render_version()));
    }
    if let Some(("completions", matches)) = matches.subcommand() {
        return Ok(Start::Print(completions(matches)));
    }
    let words = matches.get_many::<OsString>("start").unwrap_or_default();
    let words: Vec<Vec<u8>> = words.cloned().map(OsString::into_vec).collect();
    Ok(match parse::start_line(&words)? {
        Some(config) => Start::Serve(Box::new(config)),
        None => Start::Print(help()),
    })
}

/// The name of a link to this program, and which of the peers' programs it asks for. Their servers are
/// also their checkers and their sentinel, by such a name.
fn linked(arguments: &[OsString]) -> Option<(&str, &str)> {
    let program = Path::new(arguments.first()?).file_name()?.to_str()?;
    let asked = program.strip_prefix("redis-").or_else(|| program.strip_prefix("valkey-"))?;
    Some((program, asked))
}

/// The command line of the checker, where a link's name asks for it.
fn linked_checker(arguments: &[OsString]) -> Option<Command> {
    let (program, _) = linked(arguments).filter(|(_, asked)| *asked == CHECK_RDB)?;
    Some(
        checker(program.to_owned())
            .version(version())
            .arg(version_flag().action(ArgAction::Version)),
    )
}

/// Ours will be all checkers by a subcommand as well. What is missing has no place in the help, nor in
/// completions, which show hidden subcommands; but whoever's script asks for it must not get a server,
/// or be told that there is no file `check-aof`.
fn missing_program(arguments: &[OsString]) -> Option<CliError> {
    let command = arguments.get(1).and_then(|word| word.to_str());
    let command = command.filter(|word| word.starts_with("check-"));
    let asked = [linked(arguments), command.map(|asked| (asked, asked))];
    asked.into_iter().flatten().find_map(|(name, asked)| {
        let what = match asked {
            "check-aof" => "checker of append-only files yet",
            "sentinel" => "Sentinel",
            _ => return None,
        };
        Some(CliError::Missing { name: name.into(), what })
    })
}

/// The command line as it is read.
fn parser() -> Command {
    let start = Arg::new("start")
        .num_args(0..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
        .value_parser(value_parser!(OsString));
    frame().arg(start)
}

/// The command line as it is described, with every directive that acts.
fn described() -> Command {
    let file = Arg::new("file")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .help("Configuration file, in the syntax of redis.conf; - reads standard input");
    let acting = TABLE.iter().filter(|option| !option.help.is_empty());
    frame().arg(file).args(acting.map(directive))
}

/// What both have.
fn frame() -> Command {
    let shell = Arg::new("shell")
        .value_name("SHELL")
        .required(true)
        .value_parser(value_parser!(Shell))
        .help("Which shell's language it is to be");
    let completions = Command::new("completions")
        .about("Print a script that lets a shell complete directives and their values")
        .after_help("Bash, for this shell: source <(redshard completions bash)")
        .args([shell, help_flag().action(ArgAction::Help)]);
    let help = help_flag().action(ArgAction::SetTrue);
    Command::new(PROGRAM)
        .display_name("Redshard server")
        .version(version())
        .about("A Redis-compatible server: sharded, thread-per-core, on io_uring")
        .override_usage(
            "redshard [FILE | -] [--DIRECTIVE VALUE...]...\n       redshard completions <SHELL>\n       \
             redshard check-rdb <FILE>",
        )
        .after_help(
            "A directive stands in a file as it does here, without the dashes; --directive=value works as \
             well. A flag has the last word. Sizes take the units k, kb, m, mb, g and gb. Every directive of \
             Redis 7.0 and Valkey 9.1 is known; those above act here.\n\
             \n\
             Examples:\n  \
             redshard --port 7777 --bind 127.0.0.1 ::1 --maxmemory 4gb\n  \
             redshard /etc/redis/redis.conf --loglevel verbose\n  \
             echo 'maxmemory 128mb' | redshard -",
        )
        .max_term_width(HELP_COLUMNS)
        .next_line_help(true)
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_conflicts_with_subcommands(true)
        .args_override_self(true)
        .args([help, version_flag().action(ArgAction::SetTrue)])
        .subcommands([completions, checker(CHECK_RDB.to_owned())])
}

/// The command line of the checker of RDB files, under the name it is called by.
fn checker(name: String) -> Command {
    let file = Arg::new("rdb")
        .value_name("FILE")
        .required(true)
        .value_hint(ValueHint::FilePath)
        .value_parser(value_parser!(PathBuf))
        .help("RDB file");
    Command::new(name)
        .about("Check an RDB file: what is in it, and the first fault if it has any")
        .after_help("It fails if the file cannot be read to its end.")
        .max_term_width(HELP_COLUMNS)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args([file, help_flag().action(ArgAction::Help)])
}

/// What stands behind the program's name; tools read what is behind `v=`.
fn version() -> String {
    format!(
        "v={VERSION} sha={GIT_SHA1}:{GIT_DIRTY} malloc={ALLOCATOR} bits={} build={BUILD_ID}",
        usize::BITS
    )
}

fn version_flag() -> Arg {
    Arg::new("version")
        .short('v')
        .visible_short_alias('V')
        .long("version")
        .help("Print the version")
}

fn help_flag() -> Arg {
    Arg::new("help").short('h').long("help").help("Print this help")
}

fn directive(option: &Opt) -> Arg {
    let names = option.kind.value_names();
    let help = match option.default {
        "" => option.help.into(),
        default => format!("{} [default: {default}]", option.help),
    };
    let (least, choices) = (names.len(), option.kind.choices());
    let arg = Arg::new(option.name)
        .long(option.name)
        .value_names(names)
        .help(help)
        .help_heading(option.section)
        .hide_possible_values(choices.len() <= Kind::CHOICES_SHOWN)
        .action(ArgAction::Append);
    let arg =
        if choices.is_empty() { arg } else { arg.value_parser(PossibleValuesParser::new(choices)) };
    if option.kind.takes_many() { arg.num_args(least..) } else { arg }
}

/// What `--help` prints: what acts, from the table.
pub fn help() -> String {
    described().render_help().to_string()
}

fn check_rdb(matches: &ArgMatches) -> Start {
    Start::CheckRdb(matches.get_one("rdb").cloned().unwrap_or_default())
}

fn completions(matches: &ArgMatches) -> String {
    let mut script = Vec::new();
    if let Some(shell) = matches.get_one::<Shell>("shell") {
        clap_complete::generate(*shell, &mut described(), PROGRAM, &mut script);
    }
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Result<Start, CliError> {
        super::read(line.iter().map(OsString::from).collect())
    }

    fn served(line: &[&str]) -> Config {
        match read(line) {
            Ok(Start::Serve(config)) => *config,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn clap_finds_no_contradiction() {
        parser().debug_assert();
        described().debug_assert();
    }

    #[test]
    fn the_help_shows_what_acts() {
        let help = help();
        let port =
            "      --port <0..65535>\n          TCP port; 0 listens on none [default: 6379]\n";
        assert!(help.contains(port), "{help}");
        assert!(help.contains("[possible values: volatile-lru, "), "{help}");
        assert!(help.lines().all(|line| line.len() <= HELP_COLUMNS), "{help}");
        assert!(!help.contains("--appendfilename"));
        for option in TABLE.iter().filter(|option| !option.help.is_empty()) {
            assert!(help.contains(&format!("--{} <", option.name)), "{}", option.name);
            assert!(help.contains(&format!("\n{}:\n", option.section)), "{}", option.section);
        }
    }

    #[test]
    fn what_is_printed_instead_of_a_start() {
        for line in [
            &["redshard", "-h"][..],
            &["x", "--help", "--port", "1"],
            &["x", "--port", "1", "--help"],
        ] {
            assert_eq!(read(line), Ok(Start::Print(help())), "{line:?}");
        }
        for flag in ["-v", "-V", "--version"] {
            let Ok(Start::Print(text)) = read(&["redshard", flag]) else { panic!("{flag}") };
            assert!(text.starts_with(&format!("Redshard server v={VERSION} sha=")), "{text}");
            assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
        }
        assert_eq!(served(&["x", "--requirepass", "--help"]).requirepass(), b"--help");
        assert_eq!(served(&["x", "--requirepass", "-v"]).requirepass(), b"-v");
        assert_eq!(served(&["x", "--requirepass", "completions"]).requirepass(), b"completions");
    }

    #[test]
    fn every_word_of_a_start_line_arrives() {
        assert_eq!(served(&[]), Config::default());
        assert_eq!(served(&["redis-server"]), Config::default());
        let config = served(&[
            "x",
            "--port",
            "1",
            "--requirepass",
            "--",
            "--timeout=7",
            "--save",
            "60",
            "1",
        ]);
        assert_eq!((config.port(), config.requirepass(), config.timeout()), (1, &b"--"[..], 7));
        assert_eq!(config.save().len(), 1);
        let bytes = [b"x".to_vec(), b"--requirepass".to_vec(), b"\xff\xfe".to_vec()];
        match super::read(bytes.map(OsString::from_vec).to_vec()) {
            Ok(Start::Serve(config)) => assert_eq!(config.requirepass(), b"\xff\xfe"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn programs_of_the_peers_that_are_missing() {
        let told = |line: &[&str]| read(line).expect_err("no such program").to_string();
        let aof = "checker of append-only files yet";
        assert_eq!(
            told(&["/usr/bin/redis-check-aof", "x"]),
            format!("redis-check-aof: Redshard has no {aof}")
        );
        assert_eq!(
            told(&["redshard", "check-aof", "x"]),
            format!("check-aof: Redshard has no {aof}")
        );
        for name in ["redis-check-aof", "valkey-check-aof", "redis-sentinel", "valkey-sentinel"] {
            assert!(told(&[name, "--version"]).starts_with(&format!("{name}: Redshard has no ")));
        }
        assert!(told(&["redshard", "check-aof"]).contains("append-only"));
        assert!(!help().contains("check-aof"));
    }

    #[test]
    fn the_checker_has_three_names() {
        let file = Ok(Start::CheckRdb("x.rdb".into()));
        assert_eq!(read(&["redshard", "check-rdb", "x.rdb"]), file);
        for name in ["/usr/bin/redis-check-rdb", "valkey-check-rdb"] {
            checker(name.to_owned()).debug_assert();
            assert_eq!(read(&[name, "x.rdb"]), file);
            assert!(read(&[name]).expect_err("refused").to_string().contains("<FILE>"));
            assert!(read(&[name, "x", "y"]).is_err());
            for (flag, part) in [("--help", "RDB file"), ("-v", " v=")] {
                let Ok(Start::Print(text)) = read(&[name, flag]) else { panic!("{flag}") };
                assert!(text.contains(part), "{text}");
            }
        }
        assert!(read(&["redshard", "check-rdb"]).is_err());
    }

    #[test]
    fn a_subcommand_says_how_it_is_used() {
        for line in [&["redshard", "completions"][..], &["redshard", "completions", "dos"]] {
            let told = read(line).expect_err("refused").to_string();
            assert!(told.contains("bash") || told.contains("<SHELL>"), "{told}");
        }
        let Ok(Start::Print(text)) = read(&["redshard", "completions", "--help"]) else { panic!() };
        assert!(text.contains("redshard completions <SHELL>"), "{text}");
    }
}

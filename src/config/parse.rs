//! The start line and configuration files.
//!
//! A file has one directive a line: a name and its words, which may be quoted. A flag of the start
//! line, `--name words...`, is such a line too, read after the files, so it has the last word. So
//! there is one path from words to values, and one form of refusal.

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{ffi::OsStr, fmt::Write as _};

use super::table::{self, OBSOLETE, TABLE};
use super::value::{Kind, Reason, io_reason};
use super::{Config, ConfigError};
use crate::base::glob;

/// The version of this server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How deep files may include files: enough for any real layout, and an end for a file that
/// includes itself.
const INCLUDE_DEPTH_MAX: usize = 16;

const UNBALANCED: &str = "Unbalanced quotes in configuration line";
const BAD_DIRECTIVE: &str = "Bad directive or wrong number of arguments";

/// What the start line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// To serve.
    Serve(Box<Config>),
    /// To print this text and leave.
    Print(String),
}

/// Reads the start line, without the program's name, and the files it names.
pub fn start_line(arguments: &[Vec<u8>]) -> Result<Start, ConfigError> {
    match arguments.first().map(Vec::as_slice) {
        Some(b"-v" | b"--version") => return Ok(Start::Print(version())),
        Some(b"-h" | b"--help") => return Ok(Start::Print(help())),
        _ => {}
    }
    let (file, flags) = match arguments.split_first() {
        Some((file, flags)) if !file.starts_with(b"-") => (Some(file), flags),
        _ => (None, arguments),
    };
    // A lone dash is standard input, at either end of the flags.
    let dash = |argument: Option<&Vec<u8>>| argument.is_some_and(|argument| argument == b"-");
    let (flags, from_stdin) = match flags {
        [_, rest @ ..] if file.is_none() && dash(flags.first()) => (rest, true),
        [rest @ .., _] if dash(flags.last()) => (rest, true),
        flags => (flags, false),
    };

    let mut loader = Loader::default();
    if let Some(file) = file {
        let path = Path::new(OsStr::from_bytes(file));
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        loader.file(&path, None)?;
        loader.config.file = Some(path);
    }
    if from_stdin {
        let mut text = Vec::new();
        let read = io::stdin().read_to_end(&mut text);
        read.map_err(|error| unreadable("-", &error))?;
        loader.text(&text, None)?;
    }
    for line in flag_lines(flags) {
        loader
            .line(&line)
            .map_err(|reason| fatal("Reading the command line".into(), &line, reason))?;
    }
    Ok(Start::Serve(Box::new(loader.config)))
}

/// The flags as lines of a configuration file.
///
/// Words that follow a flag belong to it. The first of them may itself begin with two dashes, as in
/// Redis since 7.0, except after `--save`, which may stand alone for "never".
fn flag_lines(arguments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut rest = arguments.iter().peekable();
    let mut wants_value = false;
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.strip_prefix(b"--").filter(|_| !wants_value) else {
            let mut word = Vec::new();
            quote(argument, &mut word);
            match lines.last_mut() {
                Some(line) => line.extend([b" ".as_slice(), &word].concat()),
                None => lines.push(word),
            }
            wants_value = false;
            continue;
        };
        // `--name=value`; `--name value` in one argument is a line as it is.
        let end = flag.iter().position(|byte| *byte == b'=' || byte.is_ascii_whitespace());
        let mut line = flag.to_vec();
        if let Some(end) = end.filter(|end| flag[*end] == b'=') {
            line.truncate(end);
            line.push(b' ');
            quote(&flag[end + 1..], &mut line);
        }
        let value_follows = rest.peek().is_some_and(|next| !next.starts_with(b"--"));
        if flag.eq_ignore_ascii_case(b"save") && !value_follows {
            line.extend(b" \"\"");
        } else {
            wants_value = end.is_none();
        }
        lines.push(line);
    }
    lines
}

/// Gathers a configuration from lines.
#[derive(Default)]
struct Loader {
    config: Config,
    /// Save rules add up, but the first one replaces the default ones.
    saves: bool,
    depth: usize,
}

impl Loader {
    fn file(&mut self, path: &Path, included: Option<&Path>) -> Result<(), ConfigError> {
        let text = fs::read(path);
        let text = text.map_err(|error| unreadable(&path.to_string_lossy(), &error))?;
        self.text(&text, included)
    }

    /// Reads the text of a file; `included` names it if it isn't the one the start line named.
    fn text(&mut self, text: &[u8], included: Option<&Path>) -> Result<(), ConfigError> {
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let place = || {
                let file =
                    included.map(|path| format!(" '{}'", path.display())).unwrap_or_default();
                format!("Reading the configuration file{file}, at line {}", index + 1)
            };
            match included_by(line) {
                Some(_) if self.depth == INCLUDE_DEPTH_MAX => {
                    return Err(fatal(place(), line, "files include each other too deeply".into()));
                }
                Some(pattern) => {
                    self.depth += 1;
                    for path in expand(&pattern) {
                        self.file(&path, Some(&path))?;
                    }
                    self.depth -= 1;
                }
                None => self.line(line).map_err(|reason| fatal(place(), line, reason))?,
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Reason> {
        let mut words = split_args(line).ok_or(UNBALANCED)?;
        if words.is_empty() {
            return Ok(());
        }
        let name = words.remove(0).to_ascii_lowercase();
        match table::find(&name) {
            Some((at, _)) => self.option(at, words),
            None => self.directive(&name, words),
        }
    }

    fn option(&mut self, at: usize, mut words: Vec<Vec<u8>>) -> Result<(), Reason> {
        let kind = &TABLE[at].kind;
        // A list may also come as one quoted word.
        if let [word] = words.as_slice()
            && kind.takes_many()
            && !word.is_empty()
        {
            words = split_args(word).ok_or(UNBALANCED)?;
        }
        let is_save = matches!(kind, Kind::SaveRules);
        let value = kind.read(&words, &self.config.values[at], is_save && self.saves)?;
        self.saves |= is_save;
        self.config.put(at, value);
        Ok(())
    }

    /// Directives that aren't options: CONFIG GET doesn't know them.
    fn directive(&mut self, name: &[u8], words: Vec<Vec<u8>>) -> Result<(), Reason> {
        let text = String::from_utf8_lossy(name).into_owned();
        match (name, words.as_slice()) {
            (b"rename-command", [from, to]) => {
                self.config.renamed_commands.push((from.clone(), to.clone()));
            }
            (b"user", [_, ..]) => self.config.users.push(words),
            (b"loadmodule", [_, ..]) => self.config.ignored.push(text),
            (_, [_]) if OBSOLETE.contains(&text.as_str()) => self.config.ignored.push(text),
            (b"include", [pattern]) => {
                // On the start line: the file takes the flag's place.
                for path in expand(pattern) {
                    self.file(&path, Some(&path)).map_err(|error| error.to_string())?;
                }
            }
            (b"sentinel", _) => return Err("sentinel directive while not in sentinel mode".into()),
            _ if name.contains(&b'.') && words.is_empty() => {
                return Err("Module config specified without value".into());
            }
            // An option of a module.
            _ if name.contains(&b'.') => self.config.ignored.push(text),
            _ => return Err(BAD_DIRECTIVE.into()),
        }
        Ok(())
    }
}

fn fatal(place: String, line: &[u8], reason: Reason) -> ConfigError {
    ConfigError::Fatal { place, line: String::from_utf8_lossy(line).into_owned(), reason }
}

fn unreadable(path: &str, error: &io::Error) -> ConfigError {
    ConfigError::Unreadable { path: path.into(), reason: io_reason(error) }
}

/// What a line includes, if it is an `include` line.
fn included_by(line: &[u8]) -> Option<Vec<u8>> {
    match split_args(line)?.as_mut_slice() {
        [name, pattern] if name.eq_ignore_ascii_case(b"include") => Some(std::mem::take(pattern)),
        _ => None,
    }
}

/// The files a path with wildcards stands for, in order; none is fine, as a directory of snippets
/// may be empty. A path without wildcards stands for itself, whether it is there or not.
fn expand(pattern: &[u8]) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for part in Path::new(OsStr::from_bytes(pattern)).components() {
        let part = part.as_os_str();
        if !part.as_bytes().iter().any(|byte| b"*?[".contains(byte)) {
            paths.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut found = Vec::new();
        for path in paths {
            let here = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
            let entries = fs::read_dir(here).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name());
            // Hidden files are only found by a pattern that says so.
            let fits = |name: &OsStr| {
                let hidden = name.as_bytes().starts_with(b".");
                (!hidden || part.as_bytes().starts_with(b"."))
                    && glob::matches(part.as_bytes(), name.as_bytes(), false)
            };
            found.extend(names.filter(|name| fits(name)).map(|name| path.join(name)));
        }
        found.sort();
        paths = found;
    }
    if pattern.iter().any(|byte| b"*?[".contains(byte)) {
        paths.retain(|path| path.exists());
    }
    paths
}

/// Splits a line into words, as configuration files and inline commands quote them; `None` when a
/// quote isn't closed, or is closed in the middle of a word (there Redis is followed; Valkey 9.1
/// goes on with the word).
///
/// In double quotes, `\n` `\r` `\t` `\a` `\b` `\xHH` stand for single bytes and a backslash takes
/// the meaning from any other; in single quotes only `\'` is special.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    // Vertical tab and form feed separate words, but don't end one: C's `isspace` between words,
    // a shorter list within them.
    let ends_word = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [byte, tail @ ..] = rest
            && is_space(byte)
        {
            rest = tail;
        }
        if rest.is_empty() || rest[0] == 0 {
            return Some(words);
        }
        let mut word = Vec::new();
        loop {
            match rest {
                [] | [0, ..] => break,
                [byte, ..] if ends_word(byte) => break,
                [quote @ (b'"' | b'\''), tail @ ..] => {
                    rest = unquote(*quote, tail, &mut word)?;
                    // What follows a closing quote must not touch it.
                    if rest.first().is_some_and(|byte| !is_space(byte)) {
                        return None;
                    }
                    break;
                }
                [byte, tail @ ..] => {
                    word.push(*byte);
                    rest = tail;
                }
            }
        }
        words.push(word);
    }
}

/// Reads up to the closing quote, and returns what follows it.
fn unquote<'a>(quote: u8, text: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return None,
            [byte, tail @ ..] if *byte == quote => return Some(tail),
            [b'\\', b'\'', tail @ ..] if quote == b'\'' => {
                word.push(b'\'');
                tail
            }
            [b'\\', b'x', high, low, tail @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                word.push(digit(*high) << 4 | digit(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 0x07,
                    b'b' => 0x08,
                    other => *other,
                });
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
        };
    }
}

/// Appends a word in double quotes, so that [`split_args`] reads the same word back.
pub fn quote(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in word {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x07 => out.extend(b"\\a"),
            0x08 => out.extend(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    out.push(b'"');
}

/// What `--version` prints.
pub fn version() -> String {
    format!("Redshard server v={VERSION} bits={}\n", usize::BITS)
}

/// What `--help` prints.
pub fn help() -> String {
    let mut text = String::from(
        "Usage: redshard [/path/to/redis.conf] [--option value...]... [-]\n\
         \n\
         A Redis-compatible server. Options stand in a configuration file, on standard input (-)\n\
         or here, where --option=value works as well; the last one counts. Sizes take the units\n\
         k, kb, m, mb, g, gb. Every directive of redis.conf is known; these act:\n\n",
    );
    for option in TABLE.iter().filter(|option| !option.help.is_empty()) {
        let flag = format!("--{} {}", option.name, option.kind.shape());
        // Writing to a String can't fail.
        let _ = write!(text, "  {flag}\n        {}", option.help);
        let _ = match option.default {
            "" => writeln!(text),
            default => writeln!(text, " [{default}]"),
        };
    }
    text.push_str(
        "\nExamples:\n  redshard --port 7777 --bind 127.0.0.1 ::1 --maxmemory 4gb\n  \
         redshard /etc/redis/redis.conf --loglevel verbose\n  \
         echo 'maxmemory 128mb' | redshard -\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(arguments: &[&str]) -> Result<Config, String> {
        let arguments: Vec<Vec<u8>> = arguments.iter().map(|argument| (*argument).into()).collect();
        match start_line(&arguments) {
            Ok(Start::Serve(config)) => Ok(*config),
            Ok(Start::Print(text)) => Err(text),
            Err(error) => Err(error.to_string()),
        }
    }

    fn load(text: &str) -> Result<Config, String> {
        let mut loader = Loader::default();
        loader.text(text.as_bytes(), None).map_err(|error| error.to_string())?;
        Ok(loader.config)
    }

    #[test]
    fn flags_in_both_styles() {
        let config = serve(&[
            "--port",
            "6380",
            "--maxmemory=4gb",
            "--bind",
            "127.0.0.1",
            "::1",
            "--filename",
            "x.rdb",
            "--requirepass",
            "--secret",
            "--Timeout 5",
            "--shards",
            "2",
        ])
        .unwrap();
        assert_eq!((config.port(), config.maxmemory(), config.timeout()), (6380, 4 << 30, 5));
        assert_eq!(config.bind(), ["127.0.0.1", "::1"]);
        assert_eq!(config.dbfilename(), Path::new("x.rdb"));
        assert_eq!(config.requirepass(), b"--secret");
        assert_eq!(config.shards(), 2);
        assert_eq!(serve(&["--bind=127.0.0.1 ::1"]).unwrap().bind(), ["127.0.0.1", "::1"]);
        assert_eq!(serve(&["--requirepass", "a \"b\"\n"]).unwrap().requirepass(), b"a \"b\"\n");
        assert_eq!(serve(&["--requirepass=a=b"]).unwrap().requirepass(), b"a=b");
    }

    #[test]
    fn save_may_stand_alone() {
        assert_eq!(serve(&["--save", "--port", "1"]).unwrap().save(), []);
        assert_eq!(serve(&["--port", "1", "--save"]).unwrap().save(), []);
        assert_eq!(serve(&["--save", ""]).unwrap().save(), []);
        assert_eq!(serve(&["--save", "60 1", "--save", "5", "2"]).unwrap().save().len(), 2);
        assert_eq!(serve(&["--save", "60", "1", "300", "10"]).unwrap().save().len(), 2);
    }

    #[test]
    fn refused_flags() {
        let refusal = |line: &str, reason: &str| {
            format!(
                "*** FATAL CONFIG FILE ERROR (Redshard {VERSION}) ***\n\
                 Reading the command line\n>>> '{line}'\n{reason}"
            )
        };
        let cases: [(&[&str], &str, &str); 8] = [
            (&["--port", "abc"], r#"port "abc""#, "argument couldn't be parsed into an integer"),
            (&["--port"], "port", "wrong number of arguments"),
            (&["--port", "1", "2"], r#"port "1" "2""#, "wrong number of arguments"),
            (&["--bogus", "1"], r#"bogus "1""#, BAD_DIRECTIVE),
            (&["-x"], r#""-x""#, BAD_DIRECTIVE),
            (
                &["--maxmemory", "1gb", "--port", "--appendonly"],
                r#"port "--appendonly""#,
                "argument couldn't be parsed into an integer",
            ),
            (&["--x.y"], "x.y", "Module config specified without value"),
            (
                &["--dbfilename", "a/b"],
                r#"dbfilename "a/b""#,
                "dbfilename can't be a path, just a filename",
            ),
        ];
        for (arguments, line, reason) in cases {
            assert_eq!(serve(arguments).unwrap_err(), refusal(line, reason));
        }
    }

    #[test]
    fn files() {
        let config = load(
            "# a comment\n\n  PORT 7000  \r\nsave 1 2\nsave 3 4\nrename-command CONFIG \"\"\n\
             requirepass \"a\\x20b\\\"\"\nuser alice on >pw\nlist-max-ziplist-entries 4\n\
             client-output-buffer-limit normal 1 2 3\nclient-output-buffer-limit pubsub 4 5 6\n\
             bf.size 100\nappendonly yes\nio-threads 1\ntcp-keepalive 0",
        )
        .unwrap();
        assert_eq!((config.port(), config.save().len(), config.tcp_keepalive()), (7000, 2, 0));
        assert_eq!(config.renamed_commands(), [(b"CONFIG".to_vec(), Vec::new())]);
        assert_eq!(config.requirepass(), b"a b\"");
        assert_eq!(config.users()[0][0], b"alice");
        let limits = config.client_output_buffer_limit();
        assert_eq!((limits[0].hard_bytes, limits[2].soft_seconds), (1, 6));
        assert_eq!(config.inert(), ["appendonly", "list-max-ziplist-entries", "bf.size"]);
    }

    #[test]
    fn refused_lines_name_their_place() {
        let refusal = load("port 1\n\nport \"1\nport 2").unwrap_err();
        let expected = format!(
            "*** FATAL CONFIG FILE ERROR (Redshard {VERSION}) ***\n\
             Reading the configuration file, at line 3\n>>> 'port \"1'\n{UNBALANCED}"
        );
        assert_eq!(refusal, expected);
        assert!(load("sentinel monitor x").unwrap_err().contains("not in sentinel mode"));
        assert!(load("save 1").unwrap_err().ends_with("Invalid save parameters"));
    }

    #[test]
    fn included_files() {
        let dir = std::env::temp_dir().join(format!("redshard-config-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let put = |name: &str, text: String| fs::write(dir.join(name), text).unwrap();
        let dir_text = dir.display().to_string();
        put("top.conf", format!("include {dir_text}/conf-*.in\ninclude {dir_text}/none*\nport 3"));
        put("conf-2.in", "timeout 2\nmaxclients 2".into());
        put("conf-1.in", "timeout 1\nport 1".into());
        put("loop.conf", format!("include {dir_text}/loop.conf"));
        put("bad.conf", format!("include {dir_text}/bad.in"));
        put("bad.in", "\nport x".into());

        let at = |name: &str| format!("{dir_text}/{name}");
        let config = serve(&[&at("top.conf"), "--maxclients", "5"]).unwrap();
        assert_eq!((config.port(), config.timeout(), config.maxclients()), (3, 2, 5));
        assert!(config.file().unwrap().ends_with("top.conf"));
        assert!(serve(&[&at("loop.conf")]).unwrap_err().contains("too deeply"));
        let refusal = serve(&[&at("bad.conf")]).unwrap_err();
        assert!(refusal.contains(&format!("file '{dir_text}/bad.in', at line 2")), "{refusal}");
        let missing = serve(&[&at("missing.conf")]).unwrap_err();
        let expected = format!(
            "Fatal error, can't open config file '{dir_text}/missing.conf': No such file or directory"
        );
        assert_eq!(missing, expected);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn quoting() {
        let split = |line: &[u8]| split_args(line);
        let words = |words: &[&[u8]]| Some(words.iter().map(|word| word.to_vec()).collect());
        assert_eq!(split(b""), words(&[]));
        assert_eq!(split(b"  a\tb \x0bc "), words(&[b"a", b"b", b"c"]));
        assert_eq!(split(br#""a b" 'c "d' """#), words(&[b"a b", b"c \"d", b""]));
        assert_eq!(split(br#""\x41\n\q\"" 'it\'s \n'"#), words(&[b"A\nq\"", br"it's \n"]));
        assert_eq!(split(br#"a"b c""#), words(&[b"ab c"]));
        assert_eq!(split(b"\x0ba\x0bb"), words(&[b"a\x0bb"]));
        assert_eq!(split(br#""\xg1""#), words(&[b"xg1"]));
        for unbalanced in [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", b"\"a\\\"", b"a\"b\"c"] {
            assert_eq!(split(unbalanced), None, "{}", unbalanced.escape_ascii());
        }
        let every: Vec<u8> = (0..=255).collect();
        let mut quoted = Vec::new();
        quote(&every, &mut quoted);
        assert_eq!(split(&quoted), Some(vec![every]));
    }

    #[test]
    fn help_and_version_come_from_the_table() {
        let help = serve(&["--help"]).unwrap_err();
        assert!(help.contains("--port <0..65535>\n        TCP port; 0 listens on none [6379]"));
        assert!(!help.contains("--appendonly"));
        assert_eq!(serve(&["-v"]).unwrap_err(), version());
    }
}

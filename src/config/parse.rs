//! The start line and configuration files.
//!
//! A file has one directive a line: a name and its words, which may be quoted. A flag of the start
//! line, `--name words...`, is such a line too, read after the files, so it has the last word. So
//! there is one path from words to values, and one form of refusal.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::table::{self, OBSOLETE, TABLE};
use super::value::{Kind, Reason, io_reason};
use super::{Config, ConfigError};
use crate::base::glob;
use crate::base::words::{quote, split_args};

/// How deep files may include files: enough for any real layout, and an end for a file that
/// includes itself.
const INCLUDE_DEPTH_MAX: usize = 16;
/// How many files may be read in all: an end for files that include each other many times over.
const FILES_MAX: usize = 1_000;
/// Bytes of one file: what is longer is no configuration.
const FILE_BYTES_MAX: u64 = 16 << 20;

const UNBALANCED: &str = "Unbalanced quotes in configuration line";
const BAD_DIRECTIVE: &str = "Bad directive or wrong number of arguments";

/// Reads the start line, without the program's name, and the files it names; `None` if one of its
/// flags asks for help.
pub fn start_line(arguments: &[Vec<u8>]) -> Result<Option<Config>, ConfigError> {
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
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        loader.file(&path)?;
        loader.config.file = Some(path);
    }
    if from_stdin {
        let text = read_whole(io::stdin()).map_err(|error| unreadable("-", &error))?;
        loader.text(&text, "from standard input")?;
    }
    let lines = flag_lines(flags);
    // Behind other flags, too: nobody has an option of that name.
    if lines.iter().any(|line| line == b"help") {
        return Ok(None);
    }
    loader.reads_flags = true;
    let place = || "Reading the command line".to_owned();
    for line in lines {
        match included_by(&line) {
            Some(pattern) => loader.include(&pattern, &line, &place)?,
            None => loader.line(&line).map_err(|reason| fatal(place(), &line, reason))?,
        }
    }
    Ok(Some(loader.config))
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

/// Reads a file's text into a configuration without flags, as the start would.
///
/// # Errors
/// What the start would refuse it with.
pub fn from_text(text: &[u8], path: &Path) -> Result<Config, ConfigError> {
    let mut loader = Loader::default();
    loader.text(text, &in_file(path))?;
    Ok(loader.config)
}

/// Gathers a configuration from lines.
#[derive(Default)]
struct Loader {
    config: Config,
    /// Save rules add up, but the first one replaces the default ones.
    saves: bool,
    depth: usize,
    files: usize,
    /// What is read now are flags, of which there are more than directives.
    reads_flags: bool,
}

impl Loader {
    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = fs::File::open(path).and_then(read_whole);
        let text = text.map_err(|error| unreadable(&path.to_string_lossy(), &error))?;
        self.text(&text, &in_file(path))
    }

    /// Reads the text of a file; `place` says which one it is.
    fn text(&mut self, text: &[u8], place: &str) -> Result<(), ConfigError> {
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let place = || format!("Reading the configuration {place}, at line {}", index + 1);
            match included_by(line) {
                Some(pattern) => self.include(&pattern, line, &place)?,
                None => self.line(line).map_err(|reason| fatal(place(), line, reason))?,
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        pattern: &[u8],
        line: &[u8],
        place: &dyn Fn() -> String,
    ) -> Result<(), ConfigError> {
        if self.depth == INCLUDE_DEPTH_MAX {
            return Err(fatal(place(), line, "files include each other too deeply".into()));
        }
        self.depth += 1;
        for path in expand(self.config.dir(), pattern) {
            self.files += 1;
            if self.files > FILES_MAX {
                return Err(fatal(place(), line, "too many files are included".into()));
            }
            self.file(&path)?;
        }
        self.depth -= 1;
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
            (b"user", [_, ..]) => {
                self.config.users.push(words);
                self.ignore(text);
            }
            (b"loadmodule", [_, ..]) => self.ignore(text),
            (_, [_]) if OBSOLETE.contains(&text.as_str()) => self.ignore(text),
            (b"sentinel", _) => return Err("sentinel directive while not in sentinel mode".into()),
            _ if name.contains(&b'.') && words.is_empty() => {
                return Err("Module config specified without value".into());
            }
            // An option of a module.
            _ if name.contains(&b'.') => self.ignore(text),
            _ => return Err(self.bad_directive(&text)),
        }
        Ok(())
    }

    fn bad_directive(&self, name: &str) -> Reason {
        let flags: &[&'static str] = if self.reads_flags { &["help", "version"] } else { &[] };
        match table::similar(name, flags) {
            Some(known) => format!("{BAD_DIRECTIVE}\nDid you mean '{known}'?").into(),
            None => BAD_DIRECTIVE.into(),
        }
    }

    /// For the notice at the start, which names everything once.
    fn ignore(&mut self, name: String) {
        if !self.config.ignored.contains(&name) {
            self.config.ignored.push(name);
        }
    }
}

fn in_file(path: &Path) -> String {
    format!("file '{}'", path.display())
}

/// All of a file, unless it is too long to be a configuration.
fn read_whole(file: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(text)
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
/// may be empty. A path without wildcards stands for itself, whether it is there or not. A relative
/// one begins at `dir`.
fn expand(dir: &Path, pattern: &[u8]) -> Vec<PathBuf> {
    let mut paths = vec![dir.to_owned()];
    for part in Path::new(OsStr::from_bytes(pattern)).components() {
        let part = part.as_os_str();
        if !part.as_bytes().iter().any(|byte| b"*?[".contains(byte)) {
            paths.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut found = Vec::new();
        for path in paths {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::version::VERSION;

    fn serve(arguments: &[&str]) -> Result<Config, String> {
        let arguments: Vec<Vec<u8>> = arguments.iter().map(|argument| (*argument).into()).collect();
        match start_line(&arguments) {
            Ok(config) => config.ok_or("help".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn load(text: &str) -> Result<Config, String> {
        let mut loader = Loader::default();
        loader.text(text.as_bytes(), "here").map_err(|error| error.to_string())?;
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
        let inert = ["appendonly", "user", "list-max-ziplist-entries", "bf.size"];
        assert_eq!(config.inert(), inert);
    }

    #[test]
    fn refused_lines_name_their_place() {
        let refusal = load("port 1\n\nport \"1\nport 2").unwrap_err();
        let expected = format!(
            "*** FATAL CONFIG FILE ERROR (Redshard {VERSION}) ***\n\
             Reading the configuration here, at line 3\n>>> 'port \"1'\n{UNBALANCED}"
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
    fn help_is_asked_for_anywhere_but_in_a_value() {
        assert_eq!(serve(&["--port", "1", "--help"]), Err("help".into()));
        assert_eq!(serve(&["--requirepass", "--help"]).unwrap().requirepass(), b"--help");
    }
}

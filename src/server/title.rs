//! The process's title: what `ps` shows is where it listens, not how it was started.
//!
//! The kernel shows the memory that the arguments, and behind them the environment, were passed in.
//! There is the title's room; the environment moves out first.

use crate::config::{Config, ConfigError};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::OnceLock;

/// Where the title is written to, in this process's memory.
static ROOM: OnceLock<Room> = OnceLock::new();

struct Room {
    start: u64,
    len: usize,
    /// What `{title}` stands for: the program as it was started.
    program: String,
}

/// Sets the title, if it is to be set. To be called while there is one thread.
pub fn begin(config: &Config) {
    if !config.set_proc_title() {
        return;
    }
    // Where it cannot be had, the title is what it was, and nothing else is lost.
    if let Ok(room) = find_room() {
        let _ = ROOM.set(room);
        let _ = set(config);
    }
}

/// Follows a change of the configuration.
///
/// # Errors
/// When the title cannot be written.
pub fn follow(old: &Config, new: &Config) -> Result<(), ConfigError> {
    if ROOM.get().is_none() || old.proc_title_template() == new.proc_title_template() {
        return Ok(());
    }
    set(new).map_err(|_| ConfigError::refused("proc-title-template", "failed to set process title"))
}

fn find_room() -> io::Result<Room> {
    let program = std::env::args_os().next().unwrap_or_default().to_string_lossy().into_owned();
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (arguments, environment) = parse(&stat).ok_or(io::ErrorKind::InvalidData)?;
    for (name, value) in std::env::vars_os() {
        // SAFETY: (1) there is one thread, as `begin` asks, so nobody reads the environment
        // meanwhile; (2) nobody holds on to a value: `std::env` hands out copies. glibc puts what is
        // set into memory of its own, so nothing refers to the old place any more.
        unsafe { std::env::set_var(name, value) };
    }
    let end = if environment.0 == arguments.1 { environment.1 } else { arguments.1 };
    let len = usize::try_from(end.saturating_sub(arguments.0)).map_err(io::Error::other)?;
    Ok(Room { start: arguments.0, len, program })
}

/// Where arguments and environment lie, by `/proc/self/stat`.
fn parse(stat: &str) -> Option<((u64, u64), (u64, u64))> {
    // The name in parentheses may hold anything; the state, the third field, follows it.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok().filter(|at| *at > 0);
    Some(((field(48)?, field(49)?), (field(50)?, field(51)?)))
}

fn set(config: &Config) -> io::Result<()> {
    let Some(room) = ROOM.get() else { return Ok(()) };
    let title = expand(config, &room.program);
    let mut bytes = vec![0; room.len];
    // The last byte stays zero: with another one there, the kernel would look for an end behind it.
    let fits = title.len().min(room.len.saturating_sub(1));
    bytes[..fits].copy_from_slice(&title.as_bytes()[..fits]);
    File::options().write(true).open("/proc/self/mem")?.write_all_at(&bytes, room.start)
}

/// The template with its names replaced.
fn expand(config: &Config, program: &str) -> String {
    let address = match (config.port(), config.unixsocket()) {
        (0, Some(path)) => path.display().to_string(),
        (port, _) => {
            let first = config.bind().first().map_or("*", String::as_str);
            format!("{}:{port}", first.trim_start_matches('-'))
        }
    };
    let path =
        |path: Option<&Path>| path.map_or_else(String::new, |path| path.display().to_string());
    let template = String::from_utf8_lossy(config.proc_title_template());
    let title = [
        ("{title}", program.to_owned()),
        ("{listen-addr}", address),
        ("{server-mode}", String::new()),
        ("{port}", config.port().to_string()),
        ("{tls-port}", "0".to_owned()),
        ("{unixsocket}", path(config.unixsocket())),
        ("{config-file}", path(config.file())),
    ]
    .iter()
    .fold(template.into_owned(), |text, (name, value)| text.replace(name, value));
    title.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_says_where_the_arguments_lie() {
        let fields: Vec<String> = (4..=52).map(|n| (n * 1000).to_string()).collect();
        let stat = format!("1 (a) b) S {}", fields.join(" "));
        assert_eq!(parse(&stat), Some(((48_000, 49_000), (50_000, 51_000))));
        assert_eq!(parse("1 (x) S 1 2"), None);
    }

    #[test]
    fn templates() {
        let with = |pairs: &[(&[u8], &[u8])]| {
            let (config, _) = Config::default().set(pairs, true).expect("valid");
            expand(&config, "/bin/redshard")
        };
        assert_eq!(with(&[]), "/bin/redshard *:6379");
        let all = b"TEST {title} {listen-addr} {port} {tls-port}";
        assert_eq!(with(&[(b"proc-title-template", all)]), "TEST /bin/redshard *:6379 6379 0");
    }
}

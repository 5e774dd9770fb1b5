//! The commands worth a second look: those that took long, were large, or had a large reply.
//!
//! There is one log for all shards, behind a lock: an entry's number says which came first, and how
//! many are kept is a limit on all. Only who logs takes the lock, and holds it for a push; an entry
//! is made before. A command is logged on its client's shard, which knows who the client is; how
//! long it took is told by the shard where it ran.

use crate::command::Command;
use crate::resp::Args;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Arguments kept of a command, and bytes of an argument: Valkey's figures.
const ARGUMENTS_MAX: usize = 32;
const ARGUMENT_BYTES_MAX: usize = 128;

/// Why a command is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It took long: microseconds.
    Slow,
    /// It was large: bytes.
    LargeRequest,
    /// Its reply was: bytes.
    LargeReply,
}

/// One command.
#[derive(Debug)]
pub struct Entry {
    /// Its number among those of its kind.
    pub id: u64,
    /// When, in seconds since the Unix epoch.
    pub unix_s: i64,
    /// How slow or how large.
    pub value: u64,
    /// Its words, cut short, and without secrets.
    pub words: Arc<[Vec<u8>]>,
    /// The client's address.
    pub addr: Arc<str>,
    /// The client's name.
    pub name: Arc<[u8]>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct CommandLog {
    kinds: [Mutex<Log>; 3],
}

#[derive(Debug, Default)]
struct Log {
    next: u64,
    /// The newest first.
    entries: VecDeque<Arc<Entry>>,
}

/// What is logged about a command, whatever the reason.
#[derive(Clone, Debug)]
pub struct Described {
    /// See [`Entry::words`].
    pub words: Arc<[Vec<u8>]>,
    /// See [`Entry::addr`].
    pub addr: Arc<str>,
    /// See [`Entry::name`].
    pub name: Arc<[u8]>,
}

impl CommandLog {
    fn log(&self, kind: Kind) -> MutexGuard<'_, Log> {
        // A panic while it was held ends the process anyway.
        self.kinds[kind as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry, of which as many are kept as `most` says.
    pub fn add(&self, kind: Kind, most: usize, unix_s: i64, value: u64, described: Described) {
        let Described { words, addr, name } = described;
        let mut dropped = Vec::new();
        let mut log = self.log(kind);
        let entry = Entry { id: log.next, unix_s, value, words, addr, name };
        log.next += 1;
        log.entries.push_front(Arc::new(entry));
        while log.entries.len() > most {
            dropped.extend(log.entries.pop_back());
        }
        // Freed after the lock has been let go.
        drop(log);
    }

    /// Up to `most` entries, the newest first.
    pub fn newest(&self, kind: Kind, most: usize) -> Vec<Arc<Entry>> {
        self.log(kind).entries.iter().take(most).cloned().collect()
    }

    /// How many entries there are.
    pub fn len(&self, kind: Kind) -> usize {
        self.log(kind).entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self, kind: Kind) -> bool {
        self.len(kind) == 0
    }

    /// Forgets all entries. Numbers go on.
    pub fn reset(&self, kind: Kind) {
        let entries = std::mem::take(&mut self.log(kind).entries);
        drop(entries);
    }
}

/// A command's words for a log: long ones cut short, and of too many the first.
pub fn words(command: &Command, args: &Args) -> Arc<[Vec<u8>]> {
    let all = command.name_words() + args.len();
    let kept = if all > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { all };
    let hidden = redacted(command, args);
    let name = command.name.split(' ').map(|word| word.to_ascii_lowercase().into_bytes());
    let args = args.iter().enumerate().map(|(at, arg)| match hidden.contains(&at) {
        true => REDACTED.to_vec(),
        false if arg.len() > ARGUMENT_BYTES_MAX => {
            let more = arg.len() - ARGUMENT_BYTES_MAX;
            let mut cut = arg[..ARGUMENT_BYTES_MAX].to_vec();
            cut.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
            cut
        }
        false => arg.to_vec(),
    });
    let mut words: Vec<Vec<u8>> = name.chain(args).take(kept).collect();
    if all > ARGUMENTS_MAX {
        words.push(format!("... ({} more arguments)", all - kept).into_bytes());
    }
    words.into()
}

/// What stands for a secret.
pub const REDACTED: &[u8] = b"(redacted)";

/// The places of secrets among a command's arguments.
pub fn redacted(command: &Command, args: &Args) -> Vec<usize> {
    match command.name {
        "AUTH" => (0..args.len()).collect(),
        "HELLO" => {
            let auth = (1..args.len()).find(|at| args.is(*at, "AUTH"));
            auth.map_or(Vec::new(), |at| vec![at + 1, at + 2])
        }
        "CONFIG SET" => (0..args.len())
            .step_by(2)
            .filter(|at| crate::config::is_secret(args.at(*at)))
            .map(|at| at + 1)
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Span;

    fn shown(line: &[&[u8]], command: &str) -> Vec<String> {
        let bytes = line.concat();
        let mut at = 0;
        let span = |word: &&[u8]| {
            let span = Span { at, len: word.len() as u32 };
            at += span.len;
            span
        };
        let spans: Vec<Span> = line.iter().map(span).collect();
        let mut commands = crate::command::all().iter();
        let command = commands.find(|known| known.name == command).expect("a command");
        let words = words(command, &Args::new(&bytes, &spans));
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    #[test]
    fn much_is_cut_short() {
        let many: Vec<&[u8]> = vec![b"k"; 32];
        let words = shown(&many, "DEL");
        assert_eq!(words.len(), 32);
        assert_eq!((words[0].as_str(), words[31].as_str()), ("del", "... (2 more arguments)"));
        assert_eq!(shown(&many[..31], "DEL").last().map(String::as_str), Some("k"));
        let long = [b'A'; 129];
        let cut = format!("{}... (1 more bytes)", "A".repeat(128));
        assert_eq!(shown(&[&long], "GET"), ["get", cut.as_str()]);
        assert_eq!(shown(&[&long[..128]], "GET")[1].len(), 128);
    }

    #[test]
    fn secrets_are_not_shown() {
        let hidden = shown(&[b"3", b"auth", b"me", b"secret", b"setname", b"n"], "HELLO");
        assert_eq!(hidden, ["hello", "3", "auth", "(redacted)", "(redacted)", "setname", "n"]);
        let hidden = shown(&[b"port", b"1", b"RequirePass", b"secret"], "CONFIG SET");
        assert_eq!(hidden, ["config", "set", "port", "1", "RequirePass", "(redacted)"]);
        assert_eq!(shown(&[b"secret"], "AUTH"), ["auth", "(redacted)"]);
        assert_eq!(shown(&[b"3", b"auth"], "HELLO"), ["hello", "3", "auth"]);
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let log = CommandLog::default();
        let described = Described {
            words: Vec::new().into(),
            addr: "127.0.0.1:1".into(),
            name: Vec::new().into(),
        };
        for value in 0..5 {
            log.add(Kind::Slow, 3, 7, value, described.clone());
        }
        let ids = |most| log.newest(Kind::Slow, most).iter().map(|e| e.id).collect::<Vec<_>>();
        assert_eq!(ids(9), [4, 3, 2]);
        assert_eq!(ids(1), [4]);
        assert_eq!((log.len(Kind::Slow), log.len(Kind::LargeReply)), (3, 0));
        log.reset(Kind::Slow);
        assert!(log.is_empty(Kind::Slow));
        log.add(Kind::Slow, 3, 7, 0, described);
        assert_eq!(ids(9), [5]);
    }
}

//! This server's side of a link to its primary, up to the stream: who it is, what it asks for, and what
//! it is given.
//!
//! ```text
//! PING ─ [AUTH] ─ REPLCONF listening-port ─ [REPLCONF ip-address] ─ REPLCONF capa ─ REPLCONF version
//!   ─ PSYNC id offset ─┬─ +CONTINUE [id] ─────────────────────────────────────────┬─ stream
//!                      └─ +FULLRESYNC id offset ─ $length or $EOF:mark ─ the data ┘
//! ```
//! Every word is sent when the one before has been answered, as the peers do. Sans-IO: it is fed with what
//! comes, and says what is to be sent and what has been heard. The stream itself is not fed to it.
//!
//! Whatever comes is hostile: lines are bounded, and of the data no more is kept than a mark is long.

use crate::base::number::{parse_i64, parse_u64};
use std::collections::VecDeque;

/// Bytes of the mark behind data of unknown length.
pub const MARK_BYTES: usize = 40;

/// Bytes of a line of the handshake, at most.
const LINE_MAX: usize = 4 * 1024;

/// What the primary is told about this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// `primaryuser` and `primaryauth`; nobody is named without a password.
    pub user: Vec<u8>,
    /// See `user`.
    pub password: Vec<u8>,
    /// The port that others reach it at.
    pub port: u16,
    /// The address that others reach it at; empty for the one it connects from.
    pub ip: Vec<u8>,
    /// The version whose data it understands.
    pub version: String,
}

/// Where the stream is gone on with, if that is possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The history's id.
    pub id: String,
    /// The offset of the next byte that is wanted.
    pub next: u64,
    /// Whether this server led until now, and the other one is to (FAILOVER).
    pub hands_over: bool,
}

/// What has been heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that is whole yet.
    Nothing,
    /// All data will come, which is that at an offset of a history; so many bytes, if that is known.
    Full {
        /// The history's id.
        id: String,
        /// The offset.
        offset: u64,
    },
    /// The data begins; so many bytes, if that is known.
    Begins(Option<u64>),
    /// So many of the bytes that were fed are data.
    Data(usize),
    /// The data is whole. The stream follows.
    Whole,
    /// The stream goes on where this server was, perhaps under another id.
    Continues(Option<String>),
}

/// Why a link is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It may be later.
    #[error("Primary is currently unable to PSYNC: {0}")]
    NotNow(String),
    /// It is not as the two are configured.
    #[error("{0}")]
    Never(String),
}

/// What the primary's next line answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Ping,
    Auth,
    Port,
    Ip,
    Capa,
    Version,
    Psync,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Asking(Asked),
    /// The line that says how long the data is.
    Announced,
    /// So many bytes of data are to come.
    Counted(u64),
    /// Data comes until a mark.
    Marked(Box<[u8; MARK_BYTES]>),
    Streaming,
}

/// See the module's head.
#[derive(Debug)]
pub struct Link {
    about: Introduction,
    known: Option<Known>,
    state: State,
    to_ask: VecDeque<Asked>,
    output: Vec<u8>,
}

impl Link {
    /// A connection that has just been made.
    pub fn new(about: Introduction, known: Option<Known>) -> Link {
        let mut to_ask = VecDeque::new();
        if !about.password.is_empty() {
            to_ask.push_back(Asked::Auth);
        }
        to_ask.push_back(Asked::Port);
        if !about.ip.is_empty() {
            to_ask.push_back(Asked::Ip);
        }
        to_ask.extend([Asked::Capa, Asked::Version, Asked::Psync]);
        let mut link =
            Link { about, known, state: State::Asking(Asked::Ping), to_ask, output: Vec::new() };
        link.say(&[b"PING"]);
        link
    }

    /// What is to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Whether the two are still being introduced.
    pub fn is_introducing(&self) -> bool {
        matches!(self.state, State::Asking(_))
    }

    /// Whether what comes is the stream.
    pub fn is_streaming(&self) -> bool {
        self.state == State::Streaming
    }

    /// Hears what has come: how many bytes of it are dealt with, and what they say. The rest is to be at
    /// the front of the next call's input.
    ///
    /// # Errors
    /// When the primary refuses, or says what no primary says: the link is over.
    pub fn hear(&mut self, input: &[u8]) -> Result<(usize, Heard), Refusal> {
        match &mut self.state {
            State::Streaming => Ok((0, Heard::Nothing)),
            State::Counted(0) => {
                self.state = State::Streaming;
                Ok((0, Heard::Whole))
            }
            State::Counted(left) => {
                let some = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= some as u64;
                Ok((some, if some == 0 { Heard::Nothing } else { Heard::Data(some) }))
            }
            State::Marked(mark) => match data_before(input, mark) {
                (0, true) => {
                    self.state = State::Streaming;
                    Ok((MARK_BYTES, Heard::Whole))
                }
                (0, false) => Ok((0, Heard::Nothing)),
                (data, _) => Ok((data, Heard::Data(data))),
            },
            State::Asking(_) | State::Announced => self.hear_line(input),
        }
    }

    fn hear_line(&mut self, input: &[u8]) -> Result<(usize, Heard), Refusal> {
        let Some(end) = input.iter().take(LINE_MAX).position(|byte| *byte == b'\n') else {
            return match input.len() >= LINE_MAX {
                true => Err(Refusal::Never("The primary sends a line without an end".to_owned())),
                false => Ok((0, Heard::Nothing)),
            };
        };
        let line = &input[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A newline is a sign of life.
        if line.is_empty() {
            return Ok((end + 1, Heard::Nothing));
        }
        let heard = match self.state {
            State::Asking(asked) => self.answered(asked, line)?,
            _ => self.announced(line)?,
        };
        Ok((end + 1, heard))
    }

    fn answered(&mut self, asked: Asked, line: &[u8]) -> Result<Heard, Refusal> {
        let text = String::from_utf8_lossy(line).into_owned();
        let is_error = line.starts_with(b"-");
        match asked {
            // Whoever wants to know more before it answers is there all the same.
            Asked::Ping if !line.starts_with(b"+") => {
                let code = ["-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
                if !code.iter().any(|code| text.starts_with(code)) {
                    return Err(Refusal::Never(format!(
                        "Error reply to PING from primary: '{text}'"
                    )));
                }
            }
            Asked::Auth if is_error => {
                let text = format!("Unable to AUTH to MASTER: {text}");
                return Err(Refusal::Never(text));
            }
            Asked::Port | Asked::Ip | Asked::Capa | Asked::Version if is_error => {
                tracing::debug!("The primary does not understand what it is told: {text}");
            }
            Asked::Psync => return self.answered_psync(&text),
            _ => {}
        }
        self.ask_next();
        Ok(Heard::Nothing)
    }

    fn answered_psync(&mut self, text: &str) -> Result<Heard, Refusal> {
        let mut words = text.split_ascii_whitespace();
        match words.next() {
            Some("+FULLRESYNC") => {
                let (id, offset) = (words.next(), words.next());
                let offset = offset.and_then(|word| parse_u64(word.as_bytes()));
                let (Some(id), Some(offset)) = (id.filter(|id| is_id(id)), offset) else {
                    let text = "Primary replied with wrong +FULLRESYNC syntax.".to_owned();
                    return Err(Refusal::Never(text));
                };
                self.state = State::Announced;
                Ok(Heard::Full { id: id.to_owned(), offset })
            }
            Some("+CONTINUE") if self.known.is_some() => {
                let id = words.next();
                if id.is_some_and(|id| !is_id(id)) {
                    let text = "Primary replied with wrong +CONTINUE syntax.".to_owned();
                    return Err(Refusal::Never(text));
                }
                self.state = State::Streaming;
                Ok(Heard::Continues(id.map(str::to_owned)))
            }
            Some("-NOMASTERLINK" | "-LOADING") => Err(Refusal::NotNow(text.to_owned())),
            _ => Err(Refusal::Never(format!("Unexpected reply to PSYNC from primary: {text}"))),
        }
    }

    fn announced(&mut self, line: &[u8]) -> Result<Heard, Refusal> {
        let text = String::from_utf8_lossy(line).into_owned();
        if line.starts_with(b"-") {
            return Err(Refusal::NotNow(format!(
                "MASTER aborted replication with an error: {text}"
            )));
        }
        let Some(rest) = line.strip_prefix(b"$") else {
            let text = format!("Bad protocol from MASTER, the first byte is not '$': {text}");
            return Err(Refusal::Never(text));
        };
        if let Some(mark) = rest.strip_prefix(b"EOF:") {
            let Ok(mark) = <[u8; MARK_BYTES]>::try_from(mark) else {
                return Err(Refusal::Never("The mark of the data's end is too short".to_owned()));
            };
            self.state = State::Marked(Box::new(mark));
            return Ok(Heard::Begins(None));
        }
        let length = parse_i64(rest).and_then(|length| u64::try_from(length).ok());
        let Some(length) = length.filter(|length| *length > 0) else {
            return Err(Refusal::Never(format!("The data has no length that can be: {text}")));
        };
        self.state = State::Counted(length);
        Ok(Heard::Begins(Some(length)))
    }

    fn ask_next(&mut self) {
        let Some(asked) = self.to_ask.pop_front() else { return };
        self.state = State::Asking(asked);
        let about = self.about.clone();
        match asked {
            Asked::Ping => self.say(&[b"PING"]),
            Asked::Auth if about.user.is_empty() => self.say(&[b"AUTH", &about.password]),
            Asked::Auth => self.say(&[b"AUTH", &about.user, &about.password]),
            Asked::Port => {
                let mut port = itoa::Buffer::new();
                let port = port.format(about.port).as_bytes();
                self.say(&[b"REPLCONF", b"listening-port", port]);
            }
            Asked::Ip => self.say(&[b"REPLCONF", b"ip-address", &about.ip]),
            Asked::Capa => self.say(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]),
            Asked::Version => self.say(&[b"REPLCONF", b"version", about.version.as_bytes()]),
            Asked::Psync => match self.known.clone() {
                Some(Known { id, next, hands_over }) => {
                    let mut number = itoa::Buffer::new();
                    let words: [&[u8]; 4] =
                        [b"PSYNC", id.as_bytes(), number.format(next).as_bytes(), b"FAILOVER"];
                    self.say(&words[..3 + usize::from(hands_over)]);
                }
                None => self.say(&[b"PSYNC", b"?", b"-1"]),
            },
        }
    }

    fn say(&mut self, words: &[&[u8]]) {
        say(&mut self.output, words);
    }
}

/// Appends a command.
pub fn say(out: &mut Vec<u8>, words: &[&[u8]]) {
    let mut number = itoa::Buffer::new();
    let mut header = |out: &mut Vec<u8>, sigil: u8, n: usize| {
        out.push(sigil);
        out.extend_from_slice(number.format(n).as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    header(out, b'*', words.len());
    for word in words {
        header(out, b'$', word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// What this server says of how far it is.
pub fn acknowledge(out: &mut Vec<u8>, offset: u64) {
    let mut number = itoa::Buffer::new();
    say(out, &[b"REPLCONF", b"ACK", number.format(offset).as_bytes()]);
}

/// Whether a word can be a history's id.
pub fn is_id(word: &str) -> bool {
    word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// How many bytes are data for sure, and whether the mark follows: what may be the beginning of the mark
/// stays. The mark is 40 random digits, so it is looked for by its first.
fn data_before(input: &[u8], mark: &[u8; MARK_BYTES]) -> (usize, bool) {
    let mut at = 0;
    while let Some(found) = input[at..].iter().position(|byte| *byte == mark[0]) {
        at += found;
        let rest = &input[at..];
        match rest.len() >= MARK_BYTES {
            true if rest.starts_with(mark) => return (at, true),
            false if mark.starts_with(rest) => return (at, false),
            _ => at += 1,
        }
    }
    (input.len(), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Random;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";
    const MARK: &str = "aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbb";

    fn about() -> Introduction {
        Introduction { port: 7, version: "8.0.0".to_owned(), ..Introduction::default() }
    }

    fn known() -> Option<Known> {
        Some(Known { id: ID.to_owned(), next: 11, hands_over: false })
    }

    /// Says everything to a link in pieces of a size; returns what it heard with the data joined, how much
    /// was left for the stream, and all it said.
    fn talk(link: &mut Link, input: &[u8], piece: usize) -> Result<(Vec<Heard>, Vec<u8>), Refusal> {
        let (mut heard, mut data, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for some in input.chunks(piece) {
            kept.extend_from_slice(some);
            loop {
                let (used, what) = link.hear(&kept)?;
                if let Heard::Data(count) = what {
                    data.extend_from_slice(&kept[..count]);
                }
                let is_over = used == 0 && what == Heard::Nothing;
                kept.drain(..used);
                if !matches!(what, Heard::Nothing | Heard::Data(_)) {
                    heard.push(what);
                }
                if is_over {
                    break;
                }
            }
        }
        data.extend_from_slice(b"|");
        data.extend_from_slice(&kept);
        Ok((heard, data))
    }

    #[test]
    fn what_was_missed_is_asked_for_and_all_of_it_if_that_is_given() {
        let answers = format!(
            "+PONG\r\n+OK\r\n\n+OK\r\n-ERR Unrecognized REPLCONF option: version\r\n\n\n\
             +FULLRESYNC {ID} 77\r\n\n$EOF:{MARK}\r\nREDIS aaab{MARK}*1\r\n"
        );
        for piece in 1..answers.len() {
            let mut link = Link::new(about(), known());
            let (heard, data) = talk(&mut link, answers.as_bytes(), piece).expect("a primary");
            let full = Heard::Full { id: ID.to_owned(), offset: 77 };
            assert_eq!(heard, [full, Heard::Begins(None), Heard::Whole]);
            assert_eq!(String::from_utf8_lossy(&data), "REDIS aaab|*1\r\n");
            assert!(link.is_streaming());
            let said = String::from_utf8(link.take_output()).expect("text");
            let said: Vec<&str> = said.split("\r\n").collect();
            for word in ["PING", "listening-port", "7", "psync2", "version", "PSYNC", ID, "11"] {
                assert!(said.contains(&word), "{word} in {said:?}");
            }
        }
    }

    #[test]
    fn data_of_a_known_length() {
        let answers = format!("+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC {ID} 0\r\n$5\r\nREDIS*1");
        for piece in 1..answers.len() {
            let mut link = Link::new(about(), None);
            let (heard, data) = talk(&mut link, answers.as_bytes(), piece).expect("a primary");
            assert_eq!(heard[1..], [Heard::Begins(Some(5)), Heard::Whole]);
            assert_eq!(data, b"REDIS|*1");
        }
    }

    #[test]
    fn the_stream_goes_on_perhaps_under_another_name() {
        for (line, id) in [("+CONTINUE".to_owned(), None), (format!("+CONTINUE {ID}"), Some(ID))] {
            let about = Introduction { password: b"p".to_vec(), ip: b"h".to_vec(), ..about() };
            let mut link = Link::new(about, known());
            let answers = format!("-NOAUTH\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n{line}\r\n*1");
            let (heard, data) = talk(&mut link, answers.as_bytes(), 3).expect("a primary");
            assert_eq!(heard, [Heard::Continues(id.map(str::to_owned))]);
            assert_eq!(data, b"|*1");
        }
    }

    #[test]
    fn what_no_primary_says_ends_it() {
        let fine = "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n";
        let full = format!("{fine}+FULLRESYNC {ID} 1\r\n");
        for (text, wanted) in [
            ("-ERR max number of clients reached\r\n".to_owned(), "PING"),
            (format!("{fine}+FULLRESYNC short 1\r\n"), "FULLRESYNC"),
            (format!("{fine}+FULLRESYNC {ID} x\r\n"), "FULLRESYNC"),
            // Nothing is known that could be gone on with.
            (format!("{fine}+CONTINUE\r\n"), "Unexpected"),
            (format!("{fine}-ERR unknown command\r\n"), "Unexpected"),
            (format!("{full}*1\r\n"), "'$'"),
            (format!("{full}$-5\r\n"), "length"),
            (format!("{full}$99999999999999999999\r\n"), "length"),
            (format!("{full}$EOF:short\r\n"), "mark"),
            ("x".repeat(LINE_MAX), "without an end"),
        ] {
            let refusal = talk(&mut Link::new(about(), None), text.as_bytes(), 100);
            let Err(Refusal::Never(reason)) = refusal else { panic!("{text}: {refusal:?}") };
            assert!(reason.contains(wanted), "{reason}");
        }
        for line in ["-NOMASTERLINK no\r\n", "-LOADING yes\r\n"] {
            let text = format!("{fine}{line}");
            let refusal = talk(&mut Link::new(about(), None), text.as_bytes(), 100);
            assert!(matches!(refusal, Err(Refusal::NotNow(_))), "{refusal:?}");
        }
    }

    #[test]
    fn who_hands_its_place_over_says_so() {
        let known = known().map(|known| Known { hands_over: true, ..known });
        let mut link = Link::new(about(), known);
        let answers = b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+CONTINUE\r\n";
        let heard = talk(&mut link, answers, 100).map(|(heard, _)| heard);
        assert_eq!(heard, Ok(vec![Heard::Continues(None)]));
        let said = String::from_utf8(link.take_output()).expect("text");
        assert!(said.ends_with("\r\n$2\r\n11\r\n$8\r\nFAILOVER\r\n"), "{said}");
    }

    #[test]
    fn garbage_is_no_reason_to_panic() {
        const TIMES: u64 = if cfg!(miri) { 20 } else { 20_000 };
        let mut random = Random::new(9);
        let words: [&[u8]; 9] = [
            b"+PONG\r\n",
            b"+OK\r\n",
            b"\n",
            b"$EOF:",
            MARK.as_bytes(),
            b"\r\n",
            b"$3\r\n",
            b"\xff\0",
            b"+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 3\r\n",
        ];
        for _ in 0..TIMES {
            let count = random.below(12);
            let input: Vec<u8> =
                (0..count).flat_map(|_| words[random.below(9) as usize].to_vec()).collect();
            let piece = 1 + random.below(30) as usize;
            let _ = talk(&mut Link::new(about(), known()), &input, piece);
        }
    }
}

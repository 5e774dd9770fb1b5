//! This server as a replica, towards its primary: what it says and when, and what the primary's bytes
//! mean.
//!
//! ```text
//!   Connecting ─► Handshake ─► Asked ─┬─ CONTINUE ─────────────────────────► Connected
//!                                     └─ FULLRESYNC ─► Head ─► Payload ─► Loading ─┘
//! ```
//!
//! Everything that comes is hostile: lines are bounded, lengths are checked, and whatever does not fit
//! ends the link with a reason. Nothing of the payload is kept but the forty bytes that may be its end;
//! what it is worth, its loader finds out.

use super::history::{ID_DIGITS, is_id};
use crate::base::number::{parse_i64, parse_u64};
use crate::instance::replication::LinkState;
use std::collections::VecDeque;
use std::mem::take;

/// The version that primaries are told. From this one on Valkey sends files of version 80, which are
/// read here; and nothing of what it may send to later ones is claimed.
const VERSION: &str = "9.0.0";

/// Longest line of a primary, in bytes (Redis's figure).
const LINE_BYTES: usize = 1024;

/// Longest file that a primary may announce, in bytes: no disk is as large.
const PAYLOAD_BYTES_MAX: u64 = 1 << 48;

/// How often a primary is told how far this server is, or that it is there, in milliseconds.
const ACK_MS: i64 = 1000;

/// What this server says of itself, and what it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Its user there; empty for the default one.
    pub user: Vec<u8>,
    /// Its password; empty if it needs none.
    pub password: Vec<u8>,
    /// The port where it is reached.
    pub port: u16,
    /// The address where it is reached; empty for the one that it connects from.
    pub ip: Vec<u8>,
    /// The history that it knows, and how many bytes of that.
    pub known: Option<(String, u64)>,
    /// Whether the other one is to become a primary by being asked (FAILOVER).
    pub hands_over: bool,
    /// How long the primary may be silent, in milliseconds.
    pub timeout_ms: i64,
}

/// What a primary's bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// All data will come, as of an offset of a history.
    Full {
        /// The history.
        id: &'a str,
        /// The offset.
        offset: u64,
    },
    /// The stream goes on from where it was, under another id if there is one.
    Continue {
        /// The id.
        id: Option<&'a str>,
    },
    /// The file begins: so long, if that is known.
    Begins {
        /// Its bytes.
        total: Option<u64>,
    },
    /// Some of the file.
    Payload(&'a [u8]),
    /// That was all of it.
    Ends,
    /// Some of the stream.
    Stream(&'a [u8]),
}

/// Why a link ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The primary has been silent.
    #[error("the primary has been silent for too long (repl-timeout)")]
    TimedOut,
    /// It refuses something that this server cannot do without.
    #[error("the primary refuses {0}: {1}")]
    Refused(&'static str, String),
    /// It cannot give anything now.
    #[error("the primary cannot synchronize now: {0}")]
    Later(String),
    /// It says something that nobody says there.
    #[error("the primary says something else than {0}: {1}")]
    Unexpected(&'static str, String),
    /// It says something without end.
    #[error("the primary says a line of more than {LINE_BYTES} bytes")]
    Endless,
    /// It could not make the file.
    #[error("the primary has given up its snapshot: {0}")]
    GivenUp(String),
}

/// See the module's head.
#[derive(Debug)]
pub struct Link {
    setup: Setup,
    state: State,
    /// A line that has not ended.
    line: Vec<u8>,
    /// The offset up to which the stream has been received.
    received: u64,
    /// Bytes of the file that have come.
    transferred: u64,
    heard_ms: i64,
    /// When the primary was last told something beside answers.
    told_ms: i64,
}

#[derive(Debug)]
enum State {
    Connecting,
    /// These replies are outstanding, in this order.
    Handshake(VecDeque<Step>),
    /// PSYNC has been said.
    Asked,
    /// The file's first line is outstanding.
    Head,
    Payload(End),
    Loading,
    Connected,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ping,
    Auth,
    /// A REPLCONF: who does not know it says so, and that is that.
    Conf,
}

/// How the file's end is found.
#[derive(Debug)]
enum End {
    /// After so many more bytes.
    After(u64),
    /// Where the mark is the last that has come; what may be its beginning is held back.
    Mark { mark: [u8; ID_DIGITS], held: Vec<u8> },
}

impl Link {
    /// A link that is being made.
    pub fn new(setup: Setup, now_ms: i64) -> Link {
        Link {
            setup,
            state: State::Connecting,
            line: Vec::new(),
            received: 0,
            transferred: 0,
            heard_ms: now_ms,
            told_ms: now_ms,
        }
    }

    /// How far it is, as everybody may see it.
    pub fn state(&self) -> LinkState {
        match self.state {
            State::Over => LinkState::Connect,
            State::Connecting => LinkState::Connecting,
            State::Handshake(_) | State::Asked => LinkState::Handshake,
            State::Head | State::Payload(_) | State::Loading => LinkState::Sync,
            State::Connected => LinkState::Connected,
        }
    }

    /// The offset up to which the stream has been received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of the file that have been received.
    pub fn transferred(&self) -> u64 {
        self.transferred
    }

    /// The connection is there: begins the handshake.
    pub fn connected(&mut self, now_ms: i64, out: &mut Vec<u8>) {
        self.heard_ms = now_ms;
        self.state = State::Handshake(VecDeque::from([Step::Ping]));
        say(out, &[b"PING"]);
    }

    /// Takes what has come, and tells what it means; what is to be sent is added to `out`.
    ///
    /// # Errors
    /// When the link is of no use: it ends, and means nothing from then on.
    pub fn feed(
        &mut self,
        input: &[u8],
        now_ms: i64,
        out: &mut Vec<u8>,
        heard: &mut dyn FnMut(Heard),
    ) -> Result<(), Fault> {
        self.heard_ms = now_ms;
        let result = self.take_in(input, out, heard);
        if result.is_err() {
            self.state = State::Over;
        }
        result
    }

    /// What was received has been loaded: from now on the stream is followed.
    pub fn loaded(&mut self, now_ms: i64, out: &mut Vec<u8>) {
        if let State::Loading = self.state {
            self.state = State::Connected;
            self.heard_ms = now_ms;
            // A primary that sends files of unknown length waits for this.
            self.acknowledge(self.received, now_ms, out);
        }
    }

    /// Tells the primary that all up to an offset has run here.
    pub fn acknowledge(&mut self, applied: u64, now_ms: i64, out: &mut Vec<u8>) {
        if let State::Connected = self.state {
            self.told_ms = now_ms;
            let mut number = itoa::Buffer::new();
            say(out, &[b"REPLCONF", b"ACK", number.format(applied).as_bytes()]);
        }
    }

    /// Does what is due of time that has passed, where all up to `applied` has run here.
    ///
    /// # Errors
    /// When the primary has been silent for too long: the link ends.
    pub fn tick(&mut self, applied: u64, now_ms: i64, out: &mut Vec<u8>) -> Result<(), Fault> {
        let is_due = now_ms - self.told_ms >= ACK_MS;
        match self.state {
            State::Over => return Ok(()),
            // Nobody listens to the primary meanwhile, and it is told that somebody is there.
            State::Loading => {
                if is_due {
                    self.told_ms = now_ms;
                    out.push(b'\n');
                }
                return Ok(());
            }
            State::Connected if is_due => self.acknowledge(applied, now_ms, out),
            _ => {}
        }
        if now_ms - self.heard_ms > self.setup.timeout_ms {
            self.state = State::Over;
            return Err(Fault::TimedOut);
        }
        Ok(())
    }

    fn take_in(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        heard: &mut dyn FnMut(Heard),
    ) -> Result<(), Fault> {
        while !input.is_empty() {
            match &mut self.state {
                State::Over => return Ok(()),
                State::Loading | State::Connected => {
                    self.received += input.len() as u64;
                    heard(Heard::Stream(take(&mut input)));
                }
                State::Payload(end) => {
                    let (taken, is_over) = end.take(input, heard);
                    self.transferred += taken as u64;
                    input = &input[taken..];
                    if is_over {
                        self.state = State::Loading;
                        heard(Heard::Ends);
                    }
                }
                State::Connecting | State::Handshake(_) | State::Asked | State::Head => {
                    let (piece, is_whole) = match input.iter().position(|byte| *byte == b'\n') {
                        Some(at) => (&input[..at], true),
                        None => (input, false),
                    };
                    if self.line.len() + piece.len() > LINE_BYTES {
                        return Err(Fault::Endless);
                    }
                    self.line.extend_from_slice(piece);
                    input = &input[piece.len() + usize::from(is_whole)..];
                    if is_whole {
                        let line = take(&mut self.line);
                        let line = line.strip_suffix(b"\r").unwrap_or(&line);
                        // An empty one is a sign of life.
                        if !line.is_empty() {
                            self.take_line(line, out, heard)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn take_line(
        &mut self,
        line: &[u8],
        out: &mut Vec<u8>,
        heard: &mut dyn FnMut(Heard),
    ) -> Result<(), Fault> {
        match &mut self.state {
            State::Handshake(steps) => {
                if let Some(step) = steps.pop_front() {
                    step.check(line)?;
                    if step == Step::Ping {
                        self.state = State::Handshake(self.introduce(out));
                    }
                }
                if matches!(&self.state, State::Handshake(steps) if steps.is_empty()) {
                    self.ask(out);
                }
                Ok(())
            }
            State::Asked => self.take_answer(line, heard),
            State::Head => self.take_head(line, heard),
            _ => Err(Fault::Unexpected("nothing", text(line))),
        }
    }

    /// Says who this server is. Returns what is replied to that.
    fn introduce(&self, out: &mut Vec<u8>) -> VecDeque<Step> {
        let Setup { user, password, port, ip, .. } = &self.setup;
        let mut steps = VecDeque::new();
        if !password.is_empty() {
            match user.is_empty() {
                true => say(out, &[b"AUTH", password]),
                false => say(out, &[b"AUTH", user, password]),
            }
            steps.push_back(Step::Auth);
        }
        let mut number = itoa::Buffer::new();
        let mut conf = |words: &[&[u8]]| {
            say(out, &[&[&b"REPLCONF"[..]], words].concat());
            steps.push_back(Step::Conf);
        };
        conf(&[b"listening-port", number.format(*port).as_bytes()]);
        if !ip.is_empty() {
            conf(&[b"ip-address", ip]);
        }
        conf(&[b"capa", b"eof", b"capa", b"psync2"]);
        conf(&[b"version", VERSION.as_bytes()]);
        steps
    }

    fn ask(&mut self, out: &mut Vec<u8>) {
        self.state = State::Asked;
        let mut number = itoa::Buffer::new();
        let (id, next) = match &self.setup.known {
            Some((id, offset)) => (id.as_str(), number.format(offset + 1)),
            None => ("?", "-1"),
        };
        let words: [&[u8]; 4] = [b"PSYNC", id.as_bytes(), next.as_bytes(), b"FAILOVER"];
        say(out, if self.setup.hands_over { &words } else { &words[..3] });
    }

    /// The answer to PSYNC.
    fn take_answer(&mut self, line: &[u8], heard: &mut dyn FnMut(Heard)) -> Result<(), Fault> {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        match words[..] {
            [b"+FULLRESYNC", id, offset] if is_id(id) => {
                let offset = parse_i64(offset).and_then(|offset| u64::try_from(offset).ok());
                let offset = offset.ok_or_else(|| Fault::Unexpected("an offset", text(line)))?;
                (self.state, self.received) = (State::Head, offset);
                heard(Heard::Full { id: &text(id), offset });
            }
            [b"+CONTINUE", ref id @ ..] if id.len() <= 1 && id.iter().all(|id| is_id(id)) => {
                let Some((_, offset)) = self.setup.known else {
                    return Err(Fault::Unexpected("a full synchronization", text(line)));
                };
                (self.state, self.received) = (State::Connected, offset);
                let id = id.first().map(|id| text(id));
                heard(Heard::Continue { id: id.as_deref() });
            }
            [b"-NOMASTERLINK" | b"-LOADING" | b"-MASTERDOWN", ..] => {
                return Err(Fault::Later(text(line)));
            }
            _ if line.starts_with(b"-") => {
                return Err(Fault::Refused("to synchronize", text(line)));
            }
            _ => return Err(Fault::Unexpected("an answer to PSYNC", text(line))),
        }
        Ok(())
    }

    /// The line before the file.
    fn take_head(&mut self, line: &[u8], heard: &mut dyn FnMut(Heard)) -> Result<(), Fault> {
        if line.starts_with(b"-") {
            return Err(Fault::GivenUp(text(line)));
        }
        let unexpected = || Fault::Unexpected("a file's length", text(line));
        let framing = line.strip_prefix(b"$").ok_or_else(unexpected)?;
        let (end, total) = if let Some(mark) = framing.strip_prefix(b"EOF:") {
            let mark = mark.try_into().map_err(|_| unexpected())?;
            (End::Mark { mark, held: Vec::with_capacity(2 * ID_DIGITS) }, None)
        } else {
            let length =
                parse_u64(framing).filter(|length| (1..=PAYLOAD_BYTES_MAX).contains(length));
            let length = length.ok_or_else(unexpected)?;
            (End::After(length), Some(length))
        };
        self.state = State::Payload(end);
        heard(Heard::Begins { total });
        Ok(())
    }
}

impl Step {
    /// Whether a reply lets the handshake go on.
    fn check(self, line: &[u8]) -> Result<(), Fault> {
        match (self, line.first()) {
            (Step::Conf, Some(b'+' | b'-')) | (_, Some(b'+')) => Ok(()),
            // It is there, and wants to know more first.
            (Step::Ping, Some(b'-'))
                if [&b"-NOAUTH"[..], b"-NOPERM", b"-ERR operation not permitted"]
                    .iter()
                    .any(|known| line.starts_with(known)) =>
            {
                Ok(())
            }
            (Step::Ping, Some(b'-')) => Err(Fault::Refused("PING", text(line))),
            (Step::Auth, Some(b'-')) => Err(Fault::Refused("AUTH", text(line))),
            _ => Err(Fault::Unexpected("a reply", text(line))),
        }
    }
}

impl End {
    /// Takes what belongs to the file. Returns how much that is, and whether it was the last.
    fn take(&mut self, input: &[u8], heard: &mut dyn FnMut(Heard)) -> (usize, bool) {
        match self {
            End::After(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= taken as u64;
                heard(Heard::Payload(&input[..taken]));
                (taken, *left == 0)
            }
            End::Mark { mark, held } => {
                let surplus = (held.len() + input.len()).saturating_sub(ID_DIGITS);
                let of_held = surplus.min(held.len());
                if of_held > 0 {
                    heard(Heard::Payload(&held[..of_held]));
                    held.drain(..of_held);
                }
                let of_input = surplus - of_held;
                if of_input > 0 {
                    heard(Heard::Payload(&input[..of_input]));
                }
                held.extend_from_slice(&input[of_input..]);
                (input.len(), held[..] == mark[..])
            }
        }
    }
}

/// A command as it is sent.
fn say(out: &mut Vec<u8>, words: &[&[u8]]) {
    let mut number = itoa::Buffer::new();
    let mut head = |out: &mut Vec<u8>, sigil: u8, len: usize| {
        out.push(sigil);
        out.extend_from_slice(number.format(len).as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    head(out, b'*', words.len());
    for word in words {
        head(out, b'$', word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Random;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";
    const MARK: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcd";

    fn setup() -> Setup {
        Setup { port: 7000, timeout_ms: 60_000, ..Setup::default() }
    }

    /// What a primary's bytes meant, pieces of file and stream put together.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Transcript {
        said: Vec<String>,
        payload: Vec<u8>,
        stream: Vec<u8>,
    }

    impl Transcript {
        fn hear(&mut self, heard: Heard) {
            match heard {
                Heard::Payload(bytes) => self.payload.extend_from_slice(bytes),
                Heard::Stream(bytes) => self.stream.extend_from_slice(bytes),
                other => self.said.push(format!("{other:?}")),
            }
        }
    }

    /// Feeds a link pieces of what a primary says.
    fn feed<'a>(
        setup: Setup,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Link, Transcript, String, Result<(), Fault>) {
        let (mut link, mut out) = (Link::new(setup, 0), Vec::new());
        let mut transcript = Transcript::default();
        link.connected(0, &mut out);
        let mut heard = |heard: Heard| transcript.hear(heard);
        let result =
            pieces.into_iter().try_for_each(|piece| link.feed(piece, 0, &mut out, &mut heard));
        let said = out.strip_prefix(b"*1\r\n$4\r\nPING\r\n").expect("it begins so");
        (link, transcript, String::from_utf8(said.to_vec()).expect("text"), result)
    }

    fn fault(input: &str) -> Fault {
        let (link, _, _, result) = feed(setup(), [input.as_bytes()]);
        assert_eq!(link.state(), LinkState::Connect);
        result.expect_err("a fault")
    }

    /// PONG, and what is replied to three REPLCONFs.
    const HANDSHAKE: &str = "+PONG\r\n+OK\r\n+OK\r\n-ERR Unrecognized REPLCONF option: version\r\n";

    fn marked(payload: &str) -> String {
        format!("{HANDSHAKE}\n+FULLRESYNC {ID} 50\r\n\n\n$EOF:{MARK}\r\n{payload}{MARK}")
    }

    #[test]
    fn the_handshake_says_who_this_is() {
        let (_, _, said, result) = feed(setup(), [HANDSHAKE.as_bytes()]);
        assert_eq!(result, Ok(()));
        let words: Vec<&str> =
            said.split("\r\n").filter(|word| !word.starts_with(['*', '$'])).collect();
        assert_eq!(
            words.join(" ").trim(),
            "REPLCONF listening-port 7000 REPLCONF capa eof capa psync2 REPLCONF version 9.0.0 PSYNC ? -1"
        );
        let known = Some((ID.to_owned(), 99));
        let (user, password) = (b"me".to_vec(), b"secret".to_vec());
        let setup = Setup { user, password, known, ip: b"h".to_vec(), hands_over: true, ..setup() };
        let more = "-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n";
        let (_, _, said, _) = feed(setup, [more.as_bytes()]);
        assert!(said.starts_with("*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n"), "{said}");
        assert!(said.contains("ip-address\r\n$1\r\nh\r\n"), "{said}");
        assert!(said.ends_with(&format!("{ID}\r\n$3\r\n100\r\n$8\r\nFAILOVER\r\n")), "{said}");
    }

    #[test]
    fn a_file_of_either_kind_is_cut_out_exactly_wherever_it_is_split() {
        let inputs = [
            marked("the file"),
            // What looks like the mark's beginning is the file's.
            marked(&MARK[..39]),
            marked(""),
            format!("{HANDSHAKE}+FULLRESYNC {ID} 50\r\n\n$8\r\nthe filethe stream"),
        ];
        let wanted = [("the file", ""), (&MARK[..39], ""), ("", ""), ("the file", "the stream")];
        for (input, (payload, stream)) in inputs.iter().zip(wanted) {
            let input = input.as_bytes();
            let (whole, expected, said, result) = feed(setup(), [input]);
            assert_eq!(result, Ok(()));
            assert_eq!(
                (&expected.payload[..], &expected.stream[..]),
                (payload.as_bytes(), stream.as_bytes())
            );
            assert_eq!(expected.said.last().map(String::as_str), Some("Ends"));
            assert_eq!(
                (whole.state(), whole.received()),
                (LinkState::Sync, 50 + stream.len() as u64)
            );
            for at in 0..=input.len() {
                let split = feed(setup(), [&input[..at], &input[at..]]);
                assert_eq!((&split.1, &split.2), (&expected, &said), "split at {at}");
            }
            let bytewise = feed(setup(), input.chunks(1));
            assert_eq!((bytewise.1, bytewise.2), (expected, said));
        }
    }

    #[test]
    fn what_is_loaded_is_acknowledged_and_the_stream_followed() {
        let (mut link, ..) = feed(setup(), [marked("x").as_bytes()]);
        let mut out = Vec::new();
        assert_eq!(link.tick(0, 1000, &mut out), Ok(()));
        assert_eq!(link.tick(0, 100_000, &mut out), Ok(()), "nobody listens to it meanwhile");
        assert_eq!(out, b"\n\n");
        out.clear();
        link.loaded(100_000, &mut out);
        assert_eq!(out, b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n50\r\n");
        let mut stream = Vec::new();
        let mut hear = |heard: Heard| match heard {
            Heard::Stream(bytes) => stream.extend_from_slice(bytes),
            other => panic!("{other:?}"),
        };
        assert_eq!(link.feed(b"*1\r\n$4\r\nPING\r\n", 100_500, &mut out, &mut hear), Ok(()));
        assert_eq!((link.state(), link.received()), (LinkState::Connected, 64));
        out.clear();
        assert_eq!(link.tick(64, 100_999, &mut out), Ok(()));
        assert_eq!(out, b"");
        assert_eq!(link.tick(64, 101_000, &mut out), Ok(()));
        assert!(out.ends_with(b"ACK\r\n$2\r\n64\r\n"));
        assert_eq!(link.tick(64, 160_501, &mut out), Err(Fault::TimedOut));
        assert_eq!((link.state(), stream.len()), (LinkState::Connect, 14));
    }

    #[test]
    fn a_stream_that_goes_on_may_have_a_new_id() {
        for (line, said) in [
            ("+CONTINUE".to_owned(), "Continue { id: None }".to_owned()),
            (format!("+CONTINUE {ID}"), format!("Continue {{ id: Some({ID:?}) }}")),
        ] {
            let known = Some((ID.to_owned(), 99));
            let input = format!("{HANDSHAKE}{line}\r\n\nstream");
            let (link, heard, _, result) = feed(Setup { known, ..setup() }, [input.as_bytes()]);
            assert_eq!((result, heard.said), (Ok(()), vec![said]));
            // From the answer on every byte counts.
            assert_eq!((heard.stream, link.received()), (b"\nstream".to_vec(), 106));
        }
    }

    #[test]
    fn silence_ends_every_stage() {
        for input in ["", "+PONG\r\n", HANDSHAKE, &marked("x")[..HANDSHAKE.len() + 60]] {
            let (mut link, ..) = feed(setup(), [input.as_bytes()]);
            assert_eq!(link.tick(0, 60_000, &mut Vec::new()), Ok(()));
            assert_eq!(link.tick(0, 60_001, &mut Vec::new()), Err(Fault::TimedOut), "{input}");
            assert_eq!(link.tick(0, 90_000, &mut Vec::new()), Ok(()), "once");
        }
        let mut link = Link::new(setup(), 0);
        assert_eq!(link.state(), LinkState::Connecting);
        assert_eq!(link.tick(0, 60_001, &mut Vec::new()), Err(Fault::TimedOut));
    }

    #[test]
    fn what_does_not_fit_ends_the_link() {
        let answer = |line: &str| fault(&format!("{HANDSHAKE}{line}\r\n"));
        let head = |line: &str| fault(&format!("{HANDSHAKE}+FULLRESYNC {ID} 0\r\n{line}\r\n"));
        assert!(matches!(fault("-ERR go away\r\n"), Fault::Refused("PING", _)));
        assert!(matches!(fault("HTTP/1.1 400 Bad Request\r\n"), Fault::Unexpected(..)));
        assert!(matches!(fault("+PONG\r\n:1\r\n"), Fault::Unexpected(..)));
        assert_eq!(fault(&"x".repeat(LINE_BYTES + 1)), Fault::Endless);
        assert!(matches!(answer("-NOMASTERLINK Can't SYNC"), Fault::Later(_)));
        assert!(matches!(answer("-LOADING"), Fault::Later(_)));
        assert!(matches!(answer("-NOAUTH Authentication required."), Fault::Refused(..)));
        for line in [
            "+CONTINUE",
            "+CONTINUE x y",
            "+FULLRESYNC",
            "+FULLRESYNC abc 1",
            &format!("+FULLRESYNC {ID}"),
            &format!("+FULLRESYNC {ID} -1"),
            &format!("+FULLRESYNC {ID} 99999999999999999999"),
            &format!("+FULLRESYNC {ID} 1 1"),
            "$5",
        ] {
            assert!(matches!(answer(line), Fault::Unexpected(..)), "{line}");
        }
        assert!(matches!(head("-ERR no disk"), Fault::GivenUp(_)));
        for line in [
            "$-1",
            "$0",
            "$",
            "$x",
            "$EOF:short",
            "$99999999999999999999",
            "$281474976710657",
            "+OK",
        ] {
            assert!(matches!(head(line), Fault::Unexpected(..)), "{line}");
        }
        let password = b"wrong".to_vec();
        let input = "-NOAUTH x\r\n-WRONGPASS invalid username-password pair\r\n";
        let (.., result) = feed(Setup { password, ..setup() }, [input.as_bytes()]);
        assert!(matches!(result, Err(Fault::Refused("AUTH", _))));
    }

    #[test]
    fn garbage_ends_it_or_is_the_file_and_nothing_panics() {
        let mut random = Random::new(11);
        let words: [&[u8]; 10] = [
            HANDSHAKE.as_bytes(),
            b"+FULLRESYNC ",
            ID.as_bytes(),
            b" 7\r\n",
            b"$EOF:",
            MARK.as_bytes(),
            b"\r\n",
            b"$12\r\n",
            b"+CONTINUE",
            b"-ERR\n",
        ];
        for _ in 0..20_000 {
            let mut input = Vec::new();
            for _ in 0..1 + random.below(12) {
                match random.below(3) {
                    0 => input.push(random.next_u64() as u8),
                    _ => input.extend_from_slice(words[random.below(10) as usize]),
                }
            }
            let known = (random.below(2) == 0).then(|| (ID.to_owned(), 5));
            let setup = Setup { known, ..setup() };
            let whole = feed(setup.clone(), [&input[..]]);
            let at = random.below(input.len() as u64 + 1) as usize;
            let split = feed(setup, [&input[..at], &input[at..]]);
            // Whether a mark is the last that has come depends on what comes at a time.
            if !input.windows(5).any(|window| window == b"$EOF:") {
                assert_eq!((whole.1, whole.2, whole.3), (split.1, split.2, split.3));
            }
            assert!(whole.0.line.len() <= LINE_BYTES);
        }
    }
}

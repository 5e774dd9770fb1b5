//! What has to come back: a second reader of the protocol, written the plain way (the whole input at
//! hand, everything copied), and a reader of replies that forgives nothing.

use super::drive::{BULK_MAX, PASSWORD};

/// Longest line, by the protocol. Peers look at a line's length only while its end is missing, so a
/// longer one gets through when its end comes along with it ([`Lines`]).
pub const LINE_MAX: usize = 64 * 1024;

/// When a line that is too long is noticed: what comes in pieces may be either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    Whole,
    Pieces,
}

/// What stands at a place of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Command(Vec<Vec<u8>>),
    /// The text after `-ERR Protocol error: `.
    Refused(String),
    /// The end, or an unfinished command.
    End,
}

/// Reads one command from `at` on, as a client that may or may not have authenticated.
pub fn step(input: &[u8], at: &mut usize, stranger: bool, lines: Lines) -> Step {
    loop {
        let Some(&first) = input.get(*at) else {
            return Step::End;
        };
        let words = if first == b'*' {
            multibulk(input, at, stranger, lines)
        } else {
            inline(input, at, lines)
        };
        match words {
            Ok(words) if words.is_empty() => {}
            Ok(words) => return Step::Command(words),
            Err(step) => return step,
        }
    }
}

fn refused<T>(text: &str) -> Result<T, Step> {
    Err(Step::Refused(text.into()))
}

fn multibulk(
    input: &[u8],
    at: &mut usize,
    stranger: bool,
    lines: Lines,
) -> Result<Vec<Vec<u8>>, Step> {
    let (mut words, mut here) = (Vec::new(), *at + 1);
    let count = integer(line(input, &mut here, "too big mbulk count string", lines)?);
    let Some(count) = count.filter(|count| *count <= i64::from(i32::MAX)) else {
        return refused("invalid multibulk length");
    };
    if stranger && count > 10 {
        return refused("unauthenticated multibulk length");
    }
    for _ in 0..count {
        let Some(&sigil) = input.get(here) else {
            return Err(Step::End);
        };
        if sigil != b'$' {
            // The line has to be there before its sign is looked at.
            let long = "too big bulk count string";
            match line(input, &mut here, long, lines) {
                Err(Step::Refused(text)) if text == long => return refused(long),
                Err(Step::End) => return Err(Step::End),
                _ => {}
            }
            let shown = if matches!(sigil, b'\r' | b'\n') { ' ' } else { char::from(sigil) };
            return refused(&format!("expected '$', got '{shown}'"));
        }
        here += 1;
        let length = line(input, &mut here, "too big bulk count string", lines)?;
        let length = integer(length).and_then(|length| usize::try_from(length).ok());
        let Some(length) = length.filter(|length| *length <= BULK_MAX) else {
            return refused("invalid bulk length");
        };
        if stranger && length > 16_384 {
            return refused("unauthenticated bulk length");
        }
        if input.len() < here + length + 2 {
            return Err(Step::End);
        }
        words.push(input[here..here + length].to_vec());
        here += length;
        if &input[here..here + 2] != b"\r\n" {
            return refused("invalid CRLF in request");
        }
        here += 2;
    }
    *at = here;
    Ok(words)
}

/// The text up to the line's end.
fn line<'a>(
    input: &'a [u8],
    at: &mut usize,
    too_long: &str,
    lines: Lines,
) -> Result<&'a [u8], Step> {
    let rest = &input[*at..];
    match rest.iter().position(|byte| *byte == b'\r') {
        Some(end) if end > LINE_MAX && lines == Lines::Pieces => refused(too_long),
        None if rest.len() > LINE_MAX => refused(too_long),
        Some(end) if end + 1 < rest.len() => {
            if rest[end + 1] != b'\n' {
                return refused("invalid CRLF in request");
            }
            *at += end + 2;
            Ok(&rest[..end])
        }
        _ => Err(Step::End),
    }
}

/// A number in its only spelling.
fn integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn inline(input: &[u8], at: &mut usize, lines: Lines) -> Result<Vec<Vec<u8>>, Step> {
    let rest = &input[*at..];
    let end = rest.iter().position(|byte| *byte == b'\n');
    let too_long = end.unwrap_or(rest.len()) > LINE_MAX;
    if too_long && (end.is_none() || lines == Lines::Pieces) {
        return refused("too big inline request");
    }
    let Some(end) = end else {
        return Err(Step::End);
    };
    *at += end + 1;
    let text = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
    match split(text) {
        Some(words) => Ok(words),
        None => refused("unbalanced quotes in request"),
    }
}

/// Splits a line into words as a shell would; `None` where a quote stays open. A NUL ends the line;
/// vertical tab and form feed are blanks before a word, and part of one that has begun.
fn split(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut words, mut word) = (Vec::new(), None::<Vec<u8>>);
    let mut bytes = text.iter().copied().take_while(|byte| *byte != 0).peekable();
    while let Some(byte) = bytes.next() {
        let begun = word.is_some();
        if b" \t\r\n".contains(&byte) || (!begun && b"\x0b\x0c".contains(&byte)) {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        if byte != b'"' && byte != b'\'' {
            word.push(byte);
            continue;
        }
        loop {
            match bytes.next()? {
                end if end == byte => break,
                b'\\' if byte == b'"' => {
                    let mut ahead = bytes.clone();
                    let hex = match (ahead.next()?, ahead.next(), ahead.next()) {
                        (b'x', Some(high), Some(low)) => nibble(high).zip(nibble(low)),
                        _ => None,
                    };
                    if let Some((high, low)) = hex {
                        bytes = ahead;
                        word.push(16 * high + low);
                        continue;
                    }
                    word.push(match bytes.next()? {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => other,
                    });
                }
                b'\\' if bytes.peek() == Some(&b'\'') => word.extend(bytes.next()),
                other => word.push(other),
            }
        }
    }
    words.extend(word);
    Some(words)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// One top-level reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    pub bytes: &'a [u8],
    /// Whether only RESP3 has something in it.
    pub resp3: bool,
}

impl Reply<'_> {
    pub fn is_error(&self) -> bool {
        matches!(self.bytes[0], b'-' | b'!')
    }
}

/// Cuts a stream into replies.
pub fn replies(stream: &[u8]) -> Result<Vec<Reply<'_>>, String> {
    let (mut at, mut found) = (0, Vec::new());
    while at < stream.len() {
        let (start, mut resp3) = (at, false);
        reply(stream, &mut at, &mut resp3, 0)?;
        found.push(Reply { bytes: &stream[start..at], resp3 });
    }
    Ok(found)
}

fn reply(stream: &[u8], at: &mut usize, resp3: &mut bool, depth: usize) -> Result<(), String> {
    let start = *at;
    let wrong = |what: &str| {
        let shown = &stream[start..stream.len().min(start + 60)];
        format!("byte {start}: {what}: {}", shown.escape_ascii())
    };
    if depth > 32 {
        return Err(wrong("too deep"));
    }
    let rest = &stream[start..];
    let end = rest
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .ok_or_else(|| wrong("a line without an end"))?;
    let (kind, text) = (rest[0], &rest[1..end.max(1)]);
    if text.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return Err(wrong("a broken line"));
    }
    *at += end + 2;
    let count = || integer(text).ok_or_else(|| wrong("not a number"));
    let size = || {
        let size = count()?;
        usize::try_from(size).map_err(|_| wrong("a negative size"))
    };
    *resp3 |= b"_#,(%~!=>".contains(&kind);
    match kind {
        b'+' => Ok(()),
        b'-' if text.is_empty() => Err(wrong("an empty error")),
        b'-' => Ok(()),
        b':' => count().map(drop),
        b'$' | b'*' if text == b"-1" => Ok(()),
        b'$' | b'!' | b'=' => {
            let size = size()?;
            let body = stream[*at..].get(..size + 2).ok_or_else(|| wrong("cut short"))?;
            *at += size + 2;
            if kind == b'=' && body.get(3) != Some(&b':') {
                return Err(wrong("verbatim without a kind"));
            }
            if body.ends_with(b"\r\n") { Ok(()) } else { Err(wrong("a body that does not end")) }
        }
        b'*' | b'~' | b'>' | b'%' => {
            let size = size()? * (1 + usize::from(kind == b'%'));
            (0..size).try_for_each(|_| reply(stream, at, resp3, depth + 1))
        }
        b'_' if text.is_empty() => Ok(()),
        b'#' if matches!(text, b"t" | b"f") => Ok(()),
        b',' | b'(' if !text.is_empty() => Ok(()),
        _ => Err(wrong("no reply begins so")),
    }
}

/// What a run of one client has to look like.
pub struct Verdict {
    pub commands: usize,
    pub refused: bool,
    /// Whether replies may differ from one run to another, though not in kind.
    pub volatile: bool,
    /// Whether where the client ends may depend on when others are heard.
    pub loose: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    On,
    Off,
    Skip,
}

/// Checks everything a client got for its input: every command answered once, refusals in their
/// words, nothing after the end.
pub fn judge(
    input: &[u8],
    out: &[u8],
    closed: bool,
    password: bool,
    lines: Lines,
) -> Result<Verdict, String> {
    let found = replies(out)?;
    let (mut replies, mut at) = (found.iter(), 0);
    let (mut stranger, mut queueing, mut mode, mut hello) = (password, false, Mode::On, false);
    let mut verdict = Verdict { commands: 0, refused: false, volatile: false, loose: false };
    let over = |mut rest: std::slice::Iter<Reply>, wanted: bool| {
        if closed != wanted {
            return Err(format!("closed: {closed}, not {wanted}"));
        }
        match rest.next() {
            None => Ok(()),
            Some(more) => Err(format!("a reply too many: {}", more.bytes.escape_ascii())),
        }
    };
    loop {
        let words = match step(input, &mut at, stranger, lines) {
            Step::Command(words) => words,
            Step::End if verdict.loose => return Ok(verdict),
            Step::End => {
                over(replies, false)?;
                return Ok(verdict);
            }
            Step::Refused(text) => {
                verdict.refused = true;
                let expected = format!("-ERR Protocol error: {text}\r\n");
                match replies.next() {
                    Some(reply) if reply.bytes == expected.as_bytes() => over(replies, true)?,
                    None if verdict.loose => {}
                    other => return Err(format!("{other:?} instead of {expected:?}")),
                }
                return Ok(verdict);
            }
        };
        verdict.commands += 1;
        let upper: Vec<Vec<u8>> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
        let word = |at: usize| upper.get(at).map_or(&b""[..], Vec::as_slice);
        let (name, count) = (word(0), words.len());
        if matches!(name, b"POST" | b"HOST:") {
            // HTTP is not answered.
            over(replies, true)?;
            return Ok(verdict);
        }
        verdict.volatile |=
            matches!(name, b"INFO" | b"TIME" | b"RANDOMKEY" | b"MEMORY" | b"LATENCY")
                || matches!(name, b"SLOWLOG" | b"COMMANDLOG")
                || (name == b"CLIENT" && matches!(word(1), b"LIST" | b"INFO"));
        hello |= name == b"HELLO";
        let this = mode;
        if mode == Mode::Skip {
            mode = Mode::On;
        }
        let (mut answered, known) = (this == Mode::On, !stranger);
        let mut ends = false;
        match (name, count) {
            (b"CLIENT", 3) if known && !queueing && word(1) == b"REPLY" => match word(2) {
                b"ON" => (mode, answered) = (Mode::On, true),
                b"OFF" => (mode, answered) = (Mode::Off, false),
                b"SKIP" if this != Mode::Off => (mode, answered) = (Mode::Skip, false),
                b"SKIP" => answered = false,
                _ => {}
            },
            (b"CLIENT", _) if known && word(1) == b"KILL" => verdict.loose = true,
            (b"SHUTDOWN", _) if known => verdict.loose = true,
            (b"MULTI", 1) if known => queueing = true,
            (b"EXEC", _) | (b"DISCARD", 1) if known => queueing = false,
            (b"RESET", 1) => {
                (stranger, queueing, mode, answered) = (password, false, Mode::On, true);
            }
            (b"QUIT", _) => ends = true,
            _ => {}
        }
        let mut failed = false;
        if answered {
            let Some(reply) = replies.next() else {
                if verdict.loose && closed {
                    return Ok(verdict);
                }
                let shown: Vec<String> =
                    words.iter().map(|word| word.escape_ascii().to_string()).collect();
                return Err(format!("no reply to command {}: {shown:?}", verdict.commands));
            };
            if reply.resp3 && !hello {
                return Err(format!("RESP3 before HELLO: {}", reply.bytes.escape_ascii()));
            }
            failed = reply.is_error();
        }
        if stranger && !failed {
            stranger = !logs_in(&words, answered);
        }
        if ends {
            over(replies, true)?;
            return Ok(verdict);
        }
    }
}

/// Whether a stranger's command that did not fail, as far as was seen, let it in.
fn logs_in(words: &[Vec<u8>], seen: bool) -> bool {
    let is = |at: usize, word: &str| {
        words.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    };
    if is(0, "AUTH") {
        return seen
            || matches!(words, [_, password] | [_, _, password] if *password == *PASSWORD.as_bytes());
    }
    is(0, "HELLO") && seen
}

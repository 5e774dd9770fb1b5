//! Bytes to commands, resumable at any byte.
//!
//! The parser never copies and never looks at a byte of a command twice: what it knows of an
//! unfinished command is kept beside the bytes. Nothing is reserved on a client's word: spans grow
//! as arguments arrive.

use std::ops::Range;

use super::Span;
use crate::base::{limits, number, words};

/// What a client may send, as configured and as its authentication stands.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest bulk (`proto-max-bulk-len`).
    pub bulk_max: i64,
    /// Whether the client has yet to authenticate: then it may announce very little.
    pub unauthenticated: bool,
}

/// Why a client is told off and closed. The texts are Redis's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// `*` and 64 KiB without a line end.
    #[error("too big mbulk count string")]
    CountLine,
    /// `*` and no number that could be a count.
    #[error("invalid multibulk length")]
    Count,
    /// More than 10 arguments before AUTH.
    #[error("unauthenticated multibulk length")]
    UnauthenticatedCount,
    /// `$` and 64 KiB without a line end.
    #[error("too big bulk count string")]
    LengthLine,
    /// A bulk does not begin with `$`.
    #[error("expected '$', got '{}'", printable(*.0))]
    Sigil(u8),
    /// `$` and no number that could be a length.
    #[error("invalid bulk length")]
    Length,
    /// A bulk over 16 KiB before AUTH.
    #[error("unauthenticated bulk length")]
    UnauthenticatedLength,
    /// 64 KiB of inline command without a line end.
    #[error("too big inline request")]
    Inline,
    /// A line or a bulk does not end with CR and LF (as Valkey 9 checks; Redis does not look).
    #[error("invalid CRLF in request")]
    Crlf,
    /// A quote is not closed.
    #[error("unbalanced quotes in request")]
    Quotes,
}

/// An error reply is one line: a byte that would break it is shown as a space, as Redis does.
fn printable(byte: u8) -> char {
    if byte == b'\r' || byte == b'\n' { ' ' } else { char::from(byte) }
}

/// What one call found.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A command of so many bytes; its spans (none for a blank line) are relative to the input.
    Command(usize),
    /// An inline command of so many bytes with quotes or escapes: the spans are relative to the
    /// bytes given here.
    Unquoted(usize, Vec<u8>),
    /// More bytes are needed: at least this many in all, as far as is known.
    Incomplete(usize),
}

/// The state of one client's input.
#[derive(Debug, Default)]
pub struct Parser {
    /// What is known of a command that has begun and not ended. Boxed: few clients have one.
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Partial {
    spans: Vec<Span>,
    /// The next byte to look at.
    at: usize,
    /// Arguments still to come.
    left: i64,
    /// The length of the bulk that begins at `at`, if its line has been read.
    bulk: Option<usize>,
}

impl Parser {
    /// Whether a command has begun and not ended.
    pub fn is_mid_command(&self) -> bool {
        self.partial.is_some()
    }

    /// Bytes of the spans kept for an unfinished command (its own bytes are the caller's).
    pub fn memory(&self) -> usize {
        self.partial.as_ref().map_or(0, |p| p.spans.capacity() * size_of::<Span>())
    }

    /// Forgets an unfinished command: its bytes will be seen again from its start.
    pub fn restart(&mut self) {
        self.partial = None;
    }

    /// Looks for one command at the start of `input`. After [`Parsed::Incomplete`], the next call's
    /// input must begin with the same bytes, unless [`Parser::restart`] came between. The spans of
    /// a command are appended to `spans`, relative to `input`.
    ///
    /// # Errors
    /// When what has come cannot become a command: the client is told and closed.
    pub fn next(
        &mut self,
        input: &[u8],
        limits: &Limits,
        spans: &mut Vec<Span>,
    ) -> Result<Parsed, ProtocolError> {
        let (mut at, mut left, mut bulk);
        let base = spans.len();
        if let Some(partial) = self.partial.take() {
            (at, left, bulk) = (partial.at, partial.left, partial.bulk);
            if base == 0 {
                *spans = partial.spans;
            } else {
                spans.extend(partial.spans);
            }
        } else {
            match input.first() {
                None => return Ok(Parsed::Incomplete(1)),
                Some(b'*') => {}
                Some(_) => return inline(input, spans),
            }
            let Some((text, next)) = line(input, 1, ProtocolError::CountLine)? else {
                return Ok(Parsed::Incomplete(input.len() + 1));
            };
            let count = small(text).ok_or(ProtocolError::Count)?;
            if count > limits::ARGUMENTS_MAX {
                return Err(ProtocolError::Count);
            }
            if limits.unauthenticated && count > limits::UNAUTHENTICATED_ARGUMENTS_MAX {
                return Err(ProtocolError::UnauthenticatedCount);
            }
            (at, left, bulk) = (next, count, None);
        }
        let mut wanted = input.len() + 1;
        while left > 0 {
            let len = match bulk {
                Some(len) => len,
                None => {
                    match input.get(at) {
                        None => break,
                        Some(b'$') => {}
                        // Redis reads the whole line before it looks at the sigil; a wrong sigil
                        // with no line end yet is waited for up to the limit.
                        Some(&sigil) => match line(input, at, ProtocolError::LengthLine) {
                            Ok(None) => break,
                            Err(ProtocolError::LengthLine) => {
                                return Err(ProtocolError::LengthLine);
                            }
                            _ => return Err(ProtocolError::Sigil(sigil)),
                        },
                    }
                    let Some((text, next)) = line(input, at + 1, ProtocolError::LengthLine)? else {
                        break;
                    };
                    let len = small(text).ok_or(ProtocolError::Length)?;
                    if len < 0 || len > limits.bulk_max {
                        return Err(ProtocolError::Length);
                    }
                    if limits.unauthenticated && len > limits::UNAUTHENTICATED_BULK_MAX {
                        return Err(ProtocolError::UnauthenticatedLength);
                    }
                    at = next;
                    len as usize
                }
            };
            if input.len() < at + len + 2 {
                bulk = Some(len);
                wanted = at + len + 2;
                break;
            }
            if input[at + len..at + len + 2] != *b"\r\n" {
                return Err(ProtocolError::Crlf);
            }
            spans.push(Span { at: at as u32, len: len as u32 });
            at += len + 2;
            left -= 1;
            bulk = None;
        }
        if left <= 0 {
            return Ok(Parsed::Command(at));
        }
        let known = if base == 0 { std::mem::take(spans) } else { spans.split_off(base) };
        self.partial = Some(Box::new(Partial { spans: known, at, left, bulk }));
        Ok(Parsed::Incomplete(wanted))
    }
}

/// The text from `at` to the next CR, and where the line after it begins; `None` while the line is
/// not complete (the byte after CR must have come too).
#[inline]
fn line(
    input: &[u8],
    at: usize,
    too_long: ProtocolError,
) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let rest = &input[at..];
    // Lengths are short: a plain loop over the first few bytes beats a call.
    let short = rest.len().min(12);
    let found = match rest[..short].iter().position(|b| *b == b'\r') {
        Some(i) => Some(i),
        None if rest.len() > short => memchr::memchr(b'\r', &rest[short..]).map(|i| i + short),
        None => None,
    };
    match found {
        Some(i) if i + 1 < rest.len() => {
            if rest[i + 1] != b'\n' {
                return Err(ProtocolError::Crlf);
            }
            Ok(Some((&rest[..i], at + i + 2)))
        }
        Some(_) => Ok(None),
        None if rest.len() > limits::INLINE_MAX => Err(too_long),
        None => Ok(None),
    }
}

/// A length or count: one to three digits, or whatever the strict parser accepts.
#[inline]
fn small(text: &[u8]) -> Option<i64> {
    match *text {
        [a @ b'0'..=b'9'] => Some(i64::from(a - b'0')),
        [a @ b'1'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => number::parse_i64(text),
    }
}

/// An inline command: words in one line, with quotes as a shell has them.
fn inline(input: &[u8], spans: &mut Vec<Span>) -> Result<Parsed, ProtocolError> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        if input.len() > limits::INLINE_MAX {
            return Err(ProtocolError::Inline);
        }
        return Ok(Parsed::Incomplete(input.len() + 1));
    };
    let used = end + 1;
    let text = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    if memchr::memchr2(b'"', b'\'', text).is_some() {
        let mut bytes = Vec::with_capacity(text.len());
        words::split(text, &mut bytes, |word| spans.push(span(word)))
            .ok_or(ProtocolError::Quotes)?;
        return Ok(Parsed::Unquoted(used, bytes));
    }
    spans.extend(words::unquoted(text).map(span));
    Ok(Parsed::Command(used))
}

fn span(word: Range<usize>) -> Span {
    Span { at: word.start as u32, len: word.len() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Limits = Limits { bulk_max: limits::BULK_MAX, unauthenticated: false };

    fn words(input: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let mut spans = Vec::new();
        match Parser::default().next(input, &FREE, &mut spans)? {
            Parsed::Command(used) => {
                assert_eq!(used, input.len());
                Ok(spans.iter().map(|s| s.of(input).to_vec()).collect())
            }
            Parsed::Unquoted(used, bytes) => {
                assert_eq!(used, input.len());
                Ok(spans.iter().map(|s| s.of(&bytes).to_vec()).collect())
            }
            Parsed::Incomplete(_) => panic!("incomplete: {input:?}"),
        }
    }

    #[test]
    fn whole_commands() {
        assert_eq!(
            words(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").unwrap(),
            [b"GET".to_vec(), b"k".to_vec()]
        );
        assert_eq!(words(b"*1\r\n$0\r\n\r\n").unwrap(), [b"".to_vec()]);
        assert!(words(b"*0\r\n").unwrap().is_empty());
        assert!(words(b"*-1\r\n").unwrap().is_empty());
        assert!(words(b"\r\n").unwrap().is_empty());
        assert_eq!(words(b" set  a\tb \r\n").unwrap().len(), 3);
        assert_eq!(
            words(b"set \"a b\" 'it\\'s' \"\\x41\\n\"\n").unwrap()[1..],
            [b"a b".to_vec(), b"it's".to_vec(), b"A\n".to_vec()]
        );
        // Separates words, but doesn't end one.
        assert_eq!(
            words(b"echo a\x0bb \x0bc\n").unwrap()[1..],
            [b"a\x0bb".to_vec(), b"c".to_vec()]
        );
        assert_eq!(words(b"echo \"a\"\x0cb\n").unwrap()[1..], [b"a\x0cb".to_vec()]);
    }

    #[test]
    fn every_split_gives_the_same_command() {
        let input = b"*3\r\n$3\r\nSET\r\n$11\r\nhello world\r\n$12\r\n0123456789ab\r\n";
        for cut in 0..input.len() {
            let (mut parser, mut spans) = (Parser::default(), Vec::new());
            let first = parser.next(&input[..cut], &FREE, &mut spans).unwrap();
            assert!(matches!(first, Parsed::Incomplete(n) if n > cut && n <= input.len()));
            let second = parser.next(input, &FREE, &mut spans).unwrap();
            assert_eq!(second, Parsed::Command(input.len()));
            assert_eq!(spans.len(), 3);
            assert_eq!(spans[1].of(input), b"hello world");
            assert!(!parser.is_mid_command());
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(words(b"*x\r\n"), Err(ProtocolError::Count));
        assert_eq!(words(b"*03\r\n"), Err(ProtocolError::Count));
        assert_eq!(words(b"*3000000000\r\n"), Err(ProtocolError::Count));
        assert_eq!(words(b"*1\r\n#3\r\n"), Err(ProtocolError::Sigil(b'#')));
        assert_eq!(words(b"*1\r\n$-1\r\n"), Err(ProtocolError::Length));
        assert_eq!(words(b"*1\r\n$600000000\r\n"), Err(ProtocolError::Length));
        assert_eq!(words(b"get \"a\n"), Err(ProtocolError::Quotes));
        assert_eq!(words(b"get \"a\"b\n").unwrap()[1], b"ab");
        assert_eq!(words(&vec![b'a'; limits::INLINE_MAX + 1]), Err(ProtocolError::Inline));
        let mut long = b"*1".to_vec();
        long.resize(limits::INLINE_MAX + 3, b'1');
        assert_eq!(words(&long), Err(ProtocolError::CountLine));
        assert_eq!(ProtocolError::Sigil(b'#').to_string(), "expected '$', got '#'");
    }

    #[test]
    fn a_stranger_may_announce_little() {
        let limits = Limits { unauthenticated: true, ..FREE };
        let mut spans = Vec::new();
        let refused = Parser::default().next(b"*11\r\n", &limits, &mut spans);
        assert_eq!(refused, Err(ProtocolError::UnauthenticatedCount));
        let refused = Parser::default().next(b"*1\r\n$16385\r\n", &limits, &mut spans);
        assert_eq!(refused, Err(ProtocolError::UnauthenticatedLength));
    }
}

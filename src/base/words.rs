//! Lines to words and back, as configuration files and inline commands quote them.
//!
//! A word may have quoted pieces, also in its middle. In double quotes, `\n` `\r` `\t` `\a` `\b`
//! `\xHH` stand for single bytes and a backslash takes the meaning from any other; in single quotes
//! only `\'` is special. What follows a closing quote directly belongs to the same word, as in
//! Valkey 9 (Redis refuses it). A NUL ends the line, as it does for the peers, who read lines as C's
//! strings.

use std::ops::Range;

/// Splits a line into words; `None` when a quote isn't closed.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut bytes, mut words) = (Vec::with_capacity(line.len()), Vec::new());
    split(line, &mut bytes, |word| words.push(word))?;
    Some(words.into_iter().map(|word| bytes[word].to_vec()).collect())
}

/// Splits a line into words: `found` is told where each of them stands in `bytes`, to which their
/// text is appended without quotes and escapes. `None` when a quote isn't closed.
pub fn split(line: &[u8], bytes: &mut Vec<u8>, mut found: impl FnMut(Range<usize>)) -> Option<()> {
    let mut rest = until_nul(line);
    loop {
        while let [byte, tail @ ..] = rest
            && is_space(*byte)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Some(());
        }
        let from = bytes.len();
        loop {
            match rest {
                [] => break,
                [byte, ..] if ends_word(*byte) => break,
                [quote @ (b'"' | b'\''), tail @ ..] => rest = unquote(*quote, tail, bytes)?,
                [byte, tail @ ..] => {
                    bytes.push(*byte);
                    rest = tail;
                }
            }
        }
        found(from..bytes.len());
    }
}

/// Where the words of a line without quotes stand in it: what [`split`] finds, without a copy.
pub fn unquoted(line: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let line = until_nul(line);
    let mut at = 0;
    std::iter::from_fn(move || {
        at += line[at..].iter().position(|byte| !is_space(*byte))?;
        let from = at;
        let len = line[from..].iter().position(|byte| ends_word(*byte));
        at = len.map_or(line.len(), |len| from + len);
        Some(from..at)
    })
}

fn until_nul(line: &[u8]) -> &[u8] {
    memchr::memchr(0, line).map_or(line, |end| &line[..end])
}

/// What stands between words: C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// What ends a word: vertical tab and form feed separate words, but don't end one.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(split(b"a b\0c \"d"), words(&[b"a", b"b"]));
        assert_eq!(split(b"\0a"), words(&[]));
        assert_eq!(split(br#""a"b 'c'd e"f"g'h'"#), words(&[b"ab", b"cd", b"efgh"]));
        for unbalanced in [&b"\"a"[..], b"'a", b"\"a\\\"", b"a\"b\"c'", b"a \"b", b"\"a\0\""] {
            assert_eq!(split(unbalanced), None, "{}", unbalanced.escape_ascii());
        }
        let every: Vec<u8> = (0..=255).collect();
        let mut quoted = Vec::new();
        quote(&every, &mut quoted);
        assert_eq!(split(&quoted), Some(vec![every]));
    }

    #[test]
    fn lines_without_quotes_need_no_copy() {
        for line in
            [&b""[..], b" ", b"a", b" a\tb \x0bc\x0c d\x0be \r", b"\x0b\x0c", b"a b\0c", b"\0a"]
        {
            let found: Vec<Vec<u8>> = unquoted(line).map(|word| line[word].to_vec()).collect();
            assert_eq!(Some(found), split_args(line), "{}", line.escape_ascii());
        }
    }
}

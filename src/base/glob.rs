//! Glob patterns over bytes, as KEYS, SCAN MATCH, PSUBSCRIBE, ACL rules and CONFIG GET read them.
//!
//! `*` any run of bytes, `?` any one byte, `[abc]` `[a-z]` `[^a]` one byte of a class, `\x` the byte
//! `x` itself. The corners follow Redis, because people's patterns lean on them:
//! - a class that is never closed ends where the pattern ends, and `]` closes it even as its first
//!   byte, so `[]` matches nothing and `[^]` any byte;
//! - a reversed range is turned round, and bytes of a range compare as *signed*, so `[a-\xff]` runs
//!   from 0xff over 0x00 to `a`;
//! - a backslash that ends the pattern stands for itself;
//! - without regard to case, only ASCII letters fold, range ends fold after they were put in order,
//!   and an escaped byte in a class does not fold at all;
//! - the empty text matches the empty pattern only, not even `*` (KEYS and SCAN take a bare `*` for
//!   "no pattern", so there it does).
//!
//! What isn't followed: Redis gives up on patterns with more than a thousand stars, as a guard
//! against its own recursion. Matching here is iterative: a `*` remembers one place to resume from,
//! and meeting the next `*` forgets it, because a match that needed the earlier star to take more
//! would be found by the later one too. That bounds the work at pattern times text.

/// Whether the whole of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where to resume: the pattern after the last star, and the text that star doesn't cover yet.
    let mut resume: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at_pattern) == Some(&b'*') {
            at_pattern += 1;
            if at_pattern == pattern.len() {
                return true;
            }
            resume = Some((at_pattern, at_text));
            continue;
        }
        let step = match text.get(at_text) {
            Some(&byte) if at_pattern < pattern.len() => {
                one(&pattern[at_pattern..], byte, ignore_case)
            }
            // Only stars match nothing, and those were skipped above.
            None if at_pattern == pattern.len() => return true,
            // Longer runs under the star leave even less text for the rest of the pattern.
            None => return false,
            Some(_) => None,
        };
        match (step, &mut resume) {
            (Some(used), _) => {
                at_pattern += used;
                at_text += 1;
            }
            (None, Some((after_star, uncovered))) => {
                *uncovered += 1;
                (at_pattern, at_text) = (*after_star, *uncovered);
            }
            (None, None) => return false,
        }
    }
}

/// Whether `pattern` can match anything but itself. One that can't is looked up instead of walked
/// for: `KEYS user:1` needs no scan.
pub fn has_magic(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// Matches one byte against the element that `pattern` (not empty, no star) begins with, and says
/// how many bytes of pattern that element takes; `None` when the byte isn't it.
#[inline]
fn one(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => one_of(class, byte, ignore_case).map(|used| used + 1),
        [b'\\', literal, ..] => same(*literal, byte, ignore_case).then_some(2),
        [literal, ..] => same(*literal, byte, ignore_case).then_some(1),
        [] => None,
    }
}

/// Like [`one`], for a class without its opening bracket.
fn one_of(class: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    let used = loop {
        match &class[at..] {
            [] => break at,
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [b']', ..] => break at + 1,
            [from, b'-', to, ..] => {
                found |= in_range(*from, *to, byte, ignore_case);
                at += 3;
            }
            [literal, ..] => {
                found |= same(*literal, byte, ignore_case);
                at += 1;
            }
        }
    };
    (found != negated).then_some(used)
}

fn in_range(from: u8, to: u8, byte: u8, ignore_case: bool) -> bool {
    let fold = |byte: i8| {
        if ignore_case { (byte as u8).to_ascii_lowercase() as i8 } else { byte }
    };
    let (from, to) = (from as i8, to as i8);
    (fold(from.min(to))..=fold(from.max(to))).contains(&fold(byte as i8))
}

#[inline]
fn same(left: u8, right: u8, ignore_case: bool) -> bool {
    left == right || (ignore_case && left.eq_ignore_ascii_case(&right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cases: &[(&str, &str, bool)]) {
        for &(pattern, text, expected) in cases {
            let found = matches(pattern.as_bytes(), text.as_bytes(), false);
            assert_eq!(found, expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn stars_and_question_marks() {
        check(&[
            ("", "", true),
            ("", "a", false),
            ("*", "a", true),
            ("*", "", false),
            ("**", "ab", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("?", "a", true),
            ("?", "", false),
            ("??", "a", false),
            ("h?llo", "hallo", true),
            ("h*llo", "heeeello", true),
            ("h*llo", "hell", false),
            ("*ab*ab*", "xabyabz", true),
            ("*ab*ab*", "xabz", false),
            ("a*?", "a", false),
            ("a*?", "ab", true),
            ("*b", "aab", true),
            ("a**b", "ab", true),
            ("abc", "abcd", false),
            ("abcd", "abc", false),
        ]);
    }

    #[test]
    fn classes() {
        check(&[
            ("h[ae]llo", "hello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("[a-c]", "b", true),
            ("[a-c]", "d", false),
            ("[c-a]", "b", true),
            ("[a-]", "-", false),
            ("[a-]", "]", true),
            ("[-a]", "-", true),
            ("[]", "a", false),
            ("[]a]", "a]", false),
            ("[^]", "a", true),
            ("[^]", "ab", false),
            ("[\\]]", "]", true),
            ("[\\a-z]", "-", true),
            ("[\\a-z]", "b", false),
            ("[a^]", "^", true),
            ("[*]", "*", true),
            ("[*]", "a", false),
            ("x[?]", "x?", true),
        ]);
    }

    #[test]
    fn unclosed_classes_and_trailing_escapes() {
        check(&[
            ("[a", "a", true),
            ("[a", "b", false),
            ("[", "a", false),
            ("[^", "a", true),
            ("[a-", "-", true),
            ("[a-", "a", true),
            ("[a\\", "\\", true),
            ("a\\", "a\\", true),
            ("a\\", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("\\a", "a", true),
            ("*\\", "x\\", true),
            ("*[a", "xxa", true),
        ]);
    }

    #[test]
    fn case() {
        assert!(matches(b"MaxM*", b"maxmemory", true));
        assert!(!matches(b"MaxM*", b"maxmemory", false));
        assert!(matches(b"[A-C]", b"b", true));
        assert!(matches(b"[abc]", b"B", true));
        assert!(!matches(b"[\\a]", b"A", true), "an escaped byte of a class keeps its case");
        assert!(!matches(b"[Z-a]", b"z", true), "range ends fold after they were ordered");
    }

    #[test]
    fn ranges_are_of_signed_bytes() {
        assert!(matches(b"[a-\xff]", b"\xff", false));
        assert!(matches(b"[a-\xff]", b"\x01", false));
        assert!(!matches(b"[a-\xff]", b"b", false));
        assert!(!matches(b"[\x80-\x90]", b"\x91", false));
    }

    #[test]
    fn hostile_patterns_stay_bounded() {
        let text = vec![b'a'; 100_000];
        let pattern = [b"a*".repeat(50), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &text, false));
        let stars = b"*a".repeat(5000);
        assert!(matches(&stars, &text, false));
    }

    #[test]
    fn magic() {
        assert!(!has_magic(b"user:1"));
        for pattern in ["a*", "a?", "[a", "\\a"] {
            assert!(has_magic(pattern.as_bytes()));
        }
    }
}

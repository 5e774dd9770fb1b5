//! A command's syntax line to arity and key positions, while compiling.
//!
//! The grammar: words separated by spaces; `key` or `name:key` is a key, `name:type` an argument of
//! another type, an upper-case word a token; `x...` repeats, `[…]` may be absent, `(…)` groups,
//! `|` chooses; `numkeys:integer` counts the keys that follow it.

use super::Keys;

/// What a syntax line says.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Words in all, the command's name included; negative: at least so many.
    pub arity: i8,
    /// Where keys are.
    pub keys: [Keys; 2],
}

/// Reads a syntax line. `at` is the first argument's position: 1, or 2 for a subcommand.
///
/// # Panics
/// While compiling, when a bracket is not closed.
pub const fn shape(usage: &str, mut at: i8) -> Shape {
    let text = usage.as_bytes();
    let all = measure(text, 0, text.len());
    let arity = if all.fixed { at + all.width } else { -(at + all.width) };
    let mut keys = [Keys::None; 2];
    let (mut found, mut i) = (0, 0);
    let (mut counted, mut exact) = (false, true);
    while i < text.len() {
        let item = item(text, i);
        if has_key(text, item.from, item.to) {
            let leads = is_key(text, item.from);
            let tail = measure(text, item.next, text.len());
            let key = if counted && leads && exact {
                Keys::Counted(at - 1, item.width)
            } else if item.repeats && leads && exact && !item.optional && tail.fixed {
                Keys::Range(at, -1 - tail.width, item.width)
            } else if leads && exact && item.fixed {
                Keys::Range(at, at, 1)
            } else {
                Keys::Irregular
            };
            if found == 2 {
                return Shape { arity, keys: [Keys::Irregular, Keys::None] };
            }
            // Neighbours merge: `key newkey:key` is one range of two.
            match (keys[0], key) {
                (Keys::Range(a, b, 1), Keys::Range(c, d, 1))
                    if found == 1 && c == d && c == b + 1 =>
                {
                    keys[0] = Keys::Range(a, d, 1)
                }
                _ => {
                    keys[found] = key;
                    found += 1;
                }
            }
        }
        counted = starts(text, item.from, b"numkeys");
        exact &= item.fixed;
        at += item.width;
        i = item.next;
    }
    Shape { arity, keys }
}

struct Item {
    from: usize,
    to: usize,
    next: usize,
    width: i8,
    fixed: bool,
    repeats: bool,
    optional: bool,
}

struct Measure {
    width: i8,
    fixed: bool,
}

/// One word, group or option, without its brackets and dots.
const fn item(text: &[u8], i: usize) -> Item {
    let bracket = text[i] == b'[' || text[i] == b'(';
    let optional = text[i] == b'[';
    let (from, to) = if bracket { (i + 1, close(text, i)) } else { (i, word_end(text, i)) };
    let after = if bracket { to + 1 } else { to };
    let repeats = starts(text, after, b"...");
    let inner = if bracket { measure(text, from, to) } else { Measure { width: 1, fixed: true } };
    let mut next = after + 3 * repeats as usize;
    while next < text.len() && text[next] == b' ' {
        next += 1;
    }
    Item {
        from,
        to,
        next,
        width: if optional { 0 } else { inner.width },
        fixed: inner.fixed && !repeats && !optional,
        repeats,
        optional,
    }
}

/// The fewest words a stretch takes, and whether it always takes that many.
const fn measure(text: &[u8], mut i: usize, to: usize) -> Measure {
    let mut best: Option<Measure> = None;
    let mut this = Measure { width: 0, fixed: true };
    while i < to {
        if text[i] == b'|' {
            best = Some(shorter(best, this));
            this = Measure { width: 0, fixed: true };
            i += 2;
            continue;
        }
        let item = item(text, i);
        this = Measure { width: this.width + item.width, fixed: this.fixed && item.fixed };
        i = item.next;
    }
    shorter(best, this)
}

const fn shorter(best: Option<Measure>, this: Measure) -> Measure {
    match best {
        None => this,
        Some(best) => Measure {
            width: if best.width < this.width { best.width } else { this.width },
            fixed: best.fixed && this.fixed && best.width == this.width,
        },
    }
}

const fn starts(text: &[u8], from: usize, what: &[u8]) -> bool {
    let mut i = 0;
    while i < what.len() {
        if from + i >= text.len() || text[from + i] != what[i] {
            return false;
        }
        i += 1;
    }
    true
}

const fn word_end(text: &[u8], mut i: usize) -> usize {
    while i < text.len() && !matches!(text[i], b' ' | b')' | b']' | b'.') {
        i += 1;
    }
    i
}

const fn close(text: &[u8], mut i: usize) -> usize {
    let mut depth = 0;
    while i < text.len() {
        depth += (text[i] == b'[' || text[i] == b'(') as i32;
        depth -= (text[i] == b']' || text[i] == b')') as i32;
        if depth == 0 {
            return i;
        }
        i += 1;
    }
    panic!("usage: a bracket is never closed")
}

const fn is_key(text: &[u8], from: usize) -> bool {
    let to = word_end(text, from);
    (to - from == 3 && starts(text, from, b"key"))
        || (to - from > 4 && starts(text, to - 4, b":key"))
}

const fn has_key(text: &[u8], mut i: usize, to: usize) -> bool {
    while i < to {
        if is_key(text, i) && (i == 0 || matches!(text[i - 1], b' ' | b'(' | b'[')) {
            return true;
        }
        i += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_command_info_says() {
        let facts = |usage, at| {
            let shape = shape(usage, at);
            (shape.arity, shape.keys[0], shape.keys[1])
        };
        let range = Keys::Range;
        assert_eq!(facts("key", 1), (2, range(1, 1, 1), Keys::None));
        assert_eq!(facts("key value [NX | XX] [GET]", 1), (-3, range(1, 1, 1), Keys::None));
        assert_eq!(facts("key...", 1), (-2, range(1, -1, 1), Keys::None));
        assert_eq!(facts("(key value)...", 1), (-3, range(1, -1, 2), Keys::None));
        assert_eq!(facts("key... timeout:double", 1), (-3, range(1, -2, 1), Keys::None));
        assert_eq!(facts("key newkey:key", 1), (3, range(1, 2, 1), Keys::None));
        assert_eq!(facts("key", 2), (3, range(2, 2, 1), Keys::None));
        assert_eq!(
            facts("numkeys:integer (key value)... [NX | XX]", 1),
            (-4, Keys::Counted(1, 2), Keys::None)
        );
        assert_eq!(
            facts("destination:key numkeys:integer key... [WEIGHTS weight:integer...]", 1),
            (-4, range(1, 1, 1), Keys::Counted(2, 1))
        );
    }
}

//! Rust's sources as `tests/tidy.rs` reads them: words with the lines they stand in, and the paths and
//! calls that these make up. No more of the grammar than the rules of the house ask for.

use std::iter::once;

/// A word or a sign of a source, without comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The line it begins in, from 1.
    pub line: usize,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A name or a keyword.
    Word(String),
    /// A string literal's content. Escapes stay as they are written, but for the quote.
    Text(String),
    /// `::`.
    Path,
    /// Any other sign. Numbers, characters and lifetimes are one of these each: nobody asks.
    Sign(char),
}

impl Token {
    pub fn is(&self, sign: char) -> bool {
        self.what == What::Sign(sign)
    }

    pub fn is_word(&self, word: &str) -> bool {
        matches!(&self.what, What::Word(this) if this == word)
    }

    pub fn word(&self) -> Option<&str> {
        match &self.what {
            What::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// The words and signs of a source.
pub fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let (what, end) = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => (None, find(&chars, at, |c| c[0] == '\n')),
            '/' if chars.get(at + 1) == Some(&'*') => (None, end_of_block(&chars, at)),
            '"' => {
                let end = end_of_string(&chars, at + 1);
                (Some(What::Text(between(&chars, at + 1, end - 1))), end)
            }
            'r' if is_raw(&chars, at) => {
                let open = find(&chars, at, |c| c[0] == '"');
                let end = end_of_raw(&chars, at + 1);
                (Some(What::Text(between(&chars, open + 1, end - (open - at)))), end)
            }
            '\'' if chars.get(at + 1) == Some(&'\\') => {
                (Some(What::Sign('\'')), find(&chars, at + 3, |c| c[0] == '\'') + 1)
            }
            '\'' if chars.get(at + 2) == Some(&'\'') => (Some(What::Sign('\'')), at + 3),
            '\'' => (Some(What::Sign('\'')), find(&chars, at + 1, |c| !is_word(c[0]))),
            ':' if chars.get(at + 1) == Some(&':') => (Some(What::Path), at + 2),
            c if c.is_ascii_digit() => {
                (Some(What::Sign('0')), find(&chars, at, |c| !is_word(c[0])))
            }
            // What makes a string one of bytes is no word.
            'b' if chars.get(at + 1) == Some(&'"') || is_raw(&chars, at + 1) => (None, at + 1),
            c if is_word(c) => {
                let end = find(&chars, at, |c| !is_word(c[0]));
                (Some(What::Word(between(&chars, at, end))), end)
            }
            c if c.is_whitespace() => (None, at + 1),
            c => (Some(What::Sign(c)), at + 1),
        };
        found.extend(what.map(|what| Token { line, what }));
        let end = end.min(chars.len());
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    found
}

fn between(chars: &[char], from: usize, to: usize) -> String {
    let text: String = chars[from..to.clamp(from, chars.len())].iter().collect();
    text.replace("\\\"", "\"")
}

/// The tokens without what is compiled for tests alone, and the modules in other files that are.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let marker: Vec<What> = ['#', '[']
        .map(What::Sign)
        .into_iter()
        .chain(once(What::Word("cfg".into())))
        .chain(once(What::Sign('(')))
        .chain(once(What::Word("test".into())))
        .chain([')', ']'].map(What::Sign))
        .collect();
    let (mut kept, mut files, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        let is_marked = tokens[at..].iter().zip(&marker).filter(|(a, b)| a.what == **b).count();
        if is_marked < marker.len() {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        // What is marked ends with its block, or without one at a semicolon or a comma.
        let from = at + marker.len();
        let mut depth = 0;
        at = from;
        while at < tokens.len() {
            match tokens[at].what {
                What::Sign('{' | '(' | '[') => depth += 1,
                // The end of what it stands in.
                What::Sign('}' | ')' | ']') if depth == 0 => break,
                What::Sign('}' | ')' | ']') => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(tokens[at - 1].what, What::Sign('}' | ';' | ',')) {
                break;
            }
        }
        let item = &tokens[from..at.min(tokens.len())];
        if let Some(start) = item.iter().position(|token| token.is_word("mod"))
            && item.last().is_some_and(|token| token.is(';'))
        {
            files.extend(item.get(start + 1).and_then(Token::word).map(str::to_owned));
        }
    }
    (kept, files)
}

/// A path as it is named in a source, by `use` or in code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    /// From the crate's root where it begins with `crate`, `super` or `self`: then the first is
    /// `crate`. A `use` of everything ends with `*`.
    pub path: Vec<String>,
}

/// All paths of two or more names that a source's tokens name, groups taken apart. `module` is where
/// the source is, from the crate's root.
pub fn paths(tokens: &[Token], module: &[&str]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut here: Vec<String> = module.iter().map(|name| (*name).to_owned()).collect();
    // Modules within the file, by the depth of braces that their end returns to.
    let (mut inner, mut depth) = (Vec::new(), 0);
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at].what {
            What::Sign('{') => {
                let named = at >= 2 && tokens[at - 2].is_word("mod");
                if let Some(name) = tokens[at.saturating_sub(1)].word().filter(|_| named) {
                    inner.push(depth);
                    here.push(name.to_owned());
                }
                depth += 1;
            }
            What::Sign('}') => {
                depth -= 1;
                if inner.last() == Some(&depth) {
                    inner.pop();
                    here.pop();
                }
            }
            // `use` also stands in `impl Trait + use<>`.
            What::Word(word) if word == "use" && !tokens.get(at + 1).is_some_and(|t| t.is('<')) => {
                at = tree(tokens, at + 1, &[], &here, &mut found);
                continue;
            }
            What::Word(_) => {
                let end = path_end(tokens, at);
                if end > at + 1 {
                    let names = tokens[at..end].iter().filter_map(Token::word);
                    let path = absolute(names.map(str::to_owned).collect(), &here);
                    found.push(Named { line: tokens[at].line, path });
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Where a path ends that begins at a word: after the last word that `::` connects.
fn path_end(tokens: &[Token], from: usize) -> usize {
    let mut end = from + 1;
    while tokens.get(end).is_some_and(|token| token.what == What::Path)
        && tokens.get(end + 1).is_some_and(|token| token.word().is_some())
    {
        end += 2;
    }
    end
}

/// Reads what may stand after `use`, or in a group of one. Returns where it ends.
fn tree(
    tokens: &[Token],
    mut at: usize,
    before: &[String],
    here: &[String],
    found: &mut Vec<Named>,
) -> usize {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(at) {
        match &token.what {
            What::Word(word) if word == "as" => {
                // Another name for the same.
                at += 2;
                continue;
            }
            What::Word(word) => path.push(word.clone()),
            What::Sign('*') => path.push("*".to_owned()),
            What::Sign('{') => {
                at += 1;
                while tokens.get(at).is_some_and(|token| !token.is('}')) {
                    at = tree(tokens, at, &path, here, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.is(',')));
                }
                return at + 1;
            }
            What::Path => {}
            _ => break,
        }
        at += 1;
    }
    let line = tokens[at.min(tokens.len()) - 1].line;
    found.push(Named { line, path: absolute(path, here) });
    at
}

/// A path from the crate's root, if it begins with a word that leads there.
fn absolute(path: Vec<String>, here: &[String]) -> Vec<String> {
    let mut up = 0;
    let mut rest = path.as_slice();
    while let Some((first, more)) = rest.split_first() {
        match first.as_str() {
            "crate" => return path[path.len() - rest.len()..].to_vec(),
            "super" => up += 1,
            "self" if rest.len() == path.len() => {}
            _ => break,
        }
        rest = more;
    }
    if rest.len() == path.len() {
        return path;
    }
    let base = &here[..here.len().saturating_sub(up)];
    let own = base.iter().chain(rest).cloned();
    once("crate".to_owned()).chain(own).collect()
}

/// What sends a command to a server, in tests: functions whose first argument is the command, as a line
/// or as an array of words.
const SENDERS: &[&str] = &[
    "cmd",
    "cmd_bytes",
    "try_cmd",
    "run",
    "check",
    "check_error_prefix",
    "wait_for",
    "send",
    "encode",
];

/// The first two words of every command that is sent where a sender is called, in capitals. What is not
/// a literal there is not found: a test that sends what it computes is welcome, but says of no command
/// that it is tested.
pub fn commands_sent(tokens: &[Token]) -> Vec<[String; 2]> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let calls = token.word().is_some_and(|word| SENDERS.contains(&word))
            && tokens.get(at + 1).is_some_and(|token| token.is('('));
        if !calls {
            continue;
        }
        let mut rest = tokens[at + 2..].iter().filter(|token| !token.is('&')).peekable();
        if rest.next_if(|token| token.is_word("format")).is_some() {
            rest.next_if(|token| token.is('!'));
            rest.next_if(|token| token.is('('));
        }
        let mut words = Vec::new();
        if rest.next_if(|token| token.is('[')).is_some() {
            while let Some(What::Text(word)) = rest.peek().map(|token| &token.what) {
                words.push(word.as_str());
                rest.next();
                rest.next_if(|token| token.is(','));
            }
        } else if let Some(What::Text(line)) = rest.peek().map(|token| &token.what) {
            words.extend(line.split_whitespace());
        }
        let mut words = words.into_iter().map(str::to_ascii_uppercase);
        if let Some(first) = words.next() {
            found.push([first, words.next().unwrap_or_default()]);
        }
    }
    found
}

/// Blanks out comments and the insides of literals; lines stay where they are.
pub fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => find(&chars, at, |c| c[0] == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_block(&chars, at),
            '"' => end_of_string(&chars, at + 1),
            'r' if is_raw(&chars, at) => end_of_raw(&chars, at + 1),
            '\'' if chars.get(at + 1) == Some(&'\\') => find(&chars, at + 3, |c| c[0] == '\'') + 1,
            '\'' if chars.get(at + 2) == Some(&'\'') => at + 3,
            c => {
                code.push(c);
                at += 1;
                continue;
            }
        };
        let skipped = &chars[at..end.min(chars.len())];
        code.extend(skipped.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// The words of a text.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn find(chars: &[char], from: usize, is_end: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|at| is_end(&chars[*at..])).unwrap_or(chars.len())
}

fn end_of_block(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += 1 + usize::from(chars[at] == '\\');
    }
    at + 1
}

fn is_raw(chars: &[char], at: usize) -> bool {
    if chars.get(at) != Some(&'r') {
        return false;
    }
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let byte = at > 0 && chars[at - 1] == 'b';
    let quote = find(chars, at + 1, |c| c[0] != '#');
    (!in_word || byte) && chars.get(quote) == Some(&'"')
}

fn end_of_raw(chars: &[char], at: usize) -> usize {
    let open = find(chars, at, |c| c[0] == '"');
    let close: Vec<char> = once('"').chain(std::iter::repeat_n('#', open - at)).collect();
    find(chars, open + 1, |c| c.starts_with(&close)) + close.len()
}

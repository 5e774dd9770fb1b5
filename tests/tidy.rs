//! The rules of this house, as tests: nobody argues with a test. Each failure says what to do about it.

use redshard::command;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors of `src/lib.rs`. A module uses what is on its own floor or below.
const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("resp", 1),
    ("value", 1),
    ("config", 1),
    ("shard", 2),
    ("session", 3),
    ("instance", 3),
    ("metrics", 3),
    ("command", 4),
    ("exposition", 4),
    ("route", 5),
    ("persist", 6),
    ("replica", 6),
    ("server", 7),
];

/// The floor that knows the world.
const WORLD: u8 = 7;

/// Who looks upwards all the same, and why that is no knot: from, to, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("session", "command", "a queued call points to its command's declaration, which is data"),
    ("metrics", "command", "there is one pair of counters per declared command"),
];

/// What only the top floor may name.
const OF_THE_WORLD: &[&str] = &[
    "glommio",
    "io_uring",
    "libc",
    "rustix",
    "nix",
    "socket2",
    "signal_hook",
    "RawFd",
    "OwnedFd",
    "BorrowedFd",
    "AsRawFd",
    "AsFd",
    "FromRawFd",
    "IntoRawFd",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "async",
    "await",
];

/// Where `unsafe` may be written, and how often, where that is few enough to be counted.
const UNSAFE_ROOMS: &[(&str, Option<usize>)] = &[
    ("src/base/memory.rs", None),
    // The allocator's settings are a symbol that it looks for.
    ("src/main.rs", Some(1)),
    ("src/shard/entry.rs", None),
    ("src/shard/table/bucket.rs", None),
    ("src/server/ring.rs", None),
    // The environment, moved while there is one thread.
    ("src/server/title.rs", Some(1)),
    // A signal handler, and the stack it finds.
    ("src/server/crash.rs", Some(2)),
    // Two descriptors that arrive as numbers.
    ("src/server/shard_loop.rs", Some(2)),
    // A descriptor that another shard keeps open.
    ("src/server/shard_loop/departure.rs", Some(1)),
    ("benches/versus/proc.rs", None),
    ("benches/versus/load.rs", None),
    ("benches/versus/server.rs", None),
];

/// Longest file: beyond it, it is two subjects.
const LINES_MAX: usize = 800;

/// What the top level may hold, besides names that begin with a dot.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "tests",
    "benches",
    "deploy",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "target",
];

#[test]
fn lower_floors_do_not_import_upper_ones() {
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for file in sources(&["src"]) {
        let Some((module, depth)) = module_of(&file.path) else {
            continue;
        };
        let Some(floor) = floor_of(module) else {
            wrong.push(format!(
                "{}: `{module}` has no floor: add it to the table in src/lib.rs and to FLOORS",
                file.path
            ));
            continue;
        };
        for (number, line) in file.code.lines().enumerate() {
            for target in imports(line, depth) {
                if floor_of(&target).is_none_or(|above| above <= floor) {
                    continue;
                }
                let exception =
                    EXCEPTIONS.iter().position(|(from, to, _)| *from == module && *to == target);
                match exception {
                    Some(at) => _ = used.insert(at),
                    None => wrong.push(format!(
                        "{}:{}: floor {floor} uses `{target}` above it: move what both need down, \
                         or hand it in as an argument",
                        file.path,
                        number + 1
                    )),
                }
            }
        }
    }
    for (at, (from, to, _)) in EXCEPTIONS.iter().enumerate() {
        if !used.contains(&at) {
            wrong.push(format!("`{from}` does not use `{to}` any more: remove the exception"));
        }
    }
    report(&wrong);
}

#[test]
fn only_the_top_floor_knows_the_world() {
    let mut wrong = Vec::new();
    for file in sources(&["src"]) {
        let floor = module_of(&file.path).and_then(|(module, _)| floor_of(module));
        if floor.is_none_or(|floor| floor >= WORLD) {
            continue;
        }
        for (number, line) in file.code.lines().enumerate() {
            for word in words(line).filter(|word| OF_THE_WORLD.contains(word)) {
                wrong.push(format!(
                    "{}:{}: names `{word}`: floors below `server` are driven by calls, so that a \
                     test can drive them; let `server` do this and hand in the result",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    report(&wrong);
}

/// The second invariant of `src/lib.rs`.
#[test]
fn the_shard_loop_never_awaits() {
    let file = source("src/server/shard_loop.rs");
    let places: Vec<usize> = (1..)
        .zip(file.code.lines())
        .flat_map(|(number, line)| words(line).map(move |word| (number, word)))
        .filter(|(_, word)| *word == "await")
        .map(|(number, _)| number)
        .collect();
    assert!(
        places.is_empty(),
        "src/server/shard_loop.rs awaits in lines {places:?}: whatever waits belongs into a task \
         of its own, or a borrow of the shard may be held across it"
    );
}

#[test]
fn no_file_is_two_subjects() {
    let mut wrong = Vec::new();
    for file in sources(&["src", "tests", "benches"]) {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!(
                "{}: {lines} lines, more than {LINES_MAX}: split it by subject",
                file.path
            ));
        }
    }
    report(&wrong);
}

#[test]
fn unsafe_stays_in_its_rooms_and_says_why() {
    let mut wrong = Vec::new();
    for file in sources(&["src", "tests", "benches"]) {
        let room = UNSAFE_ROOMS.iter().find(|(path, _)| *path == file.path);
        let lines: Vec<&str> = file.text.lines().collect();
        let mut count = 0;
        for (at, line) in file.code.lines().enumerate() {
            if !words(line).any(|word| word == "unsafe") {
                continue;
            }
            count += 1;
            let place = format!("{}:{}", file.path, at + 1);
            if room.is_none() {
                wrong.push(format!(
                    "{place}: `unsafe` outside its rooms: use what {} offer, or argue for a new \
                     room in UNSAFE_ROOMS",
                    "entry, bucket, ring and memory"
                ));
            }
            // The proof stands above the statement, which may have begun a few lines earlier.
            let above = &lines[at.saturating_sub(12)..at];
            let said = |line: &&str| line.contains("SAFETY:") || line.contains("# Safety");
            if !above.iter().any(said) {
                wrong.push(format!(
                    "{place}: `unsafe` without a `// SAFETY:` above it that a reviewer can refute"
                ));
            }
        }
        if let Some((_, Some(most))) = room
            && count > *most
        {
            wrong.push(format!(
                "{}: `unsafe` {count} times, {most} allowed: move it into the ring",
                file.path
            ));
        }
    }
    report(&wrong);
}

#[test]
fn nothing_is_left_unfinished() {
    // In pieces, so that this file passes its own test.
    let macros = [concat!("to", "do"), concat!("unimpl", "emented"), "dbg"];
    let marks = [concat!("FIX", "ME"), concat!("X", "XX")];
    let mut wrong = Vec::new();
    for file in sources(&["src", "tests", "benches"]) {
        for (number, line) in (1..).zip(file.code.lines()) {
            for name in macros {
                if line.contains(&format!("{name}!")) {
                    wrong.push(format!(
                        "{}:{number}: `{name}!`: finish it or return an error",
                        file.path
                    ));
                }
            }
        }
        for (number, line) in (1..).zip(file.text.lines()) {
            for mark in words(line).filter(|word| marks.contains(word)) {
                wrong.push(format!(
                    "{}:{number}: {mark}: do it now, or say in a sentence why it is as it is",
                    file.path
                ));
            }
        }
    }
    report(&wrong);
}

#[test]
fn the_top_level_holds_what_everyone_expects() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root()).expect("list the top level") {
        let name = entry.expect("list the top level").file_name();
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) {
            wrong.push(format!(
                "{name}: move it into one of src, tests, benches and deploy, or remove it"
            ));
        }
    }
    report(&wrong);
}

#[test]
fn every_family_is_in_the_list_of_families() {
    let list = source("src/command/mod.rs").code;
    let start = list.find("const FAMILIES").expect("src/command/mod.rs declares FAMILIES");
    let list = &list[start..start + list[start..].find("];").expect("FAMILIES ends with `];`")];
    let listed: BTreeSet<&str> =
        list.split([',', '[', ']', '\n', ' ']).filter(|item| item.contains("::")).collect();
    let (mut wrong, mut declared) = (Vec::new(), BTreeSet::new());
    for file in sources(&["src/command"]) {
        let module = file.path["src/command/".len()..file.path.len() - ".rs".len()]
            .trim_end_matches("/mod")
            .replace('/', "::");
        for line in file.code.lines() {
            let Some((head, _)) = line.split_once(": Family =") else {
                continue;
            };
            let name = head.rsplit(' ').next().unwrap_or_default();
            declared.insert(format!("{module}::{name}"));
        }
    }
    for family in &declared {
        if !listed.contains(family.as_str()) {
            wrong.push(format!(
                "{family}: add it to FAMILIES in src/command/mod.rs, or nobody can run its commands"
            ));
        }
    }
    assert!(!declared.is_empty(), "no family found: has the way they are declared changed?");
    report(&wrong);
}

#[test]
fn every_command_is_described_and_tested() {
    let mut tested = String::new();
    for file in sources(&["tests"]) {
        if file.path != "tests/tidy.rs" {
            tested.push_str(&file.text);
            tested.push('\n');
        }
    }
    let tested: Vec<&str> = tested
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    let mut wrong = Vec::new();
    for command in command::all() {
        let name = command.name;
        if command.summary.is_empty() {
            wrong.push(format!("{name}: give its declaration a `.summary(…)` for COMMAND DOCS"));
        }
        let parts: Vec<&str> = name.split(' ').collect();
        if !tested.windows(parts.len()).any(|run| run == parts) {
            wrong.push(format!(
                "{name}: no file in tests/ runs it: test it through the front door, in its \
                 family's file"
            ));
        }
    }
    report(&wrong);
}

/// A subcommand counts as named where its container stands before it in the same paragraph, so that
/// the README may say `CLIENT GETNAME, ID, LIST`.
#[test]
fn the_readme_names_every_command() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_else(|error| {
        panic!("README.md: {error}: a user has to be told how to start and what there is")
    });
    let paragraphs: Vec<Vec<&str>> = readme
        .split("\n\n")
        .map(|paragraph| {
            paragraph
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
                .collect()
        })
        .collect();
    let named = |name: &str| {
        paragraphs.iter().any(|paragraph| {
            let mut rest = paragraph.iter();
            name.split(' ').all(|part| rest.any(|word| word.eq_ignore_ascii_case(part)))
        })
    };
    let missing: Vec<String> = command::all()
        .iter()
        .filter(|command| !named(command.name))
        .map(|command| format!("{}: name it in README.md", command.name))
        .collect();
    report(&missing);
}

/// The scanner of this file is code too.
#[test]
fn strings_and_comments_are_no_code() {
    let text = "let a = \"x // y\"; // unsafe\n/* a /* b */ unsafe */ 'x' '\\'' &'a str r#\"\"unsafe\"# b\"\\\"q\" z";
    let code = code_of(text);
    assert_eq!(code.lines().count(), 2);
    assert!(!code.contains("unsafe") && !code.contains('q') && !code.contains('y'));
    assert!(code.contains("&'a str") && code.ends_with('z'));
    assert_eq!(imports("use crate::{base::x, route::{y, shard}};", 2), ["base", "route"]);
    assert_eq!(imports("super::super::server::x", 2), ["server"]);
    assert!(imports("super::super::server::x", 3).is_empty());
}

// ---- how it looks ----------------------------------------------------------------------------

struct Source {
    /// From the top level, with forward slashes.
    path: String,
    text: String,
    /// The text with blanks for comments and the insides of literals.
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source(path: &str) -> Source {
    let text = fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}: has it moved? Then say so here"));
    Source { path: path.into(), code: code_of(&text), text }
}

fn sources(dirs: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for dir in dirs {
        walk(&root().join(dir), &mut paths);
    }
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let path = path.strip_prefix(root()).expect("below the top level");
            source(&path.to_string_lossy())
        })
        .collect()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("list a directory").path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn floor_of(module: &str) -> Option<u8> {
    let found = FLOORS.iter().find(|(name, _)| *name == module);
    found.map(|(_, floor)| *floor)
}

/// The top module a file belongs to, and how many `super` lead from it to the crate's root. The
/// crate's own two files belong to none.
fn module_of(path: &str) -> Option<(&str, usize)> {
    let path = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let parts: Vec<&str> = path.trim_end_matches("/mod").split('/').collect();
    (!matches!(parts[0], "lib" | "main")).then_some((parts[0], parts.len()))
}

/// The top modules that a line of code names, from the root or by so many `super`.
fn imports(line: &str, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    let up = "super::".repeat(depth);
    for root in ["crate::", up.as_str()] {
        for (at, _) in line.match_indices(root) {
            let rest = &line[at + root.len()..];
            let Some(group) = rest.strip_prefix('{') else {
                found.push(first_word(rest));
                continue;
            };
            let (mut level, mut from) = (0, 0);
            for (i, c) in group.char_indices() {
                match c {
                    '{' => level += 1,
                    ',' | '}' if level == 0 => {
                        found.push(first_word(&group[from..i]));
                        from = i + 1;
                    }
                    '}' => level -= 1,
                    _ => {}
                }
            }
        }
    }
    found
}

fn first_word(text: &str) -> String {
    words(text).next().unwrap_or_default().into()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Blanks out comments and the insides of literals; lines stay where they are.
fn code_of(text: &str) -> String {
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
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let byte = at > 0 && chars[at - 1] == 'b';
    let quote = find(chars, at + 1, |c| c[0] != '#');
    (!in_word || byte) && chars.get(quote) == Some(&'"')
}

fn end_of_raw(chars: &[char], at: usize) -> usize {
    let open = find(chars, at, |c| c[0] == '"');
    let close: Vec<char> =
        std::iter::once('"').chain(std::iter::repeat_n('#', open - at)).collect();
    find(chars, open + 1, |c| c.starts_with(&close)) + close.len()
}

#[track_caller]
fn report(wrong: &[String]) {
    if wrong.is_empty() {
        return;
    }
    let mut text = String::new();
    for line in wrong {
        let _ = writeln!(text, "  {line}");
    }
    panic!("{} to put right:\n{text}", wrong.len());
}

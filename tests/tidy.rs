//! The rules of this house, as tests: nobody argues with a test. Each failure says what to do about it.

#[path = "support/source.rs"]
mod source;

use redshard::command;
use source::{code_of, commands_sent, paths, tokens, without_tests, words};
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
    ("rdb", 1),
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

/// Words that only the top floor may use: sockets, descriptors and whoever waits for them, what is
/// printed, and what asks the file system about a path.
const OF_THE_WORLD: &[&str] = &[
    "glommio",
    "io_uring",
    "libc",
    "rustix",
    "nix",
    "socket2",
    "signal_hook",
    "quanta",
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
    "println",
    "eprintln",
    "is_dir",
    "is_file",
    "read_dir",
    "read_link",
    "canonicalize",
];

/// Paths that only the top floor may name: files, the process, threads, and every clock but the one
/// that is handed in. Each as it begins, or as it ends where that is how code names it.
const PATHS_OF_THE_WORLD: &[&[&str]] = &[
    &["std", "fs"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "io", "stderr"],
    &["std", "time", "SystemTime"],
    &["std", "time", "Instant"],
    &["std", "*"],
    &["std", "time", "*"],
    &["std", "io", "*"],
    &["io", "stdin"],
    &["io", "stdout"],
    &["io", "stderr"],
    &["clock", "unix_us"],
    &["clock", "monotonic_ns"],
    &["clock", "*"],
    &["Now", "read"],
];

/// Who below the top floor knows a piece of the world all the same: the file, the pieces, why.
const WORLDLY: &[(&str, &[&str], &str)] = &[
    (
        "src/base/clock.rs",
        &["std::time::SystemTime", "std::time::Instant"],
        "this is the clock, for the top floor to read and to hand in",
    ),
    ("src/base/ticks.rs", &["quanta"], "how long something took is counted, and steers nothing"),
    (
        "src/base/proc.rs",
        &["std::fs", "std::env", "std::process"],
        "what the kernel says about this process is read in one place, and shown",
    ),
    (
        "src/config/parse.rs",
        &["std::fs", "io::stdin", "read_dir"],
        "a configuration is files, and what one says is which others belong to it",
    ),
    (
        "src/config/value.rs",
        &["std::fs", "canonicalize", "is_dir"],
        "whether a directory is one is a part of checking it",
    ),
];

/// Where `unsafe` may be written, and how often, where that is few enough to be counted.
const UNSAFE_ROOMS: &[(&str, Option<usize>)] = &[
    ("src/base/memory.rs", None),
    // The allocator's settings are a symbol that it looks for.
    ("src/main.rs", Some(1)),
    ("src/shard/entry.rs", None),
    // A long string borrowed from a block: a promise, and a test's way to keep it.
    ("src/value/string.rs", Some(2)),
    ("src/shard/table/bucket.rs", None),
    ("src/server/ring.rs", None),
    // The environment, moved while there is one thread.
    ("src/server/title.rs", Some(1)),
    // A signal handler, and the stack it finds.
    ("src/server/crash.rs", Some(2)),
    // A descriptor that arrives as a number.
    ("src/server/shard_loop.rs", Some(1)),
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
    let mut wrong = Vec::new();
    for file in sources(&["src"]) {
        let Some(module) = module_of(&file.path) else {
            continue;
        };
        let Some(floor) = floor_of(module[0]) else {
            wrong.push(format!(
                "{}: `{}` has no floor: add it to the table in src/lib.rs and to FLOORS",
                file.path, module[0]
            ));
            continue;
        };
        for named in paths(&tokens(&file.text), &module) {
            let [root, target, ..] = named.path.as_slice() else {
                continue;
            };
            if root != "crate" {
                continue;
            }
            let place = format!("{}:{}", file.path, named.line);
            if target == "*" {
                wrong.push(format!("{place}: imports all modules: name those that it uses"));
            } else if floor_of(target).is_some_and(|above| above > floor) {
                wrong.push(format!(
                    "{place}: floor {floor} uses `{target}` above it: move what both need down, \
                     or hand it in as an argument"
                ));
            }
        }
    }
    report(&wrong);
}

#[test]
fn only_the_top_floor_knows_the_world() {
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    let files = sources(&["src"]);
    let for_tests: Vec<String> = files.iter().flat_map(modules_for_tests).collect();
    for file in &files {
        let floor = module_of(&file.path).and_then(|module| floor_of(module[0]));
        let is_for_tests = for_tests.iter().any(|of| {
            file.path.strip_prefix(of.as_str()).is_some_and(|rest| rest.starts_with(['/', '.']))
        });
        if floor.is_none_or(|floor| floor >= WORLD) || is_for_tests {
            continue;
        }
        for (line, what) in of_the_world(&file.text) {
            let known = WORLDLY.iter().find(|(path, ..)| *path == file.path);
            if known.is_some_and(|(_, pieces, _)| pieces.contains(&what.as_str())) {
                used.insert((file.path.clone(), what));
                continue;
            }
            wrong.push(format!(
                "{}:{line}: names `{what}`: floors below `server` are driven by calls, so that a \
                 test can drive them; let `server` do this and hand in the result, or ask the \
                 `Host` for it",
                file.path
            ));
        }
    }
    for (path, pieces, _) in WORLDLY {
        for piece in *pieces {
            if !used.contains(&((*path).to_owned(), (*piece).to_owned())) {
                wrong.push(format!("{path} does not name `{piece}` any more: say so in WORLDLY"));
            }
        }
    }
    report(&wrong);
}

/// The second invariant of `src/lib.rs`.
#[test]
fn the_shard_loop_awaits_in_one_place() {
    let mut places = Vec::new();
    let files = sources(&["src/server/shard_loop"]).into_iter();
    for file in files.chain([source("src/server/shard_loop.rs")]) {
        for (number, line) in (1..).zip(file.code.lines()) {
            let awaits = words(line).filter(|word| *word == "await");
            places.extend(awaits.map(|_| format!("{}:{number}", file.path)));
        }
    }
    assert!(
        matches!(&places[..], [place] if place.starts_with("src/server/shard_loop.rs:")),
        "the shard's loop awaits in {places:?}, not once between two turns: whatever waits belongs \
         into a task of its own, or a borrow of the shard may be held across it"
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
    let files = sources(&["tests"]);
    let sent: BTreeSet<[String; 2]> =
        files.iter().flat_map(|file| commands_sent(&tokens(&file.text))).collect();
    let mut wrong = Vec::new();
    for command in command::all() {
        let name = command.name;
        if command.summary.is_empty() {
            wrong.push(format!("{name}: give its declaration a `.summary(…)` for COMMAND DOCS"));
        }
        let is_sent = match name.split_once(' ') {
            Some((container, sub)) => sent.iter().any(|[a, b]| a == container && b == sub),
            None => sent.iter().any(|[a, _]| a == name),
        };
        if !is_sent {
            wrong.push(format!(
                "{name}: no file in tests/ sends it, by its name at the place of a call like \
                 `c.check(\"{name} …\", …)`: test it through the front door, in its family's file"
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

// The scanner is code too.

#[test]
fn strings_and_comments_are_no_code() {
    let text = "let a = \"x // y\"; // unsafe\n/* a /* b */ unsafe */ 'x' '\\'' &'a str r#\"\"unsafe\"# b\"\\\"q\" z";
    let code = code_of(text);
    assert_eq!(code.lines().count(), 2);
    assert!(!code.contains("unsafe") && !code.contains('q') && !code.contains('y'));
    assert!(code.contains("&'a str") && code.ends_with('z'));
    let found = tokens(text);
    let words: Vec<&str> = found.iter().filter_map(source::Token::word).collect();
    assert_eq!(words, ["let", "a", "str", "z"]);
    let texts: Vec<&source::What> =
        found.iter().map(|token| &token.what).filter(|what| is_text(what)).collect();
    let text = |text: &str| source::What::Text(text.to_owned());
    assert_eq!(texts, [&text("x // y"), &text("\"unsafe"), &text("\"q")]);
    assert_eq!(found.iter().map(|token| token.line).max(), Some(2));
}

fn is_text(what: &source::What) -> bool {
    matches!(what, source::What::Text(_))
}

#[test]
fn paths_are_found_however_they_are_written() {
    let found = |text: &str, module: &[&str]| -> Vec<String> {
        paths(&tokens(text), module).iter().map(|named| named.path.join("::")).collect()
    };
    let inside = ["command", "info"];
    assert_eq!(found("use crate::{\n    server::x,\n};", &inside), ["crate::server::x"]);
    assert_eq!(
        found("pub(crate) use crate::{base::{a, b::*}, route as r, c::{self}};", &inside),
        ["crate::base::a", "crate::base::b::*", "crate::route", "crate::c::self"]
    );
    assert_eq!(found("use super::super::server::x;", &inside), ["crate::server::x"]);
    assert_eq!(
        found("use super::x;\nuse self::y;", &inside),
        ["crate::command::x", "crate::command::info::y"]
    );
    assert_eq!(
        found("mod tests { use super::super::*; } use super::z;", &["shard"]),
        ["crate::*", "crate::z"]
    );
    assert_eq!(
        found("fn f<'a>(x: &'a crate::server::T) -> [u8; 2] { crate::route::f(x)?; }", &inside),
        ["crate::server::T", "crate::route::f"]
    );
    assert_eq!(
        found("impl A for B { fn f() -> impl C + use<> { super::super::d::<T>() } }", &inside),
        ["crate::d"]
    );
    assert_eq!(
        found("use ::std::{fs, io::{self, Read as _}}; pub(in crate::command) fn f() {}", &inside),
        ["std::fs", "std::io::self", "std::io::Read", "crate::command"]
    );
    assert!(found("// use crate::server;\nlet a = \"crate::server\";", &inside).is_empty());
}

#[test]
fn the_world_is_seen_through_any_name() {
    let seen = |text: &str| -> Vec<String> {
        of_the_world(text).into_iter().map(|(_, what)| what).collect()
    };
    assert_eq!(seen("use std::{\n    collections,\n    fs::{self, File},\n};"), ["std::fs"; 2]);
    assert_eq!(seen("let t = std::time::SystemTime::now();"), ["std::time::SystemTime"]);
    assert_eq!(seen("use crate::base::clock; let t = clock::unix_us();"), ["clock::unix_us"]);
    assert_eq!(seen("use super::clock::monotonic_ns;"), ["clock::monotonic_ns"]);
    assert_eq!(seen("use crate::base::clock::Now; Now::read()"), ["Now::read"]);
    assert_eq!(seen("use std::io; io::stdin().lock(); path.is_dir()"), ["io::stdin", "is_dir"]);
    assert!(seen("use std::time::Duration; use std::io::{self, Read}; env.unix_us()").is_empty());
    let tests = "fn a() {}\n#[cfg(test)]\nmod tests { use std::fs; fn b() { { } } }\nfn c() {}";
    assert!(seen(tests).is_empty());
    assert_eq!(seen(&format!("{tests}\nuse std::fs;")), ["std::fs"]);
    assert_eq!(seen("#[cfg(test)]\nuse std::fs;\nuse std::env;"), ["std::env"]);
    assert_eq!(seen("f(A { #[cfg(test)] x: std::env::args() }, std::fs::read())"), ["std::fs"]);
}

#[test]
fn a_command_is_sent_only_where_a_test_sends_it() {
    let sent = |text: &str| -> Vec<String> {
        let sent = commands_sent(&tokens(text));
        sent.iter().map(|words| words.join(" ").trim_end().to_owned()).collect()
    };
    assert_eq!(sent("c.check(\"set k v\", ok());"), ["SET K"]);
    assert_eq!(sent("c.cmd(&[\"CLIENT\", \"LIST\", x])"), ["CLIENT LIST"]);
    assert_eq!(sent("send_raw(&encode(&[b\"GET\", &key]))"), ["GET"]);
    assert_eq!(sent("c.check(\n    &format!(\"MGET {a}\"),\n    nil(),\n)"), ["MGET {A}"]);
    assert!(sent("// c.check(\"GET k\", nil())").is_empty());
    assert!(sent("/* c.run(\"GET k\") */ let text = \"c.run(GET k)\";").is_empty());
    assert!(sent("assert_eq!(reply, \"GET k\"); check(line, \"GET k\");").is_empty());
    assert!(sent("c.run(&line); \"GET k\"").is_empty());
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

/// Where a file stands among the crate's modules. The crate's own two files belong to none.
fn module_of(path: &str) -> Option<Vec<&str>> {
    let path = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let parts: Vec<&str> = path.trim_end_matches("/mod").split('/').collect();
    (!matches!(parts[0], "lib" | "main")).then_some(parts)
}

/// The modules that a file has for tests alone, as what their files' paths begin with.
fn modules_for_tests(file: &Source) -> Vec<String> {
    let at = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
    let (_, modules) = without_tests(&tokens(&file.text));
    modules.iter().map(|module| format!("{at}/{module}")).collect()
}

/// What a text names of the world, but for its tests: the line, and the word or path.
fn of_the_world(text: &str) -> Vec<(usize, String)> {
    let (tokens, _) = without_tests(&tokens(text));
    let words = tokens.iter().filter_map(|token| Some((token.line, token.word()?)));
    let mut found: Vec<(usize, String)> = words
        .filter(|(_, word)| OF_THE_WORLD.contains(word))
        .map(|(line, word)| (line, word.to_owned()))
        .collect();
    for named in paths(&tokens, &[]) {
        let names: Vec<&str> = named.path.iter().map(String::as_str).collect();
        let is_here = |path: &&&[&str]| match path[0] {
            "std" => names.starts_with(path),
            _ => names[0] != "std" && names.ends_with(path),
        };
        let path = PATHS_OF_THE_WORLD.iter().find(is_here);
        found.extend(path.map(|path| (named.line, path.join("::"))));
    }
    found.sort();
    found
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

//! The command line as a shell meets it: help, version, completions, refusals, and every form of a start line.

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use support::*;

const BINARY: &str = env!("CARGO_BIN_EXE_redshard");

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().expect("run the server")
}

/// What it prints instead of serving.
#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What it refuses with.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn help() {
    let help = printed(&["--help"]);
    assert_eq!(printed(&["-h"]), help);
    assert_eq!(printed(&["--port", "1", "--help"]), help);
    for part in [
        "Usage: redshard [FILE | -] [--DIRECTIVE VALUE...]...\n       redshard completions <SHELL>\n       redshard check-rdb <FILE>\n",
        "-v, --version",
        "\nNetwork:\n      --port <0..65535>\n          TCP port; ",
        "[default: 6379]",
        "--maxmemory <bytes>\n",
        "--save <seconds> <changes>...",
        "\nExamples:\n",
    ] {
        assert!(help.contains(part), "no {part:?} in:\n{help}");
    }
}

#[test]
fn version() {
    let version = printed(&["--version"]);
    assert_eq!(printed(&["-v"]), version);
    assert_eq!(printed(&["-V"]), version);
    // As the peers print it: tools take what is between `v=` and the blank.
    let begin = format!("Redshard server v={} sha=", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&begin) && version.ends_with('\n'), "{version}");
    for part in [" malloc=jemalloc-", " bits=64 ", " build="] {
        assert!(version.contains(part), "{version}");
    }
}

#[test]
fn who_reads_only_the_first_lines_of_the_help_sees_no_panic() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output =
        Command::new(BINARY).arg("--help").stdout(writer).output().expect("run the server");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn slips() {
    let said = refused(&["--maxmemroy", "1gb"]);
    assert!(said.contains("Reading the command line\n>>> 'maxmemroy \"1gb\"'\n"), "{said}");
    assert!(said.ends_with("\nDid you mean 'maxmemory'?\n"), "{said}");
    assert!(refused(&["--verison"]).ends_with("\nDid you mean 'version'?\n"));
    assert!(refused(&["--port", "1", "--hlep"]).ends_with("\nDid you mean 'help'?\n"));
    assert!(!refused(&["--nonsense"]).contains("Did you mean"));
    assert!(refused(&["-x"]).contains("Bad directive or wrong number of arguments"));
    assert!(refused(&["/nonexistent.conf"]).contains("can't open config file '/nonexistent.conf'"));
    // Modes of the peers that are not there.
    assert!(refused(&["--sentinel"]).contains("sentinel directive while not in sentinel mode"));
    assert!(refused(&["--test-memory", "1"]).contains("Bad directive"));
}

#[test]
fn what_the_peers_link_to_their_server() {
    let dir = TempDir::new();
    for (name, missing) in [
        ("redis-check-aof", "checker of append-only files yet"),
        ("valkey-check-aof", "checker of append-only files yet"),
        ("redis-sentinel", "Sentinel"),
        ("valkey-sentinel", "Sentinel"),
    ] {
        let link = dir.path().join(name);
        std::os::unix::fs::symlink(BINARY, &link).expect("make a link");
        let output = Command::new(&link).arg("x").output().expect("run the link");
        assert_eq!(output.status.code(), Some(1), "{name}");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(said, format!("{name}: Redshard has no {missing}\n"));
    }
    assert_eq!(
        refused(&["check-aof", "x"]),
        "check-aof: Redshard has no checker of append-only files yet\n"
    );
}

// ---- completions ---------------------------------------------------------------------------------------------------

/// What bash offers behind these words.
fn completed(words: &[&str]) -> Vec<String> {
    let script = r#"
        source <("$0" completions bash)
        COMP_WORDS=(redshard "$@")
        COMP_CWORD=$#
        COMPREPLY=()
        _redshard redshard "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new(tool("bash", "bash"));
    bash.args(["--norc", "-c", script, BINARY]).args(words);
    let output = bash.output().expect("run bash");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter(|line| !line.is_empty()).map(String::from).collect()
}

#[test]
fn bash_completes() {
    let memory = completed(&["--maxm"]);
    assert!(memory.contains(&"--maxmemory".into()), "{memory:?}");
    assert!(memory.contains(&"--maxmemory-policy".into()), "{memory:?}");
    assert!(memory.iter().all(|word| word.starts_with("--maxm")), "{memory:?}");
    assert_eq!(completed(&["--port", "1", "--prot"]), ["--protected-mode", "--proto-max-bulk-len"]);
    assert_eq!(completed(&["--log-format", "l"]), ["legacy", "logfmt"]);
    assert_eq!(completed(&["--daemonize", ""]), ["yes", "no"]);
    assert_eq!(completed(&["comp"]), ["completions"]);
    assert!(completed(&["completions", ""]).contains(&"zsh".into()));
    // What does nothing here is not offered, nor is what is missing: there is no check-aof.
    assert_eq!(completed(&["--appendf"]), Vec::<String>::new());
    assert_eq!(completed(&["check"]), ["check-rdb"]);
}

#[test]
fn other_shells_have_scripts_too() {
    for (shell, part) in [
        ("zsh", "#compdef redshard"),
        ("fish", "complete -c redshard"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = printed(&["completions", shell]);
        assert!(script.contains(part) && script.contains("maxmemory-policy"), "{shell}");
    }
    let said = refused(&["completions", "dos"]);
    assert!(said.contains("invalid value 'dos'") && said.contains("bash"), "{said}");
    assert!(refused(&["completions"]).contains("<SHELL>"));
    assert!(refused(&["completions", "bahs"]).contains("bash"));
}

// ---- start lines ---------------------------------------------------------------------------------------------------

/// Words, standard input, and what CONFIG GET has to answer then.
type Line = (&'static [&'static str], &'static str, &'static [(&'static str, &'static str)]);

/// A server without the harness's flags, killed when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `program` in `dir`; PORT in its words and its input becomes a port, where it has to answer.
#[track_caller]
fn serving(program: &Path, dir: &Path, line: &[&str], input: &str, settings: &[(&str, &str)]) {
    let port = free_port();
    let filled = |text: &str| text.replace("PORT", &port.to_string());
    let mut command = Command::new(program);
    command.args(line.iter().map(|word| filled(word))).current_dir(dir);
    let child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("start the server");
    let mut server = Started(child);
    let mut stdin = server.0.stdin.take().expect("its input");
    stdin.write_all(filled(input).as_bytes()).expect("write the configuration");
    drop(stdin);
    wait_until("the server answers", || {
        let ended = server.0.try_wait().expect("ask for the server's state");
        assert!(ended.is_none(), "{line:?} ended: {ended:?}");
        Client::try_connect(port).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
    });
    let mut client = Client::connect(port);
    let here = dir.canonicalize().expect("the directory").display().to_string();
    for (name, value) in settings {
        let got = client.cmd(&["CONFIG", "GET", name]).items()[1].text();
        assert_eq!(got.replace(&here, "HERE"), *value, "{name} of {line:?}");
    }
}

#[test]
fn every_form_of_a_start_line_serves() {
    let dir = TempDir::new();
    let here = dir.path();
    let file =
        |name: &str, text: &str| std::fs::write(here.join(name), text).expect("write a file");
    file("redis.conf", "timeout 7\nmaxmemory 1gb\n");
    std::fs::create_dir(here.join("data")).expect("make a directory");
    let link = here.join("redis-server");
    std::os::unix::fs::symlink(BINARY, &link).expect("make a link");
    let lines: [Line; 8] = [
        (&["redis.conf", "--port", "PORT"], "", &[("timeout", "7")]),
        (
            &["./redis.conf", "--maxmemory=64mb", "--port=PORT"],
            "",
            &[("timeout", "7"), ("maxmemory", "67108864")],
        ),
        (&["-", "--timeout", "8"], "port PORT\ntimeout 9\n", &[("timeout", "8")]),
        (
            &["redis.conf", "--hz", "20", "-"],
            "port PORT\ntimeout 9\n",
            &[("timeout", "9"), ("hz", "20")],
        ),
        (
            &["--dir=./data", "--filename=other.rdb", "--port=PORT"],
            "",
            &[("dbfilename", "other.rdb"), ("dir", "HERE/data")],
        ),
        (
            &[
                "--save",
                "60",
                "1",
                "300",
                "10",
                "--port",
                "PORT",
                "--requirepass",
                "",
                "--bind",
                "127.0.0.1",
                "::1",
            ],
            "",
            &[("save", "60 1 300 10"), ("bind", "127.0.0.1 ::1")],
        ),
        (
            &["--save", "--Port", "PORT", "--proc-title-template", "--{title}--", "--timeout 5"],
            "",
            &[("save", ""), ("proc-title-template", "--{title}--"), ("timeout", "5")],
        ),
        (
            &[
                "--syslog-ident",
                "completions",
                "--unixsocket",
                "",
                "--port",
                "PORT",
                "--slowlog-max-len '9'",
            ],
            "",
            &[("syslog-ident", "completions"), ("unixsocket", ""), ("slowlog-max-len", "9")],
        ),
    ];
    for (line, input, settings) in lines {
        serving(Path::new(BINARY), here, line, input, settings);
        serving(&link, here, line, input, settings);
    }
}

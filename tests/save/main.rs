//! Saving, on a real server: what its commands answer, what is in the file, and what becomes of it when things go
//! wrong: the process is killed, the disk is full, the end of the server comes meanwhile.
//!
//! The short runs here are for every day. `REDSHARD_SAVE_ROUNDS=n` asks for so many rounds of what is left to chance,
//! `REDSHARD_SEED=n` says where chance begins, and `REDSHARD_LONG_MIB=n` how long a long value is.

mod commands;
mod cut;
mod drills;
mod history;
mod long;
mod stops;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use support::{Launch, Server, TempDir};

/// Microseconds that a key's save is delayed by in order to hold a save: longer than any test.
const HELD: &str = "100000000";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Rounds of something that is left to chance: so many if nobody says otherwise.
fn rounds(usual: u64) -> u64 {
    number("REDSHARD_SAVE_ROUNDS").unwrap_or(usual)
}

fn seed() -> u64 {
    number("REDSHARD_SEED").unwrap_or(1)
}

/// A server that keeps its data in a directory that outlives it.
fn start_in(dir: &Path, shards: usize, args: &[&str]) -> Server {
    let dir = dir.to_str().expect("a UTF-8 path");
    Launch::new(shards).args(&["--dir", dir]).args(args).start()
}

/// Runs `body` against a server of each shard count that is started with arguments.
fn each_with(args: &[&str], body: impl Fn(&mut Server)) {
    for &shards in support::shard_counts() {
        eprintln!("--- with {shards} shard(s)");
        body(&mut Launch::new(shards).args(args).start());
    }
}

/// The same, for tests of what no other server has.
fn each_of_ours(args: &[&str], body: impl Fn(&mut Server)) {
    if support::reference().is_none() {
        each_with(args, body);
    }
}

/// The same with a directory that outlives servers, which `body` starts.
fn each_place(body: impl Fn(&Path, usize)) {
    for &shards in support::shard_counts() {
        eprintln!("--- with {shards} shard(s)");
        body(TempDir::new().path(), shards);
    }
}

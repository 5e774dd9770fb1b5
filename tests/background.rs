//! Work beside the clients: files that a shard writes and reads while it serves.

mod support;

use std::fs;

use support::*;

const MIB: u64 = 1 << 20;

fn start(shards: usize) -> Server {
    // Without save points nothing is saved at the end: the tests look for what is left in the directory.
    Launch::new(shards).args(&["--enable-debug-command", "yes", "--save", ""]).start()
}

fn field(c: &mut Client, name: &str) -> Option<String> {
    let text = c.run("DEBUG FILE").text();
    let prefix = format!("{name}:");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
}

fn drill_is_over(c: &mut Client) -> bool {
    field(c, "state").is_some_and(|state| state != "running")
}

#[test]
fn a_file_is_written_and_read_beside_the_clients() {
    if reference().is_some() {
        return; // DEBUG FILE is ours.
    }
    for shards in [1, 2] {
        let server = start(shards);
        let mut c = server.client();
        assert_eq!(field(&mut c, "state").as_deref(), Some("none"));
        c.check("DEBUG FILE 0", error("ERR value is out of range, must be positive"));
        c.check(&format!("DEBUG FILE {}", 64 * MIB + 12_345), ok());
        c.check("DEBUG FILE 1", error("ERR A drill of the disk is already in progress"));
        let mut visits = 0;
        wait_until("the file has been read", || {
            // Everybody is served meanwhile, on whatever shard.
            for key in ["a", "b", "c", "d"] {
                assert!(c.cmd(&["INCR", key]).int() > visits);
            }
            visits += 1;
            drill_is_over(&mut c)
        });
        let report = c.run("DEBUG FILE").text();
        assert!(report.contains("state:done"), "{report}");
        assert_eq!(field(&mut c, "bytes").as_deref(), Some("67121209"));
        let left: Vec<_> = fs::read_dir(server.dir())
            .expect("list the directory")
            .map(|entry| entry.expect("an entry").file_name())
            .filter(|name| name.to_string_lossy().starts_with("drill"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        // And once more, now that all of it has been used before.
        c.check("DEBUG FILE 1", ok());
        wait_until("a byte has been read", || drill_is_over(&mut c));
        assert_eq!(field(&mut c, "bytes").as_deref(), Some("1"));
    }
}

#[test]
fn what_the_disk_refuses_is_reported() {
    if reference().is_some() {
        return;
    }
    let place = TempDir::new();
    let gone = place.path().join("gone");
    fs::create_dir(&gone).expect("create a directory");
    let place = gone.to_str().expect("a UTF-8 path").to_owned();
    let args = ["--enable-debug-command", "yes", "--dir", place.as_str()];
    let server = Launch::new(1).args(&args).start();
    fs::remove_dir_all(&gone).expect("remove it");
    let mut c = server.client();
    c.check("DEBUG FILE 1000000", ok());
    wait_until("it has failed", || drill_is_over(&mut c));
    assert_eq!(field(&mut c, "state").as_deref(), Some("failed"));
    assert!(field(&mut c, "reason").is_some_and(|reason| reason.contains("No such file")));
    c.check("PING", simple("PONG"));
}

#[test]
fn a_stop_does_not_wait_for_all_of_a_file() {
    if reference().is_some() {
        return;
    }
    let mut server = start(2);
    let mut c = server.client();
    // More than any disk takes in the time that a stop has.
    c.check(&format!("DEBUG FILE {}", 1_000_000 * MIB), ok());
    let files = || fs::read_dir(server.dir()).expect("list the directory").flatten();
    let is_there = || files().any(|file| file.file_name().to_string_lossy().starts_with("drill"));
    wait_until("the file is there", is_there);
    server.signal(15);
    let dir = server.dir().to_owned();
    assert_eq!(server.wait_exit().code(), Some(0));
    let left = fs::read_dir(dir).expect("list the directory").flatten();
    assert_eq!(left.filter(|file| file.file_name() != "server.log").count(), 0);
    assert!(!server.log().contains("gives up"), "{}", server.log());
}

/// A client that leaves others waiting for as long as its own pipeline takes would be seen here: between two of its
/// commands, which are slow, somebody else sees how far it has got.
#[test]
fn a_deep_pipeline_does_not_keep_others_waiting() {
    let server = start(1);
    let (mut deep, mut other) = (server.client(), server.client());
    const STEPS: usize = 100;
    let pair = "DEBUG SLEEP 0.001\r\nINCR steps\r\n";
    deep.send_raw(pair.repeat(STEPS).as_bytes());
    let mut seen = Vec::new();
    wait_until("the pipeline has ended", || {
        let steps = other.run("GET steps");
        seen.push(steps.clone());
        steps == bulk(STEPS.to_string())
    });
    seen.dedup();
    assert!(seen.len() > STEPS / 10, "all of it ran between {} looks", seen.len());
}

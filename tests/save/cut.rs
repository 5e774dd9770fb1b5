//! What is in the file is what there was at one moment: the cut. Everything that was acknowledged before the save was
//! asked for is in it, nothing that was sent after it was answered, and no command in part.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redshard::base::hash::Random;

use crate::history::{Writer, assert_one_cut, unix_ms, writers};
use crate::support::rdb::*;
use crate::support::*;
use crate::{rounds, seed, start_in};

/// What becomes of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    Cancelled,
    /// At a byte of the file that was left to chance.
    Failed,
}

/// Asks for a save in the background until one begins: one that was cancelled takes its moment to end.
fn begin(c: &mut Client) {
    wait_until("a save begins", || match c.run("BGSAVE") {
        Value::Simple(text) => text == "Background saving started",
        Value::Error(text) => {
            assert_eq!(text, "ERR Background save already in progress");
            false
        }
        other => panic!("{other:?}"),
    });
}

fn save(
    server: &Server,
    dir: &Path,
    c: &mut Client,
    writers: &[Writer],
    fate: Fate,
    random: &mut Random,
) {
    let dump = dir.join(DUMP);
    let before = std::fs::metadata(&dump).ok();
    let len = before.as_ref().map_or(100_000, |file| file.len());
    wait_for_save(c);
    if fate == Fate::Failed {
        limit_file_size(server, Some(random.below(len)));
    }
    std::thread::sleep(Duration::from_millis(random.below(60)));
    let first: Vec<_> = writers.iter().map(Writer::reached).collect();
    begin(c);
    let last: Vec<_> = writers.iter().map(Writer::reached).collect();
    let expired_ms = unix_ms();
    if fate == Fate::Cancelled {
        std::thread::sleep(Duration::from_millis(random.below(200)));
        c.run("BGSAVE CANCEL");
        return;
    }
    wait_for_save(c);
    limit_file_size(server, None);
    // It may have been short enough.
    if persistence(c, "rdb_last_bgsave_status") == "err" {
        use std::os::unix::fs::MetadataExt;
        let id = |file: Option<std::fs::Metadata>| file.map(|file| (file.ino(), file.len()));
        assert_eq!(fate, Fate::Failed);
        assert_eq!(id(std::fs::metadata(&dump).ok()), id(before), "the old file has gone");
        return;
    }
    let file = content(&dump);
    let cuts: Result<Vec<_>, String> = (writers.iter().zip(first).zip(last))
        .map(|((writer, first), last)| writer.cut_of(&file, (first, last), expired_ms))
        .collect();
    assert_one_cut(&cuts.unwrap_or_else(|why| panic!("REDSHARD_SEED={}: {why}", seed())));
}

/// Writers write, while saves of all fates come about.
fn saves_while_writing(count: u64, shards: usize) {
    let place = TempDir::new();
    let args = ["--save", "", "--rdb-key-save-delay", "200"];
    let mut server = start_in(place.path(), shards, &args);
    let (writers, is_over) = (writers(count, &Databases::new()), AtomicBool::new(false));
    let port = server.port();
    let mut c = server.client();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (writers.iter())
            .map(|writer| scope.spawn(|| writer.write(port, seed(), &is_over)))
            .collect();
        // Told to stop even if something is wrong, or the scope would wait for ever.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut random = Random::new(seed());
            for round in 0..rounds(2) {
                for fate in [Fate::Cancelled, Fate::Whole, Fate::Failed, Fate::Whole] {
                    save(&server, place.path(), &mut c, &writers, fate, &mut random);
                }
                let kept = persistence(&mut c, "rdb_last_cow_size");
                let steps: usize = writers.iter().map(|writer| writer.reached().sent).sum();
                println!(
                    "{shards} shards, round {round}: {steps} steps, at most {kept} bytes kept"
                );
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for thread in threads {
            assert!(thread.join().expect("a writer"), "the server has gone");
        }
    });
    // The last one has everything.
    let mut expected = Databases::new();
    writers.iter().for_each(|writer| expected.extend(writer.now()));
    let stay = unix_ms() + 10_000_000;
    expected.values_mut().for_each(|keys| keys.retain(|_, (_, at)| at.is_none_or(|at| at > stay)));
    expected.retain(|_, keys| !keys.is_empty());
    c.send("SHUTDOWN SAVE");
    assert_eq!(server.wait_exit().code(), Some(0));
    let mut file = content(&place.path().join(DUMP));
    file.values_mut().for_each(|keys| keys.retain(|_, (_, at)| at.is_none_or(|at| at > stay)));
    file.retain(|_, keys| !keys.is_empty());
    assert!(file == expected, "the last save is not what there was");
    // And another server has it all.
    let server = start_in(place.path(), 5 - shards, &["--save", ""]);
    let mut c = server.client();
    wait_until("it has loaded", || persistence(&mut c, "loading") == "0");
    for (db, keys) in &expected {
        c.check(&format!("SELECT {db}"), ok());
        c.wait_for("DBSIZE", int(keys.len() as i64));
        for (key, (value, at_ms)) in keys {
            assert_eq!(c.cmd(&["GET", key]), bulk(value), "{db} {key}");
            assert_eq!(c.cmd(&["PEXPIRETIME", key]), int(at_ms.unwrap_or(-1)), "{db} {key}");
        }
    }
}

#[test]
fn a_file_is_what_there_was_at_the_cut() {
    if reference().is_none() {
        for &shards in shard_counts() {
            saves_while_writing(3, shards);
        }
    }
}

/// The same with one client that flushes everything now and then.
#[test]
fn a_flush_of_all_databases_is_in_the_file_or_not() {
    if reference().is_none() {
        for &shards in shard_counts() {
            saves_while_writing(1, shards);
        }
    }
}

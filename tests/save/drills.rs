//! What becomes of the file when things go wrong: it is always one that was whole, the old one or the new one, and the
//! server says what was wrong and goes on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redshard::base::hash::Random;
use rustix::fs::{Mode, OFlags};

use crate::history::{Writer, unix_ms, writers};
use crate::support::rdb::*;
use crate::support::*;
use crate::{each_of_ours, rounds, seed, start_in};

const SIGKILL: i32 = 9;

/// A file system that is there for one test.
struct Mount(TempDir);

impl Mount {
    /// Mounts something, or says that this machine does not let us.
    fn new(what: &[&str]) -> Option<Mount> {
        let mount = Mount(TempDir::new());
        let done = Command::new("mount").args(what).arg(mount.0.path()).output();
        if done.is_ok_and(|output| output.status.success()) {
            return Some(mount);
        }
        lacking(&format!("mount {what:?} is refused"));
        None
    }

    /// A file system in memory.
    fn in_memory(size: &str) -> Option<Mount> {
        Mount::new(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make(&self, how: &str) {
        let done = Command::new("mount").args(["-o", how]).arg(self.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "mount -o {how}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // At once even where somebody still uses it.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// So many values of 1 KiB that do not compress.
fn fill(c: &mut Client, name: &str, keys: usize) {
    let mut random = Random::new(1);
    for key in 0..keys {
        let value: String = (0..64).map(|_| format!("{:016x}", random.next_u64())).collect();
        c.check(&format!("SET {name}:{key} {value}"), ok());
    }
}

/// Saves fail, in every way there is of asking for them, and what was there before stays. `why` is what the log says.
#[track_caller]
fn saves_fail(server: &mut Server, c: &mut Client, dir: &Path, why: &str) {
    let dump = dir.join(DUMP);
    let old = fs::read(&dump).ok();
    let last = c.run("LASTSAVE");
    c.check_error_prefix("SAVE", "ERR");
    c.check("BGSAVE", simple("Background saving started"));
    wait_for_save(c);
    assert_eq!(persistence(c, "rdb_last_bgsave_status"), "err");
    let log = server.log();
    assert!(log.contains(why), "no {why:?} in:\n{log}");
    // With save points that is dangerous: who writes is told.
    c.check("CONFIG SET save \"3600 1000000\"", ok());
    for line in ["SET a b", "DEL a", "MSET a b c d", "PING"] {
        c.check_error_prefix(line, "MISCONF Redis is configured to save RDB snapshots");
    }
    c.check("GET a", nil());
    c.check("CONFIG SET stop-writes-on-bgsave-error no", ok());
    c.check("SET misconf 1", ok());
    c.check("PING", simple("PONG"));
    c.check("CONFIG SET stop-writes-on-bgsave-error yes", ok());
    c.check_error_prefix("SET a b", "MISCONF");
    // The end of the server would lose data.
    let error_of_shutdown = error("ERR Errors trying to SHUTDOWN. Check logs.");
    c.check("SHUTDOWN SAVE", error_of_shutdown.clone());
    c.check("SHUTDOWN", error_of_shutdown);
    c.check("CONFIG SET save \"\"", ok());
    c.check("SET misconf 2", ok());
    assert_eq!(c.run("LASTSAVE"), last);
    assert_eq!(fs::read(&dump).ok(), old, "the file has changed");
    if dir.is_dir() {
        let left: Vec<String> =
            files(dir).into_iter().filter(|name| name.contains(".tmp")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// What was in the way of saves has gone.
#[track_caller]
fn saves_work(c: &mut Client, dir: &Path) {
    c.check("CONFIG SET save \"3600 1000000\"", ok());
    c.check_error_prefix("SET a b", "MISCONF");
    c.check("BGSAVE", simple("Background saving started"));
    wait_for_save(c);
    assert_eq!(persistence(c, "rdb_last_bgsave_status"), "ok");
    c.check("SET a b", ok());
    c.check("PING", simple("PONG"));
    c.check("SAVE", ok());
    let keys = content(&dir.join(DUMP))[&0].len() as i64;
    c.check("DBSIZE", int(keys));
    c.check("CONFIG SET save \"\"", ok());
    c.check("DEL a misconf", int(2));
}

#[test]
fn a_full_disk() {
    if reference().is_some() {
        return;
    }
    let Some(disk) = Mount::in_memory("4m") else { return };
    for &shards in shard_counts() {
        let mut server = start_in(disk.path(), shards, &["--save", ""]);
        let mut c = server.client();
        wait_until("it has loaded", || c.run("FLUSHALL") == ok());
        fill(&mut c, "kept", 500);
        c.check("SAVE", ok());
        fill(&mut c, "more", 6_000);
        saves_fail(&mut server, &mut c, disk.path(), "No space left on device");
        // By itself there is room again.
        for key in 0..6_000 {
            c.check(&format!("DEL more:{key}"), int(1));
        }
        saves_work(&mut c, disk.path());
        c.send("SHUTDOWN NOSAVE");
        assert_eq!(server.wait_exit().code(), Some(0));
    }
}

/// A write of which the disk takes a part: what it says then is not that there is no space.
#[test]
fn a_disk_that_has_no_room_for_the_last_pages() {
    if reference().is_some() {
        return;
    }
    const PAGE: u64 = 4096;
    let Some(disk) = Mount::in_memory("4m") else { return };
    let mut server = start_in(disk.path(), 2, &["--save", ""]);
    let mut c = server.client();
    fill(&mut c, "key", 400);
    c.check("SAVE", ok());
    c.check("SET key:0 changed", ok());
    let dump = disk.path().join(DUMP);
    let pages = fs::metadata(&dump).expect("the file").len().div_ceil(PAGE);
    let ballast = disk.path().join("ballast");
    for room in pages - 40..=pages + 1 {
        let _ = fs::remove_file(&ballast);
        let free = rustix::fs::statvfs(disk.path()).expect("ask for its space").f_bavail;
        fs::write(&ballast, vec![1; ((free - room) * PAGE) as usize]).expect("fill the disk");
        let old = fs::read(&dump).expect("the file");
        match c.run("SAVE") {
            Value::Simple(_) => assert_eq!(content(&dump)[&0]["key:0"].0, "changed"),
            Value::Error(_) => assert!(fs::read(&dump).expect("the file") == old),
            other => panic!("{other:?}"),
        }
        assert_eq!(files(disk.path()), ["ballast", DUMP]);
    }
    assert_eq!(content(&dump)[&0]["key:0"].0, "changed", "in the end there was room");
    c.send("SHUTDOWN");
    server.wait_exit();
}

/// Of the file systems in memory one takes what goes past the page cache, the other refuses it.
#[test]
fn a_file_system_that_refuses_direct_access() {
    if reference().is_some() {
        return;
    }
    for kind in ["tmpfs", "ramfs"] {
        let Some(disk) = Mount::new(&["-t", kind, kind]) else { return };
        let mut server = start_in(disk.path(), 2, &["--save", ""]);
        let mut c = server.client();
        fill(&mut c, "key", 3_000);
        c.check("SAVE", ok());
        let dump = disk.path().join(DUMP);
        let (flags, mode) = (OFlags::RDONLY | OFlags::DIRECT, Mode::empty());
        let is_direct = rustix::fs::open(&dump, flags, mode).is_ok();
        assert!(kind == "tmpfs" || !is_direct, "{kind} refuses nothing any more");
        assert_eq!(content(&dump)[&0].len(), 3_000);
        c.send("SHUTDOWN");
        server.wait_exit();
        let mut again = start_in(disk.path(), 4, &["--save", ""]);
        let mut c = again.client();
        c.wait_for("DBSIZE", int(3_000));
        c.send("SHUTDOWN");
        again.wait_exit();
    }
}

#[test]
fn a_file_system_that_is_read_only() {
    if reference().is_some() {
        return;
    }
    let Some(disk) = Mount::in_memory("64m") else { return };
    let mut server = start_in(disk.path(), 2, &["--save", ""]);
    let mut c = server.client();
    fill(&mut c, "key", 100);
    c.check("SAVE", ok());
    fill(&mut c, "more", 100);
    disk.make("remount,ro");
    saves_fail(&mut server, &mut c, disk.path(), "Read-only file system");
    disk.make("remount,rw");
    saves_work(&mut c, disk.path());
    c.send("SHUTDOWN");
    server.wait_exit();
}

#[test]
fn a_directory_that_vanishes() {
    each_of_ours(&["--save", ""], |_| {
        let place = TempDir::new();
        let dir = place.path().join("data");
        fs::create_dir(&dir).expect("a directory");
        let mut server = start_in(&dir, 2, &["--save", ""]);
        let mut c = server.client();
        fill(&mut c, "key", 100);
        c.check("SAVE", ok());
        fs::remove_dir_all(&dir).expect("remove it");
        saves_fail(&mut server, &mut c, &dir, "No such file or directory");
        fs::create_dir(&dir).expect("a directory");
        saves_work(&mut c, &dir);
    });
}

#[test]
fn a_directory_in_the_place_of_the_file() {
    each_of_ours(&["--save", ""], |server| {
        let mut c = server.client();
        let dir = server.dir().to_owned();
        fill(&mut c, "key", 100);
        fs::create_dir_all(dir.join(DUMP).join("inside")).expect("a directory");
        let unreadable = |error: std::io::Error| error.to_string();
        assert!(fs::read(dir.join(DUMP)).map_err(unreadable).is_err());
        saves_fail(server, &mut c, &dir, "Is a directory");
        fs::remove_dir_all(dir.join(DUMP)).expect("remove it");
        saves_work(&mut c, &dir);
    });
}

/// A device that gives up in the middle: a file system in a file that has holes, on a disk that is too small to fill
/// them. What the kernel says then is its business.
#[test]
fn a_device_that_fails() {
    if reference().is_some() {
        return;
    }
    let Some(disk) = Mount::in_memory("6m") else { return };
    let image = disk.path().join("image");
    let file = fs::File::create(&image).expect("an image");
    file.set_len(64 << 20).expect("a hole");
    let name = image.to_str().expect("a UTF-8 path");
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", name])
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        return lacking("mkfs.ext4 is not there");
    }
    let Some(device) = Mount::new(&["-o", "loop", name]) else { return };
    let mut server = start_in(device.path(), 2, &["--save", ""]);
    let mut c = server.client();
    fill(&mut c, "key", 100);
    c.check("SAVE", ok());
    fill(&mut c, "more", 12_000);
    saves_fail(&mut server, &mut c, device.path(), "Failed to save the data");
    println!("{}", server.log());
    c.send("SHUTDOWN");
    server.wait_exit();
    let mut again = start_in(device.path(), 2, &["--save", ""]);
    let mut c = again.client();
    c.wait_for("DBSIZE", int(100));
    c.send("SHUTDOWN");
    again.wait_exit();
}

/// A limit on the size of files, at bytes that are left to chance: the signal that comes with it ends nobody.
#[test]
fn a_file_that_may_not_grow() {
    each_of_ours(&["--save", ""], |server| {
        let mut c = server.client();
        let dir = server.dir().to_owned();
        fill(&mut c, "key", 400);
        c.check("SAVE", ok());
        let len = fs::metadata(dir.join(DUMP)).expect("the file").len();
        let mut random = Random::new(seed());
        for limit in [0, 1, 4096, random.below(len), random.below(len), len - 1] {
            limit_file_size(server, Some(limit));
            // The log is a file as well, and grows no more.
            saves_fail(server, &mut c, &dir, "");
            limit_file_size(server, None);
            saves_work(&mut c, &dir);
        }
    });
}

#[test]
fn a_save_that_fails_while_a_key_is_changed_loses_nothing() {
    each_of_ours(&["--save", ""], |server| {
        let mut c = server.client();
        let dir = server.dir().to_owned();
        fill(&mut c, "key", 400);
        c.check("SAVE", ok());
        let mut random = Random::new(seed());
        for round in 0..rounds(6) {
            c.check("CONFIG SET rdb-key-save-delay 200", ok());
            limit_file_size(server, Some(random.below(400_000)));
            c.check("BGSAVE", simple("Background saving started"));
            let mut changed = 0;
            while is_saving(&mut c) {
                changed += 1;
                c.check(&format!("SET key:{} {round}.{changed}", random.below(400)), ok());
            }
            limit_file_size(server, None);
            c.check("CONFIG SET rdb-key-save-delay 0", ok());
            c.check("SAVE", ok());
            let keys = &content(&dir.join(DUMP))[&0];
            assert_eq!(keys.len(), 400);
            for (key, (value, _)) in keys {
                assert_eq!(c.cmd(&["GET", key]), bulk(value), "{key}");
            }
        }
    });
}

// ---- the process is killed ---------------------------------------------------------------------------

/// One round: writers write, a save begins, and the process is killed. Returns whether the new file has its place.
fn killed(dir: &Path, shards: usize, random: &mut Random) -> bool {
    let dump = dir.join(DUMP);
    let (old_bytes, old) = (fs::read(&dump).expect("the old file"), content(&dump));
    let mut server = start_in(dir, shards, &["--save", "", "--rdb-key-save-delay", "50"]);
    let mut c = server.client();
    wait_until("it has loaded", || persistence(&mut c, "loading") == "0");
    let mut count = |name: &str| -> usize {
        persistence(&mut c, &format!("rdb_last_load_keys_{name}")).parse().expect("a number")
    };
    let keys: usize = old.values().map(|keys| keys.len()).sum();
    assert_eq!(count("loaded") + count("expired"), keys);
    let left: Vec<String> = files(dir).into_iter().filter(|name| name != DUMP).collect();
    assert!(left.is_empty(), "{left:?} left of the last one");
    let (writers, is_over) = (writers(2, &old), AtomicBool::new(false));
    let (port, id) = (server.port(), server.pid());
    let round_seed = random.next_u64();
    std::thread::scope(|scope| {
        for writer in &writers {
            let is_over = &is_over;
            scope.spawn(move || writer.write(port, round_seed, is_over));
        }
        wait_until("they write", || writers.iter().all(|writer| writer.reached().answered > 40));
        std::thread::sleep(Duration::from_millis(random.below(30)));
        let first: Vec<_> = writers.iter().map(Writer::reached).collect();
        c.check("BGSAVE", simple("Background saving started"));
        let last: Vec<_> = writers.iter().map(Writer::reached).collect();
        let expired_ms = unix_ms();
        // Saves take about 150 ms here.
        std::thread::sleep(Duration::from_micros(random.below(250_000)));
        server.signal(SIGKILL);
        server.wait_exit();
        is_over.store(true, Ordering::Relaxed);
        let temporary = format!("{DUMP}.{id}.tmp");
        for name in files(dir) {
            assert!(name == DUMP || name == temporary, "{name}");
        }
        if fs::read(&dump).is_ok_and(|bytes| bytes == old_bytes) {
            return false;
        }
        let file = content(&dump);
        for ((writer, first), last) in writers.iter().zip(first).zip(last) {
            let cut = writer.cut_of(&file, (first, last), expired_ms);
            cut.map(drop).unwrap_or_else(|why| panic!("neither the old file nor the new: {why}"));
        }
        true
    })
}

#[test]
fn a_process_that_is_killed() {
    if reference().is_some() {
        return;
    }
    let place = TempDir::new();
    let mut server = start_in(place.path(), 2, &["--save", ""]);
    server.client().check("SAVE", ok());
    server.signal(SIGKILL);
    server.wait_exit();
    let mut random = Random::new(seed());
    let (mut new, rounds) = (0, rounds(9));
    for round in 0..rounds {
        let shards = shard_counts()[round as usize % 3];
        new += u64::from(killed(place.path(), shards, &mut random));
    }
    println!("{rounds} processes killed; the file was the new one after {new}");
}

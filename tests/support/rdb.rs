//! What tests of saving share: what a file holds, and what INFO says of saves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use redshard::rdb::{Item, Splitter, Value, Version, read};

use super::{Client, Server, wait_until};

/// The name that a file of data has by default.
pub const DUMP: &str = "dump.rdb";

/// Keys with their values and when they expire, in milliseconds since the Unix epoch.
pub type Keys = BTreeMap<String, (String, Option<i64>)>;

/// Databases that have keys, by number.
pub type Databases = BTreeMap<u64, Keys>;

/// All that a file holds. It must be whole: its checksum is verified.
#[track_caller]
pub fn content(path: &Path) -> Databases {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    let mut splitter = Splitter::new(Some(bytes.len() as u64));
    splitter.push(&bytes);
    let (mut databases, mut has_ended) = (Databases::new(), false);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("tests write text");
    while let Some(item) = splitter.next().expect("a sound file") {
        match item {
            Item::Record(record) => {
                let value = read::value(Version::V10, record.type_byte, record.value);
                let value = match value.expect("a string") {
                    Value::Int(n) => n.to_string(),
                    Value::Bytes(bytes) => text(&bytes),
                };
                let keys = databases.entry(record.db).or_default();
                let before = keys.insert(text(&record.key), (value, record.expiry_ms));
                assert!(before.is_none(), "a key twice: {}", record.key.escape_ascii());
            }
            Item::End => has_ended = true,
            _ => {}
        }
    }
    splitter.finish().expect("a whole file");
    assert!(has_ended && splitter.has_verified(), "no end, or no checksum");
    databases
}

/// The names of what is in a directory, the server's log left out.
pub fn files(dir: &Path) -> Vec<String> {
    let list = fs::read_dir(dir).expect("list the directory").flatten();
    let names = list.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".log")).collect();
    names.sort();
    names
}

/// A field of INFO's section on saving and loading.
#[track_caller]
pub fn persistence(c: &mut Client, name: &str) -> String {
    let text = c.run("INFO persistence").text();
    let prefix = format!("{name}:");
    let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
    found.unwrap_or_else(|| panic!("no {name} in:\n{text}")).to_owned()
}

/// Whether a save is under way.
#[track_caller]
pub fn is_saving(c: &mut Client) -> bool {
    persistence(c, "rdb_bgsave_in_progress") == "1"
}

/// Waits for the end of the save under way.
#[track_caller]
pub fn wait_for_save(c: &mut Client) {
    wait_until("the save is over", || !is_saving(c));
}

/// Limits how large a file a server may write from now on; `None` is no limit.
#[track_caller]
pub fn limit_file_size(server: &Server, bytes: Option<u64>) {
    let pid = rustix::process::Pid::from_raw(server.pid() as i32);
    let limit = rustix::process::Rlimit { current: bytes, maximum: None };
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).expect("set a limit");
}

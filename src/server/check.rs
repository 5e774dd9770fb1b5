//! `redshard check-rdb`: what is in an RDB file, and whether all of it can be read.

use crate::base::clock::Now;
use crate::rdb::{Fault, Item, Reason, Record, Splitter, Version, read, type_name};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::Path;
use std::process::ExitCode;

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// Checks a file and says on the standard output what it finds; fails if the file is not one that can be
/// read to its end.
pub fn rdb(path: &Path) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let checked = check(path, Now::read().unix_ms, &mut out);
    match checked.and_then(|good| out.flush().map(|()| good)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever pipes it into `head` has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// Returns whether the file is good. The lines are those of the peers' checkers as far as they go.
fn check(path: &Path, now_ms: i64, out: &mut impl Write) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    writeln!(out, "[offset 0] Checking RDB file {}", path.display())?;
    let total = about.is_file().then_some(about.len());
    let (mut splitter, mut found) = (Splitter::new(total), Found::default());
    let mut piece = vec![0; PIECE];
    let fault = loop {
        match found.items(&mut splitter, now_ms, out)? {
            Ok(true) => break None,
            Ok(false) => {}
            Err(fault) => break Some(fault),
        }
        match file.read(&mut piece) {
            Ok(0) => break splitter.finish().err(),
            Ok(read) => splitter.push(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    match &fault {
        None => {
            let at = splitter.offset();
            let checksum = if splitter.has_verified() { "OK" } else { "not there" };
            writeln!(out, "[offset {at}] Checksum {checksum}")?;
            writeln!(out, "[offset {at}] \\o/ RDB looks OK! \\o/")?;
            if let Some(more) = total.map(|total| total - at).filter(|more| *more > 0) {
                writeln!(out, "[info] {more} bytes follow the end")?;
            }
        }
        Some(fault) => {
            writeln!(out, "--- RDB ERROR DETECTED ---")?;
            writeln!(out, "[offset {}] {fault}", fault.at)?;
        }
    }
    found.tell(splitter.version(), out)?;
    Ok(fault.is_none())
}

/// Keys of one kind.
#[derive(Default)]
struct Keys {
    all: u64,
    expires: u64,
    expired: u64,
}

impl Keys {
    fn add(&mut self, other: &Keys) {
        self.all += other.all;
        self.expires += other.expires;
        self.expired += other.expired;
    }
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    /// By database and type.
    keys: BTreeMap<u64, BTreeMap<&'static str, Keys>>,
    functions: u64,
    /// How often each module has left data.
    modules: BTreeMap<String, u64>,
    key_metas: u64,
    /// Types that a server would refuse to load.
    unsupported: BTreeSet<&'static str>,
}

impl Found {
    /// Takes what the splitter has; returns whether the end was there.
    fn items(
        &mut self,
        splitter: &mut Splitter,
        now_ms: i64,
        out: &mut impl Write,
    ) -> io::Result<Result<bool, Fault>> {
        loop {
            let version = splitter.version();
            let line = match splitter.next() {
                Ok(None) => return Ok(Ok(false)),
                Err(fault) => return Ok(Err(fault)),
                Ok(Some(Item::End)) => return Ok(Ok(true)),
                Ok(Some(Item::Header(version))) => Some(format!("RDB version {version}")),
                Ok(Some(Item::Aux { name, value })) => {
                    let (name, value) = (name.escape_ascii(), value.escape_ascii());
                    Some(format!("AUX FIELD {name} = '{value}'"))
                }
                Ok(Some(Item::Resize { db, keys, volatile })) => {
                    Some(format!("DB {db} announces {keys} keys, {volatile} with an expiry"))
                }
                Ok(Some(Item::Function(_))) => {
                    self.functions += 1;
                    None
                }
                Ok(Some(Item::ModuleAux { name })) => {
                    *self.modules.entry(name).or_default() += 1;
                    None
                }
                Ok(Some(Item::KeyMeta)) => {
                    self.key_metas += 1;
                    None
                }
                Ok(Some(Item::SlotInfo | Item::SlotImport)) => None,
                Ok(Some(Item::Record(record))) => {
                    let db = record.db;
                    let is_first = !self.keys.contains_key(&db);
                    if let Some(version) = version
                        && let Err(fault) = self.record(version, record, now_ms)
                    {
                        return Ok(Err(fault));
                    }
                    is_first.then(|| format!("Selecting DB ID {db}"))
                }
            };
            if let Some(line) = line {
                writeln!(out, "[offset {}] {line}", splitter.offset())?;
            }
        }
    }

    fn record(&mut self, version: Version, record: Record, now_ms: i64) -> Result<(), Fault> {
        let name = type_name(version, record.type_byte).unwrap_or("unknown");
        match read::value(version, record.type_byte, record.value) {
            Ok(_) => {}
            Err(Reason::Unsupported(..)) => _ = self.unsupported.insert(name),
            Err(reason) => {
                let key = Some(record.key.into_owned());
                return Err(Fault { at: record.at, reason, key });
            }
        }
        let keys = self.keys.entry(record.db).or_default().entry(name).or_default();
        keys.add(&Keys {
            all: 1,
            expires: u64::from(record.expiry_ms.is_some()),
            expired: u64::from(record.expiry_ms.is_some_and(|at_ms| at_ms < now_ms)),
        });
        Ok(())
    }

    fn tell(&self, version: Option<Version>, out: &mut impl Write) -> io::Result<()> {
        let mut all = Keys::default();
        self.keys.values().flat_map(BTreeMap::values).for_each(|keys| all.add(keys));
        if let Some(version) = version {
            let line = if version.is_valkey() { " (Valkey)" } else { "" };
            writeln!(out, "[info] RDB version {version}{line}")?;
        }
        writeln!(out, "[info] {} keys read", all.all)?;
        writeln!(out, "[info] {} expires", all.expires)?;
        writeln!(out, "[info] {} already expired", all.expired)?;
        writeln!(out, "[info] {} functions", self.functions)?;
        for (module, times) in &self.modules {
            writeln!(out, "[info] {times} times data of module {module}")?;
        }
        if self.key_metas > 0 {
            writeln!(out, "[info] {} keys with data of modules", self.key_metas)?;
        }
        for (db, types) in &self.keys {
            for (name, keys) in types {
                let Keys { all, expires, expired } = keys;
                writeln!(
                    out,
                    "[info] db {db}: {all} of type {name}, {expires} expires, {expired} already expired"
                )?;
            }
        }
        for name in &self.unsupported {
            writeln!(out, "[info] type {name} is not supported yet: this server refuses the file")?;
        }
        Ok(())
    }
}

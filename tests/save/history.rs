//! Clients that write down what they write, so that a file can be compared with what there was at a moment.
//!
//! Each writer has databases of its own, in which it does all there is to be done with keys, one step after the other.
//! What its databases held after so many steps is found by doing these steps again, on a map.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use redshard::base::hash::Random;

use crate::support::client::encode;
use crate::support::rdb::{Databases, Keys};
use crate::support::{Client, Value};

/// Databases of one writer.
const DATABASES: u64 = 4;
/// Keys of one database, at most, without those that expire soon.
const KEYS: u64 = 300;
/// Steps that fill all databases.
const FILLS: u64 = DATABASES * 4;

/// Commands that take effect as one: the first says in which database.
type Step = Vec<Vec<String>>;

/// A writer, and what it has written so far.
pub struct Writer {
    databases: Range<u64>,
    /// Whether there is no other, so that it may flush all there is.
    is_alone: bool,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// What there was before the first step.
    start: Databases,
    steps: Vec<Step>,
    /// When each was sent and, as far as they have been, answered.
    sent: Vec<Instant>,
    answered: Vec<Instant>,
}

/// How far a writer has come.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    pub sent: usize,
    pub answered: usize,
}

/// Between which steps of a writer a cut was: more than two where a step changed nothing.
pub struct Cut {
    /// The last step that is certainly in it, as it was sent.
    in_sent: Option<Instant>,
    /// The first that is certainly not, as it was answered.
    out_answered: Option<Instant>,
}

pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// So many writers, on what there is.
pub fn writers(count: u64, start: &Databases) -> Vec<Writer> {
    let writer = |number| {
        let databases = number * DATABASES..(number + 1) * DATABASES;
        let start = start.clone().into_iter().filter(|(db, _)| databases.contains(db)).collect();
        let log = Mutex::new(Log { start, ..Log::default() });
        Writer { databases, is_alone: count == 1, log }
    };
    (0..count).map(writer).collect()
}

impl Writer {
    /// Writes until told to stop. Returns whether it was: `false` when the server has gone.
    pub fn write(&self, port: u16, seed: u64, is_over: &AtomicBool) -> bool {
        let Ok(mut client) = Client::try_connect(port) else { return false };
        let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + self.databases.end);
        let (mut number, mut fills) = (self.reached().sent as u64, 0..FILLS);
        while !is_over.load(Ordering::Relaxed) {
            number += 1;
            let step = match fills.next() {
                Some(part) => self.fill(number, part),
                None => self.step(number, &mut random),
            };
            if step.iter().any(|words| words[0].starts_with("FLUSH")) {
                fills = 0..FILLS;
            }
            let bytes: Vec<u8> = step.iter().flat_map(|words| command(words)).collect();
            let commands = step.len();
            self.with(|log| {
                log.steps.push(step);
                log.sent.push(Instant::now());
            });
            client.send_raw_lossy(&bytes);
            for _ in 0..commands {
                let Ok(reply) = client.try_read_reply() else { return false };
                let is_missing = |text: &str| text == "ERR no such key";
                if let Value::Error(text) = &reply {
                    assert!(is_missing(text), "{text}");
                }
            }
            self.with(|log| log.answered.push(Instant::now()));
        }
        true
    }

    pub fn reached(&self) -> Reached {
        self.with(|log| Reached { sent: log.steps.len(), answered: log.answered.len() })
    }

    fn with<R>(&self, f: impl FnOnce(&mut Log) -> R) -> R {
        f(&mut self.log.lock().expect("no writer panicked"))
    }

    /// Finds the cut of which a file is what there was, between two moments: all that was answered at the first is in
    /// it, and nothing that was not yet sent at the second. Keys that may have expired by `expired_ms` may be missing.
    pub fn cut_of(
        &self,
        file: &Databases,
        (first, last): (Reached, Reached),
        expired_ms: i64,
    ) -> Result<Cut, String> {
        let file: Databases = self.mine(file);
        self.with(|log| {
            let mut model = Model { databases: log.start.clone(), at: 0 };
            log.steps[..first.answered].iter().for_each(|step| model.run(step));
            let mut steps = first.answered;
            let mut differs = model.difference(&file, expired_ms);
            let closest = differs.clone();
            while differs.is_some() && steps < last.sent {
                model.run(&log.steps[steps]);
                steps += 1;
                differs = model.difference(&file, expired_ms);
            }
            if differs.is_some() {
                let span = format!("{} to {} steps", first.answered, last.sent);
                return Err(format!("not what there was after {span}: {closest:?}, {differs:?}"));
            }
            let in_sent = steps.checked_sub(1).map(|at| log.sent[at]);
            while steps < last.sent {
                model.run(&log.steps[steps]);
                if model.difference(&file, expired_ms).is_some() {
                    break;
                }
                steps += 1;
            }
            Ok(Cut { in_sent, out_answered: log.answered.get(steps).copied() })
        })
    }

    /// What there is after all steps, which have all been answered.
    pub fn now(&self) -> Databases {
        self.with(|log| {
            assert_eq!(log.steps.len(), log.answered.len());
            let mut model = Model { databases: log.start.clone(), at: 0 };
            log.steps.iter().for_each(|step| model.run(step));
            model.databases
        })
    }

    fn mine(&self, file: &Databases) -> Databases {
        let mine = file.iter().filter(|(db, _)| self.databases.contains(db));
        mine.map(|(db, keys)| (*db, keys.clone())).collect()
    }

    /// The first steps, and those after a flush: a part of a database's keys each, so that there is something to save.
    fn fill(&self, number: u64, part: u64) -> Step {
        let (db, part) = (self.databases.start + part % DATABASES, part / DATABASES);
        let pairs = (part * KEYS / 4..(part + 1) * KEYS / 4)
            .flat_map(|key| [format!("k{key}"), format!("fill:{number}:{key}")]);
        let mset = std::iter::once("MSET".to_owned()).chain(pairs).collect();
        vec![vec!["SELECT".to_owned(), db.to_string()], mset]
    }

    fn step(&self, number: u64, random: &mut Random) -> Step {
        let key_at = |at: u64| format!("k{}", at % KEYS);
        let at = random.below(KEYS);
        let (key, other) = (key_at(at), key_at(at + 1 + random.below(KEYS - 1)));
        let db = random.below(DATABASES);
        let other_db = (db + 1 + random.below(DATABASES - 1)) % DATABASES;
        let db_name = (self.databases.start + db).to_string();
        let other_db = (self.databases.start + other_db).to_string();
        let value = value(number, random);
        let later_ms = unix_ms() + 100_000_000 + number as i64;
        let soon_ms = unix_ms() + random.below(300) as i64;
        let lines: Vec<String> = match random.below(1000) {
            0..400 => vec![format!("SET {key} {value}")],
            // The keys of all shards, all with this number.
            400..550 => {
                let pairs = (0..6).map(|i| format!(" {} {value}", key_at(at + i * 7)));
                vec![format!("MSET{}", pairs.collect::<String>())]
            }
            550..600 => vec![format!("DEL {key} {other}")],
            600..650 => vec![format!("APPEND {key} +{number}")],
            650..680 => vec![format!("SETRANGE {key} 3 {number}")],
            680..720 => vec![format!("PEXPIREAT {key} {later_ms}")],
            720..750 => vec![format!("SET soon:{number} {value} PXAT {soon_ms}")],
            750..820 => vec![format!("RENAME {key} {other}")],
            820..860 => vec![format!("COPY {key} {other} DB {other_db} REPLACE")],
            860..890 => vec![format!("MOVE {key} {other_db}")],
            890..900 => vec![format!("SWAPDB {db_name} {other_db}")],
            900..901 => vec!["FLUSHDB".to_owned()],
            901..902 if self.is_alone => vec!["FLUSHALL".to_owned()],
            _ => vec![
                "MULTI".to_owned(),
                format!("SET {key} {value}"),
                format!("SET {other} {value}"),
                format!("DEL {}", key_at(at + 3)),
                "EXEC".to_owned(),
            ],
        };
        let words = |line: &String| line.split(' ').map(str::to_owned).collect();
        let select = vec!["SELECT".to_owned(), db_name];
        std::iter::once(select).chain(lines.iter().map(words)).collect()
    }
}

/// A value of any kind: a number, short, long enough to be compressed, longer than what is copied.
fn value(number: u64, random: &mut Random) -> String {
    match random.below(200) {
        0 => format!("{number}:").repeat(4_000),
        1..20 => format!("{number}:").repeat(40),
        20..80 => number.to_string(),
        _ => format!("v{number}"),
    }
}

fn command(words: &[String]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    encode(&words)
}

/// All cuts were one: nothing that is in it was sent after something had been answered that is not.
pub fn assert_one_cut(cuts: &[Cut]) {
    let last_in = cuts.iter().filter_map(|cut| cut.in_sent).max();
    let first_out = cuts.iter().filter_map(|cut| cut.out_answered).min();
    if let (Some(last_in), Some(first_out)) = (last_in, first_out) {
        assert!(last_in <= first_out, "the writers were cut at different moments");
    }
}

/// The databases as a map.
#[derive(Clone)]
struct Model {
    databases: Databases,
    at: u64,
}

impl Model {
    fn run(&mut self, step: &Step) {
        for words in step {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.command(&words);
        }
    }

    fn keys(&mut self) -> &mut Keys {
        self.databases.entry(self.at).or_default()
    }

    fn command(&mut self, words: &[&str]) {
        let db = |word: &str| word.parse::<u64>().expect("a database");
        match *words {
            ["SELECT", to] => self.at = db(to),
            ["MULTI" | "EXEC"] => {}
            ["SET", key, value] => {
                self.keys().insert(key.to_owned(), (value.to_owned(), None));
            }
            ["SET", key, value, "PXAT", at_ms] => {
                let at_ms = at_ms.parse().expect("a time");
                self.keys().insert(key.to_owned(), (value.to_owned(), Some(at_ms)));
            }
            ["MSET", ref pairs @ ..] => {
                for pair in pairs.chunks(2) {
                    self.keys().insert(pair[0].to_owned(), (pair[1].to_owned(), None));
                }
            }
            ["DEL", ref keys @ ..] => {
                for key in keys {
                    self.keys().remove(*key);
                }
            }
            ["APPEND", key, text] => {
                self.keys().entry(key.to_owned()).or_default().0.push_str(text);
            }
            ["SETRANGE", key, at, text] => {
                let at: usize = at.parse().expect("an offset");
                let value = &mut self.keys().entry(key.to_owned()).or_default().0;
                let least = "\0".repeat((at + text.len()).saturating_sub(value.len()));
                value.push_str(&least);
                value.replace_range(at..at + text.len(), text);
            }
            ["PEXPIREAT", key, at_ms] => {
                if let Some((_, expiry)) = self.keys().get_mut(key) {
                    *expiry = at_ms.parse().ok();
                }
            }
            ["RENAME", key, to] => {
                if let Some(value) = self.keys().remove(key) {
                    self.keys().insert(to.to_owned(), value);
                }
            }
            ["COPY", key, to, "DB", to_db, "REPLACE"] => {
                if let Some(value) = self.keys().get(key).cloned() {
                    self.databases.entry(db(to_db)).or_default().insert(to.to_owned(), value);
                }
            }
            ["MOVE", key, to_db] => {
                let is_there =
                    self.databases.get(&db(to_db)).is_some_and(|to| to.contains_key(key));
                if !is_there && let Some(value) = self.keys().remove(key) {
                    self.databases.entry(db(to_db)).or_default().insert(key.to_owned(), value);
                }
            }
            ["SWAPDB", a, b] => {
                let (of_a, of_b) = (self.databases.remove(&db(a)), self.databases.remove(&db(b)));
                self.databases.extend(of_b.map(|keys| (db(a), keys)));
                self.databases.extend(of_a.map(|keys| (db(b), keys)));
            }
            ["FLUSHDB"] => self.keys().clear(),
            ["FLUSHALL"] => self.databases.clear(),
            _ => panic!("{words:?} is not one of these commands"),
        }
    }

    /// The first difference between this and a file, if there is any.
    fn difference(&self, file: &Databases, expired_ms: i64) -> Option<String> {
        let none = Keys::new();
        let mut numbers: Vec<u64> = self.databases.keys().chain(file.keys()).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        for db in numbers {
            let (mine, of_file) =
                (self.databases.get(&db).unwrap_or(&none), file.get(&db).unwrap_or(&none));
            for (key, value) in of_file {
                if mine.get(key) != Some(value) {
                    let (mine, of_file) = (brief(mine.get(key)), brief(Some(value)));
                    return Some(format!("{db} {key}: {of_file} in the file, {mine} expected"));
                }
            }
            let may_miss = |expiry: Option<i64>| expiry.is_some_and(|at_ms| at_ms <= expired_ms);
            for (key, value) in mine {
                if !of_file.contains_key(key) && !may_miss(value.1) {
                    return Some(format!("{db} {key}: missing, {} expected", brief(Some(value))));
                }
            }
        }
        None
    }
}

fn brief(value: Option<&(String, Option<i64>)>) -> String {
    value.map_or("nothing".to_owned(), |(text, at_ms)| {
        format!("{} bytes \"{}\" until {at_ms:?}", text.len(), &text[..text.len().min(20)])
    })
}

//! Random commands against a plain map. Several connections (so that commands start on different
//! shards), one of them speaking RESP3, send pipelines and transactions in turn; every reply is
//! compared with what the map says, and in the end the whole data set is.
//!
//! `REDSHARD_SEED` chooses the sequence, `REDSHARD_INPUTS` how many commands. Expiry times are
//! absolute and far away, so nothing expires by itself and every reply is known beforehand.

mod support;

use redshard::base::hash::Random;
use std::collections::BTreeMap;
use support::client::encode;
use support::*;

/// Databases that are used.
const DATABASES: usize = 3;

/// Commands per shard count, unless REDSHARD_INPUTS says otherwise.
const COMMANDS: u64 = 8_000;

/// 2096, in milliseconds: expiry times lie a little after it.
const FAR_MS: i64 = 4_000_000_000_000;

type Words = Vec<Vec<u8>>;

#[test]
fn every_reply_is_what_a_plain_map_says() {
    let first = setting("REDSHARD_SEED", 1);
    let commands = setting("REDSHARD_INPUTS", COMMANDS);
    for &shards in shard_counts() {
        eprintln!("{commands} commands on {shards} shard(s), REDSHARD_SEED={first}");
        // Told once: every failure below is replayed by it.
        let server = Server::start(shards);
        let mut random = Random::new(first.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut model = Model::default();
        let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
        clients[1].cmd(&["HELLO", "3"]);
        let mut sessions = [0, 1, 2].map(|i| Session { resp3: i == 1, ..Session::default() });
        let mut left = commands;
        while left > 0 {
            let who = random.below(3) as usize;
            let batch: Vec<Words> = (0..1 + random.below(24)).map(|_| words(&mut random)).collect();
            left = left.saturating_sub(batch.len() as u64);
            let bytes: Vec<u8> = batch.iter().flat_map(encode_words).collect();
            clients[who].send_raw(&bytes);
            for words in &batch {
                let expected = model.run(&mut sessions[who], words);
                let got = clients[who].read_reply();
                assert!(
                    expected.agrees(&got),
                    "connection {who}, {}: got {got:?}, expected {expected:?}",
                    shown(words)
                );
            }
        }
        for (client, session) in clients.iter_mut().zip(&mut sessions) {
            if session.queue.take().is_some() {
                client.check("DISCARD", ok());
            }
        }
        model.check_all(&mut clients[0]);
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}

fn encode_words(words: &Words) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    encode(&words)
}

fn shown(words: &Words) -> String {
    words.join(&b' ').escape_ascii().to_string()
}

// ---- what is asked ---------------------------------------------------------------------------

fn words(random: &mut Random) -> Words {
    let shape = pick(
        random,
        &[
            "SET K V",
            "SET K V",
            "SET K V NX",
            "SET K V XX",
            "SET K V GET",
            "SET K V NX GET",
            "SET K V KEEPTTL",
            "SET K V PXAT T",
            "SET K V XX GET PXAT T",
            "SETNX K V",
            "GET K",
            "GET K",
            "GETSET K V",
            "GETDEL K",
            "GETEX K",
            "GETEX K PERSIST",
            "GETEX K PXAT T",
            "APPEND K V",
            "STRLEN K",
            "SETRANGE K O V",
            "GETRANGE K R R",
            "SUBSTR K R R",
            "INCR K",
            "DECR K",
            "INCRBY K N",
            "DECRBY K N",
            "MSET K V K V",
            "MSET K V K V K V",
            "MSETNX K V K V",
            "MGET K K K",
            "MGET K",
            "DEL K",
            "DEL K K K",
            "UNLINK K K",
            "EXISTS K K",
            "TOUCH K K K",
            "TYPE K",
            "RENAME K K",
            "RENAMENX K K",
            "COPY K K",
            "COPY K K REPLACE",
            "COPY K K DB D",
            "COPY K K DB D REPLACE",
            "MOVE K D",
            "SWAPDB D D",
            "SELECT D",
            "SELECT D",
            "DBSIZE",
            "KEYS *",
            "KEYS k*",
            "RANDOMKEY",
            "PEXPIREAT K T",
            "PEXPIREAT K T NX",
            "PEXPIREAT K T XX",
            "PEXPIREAT K T GT",
            "PEXPIREAT K T LT",
            "PEXPIREAT K T XX GT",
            "PEXPIREAT K 1 GT",
            "PEXPIREAT K 1 LT",
            "EXPIREAT K 4000000001",
            "EXPIRE K -1 NX",
            "EXPIRE K 0",
            "PERSIST K",
            "PERSIST K",
            "PEXPIRETIME K",
            "EXPIRETIME K",
            "DELIFEQ K V",
            "ECHO V",
            "MULTI",
            "EXEC",
            "EXEC",
            "DISCARD",
            "GET",
            "NOSUCH K",
        ],
    );
    // Rarely, or nothing would ever be there.
    if random.below(150) == 0 {
        return vec![b"FLUSHDB".to_vec()];
    }
    if random.below(600) == 0 {
        return vec![b"FLUSHALL".to_vec()];
    }
    shape.split(' ').map(|word| argument(random, word)).collect()
}

fn argument(random: &mut Random, word: &str) -> Vec<u8> {
    match word {
        "K" => match random.below(14) {
            0 => format!("{{k}}{}", random.below(3)).into(),
            1 => Vec::new(),
            2 => b"\0\r\n\xff".to_vec(),
            _ => format!("k{}", random.below(24)).into(),
        },
        "V" => match random.below(12) {
            0 => Vec::new(),
            1 => b"\r\n\0\xff".to_vec(),
            // Around where a value moves out of its key's block.
            2 => vec![b'x'; 16_380 + random.below(8) as usize],
            3 => vec![b'y'; random.below(300) as usize],
            4..8 => (random.below(2000) as i64 - 1000).to_string().into(),
            8 => pick(random, &["9223372036854775807", "-9223372036854775808", "01", "+1", "1 "])
                .into(),
            _ => pick(random, &["a", "b", "value"]).into(),
        },
        "T" => (FAR_MS + 1000 * random.below(5) as i64).to_string().into(),
        "O" => random.below(40).to_string().into(),
        "R" => (random.below(30) as i64 - 15).to_string().into(),
        "N" => (random.below(200) as i64 - 100).to_string().into(),
        "D" => random.below(DATABASES as u64).to_string().into(),
        word => word.into(),
    }
}

fn pick<'a>(random: &mut Random, items: &[&'a str]) -> &'a str {
    items[random.below(items.len() as u64) as usize]
}

// ---- what it should say ----------------------------------------------------------------------

#[derive(Clone)]
struct Item {
    value: Vec<u8>,
    expires_ms: Option<i64>,
}

#[derive(Default)]
struct Model {
    databases: [BTreeMap<Vec<u8>, Item>; DATABASES],
}

/// One connection.
#[derive(Default)]
struct Session {
    db: usize,
    resp3: bool,
    queue: Option<Queue>,
}

#[derive(Default)]
struct Queue {
    commands: Vec<Words>,
    failed: bool,
}

#[derive(Debug)]
enum Expected {
    Exactly(Value),
    /// An array in any order.
    InAnyOrder(Vec<Vec<u8>>),
    OneOf(Vec<Vec<u8>>),
    ErrorWith(&'static str),
    All(Vec<Expected>),
}

impl Expected {
    fn agrees(&self, got: &Value) -> bool {
        match (self, got) {
            (Expected::Exactly(value), _) => value == got,
            (Expected::InAnyOrder(keys), Value::Array(items)) => {
                let mut items: Vec<&[u8]> = items.iter().map(Value::bytes).collect();
                items.sort_unstable();
                items == *keys
            }
            (Expected::OneOf(keys), Value::Bulk(key)) => keys.contains(key),
            (Expected::ErrorWith(start), Value::Error(text)) => text.starts_with(start),
            (Expected::All(parts), Value::Array(items)) => {
                parts.len() == items.len()
                    && parts.iter().zip(items).all(|(part, item)| part.agrees(item))
            }
            _ => false,
        }
    }
}

impl From<Value> for Expected {
    fn from(value: Value) -> Expected {
        Expected::Exactly(value)
    }
}

impl Model {
    fn run(&mut self, session: &mut Session, words: &Words) -> Expected {
        let name = String::from_utf8_lossy(&words[0]).into_owned();
        if name == "GET" && words.len() == 1 || name == "NOSUCH" {
            if let Some(queue) = &mut session.queue {
                queue.failed = true;
            }
            return match words.len() {
                1 => wrong_arity("get").into(),
                _ => Expected::ErrorWith("ERR unknown command 'NOSUCH'"),
            };
        }
        match (name.as_str(), &mut session.queue) {
            ("MULTI", None) => {
                session.queue = Some(Queue::default());
                ok().into()
            }
            ("MULTI", Some(queue)) => {
                queue.failed = true;
                Expected::ErrorWith("ERR ")
            }
            ("EXEC", None) => error("ERR EXEC without MULTI").into(),
            ("DISCARD", None) => error("ERR DISCARD without MULTI").into(),
            ("DISCARD", Some(_)) => {
                session.queue = None;
                ok().into()
            }
            ("EXEC", Some(_)) => {
                let queue = session.queue.take().unwrap_or_default();
                if queue.failed {
                    return Expected::ErrorWith("EXECABORT");
                }
                let run = |words| self.apply(session, words);
                Expected::All(queue.commands.iter().map(run).collect())
            }
            (_, Some(queue)) => {
                queue.commands.push(words.clone());
                queued().into()
            }
            (_, None) => self.apply(session, words),
        }
    }

    fn apply(&mut self, session: &mut Session, words: &Words) -> Expected {
        let name = String::from_utf8_lossy(&words[0]).into_owned();
        let args = &words[1..];
        let nothing = if session.resp3 { Value::Null } else { nil() };
        let value_of = |item: Option<&Item>| match item {
            Some(item) => bulk(&item.value),
            None => nothing.clone(),
        };
        let count = |n: usize| int(n as i64);
        match name.as_str() {
            "SELECT" => {
                session.db = number(&args[0]) as usize;
                return ok().into();
            }
            "SWAPDB" => {
                let (a, b) = (number(&args[0]) as usize, number(&args[1]) as usize);
                self.databases.swap(a, b);
                return ok().into();
            }
            "FLUSHALL" => {
                self.databases = Default::default();
                return ok().into();
            }
            "COPY" | "MOVE" => return self.copy(session.db, &name, args),
            _ => {}
        }
        let db = &mut self.databases[session.db];
        let key = args.first().cloned().unwrap_or_default();
        let has = |word: &str| args.iter().skip(2).any(|arg| arg == word.as_bytes());
        let expires = || {
            let at = args.iter().position(|arg| arg == b"PXAT");
            at.map(|at| number(&args[at + 1]))
        };
        match name.as_str() {
            "SET" => {
                let before = db.get(&key).cloned();
                let allowed = match before {
                    Some(_) => !has("NX"),
                    None => !has("XX"),
                };
                if allowed {
                    let kept = before.as_ref().and_then(|item| item.expires_ms);
                    let item = Item {
                        value: args[1].clone(),
                        expires_ms: if has("KEEPTTL") { kept } else { expires() },
                    };
                    db.insert(key, item);
                }
                match (has("GET"), allowed) {
                    (true, _) => value_of(before.as_ref()).into(),
                    (false, true) => ok().into(),
                    (false, false) => nothing.into(),
                }
            }
            "SETNX" => {
                let fresh = !db.contains_key(&key);
                if fresh {
                    put(db, &key, &args[1]);
                }
                count(usize::from(fresh)).into()
            }
            "GET" => value_of(db.get(&key)).into(),
            "GETSET" => {
                let before = value_of(db.get(&key));
                put(db, &key, &args[1]);
                before.into()
            }
            "GETDEL" => value_of(db.remove(&key).as_ref()).into(),
            "GETEX" => {
                if let Some(item) = db.get_mut(&key)
                    && args.len() > 1
                {
                    item.expires_ms = expires();
                }
                value_of(db.get(&key)).into()
            }
            "DELIFEQ" => {
                let same = db.get(&key).is_some_and(|item| item.value == args[1]);
                if same {
                    db.remove(&key);
                }
                count(usize::from(same)).into()
            }
            "APPEND" => {
                let value = value_mut(db, &key);
                value.extend_from_slice(&args[1]);
                count(value.len()).into()
            }
            "STRLEN" => count(db.get(&key).map_or(0, |item| item.value.len())).into(),
            "SETRANGE" => {
                let (from, bytes) = (number(&args[1]) as usize, &args[2]);
                if bytes.is_empty() {
                    return count(db.get(&key).map_or(0, |item| item.value.len())).into();
                }
                let value = value_mut(db, &key);
                value.resize(value.len().max(from + bytes.len()), 0);
                value[from..from + bytes.len()].copy_from_slice(bytes);
                count(value.len()).into()
            }
            "GETRANGE" | "SUBSTR" => {
                let value = db.get(&key).map_or(&[][..], |item| &item.value);
                bulk(range(value, number(&args[1]), number(&args[2]))).into()
            }
            "INCR" => step(db, &key, 1),
            "DECR" => step(db, &key, -1),
            "INCRBY" => step(db, &key, number(&args[1])),
            "DECRBY" => step(db, &key, -number(&args[1])),
            "MSET" => {
                args.chunks(2).for_each(|pair| put(db, &pair[0], &pair[1]));
                ok().into()
            }
            "MSETNX" => {
                let fresh = args.chunks(2).all(|pair| !db.contains_key(&pair[0]));
                if fresh {
                    args.chunks(2).for_each(|pair| put(db, &pair[0], &pair[1]));
                }
                count(usize::from(fresh)).into()
            }
            "MGET" => Value::Array(args.iter().map(|key| value_of(db.get(key))).collect()).into(),
            "DEL" | "UNLINK" => {
                count(args.iter().filter(|key| db.remove(*key).is_some()).count()).into()
            }
            "EXISTS" | "TOUCH" => {
                count(args.iter().filter(|key| db.contains_key(*key)).count()).into()
            }
            "TYPE" => simple(if db.contains_key(&key) { "string" } else { "none" }).into(),
            "RENAME" | "RENAMENX" => {
                if !db.contains_key(&key) {
                    return error("ERR no such key").into();
                }
                let nx = name == "RENAMENX";
                if nx && db.contains_key(&args[1]) {
                    return int(0).into();
                }
                if let Some(item) = db.remove(&key) {
                    db.insert(args[1].clone(), item);
                }
                if nx { int(1).into() } else { ok().into() }
            }
            "DBSIZE" => count(db.len()).into(),
            "FLUSHDB" => {
                db.clear();
                ok().into()
            }
            "KEYS" => {
                let all = key == b"*";
                let matching = db.keys().filter(|key| all || key.starts_with(b"k"));
                Expected::InAnyOrder(matching.cloned().collect())
            }
            "RANDOMKEY" if db.is_empty() => nothing.into(),
            "RANDOMKEY" => Expected::OneOf(db.keys().cloned().collect()),
            "PEXPIREAT" => expire(db, args, number(&args[1])),
            "EXPIREAT" => expire(db, args, number(&args[1]) * 1000),
            // Both in the past.
            "EXPIRE" => expire(db, args, 0),
            "PERSIST" => {
                let had = db.get_mut(&key).and_then(|item| item.expires_ms.take());
                count(usize::from(had.is_some())).into()
            }
            "PEXPIRETIME" | "EXPIRETIME" => {
                let unit = if name == "EXPIRETIME" { 1000 } else { 1 };
                int(match db.get(&key) {
                    None => -2,
                    Some(item) => item.expires_ms.map_or(-1, |at_ms| at_ms / unit),
                })
                .into()
            }
            "ECHO" => bulk(&key).into(),
            other => panic!("the model does not know {other}"),
        }
    }

    fn copy(&mut self, db: usize, name: &str, args: &[Vec<u8>]) -> Expected {
        let moves = name == "MOVE";
        let other = match moves {
            true => number(&args[1]) as usize,
            false => args
                .iter()
                .skip(2)
                .position(|arg| arg == b"DB")
                .map_or(db, |at| number(&args[at + 3]) as usize),
        };
        let to = if moves { &args[0] } else { &args[1] };
        if other == db && *to == args[0] {
            return error("ERR source and destination objects are the same").into();
        }
        let replaces = args.iter().skip(2).any(|arg| arg == b"REPLACE");
        let Some(item) = self.databases[db].get(&args[0]).cloned() else {
            return int(0).into();
        };
        if self.databases[other].contains_key(to) && !replaces {
            return int(0).into();
        }
        self.databases[other].insert(to.clone(), item);
        if moves {
            self.databases[db].remove(&args[0]);
        }
        int(1).into()
    }

    /// Compares all there is, key by key, and by a walk with SCAN.
    fn check_all(&self, client: &mut Client) {
        for (number, db) in self.databases.iter().enumerate() {
            client.check(&format!("SELECT {number}"), ok());
            client.check("DBSIZE", int(db.len() as i64));
            for (key, item) in db {
                assert_eq!(client.cmd_bytes(&[b"GET", key]), bulk(&item.value));
                let expires = item.expires_ms.unwrap_or(-1);
                assert_eq!(client.cmd_bytes(&[b"PEXPIRETIME", key]), int(expires));
            }
            let (mut cursor, mut found) = (String::from("0"), Vec::new());
            loop {
                let reply = client.cmd(&["SCAN", &cursor, "COUNT", "3"]);
                cursor = reply.items()[0].text();
                found.extend(reply.items()[1].items().iter().map(|key| key.bytes().to_vec()));
                if cursor == "0" {
                    break;
                }
            }
            found.sort();
            // Nothing changes meanwhile, but a table that resizes may show a key twice.
            found.dedup();
            assert!(found.iter().eq(db.keys()), "SCAN of database {number}");
        }
    }
}

type Database = BTreeMap<Vec<u8>, Item>;

fn number(text: &[u8]) -> i64 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("the generator makes numbers here")
}

fn put(db: &mut Database, key: &[u8], value: &[u8]) {
    let item = Item { value: value.to_vec(), expires_ms: None };
    db.insert(key.to_vec(), item);
}

fn value_mut<'a>(db: &'a mut Database, key: &[u8]) -> &'a mut Vec<u8> {
    let item = db.entry(key.to_vec()).or_insert(Item { value: Vec::new(), expires_ms: None });
    &mut item.value
}

fn step(db: &mut Database, key: &[u8], by: i64) -> Expected {
    let before = match db.get(key) {
        None => Some(0),
        Some(item) => strict(&item.value),
    };
    let Some(before) = before else {
        return not_an_integer().into();
    };
    let Some(after) = before.checked_add(by) else {
        return error("ERR increment or decrement would overflow").into();
    };
    *value_mut(db, key) = after.to_string().into();
    int(after).into()
}

/// A number as it would be written, and nothing else.
fn strict(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// From and to, both included, negative ones counted from the end.
fn range(value: &[u8], from: i64, to: i64) -> &[u8] {
    let len = value.len() as i64;
    if from < 0 && to < 0 && from > to {
        return &[];
    }
    let place = |at: i64| if at < 0 { (at + len).max(0) } else { at };
    let (from, to) = (place(from), place(to).min(len - 1));
    if from > to {
        return &[];
    }
    &value[from as usize..=to as usize]
}

fn expire(db: &mut Database, args: &[Vec<u8>], at_ms: i64) -> Expected {
    let has = |word: &str| args.iter().skip(2).any(|arg| arg == word.as_bytes());
    let Some(item) = db.get_mut(&args[0]) else {
        return int(0).into();
    };
    let before = item.expires_ms;
    let refused = has("NX") && before.is_some()
        || has("XX") && before.is_none()
        || has("GT") && before.is_none_or(|before| at_ms <= before)
        || has("LT") && before.is_some_and(|before| at_ms >= before);
    if refused {
        return int(0).into();
    }
    item.expires_ms = Some(at_ms);
    if at_ms < FAR_MS {
        db.remove(&args[0]);
    }
    int(1).into()
}

//! The checkers: what clients were told, a model of what they might have been told, and the search
//! for a serial order that explains it (Wing & Gong, with the memory of Lowe: a set of operations
//! that led to a state is looked at once).
//!
//! `tests/order.rs` asks the same of a real server and includes this file.

use super::{Random, even_owner};
use std::collections::HashSet;

/// A reply, as far as the workloads need to tell replies apart: all values are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// OK, QUEUED.
    Status,
    /// Any error that the model knows of.
    Error,
    /// An integer.
    Int(i64),
    /// A string, which is a number.
    Text(i64),
    /// A null, of either kind.
    Nil,
    /// An array.
    List(Vec<Answer>),
}

/// Reads one reply from the front of `bytes`; returns it and its length, or `None` while some of
/// it is missing.
pub fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let end = memchr::memchr(b'\n', bytes)?;
    let line = std::str::from_utf8(&bytes[1..end - 1]).expect("text");
    let number = || line.parse::<i64>().expect("a number");
    let mut used = end + 1;
    let answer = match bytes[0] {
        b'+' => Answer::Status,
        b'-' => {
            assert!(line.starts_with("ERR no such key"), "{line}");
            Answer::Error
        }
        b':' => Answer::Int(number()),
        b'$' | b'*' if number() < 0 => Answer::Nil,
        b'$' => {
            let len = number() as usize;
            let text = bytes.get(used..used + len + 2)?;
            used += len + 2;
            let text = std::str::from_utf8(&text[..len]).expect("text");
            Answer::Text(text.parse().expect("a number"))
        }
        b'*' => {
            let mut list = Vec::new();
            for _ in 0..number() {
                let (element, len) = parse(&bytes[used..])?;
                list.push(element);
                used += len;
            }
            Answer::List(list)
        }
        other => panic!("no reply begins with {other}"),
    };
    Some((answer, used))
}

/// Keys are numbers below this.
pub const KEYS: usize = 6;
/// Clients of a short history are numbers below this.
pub const CLIENTS: usize = 4;

/// One operation on the model, which a client sees as one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// GET.
    Get(usize),
    /// SET.
    Set(usize, i64),
    /// MGET.
    Mget(Vec<usize>),
    /// MSET of one value.
    Mset(Vec<usize>, i64),
    /// MSETNX of one value.
    MsetNx(Vec<usize>, i64),
    /// INCR.
    Incr(usize),
    /// DEL.
    Del(Vec<usize>),
    /// EXISTS.
    Exists(Vec<usize>),
    /// RENAME.
    Rename(usize, usize),
    /// RENAMENX.
    RenameNx(usize, usize),
    /// COPY, with REPLACE or without.
    Copy(usize, usize, bool),
    /// FLUSHALL.
    FlushAll,
    /// DBSIZE.
    DbSize,
    /// WATCH.
    Watch(Vec<usize>),
    /// UNWATCH.
    Unwatch,
    /// MULTI, commands, EXEC.
    Exec(Vec<Op>),
}

impl Op {
    /// The commands a client sends for it; the last one's reply is the operation's.
    pub fn commands(&self, names: &[String]) -> Vec<Vec<String>> {
        let word = |name: &str, keys: &[usize]| {
            let keys = keys.iter().map(|key| names[*key].clone());
            std::iter::once(name.to_owned()).chain(keys).collect()
        };
        let pairs = |name: &str, keys: &[usize], value: i64| {
            let pairs = keys.iter().flat_map(|key| [names[*key].clone(), value.to_string()]);
            std::iter::once(name.to_owned()).chain(pairs).collect()
        };
        vec![match self {
            Op::Get(key) => word("GET", &[*key]),
            Op::Set(key, value) => pairs("SET", &[*key], *value),
            Op::Mget(keys) => word("MGET", keys),
            Op::Mset(keys, value) => pairs("MSET", keys, *value),
            Op::MsetNx(keys, value) => pairs("MSETNX", keys, *value),
            Op::Incr(key) => word("INCR", &[*key]),
            Op::Del(keys) => word("DEL", keys),
            Op::Exists(keys) => word("EXISTS", keys),
            Op::Rename(from, to) => word("RENAME", &[*from, *to]),
            Op::RenameNx(from, to) => word("RENAMENX", &[*from, *to]),
            Op::Copy(from, to, replace) => {
                let mut words: Vec<String> = word("COPY", &[*from, *to]);
                words.extend(replace.then(|| "REPLACE".to_owned()));
                words
            }
            Op::FlushAll => word("FLUSHALL", &[]),
            Op::DbSize => word("DBSIZE", &[]),
            Op::Watch(keys) => word("WATCH", keys),
            Op::Unwatch => word("UNWATCH", &[]),
            Op::Exec(ops) => {
                let mut all: Vec<Vec<String>> = vec![word("MULTI", &[])];
                all.extend(ops.iter().flat_map(|op| op.commands(names)));
                all.push(word("EXEC", &[]));
                return all;
            }
        }]
    }

    /// The keys it concerns, as bits.
    pub fn keys(&self) -> u32 {
        let bits = |keys: &[usize]| keys.iter().fold(0, |bits, key| bits | 1 << key);
        match self {
            Op::Get(key) | Op::Set(key, _) | Op::Incr(key) => bits(&[*key]),
            Op::Mget(keys)
            | Op::Mset(keys, _)
            | Op::MsetNx(keys, _)
            | Op::Del(keys)
            | Op::Exists(keys)
            | Op::Watch(keys) => bits(keys),
            Op::Rename(a, b) | Op::RenameNx(a, b) | Op::Copy(a, b, _) => bits(&[*a, *b]),
            Op::FlushAll | Op::DbSize => u32::MAX,
            Op::Unwatch => 0,
            Op::Exec(ops) => ops.iter().fold(0, |bits, op| bits | op.keys()),
        }
    }

    /// Whether the later commands of its pipeline wait until it has been answered (rule 4).
    pub fn holds_back(&self, names: &[String], shards: usize) -> bool {
        let keys = self.keys();
        let mut owners = (0..names.len())
            .filter(|key| keys & 1 << key != 0)
            .map(|key| even_owner(names[key].as_bytes(), shards));
        let first = owners.next();
        matches!(self, Op::FlushAll | Op::DbSize | Op::Watch(_) | Op::Unwatch | Op::Exec(_))
            || owners.any(|owner| Some(owner) != first)
    }
}

/// What the model remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    values: [Option<i64>; KEYS],
    /// Bits of the keys each client watches.
    watched: [u32; CLIENTS],
    /// Whether one of them has changed.
    changed: [bool; CLIENTS],
}

impl State {
    fn put(&mut self, key: usize, value: Option<i64>) {
        self.values[key] = value;
        for (watched, changed) in self.watched.iter().zip(&mut self.changed) {
            *changed |= watched & 1 << key != 0;
        }
    }

    fn unwatch(&mut self, client: usize) {
        (self.watched[client], self.changed[client]) = (0, false);
    }

    /// Does what an operation does, and says what it answers.
    pub fn apply(&mut self, client: usize, op: &Op) -> Answer {
        let text = |value: Option<i64>| value.map_or(Answer::Nil, Answer::Text);
        match op {
            Op::Get(key) => text(self.values[*key]),
            Op::Mget(keys) => {
                Answer::List(keys.iter().map(|key| text(self.values[*key])).collect())
            }
            Op::Set(key, value) => {
                self.put(*key, Some(*value));
                Answer::Status
            }
            Op::Mset(keys, value) => {
                keys.iter().for_each(|key| self.put(*key, Some(*value)));
                Answer::Status
            }
            Op::MsetNx(keys, value) => {
                let free = keys.iter().all(|key| self.values[*key].is_none());
                if free {
                    keys.iter().for_each(|key| self.put(*key, Some(*value)));
                }
                Answer::Int(i64::from(free))
            }
            Op::Incr(key) => {
                let next = self.values[*key].unwrap_or(0) + 1;
                self.put(*key, Some(next));
                Answer::Int(next)
            }
            Op::Del(keys) => {
                let mut gone = 0;
                for key in keys {
                    if self.values[*key].is_some() {
                        self.put(*key, None);
                        gone += 1;
                    }
                }
                Answer::Int(gone)
            }
            Op::Exists(keys) => {
                let there = keys.iter().filter(|key| self.values[**key].is_some());
                Answer::Int(there.count() as i64)
            }
            Op::Rename(from, to) => {
                let Some(value) = self.values[*from] else {
                    return Answer::Error;
                };
                self.put(*from, None);
                self.put(*to, Some(value));
                Answer::Status
            }
            Op::RenameNx(from, to) => {
                let Some(value) = self.values[*from] else {
                    return Answer::Error;
                };
                if self.values[*to].is_some() {
                    return Answer::Int(0);
                }
                self.put(*from, None);
                self.put(*to, Some(value));
                Answer::Int(1)
            }
            Op::Copy(from, to, replace) => {
                let fine = self.values[*from].is_some() && (*replace || self.values[*to].is_none());
                if fine {
                    self.put(*to, self.values[*from]);
                }
                Answer::Int(i64::from(fine))
            }
            Op::FlushAll => {
                for key in 0..KEYS {
                    if self.values[key].is_some() {
                        self.put(key, None);
                    }
                }
                Answer::Status
            }
            Op::DbSize => Answer::Int(self.values.iter().flatten().count() as i64),
            Op::Watch(keys) => {
                let bits = keys.iter().fold(0, |bits, key| bits | 1 << key);
                self.watched[client] |= bits;
                Answer::Status
            }
            Op::Unwatch => {
                self.unwatch(client);
                Answer::Status
            }
            Op::Exec(ops) => {
                let changed = self.changed[client];
                self.unwatch(client);
                if changed {
                    return Answer::Nil;
                }
                Answer::List(ops.iter().map(|op| self.apply(client, op)).collect())
            }
        }
    }
}

/// An operation of a history.
#[derive(Clone, Debug)]
pub struct Event {
    /// Whose.
    pub client: usize,
    /// What.
    pub op: Op,
    /// When its first byte was sent.
    pub invoked: u64,
    /// When its last byte was received, and what it said; without, it may have happened or not.
    pub answered: Option<(u64, Answer)>,
    /// Earlier events of the same client, as bits, that must come before: they share a key, or held
    /// this one back.
    pub after: u32,
}

/// Whether some serial order explains what the clients were told.
pub fn is_explained(events: &[Event]) -> bool {
    assert!(events.len() <= 32, "one bit each");
    let answered = events.iter().enumerate();
    let wanted = answered
        .filter(|(_, event)| event.answered.is_some())
        .fold(0, |bits, (i, _)| bits | 1u32 << i);
    explains(events, wanted, 0, State::default(), &mut HashSet::new())
}

fn explains(
    events: &[Event],
    wanted: u32,
    done: u32,
    state: State,
    seen: &mut HashSet<(u32, State)>,
) -> bool {
    if done & wanted == wanted {
        return true;
    }
    if !seen.insert((done, state)) {
        return false;
    }
    let open = || {
        let all = events.iter().enumerate();
        all.filter(|(i, _)| done & 1 << i == 0)
    };
    // Nothing may come after something that was answered before it was asked.
    let horizon = open()
        .filter_map(|(_, event)| event.answered.as_ref().map(|(at, _)| *at))
        .min()
        .unwrap_or(u64::MAX);
    for (i, event) in open() {
        if event.invoked > horizon || event.after & done != event.after {
            continue;
        }
        let mut next = state;
        let answer = next.apply(event.client, &event.op);
        let fits = event.answered.as_ref().is_none_or(|(_, told)| *told == answer);
        if fits && explains(events, wanted, done | 1 << i, next, seen) {
            return true;
        }
    }
    false
}

/// Which earlier events, as bits, have to come before a new one of a client: all of an earlier
/// pipeline (those before number `pipeline`), and of this one those that share a key or hold it
/// back. Others may change places: order across shards is causal, not total.
pub fn predecessors(
    events: &[Event],
    client: usize,
    op: &Op,
    pipeline: usize,
    names: &[String],
    shards: usize,
) -> u32 {
    let own = events.iter().enumerate().filter(|(_, event)| event.client == client);
    let before = own.filter(|(i, event)| {
        *i < pipeline || event.op.keys() & op.keys() != 0 || event.op.holds_back(names, shards)
    });
    before.fold(0, |bits, (i, _)| bits | 1 << i)
}

fn some_keys(random: &mut Random) -> Vec<usize> {
    let (a, b) = two_keys(random);
    let mut keys = vec![a, b];
    let third = random.below(KEYS as u64) as usize;
    if !keys.contains(&third) && random.below(2) == 0 {
        keys.push(third);
    }
    keys
}

fn two_keys(random: &mut Random) -> (usize, usize) {
    // Three keys are shared by most, so that commands meet.
    let most = if random.below(3) > 0 { 3 } else { KEYS as u64 };
    let a = random.below(most);
    let b = (a + 1 + random.below(most - 1)) % most;
    (a as usize, b as usize)
}

/// An operation at random; `value` is what it writes, if it does, and `outside` says that it is not
/// inside a transaction.
pub fn random_op(random: &mut Random, value: i64, outside: bool) -> Op {
    let (a, b) = two_keys(random);
    match random.below(if outside { 24 } else { 16 }) {
        0..=2 => Op::Get(a),
        3 | 4 => Op::Set(a, value),
        5 | 6 => Op::Mset(some_keys(random), value),
        7 | 8 => Op::Mget(some_keys(random)),
        9 => Op::Incr(a),
        10 => Op::Del(some_keys(random)),
        11 => Op::Exists(some_keys(random)),
        12 => Op::Rename(a, b),
        13 => Op::RenameNx(a, b),
        14 => Op::Copy(a, b, random.below(2) == 0),
        15 => Op::MsetNx(some_keys(random), value),
        16 if random.below(3) == 0 => Op::FlushAll,
        16 | 17 => Op::DbSize,
        18 | 19 => Op::Watch(some_keys(random)),
        20 if random.below(3) == 0 => Op::Unwatch,
        _ => {
            let ops = 1 + random.below(3);
            Op::Exec((0..ops).map(|i| random_op(random, value * 10 + i as i64, false)).collect())
        }
    }
}

/// So many key names, spread over the shards: the first on shard `first`, the next on the next.
pub fn names(prefix: &str, count: usize, first: usize, shards: usize) -> Vec<String> {
    (0..count)
        .map(|i| {
            let candidates = (0..).map(|salt| format!("{prefix}{i}.{salt}"));
            let mut fitting = candidates
                .filter(|name| even_owner(name.as_bytes(), shards) == (first + i) % shards);
            fitting.next().expect("some name fits")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(client: usize, op: Op, times: (u64, u64), answer: Answer) -> Event {
        let answered = Some((times.1, answer));
        let (invoked, after) = (times.0, 0);
        Event { client, op, invoked, answered, after }
    }

    #[test]
    fn the_search_tells_a_torn_read_from_a_late_one() {
        let write = event(0, Op::Mset(vec![0, 1], 7), (1, 9), Answer::Status);
        let half = Answer::List(vec![Answer::Text(7), Answer::Nil]);
        let none = Answer::List(vec![Answer::Nil, Answer::Nil]);
        let both = Op::Mget(vec![0, 1]);
        let torn = event(1, both.clone(), (2, 8), half);
        assert!(!is_explained(&[write.clone(), torn]));
        let early = event(1, both.clone(), (2, 8), none.clone());
        assert!(is_explained(&[write.clone(), early]));
        let late = event(1, both, (10, 11), none);
        assert!(!is_explained(&[write, late]));
    }
}

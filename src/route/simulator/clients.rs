//! The workloads: short histories of everything, and long runs that keep an invariant.

use super::check::{Answer, CLIENTS, Event, KEYS, Op};
use super::drive::{Request, Workload};
use super::world::names;
use crate::base::hash::Random;
use std::collections::VecDeque;

fn shuffled(random: &mut Random, below: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..below).collect();
    for i in (1..all.len()).rev() {
        all.swap(i, random.below(i as u64 + 1) as usize);
    }
    all
}

// ---- short histories ---------------------------------------------------------------------------

/// A few clients with a few operations each, over a few keys, for the search.
#[derive(Debug)]
pub struct Short {
    /// The keys.
    pub names: Vec<String>,
    /// What has happened.
    pub events: Vec<Event>,
    shards: usize,
    /// What each client will send: pipelines of operations.
    scripts: Vec<VecDeque<Vec<Op>>>,
}

impl Short {
    /// So many clients; at most 11 operations in all.
    pub fn new(random: &mut Random, clients: usize, shards: usize) -> Short {
        assert!(clients <= CLIENTS, "the model has room for them");
        let count = 2 + random.below(KEYS as u64 - 1) as usize;
        let names = names("k", count, random.below(shards as u64) as usize, shards);
        let mut value = 100;
        let most = 3 + random.below(9) as usize;
        let mut scripts = vec![VecDeque::new(); clients];
        let mut ops = 0;
        while ops < most {
            let client = random.below(clients as u64) as usize;
            let mut pipeline = Vec::new();
            for _ in 0..=random.below(3) {
                if random.below(6) == 0 {
                    // A watch is of use with what follows it.
                    pipeline.push(Op::Watch(some(random, count, 2)));
                    pipeline.push(op(random, count, &mut value));
                    pipeline.push(exec(random, count, &mut value));
                } else {
                    pipeline.push(any_op(random, count, &mut value));
                }
            }
            ops += pipeline.len();
            if random.below(3) == 0 {
                scripts[client].push_back(pipeline);
            } else {
                scripts[client].extend(pipeline.into_iter().map(|op| vec![op]));
            }
        }
        Short {
            names,
            events: Vec::new(),
            shards,
            scripts,
        }
    }

    /// A look at everything after the end.
    pub fn last_look(&self) -> Op {
        Op::Mget((0..self.names.len()).collect())
    }
}

/// Some distinct keys, at least one.
fn some(random: &mut Random, count: usize, most: usize) -> Vec<usize> {
    let mut keys = shuffled(random, count);
    keys.truncate(1 + random.below(most.min(count) as u64) as usize);
    keys
}

fn exec(random: &mut Random, count: usize, value: &mut i64) -> Op {
    Op::Exec((0..=random.below(3)).map(|_| op(random, count, value)).collect())
}

fn any_op(random: &mut Random, count: usize, value: &mut i64) -> Op {
    match random.below(40) {
        0..=5 => exec(random, count, value),
        6 => Op::FlushAll,
        7 => Op::DbSize,
        8 => Op::Watch(some(random, count, 2)),
        9 => Op::Unwatch,
        _ => op(random, count, value),
    }
}

/// One that may stand in a transaction too.
fn op(random: &mut Random, count: usize, value: &mut i64) -> Op {
    *value += 100;
    let keys = shuffled(random, count);
    let (a, b) = (keys[0], keys[1]);
    match random.below(20) {
        0..=2 => Op::Get(a),
        3..=4 => Op::Set(a, *value),
        5..=7 => Op::Mget(some(random, count, 3)),
        8..=10 => Op::Mset(some(random, count, 3), *value),
        11 => Op::MsetNx(some(random, count, 3), *value),
        12..=13 => Op::Incr(a),
        14 => Op::Del(some(random, count, 2)),
        15 => Op::Exists(some(random, count, 2)),
        16..=17 => Op::Rename(a, b),
        18 => Op::RenameNx(a, b),
        _ => Op::Copy(a, b, random.below(2) == 0),
    }
}

impl Workload for Short {
    type Tag = Option<usize>;

    fn next(
        &mut self,
        client: usize,
        outstanding: usize,
        random: &mut Random,
        time: u64,
    ) -> Vec<Request<Option<usize>>> {
        if outstanding > 0 && random.below(4) > 0 {
            return Vec::new();
        }
        let mut requests = Vec::new();
        for op in self.scripts[client].pop_front().unwrap_or_default() {
            let number = self.events.len();
            let before = |earlier: &Op| {
                earlier.keys() & op.keys() != 0 || earlier.holds_back(&self.names, self.shards)
            };
            let events = self.events.iter().enumerate();
            let after = events
                .filter(|(_, event)| event.client == client && before(&event.op))
                .fold(0, |bits, (i, _)| bits | 1 << i);
            let commands = op.commands(&self.names);
            let last = commands.len() - 1;
            requests.extend(commands.into_iter().enumerate().map(|(i, words)| Request {
                words,
                tag: (i == last).then_some(number),
                owner: None,
            }));
            self.events.push(Event {
                client,
                op,
                invoked: time,
                answered: None,
                after,
            });
        }
        requests
    }

    fn answer(
        &mut self,
        client: usize,
        tag: Option<usize>,
        answer: Answer,
        time: u64,
    ) -> Result<(), String> {
        match tag {
            Some(number) => self.events[number].answered = Some((time, answer)),
            None if answer == Answer::Status => {}
            None => return Err(format!("client {client} is told {answer:?}, not QUEUED")),
        }
        Ok(())
    }

    fn gone(&mut self, client: usize, _: VecDeque<Option<usize>>) {
        self.scripts[client].clear();
    }

    fn is_over(&self) -> bool {
        self.scripts.iter().all(VecDeque::is_empty)
    }
}

// ---- invariants --------------------------------------------------------------------------------

/// What a reply in [`Bank`] must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// The holders' token is there from now on.
    Begun,
    /// The same in every place.
    Same,
    /// Numbers that add up to nothing.
    Balanced,
    /// One value, and nothing else.
    One,
    /// What the client will increment.
    Watched,
    /// Whether the client has incremented.
    Incremented,
    /// Whether the client is in the critical section now.
    Entered,
}

/// Long runs over groups of keys, each with something that is true at every moment.
#[derive(Debug)]
pub struct Bank {
    /// All keys.
    pub names: Vec<String>,
    group: Vec<String>,
    counters: Vec<String>,
    holders: Vec<String>,
    watched: Vec<String>,
    mutex: Vec<String>,
    /// FLUSHALL is among the commands, and only what survives it.
    flushes: bool,
    /// Whether one of the holders is known to hold the token.
    begun: bool,
    token: i64,
    /// What each client is about to increment; -1 while it asks.
    watching: Vec<Option<i64>>,
    /// Increments that were confirmed, and those nobody knows of.
    pub increments: (i64, i64),
    /// Who is in the critical section.
    inside: Option<usize>,
    /// Whether a client that hung up may have been.
    lost: bool,
    /// Whether each client asks to enter.
    entering: Vec<bool>,
}

impl Bank {
    /// So many clients.
    pub fn new(random: &mut Random, clients: usize, shards: usize) -> Bank {
        let mut some = |prefix, count| names(prefix, count, random.below(shards as u64) as usize, shards);
        let (group, counters, holders) = (some("g", 4), some("c", 3), some("h", 4));
        let (watched, mutex) = (some("w", 2), some("m", 2));
        let all = [&group, &counters, &holders, &watched, &mutex];
        Bank {
            names: all.into_iter().flatten().cloned().collect(),
            group,
            counters,
            holders,
            watched,
            mutex,
            flushes: random.below(5) == 0,
            begun: false,
            token: 0,
            watching: vec![None; clients],
            increments: (0, 0),
            inside: None,
            lost: false,
            entering: vec![false; clients],
        }
    }

    /// The key that is only incremented under WATCH.
    pub fn watched(&self) -> &str {
        &self.watched[0]
    }

    fn job(&mut self, client: usize, random: &mut Random, to: &mut Vec<Request<Expect>>) {
        let words = |name: &str, keys: &[String]| {
            let all = std::iter::once(name.to_owned()).chain(keys.iter().cloned());
            all.collect::<Vec<_>>()
        };
        let mut say = |tag, words| to.push(Request { words, tag, owner: None });
        let block = |say: &mut dyn FnMut(Expect, Vec<String>), tag, calls: Vec<Vec<String>>| {
            say(Expect::Any, vec!["MULTI".to_owned()]);
            calls.into_iter().for_each(|call| say(Expect::Any, call));
            say(tag, vec!["EXEC".to_owned()]);
        };
        self.token += 1;
        let token = self.token.to_string();
        let set = |key: &String| vec!["SET".to_owned(), key.clone(), token.clone()];
        let get = |key: &String| vec!["GET".to_owned(), key.clone()];
        let pairs = |name: &str, keys: &[String]| {
            let pairs = keys.iter().flat_map(|key| [key.clone(), token.clone()]);
            std::iter::once(name.to_owned()).chain(pairs).collect::<Vec<_>>()
        };
        let order = |random: &mut Random, keys: &[String]| {
            let order = shuffled(random, keys.len()).into_iter();
            order.map(|i| keys[i].clone()).collect::<Vec<_>>()
        };
        // An EXEC would end the watch of a client that is about to increment.
        let may_exec = self.watching[client].is_none();
        let jobs = if self.flushes { 5 } else { 14 };
        match random.below(jobs) {
            0 => say(Expect::Any, pairs("MSET", &order(random, &self.group))),
            1 if may_exec => {
                let sets = order(random, &self.group).iter().map(set).collect();
                block(&mut say, Expect::Any, sets);
            }
            3 if may_exec => {
                let gets = order(random, &self.group).iter().map(get).collect();
                block(&mut say, Expect::Same, gets);
            }
            4 if self.flushes && random.below(3) == 0 => {
                say(Expect::Any, vec!["FLUSHALL".to_owned()]);
            }
            5 if may_exec => {
                let (a, b) = (random.below(3) as usize, random.below(3) as usize);
                let by = |name: &str, key: usize| {
                    vec![name.to_owned(), self.counters[key].clone(), token.clone()]
                };
                block(&mut say, Expect::Any, vec![by("DECRBY", a), by("INCRBY", b)]);
            }
            6 => say(Expect::Balanced, words("MGET", &order(random, &self.counters))),
            7 | 8 => {
                let keys = shuffled(random, self.holders.len());
                let name = if random.below(3) == 0 { "RENAMENX" } else { "RENAME" };
                let (from, to) = (self.holders[keys[0]].clone(), self.holders[keys[1]].clone());
                say(Expect::Any, vec![name.to_owned(), from, to]);
            }
            9 => say(Expect::One, words("MGET", &order(random, &self.holders))),
            10 if may_exec => {
                self.watching[client] = Some(-1);
                say(Expect::Any, words("WATCH", &self.watched[..1]));
                say(Expect::Watched, get(&self.watched[0]));
            }
            11 => say(Expect::Same, words("MGET", &self.watched)),
            12 if self.inside == Some(client) => {
                self.inside = None;
                say(Expect::Any, words("DEL", &order(random, &self.mutex)));
            }
            12 if !self.entering[client] => {
                self.entering[client] = true;
                say(Expect::Entered, pairs("MSETNX", &order(random, &self.mutex)));
            }
            13 => say(Expect::Same, words("MGET", &self.mutex)),
            _ => say(Expect::Same, words("MGET", &order(random, &self.group))),
        }
    }
}

impl Workload for Bank {
    type Tag = Expect;

    fn next(
        &mut self,
        client: usize,
        outstanding: usize,
        random: &mut Random,
        _: u64,
    ) -> Vec<Request<Expect>> {
        let mut to = Vec::new();
        if outstanding > 8 || (outstanding > 0 && random.below(3) > 0) {
            return to;
        }
        if self.token == 0 && !self.flushes {
            let words = ["SET", &self.holders[0], "1"].map(str::to_owned).to_vec();
            let (tag, owner) = (Expect::Begun, None);
            to.push(Request { words, tag, owner });
            self.token = 1;
            return to;
        }
        if let Some(value) = self.watching[client].filter(|value| *value >= 0) {
            self.watching[client] = None;
            let next = (value + 1).to_string();
            let call = |words: &[&str], tag| Request {
                words: words.iter().map(|word| (*word).to_owned()).collect(),
                tag,
                owner: None,
            };
            to.push(call(&["MULTI"], Expect::Any));
            for key in &self.watched {
                to.push(call(&["SET", key, &next], Expect::Any));
            }
            to.push(call(&["EXEC"], Expect::Incremented));
        }
        for _ in 0..=random.below(3) {
            self.job(client, random, &mut to);
        }
        to
    }

    fn answer(
        &mut self,
        client: usize,
        tag: Expect,
        answer: Answer,
        _: u64,
    ) -> Result<(), String> {
        let fine = match (tag, &answer) {
            (Expect::Any, _) => true,
            (Expect::Same, Answer::List(all)) => all.windows(2).all(|pair| pair[0] == pair[1]),
            (Expect::Balanced, Answer::List(all)) => {
                let amounts = all.iter().map(|amount| match amount {
                    Answer::Text(amount) => *amount,
                    _ => 0,
                });
                amounts.sum::<i64>() == 0
            }
            (Expect::One, Answer::List(all)) => {
                let there = all.iter().filter(|value| **value != Answer::Nil);
                let count = there.count();
                count == 1 || (count == 0 && !self.begun)
            }
            (Expect::Begun, Answer::Status) => {
                self.begun = true;
                true
            }
            (Expect::Watched, Answer::Text(value)) => {
                self.watching[client] = Some(*value);
                true
            }
            (Expect::Watched, Answer::Nil) => {
                self.watching[client] = Some(0);
                true
            }
            (Expect::Incremented, Answer::List(_)) => {
                self.increments.0 += 1;
                true
            }
            (Expect::Incremented, Answer::Nil) => true,
            (Expect::Entered, Answer::Int(entered)) => {
                self.entering[client] = false;
                if *entered == 1 {
                    let alone = self.inside.is_none() && !self.lost;
                    self.inside = Some(client);
                    alone
                } else {
                    true
                }
            }
            _ => false,
        };
        if fine {
            Ok(())
        } else {
            Err(format!("client {client} expects {tag:?} and is told {answer:?}"))
        }
    }

    fn gone(&mut self, client: usize, unanswered: VecDeque<Expect>) {
        let unknown = |tag: &&Expect| **tag == Expect::Incremented;
        self.increments.1 += unanswered.iter().filter(unknown).count() as i64;
        if self.inside == Some(client) {
            // Nobody will let others in.
            (self.inside, self.lost) = (None, true);
        }
    }

    fn is_over(&self) -> bool {
        false
    }
}

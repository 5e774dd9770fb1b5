//! The workload of a server that follows another: a stream on the first shard, readers on all, who must
//! see it as it was at some one place; and roles that change meanwhile, while others contend for keys of
//! their own. The stream says a version of one key after the other, some at once, and never waits.

use super::serial::{Answer, names, parse};
use super::world::{Break, Counts, World, command};
use super::{SHARDS, run, settle};
use crate::command::persistence::{FOLLOW_ORDER, LEAD_ORDER};
use std::collections::VecDeque;

/// Readers of one world, and what they ask in all.
const READERS: usize = 7;
const READS: usize = 120;
/// Keys that get a version one after the other; after those, as many that get it at once; and keys that
/// readers write.
const CHAIN: usize = 6;
const TOGETHER: usize = 3;
const CONTENDED: usize = 4;

/// Versions that the stream says at most, and commands that it is ahead of its replies from which on it
/// rests: what is left when clients stop has to run in the time that the world has then.
const VERSIONS: i64 = 100;
const AHEAD: usize = 40;

/// Which role the server is in or on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leads,
    BeginsToFollow,
    Follows,
    BeginsToLead,
}

/// The stream's end, and how far it is.
struct Stream {
    connection: usize,
    received: Vec<u8>,
    version: i64,
    unanswered: usize,
}

/// What a reader waits for.
enum Asked {
    /// A reply that says nothing.
    Nothing,
    /// The stream's keys from one to another, and how new each must be at least.
    Versions(usize, Vec<i64>),
}

#[derive(Default)]
struct Reader {
    connection: usize,
    received: Vec<u8>,
    asked: VecDeque<Asked>,
}

struct Play {
    names: Vec<String>,
    stream: Stream,
    readers: Vec<Reader>,
    role: Role,
    asked: usize,
    /// Of each of the stream's keys the newest version that somebody must see by now.
    told: Vec<i64>,
    wrong: Option<String>,
}

pub fn following(seed: u64, broken: Option<Break>) -> Result<Counts, String> {
    let mut world = World::new(SHARDS, seed, broken);
    let first = world.random.below(SHARDS as u64) as usize;
    let names = names("f", CHAIN + TOGETHER + CONTENDED, first, SHARDS);
    let connection = world.connect(0);
    let stream = Stream { connection, received: Vec::new(), version: 0, unanswered: 0 };
    let readers = (0..READERS).map(|_| {
        let shard = world.random.below(SHARDS as u64) as usize;
        Reader { connection: world.connect(shard), ..Reader::default() }
    });
    let readers = readers.collect();
    let (role, told) = (Role::Leads, vec![0; CHAIN + TOGETHER]);
    let mut play = Play { names, stream, readers, role, asked: 0, told, wrong: None };
    run(&mut world, |world, lively| {
        play.change_role(world, lively);
        play.go_on_with_stream(world, lively);
        let at = world.random.below(READERS as u64) as usize;
        play.hear(world, at);
        if lively && play.asked < READS && play.readers[at].asked.is_empty() {
            play.ask(world, at);
        }
        let is_idle = play.readers.iter().all(|reader| reader.asked.is_empty());
        let is_settled = matches!(play.role, Role::Leads | Role::Follows);
        let is_over = play.asked >= READS || !lively;
        play.wrong.is_some() || (is_idle && is_settled && is_over && play.stream.unanswered == 0)
    })?;
    if let Some(wrong) = play.wrong {
        return Err(wrong);
    }
    settle(&mut world, 1 + READERS, &[])?;
    Ok(world.counts)
}

impl Play {
    /// A role ends when all of the stream has run, and begins before any of it does.
    fn change_role(&mut self, world: &mut World, lively: bool) {
        match self.role {
            Role::Leads
                if lively && world.random.below(6) == 0 && world.begin_inner(&FOLLOW_ORDER) =>
            {
                self.role = Role::BeginsToFollow;
            }
            Role::Follows
                if lively
                    && world.random.below(20) == 0
                    && self.stream.unanswered == 0
                    && world.begin_inner(&LEAD_ORDER) =>
            {
                self.role = Role::BeginsToLead;
            }
            Role::BeginsToFollow if world.has_concluded() => self.role = Role::Follows,
            Role::BeginsToLead if world.has_concluded() => self.role = Role::Leads,
            _ => {}
        }
    }

    fn go_on_with_stream(&mut self, world: &mut World, lively: bool) {
        let Stream { connection, received, version, unanswered } = &mut self.stream;
        world.receive(*connection, received);
        while let Some((_, used)) = parse(received) {
            received.drain(..used);
            *unanswered -= 1;
        }
        let may_go_on = self.role == Role::Follows && *version < VERSIONS && *unanswered < AHEAD;
        if !lively || !may_go_on || world.random.below(3) > 0 {
            return;
        }
        *version += 1;
        let (value, names) = (version.to_string(), &self.names);
        let set = |key: usize| vec!["SET".to_owned(), names[key].clone(), value.clone()];
        let word = |word: &str| vec![word.to_owned()];
        let mut lines: Vec<Vec<String>> = (0..CHAIN).map(set).collect();
        if world.random.below(3) == 0 {
            let at = world.random.below(CHAIN as u64 - 1) as usize;
            lines.insert(at + 2, word("EXEC"));
            lines.insert(at, word("MULTI"));
        }
        let pairs = names[CHAIN..CHAIN + TOGETHER].iter();
        let pairs = pairs.flat_map(|name| [name.clone(), value.clone()]);
        lines.push(std::iter::once("MSET".to_owned()).chain(pairs).collect());
        for words in lines {
            world.send(*connection, &command(&words), false);
            *unanswered += 1;
        }
    }

    fn ask(&mut self, world: &mut World, at: usize) {
        self.asked += 1;
        let (names, all) = (&self.names, CHAIN + TOGETHER);
        let mut below = |n: usize| world.random.below(n as u64) as usize;
        let (key, contended) = (below(all), |i: usize| &names[all + i % CONTENDED]);
        let (one, two) = (below(CONTENDED), 1 + below(CONTENDED - 1));
        let other = one + two;
        let every = names[..all].join(" ");
        let gets: Vec<String> = names[..all].iter().map(|name| format!("GET {name}")).collect();
        // Lines, and which keys of the stream the last one's reply tells of.
        let (line, from, to) = match below(14) {
            0..=3 => (format!("GET {}", names[key]), key, key + 1),
            4 | 5 => (format!("MGET {every}"), 0, all),
            6 => (format!("MGET {every} {} {}", contended(one), contended(other)), 0, all),
            7 => (format!("MULTI|{}|EXEC", gets.join("|")), 0, all),
            8 => (format!("MULTI|{}|CLIENT ID|EXEC", gets.join("|")), 0, all),
            9 => {
                let (some, rest) = gets.split_at(1 + below(all - 1));
                (format!("MULTI|{}|CLIENT ID|{}|EXEC", some.join("|"), rest.join("|")), 0, all)
            }
            10 => (format!("MULTI|{}|CLIENT ID|{0}|EXEC", gets[key]), 0, 0),
            11 => (format!("RENAME {} {}", contended(one), contended(other)), 0, 0),
            12 => ("DBSIZE".to_owned(), 0, 0),
            _ => (format!("MSET {} 1 {} 1", contended(one), contended(other)), 0, 0),
        };
        let reader = &mut self.readers[at];
        for line in line.split('|') {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            world.send(reader.connection, &command(&words), false);
            reader.asked.push_back(Asked::Nothing);
        }
        if to > from
            && let Some(last) = reader.asked.back_mut()
        {
            *last = Asked::Versions(from, self.told[from..to].to_vec());
        }
    }

    fn hear(&mut self, world: &mut World, at: usize) {
        let reader = &mut self.readers[at];
        world.receive(reader.connection, &mut reader.received);
        while let Some((answer, used)) = parse(&self.readers[at].received) {
            let reader = &mut self.readers[at];
            reader.received.drain(..used);
            let Some(Asked::Versions(from, least)) = reader.asked.pop_front() else { continue };
            let list = if let Answer::List(list) = answer { list } else { vec![answer] };
            let versions = list.into_iter().filter_map(|answer| match answer {
                Answer::Text(version) => Some(version),
                Answer::Nil => Some(0),
                _ => None,
            });
            let seen: Vec<i64> = versions.take(least.len()).collect();
            if let Err(why) = is_one_place(&seen).and_then(|()| is_new(&seen, &least)) {
                self.wrong =
                    Some(format!("{why}: {seen:?} from key {from} on, at least {least:?}"));
            }
            for (key, version) in (from..).zip(&seen) {
                self.tell(key, *version);
            }
        }
    }

    /// Somebody has been told: who asks from now on sees that, and all that came before it.
    fn tell(&mut self, key: usize, version: i64) {
        let is_before = |earlier: usize| earlier <= key || (earlier >= CHAIN && key >= CHAIN);
        for (earlier, told) in self.told.iter_mut().enumerate() {
            *told = (*told).max(if is_before(earlier) { version } else { version - 1 });
        }
    }
}

/// Whether all of the stream's keys, or one, are as they were at one place of it.
fn is_one_place(seen: &[i64]) -> Result<(), String> {
    let Some((chain, together)) = seen.split_at_checked(CHAIN) else { return Ok(()) };
    let (newest, oldest) = (chain[0], together[0]);
    let is_half = together.iter().any(|version| *version != oldest);
    if is_half || !seen.is_sorted_by(|a, b| a >= b) || newest - oldest > 1 {
        return Err("the stream was nowhere like this".to_owned());
    }
    Ok(())
}

fn is_new(seen: &[i64], least: &[i64]) -> Result<(), String> {
    match seen.iter().zip(least).all(|(seen, least)| seen >= least) {
        true => Ok(()),
        false => Err("somebody knows better already".to_owned()),
    }
}

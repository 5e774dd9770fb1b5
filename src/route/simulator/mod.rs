//! The simulator: four shards in one thread, turns cut into steps, and dice that pause a shard
//! wherever it hurts. Seven workloads look for what must not happen:
//!
//! - *histories*: a few clients with commands of every plan over shared keys, and snapshots of all
//!   shards, read while all else goes on; some serial order, true to real time, has to explain
//!   everything that clients were told and that snapshots hold ([`serial`]);
//! - *pipelines*: whoever has seen a later command of a pipeline, or has been told by somebody who
//!   has, must see the earlier ones;
//! - *strangers*: what is on its way to a client that hangs up must not reach who comes after it;
//! - *safety*: where clients are promised to be told of nothing that is not safe, nobody is;
//! - *streams*: what replicas get holds every write whose reply somebody has received before whatever was
//!   sent afterwards, and whole transactions ([`stream`]);
//! - *following*: readers of a server that follows another see its stream as it was at one place, and
//!   nobody waits for ever, however often that begins and ends ([`following`]);
//! - *strict*: with `pipeline-order strict`, commands of one pipeline run in its order ([`strict`]).
//!
//! All end with everybody answered, no lock held, nobody waiting and nothing left behind, and the stream
//! replays to the same data, and up to a snapshot's cut to what the snapshot has read. And each rule of
//! order, broken, has to be found out: a simulator that cannot is too weak.
//!
//! `REDSHARD_SEED=n` runs that seed alone; `REDSHARD_HISTORIES=n` says how many to run.

mod check;
mod following;
mod serial;
mod stream;
mod strict;
mod world;

use super::rules::Rule;
use crate::base::hash::Random;
use crate::base::slot::even_owner;
use check::replay_stream;
use following::following;
use serial::{
    Answer, CLIENTS, Event, KEYS, Op, is_explained, names, parse, predecessors, random_op,
};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use stream::streams;
use strict::strict;
use world::{Break, Counts, Data, World, command};

const SHARDS: usize = 4;
/// Operations of one history: the search for a serial order is exponential in them.
const OPS: usize = 12;
/// Steps after which clients stop beginning anything new, and rounds in which all must end then.
const STEPS_MAX: u64 = 20_000;
const ROUNDS_MAX: usize = 3_000;

/// Runs the world until nobody has anything to do: first at random, then fairly. `act` lets one
/// client act, and says whether all are done.
fn run(world: &mut World, mut act: impl FnMut(&mut World, bool) -> bool) -> Result<(), String> {
    let mut done = false;
    for _ in 0..STEPS_MAX {
        world.time += 1;
        if world.random.below(4) == 0 {
            done = act(world, true);
        } else if let Some(shard) = world.pick_shard() {
            world.step(shard);
        }
        if done {
            break;
        }
    }
    for _ in 0..ROUNDS_MAX {
        for shard in 0..world.shards() {
            world.turn(shard);
        }
        let done = (0..4 * CLIENTS).fold(true, |_, _| act(world, false));
        let is_quiet = (0..world.shards()).all(|shard| !world.is_busy(shard));
        if done && is_quiet && !world.node(0).is_merging() {
            return Ok(());
        }
    }
    let left = world.leftovers(true).err().unwrap_or_else(|| "no trace of why".to_owned());
    Err(format!("somebody is never answered: {left}"))
}

/// What everything ends with.
fn settle(world: &mut World, connections: usize, snapshots: &[Taken]) -> Result<(), String> {
    world.leftovers(true)?;
    replay_stream(world, snapshots)?;
    (0..connections).for_each(|connection| world.hang_up(connection));
    for _ in 0..8 {
        (0..world.shards()).for_each(|shard| world.turn(shard));
    }
    world.leftovers(false)
}

// ---- histories ---------------------------------------------------------------------------------

/// One client of a history.
struct Teller {
    connection: usize,
    received: Vec<u8>,
    /// Events asked and not answered, with the replies that come before each one's own.
    open: Vec<(usize, usize)>,
}

fn history(seed: u64, broken: Option<Break>) -> Result<Counts, String> {
    let mut world = World::new(SHARDS, seed, broken);
    let first = world.random.below(SHARDS as u64) as usize;
    let names = names("k", KEYS, first, SHARDS);
    let mut tellers: Vec<Teller> = (0..CLIENTS)
        .map(|_| {
            let shard = world.random.below(SHARDS as u64) as usize;
            let connection = world.connect(shard);
            Teller { connection, received: Vec::new(), open: Vec::new() }
        })
        .collect();
    let mut events: Vec<Event> = Vec::new();
    let mut snapshots = Snapshots::default();
    run(&mut world, |world, lively| {
        snapshots.act(world, lively && events.len() < OPS, &mut events);
        let client = world.random.below(CLIENTS as u64) as usize;
        let teller = &mut tellers[client];
        world.receive(teller.connection, &mut teller.received);
        while let Some((answer, used)) = parse(&teller.received) {
            teller.received.drain(..used);
            let (event, before) = teller.open.first_mut().expect("nobody asked");
            if *before > 0 {
                *before -= 1;
                continue;
            }
            events[*event].answered = Some((world.time, answer));
            teller.open.remove(0);
        }
        if lively && teller.open.is_empty() && events.len() < OPS {
            // A pipeline of up to three, sent at once.
            let from = events.len();
            for _ in 0..=world.random.below(3) {
                if events.len() < OPS {
                    let op = random_op(&mut world.random, events.len() as i64 + 1, true);
                    ask(world, teller, client, op, &mut events, &names, from);
                }
            }
        }
        let idle = tellers.iter().all(|teller| teller.open.is_empty());
        idle && snapshots.is_idle() && (events.len() >= OPS || !lively)
    })?;
    snapshots.fill_in(&mut events, &names);
    if !is_explained(&events) {
        return Err(format!("no serial order explains {events:#?}"));
    }
    settle(&mut world, CLIENTS, &snapshots.taken)?;
    Ok(world.counts)
}

/// A snapshot that has been read.
struct Taken {
    /// The event that it is in a history.
    event: usize,
    /// What time it was when it was asked for.
    asked_ms: i64,
    data: Data,
}

/// Snapshots of one history: to whoever explains it, readers of all keys, who have been answered when
/// the cut is made.
#[derive(Default)]
struct Snapshots {
    /// The event of the one under way, and whether its cut has been made.
    open: Option<(usize, bool)>,
    /// What each has read.
    taken: Vec<Taken>,
}

impl Snapshots {
    fn is_idle(&self) -> bool {
        self.open.is_none()
    }

    fn act(&mut self, world: &mut World, may_begin: bool, events: &mut Vec<Event>) {
        let Some((event, has_cut)) = &mut self.open else {
            if may_begin && world.random.below(8) == 0 && world.begin_cut() {
                world.counts.snapshots += 1;
                self.open = Some((events.len(), false));
                let (event, asked_ms) = (events.len(), world.now_ms());
                self.taken.push(Taken { event, asked_ms, data: Data::new() });
                let op = Op::Mget((0..KEYS).collect());
                let invoked = world.time;
                events.push(Event { client: CLIENTS, op, invoked, answered: None, after: 0 });
            }
            return;
        };
        if !*has_cut && world.has_concluded() {
            *has_cut = true;
            events[*event].answered = Some((world.time, Answer::Nil));
        }
        if *has_cut && world.random.below(3) == 0 {
            let Some(Taken { data: read, .. }) = self.taken.last_mut() else { return };
            let shard = world.random.below(SHARDS as u64) as usize;
            if !world.read_snapshot(shard, read)
                && (0..SHARDS).all(|shard| !world.is_in_snapshot(shard))
            {
                self.open = None;
            }
        }
    }

    /// Puts what was read where an answer would be.
    fn fill_in(&self, events: &mut [Event], names: &[String]) {
        for Taken { event, data, .. } in &self.taken {
            let value = |name: &String| match data.get(&(0, name.clone())) {
                Some((value, _)) => Answer::Text(value.parse().expect("a number")),
                None => Answer::Nil,
            };
            if let Some((_, answer)) = &mut events[*event].answered {
                *answer = Answer::List(names.iter().map(value).collect());
            }
        }
    }
}

fn ask(
    world: &mut World,
    teller: &mut Teller,
    client: usize,
    op: Op,
    events: &mut Vec<Event>,
    names: &[String],
    pipeline: usize,
) {
    let after = predecessors(events, client, &op, pipeline, names, SHARDS);
    let commands = op.commands(names);
    for words in &commands {
        world.send(teller.connection, &command(words), false);
    }
    teller.open.push((events.len(), commands.len() - 1));
    events.push(Event { client, op, invoked: world.time, answered: None, after });
}

// ---- pipelines ---------------------------------------------------------------------------------

/// Versions that the writer of one world writes.
const VERSIONS: i64 = 6;

/// A reader, which pipelines too: what it has asked for, and the versions it must see at least. What it
/// is told of the first may be newer than of the next: it had asked for that before it knew.
struct Reader {
    connection: usize,
    received: Vec<u8>,
    asked: VecDeque<(usize, i64)>,
}

fn pipelines(seed: u64, broken: Option<Break>) -> Result<Counts, String> {
    let mut world = World::new(SHARDS, seed, broken);
    let first = world.random.below(SHARDS as u64) as usize;
    let names = names("p", SHARDS, first, SHARDS);
    let home = world.random.below(SHARDS as u64) as usize;
    let writer = world.connect(home);
    let mut readers: Vec<Reader> = (0..SHARDS)
        .map(|shard| {
            let (connection, asked) = (world.connect(shard), VecDeque::new());
            Reader { connection, received: Vec::new(), asked }
        })
        .collect();
    // In which order the keys are written, and whether the first of them go as one command.
    let mut order: Vec<usize> = (0..SHARDS).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, world.random.below(i as u64 + 1) as usize);
    }
    let together = world.random.below(2) == 0;
    let (mut version, mut expected, mut answers) = (0, 0usize, Vec::new());
    // By place in the order: the version that somebody has seen of that key or a later one.
    let mut told = [0i64; SHARDS];
    let mut torn = None;
    run(&mut world, |world, lively| {
        world.receive(writer, &mut answers);
        while let Some((_, used)) = parse(&answers) {
            answers.drain(..used);
            expected -= 1;
        }
        if lively && expected == 0 && version < VERSIONS && world.random.below(2) == 0 {
            version += 1;
            expected = write(world, writer, &order, &names, together, version);
        }
        let reader = &mut readers[world.random.below(SHARDS as u64) as usize];
        world.receive(reader.connection, &mut reader.received);
        if let Some((answer, used)) = parse(&reader.received) {
            reader.received.drain(..used);
            let (place, least) = reader.asked.pop_front().expect("it asked");
            let seen = if let Answer::Text(seen) = answer { seen } else { 0 };
            if seen < least {
                torn = Some(format!("{}: {seen} after {least}", names[order[place]]));
            }
            for earlier in &mut told[..=place] {
                *earlier = (*earlier).max(seen);
            }
        } else if lively && reader.asked.is_empty() {
            for _ in 0..1 + world.random.below(3).saturating_sub(1) {
                let place = world.random.below(SHARDS as u64) as usize;
                let name = names[order[place]].clone();
                world.send(reader.connection, &command(&["GET".to_owned(), name]), false);
                reader.asked.push_back((place, told[place]));
            }
        }
        let idle = expected == 0 && readers.iter().all(|reader| reader.asked.is_empty());
        torn.is_some() || (idle && (version == VERSIONS || !lively))
    })?;
    if let Some(torn) = torn {
        return Err(torn);
    }
    settle(&mut world, 1 + SHARDS, &[])?;
    Ok(world.counts)
}

/// Sends one version of all keys in one pipeline; returns how many replies it will have.
fn write(
    world: &mut World,
    writer: usize,
    order: &[usize],
    names: &[String],
    together: bool,
    version: i64,
) -> usize {
    let value = version.to_string();
    let mut commands: Vec<(Vec<String>, Option<usize>)> = Vec::new();
    let alone = if together { &order[2..] } else { order };
    if together {
        let pairs = order[..2].iter().flat_map(|key| [names[*key].clone(), value.clone()]);
        commands.push((std::iter::once("MSET".to_owned()).chain(pairs).collect(), None));
    }
    for key in alone {
        let owner = even_owner(names[*key].as_bytes(), SHARDS);
        commands.push((vec!["SET".to_owned(), names[*key].clone(), value.clone()], Some(owner)));
    }
    for (words, owner) in &commands {
        let withheld = world.withholds(writer, *owner);
        world.send(writer, &command(words), withheld);
    }
    commands.len()
}

// ---- departures --------------------------------------------------------------------------------

/// Clients of one world, one after another in the same few places.
const STRANGERS: usize = 24;

/// Clients that ask one thing at a time and hang up before they are answered: what is on its way to
/// one of them must not reach whoever comes after it.
fn strangers(seed: u64, broken: Option<Break>) -> Result<Counts, String> {
    let mut world = World::new(SHARDS, seed, broken);
    let names = names("s", SHARDS, 0, SHARDS);
    let mut here: Vec<(usize, bool)> = Vec::new();
    let mut come = 0;
    run(&mut world, |world, lively| {
        if lively && come < STRANGERS && world.random.below(3) == 0 {
            let shard = world.random.below(SHARDS as u64) as usize;
            here.push((world.connect(shard), false));
            come += 1;
        } else if !here.is_empty() {
            let which = world.random.below(here.len() as u64) as usize;
            let (connection, has_asked) = here[which];
            let mut received = Vec::new();
            world.receive(connection, &mut received);
            if !has_asked {
                let name = names[world.random.below(SHARDS as u64) as usize].clone();
                world.send(connection, &command(&["INCR".to_owned(), name]), false);
                here[which].1 = true;
            } else if !received.is_empty() || world.random.below(4) == 0 {
                world.hang_up(connection);
                here.swap_remove(which);
            }
        }
        here.is_empty() && (come == STRANGERS || !lively)
    })?;
    settle(&mut world, 0, &[])?;
    Ok(world.counts)
}

// ---- safety ------------------------------------------------------------------------------------

/// Writes of one world.
const WRITES: i64 = 12;

/// What a writer has asked and not been told yet: a value it writes to so many keys, or none if it
/// reads.
type Asked = Option<(String, usize)>;

/// Clients that have been promised to be told of nothing that is not safe: what one has been told it
/// wrote, or reads, is looked for in what is safe of the journals.
fn safety(seed: u64, broken: Option<Break>) -> Result<Counts, String> {
    let mut world = World::new(SHARDS, seed, broken);
    world.promise_safety();
    let names = names("d", 2 * SHARDS, 0, SHARDS);
    let mut writers: Vec<(usize, Vec<u8>, Vec<Asked>)> = (0..CLIENTS)
        .map(|_| {
            let shard = world.random.below(SHARDS as u64) as usize;
            (world.connect(shard), Vec::new(), Vec::new())
        })
        .collect();
    let (mut written, mut early) = (0, None);
    run(&mut world, |world, lively| {
        let which = world.random.below(CLIENTS as u64) as usize;
        let (connection, received, open) = &mut writers[which];
        world.receive(*connection, received);
        while let Some((answer, used)) = parse(received) {
            received.drain(..used);
            let (value, keys) = match (open.remove(0), answer) {
                (Some(written), _) => written,
                (None, Answer::Text(seen)) => (value_of(seen), 1),
                (None, _) => continue,
            };
            let safe = world.safe_copies(&value);
            if safe < keys {
                early = Some(format!("told of {value} when {safe} of {keys} keys have it safely"));
            }
        }
        if lively && open.is_empty() && written < WRITES {
            for _ in 0..=world.random.below(2) {
                written += 1;
                let mut name = || names[world.random.below(names.len() as u64) as usize].clone();
                let (one, other, value) = (name(), name(), value_of(written));
                let words = match world.random.below(3) {
                    0 => vec!["GET".to_owned(), one],
                    1 if one != other => {
                        vec!["MSET".to_owned(), one, value.clone(), other, value.clone()]
                    }
                    _ => vec!["SET".to_owned(), one, value.clone()],
                };
                open.push((words.len() > 2).then_some((value, words.len() / 2)));
                world.send(*connection, &command(&words), false);
            }
        }
        let idle = writers.iter().all(|(_, _, open)| open.is_empty());
        early.is_some() || (idle && (written >= WRITES || !lively))
    })?;
    if let Some(early) = early {
        return Err(early);
    }
    settle(&mut world, CLIENTS, &[])?;
    Ok(world.counts)
}

/// A value that is found in no other word of a journal.
fn value_of(number: i64) -> String {
    (1_000_000 + number % 1_000_000).to_string()
}

// ---- the tests ---------------------------------------------------------------------------------

type Workload = fn(u64, Option<Break>) -> Result<Counts, String>;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs a workload over many seeds; a failure names the one to replay.
fn over_seeds(what: &str, workload: Workload, default: u64) {
    let (from, count) = match number("REDSHARD_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("REDSHARD_HISTORIES").unwrap_or(default)),
    };
    let mut counts = Counts::default();
    for seed in from..from + count {
        match workload(seed, None) {
            Ok(more) => counts.add(&more),
            Err(why) => panic!("{what}, REDSHARD_SEED={seed}: {why}"),
        }
    }
    println!("{what}: {count} histories, {counts:?}");
}

#[test]
fn every_history_has_a_serial_order() {
    over_seeds("histories", history, 1_500);
}

#[test]
fn every_pipeline_is_causal() {
    over_seeds("pipelines", pipelines, 1_500);
}

#[test]
fn no_reply_reaches_a_stranger() {
    over_seeds("strangers", strangers, 1_500);
}

#[test]
fn nobody_is_told_of_what_is_not_safe() {
    over_seeds("safety", safety, 1_500);
}

#[test]
fn every_stream_is_causal() {
    over_seeds("streams", streams, 1_500);
}

#[test]
fn every_reader_of_a_stream_sees_one_place_of_it() {
    over_seeds("following", following, 1_500);
}

#[test]
fn a_pipeline_keeps_its_order_for_who_asks_for_that() {
    over_seeds("strict", |seed, _| strict(seed, true), 500);
    assert!((1..500).any(|seed| strict(seed, false).is_err()), "nobody would have seen it");
}

#[test]
fn every_rule_is_needed() {
    // Each with the workload that it matters to.
    let rules: [(Break, Workload); 27] = [
        (Break::Router(Rule::Locks), history),
        (Break::Router(Rule::Queues), history),
        (Break::Router(Rule::HoldBack), history),
        (Break::Router(Rule::CutAlone), history),
        (Break::Router(Rule::Cut), pipelines),
        (Break::Router(Rule::Backlog), pipelines),
        (Break::Router(Rule::Spill), pipelines),
        (Break::Router(Rule::StampOrder), pipelines),
        (Break::PublishTogether, pipelines),
        (Break::PublishBeforeReplies, pipelines),
        (Break::OwnAtOnce, pipelines),
        (Break::Router(Rule::Lone), history),
        (Break::PublishBeforeDepartures, pipelines),
        (Break::ReleaseLent, strangers),
        (Break::Gate, safety),
        (Break::Router(Rule::SafeAnswers), safety),
        (Break::Router(Rule::SafeDepartures), safety),
        (Break::Router(Rule::Announce), streams),
        (Break::Router(Rule::EndParts), streams),
        (Break::Router(Rule::OneSpeaker), streams),
        (Break::Router(Rule::LockedExpiry), streams),
        (Break::Router(Rule::Barrier), streams),
        (Break::Router(Rule::Cut), streams),
        (Break::Router(Rule::StampOrder), streams),
        (Break::AsidesApart, streams),
        (Break::Router(Rule::StreamOrder), following),
        (Break::Router(Rule::BeginAgain), following),
    ];
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for (broken, workload) in rules {
        // A router that is broken on purpose may also fall over: found out all the same.
        let found = (1..=20_000u64).find(|seed| {
            let run = || workload(*seed, Some(broken)).is_err();
            catch_unwind(AssertUnwindSafe(run)).unwrap_or(true)
        });
        match found {
            Some(seed) => println!("without {broken:?}: found out with seed {seed}"),
            None => missed.push(broken),
        }
    }
    std::panic::set_hook(quiet);
    assert!(missed.is_empty(), "nothing goes wrong without {missed:?}");
}

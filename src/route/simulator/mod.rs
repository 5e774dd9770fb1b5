//! Many shards in one thread, under a seeded scheduler that delays whatever it likes: do the rules
//! of order hold, and is each of them needed?
//!
//! `REDSHARD_HISTORIES` sets how many histories are checked, `REDSHARD_SEED` repeats one.

mod causal;
mod check;
mod clients;
mod drive;
mod world;

use super::rules::Rule;
use causal::Causal;
use check::{Event, is_explained, replay_journals};
use clients::{Bank, Short};
use drive::Pace;
use world::{Break, Counts, World};

/// Short histories when nobody says how many. The others are longer, and a share of it.
const HISTORIES: u64 = 6_000;
const PER_LONG_RUN: u64 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Short,
    Invariants,
    Pipelines,
}

/// What came of a history.
#[derive(Debug, Default)]
struct Outcome {
    counts: Counts,
    operations: u64,
    torn_looks: u64,
    journal_inversions: u64,
}

impl Outcome {
    fn add(&mut self, other: &Outcome) {
        self.counts.add(&other.counts);
        self.operations += other.operations;
        self.torn_looks += other.torn_looks;
        self.journal_inversions += other.journal_inversions;
    }
}

/// Runs one history; the error says which of its promises the server broke.
fn history(kind: Kind, seed: u64, broken: Option<Break>) -> Result<Outcome, String> {
    let shards = 4 + (seed % 7 == 0) as usize * 2;
    let mut world = World::new(shards, seed, broken);
    let mut outcome = Outcome::default();
    // What has been withheld must not be lost, and histories that go wrong need no end.
    let hang_up_one_in = |often| if broken.is_some() { 0 } else { often };
    match kind {
        Kind::Short => {
            let clients = 2 + world.random.below(3) as usize;
            let mut short = Short::new(&mut world.random, clients, shards);
            let hang_up_one_in = if seed % 4 == 0 { hang_up_one_in(60) } else { 0 };
            let pace = Pace {
                events: 20_000,
                hang_up_one_in,
            };
            drive::run(&mut world, clients, &mut short, pace)?;
            look(&mut world, &mut short)?;
            outcome.operations = short.events.len() as u64;
            if !is_explained(&short.events) {
                return Err(format!("no serial order explains this:\n{}", told(&short.events)));
            }
            replay_journals(&mut world, &short.names)?;
        }
        Kind::Invariants => {
            let clients = 3 + world.random.below(6) as usize;
            let mut bank = Bank::new(&mut world.random, clients, shards);
            let pace = Pace {
                events: 15_000,
                hang_up_one_in: hang_up_one_in(1_000),
            };
            drive::run(&mut world, clients, &mut bank, pace)?;
            let end = value(&mut world, bank.watched());
            let (sure, unsure) = bank.increments;
            if end < sure || end > sure + unsure {
                return Err(format!("{sure} to {} increments made {end}", sure + unsure));
            }
            replay_journals(&mut world, &bank.names)?;
        }
        Kind::Pipelines => {
            let clients = 3 + world.random.below(4) as usize;
            let mut causal = Causal::new(&mut world.random, clients, shards);
            let pace = Pace {
                events: 15_000,
                hang_up_one_in: hang_up_one_in(2_000),
            };
            drive::run(&mut world, clients, &mut causal, pace)?;
            causal.check_journals(&mut world)?;
            replay_journals(&mut world, &causal.names)?;
            outcome.torn_looks = causal.torn_looks;
            outcome.journal_inversions = causal.journal_inversions;
        }
    }
    outcome.counts = world.counts;
    if outcome.operations == 0 {
        outcome.operations = world.counts.commands;
    }
    Ok(outcome)
}

/// Adds what everything is in the end as an operation after all others.
fn look(world: &mut World, short: &mut Short) -> Result<(), String> {
    let op = short.last_look();
    let values = short.names.iter().map(|name| check::get(world, name));
    let answer = check::Answer::List(values.collect());
    let invoked = world.time + 1;
    short.events.push(Event {
        client: 0,
        op,
        invoked,
        answered: Some((invoked + 1, answer)),
        after: 0,
    });
    Ok(())
}

fn value(world: &mut World, name: &str) -> i64 {
    match check::get(world, name) {
        check::Answer::Text(value) => value,
        _ => 0,
    }
}

fn told(events: &[Event]) -> String {
    let lines = events.iter().enumerate().map(|(i, event)| {
        let Event {
            client,
            op,
            invoked,
            answered,
            after,
        } = event;
        format!("{i}: client {client} {op:?} asked at {invoked}, told {answered:?}, after {after:b}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Checks many histories, and prints how many.
fn check_all(kind: Kind) {
    let wanted = number("REDSHARD_HISTORIES").unwrap_or(HISTORIES);
    let wanted = match kind {
        Kind::Short => wanted,
        _ => (wanted / PER_LONG_RUN).max(1),
    };
    let seeds = match number("REDSHARD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..wanted + 1,
    };
    let (mut all, began) = (Outcome::default(), std::time::Instant::now());
    for seed in seeds.clone() {
        match history(kind, seed, None) {
            Ok(outcome) => all.add(&outcome),
            Err(error) => panic!("{kind:?}, REDSHARD_SEED={seed}: {error}"),
        }
    }
    let Outcome {
        counts,
        operations,
        torn_looks,
        journal_inversions,
    } = all;
    println!(
        "{kind:?}: {} histories, {operations} operations, {} turns, {} steps, {} stalls, {} turns \
         spilled, {torn_looks} torn looks, {journal_inversions} journal inversions, {:.1?}",
        seeds.end - seeds.start,
        counts.turns,
        counts.steps,
        counts.stalls,
        counts.spilled,
        began.elapsed(),
    );
}

#[test]
fn short_histories_have_a_serial_order() {
    check_all(Kind::Short);
}

#[test]
fn long_runs_keep_their_invariants() {
    check_all(Kind::Invariants);
}

#[test]
fn pipelines_stay_causal() {
    check_all(Kind::Pipelines);
}

/// Looks for a history that goes wrong; returns how many were tried.
fn tries_until_wrong(kind: Kind, broken: Break, most: u64) -> Option<(u64, String)> {
    (1..=most).find_map(|seed| {
        history(kind, seed, Some(broken))
            .err()
            .map(|error| (seed, error))
    })
}

#[test]
fn every_rule_is_needed() {
    let cases = [
        (Break::Router(Rule::Locks), Kind::Short),
        (Break::Router(Rule::Locks), Kind::Invariants),
        (Break::Router(Rule::Queues), Kind::Short),
        (Break::Router(Rule::Queues), Kind::Pipelines),
        (Break::Router(Rule::Cut), Kind::Pipelines),
        (Break::Router(Rule::StampOrder), Kind::Pipelines),
        (Break::Router(Rule::HoldBack), Kind::Short),
        (Break::Router(Rule::HoldBack), Kind::Pipelines),
        (Break::PublishTogether, Kind::Pipelines),
        (Break::PublishBeforeReplies, Kind::Pipelines),
        (Break::OwnAtOnce, Kind::Pipelines),
    ];
    for (broken, kind) in cases {
        let most = match kind {
            Kind::Short => 3_000,
            _ => 100,
        };
        match tries_until_wrong(kind, broken, most) {
            Some((tries, error)) => println!("without {broken:?}: {kind:?} {tries}: {error}"),
            None => panic!("{most} histories of {kind:?} do without {broken:?}"),
        }
    }
}

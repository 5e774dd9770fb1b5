//! The workload that looks at what replicas get: clients write on all shards, by commands of every plan,
//! in several databases and with keys that expire meanwhile, and snapshots are cut. Each write has a
//! value of its own, by which it is found in the stream.

use super::super::feed::Fed;
use super::super::stream::Merged;
use super::check::commands;
use super::serial::{names, parse};
use super::world::{Break, Counts, World, command};
use super::{SHARDS, Snapshots, run, settle};
use crate::base::clock::Now;
use crate::base::limits;
use crate::command::persistence::{CUT_AND_JOURNAL, JOURNAL_OFF};
use crate::session::About;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Writers of one world, their writes, their keys.
const WRITERS: usize = 5;
const WRITES: usize = 60;
const KEYS: usize = 6;
/// Databases that they write in.
const DATABASES: u64 = 3;

/// A write: its value, how often the stream has to have it, when it was sent and when answered.
struct Written {
    value: String,
    copies: usize,
    sent: u64,
    answered: Option<u64>,
}

#[derive(Default)]
struct Writer {
    connection: usize,
    received: Vec<u8>,
    /// What has been asked: for each reply to come, the write whose last one it is.
    open: Vec<Option<usize>>,
}

pub fn streams(seed: u64, broken: Option<Break>) -> Result<Counts, String> {
    let mut world = World::new(SHARDS, seed, broken);
    world.let_time_pass();
    let first = world.random.below(SHARDS as u64) as usize;
    let names = names("w", KEYS, first, SHARDS);
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|_| {
            let shard = world.random.below(SHARDS as u64) as usize;
            Writer { connection: world.connect(shard), ..Writer::default() }
        })
        .collect();
    let (mut written, mut snapshots, mut events) =
        (Vec::<Written>::new(), Snapshots::default(), Vec::new());
    let mut asked = 0;
    run(&mut world, |world, lively| {
        snapshots.act(world, lively && asked < WRITES && events.len() < 3, &mut events);
        let writer = &mut writers[world.random.below(WRITERS as u64) as usize];
        world.receive(writer.connection, &mut writer.received);
        while let Some((_, used)) = parse(&writer.received) {
            writer.received.drain(..used);
            if let Some(write) = writer.open.remove(0) {
                written[write].answered = Some(world.time);
            }
        }
        if lively && writer.open.is_empty() && asked < WRITES {
            asked += 1;
            ask(world, writer, &names, &mut written);
        }
        let idle = writers.iter().all(|writer| writer.open.is_empty());
        idle && snapshots.is_idle() && (asked >= WRITES || !lively)
    })?;
    is_causal(&world, &written)?;
    settle(&mut world, WRITERS, &snapshots.taken)?;
    Ok(world.counts)
}

/// Sends one operation of a writer.
fn ask(world: &mut World, writer: &mut Writer, names: &[String], written: &mut Vec<Written>) {
    let at = world.random.below(KEYS as u64) as usize;
    let name = |further: usize| &names[(at + further) % KEYS];
    let further = 1 + world.random.below(KEYS as u64 - 1) as usize;
    let (one, other, third) = (name(0), name(further), name(further + 1));
    // Not to be mistaken for a time, nor for another's that was increased.
    let value = (5_000_000 + 1_000 * written.len()).to_string();
    let db = world.random.below(DATABASES);
    let other_db = (db + 1) % DATABASES;
    let ttl = 1 + world.random.below(400);
    // A line, and how often its value is to be found.
    let (line, copies) = match world.random.below(24) {
        0..=3 => (format!("SET {one} {value}"), 1),
        4..=6 => (format!("PSETEX {one} {ttl} {value}"), 1),
        7..=9 => (format!("MSET {one} {value} {other} {value}"), 2),
        10 => (format!("MULTI|SET {one} {value}|SET {other} {value}|EXEC"), 2),
        11 => (format!("MULTI|SET {one} {value}|CLIENT ID|SET {one} {value}|EXEC"), 2),
        12 => {
            let calls = format!("SET {one} {value}|FLUSHALL|RENAME {third} {one}");
            (format!("MULTI|{calls}|SET {other} {value}|EXEC"), 2)
        }
        13 => {
            let calls = format!("SET {one} {value}|SELECT {other_db}|SET {one} {value}");
            (format!("MULTI|{calls}|SWAPDB {db} {other_db}|EXEC"), 2)
        }
        14 => ("SWAPDB 0 1".to_owned(), 0),
        15 => (format!("RENAME {one} {other}"), 0),
        16 => (format!("COPY {one} {other} DB {other_db} REPLACE"), 0),
        17 => (format!("MOVE {one} {other_db}"), 0),
        18 => (format!("DEL {one} {other} {third}"), 0),
        19 | 20 => (format!("PEXPIRE {one} {ttl}"), 0),
        21 => (format!("MGET {one} {other} {third}"), 0),
        22 => (format!("MSETNX {one} 1 {other} 2"), 0),
        _ => (format!("INCR {one}"), 0),
    };
    let write = written.len();
    if copies > 0 {
        written.push(Written { value, copies, sent: world.time, answered: None });
    }
    for line in [format!("SELECT {db}").as_str()].into_iter().chain(line.split('|')) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        world.send(writer.connection, &command(&words), false);
        writer.open.push(None);
    }
    if let (Some(last), true) = (writer.open.last_mut(), copies > 0) {
        *last = Some(write);
    }
}

/// Whether every write is there, as a whole, and before whatever was sent after its reply had come.
fn is_causal(world: &World, written: &[Written]) -> Result<(), String> {
    // Of each word: the transaction or command that has it, by its number, and how often.
    let mut places: HashMap<String, (usize, usize)> = HashMap::new();
    let (mut unit, mut in_multi) = (0, false);
    for merged in world.stream() {
        let Merged::Bytes(bytes) = merged else { continue };
        for words in commands(bytes) {
            match words[0].as_str() {
                "MULTI" => in_multi = true,
                "EXEC" => in_multi = false,
                _ => {}
            }
            for word in words {
                let place = places.entry(word).or_insert((unit, 0));
                place.1 += usize::from(place.0 == unit);
            }
            unit += usize::from(!in_multi);
        }
    }
    let mut found = Vec::new();
    for Written { value, copies, sent, answered } in written {
        let Some((place, count)) = places.get(value) else {
            return Err(format!("{value} is missing in the stream"));
        };
        if count != copies {
            return Err(format!("{value} stands {count} times together, not {copies}"));
        }
        found.push((*place, *sent, *answered));
    }
    found.sort_unstable();
    // Whatever stands behind was not sent and answered before what stands here was even sent.
    let mut answered_min = u64::MAX;
    for (place, sent, answered) in found.iter().rev() {
        if answered_min < *sent {
            return Err(format!("number {place} of the stream stands before its cause"));
        }
        answered_min = answered_min.min(answered.unwrap_or(u64::MAX));
    }
    Ok(())
}

/// Who writes faster than the stream can be put in order, or more in a turn than one may journal, waits.
#[test]
fn nobody_outruns_the_stream() {
    let mut world = World::new(1, 1, None);
    let node = world.node(0);
    let client = node.connect(About::default());
    let one = command(&["SET".to_owned(), "k".to_owned(), "v".repeat(limits::JOURNAL_BYTES / 3)]);
    let input = one.repeat(5);

    let instance = Arc::clone(&node.instance);
    let held = &instance.replication().progress.held;
    held.store(limits::STREAM_HELD_BYTES + 1, Ordering::Relaxed);
    node.begin_turn(Now::default());
    assert_eq!(node.feed(client, &input), (0, Fed::More));

    held.store(0, Ordering::Relaxed);
    node.begin_turn(Now::default());
    assert_eq!(node.feed(client, &input), (3 * one.len(), Fed::More));
    node.end_turn(1);
    node.begin_turn(Now::default());
    assert_eq!(node.feed(client, &input[3 * one.len()..]).0, 2 * one.len());
}

/// Where a journal stops, and begins again with a cut, is one moment of all shards.
#[test]
fn a_journal_stops_and_begins_at_one_moment() {
    for seed in 1..200 {
        let mut world = World::new(SHARDS, seed, None);
        let names = names("j", 2, 0, SHARDS);
        let (one, other) = (&names[0], &names[1]);
        let clients: Vec<usize> = (0..SHARDS).map(|shard| world.connect(shard)).collect();
        let mut values: Vec<String> = Vec::new();
        for (phase, inner) in [None, Some(&JOURNAL_OFF), Some(&CUT_AND_JOURNAL)].iter().enumerate()
        {
            let before = world.stream().len();
            if let Some(inner) = inner {
                world.node(0).begin_inner(inner);
            }
            let stops = phase == 1;
            for client in &clients {
                let value = (7_000_000 + values.len()).to_string();
                let words = ["MSET", one, &value, other, &value].map(str::to_owned);
                world.send(*client, &command(&words), false);
                values.push(value);
            }
            for _ in 0..400 {
                if let Some(shard) = world.pick_shard() {
                    world.step(shard);
                }
            }
            for _ in 0..40 {
                (0..SHARDS).for_each(|shard| world.turn(shard));
            }
            assert_eq!(world.has_concluded(), phase > 0, "seed {seed}");
            assert!(!world.node(0).is_merging(), "seed {seed}");
            // Whole MSETs, or nothing of them; all of them at first, and after that what came after
            // the cut, or before the end.
            let stream = &world.stream()[before..];
            for value in &values[phase * SHARDS..] {
                let copies = |merged: &Merged| match merged {
                    Merged::Bytes(bytes) => memchr::memmem::find_iter(bytes, value).count(),
                    Merged::Barrier => 0,
                };
                let count: usize = stream.iter().map(copies).sum();
                assert!(count == 2 || (count == 0 && phase > 0), "seed {seed}: {count}");
            }
            let barriers = stream.iter().filter(|merged| **merged == Merged::Barrier).count();
            assert_eq!(barriers, usize::from(phase == 2), "seed {seed}");
            assert_eq!(world.node(0).is_journaled(), !stops);
        }
    }
}

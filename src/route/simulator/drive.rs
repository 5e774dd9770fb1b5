//! Runs a workload in a world: clients send and receive at random, hang up at random, and in the
//! end everything has to come to rest.

use super::check::{Answer, parse};
use super::world::{World, command};
use crate::base::hash::Random;
use std::collections::VecDeque;

/// A command that a client is about to send.
#[derive(Debug)]
pub struct Request<T> {
    /// Its words.
    pub words: Vec<String>,
    /// What its reply is to be told apart by.
    pub tag: T,
    /// The one shard that owns all its keys, if there is one.
    pub owner: Option<usize>,
}

/// What clients do, and what they must be told.
pub trait Workload {
    /// Tells replies apart.
    type Tag;

    /// What a client sends at once, now that so many of its commands have not been answered.
    fn next(
        &mut self,
        client: usize,
        outstanding: usize,
        random: &mut Random,
        time: u64,
    ) -> Vec<Request<Self::Tag>>;

    /// A client has been answered.
    fn answer(
        &mut self,
        client: usize,
        tag: Self::Tag,
        answer: Answer,
        time: u64,
    ) -> Result<(), String>;

    /// A client has hung up, with these commands unanswered.
    fn gone(&mut self, _client: usize, _unanswered: VecDeque<Self::Tag>) {}

    /// Whether nobody will send anything more.
    fn is_over(&self) -> bool;
}

#[derive(Debug)]
struct Port<T> {
    connection: usize,
    received: Vec<u8>,
    outstanding: VecDeque<T>,
    hung_up: bool,
}

/// How long and how roughly.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Events until clients stop sending.
    pub events: u64,
    /// One client's turn in so many is its last; 0: none.
    pub hang_up_one_in: u64,
}

/// Rounds in which everybody is served fairly until everything must be at rest.
const ROUNDS: usize = 10_000;

/// Runs a workload of so many clients to its end. The error says what went wrong.
pub fn run<W: Workload>(
    world: &mut World,
    clients: usize,
    workload: &mut W,
    pace: Pace,
) -> Result<(), String> {
    let mut ports: Vec<Port<W::Tag>> = (0..clients)
        .map(|_| {
            let shard = world.random.below(world.shards() as u64) as usize;
            Port {
                connection: world.connect(shard),
                received: Vec::new(),
                outstanding: VecDeque::new(),
                hung_up: false,
            }
        })
        .collect();
    while world.time < pace.events {
        world.time += 1;
        if world.random.below(4) > 0 {
            if let Some(shard) = world.pick_shard() {
                world.step(shard);
            }
            continue;
        }
        let client = world.random.below(clients as u64) as usize;
        if ports[client].hung_up {
            continue;
        }
        if pace.hang_up_one_in > 0 && world.random.below(pace.hang_up_one_in) == 0 {
            let port = &mut ports[client];
            port.hung_up = true;
            world.hang_up(port.connection);
            workload.gone(client, std::mem::take(&mut port.outstanding));
        } else if world.random.below(2) == 0 {
            receive(world, &mut ports[client], client, workload)?;
        } else {
            send(world, &mut ports[client], client, workload);
        }
        if workload.is_over() && ports.iter().all(|port| port.outstanding.is_empty()) {
            break;
        }
    }
    settle(world, &mut ports, workload)?;
    if let Some(client) = ports.iter().position(|port| !port.outstanding.is_empty()) {
        let missing = ports[client].outstanding.len();
        return Err(format!("client {client} waits for {missing} replies in vain"));
    }
    world.leftovers(true)?;
    for port in &mut ports {
        if !port.hung_up {
            port.hung_up = true;
            world.hang_up(port.connection);
        }
    }
    settle(world, &mut ports, workload)?;
    world.leftovers(false)
}

fn send<W: Workload>(
    world: &mut World,
    port: &mut Port<W::Tag>,
    client: usize,
    workload: &mut W,
) {
    let outstanding = port.outstanding.len();
    if outstanding > 0 && world.reorders() {
        return;
    }
    let time = world.time;
    let requests = workload.next(client, outstanding, &mut world.random, time);
    let (late, prompt): (Vec<_>, Vec<_>) = requests
        .into_iter()
        .partition(|request| world.withholds(port.connection, request.owner));
    for (requests, withheld) in [(prompt, false), (late, true)] {
        for request in requests {
            world.send(port.connection, &command(&request.words), withheld);
            port.outstanding.push_back(request.tag);
        }
    }
}

fn receive<W: Workload>(
    world: &mut World,
    port: &mut Port<W::Tag>,
    client: usize,
    workload: &mut W,
) -> Result<(), String> {
    world.receive(port.connection, &mut port.received);
    let mut used = 0;
    while let Some((answer, len)) = parse(&port.received[used..]) {
        used += len;
        let Some(tag) = port.outstanding.pop_front() else {
            return Err(format!("client {client} is told {answer:?} unasked"));
        };
        workload.answer(client, tag, answer, world.time)?;
    }
    port.received.drain(..used);
    Ok(())
}

/// Nobody sends, nobody is paused: as long as somebody has something to do, he does it. Shards that
/// would be asleep are left alone.
fn settle<W: Workload>(
    world: &mut World,
    ports: &mut [Port<W::Tag>],
    workload: &mut W,
) -> Result<(), String> {
    for _ in 0..ROUNDS {
        let mut quiet = true;
        for shard in 0..world.shards() {
            if world.is_busy(shard) {
                world.turn(shard);
                quiet = false;
            }
        }
        for (client, port) in ports.iter_mut().enumerate() {
            if !port.hung_up && !world.is_silent(port.connection) {
                receive(world, port, client, workload)?;
                quiet = false;
            }
        }
        if quiet {
            return Ok(());
        }
    }
    Err("the world does not come to rest".to_owned())
}

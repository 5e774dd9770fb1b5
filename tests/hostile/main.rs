//! Hostile input: a corpus and a fuzzer over the parser and the connection's state machine, without
//! sockets, and then the same against a live server.
//!
//! What is checked of every input: nothing panics; what comes back is well-formed; every complete
//! command is answered once; what is no command is refused in the protocol's own words and ends the
//! connection; the replies do not depend on where the input was cut; nothing is allocated for bytes
//! that were only announced.
//!
//! `REDSHARD_INPUTS=1000000 cargo test --release --test hostile` runs more of it;
//! `REDSHARD_SEED=n REDSHARD_INPUTS=1` runs the one input that a failure names.

mod corpus;
mod drive;
mod generate;
mod oracle;
#[path = "../support/mod.rs"]
mod support;

use drive::Host;
use generate::Kind;
use oracle::{Lines, Verdict, judge};
use redshard::base::hash::Random;
use redshard::base::memory::{self, Counting};
use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

/// Inputs unless REDSHARD_INPUTS says otherwise: some seconds' worth.
const INPUTS: u64 = 20_000;

/// The first seed unless REDSHARD_SEED says otherwise: a test that fails for nobody's change would
/// stop the wrong one.
const SEED: u64 = 1;

/// What one call may allocate for an input that announces and does not send: the allocator's count
/// is exact to 64 KiB, a window of commands and a buffer of replies come on top.
const ANNOUNCED_BYTES_MAX: u64 = 256 * 1024;

/// What one call may allocate for commands that run: they may make strings of `drive::BULK_MAX`,
/// read them, and queue them. Far below what an announcement can name.
const COMMAND_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The counters of the allocator are the whole process's, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}

/// The generator of one input, far from that of its neighbours.
fn random_of(seed: u64) -> Random {
    let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03);
    for _ in 0..4 {
        random.next_u64();
    }
    random
}

/// Runs `case` for every seed; the one that fails is named.
fn for_every_seed(what: &str, inputs: u64, mut case: impl FnMut(u64) -> Result<(), String>) {
    let first = setting("REDSHARD_SEED", SEED);
    eprintln!("{what}: {inputs} inputs, REDSHARD_SEED={first}");
    for seed in first..first + inputs {
        let replay = || eprintln!("to replay: REDSHARD_SEED={seed} REDSHARD_INPUTS=1 ({what})");
        match catch_unwind(AssertUnwindSafe(|| case(seed))) {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => {
                replay();
                panic!("{wrong}");
            }
            Err(panic) => {
                replay();
                resume_unwind(panic);
            }
        }
    }
}

/// An input to be read by people: what repeats is counted.
fn shown(input: &[u8]) -> String {
    let (mut text, mut at) = (String::new(), 0);
    while at < input.len() {
        let run = input[at..].iter().take_while(|byte| **byte == input[at]).count();
        let byte = std::ascii::escape_default(input[at]);
        if run > 20 {
            text.push_str(&format!("<{byte} {run} times>"));
            at += run;
        } else {
            text.push_str(&byte.to_string());
            at += 1;
        }
    }
    text
}

/// One run of one client: what came back, whether it was closed, and the most that was allocated.
struct Run {
    out: Vec<u8>,
    closed: bool,
    feed_bytes_max: u64,
}

fn run(input: &[u8], cuts: &[usize], config: &Setup, mut random: Option<Random>) -> Run {
    let mut host = Host::new(drive::config(config.password), config.shards);
    let mut peers = [host.connect(config.home)];
    let mut from = 0;
    for &cut in cuts {
        peers[0].patient = random.as_mut().is_none_or(|random| !generate::chance(random, 4));
        peers[0].send(&input[from..cut]);
        from = cut;
        let turns = random.as_mut().map_or(0, |random| random.below(4));
        for turn in 0..turns as usize * host.shards() {
            host.turn(turn % host.shards(), &mut peers);
        }
    }
    // The last bytes are what it asked for or too few.
    host.settle(&mut peers);
    let [peer] = peers;
    Run { out: peer.out, closed: peer.closed, feed_bytes_max: host.feed_bytes_max }
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    shards: usize,
    home: usize,
    password: bool,
}

impl Setup {
    fn random(random: &mut Random) -> Setup {
        let shards = [1, 1, 2, 3, 4][random.below(5) as usize];
        Setup {
            shards,
            home: random.below(shards as u64) as usize,
            password: generate::chance(random, 4),
        }
    }
}

/// Runs an input whole and in pieces, and compares.
fn check(input: &[u8], cuts: &[usize], setup: Setup, random: Random) -> Result<Verdict, String> {
    let describe = |wrong| format!("{wrong}\n{setup:?}, cut at {cuts:?}\n{}", shown(input));
    let whole = run(input, &[input.len()], &setup, None);
    let verdict = judge(input, &whole.out, whole.closed, setup.password, Lines::Whole)
        .map_err(|wrong| describe(format!("in one piece: {wrong}")))?;
    let split = run(input, cuts, &setup, Some(random));
    let in_pieces = |lines| judge(input, &split.out, split.closed, setup.password, lines).map(drop);
    let mut judged = in_pieces(Lines::Whole);
    let has_long_line =
        input.split(|byte| *byte == b'\n').any(|line| line.len() > oracle::LINE_MAX);
    if has_long_line {
        judged = judged.or_else(|_| in_pieces(Lines::Pieces));
    } else if !verdict.loose {
        judged = judged.and_then(|()| same(&whole.out, &split.out, verdict.volatile));
    }
    judged.map_err(|wrong| describe(format!("in pieces: {wrong}")))?;
    let most = whole.feed_bytes_max.max(split.feed_bytes_max);
    if most > COMMAND_BYTES_MAX {
        return Err(describe(format!("{most} bytes allocated in one call")));
    }
    if verdict.commands == 0 && most > ANNOUNCED_BYTES_MAX + 16 * input.len() as u64 {
        return Err(describe(format!("{most} bytes allocated for nothing")));
    }
    Ok(verdict)
}

fn same(whole: &[u8], split: &[u8], volatile: bool) -> Result<(), String> {
    if whole == split {
        return Ok(());
    }
    let (whole, split) = (oracle::replies(whole)?, oracle::replies(split)?);
    for (at, (a, b)) in whole.iter().zip(&split).enumerate() {
        if a != b && !(volatile && a.bytes[0] == b.bytes[0]) {
            let (a, b) = (a.bytes.escape_ascii(), b.bytes.escape_ascii());
            return Err(format!("reply {at} depends on the cut: {a} or {b}"));
        }
    }
    if whole.len() == split.len() {
        return Ok(());
    }
    Err(format!("{} replies, or {} in pieces", whole.len(), split.len()))
}

#[test]
fn whatever_comes_is_answered_or_refused_wherever_it_is_cut() {
    let _alone = alone();
    let [mut commands, mut refused, mut announced] = [0usize; 3];
    for_every_seed("one client", setting("REDSHARD_INPUTS", INPUTS), |seed| {
        let mut random = random_of(seed);
        let (kind, input) = generate::input(&mut random);
        let setup = Setup::random(&mut random);
        let cuts = generate::cuts(&mut random, input.len());
        let verdict = check(&input, &cuts, setup, random)?;
        commands += verdict.commands;
        refused += usize::from(verdict.refused);
        announced += usize::from(kind == Kind::Announcement);
        Ok(())
    });
    eprintln!("{commands} commands, {refused} inputs refused, {announced} announcements");
}

/// Several clients at once, on different shards, some of whom hang up: nothing panics, nobody waits
/// for ever, everyone's replies are their own.
#[test]
fn a_crowd_gets_an_answer_each() {
    let _alone = alone();
    let inputs = setting("REDSHARD_INPUTS", INPUTS) / 10;
    for_every_seed("a crowd", inputs.max(1), |seed| {
        let mut random = random_of(!seed);
        let setup = Setup::random(&mut random);
        let mut host = Host::new(drive::config(setup.password), setup.shards);
        host.housekeeping = true;
        let mut peers = Vec::new();
        let mut inputs: Vec<(Vec<u8>, usize)> = Vec::new();
        for i in 0..2 + random.below(4) as usize {
            peers.push(host.connect(i % setup.shards));
            let input = match random.below(4) {
                0 => generate::input(&mut random).1,
                _ => generate::pipeline(&mut random),
            };
            inputs.push((input, 0));
        }
        let mut gone = vec![false; peers.len()];
        for _ in 0..30 {
            let who = random.below(peers.len() as u64) as usize;
            let (input, sent) = &mut inputs[who];
            if generate::chance(&mut random, 60) {
                host.hang_up(&mut peers[who]);
                gone[who] = true;
            } else {
                let to = (*sent + 1 + random.below(60) as usize).min(input.len());
                peers[who].send(&input[*sent..to]);
                *sent = to;
            }
            let shard = random.below(setup.shards as u64) as usize;
            host.turn(shard, &mut peers);
        }
        for (peer, (input, sent)) in peers.iter_mut().zip(&inputs) {
            peer.send(&input[*sent..]);
        }
        host.settle(&mut peers);
        let killers = inputs
            .iter()
            .any(|(input, _)| input.windows(4).any(|word| word.eq_ignore_ascii_case(b"KILL")));
        for ((peer, (input, _)), gone) in peers.iter().zip(&inputs).zip(gone) {
            let judged = match gone || killers {
                // Cut short by somebody: what did come is well-formed all the same.
                true => oracle::replies(&peer.out).map(drop),
                false => judge(input, &peer.out, peer.closed, setup.password, Lines::Whole)
                    .or_else(|_| {
                        judge(input, &peer.out, peer.closed, setup.password, Lines::Pieces)
                    })
                    .map(drop),
            };
            judged.map_err(|wrong| format!("{wrong}\n{setup:?}\n{}", shown(input)))?;
        }
        Ok(())
    });
}

#[test]
fn the_corpus_is_refused_in_the_protocols_words_wherever_it_is_cut() {
    let _alone = alone();
    for item in corpus::all() {
        for setup in [
            Setup { shards: 1, home: 0, password: item.stranger },
            Setup { shards: 3, home: 1, password: item.stranger },
        ] {
            let step = 1 + item.input.len() / 64;
            for cut in (0..=item.input.len()).step_by(step) {
                let cuts = [cut, item.input.len()];
                check(&item.input, &cuts, setup, random_of(cut as u64))
                    .unwrap_or_else(|wrong| panic!("{}: {wrong}", item.name));
            }
            let run = run(&item.input, &[item.input.len()], &setup, None);
            let shown = run.out.escape_ascii();
            assert!(run.out.ends_with(item.last.as_bytes()), "{}: {shown}", item.name);
            assert_eq!(run.closed, item.closes, "{}: {shown}", item.name);
        }
    }
}

/// The configuration that servers run with: 512 MB may be announced, and count for nothing until
/// they come. A slice of each is sent, byte by byte at first.
#[test]
fn announced_bytes_cost_nothing_until_they_come() {
    let _alone = alone();
    for header in [
        "*1\r\n$536870912\r\n",
        "*2147483647\r\n",
        "*2147483647\r\n$536870912\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n",
        "*1000000\r\n$4\r\nMSET\r\n",
    ] {
        let mut host = Host::new(redshard::config::Config::default(), 2);
        let mut peers = [host.connect(0)];
        peers[0].patient = false;
        let before = memory::used();
        for byte in header.bytes().chain(std::iter::repeat_n(b'$', 1)) {
            peers[0].send(&[byte]);
            host.settle(&mut peers);
        }
        let grown = memory::used().saturating_sub(before);
        let most = host.feed_bytes_max.max(grown);
        assert!(most <= ANNOUNCED_BYTES_MAX, "{header:?}: {most} bytes");
        assert!(peers[0].out.is_empty() && !peers[0].closed, "{header:?}");
    }
}

/// The longest thing a client can be in the middle of costs its arguments' places, in proportion.
#[test]
fn many_small_arguments_cost_in_proportion() {
    let _alone = alone();
    const COUNT: usize = 200_000;
    let mut host = Host::new(redshard::config::Config::default(), 1);
    let mut peers = [host.connect(0)];
    let mut input = format!("*{}\r\n$3\r\nDEL\r\n", COUNT + 1).into_bytes();
    for _ in 0..COUNT {
        input.extend_from_slice(b"$1\r\nk\r\n");
    }
    peers[0].patient = false;
    for piece in input.chunks(16 * 1024) {
        peers[0].send(piece);
        host.turn(0, &mut peers);
    }
    host.settle(&mut peers);
    assert_eq!(peers[0].out, b":0\r\n");
    let most = ANNOUNCED_BYTES_MAX + 16 * input.len() as u64;
    assert!(host.feed_bytes_max <= most, "{} bytes", host.feed_bytes_max);
}

/// Says something if the test fails here.
struct OnFailure<F: Fn()>(F);

impl<F: Fn()> Drop for OnFailure<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

/// The same through sockets: each of them answered well-formed or closed, and the server lives.
#[test]
fn a_live_server_survives_it_all() {
    let _alone = alone();
    let inputs = setting("REDSHARD_INPUTS", INPUTS).clamp(1, 100_000) / 50;
    for (shards, password) in [(1, false), (4, false), (2, true)] {
        let mut launch = support::Launch::new(shards).args(&["--proto-max-bulk-len", "1048576"]);
        if password {
            launch = launch.args(&["--requirepass", drive::PASSWORD]);
        }
        let server = launch.start();
        let mut control = server.client();
        if password {
            control.check(&format!("AUTH {}", drive::PASSWORD), support::ok());
        }
        let throw = |input: &[u8], control: &mut support::Client| {
            let mut client = server.client();
            client.send_raw_lossy(input);
            client.finish_sending();
            // Named in case the close never comes.
            let name = OnFailure(|| eprintln!("thrown: {}", shown(input)));
            let out = client.read_to_close();
            drop(name);
            control.check("PING", support::simple("PONG"));
            oracle::replies(&out).map(drop)
        };
        for item in corpus::all() {
            throw(&item.input, &mut control)
                .unwrap_or_else(|wrong| panic!("{}: {wrong}", item.name));
        }
        for_every_seed("a live server", inputs, |seed| {
            let mut random = random_of(seed ^ 0x5EED);
            let (_, input) = generate::input(&mut random);
            let killer = input.windows(4).any(|word| word.eq_ignore_ascii_case(b"KILL"));
            // It would take the control connection with it.
            if killer {
                return Ok(());
            }
            throw(&input, &mut control).map_err(|wrong| format!("{wrong}\n{}", shown(&input)))
        });
    }
}

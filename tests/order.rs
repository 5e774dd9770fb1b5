//! Order across shards, on a real server: what the simulator asks of the router alone is asked here of the whole, with
//! real sockets, real threads, and shards that are kept busy at random.
//!
//! `REDSHARD_HISTORIES=n` says how many histories to run per shard count; `REDSHARD_SEED=n` replays the operations of
//! one (their timing is the machine's).

#[path = "../src/route/simulator/serial.rs"]
mod serial;
mod support;

use redshard::base::hash::Random;
use redshard::base::slot::even_owner;
use serial::{
    Answer, CLIENTS, Event, KEYS, Op, is_explained, names, parse, predecessors, random_op,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Instant;
use support::client::encode;
use support::{Launch, PATIENCE, Server, nil_array, ok, shard_counts};

/// Operations of one history: the search for a serial order is exponential in them.
const OPS: usize = 12;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A connection that reads replies as the checker understands them.
struct Line {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Line {
    fn to(server: &Server) -> Line {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("connect");
        stream.set_nodelay(true).expect("set no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        Line { stream, received: Vec::new() }
    }

    fn send(&mut self, commands: &[Vec<String>]) {
        let mut bytes = Vec::new();
        for words in commands {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            bytes.extend(encode(&words));
        }
        self.stream.write_all(&bytes).expect("send");
    }

    fn receive(&mut self) -> Answer {
        loop {
            if let Some((answer, used)) = parse(&self.received) {
                self.received.drain(..used);
                return answer;
            }
            let mut piece = [0; 4096];
            let len = self.stream.read(&mut piece).expect("every pending client is answered");
            assert!(len > 0, "the server closed the connection");
            self.received.extend_from_slice(&piece[..len]);
        }
    }

    fn ask(&mut self, words: &[&str]) -> Answer {
        self.send(&[words.iter().map(|word| (*word).to_owned()).collect()]);
        self.receive()
    }
}

/// Keeps one shard after the other busy for some milliseconds at a time, until told to stop.
fn stall(server: &Server, shards: usize, seed: u64, over: &AtomicBool) {
    let mut client = server.client();
    let mut random = Random::new(seed);
    // Elsewhere, so that DBSIZE does not see it; FLUSHALL does, so it is written anew each time.
    client.check("SELECT 1", ok());
    while !over.load(Ordering::Relaxed) {
        let tag = &names("s", 1, random.below(shards as u64) as usize, shards)[0];
        let (a, b) = (format!("{{{tag}}}a"), format!("{{{tag}}}b"));
        let text = "x".repeat(500 + random.below(2_000) as usize);
        for words in [["SET", &a, &text], ["SET", &b, &text], ["LCS", &a, &b]] {
            client.cmd(&words);
        }
        std::thread::sleep(std::time::Duration::from_micros(random.below(3_000)));
    }
}

/// Runs `body` with shards stalling meanwhile, for each shard count.
fn with_stalls(body: impl Fn(&Server, usize)) {
    for &shards in shard_counts() {
        let server = Launch::new(shards).start();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| stall(&server, shards, 7, &over));
            // Told to stop even if the body fails, or the scope would wait for ever.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                body(&server, shards);
            }));
            over.store(true, Ordering::Relaxed);
            if let Err(panic) = done {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

#[test]
fn every_history_has_a_serial_order() {
    let (first, count) = match number("REDSHARD_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("REDSHARD_HISTORIES").unwrap_or(400)),
    };
    with_stalls(|server, shards| {
        let mut lines: Vec<Line> = (0..CLIENTS).map(|_| Line::to(server)).collect();
        for seed in first..first + count {
            let events = history(&mut lines, seed, shards);
            assert!(
                is_explained(&events),
                "REDSHARD_SEED={seed}, {shards} shards: no serial order explains {events:#?}"
            );
            for words in [["UNWATCH"], ["FLUSHALL"]] {
                lines.iter_mut().for_each(|line| _ = line.ask(&words));
            }
        }
        println!("{count} histories of {OPS} operations with {shards} shard(s)");
    });
}

/// Clients with commands of every plan over shared keys, in pipelines of up to three.
fn history(lines: &mut [Line], seed: u64, shards: usize) -> Vec<Event> {
    let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let names = names("k", KEYS, random.below(shards as u64) as usize, shards);
    // Who asks what is decided beforehand, so that a seed says it all.
    let mut scripts: Vec<Vec<Vec<Op>>> = vec![Vec::new(); CLIENTS];
    let mut asked = 0;
    while asked < OPS {
        let pipeline = (1 + random.below(3) as usize).min(OPS - asked);
        let ops = (0..pipeline).map(|i| random_op(&mut random, (asked + i) as i64 + 1, true));
        let ops = ops.collect();
        scripts[random.below(CLIENTS as u64) as usize].push(ops);
        asked += pipeline;
    }
    let events = Mutex::new(Vec::<Event>::new());
    let (start, began) = (Barrier::new(CLIENTS), Instant::now());
    let now = || began.elapsed().as_nanos() as u64;
    std::thread::scope(|scope| {
        for (client, (line, script)) in lines.iter_mut().zip(&scripts).enumerate() {
            let (events, names, start) = (&events, &names, &start);
            scope.spawn(move || {
                start.wait();
                for pipeline in script {
                    let mut commands = Vec::new();
                    let mut places = Vec::new();
                    {
                        let mut events = events.lock().expect("nobody panicked");
                        let from = events.len();
                        for op in pipeline {
                            let after = predecessors(&events, client, op, from, names, shards);
                            let mine = op.commands(names);
                            places.push((events.len(), mine.len() - 1));
                            commands.extend(mine);
                            let (op, invoked) = (op.clone(), now());
                            events.push(Event { client, op, invoked, answered: None, after });
                        }
                    }
                    line.send(&commands);
                    for (place, before) in places {
                        (0..before).for_each(|_| drop(line.receive()));
                        let answer = line.receive();
                        let mut events = events.lock().expect("nobody panicked");
                        events[place].answered = Some((now(), answer));
                    }
                }
            });
        }
    });
    events.into_inner().expect("nobody panicked")
}

/// Whoever has seen a later command of a pipeline, or has been told by somebody who has, sees the earlier ones.
#[test]
fn every_pipeline_is_causal() {
    const KEYS: usize = 4;
    let versions = number("REDSHARD_VERSIONS").unwrap_or(1_500) as i64;
    with_stalls(|server, shards| {
        let names = names("p", KEYS, 0, shards);
        // By place in the order of writing: the version that somebody has seen of that key or of a later one.
        let told: [AtomicI64; KEYS] = Default::default();
        let (over, reads) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..KEYS)
                .map(|reader| {
                    let (names, told, over, reads) = (&names, &told, &over, &reads);
                    scope.spawn(move || {
                        let mut line = Line::to(server);
                        let mut random = Random::new(reader as u64 + 1);
                        while !over.load(Ordering::Relaxed) {
                            // Readers pipeline too: what is asked for in one go need not be as new as
                            // what is told before it.
                            let asked: Vec<(usize, i64)> = (0..=random.below(3))
                                .map(|_| random.below(KEYS as u64) as usize)
                                .map(|place| (place, told[place].load(Ordering::SeqCst)))
                                .collect();
                            let get = |(place, _): &(usize, i64)| {
                                vec!["GET".to_owned(), names[*place].clone()]
                            };
                            line.send(&asked.iter().map(get).collect::<Vec<_>>());
                            for (place, least) in asked {
                                let seen = match line.receive() {
                                    Answer::Text(seen) => seen,
                                    _ => 0,
                                };
                                assert!(seen >= least, "{}: {seen} after {least}", names[place]);
                                for earlier in &told[..=place] {
                                    earlier.fetch_max(seen, Ordering::SeqCst);
                                }
                                reads.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    })
                })
                .collect();
            let mut line = Line::to(server);
            let mut failed = false;
            for version in 1..=versions {
                let value = version.to_string();
                let set = |name: &String| vec!["SET".to_owned(), name.clone(), value.clone()];
                line.send(&names.iter().map(set).collect::<Vec<_>>());
                (0..KEYS).for_each(|_| drop(line.receive()));
                failed = readers.iter().any(|reader| reader.is_finished());
                if failed {
                    break;
                }
            }
            over.store(true, Ordering::Relaxed);
            assert!(!failed, "a reader has seen an effect without its cause");
        });
        let reads = reads.into_inner();
        println!("{versions} versions, {reads} reads with {shards} shard(s)");
    });
}

/// Many clients move amounts between accounts, by WATCH and EXEC or by RENAME; nothing is lost on the way.
#[test]
fn what_moves_is_never_half_way() {
    const ACCOUNTS: usize = 6;
    const MOVERS: usize = 8;
    const TOTAL: i64 = 600;
    let moves = number("REDSHARD_MOVES").unwrap_or(60);
    with_stalls(|server, shards| {
        let names = names("a", ACCOUNTS, 0, shards);
        let mut first = server.client();
        for name in &names {
            first.check(&format!("SET {name} {}", TOTAL / ACCOUNTS as i64), ok());
        }
        first.check("SET token.here 1", ok());
        let (over, audits) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let movers: Vec<_> = (0..MOVERS)
                .map(|mover| {
                    let names = &names;
                    scope.spawn(move || {
                        let mut client = server.client();
                        let mut random = Random::new(mover as u64 + 1);
                        for _ in 0..moves {
                            let from = random.below(ACCOUNTS as u64) as usize;
                            let to =
                                (from + 1 + random.below(ACCOUNTS as u64 - 1) as usize) % ACCOUNTS;
                            let (from, to) = (&names[from], &names[to]);
                            client.check(&format!("WATCH {from} {to}"), ok());
                            let have = client.run(&format!("MGET {from} {to}"));
                            let [a, b] = have.items() else { panic!("{have:?}") };
                            let amount = |value: &support::Value| {
                                value.text().parse::<i64>().expect("a number")
                            };
                            let (a, b) = (amount(a) - 1, amount(b) + 1);
                            for line in
                                ["MULTI", &format!("SET {from} {a}"), &format!("SET {to} {b}")]
                            {
                                client.run(line);
                            }
                            // Somebody was faster, or it is done: both leave the sum as it was.
                            let done = client.run("EXEC");
                            assert!(done == nil_array() || done.items().len() == 2, "{done:?}");
                            if mover == 0 {
                                client.check("RENAME token.here token.there", ok());
                                client.check("RENAME token.there token.here", ok());
                            }
                        }
                    })
                })
                .collect();
            let auditor = scope.spawn(|| {
                let mut line = Line::to(server);
                let words: Vec<&str> =
                    std::iter::once("MGET").chain(names.iter().map(String::as_str)).collect();
                while !over.load(Ordering::Relaxed) {
                    let Answer::List(amounts) = line.ask(&words) else { panic!("no list") };
                    let amounts = amounts.iter().map(|amount| match amount {
                        Answer::Text(amount) => *amount,
                        other => panic!("{other:?}"),
                    });
                    assert_eq!(amounts.sum::<i64>(), TOTAL, "an amount is lost or doubled");
                    let tokens = line.ask(&["EXISTS", "token.here", "token.there"]);
                    assert_eq!(tokens, Answer::Int(1), "the token is in two places or in none");
                    audits.fetch_add(1, Ordering::Relaxed);
                }
            });
            let moved: Vec<_> = movers.into_iter().map(|mover| mover.join()).collect();
            over.store(true, Ordering::Relaxed);
            auditor.join().expect("every audit was right");
            moved.into_iter().for_each(|mover| mover.expect("every move was answered"));
        });
        let audits = audits.into_inner();
        println!("{} moves, {audits} audits with {shards} shard(s)", MOVERS as u64 * moves);
    });
}

/// A client that sends one command at a time and reads nothing for long: its replies leave from whichever shard made
/// them until its socket is full, then from its own, and come in order all the same.
#[test]
fn replies_come_in_order_wherever_they_leave() {
    const KEYS: usize = 8;
    const ASKED: usize = 1_500;
    let seed = number("REDSHARD_SEED").unwrap_or(1);
    with_stalls(|server, shards| {
        let names = names("r", KEYS, 0, shards);
        let mut client = server.client();
        // Little fits, so that it is full time and again.
        rustix::net::sockopt::set_socket_recv_buffer_size(client.tcp(), 128 * 1024)
            .expect("a buffer");
        let value = |key: usize| format!("{key}").repeat(12_000);
        for (key, name) in names.iter().enumerate() {
            assert_eq!(client.cmd(&["SET", name, &value(key)]), ok());
        }
        let mut random = Random::new(seed);
        let asked: Vec<usize> = (0..ASKED).map(|_| random.below(KEYS as u64) as usize).collect();
        std::thread::scope(|scope| {
            let mut out = client.tcp();
            let (asked, names) = (&asked, &names);
            scope.spawn(move || {
                for key in asked {
                    out.write_all(&encode(&[b"GET", names[*key].as_bytes()])).expect("send");
                    // Mostly after the reply to the one before has left.
                    std::thread::sleep(std::time::Duration::from_micros(60));
                }
            });
            for key in asked {
                if random.below(100) == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(random.below(50)));
                }
                let reply = client.read_reply();
                assert_eq!(reply.text(), value(*key), "REDSHARD_SEED={seed}");
            }
        });
    });
}

/// Clients that hang up with a command under way, while others come and get their descriptors: nobody is told what
/// another one asked for.
#[test]
fn no_reply_reaches_a_stranger() {
    const CALLERS: usize = 8;
    const CALLS: u64 = 400;
    with_stalls(|server, shards| {
        let names = names("n", CALLERS, 0, shards);
        let mut client = server.client();
        for name in &names {
            client.check(&format!("SET {name} value-of-{name}"), ok());
        }
        std::thread::scope(|scope| {
            for (caller, name) in names.iter().enumerate() {
                scope.spawn(move || {
                    let mut random = Random::new(caller as u64 + 1);
                    for _ in 0..CALLS {
                        let mut line = server.client();
                        line.send(&format!("GET {name}"));
                        if random.below(2) == 0 {
                            assert_eq!(line.read_reply().text(), format!("value-of-{name}"));
                        } else {
                            // Reset: where a connection only ends, what it asked for is still done.
                            let at_once = Some(std::time::Duration::ZERO);
                            std::thread::sleep(std::time::Duration::from_micros(random.below(200)));
                            rustix::net::sockopt::set_socket_linger(line.tcp(), at_once)
                                .expect("a reset when it is dropped");
                        }
                    }
                });
            }
        });
    });
}

//! Shards, their producers and the collector in one thread, in any order.

use super::*;
use crate::base::clock::Now;
use crate::base::hash::Random;
use crate::base::key::Key;
use crate::base::slot::Layout;
use crate::rdb::{Item, Splitter, Value, read};
use crate::shard::Shard;
use crate::shard::db::Ttl;
use crate::shard::event::Event;
use crate::value::New;

const DATABASES: usize = 3;

/// Database and key, to value and expiry.
type Content = BTreeMap<(u64, Vec<u8>), (Vec<u8>, Option<i64>)>;

/// Takes so many chunks until somebody makes room.
#[derive(Default)]
struct Narrow {
    bytes: Vec<u8>,
    room: usize,
}

impl Sink for Narrow {
    fn has_room(&self) -> bool {
        self.room > 0
    }

    fn push(&mut self, chunk: Bytes) {
        self.bytes.extend_from_slice(&chunk);
        self.room = self.room.saturating_sub(1);
    }
}

struct World {
    shards: Vec<Shard>,
    producers: Vec<Producer>,
    collector: Collector,
    sink: Narrow,
    random: Random,
}

impl World {
    fn new(shards: usize, seed: u64) -> World {
        let (producers, collector) = connect(shards);
        let shards = (0..shards).map(|number| {
            let mut shard = Shard::new(number, shards, DATABASES);
            shard.set_now(Now { unix_ms: 1_000_000, monotonic_ns: 1 });
            shard
        });
        let (shards, sink) = (shards.collect(), Narrow::default());
        World { shards, producers, collector, sink, random: Random::new(seed + 1) }
    }

    fn change(&mut self) {
        let random = &mut self.random;
        let name = format!("key:{}", random.below(5_000));
        let shard = Layout::even(self.shards.len()).owner(name.as_bytes());
        let (key, number) = (Key::new(name.as_bytes()), random.below(DATABASES as u64) as usize);
        // Few are long.
        let len = match random.below(400) {
            0 => 200_000,
            1..4 => 20_000,
            4..100 => 300,
            _ => 1 + random.below(30) as usize,
        };
        let value: Vec<u8> = (0..len).map(|_| random.below(3) as u8 + b'0').collect();
        let ttl = [Ttl::Clear, Ttl::At(2_000_000 + len as i64)][random.below(2) as usize];
        let mut db = self.shards[shard].db(number);
        match random.below(10) {
            0..7 => db.edit(key).put(New::string(&value), ttl, Event::Set),
            7 | 8 => _ = db.remove(key, Event::Del),
            _ => _ = db.edit(key).write_at(2, b"xy", Event::SetRange),
        }
    }

    fn content(&mut self) -> Content {
        let mut content = Content::new();
        for shard in &mut self.shards {
            for number in 0..DATABASES {
                shard.db(number).visit_all(|entry| {
                    let value = entry.string().bytes(&mut itoa::Buffer::new()).to_vec();
                    let key = (number as u64, entry.key().to_vec());
                    content.insert(key, (value, entry.expiry()));
                });
            }
        }
        content
    }

    /// One thing that happens: a change, some of a shard's half, some of the collector's.
    fn step(&mut self) -> Collected {
        let at = self.random.below(self.shards.len() as u64) as usize;
        match self.random.below(4) {
            0 => self.change(),
            1 | 2 => {
                let steps = self.random.below(400);
                let mut asked = 0;
                self.producers[at].turn(&mut self.shards[at], |_| {
                    asked += 1;
                    asked > steps
                });
            }
            _ => {
                self.sink.room = self.random.below(4) as usize;
                return self.collector.turn(&mut self.sink);
            }
        }
        Collected::More
    }
}

fn head() -> Head {
    Head {
        version: Version::V10,
        aux: vec![("redis-ver", "7.0.0".to_owned())],
        functions: vec![Bytes::from_static(b"#!lua name=f")],
        has_checksum: true,
    }
}

/// What a stream says.
fn parse(bytes: &[u8]) -> Content {
    let mut splitter = Splitter::new(Some(bytes.len() as u64));
    splitter.push(bytes);
    let (mut content, mut sizes) = (Content::new(), BTreeMap::new());
    let (mut functions, mut has_ended) = (0, false);
    while let Some(item) = splitter.next().expect("a sound stream") {
        match item {
            Item::Resize { db, keys, volatile } => _ = sizes.insert(db, (keys, volatile)),
            Item::Function(_) => functions += 1,
            Item::Record(record) => {
                let value = read::value(Version::V10, record.type_byte, record.value);
                let value = match value.expect("a string") {
                    Value::Int(n) => n.to_string().into_bytes(),
                    Value::Bytes(bytes) => bytes.into_owned(),
                };
                let key = (record.db, record.key.into_owned());
                let before = content.insert(key, (value, record.expiry_ms));
                assert!(before.is_none(), "a key twice");
            }
            Item::End => has_ended = true,
            _ => {}
        }
    }
    splitter.finish().expect("a whole stream");
    assert!(has_ended && functions == 1);
    for (db, (keys, volatile)) in sizes {
        let of_db = || content.iter().filter(|((number, _), _)| *number == db);
        assert_eq!(of_db().count() as u64, keys);
        assert_eq!(of_db().filter(|(_, (_, at))| at.is_some()).count() as u64, volatile);
    }
    content
}

#[test]
fn a_stream_is_what_all_shards_had_at_the_cut() {
    for seed in 0..12 {
        let shards = [1, 2, 4][seed as usize % 3];
        let mut world = World::new(shards, seed);
        (0..4_000).for_each(|_| world.change());
        let (mut whole, mut given_up) = (0, 0);
        while whole < 2 || given_up == 0 {
            (0..200).for_each(|_| world.change());
            let style = Style { compress: seed % 2 == 0, usage: UsageStyle::Idle };
            world.collector.begin(head(), style);
            world.sink.bytes.clear();
            let expected = world.content();
            world.shards.iter_mut().for_each(|shard| assert!(shard.begin_snapshot()));
            let gives_up = world.random.below(2) == 0;
            let result = loop {
                if gives_up && world.random.below(300) == 0 {
                    world.collector.give_up();
                }
                match world.step() {
                    Collected::More => {}
                    result => break result,
                }
            };
            match result {
                Collected::All(summary) => {
                    assert_eq!(summary.bytes, world.sink.bytes.len() as u64);
                    assert_eq!(summary.keys, expected.len() as u64);
                    assert!(parse(&world.sink.bytes) == expected, "seed {seed}");
                    assert_eq!(world.collector.progress().keys, summary.keys);
                    whole += 1;
                }
                _ => given_up += 1,
            }
        }
    }
}

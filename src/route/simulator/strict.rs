//! The workload of `pipeline-order strict`: a writer gives all keys the next version, one after the other
//! in one pipeline, and readers ask for them in one pipeline the other way round. What is asked later was
//! written earlier, so it is never older.

use super::serial::{Answer, names, parse};
use super::world::{Counts, World, command};
use super::{SHARDS, run, settle};

/// Keys: two on each shard, so that some follow another of the same.
const KEYS: usize = 2 * SHARDS;
const VERSIONS: i64 = 8;
const READERS: usize = 4;

#[derive(Default)]
struct Reader {
    connection: usize,
    received: Vec<u8>,
    missing: usize,
    seen: i64,
}

pub fn strict(seed: u64, keeps_order: bool) -> Result<Counts, String> {
    let mut world = World::new(SHARDS, seed, None);
    for shard in 0..SHARDS {
        world.node(shard).is_strict = keeps_order;
    }
    // Neighbours in the order share a shard.
    let names: Vec<String> =
        (0..SHARDS).flat_map(|shard| names(&format!("o{shard}"), 1, shard, SHARDS)).collect();
    let names: Vec<String> =
        names.iter().flat_map(|name| [format!("{{{name}}}a"), format!("{{{name}}}b")]).collect();
    let home = world.random.below(SHARDS as u64) as usize;
    let (writer, mut received, mut unanswered) = (world.connect(home), Vec::new(), 0);
    let readers = (0..READERS).map(|shard| {
        let connection = world.connect(shard % SHARDS);
        Reader { connection, ..Reader::default() }
    });
    let (mut readers, mut version, mut wrong): (Vec<Reader>, i64, Option<String>) =
        (readers.collect(), 0, None);
    run(&mut world, |world, lively| {
        world.receive(writer, &mut received);
        while let Some((_, used)) = parse(&received) {
            received.drain(..used);
            unanswered -= 1;
        }
        if lively && unanswered == 0 && version < VERSIONS {
            version += 1;
            for name in &names {
                let words = ["SET".to_owned(), name.clone(), version.to_string()];
                world.send(writer, &command(&words), false);
                unanswered += 1;
            }
        }
        let reader = &mut readers[world.random.below(READERS as u64) as usize];
        world.receive(reader.connection, &mut reader.received);
        while let Some((answer, used)) = parse(&reader.received) {
            reader.received.drain(..used);
            reader.missing -= 1;
            let version = if let Answer::Text(version) = answer { version } else { 0 };
            if version < reader.seen {
                wrong = Some(format!("{version} asked for after {}", reader.seen));
            }
            reader.seen = version;
        }
        if lively && reader.missing == 0 && version < VERSIONS {
            (reader.missing, reader.seen) = (KEYS, 0);
            for name in names.iter().rev() {
                let words = ["GET".to_owned(), name.clone()];
                world.send(reader.connection, &command(&words), false);
            }
        }
        let is_idle = unanswered == 0 && readers.iter().all(|reader| reader.missing == 0);
        wrong.is_some() || (is_idle && (version == VERSIONS || !lively))
    })?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    settle(&mut world, 1 + READERS, &[])?;
    Ok(world.counts)
}

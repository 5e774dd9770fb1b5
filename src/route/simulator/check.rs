//! What has to hold of a world at rest: what has left for replicas makes the same data of nothing.

use super::super::stream::Merged;
use super::Taken;
use super::world::{Data, World};
use crate::session::About;
use bytes::Bytes;

/// One command of a stream, word by word.
pub type Words = Vec<String>;

/// Replays the stream into a fresh data set and compares: at each barrier with the snapshot that was
/// cut there, at the end with the data.
pub fn replay_stream(world: &mut World, snapshots: &[Taken]) -> Result<(), String> {
    let mut copy = World::new(1, 1, None);
    let client = copy.node(0).connect(About::default());
    let mut snapshots = snapshots.iter();
    for merged in world.stream().to_vec() {
        match merged {
            Merged::Bytes(bytes) => {
                let (used, _) = copy.node(0).feed(client, &bytes);
                let replies = &mut copy.node(0).client_mut(client).expect("connected").replies;
                let out = String::from_utf8_lossy(replies.out.bytes()).into_owned();
                replies.out.clear();
                if used != bytes.len() || out.split("\r\n").any(|line| line.starts_with('-')) {
                    return Err(format!("{:?} is answered by {out:?}", commands(&bytes)));
                }
            }
            Merged::Barrier => {
                let taken = snapshots.next().expect("nobody has cut");
                // What had expired already was not seen.
                let is_seen = |(_, expiry): &(String, Option<i64>)| {
                    expiry.is_none_or(|at_ms| at_ms >= taken.asked_ms)
                };
                let mut replayed = copy.data();
                replayed.retain(|key, value| is_seen(value) || taken.data.contains_key(key));
                same(&taken.data, &replayed, taken.asked_ms).map_err(|why| {
                    format!("a snapshot is not what the stream makes up to its cut: {why}")
                })?;
            }
        }
    }
    same(&world.data(), &copy.data(), i64::MIN)
}

/// Compares two sets of data: what is missing in the first may be what had expired since `asked_ms`.
fn same(ours: &Data, theirs: &Data, asked_ms: i64) -> Result<(), String> {
    for (key, value) in ours {
        if theirs.get(key) != Some(value) {
            return Err(format!("{key:?} is {value:?}, in a replay {:?}", theirs.get(key)));
        }
    }
    let is_known = |(key, (_, expiry)): &(&(usize, String), &(String, Option<i64>))| {
        ours.contains_key(key)
            || (asked_ms > i64::MIN && expiry.is_some_and(|at_ms| at_ms >= asked_ms))
    };
    match theirs.iter().find(|entry| !is_known(entry)) {
        Some(entry) => Err(format!("a replay has {entry:?}")),
        None => Ok(()),
    }
}

/// The commands in some of a stream.
pub fn commands(bytes: &Bytes) -> Vec<Words> {
    let (mut commands, mut left) = (Vec::new(), 0);
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        if left == 0 {
            left = line[1..].parse().expect("a header");
            commands.push(Vec::new());
            continue;
        }
        let words = commands.last_mut().expect("begun");
        words.push(lines.next().expect("a word").to_owned());
        left -= 1;
    }
    commands
}

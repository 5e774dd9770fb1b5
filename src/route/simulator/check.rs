//! What has to hold of a world at rest: its journals replay to the same data.

use super::super::node::Node;
use super::serial::{Answer, parse};
use super::world::{World, command};
use crate::base::slot::even_owner;
use crate::session::About;

/// Replays every shard's journal into a fresh shard and compares the data.
pub fn replay_journals(world: &mut World, names: &[String]) -> Result<(), String> {
    for shard in 0..world.shards() {
        let chunks = world.journal(shard).to_vec();
        let stamps = chunks.iter().flat_map(|chunk| &chunk.frames).map(|frame| frame.stamp);
        let stamps: Vec<u64> = stamps.collect();
        if stamps.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err(format!("the journal of shard {shard} runs backwards"));
        }
        let mut copy = World::new(1, 1, None);
        let commands = chunks.iter().flat_map(|chunk| {
            chunk.frames.iter().map(|frame| chunk.bytes.slice(frame.command.clone()))
        });
        for command in commands {
            let (answer, _) = ask(copy.node(0), &command);
            if answer == Answer::Error {
                let text = String::from_utf8_lossy(&command).into_owned();
                return Err(format!("shard {shard}: the journal's {text:?} fails"));
            }
        }
        let (ours, theirs) = (world.node(shard).shard().keys(0), copy.node(0).shard().keys(0));
        if ours != theirs {
            return Err(format!("shard {shard} has {ours:?} keys, its replay {theirs:?}"));
        }
        let shards = world.shards();
        for name in names.iter().filter(|name| even_owner(name.as_bytes(), shards) == shard) {
            let get = command(&["GET".to_owned(), name.clone()]);
            let (ours, theirs) = (ask(world.node(shard), &get), ask(copy.node(0), &get));
            if ours != theirs {
                return Err(format!("{name} is {ours:?}, in a replay {theirs:?}"));
            }
        }
    }
    Ok(())
}

/// Runs a command that needs no other shard, on a quiet one.
fn ask(node: &mut Node, command: &[u8]) -> (Answer, usize) {
    let client = node.connect(About::default());
    node.feed(client, command);
    let out = node.client(client).expect("just connected").replies.out.bytes();
    let answer = parse(out).expect("a reply");
    node.disconnect(client);
    node.take_dirty(&mut Vec::new());
    answer
}

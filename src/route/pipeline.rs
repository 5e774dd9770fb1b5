//! `pipeline-order strict`: commands of one pipeline in their order, over all shards.
//!
//! Pipelines are causal ([`super`]), which is no order among commands that run on different shards at the
//! same time. Who needs one gets it like this: a command that would run elsewhere than those of its
//! client that are not answered yet waits until they are. Those all run on one shard then, which runs
//! them in the order in which they come.

use super::client::ClientKey;
use super::node::Node;
use crate::command::pubsub::Deed;
use crate::command::{Command, Control, Run};
use crate::resp::Args;

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On no data: it may run whenever it comes.
    Anywhere,
    /// On one shard.
    Shard(usize),
    /// On several, or on one after another.
    Shards,
}

impl Node {
    /// Whether a command has to wait for its client's earlier ones. It comes again then.
    #[cold]
    pub(super) fn must_keep_order(
        &mut self,
        key: ClientKey,
        command: &'static Command,
        args: &Args,
    ) -> bool {
        let place = self.place(command, args);
        let client = self.clients.at(key);
        let is_free = client.replies.outstanding() == 0;
        match place {
            Place::Anywhere => false,
            Place::Shard(shard) if is_free || client.runs_at == shard => {
                client.runs_at = shard;
                false
            }
            _ => self.must_catch_up(key),
        }
    }

    fn place(&self, command: &'static Command, args: &Args) -> Place {
        let (shards, here) = (self.layout.shards(), Place::Shard(self.number));
        match command.run {
            Run::Session(_) | Run::Server(_) | Run::Chosen(_) | Run::Container => Place::Anywhere,
            Run::Pubsub(Deed::Publish(_)) => here,
            Run::Pubsub(_) => Place::Anywhere,
            Run::Control(Control::Exec | Control::Watch) => Place::Shards,
            Run::Control(_) => Place::Anywhere,
            _ if shards == 1 => here,
            Run::Cursor(_) => Place::Shards,
            Run::Owner(_) if command.first_key().is_none() => here,
            Run::Owner(_) | Run::Each(..) | Run::Across(_) | Run::All(..) | Run::Sessions(..) => {
                self.only_shard(command, args).map_or(Place::Shards, Place::Shard)
            }
        }
    }

    /// The only shard that a command on data concerns, if it is one.
    pub(super) fn only_shard(&self, command: &Command, args: &Args) -> Option<usize> {
        match command.run {
            Run::Sessions(..) => None,
            _ if self.layout.shards() == 1 => Some(self.number),
            Run::All(..) => None,
            _ => match command.key_places(args) {
                // Its handler says what is wrong, anywhere.
                Err(_) => Some(self.number),
                Ok(places) => {
                    let first = self.layout.owner(args.at(places[0]));
                    let same = |at: &usize| self.layout.owner(args.at(*at)) == first;
                    places[1..].iter().all(same).then_some(first)
                }
            },
        }
    }
}

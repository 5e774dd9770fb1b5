//! Clients that become replicas. What a replica is sent is no reply, so from its SYNC or PSYNC on it is
//! in the hands of the floors above: they take it from here, and its input waits until they let it go on.

use super::client::ClientKey;
use super::execute::Ran;
use super::node::Node;
use crate::base::error::Error;
use crate::command::{self, Command, flag, replication};
use crate::config::typed::ClientClass;
use crate::metrics::error_code;
use crate::resp::{Args, Reply};
use crate::session::{Close, Env, ReplyMode};

/// Whether a replica may say that: nothing is replied to it.
pub(super) fn may_say(command: Option<&'static Command>) -> bool {
    command.is_some_and(|command| ["REPLCONF", "SYNC", "PSYNC"].contains(&command.name))
}

impl Node {
    /// SYNC and PSYNC.
    pub(super) fn ask_sync(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        command: &'static Command,
        args: &Args,
    ) {
        let env = Env { config: &self.config, instance: &self.instance, now: self.now };
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        // Who is one asks in vain.
        if client.session.class == ClientClass::Replica {
            return;
        }
        let is_owed = client.replies.outstanding() > 0 || !client.replies.out.is_empty();
        match replication::sync_request(&client.session, &env, command, args, is_owed) {
            Ok(sync) => {
                client.session.replica.get_or_insert_default().sync = Some(sync);
                client.session.class = ClientClass::Replica;
                client.session.reply_mode = ReplyMode::Off;
                client.held = true;
                self.syncing.push(key);
                self.observer.count(command, Ran::Fine);
            }
            Err(error) => {
                if let Error::NotInteger = error {
                    let addr = &client.session.about.addr;
                    tracing::warn!(
                        "Replica {addr} asks for synchronization but with a wrong offset"
                    );
                }
                self.refuse_sync(key, mode, command, &error);
            }
        }
    }

    fn refuse_sync(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        command: &'static Command,
        error: &Error,
    ) {
        let client = self.clients.at(key);
        let (resp3, text) = (client.session.resp3, format!("-{error}"));
        client.replies.now(mode, |out| Reply::new(out, resp3).error(error));
        self.observer.count(command, Ran::Failed(error_code(text.as_bytes())));
    }

    /// A replica says what would be replied to: amid its stream there is no room for that, and who takes it
    /// for a client's connection is none. It is not run, and the replica goes.
    #[cold]
    pub(super) fn part_with_replica(
        &mut self,
        key: ClientKey,
        words: &Args,
        found: Option<&'static Command>,
    ) {
        let sub = found.filter(|_| words.len() > 1);
        let command = sub.and_then(|found| command::find_sub(found, words.at(1))).or(found);
        let name = match command {
            Some(command) => command.full_name(),
            None => String::from_utf8_lossy(words.at(0)).to_lowercase(),
        };
        let client = self.clients.at(key);
        let addr = &client.session.about.addr;
        if command.is_some_and(|command| command.is(flag::READS) || command.is(flag::WRITES)) {
            tracing::warn!(
                "== CRITICAL == This master is sending an error to its replica: 'Replica can't interact \
                 with the keyspace' after processing the command '{name}'"
            );
        }
        tracing::warn!("Replica generated a reply to command '{name}', disconnecting it: {addr}");
        client.session.close = Close::Now;
        self.clients.mark_dirty(key);
    }

    /// The clients that have asked for data since this was called last, in their order: each has said
    /// how in its [`crate::session::Introduction`], and is held.
    pub fn take_syncing(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.syncing)
    }
}

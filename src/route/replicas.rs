//! Clients that become replicas. What a replica is sent is no reply, so from its SYNC or PSYNC on it is
//! in the hands of the floors above: they take it from here, and its input waits until they let it go on.

use super::client::ClientKey;
use super::execute::Ran;
use super::node::Node;
use crate::base::error::Error;
use crate::command::{Command, replication};
use crate::config::typed::ClientClass;
use crate::metrics::error_code;
use crate::resp::{Args, Reply};
use crate::session::{Env, ReplyMode};

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
                client.held = true;
                self.syncing.push(key);
                self.observer.count(command, Ran::Fine);
            }
            Err(error) => self.refuse_sync(key, mode, command, &error),
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

    /// The clients that have asked for data since this was called last, in their order: each has said
    /// how in its [`crate::session::Introduction`], and is held.
    pub fn take_syncing(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.syncing)
    }
}

//! Commands that concern the session or the server: they run where the client is.

use super::batch::ClientKey;
use super::exec;
use super::node::Node;
use super::observe::Seen;
use crate::command::{Control, Run};
use crate::metrics::error_code;
use crate::resp::{Args, Reply, ReplyBuf};
use crate::session::Env;

impl Node {
    /// The number that a client is known by.
    pub(super) fn session_id(&self, client: ClientKey) -> u64 {
        self.client(client).map_or(0, |client| client.session.id)
    }

    /// Runs a session command, by itself or within a transaction.
    pub(super) fn run_session(
        &mut self,
        key: ClientKey,
        command: &'static crate::command::Command,
        args: &Args,
        out: &mut ReplyBuf,
    ) {
        let Node { clients, config, instance, now, .. } = self;
        let Some(client) = clients.get_mut(key.index as usize) else {
            return;
        };
        let env = Env { config, instance, now: *now };
        let mark = out.mark();
        let resp3 = client.session.resp3;
        let Run::Session(handler) = command.run else {
            return match command.run {
                Run::Control(Control::Monitor) => Reply::new(out, resp3)
                    .error_text("ERR MONITOR isn't allowed for DENY BLOCKING client"),
                _ => Reply::new(out, resp3).ok(),
            };
        };
        let (before, request) = (out.len(), std::mem::take(&mut self.request));
        let outcome = handler(&mut client.session, &env, args, &mut Reply::new(out, resp3));
        let ran = match outcome {
            Ok(_) => exec::Ran::Fine,
            Err(error) => {
                out.rewind(mark);
                Reply::new(out, resp3).error(&error);
                exec::Ran::Failed(error_code(&out.bytes()[mark..]))
            }
        };
        let ticks = self.count(command, ran);
        self.follow_lookout_at_once();
        let seen = Seen { ticks, request, reply: (out.len() - before) as u64 };
        self.look_at(key, command, args, seen);
    }
}

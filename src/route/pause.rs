//! What is out of the ordinary and concerns every command: memory that has run out, clients that are
//! paused, and somebody who monitors.
//!
//! A command that has to wait for the end of a pause is left in its client's input, and its client
//! is noted; when the pause ends, the noted clients go on in the order they came. So nothing of a
//! paused command has happened yet, and what its client sends after it waits behind it.

use super::batch::ClientKey;
use super::node::Node;
use crate::base::error::Error;
use crate::command::{Command, Control, Run, flag};
use crate::instance::Pause;
use crate::resp::Args;
use crate::session::{ReplyMode, Session};

impl Node {
    /// Whether there is anything that [`Node::attend`] has to look at.
    pub(super) fn judge_attention(&mut self) {
        self.attention =
            self.over_memory || self.is_monitored || self.pause.is_on(self.now.unix_ms);
    }

    /// Whether a command runs, or is queued, though something is out of the ordinary.
    #[cold]
    pub(super) fn attend(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        command: &'static Command,
        words: &Args,
        queues: bool,
    ) -> bool {
        // What is queued is shown when it runs.
        self.may_run(key, mode, command)
            && (queues || !self.is_monitored || self.may_run_monitored(key, mode, command, words))
    }

    /// Whether a command that is fine in itself may run now. If not, it has been refused, or its
    /// client waits.
    fn may_run(&mut self, key: ClientKey, mode: ReplyMode, command: &Command) -> bool {
        if self.over_memory && command.is(flag::DENYOOM) {
            self.reject(key, mode, Some(command), &Error::OutOfMemory);
            return false;
        }
        let (pause, now_ms) = (self.pause, self.now.unix_ms);
        let session = &mut self.clients[key.index as usize].session;
        if !pause.is_on(now_ms) || !(pause.is_for_all() || writes(command, session)) {
            return true;
        }
        session.postponed = true;
        // It will come again, and count then.
        session.traffic.commands -= 1;
        self.commands -= 1;
        self.postponed.push(key);
        false
    }

    /// Follows a change of the server's pause, or its end: whoever waited without need goes on.
    pub(super) fn follow_pause(&mut self) {
        let pause = self.instance.pause();
        let now_ms = self.now.unix_ms;
        let is_on = pause.is_on(now_ms);
        let pause = if is_on { pause } else { Pause::default() };
        self.time_pause(pause.left_ms(now_ms));
        let changed = std::mem::replace(&mut self.pause, pause) != pause;
        let mut settings = *self.shard.settings();
        settings.expiry_paused = is_on;
        self.shard.set_settings(settings);
        self.judge_attention();
        if !changed {
            return;
        }
        // Under another pause some may go on; who may not waits again, in the same order.
        for key in std::mem::take(&mut self.postponed) {
            if let Some(client) = self.client_mut(key) {
                client.session.postponed = false;
                // It was not idle, though it said nothing.
                client.session.active_ms = now_ms;
                self.resume.push(key);
            }
        }
    }
}

/// Whether a command may change data. EXEC may if a queued command may.
fn writes(command: &Command, session: &Session) -> bool {
    let queued = || session.multi.iter().flat_map(|queue| &queue.calls);
    command.is(flag::WRITES)
        || (matches!(command.run, Run::Control(Control::Exec))
            && queued().any(|call| call.command.is(flag::WRITES)))
}

//! What is out of the ordinary and concerns every command: data that is being loaded, clients that are
//! paused, and somebody who monitors.
//!
//! A command that has to wait for the end of a pause is left in its client's input, and its client
//! is noted; when the pause ends, the noted clients go on in the order they came. So nothing of a
//! paused command has happened yet, and what its client sends after it waits behind it.

use super::client::ClientKey;
use super::node::Node;
use crate::base::error::Error;
use crate::command::pubsub::Deed;
use crate::command::{Command, Control, Queue, Run, flag};
use crate::instance::Pause;
use crate::resp::Args;
use crate::session::ReplyMode;

impl Node {
    /// Decides whether commands have to pass [`Node::screen`].
    pub(super) fn screen_commands(&mut self) {
        self.screens = self.is_monitored
            || self.pause.is_on(self.now.unix_ms)
            || self.participant.is_loading()
            || self.participant.is_failing()
            || self.participant.is_stale();
    }

    /// Whether a command runs, or is queued, though something is out of the ordinary.
    #[cold]
    pub(super) fn screen(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        command: &'static Command,
        words: &Args,
        queues: bool,
    ) -> bool {
        if !self.clients.at(key).session.is_primary
            && let Some(error) = self.stands_against(key, command)
        {
            self.refuse(key, mode, command, &error);
            return false;
        }
        // What is queued is shown when it runs.
        self.may_run(key, command)
            && (queues || !self.is_monitored || self.may_run_monitored(key, mode, command, words))
    }

    /// What a command is refused for, whatever it runs on. (What runs on data is judged where that is.)
    fn stands_against(&self, key: ClientKey, command: &Command) -> Option<Error> {
        let lacks = |flag: u32| self.lacks(key, command, flag);
        // Who asks whether the server is well is told as well.
        if self.participant.is_failing() && command.name == "PING" {
            return Some(Error::MisConf);
        }
        // A write has its own refusals, which come first.
        if self.participant.is_stale() && !command.is(flag::WRITES) && lacks(flag::STALE) {
            return Some(Error::MasterDown);
        }
        (self.participant.is_loading() && lacks(flag::LOADING)).then_some(Error::Loading)
    }

    /// Whether a command lacks what would excuse it. EXEC does if a queued command does.
    fn lacks(&self, key: ClientKey, command: &Command, excuse: u32) -> bool {
        let queue = self.clients.get(key).and_then(|client| client.queue.as_deref());
        let is_exec = matches!(command.run, Run::Control(Control::Exec));
        let mut queued = queue.iter().flat_map(|queue| &queue.calls);
        !command.is(excuse) || (is_exec && queued.any(|call| !call.command.is(excuse)))
    }

    /// Refuses a command; EXEC ends its transaction all the same.
    fn refuse(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        command: &'static Command,
        error: &Error,
    ) {
        match command.run {
            Run::Control(Control::Exec) => self.abort_exec(key, mode, command, error),
            _ => self.reject(key, mode, Some(command), error),
        }
    }

    /// Whether a command that is fine in itself may run now. If not, its client waits.
    fn may_run(&mut self, key: ClientKey, command: &Command) -> bool {
        let (pause, now_ms) = (self.pause, self.now.unix_ms);
        let client = self.clients.at(key);
        let queue = client.queue.as_deref();
        if !pause.is_on(now_ms) || !(pause.is_for_all() || writes(command, queue)) {
            return true;
        }
        let session = &mut client.session;
        session.postponed = true;
        // It will come again, and count then.
        session.traffic.commands -= 1;
        self.observer.commands -= 1;
        self.clients.postpone(key);
        false
    }

    /// Follows a change of the server's pause, or its end: whoever waited without need goes on.
    pub(super) fn follow_pause(&mut self) {
        let now_ms = self.now.unix_ms;
        let pause = self.instance.pause(now_ms);
        let is_on = pause.is_on(now_ms);
        let pause = if is_on { pause } else { Pause::default() };
        self.time_pause(pause.left_ms(now_ms));
        let changed = std::mem::replace(&mut self.pause, pause) != pause;
        let mut settings = *self.participant.shard.settings();
        // What is loaded is not looked at before all of it is there.
        // A replica is told when a key has expired.
        let is_replica = self.instance.replication().is_replica();
        let is_loading = self.participant.is_loading();
        settings.expiry_paused = is_on || is_replica || is_loading;
        settings.expires_own = is_replica && !is_loading;
        self.participant.shard.set_settings(settings);
        self.screen_commands();
        if changed {
            // Under another pause some may go on; who may not waits again, in the same order.
            self.clients.resume_postponed(now_ms);
        }
    }
}

/// Whether a command may change data. EXEC may if a queued command may.
fn writes(command: &Command, queue: Option<&Queue>) -> bool {
    let queued = || queue.iter().flat_map(|queue| &queue.calls);
    let may_write = |command: &Command| {
        // What is published goes to replicas too.
        command.is(flag::WRITES) || matches!(command.run, Run::Pubsub(Deed::Publish(_)))
    };
    may_write(command)
        || (matches!(command.run, Run::Control(Control::Exec))
            && queued().any(|call| may_write(call.command)))
}

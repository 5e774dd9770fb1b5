//! MULTI, EXEC, DISCARD, WATCH, UNWATCH and RESET: what a transaction is to its client. How it runs
//! is in [`super::txn`].

use super::batch::{ClientKey, Item};
use super::dispatch::own_call;
use super::exec::Ran;
use super::node::{Node, owner_of};
use super::observe::Seen;
use super::txn::Goal;
use crate::base::error::Error;
use crate::command::{Command, Control, flag};
use crate::resp::{Args, Reply};
use crate::session::{ReplyMode, Watch};

impl Node {
    pub(super) fn control(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        control: Control,
        command: &'static Command,
        args: &Args,
    ) {
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let queueing = client.session.multi.is_some();
        if queueing && matches!(control, Control::Multi | Control::Watch) {
            return self.reject(key, mode, Some(command), &not_inside(command));
        }
        let refusal = match control {
            Control::Exec if !queueing => "ERR EXEC without MULTI",
            Control::Discard if !queueing => "ERR DISCARD without MULTI",
            _ => "",
        };
        if !refusal.is_empty() {
            let resp3 = client.session.resp3;
            client.replies.now(mode, |out| Reply::new(out, resp3).error_text(refusal));
            let code = crate::metrics::error_code(refusal.as_bytes());
            self.count(command, Ran::Failed(code));
            return;
        }
        if queueing && matches!(control, Control::Unwatch | Control::Monitor) {
            return self.queue(key, mode, command, args);
        }
        if control != Control::Exec {
            let ticks = self.count(command, Ran::Fine);
            let seen = Seen { ticks, request: self.request, reply: 0 };
            self.look_at(key, command, args, seen);
        }
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let session = &mut client.session;
        match control {
            Control::Multi => session.multi = Some(Box::default()),
            Control::Exec => return self.exec(key, mode, command),
            Control::Watch => return self.begin_watch(key, args),
            Control::Discard | Control::Unwatch => {
                session.multi = None;
                let watched = std::mem::take(&mut session.watched);
                self.unwatch(watched);
            }
            Control::Reset => return self.reset(key),
            Control::Monitor => self.begin_monitor(key),
        }
        let Some(client) = self.client_mut(key) else {
            return;
        };
        client.replies.now(mode, |out| Reply::new(out, false).ok());
    }

    /// Keeps a command for EXEC.
    pub(super) fn queue(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        command: &'static Command,
        args: &Args,
    ) {
        if command.is(flag::NO_MULTI) {
            return self.reject(key, mode, Some(command), &not_inside(command));
        }
        let most = self.query_limit();
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let Some(queue) = &mut client.session.multi else {
            return;
        };
        // It counts when it runs.
        client.session.traffic.commands -= 1;
        let call = own_call(command, args);
        queue.bytes += call.bytes.len() + 8 * call.spans.len() + size_of_val(&call);
        if queue.bytes as u64 > most {
            // What is queued is input that has not been executed: it counts like it.
            client.session.close = crate::session::Close::Now;
            self.soil(key);
            return;
        }
        if !queue.failed {
            queue.calls.push(call);
        }
        client.replies.now(mode, |out| Reply::new(out, false).simple("QUEUED"));
    }

    fn exec(&mut self, key: ClientKey, mode: ReplyMode, command: &'static Command) {
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let Some(queue) = client.session.multi.take() else {
            return;
        };
        let watched = std::mem::take(&mut client.session.watched);
        if self.over_memory && queue.calls.iter().any(|call| call.command.is(flag::DENYOOM)) {
            let text =
                format!("EXECABORT Transaction discarded because of: {}", Error::OutOfMemory);
            self.unwatch(watched);
            return self.reject(key, mode, Some(command), &Error::owned(text));
        }
        let Some(client) = self.client_mut(key) else {
            return;
        };
        if queue.failed {
            let resp3 = client.session.resp3;
            client.replies.now(mode, |out| Reply::new(out, resp3).error(&Error::ExecAbort));
            let code = crate::metrics::error_code(b"EXECABORT");
            self.count(command, Ran::Failed(code));
            if self.is_monitored {
                self.show_all(key, &[], command);
            }
            self.unwatch(watched);
            return;
        }
        client.session.traffic.commands += queue.calls.len() as u64;
        if self.is_monitored {
            self.show_all(key, &queue.calls, command);
        }
        self.begin(key, Goal::Exec, queue.calls, watched);
    }

    fn begin_watch(&mut self, key: ClientKey, args: &Args) {
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let (db, watched) = (client.session.db, &client.session.watched);
        // A key that is watched already keeps the version it was first seen with.
        let mut fresh: Vec<&[u8]> = Vec::new();
        for name in args.iter() {
            if !watched.iter().any(|watch| watch.db == db && *watch.key == *name)
                && !fresh.contains(&name)
            {
                fresh.push(name);
            }
        }
        let Some(watch) = crate::command::declared("WATCH") else {
            return;
        };
        let calls = fresh.iter().map(|name| {
            let span = crate::resp::Span { at: 0, len: name.len() as u32 };
            own_call(watch, &Args::new(name, &[span]))
        });
        let (calls, keys) = (calls.collect(), fresh.iter().map(|name| (db, (*name).into())));
        let goal = Goal::Watch(keys.collect());
        self.begin(key, goal, calls, Vec::new());
    }

    /// Tells the owners that a client of ours no longer watches these keys.
    pub(super) fn unwatch(&mut self, watched: Vec<Watch>) {
        self.watching = self.watching.saturating_sub(u64::from(!watched.is_empty()));
        for watch in watched {
            let owner = owner_of(&watch.key, self.mail.shards());
            if owner == self.number {
                self.shard.unwatch(watch.db, &watch.key);
                continue;
            }
            let batch = self.mail.batch(owner);
            let at = batch.bytes.len() as u32;
            batch.bytes.extend_from_slice(&watch.key);
            batch.spans.push(crate::resp::Span { at, len: watch.key.len() as u32 });
            let span = batch.spans.len() as u32 - 1;
            batch.items.push(Item::Unwatch(watch.db as u16, span));
        }
    }

    /// RESET: the client is as if it had just connected, but for its addresses.
    fn reset(&mut self, key: ClientKey) {
        let password = !self.config.requirepass().is_empty();
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let session = &mut client.session;
        let monitored = std::mem::take(&mut session.monitor);
        session.multi = None;
        session.db = 0;
        session.resp3 = false;
        session.authenticated = !password;
        session.reply_mode = ReplyMode::On;
        session.no_evict = false;
        session.no_touch = false;
        session.read_only = false;
        session.import_source = false;
        session.about.name.clear();
        let watched = std::mem::take(&mut session.watched);
        client.replies.now(ReplyMode::On, |out| Reply::new(out, false).simple("RESET"));
        if monitored {
            self.end_monitor(key);
        }
        self.unwatch(watched);
    }
}

/// As Valkey 9 says it; the transaction around it will abort.
fn not_inside(command: &Command) -> Error {
    let name = command.full_name();
    Error::owned(format!("ERR Command '{name}' not allowed inside a transaction"))
}

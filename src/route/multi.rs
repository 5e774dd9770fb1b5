//! MULTI, EXEC, DISCARD, WATCH, UNWATCH and RESET: what a transaction is to its client. How it runs
//! is in [`super::coordinator`].

use super::client::ClientKey;
use super::coordinator;
use super::dispatch::own_call;
use super::execute::Ran;
use super::node::Node;
use super::observer::Measured;
use super::transaction::Goal;
use crate::base::error::Error;
use crate::base::number::parse_u64;
use crate::command::{Call, Command, Control, flag};
use crate::resp::{Args, Reply, Span};
use crate::session::{ReplyMode, Watch};
use std::collections::HashSet;
use std::sync::Arc;

/// The database that a call selects, if it does.
fn selected(call: &Call) -> Option<usize> {
    let args = Args::new(&call.bytes, &call.spans);
    let index = (call.command.name == "SELECT").then(|| parse_u64(args.at(0)))?;
    index.and_then(|index| usize::try_from(index).ok())
}

impl Node {
    pub(super) fn control(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        control: Control,
        command: &'static Command,
        args: &Args,
    ) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let queueing = client.session.multi.is_some();
        if queueing && matches!(control, Control::Multi | Control::Watch | Control::Sync) {
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
            self.observer.count(command, Ran::Failed(code));
            return;
        }
        if queueing && matches!(control, Control::Unwatch | Control::Monitor) {
            return self.queue(key, mode, command, args);
        }
        if control == Control::Sync {
            return self.ask_sync(key, mode, command, args);
        }
        if control != Control::Exec {
            let ticks = self.observer.count(command, Ran::Fine);
            let measured = Measured { ticks, request: self.observer.request, reply: 0 };
            self.observer.look_at(&self.clients, key, command, args, measured);
        }
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        match control {
            Control::Multi => client.begin_queue(),
            Control::Exec => return self.exec(key, mode, command),
            Control::Watch => return self.begin_watch(key, command, args),
            Control::Discard | Control::Unwatch => {
                client.take_queue();
                let watched = std::mem::take(&mut client.session.watched);
                self.unwatch(watched);
            }
            Control::Reset => return self.reset(key),
            Control::Monitor | Control::Sync => {}
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.replies.now(mode, |out| Reply::new(out, false).ok());
        }
        if control == Control::Monitor {
            self.begin_monitor(key);
        }
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
        let caller = self.clients.at(key).session.caller();
        if let Err(error) = self.participant.judge(command.flags, caller) {
            return self.reject(key, mode, Some(command), &error);
        }
        let most = self.query_limit(caller.is_primary);
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        // It counts when it runs.
        client.session.traffic.commands -= 1;
        if client.enqueue(own_call(command, args)) as u64 > most {
            // What is queued is input that has not been executed: it counts like it.
            client.session.close = crate::session::Close::Now;
            self.clients.mark_dirty(key);
            return;
        }
        client.replies.now(mode, |out| Reply::new(out, false).simple("QUEUED"));
    }

    fn exec(&mut self, key: ClientKey, mode: ReplyMode, command: &'static Command) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let Some(queue) = client.take_queue() else {
            return;
        };
        let watched = std::mem::take(&mut client.session.watched);
        if queue.failed {
            let resp3 = client.session.resp3;
            client.replies.now(mode, |out| Reply::new(out, resp3).error(&Error::ExecAbort));
            let code = crate::metrics::error_code(b"EXECABORT");
            self.observer.count(command, Ran::Failed(code));
            if self.is_monitored {
                self.show_all(key, &[], command);
            }
            self.unwatch(watched);
            return;
        }
        client.session.traffic.commands += queue.calls.len() as u64;
        if client.session.is_primary {
            let databases = usize::from(self.config.databases());
            let mut selected = queue.calls.iter().rev().filter_map(selected);
            client.session.db_after = selected.find(|db| *db < databases);
        }
        if self.is_monitored {
            self.show_all(key, &queue.calls, command);
        }
        self.begin(key, Goal::Exec, queue.calls, watched);
    }

    fn begin_watch(&mut self, key: ClientKey, command: &'static Command, args: &Args) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let (db, watched) = (client.session.db, &client.session.watched);
        // A key that is watched already keeps the version it was first seen with.
        let here = watched.iter().filter(|watch| watch.db == db);
        let mut known: HashSet<&[u8], ahash::RandomState> =
            HashSet::with_hasher(crate::base::hash::state().clone());
        known.extend(here.map(|watch| &*watch.key));
        let spans = args.iter().zip(args.spans());
        let fresh = spans.filter(|(name, _)| known.insert(name)).map(|(_, span)| *span);
        let spans: Vec<Span> = fresh.collect();
        let call = own_call(command, &args.only(&spans));
        self.begin(key, Goal::Watch, vec![call], Vec::new());
    }

    /// Tells the owners that a client of ours no longer watches these keys.
    pub(super) fn unwatch(&mut self, watched: Vec<Watch>) {
        if watched.is_empty() {
            return;
        }
        let layout = Arc::clone(&self.layout);
        self.coordinate(|_, cx| coordinator::unwatch(watched, &layout, cx));
    }

    /// RESET: the client is as if it had just connected, but for its addresses.
    fn reset(&mut self, key: ClientKey) {
        let password = !self.config.requirepass().is_empty();
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.take_queue();
        self.clients.unsubscribe_all(key, &self.instance, self.number);
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let session = &mut client.session;
        let monitored = std::mem::take(&mut session.monitor);
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

//! MONITOR: every command of every client, shown to whoever wants to see them.

use super::client::ClientKey;
use super::message::{Claim, Message};
use super::node::Node;
use crate::base::error::Error;
use crate::command::{Call, Command, Run, flag, shown};
use crate::instance::monitors::Monitor;
use crate::resp::Args;
use crate::session::{ReplyMode, Session};
use bytes::Bytes;
use std::sync::Arc;

impl Node {
    /// Follows who monitors.
    pub(super) fn follow_monitors(&mut self) {
        let (generation, monitors) = self.instance.monitors.list();
        (self.monitors_generation, self.monitors) = (generation, monitors);
        self.is_monitored = !self.monitors.is_empty();
        self.screen_commands();
    }

    /// Shows a client's command to everybody who monitors. `name` is as many words as name it, as
    /// they were typed, if they are at hand.
    #[cold]
    pub(super) fn show(&mut self, key: ClientKey, command: &Command, name: &Args, args: &Args) {
        if command.is(flag::SKIP_MONITOR) || command.is(flag::ADMIN) {
            return;
        }
        let Some(client) = self.clients.get(key) else {
            return;
        };
        let now_us = self.instance.unix_us(self.now);
        let line = monitor_line(now_us, &client.session, command, name, args);
        let line = Bytes::from(line);
        for monitor in Arc::clone(&self.monitors).iter() {
            let key = ClientKey { index: monitor.index, generation: monitor.generation };
            if monitor.shard == self.number {
                self.clients.push(key, Claim::Monitor, &line);
            } else {
                let push = Message::Push(key, Claim::Monitor, line.clone());
                self.post.say(monitor.shard, push);
            }
        }
    }

    /// Whether a command runs though somebody monitors, and shows it if it does. One on the
    /// session is shown afterwards: with the database that it chose, and after its reply.
    #[cold]
    pub(super) fn may_run_monitored(
        &mut self,
        key: ClientKey,
        mode: ReplyMode,
        command: &'static Command,
        words: &Args,
    ) -> bool {
        let monitors = self.clients.get(key).is_some_and(|client| client.session.monitor);
        if monitors && (command.is(flag::READS) || command.is(flag::WRITES)) {
            let error = Error::text("ERR Replica can't interact with the keyspace");
            self.reject(key, mode, Some(command), &error);
            return false;
        }
        if !matches!(
            command.run,
            Run::Session(_) | Run::Pubsub(_) | Run::Server(_) | Run::Control(_)
        ) {
            self.show_words(key, command, words);
        }
        true
    }

    /// Shows a client's command as it was typed.
    #[cold]
    pub(super) fn show_words(&mut self, key: ClientKey, command: &Command, words: &Args) {
        let name = command.name_words();
        self.show(key, command, &words.range(0, name), &words.from(name));
    }

    /// Shows the commands of a transaction, as they are about to run, and the EXEC that runs them. How
    /// their names were typed has been forgotten: they are shown in lower case, as in the logs.
    #[cold]
    pub(super) fn show_all(&mut self, key: ClientKey, calls: &[Call], exec: &Command) {
        let none = Args::new(&[], &[]);
        for call in calls {
            let args = Args::new(&call.bytes, &call.spans);
            self.show(key, call.command, &none, &args);
        }
        self.show(key, exec, &none, &none);
    }

    /// A client of ours wants to see every command, from the one after this on.
    pub(super) fn begin_monitor(&mut self, key: ClientKey) {
        let number = self.number;
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.replies.fence_pushes();
        if !std::mem::replace(&mut client.session.monitor, true) {
            self.instance.monitors.add(monitor(number, key));
            self.follow_monitors();
        }
    }

    /// A client of ours monitors no longer, if it ever did.
    pub(super) fn end_monitor(&mut self, key: ClientKey) {
        self.instance.monitors.remove(monitor(self.number, key));
        self.follow_monitors();
    }
}

fn monitor(shard: usize, key: ClientKey) -> Monitor {
    Monitor { shard, index: key.index, generation: key.generation }
}

/// What a monitor sees of a command.
fn monitor_line(
    now_us: i64,
    session: &Session,
    command: &Command,
    name: &Args,
    args: &Args,
) -> Vec<u8> {
    let (db, addr) = (session.db, &session.about.addr);
    let mut line = format!("+{}.{:06} [{db} ", now_us / 1_000_000, now_us % 1_000_000).into_bytes();
    if addr.starts_with('/') {
        line.extend_from_slice(b"unix:");
        line.extend_from_slice(addr.strip_suffix(":0").unwrap_or(addr).as_bytes());
    } else {
        line.extend_from_slice(addr.as_bytes());
    }
    line.push(b']');
    if name.is_empty() {
        for word in command.name.split(' ') {
            quote(&mut line, word.to_ascii_lowercase().as_bytes());
        }
    } else {
        name.iter().for_each(|word| quote(&mut line, word));
    }
    let secrets = command.secrets(args);
    for (at, arg) in args.iter().enumerate() {
        quote(&mut line, if secrets.contains(&at) { shown::REDACTED } else { arg });
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// A blank and a word in quotes.
fn quote(line: &mut Vec<u8>, word: &[u8]) {
    line.extend_from_slice(b" \"");
    for byte in word {
        match byte {
            b'\\' | b'"' => line.extend_from_slice(&[b'\\', *byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            0x07 => line.extend_from_slice(b"\\a"),
            0x08 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(*byte),
            other => line.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}

//! What a node notices about the commands it runs: how long each took, which of them are worth a
//! second look, and what MONITOR shows.
//!
//! # How long a command took
//!
//! One reading of the counter per command: the end of one is the beginning of the next. Where
//! something else came in between that is not the command's (parsing a window, fetching memory for
//! a batch, a message), the counter is read once more. What a command sent to another shard costs
//! here, packing it, falls to the next command that runs here: some 30 ns.
//!
//! A command is timed where it runs, and its time travels with the reply. One over several shards,
//! and EXEC, takes the sum of what its parts took and of what planning and gathering took: the work
//! it made, not the time it waited for others; waiting is the client's to see. Parts whose reply is
//! known before they run (MSET's) are not waited for, and so not in the sum.
//!
//! What it costs: see [`Node::count`].

use super::batch::{Claim, ClientKey, Item};
use super::exec::Ran;
use super::node::Node;
use crate::base::error::Error;
use crate::base::ticks;
use crate::command::{Call, Command, Run, flag, shown};
use crate::config::Config;
use crate::instance::monitors::Monitor;
use crate::metrics::commandlog::{Described, Kind};
use crate::metrics::error_code;
use crate::metrics::latency::Event;
use crate::resp::{Args, ReplyBuf};
use crate::session::{ReplyMode, Session};
use std::sync::Arc;

/// From when on a command is worth a second look; what the configuration says, in the units that
/// are at hand when a command has run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookout {
    /// Ticks: the smaller of the next two.
    ticks: u64,
    slow_ticks: u64,
    event_ticks: u64,
    pub(super) request_bytes: u64,
    reply_bytes: u64,
    /// `latency-tracking`.
    track: bool,
}

/// Larger than anything.
const NEVER: u64 = u64::MAX;

impl Lookout {
    pub(super) fn new(config: &Config) -> Lookout {
        let rate = ticks::rate();
        let from = |least: i64, most: u64| match u64::try_from(least) {
            Ok(least) if most > 0 => least,
            _ => NEVER,
        };
        let slow_us = from(config.slowlog_log_slower_than(), config.slowlog_max_len());
        let slow_ticks = if slow_us == NEVER { NEVER } else { ticks_of_us(rate, slow_us) };
        let event_ticks = match config.latency_monitor_threshold() {
            0 => NEVER,
            ms => ticks_of_us(rate, ms.saturating_mul(1000)),
        };
        Lookout {
            ticks: slow_ticks.min(event_ticks),
            slow_ticks,
            event_ticks,
            request_bytes: from(
                config.commandlog_request_larger_than(),
                config.commandlog_large_request_max_len(),
            ),
            reply_bytes: from(
                config.commandlog_reply_larger_than(),
                config.commandlog_large_reply_max_len(),
            ),
            track: config.latency_tracking(),
        }
    }

    /// Whether any limit is reached: one branch, though there are three of them.
    #[inline]
    pub(super) fn is_notable(&self, seen: Seen) -> bool {
        (seen.ticks >= self.ticks)
            | (seen.reply >= self.reply_bytes)
            | (seen.request >= self.request_bytes)
    }
}

/// Bytes of a call as a client sends it.
fn request_bytes(call: &Call) -> u64 {
    let digits = |n: usize| n.max(1).ilog10() as usize + 1;
    let bulk = |len: usize| len + digits(len) + "$\r\n\r\n".len();
    let name = call.command.name.split(' ').map(str::len);
    let lens = name.chain(call.spans.iter().map(|span| span.len as usize));
    let count = call.command.name_words() + call.spans.len();
    (digits(count) + "*\r\n".len() + lens.map(bulk).sum::<usize>()) as u64
}

fn ticks_of_us(rate: ticks::Rate, us: u64) -> u64 {
    rate.ticks(us.saturating_mul(1000))
}

/// What there is to see of a command once it has run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// How long it took.
    pub(super) ticks: u64,
    /// Bytes of the request; 0 where it has been looked at already.
    pub(super) request: u64,
    /// Bytes of the reply.
    pub(super) reply: u64,
}

impl Node {
    /// Time since the last reading of the counter.
    #[inline]
    pub(super) fn lap(&mut self) -> u64 {
        let now = ticks::now();
        now.saturating_sub(std::mem::replace(&mut self.lap, now))
    }

    /// Counts a command that has just run here, from the last reading of the counter on. Returns
    /// how long it took.
    ///
    /// On a 2.4 GHz EPYC a reading takes 11 ns and, with everything that is counted and compared, 21
    /// ns when nothing else is done (`benches/micro`, "observe"). Among other work the processor
    /// hides most of it: a GET at pipeline 64 takes 201 ns with it and 223 without, a SET 239 and
    /// 208, best of 24 runs each, which is 5 ns on average and less than where the code happens to
    /// lie makes. One that crosses pays 15 ns of 265: its time travels, and is looked at at home.
    #[inline]
    pub(super) fn count(&mut self, command: &Command, ran: Ran) -> u64 {
        let took = self.lap();
        self.count_as(command, ran, took);
        took
    }

    /// Counts a command that took so long.
    #[inline]
    pub(super) fn count_as(&mut self, command: &Command, ran: Ran, took: u64) {
        let metrics = self.instance.metrics.command(self.number, command.id);
        metrics.calls.add(1);
        metrics.ticks.add(took);
        if self.lookout.track {
            metrics.track(took);
        }
        if let Ran::Failed(code) = ran {
            metrics.failed.add(1);
            self.errors += 1;
            self.instance.metrics.count_error(self.number, code);
        }
    }

    /// Counts a call that ran in parts, once its reply is written: `out` from `from` on.
    pub(super) fn count_call(
        &mut self,
        key: ClientKey,
        call: &Call,
        ticks: u64,
        out: &ReplyBuf,
        from: usize,
    ) {
        let ran = match out.bytes().get(from) {
            Some(b'-') => Ran::Failed(error_code(&out.bytes()[from..])),
            _ => Ran::Fine,
        };
        // WATCH has been counted when it began.
        if let Run::Control(_) = call.command.run {
            return;
        }
        self.count_as(call.command, ran, ticks);
        let seen = Seen {
            ticks,
            request: request_bytes(call),
            reply: out.len_between(from, out.mark()) as u64,
        };
        let args = Args::new(&call.bytes, &call.spans);
        self.look_at(key, call.command, &args, seen);
    }

    /// Counts an EXEC that made so much work.
    pub(super) fn count_exec(&mut self, ticks: u64) {
        if let Some(exec) = crate::command::find(b"EXEC") {
            self.count_as(exec, Ran::Fine, ticks);
        }
    }

    /// From how many ticks on something that is no command is an event for LATENCY.
    pub fn event_ticks(&self) -> u64 {
        self.lookout.event_ticks
    }

    /// Follows a change of configuration.
    pub(super) fn follow_lookout(&mut self) {
        self.lookout = Lookout::new(&self.config);
    }

    /// Follows a change that a command has just made, and that is looked at with the new eyes: CONFIG
    /// SET of a threshold decides about itself. The rest of the configuration waits for the next turn.
    pub(super) fn follow_lookout_at_once(&mut self) {
        if self.generation != self.instance.generation() {
            self.lookout = Lookout::new(&self.instance.config());
        }
    }

    /// Looks at a command that has run, for a client of ours.
    #[inline]
    pub(super) fn look_at(&mut self, key: ClientKey, command: &Command, args: &Args, seen: Seen) {
        if self.lookout.is_notable(seen) {
            self.note(key, command, args, seen);
        }
    }

    /// A command is worth a second look.
    #[cold]
    pub(super) fn note(&mut self, key: ClientKey, command: &Command, args: &Args, seen: Seen) {
        let (rate, config) = (ticks::rate(), self.instance.config());
        let metrics = &self.instance.metrics;
        let unix_s = self.instance.unix_us(self.now) / 1_000_000;
        if seen.ticks >= self.lookout.event_ticks {
            let fast = command.is(flag::FAST);
            let event = if fast { Event::FastCommand } else { Event::Command };
            metrics.latency.add(event, unix_s, rate.us(seen.ticks) / 1000);
        }
        if command.is(flag::SKIP_SLOWLOG) {
            return;
        }
        let reasons = [
            (
                seen.ticks >= self.lookout.slow_ticks,
                Kind::Slow,
                config.slowlog_max_len(),
                rate.us(seen.ticks),
            ),
            (
                seen.request >= self.lookout.request_bytes,
                Kind::LargeRequest,
                config.commandlog_large_request_max_len(),
                seen.request,
            ),
            (
                seen.reply >= self.lookout.reply_bytes,
                Kind::LargeReply,
                config.commandlog_large_reply_max_len(),
                seen.reply,
            ),
        ];
        if reasons.iter().all(|(holds, ..)| !holds) {
            return;
        }
        let about = self.client(key).map(|client| &client.session.about);
        let described = Described {
            words: shown::words(command, args),
            addr: about.map_or("", |about| &about.addr).into(),
            name: about.map_or(&[][..], |about| &about.name).into(),
        };
        for (holds, kind, most, value) in reasons {
            if holds {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                metrics.commandlog.add(kind, most, unix_s, value, described.clone());
            }
        }
    }

    /// A command of another shard's client had waited here and then took long: its shard knows whose
    /// it is. (What is large about it is not looked for: that is rare twice over.)
    pub(super) fn tell_slow(
        &mut self,
        from: usize,
        client: ClientKey,
        call: Box<Call>,
        ticks: u64,
    ) {
        let seen = Seen { ticks, ..Seen::default() };
        if !self.lookout.is_notable(seen) {
            return;
        }
        if from == self.number {
            let args = Args::new(&call.bytes, &call.spans);
            self.note(client, call.command, &args, seen);
        } else {
            self.mail.batch(from).items.push(Item::Slow(client, ticks, call));
        }
    }

    // ---- MONITOR -----------------------------------------------------------------------------

    /// Follows who monitors.
    pub(super) fn follow_monitors(&mut self) {
        let (generation, monitors) = self.instance.monitors.list();
        (self.monitors_generation, self.monitors) = (generation, monitors);
        self.is_monitored = !self.monitors.is_empty();
        self.judge_attention();
    }

    /// Shows a client's command to everybody who monitors. `name` is as many words as name it, as
    /// they were typed, if they are at hand.
    #[cold]
    pub(super) fn show(&mut self, key: ClientKey, command: &Command, name: &Args, args: &Args) {
        if command.is(flag::SKIP_MONITOR) || command.is(flag::ADMIN) {
            return;
        }
        let Some(client) = self.client(key) else {
            return;
        };
        let now_us = self.instance.unix_us(self.now);
        let line: Arc<[u8]> = monitor_line(now_us, &client.session, command, name, args).into();
        for monitor in Arc::clone(&self.monitors).iter() {
            let key = ClientKey { index: monitor.index, generation: monitor.generation };
            self.push_to(monitor.shard, key, Claim::Monitor, &line);
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
        let monitors = self.client(key).is_some_and(|client| client.session.monitor);
        if monitors && (command.is(flag::READS) || command.is(flag::WRITES)) {
            let error = Error::text("ERR Replica can't interact with the keyspace");
            self.reject(key, mode, Some(command), &error);
            return false;
        }
        if !matches!(command.run, Run::Session(_) | Run::Control(_)) {
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

    /// Sends bytes to a client of any shard, beside its replies; they come after the replies that it
    /// is owed already. They are dropped if the client has gone, or is no longer what it gets them as.
    pub(super) fn push_to(
        &mut self,
        shard: usize,
        key: ClientKey,
        claim: Claim,
        bytes: &Arc<[u8]>,
    ) {
        if shard == self.number {
            return self.pushed(key, claim, bytes);
        }
        self.mail.batch(shard).items.push(Item::Push(key, claim, Arc::clone(bytes)));
    }

    /// Bytes for a client of ours.
    pub(super) fn pushed(&mut self, key: ClientKey, claim: Claim, bytes: &[u8]) {
        let Some(client) = self.client_mut(key) else {
            return;
        };
        let entitled = match claim {
            Claim::Monitor => client.session.monitor,
        };
        if entitled && client.session.reply_mode == ReplyMode::On {
            client.replies.now(ReplyMode::On, |out| out.extend(bytes));
            self.soil(key);
        }
    }

    /// A client of ours wants to see every command.
    pub(super) fn begin_monitor(&mut self, key: ClientKey) {
        let number = self.number;
        let Some(client) = self.client_mut(key) else {
            return;
        };
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

//! What a node notices about the commands it runs: how many, how long each took, and which of them
//! are worth a second look.
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
//! What it costs: see [`Observer::count`].

use super::client::ClientKey;
use super::clients::Clients;
use super::execute::Ran;
use super::message::Message;
use super::post::Post;
use crate::base::clock::Now;
use crate::base::error::Error;
use crate::base::ticks;
use crate::command::{Call, Command, Run, flag, shown};
use crate::config::Config;
use crate::instance::Instance;
use crate::metrics::commandlog::{Described, Kind};
use crate::metrics::error_code;
use crate::metrics::latency::Event;
use crate::resp::{Args, ReplyBuf};
use std::sync::Arc;

/// From when on a command is worth a second look; what the configuration says, in the units that
/// are at hand when a command has run.
#[derive(Clone, Copy, Debug)]
struct Thresholds {
    /// Ticks: the smaller of the next two.
    ticks: u64,
    slow_ticks: u64,
    event_ticks: u64,
    request_bytes: u64,
    reply_bytes: u64,
    /// `latency-tracking`.
    track: bool,
}

/// Larger than anything.
const NEVER: u64 = u64::MAX;

impl Thresholds {
    fn new(config: &Config) -> Thresholds {
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
        Thresholds {
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
    pub(super) fn is_notable(&self, measured: Measured) -> bool {
        (measured.ticks >= self.ticks)
            | (measured.reply >= self.reply_bytes)
            | (measured.request >= self.request_bytes)
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
pub(super) struct Measured {
    /// How long it took.
    pub(super) ticks: u64,
    /// Bytes of the request; 0 where it has been looked at already.
    pub(super) request: u64,
    /// Bytes of the reply.
    pub(super) reply: u64,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Observer {
    number: usize,
    instance: Arc<Instance>,
    thresholds: Thresholds,
    /// The configuration's generation that `thresholds` are of.
    generation: u64,
    /// This turn's time.
    now: Now,
    /// The last reading of the counter that times commands.
    last_ticks: u64,
    /// The reading of that counter at which no client's input goes on this turn.
    deadline: u64,
    /// Bytes of the request at hand.
    pub(super) request: u64,
    /// Commands of clients here.
    pub(super) commands: u64,
    /// Commands that other shards run for clients here.
    pub(super) hops_out: u64,
    /// Commands of other shards' clients that ran here.
    pub(super) hops_in: u64,
    /// Batches in which they came, and the largest of them in messages.
    pub(super) batches: u64,
    pub(super) batch_max: u64,
    /// Errors that commands replied with.
    errors: u64,
}

impl Observer {
    /// The observer of shard `number`.
    pub(super) fn new(number: usize, instance: Arc<Instance>, config: &Config) -> Observer {
        Observer {
            number,
            instance,
            thresholds: Thresholds::new(config),
            generation: 0,
            now: Now::default(),
            last_ticks: 0,
            deadline: u64::MAX,
            request: 0,
            commands: 0,
            hops_out: 0,
            hops_in: 0,
            batches: 0,
            batch_max: 0,
            errors: 0,
        }
    }

    /// A turn begins.
    pub(super) fn begin_turn(&mut self, now: Now) {
        self.now = now;
    }

    /// Says until when clients are fed this turn.
    pub(super) fn set_deadline(&mut self, ticks: u64) {
        self.deadline = ticks;
    }

    /// Whether that is over, as of the last reading.
    #[inline]
    pub(super) fn is_late(&self) -> bool {
        self.last_ticks >= self.deadline
    }

    /// Publishes what has been counted.
    pub(super) fn publish(&self) {
        let metrics = self.instance.metrics.shard(self.number);
        metrics.commands.set(self.commands);
        metrics.hops_out.set(self.hops_out);
        metrics.hops_in.set(self.hops_in);
        metrics.batch_max.set(self.batch_max);
        metrics.batches.set(self.batches);
        metrics.errors.set(self.errors);
    }

    /// Follows a change of configuration.
    pub(super) fn follow(&mut self, config: &Config, generation: u64) {
        self.thresholds = Thresholds::new(config);
        self.generation = generation;
    }

    /// Follows a change that a command has just made, and that is looked at with the new eyes: CONFIG
    /// SET of a threshold decides about itself. The rest of the configuration waits for the next turn.
    pub(super) fn follow_at_once(&mut self) {
        let generation = self.instance.generation();
        if self.generation != generation {
            self.follow(&self.instance.config(), generation);
        }
    }

    /// Counts an error that a client is told before a command runs, and the command, if it is one.
    #[cold]
    pub(super) fn count_rejected(&mut self, command: Option<&Command>, error: &Error) {
        self.errors += 1;
        let code = error_code(error.to_string().as_bytes());
        self.instance.metrics.count_error(self.number, code);
        if let Some(command) = command {
            self.instance.metrics.command(self.number, command.id).rejected.add(1);
        }
    }

    /// Counts an error that is no command's.
    pub(super) fn count_error(&mut self) {
        self.errors += 1;
    }

    /// Time since the last reading of the counter.
    #[inline]
    pub(super) fn lap(&mut self) -> u64 {
        let now = ticks::now();
        now.saturating_sub(std::mem::replace(&mut self.last_ticks, now))
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
        if self.thresholds.track {
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
        clients: &Clients,
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
        let measured = Measured {
            ticks,
            request: request_bytes(call),
            reply: out.len_between(from, out.mark()) as u64,
        };
        let args = Args::new(&call.bytes, &call.spans);
        self.look_at(clients, key, call.command, &args, measured);
    }

    /// Counts an EXEC that made so much work.
    pub(super) fn count_exec(&mut self, ticks: u64) {
        if let Some(exec) = crate::command::find(b"EXEC") {
            self.count_as(exec, Ran::Fine, ticks);
        }
    }

    /// From how many ticks on something that is no command is an event for LATENCY.
    pub fn event_ticks(&self) -> u64 {
        self.thresholds.event_ticks
    }

    /// Looks at a command that has run, for a client of ours.
    #[inline]
    pub(super) fn look_at(
        &mut self,
        clients: &Clients,
        key: ClientKey,
        command: &Command,
        args: &Args,
        measured: Measured,
    ) {
        if self.is_notable(measured) {
            self.note(clients, key, command, args, measured);
        }
    }

    /// Whether a command is worth a second look: whoever would have to find its arguments first asks.
    #[inline]
    pub(super) fn is_notable(&self, measured: Measured) -> bool {
        self.thresholds.is_notable(measured)
    }

    /// Whether the request at hand is long enough to be looked at, whatever becomes of it.
    #[inline]
    pub(super) fn is_long_request(&self) -> bool {
        self.request >= self.thresholds.request_bytes
    }

    /// A command is worth a second look.
    #[cold]
    pub(super) fn note(
        &mut self,
        clients: &Clients,
        key: ClientKey,
        command: &Command,
        args: &Args,
        measured: Measured,
    ) {
        let (rate, config) = (ticks::rate(), self.instance.config());
        let metrics = &self.instance.metrics;
        let unix_s = self.instance.unix_us(self.now) / 1_000_000;
        if measured.ticks >= self.thresholds.event_ticks {
            let fast = command.is(flag::FAST);
            let event = if fast { Event::FastCommand } else { Event::Command };
            metrics.latency.add(event, unix_s, rate.us(measured.ticks) / 1000);
        }
        if command.is(flag::SKIP_SLOWLOG) {
            return;
        }
        let reasons = [
            (
                measured.ticks >= self.thresholds.slow_ticks,
                Kind::Slow,
                config.slowlog_max_len(),
                rate.us(measured.ticks),
            ),
            (
                measured.request >= self.thresholds.request_bytes,
                Kind::LargeRequest,
                config.commandlog_large_request_max_len(),
                measured.request,
            ),
            (
                measured.reply >= self.thresholds.reply_bytes,
                Kind::LargeReply,
                config.commandlog_large_reply_max_len(),
                measured.reply,
            ),
        ];
        if reasons.iter().all(|(holds, ..)| !holds) {
            return;
        }
        let about = clients.get(key).map(|client| &client.session.about);
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
        post: &mut Post,
        from: usize,
        client: ClientKey,
        call: Box<Call>,
        ticks: u64,
    ) {
        if self.is_notable(Measured { ticks, ..Measured::default() }) {
            post.say(from, Message::Slow(client, ticks, call));
        }
    }
}

//! A client's input: parsed a window ahead, run in order, stopped where it has to wait.

use super::client::{Client, ClientKey};
use super::node::Node;
use crate::base::limits;
use crate::command::{self, Command, Run};
use crate::resp::{Args, Limits, Parsed, ProtocolError, Reply, Span};
use crate::session::{Close, ReplyMode};

/// Commands parsed ahead of the one that runs, so that the memory they will touch is on its way:
/// with 1 M keys of 64 B, GETs at pipeline 64 cost 30 % less than one at a time.
const WINDOW: usize = 16;

/// A parsed command that has not run yet.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Where it ends in the input, and where it begins.
    end: usize,
    start: usize,
    /// Its words.
    words: (u32, u32),
    /// What the words point into, if not the input.
    unquoted: Option<Vec<u8>>,
    pub(super) command: Option<&'static Command>,
    /// The hash of its first key, where it has been computed.
    pub(super) hash: Option<u64>,
    /// The shard that owns it, likewise.
    pub(super) owner: Option<usize>,
}

/// What became of a client's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// Everything complete has run; a command is underway that takes at least so many bytes.
    Wants(usize),
    /// There may be more, but it is others' turn: feed the rest again next turn.
    More,
    /// The rest has to wait until [`Node::take_resumed`] names the client or its replies have been
    /// sent: it waits for a command of its own over several shards, or for the end of a pause.
    Held,
    /// Nothing more will be executed.
    Closed,
}

impl Node {
    /// Runs what a client has sent. Returns how many bytes have been dealt with, and what comes
    /// next; the rest must be at the front of the next call's input.
    pub fn feed(&mut self, key: ClientKey, input: &[u8]) -> (usize, Fed) {
        let mut window = std::mem::take(&mut self.window);
        let mut spans = std::mem::take(&mut self.spans);
        let before = self.observer.commands;
        let (mut used, mut whole) = (0, 0);
        self.crossed = None;
        let fed = loop {
            let Some(client) = self.clients.get(key) else {
                break Fed::Closed;
            };
            if let Some(fed) = client.stops() {
                break fed;
            }
            let known = client.session.authenticated;
            let commands = self.observer.commands - before;
            let has_had_its_share = commands >= limits::COMMANDS_PER_FEED as u64;
            if self.post.input_waits || has_had_its_share || self.is_late() {
                break Fed::More;
            }
            window.clear();
            spans.clear();
            let mut end = self.look_ahead(key, input, &mut used, &mut window, &mut spans);
            let looked = window.len();
            // Parsing is nobody's time: the first command begins here.
            self.observer.lap();
            let mut stopped = None;
            for (i, ahead) in window.drain(..).enumerate() {
                let start = ahead.start;
                used = ahead.end;
                self.dispatch(key, input, &spans, ahead);
                let waits = self.post.input_waits || self.is_late();
                let Some(client) = self.clients.get_mut(key) else {
                    stopped = Some(Fed::Closed);
                    break;
                };
                stopped = client.stops().or(waits.then_some(Fed::More));
                let is_put_off = client.session.postponed || client.catches_up;
                if client.queue.is_none() && !is_put_off {
                    whole = used;
                }
                if stopped.is_some() {
                    if is_put_off {
                        // It has not run: it will be the first when its turn comes.
                        used = start;
                    }
                    if i + 1 < looked || end.is_some() {
                        client.parser.restart();
                    }
                    break;
                }
                if known && !client.session.authenticated {
                    // RESET: what was parsed ahead was parsed with more trust than there is now.
                    client.parser.restart();
                    end = None;
                    break;
                }
            }
            if let Some(fed) = stopped {
                break fed;
            }
            match end {
                None => {}
                Some(Ok(wanted)) => break Fed::Wants(wanted),
                Some(Err(error)) => {
                    self.refuse_input(key, error);
                    break Fed::Closed;
                }
            }
        };
        (self.window, self.spans) = (window, spans);
        self.fed_whole = whole;
        if fed == Fed::Held
            && let Some(client) = self.clients.get_mut(key)
        {
            // Nothing of it may be sent that it could wait for: CLIENT REPLY OFF.
            client.is_overdrawn = client.replies.owes_too_many();
        }
        self.lend_outlet(key);
        self.clients.mark_dirty(key);
        (used, fed)
    }

    /// How much of the input that has been fed last is commands that have run, or are on their way to where
    /// they run: not what a transaction that has no end yet began with.
    pub fn fed_whole(&self) -> usize {
        self.fed_whole
    }

    /// Parses a window of commands, and asks for the memory they will touch. Returns why it ended
    /// before the window was full: bytes wanted, or an error. `used` moves over blank lines.
    fn look_ahead(
        &mut self,
        key: ClientKey,
        input: &[u8],
        used: &mut usize,
        window: &mut Vec<Ahead>,
        spans: &mut Vec<Span>,
    ) -> Option<Result<usize, ProtocolError>> {
        let Node { clients, participant, config, layout, number, .. } = self;
        let (client, shard) = (clients.at(key), &participant.shard);
        let authenticated = client.session.authenticated || config.requirepass().is_empty();
        let bulk_max = match client.session.is_primary {
            true => limits::BULK_CEILING,
            false => config.proto_max_bulk_len().min(limits::BULK_CEILING),
        };
        let limits = Limits { bulk_max: bulk_max as i64, unauthenticated: !authenticated };
        // What may be sent before AUTH depends on the command before.
        let depth = if authenticated { WINDOW } else { 1 };
        let mut at = *used;
        let mut end = None;
        while window.len() < depth {
            let first = spans.len();
            let (len, unquoted) = match client.parser.next(&input[at..], &limits, spans) {
                Ok(Parsed::Command(len)) => (len, None),
                Ok(Parsed::Unquoted(len, bytes)) => (len, Some(bytes)),
                Ok(Parsed::Incomplete(wanted)) => {
                    end = Some(Ok(wanted));
                    break;
                }
                Err(error) => {
                    end = Some(Err(error));
                    break;
                }
            };
            let start = at;
            at += len;
            if spans.len() == first {
                // A blank line goes with what is before it.
                match window.last_mut() {
                    Some(before) => before.end = at,
                    None => *used = at,
                }
                continue;
            }
            let words = (first as u32, (spans.len() - first) as u32);
            window.push(Ahead {
                end: at,
                start,
                words,
                unquoted,
                command: None,
                hash: None,
                owner: None,
            });
        }
        for ahead in window.iter_mut() {
            let words = ahead.words(input, spans);
            let found = command::find(words.at(0));
            let (mut hash, mut owner) = (None, None);
            if let Some(found) = found
                && let Run::Owner(_) = found.run
                && let Some(at) = found.first_key()
                && let Some(first) = words.get(at + 1)
            {
                let of_first = crate::base::hash::of(first);
                let owner_of_first = layout.owner(first);
                (hash, owner) = (Some(of_first), Some(owner_of_first));
                if owner_of_first == *number {
                    shard.prefetch(client.session.db, of_first);
                }
            }
            (ahead.command, ahead.hash, ahead.owner) = (found, hash, owner);
        }
        if window.len() > 2 {
            for ahead in window.iter() {
                // Other shards' keys are theirs to fetch: here they would only miss.
                if let (Some(hash), Some(owner)) = (ahead.hash, ahead.owner)
                    && owner == *number
                {
                    shard.prefetch_block(client.session.db, hash);
                }
            }
        }
        end
    }

    fn refuse_input(&mut self, key: ClientKey, error: ProtocolError) {
        self.observer.count_error();
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let text = format!("ERR Protocol error: {error}");
        let resp3 = client.session.resp3;
        client.replies.now(ReplyMode::On, |out| Reply::new(out, resp3).error_text(&text));
        client.session.close = Close::AfterReplies;
    }
}

impl Ahead {
    /// Its bytes, as they came.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn words<'a>(&'a self, input: &'a [u8], spans: &'a [Span]) -> Args<'a> {
        let bytes = self.unquoted.as_deref().unwrap_or(&input[self.start..self.end]);
        let (first, count) = self.words;
        Args::new(bytes, &spans[first as usize..(first + count) as usize])
    }
}

impl Client {
    /// Why its next command does not run now, if it does not.
    fn stops(&self) -> Option<Fed> {
        if self.session.close != Close::No {
            return Some(Fed::Closed);
        }
        let waits = self.held
            || (self.is_halted && self.queue.is_none())
            || self.catches_up
            || self.is_ahead
            || self.session.postponed
            || self.replies.len() > limits::OUTPUT_PAUSE
            || self.replies.owes_too_many();
        waits.then_some(Fed::Held)
    }
}

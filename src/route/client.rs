//! One client as its shard sees it: its session, its parser, and the order of its replies.

use super::pubsub::Own;
use crate::base::limits;
use crate::command::{Call, Queue};
use crate::resp::{Parser, ReplyBuf};
use crate::session::{Close, ReplyMode, Session};
use bytes::Bytes;
use std::collections::VecDeque;

/// Names a client of a shard: its place, and a count that tells it from those who had it before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// Its place.
    pub index: u32,
    /// Its generation.
    pub generation: u32,
}

impl ClientKey {
    /// Nobody: there never are as many clients as it would take to be one.
    pub const NOBODY: ClientKey = ClientKey { index: u32::MAX, generation: 0 };
}

/// Where a client's replies leave, opaque on this floor: see [`super::departure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlet(pub u64);

/// See the module's head.
#[derive(Debug)]
pub struct Client {
    /// What it remembers.
    pub session: Session,
    /// Where its input stands.
    pub parser: Parser,
    /// Its replies.
    pub replies: Replies,
    /// The transaction being queued. The session knows how many commands and bytes that is.
    pub queue: Option<Box<Queue>>,
    /// Where a lone reply may leave, while nothing else of it is being sent: see
    /// [`super::departure`].
    pub outlet: Option<Outlet>,
    /// Whether another shard may be using that.
    pub is_lent: bool,
    /// Whether its input waits until fewer of its replies are outstanding.
    pub is_overdrawn: bool,
    /// Whether a multi-shard command of it is under way: its later commands wait (rule 4).
    pub held: bool,
    /// Whether its next command waits until all before it are answered: it is about what they did.
    pub catches_up: bool,
    /// The shard that runs those of its commands that are not answered yet, where they keep their order
    /// over all shards ([`super::pipeline`]).
    pub(super) runs_at: usize,
    /// Whether nothing of it runs for now but the rest of a transaction that it has begun.
    pub is_halted: bool,
    /// Whether it has published more than can be sent for now: its later commands wait.
    pub is_ahead: bool,
    /// Tells it from earlier clients in the same place.
    pub generation: u32,
    /// Whether it is in the list of clients with something to send.
    pub is_dirty: bool,
    /// Whether it is in the list of clients with messages to be sent.
    pub(super) is_pushed: bool,
    /// What it has subscribed to.
    pub(super) subscriptions: Option<Box<Own>>,
}

impl Client {
    /// MULTI: what follows is queued.
    pub(super) fn begin_queue(&mut self) {
        self.queue = Some(Box::default());
        self.session.multi = Some(0);
    }

    /// Ends what MULTI began. Returns what was queued, if it had.
    pub(super) fn take_queue(&mut self) -> Option<Box<Queue>> {
        self.session.multi = None;
        self.session.traffic.queued = 0;
        self.queue.take()
    }

    /// Queues a call, unless the transaction has failed already: then it only counts. Returns the
    /// bytes that are queued now.
    pub(super) fn enqueue(&mut self, call: Call) -> usize {
        let Some(queue) = &mut self.queue else {
            return 0;
        };
        queue.bytes += call.bytes.len() + 8 * call.spans.len() + size_of_val(&call);
        if !queue.failed {
            queue.calls.push(call);
        }
        self.session.multi = Some(queue.calls.len() as u32);
        self.session.traffic.queued = queue.bytes;
        queue.bytes
    }

    /// Whether what is ready of its replies had better wait for the rest, which is on its way: half
    /// of a pipeline's commands run elsewhere, and the replies before the first of those would cost
    /// a send of their own (pipeline 16, two shards: 1.5 sends per pipeline instead of 1).
    pub(super) fn gathers(&self) -> bool {
        self.replies.is_gathering()
            && self.replies.out.len() < limits::GATHER_BYTES
            && self.session.close == Close::No
    }
}

impl Client {
    /// Gives it a line that is no reply. Returns whether there is something to send now.
    pub(super) fn push_line(&mut self, line: &Bytes) -> bool {
        if self.session.reply_mode != ReplyMode::On {
            return false;
        }
        self.replies.push(self.is_lent, |out| {
            if line.len() < limits::ATTACH_MIN {
                out.extend(line);
            } else {
                // What is attached belongs to the bytes before it, so there have to be some.
                out.extend(&line[..1]);
                out.attach(line.slice(1..));
            }
        });
        true
    }
}

/// Replies in the order of their commands, though they become ready in another. While nothing is
/// outstanding, which is nearly always, a reply is written straight to where it is sent from.
#[derive(Debug, Default)]
pub struct Replies {
    /// Ready to be sent.
    pub out: ReplyBuf,
    /// Replies promised after those in `out`, oldest first.
    promised: VecDeque<Promise>,
    /// The number of the first promise.
    base: u32,
    /// Replies that are ready before an earlier one is.
    early: ReplyBuf,
    /// Promises not kept yet.
    unkept: usize,
    /// How many of those another shard keeps as soon as it looks into its mailbox. The others wait
    /// for locks.
    crossing: usize,
    /// The number of the first promise after the reply that entitled the client to pushes, while that
    /// is outstanding: none may overtake it.
    fence: Option<u32>,
}

#[derive(Debug)]
enum Promise {
    Outstanding,
    /// Outstanding, and nobody wants to see it (CLIENT REPLY).
    Unwanted,
    /// Outstanding, and somebody wants to see it if it is an error.
    Awaited,
    Ready(usize, usize),
}

impl Replies {
    /// How many replies are outstanding or wait behind one that is.
    pub fn outstanding(&self) -> usize {
        self.promised.len()
    }

    /// How far promises have been given and how far all of them have been kept, each the number of the
    /// first beyond.
    pub fn progress(&self) -> (u32, u32) {
        (self.base.wrapping_add(self.promised.len() as u32), self.base)
    }

    /// Whether so many are outstanding that no more should be asked for.
    pub(super) fn owes_too_many(&self) -> bool {
        self.outstanding() > limits::PROMISES_MAX
    }

    /// Whether replies are outstanding, and nothing but another shard's turn stands before them.
    fn is_gathering(&self) -> bool {
        self.unkept > 0 && self.unkept == self.crossing
    }

    /// Bytes held in all.
    pub fn len(&self) -> usize {
        self.out.len() + self.early.len()
    }

    /// The number of the one reply that is outstanding, if nothing else is, and nothing is ready.
    pub(super) fn lone(&self) -> Option<u32> {
        let lone = matches!(self.promised.front(), Some(Promise::Outstanding));
        (lone && self.promised.len() == 1 && self.is_empty()).then_some(self.base)
    }

    /// Whether no byte is held.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty() && self.early.is_empty()
    }

    /// Writes a reply that is ready now.
    #[inline]
    pub fn now<R>(&mut self, mode: ReplyMode, write: impl FnOnce(&mut ReplyBuf) -> R) -> R {
        if self.promised.is_empty() {
            let mark = self.out.mark();
            let result = write(&mut self.out);
            if mode != ReplyMode::On && !is_wanted_error(mode, &self.out, mark) {
                self.out.rewind(mark);
            }
            return result;
        }
        let mark = self.early.mark();
        let result = write(&mut self.early);
        if mode == ReplyMode::On || is_wanted_error(mode, &self.early, mark) {
            self.promised.push_back(Promise::Ready(mark, self.early.mark()));
        } else {
            self.early.rewind(mark);
        }
        result
    }

    /// Writes what is no reply. It goes out between two replies, before those that are still
    /// outstanding: who waits for a blocked command is told what happens meanwhile. `queues`: a reply
    /// leaves from another shard and may have left in part, so nothing may come between.
    #[inline]
    pub(super) fn push(&mut self, queues: bool, write: impl FnOnce(&mut ReplyBuf)) {
        if self.promised.is_empty() {
            return write(&mut self.out);
        }
        let is_fenced = self.fence.is_some_and(|fence| fence.wrapping_sub(self.base) as i32 > 0);
        if queues || is_fenced {
            self.now(ReplyMode::On, write);
        } else {
            write(&mut self.out);
        }
    }

    /// Says that pushes may not overtake what is promised so far.
    pub(super) fn fence_pushes(&mut self) {
        self.fence = Some(self.base.wrapping_add(self.promised.len() as u32));
    }

    /// Promises a reply; returns its number.
    #[inline]
    pub fn promise(&mut self, mode: ReplyMode) -> u32 {
        self.unkept += 1;
        let seq = self.base.wrapping_add(self.promised.len() as u32);
        self.promised.push_back(match mode {
            ReplyMode::On => Promise::Outstanding,
            ReplyMode::Errors => Promise::Awaited,
            _ => Promise::Unwanted,
        });
        seq
    }

    /// Promises the reply to a command that crosses to another shard; [`Replies::crossed`] ends that.
    #[inline]
    pub(super) fn promise_crossing(&mut self, mode: ReplyMode) -> u32 {
        self.crossing += 1;
        self.promise(mode)
    }

    /// A command is back from the shard it crossed to, with its reply or without.
    #[inline]
    pub(super) fn crossed(&mut self) {
        self.crossing -= 1;
    }

    /// Keeps a promise with the part of `from` between two marks.
    #[inline]
    pub fn keep(&mut self, seq: u32, from: &ReplyBuf, (start, end): (usize, usize)) {
        self.unkept -= 1;
        let at = seq.wrapping_sub(self.base) as usize;
        let unwanted = match self.promised.get(at) {
            Some(Promise::Unwanted) => true,
            Some(Promise::Awaited) => from.bytes().get(start) != Some(&b'-'),
            _ => false,
        };
        let end = if unwanted { start } else { end };
        if at > 0 {
            let mark = self.early.mark();
            self.early.append(from, start, end);
            self.promised[at] = Promise::Ready(mark, self.early.mark());
            return;
        }
        self.out.append(from, start, end);
        self.promised.pop_front();
        self.base = self.base.wrapping_add(1);
        while let Some(&Promise::Ready(start, end)) = self.promised.front() {
            self.out.append(&self.early, start, end);
            self.promised.pop_front();
            self.base = self.base.wrapping_add(1);
        }
        if self.promised.is_empty() {
            self.fence = None;
            // A large burst's memory is not kept for an idle client.
            if self.early.capacity() > 4096 {
                self.early = ReplyBuf::default();
            } else {
                self.early.clear();
            }
        }
    }
}

/// Whether a reply that is written from a mark on is an error, and that is what is kept.
#[cold]
fn is_wanted_error(mode: ReplyMode, written: &ReplyBuf, mark: usize) -> bool {
    mode == ReplyMode::Errors && written.bytes().get(mark) == Some(&b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_stream_only_errors_are_kept() {
        let mut replies = Replies::default();
        let say = |text: &'static [u8]| move |out: &mut ReplyBuf| out.extend(text);
        replies.now(ReplyMode::Errors, say(b"+OK\r\n"));
        replies.now(ReplyMode::Errors, say(b"-ERR a\r\n"));
        assert_eq!(replies.progress(), (0, 0));
        let fine = replies.promise(ReplyMode::Errors);
        let wrong = replies.promise(ReplyMode::Errors);
        replies.now(ReplyMode::Errors, say(b":1\r\n"));
        assert_eq!(replies.progress(), (2, 0));
        let mut remote = ReplyBuf::default();
        remote.extend(b"-ERR b\r\n+OK\r\n");
        replies.keep(wrong, &remote, (0, 8));
        assert_eq!((replies.progress(), replies.out.bytes()), ((2, 0), &b"-ERR a\r\n"[..]));
        replies.keep(fine, &remote, (8, 13));
        assert_eq!(
            (replies.progress(), replies.out.bytes()),
            ((2, 2), &b"-ERR a\r\n-ERR b\r\n"[..])
        );
    }

    #[test]
    fn replies_wait_for_what_crosses_and_not_for_what_waits() {
        let mut replies = Replies::default();
        assert!(!replies.is_gathering());
        let crossing = replies.promise_crossing(ReplyMode::On);
        assert!(replies.is_gathering());
        let waiting = replies.promise(ReplyMode::On);
        assert!(!replies.is_gathering());
        let mut remote = ReplyBuf::default();
        remote.extend(b"ab");
        replies.keep(waiting, &remote, (1, 2));
        assert!(replies.is_gathering());
        // It has met a lock over there.
        replies.crossed();
        assert!(!replies.is_gathering());
        replies.keep(crossing, &remote, (0, 1));
        assert!(!replies.is_gathering());
        assert_eq!(replies.out.bytes(), b"ab");
    }

    #[test]
    fn pushes_pass_what_is_outstanding_but_not_what_entitles_to_them() {
        let mut replies = Replies::default();
        let first = replies.promise(ReplyMode::On);
        // MONITOR behind a command that waits: its +OK comes first.
        replies.now(ReplyMode::On, |out| out.extend(b"+OK"));
        replies.fence_pushes();
        replies.push(false, |out| out.extend(b"a"));
        assert_eq!(replies.out.bytes(), b"");
        let mut remote = ReplyBuf::default();
        remote.extend(b"1");
        replies.keep(first, &remote, (0, 1));
        assert_eq!(replies.out.bytes(), b"1+OKa");
        let second = replies.promise(ReplyMode::On);
        replies.push(false, |out| out.extend(b"b"));
        assert_eq!(replies.out.bytes(), b"1+OKab");
        // Its reply is leaving elsewhere.
        replies.push(true, |out| out.extend(b"c"));
        replies.keep(second, &remote, (0, 1));
        assert_eq!(replies.out.bytes(), b"1+OKab1c");
    }

    #[test]
    fn replies_leave_in_the_order_of_their_commands() {
        let mut replies = Replies::default();
        replies.now(ReplyMode::On, |out| out.extend(b"a"));
        let b = replies.promise(ReplyMode::On);
        replies.now(ReplyMode::On, |out| out.extend(b"c"));
        let d = replies.promise(ReplyMode::On);
        let e = replies.promise(ReplyMode::Off);
        replies.now(ReplyMode::Skip, |out| out.extend(b"unseen"));
        replies.now(ReplyMode::On, |out| out.extend(b"f"));
        let mut remote = ReplyBuf::default();
        remote.extend(b"ed b");
        replies.keep(e, &remote, (0, 1));
        replies.keep(d, &remote, (1, 2));
        assert_eq!(replies.out.bytes(), b"a");
        replies.keep(b, &remote, (3, 4));
        assert_eq!(replies.out.bytes(), b"abcdf");
        assert_eq!(replies.outstanding(), 0);
        assert_eq!((replies.unkept, replies.crossing), (0, 0));
        replies.now(ReplyMode::On, |out| out.extend(b"g"));
        assert_eq!(replies.out.bytes(), b"abcdfg");
    }
}

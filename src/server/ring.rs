//! One shard's io_uring: the only file that speaks to the kernel about sockets, and one of the few
//! rooms with `unsafe`.
//!
//! The ring is set up SINGLE_ISSUER, DEFER_TASKRUN, COOP_TASKRUN and TASKRUN_FLAG: nothing
//! interrupts the shard, completions are made when it asks for them, in the one call per turn that
//! also hands in its sends. Accepts and receives are multishot; receives share one ring of provided
//! buffers, so that an idle connection owns none.
//!
//! **One call per turn.** A send to a socket with room completes while it is handed in. So a shard
//! that has handed in *k* sends and has nothing else to do waits for *k* + 1 completions: for one
//! that is news. Waiting for 1 would return at once with its own sends, and cost a second call per
//! turn (with one client and no pipeline, 35 % of all CPU). A send that did not complete at once
//! makes one such wait too long by one completion; the tick ends it, at most [`TICK_MS`] later. So a
//! send whose end something waits for, or that may take more than one, is not among the *k*.
//!
//! **The tick** is a timeout of one shot, handed in again when it has fired: one entry in 10 ms beside
//! the sends. A multishot timeout would spare that, but the kernel knows it from 6.4 on only, and
//! one that is refused completes at once, and so would every wait. A tick that is refused all the
//! same is an error of the turn: a shard that cannot wait must not look as if it worked.
//!
//! # What the unsafe blocks rest on
//! 1. A buffer handed to the kernel stays where it is until its completion: send buffers live in
//!    boxed [`Outgoing`]s that the ring itself owns while a send is in flight; provided buffers, the
//!    ring of them and the tick's time live as long as the ring. Closing a ring does not end its
//!    requests, the kernel does so later in its own time; so before any of that memory is freed the
//!    ring cancels all its requests and waits until each has completed ([`Ring::in_flight`] counts
//!    them), and if the kernel refuses that, the memory is not freed at all.
//! 2. A provided buffer belongs to the kernel from `provide` until a completion names it, and to us
//!    from then until the next `provide`; `Received` is consumed by `give_back`, and each id exists
//!    once.
//! 3. The ring is used by the thread that made it, and by no other.

use crate::resp::ReplyBuf;
use io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

/// Time between two ticks while a shard waits, in milliseconds.
pub use crate::base::limits::TICK_MS;

/// Submissions that fit between two calls.
const SUBMISSIONS: u32 = 1024;
/// Completions that fit; more are kept by the kernel until there is room.
const COMPLETIONS: u32 = 8192;
/// One provided buffer.
const BUFFER_BYTES: usize = 16 * 1024;
/// Provided buffers, a power of two: 4 MiB per shard, enough for 256 connections' input at once.
const BUFFERS: u16 = 256;
/// Iovecs of one send; what does not fit goes with the next.
const IOVECS: usize = 64;

/// What a completion is about. In the lowest bits of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Tag {
    Accept = 0,
    Receive = 1,
    Send = 2,
    Tick = 3,
    Wake = 4,
    Cancel = 5,
    /// A wake of another ring that has failed; one that succeeds is silent.
    Unwoken = 6,
}

const TAG_BITS: u32 = 3;

/// How long [`Ring::turn`] waits when nothing has happened yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until something does, the tick if nothing else.
    ForNews,
    /// The same, but so many microseconds at most.
    AtMostUs(u32),
}

/// A completion, put into words.
#[derive(Debug)]
pub enum Event {
    /// Listener number `usize` has a new connection, or cannot accept (then it has stopped).
    Accepted(usize, io::Result<OwnedFd>),
    /// Bytes for a connection, which go on coming if `bool`.
    Received(u32, Received, bool),
    /// A connection's receiving has ended: with an error, with the end of input (`Ok`), or because
    /// no buffer was free or we cancelled it (`WouldBlock`).
    ReceiveEnded(u32, io::Result<()>),
    /// A connection's send is over: so many bytes went, and this is what had been handed in.
    Sent(u32, io::Result<usize>, Box<Outgoing>),
    /// Time passed.
    Tick,
    /// Another shard has something for us.
    Woken,
}

/// Bytes in a provided buffer. To be given back.
#[derive(Debug)]
pub struct Received {
    buffer: u16,
    len: usize,
}

/// Replies that are being sent, and how far.
#[derive(Debug)]
pub struct Outgoing {
    /// The replies.
    pub replies: ReplyBuf,
    /// Bytes sent already.
    pub sent: usize,
    /// What of that no send has to look at any more.
    passed: Passed,
    iovecs: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// The attachments that have gone as a whole, so that each is passed once and not at every send: how
/// many they are, the mark of the last, and all bytes up to its end.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    attachments: usize,
    mark: usize,
    bytes: usize,
}

impl Outgoing {
    /// Replies to be sent from their start.
    pub fn new(replies: ReplyBuf) -> Outgoing {
        // SAFETY: an all-zero `msghdr` is a valid one: null pointers and zero lengths.
        let header = unsafe { std::mem::zeroed() };
        let passed = Passed::default();
        Outgoing { replies, sent: 0, passed, iovecs: Vec::new(), header }
    }

    /// Whether everything has been sent.
    pub fn is_done(&self) -> bool {
        self.sent >= self.replies.len()
    }

    /// Begins anew with other replies; the memory is kept.
    pub fn restart(&mut self, replies: ReplyBuf) -> ReplyBuf {
        (self.sent, self.passed) = (0, Passed::default());
        std::mem::replace(&mut self.replies, replies)
    }

    /// Points the iovecs at what has not been sent, as far as there are enough of them. Returns how
    /// many attachments were looked at.
    fn aim(&mut self) -> usize {
        let (bytes, attached) = (self.replies.bytes(), self.replies.attached());
        let mut looked = 0;
        while let Some((mark, blob)) = attached.get(self.passed.attachments) {
            looked += 1;
            let end = self.passed.bytes + (mark - self.passed.mark) + blob.len();
            if end > self.sent {
                break;
            }
            let attachments = self.passed.attachments + 1;
            self.passed = Passed { attachments, mark: *mark, bytes: end };
        }
        self.iovecs.clear();
        let (mut from, mut skip) = (self.passed.mark, self.sent - self.passed.bytes);
        let iovecs = &mut self.iovecs;
        let mut add = |piece: &[u8]| {
            let rest = &piece[skip.min(piece.len())..];
            skip = skip.saturating_sub(piece.len());
            if !rest.is_empty() {
                let iov_base = rest.as_ptr().cast_mut().cast();
                iovecs.push(libc::iovec { iov_base, iov_len: rest.len() });
            }
            iovecs.len() < IOVECS
        };
        let has_room = attached[self.passed.attachments..].iter().all(|(mark, blob)| {
            looked += 1;
            let before = std::mem::replace(&mut from, *mark);
            add(&bytes[before..*mark]) && add(blob)
        });
        if has_room {
            add(&bytes[from..]);
        }
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.iovecs.len() as _;
        looked
    }
}

/// See the module's head.
pub struct Ring {
    ring: IoUring,
    memory: ManuallyDrop<Memory>,
    /// The tail of the kernel's ring of free buffers.
    tail: u16,
    /// Sends handed in since the last call whose end is no news.
    fresh_sends: usize,
    /// Requests that have found no room and that the kernel did not take at once either: they are
    /// the next turn's, in their order.
    postponed: VecDeque<squeue::Entry>,
    /// Requests that will complete and have not done so, those of `postponed` included.
    in_flight: usize,
    tick: TimeoutFlags,
}

/// What the kernel may read and write while requests are in flight (fact 1).
struct Memory {
    /// The provided buffers, and the kernel's ring of free ones.
    buffers: Box<[u8]>,
    entries: Entries,
    /// Replies being sent, by the number their completion bears.
    sending: Slab<(u32, Box<Outgoing>)>,
    tick: Box<Timespec>,
}

/// Page-aligned memory for the ring of provided buffers.
struct Entries(*mut BufRingEntry);

impl Entries {
    const BYTES: usize = size_of::<BufRingEntry>() * BUFFERS as usize;

    fn layout() -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(Entries::BYTES, 4096).expect("a page's alignment")
    }

    fn new() -> Entries {
        // SAFETY: the layout's size is not zero.
        let at = unsafe { std::alloc::alloc_zeroed(Entries::layout()) };
        if at.is_null() {
            std::alloc::handle_alloc_error(Entries::layout());
        }
        Entries(at.cast())
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; the ring that used it is gone (fact 1).
        unsafe { std::alloc::dealloc(self.0.cast(), Entries::layout()) }
    }
}

impl Ring {
    /// A ring with its buffers registered and its tick running.
    ///
    /// # Errors
    /// When the kernel or a filter refuses; [`explain`] says what to change.
    pub fn new() -> io::Result<Ring> {
        let ring = Ring::builder().build(SUBMISSIONS)?;
        Ring::on(ring, TimeoutFlags::empty())
    }

    fn builder() -> io_uring::Builder {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS);
        builder
    }

    /// On a ring of the kernel's, with a tick that asks for more than it needs if a test wants it
    /// refused.
    fn on(ring: IoUring, tick: TimeoutFlags) -> io::Result<Ring> {
        let entries = Entries::new();
        // SAFETY: fact 1: `entries` lives as long as the ring; it is page-aligned and has room for
        // `BUFFERS` entries.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.0 as u64, BUFFERS, 0, 0)?;
        }
        let memory = Memory {
            buffers: vec![0; BUFFER_BYTES * BUFFERS as usize].into(),
            entries,
            sending: Slab::new(),
            tick: Box::new(Timespec::new().nsec(TICK_MS * 1_000_000)),
        };
        let mut ring = Ring {
            ring,
            memory: ManuallyDrop::new(memory),
            tail: 0,
            fresh_sends: 0,
            postponed: VecDeque::new(),
            in_flight: 0,
            tick,
        };
        for buffer in 0..BUFFERS {
            ring.provide(buffer);
        }
        ring.start_tick();
        Ok(ring)
    }

    /// The ring's own descriptor, to be woken by [`Ring::wake`] from other rings.
    pub fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Hands in what is pending and, if `wait`, waits for news. Then puts all completions into
    /// `events`.
    ///
    /// # Errors
    /// When the kernel refuses the call as such, or the tick.
    pub fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        let is_behind = !self.hand_over_postponed();
        // What is not handed in yet cannot end a wait.
        let wait = if is_behind { Wait::No } else { wait };
        let want = if wait == Wait::No { 0 } else { self.fresh_sends + 1 };
        self.fresh_sends = 0;
        let queue = self.ring.submission();
        let is_idle = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
        drop(queue);
        if want == 0 && is_idle {
            // Nothing to hand in, and nothing that the kernel waits to be called for.
            return self.reap(events);
        }
        let handed_in = match wait {
            Wait::AtMostUs(us) => {
                let most = Timespec::new().nsec(us * 1000);
                let args = SubmitArgs::new().timespec(&most);
                self.ring.submitter().submit_with_args(want, &args)
            }
            Wait::No | Wait::ForNews => self.ring.submit_and_wait(want),
        };
        match handed_in {
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        self.reap(events)
    }

    fn reap(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let (mut ticked, mut refused) = (false, None);
        let Ring { ring, memory, in_flight, .. } = self;
        for completion in ring.completion() {
            let (data, result, flags) =
                (completion.user_data(), completion.result(), completion.flags());
            let number = (data >> TAG_BITS) as u32;
            let more = cqueue::more(flags);
            let tag = data & ((1 << TAG_BITS) - 1);
            // Those two are not of our requests, or of one that completes only if it fails.
            let is_counted = tag != Tag::Wake as u64 && tag != Tag::Unwoken as u64;
            *in_flight -= usize::from(is_counted && !more);
            debug_assert!(result != -libc::EBADF, "a request on a descriptor that was closed");
            match tag {
                tag if tag == Tag::Receive as u64 => {
                    let buffer = cqueue::buffer_select(flags);
                    match (result, buffer) {
                        (1.., Some(buffer)) => {
                            let received = Received { buffer, len: result as usize };
                            events.push(Event::Received(number, received, more));
                        }
                        _ => events.push(Event::ReceiveEnded(number, ending(result))),
                    }
                }
                tag if tag == Tag::Send as u64 => {
                    let (connection, outgoing) = memory.sending.remove(number as usize);
                    events.push(Event::Sent(connection, length(result), outgoing));
                }
                tag if tag == Tag::Accept as u64 => {
                    // SAFETY: the kernel has just made this descriptor for us, and nobody else
                    // knows it.
                    let own = |fd: usize| unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
                    let descriptor = length(result).map(own);
                    let is_last = descriptor.is_ok() && !more;
                    events.push(Event::Accepted(number as usize, descriptor));
                    if is_last {
                        let stopped = io::Error::from(io::ErrorKind::WouldBlock);
                        events.push(Event::Accepted(number as usize, Err(stopped)));
                    }
                }
                tag if tag == Tag::Tick as u64 => match -result {
                    libc::ETIME => {
                        ticked = true;
                        events.push(Event::Tick);
                    }
                    // The end of the ring.
                    libc::ECANCELED => {}
                    error => refused = Some(io::Error::from_raw_os_error(error)),
                },
                tag if tag == Tag::Wake as u64 => events.push(Event::Woken),
                _ => {}
            }
        }
        if ticked {
            self.start_tick();
        }
        refused.map_or(Ok(()), Err)
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.in_flight += 1;
        self.push_uncounted(entry);
    }

    /// Hands in a request that completes only if it fails.
    fn push_uncounted(&mut self, entry: squeue::Entry) {
        if !self.hand_over_postponed() || !self.hand_over(&entry) {
            self.postponed.push_back(entry);
        }
    }

    /// Hands over what found no room earlier. Returns whether that was all.
    fn hand_over_postponed(&mut self) -> bool {
        while let Some(entry) = self.postponed.front().cloned() {
            if !self.hand_over(&entry) {
                return false;
            }
            self.postponed.pop_front();
        }
        true
    }

    /// Hands a request over, after those that are there if there is no room. Returns whether the
    /// kernel lets us: if not, the turn's own call will tell why, or it passes once completions have
    /// been taken.
    fn hand_over(&mut self, entry: &squeue::Entry) -> bool {
        for _ in 0..2 {
            // SAFETY: facts 1 and 3: what the entry points to outlives its completion.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return true;
            }
            if self.ring.submit().is_err() {
                return false;
            }
        }
        false
    }

    fn start_tick(&mut self) {
        let entry = opcode::Timeout::new(std::ptr::from_ref(&*self.memory.tick))
            .count(0)
            .flags(self.tick)
            .build()
            .user_data(Tag::Tick as u64);
        self.push(entry);
    }

    /// Accepts on a listening socket until an [`Event::Accepted`] with an error.
    pub fn accept(&mut self, listener: usize, descriptor: RawFd) {
        let entry = opcode::AcceptMulti::new(Fd(descriptor))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data((listener as u64) << TAG_BITS | Tag::Accept as u64);
        self.push(entry);
    }

    /// Receives on a connection until an [`Event::ReceiveEnded`], or an [`Event::Received`] that
    /// says it was the last.
    pub fn receive(&mut self, connection: u32, descriptor: RawFd) {
        let entry = opcode::RecvMulti::new(Fd(descriptor), 0)
            .build()
            .user_data(u64::from(connection) << TAG_BITS | Tag::Receive as u64);
        self.push(entry);
    }

    /// Ends a connection's receiving; an [`Event::ReceiveEnded`] follows.
    pub fn cancel_receive(&mut self, connection: u32) {
        let target = u64::from(connection) << TAG_BITS | Tag::Receive as u64;
        let entry = opcode::AsyncCancel::new(target).build().user_data(Tag::Cancel as u64);
        self.push(entry);
    }

    /// Sends the rest of some replies; an [`Event::Sent`] gives them back. `is_news` says that
    /// something waits for that.
    pub fn send(
        &mut self,
        connection: u32,
        descriptor: RawFd,
        mut outgoing: Box<Outgoing>,
        is_news: bool,
    ) {
        let number = self.memory.sending.vacant_key();
        let data = (number as u64) << TAG_BITS | Tag::Send as u64;
        let flags = libc::MSG_NOSIGNAL;
        let entry = if outgoing.replies.attached().is_empty() {
            let rest = &outgoing.replies.bytes()[outgoing.sent..];
            let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
            opcode::Send::new(Fd(descriptor), rest.as_ptr(), len).flags(flags).build()
        } else {
            outgoing.aim();
            let header = std::ptr::from_ref(&outgoing.header);
            opcode::SendMsg::new(Fd(descriptor), header).flags(flags as u32).build()
        };
        self.memory.sending.insert((connection, outgoing));
        self.fresh_sends += usize::from(!is_news);
        self.push(entry.user_data(data));
    }

    /// Wakes the shard whose ring this is the descriptor of.
    pub fn wake(&mut self, ring: RawFd) {
        let entry = opcode::MsgRingData::new(Fd(ring), 0, Tag::Wake as u64, None)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Tag::Unwoken as u64);
        self.push_uncounted(entry);
    }

    /// The bytes that were received.
    pub fn bytes(&self, received: &Received) -> &[u8] {
        let at = received.buffer as usize * BUFFER_BYTES;
        &self.memory.buffers[at..at + received.len]
    }

    /// Gives a buffer back to the kernel.
    pub fn give_back(&mut self, received: Received) {
        self.provide(received.buffer);
    }

    fn provide(&mut self, buffer: u16) {
        let place = usize::from(self.tail & (BUFFERS - 1));
        let Memory { buffers, entries, .. } = &mut *self.memory;
        let start = &mut buffers[usize::from(buffer) * BUFFER_BYTES..][..BUFFER_BYTES];
        // SAFETY: fact 2: the kernel does not own this buffer now; `place` is within the ring of
        // entries, whose tail lies in the padding of its first entry, as the kernel defines it.
        unsafe {
            let entry = &mut *entries.0.add(place);
            entry.set_addr(start.as_mut_ptr() as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(entries.0).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let everything = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push(everything.user_data(Tag::Cancel as u64));
        let mut events = Vec::new();
        for _ in 0..ENDING_WAITS {
            if self.in_flight == 0 {
                // SAFETY: fact 1: no request is left, nothing uses it after this, and this is once.
                return unsafe { ManuallyDrop::drop(&mut self.memory) };
            }
            // A tick may just have been due; handed in again, it ends the wait.
            let _ = self.turn(Wait::AtMostUs(ENDING_WAIT_US), &mut events);
            // Descriptors that were accepted meanwhile close with their events.
            events.clear();
        }
    }
}

/// How often and how long, in microseconds, the end of a ring waits for its requests to end. What is
/// cancelled ends at once; only a kernel that refuses every call gets this far.
const ENDING_WAITS: usize = 100;
const ENDING_WAIT_US: u32 = 10_000;

/// Whether the ring's one call has failed for a reason that is over once completions have been
/// taken: a signal, completions that do not fit, or the time being up.
fn is_passing(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    matches!(number, Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME))
}

fn length(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Why receiving ended.
fn ending(result: i32) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ if matches!(-result, libc::ENOBUFS | libc::ECANCELED) => {
            Err(io::Error::from(io::ErrorKind::WouldBlock))
        }
        _ => Err(io::Error::from_raw_os_error(-result)),
    }
}

/// What to change when [`Ring::new`] fails.
pub fn explain(error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "the kernel refuses io_uring to this process. Set kernel.io_uring_disabled=0 (sysctl), \
             or, in a container, allow io_uring_setup, io_uring_enter and io_uring_register in its \
             seccomp profile"
        }
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring, or a seccomp profile hides it. Linux 6.1 or later is \
             needed"
        }
        Some(libc::EINVAL) => {
            "this kernel's io_uring is too old. Linux 6.1 or later is needed (SINGLE_ISSUER, \
             DEFER_TASKRUN, buffer rings)"
        }
        Some(libc::ENOMEM) => {
            "not enough memory may be locked. Raise the limit: ulimit -l 8192, or LimitMEMLOCK=8M \
             in the systemd unit"
        }
        _ => "io_uring cannot be set up",
    };
    format!("{advice} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns, of which each waits, until so many ticks have come.
    fn turns_until(ring: &mut Ring, ticks: usize) -> usize {
        let (mut turns, mut seen, mut events) = (0, 0, Vec::new());
        while seen < ticks {
            ring.turn(Wait::ForNews, &mut events).expect("a turn");
            turns += 1;
            seen += events.drain(..).filter(|event| matches!(event, Event::Tick)).count();
        }
        turns
    }

    /// A reply of very many attached values goes out some at a time, and each is looked at a few
    /// times in all, not once per send.
    #[test]
    fn attachments_that_have_gone_are_not_looked_at_again() {
        const VALUES: usize = 5_000;
        let mut replies = ReplyBuf::default();
        for i in 0..VALUES {
            replies.extend(format!("${}\r\n", 7 + i % 3).as_bytes());
            replies.attach(bytes::Bytes::from(vec![b'a' + (i % 26) as u8; 7 + i % 3]));
            replies.extend(b"\r\n");
        }
        let mut whole = Vec::new();
        let mut from = 0;
        for (mark, blob) in replies.attached() {
            whole.extend_from_slice(&replies.bytes()[from..*mark]);
            whole.extend_from_slice(blob);
            from = *mark;
        }
        whole.extend_from_slice(&replies.bytes()[from..]);
        let (mut outgoing, mut looked, mut sends) = (Outgoing::new(replies), 0, 0);
        while !outgoing.is_done() {
            looked += outgoing.aim();
            let mut aimed = Vec::new();
            for iovec in &outgoing.iovecs {
                // SAFETY: `aim` has just pointed it at replies that live on.
                let piece = unsafe {
                    std::slice::from_raw_parts(iovec.iov_base.cast::<u8>(), iovec.iov_len)
                };
                aimed.extend_from_slice(piece);
            }
            assert!(whole[outgoing.sent..].starts_with(&aimed) && !aimed.is_empty());
            // Sockets take what they like: sometimes all of it, sometimes up to the middle of a value.
            sends += 1;
            outgoing.sent += if sends % 3 == 0 { aimed.len() } else { aimed.len() / 2 + 1 };
        }
        assert_eq!(outgoing.sent, whole.len());
        assert!(looked <= VALUES + sends * (IOVECS + 2), "{looked} looks in {sends} sends");
    }

    #[test]
    fn a_wait_waits() {
        let mut ring = Ring::new().expect("a ring");
        // Nothing else happens: each wait ends with its tick. (A signal may end one early.)
        let turns = turns_until(&mut ring, 10);
        assert!((10..=12).contains(&turns), "{turns} turns for 10 ticks");
    }

    #[test]
    fn a_tick_that_is_refused_is_an_error() {
        // As a kernel refuses what it does not know yet.
        let unknown = TimeoutFlags::from_bits_retain(1 << 31);
        let kernel = Ring::builder().build(SUBMISSIONS).expect("a ring");
        let mut ring = Ring::on(kernel, unknown).expect("a ring");
        let refused = ring.turn(Wait::ForNews, &mut Vec::new());
        let refused = refused.expect_err("the kernel knows no such timeout");
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_kernel_that_takes_nothing_ends_the_turn() {
        // A ring that has not been enabled refuses every call.
        let kernel = Ring::builder().setup_r_disabled().build(SUBMISSIONS).expect("a ring");
        let mut ring = Ring::on(kernel, TimeoutFlags::empty()).expect("a ring");
        let (more, itself) = (3 * SUBMISSIONS as usize, ring.descriptor());
        (0..more).for_each(|_| ring.wake(itself));
        // The tick was the first that found room.
        assert_eq!(ring.postponed.len(), 1 + more - SUBMISSIONS as usize);
        ring.turn(Wait::ForNews, &mut Vec::new()).expect_err("it is still refused");
        // Enabled, it takes all of them.
        ring.ring.submitter().register_enable_rings().expect("enable the ring");
        let (mut woken, mut events) = (0, Vec::new());
        while woken < more {
            ring.turn(Wait::ForNews, &mut events).expect("a turn");
            woken += events.drain(..).filter(|event| matches!(event, Event::Woken)).count();
        }
        assert!(ring.postponed.is_empty());
    }

    #[test]
    fn a_ring_ends_with_its_requests() {
        use std::io::{Read, Write};
        let (socket, mut other) = std::os::unix::net::UnixStream::pair().expect("two sockets");
        let mut ring = Ring::new().expect("a ring");
        ring.receive(7, socket.as_raw_fd());
        // More than the socket takes: it takes a part, and the rest stays under way.
        let mut replies = ReplyBuf::default();
        replies.extend(&vec![b'x'; 8 << 20]);
        ring.send(7, socket.as_raw_fd(), Box::new(Outgoing::new(replies)), true);
        let mut events = Vec::new();
        ring.turn(Wait::No, &mut events).expect("a turn");
        let Some(Event::Sent(7, Ok(some), mut outgoing)) = events.pop() else {
            panic!("{events:?}")
        };
        outgoing.sent += some;
        ring.send(7, socket.as_raw_fd(), outgoing, true);
        ring.turn(Wait::No, &mut events).expect("a turn");
        assert_eq!((ring.in_flight, events.len()), (3, 0), "a receive, a send and the tick");
        other.write_all(b"hello").expect("write to it");
        ring.turn(Wait::ForNews, &mut events).expect("a turn");
        assert!(matches!(events[0], Event::Received(7, ..)), "{events:?}");
        drop(ring);
        // Nothing reads or writes on the socket any more: what is sent now stays there.
        other.write_all(b"hello again").expect("write to it");
        let mut left = [0; 11];
        (&socket).read_exact(&mut left).expect("nobody else has read it");
        assert_eq!(&left, b"hello again");
    }
}

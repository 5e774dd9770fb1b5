//! The load: one thread, any number of connections, each with one pipeline
//! in flight at a time (send a batch, wait for all its replies, send the
//! next), so that the server decides the pace.
//!
//! It has to be lighter than the servers, or it would be what is measured: it
//! patches prepared bytes, counts replies without copying them, and asks for
//! readiness edge-triggered, so each batch costs one write, one read and a
//! share of one wait.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::proc;
use crate::reply::Replies;
use crate::request::{Batch, Keys, Template};
use crate::stats::Histogram;

/// A server that answers nothing for this long is reported as stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Large enough that the replies of a deep pipeline come in one read.
const READ_LEN: usize = 256 * 1024;

/// What is sent, and over how many connections.
#[derive(Clone, Copy)]
pub struct Shape {
    pub connections: usize,
    pub pipeline: usize,
}

/// When to stop.
#[derive(Clone, Copy)]
pub enum Until {
    Time(Duration),
    Requests(u64),
}

/// What one run did.
pub struct Tally {
    pub requests: u64,
    pub elapsed: Duration,
    /// From sending a batch to its last reply.
    pub latency: Histogram,
    /// Processor time of the load itself.
    pub load_cpu: Duration,
}

/// A set of connections ready to load a server.
pub struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    pipeline: usize,
    keys: Keys,
    read_buffer: Vec<u8>,
}

impl Load {
    pub fn connect(port: u16, shape: Shape, template: &Template, keys: Keys) -> Outcome<Load> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(shape.connections);
        for index in 0..shape.connections {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            poll.watch(stream.as_raw_fd(), index as u64)?;
            connections.push(Connection {
                stream,
                batch: template.batch(shape.pipeline),
                sent: 0,
                length: 0,
                awaited: 0,
                replies: Replies::new(template.expected_value_len()),
                sent_at: Instant::now(),
            });
        }
        Ok(Load {
            poll,
            connections,
            pipeline: shape.pipeline,
            keys,
            read_buffer: vec![0; READ_LEN],
        })
    }

    /// Loads the server, and returns when every request sent is answered:
    /// processor time read before and after belongs to exactly these requests.
    pub fn run(&mut self, until: Until) -> Outcome<Tally> {
        let cpu_before = proc::thread_time();
        let started = Instant::now();
        let mut budget = Budget::new(until, started);
        let mut latency = Histogram::new();
        let mut busy = 0;
        for connection in &mut self.connections {
            let count = budget.next_batch(self.pipeline, started);
            if count == 0 {
                break;
            }
            connection.begin(count, &mut self.keys, Instant::now())?;
            busy += 1;
        }
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        while busy > 0 {
            let ready = self.poll.wait(&mut events)?;
            if ready == 0 {
                return Err(format!("no reply for {} s", STUCK_AFTER.as_secs()).into());
            }
            for event in &events[..ready] {
                let (index, flags) = (event.u64 as usize, event.events);
                let connection = &mut self.connections[index];
                if flags & libc::EPOLLOUT as u32 != 0 {
                    connection.send()?;
                }
                if !connection.receive(&mut self.read_buffer)? {
                    continue;
                }
                // One clock reading ends this batch and begins the next.
                let now = Instant::now();
                latency.record(now - connection.sent_at);
                let count = budget.next_batch(self.pipeline, now);
                if count == 0 {
                    busy -= 1;
                } else {
                    connection.begin(count, &mut self.keys, now)?;
                }
            }
        }
        Ok(Tally {
            requests: budget.issued,
            elapsed: started.elapsed(),
            latency,
            load_cpu: proc::thread_time() - cpu_before,
        })
    }
}

/// How many requests may still be sent.
struct Budget {
    issued: u64,
    limit: u64,
    deadline: Option<Instant>,
}

impl Budget {
    fn new(until: Until, now: Instant) -> Budget {
        let (limit, deadline) = match until {
            Until::Time(time) => (u64::MAX, Some(now + time)),
            Until::Requests(count) => (count, None),
        };
        Budget { issued: 0, limit, deadline }
    }

    /// The size of the next batch; 0 when it is time to stop.
    fn next_batch(&mut self, pipeline: usize, now: Instant) -> usize {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return 0;
        }
        let count = (self.limit - self.issued).min(pipeline as u64);
        self.issued += count;
        count as usize
    }
}

struct Connection {
    stream: TcpStream,
    batch: Batch,
    /// How much of the batch's `length` bytes the socket has taken.
    sent: usize,
    length: usize,
    /// The reply count at which the batch in flight is answered.
    awaited: u64,
    replies: Replies,
    sent_at: Instant,
}

impl Connection {
    fn begin(&mut self, count: usize, keys: &mut Keys, now: Instant) -> Outcome<()> {
        self.length = self.batch.refresh(count, keys);
        self.sent = 0;
        self.awaited += count as u64;
        self.sent_at = now;
        self.send()
    }

    /// Sends what the socket takes; an event tells when it takes more.
    fn send(&mut self) -> Outcome<()> {
        while self.sent < self.length {
            match self.stream.write(&self.batch.bytes[self.sent..self.length]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads until the socket is empty. True when that answered the batch.
    fn receive(&mut self, buffer: &mut [u8]) -> Outcome<bool> {
        let answered_before = self.replies.count;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed a connection under load".into()),
                Ok(count) => {
                    self.replies.feed(&buffer[..count])?;
                    // A short read emptied the socket, and what comes later
                    // raises a new event: no second read just to hear so.
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.replies.count > self.awaited {
            return Err("more replies than requests".into());
        }
        Ok(self.replies.count == self.awaited && answered_before < self.awaited)
    }
}

/// A readiness queue over epoll.
pub struct Poll {
    queue: OwnedFd,
}

impl Poll {
    pub fn new() -> io::Result<Poll> {
        // SAFETY: takes an integer, touches no memory.
        let queue = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if queue < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and has no other owner.
        let queue = unsafe { OwnedFd::from_raw_fd(queue) };
        Ok(Poll { queue })
    }

    /// Reports edges of `socket` under the number `token`. Closing the socket
    /// ends this.
    pub fn watch(&self, socket: RawFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET) as u32,
            u64: token,
        };
        let queue = self.queue.as_raw_fd();
        // SAFETY: `event` is a valid epoll_event, only read by the call; both
        // descriptors are open, and a wrong one is an error, not a fault.
        let status = unsafe { libc::epoll_ctl(queue, libc::EPOLL_CTL_ADD, socket, &raw mut event) };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits for events; 0 of them after STUCK_AFTER.
    pub fn wait(&self, events: &mut [libc::epoll_event]) -> io::Result<usize> {
        let timeout_ms = STUCK_AFTER.as_millis() as i32;
        loop {
            // SAFETY: the pointer and the length describe one exclusively
            // borrowed slice, which the call fills from the front.
            let count = unsafe {
                libc::epoll_wait(
                    self.queue.as_raw_fd(),
                    events.as_mut_ptr(),
                    events.len() as i32,
                    timeout_ms,
                )
            };
            if count >= 0 {
                return Ok(count as usize);
            }
            let error = io::Error::last_os_error();
            if error.kind() != ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

//! What runs beside a shard's loop, in the same thread: tasks of glommio's that read and write files.
//!
//! The loop runs in a queue of its own, and while a [`Guard`] says that background work is
//! outstanding it makes way between two turns, and waits for its clients no longer than
//! [`WAIT_US`] at a time. When there is none, glommio is not asked anything, and costs nothing.
//!
//! A task never sees the shard. It takes chunks from a bounded [`Chunks`] that the loop fills as far
//! as there is room, or fills one that the loop empties; whoever finds it full or empty does
//! something else, and the task sleeps meanwhile.
//!
//! What glommio 0.9 does that one would not expect, and what is done about it:
//! - asked to make way before any queue has run, its executor goes to sleep as if it were idle,
//!   whatever could run. It is asked by its preemption timer, which fires between two looks when others
//!   have the core (one load in fifteen stood still for seconds on a busy machine). So there is none: no
//!   queue has a latency that matters. What might still ask it ends with a timer that has not fired yet,
//!   so whenever the loop makes way it sets [some](BACKSTOPS_US). (One that beats by itself does not do:
//!   after a turn that was longer than a beat it has fired together with what it was to guard);
//! - while some queue can always run, it does not look for completions of I/O. So when work begins, and
//!   then every [`LATENCY_US`], the loop lets go of the processor for a moment
//!   ([`Background::make_way`]), and the executor has nothing else to do than look;
//! - a task that is dropped or cancelled leaks: tasks are detached, and told to end;
//! - a panic in a task ends the thread: tasks return errors.

use super::files::{self, Access, AtomicFile, Replaced, Source};
use crate::persist::snapshot::Sink;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// How often the loop lets the executor look for completions of I/O, in microseconds.
const LATENCY_US: u64 = 250;
/// The moment for which the loop lets go of the processor, in microseconds.
const MOMENT_US: u64 = 1;
/// The loop's share of the processor, and that of all background work. A twentieth was too little where
/// the loop always had something to do, as while it makes a snapshot: to hand a disk 260 MB/s takes more.
const LOOP_SHARES: usize = 1000;
const BACKGROUND_SHARES: usize = 300;
/// The longest sleeps of an executor that believes it is idle, in microseconds: the first, unless this
/// thread was kept off its processor for so long that it has fired too early; then the second; and so
/// on.
const BACKSTOPS_US: [u64; 4] = [500, 5_000, 50_000, 500_000];
/// The longest wait of the loop while background work is outstanding, in microseconds.
pub const WAIT_US: u32 = 200;

/// Runs a shard's loop in its queue, as the only thing its executor is started for.
pub async fn in_the_foreground<T: 'static>(shard: impl Future<Output = T> + 'static) -> T {
    let (shares, latency) = (glommio::Shares::Static(LOOP_SHARES), glommio::Latency::NotImportant);
    let queue = glommio::executor().create_task_queue(shares, latency, "loop");
    match glommio::spawn_local_into(shard, queue) {
        Ok(task) => task.await,
        Err(_) => unreachable!("the queue has just been made, and is never removed"),
    }
}

/// One shard's background work.
pub struct Background {
    queue: glommio::TaskQueueHandle,
    outstanding: Rc<Cell<usize>>,
    /// When the loop has to let go of the processor, by the monotonic clock.
    lets_go_ns: Cell<u64>,
}

/// Background work that is outstanding for as long as this exists.
pub struct Guard(Rc<Cell<usize>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Background {
    /// Of the executor that this runs in.
    pub fn new() -> Background {
        let shares = glommio::Shares::Static(BACKGROUND_SHARES);
        let latency = glommio::Latency::NotImportant;
        Background {
            queue: glommio::executor().create_task_queue(shares, latency, "background"),
            outstanding: Rc::default(),
            lets_go_ns: Cell::default(),
        }
    }

    /// Whether any work is outstanding.
    #[inline]
    pub fn is_outstanding(&self) -> bool {
        self.outstanding.get() > 0
    }

    /// Lets background work run, as far as it can: what the loop awaits between two turns, of which
    /// the last began at `now_ns`.
    pub fn make_way(&self, now_ns: u64) -> impl Future<Output = ()> + use<> {
        let lets_go = now_ns >= self.lets_go_ns.get();
        if lets_go {
            self.lets_go_ns.set(now_ns + LATENCY_US * 1000);
        }
        async move {
            let mut backstops =
                BACKSTOPS_US.map(|us| glommio::timer::Timer::new(Duration::from_micros(us)));
            // A timer is set when it is polled. What any of them wakes is the loop.
            poll_fn(|context| {
                for backstop in &mut backstops {
                    let _ = Pin::new(backstop).poll(context);
                }
                Poll::Ready(())
            })
            .await;
            if lets_go {
                glommio::timer::sleep(Duration::from_micros(MOMENT_US)).await;
            } else {
                glommio::executor().yield_task_queue_now().await;
            }
        }
    }

    /// Starts a task, which is outstanding until it ends.
    pub fn start(&self, work: impl Future<Output = ()> + 'static) {
        self.lets_go_ns.set(0);
        self.outstanding.set(self.outstanding.get() + 1);
        let guard = Guard(Rc::clone(&self.outstanding));
        let work = async move {
            work.await;
            drop(guard);
        };
        if let Ok(task) = glommio::spawn_local_into(work, self.queue) {
            task.detach();
        }
    }
}

/// An input that comes in pieces, from its beginning to its end: a file that a task reads, or what another
/// server sends.
#[derive(Default)]
pub struct Reading {
    /// Its pieces. Whoever wants no more [ends](Chunks::end) them.
    pub pieces: Chunks,
    result: RefCell<Option<io::Result<()>>>,
}

impl Reading {
    /// The input is over, by the word of whoever adds its pieces where no task does; `Err` if it is not
    /// whole.
    pub fn finish(&self, result: io::Result<()>) {
        *self.result.borrow_mut() = Some(result);
        self.pieces.end();
    }

    /// How it has come out, once, when the last piece has been taken.
    pub fn result(&self) -> Option<io::Result<()>> {
        if self.pieces.is_over() { self.result.borrow_mut().take() } else { None }
    }
}

impl Background {
    /// Begins to read a file, in pieces of a size.
    pub fn read(&self, path: &Path, size: usize) -> Rc<Reading> {
        let reading: Rc<Reading> = Rc::default();
        let (task, path) = (Rc::clone(&reading), path.to_owned());
        self.start(async move {
            let result = read_file(&path, &task.pieces, size).await;
            task.finish(result);
        });
        reading
    }
}

/// A file that a task writes, complete or not at all.
#[derive(Default)]
pub struct Writing {
    chunks: Chunks,
    is_cut_short: Cell<bool>,
    result: RefCell<Option<io::Result<()>>>,
}

impl Writing {
    /// It gets no more; if it is cut short, it is not to be.
    pub fn end(&self, is_cut_short: bool) {
        self.is_cut_short.set(is_cut_short);
        self.chunks.end();
    }

    /// How it has come out, once.
    pub fn result(&self) -> Option<io::Result<()>> {
        self.result.borrow_mut().take()
    }

    /// Why it cannot be written, if that is known before its end, once.
    pub fn failure(&self) -> Option<io::Error> {
        let mut result = self.result.borrow_mut();
        match result.as_ref() {
            Some(Err(_)) => result.replace(Err(cut_short()))?.err(),
            _ => None,
        }
    }
}

impl Writing {
    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.chunks.is_full()
    }

    /// Adds a chunk.
    pub fn add(&self, chunk: Bytes) {
        self.chunks.push(chunk);
        self.chunks.wake();
    }
}

impl Sink for Rc<Writing> {
    fn has_room(&self) -> bool {
        !self.is_full()
    }

    fn push(&mut self, chunk: Bytes) {
        self.add(chunk);
    }
}

impl Background {
    /// Begins to write what will be the file at a path.
    pub fn write(&self, path: &Path) -> Rc<Writing> {
        let writing: Rc<Writing> = Rc::default();
        let (task, path) = (Rc::clone(&writing), path.to_owned());
        self.start(async move {
            let written = write_file(&path, &task.chunks, &task.is_cut_short).await;
            let (result, replaced) = match written {
                Ok((_, replaced)) => (Ok(()), Some(replaced)),
                Err(error) => (Err(error), None),
            };
            *task.result.borrow_mut() = Some(result);
            if let Some(replaced) = replaced {
                replaced.let_go().await;
            }
        });
        writing
    }
}

impl Background {
    /// Begins to remove a file, if it is there.
    pub fn remove(&self, path: PathBuf) {
        self.start(async move { files::remove(&path).await });
    }
}

/// A bounded queue of chunks between the loop and a task of the same thread: one side adds, the
/// other takes, and one of the two is the task.
#[derive(Default)]
pub struct Chunks {
    queue: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    has_ended: Cell<bool>,
    /// The task, when it waits for room or for chunks.
    waiter: Cell<Option<Waker>>,
}

/// Bytes that a queue holds before it is full.
const CHUNKS_BYTES: usize = 2 * 1024 * 1024;

impl Chunks {
    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.bytes.get() >= CHUNKS_BYTES
    }

    fn wake(&self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    fn push(&self, chunk: Bytes) {
        self.bytes.set(self.bytes.get() + chunk.len());
        self.queue.borrow_mut().push_back(chunk);
    }

    fn pop(&self) -> Option<Bytes> {
        let chunk = self.queue.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - chunk.len());
        Some(chunk)
    }

    /// The loop adds a chunk, if there is room. What `make` is for is made only then.
    pub fn offer(&self, make: impl FnOnce() -> Bytes) -> bool {
        if self.is_full() {
            return false;
        }
        self.push(make());
        self.wake();
        true
    }

    /// The loop takes a chunk, if there is one.
    pub fn take(&self) -> Option<Bytes> {
        let chunk = self.pop();
        if chunk.is_some() && !self.is_full() {
            self.wake();
        }
        chunk
    }

    /// Nothing more will be added, or nothing more taken.
    pub fn end(&self) {
        self.has_ended.set(true);
        self.wake();
    }

    /// Whether nothing more will come.
    pub fn is_over(&self) -> bool {
        self.has_ended.get() && self.queue.borrow().is_empty()
    }

    /// The task takes the next chunk; `None` when there will be none.
    pub async fn next(&self) -> Option<Bytes> {
        poll_fn(|context| match self.pop() {
            Some(chunk) => Poll::Ready(Some(chunk)),
            None if self.has_ended.get() => Poll::Ready(None),
            None => {
                self.waiter.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// The task adds a chunk when there is room.
    pub async fn send(&self, chunk: Bytes) {
        poll_fn(|context| {
            if self.is_full() && !self.has_ended.get() {
                self.waiter.set(Some(context.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        self.push(chunk);
    }
}

/// Why work has not been finished that was told to end before its time.
pub fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "cut short by the end of the server")
}

/// Writes chunks to what becomes the file at a path, complete or not at all, and leaves the
/// processor to the loop after each.
///
/// # Errors
/// When the system refuses, or when the chunks have ended before their time, as `is_cut_short` says:
/// the file is absent then.
pub async fn write_file(
    path: &Path,
    chunks: &Chunks,
    is_cut_short: &Cell<bool>,
) -> io::Result<(Access, Replaced)> {
    let mut file = AtomicFile::create(path).await?;
    while let Some(chunk) = chunks.next().await {
        if let Err(error) = file.append(&chunk).await {
            file.discard().await;
            return Err(error);
        }
        glommio::yield_if_needed().await;
    }
    if is_cut_short.get() {
        file.discard().await;
        return Err(cut_short());
    }
    let access = file.access();
    Ok((access, file.commit().await?))
}

/// Reads a file into chunks of a size, until its end or until nobody wants more.
///
/// # Errors
/// When the system refuses.
pub async fn read_file(path: &Path, chunks: &Chunks, size: usize) -> io::Result<()> {
    let mut file = Source::open(path).await?;
    while !chunks.has_ended.get() {
        let mut chunk = vec![0; size];
        let filled = file.fill(&mut chunk).await?;
        chunk.truncate(filled);
        if filled > 0 {
            chunks.send(Bytes::from(chunk)).await;
        }
        if filled < size {
            break;
        }
        glommio::yield_if_needed().await;
    }
    file.close().await
}

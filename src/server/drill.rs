//! A drill of the disk (DEBUG FILE): so many bytes are written to a file and read back beside the
//! shard's clients, by the means by which everything that lasts is written. An operator learns what
//! the disk gives and what it costs the clients, before a snapshot depends on it.
//!
//! This is the loop's half: it makes the chunks that the task writes and compares those that it
//! reads, a few per turn.

use super::background::{self, Background, Chunks};
use super::files::{self, Access};
use crate::base::clock::monotonic_ns;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// One chunk, in bytes: some 10 us of copying.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks made, and chunks compared, in one turn at most.
const CHUNKS_PER_TURN: usize = 8;

/// How it went: how the file was accessed, and how long writing and reading took in nanoseconds.
type Outcome = io::Result<(Access, u64, u64)>;

/// See the module's head.
pub struct Drill {
    /// What every chunk is a part of.
    pattern: Bytes,
    bytes: u64,
    made: u64,
    compared: u64,
    is_wrong: bool,
    shared: Rc<Shared>,
}

/// What the loop's half and the task exchange.
#[derive(Default)]
struct Shared {
    to_file: Chunks,
    from_file: Chunks,
    is_cut_short: Cell<bool>,
    outcome: RefCell<Option<Outcome>>,
}

impl Drill {
    /// Begins to write and read so many bytes, in the working directory.
    pub fn begin(bytes: u64, background: &Background) -> Drill {
        let pattern: Vec<u8> = (0..CHUNK_BYTES as u32).map(|i| (i * 7 + (i >> 8)) as u8).collect();
        let shared: Rc<Shared> = Rc::default();
        let task = Rc::clone(&shared);
        let path = PathBuf::from(format!("drill-{}.tmp", std::process::id()));
        background.start(async move {
            let outcome = write_and_read(&task, &path).await;
            files::remove(&path).await;
            *task.outcome.borrow_mut() = Some(outcome);
            task.from_file.end();
        });
        Drill { pattern: pattern.into(), bytes, made: 0, compared: 0, is_wrong: false, shared }
    }

    /// Ends it before its time.
    pub fn cut_short(&self) {
        self.shared.is_cut_short.set(true);
        self.shared.to_file.end();
        self.shared.from_file.end();
    }

    /// The loop's part of a turn. Returns what to report when it is over.
    pub fn turn(&mut self) -> Option<String> {
        for _ in 0..CHUNKS_PER_TURN {
            let left = self.bytes - self.made;
            if left == 0 || self.shared.is_cut_short.get() {
                self.shared.to_file.end();
                break;
            }
            let len = left.min(CHUNK_BYTES as u64);
            if !self.shared.to_file.offer(|| self.pattern.slice(..len as usize)) {
                break;
            }
            self.made += len;
        }
        for _ in 0..CHUNKS_PER_TURN {
            let Some(chunk) = self.shared.from_file.take() else { break };
            self.compared += chunk.len() as u64;
            self.is_wrong |= self.pattern[..chunk.len()] != chunk;
        }
        if !self.shared.from_file.is_over() {
            return None;
        }
        let outcome = self.shared.outcome.borrow_mut().take()?;
        Some(self.report(outcome))
    }

    fn report(&self, outcome: Outcome) -> String {
        let (access, write_ns, read_ns) = match outcome {
            Ok(took) => took,
            Err(error) => return format!("state:failed\r\nreason:{error}\r\n"),
        };
        if self.is_wrong || self.compared != self.bytes {
            let compared = self.compared;
            return format!(
                "state:failed\r\nreason:other bytes came back ({compared} of them)\r\n"
            );
        }
        let rate = |ns: u64| self.bytes as f64 / 1_048_576.0 / (ns.max(1) as f64 / 1e9);
        format!(
            "state:done\r\nbytes:{}\r\naccess:{access:?}\r\nwrite_ms:{}\r\nwrite_mib_per_s:{:.0}\r\n\
             read_ms:{}\r\nread_mib_per_s:{:.0}\r\n",
            self.bytes,
            write_ns / 1_000_000,
            rate(write_ns),
            read_ns / 1_000_000,
            rate(read_ns)
        )
    }
}

async fn write_and_read(shared: &Shared, path: &std::path::Path) -> Outcome {
    let began = monotonic_ns();
    let (access, replaced) =
        background::write_file(path, &shared.to_file, &shared.is_cut_short).await?;
    let written = monotonic_ns();
    replaced.let_go().await;
    background::read_file(path, &shared.from_file, CHUNK_BYTES).await?;
    let (write_ns, read_ns) = (written - began, monotonic_ns() - written);
    if shared.is_cut_short.get() {
        Err(background::cut_short())
    } else {
        Ok((access, write_ns, read_ns))
    }
}

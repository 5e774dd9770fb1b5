//! How a shard ends: in phases, of which each begins when the one before is over on this shard, and
//! which all shards pass together where it matters. [`ShardLoop::stop`] has their order.
//!
//! Nothing is half done at the end: a command over several shards that has begun runs on all of
//! them, since none leaves before all agree that nothing is under way ([`quiescence`]). And nothing
//! is used after it has been closed: a connection whose outlet is lent is somebody else's too, and a
//! ring is woken by others; both are closed when all have let go.
//!
//! Each phase has a limit. A shard that runs into one of the first says so and ends all the same,
//! but then it closes nothing: what others may still use goes with the process.

use super::ShardLoop;
use crate::base::clock::{self, Now};
use crate::base::limits;
use crate::server::background;
use crate::server::drill::Drill;
use crate::server::quiescence::Voter;
use crate::server::ring::Wait;
use crate::server::supervise;

/// What a shard that stops is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What is under way comes to its end: mail, commands over several shards, lent outlets.
    Drain,
    /// What is being written in the background comes to its end.
    Background,
    /// Replies leave, as far as their clients take them.
    Flush,
    /// The others let go of what is this shard's.
    Leave,
}

/// A stop under way.
#[derive(Debug)]
pub(super) struct Stop {
    phase: Phase,
    /// When the phase began.
    began_ns: u64,
    voter: Voter,
    /// Batches that had been moved as of the last vote.
    moved: u64,
    /// Whether nothing has been given up so far.
    is_orderly: bool,
}

/// How a stop has come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Not yet.
    No,
    /// Everything may be closed.
    Orderly,
    /// Others may still be using what is this shard's.
    GivenUp,
}

impl ShardLoop {
    /// Whether the shard takes no more input.
    #[inline]
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// One turn of a shard that stops, and what comes after it.
    ///
    /// # Errors
    /// When the kernel refuses the ring's one call.
    pub(super) fn stop(&mut self) -> std::io::Result<Stopped> {
        if self.stop.is_none() {
            self.begin_stop();
        }
        self.ring.turn(Wait::AtMostUs(background::WAIT_US), &mut self.events)?;
        self.turn(Now::read());
        match self.phase() {
            Phase::Drain => {
                if self.is_drained() || self.gives_up(limits::STOP_PHASE_MS) {
                    self.pass_to(Phase::Background);
                    self.drill.iter().for_each(Drill::cut_short);
                }
            }
            // The place of the last snapshot: no command runs any more, and clients are still there
            // to be told.
            Phase::Background => {
                if !self.background.is_outstanding() || self.gives_up(limits::STOP_PHASE_MS) {
                    self.pass_to(Phase::Flush);
                }
            }
            Phase::Flush => {
                // A client that does not take its replies has had its time: that is in order.
                if self.is_flushed() || self.waited_ms() > limits::STOP_FLUSH_MS {
                    self.pass_to(Phase::Leave);
                    self.neighbours.leave(self.number, self.node.parts());
                }
            }
            Phase::Leave => {
                if self.neighbours.have_left() {
                    return Ok(self.judge());
                }
                if self.gives_up(limits::STOP_PHASE_MS) {
                    return Ok(Stopped::GivenUp);
                }
            }
        }
        Ok(Stopped::No)
    }

    /// No more input: nobody is let in, and what comes is not run.
    fn begin_stop(&mut self) {
        if self.number == 0 {
            supervise::stopping();
        }
        self.load.cut_short();
        self.stop = Some(Stop {
            phase: Phase::Drain,
            began_ns: clock::monotonic_ns(),
            voter: Voter::new(self.number),
            moved: 0,
            is_orderly: true,
        });
    }

    fn phase(&self) -> Phase {
        self.stop.as_ref().map_or(Phase::Drain, |stop| stop.phase)
    }

    fn pass_to(&mut self, phase: Phase) {
        if let Some(stop) = &mut self.stop {
            (stop.phase, stop.began_ns) = (phase, clock::monotonic_ns());
        }
    }

    /// How long the phase has lasted.
    fn waited_ms(&self) -> u64 {
        let began_ns = self.stop.as_ref().map_or(0, |stop| stop.began_ns);
        clock::monotonic_ns().saturating_sub(began_ns) / 1_000_000
    }

    /// Whether the phase has lasted too long, or others have given up: then this one does too.
    fn gives_up(&mut self, limit_ms: u64) -> bool {
        let is_too_long = self.waited_ms() > limit_ms;
        let gives_up = is_too_long || self.neighbours.has_failed();
        if gives_up && let Some(stop) = &mut self.stop {
            if is_too_long {
                let phase = stop.phase;
                tracing::warn!("Shard {} gives up its {phase:?} phase", self.number);
            }
            stop.is_orderly = false;
            self.neighbours.fail();
        }
        gives_up
    }

    /// Whether nothing is under way any more, on any shard.
    fn is_drained(&mut self) -> bool {
        let is_at_rest = self.node.is_at_rest();
        let mail = self.node.mail();
        let is_quiet = is_at_rest && !mail.has_mail() && !mail.has_outgoing();
        let moved = mail.moved();
        let Some(stop) = &mut self.stop else { return false };
        let has_acted = std::mem::replace(&mut stop.moved, moved) != moved;
        stop.voter.turn(&self.neighbours.votes, is_quiet, has_acted)
    }

    /// Whether everybody here has been told everything.
    fn is_flushed(&self) -> bool {
        self.connections.iter().all(|(_, connection)| {
            let client = self.node.client(connection.client);
            let owes = client.is_some_and(|client| !client.replies.is_empty());
            connection.is_closing || !(connection.is_sending || owes)
        })
    }

    fn judge(&self) -> Stopped {
        if self.neighbours.has_failed() || self.stop.as_ref().is_none_or(|stop| !stop.is_orderly) {
            return Stopped::GivenUp;
        }
        debug_assert!(self.node.is_at_rest(), "something is still under way");
        debug_assert!(self.neighbours.all_parts_have_run(), "half a command over several shards");
        Stopped::Orderly
    }
}

//! How a shard ends: in phases, of which each begins when the one before is over on this shard, and
//! which all shards pass together where it matters. [`ShardLoop::stop`] has their order.
//!
//! Nothing is half done at the end: a command over several shards that has begun runs on all of
//! them, since none leaves before all agree that nothing is under way ([`quiescence`]). And nothing
//! is used after it has been closed: a connection whose outlet is lent is somebody else's too, and a
//! ring is woken by others; both are closed when all have let go.
//!
//! Most phases have a limit. A shard that runs into one of the first says so and ends all the same,
//! but then it closes nothing: what others may still use goes with the process. The last save takes as
//! long as it takes, and so does what has to come to its end before it: what would be lost is data.
//!
//! **The last save** has every acknowledged write: it is cut when all shards agree that nothing is under
//! way, and from then on nothing is run. If it fails, and nobody has said that the end is to come all
//! the same, the stop is taken back: until here input has only been left where it is, so clients go on
//! as if nothing had been.

use super::ShardLoop;
use crate::base::clock::{self, Now};
use crate::base::limits;
use crate::server::background;
use crate::server::drill::Drill;
use crate::server::neighbours::LastSave;
use crate::server::quiescence::Voter;
use crate::server::ring::Wait;
use crate::server::supervise;

/// What a shard that stops is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What is under way comes to its end: mail, commands over several shards, lent outlets.
    Drain,
    /// The data is saved for the last time.
    Save,
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
    /// The number of the request for it.
    number: u64,
    phase: Phase,
    /// Whether this shard has cut for the last save.
    has_cut: bool,
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
        let number = self.instance.stop_number();
        if self.stop.as_ref().is_some_and(|stop| stop.number != number) {
            // The one before has been taken back, and there is another already.
            self.go_on_after_stop();
        }
        if self.stop.is_none() {
            self.begin_stop(number);
        }
        let wait = if self.is_saving { Wait::No } else { Wait::AtMostUs(background::WAIT_US) };
        self.ring.turn(wait, &mut self.events)?;
        self.turn(Now::read());
        self.is_saving = self.save_at_end();
        match self.phase() {
            Phase::Drain => {
                let gives_up = !self.is_to_save() && self.gives_up(limits::STOP_PHASE_MS);
                if self.is_drained() || gives_up {
                    self.pass_to(Phase::Save);
                    self.drill.iter().for_each(Drill::cut_short);
                }
            }
            Phase::Save => match self.neighbours.last_save(number) {
                LastSave::Undecided if self.number == 0 => self.decide_last_save(number),
                LastSave::Undecided if self.neighbours.has_failed() => self.end_saving(),
                LastSave::Undecided => {}
                LastSave::Begun => {
                    self.cut_at_end();
                    if self.number == 0 {
                        self.follow_last_save(number);
                    }
                }
                LastSave::Over => self.end_saving(),
            },
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

    /// What comes is not run.
    fn begin_stop(&mut self, number: u64) {
        self.load.cut_short();
        self.cut_syncs_short();
        self.stop = Some(Stop {
            number,
            phase: Phase::Drain,
            has_cut: false,
            began_ns: clock::monotonic_ns(),
            voter: Voter::new(self.number, number),
            moved: 0,
            is_orderly: true,
        });
    }

    /// Whether what has not been run yet never will be.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self.phase(), Phase::Drain | Phase::Save)
    }

    /// Whether who comes now is turned away. As long as the stop may be taken back, he waits as all
    /// others do.
    pub(super) fn turns_newcomers_away(&self) -> bool {
        self.is_final() || (self.is_stopping() && self.neighbours.has_failed())
    }

    /// The stop has been taken back, if there was one: what clients have sent meanwhile is run now.
    pub(super) fn go_on_after_stop(&mut self) {
        if self.stop.take().is_none() {
            return;
        }
        let places: Vec<usize> = self.connections.iter().map(|(at, _)| at).collect();
        for at in places {
            self.feed_later(at as u32);
        }
    }

    // ---- the last save -----------------------------------------------------------------------

    /// Whether the data is to be saved before the end: if that was said, or if there are save points.
    /// What is only half there is not saved over what was whole.
    fn is_to_save(&self) -> bool {
        let wanted = self.instance.shutdown().save;
        let wanted = wanted.unwrap_or_else(|| !self.node.config().save().is_empty());
        let is_whole = !self.instance.persistence().is_loading() || self.is_whole_though_loading();
        wanted && is_whole && !self.neighbours.has_failed()
    }

    /// This shard's part of a snapshot that is being made, or given up.
    fn save_at_end(&mut self) -> bool {
        !self.is_final() && self.produce(None)
    }

    /// On the first shard, when nothing is under way any more.
    fn decide_last_save(&mut self, number: u64) {
        if !self.is_saving_over() {
            return;
        }
        if !self.is_to_save() {
            return self.end_for_good(number);
        }
        tracing::info!("Saving the final RDB snapshot before exiting.");
        self.begin_last_save();
        self.neighbours.tell_last_save(number, LastSave::Begun);
    }

    fn cut_at_end(&mut self) {
        if let Some(stop) = &mut self.stop
            && !std::mem::replace(&mut stop.has_cut, true)
        {
            self.node.shard().begin_snapshot();
        }
    }

    /// On the first shard: the end, or none.
    fn follow_last_save(&mut self, number: u64) {
        self.is_saving_over();
        match self.last_save() {
            None => {}
            Some(Ok(())) => self.end_for_good(number),
            Some(Err(())) if self.instance.shutdown().force => {
                tracing::warn!("Error trying to save the DB, and the server ends all the same.");
                self.end_for_good(number);
            }
            Some(Err(())) => {
                tracing::warn!("Error trying to save the DB, can't exit.");
                self.instance.take_back_stop();
                self.instance.hold_writes(false);
                supervise::goes_on();
                self.answer_stoppers();
            }
        }
    }

    /// On the first shard: there is no way back. Newcomers are turned away before the first client is
    /// left, so that nobody who has seen that gets into the backlog of a server that is going.
    fn end_for_good(&mut self, number: u64) {
        if let Some(acceptor) = &self.acceptor {
            acceptor.close();
        }
        self.neighbours.tell_last_save(number, LastSave::Over);
        // At once: who is told may be gone before this shard's next turn, and is handed nobody any more.
        self.end_saving();
    }

    /// From here on there is no way back.
    fn end_saving(&mut self) {
        if self.number == 0 {
            supervise::stopping();
        }
        self.pass_to(Phase::Background);
    }

    // ---- phases ------------------------------------------------------------------------------

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

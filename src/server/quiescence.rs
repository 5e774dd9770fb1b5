//! Shards find out together that nothing is under way any more: no mail, no command over several
//! shards, no outlet that is lent.
//!
//! That no shard has anything to do when it looks is not enough: what one has just said to another
//! may come after that one has looked. So shards vote in rounds. A shard votes when it is quiet, once
//! per round, and its vote is *clean* if it has taken and said nothing since its vote in the round
//! before. A round begins for a shard when it has seen all votes of the one before, and it looks into
//! its mail once more before it votes again. When all votes of a round are clean, nothing is under
//! way: what was said before its sender's vote in the round before was visible when the receiver
//! looked again, and would have been taken; what was said later makes its sender's vote unclean.
//! All shards see the same votes, so all come to the same end.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the shards share: the votes of the last two rounds. No shard is further ahead of another
/// than that.
#[derive(Debug)]
pub struct Votes(Vec<[AtomicU64; 2]>);

/// One shard's side.
#[derive(Debug)]
pub struct Voter {
    shard: usize,
    round: u64,
    has_voted: bool,
    is_clean: bool,
}

impl Votes {
    /// For so many shards.
    pub fn new(shards: usize) -> Votes {
        Votes((0..shards).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect())
    }

    fn of(&self, shard: usize, round: u64) -> &AtomicU64 {
        &self.0[shard][(round % 2) as usize]
    }
}

impl Voter {
    /// Of a shard that has not voted yet. `attempt` counts the times that shards have begun to vote, from
    /// 1: votes of an earlier one are none of a later.
    pub fn new(shard: usize, attempt: u64) -> Voter {
        Voter { shard, round: attempt << 32, has_voted: false, is_clean: false }
    }

    /// To be called after each turn: `is_quiet` says that nothing is left to do here, and
    /// `has_acted` that mail has been taken or posted since the last call. Returns whether all
    /// shards agree.
    pub fn turn(&mut self, votes: &Votes, is_quiet: bool, has_acted: bool) -> bool {
        self.is_clean &= !has_acted;
        if !self.has_voted {
            if is_quiet {
                let vote = self.round << 1 | u64::from(self.is_clean);
                votes.of(self.shard, self.round).store(vote, Ordering::SeqCst);
                (self.has_voted, self.is_clean) = (true, true);
            }
            return false;
        }
        let (mut all_clean, round) = (true, self.round);
        for shard in 0..votes.0.len() {
            let vote = votes.of(shard, round).load(Ordering::SeqCst);
            if vote >> 1 != round {
                return false;
            }
            all_clean &= vote & 1 == 1;
        }
        if !all_clean {
            // The next look is one after all votes of this round.
            (self.round, self.has_voted) = (round + 1, false);
        }
        all_clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Random;

    /// Shards that say things to each other for a while, in any order of steps: when one says that
    /// nothing is under way, that is so, and all others come to say it too.
    #[test]
    fn nothing_is_under_way_when_all_agree() {
        for seed in 0..2_000 {
            let mut random = Random::new(seed);
            let shards = 1 + random.below(4) as usize;
            let votes = Votes::new(shards);
            let mut voters: Vec<Voter> =
                (0..shards).map(|shard| Voter::new(shard, 1 + seed)).collect();
            let mut mail = vec![0u32; shards];
            let mut agreed = vec![false; shards];
            // What is left to be said in all: a message may cause others until that is used up.
            let mut left = random.below(60);
            mail[0] = 1;
            for _ in 0..100_000 {
                let me = random.below(shards as u64) as usize;
                let taken = std::mem::take(&mut mail[me]);
                let mut has_acted = taken > 0;
                for _ in 0..taken {
                    for _ in 0..random.below(3).min(left) {
                        left -= 1;
                        mail[random.below(shards as u64) as usize] += 1;
                        has_acted = true;
                    }
                }
                // What it says to itself it has yet to do.
                let is_quiet = mail[me] == 0;
                if !agreed[me] && voters[me].turn(&votes, is_quiet, has_acted) {
                    assert!(mail.iter().all(|count| *count == 0), "seed {seed}");
                    agreed[me] = true;
                }
                assert!(!has_acted || agreed.iter().all(|agreed| !agreed), "seed {seed}");
                if agreed.iter().all(|agreed| *agreed) {
                    break;
                }
            }
            assert!(agreed.iter().all(|agreed| *agreed), "seed {seed}: {voters:?}");
        }
    }
}

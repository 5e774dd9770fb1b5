//! The rules of order by name, so that the simulator can break one and must then find a history
//! that no serial order explains. Outside tests nothing is ever broken and the question costs
//! nothing.

/// A rule that the router keeps. Those of whoever runs its turns are broken by the simulator itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Multi-shard commands lock their keys.
    Locks,
    /// A single-shard command that meets a lock waits in the key's queue.
    Queues,
    /// A receiver takes what is stamped up to its cut, and nothing later.
    Cut,
    /// Nothing runs before mail that could not be taken yet and may be its cause.
    Backlog,
    /// A batch that did not fit into its queue holds back its whole turn.
    Spill,
    /// What was taken runs in the order of stamps, before the shard's own input.
    StampOrder,
    /// A multi-shard command holds back the later commands of its pipeline.
    HoldBack,
    /// Only a reply that nothing stands before leaves from the shard that made it.
    Lone,
    /// The cut of a snapshot locks every shard whole.
    CutAlone,
    /// A transaction over several shards has its place in the stream where it was announced.
    Announce,
    /// Every party of an announced transaction says when it has done its part, and the stream waits
    /// for that.
    EndParts,
    /// What every shard does at one moment is journaled by one of them.
    OneSpeaker,
    /// While somebody holds a key, nothing else lets it expire.
    LockedExpiry,
    /// All that came before a snapshot's cut stands before it in the stream, and all else after.
    Barrier,
    /// While another server is followed, all shards lock in the order of its stream.
    StreamOrder,
    /// Who is asked for locks in another order than is in force by the time that they are granted begins
    /// again.
    BeginAgain,
    /// Where replies wait for safety, none is given before its command has run everywhere.
    SafeAnswers,
    /// Where replies wait for safety, none leaves from another shard.
    SafeDepartures,
}

#[cfg(not(test))]
#[inline(always)]
pub(super) const fn broken(_: Rule) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(super) fn broken(rule: Rule) -> bool {
    BROKEN.get() == Some(rule)
}

#[cfg(test)]
pub(super) fn break_rule(rule: Option<Rule>) {
    BROKEN.set(rule);
}

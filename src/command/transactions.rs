//! Transactions, as declared. What they do concerns the order of everything a client sends, so it is
//! done by the router itself ([`Control`]); there are no handlers here.

use super::{Command, Control, Family, Run, flag};

/// What every one of them allows.
const ALWAYS: u32 = flag::NOSCRIPT | flag::LOADING | flag::STALE;

/// MULTI and what belongs to it.
pub const FAMILY: Family = Family {
    group: "transactions",
    commands: &[
        Command::new("DISCARD", Run::Control(Control::Discard))
            .usage("")
            .with(ALWAYS | flag::ALLOW_BUSY)
            .fast()
            .since("2.0.0")
            .complexity("O(N) in the number of queued commands")
            .summary("Forgets the queued commands and the watched keys."),
        Command::new("EXEC", Run::Control(Control::Exec))
            .usage("")
            .with(ALWAYS | flag::SKIP_SLOWLOG)
            .since("1.2.0")
            .complexity("That of the queued commands")
            .summary("Runs the queued commands, all at one moment."),
        Command::new("MULTI", Run::Control(Control::Multi))
            .usage("")
            .with(ALWAYS | flag::NO_MULTI | flag::ALLOW_BUSY)
            .fast()
            .since("1.2.0")
            .summary("Queues the commands that follow until EXEC."),
        Command::new("UNWATCH", Run::Control(Control::Unwatch))
            .usage("")
            .with(ALWAYS | flag::ALLOW_BUSY)
            .fast()
            .since("2.2.0")
            .summary("Forgets the watched keys."),
        Command::new("WATCH", Run::Control(Control::Watch))
            .usage("key...")
            .with(ALWAYS | flag::NO_MULTI | flag::ALLOW_BUSY)
            .fast()
            .keyed("RO")
            .since("2.2.0")
            .complexity("O(1) for every key")
            .summary("Lets the next EXEC do nothing if one of the keys changes before it."),
    ],
};

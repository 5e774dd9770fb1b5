//! MONITOR: shows every command, on whichever shard it comes. How is in [`crate::route`], which knows
//! the clients.

use super::{Command, Control, Family, Run, flag};

/// MONITOR alone.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[Command::new("MONITOR", Run::Control(Control::Monitor))
        .usage("")
        .with(flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE)
        .complexity("O(N) in the number of commands shown")
        .summary("Shows every command that any client sends, until the connection ends.")],
};

//! What clients of a cluster send on every connection, and a server on its own takes as well.

use super::{Command, Effect, Family, Outcome, Run, flag};
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};

const ALWAYS: u32 = flag::LOADING | flag::STALE | flag::CONNECTION;

/// READONLY and READWRITE.
pub const FAMILY: Family = Family {
    group: "cluster",
    commands: &[
        Command::new("READONLY", Run::Session(readonly))
            .usage("")
            .with(ALWAYS)
            .fast()
            .since("3.0.0")
            .summary("Says that reads of this connection may be answered by a replica."),
        Command::new("READWRITE", Run::Session(readwrite))
            .usage("")
            .with(ALWAYS)
            .fast()
            .since("3.0.0")
            .summary("Takes back READONLY."),
    ],
};

/// READONLY.
fn readonly(session: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    session.read_only = true;
    reply.ok();
    Ok(Effect::Read)
}

/// READWRITE.
fn readwrite(session: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    session.read_only = false;
    reply.ok();
    Ok(Effect::Read)
}

//! What lasts: when the data was saved.

use super::{Command, Effect, Family, Outcome, Run, flag, tip};
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};

/// The commands on what lasts.
pub const FAMILY: Family = Family {
    group: "server",
    commands: &[Command::new("LASTSAVE", Run::Session(lastsave))
        .usage("")
        .with(flag::LOADING | flag::STALE | flag::ADMIN | flag::DANGEROUS)
        .fast()
        .tips(tip::VARIES)
        .summary("When the data was last saved, in seconds since 1970.")],
};

/// LASTSAVE.
fn lastsave(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    reply.integer(env.instance.persistence().state().last_save_s);
    Ok(Effect::Read)
}

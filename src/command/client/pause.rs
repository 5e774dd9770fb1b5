//! CLIENT PAUSE and UNPAUSE. Every shard hears of it before the reply is given, so that whoever has
//! read the reply finds no shard still running what has to wait.

use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::command::{Effect, Outcome};
use crate::instance::Pause;
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};

/// CLIENT PAUSE, on one shard. All shards change the same pause in the same way.
pub(super) fn pause(
    _: &mut dyn Iterator<Item = &mut Session>,
    _: u64,
    env: &Env,
    args: &Args,
    reply: &mut Reply,
) -> Outcome {
    let all = match args.len() {
        1 => true,
        2 if args.is(1, "ALL") => true,
        2 if args.is(1, "WRITE") => false,
        2 => return Err(Error::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(Error::Syntax),
    };
    let timeout_ms = parse_i64(args.at(0))
        .ok_or(Error::text("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(Error::text("ERR timeout is negative"));
    }
    let now_ms = env.now.unix_ms;
    let until_ms =
        now_ms.checked_add(timeout_ms).ok_or(Error::text("ERR timeout is out of range"))?;
    env.instance.change_pause(|pause| pause.with(until_ms, all, now_ms));
    reply.ok();
    Ok(Effect::Read)
}

/// CLIENT UNPAUSE, on one shard.
pub(super) fn unpause(
    _: &mut dyn Iterator<Item = &mut Session>,
    _: u64,
    env: &Env,
    _: &Args,
    reply: &mut Reply,
) -> Outcome {
    env.instance.change_pause(|_| Pause::default());
    reply.ok();
    Ok(Effect::Read)
}

//! Client-side caching: the server does not offer it, and says so. What a client asks before it uses
//! it is answered as for a client that does not.

use super::on_or_off;
use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::command::{Effect, Outcome};
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};

/// CLIENT TRACKING: off is what it is.
pub(super) fn tracking(_: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let mut at = 1;
    while at < args.len() {
        let takes = |word| args.is(at, word) && at + 1 < args.len();
        if takes("REDIRECT") {
            parse_i64(args.at(at + 1)).ok_or(Error::NotInteger)?;
            at += 2;
        } else if takes("PREFIX") {
            at += 2;
        } else if ["BCAST", "OPTIN", "OPTOUT", "NOLOOP"].iter().any(|word| args.is(at, word)) {
            at += 1;
        } else {
            return Err(Error::Syntax);
        }
    }
    if on_or_off(args)? {
        return Err(Error::text("ERR client-side caching is not supported by this server"));
    }
    reply.ok();
    Ok(Effect::Read)
}

/// CLIENT CACHING.
pub(super) fn caching(_: &mut Session, _: &Env, _: &Args, _: &mut Reply) -> Outcome {
    Err(Error::text(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
         OPTOUT mode enabled",
    ))
}

/// CLIENT GETREDIR.
pub(super) fn getredir(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    reply.integer(-1);
    Ok(Effect::Read)
}

/// CLIENT TRACKINGINFO.
pub(super) fn trackinginfo(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.integer(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
    Ok(Effect::Read)
}

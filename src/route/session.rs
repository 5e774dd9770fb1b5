//! Commands that concern the session or the server: they run where the client is.

use super::client::ClientKey;
use super::execute::Ran;
use super::observer::Measured;
use super::participant::Context;
use super::pubsub;
use super::requests;
use crate::command::{Command, Control, Run};
use crate::metrics::error_code;
use crate::resp::{Args, Reply, ReplyBuf};

/// Runs a session command, by itself or in its place within a transaction, and counts it. Returns
/// how long it took, in ticks.
pub(super) fn run_session(
    key: ClientKey,
    command: &'static Command,
    args: &Args,
    out: &mut ReplyBuf,
    cx: &mut Context,
) -> u64 {
    let Some(client) = cx.clients.get_mut(key) else {
        return 0;
    };
    let mark = out.mark();
    let resp3 = client.session.resp3;
    let (before, request) = (out.len(), std::mem::take(&mut cx.observer.request));
    let mut reply = Reply::new(out, resp3);
    let outcome = match command.run {
        Run::Session(handler) => handler(&mut client.session, &cx.env, args, &mut reply),
        Run::Pubsub(deed) => pubsub::run(key, deed, args, &mut reply, cx),
        Run::Server(ask) => {
            requests::ask_inside(ask, args, &mut reply, &client.session, &cx.env, cx.post)
        }
        Run::Control(Control::Monitor) => {
            reply.error_text("ERR MONITOR isn't allowed for DENY BLOCKING client");
            return 0;
        }
        _ => {
            reply.ok();
            return 0;
        }
    };
    let ran = match outcome {
        Ok(_) => Ran::Fine,
        Err(error) => {
            out.rewind(mark);
            Reply::new(out, resp3).error(&error);
            Ran::Failed(error_code(&out.bytes()[mark..]))
        }
    };
    let ticks = cx.observer.count(command, ran);
    cx.observer.follow_at_once();
    let measured = Measured { ticks, request, reply: (out.len() - before) as u64 };
    cx.observer.look_at(cx.clients, key, command, args, measured);
    ticks
}

//! The replies of a transaction's calls, made of what their parts replied.

use super::{Planned, Site};
use crate::command::{Control, Gather, Run};
use crate::metrics::error_code;
use crate::resp::{Args, Reply, ReplyBuf};
use crate::route::batch::ClientKey;
use crate::route::exec;
use crate::route::node::Node;
use crate::route::observe::Seen;
use crate::session::{Call, Env};

impl Node {
    /// Writes the reply of one call and counts it, with what planning it took.
    pub(super) fn write_counted(
        &mut self,
        client: ClientKey,
        planned: Planned,
        planning: u64,
        out: &mut ReplyBuf,
    ) -> u64 {
        let (from, here) = (out.mark(), matches!(planned.site, Site::Session));
        let took = planned.ticks + planning;
        // One on the session is counted where it runs: now.
        let call = (!here).then(|| planned.call.clone());
        self.write_reply(client, planned, out);
        let took = took + if here { 0 } else { self.lap() };
        if let Some(call) = call {
            self.count_call(client, &call, took, out, from);
        }
        took
    }

    /// Writes the reply of one call: known already, the session's, or gathered from its parts.
    fn write_reply(&mut self, client: ClientKey, mut planned: Planned, out: &mut ReplyBuf) {
        let Some(resp3) = self.client_mut(client).map(|client| client.session.resp3) else {
            return;
        };
        if let Some(reply) = planned.reply.take() {
            return out.append(&reply, 0, reply.mark());
        }
        planned.results.sort_by_key(|(_, part)| part.part);
        if let Some((results, part)) = planned.results.iter().find(|(_, part)| part.failed) {
            return out.append(&results.replies, part.from, part.to);
        }
        let gather = match planned.site {
            Site::Session => {
                let Call { command, bytes, spans } = &planned.call;
                return self.run_session(client, command, &Args::new(bytes, spans), out);
            }
            Site::Parts(_, gather) | Site::All(_, gather) | Site::Sessions(_, gather) => gather,
            Site::Whole(_) | Site::Across(..) | Site::Watch(_) => Gather::InOrder,
        };
        let parts = &planned.results;
        let texts =
            parts.iter().map(|(results, part)| &results.replies.bytes()[part.from..part.to]);
        match gather {
            Gather::InOrder => {
                if matches!(planned.site, Site::Parts(..)) {
                    Reply::new(out, resp3).array(parts.len());
                }
                for (results, part) in parts {
                    out.append(&results.replies, part.from, part.to);
                }
            }
            Gather::Sum => Reply::new(out, resp3).integer(texts.map(exec::integer).sum()),
            Gather::Ok => Reply::new(out, resp3).ok(),
            Gather::Concat => concat(texts.collect(), out, resp3),
            Gather::Text => Reply::new(out, resp3).verbatim("txt", &joined(texts)),
            Gather::With(gather) => {
                gather(&texts.collect::<Vec<_>>(), &mut Reply::new(out, resp3));
            }
        }
    }

    /// Runs a session command within a transaction.
    pub(in crate::route) fn run_session(
        &mut self,
        key: ClientKey,
        command: &'static crate::command::Command,
        args: &Args,
        out: &mut ReplyBuf,
    ) {
        let Node { clients, config, server, now, .. } = self;
        let Some(client) = clients.get_mut(key.index as usize) else {
            return;
        };
        let env = Env { config, server, now: *now };
        let mark = out.mark();
        let resp3 = client.session.resp3;
        let Run::Session(handler) = command.run else {
            return match command.run {
                Run::Control(Control::Monitor) => Reply::new(out, resp3)
                    .error_text("ERR MONITOR isn't allowed for DENY BLOCKING client"),
                _ => Reply::new(out, resp3).ok(),
            };
        };
        let (before, request) = (out.len(), std::mem::take(&mut self.request));
        let outcome = handler(&mut client.session, &env, args, &mut Reply::new(out, resp3));
        let ran = match outcome {
            Ok(_) => exec::Ran::Fine,
            Err(error) => {
                out.rewind(mark);
                Reply::new(out, resp3).error(&error);
                exec::Ran::Failed(error_code(&out.bytes()[mark..]))
            }
        };
        let ticks = self.count(command, ran);
        self.follow_lookout_at_once();
        let seen = Seen { ticks, request, reply: (out.len() - before) as u64 };
        self.look_at(key, command, args, seen);
    }
}

/// One array of several arrays' elements.
fn concat(texts: Vec<&[u8]>, out: &mut ReplyBuf, resp3: bool) {
    let split = |text: &'_ [u8]| -> (i64, usize) {
        let end = memchr::memchr(b'\r', text).expect("a header line");
        let count = crate::base::number::parse_i64(&text[1..end]).expect("a count");
        (count, end + 2)
    };
    let total: i64 = texts.iter().map(|text| split(text).0).sum();
    Reply::new(out, resp3).array(total as usize);
    for text in texts {
        out.extend(&text[split(text).1..]);
    }
}

/// The texts of several bulk replies, one after another.
fn joined<'a>(texts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut all = String::new();
    for text in texts {
        let start = memchr::memchr(b'\n', text).expect("a header line") + 1;
        let body = &text[start..text.len() - 2];
        // RESP3's verbatim text begins with its format.
        let body = if text[0] == b'=' { &body[4..] } else { body };
        all.push_str(&String::from_utf8_lossy(body));
    }
    all
}

//! How the replies of a command's parts become one.

use super::execute;
use super::message::Results;
use super::plan::{Planned, Site};
use crate::command::Gather;
use crate::resp::{Reply, ReplyBuf};
use smallvec::{SmallVec, smallvec};

/// Writes the reply of a planned command whose parts have all run: what failed, what is known
/// already, or what the parts' replies make together.
pub(super) fn write(planned: &mut Planned, results: &[Results], out: &mut ReplyBuf) {
    if let Some(reply) = planned.reply.take() {
        return out.append(&reply, 0, reply.mark());
    }
    planned.parts.sort_by_key(|(_, part)| part.part);
    if let Some((replies, part)) = planned.failure(results) {
        return out.append(replies, part.from, part.to);
    }
    match &planned.site {
        Site::Parts(_, Gather::InOrder, owners) => in_order(planned, owners, results, out),
        Site::Parts(_, gather, _) | Site::All(_, gather) | Site::Sessions(_, gather) => {
            together(*gather, planned, results, &mut Reply::new(out, planned.resp3));
        }
        Site::One(_) | Site::Across(..) | Site::Watch(_) | Site::Session => {
            for (at, part) in &planned.parts {
                out.append(&results[*at].replies, part.from, part.to);
            }
        }
    }
}

/// One array of a reply per key, each from the shard that owns it.
fn in_order(planned: &Planned, owners: &[u16], results: &[Results], out: &mut ReplyBuf) {
    Reply::new(out, planned.resp3).array(owners.len());
    // The part number of such a command is its shard's; each shard's keys are in order.
    let shards = planned.parts.iter().map(|(_, part)| part.part as usize + 1).max().unwrap_or(0);
    let mut next: SmallVec<[Option<(usize, usize, usize)>; 16]> = smallvec![None; shards];
    for (at, part) in &planned.parts {
        next[part.part as usize] = Some((*at, part.from, part.ends));
    }
    for owner in owners {
        let Some((at, from, end)) = &mut next[usize::from(*owner)] else {
            unreachable!("every shard with a key has replied");
        };
        let to = results[*at].ends[*end];
        out.append(&results[*at].replies, *from, to);
        (*from, *end) = (to, *end + 1);
    }
}

fn together(gather: Gather, planned: &Planned, results: &[Results], reply: &mut Reply) {
    let parts = planned.parts.iter();
    let texts = parts.map(|(at, part)| &results[*at].replies.bytes()[part.from..part.to]);
    match gather {
        Gather::InOrder => {
            for (at, part) in &planned.parts {
                reply.buf().append(&results[*at].replies, part.from, part.to);
            }
        }
        Gather::Sum => reply.integer(texts.map(execute::integer).sum()),
        Gather::Ok => reply.ok(),
        Gather::Concat => concat(texts.collect(), reply),
        Gather::Text => reply.verbatim("txt", &joined(texts)),
        Gather::With(gather) => gather(&texts.collect::<Vec<_>>(), reply),
    }
}

/// One array of several arrays' elements.
fn concat(texts: Vec<&[u8]>, reply: &mut Reply) {
    let split = |text: &'_ [u8]| -> (i64, usize) {
        let end = memchr::memchr(b'\r', text).expect("a header line");
        let count = crate::base::number::parse_i64(&text[1..end]).expect("a count");
        (count, end + 2)
    };
    let total: i64 = texts.iter().map(|text| split(text).0).sum();
    reply.array(total as usize);
    for text in texts {
        reply.buf().extend(&text[split(text).1..]);
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

//! How the replies of a command's parts become one.

use super::exec;
use super::order::{PartReply, Results};
use crate::command::Gather;
use crate::resp::Reply;

/// Writes one reply from those of the parts, which are in order and of which none has failed.
/// `is_list` says that there is one part per key: in order, they are an array.
pub(super) fn write(
    gather: Gather,
    is_list: bool,
    parts: &[(Results, PartReply)],
    reply: &mut Reply,
) {
    let texts = parts.iter().map(|(results, part)| &results.replies.bytes()[part.from..part.to]);
    match gather {
        Gather::InOrder => {
            if is_list {
                reply.array(parts.len());
            }
            for (results, part) in parts {
                reply.buf().append(&results.replies, part.from, part.to);
            }
        }
        Gather::Sum => reply.integer(texts.map(exec::integer).sum()),
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

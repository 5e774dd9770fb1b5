//! SCAN over several shards: a call that finds less than COUNT on one shard goes on with the next,
//! so that a client meets the end of a small keyspace in as few calls as on one shard. Nothing is
//! locked: SCAN promises what stays, not a moment.

use super::plan::cursor_shard;
use crate::base::number;
use crate::command::Call;
use crate::resp::{Args, Reply, ReplyBuf, Span};

/// A SCAN under way.
#[derive(Debug)]
pub(super) struct Walk {
    /// Keys that the client asked for.
    wanted: usize,
    /// Keys found so far, as RESP bulks.
    found: usize,
    elements: Vec<u8>,
    cursor: Vec<u8>,
}

impl Walk {
    /// Begins the walk of a SCAN.
    pub(super) fn new(call: &Call) -> Walk {
        let args = Args::new(&call.bytes, &call.spans);
        // Redis's default is 10; what is no count fails where the command runs.
        let count = (1..args.len()).step_by(2).filter(|at| args.is(*at, "COUNT"));
        let mut count = count;
        let count = count.next_back().and_then(|at| number::parse_usize(args.get(at + 1)?));
        let wanted = count.unwrap_or(10);
        Walk { wanted, found: 0, elements: Vec::new(), cursor: Vec::new() }
    }

    /// Takes in what one shard replied. Returns the shard to go on with, after pointing the call
    /// there, or `None` when the client is to be told.
    pub(super) fn step(&mut self, call: &mut Call, reply: &[u8], shards: usize) -> Option<usize> {
        let (cursor, count, elements) = split(reply)?;
        self.cursor = cursor.to_vec();
        self.found += count;
        self.elements.extend_from_slice(elements);
        let args = Args::new(&call.bytes, &call.spans);
        let here = cursor_shard(&args, shards);
        let rest: Vec<Vec<u8>> = args.from(1).iter().map(<[u8]>::to_vec).collect();
        call.bytes.clear();
        call.spans.clear();
        for word in std::iter::once(cursor).chain(rest.iter().map(Vec::as_slice)) {
            let span = Span { at: call.bytes.len() as u32, len: word.len() as u32 };
            call.spans.push(span);
            call.bytes.extend_from_slice(word);
        }
        let next = cursor_shard(&Args::new(&call.bytes, &call.spans), shards);
        (cursor != b"0" && next != here && self.found < self.wanted).then_some(next)
    }

    /// The reply to the client.
    pub(super) fn write(&self, out: &mut ReplyBuf, resp3: bool) {
        let mut reply = Reply::new(out, resp3);
        reply.array(2);
        reply.bulk(&self.cursor);
        reply.array(self.found);
        out.extend(&self.elements);
    }
}

/// Cursor, number of elements, and the elements' bytes of a SCAN reply; `None` for an error.
fn split(reply: &[u8]) -> Option<(&[u8], usize, &[u8])> {
    let line = |from: usize| {
        let end = from + memchr::memchr(b'\r', reply.get(from..)?)?;
        Some((&reply[from..end], end + 2))
    };
    let (head, at) = line(0)?;
    let (_, at) = (head == b"*2").then(|| line(at))??;
    let (cursor, at) = line(at)?;
    let (count, at) = line(at)?;
    let count = number::parse_usize(count.strip_prefix(b"*")?)?;
    Some((cursor, count, &reply[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_apart() {
        let reply = b"*2\r\n$3\r\n128\r\n*1\r\n$1\r\nk\r\n";
        assert_eq!(split(reply), Some((&b"128"[..], 1, &b"$1\r\nk\r\n"[..])));
        assert_eq!(split(b"-ERR syntax error\r\n"), None);
    }
}

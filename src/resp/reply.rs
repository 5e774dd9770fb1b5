//! Replies, written once in their final bytes.

use crate::base::error::Error;
use crate::base::float;
use crate::value::string::{Blob, Str};
use bytes::Bytes;

/// Reply bytes on their way to a socket, with long strings attached by reference.
#[derive(Debug, Default)]
pub struct ReplyBuf {
    bytes: Vec<u8>,
    /// Long strings and the place in `bytes` before which each belongs, in order.
    attached: Vec<(usize, Bytes)>,
    /// Their total length.
    attached_len: usize,
    /// How many attachments have been looked at: what is asked for a part must not cost the whole.
    #[cfg(test)]
    looked_at: std::cell::Cell<usize>,
}

impl ReplyBuf {
    /// A buffer that writes into the given allocation.
    pub fn with(bytes: Vec<u8>) -> ReplyBuf {
        debug_assert!(bytes.is_empty());
        ReplyBuf { bytes, ..ReplyBuf::default() }
    }

    /// Bytes a client will receive in all.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.attached_len
    }

    /// Whether nothing has been written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.attached.is_empty()
    }

    /// Bytes allocated for this buffer itself.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Makes room for so many bytes more.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// The bytes written so far, without the attached strings. A mark into a buffer is a length of
    /// this slice.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The attached strings with their places.
    pub fn attached(&self) -> &[(usize, Bytes)] {
        &self.attached
    }

    /// Where the next byte goes: the start of a reply that is about to be written.
    #[inline]
    pub fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Takes back everything written since `mark`.
    pub fn rewind(&mut self, mark: usize) {
        self.bytes.truncate(mark);
        while self.attached.last().is_some_and(|(at, _)| *at > mark) {
            let (_, bytes) = self.attached.pop().expect("just seen");
            self.attached_len -= bytes.len();
        }
    }

    /// Appends the part of `other` between two marks.
    #[inline]
    pub fn append(&mut self, other: &ReplyBuf, from: usize, to: usize) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes[from..to]);
        if !other.attached.is_empty() {
            for (at, bytes) in other.attached_between(from, to) {
                self.attached.push((base + at - from, bytes.clone()));
                self.attached_len += bytes.len();
            }
        }
    }

    /// Bytes a client will receive of the part between two marks.
    #[inline]
    pub fn len_between(&self, from: usize, to: usize) -> usize {
        let mut len = to - from;
        if !self.attached.is_empty() {
            len +=
                self.attached_between(from, to).iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        }
        len
    }

    /// What is attached to the part between two marks. A string attached at a mark belongs to the
    /// reply whose header it follows, so it lies after the start of that reply and at most at its
    /// end minus the final CRLF.
    ///
    /// Searched for, not filtered out: a reply in as many parts as it has attachments (an MGET over
    /// shards) would else cost the square of them.
    fn attached_between(&self, from: usize, to: usize) -> &[(usize, Bytes)] {
        let until = |mark: usize| {
            self.attached.partition_point(|(at, _)| {
                #[cfg(test)]
                self.looked_at.set(self.looked_at.get() + 1);
                *at <= mark
            })
        };
        &self.attached[until(from)..until(to)]
    }

    /// Appends raw reply bytes.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Attaches bytes here: they are shared with whoever else holds them, not copied.
    pub fn attach(&mut self, bytes: Bytes) {
        self.attached_len += bytes.len();
        self.attached.push((self.bytes.len(), bytes));
    }

    /// Forgets everything, keeps the allocation.
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.attached.clear();
        self.attached_len = 0;
    }

    /// Gives the allocation back for reuse.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Writes one reply in the client's protocol version.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut ReplyBuf,
    resp3: bool,
}

impl<'a> Reply<'a> {
    /// A writer into `out`; `resp3` is what the client said with HELLO.
    #[inline]
    pub fn new(out: &'a mut ReplyBuf, resp3: bool) -> Reply<'a> {
        Reply { out, resp3 }
    }

    /// Whether the client speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.resp3
    }

    /// The buffer underneath, for who composes replies from parts.
    pub fn buf(&mut self) -> &mut ReplyBuf {
        self.out
    }

    /// `+text`.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        self.out.bytes.push(b'+');
        self.out.bytes.extend_from_slice(text.as_bytes());
        self.out.bytes.extend_from_slice(b"\r\n");
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// `-text`; line breaks inside become spaces, since a reply is one line.
    pub fn error(&mut self, error: &Error) {
        self.error_text(&error.to_string());
    }

    /// `-text` from a text that begins with its code.
    pub fn error_text(&mut self, text: &str) {
        let bytes = &mut self.out.bytes;
        bytes.push(b'-');
        let text = text.trim_end_matches(['\r', '\n']).bytes();
        bytes.extend(text.map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        bytes.extend_from_slice(b"\r\n");
    }

    /// `:n`.
    #[inline]
    pub fn integer(&mut self, n: i64) {
        self.header(b':', n);
    }

    /// A binary-safe string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        let out = &mut self.out.bytes;
        out.reserve(bytes.len() + 16);
        out.push(b'$');
        out.extend_from_slice(itoa::Buffer::new().format(bytes.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }

    /// A binary-safe string that was made for this reply: a long one is attached, not copied.
    pub fn owned(&mut self, bytes: Vec<u8>) {
        if bytes.len() < crate::base::limits::ATTACH_MIN {
            return self.bulk(&bytes);
        }
        self.header(b'$', bytes.len() as i64);
        self.out.attach(bytes.into());
        self.out.bytes.extend_from_slice(b"\r\n");
    }

    /// A stored string: a long one is attached, not copied.
    #[inline]
    pub fn string(&mut self, value: Str) {
        match value {
            Str::Bytes(bytes) => self.bulk(bytes),
            Str::Int(n) => self.bulk(itoa::Buffer::new().format(n).as_bytes()),
            Str::Blob(blob) if blob.len() < crate::base::limits::ATTACH_MIN => self.bulk(&blob),
            Str::Blob(blob) => {
                self.header(b'$', blob.len() as i64);
                self.out.attach(shared(&blob));
                self.out.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Absence.
    #[inline]
    pub fn null(&mut self) {
        self.out.bytes.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// Absence where an array was expected (an aborted EXEC).
    pub fn null_array(&mut self) {
        self.out.bytes.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// An array of `len` replies, which follow.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// A map of `len` pairs, which follow; in RESP2 an array of twice as many.
    pub fn map(&mut self, len: usize) {
        if self.resp3 {
            self.header(b'%', len as i64);
        } else {
            self.header(b'*', 2 * len as i64);
        }
    }

    /// A set of `len` replies, which follow; in RESP2 an array.
    pub fn set(&mut self, len: usize) {
        self.header(if self.resp3 { b'~' } else { b'*' }, len as i64);
    }

    /// A truth value; in RESP2 1 or 0.
    pub fn bool(&mut self, truth: bool) {
        if self.resp3 {
            self.out.bytes.extend_from_slice(if truth { b"#t\r\n" } else { b"#f\r\n" });
        } else {
            self.integer(i64::from(truth));
        }
    }

    /// A floating-point number; in RESP2 its text as a bulk.
    pub fn double(&mut self, n: f64) {
        let mut text = Vec::new();
        float::write_f64(&mut text, n);
        if self.resp3 {
            self.out.bytes.push(b',');
            self.out.bytes.extend_from_slice(&text);
            self.out.bytes.extend_from_slice(b"\r\n");
        } else {
            self.bulk(&text);
        }
    }

    /// An integer of any size, as its digits; in RESP2 a bulk.
    pub fn big_number(&mut self, digits: &str) {
        if !self.resp3 {
            return self.bulk(digits.as_bytes());
        }
        self.out.bytes.push(b'(');
        self.out.bytes.extend_from_slice(digits.as_bytes());
        self.out.bytes.extend_from_slice(b"\r\n");
    }

    /// `len` pairs that describe the reply which follows them. RESP3 only.
    pub fn attribute(&mut self, len: usize) {
        debug_assert!(self.resp3);
        self.header(b'|', len as i64);
    }

    /// Something of `len` parts that is no reply. RESP3 only.
    pub fn push(&mut self, len: usize) {
        debug_assert!(self.resp3);
        self.header(b'>', len as i64);
    }

    /// Text with a format of three letters (`txt`, `mkd`); in RESP2 a bulk.
    pub fn verbatim(&mut self, format: &str, text: &str) {
        debug_assert_eq!(format.len(), 3);
        if !self.resp3 {
            return self.bulk(text.as_bytes());
        }
        self.header(b'=', text.len() as i64 + 4);
        let out = &mut self.out.bytes;
        out.extend_from_slice(format.as_bytes());
        out.push(b':');
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn header(&mut self, sigil: u8, n: i64) {
        let out = &mut self.out.bytes;
        out.push(sigil);
        out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// A stored string as bytes to be attached: they keep the string alive, and nothing is copied. (The
/// owner's allocation makes it: 20 ns more than the bare `Arc` took, for at least
/// [`ATTACH_MIN`](crate::base::limits::ATTACH_MIN) bytes that the kernel has to copy. In exchange what
/// is attached may come from anywhere.)
fn shared(blob: &Blob) -> Bytes {
    struct Owner(Blob);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Owner(Blob::clone(blob)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::string::BlobRef;
    use std::sync::Arc;

    #[test]
    fn parts_carry_their_attachments() {
        let blob: Blob = Arc::new(vec![b'x'; crate::base::limits::ATTACH_MIN]);
        let mut one = ReplyBuf::default();
        Reply::new(&mut one, false).ok();
        let from = one.mark();
        Reply::new(&mut one, false).string(Str::Blob(BlobRef::from(&blob)));
        let to = one.mark();
        Reply::new(&mut one, false).ok();
        let mut two = ReplyBuf::default();
        Reply::new(&mut two, false).integer(7);
        two.append(&one, from, to);
        two.append(&one, to, one.mark());
        assert_eq!(two.bytes(), b":7\r\n$16384\r\n\r\n+OK\r\n");
        assert_eq!(two.attached().len(), 1);
        assert_eq!(two.attached()[0].0, 4 + 8);
        assert_eq!(two.len(), two.bytes().len() + blob.len());
        assert_eq!((two.len_between(0, 4), two.len_between(4, 14)), (4, 10 + blob.len()));
        two.rewind(4);
        assert_eq!(two.len(), 4);
    }

    /// An MGET of many long strings over two shards is put together part by part.
    #[test]
    fn a_part_costs_what_is_in_it() {
        const PARTS: usize = 20_000;
        let long = Bytes::from_static(b"long");
        let (mut all, mut copy, mut marks) = (ReplyBuf::default(), ReplyBuf::default(), vec![0]);
        for _ in 0..PARTS {
            all.extend(b"$4\r\n");
            all.attach(long.clone());
            all.extend(b"\r\n");
            marks.push(all.mark());
        }
        for part in marks.windows(2) {
            assert_eq!(all.len_between(part[0], part[1]), 10);
            copy.append(&all, part[0], part[1]);
        }
        assert_eq!((copy.len(), copy.attached()), (all.len(), all.attached()));
        // Two searches for a length and two for a copy, each of at most 16 steps for so many.
        assert!(all.looked_at.get() <= PARTS * 4 * 16, "{}", all.looked_at.get());
        // And it is the same string that is attached.
        assert!(copy.attached().iter().all(|(_, bytes)| bytes.as_ptr() == long.as_ptr()));
    }

    #[test]
    fn an_error_is_one_line() {
        let mut out = ReplyBuf::default();
        Reply::new(&mut out, false).error_text("ERR a\r\nb\n");
        assert_eq!(out.bytes(), b"-ERR a  b\r\n");
    }
}

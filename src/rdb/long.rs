//! A long string on its way into a stream, a piece at a time: so that nobody has to wait while half a
//! gigabyte is compressed or copied.

use super::string::{put_length, put_lzf_lengths};
use super::write::{SAVED_MIN, Writer};
use crate::value::string::Blob;
use bytes::{Bytes, BytesMut};

/// Bytes that one step compresses or sends. To compress them takes some 200 us.
const PIECE: usize = 64 * 1024;

/// A string's value, shared with its key.
#[derive(Debug)]
pub struct Long {
    whole: Bytes,
    at: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It is being compressed: what has become of it so far.
    Compressing(BytesMut),
    /// Its lengths come next.
    Beginning,
    /// It is being sent.
    Sending,
}

/// What became of a step.
#[derive(Debug)]
pub enum Step {
    /// Nothing to be sent yet.
    Working,
    /// What stands behind the record's beginning ([`Writer::begin_record`]), and pieces behind it.
    Head(Bytes),
    /// The next piece; whether it is the last.
    Piece(Bytes, bool),
}

/// Who keeps a string alive while it is sent.
struct Owner(Blob);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Long {
    /// Shorter strings are not worth it.
    pub const LEN_MIN: usize = PIECE;

    /// A value that `writer` compresses, or does not.
    pub fn new(writer: &Writer, value: Blob) -> Long {
        let stage = match writer.lzf {
            Some(_) => Stage::Compressing(BytesMut::new()),
            None => Stage::Beginning,
        };
        Long { whole: Bytes::from_owner(Owner(value)), at: 0, stage }
    }

    /// Goes on.
    ///
    /// It is compressed in windows, none of which refers to what lies before it: as LZF goes, one after
    /// the other they are the whole.
    pub fn step(&mut self, writer: &mut Writer) -> Step {
        let end = self.whole.len().min(self.at + PIECE);
        match &mut self.stage {
            Stage::Compressing(out) => {
                let Some(lzf) = &mut writer.lzf else {
                    (self.at, self.stage) = (0, Stage::Beginning);
                    return Step::Working;
                };
                lzf.append(&self.whole[self.at..end], out);
                self.at = end;
                if out.len() > self.whole.len() - SAVED_MIN {
                    // As it is, it is shorter.
                    (self.at, self.stage) = (0, Stage::Beginning);
                } else if end == self.whole.len() {
                    let mut head = BytesMut::new();
                    put_lzf_lengths(&mut head, out.len(), self.whole.len());
                    self.whole = std::mem::take(out).freeze();
                    (self.at, self.stage) = (0, Stage::Sending);
                    return Step::Head(head.freeze());
                }
                Step::Working
            }
            Stage::Beginning => {
                let mut head = BytesMut::new();
                put_length(&mut head, self.whole.len() as u64);
                self.stage = Stage::Sending;
                Step::Head(head.freeze())
            }
            Stage::Sending => {
                let piece = self.whole.slice(self.at..end);
                self.at = end;
                Step::Piece(piece, end == self.whole.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::read::{self, Value};
    use crate::rdb::{Usage, Version};
    use std::sync::Arc;

    fn sent(writer: &mut Writer, value: &Blob) -> Vec<u8> {
        let (mut long, mut out) = (Long::new(writer, Arc::clone(value)), Vec::new());
        loop {
            match long.step(writer) {
                Step::Working => {}
                Step::Head(piece) | Step::Piece(piece, false) => out.extend_from_slice(&piece),
                Step::Piece(piece, true) => {
                    out.extend_from_slice(&piece);
                    return out;
                }
            }
        }
    }

    #[test]
    fn pieces_are_the_value() {
        let text = |len: usize| -> Vec<u8> { (0..len).map(|i| (i % 1000 / 7) as u8).collect() };
        let noise = |len: usize| -> Vec<u8> {
            let mut random = crate::base::hash::Random::new(3);
            (0..len).map(|_| random.next_u64() as u8).collect()
        };
        for len in [PIECE, PIECE + 1, PIECE + 2, 3 * PIECE, 3 * PIECE + 1, 1_000_000] {
            for (bytes, shrinks) in [(text(len), true), (noise(len), false)] {
                let value: Blob = Arc::new(bytes);
                for compress in [false, true] {
                    let mut writer = Writer::new(compress);
                    let sent = sent(&mut writer, &value);
                    assert_eq!(sent.len() < len, compress && shrinks, "{len}");
                    let read = read::value(Version::V10, 0, &sent).expect("a string");
                    let Value::Bytes(read) = read else { panic!("no number") };
                    assert!(*read == value[..], "{len}");
                }
            }
        }
    }

    #[test]
    fn a_record_in_pieces_is_a_record() {
        let value: Blob = Arc::new(vec![7; 2 * PIECE]);
        let mut writer = Writer::new(false);
        let (mut whole, mut parts) = (BytesMut::new(), BytesMut::new());
        let key = Arc::new(b"key".to_vec());
        writer.begin_record(&mut parts, &key, Some(9), Usage::Freq(3));
        parts.extend_from_slice(&sent(&mut writer, &value));
        let value = crate::value::string::Str::Bytes(&value);
        writer.record(&mut whole, &key, &value, Some(9), Usage::Freq(3));
        assert!(whole == parts);
    }
}

//! The journal: effects in the order they happened here, for whoever replicates or logs them.
//!
//! What is journaled is the effect, not the wish: `SET k v EX 10` leaves as `SET k v PXAT …`,
//! INCRBYFLOAT as the SET of its result, an expired key as its UNLINK. While the journal is off, a
//! command pays one branch for it.
//!
//! # What a chunk is
//!
//! A turn's effects are taken as one [`Chunk`]: RESP commands one after another, which can be sent on
//! as they are, whole and without a copy. So the journal itself writes what belongs between them:
//! `SELECT n` where the database changes, and MULTI and EXEC around a command, or a transaction of
//! this shard alone, that has more than one effect ([`Scope::Unit`]).
//!
//! Two things keep a chunk from being sent whole, and both are rare:
//! - A transaction over several shards is one group for whoever reads the stream. The shard that
//!   leads it *announces* it ([`Journal::announce`]), the others (and the same one) record what they
//!   do for it apart ([`Scope::Part`]), and say when that was all ([`Journal::end_part`]).
//! - A snapshot of all shards leaves a [`Mark::Barrier`] where it cut.
//!
//! `route/stream.rs` makes one stream of all shards' chunks.

use super::locks::TxnId;
use crate::base::limits;
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// Effects of one turn.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// The turn's time in monotonic nanoseconds.
    pub stamp: u64,
    /// Commands in the order they ran, as RESP arrays of bulks.
    pub bytes: Bytes,
    /// Where `bytes` is to be cut, and why; mostly nowhere.
    pub cuts: Vec<Cut>,
    /// What comes after the last cut.
    pub tail: Piece,
    /// Effects of announced transactions.
    pub parts: Vec<Part>,
    /// Their commands.
    pub part_bytes: Bytes,
    /// Announced transactions that this shard has done its part of.
    pub ends: Vec<TxnId>,
}

/// Some of a chunk's commands: all from one cut to the next. It begins in a database and says itself
/// where that changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Where it ends in [`Chunk::bytes`].
    pub end: usize,
    /// The database of its first command.
    pub first_db: usize,
    /// The database of its last command.
    pub last_db: usize,
}

/// A place where a chunk is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// What comes before it, up to the cut before.
    pub piece: Piece,
    /// What stands there.
    pub mark: Mark,
}

/// What stands between two effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A transaction over several shards, or in several steps: this is its place in the stream.
    Announce {
        /// Which.
        txn: TxnId,
        /// How many shards will say that they have done their part.
        parties: u32,
    },
    /// A snapshot of all shards was cut here.
    Barrier,
}

/// An effect of an announced transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub txn: TxnId,
    /// The command's place among those of the transaction.
    pub call: u32,
    /// The database.
    pub db: usize,
    /// Where the command lies in [`Chunk::part_bytes`].
    pub command: Range<usize>,
}

/// What the effects recorded now belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// To nothing: each stands for itself.
    #[default]
    Loose,
    /// To one command, or to one transaction of this shard alone: they stand together.
    Unit,
    /// To a transaction that has been announced.
    Part {
        /// Which.
        txn: TxnId,
        /// The command's place among those of the transaction.
        call: u32,
    },
}

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// See the module's head.
#[derive(Debug)]
pub struct Journal {
    on: bool,
    stamp: u64,
    scope: Scope,
    /// Whether the command under way has said itself what its effect is.
    said: bool,
    /// What a key's expiry is called.
    expiry: &'static [u8],
    bytes: BytesMut,
    cuts: Vec<Cut>,
    /// The databases of the first and the last command since the last cut.
    dbs: Option<(usize, usize)>,
    /// Where the first effect of the unit under way begins, and how many it has.
    unit: (usize, usize),
    part_bytes: BytesMut,
    parts: Vec<Part>,
    ends: Vec<TxnId>,
    /// For a test that wants it wrong: what expires on the way of an announced transaction stands
    /// outside its group.
    #[cfg(test)]
    pub(crate) asides_apart: bool,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            on: false,
            stamp: 0,
            scope: Scope::Loose,
            said: false,
            expiry: b"UNLINK",
            bytes: BytesMut::new(),
            cuts: Vec::new(),
            dbs: None,
            unit: (0, 0),
            part_bytes: BytesMut::new(),
            parts: Vec::new(),
            ends: Vec::new(),
            #[cfg(test)]
            asides_apart: false,
        }
    }
}

impl Journal {
    /// Starts or stops recording. What has been recorded and not taken is forgotten when it stops.
    pub(super) fn set_on(&mut self, on: bool) {
        if self.on && !on {
            *self = Journal { stamp: self.stamp, expiry: self.expiry, ..Journal::default() };
        }
        self.on = on;
    }

    /// Says whether an expired key leaves as UNLINK (`lazyfree-lazy-expire`) or as DEL.
    pub(super) fn set_lazy_expiry(&mut self, is_lazy: bool) {
        self.expiry = if is_lazy { b"UNLINK" } else { b"DEL" };
    }

    /// Whether effects are recorded.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Whether so much has been recorded this turn that no more should be asked for.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.bytes.len() + self.part_bytes.len() > limits::JOURNAL_BYTES
    }

    /// Sets the time of the turn that begins.
    pub fn set_stamp(&mut self, stamp: u64) {
        self.stamp = stamp;
    }

    /// Says what the effects from here on belong to.
    #[inline]
    pub fn begin(&mut self, scope: Scope) {
        if self.on {
            self.close_unit();
            self.scope = scope;
        }
    }

    /// Begins one of the commands of which effects are recorded.
    #[inline]
    pub(crate) fn begin_command(&mut self) {
        self.said = false;
    }

    /// Records an effect in place of the command as it came.
    pub fn effect(&mut self, db: usize, words: &[&[u8]]) {
        self.said = true;
        if self.on {
            self.record(db, words.iter().copied());
        }
    }

    /// Records that the command under way has taken out a key whose time had come when it was told.
    pub(super) fn effect_of_expiry(&mut self, db: usize, key: &[u8]) {
        self.effect(db, &[self.expiry, key]);
    }

    /// Records the command as it came, unless it has said what its effect is.
    #[inline]
    pub fn command<'a>(&mut self, db: usize, words: impl Iterator<Item = &'a [u8]> + Clone) {
        if self.on && !self.said {
            self.record(db, words);
        }
    }

    /// Records that a key's time has come, beside the command under way.
    pub(super) fn expired(&mut self, db: usize, key: &[u8]) {
        if !self.on {
            return;
        }
        #[cfg(test)]
        let scope = self.scope;
        #[cfg(test)]
        if self.asides_apart {
            self.scope = Scope::Loose;
        }
        self.record(db, [self.expiry, key].into_iter());
        #[cfg(test)]
        {
            self.scope = scope;
        }
    }

    /// Records a command that changes no data and is to be heard all the same (PUBLISH).
    pub fn also(&mut self, scope: Scope, db: usize, words: &[&[u8]]) {
        if self.on {
            self.begin(scope);
            self.record(db, words.iter().copied());
        }
    }

    /// Announces a transaction: all locks are held, and nothing has been done for it. It has so many
    /// parties, of which each says [`Journal::end_part`].
    pub fn announce(&mut self, txn: TxnId, parties: u32) {
        self.mark(Mark::Announce { txn, parties });
    }

    /// All has been done that is to be done here for an announced transaction, if anything.
    pub fn end_part(&mut self, txn: TxnId) {
        if self.on {
            self.ends.push(txn);
        }
    }

    /// A snapshot of all shards is cut here.
    pub(crate) fn barrier(&mut self) {
        self.mark(Mark::Barrier);
    }

    fn mark(&mut self, mark: Mark) {
        if self.on {
            self.close_unit();
            let piece = self.end_piece();
            self.cuts.push(Cut { piece, mark });
        }
    }

    fn end_piece(&mut self) -> Piece {
        let (first_db, last_db) = self.dbs.take().unwrap_or_default();
        Piece { end: self.bytes.len(), first_db, last_db }
    }

    fn record<'a>(&mut self, db: usize, words: impl Iterator<Item = &'a [u8]> + Clone) {
        if let Scope::Part { txn, call } = self.scope {
            let start = self.part_bytes.len();
            write(&mut self.part_bytes, words);
            let command = start..self.part_bytes.len();
            self.parts.push(Part { txn, call, db, command });
            return;
        }
        if matches!(self.scope, Scope::Unit) {
            self.unit.1 += 1;
            if self.unit.1 == 2 {
                self.begin_multi();
            }
        }
        match &mut self.dbs {
            Some((_, last)) if *last == db => {}
            Some((_, last)) => {
                *last = db;
                select(&mut self.bytes, db);
            }
            None => self.dbs = Some((db, db)),
        }
        if self.unit.1 == 1 {
            // Here, and not before a SELECT: that need not be within MULTI.
            self.unit.0 = self.bytes.len();
        }
        write(&mut self.bytes, words);
    }

    /// The unit under way has a second effect: MULTI comes before the first.
    #[cold]
    fn begin_multi(&mut self) {
        let (from, end) = (self.unit.0, self.bytes.len());
        self.bytes.extend_from_slice(MULTI);
        self.bytes.copy_within(from..end, from + MULTI.len());
        self.bytes[from..from + MULTI.len()].copy_from_slice(MULTI);
    }

    #[inline]
    fn close_unit(&mut self) {
        if std::mem::take(&mut self.unit.1) > 1 {
            self.bytes.extend_from_slice(EXEC);
        }
    }

    /// What this turn has recorded so far, in no order, with the turn's stamp.
    #[cfg(test)]
    pub(crate) fn recorded(&self) -> (u64, Vec<u8>) {
        (self.stamp, [&self.bytes[..], &self.part_bytes].concat())
    }

    /// Takes what has been recorded since this was called last, if there is any.
    pub fn take(&mut self) -> Option<Chunk> {
        self.close_unit();
        if self.bytes.is_empty()
            && self.cuts.is_empty()
            && self.parts.is_empty()
            && self.ends.is_empty()
        {
            return None;
        }
        let tail = self.end_piece();
        Some(Chunk {
            stamp: self.stamp,
            bytes: self.bytes.split().freeze(),
            cuts: std::mem::take(&mut self.cuts),
            tail,
            parts: std::mem::take(&mut self.parts),
            part_bytes: self.part_bytes.split().freeze(),
            ends: std::mem::take(&mut self.ends),
        })
    }
}

impl Chunk {
    /// Bytes of commands in it.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.part_bytes.len()
    }

    /// Whether it has no command.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes a command as a RESP array of bulks. Room is made once; then each word is two copies: itself,
/// and what ends the one before with its own header.
#[inline]
pub fn write<'a>(out: &mut BytesMut, words: impl Iterator<Item = &'a [u8]> + Clone) {
    let (mut count, mut len) = (0, Header::ROOM);
    for word in words.clone() {
        count += 1;
        len += Header::ROOM + word.len();
    }
    out.reserve(len);
    let mut header = Header::NONE;
    header.add(b'*', count);
    for word in words {
        header.add(b'$', word.len());
        out.extend_from_slice(header.bytes());
        out.extend_from_slice(word);
        header = Header::after_word();
    }
    out.extend_from_slice(header.bytes());
}

/// What stands between two words.
struct Header {
    bytes: [u8; Header::MAX],
    len: usize,
}

impl Header {
    /// A sigil, a number, the end of a line; and the end of a word.
    const ROOM: usize = 1 + 20 + 2 + 2;
    /// There are two of them before the first word.
    const MAX: usize = 2 * Header::ROOM;

    const NONE: Header = Header { bytes: [0; Header::MAX], len: 0 };

    #[inline]
    fn after_word() -> Header {
        let mut header = Header::NONE;
        header.push(*b"\r\n");
        header
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// `$64\r\n`.
    #[inline]
    fn add(&mut self, sigil: u8, number: usize) {
        // Nearly every number is this short.
        if number < 100 {
            let (tens, ones) = (b'0' + (number / 10) as u8, b'0' + (number % 10) as u8);
            if number < 10 {
                self.push([sigil, ones, b'\r', b'\n']);
            } else {
                self.push([sigil, tens, ones, b'\r', b'\n']);
            }
            return;
        }
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        self.push([sigil]);
        self.bytes[self.len..][..digits.len()].copy_from_slice(digits);
        self.len += digits.len();
        self.push(*b"\r\n");
    }

    #[inline]
    fn push<const N: usize>(&mut self, some: [u8; N]) {
        self.bytes[self.len..][..N].copy_from_slice(&some);
        self.len += N;
    }
}

/// Writes the SELECT of a database.
pub fn select(out: &mut BytesMut, db: usize) {
    write(out, [b"SELECT", itoa::Buffer::new().format(db).as_bytes()].into_iter());
}

/// Begins a transaction in a stream.
pub fn multi(out: &mut BytesMut) {
    out.extend_from_slice(MULTI);
}

/// Ends a transaction in a stream.
pub fn exec(out: &mut BytesMut) {
    out.extend_from_slice(EXEC);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on() -> Journal {
        let mut journal = Journal::default();
        journal.set_on(true);
        journal.set_stamp(7);
        journal
    }

    /// Commands as lines.
    fn lines(bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = String::new();
        for part in text.split("\r\n").filter(|part| !part.is_empty() && !part.starts_with('$')) {
            lines += match part.starts_with('*') {
                true if lines.is_empty() => "",
                true => "; ",
                false if lines.is_empty() || lines.ends_with("; ") => "",
                false => " ",
            };
            lines += if part.starts_with('*') { "" } else { part };
        }
        lines
    }

    fn say(journal: &mut Journal, db: usize, line: &str) {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        journal.effect(db, &words);
    }

    #[test]
    fn what_is_off_records_nothing() {
        let mut journal = Journal::default();
        journal.begin(Scope::Unit);
        say(&mut journal, 0, "SET a 1");
        journal.announce(1, 2);
        journal.end_part(1);
        assert!(journal.take().is_none());
        journal.set_on(true);
        say(&mut journal, 0, "SET a 1");
        journal.set_on(false);
        assert!(journal.take().is_none());
    }

    #[test]
    fn what_belongs_together_stands_together() {
        let mut journal = on();
        for (effects, expected) in [
            (&[(0, "SET a 1")][..], "SET a 1"),
            (&[(0, "DEL a"), (0, "SET a 1")], "MULTI; DEL a; SET a 1; EXEC"),
            (&[(0, "DEL a"), (1, "SET a 1")], "MULTI; DEL a; SELECT 1; SET a 1; EXEC"),
        ] {
            journal.begin(Scope::Unit);
            effects.iter().for_each(|(db, line)| say(&mut journal, *db, line));
            let chunk = journal.take().expect("something");
            assert_eq!(lines(&chunk.bytes), expected);
            assert_eq!((chunk.tail.first_db, chunk.stamp), (0, 7));
        }
        journal.begin(Scope::Unit);
        say(&mut journal, 1, "SET a 1");
        journal.begin(Scope::Unit);
        say(&mut journal, 0, "SET b 1");
        say(&mut journal, 0, "SET c 1");
        journal.begin(Scope::Loose);
        say(&mut journal, 0, "DEL d");
        say(&mut journal, 0, "DEL e");
        let chunk = journal.take().expect("something");
        let expected = "SET a 1; SELECT 0; MULTI; SET b 1; SET c 1; EXEC; DEL d; DEL e";
        assert_eq!(lines(&chunk.bytes), expected);
        assert_eq!((chunk.tail.first_db, chunk.tail.last_db), (1, 0));
        assert!(chunk.cuts.is_empty() && chunk.parts.is_empty() && journal.take().is_none());
    }

    #[test]
    fn words_of_all_lengths_are_written() {
        for len in [0, 9, 10, 99, 100, 999, 1000, 123_456] {
            let (word, count) = (vec![b'x'; len], 1 + len % 150);
            let mut out = BytesMut::new();
            write(&mut out, std::iter::repeat_n(&word[..], count));
            let mut expected = format!("*{count}\r\n").into_bytes();
            for _ in 0..count {
                expected.extend_from_slice(format!("${len}\r\n").as_bytes());
                expected.extend_from_slice(&word);
                expected.extend_from_slice(b"\r\n");
            }
            assert_eq!(out, expected, "{count} of {len}");
        }
    }

    #[test]
    fn a_command_is_said_once() {
        let mut journal = on();
        journal.begin(Scope::Unit);
        journal.begin_command();
        journal.expired(0, b"k");
        journal.command(0, [&b"SET"[..], b"k", b"v"].into_iter());
        journal.begin(Scope::Unit);
        journal.begin_command();
        say(&mut journal, 0, "DEL k");
        journal.command(0, [&b"GETDEL"[..], b"k"].into_iter());
        let chunk = journal.take().expect("something");
        assert_eq!(lines(&chunk.bytes), "MULTI; UNLINK k; SET k v; EXEC; DEL k");
    }

    #[test]
    fn marks_cut_and_parts_stand_apart() {
        let mut journal = on();
        journal.begin(Scope::Unit);
        say(&mut journal, 3, "SET a 1");
        say(&mut journal, 3, "SET b 1");
        journal.announce(9, 2);
        journal.begin(Scope::Part { txn: 9, call: 4 });
        say(&mut journal, 2, "SET c 1");
        journal.end_part(9);
        journal.begin(Scope::Unit);
        say(&mut journal, 3, "SET d 1");
        journal.barrier();
        let chunk = journal.take().expect("something");
        let [first, second] = &chunk.cuts[..] else { panic!("{:?}", chunk.cuts) };
        assert_eq!(first.mark, Mark::Announce { txn: 9, parties: 2 });
        assert_eq!(second.mark, Mark::Barrier);
        assert_eq!(lines(&chunk.bytes[..first.piece.end]), "MULTI; SET a 1; SET b 1; EXEC");
        assert_eq!(lines(&chunk.bytes[first.piece.end..second.piece.end]), "SET d 1");
        assert_eq!((second.piece.first_db, second.piece.last_db), (3, 3));
        assert_eq!(chunk.tail.end, second.piece.end);
        let [part] = &chunk.parts[..] else { panic!("{:?}", chunk.parts) };
        assert_eq!((part.txn, part.call, part.db), (9, 4, 2));
        assert_eq!(lines(&chunk.part_bytes[part.command.clone()]), "SET c 1");
        assert_eq!(chunk.ends, [9]);
    }
}

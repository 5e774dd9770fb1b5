//! LCS: the longest common subsequence of two strings.
//!
//! The textbook's table has a number per pair of positions. Here it has one bit: whether the
//! subsequence grows from one column to the next. With that, a machine word advances 64 columns at
//! once (the bit-parallel method of Allison and Dix, in Hyyrö's formulation), and the bits are all
//! that walking back through the table needs: where two bytes differ, the cell above is larger than
//! the cell to the left exactly if the row grows at this column.
//!
//! So for long strings the work is a 64th, and the memory a 32nd, of what Redis takes (and never more
//! than that). Its limit on the memory is kept all the same: it is visible, and it bounds the time
//! that a shard is kept busy.

use super::string_of;
use crate::base::error::Error;
use crate::base::key::Key;
use crate::base::number::parse_i64;
use crate::command::{Across, Effect, Outcome};
use crate::resp::{Args, Reply};
use crate::shard::db::Db;
use crate::value::string::Digits;

/// LCS.
pub static LCS: Across = Across {
    together,
    read: |db, args, key, reply| {
        // The limit goes along: there is no shard to ask where the strings come together.
        let bulk_max = db.bulk_max() as u64;
        let value = text(db, args.key(key))?;
        reply.buf().extend(&bulk_max.to_le_bytes());
        reply.buf().extend(&value);
        Ok(Effect::Read)
    },
    db_of: |_, _, db| Ok(db),
    finish: |args, read, _, reply| {
        let (limit, a) = read[0].split_at(8);
        let bulk_max = limit.try_into().map_or(u64::MAX, u64::from_le_bytes) as usize;
        compare(a, &read[1][8..], args, bulk_max, reply)
    },
};

fn together(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let (a, b) = (text(db, args.key(0))?, text(db, args.key(1))?);
    compare(&a, &b, args, db.bulk_max(), reply)?;
    Ok(Effect::Read)
}

/// The string at a key, copied; what is not there is empty.
fn text(db: &mut Db, key: Key) -> Result<Vec<u8>, Error> {
    let Some(entry) = db.read(key) else {
        return Ok(Vec::new());
    };
    let value = string_of(&entry)
        .map_err(|_| Error::text("ERR The specified keys must contain string values"))?;
    Ok(value.bytes(&mut Digits::new()).to_vec())
}

/// What the client wants to see.
#[derive(Debug, Default)]
struct Options {
    only_len: bool,
    ranges: bool,
    range_len_min: usize,
    with_range_len: bool,
}

impl Options {
    fn parse(args: &Args) -> Result<Options, Error> {
        let mut options = Options::default();
        let mut at = 0;
        while at < args.len() {
            if args.is(at, "IDX") {
                options.ranges = true;
            } else if args.is(at, "LEN") {
                options.only_len = true;
            } else if args.is(at, "WITHMATCHLEN") {
                options.with_range_len = true;
            } else if args.is(at, "MINMATCHLEN") && at + 1 < args.len() {
                at += 1;
                let least = parse_i64(args.at(at)).ok_or(Error::NotInteger)?;
                options.range_len_min = usize::try_from(least).unwrap_or(0);
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        if options.ranges && options.only_len {
            return Err(Error::text(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

fn compare(
    a: &[u8],
    b: &[u8],
    args: &Args,
    bulk_max: usize,
    reply: &mut Reply,
) -> Result<(), Error> {
    let options = Options::parse(&args.from(2))?;
    // Four bytes per cell of the table that Redis would allocate.
    let table = (a.len() as u128 + 1) * (b.len() as u128 + 1) * 4;
    if table > bulk_max as u128 {
        return Err(Error::text(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    if options.only_len {
        reply.integer(Rows::new(a, b, false).len() as i64);
        return Ok(());
    }
    let rows = Rows::new(a, b, true);
    let ranges = rows.ranges(a, b);
    if !options.ranges {
        let mut common = Vec::with_capacity(rows.len());
        for range in ranges.iter().rev() {
            common.extend_from_slice(&a[range.a..range.a + range.len]);
        }
        reply.bulk(&common);
        return Ok(());
    }
    let shown = || ranges.iter().filter(|range| range.len >= options.range_len_min);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(shown().count());
    for range in shown() {
        reply.array(2 + usize::from(options.with_range_len));
        for from in [range.a, range.b] {
            reply.array(2);
            reply.integer(from as i64);
            reply.integer((from + range.len - 1) as i64);
        }
        if options.with_range_len {
            reply.integer(range.len as i64);
        }
    }
    reply.bulk(b"len");
    reply.integer(rows.len() as i64);
    Ok(())
}

/// A part that both strings have.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    a: usize,
    b: usize,
    len: usize,
}

/// The table: a row per byte of `a`, a bit per byte of `b`. A bit that is *clear* says that the
/// subsequence grows at this column.
struct Rows {
    /// All rows, or, if only the length is asked for, the last one.
    bits: Vec<u64>,
    words: usize,
}

impl Rows {
    fn new(a: &[u8], b: &[u8], keep_all: bool) -> Rows {
        let words = b.len().div_ceil(64);
        let places = Places::new(a, b, words);
        let mut bits = Vec::with_capacity(if keep_all { a.len() * words } else { words });
        let mut row = vec![u64::MAX; words];
        for byte in a {
            let mut carry = false;
            for (word, here) in row.iter_mut().zip(places.of(*byte)) {
                let before = *word;
                let (sum, over) = before.overflowing_add(before & here);
                let (sum, over_again) = sum.overflowing_add(u64::from(carry));
                carry = over || over_again;
                *word = sum | (before & !here);
            }
            if keep_all {
                bits.extend_from_slice(&row);
            }
        }
        if !keep_all {
            bits = row;
        }
        Rows { bits, words }
    }

    /// The length of the subsequence: how often the last row grows.
    fn len(&self) -> usize {
        let last = &self.bits[self.bits.len().saturating_sub(self.words)..];
        // Bits beyond the last column were set at first, and a step clears only columns that have
        // the byte at hand.
        last.iter().map(|word| word.count_zeros() as usize).sum()
    }

    fn grows(&self, row: usize, column: usize) -> bool {
        self.bits[row * self.words + column / 64] >> (column % 64) & 1 == 0
    }

    /// The parts that make up the subsequence, the last one first, as Redis finds them.
    fn ranges(&self, a: &[u8], b: &[u8]) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        let mut extends = false;
        while i > 0 && j > 0 {
            if a[i - 1] != b[j - 1] {
                extends = false;
                if self.grows(i - 1, j - 1) {
                    i -= 1;
                } else {
                    j -= 1;
                }
                continue;
            }
            i -= 1;
            j -= 1;
            match ranges.last_mut() {
                Some(range) if extends => *range = Range { a: i, b: j, len: range.len + 1 },
                _ => ranges.push(Range { a: i, b: j, len: 1 }),
            }
            extends = true;
        }
        ranges
    }
}

/// For each byte that occurs in `a`, a bit per column of `b` that has it.
struct Places {
    bits: Vec<u64>,
    /// Which of the rows in `bits` a byte has.
    row_of: [u16; 256],
    words: usize,
}

impl Places {
    /// Rows are made for bytes of `a` only: a short `a` costs little however long `b` is.
    fn new(a: &[u8], b: &[u8], words: usize) -> Places {
        const NONE: u16 = u16::MAX;
        let (mut row_of, mut rows) = ([NONE; 256], 0);
        for byte in a {
            let row = &mut row_of[usize::from(*byte)];
            if *row == NONE {
                *row = rows;
                rows += 1;
            }
        }
        let mut bits = vec![0u64; usize::from(rows) * words];
        for (column, byte) in b.iter().enumerate() {
            let row = row_of[usize::from(*byte)];
            if row != NONE {
                bits[usize::from(row) * words + column / 64] |= 1 << (column % 64);
            }
        }
        Places { bits, row_of, words }
    }

    fn of(&self, byte: u8) -> &[u64] {
        let from = usize::from(self.row_of[usize::from(byte)]) * self.words;
        &self.bits[from..from + self.words]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Random;

    /// The textbook's table and walk.
    fn by_the_book(a: &[u8], b: &[u8]) -> (usize, Vec<Range>) {
        let mut table = vec![vec![0usize; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] = if a[i - 1] == b[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        let mut ranges: Vec<Range> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                i -= 1;
                j -= 1;
                match ranges.last_mut() {
                    Some(range) if (range.a, range.b) == (i + 1, j + 1) => {
                        *range = Range { a: i, b: j, len: range.len + 1 }
                    }
                    _ => ranges.push(Range { a: i, b: j, len: 1 }),
                }
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        (table[a.len()][b.len()], ranges)
    }

    #[test]
    fn bits_say_what_the_book_says() {
        let mut random = Random::new(7);
        for round in 0..600 {
            let letters = [2, 4, 26, 256][round % 4];
            let mut text = |most| -> Vec<u8> {
                let len = random.below(most);
                (0..len).map(|_| random.below(letters) as u8).collect()
            };
            let (a, b) = (text(200), text(200));
            let (len, ranges) = by_the_book(&a, &b);
            assert_eq!(Rows::new(&a, &b, false).len(), len);
            let rows = Rows::new(&a, &b, true);
            assert_eq!((rows.len(), rows.ranges(&a, &b)), (len, ranges));
        }
    }

    #[test]
    fn widths_at_the_edge_of_a_word() {
        for width in [0, 1, 63, 64, 65, 127, 128, 129] {
            let a = vec![b'x'; width];
            for b in [vec![b'x'; 64], vec![b'x'; 128], vec![b'x'; 65], vec![b'y'; 70]] {
                let expected = if b[0] == b'x' { width.min(b.len()) } else { 0 };
                assert_eq!(Rows::new(&a, &b, false).len(), expected);
                assert_eq!(Rows::new(&b, &a, true).len(), expected);
            }
        }
    }
}

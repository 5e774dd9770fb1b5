//! LZF, the format in which strings are compressed: runs of up to 32 bytes as they are, and references
//! of 3 to 264 bytes to what stands at most 8 KiB before.
//!
//! The crate `lzf` is what the tests compare with. It is not what runs here, because it makes and clears
//! a hash table of 512 KiB per string: 10.5 us for one of 64 bytes, 52 s for five million of them, where
//! this takes 0.16 us and 0.8 s. Here the table stays: its entries count on from string to string, so
//! that what earlier strings left behind lies before the string under way and is no match, and nothing
//! has to be cleared. The choices are liblzf's as Redis builds it, and so are the bytes, which DUMP shows
//! to clients.

use super::Reason;
use bytes::BytesMut;

/// Bits of a hash.
const HASH_BITS: u32 = 16;
/// How far back a reference reaches.
const DISTANCE_MAX: usize = 1 << 13;
/// Longest run of bytes as they are.
const RUN_MAX: usize = 1 << 5;
/// Longest reference.
const REFERENCE_MAX: usize = (1 << 8) + (1 << 3);
/// Bytes that the longest reference takes; and that the shortest refers to.
const REFERENCE_LEN: usize = 3;

/// Most bytes that `len` compressed bytes can become.
#[inline]
pub fn most(len: u64) -> u64 {
    len.saturating_mul((REFERENCE_MAX / REFERENCE_LEN) as u64)
}

/// Decompresses what becomes `len` bytes, which are at most what [`most`] says.
pub fn decompress(compressed: &[u8], len: usize) -> Result<Vec<u8>, Reason> {
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| Reason::Memory(len))?;
    let mut rest = compressed;
    while let Some((&control, after)) = rest.split_first() {
        let control = usize::from(control);
        if control < RUN_MAX {
            let (run, after) = after.split_at_checked(control + 1).ok_or(Reason::Lzf)?;
            if run.len() > len - out.len() {
                return Err(Reason::Lzf);
            }
            out.extend_from_slice(run);
            rest = after;
            continue;
        }
        let (more, after) = match control >> 5 {
            7 => after.split_first().map(|(more, after)| (usize::from(*more), after)),
            _ => Some((0, after)),
        }
        .ok_or(Reason::Lzf)?;
        let (&low, after) = after.split_first().ok_or(Reason::Lzf)?;
        let count = (control >> 5) + 2 + more;
        let distance = ((control & 0x1f) << 8 | usize::from(low)) + 1;
        let from = out.len().checked_sub(distance).ok_or(Reason::Lzf)?;
        if count > len - out.len() {
            return Err(Reason::Lzf);
        }
        if distance >= count {
            out.extend_from_within(from..from + count);
        } else {
            // What is copied overlaps what it becomes: a pattern that is repeated.
            for at in from..from + count {
                out.push(out[at]);
            }
        }
        rest = after;
    }
    if out.len() == len { Ok(out) } else { Err(Reason::Lzf) }
}

/// Compresses strings, one after the other.
#[derive(Debug, Default)]
pub struct Compressor {
    /// By the hash of three bytes, where they were seen last: at this position, counted over all strings.
    /// Empty until there is something to compress.
    seen: Vec<u32>,
    /// The position at which the next string begins.
    begin: u32,
    out: Vec<u8>,
}

impl Compressor {
    /// Compresses `bytes` into at most `room` bytes, if that is possible.
    pub fn compress(&mut self, bytes: &[u8], room: usize) -> Option<&[u8]> {
        let begin = self.place(bytes.len())?;
        let Compressor { seen, out, .. } = self;
        let seen: &mut [u32; 1 << HASH_BITS] = seen.as_mut_slice().try_into().ok()?;
        out.clear();
        // From `run` to `at` lie the bytes that will be written as they are.
        let (mut run, mut at) = (0, 0);
        let end = bytes.len() - 2;
        let mut hash = first(bytes, at);
        while at < end {
            hash = next(hash, bytes, at);
            let last = std::mem::replace(&mut seen[slot(hash)], begin + at as u32);
            // The first place of a string is none that is referred to.
            let from = last.wrapping_sub(begin) as usize;
            let is_match = last > begin
                && at - from <= DISTANCE_MAX
                && bytes[from..from + 3] == bytes[at..at + 3];
            if !is_match {
                if out.len() + 1 + (at - run) >= room {
                    return None;
                }
                at += 1;
                if at - run == RUN_MAX {
                    put_run(out, &bytes[run..at]);
                    run = at;
                }
                continue;
            }
            put_run(out, &bytes[run..at]);
            if out.len() + REFERENCE_LEN + 1 >= room {
                return None;
            }
            let count = matching(bytes, from, at);
            put_reference(out, at - from, count);
            at += count;
            run = at;
            if at >= end {
                break;
            }
            // Of what is referred to, the last two places are remembered.
            hash = first(bytes, at - 2);
            for place in [at - 2, at - 1] {
                hash = next(hash, bytes, place);
                seen[slot(hash)] = begin + place as u32;
            }
        }
        // At most three bytes are missing.
        if out.len() + 1 + (at - run) + 3 > room {
            return None;
        }
        bytes[run..].chunks(RUN_MAX).for_each(|run| put_run(out, run));
        Some(out)
    }

    /// Appends what `bytes` become, if need be as they are.
    pub fn append(&mut self, bytes: &[u8], to: &mut BytesMut) {
        // Each run that is not compressed takes a byte more.
        if let Some(compressed) = self.compress(bytes, bytes.len() + bytes.len() / RUN_MAX + 16) {
            return to.extend_from_slice(compressed);
        }
        for run in bytes.chunks(RUN_MAX) {
            to.extend_from_slice(&[(run.len() - 1) as u8]);
            to.extend_from_slice(run);
        }
    }

    /// Where a string of `len` bytes begins, if it is one that can be compressed.
    fn place(&mut self, len: usize) -> Option<u32> {
        if len < REFERENCE_LEN {
            return None;
        }
        let len = u32::try_from(len).ok()?;
        if self.seen.is_empty() || self.begin.checked_add(len).is_none() {
            self.seen.clear();
            self.seen.resize(1 << HASH_BITS, 0);
            self.begin = 0;
        }
        let begin = self.begin;
        self.begin += len;
        Some(begin)
    }
}

/// What the hash of the three bytes at `at` begins with.
#[inline]
fn first(bytes: &[u8], at: usize) -> u32 {
    u32::from(bytes[at]) << 8 | u32::from(bytes[at + 1])
}

/// The hash of the three bytes at `at`, given that of those one before.
#[inline]
fn next(before: u32, bytes: &[u8], at: usize) -> u32 {
    before << 8 | u32::from(bytes[at + 2])
}

/// Where a hash has its place in the table.
#[inline]
fn slot(hash: u32) -> usize {
    let mixed = (hash >> (24 - HASH_BITS)).wrapping_sub(hash.wrapping_mul(5));
    (mixed & ((1 << HASH_BITS) - 1)) as usize
}

/// How many bytes at `at` are those at `from`, of which three are known to be; at most what a reference
/// reaches. The last two bytes of a string are left out, unless 19 or 20 are left: liblzf compares the
/// first 19 at one go.
#[inline]
fn matching(bytes: &[u8], from: usize, at: usize) -> usize {
    let most = match bytes.len() - at - 2 {
        17..=18 => 19,
        most => most.min(REFERENCE_MAX),
    };
    let mut count = 3;
    while count < most && bytes[from + count] == bytes[at + count] {
        count += 1;
    }
    count
}

/// Appends bytes as they are, if there are any.
#[inline]
fn put_run(out: &mut Vec<u8>, run: &[u8]) {
    if !run.is_empty() {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
}

/// Appends a reference to `count` bytes that lie `distance` before.
#[inline]
fn put_reference(out: &mut Vec<u8>, distance: usize, count: usize) {
    let (distance, count) = (distance - 1, count - 2);
    let high = (distance >> 8) as u8;
    if count < 7 {
        out.push((count << 5) as u8 | high);
    } else {
        out.extend_from_slice(&[7 << 5 | high, (count - 7) as u8]);
    }
    out.push(distance as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Random;

    /// Strings from incompressible to a single byte repeated.
    fn samples() -> Vec<Vec<u8>> {
        const ROUNDS: u64 = if cfg!(miri) { 3 } else { 60 };
        let mut random = Random::new(11);
        let mut samples: Vec<Vec<u8>> = (0..64).map(|len| vec![b'a'; len]).collect();
        for _ in 0..ROUNDS {
            for letters in [1, 2, 4, 26, 256] {
                let len = random.below(700) as usize;
                let mut sample: Vec<u8> = (0..len).map(|_| random.below(letters) as u8).collect();
                // What it says again somewhere.
                for _ in 0..random.below(4) {
                    let from = random.below(len as u64 + 1) as usize;
                    let to = from + random.below((len - from) as u64 + 1) as usize;
                    sample.extend_from_within(from..to);
                }
                samples.push(sample);
            }
        }
        samples.push((0..40_000u32).flat_map(|n| (n * n).to_be_bytes()).collect());
        samples.push(vec![0; 100_000]);
        samples
    }

    #[test]
    fn what_is_compressed_is_read_by_everybody() {
        let mut compressor = Compressor::default();
        let mut smaller = 0;
        for sample in samples() {
            let Some(compressed) = compressor.compress(&sample, sample.len()) else { continue };
            assert!(compressed.len() <= sample.len());
            assert!(sample.len() as u64 <= most(compressed.len() as u64));
            assert_eq!(decompress(compressed, sample.len()).as_ref(), Ok(&sample));
            assert_eq!(lzf::decompress(compressed, sample.len()).as_ref(), Ok(&sample));
            smaller += 1;
        }
        assert!(smaller > 100 || cfg!(miri), "{smaller}");
    }

    /// The crate leaves two bytes at the end alone where liblzf looks at them, so it is asked about those
    /// samples only that end in what is nowhere else.
    #[test]
    fn the_choices_are_those_of_the_crate() {
        let mut compressor = Compressor::default();
        let mut same = 0;
        for mut sample in samples() {
            sample.extend_from_slice(b"\xf1\xf2\xf3\xf4\xf5\xf6");
            let ours = compressor.compress(&sample, sample.len()).map(<[u8]>::to_vec);
            assert_eq!(ours, lzf::compress(&sample).ok(), "{}", sample.escape_ascii());
            same += usize::from(ours.is_some());
        }
        assert!(same > 100 || cfg!(miri), "{same}");
    }

    #[test]
    fn a_string_is_compressed_the_same_whatever_came_before() {
        let sample = b"abcabcabcabcabcabcabcabcabcabcabcabc".repeat(3);
        let fresh = Compressor::default().compress(&sample, 60).map(<[u8]>::to_vec);
        assert!(fresh.is_some());
        let mut compressor = Compressor::default();
        for step in 0..4 {
            assert_eq!(compressor.compress(&sample, 60).map(<[u8]>::to_vec), fresh, "{step}");
            compressor.compress(b"cabcabcabcabcabcabcabca", 20);
            if step == 2 {
                // The positions are about to run out.
                compressor.begin = u32::MAX - 30;
            }
        }
    }

    #[test]
    fn it_needs_the_room_it_is_given() {
        let sample = b"a string of which some string is some string again, some string".repeat(2);
        let mut compressor = Compressor::default();
        let len = compressor.compress(&sample, sample.len()).map(<[u8]>::len).expect("smaller");
        // liblzf asks for three bytes more than it may need.
        assert!(compressor.compress(&sample, len + 3).is_some());
        for room in 0..len {
            assert_eq!(compressor.compress(&sample, room), None, "{room}");
        }
        for short in [&b""[..], b"a", b"ab"] {
            assert_eq!(compressor.compress(short, 100), None);
        }
    }

    #[test]
    fn what_is_corrupt_is_refused() {
        let refused: [(&[u8], usize); 9] = [
            (b"", 1),
            (b"\x00", 1),
            (b"\x05abc", 6),
            // Less and more than is claimed.
            (b"\x02abc", 4),
            (b"\x02abc", 2),
            // References: to before the beginning, cut short twice, to more than is claimed.
            (b"\x00a\x20\x01", 4),
            (b"\x00a\xe0", 10),
            (b"\x00a\xe0\x00", 10),
            (b"\x00a\xe0\xff\x00", 20),
        ];
        for (bytes, len) in refused {
            assert_eq!(decompress(bytes, len), Err(Reason::Lzf), "{}", bytes.escape_ascii());
        }
        assert_eq!(decompress(b"\x00a\xe0\xff\x00", 265), Ok(vec![b'a'; 265]));
        assert_eq!((most(3), most(u64::MAX)), (264, u64::MAX));
    }
}

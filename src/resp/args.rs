//! A command's arguments, borrowed from the buffer they arrived in.

use crate::base::key::Key;

/// Where one argument lies in its buffer: offset and length in bytes. A query buffer is smaller
/// than 4 GiB, so 32 bits do and a descriptor stays small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub at: u32,
    /// Length.
    pub len: u32,
}

impl Span {
    /// The bytes this span names.
    #[inline]
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.at as usize..self.at as usize + self.len as usize]
    }
}

/// Arguments without the command's own name: `at(0)` of `GET k` is `k`.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
    /// One argument whose hash is known already, and its hash.
    hashed: usize,
    hash: u64,
}

/// No argument has this number, nor does one come to have it where arguments are counted from
/// further on.
const NONE: usize = usize::MAX;

impl<'a> Args<'a> {
    /// The arguments that `spans` cut out of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8], spans: &'a [Span]) -> Args<'a> {
        Args { bytes, spans, hashed: NONE, hash: 0 }
    }

    /// The same arguments, of which number `i` is a key with this hash.
    #[inline]
    pub fn with_hash(self, i: usize, hash: u64) -> Args<'a> {
        Args { hashed: i, hash, ..self }
    }

    /// Argument `i` as a key. Its hash is made now, unless somebody had to know it before.
    ///
    /// # Panics
    /// When there is none, as [`Args::at`] does.
    #[inline]
    pub fn key(&self, i: usize) -> Key<'a> {
        let bytes = self.at(i);
        if i == self.hashed { Key::with_hash(bytes, self.hash) } else { Key::new(bytes) }
    }

    /// Argument `i`.
    ///
    /// # Panics
    /// When there is none: arity is checked before a handler runs.
    #[inline]
    pub fn at(&self, i: usize) -> &'a [u8] {
        self.spans[i].of(self.bytes)
    }

    /// Argument `i`, if there is one.
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        self.spans.get(i).map(|span| span.of(self.bytes))
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The arguments from `first` on.
    #[inline]
    pub fn from(&self, first: usize) -> Args<'a> {
        let hashed = self.hashed.wrapping_sub(first);
        Args { spans: &self.spans[first..], hashed, ..*self }
    }

    /// `count` arguments from `first` on.
    pub fn range(&self, first: usize, count: usize) -> Args<'a> {
        let hashed = self.hashed.wrapping_sub(first);
        Args { spans: &self.spans[first..first + count], hashed, ..*self }
    }

    /// Those that some of its spans name.
    pub fn only<'b>(&self, spans: &'b [Span]) -> Args<'b>
    where
        'a: 'b,
    {
        Args::new(self.bytes, spans)
    }

    /// All of them, in order.
    pub fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + Clone + use<'a> {
        let bytes = self.bytes;
        self.spans.iter().map(move |span| span.of(bytes))
    }

    /// Whether argument `i` is `word` in any case.
    pub fn is(&self, i: usize, word: &str) -> bool {
        self.get(i).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The spans, for who copies the arguments elsewhere.
    pub fn spans(&self) -> &'a [Span] {
        self.spans
    }

    /// Appends the arguments' bytes to `bytes` and spans that find them there to `spans`.
    #[inline]
    pub fn copy_to(&self, bytes: &mut Vec<u8>, spans: &mut Vec<Span>) {
        for arg in self.iter() {
            spans.push(Span { at: bytes.len() as u32, len: arg.len() as u32 });
            bytes.extend_from_slice(arg);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash;

    #[test]
    fn a_known_hash_goes_where_its_argument_goes() {
        let spans = [0, 1, 2, 3].map(|at| Span { at, len: 1 });
        let args = Args::new(b"abcd", &spans).with_hash(2, hash::of(b"c"));
        let known =
            |args: &Args| -> Vec<usize> { (0..args.len()).filter(|i| *i == args.hashed).collect() };
        assert_eq!(known(&args), [2]);
        assert_eq!(known(&args.from(1)), [1]);
        assert_eq!(known(&args.range(2, 2)), [0]);
        assert!(known(&args.range(0, 2)).is_empty() && known(&args.from(3)).is_empty());
        for (i, name) in [b"a", b"b", b"c", b"d"].into_iter().enumerate() {
            assert_eq!((args.key(i).bytes(), args.key(i).hash()), (&name[..], hash::of(name)));
        }
    }
}

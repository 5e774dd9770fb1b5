//! A command's arguments, borrowed from the buffer they arrived in.

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
}

impl<'a> Args<'a> {
    /// The arguments that `spans` cut out of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8], spans: &'a [Span]) -> Args<'a> {
        Args { bytes, spans }
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
        Args { bytes: self.bytes, spans: &self.spans[first..] }
    }

    /// `count` arguments from `first` on.
    pub fn range(&self, first: usize, count: usize) -> Args<'a> {
        Args { bytes: self.bytes, spans: &self.spans[first..first + count] }
    }

    /// Those that some of its spans name.
    pub fn only<'b>(&self, spans: &'b [Span]) -> Args<'b>
    where
        'a: 'b,
    {
        Args { bytes: self.bytes, spans }
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

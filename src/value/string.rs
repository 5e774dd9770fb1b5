//! String values: a number, bytes in the key's own block, or a long string of its own.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

/// A long string, shared between its key and the replies that are on their way to a socket. Who
/// changes it while a reply still holds it changes a copy.
pub type Blob = Arc<Vec<u8>>;

/// A long string borrowed from its key. A block keeps the `Blob` at whatever offset the key's length
/// leaves, so it cannot be borrowed where it lies: this is a bitwise copy that owns no count.
#[derive(Debug)]
pub struct BlobRef<'a>(ManuallyDrop<Blob>, PhantomData<&'a Blob>);

impl<'a> BlobRef<'a> {
    /// Borrows what the caller vouches for: the copied `Blob` must stay alive and in place for `'a`.
    pub(crate) fn new(blob: ManuallyDrop<Blob>) -> BlobRef<'a> {
        BlobRef(blob, PhantomData)
    }
}

impl Deref for BlobRef<'_> {
    type Target = Blob;
    #[inline]
    fn deref(&self) -> &Blob {
        &self.0
    }
}

/// A string as it is stored, borrowed.
#[derive(Debug)]
pub enum Str<'a> {
    /// A canonical 64-bit integer, kept as a number.
    Int(i64),
    /// Bytes in the key's block.
    Bytes(&'a [u8]),
    /// A long string.
    Blob(BlobRef<'a>),
}

/// Scratch for the text of an integer.
pub type Digits = itoa::Buffer;

impl Str<'_> {
    /// The bytes a client sees. `digits` holds them when the value is a number.
    pub fn bytes<'b>(&'b self, digits: &'b mut Digits) -> &'b [u8] {
        match self {
            Str::Int(n) => digits.format(*n).as_bytes(),
            Str::Bytes(bytes) => bytes,
            Str::Blob(blob) => blob,
        }
    }

    /// Length in bytes, as STRLEN reports it.
    pub fn len(&self) -> usize {
        match self {
            Str::Int(n) => itoa::Buffer::new().format(*n).len(),
            Str::Bytes(bytes) => bytes.len(),
            Str::Blob(blob) => blob.len(),
        }
    }

    /// Whether the string is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

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
    /// Borrows a `Blob` that lies elsewhere.
    ///
    /// # Safety
    /// `blob` is a bitwise copy of a `Blob` that stays alive and unchanged for `'a`.
    pub(crate) unsafe fn new(blob: ManuallyDrop<Blob>) -> BlobRef<'a> {
        BlobRef(blob, PhantomData)
    }
}

#[cfg(test)]
impl<'a> From<&'a Blob> for BlobRef<'a> {
    fn from(blob: &'a Blob) -> BlobRef<'a> {
        let at = std::ptr::from_ref(blob).cast::<ManuallyDrop<Blob>>();
        // SAFETY: what is copied is borrowed for as long.
        unsafe { BlobRef::new(at.read()) }
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

    /// Bytes it takes beside its key's block.
    pub fn outside(&self) -> usize {
        match self {
            // The Vec's header and the two counts beside it.
            Str::Blob(blob) => blob.capacity() + 40,
            Str::Int(_) | Str::Bytes(_) => 0,
        }
    }

    /// Whether the string is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes `bytes` at `offset` of a string, which grows with zero bytes as needed; returns its length.
pub fn overwrite(whole: &mut Vec<u8>, offset: usize, bytes: &[u8]) -> usize {
    let end = offset + bytes.len();
    if whole.len() < end {
        whole.resize(end, 0);
    }
    whole[offset..end].copy_from_slice(bytes);
    whole.len()
}

//! A file that is written from its beginning to its end, several pieces at a time.
//!
//! glommio's own streams do not do where writes fail, as they do on a disk that is full: a write that has
//! written a part of what it was asked for is taken for all of it, so that the file has a hole where the
//! rest belongs and its writer is told that all is well; and where a piece has failed and those after it
//! have not, closing the stream panics. Here a piece is written as a whole or has failed, and after a
//! failure a file can only be abandoned.

use super::files::Access;
use futures_lite::future::poll_once;
use glommio::io::{BufferedFile, DmaBuffer, DmaFile};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;

/// Bytes of a piece: what one request to the disk moves.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that are written at a time.
const DEPTH: usize = 8;

/// See the module's head.
pub struct Output {
    file: Rc<Target>,
    /// The piece that is being filled, and how far it is.
    piece: Piece,
    filled: usize,
    /// Where in the file it begins.
    at: u64,
    /// The pieces that are being written, the first first.
    under_way: VecDeque<Pin<Box<dyn Future<Output = io::Result<()>>>>>,
}

enum Target {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

enum Piece {
    Direct(DmaBuffer),
    Buffered(Vec<u8>),
}

impl Output {
    /// Begins to write a file, in place of what may be there.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn create(path: &Path, access: Access) -> io::Result<Output> {
        let file = match access {
            Access::Direct => Target::Direct(DmaFile::create(path).await?),
            Access::Buffered => Target::Buffered(BufferedFile::create(path).await?),
        };
        let piece = file.piece();
        Ok(Output { file: Rc::new(file), piece, filled: 0, at: 0, under_way: VecDeque::new() })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When the system refuses, perhaps because of bytes that were appended earlier.
    pub async fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.filled));
            self.piece.put(self.filled, now);
            self.filled += now.len();
            bytes = later;
            if self.filled == PIECE_BYTES {
                self.write_piece().await?;
            }
        }
        Ok(())
    }

    /// Writes what is left, and syncs all of it.
    ///
    /// # Errors
    /// When the system refuses any of it.
    pub async fn finish(mut self) -> io::Result<()> {
        let result = self.write_rest().await;
        let closed = self.close().await;
        result.and(closed)
    }

    /// Lets go of a file that nobody wants any more. How that goes does not matter.
    pub async fn abandon(self) {
        _ = self.close().await;
    }

    async fn write_rest(&mut self) -> io::Result<()> {
        let len = self.at + self.filled as u64;
        if self.filled > 0 {
            self.write_piece().await?;
        }
        while let Some(write) = self.under_way.pop_front() {
            write.await?;
        }
        self.file.settle(len).await
    }

    /// Begins to write the piece, if need be after an earlier one has been written.
    async fn write_piece(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, self.file.piece());
        let (file, at, len) = (Rc::clone(&self.file), self.at, self.filled);
        (self.at, self.filled) = (at + len as u64, 0);
        let mut write: Pin<Box<dyn Future<Output = io::Result<()>>>> =
            Box::pin(async move { file.write(piece, at, len).await });
        match poll_once(&mut write).await {
            Some(result) => result?,
            None => self.under_way.push_back(write),
        }
        if self.under_way.len() >= DEPTH
            && let Some(first) = self.under_way.pop_front()
        {
            first.await?;
        }
        Ok(())
    }

    /// Closes the file, when nothing of it is being written any more.
    async fn close(mut self) -> io::Result<()> {
        while let Some(write) = self.under_way.pop_front() {
            // Only where one before it has failed, or where nobody wants the file.
            _ = write.await;
        }
        match Rc::into_inner(self.file) {
            Some(Target::Direct(file)) => Ok(file.close().await?),
            Some(Target::Buffered(file)) => Ok(file.close().await?),
            None => Ok(()),
        }
    }
}

impl Target {
    /// An empty piece.
    fn piece(&self) -> Piece {
        match self {
            Target::Direct(file) => Piece::Direct(file.alloc_dma_buffer(PIECE_BYTES)),
            Target::Buffered(_) => Piece::Buffered(Vec::with_capacity(PIECE_BYTES)),
        }
    }

    /// Writes a piece with so many bytes; past the page cache, with zeros behind them as far as the disk
    /// needs that. What has been written in part is gone on with: the system says then why it cannot be
    /// all.
    async fn write(&self, piece: Piece, mut at: u64, len: usize) -> io::Result<()> {
        match (self, piece) {
            (Target::Direct(file), Piece::Direct(mut buffer)) => {
                let whole = file.align_up(len as u64) as usize;
                buffer.as_bytes_mut()[len..whole].fill(0);
                buffer.trim_to_size(whole);
                let mut rest = Rc::new(buffer);
                loop {
                    let written = file.write_rc_at(Rc::clone(&rest), at).await?;
                    let written = file.align_down(written as u64) as usize;
                    match rest.len() - written {
                        0 => return Ok(()),
                        _ if written == 0 => return Err(io::ErrorKind::WriteZero.into()),
                        left => {
                            let mut next = file.alloc_dma_buffer(left);
                            next.as_bytes_mut().copy_from_slice(&rest.as_bytes()[written..]);
                            (rest, at) = (Rc::new(next), at + written as u64);
                        }
                    }
                }
            }
            (Target::Buffered(file), Piece::Buffered(mut rest)) => {
                while !rest.is_empty() {
                    let written = file.write_at(rest.clone(), at).await?;
                    if written == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    rest.drain(..written);
                    at += written as u64;
                }
                Ok(())
            }
            _ => unreachable!("a piece is of its file's kind"),
        }
    }

    /// Cuts the file to its length, and puts all of it on the disk.
    async fn settle(&self, len: u64) -> io::Result<()> {
        match self {
            Target::Direct(file) => {
                if file.align_up(len) != len {
                    file.truncate(len).await?;
                }
                Ok(file.fdatasync().await?)
            }
            Target::Buffered(file) => Ok(file.fdatasync().await?),
        }
    }
}

impl Piece {
    /// Puts bytes behind those that it has.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        match self {
            Piece::Direct(buffer) => {
                buffer.as_bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Piece::Buffered(buffer) => buffer.extend_from_slice(bytes),
        }
    }
}

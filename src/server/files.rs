//! Files as background tasks write and read them: through glommio, past the page cache where the file
//! system allows it.
//!
//! glommio's direct files take for granted that `statfs` works and that O_DIRECT is granted; where
//! that is not so ([`is_direct`] tries it), the buffered ones do the same. Nothing here panics: what
//! the system refuses comes back as an error.
//!
//! **Removing a file may take long**: 0.5 s for 512 MiB, where the file system tells the disk what it
//! no longer needs (ext4 with `discard`). The kernel does it in the thread that lets go of the file
//! last, so files are closed first and then removed by glommio's helper thread. Whoever drops an
//! [`AtomicFile`] instead of [discarding](AtomicFile::discard) it, because its task ends, has it
//! removed on the spot.
//!
//! An [`AtomicFile`] is complete or absent: it is written under another name, and only when its
//! bytes and then its name are on the disk has [`AtomicFile::commit`] succeeded.

use super::output::Output;
use futures_lite::AsyncReadExt;
use glommio::io::{
    BufferedFile, Directory, DmaFile, DmaStreamReader, DmaStreamReaderBuilder, StreamReader,
    StreamReaderBuilder,
};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::path::{Path, PathBuf};

/// One buffer of a stream, in bytes: what one request to the disk moves.
const BUFFER_BYTES: usize = 256 * 1024;
/// Requests under way at a time.
const DEPTH: usize = 4;

/// What a file's other name ends with, behind the process that writes it.
const TEMPORARY: &str = ".tmp";
/// How often one process may be writing, or removing, the file of one name at a time. (One that was given up
/// goes in its own time, while the next has begun.)
const TEMPORARIES: usize = 16;

/// How a file is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache.
    Direct,
    /// Through it.
    Buffered,
}

impl Access {
    /// What is possible at a path, where a file is that can be read.
    fn of(path: &Path) -> Access {
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        let is_granted = rustix::fs::open(path, flags, Mode::empty()).is_ok();
        match is_granted && rustix::fs::statfs(path).is_ok() {
            true => Access::Direct,
            false => Access::Buffered,
        }
    }
}

/// A file that is complete or absent: see the module's head.
pub struct AtomicFile {
    path: PathBuf,
    temporary: Temporary,
    access: Access,
    output: Output,
}

/// The file under its other name, which goes if it does not get its own.
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What is wrong has been said already.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl AtomicFile {
    /// Begins to write what will be the file at a path, beside it.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn create(path: &Path) -> io::Result<AtomicFile> {
        // glommio opens nothing by a name that is relative to the working directory.
        let path = &std::path::absolute(path)?;
        let temporary = create_temporary_of(path)?;
        let access = Access::of(&temporary);
        AtomicFile::create_as(path, temporary, access).await
    }

    async fn create_as(path: &Path, at: PathBuf, access: Access) -> io::Result<AtomicFile> {
        let temporary = Temporary(Some(at.clone()));
        let output = Output::create(&at, access).await?;
        Ok(AtomicFile { path: path.to_owned(), temporary, access, output })
    }

    /// How it is written.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When the system refuses, perhaps because of bytes that were appended earlier.
    pub async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.append(bytes).await
    }

    /// Gives up: the file is absent, what had its name before is still there.
    pub async fn discard(mut self) {
        if let Some(temporary) = self.temporary.0.take() {
            self.output.abandon().await;
            remove(&temporary).await;
        }
    }

    /// Gives the file its name, in place of what may have had it before, when all of it is on the
    /// disk; then puts the name there too.
    ///
    /// # Errors
    /// When the system refuses. The old file is still there then, unless it was the very last step
    /// that failed.
    pub async fn commit(mut self) -> io::Result<Replaced> {
        let Some(temporary) = self.temporary.0.take() else { return Ok(Replaced(None)) };
        let replaced = Replaced::at(&self.path).await;
        if let Err(error) = self.output.finish().await {
            remove(&temporary).await;
            return Err(error);
        }
        if let Err(error) = glommio::io::rename(&temporary, &self.path).await {
            remove(&temporary).await;
            return Err(error.into());
        }
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let directory = Directory::open(parent).await?;
        directory.sync().await?;
        directory.close().await?;
        Ok(replaced)
    }
}

/// What a file has taken the place of, held open: to give back its room on the disk may take long (see
/// the module's head), and nobody who waits for the new file has to wait for that.
#[must_use]
pub struct Replaced(Option<BufferedFile>);

impl Replaced {
    /// The file that is at a path before it is replaced, if there is one.
    async fn at(path: &Path) -> Replaced {
        let is_file = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
        // If it cannot be opened it goes when it is replaced.
        Replaced(if is_file { BufferedFile::open(path).await.ok() } else { None })
    }

    /// Lets go of it.
    pub async fn let_go(self) {
        if let Some(file) = self.0 {
            // Nobody misses it.
            _ = file.close().await;
        }
    }
}

/// The other name of a file while this process writes it.
/// The other names that a file can have while this process writes it.
fn temporaries_of(path: &Path) -> impl Iterator<Item = PathBuf> {
    let names = path.file_name().into_iter().flat_map(|name| {
        (0..TEMPORARIES).map(move |number| {
            let number = if number == 0 { String::new() } else { format!(".{number}") };
            let mut name = name.to_owned();
            name.push(format!(".{}{number}{TEMPORARY}", std::process::id()));
            name
        })
    });
    names.map(|name| path.with_file_name(name))
}

/// Creates the first of those that is not there.
fn create_temporary_of(path: &Path) -> io::Result<PathBuf> {
    let mut error = io::Error::from(io::ErrorKind::InvalidInput);
    for temporary in temporaries_of(path) {
        match std::fs::File::create_new(&temporary) {
            Ok(_) => return Ok(temporary),
            Err(refused) if refused.kind() == io::ErrorKind::AlreadyExists => error = refused,
            Err(refused) => return Err(refused),
        }
    }
    Err(error)
}

/// Removes what this process has written so far of the file at a path, if it is writing it: the process
/// is about to end, whatever its tasks are doing.
pub fn remove_unfinished(path: &Path) {
    for temporary in temporaries_of(path) {
        // If it is not there, nothing was being written.
        let _ = std::fs::remove_file(temporary);
    }
}

/// Removes what processes have left that were killed while they wrote the file at a path: what has its
/// other name, with the number of a process that does not live. (This one has begun none yet, so what
/// has its number is of one before it. In a container all have the same.)
pub fn remove_left_over(path: &Path) {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return };
    // What cannot be listed, or removed, is in nobody's way but the disk's.
    let Ok(list) = std::fs::read_dir(parent) else { return };
    for found in list.flatten() {
        let other = found.file_name();
        let Some(process) = writer_of(other.as_encoded_bytes(), name.as_encoded_bytes()) else {
            continue;
        };
        let is_ours = process == std::process::id();
        let lives = || Path::new(&format!("/proc/{process}")).exists();
        if (is_ours || !lives()) && std::fs::remove_file(found.path()).is_ok() {
            tracing::info!("Removed {}, left by a process that is gone", other.display());
        }
    }
}

/// The process that writes a file of a name under this other name, if it is one.
fn writer_of(other: &[u8], name: &[u8]) -> Option<u32> {
    let rest = other.strip_prefix(name)?.strip_prefix(b".")?;
    let numbers = str::from_utf8(rest.strip_suffix(TEMPORARY.as_bytes())?).ok()?;
    let (process, number) = numbers.split_once('.').unwrap_or((numbers, "0"));
    number.parse::<usize>().ok()?;
    process.parse().ok()
}

/// Removes a file, if it is there.
pub async fn remove(path: &Path) {
    // Whether it is depends on how far whoever wrote it got.
    let _ = glommio::io::remove(path).await;
}

/// A file that is read from its beginning to its end.
pub struct Source {
    stream: Reader,
}

enum Reader {
    Direct(DmaStreamReader),
    Buffered(StreamReader),
}

impl Source {
    /// Begins to read.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn open(path: &Path) -> io::Result<Source> {
        let path = &std::path::absolute(path)?;
        // Whoever opens a pipe waits for somebody at its other end. (A directory says what it is.)
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_file() && !kind.is_dir() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let stream = match Access::of(path) {
            Access::Direct => {
                let file = DmaStreamReaderBuilder::new(DmaFile::open(path).await?);
                let file = file.with_buffer_size(BUFFER_BYTES).with_read_ahead(DEPTH);
                Reader::Direct(file.build())
            }
            Access::Buffered => {
                let file = StreamReaderBuilder::new(BufferedFile::open(path).await?);
                Reader::Buffered(file.with_buffer_size(BUFFER_BYTES).build())
            }
        };
        Ok(Source { stream })
    }

    /// Lets go of the file, before somebody removes it.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn close(self) -> io::Result<()> {
        match self.stream {
            Reader::Direct(stream) => Ok(stream.close().await?),
            Reader::Buffered(stream) => Ok(stream.close().await?),
        }
    }

    /// Fills a buffer as far as there are bytes. Returns how far: less than all of it at the end.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            let read = match &mut self.stream {
                Reader::Direct(stream) => stream.read(rest).await?,
                Reader::Buffered(stream) => stream.read(rest).await?,
            };
            match read {
                0 => break,
                some => filled += some,
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs on an executor of its own, in a directory of its own.
    fn run<F: Future<Output = ()> + 'static>(
        name: &str,
        test: impl FnOnce(PathBuf) -> F + Send + 'static,
    ) {
        let place = format!("redshard-files-{}-{name}", std::process::id());
        let place = std::env::temp_dir().join(place);
        std::fs::create_dir_all(&place).expect("a directory");
        let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10);
        let (inside, at) = (place.clone(), place.clone());
        let thread = executor.spawn(move || test(inside)).expect("an executor");
        thread.join().expect("the test");
        std::fs::remove_dir_all(at).expect("remove the directory");
    }

    fn names(place: &Path) -> Vec<String> {
        let list = std::fs::read_dir(place).expect("list the directory");
        list.map(|entry| entry.expect("an entry").file_name().into_string().unwrap()).collect()
    }

    async fn write_and_read(place: &Path, access: Access) {
        let path = place.join("dump");
        let bytes: Vec<u8> = (0..3_000_001u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let mut file =
            AtomicFile::create_as(&path, place.join("dump.tmp"), access).await.expect("a file");
        for part in bytes.chunks(70_001) {
            file.append(part).await.expect("append");
        }
        assert_eq!(names(place), ["dump.tmp"]);
        file.commit().await.expect("commit").let_go().await;
        assert_eq!(names(place), ["dump"]);
        assert!(std::fs::read(&path).expect("read it") == bytes);
        let (mut source, mut read) = (Source::open(&path).await.expect("open it"), Vec::new());
        let mut buffer = vec![0; 100_003];
        loop {
            let some = source.fill(&mut buffer).await.expect("read");
            read.extend_from_slice(&buffer[..some]);
            if some < buffer.len() {
                break;
            }
        }
        assert!(read == bytes);
    }

    #[test]
    fn a_file_is_written_and_read_past_the_page_cache() {
        run("direct", |place| async move {
            std::fs::write(place.join("probe"), "").expect("a file");
            let access = Access::of(&place.join("probe"));
            std::fs::remove_file(place.join("probe")).expect("remove it");
            write_and_read(&place, access).await;
        });
    }

    #[test]
    fn a_file_is_written_through_the_page_cache() {
        run("buffered", |place| async move { write_and_read(&place, Access::Buffered).await });
    }

    #[test]
    fn a_file_that_is_not_committed_is_absent() {
        run("absent", |place| async move {
            std::fs::write(place.join("dump"), "old").expect("an old file");
            let mut file = AtomicFile::create(&place.join("dump")).await.expect("a file");
            file.append(b"new").await.expect("append");
            drop(file);
            assert_eq!(names(&place), ["dump"]);
            assert_eq!(std::fs::read(place.join("dump")).expect("read it"), b"old");
        });
    }

    #[test]
    fn what_a_killed_process_has_left_is_removed() {
        run("left", |place| async move {
            let own = format!("dump.rdb.{}.tmp", std::process::id());
            // The first process lives as long as anything does; the other number no process has.
            let others =
                ["dump.rdb.1.tmp", "dump.rdb.4194999", "dump.rdb.x.tmp", "other.4194999.tmp"];
            let dead = ["dump.rdb.4194999.tmp", "dump.rdb.4194999.3.tmp", own.as_str()];
            for name in others.iter().copied().chain(dead) {
                std::fs::write(place.join(name), "half").expect("a file");
            }
            remove_left_over(&place.join("dump.rdb"));
            let mut left = names(&place);
            left.sort();
            assert_eq!(left, others);
        });
    }

    #[test]
    fn one_that_is_given_up_takes_no_other_with_it() {
        run("twice", |place| async move {
            let path = place.join("dump");
            let first = AtomicFile::create(&path).await.expect("a file");
            let mut second = AtomicFile::create(&path).await.expect("another");
            second.append(b"second").await.expect("append");
            first.discard().await;
            let third = AtomicFile::create(&path).await.expect("one more");
            second.commit().await.map(drop).expect("it is there");
            drop(third);
            assert_eq!(names(&place), ["dump"]);
            assert_eq!(std::fs::read(&path).expect("a file"), b"second");
        });
    }

    #[test]
    fn what_the_system_refuses_is_an_error() {
        run("refused", |place| async move {
            let nowhere = place.join("nowhere/dump");
            let error = AtomicFile::create(&nowhere).await.err().expect("no such directory");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(Source::open(&nowhere).await.is_err());
            // A name that a directory has.
            std::fs::create_dir_all(place.join("dump/inside")).expect("a directory");
            let mut file = AtomicFile::create(&place.join("dump")).await.expect("a file");
            file.append(b"new").await.expect("append");
            file.commit().await.map(drop).expect_err("a directory is in the way");
            assert_eq!(names(&place), ["dump"]);
        });
    }
}

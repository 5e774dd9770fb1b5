//! The file that a save is written to: what the loop and the task that writes exchange.

use crate::persist::snapshot::Sink;
use crate::server::background::{self, Background, Chunks};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;

/// See the module's head.
#[derive(Default)]
pub(super) struct File {
    chunks: Chunks,
    is_cut_short: Cell<bool>,
    pub(super) outcome: RefCell<Option<io::Result<()>>>,
}

impl Sink for Rc<File> {
    fn has_room(&self) -> bool {
        self.chunks.has_room()
    }

    fn push(&mut self, chunk: Bytes) {
        self.chunks.put(chunk);
    }
}

impl File {
    /// Begins to write what will be the file at a path.
    pub(super) fn begin(path: &Path, background: &Background) -> Rc<File> {
        let file: Rc<File> = Rc::default();
        let (task, path) = (Rc::clone(&file), path.to_owned());
        background.start(async move {
            let outcome = background::write_file(&path, &task.chunks, &task.is_cut_short).await;
            *task.outcome.borrow_mut() = Some(outcome.map(drop));
        });
        file
    }

    /// It gets no more; if it is cut short, it is not to be.
    pub(super) fn end(&self, is_cut_short: bool) {
        self.is_cut_short.set(is_cut_short);
        self.chunks.end();
    }

    /// Why it cannot be written, if that is known before its end.
    pub(super) fn failure(&self) -> Option<io::Error> {
        let mut outcome = self.outcome.borrow_mut();
        match outcome.as_ref() {
            Some(Err(_)) => {
                let error = outcome.replace(Err(background::cut_short()))?.err()?;
                Some(error)
            }
            _ => None,
        }
    }
}

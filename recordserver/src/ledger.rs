//! Records that the server keeps beside the files of recordings: used ids, and the journal of finished ones.
//!
//! Owns: lines that the journal is due to have, and the report of a failed write. When lines and ids are
//! durable is the writer's ([`store::writer::checkpoints`]).

use crate::journal::{Journal, Line, MAX_LINES, locked};
use crate::used_ids::mark;
use recfile::sidecar::Sidecar;
use std::path::Path;
use std::sync::{Arc, Mutex};
use store::fs::Fs;
use store::jobs::Fault;

/// The books of the storage folder.
pub struct Ledger<F: Fs> {
    /// The recovery thread writes to it, too.
    journal: Arc<Mutex<Journal>>,
    /// The file of [`crate::used_ids`].
    used_ids: Option<F::File>,
    /// Finished files that the journal has no line of; beyond the limit the next start finds them.
    unlisted: Vec<Line>,
    /// It was told that the journal can't be written.
    is_behind: bool,
}

impl<F: Fs> Ledger<F> {
    /// Finished files go into `journal`, ids of recordings into the file `used_ids`.
    #[must_use]
    pub fn new(journal: Arc<Mutex<Journal>>, used_ids: Option<F::File>) -> Self {
        Self { journal, used_ids, unlisted: Vec::new(), is_behind: false }
    }
}

impl<F: Fs> store::writer::checkpoints::Ledger<F> for Ledger<F> {
    type Line = Line;

    fn begin(&mut self, fs: &F, recording: &str) {
        let marked = self.used_ids.as_ref().map(|ids| mark(fs, ids, recording));
        if let Some(Err(error)) = marked {
            log::warn!("id_not_noted recording={recording:?}: {error}");
        }
    }

    fn line(&self, folder: &Path, sidecar: &Sidecar) -> Line {
        locked(&self.journal).line(folder, sidecar)
    }

    fn finished(&mut self, line: Line) {
        if self.unlisted.len() < MAX_LINES {
            self.unlisted.push(line);
        }
    }

    fn is_due(&self) -> bool {
        !self.unlisted.is_empty()
    }

    fn write(&mut self, fs: &F) -> Result<(), Fault> {
        match locked(&self.journal).append(fs, &self.unlisted) {
            Ok(_) => {
                if std::mem::take(&mut self.is_behind) {
                    log::info!("journal_caught_up lines={}", self.unlisted.len());
                }
                self.unlisted.clear();
                Ok(())
            }
            Err(fault) => {
                if !std::mem::replace(&mut self.is_behind, true) {
                    log::error!("journal_behind {:?}; recordings go on, and it is tried again", fault.detail);
                }
                Err(fault)
            }
        }
    }
}

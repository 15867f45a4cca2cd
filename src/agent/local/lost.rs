//! A recording whose disk was pulled, and that goes on in a new file when one is back.
//!
//! Owns: what is kept, where the old file is cut and where the new one begins. Invariant: the old file ends
//! at the last octet that its disk acknowledged as durable, and the new one begins with the next.

use super::{Busy, FileState, Local};
use crate::call::Call;
use crate::jobs::{FileKey, Folder, Job, Mend, Piece};
use crate::rtp::counts::Counts;
use crate::time::Now;

/// Files that wait to be finished on a disk that is gone; what is beyond is left to the ordinary recovery.
const MAX_MENDS: usize = 16;

/// Reason that the sidecar of a file gives for its end when its disk was pulled.
const END_REASON_PULLED: &str = "storage_io";

impl Local {
    /// Whether the recording waits for a disk.
    pub(in crate::agent) fn is_lost(&self) -> bool {
        self.state == FileState::Lost
    }

    /// Whether storage is at work for this recording.
    pub(in crate::agent) fn is_busy(&self) -> bool {
        matches!(self.state, FileState::Busy(_))
    }

    /// Whether files are being finished, and nothing else is left to do.
    pub(in crate::agent) fn is_mending(&self) -> bool {
        self.state == FileState::Busy(Busy::Mending)
    }

    /// The disk is gone. Keeps everything that is not durable, `pieces` of the failed job included.
    pub(in crate::agent) fn lose_disk(&mut self, pieces: Vec<Piece>, call: &Call, counts: &Counts, now: Now) {
        self.tape.put_back(pieces);
        self.in_flight_octets = 0;
        let was = match self.state {
            FileState::Busy(busy) => Some(busy),
            _ => None,
        };
        match was {
            None | Some(Busy::Appending) => {
                let log = self.tape.cut_segment(self.durable_octets);
                let sidecar = self.sidecar(call, counts, log, Some((END_REASON_PULLED, now.wall)));
                self.segment_counts = *counts;
                self.mend_later(Box::new(sidecar));
                self.next_is_new = true;
            }
            Some(Busy::Rolling | Busy::Finishing) => {
                if let Some(sidecar) = self.closing.take() {
                    self.mend_later(sidecar);
                }
                self.next_is_new = true;
            }
            // Storage left nothing behind, or what it left is known already.
            Some(Busy::Opening | Busy::Mending) => {}
        }
        self.state = FileState::Lost;
    }

    /// A disk is there: the jobs that finish the old files and create a new one there.
    pub(in crate::agent) fn resume(
        &mut self,
        folder: &Folder,
        next: FileKey,
        call: &Call,
        now: Now,
    ) -> Vec<Job> {
        if self.state != FileState::Lost {
            return Vec::new();
        }
        self.spec.folder = folder.clone();
        let mut jobs: Vec<Job> = self
            .mends
            .iter()
            .map(|mend| Job::Mend(Box::new(Mend { folder: folder.clone(), ..mend.clone() })))
            .collect();
        if self.finishing.is_some() && self.tape.is_empty() && !jobs.is_empty() {
            self.set_busy(Busy::Mending, now);
            return jobs;
        }
        if std::mem::take(&mut self.next_is_new) {
            self.segment += 1;
        }
        self.file = next;
        self.stamp = now.wall;
        jobs.push(self.open(call, now));
        jobs
    }

    /// Whether a file of this recording waits to be finished under this key.
    pub(in crate::agent) fn has_mend(&self, file: FileKey) -> bool {
        self.mends.iter().any(|mend| mend.file == file)
    }

    /// A file was finished, or is not on this disk. Returns true if that was all that was left to do.
    pub(in crate::agent) fn mended(&mut self, file: FileKey) -> bool {
        self.mends.retain(|mend| mend.file != file);
        let done = self.mends.is_empty() && self.is_mending();
        if done {
            self.state = FileState::None;
        }
        done
    }

    fn mend_later(&mut self, sidecar: Box<crate::file::sidecar::Sidecar>) {
        let Some(name) = self.file_name.clone() else { return };
        if self.mends.len() == MAX_MENDS {
            self.mends.remove(0);
        }
        let folder = self.spec.folder.clone();
        self.mends.push(Mend { file: self.file, folder, name, octets: self.durable_octets, sidecar });
    }
}

//! Files that a recording left on a disk that was pulled, and that has not come back so far.
//!
//! Owns: what they are to become. Their recording went on in memory and then on another disk, so what stands
//! behind the last octet that theirs acknowledged stands in the next file, too: the ordinary recovery would keep
//! it twice. Invariants: never more than [`MAX_PENDING`], the oldest are given up for the ordinary recovery; a
//! file stays until a disk has it.

use std::collections::VecDeque;
use store::jobs::{FileKey, Finalise, Folder, Job};

/// Files that wait for a disk which may never come back.
const MAX_PENDING: usize = 16;

#[derive(Debug, Default)]
pub(in crate::agent) struct PendingFinalisations(VecDeque<Finalise>);

impl PendingFinalisations {
    /// Keeps what the disk that was there did not have.
    pub(in crate::agent) fn keep(&mut self, finalisations: impl IntoIterator<Item = Finalise>) {
        for finalisation in finalisations {
            if self.0.len() == MAX_PENDING {
                self.0.pop_front();
            }
            self.0.push_back(finalisation);
        }
    }

    /// A disk came: what is to be tried on it.
    pub(in crate::agent) fn jobs<'a>(&'a self, folder: &'a Folder) -> impl Iterator<Item = Job> + 'a {
        let finalisations = self.0.iter();
        finalisations.map(|finalisation| {
            Job::Finalise(Box::new(Finalise { folder: folder.clone(), ..finalisation.clone() }))
        })
    }

    /// A file was finished.
    pub(in crate::agent) fn finalised(&mut self, file: FileKey) {
        self.0.retain(|finalisation| finalisation.file != file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(device: u64) -> Folder {
        Folder { root: "/stick".into(), device, name: "Record".into() }
    }

    fn finalisation(key: u64) -> Finalise {
        let sidecar = Box::default();
        Finalise {
            file: FileKey(key),
            folder: folder(1),
            name: format!("{key}.wav"),
            octets: 80 * key,
            sidecar,
        }
    }

    fn tried(pending_finalisations: &PendingFinalisations) -> Vec<u64> {
        let folder = folder(7);
        let keys = pending_finalisations.jobs(&folder).map(|job| match job {
            Job::Finalise(finalisation) => {
                assert_eq!((finalisation.folder.device, finalisation.octets), (7, 80 * finalisation.file.0));
                finalisation.file.0
            }
            other => panic!("{other:?}"),
        });
        keys.collect()
    }

    #[test]
    fn a_file_is_tried_on_every_disk_that_comes_until_one_has_it() {
        let mut pending_finalisations = PendingFinalisations::default();
        pending_finalisations.keep([finalisation(1), finalisation(2)]);
        assert_eq!(tried(&pending_finalisations), [1, 2]);
        assert_eq!(tried(&pending_finalisations), [1, 2]);
        pending_finalisations.finalised(FileKey(1));
        assert_eq!(tried(&pending_finalisations), [2]);
    }

    #[test]
    fn there_is_a_limit_and_the_oldest_go() {
        let mut pending_finalisations = PendingFinalisations::default();
        pending_finalisations.keep((0..20).map(finalisation));
        assert_eq!(tried(&pending_finalisations), (4..20).collect::<Vec<_>>());
    }
}

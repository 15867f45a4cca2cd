//! Files that a recording left on a disk that was pulled, and that has not come back so far.
//!
//! Owns: what they are to become. Their recording went on in memory and then on another disk, so what stands
//! behind the last octet that theirs acknowledged stands in the next file, too: the ordinary recovery would keep
//! it twice. Invariants: never more than [`MAX_STRAYS`], the oldest are given up for the ordinary recovery; a
//! file stays until a disk has it.

use std::collections::VecDeque;
use store::jobs::{FileKey, Folder, Job, Mend};

/// Files that wait for a disk which may never come back.
const MAX_PENDING: usize = 16;

#[derive(Debug, Default)]
pub(in crate::agent) struct PendingFinalisations(VecDeque<Mend>);

impl PendingFinalisations {
    /// Keeps what the disk that was there did not have.
    pub(in crate::agent) fn keep(&mut self, mends: impl IntoIterator<Item = Mend>) {
        for mend in mends {
            if self.0.len() == MAX_PENDING {
                self.0.pop_front();
            }
            self.0.push_back(mend);
        }
    }

    /// A disk came: what is to be tried on it.
    pub(in crate::agent) fn jobs<'a>(&'a self, folder: &'a Folder) -> impl Iterator<Item = Job> + 'a {
        let mends = self.0.iter();
        mends.map(|mend| Job::Mend(Box::new(Mend { folder: folder.clone(), ..mend.clone() })))
    }

    /// A file was finished.
    pub(in crate::agent) fn mended(&mut self, file: FileKey) {
        self.0.retain(|mend| mend.file != file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(device: u64) -> Folder {
        Folder { root: "/stick".into(), device, name: "Record".into() }
    }

    fn mend(key: u64) -> Mend {
        let sidecar = Box::default();
        Mend { file: FileKey(key), folder: folder(1), name: format!("{key}.wav"), octets: 80 * key, sidecar }
    }

    fn tried(pending_finalisations: &PendingFinalisations) -> Vec<u64> {
        let folder = folder(7);
        let keys = pending_finalisations.jobs(&folder).map(|job| match job {
            Job::Mend(mend) => {
                assert_eq!((mend.folder.device, mend.octets), (7, 80 * mend.file.0));
                mend.file.0
            }
            other => panic!("{other:?}"),
        });
        keys.collect()
    }

    #[test]
    fn a_file_is_tried_on_every_disk_that_comes_until_one_has_it() {
        let mut pending_finalisations = PendingFinalisations::default();
        pending_finalisations.keep([mend(1), mend(2)]);
        assert_eq!(tried(&pending_finalisations), [1, 2]);
        assert_eq!(tried(&pending_finalisations), [1, 2]);
        pending_finalisations.mended(FileKey(1));
        assert_eq!(tried(&pending_finalisations), [2]);
    }

    #[test]
    fn there_is_a_limit_and_the_oldest_go() {
        let mut pending_finalisations = PendingFinalisations::default();
        pending_finalisations.keep((0..20).map(mend));
        assert_eq!(tried(&pending_finalisations), (4..20).collect::<Vec<_>>());
    }
}

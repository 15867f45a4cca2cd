//! Files that a recording left on a disk that was pulled, and that has not come back so far.
//!
//! Owns: their final form, and when they are tried again. Their recording went on in memory and then on
//! another disk or in another file, so audio behind the last octet that their disk acknowledged is in the
//! next file, too: the ordinary recovery would keep it twice. Invariants: never more than [`MAX_PENDING`],
//! the oldest are given up for the ordinary recovery; a file stays until a disk has it; one that could not be
//! finished on a disk that is there is tried again, ever more seldom.

use media::time::Mono;
use std::collections::VecDeque;
use std::time::Duration;
use store::jobs::{FileKey, Finalise, Folder, Job};

/// Files that wait for a disk which may never come back.
const MAX_PENDING: usize = 16;
/// A file that is locked, or could not be finished, is tried again after this, then after twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Pending {
    finalisation: Finalise,
    /// When it is tried again; `None`: when a disk comes.
    again_at: Option<Mono>,
    wait: Duration,
}

#[derive(Debug, Default)]
pub(in crate::agent) struct PendingFinalisations(VecDeque<Pending>);

impl PendingFinalisations {
    fn push(&mut self, finalisation: Finalise, again_at: Option<Mono>) {
        if self.0.len() == MAX_PENDING {
            self.0.pop_front();
        }
        self.0.push_back(Pending { finalisation, again_at, wait: FIRST_RETRY });
    }

    /// Keeps the files that the present disk did not have.
    pub(in crate::agent) fn keep(&mut self, finalisations: impl IntoIterator<Item = Finalise>) {
        finalisations.into_iter().for_each(|finalisation| self.push(finalisation, None));
    }

    /// Keeps files that could not be finished, though their disk may be there.
    pub(in crate::agent) fn keep_trying(
        &mut self,
        finalisations: impl IntoIterator<Item = Finalise>,
        now: Mono,
    ) {
        finalisations.into_iter().for_each(|finalisation| self.push(finalisation, Some(now + FIRST_RETRY)));
    }

    /// A disk came: the jobs to try on it.
    pub(in crate::agent) fn jobs<'a>(&'a self, folder: &'a Folder) -> impl Iterator<Item = Job> + 'a {
        self.0.iter().map(|pending| job(&pending.finalisation, folder))
    }

    /// The time of the next try.
    #[inline]
    pub(in crate::agent) fn retry_at(&self) -> Option<Mono> {
        self.0.iter().filter_map(|pending| pending.again_at).min()
    }

    /// The jobs to try again by now: in the file's own folder if that disk `is_there`, else in `folder`, if
    /// there is one.
    pub(in crate::agent) fn due(
        &mut self,
        folder: Option<&Folder>,
        is_there: impl Fn(&Folder) -> bool,
        now: Mono,
    ) -> Vec<Job> {
        let due = self.0.iter_mut().filter(|pending| pending.again_at.is_some_and(|at| at <= now));
        due.filter_map(|pending| {
            pending.again_at = None;
            let old = &pending.finalisation.folder;
            let at = if is_there(old) { Some(old) } else { folder };
            at.map(|at| job(&pending.finalisation, at))
        })
        .collect()
    }

    /// A file was finished.
    pub(in crate::agent) fn finalised(&mut self, file: FileKey) {
        self.0.retain(|pending| pending.finalisation.file != file);
    }

    /// A file could not be finished, though it may be there.
    pub(in crate::agent) fn failed(&mut self, file: FileKey, now: Mono) {
        for pending in self.0.iter_mut().filter(|pending| pending.finalisation.file == file) {
            pending.again_at = Some(now + pending.wait);
            pending.wait = (pending.wait * 2).min(LAST_RETRY);
        }
    }
}

fn job(finalisation: &Finalise, folder: &Folder) -> Job {
    Job::Finalise(Box::new(Finalise { folder: folder.clone(), ..finalisation.clone() }))
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

    #[test]
    fn a_file_that_could_not_be_finished_is_tried_again_ever_more_seldom_until_it_is() {
        let mut pending = PendingFinalisations::default();
        let at = |seconds| Mono::new(Duration::from_secs(seconds));
        pending.keep([finalisation(1)]);
        assert_eq!(pending.retry_at(), None, "it waits for its disk");
        pending.keep_trying([finalisation(2)], at(10));
        assert_eq!(pending.retry_at(), Some(at(12)));
        let device = |jobs: &[Job]| match jobs {
            [] => None,
            [Job::Finalise(finalisation)] => Some((finalisation.file.0, finalisation.folder.device)),
            more => panic!("{more:?}"),
        };
        assert_eq!(device(&pending.due(Some(&folder(7)), |_| false, at(11))), None);
        assert_eq!(device(&pending.due(Some(&folder(7)), |_| true, at(12))), Some((2, 1)), "where it was");
        assert_eq!(pending.retry_at(), None, "storage has it");
        for (failed, again) in [(13, 15), (16, 20), (30, 38)] {
            pending.failed(FileKey(2), at(failed));
            assert_eq!(pending.retry_at(), Some(at(again)));
            let other = pending.due(Some(&folder(7)), |_| false, at(again));
            assert_eq!(device(&other), Some((2, 7)), "its disk is elsewhere");
        }
        (0..20).for_each(|_| pending.failed(FileKey(2), at(100)));
        assert_eq!(pending.retry_at(), Some(at(400)));
        assert_eq!(device(&pending.due(None, |_| false, at(400))), None);
        assert_eq!(pending.retry_at(), None, "without a disk it waits for one");
        pending.failed(FileKey(2), at(500));
        pending.finalised(FileKey(2));
        assert_eq!(pending.retry_at(), None);
    }
}

//! Jobs that storage had no room for, until it has.
//!
//! Owns: their order. Invariants: no job is dropped that a recording, a client or an open file waits for;
//! none that comes later overtakes them; there are never more than [`MAX_DEFERRED_JOBS`].

use media::time::Mono;
use std::collections::VecDeque;
use std::time::Duration;
use store::jobs::Job;
use store::jobs::library::LibraryJob;

/// Jobs held at most: one for each recording, and those that end recordings which failed by a stalled disk.
pub(in crate::agent) const MAX_DEFERRED_JOBS: usize = 512;

/// Storage is asked again after this, if it does not answer something before.
const RETRY_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(in crate::agent) struct DeferredJobs {
    jobs: VecDeque<Job>,
    retry_at: Option<Mono>,
}

impl DeferredJobs {
    /// Keeps a job for later; gives it back if another one held does the same, or there are too many.
    pub(in crate::agent) fn defer(&mut self, job: Job, now: Mono) -> Option<Job> {
        let is_keep = |job: &Job| matches!(job, Job::Library(LibraryJob::Keep(_)));
        if let Some(held) = self.jobs.iter_mut().find(|held| is_keep(held) && is_keep(&job)) {
            // The newer list says all.
            *held = job;
            return None;
        }
        let same = |deferred: &Job| matches!((deferred, &job), (Job::Scan(_), Job::Scan(_)));
        if self.jobs.len() >= MAX_DEFERRED_JOBS || self.jobs.iter().any(same) {
            return Some(job);
        }
        self.jobs.push_back(job);
        self.retry_at.get_or_insert(now + RETRY_AFTER);
        None
    }

    /// Whether there is none.
    pub(in crate::agent) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether `job` has to wait for those that are deferred. A question about the library is answered at
    /// once instead.
    pub(in crate::agent) fn keeps_back(&self, job: &Job) -> bool {
        !self.is_empty()
            && (!matches!(job, Job::Library(_)) || matches!(job, Job::Library(LibraryJob::Keep(_))))
    }

    /// When to ask storage again.
    pub(in crate::agent) fn retry_at(&self) -> Option<Mono> {
        self.retry_at
    }

    /// Everything deferred, in order, to be tried again.
    pub(in crate::agent) fn take(&mut self) -> impl Iterator<Item = Job> + '_ {
        self.retry_at = None;
        self.jobs.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::jobs::{FileKey, Target};

    #[test]
    fn jobs_come_back_in_order_and_a_second_scan_is_not_held() {
        let mut deferred = DeferredJobs::default();
        assert_eq!(deferred.retry_at(), None);
        for job in [Job::Abandon(FileKey(1)), Job::Scan(Target::Auto.into()), Job::Abandon(FileKey(2))] {
            assert!(deferred.defer(job, Mono::default()).is_none());
        }
        assert!(deferred.defer(Job::Scan(Target::Auto.into()), Mono::default()).is_some());
        assert_eq!(deferred.retry_at(), Some(Mono::new(RETRY_AFTER)));
        let jobs: Vec<Job> = deferred.take().collect();
        assert!(matches!(jobs[..], [Job::Abandon(FileKey(1)), Job::Scan(_), Job::Abandon(FileKey(2))]));
        assert_eq!(deferred.retry_at(), None);
    }

    #[test]
    fn the_newest_list_of_files_to_keep_takes_the_place_of_an_older_one() {
        let keep = |file: &str| Job::Library(LibraryJob::Keep(vec![file.to_owned()]));
        let mut deferred = DeferredJobs::default();
        for job in [keep("a.wav"), Job::Abandon(FileKey(1)), keep("b.wav")] {
            assert!(deferred.defer(job, Mono::default()).is_none());
        }
        let jobs: Vec<Job> = deferred.take().collect();
        let [Job::Library(LibraryJob::Keep(files)), Job::Abandon(_)] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!(*files, ["b.wav"]);
    }

    #[test]
    fn a_job_waits_behind_those_that_are_held_and_a_question_does_not() {
        let question = Job::Library(LibraryJob::Info {
            ask: store::jobs::library::AskId(1),
            folder: store::jobs::Folder { root: "/stick".into(), device: 1, name: String::new() },
            file: "a.wav".into(),
        });
        let mut deferred = DeferredJobs::default();
        assert!(!deferred.keeps_back(&Job::Abandon(FileKey(1))));
        assert!(deferred.defer(Job::Scan(Target::Auto.into()), Mono::default()).is_none());
        assert!(deferred.keeps_back(&Job::Abandon(FileKey(1))));
        assert!(deferred.keeps_back(&Job::Library(LibraryJob::Keep(Vec::new()))));
        assert!(!deferred.keeps_back(&question));
    }

    #[test]
    fn there_is_a_limit() {
        let mut deferred = DeferredJobs::default();
        let kept =
            (0..1000).filter(|key| deferred.defer(Job::Abandon(FileKey(*key)), Mono::default()).is_none());
        assert_eq!(kept.count(), MAX_DEFERRED_JOBS);
    }
}

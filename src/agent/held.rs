//! Jobs that storage had no room for, until it has.
//!
//! Owns: their order. Invariants: no job is dropped that a recording, a client or an open file waits for;
//! there are never more than [`MAX_HELD_JOBS`].

use crate::jobs::Job;
use crate::time::Mono;
use std::collections::VecDeque;
use std::time::Duration;

/// Jobs held at most: one for each recording, and those that end what a stalled disk has made fail.
pub(super) const MAX_HELD_JOBS: usize = 512;

/// Storage is asked again after this, if it does not answer something before.
const RETRY_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Held {
    jobs: VecDeque<Job>,
    retry_at: Option<Mono>,
}

impl Held {
    /// Keeps a job for later; gives it back if another one held does the same, or there are too many.
    pub(super) fn hold(&mut self, job: Job, now: Mono) -> Option<Job> {
        let same = |held: &Job| matches!((held, &job), (Job::Scan(_), Job::Scan(_)));
        if self.jobs.len() >= MAX_HELD_JOBS || self.jobs.iter().any(same) {
            return Some(job);
        }
        self.jobs.push_back(job);
        self.retry_at.get_or_insert(now + RETRY_AFTER);
        None
    }

    /// When to ask storage again.
    pub(super) fn retry_at(&self) -> Option<Mono> {
        self.retry_at
    }

    /// Everything held, in order, to be tried again.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Job> + '_ {
        self.retry_at = None;
        self.jobs.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{FileKey, Target};

    #[test]
    fn jobs_come_back_in_order_and_a_second_scan_is_not_held() {
        let mut held = Held::default();
        assert_eq!(held.retry_at(), None);
        for job in [Job::Abandon(FileKey(1)), Job::Scan(Target::Auto), Job::Abandon(FileKey(2))] {
            assert!(held.hold(job, Mono::default()).is_none());
        }
        assert!(held.hold(Job::Scan(Target::Auto), Mono::default()).is_some());
        assert_eq!(held.retry_at(), Some(Mono::new(RETRY_AFTER)));
        let jobs: Vec<Job> = held.take().collect();
        assert!(matches!(jobs[..], [Job::Abandon(FileKey(1)), Job::Scan(_), Job::Abandon(FileKey(2))]));
        assert_eq!(held.retry_at(), None);
    }

    #[test]
    fn there_is_a_limit() {
        let mut held = Held::default();
        let kept = (0..1000).filter(|key| held.hold(Job::Abandon(FileKey(*key)), Mono::default()).is_none());
        assert_eq!(kept.count(), MAX_HELD_JOBS);
    }
}

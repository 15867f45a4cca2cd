//! The disks: what is there, how much room is left, what waits for storage.

use crate::agent::Agent;
use crate::agent::recordings::to_file::segment_buffer;
use media::time::Now;
use store::jobs::Job;

pub(in crate::agent) mod deferred_jobs;
pub(in crate::agent) mod eject;
pub(in crate::agent) mod faults;
pub(in crate::agent) mod room;
mod scan;
pub(in crate::agent) mod state;

impl Agent {
    pub(in crate::agent) fn remaining_s(&self) -> Option<u64> {
        self.disk.remaining_s(self.count_on_disk())
    }

    pub(in crate::agent) fn storage_status(&self) -> crate::api::status::StorageStatus {
        self.disk.status(self.count_on_disk())
    }

    /// The disk is stalled: what it was to do is done when it goes on.
    pub(in crate::agent) fn job_refused(&mut self, job: Job, now: Now) {
        match self.deferred.defer(job, now.mono) {
            Some(Job::Scan(_)) => self.scans = self.scans.saturating_sub(1),
            Some(Job::Append { pieces, .. }) => segment_buffer::give_back(pieces, &mut self.pool),
            _ => {}
        }
    }
}

//! The disks: what is there, how much room is left, what waits for storage.

use crate::agent::Parts;

pub(in crate::agent) mod deferred_jobs;
pub(in crate::agent) mod eject;
pub(in crate::agent) mod faults;
pub(in crate::agent) mod room;
mod scan;
pub(in crate::agent) mod state;

impl Parts {
    pub(in crate::agent) fn remaining_s(&self) -> Option<u64> {
        self.disk.remaining_s(self.count_on_disk())
    }

    pub(in crate::agent) fn storage_status(&self) -> crate::api::status::StorageStatus {
        self.disk.status(self.count_on_disk())
    }
}

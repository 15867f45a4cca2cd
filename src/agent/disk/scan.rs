//! A look at the disks: when it is due, and what follows from what it found.

use crate::agent::{Action, Parts, Turn};
use crate::api::event::Event;
use crate::api::reason::Reason;
use media::time::Mono;
use std::time::Duration;
use store::jobs::{Found, Job};

/// Between two looks at the disks that nothing has asked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl Parts {
    pub(in crate::agent) fn scan(&mut self, turn: &mut Turn<'_>) {
        self.scans += 1;
        self.looked_at = turn.now.mono;
        turn.actions.push(Action::Job(Job::Scan(self.disk.look())));
    }

    pub(in crate::agent) fn scanned(&mut self, found: Found, turn: &mut Turn<'_>) {
        self.scans = self.scans.saturating_sub(1);
        // What is there when we start was not inserted; agent.info tells of it.
        let inserted = self.disk.was_looked_at();
        let change = self.disk.scanned(found, self.count_on_disk());
        if change.went {
            self.library_gone(Reason::StorageIo.as_str(), turn);
            turn.emit(&Event::StorageRemoved(self.storage_status()));
        }
        for key in self.on_disk() {
            let to_file = self.recordings.get(&key).and_then(|it| it.destination.as_file());
            if to_file.is_some_and(|to_file| change.gone.contains(to_file.folder())) {
                self.disk_pulled(key, turn);
            }
        }
        for folder in &change.fresh {
            turn.actions.extend(self.pending_finalisations.jobs(folder).map(Action::Job));
        }
        self.resume_lost(change.came, turn);
        if change.turned {
            self.library.clear();
        }
        if change.came {
            self.welcome_disk(inserted, turn);
            self.library_anew();
        } else if !inserted {
            let (level, text) = self.disk.describe();
            turn.actions.push(Action::Log(level, text));
        }
        for (reply, start, _) in std::mem::take(&mut self.waiting_starts) {
            self.start(reply, start, turn);
        }
    }

    /// When the disks are to be looked at though nothing has told of a change: nobody tells when others fill a disk, nor
    /// when one is pulled that is not mounted. A look that could not see what there is is made again, too. While something is recorded, what storage answers tells enough.
    pub(in crate::agent) fn look_due(&self, state_wanted: bool) -> Option<Mono> {
        let waits = self.disk.waits_for_pull() || state_wanted;
        let idle = self.count_on_disk() == 0;
        let looks = self.scans > 0 || self.life.is_ending();
        ((waits && idle || self.disk.is_unknown()) && !looks).then_some(self.looked_at + LOOK_INTERVAL)
    }

    /// Tells if the state of the disk is another one than before.
    pub(in crate::agent) fn emit_state(&mut self, turn: &mut Turn<'_>) {
        if let Some(change) = self.disk.change(self.count_on_disk()) {
            turn.emit(&Event::StorageState(change));
        }
    }
}

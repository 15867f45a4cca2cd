//! What little room means for recordings: `storage.low` and `storage.full`, and who goes on at another disk.

use crate::agent::disk::room::MakeRoom;
use crate::agent::disk::state::Level;
use crate::agent::recordings::recording::Recording;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::agent::{Parts, RecordingKey, Turn};
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::config::OnFull;
use store::jobs::Fault;

impl Parts {
    /// Ends recordings on a full disk, or makes room, and tells.
    pub(in crate::agent) fn check_room(&mut self, turn: &mut Turn<'_>) {
        let waiting = self.recordings.values().map(Recording::waiting_octets).sum();
        // Nothing is deleted as long as there is room on another disk.
        let elsewhere = self.disk.has_other(self.count_on_disk());
        let deletes = turn.config.storage.on_full == OnFull::DeleteOldest
            && self.make_room != MakeRoom::Nothing
            && !elsewhere;
        if deletes && self.disk.wants_deletion(waiting) {
            if let Some(folder) = self.disk.folder() {
                self.delete_oldest(folder, turn);
            }
        }
        let level = self.disk.level_to_tell(self.count_on_disk());
        if level == Some(Level::Low) && !deletes {
            turn.emit(&Event::StorageLow(self.storage_status()));
        }
        // As long as there is something to delete, the reserve bridges the time until that is done.
        if !deletes && self.disk.is_full(waiting) {
            self.disk_full(turn);
        }
    }

    /// The disk takes no more: every recording goes on at another one, or is finished with what it has.
    pub(in crate::agent) fn disk_full(&mut self, turn: &mut Turn<'_>) {
        if self.disk.first_full() {
            turn.emit(&Event::StorageFull(self.storage_status()));
        }
        let Some(full) = self.disk.folder() else { return };
        let others = self.count_on_disk().saturating_sub(1);
        let next = if self.ejecting.is_none() { self.disk.turn_from(&full, others) } else { None };
        for key in self.on_disk() {
            let Some(it) = self.recordings.get_mut(&key) else { continue };
            let Some(to_file) = it.destination.as_file_mut() else { continue };
            if *to_file.folder() != full {
                continue;
            }
            match &next {
                Some(folder) => {
                    to_file.move_to(folder.clone(), &mut it.stream);
                    self.pump(key, turn);
                }
                None => self.stop(key, Reason::StorageFull, turn),
            }
        }
        if next.is_some() {
            self.turned(turn);
        }
    }

    /// There was no room to create a file, though there may be octets left: folders and disks have room for so many names.
    /// The oldest file gives way, and it is tried again. False if that can't be.
    pub(in crate::agent) fn deletes_to_open(
        &mut self,
        key: RecordingKey,
        fault: &Fault,
        turn: &mut Turn<'_>,
    ) -> bool {
        let elsewhere = self.disk.has_other(self.count_on_disk().saturating_sub(1));
        let wanted =
            turn.config.storage.on_full == OnFull::DeleteOldest && self.make_room != MakeRoom::Nothing;
        let Some(folder) = self.disk.folder().filter(|_| wanted && !elsewhere) else { return false };
        let to_file = self.recordings.get_mut(&key).and_then(|it| it.destination.as_file_mut());
        let tries = to_file.filter(|to_file| *to_file.folder() == folder).is_some_and(ToFile::may_open_again);
        if !tries {
            return false;
        }
        self.reopening.push((key, fault.clone()));
        self.delete_oldest(folder, turn);
        true
    }
}

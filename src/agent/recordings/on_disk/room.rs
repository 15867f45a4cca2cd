//! What little room means for recordings: `storage.low` and `storage.full`, and who goes on at another disk.

use crate::agent::recordings::recording::Recording;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::agent::{Parts, RecordingKey, Turn};
use crate::api::reason::Reason;
use store::jobs::Fault;

impl Parts {
    /// Ends recordings on a full disk, or makes room, and tells.
    pub(in crate::agent) fn check_room(&mut self, turn: &mut Turn<'_>) {
        let waiting = self.recordings.values().map(Recording::waiting_octets).sum();
        let recordings = &self.recordings;
        let ids = || recordings.values().map(|it| it.id.clone()).collect();
        if self.disk.check_room(self.count_on_disk(), waiting, ids, turn) {
            self.disk_full(turn);
        }
    }

    pub(in crate::agent) fn delete_one_more(&mut self, turn: &mut Turn<'_>) {
        let recordings = &self.recordings;
        self.disk.delete_one_more(|| recordings.values().map(|it| it.id.clone()).collect(), turn);
    }

    /// The disk takes no more: every recording goes on at another one, or is finished with what it has.
    pub(in crate::agent) fn disk_full(&mut self, turn: &mut Turn<'_>) {
        self.disk.emit_full(self.count_on_disk(), turn);
        let Some(full) = self.disk.state.folder() else { return };
        let others = self.count_on_disk().saturating_sub(1);
        let next = if self.disk.is_ejecting() { None } else { self.disk.state.turn_from(&full, others) };
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
        let elsewhere = self.disk.state.has_other(self.count_on_disk().saturating_sub(1));
        let wanted = self.disk.may_delete(turn);
        let Some(folder) = self.disk.state.folder().filter(|_| wanted && !elsewhere) else { return false };
        let to_file = self.recordings.get_mut(&key).and_then(|it| it.destination.as_file_mut());
        let tries = to_file.filter(|to_file| *to_file.folder() == folder).is_some_and(ToFile::may_open_again);
        if !tries {
            return false;
        }
        self.reopening.push((key, fault.clone()));
        let recordings = &self.recordings;
        let ids = || recordings.values().map(|it| it.id.clone()).collect();
        self.disk.delete_oldest(folder, ids, turn);
        true
    }
}

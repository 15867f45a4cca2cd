//! What follows for recordings and the library from what happens to disks: a look, an eject, room that is made.

use crate::agent::clients::answer::{Answer, Caller};
use crate::agent::{Action, Parts, RecordingKey, Turn};
use crate::api::ending::Order;
use crate::api::event::Event;
use crate::api::reason::Reason;
use store::jobs::{Ejected, Fault, Found, Space};

impl Parts {
    pub(in crate::agent) fn remaining_s(&self) -> Option<u64> {
        self.disk.room_left().seconds(self.count_on_disk())
    }

    pub(in crate::agent) fn scanned(&mut self, found: Found, turn: &mut Turn<'_>) {
        let (change, inserted) = self.disk.scanned(found, self.count_on_disk());
        if change.went {
            self.library_gone(Reason::StorageIo.as_str(), turn);
            turn.emit(&Event::StorageRemoved(self.disk.state.status(self.count_on_disk())));
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
            self.disk.log_state(turn);
        }
        for (reply, start, _) in std::mem::take(&mut self.waiting_starts) {
            self.start(reply, start, turn);
        }
    }

    /// Another disk that was there already is recorded to from now on.
    pub(in crate::agent) fn turned(&mut self, turn: &mut Turn<'_>) {
        self.library.clear();
        self.resume_lost(true, turn);
        self.welcome_disk(true, turn);
        self.library_anew();
    }

    fn welcome_disk(&mut self, inserted: bool, turn: &mut Turn<'_>) {
        let idle = self.recordings.is_empty() && self.waiting_starts.is_empty();
        self.disk.welcome(inserted, self.count_on_disk(), idle, turn);
    }

    /// If the disk in use takes no recording and another one does, turns to that.
    pub(in crate::agent) fn turn_if_better(&mut self, turn: &mut Turn<'_>) {
        if self.disk.turn_if_better(self.count_on_disk()) {
            self.turned(turn);
        }
    }

    pub(in crate::agent) fn deletes_for_start(&mut self, turn: &mut Turn<'_>) -> bool {
        let recordings = &self.recordings;
        let ids = || recordings.values().map(|it| it.id.clone()).collect();
        self.disk.delete_for_start(self.count_on_disk(), ids, turn)
    }

    pub(in crate::agent) fn search_on(&mut self, turn: &mut Turn<'_>) {
        let recordings = &self.recordings;
        let ids = || recordings.values().map(|it| it.id.clone()).collect();
        if !self.disk.search_on(ids, turn) {
            self.deleted(None, None, turn);
        }
    }

    pub(in crate::agent) fn deleted(
        &mut self,
        file: Option<String>,
        space: Option<Space>,
        turn: &mut Turn<'_>,
    ) {
        let in_use = self.disk.deleted(file.as_deref(), space, turn);
        if let Some(file) = file.as_deref().filter(|_| in_use) {
            self.library.file_deleted(file);
        }
        for (key, fault) in std::mem::take(&mut self.reopening) {
            match self.recordings.get_mut(&key) {
                Some(it) if file.is_some() => {
                    let again = it
                        .destination
                        .as_file_mut()
                        .and_then(|to_file| to_file.open_again(&it.call, turn.now));
                    turn.actions.extend(again.map(Action::Job));
                }
                _ => self.open_failed(key, fault, turn),
            }
        }
        // Whoever waits to start is answered by the scan.
        if !self.waiting_starts.is_empty() && !self.deletes_for_start(turn) && !self.disk.is_looking() {
            self.disk.scan(turn);
        }
        if !self.recordings.is_empty() {
            self.check_room(turn);
        }
    }

    pub(in crate::agent) fn eject(&mut self, caller: &mut Caller, turn: &mut Turn<'_>) -> Answer {
        self.disk.check_eject()?;
        self.library.end_playbacks("ejected", turn);
        self.disk.begin_eject(caller)?;
        for key in self.on_disk() {
            if self.is_on_ejected(key) {
                self.stop(key, Order::Ejected, turn);
            }
        }
        self.finish_eject(turn);
        Ok(None)
    }

    /// Whether a recording is on the disk that is to be ejected. One that has lost its disk waits in memory for another.
    fn is_on_ejected(&self, key: RecordingKey) -> bool {
        let it = self.recordings.get(&key);
        let to_file = it.filter(|it| !it.has_lost_disk()).and_then(|it| it.destination.as_file());
        to_file.is_some_and(|to_file| {
            to_file.folders().any(|folder| self.disk.state.is_on_current_stick(folder))
        })
    }

    /// When the last recording on the disk has ended, it can be ejected.
    pub(in crate::agent) fn finish_eject(&mut self, turn: &mut Turn<'_>) {
        if !self.disk.waits_to_eject() || self.on_disk().into_iter().any(|key| self.is_on_ejected(key)) {
            return;
        }
        if let Err(gone) = self.disk.eject(turn) {
            self.ejected(Err(gone), turn);
        }
    }

    pub(in crate::agent) fn ejected(&mut self, result: Result<Ejected, Fault>, turn: &mut Turn<'_>) {
        if self.disk.ejected(result, turn) {
            self.library.clear();
        }
    }
}

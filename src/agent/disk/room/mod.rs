//! Room that is made by the deletion of old recordings, and what is said of a disk that has just come.
//!
//! Never: how much room there is ([`super::state`]), or what a full disk means for recordings.

use crate::agent::disk::state::SPEED_CHECK_OCTETS;
use crate::agent::{Action, Parts, Turn};
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::config::OnFull;
use log::Level as LogLevel;
use store::jobs::{Fault, Folder, Job, Space, Speed};

/// Whether old files can make room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) enum MakeRoom {
    Possible,
    /// The oldest file of this folder is being deleted.
    Asked(Folder),
    /// There was no file to delete.
    Nothing,
}

impl MakeRoom {
    fn asked(&self) -> Option<&Folder> {
        match self {
            Self::Asked(folder) => Some(folder),
            Self::Possible | Self::Nothing => None,
        }
    }

    /// There may be a file to delete now.
    pub(in crate::agent) fn look_anew(&mut self) {
        if *self == Self::Nothing {
            *self = Self::Possible;
        }
    }
}

impl Parts {
    /// Another disk that was there already is recorded to from now on.
    pub(in crate::agent) fn turned(&mut self, turn: &mut Turn<'_>) {
        self.library.clear();
        self.resume_lost(true, turn);
        self.welcome_disk(true, turn);
        self.library_anew();
    }

    /// If the disk in use takes no recording and another one does, turns to that.
    pub(in crate::agent) fn turn_if_better(&mut self, turn: &mut Turn<'_>) {
        let running = self.count_on_disk();
        if self.ejecting.is_some() || self.disk.folder_to_record(running).is_ok() {
            return;
        }
        let turned = self.disk.folder().and_then(|folder| self.disk.turn_from(&folder, running));
        if turned.is_some() {
            self.turned(turn);
        }
    }

    /// Asks for the deletion of the oldest file, unless one is being deleted.
    pub(in crate::agent) fn delete_oldest(&mut self, folder: Folder, turn: &mut Turn<'_>) {
        if self.make_room.asked().is_none() {
            self.make_room = MakeRoom::Asked(folder.clone());
            turn.actions.push(self.deletion(folder));
        }
    }

    fn deletion(&self, folder: Folder) -> Action {
        let running = self.recordings.values().map(|it| it.id.clone()).collect();
        Action::Job(Job::DeleteOldest { folder, running })
    }

    /// There was no room for another name, and to finish a file takes one for a moment: its final sidecar's.
    pub(in crate::agent) fn delete_one_more(&mut self, turn: &mut Turn<'_>) {
        if let Some(folder) = self.disk.folder().filter(|_| self.make_room != MakeRoom::Nothing) {
            self.delete_oldest(folder, turn);
        }
    }

    /// The oldest file is not found yet: storage goes on when it has done what waits behind the search.
    pub(in crate::agent) fn search_on(&mut self, turn: &mut Turn<'_>) {
        match self.disk.folder().filter(|folder| self.make_room.asked() == Some(folder)) {
            Some(folder) => turn.actions.push(self.deletion(folder)),
            // The disk is gone or in use no more, and with it what was to be made room for.
            None => self.deleted(None, None, turn),
        }
    }

    pub(in crate::agent) fn deleted(
        &mut self,
        file: Option<String>,
        space: Option<Space>,
        turn: &mut Turn<'_>,
    ) {
        let folder = self.make_room.asked().cloned();
        let in_use = folder.is_some() && folder == self.disk.folder();
        let made_room = file.is_some();
        self.make_room = if in_use && !made_room { MakeRoom::Nothing } else { MakeRoom::Possible };
        if let Some(file) = file {
            if in_use {
                self.library.file_deleted(&file);
            }
            turn.actions.push(Action::Log(LogLevel::Info, format!("deleted {file} to make room")));
        }
        if let (Some(folder), Some(space)) = (&folder, space) {
            self.disk.measured(folder, space);
        }
        for (key, fault) in std::mem::take(&mut self.reopening) {
            match self.recordings.get_mut(&key) {
                Some(it) if made_room => {
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
        if !self.waiting_starts.is_empty() && !self.deletes_for_start(turn) && self.scans == 0 {
            self.scan(turn);
        }
        if !self.recordings.is_empty() {
            self.check_room(turn);
        }
    }

    /// Makes room for a recording that is to start, one old file after another. False if there is nothing to do.
    pub(in crate::agent) fn deletes_for_start(&mut self, turn: &mut Turn<'_>) -> bool {
        let refused = self.disk.folder_to_record(self.count_on_disk()).err();
        let full = refused.is_some_and(|error| error.reason == Reason::StorageFull);
        let wanted =
            turn.config.storage.on_full == OnFull::DeleteOldest && self.make_room != MakeRoom::Nothing;
        let Some(folder) = self.disk.folder().filter(|_| full && wanted) else { return false };
        self.delete_oldest(folder, turn);
        true
    }

    /// A disk has come: says what it is, and tries how fast it is.
    pub(in crate::agent) fn welcome_disk(&mut self, inserted: bool, turn: &mut Turn<'_>) {
        self.make_room.look_anew();
        let status = self.storage_status();
        let (level, text) = self.disk.describe();
        turn.actions.push(Action::Log(level, text));
        if inserted && !self.disk.is_forbidden() {
            turn.emit(&Event::StorageInserted(status));
        }
        let idle = self.recordings.is_empty() && self.waiting_starts.is_empty();
        let room = self.disk.room_octets() >= SPEED_CHECK_OCTETS;
        if turn.config.storage.speed_check && idle && room {
            if let Ok(folder) = self.disk.folder_to_record(0) {
                turn.actions.push(Action::Job(Job::MeasureSpeed(folder)));
            }
        }
    }

    pub(in crate::agent) fn speed_measured(
        &mut self,
        result: Result<Option<Speed>, Fault>,
        turn: &mut Turn<'_>,
    ) {
        match result {
            Ok(None) => {}
            Ok(Some(speed)) => {
                if let Some(note) = self.disk.judge_speed(speed, turn.config.rtp.max_recordings) {
                    turn.actions.push(Action::Log(LogLevel::Warn, format!("the disk is {note}")));
                    turn.emit(&Event::StorageInserted(self.storage_status()));
                }
            }
            Err(fault) => turn.actions.push(Action::Log(LogLevel::Warn, fault.detail)),
        }
    }
}

#[cfg(test)]
mod tests;

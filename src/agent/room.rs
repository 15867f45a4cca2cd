//! Room on the disk: told in time, made where that is wanted, and kept in reserve at the end.
//!
//! Owns: what is done at `storage.low` and `storage.full`, deletion of old recordings, what is said of a
//! disk that has just come. Numbers are the medium's.

use super::local::Local;
use super::medium::{Level, SPEED_CHECK_OCTETS};
use super::recording::Recording;
use super::{Agent, io::Action, io::RecordingKey};
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::config::OnFull;
use crate::jobs::{Fault, Job, Space, Speed};
use crate::time::Now;
use log::Level as LogLevel;

impl Agent {
    /// Ends recordings on a full disk, or makes room, and tells.
    pub(super) fn check_room(&mut self, now: Now, actions: &mut Vec<Action>) {
        let waiting = self.recordings.values().map(Recording::waiting_octets).sum();
        let deletes = self.config.storage.on_full == OnFull::DeleteOldest && !self.nothing_to_delete;
        if deletes && !self.deleting && self.medium.wants_deletion(waiting) {
            if let Some(folder) = self.medium.folder() {
                self.deleting = true;
                actions.push(Action::Job(Job::DeleteOldest(folder)));
            }
        }
        let level = self.medium.level_to_tell(self.count_on_disk());
        if level == Some(Level::Low) && !deletes {
            self.tell(&Event::StorageLow(self.storage_status()), actions);
        }
        // As long as there is something to delete, the reserve bridges the time until that is done.
        if !deletes && self.medium.is_full(waiting) {
            self.disk_full(now, actions);
        }
    }

    /// The disk takes no more: every recording is finished with what it has.
    #[inline(never)]
    pub(super) fn disk_full(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.medium.tell_full() {
            self.tell(&Event::StorageFull(self.storage_status()), actions);
        }
        for key in self.on_disk() {
            self.stop(key, Reason::StorageFull.as_str(), now, actions);
        }
    }

    /// There was no room to create a file, though there may be octets left: folders and disks have room for so many names.
    /// The oldest file gives way, and it is tried again. False if that can't be.
    #[inline(never)]
    pub(super) fn deletes_to_open(
        &mut self,
        key: RecordingKey,
        fault: &Fault,
        actions: &mut Vec<Action>,
    ) -> bool {
        let wanted = self.config.storage.on_full == OnFull::DeleteOldest && !self.nothing_to_delete;
        let Some(folder) = self.medium.folder().filter(|_| wanted) else { return false };
        let local = self.recordings.get_mut(&key).and_then(|it| it.route.local_mut());
        let tries = local.filter(|local| *local.folder() == folder).is_some_and(Local::may_open_again);
        if !tries {
            return false;
        }
        self.reopening.push((key, fault.clone()));
        if !std::mem::replace(&mut self.deleting, true) {
            actions.push(Action::Job(Job::DeleteOldest(folder)));
        }
        true
    }

    /// There was no room for another name, and to finish a file takes one for a moment: its final sidecar's.
    #[inline(never)]
    pub(super) fn delete_one_more(&mut self, actions: &mut Vec<Action>) {
        if let Some(folder) = self.medium.folder().filter(|_| !self.nothing_to_delete) {
            if !std::mem::replace(&mut self.deleting, true) {
                actions.push(Action::Job(Job::DeleteOldest(folder)));
            }
        }
    }

    /// The oldest file is not found yet: storage goes on when it has done what waits behind the search.
    #[inline(never)]
    pub(super) fn search_on(&mut self, now: Now, actions: &mut Vec<Action>) {
        match self.medium.folder().filter(|_| self.deleting) {
            Some(folder) => actions.push(Action::Job(Job::DeleteOldest(folder))),
            // The disk is gone, and with it what was to be made room for.
            None => self.deleted(None, None, now, actions),
        }
    }

    #[inline(never)]
    pub(super) fn deleted(
        &mut self,
        file: Option<String>,
        space: Option<Space>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.deleting = false;
        self.nothing_to_delete = file.is_none();
        if let Some(file) = file {
            self.library.remove(&file);
            actions.push(Action::Log(LogLevel::Info, format!("deleted {file} to make room")));
        }
        if let Some(space) = space {
            self.medium.measured(space);
        }
        for (key, fault) in std::mem::take(&mut self.reopening) {
            match self.recordings.get_mut(&key) {
                Some(it) if !self.nothing_to_delete => {
                    let again = it.route.local_mut().and_then(|local| local.open_again(&it.call, now));
                    actions.extend(again.map(Action::Job));
                }
                _ => self.open_failed(key, fault, now, actions),
            }
        }
        // Whoever waits to start is answered by the scan.
        if !self.waiting_starts.is_empty() && !self.deletes_for_start(actions) && self.scans == 0 {
            self.scan(actions);
        }
        if !self.recordings.is_empty() {
            self.check_room(now, actions);
        }
    }

    /// Makes room for a recording that is to start, one old file after another. False if there is nothing to do.
    pub(super) fn deletes_for_start(&mut self, actions: &mut Vec<Action>) -> bool {
        let refused = self.medium.folder_to_record(self.count_on_disk()).err();
        let full = refused.is_some_and(|error| error.reason == Reason::StorageFull);
        let wanted = self.config.storage.on_full == OnFull::DeleteOldest && !self.nothing_to_delete;
        let Some(folder) = self.medium.folder().filter(|_| full && wanted) else { return false };
        if !std::mem::replace(&mut self.deleting, true) {
            actions.push(Action::Job(Job::DeleteOldest(folder)));
        }
        true
    }

    /// A disk has come: says what it is, and tries how fast it is.
    pub(super) fn welcome_disk(&mut self, inserted: bool, actions: &mut Vec<Action>) {
        self.nothing_to_delete = false;
        let status = self.storage_status();
        let (level, text) = self.medium.describe();
        actions.push(Action::Log(level, text));
        if inserted && !self.medium.is_forbidden() {
            self.tell(&Event::StorageInserted(status), actions);
        }
        let idle = self.recordings.is_empty() && self.waiting_starts.is_empty();
        let room = self.medium.room_octets() >= SPEED_CHECK_OCTETS;
        if self.config.storage.speed_check && idle && room {
            if let Ok(folder) = self.medium.folder_to_record(0) {
                actions.push(Action::Job(Job::MeasureSpeed(folder)));
            }
        }
    }

    pub(super) fn speed_measured(&mut self, result: Result<Option<Speed>, Fault>, actions: &mut Vec<Action>) {
        match result {
            Ok(None) => {}
            Ok(Some(speed)) => {
                if let Some(note) = self.medium.judge_speed(speed, self.config.rtp.max_recordings) {
                    actions.push(Action::Log(LogLevel::Warn, format!("the disk is {note}")));
                    self.tell(&Event::StorageInserted(self.storage_status()), actions);
                }
            }
            Err(fault) => actions.push(Action::Log(LogLevel::Warn, fault.detail)),
        }
    }
}

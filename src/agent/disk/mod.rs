//! The disks: their state, the room that is left, the recording to delete to make room, and the eject.
//!
//! Owns: every decision about disks for which it is enough to know how many recordings run. Never: a
//! recording, or the contents of a disk.

pub(in crate::agent) mod deferred_jobs;
mod eject;
pub(in crate::agent) mod faults;
mod room;
mod scan;
pub(in crate::agent) mod state;

use crate::agent::clients::answer::{Caller, Failure};
use crate::agent::disk::eject::Ejecting;
use crate::agent::disk::room::MakeRoom;
use crate::agent::disk::scan::Looks;
use crate::agent::disk::state::{Change, DiskState, Level, RoomLeft, SPEED_CHECK_OCTETS};
use crate::agent::{Action, Turn};
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::config::{OnFull, Storage};
use log::Level as LogLevel;
use media::time::Mono;
use store::jobs::{Ejected, Fault, FaultKind, Folder, Found, Job, Space, Speed};

/// The disks, and the operations under way on them.
#[derive(Debug)]
pub(in crate::agent) struct Disks {
    /// Their state.
    pub(in crate::agent) state: DiskState,
    looks: Looks,
    ejecting: Option<Ejecting>,
    make_room: MakeRoom,
}

impl Disks {
    pub(in crate::agent) fn new(config: &Storage, now: Mono) -> Self {
        Self {
            state: DiskState::new(config),
            looks: Looks::new(now),
            ejecting: None,
            make_room: MakeRoom::Possible,
        }
    }

    /// The room that is left, for the status of recordings.
    pub(in crate::agent) fn room_left(&self) -> RoomLeft {
        self.state.room_left()
    }

    /// The folder to read, or why there is none.
    pub(in crate::agent) fn folder_to_read(&self) -> Result<Folder, AgentError> {
        // A disk that can't be recorded to can still be read.
        match self.state.folder_to_record(0) {
            Err(error) if error.reason == Reason::NoStorage => Err(error),
            _ => self.state.folder().ok_or_else(|| Reason::NoStorage.into()),
        }
    }

    /// Whether the contents of the disk may be read. A disk that is to be ejected is left alone: a look may
    /// write.
    pub(in crate::agent) fn is_readable(&self) -> bool {
        self.state.device().is_some() && !self.is_ejecting()
    }

    /// Looks at the disks.
    pub(in crate::agent) fn scan(&mut self, turn: &mut Turn<'_>) {
        self.looks.begin(turn.now.mono);
        turn.actions.push(Action::Job(Job::Scan(self.state.look())));
    }

    /// Whether a look is under way.
    pub(in crate::agent) fn is_looking(&self) -> bool {
        self.looks.are_under_way()
    }

    /// A look that was asked for is not made: another one waits already.
    pub(in crate::agent) fn scan_refused(&mut self) {
        self.looks.end();
    }

    /// Takes the result of a look; `running` is the number of recordings to the disk. Returns the change, and
    /// whether the disk that came was inserted: one that is there at the start was not.
    pub(in crate::agent) fn scanned(&mut self, found: Found, running: usize) -> (Change, bool) {
        self.looks.end();
        let inserted = self.state.was_looked_at();
        (self.state.scanned(found, running), inserted)
    }

    /// The time of the next look at the disks without news of a change: nothing reports that others fill a
    /// disk, or that one is pulled that is not mounted. A look that could not see the disks is made again,
    /// too. During a recording, storage's answers tell enough.
    pub(in crate::agent) fn look_due(&self, state_wanted: bool, running: usize) -> Option<Mono> {
        let waits = self.state.waits_for_pull() || state_wanted;
        (waits && running == 0 || self.state.is_unknown()).then_some(self.looks.next()?)
    }

    /// Tells if the state of the disk is another one than before.
    pub(in crate::agent) fn emit_state(&mut self, running: usize, turn: &mut Turn<'_>) {
        if let Some(change) = self.state.change(running) {
            turn.emit(&Event::StorageState(change));
        }
    }

    /// Tells that the disk is full, once.
    pub(in crate::agent) fn emit_full(&mut self, running: usize, turn: &mut Turn<'_>) {
        if self.state.first_full() {
            turn.emit(&Event::StorageFull(self.state.status(running)));
        }
    }

    /// Logs the state of the disk.
    pub(in crate::agent) fn log_state(&self, turn: &mut Turn<'_>) {
        let (level, text) = self.state.describe();
        turn.actions.push(Action::Log(level, text));
    }

    /// A disk has come: logs it, and, if nothing is recorded or about to be, measures its speed.
    pub(in crate::agent) fn welcome(
        &mut self,
        inserted: bool,
        running: usize,
        idle: bool,
        turn: &mut Turn<'_>,
    ) {
        self.make_room.look_anew();
        self.log_state(turn);
        if inserted && !self.state.is_forbidden() {
            turn.emit(&Event::StorageInserted(self.state.status(running)));
        }
        let room = self.state.room_octets() >= SPEED_CHECK_OCTETS;
        if turn.config.storage.speed_check && idle && room {
            if let Ok(folder) = self.state.folder_to_record(0) {
                turn.actions.push(Action::Job(Job::MeasureSpeed(folder)));
            }
        }
    }

    pub(in crate::agent) fn speed_measured(
        &mut self,
        result: Result<Option<Speed>, Fault>,
        running: usize,
        turn: &mut Turn<'_>,
    ) {
        match result {
            Ok(None) => {}
            Ok(Some(speed)) => {
                if let Some(note) = self.state.judge_speed(speed, turn.config.rtp.max_recordings) {
                    turn.actions.push(Action::Log(LogLevel::Warn, format!("the disk is {note}")));
                    turn.emit(&Event::StorageInserted(self.state.status(running)));
                }
            }
            Err(fault) => turn.actions.push(Action::Log(LogLevel::Warn, fault.detail)),
        }
    }

    /// If the disk in use takes no recording and another one does, turns to that. Whether it did.
    pub(in crate::agent) fn turn_if_better(&mut self, running: usize) -> bool {
        if self.is_ejecting() || self.state.folder_to_record(running).is_ok() {
            return false;
        }
        let turned = self.state.folder().and_then(|folder| self.state.turn_from(&folder, running));
        turned.is_some()
    }

    /// Whether the oldest files may make room.
    pub(in crate::agent) fn may_delete(&self, turn: &Turn<'_>) -> bool {
        turn.config.storage.on_full == OnFull::DeleteOldest && self.make_room != MakeRoom::Nothing
    }

    /// Makes room, or tells that there is little. True if the disk has no room for the `waiting` octets, and
    /// none is made.
    pub(in crate::agent) fn check_room(
        &mut self,
        running: usize,
        waiting: u64,
        recordings: impl FnOnce() -> Vec<String>,
        turn: &mut Turn<'_>,
    ) -> bool {
        // Nothing is deleted as long as there is room on another disk.
        let elsewhere = self.state.has_other(running);
        let deletes = self.may_delete(turn) && !elsewhere;
        if deletes && self.state.wants_deletion(waiting) {
            if let Some(folder) = self.state.folder() {
                self.delete_oldest(folder, recordings, turn);
            }
        }
        let level = self.state.level_to_tell(running);
        if level == Some(Level::Low) && !deletes {
            turn.emit(&Event::StorageLow(self.state.status(running)));
        }
        // As long as there is something to delete, the reserve bridges the time until that is done.
        !deletes && self.state.is_full(waiting)
    }

    /// Asks for the deletion of the oldest file that is of none of these recordings, unless one is being
    /// deleted.
    pub(in crate::agent) fn delete_oldest(
        &mut self,
        folder: Folder,
        recordings: impl FnOnce() -> Vec<String>,
        turn: &mut Turn<'_>,
    ) {
        if self.make_room.ask(&folder) {
            turn.actions.push(Action::Job(Job::DeleteOldest { folder, running: recordings() }));
        }
    }

    /// There was no room for another name, and to finish a file takes one for a moment: its final sidecar's.
    pub(in crate::agent) fn delete_one_more(
        &mut self,
        recordings: impl FnOnce() -> Vec<String>,
        turn: &mut Turn<'_>,
    ) {
        if let Some(folder) = self.state.folder().filter(|_| self.make_room != MakeRoom::Nothing) {
            self.delete_oldest(folder, recordings, turn);
        }
    }

    /// Makes room for a recording that is to start beside the `running` ones, one old file after another.
    /// False if there is nothing to do.
    pub(in crate::agent) fn delete_for_start(
        &mut self,
        running: usize,
        recordings: impl FnOnce() -> Vec<String>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let refused = self.state.folder_to_record(running).err();
        let full = refused.is_some_and(|error| error.reason == Reason::StorageFull);
        let wanted = self.may_delete(turn);
        let Some(folder) = self.state.folder().filter(|_| full && wanted) else { return false };
        self.delete_oldest(folder, recordings, turn);
        true
    }

    /// The oldest file is not found yet: storage goes on when it has done the jobs that wait behind the
    /// search. False if the disk is gone or in use no more: then no room is needed.
    pub(in crate::agent) fn search_on(
        &mut self,
        recordings: impl FnOnce() -> Vec<String>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let asked = self.state.folder().filter(|folder| self.make_room.asked() == Some(folder));
        let Some(folder) = asked else { return false };
        turn.actions.push(Action::Job(Job::DeleteOldest { folder, running: recordings() }));
        true
    }

    /// A file was deleted, or there was none to delete. Whether that was on the disk in use.
    pub(in crate::agent) fn deleted(
        &mut self,
        file: Option<&str>,
        space: Option<Space>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let folder = self.make_room.asked().cloned();
        let in_use = folder.is_some() && folder == self.state.folder();
        self.make_room = if in_use && file.is_none() { MakeRoom::Nothing } else { MakeRoom::Possible };
        if let Some(file) = file {
            turn.actions.push(Action::Log(LogLevel::Info, format!("deleted {file} to make room")));
        }
        if let (Some(folder), Some(space)) = (&folder, space) {
            self.state.measured(folder, space);
        }
        in_use
    }

    /// There is one finished file more: perhaps there is something to make room with now.
    pub(in crate::agent) fn file_finished(&mut self) {
        self.make_room.look_anew();
    }

    /// Whether an eject is under way.
    pub(in crate::agent) fn is_ejecting(&self) -> bool {
        self.ejecting.is_some()
    }

    /// Whether an eject waits for recordings to end.
    pub(in crate::agent) fn waits_to_eject(&self) -> bool {
        self.ejecting.as_ref().is_some_and(Ejecting::waits)
    }

    /// Refuses an eject where there is nothing to eject.
    pub(in crate::agent) fn check_eject(&self) -> Result<(), AgentError> {
        if self.state.is_present() || self.state.is_mounted_though_ejected() {
            return Ok(());
        }
        Err(self.state.absent())
    }

    /// Begins an eject, or joins the one under way; answered by its end.
    pub(in crate::agent) fn begin_eject(&mut self, caller: &mut Caller) -> Result<(), Failure> {
        self.ejecting.get_or_insert_with(Ejecting::default).join(caller)
    }

    /// Nothing is recorded on the disk any more: asks storage to eject it. Fails if there is none.
    pub(in crate::agent) fn eject(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let gone = || Fault { kind: FaultKind::NoStorage, detail: "there is no disk".into() };
        let disk = self.state.to_eject().ok_or_else(gone)?;
        if let Some(eject) = &mut self.ejecting {
            eject.ask(disk.clone());
        }
        turn.actions.push(Action::Job(Job::Eject(disk)));
        Ok(())
    }

    /// Storage has ejected the disk, or could not: answers everybody who asked, and looks for another disk to
    /// go on at. Whether the disk is ejected.
    pub(in crate::agent) fn ejected(&mut self, result: Result<Ejected, Fault>, turn: &mut Turn<'_>) -> bool {
        let Some(eject) = self.ejecting.take() else { return false };
        let is_ejected = eject.end(result, &mut self.state, turn);
        self.scan(turn);
        is_ejected
    }
}

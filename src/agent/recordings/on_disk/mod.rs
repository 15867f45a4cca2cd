//! What an answer of storage means.
//!
//! Owns: what follows when the disks were looked at, when a file was opened, appended to or closed, when a job found no
//! room, and when a disk was ejected. What a disk that fails in mid-recording means is [`going_on`]'s.

mod going_on;
pub(in crate::agent) mod pending_finalisations;
mod room;

use crate::agent::disk::faults::cause_of_fault;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::phase::Notice;
use crate::agent::recordings::stop::outcome::Outcome;
use crate::agent::{Action, Parts, RecordingKey, Turn};
use crate::api::event::Event;
use crate::api::reason::Reason;
use log::Level as LogLevel;
use store::jobs::{Fault, FaultKind, FileKey, Job, Opened, Piece, Space};

impl Parts {
    pub(in crate::agent) fn opened(
        &mut self,
        file: FileKey,
        result: Result<Opened, Fault>,
        turn: &mut Turn<'_>,
    ) {
        let Some(key) = self.key_of(file) else {
            // The recording ended meanwhile, so nobody will close the file.
            return turn.actions.push(Action::Job(Job::Abandon(file)));
        };
        match result {
            Ok(opened) => {
                if let Some(to_file) = self.recordings.get(&key).and_then(|it| it.destination.as_file()) {
                    self.disk.state.works(to_file.folder(), opened.space);
                }
                let remaining_s = self.remaining_s();
                let Some(it) = self.recordings.get_mut(&key) else { return };
                let first = it.phase.begin();
                let short_of_names =
                    it.destination.as_file_mut().is_some_and(|to_file| to_file.opened(opened, &it.stream));
                if let Some(reply) = it.waiting.take() {
                    reply.ok(&it.start_answer(), turn.actions);
                }
                let status = it.status(remaining_s, turn.now.mono);
                let event =
                    if first { Event::RecordingStarted(status) } else { Event::RecordingSegment(status) };
                turn.emit(&event);
                self.library_opened(key);
                if short_of_names {
                    self.delete_one_more(turn);
                }
                self.pump(key, turn);
            }
            Err(fault) => {
                if fault.kind != FaultKind::Full || !self.deletes_to_open(key, &fault, turn) {
                    self.open_failed(key, fault, turn);
                }
            }
        }
    }

    /// A file could not be created.
    pub(in crate::agent) fn open_failed(&mut self, key: RecordingKey, fault: Fault, turn: &mut Turn<'_>) {
        let Err(_) = self.go_on_elsewhere(key, &fault, Vec::new(), turn) else { return };
        let starting = self.recordings.get(&key).is_some_and(|it| it.waiting.is_some());
        if starting {
            self.remove(key, Outcome::NoFile(fault), turn);
        } else {
            self.storage_failed(key, fault, Vec::new(), turn);
        }
    }

    pub(in crate::agent) fn appended(
        &mut self,
        file: FileKey,
        pieces: Vec<Piece>,
        result: Result<Option<Space>, Fault>,
        turn: &mut Turn<'_>,
    ) {
        let Some(key) = self.key_of(file) else {
            return turn.pool.give_back_all(pieces);
        };
        match result {
            Ok(space) => {
                if let Some(space) = space {
                    if let Some(to_file) = self.recordings.get(&key).and_then(|it| it.destination.as_file()) {
                        self.disk.state.works(to_file.folder(), space);
                    }
                    self.check_room(turn);
                }
                if let Some(it) = self.recordings.get_mut(&key) {
                    it.notices.renew(Notice::Stalled);
                    if let Some(to_file) = it.destination.as_file_mut() {
                        self.stats.written_bytes += to_file.appended(pieces, &mut it.stream, turn.pool);
                    }
                }
            }
            Err(fault) if fault.kind.lets_finish() => match self.go_on_elsewhere(key, &fault, pieces, turn) {
                Ok(()) => return,
                Err(pieces) => self.filled(key, &fault, pieces, turn),
            },
            Err(fault) => {
                return self.storage_failed(key, fault, pieces, turn);
            }
        }
        self.pump(key, turn);
    }

    /// The disk, or the file, had no room for all of `pieces`.
    fn filled(&mut self, key: RecordingKey, fault: &Fault, pieces: Vec<Piece>, turn: &mut Turn<'_>) {
        let reason = Reason::StorageFull;
        let mut full = None;
        if let Some(it) = self.recordings.get_mut(&key) {
            if !it.is_live() {
                it.end_for(reason.into());
            }
            if fault.kind == FaultKind::TooLarge {
                let text = format!("recording {} ends: {}", it.id, fault.detail);
                turn.actions.push(Action::Log(LogLevel::Warn, text));
            }
            if let Some(to_file) = it.destination.as_file_mut() {
                to_file.filled(pieces, reason.as_str(), &mut it.stream, turn.now, turn.pool);
                if fault.kind == FaultKind::Full {
                    self.disk.state.filled(to_file.folder());
                    full = Some(to_file.folder().clone());
                }
            }
        }
        if full.is_some() && self.disk.state.folder() == full {
            self.disk_full(turn);
        } else {
            // The rest of a file on a disk that is in use no more.
            self.stop(key, reason, turn);
        }
        if let Some(it) = self.recordings.get_mut(&key) {
            it.note_cause(cause_of_fault(fault.kind));
        }
    }

    pub(in crate::agent) fn closed(
        &mut self,
        file: FileKey,
        result: Result<Option<Space>, Fault>,
        turn: &mut Turn<'_>,
    ) {
        let Some(key) = self.key_of(file) else { return };
        match result {
            Ok(Some(space)) => {
                if let Some(to_file) = self.recordings.get(&key).and_then(|it| it.destination.as_file()) {
                    self.disk.state.measured(to_file.folder(), space);
                }
            }
            Ok(None) => {}
            Err(fault) => {
                return self.storage_failed(key, fault, Vec::new(), turn);
            }
        }
        // One finished file more: perhaps there is something to make room with turn.now.
        self.disk.file_finished();
        self.library_closed(key);
        let next = turn.ids.file();
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let Destination::File(to_file) = &mut it.destination else { return };
        if let Some(job) = to_file.closed(next, &it.call, turn.now) {
            return turn.actions.push(Action::Job(job));
        }
        self.remove(key, Outcome::Ended, turn);
    }
}

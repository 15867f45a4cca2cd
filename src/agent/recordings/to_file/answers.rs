//! What an answer of storage means.
//!
//! Owns: what follows when the disks were looked at, when a file was opened, appended to or closed, when a job found no
//! room, and when a disk was ejected. What a disk that fails in mid-recording means is [`super::going_on`]'s.

use crate::agent::disk::faults::{cause_of_fault, error_of_fault};
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::to_file::segment_buffer;
use crate::agent::{Action, Agent, RecordingKey};
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::api::reply;
use crate::api::status::RecordingState;
use log::Level as LogLevel;
use media::time::Now;
use store::jobs::{Fault, FaultKind, FileKey, Job, Opened, Piece, Space};

impl Agent {
    pub(in crate::agent) fn opened(
        &mut self,
        file: FileKey,
        result: Result<Opened, Fault>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(key) = self.key_of(file) else {
            // The recording ended meanwhile, so nobody will close the file.
            return actions.push(Action::Job(Job::Abandon(file)));
        };
        match result {
            Ok(opened) => {
                if let Some(to_file) = self.recordings.get(&key).and_then(|it| it.destination.as_file()) {
                    self.disk.works(to_file.folder(), opened.space);
                }
                let remaining_s = self.remaining_s();
                let Some(it) = self.recordings.get_mut(&key) else { return };
                let first = !std::mem::replace(&mut it.started_told, true);
                let short_of_names =
                    it.destination.as_file_mut().is_some_and(|to_file| to_file.opened(opened));
                if it.buffered_octets() == 0 {
                    it.lost = None;
                }
                if it.state == RecordingState::Starting {
                    it.state = RecordingState::Recording;
                }
                if let Some((client, id)) = it.waiting.take() {
                    actions.push(Action::Reply(client, reply::result(&id, &it.start_answer())));
                }
                let status = it.status(remaining_s, self.clock);
                let event =
                    if first { Event::RecordingStarted(status) } else { Event::RecordingSegment(status) };
                self.tell(&event, actions);
                self.library_opened(key);
                if short_of_names {
                    self.delete_one_more(actions);
                }
                self.pump(key, now, actions);
            }
            Err(fault) => {
                if fault.kind != FaultKind::Full || !self.deletes_to_open(key, &fault, actions) {
                    self.open_failed(key, fault, now, actions);
                }
            }
        }
    }

    /// A file could not be created.
    pub(in crate::agent) fn open_failed(
        &mut self,
        key: RecordingKey,
        fault: Fault,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Err(_) = self.go_on_elsewhere(key, &fault, Vec::new(), now, actions) else { return };
        let starting = self.recordings.get(&key).is_some_and(|it| it.waiting.is_some());
        if starting {
            self.refuse_start(key, fault, now, actions);
        } else {
            self.storage_failed(key, fault, Vec::new(), now, actions);
        }
    }

    /// The first file could not be created: the recording never began.
    fn refuse_start(&mut self, key: RecordingKey, fault: Fault, now: Now, actions: &mut Vec<Action>) {
        let Some(mut it) = self.recordings.remove(&key) else { return };
        if let Some(to_file) = it.destination.as_file_mut() {
            to_file.abandon(Vec::new(), &mut self.pool);
        }
        self.past.add(&it.final_counts());
        actions.push(Action::CloseRtp(key));
        actions.push(Action::Log(LogLevel::Warn, format!("no recording: {}", fault.detail)));
        if let Some((client, id)) = it.waiting.take() {
            let error = error_of_fault(fault.kind).with_detail(fault.detail);
            actions.push(Action::Reply(client, reply::agent_error(&id, &error)));
        }
        self.scan(now, actions);
        self.finish_eject(now, actions);
    }

    pub(in crate::agent) fn appended(
        &mut self,
        file: FileKey,
        pieces: Vec<Piece>,
        result: Result<Option<Space>, Fault>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(key) = self.key_of(file) else {
            return segment_buffer::give_back(pieces, &mut self.pool);
        };
        match result {
            Ok(space) => {
                if let Some(space) = space {
                    if let Some(to_file) = self.recordings.get(&key).and_then(|it| it.destination.as_file()) {
                        self.disk.works(to_file.folder(), space);
                    }
                    self.check_room(now, actions);
                }
                if let Some(it) = self.recordings.get_mut(&key) {
                    it.stalled_told = false;
                    it.lost = None;
                    if let Some(to_file) = it.destination.as_file_mut() {
                        self.stats.written_bytes += to_file.appended(pieces, &mut self.pool);
                    }
                }
            }
            Err(fault) if fault.kind.lets_finish() => {
                match self.go_on_elsewhere(key, &fault, pieces, now, actions) {
                    Ok(()) => return,
                    Err(pieces) => self.filled(key, &fault, pieces, now, actions),
                }
            }
            Err(fault) => {
                return self.storage_failed(key, fault, pieces, now, actions);
            }
        }
        self.pump(key, now, actions);
    }

    /// The disk, or the file, had no room for all of `pieces`.
    fn filled(
        &mut self,
        key: RecordingKey,
        fault: &Fault,
        pieces: Vec<Piece>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let reason = Reason::StorageFull;
        let mut full = None;
        if let Some(it) = self.recordings.get_mut(&key) {
            if !it.is_live() {
                it.end_for(reason.into());
            }
            if fault.kind == FaultKind::TooLarge {
                let text = format!("recording {} ends: {}", it.id, fault.detail);
                actions.push(Action::Log(LogLevel::Warn, text));
            }
            if let Some(to_file) = it.destination.as_file_mut() {
                to_file.filled(pieces, reason.as_str(), now, &mut self.pool);
                if fault.kind == FaultKind::Full {
                    self.disk.filled(to_file.folder());
                    full = Some(to_file.folder().clone());
                }
            }
        }
        if full.is_some() && self.disk.folder() == full {
            self.disk_full(now, actions);
        } else {
            // The rest of a file on a disk that is in use no more.
            self.stop(key, reason, now, actions);
        }
        if let Some(it) = self.recordings.get_mut(&key) {
            it.note_cause(cause_of_fault(fault.kind));
        }
    }

    pub(in crate::agent) fn closed(
        &mut self,
        file: FileKey,
        result: Result<Option<Space>, Fault>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(key) = self.key_of(file) else { return };
        match result {
            Ok(Some(space)) => {
                if let Some(to_file) = self.recordings.get(&key).and_then(|it| it.destination.as_file()) {
                    self.disk.measured(to_file.folder(), space);
                }
            }
            Ok(None) => {}
            Err(fault) => {
                return self.storage_failed(key, fault, Vec::new(), now, actions);
            }
        }
        // One finished file more: perhaps there is something to make room with now.
        self.nothing_to_delete = false;
        self.library_closed(key);
        let next = self.new_file();
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let Destination::File(to_file) = &mut it.destination else { return };
        if let Some(job) = to_file.closed(next, &it.call, now) {
            return actions.push(Action::Job(job));
        }
        self.end(key, now, actions);
    }

    /// Everything of a recording is closed and synced.
    pub(in crate::agent) fn end(&mut self, key: RecordingKey, now: Now, actions: &mut Vec<Action>) {
        if let Some(to_file) = self.recordings.get_mut(&key).and_then(|it| it.destination.as_file_mut()) {
            self.pending_finalisations.keep(to_file.take_mends());
        }
        self.finish(key, actions);
        self.finish_eject(now, actions);
    }
}

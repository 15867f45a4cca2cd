//! Routes between the parts of the agent: the only place that sees recordings, disks and the library.
//!
//! Owns: the consequences for one part of an event in another. A part gets facts about others as parameters,
//! and returns the consequences for them; their order is decided here. The ways in are [`inputs`],
//! [`requests`] and [`storage`].

pub(in crate::agent) mod inputs;
mod library;
mod requests;
mod storage;

use crate::agent::clients::answer::{Answer, Caller, Failure, PendingReply};
use crate::agent::disk::Disks;
use crate::agent::disk::deferred_jobs::DeferredJobs;
use crate::agent::library::Library;
use crate::agent::recordings::notices::{Watch, check_overrun, emit_progress};
use crate::agent::recordings::on_disk::going_on::{go_on_at, is_pulled, pulled, resume, storage_failed};
use crate::agent::recordings::on_disk::{Given, write};
use crate::agent::recordings::outcome::{Outcome, Then};
use crate::agent::recordings::{Recordings, at_server, start::Place};
use crate::agent::{Datagram, Forward, RecordingKey, Turn};
use crate::api::ending::{EndReason, Order, TextKey};
use crate::api::error::AgentError;
use crate::api::reason::Reason;
use crate::api::request::RecordStart;
use crate::api::status::{Mode, SandboxStatus};
use crate::config::{Config, OnFailure};
use media::blocks::BlockPool;
use media::time::Mono;
use std::time::Duration;
use store::jobs::{Ejected, Fault, FaultKind, Folder, Job, Piece};

/// Longest time that storage has to finish at the end of the process.
const SHUTDOWN_AFTER: Duration = Duration::from_secs(20);

/// Whether the agent goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    /// Nothing begins any more, and the process ends when all is finished, or then.
    Ending {
        by: Mono,
    },
    /// The process was told to end.
    Ended,
}

impl Life {
    fn is_ending(self) -> bool {
        self != Self::Running
    }

    fn deadline(self) -> Option<Mono> {
        match self {
            Self::Ending { by } => Some(by),
            Self::Running | Self::Ended => None,
        }
    }
}

/// The events over time that clients subscribed to.
#[derive(Clone, Copy, Debug)]
pub(in crate::agent) struct Wanted {
    pub(in crate::agent) recording_progress: bool,
    pub(in crate::agent) playback_progress: bool,
    pub(in crate::agent) storage_state: bool,
}

/// The parts of the agent, but for the clients.
pub(in crate::agent) struct Parts {
    recordings: Recordings,
    disk: Disks,
    library: Library,
    deferred: DeferredJobs,
    life: Life,
    started: Mono,
    sandbox: SandboxStatus,
}

impl Parts {
    pub(in crate::agent) fn new(config: &Config, now: Mono) -> Self {
        Self {
            recordings: Recordings::default(),
            disk: Disks::new(&config.storage, now),
            library: Library::default(),
            deferred: DeferredJobs::default(),
            life: Life::Running,
            started: now,
            sandbox: SandboxStatus::default(),
        }
    }

    pub(in crate::agent) fn set_sandbox(&mut self, sandbox: SandboxStatus) {
        self.sandbox = sandbox;
    }

    pub(in crate::agent) fn datagram(
        &mut self,
        key: RecordingKey,
        datagram: Datagram<'_>,
        pool: &mut BlockPool,
    ) -> Forward {
        self.recordings.datagram(key, datagram, pool)
    }

    pub(in crate::agent) fn wait_for_storage(&self) -> bool {
        self.recordings.wait_for_storage()
    }

    /// The recording that a request means.
    pub(in crate::agent) fn live(&self, recording: Option<&str>) -> Result<RecordingKey, Failure> {
        self.recordings.live(recording)
    }

    /// When the next tick is due.
    pub(in crate::agent) fn deadline(&self, config: &Config, has_room: bool, wanted: Wanted) -> Option<Mono> {
        let is_ending = self.life.is_ending();
        let watch =
            Watch { config: &config.storage, progress: wanted.recording_progress, has_room, is_ending };
        let due = [
            self.recordings.deadline(&watch),
            self.deferred.retry_at(),
            self.index_deadline(),
            self.life.deadline(),
            self.library.play_deadline(wanted.playback_progress),
            self.look_due(wanted.storage_state),
            self.finalise_due(),
        ];
        due.into_iter().flatten().min()
    }

    /// When the next step of the index is due.
    fn index_deadline(&self) -> Option<Mono> {
        self.library.index_deadline().filter(|_| self.disk.is_readable())
    }

    /// The time of the next look at the disks without news of a change.
    fn look_due(&self, state_wanted: bool) -> Option<Mono> {
        self.disk.look_due(state_wanted, self.running()).filter(|_| !self.life.is_ending())
    }

    /// When a file that could not be finished is tried again. A disk that is being ejected is left alone.
    #[inline]
    fn finalise_due(&self) -> Option<Mono> {
        let may = !self.disk.is_ejecting() && !self.life.is_ending();
        self.recordings.pending_finalisations.retry_at().filter(|_| may)
    }

    /// Number of recordings to the disk.
    fn running(&self) -> usize {
        self.recordings.count_on_disk()
    }

    fn remaining_s(&self) -> Option<u64> {
        self.recordings.remaining_s(self.disk.room_left())
    }

    /// Refuses a request to begin something while the agent ends, or, `on_disk`, while the disk is being
    /// ejected.
    fn refuse_in_between(&self, on_disk: bool) -> Result<(), AgentError> {
        let (message, advice, text) = if self.life.is_ending() {
            ("the agent is ending", "try again when it has started anew", TextKey::Shutdown)
        } else if on_disk && self.disk.is_ejecting() {
            ("the disk is being ejected", "insert it again, or another one", TextKey::StorageEjected)
        } else {
            return Ok(());
        };
        let error = AgentError::new(Reason::InvalidState).with_message(message);
        Err(error.with_advice(advice).with_text(Some(text)))
    }

    /// The disk is stalled: the job is done when it goes on.
    fn job_refused(&mut self, job: Job, turn: &mut Turn<'_>) {
        match self.deferred.defer(job, turn.now.mono) {
            Some(Job::Scan(_)) => self.disk.scan_refused(),
            Some(Job::Append { pieces, .. }) => turn.pool.give_back_all(pieces),
            _ => {}
        }
    }

    fn shut_down(&mut self, turn: &mut Turn<'_>) {
        if self.life == Life::Running {
            self.life = Life::Ending { by: turn.now.mono + SHUTDOWN_AFTER };
        }
        self.library.end_playbacks("shutdown", turn);
        for key in self.recordings.keys() {
            self.stop(key, Order::Shutdown, turn);
        }
    }

    /// Starts a recording, or answers why not.
    fn start(&mut self, reply: Option<PendingReply>, start: RecordStart, turn: &mut Turn<'_>) {
        let may_begin = self.refuse_in_between(start.mode == Mode::Local);
        let folder = self.disk.state.folder_to_record(self.running());
        self.recordings.start(reply, start, Place { may_begin, folder }, turn);
    }

    /// Makes room for a recording that is to start. False if there is nothing to do.
    fn delete_for_start(&mut self, turn: &mut Turn<'_>) -> bool {
        let running = self.running();
        self.disk.delete_for_start(running, || self.recordings.ids(), turn)
    }

    /// Begins to end a recording.
    fn stop(&mut self, key: RecordingKey, reason: impl Into<EndReason>, turn: &mut Turn<'_>) {
        let then = self.recordings.stop(key, reason.into(), turn);
        self.follow(key, then, turn);
    }

    /// Carries out the consequences of an event of a recording.
    fn follow(&mut self, key: RecordingKey, then: Then, turn: &mut Turn<'_>) {
        match then {
            Then::Nothing => {}
            Then::Write => self.write(key, turn),
            Then::Remove(outcome) => self.remove(key, outcome, turn),
            Then::ServerFailed(reason, detail) => self.server_failed(key, reason, detail, turn),
            Then::TryPhone(detail) => self.try_phone(key, detail, turn),
            Then::StorageFailed(fault, pieces) => self.storage_failed(key, fault, pieces, turn),
            Then::AwaitDisk => {
                self.disk.scan(turn);
                self.finish_eject(turn);
            }
            Then::Look => {
                if !self.disk.is_looking() {
                    self.disk.scan(turn);
                }
            }
        }
    }

    fn remove(&mut self, key: RecordingKey, outcome: Outcome, turn: &mut Turn<'_>) {
        let room = self.disk.room_left();
        let Some(removed) = self.recordings.remove(key, outcome, room, turn) else { return };
        if removed.disk_failed {
            self.disk.scan(turn);
        }
        if removed.went_to_file {
            self.finish_eject(turn);
        }
    }

    /// Gives storage the due job of one recording.
    fn write(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let Some(it) = self.recordings.get_mut(key) else { return };
        if is_pulled(it) {
            return self.pulled(key, turn);
        }
        match write(it, turn) {
            Given::Nothing => {}
            // Waiting audio needs room, too.
            Given::NothingYet => self.check_room(turn),
            Given::Job { octets } => {
                if let Some(folder) = self.recordings.folder_of(key) {
                    self.disk.state.spend(folder, octets);
                }
                self.check_room(turn);
                let remaining_s = self.remaining_s();
                if let Some(it) = self.recordings.get_mut(key) {
                    if turn.now.mono + Duration::from_millis(100) >= it.progress_at {
                        emit_progress(it, remaining_s, turn);
                    }
                }
                turn.pool.trim();
            }
        }
        let remaining_s = self.remaining_s();
        if let Some(it) = self.recordings.get_mut(key) {
            let then = check_overrun(it, remaining_s, turn);
            self.follow(key, then, turn);
        }
    }

    /// Ends recordings on a full disk, or makes room, and tells.
    fn check_room(&mut self, turn: &mut Turn<'_>) {
        let Self { recordings, disk, .. } = self;
        let (running, waiting) = (recordings.count_on_disk(), recordings.waiting_octets());
        if disk.check_room(running, waiting, || recordings.ids(), turn) {
            self.disk_full(turn);
        }
    }

    /// The disk takes no more: every recording goes on at another one, or is finished with its audio so far.
    fn disk_full(&mut self, turn: &mut Turn<'_>) {
        self.disk.emit_full(self.running(), turn);
        let Some(full) = self.disk.state.folder() else { return };
        let others = self.running().saturating_sub(1);
        let next = if self.disk.is_ejecting() { None } else { self.disk.state.turn_from(&full, others) };
        for key in self.recordings.on_disk() {
            if self.recordings.folder_of(key) != Some(&full) {
                continue;
            }
            match &next {
                Some(folder) => {
                    self.recordings.move_to(key, folder.clone());
                    self.write(key, turn);
                }
                None => self.stop(key, Reason::StorageFull, turn),
            }
        }
        if next.is_some() {
            self.turned(turn);
        }
    }

    /// If the disk in use takes no recording and another one does, turns to that.
    fn turn_if_better(&mut self, turn: &mut Turn<'_>) {
        if self.disk.turn_if_better(self.running()) {
            self.turned(turn);
        }
    }

    /// Another disk that was there already is recorded to from now on.
    fn turned(&mut self, turn: &mut Turn<'_>) {
        self.library.clear();
        self.resume_lost(true, turn);
        self.welcome_disk(true, turn);
        library::read_anew(self);
    }

    fn welcome_disk(&mut self, inserted: bool, turn: &mut Turn<'_>) {
        let idle = self.recordings.is_empty() && self.recordings.waiting_starts.is_empty();
        self.disk.welcome(inserted, self.running(), idle, turn);
    }

    /// After a look at the disks: recordings that wait for one go on. `came`: a disk has just appeared.
    fn resume_lost(&mut self, came: bool, turn: &mut Turn<'_>) {
        let folder = self.disk.state.folder_to_record(0).ok();
        for key in self.recordings.on_disk() {
            let disk = &self.disk.state;
            if let Some(it) = self.recordings.get_mut(key) {
                resume(it, came, folder.as_ref(), |old| disk.has(old), turn);
            }
        }
    }

    /// The disk of a recording is no longer mounted.
    fn pulled(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let running = self.running();
        let folder = self.recordings.folder_of(key);
        let has_other = folder.is_some_and(|folder| self.disk.state.has_other_than(folder, running));
        let Some(it) = self.recordings.get_mut(key) else { return };
        let then = pulled(it, has_other, turn);
        self.follow(key, then, turn);
    }

    /// Storage failed a job of a recording.
    fn storage_failed(&mut self, key: RecordingKey, fault: Fault, pieces: Vec<Piece>, turn: &mut Turn<'_>) {
        let Err(pieces) = self.go_on_elsewhere(key, &fault, pieces, turn) else { return };
        let Some(it) = self.recordings.get_mut(key) else { return };
        let then = storage_failed(it, fault, pieces, self.life.is_ending(), turn);
        self.follow(key, then, turn);
    }

    /// The disk of a recording takes no more: the recording goes on at another one, if there is one.
    /// Otherwise the pieces come back.
    fn go_on_elsewhere(
        &mut self,
        key: RecordingKey,
        fault: &Fault,
        pieces: Vec<Piece>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Vec<Piece>> {
        let Some(old) = self.recordings.folder_of(key).cloned() else { return Err(pieces) };
        self.disk.state.note_fault(&old, fault.kind);
        if self.disk.is_ejecting() {
            return Err(pieces);
        }
        let is_in_use = self.disk.state.folder().as_ref() == Some(&old);
        // The recording itself is one of those that run.
        let others = self.running().saturating_sub(1);
        if !self.disk.state.has_other_than(&old, others) {
            return Err(pieces);
        }
        if fault.kind == FaultKind::Full && is_in_use {
            self.disk.state.filled(&old);
            self.disk.emit_full(self.running(), turn);
        }
        let Some(folder) = self.disk.state.turn_from(&old, others) else { return Err(pieces) };
        let disk = &self.disk.state;
        let Some(it) = self.recordings.get_mut(key) else { return Err(pieces) };
        go_on_at(it, &folder, fault, pieces, |old| disk.has(old), turn);
        if is_in_use {
            self.turned(turn);
        }
        Ok(())
    }

    /// The server of a recording refuses or is gone: goes on at the phone if that is wanted and possible, or
    /// ends.
    fn server_failed(&mut self, key: RecordingKey, reason: Reason, detail: String, turn: &mut Turn<'_>) {
        let goes_local = turn.config.uplink.on_failure == OnFailure::Local;
        let tried = goes_local.then(|| self.go_on_at_phone(key, turn));
        let Some(it) = self.recordings.get(key) else { return };
        let then = at_server::failed(it, reason, detail, tried, turn);
        self.follow(key, then, turn);
    }

    /// A recording whose server is gone goes on at the phone; if that can't be, the server may still be back.
    fn try_phone(&mut self, key: RecordingKey, detail: String, turn: &mut Turn<'_>) {
        if self.go_on_at_phone(key, turn).is_err() {
            return;
        }
        let Some(it) = self.recordings.get_mut(key) else { return };
        let then = at_server::left_for_phone(it, key, detail, turn);
        self.follow(key, then, turn);
    }

    fn go_on_at_phone(&mut self, key: RecordingKey, turn: &mut Turn<'_>) -> Result<(), AgentError> {
        self.refuse_in_between(true)?;
        self.turn_if_better(turn);
        let folder = self.disk.state.folder_to_record(self.running())?;
        let it = self.recordings.get_mut(key).ok_or(Reason::NotFound)?;
        at_server::go_on_at_phone(it, folder, turn)
    }

    fn eject(&mut self, caller: &mut Caller, turn: &mut Turn<'_>) -> Answer {
        self.disk.check_eject()?;
        self.library.end_playbacks("ejected", turn);
        self.disk.begin_eject(caller)?;
        for key in self.recordings.on_disk() {
            if self.is_on_ejected(key) {
                self.stop(key, Order::Ejected, turn);
            }
        }
        self.finish_eject(turn);
        Ok(None)
    }

    /// Whether a recording is on the disk to eject. One that has lost its disk waits in memory for another.
    fn is_on_ejected(&self, key: RecordingKey) -> bool {
        let is_on = |folder: &Folder| self.disk.state.is_on_current_stick(folder);
        self.recordings.get(key).is_some_and(|it| !it.has_lost_disk() && it.folders().any(is_on))
    }

    /// When the last recording on the disk has ended, it can be ejected.
    fn finish_eject(&mut self, turn: &mut Turn<'_>) {
        let waits = self.disk.waits_to_eject();
        if !waits || self.recordings.on_disk().into_iter().any(|key| self.is_on_ejected(key)) {
            return;
        }
        if let Err(gone) = self.disk.eject(turn) {
            self.ejected(Err(gone), turn);
        }
    }

    fn ejected(&mut self, result: Result<Ejected, Fault>, turn: &mut Turn<'_>) {
        if self.disk.ejected(result, turn) {
            self.library.clear();
        }
    }
}

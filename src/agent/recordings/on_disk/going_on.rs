//! Disks that go in mid-recording: what is given up, what waits, and how it goes on.
//!
//! Owns: `storage.resume_window_s`. Without a window a recording whose disk is gone has failed. With one it
//! goes on in memory, `recording` as before, until a disk takes it or the window ends. A disk that is still
//! there but gives errors is tried again now and then, for the same time.

use crate::agent::disk::faults::reason_of;
use crate::agent::recordings::recording::Recording;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::phase::Notice;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::agent::recordings::stop::outcome::Outcome;
use crate::agent::{Action, Parts, RecordingKey, Turn};
use crate::api::event::Event;
use crate::api::reason::Reason;
use log::Level as LogLevel;
use media::time::Mono;
use std::time::Duration;
use store::jobs::{Fault, FaultKind, FileKey, FinaliseOutcome, Job, Piece};

/// A disk that is there but failed is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl Parts {
    /// Storage failed a job of a recording.
    pub(in crate::agent) fn storage_failed(
        &mut self,
        key: RecordingKey,
        fault: Fault,
        pieces: Vec<Piece>,
        turn: &mut Turn<'_>,
    ) {
        let pieces = match self.go_on_elsewhere(key, &fault, pieces, turn) {
            Ok(()) => return,
            Err(pieces) => pieces,
        };
        let waits = !turn.config.storage.resume_window.is_zero() && !self.life.is_ending();
        let gone = matches!(
            fault.kind,
            FaultKind::NoStorage | FaultKind::Pulled | FaultKind::Io | FaultKind::ReadOnly
        );
        let window = turn.config.storage.resume_window;
        let Some(it) = self.recordings.get_mut(&key) else { return };
        // A disk that comes and fails again has no more time than one that stays away.
        let Destination::File(to_file) = &mut it.destination else { return };
        let waits = waits && to_file.without_disk_since().is_none_or(|since| turn.now.mono < since + window);
        if !waits || !gone || to_file.file_name().is_none() {
            return self.remove(key, Outcome::DiskFailed(fault, pieces), turn);
        }
        let file = to_file.file();
        to_file.lose_disk(pieces, Reason::StorageIo.as_str(), &it.call, &mut it.stream, turn.now);
        let first = to_file.wait_for_disk(turn.now.mono, turn.now.mono + RETRY_AFTER);
        // Closes the descriptor, wherever the failure was seen: nothing keeps the dead mount busy.
        turn.actions.push(Action::Job(Job::Abandon(file)));
        let text = format!("recording {} goes on in memory: {}", it.id, fault.detail);
        turn.actions.push(Action::Log(LogLevel::Warn, text));
        if first {
            it.notices.first(Notice::Stalled);
            let event = Event::RecordingStalled(it.status(None, turn.now.mono));
            turn.emit(&event);
        }
        self.disk.scan(turn);
        self.finish_eject(turn);
    }

    /// The disk of a recording is no longer mounted.
    pub(in crate::agent) fn disk_pulled(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let running = self.count_on_disk();
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let Destination::File(to_file) = &mut it.destination else { return };
        if to_file.is_lost() {
            return;
        }
        let waits = !turn.config.storage.resume_window.is_zero()
            || self.disk.state.has_other_than(to_file.folder(), running);
        if waits && to_file.is_busy() {
            // Storage has its audio, and the answer is not far.
            return to_file.lose_after_answer();
        }
        let fault = Fault { kind: FaultKind::Pulled, detail: "the disk was pulled".into() };
        self.storage_failed(key, fault, Vec::new(), turn);
    }

    /// Takes up what was postponed while storage had the audio. True if the recording has no disk any more.
    pub(in crate::agent) fn lose_pulled(&mut self, key: RecordingKey, turn: &mut Turn<'_>) -> bool {
        let to_file = self.recordings.get(&key).and_then(|it| it.destination.as_file());
        let due = to_file.is_some_and(ToFile::is_pulled);
        if due {
            self.disk_pulled(key, turn);
        }
        due
    }

    /// After a look at the disks: recordings that wait for one go on. `came`: a disk has just appeared.
    pub(in crate::agent) fn resume_lost(&mut self, came: bool, turn: &mut Turn<'_>) {
        for key in self.on_disk() {
            let next = turn.ids.file();
            let Some(it) = self.recordings.get_mut(&key) else { continue };
            let Destination::File(to_file) = &mut it.destination else { continue };
            let Some(outage) = to_file.outage_mut() else { continue };
            let tries = std::mem::take(&mut outage.tries);
            let Some(folder) = self.disk.state.folder_to_record(0).ok().filter(|_| came || tries) else {
                continue;
            };
            let jobs = to_file.resume(
                &folder,
                next,
                |old| self.disk.state.has(old),
                &it.call,
                &mut it.stream,
                turn.now,
            );
            turn.actions.extend(jobs.into_iter().map(Action::Job));
        }
    }

    /// The disk of a recording takes no more: the recording goes on at another one that is there, in a new file. What
    /// the old disk has not acknowledged is still in memory and goes along. Otherwise the pieces come back.
    pub(in crate::agent) fn go_on_elsewhere(
        &mut self,
        key: RecordingKey,
        fault: &Fault,
        pieces: Vec<Piece>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Vec<Piece>> {
        let Some(old) = self.recordings.get(&key).and_then(|it| it.destination.as_file()).map(ToFile::folder)
        else {
            return Err(pieces);
        };
        let old = old.clone();
        self.disk.state.note_fault(&old, fault.kind);
        if self.disk.is_ejecting() {
            return Err(pieces);
        }
        let is_in_use = self.disk.state.folder().as_ref() == Some(&old);
        // The recording itself is one of those that run.
        let others = self.count_on_disk().saturating_sub(1);
        if !self.disk.state.has_other_than(&old, others) {
            return Err(pieces);
        }
        if fault.kind == FaultKind::Full && is_in_use {
            self.disk.state.filled(&old);
            self.disk.emit_full(self.count_on_disk(), turn);
        }
        let Some(folder) = self.disk.state.turn_from(&old, others) else { return Err(pieces) };
        let next = turn.ids.file();
        let Some(it) = self.recordings.get_mut(&key) else { return Err(pieces) };
        let Destination::File(to_file) = &mut it.destination else { return Err(pieces) };
        let file = to_file.file();
        to_file.lose_disk(pieces, reason_of(fault.kind).as_str(), &it.call, &mut it.stream, turn.now);
        to_file.end_outage();
        it.notices.renew(Notice::Stalled);
        let (at, detail) = (folder.root.display(), &fault.detail);
        let text = format!("recording {} goes on at the disk at {at}: {detail}", it.id);
        turn.actions.push(Action::Log(LogLevel::Warn, text));
        // Closes the descriptor and its lock, before the file is finished by its name.
        turn.actions.push(Action::Job(Job::Abandon(file)));
        let jobs =
            to_file.resume(&folder, next, |old| self.disk.state.has(old), &it.call, &mut it.stream, turn.now);
        turn.actions.extend(jobs.into_iter().map(Action::Job));
        if is_in_use {
            self.turned(turn);
        }
        Ok(())
    }

    /// A file that had lost its disk was finished, or could not be.
    pub(in crate::agent) fn finalised(
        &mut self,
        file: FileKey,
        result: Result<FinaliseOutcome, Fault>,
        turn: &mut Turn<'_>,
    ) {
        let has_it =
            |it: &Recording| it.destination.as_file().is_some_and(|to_file| to_file.has_finalisation(file));
        let found = self.recordings.iter_mut().find(|(_, it)| has_it(it));
        let waits = found.and_then(|(key, it)| Some((*key, it.destination.as_file_mut()?)));
        let Some((key, to_file)) = waits else {
            // Its recording ended, or goes on elsewhere.
            return match result {
                Ok(FinaliseOutcome::Finished) => self.pending_finalisations.finalised(file),
                Ok(FinaliseOutcome::NotHere) => {}
                Ok(FinaliseOutcome::Locked) => self.pending_finalisations.failed(file, turn.now.mono),
                Err(fault) => {
                    self.pending_finalisations.failed(file, turn.now.mono);
                    turn.actions.push(Action::Log(LogLevel::Warn, fault.detail));
                }
            };
        };
        match result {
            Ok(outcome) => {
                let (finalisation, done) = to_file.finalised(file);
                let is_locked = outcome == FinaliseOutcome::Locked;
                let left = finalisation.filter(|_| outcome != FinaliseOutcome::Finished);
                if let Some(finalisation) = left {
                    let name = &finalisation.name;
                    let text = if is_locked {
                        format!("{name} is locked by another process: it is finished when it is free")
                    } else {
                        format!("{name} is not on this disk: it is finished when its own is back")
                    };
                    turn.actions.push(Action::Log(LogLevel::Warn, text));
                    if is_locked {
                        self.pending_finalisations.keep_trying([finalisation], turn.now.mono);
                    } else {
                        self.pending_finalisations.keep([finalisation]);
                    }
                }
                if done {
                    self.remove(key, Outcome::Ended, turn);
                }
            }
            Err(fault) if to_file.is_finalising() => {
                self.storage_failed(key, fault, Vec::new(), turn);
            }
            Err(fault) => turn.actions.push(Action::Log(LogLevel::Warn, fault.detail)),
        }
    }

    /// When a file that could not be finished is tried again. A disk that is being ejected is left alone.
    #[inline]
    pub(in crate::agent) fn finalise_due(&self) -> Option<Mono> {
        let may = !self.disk.is_ejecting() && !self.life.is_ending();
        self.pending_finalisations.retry_at().filter(|_| may)
    }

    /// Tries again what could not be finished.
    pub(in crate::agent) fn finalise_again(&mut self, turn: &mut Turn<'_>) {
        let folder = self.disk.state.folder();
        let disk = &self.disk.state;
        let jobs = self.pending_finalisations.due(folder.as_ref(), |old| disk.has(old), turn.now.mono);
        turn.actions.extend(jobs.into_iter().map(Action::Job));
    }

    /// When a recording without disk needs a look.
    pub(in crate::agent) fn lost_due(&self, it: &Recording, window: Duration) -> Option<Mono> {
        let lost = it.destination.as_file()?.outage()?;
        let end = lost.since + window;
        Some(if self.life.is_ending() { Mono::default() } else { lost.retry_at.min(end) })
    }

    /// Looks for a disk again, and gives up when the window has passed.
    pub(in crate::agent) fn check_lost(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let window = turn.config.storage.resume_window;
        let to_file = self.recordings.get_mut(&key).and_then(|it| it.destination.as_file_mut());
        let Some(lost) = to_file.and_then(ToFile::outage_mut) else { return };
        if turn.now.mono >= lost.since + window || self.life.is_ending() {
            let detail = format!("no disk took it within {} s (storage.resume_window_s)", window.as_secs());
            let kind = if self.disk.state.is_present() { FaultKind::Io } else { FaultKind::Pulled };
            let fault = Fault { kind, detail };
            return self.remove(key, Outcome::DiskFailed(fault, Vec::new()), turn);
        }
        if turn.now.mono >= lost.retry_at {
            lost.retry_at = turn.now.mono + RETRY_AFTER;
            lost.tries = true;
            if !self.disk.is_looking() {
                self.disk.scan(turn);
            }
        }
    }
}

//! Disks that go in mid-recording: the audio that is given up or waits, and the next file.
//!
//! Owns: `storage.resume_window_s`. Without a window a recording whose disk is gone has failed. With one it
//! goes on in memory, `recording` as before, until a disk takes it or the window ends. A disk that is still
//! there but gives errors is tried again now and then, for the same time.

use crate::agent::disk::faults::reason_of;
use crate::agent::recordings::Recordings;
use crate::agent::recordings::outcome::{Outcome, Then};
use crate::agent::recordings::recording::Recording;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::phase::Notice;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::agent::recordings::recording::to_file::lost_disk::{
    finalised as take_finalised, lose_disk, resume as resume_at,
};
use crate::agent::{Action, RecordingKey, Turn};
use crate::api::event::Event;
use crate::api::reason::Reason;
use log::Level as LogLevel;
use std::time::Duration;
use store::jobs::{Fault, FaultKind, FileKey, FinaliseOutcome, Folder, Job, Piece};

/// A disk that is there but failed is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Storage failed a job of a recording that can go on at no other disk.
pub(in crate::agent) fn storage_failed(
    it: &mut Recording,
    fault: Fault,
    pieces: Vec<Piece>,
    is_ending: bool,
    turn: &mut Turn<'_>,
) -> Then {
    let window = turn.config.storage.resume_window;
    let waits = !window.is_zero() && !is_ending;
    let gone =
        matches!(fault.kind, FaultKind::NoStorage | FaultKind::Pulled | FaultKind::Io | FaultKind::ReadOnly);
    // A disk that comes and fails again has no more time than one that stays away.
    let Destination::File(to_file) = &mut it.destination else { return Then::Nothing };
    let waits = waits && to_file.without_disk_since().is_none_or(|since| turn.now.mono < since + window);
    if !waits || !gone || to_file.file_name().is_none() {
        return Then::Remove(Outcome::DiskFailed(fault, pieces));
    }
    let file = to_file.file();
    lose_disk(to_file, pieces, Reason::StorageIo.as_str(), &it.call, &mut it.stream, turn.now);
    let first = to_file.wait_for_disk(turn.now.mono, turn.now.mono + RETRY_AFTER);
    // Closes the descriptor, wherever the failure was seen: nothing keeps the dead mount busy.
    turn.actions.push(Action::Job(Job::Abandon(file)));
    let text = format!("recording {} goes on in memory: {}", it.id, fault.detail);
    turn.actions.push(Action::Log(LogLevel::Warn, text));
    if first {
        it.notices.first(Notice::Stalled);
        turn.emit(&Event::RecordingStalled(it.status(None, turn.now.mono)));
    }
    Then::AwaitDisk
}

/// The disk of a recording is no longer mounted; `has_other` is whether it can go on at another one.
pub(in crate::agent) fn pulled(it: &mut Recording, has_other: bool, turn: &Turn<'_>) -> Then {
    let Destination::File(to_file) = &mut it.destination else { return Then::Nothing };
    if to_file.is_lost() {
        return Then::Nothing;
    }
    let waits = !turn.config.storage.resume_window.is_zero() || has_other;
    if waits && to_file.is_busy() {
        // Storage has its audio, and the answer is not far.
        to_file.lose_after_answer();
        return Then::Nothing;
    }
    let fault = Fault { kind: FaultKind::Pulled, detail: "the disk was pulled".into() };
    Then::StorageFailed(fault, Vec::new())
}

/// Whether a recording has no disk any more, and the work postponed while storage had its audio is due.
pub(in crate::agent) fn is_pulled(it: &Recording) -> bool {
    it.destination.as_file().is_some_and(ToFile::is_pulled)
}

/// After a look at the disks: recordings that wait for one go on in `folder`, if a disk has just come or is
/// to be tried.
pub(in crate::agent) fn resume(
    it: &mut Recording,
    came: bool,
    folder: Option<&Folder>,
    is_there: impl Fn(&Folder) -> bool,
    turn: &mut Turn<'_>,
) {
    let next = turn.ids.file();
    let Destination::File(to_file) = &mut it.destination else { return };
    let Some(outage) = to_file.outage_mut() else { return };
    let tries = std::mem::take(&mut outage.tries);
    let Some(folder) = folder.filter(|_| came || tries) else { return };
    let jobs = resume_at(to_file, folder, next, is_there, &it.call, &mut it.stream, turn.now);
    turn.actions.extend(jobs.into_iter().map(Action::Job));
}

/// The disk of a recording takes no more: it goes on in `folder`, on another one that is there, in a new
/// file. Audio that the old disk has not acknowledged is still in memory and goes along.
pub(in crate::agent) fn go_on_at(
    it: &mut Recording,
    folder: &Folder,
    fault: &Fault,
    pieces: Vec<Piece>,
    is_there: impl Fn(&Folder) -> bool,
    turn: &mut Turn<'_>,
) {
    let next = turn.ids.file();
    let Destination::File(to_file) = &mut it.destination else { return turn.pool.give_back_all(pieces) };
    let file = to_file.file();
    lose_disk(to_file, pieces, reason_of(fault.kind).as_str(), &it.call, &mut it.stream, turn.now);
    to_file.end_outage();
    it.notices.renew(Notice::Stalled);
    let (at, detail) = (folder.root.display(), &fault.detail);
    let text = format!("recording {} goes on at the disk at {at}: {detail}", it.id);
    turn.actions.push(Action::Log(LogLevel::Warn, text));
    // Closes the descriptor and its lock, before the file is finished by its name.
    turn.actions.push(Action::Job(Job::Abandon(file)));
    let jobs = resume_at(to_file, folder, next, is_there, &it.call, &mut it.stream, turn.now);
    turn.actions.extend(jobs.into_iter().map(Action::Job));
}

/// A file that had lost its disk was finished, or could not be.
pub(in crate::agent) fn finalised(
    recordings: &mut Recordings,
    file: FileKey,
    result: Result<FinaliseOutcome, Fault>,
    turn: &mut Turn<'_>,
) -> Option<(RecordingKey, Then)> {
    let pending = &mut recordings.pending_finalisations;
    let has_it =
        |it: &Recording| it.destination.as_file().is_some_and(|to_file| to_file.has_finalisation(file));
    let found = recordings.live.iter_mut().find(|(_, it)| has_it(it));
    let waits = found.and_then(|(key, it)| Some((*key, it.destination.as_file_mut()?)));
    let Some((key, to_file)) = waits else {
        // Its recording ended, or goes on elsewhere.
        match result {
            Ok(FinaliseOutcome::Finished) => pending.finalised(file),
            Ok(FinaliseOutcome::NotHere) => {}
            Ok(FinaliseOutcome::Locked) => pending.failed(file, turn.now.mono),
            Err(fault) => {
                pending.failed(file, turn.now.mono);
                turn.actions.push(Action::Log(LogLevel::Warn, fault.detail));
            }
        }
        return None;
    };
    match result {
        Ok(outcome) => {
            let (finalisation, done) = take_finalised(to_file, file);
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
                    pending.keep_trying([finalisation], turn.now.mono);
                } else {
                    pending.keep([finalisation]);
                }
            }
            done.then_some((key, Then::Remove(Outcome::Ended)))
        }
        Err(fault) if to_file.is_finalising() => Some((key, Then::StorageFailed(fault, Vec::new()))),
        Err(fault) => {
            turn.actions.push(Action::Log(LogLevel::Warn, fault.detail));
            None
        }
    }
}

/// Looks for a disk again, and gives up when the window has passed; `is_present` is whether there is one.
pub(in crate::agent) fn check_lost(
    it: &mut Recording,
    is_present: bool,
    is_ending: bool,
    turn: &Turn<'_>,
) -> Then {
    let window = turn.config.storage.resume_window;
    let lost = it.destination.as_file_mut().and_then(ToFile::outage_mut);
    let Some(lost) = lost else { return Then::Nothing };
    if turn.now.mono >= lost.since + window || is_ending {
        let detail = format!("no disk took it within {} s (storage.resume_window_s)", window.as_secs());
        let kind = if is_present { FaultKind::Io } else { FaultKind::Pulled };
        return Then::Remove(Outcome::DiskFailed(Fault { kind, detail }, Vec::new()));
    }
    if turn.now.mono < lost.retry_at {
        return Then::Nothing;
    }
    lost.retry_at = turn.now.mono + RETRY_AFTER;
    lost.tries = true;
    Then::Look
}

//! Answers of storage to a recording, and the next job of the recording.
//!
//! A disk that fails in mid-recording is [`going_on`]'s.

pub(in crate::agent) mod going_on;
pub(in crate::agent) mod pending_finalisations;

use crate::agent::recordings::on_disk::pending_finalisations::PendingFinalisations;
use crate::agent::recordings::outcome::{Outcome, Then};
use crate::agent::recordings::recording::Recording;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::phase::Notice;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::agent::{Action, Turn};
use crate::api::event::Event;
use crate::api::reason::Reason;
use log::Level as LogLevel;
use store::jobs::{Fault, FaultKind, Folder, Job, Opened, Piece};

/// Audio beyond this is written before its flush is due.
const WRITE_EARLY_OCTETS: u64 = 128 * 1024;

/// Waiting octets from which on the room is looked at without a write, too: more than a flush of a call has.
const BEHIND_OCTETS: u64 = 16 * 1024;

/// The job that a recording gave storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Given {
    Nothing,
    /// Nothing, though much waits: the disk is behind, or the stream fast.
    NothingYet,
    /// A job, with `octets` of audio.
    Job {
        octets: u64,
    },
}

/// Gives storage the due job.
pub(in crate::agent) fn write(it: &mut Recording, turn: &mut Turn<'_>) -> Given {
    // Early, together with others, is better than a wake-up of its own; later all go together.
    let interval = turn.config.storage.flush_interval / 2;
    let waiting = it.buffered_octets();
    let sender = it.sender_facts();
    let Destination::File(to_file) = &mut it.destination else { return Given::Nothing };
    let due = to_file.flush_due(&it.stream, interval).is_some_and(|due| turn.now.mono >= due);
    // Many calls may fill a small pool long before one of them has that much.
    let early = waiting > WRITE_EARLY_OCTETS || turn.pool.is_half_used();
    let flush = due || early || it.paused.is_some();
    to_file.note_sender(sender);
    if let Some(job) = to_file.next_job(flush, &it.call, &mut it.stream, turn.now) {
        let octets = if matches!(job, Job::Append { .. }) { waiting } else { 0 };
        turn.actions.push(Action::Job(job));
        return Given::Job { octets };
    }
    if waiting > BEHIND_OCTETS { Given::NothingYet } else { Given::Nothing }
}

/// A file was created. Whether the disk is short of room for names.
pub(in crate::agent) fn opened(
    it: &mut Recording,
    opened: Opened,
    remaining_s: Option<u64>,
    turn: &mut Turn<'_>,
) -> bool {
    let first = it.phase.begin();
    let short_of_names =
        it.destination.as_file_mut().is_some_and(|to_file| to_file.opened(opened, &it.stream));
    if let Some(reply) = it.waiting.take() {
        reply.ok(&it.start_answer(), turn.actions);
    }
    let status = it.status(remaining_s, turn.now.mono);
    turn.emit(&if first { Event::RecordingStarted(status) } else { Event::RecordingSegment(status) });
    short_of_names
}

/// Whether a file that could not be created may be tried once more; it may be so once.
pub(in crate::agent) fn may_open_again(it: &mut Recording) -> bool {
    it.destination.as_file_mut().is_some_and(ToFile::may_open_again)
}

/// Tries once more to create a file.
pub(in crate::agent) fn open_again(it: &mut Recording, turn: &mut Turn<'_>) {
    let again = it.destination.as_file_mut().and_then(|to_file| to_file.open_again(&it.call, turn.now));
    turn.actions.extend(again.map(Action::Job));
}

/// A file could not be created, nor can it elsewhere.
pub(in crate::agent) fn open_failed(it: &Recording, fault: Fault) -> Then {
    if it.waiting.is_some() {
        Then::Remove(Outcome::NoFile(fault))
    } else {
        Then::StorageFailed(fault, Vec::new())
    }
}

/// Audio was written. Gives its octets.
pub(in crate::agent) fn appended(it: &mut Recording, pieces: Vec<Piece>, turn: &mut Turn<'_>) -> u64 {
    it.notices.renew(Notice::Stalled);
    let Some(to_file) = it.destination.as_file_mut() else { return 0 };
    to_file.appended(pieces, &mut it.stream, turn.pool)
}

/// The disk, or the file, had no room for all of `pieces`. The folder, if its disk is full.
pub(in crate::agent) fn filled(
    it: &mut Recording,
    fault: &Fault,
    pieces: Vec<Piece>,
    turn: &mut Turn<'_>,
) -> Option<Folder> {
    let reason = Reason::StorageFull;
    if !it.is_live() {
        it.end_for(reason.into());
    }
    if fault.kind == FaultKind::TooLarge {
        let text = format!("recording {} ends: {}", it.id, fault.detail);
        turn.actions.push(Action::Log(LogLevel::Warn, text));
    }
    let to_file = it.destination.as_file_mut()?;
    to_file.filled(pieces, reason.as_str(), &mut it.stream, turn.now, turn.pool);
    (fault.kind == FaultKind::Full).then(|| to_file.folder().clone())
}

/// A file was closed.
pub(in crate::agent) fn closed(it: &mut Recording, turn: &mut Turn<'_>) -> Then {
    let next = turn.ids.file();
    let Destination::File(to_file) = &mut it.destination else { return Then::Nothing };
    match to_file.closed(next, &it.call, turn.now) {
        Some(job) => {
            turn.actions.push(Action::Job(job));
            Then::Nothing
        }
        None => Then::Remove(Outcome::Ended),
    }
}

/// The rest of a file recording: audio that nobody writes any more, and files to be finished later.
pub(in crate::agent) fn leave_file(
    it: &mut Recording,
    outcome: &mut Outcome,
    pending: &mut PendingFinalisations,
    turn: &mut Turn<'_>,
) {
    let Some(to_file) = it.destination.as_file_mut() else { return };
    match outcome {
        Outcome::Ended => pending.keep_trying(to_file.take_finalisations(), turn.now.mono),
        Outcome::DiskFailed(_, pieces) => {
            to_file.abandon(std::mem::take(pieces), &mut it.stream, turn.pool);
            // The last one is not cut: audio on its disk beyond the last acknowledgement is nowhere else.
            let mut finalisations = to_file.take_finalisations();
            finalisations.pop();
            pending.keep_trying(finalisations, turn.now.mono);
            turn.actions.push(Action::Job(Job::Abandon(to_file.file())));
        }
        Outcome::NoFile(_) => to_file.abandon(Vec::new(), &mut it.stream, turn.pool),
        Outcome::PeerFailed(..) | Outcome::NoPort(_) | Outcome::Discarded => {}
    }
}

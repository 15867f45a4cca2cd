//! Notices about a recording, and the deadlines that depend on time alone.

use crate::agent::recordings::outcome::{Outcome, Then};
use crate::agent::recordings::recording::phase::Notice;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::agent::recordings::recording::{Recording, STALLED_AFTER, START_ANSWER_AFTER};
use crate::agent::{Action, RecordingKey, Turn};
use crate::api::event::Event;
use crate::config::Storage;
use media::probe::{Media, NO_MEDIA_AFTER};
use media::time::Mono;
use std::time::Duration;
use store::jobs::{Fault, FaultKind};

/// The facts that deadlines depend on besides the recording.
pub(in crate::agent) struct Watch<'a> {
    pub(in crate::agent) config: &'a Storage,
    /// Whether a client wants to hear of progress.
    pub(in crate::agent) progress: bool,
    /// Whether the pool has room.
    pub(in crate::agent) has_room: bool,
    /// Whether the agent ends.
    pub(in crate::agent) is_ending: bool,
}

/// The time of the next look at a recording without an event.
pub(super) fn deadline(it: &Recording, watch: &Watch<'_>) -> Option<Mono> {
    let to_file = it.destination.as_file();
    let flush = it.flush_due(watch.config.flush_interval);
    let answer = it.waiting.as_ref().and(to_file).map(|_| it.started + START_ANSWER_AFTER);
    let no_media = media_deadline(it, watch.has_room);
    let busy_since = to_file.and_then(ToFile::busy_since).filter(|_| !it.notices.has(Notice::Stalled));
    let stalled = busy_since.map(|at| at + STALLED_AFTER);
    let progress = (watch.progress && it.is_live()).then_some(it.progress_at);
    let lost = to_file.and_then(ToFile::outage).map(|lost| {
        let end = lost.since + watch.config.resume_window;
        if watch.is_ending { Mono::default() } else { lost.retry_at.min(end) }
    });
    let destination = it.destination.deadline();
    [flush, answer, no_media, stalled, progress, lost, destination].into_iter().flatten().min()
}

/// When time alone changes the media state of a recording.
fn media_deadline(it: &Recording, has_room: bool) -> Option<Mono> {
    if !it.takes_audio() || !has_room {
        return None;
    }
    let probe = it.stream.probe();
    let no_media = (!probe.is_silence_told()).then(|| probe.since() + NO_MEDIA_AFTER);
    [no_media, probe.deadline(), it.lock_deadline()].into_iter().flatten().min()
}

/// Packets that wait to be put in order wait no longer if none has come for a while. All that has come is
/// here: sockets are emptied before each tick, unless there is no room.
pub(in crate::agent) fn let_go(it: &mut Recording, turn: &mut Turn<'_>) {
    if !turn.pool.has_room() {
        return;
    }
    if it.flush_due(turn.config.storage.flush_interval).is_some_and(|due| turn.now.mono >= due) {
        it.stream.let_go(turn.now.mono, turn.pool);
    }
}

/// Sends the notices that are due.
pub(in crate::agent) fn tick(
    it: &mut Recording,
    key: RecordingKey,
    remaining_s: Option<u64>,
    turn: &mut Turn<'_>,
) {
    if it.goes_to_file() && turn.now.mono >= it.started + START_ANSWER_AFTER {
        if let Some(reply) = it.waiting.take() {
            reply.ok(&it.start_answer(), turn.actions);
        }
    }
    let busy_since = it.destination.as_file().and_then(ToFile::busy_since);
    let stalled = busy_since.is_some_and(|since| turn.now.mono >= since + STALLED_AFTER);
    if stalled && it.notices.first(Notice::Stalled) {
        turn.emit(&Event::RecordingStalled(it.status(remaining_s, turn.now.mono)));
    }
    check_media(it, key, remaining_s, turn);
    if turn.wants("recording.progress") && it.is_live() && turn.now.mono >= it.progress_at {
        emit_progress(it, remaining_s, turn);
    }
}

/// Reports a change of the incoming media, or that nothing comes. All packets that have arrived were looked
/// at.
pub(in crate::agent) fn check_media(
    it: &mut Recording,
    key: RecordingKey,
    remaining_s: Option<u64>,
    turn: &mut Turn<'_>,
) {
    // Without room, packets wait in the socket.
    let looks = it.takes_audio() && turn.pool.has_room();
    if looks {
        it.tick_lock(turn.now.mono, turn.pool);
        if let Some(waiting) = it.take_released() {
            turn.actions.push(Action::RelayHeld(key, waiting));
        }
        if let Some(sender) = it.new_filter(turn.now.mono) {
            turn.actions.push(Action::FilterRtp(key, sender));
        }
        it.stream.probe_mut().tick(turn.now.mono);
        it.unrecordable |= it.stream.probe().media() == Media::WrongPayloadType;
    }
    let probe = it.stream.probe_mut();
    let changed = probe.take_change();
    let encrypted = probe.media() == Media::Encrypted;
    let missing = looks && turn.now.mono >= probe.since() + NO_MEDIA_AFTER;
    let no_media = (encrypted || missing) && !probe.is_silence_told();
    if !changed && !no_media {
        return;
    }
    if no_media {
        probe.tell_silence();
    }
    let detail = probe.detail();
    let status = it.status(remaining_s, turn.now.mono);
    if changed {
        let text = format!("recording {}: media is {}", it.id, it.stream.probe().media().name());
        turn.actions.push(Action::Log(log::Level::Info, text));
        turn.emit(&Event::RecordingMedia(status.clone()));
    }
    if no_media {
        turn.emit(&Event::RecordingNoMedia { status, detail });
    }
}

/// Tells when audio was lost for want of buffer, and gives up on a disk that is dead.
pub(in crate::agent) fn check_overrun(
    it: &mut Recording,
    remaining_s: Option<u64>,
    turn: &mut Turn<'_>,
) -> Then {
    if it.stream.buffer().is_overfull() {
        let fault = Fault { kind: FaultKind::Io, detail: "the disk has been stalled for too long".into() };
        return Then::Remove(Outcome::DiskFailed(fault, Vec::new()));
    }
    if it.is_degraded() && it.notices.first(Notice::Loss) {
        turn.emit(&Event::RecordingStalled(it.status(remaining_s, turn.now.mono)));
    }
    Then::Nothing
}

pub(in crate::agent) fn emit_progress(it: &mut Recording, remaining_s: Option<u64>, turn: &mut Turn<'_>) {
    it.progress_at = turn.now.mono + Duration::from_secs(1);
    if turn.wants("recording.progress") {
        turn.emit(&Event::RecordingProgress(it.status(remaining_s, turn.now.mono)));
    }
}

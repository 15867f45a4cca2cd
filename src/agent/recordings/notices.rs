//! What is due when a deadline has passed: playback, jobs tried again, answers and events that could not wait longer.

use crate::agent::recordings::recording::Recording;
use crate::agent::recordings::recording::phase::Notice;
use crate::agent::recordings::stop::outcome::Outcome;
use crate::agent::{Action, Parts, RecordingKey, Turn};
use crate::api::event::Event;
use media::probe::{Media, NO_MEDIA_AFTER};
use media::time::Mono;
use std::time::Duration;
use store::jobs::{Fault, FaultKind};

impl Parts {
    /// What waits to be put in order waits no longer if no packet has come for a while. All that has come is here: sockets
    /// are emptied before each tick, unless there is no room.
    pub(in crate::agent) fn let_go(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        if !turn.pool.has_room() {
            return;
        }
        let Some(it) = self.recordings.get_mut(&key) else { return };
        if it.flush_due(turn.config.storage.flush_interval).is_some_and(|due| turn.now.mono >= due) {
            it.stream.let_go(turn.now.mono, turn.pool);
        }
    }

    /// Tells what comes in, if that is something else than before, and that nothing does. What had arrived was looked at.
    pub(in crate::agent) fn check_media(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let has_room = turn.pool.has_room();
        let Some(it) = self.recordings.get_mut(&key) else { return };
        // Without room, packets wait in the socket.
        let looks = it.takes_audio() && has_room;
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
        let remaining_s = self.remaining_s();
        let Some(it) = self.recordings.get(&key) else { return };
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
    pub(in crate::agent) fn check_overrun(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let remaining_s = self.remaining_s();
        let Some(it) = self.recordings.get_mut(&key) else { return };
        if it.stream.buffer().is_overfull() {
            let fault =
                Fault { kind: FaultKind::Io, detail: "the disk has been stalled for too long".into() };
            return self.remove(key, Outcome::DiskFailed(fault, Vec::new()), turn);
        }
        if it.is_degraded() && it.notices.first(Notice::Loss) {
            let event = Event::RecordingStalled(it.status(remaining_s, turn.now.mono));
            turn.emit(&event);
        }
    }

    pub(in crate::agent) fn emit_progress(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let remaining_s = self.remaining_s();
        let wanted = turn.wants("recording.progress");
        let Some(it) = self.recordings.get_mut(&key) else { return };
        it.progress_at = turn.now.mono + Duration::from_secs(1);
        if wanted {
            let event = Event::RecordingProgress(it.status(remaining_s, turn.now.mono));
            turn.emit(&event);
        }
    }
}

/// When time alone changes what is told of the media of a recording.
pub(in crate::agent) fn media_deadline(it: &Recording, has_room: bool) -> Option<Mono> {
    if !it.takes_audio() || !has_room {
        return None;
    }
    let probe = it.stream.probe();
    let no_media = (!probe.is_silence_told()).then(|| probe.since() + NO_MEDIA_AFTER);
    [no_media, probe.deadline(), it.lock_deadline()].into_iter().flatten().min()
}

//! What is due when a deadline has passed: playback, jobs tried again, answers and events that could not wait longer.

use super::Agent;
use super::io::Action;
use super::io::RecordingKey;
use super::local::Local;
use super::recording::{Recording, STALLED_AFTER, START_ANSWER_AFTER};
use crate::api::event::Event;
use crate::api::reply;
use media::probe::{Media, NO_MEDIA_AFTER};
use media::time::{Mono, Now};

impl Agent {
    /// What waits to be put in order waits no longer if no packet has come for a while. All that has come is here: sockets
    /// are emptied before each tick, unless there is no room.
    fn let_go(&mut self, key: RecordingKey, now: Now) {
        if !self.pool.has_room() {
            return;
        }
        let Some(local) = self.recordings.get_mut(&key).and_then(|it| it.route.local_mut()) else { return };
        if local.flush_due(self.config.storage.flush_interval).is_some_and(|due| now.mono >= due) {
            local.let_go(now.mono, &mut self.pool);
        }
    }

    #[inline(never)]
    pub(super) fn tick(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.play_all(now, actions);
        self.library_pump(now, actions);
        if self.held.retry_at().is_some_and(|at| now.mono >= at) {
            actions.extend(self.held.take().map(Action::Job));
        }
        if self.look_due().is_some_and(|at| now.mono >= at) {
            self.scan(now, actions);
        }
        let progress = self.wants("recording.progress");
        for key in self.keys() {
            self.let_go(key, now);
            self.pump(key, now, actions);
            self.check_lost(key, now, actions);
            self.uplink(key, now, actions, |client, now, out| client.timer(now, out));
            self.sip_timer(key, now, actions);
            let remaining_s = self.remaining_s();
            let Some(it) = self.recordings.get_mut(&key) else { continue };
            if it.is_local() && now.mono >= it.started + START_ANSWER_AFTER {
                if let Some((client, id)) = it.waiting.take() {
                    actions.push(Action::Reply(client, reply::result(&id, &it.start_answer())));
                }
            }
            let busy_since = it.route.local().and_then(Local::busy_since);
            let stalled = busy_since.is_some_and(|since| now.mono >= since + STALLED_AFTER);
            if stalled && !it.stalled_told {
                it.stalled_told = true;
                let event = Event::RecordingStalled(it.status(remaining_s, now.mono));
                self.tell(&event, actions);
            }
            self.check_media(key, now, actions);
            let Some(it) = self.recordings.get(&key) else { continue };
            if progress && it.is_live() && now.mono >= it.progress_at {
                self.tell_progress(key, now, actions);
            }
        }
        let overdue = |since: &Mono| now.mono >= *since + START_ANSWER_AFTER;
        while self.waiting_starts.front().is_some_and(|(.., since)| overdue(since)) {
            if let Some((client, Some(id), ..)) = self.waiting_starts.pop_front() {
                let error = super::recordings::disk_silent();
                actions.push(Action::Reply(client, reply::agent_error(&id, &error)));
            }
        }
    }

    /// Tells what comes in, if that is something else than before, and that nothing does. What had arrived was looked at.
    #[inline(never)]
    pub(super) fn check_media(&mut self, key: RecordingKey, now: Now, actions: &mut Vec<Action>) {
        let has_room = self.pool.has_room();
        let Some(it) = self.recordings.get_mut(&key) else { return };
        // Without room, packets wait in the socket.
        let looks = it.takes_audio() && has_room;
        if looks {
            it.tick_lock(now.mono, &mut self.pool);
            if let Some(waiting) = it.take_released() {
                actions.push(Action::RelayHeld(key, waiting));
            }
            if let Some(sender) = it.new_filter(now.mono) {
                actions.push(Action::FilterRtp(key, sender));
            }
            it.probe.tick(now.mono);
            it.unrecordable |= it.probe.media() == Media::WrongPayloadType;
        }
        let changed = it.probe.take_change();
        let encrypted = it.probe.media() == Media::Encrypted;
        let missing = looks && now.mono >= it.probe.since() + NO_MEDIA_AFTER;
        let no_media = (encrypted || missing) && !it.no_media_told;
        if !changed && !no_media {
            return;
        }
        it.no_media_told |= no_media;
        let detail = it.probe.detail();
        let remaining_s = self.remaining_s();
        let Some(it) = self.recordings.get(&key) else { return };
        let status = it.status(remaining_s, now.mono);
        if changed {
            let text = format!("recording {}: media is {}", it.id, it.probe.media().name());
            actions.push(Action::Log(log::Level::Info, text));
            self.tell(&Event::RecordingMedia(status.clone()), actions);
        }
        if no_media {
            self.tell(&Event::RecordingNoMedia { status, detail }, actions);
        }
    }

    /// When time alone changes what is told of the media of a recording.
    pub(super) fn media_deadline(&self, it: &Recording) -> Option<Mono> {
        if !it.takes_audio() || !self.has_room() {
            return None;
        }
        let no_media = (!it.no_media_told).then(|| it.probe.since() + NO_MEDIA_AFTER);
        [no_media, it.probe.deadline(), it.lock_deadline()].into_iter().flatten().min()
    }
}

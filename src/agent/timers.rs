//! What is due when a deadline has passed: playback, jobs tried again, answers and events that could not wait longer.

use super::Agent;
use super::io::Action;
use super::local::Local;
use super::recording::{NO_MEDIA_AFTER, STALLED_AFTER, START_ANSWER_AFTER};
use crate::api::event::Event;
use crate::api::reason::{AgentError, Reason};
use crate::api::reply;
use crate::time::{Mono, Now};

impl Agent {
    #[inline(never)]
    pub(super) fn tick(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.play_all(now, actions);
        self.library_pump(now, actions);
        if self.held.retry_at().is_some_and(|at| now.mono >= at) {
            actions.extend(self.held.take().map(Action::Job));
        }
        let progress = self.wants("recording.progress");
        for key in self.keys() {
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
            let mut events = Vec::new();
            // Without room, packets wait in the socket.
            let silent = it.takes_audio() && now.mono >= it.media_at + NO_MEDIA_AFTER;
            if silent && !it.no_media_told && self.pool.has_room() {
                it.no_media_told = true;
                events.push(Event::RecordingNoMedia(it.status(remaining_s)));
            }
            let busy_since = it.route.local().and_then(Local::busy_since);
            let stalled = busy_since.is_some_and(|since| now.mono >= since + STALLED_AFTER);
            if stalled && !it.stalled_told {
                it.stalled_told = true;
                events.push(Event::RecordingStalled(it.status(remaining_s)));
            }
            if progress && it.is_live() && now.mono >= it.progress_at {
                self.tell_progress(key, now, actions);
            }
            for event in events {
                self.tell(&event, actions);
            }
        }
        let overdue = |since: &Mono| now.mono >= *since + START_ANSWER_AFTER;
        while self.waiting_starts.front().is_some_and(|(.., since)| overdue(since)) {
            if let Some((client, Some(id), ..)) = self.waiting_starts.pop_front() {
                let error = AgentError::new(Reason::StorageIo).with_message("the disk does not answer");
                actions.push(Action::Reply(client, reply::agent_error(&id, &error)));
            }
        }
    }
}

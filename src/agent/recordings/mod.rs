//! The recordings that have not ended, and the last that have.
//!
//! Owns: finding one by its key, id or file; what clients ask of one that runs; when its next job is due. How it
//! begins is [`start`]'s, how it ends [`stop`]'s, what disk, server and PBX answer [`on_disk`]'s, [`at_server`]'s and
//! [`at_pbx`]'s.

use crate::agent::clients::answer::Caller;
use crate::agent::clients::answer::{Answer, Failure, answer};
use crate::agent::recordings::recording::by_pbx::Purpose;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::{Recording, altered_text};
use crate::agent::{Action, Parts, RecordingKey, Turn};
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::api::status::RecordingStatus;
use media::time::Mono;
use recfile::call::CallUpdate;
use std::time::Duration;
use store::jobs::{FileKey, Job};

mod at_pbx;
mod at_server;
pub(in crate::agent) mod notices;
pub(in crate::agent) mod on_disk;
pub(in crate::agent) mod recording;
mod start;
mod stop;

/// Audio beyond this is written before its flush is due.
const WRITE_EARLY_OCTETS: u64 = 128 * 1024;

/// More than a flush of a call has: with so much waiting, the room is looked at without a write, too.
const BEHIND_OCTETS: u64 = 16 * 1024;

impl Parts {
    /// Gives storage what is due of one recording.
    pub(in crate::agent) fn pump(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        if self.lose_pulled(key, turn) {
            return;
        }
        let Some(it) = self.recordings.get_mut(&key) else { return };
        // Early, with what else is awake, is better than a wake-up of its own; later all go together.
        let interval = turn.config.storage.flush_interval / 2;
        let waiting = it.buffered_octets();
        let sender = it.sender_facts();
        let Destination::File(to_file) = &mut it.destination else {
            return self.check_overrun(key, turn);
        };
        let due = to_file.flush_due(&it.stream, interval).is_some_and(|due| turn.now.mono >= due);
        // Many calls may fill a small pool long before one of them has that much.
        let early = waiting > WRITE_EARLY_OCTETS || turn.pool.is_half_used();
        let flush = due || early || it.paused.is_some();
        to_file.note_sender(sender);
        if let Some(job) = to_file.next_job(flush, &it.call, &mut it.stream, turn.now) {
            if matches!(job, Job::Append { .. }) {
                self.disk.state.spend(to_file.folder(), waiting);
            }
            turn.actions.push(Action::Job(job));
            self.check_room(turn);
            if turn.now.mono + Duration::from_millis(100) >= self.progress_due(key) {
                self.emit_progress(key, turn);
            }
            turn.pool.trim();
        } else if waiting > BEHIND_OCTETS {
            // The disk is behind, or the stream fast, and what waits needs room too.
            self.check_room(turn);
        }
        self.check_overrun(key, turn);
    }

    pub(in crate::agent) fn progress_due(&self, key: RecordingKey) -> Mono {
        self.recordings.get(&key).map_or(Mono::default(), |it| it.progress_at)
    }

    pub(in crate::agent) fn keys(&self) -> Vec<RecordingKey> {
        self.recordings.keys().copied().collect()
    }

    /// The recordings that go to the disk.
    pub(in crate::agent) fn on_disk(&self) -> Vec<RecordingKey> {
        self.recordings.iter().filter(|(_, it)| it.goes_to_file()).map(|(key, _)| *key).collect()
    }

    pub(in crate::agent) fn count_on_disk(&self) -> usize {
        self.recordings.values().filter(|it| it.goes_to_file()).count()
    }

    pub(in crate::agent) fn key_of(&self, file: FileKey) -> Option<RecordingKey> {
        let has_it = |it: &Recording| it.destination.as_file().is_some_and(|to_file| to_file.file() == file);
        self.recordings.iter().find(|(_, it)| has_it(it)).map(|(key, _)| *key)
    }

    /// The recording that a request means: the one named, or the only one.
    pub(in crate::agent) fn live(&self, recording: Option<&str>) -> Result<RecordingKey, Failure> {
        if let Some(id) = recording {
            let live = self.recordings.iter().find(|(_, it)| it.id == id && it.is_live());
            let known = self.recordings.values().any(|it| it.id == id)
                || self.ended.iter().any(|status| status.recording == id);
            let error = if known {
                AgentError::new(Reason::NotRecording).with_message("the recording has ended")
            } else {
                AgentError::new(Reason::NotFound).with_message("no recording of this name runs")
            };
            let error = error.with_advice("recordctl status shows those that run, recordctl list the files");
            return live.map(|(key, _)| *key).ok_or_else(|| error.into());
        }
        let mut live = self.recordings.iter().filter(|(_, it)| it.is_live());
        match (live.next(), live.next()) {
            (Some((key, _)), None) => Ok(*key),
            (None, _) => Err(Reason::NotRecording.into()),
            _ => {
                let live = self.recordings.values().filter(|it| it.is_live());
                let ids: Vec<&str> = live.map(|it| it.id.as_str()).collect();
                Err(Failure::Params(format!(
                    "`recording` is missing, and there are several: {}",
                    ids.join(", ")
                )))
            }
        }
    }

    pub(in crate::agent) fn status_of(
        &self,
        key: RecordingKey,
        now: Mono,
    ) -> Result<RecordingStatus, Failure> {
        let live = self.recordings.get(&key).map(|it| it.status(self.remaining_s(), now));
        live.or_else(|| self.ended.front().cloned()).ok_or_else(|| Reason::NotFound.into())
    }

    pub(in crate::agent) fn update(
        &mut self,
        key: RecordingKey,
        call: &CallUpdate,
        turn: &mut Turn<'_>,
    ) -> Result<(), Failure> {
        let Some(it) = self.recordings.get(&key) else { return Err(Reason::NotFound.into()) };
        if let (Destination::Pbx(_), Some(id)) = (&it.destination, &call.id) {
            self.check_one_per_call(id, Some(key))?;
        }
        if let Some(it) = self.recordings.get_mut(&key) {
            it.call.update(call);
            turn.actions
                .extend(altered_text(&it.id, call.altered).map(|text| Action::Log(log::Level::Info, text)));
            if let Some(to_server) = it.destination.as_server_mut() {
                to_server.client.update(it.call.clone());
            }
        }
        self.library_renamed(key);
        Ok(())
    }

    pub(in crate::agent) fn pause(
        &mut self,
        key: RecordingKey,
        caller: &mut Caller,
        turn: &mut Turn<'_>,
    ) -> Answer {
        let remaining_s = self.remaining_s();
        let Some(it) = self.recordings.get_mut(&key) else { return Err(Reason::NotFound.into()) };
        if it.paused.is_some() {
            return Err(AgentError::new(Reason::InvalidState).with_message("it is paused already").into());
        }
        it.settle(turn.now.mono, turn.pool);
        match &mut it.destination {
            Destination::File(_) => {}
            Destination::Server(to_server) => to_server.pause(),
            Destination::Pbx(_) => {
                self.switch_pbx(key, Purpose::Pause, caller, turn)?;
                return Ok(None);
            }
        }
        it.stream.pause(turn.pool);
        it.paused = Some(turn.now.mono);
        let status = it.status(remaining_s, turn.now.mono);
        turn.emit(&Event::RecordingPaused(status.clone()));
        self.pump(key, turn);
        answer(&status)
    }

    pub(in crate::agent) fn resume(
        &mut self,
        key: RecordingKey,
        caller: &mut Caller,
        turn: &mut Turn<'_>,
    ) -> Answer {
        let remaining_s = self.remaining_s();
        let Some(it) = self.recordings.get_mut(&key) else { return Err(Reason::NotFound.into()) };
        let Some(since) = it.paused else {
            return Err(AgentError::new(Reason::InvalidState).with_message("it is not paused").into());
        };
        match &mut it.destination {
            Destination::File(_) => it.stream.note_pause(turn.now.mono.since(since)),
            Destination::Server(_) => {}
            Destination::Pbx(_) => {
                self.switch_pbx(key, Purpose::Resume, caller, turn)?;
                return Ok(None);
            }
        }
        it.paused = None;
        it.stream.begin(turn.now.mono);
        let status = it.status(remaining_s, turn.now.mono);
        turn.emit(&Event::RecordingResumed(status.clone()));
        answer(&status)
    }
}

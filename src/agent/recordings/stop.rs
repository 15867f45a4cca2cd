//! How a recording ends: stopped, with its disk lost, or with the process; and which reason is told.

use crate::agent::disk::faults::{cause_of_fault, reason_of};
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::{Action, Agent, Life, RecordingKey, Turn};
use crate::api::ending::{EndReason, Order};
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::api::status::RecordingState;
use log::Level as LogLevel;
use std::time::Duration;
use store::jobs::{Fault, Job, Piece};

/// At the end of the process storage has so long to finish.
const SHUTDOWN_AFTER: Duration = Duration::from_secs(20);

impl Agent {
    pub(in crate::agent) fn shut_down(&mut self, turn: &mut Turn<'_>) {
        if self.life == Life::Running {
            self.life = Life::Ending { by: turn.now.mono + SHUTDOWN_AFTER };
        }
        self.end_playbacks("shutdown", turn);
        for key in self.keys() {
            self.stop(key, Order::Shutdown, turn);
        }
    }

    /// Begins to end a recording; `recording.ended` follows when its file is closed.
    pub(in crate::agent) fn stop(
        &mut self,
        key: RecordingKey,
        reason: impl Into<EndReason>,
        turn: &mut Turn<'_>,
    ) {
        let Some(it) = self.recordings.get_mut(&key).filter(|it| it.is_live()) else { return };
        it.settle(turn.now.mono, &mut self.pool);
        it.state = RecordingState::Stopping;
        let reason = reason.into();
        it.end_for(reason);
        it.stopped = Some(turn.now.mono);
        self.remember_sender(key);
        let Some(it) = self.recordings.get_mut(&key) else { return };
        match &mut it.destination {
            Destination::File(to_file) => {
                if let Some(since) = it.paused {
                    to_file.note_pause(turn.now.mono.since(since));
                }
                to_file.finish(reason.as_str(), turn.now, &mut self.pool);
                turn.actions.push(Action::CloseRtp(key));
                self.pump(key, turn);
            }
            Destination::Server(_) => {
                self.uplink(key, turn, |client, now, out| client.stop(reason.as_str(), now, out));
            }
            Destination::Pbx(_) => self.stop_at_pbx(key, turn),
        }
    }

    /// Ends a recording whose disk is gone.
    pub(in crate::agent) fn fail(
        &mut self,
        key: RecordingKey,
        fault: Fault,
        pieces: Vec<Piece>,
        turn: &mut Turn<'_>,
    ) {
        self.remember_sender(key);
        let Some(mut it) = self.recordings.remove(&key) else { return };
        if let Some(to_file) = it.destination.as_file_mut() {
            to_file.abandon(pieces, &mut self.pool);
            // The last one is not cut: what its disk holds beyond the last acknowledgement stands nowhere else.
            let mut mends = to_file.take_mends();
            mends.pop();
            self.pending_finalisations.keep(mends);
            turn.actions.push(Action::Job(Job::Abandon(to_file.file())));
        }
        it.state = RecordingState::Ended;
        let Fault { kind, detail } = fault;
        let reason = reason_of(kind);
        it.fail_for(reason, Some(cause_of_fault(kind)), detail.clone());
        self.past.add(&it.final_counts());
        self.stats.recordings_failed += 1;
        turn.actions.push(Action::CloseRtp(key));
        turn.actions.push(Action::Log(LogLevel::Error, format!("recording {} failed: {detail}", it.id)));
        let status = it.status(self.remaining_s(), self.clock);
        self.remember(status.clone());
        if let Some(reply) = it.waiting.take() {
            let error = AgentError::new(reason).because(cause_of_fault(kind)).with_detail(detail);
            reply.err(&error, turn);
        }
        self.tell(&Event::RecordingFailed(status), turn);
        self.scan(turn);
        self.finish_eject(turn);
    }

    /// A recording without a file has ended well.
    pub(in crate::agent) fn finish(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let remaining_s = self.remaining_s();
        let Some(mut it) = self.recordings.remove(&key) else { return };
        it.state = RecordingState::Ended;
        turn.actions.push(Action::CloseRtp(key));
        self.past.add(&it.final_counts());
        let status = it.status(remaining_s, self.clock);
        let text = format!("recording {} ended: {} ms", it.id, status.elapsed_ms);
        turn.actions.push(Action::Log(LogLevel::Info, text));
        if let Some(reply) = it.waiting.take() {
            let error =
                AgentError::new(Reason::InvalidState).with_message("it was stopped before it had begun");
            reply.err(&error, turn);
        }
        self.remember(status.clone());
        self.tell(&Event::RecordingEnded(status), turn);
    }

    /// A recording without a file has failed; one that never began is only refused.
    pub(in crate::agent) fn lose(
        &mut self,
        key: RecordingKey,
        reason: Reason,
        detail: String,
        turn: &mut Turn<'_>,
    ) {
        let Some(mut it) = self.recordings.remove(&key) else { return };
        turn.actions.push(Action::CloseRtp(key));
        self.past.add(&it.final_counts());
        let starting = it.is_starting();
        let logged = it.call.redacted(&detail);
        it.state = RecordingState::Ended;
        it.fail_for(reason, None, detail.clone());
        if let Some(reply) = it.waiting.take() {
            let error = AgentError::new(reason).with_detail(detail);
            reply.err(&error, turn);
        }
        if starting {
            return turn
                .actions
                .push(Action::Log(LogLevel::Warn, format!("no recording: {reason}: {logged}")));
        }
        self.stats.recordings_failed += 1;
        let text = format!("recording {} failed: {reason}: {logged}", it.id);
        turn.actions.push(Action::Log(LogLevel::Error, text));
        let status = it.status(self.remaining_s(), self.clock);
        self.remember(status.clone());
        self.tell(&Event::RecordingFailed(status), turn);
    }
}

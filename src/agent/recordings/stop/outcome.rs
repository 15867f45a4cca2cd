//! The end of a recording: the one place that removes it, and what its outcome means for whom.
//!
//! Owns: port, audio, books, log, reply and event of the end. Never: when it is due; who ends a recording says how.

use crate::agent::disk::faults::{cause_of_fault, error_of_fault, reason_of};
use crate::agent::recordings::recording::Recording;
use crate::agent::{Action, MAX_ENDED, Parts, RecordingKey, Turn};
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::api::status::RecordingStatus;
use log::Level as LogLevel;
use store::jobs::{Fault, Job, Piece};

/// How a recording leaves the agent.
#[derive(Debug)]
pub(in crate::agent) enum Outcome {
    /// It ended as somebody wanted, or as its destination did; all that it has is kept.
    Ended,
    /// The disk failed, and gave back the audio of its job.
    DiskFailed(Fault, Vec<Piece>),
    /// The server or the PBX failed. A recording that never began is only refused.
    PeerFailed(Reason, String),
    /// The first file could not be created: it never began.
    NoFile(Fault),
    /// No RTP port could be bound, for this reason: it never began.
    NoPort(String),
    /// The PBX refused it, and everybody knows.
    Discarded,
}

impl Outcome {
    /// Whether the recording had begun, so that its end is told.
    fn had_begun(&self, it: &Recording) -> bool {
        match self {
            Self::Ended | Self::DiskFailed(..) => true,
            Self::PeerFailed(..) => !it.is_starting(),
            Self::NoFile(_) | Self::NoPort(_) | Self::Discarded => false,
        }
    }

    /// Writes into a recording why it failed, if it did.
    fn note_in(&self, it: &mut Recording) {
        match self {
            Self::DiskFailed(Fault { kind, detail }, _) => {
                it.fail_for(reason_of(*kind), Some(cause_of_fault(*kind)), detail.clone());
            }
            Self::PeerFailed(reason, detail) => it.fail_for(*reason, None, detail.clone()),
            Self::Ended | Self::NoFile(_) | Self::NoPort(_) | Self::Discarded => {}
        }
    }

    /// What the log says of the end.
    fn log_line(&self, it: &Recording, had_begun: bool, elapsed_ms: u64) -> Option<(LogLevel, String)> {
        let id = &it.id;
        Some(match self {
            Self::Ended => (LogLevel::Info, format!("recording {id} ended: {elapsed_ms} ms")),
            Self::DiskFailed(fault, _) => {
                (LogLevel::Error, format!("recording {id} failed: {}", fault.detail))
            }
            Self::PeerFailed(reason, detail) => {
                let detail = it.call.redacted(detail);
                if had_begun {
                    (LogLevel::Error, format!("recording {id} failed: {reason}: {detail}"))
                } else {
                    (LogLevel::Warn, format!("no recording: {reason}: {detail}"))
                }
            }
            Self::NoFile(fault) => (LogLevel::Warn, format!("no recording: {}", fault.detail)),
            Self::NoPort(_) | Self::Discarded => return None,
        })
    }

    /// The answer to a `record.start` that still waits.
    fn error(&self) -> AgentError {
        match self {
            Self::Ended | Self::Discarded => {
                AgentError::new(Reason::InvalidState).with_message("it was stopped before it had begun")
            }
            Self::DiskFailed(fault, _) => AgentError::new(reason_of(fault.kind))
                .because(cause_of_fault(fault.kind))
                .with_detail(fault.detail.clone()),
            Self::PeerFailed(reason, detail) => AgentError::new(*reason).with_detail(detail.clone()),
            Self::NoFile(fault) => error_of_fault(fault.kind).with_detail(fault.detail.clone()),
            Self::NoPort(detail) => AgentError::new(Reason::NotConfigured)
                .with_message("no RTP port can be bound")
                .with_detail(detail.clone())
                .with_advice(
                    "end what has the port, or change [rtp] port (0: any free one); [rtp] bind has to be an \
                     address of this machine",
                ),
        }
    }
}

impl Parts {
    /// Removes a recording: gives its audio back, closes its port, books its packets, and tells everybody.
    pub(in crate::agent) fn remove(&mut self, key: RecordingKey, mut outcome: Outcome, turn: &mut Turn<'_>) {
        if matches!(outcome, Outcome::DiskFailed(..)) {
            self.remember_sender(key, turn);
        }
        let with_itself = self.remaining_s();
        let Some(mut it) = self.recordings.remove(&key) else { return };
        let had_begun = outcome.had_begun(&it);
        self.let_go_of_file(&mut it, &mut outcome, turn);
        if !matches!(outcome, Outcome::NoPort(_) | Outcome::Discarded) {
            turn.actions.push(Action::CloseRtp(key));
        }
        self.past.add(&it.final_counts());
        outcome.note_in(&mut it);
        it.phase.end();
        let has_failed = !matches!(outcome, Outcome::Ended);
        let status = it.status(if has_failed { self.remaining_s() } else { with_itself }, turn.now.mono);
        let line = outcome.log_line(&it, had_begun, status.elapsed_ms);
        turn.actions.extend(line.map(|(level, text)| Action::Log(level, text)));
        if let Some(reply) = it.waiting.take() {
            reply.err(&outcome.error(), turn.actions);
        }
        if had_begun {
            self.stats.recordings_failed += u64::from(has_failed);
            self.remember(status.clone());
            let event =
                if has_failed { Event::RecordingFailed(status) } else { Event::RecordingEnded(status) };
            turn.emit(&event);
        }
        if matches!(outcome, Outcome::DiskFailed(..) | Outcome::NoFile(_)) {
            self.disk.scan(turn);
        }
        if it.goes_to_file() {
            self.finish_eject(turn);
        }
    }

    /// What a file recording leaves behind: audio that nobody writes any more, and files to be finished later.
    fn let_go_of_file(&mut self, it: &mut Recording, outcome: &mut Outcome, turn: &mut Turn<'_>) {
        let Some(to_file) = it.destination.as_file_mut() else { return };
        match outcome {
            Outcome::Ended => {
                self.pending_finalisations.keep_trying(to_file.take_finalisations(), turn.now.mono);
            }
            Outcome::DiskFailed(_, pieces) => {
                to_file.abandon(std::mem::take(pieces), &mut it.stream, turn.pool);
                // The last one is not cut: what its disk holds beyond the last acknowledgement stands nowhere else.
                let mut finalisations = to_file.take_finalisations();
                finalisations.pop();
                self.pending_finalisations.keep_trying(finalisations, turn.now.mono);
                turn.actions.push(Action::Job(Job::Abandon(to_file.file())));
            }
            Outcome::NoFile(_) => to_file.abandon(Vec::new(), &mut it.stream, turn.pool),
            Outcome::PeerFailed(..) | Outcome::NoPort(_) | Outcome::Discarded => {}
        }
    }

    fn remember(&mut self, status: RecordingStatus) {
        self.ended.truncate(MAX_ENDED - 1);
        self.ended.push_front(status);
    }
}

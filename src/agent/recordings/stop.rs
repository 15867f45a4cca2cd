//! How a recording ends: stopped, with its disk lost, or with the process; and which reason is told.

use super::Agent;
use super::io::{Action, RecordingKey};
use super::medium::cause_of_fault;
use super::route::Route;
use crate::api::ending::{EndReason, Order};
use crate::api::event::Event;
use crate::api::reason::{AgentError, Reason};
use crate::api::reply;
use crate::api::status::RecordingState;
use log::Level as LogLevel;
use media::time::Now;
use std::time::Duration;
use store::jobs::{Fault, FaultKind, Job, Piece};

/// At the end of the process storage has so long to finish.
const SHUTDOWN_AFTER: Duration = Duration::from_secs(20);

impl Agent {
    #[inline(never)]
    pub(super) fn shut_down(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.shutdown.get_or_insert(now.mono + SHUTDOWN_AFTER);
        self.end_playbacks("shutdown", actions);
        for key in self.keys() {
            self.stop(key, Order::Shutdown, now, actions);
        }
    }

    /// Begins to end a recording; `recording.ended` follows when its file is closed.
    #[inline(never)]
    pub(super) fn stop(
        &mut self,
        key: RecordingKey,
        reason: impl Into<EndReason>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(it) = self.recordings.get_mut(&key).filter(|it| it.is_live()) else { return };
        it.settle(now.mono, &mut self.pool);
        it.state = RecordingState::Stopping;
        let reason = reason.into();
        it.end_for(reason);
        it.stopped = Some(now.mono);
        self.remember_sender(key);
        let Some(it) = self.recordings.get_mut(&key) else { return };
        match &mut it.route {
            Route::Local(local) => {
                if let Some(since) = it.paused {
                    local.note_pause(now.mono.since(since));
                }
                local.finish(reason.as_str(), now, &mut self.pool);
                actions.push(Action::CloseRtp(key));
                self.pump(key, now, actions);
            }
            Route::Server(_) => {
                self.uplink(key, now, actions, |client, now, out| client.stop(reason.as_str(), now, out));
            }
            Route::SipInfo(_) => self.stop_sip_info(key, now, actions),
        }
    }

    /// Ends a recording whose disk is gone.
    #[inline(never)]
    pub(super) fn fail(
        &mut self,
        key: RecordingKey,
        fault: Fault,
        pieces: Vec<Piece>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.remember_sender(key);
        let Some(mut it) = self.recordings.remove(&key) else { return };
        if let Some(local) = it.route.local_mut() {
            local.abandon(pieces, &mut self.pool);
            // The last one is not cut: what its disk holds beyond the last acknowledgement stands nowhere else.
            let mut mends = local.take_mends();
            mends.pop();
            self.strays.keep(mends);
            actions.push(Action::Job(Job::Abandon(local.file())));
        }
        it.state = RecordingState::Ended;
        let Fault { kind, detail } = fault;
        let reason = reason_of(kind);
        it.fail_for(reason, Some(cause_of_fault(kind)), detail.clone());
        self.past.add(&it.final_counts());
        self.stats.recordings_failed += 1;
        actions.push(Action::CloseRtp(key));
        actions.push(Action::Log(LogLevel::Error, format!("recording {} failed: {detail}", it.id)));
        let status = it.status(self.remaining_s(), self.clock);
        self.remember(status.clone());
        if let Some((client, id)) = it.waiting.take() {
            let error = AgentError::new(reason).because(cause_of_fault(kind)).with_detail(detail);
            actions.push(Action::Reply(client, reply::agent_error(&id, &error)));
        }
        self.tell(&Event::RecordingFailed(status), actions);
        self.scan(now, actions);
        self.finish_eject(now, actions);
    }
}

/// Why a recording under way failed: a disk that is gone has been pulled.
pub(super) fn reason_of(kind: FaultKind) -> Reason {
    match kind {
        FaultKind::NoStorage | FaultKind::Pulled | FaultKind::Io => Reason::StorageIo,
        other => reason_at_start(other),
    }
}

pub(super) fn reason_at_start(kind: FaultKind) -> Reason {
    match kind {
        FaultKind::NoStorage | FaultKind::Pulled => Reason::NoStorage,
        FaultKind::Full | FaultKind::TooLarge => Reason::StorageFull,
        FaultKind::ReadOnly => Reason::StorageReadOnly,
        FaultKind::Denied | FaultKind::OffDisk => Reason::PermissionDenied,
        FaultKind::Io | FaultKind::NotFolder => Reason::StorageIo,
    }
}

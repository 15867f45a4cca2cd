//! The consequences of an event of a recording, above all of its end: replies, events, log and counts.
//!
//! Owns: log, reply and reason of the end, and the books. Never: when it is due; who ends a recording says
//! how.

use crate::agent::disk::faults::{cause_of_fault, error_of_fault, reason_of};
use crate::agent::recordings::recording::Recording;
use crate::api::error::AgentError;
use crate::api::reason::Reason;
use crate::api::status::Stats;
use log::Level as LogLevel;
use media::counts::{Counts, DropCause};
use std::time::Duration;
use store::jobs::{Fault, Piece};

/// The consequence for others of an event of a recording.
#[derive(Debug)]
#[must_use]
pub(in crate::agent) enum Then {
    Nothing,
    /// Storage gets the due job.
    Write,
    /// The recording leaves in this way.
    Remove(Outcome),
    /// The server failed it: it goes on at the phone, or ends.
    ServerFailed(Reason, String),
    /// Its server is gone, and it can't wait much longer: it goes on at the phone if that is possible.
    TryPhone(String),
    /// Storage failed a job of it, and gave back the audio.
    StorageFailed(Fault, Vec<Piece>),
    /// It goes on in memory until there is a disk.
    AwaitDisk,
    /// The disks may have changed.
    Look,
}

/// A recording that was removed.
#[derive(Clone, Copy, Debug)]
pub(in crate::agent) struct Removed {
    pub(in crate::agent) disk_failed: bool,
    pub(in crate::agent) went_to_file: bool,
}

/// The way in which a recording leaves the agent.
#[derive(Debug)]
pub(in crate::agent) enum Outcome {
    /// It ended by request, or with its destination; all of its audio is kept.
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
    pub(super) fn had_begun(&self, it: &Recording) -> bool {
        match self {
            Self::Ended | Self::DiskFailed(..) => true,
            Self::PeerFailed(..) => !it.is_starting(),
            Self::NoFile(_) | Self::NoPort(_) | Self::Discarded => false,
        }
    }

    /// Writes into a recording why it failed, if it did.
    pub(super) fn note_in(&self, it: &mut Recording) {
        match self {
            Self::DiskFailed(Fault { kind, detail }, _) => {
                it.fail_for(reason_of(*kind), Some(cause_of_fault(*kind)), detail.clone());
            }
            Self::PeerFailed(reason, detail) => it.fail_for(*reason, None, detail.clone()),
            Self::Ended | Self::NoFile(_) | Self::NoPort(_) | Self::Discarded => {}
        }
    }

    /// The line of the log about the end.
    pub(super) fn log_line(
        &self,
        it: &Recording,
        had_begun: bool,
        elapsed_ms: u64,
    ) -> Option<(LogLevel, String)> {
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
    pub(super) fn error(&self) -> AgentError {
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

/// The counters over all recordings, including those that have ended.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Of those that have ended.
    pub(super) past: Counts,
    pub(super) octets: u64,
    pub(super) paused_packets: u64,
    pub(super) dropped_by_sockets: u64,
    pub(super) written_octets: u64,
    pub(super) longest_write: Duration,
    pub(super) started: u64,
    pub(super) failed: u64,
}

impl Books {
    /// Writes the counters, including those of running recordings.
    pub(super) fn count_in<'a>(&self, live: impl Iterator<Item = &'a Recording>, stats: &mut Stats) {
        let mut counts = self.past;
        let mut waiting = 0;
        for it in live {
            counts.add(it.stream.counts());
            waiting += it.waiting_packets();
        }
        stats.bytes = self.octets;
        stats.written_bytes = self.written_octets;
        stats.longest_write_ms = u64::try_from(self.longest_write.as_millis()).unwrap_or(u64::MAX);
        stats.recordings_started = self.started;
        stats.recordings_failed = self.failed;
        stats.packets = counts.received + self.paused_packets + counts.strangers + waiting;
        stats.lost = counts.lost;
        stats.late = counts.late;
        stats.duplicate = counts.duplicate;
        stats.odd_padding = counts.odd_padding;
        stats.drops.socket = self.dropped_by_sockets;
        stats.drops.paused = self.paused_packets;
        stats.drops.source = counts.strangers;
        stats.drops.not_rtp = counts.dropped_for(DropCause::NotRtp);
        stats.drops.rtcp = counts.dropped_for(DropCause::Rtcp);
        stats.drops.unconfirmed = counts.dropped_for(DropCause::Unconfirmed);
        stats.drops.ahead = counts.dropped_for(DropCause::Ahead);
        stats.drops.oversize = counts.dropped_for(DropCause::Oversize);
        stats.drops.payload_type = counts.dropped_for(DropCause::PayloadType);
        stats.drops.comfort_noise = counts.dropped_for(DropCause::ComfortNoise);
        stats.drops.empty = counts.dropped_for(DropCause::Empty);
        stats.drops.ssrc = counts.dropped_for(DropCause::Ssrc);
        stats.drops.overlap = counts.dropped_for(DropCause::Overlap);
        stats.drops.buffer_full = counts.dropped_for(DropCause::BufferFull);
        stats.drops.uplink = counts.dropped_for(DropCause::Uplink);
        stats.drops.handshake = counts.dropped_for(DropCause::Handshake);
        stats.drops.encrypted = counts.dropped_for(DropCause::Encrypted);
    }
}

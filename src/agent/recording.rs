//! One recording: its state, its books, its status.
//!
//! Owns: what is the same for every mode. Never: files or sockets; `local` turns its audio into jobs.

use super::local::Local;
use super::resume::Lost;
use crate::api::reply::RequestId;
use crate::api::status::{Mode, Packets, RecordStarted, RecordingState, RecordingStatus, RtpAddress};
use crate::blocks::BlockPool;
use crate::call::Call;
use crate::jobs::Job;
use crate::rtp::codec::Codec;
use crate::rtp::counts::{Counts, DropCause, Verdict};
use crate::rtp::packet::Packet;
use crate::rtp::timeline::octets_to_ms;
use crate::time::{Mono, Now};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::io::ClientId;

/// Nothing received for so long is told, and another sender may take over.
pub(super) const NO_MEDIA_AFTER: Duration = Duration::from_secs(5);

/// `record.start` is answered after this at the latest, with the state `starting`.
pub(super) const START_ANSWER_AFTER: Duration = Duration::from_secs(2);

/// A disk that works on one job for longer is told to be stalled.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(2);

/// Two changes of codec within this time are two senders that compete.
const CODEC_CONTEST_SPAN: Duration = Duration::from_secs(1);

/// A competing sender takes over when the other has been silent for this long.
const CODEC_CONTEST_SILENCE: Duration = Duration::from_millis(200);

/// A recording that has not ended.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) id: String,
    pub(super) mode: Mode,
    pub(super) codec: Codec,
    pub(super) call: Call,
    pub(super) local: Local,
    pub(super) counts: Counts,
    pub(super) state: RecordingState,
    pub(super) rtp: Option<SocketAddr>,
    /// Who waits for the answer to `record.start`, and since when.
    pub(super) waiting: Option<(ClientId, RequestId)>,
    /// Creates the first file, as soon as the RTP port is bound.
    pub(super) open: Option<Job>,
    pub(super) started: Mono,
    pub(super) paused: Option<Mono>,
    pub(super) progress_at: Mono,
    /// The next packet, or the start, counts from here for `no_media`.
    pub(super) media_at: Mono,
    pub(super) no_media_told: bool,
    pub(super) stalled_told: bool,
    pub(super) loss_told: bool,
    /// Datagrams that the system dropped before we could read them.
    pub(super) overflowed: u64,
    pub(super) end_reason: Option<&'static str>,
    /// Since its disk is gone, until another has proved to take it.
    pub(super) lost: Option<Lost>,
    /// Its disk went while storage had its audio in hands.
    pub(super) pulled: bool,
    source: Option<IpAddr>,
    codec_changed: Option<Mono>,
}

impl Recording {
    pub(super) fn new(id: String, mode: Mode, codec: Codec, call: Call, local: Local, now: Now) -> Self {
        Self {
            id,
            mode,
            codec,
            call,
            local,
            counts: Counts::default(),
            state: RecordingState::Starting,
            rtp: None,
            waiting: None,
            open: None,
            started: now.mono,
            paused: None,
            progress_at: now.mono + Duration::from_secs(1),
            media_at: now.mono,
            no_media_told: false,
            stalled_told: false,
            loss_told: false,
            overflowed: 0,
            end_reason: None,
            lost: None,
            pulled: false,
            source: None,
            codec_changed: None,
        }
    }

    /// Whether packets are wanted: not while paused or ending.
    pub(super) fn takes_audio(&self) -> bool {
        self.paused.is_none() && matches!(self.state, RecordingState::Starting | RecordingState::Recording)
    }

    /// Whether pause, resume and stop are possible.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.state, RecordingState::Stopping | RecordingState::Ended)
    }

    /// Takes one datagram and books it.
    pub(super) fn datagram(
        &mut self,
        octets: &[u8],
        truncated: bool,
        source: IpAddr,
        arrival: Mono,
        pool: &mut BlockPool,
    ) -> Verdict {
        let verdict = self.judge(octets, truncated, source, arrival, pool);
        self.counts.book(verdict);
        self.counts.lost = self.local.lost();
        verdict
    }

    fn judge(
        &mut self,
        octets: &[u8],
        truncated: bool,
        source: IpAddr,
        arrival: Mono,
        pool: &mut BlockPool,
    ) -> Verdict {
        if truncated {
            return Verdict::Dropped(DropCause::Oversize);
        }
        let Ok(packet) = Packet::parse(octets) else {
            return Verdict::Dropped(DropCause::NotRtp);
        };
        // Whoever sends the first packet of the codec sends the call, until nothing has come for a while.
        if self.source.is_some_and(|known| known != source) && arrival.since(self.media_at) < NO_MEDIA_AFTER {
            return Verdict::Dropped(DropCause::Source);
        }
        if let Some(codec) = Codec::from_payload_type(packet.payload_type).filter(|it| *it != self.codec) {
            if !self.follows_codec_change(arrival) {
                return Verdict::Dropped(DropCause::PayloadType);
            }
            self.codec = codec;
            self.local.switch_codec(codec, pool);
        }
        let verdict = self.local.push(&packet, arrival, pool);
        if packet.payload_type == self.codec.payload_type() {
            self.source = Some(source);
            self.media_at = arrival;
            self.no_media_told = false;
        }
        verdict
    }

    /// Whether a packet of another codec means that the sender changed to it, and not that two senders
    /// compete: then the one that came last stays until it is silent.
    fn follows_codec_change(&mut self, arrival: Mono) -> bool {
        let contest = self.codec_changed.is_some_and(|at| arrival.since(at) < CODEC_CONTEST_SPAN);
        self.codec_changed = Some(arrival);
        !contest || arrival.since(self.media_at) >= CODEC_CONTEST_SILENCE
    }

    /// Whether audio was lost on our side.
    pub(super) fn is_degraded(&self) -> bool {
        self.overflowed > 0 || self.local.overrun_octets() > 0
    }

    pub(super) fn status(&self, remaining_s: Option<u64>) -> RecordingStatus {
        RecordingStatus {
            recording: self.id.clone(),
            mode: self.mode,
            state: self.state,
            elapsed_ms: octets_to_ms(self.local.octets()),
            bytes: self.local.octets(),
            file: self.local.file_name().map(Into::into),
            segment: self.local.segment(),
            packets: Packets {
                received: self.counts.received,
                lost: self.counts.lost,
                late: self.counts.late,
                duplicate: self.counts.duplicate,
                dropped: self.counts.dropped(),
            },
            buffered_ms: octets_to_ms(self.local.buffered_octets()),
            remaining_s,
            level_dbfs: self.local.level_dbfs(),
            degraded: self.is_degraded(),
            end_reason: self.end_reason.map(Into::into),
            confirmed: None,
        }
    }

    pub(super) fn start_answer(&self) -> RecordStarted {
        RecordStarted {
            recording: self.id.clone(),
            state: self.state,
            rtp: self.rtp.map(|rtp| RtpAddress { addr: rtp.ip(), port: rtp.port() }),
            file: self.local.file_name().map(Into::into),
            confirmed: None,
        }
    }
}

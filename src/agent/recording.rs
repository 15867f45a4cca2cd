//! One recording: its state, its books, its status.
//!
//! Owns: what is the same for every mode. Never: files or sockets; the route takes its audio.

use super::local::Local;
use super::resume::Lost;
use super::route::Route;
use crate::api::reply::RequestId;
use crate::api::status::{Mode, Packets, RecordStarted, RecordingState, RecordingStatus, RtpAddress};
use crate::blocks::BlockPool;
use crate::call::Call;
use crate::jobs::Job;
use crate::rtp::codec::Codec;
use crate::rtp::codec_change::CodecChange;
use crate::rtp::counts::{Counts, DropCause, Verdict};
use crate::rtp::packet::{Packet, PacketError, has_odd_padding};
use crate::rtp::timeline::octets_to_ms;
use crate::time::{Mono, Now};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::io::ClientId;

/// Nothing received for so long is told, and another sender may take over.
pub(super) const NO_MEDIA_AFTER: Duration = Duration::from_secs(5);

/// `record.start` is answered after this at the latest, with the state `starting`.
pub(super) const START_ANSWER_AFTER: Duration = Duration::from_secs(2);

/// A disk that works on one job for longer is told to be stalled.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(2);

/// A recording that has not ended.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) id: String,
    pub(super) mode: Mode,
    pub(super) codec: Codec,
    pub(super) call: Call,
    pub(super) route: Route,
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
    pub(super) end_reason: Option<Cow<'static, str>>,
    /// Since its disk is gone, until another has proved to take it.
    pub(super) lost: Option<Lost>,
    /// Its disk went while storage had its audio in hands.
    pub(super) pulled: bool,
    /// `recording.started` was sent: a file that comes later is another segment.
    pub(super) started_told: bool,
    /// Octets and lost packets of the upload that came before the present file.
    pub(super) octets_before: u64,
    pub(super) lost_before: u64,
    source: Option<IpAddr>,
    codec_change: CodecChange,
}

impl Recording {
    pub(super) fn new(id: String, mode: Mode, codec: Codec, call: Call, route: Route, now: Now) -> Self {
        Self {
            id,
            mode,
            codec,
            call,
            route,
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
            started_told: false,
            octets_before: 0,
            lost_before: 0,
            source: None,
            codec_change: CodecChange::default(),
        }
    }

    /// Whether packets are wanted: not while paused or ending, nor before the server has agreed.
    pub(super) fn takes_audio(&self) -> bool {
        let wanted = match (&self.route, self.state) {
            (Route::SipInfo(_), _) => false,
            (Route::Local(_), RecordingState::Starting) | (_, RecordingState::Recording) => true,
            _ => false,
        };
        wanted && self.paused.is_none()
    }

    /// Whether it is a recording to the disk.
    pub(super) fn is_local(&self) -> bool {
        self.route.local().is_some()
    }

    /// Whether its disk is gone and another one is waited for.
    pub(super) fn has_lost_disk(&self) -> bool {
        self.route.local().is_some_and(Local::is_lost)
    }

    /// Octets recorded that are not on the disk yet.
    pub(super) fn buffered_octets(&self) -> u64 {
        self.route.local().map_or(0, Local::buffered_octets)
    }

    /// Octets recorded that have not been given to storage yet.
    pub(super) fn waiting_octets(&self) -> u64 {
        self.route.local().map_or(0, Local::waiting_octets)
    }

    fn octets(&self) -> u64 {
        self.octets_before + self.route.octets()
    }

    /// The present file, if there is one.
    pub(super) fn file_name(&self) -> Option<&str> {
        self.route.local().and_then(Local::file_name)
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
        self.route.restore_regained(&mut self.counts);
        self.counts.lost = self.lost_before + self.route.lost();
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
        let packet = match Packet::parse(octets) {
            Ok(packet) => packet,
            Err(PacketError::Rtcp) => return Verdict::Dropped(DropCause::Rtcp),
            Err(_) => return Verdict::Dropped(DropCause::NotRtp),
        };
        self.counts.odd_padding += u64::from(has_odd_padding(octets));
        // Whoever sends the first packet of the codec sends the call, until nothing has come for a while.
        if self.source.is_some_and(|known| known != source) && arrival.since(self.media_at) < NO_MEDIA_AFTER {
            return Verdict::Dropped(DropCause::Source);
        }
        if let Some(codec) = Codec::from_payload_type(packet.payload_type).filter(|it| *it != self.codec) {
            if !self.codec_change.follow(&packet, arrival, self.media_at) {
                return Verdict::Dropped(DropCause::PayloadType);
            }
            self.switch_codec(codec, pool);
        }
        let verdict = self.route.push(&packet, arrival, pool);
        if packet.payload_type == self.codec.payload_type() {
            self.source = Some(source);
            self.media_at = arrival;
            self.no_media_told = false;
            self.codec_change.stay();
        }
        verdict
    }

    #[inline(never)]
    fn switch_codec(&mut self, codec: Codec, pool: &mut BlockPool) {
        self.codec = codec;
        self.route.switch_codec(codec, pool);
        let Self { codec_change, route, counts, .. } = self;
        codec_change.take_held(|early, at| {
            if route.push(early, at, pool) == Verdict::Stored {
                counts.restore(1, DropCause::PayloadType);
            }
        });
    }

    /// Whether audio was lost on our side.
    pub(super) fn is_degraded(&self) -> bool {
        let overrun = self.route.local().is_some_and(|local| local.overrun_octets() > 0);
        self.overflowed > 0 || overrun || self.counts.dropped_for(DropCause::Uplink) > 0
    }

    pub(super) fn status(&self, remaining_s: Option<u64>) -> RecordingStatus {
        RecordingStatus {
            recording: self.id.clone(),
            mode: self.mode,
            state: self.state,
            elapsed_ms: octets_to_ms(self.octets()),
            bytes: if self.confirmed().is_some() { 0 } else { self.octets() },
            file: self.file_name().map(Into::into),
            segment: self.route.local().map_or(1, Local::segment),
            packets: Packets {
                received: self.counts.received,
                lost: self.counts.lost,
                late: self.counts.late,
                duplicate: self.counts.duplicate,
                dropped: self.counts.dropped(),
            },
            buffered_ms: octets_to_ms(self.buffered_octets()),
            remaining_s: remaining_s.filter(|_| self.is_local()),
            level_dbfs: self.route.level_dbfs(),
            degraded: self.is_degraded(),
            end_reason: self.end_reason.clone().map(Cow::into_owned),
            confirmed: self.confirmed(),
        }
    }

    /// A PBX only says that it took the request, never that it records.
    fn confirmed(&self) -> Option<bool> {
        matches!(self.route, Route::SipInfo(_)).then_some(false)
    }

    pub(super) fn start_answer(&self) -> RecordStarted {
        RecordStarted {
            recording: self.id.clone(),
            state: self.state,
            rtp: self.rtp.map(|rtp| RtpAddress { addr: rtp.ip(), port: rtp.port() }),
            file: self.file_name().map(Into::into),
            confirmed: self.confirmed(),
        }
    }
}

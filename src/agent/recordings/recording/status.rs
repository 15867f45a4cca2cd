//! What is told of a recording: its status, how it ended, and how much of it is kept.

use super::{Recording, STALLED_AFTER, Why};
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::api::ending::{EndReason, Ending, Order, Outcome, TextKey};
use crate::api::status::{Media, Packets, RecordStarted, RecordingState, RecordingStatus, RtpAddress};
use media::counts::DropCause;
use media::level::Level;
use media::probe;
use media::time::Mono;
use media::timeline::octets_to_ms;
use std::time::Duration;

/// A level is of the last second, as long as no more than this has passed since.
const LEVEL_IS_OLD: Duration = Duration::from_secs(2);

/// Media that is missing for longer becomes silence when it is back; the recorded time goes on meanwhile.
const MISSING_AFTER: Duration = Duration::from_millis(500);

impl Recording {
    /// What comes in; `None` where nothing is to come.
    fn media(&self) -> Option<Media> {
        if matches!(self.destination, Destination::Pbx(_)) {
            return None;
        }
        Some(match self.stream.probe().media() {
            probe::Media::Flowing => Media::Flowing,
            probe::Media::None => Media::None,
            probe::Media::Encrypted => Media::Encrypted,
            probe::Media::WrongPayloadType => Media::WrongPayloadType,
        })
    }

    /// Silence that is due for media that is missing at `now`: it stands in the file once media is back.
    fn missing_ms(&self, now: Mono) -> u64 {
        let missing =
            self.stream.probe().missing(now).filter(|missing| self.takes_audio() && *missing > MISSING_AFTER);
        let ms = missing.map_or(0, |missing| u64::try_from(missing.as_millis()).unwrap_or(u64::MAX));
        ms.saturating_sub(octets_to_ms(self.stream.last_octets() as u64))
    }

    /// How loud the newest audio is.
    fn level_dbfs(&self) -> Option<f32> {
        match &self.destination {
            Destination::File(to_file) => to_file.level_dbfs(),
            Destination::Server(_) | Destination::Pbx(_) => self.stream.relayed_level().map(Level::dbfs),
        }
    }

    /// Whether audio was lost on our side.
    pub(in crate::agent) fn is_degraded(&self) -> bool {
        let overrun = self.stream.buffer().overrun_octets() > 0;
        self.overflowed > 0 || overrun || self.stream.counts().dropped_for(DropCause::Uplink) > 0
    }

    /// Whether its disk stands still, or is gone, so that audio waits in memory.
    fn is_stalled(&self, now: Mono) -> bool {
        let busy_since = self.destination.as_file().and_then(ToFile::busy_since);
        self.has_lost_disk() || busy_since.is_some_and(|since| now >= since + STALLED_AFTER)
    }

    /// How it ended; `None` as long as it has not.
    fn ending(&self) -> Option<Ending> {
        let Why { reason, cause, detail } =
            self.why.as_ref().filter(|_| self.state() == RecordingState::Ended)?;
        let outcome = self.outcome(*reason);
        let text_key = match reason {
            EndReason::Failure(reason) if self.confirmed().is_some() => TextKey::of_pbx(*reason),
            EndReason::Failure(reason) => TextKey::of(*reason, *cause),
            EndReason::Order(Order::Shutdown) => Some(TextKey::Shutdown),
            EndReason::Order(Order::StoppedByServer) => Some(TextKey::StoppedByServer),
            // Who stops it before it has begun wants nothing.
            EndReason::Order(_) if outcome == Outcome::Complete || !self.phase.has_begun() => None,
            // The PBX has the audio: what of it is missing is not known here.
            EndReason::Order(_) if self.confirmed().is_some() => None,
            EndReason::Order(_) => Some(self.what_is_missing()),
        };
        Some(Ending { outcome, reason: *reason, cause: *cause, detail: detail.clone(), text_key })
    }

    /// How much of the audio that came, or was still to come, is kept.
    fn outcome(&self, reason: EndReason) -> Outcome {
        let kept = match &self.destination {
            Destination::Pbx(sip) => {
                return if sip.recorded_ms() > 0 { Outcome::Complete } else { Outcome::Nothing };
            }
            // What stands for encrypted audio is no audio.
            Destination::File(to_file) => {
                self.stream.counts().stored > 0 && (self.kept_at_server || to_file.kept_octets() > 0)
            }
            Destination::Server(_) => self.stream.counts().stored > 0,
        };
        let unheard = self.unrecordable || self.stream.counts().dropped_for(DropCause::Encrypted) > 0;
        match kept {
            false => Outcome::Nothing,
            true if reason.cuts_off() || self.is_degraded() || unheard => Outcome::Partial,
            true => Outcome::Complete,
        }
    }

    /// Why a recording that somebody ended has not all, or nothing.
    fn what_is_missing(&self) -> TextKey {
        if self.stream.counts().dropped_for(DropCause::Encrypted) > 0 {
            TextKey::MediaEncrypted
        } else if self.unrecordable {
            TextKey::MediaWrongPayloadType
        } else if self.is_degraded() {
            TextKey::AudioLost
        } else {
            TextKey::NoMedia
        }
    }

    pub(in crate::agent) fn status(&self, remaining_s: Option<u64>, now: Mono) -> RecordingStatus {
        let duration = self.stopped.unwrap_or(now).since(self.started);
        let level_is_new = self.stream.probe().missing(now).is_some_and(|missing| missing < LEVEL_IS_OLD);
        RecordingStatus {
            recording: self.id.clone(),
            mode: self.mode,
            state: self.state(),
            call: self.call.clone(),
            codec: self.stream.codec().name().into(),
            ptime_ms: self.ptime_ms,
            payload_type: self
                .rtp
                .map(|_| self.dynamic_type().unwrap_or(self.stream.codec().payload_type().0)),
            rtp: self.rtp_address(),
            media: self.media(),
            started_at: self.started_at.rfc3339(),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            elapsed_ms: octets_to_ms(self.octets()) + self.missing_ms(now),
            bytes: if self.confirmed().is_some() { 0 } else { self.octets() },
            file: self.file_name().map(Into::into),
            segment: self.destination.as_file().map_or(1, ToFile::segment),
            packets: Packets {
                received: self.stream.counts().received,
                lost: self.stream.counts().lost,
                late: self.stream.counts().late,
                duplicate: self.stream.counts().duplicate,
                dropped: self.stream.counts().dropped(),
                strangers: self.stream.counts().strangers,
            },
            contested: self.stream.counts().strangers > 0,
            buffered_ms: octets_to_ms(self.buffered_octets()),
            stalled: self.is_stalled(now),
            remaining_s: remaining_s.filter(|_| self.goes_to_file()),
            level_dbfs: self.level_dbfs().filter(|_| level_is_new),
            degraded: self.is_degraded(),
            end_reason: self.why.as_ref().map(Why::in_short),
            ending: self.ending(),
            confirmed: self.confirmed(),
        }
    }

    /// A PBX only says that it took the request, never that it records.
    fn confirmed(&self) -> Option<bool> {
        matches!(self.destination, Destination::Pbx(_)).then_some(false)
    }

    fn rtp_address(&self) -> Option<RtpAddress> {
        self.rtp.map(|rtp| RtpAddress { addr: rtp.ip(), port: rtp.port() })
    }

    pub(in crate::agent) fn start_answer(&self) -> RecordStarted {
        RecordStarted {
            recording: self.id.clone(),
            state: self.state(),
            rtp: self.rtp_address(),
            file: self.file_name().map(Into::into),
            confirmed: self.confirmed(),
        }
    }
}

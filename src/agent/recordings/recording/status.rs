//! The status of a recording, its ending, and its outcome.

use super::{Recording, STALLED_AFTER, Why};
use crate::agent::recordings::recording::to_file::ToFile;
use crate::api::ending::{EndReason, Ending, Order, Outcome, TextKey};
use crate::api::status::{Media, Packets, RecordStarted, RecordingState, RecordingStatus, RtpAddress};
use media::counts::DropCause;
use media::probe;
use media::time::Mono;
use media::timeline::octets_to_ms;
use std::time::Duration;

/// A level is of the last second, as long as no more than this has passed since.
const LEVEL_IS_OLD: Duration = Duration::from_secs(2);

/// Media that is missing for longer becomes silence when it is back; the recorded time goes on meanwhile.
const MISSING_AFTER: Duration = Duration::from_millis(500);

/// The kind of incoming packets; `None` where none are expected.
fn media(it: &Recording) -> Option<Media> {
    if it.destination.as_pbx().is_some() {
        return None;
    }
    Some(match it.stream.probe().media() {
        probe::Media::Flowing => Media::Flowing,
        probe::Media::None => Media::None,
        probe::Media::Encrypted => Media::Encrypted,
        probe::Media::WrongPayloadType => Media::WrongPayloadType,
    })
}

/// Silence that is due for media that is missing at `now`: it stands in the file once media is back.
fn missing_ms(it: &Recording, now: Mono) -> u64 {
    let missing =
        it.stream.probe().missing(now).filter(|missing| it.takes_audio() && *missing > MISSING_AFTER);
    let ms = missing.map_or(0, |missing| u64::try_from(missing.as_millis()).unwrap_or(u64::MAX));
    ms.saturating_sub(octets_to_ms(it.stream.last_octets() as u64))
}

/// Whether audio was lost on our side.
pub(super) fn is_degraded(it: &Recording) -> bool {
    let overrun = it.stream.buffer().overrun_octets() > 0;
    it.overflowed > 0 || overrun || it.stream.counts().dropped_for(DropCause::Uplink) > 0
}

/// Whether its disk stands still, or is gone, so that audio waits in memory.
fn is_stalled(it: &Recording, now: Mono) -> bool {
    let busy_since = it.destination.as_file().and_then(ToFile::busy_since);
    it.has_lost_disk() || busy_since.is_some_and(|since| now >= since + STALLED_AFTER)
}

/// The ending; `None` as long as it has not ended.
fn ending(it: &Recording) -> Option<Ending> {
    let Why { reason, cause, detail } = it.why.as_ref().filter(|_| it.state() == RecordingState::Ended)?;
    let outcome = outcome(it, *reason);
    let text_key = match reason {
        EndReason::Failure(reason) if confirmed(it).is_some() => TextKey::of_pbx(*reason),
        EndReason::Failure(reason) => TextKey::of(*reason, *cause),
        EndReason::Order(Order::Shutdown) => Some(TextKey::Shutdown),
        EndReason::Order(Order::StoppedByServer) => Some(TextKey::StoppedByServer),
        // A stop before it has begun needs no text.
        EndReason::Order(_) if outcome == Outcome::Complete || !it.phase.has_begun() => None,
        // The PBX has the audio: whether some is missing is not known here.
        EndReason::Order(_) if confirmed(it).is_some() => None,
        EndReason::Order(_) => Some(missing_audio_text(it)),
    };
    Some(Ending { outcome, reason: *reason, cause: *cause, detail: detail.clone(), text_key })
}

/// The outcome: whether all, a part or nothing of the audio that came, or was still to come, is kept.
fn outcome(it: &Recording, reason: EndReason) -> Outcome {
    let unheard = it.unrecordable || it.stream.counts().dropped_for(DropCause::Encrypted) > 0;
    match it.destination.has_kept_audio(&it.stream, it.kept_at_server) {
        false => Outcome::Nothing,
        // The PBX has the audio: whether some is missing is not known here.
        true if confirmed(it).is_some() => Outcome::Complete,
        true if reason.cuts_off() || is_degraded(it) || unheard => Outcome::Partial,
        true => Outcome::Complete,
    }
}

/// The text for a recording that was ended by request and has lost audio, or all of it.
fn missing_audio_text(it: &Recording) -> TextKey {
    if it.stream.counts().dropped_for(DropCause::Encrypted) > 0 {
        TextKey::MediaEncrypted
    } else if it.unrecordable {
        TextKey::MediaWrongPayloadType
    } else if is_degraded(it) {
        TextKey::AudioLost
    } else {
        TextKey::NoMedia
    }
}

pub(super) fn status(it: &Recording, remaining_s: Option<u64>, now: Mono) -> RecordingStatus {
    let duration = it.stopped.unwrap_or(now).since(it.started);
    let level_is_new = it.stream.probe().missing(now).is_some_and(|missing| missing < LEVEL_IS_OLD);
    RecordingStatus {
        recording: it.id.clone(),
        mode: it.mode,
        state: it.state(),
        call: it.call.clone(),
        codec: it.stream.codec().name().into(),
        ptime_ms: it.ptime_ms,
        payload_type: it.rtp.map(|_| it.dynamic_type().unwrap_or(it.stream.codec().payload_type().0)),
        rtp: rtp_address(it),
        media: media(it),
        started_at: it.started_at.rfc3339(),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        elapsed_ms: octets_to_ms(it.octets()) + missing_ms(it, now),
        bytes: if confirmed(it).is_some() { 0 } else { it.octets() },
        file: it.file_name().map(Into::into),
        segment: it.destination.as_file().map_or(1, ToFile::segment),
        packets: Packets {
            received: it.stream.counts().received,
            lost: it.stream.counts().lost,
            late: it.stream.counts().late,
            duplicate: it.stream.counts().duplicate,
            dropped: it.stream.counts().dropped(),
            strangers: it.stream.counts().strangers,
        },
        contested: it.stream.counts().strangers > 0,
        buffered_ms: octets_to_ms(it.buffered_octets()),
        stalled: is_stalled(it, now),
        remaining_s: remaining_s.filter(|_| it.goes_to_file()),
        level_dbfs: it.destination.level_dbfs(&it.stream).filter(|_| level_is_new),
        degraded: is_degraded(it),
        end_reason: it.why.as_ref().map(Why::in_short),
        ending: ending(it),
        confirmed: confirmed(it),
    }
}

/// A PBX only says that it took the request, never that it records.
fn confirmed(it: &Recording) -> Option<bool> {
    it.destination.as_pbx().is_some().then_some(false)
}

fn rtp_address(it: &Recording) -> Option<RtpAddress> {
    it.rtp.map(|rtp| RtpAddress { addr: rtp.ip(), port: rtp.port() })
}

pub(super) fn start_answer(it: &Recording) -> RecordStarted {
    RecordStarted {
        recording: it.id.clone(),
        state: it.state(),
        rtp: rtp_address(it),
        file: it.file_name().map(Into::into),
        confirmed: confirmed(it),
    }
}

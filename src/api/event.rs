//! Events: messages of the agent that are no answers.
//!
//! Owns: their names and parameters. Never: the `seq`, which is each client's own ([`super::outbox`]).

use super::ending::TextKey;
use super::reason::{Cause, Reason};
use super::status::{PlaybackStatus, RecordingStatus, RtpAddress, StorageState, StorageStatus};
use recfile::call::Call;
use serde::Serialize;
use serde_json::json;

/// Name of the event that tells that others were dropped.
pub const EVENTS_LOST: &str = "events.lost";

/// The weight of an event for a client that reads slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The next one makes up for it: dropped first.
    Progress,
    /// Not to be dropped.
    Event,
}

/// The command of a SIP INFO to the PBX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SipRecord {
    /// Begin to record.
    On,
    /// End it.
    Off,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Audio is kept from now on.
    RecordingStarted(RecordingStatus),
    /// Each second.
    RecordingProgress(RecordingStatus),
    /// The recording goes on in another file.
    RecordingSegment(RecordingStatus),
    /// Audio is no longer kept.
    RecordingPaused(RecordingStatus),
    /// Audio is kept again.
    RecordingResumed(RecordingStatus),
    /// The disk does not keep up and audio was lost.
    RecordingStalled(RecordingStatus),
    /// The kind of packets on the RTP port has changed.
    RecordingMedia(RecordingStatus),
    /// Nothing was received for a while, or nothing that can be recorded.
    RecordingNoMedia {
        /// The status.
        status: RecordingStatus,
        /// Why, in one word, if that is known.
        detail: Option<&'static str>,
    },
    /// The file is closed and synced.
    RecordingEnded(RecordingStatus),
    /// The recording could not go on.
    RecordingFailed(RecordingStatus),
    /// A disk is there.
    StorageInserted(StorageStatus),
    /// The disk is gone.
    StorageRemoved(StorageStatus),
    /// Little room is left.
    StorageLow(StorageStatus),
    /// No room is left.
    StorageFull(StorageStatus),
    /// The state of the disk is another one, or it is another disk.
    StorageState(StateChange),
    /// Files that a power cut left unfinished were put right.
    StorageRecovered {
        /// The files, as listed.
        files: Vec<String>,
    },
    /// The server accepted a recording.
    UplinkConnected {
        /// Id of the recording.
        recording: String,
        /// Address and port of the server.
        server: String,
        /// The target of the audio.
        rtp: Option<RtpAddress>,
    },
    /// The connection of a recording broke; the recording goes on, and the server is looked for.
    UplinkDegraded {
        /// Id of the recording.
        recording: String,
        /// Why, in the system's words.
        detail: String,
        /// Audio that waits in memory, in milliseconds.
        waiting_ms: u64,
    },
    /// The server is back, and the recording goes on there.
    UplinkRestored {
        /// Id of the recording.
        recording: String,
        /// Audio that waits in memory, in milliseconds.
        waiting_ms: u64,
    },
    /// The server failed, or refused to go on.
    UplinkLost {
        /// Id of the recording.
        recording: String,
        /// The reason.
        reason: Reason,
        /// The system's own words.
        detail: Option<String>,
        /// The text to show; `None` if the recording's failure follows and has it.
        text_key: Option<TextKey>,
    },
    /// Each second.
    PlaybackProgress(PlaybackStatus),
    /// The end of the file, or stopped.
    PlaybackEnded(PlaybackStatus),
    /// The phone's SIP stack is to send an INFO.
    SipInfo {
        /// Id of the recording, for `sip.info_result`.
        recording: String,
        /// The call whose dialog it belongs to.
        call: Call,
        /// Value of the header field `Record`.
        record: SipRecord,
    },
}

/// A change of the disk's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StateChange {
    /// The state before.
    pub from: StorageState,
    /// The state now.
    pub to: StorageState,
    /// Why.
    pub cause: Cause,
    /// All of the present status.
    pub storage: StorageStatus,
}

impl Event {
    /// Every name, [`EVENTS_LOST`] included.
    pub const NAMES: [&'static str; 24] = [
        "recording.started",
        "recording.progress",
        "recording.segment",
        "recording.paused",
        "recording.resumed",
        "recording.stalled",
        "recording.media",
        "recording.no_media",
        "recording.ended",
        "recording.failed",
        "storage.inserted",
        "storage.removed",
        "storage.low",
        "storage.full",
        "storage.state",
        "storage.recovered",
        "uplink.connected",
        "uplink.degraded",
        "uplink.restored",
        "uplink.lost",
        "playback.progress",
        "playback.ended",
        "sip.info",
        EVENTS_LOST,
    ];

    /// Its name: the `method` of the notification.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RecordingStarted(_) => "recording.started",
            Self::RecordingProgress(_) => "recording.progress",
            Self::RecordingSegment(_) => "recording.segment",
            Self::RecordingPaused(_) => "recording.paused",
            Self::RecordingResumed(_) => "recording.resumed",
            Self::RecordingStalled(_) => "recording.stalled",
            Self::RecordingMedia(_) => "recording.media",
            Self::RecordingNoMedia { .. } => "recording.no_media",
            Self::RecordingEnded(_) => "recording.ended",
            Self::RecordingFailed(_) => "recording.failed",
            Self::StorageInserted(_) => "storage.inserted",
            Self::StorageRemoved(_) => "storage.removed",
            Self::StorageLow(_) => "storage.low",
            Self::StorageFull(_) => "storage.full",
            Self::StorageState(_) => "storage.state",
            Self::StorageRecovered { .. } => "storage.recovered",
            Self::UplinkConnected { .. } => "uplink.connected",
            Self::UplinkDegraded { .. } => "uplink.degraded",
            Self::UplinkRestored { .. } => "uplink.restored",
            Self::UplinkLost { .. } => "uplink.lost",
            Self::PlaybackProgress(_) => "playback.progress",
            Self::PlaybackEnded(_) => "playback.ended",
            Self::SipInfo { .. } => "sip.info",
        }
    }

    /// Its weight.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::RecordingProgress(_) | Self::PlaybackProgress(_) => Class::Progress,
            _ => Class::Event,
        }
    }

    /// Its parameters as a JSON object, without `seq`.
    #[must_use]
    pub fn params_json(&self) -> Vec<u8> {
        let json = match self {
            Self::RecordingStarted(status)
            | Self::RecordingProgress(status)
            | Self::RecordingSegment(status)
            | Self::RecordingPaused(status)
            | Self::RecordingResumed(status)
            | Self::RecordingStalled(status)
            | Self::RecordingMedia(status)
            | Self::RecordingEnded(status)
            | Self::RecordingFailed(status) => serde_json::to_vec(status),
            Self::RecordingNoMedia { status, detail } => {
                serde_json::to_vec(&NoMedia { status, detail: *detail })
            }
            Self::StorageInserted(status)
            | Self::StorageRemoved(status)
            | Self::StorageLow(status)
            | Self::StorageFull(status) => serde_json::to_vec(status),
            Self::StorageState(change) => serde_json::to_vec(change),
            Self::StorageRecovered { files } => serde_json::to_vec(&json!({ "files": files })),
            Self::UplinkConnected { recording, server, rtp } => {
                serde_json::to_vec(&json!({ "recording": recording, "server": server, "rtp": rtp }))
            }
            Self::UplinkDegraded { recording, detail, waiting_ms } => serde_json::to_vec(
                &json!({ "recording": recording, "detail": detail, "waiting_ms": waiting_ms }),
            ),
            Self::UplinkRestored { recording, waiting_ms } => {
                serde_json::to_vec(&json!({ "recording": recording, "waiting_ms": waiting_ms }))
            }
            Self::UplinkLost { recording, reason, detail, text_key } => serde_json::to_vec(&json!({
                "recording": recording, "reason": reason, "detail": detail, "text_key": text_key,
            })),
            Self::PlaybackProgress(status) | Self::PlaybackEnded(status) => serde_json::to_vec(status),
            Self::SipInfo { recording, call, record } => serde_json::to_vec(
                &json!({ "recording": recording, "call": call, "headers": { "Record": record } }),
            ),
        };
        // Only a map with keys that are no strings could fail, and there is none.
        json.unwrap_or_else(|_| b"{}".to_vec())
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "RecordingNoMedia"))]
pub(crate) struct NoMedia<'s> {
    #[serde(flatten)]
    status: &'s RecordingStatus,
    detail: Option<&'static str>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::ending::{EndReason, Ending, Order, Outcome};
    use super::super::status::PlaybackState;
    use super::super::status::tests::example;
    use super::*;
    use serde_json::Value;

    fn ended(reason: EndReason) -> RecordingStatus {
        let ending = Ending { outcome: Outcome::Partial, reason, cause: None, detail: None, text_key: None };
        RecordingStatus { ending: Some(ending), ..example() }
    }

    pub(crate) fn one_of_each() -> Vec<Event> {
        let storage = StorageStatus { present: true, state: StorageState::Low, ..StorageStatus::default() };
        let playback = PlaybackStatus {
            playback: "p1".to_owned(),
            file: "a.wav".to_owned(),
            state: PlaybackState::Playing,
            position_ms: 1000,
            duration_ms: 2000,
            end_reason: None,
            text_key: None,
        };
        vec![
            Event::RecordingStarted(example()),
            Event::RecordingProgress(example()),
            Event::RecordingSegment(example()),
            Event::RecordingPaused(example()),
            Event::RecordingResumed(example()),
            Event::RecordingStalled(example()),
            Event::RecordingMedia(example()),
            Event::RecordingNoMedia { status: example(), detail: Some("encrypted") },
            Event::RecordingEnded(ended(Order::Stopped.into())),
            Event::RecordingFailed(ended(Reason::StorageIo.into())),
            Event::StorageInserted(storage.clone()),
            Event::StorageRemoved(storage.clone()),
            Event::StorageLow(storage.clone()),
            Event::StorageFull(storage.clone()),
            Event::StorageState(StateChange {
                from: StorageState::Ok,
                to: StorageState::Low,
                cause: Cause::Room,
                storage,
            }),
            Event::StorageRecovered { files: vec!["a.wav".to_owned()] },
            Event::UplinkConnected {
                recording: "r1".to_owned(),
                server: "192.0.2.1:9099".to_owned(),
                rtp: None,
            },
            Event::UplinkDegraded {
                recording: "r1".to_owned(),
                detail: "connection reset".to_owned(),
                waiting_ms: 40,
            },
            Event::UplinkRestored { recording: "r1".to_owned(), waiting_ms: 5040 },
            Event::UplinkLost {
                recording: "r1".to_owned(),
                reason: Reason::UplinkLost,
                detail: None,
                text_key: Some(TextKey::GoesOnLocally),
            },
            Event::PlaybackProgress(playback.clone()),
            Event::PlaybackEnded(playback),
            Event::SipInfo { recording: "r1".to_owned(), call: Call::default(), record: SipRecord::On },
        ]
    }

    fn params(event: &Event) -> Value {
        serde_json::from_slice(&event.params_json()).unwrap()
    }

    #[test]
    fn every_event_has_a_listed_name_and_an_object_without_seq() {
        let names: Vec<_> = one_of_each().iter().map(Event::name).collect();
        assert_eq!(names, Event::NAMES[..23]);
        for event in one_of_each() {
            assert!(params(&event).is_object(), "{}", event.name());
            assert_eq!(params(&event).get("seq"), None);
            assert_eq!(event.class() == Class::Progress, event.name().ends_with(".progress"));
        }
    }

    #[test]
    fn a_failure_carries_the_status_and_the_reason() {
        let mut status = ended(Reason::ServerRefused.into());
        status.ending.as_mut().unwrap().detail = Some("busy".to_owned());
        let mut expected = serde_json::to_value(example()).unwrap();
        let ending = json!({
            "outcome": "partial", "reason": "server_refused", "cause": null, "detail": "busy", "text_key": null,
        });
        expected.as_object_mut().unwrap().append(&mut ending.as_object().unwrap().clone());
        assert_eq!(params(&Event::RecordingFailed(status.clone())), expected);
        let read: RecordingStatus = serde_json::from_value(expected).unwrap();
        assert_eq!(read, status, "and what is read is what was told");
    }

    #[test]
    fn sip_info_names_the_header_field() {
        let event = Event::SipInfo { recording: "r1".into(), call: Call::default(), record: SipRecord::Off };
        assert_eq!(params(&event)["headers"], json!({ "Record": "off" }));
    }
}

//! Results: the status of the agent, its disk, recordings and playbacks.
//!
//! Owns: the members and their names on the wire; they can be read back, for clients in this crate.
//! Never: computes any of it. Times in `_ms` are milliseconds, in `_s` seconds, `bytes` are octets.

use super::ending::{Ending, TextKey};
use super::reason::Cause;
use recfile::call::Call;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The destination of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// To the disk at the phone.
    Local,
    /// To the recording server.
    Server,
    /// The PBX records; it is asked by SIP INFO.
    SipInfo,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Local, Self::Server, Self::SipInfo];

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Server => "server",
            Self::SipInfo => "sip-info",
        }
    }
}

/// The state of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// The file is being made, or the server asked.
    Starting,
    /// Audio is kept.
    Recording,
    /// Audio is thrown away until it is resumed.
    Paused,
    /// Buffered audio is being written.
    Stopping,
    /// The file is closed and synced.
    Ended,
}

/// The kind of packets on the RTP port of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Media {
    /// Audio.
    Flowing,
    /// Nothing that could be recorded: not yet, or not for five seconds.
    None,
    /// Encrypted packets (SRTP): silence is recorded for them.
    Encrypted,
    /// Packets of a codec that can't be recorded.
    WrongPayloadType,
}

/// An IP address and UDP port for RTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RtpAddress {
    /// IPv4 or IPv6 address.
    pub addr: IpAddr,
    /// UDP port.
    pub port: u16,
}

/// Packets of a recording, by fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Packets {
    /// Taken as audio of this recording.
    pub received: u64,
    /// Missing in the sequence.
    pub lost: u64,
    /// Too late to be put in order.
    pub late: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Thrown away on our side.
    pub dropped: u64,
    /// Of others than the call's sender. Part of no other number.
    pub strangers: u64,
}

/// Status of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RecordingStatus {
    /// Its id.
    pub recording: String,
    /// Its destination.
    pub mode: Mode,
    /// Its state.
    pub state: RecordingState,
    /// The call.
    pub call: Call,
    /// Encoding name.
    pub codec: String,
    /// Packet time: the frame length of the file.
    pub ptime_ms: u32,
    /// RTP payload type of the audio; `None` with `sip-info`.
    pub payload_type: Option<u8>,
    /// The address to send the RTP to; `None` with `sip-info`.
    pub rtp: Option<RtpAddress>,
    /// The kind of packets there; `None` with `sip-info`.
    pub media: Option<Media>,
    /// When it was started, RFC 3339.
    pub started_at: String,
    /// Time since then, by the clock and with pauses, until it was stopped.
    pub duration_ms: u64,
    /// Recorded time, pauses left out; it goes on while media is missing.
    pub elapsed_ms: u64,
    /// Octets of audio kept, all segments together.
    pub bytes: u64,
    /// Present file below the recording folder; `None` if there is none.
    pub file: Option<String>,
    /// Number of that file in this recording, from 1.
    pub segment: u32,
    /// Packets by fate.
    pub packets: Packets,
    /// Whether others than the call's sender have sent to the port.
    pub contested: bool,
    /// Audio in memory that is not on disk yet.
    pub buffered_ms: u64,
    /// Whether the disk stands still, so that audio waits in memory.
    pub stalled: bool,
    /// Recording time that the disk has room for; `None` if not known.
    pub remaining_s: Option<u64>,
    /// Level of the last second in dB of full scale; `None` where it is not measured, and when nothing comes.
    pub level_dbfs: Option<f32>,
    /// Whether any audio was lost on our side.
    pub degraded: bool,
    /// Why it ended; `None` as long as it has not.
    pub end_reason: Option<String>,
    /// The ending; its members are not there as long as it has not ended.
    #[serde(flatten)]
    pub ending: Option<Ending>,
    /// `sip-info` only: whether the PBX is known to record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
}

/// Result of `record.start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RecordStarted {
    /// Id for all further requests.
    pub recording: String,
    /// Its state.
    pub state: RecordingState,
    /// The address to send the RTP to; `None` with `sip-info`.
    pub rtp: Option<RtpAddress>,
    /// File below the recording folder; `None` if there is none (yet).
    pub file: Option<String>,
    /// `sip-info` only: whether the PBX is known to record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
}

/// Result of `record.status` without a recording named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Recordings {
    /// All that have not ended.
    pub recordings: Vec<RecordingStatus>,
}

/// The state of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StorageState {
    /// There is none.
    #[default]
    Absent,
    /// It can be recorded to.
    Ok,
    /// It can, but not for long.
    Low,
    /// Only the reserve is left.
    Full,
    /// It can't be written to.
    ReadOnly,
    /// It gave errors.
    Failed,
    /// It may be pulled.
    Ejected,
}

/// Status of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct StorageStatus {
    /// Whether there is a disk.
    pub present: bool,
    /// Its mount point.
    pub mount: Option<String>,
    /// Type of its file system, such as `vfat`.
    pub filesystem: Option<String>,
    /// Size.
    pub total_bytes: Option<u64>,
    /// Room left, reserve included.
    pub free_bytes: Option<u64>,
    /// Recording time that there is room for.
    pub remaining_s: Option<u64>,
    /// Its state.
    pub state: StorageState,
    /// Why no more can be done with it; `None` while it can be recorded to.
    pub cause: Option<Cause>,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// Whether it is mounted `sync`, which wears and slows flash.
    pub sync_mount: bool,
    /// Whether it is a removable disk.
    pub removable: bool,
    /// A note for people.
    pub note: Option<String>,
}

/// One recording file in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct RecordingEntry {
    /// Path below the recording folder.
    pub file: String,
    /// Encoding name.
    pub codec: String,
    /// RFC 3339; `None` if not known.
    pub start: Option<String>,
    /// Playing time.
    pub duration_ms: u64,
    /// Size of the file, header included.
    pub size_bytes: u64,
    /// The call, empty without a sidecar.
    pub call: Call,
    /// Id of the recording; `None` without a sidecar.
    pub recording: Option<String>,
    /// Number of the file in the recording, from 1.
    pub segment: u32,
    /// Whether it is kept when room is made.
    pub protected: bool,
    /// Whether it is encrypted: then `call` is empty, and it can't be played here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
}

/// Result of `recordings.list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RecordingsListed {
    /// Newest first.
    pub recordings: Vec<RecordingEntry>,
    /// Whether there are more: ask again with `after` = the last file.
    #[serde(default)]
    pub more: bool,
    /// Whether the disk is still being looked through, so that older ones may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub indexing: bool,
}

/// The state of a playback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PlaybackState {
    /// RTP is sent.
    Playing,
    /// It waits.
    Paused,
    /// It is over.
    Ended,
}

/// Status of a playback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlaybackStatus {
    /// Its id.
    pub playback: String,
    /// The file, as listed.
    pub file: String,
    /// Its state.
    pub state: PlaybackState,
    /// Position in the file.
    pub position_ms: u64,
    /// Playing time of the file.
    pub duration_ms: u64,
    /// Why it ended; `None` as long as it has not.
    pub end_reason: Option<String>,
    /// The text to show; `None` if it ended well, or has not ended.
    pub text_key: Option<TextKey>,
}

/// Result of `play.start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlayStarted {
    /// Id for all further requests.
    pub playback: String,
    /// Playing time of the file.
    pub duration_ms: u64,
}

/// Result of `play.status` without a playback named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Playbacks {
    /// All that have not ended.
    pub playbacks: Vec<PlaybackStatus>,
}

/// The privileges that the agent has given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SandboxStatus {
    /// Whether `sandbox.enabled` asks for it.
    pub enabled: bool,
    /// Whether nothing it starts can have more rights than itself.
    pub no_new_privs: bool,
    /// Whether its system calls are filtered.
    pub seccomp: bool,
    /// Version of Landlock that confines its files; 0: none does.
    pub landlock: u32,
    /// Capabilities that it has kept.
    pub capabilities: Vec<String>,
    /// Whether a second process unmounts sticks for it.
    pub unmount: bool,
    /// Folders that it may write beneath, if Landlock confines it.
    pub write: Vec<String>,
    /// Measures that were asked for and are not available, for people.
    pub missing: Vec<String>,
}

/// Result of `agent.info`: the agent's identity and all of its present state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AgentInfo {
    /// Version of the program.
    pub version: String,
    /// [`super::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// Modes that can be started.
    pub modes: Vec<Mode>,
    /// Encoding names that can be recorded.
    pub codecs: Vec<String>,
    /// Seconds since the agent started.
    pub uptime: u64,
    /// The privileges that it has given up.
    #[serde(default)]
    pub sandbox: SandboxStatus,
    /// The disk.
    pub storage: StorageStatus,
    /// All recordings that have not ended.
    pub recordings: Vec<RecordingStatus>,
    /// All playbacks that have not ended.
    pub playbacks: Vec<PlaybackStatus>,
}

/// Packets that did not become audio, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Drops {
    /// Not RTP of version 2, or cut short.
    pub not_rtp: u64,
    /// RTCP.
    pub rtcp: u64,
    /// Longer than any audio packet.
    pub oversize: u64,
    /// A payload type that belongs to no recorded codec.
    pub payload_type: u64,
    /// Comfort noise; silence stands in the file for it.
    pub comfort_noise: u64,
    /// Without payload.
    pub empty: u64,
    /// From others than the call's sender. Not among `packets`.
    pub source: u64,
    /// From a second SSRC that competes with the one recorded.
    pub ssrc: u64,
    /// With a sequence number and a timestamp that fit nothing, not even the next packet.
    pub unconfirmed: u64,
    /// More audio than time has passed.
    pub ahead: u64,
    /// For a time that was taken already.
    pub overlap: u64,
    /// No buffer was left because the disk stalled.
    pub buffer_full: u64,
    /// Came while paused.
    pub paused: u64,
    /// The kernel's socket buffer ran over.
    pub socket: u64,
    /// Could not be sent on to the server.
    pub uplink: u64,
    /// STUN, DTLS or ZRTP: the call's audio is probably encrypted.
    pub handshake: u64,
    /// Encrypted; silence stands in the file for it.
    pub encrypted: u64,
}

/// Result of `stats.get`: counters since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Stats {
    /// RTP packets received.
    pub packets: u64,
    /// Octets received on RTP ports, headers included.
    pub bytes: u64,
    /// Packets dropped, by cause.
    pub drops: Drops,
    /// Packets too late to be put in order.
    pub late: u64,
    /// Packets seen before.
    pub duplicate: u64,
    /// Packets missing in sequences.
    pub lost: u64,
    /// Packets whose padding bit is set though nothing is padded; their payload is taken as it is.
    pub odd_padding: u64,
    /// Octets written to disk.
    pub written_bytes: u64,
    /// Octets of buffer in use now.
    pub buffer_bytes: u64,
    /// Most octets of buffer that were ever in use.
    pub buffer_high_water_bytes: u64,
    /// Longest time that the disk took to write and sync one batch.
    pub longest_write_ms: u64,
    /// Recordings started.
    pub recordings_started: u64,
    /// Recordings that failed.
    pub recordings_failed: u64,
    /// Clients connected now.
    pub clients: u64,
    /// Clients disconnected because they did not read.
    pub clients_closed: u64,
    /// Requests answered.
    pub requests: u64,
    /// Events dropped because a client did not read.
    pub events_lost: u64,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A status with every member known.
    pub(in super::super) fn example() -> RecordingStatus {
        RecordingStatus {
            recording: "r1".to_owned(),
            mode: Mode::Local,
            state: RecordingState::Recording,
            call: Call::default(),
            codec: "PCMA".to_owned(),
            ptime_ms: 20,
            payload_type: Some(8),
            rtp: Some(RtpAddress { addr: [127, 0, 0, 1].into(), port: 4000 }),
            media: Some(Media::Flowing),
            started_at: "2026-03-01T09:15:00+01:00".to_owned(),
            duration_ms: 1600,
            elapsed_ms: 1500,
            bytes: 12_000,
            file: Some("Record_20260301-091500.wav".to_owned()),
            segment: 1,
            packets: Packets { received: 75, lost: 1, late: 2, duplicate: 3, dropped: 4, strangers: 0 },
            contested: false,
            buffered_ms: 40,
            stalled: false,
            remaining_s: Some(3600),
            level_dbfs: Some(-20.5),
            degraded: true,
            end_reason: None,
            ending: None,
            confirmed: None,
        }
    }

    #[test]
    fn a_recording_status_has_exactly_the_members_of_the_protocol() {
        let expected = json!({
            "recording": "r1", "mode": "local", "state": "recording", "elapsed_ms": 1500, "bytes": 12000,
            "call": {
                "id": "", "direction": null, "remote_number": "", "remote_name": "", "local_number": "",
                "local_name": "",
            },
            "codec": "PCMA", "ptime_ms": 20, "payload_type": 8, "media": "flowing",
            "rtp": { "addr": "127.0.0.1", "port": 4000 },
            "started_at": "2026-03-01T09:15:00+01:00", "duration_ms": 1600,
            "file": "Record_20260301-091500.wav", "segment": 1,
            "packets": { "received": 75, "lost": 1, "late": 2, "duplicate": 3, "dropped": 4, "strangers": 0 },
            "contested": false,
            "buffered_ms": 40, "stalled": false, "remaining_s": 3600, "level_dbfs": -20.5, "degraded": true,
            "end_reason": null,
        });
        assert_eq!(serde_json::to_value(example()).unwrap(), expected);
        assert_eq!(serde_json::from_value::<RecordingStatus>(expected).unwrap(), example());
    }

    #[test]
    fn sip_info_tells_that_nothing_is_confirmed() {
        let status = RecordingStatus { mode: Mode::SipInfo, confirmed: Some(false), ..example() };
        let value = serde_json::to_value(status).unwrap();
        assert_eq!(value["mode"], "sip-info");
        assert_eq!(value["confirmed"], false);
    }

    #[test]
    fn serde_and_as_str_spell_a_mode_alike() {
        for mode in Mode::ALL {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
    }
}

//! The JSON beside each recording: parties, times, and the counts and gaps of the audio.
//!
//! Written whole at start (`state: "recording"`) and at end (`"ended"`); an open one beside a file that
//! nobody writes marks an interrupted recording. Reading is lenient: unknown keys are ignored, missing ones
//! get defaults. Lists are bounded, and their totals go on counting.

pub use crate::call::{Call, Direction};
use media::counts::Counts;
use media::recorder::segment_log::{self, SegmentLog};
use media::timeline::octets_to_ms;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// The version of the layout that this crate writes.
pub const SIDECAR_VERSION: u32 = 1;

/// Gaps, and pauses, that a sidecar lists at most; the totals count all.
pub const MAX_LISTED: usize = segment_log::MAX_LISTED;

/// A larger sidecar is refused: one with full lists and the longest names stays well below.
pub const MAX_SIDECAR_OCTETS: usize = 1024 * 1024;

/// The counts of the RTP packets of this segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "SidecarPackets"))]
#[serde(default)]
pub struct Packets {
    /// Taken from the socket.
    pub received: u64,
    /// Never came.
    pub lost: u64,
    /// Came after their place had been filled.
    pub late: u64,
    /// Came twice.
    pub duplicate: u64,
    /// Given up on our side: the buffer was full, or the packet was no usable RTP.
    pub dropped: u64,
    /// Of those that are lost: reached the machine, and were dropped by the system because nobody fetched
    /// them in time.
    pub overrun: u64,
    /// Sent by others than the call's sender. Part of no other number.
    pub strangers: u64,
}

/// A stretch of the file that holds silence instead of received audio.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Gap {
    /// Position in the file.
    pub at_ms: u64,
    /// Length of the silence.
    pub duration_ms: u64,
    /// The cause, in one word.
    pub cause: String,
}

/// A pause: its time is not in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Pause {
    /// Position in the file at which recording paused.
    pub at_ms: u64,
    /// The length of the pause.
    pub duration_ms: u64,
}

/// Whether the file is still being written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SidecarState {
    /// Being written, or cut off.
    Recording,
    /// Closed and synced. Also the value for a sidecar without the key, so that nothing touches its file.
    #[default]
    Ended,
}

/// A decision that keeps a recording, as an archive took it. A sidecar has it too, so that it outlives the
/// archive's database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Hold {
    /// Its id, the same in all recordings that it keeps.
    pub id: String,
    /// The name.
    pub name: String,
    /// The file number, or the like, of the matter that it is for.
    pub reference: String,
    /// The reason.
    pub reason: String,
    /// The person who placed it.
    pub placed_by: String,
    /// The time, RFC 3339.
    pub placed: String,
}

/// A signature over head, length, hash, call, id, segment, start and end: [`crate::seal::origin`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Signature {
    /// `Ed25519`.
    pub algorithm: String,
    /// The public key, base64.
    pub key: String,
    /// The signature, base64.
    pub value: String,
}

/// Everything that is known about one file of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Sidecar {
    /// Layout version, [`SIDECAR_VERSION`].
    pub version: u32,
    /// Id of the recording; all its segments share it.
    pub recording: String,
    /// Number of this file within the recording, from 1.
    pub segment: u32,
    /// Name of the file, without folders.
    pub file: String,
    /// The call.
    pub call: Call,
    /// Encoding name of the codec.
    pub codec: String,
    /// Milliseconds per frame.
    pub ptime_ms: u32,
    /// RTP payload type of the audio, if it is not the codec's static one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_type: Option<u8>,
    /// The start of this file, RFC 3339.
    pub start: String,
    /// Whether the phone's clock was set at that moment.
    pub clock_set: bool,
    /// Rises with every file that is made on a disk, independent of the clock: the calendar time in
    /// milliseconds, or a little more than the order of the newest file before where the clock is behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<u64>,
    /// Whether it is still being written.
    pub state: SidecarState,
    /// Audio in the file.
    pub duration_ms: u64,
    /// Octets of audio in the file, header not counted.
    pub data_bytes: u64,
    /// Packet counters.
    pub packets: Packets,
    /// The first [`MAX_LISTED`] gaps.
    #[serde(deserialize_with = "first_listed")]
    pub gaps: Vec<Gap>,
    /// All gaps.
    pub gaps_total: u64,
    /// Length of all gaps.
    pub gap_ms_total: u64,
    /// The first [`MAX_LISTED`] pauses.
    #[serde(deserialize_with = "first_listed")]
    pub pauses: Vec<Pause>,
    /// The end of the file, RFC 3339.
    pub end: Option<String>,
    /// The reason of its end.
    pub end_reason: Option<String>,
    /// No packet was ever received.
    pub no_media: bool,
    /// At a server, the address of the phone's control connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// At a server, the `id` that the phone gave the recording on the wire; `recording` is the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink_id: Option<String>,
    /// Others than the call's sender have sent to its port.
    pub contested: bool,
    /// Never deleted to make room.
    pub protected: bool,
    /// The first [`MAX_LISTED`] holds: while there is one, it is not deleted to make room either.
    #[serde(deserialize_with = "first_listed", skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
    /// Made whole after an interruption.
    pub recovered: bool,
    /// SHA-256 of the `data_bytes` octets behind the header, hexadecimal; of an encrypted file of the audio
    /// inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether the hash is of the repaired file, not of the one recorded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repaired: bool,
    /// By the device's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Whether the recording is encrypted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// SHA-256 of an encrypted file from octet 88 to the end of its last chunk, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed_sha256: Option<String>,
    /// The encrypted part of this sidecar: an age file, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

impl Default for Sidecar {
    fn default() -> Self {
        Self {
            version: SIDECAR_VERSION,
            recording: String::new(),
            segment: 1,
            file: String::new(),
            call: Call::default(),
            codec: String::new(),
            ptime_ms: 20,
            payload_type: None,
            start: String::new(),
            clock_set: false,
            order: None,
            state: SidecarState::default(),
            duration_ms: 0,
            data_bytes: 0,
            packets: Packets::default(),
            gaps: Vec::new(),
            gaps_total: 0,
            gap_ms_total: 0,
            pauses: Vec::new(),
            end: None,
            end_reason: None,
            no_media: false,
            peer: None,
            uplink_id: None,
            contested: false,
            protected: false,
            holds: Vec::new(),
            recovered: false,
            sha256: None,
            repaired: false,
            signature: None,
            encrypted: false,
            sealed_sha256: None,
            sealed: None,
        }
    }
}

/// The reason for which octets are no sidecar.
#[derive(Debug)]
pub enum SidecarError {
    /// More than [`MAX_SIDECAR_OCTETS`].
    TooLarge {
        /// Octets there are.
        octets: usize,
    },
    /// Not JSON, or a key of another type.
    Json(serde_json::Error),
}

impl fmt::Display for SidecarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { octets } => {
                write!(f, "the sidecar has {octets} octets, more than the {MAX_SIDECAR_OCTETS} it may have")
            }
            Self::Json(error) => write!(f, "the sidecar can't be read: {error}"),
        }
    }
}

impl std::error::Error for SidecarError {}

impl From<segment_log::Gap> for Gap {
    fn from(gap: segment_log::Gap) -> Self {
        Self {
            at_ms: octets_to_ms(gap.at_octets),
            duration_ms: octets_to_ms(gap.octets),
            cause: gap.cause.name().to_owned(),
        }
    }
}

impl From<segment_log::Pause> for Pause {
    fn from(pause: segment_log::Pause) -> Self {
        Self { at_ms: octets_to_ms(pause.at_octets), duration_ms: pause.duration_ms }
    }
}

impl From<&Counts> for Packets {
    fn from(counts: &Counts) -> Self {
        Self {
            received: counts.received,
            lost: counts.lost,
            late: counts.late,
            duplicate: counts.duplicate,
            dropped: counts.dropped(),
            overrun: 0,
            strangers: counts.strangers,
        }
    }
}

impl Sidecar {
    /// Notes a gap; past [`MAX_LISTED`] only the totals grow.
    pub fn push_gap(&mut self, gap: Gap) {
        self.gaps_total = self.gaps_total.saturating_add(1);
        self.gap_ms_total = self.gap_ms_total.saturating_add(gap.duration_ms);
        if self.gaps.len() < MAX_LISTED {
            self.gaps.push(gap);
        }
    }

    /// Takes the gaps and pauses of the stream's segment.
    pub fn note(&mut self, log: SegmentLog) {
        self.gaps_total = log.gaps_total;
        self.gap_ms_total = octets_to_ms(log.gap_octets);
        self.gaps = log.gaps.into_iter().map(Gap::from).collect();
        self.pauses = log.pauses.into_iter().map(Pause::from).collect();
    }

    /// Notes a pause, up to [`MAX_LISTED`].
    pub fn push_pause(&mut self, pause: Pause) {
        if self.pauses.len() < MAX_LISTED {
            self.pauses.push(pause);
        }
    }

    /// The bytes of the file: indented JSON, so that a person can read it too, and a final newline.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and string keys only: serialising them has no way to fail.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Reads a sidecar.
    ///
    /// # Errors
    /// [`SidecarError`] if it is too large, no JSON, or a known key has the wrong type.
    pub fn parse(octets: &[u8]) -> Result<Self, SidecarError> {
        if octets.len() > MAX_SIDECAR_OCTETS {
            return Err(SidecarError::TooLarge { octets: octets.len() });
        }
        serde_json::from_slice(octets).map_err(SidecarError::Json)
    }
}

/// The first [`MAX_LISTED`] of a list; the others are passed over, so that they take no memory.
fn first_listed<'de, D: Deserializer<'de>, T: Deserialize<'de>>(list: D) -> Result<Vec<T>, D::Error> {
    struct First<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for First<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut first = Vec::new();
            while first.len() < MAX_LISTED {
                let Some(item) = list.next_element()? else { return Ok(first) };
                first.push(item);
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }
    list.deserialize_seq(First(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sidecar_reads_back_as_written() {
        let mut sidecar = Sidecar {
            recording: "r1".into(),
            call: Call {
                direction: Some(Direction::Out),
                remote_name: "Zoë \"Z\"".into(),
                ..Call::default()
            },
            state: SidecarState::Recording,
            end_reason: Some("stopped".into()),
            ..Sidecar::default()
        };
        sidecar.push_gap(Gap { at_ms: 40, duration_ms: 60, cause: "lost".into() });
        let json = sidecar.to_json();
        assert!(json.ends_with(b"}\n"));
        assert_eq!(Sidecar::parse(&json).expect("own JSON"), sidecar);
    }

    #[test]
    fn unknown_keys_are_ignored_and_missing_ones_defaulted() {
        let text = br#"{"recording":"a","state":"recording","call":{"direction":"out","x":1},"later":[1,2]}"#;
        let sidecar = Sidecar::parse(text).expect("lenient");
        assert_eq!((sidecar.segment, sidecar.version, sidecar.protected), (1, 1, false));
        assert_eq!(sidecar.call.direction, Some(Direction::Out));
        assert_eq!(sidecar.state, SidecarState::Recording);
        assert_eq!(Sidecar::parse(b"{}").expect("lenient").state, SidecarState::Ended);
    }

    #[test]
    fn lists_stop_growing_and_totals_do_not() {
        let mut sidecar = Sidecar::default();
        for at_ms in 0..1500 {
            sidecar.push_gap(Gap { at_ms, duration_ms: 20, cause: "lost".into() });
            sidecar.push_pause(Pause { at_ms, duration_ms: u64::MAX });
        }
        assert_eq!((sidecar.gaps.len(), sidecar.gaps_total, sidecar.gap_ms_total), (1000, 1500, 30_000));
        assert_eq!(sidecar.pauses.len(), 1000);
        assert!(sidecar.to_json().len() < MAX_SIDECAR_OCTETS / 2);
    }

    #[test]
    fn a_list_from_elsewhere_takes_no_more_memory_than_one_of_our_own() {
        let text = format!(r#"{{"gaps":[{{"at_ms":7}}{}],"segment":2}}"#, ",{}".repeat(300_000));
        let sidecar = Sidecar::parse(text.as_bytes()).expect("a sidecar");
        assert_eq!((sidecar.gaps.len(), sidecar.gaps[0].at_ms, sidecar.segment), (MAX_LISTED, 7, 2));
        assert!(sidecar.gaps.capacity() < 2 * MAX_LISTED, "{}", sidecar.gaps.capacity());
    }

    #[test]
    fn a_sidecar_of_unreasonable_size_is_refused() {
        assert!(matches!(Sidecar::parse(&vec![b' '; (1 << 20) + 1]), Err(SidecarError::TooLarge { .. })));
        assert!(matches!(Sidecar::parse(b"{\"segment\":\"one\"}"), Err(SidecarError::Json(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_sidecar_or_an_error(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Sidecar::parse(&octets);
        }

        #[test]
        fn a_damaged_sidecar_is_a_sidecar_or_an_error(at in 0..600usize, octet in any::<u8>()) {
            let mut json = Sidecar::default().to_json();
            if let Some(slot) = json.get_mut(at) {
                *slot = octet;
            }
            let _ = Sidecar::parse(&json);
        }
    }
}

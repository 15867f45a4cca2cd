//! The marks in a sidecar: gaps and pauses, on the clock of the whole recording.
//!
//! Never: data that playing needs. A sidecar that is missing or broken has no marks.

use super::peaks::Peaks;
use crate::catalogue::model::RecordingMedia;
use recfile::name::sidecar_name;
use recfile::sidecar::{MAX_SIDECAR_OCTETS, Sidecar};
use serde::Serialize;
use store::fs::{Fs, RealFs};

/// Octets of a millisecond: all codecs have 64 kbit/s.
const OCTETS_PER_MS: u64 = 8;
/// Gaps and pauses of a recording that are told.
const MAX_MARKS: usize = 10_000;

/// Moments of a recording, as from and to in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Marks {
    /// Silence in place of audio that never came.
    pub(crate) gaps: Vec<(u64, u64)>,
    /// A pause: both times are the same.
    pub(crate) pauses: Vec<(u64, u64)>,
}

/// A wave with its marks.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Marked {
    #[serde(flatten)]
    pub(crate) wave: Peaks,
    #[serde(flatten)]
    pub(crate) marks: Marks,
}

/// The marks of a recording, from the sidecars beside its files.
pub(crate) fn marks(media: &RecordingMedia) -> Marks {
    let mut marks = Marks::default();
    let mut begin_ms = 0_u64;
    for segment in &media.segments {
        let beside = super::path(&segment.file).with_file_name(sidecar_name(&segment.file.name));
        let read = RealFs.read(&beside, MAX_SIDECAR_OCTETS + 1).ok();
        let sidecar = read.and_then(|json| Sidecar::parse(&json).ok()).unwrap_or_default();
        let length_ms = segment.audio_octets / OCTETS_PER_MS;
        let at = |ms: u64| begin_ms + ms.min(length_ms);
        for gap in sidecar.gaps {
            marks.gaps.push((at(gap.at_ms), at(gap.at_ms.saturating_add(gap.duration_ms))));
        }
        marks.pauses.extend(sidecar.pauses.iter().map(|pause| (at(pause.at_ms), at(pause.at_ms))));
        begin_ms += length_ms;
        if marks.gaps.len() + marks.pauses.len() > MAX_MARKS {
            break;
        }
    }
    marks.gaps.truncate(MAX_MARKS);
    marks.pauses.truncate(MAX_MARKS);
    marks
}

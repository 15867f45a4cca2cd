//! The receiver of the timeline's audio, and the causes of silence in it.

use crate::codec::OCTETS_PER_MS;

/// A receiver of audio.
pub trait AudioSink {
    /// The next octets of the recording.
    fn audio(&mut self, octets: &[u8]);
    /// The next `octets` of the recording are silence.
    fn silence(&mut self, octets: u64, cause: GapCause);
}

/// Why there is silence where audio could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// Packets were lost on the way.
    Loss,
    /// The sender was silent: silence suppression or comfort noise.
    Suppression,
    /// The stream restarted after a pause of its own.
    Restart,
    /// The sender stood still, and its timestamps with it.
    Hold,
    /// Our buffer was full.
    BufferFull,
}

impl GapCause {
    /// Name in the sidecar.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Suppression => "suppression",
            Self::Restart => "restart",
            Self::Hold => "hold",
            Self::BufferFull => "buffer_full",
        }
    }
}

/// Milliseconds that `octets` of any codec in the table last, rounded down.
#[must_use]
pub fn octets_to_ms(octets: u64) -> u64 {
    octets / OCTETS_PER_MS
}

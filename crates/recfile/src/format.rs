//! The contents of a recording file, found from its beginning and its length.
//!
//! Owns: the kind and duration of frames, their number, and the problems that a repair would mend. The header
//! says how long a frame is; how many there are is told by the file's length alone, in whole frames, because
//! `dataSize` is stale after a power cut and while recording. Whether frames are payloads or whole RTP
//! packets (other firmware) is told by looking at them ([`crate::packets`]).

use crate::header::{ByteOrder, FileHeader, HEADER_OCTETS, HeaderError};
use crate::packets::{self, Found, PROBE_FRAMES, RTP_HEADER_OCTETS};
use media::codec::Codec;
use std::fmt;

/// Octets from the start of the file that tell everything about it: the header and 16 packets of the usual
/// size. Frames of over 80 ms are recognised by fewer of them.
pub const PROBE_OCTETS: usize = HEADER_OCTETS + PROBE_FRAMES * (640 + RTP_HEADER_OCTETS as usize);

/// The kind of frame in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// RTP payload, as the source document has it.
    PayloadOnly,
    /// A 12-octet RTP header and the payload.
    WholePackets,
}

/// Something about a file that is not as it should be, and that a repair mends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// `dataSize` differs from the audio in the file.
    StaleDataSize {
        /// `dataSize` of the header.
        declared: u32,
        /// Octets of the whole frames in the file. Over 4 GiB the field says the most whole frames that it
        /// can.
        actual: u64,
    },
    /// The file ends within a frame.
    PartialFrame {
        /// Octets of the frame that are there.
        octets: u32,
    },
    /// The header's integers are big-endian.
    BigEndianHeader,
    /// An encrypted file ends within a chunk, or something follows its last one.
    PartialChunk {
        /// Octets that belong to no whole chunk.
        octets: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleDataSize { declared, actual } => {
                write!(f, "dataSize says {declared} octets, the file holds {actual}")
            }
            Self::PartialFrame { octets } => write!(f, "the last frame is cut off after {octets} octets"),
            Self::BigEndianHeader => {
                f.write_str("the header's numbers are big-endian; phones expect little-endian")
            }
            Self::PartialChunk { octets } => {
                write!(f, "{octets} octets at the end of the encrypted file belong to no whole chunk")
            }
        }
    }
}

/// The contents of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Codec of every frame.
    pub codec: Codec,
    /// Octets of payload per frame.
    pub frame_octets: u32,
    /// RTP timestamp ticks per frame.
    pub increment: u32,
    /// Whole frames in the file.
    pub frames: u64,
    /// The kind of frame.
    pub layout: Layout,
    /// Playing time of the whole frames.
    pub duration_ms: u64,
    /// Octets of the whole frames in the file (RTP headers included, where they are stored).
    pub data_octets: u64,
    /// `dataSize` of the header.
    pub declared_data_octets: u32,
    /// Octets after the last whole frame.
    pub trailing_octets: u32,
    /// The problems that a repair would mend.
    pub problems: Vec<Problem>,
}

/// Header and layout of a file: all that its beginning tells, and enough to compute the contents from a
/// length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The header as read.
    pub header: FileHeader,
    /// The order of its integers.
    pub byte_order: ByteOrder,
    /// The kind of frame.
    pub layout: Layout,
    /// Octets from one frame to the next.
    pub stride: u32,
    /// Packets are of different lengths, most often of this one: then only [`crate::reader::Reader`] finds
    /// them, and the number of frames from the length of the file is a guess. 0: all are as long as the
    /// stride.
    pub uneven_octets: u32,
}

impl Format {
    /// Recognises a file by its beginning; [`PROBE_OCTETS`] are enough, the header alone finds payloads only.
    ///
    /// # Errors
    /// [`HeaderError`] says why it is no recording.
    pub fn detect(head: &[u8]) -> Result<Self, HeaderError> {
        let (header, byte_order) = FileHeader::parse_any_order(head)?;
        let data = head.get(HEADER_OCTETS..).unwrap_or_default();
        let payloads = Self {
            header,
            byte_order,
            layout: Layout::PayloadOnly,
            stride: header.rtp_len,
            uneven_octets: 0,
        };
        Ok(match packets::find(data, &header) {
            None => payloads,
            Some(Found::Even(stride)) => Self { layout: Layout::WholePackets, stride, ..payloads },
            Some(Found::Uneven(octets)) => payloads.of_uneven_packets(octets),
        })
    }

    /// Packets of this length, most of them, and others.
    pub(crate) fn of_uneven_packets(self, octets: u32) -> Self {
        let stride = self.header.increment + RTP_HEADER_OCTETS;
        Self { layout: Layout::WholePackets, stride, uneven_octets: octets, ..self }
    }

    /// Octets of payload per frame.
    #[must_use]
    pub fn frame_octets(&self) -> u32 {
        self.stride - self.payload_offset()
    }

    /// Octets of a frame before its payload.
    #[must_use]
    pub fn payload_offset(&self) -> u32 {
        match self.layout {
            Layout::PayloadOnly => 0,
            Layout::WholePackets => RTP_HEADER_OCTETS,
        }
    }

    /// Playing time of `frames`.
    #[must_use]
    pub fn frames_to_ms(&self, frames: u64) -> u64 {
        self.header.codec.clock_rate().ticks_to_ms(frames.saturating_mul(u64::from(self.header.increment)))
    }

    /// The frame that plays at `position_ms`.
    #[must_use]
    pub fn frame_at_ms(&self, position_ms: u64) -> u64 {
        let ticks = u128::from(position_ms) * u128::from(self.header.codec.clock_rate().hz()) / 1000;
        u64::try_from(ticks / u128::from(self.header.increment)).unwrap_or(u64::MAX)
    }

    /// The right `dataSize` with `frames` in the file; a file too large for the field gets the largest value.
    #[must_use]
    pub fn data_size_of(&self, frames: u64) -> u32 {
        let fitting = frames.min(u64::from(u32::MAX / self.stride));
        u32::try_from(fitting * u64::from(self.stride)).unwrap_or(u32::MAX)
    }

    /// Whether the header's `dataSize` is right with `frames` in the file.
    #[must_use]
    pub fn is_right_data_size(&self, frames: u64) -> bool {
        let declared = self.header.data_size;
        declared == self.data_size_of(frames) || u64::from(declared) == self.payload_octets(frames)
    }

    /// Payload in `frames`. Firmware that stores whole packets may count this alone: that is no damage.
    #[must_use]
    pub fn payload_octets(&self, frames: u64) -> u64 {
        frames.saturating_mul(u64::from(self.frame_octets()))
    }

    /// The contents of a file of this format and `len` octets.
    #[must_use]
    pub fn facts(&self, len: u64) -> Facts {
        let stride = u64::from(self.stride);
        let available = len.saturating_sub(HEADER_OCTETS as u64);
        let frames = available / stride;
        let trailing_octets = u32::try_from(available % stride).unwrap_or(0);
        let declared = self.header.data_size;
        let mut problems = Vec::new();
        if self.byte_order == ByteOrder::Big {
            problems.push(Problem::BigEndianHeader);
        }
        // The end of a packet is not known here, and nothing is to be mended.
        let is_known = self.uneven_octets == 0;
        if is_known && !self.is_right_data_size(frames) {
            problems.push(Problem::StaleDataSize { declared, actual: frames.saturating_mul(stride) });
        }
        if is_known && trailing_octets > 0 {
            problems.push(Problem::PartialFrame { octets: trailing_octets });
        }
        Facts {
            codec: self.header.codec,
            frame_octets: self.frame_octets(),
            increment: self.header.increment,
            frames,
            layout: self.layout,
            duration_ms: self.frames_to_ms(frames),
            data_octets: frames * stride,
            declared_data_octets: declared,
            trailing_octets,
            problems,
        }
    }
}

//! The 76 octets at the start of a recording file.
//!
//! Source document, "Local Recording File Format": `char codec[64] | int32_t rtpLen | int32_t increment |
//! uint32_t dataSize`, little-endian, no padding between the fields. Parsing is sceptical: a header that
//! passes has a known codec and sizes that an RTP packet can have; `data_size` is only the last written value
//! and says nothing about the audio on the disk.

use media::codec::{Codec, OCTETS_PER_MS};
use std::fmt;

/// Octets before the first RTP payload.
pub const HEADER_OCTETS: usize = 76;

/// The offset of `dataSize` in the file; it is the one field that changes while recording.
pub const DATA_SIZE_OFFSET: u64 = 72;

/// The largest file that FAT32 can hold; `dataSize` could count no more than that either.
pub const MAX_FILE_OCTETS: u64 = u32::MAX as u64;

/// Largest `rtpLen` and `increment` that are believed: over 500 ms of any codec in the table.
pub const MAX_FRAME_FIELD: u32 = 4096;

/// The suffix of the codec's name in an encrypted recording.
pub const CODEC_SUFFIX: &str = "+age";

const CODEC_OCTETS: usize = 64;

/// The fields of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Codec of every frame.
    pub codec: Codec,
    /// `rtpLen`: octets of RTP payload per packet.
    pub rtp_len: u32,
    /// `increment`: RTP timestamp ticks per packet.
    pub increment: u32,
    /// `dataSize`: octets after the header, as last written.
    pub data_size: u32,
}

/// The order in which the header's integers were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// The order of the source document's phones, and of this crate.
    Little,
    /// Written by a big-endian machine: taken when reading, never written.
    Big,
}

/// The reason for which octets are not the header of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Fewer than 76 octets.
    TooShort {
        /// Octets there are.
        octets: usize,
    },
    /// All 76 octets are zero: the file grew, and the power went before its first sector was written.
    Blank,
    /// A standard RIFF WAV, which also ends in `.wav`.
    StandardWav,
    /// The codec field is no text.
    NotARecording,
    /// The codec field names a codec that this build does not know.
    UnknownCodec(String),
    /// `rtpLen` is no packet size.
    RtpLen(i32),
    /// `increment` is no packet duration.
    Increment(i32),
    /// It is encrypted: [`crate::sealed`].
    Encrypted(Codec),
    /// It is encrypted, and the header that wraps its key is none.
    KeyHeader,
}

/// The advice for a lost header.
const REBUILT: &str = "recordctl repair makes it anew where the sidecar is beside it";

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { octets } => {
                write!(f, "the header is cut off ({octets} of {HEADER_OCTETS} octets); {REBUILT}")
            }
            Self::Blank => write!(f, "the header is blank (power cut); {REBUILT}"),
            Self::StandardWav => f.write_str(
                "this is a standard WAV file, not a phone recording; any player opens it as it is",
            ),
            Self::NotARecording => f.write_str("this is no phone recording (no codec name at its start)"),
            Self::UnknownCodec(name) => {
                let known = Codec::ALL.map(Codec::name).join(", ");
                write!(
                    f,
                    "unknown codec {name:?} in the header; known are {known}, and to newer versions perhaps more"
                )
            }
            Self::RtpLen(value) => {
                write!(
                    f,
                    "implausible rtpLen {value} in the header (1 to {MAX_FRAME_FIELD} expected); {REBUILT}"
                )
            }
            Self::Increment(value) => {
                write!(
                    f,
                    "implausible increment {value} in the header (1 to {MAX_FRAME_FIELD} expected); {REBUILT}"
                )
            }
            Self::Encrypted(_) => f.write_str(
                "the recording is encrypted: recordctl decrypt opens it, with the identity that it is for",
            ),
            Self::KeyHeader => {
                f.write_str("the recording is encrypted, and the header with its key is damaged: it is lost")
            }
        }
    }
}

impl std::error::Error for HeaderError {}

impl FileHeader {
    /// The header of a file just created: no data, frames of `ptime_ms` milliseconds.
    #[must_use]
    pub fn new(codec: Codec, ptime_ms: u32) -> Self {
        let octets = u32::try_from(u64::from(ptime_ms) * OCTETS_PER_MS).unwrap_or(u32::MAX);
        Self { codec, rtp_len: octets, increment: octets, data_size: 0 }
    }

    /// The 76 octets to write.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_OCTETS] {
        let mut octets = [0; HEADER_OCTETS];
        let name = self.codec.name().as_bytes();
        octets[..name.len()].copy_from_slice(name);
        octets[64..68].copy_from_slice(&self.rtp_len.to_le_bytes());
        octets[68..72].copy_from_slice(&self.increment.to_le_bytes());
        octets[72..76].copy_from_slice(&self.data_size.to_le_bytes());
        octets
    }

    /// Reads a little-endian header from the first 76 of `octets`; further octets are ignored.
    ///
    /// The codec name ends at the first NUL (a C program may leave anything after it), in any case.
    ///
    /// # Errors
    /// [`HeaderError`] names the implausible field.
    pub fn parse(octets: &[u8]) -> Result<Self, HeaderError> {
        Self::parse_as(octets, ByteOrder::Little)
    }

    /// Like [`Self::parse`], but takes big-endian integers too if only they make sense.
    ///
    /// The two can't be mistaken for each other: a plausible `rtpLen` is over 65535 in the other order.
    ///
    /// # Errors
    /// The error of the little-endian reading.
    pub fn parse_any_order(octets: &[u8]) -> Result<(Self, ByteOrder), HeaderError> {
        Self::parse_as(octets, ByteOrder::Little).map(|header| (header, ByteOrder::Little)).or_else(|error| {
            Self::parse_as(octets, ByteOrder::Big).map(|header| (header, ByteOrder::Big)).map_err(|_| error)
        })
    }

    /// The codec that the header names, where that much of it is legible.
    #[must_use]
    pub fn legible_codec(octets: &[u8]) -> Option<Codec> {
        let (name, fields) = octets.get(..HEADER_OCTETS)?.split_first_chunk::<CODEC_OCTETS>()?;
        parse_codec(name, fields).ok()
    }

    fn parse_as(octets: &[u8], order: ByteOrder) -> Result<Self, HeaderError> {
        // An empty one is shorter than our header.
        if is_standard_wav(octets) {
            return Err(HeaderError::StandardWav);
        }
        let Some((name, fields)) =
            octets.get(..HEADER_OCTETS).and_then(|head| head.split_first_chunk::<CODEC_OCTETS>())
        else {
            return Err(HeaderError::TooShort { octets: octets.len() });
        };
        let codec = parse_codec(name, fields)?;
        let field = |at: usize| {
            let raw = fields.get(at..at + 4).and_then(|raw| raw.try_into().ok()).unwrap_or([0; 4]);
            match order {
                ByteOrder::Little => u32::from_le_bytes(raw),
                ByteOrder::Big => u32::from_be_bytes(raw),
            }
        };
        let plausible = 1..=MAX_FRAME_FIELD;
        let (rtp_len, increment) = (field(0), field(4));
        if !plausible.contains(&rtp_len) {
            return Err(HeaderError::RtpLen(as_signed(rtp_len)));
        }
        if !plausible.contains(&increment) {
            return Err(HeaderError::Increment(as_signed(increment)));
        }
        Ok(Self { codec, rtp_len, increment, data_size: field(8) })
    }
}

/// Whether a file that begins with `octets`, 12 at least, is a standard RIFF WAV.
#[must_use]
pub fn is_standard_wav(octets: &[u8]) -> bool {
    octets.starts_with(b"RIFF") && octets.get(8..12) == Some(b"WAVE")
}

fn parse_codec(name: &[u8; CODEC_OCTETS], fields: &[u8]) -> Result<Codec, HeaderError> {
    if name.iter().chain(fields).all(|&octet| octet == 0) {
        return Err(HeaderError::Blank);
    }
    // A C string: it ends within its 64 octets.
    let end = name.iter().position(|&octet| octet == 0);
    let text = end.and_then(|end| name.get(..end)).unwrap_or_default();
    if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
        return Err(HeaderError::NotARecording);
    }
    let text = String::from_utf8_lossy(text);
    Codec::from_name(&text).ok_or_else(|| match sealed_codec(&text) {
        Some(codec) => HeaderError::Encrypted(codec),
        None => HeaderError::UnknownCodec(text.into_owned()),
    })
}

/// The codec of the audio in an encrypted file of this name of a codec.
fn sealed_codec(name: &str) -> Option<Codec> {
    let at = name.len().checked_sub(CODEC_SUFFIX.len())?;
    let suffix = name.get(at..)?.eq_ignore_ascii_case(CODEC_SUFFIX);
    Codec::from_name(name.get(..at)?).filter(|_| suffix)
}

/// The field as its C type shows it.
fn as_signed(field: u32) -> i32 {
    i32::from_ne_bytes(field.to_ne_bytes())
}

/// Octets of audio that fit into a file of `file_limit` octets, header included; also under FAT32's limit.
#[must_use]
pub fn max_data_octets(file_limit: u64) -> u64 {
    file_limit.min(MAX_FILE_OCTETS).saturating_sub(HEADER_OCTETS as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_reads_back_as_written() {
        for codec in Codec::ALL {
            let header = FileHeader { data_size: 0xFEDC_BA98, ..FileHeader::new(codec, 20) };
            assert_eq!(header.rtp_len, 160);
            assert_eq!(FileHeader::parse(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn an_impossible_header_is_refused_with_the_wrong_field() {
        let good = FileHeader::new(Codec::Pcma, 20).encode();
        let with = |at: usize, octets: &[u8]| {
            let mut head = good;
            head[at..at + octets.len()].copy_from_slice(octets);
            FileHeader::parse(&head)
        };
        assert_eq!(FileHeader::parse(&good[..75]), Err(HeaderError::TooShort { octets: 75 }));
        assert_eq!(FileHeader::parse(&[0; 76]), Err(HeaderError::Blank));
        assert_eq!(with(0, b"RIFF\x24\0\0\0WAVEfmt "), Err(HeaderError::StandardWav));
        assert_eq!(
            FileHeader::parse(b"RIFF\x24\0\0\0WAVEfmt "),
            Err(HeaderError::StandardWav),
            "an empty one"
        );
        assert_eq!(with(0, b"\x80\x08\x12\x34"), Err(HeaderError::NotARecording));
        assert_eq!(with(0, b"opus"), Err(HeaderError::UnknownCodec("opus".into())));
        assert_eq!(with(64, &[0, 0, 0, 0]), Err(HeaderError::RtpLen(0)));
        assert_eq!(with(64, &[0xFF; 4]), Err(HeaderError::RtpLen(-1)));
        assert_eq!(with(68, &[1, 16, 0, 0]), Err(HeaderError::Increment(4097)));
    }

    #[test]
    fn text_after_the_name_s_nul_is_ignored_as_c_programs_leave_it_there() {
        let mut head = FileHeader::new(Codec::G722, 20).encode();
        head[5..9].copy_from_slice(b"junk");
        assert_eq!(FileHeader::parse(&head).map(|header| header.codec), Ok(Codec::G722));
    }

    #[test]
    fn big_endian_integers_are_taken_only_where_little_endian_ones_make_no_sense() {
        let mut head = FileHeader::new(Codec::Pcmu, 20).encode();
        assert_eq!(FileHeader::parse_any_order(&head).map(|(_, order)| order), Ok(ByteOrder::Little));
        head[64..76].copy_from_slice(&[0, 0, 0, 160, 0, 0, 0, 160, 0, 0, 3, 32]);
        assert!(FileHeader::parse(&head).is_err());
        let expected = FileHeader { codec: Codec::Pcmu, rtp_len: 160, increment: 160, data_size: 800 };
        assert_eq!(FileHeader::parse_any_order(&head), Ok((expected, ByteOrder::Big)));
    }

    #[test]
    fn the_limit_of_a_file_counts_its_header_and_ends_at_4_gib() {
        assert_eq!(max_data_octets(1076), 1000);
        assert_eq!(max_data_octets(10), 0);
        assert_eq!(max_data_octets(u64::MAX), (1 << 32) - 1 - 76);
    }

    #[test]
    fn a_codec_is_legible_without_the_numbers_behind_it_and_never_in_part() {
        let head = FileHeader { rtp_len: 0, ..FileHeader::new(Codec::Pcmu, 20) }.encode();
        assert_eq!(FileHeader::legible_codec(&head), Some(Codec::Pcmu));
        assert_eq!(FileHeader::legible_codec(&head[..75]), None);
        assert_eq!(FileHeader::legible_codec(&[0; 76]), None);
    }

    proptest! {
        #[test]
        fn a_header_that_passes_is_plausible_for_any_octets(
            mut octets in proptest::collection::vec(any::<u8>(), 0..100), named in any::<bool>(),
        ) {
            if named && octets.len() > 5 {
                octets[..5].copy_from_slice(b"PCMA\0");
            }
            if let Ok((header, _)) = FileHeader::parse_any_order(&octets) {
                prop_assert!((1..=MAX_FRAME_FIELD).contains(&header.rtp_len));
                prop_assert!((1..=MAX_FRAME_FIELD).contains(&header.increment));
                prop_assert_eq!(FileHeader::parse(&header.encode()), Ok(header));
            }
        }
    }
}

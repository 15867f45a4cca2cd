//! The layout of an encrypted recording, as far as it can be told without a key.
//!
//! Owns: the places of fields, the end of the whole chunks of a file, and the repair of the rest. It begins
//! like any recording, but for its codec (`PCMA+age`), which no reader takes for audio:
//!
//! ```text
//!  0  header of 76 octets: codec with "+age", rtpLen, increment, dataSize (of the audio inside)
//! 76  u32  chunks that hold these dataSize octets; the highest bit: the last one of the file is among them
//! 80  u64  where the last of them ends
//! 88  header of age-encryption.org/v1, which wraps the file's key; 16 octets of nonce; chunks:
//!     u32 octets of audio (the highest bit: the last chunk) | the octets, encrypted | tag of 16 octets
//! ```
//!
//! The fields at 72 to 88 are a hint, brought up to date at each flush by one write. Never: decrypts.

use crate::format::{Facts, Format, Layout, Problem};
use crate::header::{CODEC_SUFFIX, DATA_SIZE_OFFSET, FileHeader, HEADER_OCTETS, HeaderError};
use std::io;

/// Octets before the header of age.
pub const FRONT_OCTETS: usize = HEADER_OCTETS + 12;

/// Octets of [`Progress`] at [`DATA_SIZE_OFFSET`].
pub const PROGRESS_OCTETS: usize = 16;

/// Octets at the beginning that never change.
pub const FIXED_OCTETS: usize = FRONT_OCTETS - PROGRESS_OCTETS;

/// Octets of audio in a chunk at most.
pub const MAX_CHUNK_OCTETS: usize = 16 * 1024;

/// Octets of a chunk besides its audio: length and tag.
pub const CHUNK_OVERHEAD_OCTETS: usize = 4 + 16;

/// The bit that tells the last chunk.
const LAST: u32 = 1 << 31;

/// From where on the header of age is looked for its end, and how far.
const MAX_KEY_HEADER_OCTETS: usize = 4096;

/// Octets behind the key header: the nonce.
pub const NONCE_OCTETS: usize = 16;

/// Octets of a file that are enough for [`Front::parse`].
pub const FRONT_PROBE_OCTETS: usize = FRONT_OCTETS + MAX_KEY_HEADER_OCTETS + NONCE_OCTETS;

/// The lengths that the file states about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Octets of audio.
    pub data_size: u32,
    /// Chunks that hold them.
    pub chunks: u32,
    /// Whether the last chunk of the file is among them.
    pub finished: bool,
    /// The end of the last of them.
    pub end: u64,
}

impl Progress {
    /// The octets to write at [`DATA_SIZE_OFFSET`].
    #[must_use]
    pub fn encode(&self) -> [u8; PROGRESS_OCTETS] {
        let mut octets = [0; PROGRESS_OCTETS];
        octets[..4].copy_from_slice(&self.data_size.to_le_bytes());
        let chunks = self.chunks & !LAST | if self.finished { LAST } else { 0 };
        octets[4..8].copy_from_slice(&chunks.to_le_bytes());
        octets[8..].copy_from_slice(&self.end.to_le_bytes());
        octets
    }
}

/// The beginning of an encrypted recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    /// Codec and frames of the audio inside; `data_size` as it is written.
    pub header: FileHeader,
    /// The lengths that it states.
    pub progress: Progress,
    /// Octets of the header of age.
    pub key_header_octets: usize,
}

impl Front {
    /// Octets 0 to 88 of a new file whose key header has `key_header_octets`.
    #[must_use]
    pub fn encode(header: &FileHeader, key_header_octets: usize) -> [u8; FRONT_OCTETS] {
        let mut octets = [0; FRONT_OCTETS];
        octets[..HEADER_OCTETS].copy_from_slice(&header.encode());
        let name = header.codec.name().len();
        octets[name..name + CODEC_SUFFIX.len()].copy_from_slice(CODEC_SUFFIX.as_bytes());
        let end = (FRONT_OCTETS + key_header_octets + NONCE_OCTETS) as u64;
        octets[FIXED_OCTETS..].copy_from_slice(&Progress { end, ..Progress::default() }.encode());
        octets
    }

    /// Reads the beginning of a file; [`FRONT_PROBE_OCTETS`] are enough.
    ///
    /// # Errors
    /// [`HeaderError`]: of a recording that is not encrypted, too, and of one whose key header is cut off or
    /// none.
    pub fn parse(head: &[u8]) -> Result<Self, HeaderError> {
        let bare = Self::bare_header(head).ok_or(HeaderError::NotARecording)?;
        let header = FileHeader::parse(&bare)?;
        let short = HeaderError::TooShort { octets: head.len() };
        let (front, rest) = head.split_first_chunk::<FRONT_OCTETS>().ok_or(short.clone())?;
        let key_header_octets = key_header_octets(rest).ok_or(HeaderError::KeyHeader)?;
        if rest.len() < key_header_octets + NONCE_OCTETS {
            return Err(short);
        }
        let word = |at: usize| {
            u32::from_le_bytes(front.get(at..at + 4).and_then(|raw| raw.try_into().ok()).unwrap_or_default())
        };
        let end = u64::from(word(80)) | u64::from(word(84)) << 32;
        let chunks = word(76);
        let progress = Progress {
            data_size: header.data_size,
            chunks: chunks & !LAST,
            finished: chunks & LAST != 0,
            end,
        };
        Ok(Self { header, progress, key_header_octets })
    }

    /// The header with the codec's own name, if that has the suffix.
    fn bare_header(head: &[u8]) -> Option<[u8; HEADER_OCTETS]> {
        let mut header = *head.first_chunk::<HEADER_OCTETS>()?;
        let end = header.iter().position(|&octet| octet == 0)?;
        let at = end.checked_sub(CODEC_SUFFIX.len())?;
        let suffix = header.get_mut(at..end)?;
        if !suffix.eq_ignore_ascii_case(CODEC_SUFFIX.as_bytes()) {
            return None;
        }
        suffix.fill(0);
        Some(header)
    }

    /// The start of the header of age.
    #[must_use]
    pub fn key_header(&self) -> std::ops::Range<usize> {
        FRONT_OCTETS..FRONT_OCTETS + self.key_header_octets
    }

    /// The place of the nonce.
    #[must_use]
    pub fn nonce(&self) -> std::ops::Range<usize> {
        let at = self.key_header().end;
        at..at + NONCE_OCTETS
    }

    /// The start of the first chunk.
    #[must_use]
    pub fn first_chunk(&self) -> u64 {
        self.nonce().end as u64
    }

    /// Whether the stated lengths are possible in a file of `len` octets.
    #[must_use]
    fn is_plausible(&self, len: u64) -> bool {
        let Progress { data_size, chunks, end, .. } = self.progress;
        let sealed = u64::from(data_size) + u64::from(chunks) * CHUNK_OVERHEAD_OCTETS as u64;
        end <= len && end.checked_sub(self.first_chunk()) == Some(sealed)
    }

    /// The extent by the stated lengths; of a file that is being written, or was cut off, a little less.
    #[must_use]
    pub fn extent_as_said(&self, len: u64) -> Extent {
        if !self.is_plausible(len) {
            return Extent { beyond: len.saturating_sub(self.first_chunk()), ..self.nothing() };
        }
        let Progress { data_size, chunks, finished, end } = self.progress;
        Extent { data_octets: data_size.into(), chunks, finished, end, beyond: len - end }
    }

    fn nothing(&self) -> Extent {
        Extent { data_octets: 0, chunks: 0, finished: false, end: self.first_chunk(), beyond: 0 }
    }

    /// Follows the chunks of a file of `len` octets to the last whole one: from where the file says that it
    /// was at the last flush, if that can be so, else from the first one. `None` if there are over
    /// `max_chunks` to follow.
    ///
    /// # Errors
    /// Those of `read`, which gives the four octets at an offset.
    pub fn measure(
        &self,
        len: u64,
        max_chunks: u32,
        read: &mut dyn FnMut(u64) -> io::Result<[u8; 4]>,
    ) -> io::Result<Option<Extent>> {
        let mut extent = self.extent_as_said(len);
        for _ in 0..max_chunks {
            match extent.next(read)? {
                Some(next) => extent = next,
                None => return Ok(Some(extent)),
            }
        }
        Ok(extent.next(read)?.is_none().then_some(extent))
    }

    /// The part of a file of `len` octets that holds its first `octets` of audio: whole chunks, and the last
    /// one of the file if it follows them. `None` if there are over `max_chunks` to follow.
    ///
    /// # Errors
    /// Those of `read`, which gives the four octets at an offset.
    pub fn part(
        &self,
        len: u64,
        octets: u64,
        max_chunks: u32,
        read: &mut dyn FnMut(u64) -> io::Result<[u8; 4]>,
    ) -> io::Result<Option<Extent>> {
        let said = self.extent_as_said(len);
        let from_start = Extent { beyond: len.saturating_sub(self.first_chunk()), ..self.nothing() };
        let mut extent = if said.data_octets <= octets { said } else { from_start };
        for _ in 0..max_chunks {
            match extent.next(read)? {
                Some(next) if next.data_octets <= octets || next.finished => extent = next,
                _ => return Ok(Some(extent)),
            }
        }
        Ok(None)
    }
}

/// Octets of the header of age that `octets` begin with.
fn key_header_octets(octets: &[u8]) -> Option<usize> {
    let octets = &octets[..octets.len().min(MAX_KEY_HEADER_OCTETS)];
    if !octets.starts_with(b"age-encryption.org/") {
        return None;
    }
    let mac = octets.windows(5).position(|part| part == b"\n--- ")?;
    let end = octets.get(mac + 1..)?.iter().position(|&octet| octet == b'\n')?;
    Some(mac + 1 + end + 1)
}

/// The extent of the whole chunks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Octets of audio in them.
    pub data_octets: u64,
    /// Their number.
    pub chunks: u32,
    /// Whether the last one of the file is among them: nothing was cut off.
    pub finished: bool,
    /// Their end.
    pub end: u64,
    /// Octets of the file behind them.
    pub beyond: u64,
}

impl Extent {
    /// With the chunk that follows, if a whole one does.
    fn next(&self, read: &mut dyn FnMut(u64) -> io::Result<[u8; 4]>) -> io::Result<Option<Self>> {
        if self.finished || self.beyond < CHUNK_OVERHEAD_OCTETS as u64 {
            return Ok(None);
        }
        let chunk = Chunk::parse(read(self.end)?).filter(|chunk| chunk.octets_in_file() <= self.beyond);
        Ok(chunk.map(|chunk| Self {
            data_octets: self.data_octets + chunk.octets as u64,
            chunks: self.chunks.saturating_add(1),
            finished: chunk.last,
            end: self.end + chunk.octets_in_file(),
            beyond: self.beyond - chunk.octets_in_file(),
        }))
    }

    /// The lengths that a file of this extent has to state; `data_size` as large as the field can be.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            data_size: u32::try_from(self.data_octets).unwrap_or(u32::MAX),
            chunks: self.chunks,
            finished: self.finished,
            end: self.end,
        }
    }

    /// The audio inside as [`Format::facts`] tells it of a plain file.
    #[must_use]
    pub fn facts(&self, front: &Front) -> Facts {
        let format = format_of(&front.header);
        // A last frame that is not whole is filled up when the file is decrypted.
        let stride = u64::from(format.stride);
        let mut facts = format.facts(HEADER_OCTETS as u64 + self.data_octets.div_ceil(stride) * stride);
        facts.problems.clear();
        if front.progress != self.progress() {
            let declared = front.progress.data_size;
            facts.problems.push(Problem::StaleDataSize { declared, actual: self.data_octets });
        }
        if self.beyond > 0 {
            facts.problems.push(Problem::PartialChunk { octets: self.beyond });
        }
        facts
    }
}

/// The format of the audio inside.
#[must_use]
pub fn format_of(header: &FileHeader) -> Format {
    Format {
        header: *header,
        byte_order: crate::header::ByteOrder::Little,
        layout: Layout::PayloadOnly,
        stride: header.rtp_len.max(1),
        uneven_octets: 0,
    }
}

/// The four octets before a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Octets of audio in it.
    pub octets: usize,
    /// Whether it is the last one.
    pub last: bool,
}

impl Chunk {
    /// The length field of the chunk.
    #[must_use]
    pub fn encode(self) -> [u8; 4] {
        let octets = u32::try_from(self.octets).unwrap_or(u32::MAX) & !LAST;
        (octets | if self.last { LAST } else { 0 }).to_le_bytes()
    }

    /// Parses a length field; `None` if it is longer than any chunk, or zero and not of the last one.
    #[must_use]
    pub fn parse(octets: [u8; 4]) -> Option<Self> {
        let word = u32::from_le_bytes(octets);
        let (octets, last) = (usize::try_from(word & !LAST).ok()?, word & LAST != 0);
        (octets <= MAX_CHUNK_OCTETS && (last || octets > 0)).then_some(Self { octets, last })
    }

    /// Octets of it in the file, these four included.
    #[must_use]
    pub fn octets_in_file(self) -> u64 {
        (self.octets + CHUNK_OVERHEAD_OCTETS) as u64
    }
}

/// Octets of audio that fit into a file of `file_limit` octets for a number of `recipients`, if each chunk is
/// full; each that is not takes [`CHUNK_OVERHEAD_OCTETS`] away. A last chunk is left room for.
#[must_use]
pub fn max_sealed_octets(file_limit: u64, recipients: usize) -> u64 {
    let head = (FRONT_OCTETS + key_header_octets_for(recipients) + NONCE_OCTETS) as u64;
    let (chunk, overhead) = (MAX_CHUNK_OCTETS as u64, CHUNK_OVERHEAD_OCTETS as u64);
    let limit = file_limit.min(crate::header::MAX_FILE_OCTETS);
    let room = limit.saturating_sub(head + 2 * overhead);
    room / (chunk + overhead) * chunk + (room % (chunk + overhead)).saturating_sub(overhead)
}

/// Octets of a header of age for a number of `recipients`.
#[must_use]
pub fn key_header_octets_for(recipients: usize) -> usize {
    22 + 98 * recipients + 48
}

const _: () = assert!(DATA_SIZE_OFFSET == FIXED_OCTETS as u64);

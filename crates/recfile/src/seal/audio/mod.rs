//! The audio of an encrypted recording: chunks that are written while the call goes on, and read in order.
//!
//! Owns: the key of a file's audio and the chunks themselves. Layout: [`crate::sealed`]. A chunk opens only
//! in its file, at its place, behind all those before it, and the last one says that it is the last. So a
//! file that was cut between two chunks is known to be cut, and one that was cut within a chunk loses this
//! one.

use super::age::{FileKey, Header, Identity, NONCE_OCTETS, Recipient, Stream, TAG_OCTETS};
use super::{Entropy, SealError};
use crate::header::{FileHeader, HeaderError};
use crate::sealed::{CHUNK_OVERHEAD_OCTETS, Chunk, FIXED_OCTETS, FRONT_OCTETS, Front, MAX_CHUNK_OCTETS};
use std::fmt;
use std::io::{self, Read};

/// The purpose of the key.
const INFO: &[u8] = b"recordd audio 1";

/// Key of the chunks. The part of the header that does not change goes into it: under another one nothing
/// opens.
pub(super) fn stream_of(key: &FileKey, nonce: &[u8], front: &[u8]) -> Stream {
    let fixed = &front[..front.len().min(FIXED_OCTETS)];
    Stream::new(key.derive(nonce, &[INFO, fixed]))
}

/// The key of a file that begins with `head`.
pub(super) fn file_key(front: &Front, head: &[u8], identities: &[Identity]) -> Result<FileKey, SealError> {
    Header::parse(head.get(front.key_header()).unwrap_or_default())?.unwrap(identities)
}

/// Makes the chunks of one file.
pub struct Sealer {
    stream: Stream,
    chunks: u64,
    /// Length, audio and tag of one chunk; its memory is there from the start.
    buffer: Vec<u8>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} chunks)", self.chunks)
    }
}

impl Sealer {
    /// A new file for `recipients`; returns its octets up to the first chunk.
    ///
    /// # Errors
    /// Those of the entropy, and `InvalidInput` for none or too many recipients.
    pub fn begin(
        header: &FileHeader,
        recipients: &[Recipient],
        entropy: Entropy<'_>,
    ) -> io::Result<(Self, Vec<u8>)> {
        let key = FileKey::generate(entropy)?;
        let wrapped = key.wrap(recipients, entropy)?;
        let mut nonce = [0; NONCE_OCTETS];
        entropy(&mut nonce)?;
        let front = Front::encode(header, wrapped.len());
        let sealer = Self {
            stream: stream_of(&key, &nonce, &front),
            chunks: 0,
            buffer: Vec::with_capacity(MAX_CHUNK_OCTETS + CHUNK_OVERHEAD_OCTETS),
        };
        Ok((sealer, [&front[..], &wrapped, &nonce].concat()))
    }

    /// Octets that the present chunk still takes.
    #[must_use]
    pub fn room(&self) -> usize {
        MAX_CHUNK_OCTETS - self.buffer.len().saturating_sub(4)
    }

    /// Octets of audio in the present chunk.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.buffer.len().saturating_sub(4)
    }

    /// Adds to the present chunk, which must have room.
    pub fn fill(&mut self, octets: &[u8]) {
        self.leave_room_for_length();
        self.buffer.extend_from_slice(&octets[..octets.len().min(self.room())]);
    }

    /// Adds `count` times `octet` to the present chunk, which must have room.
    pub fn fill_with(&mut self, octet: u8, count: usize) {
        self.leave_room_for_length();
        self.buffer.resize(self.buffer.len() + count.min(self.room()), octet);
    }

    fn leave_room_for_length(&mut self) {
        if self.buffer.is_empty() {
            self.buffer.extend_from_slice(&[0; 4]);
        }
    }

    /// The present chunk, ready to be written; the next one is empty. It is counted in any case: whether or
    /// not the disk takes it, no other chunk has its number, unless this is the last one.
    ///
    /// # Errors
    /// [`SealError::Altered`] for a chunk longer than the cipher takes: there is none.
    pub fn take(&mut self, last: bool) -> Result<&[u8], SealError> {
        self.leave_room_for_length();
        let octets = self.buffer.len() - 4;
        self.buffer[..4].copy_from_slice(&Chunk { octets, last }.encode());
        let tag = self.stream.seal(self.chunks, last, &mut self.buffer[4..])?;
        self.buffer.extend_from_slice(&tag);
        self.chunks += 1;
        Ok(&self.buffer)
    }

    /// The chunk taken is written.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// The file ends behind `chunks` chunks: those beyond were cut off again. Only its last chunk may follow.
    pub fn cut_to(&mut self, chunks: u64) {
        self.buffer.clear();
        self.chunks = chunks.min(self.chunks);
    }
}

/// The end of the audio of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last chunk.
    Whole,
    /// Without it: the recording was cut off, or the file was, behind whole chunks.
    CutOff {
        /// Octets of a chunk that is not whole.
        octets: u64,
    },
    /// At a chunk that was altered, or is not of this place and file; further octets are not read.
    Altered {
        /// Its number, from 0.
        chunk: u64,
        /// Its start in the file.
        at: u64,
    },
    /// Octets follow the last chunk.
    Beyond {
        /// Their start.
        at: u64,
    },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("whole"),
            Self::CutOff { octets: 0 } => {
                f.write_str("it has no end: the recording was cut off, or the file was")
            }
            Self::CutOff { octets } => {
                write!(f, "it is cut off within a chunk, of which {octets} octets are there")
            }
            Self::Altered { chunk, at } => {
                write!(f, "chunk {chunk}, at octet {at}, was altered, damaged, or moved there from elsewhere")
            }
            Self::Beyond { at } => write!(f, "something was put behind its end, at octet {at}"),
        }
    }
}

/// Reads the audio of a file, which is as long as the authenticated part.
pub struct Opener<R> {
    source: R,
    stream: Stream,
    front: Front,
    chunks: u64,
    at: u64,
    data_octets: u64,
    end: Option<End>,
    chunk: Vec<u8>,
}

/// The reason for which a file is not opened at all.
#[derive(Debug)]
pub enum OpenError {
    /// It does not begin like an encrypted recording.
    Header(HeaderError),
    /// Its key is not to be had.
    Seal(SealError),
    /// The disk failed.
    Io(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::Seal(error) => error.fmt(f),
            Self::Io(error) => write!(f, "reading failed: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<R> fmt::Debug for Opener<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({} chunks)", self.chunks)
    }
}

impl<R: Read> Opener<R> {
    /// Reads the beginning of a file and takes its key.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(mut source: R, identities: &[Identity]) -> Result<Self, OpenError> {
        let mut head = vec![0; FRONT_OCTETS];
        read_full(&mut source, &mut head)?;
        // The key header ends with a line that begins with ---.
        let (front, nonce) = loop {
            match Front::parse(&head) {
                Ok(front) if head.len() >= front.nonce().end => {
                    let nonce = head.get(front.nonce()).unwrap_or_default().to_vec();
                    break (front, nonce);
                }
                Err(error @ (HeaderError::TooShort { .. } | HeaderError::KeyHeader))
                    if head.len() >= FRONT_OCTETS + super::age::MAX_HEADER_OCTETS =>
                {
                    return Err(OpenError::Header(error));
                }
                Ok(_) | Err(HeaderError::TooShort { .. } | HeaderError::KeyHeader) => {}
                Err(error) => return Err(OpenError::Header(error)),
            }
            let mut one = [0; 1];
            if read_full(&mut source, &mut one)? == 0 {
                return Err(OpenError::Header(HeaderError::TooShort { octets: head.len() }));
            }
            head.push(one[0]);
        };
        let key = file_key(&front, &head, identities).map_err(OpenError::Seal)?;
        Ok(Self {
            source,
            stream: stream_of(&key, &nonce, &head),
            at: front.first_chunk(),
            front,
            chunks: 0,
            data_octets: 0,
            end: None,
            chunk: Vec::with_capacity(MAX_CHUNK_OCTETS),
        })
    }

    /// The beginning of the file.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// Octets of audio so far.
    pub fn data_octets(&self) -> u64 {
        self.data_octets
    }

    /// The kind of end, once `next` returns nothing more.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The audio of the next chunk; `None` at the end.
    ///
    /// # Errors
    /// The disk's.
    pub fn next_chunk(&mut self) -> io::Result<Option<&[u8]>> {
        if self.end.is_some() {
            return Ok(None);
        }
        let mut length = [0; 4];
        let got = read_full(&mut self.source, &mut length)?;
        if got < length.len() {
            self.end = Some(End::CutOff { octets: got as u64 });
            return Ok(None);
        }
        let altered = End::Altered { chunk: self.chunks, at: self.at };
        let Some(chunk) = Chunk::parse(length) else {
            self.end = Some(altered);
            return Ok(None);
        };
        self.chunk.resize(chunk.octets, 0);
        let mut tag = [0; TAG_OCTETS];
        let got = read_full(&mut self.source, &mut self.chunk)? + read_full(&mut self.source, &mut tag)?;
        if got < chunk.octets + TAG_OCTETS {
            self.end = Some(End::CutOff { octets: (length.len() + got) as u64 });
            return Ok(None);
        }
        if self.stream.open(self.chunks, chunk.last, &mut self.chunk, tag).is_err() {
            self.end = Some(altered);
            return Ok(None);
        }
        self.chunks += 1;
        self.at += chunk.octets_in_file();
        self.data_octets += chunk.octets as u64;
        if chunk.last {
            let more = read_full(&mut self.source, &mut [0; 1])? > 0;
            self.end = Some(if more { End::Beyond { at: self.at } } else { End::Whole });
        }
        Ok(Some(&self.chunk))
    }
}

fn read_full(source: &mut impl Read, octets: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < octets.len() {
        match source.read(&mut octets[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests;

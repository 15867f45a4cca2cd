//! An encrypted recording read as the plain one that it holds, from any place on.
//!
//! Owns: where each chunk is. Only octets that a chunk's tag authenticates are returned; whether the end of
//! the file is its own is told apart ([`PlainFile::is_finished`]). Memory grows with the number of chunks, 16
//! octets for each.

use super::age::{Identity, MAX_HEADER_OCTETS, NONCE_OCTETS, TAG_OCTETS};
use super::audio::{OpenError, file_key, stream_of};
use crate::header::{FileHeader, HEADER_OCTETS};
use crate::sealed::{Chunk, FRONT_OCTETS, Front};
use std::io::{self, Read, Seek, SeekFrom};

/// Chunks of a file at most: more than one of 4 GiB has in calls of 50 ms.
pub const MAX_CHUNKS: usize = 16 << 20;

/// The plain recording: header of 76 octets, audio, and a last frame filled up with silence.
#[derive(Debug)]
pub struct PlainFile<R> {
    source: R,
    stream: super::age::Stream,
    front: Front,
    header: FileHeader,
    /// The start of each chunk's audio, without the header, and the chunk's place in the file.
    chunks: Vec<(u64, u64)>,
    audio_octets: u64,
    finished: bool,
    beyond: u64,
    position: u64,
    /// The chunk that is decrypted.
    at_hand: Option<usize>,
    audio: Vec<u8>,
}

impl<R: Read + Seek> PlainFile<R> {
    /// Takes the key of a file and looks where its chunks are.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(mut source: R, identities: &[Identity]) -> Result<Self, OpenError> {
        let len = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(0))?;
        let mut head = Vec::new();
        let most = FRONT_OCTETS + MAX_HEADER_OCTETS + NONCE_OCTETS;
        source.by_ref().take(most as u64).read_to_end(&mut head)?;
        let front = Front::parse(&head).map_err(OpenError::Header)?;
        let key = file_key(&front, &head, identities).map_err(OpenError::Seal)?;
        let nonce = head.get(front.nonce()).unwrap_or_default();
        let mut it = Self {
            stream: stream_of(&key, nonce, &head),
            header: front.header,
            front,
            source,
            chunks: Vec::new(),
            audio_octets: 0,
            finished: false,
            beyond: 0,
            position: 0,
            at_hand: None,
            audio: Vec::new(),
        };
        it.find_chunks(len)?;
        let frame = u64::from(it.header.rtp_len).max(1);
        let octets = it.audio_octets.div_ceil(frame) * frame;
        it.header.data_size = u32::try_from(octets).unwrap_or(u32::MAX);
        Ok(it)
    }

    fn find_chunks(&mut self, len: u64) -> io::Result<()> {
        let mut at = self.front.first_chunk();
        self.source.seek(SeekFrom::Start(at))?;
        while !self.finished && self.chunks.len() < MAX_CHUNKS {
            let mut length = [0; 4];
            if at + 4 > len || self.source.read_exact(&mut length).is_err() {
                break;
            }
            let chunk = Chunk::parse(length).filter(|chunk| at + chunk.octets_in_file() <= len);
            let Some(chunk) = chunk else { break };
            self.chunks.push((self.audio_octets, at));
            self.audio_octets += chunk.octets as u64;
            self.finished = chunk.last;
            at += chunk.octets_in_file();
            self.source.seek(SeekFrom::Start(at))?;
        }
        self.beyond = len.saturating_sub(at);
        Ok(())
    }

    /// The beginning of the encrypted file.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// The plain recording's header, with the length that it has.
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Whether its last chunk is there. That it is the last one is proved when it is read.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Octets of the file behind its last whole chunk.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Octets of the plain recording.
    fn octets(&self) -> u64 {
        HEADER_OCTETS as u64 + u64::from(self.header.data_size)
    }

    /// Decrypts the chunk that holds `octet` of the audio; gives the octets from there on.
    fn audio_from(&mut self, octet: u64) -> io::Result<&[u8]> {
        let index = self.chunks.partition_point(|(begins, _)| *begins <= octet).saturating_sub(1);
        let Some(&(begins, at)) = self.chunks.get(index) else { return Ok(&[]) };
        if self.at_hand != Some(index) {
            self.at_hand = None;
            let altered = || {
                let text = format!("chunk {index}, at octet {at}, was altered, damaged, or moved there");
                io::Error::new(io::ErrorKind::InvalidData, text)
            };
            let mut length = [0; 4];
            self.source.seek(SeekFrom::Start(at))?;
            self.source.read_exact(&mut length)?;
            let chunk = Chunk::parse(length).ok_or_else(altered)?;
            self.audio.resize(chunk.octets, 0);
            let mut tag = [0; TAG_OCTETS];
            self.source.read_exact(&mut self.audio)?;
            self.source.read_exact(&mut tag)?;
            let opened = self.stream.open(index as u64, chunk.last, &mut self.audio, tag);
            opened.map_err(|_| altered())?;
            self.at_hand = Some(index);
        }
        let from = usize::try_from(octet - begins).unwrap_or(usize::MAX);
        Ok(self.audio.get(from..).unwrap_or_default())
    }

    /// Decrypts the last chunk, which holds no audio if the recording ended with a whole frame.
    ///
    /// # Errors
    /// The disk's, and `InvalidData` if it is not the last one of this file.
    pub fn check_end(&mut self) -> io::Result<()> {
        if self.finished { self.audio_from(self.audio_octets).map(|_| ()) } else { Ok(()) }
    }
}

impl<R: Read + Seek> Read for PlainFile<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let header = self.header.encode();
        let (position, end, audio) = (self.position, self.octets(), self.audio_octets);
        let left = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        let into = &mut into[..wanted];
        if into.is_empty() {
            return Ok(0);
        }
        let octet = position.checked_sub(HEADER_OCTETS as u64);
        let count = match octet {
            None => {
                let rest =
                    header.get(usize::try_from(position).unwrap_or(HEADER_OCTETS)..).unwrap_or_default();
                copy(rest, into)
            }
            Some(octet) if octet < audio => copy(self.audio_from(octet)?, into),
            Some(_) => {
                into.fill(self.header.codec.silence());
                into.len()
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

fn copy(from: &[u8], into: &mut [u8]) -> usize {
    let count = from.len().min(into.len());
    into[..count].copy_from_slice(&from[..count]);
    count
}

impl<R: Read + Seek> Seek for PlainFile<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.octets().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Reader;
    use crate::seal::age::tests::counting;
    use crate::seal::audio::Sealer;
    use media::codec::Codec;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn identity() -> Identity {
        Identity::generate(&mut counting(1)).unwrap()
    }

    fn sealed(chunks: &[Vec<u8>], finished: bool) -> Vec<u8> {
        let header = FileHeader::new(Codec::Pcmu, 20);
        let recipients = [identity().recipient()];
        let (mut sealer, mut file) = Sealer::begin(&header, &recipients, &mut counting(2)).unwrap();
        for chunk in chunks {
            sealer.fill(chunk);
            file.extend_from_slice(sealer.take(false).unwrap());
            sealer.clear();
        }
        if finished {
            file.extend_from_slice(sealer.take(true).unwrap());
        }
        file
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn from_any_place_on_it_reads_like_the_plain_recording(
            sizes in proptest::collection::vec(1..700_usize, 0..8), from in 0..4000_u64, finished: bool,
        ) {
            let chunks: Vec<Vec<u8>> = (7_u8..).zip(&sizes).map(|(octet, size)| vec![octet; *size]).collect();
            let mut audio = chunks.concat();
            audio.resize(audio.len().next_multiple_of(160), 0xFF);
            let data_size = u32::try_from(audio.len()).unwrap();
            let head = FileHeader { data_size, ..FileHeader::new(Codec::Pcmu, 20) };
            let whole = [&head.encode()[..], &audio].concat();
            let mut file = PlainFile::open(Cursor::new(sealed(&chunks, finished)), &[identity()]).unwrap();
            prop_assert_eq!((file.is_finished(), file.beyond()), (finished, 0));
            file.check_end().unwrap();
            let mut read = Vec::new();
            file.read_to_end(&mut read).unwrap();
            prop_assert_eq!(&read, &whole);
            file.seek(SeekFrom::Start(from)).unwrap();
            read.clear();
            file.read_to_end(&mut read).unwrap();
            let rest = whole.get(usize::try_from(from).unwrap()..).unwrap_or_default();
            prop_assert_eq!(&read[..], rest);
            let reader = Reader::open(file).unwrap();
            prop_assert!(reader.facts().problems.is_empty());
        }
    }

    #[test]
    fn an_altered_chunk_is_an_error_where_it_is_and_those_before_it_are_read() {
        let mut file = sealed(&[vec![1; 160], vec![2; 160]], true);
        let at = file.len() - 30;
        file[at] ^= 1;
        let mut file = PlainFile::open(Cursor::new(file), &[identity()]).unwrap();
        let mut audio = vec![0; HEADER_OCTETS + 160];
        file.read_exact(&mut audio).unwrap();
        assert_eq!(audio[HEADER_OCTETS..], [1; 160]);
        let error = file.read_exact(&mut audio[..1]).unwrap_err();
        assert!(error.to_string().contains("chunk 1"), "{error}");
    }

    #[test]
    fn an_end_that_only_says_so_is_an_error() {
        let mut file = sealed(&[vec![1; 160]], false);
        let at = file.len() - 180 + 3;
        file[at] |= 0x80;
        let mut file = PlainFile::open(Cursor::new(file), &[identity()]).unwrap();
        assert!(file.is_finished() && file.check_end().is_err());
    }
}

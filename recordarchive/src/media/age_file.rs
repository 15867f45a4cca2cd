//! An age file that is written piece by piece, and read from any place on.
//!
//! Owns: where each chunk of 64 KiB is. `age -d` opens the files written here. Invariants: only authenticated
//! octets are returned; a file that was cut off is an error at its end, whichever part is read.

use recfile::seal::SealError;
use recfile::seal::age::{
    CHUNK_OCTETS, FileKey, Header, Identity, MAX_HEADER_OCTETS, NONCE_OCTETS, Recipient, Stream, TAG_OCTETS,
};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// Octets of a whole chunk in the file.
const SEALED_OCTETS: u64 = (CHUNK_OCTETS + TAG_OCTETS) as u64;

fn damaged(error: SealError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Random octets of the system.
pub(crate) fn entropy(octets: &mut [u8]) -> io::Result<()> {
    getrandom::fill(octets).map_err(io::Error::other)
}

/// Writes an age file.
pub(crate) struct AgeWriter<W> {
    to: W,
    stream: Stream,
    chunk: Vec<u8>,
    number: u64,
}

impl<W: Write> AgeWriter<W> {
    /// Begins a file for one recipient.
    pub(crate) fn new(mut to: W, recipient: &Recipient) -> io::Result<Self> {
        let key = FileKey::generate(&mut entropy)?;
        to.write_all(&key.wrap(std::slice::from_ref(recipient), &mut entropy)?)?;
        let mut nonce = [0; NONCE_OCTETS];
        entropy(&mut nonce)?;
        to.write_all(&nonce)?;
        let stream = Stream::new(key.derive(&nonce, &[b"payload"]));
        Ok(Self { to, stream, chunk: Vec::with_capacity(CHUNK_OCTETS), number: 0 })
    }

    fn put(&mut self, last: bool) -> io::Result<()> {
        let tag = self.stream.seal(self.number, last, &mut self.chunk).map_err(damaged)?;
        self.to.write_all(&self.chunk)?;
        self.to.write_all(&tag)?;
        self.chunk.clear();
        self.number += 1;
        Ok(())
    }

    /// Writes these octets.
    pub(crate) fn write(&mut self, mut octets: &[u8]) -> io::Result<()> {
        while !octets.is_empty() {
            // A full chunk waits for more: the last one is marked.
            if self.chunk.len() == CHUNK_OCTETS {
                self.put(false)?;
            }
            let (now, later) = octets.split_at(octets.len().min(CHUNK_OCTETS - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            octets = later;
        }
        Ok(())
    }

    /// Ends the file.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.put(true)?;
        Ok(self.to)
    }
}

/// Reads an age file.
pub(crate) struct AgeReader {
    file: File,
    stream: Stream,
    /// The start of the first chunk.
    begins: u64,
    /// Octets in all.
    octets: u64,
    chunks: u64,
    position: u64,
    /// The chunk that is decrypted.
    at_hand: Option<u64>,
    chunk: Vec<u8>,
}

impl AgeReader {
    /// Opens a file with an identity.
    ///
    /// # Errors
    /// `InvalidData`: it is no age file, was changed or cut off, or is for another identity.
    pub(crate) fn open(file: File, identity: &Identity) -> io::Result<Self> {
        let mut head = vec![0; MAX_HEADER_OCTETS];
        let mut count = 0;
        while count < head.len() {
            match file.read_at(&mut head[count..], count as u64)? {
                0 => break,
                more => count += more,
            }
        }
        let header = Header::parse(&head[..count]).map_err(damaged)?;
        let key = header.unwrap(std::slice::from_ref(identity)).map_err(damaged)?;
        let mut nonce = [0; NONCE_OCTETS];
        file.read_exact_at(&mut nonce, header.octets as u64)?;
        let begins = (header.octets + NONCE_OCTETS) as u64;
        let body = file.metadata()?.len().saturating_sub(begins);
        let chunks = body.div_ceil(SEALED_OCTETS);
        let tags = chunks * TAG_OCTETS as u64;
        let octets = body.checked_sub(tags).filter(|_| chunks > 0);
        let octets = octets.ok_or_else(|| damaged(SealError::CutOff))?;
        let stream = Stream::new(key.derive(&nonce, &[b"payload"]));
        let mut reader =
            Self { file, stream, begins, octets, chunks, position: 0, at_hand: None, chunk: Vec::new() };
        // The last chunk says that it is the last one: a file that was cut off between two is known at once.
        reader.decrypt(chunks - 1)?;
        Ok(reader)
    }

    /// Octets in it.
    pub(crate) fn len(&self) -> u64 {
        self.octets
    }

    fn decrypt(&mut self, number: u64) -> io::Result<()> {
        if self.at_hand == Some(number) {
            return Ok(());
        }
        self.at_hand = None;
        let last = number + 1 == self.chunks;
        let octets = if last { self.octets - number * CHUNK_OCTETS as u64 } else { CHUNK_OCTETS as u64 };
        let at = self.begins + number * SEALED_OCTETS;
        self.chunk.resize(usize::try_from(octets).map_err(io::Error::other)?, 0);
        self.file.read_exact_at(&mut self.chunk, at)?;
        let mut tag = [0; TAG_OCTETS];
        self.file.read_exact_at(&mut tag, at + octets)?;
        self.stream.open(number, last, &mut self.chunk, tag).map_err(damaged)?;
        self.at_hand = Some(number);
        Ok(())
    }
}

impl Read for AgeReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.octets || to.is_empty() {
            return Ok(0);
        }
        let whole = CHUNK_OCTETS as u64;
        self.decrypt(self.position / whole)?;
        let from = usize::try_from(self.position % whole).map_err(io::Error::other)?;
        let rest = self.chunk.get(from..).unwrap_or_default();
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for AgeReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.octets.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use recfile::seal::age;
    use std::path::Path;

    fn written(folder: &Path, plain: &[u8], piece: usize, identity: &Identity) -> std::path::PathBuf {
        let path = folder.join("file.age");
        let mut writer = AgeWriter::new(File::create(&path).unwrap(), &identity.recipient()).unwrap();
        plain.chunks(piece).for_each(|piece| writer.write(piece).unwrap());
        writer.finish().unwrap();
        path
    }

    fn noise(octets: usize) -> Vec<u8> {
        (0..u32::try_from(octets).unwrap()).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
    }

    #[test]
    fn a_file_of_any_length_is_an_age_file_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::generate(&mut entropy).unwrap();
        for octets in [0, 1, CHUNK_OCTETS - 1, CHUNK_OCTETS, CHUNK_OCTETS + 1, 3 * CHUNK_OCTETS] {
            let plain = noise(octets);
            let path = written(folder.path(), &plain, 10_007, &identity);
            let opened = age::open(&std::fs::read(&path).unwrap(), std::slice::from_ref(&identity)).unwrap();
            assert!(opened == plain, "{octets}");
            let mut reader = AgeReader::open(File::open(&path).unwrap(), &identity).unwrap();
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == plain && reader.len() == octets as u64, "{octets}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_or_is_for_somebody_else_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::generate(&mut entropy).unwrap();
        let path = written(folder.path(), &noise(2 * CHUNK_OCTETS + 5), 4096, &identity);
        let other = Identity::generate(&mut entropy).unwrap();
        assert!(AgeReader::open(File::open(&path).unwrap(), &other).is_err());
        let whole = std::fs::read(&path).unwrap();
        let begins = whole.len() - 2 * (CHUNK_OCTETS + TAG_OCTETS) - 5 - TAG_OCTETS;
        for end in [0, 20, begins, begins + 1, begins + CHUNK_OCTETS + TAG_OCTETS, whole.len() - 1] {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert!(AgeReader::open(File::open(&path).unwrap(), &identity).is_err(), "{end}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_part_is_that_of_the_whole_or_an_error_if_its_chunk_was_changed(
            parts in proptest::collection::vec((0..200_000_u64, 1..70_000_usize), 1..6),
            flip in proptest::option::of(0..131_000_u64),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let identity = Identity::generate(&mut entropy).unwrap();
            let plain = noise(3 * CHUNK_OCTETS - 100);
            let path = written(folder.path(), &plain, 30_000, &identity);
            let mut octets = std::fs::read(&path).unwrap();
            let begins = octets.len() as u64 - (plain.len() + 3 * TAG_OCTETS) as u64;
            if let Some(flip) = flip {
                octets[usize::try_from(begins + flip).unwrap()] ^= 1;
                std::fs::write(&path, &octets).unwrap();
            }
            let mut reader = AgeReader::open(File::open(&path).unwrap(), &identity).unwrap();
            for (from, count) in parts {
                let from = from.min(plain.len() as u64);
                reader.seek(SeekFrom::Start(from)).unwrap();
                let mut part = Vec::new();
                let read = reader.by_ref().take(count as u64).read_to_end(&mut part);
                let from = usize::try_from(from).unwrap();
                prop_assert!(part == plain[from..from + part.len()], "nothing but the written octets");
                if flip.is_none() {
                    prop_assert!(read.is_ok() && part.len() == count.min(plain.len() - from));
                }
            }
        }
    }
}

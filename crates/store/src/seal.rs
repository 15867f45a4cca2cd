//! The keys by which the storage thread encrypts and signs, and a file that is being encrypted.
//!
//! Owns: where chunks begin and end in the file, and the chunks that can still be cut off when the disk is
//! full. Invariant: a flush ends with a chunk, so durable audio stays readable without the rest.

use super::fault::is_full;
use super::fs::{Fs, append_all};
use super::running_hash::RunningHash;
use crate::jobs::Piece;
use recfile::header::{DATA_SIZE_OFFSET, FileHeader};
use recfile::seal::age::Recipient;
use recfile::seal::audio::Sealer;
use recfile::seal::origin::SignKey;
use recfile::seal::sidecar;
use recfile::sealed::{FRONT_OCTETS, MAX_CHUNK_OCTETS, Progress};
use recfile::sidecar::Sidecar;
use sha2::{Digest, Sha256};
use std::io::{self, IoSlice};

/// Most ends of chunks that are remembered: full chunks of this number and one more are over the length that
/// a full disk gives up.
const MAX_MARKS: usize = 7;

/// The keys by which recordings are encrypted and signed.
#[derive(Clone, Debug, Default)]
pub struct Seals {
    /// To whom; nobody: they are not encrypted.
    pub recipients: Vec<Recipient>,
    /// By whom; nobody: they are not signed.
    pub sign_key: Option<SignKey>,
}

impl Seals {
    /// Whether recordings are encrypted.
    #[must_use]
    pub fn encrypts(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// A sidecar as it goes to the disk, signed if it is final and has a hash.
    ///
    /// # Errors
    /// Without randomness nothing is encrypted, and then nothing is written.
    pub(super) fn finish(&self, head: &FileHeader, mut sidecar: Sidecar) -> io::Result<Sidecar> {
        if let (Some(key), true) = (&self.sign_key, sidecar.sha256.is_some()) {
            sidecar.signature = Some(key.sign(head, &sidecar));
        }
        self.seal(sidecar)
    }

    /// A sidecar as it goes to the disk.
    ///
    /// # Errors
    /// Without randomness nothing is encrypted, and then nothing is written.
    pub(super) fn seal(&self, sidecar: Sidecar) -> io::Result<Sidecar> {
        if self.encrypts() { sidecar::seal(&sidecar, &self.recipients, &mut random) } else { Ok(sidecar) }
    }
}

/// The system's randomness. It may wait for it while the system starts, which the storage thread may.
pub(super) fn random(octets: &mut [u8]) -> io::Result<()> {
    getrandom::fill(octets).map_err(|error| io::Error::other(format!("no randomness: {error}")))
}

/// A file that is being encrypted.
#[derive(Debug)]
pub(super) struct Sealing {
    sealer: Sealer,
    /// The end of the last whole chunk.
    end: u64,
    chunks: u32,
    finished: bool,
    /// The hash of the file behind the fields that change while it is written.
    hash: Sha256,
    said: Progress,
    /// The ends of the last chunks, the oldest first.
    marks: [Option<Mark>; MAX_MARKS],
}

/// The end of a chunk.
#[derive(Clone, Debug)]
struct Mark {
    written: u64,
    end: u64,
    chunks: u32,
    hash: Sha256,
    of_audio: RunningHash,
}

impl Sealing {
    pub(super) fn begin(header: &FileHeader, seals: &Seals) -> io::Result<(Self, Vec<u8>)> {
        let (sealer, front) = Sealer::begin(header, &seals.recipients, &mut random)?;
        let mut hash = Sha256::new();
        hash.update(front.get(FRONT_OCTETS..).unwrap_or_default());
        let end = front.len() as u64;
        let said = Progress { end, ..Progress::default() };
        let marks = std::array::from_fn(|_| None);
        Ok((Self { sealer, end, chunks: 0, finished: false, hash, said, marks }, front))
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Appends audio and silence as whole chunks.
    pub(super) fn write_pieces<F: Fs>(
        &mut self,
        fs: &F,
        file: &mut F::File,
        pieces: &[Piece],
        silence: u8,
        written: &mut u64,
        of_audio: &mut RunningHash,
    ) -> io::Result<()> {
        self.mark(*written, of_audio);
        let result = self.append_pieces(fs, file, pieces, silence, written, of_audio);
        if result.is_err() {
            // Octets that did not become a whole chunk do not count.
            self.sealer.cut_to(self.chunks.into());
            if let Some(mark) = self.marks.last().and_then(Option::as_ref) {
                of_audio.clone_from(&mark.of_audio);
            }
        }
        result
    }

    fn append_pieces<F: Fs>(
        &mut self,
        fs: &F,
        file: &mut F::File,
        pieces: &[Piece],
        silence: u8,
        written: &mut u64,
        of_audio: &mut RunningHash,
    ) -> io::Result<()> {
        for piece in pieces {
            let mut done = 0;
            let octets = match piece {
                Piece::Audio(block) => block.octets().len() as u64,
                Piece::Silence(octets) => *octets,
            };
            while done < octets {
                let count = self.sealer.room().min(usize::try_from(octets - done).unwrap_or(usize::MAX));
                match piece {
                    Piece::Audio(block) => {
                        let from = usize::try_from(done).unwrap_or(usize::MAX);
                        let part = block.octets().get(from..from + count).unwrap_or_default();
                        of_audio.take(part);
                        self.sealer.fill(part);
                    }
                    Piece::Silence(_) => {
                        of_audio.take_repeated(silence, count);
                        self.sealer.fill_with(silence, count);
                    }
                }
                done += count as u64;
                if self.sealer.room() == 0 {
                    self.append(fs, file, written, of_audio)?;
                }
            }
        }
        if self.sealer.filled() > 0 { self.append(fs, file, written, of_audio) } else { Ok(()) }
    }

    fn append<F: Fs>(
        &mut self,
        fs: &F,
        file: &mut F::File,
        written: &mut u64,
        of_audio: &mut RunningHash,
    ) -> io::Result<()> {
        let octets = self.sealer.filled();
        let chunk = self.sealer.take(false).map_err(io::Error::other)?;
        append_all(fs, file, &mut [IoSlice::new(chunk)], &mut 0)?;
        self.hash.update(chunk);
        self.end += chunk.len() as u64;
        self.sealer.clear();
        self.chunks += 1;
        *written += octets as u64;
        of_audio.covers(*written);
        self.mark(*written, of_audio);
        Ok(())
    }

    fn mark(&mut self, written: u64, of_audio: &RunningHash) {
        if self.marks.iter().flatten().any(|mark| mark.written == written) {
            return;
        }
        self.marks.rotate_left(1);
        if let Some(last) = self.marks.last_mut() {
            let (end, chunks) = (self.end, self.chunks);
            *last = Some(Mark { written, end, chunks, hash: self.hash.clone(), of_audio: of_audio.clone() });
        }
    }

    /// Cuts off the chunks behind `keep` octets of audio, and the written part of one that did not fit.
    pub(super) fn cut_to<F: Fs>(
        &mut self,
        fs: &F,
        file: &F::File,
        keep: u64,
        written: &mut u64,
        of_audio: &mut RunningHash,
    ) {
        let known = || self.marks.iter().flatten();
        // The end of a chunk behind the octets to keep; the durable part always ends with one.
        let mark = known().find(|mark| mark.written >= keep).or_else(|| known().last());
        let Some(mark) = mark.cloned() else { return };
        if fs.set_len(file, mark.end).is_ok() {
            (self.end, self.chunks, self.hash) = (mark.end, mark.chunks, mark.hash);
            self.sealer.cut_to(u64::from(mark.chunks));
            *written = mark.written;
            *of_audio = mark.of_audio;
        }
    }

    /// Writes the last chunk: `missing` octets of silence. A disk without room for it leaves the file without
    /// an end.
    pub(super) fn finish<F: Fs>(
        &mut self,
        fs: &F,
        file: &F::File,
        missing: usize,
        silence: u8,
        written: &mut u64,
        of_audio: &mut RunningHash,
    ) -> io::Result<()> {
        self.sealer.clear();
        self.sealer.fill_with(silence, missing.min(MAX_CHUNK_OCTETS));
        let chunk = self.sealer.take(true).map_err(io::Error::other)?;
        match fs.write_at(file, chunk, self.end) {
            Ok(()) => {
                self.hash.update(chunk);
                self.end += chunk.len() as u64;
                fs.set_len(file, self.end)?;
                (self.chunks, self.finished) = (self.chunks + 1, true);
                of_audio.take_repeated(silence, missing);
                *written += missing as u64;
                of_audio.covers(*written);
            }
            Err(error) if is_full(&error) => fs.set_len(file, self.end)?,
            Err(error) => return Err(error),
        }
        self.sealer.clear();
        Ok(())
    }

    /// Writes how far the file goes, if that changes; whether it did.
    pub(super) fn promise<F: Fs>(&mut self, fs: &F, file: &F::File, written: u64) -> io::Result<bool> {
        let progress = Progress {
            data_size: u32::try_from(written).unwrap_or(u32::MAX),
            chunks: self.chunks,
            finished: self.finished,
            end: self.end,
        };
        if progress == self.said {
            return Ok(false);
        }
        fs.write_at(file, &progress.encode(), DATA_SIZE_OFFSET)?;
        self.said = progress;
        Ok(true)
    }

    pub(super) fn hash_of_file(&self) -> Option<String> {
        Some(recfile::seal::origin::hex(&self.hash.clone().finalize()))
    }
}

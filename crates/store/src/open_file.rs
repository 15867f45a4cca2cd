//! A recording file that is being written: the operations that the writers of phone and server share.
//!
//! Owns: its name and header, its written and its durable length, and the room it needs to be finished.
//! Never: when to sync, which makes the difference between the two writers. Invariant: `written` counts the
//! octets that the disk took, also after an error.

use super::fault::{fault, is_full};
use super::fs::{Fs, append_all};
use super::running_hash::RunningHash;
use super::seal::{Sealing, Seals};
use crate::jobs::{Fault, FaultKind, Piece};
use media::time::Wall;
use recfile::header::{DATA_SIZE_OFFSET, FileHeader, HEADER_OCTETS};
use recfile::name::{order_key, record_file_name};
use recfile::sidecar::Sidecar;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

/// Names tried one after another; then the folder is asked for the highest number of this second.
const MAX_NAME_ATTEMPTS: u32 = 9;

/// The number of looks for a free name: another program may take it in between.
const MAX_LOOKS: u32 = 3;

/// Octets of silence written at a time.
const SILENCE_OCTETS: usize = 4096;

/// Buffers handed to one write call.
const MAX_SLICES: usize = 16;

/// Octets given up again of a batch that filled the disk: a sidecar and its predecessor in clusters.
const ROOM_TO_FINISH_OCTETS: u64 = 64 * 1024;

/// The file.
#[derive(Debug)]
pub struct OpenFile<H> {
    /// The handle of the file system.
    pub handle: H,
    /// The folder.
    pub folder: PathBuf,
    /// Its name there.
    pub name: String,
    /// As it is on the disk.
    pub header: FileHeader,
    /// Octets of audio written.
    pub written: u64,
    /// Octets of audio that a power cut leaves.
    pub durable: u64,
    /// The fault after which it takes no more.
    pub fault: Option<Fault>,
    /// Of the audio, as far as it is written.
    hash: RunningHash,
    /// Its encryption, if it is encrypted.
    sealing: Option<Box<Sealing>>,
}

impl<H> OpenFile<H> {
    /// Makes an empty file in `folder`, named after `stamp`; the header is not written yet.
    ///
    /// # Errors
    /// As the system says, or that the folder has too many files of this second.
    pub fn create<F: Fs<File = H>>(
        fs: &F,
        folder: PathBuf,
        stamp: Wall,
        header: FileHeader,
    ) -> Result<Self, Fault> {
        let mut first = 1_u32;
        for _ in 0..MAX_LOOKS {
            for attempt in first..first.saturating_add(MAX_NAME_ATTEMPTS) {
                let name = record_file_name(stamp, attempt);
                match fs.create(&folder.join(&name)) {
                    Ok(handle) => {
                        return Ok(Self {
                            handle,
                            folder,
                            name,
                            header,
                            written: 0,
                            durable: 0,
                            fault: None,
                            hash: RunningHash::default(),
                            sealing: None,
                        });
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(fault("create", &folder.join(&name), &error)),
                }
            }
            first = highest_number(fs, &folder, stamp).saturating_add(1).max(first + MAX_NAME_ATTEMPTS);
        }
        let detail = format!("{} has a file of every name for this second", folder.display());
        Err(Fault { kind: FaultKind::Io, detail })
    }

    /// Takes the lock and writes the header.
    ///
    /// # Errors
    /// As the system says.
    pub fn begin<F: Fs<File = H>>(&mut self, fs: &F) -> io::Result<()> {
        self.lock(fs);
        append_all(fs, &mut self.handle, &mut [IoSlice::new(&self.header.encode())], &mut 0)
    }

    /// The same, of a file that is encrypted from here on.
    ///
    /// # Errors
    /// As the system says.
    pub fn begin_sealed<F: Fs<File = H>>(&mut self, fs: &F, seals: &Seals) -> io::Result<()> {
        self.lock(fs);
        let (sealing, front) = Sealing::begin(&self.header, seals)?;
        append_all(fs, &mut self.handle, &mut [IoSlice::new(&front)], &mut 0)?;
        self.sealing = Some(Box::new(sealing));
        Ok(())
    }

    fn lock<F: Fs<File = H>>(&self, fs: &F) {
        // Without the lock nothing is lost but that repair and recovery know the file is being written.
        let _ = fs.lock(&self.handle);
    }

    /// Octets of the file by now, header included.
    pub fn octets(&self) -> u64 {
        self.sealing.as_ref().map_or(HEADER_OCTETS as u64 + self.written, |it| it.end())
    }

    /// Folder and name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Appends audio and silence.
    ///
    /// # Errors
    /// As the system says.
    pub fn write_pieces<F: Fs<File = H>>(&mut self, fs: &F, pieces: &[Piece]) -> io::Result<()> {
        if let Some(sealing) = &mut self.sealing {
            let (handle, silence) = (&mut self.handle, self.header.codec.silence());
            return sealing.write_pieces(fs, handle, pieces, silence, &mut self.written, &mut self.hash);
        }
        let Self { hash, written, .. } = self;
        if *written == self.durable {
            hash.mark(*written);
        }
        let written = self.write_plain(fs, pieces);
        match &written {
            Ok(()) => self.hash.covers(self.written),
            Err(_) => self.hash.is_off(),
        }
        written
    }

    fn write_plain<F: Fs<File = H>>(&mut self, fs: &F, pieces: &[Piece]) -> io::Result<()> {
        let silent = pieces.iter().any(|piece| matches!(piece, Piece::Silence(_)));
        let silence = if silent { vec![self.header.codec.silence(); SILENCE_OCTETS] } else { Vec::new() };
        // On the stack: a flush asks for no memory.
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut used = 0;
        for piece in pieces {
            let mut left = match piece {
                Piece::Audio(block) => {
                    self.hash.take(block.octets());
                    slices[used] = IoSlice::new(block.octets());
                    used += 1;
                    0
                }
                Piece::Silence(octets) => *octets,
            };
            loop {
                if used == MAX_SLICES {
                    append_all(fs, &mut self.handle, &mut slices, &mut self.written)?;
                    used = 0;
                }
                if left == 0 {
                    break;
                }
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(SILENCE_OCTETS);
                self.hash.take(&silence[..count]);
                slices[used] = IoSlice::new(&silence[..count]);
                used += 1;
                left -= count as u64;
            }
        }
        append_all(fs, &mut self.handle, &mut slices[..used], &mut self.written)
    }

    /// Gives up the end of an append that did not fit and was not acknowledged, so that header and final
    /// sidecar find room; otherwise the recording would look interrupted. Nothing, if `fault` is not about
    /// room.
    pub fn make_room_to_finish<F: Fs<File = H>>(&mut self, fs: &F, fault: FaultKind) {
        if !fault.lets_finish() {
            return;
        }
        if let Some(sealing) = &mut self.sealing {
            let keep = self.written.saturating_sub(ROOM_TO_FINISH_OCTETS).max(self.durable);
            sealing.cut_to(fs, &self.handle, keep, &mut self.written, &mut self.hash);
            return;
        }
        // A file that may not grow has a header already, and the disk has room for the sidecar.
        if fault == FaultKind::TooLarge {
            return;
        }
        let frame = self.frame_octets();
        let keep =
            self.written.saturating_sub(ROOM_TO_FINISH_OCTETS).max(self.durable).div_ceil(frame) * frame;
        if keep < self.written && fs.set_len(&self.handle, HEADER_OCTETS as u64 + keep).is_ok() {
            self.written = keep;
            self.hash.is_off();
        }
    }

    /// Pads the last frame with silence; a disk without room for that loses the part of a frame instead.
    ///
    /// # Errors
    /// As the system says.
    pub fn complete_frame<F: Fs<File = H>>(&mut self, fs: &F) -> io::Result<()> {
        let frame = self.frame_octets();
        let missing = usize::try_from((frame - self.written % frame) % frame).unwrap_or_default();
        if let Some(sealing) = &mut self.sealing {
            let silence = self.header.codec.silence();
            return sealing.finish(fs, &self.handle, missing, silence, &mut self.written, &mut self.hash);
        }
        if missing == 0 {
            return Ok(());
        }
        let silence = vec![self.header.codec.silence(); missing];
        self.hash.take(&silence);
        match append_all(fs, &mut self.handle, &mut [IoSlice::new(&silence)], &mut self.written) {
            Err(error) if is_full(&error) => {
                self.written = self.whole_frames();
                self.hash.is_off();
                fs.set_len(&self.handle, HEADER_OCTETS as u64 + self.written)
            }
            result => {
                self.hash.covers(self.written);
                result
            }
        }
    }

    /// Writes the number of octets in whole frames into the header, if it changes; returns whether it did.
    ///
    /// # Errors
    /// As the system says.
    pub fn promise<F: Fs<File = H>>(&mut self, fs: &F) -> io::Result<bool> {
        if let Some(sealing) = &mut self.sealing {
            self.header.data_size = u32::try_from(self.written).unwrap_or(u32::MAX);
            return sealing.promise(fs, &self.handle, self.written);
        }
        let data_size = u32::try_from(self.whole_frames()).unwrap_or(u32::MAX);
        if self.header.data_size == data_size {
            return Ok(false);
        }
        fs.write_at(&self.handle, &data_size.to_le_bytes(), DATA_SIZE_OFFSET)?;
        self.header.data_size = data_size;
        Ok(true)
    }

    /// Fills in the fields of a final sidecar that come from the file.
    pub fn describe<F: Fs<File = H>>(&mut self, fs: &F, sidecar: &mut Sidecar) {
        sidecar.file.clone_from(&self.name);
        if self.sealing.is_none() && !self.hash.is_of(self.written) {
            // The hash covers octets that had no room, too, so the file is read again.
            let _ = self.hash.read_again(fs, &self.handle, HEADER_OCTETS as u64, self.written);
        }
        sidecar.sha256 = self.hash.hex_of(self.written);
        sidecar.sealed_sha256 = self.sealing.as_ref().and_then(|it| it.hash_of_file());
        sidecar.data_bytes = self.written;
        let frames = self.written / self.frame_octets();
        sidecar.duration_ms =
            self.header.codec.clock_rate().ticks_to_ms(frames * u64::from(self.header.increment));
    }

    fn frame_octets(&self) -> u64 {
        u64::from(self.header.rtp_len).max(1)
    }

    fn whole_frames(&self) -> u64 {
        self.written / self.frame_octets() * self.frame_octets()
    }
}

/// The highest number that a file of this second has: each look at one name may take a pass over the folder.
fn highest_number<F: Fs>(fs: &F, folder: &Path, stamp: Wall) -> u32 {
    let plain = record_file_name(stamp, 1);
    let stem = order_key(&plain).0;
    let mut highest = 1;
    let _ = fs.names(folder, &mut |name| {
        let (found, number) = order_key(name);
        // A number near the end would leave none.
        if found.eq_ignore_ascii_case(stem) && number < u32::MAX / 2 {
            highest = highest.max(number);
        }
    });
    highest
}

/// A disk may have been unmounted after it was looked at: then the file just created is somewhere else. It
/// goes again.
///
/// # Errors
/// [`FaultKind::NoStorage`] if the open file is not on `device`, or as the system says.
pub fn check_handle<F: Fs>(fs: &F, file: &OpenFile<F::File>, device: u64) -> Result<(), Fault> {
    let found = fs.device_of(&file.handle).map_err(|error| fault("look at", &file.path(), &error))?;
    if found.is_none_or(|found| found == device) {
        return Ok(());
    }
    let _ = fs.remove(&file.path());
    let detail = format!("the disk at {} went while a file was created; put it back", file.folder.display());
    Err(Fault { kind: FaultKind::NoStorage, detail })
}

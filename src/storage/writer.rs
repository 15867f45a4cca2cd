//! The writer: jobs in, answers out, and the order of operations that keeps every file openable.
//!
//! Order of a flush: audio, then `fdatasync`, then `dataSize`. So `dataSize` never promises what the disk
//! does not have, and goes out with the next flush: the first sector is written once per flush at most.
//! At the end everything is synced twice, as vfat needs it: `syncfs` mends a directory entry that
//! `fdatasync` may leave at size 0, `fdatasync` makes the stick empty its own cache. The sidecar that
//! calls the file finished is written once the exact header is durable. Invariants: the first failed sync of a file is final (on a
//! dead disk the next one may return success); a descriptor is closed as soon as its file has failed for
//! good, so that nothing keeps a dead mount busy; on a full disk what was written stays.

use super::fs::Fs;
use super::library::Shelf;
use super::{recover, speed};
use crate::file::header::{DATA_SIZE_OFFSET, FileHeader, HEADER_OCTETS};
use crate::file::name::{is_record_file_name, record_file_name, sidecar_name};
use crate::file::sidecar::{MAX_SIDECAR_OCTETS, Sidecar, SidecarState};
use crate::jobs::{
    Done, Fault, FaultKind, FileKey, Folder, Job, Open, Opened, Piece, Recovered, Space, Speed,
};
use crate::time::{Mono, Wall};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names tried for one second before giving up.
const MAX_NAME_ATTEMPTS: u32 = 999;

/// The page that the header is on.
const HEADER_PAGE_OCTETS: u32 = 4096;

/// Octets of silence written at a time.
const SILENCE_OCTETS: usize = 4096;

/// Buffers handed to one write call.
const MAX_SLICES: usize = 64;

/// Of a batch that filled the disk, so much is given up again: a sidecar and its predecessor in clusters.
const ROOM_TO_FINISH_OCTETS: u64 = 64 * 1024;

/// Room set aside at a time on filesystems that need it: half a minute of a call.
const SET_ASIDE_OCTETS: u64 = 256 * 1024;

/// Room is set aside anew when less than this is left: several flushes of a call.
const SET_ASIDE_AGAIN_OCTETS: u64 = 64 * 1024;

/// The room on the disk is looked at this often.
const SPACE_INTERVAL: Duration = Duration::from_secs(5);

/// Does the jobs of the agent on a filesystem.
pub struct Writer<F: Fs> {
    pub(super) fs: F,
    pub(super) shelf: Shelf,
    clock: fn() -> Mono,
    files: BTreeMap<FileKey, OpenFile<F::File>>,
    space_seen: Option<Mono>,
}

struct OpenFile<H> {
    handle: H,
    folder: PathBuf,
    name: String,
    header: FileHeader,
    /// Id of the recording.
    recording: String,
    /// Octets of audio that room is set aside for.
    set_aside: u64,
    /// Octets of audio written, durable, and promised by the header.
    written: u64,
    durable: u64,
    fault: Option<Fault>,
}

impl<F: Fs> Writer<F> {
    /// A writer on `fs`; `clock` measures how long the disk takes.
    pub fn new(fs: F, clock: fn() -> Mono) -> Self {
        Self { fs, shelf: Shelf::default(), clock, files: BTreeMap::new(), space_seen: None }
    }

    /// Does one job.
    pub fn handle(&mut self, job: Job) -> Done {
        match job {
            Job::Scan(target) => Done::Scanned(self.fs.scan(&target)),
            Job::Open(open) => Done::Opened { file: open.file, result: self.open(open) },
            Job::Append { file, pieces, flush } => self.append(file, pieces, flush),
            Job::Close { file, sidecar } => Done::Closed { file, result: self.close(file, *sidecar) },
            Job::Abandon(file) => {
                self.files.remove(&file);
                Done::Abandoned(file)
            }
            Job::Recover(folder) => Done::Recovered(self.recover(&folder)),
            Job::Mend(mend) => {
                let checked = self.check_device(&mend.folder);
                let result = checked.and_then(|()| recover::mend(&self.fs, &mend));
                Done::Mended { file: mend.file, result }
            }
            Job::MeasureSpeed(folder) => Done::SpeedMeasured(self.measure_speed(&folder)),
            Job::DeleteOldest(folder) => self.delete_oldest(&folder),
            Job::Library(job) => Done::Library(self.library(job)),
            Job::Eject(folder) => {
                let ejected = self.fs.eject(&folder.root);
                Done::Ejected(ejected.map_err(|error| fault("sync the disk at", &folder.root, &error)))
            }
        }
    }

    fn open(&mut self, open: Open) -> Result<Opened, Fault> {
        let folder = open.folder.path();
        self.check_device(&open.folder)?;
        if !open.folder.name.is_empty() {
            self.fs.create_folder(&folder).map_err(|error| fault("create the folder", &folder, &error))?;
            // vfat keeps the sectors of a folder made since the mount with its parent: until that is synced,
            // syncing the folder writes none of its names.
            let root = &open.folder.root;
            self.fs.sync_folder(root).map_err(|error| fault("sync the folder", root, &error))?;
        }
        let space = self.fs.space(&folder).map_err(|error| fault("look at", &folder, &error))?;
        let (handle, name) = self.create(&folder, open.stamp)?;
        let mut sidecar = *open.sidecar;
        let (header, recording) = (open.header, sidecar.recording.clone());
        let mut file = OpenFile {
            handle,
            folder,
            name,
            header,
            recording,
            set_aside: 0,
            written: 0,
            durable: 0,
            fault: None,
        };
        sidecar.file.clone_from(&file.name);
        if let Err(fault) = self.begin(&mut file, &sidecar) {
            // Nothing was recorded yet: leave no empty shell behind.
            for name in [file.name.clone(), sidecar_name(&file.name)] {
                let _ = self.fs.remove(&file.folder.join(name));
            }
            return Err(fault);
        }
        let opened = Opened { path: file.path(), name: file.name.clone(), space };
        self.files.insert(open.file, file);
        Ok(opened)
    }

    /// The stick may have been pulled and its mount point be a plain folder in RAM by now.
    pub(super) fn check_device(&self, folder: &Folder) -> Result<(), Fault> {
        let device = self.fs.device(&folder.root);
        if device.as_ref().is_ok_and(|device| *device == folder.device) {
            return Ok(());
        }
        let detail = format!("the disk at {} is gone; insert it again", folder.root.display());
        Err(Fault { kind: FaultKind::NoStorage, detail })
    }

    fn create(&self, folder: &Path, stamp: Wall) -> Result<(F::File, String), Fault> {
        for attempt in 1..=MAX_NAME_ATTEMPTS {
            let name = record_file_name(stamp, attempt);
            match self.fs.create(&folder.join(&name)) {
                Ok(handle) => return Ok((handle, name)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(fault("create", &folder.join(&name), &error)),
            }
        }
        let detail = format!("{} has {MAX_NAME_ATTEMPTS} files of this second", folder.display());
        Err(Fault { kind: FaultKind::Io, detail })
    }

    fn begin(&self, file: &mut OpenFile<F::File>, sidecar: &Sidecar) -> Result<(), Fault> {
        let path = file.path();
        let failed = |error: io::Error| fault("create", &path, &error);
        // Without the lock nothing is lost but the warning of a repair tool.
        let _ = self.fs.lock(&file.handle);
        self.write_all(&mut file.handle, &mut [IoSlice::new(&file.header.encode())], &mut 0)
            .map_err(failed)?;
        self.set_aside(file, 0);
        // From here on a cut leaves a file that opens.
        self.fs.sync_data(&file.handle).map_err(failed)?;
        self.write_sidecar(&file.folder, &file.name, sidecar)?;
        self.fs.sync_folder(&file.folder).map_err(failed)
    }

    fn append(&mut self, key: FileKey, pieces: Vec<Piece>, flush: bool) -> Done {
        let started = (self.clock)();
        let Some(mut file) = self.files.remove(&key) else {
            let detail = "the file was closed before".into();
            let result = Err(Fault { kind: FaultKind::Io, detail });
            return Done::Appended { file: key, pieces, durable_octets: 0, took: Duration::ZERO, result };
        };
        if file.fault.is_none() {
            file.fault = self.write_pieces(&mut file, &pieces, flush).err();
            if file.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Full) {
                self.make_room_to_finish(&mut file);
            }
        }
        let took = (self.clock)().since(started);
        let result = match file.fault.clone() {
            Some(fault) => Err(fault),
            None => Ok(self.space_if_due(&file.folder, started)),
        };
        let durable_octets = file.durable;
        // A full disk still has a file to finish. Any other failure is final, and the descriptor goes at once.
        if file.fault.as_ref().is_none_or(|fault| fault.kind == FaultKind::Full) {
            self.files.insert(key, file);
        }
        Done::Appended { file: key, pieces, durable_octets, took, result }
    }

    fn write_pieces(&self, file: &mut OpenFile<F::File>, pieces: &[Piece], flush: bool) -> Result<(), Fault> {
        let path = file.path();
        let silent = pieces.iter().any(|piece| matches!(piece, Piece::Silence(_)));
        let silence = vec![file.header.codec.silence(); if silent { SILENCE_OCTETS } else { 0 }];
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(MAX_SLICES);
        let failed = |error: io::Error| fault("write", &path, &error);
        for piece in pieces {
            let mut left = match piece {
                Piece::Audio(block) => {
                    slices.push(IoSlice::new(block.octets()));
                    0
                }
                Piece::Silence(octets) => *octets,
            };
            loop {
                if slices.len() == MAX_SLICES {
                    self.write_all(&mut file.handle, &mut slices, &mut file.written).map_err(failed)?;
                    slices.clear();
                }
                if left == 0 {
                    break;
                }
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(SILENCE_OCTETS);
                slices.push(IoSlice::new(&silence[..count]));
                left -= count as u64;
            }
        }
        self.write_all(&mut file.handle, &mut slices, &mut file.written).map_err(failed)?;
        // After the write, so that what is set aside is durable before the length comes near it.
        self.set_aside(file, file.written);
        if flush {
            self.flush(file).map_err(|error| fault("sync", &path, &error))?;
        }
        Ok(())
    }

    /// Gives up the end of what did not fit, none of which was acknowledged, so that header and final
    /// sidecar find room; otherwise the recording would look interrupted.
    fn make_room_to_finish(&self, file: &mut OpenFile<F::File>) {
        let frame = u64::from(file.header.rtp_len).max(1);
        let keep =
            file.written.saturating_sub(ROOM_TO_FINISH_OCTETS).max(file.durable).div_ceil(frame) * frame;
        if keep < file.written && self.fs.set_len(&file.handle, HEADER_OCTETS as u64 + keep).is_ok() {
            file.written = keep;
        }
    }

    /// Keeps room ahead of the `written` octets: vfat makes a length durable before the clusters that it
    /// needs, so a file pulled at that moment would end in octets that can't be read.
    fn set_aside(&self, file: &mut OpenFile<F::File>, written: u64) {
        if written + SET_ASIDE_AGAIN_OCTETS > file.set_aside {
            file.set_aside = written + SET_ASIDE_OCTETS;
            self.fs.set_aside(&file.handle, HEADER_OCTETS as u64 + file.set_aside);
        }
    }

    /// Writes everything and adds to `written` what the disk took, also in the case of an error.
    fn write_all(
        &self,
        handle: &mut F::File,
        slices: &mut [IoSlice<'_>],
        written: &mut u64,
    ) -> io::Result<()> {
        append_all(&self.fs, handle, slices, written)
    }

    fn flush(&self, file: &mut OpenFile<F::File>) -> io::Result<()> {
        if file.durable != file.written {
            self.fs.sync_data(&file.handle)?;
            file.durable = file.written;
        }
        self.promise(file, file.whole_frames())?;
        // On its way now, the header is not another page that the next sync sleeps for.
        self.fs.start_writing(&file.handle, HEADER_PAGE_OCTETS);
        Ok(())
    }

    /// Writes `dataSize`, if it changes.
    fn promise(&self, file: &mut OpenFile<F::File>, octets: u64) -> io::Result<()> {
        let data_size = u32::try_from(octets).unwrap_or(u32::MAX);
        if file.header.data_size != data_size {
            self.fs.write_at(&file.handle, &data_size.to_le_bytes(), DATA_SIZE_OFFSET)?;
            file.header.data_size = data_size;
        }
        Ok(())
    }

    fn close(&mut self, key: FileKey, sidecar: Sidecar) -> Result<Option<Space>, Fault> {
        let Some(mut file) = self.files.remove(&key) else {
            return Err(Fault { kind: FaultKind::Io, detail: "the file was closed before".into() });
        };
        let path = file.path();
        let failed = |error: io::Error| fault("finish", &path, &error);
        match file.fault.take() {
            Some(fault) if fault.kind != FaultKind::Full => return Err(fault),
            _ => {}
        }
        self.complete_frame(&mut file).map_err(failed)?;
        self.fs.give_back(&file.handle, HEADER_OCTETS as u64 + file.written).map_err(failed)?;
        self.flush(&mut file).map_err(failed)?;
        // The exact header is durable before a sidecar says that it is exact.
        self.fs.sync_data(&file.handle).map_err(failed)?;
        let mut sidecar = sidecar;
        sidecar.file.clone_from(&file.name);
        sidecar.data_bytes = file.written;
        sidecar.duration_ms = file.duration_ms();
        // A full disk may have no room for another sidecar: the recording itself is what counts.
        let beside = self.write_sidecar(&file.folder, &file.name, &sidecar);
        self.fs.sync_folder(&file.folder).map_err(failed)?;
        self.sync_whole(&file.handle).map_err(failed)?;
        match beside {
            Err(fault) if fault.kind != FaultKind::Full => Err(fault),
            _ => Ok(self.fs.space(&file.folder).ok()),
        }
    }

    /// Pads the last frame with silence; a disk without room for that loses the part of a frame instead.
    fn complete_frame(&self, file: &mut OpenFile<F::File>) -> io::Result<()> {
        let frame = u64::from(file.header.rtp_len).max(1);
        let missing = usize::try_from((frame - file.written % frame) % frame).unwrap_or_default();
        if missing == 0 {
            return Ok(());
        }
        let silence = vec![file.header.codec.silence(); missing];
        let mut slices = [IoSlice::new(&silence)];
        match self.write_all(&mut file.handle, &mut slices, &mut file.written) {
            Err(error) if is_full(&error) => {
                file.written = file.whole_frames();
                self.fs.set_len(&file.handle, HEADER_OCTETS as u64 + file.written)
            }
            result => result,
        }
    }

    /// Makes names, sizes and content durable, in the stick's own cache too.
    fn sync_whole(&self, handle: &F::File) -> io::Result<()> {
        self.fs.sync_fs(handle)?;
        self.fs.sync_data(handle)
    }

    fn recover(&self, folder: &Folder) -> Vec<Recovered> {
        let path = folder.path();
        match self.check_device(folder) {
            Ok(()) => recover::recover(&self.fs, &path, |name| self.is_open(&path, name)),
            Err(_) => Vec::new(),
        }
    }

    fn measure_speed(&self, folder: &Folder) -> Result<Option<Speed>, Fault> {
        if !self.files.is_empty() {
            return Ok(None);
        }
        self.check_device(folder)?;
        let measured = speed::measure(&self.fs, &folder.root, self.clock);
        measured.map(Some).map_err(|error| fault("try the speed of", &folder.root, &error))
    }

    /// Puts a sidecar in place, whole or not at all.
    pub(super) fn write_sidecar(
        &self,
        folder: &Path,
        wav_name: &str,
        sidecar: &Sidecar,
    ) -> Result<(), Fault> {
        let name = sidecar_name(wav_name);
        recover::replace_sidecar(&self.fs, folder, &name, sidecar)
            .map_err(|error| fault("write", &folder.join(&name), &error))
    }

    /// Deletes the oldest recording that is ours, finished, not protected and of no call that is running.
    fn delete_oldest(&self, folder: &Folder) -> Done {
        let path = folder.path();
        if self.check_device(folder).is_err() {
            return Done::Deleted { file: None, space: None };
        }
        let running: Vec<&str> = self.files.values().map(|file| file.recording.as_str()).collect();
        let mut names: Vec<String> = self
            .fs
            .list(&path)
            .unwrap_or_default()
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| is_record_file_name(name) && !self.is_open(&path, name) && !self.is_kept(name))
            .collect();
        names.sort_unstable();
        let oldest = names
            .into_iter()
            .filter_map(|name| {
                let json = self.fs.read(&path.join(sidecar_name(&name)), MAX_SIDECAR_OCTETS).ok()?;
                let sidecar = Sidecar::parse(&json).ok()?;
                let ours = sidecar.state == SidecarState::Ended
                    && !sidecar.protected
                    && !sidecar.recording.is_empty()
                    && !running.contains(&sidecar.recording.as_str());
                ours.then_some((Wall::from_rfc3339(&sidecar.start).map(|wall| wall.unix_ms), name))
            })
            .min();
        let deleted = oldest.map(|(_, name)| name).filter(|name| self.fs.remove(&path.join(name)).is_ok());
        if let Some(name) = &deleted {
            let _ = self.fs.remove(&path.join(sidecar_name(name)));
        }
        Done::Deleted { file: deleted, space: self.fs.space(&path).ok() }
    }

    pub(super) fn is_open(&self, folder: &Path, name: &str) -> bool {
        self.files.values().any(|file| file.folder == folder && file.name == name)
    }

    fn space_if_due(&mut self, folder: &Path, now: Mono) -> Option<Space> {
        if self.space_seen.is_some_and(|seen| now.since(seen) < SPACE_INTERVAL) {
            return None;
        }
        self.space_seen = Some(now);
        self.fs.space(folder).ok()
    }
}

impl<H> OpenFile<H> {
    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn whole_frames(&self) -> u64 {
        let frame = u64::from(self.header.rtp_len).max(1);
        self.written / frame * frame
    }

    fn duration_ms(&self) -> u64 {
        let frames = self.written / u64::from(self.header.rtp_len).max(1);
        self.header.codec.clock_rate().ticks_to_ms(frames * u64::from(self.header.increment))
    }
}

/// Appends everything and adds to `written` what the disk took, also in the case of an error.
///
/// # Errors
/// As the system says; a disk that takes nothing is full.
pub fn append_all<F: Fs>(
    fs: &F,
    handle: &mut F::File,
    mut slices: &mut [IoSlice<'_>],
    written: &mut u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match fs.append(handle, slices) {
            Ok(0) => return Err(Errno::ENOSPC.into()),
            Ok(count) => {
                *written += count as u64;
                IoSlice::advance_slices(&mut slices, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an operation failed for want of room.
pub(super) fn is_full(error: &io::Error) -> bool {
    kind_of(error) == FaultKind::Full
}

fn kind_of(error: &io::Error) -> FaultKind {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => FaultKind::Full,
        Some(Errno::EROFS) => FaultKind::ReadOnly,
        Some(Errno::EACCES | Errno::EPERM) => FaultKind::Denied,
        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ENXIO | Errno::ENODEV) => FaultKind::NoStorage,
        _ => FaultKind::Io,
    }
}

/// A failure in the agent's terms: what, where, why.
#[must_use]
pub fn fault(operation: &str, path: &Path, error: &io::Error) -> Fault {
    Fault { kind: kind_of(error), detail: format!("cannot {operation} {}: {error}", path.display()) }
}

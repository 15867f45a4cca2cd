//! Finished recordings on the disk: looked at, deleted, protected, read for playback.
//!
//! Owns: the effect of each [`LibraryJob`] on the filesystem. Nothing stays open between jobs, so nothing
//! here keeps a disk from being unmounted. Invariant: only plain files of the recording folder are touched,
//! never through a link, and none that is being written.

use super::disks::Disks;
use super::fault::fault;
use super::fs::Fs;
use super::names::Gathering;
use super::on_disk::{check_device, check_on_disk, is_locked, why_really};
use super::open_files::OpenFiles;
use super::patience::Patience;
use super::recover::recover_file;
use super::sidecar_file::{read_sidecar, remove_leftovers, replace_or_fault};
use crate::jobs::library::{
    Details, FileSummary, FramesRead, Index, Indexed, LibraryDone, LibraryError, LibraryJob, Playable,
    ReadFrames, SidecarSummary,
};
use crate::jobs::{FaultKind, Folder};
use media::time::Mono;
use nix::errno::Errno;
use recfile::format::{Facts, Format};
use recfile::header::{HEADER_OCTETS, HeaderError};
use recfile::name::{is_record_file_name, sidecar_name};
use recfile::sealed::Front;
use recfile::sidecar::Sidecar;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Octets of a file that are looked at: its header and enough to tell whole packets from payloads.
const HEAD_OCTETS: usize = 4096;

/// The state kept between jobs, to spare work.
#[derive(Debug, Default)]
pub(super) struct LibraryCache {
    /// The names that follow `after` in `folder`, the newest first, for the next step of an index.
    upcoming: VecDeque<String>,
    folder: PathBuf,
    after: Option<String>,
    /// The pass over the folder that gathers them, if it is under way.
    pass: Option<Gathering>,
    scratch: Vec<u8>,
    /// Files that are being played.
    kept: Vec<String>,
}

impl LibraryCache {
    /// Files that are being played: they must not be deleted to make room.
    pub(super) fn kept(&self) -> &[String] {
        &self.kept
    }
}

/// The finished recordings, beside the files that are written.
pub(super) struct Library<'a, F, O> {
    fs: &'a F,
    clock: fn() -> Mono,
    open: &'a O,
    cache: &'a mut LibraryCache,
    has_changed: bool,
}

impl<'a, F: Fs + Disks, O: OpenFiles> Library<'a, F, O> {
    pub(super) fn new(fs: &'a F, clock: fn() -> Mono, open: &'a O, cache: &'a mut LibraryCache) -> Self {
        Self { fs, clock, open, cache, has_changed: false }
    }

    /// Whether something was changed that a search for the oldest recording may have looked at.
    pub(super) fn has_changed(&self) -> bool {
        self.has_changed
    }

    pub(super) fn handle(&mut self, job: LibraryJob) -> LibraryDone {
        match job {
            LibraryJob::Index(index) => LibraryDone::Indexed(self.index(index)),
            LibraryJob::Info { ask, folder, file } => {
                let info = self.reach(&folder, &file).and_then(|path| self.details(&path, &file));
                LibraryDone::Info(ask, info.map(Box::new))
            }
            LibraryJob::Delete { ask, folder, file } => {
                LibraryDone::Deleted(ask, self.delete(&folder, &file))
            }
            LibraryJob::Protect { ask, folder, file, protected } => {
                LibraryDone::Protected(ask, self.protect(&folder, &file, protected).map(Box::new))
            }
            LibraryJob::OpenPlay { ask, folder, files } => {
                let files = files.into_iter().map(|file| self.playable(&folder, file)).collect();
                LibraryDone::Opened(ask, files)
            }
            LibraryJob::ReadFrames(read) => LibraryDone::Read(self.read_frames(read)),
            LibraryJob::Keep(files) => {
                self.cache.kept = files;
                LibraryDone::Kept
            }
        }
    }

    /// Looks at some files, puts those right that a cut left unfinished, and says where to go on.
    fn index(&mut self, index: Index) -> Indexed {
        let mut done = Indexed { pass: index.pass, ..Indexed::default() };
        // Files found may be written to, and without the disk its mount point is a plain folder.
        if check_on_disk(self.fs, &index.folder).is_err() {
            return done;
        }
        let folder = index.folder.path();
        let patience = Patience::begin(self.clock);
        let cache = &*self.cache;
        let is_stale = cache.folder != folder || cache.after != index.after || cache.upcoming.is_empty();
        if is_stale && !self.gather(&folder, index.after.as_deref(), patience) {
            done.unfinished = true;
            return done;
        }
        for _ in 0..index.limit.max(1) {
            let Some(file) = self.cache.upcoming.pop_front() else { break };
            if !self.open.is_open(&folder, &file) {
                self.index_file(&folder, &file, index.describe, &mut done);
            }
            done.next = Some(file);
            if patience.is_over() {
                break;
            }
        }
        self.cache.after.clone_from(&done.next);
        done
    }

    /// Goes on with gathering the names behind `after`; whether they are there.
    fn gather(&mut self, folder: &Path, after: Option<&str>, patience: Patience) -> bool {
        let under_way =
            self.cache.pass.take().filter(|pass| self.cache.folder == folder && pass.behind() == after);
        let mut pass = under_way.unwrap_or_else(|| Gathering::new(after));
        let all = pass.go_on(self.fs, folder, Some(patience));
        self.cache.folder = folder.to_owned();
        if !all {
            self.cache.upcoming.clear();
            self.cache.pass = Some(pass);
            return false;
        }
        let (names, leftovers) = pass.finish();
        if after.is_none() {
            remove_leftovers(self.fs, folder, &leftovers);
        }
        self.cache.upcoming = names;
        true
    }

    fn index_file(&mut self, folder: &Path, file: &str, describe: bool, done: &mut Indexed) {
        let read = || read_sidecar(self.fs, folder, file).ok().flatten();
        let mut sidecar = read();
        let found = sidecar.as_ref().and_then(|it| recover_file(self.fs, folder, file, it));
        if let Some(recovered) = found {
            done.recovered.push(recovered);
            sidecar = read();
            self.has_changed = true;
        }
        if describe {
            // One that can't be read counts as none here.
            let sidecar = sidecar.and_then(|json| Sidecar::parse(&json).ok());
            done.found.extend(self.details_with(sidecar, folder, file).ok().map(|details| details.found));
        }
    }

    /// The recording folder, if `file` is a name in it, and the folder is where it was.
    fn reach(&self, folder: &Folder, file: &str) -> Result<PathBuf, LibraryError> {
        if !is_record_file_name(file) {
            return Err(LibraryError::NotFound);
        }
        check_device(self.fs, folder).map_err(LibraryError::Fault)?;
        let path = folder.path();
        // A link in the place of the folder may lead off the disk.
        match self.fs.device(&path) {
            Ok(device) if device == folder.device => Ok(path),
            Ok(_) => Err(LibraryError::NotFound),
            Err(error) => Err(miss("look at", &path, &error)),
        }
    }

    fn details(&self, folder: &Path, file: &str) -> Result<Details, LibraryError> {
        // One that can't be read counts as none here.
        self.details_with(self.sidecar(folder, file).ok().flatten(), folder, file)
    }

    fn details_with(
        &self,
        sidecar: Option<Sidecar>,
        folder: &Path,
        file: &str,
    ) -> Result<Details, LibraryError> {
        let path = folder.join(file);
        let failed = |error: io::Error| miss("read", &path, &error);
        let handle = self.fs.open_read(&path).map_err(failed)?;
        let octets = self.fs.len(&handle).map_err(failed)?;
        let modified_ms = self.fs.modified_ms(&handle).map_err(failed)?;
        let mut head = [0; HEAD_OCTETS];
        let count = self.fs.read_at(&handle, &mut head, 0).map_err(failed)?;
        let head = &head[..count];
        let (facts, damage, encrypted) = match Format::detect(head) {
            Ok(format) => (Some(format.facts(octets)), None, false),
            Err(HeaderError::Encrypted(_)) => match Front::parse(head) {
                Ok(front) => (Some(front.extent_as_said(octets).facts(&front)), None, true),
                Err(error) => (None, Some(error.to_string()), true),
            },
            Err(error) => (None, Some(error.to_string()), false),
        };
        let summary = sidecar.as_ref().map(SidecarSummary::from);
        let file = file.to_owned();
        let found = FileSummary { file, octets, modified_ms, facts, encrypted, sidecar: summary };
        Ok(Details { found, sidecar, damage })
    }

    /// The sidecar of a file, if there is one.
    fn sidecar(&self, folder: &Path, file: &str) -> Result<Option<Sidecar>, LibraryError> {
        let path = folder.join(sidecar_name(file));
        let failed = |error: io::Error| miss("read", &path, &error);
        let json = read_sidecar(self.fs, folder, file).map_err(failed)?;
        json.map(|json| Sidecar::parse(&json).map_err(|error| LibraryError::Damaged(error.to_string())))
            .transpose()
    }

    fn delete(&self, folder: &Folder, file: &str) -> Result<(), LibraryError> {
        let folder = self.reach(folder, file)?;
        if self.open.is_open(&folder, file) {
            return Err(LibraryError::Busy);
        }
        let path = folder.join(file);
        let failed = |error: io::Error| miss("delete", &path, &error);
        // Refuses anything but a plain file. One that may not be read may still be deleted.
        match self.fs.open_read(&path) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(failed(error)),
            _ => {}
        }
        if is_locked(self.fs, &path) {
            return Err(LibraryError::Busy);
        }
        self.fs.remove(&path).map_err(failed)?;
        let _ = self.fs.remove(&folder.join(sidecar_name(file)));
        let _ = self.fs.sync_folder(&folder);
        Ok(())
    }

    fn protect(&mut self, folder: &Folder, file: &str, protected: bool) -> Result<FileSummary, LibraryError> {
        let folder = self.reach(folder, file)?;
        if self.open.is_open(&folder, file) || is_locked(self.fs, &folder.join(file)) {
            return Err(LibraryError::Busy);
        }
        let details = self.details(&folder, file)?;
        let mut found = details.found;
        // A sidecar that can't be read must not be replaced by the little that the file tells.
        let beside = self.sidecar(&folder, file).map_err(|miss| match miss {
            LibraryError::NotFound => {
                LibraryError::Damaged("the object in place of the sidecar is no file".into())
            }
            miss => miss,
        })?;
        let mut sidecar = beside.unwrap_or_else(|| sidecar_for(&found));
        if sidecar.protected != protected {
            sidecar.protected = protected;
            self.has_changed = true;
            replace_or_fault(self.fs, &folder, file, &sidecar).map_err(LibraryError::Fault)?;
            let _ = self.fs.sync_folder(&folder);
        }
        found.sidecar = Some(SidecarSummary::from(&sidecar));
        Ok(found)
    }

    fn playable(&self, folder: &Folder, file: String) -> Result<Playable, LibraryError> {
        let path = self.reach(folder, &file)?.join(&file);
        let failed = |error: io::Error| miss("read", &path, &error);
        let handle = self.fs.open_read(&path).map_err(failed)?;
        let mut head = [0; HEAD_OCTETS];
        let count = self.fs.read_at(&handle, &mut head, 0).map_err(failed)?;
        let format = Format::detect(&head[..count]).map_err(|error| match error {
            HeaderError::Encrypted(_) => LibraryError::Encrypted,
            error => LibraryError::Damaged(error.to_string()),
        })?;
        if format.uneven_octets > 0 {
            let text = "its RTP packets are of different lengths: recordctl export makes a WAV of it";
            return Err(LibraryError::Damaged(text.into()));
        }
        let frames = format.facts(self.fs.len(&handle).map_err(failed)?).frames;
        Ok(Playable { file, format, frames })
    }

    fn read_frames(&mut self, read: ReadFrames) -> FramesRead {
        let ReadFrames { playback, generation, folder, file, format, first, mut block } = read;
        let (mut scratch, device) = (std::mem::take(&mut self.cache.scratch), folder.device);
        let result = self.reach(&folder, &file).and_then(|folder| {
            let path = folder.join(&file);
            let failed = |error: io::Error| miss("read", &path, &error);
            let handle = self.fs.open_read(&path).map_err(failed)?;
            let frames = format.facts(self.fs.len(&handle).map_err(failed)?).frames;
            let stride = format.stride.max(1) as usize;
            let room = block.room() / format.frame_octets().max(1) as usize;
            let count = usize::try_from(frames.saturating_sub(first)).unwrap_or(usize::MAX).min(room);
            scratch.resize(count * stride, 0);
            let offset = HEADER_OCTETS as u64 + first.saturating_mul(u64::from(format.stride));
            let got = self.fs.read_at(&handle, &mut scratch, offset).map_err(failed)?;
            for frame in scratch[..got].chunks_exact(stride) {
                block.fill(&frame[format.payload_offset() as usize..]);
            }
            Ok(frames)
        });
        self.cache.scratch = scratch;
        let result = result.map_err(|miss| match miss {
            LibraryError::Fault(fault) => LibraryError::Fault(why_really(self.fs, device, fault)),
            other => other,
        });
        FramesRead { playback, generation, first, block, result }
    }
}

/// The sidecar of a file that had none.
fn sidecar_for(found: &FileSummary) -> Sidecar {
    let mut sidecar = Sidecar { file: found.file.clone(), encrypted: found.encrypted, ..Sidecar::default() };
    if let Some(Facts { codec, increment, duration_ms, data_octets, .. }) = &found.facts {
        codec.name().clone_into(&mut sidecar.codec);
        let ptime_ms = codec.clock_rate().ticks_to_ms(u64::from(*increment));
        sidecar.ptime_ms = u32::try_from(ptime_ms).unwrap_or(u32::MAX);
        sidecar.duration_ms = *duration_ms;
        sidecar.data_bytes = *data_octets;
    }
    sidecar
}

fn miss(operation: &str, path: &Path, error: &io::Error) -> LibraryError {
    let missing = [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP, Errno::EISDIR, Errno::ENXIO];
    let errno = error.raw_os_error().map(Errno::from_raw);
    if errno.is_some_and(|errno| missing.contains(&errno)) || error.kind() == io::ErrorKind::InvalidInput {
        return LibraryError::NotFound;
    }
    match fault(operation, path, error) {
        fault if fault.kind == FaultKind::NoStorage => LibraryError::NotFound,
        fault => LibraryError::Fault(fault),
    }
}

#[cfg(test)]
mod tests;

//! Finished recordings on the disk: looked at, deleted, protected, read for playback.
//!
//! Owns: what each [`LibraryJob`] does to the filesystem. Nothing stays open between jobs, so nothing here
//! keeps a disk from being unmounted. Invariant: only plain files of the recording folder are touched,
//! never through a link, and none that is being written.

use super::fs::Fs;
use super::open_file::fault;
use super::writer::Writer;
use crate::file::header::HEADER_OCTETS;
use crate::file::name::{is_record_file_name, order_key, sidecar_name};
use crate::file::reader::{Facts, Format};
use crate::file::sidecar::{MAX_SIDECAR_OCTETS, Sidecar};
use crate::jobs::library::{
    Beside, Details, Found, FramesRead, LibraryDone, LibraryJob, Miss, Playable, ReadFrames,
};
use crate::jobs::{FaultKind, Folder};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Octets of a file that are looked at: its header and enough to tell whole packets from payloads.
const HEAD_OCTETS: usize = 4096;

/// Names remembered from one look at the folder for the next steps of an index.
const MAX_UPCOMING: usize = 512;

/// What is kept between jobs, to spare work.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// The names that follow `after` in `folder`, the newest first.
    upcoming: VecDeque<String>,
    folder: PathBuf,
    after: Option<String>,
    scratch: Vec<u8>,
    /// Files that are being played.
    kept: Vec<String>,
}

impl<F: Fs> Writer<F> {
    #[inline(never)]
    pub(super) fn library(&mut self, job: LibraryJob) -> LibraryDone {
        match job {
            LibraryJob::Index { pass, folder, after, limit } => {
                let (found, next) = self.index(&folder.path(), after, limit);
                LibraryDone::Indexed { pass, found, next }
            }
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
                self.shelf.kept = files;
                LibraryDone::Kept
            }
        }
    }

    /// Whether a file must not be deleted to make room.
    pub(super) fn is_kept(&self, file: &str) -> bool {
        self.shelf.kept.iter().any(|kept| kept == file)
    }

    /// Looks at up to `limit` files behind `after`, and says where to go on.
    fn index(&mut self, folder: &Path, after: Option<String>, limit: usize) -> (Vec<Found>, Option<String>) {
        if self.shelf.folder != folder || self.shelf.after != after || self.shelf.upcoming.is_empty() {
            self.shelf.upcoming = self.names_behind(folder, after.as_deref());
            folder.clone_into(&mut self.shelf.folder);
        }
        let mut found = Vec::new();
        let mut last = None;
        for _ in 0..limit.max(1) {
            let Some(file) = self.shelf.upcoming.pop_front() else { break };
            if !self.is_open(folder, &file) {
                if let Ok(details) = self.details(folder, &file) {
                    found.push(details.found);
                }
            }
            last = Some(file);
        }
        self.shelf.after.clone_from(&last);
        (found, last)
    }

    /// The newest names behind `after`, as many as are remembered.
    fn names_behind(&self, folder: &Path, after: Option<&str>) -> VecDeque<String> {
        let key = |name: &str| {
            let (stamp, number) = order_key(name);
            (stamp.to_owned(), number, name.to_owned())
        };
        let newest_first = |names: &mut Vec<String>| {
            names.sort_unstable_by(|a, b| (order_key(b), b).cmp(&(order_key(a), a)));
            names.truncate(MAX_UPCOMING);
        };
        let bound = after.map(key);
        let mut names: Vec<String> = Vec::new();
        // A folder that can't be read is an empty one here; whoever wants a file of it is told why.
        let _ = self.fs.names(folder, &mut |name| {
            if is_record_file_name(name) && bound.as_ref().is_none_or(|bound| key(name) < *bound) {
                names.push(name.to_owned());
                if names.len() >= 4 * MAX_UPCOMING {
                    newest_first(&mut names);
                }
            }
        });
        newest_first(&mut names);
        names.into()
    }

    /// The recording folder, if `file` is a name in it, and the folder is where it was.
    fn reach(&self, folder: &Folder, file: &str) -> Result<PathBuf, Miss> {
        if !is_record_file_name(file) {
            return Err(Miss::NotFound);
        }
        self.check_device(folder).map_err(Miss::Fault)?;
        let path = folder.path();
        // A link in the place of the folder may lead off the disk.
        match self.fs.device(&path) {
            Ok(device) if device == folder.device => Ok(path),
            Ok(_) => Err(Miss::NotFound),
            Err(error) => Err(miss("look at", &path, &error)),
        }
    }

    fn details(&self, folder: &Path, file: &str) -> Result<Details, Miss> {
        let path = folder.join(file);
        let failed = |error: io::Error| miss("read", &path, &error);
        let handle = self.fs.open_read(&path).map_err(failed)?;
        let octets = self.fs.len(&handle).map_err(failed)?;
        let modified_ms = self.fs.modified_ms(&handle).map_err(failed)?;
        let mut head = [0; HEAD_OCTETS];
        let count = self.fs.read_at(&handle, &mut head, 0).map_err(failed)?;
        // One that can't be read counts as none here.
        let sidecar = self.sidecar(folder, file).ok().flatten();
        let (facts, damage) = match Format::detect(&head[..count]) {
            Ok(format) => (Some(format.facts(octets)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let beside = sidecar.as_ref().map(Beside::from);
        let found = Found { file: file.to_owned(), octets, modified_ms, facts, beside };
        Ok(Details { found, sidecar, damage })
    }

    /// The sidecar of a file, if there is one.
    fn sidecar(&self, folder: &Path, file: &str) -> Result<Option<Sidecar>, Miss> {
        let path = folder.join(sidecar_name(file));
        let failed = |error: io::Error| miss("read", &path, &error);
        let handle = match self.fs.open_read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let octets = usize::try_from(self.fs.len(&handle).map_err(failed)?).unwrap_or(usize::MAX);
        // One octet too many is enough to be refused.
        let mut json = vec![0; octets.min(MAX_SIDECAR_OCTETS + 1)];
        let count = self.fs.read_at(&handle, &mut json, 0).map_err(failed)?;
        Sidecar::parse(&json[..count]).map(Some).map_err(|error| Miss::Damaged(error.to_string()))
    }

    fn delete(&self, folder: &Folder, file: &str) -> Result<(), Miss> {
        let folder = self.reach(folder, file)?;
        if self.is_open(&folder, file) {
            return Err(Miss::Busy);
        }
        let path = folder.join(file);
        let failed = |error: io::Error| miss("delete", &path, &error);
        // Refuses what is no plain file. One that may not be read may still be deleted.
        match self.fs.open_read(&path) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(failed(error)),
            _ => {}
        }
        if self.is_locked(&path) {
            return Err(Miss::Busy);
        }
        self.fs.remove(&path).map_err(failed)?;
        let _ = self.fs.remove(&folder.join(sidecar_name(file)));
        let _ = self.fs.sync_folder(&folder);
        Ok(())
    }

    fn protect(&self, folder: &Folder, file: &str, protected: bool) -> Result<Found, Miss> {
        let folder = self.reach(folder, file)?;
        if self.is_open(&folder, file) || self.is_locked(&folder.join(file)) {
            return Err(Miss::Busy);
        }
        let details = self.details(&folder, file)?;
        let mut found = details.found;
        // What one says that can't be read is not to be replaced by the little that the file tells.
        let beside = self.sidecar(&folder, file).map_err(|miss| match miss {
            Miss::NotFound => Miss::Damaged("what stands in place of the sidecar is no file".into()),
            miss => miss,
        })?;
        let mut sidecar = beside.unwrap_or_else(|| sidecar_for(&found));
        if sidecar.protected != protected {
            sidecar.protected = protected;
            self.write_sidecar(&folder, file, &sidecar).map_err(Miss::Fault)?;
            let _ = self.fs.sync_folder(&folder);
        }
        found.beside = Some(Beside::from(&sidecar));
        Ok(found)
    }

    fn playable(&self, folder: &Folder, file: String) -> Result<Playable, Miss> {
        let path = self.reach(folder, &file)?.join(&file);
        let failed = |error: io::Error| miss("read", &path, &error);
        let handle = self.fs.open_read(&path).map_err(failed)?;
        let mut head = [0; HEAD_OCTETS];
        let count = self.fs.read_at(&handle, &mut head, 0).map_err(failed)?;
        let format = Format::detect(&head[..count]).map_err(|error| Miss::Damaged(error.to_string()))?;
        let frames = format.facts(self.fs.len(&handle).map_err(failed)?).frames;
        Ok(Playable { file, format, frames })
    }

    fn read_frames(&mut self, read: ReadFrames) -> FramesRead {
        let ReadFrames { playback, generation, folder, file, format, first, mut block } = read;
        let mut scratch = std::mem::take(&mut self.shelf.scratch);
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
        self.shelf.scratch = scratch;
        FramesRead { playback, generation, first, block, result }
    }
}

/// The sidecar of a file that had none.
fn sidecar_for(found: &Found) -> Sidecar {
    let mut sidecar = Sidecar { file: found.file.clone(), ..Sidecar::default() };
    if let Some(Facts { codec, increment, duration_ms, data_octets, .. }) = &found.facts {
        codec.name().clone_into(&mut sidecar.codec);
        let ptime_ms = codec.clock_rate().ticks_to_ms(u64::from(*increment));
        sidecar.ptime_ms = u32::try_from(ptime_ms).unwrap_or(u32::MAX);
        sidecar.duration_ms = *duration_ms;
        sidecar.data_bytes = *data_octets;
    }
    sidecar
}

fn miss(operation: &str, path: &Path, error: &io::Error) -> Miss {
    let missing = [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP, Errno::EISDIR, Errno::ENXIO];
    let errno = error.raw_os_error().map(Errno::from_raw);
    if errno.is_some_and(|errno| missing.contains(&errno)) || error.kind() == io::ErrorKind::InvalidInput {
        return Miss::NotFound;
    }
    match fault(operation, path, error) {
        fault if fault.kind == FaultKind::NoStorage => Miss::NotFound,
        fault => Miss::Fault(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::header::FileHeader;
    use crate::jobs::{Done, Job};
    use crate::rtp::codec::Codec;
    use crate::storage::fs::RealFs;
    use crate::time::Mono;

    const FILE: &str = "Record_20260301-091500.wav";

    fn protect(root: &Path) -> Result<Box<Found>, Miss> {
        let device = RealFs.device(root).unwrap();
        let folder = Folder { root: root.into(), device, name: String::new() };
        let ask = crate::jobs::library::AskId(1);
        let job = LibraryJob::Protect { ask, folder, file: FILE.into(), protected: true };
        match Writer::new(RealFs, Mono::default).handle(Job::Library(job)) {
            Done::Library(LibraryDone::Protected(_, result)) => result,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn protecting_makes_a_sidecar_where_there_is_none_and_replaces_none_that_it_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let beside = dir.path().join(sidecar_name(FILE));
        std::fs::write(dir.path().join(FILE), FileHeader::new(Codec::Pcma, 20).encode()).unwrap();
        for broken in ["{\"recording\":\"r1\",", "{\"recording\":\"r1\",\"segment\":\"one\"}"] {
            std::fs::write(&beside, broken).unwrap();
            assert!(matches!(protect(dir.path()), Err(Miss::Damaged(_))));
            assert_eq!(std::fs::read_to_string(&beside).unwrap(), broken);
        }
        std::fs::remove_file(&beside).unwrap();
        std::fs::create_dir(&beside).unwrap();
        assert!(matches!(protect(dir.path()), Err(Miss::Damaged(_))));
        std::fs::remove_dir(&beside).unwrap();
        assert!(protect(dir.path()).unwrap().beside.unwrap().protected);
        assert!(Sidecar::parse(&std::fs::read(&beside).unwrap()).unwrap().protected);
    }
}

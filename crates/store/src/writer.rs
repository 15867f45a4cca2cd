//! The writer: jobs in, answers out, and the order of operations that keeps every file openable.
//!
//! Order of a flush: audio, then `fdatasync`, then `dataSize`. So `dataSize` never promises what the disk
//! does not have, and goes out with the next flush: the first sector is written once per flush at most.
//! At the end everything is synced twice, as vfat needs it: `syncfs` mends a directory entry that
//! `fdatasync` may leave at size 0, `fdatasync` makes the stick empty its own cache. The sidecar that
//! calls the file finished is written once the exact header is durable. Invariants: the first failed sync of a file is final (on a
//! dead disk the next one may return success); a descriptor is closed as soon as its file has failed for
//! good, so that nothing keeps a dead mount busy; on a full disk what was written stays.

use super::disks::Disks;
use super::fault::{closed_before, fault};
use super::fs::Fs;
use super::library::{Library, LibraryCache};
use super::oldest::{Oldest, Search};
use super::on_disk::{check_device, check_on_disk, why_really};
use super::open_file::{OpenFile, check_handle};
use super::open_files::OpenFiles;
use super::order::Numbers;
use super::seal::Seals;
use super::sidecar_file::replace_or_fault;
use super::{recover, speed};
use crate::jobs::library::{LibraryDone, LibraryJob};
use crate::jobs::{Done, Fault, FaultKind, FileKey, Folder, Job, Open, Opened, Piece, Space, Speed};
use media::time::Mono;
use recfile::name::sidecar_name;
use recfile::sidecar::Sidecar;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Room set aside at a time on filesystems that need it: half a minute of a call.
const SET_ASIDE_OCTETS: u64 = 256 * 1024;

/// Room is set aside anew when less than this is left: several flushes of a call.
const SET_ASIDE_AGAIN_OCTETS: u64 = 64 * 1024;

/// With more room than a new file and its sidecar need, a disk that takes none is short of names.
const NAMES_ALONE_OCTETS: u64 = 1024 * 1024;

/// The room on the disk is looked at this often.
const SPACE_INTERVAL: Duration = Duration::from_secs(5);

/// Does the jobs of the agent on a filesystem.
pub struct Writer<F: Fs + Disks> {
    fs: F,
    library: LibraryCache,
    oldest: Oldest,
    numbers: Numbers,
    clock: fn() -> Mono,
    files: Files<F::File>,
    space_seen: Option<Mono>,
    seals: Seals,
}

/// A file, and what only the phone's way of writing needs of it.
struct OpenRecording<H> {
    file: OpenFile<H>,
    /// Id of the recording.
    recording: String,
    /// Its place in the order of the disk's files.
    order: Option<u64>,
    /// Octets of the file that room is set aside for.
    set_aside: u64,
    /// Number of the disk.
    device: u64,
}

/// The files that are written.
struct Files<H>(BTreeMap<FileKey, OpenRecording<H>>);

impl<H> OpenFiles for Files<H> {
    fn is_open(&self, folder: &Path, name: &str) -> bool {
        self.0.values().any(|OpenRecording { file, .. }| file.folder == folder && file.name == name)
    }

    fn is_recording(&self, recording: &str) -> bool {
        self.0.values().any(|ours| ours.recording == recording)
    }
}

impl<F: Fs + Disks> Writer<F> {
    /// A writer on `fs`; `clock` measures how long the disk takes.
    pub fn new(fs: F, clock: fn() -> Mono) -> Self {
        Self {
            fs,
            library: LibraryCache::default(),
            oldest: Oldest::default(),
            numbers: Numbers::default(),
            clock,
            files: Files(BTreeMap::new()),
            space_seen: None,
            seals: Seals::default(),
        }
    }

    /// The same, which encrypts and signs what it records.
    #[must_use]
    pub fn with_seals(self, seals: Seals) -> Self {
        Self { seals, ..self }
    }

    /// Does one job.
    pub fn handle(&mut self, job: Job) -> Done {
        match job {
            Job::Append { file, pieces, flush } => self.append(file, pieces, flush),
            Job::Scan(look) => Done::Scanned(self.fs.scan(&look)),
            Job::Open(open) => {
                let (file, device) = (open.file, open.folder.device);
                let result = self.open(open);
                Done::Opened { file, result: result.map_err(|fault| why_really(&self.fs, device, fault)) }
            }
            Job::Close { file, sidecar } => Done::Closed { file, result: self.close(file, *sidecar) },
            Job::Abandon(file) => {
                self.files.0.remove(&file);
                Done::Abandoned(file)
            }
            Job::Finalise(job) => {
                let checked = check_device(&self.fs, &job.folder);
                self.oldest.look_anew();
                let result = checked.and_then(|()| recover::finalise(&self.fs, &job, &self.seals));
                Done::Finalised { file: job.file, result }
            }
            Job::MeasureSpeed(folder) => Done::SpeedMeasured(self.measure_speed(&folder)),
            Job::DeleteOldest { folder, running } => self.delete_oldest(folder, running),
            Job::Library(job) => Done::Library(self.library(job)),
            Job::Eject(disk) => {
                let ejected = self.fs.eject(&disk);
                Done::Ejected(ejected.map_err(|error| fault("sync the disk at", &disk.root, &error)))
            }
        }
    }

    fn open(&mut self, open: Open) -> Result<Opened, Fault> {
        let folder = open.folder.path();
        check_device(&self.fs, &open.folder)?;
        if !open.folder.name.is_empty() {
            self.create_folder(&folder)?;
            // vfat keeps the sectors of a folder made since the mount with its parent: until that is synced,
            // syncing the folder writes none of its names.
            let root = &open.folder.root;
            self.fs.sync_folder(root).map_err(|error| fault("sync the folder", root, &error))?;
            check_on_disk(&self.fs, &open.folder)?;
        }
        let space = self.fs.space(&folder).map_err(|error| fault("look at", &folder, &error))?;
        let order = Some(self.numbers.next(&self.fs, &open.folder, open.stamp, self.clock));
        let file = OpenFile::create(&self.fs, folder, open.stamp, open.header);
        let file = file.map_err(|fault| no_more_files(fault, space))?;
        check_handle(&self.fs, &file, open.folder.device)?;
        let mut sidecar = *open.sidecar;
        sidecar.file.clone_from(&file.name);
        sidecar.order = order;
        let mut ours = OpenRecording {
            file,
            recording: sidecar.recording.clone(),
            order,
            set_aside: 0,
            device: open.folder.device,
        };
        let begun = self.begin(&mut ours, &sidecar).map_err(|fault| no_more_files(fault, space));
        // The sidecar goes by its path: the disk may have been unmounted under the open file.
        let begun = begun.and_then(|()| check_on_disk(&self.fs, &open.folder));
        let file = &ours.file;
        if let Err(fault) = begun {
            // Nothing was recorded yet: leave no empty shell behind.
            for name in [file.name.clone(), sidecar_name(&file.name)] {
                let _ = self.fs.remove(&file.folder.join(name));
            }
            return Err(fault);
        }
        let opened = Opened { path: file.path(), name: file.name.clone(), space };
        self.files.0.insert(open.file, ours);
        Ok(opened)
    }

    /// Makes the recording folder, if need be; a file in its place has a name of its own.
    fn create_folder(&self, folder: &Path) -> Result<(), Fault> {
        self.fs.create_folder(folder).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Fault {
                kind: FaultKind::NotFolder,
                detail: format!(
                    "cannot create the folder {}: a file or a broken link has this name; rename or delete it",
                    folder.display()
                ),
            },
            _ => fault("create the folder", folder, &error),
        })
    }

    fn begin(&self, ours: &mut OpenRecording<F::File>, sidecar: &Sidecar) -> Result<(), Fault> {
        let path = ours.file.path();
        let failed = |error: io::Error| fault("create", &path, &error);
        if self.seals.encrypts() {
            ours.file.begin_sealed(&self.fs, &self.seals).map_err(failed)?;
        } else {
            ours.file.begin(&self.fs).map_err(failed)?;
        }
        ours.set_aside(&self.fs);
        let file = &ours.file;
        // From here on a cut leaves a file that opens.
        self.fs.sync_data(&file.handle).map_err(failed)?;
        let sidecar = self.seals.seal(sidecar.clone()).map_err(failed)?;
        replace_or_fault(&self.fs, &file.folder, &file.name, &sidecar)?;
        self.fs.sync_folder(&file.folder).map_err(failed)
    }

    fn append(&mut self, key: FileKey, pieces: Vec<Piece>, flush: bool) -> Done {
        let started = (self.clock)();
        let Self { fs, files, space_seen, .. } = self;
        let Some(ours) = files.0.get_mut(&key) else {
            let result = Err(closed_before());
            return Done::Appended { file: key, pieces, durable_octets: 0, took: Duration::ZERO, result };
        };
        if ours.file.fault.is_none() {
            let result = ours.write_pieces(fs, &pieces, flush);
            ours.file.fault = result.err().map(|fault| why_really(fs, ours.device, fault));
            if let Some(kind) = ours.file.fault.as_ref().map(|fault| fault.kind) {
                ours.file.make_room_to_finish(fs, kind);
            }
        }
        let took = (self.clock)().since(started);
        let file = &ours.file;
        let durable_octets = file.durable;
        let result = match file.fault.clone() {
            Some(fault) => Err(fault),
            None => Ok(space_if_due(fs, space_seen, &file.folder, started)),
        };
        // A full disk still has a file to finish. Any other failure is final, and the descriptor goes at once.
        if result.as_ref().is_err_and(|fault| !fault.kind.lets_finish()) {
            files.0.remove(&key);
        }
        Done::Appended { file: key, pieces, durable_octets, took, result }
    }

    fn close(&mut self, key: FileKey, mut sidecar: Sidecar) -> Result<Option<Space>, Fault> {
        let Some(ours) = self.files.0.remove(&key) else { return Err(closed_before()) };
        let OpenRecording { mut file, order, device, .. } = ours;
        match file.fault.take() {
            Some(fault) if !fault.kind.lets_finish() => return Err(fault),
            _ => {}
        }
        sidecar.order = order;
        self.close_whole(&mut file, sidecar).map_err(|fault| why_really(&self.fs, device, fault))
    }

    fn close_whole(
        &self,
        file: &mut OpenFile<F::File>,
        mut sidecar: Sidecar,
    ) -> Result<Option<Space>, Fault> {
        let path = file.path();
        let failed = |error: io::Error| fault("finish", &path, &error);
        file.complete_frame(&self.fs).map_err(failed)?;
        self.fs.give_back(&file.handle, file.octets()).map_err(failed)?;
        flush_file(&self.fs, file).map_err(failed)?;
        // The exact header is durable before a sidecar says that it is exact.
        self.fs.sync_data(&file.handle).map_err(failed)?;
        file.describe(&self.fs, &mut sidecar);
        let sidecar = self.seals.finish(&file.header, sidecar).map_err(failed)?;
        // A full disk may have no room for another sidecar: the recording itself is what counts.
        let beside = replace_or_fault(&self.fs, &file.folder, &file.name, &sidecar);
        self.fs.sync_folder(&file.folder).map_err(failed)?;
        self.sync_whole(&file.handle).map_err(failed)?;
        match beside {
            Err(fault) if !fault.kind.lets_finish() => Err(fault),
            _ => Ok(self.fs.space(&file.folder).ok()),
        }
    }

    /// Makes names, sizes and content durable, in the stick's own cache too.
    fn sync_whole(&self, handle: &F::File) -> io::Result<()> {
        self.fs.sync_fs(handle)?;
        self.fs.sync_data(handle)
    }

    fn measure_speed(&self, folder: &Folder) -> Result<Option<Speed>, Fault> {
        if !self.files.0.is_empty() {
            return Ok(None);
        }
        check_device(&self.fs, folder)?;
        let measured = speed::measure(&self.fs, &folder.root, self.clock);
        measured.map(Some).map_err(|error| fault("try the speed of", &folder.root, &error))
    }

    pub(super) fn library(&mut self, job: LibraryJob) -> LibraryDone {
        let mut library = Library::new(&self.fs, self.clock, &self.files, &mut self.library);
        let done = library.handle(job);
        if library.has_changed() {
            self.oldest.look_anew();
        }
        done
    }

    fn delete_oldest(&mut self, folder: Folder, running: Vec<String>) -> Done {
        let Self { fs, clock, files, library, oldest, .. } = self;
        let (clock, kept) = (*clock, library.kept());
        Search { fs, clock, open: files, kept, oldest }.delete_oldest(folder, running)
    }
}

impl<H> OpenRecording<H> {
    fn write_pieces<F: Fs<File = H>>(&mut self, fs: &F, pieces: &[Piece], flush: bool) -> Result<(), Fault> {
        let written = self.file.write_pieces(fs, pieces);
        written.map_err(|error| fault("write", &self.file.path(), &error))?;
        // After the write, so that what is set aside is durable before the length comes near it.
        self.set_aside(fs);
        if flush {
            let flushed = flush_file(fs, &mut self.file);
            flushed.map_err(|error| fault("sync", &self.file.path(), &error))?;
        }
        Ok(())
    }

    /// Keeps room ahead of what is written: vfat makes a length durable before the clusters that it
    /// needs, so a file pulled at that moment would end in octets that can't be read.
    fn set_aside<F: Fs<File = H>>(&mut self, fs: &F) {
        let octets = self.file.octets();
        if octets + SET_ASIDE_AGAIN_OCTETS > self.set_aside {
            self.set_aside = octets + SET_ASIDE_OCTETS;
            fs.set_aside(&self.file.handle, self.set_aside);
        }
    }
}

/// A disk that is full with room for octets left has none for another name: say so.
fn no_more_files(mut fault: Fault, space: Space) -> Fault {
    if fault.kind == FaultKind::Full && space.free_octets > NAMES_ALONE_OCTETS {
        let free_mib = space.free_octets >> 20;
        fault.detail += &format!(
            " ({free_mib} MiB are free: it is names that there is no room for, in the folder or on the disk; delete files)"
        );
    }
    fault
}

fn flush_file<F: Fs>(fs: &F, file: &mut OpenFile<F::File>) -> io::Result<()> {
    if file.durable != file.written {
        fs.sync_data(&file.handle)?;
        file.durable = file.written;
    }
    file.promise(fs)?;
    Ok(())
}

fn space_if_due<F: Fs>(fs: &F, seen: &mut Option<Mono>, folder: &Path, now: Mono) -> Option<Space> {
    if seen.is_some_and(|seen| now.since(seen) < SPACE_INTERVAL) {
        return None;
    }
    *seen = Some(now);
    fs.space(folder).ok()
}

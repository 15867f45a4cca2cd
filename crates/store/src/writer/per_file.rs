//! Each flush of each file is durable when it is answered, also on a stick that is pulled at any moment.
//!
//! Order of a flush: audio, then `fdatasync`, then `dataSize`. So `dataSize` never promises what the disk
//! does not have, and goes out with the next flush: the first sector is written once per flush at most.
//! At the end everything is synced twice, as vfat needs it: `syncfs` mends a directory entry that
//! `fdatasync` may leave at size 0, `fdatasync` makes the stick empty its own cache. The sidecar that
//! calls the file finished is written once the exact header is durable.
//!
//! Owns also the jobs of a phone alone: encryption, the order of a disk's files, its library, making room.

use super::{Files, OpenRecording, Room, SyncPolicy};
use crate::disks::Disks;
use crate::fault::{fault, sync_fault};
use crate::fs::Fs;
use crate::jobs::library::{LibraryDone, LibraryJob};
use crate::jobs::{Done, Fault, FaultKind, FileKey, Folder, Job, Open, Space, Speed};
use crate::library::{Library, LibraryCache};
use crate::oldest::{Oldest, Search};
use crate::on_disk::{check_device, check_on_disk};
use crate::open_file::OpenFile;
use crate::order::Numbers;
use crate::seal::Seals;
use crate::sidecar_file::replace_or_fault;
use crate::{recover, speed};
use media::time::Mono;
use recfile::sidecar::Sidecar;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Room set aside at a time on filesystems that need it: half a minute of a call.
const SET_ASIDE_OCTETS: u64 = 256 * 1024;

/// Room is set aside anew when less than this is left: several flushes of a call.
const SET_ASIDE_AGAIN_OCTETS: u64 = 64 * 1024;

/// The phone's way.
#[derive(Default)]
pub struct PerFile {
    library: LibraryCache,
    oldest: Oldest,
    numbers: Numbers,
    seals: Seals,
}

/// Octets of a file that room is set aside for.
#[derive(Default)]
pub struct SetAside(u64);

impl PerFile {
    /// The same, which encrypts and signs recordings.
    #[must_use]
    pub fn with_seals(seals: Seals) -> Self {
        Self { seals, ..Self::default() }
    }

    fn close_whole<F: Fs>(
        &self,
        fs: &F,
        file: &mut OpenFile<F::File>,
        mut sidecar: Sidecar,
    ) -> Result<Option<Space>, Fault> {
        let path = file.path();
        let failed = |error: io::Error| fault("finish", &path, &error);
        fs.give_back(&file.handle, file.octets()).map_err(failed)?;
        flush_file(fs, file).map_err(failed)?;
        // The exact header is durable before a sidecar says that it is exact.
        fs.sync_data(&file.handle).map_err(failed)?;
        file.describe(fs, &mut sidecar);
        let sidecar = self.seals.finish(&file.header, sidecar).map_err(failed)?;
        // A full disk may have no room for another sidecar: the recording itself counts.
        let beside = replace_or_fault(fs, &file.folder, &file.name, &sidecar);
        fs.sync_folder(&file.folder).map_err(failed)?;
        // Names, sizes and content, in the stick's own cache too.
        fs.sync_fs(&file.handle).and_then(|()| fs.sync_data(&file.handle)).map_err(failed)?;
        match beside {
            Err(fault) if !fault.kind.lets_finish() => Err(fault),
            _ => Ok(fs.space(&file.folder).ok()),
        }
    }

    fn library<F: Fs + Disks>(
        &mut self,
        fs: &F,
        files: &Files<F::File, SetAside>,
        clock: fn() -> Mono,
        job: LibraryJob,
    ) -> LibraryDone {
        let mut library = Library::new(fs, clock, files, &mut self.library);
        let done = library.handle(job);
        if library.has_changed() {
            self.oldest.look_anew();
        }
        done
    }
}

impl<F: Fs + Disks> SyncPolicy<F> for PerFile {
    type Kept = SetAside;
    const SPACE_INTERVAL: Duration = Duration::from_secs(5);
    const SPACE_AT_OPEN: Duration = Duration::ZERO;

    fn make_folder(&mut self, fs: &F, folder: &Folder) -> Result<(), Fault> {
        if folder.name.is_empty() {
            return Ok(());
        }
        create_folder(fs, &folder.path())?;
        // vfat keeps the sectors of a folder made since the mount with its parent: until that is synced,
        // syncing the folder writes none of its names.
        let root = &folder.root;
        fs.sync_folder(root).map_err(|error| fault("sync the folder", root, &error))?;
        check_on_disk(fs, folder)
    }

    fn number(&mut self, fs: &F, open: &Open, clock: fn() -> Mono) -> Option<u64> {
        Some(self.numbers.next(fs, &open.folder, open.stamp, clock))
    }

    fn begin(
        &mut self,
        fs: &F,
        ours: &mut OpenRecording<F::File, SetAside>,
        sidecar: &Sidecar,
        folder: &Folder,
    ) -> Result<(), Fault> {
        let path = ours.file.path();
        let failed = |error: io::Error| fault("create", &path, &error);
        if self.seals.encrypts() {
            ours.file.begin_sealed(fs, &self.seals).map_err(failed)?;
        } else {
            ours.file.begin(fs).map_err(failed)?;
        }
        set_aside(fs, ours);
        let file = &ours.file;
        fs.sync_data(&file.handle).map_err(failed)?;
        let sidecar = self.seals.seal(sidecar.clone()).map_err(failed)?;
        replace_or_fault(fs, &file.folder, &file.name, &sidecar)?;
        fs.sync_folder(&file.folder).map_err(failed)?;
        // The sidecar goes by its path: the disk may have been unmounted under the open file.
        check_on_disk(fs, folder)
    }

    fn written(
        &mut self,
        fs: &F,
        ours: &mut OpenRecording<F::File, SetAside>,
        flush: bool,
    ) -> Result<(), Fault> {
        // After the write, so that the room set aside is durable before the length comes near it.
        set_aside(fs, ours);
        if flush {
            let flushed = flush_file(fs, &mut ours.file);
            flushed.map_err(|error| sync_fault(&ours.file.path(), &error))?;
        }
        Ok(())
    }

    fn close(
        &mut self,
        fs: &F,
        _: FileKey,
        mut ours: OpenRecording<F::File, SetAside>,
        sidecar: Sidecar,
    ) -> Option<Result<Option<Space>, Fault>> {
        Some(self.close_whole(fs, &mut ours.file, sidecar))
    }

    fn other(
        &mut self,
        fs: &F,
        files: &Files<F::File, SetAside>,
        clock: fn() -> Mono,
        job: Job,
    ) -> Option<Done> {
        Some(match job {
            Job::Finalise(job) => {
                let checked = check_device(fs, &job.folder);
                self.oldest.look_anew();
                let result = checked.and_then(|()| recover::finalise(fs, &job, &self.seals));
                Done::Finalised { file: job.file, result }
            }
            Job::MeasureSpeed(folder) => {
                let is_idle = files.0.is_empty();
                Done::SpeedMeasured(if is_idle { measure_speed(fs, &folder, clock) } else { Ok(None) })
            }
            Job::DeleteOldest { folder, running } => {
                let Self { library, oldest, .. } = self;
                let kept = library.kept();
                Search { fs, clock, open: files, kept, oldest }.delete_oldest(folder, running)
            }
            Job::Library(job) => Done::Library(self.library(fs, files, clock, job)),
            Job::Eject(disk) => {
                let ejected = fs.eject(&disk);
                Done::Ejected(ejected.map_err(|error| fault("sync the disk at", &disk.root, &error)))
            }
            Job::Append { .. }
            | Job::Scan(_)
            | Job::Open(_)
            | Job::Close { .. }
            | Job::Abandon(_)
            | Job::Server(_) => {
                return None;
            }
        })
    }

    fn poll_deadline(&self, _: bool) -> Option<Mono> {
        None
    }

    fn checkpoint(
        &mut self,
        _: &F,
        _: &mut Files<F::File, SetAside>,
        _: &mut Room,
        _: fn() -> Mono,
        _: &mut Vec<Done>,
    ) {
    }
}

/// Makes the recording folder, if need be; a file in its place has a name of its own.
fn create_folder<F: Fs>(fs: &F, folder: &Path) -> Result<(), Fault> {
    fs.create_folder(folder).map_err(|error| match error.kind() {
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

fn flush_file<F: Fs>(fs: &F, file: &mut OpenFile<F::File>) -> io::Result<()> {
    if file.durable != file.written {
        fs.sync_data(&file.handle)?;
        file.durable = file.written;
    }
    file.promise(fs)?;
    Ok(())
}

/// Keeps room ahead of the written length: vfat makes a length durable before the clusters that it needs, so
/// a file pulled at that moment would end in octets that can't be read.
fn set_aside<F: Fs>(fs: &F, ours: &mut OpenRecording<F::File, SetAside>) {
    let octets = ours.file.octets();
    let SetAside(set_aside) = &mut ours.kept;
    if octets + SET_ASIDE_AGAIN_OCTETS > *set_aside {
        *set_aside = octets + SET_ASIDE_OCTETS;
        fs.set_aside(&ours.file.handle, *set_aside);
    }
}

fn measure_speed<F: Fs>(fs: &F, folder: &Folder, clock: fn() -> Mono) -> Result<Option<Speed>, Fault> {
    check_device(fs, folder)?;
    let measured = speed::measure(fs, &folder.root, clock);
    measured.map(Some).map_err(|error| fault("try the speed of", &folder.root, &error))
}

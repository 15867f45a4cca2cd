//! The writer: jobs in, answers out, and the order of operations that keeps every file openable.
//!
//! Owns: the life of each recording file, alike at phone and server: its place, its removal if it can't be
//! made, its written length, its end on a full disk. The time of syncs is a [`SyncPolicy`]'s: each flush of
//! each file ([`per_file`]), or all files from time to time ([`checkpoints`]). Invariants: every job is
//! answered once; `dataSize` never promises what the disk does not have; the first failed sync of a file is
//! final, since on a dead disk the next one may return success; a descriptor is closed as soon as its file
//! has failed for good, so that nothing keeps a dead mount busy; on a full disk the written part stays.

pub mod checkpoints;
pub mod per_file;

use super::disks::Disks;
use super::fault::{closed_before, fault};
use super::fs::Fs;
use super::on_disk::{check_device, why_really};
use super::open_file::{OpenFile, check_handle};
use super::open_files::OpenFiles;
use super::sidecar_file::temporary_name;
use crate::jobs::{Done, Fault, FaultKind, FileKey, Folder, Job, Open, Opened, Piece, Space};
use media::time::Mono;
use per_file::PerFile;
use recfile::name::sidecar_name;
use recfile::sidecar::Sidecar;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

/// With more room than a new file and its sidecar need, a disk that takes none is short of names.
const NAMES_ALONE_OCTETS: u64 = 1024 * 1024;

/// The policy of syncs: when written octets become durable, and by which calls.
pub trait SyncPolicy<F: Fs + Disks> {
    /// Its state for each open file.
    type Kept: Default;

    /// The interval between looks at the room on the disk.
    const SPACE_INTERVAL: Duration;

    /// A file may be made by a measurement of the free room that is not older.
    const SPACE_AT_OPEN: Duration;

    /// Makes the folder of a new file, if need be.
    ///
    /// # Errors
    /// If it can't be, or is not on the disk that it is to be on.
    fn make_folder(&mut self, fs: &F, folder: &Folder) -> Result<(), Fault>;

    /// The place of a new file in the order of its disk's, if that is kept.
    fn number(&mut self, fs: &F, open: &Open, clock: fn() -> Mono) -> Option<u64>;

    /// Writes the octets in front of the audio, and the first sidecar: from here on a cut leaves a file that
    /// opens.
    ///
    /// # Errors
    /// The failed write; the writer takes the files back.
    fn begin(
        &mut self,
        fs: &F,
        ours: &mut OpenRecording<F::File, Self::Kept>,
        sidecar: &Sidecar,
        folder: &Folder,
    ) -> Result<(), Fault>;

    /// Audio was written; with `flush` it is to become durable.
    ///
    /// # Errors
    /// The failed sync. It is final.
    fn written(
        &mut self,
        fs: &F,
        ours: &mut OpenRecording<F::File, Self::Kept>,
        flush: bool,
    ) -> Result<(), Fault>;

    /// Finishes a file with its final sidecar. `None` if the answer comes with a checkpoint.
    fn close(
        &mut self,
        fs: &F,
        key: FileKey,
        ours: OpenRecording<F::File, Self::Kept>,
        sidecar: Sidecar,
    ) -> Option<Result<Option<Space>, Fault>>;

    /// Does a job that is about no open file. `None` if it does not know of any such.
    fn other(
        &mut self,
        fs: &F,
        files: &Files<F::File, Self::Kept>,
        clock: fn() -> Mono,
        job: Job,
    ) -> Option<Done>;

    /// The time of the next checkpoint, if one is due; `is_writing`: there are open files.
    fn poll_deadline(&self, is_writing: bool) -> Option<Mono>;

    /// Makes everything durable, and adds the answers to jobs that waited for it.
    fn checkpoint(
        &mut self,
        fs: &F,
        files: &mut Files<F::File, Self::Kept>,
        room: &mut Room,
        clock: fn() -> Mono,
        done: &mut Vec<Done>,
    );
}

/// Does jobs on a filesystem.
pub struct Writer<F: Fs + Disks, P: SyncPolicy<F> = PerFile> {
    fs: F,
    clock: fn() -> Mono,
    files: Files<F::File, P::Kept>,
    room: Room,
    policy: P,
}

/// A file that is written, and the policy's state for it.
pub struct OpenRecording<H, K> {
    file: OpenFile<H>,
    /// Id of the recording.
    recording: String,
    /// Its place in the order of the disk's files.
    order: Option<u64>,
    /// Number of the disk.
    device: u64,
    kept: K,
}

/// The files that are written.
pub struct Files<H, K>(BTreeMap<FileKey, OpenRecording<H, K>>);

impl<H, K> OpenFiles for Files<H, K> {
    fn is_open(&self, folder: &Path, name: &str) -> bool {
        self.0.values().any(|OpenRecording { file, .. }| file.folder == folder && file.name == name)
    }

    fn is_recording(&self, recording: &str) -> bool {
        self.0.values().any(|ours| ours.recording == recording)
    }
}

/// Room on the disk, not asked for each time.
#[derive(Default)]
pub struct Room {
    looked: Option<Mono>,
    space: Option<Space>,
}

impl Room {
    /// The last measurement if it is not older than `age`; else a new one.
    fn at<F: Fs>(&mut self, fs: &F, folder: &Path, now: Mono, age: Duration) -> io::Result<Space> {
        match self.space.filter(|_| self.looked.is_some_and(|looked| now.since(looked) < age)) {
            Some(space) => Ok(space),
            None => {
                let space = fs.space(folder)?;
                (self.looked, self.space) = (Some(now), Some(space));
                Ok(space)
            }
        }
    }

    /// A new measurement, if the last one is older than `interval`.
    fn if_due<F: Fs>(&mut self, fs: &F, folder: &Path, now: Mono, interval: Duration) -> Option<Space> {
        if self.looked.is_some_and(|looked| now.since(looked) < interval) {
            return None;
        }
        self.looked = Some(now);
        self.space = fs.space(folder).ok();
        self.space
    }
}

impl<F: Fs + Disks, P: SyncPolicy<F>> Writer<F, P> {
    /// A writer on `fs`; `clock` measures how long the disk takes.
    pub fn new(fs: F, clock: fn() -> Mono, policy: P) -> Self {
        Self { fs, clock, files: Files(BTreeMap::new()), room: Room::default(), policy }
    }

    /// The time by its clock.
    pub fn now(&self) -> Mono {
        (self.clock)()
    }

    /// Does one job. Gives no answer if that comes with a checkpoint.
    pub fn handle(&mut self, job: Job) -> Option<Done> {
        Some(match job {
            Job::Append { file, pieces, flush } => self.append(file, pieces, flush),
            Job::Scan(look) => Done::Scanned(self.fs.scan(&look)),
            Job::Open(open) => {
                let (file, device) = (open.file, open.folder.device);
                let result = self.open(open);
                Done::Opened { file, result: result.map_err(|fault| why_really(&self.fs, device, fault)) }
            }
            Job::Close { file, sidecar } => Done::Closed { file, result: self.close(file, *sidecar)? },
            Job::Abandon(file) => {
                self.files.0.remove(&file);
                Done::Abandoned(file)
            }
            job => return self.policy.other(&self.fs, &self.files, self.clock, job),
        })
    }

    /// The time of the next checkpoint, if one is due.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        self.policy.poll_deadline(!self.files.0.is_empty())
    }

    /// Makes everything durable, and adds the answers to jobs that waited for it.
    pub fn checkpoint(&mut self, done: &mut Vec<Done>) {
        let Self { fs, clock, files, room, policy } = self;
        policy.checkpoint(fs, files, room, *clock, done);
    }

    fn open(&mut self, open: Open) -> Result<Opened, Fault> {
        let Self { fs, clock, files, room, policy } = self;
        let folder = open.folder.path();
        check_device(fs, &open.folder)?;
        policy.make_folder(fs, &open.folder)?;
        let space = room.at(fs, &folder, clock(), P::SPACE_AT_OPEN);
        let space = space.map_err(|error| fault("look at", &folder, &error))?;
        let order = policy.number(fs, &open, *clock);
        let Open { file: key, folder: wanted, stamp, header, sidecar } = open;
        let file = OpenFile::create(fs, folder, stamp, header);
        let file = file.map_err(|fault| no_more_files(fault, space))?;
        check_handle(fs, &file, wanted.device)?;
        let sidecar = Sidecar { file: file.name.clone(), order, ..*sidecar };
        let mut ours = OpenRecording {
            file,
            recording: sidecar.recording.clone(),
            order,
            device: wanted.device,
            kept: P::Kept::default(),
        };
        let begun = policy.begin(fs, &mut ours, &sidecar, &wanted);
        let file = &ours.file;
        if let Err(fault) = begun {
            // Nothing was recorded yet: leave no empty shell behind.
            for name in [file.name.clone(), sidecar_name(&file.name), temporary_name(&file.name)] {
                let _ = fs.remove(&file.folder.join(name));
            }
            return Err(no_more_files(fault, space));
        }
        let opened = Opened { path: file.path(), name: file.name.clone(), space };
        files.0.insert(key, ours);
        Ok(opened)
    }

    fn append(&mut self, key: FileKey, pieces: Vec<Piece>, flush: bool) -> Done {
        let started = (self.clock)();
        let Self { fs, files, room, policy, .. } = self;
        let Some(ours) = files.0.get_mut(&key) else {
            let result = Err(closed_before());
            return Done::Appended { file: key, pieces, durable_octets: 0, took: Duration::ZERO, result };
        };
        if ours.file.fault.is_none() {
            let written = ours.file.write_pieces(fs, &pieces);
            let written = written.map_err(|error| fault("write", &ours.file.path(), &error));
            let result = written.and_then(|()| policy.written(fs, ours, flush));
            ours.file.fault = result.err().map(|fault| why_really(fs, ours.device, fault));
            let full = ours.file.fault.as_ref().map(|fault| fault.kind).filter(|kind| kind.lets_finish());
            if let Some(kind) = full {
                ours.file.make_room_to_finish(fs, kind);
                // The last measurement no longer holds.
                *room = Room::default();
            }
        }
        let took = (self.clock)().since(started);
        let file = &ours.file;
        let durable_octets = file.durable;
        let result = match file.fault.clone() {
            Some(fault) => Err(fault),
            None => Ok(room.if_due(fs, &file.folder, started, P::SPACE_INTERVAL)),
        };
        // A full disk still has a file to finish. Any other failure is final, and the descriptor goes at
        // once.
        if result.as_ref().is_err_and(|fault| !fault.kind.lets_finish()) {
            files.0.remove(&key);
        }
        Done::Appended { file: key, pieces, durable_octets, took, result }
    }

    fn close(&mut self, key: FileKey, mut sidecar: Sidecar) -> Option<Result<Option<Space>, Fault>> {
        let Some(mut ours) = self.files.0.remove(&key) else { return Some(Err(closed_before())) };
        match ours.file.fault.take() {
            Some(fault) if !fault.kind.lets_finish() => return Some(Err(fault)),
            _ => {}
        }
        sidecar.order = ours.order;
        let device = ours.device;
        if let Err(error) = ours.file.complete_frame(&self.fs) {
            let fault = fault("finish", &ours.file.path(), &error);
            return Some(Err(why_really(&self.fs, device, fault)));
        }
        let closed = self.policy.close(&self.fs, key, ours, sidecar)?;
        Some(closed.map_err(|fault| why_really(&self.fs, device, fault)))
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

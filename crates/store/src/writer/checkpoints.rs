//! One sync for all files rather than several for each: thousands of calls on one disk need it.
//!
//! A sync makes the disk empty its cache, and it takes the disk as long for one file as for thousands.
//! So appending is left to the page cache, and from time to time a checkpoint makes everything durable by one
//! `syncfs`. Order of a checkpoint: `syncfs`, then `dataSize` of every file and the final sidecars (written
//! before, renamed now) with their lines in the ledger, then, if a file is closed, `syncfs` again. So
//! `dataSize` never promises what the disk does not have, and a file that was reported closed is on the disk.
//! Invariants: every job is answered once, all but closing at once; after a failed sync no file of that time
//! takes more or counts as whole.

use super::{Files, OpenRecording, Room, SyncPolicy};
use crate::disks::Disks;
use crate::fault::{fault, sync_fault};
use crate::fs::Fs;
use crate::jobs::server::{ServerDone, ServerJob};
use crate::jobs::{Done, Fault, FaultKind, FileKey, Folder, Job, Open, Space};
use crate::open_file::OpenFile;
use crate::segments;
use crate::sidecar_file::{self, temporary_name};
use media::time::Mono;
use recfile::name::sidecar_name;
use recfile::sidecar::Sidecar;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Sidecars that wait for room on a full disk, or for a descriptor.
const MAX_LATE: usize = 256;

/// Longest time that a closed file waits for its checkpoint, while others are still written.
const CLOSE_INTERVAL: Duration = Duration::from_secs(1);

/// A checkpoint that takes longer is worth a warning: until it is done, audio stays in memory.
const SLOW: Duration = Duration::from_secs(2);

/// Books of the recordings that are made, beside their files and on the same disk.
pub trait Ledger<F: Fs> {
    /// The line for a finished file.
    type Line;

    /// A recording of this id is about to have a sidecar.
    fn begin(&mut self, fs: &F, recording: &str);

    /// The line of a file in `folder` that ends with this sidecar.
    fn line(&self, folder: &Path, sidecar: &Sidecar) -> Self::Line;

    /// The file of this line is whole: the line is due.
    fn finished(&mut self, line: Self::Line);

    /// Whether lines are due.
    fn is_due(&self) -> bool;

    /// Writes the lines that are due. Lines that fail are due again at the next checkpoint.
    ///
    /// # Errors
    /// As the system says.
    fn write(&mut self, fs: &F) -> Result<(), Fault>;
}

/// The server's way.
pub struct Checkpoints<F: Fs, L: Ledger<F>> {
    interval: Duration,
    ledger: L,
    closing: Vec<Closing<F::File, L::Line>>,
    /// A file that was open at the last checkpoint: the kernel tells it of a failed write-back.
    witness: Option<F::File>,
    /// Tried again at each checkpoint; beyond the limit the next start has to do it.
    late: Vec<Late>,
    /// The numbers of those jobs that wait for a checkpoint to be confirmed.
    confirms: Vec<u64>,
    dirty: bool,
    synced: Mono,
}

/// A final sidecar that could not be written, for want of room or of descriptors.
struct Late {
    folder: PathBuf,
    wav_name: String,
    sidecar: Sidecar,
}

impl Late {
    /// Whether it is the sidecar of this file.
    fn is_of<H>(&self, file: &OpenFile<H>) -> bool {
        (&self.folder, &self.wav_name) == (&file.folder, &file.name)
    }
}

/// A file that waits for its last checkpoint.
struct Closing<H, L> {
    key: FileKey,
    file: OpenFile<H>,
    /// Whether its final sidecar is there, under its temporary name: its line in the ledger.
    sidecar: Result<L, Fault>,
}

impl<F: Fs, L: Ledger<F>> Checkpoints<F, L> {
    /// A checkpoint each `interval` from `now` on; recordings are booked in `ledger`.
    pub fn new(interval: Duration, ledger: L, now: Mono) -> Self {
        Self {
            interval,
            ledger,
            closing: Vec::new(),
            witness: None,
            late: Vec::new(),
            confirms: Vec::new(),
            dirty: false,
            synced: now,
        }
    }

    /// Writes late sidecars under their temporary names, as many as there is room for.
    fn write_late(&self, fs: &F) -> usize {
        let written = |late: &&Late| stage(fs, &late.folder, &late.wav_name, &late.sidecar).is_ok();
        self.late.iter().take_while(written).count()
    }

    fn put_late(&mut self, fs: &F, written: usize) {
        for late in self.late.drain(..written).collect::<Vec<_>>() {
            let failed = |it: &Closing<F::File, L::Line>| it.file.fault.is_some() && late.is_of(&it.file);
            if self.closing.iter().any(failed) {
                continue;
            }
            // If not, the next start does it.
            if commit(fs, &late.folder, &late.wav_name).is_ok() {
                let line = self.ledger.line(&late.folder, &late.sidecar);
                self.ledger.finished(line);
            }
            self.dirty = true;
        }
    }

    fn sync(&self, fs: &F, files: &Files<F::File, ()>) -> io::Result<()> {
        let oldest = files.0.values().map(|ours| &ours.file.handle).next();
        let handle = self.witness.as_ref().or(oldest).or_else(|| Some(&self.closing.first()?.file.handle));
        handle.map_or(Ok(()), |handle| fs.sync_everything(handle))
    }

    fn all<'a>(
        &'a mut self,
        files: &'a mut Files<F::File, ()>,
    ) -> impl Iterator<Item = &'a mut OpenFile<F::File>> {
        let open = files.0.values_mut().map(|ours| &mut ours.file);
        open.chain(self.closing.iter_mut().map(|closing| &mut closing.file))
    }

    /// Everything written so far is durable: the headers may say so.
    fn promise_all(&mut self, fs: &F, files: &mut Files<F::File, ()>) {
        let mut dirty = self.dirty;
        for file in self.all(files).filter(|file| file.fault.is_none()) {
            file.durable = file.written;
            let changed = file.promise(fs);
            dirty |= matches!(changed, Ok(true));
            file.fault = changed.err().map(|error| fault("write", &file.path(), &error));
        }
        self.dirty = dirty;
    }

    fn fail_all(&mut self, files: &mut Files<F::File, ()>, error: &io::Error) {
        for file in self.all(files) {
            // The durable length of a file that a full disk let finish is not known any more.
            if file.fault.as_ref().is_none_or(|fault| fault.kind.lets_finish()) {
                file.fault = Some(sync_fault(&file.path(), error));
            }
        }
        // Nor is a sidecar to call one of them whole later.
        let Self { late, closing, .. } = self;
        late.retain(|late| !closing.iter().any(|closing| late.is_of(&closing.file)));
    }

    /// Ends the files that wait for it; false if the sync failed.
    fn finish_closing(
        &mut self,
        fs: &F,
        files: &mut Files<F::File, ()>,
        mut space: impl FnMut(&Path) -> Option<Space>,
        done: &mut Vec<Done>,
    ) -> bool {
        let closing = std::mem::take(&mut self.closing);
        if closing.is_empty() {
            // The lines of late sidecars are made durable by the next checkpoint.
            self.dirty |= self.ledger.is_due() && self.ledger.write(fs).is_ok();
            return true;
        }
        let mut results = Vec::with_capacity(closing.len());
        let space = closing.first().and_then(|it| space(&it.file.folder));
        for Closing { key, file, sidecar } in closing {
            let result = match file.fault {
                Some(fault) => Err(fault),
                None => sidecar.and_then(|line| {
                    commit(fs, &file.folder, &file.name)?;
                    self.ledger.finished(line);
                    Ok(())
                }),
            };
            // The witness stays open, but nobody is to take it for a file that is being written.
            let _ = fs.unlock(&file.handle);
            self.witness = Some(file.handle);
            results.push((key, result));
        }
        let listed = if self.ledger.is_due() { self.ledger.write(fs) } else { Ok(()) };
        let synced = self.sync(fs, files);
        if let Err(error) = &synced {
            // Writes of the open files since the first sync are lost with it.
            self.fail_all(files, error);
        }
        // Only headers of files that are still open may wait.
        self.dirty = !files.0.is_empty();
        for (key, result) in results {
            let result = match (&synced, result) {
                (Err(error), Ok(())) => Err(sync_fault(Path::new("recordings"), error)),
                // The recording is whole. It counts as left, for the next start to find if it gets no line
                // before.
                (_, result) => result.and_then(|()| listed.clone()).map(|()| space),
            };
            done.push(Done::Closed { file: key, result });
        }
        synced.is_ok()
    }
}

impl<F: Fs + Disks, L: Ledger<F>> SyncPolicy<F> for Checkpoints<F, L> {
    type Kept = ();
    const SPACE_INTERVAL: Duration = Duration::from_secs(1);
    const SPACE_AT_OPEN: Duration = <Self as SyncPolicy<F>>::SPACE_INTERVAL;

    /// The folder of the device, and that of the day in it.
    fn make_folder(&mut self, fs: &F, folder: &Folder) -> Result<(), Fault> {
        let mut path = folder.root.clone();
        for part in folder.name.split('/').filter(|part| !part.is_empty()) {
            path.push(part);
            fs.create_folder(&path).map_err(|error| fault("create the folder", &path, &error))?;
            if fs.is_link(&path) {
                let detail = format!("{} is a link; make it a folder", path.display());
                return Err(Fault { kind: FaultKind::Denied, detail });
            }
        }
        Ok(())
    }

    fn number(&mut self, _: &F, _: &Open, _: fn() -> Mono) -> Option<u64> {
        None
    }

    fn begin(
        &mut self,
        fs: &F,
        ours: &mut OpenRecording<F::File, ()>,
        sidecar: &Sidecar,
        _: &Folder,
    ) -> Result<(), Fault> {
        // Before its sidecar, so that the id is in no sidecar alone after the next sync.
        self.ledger.begin(fs, &sidecar.recording);
        let file = &mut ours.file;
        file.begin(fs).map_err(|error| fault("create", &file.path(), &error))?;
        stage(fs, &file.folder, &file.name, sidecar)?;
        commit(fs, &file.folder, &file.name)?;
        self.dirty = true;
        Ok(())
    }

    fn written(&mut self, _: &F, _: &mut OpenRecording<F::File, ()>, _: bool) -> Result<(), Fault> {
        self.dirty = true;
        Ok(())
    }

    fn close(
        &mut self,
        fs: &F,
        key: FileKey,
        ours: OpenRecording<F::File, ()>,
        mut sidecar: Sidecar,
    ) -> Option<Result<Option<Space>, Fault>> {
        let mut file = ours.file;
        file.describe(fs, &mut sidecar);
        // The recording itself counts: a sidecar that finds no room, or no descriptor, is written later.
        let staged =
            stage(fs, &file.folder, &file.name, &sidecar).map(|()| self.ledger.line(&file.folder, &sidecar));
        if staged.is_err() && self.late.len() < MAX_LATE {
            let (folder, wav_name) = (file.folder.clone(), file.name.clone());
            self.late.push(Late { folder, wav_name, sidecar });
        }
        self.dirty = true;
        self.closing.push(Closing { key, file, sidecar: staged });
        None
    }

    /// The server recovers before it opens, and asks for nothing else.
    fn other(&mut self, fs: &F, _: &Files<F::File, ()>, _: fn() -> Mono, job: Job) -> Option<Done> {
        match job {
            Job::Server(ServerJob::Confirm(number)) => {
                self.confirms.push(number);
                self.dirty = true;
                None
            }
            Job::Server(ServerJob::Find { ask, folder, mark }) => {
                let result = segments::find(fs, &folder, mark);
                Some(Done::Server(ServerDone::Found { ask, result }))
            }
            _ => None,
        }
    }

    fn poll_deadline(&self, is_writing: bool) -> Option<Mono> {
        let waits = !self.closing.is_empty() || !self.confirms.is_empty();
        let wait = match (!waits, is_writing) {
            (false, false) => Duration::ZERO,
            (false, true) => CLOSE_INTERVAL.min(self.interval),
            (true, _) => self.interval,
        };
        self.dirty.then_some(self.synced + wait)
    }

    fn checkpoint(
        &mut self,
        fs: &F,
        files: &mut Files<F::File, ()>,
        room: &mut Room,
        clock: fn() -> Mono,
        done: &mut Vec<Done>,
    ) {
        let began = clock();
        let written = self.write_late(fs);
        let confirms = std::mem::take(&mut self.confirms);
        let result = self.sync(fs, files);
        let is_synced = result.is_ok();
        self.dirty = false;
        match result {
            Ok(()) => {
                self.promise_all(fs, files);
                self.put_late(fs, written);
            }
            Err(error) => self.fail_all(files, &error),
        }
        let closed = self.closing.len();
        let age = <Self as SyncPolicy<F>>::SPACE_INTERVAL;
        let is_closed = self.finish_closing(fs, files, |folder| room.at(fs, folder, clock(), age).ok(), done);
        let is_durable = is_synced && is_closed;
        done.extend(
            confirms.into_iter().map(|number| Done::Server(ServerDone::Confirmed { number, is_durable })),
        );
        // Also if nothing else is written any more.
        self.dirty |= !self.late.is_empty() || self.ledger.is_due();
        self.synced = clock();
        let took = self.synced.since(began);
        if took > SLOW {
            log::warn!("disk_slow checkpoint_ms={} closed={closed}", took.as_millis());
        }
    }
}

/// Writes a sidecar under its temporary name.
fn stage<F: Fs>(fs: &F, folder: &Path, wav_name: &str, sidecar: &Sidecar) -> Result<(), Fault> {
    let staged = sidecar_file::stage(fs, folder, wav_name, sidecar);
    staged.map(drop).map_err(|error| fault("write", &folder.join(temporary_name(wav_name)), &error))
}

/// Gives it its name, in place of a former one.
fn commit<F: Fs>(fs: &F, folder: &Path, wav_name: &str) -> Result<(), Fault> {
    let renamed = sidecar_file::commit(fs, folder, wav_name);
    renamed.map_err(|error| fault("write", &folder.join(sidecar_name(wav_name)), &error))
}

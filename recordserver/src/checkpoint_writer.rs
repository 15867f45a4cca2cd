//! The writer of the server: jobs in, answers out, and one sync for all files rather than several for each.
//!
//! A sync makes the disk empty its cache, and it takes the disk as long for one file as for thousands.
//! So appending is left to the page cache, and from time to time a checkpoint makes everything durable by one
//! `syncfs`. Order of a checkpoint: `syncfs`, then `dataSize` of every file and the final sidecars (written
//! before, renamed now) with their lines of the journal, then, if a file is closed, `syncfs` again. So `dataSize` never
//! promises what the disk does not have, and a file that was reported closed is on the disk. Invariants: every job is answered
//! once, all but closing at once; after a failed sync no file of that time takes more or counts as whole.

use crate::journal::{Journal, Line, MAX_LINES, locked};
use crate::used_ids::mark;
use media::time::Mono;
use recfile::name::sidecar_name;
use recfile::sidecar::Sidecar;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::disks::Disks;
use store::fault::{closed_before, fault};
use store::fs::Fs;
use store::jobs::{Done, Fault, FaultKind, FileKey, Folder, Job, Open, Opened, Piece, Space};
use store::on_disk::check_device;
use store::open_file::{OpenFile, check_handle};
use store::sidecar_file::{self, temporary_name};

/// Sidecars that wait for room on a full disk, or for a descriptor.
const MAX_LATE: usize = 256;

/// The room on the disk is looked at this often.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// A closed file waits at most this long for its checkpoint, while others are still written.
const CLOSE_INTERVAL: Duration = Duration::from_secs(1);

/// Does the jobs of the server on a filesystem.
pub struct CheckpointWriter<F: Fs + Disks> {
    fs: F,
    clock: fn() -> Mono,
    interval: Duration,
    files: BTreeMap<FileKey, OpenFile<F::File>>,
    closing: Vec<Closing<F::File>>,
    /// A file that was open at the last checkpoint: a failed write-back is told to who was there.
    witness: Option<F::File>,
    /// Tried again at each checkpoint; beyond the limit the next start has to do it.
    late: Vec<Late>,
    /// Also written to by who recovers.
    journal: Arc<Mutex<Journal>>,
    /// The file of [`crate::used_ids`].
    used_ids: Option<F::File>,
    /// Finished files that the journal has no line of; beyond the limit the next start finds them.
    unlisted: Vec<Line>,
    /// It was told that the journal can't be written.
    is_behind: bool,
    dirty: bool,
    synced: Mono,
    room: Room,
}

/// A final sidecar that could not be written, for want of room or of descriptors.
struct Late {
    folder: PathBuf,
    wav_name: String,
    sidecar: Sidecar,
}

/// A file that waits for its last checkpoint.
struct Closing<H> {
    key: FileKey,
    file: OpenFile<H>,
    /// Whether its final sidecar is there, under its temporary name: its line of the journal.
    sidecar: Result<Line, Fault>,
}

impl<F: Fs + Disks> CheckpointWriter<F> {
    /// A writer on `fs` with a checkpoint each `interval`; `clock` tells when. Finished files go into `journal`,
    /// ids of recordings into the file `used_ids`.
    pub fn new(
        fs: F,
        clock: fn() -> Mono,
        interval: Duration,
        journal: Arc<Mutex<Journal>>,
        used_ids: Option<F::File>,
    ) -> Self {
        let synced = clock();
        Self {
            fs,
            clock,
            interval,
            files: BTreeMap::new(),
            closing: Vec::new(),
            witness: None,
            late: Vec::new(),
            journal,
            used_ids,
            unlisted: Vec::new(),
            is_behind: false,
            dirty: false,
            synced,
            room: Room::default(),
        }
    }

    /// Does one job. No answer to a `Close`, the next checkpoint has it, and none to what only an agent asks for.
    pub fn handle(&mut self, job: Job) -> Option<Done> {
        Some(match job {
            Job::Scan(look) => Done::Scanned(self.fs.scan(&look)),
            Job::Open(open) => Done::Opened { file: open.file, result: self.open(open) },
            Job::Append { file, pieces, .. } => self.append(file, pieces),
            Job::Close { file, sidecar } => {
                return self
                    .close(file, *sidecar)
                    .err()
                    .map(|fault| Done::Closed { file, result: Err(fault) });
            }
            Job::Abandon(file) => {
                self.files.remove(&file);
                Done::Abandoned(file)
            }
            // The server recovers before it opens, and asks for nothing else.
            _ => return None,
        })
    }

    /// When the next checkpoint is due; `None` if there is nothing to make durable.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        let wait = match (self.closing.is_empty(), self.files.is_empty()) {
            (false, true) => Duration::ZERO,
            (false, false) => CLOSE_INTERVAL.min(self.interval),
            (true, _) => self.interval,
        };
        self.dirty.then_some(self.synced + wait)
    }

    /// Makes everything durable and puts the answers to `Close` into `done`.
    pub fn checkpoint(&mut self, done: &mut Vec<Done>) {
        let written = self.write_late();
        let result = self.sync();
        self.dirty = false;
        match result {
            Ok(()) => {
                self.put_late(written);
                self.promise_all();
            }
            Err(error) => self.fail_all(&error),
        }
        self.finish_closing(done);
        // Also if nothing else is written any more.
        self.dirty |= !self.late.is_empty() || !self.unlisted.is_empty();
        self.synced = (self.clock)();
    }

    /// Writes late sidecars under their temporary names, as many as there is room for.
    fn write_late(&self) -> usize {
        let written = |late: &&Late| self.write_sidecar(&late.folder, &late.wav_name, &late.sidecar).is_ok();
        self.late.iter().take_while(written).count()
    }

    fn put_late(&mut self, written: usize) {
        for late in self.late.drain(..written).collect::<Vec<_>>() {
            // If not, the next start does it.
            if self.put_sidecar(&late.folder, &late.wav_name).is_ok() {
                let line = self.line_of(&late.folder, &late.sidecar);
                self.finished(line);
            }
            self.dirty = true;
        }
    }

    fn sync(&self) -> io::Result<()> {
        let oldest = self.files.values().map(|file| &file.handle).next();
        let handle = self.witness.as_ref().or(oldest).or_else(|| Some(&self.closing.first()?.file.handle));
        handle.map_or(Ok(()), |handle| self.fs.sync_everything(handle))
    }

    /// Everything written so far is durable: the headers may say so.
    fn promise_all(&mut self) {
        for file in self.files.values_mut().chain(self.closing.iter_mut().map(|closing| &mut closing.file)) {
            if file.fault.is_none() {
                file.durable = file.written;
                let changed = file.promise(&self.fs);
                self.dirty |= matches!(changed, Ok(true));
                file.fault = changed.err().map(|error| fault("write", &file.path(), &error));
            }
        }
    }

    fn fail_all(&mut self, error: &io::Error) {
        for file in self.files.values_mut().chain(self.closing.iter_mut().map(|closing| &mut closing.file)) {
            file.fault.get_or_insert_with(|| fault("sync", &file.folder.join(&file.name), error));
        }
    }

    fn finish_closing(&mut self, done: &mut Vec<Done>) {
        let closing = std::mem::take(&mut self.closing);
        if closing.is_empty() {
            // The lines of late sidecars are made durable by the next checkpoint.
            self.dirty |= !self.unlisted.is_empty() && self.list().is_ok();
            return;
        }
        let mut results = Vec::with_capacity(closing.len());
        let now = (self.clock)();
        let space = closing.first().and_then(|it| self.room.at(now, &self.fs, &it.file.folder).ok());
        for Closing { key, file, sidecar } in closing {
            let result = match file.fault {
                Some(fault) => Err(fault),
                None => sidecar.and_then(|line| {
                    self.put_sidecar(&file.folder, &file.name)?;
                    self.finished(line);
                    Ok(())
                }),
            };
            // The witness stays open, but nobody is to take it for a file that is being written.
            let _ = self.fs.unlock(&file.handle);
            self.witness = Some(file.handle);
            results.push((key, result));
        }
        let listed = self.list();
        let synced = self.sync();
        // Only headers of files that are still open may wait.
        self.dirty = !self.files.is_empty();
        for (key, result) in results {
            let result = match (&synced, result) {
                (Err(error), Ok(())) => Err(fault("sync", Path::new("recordings"), error)),
                // The recording is whole. It counts as left, for the next start to find if it gets no line before.
                (_, result) => result.and_then(|()| listed.clone()).map(|()| space),
            };
            done.push(Done::Closed { file: key, result });
        }
    }

    fn line_of(&self, folder: &Path, sidecar: &Sidecar) -> Line {
        locked(&self.journal).line(folder, sidecar)
    }

    /// A file is whole, with its sidecar: the journal is due to have its line.
    fn finished(&mut self, line: Line) {
        if self.unlisted.len() < MAX_LINES {
            self.unlisted.push(line);
        }
    }

    /// Writes the lines that are due. What fails is tried again at each checkpoint.
    fn list(&mut self) -> Result<(), Fault> {
        if self.unlisted.is_empty() {
            return Ok(());
        }
        let appended = locked(&self.journal).append(&self.fs, &self.unlisted);
        match appended {
            Ok(_) => {
                if std::mem::take(&mut self.is_behind) {
                    log::info!("journal_caught_up lines={}", self.unlisted.len());
                }
                self.unlisted.clear();
                Ok(())
            }
            Err(fault) => {
                if !std::mem::replace(&mut self.is_behind, true) {
                    log::error!("journal_behind {:?}; recordings go on, and it is tried again", fault.detail);
                }
                Err(fault)
            }
        }
    }

    fn open(&mut self, open: Open) -> Result<Opened, Fault> {
        let folder = open.folder.path();
        check_device(&self.fs, &open.folder)?;
        self.create_folders(&open.folder)?;
        let space = self.room.at((self.clock)(), &self.fs, &folder);
        let space = space.map_err(|error| fault("look at", &folder, &error))?;
        let mut file = OpenFile::create(&self.fs, folder, open.stamp, open.header)?;
        check_handle(&self.fs, &file, open.folder.device)?;
        let mut sidecar = *open.sidecar;
        sidecar.file.clone_from(&file.name);
        if let Err(fault) = self.begin(&mut file, &sidecar) {
            // Nothing was recorded yet: leave no empty shell behind.
            for name in [file.name.clone(), sidecar_name(&file.name), temporary_name(&file.name)] {
                let _ = self.fs.remove(&file.folder.join(name));
            }
            return Err(fault);
        }
        self.dirty = true;
        let opened = Opened { path: file.path(), name: file.name.clone(), space };
        self.files.insert(open.file, file);
        Ok(opened)
    }

    /// The folder of the device, and that of the day in it.
    fn create_folders(&self, folder: &Folder) -> Result<(), Fault> {
        let mut path = folder.root.clone();
        for part in folder.name.split('/').filter(|part| !part.is_empty()) {
            path.push(part);
            self.fs.create_folder(&path).map_err(|error| fault("create the folder", &path, &error))?;
            if self.fs.is_link(&path) {
                let detail = format!("{} is a link; make it a folder", path.display());
                return Err(Fault { kind: FaultKind::Denied, detail });
            }
        }
        Ok(())
    }

    fn begin(&self, file: &mut OpenFile<F::File>, sidecar: &Sidecar) -> Result<(), Fault> {
        // Before its sidecar, so that the id is in no sidecar alone after the next sync.
        let marked = self.used_ids.as_ref().map(|ids| mark(&self.fs, ids, &sidecar.recording));
        if let Some(Err(error)) = marked {
            log::warn!("id_not_noted recording={:?}: {error}", sidecar.recording);
        }
        file.begin(&self.fs).map_err(|error| fault("create", &file.path(), &error))?;
        self.write_sidecar(&file.folder, &file.name, sidecar)?;
        self.put_sidecar(&file.folder, &file.name)
    }

    fn append(&mut self, key: FileKey, pieces: Vec<Piece>) -> Done {
        let started = (self.clock)();
        let Some(file) = self.files.get_mut(&key) else {
            let result = Err(closed_before());
            return Done::Appended { file: key, pieces, durable_octets: 0, took: Duration::ZERO, result };
        };
        if file.fault.is_none() {
            self.dirty = true;
            let written = file.write_pieces(&self.fs, &pieces);
            file.fault = written.err().map(|error| fault("write", &file.path(), &error));
            if let Some(kind) = file.fault.as_ref().map(|fault| fault.kind).filter(|kind| kind.lets_finish())
            {
                file.make_room_to_finish(&self.fs, kind);
                // What was measured before is no longer so.
                self.room = Room::default();
            }
        }
        let durable_octets = file.durable;
        let result = match &file.fault {
            Some(fault) => Err(fault.clone()),
            // Those who write have to hear of it before the reserve is used up.
            None => Ok(self.room.at(started, &self.fs, &file.folder).ok()),
        };
        Done::Appended { file: key, pieces, durable_octets, took: (self.clock)().since(started), result }
    }

    fn close(&mut self, key: FileKey, mut sidecar: Sidecar) -> Result<(), Fault> {
        let Some(mut file) = self.files.remove(&key) else { return Err(closed_before()) };
        match file.fault.take() {
            Some(fault) if !fault.kind.lets_finish() => return Err(fault),
            _ => {}
        }
        file.complete_frame(&self.fs).map_err(|error| fault("finish", &file.path(), &error))?;
        file.describe(&self.fs, &mut sidecar);
        let written = self.write_sidecar(&file.folder, &file.name, &sidecar);
        // The recording itself is what counts: a sidecar that finds no room, or no descriptor, is written later.
        let written = written.map(|()| self.line_of(&file.folder, &sidecar));
        if written.is_err() && self.late.len() < MAX_LATE {
            let (folder, wav_name) = (file.folder.clone(), file.name.clone());
            self.late.push(Late { folder, wav_name, sidecar });
        }
        self.dirty = true;
        self.closing.push(Closing { key, file, sidecar: written });
        Ok(())
    }

    /// Writes a sidecar under its temporary name.
    fn write_sidecar(&self, folder: &Path, wav_name: &str, sidecar: &Sidecar) -> Result<(), Fault> {
        let written = sidecar_file::stage(&self.fs, folder, wav_name, sidecar);
        written.map(drop).map_err(|error| fault("write", &folder.join(temporary_name(wav_name)), &error))
    }

    /// Gives it its name, in place of a former one.
    fn put_sidecar(&self, folder: &Path, wav_name: &str) -> Result<(), Fault> {
        let renamed = sidecar_file::commit(&self.fs, folder, wav_name);
        renamed.map_err(|error| fault("write", &folder.join(sidecar_name(wav_name)), &error))
    }
}

/// Room on the disk, not asked for each time.
#[derive(Default)]
struct Room(Option<(Mono, Space)>);

impl Room {
    fn at<F: Fs>(&mut self, now: Mono, fs: &F, folder: &Path) -> io::Result<Space> {
        match self.0 {
            Some((seen, space)) if now.since(seen) < SPACE_INTERVAL => Ok(space),
            _ => {
                let space = fs.space(folder)?;
                self.0 = Some((now, space));
                Ok(space)
            }
        }
    }
}

//! The writer of an office: jobs in, answers out, and one sync for all files rather than several for each.
//!
//! A sync makes the disk empty its cache, and it takes the disk as long for one file as for thousands.
//! So appending is left to the page cache, and from time to time a checkpoint makes everything durable by one
//! `syncfs`. Order of a checkpoint: `syncfs`, then `dataSize` of every file and the final sidecars (written
//! before, renamed now), then, if a file is closed, `syncfs` again. So `dataSize` never promises what the
//! disk does not have, and a file that was reported closed is on the disk. Invariants: every job is answered
//! once, all but closing at once; after a failed sync no file of that time takes more or counts as whole.

use phone_recorder::file::header::{DATA_SIZE_OFFSET, FileHeader, HEADER_OCTETS};
use phone_recorder::file::name::{record_file_name, sidecar_name};
use phone_recorder::file::sidecar::Sidecar;
use phone_recorder::jobs::{Done, Fault, FaultKind, FileKey, Folder, Job, Open, Opened, Piece, Space};
use phone_recorder::storage::fs::Fs;
use phone_recorder::storage::recover::create_anew;
use phone_recorder::storage::writer::{append_all, fault};
use phone_recorder::time::{Mono, Wall};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names tried for one second before giving up.
const MAX_NAME_ATTEMPTS: u32 = 999;

/// Octets of silence written at a time.
const SILENCE_OCTETS: usize = 4096;

/// Buffers handed to one write call.
const MAX_SLICES: usize = 64;

/// The room on the disk is looked at this often.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// A closed file waits at most this long for its checkpoint, while others are still written.
const CLOSE_INTERVAL: Duration = Duration::from_secs(1);

/// Does the jobs of the office on a filesystem.
pub struct OfficeWriter<F: Fs> {
    fs: F,
    clock: fn() -> Mono,
    interval: Duration,
    files: BTreeMap<FileKey, OpenFile<F::File>>,
    closing: Vec<(FileKey, OpenFile<F::File>)>,
    /// A file that was open at the last checkpoint: a failed write-back is told to who was there.
    witness: Option<F::File>,
    dirty: bool,
    synced: Mono,
    room: Room,
}

struct OpenFile<H> {
    handle: H,
    folder: PathBuf,
    name: String,
    header: FileHeader,
    /// Octets of audio written, and durable.
    written: u64,
    durable: u64,
    fault: Option<Fault>,
}

impl<F: Fs> OfficeWriter<F> {
    /// A writer on `fs` with a checkpoint each `interval`; `clock` tells when.
    pub fn new(fs: F, clock: fn() -> Mono, interval: Duration) -> Self {
        let synced = clock();
        Self {
            fs,
            clock,
            interval,
            files: BTreeMap::new(),
            closing: Vec::new(),
            witness: None,
            dirty: false,
            synced,
            room: Room::default(),
        }
    }

    /// Does one job. No answer to a `Close`, the next checkpoint has it, and none to what only an agent asks for.
    pub fn handle(&mut self, job: Job) -> Option<Done> {
        Some(match job {
            Job::Scan(target) => Done::Scanned(self.fs.scan(&target)),
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
            // An office recovers before it opens, and asks for nothing else.
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
        let result = self.sync();
        self.dirty = false;
        match result {
            Ok(()) => self.promise_all(),
            Err(error) => self.fail_all(&error),
        }
        self.finish_closing(done);
        self.synced = (self.clock)();
    }

    fn sync(&self) -> io::Result<()> {
        let oldest = self.files.values().map(|file| &file.handle).next();
        let handle = self.witness.as_ref().or(oldest).or_else(|| Some(&self.closing.first()?.1.handle));
        handle.map_or(Ok(()), |handle| self.fs.sync_everything(handle))
    }

    /// Everything written so far is durable: the headers may say so.
    fn promise_all(&mut self) {
        for file in self.files.values_mut().chain(self.closing.iter_mut().map(|(_, file)| file)) {
            if file.fault.is_none() {
                file.durable = file.written;
                let changed = promise(&self.fs, file);
                self.dirty |= matches!(changed, Ok(true));
                file.fault = changed.err().map(|error| fault("write", &file.path(), &error));
            }
        }
    }

    fn fail_all(&mut self, error: &io::Error) {
        for file in self.files.values_mut().chain(self.closing.iter_mut().map(|(_, file)| file)) {
            file.fault.get_or_insert_with(|| fault("sync", &file.folder.join(&file.name), error));
        }
    }

    fn finish_closing(&mut self, done: &mut Vec<Done>) {
        let closing = std::mem::take(&mut self.closing);
        if closing.is_empty() {
            return;
        }
        let mut results = Vec::with_capacity(closing.len());
        let now = (self.clock)();
        let space = closing.first().and_then(|(_, file)| self.room.at(now, &self.fs, &file.folder).ok());
        for (key, file) in closing {
            let result = match file.fault {
                Some(fault) => Err(fault),
                None => self.put_sidecar(&file.folder, &file.name),
            };
            self.witness = Some(file.handle);
            results.push((key, result));
        }
        let synced = self.sync();
        // Only headers of files that are still open may wait.
        self.dirty = !self.files.is_empty();
        for (key, result) in results {
            let result = match (&synced, result) {
                (Err(error), Ok(())) => Err(fault("sync", Path::new("recordings"), error)),
                (_, result) => result.map(|()| space),
            };
            done.push(Done::Closed { file: key, result });
        }
    }

    fn open(&mut self, open: Open) -> Result<Opened, Fault> {
        let folder = open.folder.path();
        self.check_device(&open.folder)?;
        self.create_folders(&open.folder)?;
        let space = self.room.at((self.clock)(), &self.fs, &folder);
        let space = space.map_err(|error| fault("look at", &folder, &error))?;
        let (handle, name) = self.create(&folder, open.stamp)?;
        let mut file =
            OpenFile { handle, folder, name, header: open.header, written: 0, durable: 0, fault: None };
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

    /// The disk may be unmounted and its mount point be a plain folder by now.
    fn check_device(&self, folder: &Folder) -> Result<(), Fault> {
        let device = self.fs.device(&folder.root);
        if device.as_ref().is_ok_and(|device| *device == folder.device) {
            return Ok(());
        }
        let detail = format!("the disk at {} is gone; mount it again", folder.root.display());
        Err(Fault { kind: FaultKind::NoStorage, detail })
    }

    /// The folder of the device, and that of the day in it.
    fn create_folders(&self, folder: &Folder) -> Result<(), Fault> {
        let mut path = folder.root.clone();
        for part in folder.name.split('/').filter(|part| !part.is_empty()) {
            path.push(part);
            self.fs.create_folder(&path).map_err(|error| fault("create the folder", &path, &error))?;
        }
        Ok(())
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
        // Without the lock nothing is lost but that recovery knows the file is being written.
        let _ = self.fs.lock(&file.handle);
        append_all(&self.fs, &mut file.handle, &mut [IoSlice::new(&file.header.encode())], &mut 0)
            .map_err(|error| fault("create", &path, &error))?;
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
            let written = write_pieces(&self.fs, file, &pieces);
            file.fault = written.err().map(|error| fault("write", &file.path(), &error));
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
            Some(fault) if fault.kind != FaultKind::Full => return Err(fault),
            _ => {}
        }
        complete_frame(&self.fs, &mut file).map_err(|error| fault("finish", &file.path(), &error))?;
        sidecar.file.clone_from(&file.name);
        sidecar.data_bytes = file.written;
        sidecar.duration_ms = file.duration_ms();
        self.write_sidecar(&file.folder, &file.name, &sidecar)?;
        self.dirty = true;
        self.closing.push((key, file));
        Ok(())
    }

    /// Writes a sidecar under its temporary name.
    fn write_sidecar(&self, folder: &Path, wav_name: &str, sidecar: &Sidecar) -> Result<(), Fault> {
        let path = folder.join(temporary_name(wav_name));
        let written = (|| {
            let mut handle = create_anew(&self.fs, &path)?;
            append_all(&self.fs, &mut handle, &mut [IoSlice::new(&sidecar.to_json())], &mut 0)
        })();
        written.map_err(|error: io::Error| {
            let _ = self.fs.remove(&path);
            fault("write", &path, &error)
        })
    }

    /// Gives it its name, in place of a former one.
    fn put_sidecar(&self, folder: &Path, wav_name: &str) -> Result<(), Fault> {
        let path = folder.join(sidecar_name(wav_name));
        let renamed = self.fs.rename(&folder.join(temporary_name(wav_name)), &path);
        renamed.map_err(|error| fault("write", &path, &error))
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

fn closed_before() -> Fault {
    Fault { kind: FaultKind::Io, detail: "the file was closed before".into() }
}

fn temporary_name(wav_name: &str) -> String {
    format!(".{}.tmp", sidecar_name(wav_name))
}

/// Writes `dataSize`, if it changes; whether it did.
fn promise<F: Fs>(fs: &F, file: &mut OpenFile<F::File>) -> io::Result<bool> {
    let data_size = u32::try_from(file.whole_frames()).unwrap_or(u32::MAX);
    if file.header.data_size == data_size {
        return Ok(false);
    }
    fs.write_at(&file.handle, &data_size.to_le_bytes(), DATA_SIZE_OFFSET)?;
    file.header.data_size = data_size;
    Ok(true)
}

fn write_pieces<F: Fs>(fs: &F, file: &mut OpenFile<F::File>, pieces: &[Piece]) -> io::Result<()> {
    let silence = [file.header.codec.silence(); SILENCE_OCTETS];
    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(pieces.len().min(MAX_SLICES));
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
                append_all(fs, &mut file.handle, &mut slices, &mut file.written)?;
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
    append_all(fs, &mut file.handle, &mut slices, &mut file.written)
}

/// Pads the last frame with silence; a disk without room for that loses the part of a frame instead.
fn complete_frame<F: Fs>(fs: &F, file: &mut OpenFile<F::File>) -> io::Result<()> {
    let frame = u64::from(file.header.rtp_len).max(1);
    let missing = usize::try_from((frame - file.written % frame) % frame).unwrap_or_default();
    if missing == 0 {
        return Ok(());
    }
    let silence = vec![file.header.codec.silence(); missing];
    if append_all(fs, &mut file.handle, &mut [IoSlice::new(&silence)], &mut file.written).is_err() {
        file.written = file.whole_frames();
        fs.set_len(&file.handle, HEADER_OCTETS as u64 + file.written)?;
    }
    Ok(())
}

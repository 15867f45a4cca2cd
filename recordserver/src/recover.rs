//! At the start: recordings that a crash or a power cut left unfinished are put right.
//!
//! An archive of years is not read through for that: a small file in the storage folder tells the first day
//! that may have unfinished recordings, and an end with everything finished removes it. Owns: that file, the
//! lock on the storage folder that keeps a second server out, and which day folders are looked at. The repair
//! of a recording is the library's [`recover`]. Finished files of these days that the
//! [`journal`](crate::journal) has no line of get one.

use crate::folders::day_folder;
use crate::journal::{Journal, Line, MAX_LINES, locked};
use crate::used_ids::UsedIds;
use media::time::{Mono, Wall};
use os::try_lock;
use recfile::name::{is_record_file_name, sidecar_name};
use recfile::sidecar::{MAX_SIDECAR_OCTETS, Sidecar, SidecarState};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use store::fs::{Fs, RealFs};
use store::recover::recover;
use store::sidecar_file::create_anew;

/// Name of the file in the storage folder.
const MARKER: &str = ".recordserver-open-since";

/// Between two tries to repair a recording that could not be repaired.
const TRY_AGAIN: Duration = Duration::from_secs(600);

/// Finished files that are looked for in the journal at once: it is read through each time.
const LISTED_AT_ONCE: usize = 100_000;

/// The work done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Day folders that were looked at.
    pub folders: usize,
    /// Recordings that were put right.
    pub recordings: usize,
    /// Recordings and folders that could not be, this time.
    pub failed: usize,
}

/// The state that a server starts with.
pub struct Recovered<F: Fs> {
    /// Recordings are being written from now on.
    pub marker: Marker,
    /// The work done.
    pub summary: Summary,
    /// The ids of all former recordings.
    pub used_ids: UsedIds,
    /// The file that they are in, or why there is none.
    pub ids_file: io::Result<F::File>,
}

/// The note that recordings are being written.
#[derive(Debug)]
pub struct Marker {
    path: PathBuf,
    journal: Arc<Mutex<Journal>>,
    since: String,
    /// The first day with something that could not be put right.
    failed: Option<String>,
    /// A second try of failed repairs, under way; it returns the first day on which one fails still.
    trying: Option<JoinHandle<(Option<String>, Summary)>>,
    tried: Mono,
    /// It is synced, which the loop must not wait for.
    writing: Option<JoinHandle<()>>,
    /// The storage folder, locked as long as this lives. Not the marker: it is replaced and removed.
    _lock: File,
}

impl Marker {
    /// Repairs unfinished recordings of the last run below `storage`, and notes that from `today` on there
    /// may be unfinished recordings again. Before anything is written there. The journal and the file of used
    /// ids are made whole, too.
    ///
    /// # Errors
    /// The folder can't be read or written, or another server uses it.
    pub fn recover<F: Fs>(
        fs: &F,
        storage: &Path,
        today: Wall,
        journal: Arc<Mutex<Journal>>,
    ) -> io::Result<Recovered<F>> {
        let lock = lock(storage)?;
        if let Err(fault) = locked(&journal).prepare(fs) {
            log::error!("journal_behind {:?}; recordings go on without it", fault.detail);
        }
        let path = storage.join(MARKER);
        let mut summary = Summary::default();
        let since = match fs::read_to_string(&path) {
            Ok(since) => Some(since.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut ids = UsedIds::load(fs, storage);
        let mut failed = None;
        if let Some(since) = since {
            let mut finished = Finished::new(fs, &journal, ids.as_mut());
            failed = recover_since(fs, storage, &mut finished, (&since, ""), &mut summary)?;
        }
        let mut used_ids = match ids {
            Some(ids) => ids,
            None => all_ids(fs, storage)?,
        };
        // Before the marker forgets the days that they were found in.
        let ids_file = used_ids.save(fs, storage);
        let today = day_folder(today);
        let since = failed.clone().filter(|day| *day < today).unwrap_or(today);
        write(&path, &since)?;
        let tried = Mono::default();
        let marker = Self { path, journal, since, failed, trying: None, tried, writing: None, _lock: lock };
        Ok(Recovered { marker, summary, used_ids, ids_file })
    }

    /// Tries failed repairs of the start again, now and then, on days before `open`, the first day that is
    /// being written to. A later call returns the result.
    pub fn try_again<F: Fs + Send + 'static>(&mut self, fs: F, open: &str, now: Mono) -> Option<Summary> {
        if let Some(trying) = self.trying.take_if(|trying| trying.is_finished()) {
            let (failed, summary) = trying.join().ok()?;
            self.failed = failed;
            return Some(summary);
        }
        let since = self.failed.clone().filter(|day| day.as_str() < open)?;
        let storage = self.path.parent()?.to_owned();
        if self.trying.is_some() || now.since(self.tried) < TRY_AGAIN {
            return None;
        }
        self.tried = now;
        let (open, journal) = (open.to_owned(), Arc::clone(&self.journal));
        let again = move || {
            let mut summary = Summary::default();
            let mut finished = Finished::new(&fs, &journal, None);
            let failed = recover_since(&fs, &storage, &mut finished, (&since, &open), &mut summary);
            (failed.unwrap_or(Some(since)), summary)
        };
        self.trying = thread::Builder::new().name("recovery".into()).spawn(again).ok();
        None
    }

    /// All recordings that are unfinished, now or later, are of `day` or later.
    pub fn unfinished_since(&mut self, day: String) {
        let day = self.failed.clone().filter(|failed| *failed < day).unwrap_or(day);
        let busy = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if busy || self.since == day {
            return;
        }
        self.since = day;
        let (path, since) = (self.path.clone(), self.since.clone());
        let write = move || {
            if let Err(error) = write(&path, &since) {
                log::debug!("{}: {error}", path.display());
            }
        };
        self.writing = thread::Builder::new().name("marker".into()).spawn(write).ok();
    }

    /// The server goes; with everything finished, the next one has nothing to look for.
    pub fn end(mut self, all_is_finished: bool) {
        self.settle();
        if let Some(trying) = self.trying.take_if(|trying| trying.is_finished()) {
            self.failed = trying.join().map_or(self.failed.take(), |(failed, _)| failed);
        }
        if !all_is_finished || self.failed.is_some() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }

    fn settle(&mut self) {
        // A thread that panicked has written nothing, which is safe.
        let _ = self.writing.take().map(JoinHandle::join);
    }
}

/// Repairs recordings of `since` or later, and before `open` unless that is empty, and gives the journal the
/// lines that it lacks. Returns the first day on which a repair failed.
fn recover_since<F: Fs>(
    fs: &F,
    storage: &Path,
    finished: &mut Finished<'_, F>,
    (since, open): (&str, &str),
    summary: &mut Summary,
) -> io::Result<Option<String>> {
    let mut failed: Option<String> = None;
    let mut fails = |day: &str| {
        if failed.as_deref().is_none_or(|first| day < first) {
            failed = Some(day.to_owned());
        }
    };
    for device in folders(storage)? {
        let days = folders(&device).unwrap_or_else(|error| {
            log::warn!("cannot look for unfinished recordings in {}: {error}", device.display());
            summary.failed += 1;
            fails(since);
            Vec::new()
        });
        for day in days {
            let (path, day) = (&day, name(&day));
            if day < since || !open.is_empty() && day >= open {
                continue;
            }
            summary.folders += 1;
            let pass = recover(fs, path);
            let unread = usize::from(fs::read_dir(path).is_err());
            summary.recordings += pass.recovered.len();
            summary.failed += pass.failed + unread;
            let unlisted = finished.look_through(path, day).is_err();
            if pass.failed + unread > 0 || unlisted {
                fails(day);
            }
            if finished.lines.len() >= LISTED_AT_ONCE {
                finished.list().unwrap_or_else(|first| fails(&first));
            }
        }
    }
    finished.list().unwrap_or_else(|first| fails(&first));
    Ok(failed)
}

/// The ids of all recordings, for want of the file that has them.
fn all_ids<F: Fs>(fs: &F, storage: &Path) -> io::Result<UsedIds> {
    let mut ids = UsedIds::default();
    for day in folders(storage)?.iter().filter_map(|device| folders(device).ok()).flatten() {
        // The ids of a folder that can't be listed stay unknown.
        for name in recordings(fs, &day).unwrap_or_default() {
            if let Some(sidecar) = sidecar_beside(fs, &day, &name) {
                ids.add(&sidecar.recording);
            }
        }
    }
    Ok(ids)
}

fn recordings<F: Fs>(fs: &F, folder: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    fs.names(folder, &mut |name| found.extend(is_record_file_name(name).then(|| name.to_owned())))?;
    Ok(found)
}

/// Finished files that the journal may have no line of.
struct Finished<'a, F: Fs> {
    fs: &'a F,
    journal: &'a Mutex<Journal>,
    /// The store for ids of recordings, finished or not.
    ids: Option<&'a mut UsedIds>,
    lines: BTreeMap<String, Line>,
    /// The first day that they are of.
    first: Option<String>,
}

impl<'a, F: Fs> Finished<'a, F> {
    fn new(fs: &'a F, journal: &'a Mutex<Journal>, ids: Option<&'a mut UsedIds>) -> Self {
        Self { fs, journal, ids, lines: BTreeMap::new(), first: None }
    }

    /// Notes those in the folder of a device and `day`.
    fn look_through(&mut self, folder: &Path, day: &str) -> io::Result<()> {
        for name in recordings(self.fs, folder)? {
            let Some(sidecar) = sidecar_beside(self.fs, folder, &name) else { continue };
            self.ids.iter_mut().for_each(|ids| ids.add(&sidecar.recording));
            if sidecar.state == SidecarState::Ended {
                let line = locked(self.journal).line(folder, &Sidecar { file: name, ..sidecar });
                self.lines.insert(line.file.clone(), line);
                if self.first.as_deref().is_none_or(|first| day < first) {
                    self.first = Some(day.to_owned());
                }
            }
        }
        Ok(())
    }

    /// Gives the journal the lines that it lacks; if that fails, the first day of those that it may lack.
    fn list(&mut self) -> Result<(), String> {
        let first = self.first.take();
        let mut lines = std::mem::take(&mut self.lines);
        let journal = locked(self.journal);
        let listed = journal.leave_out_listed(self.fs, &mut lines).and_then(|()| {
            let lines: Vec<Line> = lines.into_values().collect();
            for lines in lines.chunks(MAX_LINES) {
                let file = journal.append(self.fs, lines).map_err(|fault| io::Error::other(fault.detail))?;
                self.fs.sync_data(&file)?;
            }
            self.fs.sync_folder(journal.storage())
        });
        listed.map_err(|error| {
            log::error!("journal_behind {:?}; it is tried again", error.to_string());
            first.unwrap_or_default()
        })
    }
}

fn sidecar_beside<F: Fs>(fs: &F, folder: &Path, wav_name: &str) -> Option<Sidecar> {
    let octets = fs.read(&folder.join(sidecar_name(wav_name)), MAX_SIDECAR_OCTETS + 1).ok()?;
    Sidecar::parse(&octets).ok()
}

/// Replaces the file: a marker cut in half would hide recordings.
fn write(path: &Path, since: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = create_anew(&RealFs, &new)?;
    file.write_all(since.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Takes the storage folder for this process alone: the end of one server would remove the marker of another.
fn lock(storage: &Path) -> io::Result<File> {
    let folder = File::open(storage)?;
    match try_lock(&folder) {
        Ok(true) => {}
        Ok(false) => {
            let text = "another recordserver uses this folder";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        // A filesystem without locks: as it is, one has to take care oneself.
        Err(error) => log::warn!("{} can't be locked: {error}", storage.display()),
    }
    Ok(folder)
}

/// The folders in a folder, in order.
fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Links are not followed: they may lead anywhere.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::codec::Codec;
    use recfile::header::{FileHeader, HEADER_OCTETS};
    use recfile::sidecar::{Sidecar, SidecarState};

    /// 2026-03-02, the day after it.
    const MONDAY: Wall = Wall { unix_ms: 1_772_402_400_000, utc_offset_s: 7200 };
    const TUESDAY: Wall = Wall { unix_ms: 1_772_402_400_000 + 86_400_000, utc_offset_s: 7200 };

    fn recover_at(storage: &tempfile::TempDir, today: Wall) -> io::Result<(Marker, Summary)> {
        let journal = Arc::new(Mutex::new(Journal::new(storage.path())));
        let recovered = Marker::recover(&RealFs, storage.path(), today, journal);
        recovered.map(|recovered| (recovered.marker, recovered.summary))
    }

    fn archive() -> tempfile::TempDir {
        let storage = tempfile::tempdir().unwrap();
        for day in ["2026-03-01", "2026-03-02", "2026-03-03"] {
            fs::create_dir_all(storage.path().join("phone").join(day)).unwrap();
        }
        storage
    }

    #[test]
    fn after_a_clean_end_nothing_is_read() {
        let storage = archive();
        let (marker, summary) = recover_at(&storage, MONDAY).unwrap();
        assert_eq!(summary, Summary::default());
        marker.end(true);
        let (_, summary) = recover_at(&storage, TUESDAY).unwrap();
        assert_eq!(summary.folders, 0);
    }

    #[test]
    fn a_folder_belongs_to_one_server_and_to_the_next_when_that_has_gone() {
        let storage = archive();
        let (marker, _) = recover_at(&storage, MONDAY).unwrap();
        let error = recover_at(&storage, TUESDAY).unwrap_err();
        assert_eq!(error.to_string(), "another recordserver uses this folder");
        assert_eq!(fs::read_to_string(storage.path().join(MARKER)).unwrap(), day_folder(MONDAY));
        marker.end(true);
        assert!(recover_at(&storage, TUESDAY).is_ok());
    }

    #[test]
    fn unfinished_recordings_are_looked_for_after_a_clean_end_too() {
        let storage = archive();
        let (mut marker, _) = recover_at(&storage, MONDAY).unwrap();
        marker.unfinished_since(day_folder(TUESDAY));
        marker.end(false);
        let (_, summary) = recover_at(&storage, TUESDAY).unwrap();
        assert_eq!(summary.folders, 1);
    }

    #[test]
    fn after_a_crash_the_days_since_the_first_unfinished_recording_are_read() {
        let storage = archive();
        let (mut marker, _) = recover_at(&storage, MONDAY).unwrap();
        drop(marker);
        let (again, summary) = recover_at(&storage, MONDAY).unwrap();
        assert_eq!(summary.folders, 2);
        marker = again;
        marker.unfinished_since(day_folder(TUESDAY));
        marker.settle();
        drop(marker);
        let (_, summary) = recover_at(&storage, TUESDAY).unwrap();
        assert_eq!(summary.folders, 1);
    }

    const NAME: &str = "Record_20260301-091500.wav";

    /// A day with a recording that was cut off, in a folder of which nothing can be changed as long as it is
    /// told so.
    fn leave_unfinished(day: &Path) -> PathBuf {
        let mut audio = FileHeader::new(Codec::Pcma, 20).encode().to_vec();
        audio.resize(HEADER_OCTETS + 330, 1);
        fs::write(day.join(NAME), audio).unwrap();
        let sidecar = Sidecar {
            recording: "r1".into(),
            file: NAME.into(),
            codec: "PCMA".into(),
            ptime_ms: 20,
            state: SidecarState::Recording,
            ..Sidecar::default()
        };
        let beside = day.join("Record_20260301-091500.json");
        fs::write(&beside, sidecar.to_json()).unwrap();
        // The name under which a sidecar is written is taken by a folder that can't be removed.
        let obstacle = day.join(".Record_20260301-091500.json.tmp");
        fs::create_dir_all(obstacle.join("x")).unwrap();
        obstacle
    }

    #[test]
    fn a_failed_repair_is_tried_again_by_the_same_server_and_by_the_next_one() {
        let storage = archive();
        let sunday = storage.path().join("phone/2026-03-01");
        let obstacle = leave_unfinished(&sunday);
        fs::write(storage.path().join(MARKER), "2026-03-01").unwrap();
        let marked = || fs::read_to_string(storage.path().join(MARKER)).unwrap();

        let (mut marker, summary) = recover_at(&storage, TUESDAY).unwrap();
        assert_eq!((summary.recordings, summary.failed), (0, 1));
        assert_eq!(marked(), "2026-03-01");
        // Recordings of today do not make it forget, nor does an end with all of them finished.
        marker.unfinished_since(day_folder(TUESDAY));
        marker.settle();
        marker.end(true);
        assert_eq!(marked(), "2026-03-01");

        let (mut marker, summary) = recover_at(&storage, TUESDAY).unwrap();
        assert_eq!(summary.failed, 1);
        fs::remove_dir_all(obstacle).unwrap();
        let at = |s| Mono::new(Duration::from_secs(s));
        assert_eq!(marker.try_again(RealFs, "2026-03-01", at(1000)), None, "that day is being written to");
        assert_eq!(marker.try_again(RealFs, "2026-03-03", at(1000)), None, "it has begun");
        let trying = marker.trying.take().unwrap();
        while !trying.is_finished() {
            thread::yield_now();
        }
        marker.trying = Some(trying);
        let summary = marker.try_again(RealFs, "2026-03-03", at(1001)).unwrap();
        assert_eq!((summary.recordings, summary.failed), (1, 0));
        marker.unfinished_since(day_folder(TUESDAY));
        marker.settle();
        assert_eq!(marked(), "2026-03-03");
        marker.end(true);
        assert!(!storage.path().join(MARKER).exists());
    }
}

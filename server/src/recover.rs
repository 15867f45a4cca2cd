//! At the start: recordings that a crash or a power cut left unfinished are put right.
//!
//! An archive of years is not read through for that: a small file in the storage folder tells the first day
//! that may have unfinished recordings, and an end with everything finished removes it. Owns: that file, the lock on the storage
//! folder that keeps a second server out, and which day folders are looked at. What is done to a recording
//! is the library's [`recover`].

use crate::naming::day_folder;
use phone_recorder::storage::fs::{Fs, RealFs};
use phone_recorder::storage::recover::{create_anew, recover};
use phone_recorder::sys::try_lock;
use phone_recorder::time::Wall;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// Name of the file in the storage folder.
const MARKER: &str = ".recordserver-open-since";

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Day folders that were looked at.
    pub folders: usize,
    /// Recordings that were put right.
    pub recordings: usize,
}

/// The note that recordings are being written.
#[derive(Debug)]
pub struct Marker {
    path: PathBuf,
    since: String,
    /// It is synced, which the loop must not wait for.
    writing: Option<JoinHandle<()>>,
    /// The storage folder, locked as long as this lives. Not the marker: it is replaced and removed.
    _lock: File,
}

impl Marker {
    /// Puts right what the last run left below `storage`, and notes that from `today` on there may be
    /// unfinished recordings again. Before anything is written there.
    ///
    /// # Errors
    /// The folder can't be read or written, or another server uses it.
    pub fn recover<F: Fs>(fs: &F, storage: &Path, today: Wall) -> io::Result<(Self, Summary)> {
        let lock = lock(storage)?;
        let path = storage.join(MARKER);
        let mut summary = Summary::default();
        let since = match fs::read_to_string(&path) {
            Ok(since) => Some(since.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(since) = since {
            for device in folders(storage)? {
                for day in folders(&device).unwrap_or_default() {
                    if name(&day) >= since.as_str() {
                        summary.folders += 1;
                        summary.recordings += recover(fs, &day).len();
                    }
                }
            }
        }
        let since = day_folder(today);
        write(&path, &since)?;
        Ok((Self { path, since, writing: None, _lock: lock }, summary))
    }

    /// What is not finished, now or later, is of `day` or later.
    pub fn unfinished_since(&mut self, day: String) {
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
        if !all_is_finished {
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

    /// 2026-03-02, the day after it.
    const MONDAY: Wall = Wall { unix_ms: 1_772_402_400_000, utc_offset_s: 7200 };
    const TUESDAY: Wall = Wall { unix_ms: 1_772_402_400_000 + 86_400_000, utc_offset_s: 7200 };

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
        let (marker, summary) = Marker::recover(&RealFs, storage.path(), MONDAY).unwrap();
        assert_eq!(summary, Summary::default());
        marker.end(true);
        let (_, summary) = Marker::recover(&RealFs, storage.path(), TUESDAY).unwrap();
        assert_eq!(summary.folders, 0);
    }

    #[test]
    fn a_folder_belongs_to_one_server_and_to_the_next_when_that_has_gone() {
        let storage = archive();
        let (marker, _) = Marker::recover(&RealFs, storage.path(), MONDAY).unwrap();
        let error = Marker::recover(&RealFs, storage.path(), TUESDAY).unwrap_err();
        assert_eq!(error.to_string(), "another recordserver uses this folder");
        assert_eq!(fs::read_to_string(storage.path().join(MARKER)).unwrap(), day_folder(MONDAY));
        marker.end(true);
        assert!(Marker::recover(&RealFs, storage.path(), TUESDAY).is_ok());
    }

    #[test]
    fn what_could_not_be_finished_is_looked_for_after_a_clean_end_too() {
        let storage = archive();
        let (mut marker, _) = Marker::recover(&RealFs, storage.path(), MONDAY).unwrap();
        marker.unfinished_since(day_folder(TUESDAY));
        marker.end(false);
        let (_, summary) = Marker::recover(&RealFs, storage.path(), TUESDAY).unwrap();
        assert_eq!(summary.folders, 1);
    }

    #[test]
    fn after_a_crash_the_days_since_the_first_unfinished_recording_are_read() {
        let storage = archive();
        let (mut marker, _) = Marker::recover(&RealFs, storage.path(), MONDAY).unwrap();
        drop(marker);
        let (again, summary) = Marker::recover(&RealFs, storage.path(), MONDAY).unwrap();
        assert_eq!(summary.folders, 2);
        marker = again;
        marker.unfinished_since(day_folder(TUESDAY));
        marker.settle();
        drop(marker);
        let (_, summary) = Marker::recover(&RealFs, storage.path(), TUESDAY).unwrap();
        assert_eq!(summary.folders, 1);
    }
}

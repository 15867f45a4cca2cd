//! At the start: recordings that a crash or a power cut left unfinished are put right.
//!
//! An archive of years is not read through for that: a small file in the storage folder tells the first day
//! that may have unfinished recordings, and a clean end removes it. Owns: that file, and which day folders
//! are looked at. What is done to a recording is the library's [`recover`].

use crate::naming::day_folder;
use phone_recorder::storage::fs::Fs;
use phone_recorder::storage::recover::recover;
use phone_recorder::time::Wall;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
}

impl Marker {
    /// Puts right what the last run left below `storage`, and notes that from `today` on there may be
    /// unfinished recordings again. Before anything is written there.
    ///
    /// # Errors
    /// The folder can't be read or written.
    pub fn recover<F: Fs>(fs: &F, storage: &Path, today: Wall) -> io::Result<(Self, Summary)> {
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
                        summary.recordings += recover(fs, &day, |_| false).len();
                    }
                }
            }
        }
        let marker = Self { path, since: day_folder(today) };
        marker.write()?;
        Ok((marker, summary))
    }

    /// Nothing is being written: what is unfinished from now on is of `today` or later.
    pub fn all_is_finished(&mut self, today: Wall) {
        let today = day_folder(today);
        if self.since != today {
            self.since = today;
            if let Err(error) = self.write() {
                log::debug!("{}: {error}", self.path.display());
            }
        }
    }

    /// Everything is finished, and the server goes.
    pub fn remove(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }

    /// Replaces the file: a marker cut in half would hide recordings.
    fn write(&self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        fs::write(&new, &self.since)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, &self.path)
    }
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
    use phone_recorder::storage::fs::RealFs;

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
        marker.remove();
        let (_, summary) = Marker::recover(&RealFs, storage.path(), TUESDAY).unwrap();
        assert_eq!(summary.folders, 0);
    }

    #[test]
    fn after_a_crash_the_days_since_the_last_quiet_moment_are_read() {
        let storage = archive();
        let (mut marker, _) = Marker::recover(&RealFs, storage.path(), MONDAY).unwrap();
        drop(marker);
        let (again, summary) = Marker::recover(&RealFs, storage.path(), MONDAY).unwrap();
        assert_eq!(summary.folders, 2);
        marker = again;
        marker.all_is_finished(TUESDAY);
        drop(marker);
        let (_, summary) = Marker::recover(&RealFs, storage.path(), TUESDAY).unwrap();
        assert_eq!(summary.folders, 1);
    }
}

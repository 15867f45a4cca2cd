//! The order in which files are made on a disk, independent of the clock.
//!
//! A phone without a battery clock comes up in 1970, or with any date, and may never learn the right one. So
//! each file gets a number that rises: the calendar time in milliseconds as long as that does, and one more
//! than the highest before where the clock is behind. Owns: the number, and the small file in the recording
//! folder that keeps it over a restart; with a clock that goes on there is none. Never: fails; a number that
//! could not be kept may come twice.

use super::fs::Fs;
use super::patience::Patience;
use crate::jobs::Folder;
use media::time::{Mono, Wall};
use recfile::name::is_record_file_name;
use std::path::{Path, PathBuf};

/// Name of the file.
const NAME: &str = ".recordd-order";

/// Digits of the number in it: always as many, so that it is written in place.
const DIGITS: usize = 20;

/// Most files that may follow the last time that a clock can plausibly show: made by clocks that were behind.
const MAX_BEYOND: u64 = 1_000_000_000;

/// The highest number that is known of one folder.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    folder: PathBuf,
    device: u64,
    highest: u64,
}

impl Numbers {
    /// The number of a file that is made at `stamp`.
    pub(super) fn next<F: Fs>(&mut self, fs: &F, folder: &Folder, stamp: Wall, clock: fn() -> Mono) -> u64 {
        let path = folder.path();
        if self.folder != path || self.device != folder.device {
            let highest = shown_by_names(fs, &path, stamp.utc_offset_s, Patience::begin(clock));
            (self.folder, self.device, self.highest) = (path.clone(), folder.device, highest);
        }
        let now = if stamp.is_set() { u64::try_from(stamp.unix_ms).unwrap_or(0) } else { 0 };
        if now > self.highest && !was_behind(fs, &path) {
            self.highest = now;
            return now;
        }
        let kept = read(fs, &path).unwrap_or(0);
        self.highest = now.max(self.highest.max(kept).saturating_add(1));
        if self.highest != now {
            // Without it the order is only lost over a restart.
            let _ = write(fs, &path, self.highest);
        }
        self.highest
    }
}

/// Whether an earlier file was made by a clock that was behind.
fn was_behind<F: Fs>(fs: &F, folder: &Path) -> bool {
    fs.open_read(&folder.join(NAME)).is_ok()
}

/// The latest time that clocks have shown, as far as names tell; in a folder that takes too long, some of
/// them do.
fn shown_by_names<F: Fs>(fs: &F, folder: &Path, utc_offset_s: i32, patience: Patience) -> u64 {
    let (mut latest, mut place) = (0, Some(0));
    while let Some(from) = place {
        let mut take = |name: &str| latest = latest.max(shown(name, utc_offset_s).unwrap_or(0));
        place = fs.names_from(folder, from, &mut take).ok().flatten();
        if patience.is_over() {
            break;
        }
    }
    latest
}

/// The end of the second in a name, if the clock was set.
fn shown(name: &str, utc_offset_s: i32) -> Option<u64> {
    let stamp = name.get("Record_".len().."Record_YYYYMMDD-HHMMSS".len())?;
    let wall = Wall::from_file_stamp(stamp, utc_offset_s).filter(|wall| wall.is_set())?;
    is_record_file_name(name).then(|| u64::try_from(wall.unix_ms + 999).ok()).flatten()
}

fn read<F: Fs>(fs: &F, folder: &Path) -> Option<u64> {
    let octets = fs.read(&folder.join(NAME), DIGITS + 1).ok()?;
    let number = std::str::from_utf8(&octets).ok()?.trim().parse().ok()?;
    // One that no clock can have led to is not ours.
    Wall { unix_ms: i64::try_from(u64::saturating_sub(number, MAX_BEYOND)).ok()?, utc_offset_s: 0 }
        .is_before_end()
        .then_some(number)
}

fn write<F: Fs>(fs: &F, folder: &Path, number: u64) -> std::io::Result<()> {
    let path = folder.join(NAME);
    let file = match fs.open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => fs.create(&path)?,
        opened => opened?,
    };
    fs.write_at(&file, format!("{number:0DIGITS$}\n").as_bytes(), 0)?;
    fs.sync_data(&file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;
    use proptest::prelude::*;

    fn folder(path: &Path) -> Folder {
        Folder { root: path.into(), device: RealFs.device(path).unwrap(), name: String::new() }
    }

    fn number(numbers: &mut Numbers, path: &Path, unix_ms: i64) -> u64 {
        numbers.next(&RealFs, &folder(path), Wall { unix_ms, utc_offset_s: 7200 }, Mono::default)
    }

    const JUNE: i64 = 1_780_308_000_000;

    #[test]
    fn with_a_clock_that_goes_on_the_number_is_the_time_and_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut numbers = Numbers::default();
        for ms in [JUNE, JUNE + 1, JUNE + 60_000] {
            assert_eq!(number(&mut numbers, dir.path(), ms), u64::try_from(ms).unwrap());
        }
        assert!(!dir.path().join(NAME).exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_number_rises_for_any_clock_and_number_of_starts(
            // Starts of the phone: its clock, how it goes on, and the files that are made.
            boots in prop::collection::vec(
                (prop::sample::select(vec![0, 100_000, 946_684_800_000, JUNE, JUNE + 1_000_000, 2_240_000_000_000,
                                           4_200_000_000_000, i64::MAX / 2]),
                 0..3_000_i64, 1..4_u32),
                1..8,
            ),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut last = 0;
            for (clock, pace, files) in boots {
                let mut numbers = Numbers::default();
                for file in 0..files {
                    let ms = clock.saturating_add(pace * 1000 * i64::from(file));
                    let next = number(&mut numbers, dir.path(), ms);
                    prop_assert!(next > last, "{next} after {last} at {ms}");
                    last = next;
                    // As the writer does, in the phone's time zone.
                    let name = recfile::name::record_file_name(Wall { unix_ms: ms, utc_offset_s: 7200 }, file + 1);
                    std::fs::write(dir.path().join(name), "").unwrap();
                }
            }
        }
    }

    #[test]
    fn a_number_of_the_far_future_or_in_letters_is_not_believed_and_no_link_is_written_through() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["18446744073709551615", "9999999999999999", "-1", "x", "", "\u{0}\u{1}"] {
            std::fs::write(dir.path().join(NAME), text).unwrap();
            assert_eq!(number(&mut Numbers::default(), dir.path(), 1000), 1, "{text}");
        }
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "7").unwrap();
        std::fs::remove_file(dir.path().join(NAME)).unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(NAME)).unwrap();
        assert_eq!(number(&mut Numbers::default(), dir.path(), 1000), 1);
        assert_eq!(std::fs::read(&victim).unwrap(), b"7");
    }
}

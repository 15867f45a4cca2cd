//! Which recording gives way when the disk is full.
//!
//! Owns: the choice. On vfat each look at a file takes a pass over its folder, so with thousands of recordings not
//! every sidecar can be read each time: the name tells when a file begins, but for the time zone. Never: touches a
//! file that is not ours, not finished, protected, being played, or of a call that is running.

use super::fs::Fs;
use super::names::{Order, recordings};
use super::writer::Writer;
use crate::file::name::sidecar_name;
use crate::file::sidecar::{MAX_SIDECAR_OCTETS, Sidecar, SidecarState};
use crate::jobs::{Done, Folder};
use crate::time::Wall;
use std::path::Path;

/// Local time is never so far from UTC.
const LOCAL_TIME_MS: i64 = 24 * 3600 * 1000;

/// Ends of a file after which its recording may go on in another.
const GOES_ON: [&str; 3] = ["rollover", "codec_change", "storage_io"];

/// What another agent records now is among so many of the newest files.
const MAX_LOOKED_FOR: usize = 64;

/// When a file begins, as far as its sidecar tells, and its name.
type Oldest = (Option<i64>, String);

impl<F: Fs> Writer<F> {
    /// Deletes the oldest recording that is ours, finished, not protected and of no call that is running.
    #[inline(never)]
    pub(super) fn delete_oldest(&self, folder: &Folder) -> Done {
        let path = folder.path();
        if self.check_on_disk(folder).is_err() {
            return Done::Deleted { file: None, space: None };
        }
        let deleted = self.oldest(&path).filter(|name| self.fs.remove(&path.join(name)).is_ok());
        if let Some(name) = &deleted {
            let _ = self.fs.remove(&path.join(sidecar_name(name)));
        }
        Done::Deleted { file: deleted, space: self.fs.space(&path).ok() }
    }

    fn oldest(&self, path: &Path) -> Option<String> {
        let mut oldest: Option<Oldest> = None;
        let mut behind: Option<String> = None;
        loop {
            let names = recordings(&self.fs, path, Order::OldestFirst, behind.as_deref());
            for name in &names {
                let is_later = |start: i64| {
                    stamp_ms(name).is_some_and(|stamp| stamp > start.saturating_add(LOCAL_TIME_MS))
                };
                if oldest.as_ref().is_some_and(|(start, _)| start.is_none_or(is_later)) {
                    return oldest.map(|(_, name)| name);
                }
                self.look_at(path, name, &mut oldest);
            }
            behind = names.into_iter().next_back();
            if behind.is_none() {
                return oldest.map(|(_, name)| name);
            }
        }
    }

    /// Takes a file for the oldest if it began earlier and may go.
    fn look_at(&self, path: &Path, name: &str, oldest: &mut Option<Oldest>) {
        let Some(sidecar) = self.finished(path, name) else { return };
        let candidate = (Wall::from_rfc3339(&sidecar.start).map(|wall| wall.unix_ms), name.to_owned());
        let is_older = oldest.as_ref().is_none_or(|oldest| candidate < *oldest);
        if is_older && self.is_free(&path.join(name)) && !self.is_running(path, &sidecar) {
            *oldest = Some(candidate);
        }
    }

    /// The sidecar of a file that is ours, finished, and not to be kept.
    fn finished(&self, path: &Path, name: &str) -> Option<Sidecar> {
        if self.is_open(path, name) || self.is_kept(name) {
            return None;
        }
        let sidecar = self.sidecar_of(path, name)?;
        let ended = sidecar.state == SidecarState::Ended;
        (ended && !sidecar.protected && !sidecar.recording.is_empty()).then_some(sidecar)
    }

    /// Whether it is a plain file that no other program is at work on.
    fn is_free(&self, path: &Path) -> bool {
        self.fs.open_read(path).is_ok_and(|file| self.fs.lock(&file).unwrap_or(true))
    }

    /// Whether the recording of a finished file goes on, here or at another agent that has its file locked.
    fn is_running(&self, path: &Path, sidecar: &Sidecar) -> bool {
        if self.is_recording(&sidecar.recording) {
            return true;
        }
        if sidecar.end_reason.as_deref().is_some_and(|reason| !GOES_ON.contains(&reason)) {
            return false;
        }
        let newest = recordings(&self.fs, path, Order::NewestFirst, None);
        newest.iter().take(MAX_LOOKED_FOR).any(|name| {
            let other = self.sidecar_of(path, name).filter(|other| other.recording == sidecar.recording);
            other.is_some_and(|other| other.state == SidecarState::Recording)
                && self.is_locked(&path.join(name))
        })
    }

    fn sidecar_of(&self, path: &Path, name: &str) -> Option<Sidecar> {
        Sidecar::parse(&self.fs.read(&path.join(sidecar_name(name)), MAX_SIDECAR_OCTETS).ok()?).ok()
    }
}

/// The local time in the name of a file, as if it were UTC.
fn stamp_ms(name: &str) -> Option<i64> {
    let stamp = name.get("Record_".len().."Record_YYYYMMDD-HHMMSS".len())?;
    Wall::from_file_stamp(stamp, 0).map(|wall| wall.unix_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::name::record_file_name;
    use crate::jobs::Job;
    use crate::storage::fs::RealFs;
    use crate::time::Mono;
    use proptest::prelude::*;

    /// Leaves a finished recording; gives its name.
    fn leave(folder: &Path, number: usize, start: Wall) -> String {
        let name = record_file_name(start, u32::try_from(number).unwrap() + 2);
        std::fs::write(folder.join(&name), [7; 80]).unwrap();
        let sidecar = Sidecar {
            recording: format!("r{number}"),
            start: start.rfc3339(),
            end_reason: Some("stopped".into()),
            ..Sidecar::default()
        };
        std::fs::write(folder.join(sidecar_name(&name)), sidecar.to_json()).unwrap();
        name
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn whatever_the_time_zones_were_the_earliest_start_gives_way_first(
            starts in prop::collection::vec((0..400_000i64, -12..=14i32), 1..12),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut expected: Vec<(i64, String)> = Vec::new();
            for (number, (second, hours)) in starts.into_iter().enumerate() {
                let start = Wall { unix_ms: 1_772_352_900_000 + second * 1000, utc_offset_s: hours * 3600 };
                expected.push((start.unix_ms, leave(dir.path(), number, start)));
            }
            expected.sort_unstable();
            let device = RealFs.device(dir.path()).unwrap();
            let folder = Folder { root: dir.path().into(), device, name: String::new() };
            let mut writer = Writer::new(RealFs, Mono::default);
            for name in expected.into_iter().map(|(_, name)| Some(name)).chain([None]) {
                let done = writer.handle(Job::DeleteOldest(folder.clone()));
                prop_assert!(matches!(&done, Done::Deleted { file, .. } if *file == name), "{done:?}, not {name:?}");
            }
        }
    }
}

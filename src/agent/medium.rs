//! The disk that recordings go to, as the agent sees it.
//!
//! Owns: whether recording is possible, how much room is left, and when to tell. Invariant: low and full
//! are told once each time they begin.

use crate::api::reason::{AgentError, Reason};
use crate::api::status::{StorageState, StorageStatus};
use crate::config::Storage;
use crate::jobs::Speed;
use crate::jobs::{Disk, FaultKind, Folder, Space};
use crate::rtp::codec::OCTETS_PER_MS;
use log::Level as LogLevel;
use std::time::Duration;

/// Octets per second of one call.
pub(super) const OCTETS_PER_S: u64 = OCTETS_PER_MS * 1000;

/// Kept besides the reserve for what is still buffered, sidecars and the rounding to clusters.
const MARGIN_OCTETS: u64 = 64 * 1024;

/// A recording is not begun with less room than this for it and for each that runs: eight seconds.
const START_OCTETS: u64 = 64 * 1024;

/// With less room than this, the speed of a disk is not tried.
pub(super) const SPEED_CHECK_OCTETS: u64 = 4 * 1024 * 1024;

/// A disk has to be faster than all possible calls together by this factor.
const SPEED_FACTOR: u64 = 4;

/// A disk whose sync takes longer is too slow, whatever its rate.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// `storage.low` is told when less time than this is left: ten minutes.
const LOW_S: u64 = 600;

/// With `on_full = "delete-oldest"` room is made when less than this is left.
const DELETE_BELOW_OCTETS: u64 = MARGIN_OCTETS + 128 * 1024;

/// What the agent has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Plenty,
    Low,
    Full,
}

#[derive(Debug)]
pub(super) struct Medium {
    reserve_octets: u64,
    folder_name: String,
    require_removable: bool,
    disk: Option<Disk>,
    /// Octets given to storage since the room was last measured.
    spent_octets: u64,
    level: Level,
    full_told: bool,
    /// What the trial of its speed found, if it is too slow.
    slow: Option<String>,
    ejected: bool,
    /// It gave errors, and has not proved since that it can be written to.
    failed: bool,
    pub(super) scanned: bool,
}

impl Medium {
    pub(super) fn new(config: &Storage) -> Self {
        Self {
            reserve_octets: config.reserve_octets,
            folder_name: config.directory.clone(),
            require_removable: config.require_usb,
            disk: None,
            spent_octets: 0,
            level: Level::Plenty,
            full_told: false,
            slow: None,
            ejected: false,
            failed: false,
            scanned: false,
        }
    }

    /// Takes what a scan found. Returns whether a disk came and whether one went.
    pub(super) fn found(&mut self, disk: Option<Disk>) -> (bool, bool) {
        self.scanned = true;
        let was = self.disk.as_ref().map(|disk| (disk.device, disk.root.clone()));
        let is = disk.as_ref().map(|disk| (disk.device, disk.root.clone()));
        let changed = was != is;
        let readable_before = self.disk.as_ref().is_some_and(|disk| !disk.read_only);
        let writable_now = disk.as_ref().is_some_and(|disk| !disk.read_only);
        self.disk = disk;
        self.spent_octets = 0;
        if changed {
            self.ejected = false;
            self.failed = false;
            self.level = Level::Plenty;
            self.full_told = false;
            self.slow = None;
        }
        let came = is.is_some() && (changed || (writable_now && !readable_before));
        (came, was.is_some() && changed)
    }

    /// The disk was synced and may be pulled; nothing is recorded to it until it comes anew. A fixed disk that
    /// stays mounted can't come anew, so it goes on as before. Returns whether it is ejected.
    pub(super) fn eject(&mut self, unmounted: bool) -> bool {
        self.ejected = self.disk.as_ref().is_some_and(|disk| disk.removable || unmounted);
        self.ejected
    }

    pub(super) fn is_present(&self) -> bool {
        self.usable().is_some() && !self.ejected
    }

    /// Whether there is a disk, and the settings forbid to record to it.
    pub(super) fn is_forbidden(&self) -> bool {
        self.disk.is_some() && self.usable().is_none()
    }

    /// The disk, unless the settings forbid to record to it.
    fn usable(&self) -> Option<&Disk> {
        self.disk.as_ref().filter(|disk| disk.removable || !self.require_removable)
    }

    pub(super) fn device(&self) -> Option<u64> {
        self.disk.as_ref().map(|disk| disk.device)
    }

    /// An operation on the disk with this number failed in this way.
    pub(super) fn gave(&mut self, device: u64, fault: FaultKind) {
        self.failed |= fault == FaultKind::Io && self.device() == Some(device);
    }

    /// The disk did something and told its room.
    pub(super) fn measured(&mut self, space: Space) {
        self.failed = false;
        if let Some(disk) = &mut self.disk {
            disk.space = space;
            self.spent_octets = 0;
        }
    }

    pub(super) fn spend(&mut self, octets: u64) {
        self.spent_octets += octets;
    }

    /// The folder to record to, beside so many recordings that run, or why that is not possible.
    pub(super) fn folder_to_record(&self, running: usize) -> Result<Folder, AgentError> {
        let disk = match &self.disk {
            Some(disk) if !self.ejected => disk,
            Some(_) => {
                let message = "the disk was ejected: insert it again";
                return Err(AgentError::new(Reason::NoStorage).with_message(message));
            }
            None => return Err(Reason::NoStorage.into()),
        };
        let at = disk.root.display().to_string();
        if self.is_forbidden() {
            let message = format!("{at} is not on a removable disk (storage.require_usb)");
            return Err(AgentError::new(Reason::NoStorage).with_message(message));
        }
        if disk.read_only {
            return Err(AgentError::new(Reason::StorageReadOnly).with_detail(at));
        }
        let room = self.room_octets();
        let needed = MARGIN_OCTETS + START_OCTETS * (running as u64 + 1);
        if room < needed {
            let free = disk.space.free_octets;
            let detail = format!("{free} octets are free at {at}, {} stay reserved", self.reserve_octets);
            return Err(AgentError::new(Reason::StorageFull)
                .with_detail(detail)
                .with("free_bytes", free)
                .with("reserve_bytes", self.reserve_octets)
                .with("needed_bytes", self.reserve_octets + needed));
        }
        Ok(self.folder_of(disk))
    }

    /// The recording folder, whether or not it can be recorded to.
    pub(super) fn folder(&self) -> Option<Folder> {
        self.disk.as_ref().map(|disk| self.folder_of(disk))
    }

    /// Octets that may still be recorded.
    pub(super) fn room_octets(&self) -> u64 {
        self.free_octets().saturating_sub(self.reserve_octets)
    }

    /// Seconds left for each of `recordings` calls at once; `None` without a disk that may be used.
    pub(super) fn remaining_s(&self, recordings: usize) -> Option<u64> {
        let calls = recordings.max(1) as u64;
        let room = self.room_octets().saturating_sub(MARGIN_OCTETS);
        self.usable().map(|_| room / (OCTETS_PER_S * calls))
    }

    /// Whether the oldest recording should go. `waiting` octets of audio are not on the disk yet.
    pub(super) fn wants_deletion(&self, waiting: u64) -> bool {
        self.is_present() && self.room_octets() < DELETE_BELOW_OCTETS + waiting
    }

    /// Whether there is just room for the `waiting` octets and what belongs to them.
    pub(super) fn is_full(&self, waiting: u64) -> bool {
        self.is_present() && self.room_octets() < MARGIN_OCTETS + waiting
    }

    /// Whether full is to be told: once, until there is room again.
    pub(super) fn tell_full(&mut self) -> bool {
        !std::mem::replace(&mut self.full_told, true)
    }

    /// Takes the result of the trial; the note if the disk is too slow for so many recordings at once.
    pub(super) fn judge_speed(&mut self, speed: Speed, recordings: usize) -> Option<&str> {
        let took_ms = u64::try_from(speed.took.as_millis()).unwrap_or(u64::MAX).max(1);
        let octets_per_s = speed.octets.saturating_mul(1000) / took_ms;
        let needed = SPEED_FACTOR * OCTETS_PER_S * recordings.max(1) as u64;
        let sync_ms = speed.longest_sync.as_millis();
        let slow = speed.longest_sync > SLOW_SYNC || octets_per_s < needed;
        self.slow = (slow && self.disk.is_some()).then(|| {
            let rate = octets_per_s / 1024;
            format!("slow: {rate} KiB/s, {sync_ms} ms for a sync; use a faster stick, or audio may be lost")
        });
        self.slow.as_deref()
    }

    /// One line for the log about a disk that has come, and how much it matters.
    pub(super) fn describe(&self) -> (LogLevel, String) {
        let Some(disk) = &self.disk else { return (LogLevel::Info, "no disk".into()) };
        let (at, filesystem) = (disk.mount.display(), &disk.filesystem);
        let free_mib = disk.space.free_octets / (1024 * 1024);
        let text = format!("disk at {at}: {filesystem}, {free_mib} MiB free");
        match self.note() {
            Some(note) => (LogLevel::Warn, format!("{text}, {note}")),
            None => (LogLevel::Info, text),
        }
    }

    fn note(&self) -> Option<String> {
        let disk = self.disk.as_ref()?;
        let mut notes = Vec::new();
        if self.is_forbidden() {
            notes.push("not a removable disk (storage.require_usb)");
        }
        if disk.read_only {
            notes.push("read-only: nothing can be recorded");
        }
        if disk.sync_mount {
            notes.push("mounted with `sync`: slow, and hard on the stick");
        }
        notes.extend(self.slow.as_deref());
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// The level, if it has become worse than what was told last.
    pub(super) fn level_to_tell(&mut self, recordings: usize) -> Option<Level> {
        let remaining_s = self.remaining_s(recordings)?;
        let level = if self.is_full(0) {
            Level::Full
        } else if remaining_s < LOW_S {
            Level::Low
        } else if remaining_s < LOW_S + LOW_S / 5 {
            // Between the two nothing changes, so that the level does not flutter.
            self.level
        } else {
            Level::Plenty
        };
        let worse = level as u8 > self.level as u8;
        self.full_told &= level == Level::Full;
        self.level = level;
        worse.then_some(level)
    }

    /// The disk turned out to be full.
    pub(super) fn filled(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.space.free_octets = 0;
        }
    }

    pub(super) fn status(&self, recordings: usize) -> StorageStatus {
        let Some(disk) = &self.disk else { return StorageStatus::default() };
        let room = self.room_octets();
        let state = if self.is_forbidden() {
            StorageState::Absent
        } else if self.ejected {
            StorageState::Ejected
        } else if disk.read_only {
            StorageState::ReadOnly
        } else if self.failed {
            StorageState::Failed
        } else if room < MARGIN_OCTETS {
            StorageState::Full
        } else if self.remaining_s(recordings).is_some_and(|left| left < LOW_S) {
            StorageState::Low
        } else {
            StorageState::Ok
        };
        StorageStatus {
            present: self.is_present(),
            mount: Some(disk.mount.display().to_string()),
            filesystem: Some(disk.filesystem.clone()),
            total_bytes: Some(disk.space.total_octets),
            free_bytes: Some(self.free_octets()),
            remaining_s: self.remaining_s(recordings),
            state,
            read_only: disk.read_only,
            sync_mount: disk.sync_mount,
            removable: disk.removable,
            note: self.note(),
        }
    }

    fn free_octets(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.space.free_octets.saturating_sub(self.spent_octets))
    }

    fn folder_of(&self, disk: &Disk) -> Folder {
        Folder { root: disk.root.clone(), device: disk.device, name: self.folder_name.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn medium(free_octets: u64) -> Medium {
        let config = Storage { reserve_octets: 1024 * KIB, ..crate::config::Config::default().storage };
        let mut medium = Medium::new(&config);
        let space = Space { total_octets: 1 << 30, free_octets };
        medium.found(Some(Disk { device: 1, space, removable: true, ..Disk::default() }));
        medium
    }

    #[test]
    fn a_start_needs_room_for_every_call_that_runs_too_and_is_told_the_figure() {
        let medium = medium(1024 * KIB + MARGIN_OCTETS + 2 * START_OCTETS);
        assert!(medium.folder_to_record(0).is_ok() && medium.folder_to_record(1).is_ok());
        let refused = medium.folder_to_record(2).unwrap_err();
        assert_eq!(refused.reason, Reason::StorageFull);
        assert_eq!(refused.data["needed_bytes"], 1024 * KIB + MARGIN_OCTETS + 3 * START_OCTETS);
        assert_eq!(refused.data["free_bytes"], 1024 * KIB + MARGIN_OCTETS + 2 * START_OCTETS);
    }

    #[test]
    fn a_fixed_disk_where_a_removable_one_is_required_is_no_disk() {
        let found = |removable| {
            let mut medium = medium(0);
            let space = Space { total_octets: 1 << 30, free_octets: 1 << 29 };
            medium.found(Some(Disk { device: 2, space, removable, ..Disk::default() }));
            medium
        };
        let mut fixed = found(false);
        assert_eq!(fixed.folder_to_record(0).unwrap_err().reason, Reason::NoStorage);
        let status = fixed.status(1);
        assert_eq!((status.state, status.present, status.remaining_s), (StorageState::Absent, false, None));
        assert!(status.note.is_some_and(|note| note.contains("require_usb")));
        assert!(fixed.is_forbidden() && fixed.level_to_tell(1).is_none());
        let stick = found(true);
        assert!(stick.folder_to_record(0).is_ok() && !stick.is_forbidden());
        assert_eq!(stick.status(1).state, StorageState::Ok);
    }

    #[test]
    fn what_can_be_pulled_or_is_unmounted_stays_ejected_until_it_comes_anew() {
        let config = Storage { require_usb: false, ..crate::config::Config::default().storage };
        let space = Space { total_octets: 1 << 30, free_octets: 1 << 29 };
        for (removable, unmounted, ejected) in
            [(true, false, true), (true, true, true), (false, true, true), (false, false, false)]
        {
            let mut medium = Medium::new(&config);
            medium.found(Some(Disk { device: 1, space, removable, ..Disk::default() }));
            assert_eq!(medium.eject(unmounted), ejected);
            assert_eq!(medium.folder_to_record(0).is_err(), ejected);
            medium.found(Some(Disk { device: 2, space, removable, ..Disk::default() }));
            assert!(medium.folder_to_record(0).is_ok());
        }
    }

    #[test]
    fn a_disk_that_gave_errors_has_failed_until_it_does_something_or_another_one_comes() {
        let space = Space { total_octets: 1 << 30, free_octets: 1 << 29 };
        let mut medium = medium(1 << 29);
        let state = |medium: &Medium| medium.status(0).state;
        medium.gave(2, FaultKind::Io);
        medium.gave(1, FaultKind::Full);
        assert_eq!(state(&medium), StorageState::Ok, "another disk's error, and another error");
        medium.gave(1, FaultKind::Io);
        assert_eq!(state(&medium), StorageState::Failed);
        medium.measured(space);
        assert_eq!(state(&medium), StorageState::Ok);
        medium.gave(1, FaultKind::Io);
        medium.found(Some(Disk { device: 2, space, removable: true, ..Disk::default() }));
        assert_eq!(state(&medium), StorageState::Ok);
    }

    #[test]
    fn low_is_told_once_ten_minutes_before_the_end_and_sooner_with_more_calls() {
        let mut medium = medium(1024 * KIB + MARGIN_OCTETS + (LOW_S + 300) * OCTETS_PER_S);
        assert_eq!(medium.level_to_tell(1), None);
        assert_eq!(medium.level_to_tell(2), Some(Level::Low));
        assert_eq!(medium.level_to_tell(2), None);
        medium.spend(400 * OCTETS_PER_S);
        assert_eq!(medium.level_to_tell(1), None, "it was told already");
        assert_eq!(medium.remaining_s(1), Some(500));
    }

    #[test]
    fn full_counts_what_waits_and_is_told_again_only_after_there_was_room() {
        let mut medium = medium(1024 * KIB + MARGIN_OCTETS + 10 * KIB);
        assert!(!medium.is_full(10 * KIB) && medium.is_full(11 * KIB));
        assert!(medium.tell_full() && !medium.tell_full());
        medium.measured(Space { total_octets: 1 << 30, free_octets: 1 << 29 });
        let _ = medium.level_to_tell(1);
        assert!(medium.tell_full());
    }

    #[test]
    fn a_disk_slower_than_four_times_all_calls_or_with_one_long_sync_is_called_slow() {
        let mut medium = medium(1 << 29);
        let speed = |octets, took_ms, sync_ms| Speed {
            octets,
            took: Duration::from_millis(took_ms),
            longest_sync: Duration::from_millis(sync_ms),
        };
        assert_eq!(medium.judge_speed(speed(256 * KIB, 1000, 300), 4), None);
        assert!(medium.judge_speed(speed(120 * KIB, 1000, 300), 4).is_some());
        assert!(medium.status(0).note.is_some_and(|note| note.contains("slow")));
        assert!(medium.judge_speed(speed(64 * 1024 * KIB, 1500, 1001), 1).is_some());
        let another = Disk { device: 2, removable: true, ..Disk::default() };
        medium.found(Some(another));
        assert_eq!(medium.status(0).note, None, "another disk is not yet known to be slow");
    }
}

//! The disk that recordings go to, as the agent sees it.
//!
//! Owns: whether recording is possible, how much room is left, and when to tell. Invariant: low and full
//! are told once each time they begin.

use crate::api::reason::{AgentError, Reason};
use crate::api::status::{StorageState, StorageStatus};
use crate::config::Storage;
use crate::jobs::{Disk, Folder, Space};
use crate::rtp::codec::OCTETS_PER_MS;

/// Octets per second of one call.
pub(super) const OCTETS_PER_S: u64 = OCTETS_PER_MS * 1000;

/// Kept besides the reserve for what is still buffered, sidecars and the rounding to clusters.
const MARGIN_OCTETS: u64 = 64 * 1024;

/// A recording is not begun with less room than this.
const START_OCTETS: u64 = MARGIN_OCTETS + 64 * 1024;

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
    ejected: bool,
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
            ejected: false,
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
            self.level = Level::Plenty;
        }
        let came = is.is_some() && (changed || (writable_now && !readable_before));
        (came, was.is_some() && changed)
    }

    /// The disk was synced and may be pulled; nothing is recorded to it until it comes anew.
    pub(super) fn eject(&mut self) {
        self.ejected = true;
    }

    pub(super) fn is_present(&self) -> bool {
        self.disk.is_some() && !self.ejected
    }

    pub(super) fn device(&self) -> Option<u64> {
        self.disk.as_ref().map(|disk| disk.device)
    }

    pub(super) fn measured(&mut self, space: Space) {
        if let Some(disk) = &mut self.disk {
            disk.space = space;
            self.spent_octets = 0;
        }
    }

    pub(super) fn spend(&mut self, octets: u64) {
        self.spent_octets += octets;
    }

    /// The folder to record to, or why that is not possible.
    pub(super) fn folder_to_record(&self) -> Result<Folder, AgentError> {
        let disk = match &self.disk {
            Some(disk) if !self.ejected => disk,
            Some(_) => {
                let message = "the disk was ejected: insert it again";
                return Err(AgentError::new(Reason::NoStorage).with_message(message));
            }
            None => return Err(Reason::NoStorage.into()),
        };
        let at = disk.root.display().to_string();
        if self.require_removable && !disk.removable {
            let message = format!("{at} is not on a removable disk (storage.require_usb)");
            return Err(AgentError::new(Reason::NoStorage).with_message(message));
        }
        if disk.read_only {
            return Err(AgentError::new(Reason::StorageReadOnly).with_detail(at));
        }
        let room = self.room_octets();
        if room < START_OCTETS {
            let free = disk.space.free_octets;
            let detail = format!("{free} octets are free at {at}, {} stay reserved", self.reserve_octets);
            return Err(AgentError::new(Reason::StorageFull)
                .with_detail(detail)
                .with("free_bytes", free)
                .with("reserve_bytes", self.reserve_octets));
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

    /// Seconds left for each of `recordings` calls at once; `None` without a disk.
    pub(super) fn remaining_s(&self, recordings: usize) -> Option<u64> {
        let calls = recordings.max(1) as u64;
        let room = self.room_octets().saturating_sub(MARGIN_OCTETS);
        self.disk.as_ref().map(|_| room / (OCTETS_PER_S * calls))
    }

    /// Whether the oldest recording should go.
    pub(super) fn wants_deletion(&self) -> bool {
        self.is_present() && self.room_octets() < DELETE_BELOW_OCTETS
    }

    /// The level, if it has become worse than what was told last.
    pub(super) fn level_to_tell(&mut self, recordings: usize) -> Option<Level> {
        let remaining_s = self.remaining_s(recordings)?;
        let level = if self.room_octets() < MARGIN_OCTETS {
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
        let state = if self.ejected {
            StorageState::Ejected
        } else if disk.read_only {
            StorageState::ReadOnly
        } else if room < MARGIN_OCTETS {
            StorageState::Full
        } else if self.remaining_s(recordings).is_some_and(|left| left < LOW_S) {
            StorageState::Low
        } else {
            StorageState::Ok
        };
        let note = if self.require_removable && !disk.removable {
            Some("not a removable disk (storage.require_usb)")
        } else if disk.sync_mount {
            Some("mounted with `sync`: slow, and hard on the stick")
        } else {
            None
        };
        StorageStatus {
            present: !self.ejected,
            mount: Some(disk.mount.display().to_string()),
            filesystem: Some(disk.filesystem.clone()),
            total_bytes: Some(disk.space.total_octets),
            free_bytes: Some(self.free_octets()),
            remaining_s: self.remaining_s(recordings),
            state,
            read_only: disk.read_only,
            sync_mount: disk.sync_mount,
            removable: disk.removable,
            note: note.map(Into::into),
        }
    }

    fn free_octets(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.space.free_octets.saturating_sub(self.spent_octets))
    }

    fn folder_of(&self, disk: &Disk) -> Folder {
        Folder { root: disk.root.clone(), device: disk.device, name: self.folder_name.clone() }
    }
}

//! The disks that recordings could go to, as the agent sees them, and the one that they do go to.
//!
//! Owns: which disk is used, whether recording is possible, how much room is left, and when to tell.
//! Invariants: the disk in use stays the one in use until it is gone, or takes no more and another one does;
//! nothing is recorded to a disk that was ejected until it was pulled and has come anew; low and full are
//! told once each time they begin.

mod known;
mod status;

pub(in crate::agent) use status::RoomLeft;

use crate::agent::disk::faults::error_of_fault;
use crate::agent::disk::state::known::{Known, Place, Trouble, is_pulled, place_of};
use crate::api::error::AgentError;
use crate::api::event::StateChange;
use crate::api::reason::{Cause, Reason};
use crate::api::status::{StorageState, StorageStatus};
use crate::config::{Storage, StoragePath};
use media::codec::OCTETS_PER_MS;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::jobs::{
    Disk, Eject, Ejected, FaultKind, Folder, Found, Look, Missing, Space, Speed, StickId, Target,
};

/// Octets per second of one call.
pub(in crate::agent) const OCTETS_PER_S: u64 = OCTETS_PER_MS * 1000;

/// Kept besides the reserve for buffered audio, sidecars and the rounding to clusters.
const MARGIN_OCTETS: u64 = 64 * 1024;

/// A recording is not begun with less room than this for it and for each that runs: eight seconds.
const START_OCTETS: u64 = 64 * 1024;

/// With less room than this, the speed of a disk is not tried.
pub(in crate::agent) const SPEED_CHECK_OCTETS: u64 = 4 * 1024 * 1024;

/// A disk has to be faster than all possible calls together by this factor.
const SPEED_FACTOR: u64 = 4;

/// A disk whose sync takes longer is too slow, at any rate.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// `storage.low` is told when less time than this is left: ten minutes.
const LOW_S: u64 = 600;

/// With `on_full = "delete-oldest"` room is made when less than this is left.
const DELETE_BELOW_OCTETS: u64 = MARGIN_OCTETS + 128 * 1024;

/// Ejected disks that are remembered until they are pulled; a phone has a port or two.
const MAX_EJECTED: usize = 16;

/// Begins the identity of a disk of which the system tells none: it counts as pulled when it is mounted no
/// more.
const UNKNOWN: char = '?';

/// The room on the disk, as clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Level {
    Plenty,
    Low,
    Full,
}

/// The view that the last look at the disks had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastLook {
    /// There was none yet.
    None,
    /// All there is.
    Clear,
    /// The disks were not visible: the state from before still holds.
    Blind,
}

/// The fitness of a disk for recordings, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    Good,
    Full,
    Failed,
    ReadOnly,
    Ejected,
}

/// The state of the disk that clients were told last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    state: StorageState,
    cause: Option<Cause>,
    place: Option<Place>,
}

/// A change that a look at the disks found.
#[derive(Debug, Default)]
pub(in crate::agent) struct Change {
    /// The disk to record to is another one than before, or can be written to again.
    pub(in crate::agent) came: bool,
    /// The disk that was recorded to is gone.
    pub(in crate::agent) went: bool,
    /// The disk that was recorded to is there, but another one is better.
    pub(in crate::agent) turned: bool,
    /// Folders on disks that are gone.
    pub(in crate::agent) gone: Vec<Folder>,
    /// Folders on disks that have come, or can be written to again.
    pub(in crate::agent) fresh: Vec<Folder>,
}

#[derive(Debug)]
pub(in crate::agent) struct DiskState {
    reserve_octets: u64,
    folder_name: String,
    require_removable: bool,
    /// The directory that recordings go to; `None` if the disk is chosen.
    directory: Option<PathBuf>,
    known: Vec<Known>,
    /// The disk that is recorded to, among those known.
    current: Option<usize>,
    level: Level,
    full_told: bool,
    /// Disks that were ejected and are still in their slots.
    ejected: Vec<StickId>,
    /// The disk of the last eject, if it could not be unmounted.
    unfinished: Option<Eject>,
    missing: Option<Missing>,
    /// The disk that was there last went without being ejected.
    pulled: bool,
    /// The directory was on a disk that can be pulled: without it, its place is a folder of the phone's own
    /// memory.
    was_removable: bool,
    told: Option<Told>,
    look: LastLook,
}

impl DiskState {
    pub(in crate::agent) fn new(config: &Storage) -> Self {
        Self {
            reserve_octets: config.reserve_octets,
            folder_name: config.directory.clone(),
            require_removable: config.require_usb,
            directory: match &config.path {
                StoragePath::Auto => None,
                StoragePath::Directory(path) => Some(path.clone()),
            },
            known: Vec::new(),
            current: None,
            level: Level::Plenty,
            full_told: false,
            ejected: Vec::new(),
            unfinished: None,
            missing: None,
            pulled: false,
            was_removable: false,
            told: None,
            look: LastLook::None,
        }
    }

    /// One line for the log about the disk, or that there is none, and how much it matters.
    pub(in crate::agent) fn describe(&self) -> (log::Level, String) {
        status::describe(self)
    }

    /// The status for clients; `recordings` is the number of those that run.
    pub(in crate::agent) fn status(&self, recordings: usize) -> StorageStatus {
        status::status(self, recordings)
    }

    /// The change to tell, if there is one since the last that was told.
    pub(in crate::agent) fn change(&mut self, recordings: usize) -> Option<StateChange> {
        status::change(self, recordings)
    }

    /// Why there is no disk.
    pub(in crate::agent) fn absent(&self) -> AgentError {
        status::absent(self)
    }

    /// The disks to look for.
    pub(in crate::agent) fn look(&self) -> Look {
        let target = self.directory.clone().map_or(Target::Auto, Target::Directory);
        let ejected = self.ejected.iter().filter(|stick| !stick.0.starts_with(UNKNOWN)).cloned().collect();
        Look { target, folder: self.folder_name.clone(), ejected }
    }

    /// Takes the result of a look at the disks; `running` is the number of recordings that run.
    pub(in crate::agent) fn scanned(&mut self, found: Found, running: usize) -> Change {
        let first = self.look == LastLook::None;
        self.look = if found.unknown { LastLook::Blind } else { LastLook::Clear };
        if found.unknown && !first {
            return Change::default();
        }
        let was = self.place();
        let was_ejected = self.current().is_some_and(|known| self.is_ejected(&known.disk));
        let writable_before: Vec<Place> =
            self.known.iter().filter(|it| !it.disk.read_only).map(|it| place_of(&it.disk)).collect();
        let mut before = std::mem::take(&mut self.known);
        self.missing = found.missing;
        self.ejected.retain(|stick| !found.pulled.contains(stick));
        for mut disk in found.disks {
            if !disk.stick.is_known() {
                disk.stick = StickId(format!("{UNKNOWN}{} {}", disk.device, disk.root.display()));
            }
            self.was_removable |= self.directory.is_some() && disk.removable;
            if self.was_removable && !disk.removable {
                self.missing = Some(Missing::Path);
                continue;
            }
            let known = before.iter().position(|it| place_of(&it.disk) == place_of(&disk));
            let known = known.map(|at| before.swap_remove(at));
            let was_read_only = known.as_ref().is_some_and(|it| it.disk.read_only);
            let trouble = known.as_ref().and_then(|it| it.trouble);
            // Trouble that this look would show again is forgotten.
            let shown = |it: &Trouble| match it.kind {
                FaultKind::NotFolder | FaultKind::OffDisk | FaultKind::Denied | FaultKind::Pulled => true,
                _ => was_read_only && !disk.read_only,
            };
            let trouble = trouble.filter(|it| !shown(it) && !it.is_over(disk.space));
            let slow = known.and_then(|it| it.slow);
            self.known.push(Known { disk, spent_octets: 0, trouble, gone: false, slow });
        }
        let known = &self.known;
        let unknown_gone =
            |stick: &StickId| stick.0.starts_with(UNKNOWN) && !known.iter().any(|it| it.disk.stick == *stick);
        self.ejected.retain(|stick| !unknown_gone(stick));
        if self.ejected.is_empty() {
            self.unfinished = None;
        }
        self.current = self.best(running, was.as_ref());
        let is = self.place();
        let changed = was != is;
        if changed {
            self.level = Level::Plenty;
            self.full_told = false;
        }
        let is_there = |place: &Place| self.known.iter().any(|it| place_of(&it.disk) == *place);
        let went = was.as_ref().is_some_and(|place| !is_there(place));
        if went || is.is_some() {
            self.pulled = is.is_none() && !was_ejected;
        }
        let is_fresh = |it: &&Known| !it.disk.read_only && !writable_before.contains(&place_of(&it.disk));
        let current = self.current();
        Change {
            came: current.is_some_and(|it| changed || is_fresh(&it)),
            went,
            turned: changed && was.is_some() && !went,
            gone: before.iter().map(|it| self.folder_of(&it.disk)).collect(),
            fresh: self.known.iter().filter(is_fresh).map(|it| self.folder_of(&it.disk)).collect(),
        }
    }

    /// The best disk; the one that was recorded to as long as none is better.
    fn best(&self, running: usize, was: Option<&Place>) -> Option<usize> {
        let place = |at: usize| self.known.get(at).map(|it| place_of(&it.disk));
        let rank = |at: &usize| {
            let fitness = self.known.get(*at).map(|it| self.fitness(it, running));
            (fitness, place(*at).as_ref() != was, *at)
        };
        (0..self.known.len()).min_by_key(rank)
    }

    fn fitness(&self, it: &Known, running: usize) -> Fitness {
        if self.is_ejected(&it.disk) {
            return Fitness::Ejected;
        }
        if it.disk.read_only {
            return Fitness::ReadOnly;
        }
        match it.trouble.map(|trouble| trouble.kind) {
            _ if it.gone || it.disk.folder_fault.is_some() => Fitness::Failed,
            Some(FaultKind::Full) => Fitness::Full,
            Some(FaultKind::ReadOnly) => Fitness::ReadOnly,
            Some(_) => Fitness::Failed,
            None if self.room_of(it) < needed_octets(running) => Fitness::Full,
            None => Fitness::Good,
        }
    }

    /// Turns from a disk that takes no more to another one that does, or has turned already. `None` if there
    /// is none.
    pub(in crate::agent) fn turn_from(&mut self, folder: &Folder, running: usize) -> Option<Folder> {
        let other = self.other_than(&folder.root, folder.device, running)?;
        if self.current != Some(other) {
            self.current = Some(other);
            self.level = Level::Plenty;
            self.full_told = false;
        }
        self.folder()
    }

    /// Whether recordings could go on at another disk than the one in use.
    pub(in crate::agent) fn has_other(&self, running: usize) -> bool {
        self.current().is_some_and(|it| self.other_than(&it.disk.root, it.disk.device, running).is_some())
    }

    /// Whether recordings could go on at another disk than this one.
    pub(in crate::agent) fn has_other_than(&self, folder: &Folder, running: usize) -> bool {
        self.other_than(&folder.root, folder.device, running).is_some()
    }

    fn other_than(&self, root: &Path, device: u64, running: usize) -> Option<usize> {
        let is_other = |at: &usize| {
            self.known
                .get(*at)
                .is_some_and(|it| !it.is(root, device) && self.fitness(it, running) == Fitness::Good)
        };
        self.current.filter(is_other).or_else(|| (0..self.known.len()).find(is_other))
    }

    fn current(&self) -> Option<&Known> {
        self.known.get(self.current?)
    }

    fn place(&self) -> Option<Place> {
        self.current().map(|it| place_of(&it.disk))
    }

    fn known_mut(&mut self, root: &Path, device: u64) -> Option<&mut Known> {
        self.known.iter_mut().find(|it| it.is(root, device))
    }

    /// Whether this very folder is on a disk that is there.
    pub(in crate::agent) fn has(&self, folder: &Folder) -> bool {
        self.known.iter().any(|it| it.is(&folder.root, folder.device))
    }

    fn is_ejected(&self, disk: &Disk) -> bool {
        self.ejected.contains(&disk.stick)
    }

    /// The disk to eject: the one in use, or else the one that could not be unmounted before.
    pub(in crate::agent) fn to_eject(&self) -> Option<Eject> {
        let Some(known) = self.current() else { return self.unfinished.clone() };
        let Disk { root, device, stick, group, removable, .. } = known.disk.clone();
        let stick = if stick.0.starts_with(UNKNOWN) { StickId::default() } else { stick };
        Some(Eject { root, device, stick, group, removable })
    }

    /// Whether a folder is on the disk that is, or is to be, ejected.
    pub(in crate::agent) fn is_on_current_stick(&self, folder: &Folder) -> bool {
        let Some(current) = self.current() else { return true };
        let its = self.known.iter().find(|it| it.is(&folder.root, folder.device));
        its.is_none_or(|it| {
            let together = !it.disk.group.is_empty() && it.disk.group == current.disk.group;
            together || it.disk.stick == current.disk.stick
        })
    }

    /// The disk was synced, and is not recorded to until it comes anew: all of its partitions, wherever they
    /// are mounted. A disk that can't be pulled can't come anew, so it goes on as before. Returns whether it
    /// is ejected.
    pub(in crate::agent) fn eject(&mut self, disk: &Eject, done: &Ejected) -> bool {
        // A system that runs from a stick is left mounted without a word.
        if !disk.removable || (!done.unmounted && done.left.is_empty()) {
            return false;
        }
        self.unfinished = (!done.unmounted).then(|| disk.clone());
        let known = self.known.iter().find(|it| it.is(&disk.root, disk.device));
        let own = known.map(|it| it.disk.stick.clone());
        for stick in own.iter().chain(&done.sticks) {
            if !self.ejected.contains(stick) {
                if self.ejected.len() == MAX_EJECTED {
                    self.ejected.remove(0);
                }
                self.ejected.push(stick.clone());
            }
        }
        true
    }

    /// Whether the last look could not see the disks.
    pub(in crate::agent) fn is_unknown(&self) -> bool {
        self.look == LastLook::Blind
    }

    /// Whether the disks were looked at since the start.
    pub(in crate::agent) fn was_looked_at(&self) -> bool {
        self.look != LastLook::None
    }

    /// Whether a disk waits to be pulled.
    pub(in crate::agent) fn waits_for_pull(&self) -> bool {
        !self.ejected.is_empty()
    }

    /// Whether a disk was ejected and is mounted all the same: it can be ejected once more.
    pub(in crate::agent) fn is_mounted_though_ejected(&self) -> bool {
        self.current().map_or(self.unfinished.is_some(), |it| self.is_ejected(&it.disk))
    }

    /// Whether the disk with this root is mounted right there.
    pub(in crate::agent) fn is_mount_point(&self, root: &Path) -> bool {
        self.known.iter().any(|it| it.disk.root == root && it.disk.mount == root)
    }

    pub(in crate::agent) fn is_present(&self) -> bool {
        self.usable().is_some_and(|it| !self.is_ejected(&it.disk))
    }

    /// Whether there is a disk, and the settings forbid to record to it.
    pub(in crate::agent) fn is_forbidden(&self) -> bool {
        self.current.is_some() && self.usable().is_none()
    }

    /// The disk, unless the settings forbid to record to it.
    fn usable(&self) -> Option<&Known> {
        self.current().filter(|it| it.disk.removable || !self.require_removable)
    }

    pub(in crate::agent) fn device(&self) -> Option<u64> {
        self.current().map(|it| it.disk.device)
    }

    /// An operation in this folder failed in this way.
    pub(in crate::agent) fn note_fault(&mut self, folder: &Folder, kind: FaultKind) {
        let Some(it) = self.known_mut(&folder.root, folder.device) else { return };
        match kind {
            FaultKind::NoStorage => it.gone = true,
            // The disk takes other files.
            FaultKind::TooLarge => {}
            kind => it.trouble = Some(Trouble { kind, free_octets: it.disk.space.free_octets }),
        }
    }

    /// The disk of a folder took something and told its room.
    pub(in crate::agent) fn works(&mut self, folder: &Folder, space: Space) {
        self.measured(folder, space);
        if let Some(it) = self.known_mut(&folder.root, folder.device) {
            it.trouble = None;
        }
    }

    /// The disk of a folder did something and told its room.
    pub(in crate::agent) fn measured(&mut self, folder: &Folder, space: Space) {
        if let Some(it) = self.known_mut(&folder.root, folder.device) {
            it.disk.space = space;
            it.spent_octets = 0;
            it.gone = false;
            // That a file could be finished says nothing of the room for another one.
            it.trouble =
                it.trouble.filter(|trouble| trouble.kind == FaultKind::Full && !trouble.is_over(space));
        }
    }

    pub(in crate::agent) fn spend(&mut self, folder: &Folder, octets: u64) {
        if let Some(it) = self.known_mut(&folder.root, folder.device) {
            it.spent_octets += octets;
        }
    }

    /// The folder to record to beside the `running` recordings, or why that is not possible.
    pub(in crate::agent) fn folder_to_record(&self, running: usize) -> Result<Folder, AgentError> {
        let refused = |reason, cause| AgentError::new(reason).because(cause);
        let known = match self.current() {
            Some(known) if !self.is_ejected(&known.disk) => known,
            _ => return Err(self.absent()),
        };
        let disk = &known.disk;
        let at = disk.root.display().to_string();
        if self.is_forbidden() {
            let message = format!("{at} is not on a removable disk (storage.require_usb)");
            return Err(refused(Reason::NoStorage, Cause::NotRemovable).with_message(message));
        }
        // A disk that was pulled often turns read-only first.
        if disk.read_only && !is_pulled(disk) {
            return Err(refused(Reason::StorageReadOnly, Cause::ReadOnly).with_detail(at));
        }
        if let Some(kind) = disk.folder_fault {
            let folder = self.folder_of(disk).path();
            return Err(error_of_fault(kind).with_detail(folder.display().to_string()));
        }
        let room = self.room_of(known);
        let needed = needed_octets(running);
        if room < needed {
            let free = disk.space.free_octets;
            let detail = format!("{free} octets are free at {at}, {} stay reserved", self.reserve_octets);
            return Err(refused(Reason::StorageFull, Cause::Full)
                .with_detail(detail)
                .with("free_bytes", free)
                .with("reserve_bytes", self.reserve_octets)
                .with("needed_bytes", self.reserve_octets + needed));
        }
        Ok(self.folder_of(disk))
    }

    /// The recording folder, whether or not it can be recorded to.
    pub(in crate::agent) fn folder(&self) -> Option<Folder> {
        self.current().map(|it| self.folder_of(&it.disk))
    }

    /// Octets that may still be recorded.
    pub(in crate::agent) fn room_octets(&self) -> u64 {
        self.current().map_or(0, |it| self.room_of(it))
    }

    fn room_of(&self, it: &Known) -> u64 {
        it.free_octets().saturating_sub(self.reserve_octets)
    }

    /// The room for recordings, if there is a disk that may be used.
    pub(in crate::agent) fn room_left(&self) -> RoomLeft {
        RoomLeft { octets: self.usable().map(|it| self.room_of(it).saturating_sub(MARGIN_OCTETS)) }
    }

    /// Seconds left for each of `recordings` calls at once; `None` without a disk that may be used.
    pub(in crate::agent) fn remaining_s(&self, recordings: usize) -> Option<u64> {
        self.room_left().seconds(recordings)
    }

    /// Whether the oldest recording should go. `waiting` octets of audio are not on the disk yet.
    pub(in crate::agent) fn wants_deletion(&self, waiting: u64) -> bool {
        self.is_present() && self.room_octets() < DELETE_BELOW_OCTETS + waiting
    }

    /// Whether there is just room for the `waiting` octets and their overhead.
    pub(in crate::agent) fn is_full(&self, waiting: u64) -> bool {
        self.is_present() && self.room_octets() < MARGIN_OCTETS + waiting
    }

    /// Whether to report a full disk: once, until there is room again.
    pub(in crate::agent) fn first_full(&mut self) -> bool {
        !std::mem::replace(&mut self.full_told, true)
    }

    /// Takes the result of the trial; the note if the disk is too slow for a number of `recordings` at once.
    pub(in crate::agent) fn judge_speed(&mut self, speed: Speed, recordings: usize) -> Option<&str> {
        let took_ms = u64::try_from(speed.took.as_millis()).unwrap_or(u64::MAX).max(1);
        let octets_per_s = speed.octets.saturating_mul(1000) / took_ms;
        let needed = SPEED_FACTOR * OCTETS_PER_S * recordings.max(1) as u64;
        let sync_ms = speed.longest_sync.as_millis();
        let slow = speed.longest_sync > SLOW_SYNC || octets_per_s < needed;
        let it = self.known.get_mut(self.current?)?;
        it.slow = slow.then(|| {
            let rate = octets_per_s / 1024;
            format!("slow: {rate} KiB/s, {sync_ms} ms for a sync; use a faster stick, or audio may be lost")
        });
        it.slow.as_deref()
    }

    /// The level, if it has become worse than the one told last.
    pub(in crate::agent) fn level_to_tell(&mut self, recordings: usize) -> Option<Level> {
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

    /// The disk of a folder turned out to be full.
    pub(in crate::agent) fn filled(&mut self, folder: &Folder) {
        self.note_fault(folder, FaultKind::Full);
        if let Some(it) = self.known_mut(&folder.root, folder.device) {
            it.disk.space.free_octets = 0;
        }
    }

    fn folder_of(&self, disk: &Disk) -> Folder {
        Folder { root: disk.root.clone(), device: disk.device, name: self.folder_name.clone() }
    }
}

/// Room for one recording more than those that run.
fn needed_octets(running: usize) -> u64 {
    MARGIN_OCTETS + START_OCTETS * (running as u64 + 1)
}

#[cfg(test)]
mod tests;

//! The status of the disk: its state and the cause, a change of them, a line for the log.

use super::known::{Known, is_pulled};
use super::{DiskState, LOW_S, MARGIN_OCTETS, OCTETS_PER_S, START_OCTETS, Told};
use crate::agent::disk::faults::{PULLED, cause_of_fault, sentence_of_fault};
use crate::api::error::AgentError;
use crate::api::event::StateChange;
use crate::api::reason::{Cause, Reason};
use crate::api::status::{StorageState, StorageStatus};
use log::Level as LogLevel;
use store::jobs::{FaultKind, Missing};

/// The room for recordings, if there is a disk that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) struct RoomLeft {
    pub(super) octets: Option<u64>,
}

impl RoomLeft {
    /// Seconds left for each of a number of `recordings` at once.
    pub(in crate::agent) fn seconds(self, recordings: usize) -> Option<u64> {
        let calls = recordings.max(1) as u64;
        self.octets.map(|room| room / (OCTETS_PER_S * calls))
    }
}

/// One line for the log about the disk, or that there is none, and how much it matters.
pub(super) fn describe(disks: &DiskState) -> (LogLevel, String) {
    let Some(disk) = disks.current().map(|it| &it.disk) else {
        let absent = absent(disks);
        // A directory named in the config should be there; a stick comes when it comes.
        let level = if disks.directory.is_some() { LogLevel::Warn } else { LogLevel::Info };
        return (level, format!("recordings go nowhere yet: {}", absent.message));
    };
    let (at, filesystem) = (disk.mount.display(), &disk.filesystem);
    let free_mib = disk.space.free_octets / (1024 * 1024);
    let folder = disks.folder_of(disk).path().display().to_string();
    let goes = if disks.is_forbidden() { "would go" } else { "go" };
    let text =
        format!("recordings {goes} to {folder}: disk mounted at {at}, {filesystem}, {free_mib} MiB free");
    match note(disks) {
        Some(note) => (LogLevel::Warn, format!("{text}, {note}")),
        None => (LogLevel::Info, text),
    }
}

fn note(disks: &DiskState) -> Option<String> {
    let Known { disk, slow, .. } = disks.current()?;
    let mut notes = Vec::new();
    if disks.is_forbidden() {
        notes.push("not a removable disk (storage.require_usb)");
    }
    if disk.read_only {
        notes.push("read-only: nothing can be recorded");
    }
    if disk.sync_mount {
        notes.push("mounted with `sync`: slow, and hard on the stick");
    }
    if disks.is_ejected(disk) {
        notes.push("ejected, but mounted: pull it, or eject it again");
    }
    notes.extend(disk.folder_fault.map(sentence_of_fault));
    notes.extend(slow.as_deref());
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// The state of the disk; `recordings` is the number of those that run. The state told last stays until it
/// has surely changed, so that nothing flutters.
fn state(disks: &DiskState, recordings: usize) -> StorageState {
    let Some(it) = disks.usable().filter(|it| !disks.is_ejected(&it.disk)) else {
        let is_ejected = disks.current.is_none_or(|_| !disks.is_forbidden()) && !disks.ejected.is_empty();
        return if is_ejected { StorageState::Ejected } else { StorageState::Absent };
    };
    // Asked once a flush: nothing is copied to compare.
    let told = disks.told.as_ref().filter(|told| told.place.as_ref().is_some_and(|place| it.is_at(place)));
    let told = told.map(|told| told.state);
    let was_full = told == Some(StorageState::Full);
    let was_low = was_full || told == Some(StorageState::Low);
    // Between calls it is full when the next one would be refused.
    let idle = if recordings == 0 { START_OCTETS } else { 0 };
    let full_below = MARGIN_OCTETS + idle + if was_full { START_OCTETS } else { 0 };
    let low_below = if was_low { LOW_S + LOW_S / 5 } else { LOW_S };
    match it.trouble.map(|trouble| trouble.kind) {
        _ if it.disk.read_only && !is_pulled(&it.disk) => StorageState::ReadOnly,
        _ if it.disk.folder_fault.is_some() => StorageState::Failed,
        Some(FaultKind::ReadOnly) => StorageState::ReadOnly,
        Some(FaultKind::Full) => StorageState::Full,
        Some(_) => StorageState::Failed,
        None if disks.room_of(it) < full_below => StorageState::Full,
        None if disks.remaining_s(recordings).is_some_and(|left| left < low_below) => StorageState::Low,
        None => StorageState::Ok,
    }
}

/// Why no more can be done with the disk.
fn cause(disks: &DiskState, state: StorageState) -> Option<Cause> {
    let fault = |it: &Known| it.disk.folder_fault.or(it.trouble.map(|trouble| trouble.kind));
    match state {
        StorageState::Ok | StorageState::Low => None,
        StorageState::Full => Some(Cause::Full),
        StorageState::ReadOnly => Some(Cause::ReadOnly),
        StorageState::Failed => disks.current().and_then(fault).map(cause_of_fault),
        StorageState::Ejected => Some(Cause::Ejected),
        StorageState::Absent if disks.is_forbidden() => Some(Cause::NotRemovable),
        StorageState::Absent if disks.pulled => Some(Cause::Pulled),
        StorageState::Absent => Some(match disks.missing {
            None => Cause::Absent,
            Some(Missing::Path) => Cause::PathMissing,
            Some(Missing::NotFolder) => Cause::NotAFolder,
            Some(Missing::Denied) => Cause::Denied,
        }),
    }
}

/// The change to tell, if the disk's state is not the one told last. A disk that is there at the start is no
/// change.
pub(super) fn change(disks: &mut DiskState, recordings: usize) -> Option<StateChange> {
    if !disks.was_looked_at() {
        return None;
    }
    let to = state(disks, recordings);
    let cause = cause(disks, to);
    let same = |told: &Told| {
        let same_place = match (&told.place, disks.current()) {
            (Some(place), Some(it)) => it.is_at(place),
            (None, None) => true,
            _ => false,
        };
        told.state == to && told.cause == cause && same_place
    };
    if disks.told.as_ref().is_some_and(same) {
        return None;
    }
    let place = disks.place();
    let told = disks.told.replace(Told { state: to, cause, place: place.clone() })?;
    // Two disks of which neither can be used are no news.
    if told.state == to && told.cause == cause && cause.is_some() {
        return None;
    }
    let from = told.state;
    let better = match from {
        StorageState::Absent | StorageState::Ejected => Cause::Inserted,
        _ if told.place != place => Cause::NextDisk,
        StorageState::Failed => Cause::Works,
        StorageState::ReadOnly => Cause::Writable,
        StorageState::Ok | StorageState::Low | StorageState::Full => Cause::Room,
    };
    let storage = status(disks, recordings);
    Some(StateChange { from, to, cause: cause.unwrap_or(better), storage })
}

pub(super) fn status(disks: &DiskState, recordings: usize) -> StorageStatus {
    let state = state(disks, recordings);
    let cause = cause(disks, state);
    let Some(it) = disks.current() else {
        return StorageStatus { state, cause, ..StorageStatus::default() };
    };
    let disk = &it.disk;
    StorageStatus {
        present: disks.is_present(),
        mount: Some(disk.mount.display().to_string()),
        filesystem: Some(disk.filesystem.clone()),
        total_bytes: Some(disk.space.total_octets),
        free_bytes: Some(it.free_octets()),
        remaining_s: disks.remaining_s(recordings),
        state,
        cause,
        read_only: disk.read_only,
        sync_mount: disk.sync_mount,
        removable: disk.removable,
        note: note(disks),
    }
}

/// Why there is no disk.
pub(super) fn absent(disks: &DiskState) -> AgentError {
    let cause = cause(disks, state(disks, 0)).unwrap_or(Cause::Absent);
    let path = disks.directory.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let message = match cause {
        Cause::Ejected => "the disk was ejected: pull it and insert it again".to_owned(),
        Cause::Pulled => PULLED.to_owned(),
        Cause::PathMissing => {
            format!("{path} is not there (storage.path): mount the disk or make the folder")
        }
        Cause::NotAFolder => format!("{path} is no folder (storage.path)"),
        Cause::Denied => format!("recordd may not look into {path} (storage.path)"),
        Cause::NotRemovable => format!("{path} is not on a removable disk (storage.require_usb)"),
        _ => Reason::NoStorage.sentence().to_owned(),
    };
    AgentError::new(Reason::NoStorage).because(cause).with_message(message)
}

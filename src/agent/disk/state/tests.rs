//! The choice of a disk, and its status.

use super::*;
use log::Level as LogLevel;
use store::jobs::Left;

const KIB: u64 = 1024;

const ROOMY: Space = Space { total_octets: 1 << 30, free_octets: 1 << 29 };

fn found(state: &mut DiskState, disks: impl IntoIterator<Item = Disk>) -> Change {
    state.scanned(Found { disks: disks.into_iter().collect(), ..Found::default() }, 0)
}

fn state(free_octets: u64) -> DiskState {
    let config = Storage { reserve_octets: 1024 * KIB, ..crate::config::Config::default().storage };
    let mut state = DiskState::new(&config);
    let space = Space { total_octets: 1 << 30, free_octets };
    found(&mut state, [Disk { device: 1, space, removable: true, ..Disk::default() }]);
    state
}

#[test]
fn a_look_that_could_not_see_what_there_is_changes_nothing_and_is_made_again() {
    let mut state = state(1 << 29);
    let folder = state.folder();
    let change = state.scanned(Found { unknown: true, ..Found::default() }, 1);
    assert!(!change.went && change.gone.is_empty() && state.is_unknown());
    assert_eq!(state.folder(), folder);
    assert!(found(&mut state, []).went && !state.is_unknown());
}

#[test]
fn a_start_needs_room_for_every_call_that_runs_too_and_is_told_the_figure() {
    let state = state(1024 * KIB + MARGIN_OCTETS + 2 * START_OCTETS);
    assert!(state.folder_to_record(0).is_ok() && state.folder_to_record(1).is_ok());
    let refused = state.folder_to_record(2).unwrap_err();
    assert_eq!(refused.reason, Reason::StorageFull);
    assert_eq!(refused.data["needed_bytes"], 1024 * KIB + MARGIN_OCTETS + 3 * START_OCTETS);
    assert_eq!(refused.data["free_bytes"], 1024 * KIB + MARGIN_OCTETS + 2 * START_OCTETS);
}

#[test]
fn a_fixed_disk_where_a_removable_one_is_required_is_no_disk() {
    let with = |removable| {
        let mut state = state(0);
        let space = Space { total_octets: 1 << 30, free_octets: 1 << 29 };
        found(&mut state, [Disk { device: 2, space, removable, ..Disk::default() }]);
        state
    };
    let mut fixed = with(false);
    assert_eq!(fixed.folder_to_record(0).unwrap_err().reason, Reason::NoStorage);
    let status = fixed.status(1);
    assert_eq!((status.state, status.present, status.remaining_s), (StorageState::Absent, false, None));
    assert!(status.note.is_some_and(|note| note.contains("require_usb")));
    assert!(fixed.is_forbidden() && fixed.level_to_tell(1).is_none());
    let stick = with(true);
    assert!(stick.folder_to_record(0).is_ok() && !stick.is_forbidden());
    assert_eq!(stick.status(1).state, StorageState::Ok);
}

fn folder(device: u64) -> Folder {
    Folder { root: PathBuf::new(), device, name: "Record".into() }
}

fn eject(state: &mut DiskState, unmounted: bool) -> bool {
    let disk = state.to_eject().expect("a disk");
    let left = Left { point: disk.root.clone(), why: "not allowed".into(), denied: true };
    // Storage never unmounts a disk that can't be pulled.
    let left = if unmounted || !disk.removable { Vec::new() } else { vec![left] };
    state.eject(&disk, &Ejected { unmounted, left, sticks: Vec::new() })
}

#[test]
fn disks_that_can_be_pulled_stay_ejected_until_they_come_anew_and_no_others_do() {
    let config = Storage { require_usb: false, ..crate::config::Config::default().storage };
    for (removable, unmounted, ejected) in [(true, false, true), (true, true, true), (false, false, false)] {
        let mut state = DiskState::new(&config);
        found(&mut state, [Disk { device: 1, space: ROOMY, removable, ..Disk::default() }]);
        assert_eq!(eject(&mut state, unmounted), ejected);
        assert_eq!(state.folder_to_record(0).is_err(), ejected);
        found(&mut state, [Disk { device: 2, space: ROOMY, removable, ..Disk::default() }]);
        assert!(state.folder_to_record(0).is_ok());
    }
}

/// A partition of a stick, mounted at `root`.
fn partition(root: &str, device: u64, stick: &str) -> Disk {
    let stick = StickId(stick.into());
    Disk {
        root: root.into(),
        mount: root.into(),
        device,
        space: ROOMY,
        removable: true,
        stick,
        ..Disk::default()
    }
}

#[test]
fn all_of_an_ejected_stick_stays_ejected_wherever_it_is_mounted_until_it_was_pulled() {
    let mut state = state(0);
    found(&mut state, [partition("/a", 1, "s 7"), partition("/b", 2, "s 7")]);
    assert!(eject(&mut state, true));
    assert_eq!(cause(&state), (StorageState::Ejected, Some(Cause::Ejected)));
    // Another partition, another place, nowhere, and once more: it is the same stick.
    for disks in [
        vec![partition("/b", 2, "s 7")],
        vec![partition("/c", 1, "s 7")],
        vec![],
        vec![partition("/a", 1, "s 7")],
    ] {
        found(&mut state, disks);
        let refused = state.folder_to_record(0).unwrap_err();
        assert_eq!((refused.reason, &refused.data["cause"]), (Reason::NoStorage, &"ejected".into()));
        assert_eq!(state.status(0).state, StorageState::Ejected);
        assert!(!state.is_present());
    }
    state.scanned(Found { pulled: vec![StickId("s 7".into())], ..Found::default() }, 0);
    assert_eq!(cause(&state), (StorageState::Absent, Some(Cause::Absent)), "it was no pull without eject");
    found(&mut state, [partition("/a", 1, "s 8")]);
    assert!(state.folder_to_record(0).is_ok());
}

#[test]
fn a_stick_that_was_pulled_and_is_back_between_two_looks_has_come_anew() {
    let mut state = state(0);
    found(&mut state, [partition("/a", 1, "s 7")]);
    eject(&mut state, true);
    let pulled = vec![StickId("s 7".into())];
    let change =
        state.scanned(Found { disks: vec![partition("/a", 1, "s 8")], pulled, ..Found::default() }, 0);
    assert!(change.came && state.folder_to_record(0).is_ok());
}

#[test]
fn the_folder_that_a_stick_leaves_behind_at_its_place_is_not_recorded_to() {
    let path = StoragePath::Directory("/stick".into());
    let config = Storage { path, require_usb: false, ..crate::config::Config::default().storage };
    let flash =
        || Disk { root: "/stick".into(), mount: "/".into(), device: 9, space: ROOMY, ..Disk::default() };
    for ejects in [true, false] {
        let mut state = DiskState::new(&config);
        found(&mut state, [flash()]);
        assert!(state.folder_to_record(0).is_ok(), "no stick was ever there");
        found(&mut state, [partition("/stick", 1, "s 7")]);
        if ejects {
            eject(&mut state, true);
        }
        found(&mut state, [flash()]);
        let expected = if ejects { "ejected" } else { "pulled" };
        assert_eq!(state.folder_to_record(0).unwrap_err().data["cause"], expected);
        let pulled = vec![StickId("s 7".into())];
        state.scanned(Found { disks: vec![flash()], pulled, ..Found::default() }, 0);
        assert!(state.folder_to_record(0).is_err());
        found(&mut state, [partition("/stick", 1, "s 8")]);
        assert!(state.folder_to_record(0).is_ok());
    }
}

fn cause(state: &DiskState) -> (StorageState, Option<Cause>) {
    let status = state.status(0);
    (status.state, status.cause)
}

#[test]
fn the_disk_in_use_stays_in_use_until_it_takes_no_more_and_another_one_does() {
    let (a, b, c) = (|| partition("/a", 1, "a"), || partition("/b", 2, "b"), || partition("/c", 3, "c"));
    let root = |state: &DiskState| state.folder().map(|folder| folder.root.display().to_string());
    let mut state = state(0);
    found(&mut state, [b()]);
    found(&mut state, [a(), b()]);
    assert_eq!(root(&state).as_deref(), Some("/b"), "the one that came first");
    let full = |disk: Disk| Disk { space: Space { total_octets: 1 << 30, free_octets: 0 }, ..disk };
    found(&mut state, [a(), full(b())]);
    assert_eq!(root(&state).as_deref(), Some("/a"));
    found(&mut state, [a(), b()]);
    assert_eq!(root(&state).as_deref(), Some("/a"), "room elsewhere is no reason to go back");
    let read_only = |disk: Disk| Disk { read_only: true, ..disk };
    let no_folder = |disk: Disk| Disk { folder_fault: Some(FaultKind::NotFolder), ..disk };
    found(&mut state, [read_only(a()), no_folder(b()), full(c())]);
    assert_eq!(root(&state).as_deref(), Some("/c"), "the one that people can do something about");
    state.note_fault(&Folder { root: "/c".into(), ..folder(3) }, FaultKind::Io);
    found(&mut state, [read_only(a()), b(), c()]);
    assert_eq!(root(&state).as_deref(), Some("/b"), "one that gave errors, and one that did not");
    let failed = state.folder().unwrap();
    state.note_fault(&failed, FaultKind::Io);
    assert!(state.turn_from(&failed, 0).is_none(), "none is better");
    found(&mut state, [a(), b(), c()]);
    assert_eq!(root(&state).as_deref(), Some("/a"));
}

#[test]
fn why_there_is_no_disk_is_told_apart() {
    let path = StoragePath::Directory("/srv/calls".into());
    let config = Storage { path, require_usb: true, ..crate::config::Config::default().storage };
    let mut state = DiskState::new(&config);
    for (missing, expected, named) in [
        (Missing::Path, Cause::PathMissing, "is not there"),
        (Missing::NotFolder, Cause::NotAFolder, "no folder"),
        (Missing::Denied, Cause::Denied, "may not look"),
    ] {
        state.scanned(Found { missing: Some(missing), ..Found::default() }, 0);
        let refused = state.folder_to_record(0).unwrap_err();
        assert_eq!((refused.reason, &refused.data["cause"]), (Reason::NoStorage, &expected.as_str().into()));
        assert!(refused.message.contains(named) && refused.message.contains("/srv/calls"), "{refused}");
        let (level, logged) = state.describe();
        assert!(level == LogLevel::Warn && logged.ends_with(&refused.message), "{logged}");
        assert_eq!(cause(&state), (StorageState::Absent, Some(expected)));
    }
    found(&mut state, [Disk { device: 9, space: ROOMY, ..Disk::default() }]);
    assert_eq!(cause(&state), (StorageState::Absent, Some(Cause::NotRemovable)));
    found(&mut state, [partition("/srv/calls", 1, "s")]);
    state.scanned(Found { missing: Some(Missing::Path), ..Found::default() }, 0);
    assert_eq!(cause(&state), (StorageState::Absent, Some(Cause::Pulled)));
}

#[test]
fn trouble_of_the_recording_folder_is_told_before_a_call_and_after() {
    for (kind, reason, expected) in [
        (FaultKind::NotFolder, Reason::StorageIo, Cause::NotAFolder),
        (FaultKind::OffDisk, Reason::PermissionDenied, Cause::OffDisk),
        (FaultKind::Denied, Reason::PermissionDenied, Cause::Denied),
    ] {
        let mut state = state(0);
        let wrong = Disk { folder_fault: Some(kind), ..partition("/a", 1, "a") };
        found(&mut state, [wrong]);
        let refused = state.folder_to_record(0).unwrap_err();
        assert_eq!((refused.reason, &refused.data["cause"]), (reason, &expected.as_str().into()));
        assert!(refused.message.contains("recording folder"), "{refused}");
        assert_eq!(cause(&state), (StorageState::Failed, Some(expected)));
        found(&mut state, [partition("/a", 1, "a")]);
        assert_eq!(cause(&state), (StorageState::Ok, None), "it was put right");
        state.note_fault(&state.folder().unwrap(), kind);
        assert_eq!(cause(&state), (StorageState::Failed, Some(expected)), "an attempt found it");
        found(&mut state, [partition("/a", 1, "a")]);
        assert_eq!(cause(&state), (StorageState::Ok, None));
    }
}

#[test]
fn every_change_of_the_state_is_told_once_and_both_ways() {
    let mut state = state(0);
    let mut next = |disks: Vec<Disk>, work: fn(&mut DiskState)| {
        found(&mut state, disks);
        work(&mut state);
        let change = state.change(0).map(|change| (change.from, change.to, change.cause));
        assert_eq!(state.change(0), None, "told once");
        change
    };
    let with =
        |free_octets| Disk { space: Space { total_octets: 1 << 30, free_octets }, ..partition("/a", 1, "a") };
    let (roomy, low, full) = (with(1 << 29), with(1024 * KIB + 300 * OCTETS_PER_S), with(0));
    let read_only = Disk { read_only: true, ..roomy.clone() };
    let other = partition("/b", 2, "b");
    let nothing: fn(&mut DiskState) = |_| {};
    let breaks: fn(&mut DiskState) = |state| state.note_fault(&state.folder().unwrap(), FaultKind::Io);
    let works: fn(&mut DiskState) = |state| state.works(&state.folder().unwrap(), ROOMY);
    use StorageState::{Absent, Failed, Full, Low, Ok, ReadOnly};
    assert_eq!(next(vec![], nothing), None, "what is there at the start is told by agent.info");
    assert_eq!(next(vec![roomy.clone()], nothing), Some((Absent, Ok, Cause::Inserted)));
    assert_eq!(next(vec![low.clone()], nothing), Some((Ok, Low, Cause::Room)));
    assert_eq!(next(vec![full.clone()], nothing), Some((Low, Full, Cause::Full)));
    assert_eq!(next(vec![low.clone()], nothing), Some((Full, Low, Cause::Room)));
    assert_eq!(next(vec![roomy.clone()], nothing), Some((Low, Ok, Cause::Room)));
    assert_eq!(next(vec![read_only], nothing), Some((Ok, ReadOnly, Cause::ReadOnly)));
    assert_eq!(next(vec![roomy.clone()], nothing), Some((ReadOnly, Ok, Cause::Writable)));
    assert_eq!(next(vec![roomy.clone()], breaks), Some((Ok, Failed, Cause::Broken)));
    assert_eq!(next(vec![roomy.clone()], works), Some((Failed, Ok, Cause::Works)));
    assert_eq!(next(vec![full, other.clone()], nothing), Some((Ok, Ok, Cause::NextDisk)));
    assert_eq!(next(vec![other.clone()], nothing), None, "a disk that is not in use");
    assert_eq!(next(vec![], nothing), Some((Ok, Absent, Cause::Pulled)));
}

#[test]
fn the_state_does_not_flutter_where_one_begins_and_the_other_ends() {
    let mut state = state(0);
    let at = |room: u64| {
        let space = Space { total_octets: 1 << 30, free_octets: 1024 * KIB + room };
        Disk { space, ..partition("/a", 1, "a") }
    };
    let mut state = |room: u64| {
        found(&mut state, [at(room)]);
        state.change(0);
        state.status(0).state
    };
    let low = MARGIN_OCTETS + LOW_S * OCTETS_PER_S;
    assert_eq!(state(low), StorageState::Ok);
    assert_eq!(state(low - OCTETS_PER_S), StorageState::Low);
    assert_eq!(state(low), StorageState::Low);
    let full = MARGIN_OCTETS + START_OCTETS;
    assert_eq!(state(full), StorageState::Low);
    assert_eq!(state(full - 1), StorageState::Full, "the next call would be refused");
    assert_eq!(state(full), StorageState::Full);
    assert_eq!(state(full + START_OCTETS), StorageState::Low);
    assert_eq!(state(low + LOW_S * OCTETS_PER_S / 5), StorageState::Ok);
}

#[test]
fn a_disk_that_gave_errors_has_failed_until_it_does_something_or_another_one_comes() {
    let mut state = state(1 << 29);
    let shown = |state: &DiskState| state.status(0).state;
    state.note_fault(&folder(2), FaultKind::Io);
    assert_eq!(shown(&state), StorageState::Ok, "another disk's error");
    state.note_fault(&folder(1), FaultKind::Io);
    assert_eq!(shown(&state), StorageState::Failed);
    state.works(&folder(1), ROOMY);
    assert_eq!(shown(&state), StorageState::Ok);
    state.note_fault(&folder(1), FaultKind::Io);
    found(&mut state, [Disk { device: 2, space: ROOMY, removable: true, ..Disk::default() }]);
    assert_eq!(shown(&state), StorageState::Ok);
}

#[test]
fn a_disk_that_takes_no_file_is_full_whatever_room_it_says_it_has_until_it_has_more() {
    let mut state = state(1 << 28);
    state.note_fault(&folder(1), FaultKind::Full);
    let space = |free_octets| Space { total_octets: 1 << 30, free_octets };
    state.measured(&folder(1), space(1 << 28));
    assert_eq!(state.status(0).state, StorageState::Full);
    state.measured(&folder(1), space((1 << 28) + START_OCTETS));
    assert_eq!(state.status(0).state, StorageState::Ok);
}

#[test]
fn low_is_told_once_ten_minutes_before_the_end_and_sooner_with_more_calls() {
    let mut state = state(1024 * KIB + MARGIN_OCTETS + (LOW_S + 300) * OCTETS_PER_S);
    assert_eq!(state.level_to_tell(1), None);
    assert_eq!(state.level_to_tell(2), Some(Level::Low));
    assert_eq!(state.level_to_tell(2), None);
    state.spend(&folder(1), 400 * OCTETS_PER_S);
    assert_eq!(state.level_to_tell(1), None, "it was told already");
    assert_eq!(state.remaining_s(1), Some(500));
}

#[test]
fn full_counts_what_waits_and_is_told_again_only_after_there_was_room() {
    let mut state = state(1024 * KIB + MARGIN_OCTETS + 10 * KIB);
    assert!(!state.is_full(10 * KIB) && state.is_full(11 * KIB));
    assert!(state.first_full() && !state.first_full());
    state.measured(&folder(1), ROOMY);
    let _ = state.level_to_tell(1);
    assert!(state.first_full());
}

#[test]
fn a_disk_slower_than_four_times_all_calls_or_with_one_long_sync_is_called_slow() {
    let mut state = state(1 << 29);
    let speed = |octets, took_ms, sync_ms| Speed {
        octets,
        took: Duration::from_millis(took_ms),
        longest_sync: Duration::from_millis(sync_ms),
    };
    assert_eq!(state.judge_speed(speed(256 * KIB, 1000, 300), 4), None);
    assert!(state.judge_speed(speed(120 * KIB, 1000, 300), 4).is_some());
    assert!(state.status(0).note.is_some_and(|note| note.contains("slow")));
    assert!(state.judge_speed(speed(64 * 1024 * KIB, 1500, 1001), 1).is_some());
    let another = Disk { device: 2, removable: true, ..Disk::default() };
    found(&mut state, [another]);
    assert_eq!(state.status(0).note, None, "another disk is not yet known to be slow");
}

#[test]
fn a_stick_that_is_out_of_its_slot_is_pulled_though_it_is_mounted_until_a_look_finds_it_well() {
    let mut state = state(ROOMY.free_octets);
    let disk = Disk { device: 1, space: ROOMY, removable: true, ..Disk::default() };
    let seen = |state: &DiskState| (state.status(0).state, state.status(0).cause);
    state.note_fault(&folder(1), FaultKind::Pulled);
    assert_eq!(seen(&state), (StorageState::Failed, Some(Cause::Pulled)));
    // Many turn read-only when they are pulled.
    for read_only in [false, true] {
        let gone = Disk { read_only, folder_fault: Some(FaultKind::Pulled), ..disk.clone() };
        found(&mut state, [gone]);
        assert_eq!(seen(&state), (StorageState::Failed, Some(Cause::Pulled)));
        let refused = state.folder_to_record(0).unwrap_err();
        assert_eq!((refused.reason, &refused.data["cause"]), (Reason::NoStorage, &"pulled".into()));
        assert!(refused.message.contains("insert it again"), "{}", refused.message);
    }
    found(&mut state, [disk]);
    assert!(state.folder_to_record(0).is_ok());
    assert_eq!(seen(&state), (StorageState::Ok, None));
}

//! Answers of storage about recordings and disks, and their consequences.

use crate::agent::disk::faults::cause_of_fault;
use crate::agent::recordings::on_disk::{self, going_on};
use crate::agent::routing::{Parts, library};
use crate::agent::{Action, RecordingKey, Turn};
use crate::api::event::Event;
use crate::api::reason::Reason;
use store::jobs::{Fault, FaultKind, FileKey, FinaliseOutcome, Found, Job, Opened, Piece, Space};

/// The disks were looked at.
pub(super) fn scanned(parts: &mut Parts, found: Found, turn: &mut Turn<'_>) {
    let (change, inserted) = parts.disk.scanned(found, parts.recordings.count_on_disk());
    if change.went {
        parts.library.clear();
        parts.library.end_playbacks(Reason::StorageIo.as_str(), turn);
        turn.emit(&Event::StorageRemoved(parts.disk.state.status(parts.recordings.count_on_disk())));
    }
    for key in parts.recordings.on_disk() {
        if parts.recordings.folder_of(key).is_some_and(|folder| change.gone.contains(folder)) {
            parts.pulled(key, turn);
        }
    }
    for folder in &change.fresh {
        turn.actions.extend(parts.recordings.pending_finalisations.jobs(folder).map(Action::Job));
    }
    parts.resume_lost(change.came, turn);
    if change.turned {
        parts.library.clear();
    }
    if change.came {
        parts.welcome_disk(inserted, turn);
        library::read_anew(parts);
    } else if !inserted {
        parts.disk.log_state(turn);
    }
    for waiting in parts.recordings.waiting_starts.take() {
        parts.start(waiting.reply, waiting.start, turn);
    }
}

/// A file of a recording was created, or could not be.
pub(super) fn opened(parts: &mut Parts, file: FileKey, result: Result<Opened, Fault>, turn: &mut Turn<'_>) {
    let Some(key) = parts.recordings.key_of(file) else {
        // The recording ended meanwhile, so nobody will close the file.
        return turn.actions.push(Action::Job(Job::Abandon(file)));
    };
    let opened = match result {
        Ok(opened) => opened,
        Err(fault) if fault.kind == FaultKind::Full && delete_to_open(parts, key, &fault, turn) => return,
        Err(fault) => return open_failed(parts, key, fault, turn),
    };
    if let Some(folder) = parts.recordings.folder_of(key) {
        parts.disk.state.works(folder, opened.space);
    }
    let remaining_s = parts.remaining_s();
    let Some(it) = parts.recordings.get_mut(key) else { return };
    let short_of_names = on_disk::opened(it, opened, remaining_s, turn);
    library::file_opened(parts, key);
    if short_of_names {
        let Parts { recordings, disk, .. } = parts;
        disk.delete_one_more(|| recordings.ids(), turn);
    }
    parts.write(key, turn);
}

/// There was no room to create a file, though there may be octets left: folders and disks have room for a
/// limited number of names. The oldest file gives way, and it is tried again. False if that can't be.
fn delete_to_open(parts: &mut Parts, key: RecordingKey, fault: &Fault, turn: &mut Turn<'_>) -> bool {
    let Parts { recordings, disk, .. } = parts;
    let elsewhere = disk.state.has_other(recordings.count_on_disk().saturating_sub(1));
    let wanted = disk.may_delete(turn);
    let Some(folder) = disk.state.folder().filter(|_| wanted && !elsewhere) else { return false };
    if recordings.folder_of(key) != Some(&folder) {
        return false;
    }
    if !recordings.get_mut(key).is_some_and(on_disk::may_open_again) {
        return false;
    }
    recordings.reopen_later(key, fault.clone());
    disk.delete_oldest(folder, || recordings.ids(), turn);
    true
}

/// A file could not be created.
fn open_failed(parts: &mut Parts, key: RecordingKey, fault: Fault, turn: &mut Turn<'_>) {
    let Err(_) = parts.go_on_elsewhere(key, &fault, Vec::new(), turn) else { return };
    let Some(it) = parts.recordings.get(key) else { return };
    let then = on_disk::open_failed(it, fault);
    parts.follow(key, then, turn);
}

/// Audio of a recording was written, or could not be.
pub(super) fn appended(
    parts: &mut Parts,
    file: FileKey,
    pieces: Vec<Piece>,
    result: Result<Option<Space>, Fault>,
    turn: &mut Turn<'_>,
) {
    let Some(key) = parts.recordings.key_of(file) else {
        return turn.pool.give_back_all(pieces);
    };
    match result {
        Ok(space) => {
            if let Some(space) = space {
                if let Some(folder) = parts.recordings.folder_of(key) {
                    parts.disk.state.works(folder, space);
                }
                parts.check_room(turn);
            }
            parts.recordings.appended(key, pieces, turn);
        }
        Err(fault) if fault.kind.lets_finish() => match parts.go_on_elsewhere(key, &fault, pieces, turn) {
            Ok(()) => return,
            Err(pieces) => filled(parts, key, &fault, pieces, turn),
        },
        Err(fault) => return parts.storage_failed(key, fault, pieces, turn),
    }
    parts.write(key, turn);
}

/// The disk, or the file, had no room for all of `pieces`.
fn filled(parts: &mut Parts, key: RecordingKey, fault: &Fault, pieces: Vec<Piece>, turn: &mut Turn<'_>) {
    let full = parts.recordings.get_mut(key).and_then(|it| on_disk::filled(it, fault, pieces, turn));
    if let Some(folder) = &full {
        parts.disk.state.filled(folder);
    }
    if full.is_some() && parts.disk.state.folder() == full {
        parts.disk_full(turn);
    } else {
        // The rest of a file on a disk that is in use no more.
        parts.stop(key, Reason::StorageFull, turn);
    }
    if let Some(it) = parts.recordings.get_mut(key) {
        it.note_cause(cause_of_fault(fault.kind));
    }
}

/// A file of a recording was closed, or could not be.
pub(super) fn closed(
    parts: &mut Parts,
    file: FileKey,
    result: Result<Option<Space>, Fault>,
    turn: &mut Turn<'_>,
) {
    let Some(key) = parts.recordings.key_of(file) else { return };
    match result {
        Ok(Some(space)) => {
            if let Some(folder) = parts.recordings.folder_of(key) {
                parts.disk.state.measured(folder, space);
            }
        }
        Ok(None) => {}
        Err(fault) => return parts.storage_failed(key, fault, Vec::new(), turn),
    }
    parts.disk.file_finished();
    library::file_closed(parts, key);
    if let Some(it) = parts.recordings.get_mut(key) {
        let then = on_disk::closed(it, turn);
        parts.follow(key, then, turn);
    }
}

/// A file that had lost its disk was finished, or could not be.
pub(super) fn finalised(
    parts: &mut Parts,
    file: FileKey,
    result: Result<FinaliseOutcome, Fault>,
    turn: &mut Turn<'_>,
) {
    if let Some((key, then)) = going_on::finalised(&mut parts.recordings, file, result, turn) {
        parts.follow(key, then, turn);
    }
}

/// The oldest file is not found yet.
pub(super) fn search_on(parts: &mut Parts, turn: &mut Turn<'_>) {
    let Parts { recordings, disk, .. } = parts;
    if !disk.search_on(|| recordings.ids(), turn) {
        deleted(parts, None, None, turn);
    }
}

/// The oldest file was deleted, or there was none.
pub(super) fn deleted(parts: &mut Parts, file: Option<&str>, space: Option<Space>, turn: &mut Turn<'_>) {
    let in_use = parts.disk.deleted(file, space, turn);
    if let Some(file) = file.filter(|_| in_use) {
        parts.library.file_deleted(file);
    }
    for (key, fault) in parts.recordings.take_reopening() {
        match parts.recordings.get_mut(key) {
            Some(it) if file.is_some() => on_disk::open_again(it, turn),
            _ => open_failed(parts, key, fault, turn),
        }
    }
    // Starts that wait are answered by the scan.
    let waits = !parts.recordings.waiting_starts.is_empty();
    if waits && !parts.delete_for_start(turn) && !parts.disk.is_looking() {
        parts.disk.scan(turn);
    }
    if !parts.recordings.is_empty() {
        parts.check_room(turn);
    }
}

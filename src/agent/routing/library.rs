//! Tells the library of disks and recordings.

use crate::agent::library::{Around, NewFile};
use crate::agent::routing::Parts;
use crate::agent::{RecordingKey, Turn};
use recfile::sealed::CHUNK_OVERHEAD_OCTETS;
use store::jobs::FileKey;
use store::jobs::library::LibraryDone;

/// A disk came, or files on it changed: the folder is read anew.
pub(super) fn read_anew(parts: &mut Parts) {
    parts.library.begin();
    for key in parts.recordings.on_disk() {
        if parts.recordings.get(key).is_some_and(|it| !it.has_lost_disk()) {
            file_opened(parts, key);
        }
    }
}

/// Takes the next step of the index, if one is due.
pub(super) fn pump(parts: &mut Parts, turn: &mut Turn<'_>) {
    let Parts { library, disk, .. } = parts;
    if !disk.is_ejecting() {
        library.pump(|| disk.state.folder(), turn);
    }
}

pub(super) fn take_done(parts: &mut Parts, done: LibraryDone, turn: &mut Turn<'_>) {
    let may_begin = parts.refuse_in_between(true);
    let Parts { library, recordings, .. } = parts;
    library.handle(done, Around { may_begin, is_running: &|id| recordings.is_running(id) }, turn);
}

/// Does the due work of all playbacks.
pub(super) fn play_all(parts: &mut Parts, turn: &mut Turn<'_>) {
    let Parts { library, recordings, .. } = parts;
    library.play_all(&|id| recordings.is_running(id), turn);
}

/// A file was created for a recording.
pub(super) fn file_opened(parts: &mut Parts, key: RecordingKey) {
    let Some(it) = parts.recordings.get(key) else { return };
    let Some(to_file) = it.destination.as_file() else { return };
    let Some(file) = to_file.file_name() else { return };
    parts.library.file_opened(&NewFile {
        recording: &it.id,
        call: &it.call,
        file,
        header: to_file.header(),
        start: to_file.stamp(),
        segment: to_file.segment(),
        encrypted: to_file.is_sealed(),
        octets: to_file.octets_in_file(0),
    });
}

/// The file of a recording has `durable_octets` of audio by now.
pub(super) fn file_grew(parts: &mut Parts, file: FileKey, durable_octets: u64) {
    let key = parts.recordings.key_of(file);
    let it = key.and_then(|key| parts.recordings.get(key));
    let Some(to_file) = it.and_then(|it| it.destination.as_file()) else { return };
    if let Some(name) = to_file.file_name() {
        parts.library.file_grew(name, to_file.octets_in_file(durable_octets), durable_octets);
    }
}

/// The file of a recording was closed: its last frame was filled up.
pub(super) fn file_closed(parts: &mut Parts, key: RecordingKey) {
    let Some(it) = parts.recordings.get(key) else { return };
    let Some(to_file) = it.destination.as_file() else { return };
    let frame = u64::from(to_file.header().rtp_len).max(1);
    let last_chunk = if to_file.is_sealed() { CHUNK_OVERHEAD_OCTETS as u64 } else { 0 };
    if let Some(name) = to_file.file_name() {
        parts.library.file_closed(name, frame, last_chunk, |audio| to_file.octets_in_file(audio));
        parts.library.call_changed(name, &it.call);
    }
}

/// Numbers and names of a call changed.
pub(super) fn call_changed(parts: &mut Parts, key: RecordingKey) {
    let Some(it) = parts.recordings.get(key) else { return };
    if let Some(name) = it.file_name() {
        parts.library.call_changed(name, &it.call);
    }
}

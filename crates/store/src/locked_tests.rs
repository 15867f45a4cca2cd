//! Two agents on one folder: each leaves recordings of the other alone.

use super::fs::{Fs, RealFs, SystemFs};
use super::writer::Writer;
use super::writer::per_file::PerFile;
use crate::jobs::library::{AskId, LibraryDone, LibraryError, LibraryJob};
use crate::jobs::{Done, Folder, Job};
use media::codec::Codec;
use media::time::Mono;
use recfile::header::FileHeader;
use recfile::name::sidecar_name;
use recfile::sidecar::{Sidecar, SidecarState};
use std::fs::File;
use std::path::Path;

/// The first second of March 2026 and the `number` that follow.
fn leave(folder: &Path, number: u32, recording: &str, state: SidecarState) -> String {
    let name = format!("Record_20260301-0000{number:02}.wav");
    std::fs::write(folder.join(&name), FileHeader::new(Codec::Pcma, 20).encode()).unwrap();
    let start = format!("2026-03-01T00:00:{number:02}.000Z");
    let sidecar =
        Sidecar { recording: recording.into(), file: name.clone(), start, state, ..Sidecar::default() };
    std::fs::write(folder.join(sidecar_name(&name)), sidecar.to_json()).unwrap();
    name
}

/// As another agent does.
fn lock(folder: &Path, name: &str) -> File {
    let file = RealFs.open(&folder.join(name)).unwrap();
    assert!(RealFs.lock(&file).unwrap());
    file
}

fn folder_of(path: &Path) -> Folder {
    Folder { root: path.into(), device: RealFs.device(path).unwrap(), name: String::new() }
}

fn library(writer: &mut Writer<SystemFs>, job: LibraryJob) -> LibraryDone {
    match writer.handle(Job::Library(job)).unwrap() {
        Done::Library(done) => done,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_running_recording_of_another_agent_can_be_neither_deleted_nor_protected() {
    let dir = tempfile::tempdir().unwrap();
    let file = leave(dir.path(), 1, "theirs", SidecarState::Recording);
    let folder = folder_of(dir.path());
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::default());
    let delete = || LibraryJob::Delete { ask: AskId(1), folder: folder.clone(), file: file.clone() };
    let held = lock(dir.path(), &file);
    let done = library(&mut writer, delete());
    assert!(matches!(done, LibraryDone::Deleted(_, Err(LibraryError::Busy))), "{done:?}");
    let (ask, protected) = (AskId(2), true);
    let done = library(
        &mut writer,
        LibraryJob::Protect { ask, folder: folder.clone(), file: file.clone(), protected },
    );
    assert!(matches!(done, LibraryDone::Protected(_, Err(LibraryError::Busy))), "{done:?}");
    assert!(dir.path().join(&file).exists());
    drop(held);
    let done = library(&mut writer, delete());
    assert!(matches!(done, LibraryDone::Deleted(_, Ok(()))), "{done:?}");
}

#[test]
fn room_is_not_made_from_a_call_that_another_agent_is_recording() {
    let dir = tempfile::tempdir().unwrap();
    for (number, recording) in [(1, "theirs"), (2, "over"), (3, "read")] {
        leave(dir.path(), number, recording, SidecarState::Ended);
    }
    let running = leave(dir.path(), 4, "theirs", SidecarState::Recording);
    let _held = [lock(dir.path(), &running), lock(dir.path(), "Record_20260301-000003.wav")];
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::default());
    for expected in [Some("Record_20260301-000002.wav"), None] {
        let Done::Deleted { file, .. } =
            writer.handle(Job::DeleteOldest { folder: folder_of(dir.path()), running: Vec::new() }).unwrap()
        else {
            panic!("another answer");
        };
        assert_eq!(file.as_deref(), expected);
    }
}

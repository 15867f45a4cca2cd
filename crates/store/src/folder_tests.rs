//! Objects that may stand in the place of the recording folder.

use super::fs::{Fs, RealFs};
use super::writer::Writer;
use super::writer::per_file::PerFile;
use crate::jobs::library::{Index, LibraryJob};
use crate::jobs::{Done, Fault, FaultKind, FileKey, Folder, Job, Open, Opened};
use media::codec::Codec;
use media::time::{Mono, Wall};
use recfile::header::FileHeader;
use recfile::name::sidecar_name;
use recfile::sidecar::{Sidecar, SidecarState};
use std::path::Path;

fn open(root: &Path) -> Result<Opened, Fault> {
    let folder = Folder { root: root.into(), device: RealFs.device(root).unwrap(), name: "Record".into() };
    let open = Open {
        file: FileKey(1),
        folder,
        stamp: Wall::default(),
        header: FileHeader::new(Codec::Pcma, 20),
        sidecar: Box::new(Sidecar::default()),
    };
    match Writer::new(RealFs, Mono::default, PerFile::default()).handle(Job::Open(open)).unwrap() {
        Done::Opened { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_link_in_place_of_the_folder_is_followed_on_the_same_disk_only() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("Record");
    std::os::unix::fs::symlink("/proc", &record).unwrap();
    let fault = open(dir.path()).unwrap_err();
    assert!(fault.kind == FaultKind::OffDisk && fault.detail.contains("off the disk"), "{fault:?}");
    std::fs::remove_file(&record).unwrap();
    std::fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", &record).unwrap();
    assert!(open(dir.path()).is_ok());
}

#[test]
fn behind_a_link_that_leads_off_the_disk_nothing_is_made_whole_or_deleted() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    let device = RealFs.device(dir.path()).unwrap();
    if RealFs.device(elsewhere.path()).unwrap() == device {
        return eprintln!("skipped: there is no second disk");
    }
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("Record")).unwrap();
    let mut left = Vec::new();
    for (second, state) in [SidecarState::Ended, SidecarState::Recording].into_iter().enumerate() {
        let name = format!("Record_20260301-09150{second}.wav");
        let recording = second.to_string();
        let sidecar = Sidecar { recording, file: name.clone(), state, ..Sidecar::default() };
        let mut audio = FileHeader::new(Codec::Pcma, 20).encode().to_vec();
        audio.resize(audio.len() + 200, 7);
        left.extend([(name.clone(), audio), (sidecar_name(&name), sidecar.to_json())]);
    }
    for (name, content) in &left {
        std::fs::write(elsewhere.path().join(name), content).unwrap();
    }
    let folder = Folder { root: dir.path().into(), device, name: "Record".into() };
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::default());
    let index = Index { pass: 1, folder: folder.clone(), after: None, limit: 9, describe: true };
    writer.handle(Job::Library(LibraryJob::Index(index))).unwrap();
    let deleted = writer.handle(Job::DeleteOldest { folder, running: Vec::new() }).unwrap();
    assert!(matches!(deleted, Done::Deleted { file: None, .. }), "{deleted:?}");
    for (name, content) in &left {
        assert_eq!(&std::fs::read(elsewhere.path().join(name)).unwrap(), content, "{name}");
    }
}

#[test]
fn a_file_in_place_of_the_folder_is_named_and_not_taken_for_a_missing_disk() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Record"), "a file").unwrap();
    let fault = open(dir.path()).unwrap_err();
    assert!(fault.kind != FaultKind::NoStorage && fault.detail.contains("create the folder"), "{fault:?}");
}

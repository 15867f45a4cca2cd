//! What may stand in the place of the recording folder.

use super::fs::{Fs, RealFs};
use super::writer::Writer;
use crate::file::header::FileHeader;
use crate::file::sidecar::Sidecar;
use crate::jobs::{Done, Fault, FaultKind, FileKey, Folder, Job, Open, Opened};
use crate::rtp::codec::Codec;
use crate::time::{Mono, Wall};
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
    match Writer::new(RealFs, Mono::default).handle(Job::Open(open)) {
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
    assert!(fault.kind == FaultKind::Denied && fault.detail.contains("off the disk"), "{fault:?}");
    std::fs::remove_file(&record).unwrap();
    std::fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", &record).unwrap();
    assert!(open(dir.path()).is_ok());
}

#[test]
fn a_file_in_place_of_the_folder_is_named_and_not_taken_for_a_missing_disk() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Record"), "a file").unwrap();
    let fault = open(dir.path()).unwrap_err();
    assert!(fault.kind != FaultKind::NoStorage && fault.detail.contains("create the folder"), "{fault:?}");
}

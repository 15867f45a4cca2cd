use super::*;
use crate::fs::RealFs;
use crate::jobs::{Done, FileKey, Job, Open};
use crate::writer::Writer;
use crate::writer::per_file::PerFile;
use media::codec::Codec;
use media::time::{Mono, Wall};
use recfile::header::FileHeader;
use recfile::sidecar::SidecarState;

const FILE: &str = "Record_20260301-091500.wav";

fn protect(root: &Path) -> Result<Box<FileSummary>, LibraryError> {
    let device = RealFs.device(root).unwrap();
    let folder = Folder { root: root.into(), device, name: String::new() };
    let ask = crate::jobs::library::AskId(1);
    let job = LibraryJob::Protect { ask, folder, file: FILE.into(), protected: true };
    match Writer::new(RealFs, Mono::default, PerFile::default()).handle(Job::Library(job)).unwrap() {
        Done::Library(LibraryDone::Protected(_, result)) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn protecting_makes_a_sidecar_where_there_is_none_and_replaces_none_that_it_cannot_read() {
    let dir = tempfile::tempdir().unwrap();
    let beside = dir.path().join(sidecar_name(FILE));
    std::fs::write(dir.path().join(FILE), FileHeader::new(Codec::Pcma, 20).encode()).unwrap();
    for broken in ["{\"recording\":\"r1\",", "{\"recording\":\"r1\",\"segment\":\"one\"}"] {
        std::fs::write(&beside, broken).unwrap();
        assert!(matches!(protect(dir.path()), Err(LibraryError::Damaged(_))));
        assert_eq!(std::fs::read_to_string(&beside).unwrap(), broken);
    }
    std::fs::remove_file(&beside).unwrap();
    std::fs::create_dir(&beside).unwrap();
    assert!(matches!(protect(dir.path()), Err(LibraryError::Damaged(_))));
    std::fs::remove_dir(&beside).unwrap();
    assert!(protect(dir.path()).unwrap().sidecar.unwrap().protected);
    assert!(Sidecar::parse(&std::fs::read(&beside).unwrap()).unwrap().protected);
}

fn index(writer: &mut Writer<RealFs>, root: &Path, after: Option<String>, limit: usize) -> Indexed {
    let folder = Folder { root: root.into(), device: RealFs.device(root).unwrap(), name: String::new() };
    let index = Index { pass: 7, folder, after, limit, describe: true };
    match writer.handle(Job::Library(LibraryJob::Index(index))).unwrap() {
        Done::Library(LibraryDone::Indexed(done)) => done,
        other => panic!("{other:?}"),
    }
}

/// A recording of two and a half frames, finished or cut off.
fn leave(folder: &Path, name: &str, state: SidecarState) {
    let mut audio = FileHeader::new(Codec::Pcma, 20).encode().to_vec();
    audio.resize(HEADER_OCTETS + 400, 1);
    std::fs::write(folder.join(name), audio).unwrap();
    let recording = format!("of {name}");
    let sidecar = Sidecar { recording, file: name.into(), state, ..Sidecar::default() };
    std::fs::write(folder.join(sidecar_name(name)), sidecar.to_json()).unwrap();
}

#[test]
fn a_pass_makes_cut_off_files_whole_and_a_step_of_it_looks_at_few_files() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..5).map(|second| format!("Record_20260301-09150{second}.wav")).collect();
    for name in &names {
        leave(dir.path(), name, SidecarState::Ended);
    }
    for cut in [&names[0], &names[4]] {
        leave(dir.path(), cut, SidecarState::Recording);
    }
    std::fs::write(dir.path().join(".Record_20260301-091500.json.tmp"), "{").unwrap();
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::default());
    let recovered = |done: &Indexed| done.recovered.iter().map(|it| it.file.clone()).collect::<Vec<_>>();
    let octets = |done: &Indexed| done.found.iter().map(|it| it.octets).collect::<Vec<_>>();

    let first = index(&mut writer, dir.path(), None, 2);
    assert_eq!((first.pass, first.next.as_ref()), (7, Some(&names[3])));
    assert_eq!(recovered(&first), [names[4].clone()]);
    assert_eq!(octets(&first), [76 + 480, 76 + 400], "as they are afterwards");
    let rest = index(&mut writer, dir.path(), first.next, 9);
    assert_eq!((recovered(&rest), rest.next.as_ref()), (vec![names[0].clone()], Some(&names[0])));
    assert_eq!(index(&mut writer, dir.path(), rest.next, 9).next, None);
    assert!(!dir.path().join(".Record_20260301-091500.json.tmp").exists());
    assert!(recovered(&index(&mut writer, dir.path(), None, 9)).is_empty());
}

#[test]
fn a_pass_leaves_files_being_written_alone() {
    let dir = tempfile::tempdir().unwrap();
    let device = RealFs.device(dir.path()).unwrap();
    let open = Open {
        file: FileKey(1),
        folder: Folder { root: dir.path().into(), device, name: String::new() },
        stamp: Wall::default(),
        header: FileHeader::new(Codec::Pcma, 20),
        sidecar: Box::new(Sidecar { recording: "r1".into(), ..Sidecar::default() }),
    };
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::default());
    let Done::Opened { result: Ok(opened), .. } = writer.handle(Job::Open(open)).unwrap() else { panic!() };
    let beside = dir.path().join(sidecar_name(&opened.name));
    let before = std::fs::read(&beside).unwrap();
    // Half a frame more, as a flush may leave it.
    let mut audio = std::fs::read(&opened.path).unwrap();
    audio.resize(HEADER_OCTETS + 80, 1);
    std::fs::write(&opened.path, &audio).unwrap();
    let done = index(&mut writer, dir.path(), None, 9);
    assert_eq!((done.found, done.recovered), (Vec::new(), Vec::new()));
    assert_eq!(std::fs::read(&opened.path).unwrap(), audio);
    assert_eq!(std::fs::read(&beside).unwrap(), before);
}

#[test]
fn room_is_made_by_the_oldest_recording_that_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let device = RealFs.device(dir.path()).unwrap();
    let folder = Folder { root: dir.path().into(), device, name: String::new() };
    let names: Vec<String> = (0..5).map(|second| format!("Record_20260301-09150{second}.wav")).collect();
    std::fs::write(dir.path().join(&names[0]), "of other firmware").unwrap();
    leave(dir.path(), &names[1], SidecarState::Recording);
    for name in &names[2..] {
        leave(dir.path(), name, SidecarState::Ended);
    }
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::default());
    writer.handle(Job::Library(LibraryJob::Keep(vec![names[3].clone()]))).unwrap();
    for wanted in [Some(&names[2]), Some(&names[4]), None] {
        match writer.handle(Job::DeleteOldest { folder: folder.clone(), running: Vec::new() }).unwrap() {
            Done::Deleted { file, .. } => assert_eq!(file.as_ref(), wanted),
            other => panic!("{other:?}"),
        }
    }
    assert!(names[..2].iter().chain([&names[3]]).all(|name| dir.path().join(name).exists()));
}

//! Files and folders that are not what they should be: names, pipes, devices, what can't be read.

use super::*;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fn info(path: &Path, json: bool) -> Outcome {
    run(|console| InfoArgs { files: vec![path.into()], json }.run_on(console))
}

/// The folder, and in it a recording whose sidecar is a folder: read it, and the system gives an error.
fn recording_beside_an_unreadable_sidecar() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "Record_1.wav", Codec::Pcma, 160, &[1; 160]);
    fs::create_dir(path.with_extension("json")).unwrap();
    (folder, path)
}

#[test]
fn a_name_that_is_no_utf_8_is_shown_as_well_as_can_be_and_has_its_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let plain = segment(folder.path(), "Record_1.wav", "r", 7, 0);
    let odd = folder.path().join(OsStr::from_bytes(b"Record_\xE9.wav"));
    fs::rename(&plain, &odd).unwrap();
    fs::rename(plain.with_extension("json"), odd.with_extension("json")).unwrap();
    for path in [folder.path(), &odd] {
        let text = info(path, false);
        assert!(!text.failed && text.out.contains("Record_\u{FFFD}.wav"), "{}", text.err);
        assert_eq!(info(path, true).json()[0]["sidecar"]["segment"], 7);
        assert_eq!(verify(path).json()[0]["status"], "ok");
        assert_eq!(repair(path, false).json()[0]["status"], "ok");
    }
    assert_eq!(discover_segments(&odd).unwrap(), [odd]);
}

#[test]
fn pipes_and_devices_are_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("Record_1.wav");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    for path in [&pipe, Path::new("/dev/zero"), Path::new("/dev/null")] {
        let out = folder.path().join("out.wav");
        let export = run(|console| export_args(&[path], &out).run_on(console));
        for outcome in [info(path, false), repair(path, true), repair(path, false), export] {
            assert!(outcome.failed && outcome.err.contains("is no file"), "{path:?}: {}", outcome.err);
        }
        assert_eq!(verify(path).json()[0]["status"], "unreadable");
        assert_eq!(crate::ctl::offline::open_file(path).unwrap_err().to_string(), "is no file");
    }
}

#[test]
fn a_pipe_in_place_of_a_sidecar_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "Record_1.wav", Codec::Pcma, 160, &[1; 160]);
    mkfifo(&path.with_extension("json"), Mode::S_IRWXU).unwrap();
    assert!(info(&path, false).out.contains("the sidecar can't be read: is no file"));
    assert_eq!(verify(&path).json()[0]["status"], "damaged");
    assert_eq!(discover_segments(&path).unwrap(), [path]);
}

#[test]
fn a_sidecar_that_cannot_be_read_is_a_finding_and_the_audio_stays_at_hand() {
    let (folder, path) = recording_beside_an_unreadable_sidecar();
    let shown = info(&path, true);
    assert!(!shown.failed, "{}", shown.err);
    assert_eq!(shown.json()[0]["duration_ms"], 20);
    assert!(shown.json()[0]["sidecar"]["error"].as_str().unwrap().contains("can't be read"));
    let found = verify(&path).json();
    assert_eq!((&found[0]["status"], found[0]["faults"].as_array().unwrap().len()), (&"damaged".into(), 1));
    assert!(found[0]["faults"][0].as_str().unwrap().starts_with("the sidecar can't be read: is no file"));
    assert_eq!(discover_segments(&path).unwrap(), std::slice::from_ref(&path));
    let out = folder.path().join("out.wav");
    assert!(!run(|console| export_args(&[&path], &out).run_on(console)).failed);
}

#[test]
fn a_folder_that_cannot_be_searched_is_named_and_hides_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    // So deep that a path ends in it, and a folder with a long name can't be opened by its path: not by root either.
    let mut deep = folder.path().to_owned();
    while deep.as_os_str().len() < 3800 {
        deep.push("d".repeat(100));
    }
    fs::create_dir_all(&deep).unwrap();
    for name in ["a", "c"] {
        fs::create_dir(deep.join(name)).unwrap();
        segment(&deep.join(name), "Record_1.wav", "r", 1, 0);
    }
    let closed = "b".repeat(255);
    nix::sys::stat::mkdirat(fs::File::open(&deep).unwrap(), closed.as_str(), Mode::S_IRWXU).unwrap();
    let outcome = info(&deep, true);
    assert!(
        outcome.failed && outcome.err.contains("bbb: this folder can't be searched: "),
        "{}",
        outcome.err
    );
    assert_eq!(outcome.json().as_array().map(Vec::len), Some(2));
}

#[test]
fn scripts_find_the_file_that_failed_in_the_array() {
    let folder = tempfile::tempdir().unwrap();
    let missing = info(&folder.path().join("Record_0.wav"), true);
    assert!(missing.failed);
    assert_eq!(missing.json()[0]["status"], "unreadable");
    assert!(missing.json()[0]["reason"].as_str().unwrap().contains("No such file"), "{}", missing.out);
    let nothing = folder.path().join("Record_1.wav");
    fs::write(&nothing, [0x33; 500]).unwrap();
    assert_eq!(info(&nothing, true).json()[0]["status"], "unreadable");
    let sound = segment(folder.path(), "Record_2.wav", "r", 1, 0);
    assert_eq!(info(&sound, true).json()[0]["status"], "readable");
}

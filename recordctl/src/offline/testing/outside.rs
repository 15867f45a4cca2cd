//! Files and folders that are not as they should be: names, pipes, devices, unreadable files.

use super::*;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

fn info(path: &Path, json: bool) -> Outcome {
    run(|console| InfoArgs { files: vec![path.into()], json, ..InfoArgs::default() }.run_on(console))
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
        assert_eq!(crate::offline::open_file(path).unwrap_err().to_string(), "is no file");
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
    // So deep that a path ends in it, and a folder with a long name can't be opened by its path: not by root
    // either.
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

/// A folder with a victim outside of it: the target of names on a stick.
fn stick_and_victim() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (stick, victim) = (folder.path().join("Record"), folder.path().join("authorized_keys"));
    fs::create_dir(&stick).unwrap();
    fs::write(&victim, b"ssh-ed25519 AAAA root@admin\n".repeat(9)).unwrap();
    let open = Sidecar {
        recording: "r".into(),
        file: "Record_1.wav".into(),
        codec: "PCMA".into(),
        state: SidecarState::Recording,
        ..Sidecar::default()
    };
    put_sidecar(&stick.join("Record_1.wav"), &open);
    (folder, stick, victim)
}

#[test]
fn a_repair_writes_neither_through_a_link_nor_into_a_file_of_two_names() {
    for hard in [false, true] {
        let (folder, stick, victim) = stick_and_victim();
        let (before, bait) = (fs::read(&victim).unwrap(), stick.join("Record_1.wav"));
        let reason = if hard { "has 2 names" } else { "is a link" };
        if hard {
            fs::hard_link(&victim, &bait).unwrap()
        } else {
            symlink(&victim, &bait).unwrap()
        }
        // The same as a chain of links and as a name relative to the folder.
        let chain = folder.path().join("Record_chain.wav");
        symlink("Record/Record_1.wav", &chain).unwrap();
        for dry_run in [true, false] {
            let outcome = repair(&bait, dry_run);
            assert!(outcome.failed && outcome.err.contains(reason), "{dry_run}: {}", outcome.err);
            assert_eq!(outcome.json()[0]["status"], "failed");
            assert!(repair(&chain, dry_run).err.contains("is a link"));
            repair(&stick, dry_run);
        }
        assert_eq!(fs::read(&victim).unwrap(), before);
    }
}

#[test]
fn a_sidecar_that_is_a_link_is_named_and_neither_followed_nor_replaced() {
    let (_folder, stick, victim) = stick_and_victim();
    let path = write(&stick, "Record_1.wav", Codec::Pcma, 0, &[1; 500]);
    let (before, beside) = (fs::read(&victim).unwrap(), path.with_extension("json"));
    fs::remove_file(&beside).unwrap();
    symlink(&victim, &beside).unwrap();
    for dry_run in [true, false] {
        let outcome = repair(&path, dry_run);
        assert!(
            outcome.failed && outcome.err.contains("the sidecar can't be read: is a link"),
            "{}",
            outcome.err
        );
    }
    assert!(fs::symlink_metadata(&beside).unwrap().is_symlink());
    assert_eq!(fs::read(&victim).unwrap(), before);
}

#[test]
fn links_that_have_the_names_of_outputs_of_repair_and_export_are_not_followed() {
    let (_folder, stick, victim) = stick_and_victim();
    let (before, path) =
        (fs::read(&victim).unwrap(), write(&stick, "Record_1.wav", Codec::Pcma, 0, &[1; 320]));
    let number = std::process::id();
    let baits = [
        "Record_1.json.broken".into(),
        format!(".Record_1.{number}-1.json.tmp"),
        format!(".export-{number}-0.part"),
    ];
    baits.iter().for_each(|name| symlink(&victim, stick.join(name)).unwrap());
    // The open sidecar is closed, then one that is none is set aside.
    assert_eq!(repair(&path, false).json()[0]["status"], "repaired");
    fs::write(path.with_extension("json"), "none").unwrap();
    assert_eq!(repair(&path, false).json()[0]["status"], "repaired");
    assert_eq!(fs::read(stick.join("Record_1.json.broken-2")).unwrap(), b"none");
    let out = stick.join("out.wav");
    assert!(!run(|console| export_args(&[&path], &out).run_on(console)).failed);
    assert_eq!(fs::read(&victim).unwrap(), before);
    baits.iter().for_each(|name| assert!(fs::symlink_metadata(stick.join(name)).unwrap().is_symlink()));
}

#[test]
fn new_files_are_for_their_owner_alone_and_replaced_ones_are_not_opened_to_more() {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = segment(folder.path(), "Record_1.wav", "r", 1, 0);
    let out = folder.path().join("out.wav");
    let export = |force| {
        let outcome = run(|console| ExportArgs { force, ..export_args(&[&path], &out) }.run_on(console));
        assert!(!outcome.failed, "{}", outcome.err);
        mode(&out)
    };
    assert_eq!(export(false), 0o600);
    for (before, after) in [(0o644, 0o600), (0o400, 0o400), (0o666, 0o600)] {
        set_mode(&out, before);
        assert_eq!(export(true), after, "{before:o}");
    }
    // A sidecar that a group may read stays so, and an export that has a second name keeps its content there.
    let (beside, other) = (path.with_extension("json"), folder.path().join("other"));
    put_sidecar(&path, &Sidecar { state: SidecarState::Recording, ..read_sidecar(&path) });
    set_mode(&beside, 0o640);
    assert_eq!(repair(&path, false).json()[0]["status"], "repaired");
    assert_eq!(mode(&beside), 0o640);
    fs::remove_file(&out).unwrap();
    fs::write(&other, "RIFF other").unwrap();
    fs::hard_link(&other, &out).unwrap();
    export(true);
    assert_eq!(fs::read(&other).unwrap(), b"RIFF other");
}

//! `repair` with sidecars and disks that are in its way, and `verify` after it.

use super::*;

/// A sound recording beside `octets`, which are no sound sidecar.
fn beside(octets: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "Record_1.wav", Codec::Pcma, 160, &[1; 160]);
    fs::write(path.with_extension("json"), octets).unwrap();
    (folder, path)
}

#[test]
fn a_file_that_is_no_sidecar_is_set_aside_whole_and_the_recording_is_in_order() {
    for octets in [&b""[..], b"{\"recording\": ", &vec![b' '; (1 << 20) + 1]] {
        let (folder, path) = beside(octets);
        let older = folder.path().join("Record_1.json.broken");
        fs::write(&older, b"older").unwrap();
        let found = verify(&path);
        assert!(found.failed && found.out.contains("recordctl repair sets it aside"), "{}", found.out);
        let dry = repair(&path, true);
        assert_eq!(dry.json()[0]["status"], "repairable");
        assert!(dry.out.contains("sidecar set aside"), "{}", dry.out);
        assert!(verify(&path).failed, "a dry run changes nothing");

        let repaired = repair(&path, false);
        assert!(!repaired.failed, "{}", repaired.err);
        assert!(!verify(&path).failed);
        assert_eq!(repair(&path, false).json()[0]["status"], "ok");
        assert_eq!(fs::read(&older).unwrap(), b"older");
        assert_eq!(fs::read(folder.path().join("Record_1.json.broken-2")).unwrap(), octets);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}

#[test]
fn a_sidecar_of_another_codec_is_brought_in_line_and_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = segment(folder.path(), "Record_1.wav", "r", 3, 0);
    put_sidecar(&path, &Sidecar { codec: "PCMA".into(), ..read_sidecar(&path) });
    assert!(verify(&path).failed);
    assert_eq!(repair(&path, false).json()[0]["status"], "repaired");
    assert!(!verify(&path).failed);
    let mended = read_sidecar(&path);
    assert_eq!((mended.codec.as_str(), mended.recording.as_str(), mended.segment), ("PCMU", "r", 3));
}

#[test]
fn octets_in_which_sidecar_and_file_differ_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = segment(folder.path(), "Record_1.wav", "r", 1, 0);
    put_sidecar(&path, &Sidecar { data_bytes: 161, ..read_sidecar(&path) });
    let found = verify(&path);
    assert!(found.out.contains("says 161 octets, 20 ms; the file holds 160 octets, 20 ms"), "{}", found.out);
}

#[test]
fn a_repair_never_says_ok_where_the_sidecar_cannot_be_read_and_mends_the_audio() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "Record_1.wav", Codec::Pcma, 0, &[1; 500]);
    fs::create_dir(path.with_extension("json")).unwrap();
    let outcome = repair(&path, false);
    assert!(outcome.failed && outcome.err.contains("the sidecar can't be read"), "{}", outcome.err);
    let json = outcome.json();
    assert_eq!((&json[0]["status"], json[0]["steps"].as_array().unwrap().len()), (&"failed".into(), 2));
    assert_eq!(verify(&path).json()[0]["faults"].as_array().unwrap().len(), 1);
    assert_eq!(repair(&path, true).json()[0]["status"], "failed");
}

#[test]
fn files_that_have_the_name_of_a_temporary_one_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = segment(folder.path(), "Record_1.wav", "r", 1, 0);
    put_sidecar(&path, &Sidecar { state: SidecarState::Recording, ..read_sidecar(&path) });

    let theirs = [
        folder.path().join("Record_1.json.tmp"),
        folder.path().join(format!(".Record_1.{}-1.json.tmp", std::process::id())),
    ];
    theirs.iter().for_each(|path| fs::write(path, b"theirs").unwrap());
    assert_eq!(repair(&path, false).json()[0]["status"], "repaired");
    assert_eq!(read_sidecar(&path).state, SidecarState::Ended);
    theirs.iter().for_each(|path| assert_eq!(fs::read(path).unwrap(), b"theirs"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[test]
fn a_file_of_a_tebibyte_that_takes_no_room_is_looked_through_in_a_moment() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = write(folder.path(), "Record_1.wav", Codec::Pcma, 0, &[1; 320]);
    let file = fs::File::options().write(true).open(&path).unwrap();
    if file.set_len(1 << 40).is_err() {
        return eprintln!("skipped: no file can be so long here");
    }
    // Something far behind the hole is read, too.
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 160], (1 << 39) + 76).unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || sender.send(verify(&path).json()));
    let found = receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("an end");
    assert_eq!(found[0]["status"], "damaged", "dataSize says 0: {found}");
}

#[test]
fn a_file_over_4_gib_is_mended_as_well_as_its_header_can_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "Record_1.wav", Codec::Pcma, 0, &[]);
    // A hole: it takes no room.
    fs::File::options().write(true).open(&path).unwrap().set_len(76 + 5_000_000_000).unwrap();
    let info =
        || run(|console| InfoArgs { files: vec![path.clone()], ..InfoArgs::default() }.run_on(console)).out;
    assert!(info().contains("no: dataSize says 0 octets, the file holds 5000000000 (see recordctl repair)"));
    let repaired = repair(&path, false);
    assert!(!repaired.failed, "{}", repaired.err);
    assert_eq!(repaired.json()[0]["data_octets"], 5_000_000_000_u64);
    assert!(info().contains("complete  yes"), "{}", info());
    assert_eq!(repair(&path, false).json()[0]["status"], "ok");
}

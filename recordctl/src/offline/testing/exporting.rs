//! Behaviour of `export`: the files of one WAV, replaced files, and messages.

use super::*;
use nix::sys::signal::{SigSet, Signal, raise};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

fn export(args: ExportArgs) -> Outcome {
    run(|console| args.run_on(console))
}

fn of_codec(wav: &Path, codec: Codec) {
    write(wav.parent().unwrap(), wav.file_name().unwrap().to_str().unwrap(), codec, 160, &[0x55; 160]);
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_path_that_is_no_text_is_exported_and_told_as_far_as_it_is_text() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(OsStr::from_bytes(b"M\xFCller"));
    fs::create_dir(&odd).unwrap();
    let recording = segment(&odd, "Record_1.wav", "r", 1, 0);
    for json in [false, true] {
        let out = odd.join(format!("{json}.wav"));
        let outcome = export(ExportArgs { json, ..export_args(&[&recording], &out) });
        assert!(!outcome.failed, "{}", outcome.err);
        assert!(outcome.out.contains("M\u{FFFD}ller"), "{}", outcome.out);
        assert_eq!(samples(&out).len(), 160);
    }
}

#[test]
fn a_change_of_codec_and_back_makes_three_wavs_in_their_order() {
    let stick = tempfile::tempdir().unwrap();
    let inner = stick.path().join("Record");
    fs::create_dir(&inner).unwrap();
    for number in 1..=4 {
        let wav = segment(&inner, &format!("Record_{number}.wav"), "r", number, 0x80);
        of_codec(&wav, if number == 2 { Codec::Pcmu } else { Codec::Pcma });
    }
    let out = stick.path().join("export");
    let outcome = export(export_args(&[&inner], &out));
    assert!(!outcome.failed && outcome.err.is_empty(), "{}", outcome.err);
    assert_eq!(names_in(&out), ["Record_1.wav", "Record_2.wav", "Record_3.wav"]);
    assert_eq!(samples(&out.join("Record_3.wav")).len(), 320);

    let joined = stick.path().join("joined.wav");
    let all =
        export(ExportArgs { all_segments: true, ..export_args(&[&inner.join("Record_1.wav")], &joined) });
    assert!(all.failed && all.err.contains("Record_2.wav is PCMU"), "{}", all.err);
    assert!(all.err.contains("give a folder with -o"), "{}", all.err);
}

#[test]
fn exports_in_the_folder_are_not_taken_for_its_recordings() {
    let stick = tempfile::tempdir().unwrap();
    segment(stick.path(), "Record_1.wav", "a", 1, 0x80);
    write(stick.path(), "Record_2.wav", Codec::Pcma, 0, &[]);
    let out = stick.path().join("export");
    assert!(!export(export_args(&[stick.path()], &out)).failed);
    assert_eq!(names_in(&out), ["Record_1.wav", "Record_2.wav"]);

    assert!(!verify(stick.path()).failed && !repair(stick.path(), false).failed);
    let again = export(ExportArgs { force: true, ..export_args(&[stick.path()], &out) });
    assert!(!again.failed && again.err.is_empty(), "{}", again.err);
    let none = verify(&out);
    assert!(none.failed && none.err.contains("no recordings"), "{}", none.err);
    let named = verify(&out.join("Record_2.wav"));
    assert!(named.failed && named.out.contains("standard WAV"), "{}", named.out);
}

#[test]
fn missing_segments_and_two_of_one_number_are_remarked_on() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = [(2, "a"), (5, "b"), (5, "c"), (6, "d")]
        .map(|(number, name)| segment(folder.path(), &format!("Record_{name}.wav"), "r", number, 0x80))
        .into();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let outcome = export(export_args(&files, &folder.path().join("out.wav")));
    assert!(!outcome.failed);
    let remarks: Vec<_> = outcome.err.lines().collect();
    assert_eq!(remarks.len(), 3, "{remarks:?}");
    assert!(
        remarks[0].contains(
            "Record_a.wav: begins in mid-recording, segment 1 is not among the files; --all-segments"
        )
    );
    assert!(remarks[1].contains("Record_b.wav: follows segment 2 directly, segments 3 to 4 are not among"));
    assert!(remarks[2].contains("Record_c.wav: both say they are segment 5"));
}

#[test]
fn a_file_named_in_several_ways_is_in_the_wav_once() {
    let folder = tempfile::tempdir().unwrap();
    let plain = segment(folder.path(), "Record_1.wav", "r", 1, 0x80);
    let dotted = folder.path().join(".").join("Record_1.wav");
    let linked = folder.path().join("linked.wav");
    symlink(&plain, &linked).unwrap();
    let detour = folder.path().join("..").join(folder.path().file_name().unwrap()).join("Record_1.wav");
    for all_segments in [false, true] {
        let out = folder.path().join(format!("{all_segments}.wav"));
        let args = export_args(&[&plain, &dotted, &linked, &detour], &out);
        let outcome = export(ExportArgs { all_segments, ..args });
        assert!(!outcome.failed && outcome.err.is_empty(), "{}", outcome.err);
        assert_eq!(samples(&out).len(), 160);
    }
    let missing = folder.path().join("miss.wav");
    let args = export_args(&[&missing], &folder.path().join("out.wav"));
    let outcome = export(ExportArgs { all_segments: true, ..args });
    assert_eq!(outcome.err.matches("miss.wav").count(), 1, "{}", outcome.err);
}

#[test]
fn segments_in_a_folder_spelled_in_two_ways_are_of_one_recording() {
    let folder = tempfile::tempdir().unwrap();
    let first = segment(folder.path(), "Record_1.wav", "r", 1, 0x80);
    segment(folder.path(), "Record_2.wav", "r", 2, 0x00);
    let out = folder.path().join("export");
    fs::create_dir(&out).unwrap();
    let second = folder.path().join("export").join("..").join("Record_2.wav");
    let outcome = export(export_args(&[&first, &second], &out));
    assert!(!outcome.failed && outcome.err.is_empty(), "{}", outcome.err);
    assert_eq!(samples(&out.join("Record_1.wav")).len(), 320);
}

#[test]
fn force_replaces_only_plain_files_and_no_other_recording() {
    let folder = tempfile::tempdir().unwrap();
    let recording = segment(folder.path(), "Record_1.wav", "r", 1, 0);
    let other = write(folder.path(), "Record_2.wav", Codec::Pcma, 160, &[1; 160]);
    let blank = segment(folder.path(), "Record_3.wav", "s", 1, 0);
    fs::write(&blank, [0; 400]).unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (link, dangling) = (folder.path().join("link"), folder.path().join("dangling"));
    symlink("Record_2.wav", &link).unwrap();
    symlink("nowhere", &dangling).unwrap();
    let before = names_in(folder.path());
    let sidecar = recording.with_extension("json");
    for (out, what) in [
        (&other, "a recording is there"),
        (&blank, "a recording is there"),
        (&pipe, "a pipe is there"),
        (&link, "a symbolic link is there"),
        (&dangling, "a symbolic link is there"),
        (&recording, "one of the recordings to export"),
        (&sidecar, "one of the recordings to export"),
    ] {
        for force in [false, true] {
            let outcome = export(ExportArgs { force, ..export_args(&[&recording], out) });
            assert!(outcome.failed && outcome.err.contains(what), "{what}: {}", outcome.err);
            assert!(outcome.err.contains("choose another"), "{}", outcome.err);
        }
    }
    assert_eq!(names_in(folder.path()), before);
    assert_eq!(fs::read(&other).unwrap().len(), 236);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_folder_is_not_exported_over_the_recordings_of_another_job() {
    let stick = tempfile::tempdir().unwrap();
    let (a, b) = (stick.path().join("A"), stick.path().join("B"));
    fs::create_dir(&a).unwrap();
    fs::create_dir(&b).unwrap();
    segment(&a, "Record_1.wav", "r", 1, 0x80);
    let second = segment(&a, "Record_2.wav", "r", 2, 0x00);
    segment(&b, "Record_2.wav", "s", 1, 0x55);
    let before = fs::read(&second).unwrap();
    let outcome = export(ExportArgs { force: true, json: true, ..export_args(&[&a, &b], &a) });
    assert!(outcome.failed);
    let entries = outcome.json();
    assert_eq!(entries.as_array().map(Vec::len), Some(2), "{entries}");
    assert!(entries.as_array().unwrap().iter().all(|entry| entry["status"] == "failed"), "{entries}");
    assert_eq!(fs::read(&second).unwrap(), before);
}

#[test]
fn every_failure_is_an_entry_of_the_json_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let there = segment(folder.path(), "Record_1.wav", "r", 1, 0);
    let (missing, out) = (folder.path().join("miss.wav"), folder.path().join("out.wav"));
    let json = |files: &[&Path], out: &Path| {
        let outcome = export(ExportArgs { json: true, ..export_args(files, out) });
        assert!(outcome.failed);
        outcome.json()
    };
    let entries = json(&[&missing, &there], &out);
    assert_eq!(entries[0]["file"], missing.to_str().unwrap());
    assert!(entries[0]["reason"].as_str().unwrap().contains("No such file"), "{entries}");
    assert_eq!((&entries[1]["status"], &entries[1]["output"]), (&"failed".into(), &out.to_str().into()));
    assert!(!out.exists());

    fs::write(&out, b"mine").unwrap();
    let entries = json(&[&there], &out);
    assert_eq!(entries[0]["files"], serde_json::json!([there.to_str()]));
    assert!(entries[0]["reason"].as_str().unwrap().contains("--force"), "{entries}");

    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let entries = json(&[&empty], &folder.path().join("export"));
    assert!(entries[0]["reason"].as_str().unwrap().contains("no recordings"), "{entries}");
    // With folders, -o is a folder, too.
    let entries = json(&[folder.path()], &out);
    assert!(entries[0]["reason"].as_str().unwrap().contains("is no folder"), "{entries}");
}

#[test]
fn a_folder_to_write_into_is_made_only_for_a_wav_that_goes_there() {
    let stick = tempfile::tempdir().unwrap();
    let inner = stick.path().join("Record");
    fs::create_dir(&inner).unwrap();
    let out = stick.path().join("exports").join("today");
    fs::write(inner.join("Record_broken.wav"), b"nothing").unwrap();
    assert!(export(export_args(&[&inner], &out)).failed);
    assert_eq!(names_in(stick.path()), ["Record"]);
    write(&inner, "Record_1.wav", Codec::G722, 160, &[0xFD; 160]);
    let copy = ExportArgs { codec: super::export::WavCodec::Copy, ..export_args(&[&inner], &out) };
    assert!(export(copy).failed);
    assert_eq!(names_in(stick.path()), ["Record"]);
    segment(&inner, "Record_2.wav", "r", 1, 0);
    export(export_args(&[&inner], &out));
    assert_eq!(names_in(&out), ["Record_1.wav", "Record_2.wav"]);
}

#[test]
fn the_name_of_a_wav_may_be_as_long_as_names_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let recording = segment(folder.path(), "Record_1.wav", "r", 1, 0);
    let out = folder.path().join(format!("{}.wav", "n".repeat(251)));
    let outcome = export(export_args(&[&recording], &out));
    assert!(!outcome.failed, "{}", outcome.err);
    assert_eq!(names_in(folder.path()).len(), 3);
}

#[test]
fn a_header_that_counts_more_time_than_the_audio_has_is_remarked_on() {
    let folder = tempfile::tempdir().unwrap();
    let header = FileHeader { increment: 320, data_size: 1600, ..FileHeader::new(Codec::Pcmu, 20) };
    let path = folder.path().join("Record_1.wav");
    fs::write(&path, [&header.encode()[..], &[0x80; 1600]].concat()).unwrap();
    let out = folder.path().join("out.wav");
    let outcome = export(export_args(&[&path], &out));
    assert!(!outcome.failed);
    assert!(
        outcome.err.contains("the recording counts as 0:00.4, its audio plays for 0:00.2"),
        "{}",
        outcome.err
    );
    assert_eq!(samples(&out).len(), 1600, "no audio is invented");
}

#[test]
fn an_interrupted_export_fails_and_leaves_nothing_behind() {
    let stick = tempfile::tempdir().unwrap();
    let inner = stick.path().join("Record");
    fs::create_dir(&inner).unwrap();
    segment(&inner, "Record_1.wav", "r", 1, 0);
    segment(&inner, "Record_2.wav", "s", 1, 0);
    // It waits for this thread, and is there as soon as anybody looks.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block().unwrap();
    raise(Signal::SIGTERM).unwrap();
    let outcome = export(ExportArgs { json: true, ..export_args(&[&inner], &stick.path().join("export")) });
    assert!(outcome.failed);
    assert_eq!(outcome.err.matches("interrupted").count(), 1, "{}", outcome.err);
    assert_eq!(outcome.json()[1]["reason"], "interrupted, not written");
    assert_eq!(names_in(stick.path()), ["Record"]);
}

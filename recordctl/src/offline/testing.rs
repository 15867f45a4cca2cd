//! Behaviour of the file commands on a folder of recordings.

mod encrypted;
mod exporting;

use super::console::Console;
use super::*;
use clap::Args;
use media::codec::Codec;
use recfile::header::FileHeader;
use recfile::name::sidecar_name;
use recfile::sidecar::{Sidecar, SidecarState};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

mod mending;
mod outside;

struct Outcome {
    out: String,
    err: String,
    failed: bool,
}

impl Outcome {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).expect("JSON on stdout")
    }
}

fn run(command: impl FnOnce(&mut Console<'_>)) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console::new(&mut out, &mut err, false);
    command(&mut console);
    let failed = console.failed();
    let text = |octets| String::from_utf8(octets).expect("UTF-8");
    Outcome { out: text(out), err: text(err), failed }
}

fn write(folder: &Path, name: &str, codec: Codec, data_size: u32, data: &[u8]) -> PathBuf {
    let header = FileHeader { data_size, ..FileHeader::new(codec, 20) };
    let path = folder.join(name);
    fs::write(&path, [&header.encode()[..], data].concat()).unwrap();
    path
}

/// A finished file of 160 octets, all of them `octet`, with its sidecar.
fn segment(folder: &Path, name: &str, recording: &str, segment: u32, octet: u8) -> PathBuf {
    let path = write(folder, name, Codec::Pcmu, 160, &[octet; 160]);
    let sidecar = Sidecar {
        recording: recording.into(),
        segment,
        file: name.into(),
        codec: "PCMU".into(),
        duration_ms: 20,
        data_bytes: 160,
        ..Sidecar::default()
    };
    put_sidecar(&path, &sidecar);
    path
}

fn put_sidecar(wav: &Path, sidecar: &Sidecar) {
    fs::write(wav.with_extension("json"), sidecar.to_json()).unwrap();
}

fn read_sidecar(wav: &Path) -> Sidecar {
    Sidecar::parse(&fs::read(wav.with_extension("json")).unwrap()).unwrap()
}

fn verify(path: &Path) -> Outcome {
    run(|console| {
        VerifyArgs { files: vec![path.into()], json: true, ..VerifyArgs::default() }.run_on(console)
    })
}

fn repair(path: &Path, dry_run: bool) -> Outcome {
    run(|console| RepairArgs { files: vec![path.into()], dry_run, json: true }.run_on(console))
}

fn export_args(files: &[&Path], output: &Path) -> ExportArgs {
    ExportArgs {
        files: files.iter().map(|file| file.to_path_buf()).collect(),
        output: output.into(),
        codec: export::WavCodec::Pcm,
        all_segments: false,
        force: false,
        identity: keys::IdentityArgs::default(),
        json: false,
    }
}

fn samples(wav: &Path) -> Vec<i16> {
    hound::WavReader::open(wav).unwrap().samples().map(Result::unwrap).collect()
}

#[test]
fn a_whole_file_verifies_with_and_without_a_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "Record_1.wav", Codec::Pcma, 160, &[1; 160]);
    segment(folder.path(), "Record_2.wav", "r", 1, 0);
    let outcome = verify(folder.path());
    assert!(!outcome.failed, "{}", outcome.out);
    assert_eq!(outcome.json()[1]["status"], "ok");
}

#[test]
fn verify_names_the_damage_repair_mends_it_and_verify_is_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "Record_1.wav", Codec::Pcma, 160, &[1; 500]);
    let open = Sidecar {
        recording: "r".into(),
        file: "Record_1.wav".into(),
        codec: "PCMA".into(),
        state: SidecarState::Recording,
        ..Sidecar::default()
    };
    put_sidecar(&path, &open);
    let found = verify(&path);
    assert!(found.failed);
    assert_eq!(found.json()[0]["faults"].as_array().unwrap().len(), 3, "{}", found.out);

    let before = fs::read(&path).unwrap();
    assert_eq!(repair(&path, true).json()[0]["status"], "repairable");
    assert_eq!(fs::read(&path).unwrap(), before, "a dry run changes nothing");

    let repaired = repair(&path, false);
    assert!(!repaired.failed, "{}", repaired.err);
    assert_eq!(repaired.json()[0]["duration_ms"], 80);
    assert_eq!(read_sidecar(&path).state, SidecarState::Ended);
    assert_eq!(&fs::read(&path).unwrap()[76..576], &before[76..]);
    assert!(!verify(&path).failed);
    assert_eq!(repair(&path, false).json()[0]["status"], "ok");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn a_file_that_the_agent_has_locked_is_not_repaired_and_not_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "Record_1.wav", Codec::Pcma, 0, &[1; 500]);
    let agent = fs::File::open(&path).unwrap();
    assert!(os::try_lock(&agent).unwrap());
    let refused = repair(&path, false);
    assert!(refused.failed && refused.err.contains("being recorded"), "{}", refused.err);
    let verified = verify(&path);
    assert!(!verified.failed);
    assert_eq!(verified.json()[0]["status"], "recording");
}

#[test]
fn repair_refuses_files_that_are_no_recordings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Record_1.wav");
    fs::write(&path, [0x33; 500]).unwrap();
    let outcome = repair(&path, false);
    assert!(outcome.failed && outcome.err.contains("no phone recording"), "{}", outcome.err);
    assert_eq!(fs::read(&path).unwrap(), [0x33; 500]);
}

#[test]
fn info_shows_call_and_length_and_keeps_control_characters_from_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = segment(folder.path(), "Record_1.wav", "r", 2, 0xFF);
    let mut sidecar = read_sidecar(&path);
    sidecar.call.remote_name = "Zoe\u{1b}[2J".into();
    put_sidecar(&path, &sidecar);
    let text = run(|console| InfoArgs { files: vec![path.clone()], ..InfoArgs::default() }.run_on(console));
    assert!(!text.failed);
    assert!(text.out.contains("PCMU, frames of 20 ms") && text.out.contains("segment   2 of recording r"));
    assert!(!text.out.contains('\u{1b}'));
    let json =
        run(|console| InfoArgs { files: vec![path], json: true, ..InfoArgs::default() }.run_on(console))
            .json();
    assert_eq!((&json[0]["duration_ms"], &json[0]["complete"]), (&20.into(), &true.into()));
    assert_eq!(json[0]["sidecar"]["segment"], 2);
}

#[test]
fn info_promises_no_repair_and_no_start_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("music.wav");
    fs::write(&other, [b"OPUS".as_slice(), &[0; 200]].concat()).unwrap();
    let outcome = run(|console| InfoArgs { files: vec![other], ..InfoArgs::default() }.run_on(console));
    assert!(outcome.failed && outcome.out.contains("complete  no: it can't be read"), "{}", outcome.out);
    assert!(!outcome.out.contains("repair") && !outcome.out.contains("by its name"), "{}", outcome.out);
}

#[test]
fn a_missing_file_fails_and_the_others_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let there = segment(folder.path(), "Record_1.wav", "r", 1, 0);
    let files = vec![folder.path().join("Record_0.wav"), there];
    let outcome = run(|console| InfoArgs { files, ..InfoArgs::default() }.run_on(console));
    assert!(outcome.failed && outcome.out.contains("Record_1.wav") && outcome.err.contains("Record_0.wav"));
}

#[test]
fn segments_are_joined_in_the_order_of_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    // By name the second segment comes first.
    let second = segment(folder.path(), "Record_20260301-091500-2.wav", "r", 2, 0x00);
    let first = segment(folder.path(), "Record_20260301-091501.wav", "r", 1, 0x80);
    segment(folder.path(), "Record_20260301-091502.wav", "other", 1, 0x55);
    assert_eq!(discover_segments(&second).unwrap(), [first.clone(), second.clone()]);

    let out = folder.path().join("joined.wav");
    let args = ExportArgs { all_segments: true, ..export_args(&[&second], &out) };
    let outcome = run(|console| args.run_on(console));
    assert!(!outcome.failed, "{}", outcome.err);
    assert_eq!(samples(&out), [[32124; 160], [-32124; 160]].concat());
}

#[test]
fn a_file_that_exists_is_overwritten_only_by_force_and_a_recording_never() {
    let folder = tempfile::tempdir().unwrap();
    let recording = segment(folder.path(), "Record_1.wav", "r", 1, 0);
    let before = fs::read(&recording).unwrap();
    let out = folder.path().join("out.wav");
    fs::write(&out, b"mine").unwrap();
    let refused = run(|console| export_args(&[&recording], &out).run_on(console));
    assert!(refused.failed && refused.err.contains("--force"), "{}", refused.err);
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    let forced = ExportArgs { force: true, ..export_args(&[&recording], &out) };
    assert!(!run(|console| forced.run_on(console)).failed);
    assert_eq!(samples(&out).len(), 160);
    let itself = ExportArgs { force: true, ..export_args(&[&recording], &recording) };
    assert!(run(|console| itself.run_on(console)).failed);
    assert_eq!(fs::read(&recording).unwrap(), before);
}

#[test]
fn files_of_different_recordings_do_not_become_one_wav() {
    let folder = tempfile::tempdir().unwrap();
    let a = segment(folder.path(), "Record_1.wav", "a", 1, 0);
    let b = segment(folder.path(), "Record_2.wav", "b", 1, 0);
    let out = folder.path().join("out.wav");
    let outcome = run(|console| export_args(&[&a, &b], &out).run_on(console));
    assert!(outcome.failed && outcome.err.contains("different recordings"), "{}", outcome.err);
    assert!(!out.exists());
}

#[test]
fn a_folder_becomes_one_wav_per_recording_and_a_failure_does_not_stop_the_rest() {
    let stick = tempfile::tempdir().unwrap();
    let inner = stick.path().join("Record");
    fs::create_dir(&inner).unwrap();
    segment(&inner, "Record_20260301-091500.wav", "a", 1, 0x80);
    segment(&inner, "Record_20260301-091600.wav", "a", 2, 0x00);
    write(&inner, "Record_20260301-091700.wav", Codec::G722, 320, &[0xFD; 320]);
    fs::write(inner.join("Record_broken.wav"), b"nothing").unwrap();
    let out = stick.path().join("export");
    let outcome = run(|console| export_args(&[&inner], &out).run_on(console));
    assert!(outcome.failed && outcome.err.contains("Record_broken.wav"), "{}", outcome.err);
    assert_eq!(samples(&out.join("Record_20260301-091500.wav")).len(), 320);
    assert_eq!(samples(&out.join("Record_20260301-091700.wav")), [0; 640]);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
}

#[test]
fn a_failed_export_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let recording = write(folder.path(), "Record_1.wav", Codec::G722, 160, &[0xFD; 160]);
    let out = folder.path().join("out.wav");
    let args = ExportArgs { codec: export::WavCodec::Copy, ..export_args(&[&recording], &out) };
    assert!(run(|console| args.run_on(console)).failed);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_pattern_that_names_sidecars_too_means_each_recording_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = segment(folder.path(), "Record_1.wav", "r", 1, 0);
    let files = vec![path.with_file_name(sidecar_name("Record_1.wav")), path];
    let outcome = run(|console| VerifyArgs { files, json: true, ..VerifyArgs::default() }.run_on(console));
    assert_eq!(outcome.json().as_array().map(Vec::len), Some(1));
}

#[test]
fn the_options_fit_together_and_have_help() {
    for command in [
        InfoArgs::augment_args(clap::Command::new("info")),
        VerifyArgs::augment_args(clap::Command::new("verify")),
        RepairArgs::augment_args(clap::Command::new("repair")),
        ExportArgs::augment_args(clap::Command::new("export")),
    ] {
        command.clone().debug_assert();
        assert!(command.get_arguments().all(|argument| argument.get_help().is_some()));
    }
    let export = ExportArgs::augment_args(clap::Command::new("export"));
    assert!(export.clone().try_get_matches_from(["export", "a.wav"]).is_err(), "-o is required");
    assert!(export.try_get_matches_from(["export", "a.wav", "-o", "b.wav", "--codec", "copy"]).is_ok());
}

//! `recordctl export` as a process: signals, limits of the system, its exit status.

use super::{Output, Path, Value, program, stderr};
use nix::sys::signal::{Signal, kill};
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A µ-law recording; the unwritten part of its audio is a hole in the file.
fn recording(path: &Path, audio_octets: u32) {
    let mut head = b"PCMU".to_vec();
    head.resize(64, 0);
    for field in [160, 160, audio_octets] {
        head.extend(field.to_le_bytes());
    }
    let mut file = File::create(path).unwrap();
    file.write_all(&head).unwrap();
    file.set_len(76 + u64::from(audio_octets)).unwrap();
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_signal_in_mid_export_is_a_failure_that_leaves_nothing_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let folder = tempfile::tempdir().unwrap();
        recording(&folder.path().join("Record_1.wav"), 400_000_000);
        let child = program()
            .args(["export", "Record_1.wav", "-o", "out.wav", "--json"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = || names_in(folder.path()).iter().any(|name| name.ends_with(".part"));
        for _ in 0..2000 {
            if begun() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        assert!(begun(), "{signal}: the export has not begun, or is over already");
        kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{signal}: {output:?}");
        assert!(stderr(&output).contains("out.wav: interrupted"), "{output:?}");
        assert_eq!(json(&output)[0]["status"], "failed");
        assert_eq!(names_in(folder.path()), ["Record_1.wav"]);
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn more_recordings_and_segments_are_exported_than_files_may_be_open() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("Record");
    fs::create_dir(&inner).unwrap();
    for number in 0..100 {
        let path = inner.join(format!("Record_{number:02}.wav"));
        recording(&path, 160);
        if number >= 50 {
            let sidecar = serde_json::json!({"recording": "r", "segment": number - 49});
            fs::write(path.with_extension("json"), sidecar.to_string()).unwrap();
        }
    }
    let inner_program = program();
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 40; exec \"$@\"", "sh"])
        .arg(inner_program.get_program())
        .args(inner_program.get_args())
        .args(["export", "Record", "-o", "out", "--json"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let written = json(&output);
    let written = written.as_array().unwrap();
    assert_eq!(written.len(), 51);
    assert_eq!(written.last().unwrap()["duration_ms"], 50 * 20);
}

#[test]
fn stdout_is_refused_as_wrong_usage_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    recording(&folder.path().join("Record_1.wav"), 160);
    let export = |out| {
        program().args(["export", "Record_1.wav", "-o", out]).current_dir(folder.path()).output().unwrap()
    };
    let refused = export("-");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("play --stdout"), "{refused:?}");
    assert_eq!(names_in(folder.path()), ["Record_1.wav"]);
    assert!(export("./-").status.success());
}

//! `recordctl repair` on disks that are read-only or full: it reports the repairs done and those not done.

use crate::support::agent::{output_of, recordctl};
use crate::support::environment::SmallDisk;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A recording of 40 ms whose `dataSize` is `declared`.
fn recording(disk: &SmallDisk, name: &str, declared: u32) -> PathBuf {
    let mut octets = b"PCMA".to_vec();
    octets.resize(64, 0);
    for field in [160, 160, declared] {
        octets.extend(field.to_le_bytes());
    }
    octets.resize(76 + 320, 0xD5);
    let path = disk.path().join(name);
    fs::write(&path, octets).unwrap();
    path
}

/// Whether `recordctl repair` succeeds, its report on the file, and its stderr.
fn repair(path: &Path) -> (bool, Value, String) {
    let output = output_of(recordctl().args(["repair", "--json"]).arg(path));
    let array: Value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.success(), array[0].clone(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn on_a_read_only_disk_a_sound_file_is_ok_and_another_says_what_it_needs() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let (sound, stale) = (recording(&disk, "Record_1.wav", 320), recording(&disk, "Record_2.wav", 0));
    disk.make_read_only();
    let (done, said, stderr) = repair(&sound);
    assert!(done, "{stderr}");
    assert_eq!((&said["status"], &said["steps"]), (&json!("ok"), &json!([])));
    let (done, said, stderr) = repair(&stale);
    assert!(
        !done && stderr.contains("it needs a repair and can't be written: Read-only file system"),
        "{stderr}"
    );
    assert_eq!(said["status"], "failed");
    assert_eq!((&said["steps"], &said["not_done"]), (&json!([]), &json!(["dataSize set to 320"])));
}

#[test]
fn on_a_full_disk_the_recording_is_mended_and_the_sidecar_is_said_not_to_be() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let path = recording(&disk, "Record_1.wav", 0);
    let open = json!({"recording": "r", "file": "Record_1.wav", "codec": "PCMA", "state": "recording"});
    fs::write(path.with_extension("json"), open.to_string()).unwrap();
    let filler = disk.path().join("filler");
    let mut rest = fs::File::create(&filler).unwrap();
    while rest.write_all(&[0; 4096]).is_ok() {}

    let (done, said, stderr) = repair(&path);
    assert!(
        !done
            && stderr.contains("the recording is in order, but its sidecar can't be written: No space left"),
        "{stderr}"
    );
    assert_eq!(said["steps"], json!(["dataSize set to 320"]));
    assert_eq!(said["not_done"].as_array().map(Vec::len), Some(1));
    assert_eq!(fs::read(path.with_extension("json")).unwrap(), open.to_string().as_bytes());
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 3, "no temporary file is left");

    drop(rest);
    fs::remove_file(filler).unwrap();
    let (done, said, stderr) = repair(&path);
    assert!(done, "{stderr}");
    assert_eq!(said["status"], "repaired");
}

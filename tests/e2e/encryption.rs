//! Recordings that are encrypted to a key which is not on the phone: `recordd` writes them, `recordctl` opens
//! them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::{output_of, recordctl};
use crate::support::environment::SmallDisk;
use crate::support::{
    Agent, Call, Codec, Setup, assert_audio, number, patience, read_recording, sidecar_of, wait_until,
};

/// An agent that encrypts, and the key file of a reader.
struct Encrypting {
    agent: Agent,
    key: PathBuf,
}

impl Encrypting {
    fn start(setup: impl FnOnce(Setup) -> Setup) -> Self {
        let plain = Setup::new();
        let key = plain.dir().join("key.txt");
        let made = output_of(recordctl().args(["keygen", "-o"]).arg(&key));
        assert!(made.status.success(), "{made:?}");
        let recipient = String::from_utf8(made.stdout).unwrap();
        let agent = setup(plain.quoted("storage", "encrypt_to", recipient.trim())).start();
        Self { agent, key }
    }

    /// Decrypts a file next to the key; whether that succeeds, and its output.
    fn decrypt(&self, file: &Path) -> (PathBuf, bool, String) {
        let out = self.key.with_file_name("out.wav");
        for old in [out.clone(), out.with_extension("json")] {
            let _ = std::fs::remove_file(old);
        }
        let mut command = recordctl();
        let output =
            output_of(command.arg("decrypt").arg("--identity").arg(&self.key).arg(file).arg("-o").arg(&out));
        (out, output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn decrypted(&self, file: &Path) -> PathBuf {
        let (out, good, said) = self.decrypt(file);
        assert!(good, "{said}");
        out
    }

    fn exits(&self, command: &str, file: &Path) -> bool {
        output_of(recordctl().arg(command).arg(file)).status.success()
    }
}

fn caller() -> Value {
    json!({"call": {"id": "c-4711@phone", "direction": "in", "remote_number": "+493023125001", "remote_name": "Zoë Muster"}})
}

/// Fails if one of the texts, or audio of a packet, is in any file of the folder.
fn assert_tells_nothing(folder: &Path, heard: &[u8], texts: &[&str]) {
    let mut looked_at = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let octets = std::fs::read(&path).unwrap();
        let has = |part: &[u8]| octets.windows(part.len()).any(|window| window == part);
        for text in texts {
            assert!(!has(text.as_bytes()), "{text} in {}", path.display());
        }
        assert!(!heard.chunks_exact(24).any(has), "audio in {}", path.display());
        looked_at += 1;
    }
    assert!(looked_at >= 2, "a recording and its sidecar");
}

#[test]
fn a_stick_tells_neither_audio_nor_numbers_and_the_key_gives_it_all_back_bit_for_bit() {
    let it = Encrypting::start(|setup| setup);
    for codec in [Codec::Pcma, Codec::Pcmu, Codec::G722] {
        let mut call = Call::start_with(&it.agent, codec, caller());
        let mut heard = call.speak(30);
        let transferred = json!({"remote_number": "+4930777", "remote_name": "Warehouse"});
        call.client.ok("record.update", json!({"recording": call.id, "call": transferred}));
        heard.extend(call.speak(31));
        call.stop();
        let folder = call.file.parent().unwrap();
        let texts = ["3023125001", "4930777", "Muster", "Warehouse", "4711"];
        assert_tells_nothing(folder, &heard, &texts);
        let out = it.decrypted(&call.file);
        read_recording(&out).assert_finished(codec, &heard);
        let sidecar = sidecar_of(&out);
        assert_eq!(sidecar["call"]["remote_number"], "+4930777", "{sidecar}");
        assert_eq!(sidecar["call"]["remote_name"], "Warehouse", "{sidecar}");
        let beside = sidecar_of(&call.file);
        assert_eq!((&beside["encrypted"], &beside["end_reason"]), (&json!(true), &json!("stopped")));
        assert_eq!(number(&beside, "/duration_ms"), 61 * 20);
        assert!(it.exits("verify", &call.file) && it.exits("info", &call.file) && it.exits("verify", &out));
    }
}

#[test]
fn nothing_of_a_call_is_on_the_stick_while_it_goes_on_either() {
    let it = Encrypting::start(|setup| setup);
    let mut call = Call::start_with(&it.agent, Codec::Pcma, caller());
    let heard = call.speak(100);
    wait_until("a flush", patience(), || number(&call.status(), "/buffered_ms") < 200);
    assert_tells_nothing(call.file.parent().unwrap(), &heard, &["3023125001", "Muster", "4711"]);
    call.finish();
}

#[test]
fn after_kill_9_all_that_was_flushed_opens_before_and_after_the_next_start() {
    let mut it = Encrypting::start(|setup| setup);
    let mut call = Call::start_with(&it.agent, Codec::Pcma, caller());
    let heard = call.speak(200);
    wait_until("a flush", patience(), || number(&call.status(), "/buffered_ms") < 200);
    it.agent.kill_at_once();
    let out = it.decrypted(&call.file);
    let before = read_recording(&out).data;
    assert!(before.len() >= heard.len() - 1600, "{} of {} octets", before.len(), heard.len());
    assert_audio(&before, &heard[..before.len()]);
    assert!(!it.exits("verify", &call.file), "it was cut off");

    it.agent.restart();
    wait_until("the recovery", patience(), || sidecar_of(&call.file)["state"] == "ended");
    let beside = sidecar_of(&call.file);
    assert_eq!((&beside["recovered"], &beside["repaired"]), (&json!(true), &json!(true)), "{beside}");
    let out = it.decrypted(&call.file);
    let recovered = read_recording(&out);
    recovered.assert_header(Codec::Pcma, 160);
    assert_audio(&recovered.data, &before);
    assert_eq!(sidecar_of(&out)["call"]["remote_name"], "Zoë Muster");
    assert!(it.exits("verify", &call.file), "it is in order now");
}

#[test]
fn a_file_that_is_cut_or_changed_afterwards_is_told() {
    let it = Encrypting::start(|setup| setup);
    let mut call = Call::start(&it.agent, Codec::Pcma);
    let heard = call.speak(150);
    call.stop();
    let whole = std::fs::read(&call.file).unwrap();
    let damages: [(&str, Vec<u8>); 4] = [
        ("the last chunk is gone", whole[..whole.len() - 20].to_vec()),
        ("it ends in a chunk", whole[..whole.len() - 21].to_vec()),
        ("something follows", [&whole[..], b"more"].concat()),
        ("a bit is another", {
            let mut changed = whole.clone();
            let at = changed.len() - 100;
            changed[at] ^= 4;
            changed
        }),
    ];
    for (what, octets) in damages {
        std::fs::write(&call.file, octets).unwrap();
        let (out, good, said) = it.decrypt(&call.file);
        assert!(!good, "{what}: {said}");
        let data = read_recording(&out).data;
        // A frame that is not whole is filled up with silence.
        let kept = data.len().saturating_sub(160);
        assert_audio(&data[..kept], &heard[..kept]);
        assert!(!it.exits("verify", &call.file), "{what}");
    }
    std::fs::write(&call.file, whole).unwrap();
    read_recording(&it.decrypted(&call.file)).assert_finished(Codec::Pcma, &heard);
}

#[test]
fn at_a_rollover_no_octet_is_lost_and_no_file_exceeds_its_size() {
    let it = Encrypting::start(|setup| {
        setup.quoted("storage", "max_file_size", "40 KiB").set("storage", "flush_interval_ms", 100)
    });
    let mut call = Call::start_with(&it.agent, Codec::Pcma, caller());
    let mut heard = Vec::new();
    for _ in 0..10 {
        heard.extend(call.speak(70));
        wait_until("a flush", patience(), || number(&call.status(), "/buffered_ms") < 200);
    }
    call.stop();
    let mut files = it.agent.recordings();
    files.sort_by_key(|file| number(&sidecar_of(file), "/segment"));
    assert!(files.len() >= 3, "{files:?}");
    let mut joined = Vec::new();
    for file in &files {
        let octets = std::fs::metadata(file).unwrap().len();
        assert!(octets <= 40 * 1024, "{octets} octets");
        assert_eq!(number(&sidecar_of(file), "/data_bytes") % 160, 0);
        joined.extend(read_recording(&it.decrypted(file)).data);
    }
    assert_audio(&joined, &heard);
}

#[test]
fn an_encrypted_recording_is_listed_without_the_call_protected_deleted_and_not_played() {
    let it = Encrypting::start(|setup| setup);
    let mut call = Call::start_with(&it.agent, Codec::Pcma, caller());
    call.speak(50);
    call.stop();
    let mut client = it.agent.client();
    let listed = client.ok("recordings.list", json!({}));
    let entry = &listed["recordings"][0];
    assert_eq!((&entry["encrypted"], &entry["codec"]), (&json!(true), &json!("PCMA")), "{listed}");
    assert_eq!((number(entry, "/duration_ms"), entry["call"]["remote_number"].as_str()), (1000, Some("")));
    assert_eq!(number(entry, "/size_bytes"), std::fs::metadata(&call.file).unwrap().len());
    let none = client.ok("recordings.list", json!({"query": "Muster"}));
    assert_eq!(none["recordings"], json!([]), "{none}");
    let file = entry["file"].clone();
    let info = client.ok("recordings.info", json!({"file": file}));
    assert_eq!((&info["encrypted"], &info["problems"]), (&json!(true), &json!([])), "{info}");
    assert!(!info.to_string().contains("Muster"), "{info}");
    let rtp = json!({"addr": "127.0.0.1", "port": 40_000});
    let refused = client.refused("play.start", json!({"file": file, "rtp": rtp}));
    assert_eq!(refused.reason, "permission_denied", "{}", refused.whole);
    assert_eq!(refused.whole["data"]["cause"], "encrypted", "{}", refused.whole);
    client.ok("recordings.protect", json!({"file": file, "protected": true}));
    assert_eq!(sidecar_of(&it.decrypted(&call.file))["call"]["remote_name"], "Zoë Muster");
    client.ok("recordings.delete", json!({"file": file}));
    assert!(!call.file.exists() && !call.file.with_extension("json").exists());
}

#[test]
fn a_full_disk_leaves_a_recording_that_opens_whole() {
    let Some(disk) = SmallDisk::mount(256) else { return };
    let path = disk.path().to_owned();
    let it = Encrypting::start(|setup| setup.storage(&path).quoted("storage", "reserve", "0"));
    let mut call = Call::start(&it.agent, Codec::Pcma);
    let mut heard = Vec::new();
    // No more than a call may be ahead of the clock.
    for _ in 0..40 {
        if call.status()["state"] != "recording" {
            break;
        }
        heard.extend((0..50).flat_map(|_| call.source.send_next()));
        std::thread::sleep(Duration::from_millis(30));
    }
    let ended = call.wait_ended();
    assert_eq!(ended["end_reason"], "storage_full", "{ended}");
    let data = read_recording(&it.decrypted(&call.file)).data;
    assert!(data.len() > 128 * 1024, "{} octets", data.len());
    assert_audio(&data, &heard[..data.len()]);
}

#[test]
fn recordings_are_signed_and_anybody_with_the_public_key_can_check_it() {
    let setup = Setup::new();
    let key = setup.dir().join("sign.pem");
    let made = output_of(recordctl().args(["keygen", "--sign", "-o"]).arg(&key));
    assert!(made.status.success(), "{made:?}");
    let public = setup.dir().join("public.pem");
    std::fs::write(&public, made.stdout).unwrap();
    let agent = setup.quoted("storage", "sign_key", key.to_str().unwrap()).start();
    let mut call = Call::start_with(&agent, Codec::Pcma, caller());
    call.speak(40);
    call.stop();
    let check = || {
        let output = output_of(recordctl().arg("verify").arg("--signed-by").arg(&public).arg(&call.file));
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (good, said) = check();
    assert!(good && said.contains("unchanged since it was written by the holder of the key"), "{said}");
    let mut octets = std::fs::read(&call.file).unwrap();
    octets[500] ^= 1;
    std::fs::write(&call.file, octets).unwrap();
    let (good, said) = check();
    assert!(!good && said.contains("the hash differs"), "{said}");
}

#[test]
fn a_key_to_sign_with_that_others_can_read_ends_the_start_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let setup = Setup::new();
    let key = setup.dir().join("sign.pem");
    assert!(output_of(recordctl().args(["keygen", "--sign", "-o"]).arg(&key)).status.success());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = setup.quoted("storage", "sign_key", key.to_str().unwrap()).run_to_end();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("chmod 600") && said.contains("storage.sign_key"), "{said}");
}

#[test]
fn the_inside_of_a_sidecar_opens_with_age_itself() {
    let age = std::process::Command::new("age").arg("--version").output();
    if age.is_err() {
        return crate::support::environment::skip_here("age is not installed");
    }
    let it = Encrypting::start(|setup| setup);
    let mut call = Call::start_with(&it.agent, Codec::Pcma, caller());
    call.speak(10);
    call.stop();
    let sealed = sidecar_of(&call.file)["sealed"].as_str().unwrap().to_owned();
    let (text, file) = (it.key.with_file_name("sealed.txt"), it.key.with_file_name("sealed.age"));
    std::fs::write(&text, sealed).unwrap();
    let decoded = std::process::Command::new("base64").arg("-d").arg(&text).output().unwrap();
    std::fs::write(&file, decoded.stdout).unwrap();
    let opened =
        std::process::Command::new("age").arg("-d").arg("-i").arg(&it.key).arg(&file).output().unwrap();
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    let inside: Value = serde_json::from_slice(&opened.stdout).unwrap();
    assert_eq!(inside["call"]["remote_name"], "Zoë Muster", "{inside}");
}

//! A stick pulled in mid-call, and put back.

use super::loop_disk::LoopDisk;
use super::row;
use crate::support::recording_file::wait_finished;
use crate::support::{Call, Codec, Setup, assert_audio, patience, sidecar_of, wait_until};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn a_pulled_stick_is_told_within_two_seconds_let_go_and_recorded_to_again_when_back() {
    let Some(disk) = LoopDisk::mount(32) else { return };
    let mut agent = Setup::new().storage(&disk.stick()).start();
    let mut told = Vec::new();
    for _ in 0..3 {
        let mut call = Call::start(&agent, Codec::Pcma);
        call.speak_in_real_time(75);
        let pulled = Instant::now();
        disk.pull();
        let failed = call.wait_event("recording.failed");
        told.push(pulled.elapsed());
        assert_eq!(failed["reason"], "storage_io", "{failed}");
        assert!(agent.is_alive());
        wait_until("the dead mount to be let go", patience(), || disk.is_free());
        agent.client().refused_because(
            "no_storage",
            "record.start",
            json!({"mode": "local", "codec": "PCMA"}),
        );
        disk.put_back();
        // At least the flushed audio is there, whole and finished.
        wait_finished(&call.file).assert_header(Codec::Pcma, 160);
        assert_eq!(sidecar_of(&call.file)["recovered"], true);
    }
    let worst = told.iter().max().unwrap();
    row("pulled, no window", &format!("told after {} ms at worst of {}", worst.as_millis(), told.len()));
    assert!(*worst < Duration::from_secs(2), "{told:?}");
}

#[test]
fn with_a_resume_window_a_stick_that_is_back_in_time_costs_no_packet() {
    let Some(disk) = LoopDisk::mount(32) else { return };
    let setup = Setup::new().storage(&disk.stick()).set("storage", "resume_window_s", 30);
    let agent = setup.start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak_in_real_time(110);
    let first = call.file.clone();
    disk.pull();
    call.client.wait_event("storage.removed", patience());
    call.wait_event("recording.stalled");
    heard.extend(call.speak_in_real_time(150));
    assert_eq!(call.status()["state"], "recording");
    wait_until("the dead mount to be let go", patience(), || disk.is_free());
    disk.put_back();
    let segment = call.wait_event("recording.segment");
    assert_eq!(segment["segment"], 2, "{segment}");
    let second = agent.path_of(segment["file"].as_str().unwrap());
    heard.extend(call.speak_in_real_time(50));
    let ended = call.stop();
    assert_eq!(ended["degraded"], false, "{ended}");
    let (first, second) = (wait_finished(&first), wait_finished(&second));
    first.assert_header(Codec::Pcma, 160);
    second.assert_header(Codec::Pcma, 160);
    assert_audio(&[first.data, second.data].concat(), &heard);
    row("pulled for 3 s, window 30 s", &format!("0 of {} packets lost, 2 files", heard.len() / 160));
}

#[test]
fn a_recording_stopped_while_its_stick_is_away_is_finished_when_it_is_back() {
    let Some(disk) = LoopDisk::mount(32) else { return };
    let setup = Setup::new().storage(&disk.stick()).set("storage", "resume_window_s", 30);
    let agent = setup.start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak_in_real_time(60);
    let first = call.file.clone();
    disk.pull();
    call.wait_event("recording.stalled");
    heard.extend(call.speak_in_real_time(20));
    assert_eq!(call.ok("record.stop")["state"], "stopping");
    disk.put_back();
    call.wait_ended();
    let mut audio = wait_finished(&first).data;
    for file in agent.recordings().into_iter().filter(|file| *file != first) {
        audio.extend(wait_finished(&file).data);
    }
    assert_audio(&audio, &heard);
}

#[test]
fn a_stick_that_stays_away_fails_the_recording_when_the_window_has_passed() {
    let Some(disk) = LoopDisk::mount(32) else { return };
    let setup = Setup::new().storage(&disk.stick()).set("storage", "resume_window_s", 3);
    let mut agent = setup.start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak_in_real_time(60);
    let pulled = Instant::now();
    disk.pull();
    let failed = call.wait_event("recording.failed");
    let after = pulled.elapsed();
    assert_eq!(failed["reason"], "storage_io", "{failed}");
    assert!((2..6).contains(&after.as_secs()), "{after:?}");
    assert!(agent.is_alive());
    let stats = call.client.ok("stats.get", json!({}));
    assert_eq!(stats["buffer_bytes"], 0, "{stats}");
}

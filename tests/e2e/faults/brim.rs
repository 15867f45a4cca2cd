//! A small disk filled to the brim, by one recording and by several.

use super::fault_fs::{Plan, Trouble, clock, fault_fs};
use super::loop_disk::LoopDisk;
use super::row;
use crate::support::environment::SmallDisk;
use crate::support::recording_file::wait_finished;
use crate::support::{Agent, Call, Codec, Setup, assert_audio, number, patience, sidecar_of, wait_until};
use media::time::Wall;
use recfile::name::{record_file_name, sidecar_name};
use recfile::sidecar::Sidecar;
use serde_json::json;
use std::time::Duration;
use store::fs::{Fs, RealFs};
use store::jobs::{Done, Folder, Job};
use store::writer::Writer;
use store::writer::per_file::PerFile;

/// Speaks until the recording ends, however long that takes up to `limit` frames.
fn fill(calls: &mut [Call], limit: usize) -> Vec<Vec<u8>> {
    let mut heard = vec![Vec::new(); calls.len()];
    for _ in 0..limit / 50 {
        let mut live = false;
        for (call, heard) in calls.iter_mut().zip(&mut heard) {
            let state = call.status()["state"].clone();
            if state == "recording" {
                live = true;
                for _ in 0..50 {
                    heard.extend(call.source.send_next());
                }
            }
        }
        if !live {
            break;
        }
        // Fifty times as fast as a call; much faster, and the reserve would be needed for waiting audio.
        std::thread::sleep(Duration::from_millis(20));
    }
    heard
}

/// Fails unless each call ended for want of room and its file holds the beginning of it, whole.
fn expect_full(agent: &Agent, calls: &mut [Call], heard: &[Vec<u8>]) -> u64 {
    let mut stored = 0;
    for (call, heard) in calls.iter_mut().zip(heard) {
        let ended = call.wait_ended();
        assert_eq!(ended["end_reason"], "storage_full", "{ended}");
        let file = wait_finished(&call.file);
        file.assert_header(call.codec, 160);
        assert_audio(&file.data, &heard[..file.data.len().min(heard.len())]);
        assert_eq!(sidecar_of(&call.file)["end_reason"], "storage_full");
        stored += file.data.len() as u64;
    }
    let mut client = agent.client();
    let refused = client.refused("record.start", json!({"mode": "local", "codec": "PCMA"}));
    assert_eq!(refused.reason, "storage_full", "{}", refused.whole);
    let data = &refused.whole["data"];
    assert!(number(data, "/free_bytes") < number(data, "/needed_bytes"), "{data}");
    stored
}

#[test]
fn two_recordings_race_for_the_last_space_and_both_end_whole_above_the_reserve() {
    let Some(disk) = SmallDisk::mount(1536) else { return };
    let agent = Setup::new().storage(disk.path()).quoted("storage", "reserve", "256 KiB").start();
    let mut watcher = agent.subscribed_client();
    let mut calls = [Call::start(&agent, Codec::Pcma), Call::start(&agent, Codec::Pcmu)];
    let heard = fill(&mut calls, 20_000);
    watcher.wait_event("storage.low", patience());
    watcher.wait_event("storage.full", patience());
    let stored = expect_full(&agent, &mut calls, &heard);
    let free = number(&agent.client().ok("storage.status", json!({})), "/free_bytes");
    // The audio that waited at that moment, and the sidecars, may take a little of it.
    assert!(free >= 192 * 1024, "the reserve was used: {free} left");
    row(
        "two recordings race for the last space",
        &format!("{stored} octets kept, {free} free, reserve 262144"),
    );
}

#[test]
fn without_a_reserve_a_disk_filled_by_somebody_else_loses_nothing_that_was_written() {
    let Some(disk) = LoopDisk::mount(8) else { return };
    let agent = Setup::new().storage(&disk.stick()).quoted("storage", "reserve", "0").start();
    let mut calls = [Call::start(&agent, Codec::Pcma)];
    let mut heard = calls[0].speak(200);
    wait_until("a flush", patience(), || number(&calls[0].status(), "/buffered_ms") == 0);
    // Somebody else takes every last block between two looks at the room.
    let mut hog = std::fs::File::create(disk.stick().join("hog")).unwrap();
    let mut octets = 1 << 16;
    while octets > 0 {
        if std::io::Write::write_all(&mut hog, &vec![1; octets]).is_err() {
            octets /= 2;
        }
    }
    heard.extend(fill(&mut calls, 20_000).remove(0));
    let ended = calls[0].wait_ended();
    assert_eq!(ended["end_reason"], "storage_full", "{ended}");
    let file = crate::support::read_recording(&calls[0].file);
    file.assert_header(Codec::Pcma, 160);
    assert_audio(&file.data, &heard[..file.data.len()]);
    assert!(file.data.len() >= 200 * 160, "only {} octets", file.data.len());
    row(
        "filled to the last block",
        &format!("{} of {} octets kept, header exact", file.data.len(), heard.len()),
    );
    // With room again the sidecar, which had none, is written by recovery, and recording works.
    drop(hog);
    std::fs::remove_file(disk.stick().join("hog")).unwrap();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(20);
    call.finish_and_expect(&heard);
}

#[test]
fn room_is_made_without_a_look_at_every_recording() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..600_i64 {
        let start = Wall { unix_ms: 1_772_352_900_000 + number * 7_200_000, utc_offset_s: 3600 };
        let name = record_file_name(start, 1);
        let sidecar = Sidecar {
            recording: format!("r{number}"),
            start: start.rfc3339(),
            end_reason: Some("stopped".into()),
            ..Sidecar::default()
        };
        std::fs::write(folder.path().join(&name), [7; 80]).unwrap();
        std::fs::write(folder.path().join(sidecar_name(&name)), sidecar.to_json()).unwrap();
    }
    let device = RealFs.device(folder.path()).unwrap();
    let folder = Folder { root: folder.path().into(), device, name: String::new() };
    let plan = Plan::new(0, Trouble::Short);
    let mut writer = Writer::new(fault_fs(plan.clone()), clock, PerFile::default());
    let Done::Deleted { file, .. } =
        writer.handle(Job::DeleteOldest { folder, running: Vec::new() }).unwrap()
    else {
        panic!("another answer")
    };
    assert_eq!(file.as_deref(), Some("Record_20260301-091500.wav"));
    // A day and a half of recordings, at two operations each.
    assert!(plan.operations() < 60, "{} operations", plan.operations());
}

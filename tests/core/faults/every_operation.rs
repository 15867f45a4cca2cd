//! Fails the n-th file operation in the life of a recording, for n = 1, 2, 3 … until the life passes.

use super::fault_fs::{Plan, Trouble};
use super::house::House;
use crate::support::{assert_audio, patience, wait_until};
use nix::errno::Errno;
use recfile::reader::Reader;
use recfile::sidecar::{Sidecar, SidecarState};
use recordd::config::{Config, StoragePath};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::fs::RealFs;

/// The time for a stick that is back in the end.
const WINDOW: Duration = Duration::from_secs(60);

/// More operations than any life has.
const MAX_OPERATIONS: u64 = 2000;

fn config(folder: &Path, window: Duration) -> Config {
    let mut config = Config::default();
    config.storage.path = StoragePath::Directory(folder.into());
    config.storage.resume_window = window;
    // Four seconds a file: the life has two rollovers.
    config.storage.max_file_octets = Some(76 + 4 * 8000);
    config
}

/// The result of one life of the agent.
struct Life {
    hit: bool,
    /// Everything that was sent while the recording lived.
    heard: Vec<u8>,
    /// All files of it, one after another.
    stored: Vec<u8>,
    ended: bool,
    refused: bool,
}

/// Records, pauses, resumes and stops, with `trouble` at the `nth` operation; checks the invariants.
fn live(nth: u64, trouble: Trouble, window: Duration, foreign_locks: u32) -> Life {
    let context = format!("operation {nth}, {trouble:?}, window {window:?}, {foreign_locks} locks");
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("Record_holiday.wav");
    std::fs::write(&foreign, b"not ours").unwrap();
    let plan = Plan::with_foreign_locks(nth, trouble, foreign_locks);
    let mut house = House::new(config(folder.path(), window), plan.clone());
    house.run(Duration::from_millis(100));
    let start = house.request("record.start", &json!({"mode": "local", "codec": "PCMA"}));
    house.run(Duration::from_millis(20));
    house.speak(250);
    house.request("record.pause", &json!({}));
    house.run(Duration::from_millis(1500));
    house.request("record.resume", &json!({}));
    house.speak(200);
    house.request("record.stop", &json!({}));
    let stopped = house.now();
    house.run(Duration::from_secs(200));

    // Every request and every job is answered once, and nothing is left behind.
    assert_eq!(house.jobs, house.answered, "{context}");
    for id in 1..=house.requests() {
        let replies = house.replies.iter().filter(|reply| reply["id"] == id).count();
        assert_eq!(replies, 1, "{context}: request {id}");
    }
    assert!(!house.has_port(), "{context}");
    assert_eq!(house.ask("record.status")["result"]["recordings"], json!([]), "{context}");
    let stats = house.ask("stats.get")["result"].clone();
    assert_eq!(stats["buffer_bytes"], 0, "{context}: {stats}");
    let refused = house.reply(start).is_some_and(|reply| reply.get("error").is_some());
    let ends = house.count("recording.ended") + house.count("recording.failed");
    assert_eq!(ends, usize::from(!refused), "{context}: {:?}", house.events);
    let packets = (house.heard.len() / 160) as u64;
    assert_eq!(stats["packets"].as_u64(), Some(packets), "{context}: {stats}");
    assert_eq!(stats["lost"], 0, "{context}: {stats}");
    let _ = stopped;

    recover(folder.path());
    assert_eq!(std::fs::read(&foreign).unwrap(), b"not ours", "{context}");
    std::fs::remove_file(foreign).unwrap();
    let stored = read_all(folder.path(), &context);
    let ended = house.count("recording.ended") == 1;
    Life { hit: plan.is_hit(), heard: house.heard, stored, ended, refused }
}

/// The recovery at the next start of the agent, which finishes no file that is locked. A child that another
/// test starts has our locks, too, until it runs its own program.
fn recover(root: &Path) {
    let folder = root.join("Record");
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let inodes: Vec<String> = entries.map(|entry| format!(":{} ", entry.ino())).collect();
    wait_until("the locks to be gone", patience(), || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        !inodes.iter().any(|inode| locks.contains(inode))
    });
    store::recover::recover(&RealFs, &folder);
}

/// The audio of all segments in their order; each must be whole, and finished if it has a sidecar.
fn read_all(root: &Path, context: &str) -> Vec<u8> {
    let folder = root.join("Record");
    let mut files: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.ends_with(".tmp"), "{context}: {name} was left");
        if !name.ends_with(".wav") {
            continue;
        }
        let sidecar = std::fs::read(path.with_extension("json"));
        match sidecar {
            Ok(json) => {
                let sidecar = Sidecar::parse(&json).unwrap();
                assert_eq!(sidecar.state, SidecarState::Ended, "{context}: {name}");
                files.push((sidecar.segment, path));
            }
            // Only the shell of a file whose creation failed half-way may be without.
            Err(_) => assert!(entry.metadata().unwrap().len() <= 76, "{context}: {name} has no sidecar"),
        }
    }
    files.sort();
    let mut audio = Vec::new();
    for (_, path) in files {
        let reader = Reader::open(File::open(&path).unwrap());
        let mut reader = reader.unwrap_or_else(|error| panic!("{context}: {}: {error}", path.display()));
        let facts = reader.facts().clone();
        assert_eq!(facts.problems, [], "{context}: {}", path.display());
        assert_eq!(u64::from(facts.declared_data_octets), facts.data_octets, "{context}");
        let mut frame = vec![0; facts.frame_octets as usize];
        while reader.next_frame(&mut frame).unwrap().is_some() {
            audio.extend(&frame);
        }
    }
    audio
}

/// Runs lives until the trouble comes after the end of one; returns how many there were.
fn for_every_operation(trouble: Trouble, window: Duration, check: impl FnMut(&str, &Life)) -> u64 {
    for_every_operation_and_lock(trouble, window, 0, check)
}

/// The same, where another process has the first `foreign_locks` that are asked for after the trouble.
fn for_every_operation_and_lock(
    trouble: Trouble,
    window: Duration,
    foreign_locks: u32,
    mut check: impl FnMut(&str, &Life),
) -> u64 {
    for nth in 1..MAX_OPERATIONS {
        let life = live(nth, trouble, window, foreign_locks);
        let context = format!("operation {nth}, {trouble:?}, window {window:?}");
        if !life.hit {
            assert!(life.ended, "{context}: nothing failed, so it must end well");
            assert_audio(&life.stored, &life.heard);
            super::row(&format!("{trouble:?}, window {} s", window.as_secs()), &format!("{nth} operations"));
            return nth;
        }
        check(&context, &life);
    }
    panic!("a life of more than {MAX_OPERATIONS} operations")
}

/// Fails unless the stored audio is the beginning of the sent audio, but for the silence that fills up a
/// frame.
fn assert_prefix(context: &str, life: &Life) {
    let common = life.stored.iter().zip(&life.heard).take_while(|(a, b)| a == b).count();
    let rest = &life.stored[common..];
    let filled = rest.len() < 160 && rest.iter().all(|octet| *octet == 0xD5);
    assert!(filled, "{context}: not what was heard from octet {common} of {}", life.stored.len());
}

#[test]
fn an_operation_that_fails_once_leaves_a_whole_beginning() {
    for errno in [Errno::EIO, Errno::ENOSPC, Errno::EROFS] {
        let lives = for_every_operation(Trouble::Once(errno), Duration::ZERO, assert_prefix);
        assert!(lives > 50, "only {lives} operations");
    }
}

#[test]
fn a_disk_that_dies_leaves_a_whole_beginning() {
    for errno in [Errno::EIO, Errno::ENOSPC, Errno::EROFS] {
        for_every_operation(Trouble::FromThen(errno), Duration::ZERO, assert_prefix);
    }
}

#[test]
fn a_disk_that_dies_for_good_ends_the_recording_when_the_window_has_passed() {
    for_every_operation(Trouble::FromThen(Errno::EIO), Duration::from_secs(10), assert_prefix);
}

#[test]
fn with_a_window_an_operation_that_fails_once_costs_no_packet_and_doubles_none() {
    for errno in [Errno::EIO, Errno::EROFS, Errno::ENODEV] {
        for_every_operation(Trouble::Once(errno), WINDOW, |context, life| {
            if life.refused {
                return;
            }
            assert!(life.ended, "{context}");
            assert!(
                life.stored == life.heard,
                "{context}: {} of {} octets",
                life.stored.len(),
                life.heard.len()
            );
        });
    }
}

#[test]
fn a_file_that_another_process_has_locked_is_finished_when_it_is_free() {
    // Somebody looks at the files at that moment, or a child that has just begun still has ours.
    for foreign_locks in [1, 4] {
        for_every_operation_and_lock(Trouble::Once(Errno::EIO), WINDOW, foreign_locks, |context, life| {
            if life.refused {
                return;
            }
            assert!(life.ended, "{context}");
            assert!(
                life.stored == life.heard,
                "{context}, {foreign_locks} locks: {} of {} octets",
                life.stored.len(),
                life.heard.len()
            );
        });
    }
}

#[test]
fn a_write_that_takes_half_costs_nothing() {
    for_every_operation(Trouble::Short, Duration::ZERO, |context, life| {
        assert!(life.ended && life.stored == life.heard, "{context}");
    });
}

#[test]
fn an_operation_that_takes_half_a_minute_costs_nothing() {
    for_every_operation(Trouble::Slow(Duration::from_secs(30)), Duration::ZERO, |context, life| {
        assert!(life.refused || life.ended, "{context}");
        assert!(life.refused || life.stored == life.heard, "{context}: {} octets", life.stored.len());
    });
}

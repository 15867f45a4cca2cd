//! Folders with more files than anybody looks through in a moment, and disks that take no more of them.

use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::environment::SmallDisk;
use crate::support::{Agent, Call, Codec, Setup, number, patience, sidecar, wait_until};

/// No write waits longer for a pass over the folder. A whole pass takes many times as long; a step, and with
/// it the wait, is far shorter on a machine that has nothing else to do than these tests in a debug build.
const LONGEST: Duration = Duration::from_secs(1);

fn finished(folder: &Path, second: usize, more: &serde_json::Value) {
    let name = format!("Record_20260301-{second:06}");
    let mut octets = b"PCMA".to_vec();
    octets.resize(64, 0);
    octets.extend([160_i32.to_le_bytes(), 160_i32.to_le_bytes(), 160_i32.to_le_bytes()].concat());
    octets.resize(76 + 160, 0xD5);
    fs::write(folder.join(format!("{name}.wav")), octets).unwrap();
    let mut beside = json!({"version": 1, "recording": format!("r{second}"), "segment": 1, "file": format!("{name}.wav"),
        "codec": "PCMA", "ptime_ms": 20, "state": "ended", "end_reason": "stopped", "data_bytes": 160, "duration_ms": 20,
        "start": format!("2026-03-01T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)});
    for (key, value) in more.as_object().unwrap() {
        beside[key] = value.clone();
    }
    fs::write(folder.join(format!("{name}.json")), beside.to_string()).unwrap();
}

/// Records until the agent has deleted a file; returns the longest time that audio waited for the disk.
fn longest_wait_until_something_is_deleted(agent: &Agent) -> Duration {
    let mut call = Call::start(agent, Codec::Pcma);
    let (mut heard, mut longest, mut last_octets) = (Vec::new(), Duration::ZERO, 0);
    let mut changed = Instant::now();
    let begin = Instant::now();
    while !agent.log().contains("to make room") {
        assert!(begin.elapsed() < patience(), "nothing is deleted:\n{}", agent.log());
        heard.extend(call.speak_in_real_time(5));
        let octets = fs::metadata(&call.file).map_or(0, |file| file.len());
        if octets != last_octets {
            // A flush is due each 50 ms.
            longest = longest.max(changed.elapsed());
            (changed, last_octets) = (Instant::now(), octets);
        }
    }
    longest = longest.max(changed.elapsed());
    call.finish_and_expect(&heard);
    longest
}

/// An agent that has to make room at once, for a folder that was filled by `fill`.
fn agent_without_room(fill: impl FnOnce(&Path)) -> Option<(SmallDisk, Agent)> {
    let disk = SmallDisk::mount_with("size=900m,nr_inodes=400k")?;
    let folder = disk.path().join("Record");
    fs::create_dir(&folder).unwrap();
    fill(&folder);
    let free = nix::sys::statvfs::statvfs(disk.path()).unwrap();
    let free = free.blocks_available() * free.fragment_size();
    let setup = Setup::new().storage(disk.path()).quoted("storage", "on_full", "delete-oldest");
    // The room above the reserve is enough to begin, and soon not enough.
    let setup = setup.set("storage", "reserve", free - 250 * 1024).set("storage", "flush_interval_ms", 50);
    let agent = setup.quoted("storage", "directory", "Record").set("storage", "speed_check", false).start();
    Some((disk, agent))
}

#[test]
fn no_write_waits_for_a_search_through_a_hundred_thousand_foreign_names() {
    let Some((_disk, agent)) = agent_without_room(|folder| {
        for number in 0..100_000 {
            let name = format!("Record_2025{:02}01-{number:06}.wav", number / 10_000 + 1);
            fs::File::create(folder.join(name)).unwrap();
        }
        finished(folder, 1, &json!({}));
    }) else {
        return;
    };
    let longest = longest_wait_until_something_is_deleted(&agent);
    assert!(longest < LONGEST, "{longest:?}");
    assert!(!agent.storage().join("Record/Record_20260301-000001.wav").exists());
}

#[test]
fn no_write_waits_for_a_search_through_sidecars_of_a_mebibyte() {
    let Some((_disk, agent)) = agent_without_room(|folder| {
        let long = json!({"gaps": vec![json!({"at_ms": 1, "duration_ms": 2, "cause": "loss"}); 22_000]});
        for second in 0..120 {
            let more = if second < 60 { &long } else { &json!({"end_reason": "rollover"}) };
            finished(folder, 119 - second, more);
        }
    }) else {
        return;
    };
    let longest = longest_wait_until_something_is_deleted(&agent);
    assert!(longest < LONGEST, "{longest:?}");
    assert!(!agent.storage().join("Record/Record_20260301-000000.wav").exists());
}

#[test]
fn a_disk_that_takes_no_more_files_says_so_though_octets_are_free() {
    let Some(disk) = SmallDisk::mount_with("size=16m,nr_inodes=12") else { return };
    for number in 0..11 {
        let _ = fs::File::create(disk.path().join(format!("other{number}")));
    }
    let agent = Setup::new().storage(disk.path()).quoted("storage", "directory", "").start();
    let refusal = agent.client().refused("record.start", json!({"mode": "local", "codec": "PCMA"}));
    let text = format!("{refusal:?}");
    assert!(
        text.contains("storage_full") && text.contains("it is names that there is no room for"),
        "{text}"
    );
}

#[test]
fn room_for_another_name_is_made_by_deleting_the_oldest_at_a_start_and_in_mid_call() {
    let Some(disk) = SmallDisk::mount_with("size=16m,nr_inodes=17") else { return };
    let setup = Setup::new().storage(disk.path()).quoted("storage", "on_full", "delete-oldest");
    let setup = setup.quoted("storage", "directory", "").quoted("storage", "max_file_size", "4 KiB");
    let agent = setup.set("storage", "speed_check", false).start();
    let foreign = disk.path().join("holiday.wav");
    fs::write(&foreign, "theirs").unwrap();
    let mut made = Vec::new();
    for _ in 0..8 {
        let mut call = Call::start(&agent, Codec::Pcma);
        let heard = call.speak(5);
        call.finish_and_expect(&heard);
        made.push(call.id);
    }
    // 4 segments of half a second.
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak_in_real_time(90);
    call.finish();
    made.push(call.id);
    let there: Vec<String> = agent
        .recordings()
        .iter()
        .filter(|file| **file != foreign)
        // One may be going at this moment.
        .filter_map(|file| Some(sidecar(file)?["recording"].as_str()?.to_owned()))
        .collect();
    let left: Vec<bool> = made.iter().map(|id| there.contains(id)).collect();
    assert!(left.is_sorted() && left[8] && !left[0], "{left:?}");
    assert_eq!(there.iter().filter(|id| **id == made[8]).count(), 4, "{there:?}");
    assert!(foreign.exists());
}

#[test]
fn a_list_and_a_recording_go_on_beside_each_other_in_a_crowded_folder() {
    let Some((_disk, agent)) = agent_without_room(|folder| {
        for number in 0..30_000 {
            let (hours, minutes, seconds) = (number / 3600, number / 60 % 60, number % 60);
            let name = format!("Record_20250101-{hours:02}{minutes:02}{seconds:02}.wav");
            fs::File::create(folder.join(name)).unwrap();
        }
        finished(folder, 1, &json!({}));
    }) else {
        return;
    };
    let mut client = agent.client();
    wait_until("the newest recording in the list", patience(), || {
        let listed = client.ok("recordings.list", json!({"limit": 1}));
        listed["recordings"][0]["file"] == "Record_20260301-000001.wav"
    });
    let longest = number(&client.ok("stats.get", json!({})), "/longest_write_ms");
    assert!(longest < 1000, "{longest}");
}

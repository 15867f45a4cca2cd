//! No storage, full, read-only: the named reason, and whole files.

use serde_json::json;

use crate::rollover::segments;
use crate::support::agent::{output_of, recordctl};
use crate::support::environment::SmallDisk;
use crate::support::recording_file::wait_finished;
use crate::support::{Agent, Call, Client, Codec, Setup, assert_audio, patience, read_recording, sidecar_of};

fn start() -> serde_json::Value {
    json!({"mode": "local", "codec": "PCMA"})
}

/// Fails unless starting is refused with `reason`, twice, and the agent lives on.
fn expect_refusal(agent: &mut Agent, reason: &str) {
    let mut client = agent.client();
    for _ in 0..2 {
        client.refused_because(reason, "record.start", start());
        assert_eq!(client.ok("record.status", json!({})), json!({"recordings": []}));
    }
    assert!(agent.is_alive());
    assert!(agent.recordings().is_empty(), "{:?}", agent.recordings());
}

#[test]
fn a_folder_that_is_not_there_is_no_storage() {
    let setup = Setup::new();
    let missing = setup.dir().join("missing");
    let mut agent = setup.storage(&missing).start();
    expect_refusal(&mut agent, "no_storage");
    let status = agent.client().ok("storage.status", json!({}));
    assert_eq!(status["present"], false, "{status}");
}

#[test]
fn a_folder_on_a_fixed_disk_is_no_storage_where_usb_is_required() {
    let mut agent = Setup::new().set("storage", "require_usb", true).start();
    expect_refusal(&mut agent, "no_storage");
    let info = agent.client().ok("agent.info", json!({}));
    let storage = &info["storage"];
    assert_eq!((&storage["present"], &storage["state"]), (&json!(false), &json!("absent")), "{info}");
    assert!(storage["remaining_s"].is_null() && storage["note"].is_string(), "{info}");
    assert_eq!(info["modes"], json!([]), "{info}");
}

#[test]
fn storage_that_appears_later_can_be_recorded_to_at_once() {
    let setup = Setup::new();
    let folder = setup.dir().join("later");
    let mut agent = setup.storage(&folder).start();
    expect_refusal(&mut agent, "no_storage");
    std::fs::create_dir(&folder).unwrap();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(5);
    call.finish_and_expect(&heard);
}

#[test]
fn a_read_only_disk_is_refused_as_such() {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    disk.make_read_only();
    let mut agent = Setup::new().storage(disk.path()).start();
    expect_refusal(&mut agent, "storage_read_only");
}

#[test]
fn a_disk_with_less_than_the_reserve_is_full() {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let setup = Setup::new().storage(disk.path()).quoted("storage", "reserve", "2 MiB");
    let mut agent = setup.start();
    expect_refusal(&mut agent, "storage_full");
}

#[test]
fn a_disk_that_fills_up_ends_the_recording_with_nothing_written_lost() {
    let Some(disk) = SmallDisk::mount(512) else { return };
    let agent = Setup::new().storage(disk.path()).start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut watcher = agent.subscribed_client();
    let mut heard = Vec::new();
    // More than the disk has, and less than a minute: a burst of more is no audio of the call.
    for sent in 0..2900 {
        heard.extend(call.source.send_next());
        let ended = sent % 50 == 49 && {
            let params = call.params();
            let status = call.client.request("record.status", params);
            status.map_or(true, |status| status["state"] == "ended" || status["state"] == "stopping")
        };
        if ended {
            break;
        }
    }
    watcher.wait_event("storage.full", patience());
    let ends = ["recording.ended", "recording.failed"];
    let ended = std::iter::from_fn(|| call.client.next_event(patience()))
        .find(|event| ends.iter().any(|end| event["method"] == *end))
        .expect("an end");
    assert!(ended.to_string().contains("storage_full"), "{ended}");
    let recording = wait_finished(&call.file);
    recording.assert_header(Codec::Pcma, 160);
    let stored = recording.data.len();
    assert_audio(&recording.data, &heard[..stored.min(heard.len())]);
    assert!(stored >= 340 * 1024, "only {stored} octets of a disk of 512 KiB with 64 KiB of reserve");
    assert_eq!(sidecar_of(&call.file)["end_reason"], "storage_full");
    assert_eq!(call.client.ok("record.status", json!({})), json!({"recordings": []}));
    let free = crate::support::number(&call.client.ok("storage.status", json!({})), "/free_bytes");
    assert!(free >= 32 * 1024, "the reserve was used up: {free} octets left");
}

/// A disk on which old recordings make room, and an agent that records to it.
fn deleting_agent(size_kib: u32) -> Option<(SmallDisk, Agent)> {
    let disk = SmallDisk::mount(size_kib)?;
    let setup = Setup::new().storage(disk.path()).quoted("storage", "on_full", "delete-oldest");
    let agent = setup.quoted("storage", "max_file_size", "128 KiB").start();
    Some((disk, agent))
}

#[test]
fn room_can_be_made_by_deleting_the_oldest_files_where_that_is_wanted() {
    let Some((disk, agent)) = deleting_agent(1024) else { return };
    let foreign = disk.path().join("holiday.wav");
    std::fs::write(&foreign, [0; 1000]).unwrap();
    let old: Vec<_> = (0..8)
        .map(|_| {
            let mut call = Call::start(&agent, Codec::Pcma);
            call.speak(500);
            call.stop();
            call.id
        })
        .collect();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(3000);
    call.stop();
    assert!(foreign.exists(), "only the agent's own files may go");
    std::fs::remove_file(foreign).unwrap();
    // By id: within one second a name that became free is taken again.
    let ids: Vec<_> = agent.recordings().iter().map(|file| sidecar_of(file)["recording"].clone()).collect();
    let left: Vec<bool> = old.iter().map(|id| ids.iter().any(|left| left == id.as_str())).collect();
    assert!(!left[0] && left.is_sorted(), "the oldest go first: {left:?}");
    let files = segments(&agent, &call.id);
    let audio: Vec<u8> = files.iter().flat_map(|file| read_recording(file).data).collect();
    assert_audio(&audio, &heard);
}

#[test]
fn no_room_is_made_by_deleting_what_the_running_call_has_recorded() {
    let Some((_disk, agent)) = deleting_agent(512) else { return };
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = Vec::new();
    for _ in 0..2900 / 50 {
        heard.extend((0..50).flat_map(|_| call.source.send_next()));
        let params = call.params();
        if call.client.ok("record.status", params)["state"] != "recording" {
            break;
        }
    }
    assert_eq!(call.wait_ended()["end_reason"], "storage_full");
    let files = segments(&agent, &call.id);
    let audio: Vec<u8> = files.iter().flat_map(|file| read_recording(file).data).collect();
    assert_audio(&audio, &heard[..audio.len().min(heard.len())]);
    assert!(audio.len() >= 300 * 1024, "only {} octets were kept", audio.len());
    // The next call may take its place.
    let mut next = Call::start(&agent, Codec::Pcma);
    let heard = next.speak(20);
    next.finish_and_expect(&heard);
}

#[test]
fn an_ejected_disk_holds_finished_files() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(20);
    call.client.ok("storage.eject", json!({}));
    // Safe to pull now: nothing may be missing any more.
    read_recording(&call.file).assert_finished(Codec::Pcma, &heard);
    assert!(sidecar_of(&call.file)["end_reason"].is_string());
    call.wait_ended();
}

#[test]
fn a_folder_on_a_fixed_disk_can_be_recorded_to_again_after_an_eject() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(20);
    let ejected = call.client.ok("storage.eject", json!({}));
    assert_eq!(ejected, json!({"safe_to_pull": true, "unmounted": false}));
    assert_eq!(call.wait_ended()["end_reason"], "ejected");
    assert_ne!(agent.client().ok("storage.status", json!({}))["state"], "ejected");
    let mut next = Call::start(&agent, Codec::Pcma);
    let heard = next.speak(20);
    next.finish_and_expect(&heard);
    let listed = agent.client().ok("recordings.list", json!({}));
    assert_eq!(listed["recordings"].as_array().map(Vec::len), Some(2), "{listed}");
}

#[test]
fn an_eject_leaves_a_disk_mounted_that_can_not_be_pulled_says_so_and_it_is_recorded_to_again() {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let agent = Setup::new().storage(disk.path()).start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(20);
    let ejected = call.client.ok("storage.eject", json!({}));
    assert_eq!((&ejected["safe_to_pull"], &ejected["unmounted"]), (&json!(true), &json!(false)), "{ejected}");
    assert!(ejected["note"].as_str().is_some_and(|note| note.contains("stays mounted")), "{ejected}");
    assert_eq!(call.wait_ended()["end_reason"], "ejected");
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let still = mounts.lines().any(|line| line.contains(disk.path().to_str().unwrap()));
    assert!(still, "it was unmounted: what is recorded next would fill the phone's own memory");
    let mut next = Call::start(&agent, Codec::Pcma);
    let heard = next.speak(20);
    next.finish_and_expect(&heard);
}

/// A file or a link in place of the recording folder, and the state and cause for it.
#[test]
fn an_obstacle_in_place_of_the_recording_folder_has_a_cause_before_a_call_and_after() {
    let setup = Setup::new();
    let record = setup.storage_path().join("Record");
    std::fs::write(&record, "a file").unwrap();
    let agent = setup.start();
    let mut client = agent.client();
    let status = client.ok("storage.status", json!({}));
    assert_eq!((&status["state"], &status["cause"]), (&json!("failed"), &json!("not_a_folder")), "{status}");
    let refused = client.refused("record.start", start());
    assert_eq!(
        (refused.reason.as_str(), &refused.whole["data"]["cause"]),
        ("storage_io", &json!("not_a_folder"))
    );
    let message = refused.whole["message"].as_str().unwrap();
    assert!(message.contains("recording folder") && message.contains("rename or delete"), "{message}");
    std::fs::remove_file(&record).unwrap();
    std::os::unix::fs::symlink("/proc", &record).unwrap();
    let refused = client.refused("record.start", start());
    assert_eq!(refused.whole["data"]["cause"], "off_disk", "{}", refused.whole);
    std::fs::remove_file(&record).unwrap();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(20);
    call.finish_and_expect(&heard);
    assert_eq!(client.ok("storage.status", json!({}))["cause"], json!(null));
}

#[test]
fn a_path_that_is_missing_or_no_folder_is_told_apart_from_no_stick() {
    let setup = Setup::new();
    let missing = setup.dir().join("missing");
    let agent = setup.storage(&missing).start();
    let mut client = agent.client();
    let mut cause = || client.refused("record.start", start()).whole["data"]["cause"].clone();
    assert_eq!(cause(), "path_missing");
    std::fs::write(&missing, "").unwrap();
    assert_eq!(cause(), "not_a_folder");
    let auto =
        Setup::new().quoted("storage", "directory", "Record").set("storage", "require_usb", true).start();
    let status = auto.client().ok("storage.status", json!({}));
    assert_eq!(status["cause"], "not_removable", "{status}");
}

#[test]
fn a_disk_that_others_fill_and_empty_between_calls_is_told_both_ways() {
    let Some(disk) = SmallDisk::mount(8 * 1024) else { return };
    let agent = Setup::new().storage(disk.path()).start();
    let mut client = agent.subscribed_client();
    let state = |client: &mut Client| {
        let told = client.wait_event("storage.state", patience());
        assert_eq!(told["storage"]["state"], told["to"], "{told}");
        (told["from"].clone(), told["to"].clone(), told["cause"].clone())
    };
    let foreign = disk.path().join("holiday.mpg");
    std::fs::write(&foreign, vec![0; 4096 * 1024]).unwrap();
    assert_eq!(state(&mut client), (json!("ok"), json!("low"), json!("room")));
    std::fs::write(disk.path().join("more.mpg"), vec![0; 4000 * 1024]).unwrap();
    assert_eq!(state(&mut client), (json!("low"), json!("full"), json!("full")));
    // One after another: a look at the disk may come between two of them.
    std::fs::remove_file(disk.path().join("more.mpg")).unwrap();
    assert_eq!(state(&mut client), (json!("full"), json!("low"), json!("room")));
    std::fs::remove_file(foreign).unwrap();
    assert_eq!(state(&mut client), (json!("low"), json!("ok"), json!("room")));
    disk.make_read_only();
    assert_eq!(state(&mut client), (json!("ok"), json!("read_only"), json!("read_only")));
}

#[test]
fn an_eject_of_what_cannot_be_pulled_does_not_say_that_it_may_be() {
    let Some(disk) = SmallDisk::mount(2048) else { return };
    let agent = Setup::new().storage(disk.path()).start();
    let output = output_of(recordctl().arg("--socket").arg(&agent.socket).arg("eject"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        said.contains("closed and synced; ") && said.contains("not on a disk that can be pulled"),
        "{said}"
    );
    assert!(!said.contains("may be pulled"), "{said}");
}

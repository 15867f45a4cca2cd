//! Clocks that are wrong, or right after 2038; and files of more octets than 32 bits count with a sign.

use serde_json::json;
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::support::clock::{at_time, shift_to};
use crate::support::environment::SmallDisk;
use crate::support::{Agent, Call, Codec, Setup, patience, sidecar, sidecar_of, wait_until};

/// 2040-06-01 12:00 UTC: beyond 32 bits of seconds.
const IN_2040: i64 = 2_222_164_800;

/// 2026-06-01 12:00 UTC.
const IN_2026: i64 = 1_780_315_200;

/// Records a moment; gives the name of the file.
fn record(agent: &Agent) -> String {
    let mut call = Call::start(agent, Codec::Pcma);
    let heard = call.speak(5);
    call.finish_and_expect(&heard);
    call.file.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn whatever_the_clock_shows_a_call_is_recorded_and_files_have_names_of_their_own() {
    for (time, name, is_set) in [
        (IN_2040, "Record_20400601-15", true),
        // The last second of 32 bits is in the afternoon, and the next one.
        (i64::from(i32::MAX) - 1, "Record_20380119-061", true),
        (4_294_967_295, "Record_2106", false),
        (8_000_000_000, "Record_2223", false),
        (30, "Record_19700101-03", false),
    ] {
        let Some(setup) = at_time(Setup::new(), time) else { return };
        let agent = setup.start();
        let names = [record(&agent), record(&agent), record(&agent)];
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2], "{names:?}");
        for name_of in &names {
            assert!(name_of.starts_with(name), "{name_of} at {time}");
            let beside = sidecar_of(&agent.path_of(name_of));
            assert_eq!(beside["clock_set"], is_set, "{beside}");
        }
        let listed = agent.client().ok("recordings.list", json!({}));
        assert_eq!(listed["recordings"].as_array().map(Vec::len), Some(3), "{listed}");
    }
}

#[test]
fn room_is_made_in_the_order_of_making_by_a_phone_that_comes_up_in_1970_and_in_2050() {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let setup = Setup::new().storage(disk.path()).quoted("storage", "on_full", "delete-oldest");
    let Some(setup) = at_time(setup.set("storage", "speed_check", false), IN_2026) else { return };
    // Above the reserve and the limit at which the agent deletes, there is room for a handful of short calls.
    fs::write(disk.path().join("hog"), vec![1; 720 * 1024]).unwrap();
    let mut agent = setup.start();
    let mut made = Vec::new();
    // Boots: the right time, twice 1970 (the second one earlier than the first), 2050, and the right time
    // again.
    for (boot, time) in [IN_2026, 500, 100, IN_2026 + 757_382_400, IN_2026 + 86_400].into_iter().enumerate() {
        if boot > 0 {
            agent.terminate();
            agent.set_environment("CLOCK_SHIFT", shift_to(time));
            agent.restart();
        }
        for _ in 0..4 {
            let mut call = Call::start(&agent, Codec::Pcma);
            call.speak(5);
            call.finish();
            made.push(call.id);
            let there: Vec<String> = agent
                .recordings()
                .iter()
                // One may be going at this moment.
                .filter_map(|file| Some(sidecar(file)?["recording"].as_str()?.to_owned()))
                .collect();
            let left: Vec<bool> = made.iter().map(|id| there.contains(id)).collect();
            assert!(left.is_sorted(), "the oldest go first: {left:?} in boot {boot}");
            assert!(left.last().is_some_and(|left| *left), "the call just made is gone");
        }
    }
    assert!(agent.recordings().len() < made.len() / 2, "the disk was never full");
}

#[test]
fn a_file_of_over_2_gib_is_made_exact_and_listed_with_its_length() {
    const AUDIO: u64 = 2_700_000_000;
    let setup = Setup::new();
    let path = setup.storage_path().join("Record/Record_20260301-091500.wav");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let mut call_made = phone_header();
    call_made.resize(76, 0);
    let file = fs::File::create(&path).unwrap();
    file.write_all_at(&call_made, 0).unwrap();
    // A hole: it takes no room.
    file.set_len(76 + AUDIO + 60).unwrap();
    let beside = json!({"version": 1, "recording": "r", "segment": 1, "file": "Record_20260301-091500.wav", "codec": "PCMA",
                        "ptime_ms": 20, "start": "2026-03-01T09:15:00+01:00", "state": "recording"});
    fs::write(path.with_extension("json"), beside.to_string()).unwrap();
    let agent = setup.start();
    let length = |path: &std::path::Path| fs::metadata(path).unwrap().len();
    wait_until("the file to be made whole", patience(), || sidecar_of(&path)["state"] == "ended");
    let mut size = [0; 4];
    fs::File::open(&path).unwrap().read_exact_at(&mut size, 72).unwrap();
    assert_eq!(u64::from(u32::from_le_bytes(size)), AUDIO + 160);
    assert_eq!(length(&path), 76 + AUDIO + 160);
    let mut client = agent.client();
    wait_until("the list", Duration::from_secs(30), || {
        let listed = client.ok("recordings.list", json!({}));
        listed["recordings"][0]["size_bytes"] == 76 + AUDIO + 160
            && listed["recordings"][0]["duration_ms"] == (AUDIO + 160) / 8
    });
}

/// The beginning of a header that was written when the file was made.
fn phone_header() -> Vec<u8> {
    let mut header = b"PCMA".to_vec();
    header.resize(64, 0);
    header.extend(160_i32.to_le_bytes());
    header.extend(160_i32.to_le_bytes());
    header.extend(0_u32.to_le_bytes());
    header
}

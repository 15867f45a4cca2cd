//! The file and the sidecar that a recording leaves.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use time::{OffsetDateTime, UtcOffset};

use crate::support::agent::UTC_OFFSET_S;
use crate::support::call::Books;
use crate::support::recording_file::HEADER_OCTETS;
use crate::support::rtp_source::FRAME;
use crate::support::{Agent, Call, Codec, number, read_recording, sidecar_of, text};

#[test]
fn a_call_in_each_codec_gives_a_file_right_to_the_bit() {
    let agent = Agent::start();
    for codec in Codec::ALL {
        let mut call = Call::start(&agent, codec);
        let heard = call.speak(75);
        call.finish_and_expect(&heard);
    }
    assert_eq!(agent.recordings().len(), 3);
}

#[test]
fn the_header_is_76_octets_as_the_format_draws_them() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::G722);
    let heard = call.speak(5);
    call.finish();
    let mut expected = vec![0; HEADER_OCTETS];
    expected[..4].copy_from_slice(b"G722");
    expected[64] = 160; // rtpLen
    expected[68] = 160; // increment
    expected[72..74].copy_from_slice(&[0x20, 0x03]); // 800 octets
    expected.extend(heard);
    assert_eq!(std::fs::read(&call.file).unwrap(), expected);
}

#[test]
fn the_packet_time_asked_for_is_the_one_in_the_header() {
    let agent = Agent::start();
    for ptime_ms in [10, 30, 40] {
        let octets = ptime_ms * 8;
        let mut call = Call::start_with(&agent, Codec::Pcmu, json!({"ptime_ms": ptime_ms}));
        call.source.octets = octets;
        let heard = call.speak(20);
        let recording = call.finish();
        recording.assert_header(Codec::Pcmu, octets);
        assert_eq!(recording.data, heard);
    }
}

#[test]
fn a_file_is_named_after_the_local_time_of_its_creation() {
    let agent = Agent::start();
    let before = SystemTime::now();
    let mut call = Call::start(&agent, Codec::Pcma);
    let after = SystemTime::now();
    call.stop();
    let name = call.file.file_name().unwrap().to_str().unwrap();
    let allowed = [before, after].map(name_at);
    assert!(allowed.iter().any(|allowed| allowed == name), "{name}, expected one of {allowed:?}");
    assert_eq!(call.file.parent(), Some(agent.storage().join("Record").as_path()));
}

fn name_at(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let offset = UtcOffset::from_whole_seconds(UTC_OFFSET_S as i32).unwrap();
    let utc = OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap();
    let local = utc.to_offset(offset);
    let date = format!("{}{:02}{:02}", local.year(), u8::from(local.month()), local.day());
    let clock = format!("{:02}{:02}{:02}", local.hour(), local.minute(), local.second());
    format!("Record_{date}-{clock}.wav")
}

#[test]
fn files_of_the_same_second_are_numbered() {
    let agent = Agent::start();
    let mut calls: Vec<Call> = (0..3).map(|_| Call::start(&agent, Codec::Pcma)).collect();
    let heard: Vec<Vec<u8>> = calls.iter_mut().map(|call| call.speak(3)).collect();
    for (call, heard) in calls.iter_mut().zip(&heard) {
        call.finish_and_expect(heard);
    }
    let names: Vec<String> =
        calls.iter().map(|call| call.file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    // The second may have turned between two starts, not twice.
    let base = |name: &str| name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-");
    let mut taken: Vec<String> = Vec::new();
    for name in &names {
        let earlier = taken.iter().filter(|other| base(other) == base(name)).count();
        let expected = if earlier == 0 { base(name) } else { format!("{}-{}", base(name), earlier + 1) };
        assert_eq!(name, &expected, "in {names:?}");
        taken.push(name.clone());
    }
    let mut bases: Vec<String> = names.iter().map(|name| base(name)).collect();
    bases.dedup();
    assert!(bases.len() <= 2, "three starts took over a second: {names:?}");
}

#[test]
fn a_name_already_taken_is_never_overwritten() {
    let agent = Agent::start();
    let folder = agent.storage().join("Record");
    std::fs::create_dir_all(&folder).unwrap();
    let now = SystemTime::now();
    let foreign: Vec<_> =
        (0..4).map(|ahead| folder.join(name_at(now + Duration::from_secs(ahead)))).collect();
    for path in &foreign {
        std::fs::write(path, b"not ours").unwrap();
    }
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(3);
    call.finish_and_expect(&heard);
    assert!(call.file.to_str().unwrap().ends_with("-2.wav"), "{}", call.file.display());
    for path in &foreign {
        assert_eq!(std::fs::read(path).unwrap(), b"not ours");
    }
}

#[test]
fn the_sidecar_tells_of_the_call_from_the_start() {
    let agent = Agent::start();
    let call = json!({
        "id": "c-17", "direction": "in", "remote_number": "+4930123456",
        "remote_name": "Zoë \"Z\" & Söhne", "local_number": "201", "local_name": "Empfang",
    });
    let recording = Call::start_with(&agent, Codec::Pcma, json!({"call": call}));
    let sidecar = sidecar_of(&recording.file);
    assert_eq!(sidecar["recording"], recording.id.as_str(), "{sidecar}");
    assert_eq!(sidecar["call"], call, "{sidecar}");
    assert_eq!(sidecar["codec"], "PCMA", "{sidecar}");
    assert!(sidecar["segment"].is_u64(), "{sidecar}");
    assert!(sidecar["end_reason"].is_null(), "it has not ended: {sidecar}");
    let start = text(&sidecar, "/start");
    assert!(start.ends_with("+03:00"), "start is local time with its offset: {start}");
    let clock = sidecar.as_object().unwrap().iter().find(|(key, _)| key.contains("clock"));
    assert_eq!(clock.map(|(_, set)| set), Some(&json!(true)), "clock was set: {sidecar}");
}

#[test]
fn the_sidecar_tells_at_the_end_what_became_of_the_call() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(20);
    call.source.lose(5);
    call.speak(25);
    call.ok("record.pause");
    call.source.lose(10);
    call.ok("record.resume");
    call.speak(10);
    call.stop();
    let sidecar = sidecar_of(&call.file);
    assert_eq!(number(&sidecar, "/duration_ms"), 60 * 20, "{sidecar}");
    assert!(sidecar["end_reason"].is_string(), "{sidecar}");
    let books = Books::of(&json!({"packets": {
        "received": sidecar["packets"]["received"], "lost": sidecar["packets"]["lost"],
        "late": sidecar["packets"]["late"], "duplicate": sidecar["packets"]["duplicate"],
        "dropped": 0,
    }}));
    let expected = Books { received: 55, lost: 5, late: 0, duplicate: 0, dropped: 0 };
    assert_eq!(books, expected, "{sidecar}");
    assert_eq!(count(&sidecar["gaps"]), 1, "one gap: {sidecar}");
    assert_eq!(count(&sidecar["pauses"]), 1, "one pause: {sidecar}");
}

/// Entries of a list, or the number that stands for them.
fn count(value: &serde_json::Value) -> u64 {
    value.as_array().map(|list| list.len() as u64).or(value.as_u64()).unwrap_or(u64::MAX)
}

#[test]
fn numbers_and_names_that_change_in_the_call_are_those_in_the_sidecar() {
    let agent = Agent::start();
    let caller = json!({"call": {"direction": "in", "remote_number": "201"}});
    let mut call = Call::start_with(&agent, Codec::Pcma, caller);
    call.speak(5);
    let transferred = json!({"remote_number": "305", "remote_name": "Warehouse"});
    call.client.ok("record.update", json!({"recording": call.id, "call": transferred}));
    call.stop();
    let sidecar = sidecar_of(&call.file);
    assert_eq!(sidecar["call"]["remote_number"], "305", "{sidecar}");
    assert_eq!(sidecar["call"]["remote_name"], "Warehouse", "{sidecar}");
}

#[test]
fn a_recording_that_saw_no_packet_leaves_an_empty_file_and_says_so() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcmu);
    call.finish_and_expect(&[]);
    let sidecar = sidecar_of(&call.file);
    assert!(sidecar.to_string().contains("no_media"), "{sidecar}");
    assert_eq!(number(&sidecar, "/duration_ms"), 0, "{sidecar}");
}

#[test]
fn the_file_grows_while_the_call_goes_on() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(50);
    // The reorder window of 100 ms may still be held back.
    let least = heard.len() - 5 * FRAME;
    crate::support::wait_until("a flush that shows in the header", Duration::from_secs(4), || {
        let so_far = read_recording(&call.file);
        assert!(so_far.data_size as usize <= so_far.data.len(), "dataSize beyond the file");
        so_far.data_size as usize >= least
    });
    heard.extend(call.speak(10));
    call.finish_and_expect(&heard);
}

//! The status of the agent and its recordings.

use serde_json::{Value, json};

use crate::support::call::Books;
use crate::support::{Agent, Call, Codec, number, text};

#[test]
fn a_status_has_every_field() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(50);
    let status = call.status();
    assert_eq!(status["mode"], "local", "{status}");
    assert_eq!(status["state"], "recording", "{status}");
    assert_eq!(status["degraded"], false, "{status}");
    assert!(status["end_reason"].is_null(), "{status}");
    let file = agent.path_of(text(&status, "/file"));
    assert_eq!(file, call.file);
    for field in ["/elapsed_ms", "/bytes", "/segment", "/buffered_ms", "/remaining_s"] {
        number(&status, field);
    }
    let expected = Books { received: 50, lost: 0, late: 0, duplicate: 0, dropped: 0 };
    assert_eq!(Books::of(&status), expected);
    // Audio that is not yet 100 ms old may still wait for a straggler.
    let elapsed = number(&status, "/elapsed_ms");
    assert!((900..=1000).contains(&elapsed), "{status}");
    let free = number(&call.client.ok("storage.status", json!({})), "/free_bytes");
    let seconds = number(&status, "/remaining_s");
    assert!(seconds <= free / 8000 + 1, "{seconds} s do not fit into {free} octets");
    assert!(seconds >= 1, "{status}");
}

#[test]
fn the_status_of_all_lists_those_that_have_not_ended() {
    let agent = Agent::start();
    let mut first = Call::start(&agent, Codec::Pcma);
    let second = Call::start(&agent, Codec::Pcmu);
    let ids = |status: &Value| -> Vec<String> {
        let list = status["recordings"].as_array().expect("a list");
        list.iter().map(|status| text(status, "/recording").to_owned()).collect()
    };
    let status = first.client.ok("record.status", json!({}));
    let mut both = ids(&status);
    both.sort();
    let mut expected = vec![first.id.clone(), second.id.clone()];
    expected.sort();
    assert_eq!(both, expected);
    first.stop();
    assert_eq!(ids(&first.client.ok("record.status", json!({}))), vec![second.id]);
}

#[test]
fn agent_info_is_enough_for_a_client_that_comes_late() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(10);
    let info = agent.client().ok("agent.info", json!({}));
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"), "{info}");
    assert!(!info["protocol"].is_null(), "{info}");
    let list = |key: &str| info[key].as_array().unwrap_or_else(|| panic!("{key} in {info}"));
    assert!(list("modes").contains(&json!("local")), "{info}");
    for codec in Codec::ALL {
        assert!(list("codecs").contains(&json!(codec.name())), "{info}");
    }
    let fields = info.as_object().unwrap();
    assert!(fields.keys().any(|key| key.starts_with("uptime")), "{info}");
    assert_eq!(info["storage"]["present"], true, "{info}");
    assert_eq!(list("playbacks").len(), 0, "{info}");
    let recordings = list("recordings");
    assert_eq!(recordings.len(), 1, "{info}");
    assert_eq!(recordings[0]["recording"], call.id.as_str(), "{info}");
    assert_eq!(Books::of(&recordings[0]).received, 10, "{info}");
}

#[test]
fn storage_status_tells_of_the_disk_that_is_recorded_to() {
    let agent = Agent::start();
    let status = agent.client().ok("storage.status", json!({}));
    assert_eq!(status["present"], true, "{status}");
    let total = number(&status, "/total_bytes");
    let free = number(&status, "/free_bytes");
    assert!(0 < free && free <= total, "{status}");
    assert!(status["state"].is_string(), "{status}");
    assert!(status["filesystem"].is_string(), "{status}");
    let mount = text(&status, "/mount");
    assert!(agent.storage().starts_with(mount), "{mount} holds {}", agent.storage().display());
}

#[test]
fn statistics_count_packets_and_octets() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(50);
    call.stop();
    let stats = call.client.ok("stats.get", json!({}));
    assert!(holds(&stats, 50), "50 packets somewhere in {stats}");
    assert!(holds(&stats, 8000) || holds(&stats, 8076) || holds(&stats, 8600), "octets: {stats}");
}

fn holds(value: &Value, wanted: u64) -> bool {
    match value {
        Value::Number(number) => number.as_u64() == Some(wanted),
        Value::Object(fields) => fields.values().any(|field| holds(field, wanted)),
        Value::Array(items) => items.iter().any(|item| holds(item, wanted)),
        _ => false,
    }
}

#[test]
fn numbers_and_names_of_callers_stay_out_of_the_log() {
    let agent = Agent::start();
    let caller = json!({"call": {
        "id": "c-1", "direction": "in", "remote_number": "+49555123987", "remote_name": "Xanthippe",
        "local_number": "8877665", "local_name": "Yggdrasil",
    }});
    let mut call = Call::start_with(&agent, Codec::Pcma, caller);
    call.speak(5);
    call.stop();
    let log = agent.log();
    for personal in ["555123987", "Xanthippe", "8877665", "Yggdrasil"] {
        assert!(!log.contains(personal), "{personal} is in the log:\n{log}");
    }
}

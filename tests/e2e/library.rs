//! The recordings on the stick: listed, told about, deleted.

use serde_json::{Value, json};

use crate::support::{Agent, Call, Client, Codec, number, text};

fn list(client: &mut Client, params: Value) -> Vec<Value> {
    let answer = client.ok("recordings.list", params);
    answer["recordings"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
}

/// Three finished recordings, of 1, 2 and 3 packets, oldest first.
fn three(agent: &Agent) -> Vec<Call> {
    let callers = [("+49301", "Anna"), ("202", "Bert"), ("203", "Anne-Marie")];
    let record = |(index, (number, name)): (usize, (&str, &str))| {
        let caller = json!({"call": {"direction": "in", "remote_number": number, "remote_name": name}});
        let mut call = Call::start_with(agent, Codec::Pcma, caller);
        call.speak(index + 1);
        call.stop();
        call
    };
    callers.into_iter().enumerate().map(record).collect()
}

#[test]
fn recordings_are_listed_newest_first() {
    let agent = Agent::start();
    let mut calls = three(&agent);
    let listed = list(&mut calls[0].client, json!({}));
    assert_eq!(listed.len(), 3, "{listed:?}");
    for (entry, call) in listed.iter().zip(calls.iter().rev()) {
        assert_eq!(entry["recording"], call.id.as_str(), "{listed:?}");
    }
    let newest = &listed[0];
    assert_eq!(newest["codec"], "PCMA");
    assert_eq!(newest["call"]["remote_name"], "Anne-Marie");
    assert_eq!(number(newest, "/duration_ms"), 60);
    assert_eq!(number(newest, "/size_bytes"), 76 + 3 * 160);
    assert_eq!(text(newest, "/file"), calls[2].file.file_name().unwrap().to_str().unwrap());
    assert!(newest["segment"].is_u64() && newest["start"].is_string(), "{newest}");
}

#[test]
fn a_list_can_be_read_page_by_page_and_searched() {
    let agent = Agent::start();
    let mut calls = three(&agent);
    let client = &mut calls[0].client;
    let all = list(client, json!({}));
    let first = list(client, json!({"limit": 2}));
    assert_eq!(first, all[..2]);
    let rest = list(client, json!({"limit": 2, "after": first[1]["file"]}));
    assert_eq!(rest, all[2..]);
    let found = list(client, json!({"query": "Ann"}));
    assert_eq!(found, [all[0].clone(), all[2].clone()]);
    assert_eq!(list(client, json!({"query": "4930"})), all[2..]);
    assert_eq!(list(client, json!({"query": "nobody"})), [Value::Null; 0]);
}

#[test]
fn a_deleted_recording_is_gone_with_its_sidecar() {
    let agent = Agent::start();
    let mut calls = three(&agent);
    let file = calls[1].file.clone();
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    let client = &mut calls[0].client;
    client.ok("recordings.info", json!({"file": name}));
    client.ok("recordings.delete", json!({"file": name}));
    assert!(!file.exists() && !file.with_extension("json").exists());
    assert_eq!(list(client, json!({})).len(), 2);
    client.refused_because("not_found", "recordings.info", json!({"file": name}));
    client.refused_because("not_found", "recordings.delete", json!({"file": name}));
}

#[test]
fn a_recording_in_progress_cannot_be_deleted() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(10);
    let name = call.file.file_name().unwrap().to_str().unwrap().to_owned();
    call.client.refused("recordings.delete", json!({"file": name}));
    call.finish_and_expect(&heard);
}

#[test]
fn files_outside_the_recording_folder_are_out_of_reach() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(3);
    call.stop();
    let outside = agent.storage().join("Record_outside.wav");
    std::fs::copy(&call.file, &outside).unwrap();
    let absolute = outside.to_str().unwrap();
    for path in ["../Record_outside.wav", absolute, "x/../../Record_outside.wav", "..", "", "\0"] {
        for method in ["recordings.info", "recordings.delete"] {
            call.client.refused(method, json!({"file": path}));
        }
    }
    assert!(outside.exists());
}

#[test]
fn a_file_without_sidecar_is_a_full_citizen() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::G722);
    call.speak(50);
    call.stop();
    std::fs::remove_file(call.file.with_extension("json")).unwrap();
    let listed = list(&mut call.client, json!({}));
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["codec"], "G722");
    assert_eq!(number(&listed[0], "/duration_ms"), 1000);
}

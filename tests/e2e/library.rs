//! The recordings on the stick: listed, told about, deleted.

use serde_json::{Value, json};

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use crate::support::agent::{output_of, recordctl};
use crate::support::{Agent, Call, Client, Codec, Setup, number, patience, text, wait_for, wait_until};

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

#[test]
fn the_index_is_made_anew_when_the_agent_starts() {
    let mut agent = Agent::start();
    let calls = three(&agent);
    drop(calls);
    let before = list(&mut agent.client(), json!({}));
    agent.terminate();
    agent.restart();
    let mut client = agent.client();
    let after = wait_for("the index", patience(), || {
        let answer = client.ok("recordings.list", json!({}));
        answer["indexing"].is_null().then(|| answer["recordings"].as_array().unwrap().clone())
    });
    assert_eq!(after, before);
}

#[test]
fn a_recording_is_listed_from_its_first_moment_and_grows() {
    let agent = Setup::new().set("storage", "flush_interval_ms", 200).start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let listed = list(&mut call.client, json!({}));
    assert_eq!(listed[0]["recording"], call.id.as_str());
    assert_eq!(number(&listed[0], "/duration_ms"), 0);
    call.speak(40);
    wait_until("the list to show what is on the disk", patience(), || {
        number(&list(&mut call.client, json!({}))[0], "/duration_ms") == 800
    });
    let mut update = call.params();
    update["call"] = json!({"remote_name": "Zoë"});
    call.client.ok("record.update", update);
    assert_eq!(list(&mut call.client, json!({"query": "zoë"})).len(), 1);
    call.finish();
    assert_eq!(list(&mut call.client, json!({"query": "ZOË"})).len(), 1);
}

#[test]
fn info_tells_everything_about_a_file() {
    let agent = Agent::start();
    let mut calls = three(&agent);
    let file = calls[2].file.file_name().unwrap().to_str().unwrap().to_owned();
    let info = calls[0].client.ok("recordings.info", json!({"file": file}));
    assert_eq!(info["file"], file.as_str());
    assert_eq!(info["recording"], calls[2].id.as_str());
    assert_eq!((number(&info, "/duration_ms"), number(&info, "/format/frames")), (60, 3));
    assert_eq!(number(&info, "/format/increment"), 160);
    assert_eq!(number(&info, "/sidecar/packets/received"), 3);
    assert_eq!(info["sidecar"]["end_reason"], "stopped");
    assert_eq!(info["problems"], json!([]));
}

#[test]
fn protection_is_noted_in_the_sidecar_and_shown() {
    let agent = Agent::start();
    let mut calls = three(&agent);
    let path = calls[1].file.clone();
    let file = path.file_name().unwrap().to_str().unwrap().to_owned();
    let before = crate::support::sidecar_of(&path);
    let client = &mut calls[0].client;
    let entry = client.ok("recordings.protect", json!({"file": file}));
    assert_eq!(entry["protected"], true);
    let mut expected = before.clone();
    expected["protected"] = json!(true);
    assert_eq!(crate::support::sidecar_of(&path), expected, "nothing else changes");
    assert_eq!(list(client, json!({}))[1]["protected"], true);
    client.ok("recordings.protect", json!({"file": file, "protected": false}));
    assert_eq!(crate::support::sidecar_of(&path), before);
    // A file without a sidecar gets one.
    std::fs::remove_file(path.with_extension("json")).unwrap();
    client.ok("recordings.protect", json!({"file": file}));
    let sidecar = crate::support::sidecar_of(&path);
    assert_eq!((&sidecar["protected"], number(&sidecar, "/duration_ms")), (&json!(true), 40));
    client.refused_because("not_found", "recordings.protect", json!({"file": "Record_nowhere.wav"}));
    let mut live = Call::start(&agent, Codec::Pcma);
    let name = live.file.file_name().unwrap().to_str().unwrap().to_owned();
    live.client.refused_because("invalid_state", "recordings.protect", json!({"file": name}));
}

#[test]
fn links_are_no_recordings() {
    let setup = Setup::new();
    let folder = setup.storage_path().join("Record");
    std::fs::create_dir(&folder).unwrap();
    let secret = setup.dir().join("Record_secret.wav");
    let mut octets = b"PCMA".to_vec();
    octets.resize(64, 0);
    octets.extend([160, 0, 0, 0, 160, 0, 0, 0, 0, 0, 0, 0]);
    std::fs::write(&secret, &octets).unwrap();
    symlink(&secret, folder.join("Record_link.wav")).unwrap();
    std::fs::create_dir(folder.join("Record_folder.wav")).unwrap();
    std::fs::write(folder.join("Record_real.wav"), &octets).unwrap();
    let agent = setup.start();
    let mut client = agent.client();
    wait_until("the index", patience(), || list(&mut client, json!({})).len() == 1);
    for file in ["Record_link.wav", "Record_folder.wav"] {
        for method in ["recordings.info", "recordings.delete", "recordings.protect"] {
            client.refused_because("not_found", method, json!({"file": file}));
        }
    }
    assert!(secret.exists() && folder.join("Record_link.wav").is_symlink());
}

#[test]
fn ten_thousand_recordings_are_listed_and_searched_in_less_than_100_ms() {
    const FILES: u64 = 10_000;
    let setup = Setup::new();
    let folder = setup.storage_path().join("Record");
    std::fs::create_dir(&folder).unwrap();
    let mut octets = b"PCMA".to_vec();
    octets.resize(64, 0);
    octets.extend([160, 0, 0, 0, 160, 0, 0, 0, 160, 0, 0, 0]);
    octets.resize(76 + 160, 0xD5);
    for n in 0..FILES {
        let (day, hour, minute, second) = (n / 1000 + 1, n / 60 % 24, n % 60, n / 1440 % 60);
        let stamp = format!("202601{day:02}-{hour:02}{minute:02}{second:02}");
        std::fs::write(folder.join(format!("Record_{stamp}-{}.wav", n + 2)), &octets).unwrap();
        let start = format!("2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}.250+03:00");
        let call = json!({"id": format!("call-{n}"), "direction": "in", "remote_number": format!("+4930{n:07}"),
            "remote_name": "Anna Berg", "local_number": "201", "local_name": "Reception"});
        let sidecar = json!({"recording": format!("{n:016x}"), "segment": 1, "start": start, "call": call,
            "state": "ended", "codec": "PCMA", "duration_ms": 20});
        std::fs::write(folder.join(format!("Record_{stamp}-{}.json", n + 2)), sidecar.to_string()).unwrap();
    }
    let begin = Instant::now();
    let mut agent = setup.start();
    let before_kib = agent.process_status("VmRSS");
    let mut client = agent.client();
    wait_until("the index", patience() * 6, || {
        client.ok("recordings.list", json!({"limit": 1}))["indexing"].is_null()
    });
    eprintln!("indexed in {:?}, from {before_kib} to {} KiB", begin.elapsed(), agent.process_status("VmRSS"));
    let limit = Duration::from_millis(if crate::support::agent::is_emulated() { 2000 } else { 100 });
    let timed = |client: &mut Client, params: Value| {
        let mut best = Duration::MAX;
        let mut found = Vec::new();
        // Other programs on this machine are not to be measured.
        for _ in 0..50 {
            let begin = Instant::now();
            found = list(client, params.clone());
            best = best.min(begin.elapsed());
            if best < limit {
                break;
            }
        }
        eprintln!("{} entries in {best:?}: {params}", found.len());
        assert!(best < limit, "{best:?}");
        found
    };
    assert_eq!(timed(&mut client, json!({})).len(), 100);
    let page = timed(&mut client, json!({"limit": 1000}));
    assert_eq!(page.len(), 1000);
    assert!(page.windows(2).all(|pair| text(&pair[0], "/start") >= text(&pair[1], "/start")));
    timed(&mut client, json!({"after": page[999]["file"]}));
    let mut all = page.clone();
    while let Some(last) = all.last().filter(|_| all.len() % 1000 == 0) {
        let next = list(&mut client, json!({"limit": 1000, "after": last["file"]}));
        if next.is_empty() {
            break;
        }
        all.extend(next);
    }
    assert_eq!(all.len() as u64, FILES, "every file once");
    assert_eq!(timed(&mut client, json!({"query": "+49300001234"})).len(), 1);
    assert_eq!(timed(&mut client, json!({"query": "nobody"})).len(), 0);
    assert!(agent.is_alive());
}

#[test]
fn recordctl_lists_protects_plays_and_deletes() {
    let agent = Agent::start();
    let mut call = three(&agent).remove(0);
    let name = call.file.file_name().unwrap().to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        let mut command = recordctl();
        let output = output_of(command.args(arguments).arg("--socket").arg(&agent.socket));
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (good, table) = run(&["list"]);
    assert!(good && table.contains(&name) && table.contains("Anne-Marie"), "{table}");
    let (good, table) = run(&["list", "Bert"]);
    assert!(good && table.contains("Bert") && !table.contains("Anna"), "{table}");
    assert!(run(&["protect", &name]).0);
    assert!(run(&["list"]).1.contains(&format!("{name} *")));
    let (good, said) = run(&["play", &name, "--rtp", "127.0.0.1:9"]);
    assert!(good, "{said}");
    let (good, said) = run(&["delete", &name]);
    assert!(good && said.contains("deleted"), "{said}");
    let (good, said) = run(&["delete", &name]);
    assert!(!good, "{said}");
    assert_eq!(list(&mut call.client, json!({})).len(), 2);
}

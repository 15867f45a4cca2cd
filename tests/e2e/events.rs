//! Events: their receivers, order and time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::is_emulated;
use crate::support::{Agent, Call, Client, Codec, Setup, number, patience, sidecar};

/// Every event that is there once a request made after it has been answered.
fn events_so_far(client: &mut Client) -> Vec<Value> {
    client.ok("agent.info", json!({}));
    std::iter::from_fn(|| client.next_event(Duration::from_millis(20))).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["method"].as_str().expect("a name")).collect()
}

#[test]
fn a_recording_announces_its_life() {
    let agent = Agent::start();
    let mut watcher = agent.subscribed_client();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(5);
    call.ok("record.pause");
    call.ok("record.resume");
    call.stop();
    let events = events_so_far(&mut watcher);
    let own: Vec<&str> = names(&events)
        .into_iter()
        .filter(|name| name.starts_with("recording.") && *name != "recording.progress")
        .collect();
    let expected = ["started", "media", "paused", "resumed", "ended"].map(|name| format!("recording.{name}"));
    assert_eq!(own, expected);
    for event in &events {
        assert_eq!(event["jsonrpc"], "2.0", "{event}");
        let about = text_or_null(&event["params"]["recording"]);
        assert!(about.is_none_or(|id| id == call.id), "{event}");
    }
}

fn text_or_null(value: &Value) -> Option<&str> {
    value.as_str()
}

#[test]
fn numbers_of_events_rise_by_one_for_each_client() {
    let agent = Agent::start();
    let mut early = agent.subscribed_client();
    for _ in 0..3 {
        Call::start(&agent, Codec::Pcma).stop();
    }
    let mut late = agent.subscribed_client();
    for _ in 0..3 {
        Call::start(&agent, Codec::Pcma).stop();
    }
    for (client, least) in [(&mut early, 12), (&mut late, 6)] {
        let events = events_so_far(client);
        assert!(events.len() >= least, "{:?}", names(&events));
        let numbers: Vec<u64> = events.iter().map(|event| number(event, "/params/seq")).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
}

#[test]
fn a_client_gets_the_events_it_asked_for_and_no_others() {
    let agent = Agent::start();
    let mut nothing = agent.client();
    let mut prefix = agent.client();
    prefix.ok("events.subscribe", json!({"types": ["recording.pa", "recording.ended"]}));
    let mut storage = agent.client();
    storage.ok("events.subscribe", json!({"types": ["storage."]}));
    let mut gone = agent.subscribed_client();
    gone.ok("events.unsubscribe", json!({}));
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(3);
    call.ok("record.pause");
    call.ok("record.resume");
    call.stop();
    assert_eq!(names(&events_so_far(&mut prefix)), ["recording.paused", "recording.ended"]);
    for silent in [&mut nothing, &mut storage, &mut gone] {
        assert_eq!(names(&events_so_far(silent)), [""; 0]);
    }
}

#[test]
fn progress_comes_each_second_while_media_flows() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak_in_real_time(175);
    let events = events_so_far(&mut call.client);
    let count = names(&events).iter().filter(|name| **name == "recording.progress").count();
    // 3.5 s; a busy machine may be a little late with anything.
    assert!((3..=4).contains(&count), "{:?}", names(&events));
    call.stop();
}

#[test]
fn progress_carries_the_status_of_the_recording() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcmu);
    call.speak(40);
    let progress = call.wait_event("recording.progress");
    assert_eq!(number(&progress, "/packets/received"), 40, "{progress}");
    assert!(number(&progress, "/elapsed_ms") >= 700, "{progress}");
    call.stop();
}

#[test]
fn the_end_is_announced_when_the_file_is_closed_and_not_before() {
    let agent = Agent::start();
    for codec in Codec::ALL {
        let mut call = Call::start(&agent, codec);
        let heard = call.speak(100);
        let ended = call.stop();
        // At once, without waiting for anything.
        let recording = crate::support::read_recording(&call.file);
        let sidecar = sidecar(&call.file).expect("a sidecar");
        recording.assert_finished(codec, &heard);
        assert!(sidecar["end_reason"].is_string(), "{sidecar}");
        assert!(ended["end_reason"].is_string(), "{ended}");
    }
}

#[test]
fn no_media_is_announced_after_five_seconds_without_a_packet() {
    let agent = Agent::start();
    let begin = std::time::Instant::now();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.wait_event("recording.no_media");
    let waited = begin.elapsed();
    let allowed = Duration::from_millis(4900)..Duration::from_millis(6500);
    assert!(allowed.contains(&waited), "after {waited:?}");
    // It is a warning: media that comes later is recorded.
    let heard = call.speak(10);
    call.finish_and_expect(&heard);
    let sidecar = crate::support::sidecar_of(&call.file);
    assert_ne!(sidecar["end_reason"], "no_media", "{sidecar}");
}

#[test]
fn a_client_may_hold_a_connection_for_requests_and_one_for_events() {
    let agent = Agent::start();
    let mut watcher = agent.subscribed_client();
    let mut requests = agent.client();
    let answer = requests.ok("record.start", json!({"mode": "local", "codec": "PCMA"}));
    let started = watcher.wait_event("recording.started", patience());
    assert_eq!(started["recording"], answer["recording"]);
    requests.ok("record.stop", json!({"recording": answer["recording"]}));
    watcher.wait_event("recording.ended", patience());
}

#[test]
fn every_client_is_told_of_every_recording_that_ends_with_the_process() {
    // The last file may be finished while clients are being told of the ones before: not in every round.
    for _ in 0..if is_emulated() { 1 } else { 10 } {
        let mut agent = Setup::new().set("rtp", "max_recordings", 8).start();
        let mut clients: Vec<Client> = (0..24).map(|_| agent.subscribed_client()).collect();
        for _ in 0..8 {
            clients[0].ok("record.start", json!({"codec": "PCMA"}));
        }
        assert!(agent.terminate().success());
        for client in &mut clients {
            for _ in 0..8 {
                let ended = client.wait_event("recording.ended", patience());
                assert_eq!(ended["end_reason"], "shutdown", "{ended}");
            }
        }
    }
}

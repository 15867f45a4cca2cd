//! The ending of a recording that a user interface is told, for every cause.

use std::time::Duration;

use serde_json::{Value, json};

use crate::media::send_srtp;
use crate::simulated_agent::{Simulation, record};
use crate::support::recording_file::wait_finished;
use crate::support::server::Server;
use crate::support::{Agent, Call, Client, Codec, RtpSource, Setup, number, patience, text, wait_until};

/// Outcome, reason, cause and text of the end, which every other way of asking tells alike.
fn end_of(client: &mut Client, event: &str) -> [Value; 4] {
    let told = client.wait_event(event, patience());
    let asked = client.ok("record.status", json!({"recording": told["recording"]}));
    let members = ["outcome", "reason", "cause", "text_key"];
    for member in members.into_iter().chain(["detail", "end_reason", "degraded"]) {
        assert!(told.get(member).is_some(), "no {member} in {told}");
        assert_eq!(told[member], asked[member], "{member}: {told}");
    }
    members.map(|member| told[member].clone())
}

fn expected(outcome: &str, reason: &str, cause: Option<&str>, text_key: Option<&str>) -> [Value; 4] {
    [json!(outcome), json!(reason), json!(cause), json!(text_key)]
}

#[test]
fn a_recording_that_is_stopped_is_complete_and_nothing_is_to_be_shown() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(20);
    let status = call.status();
    assert!(
        status.get("outcome").is_none() && status.get("text_key").is_none(),
        "it has not ended: {status}"
    );
    call.ok("record.stop");
    assert_eq!(end_of(&mut call.client, "recording.ended"), expected("complete", "stopped", None, None));
}

#[test]
fn a_recording_that_nobody_sent_to_has_nothing_and_says_so() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.client.wait_event("recording.started", patience());
    call.ok("record.stop");
    let nothing = expected("nothing", "stopped", None, Some("no_media"));
    assert_eq!(end_of(&mut call.client, "recording.ended"), nothing);
    assert!(wait_finished(&call.file).data.is_empty());
}

#[test]
fn a_codec_that_can_not_be_recorded_is_not_taken_for_a_good_recording() {
    let agent = Agent::start();
    let mut call = Call::start_with(&agent, Codec::Pcma, json!({"payload_type": 96}));
    call.speak(20);
    call.source.payload_type = 18;
    call.speak_in_real_time(90);
    call.client.wait_event_where("recording.media", patience(), |it| it["media"] == "wrong_payload_type");
    call.ok("record.stop");
    let partial = expected("partial", "stopped", None, Some("media_wrong_payload_type"));
    assert_eq!(end_of(&mut call.client, "recording.ended"), partial);
}

#[test]
fn audio_that_was_encrypted_is_not_kept_and_that_is_said() {
    let agent = Agent::start();
    for (clear, outcome) in [(20, "partial"), (0, "nothing")] {
        let mut call = Call::start(&agent, Codec::Pcma);
        call.speak(clear);
        send_srtp(&mut call, 40, 10);
        call.ok("record.stop");
        let end = end_of(&mut call.client, "recording.ended");
        assert_eq!(end, expected(outcome, "stopped", None, Some("media_encrypted")));
    }
}

#[test]
fn an_eject_is_an_order_and_the_end_of_the_agent_cuts_off() {
    let mut agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(20);
    call.client.ok("storage.eject", json!({}));
    assert_eq!(end_of(&mut call.client, "recording.ended"), expected("complete", "ejected", None, None));
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(20);
    assert!(agent.terminate().success());
    let ended = call.wait_ended();
    let told = ["outcome", "reason", "text_key"].map(|member| text(&ended, &format!("/{member}")).to_owned());
    assert_eq!(told, ["partial", "shutdown", "shutdown"], "{ended}");
}

/// A simulated stick in mid-call, to which the command happens.
fn with_a_stick_that(command: &str, event: &str) -> [Value; 4] {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    record(&mut client);
    wait_until("audio on the stick", patience(), || {
        number(&client.ok("stats.get", json!({})), "/written_bytes") > 0
    });
    simulation.set(command);
    end_of(&mut client, event)
}

#[test]
fn a_stick_that_is_full_pulled_write_protected_or_broken_is_told_apart_and_the_rest_of_the_call_is_missing() {
    let ends = [
        ("storage full", "recording.ended", "storage_full", "full", "storage_full"),
        ("storage pulled", "recording.failed", "storage_io", "pulled", "storage_pulled"),
        ("storage read_only", "recording.failed", "storage_read_only", "read_only", "storage_read_only"),
        ("storage failed", "recording.failed", "storage_io", "broken", "storage_broken"),
    ];
    for (command, event, reason, cause, text_key) in ends {
        let end = with_a_stick_that(command, event);
        assert_eq!(end, expected("partial", reason, Some(cause), Some(text_key)), "{command}");
    }
}

#[test]
fn a_stick_that_is_pulled_before_anything_was_written_leaves_nothing() {
    let simulation = Simulation::start_with("", "[storage]\nflush_interval_ms = 60000\n");
    let mut client = simulation.client();
    client.ok("record.start", json!({"codec": "PCMU"}));
    client.wait_event_where("recording.progress", patience(), |it| number(it, "/packets/received") > 10);
    simulation.set("storage pulled");
    let end = end_of(&mut client, "recording.failed");
    assert_eq!(end, expected("nothing", "storage_io", Some("pulled"), Some("storage_pulled")));
}

#[test]
fn a_stick_that_stalls_for_too_long_makes_a_recording_partial_and_the_status_says_when_it_goes_on() {
    let settings = "[rtp]\nmax_recordings = 1\n[storage]\nbuffer = \"64 KiB\"\nflush_interval_ms = 100\n";
    let simulation = Simulation::start_with("media off", settings);
    let mut client = simulation.client();
    let started = client.ok("record.start", json!({"codec": "PCMA"}));
    let port = u16::try_from(number(&started, "/rtp/port")).expect("a port");
    let mut source = RtpSource::new(([127, 0, 0, 1], port).into(), Codec::Pcma);
    let stalled =
        |client: &mut Client| client.ok("record.status", json!({}))["recordings"][0]["stalled"].clone();
    simulation.set("storage stalled");
    (0..50).for_each(|_| drop(source.send_next()));
    client.wait_event("recording.stalled", patience());
    assert_eq!(stalled(&mut client), true);
    // More than memory has room for waits in the socket until the stop takes it out.
    (0..600).for_each(|_| drop(source.send_next()));
    let stopping = client.ok("record.stop", json!({}));
    assert_eq!((&stopping["degraded"], stopping.get("outcome")), (&json!(true), None), "{stopping}");
    simulation.set("storage ok");
    let partial = expected("partial", "stopped", None, Some("audio_lost"));
    assert_eq!(end_of(&mut client, "recording.ended"), partial);
}

#[test]
fn a_stick_that_stalls_and_goes_on_costs_nothing_and_the_status_says_when() {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    record(&mut client);
    simulation.set("storage stalled");
    client.wait_event_where("recording.stalled", patience(), |it| it["stalled"] == true);
    simulation.set("storage ok");
    client.wait_event_where("recording.progress", patience(), |it| it["stalled"] == false);
    client.ok("record.stop", json!({}));
    assert_eq!(end_of(&mut client, "recording.ended"), expected("complete", "stopped", None, None));
}

/// A call to a server that behaves like `mode`, and `on_failure`.
fn call_to_server(mode: &str, more: &[&str], on_failure: &str) -> Option<(Agent, Server, Call)> {
    let server = Server::by_document(mode, more)?;
    let agent = Setup::new().uploads_to(server.addr).quoted("uplink", "on_failure", on_failure).start();
    let call = Call::start_with(&agent, Codec::Pcma, json!({"mode": "server"}));
    Some((agent, server, call))
}

#[test]
fn a_server_that_dies_leaves_a_part_and_one_that_dies_at_once_nothing() {
    for (packets, outcome) in [(30, "partial"), (0, "nothing")] {
        let Some((_agent, mut server, mut call)) = call_to_server("ok", &[], "stop") else { return };
        call.speak_in_real_time(packets);
        server.kill();
        let lost = call.wait_event("uplink.lost");
        assert_eq!(lost["text_key"], json!(null), "the failure tells: {lost}");
        let end = end_of(&mut call.client, "recording.failed");
        assert_eq!(end, expected(outcome, "uplink_lost", None, Some("uplink_lost")));
    }
}

#[test]
fn a_server_that_dies_is_shown_once_where_the_recording_goes_on_to_the_stick_and_nothing_is_missing() {
    let more = ["--after", "0.5"];
    let Some((_agent, _server, mut call)) = call_to_server("drop", &more, "local") else { return };
    call.speak_in_real_time(60);
    let lost = call.wait_event("uplink.lost");
    assert_eq!(lost["text_key"], "goes_on_locally", "{lost}");
    call.wait_event("recording.segment");
    call.speak(10);
    call.ok("record.stop");
    assert_eq!(end_of(&mut call.client, "recording.ended"), expected("complete", "stopped", None, None));
}

#[test]
fn audio_at_a_server_is_a_part_though_the_stick_that_the_call_went_on_to_has_nothing() {
    let more = ["--after", "0", "--packets", "20"];
    let Some(server) = Server::by_document("drop", &more) else { return };
    let settings = format!(
        "[storage]\nflush_interval_ms = 60000\n[uplink]\non_failure = \"local\"\nserver_addr = \"{}\"\nserver_port = {}\n",
        server.addr.ip(),
        server.addr.port()
    );
    let simulation = Simulation::start_with("", &settings);
    let mut client = simulation.client();
    client.ok("record.start", json!({"codec": "PCMA", "mode": "server"}));
    client.wait_event("recording.segment", patience());
    simulation.set("storage pulled");
    let end = end_of(&mut client, "recording.failed");
    assert_eq!(end, expected("partial", "storage_io", Some("pulled"), Some("storage_pulled")));
}

#[test]
fn a_server_that_ends_a_recording_cuts_it_off_in_words_of_its_own() {
    let more = ["--after", "0", "--packets", "10", "--reason", "quota used up"];
    let Some((_agent, _server, mut call)) = call_to_server("stop", &more, "stop") else { return };
    call.speak(10);
    let ended = call.wait_ended();
    assert_eq!(
        (&ended["detail"], &ended["outcome"]),
        (&json!("quota used up"), &json!("partial")),
        "{ended}"
    );
    assert_eq!(ended["reason"], "stopped_by_server", "{ended}");
    assert_eq!(ended["text_key"], "stopped_by_server", "{ended}");
}

#[test]
fn a_server_that_refuses_is_shown_in_its_own_words_by_the_answer() {
    let Some(server) = Server::by_document("failed", &["--reason", "no license left"]) else { return };
    let agent = Setup::new().uploads_to(server.addr).start();
    let mut client = agent.subscribed_client();
    let error = client.refused("record.start", json!({"mode": "server", "codec": "PCMA"})).whole;
    assert_eq!(text(&error, "/data/text_key"), "server_refused", "{error}");
    assert_eq!(text(&error, "/data/detail"), "no license left", "{error}");
    client.ok("agent.info", json!({}));
    let ends = std::iter::from_fn(|| client.next_event(Duration::from_millis(20)));
    let ends: Vec<Value> =
        ends.filter(|it| it["method"].as_str().is_some_and(|it| it.contains("recording"))).collect();
    assert_eq!(ends, [json!(null); 0], "what never began does not end");
}

#[test]
fn a_pbx_that_does_not_do_what_it_is_asked_has_texts_of_its_own() {
    let simulation = Simulation::start("sip 403");
    // A client that has subscribed to all events counts as a SIP stack, too.
    let mut asking = Client::connect(&simulation.path("socket"));
    wait_until("the PBX", patience(), || {
        asking.ok("agent.info", json!({}))["modes"].to_string().contains("sip-info")
    });
    let mut client = simulation.client();
    let start = json!({"codec": "PCMA", "mode": "sip-info"});
    let refused = client.refused("record.start", start.clone()).whole;
    assert_eq!(text(&refused, "/data/text_key"), "pbx_refused", "{refused}");
    let ends = [
        ("sip 200", "recording.ended", expected("complete", "stopped", None, None)),
        ("sip 481", "recording.ended", expected("complete", "stopped", None, None)),
        ("sip 403", "recording.failed", expected("complete", "server_refused", None, Some("pbx_refused"))),
        ("sip 501", "recording.failed", {
            expected("complete", "unsupported_by_server", None, Some("unsupported_by_server"))
        }),
    ];
    for (answer, event, end) in ends {
        simulation.set("sip 200");
        client.ok("record.start", start.clone());
        // It is recorded for a moment.
        client.wait_event("recording.progress", patience());
        simulation.set(answer);
        client.ok("record.stop", json!({}));
        assert_eq!(end_of(&mut client, event), end, "{answer}");
    }
}

#[test]
fn an_error_that_a_person_can_do_something_about_has_a_text_and_one_of_old_knowledge_has_none() {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    let codec = json!({"codec": "PCMA"});
    assert_eq!(client.refused("record.stop", json!({})).whole["data"].get("text_key"), None);
    simulation.set("storage full");
    client.wait_event_where("storage.state", patience(), |it| it["to"] == "full");
    assert_eq!(client.refused("record.start", codec.clone()).whole["data"]["text_key"], "storage_full");
    simulation.set("storage pulled");
    client.wait_event("storage.removed", patience());
    assert_eq!(client.refused("record.start", codec).whole["data"]["text_key"], "storage_pulled");
}

#[test]
fn a_playback_whose_stick_is_pulled_says_what_to_show_and_one_that_is_stopped_has_nothing_to_say() {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    record(&mut client);
    client.ok("record.stop", json!({}));
    let ended = client.wait_event("recording.ended", patience());
    let play = json!({"file": ended["file"], "rtp": {"addr": "127.0.0.1", "port": 40_404}});
    client.ok("play.start", play.clone());
    client.ok("play.stop", json!({}));
    assert_eq!(client.wait_event("playback.ended", patience())["text_key"], json!(null));
    client.ok("play.start", play);
    simulation.set("storage pulled");
    let ended = client.wait_event("playback.ended", patience());
    assert_eq!((&ended["end_reason"], &ended["text_key"]), (&json!("storage_io"), &json!("storage_pulled")));
}

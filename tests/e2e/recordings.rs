//! Recordings side by side, and requests about recordings that are not there.

use std::net::UdpSocket;

use serde_json::json;

use crate::support::{Agent, Call, Codec, Setup, number, read_recording, wait_until};

#[test]
fn recordings_side_by_side_do_not_mix() {
    let agent = Agent::start();
    let codecs = [Codec::Pcma, Codec::Pcmu, Codec::G722, Codec::Pcma];
    let mut calls: Vec<Call> = codecs.iter().map(|&codec| Call::start(&agent, codec)).collect();
    let mut heard = vec![Vec::new(); calls.len()];
    for round in 0..10 {
        for (index, call) in calls.iter_mut().enumerate() {
            // Different streams: each starts its payloads elsewhere.
            call.source.ssrc = index as u32 + 1;
            heard[index].extend(call.speak(3 + (index + round) % 4));
        }
    }
    for (call, heard) in calls.iter_mut().zip(&heard) {
        call.finish_and_expect(heard);
    }
}

#[test]
fn one_recording_too_many_is_refused_and_disturbs_none() {
    let agent = Setup::new().set("rtp", "max_recordings", 2).start();
    let mut first = Call::start(&agent, Codec::Pcma);
    let mut second = Call::start(&agent, Codec::Pcma);
    let mut heard = first.speak(5);
    let start = json!({"mode": "local", "codec": "PCMA"});
    first.client.refused_because("too_many_recordings", "record.start", start);
    heard.extend(first.speak(5));
    first.finish_and_expect(&heard);
    // Its place is free again.
    let mut third = Call::start(&agent, Codec::Pcma);
    let heard = third.speak(5);
    third.finish_and_expect(&heard);
    second.finish_and_expect(&[]);
    assert_eq!(agent.recordings().len(), 3, "the refused one left no file");
}

#[test]
fn a_fixed_port_is_used_and_counts_up_by_two() {
    let base = free_even_ports();
    let agent = Setup::new().set("rtp", "port", base).start();
    let mut first = Call::start(&agent, Codec::Pcma);
    let second = Call::start(&agent, Codec::Pcma);
    assert_eq!(first.rtp.port(), base);
    assert_eq!(second.rtp.port(), base + 2);
    first.stop();
    let again = Call::start(&agent, Codec::Pcma);
    assert_eq!(again.rtp.port(), base, "a freed port is used again");
}

/// A port N such that N and N+2 were free a moment ago.
fn free_even_ports() -> u16 {
    for _ in 0..100 {
        let probe = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() & !1;
        let free = |port| UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if probe < 65_000 && free(probe) && free(probe + 2) {
            return probe;
        }
    }
    panic!("no free ports");
}

#[test]
fn a_recording_goes_on_when_the_client_that_started_it_leaves() {
    let agent = Agent::start();
    let mut other = agent.subscribed_client();
    let mut starter = agent.client();
    let answer = starter.ok("record.start", json!({"mode": "local", "codec": "PCMA"}));
    let target = ("127.0.0.1", number(&answer, "/rtp/port") as u16);
    let target = std::net::ToSocketAddrs::to_socket_addrs(&target).unwrap().next().unwrap();
    let mut source = crate::support::RtpSource::new(target, Codec::Pcma);
    let mut heard = source.send_next();
    drop(starter);
    // The agent has seen the hang-up when it has answered a later request or two.
    for _ in 0..3 {
        other.ok("record.status", json!({}));
    }
    heard.extend(source.send_next());
    let status = other.ok("record.stop", json!({"recording": answer["recording"]}));
    assert_eq!(status["recording"], answer["recording"]);
    other.wait_event("recording.ended", crate::support::patience());
    read_recording(&agent.recordings()[0]).assert_finished(Codec::Pcma, &heard);
}

#[test]
fn an_unknown_recording_is_not_found() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let nobody = json!({"recording": "no-such-recording"});
    for method in ["record.pause", "record.resume", "record.stop", "record.status"] {
        call.client.refused_because("not_found", method, nobody.clone());
    }
    call.client.refused_because(
        "not_found",
        "record.update",
        json!({"recording": "no-such-recording", "call": {"remote_number": "1"}}),
    );
    call.finish_and_expect(&[]);
}

#[test]
fn nothing_can_be_paused_resumed_or_stopped_when_nothing_is_recorded() {
    let agent = Agent::start();
    let mut client = agent.client();
    for method in ["record.pause", "record.resume", "record.stop"] {
        client.refused_because("not_recording", method, json!({}));
    }
    let status = client.ok("record.status", json!({}));
    assert_eq!(status, json!({"recordings": []}));
}

#[test]
fn with_several_recordings_a_request_has_to_say_which() {
    let agent = Agent::start();
    let mut first = Call::start(&agent, Codec::Pcma);
    let mut second = Call::start(&agent, Codec::Pcma);
    first.client.refused("record.stop", json!({}));
    let heard = first.speak(3);
    first.finish_and_expect(&heard);
    second.finish_and_expect(&[]);
}

#[test]
fn a_stopped_recording_cannot_be_stopped_again() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.stop();
    let params = call.params();
    call.client.refused("record.stop", params);
    assert_eq!(call.client.ok("record.status", json!({})), json!({"recordings": []}));
}

#[test]
fn a_codec_that_cannot_be_recorded_is_refused_by_name() {
    let agent = Agent::start();
    let mut client = agent.client();
    for codec in ["opus", "G729", ""] {
        let start = json!({"mode": "local", "codec": codec});
        client.refused_because("unsupported_codec", "record.start", start);
    }
    assert!(agent.recordings().is_empty());
}

#[test]
fn server_recording_without_a_server_is_not_configured() {
    let agent = Agent::start();
    let start = json!({"mode": "server", "codec": "PCMA"});
    agent.client().refused_because("not_configured", "record.start", start);
}

#[test]
fn the_port_is_closed_when_the_recording_has_ended() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.stop();
    wait_until("the RTP port to be free", crate::support::patience(), || UdpSocket::bind(call.rtp).is_ok());
}

//! Pause is a fence, and paused time is not in the file.

use serde_json::json;

use crate::support::call::Books;
use crate::support::{Agent, Call, Codec, number, sidecar};

#[test]
fn audio_before_the_pause_is_kept_and_audio_after_it_is_not() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = Vec::new();
    for _ in 0..5 {
        heard.extend(call.speak(13));
        // Nothing reads the socket between the packets and the request but the request itself.
        let status = call.ok("record.pause");
        assert_eq!(status["state"], "paused", "{status}");
        for _ in 0..17 {
            call.source.send_next();
        }
        let status = call.ok("record.resume");
        assert_eq!(status["state"], "recording", "{status}");
    }
    heard.extend(call.speak(13));
    call.finish_and_expect(&heard);
}

#[test]
fn audio_sent_while_paused_is_no_part_of_the_file_even_if_the_status_is_asked_for_in_between() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::G722);
    let mut heard = call.speak(20);
    call.ok("record.pause");
    call.speak(150);
    let status = call.status();
    assert_eq!(status["state"], "paused", "{status}");
    assert_eq!(Books::of(&status).stored(), 20, "{status}");
    call.ok("record.resume");
    heard.extend(call.speak(20));
    let status = call.status();
    assert_eq!(Books::of(&status).stored(), 40, "{status}");
    assert_eq!(Books::of(&status).lost, 0, "{status}");
    call.finish_and_expect(&heard);
}

#[test]
fn a_long_pause_leaves_no_silence() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcmu);
    let mut heard = call.speak(20);
    call.ok("record.pause");
    // The stream went on for a minute somewhere else.
    call.source.lose(3000);
    call.ok("record.resume");
    heard.extend(call.speak(20));
    call.finish_and_expect(&heard);
}

#[test]
fn packets_held_back_for_reordering_are_in_the_file_before_the_pause() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    let (late, early) = (call.source.next_packet(), call.source.next_packet());
    call.source.send(&early.0);
    call.source.send(&late.0);
    heard.extend(late.1);
    heard.extend(early.1);
    call.ok("record.pause");
    call.source.lose(5);
    call.ok("record.resume");
    heard.extend(call.speak(10));
    call.finish_and_expect(&heard);
}

#[test]
fn a_paused_recording_can_be_stopped() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(10);
    call.ok("record.pause");
    call.speak(10);
    call.finish_and_expect(&heard);
}

#[test]
fn pauses_and_resumes_out_of_turn_are_invalid_in_that_state() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(5);
    let params = call.params();
    call.client.refused_because("invalid_state", "record.resume", params.clone());
    call.ok("record.pause");
    call.client.refused_because("invalid_state", "record.pause", params);
    call.ok("record.resume");
    heard.extend(call.speak(5));
    call.finish_and_expect(&heard);
}

#[test]
fn elapsed_time_leaves_pauses_out() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(50);
    call.ok("record.pause");
    call.speak(50);
    let elapsed = number(&call.status(), "/elapsed_ms");
    assert_eq!(elapsed, 1000, "50 packets of 20 ms before the pause");
    call.ok("record.resume");
    call.speak(25);
    let ended = call.ok("record.stop");
    assert_eq!(number(&ended, "/elapsed_ms"), 1500, "{ended}");
}

#[test]
fn the_recording_may_be_left_out_where_there_is_but_one() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(5);
    for method in ["record.pause", "record.resume", "record.stop"] {
        let status = call.client.ok(method, json!({}));
        assert_eq!(status["recording"], call.id.as_str(), "{method}: {status}");
    }
    call.wait_ended();
    crate::support::read_recording(&call.file).assert_finished(Codec::Pcma, &heard);
}

#[test]
fn a_pause_that_lasts_to_the_end_is_in_the_sidecar_too() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(10);
    call.ok("record.pause");
    call.finish();
    let pauses = &sidecar(&call.file).expect("a sidecar")["pauses"];
    assert_eq!(pauses.as_array().map(Vec::len), Some(1), "{pauses}");
    assert_eq!(pauses[0]["at_ms"], 200, "{pauses}");
}

//! The media on the RTP port: audio, nothing, encrypted packets, another codec, other payload types.

use crate::support::call::Books;
use crate::support::rtp_source::{packet, payload};
use crate::support::{Agent, Call, Codec, Random, number, read_recording, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn sidecar(call: &Call) -> Value {
    let path = call.file.with_extension("json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("a sidecar")).expect("JSON")
}

/// SRTP with a tag of `tag` octets: header in the clear, the rest like random octets.
pub(crate) fn send_srtp(call: &mut Call, packets: u64, tag: usize) {
    for _ in 0..packets {
        let (mut bytes, _) = call.source.next_packet();
        bytes.truncate(12);
        let mut random = Random(number_of(&bytes));
        bytes.extend((0..160 + tag).map(|_| random.next() as u8));
        call.source.send(&bytes);
    }
}

fn number_of(header: &[u8]) -> u64 {
    u64::from(u16::from_be_bytes([header[2], header[3]])) << 20
}

#[test]
fn srtp_is_told_at_once_and_recorded_as_silence_of_the_same_length() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    send_srtp(&mut call, 40, 10);
    let params = call.wait_event("recording.no_media");
    assert_eq!((&params["detail"], &params["media"]), (&json!("encrypted"), &json!("encrypted")), "{params}");
    assert_eq!(call.status()["media"], "encrypted");
    heard.extend(call.silence(40));
    heard.extend(call.speak(10));
    assert_eq!(call.status()["media"], "flowing");
    let books = Books::of(&call.status());
    assert_eq!(books, Books { received: 60, lost: 0, late: 0, duplicate: 0, dropped: 40 });
    assert_eq!(call.client.ok("stats.get", json!({}))["drops"]["encrypted"], 40);
    call.finish_and_expect(&heard);
}

#[test]
fn a_call_that_is_all_srtp_leaves_silence_and_no_noise() {
    for tag in [4, 10] {
        let agent = Agent::start();
        let mut call = Call::start(&agent, Codec::Pcmu);
        send_srtp(&mut call, 45, tag);
        call.status();
        let silence = call.silence(45);
        call.finish_and_expect(&silence);
    }
}

#[test]
fn packets_that_are_only_longer_than_their_step_are_audio() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    for number in 0..20_u16 {
        let octets: Vec<u8> = (0..170).map(|at| 0x50 + (at % 7) as u8).collect();
        call.source.send(&packet(8, number, u32::from(number) * 160, 1, &octets));
    }
    let status = call.status();
    assert_eq!(status["media"], "flowing", "{status}");
    call.stop();
    let encrypted = number(&call.client.ok("stats.get", json!({})), "/drops/encrypted");
    assert_eq!(encrypted, 0);
    assert!(read_recording(&call.file).data.len() >= 20 * 160);
}

#[test]
fn a_key_exchange_without_audio_is_hinted_at() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let dtls = [&[22, 254, 253, 0, 0][..], &[0; 60]].concat();
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[9; 12]].concat();
    call.source.send(&dtls);
    call.source.send(&stun);
    let params = call.wait_event("recording.no_media");
    assert_eq!((&params["detail"], &params["media"]), (&json!("handshake"), &json!("none")), "{params}");
    assert_eq!(call.client.ok("stats.get", json!({}))["drops"]["handshake"], 2);
}

#[test]
fn a_codec_that_is_not_recorded_is_named_as_what_it_is() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.source.payload_type = 18;
    call.source.octets = 20;
    for _ in 0..65 {
        call.source.send_next();
        std::thread::sleep(Duration::from_millis(20));
    }
    let params = call.wait_event("recording.media");
    assert_eq!(params["media"], "wrong_payload_type", "{params}");
    assert_eq!(call.wait_event("recording.no_media")["detail"], "wrong_payload_type");
}

#[test]
fn the_timer_runs_while_media_is_missing_and_the_level_does_not() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let status = call.status();
    assert_eq!((&status["media"], number(&status, "/elapsed_ms")), (&json!("none"), 0), "{status}");
    let mut heard = call.speak_in_real_time(60);
    let silent = Instant::now();
    std::thread::sleep(Duration::from_millis(2500));
    let missing = call.status();
    let elapsed = number(&missing, "/elapsed_ms");
    assert!((3000..60_000).contains(&elapsed), "{missing}");
    assert!(number(&missing, "/duration_ms") >= elapsed, "{missing}");
    assert_eq!(missing["level_dbfs"], Value::Null, "{missing}");
    assert_eq!(call.wait_event("recording.media")["media"], "flowing");
    assert_eq!(call.wait_event("recording.media")["media"], "none");
    assert_eq!(call.wait_event("recording.no_media")["media"], "none");
    let (before, timer) = (heard.len(), number(&call.status(), "/elapsed_ms"));
    assert!(timer > 4500, "{timer}");
    // Whole packets, so that the audio after them ends with a frame of the file.
    call.source.be_silent(silent.elapsed().as_millis() as u32 / 20 * 160);
    heard.extend(call.speak_in_real_time(10));
    assert_eq!(call.wait_event("recording.media")["media"], "flowing");
    let ended = call.stop();
    assert!(number(&ended, "/elapsed_ms") >= timer, "the silence is in the file: {ended}");
    assert_eq!(number(&ended, "/elapsed_ms") * 8, number(&ended, "/bytes"), "{ended}");
    let data = read_recording(&call.file).data;
    assert!(data.starts_with(&heard[..before]) && data.ends_with(&heard[before..]));
}

#[test]
fn a_status_says_all_that_a_user_interface_needs_that_starts_in_mid_call() {
    let agent = Agent::start();
    let who = json!({"id": "c1", "direction": "in", "remote_number": "+4930", "remote_name": "Anna"});
    let mut call = Call::start_with(&agent, Codec::G722, json!({"ptime_ms": 30, "call": who}));
    call.source.octets = 240;
    call.speak(5);
    let started = call.wait_event("recording.started");
    let one = call.status();
    let info = agent.client().ok("agent.info", json!({}));
    for status in [&started, &one, &info["recordings"][0]] {
        assert_eq!(status["rtp"], json!({"addr": "127.0.0.1", "port": call.rtp.port()}), "{status}");
        assert_eq!(status["call"]["remote_name"], "Anna", "{status}");
        assert_eq!((&status["codec"], &status["ptime_ms"]), (&json!("G722"), &json!(30)), "{status}");
        assert_eq!(status["payload_type"], 9, "{status}");
        assert!(text(status, "/started_at").ends_with("+03:00"), "{status}");
        number(status, "/duration_ms");
    }
    assert_eq!(started["media"], "none");
    assert_eq!(one["media"], "flowing");
}

#[test]
fn a_payload_type_that_the_start_names_carries_the_codec() {
    let agent = Agent::start();
    let mut call = Call::start_with(&agent, Codec::G722, json!({"payload_type": 101}));
    call.source.payload_type = 101;
    let heard = call.speak(20);
    let status = call.status();
    assert_eq!((&status["payload_type"], number(&status, "/packets/dropped")), (&json!(101), 0), "{status}");
    call.finish_and_expect(&heard);
    assert_eq!(sidecar(&call)["payload_type"], 101);
}

#[test]
fn an_unknown_dynamic_type_that_fits_the_codec_is_taken_from_its_first_packet_on() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.source.payload_type = 97;
    let heard = call.speak(30);
    let status = call.status();
    assert_eq!((&status["payload_type"], &status["media"]), (&json!(97), &json!("flowing")), "{status}");
    let books = Books::of(&status);
    assert_eq!(books, Books { received: 30, lost: 0, late: 0, duplicate: 0, dropped: 0 });
    call.finish_and_expect(&heard);
    assert_eq!(sidecar(&call)["payload_type"], 97);
}

#[test]
fn a_dynamic_type_beside_audio_or_of_another_shape_is_not_taken() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = Vec::new();
    for number in 0..30_u16 {
        heard.extend(call.source.send_next());
        // As long as the audio, and with its own numbers; and telephone events.
        call.source.send(&packet(98, number, u32::from(number) * 160, 7, &payload(9000, 160)));
        call.source.send(&packet(101, number, 5000, 7, &[5, 0, 0, 160]));
    }
    let status = call.status();
    assert_eq!(status["payload_type"], 8, "{status}");
    call.finish_and_expect(&heard);
    assert_eq!(sidecar(&call)["payload_type"], Value::Null);
}

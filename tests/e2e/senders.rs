//! The sender of the call: one local sender, and others that would like to be it, or are only in the way.

use crate::support::agent::is_emulated;
use crate::support::call::Books;
use crate::support::environment::skip_here;
use crate::support::rtp_source::payload;
use crate::support::{Agent, Call, Codec, RtpSource, Setup, number, packet, read_recording, wait_until};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Sends `datagram` to the call's port again and again, in bursts, until told to end.
fn flood(call: &Call, datagram: Vec<u8>, burst: u32) -> (Arc<AtomicBool>, JoinHandle<u64>) {
    let on = Arc::new(AtomicBool::new(true));
    let (goes_on, target) = (Arc::clone(&on), call.rtp);
    let thread = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut sent = 0;
        while goes_on.load(Ordering::Relaxed) {
            for _ in 0..burst {
                sent += u64::from(socket.send_to(&datagram, target).is_ok());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        sent
    });
    (on, thread)
}

/// A call under a flood that begins after its first packets: all of it is kept, and the flood counted apart.
fn expect_whole_call_under(datagram: Vec<u8>) {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak_in_real_time(10);
    let (on, thread) = flood(&call, datagram, 200);
    heard.extend(call.speak_in_real_time(150));
    on.store(false, Ordering::Relaxed);
    let sent = thread.join().expect("a flood");
    heard.extend(call.speak_in_real_time(60));
    let ended = call.stop();
    assert_eq!(Books::of(&ended).received, 220, "{ended} under {sent} packets");
    assert_eq!((&ended["contested"], &ended["degraded"]), (&json!(true), &json!(false)), "{ended}");
    assert!(number(&ended, "/packets/strangers") > 100, "{ended}");
    assert_eq!((Books::of(&ended).lost, Books::of(&ended).dropped), (0, 0), "{ended}");
    read_recording(&call.file).assert_finished(Codec::Pcma, &heard);
}

#[test]
fn a_flood_of_junk_by_another_process_costs_no_packet_of_the_call() {
    expect_whole_call_under(vec![b'x'; 20]);
}

#[test]
fn a_flood_of_rtp_by_another_process_costs_no_packet_of_the_call() {
    if is_emulated() {
        return skip_here(
            "an emulated agent is too slow for the flood's first packets, before it is kept out",
        );
    }
    expect_whole_call_under(packet(8, 1, 160, 0xEEEE, &[0x33; 160]));
}

#[test]
fn a_second_sender_with_the_ssrc_and_numbers_of_the_call_is_told_by_its_port() {
    if is_emulated() {
        return skip_here("an emulator does not pass on what the kernel counts (SO_RXQ_OVFL)");
    }
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak_in_real_time(30);
    let mut twin = RtpSource::new(call.rtp, Codec::Pcma);
    twin.seq = call.source.seq;
    twin.timestamp = call.source.timestamp;
    for number in 0..40_u32 {
        let (bytes, _) = twin.next_packet();
        twin.send(&[&bytes[..12], &payload(90_000 + number, 160)].concat());
        heard.extend(call.speak_in_real_time(1));
    }
    let ended = call.stop();
    assert_eq!(ended["contested"], true, "{ended}");
    read_recording(&call.file).assert_finished(Codec::Pcma, &heard);
}

#[test]
fn first_packets_that_overtake_each_other_are_all_recorded() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let (first, first_payload) = call.source.next_packet();
    let (second, second_payload) = call.source.next_packet();
    call.source.send(&second);
    call.source.send(&first);
    let heard = [first_payload, second_payload, call.speak_in_real_time(20)].concat();
    let ended = call.stop();
    assert_eq!((Books::of(&ended).received, Books::of(&ended).lost), (22, 0), "{ended}");
    read_recording(&call.file).assert_finished(Codec::Pcma, &heard);
}

#[test]
fn a_sender_that_restarts_at_another_port_is_taken_with_its_first_packets() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak_in_real_time(20);
    let mut again = RtpSource::new(call.rtp, Codec::Pcma);
    again.seq = call.source.seq;
    again.timestamp = call.source.timestamp;
    again.ssrc = call.source.ssrc;
    call.source = again;
    heard.extend(call.speak_in_real_time(60));
    let ended = call.stop();
    assert_eq!((number(&ended, "/packets/received"), &ended["contested"]), (80, &json!(false)), "{ended}");
    let data = read_recording(&call.file).data;
    // The new one numbers its payloads from 1 again.
    assert!(data == heard, "{} of {} octets", data.len(), heard.len());
}

#[test]
fn another_sender_has_the_call_after_the_first_one_was_silent_for_five_seconds() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak_in_real_time(110);
    let mut other = RtpSource::new(call.rtp, Codec::Pcma);
    other.ssrc = 0xBBBB;
    call.source = other;
    call.speak_in_real_time(100);
    assert_eq!(number(&call.status(), "/packets/received"), 110, "not yet");
    std::thread::sleep(Duration::from_millis(3200));
    call.speak_in_real_time(10);
    wait_until("the other sender", Duration::from_secs(5), || {
        call.speak_in_real_time(5);
        number(&call.status(), "/packets/received") > 115
    });
}

#[test]
fn a_sender_of_too_little_for_a_probation_is_taken_if_there_is_nobody_else() {
    let agent = Agent::start();
    for packets in [1, 2] {
        let mut call = Call::start(&agent, Codec::Pcma);
        let heard = call.speak(packets);
        wait_until("a packet", Duration::from_secs(5), || {
            number(&call.status(), "/packets/received") == packets as u64
        });
        call.finish_and_expect(&heard);
        let mut short = Call::start(&agent, Codec::Pcma);
        let heard = short.speak(packets);
        short.finish_and_expect(&heard);
    }
}

#[test]
fn the_first_packets_are_on_the_right_side_of_a_pause() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(2);
    call.ok("record.pause");
    call.speak(5);
    call.ok("record.resume");
    heard.extend(call.speak(5));
    let ended = call.stop();
    assert_eq!(ended["packets"]["strangers"], Value::from(0), "{ended}");
    read_recording(&call.file).assert_finished(Codec::Pcma, &heard);
}

#[test]
fn a_sender_that_begins_anew_during_a_pause_is_recorded_after_it() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let (seq, timestamp) = (call.source.seq, call.source.timestamp);
    let mut heard = call.speak_in_real_time(40);
    call.ok("record.pause");
    std::thread::sleep(Duration::from_millis(1200));
    call.ok("record.resume");
    (call.source.seq, call.source.timestamp) = (seq, timestamp);
    heard.extend(call.speak_in_real_time(40));
    let ended = call.stop();
    assert_eq!((Books::of(&ended).received, Books::of(&ended).duplicate), (80, 0), "{ended}");
    assert!(read_recording(&call.file).data == heard, "{ended}");
}

#[test]
fn a_sender_whose_numbers_are_never_in_sequence_is_recorded_from_its_first_packet() {
    let agent = Agent::start();
    for step in [0, 2, 160] {
        let mut call = Call::start(&agent, Codec::Pcma);
        let seq = call.source.seq;
        let mut heard = Vec::new();
        for packet in 0..70_u16 {
            call.source.seq = seq.wrapping_add(packet * step);
            // The first ones at once: if one of them were late, number and arrival would agree that one is
            // missing.
            let audio = if packet < 5 { call.speak(1) } else { call.speak_in_real_time(1) };
            heard.extend(audio);
        }
        let ended = call.stop();
        let said = (number(&ended, "/packets/strangers"), Books::of(&ended).lost, &ended["contested"]);
        assert_eq!(said, (0, 0, &json!(false)), "steps of {step}: {ended}");
        assert!(read_recording(&call.file).data == heard, "steps of {step}: {ended}");
    }
}

/// An agent with a fixed port.
fn agent_with_port() -> Agent {
    let port = UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address").port();
    Setup::new().set("rtp", "port", port).set("rtp", "max_recordings", 1).start()
}

/// Begins a recording on the port of the one before, and gives its file.
fn start_again(call: &mut Call, agent: &Agent, id: &str) -> PathBuf {
    let params = json!({"mode": "local", "codec": "PCMA", "call": {"id": id}});
    let answer = call.client.ok("record.start", params);
    assert_eq!(number(&answer, "/rtp/port"), u64::from(call.rtp.port()));
    call.id = answer["recording"].as_str().expect("an id").to_owned();
    agent.path_of(answer["file"].as_str().expect("a file"))
}

#[test]
fn packets_that_the_last_call_still_sends_to_a_fixed_port_are_not_in_the_next_calls_file() {
    for ids in [["", ""], ["one", "two"]] {
        let agent = agent_with_port();
        let mut call = Call::start_with(&agent, Codec::Pcma, json!({"call": {"id": ids[0]}}));
        call.speak_in_real_time(20);
        call.stop();
        let file = start_again(&mut call, &agent, ids[1]);
        // The last call's stream goes on for a moment, and still does when the next one's has begun.
        call.speak_in_real_time(15);
        let mut next = RtpSource::new(call.rtp, Codec::Pcma);
        (next.ssrc, next.seq) = (0xCCCC, 900);
        let mut heard = Vec::new();
        for _ in 0..60 {
            heard.extend(next.send_next());
            call.speak_in_real_time(1);
        }
        let ended = call.stop();
        assert_eq!(ended["contested"], true, "{ended}");
        read_recording(&file).assert_finished(Codec::Pcma, &heard);
    }
}

#[test]
fn the_same_stream_can_be_recorded_twice_on_a_fixed_port() {
    for (ids, packets) in [(["", ""], 10), (["", ""], 60), (["one", "one"], 10)] {
        let agent = agent_with_port();
        let mut call = Call::start_with(&agent, Codec::Pcma, json!({"call": {"id": ids[0]}}));
        call.speak_in_real_time(20);
        call.stop();
        let file = start_again(&mut call, &agent, ids[1]);
        let heard = call.speak_in_real_time(packets);
        let ended = call.stop();
        assert_eq!(ended["contested"], false, "{ended}");
        read_recording(&file).assert_finished(Codec::Pcma, &heard);
    }
}

//! Datagrams that are no part of the call: counted by cause, never stored.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::support::call::Books;
use crate::support::rtp_source::payload;
use crate::support::{Agent, Call, Client, Codec, Random, RtpSource, packet, read_recording};

/// Sends `bad` datagrams in the middle of a call and checks that they count as dropped, by a cause.
fn expect_dropped(bad: &[Vec<u8>]) {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    for bytes in bad {
        call.source.send(bytes);
    }
    heard.extend(call.speak(10));
    let dropped = bad.len() as u64;
    let books = Books::of(&call.status());
    let expected = Books { received: 20 + dropped, lost: 0, late: 0, duplicate: 0, dropped };
    assert_eq!(books, expected);
    assert_eq!(drops_by_cause(&mut call.client), dropped, "the causes add up");
    call.finish_and_expect(&heard);
}

/// The sum of the drops that `stats.get` lists by cause.
fn drops_by_cause(client: &mut Client) -> u64 {
    let stats = client.ok("stats.get", serde_json::json!({}));
    let causes = find_drops(&stats).unwrap_or_else(|| panic!("no drops by cause in {stats}"));
    causes.iter().map(|(cause, count)| count.as_u64().unwrap_or_else(|| panic!("{cause}"))).sum()
}

fn find_drops(value: &Value) -> Option<&serde_json::Map<String, Value>> {
    let fields = value.as_object()?;
    let named = fields.iter().find(|(key, value)| key.contains("drop") && value.is_object());
    match named {
        Some((_, causes)) => causes.as_object(),
        None => fields.values().find_map(find_drops),
    }
}

#[test]
fn garbage_is_dropped() {
    let mut random = Random(1);
    let mut garbage: Vec<Vec<u8>> =
        (0..10).map(|_| (0..random.between(1, 300)).map(|_| random.next() as u8 & 0x3F).collect()).collect();
    garbage.push(b"INVITE sip:100@192.0.2.1 SIP/2.0\r\n\r\n".to_vec());
    expect_dropped(&garbage);
}

#[test]
fn an_empty_datagram_is_dropped() {
    expect_dropped(&[Vec::new()]);
}

#[test]
fn truncated_headers_are_dropped() {
    let whole = packet(8, 4721, 1_001_600, 0x5EED_0001, &[]);
    let mut cut: Vec<Vec<u8>> = (1..12).map(|length| whole[..length].to_vec()).collect();
    // Fifteen CSRCs, an extension and a padding count that are longer than the packet.
    let mut contributors = packet(8, 4721, 1_001_600, 0x5EED_0001, &[0x55; 20]);
    contributors[0] = 0x8F;
    let mut extension = packet(8, 4721, 1_001_600, 0x5EED_0001, &[0xBE, 0xDE, 0xFF, 0xFF, 1, 2]);
    extension[0] = 0x90;
    let mut padding = packet(8, 4721, 1_001_600, 0x5EED_0001, &[0xFF; 100]);
    padding[0] = 0xA0;
    cut.extend([contributors, extension, padding]);
    expect_dropped(&cut);
}

#[test]
fn other_rtp_versions_are_dropped() {
    let versions = [0x00, 0x40, 0xC0].map(|version| {
        let mut bytes = packet(8, 4721, 1_001_600, 0x5EED_0001, &payload(9999, 160));
        bytes[0] = version;
        bytes
    });
    expect_dropped(&versions);
}

#[test]
fn payload_types_that_cannot_be_recorded_are_dropped() {
    // GSM, G.729, H.263 and a telephone-event; sequence numbers outside those of the call.
    let foreign =
        [3, 18, 34, 101].map(|payload_type| packet(payload_type, 4500, 1_001_600, 0x5EED_0001, &[0x11; 33]));
    expect_dropped(&foreign);
}

#[test]
fn rtp_from_another_host_than_the_first_is_a_strangers() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    call.status();
    let mut stranger = RtpSource::from_host(Ipv4Addr::new(127, 0, 0, 2), call.rtp, Codec::Pcma);
    // Even with the call's own SSRC and numbers.
    stranger.seq = call.source.seq;
    stranger.timestamp = call.source.timestamp;
    for _ in 0..5 {
        stranger.send_next();
    }
    heard.extend(call.speak(10));
    let ended = call.stop();
    assert_eq!(Books::of(&ended), Books { received: 20, lost: 0, late: 0, duplicate: 0, dropped: 0 });
    assert_eq!((&ended["packets"]["strangers"], &ended["contested"]), (&json!(5), &json!(true)), "{ended}");
    assert_eq!(drops_by_cause(&mut call.client), 5);
    read_recording(&call.file).assert_finished(Codec::Pcma, &heard);
    let sidecar: Value =
        serde_json::from_str(&std::fs::read_to_string(call.file.with_extension("json")).unwrap()).unwrap();
    let told = (&sidecar["packets"]["strangers"], &sidecar["contested"]);
    assert_eq!(told, (&json!(5), &json!(true)), "{sidecar}");
}

#[test]
fn the_payload_is_what_remains_without_contributors_extension_and_padding() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(5);
    let dressed = payload(5000, 160);
    let mut bytes = packet(8, call.source.seq, call.source.timestamp, call.source.ssrc, &[]);
    // Padding, extension, two CSRCs; marker bit.
    bytes[0] = 0xB2;
    bytes[1] |= 0x80;
    bytes.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    bytes.extend([0xBE, 0xDE, 0, 1, 0x10, 0xAA, 0, 0]);
    bytes.extend(&dressed);
    bytes.extend([0, 0, 0, 4]);
    call.source.send(&bytes);
    call.source.lose(1);
    heard.extend(dressed);
    heard.extend(call.speak(5));
    let books = Books::of(&call.status());
    assert_eq!(books, Books { received: 11, lost: 0, late: 0, duplicate: 0, dropped: 0 });
    call.finish_and_expect(&heard);
}

#[test]
fn a_recording_of_nothing_but_garbage_is_empty() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    for _ in 0..20 {
        call.source.send(b"not RTP at all");
    }
    let books = Books::of(&call.status());
    assert_eq!((books.received, books.stored()), (20, 0));
    call.finish_and_expect(&[]);
}

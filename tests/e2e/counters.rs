//! Senders and networks that get sequence numbers, timestamps and time wrong, in real time: the file and the
//! counts. `docs/file-format.md`, "What senders do", says the same as a table.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::call::Books;
use crate::support::rtp_source::{packet, payload};
use crate::support::{Agent, Call, Codec, number, sidecar_of};

const PACKET: Duration = Duration::from_millis(20);

/// A call whose sender counts `ticks` for a packet of 160 octets.
struct Sender {
    call: Call,
    ticks: u32,
    spoken: u32,
}

impl Sender {
    fn start(agent: &Agent, codec: Codec, ticks: u32) -> Self {
        Self { call: Call::start(agent, codec), ticks, spoken: 0 }
    }

    /// Sends `packets` packets, `pace` apart; gives their payloads.
    fn speak(&mut self, packets: u32, pace: Duration) -> Vec<u8> {
        let mut heard = Vec::new();
        for _ in 0..packets {
            self.spoken += 1;
            let audio = payload(self.spoken, 160);
            let source = &self.call.source;
            let octets = packet(source.payload_type, source.seq, source.timestamp, source.ssrc, &audio);
            source.send(&octets);
            self.call.source.seq = self.call.source.seq.wrapping_add(1);
            self.call.source.timestamp = self.call.source.timestamp.wrapping_add(self.ticks);
            heard.extend(audio);
            std::thread::sleep(pace);
        }
        heard
    }

    fn send(&self, octets: &[u8]) {
        self.call.source.send(octets);
    }

    /// Stops; gives the audio and the sidecar.
    fn finish(mut self) -> (Vec<u8>, Value) {
        let file = self.call.finish();
        (file.data, sidecar_of(&self.call.file))
    }
}

/// Fails unless `audio` is `before`, silence of about `span`, and `after`.
fn assert_held(audio: &[u8], codec: Codec, before: &[u8], span: Duration, after: &[u8]) {
    assert!(audio.starts_with(before), "the audio before is whole");
    assert!(audio.ends_with(after), "the audio after is whole");
    let silence = &audio[before.len()..audio.len() - after.len()];
    assert!(silence == codec.silence(silence.len()), "there is nothing but silence in between");
    let ms = Duration::from_millis(silence.len() as u64 / 8);
    // A busy machine sleeps longer.
    assert!(ms + PACKET >= span && ms <= span + Duration::from_millis(400), "{ms:?} of silence for {span:?}");
}

#[test]
fn another_clock_rate_for_the_whole_call_costs_no_time() {
    let agent = Agent::start();
    for (codec, ticks) in [(Codec::G722, 320), (Codec::Pcma, 168), (Codec::Pcmu, 80), (Codec::Pcma, 960)] {
        let mut sender = Sender::start(&agent, codec, ticks);
        let heard = sender.speak(50, PACKET);
        let (audio, sidecar) = sender.finish();
        assert!(audio == heard, "{ticks} ticks: {} octets of {}", audio.len(), heard.len());
        assert_eq!((number(&sidecar, "/packets/lost"), &sidecar["gaps_total"]), (0, &json!(0)), "{sidecar}");
    }
}

#[test]
fn another_clock_rate_for_the_first_packets_costs_no_time() {
    let agent = Agent::start();
    let mut sender = Sender::start(&agent, Codec::G722, 320);
    let mut heard = sender.speak(15, PACKET);
    sender.ticks = 160;
    heard.extend(sender.speak(35, PACKET));
    assert!(sender.finish().0 == heard);
}

#[test]
fn a_hold_with_standing_timestamps_is_silence_of_its_length() {
    let agent = Agent::start();
    for noise in [false, true] {
        let mut sender = Sender::start(&agent, Codec::Pcma, 160);
        let before = sender.speak(30, PACKET);
        let span = Duration::from_millis(1200);
        if noise {
            std::thread::sleep(span / 2);
            let source = &mut sender.call.source;
            let octets = packet(13, source.seq, source.timestamp, source.ssrc, &[0x40]);
            source.seq = source.seq.wrapping_add(1);
            source.send(&octets);
            std::thread::sleep(span / 2);
        } else {
            std::thread::sleep(span);
        }
        let after = sender.speak(30, PACKET);
        let (audio, sidecar) = sender.finish();
        assert_held(&audio, Codec::Pcma, &before, span, &after);
        assert_eq!(sidecar["gaps"][0]["cause"], "hold", "{sidecar}");
        assert_eq!(number(&sidecar, "/packets/lost"), 0, "{sidecar}");
    }
}

#[test]
fn a_network_that_stands_still_costs_neither_audio_nor_time() {
    let agent = Agent::start();
    let mut sender = Sender::start(&agent, Codec::Pcmu, 160);
    let mut heard = sender.speak(20, PACKET);
    std::thread::sleep(Duration::from_millis(1000));
    // All that was held back, at once, and on.
    heard.extend(sender.speak(50, Duration::ZERO));
    heard.extend(sender.speak(20, PACKET));
    let (audio, sidecar) = sender.finish();
    assert!(audio == heard, "{} octets of {}: {sidecar}", audio.len(), heard.len());
    assert_eq!(sidecar["gaps_total"], 0, "{sidecar}");
}

/// The stream begins anew after a hold, from the numbers that it began with.
fn begin_anew(agent: &Agent, sequence: bool, timestamp: bool) {
    let mut sender = Sender::start(agent, Codec::Pcma, 160);
    let (first_seq, first_timestamp) = (sender.call.source.seq, sender.call.source.timestamp);
    let before = sender.speak(30, PACKET);
    let span = Duration::from_millis(1300);
    std::thread::sleep(span);
    if sequence {
        sender.call.source.seq = first_seq;
    }
    if timestamp {
        sender.call.source.timestamp = first_timestamp;
    }
    let after = sender.speak(30, PACKET);
    let (audio, sidecar) = sender.finish();
    assert_held(&audio, Codec::Pcma, &before, span, &after);
    let books = Books::of(&sidecar);
    assert_eq!(books, Books { received: 60, lost: 0, late: 0, duplicate: 0, dropped: 0 }, "{sidecar}");
}

#[test]
fn the_same_ssrc_that_begins_anew_by_both_counters_is_recorded() {
    begin_anew(&Agent::start(), true, true);
}

#[test]
fn the_same_ssrc_that_begins_anew_by_one_counter_is_recorded() {
    let agent = Agent::start();
    begin_anew(&agent, true, false);
    begin_anew(&agent, false, true);
}

#[test]
fn stray_timestamps_cost_no_time() {
    let agent = Agent::start();
    let mut sender = Sender::start(&agent, Codec::Pcma, 160);
    let mut heard = Vec::new();
    for stray in [0, 1_000_000 + 40_000, 0xF000_0000] {
        heard.extend(sender.speak(15, PACKET));
        let right = sender.call.source.timestamp;
        sender.call.source.timestamp = stray;
        heard.extend(sender.speak(1, PACKET));
        sender.call.source.timestamp = right + 160;
    }
    heard.extend(sender.speak(15, PACKET));
    let (audio, sidecar) = sender.finish();
    assert!(audio == heard, "{} octets of {}: {sidecar}", audio.len(), heard.len());
    assert_eq!(Books::of(&sidecar).dropped, 0);
}

#[test]
fn packets_that_are_no_audio_are_not_lost() {
    let agent = Agent::start();
    let mut sender = Sender::start(&agent, Codec::Pcma, 160);
    let mut heard = sender.speak(10, PACKET);
    // RTCP of all types, whole and of reduced size.
    for kind in 200..=207 {
        sender.send(&[0x81, kind, 0, 1, 0, 0, 0, 7]);
        sender.send(&[
            0x80, kind, 0, 6, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
    }
    heard.extend(sender.speak(10, PACKET));
    // Events with numbers of their own, and with those of the stream; an empty packet, and one of padding
    // alone.
    for event in 0..5 {
        let (timestamp, ssrc) = (sender.call.source.timestamp, sender.call.source.ssrc);
        sender.send(&packet(101, 40_000 + event, timestamp, ssrc, &[1, 10, 0, 160]));
        heard.extend(sender.speak(2, PACKET));
        let (seq, timestamp) = (sender.call.source.seq, sender.call.source.timestamp);
        sender.send(&packet(101, seq, timestamp, ssrc, &[1, 10, 0, 160]));
        sender.send(&packet(8, seq.wrapping_add(1), timestamp, ssrc, &[]));
        let mut padding = packet(8, seq.wrapping_add(2), timestamp, ssrc, &[0, 0, 0, 4]);
        padding[0] |= 0x20;
        sender.send(&padding);
        sender.call.source.seq = seq.wrapping_add(3);
    }
    heard.extend(sender.speak(10, PACKET));
    let status = sender.call.status();
    assert_eq!(
        Books::of(&status),
        Books { received: 76, lost: 0, late: 0, duplicate: 0, dropped: 36 },
        "{status}"
    );
    let drops = sender.call.client.ok("stats.get", json!({}))["drops"].clone();
    let count = |cause: &str| number(&drops, &format!("/{cause}"));
    assert_eq!((count("rtcp"), count("payload_type"), count("empty")), (16, 10, 10), "{drops}");
    assert!(sender.finish().0 == heard);
}

#[test]
fn a_padding_count_of_zero_is_payload_and_counted() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(5);
    for _ in 0..5 {
        let (mut octets, mut audio) = call.source.next_packet();
        octets[0] |= 0x20;
        *octets.last_mut().expect("a payload") = 0;
        *audio.last_mut().expect("a payload") = 0;
        call.source.send(&octets);
        heard.extend(audio);
    }
    heard.extend(call.speak(5));
    call.status();
    assert_eq!(call.client.ok("stats.get", json!({}))["odd_padding"], 5);
    call.finish_and_expect(&heard);
}

#[test]
fn a_jump_of_both_counters_while_no_time_passes_is_neither_silence_nor_loss() {
    let agent = Agent::start();
    let mut sender = Sender::start(&agent, Codec::Pcma, 160);
    let mut heard = sender.speak(20, PACKET);
    sender.call.source.seq = sender.call.source.seq.wrapping_add(500);
    sender.call.source.timestamp = sender.call.source.timestamp.wrapping_add(500 * 160);
    heard.extend(sender.speak(20, PACKET));
    let (audio, sidecar) = sender.finish();
    assert!(audio == heard, "{} octets of {}: {sidecar}", audio.len(), heard.len());
    assert_eq!(Books::of(&sidecar), Books { received: 40, lost: 0, late: 0, duplicate: 0, dropped: 0 });
}

#[test]
fn silence_that_a_sender_claims_is_bounded_by_the_clock() {
    let agent = Agent::start();
    for step in [79_840, 7_840] {
        let mut call = Call::start(&agent, Codec::Pcma);
        for _ in 0..100 {
            call.source.send_next();
            // Both counters, or the timestamp alone.
            call.source.be_silent(step);
            call.source.seq = call.source.seq.wrapping_add(if step < 8000 { 49 } else { 0 });
            std::thread::sleep(Duration::from_millis(5));
        }
        let elapsed_ms = number(&call.status(), "/elapsed_ms");
        // 2 s of audio, silence of 5 s and an eighth of half a second, as a busy machine stretches it.
        assert!(elapsed_ms < 10_000, "{elapsed_ms} ms claimed");
        call.stop();
    }
}

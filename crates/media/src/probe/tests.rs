//! The probe's verdict on senders: speech, noise and ciphers, with and without a tag.

use super::*;
use std::path::Path;

const SPEECH: [&str; 3] = ["speech.al", "speech.ul", "speech.g722"];

fn speech(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/media").join(name);
    std::fs::read(path).unwrap()
}

/// Octets as good as those of a cipher.
fn random(octets: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).to_le_bytes()[0]
    };
    (0..octets).map(|_| next()).collect()
}

fn ms(ms: u64) -> Mono {
    Mono::new(Duration::from_millis(ms))
}

/// A sender whose packets go through a probe one after another, 20 ms apart.
struct Bench {
    probe: Probe,
    number: u16,
    /// Packets that were passed on as audio, and those that silence stands for.
    audio: Vec<u16>,
    silenced: Vec<u16>,
    silence_octets: usize,
}

impl Bench {
    fn new() -> Self {
        let probe = Probe::new(20, Mono::default());
        Self { probe, number: 0, audio: Vec::new(), silenced: Vec::new(), silence_octets: 0 }
    }

    fn now(&self) -> Mono {
        ms(u64::from(self.number) * 20)
    }

    fn send(&mut self, payload: &[u8], ssrc: u32) {
        let packet = Packet {
            payload_type: PayloadType(8),
            seq: SeqNo(self.number),
            timestamp: RtpTimestamp(u32::from(self.number) * 160),
            ssrc: Ssrc(ssrc),
            payload,
        };
        let arrival = self.now();
        self.number += 1;
        match self.probe.look(&packet, arrival) {
            Look::Held => {}
            Look::Clear => {
                self.probe.take_held(|early, _, _| self.audio.push(early.seq.0));
                self.audio.push(packet.seq.0);
                self.probe.hear(arrival);
            }
            Look::Encrypted(octets) => {
                self.probe.take_held(|early, octets, _| {
                    self.silenced.push(early.seq.0);
                    self.silence_octets += octets;
                });
                self.silenced.push(packet.seq.0);
                self.silence_octets += octets;
            }
        }
    }

    /// Sends all of `octets` in packets of 20 ms that are `extra` octets longer.
    fn send_all(&mut self, octets: &[u8], extra: usize) {
        octets.chunks_exact(160 + extra).for_each(|payload| self.send(payload, 1));
    }
}

#[test]
fn srtp_is_told_before_any_of_it_is_taken_for_audio() {
    for tag in TAG_OCTETS {
        let mut bench = Bench::new();
        bench.send_all(&random((160 + tag) * 100, 7), tag);
        assert_eq!(bench.probe.media(), Media::Encrypted, "{tag}");
        assert_eq!(bench.probe.detail(), Some("encrypted"));
        assert_eq!((bench.audio.len(), bench.silenced.len()), (0, 100), "{tag}");
        assert_eq!(bench.silence_octets, 100 * 160, "silence is as long as the audio would be");
    }
}

#[test]
fn no_cipher_passes_for_audio_whatever_its_key() {
    for seed in 0..200 {
        let mut bench = Bench::new();
        bench.send_all(&random(170 * 12, seed), 10);
        assert_eq!(bench.probe.media(), Media::Encrypted, "seed {seed}");
    }
}

#[test]
fn random_octets_without_a_tag_are_audio() {
    let mut bench = Bench::new();
    bench.send_all(&random(160 * 500, 3), 0);
    assert_eq!((bench.audio.len(), bench.silenced.len()), (500, 0));
    assert_eq!(bench.probe.media(), Media::Flowing);
}

#[test]
fn speech_is_audio_in_packets_that_are_longer_by_a_tag_too() {
    for name in SPEECH {
        let octets = speech(name);
        for tag in TAG_OCTETS {
            let mut bench = Bench::new();
            bench.send_all(&octets, tag);
            assert!(bench.silenced.is_empty(), "{name}, {tag}");
            let sent: Vec<u16> = (0..bench.number).collect();
            bench.probe.take_held(|early, _, _| bench.audio.push(early.seq.0));
            assert_eq!(bench.audio, sent, "{name}, {tag}: all of it, in order");
        }
    }
}

#[test]
fn white_noise_in_g711_is_audio_at_every_level() {
    // Every sample value is as likely as any other, up to the level; an encoder makes octets of them.
    let encode = |sample: i32| {
        let table = |octet: &u8| (i32::from(audio_codec_algorithms::decode_alaw(*octet)) - sample).abs();
        (0..=255_u8).min_by_key(table).unwrap()
    };
    for level in [300, 3_000, 12_000, 32_000] {
        let noise = random(170 * 8 * 2, 11);
        let samples = noise.chunks_exact(2).map(|pair| i32::from(i16::from_le_bytes([pair[0], pair[1]])));
        let octets: Vec<u8> = samples.map(|sample| encode(sample * level / 32_768)).collect();
        let mut bench = Bench::new();
        bench.send_all(&octets, 10);
        assert!(bench.silenced.is_empty(), "level {level}");
    }
}

#[test]
fn a_sender_that_begins_to_encrypt_in_mid_call_is_noticed_and_so_is_its_end() {
    let mut bench = Bench::new();
    let clear = speech("speech.al");
    bench.send_all(&clear[..160 * 50], 0);
    bench.send_all(&random(170 * 50, 5), 10);
    assert_eq!((bench.audio.len(), bench.silenced.len()), (50, 50));
    assert!(bench.probe.take_change());
    bench.send_all(&clear[..160 * 50], 0);
    assert_eq!((bench.audio.len(), bench.silenced.len()), (100, 50), "nothing in the clear is lost");
    assert_eq!(bench.probe.media(), Media::Flowing);
    assert!(bench.probe.take_change());
    assert!(!bench.probe.take_change());
}

#[test]
fn a_lost_packet_and_another_ssrc_change_nothing_about_a_cipher() {
    let mut bench = Bench::new();
    let octets = random(170 * 60, 9);
    for (index, payload) in octets.chunks_exact(170).enumerate() {
        bench.number += u16::from(index % 7 == 3);
        bench.send(payload, if index < 30 { 1 } else { 2 });
    }
    assert_eq!((bench.audio.len(), bench.silenced.len()), (0, 60));
}

#[test]
fn nothing_for_five_seconds_is_no_media_and_the_next_packet_is_media() {
    let mut bench = Bench::new();
    assert_eq!(bench.probe.media(), Media::None, "nothing has come yet");
    bench.send(&[7; 160], 1);
    assert!(bench.probe.take_change());
    let due = bench.probe.deadline().unwrap();
    assert_eq!(due, ms(5000));
    bench.probe.tick(ms(4999));
    assert_eq!(bench.probe.media(), Media::Flowing);
    bench.probe.tick(due);
    assert_eq!((bench.probe.media(), bench.probe.deadline()), (Media::None, None));
    assert_eq!(bench.probe.missing(ms(9000)), Some(Duration::from_secs(9)));
    bench.number = 500;
    bench.send(&[7; 160], 1);
    assert_eq!(bench.probe.media(), Media::Flowing);
}

fn other(payload_type: u8, octets: &[u8]) -> Packet<'_> {
    Packet {
        payload_type: PayloadType(payload_type),
        seq: SeqNo(1),
        timestamp: RtpTimestamp(1),
        ssrc: Ssrc(1),
        payload: octets,
    }
}

/// The probe's verdict on 3 s of packets of another type, beside audio or not.
fn beside(payload_type: u8, octets: usize, audio: bool) -> Media {
    let mut bench = Bench::new();
    for number in 0..150 {
        bench.probe.pass_over(&other(payload_type, &vec![1; octets]), ms(number * 20));
        if audio {
            bench.send(&[7; 160], 1);
        }
    }
    bench.probe.media()
}

#[test]
fn a_codec_that_is_not_recorded_is_told_after_a_second() {
    assert_eq!(beside(18, 20, false), Media::WrongPayloadType);
    assert_eq!(beside(111, 80, false), Media::WrongPayloadType);
    assert_eq!(beside(18, 20, true), Media::Flowing);
}

#[test]
fn events_and_comfort_noise_are_no_other_codec() {
    assert_eq!(beside(101, 4, false), Media::None);
    assert_eq!(beside(13, 10, false), Media::None);
    assert_eq!(beside(18, 0, false), Media::None);
}

#[test]
fn key_exchanges_are_known_by_their_first_octets() {
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[9; 12]].concat();
    let dtls = [&[22, 254, 253, 0, 0][..], &[0; 40]].concat();
    let zrtp = [&[0x10, 0, 0, 1][..], b"ZRTP", &[0; 20]].concat();
    for datagram in [&stun, &dtls, &zrtp] {
        assert!(is_handshake(datagram), "{datagram:?}");
        assert!(!is_handshake(&datagram[..7]));
    }
    for datagram in [&b"INVITE sip:100@192.0.2.1 SIP/2.0"[..], &[0; 60], &[20; 60], &[]] {
        assert!(!is_handshake(datagram), "{datagram:?}");
    }
    let mut bench = Bench::new();
    assert_eq!(bench.probe.detail(), None);
    bench.probe.shake_hands();
    assert_eq!(bench.probe.detail(), Some("handshake"));
}

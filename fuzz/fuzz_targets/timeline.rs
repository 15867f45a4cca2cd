//! Any sequence of packets: the books balance, no more audio comes out than went in, and the clock bounds what is recorded.
#![no_main]

use libfuzzer_sys::{arbitrary, fuzz_target};
use media::codec::Codec;
use media::counts::{Counts, DropCause, Verdict};
use media::packet::Packet;
use media::time::Mono;
use media::timeline::{AudioSink, GapCause, Timeline};
use media::units::{PayloadType, RtpTimestamp, SeqNo, Ssrc};
use std::time::Duration;

/// One packet, most of them told as steps from the one before, as real ones are.
#[derive(arbitrary::Arbitrary, Debug)]
enum Step {
    Next { wait_ms: u16, octets: u8, skip: u8 },
    Back { by: u8 },
    Jump { seq: u16, timestamp: u32, ssrc: u8, wait_ms: u32, octets: u16 },
    Other { payload_type: u8 },
    NoRoom,
    Settle,
}

#[derive(Default)]
struct Sink {
    audio: u64,
    silence: u64,
}

impl AudioSink for Sink {
    fn audio(&mut self, octets: &[u8]) {
        self.audio += octets.len() as u64;
    }
    fn silence(&mut self, octets: u64, _cause: GapCause) {
        self.silence = self.silence.checked_add(octets).expect("silence without end");
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let payload = [0x2A_u8; u16::MAX as usize];
    let mut timeline = Timeline::new(Codec::Pcma);
    let (mut sink, mut counts) = (Sink::default(), Counts::default());
    let (mut seq, mut timestamp, mut ssrc, mut now) = (0_u16, 0_u32, 0_u8, Mono::default());
    let (mut room, mut stored, mut waited) = (true, 0, 0_u64);
    let mut room_was_short = false;
    for step in steps {
        let (mut payload_type, mut octets) = (8, 160_usize);
        match step {
            Step::Next { wait_ms, octets: some, skip } => {
                octets = usize::from(some);
                seq = seq.wrapping_add(1 + u16::from(skip));
                timestamp = timestamp.wrapping_add(160 * (1 + u32::from(skip)));
                waited += u64::from(wait_ms);
            }
            Step::Back { by } => {
                seq = seq.wrapping_sub(u16::from(by));
                timestamp = timestamp.wrapping_sub(160 * u32::from(by));
            }
            Step::Jump { seq: to_seq, timestamp: to, ssrc: source, wait_ms, octets: some } => {
                (seq, timestamp, ssrc, octets) = (to_seq, to, source, usize::from(some));
                waited += u64::from(wait_ms);
            }
            Step::Other { payload_type: other } => payload_type = other & 0x7F,
            Step::NoRoom => {
                room = !room;
                room_was_short = true;
            }
            Step::Settle => {
                timeline.settle(&mut sink);
                continue;
            }
        }
        now = now.max(Mono::new(Duration::from_millis(waited)));
        let packet = Packet {
            payload_type: PayloadType(payload_type),
            seq: SeqNo(seq),
            timestamp: RtpTimestamp(timestamp),
            ssrc: Ssrc(u32::from(ssrc)),
            payload: &payload[..octets],
        };
        let verdict = timeline.push(&packet, now, room, &mut sink);
        // What is dropped for its SSRC may find its place with the next one.
        let may_be_stored =
            matches!(verdict, Verdict::Stored | Verdict::Dropped(DropCause::Ssrc | DropCause::Unconfirmed));
        stored += if may_be_stored { octets as u64 } else { 0 };
        counts.book(verdict);
        timeline.restore_regained(&mut counts);
        assert!(counts.balance());
        assert!(sink.audio <= stored, "more audio out than in");
        // An eighth and five minutes for all, an eighth and five seconds for silence.
        assert!(sink.audio + sink.silence <= waited * 9 + 2_400_000, "more time than has passed");
        assert!(room_was_short || sink.silence <= waited * 9 + 40_000, "more silence than time has passed");
    }
    timeline.settle(&mut sink);
    assert_eq!(timeline.waiting_octets(), 0);
    assert!(sink.audio <= stored, "more audio out than in");
});

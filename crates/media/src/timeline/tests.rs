use super::media_clock::{AHEAD_OCTETS, SILENCE_AHEAD_OCTETS};
use super::*;
use crate::counts::Counts;
use crate::units::{RtpTimestamp, SeqNo, Ssrc};
use proptest::prelude::*;

/// Silence of PCMU, which no test payload contains.
const S: u8 = 0xFF;

#[derive(Default)]
struct CollectingSink {
    octets: Vec<u8>,
    gaps: Vec<(u64, GapCause)>,
}

impl AudioSink for CollectingSink {
    fn audio(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }
    fn silence(&mut self, octets: u64, cause: GapCause) {
        self.octets.resize(self.octets.len() + usize::try_from(octets).unwrap(), S);
        self.gaps.push((octets, cause));
    }
}

/// A sender and the timeline under test.
struct Bench {
    timeline: Timeline,
    sink: CollectingSink,
    counts: Counts,
    clock_ms: u64,
    ssrc: u32,
}

fn payload(number: u32) -> [u8; 160] {
    let mut octets = [(number % 100).to_le_bytes()[0]; 160];
    octets[..4].copy_from_slice(&(number % 0x00F0_0000).to_be_bytes());
    octets
}

impl Bench {
    fn new() -> Self {
        let timeline = Timeline::new(Codec::Pcmu);
        Self { timeline, sink: CollectingSink::default(), counts: Counts::default(), clock_ms: 0, ssrc: 1 }
    }

    fn send_raw(&mut self, pt: u8, seq: u16, timestamp: u32, audio: &[u8], room: bool) -> Verdict {
        let packet = Packet {
            payload_type: PayloadType(pt),
            seq: SeqNo(seq),
            timestamp: RtpTimestamp(timestamp),
            ssrc: Ssrc(self.ssrc),
            payload: audio,
        };
        let arrival = Mono::new(Duration::from_millis(self.clock_ms));
        let verdict = self.timeline.push(&packet, arrival, room, &mut self.sink);
        self.counts.book(verdict);
        self.timeline.restore_regained(&mut self.counts);
        verdict
    }

    /// Packet `number` of a stream of 20 ms packets.
    fn send(&mut self, number: u32) -> Verdict {
        self.clock_ms += 20;
        let seq = u16::try_from(number & 0xFFFF).unwrap();
        self.send_raw(0, seq, number.wrapping_mul(160), &payload(number), true)
    }

    fn finish(&mut self) -> &[u8] {
        self.timeline.settle(&mut self.sink);
        assert!(self.counts.balance());
        &self.sink.octets
    }

    /// Packet `number` of a sender that counts `ticks` for it, at `timestamp`.
    fn send_at(&mut self, number: u32, timestamp: u32) -> Verdict {
        self.clock_ms += 20;
        let seq = u16::try_from(number & 0xFFFF).unwrap();
        self.send_raw(0, seq, timestamp, &payload(number), true)
    }

    fn wait(&mut self, ms: u64) {
        self.clock_ms += ms;
    }

    fn gaps(&self) -> Vec<(u64, GapCause)> {
        self.sink.gaps.clone()
    }
}

fn audio(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    numbers.into_iter().flat_map(payload).collect()
}

#[test]
fn packets_in_order_come_out_as_they_went_in() {
    let mut bench = Bench::new();
    for number in 0..50 {
        assert_eq!(bench.send(number), Verdict::Stored);
    }
    assert_eq!(bench.finish(), audio(0..50));
    assert_eq!(bench.sink.gaps, []);
}

#[test]
fn packets_swapped_within_100_ms_are_put_in_order() {
    let mut bench = Bench::new();
    for number in [1, 0, 3, 2, 9, 4, 5, 6, 7, 8, 10, 12, 11, 13, 19, 14, 15, 16, 17, 18, 20] {
        assert_eq!(bench.send(number), Verdict::Stored, "packet {number}");
    }
    assert_eq!(bench.finish(), audio(0..21));
    assert_eq!(bench.timeline.lost(), 0);
}

#[test]
fn a_packet_more_than_100_ms_late_is_counted_and_its_place_is_silent() {
    let mut bench = Bench::new();
    for number in (0..20).chain(21..27) {
        bench.send(number);
    }
    assert_eq!(bench.timeline.lost(), 1);
    assert_eq!(bench.send(20), Verdict::Late);
    assert_eq!(bench.timeline.lost(), 0);
    let expected = [audio(0..20), vec![S; 160], audio(21..27)].concat();
    assert_eq!(bench.finish(), expected);
    assert_eq!(bench.sink.gaps, [(160, GapCause::Loss)]);
}

#[test]
fn duplicates_are_dropped_near_and_far() {
    let mut bench = Bench::new();
    for number in 0..100 {
        bench.send(number);
    }
    assert_eq!(bench.send(99), Verdict::Duplicate);
    assert_eq!(bench.send(3), Verdict::Duplicate);
    assert_eq!(bench.finish(), audio(0..100));
}

#[test]
fn counters_wrap_without_a_mark() {
    let mut bench = Bench::new();
    let first = 65_530u32;
    for number in first..first + 20 {
        let seq = u16::try_from(number & 0xFFFF).unwrap();
        let timestamp = (number - first).wrapping_mul(160).wrapping_sub(800);
        assert_eq!(bench.send_raw(0, seq, timestamp, &payload(number), true), Verdict::Stored);
    }
    assert_eq!(bench.finish(), audio(first..first + 20));
}

#[test]
fn silence_suppression_is_filled_and_is_not_loss() {
    let mut bench = Bench::new();
    for seq in 0..10 {
        bench.send_raw(0, seq, u32::from(seq) * 160, &payload(seq.into()), true);
    }
    assert_eq!(bench.send_raw(13, 10, 1600, &[0x40], true), Verdict::Dropped(DropCause::ComfortNoise));
    bench.clock_ms += 3000;
    bench.send_raw(0, 11, 1600 + 24_000, &payload(11), true);
    assert_eq!(bench.timeline.lost(), 0);
    let expected = [audio(0..10), vec![S; 24_000], audio([11])].concat();
    assert_eq!(bench.finish(), expected);
    assert!(bench.sink.gaps.iter().all(|gap| gap.1 == GapCause::Suppression));
}

#[test]
fn a_jump_over_10_s_is_believed_only_if_the_clock_agrees() {
    let mut bench = Bench::new();
    bench.send(0);
    bench.clock_ms += 60_000;
    bench.send(3000);
    assert_eq!(bench.finish().len(), 3001 * 160);

    let mut bench = Bench::new();
    bench.send(0);
    bench.send_raw(0, 1, 3000 * 160, &payload(1), true);
    bench.send_raw(0, 2, 3001 * 160, &payload(2), true);
    assert_eq!(bench.finish(), audio(0..3));
}

#[test]
fn a_jump_back_restarts_right_after_the_last_packet() {
    let mut bench = Bench::new();
    for number in 10_000..10_020 {
        bench.send(number);
    }
    for (seq, number) in (10_020..10_030).zip(0..) {
        assert_eq!(bench.send_raw(0, seq, number * 160, &payload(number), true), Verdict::Stored);
    }
    assert_eq!(bench.finish(), [audio(10_000..10_020), audio(0..10)].concat());
}

#[test]
fn a_new_ssrc_goes_on_right_after_and_a_pause_over_500_ms_becomes_silence() {
    let mut bench = Bench::new();
    for number in 0..10 {
        bench.send(number);
    }
    bench.ssrc = 2;
    for number in 7000..7010 {
        bench.send(number);
    }
    bench.ssrc = 3;
    bench.clock_ms += 2000;
    for number in 500..510 {
        bench.send(number);
    }
    let expected = [audio(0..10), audio(7000..7010), vec![S; 16_000], audio(500..510)].concat();
    assert_eq!(bench.finish(), expected);
}

#[test]
fn a_straggler_of_the_former_ssrc_does_not_bring_it_back() {
    let mut bench = Bench::new();
    for number in (0..10).filter(|number| *number != 8) {
        bench.send(number);
    }
    bench.ssrc = 2;
    bench.send(700);
    bench.ssrc = 1;
    assert_eq!(bench.send(9), Verdict::Duplicate);
    bench.ssrc = 2;
    assert_eq!(bench.send(701), Verdict::Stored);
    bench.ssrc = 1;
    assert_eq!(bench.send(9), Verdict::Duplicate);
    assert_eq!(bench.send(8), Verdict::Late);
    bench.ssrc = 2;
    assert_eq!(bench.send(702), Verdict::Stored);
    let expected = [audio(0..8), vec![S; 160], audio(9..10), audio(700..703)].concat();
    assert_eq!(bench.finish(), expected);
    assert_eq!(bench.counts.dropped_for(DropCause::Ssrc), 0);
}

#[test]
fn a_stray_packet_of_another_ssrc_costs_nothing() {
    let mut bench = Bench::new();
    for number in 0..100 {
        bench.ssrc = 1;
        bench.send(number);
        if number % 20 == 10 {
            bench.ssrc = 2;
            assert_eq!(bench.send(4000 + number), Verdict::Dropped(DropCause::Ssrc));
        }
    }
    assert_eq!(bench.finish(), audio(0..100));
}

#[test]
fn a_second_stream_with_shorter_packets_does_not_take_over() {
    let mut bench = Bench::new();
    for number in 0..100u16 {
        (bench.ssrc, bench.clock_ms) = (1, bench.clock_ms + 20);
        bench.send_raw(0, number, u32::from(number) * 160, &payload(number.into()), true);
        bench.ssrc = 2;
        for half in 0..2 {
            let (seq, timestamp) = (2 * number + half, u32::from(2 * number + half) * 80);
            bench.send_raw(0, seq, timestamp, &[9; 80], true);
        }
    }
    assert_eq!(bench.finish(), audio(0..100));
}

#[test]
fn the_first_packets_of_the_next_ssrc_are_kept_even_out_of_order() {
    let mut bench = Bench::new();
    for number in 0..10 {
        bench.send(number);
    }
    bench.ssrc = 2;
    for number in [501, 500, 502, 503] {
        bench.send(number);
    }
    assert_eq!(bench.finish(), [audio(0..10), audio(500..504)].concat());
    assert_eq!((bench.counts.stored, bench.counts.dropped()), (14, 0));
}

#[test]
fn packets_from_before_a_pause_do_not_come_back_after_it() {
    let mut bench = Bench::new();
    for number in (0..10).filter(|number| *number != 8) {
        bench.send(number);
    }
    bench.timeline.settle(&mut bench.sink);
    bench.clock_ms += 3000;
    assert_eq!(bench.send(9), Verdict::Duplicate);
    assert_eq!(bench.send(8), Verdict::Late);
    for number in 160..170 {
        assert_eq!(bench.send(number), Verdict::Stored);
    }
    assert_eq!(bench.finish(), [audio(0..8), vec![S; 160], audio(9..10), audio(160..170)].concat());
    assert_eq!(bench.timeline.lost(), 0);
}

#[test]
fn two_sources_at_once_do_not_double_the_time() {
    let mut bench = Bench::new();
    for number in 0..100 {
        bench.ssrc = 1;
        bench.send(number);
        bench.clock_ms -= 20;
        bench.ssrc = 2;
        bench.send(number + 5000);
    }
    let octets = bench.finish().len();
    assert!((100 * 160..=103 * 160).contains(&octets), "{octets}");
    assert!(bench.counts.dropped_for(DropCause::Ssrc) >= 97);
}

#[test]
fn another_packet_size_continues_the_octets() {
    let mut bench = Bench::new();
    bench.send_raw(0, 0, 0, &[1; 160], true);
    bench.send_raw(0, 1, 160, &[2; 240], true);
    bench.send_raw(0, 2, 400, &[3; 80], true);
    assert_eq!(bench.finish(), [vec![1; 160], vec![2; 240], vec![3; 80]].concat());
}

#[test]
fn a_pause_leaves_neither_silence_nor_time() {
    let mut bench = Bench::new();
    for number in 0..10 {
        bench.send(number);
    }
    bench.timeline.settle(&mut bench.sink);
    bench.clock_ms += 30_000;
    for number in 1500..1510 {
        bench.send(number);
    }
    assert_eq!(bench.finish(), [audio(0..10), audio(1500..1510)].concat());
    assert_eq!(bench.timeline.lost(), 0);
}

#[test]
fn audio_without_room_leaves_silence_of_its_length() {
    let mut bench = Bench::new();
    for number in 0..30 {
        bench.send(number);
    }
    for number in 30..40u16 {
        let verdict = bench.send_raw(0, number, u32::from(number) * 160, &payload(number.into()), false);
        assert_eq!(verdict, Verdict::Dropped(DropCause::BufferFull));
    }
    for number in 40..50 {
        bench.send(number);
    }
    assert_eq!(bench.finish(), [audio(0..30), vec![S; 1600], audio(40..50)].concat());
}

/// One step of a hostile sender.
#[derive(Clone, Debug)]
struct Step {
    ssrc: u32,
    seq: u16,
    timestamp: u32,
    octets: usize,
    wait_ms: u64,
    room: bool,
    pt: u8,
    settle: bool,
}

fn any_step() -> impl Strategy<Value = Step> {
    let seq = prop_oneof![0..40u16, any::<u16>(), 65_500..=u16::MAX];
    let timestamp = prop_oneof![0..8000u32, any::<u32>(), (u32::MAX - 3000)..=u32::MAX];
    let octets = prop_oneof![Just(160usize), 0..2100usize, 1..4usize];
    let wait = prop_oneof![Just(20u64), 0..3000u64];
    let pt = prop_oneof![8 => Just(0u8), 1 => Just(13u8), 1 => Just(101u8)];
    (1..4u32, seq, timestamp, octets, wait, prop::bool::weighted(0.9), pt, prop::bool::weighted(0.02))
        .prop_map(|(ssrc, seq, timestamp, octets, wait_ms, room, pt, settle)| Step {
            ssrc,
            seq,
            timestamp,
            octets,
            wait_ms,
            room,
            pt,
            settle,
        })
}

proptest! {
    #[test]
    fn whatever_comes_the_books_balance_and_time_stays_bounded(
        steps in prop::collection::vec(any_step(), 1..200)
    ) {
        let mut bench = Bench::new();
        let (mut clock_ms, mut stored_octets, mut held_octets) = (0, 0, 0);
        for step in &steps {
            clock_ms += step.wait_ms;
            bench.clock_ms = clock_ms;
            bench.ssrc = step.ssrc;
            let verdict =
                bench.send_raw(step.pt, step.seq, step.timestamp, &vec![7; step.octets], step.room);
            match verdict {
                Verdict::Stored => stored_octets += step.octets,
                // It may find its place with the next one.
                Verdict::Dropped(DropCause::Ssrc | DropCause::Unconfirmed) => held_octets += step.octets,
                _ => {}
            }
            if step.settle {
                bench.timeline.settle(&mut bench.sink);
            }
            prop_assert!(bench.timeline.waiting_octets() <= 4096);
        }
        let octets = bench.finish().to_vec();
        let heard = octets.iter().filter(|octet| **octet == 7).count();
        prop_assert!(heard <= stored_octets + held_octets);
        prop_assert!(bench.counts.stored == 0 || heard > 0);
        prop_assert!(octets.len() as u64 <= clock_ms * 9 + AHEAD_OCTETS.unsigned_abs());
        let silence = (octets.len() - heard) as u64;
        prop_assert!(silence <= clock_ms * 9 + SILENCE_AHEAD_OCTETS.unsigned_abs());
    }

    #[test]
    fn a_stream_with_loss_doubles_and_swaps_keeps_every_packet_at_its_time(
        seed in prop::collection::vec((0..20u8, 0..4u32), 10..300),
        first_seq in any::<u16>(),
        first_timestamp in any::<u32>(),
    ) {
        // Packet n is sent at slot n + delay; delays of at most 4 packets stay within 100 ms.
        let mut order: Vec<(u32, u32)> = Vec::new();
        let mut expected: Vec<u8> = Vec::new();
        let mut lost_tail = 0;
        for (number, (fate, delay)) in (0u32..).zip(&seed) {
            let lost = *fate == 0 && number > 0;
            if lost {
                lost_tail += 1;
            } else {
                expected.extend(std::iter::repeat_n(S, lost_tail * 160));
                lost_tail = 0;
                expected.extend(payload(number));
                let delay = if number == 0 { 0 } else { *delay };
                order.push((number + delay, number));
                if *fate == 1 {
                    order.push((number + delay, number));
                }
            }
        }
        order.sort_by_key(|(slot, _)| *slot);
        let mut bench = Bench::new();
        for (slot, number) in order {
            bench.clock_ms = u64::from(slot) * 20;
            let seq = first_seq.wrapping_add(u16::try_from(number).unwrap());
            let timestamp = first_timestamp.wrapping_add(number * 160);
            let verdict = bench.send_raw(0, seq, timestamp, &payload(number), true);
            prop_assert!(matches!(verdict, Verdict::Stored | Verdict::Duplicate));
        }
        prop_assert!(bench.finish() == expected);
    }
}

#[test]
fn a_packet_of_another_payload_type_that_comes_out_of_order_is_not_lost() {
    for out_of_order in [101, 13] {
        let mut bench = Bench::new();
        bench.send_raw(0, 1, 0, &payload(0), true);
        bench.send_raw(0, 3, 320, &payload(1), true);
        assert_eq!(bench.timeline.lost(), 1);
        bench.send_raw(out_of_order, 2, 160, &[1, 2, 3, 4], true);
        assert_eq!(bench.timeline.lost(), 0);
        bench.send_raw(out_of_order, 2, 160, &[1, 2, 3, 4], true);
        assert_eq!(bench.timeline.lost(), 0);
    }
}

#[test]
fn a_straggler_of_the_source_before_is_late_and_not_lost() {
    let mut bench = Bench::new();
    for number in [0, 1, 2, 4] {
        bench.send_raw(0, number, u32::from(number) * 160, &payload(number.into()), true);
        bench.clock_ms += 20;
    }
    bench.clock_ms += 300;
    bench.ssrc = 2;
    bench.send_raw(0, 100, 9000, &payload(5), true);
    bench.ssrc = 1;
    assert_eq!(bench.send_raw(0, 3, 480, &payload(3), true), Verdict::Late);
    assert_eq!(bench.timeline.lost(), 0);
}

#[test]
fn a_sender_with_another_clock_rate_is_in_one_piece() {
    for step in [80, 168, 320, 960] {
        let mut bench = Bench::new();
        for number in 0..100 {
            assert_eq!(bench.send_at(number, number * step), Verdict::Stored);
        }
        assert_eq!(bench.finish(), audio(0..100), "{step} ticks for 160");
        assert_eq!(bench.timeline.lost(), 0);
    }
}

#[test]
fn a_sender_that_counts_wrong_for_its_first_packets_only_is_in_one_piece() {
    let mut bench = Bench::new();
    let mut timestamp = 0;
    for number in 0..100 {
        bench.send_at(number, timestamp);
        timestamp += if number < 10 { 320 } else { 160 };
    }
    assert_eq!(bench.finish(), audio(0..100));
}

#[test]
fn loss_at_another_clock_rate_is_as_long_as_the_packets() {
    let mut bench = Bench::new();
    for number in (0..100).filter(|number| ![40, 41, 70].contains(number)) {
        bench.send_at(number, number * 320);
        bench.wait(if [39, 69].contains(&number) { 20 } else { 0 });
    }
    let expected = [audio(0..40), vec![S; 320], audio(42..70), vec![S; 160], audio(71..100)].concat();
    assert_eq!(bench.finish(), expected);
    assert_eq!(bench.timeline.lost(), 3);
}

#[test]
fn a_hold_with_standing_timestamps_is_as_long_as_the_clock_says() {
    for noise in [false, true] {
        let mut bench = Bench::new();
        for number in 0..50 {
            bench.send(number);
        }
        if noise {
            bench.wait(2000);
            let verdict = bench.send_raw(13, 50, 50 * 160, &[0x40], true);
            assert_eq!(verdict, Verdict::Dropped(DropCause::ComfortNoise));
            bench.wait(1000);
        } else {
            bench.wait(3000);
        }
        let first = if noise { 51 } else { 50 };
        for number in 0..50 {
            bench.send_at(first + number, (50 + number) * 160);
        }
        let expected = [audio(0..50), vec![S; 24_000], audio(first..first + 50)].concat();
        assert_eq!(bench.finish(), expected);
        assert_eq!((bench.timeline.lost(), bench.gaps()), (0, vec![(24_000, GapCause::Hold)]));
    }
}

#[test]
fn a_stall_of_the_network_is_no_silence() {
    let mut bench = Bench::new();
    for number in 0..50 {
        bench.send(number);
    }
    bench.wait(3000);
    for number in 50..200 {
        bench.clock_ms -= 20;
        bench.send(number);
    }
    for number in 200..250 {
        bench.send(number);
    }
    assert_eq!(bench.finish(), audio(0..250));
    assert_eq!(bench.gaps(), []);
}

#[test]
fn a_hold_that_the_call_ends_in_is_as_long_as_the_clock_says() {
    let mut bench = Bench::new();
    for number in 0..50 {
        bench.send(number);
    }
    bench.wait(3000);
    bench.send(50);
    assert_eq!(bench.finish(), [audio(0..50), vec![S; 24_000], audio([50])].concat());
}

#[test]
fn a_stream_that_begins_anew_with_its_ssrc_after_a_second_is_recorded() {
    for (seq, timestamp) in [(0, 0), (0, 2000), (100, 0), (30_000, 9_999_999), (0, 9_999_999)] {
        let mut bench = Bench::new();
        for number in 0..100 {
            bench.send(number);
        }
        bench.wait(3000);
        for number in 0..100u16 {
            bench.clock_ms += 20;
            let ticks = u32::from(number) * 160;
            bench.send_raw(
                0,
                seq + number,
                timestamp * 160 + ticks,
                &payload(1000 + u32::from(number)),
                true,
            );
        }
        let expected = [audio(0..100), vec![S; 24_000], audio(1000..1100)].concat();
        assert!(bench.finish() == expected, "from {seq} and {timestamp}");
        assert_eq!(bench.counts.stored, 200);
    }
}

#[test]
fn a_stream_that_begins_anew_just_below_its_first_number_is_recorded() {
    for (wait_ms, first) in [(3000, 4500), (3000, 4999), (0, 4500)] {
        let mut bench = Bench::new();
        for number in 0..100 {
            bench.clock_ms += 20;
            bench.send_raw(0, low(5000 + number), number * 160, &payload(number), true);
        }
        bench.wait(wait_ms);
        for number in 100..200 {
            bench.clock_ms += 20;
            bench.send_raw(0, low(first + number - 100), 9_000_000 + number * 160, &payload(number), true);
        }
        let expected =
            [audio(0..100), vec![S; usize::try_from(wait_ms * 8).unwrap()], audio(100..200)].concat();
        assert!(bench.finish() == expected, "{wait_ms} ms, {first}: {:?}", bench.counts);
    }
}

#[test]
fn a_stream_that_begins_anew_during_a_pause_is_recorded_after_it() {
    let mut bench = Bench::new();
    for number in 0..100 {
        bench.send(number);
    }
    bench.timeline.settle(&mut bench.sink);
    bench.wait(1500);
    for number in 0..100 {
        bench.send(number);
    }
    assert_eq!(bench.finish(), [audio(0..100), audio(0..100)].concat());
    assert_eq!((bench.counts.duplicate, bench.timeline.lost()), (0, 0));
}

#[test]
fn a_straggler_long_after_a_pause_does_not_come_back() {
    let mut bench = Bench::new();
    for number in 0..100 {
        bench.send(number);
    }
    bench.timeline.settle(&mut bench.sink);
    bench.wait(1500);
    bench.send(98);
    for number in 170..200 {
        bench.send(number);
    }
    assert_eq!(bench.finish(), [audio(0..100), audio(170..200)].concat());
}

#[test]
fn a_former_ssrc_that_begins_anew_is_recorded() {
    let mut bench = Bench::new();
    for ssrc in [1, 2, 1, 2] {
        bench.ssrc = ssrc;
        for number in 0..100 {
            bench.send(number);
        }
        bench.wait(1200);
    }
    let (talk, silence) = (audio(0..100), vec![S; 9600]);
    let expected =
        [talk.clone(), silence.clone(), talk.clone(), silence.clone(), talk.clone(), silence, talk];
    assert!(bench.finish() == expected.concat(), "{:?}", bench.counts);
}

#[test]
fn an_ssrc_that_changes_again_within_a_second_costs_nothing() {
    let mut bench = Bench::new();
    for number in 0..400 {
        bench.ssrc = number / 40;
        bench.send(number);
    }
    assert!(bench.finish() == audio(0..400), "{:?}", bench.counts);
    assert_eq!(bench.counts.dropped(), 0);
}

#[test]
fn numbers_that_count_more_than_packets_are_no_loss() {
    for step in [2, 16, 160, 256] {
        let mut bench = Bench::new();
        for number in 0..300 {
            // It is late now and then.
            bench.clock_ms += if number % 7 == 6 { 38 } else { 17 };
            bench.send_raw(0, low(number * step), number * 160, &payload(number), true);
        }
        assert!(bench.finish() == audio(0..300), "{step}: {:?}", bench.counts);
        assert_eq!(bench.timeline.lost(), 0, "{step}");
    }
}

#[test]
fn stray_timestamps_cost_no_time() {
    for stray in [0, 77_777, u32::MAX / 2, 1_000_000] {
        let mut bench = Bench::new();
        for number in 0..100 {
            let timestamp = if number % 20 == 10 { stray } else { 50_000 + number * 160 };
            assert_eq!(bench.send_at(number, timestamp), Verdict::Stored);
        }
        assert_eq!(bench.finish(), audio(0..100));
    }
}

#[test]
fn a_packet_that_fits_nothing_is_unconfirmed_and_costs_nothing() {
    let mut bench = Bench::new();
    for number in 0..100 {
        bench.send(number);
        if number % 20 == 10 {
            let verdict = bench.send_raw(0, 20_000 + low(number) * 7, number * 999_983, &[9; 160], true);
            assert_eq!(verdict, Verdict::Dropped(DropCause::Unconfirmed));
        }
    }
    assert_eq!(bench.finish(), audio(0..100));
    assert_eq!(bench.timeline.lost(), 0);
}

fn low(number: u32) -> u16 {
    u16::try_from(number & 0xFFFF).unwrap()
}

#[test]
fn events_with_numbers_of_their_own_and_empty_packets_are_not_lost() {
    let mut bench = Bench::new();
    let mut seq = 0;
    for number in 0..60 {
        bench.clock_ms += 20;
        bench.send_raw(0, seq, number * 160, &payload(number), true);
        seq += 1;
        if number % 10 == 5 {
            bench.send_raw(101, 40_000 + low(number), number * 160, &[1, 2, 3, 4], true);
            bench.send_raw(0, seq, number * 160, &[], true);
            seq += 1;
        }
    }
    assert_eq!(bench.finish(), audio(0..60));
    assert_eq!(bench.timeline.lost(), 0);
}

#[test]
fn numbers_that_jump_are_not_lost_when_no_time_is_missing() {
    let mut bench = Bench::new();
    for number in 0..100 {
        bench.clock_ms += 20;
        let seq = low(number) + if number < 50 { 0 } else { 1700 };
        bench.send_raw(0, seq, number * 160, &payload(number), true);
    }
    assert_eq!(bench.finish(), audio(0..100));
    assert_eq!(bench.timeline.lost(), 0);
}

#[test]
fn silence_that_no_clock_vouches_for_is_bounded() {
    let mut bench = Bench::new();
    // Number and timestamp agree, and jump most of a second with each packet.
    for number in 0..200u32 {
        bench.clock_ms += 20;
        bench.send_raw(0, low(number * 40), number * 40 * 160, &payload(number), true);
    }
    let octets = i64::try_from(bench.finish().len()).unwrap();
    assert!(octets <= 4000 * 9 + SILENCE_AHEAD_OCTETS + 8000, "{octets}");
}

#[test]
fn audio_that_is_far_ahead_of_the_clock_is_dropped_and_counted() {
    let mut bench = Bench::new();
    for number in 0..16_000 {
        bench.send(number);
        bench.clock_ms -= 20;
    }
    let kept = u32::try_from(AHEAD_OCTETS / 160).unwrap();
    assert_eq!(bench.finish(), audio(0..kept));
    assert_eq!(bench.counts.dropped_for(DropCause::Ahead), u64::from(16_000 - kept));
    assert_eq!(bench.timeline.lost(), 0);
}

#[test]
fn time_between_two_codecs_is_silence() {
    let mut bench = Bench::new();
    for number in 0..10 {
        bench.send(number);
    }
    bench.timeline.switch_codec(Codec::Pcma, &mut bench.sink);
    bench.wait(2000);
    for number in 10..20u16 {
        bench.clock_ms += 20;
        bench.send_raw(8, number, u32::from(number) * 160, &payload(number.into()), true);
    }
    assert_eq!(bench.finish(), [audio(0..10), vec![S; 16_000], audio(10..20)].concat());
}

/// The fate of one packet on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Lost,
    /// Comes after later ones: their number.
    Overtaken(u32),
    /// Comes in its place, and once more after later ones: their number.
    Twice(u32),
}

/// Sends 70 packets, six of 160 octets and one of 64 again and again, each seven in a burst; `fate` befalls
/// one of them.
fn send_in_mixed_lengths(fated: u32, fate: Way) -> (Bench, Vec<u8>) {
    let mut bench = Bench::new();
    let length = |number: u32| if number % 7 == 6 { 64 } else { 160 };
    let mut order = Vec::new();
    for number in 0..70 {
        let late = match fate {
            Way::Overtaken(by) | Way::Twice(by) => number == fated + by,
            Way::Lost => false,
        };
        if number != fated || matches!(fate, Way::Twice(_)) {
            order.push(number);
        }
        if late {
            order.push(fated);
        }
    }
    for number in order {
        bench.clock_ms = bench.clock_ms.max(128 * u64::from(number / 7));
        let timestamp = (0..number).map(length).sum::<usize>();
        let seq = u16::try_from(number).unwrap();
        bench.send_raw(0, seq, u32::try_from(timestamp).unwrap(), &payload(number)[..length(number)], true);
    }
    let mut expected = Vec::new();
    for number in 0..70 {
        let lost = number == fated && fate == Way::Lost;
        let audio = if lost { [S; 160] } else { payload(number) };
        expected.extend(&audio[..length(number)]);
    }
    (bench, expected)
}

#[test]
fn packets_of_mixed_lengths_may_be_lost_overtaken_or_doubled() {
    for fated in 20..40 {
        let late = (1..4).flat_map(|by| [Way::Overtaken(by), Way::Twice(by)]);
        for fate in late.chain([Way::Lost]) {
            let (mut bench, expected) = send_in_mixed_lengths(fated, fate);
            assert!(bench.finish() == expected, "{fated} {fate:?}: {:?}", bench.gaps());
            assert_eq!(bench.timeline.lost(), u64::from(fate == Way::Lost), "{fated} {fate:?}");
            assert_eq!(bench.counts.dropped(), 0, "{fated} {fate:?}");
        }
    }
}

#[test]
fn waiting_packets_go_on_when_nothing_comes_any_more_and_the_stream_goes_on_at_its_time() {
    for lost in [vec![], vec![2]] {
        let mut bench = Bench::new();
        for number in 0..4 {
            if lost.contains(&number) {
                bench.clock_ms += 20;
            } else {
                bench.send(number);
            }
        }
        let waiting = bench.timeline.waiting_octets();
        assert!(waiting > 0);
        let mut at = |ms: u64| {
            bench.timeline.let_go(Mono::new(Duration::from_millis(ms)), &mut bench.sink);
            bench.timeline.waiting_octets()
        };
        assert_eq!((at(579), at(580)), (waiting, 0));
        bench.clock_ms += 2000;
        for number in 100 + 4..100 + 10 {
            bench.send(number);
        }
        let silence = vec![S; 160 * lost.len()];
        let rest = (2..4).filter(|number| !lost.contains(number));
        let mut expected = [audio(0..2), silence, audio(rest)].concat();
        expected.extend(vec![S; 16_000]);
        expected.extend(audio(104..110));
        assert!(bench.finish() == expected, "{} of {} octets", bench.sink.octets.len(), expected.len());
    }
}

#[test]
fn a_second_break_right_after_a_first_one_is_no_second_time_of_the_first() {
    let mut bench = Bench::new();
    for number in 0..20 {
        bench.send(number);
    }
    for (number, wait_ms) in [(20, 10_000), (21, 2000)] {
        bench.clock_ms += wait_ms;
        bench.send(number);
    }
    for number in 22..60 {
        bench.send(number);
    }
    let octets = bench.finish().len();
    assert_eq!(octets, 8 * 12_000 + 60 * 160);
}

use super::*;
use crate::units::{PayloadType, RtpTimestamp};
use proptest::prelude::*;

const PHONE: &str = "192.0.2.1:4000";

/// A lock that is fed packets whose payload names their sender, and the packets it handed out.
struct Bench {
    lock: SourceLock,
    out: Vec<(u8, u16)>,
    fed: u64,
}

fn at(ms: u64) -> Mono {
    Mono::new(Duration::from_secs(100) + Duration::from_millis(ms))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

impl Bench {
    fn new() -> Self {
        let rules = Rules { only: Some(addr(PHONE).ip()), takeover_after: Duration::from_secs(10) };
        Self { lock: SourceLock::new(rules), out: Vec::new(), fed: 0 }
    }

    fn feed(&mut self, from: &str, who: u8, ssrc: u32, seq: u16, ms: u64) -> Admission {
        self.feed_from(addr(from), who, ssrc, seq, ms)
    }

    fn feed_from(&mut self, from: SocketAddr, who: u8, ssrc: u32, seq: u16, ms: u64) -> Admission {
        let [high, low] = seq.to_be_bytes();
        let datagram = [who, high, low];
        let packet = Packet {
            payload_type: PayloadType(8),
            seq: SeqNo(seq),
            timestamp: RtpTimestamp(u32::from(seq) * 160),
            ssrc: Ssrc(ssrc),
            payload: &datagram,
        };
        self.fed += 1;
        let admission = self.lock.admit(&datagram, &packet, from, at(ms));
        if admission == Admission::Taken {
            self.fetch();
        }
        if matches!(admission, Admission::Ours | Admission::Taken) {
            self.out.push((who, seq));
        }
        admission
    }

    fn fetch(&mut self) {
        let held = self.lock.take_held();
        for (datagram, _) in held.iter() {
            self.out.push((datagram[0], u16::from_be_bytes([datagram[1], datagram[2]])));
        }
    }

    fn settle(&mut self, ms: u64) {
        if self.lock.settle(at(ms)) {
            self.fetch();
        }
    }

    /// Sends a call at 50 packets/s; number of the packet and its time go to `beside` before each.
    fn call(&mut self, from: &str, who: u8, packets: std::ops::Range<u16>, start_ms: u64) {
        for (step, seq) in (0..).zip(packets) {
            self.feed(from, who, u32::from(who), seq, start_ms + step * 20);
        }
    }

    fn heard(&self, who: u8) -> Vec<u16> {
        self.out.iter().filter(|(sender, _)| *sender == who).map(|(_, seq)| *seq).collect()
    }
}

fn range(packets: std::ops::Range<u16>) -> Vec<u16> {
    packets.collect()
}

#[test]
fn the_third_packet_in_sequence_brings_the_first_two_along() {
    let mut bench = Bench::new();
    assert_eq!(bench.feed(PHONE, 1, 1, 65535, 0), Admission::Held);
    assert_eq!(bench.feed(PHONE, 1, 1, 0, 20), Admission::Held);
    assert_eq!(bench.lock.source(), None);
    assert_eq!(bench.feed("[::ffff:192.0.2.1]:4000", 1, 1, 1, 40), Admission::Taken);
    assert_eq!(bench.feed(PHONE, 1, 1, 2, 60), Admission::Ours);
    assert_eq!(bench.heard(1), [65535, 0, 1, 2]);
    assert!(!bench.lock.is_contested());
}

#[test]
fn packets_that_overtook_each_other_during_probation_come_out_as_they_were_sent() {
    for (sent, seqs) in [
        (0, [1, 0, 2, 3]),
        (0, [0, 2, 1, 3]),
        (0, [1, 2, 0, 3]),
        (0, [2, 0, 1, 3]),
        (65_534, [65_535, 65_534, 0, 1]),
        (65_535, [0, 65_535, 1, 2]),
        (65_534, [0, 65_534, 65_535, 1]),
    ] {
        let mut bench = Bench::new();
        for (step, seq) in (0..).zip(seqs) {
            bench.feed(PHONE, 1, 1, seq, step * 20);
        }
        bench.settle(100);
        let in_order: Vec<u16> = (0..4).map(|step| SeqNo(sent).plus(step).0).collect();
        assert_eq!((bench.heard(1), bench.lock.strangers()), (in_order, 0), "{seqs:?}");
    }
}

#[test]
fn packets_put_in_order_keep_a_clock_that_does_not_run_back() {
    let mut bench = Bench::new();
    for (seq, ms) in [(2, 0), (0, 1), (1, 2)] {
        bench.feed(PHONE, 1, 1, seq, ms);
    }
    assert!(bench.lock.settle(at(100)));
    let held = bench.lock.take_held();
    let arrivals: Vec<Mono> = held.iter().map(|(_, arrival)| arrival).collect();
    assert_eq!(arrivals, [at(0), at(1), at(2)]);
}

#[test]
fn a_sender_that_begins_again_during_probation_is_not_put_before_its_first_packets() {
    let mut bench = Bench::new();
    for (seq, ms) in [(50, 0), (51, 20), (10, 1500), (11, 1520), (12, 1540)] {
        bench.feed(PHONE, 1, 1, seq, ms);
    }
    assert_eq!(bench.heard(1), [50, 51, 10, 11, 12]);
}

#[test]
fn a_call_of_one_packet_is_kept_at_its_end() {
    let mut bench = Bench::new();
    bench.feed(PHONE, 1, 1, 7, 0);
    bench.settle(500);
    assert_eq!((bench.heard(1), bench.lock.strangers()), (vec![7], 0));
}

#[test]
fn one_that_sends_too_seldom_for_a_probation_is_taken_after_a_second_if_it_is_alone() {
    let mut bench = Bench::new();
    bench.feed(PHONE, 1, 1, 7, 0);
    assert!(!bench.lock.tick(at(900)));
    assert!(bench.lock.tick(at(1000)));
    bench.fetch();
    assert_eq!(bench.heard(1), [7]);
    assert_eq!(bench.feed(PHONE, 1, 1, 400, 3000), Admission::Ours);
}

#[test]
fn one_that_never_counts_in_sequence_loses_nothing_while_it_is_looked_at() {
    let mut bench = Bench::new();
    for packet in 0..60 {
        let seq = packet * 1000;
        let packet = Packet {
            payload_type: PayloadType(8),
            seq: SeqNo(seq),
            timestamp: RtpTimestamp(0),
            ssrc: Ssrc(1),
            payload: &[7; 240],
        };
        let [high, low] = seq.to_be_bytes();
        let mut datagram = [0; 252];
        datagram[..3].copy_from_slice(&[b'p', high, low]);
        let arrival = at(u64::from(seq) / 1000 * 30);
        if bench.lock.tick(arrival) {
            bench.fetch();
        }
        let admission = bench.lock.admit(&datagram, &packet, addr(PHONE), arrival);
        if admission == Admission::Taken {
            bench.fetch();
        }
        if admission != Admission::Held {
            bench.out.push((b'p', seq));
        }
    }
    assert_eq!(bench.heard(b'p'), (0..60).map(|packet| packet * 1000).collect::<Vec<_>>());
    assert!(!bench.lock.is_contested());
}

#[test]
fn another_address_is_a_stranger_from_the_first_packet() {
    let mut bench = Bench::new();
    assert_eq!(bench.feed("192.0.2.2:4000", 2, 1, 7, 0), Admission::Stranger);
    bench.call(PHONE, 1, 0..10, 10);
    assert_eq!(bench.feed("192.0.2.2:4000", 2, 1, 10, 210), Admission::Stranger);
    assert!(!bench.lock.admits_other(addr("192.0.2.2:4000")));
    assert!(bench.lock.admits_other(addr(PHONE)));
    assert_eq!((bench.heard(1), bench.lock.strangers()), (range(0..10), 3));
    assert!(bench.lock.is_contested());
}

#[test]
fn forged_packets_before_the_first_one_cost_the_call_nothing() {
    for forged in [1, 2, 3, 10] {
        let mut bench = Bench::new();
        for seq in 0..forged {
            bench.feed("192.0.2.1:4444", 2, 2, seq, 0);
        }
        bench.call(PHONE, 1, 100..250, 150);
        bench.settle(3200);
        assert_eq!(bench.heard(1), range(100..250), "after {forged} forged ones");
        assert!(bench.lock.is_contested());
        assert_eq!(bench.lock.source(), Some(addr(PHONE)));
    }
}

#[test]
fn a_forged_packet_now_and_then_does_not_hold_the_call() {
    let mut bench = Bench::new();
    for seq in 0..40 {
        bench.feed("192.0.2.1:4444", 2, 2, seq, 0);
    }
    for seq in 0..500_u16 {
        let ms = 100 + u64::from(seq) * 20;
        bench.feed(PHONE, 1, 1, seq, ms);
        if seq % 50 == 0 {
            bench.feed("192.0.2.1:4444", 2, 2, 40 + seq / 50, ms);
        }
    }
    assert_eq!(bench.heard(1), range(0..500));
}

#[test]
fn a_sweep_with_another_ssrc_takes_nothing_over_while_the_call_flows() {
    let mut bench = Bench::new();
    bench.call(PHONE, 1, 0..40, 0);
    for seq in 0..3 {
        bench.feed(PHONE, 2, 2, 7000 + seq, 790);
    }
    for seq in 40..150_u16 {
        let ms = u64::from(seq) * 20;
        bench.feed(PHONE, 1, 1, seq, ms);
        bench.feed(PHONE, 2, 2, 7003 + seq - 40, ms + 1);
        bench.feed(PHONE, 2, 3, 9000 + seq, ms + 2);
    }
    bench.settle(3100);
    assert_eq!((bench.heard(1), bench.heard(2)), (range(0..150), vec![]));
    assert_eq!(bench.lock.strangers(), bench.fed - 150);
}

#[test]
fn a_sender_that_stood_still_has_its_call_back_from_one_that_used_the_moment() {
    let mut bench = Bench::new();
    bench.call(PHONE, 1, 0..200, 0);
    for seq in 0..300_u16 {
        bench.feed(PHONE, 2, 2, 7000 + seq, 4000 + u64::from(seq) * 20);
        if seq >= 30 {
            bench.feed(PHONE, 1, 1, 200 + seq, 4001 + u64::from(seq) * 20);
        }
    }
    assert_eq!(bench.heard(1), range(0..200).into_iter().chain(230..500).collect::<Vec<_>>());
}

#[test]
fn the_sender_may_change_its_ssrc_and_nothing_is_lost() {
    let mut bench = Bench::new();
    bench.call(PHONE, 1, 0..100, 0);
    bench.call(PHONE, 2, 500..600, 2000);
    assert_eq!((bench.heard(1), bench.heard(2)), (range(0..100), range(500..600)));
    assert!(!bench.lock.is_contested());
    bench.call(PHONE, 3, 10..15, 4000);
    bench.settle(4100);
    assert_eq!(bench.heard(3), range(10..15));
}

#[test]
fn a_former_ssrc_that_begins_anew_has_the_call_again() {
    let mut bench = Bench::new();
    for (turn, ssrc) in (0..).zip([1, 2, 1]) {
        for packet in 0..80 {
            bench.feed(PHONE, 1, ssrc, packet, turn * 3000 + u64::from(packet) * 20);
        }
    }
    assert_eq!(bench.heard(1), [range(0..80), range(0..80), range(0..80)].concat());
    assert_eq!(bench.lock.strangers(), 0);
}

#[test]
fn a_change_of_ssrc_or_port_is_no_moment_for_a_rival_that_has_been_there() {
    for port in [4000, 4001] {
        let mut bench = Bench::new();
        for seq in 0..600_u16 {
            let ms = u64::from(seq) * 20;
            let moved = seq >= 300;
            let ssrc = if port == 4000 && moved { 11 } else { 1 };
            let from = SocketAddr::new(addr(PHONE).ip(), if moved { port } else { 4000 });
            bench.feed_from(from, 1, ssrc, seq, ms);
            bench.feed("192.0.2.1:4444", 2, 2, seq, ms + 10);
        }
        assert_eq!((bench.heard(1), bench.heard(2)), (range(0..600), vec![]), "port {port}");
    }
}

#[test]
fn a_nat_may_move_the_port_and_nothing_is_lost() {
    let mut bench = Bench::new();
    bench.call(PHONE, 1, 0..100, 0);
    let moved = "192.0.2.1:61001";
    for seq in 100..120_u16 {
        bench.feed(moved, 1, 1, seq, u64::from(seq) * 20);
        assert!(seq < 110 || bench.lock.source() == Some(addr(moved)), "taken within 200 ms");
    }
    assert_eq!(bench.lock.source(), Some(addr(moved)));
    assert_eq!(bench.feed(PHONE, 1, 1, 98, 2400), Admission::Ours, "one that was under way");
    bench.out.pop();
    assert_eq!((bench.heard(1), bench.lock.strangers()), (range(0..120), 0));
}

#[test]
fn another_port_is_no_moved_one_if_ssrc_or_sequence_do_not_go_on() {
    for (ssrc, first) in [(1, 5000), (1, 0), (2, 100), (1, 100 + 513)] {
        let mut bench = Bench::new();
        bench.call(PHONE, 1, 0..100, 0);
        for seq in 0..390_u16 {
            bench.feed("192.0.2.1:61001", 2, ssrc, first + seq, 2000 + u64::from(seq) * 20);
        }
        bench.settle(9900);
        assert_eq!((bench.heard(2), bench.lock.strangers()), (vec![], 390), "ssrc {ssrc}, first {first}");
    }
}

#[test]
fn a_sender_that_has_hardly_begun_keeps_its_call_from_the_same_ssrc_at_another_port() {
    let mut bench = Bench::new();
    for seq in 0..10 {
        bench.feed(PHONE, 1, 1, seq, 0);
    }
    for seq in 0..100_u16 {
        bench.feed("192.0.2.1:4002", 2, 1, 1000 + seq, 50 + u64::from(seq) * 50);
    }
    assert_eq!((bench.heard(1).len(), bench.heard(2).len()), (10, 0));
}

#[test]
fn two_senders_with_one_ssrc_are_told_apart_by_their_port() {
    let mut bench = Bench::new();
    for seq in 0..300_u16 {
        let ms = u64::from(seq) * 20;
        // The first one stands still for a moment, and the other one is ahead by then.
        if !(150..160).contains(&seq) {
            bench.feed(PHONE, 1, 1, seq, ms);
        }
        bench.feed("192.0.2.1:4002", 2, 1, seq + 1, ms + 5);
    }
    assert_eq!((bench.heard(1).len(), bench.heard(2).len()), (290, 0));
}

#[test]
fn after_long_silence_anyone_at_the_address_may_take_over_by_the_same_probation() {
    let mut bench = Bench::new();
    bench.call(PHONE, 1, 0..100, 0);
    bench.call("192.0.2.1:5000", 2, 7000..7010, 11_980);
    assert_eq!(bench.heard(2), range(7000..7010));
    assert_eq!(bench.feed(PHONE, 1, 1, 100, 12_300), Admission::Held, "the former one is a rival now");
}

#[test]
fn waiting_packets_are_bounded_and_a_flood_of_senders_costs_the_call_nothing() {
    let mut bench = Bench::new();
    bench.call(PHONE, 1, 0..10, 0);
    for number in 0..20_000_u16 {
        let from = SocketAddr::new(addr(PHONE).ip(), 1024 + number % 30_000);
        bench.feed_from(from, 2, u32::from(number) + 10, number, 200 + u64::from(number / 20));
        if number % 400 == 0 {
            bench.feed(PHONE, 1, 1, 10 + number / 400, 200 + u64::from(number / 20));
        }
    }
    assert!(bench.lock.rivals.len() <= MAX_RIVALS);
    bench.settle(1300);
    assert_eq!((bench.heard(1), bench.heard(2)), (range(0..60), vec![]));
    assert_eq!(bench.lock.strangers(), 20_000);
}

#[test]
fn a_rival_that_sends_for_hours_takes_no_more_memory() {
    let mut bench = Bench::new();
    for seq in 0..5000_u16 {
        bench.feed(PHONE, 1, 1, seq, u64::from(seq) * 20);
        bench.feed("192.0.2.1:4002", 2, 2, seq, u64::from(seq) * 20 + 10);
    }
    let waiting: usize = bench.lock.rivals.iter().map(|rival| rival.waiting.iter().count()).sum();
    assert!(waiting < 3000);
    bench.settle(100_000);
    assert_eq!((bench.heard(1).len(), bench.lock.strangers()), (5000, 5000));
}

/// Somebody who disturbs a call.
#[derive(Clone, Debug)]
enum Other {
    /// Sends a number of `packets` at once, from the port of the call or another one.
    Burst { at_ms: u64, packets: u16, same_port: bool, same_ssrc: bool },
    /// Sends at its pace, which is less continuous than the call.
    Sparse { from_ms: u64, every_ms: u64, same_port: bool },
    /// Goes on for some time as continuously as the call, beginning after it.
    Beside { from_ms: u64, packets: u16, same_port: bool },
}

fn other() -> impl Strategy<Value = Other> {
    prop_oneof![
        (0..6000_u64, 1..50_u16, any::<bool>(), any::<bool>()).prop_map(
            |(at_ms, packets, same_port, same_ssrc)| Other::Burst { at_ms, packets, same_port, same_ssrc }
        ),
        (0..6000_u64, 500..3000_u64, any::<bool>())
            .prop_map(|(from_ms, every_ms, same_port)| { Other::Sparse { from_ms, every_ms, same_port } }),
        (500..6000_u64, 1..300_u16, any::<bool>())
            .prop_map(|(from_ms, packets, same_port)| { Other::Beside { from_ms, packets, same_port } }),
    ]
}

proptest! {
    /// A call that begins at 300 ms, moves its port now and then, loses packets, and is disturbed.
    #[test]
    fn a_call_that_goes_on_keeps_every_packet(
        others in proptest::collection::vec(other(), 0..3),
        moves in proptest::collection::vec(1000..5500_u64, 0..2),
        lost in proptest::collection::vec(any::<bool>(), 300),
        seq in any::<u16>(),
    ) {
        let ip = addr(PHONE).ip();
        let port = |ms: u64| 4000 + u16::try_from(moves.iter().filter(|at| **at <= ms).count()).unwrap_or(0);
        // Time, sender, SSRC, number, port.
        let mut events: Vec<(u64, u8, u32, u16, u16)> = Vec::new();
        let mut sent = Vec::new();
        for (step, lost) in (0..300_u16).zip(&lost) {
            // Every eighth at most, and never two in a row.
            if *lost && step % 8 == 5 {
                continue;
            }
            let ms = 300 + u64::from(step) * 20;
            events.push((ms, 1, 1, seq.wrapping_add(step), port(ms)));
            sent.push(seq.wrapping_add(step));
        }
        for (who, other) in (2_u8..).zip(&others) {
            let ssrc = u32::from(who);
            match *other {
                Other::Burst { at_ms, packets, same_port, same_ssrc } => {
                    let from = if same_port { port(at_ms) } else { 9000 + u16::from(who) };
                    // Nobody knows it before the call begins.
                    let ssrc = if same_ssrc && !same_port && at_ms > 400 { 1 } else { ssrc };
                    // Not the numbers of the call, which nobody knows.
                    let first = seq.wrapping_add(10_000);
                    events.extend((0..packets).map(|step| (at_ms, who, ssrc, first.wrapping_add(step), from)));
                }
                Other::Sparse { from_ms, every_ms, same_port } => {
                    let steps = u16::try_from((6300 - from_ms) / every_ms).unwrap_or(0);
                    events.extend((0..steps).map(|step| {
                        let ms = from_ms + u64::from(step) * every_ms;
                        let from = if same_port { port(ms) } else { 9000 + u16::from(who) };
                        (ms, who, ssrc, step, from)
                    }));
                }
                Other::Beside { from_ms, packets, same_port } => {
                    events.extend((0..packets).map(|step| {
                        let ms = from_ms + u64::from(step) * 20;
                        let from = if same_port { port(ms) } else { 9000 + u16::from(who) };
                        (ms, who, ssrc, step, from)
                    }));
                }
            }
        }
        events.sort_by_key(|event| event.0);
        let mut bench = Bench::new();
        for (ms, who, ssrc, seq, from) in events {
            bench.feed_from(SocketAddr::new(ip, from), who, ssrc, seq, ms);
            if ms % 100 == 0 && bench.lock.tick(at(ms)) {
                bench.fetch();
            }
        }
        bench.settle(6400);
        prop_assert_eq!(bench.heard(1), sent);
        prop_assert_eq!(bench.out.len() as u64 + bench.lock.strangers(), bench.fed, "each is in one account");
    }
}

#[test]
fn a_lock_that_trusts_takes_every_packet_at_once_whatever_its_ssrc_and_has_no_strangers() {
    let mut bench = Bench::new();
    bench.lock.trust();
    for (ssrc, seq) in [(7, 0), (7, 1), (9, 500), (7, 2), (7, 40_000)] {
        assert_eq!(bench.feed(PHONE, 1, ssrc, seq, u64::from(seq % 100) * 20), Admission::Ours);
    }
    assert_eq!((bench.out.len(), bench.lock.strangers(), bench.lock.is_contested()), (5, 0, false));
    assert_eq!(bench.lock.source(), Some(addr(PHONE)));
}

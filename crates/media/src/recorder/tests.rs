use super::*;
use std::time::Duration;

const PACKET_OCTETS: u64 = 160;

fn rules() -> Rules {
    Rules {
        source: source_lock::Rules { only: None, takeover_after: Duration::from_secs(5) },
        codec: Codec::Pcma,
        ptime_ms: None,
        payload_type: None,
        looks_for_encryption: false,
        max_codec_changes: 8,
    }
}

struct Bench {
    stream: StreamRecorder,
    pool: BlockPool,
}

impl Bench {
    /// Files hold `packets` of 20 ms.
    fn in_segments(packets: u64) -> Self {
        let stream = StreamRecorder::in_segments(rules(), packets * PACKET_OCTETS, Mono::default());
        Self { stream, pool: BlockPool::new(1 << 20) }
    }

    fn relayed() -> Self {
        let stream = StreamRecorder::relayed(rules(), Mono::default());
        Self { stream, pool: BlockPool::new(1 << 20) }
    }

    fn hears(&mut self, numbers: std::ops::Range<u16>) -> Vec<Option<Verdict>> {
        self.hears_of(Codec::Pcma, 5004, numbers)
    }

    fn hears_of(&mut self, codec: Codec, port: u16, numbers: std::ops::Range<u16>) -> Vec<Option<Verdict>> {
        let hear = |number| {
            let octets = rtp(codec, port, number);
            let datagram = Datagram {
                octets: &octets,
                truncated: false,
                source: ([127, 0, 0, 1], port).into(),
                arrival: at(number),
            };
            self.stream.datagram(datagram, &mut self.pool)
        };
        numbers.map(hear).collect()
    }

    /// Octets and received packets of each segment.
    fn segments(&mut self) -> Vec<(u64, u64)> {
        self.stream.finish(&mut self.pool);
        let (mut segments, mut before) = (Vec::new(), 0);
        loop {
            let (pieces, octets) = self.stream.buffer_mut().take_pieces();
            self.pool.give_back_all(pieces);
            let end = self.stream.take_end();
            let counts = end.as_ref().map_or(*self.stream.counts(), |end| end.counts);
            segments.push((octets, counts.received - before));
            before = counts.received;
            if end.is_none() {
                return segments;
            }
        }
    }
}

fn at(number: u16) -> Mono {
    Mono::new(Duration::from_millis(20) * number.into())
}

fn rtp(codec: Codec, ssrc: u16, number: u16) -> Vec<u8> {
    let mut octets = vec![0x80, codec.payload_type().0];
    octets.extend(number.to_be_bytes());
    octets.extend((u32::from(number) * 160).to_be_bytes());
    octets.extend(u32::from(ssrc).to_be_bytes());
    octets.extend([7; 160]);
    octets
}

#[test]
fn segments_that_nobody_takes_keep_their_own_counts() {
    let mut bench = Bench::in_segments(10);
    bench.hears(0..25);
    // The packet that crosses the limit tells that a segment has ended, and is counted before it.
    assert_eq!(bench.segments(), [(1600, 11), (1600, 10), (800, 4)]);
    assert_eq!(bench.pool.used_octets(), 0);
}

#[test]
fn segments_of_two_codecs_share_the_packets_between_them() {
    let mut bench = Bench::in_segments(1000);
    bench.hears(0..20);
    bench.hears_of(Codec::Pcmu, 5004, 20..50);
    assert_eq!(bench.segments(), [(20 * 160, 20), (30 * 160, 30)]);
    assert_eq!((bench.stream.counts().stored, bench.stream.counts().lost), (50, 0));
}

#[test]
fn a_stray_packet_of_another_codec_is_dropped_and_not_lost() {
    let mut bench = Bench::in_segments(1000);
    bench.hears(0..20);
    bench.hears_of(Codec::Pcmu, 5004, 20..21);
    bench.hears(21..40);
    let counts = bench.stream.counts();
    assert_eq!((counts.dropped_for(DropCause::PayloadType), counts.stored, counts.lost), (1, 39, 0));
}

#[test]
fn a_relayed_stream_admits_and_counts_what_a_recorded_one_does() {
    let (mut recorded, mut relayed) = (Bench::in_segments(1000), Bench::relayed());
    let (mut held, mut passed) = (0, 0);
    for (port, numbers) in [(5004, 0..50), (6004, 50..80), (5004, 53..90), (6004, 400..420)] {
        assert_eq!(recorded.hears_of(Codec::Pcma, port, numbers.clone()), {
            let mut verdicts = Vec::new();
            for number in numbers {
                let verdict = relayed.hears_of(Codec::Pcma, port, number..number + 1);
                held += relayed.stream.take_released().map_or(0, |waiting| waiting.len());
                passed += verdict.iter().flatten().count();
                verdicts.extend(verdict);
            }
            verdicts
        });
    }
    assert_eq!(recorded.stream.counts(), relayed.stream.counts());
    assert_eq!(recorded.stream.octets(), relayed.stream.octets());
    // The first two of each sender waited for the third.
    assert_eq!((held, passed + held), (4, 50 + 37 + 20));
    assert_eq!(recorded.stream.counts().strangers, 30);
    assert!(recorded.stream.take_released().is_none());
}

#[test]
fn a_relayed_stream_that_is_recorded_from_its_last_packets_on_counts_them_once() {
    let mut bench = Bench::relayed();
    bench.hears(0..50);
    bench.stream.record_in_segments(Some(20), u64::MAX, at(50));
    let mut again = Counts::default();
    for number in 30..50 {
        let octets = rtp(Codec::Pcma, 5004, number);
        bench.stream.replay(&octets, at(number), &mut bench.pool, &mut again);
    }
    assert_eq!(bench.stream.end_replay(), 0);
    assert_eq!((again.stored, bench.stream.octets()), (20, 50 * PACKET_OCTETS));
    bench.hears(50..60);
    assert_eq!((bench.stream.counts().stored, bench.stream.octets()), (60, 60 * PACKET_OCTETS));
    assert_eq!(bench.segments()[0].0, 30 * PACKET_OCTETS);
}

#[test]
fn packets_that_come_when_nothing_is_kept_any_more_are_dropped_and_take_no_memory() {
    let mut bench = Bench::in_segments(1000);
    bench.hears(0..50);
    bench.stream.buffer_mut().discard(&mut bench.pool);
    bench.hears(50..60);
    assert_eq!(bench.stream.counts().dropped_for(DropCause::BufferFull), 10);
    assert_eq!(bench.pool.used_octets(), 0);
}

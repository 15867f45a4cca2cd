use super::*;
use media::units::{PayloadType, RtpTimestamp, SeqNo, Ssrc};
use store::jobs::Space;

/// A recording whose files hold `frames` of 20 ms.
struct Bench {
    to_file: ToFile,
    counts: Counts,
    pool: BlockPool,
    closed: Vec<Sidecar>,
}

impl Bench {
    fn new(frames: u64) -> Self {
        let folder = Folder { root: "/stick".into(), device: 1, name: "Record".into() };
        let max_file_octets = 76 + frames * 160;
        let spec = Spec {
            recording: "r".into(),
            codec: Codec::Pcma,
            ptime_ms: 20,
            folder,
            max_file_octets,
            recipients: 0,
        };
        let (to_file, _) = ToFile::begin(spec, FileKey(1), &Call::default(), Now::default());
        let mut bench =
            Self { to_file, counts: Counts::default(), pool: BlockPool::new(1 << 20), closed: Vec::new() };
        bench.opened();
        bench
    }

    fn at(ms: u64) -> Now {
        Now { mono: Mono::new(Duration::from_millis(ms)), ..Now::default() }
    }

    fn opened(&mut self) {
        let opened = Opened { path: "/stick/a.wav".into(), name: "a.wav".into(), space: Space::default() };
        self.to_file.opened(opened);
    }

    /// Sends packets by their numbers; the disk is quick.
    fn send(&mut self, numbers: impl IntoIterator<Item = u16>) -> &mut Self {
        for number in numbers {
            self.push(number, 0);
            self.write();
        }
        self
    }

    fn push(&mut self, number: u16, arrival_ms: u64) {
        let packet = Packet {
            payload_type: PayloadType(8),
            seq: SeqNo(number),
            timestamp: RtpTimestamp(u32::from(number) * 160),
            ssrc: Ssrc(1),
            payload: &[7; 160],
        };
        self.counts.book(self.to_file.push(&packet, Self::at(arrival_ms).mono, &mut self.pool));
        self.counts.lost = self.to_file.lost();
    }

    fn write(&mut self) {
        let (call, now) = (Call::default(), Now::default());
        while let Some(job) = self.to_file.next_job(true, &call, &self.counts, now) {
            match job {
                Job::Append { pieces, .. } => drop(self.to_file.appended(pieces, &mut self.pool)),
                Job::Close { sidecar, .. } => {
                    self.closed.push(*sidecar);
                    if self.to_file.closed(FileKey(2), &call, now).is_none() {
                        return;
                    }
                    self.opened();
                }
                job => panic!("{job:?}"),
            }
        }
    }

    /// Lost packets by the sidecars of all files.
    fn lost_in_files(&mut self) -> Vec<u64> {
        self.to_file.finish("stopped", Now::default(), &mut self.pool);
        self.write();
        self.closed.iter().map(|sidecar| sidecar.packets.lost).collect()
    }
}

#[test]
fn a_packet_that_crosses_the_end_of_a_file_out_of_order_is_lost_in_none() {
    let mut bench = Bench::new(10);
    bench.send(0..10).send([12, 10, 11]).send(13..16);
    assert_eq!((bench.lost_in_files(), bench.counts.lost), (vec![0, 0], 0));
}

#[test]
fn a_packet_that_is_lost_at_the_end_of_a_file_is_lost_once() {
    let mut bench = Bench::new(10);
    bench.send(0..9).send(10..25);
    assert_eq!((bench.lost_in_files().iter().sum(), bench.counts.lost), (1, 1));
}

#[test]
fn files_make_up_for_a_packet_that_came_late_and_was_lost_in_the_one_before() {
    let mut bench = Bench::new(10);
    bench.send(0..2).send(3..13).send([2]).send(13..23).send(24..28);
    assert_eq!((bench.lost_in_files(), bench.counts.lost), (vec![1, 0, 0], 1));
}

#[test]
fn audio_behind_the_end_of_a_file_is_no_older_than_others_when_it_is_flushed() {
    let interval = Duration::from_secs(1);
    let mut bench = Bench::new(10);
    for number in 0..40 {
        bench.push(number, 20 * u64::from(number));
    }
    let (call, now) = (Call::default(), Bench::at(1000));
    let Some(Job::Append { pieces, .. }) = bench.to_file.next_job(true, &call, &bench.counts, now) else {
        panic!("nothing to write");
    };
    bench.to_file.appended(pieces, &mut bench.pool);
    assert!(matches!(bench.to_file.next_job(false, &call, &bench.counts, now), Some(Job::Close { .. })));
    assert!(bench.to_file.closed(FileKey(2), &call, now).is_some());
    bench.opened();
    // The first packets of a stream may be put in order for 100 ms.
    let due = bench.to_file.flush_due(interval);
    assert!(due.is_some_and(|due| due <= Bench::at(1100).mono), "{due:?}");
}

#[test]
fn the_first_packets_reach_the_disk_though_no_more_come() {
    let interval = Duration::from_secs(1);
    let mut bench = Bench::new(100);
    for number in 0..3 {
        bench.push(number, 20 * u64::from(number));
    }
    let due = bench.to_file.flush_due(interval).expect("a flush");
    assert!(due <= Bench::at(1040).mono, "{due:?}");
    bench.to_file.let_go(due, &mut bench.pool);
    let Some(Job::Append { pieces, .. }) =
        bench.to_file.next_job(true, &Call::default(), &bench.counts, Bench::at(1040))
    else {
        panic!("nothing to write");
    };
    bench.to_file.appended(pieces, &mut bench.pool);
    assert_eq!((bench.to_file.waiting_octets(), bench.to_file.flush_due(interval)), (0, None));
}

use super::*;
use media::recorder::{Datagram, Rules};
use media::source_lock;
use store::jobs::Space;

/// A stream whose audio goes to such files.
pub(super) fn stream(to_file: &ToFile) -> StreamRecorder {
    let rules = Rules {
        source: source_lock::Rules { only: None, takeover_after: Duration::from_secs(5) },
        codec: Codec::Pcma,
        ptime_ms: Some(20),
        payload_type: None,
        looks_for_encryption: true,
        max_codec_changes: usize::MAX,
    };
    StreamRecorder::in_segments(rules, to_file.max_segment_octets(), Mono::default())
}

/// A recording whose files hold `frames` of 20 ms.
struct Bench {
    to_file: ToFile,
    stream: StreamRecorder,
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
        let stream = stream(&to_file);
        let mut bench = Self { to_file, stream, pool: BlockPool::new(1 << 20), closed: Vec::new() };
        bench.opened();
        bench
    }

    fn at(ms: u64) -> Now {
        Now { mono: Mono::new(Duration::from_millis(ms)), ..Now::default() }
    }

    fn opened(&mut self) {
        let opened = Opened { path: "/stick/a.wav".into(), name: "a.wav".into(), space: Space::default() };
        self.to_file.opened(opened, &self.stream);
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
        let mut octets = vec![0x80, 8];
        octets.extend(number.to_be_bytes());
        octets.extend((u32::from(number) * 160).to_be_bytes());
        octets.extend([0, 0, 0, 1]);
        octets.extend([7; 160]);
        let (source, arrival) = (([127, 0, 0, 1], 5004).into(), Self::at(arrival_ms).mono);
        self.stream.datagram(Datagram { octets: &octets, truncated: false, source, arrival }, &mut self.pool);
    }

    fn next_job(&mut self, flush: bool, now: Now) -> Option<Job> {
        self.to_file.next_job(flush, &Call::default(), &mut self.stream, now)
    }

    fn appended(&mut self, pieces: Vec<Piece>) {
        self.to_file.appended(pieces, &mut self.stream, &mut self.pool);
    }

    fn lost(&self) -> u64 {
        self.stream.counts().lost
    }

    fn write(&mut self) {
        let (call, now) = (Call::default(), Now::default());
        while let Some(job) = self.next_job(true, now) {
            match job {
                Job::Append { pieces, .. } => self.appended(pieces),
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
        self.to_file.finish("stopped", &mut self.stream, Now::default(), &mut self.pool);
        self.write();
        self.closed.iter().map(|sidecar| sidecar.packets.lost).collect()
    }
}

#[test]
fn a_packet_that_crosses_the_end_of_a_file_out_of_order_is_lost_in_none() {
    let mut bench = Bench::new(10);
    bench.send(0..10).send([12, 10, 11]).send(13..16);
    assert_eq!((bench.lost_in_files(), bench.lost()), (vec![0, 0], 0));
}

#[test]
fn a_packet_that_is_lost_at_the_end_of_a_file_is_lost_once() {
    let mut bench = Bench::new(10);
    bench.send(0..9).send(10..25);
    assert_eq!((bench.lost_in_files().iter().sum(), bench.lost()), (1, 1));
}

#[test]
fn files_make_up_for_a_packet_that_came_late_and_was_lost_in_the_one_before() {
    let mut bench = Bench::new(10);
    bench.send(0..2).send(3..13).send([2]).send(13..23).send(24..28);
    assert_eq!((bench.lost_in_files(), bench.lost()), (vec![1, 0, 0], 1));
}

#[test]
fn audio_behind_the_end_of_a_file_is_no_older_than_others_when_it_is_flushed() {
    let interval = Duration::from_secs(1);
    let mut bench = Bench::new(10);
    for number in 0..40 {
        bench.push(number, 20 * u64::from(number));
    }
    let (call, now) = (Call::default(), Bench::at(1000));
    let Some(Job::Append { pieces, .. }) = bench.next_job(true, now) else {
        panic!("nothing to write");
    };
    bench.appended(pieces);
    assert!(matches!(bench.next_job(false, now), Some(Job::Close { .. })));
    assert!(bench.to_file.closed(FileKey(2), &call, now).is_some());
    bench.opened();
    // The first packets of a stream may be put in order for 100 ms.
    let due = bench.to_file.flush_due(&bench.stream, interval);
    assert!(due.is_some_and(|due| due <= Bench::at(1100).mono), "{due:?}");
}

#[test]
fn the_first_packets_reach_the_disk_though_no_more_come() {
    let interval = Duration::from_secs(1);
    let mut bench = Bench::new(100);
    for number in 0..3 {
        bench.push(number, 20 * u64::from(number));
    }
    let due = bench.to_file.flush_due(&bench.stream, interval).expect("a flush");
    assert!(due <= Bench::at(1040).mono, "{due:?}");
    bench.stream.let_go(due, &mut bench.pool);
    let Some(Job::Append { pieces, .. }) = bench.next_job(true, Bench::at(1040)) else {
        panic!("nothing to write");
    };
    bench.appended(pieces);
    assert_eq!((waiting_octets(&bench.stream), bench.to_file.flush_due(&bench.stream, interval)), (0, None));
}

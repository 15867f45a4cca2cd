//! RTP in, storage jobs out.

use media::blocks::{BLOCK_OCTETS, BlockPool};
use media::codec::Codec;
use media::counts::DropCause;
use media::time::{Mono, Now, Wall};
use recfile::call::Altered;
use recordserver::recording::{Front, Mark, Recording, Rules};
use std::net::SocketAddr;
use std::time::Duration;
use store::jobs::{FileKey, Folder, Job, Piece};
use uplink::media_stream::FrameError;
use uplink::media_stream::inlet::Arrival;
use uplink::message::Parties;
use uplink::message::extension::Asked;
use uplink::server::{EndReason, Opening};

fn now(ms: u64) -> Now {
    let wall = Wall { unix_ms: 1_772_352_900_000 + i64::try_from(ms).expect("small"), utc_offset_s: 0 };
    Now { mono: Mono::new(Duration::from_millis(ms)), wall }
}

fn phone() -> SocketAddr {
    "192.0.2.1:4000".parse().expect("address")
}

fn rtp(seq: u16, payload: &[u8]) -> Vec<u8> {
    rtp_of(Codec::Pcma, seq, payload)
}

fn rtp_of(codec: Codec, seq: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x80, codec.payload_type().0];
    datagram.extend(seq.to_be_bytes());
    datagram.extend((u32::from(seq) * 160).to_be_bytes());
    datagram.extend(7_u32.to_be_bytes());
    datagram.extend(payload);
    datagram
}

fn opening() -> Opening {
    Opening {
        altered: Altered::default(),
        id: "7f3a".into(),
        device: "phone".into(),
        parties: Parties { remote_name: "Anna".into(), ..Parties::default() },
        direction: None,
        codec: Codec::Pcma,
        extension: None,
    }
}

fn folder() -> Folder {
    Folder { root: "/srv".into(), device: 1, name: "phone/2026-03-01".into() }
}

struct Bench {
    recording: Recording,
    pool: BlockPool,
    keys: u64,
}

impl Bench {
    fn new(pool_blocks: usize, max_file_octets: u64) -> Self {
        let opening = opening();
        let rules = Rules { flush_interval: Duration::from_secs(1), max_file_octets };
        Self {
            recording: Recording::new(rules, &opening, opening.id.clone(), phone(), folder(), now(0)),
            pool: BlockPool::new((pool_blocks * BLOCK_OCTETS) as u64),
            keys: 0,
        }
    }

    fn hears(&mut self, seqs: std::ops::Range<u16>) {
        self.hears_of(Codec::Pcma, seqs);
    }

    fn hears_of(&mut self, codec: Codec, seqs: std::ops::Range<u16>) {
        for seq in seqs {
            let fill = u8::try_from(seq % 251).expect("below 251");
            let at = now(u64::from(seq) * 20).mono;
            self.recording.datagram(&rtp_of(codec, seq, &[fill; 160]), phone(), at, &mut self.pool);
        }
    }

    fn item(&mut self, number: u64, seq: u16, ms: u64) -> Result<bool, FrameError> {
        let octets = rtp(seq, &[u8::try_from(seq % 251).expect("below 251"); 160]);
        let at_ms = u32::from(seq) * 20;
        let item = Arrival::Packet { number, at_ms, octets: &octets };
        self.recording.item(item, now(ms).mono, &mut self.pool)
    }

    fn jobs(&mut self, ms: u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        let keys = &mut self.keys;
        let mut name = || {
            *keys += 1;
            FileKey(*keys)
        };
        self.recording.jobs(now(ms), &mut name, &mut jobs);
        jobs
    }

    fn finish(&mut self, ms: u64) -> Vec<Job> {
        self.finish_as(ms, Parties { remote_name: "Bea".into(), ..Parties::default() })
    }

    fn finish_as(&mut self, ms: u64, parties: Parties) -> Vec<Job> {
        let mut jobs = Vec::new();
        let keys = &mut self.keys;
        let mut name = || {
            *keys += 1;
            FileKey(*keys)
        };
        let reason = EndReason::Stopped("hangup".into());
        self.recording.finish(&reason, Some(parties), now(ms), &mut self.pool, &mut name, &mut jobs);
        jobs
    }
}

fn kinds(jobs: &[Job]) -> Vec<&'static str> {
    let kind = |job: &Job| match job {
        Job::Open(_) => "open",
        Job::Append { flush: true, .. } => "flush",
        Job::Append { .. } => "append",
        Job::Close { .. } => "close",
        Job::Abandon(_) => "abandon",
        _ => "other",
    };
    jobs.iter().map(kind).collect()
}

/// The audio of all appends, silence written out.
fn audio(jobs: &[Job]) -> Vec<u8> {
    let mut octets = Vec::new();
    for job in jobs {
        let Job::Append { pieces, .. } = job else { continue };
        for piece in pieces {
            match piece {
                Piece::Audio(block) => octets.extend_from_slice(block.octets()),
                Piece::Silence(count) => {
                    octets.resize(octets.len() + usize::try_from(*count).expect("small"), 0xD5)
                }
            }
        }
    }
    octets
}

#[test]
fn the_first_packets_in_sequence_open_the_file_and_tell_its_frame_size() {
    let mut bench = Bench::new(4, u64::MAX);
    assert!(bench.jobs(0).is_empty());
    for seq in 1..4 {
        let at = now(u64::from(seq)).mono;
        let ours = bench.recording.datagram(&rtp(seq, &[1; 240]), phone(), at, &mut bench.pool);
        assert_eq!(ours, seq == 3);
    }
    let jobs = bench.jobs(100);
    let [Job::Open(open)] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!((open.header.rtp_len, open.header.increment), (240, 240));
    assert_eq!(open.stamp, now(0).wall, "named after the start of the call");
}

#[test]
fn audio_goes_out_in_blocks_and_at_each_flush_interval() {
    let mut bench = Bench::new(8, u64::MAX);
    bench.hears(0..40);
    assert_eq!(kinds(&bench.jobs(800)), ["open"]);
    bench.hears(40..50);
    assert_eq!(kinds(&bench.jobs(1000)), ["flush"]);
    assert!(bench.jobs(1100).is_empty());
    bench.hears(50..200);
    let jobs = bench.jobs(1200);
    assert_eq!(kinds(&jobs), ["append"]);
    assert_eq!(audio(&jobs).len(), BLOCK_OCTETS);
}

#[test]
fn lost_packets_are_silence_of_their_length_and_stand_in_the_sidecar() {
    let mut bench = Bench::new(8, u64::MAX);
    bench.hears(0..10);
    bench.hears(15..40);
    let jobs = bench.finish(900);
    assert_eq!(kinds(&jobs), ["open", "flush", "close"]);
    let audio = audio(&jobs);
    assert_eq!(audio.len(), 40 * 160);
    assert!(audio[10 * 160..15 * 160].iter().all(|octet| *octet == 0xD5));
    let Some(Job::Close { sidecar, .. }) = jobs.last() else { panic!("{jobs:?}") };
    assert_eq!((sidecar.packets.received, sidecar.packets.lost), (35, 5));
    assert_eq!((sidecar.gaps_total, sidecar.gap_ms_total, sidecar.gaps[0].at_ms), (1, 100, 200));
    assert_eq!(sidecar.call.remote_name, "Bea", "the name as it is known at the end");
    assert_eq!(sidecar.end_reason.as_deref(), Some("stopped: hangup"));
}

#[test]
fn packets_that_find_no_memory_are_silence_and_counted_drops() {
    let mut bench = Bench::new(1, u64::MAX);
    bench.hears(0..200);
    let counts = *bench.recording.counts();
    assert!(counts.dropped_for(DropCause::BufferFull) > 0 && counts.balance(), "{counts:?}");
    let jobs = bench.finish(4000);
    assert_eq!(audio(&jobs).len(), 200 * 160, "time stays true");
}

#[test]
fn a_recording_without_rtp_leaves_an_empty_file_that_says_so() {
    let jobs = Bench::new(4, u64::MAX).finish(5000);
    assert_eq!(kinds(&jobs), ["open", "flush", "close"]);
    let Some(Job::Close { sidecar, .. }) = jobs.last() else { panic!("{jobs:?}") };
    assert!(sidecar.no_media);
}

#[test]
fn a_file_that_is_full_is_followed_by_the_next_segment() {
    let mut bench = Bench::new(64, 76 + 16_000);
    let mut all = Vec::new();
    for part in 0..8_u16 {
        bench.hears(part * 50..(part + 1) * 50);
        all.extend(bench.jobs(u64::from(part + 1) * 1000));
    }
    all.extend(bench.finish(8100));
    assert_eq!(audio(&all).len(), 400 * 160);
    let segments: Vec<u32> = all
        .iter()
        .filter_map(|job| match job {
            Job::Close { sidecar, .. } => Some(sidecar.segment),
            _ => None,
        })
        .collect();
    assert!(segments.len() > 2 && segments.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{segments:?}");
    let packets: u64 = all
        .iter()
        .map(|job| if let Job::Close { sidecar, .. } = job { sidecar.packets.received } else { 0 })
        .sum();
    assert_eq!(packets, 400);
}

#[test]
fn no_file_passes_its_limit_and_a_full_one_has_it_to_the_frame() {
    for (limit, sweep) in [(76 + 1600, 500), (76 + 1601, 3), (76 + 16_000, 500), (76 + 1, 1), (76 + 159, 40)]
    {
        let mut bench = Bench::new(600, limit);
        let mut all = Vec::new();
        for seq in 0..500_u16 {
            // A hole of a second, so that silence crosses a limit, too.
            if !(200..250).contains(&seq) {
                bench.hears(seq..seq + 1);
            }
            if seq % sweep == 0 {
                all.extend(bench.jobs(u64::from(seq) * 20));
            }
        }
        all.extend(bench.finish(10_000));
        let mut files = Vec::new();
        let (mut octets, mut received, mut gaps) = (0, 0, 0);
        for job in &all {
            match job {
                Job::Append { .. } => octets += audio(std::slice::from_ref(job)).len(),
                Job::Close { sidecar, .. } => {
                    files.push(std::mem::take(&mut octets));
                    received += sidecar.packets.received;
                    gaps += sidecar.gap_ms_total;
                }
                _ => {}
            }
        }
        let full = (usize::try_from(limit).expect("small") - 76) / 160 * 160;
        let (last, before) = files.split_last().expect("files");
        assert!(before.iter().all(|octets| *octets == full.max(160)), "{limit}: {files:?}");
        assert!((1..=full.max(160)).contains(last), "{limit}: {files:?}");
        assert_eq!((files.iter().sum::<usize>(), received, gaps), (500 * 160, 450, 1000), "{limit}");
    }
}

#[test]
fn a_sender_that_changes_its_codec_all_the_time_gets_a_new_file_every_ten_seconds_at_most() {
    let mut bench = Bench::new(64, u64::MAX);
    let mut all = Vec::new();
    for seq in 0..1500 {
        bench.hears_of(if seq / 20 % 2 == 0 { Codec::Pcma } else { Codec::Pcmu }, seq..seq + 1);
        if seq % 50 == 0 {
            all.extend(bench.jobs(u64::from(seq) * 20));
        }
    }
    all.extend(bench.finish(30_000));
    let opened = kinds(&all).into_iter().filter(|kind| *kind == "open").count();
    assert!((3..=4).contains(&opened), "{opened} files in half a minute");
    let counts = bench.recording.counts();
    assert!(counts.dropped_for(DropCause::PayloadType) > 600 && counts.balance(), "{counts:?}");
}

#[test]
fn a_recording_that_waits_for_the_clock_counts_the_packets_it_leaves_out() {
    let mut bench = Bench::new(8, u64::MAX);
    bench.hears(0..50);
    bench.recording.wait_for_clock(true);
    bench.hears(50..80);
    bench.recording.wait_for_clock(false);
    bench.hears(80..100);
    let counts = bench.recording.counts();
    assert_eq!((counts.stored, counts.dropped_for(DropCause::Ahead)), (70, 30), "{counts:?}");
}

#[test]
fn a_call_of_two_packets_and_one_that_changes_its_ssrc_at_the_end_are_whole() {
    let mut bench = Bench::new(8, u64::MAX);
    bench.hears(0..2);
    assert_eq!(audio(&bench.finish(100)).len(), 320);

    let mut bench = Bench::new(8, u64::MAX);
    bench.hears(0..50);
    for seq in 50..54 {
        let mut packet = rtp(seq, &[7; 160]);
        packet[11] = 99;
        let at = now(u64::from(seq) * 20).mono;
        bench.recording.datagram(&packet, phone(), at, &mut bench.pool);
    }
    assert_eq!(audio(&bench.finish(1100)).len(), 54 * 160);
    assert_eq!(bench.recording.strangers(), 0);
}

#[test]
fn noise_is_dropped_by_cause_and_other_hosts_are_strangers() {
    let mut bench = Bench::new(4, u64::MAX);
    let stranger = "192.0.2.66:4000".parse().expect("address");
    let at = now(0).mono;
    assert!(!bench.recording.datagram(&rtp(1, &[1; 160]), stranger, at, &mut bench.pool));
    assert!(!bench.recording.datagram(b"hello", phone(), at, &mut bench.pool));
    let counts = bench.recording.counts();
    assert_eq!((counts.received, counts.dropped_for(DropCause::NotRtp)), (1, 1));
    assert_eq!((bench.recording.strangers(), bench.recording.is_contested()), (1, true));
    assert!(bench.jobs(100).is_empty());
}

#[test]
fn a_failed_disk_gets_no_more_jobs_and_its_memory_comes_back() {
    let mut bench = Bench::new(8, u64::MAX);
    bench.hears(0..300);
    bench.jobs(100);
    let before = bench.pool.used_octets();
    bench.recording.fail(&mut bench.pool);
    assert!(bench.pool.used_octets() < before);
    assert!(bench.jobs(5000).is_empty());
    assert_eq!(kinds(&bench.finish(6000)), ["abandon"]);
}

#[test]
fn a_stop_request_without_numbers_leaves_those_of_the_start_request() {
    let jobs =
        Bench::new(4, u64::MAX).finish_as(5000, Parties { local_number: "201".into(), ..Parties::default() });
    let Some(Job::Close { sidecar, .. }) = jobs.last() else { panic!("{jobs:?}") };
    assert_eq!((&*sidecar.call.remote_name, &*sidecar.call.local_number), ("Anna", "201"));
}

/// Of each file: codec in header and sidecar, segment, reason, packets received and dropped, octets.
fn files(jobs: &[Job]) -> Vec<(Codec, String, u32, String, u64, u64, usize)> {
    let mut files = Vec::new();
    let mut header = None;
    let mut octets = 0;
    for job in jobs {
        match job {
            Job::Open(open) => (header, octets) = (Some(open.header.codec), 0),
            Job::Append { .. } => octets += audio(std::slice::from_ref(job)).len(),
            Job::Close { sidecar, .. } => {
                let packets = &sidecar.packets;
                assert!(!sidecar.no_media && packets.lost == 0, "{sidecar:?}");
                files.push((
                    header.take().expect("it was opened"),
                    sidecar.codec.clone(),
                    sidecar.segment,
                    sidecar.end_reason.clone().expect("it has ended"),
                    packets.received,
                    packets.dropped,
                    octets,
                ));
            }
            _ => panic!("{job:?}"),
        }
    }
    files
}

#[test]
fn another_codec_ends_the_file_and_starts_the_next_one() {
    for sweep in [10, 60] {
        let mut bench = Bench::new(64, u64::MAX);
        let mut all = Vec::new();
        for part in 0..900 / sweep {
            for seq in part * sweep..(part + 1) * sweep {
                let codec = if (110..710).contains(&seq) { Codec::Pcmu } else { Codec::Pcma };
                bench.hears_of(codec, seq..seq + 1);
            }
            all.extend(bench.jobs(u64::from((part + 1) * sweep) * 20));
        }
        assert_eq!(bench.recording.octets(), 900 * 160);
        assert_eq!(bench.recording.codec(), Codec::Pcma);
        all.extend(bench.finish(18_000));
        let file = |codec: Codec, segment, reason: &str, packets: usize| {
            (codec, codec.name().to_owned(), segment, reason.to_owned(), packets as u64, 0, packets * 160)
        };
        let expected = [
            file(Codec::Pcma, 1, "codec_change", 110),
            file(Codec::Pcmu, 2, "codec_change", 600),
            file(Codec::Pcma, 3, "stopped: hangup", 190),
        ];
        assert_eq!(files(&all), expected, "{sweep}");
        assert_eq!(bench.recording.counts().dropped(), 0);
    }
}

#[test]
fn a_phone_that_sends_another_codec_than_it_said_is_recorded_in_that_codec() {
    let mut bench = Bench::new(64, u64::MAX);
    bench.hears_of(Codec::Pcmu, 0..100);
    let mut all = bench.jobs(2000);
    all.extend(bench.finish(2000));
    let expected = (Codec::Pcmu, "PCMU".to_owned(), 1, "stopped: hangup".to_owned(), 100, 0, 16_000);
    assert_eq!(files(&all), [expected]);
}

#[test]
fn a_dynamic_payload_type_that_fits_the_codec_is_recorded_from_its_first_packet_on() {
    let mut bench = Bench::new(64, 1 << 30);
    for seq in 0..50_u16 {
        let mut datagram = rtp(seq, &[7; 160]);
        datagram[1] = 97;
        bench.recording.datagram(&datagram, phone(), now(u64::from(seq) * 20).mono, &mut bench.pool);
    }
    let counts = bench.recording.counts();
    assert_eq!((counts.received, counts.stored, counts.dropped()), (50, 50, 0), "{counts:?}");
}

#[test]
fn a_stray_packet_of_another_codec_and_a_sender_that_competes_change_nothing() {
    let mut bench = Bench::new(64, u64::MAX);
    bench.hears(0..50);
    bench.hears_of(Codec::Pcmu, 50..51);
    bench.hears(51..100);
    for seq in 100..200 {
        let at = now(u64::from(seq) * 20).mono;
        bench.recording.datagram(&rtp(seq, &[1; 160]), phone(), at, &mut bench.pool);
        bench.recording.datagram(&rtp_of(Codec::G722, seq, &[1; 160]), phone(), at, &mut bench.pool);
    }
    let jobs = bench.finish(4000);
    assert_eq!(kinds(&jobs).iter().filter(|kind| **kind == "open").count(), 1, "{jobs:?}");
    assert_eq!(bench.recording.counts().dropped_for(DropCause::PayloadType), 101);
}

#[test]
fn codecs_that_change_while_the_disk_does_not_keep_up_take_bounded_memory_that_comes_back() {
    let mut bench = Bench::new(64, u64::MAX);
    for part in 0..20_u16 {
        let codec = if part % 2 == 0 { Codec::Pcma } else { Codec::Pcmu };
        bench.hears_of(codec, part * 100..part * 100 + 60);
    }
    assert!(bench.recording.counts().dropped_for(DropCause::PayloadType) > 0);
    assert!(bench.recording.counts().balance());
    bench.recording.fail(&mut bench.pool);
    bench.finish(60_000);
    assert_eq!(bench.pool.used_octets(), 0);
}

/// Audio of a file, and where its sidecar has gaps.
type Segment = (Vec<u8>, Vec<(u64, u64)>);

fn segments(jobs: &[Job]) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut begun = 0;
    for (at, job) in jobs.iter().enumerate() {
        if let Job::Close { sidecar, .. } = job {
            let gaps = sidecar.gaps.iter().map(|gap| (gap.at_ms, gap.duration_ms)).collect();
            segments.push((audio(&jobs[begun..at]), gaps));
            begun = at + 1;
        }
    }
    segments
}

#[test]
fn no_file_passes_its_limit_for_any_input_between_two_looks_at_it() {
    // 25 frames of 160 octets, header included; once in small pieces, once all at the end.
    for step in [1, 7, 200] {
        let mut bench = Bench::new(64, 4096);
        let mut jobs = Vec::new();
        for first in (0..100).step_by(step) {
            bench.hears(first..(first + u16::try_from(step).expect("small")).min(100));
            jobs.extend(bench.jobs(u64::from(first) * 20 + 20));
        }
        jobs.extend(bench.finish(2000));
        let segments = segments(&jobs);
        let lengths: Vec<_> = segments.iter().map(|(audio, _)| audio.len()).filter(|it| *it > 0).collect();
        assert_eq!(lengths, [4000, 4000, 4000, 4000], "{step}");
        let all: Vec<u8> = segments.into_iter().flat_map(|(audio, _)| audio).collect();
        let sent: Vec<u8> = (0..100).flat_map(|seq| [seq; 160]).collect();
        assert!(all == sent, "{step}: nothing is lost, doubled or out of order");
        assert_eq!(bench.pool.used_octets(), jobs_octets(&jobs), "{step}");
    }
}

#[test]
fn a_gap_over_the_end_of_a_file_is_in_both_sidecars_and_time_stays_true() {
    let mut bench = Bench::new(64, 4096);
    bench.hears(0..20);
    // 60 packets are lost: the rest of the first file, all of the next two, and the beginning of the fourth.
    bench.hears(80..90);
    let jobs = bench.finish(1800);
    let segments = segments(&jobs);
    let lengths: Vec<_> = segments.iter().map(|(audio, _)| audio.len()).collect();
    assert_eq!(lengths, [4000, 4000, 4000, 2400]);
    let gaps: Vec<_> = segments.iter().map(|(_, gaps)| gaps.clone()).collect();
    assert_eq!(gaps, [vec![(400, 100)], vec![(0, 500)], vec![(0, 500)], vec![(0, 100)]]);
    assert!(segments[3].0[..800].iter().all(|octet| *octet == 0xD5) && segments[3].0[800] == 80);
}

/// Octets of blocks that jobs have.
fn jobs_octets(jobs: &[Job]) -> u64 {
    let blocks = jobs.iter().filter_map(|job| match job {
        Job::Append { pieces, .. } => Some(pieces),
        _ => None,
    });
    let count = blocks.flatten().filter(|piece| matches!(piece, Piece::Audio(_))).count();
    (count * BLOCK_OCTETS) as u64
}

/// A recording whose audio comes as items, of a phone that began it now.
fn over_tcp() -> Bench {
    let mut bench = Bench::new(64, u64::MAX);
    let opening = Opening { extension: Some(Asked::default()), ..opening() };
    let rules = Rules { flush_interval: Duration::from_secs(5), max_file_octets: u64::MAX };
    bench.recording = Recording::new(rules, &opening, opening.id.clone(), phone(), folder(), now(0));
    bench
}

#[test]
fn items_are_taken_from_the_first_packet_on_once_and_without_a_gap() {
    let mut bench = over_tcp();
    for number in 0..20 {
        assert_eq!(bench.item(number, u16::try_from(number).expect("few"), 1000), Ok(true));
        assert_eq!(bench.item(number, 7, 1000), Ok(false), "again");
    }
    assert_eq!(bench.item(21, 21, 1000), Err(FrameError::Number { due: 20, came: 21 }));
    let jobs = bench.finish(1000);
    assert_eq!(audio(&jobs).len(), 20 * 160);
}

#[test]
fn a_place_to_go_on_at_is_given_when_the_disk_has_all_before_it_and_nothing_waits() {
    let mut bench = over_tcp();
    let mark = |item, octets| Some(Mark { item, segment: 1, octets });
    for (number, seq) in (0..20).zip(0..) {
        bench.item(number, seq, 400).expect("in order");
    }
    assert_eq!(bench.recording.take_written(), None, "the disk was given nothing");
    assert_eq!(kinds(&bench.jobs(1000)), ["open", "flush"]);
    assert_eq!(bench.recording.take_written(), mark(20, 20 * 160));
    assert_eq!(bench.recording.take_written(), None, "once");
    // A packet behind a hole waits, and with it all that follow.
    for (number, seq) in (20..22).zip([21, 22]) {
        bench.item(number, seq, 1500).expect("in order");
    }
    bench.jobs(2000);
    assert_eq!(bench.recording.take_written(), None);
    // It comes late; the next one goes straight on.
    bench.item(22, 20, 2000).expect("in order");
    bench.item(23, 23, 2000).expect("in order");
    bench.jobs(3000);
    assert_eq!(bench.recording.take_written(), mark(24, 24 * 160));
    let pause = Arrival::Pause { number: 24, at_ms: 480 };
    assert_eq!(bench.recording.item(pause, now(3000).mono, &mut bench.pool), Ok(true));
    bench.jobs(3100);
    assert_eq!(bench.recording.take_written(), mark(25, 24 * 160), "a pause has no audio");
}

/// A recording that goes on with item 8, of which the files have the audio, and `surplus` octets of what
/// follows; if negative, octets that they lack.
fn continued(surplus: i64) -> Bench {
    let mut bench = over_tcp();
    let front = Front { segment: 3, next: 8, primes: true, surplus };
    bench.recording.goes_on(front, &Asked::default(), now(0).mono);
    bench
}

/// The audio of the packets from this one on.
fn audio_from(seq: u16, to: u16) -> Vec<u8> {
    (seq..to).flat_map(|seq| [u8::try_from(seq % 251).expect("below 251"); 160]).collect()
}

#[test]
fn a_recording_that_goes_on_leaves_out_exactly_what_its_files_have() {
    for surplus in [0_i64, 1, 160, 1000, 1600] {
        let mut bench = continued(surplus);
        for seq in 8..40 {
            assert_eq!(bench.item(u64::from(seq), seq, 1000), Ok(true));
            if seq % 7 == 0 {
                bench.jobs(u64::from(seq));
            }
        }
        let jobs = bench.finish(1000);
        let skipped = usize::try_from(surplus).expect("positive");
        // Jobs before may have some of it.
        let (all, audio) = (audio_from(9, 40), audio(&jobs));
        assert!(all[skipped..].ends_with(&audio), "{surplus}");
        assert_eq!(bench.recording.octets(), u64::try_from(all.len() - skipped).expect("some"), "{surplus}");
        let Some(Job::Close { sidecar, .. }) = jobs.last() else { panic!("{jobs:?}") };
        assert_eq!((sidecar.segment, sidecar.gaps_total), (3, 0));
    }
}

#[test]
fn octets_that_a_file_has_lost_become_silence_that_the_sidecar_tells() {
    let mut bench = continued(-480);
    for seq in 8..40 {
        bench.item(u64::from(seq), seq, 1000).expect("in order");
    }
    let jobs = bench.finish(1000);
    // The item before the place is here, and was lost, too: it needs no silence.
    assert_eq!(audio(&jobs), [vec![0xD5; 320], audio_from(8, 40)].concat());
    let Some(Job::Close { sidecar, .. }) = jobs.last() else { panic!("{jobs:?}") };
    let gap = &sidecar.gaps[0];
    assert_eq!((sidecar.gaps_total, gap.at_ms, gap.duration_ms), (1, 0, 40));
}

#[test]
fn a_recording_that_goes_on_with_nothing_new_has_nothing_to_keep() {
    let mut bench = continued(320);
    for seq in 8..11 {
        bench.item(u64::from(seq), seq, 1000).expect("in order");
        assert!(bench.jobs(1000 + u64::from(seq)).is_empty());
    }
    assert!(!bench.recording.is_heard());
    bench.item(11, 11, 1000).expect("in order");
    assert!(bench.recording.is_heard());
}

#[test]
fn places_in_time_of_a_recording_that_goes_on_count_from_its_own_file() {
    let mut bench = continued(1600);
    for seq in 8..30 {
        bench.item(u64::from(seq), seq, 1000).expect("in order");
    }
    bench
        .recording
        .item(Arrival::Pause { number: 30, at_ms: 600 }, now(1000).mono, &mut bench.pool)
        .expect("due");
    bench
        .recording
        .item(Arrival::Resume { number: 31, at_ms: 900 }, now(1000).mono, &mut bench.pool)
        .expect("due");
    let jobs = bench.finish(1000);
    let Some(Job::Close { sidecar, .. }) = jobs.last() else { panic!("{jobs:?}") };
    let pause = sidecar.pauses[0];
    // Of 22 packets the first shows the place, and ten are in the file before.
    assert_eq!((audio(&jobs).len(), pause.at_ms, pause.duration_ms), (11 * 160, 220, 300));
}

#[test]
fn audio_over_tcp_goes_to_the_disk_in_whole_packets() {
    let mut bench = over_tcp();
    let mut octets = 0;
    for (number, seq) in (0..400).zip(0..) {
        bench.item(number, seq, 100).expect("in order");
        let given = audio(&bench.jobs(100)).len();
        assert_eq!(given % 160, 0, "after item {number}");
        octets += given;
    }
    assert!(octets > 2 * BLOCK_OCTETS, "not only at each flush: {octets}");
}

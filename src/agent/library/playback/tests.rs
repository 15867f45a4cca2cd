use super::*;
use media::codec::Codec;
use proptest::prelude::*;
use recfile::header::FileHeader;
use std::path::PathBuf;
use store::jobs::library::LibraryError;
use store::jobs::{Fault, FaultKind};

const KEY: PlaybackKey = PlaybackKey(1);

fn at(ms: u64) -> Now {
    Now { mono: Mono::new(Duration::from_millis(1_000_000 + ms)), ..Now::default() }
}

fn part(name: &str, frames: u64) -> Playable {
    let format = Format::detect(&FileHeader::new(Codec::Pcma, 20).encode()).unwrap();
    Playable { file: name.into(), format, frames }
}

fn start(parts: Vec<Playable>, file: &str, position_ms: u64) -> Playback {
    let request = PlayRequest {
        file: file.into(),
        files: Vec::new(),
        recording: Some("r".into()),
        folder: Folder { root: PathBuf::new(), device: 0, name: String::new() },
        target: SocketAddr::from(([127, 0, 0, 1], 4000)),
        position_ms,
    };
    Playback::new("p".into(), request, parts, 0xFFFE_FFFF_FFFF_FFFF, at(0))
}

/// A disk on which frame `n` of every file is filled with `n`, and the audio heard.
struct Bench {
    it: Playback,
    pool: BlockPool,
    /// Frames in each file by now.
    lengths: Vec<u64>,
    growing: bool,
    heard: Vec<(u64, Vec<u8>)>,
    ended_ms: Option<u64>,
}

impl Bench {
    fn new(it: Playback) -> Self {
        let lengths = it.parts.iter().map(|part| part.frames).collect();
        let pool = BlockPool::new(1 << 20);
        Self { it, pool, lengths, growing: false, heard: Vec::new(), ended_ms: None }
    }

    fn read(&mut self, now_ms: u64) -> bool {
        self.read_frames(now_ms, 160)
    }

    fn read_frames(&mut self, now_ms: u64, octets: usize) -> bool {
        let Some(read) = self.it.next_read(KEY, self.growing, at(now_ms), &mut self.pool) else {
            return false;
        };
        let part = self.it.parts.iter().position(|part| part.file == read.file).unwrap();
        let mut block = read.block;
        let total = self.lengths[part];
        let mut frame = read.first;
        while frame < total && block.room() >= octets {
            block.fill(&vec![u8::try_from(frame % 256).unwrap(); octets]);
            frame += 1;
        }
        let (playback, generation, first) = (read.playback, read.generation, read.first);
        let answer = FramesRead { playback, generation, first, block, result: Ok(total) };
        assert!(self.it.take_read(answer, at(now_ms), &mut self.pool));
        true
    }

    fn play(&mut self, now_ms: u64) {
        let heard = &mut self.heard;
        if self.it.play(at(now_ms), &mut self.pool, &mut |packet| heard.push((now_ms, packet))) {
            self.ended_ms.get_or_insert(now_ms);
        }
    }

    /// Turns of the loop until `to_ms`, each `late_ms` after it was due.
    fn run(&mut self, from_ms: u64, to_ms: u64, late_ms: u64) {
        let mut now_ms = from_ms;
        loop {
            self.play(now_ms);
            while self.ended_ms.is_none() && self.read(now_ms) {
                self.play(now_ms);
            }
            let next = self.it.deadline(false).map(|due| due.since(at(0).mono).as_millis());
            let Some(next) = next.filter(|_| self.ended_ms.is_none()) else { return };
            now_ms = (u64::try_from(next).unwrap() + late_ms).max(now_ms + 1);
            if now_ms > to_ms {
                return;
            }
        }
    }
}

fn sequence(packet: &[u8]) -> SeqNo {
    SeqNo(u16::from_be_bytes([packet[2], packet[3]]))
}

fn timestamp(packet: &[u8]) -> RtpTimestamp {
    RtpTimestamp(u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]))
}

fn has_marker(packet: &[u8]) -> bool {
    packet[1] & 0x80 != 0
}

#[test]
fn ten_minutes_end_within_20_ms_however_late_each_turn_of_the_loop_is() {
    for late_ms in [0, 1, 7, 19] {
        let mut bench = Bench::new(start(vec![part("a", 30_000)], "a", 0));
        bench.run(0, 700_000, late_ms);
        assert_eq!(bench.heard.len(), 30_000);
        let ended_ms = bench.ended_ms.expect("an end");
        assert!((600_000..600_020).contains(&ended_ms), "{ended_ms} with {late_ms}");
        for (n, (sent_ms, _)) in bench.heard.iter().enumerate() {
            let due_ms = n as u64 * 20;
            assert!((due_ms..=due_ms + late_ms).contains(sent_ms), "packet {n} at {sent_ms}");
        }
        assert_eq!(bench.pool.used_octets(), 0);
    }
}

#[test]
fn numbers_rise_by_one_and_timestamps_by_the_increment_across_their_wraps() {
    let mut bench = Bench::new(start(vec![part("a", 300)], "a", 0));
    bench.run(0, 10_000, 0);
    let first = bench.heard[0].1.clone();
    assert!(has_marker(&first));
    for (n, (_, packet)) in bench.heard.iter().enumerate() {
        assert_eq!((packet[0], packet[1] & 0x7F), (0x80, 8));
        assert_eq!(sequence(packet).packets_since(sequence(&first)), i32::try_from(n).unwrap());
        assert_eq!(timestamp(packet).ticks_since(timestamp(&first)), i64::try_from(n).unwrap() * 160);
        assert_eq!(packet[8..12], first[8..12]);
        assert_eq!(has_marker(packet), n == 0);
        assert_eq!(packet[12..], [u8::try_from(n % 256).unwrap(); 160]);
    }
}

#[test]
fn several_files_are_played_as_one() {
    let parts = vec![part("a", 10), part("b", 120), part("c", 7)];
    let mut bench = Bench::new(start(parts.clone(), "a", 0));
    assert_eq!(bench.it.duration_ms(), 137 * 20);
    bench.run(0, 10_000, 0);
    let heard: Vec<u8> = bench.heard.iter().map(|(_, packet)| packet[12]).collect();
    let expected: Vec<u8> = (0..10).chain(0..120).chain(0..7).collect();
    assert_eq!(heard, expected);
    assert_eq!(bench.ended_ms, Some(137 * 20));
    // Naming a later file begins there, and its positions are those of the whole.
    let mut bench = Bench::new(start(parts, "b", 40));
    assert_eq!(bench.it.status(None).position_ms, 240);
    bench.run(0, 10_000, 0);
    assert_eq!(bench.heard.len(), 125);
    assert_eq!(bench.heard[0].1[12], 2);
}

#[test]
fn a_seek_goes_on_in_time_with_a_marker_and_drops_what_was_read() {
    let mut bench = Bench::new(start(vec![part("a", 200), part("b", 200)], "a", 0));
    bench.run(0, 1_000, 0);
    let before = bench.heard.len();
    bench.it.seek(4_400, &mut bench.pool);
    assert_eq!(bench.it.status(None).position_ms, 4_400);
    bench.run(1_001, 60_000, 0);
    let (sent_ms, first) = &bench.heard[before];
    assert_eq!((*sent_ms, first[12], has_marker(first)), (1_020, 20, true));
    let last = &bench.heard[before - 1].1;
    assert_eq!(timestamp(first).ticks_since(timestamp(last)), 160);
    assert_eq!(sequence(first).packets_since(sequence(last)), 1);
    assert_eq!(bench.heard.len() - before, 180);
}

#[test]
fn a_pause_is_in_the_timestamps_and_ends_with_a_marker() {
    let mut bench = Bench::new(start(vec![part("a", 200)], "a", 0));
    bench.run(0, 990, 0);
    assert_eq!(bench.heard.len(), 50);
    bench.it.pause();
    bench.run(995, 5_000, 0);
    assert_eq!(bench.heard.len(), 50, "nothing is sent while paused");
    bench.it.resume(at(5_000));
    bench.run(5_000, 60_000, 0);
    let (last, first) = (&bench.heard[49].1, &bench.heard[50].1);
    assert_eq!(bench.heard[50].0, 5_000);
    assert!(has_marker(first));
    assert_eq!(timestamp(first).ticks_since(timestamp(last)), (5_000 - 980) * 8);
    assert_eq!(sequence(first).packets_since(sequence(last)), 1);
    assert_eq!(bench.heard.len(), 200);
}

#[test]
fn a_disk_that_stalls_for_less_than_what_is_read_ahead_is_not_heard() {
    let mut bench = Bench::new(start(vec![part("a", 500)], "a", 0));
    assert!(bench.read(0));
    // The next read is asked for, and answered 1.9 s later.
    bench.play(0);
    let mut now_ms = 0;
    let mut asked = None;
    while now_ms < 2_000 {
        bench.play(now_ms);
        if asked.is_none() {
            asked = bench.it.next_read(KEY, false, at(now_ms), &mut bench.pool).map(|read| (now_ms, read));
        }
        now_ms += 20;
    }
    assert_eq!(bench.heard.len(), 100, "none is missing");
    assert!(asked.is_some_and(|(asked_ms, _)| asked_ms <= 60));
}

#[test]
fn after_a_long_stall_the_sound_goes_on_where_it_stopped() {
    let mut bench = Bench::new(start(vec![part("a", 200)], "a", 0));
    bench.read(0);
    for now_ms in (0..4_000).step_by(20) {
        bench.play(now_ms);
    }
    assert_eq!(bench.heard.len(), 102, "one block and no more");
    assert_eq!(bench.ended_ms, None);
    bench.run(4_000, 60_000, 0);
    assert_eq!(bench.heard.len(), 200);
    let (sent_ms, first) = &bench.heard[102];
    assert_eq!((*sent_ms, first[12], has_marker(first)), (4_000, 102, true));
    let last = &bench.heard[101].1;
    assert_eq!(timestamp(first).ticks_since(timestamp(last)), (4_000 - 101 * 20) * 8);
}

#[test]
fn a_file_that_grows_is_played_to_where_it_ends_at_last() {
    let mut bench = Bench::new(start(vec![part("a", 10)], "a", 0));
    bench.growing = true;
    bench.run(0, 1_000, 0);
    assert_eq!((bench.heard.len(), bench.ended_ms), (10, None));
    bench.lengths[0] = 60;
    bench.run(1_000, 1_900, 0);
    bench.it.grow("b", FileHeader::new(Codec::Pcma, 20));
    bench.lengths.push(20);
    bench.run(1_900, 3_400, 0);
    assert_eq!((bench.heard.len(), bench.ended_ms), (80, None));
    bench.growing = false;
    bench.run(3_400, 10_000, 0);
    assert_eq!(bench.heard.len(), 80);
    assert!(bench.ended_ms.is_some());
}

#[test]
fn enough_of_a_file_that_grows_is_not_looked_for_again_at_once_over_and_over() {
    let mut bench = Bench::new(start(vec![part("a", 150)], "a", 0));
    bench.growing = true;
    bench.run(0, 60, 0);
    assert_eq!(bench.it.read_at.frame, 150, "all that is there was read");
    bench.it.pause();
    // Half a second later there would be a look at the file, if the frames read did not last for longer.
    assert!(!bench.read(2_000));
    let due = bench.it.deadline(true);
    assert!(due.is_none_or(|due| due > at(2_000).mono), "the loop would not sleep any more");
    bench.it.resume(at(3_000));
    bench.lengths[0] = 200;
    bench.growing = false;
    bench.run(3_000, 60_000, 0);
    assert_eq!(bench.heard.len(), 200);
}

#[test]
fn frames_that_are_long_and_last_for_nothing_take_few_blocks() {
    let header = FileHeader { rtp_len: 4096, increment: 1, ..FileHeader::new(Codec::Pcma, 20) };
    let format = Format::detect(&header.encode()).unwrap();
    let mut bench = Bench::new(start(vec![Playable { file: "a".into(), format, frames: 100_000 }], "a", 0));
    let reads = (0..1000).take_while(|_| bench.read_frames(0, 4096)).count();
    assert!(reads <= MAX_AHEAD, "recordings come first, and {reads} blocks are taken");
}

#[test]
fn an_answer_from_before_a_seek_is_not_played() {
    let mut bench = Bench::new(start(vec![part("a", 200)], "a", 0));
    let read = bench.it.next_read(KEY, false, at(0), &mut bench.pool).unwrap();
    bench.it.seek(2_000, &mut bench.pool);
    assert!(bench.it.next_read(KEY, false, at(0), &mut bench.pool).is_none(), "one read at a time");
    let mut block = read.block;
    block.fill(&[0; 1600]);
    let answer = FramesRead { playback: KEY, generation: read.generation, first: 0, block, result: Ok(200) };
    assert!(bench.it.take_read(answer, at(0), &mut bench.pool));
    bench.run(0, 60_000, 0);
    assert_eq!((bench.heard[0].1[12], bench.heard.len()), (100, 100));
}

#[test]
fn a_file_that_cannot_be_read_any_more_ends_it_with_all_blocks_back() {
    let mut bench = Bench::new(start(vec![part("a", 500)], "a", 0));
    bench.read(0);
    let read = bench.it.next_read(KEY, false, at(0), &mut bench.pool);
    assert!(read.is_none(), "two seconds are enough");
    bench.play(0);
    bench.play(40);
    let read = bench.it.next_read(KEY, false, at(60), &mut bench.pool).unwrap();
    let fault = Fault { kind: FaultKind::Io, detail: String::new() };
    let answer = FramesRead {
        playback: KEY,
        generation: read.generation,
        first: read.first,
        block: read.block,
        result: Err(LibraryError::Fault(fault)),
    };
    assert!(!bench.it.take_read(answer, at(60), &mut bench.pool));
    bench.it.discard(&mut bench.pool);
    assert_eq!(bench.pool.used_octets(), 0);
}

#[test]
fn without_a_free_block_it_waits_for_one() {
    let mut bench = Bench::new(start(vec![part("a", 50)], "a", 0));
    let mut none = BlockPool::new(1);
    let taken = none.take();
    assert!(bench.it.next_read(KEY, false, at(0), &mut none).is_none());
    let due = bench.it.deadline(false).expect("to look again");
    assert!(due > at(0).mono, "not at once, over and over");
    none.give_back(taken.unwrap());
    assert!(bench.it.next_read(KEY, false, Now { mono: due, ..at(0) }, &mut none).is_some());
}

proptest! {
    #[test]
    fn every_position_leads_to_its_frame(frames in prop::collection::vec(0..50u64, 1..6), position_ms in 0..8000u64) {
        let parts: Vec<Playable> =
            frames.iter().enumerate().map(|(n, frames)| part(&n.to_string(), *frames)).collect();
        let it = start(parts, "0", position_ms);
        let total_ms = frames.iter().sum::<u64>() * 20;
        prop_assert_eq!(it.status(None).position_ms, (position_ms / 20 * 20).min(total_ms));
        prop_assert_eq!(it.status(None).duration_ms, total_ms);
    }
}

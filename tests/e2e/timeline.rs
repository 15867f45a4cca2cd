//! Time in the file is call time: order, duplicates, gaps, wraps and jumps.

use std::time::Duration;

use serde_json::json;

use crate::support::call::Books;
use crate::support::rtp_source::FRAME;
use crate::support::{Agent, Call, Codec, Random, Setup, assert_audio, packet, read_recording};

/// Ticks of a second in all three codecs.
const SECOND: u32 = 8000;

#[test]
fn packets_out_of_order_within_100_ms_are_put_in_order() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    let frames: Vec<_> = (0..12).map(|_| call.source.next_packet()).collect();
    // A swap of neighbours, one that comes 80 ms after its time, and a reversal of three.
    for index in [1, 0, 3, 4, 5, 6, 2, 9, 8, 7, 10, 11] {
        call.source.send(&frames[index].0);
    }
    heard.extend(frames.iter().flat_map(|(_, payload)| payload));
    heard.extend(call.speak(10));
    let books = Books::of(&call.status());
    assert_eq!(books, Books { received: 32, lost: 0, late: 0, duplicate: 0, dropped: 0 });
    call.finish_and_expect(&heard);
}

#[test]
fn the_first_packets_may_be_out_of_order_too() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let first = call.source.next_packet();
    let second = call.source.next_packet();
    call.source.send(&second.0);
    call.source.send(&first.0);
    let heard = [first.1, second.1, call.speak(10)].concat();
    call.finish_and_expect(&heard);
}

#[test]
fn a_packet_that_comes_twice_is_stored_once() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(5);
    let frames: Vec<_> = (0..10).map(|_| call.source.next_packet()).collect();
    for (bytes, _) in &frames {
        call.source.send(bytes);
        call.source.send(bytes);
    }
    // Once more, some packets later.
    call.source.send(&frames[8].0);
    heard.extend(frames.iter().flat_map(|(_, payload)| payload));
    heard.extend(call.speak(10));
    let books = Books::of(&call.status());
    assert_eq!(books, Books { received: 36, lost: 0, late: 0, duplicate: 11, dropped: 0 });
    call.finish_and_expect(&heard);
}

#[test]
fn lost_packets_become_the_codecs_silence() {
    let agent = Agent::start();
    for codec in Codec::ALL {
        let mut call = Call::start(&agent, codec);
        let mut heard = call.speak(10);
        for lost in [1, 3, 20] {
            call.source.lose(lost);
            heard.extend(call.silence(lost.into()));
            heard.extend(call.speak(10));
        }
        let books = Books::of(&call.status());
        assert_eq!(books, Books { received: 40, lost: 24, late: 0, duplicate: 0, dropped: 0 });
        call.finish_and_expect(&heard);
    }
}

#[test]
fn a_packet_far_behind_its_time_is_late_and_its_place_stays_silent() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    let straggler = call.source.next_packet();
    heard.extend(call.silence(1));
    heard.extend(call.speak(30));
    call.source.send(&straggler.0);
    heard.extend(call.speak(10));
    let books = Books::of(&call.status());
    assert_eq!((books.received, books.late, books.stored()), (51, 1, 50), "{books:?}");
    call.finish_and_expect(&heard);
}

#[test]
fn sequence_and_timestamp_wrap_unnoticed() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcmu);
    call.source.seq = u16::MAX - 9;
    call.source.timestamp = u32::MAX - 20 * 160 + 77;
    let mut heard = call.speak(30);
    // A loss and a swap at once after the wrap.
    call.source.lose(2);
    heard.extend(call.silence(2));
    heard.extend(call.speak(10));
    let books = Books::of(&call.status());
    assert_eq!(books, Books { received: 40, lost: 2, late: 0, duplicate: 0, dropped: 0 });
    call.finish_and_expect(&heard);
}

#[test]
fn silence_suppression_becomes_silence() {
    let agent = Agent::start();
    for codec in Codec::ALL {
        let mut call = Call::start(&agent, codec);
        let mut heard = call.speak(10);
        for packets in [2, 25, 50] {
            heard.extend(call.be_silent_in_real_time(packets));
            heard.extend(call.speak(10));
        }
        let books = Books::of(&call.status());
        assert_eq!(books, Books { received: 40, lost: 0, late: 0, duplicate: 0, dropped: 0 });
        call.finish_and_expect(&heard);
    }
}

#[test]
fn comfort_noise_becomes_silence() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    // RFC 3389: one descriptor every 100 ms while nobody speaks, for 600 ms.
    for _ in 0..6 {
        let source = &mut call.source;
        let noise = packet(13, source.seq, source.timestamp, source.ssrc, &[0x42]);
        source.send(&noise);
        source.seq = source.seq.wrapping_add(1);
        source.be_silent(5 * 160);
    }
    heard.extend(call.silence(30));
    heard.extend(call.speak(10));
    let books = Books::of(&call.status());
    assert_eq!((books.received, books.lost), (26, 0), "{books:?}");
    call.finish_and_expect(&heard);
}

#[test]
fn a_timestamp_jump_is_believed_if_as_much_time_has_passed() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    heard.extend(call.be_silent_in_real_time(60));
    heard.extend(call.speak(10));
    // The timestamp alone says so: it is wrong.
    call.source.be_silent(9 * SECOND);
    heard.extend(call.speak(10));
    call.finish_and_expect(&heard);
}

#[test]
fn a_timestamp_jump_while_no_time_passes_goes_on_right_after_the_last_packet() {
    let agent = Agent::start();
    for jump in [160, SECOND, 11 * SECOND, 0x7000_0000, 0x9000_0000, 0_u32.wrapping_sub(30 * SECOND)] {
        let mut call = Call::start(&agent, Codec::Pcma);
        let mut heard = call.speak(20);
        call.source.be_silent(jump);
        heard.extend(call.speak(20));
        let audio = call.finish().data;
        assert!(audio == heard, "jump of {jump:#x} ticks: {} octets", audio.len());
    }
}

#[test]
fn another_ssrc_goes_on_right_after_the_last_packet() {
    let agent = Agent::start();
    for (ssrc, seq, timestamp) in [(0xAAAA_0001, 7, 5), (0x0000_0002, 40_000, 0xF000_0000)] {
        let mut call = Call::start(&agent, Codec::G722);
        let mut heard = call.speak(20);
        call.source.ssrc = ssrc;
        call.source.seq = seq;
        call.source.timestamp = timestamp;
        heard.extend(call.speak(20));
        let books = Books::of(&call.stop());
        assert_eq!(books, Books { received: 40, lost: 0, late: 0, duplicate: 0, dropped: 0 });
        read_recording(&call.file).assert_finished(Codec::G722, &heard);
    }
}

#[test]
fn another_ssrc_in_a_live_call_adds_no_silence() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak_in_real_time(45);
    call.source.ssrc = 0xAAAA_0001;
    call.source.timestamp = 99;
    heard.extend(call.speak_in_real_time(45));
    call.finish_and_expect(&heard);
}

#[test]
fn another_ssrc_after_a_silence_leaves_the_silence_its_length() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let before = call.speak_in_real_time(20);
    std::thread::sleep(Duration::from_millis(1500));
    call.source.ssrc = 0xAAAA_0001;
    call.source.timestamp = 99;
    let after = call.speak_in_real_time(20);
    let audio = call.finish().data;
    let between = audio.len().checked_sub(before.len() + after.len()).expect("all that was said");
    assert_audio(&audio[..before.len()], &before);
    assert_audio(&audio[audio.len() - after.len()..], &after);
    let silence = &audio[before.len()..before.len() + between];
    assert!(silence == call.codec.silence(between), "between them is silence");
    let milliseconds = between / 8;
    assert!((1300..=1800).contains(&milliseconds), "1.5 s of silence became {milliseconds} ms");
}

#[test]
fn another_payload_size_is_cut_anew_and_the_last_frame_padded() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    call.source.octets = 240;
    heard.extend(call.speak(5));
    call.source.octets = 80;
    heard.extend(call.speak(7));
    call.source.octets = 161;
    heard.extend(call.speak(3));
    let padding = heard.len().next_multiple_of(FRAME) - heard.len();
    assert_ne!(padding, 0);
    heard.extend(call.codec.silence(padding));
    call.finish_and_expect(&heard);
}

#[test]
fn another_codec_starts_a_new_file() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let before = call.speak(20);
    call.source.payload_type = Codec::Pcmu.payload_type();
    let after = call.speak(30);
    call.stop();
    read_recording(&call.file).assert_finished(Codec::Pcma, &before);
    let second = agent.recordings().into_iter().find(|path| *path != call.file);
    read_recording(&second.expect("a second file")).assert_finished(Codec::Pcmu, &after);
    assert_eq!(agent.recordings().len(), 2);
}

#[test]
fn a_call_with_every_trouble_at_once_comes_out_right_across_a_rollover() {
    let agent = Setup::new().quoted("storage", "max_file_size", "16 KiB").start();
    let mut call = Call::start(&agent, Codec::Pcma);
    // Both wraps in the middle of 250 packets, a little apart.
    call.source.seq = 0_u16.wrapping_sub(120);
    call.source.timestamp = 0_u32.wrapping_sub(130 * 160 - 3);
    let frames: Vec<_> = (0..250).map(|_| call.source.next_packet()).collect();
    let lost = [50, 100, 101, 119, 120, 200];
    let doubled = [10, 99, 130, 131];
    let mut order: Vec<usize> = (0..250).filter(|index| !lost.contains(index)).collect();
    for early in [30, 102, 118, 128, 180] {
        let at = order.iter().position(|&index| index == early).unwrap();
        order.swap(at, at + 1);
    }
    for (sent, &index) in order.iter().enumerate() {
        call.source.send(&frames[index].0);
        if doubled.contains(&index) {
            call.source.send(&frames[index].0);
        }
        if sent % 40 == 39 {
            call.status();
        }
    }
    let books = Books::of(&call.status());
    assert_eq!(books, Books { received: 248, lost: 6, late: 0, duplicate: 4, dropped: 0 });
    assert_eq!(books.stored(), 244);
    call.stop();
    let mut heard = Vec::new();
    for (index, (_, payload)) in frames.into_iter().enumerate() {
        heard.extend(if lost.contains(&index) { call.silence(1) } else { payload });
    }
    let files = crate::rollover::segments(&agent, &call.id);
    let audio: Vec<u8> = files.iter().flat_map(|file| read_recording(file).data).collect();
    assert_audio(&audio, &heard);
    // 101 frames fit into 16 KiB beside the header.
    assert_eq!(files.len(), 3);
}

#[test]
fn streams_with_random_trouble_come_out_in_order_and_with_balanced_books() {
    let agent = Agent::start();
    for seed in 1..=6 {
        eprintln!("seed {seed}");
        random_trouble(&agent, seed);
    }
}

fn random_trouble(agent: &Agent, seed: u64) {
    let mut random = Random(seed);
    let codec = Codec::ALL[random.between(0, 3) as usize];
    let mut call = Call::start(agent, codec);
    call.source.seq = random.next() as u16;
    call.source.timestamp = random.next() as u32;
    let (mut heard, mut sent, mut lost, mut doubled) = (Vec::new(), Vec::new(), 0, 0);
    for index in 0..200_u64 {
        let (bytes, payload) = call.source.next_packet();
        // The ends are sound, so that the model knows the lost packets and the end of the file.
        let in_the_middle = (5..195).contains(&index);
        if in_the_middle && random.between(0, 100) < 8 {
            lost += 1;
            heard.extend(call.silence(1));
            continue;
        }
        heard.extend(payload);
        let delay = if in_the_middle { random.between(0, 4) } else { 0 };
        sent.push((index + delay, bytes.clone()));
        if random.between(0, 100) < 5 {
            doubled += 1;
            sent.push((index + delay, bytes));
        }
    }
    sent.sort_by_key(|(due, _)| *due);
    for (count, (_, bytes)) in sent.iter().enumerate() {
        call.source.send(bytes);
        if count % 40 == 39 {
            call.status();
        }
    }
    let books = Books::of(&call.status());
    let received = sent.len() as u64;
    let expected = Books { received, lost, late: 0, duplicate: doubled, dropped: 0 };
    assert_eq!(books, expected, "seed {seed}");
    call.finish_and_expect(&heard);
}

#[test]
fn lost_audio_of_the_network_does_not_make_a_recording_degraded() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(10);
    call.source.lose(3);
    call.speak(10);
    let status = call.status();
    assert_eq!(status["degraded"], json!(false), "degraded is about our own loss: {status}");
}

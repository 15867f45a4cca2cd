use super::*;
use crate::format::Layout;
use crate::header::{HEADER_OCTETS, MAX_FRAME_FIELD};
use crate::reader::Reader;
use media::codec::Codec;
use proptest::prelude::*;
use std::io::Cursor;

const FRAME: usize = 160;

/// Audio that is no two times the same.
fn audio(n: usize) -> Vec<u8> {
    (n * FRAME..(n + 1) * FRAME).map(|i| u8::try_from((i * 7 + i / 160) % 251).unwrap()).collect()
}

fn all(count: usize) -> Vec<u8> {
    (0..count).flat_map(audio).collect()
}

fn rtp(first: u8, payload_type: u8, n: usize, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let sequence = u16::try_from((n + 65_500) % 65_536).unwrap();
    let timestamp = u32::try_from(n * FRAME).unwrap().wrapping_sub(1000);
    let mut packet = vec![first, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

fn plain(n: usize) -> Vec<u8> {
    rtp(0x80, 8, n, 7, &audio(n))
}

/// Reads a file with these packets, for both meanings of `rtpLen`, and compares.
#[track_caller]
fn assert_plays(what: &str, packets: &[Vec<u8>], expected: &[u8]) {
    for rtp_len in [160, 172] {
        let data = packets.concat();
        let header = FileHeader {
            rtp_len,
            data_size: u32::try_from(data.len()).unwrap(),
            ..FileHeader::new(Codec::Pcma, 20)
        };
        let octets = [&header.encode()[..], &data].concat();
        let mut reader = Reader::open(Cursor::new(octets)).expect("a recording");
        assert_eq!(reader.facts().layout, Layout::WholePackets, "{what}, rtpLen {rtp_len}");
        let mut read = Vec::new();
        let mut frame = vec![0; reader.facts().frame_octets as usize];
        while let Some(count) = reader.next_frame(&mut frame).expect("readable") {
            read.extend_from_slice(&frame[..count]);
        }
        let differs = read.iter().zip(expected).position(|(a, b)| a != b);
        assert!(
            read == expected,
            "{what}, rtpLen {rtp_len}: {} of {}, {differs:?}",
            read.len(),
            expected.len()
        );
    }
}

#[test]
fn a_change_of_source_is_no_audio() {
    for at in [1, 2, 8, 15, 16, 50] {
        let packets: Vec<_> =
            (0..100).map(|n| rtp(0x80, 8, n, if n < at { 7 } else { 9 }, &audio(n))).collect();
        assert_plays(&format!("SSRC changes at {at}"), &packets, &all(100));
        // Its numbers, too.
        let packets: Vec<_> = (0..100)
            .map(|n| if n < at { plain(n) } else { rtp(0x80, 8, n + 31_000, 9, &audio(n)) })
            .collect();
        assert_plays(&format!("a new source at {at}"), &packets, &all(100));
    }
}

#[test]
fn packets_in_another_order_or_twice_play_in_theirs_once() {
    assert_plays("pairs", &(0..100).map(|n| plain(n ^ 1)).collect::<Vec<_>>(), &all(100));
    assert_plays("four back to front", &(0..100).map(|n| plain(n ^ 3)).collect::<Vec<_>>(), &all(100));
    let mut late: Vec<_> = (0..100).map(plain).collect();
    late[3..12].rotate_left(1);
    late[60..70].rotate_right(1);
    assert_plays("one late, one early", &late, &all(100));
    let mut twice: Vec<_> = (0..100).map(plain).collect();
    twice.insert(5, plain(4));
    twice.insert(51, plain(47));
    assert_plays("two of them twice", &twice, &all(100));
    let lost: Vec<_> = (0..100).filter(|n| n % 7 != 3).map(plain).collect();
    assert_plays("lost ones", &lost, &(0..100).filter(|n| n % 7 != 3).flat_map(audio).collect::<Vec<_>>());
}

#[test]
fn damaged_headers_are_no_audio_either() {
    for damaged in [&[0][..], &[0, 1], &[1], &[15], &[3, 5, 9, 11], &[40], &[99]] {
        for damage in [&[0x00; 12][..], &[0xFF; 12], b"garbage here", &[0x80, 0x7F]] {
            let mut packets: Vec<_> = (0..100).map(plain).collect();
            for &n in damaged {
                packets[n][..damage.len()].copy_from_slice(damage);
            }
            assert_plays(&format!("{damaged:?} are {damage:?}"), &packets, &all(100));
        }
    }
}

#[test]
fn early_media_of_another_type_is_taken_as_packets() {
    for count in [1, 5, 8, 16, 30] {
        let packets: Vec<_> =
            (0..100).map(|n| rtp(0x80, if n < count { 0 } else { 8 }, n, 7, &audio(n))).collect();
        assert_plays(&format!("{count} of another type"), &packets, &all(100));
    }
    let marked: Vec<_> =
        (0..50).map(|n| rtp(0x80, if n % 10 == 0 { 0x88 } else { 8 }, n, 7, &audio(n))).collect();
    assert_plays("markers", &marked, &all(50));
}

#[test]
fn padding_sources_and_extensions_are_no_audio() {
    let padded = |n| rtp(0xA0, 8, n, 7, &[&audio(n)[..], &[0, 0, 0, 4]].concat());
    let sources = |n| rtp(0x82, 8, n, 7, &[&[1, 2, 3, 4, 5, 6, 7, 8], &audio(n)[..]].concat());
    let extended = |n| rtp(0x90, 8, n, 7, &[&[0xBE, 0xDE, 0, 1, 9, 9, 9, 9], &audio(n)[..]].concat());
    for (what, odd) in
        [("padding", &padded as &dyn Fn(usize) -> Vec<u8>), ("CSRC", &sources), ("extension", &extended)]
    {
        assert_plays(&format!("all with {what}"), &(0..60).map(odd).collect::<Vec<_>>(), &all(60));
        for first in [0, 1, 3, 30, 59] {
            let packets: Vec<_> = (0..60).map(|n| if n == first { odd(n) } else { plain(n) }).collect();
            assert_plays(&format!("packet {first} with {what}"), &packets, &all(60));
        }
        let packets: Vec<_> = (0..60).map(|n| if n % 2 == 0 { odd(n) } else { plain(n) }).collect();
        assert_plays(&format!("each other one with {what}"), &packets, &all(60));
    }
}

#[test]
fn comfort_noise_events_and_rtcp_between_packets_are_no_audio() {
    let noise = |n| rtp(0x80, 13, n, 7, &[40]);
    let event = |n| rtp(0x80, 101, n, 7, &[5, 0x0A, 0, 160]);
    let report = |_| [&[0x81, 200, 0, 12][..], &7u32.to_be_bytes(), &[0x55; 44]].concat();
    for (what, odd, numbered) in [
        ("comfort noise", &noise as &dyn Fn(usize) -> Vec<u8>, true),
        ("events", &event, true),
        ("RTCP", &report, false),
    ] {
        for places in [&[2][..], &[1], &[15, 16, 17], &[40, 41, 70], &[99]] {
            let (mut packets, mut heard) = (Vec::new(), Vec::new());
            for n in 0..100 {
                let here = places.contains(&n);
                if here {
                    packets.push(odd(n));
                }
                if !here || !numbered {
                    packets.push(plain(n));
                    heard.extend(audio(n));
                }
            }
            assert_plays(&format!("{what} at {places:?}"), &packets, &heard);
        }
    }
}

#[test]
fn a_few_packets_are_enough() {
    for count in 1..5 {
        assert_plays(&format!("{count} packets"), &(0..count).map(plain).collect::<Vec<_>>(), &all(count));
    }
    let mut cut: Vec<_> = (0..3).map(plain).collect();
    cut[2].truncate(100);
    assert_plays("two and a cut one", &cut, &all(2));
    cut[2].truncate(7);
    assert_plays("two and hardly one", &cut, &all(2));
    let sources: Vec<_> = (0..2).map(|n| rtp(0x80, 8, n, u32::try_from(n).unwrap(), &audio(n))).collect();
    assert_plays("two sources", &sources, &all(2));
}

#[test]
fn a_frame_is_found_by_its_number_in_an_uneven_file_too() {
    let data: Vec<u8> =
        (0..50).flat_map(|n| if n % 9 == 4 { rtp(0x80, 13, n, 7, &[1]) } else { plain(n) }).collect();
    let octets = [&FileHeader::new(Codec::Pcma, 20).encode()[..], &data].concat();
    let mut reader = Reader::open(Cursor::new(octets)).unwrap();
    let heard: Vec<usize> = (0..50).filter(|n| n % 9 != 4).collect();
    assert_eq!((reader.facts().frames, reader.facts().problems.len()), (heard.len() as u64, 0));
    let mut frame = [0; FRAME];
    for nth in [44, 0, 17, 3, 43] {
        let read = reader.read_frame(nth, &mut frame).unwrap();
        match heard.get(usize::try_from(nth).unwrap()) {
            Some(&n) => assert!(read == Some(FRAME) && frame[..] == audio(n)[..], "{nth}"),
            None => assert_eq!(read, None),
        }
    }
}

#[test]
fn payloads_are_not_taken_for_packets() {
    for data in [vec![0xD5; 172 * 40], vec![0x80; 172 * 40], vec![0; 172 * 40], all(40)] {
        for (codec, rtp_len) in
            [(Codec::Pcma, 160), (Codec::Pcma, 172), (Codec::Pcmu, 160), (Codec::Pcmu, 172)]
        {
            let header = FileHeader { rtp_len, ..FileHeader::new(codec, 20) };
            let octets = [&header.encode()[..], &data].concat();
            assert_eq!(Reader::open(Cursor::new(octets)).unwrap().facts().layout, Layout::PayloadOnly);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_walk_ends_within_the_file_for_any_octets_between_packets(
        parts in prop::collection::vec(
            prop_oneof![
                (0..200usize).prop_map(plain),
                prop::collection::vec(any::<u8>(), 0..300),
                (0..200usize, any::<u8>(), 0..200usize).prop_map(|(n, first, cut)| {
                    let mut packet = rtp(first | 0x80, 8, n, 7, &audio(n));
                    packet.truncate(cut);
                    packet
                }),
            ],
            0..40,
        ),
        rtp_len in 1..=MAX_FRAME_FIELD, increment in 1..=MAX_FRAME_FIELD,
    ) {
        let data = [plain(0), plain(1), parts.concat()].concat();
        for header in [
            FileHeader::new(Codec::Pcma, 20),
            FileHeader { rtp_len, increment, ..FileHeader::new(Codec::Pcma, 20) },
        ] {
            let octets = [&header.encode()[..], &data].concat();
            let len = octets.len() as u64;
            let mut reader = Reader::open(Cursor::new(octets)).unwrap();
            let facts = reader.facts().clone();
            prop_assert_eq!(HEADER_OCTETS as u64 + facts.data_octets + u64::from(facts.trailing_octets), len);
            let mut frame = vec![0; 8192];
            let mut frames = 0;
            while reader.next_frame(&mut frame).unwrap().is_some() {
                frames += 1;
            }
            prop_assert_eq!(frames, facts.frames);
        }
    }
}

use super::*;
use crate::codec::Codec;
use proptest::prelude::*;

fn buffer_of(max_octets: u64) -> SegmentBuffer {
    let format = Format { codec: Codec::Pcmu, ptime_ms: Some(20) };
    SegmentBuffer::new(format, max_octets, Mono::default())
}

/// The audio in the pieces of a segment.
fn play(pieces: &[Piece]) -> Vec<u8> {
    let mut octets = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Audio(block) => octets.extend_from_slice(block.octets()),
            Piece::Silence(count) => {
                octets.resize(octets.len() + usize::try_from(*count).unwrap(), 0xFF);
            }
        }
    }
    octets
}

proptest! {
    #[test]
    fn segments_hold_every_octet_once_and_none_is_too_long(
        steps in prop::collection::vec((any::<bool>(), 1..6000usize), 1..60),
        limit in 200..20_000u64,
    ) {
        let mut pool = BlockPool::new(64 << 20);
        let mut buffer = buffer_of(limit);
        let mut expected = Vec::new();
        for (number, (silent, octets)) in steps.iter().enumerate() {
            if *silent {
                buffer.silence(*octets as u64, GapCause::Loss, &mut pool);
                expected.resize(expected.len() + octets, 0xFF);
            } else {
                let audio = vec![u8::try_from(number).unwrap(); *octets];
                buffer.audio(&audio, &mut pool);
                expected.extend(audio);
            }
        }
        let mut got = Vec::new();
        loop {
            let mut segment = Vec::new();
            loop {
                let (pieces, octets) = buffer.take_pieces();
                if pieces.is_empty() {
                    break;
                }
                segment.extend(play(&pieces));
                prop_assert!(octets > 0);
                pool.give_back_all(pieces);
            }
            prop_assert!(segment.len() as u64 <= limit);
            got.extend(segment);
            if buffer.take_end().is_none() {
                break;
            }
        }
        prop_assert!(got == expected);
        prop_assert_eq!(buffer.waiting_octets(), 0);
        prop_assert_eq!(pool.used_octets(), 0);
    }

    #[test]
    fn without_room_the_length_stays_true(octets in 1..100_000usize) {
        let mut pool = BlockPool::new(1);
        let mut buffer = buffer_of(1 << 30);
        buffer.audio(&vec![1; octets], &mut pool);
        let (pieces, taken) = buffer.take_pieces();
        prop_assert_eq!(play(&pieces).len(), octets);
        prop_assert_eq!(taken, octets as u64);
        prop_assert_eq!(buffer.overrun_octets(), (octets as u64).saturating_sub(16 * 1024));
    }
}

#[test]
fn a_segment_that_is_cut_shares_its_gaps_and_pauses_with_the_next() {
    let mut pool = BlockPool::new(1 << 20);
    let mut buffer = buffer_of(1 << 30);
    buffer.silence(160, GapCause::Loss, &mut pool);
    buffer.audio(&[1; 160], &mut pool);
    buffer.silence(800, GapCause::Suppression, &mut pool);
    buffer.note_pause(5);
    buffer.audio(&[1; 160], &mut pool);
    let (front, counts) = buffer.cut_segment(640);
    assert_eq!(counts, None, "packets of the segment still come");
    let places =
        |log: &SegmentLog| -> Vec<_> { log.gaps.iter().map(|gap| (gap.at_octets, gap.octets)).collect() };
    assert_eq!((places(&front), front.gaps_total, front.gap_octets), (vec![(0, 160), (320, 320)], 2, 480));
    assert_eq!(front.pauses, []);
    let rest = buffer.take_log();
    assert_eq!((places(&rest), rest.gap_octets), (vec![(0, 480)], 480));
    assert_eq!(rest.pauses[0].at_octets, 480);
}

#[test]
fn gaps_that_touch_are_one_gap() {
    let mut pool = BlockPool::new(1 << 20);
    let mut buffer = buffer_of(1 << 30);
    buffer.audio(&[1; 160], &mut pool);
    buffer.silence(160, GapCause::Loss, &mut pool);
    buffer.silence(160, GapCause::Loss, &mut pool);
    buffer.audio(&[1; 160], &mut pool);
    buffer.silence(80, GapCause::Suppression, &mut pool);
    let gaps = buffer.take_log();
    assert_eq!(gaps.gaps_total, 2);
    assert_eq!((gaps.gaps[0].at_octets, gaps.gaps[0].octets), (160, 320));
    assert_eq!((gaps.gaps[1].at_octets, gaps.gaps[1].octets), (640, 80));
}

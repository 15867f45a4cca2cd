use super::*;
use crate::seal::age::tests::counting;
use media::codec::Codec;
use proptest::prelude::*;

fn identity() -> Identity {
    Identity::generate(&mut counting(1)).unwrap()
}

fn header() -> FileHeader {
    FileHeader::new(Codec::Pcma, 20)
}

/// A file with a chunk for each of `chunks`, the last one of them marked if the file is `finished`.
fn file_of(seed: u8, chunks: &[&[u8]], finished: bool) -> Vec<u8> {
    let recipient = identity().recipient();
    let (mut sealer, mut file) = Sealer::begin(&header(), &[recipient], &mut counting(seed)).unwrap();
    for (number, chunk) in chunks.iter().enumerate() {
        sealer.fill(chunk);
        file.extend_from_slice(sealer.take(finished && number + 1 == chunks.len()).unwrap());
        sealer.clear();
    }
    file
}

/// All that opens, and how it ends.
fn read(file: &[u8]) -> Result<(Vec<u8>, End), OpenError> {
    let mut opener = Opener::open(file, &[identity()])?;
    let mut audio = Vec::new();
    while let Some(chunk) = opener.next_chunk()? {
        audio.extend_from_slice(chunk);
    }
    Ok((audio, opener.end().cloned().expect("an end")))
}

/// The start of chunk `number` of equal chunks of `octets`.
fn chunk_at(file: &[u8], number: usize, octets: usize) -> usize {
    let first = usize::try_from(Front::parse(file).unwrap().first_chunk()).unwrap();
    first + number * (octets + CHUNK_OVERHEAD_OCTETS)
}

#[test]
fn sealed_audio_opens_with_the_key_and_with_no_other() {
    let file = file_of(7, &[b"one", b"two", b""], true);
    assert_eq!(read(&file).unwrap(), (b"onetwo".to_vec(), End::Whole));
    let other = Identity::generate(&mut counting(2)).unwrap();
    assert!(matches!(Opener::open(&file[..], &[other]), Err(OpenError::Seal(SealError::OtherKey))));
}

#[test]
fn no_reader_of_plain_recordings_takes_it_for_audio() {
    let file = file_of(7, &[&[0x55; 160]], true);
    assert_eq!(FileHeader::parse(&file), Err(HeaderError::Encrypted(Codec::Pcma)));
    assert_eq!(&file[..9], b"PCMA+age\0");
    assert_eq!(Front::parse(&file).unwrap().header, header());
}

#[test]
fn chunks_that_are_left_out_swapped_or_doubled_are_noticed() {
    let file = file_of(7, &[b"one", b"two", b"six"], true);
    let at = |number| chunk_at(&file, number, 3);
    let part = |number| &file[at(number)..at(number + 1)];
    let front = &file[..at(0)];
    for (order, read_octets, ends) in [
        (vec![1, 0, 2], 0, 0),
        (vec![0, 2], 3, 1),
        (vec![0, 0, 1, 2], 3, 1),
        (vec![0, 1, 1, 2], 6, 2),
        (vec![2], 0, 0),
    ] {
        let mut shuffled = front.to_vec();
        order.iter().for_each(|&number| shuffled.extend_from_slice(part(number)));
        let (audio, end) = read(&shuffled).unwrap();
        assert_eq!(audio.len(), read_octets, "{order:?}");
        assert!(matches!(end, End::Altered { chunk, .. } if chunk == ends), "{order:?}: {end:?}");
    }
}

#[test]
fn a_chunk_of_another_file_to_the_same_key_is_noticed() {
    let (file, other) = (file_of(7, &[b"one", b"two"], true), file_of(8, &[b"one", b"two"], true));
    let at = chunk_at(&file, 1, 3);
    let mixed = [&file[..at], &other[at..]].concat();
    assert_eq!(read(&mixed).unwrap(), (b"one".to_vec(), End::Altered { chunk: 1, at: at as u64 }));
}

#[test]
fn an_end_that_is_missing_or_not_the_end_is_noticed() {
    let file = file_of(7, &[b"one", b"two"], true);
    let at = chunk_at(&file, 1, 3);
    assert_eq!(read(&file[..at]).unwrap(), (b"one".to_vec(), End::CutOff { octets: 0 }));
    assert_eq!(read(&file[..at + 9]).unwrap(), (b"one".to_vec(), End::CutOff { octets: 9 }));
    let more = [&file[..], b"x"].concat();
    assert_eq!(read(&more).unwrap(), (b"onetwo".to_vec(), End::Beyond { at: file.len() as u64 }));
    // A chunk that only says that it is the last one is not.
    let mut open = file_of(7, &[b"one", b"two"], false);
    open[at + 3] |= 0x80;
    assert_eq!(read(&open).unwrap().1, End::Altered { chunk: 1, at: at as u64 });
}

#[test]
fn a_header_that_says_another_codec_or_frame_opens_nothing() {
    let file = file_of(7, &[b"one"], true);
    for (at, octet) in [(3, b'U'), (64, 80), (68, 80)] {
        let mut changed = file.clone();
        changed[at] = octet;
        assert_eq!(read(&changed).unwrap().0, b"", "octet {at}");
    }
    // The fields that are updated during writing are a hint, and no more.
    let mut hint = file.clone();
    hint[72..88].fill(0xEE);
    assert_eq!(read(&hint).unwrap(), (b"one".to_vec(), End::Whole));
}

#[test]
fn after_chunks_that_found_no_room_the_last_one_follows_those_that_did() {
    let recipient = identity().recipient();
    let (mut sealer, mut file) = Sealer::begin(&header(), &[recipient], &mut counting(7)).unwrap();
    sealer.fill(b"one");
    file.extend_from_slice(sealer.take(false).unwrap());
    sealer.clear();
    sealer.fill(b"no room");
    sealer.take(false).unwrap();
    sealer.cut_to(1);
    sealer.fill_with(0xD5, 2);
    file.extend_from_slice(sealer.take(true).unwrap());
    assert_eq!(read(&file).unwrap(), (b"one\xD5\xD5".to_vec(), End::Whole));
}

#[test]
fn without_a_key_the_chunks_are_counted_from_where_the_last_flush_ended_or_from_the_start() {
    let chunks: Vec<Vec<u8>> = (1..=40_u8).map(|number| vec![number; usize::from(number)]).collect();
    let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    let mut file = file_of(7, &chunks, true);
    let front = Front::parse(&file).unwrap();
    let (whole, ten) = (file.len() as u64, front.first_chunk() + 55 + 10 * 20);
    let measure = |file: &[u8], max: u32| {
        let mut looks = 0;
        let mut read = |at: u64| {
            looks += 1;
            let at = usize::try_from(at).unwrap();
            Ok(file[at..at + 4].try_into().unwrap())
        };
        let found = Front::parse(file).unwrap().measure(file.len() as u64, max, &mut read).unwrap();
        (found, looks)
    };
    let expected =
        crate::sealed::Extent { data_octets: 820, chunks: 40, finished: true, end: whole, beyond: 0 };
    assert_eq!(measure(&file, 100), (Some(expected), 40));
    let said = crate::sealed::Progress { data_size: 55, chunks: 10, finished: false, end: ten };
    file[72..88].copy_from_slice(&said.encode());
    assert_eq!(measure(&file, 100), (Some(expected), 30));
    assert_eq!(measure(&file, 29).0, None, "more than was to be looked at");
    // A hint that can't be is not followed.
    file[72] += 1;
    assert_eq!(measure(&file, 100), (Some(expected), 40));
    file.truncate(file.len() - 1);
    let cut =
        crate::sealed::Extent { data_octets: 780, chunks: 39, finished: false, end: whole - 60, beyond: 59 };
    assert_eq!(measure(&file, 100).0, Some(cut));
    // A tail of zeros, as a power cut leaves it, is no chunk.
    file.truncate(usize::try_from(cut.end).unwrap());
    file.extend([0; 300]);
    assert_eq!(measure(&file, 100).0, Some(crate::sealed::Extent { beyond: 300, ..cut }));
}

#[test]
fn full_chunks_and_their_front_stay_within_a_limit_of_the_file() {
    for limit in [65_536_u64, 100_000, 1 << 20, 512 << 20, u64::MAX] {
        for recipients in [1, 8] {
            let octets = crate::sealed::max_sealed_octets(limit, recipients);
            let chunks = octets.div_ceil(MAX_CHUNK_OCTETS as u64) + 1;
            let front = (FRONT_OCTETS + 16 + 22 + 98 * recipients + 48) as u64;
            let file = front + octets + chunks * CHUNK_OVERHEAD_OCTETS as u64;
            let limit = limit.min(crate::header::MAX_FILE_OCTETS);
            assert!(file <= limit && file + 100 > limit, "{file} of {limit}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_prefix_of_a_file_opens_to_a_prefix_of_its_audio_that_lacks_one_chunk_at_most(
        sizes in proptest::collection::vec(1..400_usize, 1..8), cut in 0..4000_usize,
    ) {
        let chunks: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![u8::try_from(n).unwrap(); *size]).collect();
        let file = file_of(7, &chunks.iter().map(Vec::as_slice).collect::<Vec<_>>(), true);
        let audio = chunks.concat();
        let first = chunk_at(&file, 0, 0);
        let cut = first + cut % (file.len() - first);
        let (opened, end) = read(&file[..cut]).unwrap();
        prop_assert!(audio.starts_with(&opened), "a prefix");
        prop_assert!(matches!(end, End::CutOff { .. }), "{:?}", end);
        let mut whole = 0;
        let mut at = first;
        for size in sizes {
            at += size + CHUNK_OVERHEAD_OCTETS;
            whole += if at <= cut { size } else { 0 };
        }
        prop_assert_eq!(opened.len(), whole, "every whole chunk");
    }

    #[test]
    fn any_changed_bit_behind_the_hints_is_noticed_and_only_a_prefix_opens(
        bit in 0..8_u32, at in any::<prop::sample::Index>(), size in 1..600_usize,
    ) {
        let audio = vec![3; size];
        let (one, two) = audio.split_at(size / 2);
        let mut chunks = vec![one, two];
        chunks.retain(|chunk| !chunk.is_empty());
        let mut file = file_of(7, &chunks, true);
        let at = 88 + at.index(file.len() - 88);
        file[at] ^= 1 << bit;
        match read(&file) {
            Err(_) => {}
            Ok((opened, end)) => {
                prop_assert!(audio.starts_with(&opened));
                prop_assert!(end != End::Whole, "octet {}", at);
            }
        }
    }

    #[test]
    fn any_octets_behind_a_good_beginning_end_somehow(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let file = [file_of(7, &[], false), octets].concat();
        let (audio, end) = read(&file).unwrap();
        prop_assert!(audio.is_empty() && end != End::Whole);
        let front = Front::parse(&file).unwrap();
        let mut look = |at: u64| {
            let at = usize::try_from(at).unwrap();
            Ok(file[at..at + 4].try_into().unwrap())
        };
        let extent = front.measure(file.len() as u64, 64, &mut look).unwrap().expect("few chunks");
        prop_assert!(extent.end + extent.beyond == file.len() as u64);
    }
}

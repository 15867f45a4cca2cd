//! The audio of answers, compared with a foreign decoder: ffmpeg's, of the same files.

use super::Archive;
use crate::bench::synthetic::Chance;
use crate::testing::{has_program, record, run, skip};
use axum::http::StatusCode;
use media::codec::Codec;
use recfile::export::{ExportCodec, export};
use recfile::header::{FileHeader, HEADER_OCTETS};
use recfile::reader::Reader;
use recfile::sidecar::{Gap, Pause};
use std::fs::File;
use std::io::{Cursor, Write};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Ranges that are asked for of each form of each codec.
const RANGES: u64 = 500;
const FRAME: usize = 160;
/// Octets of a millisecond in a file.
const PER_MS: usize = 8;

/// A recording in three files, and their contents.
struct Told {
    codec: Codec,
    files: Vec<PathBuf>,
    /// The payload of all of them.
    stored: Vec<u8>,
}

/// Any octets: all values of G.711, and for a decoder of G.722 octets that drive it into each of its limits.
fn noise(chance: &mut Chance, octets: usize) -> Vec<u8> {
    (0..octets).map(|_| chance.below(256).to_be_bytes()[7]).collect()
}

fn speech(codec: Codec) -> Vec<u8> {
    let ending = match codec {
        Codec::Pcma => "al",
        Codec::Pcmu => "ul",
        Codec::G722 => "g722",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/media/speech");
    std::fs::read(folder.with_extension(ending)).unwrap()
}

/// Payload as other firmware keeps it: whole RTP packets.
fn in_packets(codec: Codec, payload: &[u8]) -> Vec<u8> {
    let packet = |(at, frame): (usize, &[u8])| {
        let number = u16::try_from(at).unwrap();
        let mut packet = vec![0x80, codec.payload_type().0];
        packet.extend(number.to_be_bytes());
        packet.extend((u32::from(number) * 160).to_be_bytes());
        packet.extend(7_u32.to_be_bytes());
        packet.extend(frame);
        packet
    };
    payload.chunks(FRAME).enumerate().flat_map(packet).collect()
}

/// Speech with a pause and more than ten seconds in the first file, packets in the second, a gap and an odd
/// count of octets in the third.
fn recorded(folder: &Path, codec: Codec) -> Told {
    let mut chance = Chance::new(u64::from(codec.payload_type().0));
    let speech = speech(codec);
    let first = [speech.clone(), noise(&mut chance, FRAME * 160), speech.clone()].concat();
    let second = noise(&mut chance, FRAME * 100);
    let gap = 1000 * PER_MS..1400 * PER_MS;
    let mut third = speech[..33 * 901].to_vec();
    third[gap.clone()].fill(codec.silence());
    let stored = [&first[..], &second, &third].concat();
    let name = |number: u32| format!("Record_{}-{number}.wav", codec.name());
    for number in 1..=3 {
        let part = [&first, &second, &third][number as usize - 1];
        record(folder, &name(number), codec, part, |sidecar| {
            sidecar.recording = codec.name().into();
            sidecar.call.id = codec.name().into();
            sidecar.segment = number;
            if number == 1 {
                sidecar.pauses = vec![Pause { at_ms: 2500, duration_ms: 60_000 }];
            } else if number == 3 {
                let ms = |octets: usize| (octets / PER_MS) as u64;
                let cause = "lost".into();
                let gap = Gap { at_ms: ms(gap.start), duration_ms: ms(gap.len()), cause };
                (sidecar.gaps, sidecar.gaps_total) = (vec![gap], 1);
            } else {
                sidecar.sha256 = None;
            }
        });
    }
    let files: Vec<PathBuf> = (1..=3).map(|number| folder.join(name(number))).collect();
    let rewrite = |file: &Path, rtp_len: u32, increment: u32, data: &[u8]| {
        let data_size = u32::try_from(data.len()).unwrap();
        let header = FileHeader { codec, rtp_len, increment, data_size };
        std::fs::write(file, [&header.encode()[..], data].concat()).unwrap();
    };
    rewrite(&files[1], 172, 160, &in_packets(codec, &second));
    rewrite(&files[2], 33, 33, &third);
    Told { codec, files, stored }
}

/// Octets decoded by ffmpeg, as 16-bit PCM.
fn ffmpeg(input: &[&str], octets: &[u8]) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "error"]).args(input);
    command.args(["-i", "pipe:0", "-f", "s16le", "pipe:1"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut to = process.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || to.write_all(octets).unwrap());
        process.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "ffmpeg {input:?}");
    output.stdout
}

fn in_ffmpeg(codec: Codec) -> &'static [&'static str] {
    match codec {
        Codec::Pcma => &["-f", "alaw", "-ar", "8000", "-ac", "1"],
        Codec::Pcmu => &["-f", "mulaw", "-ar", "8000", "-ac", "1"],
        Codec::G722 => &["-f", "g722"],
    }
}

/// The output of `recordctl export` for the files, without its header.
fn exported(files: &[PathBuf]) -> Vec<u8> {
    let mut readers: Vec<_> =
        files.iter().map(|file| Reader::open(File::open(file).unwrap()).unwrap()).collect();
    let mut wav = Cursor::new(Vec::new());
    export(&mut readers, &mut wav, ExportCodec::Pcm, &mut |_| ControlFlow::Continue(())).unwrap();
    wav.into_inner().split_off(44)
}

#[track_caller]
fn assert_same(what: &str, got: &[u8], expected: &[u8]) {
    let differs = got.iter().zip(expected).position(|(got, expected)| got != expected);
    assert_eq!((differs, got.len()), (None, expected.len()), "{what}");
}

/// A range of `total` octets as a request spells it, and which it is.
fn any_range(chance: &mut Chance, total: u64) -> (String, Range<usize>) {
    let from = chance.below(total);
    let (asked, range) = match chance.below(8) {
        0 => (format!("bytes={from}-"), from..total),
        1 => (format!("bytes=-{}", total - from), from..total),
        // Past the end, and within the header.
        2 => (format!("bytes={from}-{}", total + chance.below(1000)), from..total),
        3 => (format!("bytes={}-{from}", from.min(20)), from.min(20)..from + 1),
        _ => {
            let to = (from + 1 + chance.below(20_000)).min(total);
            (format!("bytes={from}-{}", to - 1), from..to)
        }
    };
    (asked, usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
}

/// One form of a recording: the whole, by hundreds of ranges, and by its headers.
async fn heard(archive: &Archive, path: &str, chance: &mut Chance) -> Vec<u8> {
    let whole = archive.get("super", path).await;
    assert_eq!(whole.status, StatusCode::OK, "{path}: {:?}", whole.json());
    let total = whole.octets.len() as u64;
    assert_eq!(whole.header("content-length"), total.to_string());
    for _ in 0..RANGES {
        let (asked, range) = any_range(chance, total);
        let part = archive.get_with("super", path, &[("range", &asked)]).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT, "{path} {asked}");
        let said = format!("bytes {}-{}/{total}", range.start, range.end - 1);
        assert_eq!(part.header("content-range"), said, "{path} {asked}");
        assert_same(&format!("{path} {asked}"), &part.octets, &whole.octets[range]);
    }
    whole.octets
}

/// The audio of a codec, whole and by a thousand ranges, equals ffmpeg's decoding of the file.
fn equals_ffmpegs_decoding(codec: Codec) {
    if !has_program("ffmpeg") {
        skip("ffmpeg is not installed");
        return;
    }
    run(async {
        let archive = Archive::new().await;
        let told = recorded(&archive.intake().join("phone"), codec);
        assert_eq!(archive.reconcile().await.added, 3);
        let (_, recording) = archive.recording(&codec.name().to_lowercase()).await;
        let expected = ffmpeg(in_ffmpeg(codec), &told.stored);
        assert_same("our own export", &exported(&told.files), &expected);
        let chance = &mut Chance::new(4711);
        let path = format!("/recordings/{recording}/audio");
        let pcm = heard(&archive, &format!("{path}?format=pcm"), chance).await;
        assert_same("as PCM", &pcm[44..], &expected);
        assert_same("the WAV of PCM, as ffmpeg reads it", &ffmpeg(&["-f", "wav"], &pcm), &expected);
        // G.711 comes as it is stored, in a WAV that ffmpeg knows; G.722 as PCM.
        let plain = heard(&archive, &path, chance).await;
        assert_same("the WAV, as ffmpeg reads it", &ffmpeg(&["-f", "wav"], &plain), &expected);
        if told.codec == Codec::G722 {
            assert_same("G.722", &plain, &pcm);
        } else {
            let (audio, pad) = plain[58..].split_at(told.stored.len());
            assert_same("as stored", audio, &told.stored);
            assert_eq!(pad, [0], "an odd count has an octet behind it");
        }
        // Of the third file it begins where the second ends, whose packets have headers.
        let begins = told.stored.len() - (std::fs::read(&told.files[2]).unwrap().len() - HEADER_OCTETS);
        let peaks = archive.get("super", &format!("/recordings/{recording}/peaks")).await.json();
        let begins_ms = begins / PER_MS;
        assert_eq!(peaks["gaps"], serde_json::json!([[begins_ms + 1000, begins_ms + 1400]]));
        assert_eq!(peaks["pauses"], serde_json::json!([[2500, 2500]]));
    });
}

#[test]
fn audio_in_a_law_equals_ffmpegs_decoding_of_the_files_whole_and_in_any_range() {
    equals_ffmpegs_decoding(Codec::Pcma);
}

#[test]
fn audio_in_mu_law_equals_ffmpegs_decoding_of_the_files_whole_and_in_any_range() {
    equals_ffmpegs_decoding(Codec::Pcmu);
}

#[test]
fn audio_in_g722_equals_ffmpegs_decoding_of_the_files_whole_and_in_any_range() {
    equals_ffmpegs_decoding(Codec::G722);
}

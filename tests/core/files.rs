//! Recording files as outsiders know them: bytes written by hand after the source document, and other
//! programs' decoders.

use media::codec::Codec;
use recfile::export::{ExportCodec, export};
use recfile::format::{Facts, Layout, Problem};
use recfile::header::FileHeader;
use recfile::reader::Reader;
use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

fn vector(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn open(octets: Vec<u8>) -> Reader<Cursor<Vec<u8>>> {
    Reader::open(Cursor::new(octets)).expect("a recording")
}

fn facts(name: &str) -> Facts {
    open(vector(name)).facts().clone()
}

/// All payloads, one after another.
fn audio(octets: Vec<u8>) -> Vec<u8> {
    let mut reader = open(octets);
    let mut frame = vec![0; reader.facts().frame_octets as usize];
    let mut audio = Vec::new();
    while reader.next_frame(&mut frame).expect("readable").is_some() {
        audio.extend(&frame);
    }
    audio
}

fn counting_up(start: usize, octets: usize) -> Vec<u8> {
    (start..start + octets).map(|n| u8::try_from(n % 256).expect("an octet")).collect()
}

#[test]
fn the_layout_of_the_source_document_reads_and_is_what_we_write() {
    let octets = vector("pcma_two_frames.wav");
    let header = FileHeader { data_size: 320, ..FileHeader::new(Codec::Pcma, 20) };
    assert_eq!(header.encode(), octets[..76]);
    let facts = facts("pcma_two_frames.wav");
    assert_eq!((facts.codec, facts.frames, facts.duration_ms), (Codec::Pcma, 2, 40));
    assert_eq!(facts.problems, []);
    assert_eq!(audio(octets), counting_up(0, 320));
}

#[test]
fn frames_of_30_ms_of_g722_last_30_ms() {
    let facts = facts("g722_30ms_frames.wav");
    assert_eq!((facts.codec, facts.frame_octets, facts.duration_ms), (Codec::G722, 240, 60));
    assert_eq!(audio(vector("g722_30ms_frames.wav")), counting_up(7, 480));
}

#[test]
fn a_cut_off_file_reads_up_to_its_last_whole_frame() {
    let facts = facts("pcmu_cut_off.wav");
    assert_eq!((facts.frames, facts.trailing_octets), (2, 80));
    let stale = Problem::StaleDataSize { declared: 160, actual: 320 };
    assert_eq!(facts.problems, [stale, Problem::PartialFrame { octets: 80 }]);
}

#[test]
fn whole_packets_of_other_firmware_read_as_their_payloads() {
    let facts = facts("pcma_whole_packets.wav");
    assert_eq!((facts.layout, facts.frame_octets, facts.duration_ms), (Layout::WholePackets, 160, 60));
    assert_eq!(facts.problems, []);
    let expected = [counting_up(0, 160), counting_up(1, 160), counting_up(2, 160)].concat();
    assert_eq!(audio(vector("pcma_whole_packets.wav")), expected);
}

#[test]
fn a_big_endian_header_reads_too() {
    let facts = facts("pcmu_big_endian.wav");
    assert_eq!((facts.frames, facts.problems), (2, vec![Problem::BigEndianHeader]));
}

fn exported_samples(octets: Vec<u8>) -> Vec<i16> {
    let mut wav = Cursor::new(Vec::new());
    export(&mut [open(octets)], &mut wav, ExportCodec::Pcm, &mut |_| ControlFlow::Continue(()))
        .expect("exported");
    wav.set_position(0);
    let reader = hound::WavReader::new(wav).expect("a WAV");
    reader.into_samples().map(|sample| sample.expect("a sample")).collect()
}

fn as_samples(octets: &[u8]) -> Vec<i16> {
    octets.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[test]
fn exported_g722_is_bit_for_bit_what_another_decoder_makes_of_it() {
    let expected = as_samples(&vector("g722_noise_and_speech.s16le"));
    assert_eq!(exported_samples(vector("g722_noise_and_speech.wav")), expected);
}

/// The output of ffmpeg for `input`; `None`, and a word about it, where there is no ffmpeg.
fn ffmpeg(input_options: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error"]).args(input_options).args(["-i", "pipe:0", "-f", "s16le", "pipe:1"]);
    let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!(
                "SKIPPED: ffmpeg can't be run ({error}), so the export was not compared with its decoders"
            );
            return None;
        }
    };
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("ffmpeg runs");
    feeder.join().expect("no panic").expect("ffmpeg reads its input");
    assert!(output.status.success(), "ffmpeg failed");
    Some(output.stdout)
}

/// Octets without pattern, so that every code and every decoder state comes up.
fn noise(octets: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(octets)
    .collect()
}

#[test]
fn exported_pcm_is_bit_for_bit_what_ffmpeg_decodes() {
    for (codec, options) in [
        (Codec::Pcma, &["-f", "alaw", "-ar", "8000"][..]),
        (Codec::Pcmu, &["-f", "mulaw", "-ar", "8000"]),
        (Codec::G722, &["-f", "g722"]),
    ] {
        let payload = [counting_up(0, 3200), noise(160_000)].concat();
        let Some(expected) = ffmpeg(options, &payload) else { return };
        let file = [&FileHeader::new(codec, 20).encode()[..], &payload].concat();
        assert!(exported_samples(file) == as_samples(&expected), "{} differs from ffmpeg", codec.name());
    }
}

#[test]
fn a_copied_wav_is_what_ffmpeg_takes_for_g711() {
    for (codec, raw) in [(Codec::Pcma, "alaw"), (Codec::Pcmu, "mulaw")] {
        let payload = counting_up(0, 1600);
        let file = [&FileHeader::new(codec, 20).encode()[..], &payload].concat();
        let mut wav = Cursor::new(Vec::new());
        export(&mut [open(file)], &mut wav, ExportCodec::Copy, &mut |_| ControlFlow::Continue(()))
            .expect("exported");
        let Some(from_wav) = ffmpeg(&["-f", "wav"], &wav.into_inner()) else { return };
        let from_raw = ffmpeg(&["-f", raw, "-ar", "8000"], &payload).expect("ffmpeg is there");
        assert!(from_wav == from_raw, "the WAV of {} plays something else", codec.name());
    }
}

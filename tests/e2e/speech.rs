//! Real speech from a real sender: espeak-ng's voice through ffmpeg's RTP muxer.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::environment::{has_program, run, skip};
use crate::support::rtp_source::FRAME;
use crate::support::{Agent, Call, Codec, assert_audio, read_recording};

/// ffmpeg's encoder, its name of the raw format, and samples per second.
fn in_ffmpeg(codec: Codec) -> (&'static str, &'static str, &'static str) {
    match codec {
        Codec::Pcma => ("pcm_alaw", "alaw", "8000"),
        Codec::Pcmu => ("pcm_mulaw", "mulaw", "8000"),
        Codec::G722 => ("g722", "g722", "16000"),
    }
}

/// Options that make ffmpeg read a raw file of this codec.
pub(crate) fn raw_input(codec: Codec, file: &Path) -> Vec<String> {
    let (_, format, rate) = in_ffmpeg(codec);
    let mut options = vec!["-f", format];
    if codec != Codec::G722 {
        options.extend(["-ar", rate, "-ac", "1"]);
    }
    let mut options: Vec<String> = options.into_iter().map(str::to_owned).collect();
    options.extend(["-i".to_owned(), file.display().to_string()]);
    options
}
pub(crate) fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-y"]);
    command
}

/// Whether the tools are there; says so if not.
fn tools_are_there() -> bool {
    let missing: Vec<_> = ["espeak-ng", "ffmpeg"].into_iter().filter(|name| !has_program(name)).collect();
    if !missing.is_empty() {
        skip(&format!("{} not installed", missing.join(" and ")));
    }
    missing.is_empty()
}

/// Speech, encoded, as a raw file.
fn speech(folder: &Path, codec: Codec) -> PathBuf {
    let wav = folder.join("speech.wav");
    let words = "The quick brown fox jumps over the lazy dog. Please hold the line.";
    run(Command::new("espeak-ng").arg("-w").arg(&wav).arg(words));
    let (encoder, format, rate) = in_ffmpeg(codec);
    let raw = folder.join("speech.raw");
    let encode = ["-ar", rate, "-ac", "1", "-c:a", encoder, "-f", format];
    run(ffmpeg().arg("-i").arg(wav).args(encode).arg(&raw));
    raw
}

/// Records the packets that ffmpeg sends of `raw`; with `packet_size` in packets of that many octets.
fn record(call: &mut Call, raw: &Path, packet_size: Option<usize>) {
    // RTCP goes to a port of our own, not to a stranger who has the next one.
    let rtcp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let rtcp_port = rtcp.local_addr().unwrap().port();
    let mut url = format!("rtp://{}?rtcpport={rtcp_port}", call.rtp);
    if let Some(octets) = packet_size {
        url += &format!("&pkt_size={octets}");
    }
    let mut command = ffmpeg();
    command.args(["-readrate", "4"]).args(raw_input(call.codec, raw));
    run(command.args(["-c:a", "copy", "-f", "rtp"]).arg(url));
}

/// Fails unless the file has the audio of `raw`, its last frame padded with silence.
fn expect_speech(call: &Call, raw: &Path) {
    let mut sent = std::fs::read(raw).unwrap();
    assert!(sent.len() > 16_000, "that is no sentence: {} octets", sent.len());
    let padding = sent.len().next_multiple_of(FRAME) - sent.len();
    sent.extend(call.codec.silence(padding));
    read_recording(&call.file).assert_finished(call.codec, &sent);
}

/// Exports with recordctl and compares with ffmpeg's decoding of the raw file.
fn expect_export(call: &Call, raw: &Path) {
    let wav = raw.with_file_name("exported.wav");
    let mut export = crate::support::agent::recordctl();
    run(export.arg("export").arg(&call.file).arg("-o").arg(&wav));
    let rate = in_ffmpeg(call.codec).2.parse().unwrap();
    let (format, samples) = riff(&wav);
    assert_eq!(format, RiffFormat { tag: 1, channels: 1, rate, bits: 16 });
    let mut decode = ffmpeg();
    let expected = run(decode.args(raw_input(call.codec, raw)).args(["-f", "s16le", "-"]));
    assert!(samples.len() >= expected.len(), "{} of {} octets", samples.len(), expected.len());
    let differs = samples.iter().zip(&expected).position(|(got, expected)| got != expected);
    assert_eq!(differs, None, "{:?} decodes otherwise than in ffmpeg from that octet on", call.codec);
    let frame = FRAME * if call.codec == Codec::G722 { 4 } else { 2 };
    assert!(samples.len() - expected.len() < frame, "more than the last frame's padding");
}

#[derive(Debug, PartialEq, Eq)]
struct RiffFormat {
    tag: u16,
    channels: u16,
    rate: u32,
    bits: u16,
}

/// Format and data of a RIFF WAV file.
fn riff(path: &Path) -> (RiffFormat, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!((&bytes[..4], &bytes[8..12]), (&b"RIFF"[..], &b"WAVE"[..]));
    let length = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    let short = |at: usize| u16::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    assert_eq!(length(4) as usize + 8, bytes.len(), "the RIFF length");
    let (mut at, mut format) = (12, None);
    loop {
        let (name, size) = (&bytes[at..at + 4], length(at + 4) as usize);
        let body = at + 8;
        match name {
            b"fmt " => {
                format = Some(RiffFormat {
                    tag: short(body),
                    channels: short(body + 2),
                    rate: length(body + 4),
                    bits: short(body + 14),
                });
            }
            b"data" => return (format.expect("fmt before data"), bytes[body..body + size].to_vec()),
            _ => {}
        }
        at = body + size.next_multiple_of(2);
    }
}

fn speech_survives(codec: Codec) {
    if !tools_are_there() {
        return;
    }
    let agent = Agent::start();
    let raw = speech(agent.dir(), codec);
    // Packets of 20 ms, then ffmpeg's own larger ones, at the same time.
    let mut calls = [Call::start(&agent, codec), Call::start(&agent, codec)];
    std::thread::scope(|scope| {
        for (call, packet_size) in calls.iter_mut().zip([Some(12 + FRAME), None]) {
            let raw = &raw;
            scope.spawn(move || record(call, raw, packet_size));
        }
    });
    for call in &mut calls {
        call.stop();
        expect_speech(call, &raw);
    }
    expect_export(&calls[0], &raw);
}

#[test]
fn speech_in_a_law_is_recorded_to_the_bit_and_exported_as_ffmpeg_decodes_it() {
    speech_survives(Codec::Pcma);
}

#[test]
fn speech_in_mu_law_is_recorded_to_the_bit_and_exported_as_ffmpeg_decodes_it() {
    speech_survives(Codec::Pcmu);
}

#[test]
fn speech_in_g722_is_recorded_to_the_bit_and_exported_as_ffmpeg_decodes_it() {
    speech_survives(Codec::G722);
}

#[test]
fn g711_is_exported_as_it_is_where_that_is_asked_for() {
    let agent = Agent::start();
    for (codec, tag) in [(Codec::Pcma, 6), (Codec::Pcmu, 7)] {
        let mut call = Call::start(&agent, codec);
        let heard = call.speak(25);
        call.stop();
        let wav = agent.dir().join(codec.name()).with_extension("wav");
        let mut export = crate::support::agent::recordctl();
        run(export.arg("export").args(["--codec", "copy"]).arg(&call.file).arg("-o").arg(&wav));
        let (format, data) = riff(&wav);
        assert_eq!(format, RiffFormat { tag, channels: 1, rate: 8000, bits: 8 });
        assert_audio(&data, &heard);
    }
}

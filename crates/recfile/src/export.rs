//! Joins the segments of a recording into one standard RIFF WAV.
//!
//! Owns: the contents of that file. Either 16-bit PCM, which everything plays, or the G.711 octets as they
//! are (WAVE formats 6 and 7, half the size, no loss). Streams: one frame and one decoded frame in memory.
//! The result is complete or an error; the caller writes to a temporary name.

use crate::g722::G722Decoder;
use crate::reader::Reader;
use audio_codec_algorithms::{decode_alaw, decode_ulaw};
use media::codec::Codec;
use std::fmt;
use std::io::{self, Read, Seek, Write};
use std::ops::ControlFlow;

/// The sample format of the WAV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ExportCodec {
    /// 16-bit PCM: 8 kHz, for G.722 16 kHz.
    #[default]
    Pcm,
    /// The recorded octets: A-law or µ-law.
    Copy,
}

/// The progress of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Octets of recorded audio done.
    pub done_octets: u64,
    /// Octets of recorded audio in all segments.
    pub total_octets: u64,
}

/// Format and length of the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Playing time.
    pub duration_ms: u64,
    /// Samples per second.
    pub sample_rate_hz: u32,
    /// Samples.
    pub samples: u64,
}

/// The reason for which there is no WAV.
#[derive(Debug)]
pub enum ExportError {
    /// No segment was given.
    NoSegments,
    /// The segments don't have one codec.
    MixedCodecs {
        /// Codec of the first segment.
        first: Codec,
        /// Codec of the segment that differs.
        other: Codec,
        /// Its index, from 0.
        segment: usize,
    },
    /// WAV has no settled way to hold G.722.
    CopyOfG722,
    /// RIFF counts its octets in 32 bits.
    TooLarge {
        /// Octets that the WAV would have.
        octets: u64,
        /// As recorded, the audio would fit: [`ExportCodec::Copy`].
        copy_fits: bool,
        /// Files that it would be made of.
        files: usize,
    },
    /// A segment can't be read.
    Read {
        /// Its index, from 0.
        segment: usize,
        /// The reason.
        error: io::Error,
    },
    /// The WAV can't be written.
    Write(io::Error),
    /// The progress callback said so.
    Stopped,
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSegments => f.write_str("nothing to export"),
            Self::MixedCodecs { first, other, segment } => write!(
                f,
                "file {} is {}, the first one {}: export them one by one",
                segment + 1,
                other.name(),
                first.name()
            ),
            Self::CopyOfG722 => f.write_str("a WAV can't hold G722 as it is: export it as PCM (--codec pcm)"),
            Self::TooLarge { octets, copy_fits, files } => {
                let advice = match (copy_fits, *files > 1) {
                    (true, true) => "use --codec copy, or export fewer of the files at once",
                    (true, false) => "use --codec copy",
                    (false, true) => "export fewer of the files at once",
                    (false, false) => "play --stdout gives its audio without that limit",
                };
                write!(f, "the WAV would have {octets} octets, over the 4 GiB of RIFF: {advice}")
            }
            Self::Read { segment, error } => write!(f, "reading file {} failed: {error}", segment + 1),
            Self::Write(error) => write!(f, "writing the WAV failed: {error}"),
            Self::Stopped => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for ExportError {}

/// Octets of every header that is written here, at most.
const WAV_HEADERS_OCTETS: u64 = 64;

/// Audio between two calls of the progress callback.
const PROGRESS_OCTETS: u64 = 64 * 1024;

/// Writes the segments, in the order given, as one WAV, unless `progress` breaks it off.
///
/// # Errors
/// [`ExportError`]; those that the segments' facts tell come before anything is written.
pub fn export<R: Read + Seek, W: Write + Seek>(
    segments: &mut [Reader<R>],
    out: W,
    codec: ExportCodec,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Exported, ExportError> {
    let source = common_codec(segments)?;
    let total_octets: u64 = segments.iter().map(payload_octets).sum();
    if (source, codec) == (Codec::G722, ExportCodec::Copy) {
        return Err(ExportError::CopyOfG722);
    }
    let octets = wav_octets(total_octets, source, codec);
    if octets > u64::from(u32::MAX) {
        let as_copy = wav_octets(total_octets, source, ExportCodec::Copy);
        let copy_fits = source != Codec::G722 && as_copy <= u64::from(u32::MAX);
        return Err(ExportError::TooLarge { octets, copy_fits, files: segments.len() });
    }
    match codec {
        ExportCodec::Pcm => export_pcm(segments, source, out, total_octets, progress)?,
        ExportCodec::Copy => export_copy(segments, source, out, total_octets, progress)?,
    }
    let samples_per_octet = if source == Codec::G722 { 2 } else { 1 };
    let samples = total_octets * samples_per_octet;
    let sample_rate_hz = source.sample_rate_hz();
    Ok(Exported { duration_ms: samples * 1000 / u64::from(sample_rate_hz), sample_rate_hz, samples })
}

fn common_codec<R: Read + Seek>(segments: &[Reader<R>]) -> Result<Codec, ExportError> {
    let first = segments.first().ok_or(ExportError::NoSegments)?.facts().codec;
    match segments.iter().map(|reader| reader.facts().codec).enumerate().find(|&(_, codec)| codec != first) {
        Some((segment, other)) => Err(ExportError::MixedCodecs { first, other, segment }),
        None => Ok(first),
    }
}

fn payload_octets<R: Read + Seek>(reader: &Reader<R>) -> u64 {
    reader.facts().frames.saturating_mul(u64::from(reader.facts().frame_octets))
}

/// Octets of a WAV that holds `total_octets` of recorded audio, at most.
fn wav_octets(total_octets: u64, source: Codec, codec: ExportCodec) -> u64 {
    total_octets.saturating_mul(octets_per_octet(source, codec)).saturating_add(WAV_HEADERS_OCTETS)
}

/// Octets in the WAV for one that was recorded.
fn octets_per_octet(source: Codec, codec: ExportCodec) -> u64 {
    match (codec, source) {
        (ExportCodec::Copy, _) => 1,
        (ExportCodec::Pcm, Codec::Pcma | Codec::Pcmu) => 2,
        (ExportCodec::Pcm, Codec::G722) => 4,
    }
}

/// Hands every frame of every segment to `write`.
fn each_frame<R: Read + Seek>(
    segments: &mut [Reader<R>],
    total_octets: u64,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ExportError> {
    let mut report = |done_octets| match progress(Progress { done_octets, total_octets }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ExportError::Stopped),
    };
    let (mut done_octets, mut reported_octets) = (0, 0);
    for (segment, reader) in segments.iter_mut().enumerate() {
        let mut frame = vec![0; reader.facts().frame_octets as usize];
        reader.seek_frame(0);
        while reader.next_frame(&mut frame).map_err(|error| ExportError::Read { segment, error })?.is_some() {
            write(&frame).map_err(ExportError::Write)?;
            done_octets += frame.len() as u64;
            if done_octets - reported_octets >= PROGRESS_OCTETS {
                reported_octets = done_octets;
                report(done_octets)?;
            }
        }
    }
    report(done_octets)
}

fn export_pcm<R: Read + Seek, W: Write + Seek>(
    segments: &mut [Reader<R>],
    source: Codec,
    out: W,
    total_octets: u64,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(), ExportError> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: source.sample_rate_hz(),
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::new(out, spec).map_err(wav_error)?;
    // The decoder runs on over the seams: at rollover the call went on, too.
    let mut g722 = G722Decoder::default();
    let mut samples = Vec::new();
    each_frame(segments, total_octets, progress, |frame| {
        samples.clear();
        match source {
            Codec::Pcma => samples.extend(frame.iter().map(|&octet| decode_alaw(octet))),
            Codec::Pcmu => samples.extend(frame.iter().map(|&octet| decode_ulaw(octet))),
            Codec::G722 => g722.decode(frame, &mut samples),
        }
        samples.iter().try_for_each(|&sample| wav.write_sample(sample)).map_err(io_error)
    })?;
    wav.finalize().map_err(wav_error)
}

fn wav_error(error: hound::Error) -> ExportError {
    ExportError::Write(io_error(error))
}

fn io_error(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other),
    }
}

fn export_copy<R: Read + Seek, W: Write + Seek>(
    segments: &mut [Reader<R>],
    source: Codec,
    mut out: W,
    total_octets: u64,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(), ExportError> {
    let data_octets = u32::try_from(total_octets).map_err(|_| ExportError::TooLarge {
        octets: total_octets,
        copy_fits: false,
        files: segments.len(),
    })?;
    out.write_all(&g711_header(source, data_octets)).map_err(ExportError::Write)?;
    each_frame(segments, total_octets, progress, |frame| out.write_all(frame))?;
    let padding = data_octets % 2;
    out.write_all(&[0][..padding as usize]).map_err(ExportError::Write)?;
    out.flush().map_err(ExportError::Write)
}

/// RIFF, `fmt ` (18 octets, as every format but PCM has), `fact` and the head of `data`.
fn g711_header(source: Codec, data_octets: u32) -> Vec<u8> {
    const FORMAT_ALAW: u16 = 6;
    const FORMAT_MULAW: u16 = 7;
    let format = if source == Codec::Pcmu { FORMAT_MULAW } else { FORMAT_ALAW };
    let rate = source.sample_rate_hz();
    let mut head = Vec::with_capacity(58);
    head.extend(b"RIFF");
    head.extend((50 + data_octets + data_octets % 2).to_le_bytes());
    head.extend(b"WAVEfmt ");
    head.extend(18_u32.to_le_bytes());
    head.extend(format.to_le_bytes());
    head.extend(1_u16.to_le_bytes()); // channels
    head.extend(rate.to_le_bytes());
    head.extend(rate.to_le_bytes()); // octets per second
    head.extend(1_u16.to_le_bytes()); // octets per sample
    head.extend(8_u16.to_le_bytes()); // bits per sample
    head.extend(0_u16.to_le_bytes()); // no extension
    head.extend(b"fact");
    head.extend(4_u32.to_le_bytes());
    head.extend(data_octets.to_le_bytes()); // samples
    head.extend(b"data");
    head.extend(data_octets.to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::FileHeader;
    use std::io::Cursor;

    fn segment(codec: Codec, data: &[u8]) -> Reader<Cursor<Vec<u8>>> {
        let octets = [&FileHeader::new(codec, 20).encode()[..], data].concat();
        Reader::open(Cursor::new(octets)).expect("a recording")
    }

    fn wav_of(segments: &mut [Reader<Cursor<Vec<u8>>>], codec: ExportCodec) -> Result<Vec<u8>, ExportError> {
        let mut out = Cursor::new(Vec::new());
        export(segments, &mut out, codec, &mut |_| ControlFlow::Continue(()))?;
        Ok(out.into_inner())
    }

    #[test]
    fn segments_join_to_pcm_in_order_and_partial_frames_stay_out() {
        let mut segments = [segment(Codec::Pcmu, &[0x80; 160]), segment(Codec::Pcmu, &[0x00; 330])];
        let wav = wav_of(&mut segments, ExportCodec::Pcm).unwrap();
        let mut reader = hound::WavReader::new(Cursor::new(wav)).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.spec().bits_per_sample), (8000, 16));
        let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(samples, [[32124; 160].as_slice(), &[-32124; 320]].concat());
    }

    #[test]
    fn the_ends_of_the_g711_tables_are_those_of_the_recommendation() {
        let alaw = [0xAA, 0x2A, 0xD5, 0x55].map(decode_alaw);
        assert_eq!(alaw, [32256, -32256, 8, -8]);
        assert_eq!([0x80, 0x00, 0xFF, 0x7F].map(decode_ulaw), [32124, -32124, 0, 0]);
    }

    #[test]
    fn g711_is_copied_as_it_is_with_a_fact_chunk() {
        let mut segments = [segment(Codec::Pcma, &[0x5A; 320])];
        let wav = wav_of(&mut segments, ExportCodec::Copy).unwrap();
        assert_eq!(&wav[..22], b"RIFF\x72\x01\0\0WAVEfmt \x12\0\0\0\x06\0");
        assert_eq!(&wav[38..58], b"fact\x04\0\0\0\x40\x01\0\0data\x40\x01\0\0");
        assert_eq!(&wav[58..], [0x5A; 320]);
        assert_eq!(wav.len(), 8 + 0x172);
    }

    #[test]
    fn segments_that_cannot_be_exported_are_refused_before_anything_is_written() {
        let mut g722 = [segment(Codec::G722, &[0; 160])];
        assert!(matches!(wav_of(&mut g722, ExportCodec::Copy), Err(ExportError::CopyOfG722)));
        let mut mixed = [segment(Codec::Pcma, &[]), segment(Codec::Pcmu, &[])];
        assert!(matches!(
            wav_of(&mut mixed, ExportCodec::Pcm),
            Err(ExportError::MixedCodecs { segment: 1, other: Codec::Pcmu, .. })
        ));
        assert!(matches!(wav_of(&mut [], ExportCodec::Pcm), Err(ExportError::NoSegments)));
        let mut huge = [segment(Codec::G722, &[])];
        huge[0].refresh((1 << 30) + 1000);
        assert!(matches!(wav_of(&mut huge, ExportCodec::Pcm), Err(ExportError::TooLarge { .. })));
    }

    #[test]
    fn a_too_large_export_is_refused_with_advice_that_can_be_followed() {
        let reason = |codec, octets: u64, files: usize, as_what| {
            let mut segments: Vec<_> = (0..files).map(|_| segment(codec, &[])).collect();
            segments.iter_mut().for_each(|segment| segment.refresh(76 + octets));
            wav_of(&mut segments, as_what).unwrap_err().to_string()
        };
        let half = 0x8000_0400;
        assert!(reason(Codec::Pcma, half, 1, ExportCodec::Pcm).ends_with(": use --codec copy"));
        let copied = reason(Codec::Pcma, half, 2, ExportCodec::Copy);
        assert!(copied.ends_with(": export fewer of the files at once"), "{copied}");
        for (files, codec) in [(1, Codec::G722), (2, Codec::G722), (2, Codec::Pcmu)] {
            let text = reason(codec, half, files, ExportCodec::Pcm);
            assert!(!text.contains("copy"), "{text}");
            assert_eq!(text.contains("--stdout"), files == 1, "{text}");
        }
    }

    #[test]
    fn progress_ends_at_the_whole() {
        let mut segments = [segment(Codec::Pcma, &vec![0x55; 160 * 1000])];
        let mut seen = Vec::new();
        let mut out = Cursor::new(Vec::new());
        let done = export(&mut segments, &mut out, ExportCodec::Pcm, &mut |progress| {
            seen.push(progress.done_octets);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen, [65_600, 131_200, 160_000]);
        assert_eq!(done, Exported { duration_ms: 20_000, sample_rate_hz: 8000, samples: 160_000 });
    }

    #[test]
    fn an_export_ends_where_its_progress_breaks_it_off() {
        let mut segments = [segment(Codec::Pcma, &vec![0x55; 160 * 1000])];
        let mut calls = 0;
        let stopped = export(&mut segments, Cursor::new(Vec::new()), ExportCodec::Copy, &mut |_| {
            calls += 1;
            ControlFlow::Break(())
        });
        assert!(matches!(stopped, Err(ExportError::Stopped)));
        assert_eq!(calls, 1);
    }
}

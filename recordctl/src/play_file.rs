//! `play --stdout`: decodes a recording file to 16-bit PCM on stdout, at the pace of the reader.

use super::failure::Failure;
use super::offline::{AudioFile, open_file};
use super::{advice, notes, output};
use audio_codec_algorithms::{decode_alaw, decode_ulaw};
use media::codec::Codec;
use recfile::g722::G722Decoder;
use recfile::reader::Reader;
use recfile::seal::age::Identity;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::Path;

/// Writes the file from `position_ms` on to stdout; its format goes to stderr.
pub(super) fn to_stdout(path: &Path, position_ms: u64, identities: &[Identity]) -> Result<(), Failure> {
    let failed = |error: String| Failure::Local(format!("cannot play {}: {error}", path.display()));
    let file = open_file(path).map_err(|error| failed(advice::said(&error)))?;
    let file = AudioFile::open(file, identities).map_err(|error| failed(error.to_string()))?;
    let mut reader = Reader::open(file).map_err(|error| failed(error.to_string()))?;
    reader.seek_frame(reader.format().frame_at_ms(position_ms));
    let (codec, duration_ms) = (reader.facts().codec, reader.facts().duration_ms);
    notes::note(&format!(
        "{}: {}, {}; raw S16_LE, {} Hz, mono",
        output::clean(&path.display().to_string()),
        codec.name(),
        output::clock(duration_ms),
        codec.sample_rate_hz()
    ));
    write_pcm(&mut reader, codec, BufWriter::new(std::io::stdout().lock()), path)
}

fn write_pcm<R: Read + Seek>(
    reader: &mut Reader<R>,
    codec: Codec,
    mut out: impl Write,
    path: &Path,
) -> Result<(), Failure> {
    let mut frame = vec![0; reader.facts().frame_octets as usize];
    let mut samples = Vec::new();
    let mut g722 = G722Decoder::default();
    loop {
        let read = reader.next_frame(&mut frame);
        let read =
            read.map_err(|error| Failure::Local(format!("cannot read {}: {error}", path.display())))?;
        let Some(octets) = read else { break };
        let frame = &frame[..octets];
        samples.clear();
        match codec {
            Codec::Pcma => samples.extend(frame.iter().map(|&octet| decode_alaw(octet))),
            Codec::Pcmu => samples.extend(frame.iter().map(|&octet| decode_ulaw(octet))),
            Codec::G722 => g722.decode(frame, &mut samples),
        }
        for sample in &samples {
            out.write_all(&sample.to_le_bytes())?;
        }
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use recfile::header::FileHeader;
    use std::io::Cursor;

    #[test]
    fn a_recording_becomes_little_endian_samples_in_order() {
        let payload = [vec![0xD5; 160], vec![0x2A; 160]].concat();
        let octets = [&FileHeader::new(Codec::Pcma, 20).encode()[..], &payload].concat();
        let mut reader = Reader::open(Cursor::new(octets)).unwrap();
        let mut out = Vec::new();
        write_pcm(&mut reader, Codec::Pcma, &mut out, Path::new("test")).unwrap();
        assert_eq!(out.len(), 640);
        assert_eq!((&out[..2], &out[638..]), (&8_i16.to_le_bytes()[..], &(-32256_i16).to_le_bytes()[..]));
    }
}

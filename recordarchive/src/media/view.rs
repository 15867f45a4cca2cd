//! A recording as one WAV that nobody wrote: its segments joined, read where they are.
//!
//! Owns: which octets of the WAV come from where. G.711 is read at an offset; G.722 is decoded from a saved
//! state of the decoder, so any part is the very one that decoding from the start gives. Invariants: the
//! length is exact before anything is read; a file that has become shorter is an error, never silence.

use super::vault::{Media, Vault};
use super::wav::Form;
use crate::catalogue::model::{RecordingMedia, Segment};
use crate::id::Id;
use audio_codec_algorithms::{decode_alaw, decode_ulaw};
use media::codec::Codec;
use recfile::g722::{G722Decoder, STATE_OCTETS};
use recfile::header::HEADER_OCTETS;
use recfile::reader::Reader;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Octets of G.722 between two saved states: ten seconds.
const STATE_EVERY_OCTETS: u64 = 80_000;
/// Recordings of which states are kept.
const MAX_RECORDINGS: usize = 64;

/// A saved state of a decoder.
pub(crate) type State = [u8; STATE_OCTETS];

/// Saved states of decoders, for going on in the middle of a recording.
#[derive(Debug, Default)]
pub(crate) struct States(Mutex<HashMap<(Id, u64), Vec<State>>>);

impl States {
    fn key(media: &RecordingMedia) -> (Id, u64) {
        (media.id, media.segments.iter().map(|segment| segment.audio_octets).sum())
    }

    /// Whether there are any of a recording.
    pub(crate) fn has(&self, media: &RecordingMedia) -> bool {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.contains_key(&Self::key(media))
    }

    /// Those of a recording.
    pub(crate) fn of(&self, media: &RecordingMedia) -> Vec<State> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(&Self::key(media)).cloned().unwrap_or_default()
    }

    /// Takes those of a recording that were kept.
    pub(crate) fn put(&self, media: &RecordingMedia, kept: Vec<State>) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() >= MAX_RECORDINGS {
            states.clear();
        }
        states.insert(Self::key(media), kept);
    }

    /// The last one at or before `position`, and where it is.
    fn before(&self, recording: (Id, u64), position: u64) -> (u64, G722Decoder) {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = states.get(&recording).map_or(&[][..], Vec::as_slice);
        let wanted = usize::try_from(position / STATE_EVERY_OCTETS).unwrap_or(usize::MAX).min(known.len());
        match wanted.checked_sub(1).and_then(|at| known.get(at)) {
            Some(state) => (wanted as u64 * STATE_EVERY_OCTETS, G722Decoder::restore(state)),
            None => (0, G722Decoder::default()),
        }
    }

    fn note(&self, recording: (Id, u64), position: u64, decoder: &G722Decoder) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !states.contains_key(&recording) && states.len() >= MAX_RECORDINGS {
            states.clear();
        }
        let known = states.entry(recording).or_default();
        if position / STATE_EVERY_OCTETS == known.len() as u64 + 1 {
            known.push(decoder.save());
        }
    }
}

/// A segment that is open.
enum Source {
    /// Payload behind the header.
    Plain(Media),
    /// Payload between the headers of packets.
    Packets(Box<Reader<Media>>),
}

/// A recording open for playing.
pub(crate) struct View {
    recording: (Id, u64),
    codec: Codec,
    form: Form,
    header: Vec<u8>,
    segments: Vec<Segment>,
    key: Option<Vec<u8>>,
    vault: Vault,
    /// The segment that was read last, open.
    open: Option<(usize, Source)>,
    audio_octets: u64,
    decoder: Option<(u64, G722Decoder)>,
    states: Arc<States>,
}

impl View {
    /// Prepares a recording; `None` if it has more octets than a WAV can have. No file is opened yet.
    pub(crate) fn new(
        media: RecordingMedia,
        codec: Codec,
        pcm: bool,
        states: Arc<States>,
        vault: Vault,
    ) -> Option<Self> {
        let form = Form::of(codec, pcm);
        let audio_octets: u64 = media.segments.iter().map(|segment| segment.audio_octets).sum();
        let header = form.header(codec, audio_octets.checked_mul(form.octets_per_octet(codec))?)?;
        let recording = (media.id, audio_octets);
        let RecordingMedia { segments, key, .. } = media;
        Some(Self {
            recording,
            codec,
            form,
            header,
            segments,
            key,
            vault,
            open: None,
            audio_octets,
            decoder: None,
            states,
        })
    }

    /// Octets of the WAV. An odd count of samples has an octet behind it, as RIFF asks for.
    pub(crate) fn len(&self) -> u64 {
        let data = self.audio_octets * self.form.octets_per_octet(self.codec);
        self.header.len() as u64 + data + data % 2
    }

    /// Opens the file of a position, so that one which is not there is known before anything is sent.
    pub(crate) fn try_open(&mut self) -> io::Result<()> {
        for at in 0..self.segments.len() {
            self.source(at)?;
        }
        Ok(())
    }

    fn source(&mut self, at: usize) -> io::Result<&mut Source> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != at) {
            let segment = self.segments.get(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            let file = self.vault.open(&segment.file, self.key.as_deref())?;
            let source = if segment.is_plain {
                if file.len()? < HEADER_OCTETS as u64 + segment.audio_octets {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the file is shorter than it was",
                    ));
                }
                Source::Plain(file)
            } else {
                Source::Packets(Box::new(Reader::open(file).map_err(io::Error::other)?))
            };
            self.open = Some((at, source));
        }
        self.open.as_mut().map(|(_, source)| source).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Fills `to` with payload from a position in all segments on.
    pub(crate) fn payload(&mut self, position: u64, to: &mut [u8]) -> io::Result<()> {
        let (mut begin, mut done) = (0, 0);
        for at in 0..self.segments.len() {
            let octets = self.segments[at].audio_octets;
            let from = position + done as u64;
            if from < begin + octets && done < to.len() {
                let left = usize::try_from(begin + octets - from).unwrap_or(usize::MAX);
                let count = left.min(to.len() - done);
                let part = &mut to[done..done + count];
                match self.source(at)? {
                    Source::Plain(file) => file.read_exact_at(part, HEADER_OCTETS as u64 + from - begin)?,
                    Source::Packets(reader) => of_packets(reader, from - begin, part)?,
                }
                done += count;
            }
            begin += octets;
        }
        if done == to.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Octets of the WAV from `from` on, at most `limit`.
    pub(crate) fn read(&mut self, from: u64, limit: usize) -> io::Result<Vec<u8>> {
        let head = self.header.len() as u64;
        if let Some(rest) = usize::try_from(from).ok().and_then(|from| self.header.get(from..))
            && !rest.is_empty()
        {
            return Ok(rest[..rest.len().min(limit)].to_vec());
        }
        let per = self.form.octets_per_octet(self.codec);
        let data = self.audio_octets * per;
        let from = from - head;
        if from >= data {
            return Ok(vec![
                0;
                usize::try_from((data + data % 2).saturating_sub(from)).unwrap_or(0).min(limit)
            ]);
        }
        let first = from / per;
        let last = (from + limit as u64).min(data).div_ceil(per);
        let mut stored = vec![0; usize::try_from(last - first).unwrap_or(0)];
        let mut octets = match (self.form, self.codec) {
            (Form::Stored, _) => {
                self.payload(first, &mut stored)?;
                stored
            }
            (Form::Pcm, Codec::G722) => self.decode_g722(first, &mut stored)?,
            (Form::Pcm, Codec::Pcma) => {
                self.payload(first, &mut stored)?;
                stored.iter().flat_map(|octet| decode_alaw(*octet).to_le_bytes()).collect()
            }
            (Form::Pcm, Codec::Pcmu) => {
                self.payload(first, &mut stored)?;
                stored.iter().flat_map(|octet| decode_ulaw(*octet).to_le_bytes()).collect()
            }
        };
        octets.drain(..usize::try_from(from - first * per).unwrap_or(0).min(octets.len()));
        octets.truncate(limit);
        Ok(octets)
    }

    fn decode_g722(&mut self, first: u64, stored: &mut [u8]) -> io::Result<Vec<u8>> {
        let (mut at, mut decoder) = match self.decoder.take() {
            Some((at, decoder)) if at == first => (at, decoder),
            _ => self.states.before(self.recording, first),
        };
        let mut samples = Vec::new();
        // Up to the first octet that is asked for the samples are of no use, and the states are.
        while at < first {
            let stop = first.min((at / STATE_EVERY_OCTETS + 1) * STATE_EVERY_OCTETS);
            let mut before = vec![0; usize::try_from(stop - at).unwrap_or(0)];
            self.payload(at, &mut before)?;
            samples.clear();
            decoder.decode(&before, &mut samples);
            at = stop;
            if at % STATE_EVERY_OCTETS == 0 {
                self.states.note(self.recording, at, &decoder);
            }
        }
        samples.clear();
        self.payload(first, stored)?;
        let mut rest = &stored[..];
        while !rest.is_empty() {
            let room = usize::try_from(STATE_EVERY_OCTETS - at % STATE_EVERY_OCTETS).unwrap_or(rest.len());
            let (now, later) = rest.split_at(room.min(rest.len()));
            decoder.decode(now, &mut samples);
            at += now.len() as u64;
            rest = later;
            if at % STATE_EVERY_OCTETS == 0 {
                self.states.note(self.recording, at, &decoder);
            }
        }
        self.decoder = Some((at, decoder));
        Ok(samples.iter().flat_map(|sample| sample.to_le_bytes()).collect())
    }
}

fn of_packets(reader: &mut Reader<Media>, position: u64, to: &mut [u8]) -> io::Result<()> {
    let octets = u64::from(reader.facts().frame_octets.max(1));
    let mut frame = vec![0; reader.facts().frame_octets as usize];
    let mut done = 0;
    while done < to.len() {
        let at = position + done as u64;
        reader.read_frame(at / octets, &mut frame)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let rest = &frame[usize::try_from(at % octets).unwrap_or(0)..];
        let count = rest.len().min(to.len() - done);
        to[done..done + count].copy_from_slice(&rest[..count]);
        done += count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::model::Place;
    use proptest::prelude::*;
    use recfile::export::{ExportCodec, export};
    use recfile::header::FileHeader;
    use std::fs::File;
    use std::io::Cursor;
    use std::ops::ControlFlow;
    use std::path::Path;

    fn write(folder: &Path, codec: Codec, parts: &[&[u8]]) -> RecordingMedia {
        let segment = |(index, data): (usize, &&[u8])| {
            let name = format!("Record_{index}.wav");
            let octets = [&FileHeader::new(codec, 20).encode()[..], data].concat();
            std::fs::write(folder.join(&name), octets).unwrap();
            Segment {
                number: u32::try_from(index).unwrap() + 1,
                file: Place { root: folder.to_string_lossy().into(), name, ..Place::default() },
                audio_octets: data.len() as u64,
                is_plain: true,
                sha256: Vec::new(),
            }
        };
        RecordingMedia {
            id: Id([7; 16]),
            call: String::new(),
            codec: codec.name().into(),
            encrypted: false,
            key: None,
            segments: parts.iter().enumerate().map(segment).collect(),
        }
    }

    fn exported(media: &RecordingMedia, codec: ExportCodec) -> Vec<u8> {
        let open =
            |segment: &Segment| Reader::open(File::open(crate::media::path(&segment.file)).unwrap()).unwrap();
        let mut readers: Vec<_> = media.segments.iter().map(open).collect();
        let mut out = Cursor::new(Vec::new());
        export(&mut readers, &mut out, codec, &mut |_| ControlFlow::Continue(())).unwrap();
        out.into_inner()
    }

    fn noise(octets: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..octets).map(|_| next()).collect()
    }

    fn whole(view: &mut View) -> Vec<u8> {
        let (mut all, len) = (Vec::new(), view.len());
        while (all.len() as u64) < len {
            all.extend(view.read(all.len() as u64, 30_011).unwrap());
        }
        all
    }

    #[test]
    fn a_view_is_the_export_of_the_segments_octet_by_octet() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (noise(160 * 700, 1), noise(160 * 3, 2));
        for (codec, pcm, as_what) in [
            (Codec::Pcma, false, ExportCodec::Copy),
            (Codec::Pcmu, false, ExportCodec::Copy),
            (Codec::Pcma, true, ExportCodec::Pcm),
            (Codec::Pcmu, true, ExportCodec::Pcm),
            (Codec::G722, false, ExportCodec::Pcm),
        ] {
            let media = write(folder.path(), codec, &[&one, &two]);
            let expected = exported(&media, as_what);
            let mut view = View::new(media, codec, pcm, Arc::default(), Vault::default()).unwrap();
            assert_eq!(view.len(), expected.len() as u64);
            assert!(whole(&mut view) == expected, "{codec:?} {pcm}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn any_part_of_g722_is_that_of_the_whole_after_any_reads(
            parts in proptest::collection::vec((0..660_000_u64, 1..5000_usize), 1..6),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let data = noise(160 * 1020, 3);
            let media = write(folder.path(), Codec::G722, &[&data[..160 * 600], &data[160 * 600..]]);
            let expected = exported(&media, ExportCodec::Pcm);
            let states = Arc::new(States::default());
            for (from, limit) in parts {
                let from = from.min(expected.len() as u64 - 1);
                let states = Arc::clone(&states);
                let view = View::new(media.clone(), Codec::G722, false, states, Vault::default());
                let mut view = view.unwrap();
                let got = view.read(from, limit).unwrap();
                let from = usize::try_from(from).unwrap();
                prop_assert!(!got.is_empty() && got == expected[from..from + got.len()]);
            }
        }
    }

    #[test]
    fn a_file_that_is_gone_or_shorter_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let media = write(folder.path(), Codec::Pcma, &[&[0x55; 1600]]);
        let new = || View::new(media.clone(), Codec::Pcma, false, Arc::default(), Vault::default());
        let view = || new().unwrap();
        let file = folder.path().join("Record_0.wav");
        File::options().write(true).open(&file).unwrap().set_len(500).unwrap();
        assert_eq!(view().try_open().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(view().try_open().unwrap_err().kind(), io::ErrorKind::NotFound);
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert!(view().try_open().is_err(), "links are not followed");
    }
}

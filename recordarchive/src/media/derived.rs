//! Derived data, made of a recording once and kept: its wave, loudness, where there is sound, and states of
//! its decoder.
//!
//! Owns: the files below `DATA/derived`, one for each recording. Each names the audio that it was made from;
//! if that differs, the file is not used, and is made anew. It is made when a recording is taken in, or when
//! it is first asked for. It is as secret as the audio: a user who may not hear a recording gets nothing of
//! it, and that of an encrypted one is encrypted, too. Invariant: one that is damaged or not there costs
//! time, never an answer.

use super::peaks::{self, Peaks};
use super::vault::Vault;
use super::view::{State, States, View};
use crate::catalogue::model::RecordingMedia;
use crate::id::Id;
use media::codec::Codec;
use recfile::g722::STATE_OCTETS;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::fs::{Fs, RealFs};

/// The first octets of a file.
const MAGIC: &[u8; 8] = b"radrv01\n";
/// Octets before the wave: magic, hash of the audio it was made from, octets of the wave.
const HEAD_OCTETS: usize = 8 + 32 + 4;
/// More is not one of ours: the wave and states of a week.
const MAX_OCTETS: u64 = 256 << 20;

/// The derived data of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Derived {
    /// The wave, as JSON.
    pub(crate) wave: Vec<u8>,
    /// States of the decoder of G.722, ten seconds apart.
    pub(crate) states: Vec<State>,
}

/// The folder of derived data.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    vault: Vault,
}

/// The hash of the audio that something is made of.
fn source(media: &RecordingMedia) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(&media.codec);
    for segment in &media.segments {
        hash.update(segment.audio_octets.to_be_bytes());
        hash.update(&segment.sha256);
    }
    hash.finalize().into()
}

impl Store {
    /// That of an archive whose data are in `data`.
    pub(crate) fn new(data: &Path) -> Self {
        Self { folder: data.join("derived"), vault: Vault::default() }
    }

    /// The same, for recordings that this opens.
    pub(crate) fn with_vault(self, vault: Vault) -> Self {
        Self { vault, ..self }
    }

    fn path(&self, recording: Id) -> PathBuf {
        let name = recording.to_string();
        // The last digits of an id are chance, the first ones are the time.
        self.folder.join(&name[34..]).join(name)
    }

    /// Removes the derived data of a recording, if there is some.
    pub(crate) fn remove(&self, recording: Id) -> io::Result<()> {
        match std::fs::remove_file(self.path(recording)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Removes the derived data that was made before the recording was encrypted.
    pub(crate) fn remove_plain(&self, recording: Id) -> io::Result<()> {
        let mut begin = [0; MAGIC.len()];
        let read = RealFs.open_read(&self.path(recording)).and_then(|mut file| file.read_exact(&mut begin));
        match read {
            Ok(()) if begin != *MAGIC => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => self.remove(recording),
        }
    }

    /// The stored derived data of the present audio of a recording.
    pub(crate) fn read(&self, media: &RecordingMedia) -> Option<Derived> {
        let file = RealFs.open_read(&self.path(media.id)).ok()?;
        let mut octets = Vec::new();
        file.take(MAX_OCTETS).read_to_end(&mut octets).ok()?;
        if let Some(key) = &media.key {
            octets = self.vault.open_small(key, &octets).ok()?;
        }
        let head = octets.get(..HEAD_OCTETS)?;
        let count = u32::from_be_bytes(head[40..].try_into().ok()?) as usize;
        if head[..8] != *MAGIC || head[8..40] != source(media) {
            return None;
        }
        let (wave, states) = octets[HEAD_OCTETS..].split_at_checked(count)?;
        let states = states.chunks_exact(STATE_OCTETS).filter_map(|state| state.try_into().ok());
        Some(Derived { states: states.collect(), wave: wave.to_vec() })
    }

    /// The derived data of a recording: read, or made now and kept. One that can't be kept is made again the
    /// next time.
    ///
    /// # Errors
    /// A file of the recording can't be read; `InvalidData`: nothing can be made of it.
    pub(crate) fn make(&self, media: &RecordingMedia) -> io::Result<Derived> {
        if let Some(derived) = self.read(media) {
            return Ok(derived);
        }
        let derived = derive(media, &self.vault)?;
        // One that is to be encrypted has no key yet: it is made once more when it has.
        if self.vault.encrypts() && media.key.is_none() {
            return Ok(derived);
        }
        if let Err(error) = self.keep(media, &derived) {
            log::warn!("{}: the wave of a recording can't be kept: {error}", self.folder.display());
        }
        Ok(derived)
    }

    fn keep(&self, media: &RecordingMedia, derived: &Derived) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let path = self.path(media.id);
        let folder = path.parent().unwrap_or(&self.folder);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let count = u32::try_from(derived.wave.len()).map_err(io::Error::other)?;
        let temporary = path.with_extension("new");
        let _ = RealFs.remove(&temporary);
        let mut file = RealFs.create(&temporary)?;
        let (source, count, states) = (source(media), count.to_be_bytes(), derived.states.as_flattened());
        let mut octets = [&MAGIC[..], &source, &count, &derived.wave, states].concat();
        if let Some(key) = &media.key {
            octets = self.vault.seal_small(key, &octets)?;
        }
        // Nothing is lost with it: it is not synced.
        file.write_all(&octets)?;
        RealFs.rename(&temporary, &path)
    }
}

fn derive(media: &RecordingMedia, vault: &Vault) -> io::Result<Derived> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
    let codec = Codec::from_name(&media.codec).filter(|_| !media.encrypted);
    let codec = codec.ok_or_else(|| invalid("it is encrypted, or its codec is not known"))?;
    let states = Arc::new(States::default());
    let view = View::new(media.clone(), codec, true, Arc::clone(&states), vault.clone());
    let mut view = view.ok_or_else(|| invalid("it is too long for a wave"))?;
    let wave: Peaks = peaks::peaks(&mut view, codec.sample_rate_hz())?;
    let wave = serde_json::to_vec(&wave).map_err(io::Error::other)?;
    Ok(Derived { wave, states: states.of(media) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::model::{Place, Segment};
    use recfile::header::FileHeader;

    fn recording(folder: &Path, codec: Codec, audio: &[u8]) -> RecordingMedia {
        let octets = [&FileHeader::new(codec, 20).encode()[..], audio].concat();
        std::fs::write(folder.join("Record_1.wav"), octets).unwrap();
        let root = folder.to_string_lossy().into();
        let segment = Segment {
            number: 1,
            file: Place { root, name: "Record_1.wav".into(), ..Place::default() },
            audio_octets: audio.len() as u64,
            is_plain: true,
            sha256: Sha256::digest(audio).to_vec(),
        };
        RecordingMedia {
            id: Id([7; 16]),
            call: String::new(),
            codec: codec.name().into(),
            encrypted: false,
            key: None,
            segments: vec![segment],
        }
    }

    #[test]
    fn a_wave_is_made_once_of_the_audio_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let mut media = recording(folder.path(), Codec::Pcma, &[0x2A; 1600]);
        let made = store.make(&media).unwrap();
        let wave: serde_json::Value = serde_json::from_slice(&made.wave).unwrap();
        assert_eq!((&wave["duration_ms"], wave["peaks"].as_array().unwrap().len()), (&200.into(), 2));
        // The recording itself is not needed any more, unless it has become another one.
        std::fs::remove_file(folder.path().join("Record_1.wav")).unwrap();
        assert_eq!(store.make(&media).unwrap(), made);
        media.segments[0].sha256 = vec![1; 32];
        assert!(store.make(&media).is_err());
        media.segments[0].sha256 = Sha256::digest([0x2A; 1600]).to_vec();
        std::fs::write(store.path(media.id), b"radrv01\nshort").unwrap();
        assert_eq!(store.read(&media), None, "a damaged one");
    }

    #[test]
    fn decoder_states_of_g722_are_kept_and_play_on_bit_by_bit() {
        let folder = tempfile::tempdir().unwrap();
        let audio: Vec<u8> =
            (0..250_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let media = recording(folder.path(), Codec::G722, &audio);
        let made = Store::new(folder.path()).make(&media).unwrap();
        assert_eq!(made.states.len(), 3);
        let read = |states: Arc<States>| {
            let view = View::new(media.clone(), Codec::G722, true, states, Vault::default());
            view.unwrap().read(44 + 4 * 200_000, 4000).unwrap()
        };
        let known = Arc::new(States::default());
        known.put(&media, made.states.clone());
        assert!(known.has(&media));
        assert!(read(known) == read(Arc::default()), "from a state as from the start");
    }
}

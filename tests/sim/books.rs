//! The shadow model: what was sent, what was promised, and what the files say.

use crate::disk::Stick;
use crate::sender::{Sent, WORD_OCTETS, parse_word};
use phone_recorder::file::header::{FileHeader, HEADER_OCTETS};
use phone_recorder::file::name::{is_record_file_name, sidecar_name};
use phone_recorder::file::reader::{PROBE_OCTETS, Reader};
use phone_recorder::file::recovery::{FileState, Mode, Patch, apply, plan};
use phone_recorder::file::sidecar::{Sidecar, SidecarState};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor};
use std::path::PathBuf;

/// How a recording ended, as far as the model knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// Its file is being created.
    Starting,
    /// It goes on.
    Live,
    /// `recording.ended`, with this status.
    Ended(Value),
    /// `recording.failed`.
    Failed,
    /// Its agent was killed.
    Killed,
}

/// What the model knows of one recording.
#[derive(Debug)]
pub(crate) struct Shadow {
    /// In the end, or so far.
    pub(crate) fate: Fate,
    pub(crate) paused: bool,
    /// A stop was answered: what comes now must not be in a file.
    pub(crate) stopped: bool,
    /// Its stick was full before it ended, so that its last audio may have found no room.
    pub(crate) cut_off: bool,
}

/// A file that storage said was created.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) recording: String,
    pub(crate) stick: usize,
    pub(crate) path: PathBuf,
    /// Octets of audio that storage said were durable.
    pub(crate) durable: u64,
    pub(crate) frame_octets: u64,
    /// Deleted to make room, and its name taken by another.
    pub(crate) replaced: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) sent: Vec<Sent>,
    /// Packets that arrived while nothing might be recorded.
    pub(crate) forbidden: BTreeSet<u32>,
    /// Whose port each packet went to.
    pub(crate) addressed: BTreeMap<u32, String>,
    pub(crate) recordings: BTreeMap<String, Shadow>,
    pub(crate) files: Vec<Made>,
    pub(crate) may_delete: bool,
}

struct Memory(Vec<u8>);

impl Patch for Memory {
    fn write_at(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.resize(self.0.len().max(start + octets.len()), 0);
        self.0[start..start + octets.len()].copy_from_slice(octets);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }
}

/// What the files of one recording hold.
#[derive(Debug, Default)]
struct Held {
    packets: BTreeSet<u32>,
    octets: u64,
    padding_at_most: u64,
    received: u64,
    missing: bool,
    unfinished_sidecar: bool,
}

impl Books {
    /// Notes a file just created.
    pub(crate) fn made(&mut self, made: Made) {
        let same = |it: &&mut Made| it.stick == made.stick && it.path == made.path;
        if let Some(older) = self.files.iter_mut().rfind(same) {
            assert!(self.may_delete, "{} was replaced", made.path.display());
            older.replaced = true;
        }
        self.files.push(made);
    }

    /// Notes the end of a recording; there is only one.
    pub(crate) fn ended(&mut self, params: &Value, fate: Fate, stick_was_full: bool) {
        let id = params["recording"].as_str().expect("its recording").to_owned();
        let shadow = self.recordings.get_mut(&id).unwrap_or_else(|| panic!("{id} ended without a start"));
        assert!(matches!(shadow.fate, Fate::Starting | Fate::Live), "{id} ended twice");
        shadow.fate = fate;
        shadow.cut_off = stick_was_full;
    }

    /// Whether what arrives for this recording may not be kept.
    pub(crate) fn is_fenced(&self, recording: &str) -> bool {
        self.recordings
            .get(recording)
            .is_some_and(|it| it.paused || it.stopped || !matches!(it.fate, Fate::Starting | Fate::Live))
    }

    /// What was promised to be durable has survived a crash of a stick.
    pub(crate) fn check_survivors(&self, number: usize, stick: &Stick) {
        for made in self.files.iter().filter(|made| made.stick == number && !made.replaced) {
            let Some(node) = stick.names.get(&made.path) else {
                assert!(self.may_delete, "{} is gone", made.path.display());
                continue;
            };
            let content = &node.borrow().content;
            repaired(stick, made, content);
            if made.durable == 0 {
                continue;
            }
            let audio = (content.len() - HEADER_OCTETS) as u64;
            assert!(audio >= made.durable, "{}: {audio} of {} left", made.path.display(), made.durable);
            let header = FileHeader::parse(content).expect("it opens");
            assert!(u64::from(header.data_size) <= audio, "dataSize promises more than there is");
        }
    }

    /// Everything, when nothing is under way any more.
    pub(crate) fn check_files(&self, sticks: &[Stick]) {
        let mut seen = BTreeSet::new();
        let mut held: BTreeMap<&str, Held> = BTreeMap::new();
        let mut last: BTreeMap<(&str, u32), (u32, u16)> = BTreeMap::new();
        for made in &self.files {
            let held = held.entry(&made.recording).or_default();
            let stick = &sticks[made.stick];
            let Some(node) = stick.names.get(&made.path).filter(|_| !made.replaced) else {
                assert!(self.may_delete, "{} is gone", made.path.display());
                held.missing = true;
                continue;
            };
            let file = repaired(stick, made, &node.borrow().content);
            let header = FileHeader::parse(&file).expect("it was repaired");
            let silence = header.codec.silence();
            let is_silence = |octets: &[u8]| octets.iter().all(|octet| *octet == silence);
            for (index, word) in file[HEADER_OCTETS..].chunks_exact(WORD_OCTETS).enumerate() {
                if is_silence(word) {
                    continue;
                }
                let Some((id, place)) = parse_word(word) else {
                    // The last one may have been cut off, and its frame filled up.
                    let rest = &file[HEADER_OCTETS + (index + 1) * WORD_OCTETS..];
                    let cut_off =
                        is_silence(&word[WORD_OCTETS - 1..]) && rest.len() < header.rtp_len as usize;
                    assert!(cut_off && is_silence(rest), "{}: garbage {word:?}", made.path.display());
                    continue;
                };
                assert!(seen.insert((id, place)), "packet {id} is stored twice");
                assert_eq!(self.addressed.get(&id), Some(&made.recording), "packet {id} went elsewhere");
                assert!(!self.forbidden.contains(&id), "packet {id} came after the pause or stop");
                let sent = self.sent[id as usize];
                let before = last.insert((&made.recording, sent.stream), (sent.place, place));
                assert!(before < Some((sent.place, place)), "packet {id} is out of order");
                held.packets.insert(id);
            }
            held.octets += (file.len() - HEADER_OCTETS) as u64;
            held.padding_at_most += u64::from(header.rtp_len);
            match self.sidecar(stick, made).filter(|it| it.state == SidecarState::Ended && !it.recovered) {
                Some(sidecar) => held.received += sidecar.packets.received,
                // On a full stick there may be no room for the last sidecar, and a stick that was pulled may
                // come back when its recording has gone on elsewhere.
                None => held.unfinished_sidecar = true,
            }
        }
        for (recording, shadow) in &self.recordings {
            self.check_recording(recording, shadow, &held.remove(recording.as_str()).unwrap_or_default());
        }
    }

    fn sidecar(&self, stick: &Stick, made: &Made) -> Option<Sidecar> {
        let name = sidecar_name(made.path.file_name()?.to_str()?);
        let node = stick.names.get(&made.path.with_file_name(name))?;
        let sidecar = Sidecar::parse(&node.borrow().content).expect("a sidecar is whole");
        assert_eq!(sidecar.recording, made.recording);
        Some(sidecar)
    }

    /// The books of a recording that ended well: every stored packet is in its files, and nothing else.
    fn check_recording(&self, recording: &str, shadow: &Shadow, held: &Held) {
        let Fate::Ended(status) = &shadow.fate else {
            assert_ne!(shadow.fate, Fate::Live, "{recording} never ended");
            return;
        };
        if held.missing || shadow.cut_off {
            return;
        }
        let packets = |name: &str| status["packets"][name].as_u64().expect("a counter");
        let kept = packets("received") - packets("late") - packets("duplicate") - packets("dropped");
        let in_files = held.packets.len() as u64;
        // What waits for reordering when the buffer runs full was booked before.
        // And what a pulled stick had not finished is what it was found to be.
        let exact = status["degraded"] == false && !held.unfinished_sidecar;
        assert!(
            in_files == kept || (!exact && in_files < kept),
            "{in_files} packets in files: {status} {held:?}"
        );
        let received = if held.unfinished_sidecar { packets("received") } else { held.received };
        assert_eq!(received, packets("received"), "{recording}: segments add up to the recording");
        let octets = status["bytes"].as_u64().expect("its length");
        let padding = held.octets.checked_sub(octets).expect("no audio is missing");
        assert!(padding < held.padding_at_most.max(1), "{recording}: {padding} octets too many");
    }
}

/// The file as a repair leaves it. It opens before, too, from its first flush on; until then its sidecar tells
/// what its header was.
fn repaired(stick: &Stick, made: &Made, content: &[u8]) -> Vec<u8> {
    let name = made.path.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(is_record_file_name(name));
    let opens = Reader::open(Cursor::new(content)).map(drop);
    assert!(opens.is_ok() || made.durable == 0, "{name}: {opens:?}");
    let sidecar = stick.names.get(&made.path.with_file_name(sidecar_name(name)));
    let sidecar = sidecar.map(|node| node.borrow().content.clone());
    let head = &content[..content.len().min(PROBE_OCTETS)];
    let len = content.len() as u64;
    let state = FileState { name, len, head, sidecar: sidecar.as_deref(), busy: false, may_grow: false };
    let mut file = Memory(content.to_vec());
    apply(&plan(&state, Mode::Explicit), &mut file).expect("memory does not fail");
    let reader = Reader::open(Cursor::new(&file.0)).expect("a repaired file opens");
    assert_eq!(reader.facts().problems, [], "{name}");
    file.0
}

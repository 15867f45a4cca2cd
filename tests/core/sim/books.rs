//! The shadow model: the packets sent, the octets promised, and the contents of the files.

#[path = "../../support/memory.rs"]
mod memory;

use super::disk::Stick;
use super::sender::{Sent, WORD_OCTETS, parse_word};
use memory::Memory;
use recfile::format::PROBE_OCTETS;
use recfile::header::{FileHeader, HEADER_OCTETS};
use recfile::name::{is_record_file_name, sidecar_name};
use recfile::reader::Reader;
use recfile::recovery::{FileState, Mode, Patch, apply, plan};
use recfile::sidecar::{Sidecar, SidecarState};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::PathBuf;

/// The ending of a recording, as far as the model knows.
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

/// The model of one recording.
#[derive(Debug)]
pub(crate) struct Shadow {
    /// In the end, or so far.
    pub(crate) fate: Fate,
    pub(crate) paused: bool,
    /// A stop was answered: packets that come now must not be in a file.
    pub(crate) stopped: bool,
    /// Its stick was full before it ended, so that its last audio may have found no room.
    pub(crate) cut_off: bool,
    /// The power has failed since: its pending work is not known any more.
    pub(crate) outlived: bool,
    /// Every stick was put in after it had ended.
    pub(crate) all_back: bool,
}

/// A file that storage said was created.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) recording: String,
    pub(crate) stick: usize,
    pub(crate) path: PathBuf,
    /// Octets of audio that storage said were durable, as far as a file that was finished keeps them.
    pub(crate) durable: u64,
    /// Octets of audio that storage said were durable, and that the agent counts on.
    pub(crate) acknowledged: u64,
    pub(crate) frame_octets: u64,
    /// Deleted to make room, and its name taken by another.
    pub(crate) replaced: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) sent: Vec<Sent>,
    /// Packets that arrived while nothing might be recorded.
    pub(crate) forbidden: BTreeSet<u32>,
    /// The recording whose port each packet went to.
    pub(crate) addressed: BTreeMap<u32, String>,
    pub(crate) recordings: BTreeMap<String, Shadow>,
    pub(crate) files: Vec<Made>,
    pub(crate) may_delete: bool,
}

/// The contents of the files of one recording.
#[derive(Debug, Default)]
struct Held {
    packets: BTreeSet<u32>,
    /// Octets that its disks acknowledged, and the same with the last frame of each finished file filled up.
    acknowledged: u64,
    whole_frames: u64,
    octets: u64,
    received: u64,
    missing: bool,
    unfinished_sidecar: bool,
    /// Words behind the acknowledged ones.
    spare: Vec<Word>,
}

/// A packet, and the place in it.
type Word = (u32, u16);

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

    /// Whether arriving packets of this recording may not be kept.
    pub(crate) fn is_fenced(&self, recording: &str) -> bool {
        self.recordings
            .get(recording)
            .is_some_and(|it| it.paused || it.stopped || !matches!(it.fate, Fate::Starting | Fate::Live))
    }

    /// Checks that octets promised to be durable have survived a crash of a stick.
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
            let counted = held.count(made, self.sidecar(stick, made), (file.len() - HEADER_OCTETS) as u64);
            for (at, word) in self.words(made, &file) {
                if at >= counted {
                    held.spare.push(word);
                    continue;
                }
                assert!(seen.insert(word), "packet {} is stored twice", word.0);
                let sent = self.sent[word.0 as usize];
                let before = last.insert((&made.recording, sent.stream), (sent.place, word.1));
                assert!(before < Some((sent.place, word.1)), "packet {} is out of order", word.0);
                held.packets.insert(word.0);
            }
        }
        for (recording, shadow) in &self.recordings {
            let held = held.remove(recording.as_str()).unwrap_or_default();
            self.check_recording(recording, shadow, &held, &seen);
        }
    }

    /// The audio of a file that is not silence: where each word stands, and whose it is.
    fn words(&self, made: &Made, file: &[u8]) -> Vec<(u64, Word)> {
        let header = FileHeader::parse(file).expect("it was repaired");
        let silence = header.codec.silence();
        let is_silence = |octets: &[u8]| octets.iter().all(|octet| *octet == silence);
        let mut words = Vec::new();
        for (index, word) in file[HEADER_OCTETS..].chunks_exact(WORD_OCTETS).enumerate() {
            if is_silence(word) {
                continue;
            }
            let Some((id, place)) = parse_word(word) else {
                // The last one may have been cut off, and its frame filled up.
                let rest = &file[HEADER_OCTETS + (index + 1) * WORD_OCTETS..];
                let cut_off = is_silence(&word[WORD_OCTETS - 1..]) && rest.len() < header.rtp_len as usize;
                assert!(cut_off && is_silence(rest), "{}: garbage {word:?}", made.path.display());
                continue;
            };
            assert_eq!(self.addressed.get(&id), Some(&made.recording), "packet {id} went elsewhere");
            assert!(!self.forbidden.contains(&id), "packet {id} came after the pause or stop");
            words.push(((index * WORD_OCTETS) as u64, (id, place)));
        }
        words
    }

    fn sidecar(&self, stick: &Stick, made: &Made) -> Option<Sidecar> {
        let name = sidecar_name(made.path.file_name()?.to_str()?);
        let node = stick.names.get(&made.path.with_file_name(name))?;
        let sidecar = Sidecar::parse(&node.borrow().content).expect("a sidecar is whole");
        assert_eq!(sidecar.recording, made.recording);
        Some(sidecar)
    }

    /// The books of a recording that ended well: every stored packet is in its files, and nothing else.
    fn check_recording(&self, recording: &str, shadow: &Shadow, held: &Held, seen: &BTreeSet<Word>) {
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
        // Packets that wait for reordering when the buffer runs full were booked before.
        let exact = status["degraded"] == false;
        assert!(
            in_files == kept || (!exact && in_files < kept),
            "{in_files} packets in files: {status} {held:?}"
        );
        let rest = packets("received").checked_sub(held.received);
        assert!(
            rest == Some(0) || (rest.is_some() && held.unfinished_sidecar),
            "{recording}: {rest:?} packets are in no sidecar: {status}"
        );
        assert_eq!(Some(held.acknowledged), status["bytes"].as_u64(), "{recording}: {status} {held:?}");
        assert_eq!(held.octets, held.whole_frames, "{recording}: {status} {held:?}");
        assert!(
            !shadow.all_back || held.spare.is_empty(),
            "{recording}: a pulled file was never cut: {status}"
        );
        let lost = held.spare.iter().find(|word| !seen.contains(word));
        assert_eq!(lost, None, "{recording}: what was not acknowledged was written anew: {status}");
    }
}

impl Held {
    /// Takes a file of `octets` of audio into the sum. Returns how many of them count: all of a file
    /// that was finished, and the acknowledged ones of one whose disk was pulled. The rest was in flight, and
    /// is in the next file as well.
    fn count(&mut self, made: &Made, sidecar: Option<Sidecar>, octets: u64) -> u64 {
        assert!(octets >= made.durable, "{}: {octets} of {}", made.path.display(), made.durable);
        self.acknowledged += made.acknowledged;
        let Some(sidecar) = sidecar.filter(|it| it.state == SidecarState::Ended && !it.recovered) else {
            self.unfinished_sidecar = true;
            self.whole_frames += made.acknowledged;
            self.octets += octets.min(made.acknowledged);
            return made.acknowledged;
        };
        self.received += sidecar.packets.received;
        self.whole_frames += made.acknowledged.next_multiple_of(made.frame_octets);
        self.octets += octets;
        octets
    }
}

/// The file as a repair leaves it. It opens before, too, from its first flush on; until then its sidecar has
/// its header.
fn repaired(stick: &Stick, made: &Made, content: &[u8]) -> Vec<u8> {
    let name = made.path.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(is_record_file_name(name));
    let opens = Reader::open(Cursor::new(content)).map(drop);
    assert!(opens.is_ok() || made.durable == 0, "{name}: {opens:?}");
    let sidecar = stick.names.get(&made.path.with_file_name(sidecar_name(name)));
    let sidecar = sidecar.map(|node| node.borrow().content.clone());
    let head = &content[..content.len().min(PROBE_OCTETS)];
    let len = content.len() as u64;
    let state = FileState { name, len, head, sidecar: sidecar.as_deref(), busy: false, may_grow: true };
    let mut file = Memory(content.to_vec());
    apply(&plan(&state, Mode::Explicit), &mut file).expect("memory does not fail");
    let reader = Reader::open(Cursor::new(&file.0)).expect("a repaired file opens");
    assert_eq!(reader.facts().problems, [], "{name}");
    file.0
}

//! The recordings on the disk, as far as a list needs them, in memory.
//!
//! Owns: the index and the order of its making. The folder is read in steps, newest names first, so that a
//! list is of use at once and recording goes on meanwhile. Invariants: newest first; at most
//! [`MAX_ENTRIES`] entries with [`MAX_TEXT_OCTETS`] of text, and the oldest give way; one step is under way
//! at most; an answer of a pass that is over changes nothing.

use crate::api::status::{RecordingEntry, RecordingsListed};
use media::codec::Codec;
use media::time::{Mono, Now, Wall};
use recfile::call::{Call, Direction, MAX_CALL_FIELD_CHARS};
use recfile::name::order_key;
use std::cmp::Ordering;
use std::time::Duration;
use store::jobs::Folder;
use store::jobs::library::{FileSummary, Index, Indexed, LibraryJob, SidecarSummary};

/// Recordings that are listed, the newest; a phone's stick with more has them, but shows these.
pub(in crate::agent) const MAX_ENTRIES: usize = 20_000;

/// Octets of names, numbers and ids in the index.
const MAX_TEXT_OCTETS: usize = 6 << 20;

/// Files looked at in one step.
const STEP_FILES: usize = 16;

/// Between two steps the disk and the processor rest for as long as the last one took, so that thousands of
/// recordings do not keep a phone busy that has just started. This is the longest rest, and the one after a
/// step that a stalled disk refused.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Entries of a page when `limit` is left out, and at most.
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// Octets of a page; a client's queue holds twice as much.
const MAX_PAGE_OCTETS: usize = 512 * 1024;

/// Octets of an entry in JSON besides its texts.
const ENTRY_JSON_OCTETS: usize = 360;

/// Number of entries that memory is taken for at a time.
const GROWTH: usize = 512;

/// The texts of an entry, in this order in one allocation.
const TEXTS: usize = 7;
const FILE: usize = 0;
const RECORDING: usize = 1;
const CALL_ID: usize = 2;
const REMOTE_NUMBER: usize = 3;
const REMOTE_NAME: usize = 4;
const LOCAL_NUMBER: usize = 5;
const LOCAL_NAME: usize = 6;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) struct Entry {
    start: Wall,
    duration_ms: u64,
    octets: u64,
    text: Box<str>,
    /// The end of each text.
    ends: [u16; TEXTS],
    segment: u32,
    codec: Option<Codec>,
    direction: Option<Direction>,
    protected: bool,
    encrypted: bool,
}

impl Entry {
    /// The entry of a file that storage found; a file without a sidecar begins when its name or its last
    /// change says.
    pub(in crate::agent) fn new(found: &FileSummary, utc_offset_s: i32) -> Self {
        let nothing = SidecarSummary { segment: 1, ..SidecarSummary::default() };
        let beside = found.sidecar.as_ref().unwrap_or(&nothing);
        let stamp = found.file.get("Record_".len().."Record_YYYYMMDD-HHMMSS".len());
        let start = beside
            .start
            .or_else(|| Wall::from_file_stamp(stamp?, utc_offset_s))
            .unwrap_or(Wall { unix_ms: found.modified_ms, utc_offset_s });
        // The parties of a call are in no list of encrypted recordings.
        let call = if found.encrypted { Call::default() } else { beside.call.clone() };
        let (text, ends) = pack(&found.file, &beside.recording, &call);
        Self {
            start,
            duration_ms: found.facts.as_ref().map_or(0, |facts| facts.duration_ms),
            octets: found.octets,
            text,
            ends,
            segment: beside.segment,
            codec: found.facts.as_ref().map(|facts| facts.codec),
            direction: call.direction,
            protected: beside.protected,
            encrypted: found.encrypted,
        }
    }

    fn text(&self, which: usize) -> &str {
        let from = if which == 0 { 0 } else { self.ends[which - 1] };
        self.text.get(from.into()..self.ends[which].into()).unwrap_or_default()
    }

    pub(in crate::agent) fn file(&self) -> &str {
        self.text(FILE)
    }

    pub(in crate::agent) fn recording(&self) -> Option<&str> {
        Some(self.text(RECORDING)).filter(|id| !id.is_empty())
    }

    pub(in crate::agent) fn set_call(&mut self, call: &Call) {
        if self.encrypted {
            return;
        }
        let (text, ends) = pack(self.text(FILE), self.text(RECORDING), call);
        (self.text, self.ends, self.direction) = (text, ends, call.direction);
    }

    /// Audio that the file has by now.
    pub(in crate::agent) fn set_length(&mut self, octets: u64, duration_ms: u64) {
        (self.octets, self.duration_ms) = (octets, duration_ms);
    }

    /// Octets of audio, as far as the length tells, in a file of which `others` octets are none.
    pub(in crate::agent) fn audio_octets(&self, others: u64) -> u64 {
        self.octets.saturating_sub(others)
    }

    pub(in crate::agent) fn set_protected(&mut self, protected: bool) {
        self.protected = protected;
    }

    /// As a list shows it.
    pub(in crate::agent) fn listed(&self) -> RecordingEntry {
        let text = |which| self.text(which).to_owned();
        RecordingEntry {
            file: text(FILE),
            codec: self.codec.map(|codec| codec.name().to_owned()).unwrap_or_default(),
            start: Some(self.start.rfc3339()),
            duration_ms: self.duration_ms,
            size_bytes: self.octets,
            call: Call {
                id: text(CALL_ID),
                direction: self.direction,
                remote_number: text(REMOTE_NUMBER),
                remote_name: text(REMOTE_NAME),
                local_number: text(LOCAL_NUMBER),
                local_name: text(LOCAL_NAME),
                ..Call::default()
            },
            recording: self.recording().map(Into::into),
            segment: self.segment,
            protected: self.protected,
            encrypted: self.encrypted,
        }
    }

    fn mentions(&self, wanted: &Wanted) -> bool {
        [REMOTE_NUMBER, REMOTE_NAME, LOCAL_NUMBER, LOCAL_NAME]
            .into_iter()
            .any(|which| wanted.is_in(self.text(which)))
    }

    /// Older first; files of one moment as their names were numbered.
    fn by_age(&self, other: &Self) -> Ordering {
        let key = |entry: &Self| entry.start.unix_ms;
        let (file, other_file) = (self.file(), other.file());
        key(self)
            .cmp(&key(other))
            .then_with(|| order_key(file).cmp(&order_key(other_file)))
            .then_with(|| file.cmp(other_file))
    }
}

/// All texts of an entry in one.
fn pack(file: &str, recording: &str, call: &Call) -> (Box<str>, [u16; TEXTS]) {
    let texts = [
        file,
        recording,
        &call.id,
        &call.remote_number,
        &call.remote_name,
        &call.local_number,
        &call.local_name,
    ];
    let mut packed = String::with_capacity(texts.iter().map(|text| text.len()).sum());
    let mut ends = [0; TEXTS];
    for (text, end) in texts.into_iter().zip(&mut ends) {
        // A sidecar may come from anywhere: 7 times 256 characters always fit.
        let clipped = text.char_indices().nth(MAX_CALL_FIELD_CHARS).map_or(text, |(at, _)| &text[..at]);
        packed.push_str(clipped);
        *end = u16::try_from(packed.len()).unwrap_or(u16::MAX);
    }
    (packed.into_boxed_str(), ends)
}

/// A text that is looked for, in any case, with as little memory as can be.
struct Wanted(String);

impl Wanted {
    fn is_in(&self, text: &str) -> bool {
        let wanted = self.0.as_bytes();
        if text.is_ascii() {
            return text.len() >= wanted.len()
                && (wanted.is_empty()
                    || text.as_bytes().windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted)));
        }
        text.to_lowercase().contains(&self.0)
    }
}

/// The index.
#[derive(Debug, Default)]
pub(in crate::agent) struct LibraryIndex {
    /// Newest first.
    entries: Vec<Entry>,
    text_octets: usize,
    pass: u64,
    step: Step,
    asked: Mono,
    /// The next step is not due before.
    rested: Mono,
}

/// The progress of reading the folder.
#[derive(Debug, Default, PartialEq, Eq)]
enum Step {
    /// There is no folder.
    #[default]
    None,
    /// To be asked for, from behind this name.
    Due(Option<String>),
    /// Under way, from behind this name.
    Asked(Option<String>),
    /// All read.
    Complete,
}

impl LibraryIndex {
    /// A disk came: begins to read its folder.
    pub(in crate::agent) fn begin(&mut self) {
        self.clear();
        self.step = Step::Due(None);
    }

    /// The disk is gone.
    pub(in crate::agent) fn clear(&mut self) {
        *self = Self { pass: self.pass + 1, ..Self::default() };
    }

    /// Whether files are missing because the folder is still being read.
    pub(in crate::agent) fn is_incomplete(&self) -> bool {
        self.step != Step::Complete && !self.is_full()
    }

    /// Whether it takes no older files. They are looked at all the same: a power cut may have left one of
    /// them unfinished, if the clock was wrong.
    fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES || self.text_octets >= MAX_TEXT_OCTETS
    }

    /// When the next step is due, if storage is not at one.
    pub(in crate::agent) fn deadline(&self) -> Option<Mono> {
        matches!(self.step, Step::Due(_)).then_some(self.rested)
    }

    /// The next step, if one is due.
    pub(in crate::agent) fn next_job(
        &mut self,
        folder: impl FnOnce() -> Option<Folder>,
        now: Mono,
    ) -> Option<LibraryJob> {
        let Step::Due(after) = &self.step else { return None };
        if now < self.rested {
            return None;
        }
        let index = Index {
            pass: self.pass,
            folder: folder()?,
            after: after.clone(),
            limit: STEP_FILES,
            describe: !self.is_full(),
        };
        self.step = Step::Asked(after.clone());
        self.asked = now;
        Some(LibraryJob::Index(index))
    }

    /// Storage had no room for the step: it is due again, later.
    pub(in crate::agent) fn refused(&mut self, now: Mono) {
        self.rested = now + LONGEST_REST;
        if let Step::Asked(after) = &mut self.step {
            self.step = Step::Due(after.take());
        }
    }

    /// Takes the answer to a step.
    pub(in crate::agent) fn indexed(&mut self, done: Indexed, now: Now) {
        if done.pass != self.pass {
            return;
        }
        for found in &done.found {
            self.put(Entry::new(found, now.wall.utc_offset_s));
        }
        self.rested = now.mono + now.mono.since(self.asked).min(LONGEST_REST);
        let after = match &mut self.step {
            Step::Asked(after) if done.unfinished => Some(after.take()),
            _ => done.next.map(Some),
        };
        self.step = after.map_or(Step::Complete, Step::Due);
    }

    /// Adds an entry, or replaces that of the same file.
    pub(in crate::agent) fn put(&mut self, entry: Entry) {
        let at = self.entries.partition_point(|other| other.by_age(&entry) == Ordering::Greater);
        self.text_octets += entry.text.len();
        match self.entries.get_mut(at) {
            Some(same) if same.by_age(&entry) == Ordering::Equal => {
                self.text_octets -= same.text.len();
                *same = entry;
            }
            _ => {
                if self.entries.len() == self.entries.capacity() {
                    self.entries.reserve_exact(GROWTH);
                }
                self.entries.insert(at, entry);
            }
        }
        while self.entries.len() > MAX_ENTRIES || self.text_octets > MAX_TEXT_OCTETS {
            let oldest = self.entries.pop();
            self.text_octets -= oldest.map_or(self.text_octets, |oldest| oldest.text.len());
        }
    }

    /// The file is gone.
    pub(in crate::agent) fn remove(&mut self, file: &str) {
        if let Some(at) = self.position(file) {
            self.text_octets -= self.entries.remove(at).text.len();
        }
    }

    /// Changes the entry of a file.
    pub(in crate::agent) fn change(&mut self, file: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.position(file).and_then(|at| self.entries.get_mut(at)) {
            self.text_octets -= entry.text.len();
            change(entry);
            self.text_octets += entry.text.len();
        }
    }

    /// The entry of a file.
    pub(in crate::agent) fn get(&self, file: &str) -> Option<&Entry> {
        self.position(file).and_then(|at| self.entries.get(at))
    }

    /// The files of one recording in the order of its segments.
    pub(in crate::agent) fn segments(&self, recording: &str) -> Vec<String> {
        let mut files: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.recording() == Some(recording)).collect();
        files.sort_by(|a, b| a.segment.cmp(&b.segment).then_with(|| a.by_age(b)));
        files.into_iter().map(|entry| entry.file().to_owned()).collect()
    }

    /// A page of the list, newest first; `None` if there is no file `after`.
    pub(in crate::agent) fn list(
        &self,
        limit: Option<u32>,
        after: Option<&str>,
        query: Option<&str>,
    ) -> Option<RecordingsListed> {
        let from = after.map_or(Some(0), |file| self.position(file).map(|at| at + 1))?;
        let limit = limit.map_or(DEFAULT_PAGE, |limit| usize::try_from(limit).unwrap_or(MAX_PAGE));
        let wanted = query.map(|query| Wanted(query.to_lowercase()));
        let mut matching = self.entries[from..]
            .iter()
            .filter(|entry| wanted.as_ref().is_none_or(|wanted| entry.mentions(wanted)));
        let mut listed = RecordingsListed::default();
        let mut octets = 0;
        for entry in matching.by_ref().take(limit.min(MAX_PAGE)) {
            octets += ENTRY_JSON_OCTETS + json_octets(&entry.text);
            listed.recordings.push(entry.listed());
            if octets > MAX_PAGE_OCTETS {
                break;
            }
        }
        listed.more = matching.next().is_some();
        listed.indexing = self.is_incomplete();
        Some(listed)
    }

    fn position(&self, file: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.file() == file)
    }

    /// Memory of the index, the allocator's own not counted.
    #[cfg(test)]
    fn memory_octets(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.text_octets
    }
}

/// Octets of `text` in a JSON string.
fn json_octets(text: &str) -> usize {
    let octets = |octet| match octet {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(octets).sum()
}

#[cfg(test)]
mod tests;

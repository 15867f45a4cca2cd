//! Which recordings make which WAV, and the remarks on them.
//!
//! Owns: order and grouping of segments, the names of the WAVs, and the remarks on audio that is not there.
//! Nothing is open here: a folder may hold more recordings than a process may open files.

use super::super::console::clock;
use super::super::recording::Recording;
use media::codec::{Codec, OCTETS_PER_MS};
use recfile::format::Facts;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The data that a job needs about one of its recordings.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) codec: Codec,
    /// From the sidecar: id of the recording, and number within it (0: it does not say).
    recording: Option<String>,
    number: u32,
    /// The same for every spelling of it.
    folder: PathBuf,
    order: (u32, PathBuf, String, u32),
}

impl Segment {
    pub(super) fn new(recording: &Recording, facts: &Facts) -> Self {
        let sidecar = recording.sidecar();
        let named = recording.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let named = named.unwrap_or(Path::new("."));
        Self {
            path: recording.path.clone(),
            codec: facts.codec,
            recording: sidecar.map(|sidecar| sidecar.recording.clone()).filter(|id| !id.is_empty()),
            number: sidecar.map_or(0, |sidecar| sidecar.segment),
            folder: fs::canonicalize(named).unwrap_or_else(|_| named.to_owned()),
            order: recording.order(),
        }
    }
}

/// Files that make one WAV.
pub(super) struct Job {
    pub(super) segments: Vec<Segment>,
    pub(super) out: PathBuf,
}

/// All files in one WAV: they have to be of one recording, or have no sidecar that says otherwise.
///
/// # Errors
/// Why they can't be one.
pub(super) fn one_wav(
    mut segments: Vec<Segment>,
    out: &Path,
    hint: &str,
    remark: &mut dyn FnMut(String),
) -> Result<Job, String> {
    segments.sort_by(|a, b| a.order.cmp(&b.order));
    let Some(first) = segments.first() else { return Err("nothing to export".into()) };
    let mut ids = segments.iter().filter_map(|segment| segment.recording.as_deref());
    if let Some(id) = ids.next() {
        if ids.any(|other| other != id) {
            return Err(
                "these files are of different recordings; give a folder with -o to get one WAV each".into()
            );
        }
    }
    if let Some(other) = segments.iter().find(|segment| segment.codec != first.codec) {
        return Err(format!(
            "{} is {}, {} is {}, and a WAV has one codec; give a folder with -o to get a WAV for each",
            first.path.display(),
            first.codec.name(),
            other.path.display(),
            other.codec.name()
        ));
    }
    remark_numbers(&segments, hint, remark);
    Ok(Job { segments, out: out.to_owned() })
}

/// A WAV per recording, named as its first file. A change of codec within a recording begins another WAV.
pub(super) fn one_wav_each(
    segments: Vec<Segment>,
    folder: &Path,
    hint: &str,
    remark: &mut dyn FnMut(String),
) -> Vec<Job> {
    let mut names = Names::default();
    let mut jobs = Vec::new();
    for mut segments in by_recording(segments) {
        segments.sort_by(|a, b| a.order.cmp(&b.order));
        remark_numbers(&segments, hint, remark);
        let mut wavs: Vec<Vec<Segment>> = Vec::new();
        for segment in segments {
            match wavs.last_mut() {
                Some(wav) if wav.last().is_some_and(|last| last.codec == segment.codec) => wav.push(segment),
                _ => wavs.push(vec![segment]),
            }
        }
        for segments in wavs {
            let Some(first) = segments.first() else { continue };
            jobs.push(Job { out: folder.join(names.free_for(&first.path)), segments });
        }
    }
    jobs
}

/// The segments of each recording in a folder; a file without a sidecar is a recording of its own.
fn by_recording(segments: Vec<Segment>) -> Vec<Vec<Segment>> {
    let mut groups: Vec<Vec<Segment>> = Vec::new();
    let mut known: HashMap<(PathBuf, String), usize> = HashMap::new();
    for segment in segments {
        let slot = segment.recording.clone().map(|id| {
            *known.entry((segment.folder.clone(), id)).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            })
        });
        match slot.and_then(|slot| groups.get_mut(slot)) {
            Some(group) => group.push(segment),
            None => groups.push(vec![segment]),
        }
    }
    groups
}

/// Names that are given away, in any case: the disk may not tell them apart.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    /// The recording's name, numbered if taken: two phones of a server may have begun in the same second.
    fn free_for(&mut self, recording: &Path) -> OsString {
        let mut attempt = 1;
        loop {
            let mut name = recording.file_stem().unwrap_or_default().to_owned();
            if attempt > 1 {
                name.push(format!("_{attempt}"));
            }
            name.push(".wav");
            if self.0.insert(name.to_string_lossy().to_lowercase()) {
                return name;
            }
            attempt += 1;
        }
    }
}

/// Remarks on missing or repeated segments of a recording, by their numbers, in order. `hint` is the advice
/// for missing ones.
fn remark_numbers(segments: &[Segment], hint: &str, remark: &mut dyn FnMut(String)) {
    let numbered: Vec<&Segment> =
        segments.iter().filter(|segment| segment.recording.is_some() && segment.number > 0).collect();
    if let Some(first) = numbered.first().filter(|first| first.number > 1) {
        let missing = range(1, first.number - 1);
        remark(format!(
            "{}: begins in mid-recording, {missing} not among the files{hint}",
            first.path.display()
        ));
    }
    for (before, after) in numbered.iter().zip(numbered.iter().skip(1)) {
        if after.number == before.number {
            remark(format!(
                "{} and {}: both say they are segment {} of one recording, and both are exported; is one a copy?",
                before.path.display(),
                after.path.display(),
                after.number
            ));
        } else if after.number > before.number.saturating_add(1) {
            let missing = range(before.number + 1, after.number - 1);
            remark(format!(
                "{}: follows segment {} directly, {missing} not among the files{hint}",
                after.path.display(),
                before.number
            ));
        }
    }
}

fn range(first: u32, last: u32) -> String {
    if first == last { format!("segment {first} is") } else { format!("segments {first} to {last} are") }
}

/// The reason for which a file's audio, which plays at the pace of its codec, is not as long as its header
/// counts.
pub(super) fn pace_remark(facts: &Facts) -> Option<String> {
    if facts.increment == facts.frame_octets || facts.frames == 0 {
        return None;
    }
    let played_ms = facts.frames.saturating_mul(u64::from(facts.frame_octets)) / OCTETS_PER_MS;
    Some(format!(
        "the header counts {} ticks for frames of {} octets, which are {} ticks of {}: the recording counts as {}, \
         its audio plays for {}",
        facts.increment,
        facts.frame_octets,
        facts.frame_octets,
        facts.codec.name(),
        clock(facts.duration_ms),
        clock(played_ms)
    ))
}

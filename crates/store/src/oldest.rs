//! Which recording gives way when the disk is full: the oldest in truth.
//!
//! Owns: the choice, and the search for it, which goes in steps, so that recordings meanwhile do not wait. On
//! vfat each look at a file takes a pass over its folder, so names are gathered first, and of those that a
//! set clock has given only the oldest are looked at. The age of a file is its place in the order of the
//! disk's files, which no clock can spoil; of a file without one, made by an older version, its start if the
//! clock was set, else its end if the clock was set by then, else the time of its last change. One of which
//! nothing is known goes after those that are known and without an order, and before any that has one.
//! Invariants: memory does not depend on how many files there are; a sidecar is read once in a search; no
//! file goes that is not ours, not finished, protected, being played, or of a call that is running.

use super::fs::Fs;
use super::on_disk::{check_on_disk, is_locked};
use super::open_files::OpenFiles;
use super::patience::Patience;
use crate::jobs::{Done, Folder};
use media::time::{Mono, Wall};
use recfile::name::{is_record_file_name, order_key, sidecar_name};
use recfile::sidecar::{MAX_SIDECAR_OCTETS, Sidecar, SidecarState};
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

/// More than local time is ever away from UTC.
const LOCAL_TIME_MS: i64 = 24 * 3600 * 1000;

/// Ends of a file after which its recording may go on in another.
const GOES_ON: [&str; 3] = ["rollover", "codec_change", "storage_io"];

/// Number of the newest files, among which are all that another agent writes now.
const MAX_LOOKED_FOR: usize = 64;

/// Names of a set clock that are remembered from one pass over the folder.
const MAX_NAMES: usize = 512;

/// The oldest that are remembered from one search, for the next times.
const MAX_OLDEST: usize = 16;

/// Files that would go and can't, now: more than programs have under their lock. With more, room is not made.
const MAX_HELD: usize = 256;

/// A file that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    /// Its place in the order of the disk's files, or the time that something else tells, in milliseconds.
    age: Option<i64>,
    is_ordered: bool,
    /// Start, for files of one age.
    start: i64,
    name: String,
    recording: String,
    /// Its recording may go on in another file.
    goes_on: bool,
}

impl Candidate {
    fn by_age(&self, other: &Self) -> Ordering {
        let key = |it: &Self| (it.age, it.start);
        key(self).cmp(&key(other)).then_with(|| by_name(&self.name, &other.name))
    }
}

fn by_name(a: &str, b: &str) -> Ordering {
    (order_key(a), a).cmp(&(order_key(b), b))
}

/// The unused results of the last search, or a search that is under way.
#[derive(Debug, Default)]
pub(super) struct Oldest {
    folder: Option<Folder>,
    step: Step,
    /// The place at which the pass over names goes on; `None` at its end.
    place: Option<u64>,
    /// Names that are gathered, of a set clock.
    names: Vec<String>,
    /// Those that an earlier pass has given end with this one.
    behind: Option<String>,
    /// Files to be looked at before the folder is read on.
    pending: VecDeque<String>,
    /// The oldest whose age is known, in order.
    found: Vec<Candidate>,
    /// Those whose age is not known, by name.
    unknown: Vec<Candidate>,
    /// There are files that were not looked at, and are younger.
    is_cut: bool,
    /// Recordings that other agents are at work on, once that was looked for.
    running: Option<BTreeSet<String>>,
    /// Files that could not go.
    held: BTreeSet<String>,
    /// Recordings of this agent that are running.
    ours: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// The results are in `found` and `unknown`.
    #[default]
    Done,
    /// Names are gathered; files of unset clocks are looked at as they come.
    Names,
    /// The oldest names are looked at.
    Oldest,
    /// Names are gathered for the newest.
    Newest,
    /// Their sidecars are read for recordings of other agents.
    Running,
}

impl Oldest {
    /// The results of the last search may not hold any more. A search that is under way goes on: files that
    /// it has passed by are found the next time.
    pub(super) fn look_anew(&mut self) {
        if self.step == Step::Done {
            *self = Self::default();
        }
    }

    fn begin(&mut self, step: Step) {
        (self.step, self.place) = (step, Some(0));
        self.names.clear();
        self.pending.clear();
    }

    /// A search from the beginning.
    fn search(&mut self) {
        (self.behind, self.is_cut) = (None, false);
        self.found.clear();
        self.unknown.clear();
        self.begin(Step::Names);
    }

    /// Takes a candidate if it is among the oldest.
    fn put(&mut self, candidate: Candidate) {
        let among = if candidate.age.is_some() { &mut self.found } else { &mut self.unknown };
        let at = among.partition_point(|other| other.by_age(&candidate) == Ordering::Less);
        if at < MAX_OLDEST {
            among.truncate(MAX_OLDEST - 1);
            among.insert(at, candidate);
        }
    }

    /// Takes a name from a pass for the oldest.
    fn gather(&mut self, name: String) {
        if stamp_of_set_clock(&name).is_none() {
            // They tell nothing: each has to be looked at, in the first pass.
            if self.behind.is_none() {
                self.pending.push_back(name);
            }
        } else if self.behind.as_ref().is_none_or(|behind| by_name(&name, behind) == Ordering::Greater) {
            self.names.push(name);
            if self.names.len() >= 4 * MAX_NAMES {
                self.keep(by_name, MAX_NAMES);
            }
        }
    }

    /// Takes a name from a pass for the newest.
    fn gather_newest(&mut self, name: &str) {
        self.names.push(name.to_owned());
        if self.names.len() >= 4 * MAX_LOOKED_FOR {
            self.keep(|a, b| by_name(b, a), MAX_LOOKED_FOR);
        }
    }

    fn keep(&mut self, order: impl Fn(&str, &str) -> Ordering, count: usize) {
        self.names.sort_unstable_by(|a, b| order(a, b));
        self.names.truncate(count);
    }

    /// Whether a file of this name, and all that follow it, are younger than enough others. The name of a set
    /// clock tells when the file begins, but for the time zone; and its place in the order is no earlier than
    /// that.
    fn is_enough(&self, name: &str) -> bool {
        let youngest = self.found.last().filter(|_| self.found.len() == MAX_OLDEST);
        youngest.is_some_and(|youngest| self.is_younger(name, youngest))
    }

    fn is_younger(&self, name: &str, than: &Candidate) -> bool {
        let age = than.age.unwrap_or(i64::MAX);
        stamp_of_set_clock(name).is_some_and(|stamp| stamp > age.saturating_add(LOCAL_TIME_MS))
    }

    /// The one to go: one of unknown age before those that have their place in the order.
    fn next(&mut self) -> Option<Candidate> {
        let known_first = self.found.first().is_some_and(|first| !first.is_ordered);
        let from = if known_first || self.unknown.is_empty() { &mut self.found } else { &mut self.unknown };
        (!from.is_empty()).then(|| from.remove(0))
    }
}

/// A search in its surroundings.
pub(super) struct Search<'a, F, O> {
    pub(super) fs: &'a F,
    pub(super) clock: fn() -> Mono,
    /// Files that are written.
    pub(super) open: &'a O,
    /// Files that are being played.
    pub(super) kept: &'a [String],
    pub(super) oldest: &'a mut Oldest,
}

impl<F: Fs, O: OpenFiles> Search<'_, F, O> {
    /// Deletes the oldest recording that is ours, finished, not protected and of no call that is running (of
    /// this agent: `ours`); or looks for it for a while.
    pub(super) fn delete_oldest(&mut self, folder: Folder, ours: Vec<String>) -> Done {
        let path = folder.path();
        if check_on_disk(self.fs, &folder).is_err() {
            *self.oldest = Oldest::default();
            return Done::Deleted { file: None, space: None };
        }
        let patience = Patience::begin(self.clock);
        // The remaining results of the last search may have gone, or be held, by now: then there is a new
        // one.
        let mut is_new = false;
        if self.oldest.folder.as_ref() != Some(&folder) {
            *self.oldest = Oldest { folder: Some(folder), ..Oldest::default() };
        }
        self.oldest.ours = ours;
        is_new |= self.oldest.step != Step::Done;
        loop {
            if !self.search_oldest(&path, patience) {
                return Done::Searching;
            }
            let found_some = !self.oldest.found.is_empty() || !self.oldest.unknown.is_empty();
            while let Some(candidate) = self.oldest.next() {
                if self.may_still_go(&path, &candidate) && self.fs.remove(&path.join(&candidate.name)).is_ok()
                {
                    let _ = self.fs.remove(&path.join(sidecar_name(&candidate.name)));
                    self.oldest.held.clear();
                    return Done::Deleted { file: Some(candidate.name), space: self.fs.space(&path).ok() };
                }
                self.oldest.held.insert(candidate.name);
            }
            if (is_new && !found_some) || self.oldest.held.len() > MAX_HELD {
                *self.oldest = Oldest::default();
                return Done::Deleted { file: None, space: self.fs.space(&path).ok() };
            }
            is_new = true;
            self.oldest.running = None;
            self.oldest.search();
        }
    }

    /// Goes on with the search; false if that takes longer than others should wait.
    fn search_oldest(&mut self, path: &Path, patience: Patience) -> bool {
        while self.oldest.step != Step::Done {
            if let Some(name) = self.oldest.pending.pop_front() {
                match self.oldest.step {
                    Step::Oldest if self.oldest.is_enough(&name) => self.cut(&name),
                    Step::Names | Step::Oldest => self.look_at(path, name),
                    Step::Running => self.look_whether_it_runs(path, &name),
                    Step::Newest | Step::Done => {}
                }
            } else if self.oldest.place.is_some() {
                self.read_names(path);
            } else {
                self.next_step();
            }
            if self.oldest.step != Step::Done && patience.is_over() {
                return false;
            }
        }
        true
    }

    /// The rest, from the file of this name on, is younger than enough files found. Files that could be
    /// younger than one of the rest are not sure.
    fn cut(&mut self, name: &str) {
        let oldest = &mut *self.oldest;
        oldest.pending.clear();
        oldest.is_cut = true;
        let found = std::mem::take(&mut oldest.found);
        oldest.found = found.into_iter().filter(|it| oldest.is_younger(name, it)).collect();
    }

    fn read_names(&mut self, path: &Path) {
        let Self { fs, oldest, .. } = self;
        let Some(place) = oldest.place else { return };
        let for_newest = oldest.step == Step::Newest;
        let mut take = |name: &str| {
            if for_newest {
                if is_record_file_name(name) {
                    oldest.gather_newest(name);
                }
            } else if let Some(recording) = recording_of_sidecar(name) {
                oldest.gather(recording);
            }
        };
        let next = fs.names_from(path, place, &mut take);
        oldest.place = next.ok().flatten();
    }

    fn next_step(&mut self) {
        let oldest = &mut *self.oldest;
        match oldest.step {
            Step::Names => {
                oldest.keep(by_name, MAX_NAMES);
                let names = std::mem::take(&mut oldest.names);
                oldest.behind = names.last().filter(|_| names.len() == MAX_NAMES).cloned();
                oldest.pending = names.into();
                oldest.step = Step::Oldest;
            }
            // The folder has more names than were gathered.
            Step::Oldest if oldest.behind.is_some() && !oldest.is_cut => oldest.begin(Step::Names),
            Step::Oldest => {
                let goes_on = |found: &[Candidate]| found.iter().any(|it| it.goes_on);
                let asks = oldest.running.is_none() && (goes_on(&oldest.found) || goes_on(&oldest.unknown));
                if asks { oldest.begin(Step::Newest) } else { oldest.step = Step::Done }
            }
            Step::Newest => {
                oldest.keep(|a, b| by_name(b, a), MAX_LOOKED_FOR);
                oldest.pending = std::mem::take(&mut oldest.names).into();
                oldest.running = Some(BTreeSet::new());
                oldest.step = Step::Running;
            }
            Step::Running => {
                let running = oldest.running.take().unwrap_or_default();
                let full = [&oldest.found, &oldest.unknown].iter().any(|found| found.len() == MAX_OLDEST);
                for found in [&mut oldest.found, &mut oldest.unknown] {
                    found.retain(|it| !it.goes_on || !running.contains(&it.recording));
                }
                let nothing = oldest.found.is_empty() && oldest.unknown.is_empty();
                let hidden = nothing && (full || oldest.is_cut);
                oldest.running = Some(running);
                // Others had no place besides those of the call that runs.
                if hidden { oldest.search() } else { oldest.step = Step::Done }
            }
            Step::Done => {}
        }
    }

    /// Takes a file for one of the oldest if it may go.
    fn look_at(&mut self, path: &Path, name: String) {
        if self.oldest.held.contains(&name) {
            return;
        }
        let Some(candidate) = self.candidate(path, name) else { return };
        let runs = self.oldest.running.as_ref().is_some_and(|running| running.contains(&candidate.recording));
        if !(candidate.goes_on && runs) {
            self.oldest.put(candidate);
        }
    }

    fn look_whether_it_runs(&mut self, path: &Path, name: &str) {
        let sidecar = self.sidecar_of(path, name).filter(|it| it.state == SidecarState::Recording);
        if let Some(sidecar) = sidecar.filter(|_| is_locked(self.fs, &path.join(name))) {
            self.oldest.running.get_or_insert_default().insert(sidecar.recording);
        }
    }

    /// A file that is ours, finished, and not to be kept.
    fn candidate(&self, path: &Path, name: String) -> Option<Candidate> {
        if self.open.is_open(path, &name) || self.kept.contains(&name) {
            return None;
        }
        let sidecar = self.sidecar_of(path, &name)?;
        let ended = sidecar.state == SidecarState::Ended;
        if !ended
            || sidecar.protected
            || !sidecar.holds.is_empty()
            || sidecar.recording.is_empty()
            || self.open.is_recording(&sidecar.recording)
            || self.oldest.ours.contains(&sidecar.recording)
        {
            return None;
        }
        let start = Wall::from_rfc3339(&sidecar.start);
        let modified = || {
            let file = self.fs.open_read(&path.join(&name)).ok()?;
            self.fs.modified_ms(&file).ok()
        };
        Some(Candidate {
            age: age(&sidecar, start, modified),
            is_ordered: sidecar.order.is_some(),
            start: start.map_or(i64::MIN, |start| start.unix_ms),
            goes_on: sidecar.end_reason.as_deref().is_none_or(|reason| GOES_ON.contains(&reason)),
            recording: sidecar.recording,
            name,
        })
    }

    /// Whether nothing has changed since the search, and it is a plain file that no other program is at work
    /// on.
    fn may_still_go(&self, path: &Path, seen: &Candidate) -> bool {
        let same = self.candidate(path, seen.name.clone()).is_some_and(|now| now == *seen);
        let file = self.fs.open_read(&path.join(&seen.name));
        same && file.is_ok_and(|file| self.fs.lock(&file).unwrap_or(true))
    }

    fn sidecar_of(&self, path: &Path, name: &str) -> Option<Sidecar> {
        Sidecar::parse(&self.fs.read(&path.join(sidecar_name(name)), MAX_SIDECAR_OCTETS).ok()?).ok()
    }
}

/// The age of a file, as far as it is known; `modified` gives the time of its last change.
fn age(sidecar: &Sidecar, start: Option<Wall>, modified: impl FnOnce() -> Option<i64>) -> Option<i64> {
    if let Some(order) = sidecar.order {
        return Some(i64::try_from(order).unwrap_or(i64::MAX));
    }
    let length_ms = i64::try_from(sidecar.duration_ms).unwrap_or(i64::MAX);
    let began = |end: Wall| end.unix_ms.saturating_sub(length_ms);
    let is_set = |wall: &Wall| wall.is_set();
    // Sidecars of other origin may not say whether the clock was set: their date does.
    let told = start.filter(is_set).map(|start| start.unix_ms);
    let end = sidecar.end.as_deref().and_then(Wall::from_rfc3339);
    told.or_else(|| end.filter(is_set).map(began))
        .or_else(|| Some(Wall { unix_ms: modified()?, utc_offset_s: 0 }).filter(is_set).map(began))
}

/// `Record_….wav` of `Record_….json`.
fn recording_of_sidecar(name: &str) -> Option<String> {
    let (stem, extension) = name.rsplit_once('.')?;
    let wav = match extension {
        "JSON" => format!("{stem}.WAV"),
        _ if extension.eq_ignore_ascii_case("json") => format!("{stem}.wav"),
        _ => return None,
    };
    is_record_file_name(&wav).then_some(wav)
}

/// The local time in the name of a file, as if it were UTC, if it is one that a set clock shows.
fn stamp_of_set_clock(name: &str) -> Option<i64> {
    let stamp = name.get("Record_".len().."Record_YYYYMMDD-HHMMSS".len())?;
    Wall::from_file_stamp(stamp, 0).filter(|wall| wall.is_set()).map(|wall| wall.unix_ms)
}

#[cfg(test)]
mod tests;

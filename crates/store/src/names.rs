//! The names of the recordings in a folder, in the order of their making, some at a time.
//!
//! Owns: the order, and how many are remembered. Invariants: memory does not depend on how many there are; a
//! folder is read bit by bit, so that its reader can be interrupted. On vfat each look at a file reads the
//! folder up to its name, so the caller takes only the names that it needs.

use super::fs::Fs;
use super::patience::Patience;
use super::sidecar_file::{MAX_LEFTOVERS, is_leftover};
use recfile::name::{is_record_file_name, order_key};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::path::Path;

/// Names remembered from one pass over the folder.
const MAX_NAMES: usize = 512;

/// The order of names, the newest first; those of one moment as they were numbered.
fn newest_first(a: &str, b: &str) -> Ordering {
    (order_key(b), b).cmp(&(order_key(a), a))
}

/// A pass over a folder for the next names behind one, or the first ones.
#[derive(Debug)]
pub(super) struct Gathering {
    behind: Option<String>,
    /// The place at which it goes on; `None` at the end.
    place: Option<u64>,
    names: Vec<String>,
    leftovers: Vec<String>,
}

impl Gathering {
    /// For the names that follow `behind`, the newest first.
    pub(super) fn new(behind: Option<&str>) -> Self {
        let behind = behind.map(str::to_owned);
        Self { behind, place: Some(0), names: Vec::new(), leftovers: Vec::new() }
    }

    /// The name that it began behind.
    pub(super) fn behind(&self) -> Option<&str> {
        self.behind.as_deref()
    }

    /// Goes on for a while; returns whether it has come to the end. A folder that can't be read is an empty
    /// one here: access to a file of it tells why.
    pub(super) fn go_on<F: Fs>(&mut self, fs: &F, folder: &Path, patience: Option<Patience>) -> bool {
        let Self { behind, place, names, leftovers } = self;
        while let Some(from) = *place {
            let mut take = |name: &str| {
                let is_next =
                    behind.as_deref().is_none_or(|behind| newest_first(name, behind) == Ordering::Greater);
                if is_next && is_record_file_name(name) {
                    names.push(name.to_owned());
                    if names.len() >= 4 * MAX_NAMES {
                        keep_first(names);
                    }
                } else if leftovers.len() < MAX_LEFTOVERS && is_leftover(name) {
                    leftovers.push(name.to_owned());
                }
            };
            *place = fs.names_from(folder, from, &mut take).ok().flatten();
            if place.is_some() && patience.is_some_and(|patience| patience.is_over()) {
                return false;
            }
        }
        true
    }

    /// The names found, in order: recordings, none at the end of the folder; and sidecars that were being
    /// written when the power went.
    pub(super) fn finish(mut self) -> (VecDeque<String>, Vec<String>) {
        keep_first(&mut self.names);
        (self.names.into(), self.leftovers)
    }
}

fn keep_first(names: &mut Vec<String>) {
    names.sort_unstable_by(|a, b| newest_first(a, b));
    names.truncate(MAX_NAMES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;
    use crate::patience::STEP;
    use media::time::Mono;
    use std::cell::Cell;

    thread_local! {
        static LOOKS: Cell<u32> = const { Cell::new(0) };
    }

    /// A clock by which each look at it takes most of a step.
    fn hasty() -> Mono {
        LOOKS.set(LOOKS.get() + 1);
        Mono::new(STEP * LOOKS.get() * 2 / 3)
    }

    /// The next names behind `behind` in one go.
    fn recordings(folder: &Path, behind: Option<&str>) -> VecDeque<String> {
        let mut pass = Gathering::new(behind);
        pass.go_on(&RealFs, folder, None);
        pass.finish().0
    }

    fn all(folder: &Path) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let next = recordings(folder, all.last().map(String::as_str));
            assert!(next.len() <= MAX_NAMES);
            if next.is_empty() {
                return all;
            }
            all.extend(next);
        }
    }

    fn fill(folder: &Path, count: usize) -> Vec<String> {
        let stamp = |number: usize| format!("Record_20260301-{number:06}");
        for number in (0..count).rev() {
            std::fs::write(folder.join(stamp(number) + ".wav"), "").unwrap();
        }
        for name in ["Record_20260301-000000-10.wav", "Record_20260301-000000-2.wav", "notes.txt"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let mut names: Vec<String> = (0..count).map(|number| stamp(number) + ".wav").collect();
        names.splice(1..1, ["-2", "-10"].map(|suffix| format!("{}{suffix}.wav", stamp(0))));
        names.reverse();
        names
    }

    #[test]
    fn every_recording_comes_once_in_the_order_of_its_making_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let names = fill(dir.path(), 5 * MAX_NAMES + 7);
        assert_eq!(all(dir.path()), names);
    }

    #[test]
    fn a_pass_that_is_interrupted_goes_on_where_it_was_and_finds_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let names = fill(dir.path(), 3 * MAX_NAMES);
        std::fs::write(dir.path().join(".Record_20260301-000007.json.tmp"), "{").unwrap();
        let mut pass = Gathering::new(None);
        let mut steps = 1;
        while !pass.go_on(&RealFs, dir.path(), Some(Patience::begin(hasty))) {
            steps += 1;
        }
        assert!(steps > 2, "{steps}");
        let (found, leftovers) = pass.finish();
        assert_eq!(Vec::from(found), names[..MAX_NAMES]);
        assert_eq!(leftovers, [".Record_20260301-000007.json.tmp"]);
    }

    #[test]
    fn a_folder_that_is_not_there_has_none() {
        assert!(recordings(Path::new("/nowhere"), None).is_empty());
    }
}

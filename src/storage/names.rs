//! The names of the recordings in a folder, in the order of their making, some at a time.
//!
//! Owns: the order, and how many are remembered. Invariant: memory does not depend on how many there are. On vfat each
//! look at a file reads the folder up to its name, so the caller takes what it needs and no more.

use super::fs::Fs;
use crate::file::name::{is_record_file_name, order_key};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::path::Path;

/// Names remembered from one look at the folder.
const MAX_NAMES: usize = 512;

/// Which come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    NewestFirst,
    OldestFirst,
}

impl Order {
    fn compare(self, a: &str, b: &str) -> Ordering {
        let by_age = (order_key(a), a).cmp(&(order_key(b), b));
        match self {
            Self::OldestFirst => by_age,
            Self::NewestFirst => by_age.reverse(),
        }
    }
}

/// The next names behind `behind`, or the first ones; none at the end. A folder that can't be read is an empty one
/// here: whoever wants a file of it is told why.
pub(super) fn recordings<F: Fs>(
    fs: &F,
    folder: &Path,
    order: Order,
    behind: Option<&str>,
) -> VecDeque<String> {
    let first = |names: &mut Vec<String>| {
        names.sort_unstable_by(|a, b| order.compare(a, b));
        names.truncate(MAX_NAMES);
    };
    let mut names: Vec<String> = Vec::new();
    let _ = fs.names(folder, &mut |name| {
        let is_next = behind.is_none_or(|behind| order.compare(name, behind) == Ordering::Greater);
        if is_next && is_record_file_name(name) {
            names.push(name.to_owned());
            if names.len() >= 4 * MAX_NAMES {
                first(&mut names);
            }
        }
    });
    first(&mut names);
    names.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::RealFs;

    fn all(folder: &Path, order: Order) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let next = recordings(&RealFs, folder, order, all.last().map(String::as_str));
            assert!(next.len() <= MAX_NAMES);
            if next.is_empty() {
                return all;
            }
            all.extend(next);
        }
    }

    #[test]
    fn every_recording_comes_once_in_the_order_of_its_making_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let count = 5 * MAX_NAMES + 7;
        let stamp = |number: usize| format!("Record_20260301-{number:06}");
        for number in (0..count).rev() {
            std::fs::write(dir.path().join(stamp(number) + ".wav"), "").unwrap();
        }
        for name in ["Record_20260301-000000-10.wav", "Record_20260301-000000-2.wav", "notes.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let mut names: Vec<String> = (0..count).map(|number| stamp(number) + ".wav").collect();
        names.splice(1..1, ["-2", "-10"].map(|suffix| format!("{}{suffix}.wav", stamp(0))));
        assert_eq!(all(dir.path(), Order::OldestFirst), names);
        names.reverse();
        assert_eq!(all(dir.path(), Order::NewestFirst), names);
    }

    #[test]
    fn a_folder_that_is_not_there_has_none() {
        assert!(recordings(&RealFs, Path::new("/nowhere"), Order::NewestFirst, None).is_empty());
    }
}

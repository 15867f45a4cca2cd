//! The journal: one line of JSON for each finished file, for programs that index recordings.
//!
//! Owns: the names of its files in the storage folder, the form of a line, when a file is full, and the
//! repair of one that a crash cut off. Never: syncs; the caller of append does that, together with the
//! recordings. Invariants: a line is appended whole or not at all, behind whole lines only; links are not
//! followed; there is an end to its size.

use recfile::sidecar::Sidecar;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use store::fault::fault;
use store::fs::Fs;
use store::jobs::Fault;

/// The file in the storage folder that lines are appended to.
pub const JOURNAL: &str = ".journal";

/// At this size it gets a number, and a new one begins: some 40,000 lines.
pub const MAX_FILE_OCTETS: u64 = 8 << 20;

/// Files with a number that are kept. With the present one, some 600,000 lines.
pub const KEPT_FILES: usize = 15;

/// Lines of one append.
pub const MAX_LINES: usize = 4096;

/// Read of a file to find the lines in it: more than any has.
const READ_OCTETS: usize = 16 << 20;

/// Read at a time to find the last whole line.
const CHUNK_OCTETS: u64 = 4096;

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The `.wav`, below the storage folder.
    pub file: String,
    /// Id of the recording, as in the sidecar.
    pub recording: String,
    /// Number of the file within the recording, from 1.
    pub segment: u32,
    /// As in the sidecar; null if a file that a crash cut off was too long to be hashed.
    pub sha256: Option<String>,
}

impl Line {
    /// Reads one; `None` if it is none.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

fn encode(lines: &[Line]) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut octets, line)?;
        octets.push(b'\n');
    }
    Ok(octets)
}

/// Octets up to the end of the last whole line.
fn whole_lines<F: Fs>(fs: &F, file: &F::File, octets: u64) -> io::Result<u64> {
    let mut end = octets;
    while end > 0 {
        let begin = end.saturating_sub(CHUNK_OCTETS);
        let mut chunk = vec![0; usize::try_from(end - begin).unwrap_or_default()];
        let count = fs.read_at(file, &mut chunk, begin)?;
        chunk.truncate(count);
        if let Some(at) = chunk.iter().rposition(|octet| *octet == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// The number in the name of a full file.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(JOURNAL)?.strip_prefix('.')?;
    let number: u64 = digits.parse().ok()?;
    (digits == number.to_string()).then_some(number)
}

/// Numbers of the full files in the storage folder, in order.
fn numbers<F: Fs>(fs: &F, storage: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    fs.names(storage, &mut |name| found.extend(number_of(name)))?;
    found.sort_unstable();
    Ok(found)
}

fn numbered(storage: &Path, number: u64) -> PathBuf {
    storage.join(format!("{JOURNAL}.{number}"))
}

/// The journal of a storage folder. At most one of a process appends at a time.
#[derive(Debug)]
pub struct Journal {
    storage: PathBuf,
}

impl Journal {
    /// That of `storage`, which is this process's alone.
    #[must_use]
    pub fn new(storage: &Path) -> Self {
        Self { storage: storage.to_owned() }
    }

    /// The folder that it is in.
    #[must_use]
    pub fn storage(&self) -> &Path {
        &self.storage
    }

    /// Opens it, makes it if need be, and cuts off octets behind its last whole line: the file, and its
    /// octets.
    ///
    /// # Errors
    /// It is there and is no plain file, or the disk does not take it.
    fn open<F: Fs>(&self, fs: &F) -> io::Result<(F::File, u64)> {
        let path = self.storage.join(JOURNAL);
        let file = match fs.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs.create(&path)?,
            opened => opened?,
        };
        let octets = fs.len(&file)?;
        let whole = whole_lines(fs, &file, octets)?;
        if whole < octets {
            fs.set_len(&file, whole)?;
            log::warn!("journal_mended octets={}: the last line was cut off", octets - whole);
        }
        Ok((file, whole))
    }

    /// The line of the file beside `sidecar` in `folder`.
    #[must_use]
    pub fn line(&self, folder: &Path, sidecar: &Sidecar) -> Line {
        let place = folder.strip_prefix(&self.storage).unwrap_or(folder).join(&sidecar.file);
        Line {
            file: place.to_string_lossy().into_owned(),
            recording: sidecar.recording.clone(),
            segment: sidecar.segment,
            sha256: sidecar.sha256.clone(),
        }
    }

    /// Cuts off a line that a crash left incomplete, and makes the file if there is none.
    ///
    /// # Errors
    /// A text for the administrator.
    pub fn prepare<F: Fs>(&self, fs: &F) -> Result<(), Fault> {
        self.open(fs).map(drop).map_err(|error| self.fault(&error))
    }

    /// Appends lines, all or none, in a new file if they do not fit the present one. They are not durable
    /// yet: the file that has them is returned.
    ///
    /// # Errors
    /// A text for the administrator.
    pub fn append<F: Fs>(&self, fs: &F, lines: &[Line]) -> Result<F::File, Fault> {
        self.try_append(fs, lines).map_err(|error| self.fault(&error))
    }

    fn try_append<F: Fs>(&self, fs: &F, lines: &[Line]) -> io::Result<F::File> {
        let text = encode(lines)?;
        let (mut file, mut octets) = self.open(fs)?;
        if octets > 0 && octets + text.len() as u64 > MAX_FILE_OCTETS {
            self.rotate(fs)?;
            (file, octets) = self.open(fs)?;
        }
        if let Err(error) = fs.write_at(&file, &text, octets) {
            // If the cut fails now, the next append cuts.
            let _ = fs.set_len(&file, octets);
            return Err(error);
        }
        Ok(file)
    }

    /// Gives the present file a number, and removes the oldest ones.
    fn rotate<F: Fs>(&self, fs: &F) -> io::Result<()> {
        let mut numbers = numbers(fs, &self.storage)?;
        let next = numbers.last().map_or(1, |last| last.saturating_add(1));
        fs.rename(&self.storage.join(JOURNAL), &numbered(&self.storage, next))?;
        numbers.push(next);
        for number in numbers.iter().take(numbers.len().saturating_sub(KEPT_FILES)) {
            // One that stays is tried again at the next rotation.
            let _ = fs.remove(&numbered(&self.storage, *number));
        }
        Ok(())
    }

    /// Takes those files out of `finished`, lines by their `file`, that have this line already.
    ///
    /// # Errors
    /// The storage folder can't be read.
    pub fn leave_out_listed<F: Fs>(&self, fs: &F, finished: &mut BTreeMap<String, Line>) -> io::Result<()> {
        let full =
            numbers(fs, &self.storage)?.into_iter().rev().map(|number| numbered(&self.storage, number));
        for path in std::iter::once(self.storage.join(JOURNAL)).chain(full) {
            if finished.is_empty() {
                return Ok(());
            }
            // One that can't be read has no lines; a line twice does no harm.
            let octets = fs.read(&path, READ_OCTETS).unwrap_or_default();
            for line in octets.split(|octet| *octet == b'\n').filter_map(Line::parse) {
                if finished.get(&line.file) == Some(&line) {
                    finished.remove(&line.file);
                }
            }
        }
        Ok(())
    }

    fn fault(&self, error: &io::Error) -> Fault {
        fault("write", &self.storage.join(JOURNAL), error)
    }
}

/// The journal, for this thread alone.
pub fn locked(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    // A panic leaves nothing half done: the next append looks at the file anew.
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use store::fs::RealFs;

    fn line(number: u32) -> Line {
        Line {
            file: format!("phone/2026-03-02/Record_20260302-0915{number:02}.wav"),
            recording: format!("r{number}"),
            segment: 1,
            sha256: Some("ab".repeat(32)),
        }
    }

    fn lines(path: &Path) -> Vec<Line> {
        let octets = std::fs::read(path).unwrap();
        assert!(octets.is_empty() || octets.ends_with(b"\n"));
        octets.split(|octet| *octet == b'\n').filter_map(Line::parse).collect()
    }

    fn journal() -> (tempfile::TempDir, Journal, PathBuf) {
        let storage = tempfile::tempdir().unwrap();
        let (journal, path) = (Journal::new(storage.path()), storage.path().join(JOURNAL));
        (storage, journal, path)
    }

    #[test]
    fn a_line_has_exactly_the_promised_fields() {
        let text = String::from_utf8(encode(&[line(7), Line { sha256: None, ..line(8) }]).unwrap()).unwrap();
        let hash = "ab".repeat(32);
        let first = format!(
            "{{\"file\":\"phone/2026-03-02/Record_20260302-091507.wav\",\"recording\":\"r7\",\"segment\":1,\
             \"sha256\":\"{hash}\"}}\n"
        );
        assert!(text.starts_with(&first) && text.ends_with("\"sha256\":null}\n"), "{text}");
        // Line ends in a phone's id are JSON escapes.
        let odd = Line { recording: "a\nb\u{2028}".into(), ..line(1) };
        let octets = encode(std::slice::from_ref(&odd)).unwrap();
        assert_eq!(octets.iter().filter(|octet| **octet == b'\n').count(), 1);
        assert_eq!(Line::parse(&octets), Some(odd));
    }

    #[test]
    fn lines_go_behind_those_that_are_there_and_a_torn_one_is_cut_off_first() {
        for torn in [&b""[..], b"{\"file\":\"phone/20", &[0; 9000]] {
            let (_storage, journal, path) = journal();
            journal.append(&RealFs, &[line(1), line(2)]).unwrap();
            let mut octets = std::fs::read(&path).unwrap();
            octets.extend_from_slice(torn);
            std::fs::write(&path, octets).unwrap();
            journal.append(&RealFs, &[line(3)]).unwrap();
            assert_eq!(lines(&path), [line(1), line(2), line(3)]);
        }
        let (_storage, journal, path) = journal();
        std::fs::write(&path, "no line at all").unwrap();
        journal.prepare(&RealFs).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn a_full_file_gets_the_next_number_and_the_oldest_ones_go() {
        let (storage, journal, path) = journal();
        let octets = usize::try_from(MAX_FILE_OCTETS).unwrap();
        for number in [7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22] {
            std::fs::write(numbered(storage.path(), number), "\n").unwrap();
        }
        let others =
            [".journal.x", ".journal.07", ".journal.", ".journal.1.gz", ".journal.99999999999999999999"];
        others.iter().for_each(|name| std::fs::write(storage.path().join(name), "\n").unwrap());
        std::fs::write(&path, "\n".repeat(octets)).unwrap();
        journal.append(&RealFs, &[line(1)]).unwrap();
        assert_eq!(lines(&path), [line(1)]);
        assert_eq!(numbers(&RealFs, storage.path()).unwrap(), (9..=23).collect::<Vec<_>>());
        let moved = std::fs::metadata(numbered(storage.path(), 23)).unwrap().len();
        assert_eq!(moved, MAX_FILE_OCTETS, "nothing of it is lost");
        others.iter().for_each(|name| assert!(storage.path().join(name).exists(), "{name}"));
        journal.append(&RealFs, &[line(2)]).unwrap();
        assert_eq!(lines(&path), [line(1), line(2)], "not before it is full");
    }

    #[test]
    fn nothing_but_a_plain_file_of_one_name_is_written_to() {
        let (storage, journal, path) = journal();
        let victim = storage.path().join("victim");
        std::fs::write(&victim, "theirs").unwrap();
        symlink(&victim, &path).unwrap();
        let fault = journal.append(&RealFs, &[line(1)]).unwrap_err();
        assert!(fault.detail.contains(".journal") && fault.detail.contains("is a link"), "{}", fault.detail);
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(&victim, &path).unwrap();
        assert!(journal.append(&RealFs, &[line(1)]).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(journal.append(&RealFs, &[line(1)]).is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"theirs");
    }

    #[test]
    fn listed_recordings_are_known_from_all_files_and_a_line_with_other_fields_does_not_count() {
        let (storage, journal, path) = journal();
        journal.append(&RealFs, &[line(1)]).unwrap();
        std::fs::rename(&path, numbered(storage.path(), 1)).unwrap();
        let open = Line { sha256: None, ..line(3) };
        journal.append(&RealFs, &[line(2), open]).unwrap();
        let mut finished: BTreeMap<String, Line> =
            (1..=4).map(|number| (line(number).file, line(number))).collect();
        journal.leave_out_listed(&RealFs, &mut finished).unwrap();
        assert_eq!(finished.into_values().collect::<Vec<_>>(), [line(3), line(4)]);
    }
}

//! The journal of `recordserver`: a line of JSON for each finished file, read from where the last look ended.
//!
//! It is a hint that makes a recording findable at once; the folders are the truth. Invariants: half a line
//! waits for the rest; a rotated or shortened journal is read from its start; a line that names a file
//! outside is passed over.

use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use store::fs::{Fs, RealFs};

/// Name of the journal in an intake.
const JOURNAL: &str = ".journal";
/// Read at a time.
const MAX_READ_OCTETS: u64 = 1 << 20;

#[derive(Deserialize)]
struct Line {
    file: String,
}

/// A journal that is followed.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    inode: u64,
    offset: u64,
}

impl Journal {
    /// The journal of an intake, from its present end on: a look at the folders finds earlier files.
    pub(crate) fn at_end(root: &Path) -> Self {
        let path = root.join(JOURNAL);
        let (inode, offset) = RealFs.open_read(&path).and_then(|file| state(&file)).unwrap_or_default();
        Self { path, inode, offset }
    }

    /// Folder and name of each file that was finished since, below the intake.
    pub(crate) fn news(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut file = match RealFs.open_read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        let (inode, octets) = state(&file)?;
        if inode != self.inode || octets < self.offset {
            (self.inode, self.offset) = (inode, 0);
        }
        if octets == self.offset {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = Vec::new();
        file.take(MAX_READ_OCTETS).read_to_end(&mut text)?;
        let Some(end) = text.iter().rposition(|octet| *octet == b'\n') else {
            // No line of ours has `MAX_READ_OCTETS`.
            if text.len() as u64 == MAX_READ_OCTETS {
                self.offset += MAX_READ_OCTETS;
            }
            return Ok(Vec::new());
        };
        self.offset += end as u64 + 1;
        let lines = text[..end].split(|octet| *octet == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
            .filter_map(|line| split(&line.file))
            .collect())
    }
}

fn state(file: &File) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    file.metadata().map(|found| (found.ino(), found.len()))
}

/// Folder and name of a path below the intake that leads nowhere else.
fn split(path: &str) -> Option<(String, String)> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let fits =
        recfile::name::is_record_file_name(name) && (folder.is_empty() || folder.split('/').all(is_plain));
    fits.then(|| (folder.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_journal_is_followed_through_halves_of_lines_and_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL);
        std::fs::write(&path, "{\"file\":\"a/2026-01-01/Record_0.wav\"}\n").unwrap();
        let mut journal = Journal::at_end(folder.path());
        assert_eq!(journal.news().unwrap(), []);
        let mut append = File::options().append(true).open(&path).unwrap();
        append
            .write_all(b"{\"file\":\"a/2026-01-01/Record_1.wav\",\"segment\":1}\nno line\n{\"file\":\"Rec")
            .unwrap();
        assert_eq!(journal.news().unwrap(), [("a/2026-01-01".to_owned(), "Record_1.wav".to_owned())]);
        append
            .write_all(b"ord_2.wav\"}\n{\"file\":\"../Record_3.wav\"}\n{\"file\":\"/etc/Record_4.wav\"}\n")
            .unwrap();
        assert_eq!(journal.news().unwrap(), [(String::new(), "Record_2.wav".to_owned())]);
        std::fs::rename(&path, folder.path().join(".journal.1")).unwrap();
        assert_eq!(journal.news().unwrap(), []);
        std::fs::write(&path, "{\"file\":\"Record_5.wav\"}\n").unwrap();
        assert_eq!(journal.news().unwrap(), [(String::new(), "Record_5.wav".to_owned())]);
    }
}

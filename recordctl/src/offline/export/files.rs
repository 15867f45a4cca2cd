//! The files that an export reads and the ones it must not touch.
//!
//! Owns: which spellings are one file, and how many recordings are open at once: one, however many make a
//! WAV.

use super::super::recording::{AudioFile, open_file};
use recfile::reader::ReadError;
use recfile::seal::age::Identity;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A set of files, independent of the path by which each was named.
#[derive(Default)]
pub(in crate::offline) struct FileSet {
    nodes: HashSet<(u64, u64)>,
    /// FAT numbers its files anew when the system has forgotten them; the resolved path tells then.
    paths: HashSet<PathBuf>,
}

impl FileSet {
    /// Puts the file in; false if it was there. A file that can't be looked at is in no set.
    pub(in crate::offline) fn insert(&mut self, path: &Path) -> bool {
        let new_node = fs::metadata(path).map_or(true, |meta| self.nodes.insert((meta.dev(), meta.ino())));
        let new_path = fs::canonicalize(path).map_or(true, |path| self.paths.insert(path));
        new_node && new_path
    }

    pub(in crate::offline) fn contains(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| self.nodes.contains(&(meta.dev(), meta.ino())))
            || fs::canonicalize(path).is_ok_and(|path| self.paths.contains(&path))
    }
}

/// The file that is open, and the index of the source that it belongs to.
pub(super) type OpenFile = RefCell<Option<(usize, AudioFile)>>;

/// One file of many that are read one after the other: open while it is the one last used.
pub(super) struct Source<'a> {
    path: &'a Path,
    index: usize,
    open: &'a OpenFile,
    identities: &'a [Identity],
    position: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, index: usize, open: &'a OpenFile, identities: &'a [Identity]) -> Self {
        Self { path, index, open, identities, position: 0 }
    }

    fn with_file<T>(&mut self, work: impl FnOnce(&mut AudioFile) -> io::Result<T>) -> io::Result<T> {
        let mut open = self.open.borrow_mut();
        let (_, mut file) = match open.take() {
            Some(ours) if ours.0 == self.index => ours,
            other => {
                drop(other);
                let opened = AudioFile::open(open_file(self.path)?, self.identities);
                let mut file = opened.map_err(|error| match error {
                    ReadError::Io(error) => error,
                    error @ ReadError::Header(_) => io::Error::other(error),
                })?;
                file.seek(SeekFrom::Start(self.position))?;
                (self.index, file)
            }
        };
        let done = work(&mut file)?;
        *open = Some((self.index, file));
        Ok(done)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let read = self.with_file(|file| file.read(octets))?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.with_file(|file| file.seek(to))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_read_in_turns_go_on_where_each_of_them_was() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        fs::write(&paths[0], b"abcdef").unwrap();
        fs::write(&paths[1], b"uvwxyz").unwrap();
        let open = OpenFile::default();
        let mut sources = [Source::new(&paths[0], 0, &open, &[]), Source::new(&paths[1], 1, &open, &[])];
        let mut read = String::new();
        for index in [0, 1, 1, 0, 1, 0] {
            let mut two = [0; 2];
            sources[index].read_exact(&mut two).unwrap();
            read += std::str::from_utf8(&two).unwrap();
        }
        assert_eq!(read, "abuvwxcdyzef");
        assert_eq!(sources[0].seek(SeekFrom::End(-1)).unwrap(), 5);
    }
}

//! Finds recordings on disk and opens them together with their sidecars.

use crate::file::name::{is_record_file_name, order_key, sidecar_name};
use crate::file::reader::{ReadError, Reader};
use crate::file::sidecar::{MAX_SIDECAR_OCTETS, Sidecar};
use crate::sys::try_lock;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Folders in folders that are searched: a server's device and day, with some to spare.
const MAX_DEPTH: usize = 6;

/// Read-ahead of a recording: many frames at once.
pub(super) const READ_AHEAD_OCTETS: usize = 64 * 1024;

/// A recording and what lies beside it.
pub(super) struct Recording {
    pub(super) path: PathBuf,
    pub(super) len: u64,
    /// The agent is writing it.
    pub(super) busy: bool,
    pub(super) audio: Result<Reader<BufReader<File>>, ReadError>,
    /// `None`: there is no sidecar, which is no fault.
    pub(super) sidecar: Option<Result<Sidecar, String>>,
}

impl Recording {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no file"));
        }
        let len = file.metadata()?.len();
        let busy = is_locked(path)?;
        Ok(Self {
            path: path.to_owned(),
            len,
            busy,
            audio: Reader::open(BufReader::with_capacity(READ_AHEAD_OCTETS, file)),
            sidecar: read_sidecar(path)?
                .map(|octets| Sidecar::parse(&octets).map_err(|error| error.to_string())),
        })
    }

    /// The sidecar, where there is one that can be read.
    pub(super) fn sidecar(&self) -> Option<&Sidecar> {
        self.sidecar.as_ref().and_then(|sidecar| sidecar.as_ref().ok())
    }

    /// Order within a recording: by segment number, then by name.
    pub(super) fn order(&self) -> (u32, PathBuf, String, u32) {
        let name = file_name(&self.path);
        let (stem, attempt) = order_key(&name);
        let folder = self.path.parent().unwrap_or(Path::new("")).to_owned();
        (self.sidecar().map_or(0, |sidecar| sidecar.segment), folder, stem.to_owned(), attempt)
    }
}

/// The last part of a path, as text.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn sidecar_path(path: &Path) -> PathBuf {
    path.with_file_name(sidecar_name(&file_name(path)))
}

/// Whether somebody holds the file's lock, as the agent does while it writes. The lock taken here goes with
/// its handle at once; where there are no locks, nobody can hold one.
fn is_locked(path: &Path) -> io::Result<bool> {
    Ok(!try_lock(&File::open(path)?).unwrap_or(true))
}

/// The bytes of a recording's sidecar; one over the size limit is cut off, and then refused by its parser.
pub(super) fn read_sidecar(wav: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(sidecar_path(wav)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut octets = Vec::new();
    file.take(MAX_SIDECAR_OCTETS as u64 + 1).read_to_end(&mut octets)?;
    Ok(Some(octets))
}

/// The recordings that the arguments mean: files as named (a sidecar stands for its recording), folders
/// with all recordings below them. Sorted within a folder, none twice. What can't be found is said to
/// `complain`.
pub(super) fn find(arguments: &[PathBuf], complain: &mut dyn FnMut(String)) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for argument in arguments {
        if !argument.is_dir() {
            found.push(recording_of_sidecar(argument).unwrap_or_else(|| argument.clone()));
            continue;
        }
        let before = found.len();
        if let Err(error) = find_below(argument, MAX_DEPTH, &mut found) {
            complain(format!("{}: {error}", argument.display()));
        } else if found.len() == before {
            complain(format!("{}: no recordings (Record_….wav) in this folder", argument.display()));
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|path| seen.insert(path.clone()));
    found
}

/// `Record_….wav` for an existing `Record_….json`: a pattern such as `Record_*` names both.
fn recording_of_sidecar(path: &Path) -> Option<PathBuf> {
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let wav =
        ["wav", "WAV"].map(|extension| path.with_extension(extension)).into_iter().find(|wav| wav.is_file());
    wav.filter(|_| is_json)
}

fn find_below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut folders = Vec::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() && depth > 1 {
            folders.push(entry.path());
        } else if kind.is_file() && is_record_file_name(&name) {
            names.push((name, entry.path()));
        }
    }
    names.sort_by(|a, b| order_key(&a.0).cmp(&order_key(&b.0)).then_with(|| a.1.cmp(&b.1)));
    found.extend(names.into_iter().map(|(_, path)| path));
    folders.sort();
    for folder in folders {
        find_below(&folder, depth - 1, found)?;
    }
    Ok(())
}

/// All files of the recording that `path` belongs to, by segment number: those in its folder whose sidecars
/// have its recording id. Without a sidecar, the file alone.
///
/// # Errors
/// The file system's.
pub fn discover_segments(path: &Path) -> io::Result<Vec<PathBuf>> {
    let id_and_segment = |path: &Path| -> io::Result<Option<(String, u32)>> {
        let sidecar = read_sidecar(path)?.and_then(|octets| Sidecar::parse(&octets).ok());
        Ok(sidecar.filter(|sidecar| !sidecar.recording.is_empty()).map(|own| (own.recording, own.segment)))
    };
    let Some((recording, _)) = id_and_segment(path)? else { return Ok(vec![path.to_owned()]) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut siblings = Vec::new();
    find_below(folder, 1, &mut siblings)?;
    let mut segments = Vec::new();
    for sibling in siblings {
        if let Some((id, segment)) = id_and_segment(&sibling)? {
            if id == recording {
                segments.push((segment, sibling));
            }
        }
    }
    // The name decides between equal numbers: `siblings` are in that order, and the sort is stable.
    segments.sort_by_key(|(segment, _)| *segment);
    Ok(segments.into_iter().map(|(_, path)| path).collect())
}

//! Finds recordings on disk and opens them together with their sidecars.
//!
//! Invariants: nothing but a regular file is opened, so that no pipe or device is waited for; names are taken
//! as they are, UTF-8 or not; and no sidecar, sound or not, stands between a person and the audio.

use super::super::advice;
use os::try_lock;
use recfile::format::Facts;
use recfile::header::{FileHeader, HEADER_OCTETS, HeaderError, is_standard_wav};
use recfile::name::{is_record_file_name, order_key};
use recfile::reader::{ReadError, Reader};
use recfile::seal::age::Identity;
use recfile::seal::audio::OpenError;
use recfile::seal::origin::hex;
use recfile::seal::plain::{MAX_CHUNKS, PlainFile};
use recfile::seal::{SealError, sidecar};
use recfile::sealed::{Extent, FRONT_PROBE_OCTETS, Front};
use recfile::sidecar::{MAX_SIDECAR_OCTETS, Sidecar, SidecarError};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Folders in folders that are searched: a server's device and day, with some to spare.
const MAX_DEPTH: usize = 6;

/// Read-ahead of a recording: many frames at once.
pub(super) const READ_AHEAD_OCTETS: usize = 64 * 1024;

/// The file of a recording, read as a plain one.
#[derive(Debug)]
pub(crate) enum AudioFile {
    Plain(BufReader<File>),
    Encrypted(Box<PlainFile<BufReader<File>>>),
}

impl AudioFile {
    /// Opens it; an encrypted one with the identity that it is for.
    ///
    /// # Errors
    /// [`ReadError`]; of one that is encrypted to none of `identities` why it can't be decrypted.
    pub(crate) fn open(file: File, identities: &[Identity]) -> Result<Self, ReadError> {
        let mut file = BufReader::with_capacity(READ_AHEAD_OCTETS, file);
        let mut head = [0; HEADER_OCTETS];
        let encrypted = match file.read_exact(&mut head) {
            Ok(()) => matches!(FileHeader::parse(&head), Err(HeaderError::Encrypted(_))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error.into()),
        };
        file.seek(SeekFrom::Start(0))?;
        if !encrypted || identities.is_empty() {
            return Ok(Self::Plain(file));
        }
        match PlainFile::open(file, identities) {
            Ok(file) => Ok(Self::Encrypted(Box::new(file))),
            Err(OpenError::Header(error)) => Err(error.into()),
            Err(OpenError::Io(error)) => Err(error.into()),
            Err(OpenError::Seal(error)) => Err(io::Error::other(error).into()),
        }
    }

    /// Looks at the last chunk of an encrypted file, which may hold no audio.
    ///
    /// # Errors
    /// That it is not the last one, or the system's.
    pub(super) fn check_end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Encrypted(file) => file.check_end(),
        }
    }
}

impl Read for AudioFile {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(octets),
            Self::Encrypted(file) => file.read(octets),
        }
    }
}

impl Seek for AudioFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Plain(file) => file.seek(to),
            Self::Encrypted(file) => file.seek(to),
        }
    }
}

/// The readable part of an encrypted file without its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outside {
    pub(super) front: Front,
    pub(super) extent: Extent,
}

impl Outside {
    /// `None` if the file is not encrypted, or more chunks than any recording has.
    fn of(file: &File, len: u64) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        let mut from_start = file;
        from_start.seek(SeekFrom::Start(0))?;
        from_start.take(FRONT_PROBE_OCTETS as u64).read_to_end(&mut head)?;
        let Ok(front) = Front::parse(&head) else { return Ok(None) };
        let extent = front.measure(len, u32::try_from(MAX_CHUNKS).unwrap_or(u32::MAX), &mut |at| {
            let mut octets = [0; 4];
            match file.read_exact_at(&mut octets, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([0; 4]),
                read => read.map(|()| octets),
            }
        })?;
        Ok(extent.map(|extent| Self { front, extent }))
    }

    pub(super) fn facts(&self) -> Facts {
        self.extent.facts(&self.front)
    }
}

/// A recording and its sidecar.
pub(super) struct Recording {
    pub(super) path: PathBuf,
    pub(super) len: u64,
    /// The agent is writing it.
    pub(super) busy: bool,
    /// As plain; of an encrypted one without its key the reason why not.
    pub(super) audio: Result<Reader<AudioFile>, ReadError>,
    /// The readable part of an encrypted file without the key.
    pub(super) outside: Option<Outside>,
    /// The error for an encrypted part of a sidecar that can't be opened.
    pub(super) unopened: Option<SealError>,
    /// `None`: there is no sidecar, which is no fault.
    pub(super) sidecar: Option<Result<Sidecar, BadSidecar>>,
}

/// The reason for which an existing sidecar is of no use.
#[derive(Debug)]
pub(super) enum BadSidecar {
    /// The system does not give it to us.
    Unreadable(io::Error),
    /// It is none.
    Unsound(SidecarError),
}

impl fmt::Display for BadSidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "the sidecar can't be read: {error}"),
            Self::Unsound(error) => error.fmt(f),
        }
    }
}

impl BadSidecar {
    /// The advice for the user.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "the recording plays without it: make it readable, or remove it",
            Self::Unsound(_) => "the recording plays without it: recordctl repair sets it aside",
        }
    }
}

impl Recording {
    pub(super) fn open(path: &Path, identities: &[Identity]) -> io::Result<Self> {
        let file = open_file(path)?;
        let len = file.metadata()?.len();
        let busy = is_locked(path)?;
        let sidecar = read_sidecar(path).map_err(BadSidecar::Unreadable).transpose();
        let mut sidecar = sidecar
            .map(|octets| octets.and_then(|octets| Sidecar::parse(&octets).map_err(BadSidecar::Unsound)));
        let mut unopened = None;
        if let (Some(Ok(beside)), false) = (&mut sidecar, identities.is_empty()) {
            match sidecar::open(beside, identities) {
                Ok(inside) => *beside = inside,
                Err(error) => unopened = Some(error),
            }
        }
        let outside = Outside::of(&file, len)?;
        let audio = AudioFile::open(open_file(path)?, identities).and_then(Reader::open);
        Ok(Self { path: path.to_owned(), len, busy, audio, outside, unopened, sidecar })
    }

    /// Its contents, as far as they are known, and its frames.
    pub(super) fn facts(&self) -> Option<Facts> {
        // Facts of an encrypted file are those of the file, not of the decrypted audio.
        self.outside.map(|it| it.facts()).or_else(|| Some(self.audio.as_ref().ok()?.facts().clone()))
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

/// Opens a regular file for reading.
///
/// # Errors
/// The system's, and `InvalidInput` for anything but a file: a folder, a pipe, a device.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "is no file");
    if !fs::metadata(path)?.is_file() {
        return Err(no_file());
    }
    // The pipe or device that may have come since then is not waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

/// The SHA-256 of `octets` of a file from `begins` on, hexadecimal.
///
/// # Errors
/// The system's, and `UnexpectedEof` where the file has fewer.
pub(super) fn hash_of(
    file: &File,
    begins: u64,
    octets: u64,
    progress: &mut dyn FnMut(u64),
) -> io::Result<String> {
    let mut state = Sha256::new();
    let mut chunk = vec![0; READ_AHEAD_OCTETS];
    let mut done = 0;
    while done < octets {
        let count = usize::try_from(octets - done).unwrap_or(usize::MAX).min(chunk.len());
        file.read_exact_at(&mut chunk[..count], begins + done)?;
        state.update(&chunk[..count]);
        done += count as u64;
        progress(done);
    }
    Ok(hex(&state.finalize()))
}

/// A path as text, for people and JSON: octets that are no UTF-8 are replaced.
pub(super) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The last part of a path, as text: for people, and to sort by.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The path of the sidecar: `.json` in place of `.wav`, or after a name that has no such end, in any
/// encoding.
pub(super) fn sidecar_path(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wav")) {
        return path.with_extension("json");
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".json");
    path.with_file_name(name)
}

/// Whether somebody holds the file's lock, as the agent does while it writes. The lock taken here goes with
/// its handle at once; where there are no locks, nobody can hold one.
fn is_locked(path: &Path) -> io::Result<bool> {
    Ok(!try_lock(&open_file(path)?).unwrap_or(true))
}

/// The bytes of a recording's sidecar; one over the size limit is cut off, and then refused by its parser.
pub(super) fn read_sidecar(wav: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match open_file(&sidecar_path(wav)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut octets = Vec::new();
    file.take(MAX_SIDECAR_OCTETS as u64 + 1).read_to_end(&mut octets)?;
    Ok(Some(octets))
}

/// The recordings that the arguments mean: files as named (a sidecar stands for its recording), folders
/// with all recordings below them (standard WAVs are passed over). Sorted within a folder, none twice. Each
/// path that can't be found, and each folder that can't be read, goes to `complain`.
pub(super) fn find(arguments: &[PathBuf], complain: &mut dyn FnMut(String)) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for argument in arguments {
        if !argument.is_dir() {
            found.push(recording_of_sidecar(argument).unwrap_or_else(|| argument.clone()));
            continue;
        }
        let before = found.len();
        let mut below = Vec::new();
        let mut all_read = true;
        find_below(argument, MAX_DEPTH, &mut below, &mut |folder, error| {
            all_read = false;
            complain(format!(
                "{}: this folder can't be searched: {}",
                folder.display(),
                advice::said(&error)
            ));
        });
        // Outputs of `export` have the names of recordings, but are not meant.
        found.extend(below.into_iter().filter(|path| !is_standard_wav_file(path)));
        if all_read && found.len() == before {
            complain(format!(
                "{}: no recordings (Record_….wav) in this folder; name another one, or the files",
                argument.display()
            ));
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|path| seen.insert(path.clone()));
    found
}

fn is_standard_wav_file(path: &Path) -> bool {
    let mut head = [0; 12];
    open_file(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && is_standard_wav(&head)
}

/// `Record_….wav` for an existing `Record_….json`: a pattern such as `Record_*` names both.
fn recording_of_sidecar(path: &Path) -> Option<PathBuf> {
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let wav =
        ["wav", "WAV"].map(|extension| path.with_extension(extension)).into_iter().find(|wav| wav.is_file());
    wav.filter(|_| is_json)
}

/// The contents of a folder, in order.
#[derive(Default)]
struct Listing {
    recordings: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    /// The reason for which there may be more.
    error: Option<io::Error>,
}

fn list(folder: &Path) -> Listing {
    let mut listing = Listing::default();
    let mut names = Vec::new();
    let entries = fs::read_dir(folder).map_err(|error| listing.error = Some(error));
    for entry in entries.into_iter().flatten() {
        match entry.and_then(|entry| Ok((entry.file_type()?, entry))) {
            Ok((kind, entry)) if kind.is_dir() => listing.folders.push(entry.path()),
            Ok((kind, entry)) => {
                let name = entry.file_name().to_string_lossy().into_owned();
                if kind.is_file() && is_record_file_name(&name) {
                    names.push((name, entry.path()));
                }
            }
            Err(error) => listing.error = Some(error),
        }
    }
    names.sort_by(|a, b| order_key(&a.0).cmp(&order_key(&b.0)).then_with(|| a.1.cmp(&b.1)));
    listing.recordings = names.into_iter().map(|(_, path)| path).collect();
    listing.folders.sort();
    listing
}

/// Adds the recordings of `folder` and of the folders in it; one that can't be read hides only itself.
fn find_below(
    folder: &Path,
    depth: usize,
    found: &mut Vec<PathBuf>,
    complain: &mut dyn FnMut(&Path, io::Error),
) {
    let Listing { recordings, folders, error } = list(folder);
    if let Some(error) = error {
        complain(folder, error);
    }
    found.extend(recordings);
    if depth > 1 {
        folders.iter().for_each(|folder| find_below(folder, depth - 1, found, complain));
    }
}

/// All files of the recording that `path` belongs to, by segment number: those in its folder whose sidecars
/// have its recording id. Without a sidecar, the file alone.
///
/// # Errors
/// The file system's.
pub fn discover_segments(path: &Path) -> io::Result<Vec<PathBuf>> {
    // A sidecar that can't be read says no more than one that is not there.
    let id_and_segment = |path: &Path| -> Option<(String, u32)> {
        let sidecar = read_sidecar(path).ok()?.and_then(|octets| Sidecar::parse(&octets).ok());
        sidecar.filter(|sidecar| !sidecar.recording.is_empty()).map(|own| (own.recording, own.segment))
    };
    let Some((recording, _)) = id_and_segment(path) else { return Ok(vec![path.to_owned()]) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Listing { recordings: siblings, error, .. } = list(folder);
    if let Some(error) = error {
        return Err(error);
    }
    let mut segments: Vec<(u32, PathBuf)> = siblings
        .into_iter()
        .filter_map(|sibling| id_and_segment(&sibling).map(|own| (own, sibling)))
        .filter_map(|((id, segment), sibling)| (id == recording).then_some((segment, sibling)))
        .collect();
    // The name decides between equal numbers: `siblings` are in that order, and the sort is stable.
    segments.sort_by_key(|(segment, _)| *segment);
    Ok(segments.into_iter().map(|(_, path)| path).collect())
}

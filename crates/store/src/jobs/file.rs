//! A recording file: its place, its pieces, and the result of its recovery.

use super::disk::Space;
use media::time::Wall;
use recfile::header::FileHeader;
use recfile::sidecar::Sidecar;
use std::path::PathBuf;

/// Names one file of one recording, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey(pub u64);

/// A folder on one particular filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Directory that must exist: the mount point, or the configured directory.
    pub root: PathBuf,
    /// Device number of `root` when it was found; another one means that the disk is gone.
    pub device: u64,
    /// Folder below the root, created when needed; empty for the root itself.
    pub name: String,
}

impl Folder {
    /// The recording folder itself.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        if self.name.is_empty() { self.root.clone() } else { self.root.join(&self.name) }
    }
}

/// Creates a recording file and its sidecar.
#[derive(Debug)]
pub struct Open {
    /// Key for all later jobs on this file.
    pub file: FileKey,
    /// The folder.
    pub folder: Folder,
    /// SystemTime of the name.
    pub stamp: Wall,
    /// First content.
    pub header: FileHeader,
    /// Sidecar to put beside it; `file` is filled in.
    pub sidecar: Box<Sidecar>,
}

/// A file just created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Full path.
    pub path: PathBuf,
    /// Path below the recording folder.
    pub name: String,
    /// Room left.
    pub space: Space,
}

/// The wanted state of a file whose disk was pulled while it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Finalise {
    /// The key that the file had.
    pub file: FileKey,
    /// The folder at the disk's present place.
    pub folder: Folder,
    /// Path below the recording folder.
    pub name: String,
    /// Octets of audio that belong to it: octets behind them are in the next file, too.
    pub octets: u64,
    /// Final sidecar; `file`, `data_bytes` and `duration_ms` are filled in.
    pub sidecar: Box<Sidecar>,
}

/// The result of a [`Finalise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinaliseOutcome {
    /// The file is as it is to be.
    Finished,
    /// The file is not on this disk.
    NotHere,
    /// Another process has locked it: to be tried again.
    Locked,
}

/// The saved part of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Path below the recording folder.
    pub file: String,
    /// Recording id of its sidecar.
    pub recording: String,
    /// Length of the saved part, in milliseconds.
    pub duration_ms: u64,
}

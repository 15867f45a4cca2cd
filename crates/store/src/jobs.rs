//! What is asked of the storage thread, and what it answers.
//!
//! Owns: the vocabulary between the agent, which decides, and storage, which does. Pure data. Invariant:
//! every [`Job`] is answered by exactly one [`Done`], in the order of the jobs.

pub mod library;

use library::{LibraryDone, LibraryJob};
use media::blocks::Block;
use media::time::Wall;
use recfile::header::FileHeader;
use recfile::sidecar::Sidecar;
use std::path::PathBuf;
use std::time::Duration;

/// Names one file of one recording, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey(pub u64);

/// The next stretch of a file.
#[derive(Debug)]
pub enum Piece {
    /// Audio as it came.
    Audio(Block),
    /// So many octets of the codec's silence.
    Silence(u64),
}

/// Where recordings go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The first writable removable disk.
    Auto,
    /// A directory.
    Directory(PathBuf),
}

/// One physical disk as long as it is in its slot: another one, or the same one pulled and put back, has another.
/// Empty if the system does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StickId(pub String);

impl StickId {
    /// Whether the system told which disk it is.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.0.is_empty()
    }
}

/// What to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Where.
    pub target: Target,
    /// Folder below the disk's root that recordings go to; empty for the root itself.
    pub folder: String,
    /// Disks that were ejected, to be told when they are gone.
    pub ejected: Vec<StickId>,
}

impl From<Target> for Look {
    fn from(target: Target) -> Self {
        Self { target, folder: String::new(), ejected: Vec::new() }
    }
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Filesystems that could hold recordings, in the order in which they were mounted, each once.
    pub disks: Vec<Disk>,
    /// Why there is none, if a directory was asked for.
    pub missing: Option<Missing>,
    /// Those of the ejected disks that are gone.
    pub pulled: Vec<StickId>,
    /// The system could not say what there is: it is as it was.
    pub unknown: bool,
}

impl From<Option<Disk>> for Found {
    fn from(disk: Option<Disk>) -> Self {
        Self { disks: disk.into_iter().collect(), ..Self::default() }
    }
}

/// Why a directory can't be recorded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is not there.
    Path,
    /// It is no directory.
    NotFolder,
    /// We may not look.
    Denied,
}

/// A disk to be made safe to pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eject {
    /// Directory on it.
    pub root: PathBuf,
    /// Device number of `root`.
    pub device: u64,
    /// Which physical disk it is.
    pub stick: StickId,
    /// The same for all that is pulled with it; empty if the system does not tell.
    pub group: String,
    /// Only what can be pulled is unmounted.
    pub removable: bool,
}

/// What became of an eject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ejected {
    /// Every mount of the disk is gone.
    pub unmounted: bool,
    /// All that is pulled with it, the disk itself included, as far as the system tells.
    pub sticks: Vec<StickId>,
    /// Mounts that are still there though they should not be.
    pub left: Vec<Left>,
}

/// A mount that could not be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where.
    pub point: PathBuf,
    /// Why, and what to do.
    pub why: String,
    /// The system does not let us unmount anything: everything is on the disk all the same.
    pub denied: bool,
}

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
    /// Where.
    pub folder: Folder,
    /// SystemTime of the name.
    pub stamp: Wall,
    /// First content.
    pub header: FileHeader,
    /// Sidecar to put beside it; `file` is filled in.
    pub sidecar: Box<Sidecar>,
}

/// One thing to do.
#[derive(Debug)]
pub enum Job {
    /// Look where recordings could go.
    Scan(Look),
    /// Create a file.
    Open(Open),
    /// Write `pieces` at the end of `file`; with `flush`, make them durable and bring `dataSize` up to date.
    Append {
        /// The file.
        file: FileKey,
        /// What to write.
        pieces: Vec<Piece>,
        /// Whether to sync.
        flush: bool,
    },
    /// Finish `file`: pad the last frame, exact `dataSize`, final sidecar, everything on the disk.
    Close {
        /// The file.
        file: FileKey,
        /// Final sidecar; `file`, `data_bytes` and `duration_ms` are filled in.
        sidecar: Box<Sidecar>,
    },
    /// Forget `file` without touching the disk: it is gone.
    Abandon(FileKey),
    /// Bring a file that lost its disk in mid-recording to what its recording counts on, now that the disk is back.
    Mend(Box<Mend>),
    /// Write and sync a little in a hidden file, delete it, and tell how fast that was.
    MeasureSpeed(Folder),
    /// Delete the oldest finalised recording in the folder.
    DeleteOldest {
        /// Where.
        folder: Folder,
        /// Ids of the calls that are running: between two files of one, storage has none of it open.
        running: Vec<String>,
    },
    /// Sync the disk and undo all of its mounts, if it can be pulled.
    Eject(Eject),
    /// Something about finished recordings.
    Library(LibraryJob),
}

/// How a file is to be, whose disk was pulled while it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Mend {
    /// The key that the file had.
    pub file: FileKey,
    /// Where the disk is now.
    pub folder: Folder,
    /// Path below the recording folder.
    pub name: String,
    /// Octets of audio that belong to it: what is behind them stands in the next file too.
    pub octets: u64,
    /// Final sidecar; `file`, `data_bytes` and `duration_ms` are filled in.
    pub sidecar: Box<Sidecar>,
}

/// How fast a disk takes audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// What was written and synced.
    pub octets: u64,
    /// How long that took.
    pub took: Duration,
    /// The longest single sync.
    pub longest_sync: Duration,
}

/// Free and used space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Octets in all.
    pub total_octets: u64,
    /// Octets that may still be written.
    pub free_octets: u64,
}

/// A filesystem that could hold recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Directory that recordings go below: the mount point, or the configured directory.
    pub root: PathBuf,
    /// Mount point.
    pub mount: PathBuf,
    /// Device number of `root`.
    pub device: u64,
    /// `vfat`, `exfat`, `ext4` …
    pub filesystem: String,
    /// Room.
    pub space: Space,
    /// Mounted read-only.
    pub read_only: bool,
    /// Mounted with `sync`: every write waits for the disk.
    pub sync_mount: bool,
    /// A USB stick or card rather than built-in memory.
    pub removable: bool,
    /// Which physical disk it is on.
    pub stick: StickId,
    /// The same for all that is pulled with it; empty if the system does not tell.
    pub group: String,
    /// What is wrong with the recording folder: it is none, leads off the disk, or is not ours to write to. Or with the
    /// disk: it is out of its slot.
    pub folder_fault: Option<FaultKind>,
}

/// Why the disk did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no disk, or not the one that was there.
    NoStorage,
    /// No space left.
    Full,
    /// There is space, but a file may not grow so far: a limit of the process, or of the filesystem.
    TooLarge,
    /// Read-only.
    ReadOnly,
    /// We may not.
    Denied,
    /// Something else stands where the recording folder should be.
    NotFolder,
    /// The recording folder leads off the disk.
    OffDisk,
    /// It is out of its slot, though it is mounted yet.
    Pulled,
    /// Any other error.
    Io,
}

impl FaultKind {
    /// Whether what there is of a file can be finished, though nothing more goes into it.
    #[must_use]
    pub fn lets_finish(self) -> bool {
        matches!(self, Self::Full | Self::TooLarge)
    }
}

/// A failed job: what, where, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Class of the failure.
    pub kind: FaultKind,
    /// Operation, path and the system's reason.
    pub detail: String,
}

/// What was saved of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Path below the recording folder.
    pub file: String,
    /// Recording id of its sidecar.
    pub recording: String,
    /// Length of what was saved, in milliseconds.
    pub duration_ms: u64,
}

/// The answer to one job.
#[derive(Debug)]
pub enum Done {
    /// To `Scan`.
    Scanned(Found),
    /// To `Open`.
    Opened {
        /// The file.
        file: FileKey,
        /// Its path below the recording folder, or why it could not be created.
        result: Result<Opened, Fault>,
    },
    /// To `Append`.
    Appended {
        /// The file.
        file: FileKey,
        /// The pieces again: after an error as they were, otherwise only their blocks count.
        pieces: Vec<Piece>,
        /// Octets of audio in the file that are durable, whether or not there was an error.
        durable_octets: u64,
        /// How long the disk took.
        took: Duration,
        /// Room left if it was looked at, or why writing failed; the file takes no more then.
        result: Result<Option<Space>, Fault>,
    },
    /// To `Close`.
    Closed {
        /// The file.
        file: FileKey,
        /// Room left, or what went wrong; the file is closed in any case.
        result: Result<Option<Space>, Fault>,
    },
    /// To `Abandon`.
    Abandoned(FileKey),
    /// To `Mend`.
    Mended {
        /// The key that the file had.
        file: FileKey,
        /// False if the file is not on this disk.
        result: Result<bool, Fault>,
    },
    /// To `MeasureSpeed`; `None` if the disk was busy with a recording.
    SpeedMeasured(Result<Option<Speed>, Fault>),
    /// To `DeleteOldest`.
    Deleted {
        /// What was deleted, if there was anything to delete.
        file: Option<String>,
        /// Room left.
        space: Option<Space>,
    },
    /// To `DeleteOldest`: the folder is not all looked through yet. To be asked for again; other jobs go first.
    Searching,
    /// To `Eject`; an error if it could not be synced.
    Ejected(Result<Ejected, Fault>),
    /// To `Library`.
    Library(LibraryDone),
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

impl Done {
    /// Whether the agent has to know at once; the rest is picked up at its next turn, which saves a
    /// wake-up a second for every call.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        !matches!(self, Self::Appended { result: Ok(_), .. } | Self::Abandoned(_))
    }
}

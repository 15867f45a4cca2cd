//! Disks: which there are, how fast and how full they are, and making one safe to pull.

use super::fault::FaultKind;
use std::path::PathBuf;
use std::time::Duration;

/// The destination of recordings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The first writable removable disk.
    Auto,
    /// A directory.
    Directory(PathBuf),
}

/// One physical disk as long as it is in its slot: another one, or the same one pulled and put back, has
/// another. Empty if the system does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StickId(pub String);

impl StickId {
    /// Whether the system told which disk it is.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The disks to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The place to look.
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

/// The disks found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Filesystems that could hold recordings, in the order in which they were mounted, each once.
    pub disks: Vec<Disk>,
    /// The reason for which there is none, if a directory was asked for.
    pub missing: Option<Missing>,
    /// Those of the ejected disks that are gone.
    pub pulled: Vec<StickId>,
    /// The system could not list the disks: the last state stays.
    pub unknown: bool,
}

impl From<Option<Disk>> for Found {
    fn from(disk: Option<Disk>) -> Self {
        Self { disks: disk.into_iter().collect(), ..Self::default() }
    }
}

/// The reason for which a directory can't be recorded to.
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
    /// Only removable disks are unmounted.
    pub removable: bool,
}

/// The result of an eject.
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
    /// The mount point.
    pub point: PathBuf,
    /// The cause, and what to do.
    pub why: String,
    /// The system does not let us unmount anything: everything is on the disk all the same.
    pub denied: bool,
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
    /// The fault of the recording folder: it is none, leads off the disk, or is not ours to write to. Or of
    /// the disk: it is out of its slot.
    pub folder_fault: Option<FaultKind>,
}

/// Free and used space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Octets in all.
    pub total_octets: u64,
    /// Octets that may still be written.
    pub free_octets: u64,
}

/// The speed at which a disk takes audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// Octets written and synced.
    pub octets: u64,
    /// The time that it took.
    pub took: Duration,
    /// The longest single sync.
    pub longest_sync: Duration,
}

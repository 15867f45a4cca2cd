//! Why a disk did not do what was asked.

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

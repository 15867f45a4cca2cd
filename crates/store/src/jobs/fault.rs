//! Faults: the reasons for which a disk fails a job.

/// The reason for which the disk failed a job.
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
    /// Whether the file can be finished as it is, though nothing more goes into it.
    #[must_use]
    pub fn lets_finish(self) -> bool {
        matches!(self, Self::Full | Self::TooLarge)
    }
}

/// A failed job: the operation, the place, the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Class of the failure.
    pub kind: FaultKind,
    /// Operation, path and the system's reason.
    pub detail: String,
}

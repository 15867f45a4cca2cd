//! Errors of the system as faults of [`crate::jobs`]: the operation, the place, the cause.

use crate::jobs::{Fault, FaultKind};
use nix::errno::Errno;
use std::io;
use std::path::Path;

/// The answer to a job for a file that is not open any more.
#[must_use]
pub fn closed_before() -> Fault {
    Fault { kind: FaultKind::Io, detail: "the file was closed before".into() }
}

/// Whether an operation failed for want of room, on the disk or in the file.
pub(super) fn is_full(error: &io::Error) -> bool {
    kind_of(error).lets_finish()
}

fn kind_of(error: &io::Error) -> FaultKind {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => FaultKind::Full,
        Some(Errno::EFBIG) => FaultKind::TooLarge,
        Some(Errno::EROFS) => FaultKind::ReadOnly,
        Some(Errno::EACCES | Errno::EPERM | Errno::ELOOP) => FaultKind::Denied,
        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ENXIO | Errno::ENODEV) => FaultKind::NoStorage,
        _ => FaultKind::Io,
    }
}

/// The failure of a sync: for any cause, the system may have dropped octets that were not written yet, and
/// the next sync may succeed all the same. So it is never one after which the file can be finished.
#[must_use]
pub fn sync_fault(path: &Path, error: &io::Error) -> Fault {
    let fault = fault("sync", path, error);
    if fault.kind.lets_finish() { Fault { kind: FaultKind::Io, ..fault } } else { fault }
}

/// Said of a file that may not grow: the disk has room, so nothing that is deleted helps.
const TOO_LARGE: &str = "; the disk has room, but no file may be larger: set max_file_size below the limit of the \
                         process (RLIMIT_FSIZE, LimitFSIZE of the service) or of the filesystem";

/// A failure in the agent's terms: the operation, the place, the cause.
#[must_use]
pub fn fault(operation: &str, path: &Path, error: &io::Error) -> Fault {
    let kind = kind_of(error);
    let advice = if kind == FaultKind::TooLarge { TOO_LARGE } else { "" };
    Fault { kind, detail: format!("cannot {operation} {}: {error}{advice}", path.display()) }
}

//! A fault of storage in the protocol's words: its reason, its cause and a sentence for people.

use crate::api::ending::TextKey;
use crate::api::error::AgentError;
use crate::api::reason::{Cause, Reason};
use store::jobs::FaultKind;

/// The sentence about a disk that went without being ejected.
pub(in crate::agent) const PULLED: &str = "the disk was pulled: insert it again";

/// Why a recording under way failed: a disk that is gone has been pulled.
pub(in crate::agent) fn reason_of(kind: FaultKind) -> Reason {
    match kind {
        FaultKind::NoStorage | FaultKind::Pulled | FaultKind::Io => Reason::StorageIo,
        other => reason_at_start(other),
    }
}

pub(in crate::agent) fn reason_at_start(kind: FaultKind) -> Reason {
    match kind {
        FaultKind::NoStorage | FaultKind::Pulled => Reason::NoStorage,
        FaultKind::Full | FaultKind::TooLarge => Reason::StorageFull,
        FaultKind::ReadOnly => Reason::StorageReadOnly,
        FaultKind::Denied | FaultKind::OffDisk => Reason::PermissionDenied,
        FaultKind::Io | FaultKind::NotFolder => Reason::StorageIo,
    }
}

pub(in crate::agent) fn cause_of_fault(kind: FaultKind) -> Cause {
    match kind {
        FaultKind::NoStorage | FaultKind::Pulled => Cause::Pulled,
        FaultKind::Full => Cause::Full,
        FaultKind::TooLarge => Cause::FileTooLarge,
        FaultKind::ReadOnly => Cause::ReadOnly,
        FaultKind::Denied => Cause::Denied,
        FaultKind::NotFolder => Cause::NotAFolder,
        FaultKind::OffDisk => Cause::OffDisk,
        FaultKind::Io => Cause::Broken,
    }
}

/// The fault and what to do, for people.
pub(in crate::agent) fn sentence_of_fault(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::NotFolder => {
            "something else stands where the recording folder should be: rename or delete it"
        }
        FaultKind::OffDisk => {
            "the recording folder is a link that leads off the disk: make it a folder of the disk"
        }
        FaultKind::TooLarge => "no file may be so large: set storage.max_file_size below the limit",
        FaultKind::Denied => "recordd may not write to the recording folder: change its owner or mode",
        FaultKind::Pulled => PULLED,
        other => reason_at_start(other).sentence(),
    }
}

/// The error for a client whose job failed.
pub(in crate::agent) fn error_of_fault(kind: FaultKind) -> AgentError {
    AgentError::new(reason_at_start(kind)).because(cause_of_fault(kind)).with_message(sentence_of_fault(kind))
}

/// A request has waited for the disk for as long as may be.
pub(in crate::agent) fn disk_silent() -> AgentError {
    AgentError::new(Reason::StorageIo)
        .with_message("the disk does not answer")
        .with_advice("wait until it does, or pull the stick and insert it again")
        .with_text(Some(TextKey::StorageSilent))
}

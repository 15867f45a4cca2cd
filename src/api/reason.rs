//! Why the agent could not do a request: the reasons of errors and of `recording.failed`.
//!
//! Owns: their names on the wire and a sentence for each. Never: decides which one applies.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The reasons, named on the wire in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No disk to record to.
    NoStorage,
    /// The disk is full.
    StorageFull,
    /// The disk can't be written to.
    StorageReadOnly,
    /// Reading or writing failed, or the disk was pulled.
    StorageIo,
    /// No connection to the recording server.
    ServerUnreachable,
    /// The recording server did not answer in time.
    ServerTimeout,
    /// The recording server said no; its own reason is in `detail`.
    ServerRefused,
    /// The connection to the recording server broke.
    UplinkLost,
    /// The config has no recording server.
    NotConfigured,
    /// The codec can't be recorded.
    UnsupportedCodec,
    /// The server or PBX can't record this way.
    UnsupportedByServer,
    /// As many recordings as the config allows are running.
    TooManyRecordings,
    /// There is no recording to act on.
    NotRecording,
    /// No recording, playback or file of this name.
    NotFound,
    /// Not possible in the present state.
    InvalidState,
    /// The file is not a recording or is damaged.
    FileDamaged,
    /// The system does not allow it.
    PermissionDenied,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::NoStorage,
        Self::StorageFull,
        Self::StorageReadOnly,
        Self::StorageIo,
        Self::ServerUnreachable,
        Self::ServerTimeout,
        Self::ServerRefused,
        Self::UplinkLost,
        Self::NotConfigured,
        Self::UnsupportedCodec,
        Self::UnsupportedByServer,
        Self::TooManyRecordings,
        Self::NotRecording,
        Self::NotFound,
        Self::InvalidState,
        Self::FileDamaged,
        Self::PermissionDenied,
    ];

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoStorage => "no_storage",
            Self::StorageFull => "storage_full",
            Self::StorageReadOnly => "storage_read_only",
            Self::StorageIo => "storage_io",
            Self::ServerUnreachable => "server_unreachable",
            Self::ServerTimeout => "server_timeout",
            Self::ServerRefused => "server_refused",
            Self::UplinkLost => "uplink_lost",
            Self::NotConfigured => "not_configured",
            Self::UnsupportedCodec => "unsupported_codec",
            Self::UnsupportedByServer => "unsupported_by_server",
            Self::TooManyRecordings => "too_many_recordings",
            Self::NotRecording => "not_recording",
            Self::NotFound => "not_found",
            Self::InvalidState => "invalid_state",
            Self::FileDamaged => "file_damaged",
            Self::PermissionDenied => "permission_denied",
        }
    }

    /// A sentence for people, with what to do where something can be done.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NoStorage => "there is no disk to record to: insert a USB stick",
            Self::StorageFull => "the disk is full: delete recordings or use another one",
            Self::StorageReadOnly => "the disk is write-protected",
            Self::StorageIo => "the disk failed or was pulled",
            Self::ServerUnreachable => "the recording server can't be reached",
            Self::ServerTimeout => "the recording server did not answer in time",
            Self::ServerRefused => "the recording server refused",
            Self::UplinkLost => "the connection to the recording server broke",
            Self::NotConfigured => "no recording server is configured: set server_addr and server_port",
            Self::UnsupportedCodec => "this codec can't be recorded",
            Self::UnsupportedByServer => "the server does not support recording",
            Self::TooManyRecordings => "no more recordings at the same time: stop one first",
            Self::NotRecording => "there is no recording",
            Self::NotFound => "nothing of this name was found",
            Self::InvalidState => "this is not possible in the present state",
            Self::FileDamaged => "the file is not a recording or is damaged",
            Self::PermissionDenied => "the system does not allow this",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The trouble of the disk, finer than a [`Reason`], or its change for the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// There is no disk.
    Absent,
    /// `storage.path` is not there.
    PathMissing,
    /// Something else stands where `storage.path`, or the recording folder, should be.
    NotAFolder,
    /// The recording folder is a link that leads off the disk.
    OffDisk,
    /// `storage.require_usb` asks for a removable disk.
    NotRemovable,
    /// The system does not let the agent in.
    Denied,
    /// It was ejected, and has not come anew.
    Ejected,
    /// It was pulled without being ejected.
    Pulled,
    /// Only the reserve is left.
    Full,
    /// A file may not grow so far, though there is room: a limit of the process, or of the filesystem.
    FileTooLarge,
    /// It is mounted read-only, or write-protected.
    ReadOnly,
    /// It gave errors.
    Broken,
    /// The file is encrypted.
    Encrypted,
    /// A disk has come.
    Inserted,
    /// Another disk that was there took over.
    NextDisk,
    /// There is more room, or less.
    Room,
    /// The operation that failed has succeeded.
    Works,
    /// It can be written to again.
    Writable,
}

impl Cause {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::PathMissing => "path_missing",
            Self::NotAFolder => "not_a_folder",
            Self::OffDisk => "off_disk",
            Self::NotRemovable => "not_removable",
            Self::Denied => "denied",
            Self::Ejected => "ejected",
            Self::Pulled => "pulled",
            Self::Full => "full",
            Self::FileTooLarge => "file_too_large",
            Self::ReadOnly => "read_only",
            Self::Broken => "broken",
            Self::Encrypted => "encrypted",
            Self::Inserted => "inserted",
            Self::NextDisk => "next_disk",
            Self::Room => "room",
            Self::Works => "works",
            Self::Writable => "writable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_and_as_str_spell_a_reason_alike() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    #[test]
    fn serde_and_as_str_spell_a_cause_alike() {
        for cause in
            [Cause::PathMissing, Cause::NotAFolder, Cause::OffDisk, Cause::NextDisk, Cause::FileTooLarge]
        {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
        }
    }
}

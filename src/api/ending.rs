//! How a recording ended, and what a user interface shows of that.
//!
//! Owns: the outcomes, the closed list of reasons, and the keys of the texts for people, in every language that a phone
//! speaks. Never: decides how a recording ended.

use super::reason::{Cause, Reason};
use serde::{Deserialize, Serialize};

/// How much of the audio that was to be kept is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All that came, until somebody ended it.
    Complete,
    /// Some of it: the rest was lost here, or came after the recording ended by itself.
    Partial,
    /// No audio is in any file, nor at a server.
    Nothing,
}

impl Outcome {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Nothing => "nothing",
        }
    }
}

/// What ends a recording without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// `record.stop`.
    Stopped,
    /// `storage.eject`.
    Ejected,
    /// The agent was told to end.
    Shutdown,
    /// The recording server ended it; its own words are in `detail`.
    StoppedByServer,
    /// The PBX knows the call no more.
    CallGone,
}

impl Order {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Stopped, Self::Ejected, Self::Shutdown, Self::StoppedByServer, Self::CallGone];

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Ejected => "ejected",
            Self::Shutdown => "shutdown",
            Self::StoppedByServer => "stopped_by_server",
            Self::CallGone => "call_gone",
        }
    }
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum EndReason {
    /// Somebody ended it.
    Order(Order),
    /// It could not go on.
    Failure(Reason),
}

impl EndReason {
    /// The failures that can end a recording; the other reasons are of requests alone.
    pub const FAILURES: [Reason; 8] = [
        Reason::StorageFull,
        Reason::StorageReadOnly,
        Reason::StorageIo,
        Reason::PermissionDenied,
        Reason::ServerTimeout,
        Reason::ServerRefused,
        Reason::UplinkLost,
        Reason::UnsupportedByServer,
    ];

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Order(order) => order.as_str(),
            Self::Failure(reason) => reason.as_str(),
        }
    }

    /// Whether more audio was wanted when the recording ended.
    #[must_use]
    pub fn cuts_off(self) -> bool {
        match self {
            Self::Order(Order::Stopped | Order::Ejected | Order::CallGone) => false,
            Self::Order(Order::Shutdown | Order::StoppedByServer) | Self::Failure(_) => true,
        }
    }
}

impl From<Order> for EndReason {
    fn from(order: Order) -> Self {
        Self::Order(order)
    }
}

impl From<Reason> for EndReason {
    fn from(reason: Reason) -> Self {
        Self::Failure(reason)
    }
}

/// All that is to be known of the end of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ending {
    /// How much is kept.
    pub outcome: Outcome,
    /// Why it ended.
    pub reason: EndReason,
    /// What was the matter with the disk; `None` if it was something else.
    pub cause: Option<Cause>,
    /// The server's or the system's own words.
    pub detail: Option<String>,
    /// What to show; `None`: nothing, all is well.
    pub text_key: Option<TextKey>,
}

/// Key of a text that a user interface shows when something went wrong, in the language of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TextKey {
    /// No disk.
    StorageAbsent,
    /// The folder is missing.
    StoragePathMissing,
    /// It may not be recorded to what is no stick.
    StorageNotRemovable,
    /// It was ejected.
    StorageEjected,
    /// It was pulled.
    StoragePulled,
    /// A file stands in the folder's place.
    StorageNotAFolder,
    /// The folder is a link to elsewhere.
    StorageOffDisk,
    /// The rights are missing.
    StorageDenied,
    /// It is full.
    StorageFull,
    /// No file may grow so far.
    StorageFileTooLarge,
    /// It is write-protected.
    StorageReadOnly,
    /// It gives errors.
    StorageBroken,
    /// It does not answer.
    StorageSilent,
    /// The server can't be reached.
    ServerUnreachable,
    /// The server does not answer.
    ServerTimeout,
    /// The server refused; its words are in `detail`.
    ServerRefused,
    /// The server ended the recording; its words are in `detail`.
    StoppedByServer,
    /// The connection to the server broke.
    UplinkLost,
    /// The server failed, and the recording goes on to the disk.
    GoesOnLocally,
    /// The PBX does not answer.
    PbxTimeout,
    /// The PBX refused.
    PbxRefused,
    /// The PBX can't do it.
    UnsupportedByServer,
    /// No audio came.
    NoMedia,
    /// What came is encrypted.
    MediaEncrypted,
    /// What came can't be recorded.
    MediaWrongPayloadType,
    /// Audio was lost on our side.
    AudioLost,
    /// The agent ended.
    Shutdown,
    /// Something is not set up.
    NotConfigured,
    /// The codec can't be recorded.
    UnsupportedCodec,
    /// There are too many.
    TooManyRecordings,
    /// The file can't be read.
    FileDamaged,
    /// The file is encrypted.
    FileEncrypted,
    /// The system does not allow it.
    PermissionDenied,
}

impl TextKey {
    /// The text for what went wrong; none for what is a slip of the user interface itself. `cause` is that of the error.
    #[must_use]
    pub fn of(reason: Reason, cause: Option<&str>) -> Option<Self> {
        Some(match (reason, cause.unwrap_or_default()) {
            (_, "absent") => Self::StorageAbsent,
            (_, "path_missing") => Self::StoragePathMissing,
            (_, "not_removable") => Self::StorageNotRemovable,
            (_, "ejected") => Self::StorageEjected,
            (_, "pulled") => Self::StoragePulled,
            (_, "not_a_folder") => Self::StorageNotAFolder,
            (_, "off_disk") => Self::StorageOffDisk,
            (_, "denied") => Self::StorageDenied,
            (_, "file_too_large") => Self::StorageFileTooLarge,
            (_, "encrypted") => Self::FileEncrypted,
            (Reason::NoStorage, _) => Self::StorageAbsent,
            (Reason::StorageFull, _) => Self::StorageFull,
            (Reason::StorageReadOnly, _) => Self::StorageReadOnly,
            (Reason::StorageIo, _) => Self::StorageBroken,
            (Reason::ServerUnreachable, _) => Self::ServerUnreachable,
            (Reason::ServerTimeout, _) => Self::ServerTimeout,
            (Reason::ServerRefused, _) => Self::ServerRefused,
            (Reason::UplinkLost, _) => Self::UplinkLost,
            (Reason::NotConfigured, _) => Self::NotConfigured,
            (Reason::UnsupportedCodec, _) => Self::UnsupportedCodec,
            (Reason::UnsupportedByServer, _) => Self::UnsupportedByServer,
            (Reason::TooManyRecordings, _) => Self::TooManyRecordings,
            (Reason::FileDamaged, _) => Self::FileDamaged,
            (Reason::PermissionDenied, _) => Self::PermissionDenied,
            (Reason::NotRecording | Reason::NotFound | Reason::InvalidState, _) => return None,
        })
    }

    /// The same where the PBX records: what is said of a server is said of it.
    #[must_use]
    pub fn of_pbx(reason: Reason) -> Option<Self> {
        match reason {
            Reason::ServerTimeout => Some(Self::PbxTimeout),
            Reason::ServerRefused => Some(Self::PbxRefused),
            other => Self::of(other, None),
        }
    }
}

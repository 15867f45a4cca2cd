//! The ending of a recording, and the text that a user interface shows for it.
//!
//! Owns: the outcomes, the closed list of reasons, and the keys of the texts for people, in every language
//! that a phone speaks. Never: decides how a recording ended.

use super::reason::{Cause, Reason};
use serde::{Deserialize, Serialize};

/// The part of the audio that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All audio that came, up to an end by request.
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

/// An order that ends a recording without a failure.
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

/// The full description of the end of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ending {
    /// The part that is kept.
    pub outcome: Outcome,
    /// Why it ended.
    pub reason: EndReason,
    /// The cause at the disk; `None` if it was something else.
    pub cause: Option<Cause>,
    /// The server's or the system's own words.
    pub detail: Option<String>,
    /// The text to show; `None`: none, all is well.
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
    /// It is no stick, and only sticks may be recorded to.
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
    /// The media is encrypted.
    MediaEncrypted,
    /// The media has a payload type that can't be recorded.
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
    /// The text for a failure; none for a request that a user interface made out of old knowledge.
    #[must_use]
    pub fn of(reason: Reason, cause: Option<Cause>) -> Option<Self> {
        cause.and_then(Self::of_cause).or(match reason {
            Reason::NoStorage => Some(Self::StorageAbsent),
            Reason::StorageFull => Some(Self::StorageFull),
            Reason::StorageReadOnly => Some(Self::StorageReadOnly),
            Reason::StorageIo => Some(Self::StorageBroken),
            Reason::ServerUnreachable => Some(Self::ServerUnreachable),
            Reason::ServerTimeout => Some(Self::ServerTimeout),
            Reason::ServerRefused => Some(Self::ServerRefused),
            Reason::UplinkLost => Some(Self::UplinkLost),
            Reason::NotConfigured => Some(Self::NotConfigured),
            Reason::UnsupportedCodec => Some(Self::UnsupportedCodec),
            Reason::UnsupportedByServer => Some(Self::UnsupportedByServer),
            Reason::TooManyRecordings => Some(Self::TooManyRecordings),
            Reason::FileDamaged => Some(Self::FileDamaged),
            Reason::PermissionDenied => Some(Self::PermissionDenied),
            Reason::NotRecording | Reason::NotFound | Reason::InvalidState => None,
        })
    }

    /// The text for a trouble of the disk; none for a change for the better.
    fn of_cause(cause: Cause) -> Option<Self> {
        match cause {
            Cause::Absent => Some(Self::StorageAbsent),
            Cause::PathMissing => Some(Self::StoragePathMissing),
            Cause::NotAFolder => Some(Self::StorageNotAFolder),
            Cause::OffDisk => Some(Self::StorageOffDisk),
            Cause::NotRemovable => Some(Self::StorageNotRemovable),
            Cause::Denied => Some(Self::StorageDenied),
            Cause::Ejected => Some(Self::StorageEjected),
            Cause::Pulled => Some(Self::StoragePulled),
            Cause::Full => Some(Self::StorageFull),
            Cause::FileTooLarge => Some(Self::StorageFileTooLarge),
            Cause::ReadOnly => Some(Self::StorageReadOnly),
            Cause::Broken => Some(Self::StorageBroken),
            Cause::Encrypted => Some(Self::FileEncrypted),
            Cause::Inserted | Cause::NextDisk | Cause::Room | Cause::Works | Cause::Writable => None,
        }
    }

    /// The same where the PBX records: the texts about a server are then about the PBX.
    #[must_use]
    pub fn of_pbx(reason: Reason) -> Option<Self> {
        match reason {
            Reason::ServerTimeout => Some(Self::PbxTimeout),
            Reason::ServerRefused => Some(Self::PbxRefused),
            other => Self::of(other, None),
        }
    }
}

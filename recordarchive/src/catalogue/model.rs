//! The values that go into the catalogue and come out of it, the same for every database.

pub(crate) use super::deletions::{Deletion, DeletionPage, Doomed, Trash, Verdict};
pub(crate) use super::holds::{Decision, Hold, HoldPage, Kept, Released, Scope, Step};
pub(crate) use super::place::Place;
use super::same::Same;
use crate::id::Id;
pub(crate) use crate::query::Search;
use crate::retention::Fate;
use recfile::call::Direction;

/// A file as a look at it found it, ready to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its place.
    pub(crate) place: Place,
    /// The phone; empty if it is not known.
    pub(crate) device: String,
    /// The site.
    pub(crate) site: String,
    /// `uplink`, `phone-usb`, `import`.
    pub(crate) source: &'static str,
    /// The id that the recorder gave the recording.
    pub(crate) recording: String,
    /// Number of the file within the recording, from 1.
    pub(crate) segment: u32,
    /// The phone's id of the call; empty if it has none.
    pub(crate) external_id: String,
    /// The direction: who called.
    pub(crate) direction: Option<Direction>,
    /// The other side.
    pub(crate) remote: Party,
    /// The phone's side.
    pub(crate) local: Party,
    /// Codec.
    pub(crate) codec: String,
    /// The start.
    pub(crate) started_us: i64,
    /// Playing time.
    pub(crate) duration_ms: i64,
    /// Octets of payload in it.
    pub(crate) audio_octets: i64,
    /// Payload lies behind the header as it is, without packet headers.
    pub(crate) is_plain: bool,
    /// SHA-256 of the octets behind the header.
    pub(crate) sha256: [u8; 32],
    /// Silence in place of audio.
    pub(crate) gap_ms: i64,
    /// Packets that never came.
    pub(crate) lost: i64,
    /// The reason of its end; empty if it is unknown.
    pub(crate) end_reason: String,
    /// It can't be read without a key.
    pub(crate) encrypted: bool,
    /// Holds that its sidecar has.
    pub(crate) holds: Vec<Decision>,
}

/// The end of the name of a file that the archive encrypted.
pub(crate) const ENCRYPTED_ENDING: &str = ".age";

/// The name that the recorder gave a file, whether the archive encrypted it or not.
pub(crate) fn plain_name(name: &str) -> &str {
    name.strip_suffix(ENCRYPTED_ENDING).unwrap_or(name)
}

impl Place {
    /// Whether the archive encrypted it.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.name.ends_with(ENCRYPTED_ENDING)
    }
}

/// One side of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Party {
    /// Number as it was told.
    pub(crate) number: String,
    /// Its digits, as they are looked for.
    pub(crate) digits: String,
    /// Name.
    pub(crate) name: String,
}

impl Party {
    /// The extension that decides whose call it is, if this is its local side.
    pub(crate) fn extension(&self) -> &str {
        if self.digits.is_empty() { &self.number } else { &self.digits }
    }
}

/// A file that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Its place.
    pub(crate) place: Place,
    /// The reason, for a person.
    pub(crate) reason: String,
    /// The time at which that was found.
    pub(crate) since_us: i64,
}

/// The result of taking in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the catalogue now.
    Added {
        /// Its recording.
        recording: Id,
    },
    /// It was there, and is as it is now.
    Updated {
        /// Its recording.
        recording: Id,
    },
    /// The same recording, segment and audio is there from another file.
    Duplicate,
    /// Another file says that it is this segment of this recording, and has other audio.
    Conflict,
}

/// A file that the catalogue knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownFile {
    /// Name of the file.
    pub(crate) name: String,
    /// As it was when it was looked at.
    pub(crate) octets: i64,
    /// As it was when it was looked at.
    pub(crate) modified_ms: i64,
    /// As it was when it was looked at.
    pub(crate) sidecar_ms: i64,
    /// It was not there at the last look.
    pub(crate) missing: bool,
}

/// A segment, for checks of all files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    /// Place in the order of all.
    pub(crate) place: (i64, u32),
    /// Root, folder and name.
    pub(crate) file: Place,
    /// SHA-256 of its audio.
    pub(crate) sha256: Vec<u8>,
    /// It was not there at the last look.
    pub(crate) missing: bool,
    /// The wrapped identity of its recording, if it has one.
    pub(crate) key: Option<Vec<u8>>,
}

/// The totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Recordings.
    pub(crate) recordings: i64,
    /// Files that can't be taken.
    pub(crate) quarantine: i64,
    /// Segments whose file is not there.
    pub(crate) missing: i64,
    /// Accounts.
    pub(crate) accounts: i64,
}

/// An event as it is in a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventBrief {
    /// Its id.
    pub(crate) id: String,
    /// The kind.
    pub(crate) kind: String,
    /// The title.
    pub(crate) title: String,
    /// The system.
    pub(crate) source: String,
    /// The start.
    pub(crate) from_us: i64,
    /// The end.
    pub(crate) to_us: i64,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// The calls.
    pub(crate) calls: Vec<CallView>,
    /// Key of the last one, if more follow.
    pub(crate) next: Option<i64>,
}

/// A call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallView {
    /// Its place in the order of time.
    pub(crate) key: i64,
    /// Its id.
    pub(crate) id: String,
    /// The phone's id of it.
    pub(crate) external_id: String,
    /// The direction: who called.
    pub(crate) direction: Option<Direction>,
    /// The start.
    pub(crate) started_us: i64,
    /// The length.
    pub(crate) duration_ms: i64,
    /// The other side.
    pub(crate) remote: Party,
    /// The phone's side.
    pub(crate) local: Party,
    /// The phone.
    pub(crate) device: String,
    /// The site.
    pub(crate) site: String,
    /// Tags.
    pub(crate) tags: Vec<String>,
    /// Notes, the oldest first.
    pub(crate) notes: Vec<Note>,
    /// Events of other systems that it belongs to, the oldest first.
    pub(crate) events: Vec<EventBrief>,
    /// Holds that keep it, the oldest first.
    pub(crate) holds: Vec<Decision>,
    /// The result of the policies for it.
    pub(crate) fate: Fate,
    /// It is in the trash.
    pub(crate) trash: Option<Trash>,
    /// Calls that are perhaps the same one; of a single call alone.
    pub(crate) same: Vec<Same>,
    /// Recordings.
    pub(crate) recordings: Vec<RecordingView>,
}

/// A recording of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordingView {
    /// Its id.
    pub(crate) id: String,
    /// The id that its recorder gave it.
    pub(crate) recording: String,
    /// Its origin.
    pub(crate) source: String,
    /// Codec.
    pub(crate) codec: String,
    /// Playing time.
    pub(crate) duration_ms: i64,
    /// Files.
    pub(crate) segments: i64,
    /// Silence in place of audio.
    pub(crate) gap_ms: i64,
    /// Packets that never came.
    pub(crate) lost: i64,
    /// The reason of its end.
    pub(crate) end_reason: String,
    /// It can't be read without a key.
    pub(crate) encrypted: bool,
    /// A file of it is not there.
    pub(crate) missing: bool,
    /// SHA-256 of the audio; of several segments that of their hashes in order.
    pub(crate) sha256: String,
}

/// A note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// Its id.
    pub(crate) id: String,
    /// The text.
    pub(crate) text: String,
    /// Position in the call that it is about.
    pub(crate) at_ms: Option<i64>,
    /// The author.
    pub(crate) by: String,
    /// The time.
    pub(crate) written_us: i64,
    /// The id of the note in whose place it is.
    pub(crate) supersedes: Option<String>,
}

/// The files of a recording, for playing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordingMedia {
    /// The recording.
    pub(crate) id: Id,
    /// The call's id.
    pub(crate) call: String,
    /// Codec.
    pub(crate) codec: String,
    /// It can't be read without a key.
    pub(crate) encrypted: bool,
    /// Its wrapped identity, if the archive encrypts it.
    pub(crate) key: Option<Vec<u8>>,
    /// Its files, in order.
    pub(crate) segments: Vec<Segment>,
}

/// A file of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Number, from 1.
    pub(crate) number: u32,
    /// Its place.
    pub(crate) file: Place,
    /// Octets of payload.
    pub(crate) audio_octets: u64,
    /// Payload lies behind the header as it is.
    pub(crate) is_plain: bool,
    /// SHA-256 of its audio.
    pub(crate) sha256: Vec<u8>,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its id.
    pub(crate) id: Id,
    /// Its name.
    pub(crate) name: String,
    /// The stored password; `None` if there is none.
    pub(crate) password: Option<String>,
    /// Nobody may use it any more.
    pub(crate) disabled: bool,
}

/// A session of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// SHA-256 of its key.
    pub(crate) key_hash: Vec<u8>,
    /// The account that it belongs to.
    pub(crate) account: Id,
    /// The start.
    pub(crate) began_us: i64,
}

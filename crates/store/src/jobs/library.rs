//! The jobs of the storage thread about finished recordings, and its answers.
//!
//! Owns: the vocabulary of the library and of playback. Names are names of files in the recording folder,
//! never paths. Every job is small enough that recording jobs behind it hardly wait.

use super::fault::Fault;
use super::file::{Folder, Recovered};
use media::blocks::Block;
use media::time::Wall;
use recfile::call::Call;
use recfile::format::{Facts, Format};
use recfile::sidecar::Sidecar;

/// Names one question whose answer somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// Names one playback of this run of the agent. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaybackKey(pub u64);

/// One thing to do with recordings on the disk.
#[derive(Debug)]
pub enum LibraryJob {
    /// Look at the next files, newest names first, and make those whole that a crash cut off.
    Index(Index),
    /// Tell everything about one file.
    Info {
        /// The question.
        ask: AskId,
        /// The folder.
        folder: Folder,
        /// Its name.
        file: String,
    },
    /// Delete a file and its sidecar.
    Delete {
        /// The question.
        ask: AskId,
        /// The folder.
        folder: Folder,
        /// Its name.
        file: String,
    },
    /// Note in the sidecar whether a file is to be kept when room is made.
    Protect {
        /// The question.
        ask: AskId,
        /// The folder.
        folder: Folder,
        /// Its name.
        file: String,
        /// Whether it is.
        protected: bool,
    },
    /// Look at the files that are to be played as one.
    OpenPlay {
        /// The question.
        ask: AskId,
        /// The folder.
        folder: Folder,
        /// Their names in the order of playing.
        files: Vec<String>,
    },
    /// Read payloads.
    ReadFrames(ReadFrames),
    /// These files are being played and not to be deleted to make room; until the next of these jobs.
    Keep(Vec<String>),
}

/// One step of a pass over the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Which pass; comes back with the answer.
    pub pass: u64,
    /// The folder.
    pub folder: Folder,
    /// Begin behind this name; `None`: with the newest.
    pub after: Option<String>,
    /// Files at most.
    pub limit: usize,
    /// Whether the files are to be described, not only made whole.
    pub describe: bool,
}

/// The answer to [`Index`].
#[derive(Debug, Default)]
pub struct Indexed {
    /// Which pass.
    pub pass: u64,
    /// The files, if they were to be described; those that are being written are left out.
    pub found: Vec<FileSummary>,
    /// Files that had been left unfinished and are not any more.
    pub recovered: Vec<Recovered>,
    /// The place to go on at; `None` at the end of the folder.
    pub next: Option<String>,
    /// The names of the folder are not all read yet: the same step is to be asked for again.
    pub unfinished: bool,
}

/// The next stretch of a file that is being played.
#[derive(Debug)]
pub struct ReadFrames {
    /// For whom.
    pub playback: PlaybackKey,
    /// Counts the seeks of the playback, so that an answer from before one is told apart.
    pub generation: u32,
    /// The folder.
    pub folder: Folder,
    /// Its name.
    pub file: String,
    /// The format of the file.
    pub format: Format,
    /// First frame, counted from 0.
    pub first: u64,
    /// Takes as many frames as fit.
    pub block: Block,
}

/// The reason for which there is no answer about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LibraryError {
    /// There is no such recording.
    NotFound,
    /// It is being written, by this agent or another program.
    Busy,
    /// It is no recording, and why.
    Damaged(String),
    /// It is encrypted, to a key that is not here.
    Encrypted,
    /// The disk failed.
    Fault(Fault),
}

/// One file, as far as a list needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSummary {
    /// Its name.
    pub file: String,
    /// Length, header included.
    pub octets: u64,
    /// Last change, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
    /// Its contents; `None` if it does not begin like a recording.
    pub facts: Option<Facts>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The summary of its sidecar.
    pub sidecar: Option<SidecarSummary>,
}

/// The fields of a sidecar that a list needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SidecarSummary {
    /// Id of the recording, empty if it has none.
    pub recording: String,
    /// Number in the recording.
    pub segment: u32,
    /// The call.
    pub call: Call,
    /// The start of the file.
    pub start: Option<Wall>,
    /// Kept when room is made.
    pub protected: bool,
}

impl From<&Sidecar> for SidecarSummary {
    fn from(sidecar: &Sidecar) -> Self {
        Self {
            recording: sidecar.recording.clone(),
            segment: sidecar.segment,
            call: sidecar.call.clone(),
            start: Wall::from_rfc3339(&sidecar.start),
            protected: sidecar.protected,
        }
    }
}

/// Everything about one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Details {
    /// As in a list.
    pub found: FileSummary,
    /// Its sidecar.
    pub sidecar: Option<Sidecar>,
    /// The fault of its beginning, if it does not begin like a recording.
    pub damage: Option<String>,
}

/// The data that a playback needs about one of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Playable {
    /// Its name.
    pub file: String,
    /// Its format.
    pub format: Format,
    /// Whole frames in it now.
    pub frames: u64,
}

/// The answer to a [`LibraryJob`].
#[derive(Debug)]
pub enum LibraryDone {
    /// To `Index`.
    Indexed(Indexed),
    /// To `Info`.
    Info(AskId, Result<Box<Details>, LibraryError>),
    /// To `Delete`.
    Deleted(AskId, Result<(), LibraryError>),
    /// To `Protect`.
    Protected(AskId, Result<Box<FileSummary>, LibraryError>),
    /// To `OpenPlay`: each file or why it can't be played.
    Opened(AskId, Vec<Result<Playable, LibraryError>>),
    /// To `ReadFrames`.
    Read(FramesRead),
    /// To `Keep`.
    Kept,
}

/// The answer to [`ReadFrames`].
#[derive(Debug)]
pub struct FramesRead {
    /// For whom.
    pub playback: PlaybackKey,
    /// As in the question.
    pub generation: u32,
    /// As in the question.
    pub first: u64,
    /// Payloads one after another, no RTP headers.
    pub block: Block,
    /// Whole frames that the file has now, or the error.
    pub result: Result<u64, LibraryError>,
}

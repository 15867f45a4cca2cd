//! The jobs of the storage thread, and its answers.
//!
//! Owns: the vocabulary between the agent, which decides, and storage, which does. Pure data. Invariant:
//! every [`Job`] is answered by exactly one [`Done`], in the order of the jobs.

mod disk;
mod fault;
mod file;
pub mod library;
pub mod server;

pub use disk::{Disk, Eject, Ejected, Found, Left, Look, Missing, Space, Speed, StickId, Target};
pub use fault::{Fault, FaultKind};
pub use file::{FileKey, Finalise, FinaliseOutcome, Folder, Open, Opened, Recovered};
pub use media::blocks::Piece;

use library::{LibraryDone, LibraryJob};
use recfile::sidecar::Sidecar;
use server::{ServerDone, ServerJob};
use std::time::Duration;

/// One thing to do.
#[derive(Debug)]
pub enum Job {
    /// Look where recordings could go.
    Scan(Look),
    /// Create a file.
    Open(Open),
    /// Write `pieces` at the end of `file`; with `flush`, make them durable and bring `dataSize` up to date.
    Append {
        /// The file.
        file: FileKey,
        /// The pieces to write.
        pieces: Vec<Piece>,
        /// Whether to sync.
        flush: bool,
    },
    /// Finish `file`: pad the last frame, exact `dataSize`, final sidecar, everything on the disk.
    Close {
        /// The file.
        file: FileKey,
        /// Final sidecar; `file`, `data_bytes` and `duration_ms` are filled in.
        sidecar: Box<Sidecar>,
    },
    /// Forget `file` without touching the disk: it is gone.
    Abandon(FileKey),
    /// Bring a file that lost its disk in mid-recording to the length that its recording counts on, now that
    /// the disk is back.
    Finalise(Box<Finalise>),
    /// Write and sync a little in a hidden file, delete it, and tell how fast that was.
    MeasureSpeed(Folder),
    /// Delete the oldest finalised recording in the folder.
    DeleteOldest {
        /// The folder.
        folder: Folder,
        /// Ids of the calls that are running: between two files of one, storage has none of it open.
        running: Vec<String>,
    },
    /// Sync the disk and undo all of its mounts, if it can be pulled.
    Eject(Eject),
    /// Something about finished recordings.
    Library(LibraryJob),
    /// A job of a server.
    Server(ServerJob),
}

/// The answer to one job.
#[derive(Debug)]
pub enum Done {
    /// To `Scan`.
    Scanned(Found),
    /// To `Open`.
    Opened {
        /// The file.
        file: FileKey,
        /// Its path below the recording folder, or why it could not be created.
        result: Result<Opened, Fault>,
    },
    /// To `Append`.
    Appended {
        /// The file.
        file: FileKey,
        /// The pieces again: after an error as they were, otherwise only their blocks count.
        pieces: Vec<Piece>,
        /// Octets of audio in the file that are durable, whether or not there was an error.
        durable_octets: u64,
        /// The time that the disk took.
        took: Duration,
        /// Room left if it was looked at, or why writing failed; the file takes no more then.
        result: Result<Option<Space>, Fault>,
    },
    /// To `Close`.
    Closed {
        /// The file.
        file: FileKey,
        /// Room left, or the fault; the file is closed in any case.
        result: Result<Option<Space>, Fault>,
    },
    /// To `Abandon`.
    Abandoned(FileKey),
    /// To `Finalise`.
    Finalised {
        /// The key that the file had.
        file: FileKey,
        /// The outcome.
        result: Result<FinaliseOutcome, Fault>,
    },
    /// To `MeasureSpeed`; `None` if the disk was busy with a recording.
    SpeedMeasured(Result<Option<Speed>, Fault>),
    /// To `DeleteOldest`.
    Deleted {
        /// The deleted file, if there was one to delete.
        file: Option<String>,
        /// Room left.
        space: Option<Space>,
    },
    /// To `DeleteOldest`: the folder is not all looked through yet. To be asked for again; other jobs go
    /// first.
    Searching,
    /// To `Eject`; an error if it could not be synced.
    Ejected(Result<Ejected, Fault>),
    /// To `Library`.
    Library(LibraryDone),
    /// [`Job::Server`].
    Server(ServerDone),
}

impl Done {
    /// Whether the agent has to know at once; the rest is picked up at its next turn, which saves a
    /// wake-up a second for every call.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        !matches!(self, Self::Appended { result: Ok(_), .. } | Self::Abandoned(_))
    }
}

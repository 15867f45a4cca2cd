//! What only a server asks of its disk: what of its recordings is durable, and what of an interrupted one is
//! there.

use super::{Fault, Folder};
use sha2::{Digest, Sha256};

/// Names a recording by a part of its id's SHA-256: always as long, whatever the id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RecordingMark(pub [u8; 8]);

impl RecordingMark {
    /// The mark of a recording with this id.
    #[must_use]
    pub fn of(recording: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(recording.as_bytes()).into();
        let mut mark = [0; 8];
        mark.iter_mut().zip(hash).for_each(|(mark, octet)| *mark = octet);
        Self(mark)
    }
}

/// A job of a server.
#[derive(Debug)]
pub enum ServerJob {
    /// Tell when everything that was given to the disk before is durable.
    Confirm(u64),
    /// Look for the files of a recording.
    Find {
        /// To be repeated in the answer.
        ask: u64,
        /// The folder of its files.
        folder: Folder,
        /// The recording.
        mark: RecordingMark,
    },
}

/// The files of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundRecording {
    /// Its id; empty if there is no file.
    pub recording: String,
    /// The number of each file within the recording, and its octets of audio; in order.
    pub segments: Vec<(u32, u64)>,
}

/// The answer to one.
#[derive(Debug)]
pub enum ServerDone {
    /// A checkpoint has covered everything before the job.
    Confirmed {
        /// The job's number.
        number: u64,
        /// Whether all of it is durable; what went wrong is told with the files.
        is_durable: bool,
    },
    /// The files of a recording.
    Found {
        /// As in the job.
        ask: u64,
        /// What there is.
        result: Result<FoundRecording, Fault>,
    },
}

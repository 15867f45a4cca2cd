//! Which files are being written by this process: others leave them alone.

use std::path::Path;

/// The files that are written.
pub(super) trait OpenFiles {
    /// Whether this file is one of them.
    fn is_open(&self, folder: &Path, name: &str) -> bool;
    /// Whether one of them belongs to this recording.
    fn is_recording(&self, recording: &str) -> bool;
}

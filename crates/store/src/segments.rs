//! The files of one recording, found again by a server that was started anew.
//!
//! Owns: the look through a folder. Invariant: it ends, however many files there are.

use super::fault::fault;
use super::fs::Fs;
use crate::jobs::server::{FoundRecording, RecordingMark};
use crate::jobs::{Fault, Folder};
use recfile::header::HEADER_OCTETS;
use recfile::name::{is_record_file_name, sidecar_name};
use recfile::sidecar::{MAX_SIDECAR_OCTETS, Sidecar};
use std::io;

/// The newest files of a folder, by name, that are looked at: a day of a device has far fewer.
const MAX_LOOKED_AT: usize = 4096;

/// The files of the recording with this mark in `folder`.
///
/// # Errors
/// The folder, or a file of the recording, can't be read.
pub(crate) fn find<F: Fs>(fs: &F, folder: &Folder, mark: RecordingMark) -> Result<FoundRecording, Fault> {
    let path = folder.path();
    let mut names = Vec::new();
    let listed =
        fs.names(&path, &mut |name| names.extend(is_record_file_name(name).then(|| name.to_owned())));
    match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FoundRecording::default()),
        listed => listed.map_err(|error| fault("list", &path, &error))?,
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    let mut found = FoundRecording::default();
    for name in names.iter().take(MAX_LOOKED_AT) {
        let octets = fs.read(&path.join(sidecar_name(name)), MAX_SIDECAR_OCTETS + 1).ok();
        let Some(sidecar) = octets.and_then(|octets| Sidecar::parse(&octets).ok()) else { continue };
        if RecordingMark::of(&sidecar.recording) != mark {
            continue;
        }
        let file = path.join(name);
        let octets = fs.open_read(&file).and_then(|handle| fs.len(&handle));
        let octets = octets.map_err(|error| fault("look at", &file, &error))?;
        found.recording = sidecar.recording;
        found.segments.push((sidecar.segment, octets.saturating_sub(HEADER_OCTETS as u64)));
    }
    found.segments.sort_unstable();
    Ok(found)
}

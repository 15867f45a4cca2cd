//! Sidecars on the disk: read, and replaced whole or not at all.
//!
//! Owns: the name that a sidecar has while it is written, and leftovers of power cuts under such names. A
//! sidecar is staged under its temporary name and put in place by a rename; the caller decides about syncs in
//! between.

use super::fault::fault;
use super::fs::{Fs, append_all};
use crate::jobs::Fault;
use recfile::name::{is_record_file_name, sidecar_name};
use recfile::sidecar::{MAX_SIDECAR_OCTETS, Sidecar};
use std::io::{self, IoSlice};
use std::path::Path;

/// The prefix and suffix of a sidecar's name while it is being written.
const TEMPORARY: (&str, &str) = (".", ".tmp");

/// Removed at a time: more than power cuts leave.
pub(super) const MAX_LEFTOVERS: usize = 64;

/// The name of the sidecar of `wav_name` while it is being written.
#[must_use]
pub fn temporary_name(wav_name: &str) -> String {
    format!("{}{}{}", TEMPORARY.0, sidecar_name(wav_name), TEMPORARY.1)
}

/// Whether `name` is a sidecar that was being written when the power went.
pub(super) fn is_leftover(name: &str) -> bool {
    let inner = name.strip_prefix(TEMPORARY.0).and_then(|name| name.strip_suffix(TEMPORARY.1));
    let stem = inner.and_then(|name| name.strip_suffix(".json"));
    stem.is_some_and(|stem| is_record_file_name(&format!("{stem}.wav")))
}

/// Removes sidecars that were being written when the power went. Called between two jobs, so that none of
/// this process is under way.
pub(super) fn remove_leftovers<F: Fs>(fs: &F, folder: &Path, names: &[String]) {
    for name in names {
        let _ = fs.remove(&folder.join(name));
    }
}

/// The sidecar of `name`, as it is; `None` if there is none.
pub(super) fn read_sidecar<F: Fs>(fs: &F, folder: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    match fs.read(&folder.join(sidecar_name(name)), MAX_SIDECAR_OCTETS + 1) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Writes the sidecar of `wav_name` under its temporary name.
///
/// # Errors
/// As the system says; the temporary file is gone then.
pub fn stage<F: Fs>(fs: &F, folder: &Path, wav_name: &str, sidecar: &Sidecar) -> io::Result<F::File> {
    let temporary = folder.join(temporary_name(wav_name));
    let staged = create_anew(fs, &temporary).and_then(|mut handle| {
        append_all(fs, &mut handle, &mut [IoSlice::new(&sidecar.to_json())], &mut 0)?;
        Ok(handle)
    });
    staged.inspect_err(|_| {
        let _ = fs.remove(&temporary);
    })
}

/// Puts a staged sidecar in place.
///
/// # Errors
/// As the system says.
pub fn commit<F: Fs>(fs: &F, folder: &Path, wav_name: &str) -> io::Result<()> {
    fs.rename(&folder.join(temporary_name(wav_name)), &folder.join(sidecar_name(wav_name)))
}

/// Replaces the sidecar of `wav_name`, durably and whole or not at all.
///
/// # Errors
/// As the system says; the one before is as it was then.
pub fn replace<F: Fs>(fs: &F, folder: &Path, wav_name: &str, sidecar: &Sidecar) -> io::Result<()> {
    let handle = stage(fs, folder, wav_name, sidecar)?;
    let in_place = (|| {
        fs.sync_data(&handle)?;
        commit(fs, folder, wav_name)?;
        // vfat gives the new name size 0 until the file is synced once more.
        fs.sync_data(&handle)
    })();
    if in_place.is_err() {
        let _ = fs.remove(&folder.join(temporary_name(wav_name)));
    }
    in_place
}

/// The same; the fault names the file.
pub(super) fn replace_or_fault<F: Fs>(
    fs: &F,
    folder: &Path,
    wav_name: &str,
    sidecar: &Sidecar,
) -> Result<(), Fault> {
    let failed = |error: io::Error| fault("write", &folder.join(sidecar_name(wav_name)), &error);
    replace(fs, folder, wav_name, sidecar).map_err(failed)
}

/// Creates a file of ours whose content nobody needs, in place of one that a crash left.
///
/// # Errors
/// As the system says.
pub fn create_anew<F: Fs>(fs: &F, path: &Path) -> io::Result<F::File> {
    match fs.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs.remove(path)?;
            fs.create(path)
        }
        created => created,
    }
}

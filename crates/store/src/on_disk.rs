//! Whether a folder is still on its disk, and why an operation on it really failed.

use super::disks::Disks;
use super::fault::fault;
use super::fs::Fs;
use crate::jobs::{Fault, FaultKind, Folder};
use std::path::Path;

/// A disk may be gone, and its mount point be a plain folder by now, in the RAM of a phone.
///
/// # Errors
/// [`FaultKind::NoStorage`] if the folder is not on its device any more.
pub fn check_device<F: Fs>(fs: &F, folder: &Folder) -> Result<(), Fault> {
    let device = fs.device(&folder.root);
    if device.as_ref().is_ok_and(|device| *device == folder.device) {
        return Ok(());
    }
    let detail = format!("the disk at {} is gone; put it back", folder.root.display());
    Err(Fault { kind: FaultKind::NoStorage, detail })
}

/// A link in the place of the folder may lead off the disk, into the memory of the phone.
///
/// # Errors
/// [`FaultKind::NoStorage`] if the disk is gone, [`FaultKind::OffDisk`] if the folder is on another one.
pub fn check_on_disk<F: Fs>(fs: &F, folder: &Folder) -> Result<(), Fault> {
    let path = folder.path();
    let device = fs.device(&path).map_err(|error| fault("look at", &path, &error))?;
    if device == folder.device {
        return Ok(());
    }
    check_device(fs, folder)?;
    let detail = format!("{} leads off the disk; make it a folder of the disk", path.display());
    Err(Fault { kind: FaultKind::OffDisk, detail })
}

/// A disk that was pulled gives the same errors as a broken one, or turns read-only, until somebody unmounts
/// it.
pub(super) fn why_really<F: Disks>(fs: &F, device: u64, fault: Fault) -> Fault {
    let pulled = matches!(fault.kind, FaultKind::Io | FaultKind::ReadOnly) && fs.is_pulled(device);
    Fault { kind: if pulled { FaultKind::Pulled } else { fault.kind }, ..fault }
}

/// Whether another program is at work on a file.
pub(super) fn is_locked<F: Fs>(fs: &F, path: &Path) -> bool {
    let file = fs.open_read(path);
    file.is_ok_and(|file| fs.lock(&file).is_ok_and(|free| !free))
}

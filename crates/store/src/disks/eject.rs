//! Making a disk safe to pull: synced, and mounted nowhere.
//!
//! Owns: which mounts belong to the disk, and undoing them. A stick may be mounted at several places, be
//! bound to others, and have several partitions; pulling it pulls them all. Invariants: never unmounted are a
//! disk that can't be pulled, the system's own disk, and mounts of others over the stick.

use super::scan::{Links, block_of, stick_of};
use crate::jobs::{Eject, Ejected, Left, StickId};
use crate::mounts::{self, Mount, is_reached, resolve};
use nix::errno::Errno;
use nix::sys::stat::{major, minor};
use os::sandbox;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Most attempts to unmount what is busy: a program that looks into a new disk does not take long.
const ATTEMPTS: u32 = 10;

/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Disks that one stick consists of.
const MAX_STICKS: usize = 8;

/// Mounts of one disk that are undone.
const MAX_MOUNTS: usize = 256;

/// Syncs the disk, and undoes its mounts if it can be pulled.
pub(super) fn eject(disk: &Eject) -> io::Result<Ejected> {
    os::sync_fs(&File::open(&disk.root)?)?;
    if !disk.removable {
        return Ok(Ejected::default());
    }
    let (mut attempts, mut undone) = (0, 0);
    let links = Links::read();
    let mut sticks: Vec<StickId> = links.sticks_of(&disk.group).collect();
    loop {
        let all = mounts::mounts()?;
        let ours: Vec<&Mount> = all.iter().filter(|mount| is_of(mount, disk, &links)).collect();
        sticks.extend(ours.iter().map(|mount| stick_of(mount)));
        sticks.sort();
        sticks.dedup();
        sticks.truncate(MAX_STICKS);
        if ours.iter().any(|mount| mount.point == Path::new("/")) {
            // The system runs from it: nobody pulls that.
            return Ok(Ejected::default());
        }
        let mut left = Vec::new();
        let mut progress = false;
        // The last mount is on top.
        for mount in ours.iter().rev() {
            match undo(mount, &all) {
                Ok(()) => (progress, undone) = (true, undone + 1),
                Err(why) => left.push(why),
            }
        }
        if left.is_empty() && !progress {
            return Ok(Ejected { unmounted: true, sticks, left });
        }
        if progress && undone < MAX_MOUNTS {
            // Mounts below may be reached now, and others may have mounted it anew.
            continue;
        }
        attempts += 1;
        if attempts >= ATTEMPTS || left.iter().all(|left| left.denied) {
            left.reverse();
            return Ok(Ejected { unmounted: false, sticks, left });
        }
        wait();
    }
}

#[allow(clippy::disallowed_methods, reason = "the storage thread may wait, and nothing is written meanwhile")]
fn wait() {
    std::thread::sleep(AGAIN_AFTER);
}

fn is_of(mount: &Mount, disk: &Eject, links: &Links) -> bool {
    if disk.stick.is_known() {
        return stick_of(mount) == disk.stick
            || (!disk.group.is_empty() && links.group_of(mount) == disk.group);
    }
    let number = |part: u64| u32::try_from(part).ok();
    let device = (number(major(disk.device)), number(minor(disk.device)));
    device == (Some(mount.device.0), Some(mount.device.1)) && block_of(mount).is_some()
}

/// Undoes one mount, or says why not.
fn undo(mount: &Mount, all: &[Mount]) -> Result<(), Left> {
    let point = &mount.point;
    let left = |why: String, denied| Left { point: point.clone(), why, denied };
    if !is_reached(all, mount) {
        let by = resolve(all, point).map_or_else(String::new, |by| format!(" ({})", by.filesystem));
        return Err(left(format!("something else{by} is mounted over it: unmount that first"), false));
    }
    // A place that we may not open is synced when it is unmounted.
    if let Ok(folder) = File::open(point) {
        os::sync_fs(&folder).map_err(|error| left(format!("it can't be synced ({error})"), false))?;
    }
    let Err(error) = sandbox::unmount(point) else { return Ok(()) };
    let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
    let on_it = all.iter().find(|other| other.parent == mount.id && other.id != mount.id);
    Err(match (errno, on_it) {
        // Undone by somebody else meanwhile.
        (Errno::EINVAL | Errno::ENOENT, _) => return Ok(()),
        (Errno::EPERM | Errno::EACCES, _) if sandbox::unmounts() => left(
            "it is outside of the folders that recordd unmounts in (sandbox.mount_parents): unmount it"
                .into(),
            false,
        ),
        (Errno::EPERM | Errno::EACCES, _) => left("recordd may not unmount it".into(), true),
        (Errno::EBUSY, Some(other)) => {
            left(format!("{} is mounted in it: unmount that first", other.point.display()), false)
        }
        (Errno::EBUSY, None) => {
            left("it is in use: close the programs that have files or folders open there".into(), false)
        }
        _ => left(error.to_string(), false),
    })
}

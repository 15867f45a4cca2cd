//! The disks of the system: which there are, which one was pulled, and making one safe to pull.

mod eject;
mod scan;

pub use scan::{mounted, scan};

use crate::fs::SystemFs;
use crate::jobs::{Eject, Ejected, Found, Look};
use std::io;

/// Operations on disks as a whole: a trait, so that tests can put them in and pull them.
pub trait Disks {
    /// The disks that can be recorded to.
    fn scan(&self, look: &Look) -> Found;
    /// Syncs a disk, and undoes all of its mounts if it can be pulled.
    ///
    /// # Errors
    /// If it could not be synced.
    fn eject(&self, disk: &Eject) -> io::Result<Ejected>;
    /// Whether the disk with this device number is out of its slot, though it is mounted yet.
    fn is_pulled(&self, device: u64) -> bool;
}

impl Disks for SystemFs {
    fn scan(&self, look: &Look) -> Found {
        scan::scan(look)
    }

    fn eject(&self, disk: &Eject) -> io::Result<Ejected> {
        eject::eject(disk)
    }

    fn is_pulled(&self, device: u64) -> bool {
        scan::is_pulled(device)
    }
}

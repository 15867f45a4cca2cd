//! One disk of the last look, and its troubles.

use super::START_OCTETS;
use std::path::{Path, PathBuf};
use store::jobs::{Disk, FaultKind, Space, StickId};

/// An operation that a disk refused; it counts until one succeeds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) kind: FaultKind,
    /// Room that it said it had then.
    pub(super) free_octets: u64,
}

/// A disk of the last look.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) disk: Disk,
    /// Octets given to storage since the room was last measured.
    pub(super) spent_octets: u64,
    pub(super) trouble: Option<Trouble>,
    /// It was not found in its place; the next look at the disks tells more.
    pub(super) gone: bool,
    /// The result of the speed measurement, if it is too slow.
    pub(super) slow: Option<String>,
}

impl Known {
    pub(super) fn is(&self, root: &Path, device: u64) -> bool {
        self.disk.device == device && self.disk.root == root
    }

    pub(super) fn is_at(&self, (root, device, stick): &Place) -> bool {
        self.is(root, *device) && self.disk.stick == *stick
    }

    pub(super) fn free_octets(&self) -> u64 {
        self.disk.space.free_octets.saturating_sub(self.spent_octets)
    }
}

/// A disk and its place.
pub(super) type Place = (PathBuf, u64, StickId);

impl Trouble {
    /// Whether the disk has so much more room than it had then that it is full no more.
    pub(super) fn is_over(&self, space: Space) -> bool {
        self.kind == FaultKind::Full && space.free_octets >= self.free_octets.saturating_add(START_OCTETS)
    }
}

pub(super) fn is_pulled(disk: &Disk) -> bool {
    disk.folder_fault == Some(FaultKind::Pulled)
}

pub(super) fn place_of(disk: &Disk) -> Place {
    (disk.root.clone(), disk.device, disk.stick.clone())
}

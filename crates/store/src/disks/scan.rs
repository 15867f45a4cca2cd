//! Which filesystems there are, and which of them is a stick that can be recorded to.
//!
//! Owns: the kernel's data about a disk, and when two mounts are of one disk. May wait on a stalled disk, so
//! it runs on the storage thread only.

use crate::fs::{device, space};
use crate::jobs::{Disk, FaultKind, Found, Look, Missing, StickId, Target};
use crate::mounts::{self, Mount, is_node, is_reached, resolve};
use nix::errno::Errno;
use nix::sys::stat::{major, minor};
use nix::unistd::{AccessFlags, access};
use os::sandbox;
use std::fs::{File, metadata, read_dir, read_to_string};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Filesystems on sticks that are looked at; a phone has a port or two.
const MAX_DISKS: usize = 16;

/// Links that udev makes for the disks that it knows.
const LINKS: &str = "/dev/disk/by-id";

/// Links that are looked at.
const MAX_LINKS: usize = 256;

/// The disks to record to: removable ones that are mounted, or the filesystem of the directory.
#[must_use]
pub fn scan(look: &Look) -> Found {
    let mounts = match mounts::mounts() {
        Ok(mounts) => mounts,
        Err(error) if is_scarcity(&error) => return Found { unknown: true, ..Found::default() },
        // A chroot may have no table.
        Err(_) => Vec::new(),
    };
    let mut found = match &look.target {
        Target::Directory(path) => directory(path, look, &mounts),
        Target::Auto => Found { disks: sticks(look, &mounts), ..Found::default() },
    };
    // Files of the kernel tell of each disk: if they can't be read, a disk that is not found may be there.
    found.unknown = File::open(mounts::MOUNT_TABLE).is_err_and(|error| is_scarcity(&error));
    found.pulled = look.ejected.iter().filter(|stick| !is_there(stick)).cloned().collect();
    found
}

/// Whether the process or the system is out of descriptors or memory, which says nothing of a disk.
fn is_scarcity(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

fn directory(path: &Path, look: &Look, mounts: &[Mount]) -> Found {
    let missing = |missing| Found { missing: Some(missing), ..Found::default() };
    let real = match path.canonicalize() {
        Ok(real) if real.is_dir() => real,
        Ok(_) => return missing(Missing::NotFolder),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return missing(Missing::Denied),
        Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => return missing(Missing::NotFolder),
        Err(_) => return missing(Missing::Path),
    };
    let mount = resolve(mounts, &real);
    let links = Links::read();
    let removable = mount.is_some_and(|mount| is_removable(mount, &links));
    Found::from(describe(path, look, mount, removable, &links))
}

/// Every filesystem on a removable disk, at the best of its mounts.
fn sticks(look: &Look, mounts: &[Mount]) -> Vec<Disk> {
    let links = Links::read();
    let system = resolve(mounts, Path::new("/")).and_then(|mount| Some(whole_disk(block_of(mount)?)));
    let is_stick = |mount: &&Mount| {
        may_be_stick(mount)
            && is_removable(mount, &links)
            && block_of(mount).is_none_or(|block| Some(whole_disk(block)) != system)
            && is_reached(mounts, mount)
    };
    let mut best: Vec<&Mount> = Vec::new();
    for mount in mounts.iter().filter(is_stick) {
        match best.iter().position(|known| known.device == mount.device) {
            // A bind mount shows a part only, and nothing can be written to one that is read-only.
            Some(at) if rank(mount) < rank(best[at]) => best[at] = mount,
            Some(_) => {}
            None if best.len() < MAX_DISKS => best.push(mount),
            None => {}
        }
    }
    best.iter().filter_map(|mount| describe(&mount.point, look, Some(mount), true, &links)).collect()
}

/// The present mount points of sticks.
#[must_use]
pub fn mounted() -> Vec<PathBuf> {
    let links = Links::read();
    let mounts = mounts::mounts().unwrap_or_default();
    let sticks = mounts.into_iter().filter(|mount| may_be_stick(mount) && is_removable(mount, &links));
    sticks.map(|mount| mount.point).collect()
}

fn rank(mount: &Mount) -> (bool, bool) {
    (mount.read_only, mount.part != Path::new("/"))
}

fn describe(root: &Path, look: &Look, mount: Option<&Mount>, removable: bool, links: &Links) -> Option<Disk> {
    if !root.is_dir() {
        return None;
    }
    let device = device(root).ok()?;
    // Mounted or not: writes there go nowhere.
    let pulled = (removable && is_pulled(device)).then_some(FaultKind::Pulled);
    let fault = pulled.or_else(|| folder_fault(root, &look.folder, device));
    Some(Disk {
        root: root.to_owned(),
        mount: mount.map_or_else(|| root.to_owned(), |mount| mount.point.clone()),
        device,
        // The mount table of a chroot may say nothing of its root.
        filesystem: mount.map_or_else(|| "unknown".to_owned(), |mount| mount.filesystem.clone()),
        space: space(root).ok()?,
        read_only: mount.is_some_and(|mount| mount.read_only)
            || fault == Some(FaultKind::ReadOnly)
            || sandbox::forbids_writing(root),
        sync_mount: mount.is_some_and(|mount| mount.sync),
        removable,
        stick: mount.map(stick_of).unwrap_or_default(),
        group: mount.map(|mount| links.group_of(mount)).unwrap_or_default(),
        folder_fault: fault.filter(|fault| *fault != FaultKind::ReadOnly),
    })
}

/// The fault that keeps recordings from `name` below `root`, as far as it shows without a write.
fn folder_fault(root: &Path, name: &str, device: u64) -> Option<FaultKind> {
    let folder = if name.is_empty() { root.to_owned() } else { root.join(name) };
    let may_write = |path: &Path| match access(path, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => None,
        Err(Errno::EROFS) => Some(FaultKind::ReadOnly),
        Err(Errno::EACCES | Errno::EPERM) => Some(FaultKind::Denied),
        // For other errors, an attempt will tell.
        Err(_) => None,
    };
    match metadata(&folder) {
        Ok(found) if !found.is_dir() => Some(FaultKind::NotFolder),
        Ok(found) if found.dev() != device => Some(FaultKind::OffDisk),
        Ok(_) => may_write(&folder),
        // A link that leads nowhere stands in the way, too.
        Err(_) if folder.symlink_metadata().is_ok_and(|found| found.is_symlink()) => {
            Some(FaultKind::NotFolder)
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => Some(FaultKind::NotFolder),
        Err(_) => may_write(root),
    }
}

/// Whether a mount can be taken for a stick at all. The system itself may run from a USB disk: that is no
/// stick, it would hide the one that is put in, and ejecting it would leave the system read-only.
fn may_be_stick(mount: &Mount) -> bool {
    is_node(&mount.source) && mount.point != Path::new("/")
}

/// The block device that a mount is of.
pub(super) fn block_of(mount: &Mount) -> Option<(u32, u32)> {
    if mount.device.0 != 0 {
        return Some(mount.device);
    }
    // Some filesystems (btrfs) have a number of their own.
    if is_node(&mount.source) { block_number(&mount.source) } else { None }
}

fn block_number(node: &Path) -> Option<(u32, u32)> {
    let found = metadata(node).ok().filter(|found| found.file_type().is_block_device())?;
    let number = |part: u64| u32::try_from(part).ok();
    Some((number(major(found.rdev()))?, number(minor(found.rdev()))?))
}

/// The folder in which the kernel tells of the whole disk that a block device is, or is a partition of.
pub(super) fn whole_disk(block: (u32, u32)) -> PathBuf {
    let link = PathBuf::from(format!("/sys/dev/block/{}:{}", block.0, block.1));
    let Ok(device) = link.canonicalize() else { return link };
    match device.parent() {
        Some(whole) if device.join("partition").exists() => whole.to_owned(),
        _ => device,
    }
}

/// Which physical disk a mount is of.
pub(super) fn stick_of(mount: &Mount) -> StickId {
    block_of(mount).map(|block| identity(&whole_disk(block))).unwrap_or_default()
}

/// A disk's place, and a number that changes when it is put in again: the kernel's sequence number of disks,
/// or where that is not known (before Linux 5.15) the number that USB gave it.
fn identity(whole: &Path) -> StickId {
    let sequence = read_to_string(whole.join("diskseq")).unwrap_or_default();
    let usb_number = whole.ancestors().find_map(|folder| read_to_string(folder.join("devnum")).ok());
    let (sequence, usb_number) = (sequence.trim(), usb_number.unwrap_or_default());
    StickId(format!("{} {sequence} {}", whole.display(), usb_number.trim()))
}

/// Whether a disk is still where it was, mounted or not. One that the system tells nothing of is taken to be
/// there.
fn is_there(stick: &StickId) -> bool {
    let Some((whole, _)) = stick.0.rsplit_once(' ').and_then(|(rest, _)| rest.rsplit_once(' ')) else {
        return stick.is_known();
    };
    let whole = Path::new(whole);
    // A card reader stays when its card is pulled.
    let is_empty = read_to_string(whole.join("size")).is_ok_and(|size| size.trim() == "0");
    if !Path::new("/sys/dev/block").is_dir() {
        let name = whole.file_name().unwrap_or_default();
        return Links::read().0.iter().any(|(_, block)| name == format!("{}:{}", block.0, block.1).as_str());
    }
    whole.is_dir() && !is_empty && identity(whole) == *stick
}

/// Whether the block device with this number is gone, or a reader without its card. A filesystem without a
/// block device, or one that the system tells nothing of, is taken to be there.
pub(super) fn is_pulled(device: u64) -> bool {
    let number = |part: u64| u32::try_from(part).unwrap_or_default();
    let block = (number(major(device)), number(minor(device)));
    if block.0 == 0 || !Path::new("/sys/dev/block").is_dir() {
        return false;
    }
    match read_to_string(whole_disk(block).join("size")) {
        Ok(size) => size.trim() == "0",
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Disks that udev has found to be on USB, each with the name of the stick.
pub(super) struct Links(Vec<(String, (u32, u32))>);

impl Links {
    pub(super) fn read() -> Self {
        let Ok(entries) = read_dir(LINKS) else { return Self(Vec::new()) };
        let mut links: Vec<_> = entries
            .take(MAX_LINKS)
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let stick = name.starts_with("usb-").then(|| name_of_stick(&name).to_owned())?;
                Some((stick, block_number(&entry.path())?))
            })
            .collect();
        links.sort();
        Self(links)
    }

    /// The name of the stick that a block device is, or is a part of.
    fn name_of(&self, block: (u32, u32)) -> Option<&str> {
        let whole = whole_disk(block);
        let leads_to = |linked: (u32, u32)| linked == block || whole_disk(linked) == whole;
        self.0.iter().find(|(_, linked)| leads_to(*linked)).map(|(name, _)| name.as_str())
    }

    /// The group of mounts that are pulled together: the stick by udev's data, or the whole disk.
    pub(super) fn group_of(&self, mount: &Mount) -> String {
        let Some(block) = block_of(mount) else { return String::new() };
        let named = self.name_of(block).map(str::to_owned);
        named.unwrap_or_else(|| whole_disk(block).display().to_string())
    }

    /// Every disk that is pulled with this group.
    pub(super) fn sticks_of(&self, group: &str) -> impl Iterator<Item = StickId> {
        self.0.iter().filter(move |(name, _)| name == group).map(|(_, block)| identity(&whole_disk(*block)))
    }
}

/// The name of a link without the part that says which partition it is of.
fn name_of_stick(link: &str) -> &str {
    match link.rsplit_once("-part") {
        Some((stick, number)) if !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()) => stick,
        _ => link,
    }
}

/// Whether a mount is of a stick or card: by the links that udev makes, or by where the kernel put its disk.
///
/// A phone without udev has no links, so the kernel's own `removable` flag and a USB port on the way to the
/// disk count too.
fn is_removable(mount: &Mount, links: &Links) -> bool {
    let Some(block) = block_of(mount) else { return false };
    let whole = whole_disk(block);
    let on_usb = whole.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"usb"));
    let flag = read_to_string(whole.join("removable")).is_ok_and(|flag| flag.trim() == "1");
    on_usb || flag || links.name_of(block).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::parse_mounts;

    #[test]
    fn the_disk_that_the_system_runs_from_is_no_stick() {
        let table = b"22 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw\n\
                     36 22 8:17 / /media/stick rw,relatime - vfat /dev/sdb1 rw\n\
                     40 22 0:30 / /tmp rw - tmpfs tmpfs rw\n";
        let mounts = parse_mounts(table);
        let sticks: Vec<_> = mounts.iter().filter(|mount| may_be_stick(mount)).collect();
        assert_eq!(sticks.len(), 1);
        assert_eq!(sticks[0].point, Path::new("/media/stick"));
    }

    #[test]
    fn the_links_of_partitions_have_the_name_of_their_stick() {
        for (link, stick) in [
            ("usb-Kingston_DT_0019-0:0-part12", "usb-Kingston_DT_0019-0:0"),
            ("usb-Kingston_DT_0019-0:0", "usb-Kingston_DT_0019-0:0"),
            ("usb-spare-parts-0:0", "usb-spare-parts-0:0"),
            ("usb-x-part", "usb-x-part"),
        ] {
            assert_eq!(name_of_stick(link), stick);
        }
    }

    #[test]
    fn of_several_mounts_of_a_stick_the_whole_and_writable_one_is_the_best() {
        let table = b"1 0 8:17 / /ro ro - vfat /dev/sdb1 rw\n\
                     2 0 8:17 /share /bind rw - vfat /dev/sdb1 rw\n\
                     3 0 8:17 / /rw rw - vfat /dev/sdb1 rw\n";
        let mounts = parse_mounts(table);
        let best = mounts.iter().min_by_key(|mount| rank(mount)).unwrap();
        assert_eq!(best.point, Path::new("/rw"));
    }

    fn at(path: &Path) -> Look {
        Look { folder: "Record".into(), ..Look::from(Target::Directory(path.into())) }
    }

    #[test]
    fn a_directory_is_described_by_its_filesystem() {
        let folder = tempfile::tempdir().unwrap();
        let found = scan(&at(folder.path()));
        let [disk] = &found.disks[..] else { panic!("{found:?}") };
        assert_eq!(disk.root, folder.path());
        assert!(disk.space.total_octets > 0 && !disk.filesystem.is_empty());
        assert_eq!((disk.folder_fault, found.missing), (None, None));
    }

    #[test]
    fn a_directory_that_is_not_there_or_is_none_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let missing = |path: &str| scan(&at(&folder.path().join(path))).missing;
        assert_eq!(missing("none"), Some(Missing::Path));
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(missing("file"), Some(Missing::NotFolder));
        assert_eq!(missing("file/below"), Some(Missing::NotFolder));
    }

    #[test]
    fn objects_in_place_of_the_recording_folder_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("Record");
        let fault = || scan(&at(folder.path())).disks[0].folder_fault;
        std::fs::write(&record, "").unwrap();
        assert_eq!(fault(), Some(FaultKind::NotFolder));
        std::fs::remove_file(&record).unwrap();
        std::os::unix::fs::symlink("nowhere", &record).unwrap();
        assert_eq!(fault(), Some(FaultKind::NotFolder));
        std::fs::remove_file(&record).unwrap();
        std::os::unix::fs::symlink("/proc", &record).unwrap();
        assert_eq!(fault(), Some(FaultKind::OffDisk));
        std::fs::remove_file(&record).unwrap();
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", &record).unwrap();
        assert_eq!(fault(), None, "a link to a folder of the disk will do");
    }

    #[test]
    fn a_block_device_that_the_system_has_no_more_was_pulled_and_a_folder_in_memory_was_not() {
        // Major 259 is for partitions beyond the old numbers; nobody has that many.
        assert_eq!(is_pulled(nix::sys::stat::makedev(259, 999_999)), Path::new("/sys/dev/block").is_dir());
        assert!(!is_pulled(nix::sys::stat::makedev(0, 42)));
        let here = metadata(env!("CARGO_MANIFEST_DIR")).unwrap().dev();
        assert!(!is_pulled(here), "the disk that we were built on");
    }

    #[test]
    fn a_disk_that_is_unknown_to_the_system_is_not_told_to_be_gone() {
        assert!(!is_there(&StickId::default()));
        assert!(!is_there(&StickId("/sys/devices/none/block/sdq 7 3".into())));
    }
}

//! Which filesystems there are, and which of them is a stick that can be recorded to.
//!
//! Owns: reading the kernel's mount table and what it says of a disk. May wait on a stalled disk, so it
//! runs on the storage thread only.

use crate::jobs::{Disk, Target};
use crate::sandbox;
use crate::storage::fs::{Fs, RealFs};
use nix::unistd::{AccessFlags, access};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The kernel's mount table; it signals changes to whoever polls it.
pub const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor device number.
    pub device: (u32, u32),
    /// Mount point.
    pub point: PathBuf,
    /// Filesystem type, as the kernel calls it.
    pub filesystem: String,
    /// Device node or other source.
    pub source: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// Mounted with `sync`.
    pub sync: bool,
}

/// Reads a mount table (`proc_pid_mountinfo(5)`); lines of another form are skipped.
#[must_use]
pub fn parse_mounts(table: &str) -> Vec<Mount> {
    table.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let mut device = fields.nth(2)?.splitn(2, ':').map(str::parse);
    let device = (device.next()?.ok()?, device.next()?.ok()?);
    let point = unescape(fields.nth(1)?);
    let mount_options = fields.next()?;
    let mut rest = fields.skip_while(|field| *field != "-").skip(1);
    let (filesystem, source, super_options) = (rest.next()?, rest.next()?, rest.next()?);
    let has = |name: &str| mount_options.split(',').chain(super_options.split(',')).any(|o| o == name);
    Some(Mount {
        device,
        point,
        filesystem: match filesystem {
            "fuseblk" | "ntfs3" => "ntfs".into(),
            other => other.into(),
        },
        source: source.into(),
        // The second: what ext4 shows since Linux 6.15 after an error.
        read_only: has("ro") || has("emergency_ro"),
        sync: has("sync"),
    })
}

/// Undoes the kernel's octal escapes of blanks in paths.
fn unescape(path: &str) -> PathBuf {
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(octet) if *first == b'\\' => {
                octets.push(octet);
                rest = &tail[3..];
            }
            _ => {
                octets.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(octets))
}

/// The disk to record to: the first writable removable one, or the filesystem of the directory.
///
/// With [`Target::Auto`] a read-only stick is returned only if there is no writable one, so that the
/// reason can be told.
#[must_use]
pub fn scan(target: &Target) -> Option<Disk> {
    let mounts = parse_mounts(&std::fs::read_to_string(MOUNT_TABLE).unwrap_or_default());
    match target {
        Target::Directory(path) => {
            let real = path.canonicalize().ok().filter(|path| path.is_dir())?;
            // Of several mounts on one point the last one is on top.
            let mount = mounts
                .iter()
                .filter(|mount| real.starts_with(&mount.point))
                .max_by_key(|mount| mount.point.as_os_str().len());
            describe(path, mount, is_removable(mount))
        }
        Target::Auto => {
            let mut sticks = mounts
                .iter()
                .filter(|mount| may_be_stick(mount) && is_removable(Some(mount)))
                .filter_map(|mount| describe(&mount.point, Some(mount), true));
            let first = sticks.next()?;
            if !first.read_only {
                return Some(first);
            }
            Some(sticks.find(|disk| !disk.read_only).unwrap_or(first))
        }
    }
}

/// Where sticks are mounted at the moment.
#[must_use]
pub fn mounted() -> Vec<PathBuf> {
    let mounts = parse_mounts(&std::fs::read_to_string(MOUNT_TABLE).unwrap_or_default());
    let sticks = mounts.into_iter().filter(|mount| may_be_stick(mount) && is_removable(Some(mount)));
    sticks.map(|mount| mount.point).collect()
}

fn describe(root: &Path, mount: Option<&Mount>, removable: bool) -> Option<Disk> {
    Some(Disk {
        root: root.to_owned(),
        mount: mount.map_or_else(|| root.to_owned(), |mount| mount.point.clone()),
        device: RealFs.device(root).ok()?,
        // The mount table of a chroot may say nothing of its root.
        filesystem: mount.map_or_else(|| "unknown".to_owned(), |mount| mount.filesystem.clone()),
        space: RealFs.space(root).ok()?,
        read_only: mount.is_some_and(|mount| mount.read_only)
            || access(root, AccessFlags::W_OK).is_err()
            || sandbox::forbids_writing(root),
        sync_mount: mount.is_some_and(|mount| mount.sync),
        removable,
    })
}

/// Whether a mount can be taken for a stick at all. The system itself may run from a USB disk: that is no stick, it
/// would hide the one that is put in, and ejecting it would leave the system read-only.
fn may_be_stick(mount: &Mount) -> bool {
    mount.source.starts_with("/dev/") && mount.point != Path::new("/")
}

/// Whether a mount is a stick or card: by what sysinfo knows of it, or by where the kernel put its disk.
///
/// sysinfo looks for the links that udev makes; a phone without udev has none, so the kernel's own
/// `removable` flag and a USB port on the way to the disk count too.
fn is_removable(mount: Option<&Mount>) -> bool {
    let Some(mount) = mount else { return false };
    let known = sysinfo::Disks::new_with_refreshed_list_specifics(sysinfo::DiskRefreshKind::nothing());
    if known.list().iter().any(|disk| disk.mount_point() == mount.point && disk.is_removable()) {
        return true;
    }
    let link = PathBuf::from(format!("/sys/dev/block/{}:{}", mount.device.0, mount.device.1));
    let Ok(device) = link.canonicalize() else { return false };
    let on_usb = device.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"usb"));
    // A partition has no flag of its own; its parent folder is the whole disk.
    let flag = |folder: &Path| std::fs::read_to_string(folder.join("removable")).ok();
    let flag = flag(&device).or_else(|| device.parent().and_then(flag));
    on_usb || flag.is_some_and(|flag| flag.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_mount_table_is_read_with_escapes_and_options() {
        let table = "36 35 8:1 / /media/My\\040Stick rw,noatime master:1 - vfat /dev/sda1 rw,sync,fmask=0022\n\
                     nonsense\n\
                     40 35 8:17 / /media/b ro,relatime - fuseblk /dev/sdb1 rw,user_id=0\n\
                     41 35 8:33 / /media/c rw - ext4 /dev/sdc1 rw,errors=remount-ro,emergency_ro\n";
        let mounts = parse_mounts(table);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].point, Path::new("/media/My Stick"));
        assert_eq!(mounts[0].device, (8, 1));
        assert!(mounts[0].sync && !mounts[0].read_only);
        assert_eq!(mounts[1].filesystem, "ntfs");
        assert!(mounts[1].read_only && mounts[2].read_only);
    }

    #[test]
    fn the_disk_that_the_system_runs_from_is_no_stick() {
        let table = "22 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw\n\
                     36 22 8:17 / /media/stick rw,relatime - vfat /dev/sdb1 rw\n\
                     40 22 0:30 / /tmp rw - tmpfs tmpfs rw\n";
        let mounts = parse_mounts(table);
        let sticks: Vec<_> = mounts.iter().filter(|mount| may_be_stick(mount)).collect();
        assert_eq!(sticks.len(), 1);
        assert_eq!(sticks[0].point, Path::new("/media/stick"));
    }

    #[test]
    fn a_directory_is_described_by_its_filesystem_and_a_missing_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk = scan(&Target::Directory(folder.path().into())).unwrap();
        assert_eq!(disk.root, folder.path());
        assert!(disk.space.total_octets > 0 && !disk.filesystem.is_empty());
        assert_eq!(scan(&Target::Directory(folder.path().join("none"))), None);
    }

    proptest! {
        #[test]
        fn any_mount_table_is_read(table in "[ -~\\n]{0,200}") {
            prop_assert!(parse_mounts(&table).len() <= table.lines().count());
        }
    }
}

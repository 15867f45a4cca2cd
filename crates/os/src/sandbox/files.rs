//! The files and TCP ports that a program keeps, by Landlock.
//!
//! Owns: rights by version of Landlock, and the folders that any program of ours reads. A rule is for a
//! folder as it is when the rule is made, and everything beneath it. A mount made later beneath it is beneath
//! it; one made later on it is not. So a stick needs a rule for a folder above its mount point.

use crate::confine::FileRules;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

// linux/landlock.h
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
/// Every right that version 1 has, from running a program to making a link.
const ALL_OF_VERSION_1: u64 = (1 << 13) - 1;
const IOCTL_DEVICE: u64 = 1 << 15;
/// Rights that a file, too, can have; the others are a folder's.
const OF_FILES: u64 = 1 | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE;

const READ: u64 = READ_FILE | READ_DIR;
const WRITE: u64 = READ | WRITE_FILE | TRUNCATE | MAKE_REG | MAKE_DIR | REMOVE_FILE | REMOVE_DIR | REFER;

const BIND_TCP: u64 = 1;
const CONNECT_TCP: u64 = 1 << 1;

/// Abstract Unix sockets of others, and signals to them.
const SCOPES: u64 = 1 | (1 << 1);

/// The paths that both programs read while they run: disks and mounts, time zone and name look-ups, with the
/// libraries that these load.
const READABLE: [&str; 9] =
    ["/proc", "/sys", "/etc", "/run", "/usr", "/lib", "/lib64", "/dev/urandom", "/dev/random"];

/// Files of the system that are often links to elsewhere, and replaced there.
const LINKED: [&str; 3] = ["/etc/localtime", "/etc/resolv.conf", "/etc/hosts"];

/// The allowed paths and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Folders that may be written beneath, and read.
    pub write: Vec<PathBuf>,
    /// Files and folders that may be read, beside those of the system.
    pub read: Vec<PathBuf>,
    /// Folders in which files may be deleted: a socket's.
    pub remove: Vec<PathBuf>,
    /// Folders in which sockets may be made and deleted.
    pub sockets: Vec<PathBuf>,
    /// TCP ports that may be connected to.
    pub connect: Vec<u16>,
}

/// A folder that may be written beneath, as it was when the rule was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Writable {
    pub(super) path: PathBuf,
    device: u64,
}

impl Writable {
    /// Whether the rule is good for `path`, a canonical one.
    pub(super) fn covers(&self, path: &Path) -> bool {
        match path.strip_prefix(&self.path) {
            // Another filesystem there is one that was mounted later.
            Ok(rest) if rest.as_os_str().is_empty() => device(path) == Some(self.device),
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

fn device(path: &Path) -> Option<u64> {
    Some(std::fs::metadata(path).ok()?.dev())
}

/// Puts the rules into force for this thread and those that it starts. Returns where writing is allowed;
/// folders that are not there are left out.
///
/// # Errors
/// If the kernel has no Landlock or refuses the rules.
pub(super) fn confine(allowed: &Allowed, version: u32) -> io::Result<Vec<Writable>> {
    let known = ALL_OF_VERSION_1
        | if version >= 2 { REFER } else { 0 }
        | if version >= 3 { TRUNCATE } else { 0 }
        | if version >= 5 { IOCTL_DEVICE } else { 0 };
    let network = if version >= 4 { BIND_TCP | CONNECT_TCP } else { 0 };
    let rules = FileRules::new(known, network, if version >= 6 { SCOPES } else { 0 })?;
    let beneath = |path: &Path, ways: u64| -> io::Result<File> {
        // The parent of a name without a folder.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
        let ways = if file.metadata()?.is_dir() { ways } else { ways & OF_FILES };
        rules.allow_beneath(file.as_fd(), ways & known)?;
        Ok(file)
    };
    // A missing path can't be read anyway.
    for path in READABLE.iter().map(Path::new).chain(allowed.read.iter().map(PathBuf::as_path)) {
        let _ = beneath(path, READ);
    }
    for path in LINKED {
        let folder = Path::new(path).canonicalize().ok();
        match folder.as_deref().and_then(|file| Some((file, file.parent()?))) {
            Some((file, root)) if root == Path::new("/") => drop(beneath(file, READ)),
            Some((_, folder)) => drop(beneath(folder, READ)),
            None => {}
        }
    }
    // The names of disks, but not their contents.
    let _ = beneath(Path::new("/dev"), READ_DIR);
    let _ = beneath(Path::new("/dev/null"), READ_FILE | WRITE_FILE);
    for folder in &allowed.remove {
        let _ = beneath(folder, REMOVE_FILE);
    }
    for folder in &allowed.sockets {
        let _ = beneath(folder, REMOVE_FILE | MAKE_SOCK);
    }
    let mut writable = Vec::new();
    for folder in &allowed.write {
        let Ok(path) = folder.canonicalize() else { continue };
        if let Ok(file) = beneath(&path, WRITE) {
            writable.push(Writable { device: file.metadata()?.dev(), path });
        }
    }
    if network != 0 {
        for port in &allowed.connect {
            rules.allow_port(*port, CONNECT_TCP)?;
        }
    }
    rules.hold()?;
    Ok(writable)
}

/// The folders to write beneath for a recording folder: itself, the folder above a stick that is mounted on
/// it, and the folder above the mount of its present disk, since a stick is taken out and put back. The root
/// of all is not among them unless a stick has to be there (`is_stick`), because then there is nothing else
/// above its mount point.
#[must_use]
pub fn around(folder: &Path, is_stick: bool) -> Vec<PathBuf> {
    // A folder that is on the stick is not there before the stick is.
    let there = folder.ancestors().find_map(|path| path.canonicalize().ok());
    let Some(there) = there else { return Vec::new() };
    let mut found = vec![there.clone()];
    let root = Path::new("/");
    let mut add = |path: Option<&Path>| {
        let path = path.filter(|path| *path != root || is_stick);
        if let Some(path) = path.filter(|path| !found.iter().any(|it| it == path)) {
            found.push(path.to_owned());
        }
    };
    add(there.parent());
    let mount = mount_point(&there);
    if mount != root {
        add(mount.parent());
    }
    found
}

/// The highest folder that is on the same filesystem as `path`.
fn mount_point(path: &Path) -> PathBuf {
    let own = device(path);
    path.ancestors().take_while(|folder| device(folder) == own).last().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_folder_is_written_in_and_what_is_mounted_on_it_too() {
        let above = tempfile::tempdir().unwrap();
        let above = above.path().canonicalize().unwrap();
        let folder = above.join("stick");
        // The first of these is there already.
        assert_eq!(around(&folder, false)[0], above);
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(around(&folder, false)[..2], [folder.clone(), above.clone()]);
        assert_eq!(around(&folder.join("on/it"), true)[0], folder);
    }

    #[test]
    fn the_root_is_written_beneath_only_where_a_stick_is_mounted_beside_it() {
        let root = PathBuf::from("/");
        assert!(!around(Path::new("/tmp"), false).contains(&root));
        assert!(around(Path::new("/no-such-stick"), true).contains(&root));
    }

    #[test]
    fn a_rule_covers_what_is_beneath_and_the_folder_itself_as_long_as_nothing_is_mounted_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let rule = Writable { device: device(&path).unwrap(), path: path.clone() };
        assert!(rule.covers(&path) && rule.covers(&path.join("a/b")));
        assert!(!rule.covers(path.parent().unwrap()) && !rule.covers(Path::new("/etc")));
        let mounted = Writable { device: rule.device.wrapping_add(1), ..rule };
        assert!(!mounted.covers(&path) && mounted.covers(&path.join("a")));
    }
}

//! Access: the readers of recordings, and the files that may be written to.
//!
//! Owns: modes and group of new files and folders, independent of the umask of the process; and that nothing
//! is written through a link, or into a file that has another name elsewhere: a stick may come from anybody,
//! and such a name on it leads to a file of the system's owner. Never: changes the mode of what was there
//! before.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::sync::Once;

/// The system's file of groups. Read directly: a static binary can't ask the C library for more than it says.
const GROUPS: &str = "/etc/group";

/// The most octets read of it.
const MAX_GROUPS_OCTETS: u64 = 1024 * 1024;

/// Longest name of a group; Linux has shorter ones.
const MAX_GROUP_OCTETS: usize = 64;

/// A group of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupName {
    /// By its name in `/etc/group`.
    Name(String),
    /// By its number.
    Number(u32),
}

/// Mode of recordings where none is given: for their owner, and for a group that was named.
#[must_use]
pub fn recordings_mode(group: Option<&GroupName>) -> u32 {
    if group.is_some() { 0o640 } else { 0o600 }
}

/// Reads the mode of recordings.
///
/// # Errors
/// The rule that the text breaks: the owner reads and writes, and nobody executes a recording.
pub fn file_mode(text: &str) -> Result<u32, &'static str> {
    let wanted = "an octal file mode in quotes that lets the owner read and write and nobody execute, such as \"0600\" \
                  or \"0640\"";
    let digits = text.len() <= 4 && !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| digits);
    mode.filter(|mode| mode & 0o600 == 0o600 && mode & !0o666 == 0).ok_or(wanted)
}

/// Reads the name or number of a group.
///
/// # Errors
/// The right form.
pub fn group_name(text: &str) -> Result<GroupName, &'static str> {
    if text.bytes().all(|octet| octet.is_ascii_digit()) {
        let number = text.parse().ok().filter(|number| *number != u32::MAX);
        return number.map(GroupName::Number).ok_or("a group of the system, or its number");
    }
    let fits = text.len() <= MAX_GROUP_OCTETS
        && !text.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control());
    if fits { Ok(GroupName::Name(text.to_owned())) } else { Err("a group of the system, or its number") }
}

/// Modes and group of new files and folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    mode: u32,
    group: Option<u32>,
}

impl Default for Access {
    fn default() -> Self {
        Self::PRIVATE
    }
}

impl Access {
    /// For the program's own user alone.
    pub const PRIVATE: Self = Self { mode: 0o600, group: None };

    /// Files of `mode`, folders likewise with the bits to enter them, all of `group` if there is one.
    #[must_use]
    pub const fn new(mode: u32, group: Option<u32>) -> Self {
        Self { mode, group }
    }

    /// The same, with the group's name looked up.
    ///
    /// # Errors
    /// There is no such group.
    pub fn of(mode: u32, group: Option<&GroupName>) -> io::Result<Self> {
        Ok(Self::new(mode, group.map(group_id).transpose()?))
    }

    /// Mode of folders: readers of a file there have to get to it.
    #[must_use]
    pub const fn folder_mode(self) -> u32 {
        self.mode | (self.mode & 0o444) >> 2
    }

    /// Creates a file that must not exist, for reading and writing.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` if the name is taken, by a link too.
    pub fn create(self, path: &Path) -> io::Result<File> {
        // First for its owner alone: nobody reads it before its group is right.
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        self.give(&file, self.mode);
        Ok(file)
    }

    /// Creates a folder.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` if the name is taken.
    pub fn create_folder(self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY;
        if let Ok(folder) = OpenOptions::new().read(true).custom_flags(flags).open(path) {
            self.give(&folder, self.folder_mode());
        }
        Ok(())
    }

    /// Sets mode and group. A filesystem without them (vfat) has those of its mount, and that is no fault.
    fn give(self, file: &File, mut mode: u32) {
        let Ok(found) = file.metadata() else { return };
        if let Some(group) = self.group.filter(|group| *group != found.gid()) {
            if let Err(error) = fchown(file, None, Some(group)) {
                // The group that it has instead is not meant.
                mode &= !0o070;
                static TOLD: Once = Once::new();
                TOLD.call_once(|| {
                    log::warn!("files can't be given to group {group}: {error}; no group may read them");
                });
            }
        }
        if found.mode() & 0o777 != mode {
            let _ = file.set_permissions(Permissions::from_mode(found.mode() & 0o7000 | mode));
        }
    }
}

/// Opens a file to be changed in place: a plain file that has no other name.
///
/// # Errors
/// As the system says, and `InvalidInput` with the kind of object found: "is a link", "has 2 names".
pub fn open_to_change(path: &Path) -> io::Result<File> {
    // Opening a device may already do something to it.
    may_change(&std::fs::symlink_metadata(path)?)?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    // It may be another one by now.
    may_change(&file.metadata()?)?;
    Ok(file)
}

/// Whether a file of this description may be changed in place.
///
/// # Errors
/// `InvalidInput` with the kind of object found.
pub fn may_change(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let reason = if kind.is_symlink() {
        "is a link; only a file itself is written to".into()
    } else if kind.is_dir() {
        "is no file but a folder".into()
    } else if kind.is_fifo() {
        "is no file but a pipe".into()
    } else if kind.is_socket() {
        "is no file but a socket".into()
    } else if !kind.is_file() {
        "is no file but a device".into()
    } else if found.nlink() > 1 {
        format!("has {} names (hard links); only a file with one name is written to", found.nlink())
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// The number of a group.
///
/// # Errors
/// `/etc/group` can't be read, or has no such group.
pub fn group_id(group: &GroupName) -> io::Result<u32> {
    let name = match group {
        GroupName::Number(number) => return Ok(*number),
        GroupName::Name(name) => name,
    };
    let mut groups = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(GROUPS)?, MAX_GROUPS_OCTETS), &mut groups)?;
    find_group(&String::from_utf8_lossy(&groups), name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{GROUPS} has no group \"{name}\"")))
}

/// The number of a group in the text of group(5).
fn find_group(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.trim().parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn new_files_have_the_mode_of_the_settings_for_any_umask() {
        let dir = tempfile::tempdir().unwrap();
        for (asked, folder) in [(0o600, 0o700), (0o640, 0o750), (0o660, 0o770), (0o666, 0o777)] {
            let access = Access::new(asked, None);
            let (file, made) =
                (dir.path().join(format!("f{asked:o}")), dir.path().join(format!("d{asked:o}")));
            access.create(&file).unwrap();
            access.create_folder(&made).unwrap();
            assert_eq!((mode(&file), mode(&made)), (asked, folder));
        }
    }

    #[test]
    fn a_group_that_we_may_not_give_gets_nothing() {
        if nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: root may give files to any group");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        Access::new(0o640, Some(u32::MAX - 7)).create(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn a_file_goes_to_the_group_that_was_asked_for() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: only root may give files to any group");
        }
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("f"), dir.path().join("d"));
        let access = Access::new(0o640, Some(4242));
        access.create(&file).unwrap();
        access.create_folder(&folder).unwrap();
        for path in [&file, &folder] {
            assert_eq!(std::fs::metadata(path).unwrap().gid(), 4242);
        }
        assert_eq!((mode(&file), mode(&folder)), (0o640, 0o750));
    }

    #[test]
    fn groups_are_found_by_name_and_nothing_else() {
        let text = "root:x:0:\nbroken\naudio:x:29:a,b\naudio2:x:30:\nodd:x:many:\n";
        assert_eq!(find_group(text, "audio"), Some(29));
        for name in ["aud", "broken", "odd", "x", ""] {
            assert_eq!(find_group(text, name), None, "{name}");
        }
    }

    #[test]
    fn only_a_plain_file_of_one_name_is_opened_to_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("plain"), "x").unwrap();
        std::fs::write(at("twice"), "x").unwrap();
        std::fs::hard_link(at("twice"), at("other")).unwrap();
        symlink(at("plain"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        open_to_change(&at("plain")).unwrap();
        let refused = [
            ("link", "is a link"),
            ("dangling", "is a link"),
            ("twice", "has 2 names"),
            ("other", "has 2 names"),
            ("pipe", "is no file but a pipe"),
            ("socket", "is no file but a socket"),
            (".", "is no file but a folder"),
        ];
        for (name, reason) in refused {
            let error = open_to_change(&at(name)).unwrap_err();
            assert!(error.to_string().starts_with(reason), "{name}: {error}");
        }
        let error = open_to_change(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.to_string(), "is no file but a device");
        std::fs::remove_file(at("other")).unwrap();
        open_to_change(&at("twice")).unwrap();
    }

    #[test]
    fn a_link_that_has_the_name_of_a_new_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("link"));
        symlink(&victim, &link).unwrap();
        let error = Access::PRIVATE.create(&link).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!victim.exists());
    }
}

//! Files with secrets: read only if nobody else can read them, written so that nobody else can.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A larger file is no key.
pub const MAX_OCTETS: u64 = 64 * 1024;

/// The bits of a mode that let in others than the owner.
const OTHERS: u32 = 0o077;

/// The text of a file that only its owner, root or this user, may read.
///
/// # Errors
/// Why not, with the file's name and what to do.
pub fn read(path: &Path) -> Result<String, String> {
    let name = path.display();
    let failed = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "; check the path (recordctl keygen makes a key)",
            io::ErrorKind::PermissionDenied => "; run it as the key's owner",
            io::ErrorKind::InvalidData => "; name a key file",
            _ => "",
        };
        format!("cannot read {name}: {error}{advice}")
    };
    // A pipe in its place is not waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(format!("{name} is no file; name a key file"));
    }
    let mode = meta.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(format!(
            "{name} has the mode {mode:04o}, so others than its owner can get at the key in it: chmod 600 {name}, \
             and make a new key if somebody may have read this one"
        ));
    }
    let own = nix::unistd::geteuid().as_raw();
    if meta.uid() != own && meta.uid() != 0 && own != 0 {
        return Err(format!("{name} belongs to another user, who can change the key in it: chown it"));
    }
    let mut text = String::new();
    match file.take(MAX_OCTETS + 1).read_to_string(&mut text) {
        Ok(octets) if octets as u64 > MAX_OCTETS => {
            Err(format!("{name} is too large for a key file; name another one"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(failed(error)),
    }
}

/// Writes a new file that only its owner may read; never over one that is there.
///
/// # Errors
/// Why not, with the file's name.
pub fn write(path: &Path, text: &str) -> Result<(), String> {
    let name = path.display();
    let written = (|| {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })();
    written.map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{name} exists already, and a key is never overwritten; choose another name")
        }
        io::ErrorKind::NotFound => {
            format!("cannot write {name}: {error}; make its folder, or choose another")
        }
        _ => format!("cannot write {name}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_written_for_its_owner_alone_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "secret\n").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap(), "secret\n");
        assert!(write(&path, "other\n").unwrap_err().contains("never overwritten"));
        assert_eq!(read(&path).unwrap(), "secret\n");
    }

    #[test]
    fn a_key_that_others_may_read_or_change_is_refused_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "secret\n").unwrap();
        for mode in [0o644, 0o640, 0o620, 0o601] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let refused = read(&path).unwrap_err();
            assert!(refused.contains("chmod 600") && !refused.contains("secret"), "{refused}");
        }
        set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(read(&path).is_ok());
    }

    #[test]
    fn a_file_of_another_kind_or_size_than_a_key_s_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(read(&pipe).unwrap_err().contains("no file"));
        assert!(read(folder.path()).is_err());
        let large = folder.path().join("large");
        write(&large, &"x".repeat(65 * 1024)).unwrap();
        assert!(read(&large).unwrap_err().contains("too large"));
    }
}

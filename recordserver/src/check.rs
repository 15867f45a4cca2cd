//! `--check-config` beyond the text: errors that would show only when the server starts.
//!
//! Owns: looking at the folders, the group and the address that the settings name. Starts nothing and leaves
//! nothing behind.

use crate::advice::{Wanted, refused};
use crate::config::Config;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use store::access::Access;
use store::disks;
use store::jobs::{Disk, Target};

/// Errors on this machine, each a sentence that says what, where, and what to do.
#[must_use]
pub fn faults(config: &Config) -> Vec<String> {
    let faults = [
        storage(&config.storage).err(),
        listen(config.listen, Wanted::Listen).err(),
        media(config).err(),
        group(config).err(),
        status_socket(config).err(),
    ];
    faults.into_iter().flatten().map(|error| error.to_string()).collect()
}

/// The disk with the storage folder, which can be written to.
///
/// # Errors
/// Why not, and what to do.
pub fn storage(folder: &Path) -> io::Result<Disk> {
    let wrong = |error| refused(&format!("record to {}", folder.display()), Wanted::Storage, &error);
    if !std::fs::metadata(folder).map_err(wrong)?.is_dir() {
        return Err(wrong(ErrorKind::NotADirectory.into()));
    }
    let mut found = disks::scan(&Target::Directory(folder.to_owned()).into());
    let disk = found.disks.pop().ok_or_else(|| wrong(ErrorKind::NotFound.into()))?;
    if disk.read_only {
        return Err(wrong(ErrorKind::ReadOnlyFilesystem.into()));
    }
    match disk.folder_fault {
        None => Ok(disk),
        Some(_) => Err(wrong(ErrorKind::PermissionDenied.into())),
    }
}

/// Modes and group of recordings.
///
/// # Errors
/// There is no such group.
pub fn group(config: &Config) -> io::Result<Access> {
    Access::of(config.mode, config.recordings_group.as_ref()).map_err(|error| {
        let text = format!("recordings_group: {error}: make the group, or name another one");
        io::Error::new(error.kind(), text)
    })
}

/// A running server has the port, so only the address is tried.
fn listen(addr: SocketAddr, wanted: Wanted) -> io::Result<()> {
    let what = format!("listen on {addr}");
    UdpSocket::bind((addr.ip(), 0)).map(drop).map_err(|error| refused(&what, wanted, &error))
}

fn media(config: &Config) -> io::Result<()> {
    let needed = config.media.filter(|media| !media.may_fail);
    needed.map_or(Ok(()), |media| listen(media.addr, Wanted::Media))
}

fn status_socket(config: &Config) -> io::Result<()> {
    let socket = &config.status_socket;
    let Some(path) = socket.path.as_deref().filter(|_| !socket.may_fail) else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = match std::fs::metadata(folder) {
        Err(error) => error,
        Ok(found) if !found.is_dir() => ErrorKind::NotADirectory.into(),
        Ok(_) => return Ok(()),
    };
    Err(refused(&format!("listen on {}", path.display()), Wanted::StatusSocket, &problem))
}

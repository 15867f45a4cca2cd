//! The process that unmounts sticks for the agent.
//!
//! Landlock forbids a confined process to unmount anything, and unmounting takes a capability
//! (`CAP_SYS_ADMIN`) that nearly everything else could be done with. So before the agent gives both up, it
//! starts a second process that keeps that one capability, reads nothing but paths from the agent, and
//! unmounts mounts beneath the folders that the agent may write to, and then the same disks elsewhere: a
//! stick may be bound to another place. It ends with the agent.

use super::calls::{self, Program};
use super::filter;
use crate::confine::{self, Capabilities};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest path that is asked for.
const MAX_PATH_OCTETS: usize = 4096;

/// Disks that are remembered.
const MAX_DISKS: usize = 16;

/// Longest time that the agent's storage thread waits for an unmount. Everything is synced before.
const PATIENCE: Duration = Duration::from_secs(30);

/// `CAP_SYS_ADMIN` (linux/capability.h).
pub(super) const SYS_ADMIN: u8 = 21;

/// The agent's end.
#[derive(Debug)]
pub(super) struct Unmounter(UnixStream);

impl Unmounter {
    /// Starts the process, which unmounts beneath `folders` alone.
    pub(super) fn start(folders: Vec<PathBuf>) -> io::Result<Self> {
        let (own, other) = UnixStream::pair()?;
        confine::second_process(OwnedFd::from(other), move |socket| {
            // A measure that is not available here is not needed for the work either.
            let only = 1 << SYS_ADMIN;
            let _ =
                confine::set_capabilities(Capabilities { effective: only, permitted: only, inheritable: 0 });
            confine::name_thread(c"recordd-umount");
            let _ = std::env::set_current_dir("/");
            if let Some(architecture) = calls::ARCHITECTURE {
                let list = calls::list(Program::Unmounter, std::process::id());
                let _ = confine::filter_calls(&filter::program(&list, architecture));
            }
            let mut disks = VecDeque::new();
            serve(&mut UnixStream::from(socket), |path| unmount(path, &folders, &mut disks));
        })?;
        own.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(own))
    }

    /// Has it unmount `path`.
    pub(super) fn unmount(&self, path: &Path) -> io::Result<()> {
        let octets = path.as_os_str().as_bytes();
        let length = u16::try_from(octets.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let request = [&length.to_ne_bytes()[..], octets].concat();
        (&self.0).write_all(&request)?;
        let mut answer = [0; 4];
        (&self.0).read_exact(&mut answer)?;
        match i32::from_ne_bytes(answer) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Answers requests until the agent is gone.
fn serve(socket: &mut UnixStream, mut unmount: impl FnMut(&Path) -> Result<(), Errno>) {
    let mut path = [0; MAX_PATH_OCTETS];
    loop {
        let mut length = [0; 2];
        if socket.read_exact(&mut length).is_err() {
            return;
        }
        let Some(path) = path.get_mut(..u16::from_ne_bytes(length).into()) else { return };
        if socket.read_exact(path).is_err() {
            return;
        }
        let done = unmount(Path::new(std::ffi::OsStr::from_bytes(path)));
        let answer = done.map_or_else(|errno| errno as i32, |()| 0);
        if socket.write_all(&answer.to_ne_bytes()).is_err() {
            return;
        }
    }
}

/// A link on the way must not lead out of `folders`; one that is followed between the two calls is the work
/// of somebody who may mount. `disks` are those that were unmounted there.
fn unmount(path: &Path, folders: &[PathBuf], disks: &mut VecDeque<u64>) -> Result<(), Errno> {
    let real = path.canonicalize().map_err(|_| Errno::EINVAL)?;
    let device = real.metadata().map_err(|_| Errno::EINVAL)?.dev();
    let beneath = folders.iter().any(|folder| real.starts_with(folder));
    if !(beneath || disks.contains(&device)) || real == Path::new("/") {
        return Err(Errno::EPERM);
    }
    umount2(&real, MntFlags::UMOUNT_NOFOLLOW)?;
    // The system's own disk is bound to many places.
    let system = Path::new("/").metadata().is_ok_and(|root| root.dev() == device);
    if beneath && !system && !disks.contains(&device) {
        if disks.len() == MAX_DISKS {
            disks.pop_front();
        }
        disks.push_back(device);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_in_order_until_the_agent_is_gone() {
        let (own, mut other) = UnixStream::pair().unwrap();
        let served = std::thread::spawn(move || {
            let mut seen = Vec::new();
            serve(&mut other, |path| {
                seen.push(path.to_owned());
                if seen.len() == 1 { Ok(()) } else { Err(Errno::EBUSY) }
            });
            seen
        });
        let agent = Unmounter(own);
        agent.unmount(Path::new("/media/a")).unwrap();
        assert_eq!(agent.unmount(Path::new("/media/b")).unwrap_err().raw_os_error(), Some(libc::EBUSY));
        drop(agent);
        assert_eq!(served.join().unwrap(), [Path::new("/media/a"), Path::new("/media/b")]);
    }

    #[test]
    fn a_request_that_is_too_long_ends_the_process() {
        let (mut own, mut other) = UnixStream::pair().unwrap();
        own.write_all(&u16::MAX.to_ne_bytes()).unwrap();
        serve(&mut other, |_| unreachable!("nothing is unmounted"));
    }

    #[test]
    fn nothing_outside_of_its_folders_is_unmounted_by_links_either() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/", own.join("link")).unwrap();
        let folders = [own.clone()];
        for path in [Path::new("/proc"), &own.join("link/proc"), &own.join("../../proc"), Path::new("/")] {
            assert_eq!(
                unmount(path, &folders, &mut VecDeque::new()),
                Err(Errno::EPERM),
                "{}",
                path.display()
            );
        }
        assert_eq!(unmount(&own.join("none"), &folders, &mut VecDeque::new()), Err(Errno::EINVAL));
        assert_eq!(unmount(Path::new("/"), &[PathBuf::from("/")], &mut VecDeque::new()), Err(Errno::EPERM));
    }
}

//! A test's needs of the machine, and the way out where the machine lacks them.

use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// Says that a test did not run; fails instead where everything has to run
/// (`CI` or `RECORDER_TESTS_REQUIRE_ALL` is set).
pub(crate) fn skip(reason: &str) {
    let strict = ["CI", "RECORDER_TESTS_REQUIRE_ALL"].into_iter().find(|name| is_set(name));
    if let Some(name) = strict {
        panic!("cannot run: {reason}, and {name} asks for everything");
    }
    eprintln!("SKIPPED: {reason}");
}

/// Says that a test did not run because here it cannot, however complete the machine is.
pub(crate) fn skip_here(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Whether a program can be called.
pub(crate) fn has_program(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(name).is_file())
}

/// A name of this machine that takes a look-up. A bare system knows none (no `/etc/hosts`); a text that is no
/// address to Rust but one to the C library takes the same way there.
pub(crate) fn name_of_this_machine() -> &'static str {
    if ("localhost", 0).to_socket_addrs().is_ok() { "localhost" } else { "127.1" }
}

/// Runs a helper program that must succeed.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = super::agent::output_of(command);
    let (said, message) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}{message}", output.status);
    output.stdout
}

/// Writes a script to run. By another process: a child that another test starts at this moment would inherit
/// a file that is open to be written, and the system runs no such program.
pub(crate) fn write_program(path: &Path, text: &str) {
    run(Command::new("sh")
        .args(["-c", "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .arg(text));
}

/// Gives this thread and its later child processes a mount table of their own, once. Mounts of other tests
/// wake no agent of this one, and hold none of its disks: a new mount table begins as a copy of its maker's.
pub(crate) fn own_mounts() -> nix::Result<()> {
    thread_local!(static DONE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    if DONE.get() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    DONE.set(true);
    Ok(())
}

/// A small file system of its own, gone when dropped.
pub(crate) struct SmallDisk {
    mount_point: TempDir,
}

impl SmallDisk {
    /// Mounts `size_kib` of memory; `None`, with the reason said, where that is not allowed.
    pub(crate) fn mount(size_kib: u32) -> Option<Self> {
        Self::mount_with(&format!("size={size_kib}k"))
    }

    /// The same with options of tmpfs, such as how many files it can have.
    pub(crate) fn mount_with(options: &str) -> Option<Self> {
        let mount_point = tempfile::Builder::new().prefix("recordd-e2e-disk-").tempdir();
        let mount_point = mount_point.expect("a folder");
        let none = None::<&str>;
        let flags = MsFlags::empty();
        let mounted =
            own_mounts().and_then(|()| mount(none, mount_point.path(), Some("tmpfs"), flags, Some(options)));
        match mounted {
            Ok(()) => Some(Self { mount_point }),
            Err(error) => {
                skip_here(&format!("a disk of its own has to be mounted, which takes root: {error}"));
                None
            }
        }
    }

    /// Makes it read-only.
    pub(crate) fn make_read_only(&self) {
        let none = None::<&str>;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, self.path(), none, flags, none).expect("remounted read-only");
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        self.mount_point.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(self.mount_point.path(), MntFlags::MNT_DETACH);
    }
}

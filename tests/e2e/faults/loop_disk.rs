//! An ext4 file system of its own, in a file, that can be frozen, pulled and put back. Only the thread that
//! mounts it, and its child processes, can see it.

use crate::support::environment::{has_program, own_mounts, run, skip_here};
use nix::mount::{MntFlags, umount2};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The image and its mount point, gone when dropped.
pub(crate) struct LoopDisk {
    dir: TempDir,
    frozen: bool,
}

impl LoopDisk {
    /// Makes and mounts `size_mib`; `None`, with the reason said, where that is not possible.
    pub(crate) fn mount(size_mib: u32) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip_here("loop devices take root");
            return None;
        }
        for program in ["mkfs.ext4", "mount"] {
            let sbin =
                Path::new("/usr/sbin").join(program).is_file() || Path::new("/sbin").join(program).is_file();
            if !has_program(program) && !sbin {
                skip_here(&format!("there is no {program}"));
                return None;
            }
        }
        let dir = tempfile::Builder::new().prefix("recordd-faults-").tempdir().expect("a folder");
        let disk = Self { dir, frozen: false };
        std::fs::create_dir(disk.mount_point()).unwrap();
        let image = std::fs::File::create(disk.image()).unwrap();
        image.set_len(u64::from(size_mib) << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.image()).env("PATH", PATH));
        let mounted =
            own_mounts().is_ok() && disk.mount_command().status().is_ok_and(|status| status.success());
        if !mounted {
            skip_here("no loop device can be mounted here");
            return None;
        }
        std::fs::create_dir(disk.stick()).unwrap();
        Some(disk)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn mount_point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn mount_command(&self) -> Command {
        let mut command = Command::new("mount");
        command.args(["-o", "loop"]).arg(self.image()).arg(self.mount_point()).env("PATH", PATH);
        command
    }

    /// A folder on the disk: there only while it is mounted.
    pub(crate) fn stick(&self) -> PathBuf {
        self.mount_point().join("stick")
    }

    /// From now on every write to it waits.
    pub(crate) fn freeze(&mut self) {
        run(Command::new("fsfreeze").arg("-f").arg(self.mount_point()).env("PATH", PATH));
        self.frozen = true;
    }

    /// Writes go on.
    pub(crate) fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            run(Command::new("fsfreeze").arg("-u").arg(self.mount_point()).env("PATH", PATH));
        }
    }

    /// Does the work of a hot-plug script when the stick is gone: the mount vanishes, though it is in use.
    pub(crate) fn pull(&self) {
        umount2(&self.mount_point(), MntFlags::MNT_DETACH).expect("unmounted");
    }

    /// Whether nothing keeps the old mount busy: its loop device is free again.
    pub(crate) fn is_free(&self) -> bool {
        let output = run(Command::new("losetup").arg("-j").arg(self.image()).env("PATH", PATH));
        output.is_empty()
    }

    /// The stick is put back.
    pub(crate) fn put_back(&self) {
        run(&mut self.mount_command());
    }
}

/// The folders of the tools, also for users whose `PATH` has no `sbin`.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if self.frozen {
            // A failed test must not leave a file system that nobody can write to.
            let _ = Command::new("fsfreeze").arg("-u").arg(self.mount_point()).env("PATH", PATH).status();
        }
        let _ = umount2(&self.mount_point(), MntFlags::MNT_DETACH);
    }
}

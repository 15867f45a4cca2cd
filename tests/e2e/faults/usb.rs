//! Sticks that the agent takes for USB: loop devices with the links that udev would make, in a mount table
//! that only this thread and its child processes can see.

use crate::support::environment::{has_program, own_mounts, run, skip_here};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The folders of the tools, also for users whose `PATH` has no `sbin`.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

const NO_TYPE: Option<&str> = None;

/// A port with sticks in it. Everything is gone when dropped.
pub(crate) struct Port {
    dir: TempDir,
    sticks: Vec<Stick>,
}

/// A stick in it.
#[derive(Clone, Debug)]
pub(crate) struct Stick {
    name: String,
    /// The whole disk.
    device: PathBuf,
    /// Its filesystems: the disk itself, or its partitions.
    pub(crate) parts: Vec<PathBuf>,
}

fn sh(script: &str) -> String {
    let output = run(Command::new("sh").arg("-ec").arg(script).env("PATH", PATH));
    String::from_utf8(output).unwrap().trim().to_owned()
}

impl Port {
    /// A port without sticks; `None`, with the reason said, where that is not possible.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip_here("sticks are loop devices, which take root");
            return None;
        }
        let there = |name: &str| {
            has_program(name) || ["/usr/sbin", "/sbin"].iter().any(|it| Path::new(it).join(name).is_file())
        };
        if let Some(missing) = ["mkfs.ext4", "mount", "losetup"].into_iter().find(|name| !there(name)) {
            skip_here(&format!("there is no {missing}"));
            return None;
        }
        // The thread's own: other tests do not see these sticks, nor do other agents.
        if let Err(error) = own_mounts() {
            skip_here(&format!("no mount table of its own: {error}"));
            return None;
        }
        let dir = tempfile::Builder::new().prefix("recordd-sticks-").tempdir().expect("a folder");
        let dev = dir.path().join("dev");
        std::fs::create_dir(&dev).unwrap();
        let tmpfs = |at: &Path| mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), NO_TYPE);
        tmpfs(&dev).expect("a tmpfs");
        sh(&format!(
            "cd {}; for name in null zero full random urandom loop-control; do cp -a /dev/$name .; done
             for number in $(seq 0 63); do mknod loop$number b 7 $number; done
             ln -s /proc/self/fd fd; mkdir -p disk/by-id shm; mount --move . /dev",
            dev.display()
        ));
        let port = Self { dir, sticks: Vec::new() };
        std::fs::create_dir(port.mounts()).unwrap();
        tmpfs(&port.mounts()).expect("a tmpfs");
        std::fs::write(port.dir.path().join("try"), vec![0; 1 << 20]).unwrap();
        let tried = sh(&format!("losetup -f --show {}/try || true", port.dir.path().display()));
        if tried.is_empty() {
            skip_here("there are no loop devices");
            return None;
        }
        sh(&format!("losetup -d {tried}"));
        Some(port)
    }

    fn mounts(&self) -> PathBuf {
        self.dir.path().join("media")
    }

    /// A mount point that may have any name.
    pub(crate) fn point(&self, name: &[u8]) -> PathBuf {
        let point = self.mounts().join(OsStr::from_bytes(name));
        std::fs::create_dir_all(&point).unwrap();
        point
    }

    fn image(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new stick of one filesystem, not mounted yet.
    pub(crate) fn stick(&mut self, name: &str, size_mib: u32) -> Stick {
        let image = self.image(name);
        sh(&format!(
            "truncate -s {size_mib}M {0}; mkfs.ext4 -q -F -m 0 -O ^has_journal {0}",
            image.display()
        ));
        self.insert(name)
    }

    /// A new stick with two partitions; `None`, with the reason said, where there are no partitions.
    pub(crate) fn stick_of_two(&mut self, name: &str, size_mib: u32) -> Option<Stick> {
        sh(&format!("truncate -s {size_mib}M {}", self.image(name).display()));
        let mut stick = self.insert(name);
        let base = stick.device.file_name().unwrap().to_str().unwrap().to_owned();
        let half = size_mib * 1024;
        stick.parts.clear();
        for (number, start) in [(1, 2048), (2, half)] {
            // Without a partition table, which not every kernel reads.
            let added = Command::new("addpart")
                .arg(&stick.device)
                .args([number, start, half - 2048].map(|it: u32| it.to_string()))
                .env("PATH", PATH)
                .status();
            if !added.is_ok_and(|status| status.success()) {
                skip_here("no partition can be made");
                return None;
            }
            let device = std::fs::read_to_string(format!("/sys/class/block/{base}p{number}/dev")).unwrap();
            let (major, minor) = device.trim().split_once(':').unwrap();
            sh(&format!(
                "rm -f /dev/{base}p{number}; mknod /dev/{base}p{number} b {major} {minor}
                 ln -sfn ../../{base}p{number} /dev/disk/by-id/usb-{name}-0:0-part{number}
                 mkfs.ext4 -q -F -m 0 -O ^has_journal /dev/{base}p{number}"
            ));
            stick.parts.push(PathBuf::from(format!("/dev/{base}p{number}")));
        }
        self.sticks.retain(|it| it.device != stick.device);
        self.sticks.push(stick.clone());
        Some(stick)
    }

    /// A new stick of one filesystem of which only udev knows that it is a part of another one.
    pub(crate) fn linked_as_part(&mut self, stick: &Stick, number: u32, size_mib: u32) -> Stick {
        let part = self.stick(&format!("{}-part{number}", stick.name), size_mib);
        sh(&format!("cd /dev/disk/by-id; mv usb-{0}-part{number}-0:0 usb-{0}-0:0-part{number}", stick.name));
        part
    }

    /// Puts a stick in, for the first time or again.
    pub(crate) fn insert(&mut self, name: &str) -> Stick {
        let device = PathBuf::from(sh(&format!("losetup -f -P --show {}", self.image(name).display())));
        let base = device.file_name().unwrap().to_str().unwrap().to_owned();
        sh(&format!("ln -sfn ../../{base} /dev/disk/by-id/usb-{name}-0:0"));
        let parts = vec![device.clone()];
        let stick = Stick { name: name.to_owned(), device, parts };
        self.sticks.push(stick.clone());
        stick
    }

    /// Pulls a stick, mounted or not.
    pub(crate) fn pull(&mut self, stick: &Stick) {
        for part in &stick.parts {
            let _ = Command::new("umount").arg("-A").arg("-l").arg(part).env("PATH", PATH).output();
        }
        sh(&format!("losetup -d {}; rm -f /dev/disk/by-id/usb-{}-0:0*", stick.device.display(), stick.name));
        self.sticks.retain(|other| other.device != stick.device);
    }
}

/// Mounts one of its filesystems.
pub(crate) fn mount_at(part: &Path, point: &Path, options: &str) {
    run(Command::new("mount").arg("-o").arg(options).arg(part).arg(point).env("PATH", PATH));
}

/// Binds a folder to another place.
pub(crate) fn bind(from: &Path, to: &Path) {
    std::fs::create_dir_all(from).unwrap();
    mount(Some(from), to, NO_TYPE, MsFlags::MS_BIND, NO_TYPE).expect("bound");
}

/// Mounts a little memory over a point.
pub(crate) fn cover(point: &Path) {
    mount(Some("tmpfs"), point, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).expect("a tmpfs");
}

/// Undoes the mount on top.
pub(crate) fn uncover(point: &Path) {
    umount2(point, MntFlags::empty()).expect("unmounted");
}

/// Whether something is mounted there, as this thread sees it.
pub(crate) fn is_mounted(point: &Path) -> bool {
    let table = std::fs::read("/proc/thread-self/mountinfo").unwrap();
    let mounts = store::mounts::parse_mounts(&table);
    mounts.iter().any(|mount| mount.point == point)
}

impl Drop for Port {
    fn drop(&mut self) {
        for stick in std::mem::take(&mut self.sticks) {
            for part in &stick.parts {
                let _ = Command::new("umount").arg("-A").arg("-l").arg(part).env("PATH", PATH).output();
            }
            let _ = Command::new("losetup").arg("-d").arg(&stick.device).env("PATH", PATH).output();
        }
        let _ = umount2(&self.mounts(), MntFlags::MNT_DETACH);
    }
}

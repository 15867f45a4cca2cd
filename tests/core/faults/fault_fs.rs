//! The real file system of a temporary folder, with one operation that goes wrong.

use media::time::Mono;
use nix::errno::Errno;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use store::disks::Disks;
use store::fs::{Entry, Fs, RealFs};
use store::jobs::{Disk, Eject, Ejected, Found, Look, Space, Target};

thread_local! {
    static CLOCK: Cell<Mono> = const { Cell::new(Mono::new(Duration::ZERO)) };
}

/// The clock of storage: virtual, and one per test thread.
pub(crate) fn clock() -> Mono {
    CLOCK.with(Cell::get)
}

/// Sets the clock of storage.
pub(crate) fn set_clock(now: Mono) {
    CLOCK.with(|clock| clock.set(now));
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// This one fails, the next succeeds.
    Once(Errno),
    /// This one fails and so do all after it.
    FromThen(Errno),
    /// A write takes half of what it is given.
    Short,
    /// It takes long.
    Slow(Duration),
}

/// Which operation is hit, and how many there were.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    trouble: Cell<Option<(u64, Trouble)>>,
    count: Cell<u64>,
    hit: Cell<bool>,
    /// So many times from the trouble on, another process has the lock.
    foreign_locks: Cell<u32>,
}

impl Plan {
    pub(crate) fn new(nth: u64, trouble: Trouble) -> Rc<Self> {
        let plan = Self::default();
        plan.trouble.set(Some((nth, trouble)));
        Rc::new(plan)
    }

    /// The same, and from then on another process has `count` times the lock that is asked for.
    pub(crate) fn with_foreign_locks(nth: u64, trouble: Trouble, count: u32) -> Rc<Self> {
        let plan = Self::new(nth, trouble);
        plan.foreign_locks.set(count);
        plan
    }

    /// Operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.count.get()
    }

    /// Whether the operation was reached.
    pub(crate) fn is_hit(&self) -> bool {
        self.hit.get()
    }

    /// What the present operation suffers.
    fn next(&self) -> Option<Trouble> {
        let number = self.count.get() + 1;
        self.count.set(number);
        let (nth, trouble) = self.trouble.get()?;
        let hit = match trouble {
            Trouble::FromThen(_) => number >= nth,
            _ => number == nth,
        };
        self.hit.set(self.hit.get() || hit);
        hit.then_some(trouble)
    }
}

/// [`RealFs`] under a [`Plan`], without waiting for a real disk.
pub(crate) struct FaultFs(pub(crate) Rc<Plan>);

impl FaultFs {
    fn pass(&self) -> io::Result<bool> {
        match self.0.next() {
            None => Ok(false),
            Some(Trouble::Once(errno) | Trouble::FromThen(errno)) => Err(errno.into()),
            Some(Trouble::Short) => Ok(true),
            Some(Trouble::Slow(time)) => {
                set_clock(clock() + time);
                Ok(false)
            }
        }
    }
}

impl Fs for FaultFs {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        self.pass()?;
        RealFs.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        self.pass()?;
        RealFs.open(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<File> {
        self.pass()?;
        RealFs.open_read(path)
    }

    fn modified_ms(&self, file: &File) -> io::Result<i64> {
        self.pass()?;
        RealFs.modified_ms(file)
    }

    fn names(&self, path: &Path, show: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.pass()?;
        RealFs.names(path, show)
    }

    fn lock(&self, file: &File) -> io::Result<bool> {
        self.pass()?;
        let foreign = self.0.foreign_locks.get();
        if self.0.is_hit() && foreign > 0 {
            self.0.foreign_locks.set(foreign - 1);
            return Ok(false);
        }
        RealFs.lock(file)
    }

    fn append(&self, file: &mut File, octets: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.pass()? {
            false => RealFs.append(file, octets),
            true => {
                let first = octets.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
                RealFs.append(file, &[IoSlice::new(&first[..first.len().div_ceil(2)])])
            }
        }
    }

    fn write_at(&self, file: &File, octets: &[u8], offset: u64) -> io::Result<()> {
        self.pass()?;
        RealFs.write_at(file, octets, offset)
    }

    fn read_at(&self, file: &File, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        self.pass()?;
        RealFs.read_at(file, octets, offset)
    }

    fn set_len(&self, file: &File, octets: u64) -> io::Result<()> {
        self.pass()?;
        RealFs.set_len(file, octets)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        self.pass()?;
        RealFs.len(file)
    }

    fn sync_data(&self, _: &File) -> io::Result<()> {
        self.pass().map(drop)
    }

    fn sync_fs(&self, _: &File) -> io::Result<()> {
        self.pass().map(drop)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.pass().map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass()?;
        RealFs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.pass()?;
        RealFs.remove(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.pass()?;
        RealFs.create_folder(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.pass()?;
        RealFs.list(path)
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.pass()?;
        RealFs.read(path, limit)
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        self.pass()?;
        RealFs.device(path)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        self.pass()?;
        Ok(Space { total_octets: 1 << 30, free_octets: 1 << 30 })
    }
}

impl Disks for FaultFs {
    fn scan(&self, look: &Look) -> Found {
        let Target::Directory(root) = &look.target else { return Found::default() };
        let (Ok(_), Ok(device)) = (self.pass(), RealFs.device(root)) else { return Found::default() };
        let space = Space { total_octets: 1 << 30, free_octets: 1 << 30 };
        Found::from(Some(Disk {
            root: root.clone(),
            mount: root.clone(),
            device,
            filesystem: "vfat".into(),
            space,
            removable: true,
            ..Disk::default()
        }))
    }

    fn eject(&self, _: &Eject) -> io::Result<Ejected> {
        self.pass()?;
        Ok(Ejected { unmounted: true, ..Ejected::default() })
    }

    fn is_pulled(&self, _: u64) -> bool {
        false
    }
}

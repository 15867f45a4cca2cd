//! The real file system of a temporary folder, with one operation that goes wrong.

use media::time::Mono;
use nix::errno::Errno;
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use store::disks::Disks;
use store::fs::{Fs, RealFs};
use store::gated::{Gate, Gated, Operation, Pass};
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

/// The trouble of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// This one fails, the next succeeds.
    Once(Errno),
    /// This one fails and so do all after it.
    FromThen(Errno),
    /// A write takes half of its octets.
    Short,
    /// It takes long.
    Slow(Duration),
}

/// The operation to hit, and the number of operations so far.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    trouble: Cell<Option<(u64, Trouble)>>,
    count: Cell<u64>,
    hit: Cell<bool>,
    /// Number of times from the trouble on that another process has the lock.
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

    /// The trouble of the present operation.
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

/// The room that every disk has.
const SPACE: Space = Space { total_octets: 1 << 30, free_octets: 1 << 30 };

/// The file system of the machine under a [`Plan`], without waiting for a real disk.
pub(crate) type FaultFs = Gated<RealFs, Planned>;

/// The file system under this plan.
pub(crate) fn fault_fs(plan: Rc<Plan>) -> FaultFs {
    Gated::new(RealFs, Planned(plan))
}

/// The gate that a plan is.
pub(crate) struct Planned(Rc<Plan>);

impl Gate for Planned {
    fn pass(&self, operation: Operation<'_>) -> io::Result<Pass> {
        let trouble = self.0.next();
        match trouble {
            Some(Trouble::Once(errno) | Trouble::FromThen(errno)) => return Err(errno.into()),
            Some(Trouble::Slow(time)) => set_clock(clock() + time),
            Some(Trouble::Short) | None => {}
        }
        Ok(match operation {
            Operation::SyncData
            | Operation::SyncFs
            | Operation::SyncEverything
            | Operation::SyncFolder(_) => Pass::Skip,
            Operation::Space(_) => Pass::Space(SPACE),
            Operation::Append(octets) if trouble == Some(Trouble::Short) => Pass::Short(octets.div_ceil(2)),
            Operation::Lock if self.0.is_hit() && self.0.foreign_locks.get() > 0 => {
                self.0.foreign_locks.set(self.0.foreign_locks.get() - 1);
                Pass::Locked
            }
            _ => Pass::Through,
        })
    }
}

impl Disks for Planned {
    fn scan(&self, look: &Look) -> Found {
        let Target::Directory(root) = &look.target else { return Found::default() };
        let (Ok(_), Ok(device)) = (self.pass(Operation::Device(root)), RealFs.device(root)) else {
            return Found::default();
        };
        Found::from(Some(Disk {
            root: root.clone(),
            mount: root.clone(),
            device,
            filesystem: "vfat".into(),
            space: SPACE,
            removable: true,
            ..Disk::default()
        }))
    }

    fn eject(&self, _: &Eject) -> io::Result<Ejected> {
        self.pass(Operation::SyncEverything)?;
        Ok(Ejected { unmounted: true, ..Ejected::default() })
    }

    fn is_pulled(&self, _: u64) -> bool {
        false
    }
}

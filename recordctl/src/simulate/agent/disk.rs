//! The simulated stick: a folder of the desktop that can be pulled, filled, stalled and broken on command.
//!
//! Owns: the faults of each operation. Runs on the storage thread, which may wait; the thread of commands
//! never does. Free room is the simulated size, less the files that are there.

use super::command::Storage;
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::disks::Disks;
use store::fs::{Fs, RealFs};
use store::gated::{Gate, Operation, Pass};
use store::jobs::{Disk, Eject, Ejected, Found, Look, Space, StickId};

/// Size of the stick.
const TOTAL_OCTETS: u64 = 4 << 30;

/// Room that `low` leaves beside the reserve: five minutes of audio.
const LOW_OCTETS: u64 = 300 * 8000 + 64 * 1024;

/// The time of a slow stick's sync: long enough to be told, too short to count as stalled.
const SLOW_SYNC: Duration = Duration::from_millis(1500);

/// The number of the stick's file system; any will do.
const DEVICE: u64 = 0x0801;

#[derive(Debug)]
struct State {
    /// It is in its slot all the same.
    ejected: bool,
    present: bool,
    read_only: bool,
    failed: bool,
    stalled: bool,
    slow: bool,
    /// The number of insertions.
    insertion: u64,
    /// Free octets beside the files.
    room_octets: u64,
}

impl State {
    /// The number of the next insertion: a stick that was pulled or ejected comes anew.
    fn next_insertion(&self) -> u64 {
        self.insertion + u64::from(!self.present || self.ejected)
    }

    /// The number of the good stick: in place of one that gave errors it is another one.
    fn next_good(&self) -> u64 {
        if self.failed { self.insertion + 1 } else { self.next_insertion() }
    }
}

const GOOD: State = State {
    ejected: false,
    present: true,
    read_only: false,
    failed: false,
    stalled: false,
    slow: false,
    insertion: 0,
    room_octets: TOTAL_OCTETS,
};

/// The stick, for the storage thread and for the thread of commands.
#[derive(Clone, Debug)]
pub(super) struct Stick {
    root: Arc<PathBuf>,
    /// The folder of recordings, below `root`.
    folder: Arc<PathBuf>,
    reserve_octets: u64,
    state: Arc<(Mutex<State>, Condvar)>,
    bell: Arc<File>,
}

impl Stick {
    /// A good stick whose files are in `root`, recordings in `folder`.
    ///
    /// # Errors
    /// If the system has no descriptor left.
    pub(super) fn new(root: PathBuf, folder: PathBuf, reserve_octets: u64) -> io::Result<Self> {
        let bell = File::from(OwnedFd::from(EventFd::new()?));
        Ok(Self {
            root: Arc::new(root),
            folder: Arc::new(folder),
            reserve_octets,
            state: Arc::new((Mutex::new(GOOD), Condvar::new())),
            bell: Arc::new(bell),
        })
    }

    /// Becomes readable anew with every change that a phone's mount table would show.
    pub(super) fn changes(&self) -> io::Result<File> {
        self.bell.try_clone()
    }

    /// Carries out a command on the stick.
    pub(super) fn set(&self, command: Storage) {
        // Before the lock: a folder may be slow, too.
        let used = self.used_octets();
        let mut state = self.lock();
        match command {
            Storage::Ok => *state = State { insertion: state.next_good(), ..GOOD },
            Storage::Inserted => {
                state.insertion = state.next_insertion();
                (state.present, state.ejected) = (true, false);
            }
            Storage::Pulled => state.present = false,
            Storage::Low => state.room_octets = used + self.reserve_octets + LOW_OCTETS,
            Storage::Full => state.room_octets = used + self.reserve_octets,
            Storage::ReadOnly => state.read_only = true,
            Storage::Failed => state.failed = true,
            Storage::Stalled => state.stalled = true,
            Storage::Slow => state.slow = true,
        }
        drop(state);
        self.state.1.notify_all();
        // A disk that stalls, breaks or slows down does so without telling.
        if !matches!(command, Storage::Stalled | Storage::Failed | Storage::Slow) {
            // Only a full counter could fail, and that rings anyway.
            let _ = (&*self.bell).write(&1u64.to_ne_bytes());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the stick is stalled, and until it has taken its time.
    fn settled(&self, sync: bool) -> MutexGuard<'_, State> {
        let changed = &self.state.1;
        let mut state = self.lock();
        if sync {
            let waited = changed.wait_timeout_while(state, SLOW_SYNC, |state| state.slow && state.present);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        changed
            .wait_while(state, |state| state.stalled && state.present)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn reads(&self) -> io::Result<()> {
        let state = self.settled(false);
        if state.present && !state.failed { Ok(()) } else { Err(Errno::EIO.into()) }
    }

    fn is_there(&self) -> io::Result<()> {
        if self.settled(false).present { Ok(()) } else { Err(Errno::EIO.into()) }
    }

    fn writes(&self) -> io::Result<()> {
        self.reads()?;
        if self.lock().read_only { Err(Errno::EROFS.into()) } else { Ok(()) }
    }

    fn syncs(&self) -> io::Result<()> {
        drop(self.settled(true));
        self.writes()
    }

    fn used_octets(&self) -> u64 {
        let files = RealFs.list(&self.folder).unwrap_or_default();
        files.iter().map(|file| file.octets).sum()
    }

    fn room(&self) -> Space {
        let used = self.used_octets();
        let free_octets = self.lock().room_octets.saturating_sub(used);
        Space { total_octets: TOTAL_OCTETS, free_octets }
    }
}

impl Gate for Stick {
    fn pass(&self, operation: Operation<'_>) -> io::Result<Pass> {
        match operation {
            // Nothing is lost when a simulated stick is pulled, so no sync troubles the desktop's disk.
            Operation::SyncData => self.syncs().map(|()| Pass::Skip),
            Operation::SyncFs | Operation::SyncEverything | Operation::SyncFolder(_) => {
                self.writes().map(|()| Pass::Skip)
            }
            // The system has this in memory: it answers for a disk that gives errors, too.
            Operation::Device(_) | Operation::DeviceOf => self.is_there().map(|()| Pass::Device(DEVICE)),
            Operation::Space(_) => self.is_there().map(|()| Pass::Space(self.room())),
            Operation::OpenRead(_)
            | Operation::Modified
            | Operation::Names(_)
            | Operation::ReadAt(_)
            | Operation::Len
            | Operation::IsLink(_)
            | Operation::List(_)
            | Operation::Read(_) => self.reads().map(|()| Pass::Through),
            Operation::Unlock => Ok(Pass::Through),
            Operation::Create(_)
            | Operation::Open(_)
            | Operation::Lock
            | Operation::Append(_)
            | Operation::WriteAt(_)
            | Operation::SetLen
            | Operation::SetAside
            | Operation::GiveBack
            | Operation::Rename(..)
            | Operation::Remove(_)
            | Operation::CreateFolder(_) => self.writes().map(|()| Pass::Through),
        }
    }
}

impl Disks for Stick {
    fn scan(&self, look: &Look) -> Found {
        let (present, read_only, insertion) = {
            let state = self.settled(false);
            (state.present, state.read_only, state.insertion)
        };
        let stick = StickId(format!("simulated {insertion}"));
        let pulled = look.ejected.iter().filter(|it| !present || **it != stick).cloned().collect();
        let disk = present.then(|| Disk {
            root: self.root.to_path_buf(),
            mount: self.root.to_path_buf(),
            device: DEVICE,
            filesystem: "vfat".into(),
            space: self.room(),
            read_only,
            removable: true,
            stick,
            ..Disk::default()
        });
        Found { pulled, ..Found::from(disk) }
    }

    fn eject(&self, _: &Eject) -> io::Result<Ejected> {
        self.syncs()?;
        self.lock().ejected = true;
        Ok(Ejected { unmounted: true, ..Ejected::default() })
    }

    fn is_pulled(&self, _: u64) -> bool {
        !self.lock().present
    }
}

//! A filesystem behind a gate that sees every operation before it is done, and may fail, shorten or answer
//! it.
//!
//! Owns: the list of operations, and the possible results of one. Never: when something goes wrong; that is
//! the gate's. The simulated stick and the tests of faults are gates.

use crate::disks::Disks;
use crate::fs::{Entry, Fs};
use crate::jobs::{Eject, Ejected, Found, Look, Space};
use nix::errno::Errno;
use std::io::{self, IoSlice};
use std::path::Path;

/// An operation of [`Fs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// [`Fs::create`].
    Create(&'a Path),
    /// [`Fs::open`].
    Open(&'a Path),
    /// [`Fs::open_read`].
    OpenRead(&'a Path),
    /// [`Fs::modified_ms`].
    Modified,
    /// [`Fs::names`] and [`Fs::names_from`].
    Names(&'a Path),
    /// [`Fs::lock`].
    Lock,
    /// [`Fs::unlock`].
    Unlock,
    /// [`Fs::append`], and the number of octets.
    Append(usize),
    /// [`Fs::write_at`], and the number of octets.
    WriteAt(usize),
    /// [`Fs::read_at`], and the number of octets.
    ReadAt(usize),
    /// [`Fs::set_len`].
    SetLen,
    /// [`Fs::len`].
    Len,
    /// [`Fs::sync_data`].
    SyncData,
    /// [`Fs::sync_fs`].
    SyncFs,
    /// [`Fs::set_aside`].
    SetAside,
    /// [`Fs::give_back`].
    GiveBack,
    /// [`Fs::sync_everything`].
    SyncEverything,
    /// [`Fs::sync_folder`].
    SyncFolder(&'a Path),
    /// [`Fs::rename`] of the first to the second.
    Rename(&'a Path, &'a Path),
    /// [`Fs::remove`].
    Remove(&'a Path),
    /// [`Fs::create_folder`].
    CreateFolder(&'a Path),
    /// [`Fs::is_link`].
    IsLink(&'a Path),
    /// [`Fs::list`].
    List(&'a Path),
    /// [`Fs::read`].
    Read(&'a Path),
    /// [`Fs::device`].
    Device(&'a Path),
    /// [`Fs::device_of`].
    DeviceOf,
    /// [`Fs::space`].
    Space(&'a Path),
}

/// The decision on an operation. An answer that an operation does not have means [`Self::Through`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It is done.
    Through,
    /// It is not done and succeeds: for those that give nothing.
    Skip,
    /// Number of octets that are written, fewer than asked for, and told: [`Operation::Append`].
    Short(usize),
    /// Number of octets that are written before it fails: [`Operation::WriteAt`].
    ShortThen(usize, Errno),
    /// Another process has the lock: [`Operation::Lock`].
    Locked,
    /// The device has this number: [`Operation::Device`], [`Operation::DeviceOf`].
    Device(u64),
    /// There is this room: [`Operation::Space`].
    Space(Space),
}

/// Decides on each operation.
pub trait Gate {
    /// The decision on `operation`, which is next.
    ///
    /// # Errors
    /// The operation fails with it, and is not done.
    fn pass(&self, operation: Operation<'_>) -> io::Result<Pass>;
}

/// A filesystem behind a gate.
#[derive(Clone, Debug)]
pub struct Gated<F, G> {
    inner: F,
    gate: G,
}

impl<F: Fs, G: Gate> Gated<F, G> {
    /// `inner` behind `gate`.
    pub fn new(inner: F, gate: G) -> Self {
        Self { inner, gate }
    }

    /// Whether the operation is to be done; `false`: it was skipped.
    fn is_done(&self, operation: Operation<'_>) -> io::Result<bool> {
        Ok(self.gate.pass(operation)? != Pass::Skip)
    }
}

impl<F: Fs, G: Gate> Fs for Gated<F, G> {
    type File = F::File;

    fn create(&self, path: &Path) -> io::Result<F::File> {
        self.gate.pass(Operation::Create(path))?;
        self.inner.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<F::File> {
        self.gate.pass(Operation::Open(path))?;
        self.inner.open(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<F::File> {
        self.gate.pass(Operation::OpenRead(path))?;
        self.inner.open_read(path)
    }

    fn modified_ms(&self, file: &F::File) -> io::Result<i64> {
        self.gate.pass(Operation::Modified)?;
        self.inner.modified_ms(file)
    }

    fn names(&self, path: &Path, show: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.gate.pass(Operation::Names(path))?;
        self.inner.names(path, show)
    }

    fn names_from(&self, path: &Path, place: u64, show: &mut dyn FnMut(&str)) -> io::Result<Option<u64>> {
        self.gate.pass(Operation::Names(path))?;
        self.inner.names_from(path, place, show)
    }

    fn lock(&self, file: &F::File) -> io::Result<bool> {
        match self.gate.pass(Operation::Lock)? {
            Pass::Locked => Ok(false),
            _ => self.inner.lock(file),
        }
    }

    fn unlock(&self, file: &F::File) -> io::Result<()> {
        if self.is_done(Operation::Unlock)? { self.inner.unlock(file) } else { Ok(()) }
    }

    fn append(&self, file: &mut F::File, octets: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted = octets.iter().map(|slice| slice.len()).sum();
        match self.gate.pass(Operation::Append(wanted))? {
            Pass::Short(count) => {
                let some: Vec<u8> =
                    octets.iter().flat_map(|slice| slice.iter().copied()).take(count).collect();
                self.inner.append(file, &[IoSlice::new(&some)])
            }
            _ => self.inner.append(file, octets),
        }
    }

    fn write_at(&self, file: &F::File, octets: &[u8], offset: u64) -> io::Result<()> {
        match self.gate.pass(Operation::WriteAt(octets.len()))? {
            Pass::ShortThen(count, errno) => {
                self.inner.write_at(file, &octets[..count.min(octets.len())], offset)?;
                Err(errno.into())
            }
            _ => self.inner.write_at(file, octets, offset),
        }
    }

    fn read_at(&self, file: &F::File, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        self.gate.pass(Operation::ReadAt(octets.len()))?;
        self.inner.read_at(file, octets, offset)
    }

    fn set_len(&self, file: &F::File, octets: u64) -> io::Result<()> {
        if self.is_done(Operation::SetLen)? { self.inner.set_len(file, octets) } else { Ok(()) }
    }

    fn len(&self, file: &F::File) -> io::Result<u64> {
        self.gate.pass(Operation::Len)?;
        self.inner.len(file)
    }

    fn sync_data(&self, file: &F::File) -> io::Result<()> {
        if self.is_done(Operation::SyncData)? { self.inner.sync_data(file) } else { Ok(()) }
    }

    fn sync_fs(&self, file: &F::File) -> io::Result<()> {
        if self.is_done(Operation::SyncFs)? { self.inner.sync_fs(file) } else { Ok(()) }
    }

    fn set_aside(&self, file: &F::File, octets: u64) {
        if self.is_done(Operation::SetAside).unwrap_or(false) {
            self.inner.set_aside(file, octets);
        }
    }

    fn give_back(&self, file: &F::File, octets: u64) -> io::Result<()> {
        if self.is_done(Operation::GiveBack)? { self.inner.give_back(file, octets) } else { Ok(()) }
    }

    fn sync_everything(&self, file: &F::File) -> io::Result<()> {
        if self.is_done(Operation::SyncEverything)? { self.inner.sync_everything(file) } else { Ok(()) }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if self.is_done(Operation::SyncFolder(path))? { self.inner.sync_folder(path) } else { Ok(()) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.is_done(Operation::Rename(from, to))? { self.inner.rename(from, to) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.is_done(Operation::Remove(path))? { self.inner.remove(path) } else { Ok(()) }
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        if self.is_done(Operation::CreateFolder(path))? { self.inner.create_folder(path) } else { Ok(()) }
    }

    fn is_link(&self, path: &Path) -> bool {
        self.is_done(Operation::IsLink(path)).unwrap_or(false) && self.inner.is_link(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.gate.pass(Operation::List(path))?;
        self.inner.list(path)
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.gate.pass(Operation::Read(path))?;
        self.inner.read(path, limit)
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        match self.gate.pass(Operation::Device(path))? {
            Pass::Device(device) => Ok(device),
            _ => self.inner.device(path),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        match self.gate.pass(Operation::Space(path))? {
            Pass::Space(space) => Ok(space),
            _ => self.inner.space(path),
        }
    }

    fn device_of(&self, file: &F::File) -> io::Result<Option<u64>> {
        match self.gate.pass(Operation::DeviceOf)? {
            Pass::Device(device) => Ok(Some(device)),
            _ => self.inner.device_of(file),
        }
    }
}

/// Which disks there are is the gate's to say.
impl<F, G: Disks> Disks for Gated<F, G> {
    fn scan(&self, look: &Look) -> Found {
        self.gate.scan(look)
    }

    fn eject(&self, disk: &Eject) -> io::Result<Ejected> {
        self.gate.eject(disk)
    }

    fn is_pulled(&self, device: u64) -> bool {
        self.gate.is_pulled(device)
    }
}

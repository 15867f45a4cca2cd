//! Sticks in memory: the octets written, those of them that are durable, and every way to fail.

use super::rng::Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use store::fs::{Entry, Fs};
use store::jobs::{Disk, Eject, Ejected, Found, Left, Look, Space, StickId};

pub(crate) const ROOT: &str = "/stick";

/// Octets at the beginning that are written in place: the header.
const HEAD_OCTETS: usize = 76;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// The content of a file, in the system's cache and on the medium.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) content: Vec<u8>,
    durable_head: Vec<u8>,
    durable_len: usize,
}

type NodeRef = Rc<RefCell<Node>>;

impl Node {
    fn sync(&mut self) {
        self.durable_len = self.content.len();
        self.durable_head = self.content[..self.content.len().min(HEAD_OCTETS)].to_vec();
    }

    /// Octets that were not synced may be there or not, the header apart from the rest.
    fn crash(&mut self, rng: &mut Rng) {
        let unsynced = (self.content.len() - self.durable_len) as u64;
        let kept = if rng.chance(500) { 0 } else { rng.below(unsynced + 1) };
        self.content.truncate(self.durable_len + usize::try_from(kept).unwrap());
        if rng.chance(500) {
            let head = self.durable_head.len().min(self.content.len());
            self.content[..head].copy_from_slice(&self.durable_head[..head]);
        }
        self.sync();
    }
}

/// One USB stick, in the phone or in a pocket.
#[derive(Debug)]
pub(crate) struct Stick {
    pub(crate) capacity: u64,
    pub(crate) names: BTreeMap<PathBuf, NodeRef>,
    durable_names: BTreeMap<PathBuf, NodeRef>,
}

impl Stick {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity, names: BTreeMap::new(), durable_names: BTreeMap::new() }
    }

    pub(crate) fn used(&self) -> u64 {
        self.names.values().map(|node| node.borrow().content.len() as u64).sum()
    }

    fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    fn sync_names(&mut self) {
        self.durable_names.clone_from(&self.names);
    }

    /// Pulled, or the power went.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        if rng.chance(500) {
            self.names.clone_from(&self.durable_names);
        }
        for node in self.names.values() {
            node.borrow_mut().crash(rng);
        }
        self.sync_names();
    }
}

/// All that storage can see, and the faults to come.
#[derive(Debug)]
pub(crate) struct Disks {
    pub(crate) sticks: Vec<Stick>,
    /// The stick in the phone, by its index.
    pub(crate) inserted: Option<usize>,
    /// Rises with every insertion: handles of before are dead.
    pub(crate) insertion: u64,
    pub(crate) read_only: bool,
    /// A write found no room.
    pub(crate) was_full: bool,
    /// Operations in a thousand that fail with an I/O error.
    pub(crate) error_permille: u64,
    /// Operations until the power goes: later ones have no effect.
    pub(crate) operations_left: Option<u64>,
    pub(crate) rng: Rng,
    /// Counts open files.
    pub(crate) handles: Rc<()>,
}

impl Disks {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            sticks: Vec::new(),
            inserted: None,
            insertion: 0,
            read_only: false,
            was_full: false,
            error_permille: 0,
            operations_left: None,
            rng,
            handles: Rc::new(()),
        }
    }

    pub(crate) fn insert(&mut self, stick: usize) {
        self.inserted = Some(stick);
        self.insertion += 1;
    }

    pub(crate) fn pull(&mut self) {
        if let Some(stick) = self.inserted.take() {
            let Self { sticks, rng, .. } = self;
            sticks[stick].crash(rng);
        }
    }

    fn stick(&mut self) -> io::Result<&mut Stick> {
        if let Some(left) = &mut self.operations_left {
            *left = left.checked_sub(1).ok_or_else(|| os_error(EIO))?;
        }
        if self.error_permille > 0 && self.rng.chance(self.error_permille) {
            return Err(os_error(EIO));
        }
        let stick = self.inserted.ok_or_else(|| os_error(ENOENT))?;
        Ok(&mut self.sticks[stick])
    }
}

fn os_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// The file system of the stick that is in the phone.
#[derive(Clone)]
pub(crate) struct SimFs(pub(crate) Rc<RefCell<Disks>>);

/// An open file.
pub(crate) struct SimFile {
    node: NodeRef,
    insertion: u64,
    _open: Rc<()>,
}

impl SimFs {
    fn on<T>(&self, file: &SimFile, work: impl FnOnce(&mut Stick, &mut Node) -> T) -> io::Result<T> {
        let mut disks = self.0.borrow_mut();
        if disks.insertion != file.insertion {
            return Err(os_error(EIO));
        }
        let stick = disks.stick()?;
        Ok(work(stick, &mut file.node.borrow_mut()))
    }

    fn handle(&self, node: &NodeRef) -> SimFile {
        let disks = self.0.borrow();
        SimFile { node: Rc::clone(node), insertion: disks.insertion, _open: Rc::clone(&disks.handles) }
    }
}

impl Fs for SimFs {
    type File = SimFile;

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let node = NodeRef::default();
        {
            let mut disks = self.0.borrow_mut();
            if disks.read_only {
                return Err(os_error(30));
            }
            let stick = disks.stick()?;
            if stick.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            stick.names.insert(path.into(), Rc::clone(&node));
        }
        Ok(self.handle(&node))
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let node = self.0.borrow_mut().stick()?.names.get(path).cloned();
        node.map(|node| self.handle(&node)).ok_or_else(|| os_error(ENOENT))
    }

    fn open_read(&self, path: &Path) -> io::Result<SimFile> {
        self.open(path)
    }

    fn modified_ms(&self, _file: &SimFile) -> io::Result<i64> {
        Ok(0)
    }

    fn lock(&self, _file: &SimFile) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self, _file: &SimFile) -> io::Result<()> {
        Ok(())
    }

    fn append(&self, file: &mut SimFile, octets: &[IoSlice<'_>]) -> io::Result<usize> {
        let short = self.0.borrow_mut().rng.chance(20);
        let written = self.on(file, |stick, node| {
            let mut free = usize::try_from(stick.capacity).unwrap_or(usize::MAX);
            let used: u64 = {
                // The file itself is borrowed: its length is added apart.
                let others = stick.names.values().filter_map(|other| other.try_borrow().ok());
                others.map(|other| other.content.len() as u64).sum()
            };
            free = free.saturating_sub(usize::try_from(used).unwrap() + node.content.len());
            let mut written = 0;
            for slice in octets {
                let take = slice.len().min(free);
                node.content.extend_from_slice(&slice[..take]);
                written += take;
                free -= take;
                if take < slice.len() || short {
                    break;
                }
            }
            written
        })?;
        if written == 0 {
            self.0.borrow_mut().was_full = true;
            return Err(os_error(ENOSPC));
        }
        Ok(written)
    }

    fn write_at(&self, file: &SimFile, octets: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.on(file, |_, node| {
            let end = start + octets.len();
            node.content.resize(node.content.len().max(end), 0);
            node.content[start..end].copy_from_slice(octets);
        })
    }

    fn read_at(&self, file: &SimFile, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        self.on(file, |_, node| {
            let from = node.content.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let count = from.len().min(octets.len());
            octets[..count].copy_from_slice(&from[..count]);
            count
        })
    }

    fn set_len(&self, file: &SimFile, octets: u64) -> io::Result<()> {
        self.on(file, |_, node| {
            node.content.resize(usize::try_from(octets).unwrap(), 0);
            node.durable_len = node.durable_len.min(node.content.len());
        })
    }

    fn len(&self, file: &SimFile) -> io::Result<u64> {
        self.on(file, |_, node| node.content.len() as u64)
    }

    fn sync_data(&self, file: &SimFile) -> io::Result<()> {
        self.on(file, |_, node| node.sync())
    }

    fn sync_fs(&self, file: &SimFile) -> io::Result<()> {
        self.on(file, |stick, node| {
            node.sync();
            stick.names.values().filter_map(|other| other.try_borrow_mut().ok()).for_each(|mut it| it.sync());
            stick.sync_names();
        })
    }

    // No room is lost between writing and syncing: none has to be set aside.
    fn set_aside(&self, _file: &SimFile, _octets: u64) {}

    fn give_back(&self, _file: &SimFile, _octets: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_everything(&self, file: &SimFile) -> io::Result<()> {
        self.sync_fs(file)
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        self.0.borrow_mut().stick().map(Stick::sync_names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disks = self.0.borrow_mut();
        let stick = disks.stick()?;
        let node = stick.names.remove(from).ok_or_else(|| os_error(ENOENT))?;
        stick.names.insert(to.into(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disks = self.0.borrow_mut();
        disks.stick()?.names.remove(path).map(drop).ok_or_else(|| os_error(ENOENT))
    }

    fn create_folder(&self, _path: &Path) -> io::Result<()> {
        self.0.borrow_mut().stick().map(drop)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut disks = self.0.borrow_mut();
        let inside = disks.stick()?.names.iter().filter(|(name, _)| name.parent() == Some(path));
        let entry = |(name, node): (&PathBuf, &NodeRef)| Entry {
            name: name.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            octets: node.borrow().content.len() as u64,
        };
        Ok(inside.map(entry).collect())
    }

    fn is_link(&self, _path: &Path) -> bool {
        false
    }

    fn names_from(&self, path: &Path, _place: u64, each: &mut dyn FnMut(&str)) -> io::Result<Option<u64>> {
        self.names(path, each).map(|()| None)
    }

    fn device_of(&self, _file: &SimFile) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn names(&self, path: &Path, each: &mut dyn FnMut(&str)) -> io::Result<()> {
        for entry in self.list(path)? {
            each(&entry.name);
        }
        Ok(())
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let mut disks = self.0.borrow_mut();
        let node = disks.stick()?.names.get(path).cloned().ok_or_else(|| os_error(ENOENT))?;
        let content = node.borrow().content.iter().copied().take(limit).collect();
        Ok(content)
    }

    fn device(&self, _path: &Path) -> io::Result<u64> {
        let mut disks = self.0.borrow_mut();
        let device = disks.insertion;
        disks.stick().map(|_| device)
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let mut disks = self.0.borrow_mut();
        let stick = disks.stick()?;
        Ok(Space { total_octets: stick.capacity, free_octets: stick.free() })
    }
}

impl store::disks::Disks for SimFs {
    fn scan(&self, look: &Look) -> Found {
        let mut disks = self.0.borrow_mut();
        let (device, read_only) = (disks.insertion, disks.read_only);
        let present = StickId(format!("insertion {device}"));
        let is_in = disks.inserted.is_some();
        let pulled = look.ejected.iter().filter(|stick| !is_in || **stick != present).cloned().collect();
        let Ok(stick) = disks.stick() else { return Found { pulled, ..Found::default() } };
        let disk = Disk {
            root: ROOT.into(),
            mount: ROOT.into(),
            device,
            filesystem: "vfat".into(),
            space: Space { total_octets: stick.capacity, free_octets: stick.free() },
            read_only,
            sync_mount: false,
            removable: true,
            stick: present,
            group: String::new(),
            folder_fault: None,
        };
        Found { disks: vec![disk], pulled, missing: None, ..Found::default() }
    }

    fn eject(&self, disk: &Eject) -> io::Result<Ejected> {
        let mut disks = self.0.borrow_mut();
        let stick = disks.stick()?;
        stick.names.values().for_each(|node| node.borrow_mut().sync());
        stick.sync_names();
        if disks.rng.chance(500) {
            return Ok(Ejected { unmounted: true, ..Ejected::default() });
        }
        let left = Left { point: disk.root.clone(), why: "not allowed".into(), denied: true };
        Ok(Ejected { left: vec![left], ..Ejected::default() })
    }

    fn is_pulled(&self, _: u64) -> bool {
        false
    }
}

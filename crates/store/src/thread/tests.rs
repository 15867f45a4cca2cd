use super::*;
use crate::fs::RealFs;
use crate::gated::{Gate, Gated, Operation, Pass};
use crate::jobs::{Eject, Ejected, Fault, FileKey, Folder, Found, Look, Open};
use crate::writer::checkpoints::{Checkpoints, Ledger};
use crate::writer::per_file::PerFile;
use media::codec::Codec;
use media::time::Wall;
use recfile::header::FileHeader;
use recfile::sidecar::Sidecar;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

/// Jobs that wait at most: fewer than a checkpoint has answers.
const CAPACITY: usize = 2;
const FILES: u64 = 20;

/// A gate that skips syncs, the slow operations of a disk.
struct Quick;

impl Gate for Quick {
    fn pass(&self, operation: Operation<'_>) -> io::Result<Pass> {
        use Operation::{SyncData, SyncEverything, SyncFolder, SyncFs};
        let is_slow = matches!(operation, SyncData | SyncEverything | SyncFolder(_) | SyncFs);
        Ok(if is_slow { Pass::Skip } else { Pass::Through })
    }
}

impl Disks for Quick {
    fn scan(&self, look: &Look) -> Found {
        RealFs.scan(look)
    }

    fn eject(&self, disk: &Eject) -> io::Result<Ejected> {
        RealFs.eject(disk)
    }

    fn is_pulled(&self, _: u64) -> bool {
        false
    }
}

struct NoLedger;

impl<F: Fs> Ledger<F> for NoLedger {
    type Line = ();
    fn begin(&mut self, _: &F, _: &str) {}
    fn line(&self, _: &Path, _: &Sidecar) {}
    fn finished(&mut self, (): ()) {}
    fn is_due(&self) -> bool {
        false
    }
    fn write(&mut self, _: &F) -> Result<(), Fault> {
        Ok(())
    }
}

/// Opens files, then closes them, as fast as there is room for jobs; looks for answers only if there is none,
/// and at the end. Gives how many files were opened, and closed.
fn open_and_close<P>(policy: P) -> (u64, u64)
where
    P: SyncPolicy<Gated<RealFs, Quick>> + Send + 'static,
    P::Kept: Send,
{
    let dir = tempfile::tempdir().unwrap();
    let device = RealFs.device(dir.path()).unwrap();
    let folder = Folder { root: dir.path().to_owned(), device, name: "calls".into() };
    let woken = Arc::new(AtomicUsize::new(0));
    let wakes = Arc::clone(&woken);
    let writer = Writer::new(Gated::new(RealFs, Quick), os::clock::mono, policy);
    let storage = spawn(writer, CAPACITY, move || {
        wakes.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    let open = |file| {
        Job::Open(Open {
            file,
            folder: folder.clone(),
            stamp: Wall { unix_ms: 1_772_402_400_000, utc_offset_s: 0 },
            header: FileHeader::new(Codec::Pcma, 20),
            sidecar: Box::default(),
        })
    };
    let files = || (0..FILES).map(FileKey);
    let jobs = files().map(open).chain(files().map(|file| Job::Close { file, sidecar: Box::default() }));
    let (mut opened, mut closed) = (0, 0);
    let mut count = |done: &Done| match done {
        Done::Opened { result, .. } => opened += u64::from(result.is_ok()),
        Done::Closed { result, .. } => closed += u64::from(result.is_ok()),
        other => panic!("{other:?}"),
    };
    let patience = Duration::from_secs(60);
    let mut answers = 0;
    for mut job in jobs {
        while let Err(TrySendError::Full(back)) = storage.submit(job) {
            job = back;
            count(&storage.done.recv_timeout(patience).unwrap());
            answers += 1;
        }
    }
    for _ in answers..2 * FILES {
        count(&storage.done.recv_timeout(patience).unwrap());
    }
    assert!(woken.load(Ordering::SeqCst) > 0);
    (opened, closed)
}

#[test]
fn the_thread_answers_every_job_though_a_checkpoint_has_more_answers_than_there_is_room_for() {
    let checkpoints = Checkpoints::new(Duration::from_secs(3600), NoLedger, os::clock::mono());
    assert_eq!(open_and_close(checkpoints), (FILES, FILES));
}

#[test]
fn the_thread_answers_every_job_of_a_writer_without_checkpoints() {
    assert_eq!(open_and_close(PerFile::default()), (FILES, FILES));
}

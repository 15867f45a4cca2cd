//! The server's writer on a real filesystem whose operations are watched, and whose syncs can fail.

use media::blocks::BlockPool;
use media::codec::Codec;
use media::time::{Mono, Wall};
use nix::errno::Errno;
use recfile::header::{FileHeader, HEADER_OCTETS};
use recfile::sidecar::{Sidecar, SidecarState};
use recordserver::journal::{Journal, Line};
use recordserver::ledger::Ledger;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::disks::Disks;
use store::fs::{Fs, RealFs};
use store::gated::{Gate, Gated, Operation, Pass};
use store::jobs::server::{ServerDone, ServerJob};
use store::jobs::{Done, Eject, Ejected, FileKey, Folder, Found, Job, Look, Open, Piece};
use store::writer::Writer;
use store::writer::checkpoints::Checkpoints;

/// The operations, in order; and whether syncs fail.
#[derive(Default)]
struct Seen {
    operations: RefCell<Vec<&'static str>>,
    broken: Cell<Option<Errno>>,
    /// The sync that fails once, counted from 1.
    failing: Cell<Option<usize>>,
    /// The error for each sidecar.
    no_sidecar: Cell<Option<Errno>>,
    /// The error after half of the lines.
    no_line: Cell<Option<Errno>>,
}

impl Seen {
    fn count(&self, operation: &str) -> usize {
        self.operations.borrow().iter().filter(|seen| **seen == operation).count()
    }
}

/// The gate that notes operations, and fails the chosen ones.
struct Watch(Rc<Seen>);

impl Gate for Watch {
    fn pass(&self, operation: Operation<'_>) -> io::Result<Pass> {
        let name = match operation {
            // The header's `dataSize` has four octets.
            Operation::WriteAt(4) => Some("dataSize"),
            Operation::WriteAt(_) => Some("journal"),
            Operation::SyncData | Operation::SyncFs => Some("fdatasync"),
            Operation::SyncEverything => Some("syncfs"),
            Operation::SyncFolder(_) => Some("fsync"),
            Operation::Rename(..) => Some("rename"),
            _ => None,
        };
        self.0.operations.borrow_mut().extend(name);
        match operation {
            Operation::Create(path) if path.extension().is_some_and(|it| it == "tmp") => {
                self.0.no_sidecar.get().map_or(Ok(Pass::Through), |errno| Err(errno.into()))
            }
            Operation::WriteAt(octets) if octets > 4 => Ok(match self.0.no_line.get() {
                Some(errno) => Pass::ShortThen(octets / 2, errno),
                None => Pass::Through,
            }),
            Operation::SyncEverything => match self.0.broken.get() {
                Some(errno) => Err(errno.into()),
                None if self.0.failing.get() == Some(self.0.count("syncfs")) => Err(Errno::EIO.into()),
                None => Ok(Pass::Skip),
            },
            _ => Ok(Pass::Through),
        }
    }
}

impl Disks for Watch {
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

fn still() -> Mono {
    Mono::new(Duration::from_secs(1))
}

type Watched = Gated<RealFs, Watch>;

struct Bench {
    folder: tempfile::TempDir,
    seen: Rc<Seen>,
    writer: Writer<Watched, Checkpoints<Watched, Ledger<Watched>>>,
    pool: BlockPool,
}

impl Bench {
    fn new() -> Self {
        let seen = Rc::new(Seen::default());
        let folder = tempfile::tempdir().unwrap();
        let journal = Arc::new(Mutex::new(Journal::new(folder.path())));
        let fs = Gated::new(RealFs, Watch(Rc::clone(&seen)));
        let checkpoints = Checkpoints::new(Duration::from_secs(2), Ledger::new(journal, None), still());
        let writer = Writer::new(fs, still, checkpoints);
        Self { folder, seen, writer, pool: BlockPool::new(1 << 24) }
    }

    fn open(&mut self, file: u64) {
        let root = self.folder.path().to_owned();
        let device = RealFs.device(&root).unwrap();
        let folder = Folder { root, device, name: format!("phone{file}/2026-03-02") };
        let header = FileHeader::new(Codec::Pcma, 20);
        let sidecar = Box::new(Sidecar {
            recording: format!("call{file}"),
            state: SidecarState::Recording,
            ..Sidecar::default()
        });
        let stamp = Wall { unix_ms: 1_772_402_400_000, utc_offset_s: 0 };
        let done =
            self.writer.handle(Job::Open(Open { file: FileKey(file), folder, stamp, header, sidecar }));
        assert!(matches!(done, Some(Done::Opened { result: Ok(_), .. })), "{done:?}");
    }

    fn append(&mut self, file: u64, octets: &[u8]) -> Done {
        let mut block = self.pool.take().unwrap();
        block.fill(octets);
        let pieces = vec![Piece::Audio(block)];
        self.writer.handle(Job::Append { file: FileKey(file), pieces, flush: true }).unwrap()
    }

    fn close(&mut self, file: u64) {
        assert!(self.try_close(file).is_none());
    }

    /// The answer to a `Close` that is not left to the next checkpoint.
    fn try_close(&mut self, file: u64) -> Option<Done> {
        let sidecar = Box::new(Sidecar {
            recording: format!("call{file}"),
            state: SidecarState::Ended,
            ..Sidecar::default()
        });
        self.writer.handle(Job::Close { file: FileKey(file), sidecar })
    }

    fn checkpoint(&mut self) -> Vec<Done> {
        let mut done = Vec::new();
        self.writer.checkpoint(&mut done);
        done
    }

    /// The whole lines of the journal.
    fn listed(&self) -> Vec<Line> {
        let octets = std::fs::read(self.folder.path().join(".journal")).unwrap_or_default();
        octets.split(|octet| *octet == b'\n').filter_map(Line::parse).collect()
    }

    /// `dataSize`, octets of audio, sidecar.
    fn found(&self, file: u64) -> (u32, usize, Sidecar) {
        let folder = self.folder.path().join(format!("phone{file}/2026-03-02"));
        let wav = std::fs::read(folder.join("Record_20260301-220000.wav")).unwrap();
        let json = std::fs::read(folder.join("Record_20260301-220000.json")).unwrap();
        let header = FileHeader::parse(&wav).unwrap();
        (header.data_size, wav.len() - HEADER_OCTETS, Sidecar::parse(&json).unwrap())
    }
}

#[test]
fn a_hundred_files_are_made_durable_by_one_sync_and_only_then_promised() {
    let mut bench = Bench::new();
    for file in 0..100 {
        bench.open(file);
        bench.append(file, &[7; 400]);
    }
    assert_eq!((bench.found(3).0, bench.found(3).1), (0, 400));
    bench.seen.operations.borrow_mut().clear();
    assert!(bench.checkpoint().is_empty());
    let operations = bench.seen.operations.borrow().clone();
    assert_eq!(operations.first(), Some(&"syncfs"));
    assert_eq!((operations.len(), bench.seen.count("dataSize")), (101, 100));
    assert_eq!(bench.found(3).0, 320, "whole frames only");
}

#[test]
fn a_closed_file_is_whole_and_durable_when_it_is_reported() {
    let mut bench = Bench::new();
    for file in 0..2 {
        bench.open(file);
        bench.append(file, &[7; 400]);
    }
    bench.close(0);
    assert_eq!(bench.found(0).2.state, SidecarState::Recording, "not before it is durable");
    bench.seen.operations.borrow_mut().clear();
    let done = bench.checkpoint();
    assert!(matches!(done[..], [Done::Closed { file: FileKey(0), result: Ok(_) }]), "{done:?}");
    assert_eq!(
        *bench.seen.operations.borrow(),
        ["syncfs", "dataSize", "dataSize", "rename", "journal", "syncfs"]
    );
    let (data_size, octets, sidecar) = bench.found(0);
    assert_eq!((data_size, octets, sidecar.data_bytes), (480, 480, 480), "the last frame is filled");
    assert_eq!((sidecar.state, sidecar.duration_ms), (SidecarState::Ended, 60));
    assert_eq!(bench.writer.poll_deadline(), Some(still() + Duration::from_secs(2)), "the other goes on");
}

#[test]
fn a_question_whether_all_is_durable_is_answered_by_the_next_checkpoint_and_truly() {
    let mut bench = Bench::new();
    bench.open(0);
    bench.append(0, &[7; 400]);
    let ask = |bench: &mut Bench, number| bench.writer.handle(Job::Server(ServerJob::Confirm(number)));
    assert!(ask(&mut bench, 1).is_none());
    assert_eq!(bench.writer.poll_deadline(), Some(still() + Duration::from_secs(1)), "soon");
    let answer = |done: &[Done]| match done {
        [.., Done::Server(ServerDone::Confirmed { number, is_durable })] => (*number, *is_durable),
        other => panic!("{other:?}"),
    };
    assert_eq!(answer(&bench.checkpoint()), (1, true));
    assert!(bench.checkpoint().is_empty(), "once");
    // Each of the two syncs of a checkpoint may fail.
    for (number, failing) in [(2, 1), (3, 2)] {
        bench.open(number);
        bench.append(number, &[7; 400]);
        bench.close(number);
        assert!(ask(&mut bench, number).is_none());
        bench.seen.failing.set(Some(bench.seen.count("syncfs") + failing));
        assert_eq!(answer(&bench.checkpoint()), (number, false));
    }
}

#[test]
fn a_failed_sync_is_final_for_all_files_of_that_time_and_no_header_promises_anything() {
    // Pages that found no room are gone as well.
    for errno in [Errno::EIO, Errno::ENOSPC, Errno::EDQUOT] {
        let mut bench = Bench::new();
        bench.open(0);
        bench.open(1);
        bench.append(0, &[7; 160]);
        bench.append(1, &[7; 160]);
        bench.close(0);
        bench.seen.broken.set(Some(errno));
        let done = bench.checkpoint();
        assert!(matches!(done[..], [Done::Closed { file: FileKey(0), result: Err(_) }]), "{done:?}");
        // A dead disk may report success the next time.
        bench.seen.broken.set(None);
        assert!(bench.checkpoint().is_empty());
        assert!(matches!(bench.append(1, &[7; 160]), Done::Appended { result: Err(_), .. }));
        assert!(matches!(bench.try_close(1), Some(Done::Closed { result: Err(_), .. })));
        assert!(bench.checkpoint().is_empty());
        for file in 0..2 {
            let (data_size, _, sidecar) = bench.found(file);
            assert_eq!((data_size, sidecar.state), (0, SidecarState::Recording), "{errno}");
        }
        bench.open(2);
        bench.append(2, &[7; 160]);
        bench.checkpoint();
        assert_eq!(bench.found(2).0, 160, "a new file is not blamed");
    }
}

#[test]
fn a_sidecar_that_waits_for_room_calls_no_file_whole_whose_sync_failed() {
    let mut bench = Bench::new();
    bench.open(0);
    bench.append(0, &[7; 160]);
    bench.seen.no_sidecar.set(Some(Errno::ENOSPC));
    bench.close(0);
    bench.seen.no_sidecar.set(None);
    bench.seen.broken.set(Some(Errno::EIO));
    let done = bench.checkpoint();
    assert!(matches!(done[..], [Done::Closed { file: FileKey(0), result: Err(_) }]), "{done:?}");
    bench.seen.broken.set(None);
    bench.checkpoint();
    let (data_size, _, sidecar) = bench.found(0);
    assert_eq!((data_size, sidecar.state), (0, SidecarState::Recording));
    assert_eq!(bench.seen.count("journal"), 0);
}

#[test]
fn a_sync_that_fails_behind_the_headers_is_final_for_open_files_too() {
    let mut bench = Bench::new();
    bench.open(0);
    bench.open(1);
    bench.append(0, &[7; 160]);
    bench.append(1, &[7; 160]);
    bench.close(0);
    bench.seen.failing.set(Some(2));
    let done = bench.checkpoint();
    assert!(matches!(done[..], [Done::Closed { file: FileKey(0), result: Err(_) }]), "{done:?}");
    assert!(matches!(bench.append(1, &[7; 160]), Done::Appended { result: Err(_), .. }));
}

#[test]
fn nothing_written_needs_no_checkpoint_and_the_last_close_has_it_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.writer.poll_deadline(), None);
    bench.open(0);
    assert_eq!(bench.writer.poll_deadline(), Some(still() + Duration::from_secs(2)));
    bench.close(0);
    assert_eq!(bench.writer.poll_deadline(), Some(still()));
    bench.checkpoint();
    assert_eq!(bench.writer.poll_deadline(), None);
}

#[test]
fn a_file_that_was_reported_closed_is_not_taken_for_one_being_written() {
    let mut bench = Bench::new();
    bench.open(0);
    bench.append(0, &[7; 160]);
    let path = bench.folder.path().join("phone0/2026-03-02/Record_20260301-220000.wav");
    let is_free = || RealFs.lock(&File::open(&path).unwrap()).unwrap();
    assert!(!is_free());
    bench.close(0);
    bench.checkpoint();
    assert!(is_free());
}

#[test]
fn a_sidecar_that_finds_no_room_or_descriptor_is_tried_again_also_if_nothing_else_is_written() {
    for errno in [Errno::ENOSPC, Errno::EMFILE, Errno::ENFILE, Errno::EIO] {
        let mut bench = Bench::new();
        bench.open(0);
        bench.append(0, &[7; 160]);
        bench.seen.no_sidecar.set(Some(errno));
        bench.close(0);
        let done = bench.checkpoint();
        assert!(matches!(done[..], [Done::Closed { result: Err(_), .. }]), "{errno}: {done:?}");
        assert_eq!((bench.found(0).0, bench.found(0).2.state), (160, SidecarState::Recording), "{errno}");
        for _ in 0..3 {
            assert_eq!(bench.writer.poll_deadline(), Some(still() + Duration::from_secs(2)), "{errno}");
            bench.checkpoint();
        }
        bench.seen.no_sidecar.set(None);
        bench.checkpoint();
        assert_eq!(bench.found(0).2.state, SidecarState::Ended, "{errno}");
        bench.checkpoint();
        assert_eq!(bench.writer.poll_deadline(), None, "{errno}");
    }
}

#[test]
fn a_file_that_is_reported_closed_has_its_line_and_a_failed_one_has_none() {
    let mut bench = Bench::new();
    for file in 0..2 {
        bench.open(file);
        bench.append(file, &[7; 400]);
    }
    bench.close(0);
    assert!(bench.listed().is_empty(), "not before its sidecar is final");
    bench.checkpoint();
    let sidecar = bench.found(0).2;
    assert!(sidecar.sha256.as_ref().is_some_and(|hash| hash.len() == 64));
    let file = "phone0/2026-03-02/Record_20260301-220000.wav".to_owned();
    let line = Line { file, recording: "call0".into(), segment: 1, sha256: sidecar.sha256 };
    assert_eq!(bench.listed(), std::slice::from_ref(&line));
    bench.seen.broken.set(Some(Errno::EIO));
    bench.close(1);
    bench.checkpoint();
    assert_eq!(bench.listed(), [line]);
}

#[test]
fn a_line_that_finds_no_room_costs_no_recording_and_is_tried_again_also_if_nothing_else_is_written() {
    for errno in [Errno::ENOSPC, Errno::EROFS, Errno::EIO] {
        let mut bench = Bench::new();
        for file in 0..2 {
            bench.open(file);
            bench.append(file, &[7; 160]);
        }
        bench.seen.no_line.set(Some(errno));
        bench.close(0);
        let done = bench.checkpoint();
        assert!(
            matches!(done[..], [Done::Closed { result: Err(_), .. }]),
            "left to the next start: {done:?}"
        );
        assert_eq!((bench.found(0).0, bench.found(0).2.state), (160, SidecarState::Ended), "{errno}");
        assert!(matches!(bench.append(1, &[7; 160]), Done::Appended { result: Ok(_), .. }), "{errno}");
        bench.close(1);
        bench.checkpoint();
        for _ in 0..3 {
            assert_eq!(bench.writer.poll_deadline(), Some(still() + Duration::from_secs(2)), "{errno}");
            bench.checkpoint();
        }
        assert!(bench.listed().is_empty(), "{errno}");
        bench.seen.no_line.set(None);
        bench.checkpoint();
        let ids: Vec<String> = bench.listed().into_iter().map(|line| line.recording).collect();
        assert_eq!(ids, ["call0", "call1"], "{errno}");
        bench.seen.operations.borrow_mut().clear();
        bench.checkpoint();
        assert_eq!(*bench.seen.operations.borrow(), ["syncfs"], "they are made durable");
        assert_eq!(bench.writer.poll_deadline(), None, "{errno}");
    }
}

#[test]
fn a_late_sidecar_is_followed_by_its_line() {
    let mut bench = Bench::new();
    bench.open(0);
    bench.append(0, &[7; 160]);
    bench.seen.no_sidecar.set(Some(Errno::ENOSPC));
    bench.close(0);
    bench.checkpoint();
    assert!(bench.listed().is_empty());
    bench.seen.no_sidecar.set(None);
    bench.checkpoint();
    assert_eq!(bench.listed().len(), 1);
}

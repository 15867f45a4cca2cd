//! A call allocates nothing, packets and flushes: a counting allocator watches the agent take 100,000
//! packets, and the storage thread write.

use media::blocks::BlockPool;
use media::codec::Codec;
use media::time::{Mono, Now, Wall};
use recfile::header::FileHeader;
use recfile::seal::age::Recipient;
use recordd::agent::{Action, Agent, ClientId, Datagram, Forward, Input, RecordingKey};
use recordd::config::Config;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use store::fs::{Fs, RealFs};
use store::jobs::{Disk, Done, FileKey, Folder, Found, Job, Open, Opened, Piece, Space};
use store::seal::Seals;
use store::writer::Writer;
use store::writer::per_file::PerFile;

/// The system's allocator, and a count of this thread's allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // Fails only while a thread ends, when nothing is counted any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[expect(unsafe_code, reason = "an allocator can only be watched by being one")]
// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of the heap.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Number of allocations of `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const PACKETS: u32 = 100_000;

/// Packets after which everything has its size: two flushes, both window and pool used.
const WARM_UP: u32 = 5000;

/// Packets between two drains: half a second.
const BATCH: u32 = 25;

/// An agent that records one call of PCMA, and a storage that hands everything straight back.
struct Bench {
    agent: Agent,
    actions: Vec<Action>,
    recording: Option<RecordingKey>,
    now_ms: u64,
    /// Octets that storage took.
    durable_octets: u64,
}

impl Bench {
    fn recording() -> Self {
        let now = now_at(0);
        let agent = Agent::new(Config::default(), 1, now);
        let mut bench =
            Self { agent, actions: Vec::with_capacity(64), recording: None, now_ms: 0, durable_octets: 0 };
        bench.step(Input::Started);
        bench.step(Input::ClientOpened(ClientId(1)));
        let start = br#"{"jsonrpc":"2.0","id":1,"method":"record.start","params":{"codec":"PCMA"}}"#;
        bench.step(Input::ClientLine(ClientId(1), start));
        assert!(bench.recording.is_some(), "it records");
        bench
    }

    fn step(&mut self, input: Input<'_>) {
        let now = now_at(self.now_ms);
        self.agent.step(input, now, &mut self.actions);
        while let Some(action) = self.actions.pop() {
            let answer = match action {
                Action::BindRtp { recording, .. } => {
                    self.recording = Some(recording);
                    let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 40_000);
                    Input::RtpBound(recording, Ok(addr))
                }
                Action::Job(job) => match self.answer(job) {
                    Some(done) => Input::Storage(done),
                    None => continue,
                },
                _ => continue,
            };
            self.agent.step(answer, now, &mut self.actions);
        }
    }

    fn answer(&mut self, job: Job) -> Option<Done> {
        match job {
            Job::Scan(_) => Some(Done::Scanned(Found::from(Some(Disk {
                root: "/stick".into(),
                mount: "/stick".into(),
                device: 1,
                filesystem: "vfat".into(),
                space: space(),
                removable: true,
                ..Disk::default()
            })))),
            Job::Open(open) => {
                let opened = Opened { path: "/stick/a.wav".into(), name: "a.wav".into(), space: space() };
                Some(Done::Opened { file: open.file, result: Ok(opened) })
            }
            Job::Append { file, pieces, .. } => {
                self.durable_octets += pieces.iter().map(octets_of).sum::<u64>();
                let (durable_octets, took) = (self.durable_octets, Duration::from_millis(3));
                Some(Done::Appended { file, pieces, durable_octets, took, result: Ok(None) })
            }
            _ => None,
        }
    }

    fn datagram(&mut self, octets: &[u8]) {
        let recording = self.recording.expect("it records");
        let (source, arrival) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 5004)), now_at(self.now_ms).mono);
        let taken = self.agent.datagram(recording, Datagram { octets, truncated: false, source, arrival });
        assert!(matches!(taken.forward, Forward::Nothing), "a packet alone causes nothing");
    }

    fn drain(&mut self) {
        let recording = self.recording.expect("it records");
        self.step(Input::Drained(recording));
        if self.agent.deadline().is_some_and(|due| due <= now_at(self.now_ms).mono) {
            self.step(Input::Tick);
        }
    }
}

fn now_at(now_ms: u64) -> Now {
    Now {
        mono: Mono::new(Duration::from_millis(now_ms)),
        wall: Wall { unix_ms: 1_772_352_900_250, utc_offset_s: 0 },
    }
}

fn space() -> Space {
    Space { total_octets: 32 << 30, free_octets: 16 << 30 }
}

fn octets_of(piece: &Piece) -> u64 {
    match piece {
        Piece::Audio(block) => block.octets().len() as u64,
        Piece::Silence(octets) => *octets,
    }
}

/// A packet of 20 ms with this number.
fn packet(number: u32) -> [u8; 172] {
    let mut octets = [0x2A; 172];
    octets[..2].copy_from_slice(&[0x80, 8]);
    octets[2..4].copy_from_slice(&number.to_be_bytes()[2..]);
    octets[4..8].copy_from_slice(&number.wrapping_mul(160).to_be_bytes());
    octets[8..12].copy_from_slice(&7_u32.to_be_bytes());
    octets
}

/// Feeds 100,000 packets, `order` saying which comes when and how often; gives the allocations in packets,
/// and the most in one drain.
fn feed(order: impl Fn(u32) -> (u32, u32)) -> (u64, u64) {
    let mut bench = Bench::recording();
    let (mut in_packets, mut most_per_drain) = (0, 0);
    for number in 0..PACKETS {
        bench.now_ms += 20;
        let (comes, times) = order(number);
        let datagram = packet(comes);
        let here = allocations(|| (0..times).for_each(|_| bench.datagram(&datagram)));
        let there = if number % BATCH == 0 { allocations(|| bench.drain()) } else { 0 };
        if number >= WARM_UP {
            in_packets += here;
            most_per_drain = most_per_drain.max(there);
        }
    }
    (in_packets, most_per_drain)
}

#[test]
fn storage_allocates_nothing_for_a_flush_encrypted_or_not() {
    let recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    let recipients = vec![Recipient::parse(recipient).unwrap()];
    for seals in [Seals::default(), Seals { recipients, sign_key: None }] {
        flush_without_allocation(seals);
    }
}

fn flush_without_allocation(seals: Seals) {
    let root = tempfile::tempdir().expect("a folder");
    let device = RealFs.device(root.path()).expect("its device");
    let folder = Folder { root: root.path().into(), device, name: String::new() };
    let (file, wall) = (FileKey(1), now_at(0).wall);
    let header = FileHeader::new(Codec::Pcma, 20);
    let open = Open { file, folder, stamp: wall, header, sidecar: Box::default() };
    let mut writer = Writer::new(RealFs, || now_at(0).mono, PerFile::with_seals(seals));
    assert!(matches!(writer.handle(Job::Open(open)).unwrap(), Done::Opened { result: Ok(_), .. }));
    let mut pool = BlockPool::new(1 << 20);
    let mut pieces = Vec::new();
    for number in 0..50 {
        let mut block = pool.take().expect("a block");
        block.fill(&[0x2A; 8000]);
        pieces.push(Piece::Audio(block));
        let mut done = None;
        let append = Job::Append { file, pieces, flush: true };
        let here = allocations(|| done = Some(writer.handle(append).unwrap()));
        let Some(Done::Appended { pieces: back, result: Ok(_), .. }) = done else { panic!("{done:?}") };
        pieces = back;
        for piece in pieces.drain(..) {
            if let Piece::Audio(block) = piece {
                pool.give_back(block);
            }
        }
        // The first one looks at the room on the disk.
        assert!(here == 0 || number == 0, "{here} allocations in flush {number}");
    }
}

#[test]
fn packets_in_order_and_their_flushes_allocate_nothing() {
    let (in_packets, per_flush) = feed(|number| (number, 1));
    assert_eq!((in_packets, per_flush), (0, 0), "allocations in {PACKETS} packets, and the most in a flush");
}

#[test]
fn reordered_and_doubled_packets_allocate_nothing_either() {
    let (in_packets, per_flush) = feed(|number| match number % 10 {
        3 => (number + 1, 1),
        4 => (number - 1, 1),
        8 => (number, 2),
        _ => (number, 1),
    });
    assert_eq!((in_packets, per_flush), (0, 0), "allocations in {PACKETS} packets, and the most in a flush");
}

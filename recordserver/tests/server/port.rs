//! Random input at a call's RTP port, and the invariants: the books balance, no file passes its limit, jobs
//! come in order, the clock bounds the length of a recording, and all memory comes back.
//!
//! Included with `#[path]` by the fuzz target `server_recording`, too.

#[cfg(fuzzing)]
use libfuzzer_sys::arbitrary;
use media::blocks::{BLOCK_OCTETS, BlockPool};
use media::codec::Codec;
use media::time::{Mono, Now, Wall};
use recfile::call::Altered;
use recfile::header::HEADER_OCTETS;
use recordserver::recording::{Recording, Rules};
use std::net::SocketAddr;
use std::time::Duration;
use store::jobs::{FileKey, Folder, Job, Piece};
use uplink::message::Parties;
use uplink::server::{EndReason, Opening};

/// An event at the port, on the clock, or on the disk.
#[derive(Clone, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Step {
    /// A run of packets of one sender, 20 ms apart or all at once.
    Run {
        sender: u8,
        ssrc: u8,
        codec: u8,
        packets: u8,
        paced: bool,
        octets: u8,
    },
    Jump {
        sequence: i16,
        timestamp: i32,
    },
    Packet {
        sender: u8,
        datagram: Vec<u8>,
    },
    Waits {
        ms: u16,
    },
    Jobs,
    WaitForClock(bool),
    Fail,
}

const LIMIT: u64 = 8000;

/// The files of a recording, as a disk sees them.
#[derive(Default)]
struct Files {
    open: Option<(FileKey, u64)>,
    keys: u64,
    octets: u64,
    failed: bool,
}

impl Files {
    fn take(&mut self, jobs: Vec<Job>, pool: &mut BlockPool) {
        for job in jobs {
            match job {
                Job::Open(open) => assert!(self.open.replace((open.file, 0)).is_none(), "two files at once"),
                Job::Append { file, pieces, .. } => {
                    let (open, octets) = self.open.as_mut().expect("a file that is open");
                    assert_eq!(*open, file);
                    for piece in pieces {
                        let more = match piece {
                            Piece::Silence(octets) => octets,
                            Piece::Audio(block) => {
                                let octets = block.octets().len() as u64;
                                pool.give_back(block);
                                octets
                            }
                        };
                        *octets += more;
                        self.octets += more;
                    }
                    assert!(*octets + HEADER_OCTETS as u64 <= LIMIT, "a file with {octets} octets");
                }
                Job::Close { file, sidecar } => {
                    let (open, _) = self.open.take().expect("a file that is open");
                    assert_eq!(open, file);
                    assert!(sidecar.end_reason.is_some());
                }
                Job::Abandon(file) => {
                    assert!(self.failed);
                    self.open = self.open.take().filter(|(open, _)| *open != file);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn at(ms: u64) -> Now {
    Now {
        mono: Mono::new(Duration::from_millis(ms)),
        wall: Wall { unix_ms: i64::try_from(ms).expect("small"), utc_offset_s: 0 },
    }
}

/// Lets all of it happen to a recording.
pub(crate) fn hold(steps: Vec<Step>) {
    let opening = Opening {
        id: "1".into(),
        device: "phone".into(),
        parties: Parties::default(),
        direction: None,
        codec: Codec::Pcma,
        extension: None,
        altered: Altered::default(),
    };
    let senders: [SocketAddr; 4] = ["192.0.2.1:4000", "192.0.2.1:4001", "192.0.2.1:4002", "192.0.2.2:4000"]
        .map(|addr| addr.parse().expect("an address"));
    let rules = Rules { flush_interval: Duration::from_secs(1), max_file_octets: LIMIT };
    let folder = Folder { root: "/srv".into(), device: 1, name: "phone/2026-03-01".into() };
    let mut recording = Recording::new(rules, &opening, opening.id.clone(), senders[0], folder, at(0));
    let mut pool = BlockPool::new(16 * BLOCK_OCTETS as u64);
    let mut files = Files::default();
    let (mut now, mut came, mut seq, mut timestamp) = (0_u64, 0_u64, 0_u16, 0_u32);
    for step in steps {
        match step {
            Step::Run { sender, ssrc, codec, packets, paced, octets } => {
                let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
                for _ in 0..packets {
                    seq = seq.wrapping_add(1);
                    timestamp = timestamp.wrapping_add(octets.into());
                    now += if paced { 20 } else { 0 };
                    let mut datagram = vec![0x80, codec.payload_type().0];
                    datagram.extend(seq.to_be_bytes());
                    datagram.extend(timestamp.to_be_bytes());
                    datagram.extend([0, 0, 0, ssrc]);
                    datagram.resize(12 + usize::from(octets), 7);
                    let from = senders[usize::from(sender) % senders.len()];
                    recording.datagram(&datagram, from, at(now).mono, &mut pool);
                    came += 1;
                }
            }
            Step::Jump { sequence, timestamp: ticks } => {
                seq = seq.wrapping_add_signed(sequence);
                timestamp = timestamp.wrapping_add_signed(ticks);
            }
            Step::Packet { sender, datagram } => {
                let from = senders[usize::from(sender) % senders.len()];
                recording.datagram(&datagram, from, at(now).mono, &mut pool);
                came += 1;
            }
            Step::Waits { ms } => {
                now += u64::from(ms);
                recording.tick(at(now).mono, &mut pool);
            }
            Step::Jobs => {
                let mut jobs = Vec::new();
                let mut key = || {
                    files.keys += 1;
                    FileKey(files.keys)
                };
                recording.jobs(at(now), &mut key, &mut jobs);
                files.take(jobs, &mut pool);
            }
            Step::WaitForClock(waits) => recording.wait_for_clock(waits),
            Step::Fail => {
                files.failed = true;
                recording.fail(&mut pool);
            }
        }
        assert!(recording.counts().balance(), "{:?}", recording.counts());
        assert!(recording.counts().received + recording.strangers() <= came);
    }
    let mut jobs = Vec::new();
    let mut key = || {
        files.keys += 1;
        FileKey(files.keys)
    };
    let reason = EndReason::Shutdown;
    recording.finish(&reason, None, at(now), &mut pool, &mut key, &mut jobs);
    files.take(jobs, &mut pool);
    let counts = *recording.counts();
    assert!(counts.balance(), "{counts:?}");
    assert_eq!(counts.received + recording.strangers(), came, "{counts:?}");
    assert_eq!(pool.used_octets(), 0, "blocks that did not come back");
    assert!(files.failed || files.open.is_none(), "a file that stays open");
    // An eighth and a minute ahead of the clock at most, and the frame that goes on.
    assert!(files.octets <= now * 8 * 9 / 8 + 480_000 + 2 * 2048, "{} octets in {now} ms", files.octets);
}

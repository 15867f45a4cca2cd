//! Cost of the packet path: datagrams into the agent, its jobs into the writer, its answers back.
//!
//! One recording at the rate of a call, drained and flushed once a second, as the loop does it. Without
//! sockets and threads nothing here depends on what else runs, so instructions can be counted and compared
//! between versions: `scripts/cost` runs it under callgrind with two numbers of packets, and the difference
//! is the path without start and end. `sealed` encrypts the recording; `hash` does nothing but hash the same
//! audio, for the difference. Run by hand it tells time: `cargo run --release -p packet_path`.

use media::packet::FIXED_HEADER_OCTETS;
use media::time::{Mono, Now, Wall};
use os::clock;
use recfile::seal::age::Recipient;
use recordd::agent::{Action, Agent, ClientId, Datagram, Input, RecordingKey};
use recordd::config::{Config, StoragePath};
use sha2::{Digest, Sha256};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use store::fs::RealFs;
use store::seal::Seals;
use store::writer::Writer;
use store::writer::per_file::PerFile;

/// Packets between two drains.
const DRAIN_PACKETS: u32 = 50;

/// Length of a packet, header included: 20 ms of G.711.
const PACKET_OCTETS: usize = 172;

/// Somebody.
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

const START: &[u8] =
    br#"{"jsonrpc":"2.0","id":1,"method":"record.start","params":{"mode":"local","codec":"PCMU"}}"#;

/// The agent, and storage without its thread.
struct Bench {
    agent: Agent,
    writer: Writer<RealFs>,
    actions: Vec<Action>,
    recording: Option<RecordingKey>,
    appends: u64,
}

impl Bench {
    fn step(&mut self, input: Input<'_>, now: Now) {
        self.agent.step(input, now, &mut self.actions);
    }

    /// Does what the agent wants, until it wants nothing more.
    fn settle(&mut self, now: Now) {
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                match action {
                    Action::BindRtp { recording, .. } => {
                        self.recording = Some(recording);
                        let bound = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
                        self.step(Input::RtpBound(recording, Ok(bound)), now);
                    }
                    Action::Job(job) => {
                        self.appends += 1;
                        let done = self.writer.handle(job).expect("an answer to each job");
                        self.step(Input::Storage(done), now);
                    }
                    _ => {}
                }
            }
        }
    }
}

fn main() {
    let asked = |word: &str| std::env::args().any(|argument| argument == word);
    let number = std::env::args().skip(1).find_map(|argument| argument.parse::<u32>().ok());
    let packets = number.unwrap_or(1_000_000);
    if asked("hash") {
        return hash(packets);
    }
    let recipients =
        if asked("sealed") { vec![Recipient::parse(RECIPIENT).expect("a recipient")] } else { Vec::new() };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = Config::default();
    config.storage.path = StoragePath::Directory(folder.path().into());
    config.storage.require_usb = false;
    config.storage.reserve_octets = 0;
    let mut now = at(Duration::from_secs(1));
    let mut bench = Bench {
        agent: Agent::new(config, 1, now),
        writer: Writer::new(RealFs, clock::mono, PerFile::with_seals(Seals { recipients, sign_key: None })),
        actions: Vec::new(),
        recording: None,
        appends: 0,
    };
    bench.step(Input::Started, now);
    bench.settle(now);
    bench.step(Input::ClientOpened(ClientId(1)), now);
    bench.step(Input::ClientLine(ClientId(1), START), now);
    bench.settle(now);
    let recording = bench.recording.expect("a recording that was started");

    let began = clock::mono();
    let mut datagram = [0x55; PACKET_OCTETS];
    for number in 0..packets {
        header(&mut datagram, number);
        let arrival = Mono::new(Duration::from_secs(1) + Duration::from_millis(20) * number);
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 5004));
        let _ = bench
            .agent
            .datagram(recording, Datagram { octets: &datagram, truncated: false, source, arrival });
        if number % DRAIN_PACKETS == DRAIN_PACKETS - 1 {
            now = at(Duration::from_secs(1) + Duration::from_millis(20) * number);
            bench.step(Input::Drained(recording), now);
            bench.settle(now);
        }
    }
    let took = clock::mono().since(began);
    // A bench that measures nothing would look very good.
    assert!(bench.appends >= u64::from(packets / DRAIN_PACKETS), "audio went to storage");
    let each = took.as_nanos() / u128::from(packets.max(1));
    println!("{packets} packets, {} jobs, {each} ns a packet", bench.appends);
}

/// What the recording's SHA-256 takes by itself, of as much audio at once as a drain gives.
fn hash(packets: u32) {
    let audio = vec![0x55; DRAIN_PACKETS as usize * (PACKET_OCTETS - FIXED_HEADER_OCTETS)];
    let mut hash = Sha256::new();
    let began = clock::mono();
    for _ in 0..packets / DRAIN_PACKETS {
        hash.update(&audio);
    }
    let took = clock::mono().since(began);
    println!(
        "{packets} packets, {} ns a packet, {:x?}",
        took.as_nanos() / u128::from(packets),
        hash.finalize()
    );
}

fn at(mono: Duration) -> Now {
    let unix_ms = 1_772_352_900_000 + i64::try_from(mono.as_millis()).unwrap_or_default();
    Now { mono: Mono::new(mono), wall: Wall { unix_ms, utc_offset_s: 0 } }
}

/// PCMU, one source.
fn header(datagram: &mut [u8; PACKET_OCTETS], number: u32) {
    let [.., high, low] = number.to_be_bytes();
    datagram[..4].copy_from_slice(&[0x80, 0, high, low]);
    datagram[4..8].copy_from_slice(&number.wrapping_mul(160).to_be_bytes());
    datagram[8..12].copy_from_slice(&7u32.to_be_bytes());
}

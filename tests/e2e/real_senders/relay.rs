//! A bad network between a sender and the agent: loses, reorders and doubles packets, and keeps a log of the
//! passed ones.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::{Codec, Random};

/// The faults of the network, in packets of a hundred.
#[derive(Clone, Copy)]
pub(super) struct Weather {
    pub(super) seed: u64,
    pub(super) lost: u64,
    pub(super) overtaken: u64,
    pub(super) doubled: u64,
}

impl Weather {
    /// Everything arrives, once and in order.
    pub(super) const FAIR: Self = Self { seed: 0, lost: 0, overtaken: 0, doubled: 0 };

    /// 5 % loss; a sixth of the packets up to 60 ms out of order; one in 20 twice.
    pub(super) fn foul(seed: u64) -> Self {
        Self { seed, lost: 5, overtaken: 16, doubled: 5 }
    }
}

/// Most packets by which another one is overtaken: 60 ms of packets of 20 ms.
const OVERTAKEN_BY: u64 = 3;

/// A packet as it came from the sender, and how often it was passed on.
pub(super) struct Sent {
    pub(super) seq: u16,
    pub(super) timestamp: u32,
    pub(super) payload: Vec<u8>,
    pub(super) passed: u64,
}

/// A running relay.
pub(super) struct Relay {
    /// The address that the sender has to send to.
    pub(super) address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sent>>,
}

impl Relay {
    /// Relays its packets to `target`.
    pub(super) fn start(target: SocketAddr, codec: Codec, weather: Weather) -> Self {
        let (inward, rtcp) = pair();
        let address = inward.local_addr().expect("bound");
        inward.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let mut line = Line::new(target, codec, weather);
        let thread = std::thread::spawn(move || {
            let _rtcp = rtcp;
            let mut buffer = [0; 2048];
            loop {
                match inward.recv(&mut buffer) {
                    Ok(octets) => line.take(&buffer[..octets]),
                    Err(_) if stop.load(Ordering::Relaxed) => return line.close(),
                    Err(_) => {}
                }
            }
        });
        Self { address, over, thread }
    }

    /// Passes on the packets it still has, and returns those of the sender, in their order.
    pub(super) fn finish(self) -> Vec<Sent> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("a relay")
    }
}

/// An even port for RTP and the next one, which takes RTCP that would reach a stranger otherwise.
fn pair() -> (UdpSocket, UdpSocket) {
    let find = || {
        let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let port = rtp.local_addr().ok()?.port();
        let rtcp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port.checked_add(1)?)).ok()?;
        (port % 2 == 0).then_some((rtp, rtcp))
    };
    (0..100).find_map(|_| find()).expect("two ports side by side")
}

struct Line {
    socket: UdpSocket,
    target: SocketAddr,
    codec: Codec,
    weather: Weather,
    random: Random,
    log: Vec<Sent>,
    /// Packets that wait: after how many packets of the sender they go, which one, and its octets.
    waiting: Vec<(usize, usize, Vec<u8>)>,
}

impl Line {
    fn new(target: SocketAddr, codec: Codec, weather: Weather) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let random = Random(weather.seed);
        Self { socket, target, codec, weather, random, log: Vec::new(), waiting: Vec::new() }
    }

    fn take(&mut self, datagram: &[u8]) {
        let is_rtp = datagram.len() > 12 && datagram[1] & 0x7F == self.codec.payload_type();
        assert!(is_rtp && datagram[0] == 0x80, "no plain RTP packet: {datagram:02x?}");
        let number = self.log.len();
        self.log.push(Sent {
            seq: u16::from_be_bytes([datagram[2], datagram[3]]),
            timestamp: u32::from_be_bytes(*datagram[4..].first_chunk().expect("eight octets")),
            payload: datagram[12..].to_vec(),
            passed: 0,
        });
        if !self.happens(self.weather.lost) {
            let copies = 1 + usize::from(self.happens(self.weather.doubled));
            for _ in 0..copies {
                let overtaken = self.happens(self.weather.overtaken);
                let by = if overtaken { self.random.between(1, OVERTAKEN_BY + 1) } else { 0 };
                self.waiting.push((number + by as usize, number, datagram.to_vec()));
            }
        }
        // The newest first: it overtakes those that have waited for it.
        self.waiting.sort_by_key(|(_, which, _)| std::cmp::Reverse(*which));
        self.pass_until(number);
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.random.between(0, 100) < percent
    }

    fn pass_until(&mut self, number: usize) {
        let waiting = std::mem::take(&mut self.waiting);
        let (due, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(at, _, _)| *at <= number);
        self.waiting = later;
        for (_, which, octets) in due {
            self.socket.send_to(&octets, self.target).expect("a datagram sent");
            self.log[which].passed += 1;
        }
    }

    fn close(mut self) -> Vec<Sent> {
        self.pass_until(usize::MAX);
        self.log
    }
}

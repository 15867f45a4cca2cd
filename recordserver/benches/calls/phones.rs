//! Many phones in one thread: a control connection for each call, all audio out of one socket.

use super::check::{FRAME_OCTETS, fill};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use nix::unistd::Pid;
use os::clock;
use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;
use uplink::message::Message;

const PTIME: Duration = Duration::from_millis(20);
const HEADER_OCTETS: usize = 12;
const PACKET_OCTETS: usize = HEADER_OCTETS + FRAME_OCTETS;
const BATCH: usize = 64;
/// The shortest sleep; packets due within it go out together.
const TICK: Duration = Duration::from_millis(1);

/// Keeps this thread and those it starts on one core.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

pub(crate) struct Phones {
    media: UdpSocket,
    calls: Vec<(BufReader<TcpStream>, SockaddrIn)>,
    headers: MultiHeaders<SockaddrIn>,
    packets: Vec<[u8; PACKET_OCTETS]>,
    targets: Vec<Option<SockaddrIn>>,
    sent: u64,
}

pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) packets_per_call: u32,
    pub(crate) seconds: f64,
    /// The worst delay of the sender, in microseconds.
    pub(crate) latest_us: u128,
}

impl Phones {
    /// Starts a recording for each call.
    pub(crate) fn connect(server: SocketAddr, calls: usize) -> io::Result<Self> {
        let mut phones = Self {
            media: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            calls: Vec::with_capacity(calls),
            headers: MultiHeaders::preallocate(BATCH, None),
            packets: Vec::with_capacity(BATCH),
            targets: Vec::with_capacity(BATCH),
            sent: 0,
        };
        for call in 0..calls {
            let mut stream = BufReader::new(TcpStream::connect(server)?);
            stream.get_ref().set_nodelay(true)?;
            stream.get_ref().set_read_timeout(Some(Duration::from_secs(10)))?;
            writeln!(
                stream.get_mut(),
                "cmd=RecordStartRequest&id=call{call}&device=phone{call}&remote_number=1&remote_name=\
                 &local_number=2&local_name=&dir=out&codec=PCMA"
            )?;
            let Message::StartResponse(answer) = read(&mut stream)? else {
                return Err(io::Error::other("no answer to a start request"));
            };
            let Some(port) = answer.port else {
                return Err(io::Error::other(format!("call {call} refused: {}", answer.reason)));
            };
            let target = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
            phones.calls.push((stream, target));
        }
        Ok(phones)
    }

    /// Sends the audio of all calls.
    pub(crate) fn talk(&mut self, seconds: u32) -> io::Result<Sent> {
        let packets_per_call = seconds * 50;
        let calls = u32::try_from(self.calls.len()).map_err(io::Error::other)?;
        let begin = clock::mono();
        let mut latest = Duration::ZERO;
        for number in 0..packets_per_call {
            let round = begin + PTIME * number;
            let mut now = clock::mono();
            for call in 0..calls {
                let due = round + PTIME * call / calls;
                if due > now {
                    self.send_batch()?;
                    wait_until(due.max(now + TICK));
                    now = clock::mono();
                }
                latest = latest.max(now.since(due));
                self.queue(call, number)?;
            }
        }
        self.send_batch()?;
        let seconds = clock::mono().since(begin).as_secs_f64();
        Ok(Sent { packets: self.sent, packets_per_call, seconds, latest_us: latest.as_micros() })
    }

    fn queue(&mut self, call: u32, number: u32) -> io::Result<()> {
        let mut packet = [0; PACKET_OCTETS];
        packet[0] = 0x80;
        packet[1] = 8;
        packet[2..4].copy_from_slice(&number.to_be_bytes()[2..]);
        packet[4..8].copy_from_slice(&(number * 160).to_be_bytes());
        packet[8..12].copy_from_slice(&call.to_be_bytes());
        fill(&mut packet[HEADER_OCTETS..], call, number);
        self.packets.push(packet);
        self.targets.push(Some(self.calls[call as usize].1));
        if self.packets.len() == BATCH { self.send_batch() } else { Ok(()) }
    }

    fn send_batch(&mut self) -> io::Result<()> {
        let mut done = 0;
        while done < self.packets.len() {
            let slices: Vec<_> = self.packets[done..].iter().map(|packet| [IoSlice::new(packet)]).collect();
            let targets = &self.targets[done..];
            let flags = MsgFlags::empty();
            let sent =
                sendmmsg(self.media.as_raw_fd(), &mut self.headers, &slices, targets, [], flags)?.count();
            done += sent;
            self.sent += sent as u64;
        }
        self.packets.clear();
        self.targets.clear();
        Ok(())
    }

    /// Stops all recordings.
    pub(crate) fn hang_up(&mut self) -> io::Result<()> {
        for (call, (stream, _)) in self.calls.iter_mut().enumerate() {
            writeln!(
                stream.get_mut(),
                "cmd=RecordStopRequest&id=call{call}&remote_number=1&remote_name=&local_number=2&local_name=\
                 &reason=hangup"
            )?;
        }
        for (stream, _) in &mut self.calls {
            if !matches!(read(stream)?, Message::StopResponse(_)) {
                return Err(io::Error::other("no answer to a stop request"));
            }
        }
        Ok(())
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Message> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Message::parse(line.trim_end().as_bytes()).map_err(|error| io::Error::other(error.to_string()))
}

#[expect(clippy::disallowed_methods, reason = "a generator that keeps time has to wait for it")]
fn wait_until(due: media::time::Mono) {
    std::thread::sleep(due.since(clock::mono()));
}

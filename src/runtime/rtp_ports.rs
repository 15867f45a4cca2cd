//! The RTP sockets of the recordings.
//!
//! Owns: binding, socket options, draining in batches. An idle socket is watched by poll and wakes us with
//! its next packet; a busy one is not watched but drained on time ([`super::drain_schedule`]). A port whose
//! packets go on to a server is watched all the time, and its packets are relayed from the buffers of their
//! receipt.

use super::drain_schedule::DrainSchedule;
use crate::agent::{Action, Agent, Datagram, Forward, Input, RecordingKey, UplinkInput};
use media::source_lock::Waiting;
use media::time::{Mono, Now};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{setsockopt, sockopt};
use os::clock;
use os::{self, BATCH_DATAGRAMS, Batch, Selection};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as MediaSocket};
use std::os::fd::AsFd;
use std::time::Duration;

/// Socket buffer asked for; the kernel may give less, or twice as much.
const RECEIVE_BUFFER_OCTETS: usize = 4 << 20;

/// Limit of the sum of the buffers of all possible recordings: a disk that stalls with many calls fills them
/// all.
const RECEIVE_BUFFERS_OCTETS: usize = 16 << 20;

/// Part of the system's memory for UDP that may be asked for: the kernel counts each buffer twice, and the
/// calls themselves, which are more important than their recordings, use the same memory.
const UDP_MEMORY_DIVISOR: usize = 4;

/// The smallest buffer asked for, some seconds of a call.
const LEAST_RECEIVE_BUFFER_OCTETS: usize = 64 << 10;

/// Octets of a packet of a call in the kernel's socket buffer, bookkeeping included.
const OCTETS_PER_PACKET: usize = 1024;

/// Batches taken from one socket in a turn.
const BATCHES_PER_TURN: usize = 256;

/// Time after which a socket is looked at again when there is no room for audio.
const HELD_WAIT: Duration = Duration::from_millis(20);

/// Longest wait at a socket that does not tell when packets arrived: the drain's time stands for it then.
const UNSTAMPED_WAIT: Duration = Duration::from_millis(100);

/// The sockets to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Those whose time has come.
    Now,
    /// Every one.
    All,
    /// The one of a recording, or every one.
    Fence(Option<RecordingKey>),
}

/// Early drains of a new port: the sender has to be known before others can fill its buffer.
const EARLY_DRAINS: u8 = 16;

/// Time between these.
const EARLY_WAIT: Duration = Duration::from_millis(20);

/// The receiver of the packets of a drain.
pub(super) struct Inbox<'a> {
    pub(super) agent: &'a mut Agent,
    pub(super) actions: &'a mut Vec<Action>,
    pub(super) now: Now,
}

impl Inbox<'_> {
    fn put(&mut self, input: Input<'_>) {
        self.agent.step(input, self.now, self.actions);
    }
}

/// One bound socket.
struct Port {
    recording: RecordingKey,
    token: Token,
    socket: UdpSocket,
    drain_schedule: DrainSchedule,
    /// When to drain; `None` while poll watches the socket.
    due: Option<Mono>,
    drained: Mono,
    overflow: u32,
    /// Others than the sender are kept out; since then, and while there was room, the system's drops are
    /// theirs.
    filtered: bool,
    held_back: bool,
    early_drains: u8,
    /// The socket that relays packets at once.
    relay: Option<MediaSocket>,
}

/// All bound sockets and the buffers they share.
pub(super) struct RtpPorts {
    ports: Vec<Port>,
    batch: Option<Batch>,
    longest_wait: Duration,
    /// Buffer asked for at each socket.
    buffer_octets: usize,
}

impl RtpPorts {
    /// No sockets; there will be `most` at a time, and none waits longer than `longest_wait` for its drain.
    pub(super) fn new(longest_wait: Duration, most: usize) -> Self {
        let buffer_octets = buffer_octets(most, udp_memory_octets());
        Self { ports: Vec::new(), batch: None, longest_wait, buffer_octets }
    }

    /// Binds the first free port of `ports` and watches it.
    pub(super) fn bind(
        &mut self,
        registry: &Registry,
        token: Token,
        recording: RecordingKey,
        addr: IpAddr,
        ports: &[u16],
    ) -> Result<SocketAddr, String> {
        let mut problem = "every configured port is taken".to_owned();
        for port in ports {
            let addr = SocketAddr::new(addr, *port);
            match self.try_bind(registry, token, recording, addr) {
                Ok(bound) => return Ok(bound),
                Err(error) => problem = format!("cannot bind {addr}: {error}"),
            }
        }
        Err(problem)
    }

    fn try_bind(
        &mut self,
        registry: &Registry,
        token: Token,
        recording: RecordingKey,
        addr: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let mut socket = UdpSocket::bind(addr)?;
        // More than the system's limit needs a privilege that the agent may not have.
        if setsockopt(&socket, sockopt::RcvBufForce, &self.buffer_octets).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &self.buffer_octets)?;
        }
        // Without these two, arrival is when we look, and the kernel's own drops stay unknown.
        let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &true);
        let _ = setsockopt(&socket, sockopt::RxqOvfl, &1);
        let buffer = nix::sys::socket::getsockopt(&socket, sockopt::RcvBuf)?;
        let capacity = u32::try_from(buffer / OCTETS_PER_PACKET).unwrap_or(u32::MAX);
        registry.register(&mut socket, token, Interest::READABLE)?;
        let bound = socket.local_addr()?;
        self.ports.push(Port {
            recording,
            token,
            socket,
            drain_schedule: DrainSchedule::new(capacity, self.longest_wait),
            due: None,
            drained: clock::mono(),
            overflow: 0,
            filtered: false,
            held_back: false,
            early_drains: EARLY_DRAINS,
            relay: None,
        });
        self.batch.get_or_insert_with(Batch::new);
        Ok(bound)
    }

    /// Closes the socket of a recording.
    pub(super) fn close(&mut self, registry: &Registry, recording: RecordingKey) {
        self.ports.retain_mut(|port| {
            let keep = port.recording != recording;
            if !keep && port.is_watched() {
                let _ = registry.deregister(&mut port.socket);
            }
            keep
        });
        if self.ports.is_empty() {
            self.batch = None;
        }
    }

    /// Sends the packets of a recording on by `relay` from now on, or no more.
    pub(super) fn relay(&mut self, registry: &Registry, recording: RecordingKey, relay: Option<MediaSocket>) {
        let Some(port) = self.ports.iter_mut().find(|port| port.recording == recording) else { return };
        if !port.is_watched() {
            // Packets that are there already are seen by poll at once.
            let _ = registry.register(&mut port.socket, port.token, Interest::READABLE);
        }
        port.due = None;
        port.relay = relay;
    }

    /// Lets only `sender` into the socket of a recording, or everybody.
    pub(super) fn filter(&mut self, recording: RecordingKey, sender: Option<SocketAddr>) {
        let Some(port) = self.ports.iter_mut().find(|port| port.recording == recording) else { return };
        match os::let_in(port.socket.as_fd(), sender) {
            Ok(()) => port.filtered = sender.is_some(),
            // The agent tells strangers apart all the same.
            Err(error) => log::debug!("strangers can't be kept out of an RTP port: {error}"),
        }
    }

    /// Relays the waiting packets of a recording that goes to a server. Returns how many could not be sent.
    pub(super) fn send_held(&self, recording: RecordingKey, waiting: &Waiting) -> u32 {
        let port = self.ports.iter().find(|port| port.recording == recording);
        port.map_or(0, |port| port.send_held(waiting))
    }

    /// When the next drain is due.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.ports.iter().filter_map(|port| port.due).min()
    }

    /// Poll saw a packet at an idle socket.
    pub(super) fn woken(&mut self, registry: &Registry, token: Token, now: Mono) {
        let woken = |port: &&mut Port| port.token == token && port.is_watched();
        if let Some(port) = self.ports.iter_mut().find(woken) {
            if port.relay.is_some() {
                port.due = Some(now);
                return;
            }
            let _ = registry.deregister(&mut port.socket);
            port.drain_schedule.restart();
            port.due = Some(now);
        }
    }

    /// Drains the sockets that are `wanted` into `inbox`. Packets without room stay in the sockets if
    /// `may_hold`; those that go to a server need none.
    pub(super) fn drain(&mut self, registry: &Registry, mut inbox: Inbox<'_>, wanted: Due, may_hold: bool) {
        let Some(batch) = &mut self.batch else { return };
        let now = inbox.now;
        let all = wanted != Due::Now;
        let only = if let Due::Fence(only) = wanted { only } else { None };
        // Calls that began at different times are drained together after a second, and share their wake-ups.
        let shared = now.mono + self.longest_wait / 2;
        let any_due = self.ports.iter().any(|port| port.due.is_some_and(|due| due <= now.mono));
        if !all && !any_due {
            return;
        }
        for port in self.ports.iter_mut().filter(|port| only.is_none_or(|only| port.recording == only)) {
            // A drain for another reason also counts, so that the next one is not sooner than needed.
            let due = port.due.is_some_and(|due| all || due <= shared);
            if !due && !all {
                continue;
            }
            let (packets, room) = port.take(batch, &mut inbox, may_hold);
            if port.relay.is_none() && may_hold && !room {
                port.held_back = true;
                if port.due.is_some() {
                    port.due = Some(now.mono + HELD_WAIT);
                }
                inbox.put(Input::Drained(port.recording));
                continue;
            }
            if port.relay.is_some() {
                // A packet that comes from here on wakes us, unless there are more than fit a turn.
                port.due = (packets >= BATCHES_PER_TURN * BATCH_DATAGRAMS).then_some(now.mono);
            } else if due {
                let packets = u32::try_from(packets).unwrap_or(u32::MAX);
                let mut wait = port.drain_schedule.after(packets, now.mono.since(port.drained));
                if port.early_drains > 0 && !port.filtered {
                    port.early_drains -= 1;
                    wait = wait.map(|wait| wait.min(EARLY_WAIT));
                }
                port.due = wait.map(|wait| now.mono + wait);
                if wait.is_none() {
                    // Packets that came in the meantime are seen by poll at once.
                    let _ = registry.register(&mut port.socket, port.token, Interest::READABLE);
                }
            }
            if packets > 0 || due {
                port.drained = now.mono;
            }
            inbox.put(Input::Drained(port.recording));
        }
    }
}

impl Port {
    /// Whether poll looks at the socket.
    fn is_watched(&self) -> bool {
        self.due.is_none() || self.relay.is_some()
    }

    /// Gives the agent everything that has arrived. Returns how many datagrams that were, and whether there
    /// is room.
    fn take(&mut self, batch: &mut Batch, inbox: &mut Inbox<'_>, may_hold: bool) -> (usize, bool) {
        let mut packets = 0;
        let mut room = inbox.agent.has_room();
        for _ in 0..BATCHES_PER_TURN {
            if may_hold && !room && self.relay.is_none() {
                break;
            }
            // An asynchronous socket error (ICMP) is no reason to stop reading.
            let count = batch.receive(self.socket.as_fd()).unwrap_or(0);
            if count == 0 {
                break;
            }
            let unix_ns = clock::unix_ns();
            let mut relayed = Selection::default();
            let (mut earlier, mut before) = (Selection::default(), None);
            for (index, datagram) in batch.datagrams().enumerate() {
                if let Some(overflow) = datagram.overflow {
                    let dropped = overflow.wrapping_sub(self.overflow);
                    self.overflow = overflow;
                    if dropped > 0 && self.filtered && !self.held_back {
                        inbox.put(Input::Strangers(self.recording, dropped));
                    } else if dropped > 0 {
                        inbox.put(Input::SocketOverflow(self.recording, dropped));
                    }
                }
                if datagram.arrived_ns.is_none() {
                    self.drain_schedule.limit(UNSTAMPED_WAIT);
                }
                let arrival = self.arrival(datagram.arrived_ns, unix_ns, inbox.now.mono);
                let os::Datagram { octets, truncated, source, .. } = datagram;
                let datagram = Datagram { octets, truncated, source, arrival };
                let taken = inbox.agent.datagram(self.recording, datagram);
                room = taken.room;
                let this = matches!(taken.forward, Forward::This | Forward::HeldThenThis(_));
                if let Forward::Held(waiting) | Forward::HeldThenThis(waiting) = taken.forward {
                    earlier = std::mem::take(&mut relayed);
                    before = Some(waiting);
                }
                if this {
                    relayed.add(index);
                }
            }
            if let Some(waiting) = before {
                self.send_on(batch, earlier, inbox);
                let failed = self.send_held(&waiting);
                if failed > 0 {
                    inbox.put(Input::Uplink(self.recording, UplinkInput::RelayFailed(failed)));
                }
            }
            self.send_on(batch, relayed, inbox);
            packets += count;
            if count < BATCH_DATAGRAMS {
                self.held_back = false;
                break;
            }
        }
        (packets, room)
    }

    /// Relays the selected packets to the server, and reports failures.
    fn send_on(&self, batch: &mut Batch, relayed: Selection, inbox: &mut Inbox<'_>) {
        let Some(relay) = self.relay.as_ref().filter(|_| !relayed.is_empty()) else { return };
        let sent = batch.send(relay.as_fd(), relayed);
        if sent.failed > 0 {
            inbox.put(Input::Uplink(self.recording, UplinkInput::RelayFailed(sent.failed)));
        }
        if sent.refused {
            inbox.put(Input::Uplink(self.recording, UplinkInput::RelayRefused));
        }
    }

    /// Relays the packets that waited for their sender to be believed. Returns how many could not be sent.
    fn send_held(&self, waiting: &Waiting) -> u32 {
        let Some(relay) = &self.relay else { return 0 };
        let failed = waiting.iter().filter(|(octets, _)| relay.send(octets).is_err()).count();
        u32::try_from(failed).unwrap_or(u32::MAX)
    }

    /// The kernel's calendar stamp as monotonic time; a stamp that can't be right (the clock was set in
    /// between) or is missing counts as now.
    fn arrival(&self, arrived_ns: Option<i64>, unix_ns: i64, now: Mono) -> Mono {
        let ago = arrived_ns.and_then(|arrived| u64::try_from(unix_ns - arrived).ok());
        let ago = ago.map(Duration::from_nanos);
        let longest = now.since(self.drained) + Duration::from_secs(1);
        match ago {
            Some(ago) if ago <= longest => now.minus(ago),
            _ => now,
        }
    }
}

/// Octets that the system has for the buffers of all UDP sockets, if it tells.
fn udp_memory_octets() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/udp_mem").ok()?;
    let pages: usize = text.split_ascii_whitespace().nth(2)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()?;
    pages.checked_mul(usize::try_from(page).ok()?)
}

/// The buffer of each of `most` sockets, of all that is there for UDP.
fn buffer_octets(most: usize, udp_memory: Option<usize>) -> usize {
    let all = udp_memory.map_or(RECEIVE_BUFFERS_OCTETS, |octets| octets / UDP_MEMORY_DIVISOR);
    let each = all.min(RECEIVE_BUFFERS_OCTETS) / most.max(1);
    each.clamp(LEAST_RECEIVE_BUFFER_OCTETS, RECEIVE_BUFFER_OCTETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffers_of_all_recordings_have_a_bound() {
        assert_eq!(buffer_octets(1, None), RECEIVE_BUFFER_OCTETS);
        assert_eq!(buffer_octets(4, None), RECEIVE_BUFFER_OCTETS);
        for most in [1, 4, 64] {
            assert!(most * buffer_octets(most, None) <= RECEIVE_BUFFERS_OCTETS);
        }
    }

    #[test]
    fn a_phone_with_little_memory_keeps_most_of_it_for_the_calls() {
        let memory = 24 << 20;
        for most in [1, 4, 64] {
            // The kernel counts twice the size that is asked for.
            assert!(2 * most * buffer_octets(most, Some(memory)) <= memory / 2, "{most}");
        }
        assert_eq!(buffer_octets(64, Some(0)), LEAST_RECEIVE_BUFFER_OCTETS);
    }
}

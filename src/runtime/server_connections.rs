//! The connections to the recording server and the look-ups of its name.
//!
//! Owns: one TCP connection per recording with its options, readiness and unsent octets; threads that wait
//! for the resolver. Never waits itself. Invariants: events of an older connection of a recording are not
//! reported; everything that grows has a limit.

use super::mac_address::mac_address;
use crate::agent::{Input, RecordingKey, UplinkInput};
use crate::config::Uplink;
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token, Waker};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};
use os::control_stream::{ControlStream, SilentPeer, set_up};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use uplink::phone::Generation;

/// Look-ups at the same time; a resolver can take half a minute to give up.
const MAX_LOOKUPS: usize = 8;

/// Addresses taken of one name.
const MAX_ADDRESSES: usize = 16;

/// Octets that may wait to be sent: many messages, so that more means a server that does not read.
const MAX_UNSENT_OCTETS: usize = 64 * 1024;

/// The same of a media connection, where the agent's window is all that waits.
const MAX_UNSENT_MEDIA_OCTETS: usize = 320 * 1024;

/// Octets read from a connection at a time, and how often in a turn.
const READ_OCTETS: usize = 4096;
const READS_PER_TURN: usize = 8;

/// A server that is gone without a word is noticed within `SILENT_PEER_AFTER`.
const SILENT_SERVER: SilentPeer =
    SilentPeer { idle_s: 2, interval_s: 2, questions: 3, unacknowledged_ms: 7000 };

struct Looked {
    recording: RecordingKey,
    generation: Generation,
    addresses: Vec<SocketAddr>,
}

/// The connections that a recording has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// Commands.
    Control,
    /// Media, with the extension.
    Media,
}

struct Link {
    recording: RecordingKey,
    channel: Channel,
    generation: Generation,
    stream: ControlStream<TcpStream>,
    connecting: bool,
    readable: bool,
    writable: bool,
}

/// The fate of a connection in a turn.
enum Fate {
    Open,
    Over(Option<io::Error>),
}

/// All connections and look-ups.
pub(super) struct ServerConnections {
    links: BTreeMap<Token, Link>,
    lookups: usize,
    answers: Sender<Looked>,
    answered: Receiver<Looked>,
    waker: Arc<Waker>,
    dscp_control: u8,
    dscp_media: u8,
}

impl ServerConnections {
    /// No connections; `waker` ends a poll when a look-up is done.
    pub(super) fn new(config: &Uplink, waker: Arc<Waker>) -> Self {
        let (answers, answered) = bounded(MAX_LOOKUPS);
        Self {
            links: BTreeMap::new(),
            lookups: 0,
            answers,
            answered,
            waker,
            dscp_control: config.dscp_control,
            dscp_media: config.dscp_media,
        }
    }

    /// Looks a name up on a thread of its own. False if that is not possible now.
    pub(super) fn resolve(&mut self, recording: RecordingKey, generation: Generation, host: String) -> bool {
        if self.lookups >= MAX_LOOKUPS {
            return false;
        }
        let (answers, waker) = (self.answers.clone(), Arc::clone(&self.waker));
        let look = move || {
            let found = (host.as_str(), 0).to_socket_addrs();
            let addresses = found.into_iter().flatten().take(MAX_ADDRESSES).collect();
            // There is room for the answer of every look-up, and an agent that ended needs none.
            let _ = answers.try_send(Looked { recording, generation, addresses });
            let _ = waker.wake();
        };
        let started = std::thread::Builder::new().name("resolver".into()).spawn(look).is_ok();
        self.lookups += usize::from(started);
        started
    }

    /// Passes on the results of the look-ups.
    pub(super) fn take_answers(&mut self, mut pass: impl FnMut(Input<'_>)) {
        while let Ok(Looked { recording, generation, addresses }) = self.answered.try_recv() {
            self.lookups -= 1;
            pass(Input::Uplink(recording, UplinkInput::Resolved(generation, addresses)));
        }
    }

    /// Begins to connect; an older connection of the recording for the same is dropped.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn connect(
        &mut self,
        registry: &Registry,
        token: Token,
        recording: RecordingKey,
        channel: Channel,
        generation: Generation,
        addr: SocketAddr,
    ) -> io::Result<()> {
        self.close(registry, recording, channel);
        let (dscp, most_unsent) = match channel {
            Channel::Control => (self.dscp_control, MAX_UNSENT_OCTETS),
            Channel::Media => (self.dscp_media, MAX_UNSENT_MEDIA_OCTETS),
        };
        let mut socket = open(addr, dscp)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let link = Link {
            recording,
            channel,
            generation,
            stream: ControlStream::new(socket, most_unsent),
            connecting: true,
            readable: false,
            writable: false,
        };
        self.links.insert(token, link);
        Ok(())
    }

    /// Sends `octets`, or keeps them until the connection takes them.
    pub(super) fn send(&mut self, recording: RecordingKey, channel: Channel, octets: &[u8]) {
        if let Some(link) = self.links.values_mut().find(|link| link.is(recording, channel)) {
            // An error shows again when the connection is looked at.
            link.writable = link.stream.send(octets).unwrap_or(link.writable);
        }
    }

    /// A socket for the RTP of a recording to `target`. Its packets come from the address of the connection,
    /// by which the server knows them, if `target` can be reached from there.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn media_socket(&self, recording: RecordingKey, target: SocketAddr) -> io::Result<UdpSocket> {
        let link = self.links.values().find(|link| link.is(recording, Channel::Control));
        let own = link.and_then(|link| link.stream.socket().local_addr().ok());
        let own = own.filter(|own| own.is_ipv4() == target.is_ipv4());
        let socket = match own.map(|own| media_socket_from(own, target)) {
            Some(Ok(socket)) => socket,
            // The connection goes through a tunnel that ends at this phone.
            _ => media_socket_from(any_address(target), target)?,
        };
        socket.set_nonblocking(true)?;
        mark(&socket, target, self.dscp_media);
        Ok(socket)
    }

    /// Closes the connection of a recording, or gives up connecting.
    pub(super) fn close(&mut self, registry: &Registry, recording: RecordingKey, channel: Channel) {
        self.links.retain(|_, link| {
            let keep = !link.is(recording, channel);
            if !keep {
                // Unread octets would turn the close into a reset.
                let _ = link.read(&mut |_| {});
                let _ = registry.deregister(link.stream.socket_mut());
            }
            keep
        });
    }

    pub(super) fn set_ready(&mut self, token: Token, readable: bool, writable: bool) {
        if let Some(link) = self.links.get_mut(&token) {
            link.readable |= readable;
            link.writable |= writable;
        }
    }

    /// Whether there is a connection, or a look-up for one.
    pub(super) fn is_used(&self) -> bool {
        !self.links.is_empty() || self.lookups > 0
    }

    /// Whether something can be done without waiting.
    pub(super) fn has_work(&self) -> bool {
        self.links.values().any(Link::has_work)
    }

    /// Goes on with every connection that is ready.
    pub(super) fn work(&mut self, registry: &Registry, mut pass: impl FnMut(Input<'_>)) {
        self.links.retain(|_, link| {
            if !link.has_work() {
                return true;
            }
            let (recording, channel, generation) = (link.recording, link.channel, link.generation);
            let mut tell = |input: UplinkInput<'_>| pass(Input::Uplink(recording, input));
            if link.connecting {
                match link.finish_connecting() {
                    Ok(false) => return true,
                    Ok(true) if channel == Channel::Media => tell(UplinkInput::MediaConnected(generation)),
                    Ok(true) => {
                        let local = link.stream.socket().local_addr().ok();
                        let mac = local.and_then(|local| mac_address(local.ip()));
                        tell(UplinkInput::Connected(generation, mac));
                    }
                    Err(error) => {
                        let _ = registry.deregister(link.stream.socket_mut());
                        tell(match channel {
                            Channel::Control => UplinkInput::ConnectFailed(generation, error.to_string()),
                            Channel::Media => UplinkInput::MediaClosed(generation, Some(error.to_string())),
                        });
                        return false;
                    }
                }
            }
            match link.work(&mut tell) {
                Fate::Open => true,
                Fate::Over(error) => {
                    let _ = registry.deregister(link.stream.socket_mut());
                    let silent = error.as_ref().is_some_and(|error| error.kind() == ErrorKind::TimedOut);
                    let error = error.map(|error| error.to_string());
                    tell(match channel {
                        Channel::Control => UplinkInput::Closed { error, silent },
                        Channel::Media => UplinkInput::MediaClosed(generation, error),
                    });
                    false
                }
            }
        });
    }
}

impl Link {
    fn is(&self, recording: RecordingKey, channel: Channel) -> bool {
        (self.recording, self.channel) == (recording, channel)
    }

    fn has_work(&self) -> bool {
        if self.connecting {
            return self.writable;
        }
        self.readable || (self.writable && self.stream.has_unsent())
    }

    /// Whether the connection stands, or why it can't be made.
    fn finish_connecting(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.socket().take_error()? {
            return Err(error);
        }
        match self.stream.socket().peer_addr() {
            Ok(_) => {
                self.connecting = false;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => {
                self.writable = false;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn work(&mut self, tell: &mut impl FnMut(UplinkInput<'_>)) -> Fate {
        if !self.stream.has_room_for(0) {
            return Fate::Over(Some(io::Error::other("the server does not read")));
        }
        let sent = self.flush();
        // The server's last message counts even if nothing can be sent to it any more.
        let channel = self.channel;
        let mut take = |octets: &[u8]| match channel {
            Channel::Control => tell(UplinkInput::Received(octets)),
            Channel::Media => tell(UplinkInput::MediaReceived(octets)),
        };
        match self.read(&mut take) {
            Ok(true) => Fate::Over(None),
            Ok(false) => match sent {
                Ok(()) => Fate::Open,
                Err(error) => Fate::Over(Some(error)),
            },
            Err(error) => Fate::Over(Some(error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.writable {
            self.writable = self.stream.flush()?;
        }
        Ok(())
    }

    /// Reads the waiting octets, up to the budget. Returns whether the server has closed.
    fn read(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let mut octets = [0; READ_OCTETS];
        for _ in 0..READS_PER_TURN {
            if !self.readable {
                break;
            }
            match self.stream.read(&mut octets)? {
                Some(0) => return Ok(true),
                Some(count) => take(&octets[..count]),
                None => self.readable = false,
            }
        }
        Ok(false)
    }
}

/// A TCP socket that is connecting, its options set before the first packet goes out.
fn open(addr: SocketAddr, dscp: u8) -> io::Result<TcpStream> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None)?;
    set_up(&socket, SILENT_SERVER)?;
    mark(&socket, addr, dscp);
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(addr)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// A socket that sends from the address of `own` to `target`.
fn media_socket_from(mut own: SocketAddr, target: SocketAddr) -> io::Result<UdpSocket> {
    own.set_port(0);
    let socket = UdpSocket::bind(own)?;
    socket.connect(target)?;
    Ok(socket)
}

/// No address in particular, of the family of `target`.
fn any_address(target: SocketAddr) -> SocketAddr {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, 0)
}

/// Marks outgoing packets with a DSCP (RFC 2474); if the system refuses, they go without.
fn mark(socket: &impl AsFd, target: SocketAddr, dscp: u8) {
    if dscp == 0 {
        return;
    }
    let class = i32::from(dscp) << 2;
    let _ = if target.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4Tos, &class)
    } else {
        setsockopt(socket, sockopt::Ipv6TClass, &class)
    };
}

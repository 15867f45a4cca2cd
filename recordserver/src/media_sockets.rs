//! The UDP port of a call: one socket for its sender, and later one for everybody else.
//!
//! At first one socket takes the packets from the phone's address. Once the sender is known, that socket is
//! connected to it, and a second one on the same port gets the packets of others: the kernel keeps them out
//! of the buffer of the call. The second one is looked at when the sender falls silent, because a NAT may
//! have moved it to another port, and now and then for the count. Owns: both sockets, when they are looked
//! at. Never: whose packets count ([`media::source_lock`]).

use media::time::Mono;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use os::receiver::{Datagram, MAX_DRAINED, Receiver};
use os::{SocketMemory, only_from, socket_memory};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Receive buffer of each call: Linux doubles it, which holds some ten seconds of a call, whatever the
/// system's default is. Used only while the loop is late.
const RECEIVE_BUFFER_OCTETS: usize = 212_992;

/// That for everybody else: over a second of a call that a NAT has moved.
const OTHERS_BUFFER_OCTETS: usize = 65_536;

/// The interval between looks at others while the sender goes on.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The sockets of one call.
#[derive(Debug)]
pub struct Media {
    socket: UdpSocket,
    phone: IpAddr,
    /// The peer of the first socket.
    sender: Option<SocketAddr>,
    others: Option<Others>,
    /// The kernel's drops at the first socket that are counted already.
    drops: u32,
    /// Its buffer was full while there was no sender: dropped packets may be of the call.
    was_full: bool,
    uncounted: Dropped,
}

#[derive(Debug)]
struct Others {
    socket: UdpSocket,
    /// `None`: it is time.
    looked: Option<Mono>,
    drops: u32,
}

/// The result of a look into the sockets.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Datagrams of the sender, or of everybody while there is none.
    pub count: usize,
    /// There may be more.
    pub more: bool,
}

/// The kernel's drops since the last query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Packets of the call: nobody fetched them in time.
    pub overrun: u64,
    /// Packets of others.
    pub strangers: u64,
}

impl Media {
    /// A socket at `addr` that takes packets from `phone`.
    ///
    /// # Errors
    /// The address or port can't be had.
    pub fn bind(addr: SocketAddr, phone: IpAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(addr)?;
        prepare(&socket, RECEIVE_BUFFER_OCTETS, phone);
        Ok(Self {
            socket,
            phone,
            sender: None,
            others: None,
            drops: 0,
            was_full: false,
            uncounted: Dropped::default(),
        })
    }

    /// Hands the waiting packets to `take`: those of the sender, and those of others if it is time to look at
    /// them.
    ///
    /// # Errors
    /// As the system says.
    pub fn drain(
        &mut self,
        receiver: &mut Receiver,
        now: Mono,
        mut take: impl FnMut(&Datagram<'_>),
    ) -> io::Result<Drained> {
        if self.sender.is_none() {
            self.was_full |= memory(&self.socket).is_some_and(|memory| memory.is_full);
        }
        let count = receiver.drain(&self.socket, &mut take)?;
        let mut drained = Drained { count, more: count >= MAX_DRAINED };
        // Not before all of the sender's: they decide how others are judged.
        if let Some(others) = self.others.as_mut().filter(|_| !drained.more) {
            if count == 0 || others.looked.is_none_or(|last| now.since(last) >= LOOK_INTERVAL) {
                others.looked = Some(now);
                drained.more = receiver.drain(&others.socket, take)? >= MAX_DRAINED;
            }
        }
        Ok(drained)
    }

    /// The next look is at everybody.
    pub fn look_at_all(&mut self) {
        if let Some(others) = &mut self.others {
            others.looked = None;
        }
    }

    /// Keeps everybody but `sender` out of the first socket from now on, and hands packets that came to the
    /// other one meanwhile to `take`. Does nothing if it is so. `contested`: others have sent, too.
    ///
    /// # Errors
    /// As the system says, for want of a descriptor or a route. The call goes on all the same, without that
    /// protection.
    pub fn follow(
        &mut self,
        sender: SocketAddr,
        contested: bool,
        receiver: &mut Receiver,
        now: Mono,
        take: impl FnMut(&Datagram<'_>),
    ) -> io::Result<()> {
        if self.sender == Some(sender) {
            return Ok(());
        }
        if self.others.is_none() {
            let socket = self.second()?;
            self.others = Some(Others { socket, looked: Some(now), drops: 0 });
        }
        self.uncounted = self.dropped();
        connect(self.socket.as_raw_fd(), &SockaddrStorage::from(sender))?;
        if self.sender.replace(sender).is_none() && self.was_full {
            let news = news(&self.socket, &mut self.drops);
            *(if contested { &mut self.uncounted.strangers } else { &mut self.uncounted.overrun }) += news;
        }
        if let Some(others) = &self.others {
            receiver.drain(&others.socket, take)?;
        }
        Ok(())
    }

    /// The kernel's new drops; each is returned once.
    pub fn dropped(&mut self) -> Dropped {
        let mut dropped = std::mem::take(&mut self.uncounted);
        if self.sender.is_some() {
            dropped.overrun += news(&self.socket, &mut self.drops);
        } else if !self.was_full {
            dropped.strangers += news(&self.socket, &mut self.drops);
        }
        if let Some(others) = &mut self.others {
            dropped.strangers += self::news(&others.socket, &mut others.drops);
        }
        dropped
    }

    /// Another socket on the same port. The permission to share it is taken back at once: no other program
    /// gets in.
    fn second(&self) -> io::Result<UdpSocket> {
        let addr = self.socket.local_addr()?;
        let family = if addr.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let second =
            socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        setsockopt(&self.socket, sockopt::ReuseAddr, &true)?;
        let bound = setsockopt(&second, sockopt::ReuseAddr, &true)
            .and_then(|()| bind(second.as_raw_fd(), &SockaddrStorage::from(addr)))
            .and_then(|()| setsockopt(&second, sockopt::ReuseAddr, &false));
        setsockopt(&self.socket, sockopt::ReuseAddr, &false)?;
        bound?;
        let second = UdpSocket::from(second);
        prepare(&second, OTHERS_BUFFER_OCTETS, self.phone);
        Ok(second)
    }
}

fn prepare(socket: &UdpSocket, buffer_octets: usize, phone: IpAddr) {
    // All of these may fail: a smaller buffer serves for a shorter time, without stamps a packet arrives when
    // it is looked at, and without the filter strangers cost a look.
    let _ = setsockopt(socket, sockopt::RcvBuf, &buffer_octets);
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &true);
    let _ = only_from(socket.as_fd(), phone);
}

fn memory(socket: &UdpSocket) -> Option<SocketMemory> {
    socket_memory(socket.as_fd()).ok()
}

fn news(socket: &UdpSocket, counted: &mut u32) -> u64 {
    let drops = memory(socket).map_or(*counted, |memory| memory.drops);
    u64::from(drops.wrapping_sub(std::mem::replace(counted, drops)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use os::clock;

    struct Bench {
        media: Media,
        receiver: Receiver,
        to: SocketAddr,
    }

    fn phone(host: &str) -> UdpSocket {
        UdpSocket::bind((host, 0)).expect("loopback")
    }

    fn addr(socket: &UdpSocket) -> SocketAddr {
        socket.local_addr().expect("bound")
    }

    impl Bench {
        fn new() -> Self {
            let localhost = IpAddr::from([127, 0, 0, 1]);
            let media = Media::bind(SocketAddr::new(localhost, 0), localhost).expect("loopback");
            let to = addr(&media.socket);
            Self { media, receiver: Receiver::default(), to }
        }

        fn drain(&mut self) -> Vec<Vec<u8>> {
            let mut seen = Vec::new();
            let take = |datagram: &Datagram<'_>| seen.push(datagram.octets.to_vec());
            self.media.drain(&mut self.receiver, clock::mono(), take).expect("drains");
            seen
        }

        fn follow(&mut self, sender: &UdpSocket) -> usize {
            let mut seen = 0;
            let take = |_: &Datagram<'_>| seen += 1;
            self.media.follow(addr(sender), false, &mut self.receiver, clock::mono(), take).expect("follows");
            seen
        }
    }

    #[test]
    fn another_address_never_reaches_the_call_and_is_counted() {
        let mut bench = Bench::new();
        let (phone, stranger) = (phone("127.0.0.1"), phone("127.0.0.9"));
        for sender in [&stranger, &phone, &stranger] {
            sender.send_to(b"x", bench.to).expect("loopback");
        }
        assert_eq!(bench.drain().len(), 1);
        assert_eq!(bench.media.dropped(), Dropped { overrun: 0, strangers: 2 });
        bench.follow(&phone);
        stranger.send_to(b"x", bench.to).expect("loopback");
        assert_eq!(bench.media.dropped(), Dropped { overrun: 0, strangers: 1 });
    }

    #[test]
    fn a_flood_from_another_port_of_the_phone_takes_no_room_from_the_sender() {
        let mut bench = Bench::new();
        let (sender, other) = (phone("127.0.0.1"), phone("127.0.0.1"));
        bench.follow(&sender);
        for number in 0..5000_u16 {
            other.send_to(&[0; 20], bench.to).expect("loopback");
            if number % 100 == 0 {
                sender.send_to(b"ours", bench.to).expect("loopback");
            }
        }
        let seen = bench.drain();
        assert_eq!(seen.iter().filter(|octets| *octets == b"ours").count(), 50);
        assert_eq!(bench.media.dropped().overrun, 0);
        let mut strangers = 0;
        while let left @ 1.. = bench.drain().len() {
            strangers += left;
        }
        assert!(strangers > 10, "{strangers}");
    }

    #[test]
    fn drops_before_the_sender_is_known_are_the_senders_unless_others_sent() {
        for contested in [false, true] {
            let mut bench = Bench::new();
            let sender = phone("127.0.0.1");
            for _ in 0..3000 {
                sender.send_to(&[0; 172], bench.to).expect("loopback");
            }
            bench.drain();
            assert_eq!(bench.media.dropped(), Dropped::default());
            let to = addr(&sender);
            bench.media.follow(to, contested, &mut bench.receiver, clock::mono(), |_| ()).expect("follows");
            let dropped = bench.media.dropped();
            let (his, theirs) = (dropped.overrun, dropped.strangers);
            assert!(if contested { his == 0 && theirs > 0 } else { his > 0 && theirs == 0 }, "{dropped:?}");
        }
    }

    #[test]
    fn a_sender_at_another_port_is_seen_as_soon_as_the_first_is_silent() {
        let mut bench = Bench::new();
        let (before, after) = (phone("127.0.0.1"), phone("127.0.0.1"));
        bench.follow(&before);
        after.send_to(b"1", bench.to).expect("loopback");
        after.send_to(b"2", bench.to).expect("loopback");
        assert_eq!(bench.drain(), [b"1", b"2"]);
        after.send_to(b"3", bench.to).expect("loopback");
        assert_eq!(bench.follow(&after), 1, "the packet that came meanwhile");
        after.send_to(b"4", bench.to).expect("loopback");
        assert_eq!(bench.drain(), [b"4"]);
    }

    #[test]
    fn no_other_program_gets_the_port() {
        let mut bench = Bench::new();
        bench.follow(&phone("127.0.0.1"));
        let thief = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).expect("socket");
        setsockopt(&thief, sockopt::ReuseAddr, &true).expect("set");
        assert!(bind(thief.as_raw_fd(), &SockaddrStorage::from(bench.to)).is_err());
    }

    #[test]
    fn ipv6_is_told_apart_likewise() {
        let Ok(second) = UdpSocket::bind("[::1]:0") else { return };
        let any = "[::]:0".parse().expect("address");
        for phone in [second, phone("127.0.0.1")] {
            let mut media = Media::bind(any, addr(&phone).ip()).expect("bound");
            let port = addr(&media.socket).port();
            let mut receiver = Receiver::default();
            let (v6, v4) = (UdpSocket::bind("[::1]:0").expect("bound"), self::phone("127.0.0.2"));
            for sender in [&phone, &v6, &v4] {
                let host = if addr(sender).is_ipv6() { "::1" } else { "127.0.0.1" };
                sender.send_to(b"x", (host, port)).expect("loopback");
            }
            let mut sources = Vec::new();
            media
                .drain(&mut receiver, clock::mono(), |datagram| sources.push(datagram.source))
                .expect("drains");
            let same = sources.iter().all(|source| source.ip().to_canonical() == addr(&phone).ip());
            assert!(same && !sources.is_empty(), "{sources:?}");
            media.follow(sources[0], false, &mut receiver, clock::mono(), |_| ()).expect("connects");
        }
    }
}

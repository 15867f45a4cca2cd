//! Datagrams received, and sent on, in batches of one system call.
//!
//! Owns: one set of buffers for all sockets, of which a call touches few pages.

use nix::errno::Errno;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Datagrams taken from a socket by one system call.
pub const BATCH_DATAGRAMS: usize = 64;

/// Octets kept of each datagram: more than any audio packet on Ethernet has.
pub const DATAGRAM_OCTETS: usize = 2048;

/// Octets of each datagram that lie close to those of its neighbours. Packets of a call end here, so a drain
/// touches few pages; after an idle second each of them costs more than the packets in it.
const NEAR_OCTETS: usize = 256;

/// Room for the sender's address: the larger one of the two that UDP has.
type Name = libc::sockaddr_in6;

/// Length of the address buffer of a datagram, as the kernel wants it.
#[expect(clippy::cast_possible_truncation, reason = "28 octets")]
const NAME_OCTETS: libc::socklen_t = size_of::<Name>() as libc::socklen_t;

/// Room for the two control messages of a datagram, in words.
const CONTROL_WORDS: usize = 8;

/// A datagram and the kernel's notes on it, side by side.
struct Slot {
    near: [u8; NEAR_OCTETS],
    name: Name,
    control: [u64; CONTROL_WORDS],
    vectors: [libc::iovec; 2],
}

/// All that a drain touches, from the start of a page on: a second of a call is one page of headers and five
/// of slots.
#[repr(C, align(4096))]
struct Slots {
    headers: [libc::mmsghdr; BATCH_DATAGRAMS],
    slots: [Slot; BATCH_DATAGRAMS],
}

impl Slots {
    #[expect(unsafe_code, reason = "made in place: 28 KiB are not to pass over the stack")]
    fn new() -> Box<Self> {
        let layout = Layout::new::<Self>();
        // SAFETY: the layout is not empty. The allocation has the layout of the type and is zeros, a valid
        // value of integers, pointers and C structures of them; the box is its only owner.
        unsafe {
            let slots = alloc_zeroed(layout).cast::<Self>();
            if slots.is_null() {
                handle_alloc_error(layout);
            }
            Box::from_raw(slots)
        }
    }
}

/// Buffers for [`BATCH_DATAGRAMS`] datagrams, used again for every batch and every socket.
pub struct Batch {
    near: Box<Slots>,
    /// Longer datagrams, whole; the kernel writes only the part that `near` has no room for.
    far: Box<[[u8; DATAGRAM_OCTETS]]>,
    /// Headers for sending, and their targets; they are few if nothing is sent.
    out: Vec<libc::mmsghdr>,
    out_vectors: Vec<libc::iovec>,
    count: usize,
    /// Headers that the kernel or we have changed since they were made ready.
    used: usize,
}

/// Some of the datagrams of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection(u64);

impl Selection {
    /// Adds the datagram at `index` of [`Batch::datagrams`].
    pub fn add(&mut self, index: usize) {
        debug_assert!(index < BATCH_DATAGRAMS);
        self.0 |= 1 << (index % BATCH_DATAGRAMS);
    }

    /// Whether it is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn has(self, index: usize) -> bool {
        self.0 & (1 << (index % BATCH_DATAGRAMS)) != 0
    }
}

/// The result of sending datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that were not sent.
    pub failed: u32,
    /// The peer's port is closed.
    pub refused: bool,
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Content, as far as it was kept.
    pub octets: &'a [u8],
    /// Whether it was longer.
    pub truncated: bool,
    /// Sender.
    pub source: SocketAddr,
    /// When the kernel received it, in nanoseconds since the Unix epoch, if the socket tells.
    pub arrived_ns: Option<i64>,
    /// Datagrams that the kernel has dropped at this socket so far, if the socket tells.
    pub overflow: Option<u32>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// Empty buffers; pages are only used once datagrams arrive.
    #[must_use]
    pub fn new() -> Self {
        Self {
            near: Slots::new(),
            far: vec![[0; DATAGRAM_OCTETS]; BATCH_DATAGRAMS].into_boxed_slice(),
            out: Vec::new(),
            out_vectors: Vec::new(),
            count: 0,
            used: BATCH_DATAGRAMS,
        }
    }

    /// Takes the datagrams that have arrived at `socket`, without waiting; a full batch means that there may
    /// be more.
    ///
    /// # Errors
    /// As the system says, never `WouldBlock`: nothing there is 0 datagrams.
    #[expect(unsafe_code, reason = "recvmmsg without an allocation for each call")]
    #[allow(clippy::cast_possible_truncation, reason = "small constants; the C types differ by platform")]
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.count = 0;
        // Only the used ones: making all of them ready would cost more than the one packet of a relay.
        for index in 0..std::mem::take(&mut self.used) {
            let (slot, far) = (&mut self.near.slots[index], &mut self.far[index][NEAR_OCTETS..]);
            slot.vectors = [
                libc::iovec { iov_base: slot.near.as_mut_ptr().cast(), iov_len: slot.near.len() },
                libc::iovec { iov_base: far.as_mut_ptr().cast(), iov_len: far.len() },
            ];
            let header = &mut self.near.headers[index].msg_hdr;
            header.msg_name = (&raw mut slot.name).cast();
            header.msg_namelen = NAME_OCTETS;
            header.msg_iov = slot.vectors.as_mut_ptr();
            header.msg_iovlen = 2;
            header.msg_control = slot.control.as_mut_ptr().cast();
            header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
            header.msg_flags = 0;
        }
        // SAFETY: every pointer set above, now or before an earlier call, leads into a buffer of `self` of
        // the length given beside it. The buffers stay where they are as long as `self` lives.
        let result = Errno::result(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.near.headers.as_mut_ptr(),
                BATCH_DATAGRAMS as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        });
        match result {
            Ok(count) => self.count = usize::try_from(count).unwrap_or(0),
            Err(Errno::EWOULDBLOCK) => {}
            Err(errno) => {
                // It may have got as far as the first header.
                self.used = 1;
                return Err(errno.into());
            }
        }
        self.used = self.count.max(1);
        for index in 0..self.count {
            if self.len(index) > NEAR_OCTETS {
                self.far[index][..NEAR_OCTETS].copy_from_slice(&self.near.slots[index].near);
            }
        }
        Ok(self.count)
    }

    /// Octets kept of the datagram at `index`.
    fn len(&self, index: usize) -> usize {
        usize::try_from(self.near.headers[index].msg_len).unwrap_or(usize::MAX).min(DATAGRAM_OCTETS)
    }

    /// The datagrams of the last call to [`Self::receive`].
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.count).map(|index| self.datagram(index))
    }

    /// Sends `selection` of the datagrams of the last call to [`Self::receive`] by a connected socket,
    /// without copying and without waiting: datagrams that the system does not take at once are not sent.
    #[expect(unsafe_code, reason = "sendmmsg straight from the buffers of recvmmsg")]
    pub fn send(&mut self, socket: BorrowedFd<'_>, selection: Selection) -> Sent {
        self.out.clear();
        self.out_vectors.clear();
        for index in (0..self.count).filter(|index| selection.has(*index)) {
            let octets = self.octets(index);
            let vector = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
            self.out_vectors.push(vector);
        }
        for vector in &mut self.out_vectors {
            // SAFETY: a C structure of integers and pointers, for which all zeros is a valid value.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            self.out.push(header);
        }
        let mut sent = Sent::default();
        let mut rest = &mut self.out[..];
        while !rest.is_empty() {
            let left = u32::try_from(rest.len()).unwrap_or(u32::MAX);
            // SAFETY: every header leads to one vector of `self`, and that to octets of `self`, which the
            // kernel only reads; `self` is borrowed for the call.
            let result = Errno::result(unsafe {
                libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), left, libc::MSG_DONTWAIT as _)
            });
            let done = match result {
                Ok(count) => usize::try_from(count).unwrap_or(0).max(1),
                Err(Errno::EINTR) => 0,
                // This datagram can't be sent, the next one perhaps can.
                Err(Errno::EMSGSIZE | Errno::EPERM) => {
                    sent.failed += 1;
                    1
                }
                Err(errno) => {
                    sent.failed += left;
                    sent.refused = errno == Errno::ECONNREFUSED;
                    break;
                }
            };
            rest = &mut rest[done..];
        }
        sent
    }

    fn octets(&self, index: usize) -> &[u8] {
        let len = self.len(index);
        if len > NEAR_OCTETS { &self.far[index][..len] } else { &self.near.slots[index].near[..len] }
    }

    fn datagram(&self, index: usize) -> Datagram<'_> {
        let header = &self.near.headers[index];
        let (arrived_ns, overflow) = control_messages(&header.msg_hdr);
        Datagram {
            octets: self.octets(index),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            source: source(&self.near.slots[index].name),
            arrived_ns,
            overflow,
        }
    }
}

/// Reads the sender's address; anything but IP is the unspecified address.
#[expect(unsafe_code, reason = "the kernel tells the type of the address in its first field")]
fn source(name: &Name) -> SocketAddr {
    match i32::from(name.sin6_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote the other, shorter type, whose alignment is no
            // stricter.
            let name = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let addr = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            SocketAddr::new(addr.into(), u16::from_be(name.sin_port))
        }
        libc::AF_INET6 => {
            SocketAddr::new(Ipv6Addr::from(name.sin6_addr.s6_addr).into(), u16::from_be(name.sin6_port))
        }
        _ => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    }
}

/// Reads arrival time and drop counter from the control messages of a datagram.
#[expect(unsafe_code, reason = "control messages are only reachable by the C macros")]
#[allow(
    clippy::cast_possible_truncation,
    clippy::unnecessary_cast,
    reason = "the C types differ by platform"
)]
#[allow(clippy::useless_conversion, reason = "the C types differ by platform")]
fn control_messages(header: &libc::msghdr) -> (Option<i64>, Option<u32>) {
    let (mut arrived_ns, mut overflow) = (None, None);
    // SAFETY: the kernel has filled in the control buffer and its length; the macros stay inside, and the
    // payloads are read without assuming alignment, after checking that they are complete.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = message.as_ref() {
            let octets = head.cmsg_len as usize;
            let data = libc::CMSG_DATA(message);
            if head.cmsg_level == libc::SOL_SOCKET {
                if head.cmsg_type == libc::SCM_TIMESTAMPNS
                    && octets >= libc::CMSG_LEN(size_of::<libc::timespec>() as _) as usize
                {
                    let time = data.cast::<libc::timespec>().read_unaligned();
                    let seconds_ns = seconds(time.tv_sec).checked_mul(1_000_000_000);
                    arrived_ns = seconds_ns.and_then(|ns| ns.checked_add(i64::from(time.tv_nsec)));
                }
                if head.cmsg_type == libc::SO_RXQ_OVFL && octets >= libc::CMSG_LEN(4) as usize {
                    overflow = Some(data.cast::<u32>().read_unaligned());
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    (arrived_ns, overflow)
}

/// Seconds of a stamp of the kernel's. Where it has 32 bits, the kernel gives the lower ones, which are right
/// until 2106.
#[allow(
    clippy::useless_conversion,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "time_t differs by platform"
)]
fn seconds(stamp: libc::time_t) -> i64 {
    if size_of::<libc::time_t>() == 4 { i64::from(stamp as u32) } else { i64::from(stamp) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
        let receiver = UdpSocket::bind("127.0.0.1:0")?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        sender.connect(receiver.local_addr()?)?;
        Ok((sender, receiver))
    }

    fn datagram(number: usize, octets: usize) -> Vec<u8> {
        (0..octets).map(|at| u8::try_from((at * 7 + number) % 251).unwrap_or(0)).collect()
    }

    #[test]
    fn a_datagram_of_any_length_arrives_whole_and_goes_on_whole() {
        let lengths = [
            0,
            1,
            172,
            NEAR_OCTETS - 1,
            NEAR_OCTETS,
            NEAR_OCTETS + 1,
            1500,
            DATAGRAM_OCTETS,
            DATAGRAM_OCTETS + 1,
        ];
        let (sender, receiver) = pair().expect("sockets");
        let (relay, server) = pair().expect("sockets");
        let mut batch = Batch::new();
        // Batches of different sizes use the places again for datagrams of other lengths.
        for (round, count) in [9, 1, 5, 64, 3].into_iter().enumerate() {
            let sent: Vec<_> = (0..count).map(|at| datagram(at + round, lengths[(at + round) % 9])).collect();
            for octets in &sent {
                sender.send(octets).expect("sent");
            }
            assert_eq!(batch.receive(receiver.as_fd()).expect("received"), count);
            let mut all = Selection::default();
            for (index, (got, octets)) in batch.datagrams().zip(&sent).enumerate() {
                let kept = octets.len().min(DATAGRAM_OCTETS);
                assert_eq!((got.octets, got.truncated), (&octets[..kept], octets.len() > kept));
                assert_eq!(got.source, sender.local_addr().expect("bound"));
                all.add(index);
            }
            assert_eq!(batch.send(relay.as_fd(), all), Sent::default());
            for octets in &sent {
                let mut buffer = [0; DATAGRAM_OCTETS + 1];
                let got = server.recv(&mut buffer).expect("relayed");
                assert_eq!(&buffer[..got], &octets[..octets.len().min(DATAGRAM_OCTETS)]);
            }
            assert_eq!(batch.receive(receiver.as_fd()).expect("nothing there"), 0);
        }
    }
}

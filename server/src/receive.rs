//! RTP off many sockets in few system calls.
//!
//! Owns: one set of buffers for all sockets. A socket is emptied in batches; none is woken for.

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

/// Datagrams taken at once: three times what a call has between two sweeps.
const BATCH: usize = 16;

/// Batches taken from one socket before the next one's turn.
const MAX_BATCHES: usize = 16;

/// Datagrams taken from one socket before the next one's turn; so many mean that there may be more.
pub const MAX_DRAINED: usize = BATCH * MAX_BATCHES;

/// Longer datagrams are cut, and then too long for any codec.
const DATAGRAM_OCTETS: usize = 2304;

/// Buffers for one batch.
#[derive(Debug)]
pub struct Receiver {
    buffers: Vec<u8>,
    // Apart, because the kernel leaves the length of the last address in them.
    v4: MultiHeaders<SockaddrIn>,
    v6: MultiHeaders<SockaddrIn6>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            buffers: vec![0; BATCH * DATAGRAM_OCTETS],
            v4: MultiHeaders::preallocate(BATCH, None),
            v6: MultiHeaders::preallocate(BATCH, None),
        }
    }
}

type Lengths = [(usize, Option<SocketAddr>); BATCH];

impl Receiver {
    /// Hands every datagram that waits in `socket`, bound to an address of the family `v6` says, to `take`.
    ///
    /// # Errors
    /// As the system says; an empty socket is no error.
    pub fn drain(
        &mut self,
        socket: &UdpSocket,
        v6: bool,
        mut take: impl FnMut(&[u8], SocketAddr),
    ) -> io::Result<usize> {
        let mut total = 0;
        for _ in 0..MAX_BATCHES {
            let mut lengths: Lengths = [(0, None); BATCH];
            let received = if v6 {
                batch(&mut self.v6, &mut self.buffers, socket, &mut lengths, from_v6)
            } else {
                batch(&mut self.v4, &mut self.buffers, socket, &mut lengths, from_v4)
            };
            let count = match received {
                Ok(count) => count,
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(errno) => return Err(errno.into()),
            };
            for (datagram, (octets, source)) in
                self.buffers.chunks_exact(DATAGRAM_OCTETS).zip(lengths).take(count)
            {
                if let Some(source) = source {
                    take(&datagram[..octets.min(DATAGRAM_OCTETS)], source);
                }
            }
            total += count;
            if count < BATCH {
                break;
            }
        }
        Ok(total)
    }
}

fn batch<S: SockaddrLike + Copy>(
    headers: &mut MultiHeaders<S>,
    buffers: &mut [u8],
    socket: &UdpSocket,
    lengths: &mut Lengths,
    source: fn(S) -> SocketAddr,
) -> Result<usize, Errno> {
    let mut chunks = buffers.chunks_exact_mut(DATAGRAM_OCTETS);
    let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
        std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
    let received = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
    let mut count = 0;
    for (message, length) in received.zip(lengths) {
        *length = (message.bytes, message.address.map(source));
        count += 1;
    }
    Ok(count)
}

fn from_v4(address: SockaddrIn) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::from(address))
}

fn from_v6(address: SockaddrIn6) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes_all(host: &str, v6: bool) {
        let socket = UdpSocket::bind((host, 0)).expect("loopback");
        let phone = UdpSocket::bind((host, 0)).expect("loopback");
        phone.connect(socket.local_addr().expect("bound")).expect("loopback");
        let mut receiver = Receiver::default();
        for round in 0..3_u8 {
            for index in 0..40_u8 {
                phone.send(&[round, index]).expect("loopback");
            }
            let mut seen = Vec::new();
            let count = receiver
                .drain(&socket, v6, |datagram, source| {
                    assert_eq!(source, phone.local_addr().expect("bound"));
                    seen.push(datagram.to_vec());
                })
                .expect("receives");
            let sent: Vec<_> = (0..40).map(|index| vec![round, index]).collect();
            assert_eq!((count, seen), (40, sent));
        }
        assert_eq!(receiver.drain(&socket, v6, |_, _| ()).expect("empty is fine"), 0);
    }

    #[test]
    fn everything_that_waits_is_taken_in_order_with_its_source() {
        takes_all("127.0.0.1", false);
    }

    #[test]
    fn ipv6_is_taken_likewise() {
        if UdpSocket::bind(("::1", 0)).is_ok() {
            takes_all("::1", true);
        }
    }
}

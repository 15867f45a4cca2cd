//! RTP off many sockets in few system calls.
//!
//! Owns: one set of buffers for all sockets, and when each datagram arrived. A socket is emptied in batches;
//! none is woken for.

use crate::clock;
use crate::datagrams::{BATCH_DATAGRAMS, Batch};
use media::time::Mono;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

/// Batches taken from one socket before the next one's turn.
const MAX_BATCHES: usize = 4;

/// Most datagrams taken from one socket before the next one's turn; if all of them came, there may be more.
pub const MAX_DRAINED: usize = BATCH_DATAGRAMS * MAX_BATCHES;

/// A datagram that is said to have waited for longer has a wrong stamp: the clock was set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A datagram received from a socket.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Content, as far as it was kept.
    pub octets: &'a [u8],
    /// It was longer, which no audio packet is.
    pub truncated: bool,
    /// Sender.
    pub source: SocketAddr,
    /// When the kernel received it.
    pub arrival: Mono,
}

/// Buffers for one batch, used for all sockets.
#[derive(Default)]
pub struct Receiver {
    batch: Batch,
}

impl Receiver {
    /// Hands every datagram that waits in `socket` to `take`, as many as fit a turn; how many there were.
    ///
    /// # Errors
    /// As the system says; an empty socket is no error.
    pub fn drain(&mut self, socket: &UdpSocket, mut take: impl FnMut(&Datagram<'_>)) -> io::Result<usize> {
        let mut total = 0;
        for _ in 0..MAX_BATCHES {
            let count = match self.batch.receive(socket.as_fd()) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                Err(error) => return Err(error),
            };
            if count == 0 {
                break;
            }
            let now = (clock::mono(), clock::unix_ns());
            for datagram in self.batch.datagrams() {
                take(&Datagram {
                    octets: datagram.octets,
                    truncated: datagram.truncated,
                    source: datagram.source,
                    arrival: arrival(datagram.arrived_ns, now),
                });
            }
            total += count;
            if count < BATCH_DATAGRAMS {
                break;
            }
        }
        Ok(total)
    }
}

/// The kernel's calendar stamp as monotonic time; one that can't be right, or is missing, counts as now.
fn arrival(arrived_ns: Option<i64>, (now, unix_ns): (Mono, i64)) -> Mono {
    let ago = arrived_ns.and_then(|arrived| u64::try_from(unix_ns - arrived).ok());
    match ago.map(Duration::from_nanos) {
        Some(ago) if ago <= LONGEST_WAIT => now.minus(ago),
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes_all(host: &str) {
        let socket = UdpSocket::bind((host, 0)).expect("loopback");
        let phone = UdpSocket::bind((host, 0)).expect("loopback");
        phone.connect(socket.local_addr().expect("bound")).expect("loopback");
        let mut receiver = Receiver::default();
        for round in 0..3_u8 {
            for index in 0..100_u8 {
                phone.send(&[round, index]).expect("loopback");
            }
            let mut seen = Vec::new();
            let count = receiver
                .drain(&socket, |datagram| {
                    assert_eq!(datagram.source, phone.local_addr().expect("bound"));
                    assert!(!datagram.truncated);
                    seen.push(datagram.octets.to_vec());
                })
                .expect("receives");
            let sent: Vec<_> = (0..100).map(|index| vec![round, index]).collect();
            assert_eq!((count, seen), (100, sent));
        }
        assert_eq!(receiver.drain(&socket, |_| ()).expect("empty is fine"), 0);
    }

    #[test]
    fn everything_that_waits_is_taken_in_order_with_its_source() {
        takes_all("127.0.0.1");
    }

    #[test]
    fn ipv6_is_taken_likewise() {
        if UdpSocket::bind(("::1", 0)).is_ok() {
            takes_all("::1");
        }
    }

    #[test]
    fn a_stamp_tells_the_arrival_unless_it_cannot_be_right() {
        let now = (Mono::new(Duration::from_secs(100)), 5_000_000_000_000);
        let ago = |ms: i64| arrival(Some(now.1 - ms * 1_000_000), now);
        assert_eq!(ago(250), Mono::new(Duration::from_millis(99_750)));
        assert_eq!([ago(-5), ago(3_600_000), arrival(None, now)], [now.0; 3]);
    }
}

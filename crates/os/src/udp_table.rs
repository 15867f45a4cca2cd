//! The kernel's table of UDP sockets (`/proc/net/udp`, `udp6`): what it says of one of ours.
//!
//! Linux before 4.12 and emulators have no `SO_MEMINFO`; the table has been there since 2.6.27 (proc(5)). It takes a file
//! to be read, so it is the second choice.

use super::SocketMemory;
use nix::sys::socket::{getsockopt, sockopt};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

/// Columns of a row: the queues, the inode, and the drops.
const QUEUES: usize = 4;
const INODE: usize = 9;
const DROPS: usize = 12;

/// How the receive buffer of `socket` does.
///
/// # Errors
/// As the system says; [`io::ErrorKind::NotFound`] if the table does not have the socket.
pub(super) fn socket_memory(socket: BorrowedFd<'_>) -> io::Result<SocketMemory> {
    let inode = File::from(socket.try_clone_to_owned()?).metadata()?.ino();
    let limit = getsockopt(&socket, sockopt::RcvBuf)?;
    for table in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        let Ok(table) = File::open(table) else { continue };
        for row in BufReader::new(table).lines() {
            if let Some((used, drops)) = of_row(&row?, inode) {
                let is_full = used + u64::from(super::PACKET_MEMORY_OCTETS) > limit as u64;
                return Ok(SocketMemory { is_full, drops });
            }
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Octets that wait and datagrams that were dropped, if the row is that of `inode`.
fn of_row(row: &str, inode: u64) -> Option<(u64, u32)> {
    let mut columns = row.split_ascii_whitespace();
    let (_, waiting) = columns.nth(QUEUES)?.split_once(':')?;
    if columns.nth(INODE - QUEUES - 1)?.parse() != Ok(inode) {
        return None;
    }
    let drops = columns.nth(DROPS - INODE - 1)?.parse().ok()?;
    Some((u64::from_str_radix(waiting, 16).ok()?, drops))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn a_row_is_read_and_others_are_passed_by() {
        let row = "  411: 0100007F:9C40 00000000:0000 07 00000000:00000B00 00:00000000 00000000  1000        0 \
                   31337 2 0000000000000000 17";
        assert_eq!(of_row(row, 31_337), Some((0xB00, 17)));
        assert_eq!(of_row(row, 1), None);
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout \
                       inode ref pointer drops";
        assert_eq!(of_row(heading, 1), None);
        assert_eq!(of_row("", 1), None);
    }

    #[test]
    fn drops_are_counted_and_a_full_buffer_is_seen() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(address) else { continue };
            let before = socket_memory(socket.as_fd()).expect("a row");
            assert!(!before.is_full && before.drops == 0);
            let sender = UdpSocket::bind(address).expect("loopback");
            for _ in 0..5000 {
                sender.send_to(&[0; 172], socket.local_addr().expect("bound")).expect("loopback");
            }
            let after = socket_memory(socket.as_fd()).expect("a row");
            assert!(after.is_full && after.drops > 0, "{after:?}");
        }
    }
}

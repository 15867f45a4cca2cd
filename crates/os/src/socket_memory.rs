//! The use of the receive buffer of a UDP socket.
//!
//! Linux before 4.12 and emulators have no `SO_MEMINFO`; the kernel's table of sockets (`/proc/net/udp`,
//! `udp6`) has been there since 2.6.27 (proc(5)). It takes a file to be read, so it is the second choice.

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

/// Columns of a row: the queues, the inode, and the drops.
const QUEUES: usize = 4;
const INODE: usize = 9;
const DROPS: usize = 12;

/// The kernel's memory for a socket, and the packets that it could not keep.
#[derive(Clone, Copy, Debug)]
pub struct SocketMemory {
    /// Whether its receive buffer has no room for another packet.
    pub is_full: bool,
    /// Datagrams dropped at this socket so far: its buffer was full, or a filter refused them.
    pub drops: u32,
}

/// The use of a socket's receive buffer.
///
/// # Errors
/// As the system says.
pub fn socket_memory(socket: BorrowedFd<'_>) -> io::Result<SocketMemory> {
    told_memory(socket).or_else(|_| tabled_memory(socket))
}

/// As `SO_MEMINFO` says; emulators and Linux before 4.12 don't know it.
#[expect(unsafe_code, reason = "SO_MEMINFO has no wrapper")]
fn told_memory(socket: BorrowedFd<'_>) -> io::Result<SocketMemory> {
    /// Values of `SO_MEMINFO`, and their places (linux/sock_diag.h).
    const VALUES: usize = 9;
    const USED: usize = 0;
    const LIMIT: usize = 1;
    const DROPS: usize = 8;
    let mut values = [0_u32; VALUES];
    let mut octets = libc::socklen_t::try_from(size_of_val(&values)).unwrap_or_default();
    // SAFETY: the kernel writes at most `octets` octets, the size of the array, into it.
    Errno::result(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut octets,
        )
    })?;
    if usize::try_from(octets).is_ok_and(|octets| octets < size_of_val(&values)) {
        // An emulator passes on one integer of an option that it does not know.
        return Err(io::ErrorKind::Unsupported.into());
    }
    let is_full = values[USED].saturating_add(PACKET_MEMORY_OCTETS) > values[LIMIT];
    Ok(SocketMemory { is_full, drops: values[DROPS] })
}

/// The kernel's memory for a packet of a call, at most.
const PACKET_MEMORY_OCTETS: u32 = 2304;

/// As the table says; [`io::ErrorKind::NotFound`] if it does not have the socket.
fn tabled_memory(socket: BorrowedFd<'_>) -> io::Result<SocketMemory> {
    let inode = File::from(socket.try_clone_to_owned()?).metadata()?.ino();
    let limit = getsockopt(&socket, sockopt::RcvBuf)?;
    for table in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        let Ok(table) = File::open(table) else { continue };
        for row in BufReader::new(table).lines() {
            if let Some((used, drops)) = of_row(&row?, inode) {
                let is_full = used + u64::from(PACKET_MEMORY_OCTETS) > limit as u64;
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
            let before = tabled_memory(socket.as_fd()).expect("a row");
            assert!(!before.is_full && before.drops == 0);
            let sender = UdpSocket::bind(address).expect("loopback");
            for _ in 0..5000 {
                sender.send_to(&[0; 172], socket.local_addr().expect("bound")).expect("loopback");
            }
            let after = tabled_memory(socket.as_fd()).expect("a row");
            assert!(after.is_full && after.drops > 0, "{after:?}");
        }
    }
}

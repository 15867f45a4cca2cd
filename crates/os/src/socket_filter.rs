//! Filters of a UDP socket, which the kernel applies before a packet takes room.

use nix::errno::Errno;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Lets only packets from `from` into a UDP `socket`: the kernel drops others before they take room in its
/// buffer, and counts them in [`crate::SocketMemory::drops`]. On an IPv6 socket the mapped form of an IPv4
/// address is meant, too.
///
/// # Errors
/// As the system says; the socket takes everything then.
#[expect(unsafe_code, reason = "SO_ATTACH_FILTER has no wrapper")]
#[expect(clippy::cast_possible_truncation, reason = "codes of instructions have 16 bits")]
pub fn only_from(socket: BorrowedFd<'_>, from: IpAddr) -> io::Result<()> {
    /// Instructions of classic BPF: load a word or an octet, jump if equal, the operand, return
    /// (linux/filter.h).
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const LOAD_OCTET: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const MASK: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    /// Offset of the network header, in the numbers of filters.
    const NETWORK: u32 = 0xFFF0_0000;
    let (version, offset, octets) = match from.to_canonical() {
        IpAddr::V4(ip) => (0x40, 12, ip.octets().to_vec()),
        IpAddr::V6(ip) => (0x60, 8, ip.octets().to_vec()),
    };
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let words: Vec<u32> = octets
        .chunks_exact(4)
        .map(|word| word.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet)))
        .collect();
    // To the last instruction, which drops, from behind each comparison.
    let mut left = u8::try_from(2 * words.len() + 1).unwrap_or(u8::MAX);
    let mut program = vec![step(LOAD_OCTET, 0, NETWORK), step(MASK, 0, 0xF0), step(IF_EQUAL, left, version)];
    for (index, word) in (0_u32..).zip(words) {
        left = left.saturating_sub(2);
        program.push(step(LOAD_WORD, 0, NETWORK + offset + 4 * index));
        program.push(step(IF_EQUAL, left, word));
    }
    program.extend([step(RETURN, 0, u32::MAX), step(RETURN, 0, 0)]);
    let len = u16::try_from(program.len()).unwrap_or(0);
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let octets = libc::socklen_t::try_from(size_of_val(&program)).unwrap_or_default();
    // SAFETY: the kernel reads the structure of the size given, and through it as many instructions as it
    // says, all of which live until the call is over; it keeps a copy.
    Errno::result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            octets,
        )
    })?;
    Ok(())
}

/// Lets only packets of `sender` into a UDP socket, or those of everybody: the kernel drops others before
/// they take room in its buffer, counts them as dropped ([`crate::Datagram::overflow`]), and tells their
/// senders nothing. Unlike `connect` it can be undone without losing the port.
///
/// # Errors
/// As the system says; emulators don't know the option. The socket is as before then.
pub fn let_in(socket: BorrowedFd<'_>, sender: Option<SocketAddr>) -> io::Result<()> {
    // A filter that takes everything replaces the one before: unlike the option that takes one off, emulators
    // know it.
    const RETURN: u16 = 0x06;
    let everything = || vec![libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: u32::MAX }];
    let mut program = sender.map_or_else(everything, sender_filter);
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_mut_ptr(),
    };
    // `program` outlives the call, and the kernel copies it.
    set_filter(socket, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size_of_val(&filter))
}

#[expect(unsafe_code, reason = "filters have no wrapper")]
fn set_filter(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: *const libc::c_void,
    octets: usize,
) -> io::Result<()> {
    let octets = libc::socklen_t::try_from(octets).unwrap_or_default();
    // SAFETY: the kernel reads `octets` octets of `value`, which the callers have there; a filter's
    // instructions are as many as its length says.
    Errno::result(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, octets) })?;
    Ok(())
}

/// A classic BPF program that lets packets of one sender pass. It sees a packet from its UDP header on.
fn sender_filter(sender: SocketAddr) -> Vec<libc::sock_filter> {
    /// Instructions: load from an offset, mask, jump if not equal, return (linux/filter.h,
    /// linux/bpf_common.h).
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_OCTET: u16 = 0x30;
    const MASK: u16 = 0x54;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Offset of the network header, in the numbers of filters.
    const NETWORK: u32 = 0xFFF0_0000;
    let (version, offset, words) = match sender.ip().to_canonical() {
        IpAddr::V4(ip) => (0x40, 12, vec![u32::from(ip)]),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let word = |word: &[u8]| word.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet));
            (0x60, 8, octets.chunks_exact(4).map(word).collect())
        }
    };
    let mut checks = vec![
        (vec![(LOAD_HALF, 0)], u32::from(sender.port())),
        (vec![(LOAD_OCTET, NETWORK), (MASK, 0xF0)], version),
    ];
    for (index, word) in (0_u32..).zip(words) {
        checks.push((vec![(LOAD_WORD, NETWORK + offset + 4 * index)], word));
    }
    let length: usize = checks.iter().map(|(loads, _)| loads.len() + 1).sum();
    let mut program = Vec::with_capacity(length + 2);
    for (loads, wanted) in checks {
        let load = |(code, k)| libc::sock_filter { code, jt: 0, jf: 0, k };
        program.extend(loads.into_iter().map(load));
        // To the last instruction, which drops: all that is left, and the one that takes.
        let jf = u8::try_from(length - program.len()).unwrap_or(u8::MAX);
        program.push(libc::sock_filter { code: IF_EQUAL, jt: 0, jf, k: wanted });
    }
    for k in [u32::MAX, 0] {
        program.push(libc::sock_filter { code: RETURN, jt: 0, jf: 0, k });
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagrams::Batch;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn only_the_sender_that_is_let_in_reaches_a_filtered_socket() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(loopback) else { continue };
            let target = socket.local_addr().unwrap();
            let [ours, other] = [(); 2].map(|()| UdpSocket::bind(loopback).unwrap());
            if let_in(socket.as_fd(), Some(ours.local_addr().unwrap())).is_err() {
                continue;
            }
            let mut batch = Batch::new();
            let mut arrived = || {
                for sender in [&other, &ours, &other] {
                    sender.send_to(b"x", target).unwrap();
                }
                batch.receive(socket.as_fd()).unwrap();
                batch.datagrams().map(|datagram| datagram.source).collect::<Vec<_>>()
            };
            assert_eq!(arrived(), [ours.local_addr().unwrap()]);
            let_in(socket.as_fd(), None).unwrap();
            assert_eq!(arrived().len(), 3);
        }
    }
}

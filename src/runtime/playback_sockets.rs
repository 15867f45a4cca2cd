//! The sockets that playbacks send from.
//!
//! Owns: binding and sending. A packet that can't be sent at once is dropped: a late one is of no use.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use store::jobs::library::PlaybackKey;

/// One socket for each playback.
#[derive(Debug, Default)]
pub(super) struct PlaybackSockets(BTreeMap<PlaybackKey, (UdpSocket, SocketAddr)>);

impl PlaybackSockets {
    /// Opens a socket that sends to `target`.
    pub(super) fn open(&mut self, playback: PlaybackKey, target: SocketAddr) -> io::Result<()> {
        let from: IpAddr = match target.ip() {
            IpAddr::V4(addr) if addr.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(addr) if addr.is_loopback() => Ipv6Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Not connected: nobody may be listening yet, and that is no error.
        let socket = UdpSocket::bind((from, 0))?;
        socket.set_nonblocking(true)?;
        self.0.insert(playback, (socket, target));
        Ok(())
    }

    /// Sends a packet.
    pub(super) fn send(&self, playback: PlaybackKey, packet: &[u8]) {
        if let Some((socket, target)) = self.0.get(&playback) {
            if let Err(error) = socket.send_to(packet, target) {
                log::debug!("a packet of a playback was not sent: {error}");
            }
        }
    }

    /// Closes the socket of a playback.
    pub(super) fn close(&mut self, playback: PlaybackKey) {
        self.0.remove(&playback);
    }
}

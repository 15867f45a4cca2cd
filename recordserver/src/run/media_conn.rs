//! One accepted media connection: its socket, its unread frame, its unsent acknowledgements.

use super::call::CallKey;
use super::conn::stream_of;
use media::time::Mono;
use mio::net::TcpStream;
use os::control_stream::ControlStream;
use std::io;
use std::net::SocketAddr;
use uplink::media_stream::inlet::Inlet;

/// Unread octets of a phone beyond which acknowledgements wait: a later one says all that they would.
const MAX_UNSENT_OCTETS: usize = 1024;

/// A media connection.
pub(super) struct MediaConn {
    pub(super) stream: ControlStream<TcpStream>,
    pub(super) peer: SocketAddr,
    pub(super) inlet: Inlet,
    /// The call that it brings audio of, once it has said so.
    pub(super) call: Option<CallKey>,
    pub(super) since: Mono,
    /// Its call is over: it stays open until then, so that the phone hears of the call's end before it sees this
    /// connection's.
    pub(super) over: Option<Mono>,
}

impl MediaConn {
    pub(super) fn new(socket: TcpStream, peer: SocketAddr, now: Mono) -> io::Result<Self> {
        let stream = stream_of(socket, MAX_UNSENT_OCTETS)?;
        Ok(Self { stream, peer, inlet: Inlet::default(), call: None, since: now, over: None })
    }

    /// Sends a frame, or leaves it out if others wait; whether it is sent.
    pub(super) fn send(&mut self, frame: &[u8]) -> io::Result<bool> {
        let has_room = self.stream.has_room_for(frame.len());
        let sent = if has_room { self.stream.send(frame) } else { self.stream.flush() };
        sent.map(|_| has_room)
    }
}

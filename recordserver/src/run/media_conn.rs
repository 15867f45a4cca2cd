//! One accepted media connection: its socket, its unread frame.

use super::call::CallKey;
use super::conn::set_up;
use media::time::Mono;
use mio::net::TcpStream;
use std::io::{self, Read};
use std::net::SocketAddr;
use uplink::media_stream::inlet::Inlet;

/// A media connection.
pub(super) struct MediaConn {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) inlet: Inlet,
    /// The call that it brings audio of, once it has said so.
    pub(super) call: Option<CallKey>,
    pub(super) since: Mono,
    /// Its call is over: it stays open until then, so that the phone hears of the end before it sees this one's.
    pub(super) over: Option<Mono>,
}

impl MediaConn {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, now: Mono) -> io::Result<Self> {
        set_up(&stream)?;
        Ok(Self { stream, peer, inlet: Inlet::default(), call: None, since: now, over: None })
    }

    /// Reads once; `Ok(0)` is the end, `None` that there is nothing for now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buffer) {
            Ok(count) => Ok(Some(count)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

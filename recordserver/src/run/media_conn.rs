//! One accepted media connection: its socket, its unread frame, its unsent acknowledgements.

use super::call::CallKey;
use super::conn::set_up;
use media::time::Mono;
use mio::net::TcpStream;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use uplink::media_stream::inlet::Inlet;

/// Acknowledgements wait while a phone has left so many octets unread: a later one says all that they would.
const MAX_UNSENT_OCTETS: usize = 1024;

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
    unsent: Vec<u8>,
}

impl MediaConn {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, now: Mono) -> io::Result<Self> {
        set_up(&stream)?;
        Ok(Self {
            stream,
            peer,
            inlet: Inlet::default(),
            call: None,
            since: now,
            over: None,
            unsent: Vec::new(),
        })
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

    /// Sends a frame, or leaves it out if others wait; whether it is sent.
    pub(super) fn send(&mut self, frame: &[u8]) -> io::Result<bool> {
        if self.unsent.len() + frame.len() > MAX_UNSENT_OCTETS {
            return self.flush().map(|()| false);
        }
        self.unsent.extend_from_slice(frame);
        self.flush().map(|()| true)
    }

    /// Sends what the socket did not take before.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

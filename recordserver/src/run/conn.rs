//! One accepted control connection: its socket, its unsent answers, its session.

use super::call::CallKey;
use media::time::Mono;
use mio::net::TcpStream;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use uplink::server::Session;

/// Unsent octets after which a phone that does not read is given up.
const MAX_UNSENT_OCTETS: usize = 16 * 1024;

/// Reads of a connection that has been quiet before they have to be [`READ_INTERVAL`] apart.
const MAX_READS: u32 = 16;

/// A connection that was read [`MAX_READS`] times in a row waits for this long before each further one:
/// octets one by one cost no more than lines.
pub(super) const READ_INTERVAL: Duration = Duration::from_millis(20);

/// A control connection.
pub(super) struct Conn {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// The server's own address, as the phone sees it; for a link-local one with its interface.
    pub(super) local: SocketAddr,
    pub(super) session: Session,
    /// The call that it controls.
    pub(super) call: Option<CallKey>,
    /// The call that its phone has come back to, and that was complete before.
    pub(super) ended: Option<CallKey>,
    /// Its time in the timer table, if it is there.
    pub(super) timer: Option<Mono>,
    /// The session is over; further octets of the phone are read and thrown away until then, because a reset
    /// would take the answers under way with it.
    pub(super) linger: Option<Mono>,
    /// Nothing can be sent any more: the session ends as if the phone had hung up.
    pub(super) gone: bool,
    /// Since when it is there, or without a recording again.
    pub(super) since: Mono,
    /// It waits for its turn to be read.
    pub(super) queued: bool,
    unsent: Vec<u8>,
    /// Reads that it may have at once, as of then.
    reads: (u32, Mono),
}

/// Options of a phone's connection.
pub(super) fn set_up(stream: &TcpStream) -> io::Result<()> {
    // A phone that is gone without a word is noticed within 10 s.
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &3)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &2)?;
    setsockopt(stream, sockopt::TcpKeepCount, &3)?;
    // Emulators do not know it; the keep-alive notices most of it, too.
    let _ = setsockopt(stream, sockopt::TcpUserTimeout, &9000);
    stream.set_nodelay(true)
}

impl Conn {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, session: Session, now: Mono) -> io::Result<Self> {
        let mut local = stream.local_addr()?;
        if let IpAddr::V4(ip) = local.ip().to_canonical() {
            local = SocketAddr::new(ip.into(), local.port());
        }
        set_up(&stream)?;
        Ok(Self {
            stream,
            peer,
            local,
            session,
            call: None,
            ended: None,
            timer: None,
            linger: None,
            gone: false,
            since: now,
            queued: false,
            unsent: Vec::new(),
            reads: (MAX_READS, now),
        })
    }

    /// Whether its turn to be read has come; if so, it counts.
    pub(super) fn may_read(&mut self, now: Mono) -> bool {
        let (reads, at) = &mut self.reads;
        let earned = now.since(*at).as_millis() / READ_INTERVAL.as_millis();
        if earned > 0 {
            *reads = MAX_READS.min(reads.saturating_add(u32::try_from(earned).unwrap_or(MAX_READS)));
            *at = now;
        }
        let may = *reads > 0;
        *reads = reads.saturating_sub(1);
        may
    }

    /// Reads once; `Ok(0)` is the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    /// Sends; keeps the octets that the socket does not take yet.
    pub(super) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.unsent.len() + octets.len() > MAX_UNSENT_OCTETS {
            return Err(io::Error::other("the phone does not read"));
        }
        self.unsent.extend_from_slice(octets);
        self.flush()
    }

    /// Sends the kept octets.
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

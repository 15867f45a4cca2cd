//! One accepted control connection: its socket, its unsent answers, its session.

use super::call::CallKey;
use media::time::Mono;
use mio::net::TcpStream;
use os::control_stream::{ControlStream, SilentPeer, set_up};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use uplink::server::Session;

/// Unsent octets after which a phone that does not read is given up.
const MAX_UNSENT_OCTETS: usize = 16 * 1024;

/// Reads of a connection that has been quiet before they have to be [`READ_INTERVAL`] apart.
const MAX_READS: u32 = 16;

/// The wait of a connection that was read [`MAX_READS`] times in a row, before each further read: octets one by
/// one cost no more than lines.
pub(super) const READ_INTERVAL: Duration = Duration::from_millis(20);

/// A control connection.
pub(super) struct Conn {
    pub(super) stream: ControlStream<TcpStream>,
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
    /// Reads that it may have at once, as of then.
    reads: (u32, Mono),
}

/// A phone that is gone without a word is noticed within 10 s.
const SILENT_PHONE: SilentPeer =
    SilentPeer { idle_s: 3, interval_s: 2, questions: 3, unacknowledged_ms: 9000 };

/// A phone's connection, for whose phone so many octets may wait.
pub(super) fn stream_of(socket: TcpStream, most_unsent: usize) -> io::Result<ControlStream<TcpStream>> {
    set_up(&socket, SILENT_PHONE)?;
    Ok(ControlStream::new(socket, most_unsent))
}

impl Conn {
    pub(super) fn new(socket: TcpStream, peer: SocketAddr, session: Session, now: Mono) -> io::Result<Self> {
        let mut local = socket.local_addr()?;
        if let IpAddr::V4(ip) = local.ip().to_canonical() {
            local = SocketAddr::new(ip.into(), local.port());
        }
        Ok(Self {
            stream: stream_of(socket, MAX_UNSENT_OCTETS)?,
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
}

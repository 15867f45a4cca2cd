//! One server recording: its sessions, and the packets that may be needed again.
//!
//! Owns: the sessions with the server ([`Lasting`]), and with the extension the items that the server has not
//! got. Never: packets without the extension; they are relayed from the buffers of their receipt, without a
//! copy, and counted by `media::recorder` as those of a file are.

pub(in crate::agent) mod media_link;
pub(in crate::agent) mod replay;

use crate::agent::recordings::recording::to_server::media_link::MediaLink;
use crate::agent::recordings::recording::to_server::replay::Backlog;
use media::blocks::BlockPool;
use media::counts::{DropCause, Verdict};
use media::time::Mono;
use std::net::SocketAddr;
use uplink::phone::{Action, Lasting};

/// A recording on its way to the server.
#[derive(Debug)]
pub(in crate::agent) struct ToServer {
    pub(in crate::agent) client: Lasting,
    /// The session's first actions, due as soon as the RTP port is bound.
    pub(in crate::agent) first: Vec<Action>,
    /// The server, once a connection to it was tried.
    pub(in crate::agent) server: Option<SocketAddr>,
    /// The address of the server's RTP port.
    pub(in crate::agent) target: Option<SocketAddr>,
    pub(in crate::agent) ptime_ms: u32,
    /// The connection broke because the server had been silent.
    pub(in crate::agent) silent: bool,
    backlog: Option<Backlog>,
    /// Media by TCP, once the server has granted the extension.
    pub(in crate::agent) link: Option<Box<MediaLink>>,
}

impl ToServer {
    /// An upload; `remember` if it may have to go on at the phone.
    pub(in crate::agent) fn new(client: Lasting, first: Vec<Action>, ptime_ms: u32, remember: bool) -> Self {
        Self {
            client,
            first,
            server: None,
            target: None,
            ptime_ms,
            silent: false,
            backlog: remember.then(Backlog::new),
            link: None,
        }
    }

    /// Keeps a packet for a server with the extension. False if there is no room for it.
    pub(in crate::agent) fn take(&mut self, packet: &[u8], arrival: Mono, pool: &mut BlockPool) -> bool {
        let at_ms = self.client.elapsed_ms(arrival);
        self.link.as_mut().is_none_or(|link| link.packet(packet, at_ms, pool))
    }

    /// Audio that waits for the server, in milliseconds.
    pub(in crate::agent) fn waiting_ms(&self) -> u64 {
        let items = self.link.as_ref().map_or(0, |link| link.outlet().items() - link.outlet().due());
        items * u64::from(self.ptime_ms)
    }

    /// The server takes media by TCP from now on.
    pub(in crate::agent) fn links(&mut self, most_octets: usize) -> &mut MediaLink {
        // What the link keeps need not be remembered twice.
        self.backlog = None;
        self.link.get_or_insert_with(|| Box::new(MediaLink::new(most_octets)))
    }

    /// Remembers a whole packet, if need be.
    pub(in crate::agent) fn keep(&mut self, packet: &[u8], arrival: Mono) {
        if let Some(backlog) = &mut self.backlog {
            backlog.push(packet, arrival);
        }
    }

    /// The last `packets` packets could not be sent.
    pub(in crate::agent) fn note_unsent(&mut self, packets: u32) {
        if let Some(backlog) = &mut self.backlog {
            backlog.note_unsent(packets);
        }
    }

    /// Hands out the remembered packets; nothing more is remembered.
    pub(in crate::agent) fn take_backlog(&mut self) -> Option<Backlog> {
        self.backlog.take()
    }

    /// A pause begins.
    pub(in crate::agent) fn pause(&mut self, now: Mono, pool: &mut BlockPool) {
        if let Some(backlog) = &mut self.backlog {
            backlog.note_pause();
        }
        if let Some(link) = &mut self.link {
            link.pause(self.client.elapsed_ms(now), pool);
        }
    }

    /// A pause ends.
    pub(in crate::agent) fn resume(&mut self, now: Mono, pool: &mut BlockPool) {
        if let Some(link) = &mut self.link {
            link.resume(self.client.elapsed_ms(now), pool);
        }
    }
}

/// Whether a packet goes on to the server: all that is RTP of this call, as it came. The server decides on
/// other payload types, duplicates and latecomers.
pub(in crate::agent) fn goes_on(verdict: Verdict) -> bool {
    use DropCause::{NotRtp, Oversize, Source};
    !matches!(verdict, Verdict::Dropped(NotRtp | Oversize | Source))
}

//! One server recording: its session, and its last packets if they may be needed again.
//!
//! Owns: the session with the server ([`Client`]). Never: the packets themselves; they are relayed from the
//! buffers of their receipt, without a copy, and counted by `media::recorder` as those of a file are.

pub(in crate::agent) mod replay;

use crate::agent::recordings::recording::to_server::replay::Backlog;
use media::counts::{DropCause, Verdict};
use media::time::Mono;
use std::net::SocketAddr;
use uplink::phone::{Action, Client};

/// A recording on its way to the server.
#[derive(Debug)]
pub(in crate::agent) struct ToServer {
    pub(in crate::agent) client: Client,
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
}

impl ToServer {
    /// An upload; `remember` if it may have to go on at the phone.
    pub(in crate::agent) fn new(client: Client, first: Vec<Action>, ptime_ms: u32, remember: bool) -> Self {
        Self {
            client,
            first,
            server: None,
            target: None,
            ptime_ms,
            silent: false,
            backlog: remember.then(Backlog::new),
        }
    }

    /// Remembers a whole packet, if need be.
    pub(in crate::agent) fn keep(&mut self, packet: &[u8], arrival: Mono) {
        if let Some(backlog) = &mut self.backlog {
            backlog.push(packet, arrival);
        }
    }

    /// The last packets, so many, could not be sent.
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
    pub(in crate::agent) fn pause(&mut self) {
        if let Some(backlog) = &mut self.backlog {
            backlog.note_pause();
        }
    }
}

/// Whether a packet goes on to the server: all that is RTP of this call, as it came. The server decides on
/// other payload types, duplicates and latecomers.
pub(in crate::agent) fn goes_on(verdict: Verdict) -> bool {
    use DropCause::{NotRtp, Oversize, Source};
    !matches!(verdict, Verdict::Dropped(NotRtp | Oversize | Source))
}

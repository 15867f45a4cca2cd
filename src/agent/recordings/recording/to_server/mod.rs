//! The audio of one server recording: counted, metered and, if need be, remembered.
//!
//! Owns: the session with the server ([`Client`]) and the books of its audio. Never: the packets
//! themselves; they are sent on from where they were received, without a copy. A timeline of its own
//! tells lost, late and doubled packets and recorded time as a file would have them.

pub(in crate::agent) mod replay;

use crate::agent::recordings::recording::to_server::replay::Backlog;
use media::codec::Codec;
use media::counts::{Counts, DropCause, Verdict};
use media::level::{Level, level};
use media::packet::Packet;
use media::time::Mono;
use media::timeline::{AudioSink, GapCause, Timeline};
use std::net::SocketAddr;
use uplink::phone::{Action, Client};

/// Octets of audio that the level is taken from: the last second.
const LEVEL_OCTETS: usize = 8000;

/// Only every fourth octet counts for the level, as in a recording to a file.
const LEVEL_STRIDE: usize = 4;

/// A recording on its way to the server.
#[derive(Debug)]
pub(in crate::agent) struct ToServer {
    pub(in crate::agent) client: Client,
    /// What the session wants done first, as soon as the RTP port is bound.
    pub(in crate::agent) first: Vec<Action>,
    /// The server, once a connection to it was tried.
    pub(in crate::agent) server: Option<SocketAddr>,
    /// Where the audio goes.
    pub(in crate::agent) target: Option<SocketAddr>,
    pub(in crate::agent) ptime_ms: u32,
    /// The connection broke because the server had been silent.
    pub(in crate::agent) silent: bool,
    timeline: Timeline,
    tally: Tally,
    backlog: Option<Backlog>,
}

/// Where the timeline's audio ends: it is counted and the newest second is kept for the level.
#[derive(Debug)]
struct Tally {
    octets: u64,
    newest: Vec<u8>,
    at: usize,
}

impl AudioSink for Tally {
    fn audio(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        let mut rest = &octets[octets.len().saturating_sub(LEVEL_OCTETS)..];
        while !rest.is_empty() {
            let room = rest.len().min(LEVEL_OCTETS - self.at);
            let (now, later) = rest.split_at(room);
            let end = self.at + room;
            if self.newest.len() < end {
                self.newest.resize(end, 0);
            }
            self.newest[self.at..end].copy_from_slice(now);
            self.at = end % LEVEL_OCTETS;
            rest = later;
        }
    }

    fn silence(&mut self, octets: u64, _cause: GapCause) {
        self.octets += octets;
    }
}

impl ToServer {
    /// An upload of `codec`; `remember` if it may have to go on at the phone.
    pub(in crate::agent) fn new(
        client: Client,
        first: Vec<Action>,
        codec: Codec,
        ptime_ms: u32,
        remember: bool,
    ) -> Self {
        Self {
            client,
            first,
            server: None,
            target: None,
            ptime_ms,
            silent: false,
            timeline: Timeline::new(codec),
            tally: Tally { octets: 0, newest: Vec::with_capacity(LEVEL_OCTETS), at: 0 },
            backlog: remember.then(Backlog::new),
        }
    }

    pub(in crate::agent) fn push(&mut self, packet: &Packet<'_>, arrival: Mono) -> Verdict {
        self.timeline.push(packet, arrival, true, &mut self.tally)
    }

    pub(in crate::agent) fn restore_regained(&mut self, counts: &mut Counts) {
        self.timeline.restore_regained(counts);
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

    /// Hands out what is remembered; nothing more will be.
    pub(in crate::agent) fn take_backlog(&mut self) -> Option<Backlog> {
        self.backlog.take()
    }

    pub(in crate::agent) fn switch_codec(&mut self, codec: Codec) {
        self.timeline.switch_codec(codec, &mut self.tally);
        self.tally.newest.clear();
        self.tally.at = 0;
    }

    /// A pause begins.
    pub(in crate::agent) fn pause(&mut self) {
        self.timeline.settle(&mut self.tally);
        if let Some(backlog) = &mut self.backlog {
            backlog.note_pause();
        }
    }

    pub(in crate::agent) fn lost(&self) -> u64 {
        self.timeline.lost()
    }

    pub(in crate::agent) fn octets(&self) -> u64 {
        self.tally.octets + self.timeline.waiting_octets()
    }

    pub(in crate::agent) fn level_dbfs(&self) -> Option<f32> {
        level(self.timeline.codec(), &self.tally.newest, LEVEL_STRIDE).map(Level::dbfs)
    }
}

/// Whether a packet goes on to the server: all that is RTP of this call, as it came. What to make of
/// another payload type, a duplicate or a latecomer is the server's business.
pub(in crate::agent) fn goes_on(verdict: Verdict) -> bool {
    use DropCause::{NotRtp, Oversize, Source};
    !matches!(verdict, Verdict::Dropped(NotRtp | Oversize | Source))
}

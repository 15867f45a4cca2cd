//! A recording whose audio comes as numbered items over TCP: items in, and what the disk was given of them.
//!
//! Owns: what an item is for the recording, and the places between items at which it could go on in another
//! file: everything before is in the files, nothing of it waits to be put in order. Never: when the disk has
//! it for good.

use crate::items::{Items, Turn};
use media::blocks::{BlockPool, Piece};
use media::counts::Verdict;
use media::packet::Packet;
use media::recorder::{Datagram, StreamRecorder};
use media::time::Mono;
use media::timeline::GapCause;
use std::net::SocketAddr;
use std::time::Duration;
use uplink::media_stream::FrameError;
use uplink::media_stream::inlet::Arrival;
use uplink::message::extension::Asked;

/// Longest interval at which audio that came by TCP is given to the disk: the phone keeps it until it is
/// durable.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// A place at which the recording could go on in another file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The first item that is not in the files.
    pub item: u64,
    /// The file that ends there.
    pub segment: u32,
    /// Octets of audio in it.
    pub octets: u64,
}

/// The state of a recording over TCP.
#[derive(Debug)]
pub(super) struct OverTcp {
    pub(super) items: Items,
    source: SocketAddr,
    /// The newest place: the item, and the octets of the recording before it.
    clean: Option<(u64, u64)>,
    /// The newest one that the disk was given all of, to be fetched.
    written: Option<Mark>,
    /// The item of the last one.
    last: u64,
    front: Option<Front>,
    /// Octets that other files have already: still to come, and taken out so far.
    to_skip: u64,
    pub(super) skipped: u64,
    /// It goes on with a recording that has files.
    pub(super) is_continued: bool,
}

/// Where a recording goes on that has files of a former run of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    /// The number of its next file.
    pub segment: u32,
    /// The first item to come.
    pub next: u64,
    /// The audio of that item is in the files: it only shows where the next one belongs.
    pub primes: bool,
    /// Octets of the audio that follows which the files have already; if negative, octets that they lack.
    pub surplus: i64,
}

impl OverTcp {
    /// Items come from the phone at `source`, which asks like this.
    pub(super) fn new(asked: &Asked, source: SocketAddr, now: Mono) -> Self {
        Self {
            items: Items::new(asked, asked.from, now),
            source,
            clean: None,
            written: None,
            last: asked.from,
            front: None,
            to_skip: 0,
            skipped: 0,
            is_continued: false,
        }
    }

    /// The recording goes on there.
    pub(super) fn goes_on(&mut self, front: Front, asked: &Asked, now: Mono) {
        self.items = Items::new(asked, front.next, now);
        self.last = front.next + u64::from(front.primes);
        self.front = Some(front);
        self.is_continued = true;
    }

    /// The first item is here: what of the audio is in the files, or missing there.
    fn begin(&mut self, front: Front, first: Arrival<'_>, stream: &mut StreamRecorder, pool: &mut BlockPool) {
        let octets = match first {
            Arrival::Packet { octets, .. } if front.primes => {
                Packet::parse(octets).map_or(0, |packet| packet.payload.len())
            }
            _ => 0,
        };
        let surplus = front.surplus.saturating_add(i64::try_from(octets).unwrap_or(i64::MAX));
        if surplus < 0 {
            stream.buffer_mut().silence(surplus.unsigned_abs(), GapCause::Loss, pool);
        } else {
            self.to_skip = surplus.unsigned_abs();
        }
    }

    /// Takes out the audio that the files have already; gives how much that was.
    pub(super) fn skip(&mut self, stream: &mut StreamRecorder, pool: &mut BlockPool) -> u64 {
        let before = self.skipped;
        while self.to_skip > 0 {
            let (mut pieces, _) = stream.buffer_mut().take_pieces();
            let mut taken = 0;
            let mut rest = Vec::new();
            for mut piece in pieces.drain(..) {
                let octets = piece.octets().min(self.to_skip - taken);
                taken += octets;
                match &mut piece {
                    Piece::Audio(block) => block.drop_front(usize::try_from(octets).unwrap_or(usize::MAX)),
                    Piece::Silence(length) => *length -= octets,
                }
                if piece.octets() > 0 {
                    rest.push(piece);
                } else {
                    pool.give_back_all([piece]);
                }
            }
            stream.buffer_mut().put_back(rest);
            stream.cut_segment(taken, false);
            self.to_skip -= taken;
            self.skipped += taken;
            // A file of the former run ended there, too.
            if self.to_skip > 0 && stream.take_end().is_none() {
                break;
            }
        }
        self.skipped - before
    }

    /// Whether it brings audio that no file has, as far as items have come.
    pub(super) fn brings_audio(&self, stream: &StreamRecorder) -> bool {
        stream.placed_octets() + stream.unordered_octets() > self.skipped + self.to_skip
    }

    /// Takes a frame of the media connection; whether it was an item that had not come before.
    pub(super) fn take(
        &mut self,
        arrival: Arrival<'_>,
        stream: &mut StreamRecorder,
        now: Mono,
        pool: &mut BlockPool,
    ) -> Result<bool, FrameError> {
        let items = &mut self.items;
        let (number, at_ms) = match arrival {
            Arrival::Hello { number, .. } if number > items.next() => {
                return Err(FrameError::Number { due: items.next(), came: number });
            }
            Arrival::Hello { .. } => return Ok(false),
            Arrival::Packet { number, at_ms, .. }
            | Arrival::Pause { number, at_ms }
            | Arrival::Resume { number, at_ms } => (number, at_ms),
        };
        match items.take(number) {
            Turn::Next => {}
            Turn::Again => return Ok(false),
            Turn::TooEarly => return Err(FrameError::Number { due: items.next(), came: number }),
        }
        let at = items.arrival(at_ms, now);
        if let Some(front) = self.front.take() {
            self.begin(front, arrival, stream, pool);
        }
        let items = &mut self.items;
        let is_clean = match arrival {
            Arrival::Packet { octets, .. } => {
                let datagram = Datagram { octets, truncated: false, source: self.source, arrival: at };
                let before = stream.placed_octets();
                let verdict = stream.datagram(datagram, pool);
                // It went straight on: nothing before it waits any more.
                let placed = stream.placed_octets() - before;
                verdict == Some(Verdict::Stored) && placed == stream.last_octets() as u64
            }
            Arrival::Pause { .. } => {
                items.pause(at_ms);
                stream.settle(at, pool);
                stream.pause(pool);
                true
            }
            Arrival::Resume { .. } => {
                if let Some(duration) = items.resume(at_ms) {
                    stream.note_pause(duration);
                }
                stream.begin(at);
                true
            }
            Arrival::Hello { .. } => false,
        };
        if is_clean && stream.unordered_octets() == 0 {
            self.clean = Some((number.saturating_add(1), stream.placed_octets()));
        }
        Ok(true)
    }

    /// The newest place that the disk was given all of, if there is another one than before.
    pub(super) fn take_written(&mut self) -> Option<Mark> {
        self.written.take()
    }

    /// The disk was given `handed` octets; those from `file_began` on are in the file of this segment.
    pub(super) fn note_written(&mut self, handed: u64, file_began: u64, segment: u32) {
        let Some((item, octets)) = self.clean else { return };
        if item > self.last && (file_began..=handed).contains(&octets) {
            self.last = item;
            self.written = Some(Mark { item, segment, octets: octets - file_began });
        }
    }
}

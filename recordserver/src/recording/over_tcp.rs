//! A recording whose audio comes as numbered items over TCP: items in, and how much of them the disk was given.
//!
//! Owns: what an item is for the recording, and the places between items at which it could go on in another file:
//! everything before is in the files, nothing of it waits to be put in order. Never: when the disk has it for good.

use crate::items::{Items, Turn};
use media::blocks::BlockPool;
use media::counts::Verdict;
use media::recorder::{Datagram, StreamRecorder};
use media::time::Mono;
use std::net::SocketAddr;
use std::time::Duration;
use uplink::media_stream::FrameError;
use uplink::media_stream::inlet::Arrival;
use uplink::message::extension::Asked;

/// Audio that came by TCP is given to the disk this often at least: the phone keeps it until it is durable.
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
        }
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

    /// The disk was given so many octets, of which those from `file_began` on are in the file of this segment.
    pub(super) fn note_written(&mut self, handed: u64, file_began: u64, segment: u32) {
        let Some((item, octets)) = self.clean else { return };
        if item > self.last && (file_began..=handed).contains(&octets) {
            self.last = item;
            self.written = Some(Mark { item, segment, octets: octets - file_began });
        }
    }
}

//! The audio of one stream, put in order, and its destination: segments, or a meter only.
//!
//! Owns: the timeline and the length of a packet. Never: whether a packet is audio of the call.

use super::segment_buffer::SegmentBuffer;
use super::segment_log::Format;
use super::tally::Tally;
use crate::blocks::BlockPool;
use crate::codec::{Codec, OCTETS_PER_MS};
use crate::counts::Verdict;
use crate::packet::Packet;
use crate::time::Mono;
use crate::timeline::{AudioSink, GapCause, Timeline};

/// Frame length assumed of a first packet that has no usual one.
const DEFAULT_PTIME_MS: u32 = 20;

/// The longest frame.
const MAX_PTIME_MS: u32 = 100;

#[derive(Debug)]
pub(super) struct Track {
    pub(super) timeline: Timeline,
    /// Audio on its way to files; empty if packets are relayed.
    pub(super) buffer: SegmentBuffer,
    /// The length and level of audio whose packets are relayed.
    pub(super) relayed: Option<Tally>,
    /// The length of each packet, if it was given at the beginning.
    ptime_ms: Option<u32>,
    /// It was given, or the first packet of this codec has told.
    is_ptime_known: bool,
}

/// The destination of audio, and the pool that blocks are taken from.
struct Feed<'a> {
    buffer: &'a mut SegmentBuffer,
    relayed: Option<&'a mut Tally>,
    pool: &'a mut BlockPool,
}

impl AudioSink for Feed<'_> {
    fn audio(&mut self, octets: &[u8]) {
        match &mut self.relayed {
            None => self.buffer.audio(octets, self.pool),
            Some(tally) => tally.audio(octets),
        }
    }

    fn silence(&mut self, octets: u64, cause: GapCause) {
        match &mut self.relayed {
            None => self.buffer.silence(octets, cause, self.pool),
            Some(tally) => tally.silence(octets),
        }
    }
}

impl Track {
    /// Audio goes into segments of at most `max_octets`.
    pub(super) fn in_segments(format: Format, max_octets: u64, now: Mono) -> Self {
        Self {
            timeline: Timeline::new(format.codec),
            buffer: SegmentBuffer::new(format, max_octets, now),
            relayed: None,
            ptime_ms: format.ptime_ms,
            is_ptime_known: format.ptime_ms.is_some(),
        }
    }

    /// Audio is counted and metered, and not kept.
    pub(super) fn relayed(format: Format, now: Mono) -> Self {
        Self { relayed: Some(Tally::new(format.codec)), ..Self::in_segments(format, u64::MAX, now) }
    }

    /// Takes the audio of a packet.
    pub(super) fn push(&mut self, packet: &Packet<'_>, arrival: Mono, pool: &mut BlockPool) -> Verdict {
        if !self.is_ptime_known {
            self.learn_ptime(packet);
        }
        self.buffer.expect(arrival);
        let room = self.relayed.is_some() || self.buffer.has_room(pool);
        let (timeline, mut feed) = self.parts(pool);
        timeline.push(packet, arrival, room, &mut feed)
    }

    fn parts<'a>(&'a mut self, pool: &'a mut BlockPool) -> (&'a mut Timeline, Feed<'a>) {
        let Self { timeline, buffer, relayed, .. } = self;
        (timeline, Feed { buffer, relayed: relayed.as_mut(), pool })
    }

    fn learn_ptime(&mut self, packet: &Packet<'_>) {
        let is_audio = packet.payload_type == self.timeline.codec().payload_type();
        if is_audio && !packet.payload.is_empty() {
            self.buffer.set_ptime(ptime_of(packet.payload.len()));
            self.is_ptime_known = true;
        }
    }

    pub(super) fn switch_codec(&mut self, codec: Codec, pool: &mut BlockPool) {
        let (timeline, mut feed) = self.parts(pool);
        timeline.switch_codec(codec, &mut feed);
        self.is_ptime_known = self.ptime_ms.is_some();
        match &mut self.relayed {
            None => self.buffer.switch(Format { codec, ptime_ms: self.ptime_ms }),
            Some(tally) => tally.switch_codec(codec),
        }
    }

    pub(super) fn settle(&mut self, pool: &mut BlockPool) {
        let (timeline, mut feed) = self.parts(pool);
        timeline.settle(&mut feed);
    }

    pub(super) fn let_go(&mut self, now: Mono, pool: &mut BlockPool) {
        let (timeline, mut feed) = self.parts(pool);
        timeline.let_go(now, &mut feed);
    }

    /// Octets that have their place in the recording.
    pub(super) fn octets(&self) -> u64 {
        self.relayed.as_ref().map_or_else(|| self.buffer.total_octets(), Tally::octets)
    }
}

/// Milliseconds of a frame of `octets`; an odd one counts as the usual 20.
fn ptime_of(octets: usize) -> u32 {
    u32::try_from(octets)
        .ok()
        .filter(|octets| u64::from(*octets) % OCTETS_PER_MS == 0)
        .map(|octets| octets / 8)
        .filter(|ptime| (1..=MAX_PTIME_MS).contains(ptime))
        .unwrap_or(DEFAULT_PTIME_MS)
}

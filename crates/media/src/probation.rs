//! Packets of a new SSRC or codec, on probation until others of their kind come (RFC 3550, appendix A.1).
//!
//! Owns: copies of a few packets in memory of fixed size, which is used again.

use crate::packet::{MAX_PAYLOAD_OCTETS, Packet};
use crate::time::Mono;
use crate::units::{PayloadType, RtpTimestamp, SeqNo, Ssrc};

/// Octets of audio kept at most.
const MAX_OCTETS: usize = 2 * MAX_PAYLOAD_OCTETS;

/// The packets on probation, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Probation {
    heads: Vec<Head>,
    octets: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    payload_type: PayloadType,
    ssrc: Ssrc,
    seq: SeqNo,
    timestamp: RtpTimestamp,
    arrival: Mono,
    /// The end of its payload.
    end: usize,
}

impl Probation {
    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.heads.clear();
        self.octets.clear();
    }

    /// Octets of audio held.
    pub(super) fn octets(&self) -> usize {
        self.octets.len()
    }

    /// Whether `packet` is another one of the stream that is held.
    pub(super) fn is_followed_by(&self, packet: &Packet<'_>) -> bool {
        let same = |head: &Head| head.ssrc == packet.ssrc && head.payload_type == packet.payload_type;
        self.heads.last().is_some_and(same) && !self.has(packet)
    }

    /// Whether `seq` is at most `packets` from the one that was held last.
    pub(super) fn is_near(&self, seq: SeqNo, packets: i32) -> bool {
        self.heads.last().is_some_and(|head| seq.packets_since(head.seq).abs() <= packets)
    }

    /// Whether there is room for `packet` beside the held ones.
    pub(super) fn has_room(&self, packet: &Packet<'_>) -> bool {
        self.octets() + packet.payload.len() <= MAX_OCTETS
    }

    /// Whether it was held before.
    pub(super) fn has(&self, packet: &Packet<'_>) -> bool {
        self.heads.iter().any(|head| head.ssrc == packet.ssrc && head.seq == packet.seq)
    }

    /// Keeps a copy; held packets of another stream, or that leave no room, are dropped.
    pub(super) fn hold(&mut self, packet: &Packet<'_>, arrival: Mono) {
        if !self.is_followed_by(packet) || self.octets() + packet.payload.len() > MAX_OCTETS {
            self.clear();
        }
        let room = packet.payload.len().min(MAX_OCTETS);
        self.octets.extend_from_slice(&packet.payload[..room]);
        let &Packet { payload_type, ssrc, seq, timestamp, .. } = packet;
        self.heads.push(Head { payload_type, ssrc, seq, timestamp, arrival, end: self.octets.len() });
    }

    /// The last packet, without its payload.
    pub(super) fn last(&self) -> Option<Packet<'static>> {
        let &Head { payload_type, ssrc, seq, timestamp, .. } = self.heads.last()?;
        Some(Packet { payload_type, seq, timestamp, ssrc, payload: &[] })
    }

    /// Lets the last packet go.
    pub(super) fn pop(&mut self) {
        self.heads.pop();
        self.octets.truncate(self.heads.last().map_or(0, |head| head.end));
    }

    /// The packets and when they arrived.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Packet<'_>, Mono)> {
        let mut start = 0;
        self.heads.iter().map(move |head| {
            let payload = &self.octets[std::mem::replace(&mut start, head.end)..head.end];
            let &Head { payload_type, ssrc, seq, timestamp, arrival, .. } = head;
            (Packet { payload_type, seq, timestamp, ssrc, payload }, arrival)
        })
    }
}

//! One RTP stream as far as it was heard: its numbers, how its timestamps count, its newest packet.
//!
//! Owns: the place of a packet that is not ahead of all before.

use super::pace::{Pace, ticks_in};
use super::seen::{Number, Seen};
use crate::counts::{DropCause, Verdict};
use crate::packet::Packet;
use crate::time::Mono;
use crate::units::{RtpTimestamp, Ssrc};
use std::time::Duration;

/// Greatest delay of a packet that is still put in order: 100 ms.
pub const REORDER_OCTETS: i64 = 800;

/// Time without packets after which counters that are back may be those of a stream that begins anew.
pub(super) const ANEW_AFTER: Duration = Duration::from_secs(1);

/// The place of a packet.
pub(super) enum Place {
    At(i64),
    /// As `At`, after a break that nothing explains, and the octets that are left over.
    Broken(i64, i64),
    Restart(Duration),
    /// It fits nothing; the next packet tells.
    Doubt,
    Nowhere(Verdict),
}

#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) ssrc: Ssrc,
    pub(super) seen: Seen,
    pub(super) pace: Pace,
    /// The newest packet by its number: timestamp, offset in the window, length.
    pub(super) newest: RtpTimestamp,
    pub(super) newest_offset: i64,
    pub(super) last_octets: i64,
    pub(super) last_arrival: Mono,
    /// A timestamp that was right, and its offset.
    pub(super) right: (RtpTimestamp, i64),
    /// Comfort noise came since the newest packet.
    pub(super) noise: bool,
    /// Missing packets that may still come with numbers from before the numbers began anew.
    pub(super) missing_before: u64,
}

impl Stream {
    /// The packet is ahead of all that the clock allows: it leaves no trace in time.
    pub(super) fn skip(&mut self, packet: &Packet<'_>, arrival: Mono, follows: bool, octets: i64) -> Verdict {
        if follows && packet.seq != self.seen.newest() {
            self.seen.advance(packet.seq, false);
        } else {
            self.seen = Seen::starting_at(packet.seq);
        }
        self.pace.interrupt();
        // The next packet goes on at the same place.
        self.newest_offset += self.last_octets - octets;
        self.newest = packet.timestamp;
        self.right = (packet.timestamp, self.newest_offset);
        self.last_octets = octets;
        self.last_arrival = arrival;
        Verdict::Dropped(DropCause::Ahead)
    }

    /// Whether sequence number and timestamp agree that `packet` is old, so it is no restart.
    pub(super) fn is_older_by_both_counters(&self, packet: &Packet<'_>) -> bool {
        let packets = i64::from(packet.seq.packets_since(self.seen.newest()));
        let octets = self.pace.octets_in(packet.timestamp.ticks_since(self.newest));
        let expected = packets * octets_of(packet);
        packets < 0 && (octets - expected).abs() <= expected.abs() / 4
    }

    /// A packet whose number is not ahead: a duplicate, a latecomer, or neither if the other witnesses say
    /// so. One that comes after all is taken from `lost`.
    pub(super) fn place_behind(
        &mut self,
        packet: &Packet<'_>,
        arrival: Mono,
        ahead: i32,
        lost: &mut u64,
    ) -> Option<Place> {
        let octets = octets_of(packet);
        let ticks = packet.timestamp.ticks_since(self.newest);
        let after_break = arrival.since(self.last_arrival) > ANEW_AFTER;
        let (right, right_offset) = self.right;
        let ticks_of_right = packet.timestamp.ticks_since(right);
        let by_timestamp = self.pace.octets_in(ticks_of_right) + right_offset - self.newest_offset;
        // Its place if all packets were as long as this one, or as the newest one.
        let by_sequence = i64::from(ahead) * octets;
        let agree = [octets, self.last_octets].into_iter().any(|length| {
            let by_sequence = i64::from(ahead) * length;
            (by_timestamp - by_sequence).abs() <= by_sequence.abs() / 4 + length / 2
        });
        // The timestamp goes on at the end of the newest packet, so the number is wrong.
        let anew = self.pace.is_known()
            && by_timestamp >= self.last_octets / 2
            && by_timestamp <= 2 * self.last_octets + ticks_in(arrival.since(self.last_arrival));
        let expected = !after_break && (self.seen.is_missing(packet.seq) || !self.pace.is_known());
        let place = match self.seen.number(packet.seq) {
            _ if after_break && by_timestamp < 0 => Place::Doubt,
            Number::Unknown if ahead < 0 && agree => Place::Nowhere(Verdict::Late),
            // A latecomer with a number from before the numbers began anew.
            Number::Unknown if self.pace.is_known() && (-REORDER_OCTETS..0).contains(&by_timestamp) => {
                *lost -= u64::from(self.missing_before > 0);
                self.missing_before = self.missing_before.saturating_sub(1);
                Place::At(self.newest_offset + by_timestamp)
            }
            Number::Seen if after_break && agree => Place::Doubt,
            Number::Seen if agree || !self.pace.is_known() && ticks <= 0 => {
                Place::Nowhere(Verdict::Duplicate)
            }
            // Time was left free for it, or it is too early to say how the sender counts.
            Number::New if agree || (expected && !anew) => {
                *lost -= u64::from(self.seen.fill(packet.seq));
                // Events have numbers and no time, so the timestamp knows better, if it can be believed.
                let believed = self.pace.is_known() && (by_timestamp - by_sequence).abs() <= -by_sequence;
                let back = if believed { by_timestamp } else { by_sequence };
                if back < -REORDER_OCTETS {
                    Place::Nowhere(Verdict::Late)
                } else {
                    Place::At(self.newest_offset + back)
                }
            }
            _ => return None,
        };
        Some(place)
    }
}

/// Octets of its audio, which are ticks.
pub(super) fn octets_of(packet: &Packet<'_>) -> i64 {
    i64::try_from(packet.payload.len()).unwrap_or(i64::MAX)
}

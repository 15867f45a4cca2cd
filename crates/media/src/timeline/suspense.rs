//! Whether the network stood still or the sender did, when packets come again after a break that no counter
//! explains.
//!
//! Owns: that decision. A network that stood still delivers the packets that it held back: more audio than
//! time passes. A sender that stood still (hold, with timestamps that stand too) goes on at its pace. Until
//! it is decided, for at most [`DECIDE_WITHIN`], nothing is handed over.

use crate::time::Mono;
use std::time::Duration;

/// A break that counters do not explain is looked at from this length on, as one between two SSRCs: 500 ms. A
/// shorter one is a sender or a network that is not on time.
pub(super) const BREAK_OCTETS: i64 = 4000;

/// The same in time.
pub(super) const BREAK: Duration = Duration::from_millis(500);

/// By then it is decided.
pub(super) const DECIDE_WITHIN: Duration = Duration::from_millis(300);

/// Most octets of audio that may wait for the decision.
const MAX_WAITING_OCTETS: i64 = 2400;

/// A burst is known by audio that exceeds the time by a third of the break, within these limits.
const BURST_OCTETS: std::ops::RangeInclusive<i64> = 480..=960;

#[derive(Clone, Copy, Debug)]
pub(super) struct Suspense {
    since: Mono,
    /// Unexplained time by the first packet, and the least that a packet has said since.
    first: i64,
    least: i64,
}

/// The finding after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Not yet.
    Open,
    /// The network stood still: nothing is missing.
    Stall,
    /// The time that the sender stood still, in octets.
    Hold(i64),
}

impl Suspense {
    /// The first packet after a break leaves `unexplained` octets of time.
    pub(super) fn new(unexplained: i64, arrival: Mono) -> Self {
        Self { since: arrival, first: unexplained, least: unexplained }
    }

    /// A packet of `octets`, whose place is `behind` octets behind the first one's, leaves `unexplained`.
    pub(super) fn packet(&mut self, unexplained: i64, behind: i64, octets: i64, arrival: Mono) -> Outcome {
        self.least = self.least.min(unexplained);
        let burst = (self.first / 3).clamp(*BURST_OCTETS.start(), *BURST_OCTETS.end());
        if self.first - self.least >= burst {
            Outcome::Stall
        } else if arrival.since(self.since) >= DECIDE_WITHIN || behind + 2 * octets > MAX_WAITING_OCTETS {
            Outcome::Hold(self.least)
        } else {
            Outcome::Open
        }
    }

    /// Nothing more comes: the clock is right.
    pub(super) fn end(&self) -> i64 {
        self.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of 20 ms that come every `pace_ms` after a break of `break_ms`.
    fn outcome(break_ms: i64, pace_ms: i64) -> Outcome {
        let mut suspense = Suspense::new(break_ms * 8, Mono::default());
        for packet in 1..100 {
            let elapsed_ms = packet * pace_ms;
            let arrival = Mono::new(Duration::from_millis(elapsed_ms.unsigned_abs()));
            let unexplained = (break_ms + elapsed_ms - packet * 20) * 8;
            match suspense.packet(unexplained, packet * 160, 160, arrival) {
                Outcome::Open => {}
                outcome => return outcome,
            }
        }
        Outcome::Open
    }

    #[test]
    fn packets_at_their_pace_tell_a_hold() {
        assert_eq!(outcome(6000, 20), Outcome::Hold(48_000));
        assert_eq!(outcome(250, 20), Outcome::Hold(2000));
        assert_eq!(outcome(6000, 22), Outcome::Hold(48_000));
    }

    #[test]
    fn a_burst_tells_a_stall() {
        assert_eq!(outcome(6000, 0), Outcome::Stall);
        assert_eq!(outcome(6000, 10), Outcome::Stall);
        assert_eq!(outcome(250, 0), Outcome::Stall);
        assert_eq!(outcome(250, 12), Outcome::Stall);
    }
}

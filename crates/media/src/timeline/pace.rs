//! The timestamp ticks that a sender counts for an octet of audio.
//!
//! Owns: the step that a sender has shown. RFC 3551 makes it one tick an octet for every codec here, but
//! senders count G.722 at 16 kHz, or add a constant of their own. A step that is wrong in the same way again
//! and again is scaled away.

use crate::time::Mono;
use crate::units::ClockRate;
use std::time::Duration;

/// Number of equal steps in a row that are the sender's way to count.
const STEPS_TO_LEARN: u8 = 3;

/// Number of equal steps after which the time between packets is looked at again, when single late ones count
/// for less.
const STEPS_TO_CHECK: u8 = 20;

/// Largest ratio of a step and its audio, whichever is more, that is a way to count: 90 kHz is 11.25.
const MAX_RATIO: i64 = 12;

/// Ticks for octets, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    ticks: i64,
    octets: i64,
}

impl Step {
    #[inline]
    fn is_same_ratio(self, other: Self) -> bool {
        self == other || self.ticks * other.octets == other.ticks * self.octets
    }
}

#[derive(Clone, Debug)]
pub(super) struct Pace {
    learnt: Option<Step>,
    /// The latest step, how often it came in a row, and how much audio and time that was.
    latest: Step,
    streak: u8,
    octets: i64,
    elapsed: i64,
    /// Some step came often enough.
    known: bool,
    /// The latest packet had the timestamp of the one before, or an older one.
    stands: bool,
}

impl Pace {
    /// Of a stream that begins.
    pub(super) fn new() -> Self {
        let plain = Step { ticks: 1, octets: 1 };
        Self { learnt: None, latest: plain, streak: 0, octets: 0, elapsed: 0, known: false, stands: false }
    }

    /// Octets of audio that `ticks` stand for.
    pub(super) fn octets_in(&self, ticks: i64) -> i64 {
        match self.learnt {
            None => ticks,
            Some(step) => ticks * step.octets / step.ticks,
        }
    }

    /// Whether the sender has shown how it counts, and `ticks` after `octets` is not that way.
    pub(super) fn is_exception(&self, ticks: i64, octets: i64) -> bool {
        self.streak >= STEPS_TO_LEARN && !self.latest.is_same_ratio(Step { ticks, octets })
    }

    /// Whether the sender has shown how it counts, and its timestamps do not stand.
    pub(super) fn is_known(&self) -> bool {
        let plain = Step { ticks: 1, octets: 1 };
        self.known && !self.stands && self.latest.is_same_ratio(self.learnt.unwrap_or(plain))
    }

    /// The next packet came at `arrival`, `ticks` after one of `octets` that had come at `before`.
    pub(super) fn learn(&mut self, ticks: i64, octets: i64, before: Mono, arrival: Mono) {
        let step = Step { ticks, octets };
        self.stands = ticks <= 0;
        if self.stands {
            self.streak = 0;
            return;
        }
        if self.streak == 0 || !self.latest.is_same_ratio(step) {
            self.latest = step;
            self.streak = 0;
            self.octets = 0;
            self.elapsed = 0;
        }
        if self.streak < STEPS_TO_CHECK {
            self.octets += octets;
            // Time added by a stall of the network says nothing of the sender.
            self.elapsed += ticks_in(arrival.since(before)).min(ticks + ticks / 4);
            self.streak += 1;
            if self.streak == STEPS_TO_LEARN || self.streak == STEPS_TO_CHECK {
                self.take_on();
            }
        }
    }

    /// A packet did not follow the one before: nothing is learnt of it.
    pub(super) fn interrupt(&mut self) {
        self.streak = 0;
    }

    /// Believes the latest step, unless the time between the packets says that there is silence between them.
    fn take_on(&mut self) {
        let Step { ticks, octets } = self.latest;
        self.known = true;
        if ticks == octets {
            self.learnt = None;
            return;
        }
        if ticks > octets * MAX_RATIO || octets > ticks * MAX_RATIO {
            return;
        }
        let claimed = self.octets * ticks / octets;
        // Silence between packets is at least half of a packet.
        let is_real = 2 * ticks >= 3 * octets && self.elapsed > (self.octets + claimed) / 2;
        self.learnt = (!is_real).then_some(self.latest);
    }
}

/// Ticks of the RTP clock, which all codecs here share, in `span`.
pub(super) fn ticks_in(span: Duration) -> i64 {
    let hz = ClockRate::HZ_8000.hz();
    // Longer spans are none of this world; so nothing overflows, and a 32-bit core divides no 64-bit number.
    let seconds = i64::from(u32::try_from(span.as_secs()).unwrap_or(u32::MAX));
    seconds * i64::from(hz) + i64::from(span.subsec_nanos() / (1_000_000_000 / hz))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paced(steps: &[(i64, i64, u64)]) -> Pace {
        let (mut pace, mut clock_ms) = (Pace::new(), 0);
        for (ticks, octets, wait_ms) in steps {
            let before = Mono::new(Duration::from_millis(clock_ms));
            clock_ms += wait_ms;
            pace.learn(*ticks, *octets, before, Mono::new(Duration::from_millis(clock_ms)));
        }
        pace
    }

    #[test]
    fn a_constant_wrong_step_is_scaled_away() {
        assert_eq!(paced(&[(320, 160, 20); 3]).octets_in(640), 320);
        assert_eq!(paced(&[(80, 160, 20); 3]).octets_in(640), 1280);
        assert_eq!(paced(&[(320, 160, 20), (480, 240, 30), (160, 80, 10)]).octets_in(640), 320);
        assert_eq!(paced(&[(320, 160, 20); 2]).octets_in(640), 640);
    }

    #[test]
    fn a_stall_among_the_steps_is_no_silence() {
        let steps = [&[(240, 80, 10); 8][..], &[(240, 80, 420)], &[(240, 80, 0); 11]].concat();
        assert_eq!(paced(&steps).octets_in(240), 80);
    }

    #[test]
    fn a_stream_with_silence_between_its_packets_is_no_wrong_step() {
        assert_eq!(paced(&[(320, 160, 40); 9]).octets_in(640), 640);
    }

    #[test]
    fn a_sender_that_corrects_itself_is_believed_again() {
        let steps =
            [(320, 160, 20), (320, 160, 20), (320, 160, 20), (160, 160, 20), (160, 160, 20), (160, 160, 20)];
        assert_eq!(paced(&steps).octets_in(640), 640);
    }

    #[test]
    fn standing_and_falling_timestamps_teach_nothing() {
        assert_eq!(paced(&[(0, 160, 20); 9]).octets_in(640), 640);
        assert_eq!(paced(&[(-160, 160, 20); 9]).octets_in(640), 640);
    }
}

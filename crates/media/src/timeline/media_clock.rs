//! The place of a packet by the clock, and the limit by which audio may be ahead of it.
//!
//! Owns: the relation of arrival to place in the recording. A packet may come late and never early, so the
//! earliest packet of the last seconds defines "on time". Invariant: audio and silence together never pass
//! the clock by more than an eighth and [`AHEAD_OCTETS`]; silence that no clock vouches for never by more
//! than an eighth and [`SILENCE_AHEAD_OCTETS`].

use super::pace::ticks_in;
use crate::time::Mono;

/// Most octets that audio may be ahead of the clock, beside an eighth of the time: five minutes, which are
/// 2.4 MB on the disk. A file that is played to the recorder at full speed is recorded, but can't fill a
/// disk.
pub(super) const AHEAD_OCTETS: i64 = 2_400_000;

/// Most octets of silence that the clock does not vouch for (loss in a burst), beside an eighth of the time:
/// 5 s.
pub(super) const SILENCE_AHEAD_OCTETS: i64 = 40_000;

/// The packets of this time define "on time".
const WINDOW_TICKS: i64 = 40_000;

#[derive(Debug, Default)]
pub(super) struct MediaClock {
    /// When time 0 of the recording was, pauses left out.
    epoch: Option<Mono>,
    /// Ticks by which the earliest packets of the present and of the last window came after their place.
    early: i64,
    early_before: i64,
    window_began: i64,
    /// Silence that no clock vouched for.
    unvouched: i64,
}

impl MediaClock {
    /// The first packet, or the first one after a pause, is at `place` in the recording.
    pub(super) fn begin(&mut self, place: i64, arrival: Mono, last: Option<Mono>) {
        let epoch = match (self.epoch, last) {
            (Some(epoch), Some(last)) => epoch + arrival.since(last),
            (Some(epoch), None) => epoch,
            (None, _) => arrival,
        };
        self.epoch = Some(epoch);
        let now = ticks_in(arrival.since(epoch));
        self.early = now - place;
        self.early_before = self.early;
        self.window_began = now;
    }

    /// The place in the recording of a packet that arrives on time at `now`.
    pub(super) fn place_of(&self, now: i64) -> i64 {
        now - self.early.min(self.early_before)
    }

    /// Ticks since the recording began, pauses left out: the `now` of the other modules.
    pub(super) fn now(&self, arrival: Mono) -> i64 {
        self.epoch.map_or(0, |epoch| ticks_in(arrival.since(epoch)))
    }

    /// A packet that arrived at `now` has its place.
    pub(super) fn note(&mut self, place: i64, now: i64) {
        let after = now - place;
        if now - self.window_began >= WINDOW_TICKS {
            self.window_began = now;
            self.early_before = self.early;
            self.early = after;
        }
        self.early = self.early.min(after);
    }

    /// Whether audio may reach up to `end` in the recording.
    pub(super) fn allows(end: i64, now: i64) -> bool {
        end <= now + now / 8 + AHEAD_OCTETS
    }

    /// Whether `octets` of silence of which the clock vouches for `vouched` may be put in. They count if so.
    pub(super) fn takes_silence(&mut self, octets: i64, vouched: i64, now: i64) -> bool {
        let unvouched = octets - vouched.clamp(0, octets);
        if unvouched == 0 {
            return true;
        }
        let takes = self.unvouched + unvouched <= now / 8 + SILENCE_AHEAD_OCTETS;
        self.unvouched += if takes { unvouched } else { 0 };
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> Mono {
        Mono::new(Duration::from_millis(ms))
    }

    #[test]
    fn the_earliest_packet_tells_what_is_on_time() {
        let mut clock = MediaClock::default();
        clock.begin(0, at(50), None);
        let now = |clock: &MediaClock, ms| clock.now(at(ms));
        clock.note(160, now(&clock, 40 + 20));
        assert_eq!(clock.place_of(now(&clock, 60)), 160);
        clock.note(320, now(&clock, 200));
        assert_eq!(clock.place_of(now(&clock, 80)), 320);
    }

    #[test]
    fn a_drift_is_followed() {
        let mut clock = MediaClock::default();
        clock.begin(0, at(0), None);
        for second in 1..100 {
            clock.note(8000 * i64::try_from(second).unwrap(), clock.now(at(1010 * second)));
        }
        assert!(clock.place_of(clock.now(at(1010 * 99))) - 8000 * 99 <= 8 * 100);
    }

    #[test]
    fn audio_and_silence_are_bounded_by_the_clock() {
        let mut clock = MediaClock::default();
        clock.begin(0, at(0), None);
        let second = clock.now(at(1000));
        assert!(MediaClock::allows(AHEAD_OCTETS, 0));
        assert!(!MediaClock::allows(AHEAD_OCTETS + 1, 0));
        assert!(MediaClock::allows(AHEAD_OCTETS + 9000, second));
        assert!(clock.takes_silence(80_000, 80_000, second));
        assert!(clock.takes_silence(SILENCE_AHEAD_OCTETS, 0, second));
        assert!(!clock.takes_silence(1001, 0, second));
        assert!(clock.takes_silence(1000, 0, second));
    }
}

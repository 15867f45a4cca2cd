//! The sequence numbers of a stream that have come, and the missing ones.
//!
//! Owns: the numbers of the last [`SEEN_PACKETS`] packets. A number is missing when time was left free for
//! it; a number that came with something else than audio (comfort noise, a telephone event) is neither.
//! Memory is fixed.

use crate::units::SeqNo;

/// Sequence numbers remembered to tell a duplicate from a latecomer.
pub(super) const SEEN_PACKETS: i32 = 1024;

/// Largest lead over the packet before it with which a packet that is no audio belongs to the stream's
/// numbers. Some senders count telephone events apart.
const OTHER_AHEAD_PACKETS: i32 = 64;

const WORDS: usize = (SEEN_PACKETS / 64) as usize;

/// The meaning of a number that is not ahead of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// It came before.
    Seen,
    /// It did not come before.
    New,
    /// Too far behind, or ahead, to say.
    Unknown,
}

#[derive(Clone, Debug)]
pub(super) struct Seen {
    newest: SeqNo,
    audio: Bits,
    missing: Bits,
    /// Numbers ahead of the newest that came with something else, up to `reach`.
    other: Bits,
    reach: SeqNo,
    others: bool,
}

#[derive(Clone, Debug, Default)]
struct Bits([u64; WORDS]);

impl Bits {
    fn position(seq: SeqNo) -> (usize, u64) {
        let index = usize::from(seq.0) % (SEEN_PACKETS.unsigned_abs() as usize);
        (index / 64, 1 << (index % 64))
    }

    fn has(&self, seq: SeqNo) -> bool {
        let (word, bit) = Self::position(seq);
        self.0[word] & bit != 0
    }

    fn set(&mut self, seq: SeqNo) {
        let (word, bit) = Self::position(seq);
        self.0[word] |= bit;
    }

    /// Clears the bit; whether it was set.
    fn take(&mut self, seq: SeqNo) -> bool {
        let (word, bit) = Self::position(seq);
        let was_set = self.0[word] & bit != 0;
        self.0[word] &= !bit;
        was_set
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

impl Seen {
    pub(super) fn starting_at(seq: SeqNo) -> Self {
        let mut seen = Self {
            newest: seq,
            audio: Bits::default(),
            missing: Bits::default(),
            other: Bits::default(),
            reach: seq,
            others: false,
        };
        seen.audio.set(seq);
        seen
    }

    pub(super) fn newest(&self) -> SeqNo {
        self.newest
    }

    /// The meaning of a number that is not ahead.
    pub(super) fn number(&self, seq: SeqNo) -> Number {
        match seq.packets_since(self.newest) {
            ahead if ahead > 0 => Number::Unknown,
            behind if behind <= -SEEN_PACKETS => Number::Unknown,
            _ if self.audio.has(seq) => Number::Seen,
            _ => Number::New,
        }
    }

    /// Numbers between the newest and `seq`, which is ahead, that nothing came with.
    #[inline]
    pub(super) fn absent_before(&self, seq: SeqNo) -> i64 {
        if seq == self.newest.plus(1) {
            return 0;
        }
        self.absent_before_other(seq)
    }

    fn absent_before_other(&self, seq: SeqNo) -> i64 {
        let skipped = i64::from(seq.packets_since(self.newest)) - 1;
        if !self.others || skipped <= 0 {
            return skipped.max(0);
        }
        let came = if skipped >= i64::from(SEEN_PACKETS) {
            i64::try_from(self.other.count()).unwrap_or(i64::MAX)
        } else {
            let mut at = self.newest;
            let came = (0..skipped).filter(|_| {
                at = at.plus(1);
                self.other.has(at)
            });
            i64::try_from(came.count()).unwrap_or(i64::MAX)
        };
        (skipped - came).max(0)
    }

    /// `seq`, which is ahead, came with audio. With `missing`, the numbers in between that nothing came with
    /// are missing now. Returns how many that are.
    #[inline]
    pub(super) fn advance(&mut self, seq: SeqNo, missing: bool) -> u64 {
        let absent = if seq == self.newest.plus(1) { 0 } else { self.pass_to(seq, missing) };
        let (word, bit) = Bits::position(seq);
        self.other.0[word] &= !bit;
        self.missing.0[word] &= !bit;
        self.audio.0[word] |= bit;
        self.newest = seq;
        if self.others && self.reach.packets_since(seq) <= 0 {
            self.others = false;
        }
        absent
    }

    /// The numbers up to `seq`, which is ahead, are behind from now on. Returns as [`Self::advance`] does.
    fn pass_to(&mut self, seq: SeqNo, missing: bool) -> u64 {
        let absent = self.absent_before(seq);
        let steps = seq.packets_since(self.newest);
        let mut at = self.newest;
        for _ in 0..steps.min(SEEN_PACKETS) - 1 {
            at = at.plus(1);
            let came = self.other.take(at);
            self.audio.take(at);
            self.missing.take(at);
            if missing && !came {
                self.missing.set(at);
            }
        }
        if steps > SEEN_PACKETS {
            // More than is remembered: the remaining bits stand for the newest ones.
            self.other = Bits::default();
        }
        if missing { absent.unsigned_abs() } else { 0 }
    }

    /// `seq`, which is behind, came with audio. Returns whether it had been missing.
    pub(super) fn fill(&mut self, seq: SeqNo) -> bool {
        self.audio.set(seq);
        self.missing.take(seq)
    }

    /// `seq` came with something else than audio. Returns whether it had been missing.
    pub(super) fn pass_over(&mut self, seq: SeqNo) -> bool {
        let ahead = seq.packets_since(self.newest);
        if ahead <= 0 {
            return ahead > -SEEN_PACKETS && self.missing.take(seq);
        }
        let from = if self.others { self.reach } else { self.newest };
        if ahead < SEEN_PACKETS && seq.packets_since(from) <= OTHER_AHEAD_PACKETS {
            self.other.set(seq);
            if seq.packets_since(from) > 0 {
                self.reach = seq;
            }
            self.others = true;
        }
        false
    }

    /// Whether `seq`, which is behind, is missing.
    pub(super) fn is_missing(&self, seq: SeqNo) -> bool {
        self.missing.has(seq)
    }

    /// Number of missing packets among the `packets` before the newest.
    pub(super) fn missing(&self, packets: i64) -> u64 {
        let mut seq = self.newest;
        let missing = (0..packets.min(i64::from(SEEN_PACKETS) - 1)).filter(|_| {
            seq = seq.plus(u16::MAX);
            self.missing.has(seq)
        });
        missing.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_numbers_are_those_that_nothing_came_with() {
        let mut seen = Seen::starting_at(SeqNo(65_530));
        assert!(!seen.pass_over(SeqNo(65_532)));
        assert_eq!(seen.absent_before(SeqNo(0)), 4);
        assert_eq!(seen.advance(SeqNo(0), true), 4);
        assert_eq!(seen.missing(5), 4);
        assert!(seen.fill(SeqNo(65_535)));
        assert!(seen.pass_over(SeqNo(65_534)));
        assert!(!seen.pass_over(SeqNo(65_534)));
        assert!(!seen.pass_over(SeqNo(65_532)));
        assert_eq!(seen.missing(5), 2);
        assert_eq!(seen.number(SeqNo(65_535)), Number::Seen);
        assert_eq!(seen.number(SeqNo(65_533)), Number::New);
        assert_eq!(seen.number(SeqNo(64_000)), Number::Unknown);
    }

    #[test]
    fn events_with_numbers_of_their_own_are_not_part_of_the_stream() {
        let mut seen = Seen::starting_at(SeqNo(100));
        for event in 20_000..20_010 {
            seen.pass_over(SeqNo(event));
        }
        assert_eq!(seen.advance(SeqNo(101), true), 0);
    }

    #[test]
    fn a_long_stretch_of_comfort_noise_is_not_missing() {
        let mut seen = Seen::starting_at(SeqNo(0));
        for noise in 1..=500 {
            seen.pass_over(SeqNo(noise));
        }
        assert_eq!(seen.advance(SeqNo(501), true), 0);
        assert_eq!(seen.advance(SeqNo(503), true), 1);
    }
}

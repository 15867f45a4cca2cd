//! Newtypes of the field's quantities, so that a sequence number is never taken for a timestamp.
//!
//! Owns: wrapping arithmetic of RTP counters. Never: I/O, clocks.

use std::num::NonZeroU32;
use std::time::Duration;

/// RTP timestamp in clock ticks (RFC 3550, section 5.1). Wraps, so it has a distance and no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RtpTimestamp(pub u32);

impl RtpTimestamp {
    /// Signed ticks from `earlier` to `self`, right as long as they are less than 2^31 ticks apart.
    #[must_use]
    #[expect(clippy::cast_possible_wrap, reason = "the upper half stands for the past")]
    pub fn ticks_since(self, earlier: Self) -> i64 {
        i64::from(self.0.wrapping_sub(earlier.0) as i32)
    }

    /// The timestamp `ticks` later; wraps.
    #[must_use]
    pub fn plus(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }
}

/// RTP sequence number (RFC 3550, section 5.1). Wraps, so it has a distance and no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeqNo(pub u16);

impl SeqNo {
    /// Signed packets from `earlier` to `self`, right as long as they are less than 2^15 apart.
    #[must_use]
    #[expect(clippy::cast_possible_wrap, reason = "the upper half stands for the past")]
    pub fn packets_since(self, earlier: Self) -> i32 {
        i32::from(self.0.wrapping_sub(earlier.0) as i16)
    }

    /// The number `packets` later; wraps.
    #[must_use]
    pub fn plus(self, packets: u16) -> Self {
        Self(self.0.wrapping_add(packets))
    }
}

/// RTP synchronisation source (RFC 3550, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ssrc(pub u32);

/// RTP payload type, 0 to 127 (RFC 3551, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PayloadType(pub u8);

/// RTP clock in ticks per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRate(NonZeroU32);

impl ClockRate {
    /// 8000 Hz: G.711, and G.722 too although it samples at 16 kHz (RFC 3551, section 4.5.2).
    pub const HZ_8000: Self = Self(NonZeroU32::new(8000).expect("not zero"));

    /// Ticks per second.
    #[must_use]
    pub fn hz(self) -> u32 {
        self.0.get()
    }

    /// Whole milliseconds that `ticks` last, rounded down.
    #[must_use]
    pub fn ticks_to_ms(self, ticks: u64) -> u64 {
        ticks.saturating_mul(1000) / u64::from(self.hz())
    }

    /// Ticks in `duration`, rounded down.
    #[must_use]
    pub fn ticks_in(self, duration: Duration) -> u64 {
        let ticks = duration.as_nanos() * u128::from(self.hz()) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_right_across_the_wrap() {
        assert_eq!(RtpTimestamp(100).ticks_since(RtpTimestamp(u32::MAX - 59)), 160);
        assert_eq!(RtpTimestamp(u32::MAX - 59).ticks_since(RtpTimestamp(100)), -160);
        assert_eq!(SeqNo(1).packets_since(SeqNo(65535)), 2);
        assert_eq!(SeqNo(65535).packets_since(SeqNo(1)), -2);
    }

    #[test]
    fn ticks_and_milliseconds_agree() {
        assert_eq!(ClockRate::HZ_8000.ticks_to_ms(160), 20);
        assert_eq!(ClockRate::HZ_8000.ticks_in(Duration::from_millis(500)), 4000);
    }
}

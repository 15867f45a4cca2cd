//! The two kinds of time that come in from outside, as plain numbers that tests can make.
//!
//! `Mono` orders and measures (deadlines, gaps), `Wall` names and stamps (file names, sidecars) and
//! may jump: a phone has no battery clock and NTP arrives in mid-call. Audio length is neither: it is
//! RTP ticks ([`crate::units`]). Never: reading a clock; the crate `os` alone does.

use std::time::Duration;
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, UtcOffset};

/// Monotonic time since an arbitrary start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mono(Duration);

impl Mono {
    /// The instant `since_start` after the arbitrary start.
    #[must_use]
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    #[inline]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Time since the arbitrary start.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// The instant `span` earlier, at most back to the start.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl std::ops::Add<Duration> for Mono {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// Calendar time: milliseconds since 1970-01-01 UTC and the local offset at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Wall {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
    /// Seconds east of UTC of the phone's time zone.
    pub utc_offset_s: i32,
}

/// 2020-01-01T00:00:00Z: an earlier date means that the phone's clock was never set.
const CLOCK_SET_AFTER_UNIX_MS: i64 = 1_577_836_800_000;

/// 2100-01-01T00:00:00Z: so does a later one, of a clock that came up with a random value.
const CLOCK_SET_BEFORE_UNIX_MS: i64 = 4_102_444_800_000;

impl Wall {
    /// Whether the clock plausibly shows the real date (it does not after a boot without NTP).
    #[must_use]
    pub fn is_set(self) -> bool {
        (CLOCK_SET_AFTER_UNIX_MS..CLOCK_SET_BEFORE_UNIX_MS).contains(&self.unix_ms)
    }

    /// Whether it is before the last time that a clock can plausibly show.
    #[must_use]
    pub fn is_before_end(self) -> bool {
        self.unix_ms < CLOCK_SET_BEFORE_UNIX_MS
    }

    /// RFC 3339 with milliseconds and the local offset, e.g. `2026-03-01T09:15:00.250+01:00`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.local().format(&Rfc3339).unwrap_or_default()
    }

    /// Local time as `YYYYMMDD-HHMMSS`, the SystemTime of file names.
    #[must_use]
    pub fn file_stamp(self) -> String {
        let local = self.local();
        let (year, month, day) = local.to_calendar_date();
        let (hour, minute, second) = local.to_hms();
        format!("{year:04}{:02}{day:02}-{hour:02}{minute:02}{second:02}", u8::from(month))
    }

    /// Parses RFC 3339; `None` if `text` is anything else.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Some(Self {
            unix_ms: i64::try_from(date.unix_timestamp_nanos() / 1_000_000).ok()?,
            utc_offset_s: date.offset().whole_seconds(),
        })
    }

    /// Parses [`Self::file_stamp`], taken to be local time `utc_offset_s` east of UTC.
    #[must_use]
    pub fn from_file_stamp(stamp: &str, utc_offset_s: i32) -> Option<Self> {
        let number = |from: usize, to: usize| {
            let digits =
                stamp.get(from..to).filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?;
            digits.parse::<u16>().ok()
        };
        let two = |from| number(from, from + 2).and_then(|number| u8::try_from(number).ok());
        if stamp.len() != 15 || stamp.as_bytes().get(8) != Some(&b'-') {
            return None;
        }
        let month = Month::try_from(two(4)?).ok()?;
        let date = Date::from_calendar_date(number(0, 4)?.into(), month, two(6)?).ok()?;
        let local = date.with_hms(two(9)?, two(11)?, two(13)?).ok()?.assume_utc().unix_timestamp();
        Some(Self { unix_ms: (local - i64::from(utc_offset_s)).checked_mul(1000)?, utc_offset_s })
    }

    fn local(self) -> OffsetDateTime {
        let offset = UtcOffset::from_whole_seconds(self.utc_offset_s).unwrap_or(UtcOffset::UTC);
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.unix_ms) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            .to_offset(offset)
    }
}

/// One reading of both clocks, taken once per turn of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines and spans.
    pub mono: Mono,
    /// For names and stamps.
    pub wall: Wall,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_time_names_files_in_local_time() {
        let wall = Wall { unix_ms: 1_772_352_900_250, utc_offset_s: 3600 };
        assert_eq!(wall.file_stamp(), "20260301-091500");
        let whole = Wall { unix_ms: 1_772_352_900_000, ..wall };
        assert_eq!(Wall::from_file_stamp("20260301-091500", 3600), Some(whole));
        for other in [
            "20260301-091500-2",
            "20260301_091500",
            "20260229-091500",
            "20260301-246000",
            "2026+301-091500",
            "2026030é-91500",
        ] {
            assert_eq!(Wall::from_file_stamp(other, 3600), None, "{other}");
        }
        assert_eq!(wall.rfc3339(), "2026-03-01T09:15:00.25+01:00");
        assert_eq!(Wall::from_rfc3339(&wall.rfc3339()), Some(wall));
    }

    #[test]
    fn a_clock_in_1970_or_long_after_this_century_counts_as_not_set() {
        for (unix_ms, is_set) in [
            (42_000, false),
            (946_684_800_000, false),
            (1_772_352_900_250, true),
            (2_240_000_000_000, true),
            (4_294_967_296_000, false),
            (i64::MAX, false),
        ] {
            assert_eq!(Wall { unix_ms, utc_offset_s: 0 }.is_set(), is_set, "{unix_ms}");
        }
    }
}

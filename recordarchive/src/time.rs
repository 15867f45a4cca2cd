//! Calendar time: microseconds since the Unix epoch inside, RFC 3339 outside, days in the site's time zone.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Microseconds of a second and a day.
pub(crate) const SECOND_US: i64 = 1_000_000;
/// A day without a change of the clock.
pub(crate) const DAY_US: i64 = 86_400 * SECOND_US;

/// The moment of an RFC 3339 text.
pub(crate) fn parse(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(us: i64) -> String {
    let at = Timestamp::from_microsecond(us.div_euclid(1000) * 1000).unwrap_or_default();
    format!("{at:.3}")
}

/// A moment in names of files, in UTC: `20261127T101500Z`.
pub(crate) fn file_stamp(us: i64) -> String {
    Timestamp::from_microsecond(us).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The start of a day `YYYY-MM-DD` in `zone`.
pub(crate) fn day_begins(text: &str, zone: &TimeZone) -> Option<i64> {
    let date: Date = text.parse().ok()?;
    begins(date, zone)
}

/// The start of the day after it.
pub(crate) fn day_ends(text: &str, zone: &TimeZone) -> Option<i64> {
    let date: Date = text.parse().ok()?;
    begins(date.checked_add(1.day()).ok()?, zone)
}

/// The day of a moment in `zone`, as `YYYY-MM-DD`.
pub(crate) fn day_of(us: i64, zone: &TimeZone) -> String {
    zone.to_datetime(Timestamp::from_microsecond(us).unwrap_or_default()).date().to_string()
}

fn begins(date: Date, zone: &TimeZone) -> Option<i64> {
    zone.to_timestamp(date.to_datetime(jiff::civil::Time::midnight())).ok().map(Timestamp::as_microsecond)
}

/// The moment of a file name's stamp, `YYYYMMDD-HHMMSS` in local time.
pub(crate) fn of_stamp(stamp: &str, zone: &TimeZone) -> Option<i64> {
    let at = DateTime::strptime("%Y%m%d-%H%M%S", stamp).ok()?;
    zone.to_timestamp(at).ok().map(Timestamp::as_microsecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_outside_and_days_are_the_site_s() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let at = parse("2026-03-01T09:15:00.250+01:00").unwrap();
        assert_eq!(rfc3339(at), "2026-03-01T08:15:00.250Z");
        assert_eq!(day_begins("2026-03-01", &berlin).map(rfc3339).unwrap(), "2026-02-28T23:00:00.000Z");
        // The day on which summer time begins has 23 hours.
        let day = |text| (day_begins(text, &berlin).unwrap(), day_ends(text, &berlin).unwrap());
        let (begin, end) = day("2026-03-29");
        assert_eq!(end - begin, 23 * 3600 * SECOND_US);
        assert_eq!(of_stamp("20260301-091500", &berlin).map(rfc3339).unwrap(), "2026-03-01T08:15:00.000Z");
        for wrong in ["", "2026-13-01", "yesterday", "99999999-000000"] {
            assert_eq!(
                (parse(wrong), day_begins(wrong, &berlin), of_stamp(wrong, &berlin)),
                (None, None, None)
            );
        }
    }
}

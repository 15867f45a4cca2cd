//! Whether the calendar can be trusted: nothing is deleted by one that is in doubt.
//!
//! Owns: when a doubt begins and ends. Never: clocks; their times come as parameters.

use crate::time::{DAY_US, SECOND_US};
use std::fmt;

/// Smallest move of the calendar against the time that went by that is a jump.
const MAX_JUMP_US: i64 = DAY_US;

/// An archive that was away for longer, by the calendar, deletes nothing for as long after its start: time
/// for the clock to be put right, which is seen as a jump.
const MAX_AWAY_US: i64 = DAY_US;

/// The reason for which nothing is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The calendar jumped: by how many microseconds.
    Jumped(i64),
    /// The archive was away for long, as the calendar says: for how many microseconds.
    Away(i64),
    /// It was never taken for right yet.
    New,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |us: &i64| us / (3600 * SECOND_US);
        match self {
            Self::Jumped(us) => {
                write!(f, "the clock jumped by {} h: nothing is deleted; set it, then restart", hours(us))
            }
            Self::New => f.write_str("nothing is deleted on the first day"),
            Self::Away(us) => write!(
                f,
                "by the clock the archive was away for {} h: nothing is deleted for a day; look whether it is right",
                hours(us)
            ),
        }
    }
}

/// Sees whether the calendar goes as time goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    began_us: i64,
    began_monotonic_us: i64,
    /// The length of the absence; `None` if it was never there.
    away_us: Option<i64>,
    /// It jumped once: then it may have been wrong at the start, and one that jumps back proves nothing.
    jumped_us: Option<i64>,
}

impl Steady {
    /// From now on. `right_us` is when the calendar was taken for right for the last time, if it ever was.
    pub(crate) fn new(now_us: i64, monotonic_us: i64, right_us: Option<i64>) -> Self {
        let away_us = right_us.map(|right_us| now_us.saturating_sub(right_us));
        Self { began_us: now_us, began_monotonic_us: monotonic_us, away_us, jumped_us: None }
    }

    /// The reason for which nothing may be deleted now, if there is one.
    pub(crate) fn doubt(&mut self, now_us: i64, monotonic_us: i64) -> Option<Doubt> {
        let by_calendar = now_us.saturating_sub(self.began_us);
        let went_by = monotonic_us.saturating_sub(self.began_monotonic_us);
        let jump = by_calendar.saturating_sub(went_by);
        if jump.saturating_abs() > MAX_JUMP_US {
            self.jumped_us.get_or_insert(jump);
        }
        if let Some(jumped_us) = self.jumped_us {
            return Some(Doubt::Jumped(jumped_us));
        }
        match self.away_us {
            _ if went_by >= MAX_AWAY_US => None,
            None => Some(Doubt::New),
            Some(away_us) => (away_us > MAX_AWAY_US).then_some(Doubt::Away(away_us)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A start at this day, with the calendar right until another one.
    fn start(day: i64, right_day: Option<i64>) -> Steady {
        Steady::new(day * DAY_US, 5, right_day.map(|day| day * DAY_US))
    }

    #[test]
    fn calendar_that_jumped_is_in_doubt_until_a_restart() {
        let jumped = |now_us, monotonic_us| {
            let mut steady = start(1_000, Some(1_000));
            let doubt = steady.doubt(now_us, monotonic_us);
            assert_eq!(steady.doubt(1_000 * DAY_US, 5), doubt, "one that jumps back proves nothing");
            doubt
        };
        assert_eq!(jumped(1_030 * DAY_US, 30 * DAY_US + 5), None, "a month went by");
        assert_eq!(jumped(1_001 * DAY_US, 5), None);
        assert_eq!(jumped(1_002 * DAY_US, 5), Some(Doubt::Jumped(2 * DAY_US)));
        assert_eq!(jumped(0, 5), Some(Doubt::Jumped(-1_000 * DAY_US)));
    }

    #[test]
    fn calendar_is_in_doubt_for_a_day_where_it_says_that_the_archive_was_long_away() {
        let mut steady = start(1_000, Some(998));
        assert_eq!(steady.doubt(1_000 * DAY_US, 5), Some(Doubt::Away(2 * DAY_US)));
        assert_eq!(steady.doubt(1_001 * DAY_US, DAY_US + 5), None, "nobody put the clock right");
        // It was wrong, and is right again.
        assert_eq!(steady.doubt(998 * DAY_US, DAY_US), Some(Doubt::Jumped(5 - 3 * DAY_US)));
        let mut first = start(1_000, None);
        assert_eq!(first.doubt(1_000 * DAY_US, 5), Some(Doubt::New));
        assert_eq!(first.doubt(1_001 * DAY_US, DAY_US + 5), None);
        assert_eq!(start(1_000, Some(999)).doubt(1_000 * DAY_US, 6), None);
    }
}

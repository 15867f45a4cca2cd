//! The only reader of clocks in the archive. Everything else is told what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Calendar time, in microseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

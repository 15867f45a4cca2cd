//! The only reader of clocks in the archive. Everything else gets the time as a parameter.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since this process looked first, which no calendar moves, in microseconds.
#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
pub(crate) fn monotonic_us() -> i64 {
    static START: OnceLock<Instant> = OnceLock::new();
    i64::try_from(START.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(i64::MAX)
}

/// Calendar time, in microseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

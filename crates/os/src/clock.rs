//! The only place of all programs that reads clocks.

use crate::time_zone::utc_offset_s;
use media::time::{Mono, Now, Wall};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time after which time zone rules are looked at again.
const OFFSET_VALID: Duration = Duration::from_secs(60);

/// Reads both clocks; remembers the time zone.
#[derive(Debug, Default)]
pub struct Clock {
    offset: Option<(Mono, i32)>,
}

impl Clock {
    /// The time by both clocks.
    pub fn now(&mut self) -> Now {
        let mono = mono();
        let unix_ms = i64::try_from(unix().as_millis()).unwrap_or(i64::MAX);
        let offset = match self.offset {
            Some((at, offset_s)) if mono.since(at) < OFFSET_VALID => offset_s,
            _ => {
                let offset_s = utc_offset_s(unix_ms / 1000);
                self.offset = Some((mono, offset_s));
                offset_s
            }
        };
        Now { mono, wall: Wall { unix_ms, utc_offset_s: offset } }
    }
}

static START: OnceLock<Instant> = OnceLock::new();

/// The monotonic clock, since it was first read.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
pub fn mono() -> Mono {
    let now = Instant::now();
    Mono::new(now.saturating_duration_since(*START.get_or_init(|| now)))
}

/// The calendar clock in nanoseconds since the Unix epoch.
#[must_use]
pub fn unix_ns() -> i64 {
    i64::try_from(unix().as_nanos()).unwrap_or(i64::MAX)
}

/// The calendar clock; before 1970 it counts as 1970. The standard library asks the system for 64 bits of
/// seconds where `time_t` has 32, which end in 2038.
#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

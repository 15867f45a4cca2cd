//! The only place that reads clocks.

use crate::sys;
use crate::time::{Mono, Now, Wall};
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Time zone rules are looked at again after this long.
const OFFSET_VALID: Duration = Duration::from_secs(60);

/// Reads both clocks; remembers the time zone.
#[derive(Debug, Default)]
pub struct Clock {
    offset: Option<(Mono, i32)>,
}

impl Clock {
    /// What time it is.
    pub fn now(&mut self) -> Now {
        let mono = mono();
        let unix = read(ClockId::CLOCK_REALTIME);
        let unix_ms = i64::try_from(unix.as_millis()).unwrap_or(i64::MAX);
        let offset = match self.offset {
            Some((at, offset_s)) if mono.since(at) < OFFSET_VALID => offset_s,
            _ => {
                let offset_s = sys::utc_offset_s(unix_ms / 1000);
                self.offset = Some((mono, offset_s));
                offset_s
            }
        };
        Now { mono, wall: Wall { unix_ms, utc_offset_s: offset } }
    }
}

/// The monotonic clock.
#[must_use]
pub fn mono() -> Mono {
    Mono::new(read(ClockId::CLOCK_MONOTONIC))
}

/// The calendar clock in nanoseconds since the Unix epoch.
#[must_use]
pub fn unix_ns() -> i64 {
    i64::try_from(read(ClockId::CLOCK_REALTIME).as_nanos()).unwrap_or(i64::MAX)
}

fn read(clock: ClockId) -> Duration {
    // Both clocks exist on every Linux; a clock before 1970 counts as 1970.
    let time = clock_gettime(clock).map(|time| (time.tv_sec(), time.tv_nsec())).unwrap_or_default();
    let (seconds, nanoseconds) = (u64::try_from(time.0), u32::try_from(time.1));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

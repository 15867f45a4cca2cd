//! The only reader of clocks in the server.

use chrono::{Local, Offset, Utc};
use media::time::{Mono, Now, Wall};
use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// Monotonic time since the first call.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
pub fn mono() -> Mono {
    let now = Instant::now();
    Mono::new(now.saturating_duration_since(*START.get_or_init(|| now)))
}

/// Both clocks.
#[must_use]
pub fn now() -> Now {
    let local = Local::now();
    Now {
        mono: mono(),
        wall: Wall {
            unix_ms: local.timestamp_millis(),
            utc_offset_s: local.offset().fix().local_minus_utc(),
        },
    }
}

/// One moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Instants {
    /// By the monotonic one.
    pub mono: Mono,
    /// By that of the calendar, in nanoseconds since the Unix epoch.
    pub unix_ns: i64,
}

/// The moment that relates the kernel's stamps to monotonic time.
#[must_use]
pub fn instants() -> Instants {
    Instants { mono: mono(), unix_ns: Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX) }
}

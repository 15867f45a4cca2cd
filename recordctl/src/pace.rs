//! The command line's clock: the one place of `ctl` that reads time and waits.
//!
//! A command-line tool may block; the agent's loop may not, which is why the lints forbid both elsewhere.

use std::time::{Duration, Instant};

/// Longest wait between two looks at the outside.
const SLICE: Duration = Duration::from_millis(100);

/// The present instant.
#[expect(clippy::disallowed_methods, reason = "a command-line tool has no loop that could hand it the time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Waits until `instant`; returns at once if it has passed.
#[expect(clippy::disallowed_methods, reason = "a command-line tool may wait")]
pub(super) fn sleep_until(instant: Instant) {
    std::thread::sleep(instant.saturating_duration_since(now()));
}

/// Waits for `span`.
pub(super) fn sleep(span: Duration) {
    sleep_until(now() + span);
}

/// Waits until `instant` while `between` is called every now and then and may break off.
pub(super) fn wait_in_slices<E>(
    instant: Instant,
    mut between: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    while now() < instant {
        sleep_until(instant.min(now() + SLICE));
        between()?;
    }
    Ok(())
}

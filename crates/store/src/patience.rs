//! The time that one job may keep the others waiting.

use media::time::Mono;
use std::time::Duration;

/// A pass over a folder is interrupted after this time, and goes on when the jobs behind it are done: a stick
/// may have any number of files, and a slow one takes a second for few of them.
pub(super) const STEP: Duration = Duration::from_millis(20);

/// The end of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    clock: fn() -> Mono,
    until: Mono,
}

impl Patience {
    /// For one step, from now on.
    pub(super) fn begin(clock: fn() -> Mono) -> Self {
        Self { clock, until: clock() + STEP }
    }

    /// Whether others should have their turn.
    pub(super) fn is_over(&self) -> bool {
        (self.clock)() > self.until
    }
}

//! Looks at the disks: which are under way, and when the next one is due.

use media::time::Mono;
use std::time::Duration;

/// Between two looks at the disks that nothing has asked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Looks {
    under_way: usize,
    last: Mono,
}

impl Looks {
    pub(super) fn new(now: Mono) -> Self {
        Self { under_way: 0, last: now }
    }

    pub(super) fn begin(&mut self, now: Mono) {
        self.under_way += 1;
        self.last = now;
    }

    pub(super) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    pub(super) fn are_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// When the next one may be made that nothing has asked for; `None` while one is under way.
    pub(super) fn next(&self) -> Option<Mono> {
        (!self.are_under_way()).then_some(self.last + LOOK_INTERVAL)
    }
}

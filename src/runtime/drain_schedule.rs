//! When to look at an RTP socket again.
//!
//! A recording needs no packet at once, and waking a sleeping core costs more than all the rest, so the
//! socket's buffer collects packets and is drained in batches: about once a second at the rate of a call,
//! more often at a rate that could fill the buffer. Pure.

use std::time::Duration;

/// Interval after the packet that woke us, in which a stream shows its rate.
const FIRST: Duration = Duration::from_millis(16);

/// Shortest interval.
const SHORTEST: Duration = Duration::from_millis(1);

/// The silence after which a socket is idle: the next packet should wake us.
const IDLE_AFTER: Duration = Duration::from_millis(200);

/// Part of the buffer that may fill between two drains.
const FILL_DIVISOR: u32 = 4;

/// The rhythm of one socket.
#[derive(Clone, Copy, Debug)]
pub struct DrainSchedule {
    /// The rate is not known yet.
    is_new: bool,
    longest: Duration,
    /// Packets that may come between two drains.
    fill_packets: u32,
}

impl DrainSchedule {
    /// A rhythm for a socket buffer of `capacity_packets`, with at most `longest` between two drains.
    #[must_use]
    pub fn new(capacity_packets: u32, longest: Duration) -> Self {
        Self { is_new: true, longest, fill_packets: (capacity_packets / FILL_DIVISOR).max(1) }
    }

    /// From now on waits at most `longest`.
    pub fn limit(&mut self, longest: Duration) {
        self.longest = self.longest.min(longest);
    }

    /// The socket was idle, and a packet woke us: the rate may be another one now.
    pub fn restart(&mut self) {
        self.is_new = true;
    }

    /// The wait after a drain that gave `packets` in `elapsed`; `None` if the socket is idle.
    pub fn after(&mut self, packets: u32, elapsed: Duration) -> Option<Duration> {
        if packets == 0 && elapsed >= IDLE_AFTER {
            return None;
        }
        if std::mem::take(&mut self.is_new) {
            return Some(FIRST.min(self.longest));
        }
        let elapsed = elapsed.max(SHORTEST);
        let fits = if packets == 0 { self.longest } else { elapsed * self.fill_packets / packets };
        Some(fits.max(SHORTEST).min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(950);

    /// Feeds a steady rate and returns the waits.
    fn waits(packets_per_s: u32, drains: usize) -> Vec<Duration> {
        let mut drain_schedule = DrainSchedule::new(8000, LONGEST);
        drain_schedule.restart();
        let mut wait = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..drains {
            waits.push(wait);
            let came = u64::from(packets_per_s) * u64::try_from(wait.as_micros()).unwrap() / 1_000_000;
            let packets = u32::try_from(came).unwrap().max(u32::from(wait.is_zero()));
            wait = drain_schedule.after(packets, wait).unwrap();
        }
        waits
    }

    #[test]
    fn a_call_is_drained_about_once_a_second() {
        let waits = waits(50, 12);
        assert_eq!(waits[..2], [Duration::ZERO, FIRST]);
        assert!(waits[2..].iter().all(|wait| *wait == LONGEST), "{waits:?}");
    }

    #[test]
    fn a_fast_stream_never_fills_more_than_a_part_of_the_buffer() {
        for wait in waits(200, 20).into_iter().chain(waits(1600, 20)) {
            assert!(wait <= LONGEST);
        }
        let fast = waits(200_000, 20);
        assert!(fast.iter().all(|wait| *wait <= Duration::from_millis(20)), "{fast:?}");
    }

    #[test]
    fn a_silent_socket_is_idle_only_after_a_while() {
        let mut drain_schedule = DrainSchedule::new(8000, LONGEST);
        assert!(drain_schedule.after(0, Duration::from_millis(10)).is_some());
        assert!(drain_schedule.after(0, Duration::from_millis(400)).is_none());
    }
}

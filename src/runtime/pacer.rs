//! When to look at an RTP socket again.
//!
//! A recording needs no packet at once, and waking a sleeping core costs more than all the rest, so the
//! socket's buffer collects packets and is drained in batches: about once a second at the rate of a call,
//! more often at a rate that could fill the buffer. Pure.

use std::time::Duration;

/// First interval of a stream whose rate is not known yet. After the packet that woke us it has grown once.
const FIRST: Duration = Duration::from_millis(1);

/// How much longer the next interval may be than the last one.
const GROWTH: u32 = 16;

/// Shortest interval.
const SHORTEST: Duration = Duration::from_millis(1);

/// A socket that gave nothing for this long is idle: the next packet should wake us.
const IDLE_AFTER: Duration = Duration::from_millis(200);

/// Part of the buffer that may fill between two drains.
const FILL_DIVISOR: u32 = 4;

/// The rhythm of one socket.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    interval: Duration,
    longest: Duration,
    /// Packets that may come between two drains.
    fill_packets: u32,
}

impl Pacer {
    /// A rhythm for a socket buffer of `capacity_packets`, with at most `longest` between two drains.
    #[must_use]
    pub fn new(capacity_packets: u32, longest: Duration) -> Self {
        Self { interval: FIRST.min(longest), longest, fill_packets: (capacity_packets / FILL_DIVISOR).max(1) }
    }

    /// From now on waits at most `longest`.
    pub fn limit(&mut self, longest: Duration) {
        self.longest = self.longest.min(longest);
    }

    /// How long to wait for the first drain after the socket was idle.
    pub fn restart(&mut self) -> Duration {
        self.interval = FIRST.min(self.longest);
        self.interval
    }

    /// How long to wait after a drain that gave `packets` in `elapsed`; `None` if the socket is idle.
    pub fn after(&mut self, packets: u32, elapsed: Duration) -> Option<Duration> {
        if packets == 0 && elapsed >= IDLE_AFTER {
            return None;
        }
        let elapsed = elapsed.max(SHORTEST);
        let fits = if packets == 0 { self.longest } else { elapsed * self.fill_packets / packets };
        self.interval = (self.interval * GROWTH).min(fits).clamp(SHORTEST, self.longest);
        Some(self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(950);

    /// Feeds a steady rate and returns the waits.
    fn waits(packets_per_s: u32, drains: usize) -> Vec<Duration> {
        let mut pacer = Pacer::new(8000, LONGEST);
        let mut wait = pacer.restart();
        let mut waits = Vec::new();
        for _ in 0..drains {
            waits.push(wait);
            let packets = packets_per_s * u32::try_from(wait.as_micros()).unwrap() / 1_000_000;
            wait = pacer.after(packets, wait).unwrap();
        }
        waits
    }

    #[test]
    fn a_call_is_drained_about_once_a_second() {
        assert_eq!(waits(50, 12).last(), Some(&LONGEST));
    }

    #[test]
    fn a_fast_stream_never_fills_more_than_a_part_of_the_buffer() {
        for wait in waits(200, 20).into_iter().chain(waits(1600, 20)) {
            assert!(wait <= LONGEST);
        }
        let fast = waits(200_000, 20);
        assert!(fast.iter().skip(1).all(|wait| *wait <= Duration::from_millis(20)), "{fast:?}");
    }

    #[test]
    fn a_silent_socket_is_idle_only_after_a_while() {
        let mut pacer = Pacer::new(8000, LONGEST);
        assert!(pacer.after(0, Duration::from_millis(10)).is_some());
        assert!(pacer.after(0, Duration::from_millis(400)).is_none());
    }
}

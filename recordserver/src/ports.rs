//! UDP ports for RTP: one per session, out of a range.
//!
//! They are given out at random, so that nobody can send to a port before its session knows it. Invariant: a
//! port is either free or given out. A freed port goes to the end of the queue, and one of the older half is
//! taken, so that late packets of one call do not meet the next one as long as there are other ports.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// UDP ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    low: u16,
    high: u16,
}

impl PortRange {
    /// Below the ports that Linux hands out by itself (32768 and up), so they are seldom taken.
    pub const DEFAULT: Self = Self { low: 20_000, high: 28_191 };

    /// The range; `None` if it is empty or has port 0.
    #[must_use]
    pub fn new(low: u16, high: u16) -> Option<Self> {
        (low != 0 && low <= high).then_some(Self { low, high })
    }

    /// The number of ports.
    #[must_use]
    pub fn count(self) -> usize {
        usize::from(self.high - self.low) + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = || {
            let (low, high) = text.split_once('-')?;
            Self::new(low.trim().parse().ok()?, high.trim().parse().ok()?)
        };
        range().ok_or_else(|| format!("\"{text}\" is no range of UDP ports such as 20000-28191"))
    }
}

/// The ports that no session has.
#[derive(Debug)]
pub struct Ports {
    free: VecDeque<u16>,
    /// Keyed by the system's randomness, which nobody outside knows.
    random: RandomState,
    taken: u64,
}

impl Ports {
    /// All of `range` is free.
    #[must_use]
    pub fn new(range: PortRange) -> Self {
        Self { free: (range.low..=range.high).collect(), random: RandomState::new(), taken: 0 }
    }

    /// One of the ports that have been free for longest; `None` if all are in use.
    pub fn take(&mut self) -> Option<u16> {
        self.taken = self.taken.wrapping_add(1);
        let older = u64::try_from(self.free.len().div_ceil(2)).ok().filter(|older| *older > 0)?;
        let index = self.random.hash_one(self.taken) % older;
        self.free.swap_remove_front(usize::try_from(index).unwrap_or(0))
    }

    /// A session is over, or the port turned out to be taken by another program.
    pub fn give_back(&mut self, port: u16) {
        debug_assert!(!self.free.contains(&port), "port {port} was not given out");
        self.free.push_back(port);
    }

    /// The number of free ports.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_and_nonsense_is_refused() {
        assert_eq!("4000-4003".parse::<PortRange>().map(PortRange::count), Ok(4));
        for nonsense in ["", "4000", "4003-4000", "0-10", "1-70000", "a-b", "-5-7"] {
            assert!(nonsense.parse::<PortRange>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn every_port_is_given_out_once_and_the_one_freed_last_comes_last() {
        let mut ports = Ports::new(PortRange::new(4000, 4099).expect("range"));
        let mut taken: Vec<u16> = std::iter::from_fn(|| ports.take()).collect();
        assert_eq!(ports.free(), 0);
        ports.give_back(4050);
        assert_eq!([ports.take(), ports.take()], [Some(4050), None]);
        taken.sort_unstable();
        assert_eq!(taken, (4000..=4099).collect::<Vec<_>>());
        taken.into_iter().for_each(|port| ports.give_back(port));
        let port = ports.take().expect("there are 100");
        ports.give_back(port);
        for _ in 0..49 {
            assert_ne!(ports.take(), Some(port), "it was free for the shortest time");
        }
    }

    #[test]
    fn nobody_knows_which_port_comes_next() {
        let of = || {
            let mut ports = Ports::new(PortRange::DEFAULT);
            std::iter::from_fn(move || ports.take()).take(8).collect::<Vec<_>>()
        };
        let (one, other) = (of(), of());
        assert_ne!(one, other);
        assert!(one.windows(2).any(|pair| pair[0].abs_diff(pair[1]) > 1), "{one:?}");
    }

    #[test]
    fn the_last_port_number_is_no_special_case() {
        let mut ports = Ports::new("65535-65535".parse().expect("range"));
        assert_eq!([ports.take(), ports.take()], [Some(65535), None]);
    }
}

//! The quota of an address: how much faster than the clock its recordings may grow together.
//!
//! Each recording is bounded by the clock, but for the octets it may be ahead; an address with many
//! recordings, or one that begins anew all the time, could multiply that. Owns: the octets that addresses are
//! ahead with recordings that have ended. Pure. Invariant: recordings that grow as the clock goes are never
//! held back, regardless of others at their address.

use crate::admission::prefix;
use media::time::Mono;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Octets in a millisecond that a recording may grow by: a quarter more than a call has.
const OCTETS_PER_MS: u64 = 10;

/// The octets that the recordings of one address may be ahead of that, together: four minutes of a call.
pub const AHEAD_OCTETS: u64 = 2 << 20;

/// The octets of it that are forgiven in each millisecond.
const FORGIVEN_PER_MS: u64 = 8;

/// Addresses whose ended recordings are remembered. Each took a recording that was ahead.
const MAX_DEBTORS: usize = 4096;

/// The octets that a recording with `octets` of audio is ahead of its share after `elapsed`.
#[must_use]
pub fn ahead(octets: u64, elapsed: Duration) -> u64 {
    let may = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(OCTETS_PER_MS);
    octets.saturating_sub(may)
}

/// The octets that all addresses are ahead.
#[derive(Debug, Default)]
pub struct Quota {
    debts: HashMap<IpAddr, Debt>,
    /// Of the recordings that go on, as they were looked at last.
    running: HashMap<IpAddr, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Debt {
    octets: u64,
    since: Mono,
}

impl Debt {
    fn left(self, now: Mono) -> u64 {
        let ms = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        self.octets.saturating_sub(ms.saturating_mul(FORGIVEN_PER_MS))
    }
}

impl Quota {
    /// A new look at all recordings begins.
    pub fn begin(&mut self) {
        self.running.clear();
    }

    /// A recording of `address` is ahead by `ahead` octets, not zero.
    pub fn add(&mut self, address: IpAddr, ahead: u64) {
        let sum = self.running.entry(prefix(address)).or_default();
        *sum = sum.saturating_add(ahead);
    }

    /// Whether a recording of `address` that is ahead has to wait for the clock.
    #[must_use]
    pub fn is_used_up(&self, address: IpAddr, now: Mono) -> bool {
        let key = prefix(address);
        let debt = self.debts.get(&key).map_or(0, |debt| debt.left(now));
        self.running.get(&key).copied().unwrap_or(0).saturating_add(debt) > AHEAD_OCTETS
    }

    /// A recording of `address` has ended, ahead by `ahead` octets.
    pub fn ended(&mut self, address: IpAddr, ahead: u64, now: Mono) {
        if ahead == 0 {
            return;
        }
        if self.debts.len() >= MAX_DEBTORS {
            self.debts.retain(|_, debt| debt.left(now) > 0);
        }
        let key = prefix(address);
        if self.debts.len() < MAX_DEBTORS || self.debts.contains_key(&key) {
            let before = self.debts.get(&key).map_or(0, |debt| debt.left(now));
            self.debts.insert(key, Debt { octets: before.saturating_add(ahead), since: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Mono {
        Mono::new(Duration::from_secs(s))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_call_is_never_ahead_and_one_at_twice_its_pace_is() {
        assert_eq!(ahead(8000 * 60, Duration::from_secs(60)), 0);
        assert_eq!(ahead(16_000 * 60, Duration::from_secs(60)), 360_000);
    }

    #[test]
    fn recordings_of_one_address_share_the_octets_that_they_may_be_ahead() {
        let mut quota = Quota::default();
        quota.begin();
        for _ in 0..5 {
            quota.add(ip("192.0.2.1"), 480_000);
        }
        quota.add(ip("192.0.2.2"), 480_000);
        quota.add(ip("2001:db8::1"), AHEAD_OCTETS);
        quota.add(ip("2001:db8::2:1"), 1);
        assert!(quota.is_used_up(ip("::ffff:192.0.2.1"), at(0)));
        assert!(!quota.is_used_up(ip("192.0.2.2"), at(0)));
        assert!(quota.is_used_up(ip("2001:db8::7"), at(0)), "one host has all of a /64");
        quota.begin();
        assert!(!quota.is_used_up(ip("192.0.2.1"), at(0)));
    }

    #[test]
    fn one_that_begins_anew_all_the_time_gains_nothing_and_is_forgiven_by_the_clock() {
        let mut quota = Quota::default();
        for second in 0..5 {
            quota.ended(ip("192.0.2.1"), 480_000, at(second));
        }
        assert!(quota.is_used_up(ip("192.0.2.1"), at(5)));
        assert!(!quota.is_used_up(ip("192.0.2.1"), at(60)));
    }

    #[test]
    fn memory_of_addresses_is_bounded() {
        let mut quota = Quota::default();
        for number in 0..10_000_u32 {
            quota.ended(IpAddr::from(number.to_be_bytes()), 100, at(0));
        }
        assert_eq!(quota.debts.len(), MAX_DEBTORS);
        quota.ended(ip("192.0.2.1"), 100, at(10));
        assert_eq!(quota.debts.len(), 1);
    }
}

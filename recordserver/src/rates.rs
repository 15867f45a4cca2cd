//! Rates of each address: starts, recordings without audio, new devices and lines of the log.
//!
//! Owns: the counting of events in time; the time is a parameter. An address is the result of
//! [`crate::admission::prefix`]: a host with IPv6 has a whole /64 of them. Never: refusals, which are those
//! of [`crate::admission`] and the sessions. Invariant: no table grows beyond its named limit; an address
//! without a place in one shares the last place with others.

use crate::admission::prefix;
use media::time::Mono;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

/// Addresses that a table tells apart.
const MAX_ADDRESSES: usize = 16_384;

/// Between two looks for addresses that need no place any more.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);

/// Lines of the log about refusals: of one address at once, and then one in this time.
const LINES_OF_ADDRESS: u32 = 5;
const LINE_OF_ADDRESS_EACH: Duration = Duration::from_secs(10);

/// The same for all addresses together.
const LINES: u32 = 50;
const LINE_EACH: Duration = Duration::from_millis(200);

/// Lines about calls without audio: of one address, and of all.
const CALL_LINES_OF_ADDRESS: u32 = 200;
const CALL_LINE_OF_ADDRESS_EACH: Duration = Duration::from_millis(200);
const CALL_LINES: u32 = 1000;
const CALL_LINE_EACH: Duration = Duration::from_millis(50);

/// Devices that are known by name.
const MAX_DEVICES: usize = 65_536;

/// Addresses that have recorded and are remembered for it.
const MAX_KNOWN: usize = 16_384;

/// A rate: `burst` at once, and then one in each time of the length `each`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    burst: u32,
    each: Duration,
}

impl Rate {
    /// `count` at once, and again as many within `window`.
    #[must_use]
    pub fn within(count: u32, window: Duration) -> Self {
        Self { burst: count.max(1), each: window / count.max(1) }
    }

    const fn new(burst: u32, each: Duration) -> Self {
        Self { burst, each }
    }

    /// Whether one more may be, if all of them are allowed again at `full`; then when that is so after it.
    fn take(self, full: Mono, now: Mono) -> Option<Mono> {
        let later = full.max(now) + self.each;
        (later <= now + self.each * self.burst).then_some(later)
    }
}

/// A rate for each address.
#[derive(Debug)]
pub struct Rates {
    rate: Rate,
    /// The time at which each address may use its whole burst again.
    full: HashMap<IpAddr, Mono>,
    /// For those without a place.
    shared: Mono,
    purged: Mono,
}

impl Rates {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, full: HashMap::new(), shared: Mono::default(), purged: Mono::default() }
    }

    /// Whether `from` may once more; if so, it counts.
    pub fn take(&mut self, from: IpAddr, now: Mono) -> bool {
        let key = prefix(from);
        if !self.full.contains_key(&key) && self.full.len() >= MAX_ADDRESSES {
            self.purge(now);
        }
        let has_place = self.full.contains_key(&key) || self.full.len() < MAX_ADDRESSES;
        let full = if has_place { self.full.get(&key).copied().unwrap_or_default() } else { self.shared };
        let Some(later) = self.rate.take(full, now) else { return false };
        if has_place {
            self.full.insert(key, later);
        } else {
            self.shared = later;
        }
        true
    }

    fn purge(&mut self, now: Mono) {
        if now.since(self.purged) >= PURGE_INTERVAL {
            self.purged = now;
            self.full.retain(|_, full| *full > now);
        }
    }
}

/// The limit on lines in the log that strangers can cause.
#[derive(Debug)]
pub struct Throttle {
    of_address: Rates,
    all: Rate,
    full: Mono,
    left_out: u64,
}

impl Throttle {
    /// For lines about refusals.
    pub fn of_refusals() -> Self {
        Self::new(Rate::new(LINES_OF_ADDRESS, LINE_OF_ADDRESS_EACH), Rate::new(LINES, LINE_EACH))
    }

    /// For lines about calls that have no audio: not yet, or none came.
    pub fn of_calls() -> Self {
        let of_address = Rate::new(CALL_LINES_OF_ADDRESS, CALL_LINE_OF_ADDRESS_EACH);
        Self::new(of_address, Rate::new(CALL_LINES, CALL_LINE_EACH))
    }

    fn new(of_address: Rate, all: Rate) -> Self {
        Self { of_address: Rates::new(of_address), all, full: Mono::default(), left_out: 0 }
    }

    /// Whether there may be a line about `from`; then how many were left out since the last one.
    pub fn line(&mut self, from: IpAddr, now: Mono) -> Option<u64> {
        // An address that may say no more takes no place of the others.
        let later = self.all.take(self.full, now).filter(|_| self.of_address.take(from, now));
        match later {
            Some(later) => {
                self.full = later;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

/// The known devices: each has a folder, and a phone that invents names makes folders.
#[derive(Debug)]
pub struct Devices {
    /// Hashes of folder names.
    known: HashSet<u64>,
    fresh: Rates,
}

impl Devices {
    /// Those whose folders are there.
    pub fn new(fresh: Rate, folders: impl Iterator<Item = String>) -> Self {
        Self { known: folders.take(MAX_DEVICES).map(|name| hash(&name)).collect(), fresh: Rates::new(fresh) }
    }

    /// Whether `from` may record as the device of this folder: an old one, or not too many new ones.
    pub fn admits(&mut self, folder: &str, from: IpAddr, now: Mono) -> bool {
        let hash = hash(folder);
        if self.known.contains(&hash) {
            return true;
        }
        let admitted = self.fresh.take(from, now);
        if admitted && self.known.len() < MAX_DEVICES {
            self.known.insert(hash);
        }
        admitted
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Addresses that have recorded audio: some places are kept for them.
#[derive(Debug, Default)]
pub struct Known(HashMap<IpAddr, Mono>);

impl Known {
    /// A recording with audio came from there.
    pub fn add(&mut self, from: IpAddr, now: Mono) {
        let key = prefix(from);
        if self.0.len() >= MAX_KNOWN && !self.0.contains_key(&key) {
            // Half of them go at once, so that this costs little on the whole.
            let mut seen: Vec<Mono> = self.0.values().copied().collect();
            let (_, middle, _) = seen.select_nth_unstable(MAX_KNOWN / 2);
            let middle = *middle;
            self.0.retain(|_, at| *at > middle);
        }
        if self.0.len() < MAX_KNOWN {
            self.0.insert(key, now);
        }
    }

    /// Whether one did.
    #[must_use]
    pub fn has(&self, from: IpAddr) -> bool {
        self.0.contains_key(&prefix(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn at(ms: u64) -> Mono {
        Mono::new(Duration::from_secs(1000) + Duration::from_millis(ms))
    }

    fn numbered(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_burst_is_taken_at_once_and_comes_back_with_time() {
        let mut rates = Rates::new(Rate::within(600, Duration::from_secs(60)));
        let one = ip("192.0.2.1");
        let taken = |rates: &mut Rates, now| (0..2000).filter(|_| rates.take(one, now)).count();
        assert_eq!(taken(&mut rates, at(0)), 600);
        assert_eq!(taken(&mut rates, at(99)), 0);
        assert_eq!(taken(&mut rates, at(100)), 1);
        assert_eq!(taken(&mut rates, at(1100)), 10);
        assert!(rates.take(ip("192.0.2.2"), at(0)), "another address has its own");
        assert_eq!(taken(&mut rates, at(600_000)), 600, "never more than the burst");
    }

    #[test]
    fn all_addresses_of_a_network_of_ipv6_are_one_and_mapped_ones_are_their_ipv4_address() {
        let mut rates = Rates::new(Rate::within(2, Duration::from_secs(60)));
        assert!(rates.take(ip("2001:db8::1"), at(0)) && rates.take(ip("2001:db8::ffff:2"), at(0)));
        assert!(!rates.take(ip("2001:db8::3"), at(0)));
        assert!(rates.take(ip("2001:db8:0:1::3"), at(0)));
        assert!(rates.take(ip("192.0.2.1"), at(0)) && rates.take(ip("::ffff:192.0.2.1"), at(0)));
        assert!(!rates.take(ip("192.0.2.1"), at(0)) && rates.take(ip("192.0.2.2"), at(0)));
    }

    #[test]
    fn more_addresses_than_there_are_places_share_one_and_places_become_free() {
        let mut rates = Rates::new(Rate::within(1, Duration::from_secs(60)));
        let most = u32::try_from(MAX_ADDRESSES).expect("small");
        assert!((0..most).all(|number| rates.take(numbered(number), at(0))));
        assert!(rates.take(numbered(most), at(0)), "the shared place");
        assert!(!rates.take(numbered(most + 1), at(0)));
        assert_eq!(rates.full.len(), MAX_ADDRESSES);
        assert!(rates.take(numbered(most + 2), at(60_000)));
        assert_eq!(rates.full.len(), 1);
    }

    #[test]
    fn an_address_that_fills_the_log_is_cut_off_others_are_heard_and_lines_left_out_are_counted() {
        let mut throttle = Throttle::of_refusals();
        let told: Vec<_> = (0..10_000).filter_map(|_| throttle.line(ip("192.0.2.1"), at(0))).collect();
        assert_eq!(told, [0; 5]);
        assert_eq!(throttle.line(ip("192.0.2.2"), at(0)), Some(9995));
        let many = (0..10_000).filter(|number| throttle.line(numbered(*number), at(0)).is_some()).count();
        assert_eq!(many, 44, "all together have a limit, too");
    }

    #[test]
    fn calls_without_audio_have_a_line_each_unless_one_address_or_all_make_too_many() {
        let mut throttle = Throttle::of_calls();
        let mut told =
            |address: IpAddr, ms: u64| (0..5000).filter(|_| throttle.line(address, at(ms)).is_some()).count();
        assert_eq!(told(ip("192.0.2.1"), 0), 200);
        assert_eq!(told(ip("192.0.2.1"), 1000), 5);
        let others = (1..=10).map(|number| told(numbered(number), 1000)).sum::<usize>();
        assert_eq!(others, 1000 - 200 + 20 - 5);
    }

    #[test]
    fn devices_that_there_were_are_free_and_new_ones_have_a_rate() {
        let rate = Rate::within(3, Duration::from_secs(3600));
        let mut devices = Devices::new(rate, ["old".to_owned()].into_iter());
        let one = ip("192.0.2.1");
        assert!((0..100).all(|_| devices.admits("old", one, at(0))));
        let admitted = (0..100).filter(|number| devices.admits(&format!("new{number}"), one, at(0))).count();
        assert_eq!(admitted, 3);
        assert!((0..3).all(|number| devices.admits(&format!("new{number}"), one, at(0))));
        assert!(devices.admits("another", ip("192.0.2.2"), at(0)));
    }

    #[test]
    fn the_addresses_that_recorded_last_are_known() {
        let mut known = Known::default();
        let most = u32::try_from(MAX_KNOWN).expect("small");
        for number in 0..=most {
            known.add(numbered(number), at(u64::from(number)));
        }
        assert!(known.0.len() <= MAX_KNOWN);
        assert!(known.has(numbered(most)) && !known.has(numbered(0)) && !known.has(numbered(most + 1)));
    }
}

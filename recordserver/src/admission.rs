//! Admission: the number of connections and sessions, in all and from one address.
//!
//! Owns: the counts, and the limits that follow from the descriptors of the process. An address is its
//! [`prefix`]. The last eighth of large limits is kept for addresses that have recorded before. A refused
//! session hears why, in the words of [`Refusal`]; a refused connection is closed before it has said
//! anything. Never: time limits, which [`uplink::server`] has.

use crate::refusal::Refusal;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// The limits of connections and recordings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Recordings at the same time.
    pub sessions: usize,
    /// Recordings at the same time from one address.
    pub sessions_per_address: usize,
    /// Control connections, with and without a recording.
    pub connections: usize,
    /// Control connections from one address.
    pub connections_per_address: usize,
}

/// Descriptors that are left to the disk: files that are being closed, sidecars, folders.
const KEPT_FOR_FILES: u64 = 64;

/// Descriptors that the server itself has open, beside the status interface.
const OWN_DESCRIPTORS: u64 = 16;

/// Descriptors of a recording beside its connection: two sockets at its RTP port, and its file.
const OF_SESSION: u64 = 3;

/// A recording, and a connection that is refused.
const LEAST_FOR_PHONES: u64 = 5;

/// Memory of a connection, and of each descriptor of a recording, at worst: a message and answers that nobody
/// reads; blocks are apart.
const OF_DESCRIPTOR_OCTETS: u64 = 32 * 1024;

/// Limits below have no places that are kept for known addresses.
const SMALL: usize = 64;

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 4096,
            sessions_per_address: Self::share(4096, 1024),
            connections: 8192,
            connections_per_address: Self::share(8192, 2048),
        }
    }
}

impl Limits {
    /// The default share of one address in `all`: enough for hundreds of phones behind one address, and never
    /// all places.
    #[must_use]
    pub fn share(all: usize, most: usize) -> usize {
        if all < 8 { all } else { most.min(all - all / 4) }
    }

    /// As many as `descriptors` of the process allow; `None` if these limits do not need more.
    #[must_use]
    pub fn fitted(self, descriptors: u64) -> Option<Self> {
        let room = Self::for_phones(descriptors);
        let needed = count(self.connections) + OF_SESSION * count(self.sessions);
        if needed <= room {
            return None;
        }
        // Most connections have a recording.
        let sessions = count(self.sessions).min(room * 6 / 25).max(1);
        let connections = count(self.connections).min(room.saturating_sub(OF_SESSION * sessions)).max(2);
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let (sessions, connections) = (size(sessions), size(connections));
        Some(Self {
            sessions,
            sessions_per_address: self.sessions_per_address.min(Self::share(sessions, sessions)),
            connections,
            connections_per_address: self.connections_per_address.min(Self::share(connections, connections)),
        })
    }

    /// The descriptors that `octets` of memory are enough for, if a quarter of it is for phones and half for
    /// audio.
    #[must_use]
    pub fn descriptors_for(octets: u64) -> u64 {
        let phones = octets / 4 / OF_DESCRIPTOR_OCTETS;
        // Descriptors for the server itself and for files are needed in any case.
        phones + OWN_DESCRIPTORS + count(crate::http::MAX_DESCRIPTORS) + KEPT_FOR_FILES
    }

    /// Descriptors that phones may use, of all.
    #[must_use]
    pub fn for_phones(descriptors: u64) -> u64 {
        // With very few, less is kept: something can be recorded all the same.
        let kept = (KEPT_FOR_FILES + count(crate::http::MAX_DESCRIPTORS)).min(descriptors / 4);
        descriptors.saturating_sub(OWN_DESCRIPTORS + kept).max(LEAST_FOR_PHONES)
    }
}

fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    connections: usize,
    sessions: usize,
}

/// Counts connections and sessions. Every `Ok` has to be matched by its counterpart in the end.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    /// They are lower than the settings.
    fitted: bool,
    all: Count,
    by_address: HashMap<IpAddr, Count>,
}

impl Admission {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, fitted: false, all: Count::default(), by_address: HashMap::new() }
    }

    /// The same for limits that are lower than the settings because of the descriptors.
    #[must_use]
    pub fn fitted(limits: Limits) -> Self {
        Self { fitted: true, ..Self::new(limits) }
    }

    /// A connection came; whether its address is `known` as one that has recorded.
    ///
    /// # Errors
    /// The limit that it would exceed; it is to be closed, and not counted.
    pub fn connect(&mut self, from: IpAddr, known: bool) -> Result<(), Refusal> {
        let of_address = self.of(from).connections;
        if self.all.connections >= places(self.limits.connections, known) {
            return Err(if self.fitted { Refusal::Descriptors } else { Refusal::Connections });
        }
        if of_address >= self.limits.connections_per_address {
            return Err(Refusal::ConnectionsOfAddress);
        }
        self.all.connections += 1;
        self.by_address.entry(prefix(from)).or_default().connections += 1;
        Ok(())
    }

    /// A counted connection is gone; its session, if any, has been closed before.
    pub fn disconnect(&mut self, from: IpAddr) {
        self.all.connections = self.all.connections.saturating_sub(1);
        self.update(from, |count| count.connections = count.connections.saturating_sub(1));
    }

    /// A connection asks for a session; whether its address is `known` as one that has recorded.
    ///
    /// # Errors
    /// The limit that it would exceed.
    pub fn open(&mut self, from: IpAddr, known: bool) -> Result<(), Refusal> {
        let of_address = self.of(from).sessions;
        if self.all.sessions >= places(self.limits.sessions, known) {
            return Err(if self.fitted { Refusal::Descriptors } else { Refusal::Sessions });
        }
        if of_address >= self.limits.sessions_per_address {
            return Err(Refusal::SessionsOfAddress);
        }
        self.all.sessions += 1;
        self.by_address.entry(prefix(from)).or_default().sessions += 1;
        Ok(())
    }

    /// A counted session is over.
    pub fn close(&mut self, from: IpAddr) {
        self.all.sessions = self.all.sessions.saturating_sub(1);
        self.update(from, |count| count.sessions = count.sessions.saturating_sub(1));
    }

    /// Sessions at the moment.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.all.sessions
    }

    /// Connections at the moment.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.all.connections
    }

    /// Sessions of an address.
    #[must_use]
    pub fn sessions_of(&self, from: IpAddr) -> usize {
        self.of(from).sessions
    }

    /// Connections of an address that have no session.
    #[must_use]
    pub fn silent_of(&self, from: IpAddr) -> usize {
        let count = self.of(from);
        count.connections.saturating_sub(count.sessions)
    }

    /// Whether three quarters of the places are taken.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        let tight = |count: usize, limit: usize| count >= limit - limit / 4;
        tight(self.all.sessions, self.limits.sessions) || tight(self.all.connections, self.limits.connections)
    }

    fn of(&self, from: IpAddr) -> Count {
        self.by_address.get(&prefix(from)).copied().unwrap_or_default()
    }

    fn update(&mut self, from: IpAddr, change: impl FnOnce(&mut Count)) {
        let key = prefix(from);
        if let Some(count) = self.by_address.get_mut(&key) {
            change(count);
            if count.connections == 0 && count.sessions == 0 {
                self.by_address.remove(&key);
            }
        }
    }
}

/// One host as far as limits go: an IPv4 address, mapped to IPv6 or not, or the network of an IPv6 address,
/// because a host has all addresses of its /64.
#[must_use]
pub fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// The part of `limit` that a known address, or another one, may use.
fn places(limit: usize, known: bool) -> usize {
    if known || limit < SMALL { limit } else { limit - limit / 8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn small() -> Admission {
        let limits =
            Limits { sessions: 3, sessions_per_address: 2, connections: 4, connections_per_address: 3 };
        Admission::new(limits)
    }

    #[test]
    fn each_limit_refuses_by_its_own_name() {
        let mut admission = small();
        let (one, two) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for _ in 0..3 {
            assert_eq!(admission.connect(one, false), Ok(()));
        }
        assert_eq!(admission.connect(one, false), Err(Refusal::ConnectionsOfAddress));
        assert_eq!(admission.connect(two, false), Ok(()));
        assert_eq!(admission.connect(two, false), Err(Refusal::Connections));
        assert_eq!([admission.open(one, false), admission.open(one, false)], [Ok(()), Ok(())]);
        assert_eq!(admission.open(one, false), Err(Refusal::SessionsOfAddress));
        assert_eq!(admission.open(two, false), Ok(()));
        assert_eq!(admission.open(two, false), Err(Refusal::Sessions));
    }

    #[test]
    fn a_connection_or_session_that_ends_makes_room_and_leaves_nothing_behind() {
        let mut admission = small();
        let one = ip("192.0.2.1");
        for _ in 0..100 {
            assert_eq!(admission.connect(one, false), Ok(()));
            assert_eq!(admission.open(one, false), Ok(()));
            admission.close(one);
            admission.disconnect(one);
        }
        assert_eq!((admission.connections(), admission.sessions()), (0, 0));
        assert!(admission.by_address.is_empty());
    }

    #[test]
    fn a_mapped_address_counts_as_the_address_it_maps() {
        let mut admission = small();
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"] {
            assert_eq!(admission.connect(ip(address), false), Ok(()));
        }
        assert_eq!(admission.connect(ip("::ffff:192.0.2.1"), false), Err(Refusal::ConnectionsOfAddress));
    }

    #[test]
    fn a_host_with_a_network_of_ipv6_is_one_address_and_leaves_room_for_another() {
        let limits =
            Limits { sessions: 256, sessions_per_address: Limits::share(256, 1024), ..Limits::default() };
        let mut admission = Admission::new(limits);
        let host = |number: u32| ip(&format!("2001:db8::{number:x}"));
        let taken = (0..1000).filter(|number| admission.open(host(*number), false).is_ok()).count();
        assert_eq!(taken, 192);
        assert_eq!(admission.open(ip("2001:db8:0:1::1"), false), Ok(()));
        for number in 0..192 {
            admission.close(host(1000 + number));
        }
        assert_eq!(admission.sessions(), 1);
    }

    #[test]
    fn the_last_places_are_for_those_who_have_recorded_before() {
        let limits = Limits { sessions: 64, sessions_per_address: 64, ..Limits::default() };
        let mut admission = Admission::new(limits);
        assert_eq!((0..64).filter(|_| admission.open(ip("192.0.2.1"), false).is_ok()).count(), 56);
        assert_eq!((0..64).filter(|_| admission.open(ip("192.0.2.2"), true).is_ok()).count(), 8);
    }

    #[test]
    fn the_defaults_take_500_phones_behind_one_address() {
        let mut admission = Admission::new(Limits::default());
        for _ in 0..500 {
            assert_eq!(admission.connect(ip("192.0.2.1"), false), Ok(()));
            assert_eq!(admission.open(ip("192.0.2.1"), false), Ok(()));
        }
    }

    #[test]
    fn limits_are_lowered_to_the_descriptors_of_the_process_with_some_left_for_files() {
        assert_eq!(Limits::default().fitted(21_000), None);
        for descriptors in [0, 20, 64, 128, 400, 1024, 4096, 16_384] {
            let fitted = Limits::default().fitted(descriptors).expect("lower");
            let used = count(fitted.connections) + 3 * count(fitted.sessions);
            assert!(
                fitted.sessions >= 1 && fitted.connections > fitted.sessions,
                "{descriptors}: {fitted:?}"
            );
            if descriptors >= 400 {
                assert!(used + 64 + 38 <= descriptors, "{descriptors}: {fitted:?}");
                assert!(used + 64 + 38 + 4 > descriptors, "{descriptors}: {fitted:?} wastes some");
            }
        }
        let mut admission = Admission::fitted(Limits { sessions: 1, ..Limits::default() });
        assert_eq!(admission.open(ip("192.0.2.1"), false), Ok(()));
        assert_eq!(admission.open(ip("192.0.2.2"), false), Err(Refusal::Descriptors));
    }

    #[test]
    fn a_refusal_by_a_limit_says_which_setting_it_is() {
        for refusal in Refusal::ALL {
            if let Some(setting) = refusal.setting() {
                assert!(refusal.to_string().contains(setting), "{refusal}");
            }
        }
    }
}

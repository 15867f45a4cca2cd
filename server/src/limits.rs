//! Who gets in: how many connections and sessions there may be, in all and from one address.
//!
//! Owns: the counts. A refused session hears why, in the words of [`Refusal`]; a refused connection is
//! closed before it has said anything. Never: time limits, which [`crate::session`] has.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

/// How many there may be.
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

impl Default for Limits {
    fn default() -> Self {
        Self { sessions: 4096, sessions_per_address: 64, connections: 8192, connections_per_address: 128 }
    }
}

/// Why a connection or session is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// [`Limits::sessions`]
    Sessions,
    /// [`Limits::sessions_per_address`]
    SessionsOfAddress,
    /// [`Limits::connections`]
    Connections,
    /// [`Limits::connections_per_address`]
    ConnectionsOfAddress,
    /// Every port of the range is in use.
    Ports,
    /// Too little room on the disk.
    DiskLow,
    /// The disk does not take files.
    Storage,
    /// The server is going down.
    ShuttingDown,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 8] = [
        Self::Sessions,
        Self::SessionsOfAddress,
        Self::Connections,
        Self::ConnectionsOfAddress,
        Self::Ports,
        Self::DiskLow,
        Self::Storage,
        Self::ShuttingDown,
    ];

    /// Name in metrics and log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::SessionsOfAddress => "sessions_of_address",
            Self::Connections => "connections",
            Self::ConnectionsOfAddress => "connections_of_address",
            Self::Ports => "ports",
            Self::DiskLow => "disk_low",
            Self::Storage => "storage",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

impl fmt::Display for Refusal {
    /// For the phone's prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sessions => "too many recordings on the server",
            Self::SessionsOfAddress => "too many recordings from this phone",
            Self::Connections => "too many connections to the server",
            Self::ConnectionsOfAddress => "too many connections from this phone",
            Self::Ports => "no free RTP port on the server",
            Self::DiskLow => "disk full on the server",
            Self::Storage => "disk error on the server",
            Self::ShuttingDown => "the server is shutting down",
        })
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    connections: usize,
    sessions: usize,
}

/// Counts what is there. Every `Ok` has to be matched by its counterpart in the end.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    all: Count,
    by_address: HashMap<IpAddr, Count>,
}

impl Admission {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, all: Count::default(), by_address: HashMap::new() }
    }

    /// A connection came.
    ///
    /// # Errors
    /// The limit that it would exceed; it is to be closed, and not counted.
    pub fn connect(&mut self, from: IpAddr) -> Result<(), Refusal> {
        let of_address = self.of(from).connections;
        if self.all.connections >= self.limits.connections {
            return Err(Refusal::Connections);
        }
        if of_address >= self.limits.connections_per_address {
            return Err(Refusal::ConnectionsOfAddress);
        }
        self.all.connections += 1;
        self.by_address.entry(key(from)).or_default().connections += 1;
        Ok(())
    }

    /// A counted connection is gone; its session, if any, has been closed before.
    pub fn disconnect(&mut self, from: IpAddr) {
        self.all.connections = self.all.connections.saturating_sub(1);
        self.update(from, |count| count.connections = count.connections.saturating_sub(1));
    }

    /// A connection asks for a session.
    ///
    /// # Errors
    /// The limit that it would exceed.
    pub fn open(&mut self, from: IpAddr) -> Result<(), Refusal> {
        let of_address = self.of(from).sessions;
        if self.all.sessions >= self.limits.sessions {
            return Err(Refusal::Sessions);
        }
        if of_address >= self.limits.sessions_per_address {
            return Err(Refusal::SessionsOfAddress);
        }
        self.all.sessions += 1;
        self.by_address.entry(key(from)).or_default().sessions += 1;
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

    fn of(&self, from: IpAddr) -> Count {
        self.by_address.get(&key(from)).copied().unwrap_or_default()
    }

    fn update(&mut self, from: IpAddr, change: impl FnOnce(&mut Count)) {
        let key = key(from);
        if let Some(count) = self.by_address.get_mut(&key) {
            change(count);
            if count.connections == 0 && count.sessions == 0 {
                self.by_address.remove(&key);
            }
        }
    }
}

/// One host is one address, also if an IPv6 socket shows its IPv4 address as a mapped one.
fn key(address: IpAddr) -> IpAddr {
    address.to_canonical()
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
            assert_eq!(admission.connect(one), Ok(()));
        }
        assert_eq!(admission.connect(one), Err(Refusal::ConnectionsOfAddress));
        assert_eq!(admission.connect(two), Ok(()));
        assert_eq!(admission.connect(two), Err(Refusal::Connections));
        assert_eq!([admission.open(one), admission.open(one)], [Ok(()), Ok(())]);
        assert_eq!(admission.open(one), Err(Refusal::SessionsOfAddress));
        assert_eq!(admission.open(two), Ok(()));
        assert_eq!(admission.open(two), Err(Refusal::Sessions));
    }

    #[test]
    fn what_ends_makes_room_and_leaves_nothing_behind() {
        let mut admission = small();
        let one = ip("192.0.2.1");
        for _ in 0..100 {
            assert_eq!(admission.connect(one), Ok(()));
            assert_eq!(admission.open(one), Ok(()));
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
            assert_eq!(admission.connect(ip(address)), Ok(()));
        }
        assert_eq!(admission.connect(ip("::ffff:192.0.2.1")), Err(Refusal::ConnectionsOfAddress));
    }
}

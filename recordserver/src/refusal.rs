//! Refusals of connections and sessions, with their words in answers, log and metrics.

use std::fmt;

/// The reason for which a connection or session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// [`crate::admission::Limits::sessions`]
    Sessions,
    /// [`crate::admission::Limits::sessions_per_address`]
    SessionsOfAddress,
    /// [`crate::admission::Limits::connections`]
    Connections,
    /// [`crate::admission::Limits::connections_per_address`]
    ConnectionsOfAddress,
    /// The limit of sessions or connections, lowered to the descriptors of the process.
    Descriptors,
    /// Too many starts from one address in a short time.
    StartsOfAddress,
    /// The disk is behind, and with recordings of this address above all.
    QueueOfAddress,
    /// Every port of the range is in use.
    Ports,
    /// Too little room on the disk.
    DiskLow,
    /// The disk does not take files.
    Storage,
    /// The server ends with the recordings that go on.
    Draining,
    /// The server is going down.
    ShuttingDown,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 12] = [
        Self::Sessions,
        Self::SessionsOfAddress,
        Self::Connections,
        Self::ConnectionsOfAddress,
        Self::Descriptors,
        Self::StartsOfAddress,
        Self::QueueOfAddress,
        Self::Ports,
        Self::DiskLow,
        Self::Storage,
        Self::Draining,
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
            Self::Descriptors => "descriptors",
            Self::StartsOfAddress => "starts_of_address",
            Self::QueueOfAddress => "queue_of_address",
            Self::Ports => "ports",
            Self::DiskLow => "disk_low",
            Self::Storage => "storage",
            Self::Draining => "draining",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// The setting to change if it should not have been refused.
    #[must_use]
    pub fn setting(self) -> Option<&'static str> {
        Some(match self {
            Self::Sessions => "limits.sessions",
            Self::SessionsOfAddress => "limits.sessions_per_address",
            Self::Connections => "limits.connections",
            Self::ConnectionsOfAddress => "limits.connections_per_address",
            Self::Descriptors => "LimitNOFILE of the service",
            Self::StartsOfAddress => "limits.starts_per_minute",
            Self::Ports => "rtp_ports",
            Self::DiskLow => "reserve",
            Self::QueueOfAddress | Self::Storage | Self::Draining | Self::ShuttingDown => return None,
        })
    }
}

impl fmt::Display for Refusal {
    /// For the phone's display: the error, and the setting of the server that decides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Sessions => "too many recordings on the server",
            Self::SessionsOfAddress => "too many recordings from this phone",
            Self::Connections => "too many connections to the server",
            Self::ConnectionsOfAddress => "too many connections from this phone",
            Self::Descriptors => "too many recordings and connections for the files that the server may open",
            Self::StartsOfAddress => "too many starts from this phone",
            Self::QueueOfAddress => "the disk of the server is behind with recordings of this phone",
            Self::Ports => "no free RTP port on the server",
            Self::DiskLow => "disk full on the server",
            Self::Storage => "disk error on the server",
            Self::Draining => "the server is draining and takes no new recordings",
            Self::ShuttingDown => "the server is shutting down",
        };
        match self.setting() {
            Some(setting) => write!(f, "{what} (setting {setting})"),
            None => f.write_str(what),
        }
    }
}

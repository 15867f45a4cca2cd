//! Inputs of the agent's side of a session, its actions, and its ends.

use crate::media_hosts::MediaHosts;
use crate::message::extension::{Asked, Granted};
use recfile::call::Call;
use std::net::SocketAddr;
use std::time::Duration;

/// Numbers the look-ups and connections of a session, so that late answers are told from due ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Generation(pub u32);

/// Settings that all recordings share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For look-up and connection together.
    pub connect_timeout: Duration,
    /// For each answer of the server.
    pub response_timeout: Duration,
    /// Octets that follow each message.
    pub terminator: &'static [u8],
}

/// One recording to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Server's host name or address.
    pub host: String,
    /// Server's TCP port.
    pub port: u16,
    /// From [`crate::session_id`].
    pub id: String,
    /// The `device` to send; `None`: the MAC address that [`super::Client::connected`] is told.
    pub device: Option<String>,
    /// Encoding name.
    pub codec: String,
    /// The call.
    pub call: Call,
    /// Hosts beside the server that may get the audio.
    pub media_hosts: MediaHosts,
    /// Whether to ask for the extension.
    pub extension: Option<Asked>,
}

/// The actions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look the name up, off the loop, and answer with [`super::Client::resolved`].
    Resolve {
        /// To be repeated in the answer.
        generation: Generation,
        /// Host name.
        host: String,
    },
    /// Connect by TCP without waiting, and answer with [`super::Client::connected`] or
    /// [`super::Client::connect_failed`].
    Connect {
        /// To be repeated in the answer.
        generation: Generation,
        /// Server.
        addr: SocketAddr,
    },
    /// Send this on the connection.
    Send(Vec<u8>),
    /// Forward RTP to this address from now on, or to none.
    SetRtpTarget(Option<SocketAddr>),
    /// Connect to this address for media by TCP, in place of a former connection, and send the items from the
    /// granted one on.
    StreamTo {
        /// The target.
        target: SocketAddr,
        /// As the server said it.
        granted: Granted,
    },
    /// The server is gone in mid-recording; its items are kept, and it is looked for again.
    Interrupted {
        /// For the log.
        detail: String,
    },
    /// The server is back: the recording goes on there.
    Restored,
    /// The server records.
    Started,
    /// Close the connection, or give up connecting, once earlier messages are on their way.
    Close,
    /// It is over; nothing follows.
    Ended(End),
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// We stopped it.
    Stopped {
        /// Whether the server said so too; the recording has ended well either way.
        confirmed: bool,
    },
    /// The server stopped it.
    StoppedByServer {
        /// In the server's words; may be empty.
        reason: String,
    },
    /// The server would not record.
    Refused {
        /// In the server's words, for the phone's prompt; may be empty.
        text: String,
    },
    /// It broke.
    Failed {
        /// As the local socket calls it.
        reason: Failure,
        /// For the log.
        detail: String,
    },
}

/// The reason for which a session broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name has no address, or no address takes the connection in time.
    ServerUnreachable,
    /// The server is connected and does not answer.
    ServerTimeout,
    /// The connection broke, or the server does not keep to the protocol.
    UplinkLost,
}

impl Failure {
    /// The name on the local socket.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerUnreachable => "server_unreachable",
            Self::ServerTimeout => "server_timeout",
            Self::UplinkLost => "uplink_lost",
        }
    }
}

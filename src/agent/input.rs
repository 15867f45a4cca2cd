//! The inputs of the agent.

use std::net::SocketAddr;
use std::time::Duration;
use store::jobs::library::PlaybackKey;
use store::jobs::{Done, Job};
use uplink::phone::Generation;

/// One connection to the local socket. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// One recording of this run of the agent. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordingKey(pub u64);

/// The recordings whose packets have to be taken before a request, even without room for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Nobody's: packets without room may wait in the socket.
    None,
    /// Those of one recording: it is being paused, resumed or stopped.
    One(RecordingKey),
    /// Those of all.
    All,
}

/// A server that is gone without a word is noticed after this at the latest.
pub const SILENT_PEER_AFTER: Duration = Duration::from_secs(9);

/// Something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The process runs: look for disks.
    Started,
    /// A client connected.
    ClientOpened(ClientId),
    /// A client sent a line, without its end.
    ClientLine(ClientId, &'a [u8]),
    /// A client sent a line over the limit.
    ClientLineTooLong(ClientId),
    /// A client is gone, by its own will or ours.
    ClientClosed(ClientId),
    /// Clients do not read: events were dropped, and some clients disconnected.
    ClientsDoNotRead {
        /// Events dropped since this was told last.
        events: u64,
        /// Clients disconnected since.
        closed: u64,
    },
    /// Answer to [`super::Action::BindRtp`].
    RtpBound(RecordingKey, Result<SocketAddr, String>),
    /// All datagrams that had arrived for a recording have been given to the agent.
    Drained(RecordingKey),
    /// Number of datagrams that the system dropped because the socket's buffer was full.
    SocketOverflow(RecordingKey, u32),
    /// Number of datagrams that the system kept out because they did not come from the sender of
    /// [`super::Action::FilterRtp`].
    Strangers(RecordingKey, u32),
    /// Storage answers.
    Storage(Done),
    /// Storage has no room for a job: the disk is stalled. The job comes back undone.
    JobRefused(Job),
    /// Answer to [`super::Action::OpenPlayer`], if it can't be done.
    PlayerFailed(PlaybackKey),
    /// Something about the way of a recording to the server.
    Uplink(RecordingKey, UplinkInput<'a>),
    /// The mount table changed.
    MountsChanged,
    /// A deadline may have passed.
    Tick,
    /// The process was asked to end.
    Shutdown,
}

/// An event on the way to the server.
#[derive(Debug)]
pub enum UplinkInput<'a> {
    /// Answer to [`super::UplinkAction::Resolve`]; no addresses mean that it failed.
    Resolved(Generation, Vec<SocketAddr>),
    /// Answer to [`super::UplinkAction::Connect`]: it stands. With the MAC address of the interface it goes
    /// out by.
    Connected(Generation, Option<String>),
    /// Answer to [`super::UplinkAction::Connect`]: it failed.
    ConnectFailed(Generation, String),
    /// Octets came on the connection.
    Received(&'a [u8]),
    /// The connection is gone: closed by the server, or broken.
    Closed {
        /// Why it broke, in the system's words; `None` if the server closed it.
        error: Option<String>,
        /// It broke because the server had been silent for [`SILENT_PEER_AFTER`].
        silent: bool,
    },
    /// Number of packets that could not be sent on.
    RelayFailed(u32),
    /// The server's RTP port is closed.
    RelayRefused,
    /// Answer to [`super::UplinkAction::ConnectMedia`]: it stands.
    MediaConnected(Generation),
    /// Octets came on the media connection.
    MediaReceived(&'a [u8]),
    /// The media connection of this generation is gone, or could not be made.
    MediaClosed(Generation, Option<String>),
}

//! The actions of the agent: its output.

use crate::agent::{ClientId, RecordingKey};
use crate::api::event::Class;
use media::codec::Codec;
use media::source_lock::Waiting;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use store::jobs::Job;
use store::jobs::library::PlaybackKey;
use uplink::phone::Generation;

/// An action towards the server of a recording.
#[derive(Debug)]
pub enum UplinkAction {
    /// Look a name up without holding anything else up; answered by [`super::UplinkInput::Resolved`].
    Resolve(Generation, String),
    /// Connect by TCP; an older connection of the recording is dropped. Answered by
    /// [`super::UplinkInput::Connected`] or [`super::UplinkInput::ConnectFailed`].
    Connect(Generation, SocketAddr),
    /// Send this on the connection.
    Send(Vec<u8>),
    /// Send datagrams on to this address, at once, or to none.
    RelayTo(Option<SocketAddr>),
    /// Close the connection, or give up connecting.
    Close,
    /// Connect by TCP for media; an older media connection of the recording is dropped. Answered by
    /// [`super::UplinkInput::MediaConnected`] or [`super::UplinkInput::MediaClosed`].
    ConnectMedia(Generation, SocketAddr),
    /// Send this on the media connection.
    SendMedia(Vec<u8>),
    /// Close the media connection, or give up connecting.
    CloseMedia,
}

/// The decision on a datagram.
#[derive(Debug)]
pub struct Taken {
    /// The datagrams to relay to the address of [`UplinkAction::RelayTo`].
    pub forward: Forward,
    /// Whether another batch of packets would find room.
    pub room: bool,
}

/// The datagrams to relay to the server when one has come.
#[derive(Debug)]
pub enum Forward {
    /// Nothing.
    Nothing,
    /// This datagram.
    This,
    /// Datagrams that were given before.
    Held(Waiting),
    /// Datagrams that were given before, then this one.
    HeldThenThis(Waiting),
}

/// Something to be done.
#[derive(Debug)]
pub enum Action {
    /// A request of a client was taken that gets a reply, now or later: one [`Action::Reply`] for each of
    /// these.
    OweReply(ClientId),
    /// Send a reply line to a client.
    Reply(ClientId, Vec<u8>),
    /// Send an event to a client; its `seq` is added on the way.
    Notify {
        /// The client.
        client: ClientId,
        /// Name of the event.
        name: &'static str,
        /// Parameters as JSON, shared by all clients.
        params: Rc<[u8]>,
        /// Whether it may be dropped first.
        class: Class,
    },
    /// Bind a receive-only UDP port; answered by [`super::Input::RtpBound`] at once.
    BindRtp {
        /// The recording.
        recording: RecordingKey,
        /// Address to bind to.
        addr: IpAddr,
        /// Ports to try in this order; 0 is an ephemeral one.
        ports: Vec<u16>,
        /// The codec expected there.
        codec: Codec,
    },
    /// Close the RTP port of a recording.
    CloseRtp(RecordingKey),
    /// Let only datagrams of this sender into the RTP port of a recording, or those of everybody.
    FilterRtp(RecordingKey, Option<SocketAddr>),
    /// Send these datagrams on, which were given before.
    RelayHeld(RecordingKey, Waiting),
    /// Something to be done towards the server of a recording.
    Uplink(RecordingKey, UplinkAction),
    /// Give storage a job; answered by [`super::Input::Storage`] or [`super::Input::JobRefused`].
    Job(Job),
    /// Open a socket that sends the RTP of a playback; only failure is answered, by
    /// [`super::Input::PlayerFailed`].
    OpenPlayer {
        /// The playback.
        playback: PlaybackKey,
        /// The address to send to.
        target: SocketAddr,
    },
    /// Send an RTP packet of a playback.
    SendPlayed {
        /// The playback.
        playback: PlaybackKey,
        /// The packet, header included.
        packet: Vec<u8>,
    },
    /// Close the socket of a playback.
    ClosePlayer(PlaybackKey),
    /// Write to the log.
    Log(log::Level, String),
    /// End the process.
    Exit {
        /// Whether every recording is finished.
        finalised: bool,
    },
}

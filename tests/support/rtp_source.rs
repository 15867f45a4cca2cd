//! A sender of RTP whose every field is in the test's hand, and whose payloads are all different.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// The codecs under test, with their constants from RFC 3551 (not from the library).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Pcma,
    Pcmu,
    G722,
}

impl Codec {
    pub(crate) const ALL: [Self; 3] = [Self::Pcma, Self::Pcmu, Self::G722];

    /// Encoding name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pcma => "PCMA",
            Self::Pcmu => "PCMU",
            Self::G722 => "G722",
        }
    }

    /// Static payload type (RFC 3551, table 4).
    pub(crate) fn payload_type(self) -> u8 {
        match self {
            Self::Pcma => 8,
            Self::Pcmu => 0,
            Self::G722 => 9,
        }
    }

    /// Silence: sample value +0 of G.711; the first octet of a G.722 encoder on digital silence.
    pub(crate) fn silence(self, octets: usize) -> Vec<u8> {
        let octet = match self {
            Self::Pcma => 0xD5,
            Self::Pcmu => 0xFF,
            Self::G722 => 0xFD,
        };
        vec![octet; octets]
    }
}

/// Octets, and ticks, of 20 ms in each of the codecs.
pub(crate) const FRAME: usize = 160;

/// The payload of the packet numbered `number`: unlike any other, and checkable alone.
pub(crate) fn payload(number: u32, octets: usize) -> Vec<u8> {
    let mut random = super::Random(u64::from(number) << 20);
    let mut bytes: Vec<u8> = (0..octets).map(|_| random.next() as u8).collect();
    let tag = number.to_be_bytes();
    let tagged = tag.len().min(octets);
    bytes[..tagged].copy_from_slice(&tag[..tagged]);
    bytes
}

/// An RTP packet with the plain 12-octet header (RFC 3550, section 5.1).
pub(crate) fn packet(payload_type: u8, seq: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type];
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&timestamp.to_be_bytes());
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A media stream on its way to the agent.
pub(crate) struct RtpSource {
    socket: UdpSocket,
    target: SocketAddr,
    /// Payload type of the next packet.
    pub(crate) payload_type: u8,
    /// Sequence number of the next packet.
    pub(crate) seq: u16,
    /// Timestamp of the next packet.
    pub(crate) timestamp: u32,
    /// Synchronisation source.
    pub(crate) ssrc: u32,
    /// Payload octets of the next packet, which are its ticks too.
    pub(crate) octets: usize,
    next_number: u32,
}

impl RtpSource {
    /// A stream from 127.0.0.1 with arbitrary, unremarkable start values.
    pub(crate) fn new(target: SocketAddr, codec: Codec) -> Self {
        Self::from_host(Ipv4Addr::LOCALHOST, target, codec)
    }

    /// A stream from another address of the loopback network.
    pub(crate) fn from_host(host: Ipv4Addr, target: SocketAddr, codec: Codec) -> Self {
        Self {
            socket: UdpSocket::bind((host, 0)).expect("a UDP socket"),
            target,
            payload_type: codec.payload_type(),
            seq: 4711,
            timestamp: 1_000_000,
            ssrc: 0x5EED_0001,
            octets: FRAME,
            next_number: 1,
        }
    }

    /// Builds the next packet and moves on: the packet and its payload.
    pub(crate) fn next_packet(&mut self) -> (Vec<u8>, Vec<u8>) {
        let payload = payload(self.next_number, self.octets);
        let bytes = packet(self.payload_type, self.seq, self.timestamp, self.ssrc, &payload);
        self.next_number += 1;
        self.lose(1);
        (bytes, payload)
    }

    /// Sends the next packet; gives its payload.
    pub(crate) fn send_next(&mut self) -> Vec<u8> {
        let (bytes, payload) = self.next_packet();
        self.send(&bytes);
        payload
    }

    /// Moves on as if `packets` had been sent, which nobody will see.
    pub(crate) fn lose(&mut self, packets: u16) {
        self.seq = self.seq.wrapping_add(packets);
        self.be_silent(u32::from(packets) * self.octets as u32);
    }

    /// Moves the timestamp on but not the sequence number: silence suppression.
    pub(crate) fn be_silent(&mut self, ticks: u32) {
        self.timestamp = self.timestamp.wrapping_add(ticks);
    }

    /// Sends a datagram as it is.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let sent = self.socket.send_to(bytes, self.target).expect("a datagram sent");
        assert_eq!(sent, bytes.len());
    }
}

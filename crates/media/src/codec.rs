//! The codecs that can be recorded: names, payload types, clocks, sizes and silence.
//!
//! All of them send one octet per RTP tick (64 kbit/s at a clock of 8000 Hz, RFC 3551 table 4), so a
//! timestamp distance is at once a byte distance in the file. [`crate::timeline`] rests on that.

use crate::units::{ClockRate, PayloadType};

/// A codec of constant bit rate that the recorder stores as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 A-law (RFC 3551, section 4.5.14).
    Pcma,
    /// G.711 µ-law (RFC 3551, section 4.5.14).
    Pcmu,
    /// G.722 at 64 kbit/s (RFC 3551, section 4.5.2).
    G722,
}

/// Payload octets per RTP tick of every codec in the table.
pub const OCTETS_PER_TICK: u64 = 1;

/// Payload octets per millisecond of every codec in the table.
pub const OCTETS_PER_MS: u64 = 8;

/// Static payload type of comfort noise (RFC 3389); 19 was its reserved predecessor.
pub const COMFORT_NOISE: [PayloadType; 2] = [PayloadType(13), PayloadType(19)];

impl Codec {
    /// Every codec, in the order in which they are announced.
    pub const ALL: [Self; 3] = [Self::Pcma, Self::Pcmu, Self::G722];

    /// Encoding name as SDP, file header and uplink spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcma => "PCMA",
            Self::Pcmu => "PCMU",
            Self::G722 => "G722",
        }
    }

    /// The codec of an encoding name; case does not matter (RFC 4855, section 3).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// Static RTP payload type (RFC 3551, table 4).
    #[must_use]
    pub fn payload_type(self) -> PayloadType {
        PayloadType(match self {
            Self::Pcma => 8,
            Self::Pcmu => 0,
            Self::G722 => 9,
        })
    }

    /// The codec of a static payload type.
    #[must_use]
    pub fn from_payload_type(payload_type: PayloadType) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.payload_type() == payload_type)
    }

    /// RTP clock: 8000 Hz for all, G.722 included.
    #[must_use]
    pub fn clock_rate(self) -> ClockRate {
        ClockRate::HZ_8000
    }

    /// Samples per second of the decoded audio: 8000, for G.722 16000.
    #[must_use]
    pub fn sample_rate_hz(self) -> u32 {
        match self {
            Self::Pcma | Self::Pcmu => 8000,
            Self::G722 => 16_000,
        }
    }

    /// The octet that, repeated, decodes to silence.
    ///
    /// For G.722 it is the smallest step in both bands: from nothing it decodes to zeros, and after speech to
    /// an offset of some 25 of 32768. (Encoders turn digital silence into 0xFA, an offset of 200.)
    #[must_use]
    pub fn silence(self) -> u8 {
        match self {
            Self::Pcma => 0xD5,
            Self::Pcmu => 0xFF,
            Self::G722 => 0xFD,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_payload_types_lead_back_to_their_codec() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_name(&codec.name().to_lowercase()), Some(codec));
            assert_eq!(Codec::from_payload_type(codec.payload_type()), Some(codec));
        }
        assert_eq!(Codec::from_name("opus"), None);
    }
}

//! Borrowed view of one RTP packet (RFC 3550, section 5.1).
//!
//! Owns: which bytes are header, extension, payload and padding. Never: meaning of the payload.

use crate::units::{PayloadType, RtpTimestamp, SeqNo, Ssrc};

/// Octets of the fixed RTP header.
pub const FIXED_HEADER_OCTETS: usize = 12;

/// The largest payload taken: 256 ms, more than any MTU carries.
pub const MAX_PAYLOAD_OCTETS: usize = 2048;

/// One well-formed RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Payload type.
    pub payload_type: PayloadType,
    /// Sequence number.
    pub seq: SeqNo,
    /// Timestamp.
    pub timestamp: RtpTimestamp,
    /// Synchronisation source.
    pub ssrc: Ssrc,
    /// Payload, without header, contributing sources, extension and padding. May be empty.
    pub payload: &'a [u8],
}

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// Shorter than its header says.
    Truncated,
    /// The version is not 2.
    Version,
    /// The padding count is more than there is.
    Padding,
    /// RTCP (RFC 5761, section 4), of any type and also of reduced size (RFC 5506).
    Rtcp,
}

/// Second octets of RTCP packets; in RTP they would be a marker and a payload type from 64 to 95 (RFC 5761,
/// section 4).
const RTCP_TYPES: std::ops::RangeInclusive<u8> = 192..=223;

impl<'a> Packet<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`PacketError`] names the fault; nothing of the datagram is usable then.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, PacketError> {
        if matches!(datagram, [flags, kind, ..] if flags >> 6 == 2 && RTCP_TYPES.contains(kind)) {
            return Err(PacketError::Rtcp);
        }
        let (header, rest) =
            datagram.split_first_chunk::<FIXED_HEADER_OCTETS>().ok_or(PacketError::Truncated)?;
        let [flags, marker_and_type, s0, s1, t0, t1, t2, t3, x0, x1, x2, x3] = *header;
        if flags >> 6 != 2 {
            return Err(PacketError::Version);
        }
        let mut payload = rest.get(usize::from(flags & 0x0F) * 4..).ok_or(PacketError::Truncated)?;
        if flags & 0x10 != 0 {
            let (&[_, _, w0, w1], rest) = payload.split_first_chunk().ok_or(PacketError::Truncated)?;
            let words = usize::from(u16::from_be_bytes([w0, w1]));
            payload = rest.get(words * 4..).ok_or(PacketError::Truncated)?;
        }
        if flags & 0x20 != 0 {
            let padding = usize::from(*payload.last().ok_or(PacketError::Padding)?);
            let kept = payload.len().checked_sub(padding).ok_or(PacketError::Padding)?;
            // A count of 0 is none: many devices set the bit and pad nothing. The payload is taken as it is.
            payload = &payload[..kept];
        }
        Ok(Self {
            payload_type: PayloadType(marker_and_type & 0x7F),
            seq: SeqNo(u16::from_be_bytes([s0, s1])),
            timestamp: RtpTimestamp(u32::from_be_bytes([t0, t1, t2, t3])),
            ssrc: Ssrc(u32::from_be_bytes([x0, x1, x2, x3])),
            payload,
        })
    }
}

/// Whether the padding bit of a packet that [`Packet::parse`] takes is set though it counts no octet of
/// padding.
#[must_use]
pub fn has_odd_padding(datagram: &[u8]) -> bool {
    matches!(datagram, [flags, .., 0] if flags & 0x20 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: [u8; 14] = [0x80, 0x88, 0x12, 0x34, 0, 0, 0, 160, 0xDE, 0xAD, 0xBE, 0xEF, 1, 2];

    #[test]
    fn a_plain_packet_is_read_field_by_field() {
        let packet = Packet::parse(&PLAIN).unwrap();
        assert_eq!(packet.payload_type, PayloadType(8));
        assert_eq!(packet.seq, SeqNo(0x1234));
        assert_eq!(packet.timestamp, RtpTimestamp(160));
        assert_eq!(packet.ssrc, Ssrc(0xDEAD_BEEF));
        assert_eq!(packet.payload, [1, 2]);
    }

    #[test]
    fn contributing_sources_extension_and_padding_are_cut_off() {
        let mut bytes = vec![0x80 | 0x20 | 0x10 | 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
        bytes.extend([9; 8]);
        bytes.extend([0xBE, 0xDE, 0, 1, 9, 9, 9, 9]);
        bytes.extend([1, 2, 3, 0, 0, 3]);
        assert_eq!(Packet::parse(&bytes).unwrap().payload, [1, 2, 3]);
    }

    #[test]
    fn malformed_packets_are_told_apart() {
        assert_eq!(Packet::parse(&PLAIN[..11]), Err(PacketError::Truncated));
        assert_eq!(Packet::parse(&[0x40; 12]), Err(PacketError::Version));
        let mut csrc = PLAIN;
        csrc[0] = 0x8F;
        assert_eq!(Packet::parse(&csrc), Err(PacketError::Truncated));
        let mut padding = PLAIN;
        padding[0] = 0xA0;
        padding[13] = 3;
        assert_eq!(Packet::parse(&padding), Err(PacketError::Padding));
        assert_eq!(Packet::parse(&padding[..12]), Err(PacketError::Padding));
    }

    #[test]
    fn padding_of_no_octets_is_payload() {
        let mut padding = PLAIN;
        padding[0] = 0xA0;
        padding[13] = 0;
        assert_eq!(Packet::parse(&padding).unwrap().payload, [1, 0]);
        assert!(has_odd_padding(&padding));
        padding[13] = 1;
        assert!(!has_odd_padding(&padding) && !has_odd_padding(&PLAIN));
    }

    #[test]
    fn rtcp_of_any_type_is_told_from_rtp() {
        for octets in [&[0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0][..], &[0x8F, 205, 0, 1, 0, 0, 0, 1]] {
            assert_eq!(Packet::parse(octets), Err(PacketError::Rtcp));
        }
        for kind in 192..=223 {
            let mut octets = PLAIN;
            octets[1] = kind;
            assert_eq!(Packet::parse(&octets), Err(PacketError::Rtcp), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payload.len() + FIXED_HEADER_OCTETS <= bytes.len());
            }
        }
    }
}

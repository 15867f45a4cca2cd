//! The payload types that are audio of the recording.
//!
//! The static ones of RFC 3551 always; one that `record.start` names for its codec; and one dynamic type (96
//! to 127) that nobody named, once its packets have shown that they fit the codec. Owns: that probation.
//! Never: a change of codec ([`super::codec_change`]).

use super::codec::Codec;
use super::packet::Packet;
use super::probation::Probation;
use crate::time::Mono;
use crate::units::PayloadType;
use std::time::Duration;

/// Packets in sequence that fit, before a type is taken; fewer if they are so long that no more can be held.
const PROBATION_PACKETS: u32 = 5;

/// Time without audio of a known type, before another one is looked at.
const SILENT_FOR: Duration = Duration::from_millis(200);

/// Every packet time of the codecs is a multiple of this: 5 ms.
const STEP_OCTETS: usize = 40;

/// The first dynamic payload type (RFC 3551, table 5).
const FIRST_DYNAMIC: u8 = 96;

/// The payload types of one recording.
#[derive(Debug, Default)]
pub struct PayloadTypes {
    /// A type beside the static ones, and its codec.
    known: Option<(PayloadType, Codec)>,
    held: Probation,
    run: u32,
}

impl PayloadTypes {
    /// The static types, and `named`, which carries `codec`.
    #[must_use]
    pub fn new(named: Option<PayloadType>, codec: Codec) -> Self {
        Self { known: named.map(|named| (named, codec)), ..Self::default() }
    }

    /// The codec of a type, if it is one that is recorded.
    #[must_use]
    pub fn codec(&self, payload_type: PayloadType) -> Option<Codec> {
        match self.known {
            Some((known, codec)) if known == payload_type => Some(codec),
            _ => Codec::from_payload_type(payload_type),
        }
    }

    /// The type beside the static ones, if there is one for `codec`.
    #[must_use]
    pub fn other(&self, codec: Codec) -> Option<PayloadType> {
        self.known.filter(|(_, known)| *known == codec).map(|(payload_type, _)| payload_type)
    }

    /// Whether a packet of an unknown type is held, or taken.
    pub fn learn(&mut self, packet: &Packet<'_>, codec: Codec, arrival: Mono, heard: Option<Mono>) -> Learnt {
        let dynamic = packet.payload_type.0 >= FIRST_DYNAMIC;
        let silent = heard.is_none_or(|heard| arrival.since(heard) >= SILENT_FOR);
        let octets = packet.payload.len();
        if !dynamic || !silent || octets == 0 || octets % STEP_OCTETS != 0 {
            return Learnt::No;
        }
        let follows = self.held.last().is_some_and(|last| {
            let step = packet.timestamp.ticks_since(last.timestamp);
            let ticks = i64::try_from(octets).unwrap_or(i64::MAX);
            // Some senders count the samples of G.722, which are twice its clock.
            let fits = step == ticks || (codec == Codec::G722 && step == 2 * ticks);
            self.held.is_followed_by(packet) && packet.seq.packets_since(last.seq) == 1 && fits
        });
        if !follows {
            self.held.clear();
            self.run = 0;
        }
        self.run += 1;
        if self.run >= PROBATION_PACKETS || (self.run > 1 && !self.held.has_room(packet)) {
            self.known = Some((packet.payload_type, codec));
            self.run = 0;
            return Learnt::Taken;
        }
        self.held.hold(packet, arrival);
        Learnt::Held
    }

    /// A packet of the codec came: the held packets were no audio.
    pub fn stay(&mut self) {
        if !self.held.is_empty() {
            self.held.clear();
            self.run = 0;
        }
    }

    /// Passes on the held packets of the type that was [`Learnt::Taken`].
    pub fn take_held(&mut self, mut pass: impl FnMut(&Packet<'_>, Mono)) {
        for (packet, arrival) in self.held.iter() {
            pass(&packet, arrival);
        }
        self.held.clear();
    }
}

/// The decision on a packet of an unknown type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// It is no audio.
    No,
    /// It may be.
    Held,
    /// It is, and so were those that were held.
    Taken,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{RtpTimestamp, SeqNo, Ssrc};

    struct Sender {
        payload_type: u8,
        octets: usize,
        ticks: u32,
    }

    const PCM: Sender = Sender { payload_type: 97, octets: 160, ticks: 160 };

    impl Sender {
        /// Sends packets of 20 ms; gives the numbers of those that were taken.
        fn taken(&self, types: &mut PayloadTypes, codec: Codec, heard: Option<Mono>, count: u16) -> Vec<u16> {
            let mut taken = Vec::new();
            for number in 0..count {
                let arrival = Mono::new(Duration::from_secs(9) + Duration::from_millis(20) * number.into());
                let packet = Packet {
                    payload_type: PayloadType(self.payload_type),
                    seq: SeqNo(number),
                    timestamp: RtpTimestamp(self.ticks * u32::from(number)),
                    ssrc: Ssrc(1),
                    payload: &vec![7; self.octets],
                };
                let known = types.codec(packet.payload_type).is_some();
                match if known { Learnt::Taken } else { types.learn(&packet, codec, arrival, heard) } {
                    Learnt::Taken => {
                        types.take_held(|early, _| taken.push(early.seq.0));
                        taken.push(number);
                    }
                    Learnt::Held | Learnt::No => {}
                }
            }
            taken
        }
    }

    #[test]
    fn an_unknown_dynamic_type_that_fits_is_taken_with_its_first_packets() {
        let mut types = PayloadTypes::default();
        assert_eq!(PCM.taken(&mut types, Codec::Pcma, None, 7), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(types.other(Codec::Pcma), Some(PayloadType(97)));
        assert_eq!(types.codec(PayloadType(97)), Some(Codec::Pcma));
    }

    #[test]
    fn packets_of_200_ms_are_taken_as_soon_as_no_more_can_be_held() {
        let mut types = PayloadTypes::default();
        let long = Sender { octets: 1600, ticks: 1600, ..PCM };
        assert_eq!(long.taken(&mut types, Codec::Pcma, None, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn a_payload_that_does_not_fit_the_codec_is_never_taken() {
        let events = Sender { octets: 4, ticks: 0, ..PCM };
        let opus = Sender { octets: 160, ticks: 960, ..PCM };
        let wide_pcm = Sender { octets: 640, ticks: 320, ..PCM };
        let ilbc = Sender { octets: 38, ticks: 160, ..PCM };
        let g729 = Sender { payload_type: 18, octets: 160, ticks: 160 };
        for sender in [events, opus, wide_pcm, ilbc, g729] {
            let mut types = PayloadTypes::default();
            let taken = sender.taken(&mut types, Codec::Pcma, None, 50);
            assert!(taken.is_empty(), "{}", sender.octets);
        }
    }

    #[test]
    fn g722_may_count_its_samples() {
        let double = Sender { ticks: 320, ..PCM };
        assert_eq!(double.taken(&mut PayloadTypes::default(), Codec::G722, None, 6).len(), 6);
        assert_eq!(double.taken(&mut PayloadTypes::default(), Codec::Pcmu, None, 6).len(), 0);
    }

    #[test]
    fn nothing_is_learnt_beside_audio_of_a_known_type() {
        let mut types = PayloadTypes::default();
        let heard = Some(Mono::new(Duration::from_secs(10)));
        assert!(PCM.taken(&mut types, Codec::Pcma, heard, 20).is_empty());
    }

    #[test]
    fn a_named_type_carries_the_codec_whatever_its_number_says() {
        let types = PayloadTypes::new(Some(PayloadType(0)), Codec::G722);
        assert_eq!(types.codec(PayloadType(0)), Some(Codec::G722));
        assert_eq!(types.codec(PayloadType(8)), Some(Codec::Pcma));
        assert_eq!(types.other(Codec::Pcma), None);
    }
}

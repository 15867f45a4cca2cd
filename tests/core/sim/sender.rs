//! An RTP sender with everything that senders and networks do to a stream.
//!
//! Its payload is made of words of eight octets that name the packet and their place in it, so that a file
//! tells of each word whether it is silence, or its origin. All lengths are whole words.

use super::rng::Rng;
use media::codec::Codec;
use std::net::{IpAddr, Ipv4Addr};

pub(crate) const WORD_OCTETS: usize = 8;

/// One packet, for the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Packets of one stream have rising places; the next stream begins where the sender jumps.
    pub(crate) stream: u32,
    pub(crate) place: u32,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) octets: Vec<u8>,
    pub(crate) truncated: bool,
    pub(crate) source: IpAddr,
    /// Number of the marked packet in it, if it is one.
    pub(crate) id: Option<u32>,
}

/// A datagram and when it arrives.
pub(crate) type Flight = (u64, Datagram);

#[derive(Debug)]
pub(crate) struct Sender {
    codec: Codec,
    ssrc: u32,
    seq: u16,
    timestamp: u32,
    stream: u32,
    place: u32,
    ptime_ms: u64,
    next_ms: u64,
    silent_until_ms: u64,
    source: IpAddr,
    in_flight: Vec<Flight>,
}

/// Marks of a word.
const WORD_BEGIN: u8 = 0x5A;
const WORD_END: u8 = 0xA6;

/// Packet and place that a word names.
pub(crate) fn parse_word(word: &[u8]) -> Option<(u32, u16)> {
    match *word {
        [WORD_BEGIN, a, b, c, d, x, y, WORD_END] => {
            Some((u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([x, y])))
        }
        _ => None,
    }
}

/// The word that names a packet and a place in it.
pub(crate) fn word(id: u32, place: u16) -> [u8; WORD_OCTETS] {
    let ([a, b, c, d], [x, y]) = (id.to_le_bytes(), place.to_le_bytes());
    [WORD_BEGIN, a, b, c, d, x, y, WORD_END]
}

impl Sender {
    pub(crate) fn new(codec: Codec, ptime_ms: u64, now_ms: u64, stream: u32, rng: &mut Rng) -> Self {
        Self {
            codec,
            ssrc: lowest_32(rng.next()),
            // Near the wrap, as often as not.
            seq: if rng.chance(500) { 65_520 } else { lowest_16(rng.next()) },
            timestamp: if rng.chance(500) { u32::MAX - 3007 } else { lowest_32(rng.next()) & !7 },
            stream,
            place: 0,
            ptime_ms,
            next_ms: now_ms,
            silent_until_ms: 0,
            source: Ipv4Addr::LOCALHOST.into(),
            in_flight: Vec::new(),
        }
    }

    /// Everything on its way arrives now.
    pub(crate) fn settle(&mut self, now_ms: u64) {
        self.in_flight.iter_mut().for_each(|(at, _)| *at = (*at).min(now_ms));
    }

    /// The datagrams that have arrived by `now_ms`, in the order of arrival. `sent` numbers the marked
    /// packets.
    pub(crate) fn run(
        &mut self,
        now_ms: u64,
        streams: &mut u32,
        sent: &mut Vec<Sent>,
        rng: &mut Rng,
    ) -> Vec<Flight> {
        while self.next_ms <= now_ms {
            self.misbehave(streams, sent, rng);
            if self.next_ms >= self.silent_until_ms {
                let datagram = self.packet(sent);
                self.carry(datagram, rng);
            }
            self.seq = self.seq.wrapping_add(u16::from(self.next_ms >= self.silent_until_ms));
            self.timestamp = self.timestamp.wrapping_add(self.payload_octets());
            self.place += 1;
            self.next_ms += self.ptime_ms;
        }
        let mut arrived: Vec<Flight> = Vec::new();
        self.in_flight.retain(|flight| {
            let there = flight.0 <= now_ms;
            if there {
                arrived.push(flight.clone());
            }
            !there
        });
        arrived.sort_by_key(|(at, _)| *at);
        arrived
    }

    fn payload_octets(&self) -> u32 {
        u32::try_from(self.ptime_ms * 8).unwrap()
    }

    /// One packet on the network: lost, doubled or late, perhaps.
    fn carry(&mut self, datagram: Datagram, rng: &mut Rng) {
        let delay = if rng.chance(40) { 25 + rng.below(50) } else { 1 };
        if rng.chance(25) {
            return;
        }
        if rng.chance(20) {
            self.in_flight.push((self.next_ms + rng.below(60), datagram.clone()));
        }
        self.in_flight.push((self.next_ms + delay, datagram));
    }

    fn misbehave(&mut self, streams: &mut u32, sent: &mut Vec<Sent>, rng: &mut Rng) {
        match rng.below(600) {
            0 => self.silent_until_ms = self.next_ms + rng.below(12_000),
            1 => self.jump(streams, |it, rng| it.ssrc = lowest_32(rng.next()), rng),
            2 => self.jump(streams, |it, rng| it.timestamp = lowest_32(rng.next()) & !7, rng),
            3 => self.jump(
                streams,
                |it, rng| {
                    it.codec = *rng.pick(&Codec::ALL);
                    it.timestamp = it.timestamp.wrapping_add(80_000);
                },
                rng,
            ),
            4 => self.jump(streams, |it, rng| it.seq = lowest_16(rng.next()), rng),
            5 => self.ptime_ms = *rng.pick(&[10, 20, 30, 60]),
            6..=8 => {
                let mut other = self.packet(sent);
                other.source = Ipv4Addr::new(192, 0, 2, 7).into();
                *streams += 1;
                if let Some(id) = other.id {
                    sent[id as usize].stream = *streams;
                }
                self.in_flight.push((self.next_ms + 1, other));
            }
            9..=12 => {
                let mut octets: Vec<u8> = (0..rng.below(200)).map(|_| lowest_8(rng.next())).collect();
                if let Some(version) = octets.first_mut() {
                    *version &= 0x7F;
                }
                self.foreign(octets, false);
            }
            13..=15 => self.unusual(13, 1),
            16 => self.unusual(101, 4),
            17 => {
                let payload_type = self.codec.payload_type().0;
                self.unusual(payload_type, 0);
            }
            18 => {
                let octets = self.header(self.codec.payload_type().0);
                self.foreign(octets, true);
            }
            _ => {}
        }
    }

    /// The stream breaks: the packets on their way arrive before.
    fn jump(&mut self, streams: &mut u32, change: impl FnOnce(&mut Self, &mut Rng), rng: &mut Rng) {
        self.settle(self.next_ms);
        *streams += 1;
        self.stream = *streams;
        self.place = 0;
        change(self, rng);
    }

    /// A packet of the stream without marked audio.
    fn unusual(&mut self, payload_type: u8, octets: usize) {
        let mut packet = self.header(payload_type);
        packet.resize(packet.len() + octets, 0x33);
        self.seq = self.seq.wrapping_add(1);
        self.foreign(packet, false);
    }

    fn foreign(&mut self, octets: Vec<u8>, truncated: bool) {
        let datagram = Datagram { octets, truncated, source: self.source, id: None };
        self.in_flight.push((self.next_ms, datagram));
    }

    fn header(&self, payload_type: u8) -> Vec<u8> {
        let mut octets = vec![0x80, payload_type];
        octets.extend(self.seq.to_be_bytes());
        octets.extend(self.timestamp.to_be_bytes());
        octets.extend(self.ssrc.to_be_bytes());
        octets
    }

    fn packet(&self, sent: &mut Vec<Sent>) -> Datagram {
        let id = u32::try_from(sent.len()).unwrap();
        sent.push(Sent { stream: self.stream, place: self.place });
        let mut octets = self.header(self.codec.payload_type().0);
        for word in 0..u16::try_from(self.payload_octets() / 8).unwrap() {
            octets.extend(self::word(id, word));
        }
        Datagram { octets, truncated: false, source: self.source, id: Some(id) }
    }
}

/// A packet of a call in which nobody speaks.
pub(crate) fn silent_packet(payload_type: u8, number: u16) -> Datagram {
    let codec = Codec::ALL.into_iter().find(|codec| codec.payload_type().0 == payload_type);
    let mut octets = vec![0x80, payload_type];
    octets.extend(number.to_be_bytes());
    octets.extend((u32::from(number) * 160).to_be_bytes());
    octets.extend([7; 4]);
    octets.extend([codec.expect("a codec").silence(); 160]);
    Datagram { octets, truncated: false, source: Ipv4Addr::LOCALHOST.into(), id: None }
}

fn lowest_32(number: u64) -> u32 {
    u32::try_from(number & 0xFFFF_FFFF).unwrap()
}

fn lowest_16(number: u64) -> u16 {
    u16::try_from(number & 0xFFFF).unwrap()
}

fn lowest_8(number: u64) -> u8 {
    u8::try_from(number & 0xFF).unwrap()
}

//! Sends a clip as RTP in real time, over a network that loses, swaps and doubles packets on request.
//!
//! Owns: RTP headers (RFC 3550, section 5.1), pacing by absolute deadlines, and the counts of sent packets.
//! Randomness is seeded: the same seed makes the same call.

use super::failure::Failure;
use super::pace;
use media::codec::{Codec, OCTETS_PER_MS};
use media::units::{PayloadType, RtpTimestamp, SeqNo, Ssrc};
use serde::Serialize;
use std::borrow::Cow;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// RTP version 2, no padding, no extension, no CSRC.
const FIRST_OCTET: u8 = 0x80;
/// First packet of a talk spurt (RFC 3551, section 4.1).
const MARKER: u8 = 0x80;

/// The faults of the network, in percent of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Impairments {
    pub(super) loss: f64,
    pub(super) reorder: f64,
    pub(super) duplicate: f64,
}

/// The books: made = sent - duplicated + lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Sent {
    /// Packets that the phone made.
    pub(super) made: u64,
    /// Packets that went out, duplicates included.
    pub(super) sent: u64,
    /// Packets that the simulated network lost.
    pub(super) lost: u64,
    /// Packets that were overtaken by their successor.
    pub(super) reordered: u64,
    /// Packets that were sent twice.
    pub(super) duplicated: u64,
    /// Packets that the receiver's host refused: nobody listens at the port.
    pub(super) refused: u64,
}

/// The audio to send: codec octets that start over at their end.
#[derive(Clone, Debug)]
pub(super) struct Clip {
    octets: Cow<'static, [u8]>,
    position: usize,
}

impl Clip {
    /// A clip of raw codec octets; none if it is empty.
    pub(super) fn new(octets: Cow<'static, [u8]>) -> Option<Self> {
        (!octets.is_empty()).then_some(Self { octets, position: 0 })
    }

    fn fill(&mut self, payload: &mut Vec<u8>, octets: usize) {
        for _ in 0..octets {
            payload.push(self.octets[self.position]);
            self.position = (self.position + 1) % self.octets.len();
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to lose packets by.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn chance(&mut self, percent: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are kept on purpose")]
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        unit * 100.0 < percent
    }

    fn u32(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).unwrap_or_default()
    }

    fn u16(&mut self) -> u16 {
        u16::try_from(self.next() >> 48).unwrap_or_default()
    }
}

/// One RTP stream: makes packets, knows no network.
#[derive(Debug)]
struct Stream {
    payload_type: PayloadType,
    ssrc: Ssrc,
    next_seq: SeqNo,
    timestamp: RtpTimestamp,
    marker: bool,
}

impl Stream {
    fn new(payload_type: PayloadType, random: &mut Random) -> Self {
        let (ssrc, next_seq) = (Ssrc(random.u32()), SeqNo(random.u16()));
        Self { payload_type, ssrc, next_seq, timestamp: RtpTimestamp(random.u32()), marker: true }
    }

    fn packet(&mut self, clip: &mut Clip, payload_octets: u16) -> Vec<u8> {
        let mut packet = Vec::with_capacity(12 + usize::from(payload_octets));
        let marker = if std::mem::take(&mut self.marker) { MARKER } else { 0 };
        packet.extend([FIRST_OCTET, marker | self.payload_type.0]);
        packet.extend(self.next_seq.0.to_be_bytes());
        packet.extend(self.timestamp.0.to_be_bytes());
        packet.extend(self.ssrc.0.to_be_bytes());
        clip.fill(&mut packet, usize::from(payload_octets));
        self.next_seq = self.next_seq.plus(1);
        self.timestamp = self.timestamp.plus(u32::from(payload_octets));
        packet
    }

    /// Time passes without packets; the next one opens a talk spurt.
    fn skip(&mut self, ticks: u32) {
        self.timestamp = self.timestamp.plus(ticks);
        self.marker = true;
    }
}

/// The network between phone and recorder: packet in, packets out.
#[derive(Debug)]
struct Network {
    impairments: Impairments,
    random: Random,
    held: Option<Vec<u8>>,
    books: Sent,
}

impl Network {
    fn pass(&mut self, packet: Vec<u8>) -> Vec<Vec<u8>> {
        self.books.made += 1;
        if self.random.chance(self.impairments.loss) {
            self.books.lost += 1;
            return Vec::new();
        }
        let twice = self.random.chance(self.impairments.duplicate);
        if self.held.is_none() && self.random.chance(self.impairments.reorder) {
            self.books.reordered += 1;
            self.held = Some(packet);
            return Vec::new();
        }
        let mut out = vec![packet];
        if twice {
            self.books.duplicated += 1;
            out.push(out[0].clone());
        }
        out.extend(self.held.take());
        out
    }
}

/// The parameters of a sent call.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderSettings {
    pub(super) codec: Codec,
    /// Packet time, 1 to 200 ms.
    pub(super) ptime_ms: u16,
    /// `None`: the codec's static one.
    pub(super) payload_type: Option<PayloadType>,
    pub(super) impairments: Impairments,
    pub(super) seed: u64,
    /// The speed, as a multiple of real time.
    pub(super) speed: f64,
}

impl SenderSettings {
    fn payload_type(&self) -> PayloadType {
        self.payload_type.unwrap_or_else(|| self.codec.payload_type())
    }
}

/// A phone's RTP leg towards the recorder.
#[derive(Debug)]
pub(super) struct RtpSender {
    socket: UdpSocket,
    settings: SenderSettings,
    clip: Clip,
    stream: Stream,
    network: Network,
    next_due: Instant,
}

impl RtpSender {
    /// A sender to `to`; the first packet is due now.
    pub(super) fn new(to: SocketAddr, clip: Clip, settings: SenderSettings) -> Result<Self, Failure> {
        let failed = |error| Failure::Local(format!("cannot open an RTP socket towards {to}: {error}"));
        let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).map_err(failed)?;
        socket.connect(to).map_err(failed)?;
        let mut random = Random(settings.seed);
        let stream = Stream::new(settings.payload_type(), &mut random);
        let network =
            Network { impairments: settings.impairments, random, held: None, books: Sent::default() };
        Ok(Self { socket, settings, clip, stream, network, next_due: pace::now() })
    }

    /// Sends `media` worth of packets in time; `between` is called after each and may break off.
    pub(super) fn talk(
        &mut self,
        media: Duration,
        mut between: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let packets = media.as_millis() / u128::from(self.settings.ptime_ms);
        let ticks = self.ticks_per_packet();
        for _ in 0..packets {
            pace::sleep_until(self.next_due);
            let packet = self.stream.packet(&mut self.clip, ticks);
            for packet in self.network.pass(packet) {
                self.send(&packet)?;
            }
            self.next_due += self.real(Duration::from_millis(self.settings.ptime_ms.into()));
            between()?;
        }
        Ok(())
    }

    /// Sends nothing for `media`, as with silence suppression.
    pub(super) fn silence(
        &mut self,
        media: Duration,
        between: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let ticks = self.settings.codec.clock_rate().ticks_in(media);
        self.stream.skip(u32::try_from(ticks).unwrap_or(u32::MAX));
        self.next_due += self.real(media);
        pace::wait_in_slices(self.next_due, between)
    }

    /// Another source takes over: new SSRC, sequence numbers and timestamps.
    pub(super) fn transfer(&mut self) {
        self.stream = Stream::new(self.settings.payload_type(), &mut self.network.random);
    }

    /// The counts of packets sent so far.
    pub(super) fn books(&self) -> Sent {
        self.network.books
    }

    /// Payload octets and RTP ticks of a packet: the same number for every codec of the table.
    fn ticks_per_packet(&self) -> u16 {
        u16::try_from(u64::from(self.settings.ptime_ms) * OCTETS_PER_MS).unwrap_or(u16::MAX)
    }

    fn real(&self, media: Duration) -> Duration {
        media.div_f64(self.settings.speed)
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), Failure> {
        match self.socket.send(packet) {
            Ok(_) => self.network.books.sent += 1,
            // The answer to an earlier packet: the port is closed, which is for the recorder to explain.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => self.network.books.refused += 1,
            Err(error) => return Err(Failure::Local(format!("cannot send RTP: {error}"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(impairments: Impairments, seed: u64) -> Network {
        Network { impairments, random: Random(seed), held: None, books: Sent::default() }
    }

    fn clip() -> Clip {
        Clip::new(Cow::Borrowed(&[1, 2, 3])).unwrap()
    }

    #[test]
    fn a_packet_has_the_header_of_rfc_3550_and_the_clip_goes_round() {
        let mut stream = Stream {
            payload_type: Codec::Pcma.payload_type(),
            ssrc: Ssrc(0x0102_0304),
            next_seq: SeqNo(0xFFFF),
            timestamp: RtpTimestamp(0xFFFF_FFFE),
            marker: true,
        };
        let mut clip = clip();
        let first = stream.packet(&mut clip, 4);
        assert_eq!(first, [0x80, 0x88, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 1, 2, 3, 4, 1, 2, 3, 1]);
        let second = stream.packet(&mut clip, 4);
        assert_eq!(second, [0x80, 0x08, 0, 0, 0, 0, 0, 2, 1, 2, 3, 4, 2, 3, 1, 2]);
        stream.skip(10);
        assert_eq!(stream.packet(&mut clip, 1)[..8], [0x80, 0x88, 0, 1, 0, 0, 0, 16]);
    }

    #[test]
    fn a_perfect_network_passes_every_packet_once_and_in_order() {
        let mut network = network(Impairments::default(), 1);
        for n in 0..100 {
            assert_eq!(network.pass(vec![n]), [vec![n]]);
        }
        assert_eq!(network.books, Sent { made: 100, ..Sent::default() });
    }

    #[test]
    fn the_books_of_a_bad_network_agree_with_its_output() {
        let impairments = Impairments { loss: 10.0, reorder: 10.0, duplicate: 10.0 };
        let mut network = network(impairments, 7);
        let out: Vec<_> = (0..2000u16).flat_map(|n| network.pass(n.to_be_bytes().to_vec())).collect();
        let books = network.books;
        let held = usize::from(network.held.is_some());
        assert_eq!(out.len() + held, usize::try_from(2000 - books.lost + books.duplicated).unwrap());
        let swapped = out.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!((1..=books.reordered).contains(&u64::try_from(swapped).unwrap()));
        for count in [books.lost, books.reordered, books.duplicated] {
            assert!((100..300).contains(&count), "{books:?}");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_call() {
        let impairments = Impairments { loss: 50.0, ..Impairments::default() };
        let run = |seed| {
            let mut network = network(impairments, seed);
            (0..50).map(|n| network.pass(vec![n]).len()).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}

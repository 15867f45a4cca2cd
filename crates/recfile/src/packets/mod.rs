//! Files of whole RTP packets, as other firmware writes them: how they are told, where the packets are, in
//! which order they play.
//!
//! Owns: the evidence. Two packets are in step if their SSRC is one and sequence number and timestamp went on
//! by the same number of packets: no audio looks like that by accident. The SSRC may change, packets may be
//! damaged, stored in another order or twice, carry padding, extensions or contributing sources, and comfort
//! noise, telephone events or RTCP may lie between them. Never: fills gaps; packets that were lost are
//! missing in such a file.
//! Invariant: memory has a bound for any file; no octet of a header is audio as long as headers can be told.

use crate::header::FileHeader;
use std::collections::VecDeque;
use std::io::{self, Read};

/// Octets of an RTP header without extension and contributing sources (RFC 3550, section 5.1).
pub const RTP_HEADER_OCTETS: u32 = 12;

/// Packets looked at in one place to tell whole packets from payloads.
pub(super) const PROBE_FRAMES: usize = 16;

/// More octets that a packet may have than its neighbours: contributing sources, an extension, padding.
const MAX_EXTRA_OCTETS: u32 = 128;

/// Largest distance of two packets in step, in packets.
const MAX_STEP: i16 = 3;

/// Largest distance, in packets, at which a packet that follows another one is ahead (others were lost) or
/// behind (it was late).
const MAX_AHEAD: i16 = 64;
const MAX_BEHIND: i16 = 16;

/// Packets among which the order is put right.
const WINDOW: usize = 16;

/// Stretches of equally long packets that are remembered; no more is played.
pub const MAX_RUNS: usize = 1 << 20;

/// The octets of one read.
const CHUNK_OCTETS: usize = 64 * 1024;

/// The arrangement of packets in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// One after another, all of this length, with a plain header.
    Even(u32),
    /// Of different lengths, or with more than a plain header; most often of this length.
    Uneven(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    /// Neither padding nor extension nor contributing sources.
    is_plain: bool,
}

impl Head {
    fn read(octets: &[u8]) -> Option<Self> {
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *octets.first_chunk::<12>()?;
        (first >> 6 == 2).then(|| Self {
            payload_type: second & 0x7F,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            is_plain: first == 0x80,
        })
    }

    /// The number of packets that `self` is behind `earlier`; wraps.
    #[expect(clippy::cast_possible_wrap, reason = "the upper half stands for the past")]
    fn since(&self, earlier: &Self) -> i16 {
        self.sequence.wrapping_sub(earlier.sequence) as i16
    }

    fn is_in_step(&self, earlier: &Self, increment: u32) -> bool {
        let packets = self.since(earlier);
        let ticks = increment.wrapping_mul(u32::from(packets.unsigned_abs()));
        let ticks = if packets < 0 { ticks.wrapping_neg() } else { ticks };
        packets != 0
            && (-MAX_STEP..=MAX_STEP).contains(&packets)
            && self.ssrc == earlier.ssrc
            && self.timestamp.wrapping_sub(earlier.timestamp) == ticks
    }

    fn may_follow(&self, earlier: &Self) -> bool {
        let packets = self.since(earlier);
        self.ssrc == earlier.ssrc && packets != 0 && (-MAX_BEHIND..=MAX_AHEAD).contains(&packets)
    }
}

/// Tells by the first octets behind the header of a file, `data`, whether they are packets.
pub(super) fn find(data: &[u8], header: &FileHeader) -> Option<Found> {
    // Whether `rtpLen` counts the header of a packet is not known.
    let counted = (header.rtp_len > RTP_HEADER_OCTETS).then_some(header.rtp_len);
    let lengths = || counted.into_iter().chain([header.rtp_len + RTP_HEADER_OCTETS]);
    let even = lengths().find_map(|length| are_packets(data, length, header));
    let uneven = || lengths().find(|&length| are_near(data, length, header));
    even.or_else(|| uneven().or_else(|| first_distance(data, header)).map(Found::Uneven))
}

/// The same for any other place of the file, where a packet may begin anywhere.
pub(super) fn find_within(data: &[u8], header: &FileHeader) -> Option<u32> {
    let with_header = header.rtp_len + RTP_HEADER_OCTETS;
    [header.rtp_len, with_header].into_iter().find(|&length| {
        let length = length as usize;
        (0..length).any(|at| {
            let three = [at, at + length, at + 2 * length].map(|at| data.get(at..).and_then(Head::read));
            matches!(three, [Some(a), Some(b), Some(c)] if is_pair(&a, &b, header) && is_pair(&b, &c, header))
        })
    })
}

fn is_pair(a: &Head, b: &Head, header: &FileHeader) -> bool {
    let ours = header.codec.payload_type().0;
    (a.payload_type == ours || b.payload_type == ours) && b.is_in_step(a, header.increment)
}

/// Whether packets lie `length` octets apart.
fn are_packets(data: &[u8], length: u32, header: &FileHeader) -> Option<Found> {
    let packets = || data.chunks_exact(length as usize).take(PROBE_FRAMES);
    let heads: Vec<Option<Head>> = packets().map(Head::read).collect();
    let ours = |head: &Head| head.is_plain && head.payload_type == header.codec.payload_type().0;
    let pairs =
        || heads.iter().zip(heads.get(1..).unwrap_or_default()).filter_map(|(a, b)| Some(((*a)?, (*b)?)));
    let in_step = pairs().filter(|(a, b)| is_pair(a, b, header)).count();
    let is_even = || heads.iter().flatten().all(|head| head.is_plain);
    if in_step > 0 && in_step * 4 >= heads.len().saturating_sub(1) {
        return Some(if is_even() { Found::Even(length) } else { Found::Uneven(length) });
    }
    // Too few to agree, or each of another source: then each has to be plain, and its payload as long as the
    // codec's in `increment` ticks, one octet each.
    let out_of_step = pairs().any(|(a, b)| a.ssrc == b.ssrc && !is_pair(&a, &b, header));
    let all_ours = !heads.is_empty() && heads.iter().all(|head| head.as_ref().is_some_and(ours));
    let as_long = length == header.increment + RTP_HEADER_OCTETS;
    let is_tone = packets().any(|packet| packet.iter().take(12).all(|octet| Some(octet) == packet.first()));
    (all_ours && as_long && !out_of_step && !is_tone).then_some(Found::Even(length))
}

/// Whether two packets in step stand `length` octets apart anywhere near the beginning.
fn are_near(data: &[u8], length: u32, header: &FileHeader) -> bool {
    let reach = 2 * (length + MAX_EXTRA_OCTETS) as usize;
    let length = length as usize;
    (0..reach).any(|at| {
        let two = [at, at + length].map(|at| data.get(at..).and_then(Head::read));
        matches!(two, [Some(a), Some(b)] if is_pair(&a, &b, header))
    })
}

/// The distance of the first two packets, if they are in step: each may have the same extension, say.
fn first_distance(data: &[u8], header: &FileHeader) -> Option<u32> {
    let ours = |head: &Head| head.payload_type == header.codec.payload_type().0;
    let first = Head::read(data).filter(ours)?;
    let longest = header.rtp_len + RTP_HEADER_OCTETS + MAX_EXTRA_OCTETS;
    (RTP_HEADER_OCTETS + 1..=longest).find(|&at| {
        let second = data.get(at as usize..).and_then(Head::read).filter(ours);
        second.is_some_and(|second| is_pair(&first, &second, header))
    })
}

/// Payloads of equal length at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The place of the first payload in the file.
    pub(super) at: u64,
    /// Octets of each.
    pub(super) octets: u32,
    /// From one to the next.
    pub(super) apart: u32,
    pub(super) count: u32,
    /// Audio before the first of them.
    pub(super) before: u64,
}

/// All audio of a file of packets, in the order in which it plays.
#[derive(Debug, Default)]
pub(super) struct Index {
    runs: Vec<Run>,
    /// Octets of audio.
    pub(super) audio: u64,
    /// Octets of a packet at the end that is cut off.
    pub(super) cut: u32,
}

/// A payload within the file.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: u64,
    octets: u32,
    head: Head,
}

impl Index {
    /// Walks through all packets of `source`, which stands behind the header of the file.
    ///
    /// # Errors
    /// Those of `source`.
    pub(super) fn build(
        source: impl Read,
        data_at: u64,
        length: u32,
        header: &FileHeader,
    ) -> io::Result<Self> {
        let (length, longest) = (length as usize, (length + MAX_EXTRA_OCTETS) as usize);
        let walk = Walk { length, longest, header };
        let look = length + longest + 64;
        let mut index = Self::default();
        let mut window = VecDeque::with_capacity(WINDOW + 1);
        let mut source = source;
        let (mut held, mut from, mut at) = (Vec::new(), 0, data_at);
        let (mut ended, mut last) = (false, None);
        loop {
            if !ended && held.len() - from < look {
                held.drain(..from);
                from = 0;
                let read = source.by_ref().take(CHUNK_OCTETS as u64).read_to_end(&mut held)?;
                ended = read < CHUNK_OCTETS;
            }
            let rest = held.get(from..).unwrap_or_default();
            let Some(step) = walk.step(rest, last) else {
                index.cut = u32::try_from(rest.len()).unwrap_or(u32::MAX);
                break;
            };
            if let Some((offset, octets)) = step.payload {
                index.sort(&mut window, Piece { at: at + offset as u64, octets, head: step.head });
            }
            last = step.known.or(last);
            from += step.octets;
            at += step.octets as u64;
        }
        index.flush(&mut window);
        Ok(index)
    }

    /// The only run, if there is one.
    pub(super) fn single(&self) -> Option<&Run> {
        self.runs.first().filter(|_| self.runs.len() == 1)
    }

    /// The place of the audio from octet `position` on, and its octets in one piece.
    pub(super) fn locate(&self, position: u64) -> Option<(u64, u64)> {
        let run = self.runs.get(self.runs.partition_point(|run| run.before <= position).checked_sub(1)?)?;
        let within = position - run.before;
        let (octets, nth) = (u64::from(run.octets), within / u64::from(run.octets.max(1)));
        let offset = within % octets.max(1);
        (nth < u64::from(run.count)).then(|| (run.at + nth * u64::from(run.apart) + offset, octets - offset))
    }

    /// Takes a payload up into the window, in the order of sequence numbers.
    fn sort(&mut self, window: &mut VecDeque<Piece>, piece: Piece) {
        let follows = window.back().is_none_or(|last| {
            let packets = piece.head.since(&last.head);
            piece.head.ssrc == last.head.ssrc && (-MAX_BEHIND..=MAX_AHEAD).contains(&packets)
        });
        if !follows {
            self.flush(window);
        }
        let later = window.iter().rev().take_while(|other| piece.head.since(&other.head) < 0).count();
        let place = window.len() - later;
        let before = place.checked_sub(1).and_then(|at| window.get(at));
        if before.is_some_and(|other| other.head == piece.head) {
            // Stored twice.
            return;
        }
        window.insert(place, piece);
        if window.len() > WINDOW {
            if let Some(first) = window.pop_front() {
                self.push(first);
            }
        }
    }

    fn flush(&mut self, window: &mut VecDeque<Piece>) {
        while let Some(piece) = window.pop_front() {
            self.push(piece);
        }
    }

    fn push(&mut self, piece: Piece) {
        if piece.octets == 0 {
            return;
        }
        let full = self.runs.len() >= MAX_RUNS;
        if let Some(run) = self.runs.last_mut() {
            let apart = match run.count {
                1 => piece.at.checked_sub(run.at).and_then(|apart| u32::try_from(apart).ok()),
                _ => Some(run.apart),
            };
            let goes_on = run.octets == piece.octets
                && apart.is_some_and(|apart| {
                    apart < 1 << 16 && run.at + u64::from(run.count) * u64::from(apart) == piece.at
                });
            if let (true, Some(apart), Some(count)) = (goes_on, apart, run.count.checked_add(1)) {
                (run.apart, run.count) = (apart, count);
                self.audio += u64::from(piece.octets);
                return;
            }
        }
        if full {
            return;
        }
        let Piece { at, octets, .. } = piece;
        self.runs.push(Run { at, octets, apart: 0, count: 1, before: self.audio });
        self.audio += u64::from(octets);
    }
}

/// One packet of the walk.
struct Step {
    /// Its length.
    octets: usize,
    /// Offset and length of its audio, if it has any.
    payload: Option<(usize, u32)>,
    head: Head,
    /// Its header, if it can be relied on.
    known: Option<Head>,
}

struct Walk<'h> {
    /// Octets of most packets.
    length: usize,
    /// Of any.
    longest: usize,
    header: &'h FileHeader,
}

impl Walk<'_> {
    /// The object at the front of `rest`; `last` is the packet before. `None` at the end, or in a packet that
    /// is cut off.
    fn step(&self, rest: &[u8], last: Option<Head>) -> Option<Step> {
        if rest.is_empty() {
            return None;
        }
        let ours = self.header.codec.payload_type().0;
        let head = Head::read(rest);
        if let Some(octets) = rtcp_octets(rest) {
            let head = last.unwrap_or(BLANK);
            return Some(Step { octets, payload: None, head, known: None });
        }
        let follows = head.zip(last).is_some_and(|(head, last)| head.may_follow(&last));
        let known = head.filter(|head| head.payload_type == ours || follows || last.is_none());
        let octets = self.octets(rest, known.or(last), known)?;
        let packet = rest.get(..octets)?;
        // A damaged header stands where the one of the next packet should.
        let next = last.map_or(BLANK, |last| Head {
            sequence: last.sequence.wrapping_add(1),
            timestamp: last.timestamp.wrapping_add(self.header.increment),
            ..last
        });
        let head = known.unwrap_or(next);
        let is_audio = match known {
            None => octets >= self.length,
            Some(head) => {
                let in_step = || last.is_some_and(|last| head.is_in_step(&last, self.header.increment));
                head.payload_type == ours || (octets == self.length && (in_step() || last.is_none()))
            }
        };
        let payload = if is_audio { payload_of(packet, known.is_some()) } else { None };
        Some(Step { octets, payload, head, known: Some(head) })
    }

    /// The length of the packet at the front of `rest`: up to the next one.
    fn octets(&self, rest: &[u8], reference: Option<Head>, own: Option<Head>) -> Option<usize> {
        let at = |at: usize| rest.get(at..).unwrap_or_default();
        let follows = |from: usize| {
            let head = Head::read(at(from));
            head.zip(reference).is_some_and(|(head, last)| head.may_follow(&last))
        };
        if follows(self.length) || rest.len() == self.length {
            return Some(self.length);
        }
        let smallest = RTP_HEADER_OCTETS as usize;
        let nearest = (smallest..self.longest)
            .take_while(|from| *from < rest.len())
            .find(|from| follows(*from) || is_rtcp_of(at(*from), reference));
        if let Some(nearest) = nearest {
            return Some(nearest);
        }
        let ours = self.header.codec.payload_type().0;
        let is_next = |head: Head| head.payload_type == ours;
        if Head::read(at(self.length)).is_some_and(is_next) || rtcp_octets(at(self.length)).is_some() {
            return Some(self.length);
        }
        // The last one: more than a plain header makes it longer, other than audio shorter.
        let is_last = rest.len() < self.longest;
        match own {
            Some(head) if is_last && (!head.is_plain || head.payload_type != ours) => Some(rest.len()),
            _ => (rest.len() >= self.length).then_some(self.length),
        }
    }
}

const BLANK: Head = Head { payload_type: 0, sequence: 0, timestamp: 0, ssrc: 0, is_plain: false };

/// The octets of the RTCP packet (RFC 3550, section 6.4; RFC 5761) at the front of `rest`.
fn rtcp_octets(rest: &[u8]) -> Option<usize> {
    let [first, 200..=204, high, low, _, _, _, _] = *rest.first_chunk::<8>()? else { return None };
    let octets = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
    (first >> 6 == 2 && octets <= 1500 && octets <= rest.len()).then_some(octets)
}

/// Whether it is one of the same source, so that it is not taken for one by accident.
fn is_rtcp_of(rest: &[u8], reference: Option<Head>) -> bool {
    let ssrc =
        rest.get(4..8).and_then(|octets| octets.first_chunk::<4>()).map(|octets| u32::from_be_bytes(*octets));
    reference.is_some_and(|reference| Some(reference.ssrc) == ssrc) && rtcp_octets(rest).is_some()
}

/// Offset and length of the payload (RFC 3550, section 5.1).
fn payload_of(packet: &[u8], is_known: bool) -> Option<(usize, u32)> {
    let first = packet.first().filter(|_| is_known).copied().unwrap_or(0x80);
    let plain = RTP_HEADER_OCTETS as usize;
    let mut offset = plain + 4 * usize::from(first & 0x0F);
    if first & 0x10 != 0 {
        let length = packet.get(offset + 2..offset + 4).and_then(|octets| octets.first_chunk::<2>());
        offset += 4 + 4 * length.map_or(0, |octets| usize::from(u16::from_be_bytes(*octets)));
    }
    // Flags of a damaged header would cut off audio.
    if offset > packet.len() {
        offset = plain;
    }
    let padding = match packet.last() {
        Some(&padding) if first & 0x20 != 0 && usize::from(padding) <= packet.len() - offset => {
            usize::from(padding)
        }
        _ => 0,
    };
    u32::try_from(packet.len().checked_sub(offset + padding)?).ok().map(|octets| (offset, octets))
}

#[cfg(test)]
mod tests;

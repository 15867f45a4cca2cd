//! One call into one timeline: senders that get every counter wrong, and an oracle that knows when each octet
//! was spoken.
//!
//! A sender speaks in slots of one packet; the place of a slot in the file is the time when it was spoken.
//! The troubles come in random order, at least a second and a half apart; loss, doubles and disorder come at
//! any time.

use super::rng::Rng;
use super::sender::{WORD_OCTETS, parse_word, word};
use media::codec::Codec;
use media::counts::{Counts, Verdict};
use media::packet::{Packet, PacketError};
use media::time::Mono;
use media::timeline::{AudioSink, GapCause, Timeline};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Shortest time between two disturbances.
const APART_MS: u64 = 1500;

/// A trouble of the sender or the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// Nothing comes, timestamps stand.
    FrozenHold,
    /// As that, with comfort noise in between.
    FrozenHoldWithNoise,
    /// Nothing comes, timestamps go on: silence suppression.
    Suppression,
    /// As that, with comfort noise in between.
    SuppressionWithNoise,
    /// A hold, and then the same SSRC from its first sequence number and timestamp on.
    RestartBoth,
    /// The same with the sequence number alone.
    RestartSequence,
    /// The same with the timestamp alone.
    RestartTimestamp,
    /// Another SSRC, at once.
    OtherSsrc,
    /// Another SSRC after a hold.
    OtherSsrcAfterHold,
    /// One packet with the timestamp 0.
    StrayZero,
    /// One packet with any timestamp.
    StrayTimestamp,
    /// The timestamp jumps by seconds while no time passes, and goes on from there.
    TimestampJump,
    /// The sequence number jumps, the timestamp does not.
    SequenceJump,
    /// The network holds everything back, and hands it over at once.
    Stall,
    /// RTCP of all kinds, once.
    Rtcp,
    /// Telephone events that use the stream's sequence numbers.
    Events,
    /// Telephone events with numbers of their own.
    EventsApart,
    /// Packets of padding, and empty ones.
    Empty,
    /// A packet of another SSRC.
    StraySsrc,
    /// Timestamps that stand while packets come, for a second.
    StandingTimestamps,
    /// A latecomer right before a right jump.
    LateBeforeJump,
    /// Packets of another length.
    OtherLength,
    /// The sender's clock runs at another rate for a while.
    OtherRate,
}

const TROUBLES: [Trouble; 23] = [
    Trouble::FrozenHold,
    Trouble::FrozenHoldWithNoise,
    Trouble::Suppression,
    Trouble::SuppressionWithNoise,
    Trouble::RestartBoth,
    Trouble::RestartSequence,
    Trouble::RestartTimestamp,
    Trouble::OtherSsrc,
    Trouble::OtherSsrcAfterHold,
    Trouble::StrayZero,
    Trouble::StrayTimestamp,
    Trouble::TimestampJump,
    Trouble::SequenceJump,
    Trouble::Stall,
    Trouble::Rtcp,
    Trouble::Events,
    Trouble::EventsApart,
    Trouble::Empty,
    Trouble::StraySsrc,
    Trouble::StandingTimestamps,
    Trouble::LateBeforeJump,
    Trouble::OtherLength,
    Trouble::OtherRate,
];

/// If a sender begins to count in another way, the number of a packet that is missing or late stands alone,
/// and a packet of the stream before a change of SSRC has no place any more: there the network is calm.
const CHANGES_OF_COUNTING: [Trouble; 4] =
    [Trouble::StandingTimestamps, Trouble::OtherLength, Trouble::OtherRate, Trouble::OtherSsrc];

/// When a packet was spoken, and whether it arrives.
#[derive(Clone, Copy, Debug)]
struct Spoken {
    at_ms: u64,
    octets: usize,
    /// Disturbances before it, that one included.
    troubles: u64,
    /// A disturbance is less than a second away.
    near_trouble: bool,
}

#[derive(Default)]
struct File {
    octets: Vec<u8>,
    silence: u8,
}

impl AudioSink for File {
    fn audio(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }
    fn silence(&mut self, octets: u64, _cause: GapCause) {
        let length = self.octets.len() + usize::try_from(octets).expect("a length");
        assert!(length < 8000 * 600, "silence without end");
        self.octets.resize(length, self.silence);
    }
}

pub(crate) struct Call {
    rng: Rng,
    codec: Codec,
    ptime_ms: u64,
    now_ms: u64,
    ssrc: u32,
    seq: u16,
    timestamp: u32,
    first: (u16, u32),
    /// Ticks that the sender counts for 20 octets of audio.
    rate: u32,
    stands: bool,
    /// Datagrams on their way: when they arrive.
    flights: Vec<(u64, Vec<u8>)>,
    /// Until when the network holds everything back.
    stalled_until_ms: u64,
    stalled: Option<u64>,
    /// Nothing overtakes the packets that were held back.
    drained_ms: u64,
    spoken: BTreeMap<u32, Spoken>,
    arrived: BTreeSet<u32>,
    doubles: u64,
    not_audio: u64,
    strays: u64,
    troubles: Vec<Trouble>,
    trouble_at_ms: Vec<u64>,
    network: bool,
    /// Until then the network does no harm.
    calm_until_ms: u64,
}

impl Call {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5EED_0CA1);
        let codec = *rng.pick(&Codec::ALL);
        let seq = if rng.chance(300) { 65_500 } else { low_16(rng.next()) };
        let timestamp = if rng.chance(300) { u32::MAX - 30_000 } else { low_32(rng.next()) };
        let rate = *rng.pick(&[20, 20, 20, 20, 40, 10, 21, 19, 60, 120]);
        Self {
            codec,
            ptime_ms: *rng.pick(&[20, 20, 20, 10, 30, 40]),
            now_ms: 0,
            ssrc: low_32(rng.next()),
            seq,
            timestamp,
            first: (seq, timestamp),
            rate,
            stands: false,
            flights: Vec::new(),
            stalled_until_ms: 0,
            stalled: None,
            drained_ms: 0,
            spoken: BTreeMap::new(),
            arrived: BTreeSet::new(),
            doubles: 0,
            not_audio: 0,
            strays: 0,
            troubles: Vec::new(),
            trouble_at_ms: Vec::new(),
            network: rng.chance(700),
            calm_until_ms: 0,
            rng,
        }
    }

    /// The whole call: the datagrams, in the order of their arrival.
    fn run(&mut self) -> Vec<(u64, Vec<u8>)> {
        self.speak_for(2000);
        for _ in 0..1 + self.rng.below(8) {
            let trouble = *self.rng.pick(&TROUBLES);
            self.troubles.push(trouble);
            if CHANGES_OF_COUNTING.contains(&trouble) {
                self.be_calm();
            }
            self.trouble_at_ms.push(self.now_ms);
            self.disturb(trouble);
            if CHANGES_OF_COUNTING.contains(&trouble) {
                self.calm_until_ms = self.now_ms + 150;
            }
            self.trouble_at_ms.push(self.now_ms);
            let apart = APART_MS + self.rng.below(3000);
            self.speak_for(apart);
        }
        let (near, spoken) = (&self.trouble_at_ms, &mut self.spoken);
        for it in spoken.values_mut() {
            it.near_trouble = near.iter().any(|at| at.abs_diff(it.at_ms) < 1000);
        }
        let mut flights = std::mem::take(&mut self.flights);
        flights.sort_by_key(|(at, _)| *at);
        flights
    }

    fn disturb(&mut self, trouble: Trouble) {
        let hold_ms = (1300 + self.rng.below(6000)) / self.ptime_ms * self.ptime_ms;
        match trouble {
            Trouble::FrozenHold => self.now_ms += hold_ms,
            Trouble::FrozenHoldWithNoise => self.noisy_hold(hold_ms, false),
            Trouble::Suppression => self.suppress(hold_ms),
            Trouble::SuppressionWithNoise => self.noisy_hold(hold_ms, true),
            Trouble::RestartBoth => {
                self.now_ms += hold_ms;
                (self.seq, self.timestamp) = self.first;
            }
            Trouble::RestartSequence => {
                self.suppress(hold_ms);
                self.seq = self.first.0;
            }
            Trouble::RestartTimestamp => {
                self.now_ms += hold_ms;
                self.timestamp = self.first.1;
            }
            Trouble::OtherSsrc => self.change_ssrc(),
            Trouble::OtherSsrcAfterHold => {
                self.now_ms += hold_ms;
                self.change_ssrc();
            }
            Trouble::StrayZero => self.stray(0),
            Trouble::StrayTimestamp => {
                let wrong = low_32(self.rng.next());
                self.stray(wrong);
            }
            Trouble::TimestampJump => {
                let ticks = (1 + low_32(self.rng.below(15))) * 8000;
                let back = self.rng.chance(500);
                self.timestamp =
                    self.timestamp.wrapping_add(if back { 0_u32.wrapping_sub(ticks) } else { ticks });
            }
            Trouble::SequenceJump => self.seq = self.seq.wrapping_add(2000 + low_16(self.rng.below(50_000))),
            Trouble::Stall => {
                let stall_ms = 300 + self.rng.below(4000);
                self.stalled = Some(self.now_ms);
                self.stalled_until_ms = self.now_ms + stall_ms;
                self.speak_for(stall_ms);
                self.stalled = None;
            }
            Trouble::Rtcp => self.rtcp(),
            Trouble::Events => {
                for _ in 0..10 {
                    let seq = self.seq;
                    self.seq = self.seq.wrapping_add(1);
                    self.other(101, seq, &[1, 10, 0, 160]);
                    self.slot();
                }
            }
            Trouble::EventsApart => {
                let first = low_16(self.rng.next());
                let first = if first.abs_diff(self.seq) < 300 { first.wrapping_add(9000) } else { first };
                for event in 0..10 {
                    self.other(101, first.wrapping_add(event), &[1, 10, 0, 160]);
                    self.slot();
                }
            }
            Trouble::Empty => {
                for padding in [false, true] {
                    let seq = self.seq;
                    self.seq = self.seq.wrapping_add(1);
                    let mut octets = self.header(self.codec.payload_type().0, seq, self.timestamp);
                    if padding {
                        octets[0] |= 0x20;
                        octets.extend([0, 0, 0, 4]);
                    }
                    self.not_audio += 1;
                    self.flights.push((self.now_ms + 20, octets));
                    self.slot();
                }
            }
            Trouble::StraySsrc => {
                let mut octets = self.header(self.codec.payload_type().0, 7, 7);
                octets[11] ^= 0x55;
                octets.extend([0x11; 160]);
                self.strays += 1;
                self.flights.push((self.now_ms + 20, octets));
            }
            Trouble::StandingTimestamps => {
                self.stands = true;
                self.speak_for(1000);
                self.be_calm();
                self.stands = false;
            }
            Trouble::LateBeforeJump => {
                self.slot_at(70, self.timestamp);
                // The last packet before the silence overtakes it.
                self.slot_at(20, self.timestamp);
                self.suppress(hold_ms);
            }
            Trouble::OtherLength => self.ptime_ms = *self.rng.pick(&[10, 20, 30, 40]),
            Trouble::OtherRate => self.rate = *self.rng.pick(&[10, 20, 40, 60]),
        }
    }

    /// A stretch without loss and disorder.
    fn be_calm(&mut self) {
        self.calm_until_ms = self.now_ms + 300;
        self.speak_for(150);
    }

    fn change_ssrc(&mut self) {
        self.ssrc = low_32(self.rng.next());
        (self.seq, self.timestamp) = (low_16(self.rng.next()), low_32(self.rng.next()));
        self.first = (self.seq, self.timestamp);
    }

    fn suppress(&mut self, hold_ms: u64) {
        self.now_ms += hold_ms;
        self.timestamp = self.timestamp.wrapping_add(self.ticks(hold_ms));
    }

    fn noisy_hold(&mut self, hold_ms: u64, runs: bool) {
        let every_ms = self.ptime_ms * 5;
        let end_ms = self.now_ms + hold_ms;
        while self.now_ms + every_ms <= end_ms {
            let seq = self.seq;
            self.seq = self.seq.wrapping_add(1);
            self.other(13, seq, &[0x40]);
            self.now_ms += every_ms;
            self.timestamp = self.timestamp.wrapping_add(if runs { self.ticks(every_ms) } else { 0 });
        }
        let rest_ms = end_ms - self.now_ms;
        self.now_ms = end_ms;
        self.timestamp = self.timestamp.wrapping_add(if runs { self.ticks(rest_ms) } else { 0 });
    }

    fn stray(&mut self, timestamp: u32) {
        self.slot_at(20, timestamp);
    }

    fn rtcp(&mut self) {
        for kind in [200, 201, 202, 203, 204, 205, 206, 207] {
            let octets = [0x81, kind, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
            let length = if self.rng.chance(500) { 8 } else { 12 };
            self.not_audio += 1;
            self.flights.push((self.now_ms + 20, octets[..length].to_vec()));
            self.slot();
        }
    }

    fn other(&mut self, payload_type: u8, seq: u16, payload: &[u8]) {
        let mut octets = self.header(payload_type, seq, self.timestamp);
        octets.extend(payload);
        self.not_audio += 1;
        self.flights.push((self.now_ms + 20, octets));
    }

    fn speak_for(&mut self, span_ms: u64) {
        let end_ms = self.now_ms + span_ms;
        while self.now_ms < end_ms {
            self.slot();
        }
    }

    fn slot(&mut self) {
        let delay_ms = match self.rng.below(100) {
            _ if !self.network || self.now_ms < self.calm_until_ms => 20,
            0..=3 => 30 + self.rng.below(45),
            _ => 20 + self.rng.below(6),
        };
        self.slot_at(delay_ms, self.timestamp);
    }

    /// One packet is spoken and sent.
    fn slot_at(&mut self, delay_ms: u64, timestamp: u32) {
        let id = u32::try_from(self.spoken.len()).expect("few packets");
        let octets = usize::try_from(self.ptime_ms * 8).expect("a length");
        let spoken =
            Spoken { at_ms: self.now_ms, octets, troubles: self.troubles.len() as u64, near_trouble: false };
        self.spoken.insert(id, spoken);
        let mut packet = self.header(self.codec.payload_type().0, self.seq, timestamp);
        for place in 0..octets / WORD_OCTETS {
            packet.extend(word(id, u16::try_from(place).expect("a short packet")));
        }
        let lost = self.network && id > 0 && self.now_ms >= self.calm_until_ms && self.rng.chance(30);
        let mut at_ms = self.now_ms + delay_ms;
        if let Some(since) = self.stalled.filter(|since| self.now_ms >= *since) {
            // Packets that were held back come in their order, some at once.
            at_ms = self.stalled_until_ms + 20 + (self.now_ms - since) / 50;
            self.drained_ms = at_ms;
        }
        at_ms = at_ms.max(self.drained_ms);
        if !lost {
            self.arrived.insert(id);
            self.flights.push((at_ms, packet.clone()));
            if self.network && self.rng.chance(20) {
                self.doubles += 1;
                self.flights.push((at_ms + 1 + self.rng.below(40), packet));
            }
        }
        self.seq = self.seq.wrapping_add(1);
        if !self.stands {
            self.timestamp = self.timestamp.wrapping_add(self.ticks(self.ptime_ms));
        }
        self.now_ms += self.ptime_ms;
    }

    fn ticks(&self, span_ms: u64) -> u32 {
        low_32(span_ms * 8) * self.rate / 20
    }

    fn header(&self, payload_type: u8, seq: u16, timestamp: u32) -> Vec<u8> {
        let mut octets = vec![0x80, payload_type];
        octets.extend(seq.to_be_bytes());
        octets.extend(timestamp.to_be_bytes());
        octets.extend(self.ssrc.to_be_bytes());
        octets
    }

    fn check(&self, file: &File, counts: &Counts, lost: u64) {
        let about = format!("{:?} rate {}/20 of {:?}, {counts:?}", self.troubles, self.rate, self.codec);
        let mut found: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        let mut last = None;
        let mut at = 0;
        while at < file.octets.len() {
            // Silence of any length may be between words.
            if file.octets[at] == file.silence {
                at += 1;
                continue;
            }
            let octets = &file.octets[at..(at + WORD_OCTETS).min(file.octets.len())];
            let (id, place) = parse_word(octets).unwrap_or_else(|| panic!("garbage {octets:?}; {about}"));
            assert!(last < Some((id, place)), "packet {id} is not in order; {about}");
            last = Some((id, place));
            let entry = found.entry(id).or_insert((at, 0));
            entry.1 += WORD_OCTETS;
            at += WORD_OCTETS;
        }
        for (id, spoken) in &self.spoken {
            let (at, octets) = found.get(id).copied().unwrap_or_default();
            let expected = if self.arrived.contains(id) { spoken.octets } else { 0 };
            assert_eq!(octets, expected, "octets of packet {id}, spoken at {} ms; {about}", spoken.at_ms);
            if expected > 0 {
                let off_ms = (at as u64 / 8).abs_diff(spoken.at_ms);
                let bound_ms = 40 * (1 + spoken.troubles) + 10;
                assert!(off_ms <= bound_ms, "packet {id} of {} ms is {off_ms} ms off; {about}", spoken.at_ms);
            }
        }
        let end_ms = self.spoken.iter().filter(|(id, _)| self.arrived.contains(id)).map(|(_, it)| it);
        let end_ms = end_ms.map(|it| it.at_ms + it.octets as u64 / 8).max().unwrap_or(0);
        let off_ms = (file.octets.len() as u64 / 8).abs_diff(end_ms);
        let bound_ms = 40 * (1 + self.troubles.len() as u64) + 10;
        assert!(off_ms <= bound_ms, "the call of {end_ms} ms is {off_ms} ms off; {about}");
        let never_came = |it: &&u32| !self.arrived.contains(it);
        let really_lost = self.spoken.keys().filter(never_came).count() as u64;
        let surely = self.spoken.iter().filter(|(id, it)| !self.arrived.contains(id) && !it.near_trouble);
        // Of packets lost behind the last one nothing is known.
        let surely = surely.filter(|(id, _)| self.arrived.range(*id..).next().is_some()).count() as u64;
        assert!(lost <= really_lost, "{lost} lost, {really_lost} did not come; {about}");
        assert!(lost >= surely, "{lost} lost, {surely} did not come; {about}");
        let in_file = self.arrived.len() as u64;
        assert_eq!(counts.stored, in_file, "{about}");
        assert_eq!(counts.received, in_file + self.doubles + self.not_audio + self.strays, "{about}");
    }
}

/// Runs the call of `seed` and compares the file with the spoken audio. Returns the names of its troubles.
pub(crate) fn run(seed: u64) -> Vec<String> {
    let mut call = Call::new(seed);
    let flights = call.run();
    let mut timeline = Timeline::new(call.codec);
    let mut file = File { octets: Vec::new(), silence: call.codec.silence() };
    let mut counts = Counts::default();
    let mut last_ms = 0;
    for (at_ms, octets) in &flights {
        // Once a second the waiting packets are looked at, as at a flush.
        if *at_ms >= last_ms + 1000 {
            timeline.let_go(Mono::new(Duration::from_millis(last_ms + 1000)), &mut file);
        }
        last_ms = *at_ms;
        let arrival = Mono::new(Duration::from_millis(*at_ms));
        let verdict = match Packet::parse(octets) {
            Ok(packet) => timeline.push(&packet, arrival, true, &mut file),
            Err(PacketError::Rtcp) => Verdict::Dropped(media::counts::DropCause::Rtcp),
            Err(error) => panic!("{error:?}"),
        };
        if std::env::var_os("SIM_TRACE").is_some() {
            let file_ms = file.octets.len() / 8;
            println!("{at_ms} ms {:02x?} {verdict:?}, file {file_ms} ms", &octets[..octets.len().min(16)]);
        }
        counts.book(verdict);
        timeline.restore_regained(&mut counts);
        assert!(counts.balance(), "{counts:?}");
    }
    timeline.settle(&mut file);
    call.check(&file, &counts, timeline.lost());
    call.troubles.iter().map(|it| format!("{it:?}")).collect()
}

fn low_32(number: u64) -> u32 {
    u32::try_from(number & 0xFFFF_FFFF).unwrap_or_default()
}

fn low_16(number: u64) -> u16 {
    u16::try_from(number & 0xFFFF).unwrap_or_default()
}

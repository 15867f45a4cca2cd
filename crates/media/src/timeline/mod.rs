//! From packets to audio in time: order, duplicates, loss, silence.
//!
//! Owns: where each packet's audio belongs. Every codec sends one octet per RTP tick, so a distance in time
//! is a distance in octets. Three witnesses tell a packet's place, and two must agree (`witness`): sequence
//! number, timestamp (as the sender counts it, `pace`) and arrival (`media_clock`). Packets in order go
//! straight to the sink; packets after a hole wait in the window until the hole is filled or
//! [`REORDER_OCTETS`] old. After a break that no counter explains nothing is handed over until it is known
//! whether the network stood still or the sender (`suspense`). Invariants: audio and silence reach the sink
//! in order and once; together they never pass the clock by more than `media_clock` allows; memory is fixed;
//! nothing is allocated per packet.

mod assembly;
mod media_clock;
mod pace;
mod seen;
mod sink;
mod stream;
mod suspense;
mod window;
mod witness;

pub use sink::{AudioSink, GapCause, octets_to_ms};
pub use stream::REORDER_OCTETS;

use crate::codec::{COMFORT_NOISE, Codec};
use crate::counts::{Counts, DropCause, Verdict};
use crate::packet::{MAX_PAYLOAD_OCTETS, Packet};
use crate::probation::Probation;
use crate::time::Mono;
use crate::units::PayloadType;
use assembly::{Assembly, Target};
use media_clock::MediaClock;
use pace::{Pace, ticks_in};
use seen::{Number, Seen};
use std::time::Duration;
use stream::{ANEW_AFTER, Place, Stream, octets_of};
use suspense::{BREAK, BREAK_OCTETS, Outcome, Suspense};
use witness::{Finding, Testimony, weigh};

/// Clock time without packets before a restarted stream that becomes silence.
const RESTART_SILENCE_OVER: Duration = Duration::from_millis(500);

/// Largest lead, in packets, of the packet after one whose counters fit nothing, if they are a stream.
const FOLLOWER_PACKETS: i32 = 8;

/// A jump ahead by more is a restarted counter and not loss (RFC 3550, appendix A.1).
const MAX_DROPOUT_PACKETS: i32 = 3000;

/// The silence after which the source that is recorded is given up while two compete.
const RIVAL_SILENCE: Duration = Duration::from_millis(200);

/// Two changes of source within this time are a competition.
const RIVAL_SPAN: Duration = Duration::from_secs(1);

/// The timeline of one recording.
#[derive(Debug)]
pub struct Timeline {
    codec: Codec,
    payload_type: PayloadType,
    stream: Option<Stream>,
    /// The stream before the last change of SSRC, to recognise its stragglers.
    previous: Option<Stream>,
    /// When the SSRC changed last, or a rival last tried.
    changed: Option<Mono>,
    /// The first packets of another SSRC, or of a stream that begins anew, until they are believed.
    held: Probation,
    /// Packets that were held, counted as dropped, and have found their place.
    regained: Regained,
    assembly: Assembly,
    /// Place in the recording of the window's offset 0.
    origin: i64,
    clock: MediaClock,
    /// Whether a break was a stall or a hold is open.
    suspense: Option<Suspense>,
    /// The next packet continues right after the last one, however much time has passed.
    seamless: bool,
    /// The codec has changed: the next packet begins a stream.
    switched: bool,
    /// Sequence numbers that never came, less those that came late.
    lost: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Regained {
    /// Of another SSRC.
    ssrc: u64,
    /// Of the same one.
    unconfirmed: u64,
}

impl Timeline {
    /// An empty timeline of `codec`.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            payload_type: codec.payload_type(),
            stream: None,
            previous: None,
            changed: None,
            held: Probation::default(),
            regained: Regained::default(),
            assembly: Assembly::new(),
            origin: 0,
            clock: MediaClock::default(),
            suspense: None,
            seamless: false,
            switched: false,
            lost: 0,
        }
    }

    /// Packets of the codec come with `payload_type` from now on, where it is not the codec's own.
    pub fn set_payload_type(&mut self, payload_type: PayloadType) {
        self.payload_type = payload_type;
    }

    /// The sender changed to `codec`: waiting packets go to the sink, a stream of its own follows.
    pub fn switch_codec(&mut self, codec: Codec, sink: &mut impl AudioSink) {
        let seamless = self.seamless;
        self.settle(sink);
        self.seamless = seamless;
        self.switched = true;
        self.codec = codec;
        self.payload_type = codec.payload_type();
    }

    /// The codec whose packets it takes.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Packets that never came, by their sequence numbers.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Packets among [`Self::lost`] that may still come in time to be put in order.
    #[must_use]
    pub fn may_still_come(&self) -> u64 {
        self.stream
            .as_ref()
            .map_or(0, |stream| stream.seen.missing(REORDER_OCTETS / stream.last_octets.max(1)))
    }

    /// Counts as stored the packets that [`Self::push`] reported as dropped while they had to prove
    /// themselves, and that have since.
    pub fn restore_regained(&mut self, counts: &mut Counts) {
        let Regained { ssrc, unconfirmed } = self.regained;
        if ssrc + unconfirmed > 0 {
            self.regained = Regained::default();
            counts.restore(ssrc, DropCause::Ssrc);
            counts.restore(unconfirmed, DropCause::Unconfirmed);
        }
    }

    /// Octets that wait for a hole to be filled or to grow old.
    #[must_use]
    pub fn waiting_octets(&self) -> u64 {
        self.assembly.waiting_octets()
    }

    /// Takes one packet that arrived at `arrival`.
    ///
    /// `room` is false when its audio can't be kept: then silence takes its place and it counts as dropped.
    /// The caller books the verdict in its [`Counts`].
    pub fn push(
        &mut self,
        packet: &Packet<'_>,
        arrival: Mono,
        room: bool,
        sink: &mut impl AudioSink,
    ) -> Verdict {
        if packet.payload_type != self.payload_type {
            return self.pass_over(packet);
        }
        if packet.payload.is_empty() {
            self.pass_over(packet);
            return Verdict::Dropped(DropCause::Empty);
        }
        if packet.payload.len() > MAX_PAYLOAD_OCTETS {
            self.pass_over(packet);
            return Verdict::Dropped(DropCause::Oversize);
        }
        match self.place(packet, arrival) {
            Place::At(offset) => self.put_in_time(packet, offset, arrival, room, sink),
            Place::Nowhere(verdict) => verdict,
            Place::Broken(offset, unexplained) => {
                self.suspend(packet, offset, unexplained, arrival, sink);
                self.put(packet.payload, 0, room, sink)
            }
            Place::Restart(pause) => self.begin(packet, arrival, pause, room, sink),
            Place::Doubt => self.doubt(packet, arrival, room, sink),
        }
    }

    /// Begins a stream with `packet`, and with its held packets.
    fn begin(
        &mut self,
        packet: &Packet<'_>,
        arrival: Mono,
        pause: Duration,
        room: bool,
        sink: &mut impl AudioSink,
    ) -> Verdict {
        let mut held = std::mem::take(&mut self.held);
        let same_ssrc = self.stream.as_ref().is_some_and(|stream| stream.ssrc == packet.ssrc);
        let mut begun = false;
        for (early, at) in held.iter().filter(|(early, _)| early.ssrc == packet.ssrc) {
            let verdict = if begun {
                self.push(&early, at, room, sink)
            } else {
                begun = true;
                let pause = self.stream.as_ref().map_or(Duration::ZERO, |last| at.since(last.last_arrival));
                self.restart(&early, at, pause, room, sink)
            };
            let regained = u64::from(verdict == Verdict::Stored);
            self.regained.ssrc += if same_ssrc { 0 } else { regained };
            self.regained.unconfirmed += if same_ssrc { regained } else { 0 };
        }
        held.clear();
        self.held = held;
        if begun {
            return self.push(packet, arrival, room, sink);
        }
        self.restart(packet, arrival, pause, room, sink)
    }

    /// A packet of the stream whose counters fit nothing. With the next one behind it, the stream begins anew
    /// there.
    fn doubt(
        &mut self,
        packet: &Packet<'_>,
        arrival: Mono,
        room: bool,
        sink: &mut impl AudioSink,
    ) -> Verdict {
        if self.held.has(packet) {
            return Verdict::Duplicate;
        }
        if self.held.is_followed_by(packet) && self.held.is_near(packet.seq, FOLLOWER_PACKETS) {
            return self.begin(packet, arrival, Duration::ZERO, room, sink);
        }
        self.held.clear();
        self.held.hold(packet, arrival);
        Verdict::Dropped(DropCause::Unconfirmed)
    }

    /// The packet comes after a break: until it is known whether something is missing, it waits.
    fn suspend(
        &mut self,
        packet: &Packet<'_>,
        offset: i64,
        unexplained: i64,
        arrival: Mono,
        sink: &mut impl AudioSink,
    ) {
        self.end_suspense(None, sink);
        self.assembly.hand_over_all(sink);
        self.assembly.silence_to(offset, sink);
        self.origin += offset;
        self.assembly.restart();
        self.suspense = Some(Suspense::new(unexplained, arrival));
        if let Some(stream) = &mut self.stream {
            stream.right.1 -= offset;
            stream.newest_offset -= offset;
            stream.last_octets = octets_of(packet);
        }
    }

    /// Puts a packet in its place, if the clock lets it.
    fn put_in_time(
        &mut self,
        packet: &Packet<'_>,
        offset: i64,
        arrival: Mono,
        room: bool,
        sink: &mut impl AudioSink,
    ) -> Verdict {
        if self.suspense.is_some() {
            self.look_again(packet, offset, arrival, sink);
        }
        self.put(packet.payload, offset, room, sink)
    }

    /// Weighs a further packet after a break.
    fn look_again(&mut self, packet: &Packet<'_>, offset: i64, arrival: Mono, sink: &mut impl AudioSink) {
        let now = self.clock.now(arrival);
        let unexplained = self.clock.place_of(now) - self.origin - offset;
        let outcome = self
            .suspense
            .as_mut()
            .map_or(Outcome::Open, |it| it.packet(unexplained, offset, octets_of(packet), arrival));
        if outcome != Outcome::Open {
            self.end_suspense(Some(outcome), sink);
            self.clock.note(self.origin + offset, now);
        }
    }

    /// Ends the break as `outcome` says, or as the clock says if nothing more came.
    fn end_suspense(&mut self, outcome: Option<Outcome>, sink: &mut impl AudioSink) {
        let Some(suspense) = self.suspense.take() else { return };
        let unexplained = match outcome {
            Some(Outcome::Hold(octets)) => octets,
            Some(Outcome::Stall) => 0,
            Some(Outcome::Open) | None => suspense.end(),
        };
        let packet = self.stream.as_ref().map_or(1, |stream| stream.last_octets.max(1));
        // Whole packets, so that later audio stays aligned to the frames of the file.
        let silence = (unexplained.max(0) + packet / 2) / packet * packet;
        if silence > 0 {
            sink.silence(silence.unsigned_abs(), GapCause::Hold);
            self.origin += silence;
        }
    }

    /// Closes every hole: waiting packets go to the sink. The next packet continues right after it, however
    /// much time passes until then (a pause, or the end of a file).
    pub fn settle(&mut self, sink: &mut impl AudioSink) {
        self.end_suspense(None, sink);
        self.assembly.hand_over_all(sink);
        self.held.clear();
        self.seamless = true;
    }

    /// If nothing has come for a while, packets behind a hole wait no longer, since no further packet would
    /// tell their age. The stream goes on at its time.
    pub fn let_go(&mut self, now: Mono, sink: &mut impl AudioSink) {
        let last = self.stream.as_ref().map(|stream| stream.last_arrival);
        if self.waiting_octets() > 0 && last.is_some_and(|last| now.since(last) >= BREAK) {
            self.end_suspense(None, sink);
            self.assembly.hand_over_all(sink);
            self.assembly.is_begun();
        }
    }

    /// A packet that is no audio: its sequence number is accounted for, its content is not kept.
    fn pass_over(&mut self, packet: &Packet<'_>) -> Verdict {
        let comfort_noise = COMFORT_NOISE.contains(&packet.payload_type);
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.ssrc == packet.ssrc) {
            self.lost -= u64::from(stream.seen.pass_over(packet.seq));
            stream.noise |= comfort_noise;
        }
        Verdict::Dropped(if comfort_noise { DropCause::ComfortNoise } else { DropCause::PayloadType })
    }

    fn place(&mut self, packet: &Packet<'_>, arrival: Mono) -> Place {
        let Some(stream) = &mut self.stream else { return Place::Restart(Duration::ZERO) };
        if self.seamless {
            return self.place_after_settling(packet, arrival);
        }
        if self.switched {
            return Place::Restart(arrival.since(stream.last_arrival));
        }
        if stream.ssrc != packet.ssrc {
            return self.place_other_source(packet, arrival);
        }
        let ahead = packet.seq.packets_since(stream.seen.newest());
        let follows = ahead > 0 && ahead <= MAX_DROPOUT_PACKETS;
        let ticks = packet.timestamp.ticks_since(stream.newest);
        if !follows {
            if let Some(place) = stream.place_behind(packet, arrival, ahead, &mut self.lost) {
                return place;
            }
        }
        self.place_next(packet, arrival, follows, ticks)
    }

    /// A packet that is newer than all before, by its number or, if not `follows`, perhaps by the other
    /// witnesses.
    fn place_next(&mut self, packet: &Packet<'_>, arrival: Mono, follows: bool, ticks: i64) -> Place {
        let Some(stream) = &mut self.stream else { return Place::Doubt };
        let octets = octets_of(packet);
        let end = stream.newest_offset + stream.last_octets;
        let absent = follows.then(|| stream.seen.absent_before(packet.seq));
        let mut by_timestamp = stream.pace.octets_in(ticks) - stream.last_octets;
        let steady = by_timestamp.abs() <= stream.last_octets / 2;
        if !steady {
            // A single wrong timestamp is between two right ones.
            let (right, offset) = stream.right;
            by_timestamp = stream.pace.octets_in(packet.timestamp.ticks_since(right)) + offset - end;
        }
        let now = self.clock.now(arrival);
        // Time that a break has left open is not there for this packet, too.
        let open = self.suspense.as_ref().map_or(0, Suspense::end);
        let by_arrival = self.clock.place_of(now) - self.origin - end - open;
        let testimony = || Testimony {
            absent,
            by_timestamp,
            by_arrival,
            packet: stream.last_octets,
            longest: stream.last_octets.max(octets),
            usual_step: !stream.pace.is_exception(ticks, stream.last_octets),
            noise: stream.noise,
            known: stream.pace.is_known(),
        };
        // Number and timestamp of nearly all packets are the next ones: that is the table's first row.
        let finding = if steady && absent == Some(0) { Finding::NEXT } else { weigh(&testimony()) };
        let Finding::Between { octets: between, lost, by_timestamp: right } = finding else {
            return Place::Doubt;
        };
        let silent = between == 0 || self.clock.takes_silence(between, by_arrival, now);
        let between = if silent { between } else { 0 };
        if !MediaClock::allows(self.origin + end + between + octets, now) {
            return Place::Nowhere(stream.skip(packet, arrival, follows, octets));
        }
        if follows {
            self.lost += stream.seen.advance(packet.seq, lost && silent);
        } else {
            stream.missing_before = stream.seen.missing(REORDER_OCTETS / stream.last_octets.max(1));
            stream.seen = Seen::starting_at(packet.seq);
        }
        let pause = arrival.since(stream.last_arrival);
        let is_break = pause >= BREAK && ticks_in(pause) - stream.last_octets >= BREAK_OCTETS;
        // If timestamp and clock agree that nothing lies between, the numbers need not.
        let is_next = absent == Some(0) || (between == 0 && right && !lost);
        if is_next && !is_break {
            stream.pace.learn(ticks, stream.last_octets, stream.last_arrival, arrival);
        } else {
            stream.pace.interrupt();
        }
        if !self.held.is_empty() {
            // The stream goes on: the packets in between were not the next one.
            self.held.clear();
        }
        stream.newest = packet.timestamp;
        stream.newest_offset = end + between;
        if right || steady {
            stream.right = (packet.timestamp, stream.newest_offset);
        }
        if stream.newest_offset > self.assembly.end() {
            self.assembly.missing_for(if lost { GapCause::Loss } else { GapCause::Suppression });
        }
        stream.noise = false;
        stream.last_arrival = arrival;
        stream.last_octets = octets;
        let unexplained = by_arrival - between;
        if is_break && unexplained >= BREAK_OCTETS {
            return Place::Broken(stream.newest_offset, unexplained);
        }
        if self.suspense.is_none() {
            self.clock.note(self.origin + stream.newest_offset, now);
        }
        Place::At(stream.newest_offset)
    }

    /// After a pause: a packet from before it belongs nowhere, any other one begins anew. So does one with
    /// counters from before it that comes after a second, if another one follows, unless it is the newest one
    /// again or was missing.
    fn place_after_settling(&mut self, packet: &Packet<'_>, arrival: Mono) -> Place {
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.ssrc == packet.ssrc) {
            let ticks = packet.timestamp.ticks_since(stream.newest);
            let after_break = arrival.since(stream.last_arrival) > ANEW_AFTER;
            let expected = ticks == 0 || stream.seen.is_missing(packet.seq);
            match stream.seen.number(packet.seq) {
                Number::Seen | Number::New if after_break && !expected && ticks < 0 => return Place::Doubt,
                Number::Seen if ticks <= 0 => return Place::Nowhere(Verdict::Duplicate),
                Number::New if stream.is_older_by_both_counters(packet) => {
                    self.lost -= u64::from(stream.seen.fill(packet.seq));
                    return Place::Nowhere(Verdict::Late);
                }
                _ => {}
            }
        }
        // The held packets are from before the pause.
        self.held.clear();
        Place::Restart(Duration::ZERO)
    }

    /// A packet of another SSRC: a straggler of the stream before, a stray, a rival, or the next stream.
    ///
    /// While the present stream may be going on, the next one is believed when none of the present one came
    /// between packets that last twice as long as one of it (RFC 3550, appendix A.1, asks for two in
    /// sequence).
    fn place_other_source(&mut self, packet: &Packet<'_>, arrival: Mono) -> Place {
        let Some(stream) = &self.stream else { return Place::Restart(Duration::ZERO) };
        let pause = arrival.since(stream.last_arrival);
        let is_straggler = |previous: &&mut Stream| {
            previous.ssrc == packet.ssrc && arrival.since(previous.last_arrival) <= ANEW_AFTER
        };
        if let Some(previous) = self.previous.as_mut().filter(is_straggler) {
            if packet.timestamp.ticks_since(previous.newest) <= 0 {
                match previous.seen.number(packet.seq) {
                    Number::Seen => return Place::Nowhere(Verdict::Duplicate),
                    Number::New => {
                        self.lost -= u64::from(previous.seen.fill(packet.seq));
                        return Place::Nowhere(Verdict::Late);
                    }
                    Number::Unknown => {}
                }
            }
        }
        if pause < RIVAL_SILENCE {
            let dropped = Place::Nowhere(Verdict::Dropped(DropCause::Ssrc));
            if self.held.has(packet) {
                return Place::Nowhere(Verdict::Duplicate);
            }
            if self.changed.is_some_and(|changed| arrival.since(changed) < RIVAL_SPAN) {
                self.changed = Some(arrival);
                self.held.hold(packet, arrival);
                return dropped;
            }
            let octets = i64::try_from(self.held.octets() + packet.payload.len()).unwrap_or(i64::MAX);
            if !self.held.is_followed_by(packet) || octets < 2 * stream.last_octets {
                self.held.hold(packet, arrival);
                return dropped;
            }
        }
        self.changed = Some(arrival);
        Place::Restart(pause)
    }

    /// Starts a stream right after the last audio, with silence for a long `pause`.
    fn restart(
        &mut self,
        packet: &Packet<'_>,
        arrival: Mono,
        pause: Duration,
        room: bool,
        sink: &mut impl AudioSink,
    ) -> Verdict {
        self.end_suspense(None, sink);
        self.assembly.hand_over_all(sink);
        self.origin += self.assembly.end();
        self.assembly.restart();
        let octets = octets_of(packet).max(1);
        let last = self.stream.as_ref().map(|stream| stream.last_arrival);
        if self.seamless || last.is_none() {
            self.clock.begin(self.origin, arrival, last);
        } else if pause > RESTART_SILENCE_OVER {
            let silence = self.clock.place_of(self.clock.now(arrival)) - self.origin;
            // Whole packets, so that later audio stays aligned to the frames of the file.
            let silence = (silence.max(0) + octets / 2) / octets * octets;
            if silence > 0 {
                sink.silence(silence.unsigned_abs(), GapCause::Restart);
                self.origin += silence;
            }
        }
        let next = Stream {
            ssrc: packet.ssrc,
            seen: Seen::starting_at(packet.seq),
            pace: Pace::new(),
            newest: packet.timestamp,
            newest_offset: 0,
            last_octets: octets_of(packet),
            last_arrival: arrival,
            right: (packet.timestamp, 0),
            noise: false,
            missing_before: 0,
        };
        if let Some(last) = self.stream.replace(next) {
            if last.ssrc != packet.ssrc {
                self.previous = Some(last);
            }
        }
        self.seamless = false;
        self.switched = false;
        let now = self.clock.now(arrival);
        if !MediaClock::allows(self.origin + octets, now) {
            let stream = self.stream.as_mut();
            return stream.map_or(Verdict::Late, |stream| stream.skip(packet, arrival, true, octets));
        }
        self.clock.note(self.origin, now);
        self.put(packet.payload, 0, room, sink)
    }

    fn put(&mut self, audio: &[u8], offset: i64, room: bool, sink: &mut impl AudioSink) -> Verdict {
        let newest = self.stream.as_ref().map_or(0, |stream| stream.newest_offset);
        let place = Target { offset, newest, suspended: self.suspense.is_some() };
        self.assembly.put(audio, place, room, sink)
    }
}

#[cfg(test)]
mod tests;
